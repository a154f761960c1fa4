"""`asr lm`, as a user meets it."""

from __future__ import annotations

import gzip
import io
import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import Run, command

from asr import files
from asr.cli import main

EXPECTED = Path(__file__).parent / "ngrams"
TEXT = EXPECTED / "text.txt"
SMALL = EXPECTED / "small.arpa"
RECOGNISER = Path(__file__).parent / "models" / "format-1"


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setattr("asr.text.ngram.cache_folder", lambda: tmp_path / "cache")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.chdir(tmp_path)
    return command(capsys, "lm")


@pytest.mark.parametrize("name", ["lm.arpa", "lm.arpa.gz", "lm.ngram"])
def test_a_model_is_built_and_described(run: Run, name: str) -> None:
    built = run("build", TEXT, "--out", name)
    assert built.code == 0 and built.out == ""
    assert "60 sentences" in built.err and "225 3-grams, discounts" in built.err and "warning" not in built.err
    described = run("info", name)
    assert described.out.startswith(
        "words    30, among them <unk>, <s>, </s>\n1-grams  30\n2-grams  145\n3-grams  225\n"
    )


def test_n_gram_models_do_not_wait_for_torch(run: Run) -> None:
    assert run("build", TEXT, "--out", "lm.ngram").code == 0
    code = f"""
import sys
from asr.cli import main
for arguments in ["info"], ["score", {str(TEXT)!r}], ["perplexity", {str(TEXT)!r}]:
    try:
        main(["lm", arguments[0], "lm.ngram", *arguments[1:]])
    except SystemExit as end:
        assert not end.code
print("torch" in sys.modules)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "1-grams" in result.stdout
    assert result.stdout.splitlines()[-1] == "False"


def test_one_is_no_plural(run: Run, tmp_path: Path) -> None:
    (tmp_path / "word.txt").write_text("one\n")
    built = run("build", "word.txt", "--order", 2, "--out", "lm.arpa").err
    assert "in 1 sentence\n" in built and "sentences" not in built
    assert "in 1 sentence\n" in run("perplexity", "lm.arpa", "word.txt").out


def test_a_built_model_is_that_of_lmplz(run: Run) -> None:
    run("build", TEXT, "--out", "lm.arpa")
    theirs, ours = run("perplexity", EXPECTED / "text_o3.arpa", TEXT), run("perplexity", "lm.arpa", TEXT)
    assert ours == theirs
    assert "unknown                0 (0.00 %)" in ours.out


def test_pruning_and_a_vocabulary(run: Run, tmp_path: Path) -> None:
    words = {*TEXT.read_text().split()} - {"sky", "hat", "it", "jam"}
    (tmp_path / "words.txt").write_text("\n".join(words))
    arguments = ("--order", 4, "--prune", "0,0,1", "--vocabulary", "words.txt")
    assert run("build", TEXT, "--out", "lm.ngram", *arguments).code == 0
    assert "1-grams  27\n2-grams  123\n3-grams  38\n4-grams  17\n" in run("info", "lm.ngram").out
    run("build", TEXT, "--out", "few.ngram", "--vocabulary", 5)
    assert "words    8," in run("info", "few.ngram").out


def test_texts_may_be_compressed_several_and_standard_input(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = TEXT.read_bytes().splitlines(keepends=True)
    (tmp_path / "a.txt").write_bytes(b"".join(lines[:20]))
    (tmp_path / "b.txt.gz").write_bytes(gzip.compress(b"".join(lines[20:40])))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"".join(lines[40:]))))
    run("build", "a.txt", "b.txt.gz", "-", "--out", "pieces.arpa")
    run("build", TEXT, "--out", "whole.arpa")
    assert (tmp_path / "pieces.arpa").read_text() == (tmp_path / "whole.arpa").read_text()


def test_a_compressed_manifest_is_no_text(run: Run, tmp_path: Path) -> None:
    for name in ("calls.jsonl.gz", "CALLS.JSONL.GZ"):
        (tmp_path / name).write_bytes(gzip.compress(b'{"audio_filepath": "a.wav", "duration": 1, "text": "one"}\n'))
        built = run("build", name, "--out", "lm.arpa")
        assert (built.code, "a compressed manifest" in built.err) == (1, True)


def test_words_of_a_list_that_the_text_lacks_are_counted(run: Run, tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("a zebra\n")
    (tmp_path / "text.txt").write_text("a b\nb a\n")
    result = run("build", "text.txt", "--vocabulary", "words.txt", "--out", "lm.arpa")
    assert "  1 of the vocabulary's 2 words left out" in result.err
    assert run("build", "text.txt", "--out", "text.txt.arpa").code == 0
    refused = run("train", "text.txt", "--out", "text.txt")
    assert refused.code == 2


def test_empty_transcripts_are_no_sentences(run: Run, tmp_path: Path) -> None:
    lines = [{"audio_filepath": "a.wav", "duration": 1.0, "text": text} for text in ("turn on", "", " ")]
    (tmp_path / "m.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert "2 in 1 sentence" in run("perplexity", SMALL, "m.jsonl").out


def test_small_texts_come_with_a_warning(run: Run, tmp_path: Path) -> None:
    (tmp_path / "short.txt").write_text("\n".join(TEXT.read_text().splitlines()[:5]))
    built = run("build", "short.txt", "--out", "lm.arpa")
    assert built.code == 0
    assert built.err.count("warning") == 1 and "too few 3-grams" in built.err and "0.500 1.000 1.500" in built.err


def test_models_are_mixed(run: Run, tmp_path: Path) -> None:
    lines = TEXT.read_text().splitlines()
    for name, part in (("one", lines[:25]), ("two", lines[25:50]), ("dev", lines[50:])):
        (tmp_path / f"{name}.txt").write_text("\n".join(part))
    for name in ("one", "two"):
        run("build", f"{name}.txt", "--out", f"{name}.ngram")

    def perplexity(name: str) -> float:
        return float(run("perplexity", name, "dev.txt").out.split()[1])

    mixed = run("mix", "one.ngram", "two.ngram", "--tune", "dev.txt", "--out", "mixed.ngram")
    assert mixed.code == 0, mixed.err
    shares = [
        float(line.split()[0]) for line in mixed.err.splitlines() if line.endswith(("one.ngram", "two.ngram"))
    ]
    assert len(shares) == 2 and sum(shares) == pytest.approx(1, abs=0.002)
    assert run("mix", "one.ngram", "two.ngram", "--out", "equal.arpa").code == 0
    assert run("mix", "one.ngram", "two.ngram", "--weights", "9,1", "--out", "one-sided.arpa").code == 0
    found = [perplexity(name) for name in ("mixed.ngram", "equal.arpa", "one-sided.arpa", "one.ngram", "two.ngram")]
    assert found[0] == min(found) < min(found[3:])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--weights", "1"), "weights [1.0] of 2 models"),
        (("--weights", "1,much"), "'1,much' are no weights\n  expected: 2 positive numbers"),
        (("--weights", "1,0"), "a positive one of each"),
        (("--weights", "1,1", "--tune", TEXT), "weights are given, or found"),
        (("--tune", "none.txt"), "none.txt"),
    ],
)
def test_what_cannot_be_mixed_is_told(
    run: Run, tmp_path: Path, arguments: tuple[object, ...], message: str
) -> None:
    run("build", TEXT, "--out", "lm.ngram")
    refused = run("mix", "lm.ngram", SMALL, *arguments, "--out", "mixed.ngram")
    assert refused.code in (1, 2) and message in refused.err
    assert not (tmp_path / "mixed.ngram").exists()


def test_a_mixture_does_not_replace_what_it_is_made_of(run: Run, tmp_path: Path) -> None:
    run("build", TEXT, "--out", "lm.ngram")
    before = (tmp_path / "lm.ngram").read_bytes()
    refused = run("mix", SMALL, tmp_path / "lm.ngram", "--out", "lm.ngram", "--overwrite")
    assert refused.code == 2 and "lm.ngram: would take the place of what it is made from" in refused.err
    assert (tmp_path / "lm.ngram").read_bytes() == before


def test_text_is_written_as_the_recogniser_writes(run: Run, tmp_path: Path) -> None:
    (tmp_path / "mixed.txt").write_text("That, the old!\n—\n")  # which that recogniser writes in small letters
    scored = run("score", SMALL, "mixed.txt", "--model", RECOGNISER)
    assert scored.out.split("\t")[1] == "that the old\n"
    assert run("build", "mixed.txt", "--out", "lm.arpa", "--model", RECOGNISER).code == 0
    assert "\tthat the\t" in (tmp_path / "lm.arpa").read_text()


def test_sentences_are_scored_as_kenlm_does(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = (EXPECTED / "small_scores.tsv").read_text(encoding="utf-8").splitlines()
    text = "".join(line.split("\t")[0] + "\n" for line in lines).encode()
    for arguments in ([], ["-"]):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text)))
        scored = run("score", SMALL, *arguments).out.splitlines()
        for line, found in zip(lines, scored, strict=True):
            sentence, scores = line.split("\t")
            assert found.split("\t")[1] == sentence
            assert float(found.split("\t")[0]) == pytest.approx(math.fsum(map(float, scores.split())), abs=1e-3)


def test_words_are_scored_one_by_one(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"THAT IS A\n")))
    # The second line of small_scores.tsv.
    expected = "-5.2350\tTHAT -1.6212 IS -0.7984 A -1.0507 </s> -1.7646\n"
    assert run("score", SMALL, "--words").out == expected


def test_sentences_are_generated(run: Run) -> None:
    first, again = (run("generate", SMALL, "--count", 3, "--seed", 1, "--longest", 5).out for _ in range(2))
    assert first == again != run("generate", SMALL, "--count", 3, "--seed", 2, "--longest", 5).out
    assert len(first.splitlines()) == 3
    assert all(len(line.split()) <= 5 for line in first.splitlines())


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("build", TEXT, "--out", "lm.bin"), 2, "does not say how"),
        (("build", TEXT, "--out", "lm.arpa", "--prune", "0 1"), 2, "--prune: “0 1”"),
        (("build", TEXT, "--out", "lm.arpa", "--prune", "1,0"), 2, "the thresholds 1 0"),
        (("build", "missing.txt", "--out", "lm.arpa"), 1, "missing.txt: there is no such file"),
        (("build", TEXT, "--out", "lm.arpa", "--vocabulary", "missing"), 1, "missing: there is no such file"),
        (("info", TEXT), 1, "this is no ARPA file"),
        (("perplexity", "missing.arpa", TEXT), 1, "missing.arpa: there is no such file"),
        (("perplexity", SMALL, "missing.txt"), 1, "missing.txt: there is no such file"),
        (("train", TEXT, "--out", "lm.bin"), 2, "neural language model is to be written"),
        (("train", "missing.txt", "--out", "lm.safetensors"), 1, "missing.txt: there is no such file"),
        (("train", TEXT, "--out", "lm.safetensors", "--softmax", "adaptive", "--tied"), 2, "can't be tied"),
        (("train", TEXT, "--out", "lm.safetensors", "--min-count", 999), 1, "the text has no words"),
        (("train", TEXT, "--out", "lm.safetensors", "--tokens-of", "nowhere"), 1, "there is no such folder"),
        (("generate", SMALL, "--beam", 3), 2, "are for neural language models"),
        (("generate", SMALL, "--beam", 3, "--top-k", 3), 2, "a beam search draws nothing"),
    ],
)
def test_mistakes_are_told_and_nothing_is_written(
    run: Run, tmp_path: Path, arguments: tuple[object, ...], code: int, message: str
) -> None:
    result = run(*arguments)
    assert result.code == code
    assert message in result.err and "Traceback" not in result.err
    assert not list(tmp_path.glob("lm*"))


def test_nothing_is_overwritten_unless_asked(run: Run, tmp_path: Path) -> None:
    (tmp_path / "lm.arpa").write_text("precious")
    refused = run("build", TEXT, "--out", "lm.arpa")
    assert refused.code == 2 and "already there" in refused.err
    assert (tmp_path / "lm.arpa").read_text() == "precious"
    assert run("build", TEXT, "--out", "lm.arpa", "--overwrite").code == 0


TRAINING = ("--epochs", 3, "--hidden", 16, "--embedding", 8, "--batch-units", 64, "--min-count", 1, "--threads", 1)


DECIDES_THE_WEIGHTS = """
texts dev model tokens_of vocabulary min_count init_from cell layers hidden embedding embeddings tied softmax
dropout draws epochs patience batch_units longest learning_rate weight_decay precision seed
"""
"""Another key, or one fewer, and trainings that are under way are refused."""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A neural model of the text, and the folder of its training."""
    folder = tmp_path_factory.mktemp("trained")
    arguments = ["lm", "train", TEXT, "--out", folder / "lm.safetensors", "--run-dir", folder / "run", *TRAINING]
    with pytest.raises(SystemExit) as caught:
        main(list(map(str, arguments)))
    assert not caught.value.code
    return folder / "lm.safetensors"


def test_a_neural_model_is_trained_and_described(run: Run, trained: Path) -> None:
    log = [json.loads(line) for line in (trained.parent / "run" / "log.jsonl").read_text().splitlines()]
    assert [entry["epoch"] for entry in log] == [1, 2, 3]
    assert log[-1]["dev_perplexity"] < log[0]["dev_perplexity"] < 60
    described = run("info", trained)
    assert described.code == 0
    assert "among them </s> and <unk>" in described.out and "1 × 16 LSTM, embeddings of 8" in described.out
    assert "softmax     full, tied to the embeddings" in described.out


def test_the_training_of_a_network_is_reported(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (trained.parent / "run" / "report.html").read_text(encoding="utf-8")
    assert "Perplexity on dev" in page and "&quot;hidden&quot;: 16" in page
    again = command(capsys, "report")(trained.parent / "run", "--out", tmp_path / "again.html")
    assert again.code == 0 and "dev perplexity" in again.out
    assert (tmp_path / "again.html").read_text(encoding="utf-8").count("<svg") == page.count("<svg")


def test_a_neural_model_answers_as_an_n_gram_model_does(run: Run, trained: Path, tmp_path: Path) -> None:
    lines = TEXT.read_text().splitlines()[:7]
    (tmp_path / "some.txt").write_text("\n".join([*lines, "the zebra"]))
    scored = run("score", trained, "some.txt", "--words").out.splitlines()
    assert [line.split("\t")[1].split()[::2] for line in scored] == [[*line.split(), "</s>"] for line in lines] + [
        ["the", "zebra", "</s>"]
    ]
    for line in scored:
        total, each = line.split("\t")
        assert float(total) == pytest.approx(sum(map(float, each.split()[1::2])), abs=1e-3)
    measured = run("perplexity", trained, "some.txt").out
    total = sum(float(line.split("\t")[0]) for line in scored)
    predictions = sum(len(line.split()) for line in lines) + 7 + 3
    assert float(measured.split()[1]) == pytest.approx(10 ** (-total / predictions), abs=0.01)
    assert "unknown                1 " in measured


def test_a_neural_model_generates(run: Run, trained: Path) -> None:
    drawn = [run("generate", trained, "--count", 4, "--seed", seed, "--top-k", 5).out for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert len(drawn[0].splitlines()) == 4
    found = run("generate", trained, "--beam", 8, "--count", 3).out.splitlines()
    assert len(found) == len(set(found)) == 3


def test_training_again_resumes_and_other_settings_are_refused(run: Run, trained: Path, tmp_path: Path) -> None:
    folder = trained.parent / "run"
    assert json.loads((folder / "settings.json").read_text()).keys() == set(DECIDES_THE_WEIGHTS.split())
    again = run("train", TEXT, "--out", tmp_path / "again.safetensors", "--run-dir", folder, *TRAINING)
    assert again.code == 0 and "epoch   1" not in again.err
    assert (tmp_path / "again.safetensors").read_bytes() == trained.read_bytes()
    other = run("train", TEXT, "--out", tmp_path / "other.safetensors", "--run-dir", folder, *TRAINING, "--seed", 2)
    assert other.code == 2
    assert "seed: 1 there, 2 now" in other.err and "--overwrite" in other.err
    assert not (tmp_path / "other.safetensors").exists()


def test_a_training_whose_settings_are_damaged_is_not_overwritten(run: Run, tmp_path: Path) -> None:
    record = tmp_path / "run" / "settings.json"
    record.parent.mkdir()
    for content in (b"{", b"[]"):
        record.write_bytes(content)
        refused = run("train", TEXT, "--out", "lm.safetensors", "--run-dir", record.parent, *TRAINING)
        assert refused.code == 2 and f"{record}: this record of the training is damaged" in refused.err
        assert record.read_bytes() == content


def test_the_folder_of_a_recogniser_is_left_alone(run: Run, tmp_path: Path) -> None:
    """As `--out workshop.safetensors` would take, beside runs/workshop."""
    (tmp_path / "workshop").mkdir()
    (tmp_path / "workshop" / "config.yaml").write_text("name: workshop\n")
    refused = run(
        "train", TEXT, "--out", tmp_path / "lm.safetensors", "--run-dir", tmp_path / "workshop", *TRAINING
    )
    assert refused.code == 2 and "not the folder of a language model's training" in refused.err
    assert [path.name for path in (tmp_path / "workshop").iterdir()] == ["config.yaml"]


def test_a_folder_in_which_a_training_is_at_work_is_left_alone(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "WAIT_FOR_OTHERS", 0.2)
    with files.only_writer(tmp_path / "runs" / "lm"):
        refused = run("train", TEXT, "--out", "lm.safetensors", "--overwrite", *TRAINING)
        assert refused.code == 2 and "another asr is at work" in refused.err
    assert [path.name for path in (tmp_path / "runs" / "lm").iterdir()] == [files.LOCK]


def test_a_neural_model_of_a_recognisers_tokens_begins_with_vectors(run: Run, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("High, low!\n" * 20)
    (tmp_path / "vectors.txt").write_text("2 8\nlow 0 0 0 0 0 0 0 9\nzebra 1 1 1 1 1 1 1 1\n")
    arguments = ("--tokens-of", RECOGNISER, "--embeddings", "vectors.txt", "--epochs", 1, "--learning-rate", 0)
    trained = run("train", "text.txt", "--out", "lm.safetensors", "--hidden", 8, *arguments)
    assert trained.code == 0, trained.err
    assert "1 of " in trained.err and "begin with a vector" in trained.err
    assert "held out 1 of 20 sentences" in trained.err
    from asr.text import neural

    lm = neural.load(tmp_path / "lm.safetensors")
    vector = lm.network.embedding.weight[lm.words.index(" low")]
    assert vector.tolist() == [0, 0, 0, 0, 0, 0, 0, 9]
    assert lm.words == ("</s>", "<unk>", " high", " low", " middle")
    assert "unknown                0 " in run("perplexity", "lm.safetensors", "text.txt", "--model", RECOGNISER).out


def test_training_goes_on_from_another_model_with_new_words(run: Run, trained: Path, tmp_path: Path) -> None:
    (tmp_path / "zoo.txt").write_text("the zebra sees the okapi\nthe okapi sees the zebra\n" * 30)
    arguments = ("zoo.txt", "--dev", "zoo.txt", "--out", "zoo.safetensors", "--init-from", trained)
    still = run("train", *arguments, "--epochs", 1, "--learning-rate", 0)
    assert still.code == 0, still.err
    assert "which knows" in still.err and "3 are new" in still.err
    assert run("score", "zoo.safetensors", TEXT).out == run("score", trained, TEXT).out
    before = float(run("perplexity", "zoo.safetensors", "zoo.txt").out.split()[1])
    assert run("train", *arguments, "--epochs", 10, "--learning-rate", 0.03, "--overwrite").code == 0
    assert float(run("perplexity", "zoo.safetensors", "zoo.txt").out.split()[1]) < before / 10
    (tmp_path / "rare.txt").write_text("an aardvark\n")
    rare = ("rare.txt", "--dev", "zoo.txt", "--out", "rare.safetensors", "--init-from", trained, "--epochs", 1)
    assert "0 are new" in run("train", *rare).err
    refused = run("train", *arguments, "--hidden", 16, "--overwrite")
    assert refused.code == 2 and "--hidden: the model to go on from has its own" in refused.err


def test_texts_may_be_manifests(run: Run, tmp_path: Path) -> None:
    lines = TEXT.read_text().splitlines()
    entries = [{"audio_filepath": "a.wav", "duration": 1.0, "text": line} for line in lines]
    (tmp_path / "text.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    assert run("build", "text.jsonl", "--out", "one.arpa").code == 0
    assert run("build", TEXT, "--out", "other.arpa").code == 0
    assert (tmp_path / "one.arpa").read_text() == (tmp_path / "other.arpa").read_text()


def test_a_file_of_another_kind_is_called_that(run: Run, tmp_path: Path) -> None:
    (tmp_path / "lights.txt").write_text("switch on the light\n")
    with pytest.raises(SystemExit) as caught:
        main(["vocab", "build", "lights.txt", "--out", "lights.vocab"])
    assert not caught.value.code
    refused = run("info", "lights.vocab")
    assert refused.code == 1
    assert "lights.vocab: this is no n-gram language model" in refused.err and "damaged" not in refused.err
