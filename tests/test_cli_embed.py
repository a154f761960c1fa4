"""`asr embed`, as a user meets it."""

from __future__ import annotations

import gzip
import io
import json
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from command_line import Run, command

from asr.cli import decoding
from asr.text import vector_files, word2vec

FILES = Path(__file__).parent / "vectors"
VECTORS = FILES / "gensim.bin"
TEXT = Path(__file__).parent / "ngrams" / "text.txt"


@pytest.fixture(scope="module", autouse=True)
def compiled() -> None:
    """What is compiled later would be announced."""
    word2vec.warm()


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.chdir(tmp_path)
    return command(capsys, "embed")


@pytest.mark.parametrize("name", ["v.txt", "v.bin", "v.vec.gz"])
def test_vectors_are_learnt_from_text(run: Run, tmp_path: Path, name: str) -> None:
    trained = run("train", TEXT, "--out", name, "--dim", 6, "--min-count", 10, "--epochs", 1, "--threads", 1)
    assert trained.code == 0 and trained.out == ""
    counts = Counter(TEXT.read_text().split())
    frequent = {word for word, count in counts.items() if count >= 10}
    assert trained.err == f"wrote {name}: {len(frequent)} words, 6 numbers each\n"
    vectors = vector_files.load(tmp_path / name)
    assert {*vectors.words} == frequent and vectors.vectors.shape[1] == 6


def test_of_a_manifest_the_texts_are_learnt(run: Run, tmp_path: Path) -> None:
    lines = [{"audio_filepath": "a.wav", "duration": 1, "text": text} for text in ("one two", "two one", "", "two")]
    (tmp_path / "m.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    trained = run("train", "m.jsonl", "--out", "v.txt", "--dim", 4, "--min-count", 1, "--subsample", 0)
    assert trained.code == 0, trained.err
    assert {*vector_files.load(tmp_path / "v.txt").words} == {"one", "two"}


def test_options_of_training_reach_it(run: Run, tmp_path: Path) -> None:
    def train(name: str, *options: object) -> bytes:
        some = ("--dim", 4, "--min-count", 2, "--epochs", 1, "--threads", 1)
        assert run("train", TEXT, "--out", name, *some, *options).code == 0
        return (tmp_path / name).read_bytes()

    options = (
        ("--architecture", "cbow"),
        ("--objective", "hierarchical"),
        ("--window", 1),
        ("--negatives", 2),
        ("--subsample", 0),
        ("--seed", 2),
        ("--epochs", 2),
    )
    usual = train("usual.bin")
    assert train("again.bin") == usual
    assert len({usual, *(train(f"v{number}.bin", *each) for number, each in enumerate(options))}) == 8


def test_compiling_is_announced_only_if_it_takes_long(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ("train", TEXT, "--dim", 4, "--epochs", 1, "--out")
    monkeypatch.setattr(word2vec, "warm", lambda engine: None)
    assert "loading word2vec" not in run(*arguments, "a.bin").err
    monkeypatch.setattr(decoding, "PATIENCE_SECONDS", 0.01)
    monkeypatch.setattr(word2vec, "warm", lambda engine: time.sleep(0.5))
    assert "loading word2vec" in run(*arguments, "b.bin").err


def test_texts_may_be_compressed_several_and_standard_input(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = TEXT.read_bytes().splitlines(keepends=True)
    (tmp_path / "a.txt").write_bytes(b"".join(lines[:20]))
    (tmp_path / "b.txt.gz").write_bytes(gzip.compress(b"".join(lines[20:40])))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"".join(lines[40:]))))
    some = ("--dim", 4, "--epochs", 1, "--threads", 1)
    run("train", "a.txt", "b.txt.gz", "-", "--out", "pieces.bin", *some)
    run("train", TEXT, "--out", "whole.bin", *some)
    assert (tmp_path / "pieces.bin").read_bytes() == (tmp_path / "whole.bin").read_bytes()


def test_phrases_are_words(run: Run, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text(
        "".join(f"from{n} new york to{n}\n" for n in range(200)) + "a b c d e\n" * 9000
    )
    some = ("--dim", 4, "--epochs", 1, "--threads", 1, "--min-count", 2)
    run("train", "text.txt", "--out", "apart.txt", *some)
    run("train", "text.txt", "--out", "joined.txt", *some, "--phrases", 1)
    apart, joined = (vector_files.load(tmp_path / name) for name in ("apart.txt", "joined.txt"))
    assert "new" in apart and "york" in apart and "new_york" not in apart
    assert "new_york" in joined and "new" not in joined


# What gensim says of these is in tests/vectors/gensim.json.


def test_neighbours(run: Run) -> None:
    expected = "0.9262\tman\n0.6206\tprince\n0.6163\tqueen\n"
    assert run("neighbours", VECTORS, "king", "--count", 3) == (0, expected, "")


def test_analogies(run: Run) -> None:
    assert run("analogy", VECTORS, "man", "king", "woman", "--count", 2).out == "0.8461\tqueen\n0.8062\tParis\n"
    multiplied = run("analogy", VECTORS, "man", "king", "woman", "--method", "multiply").out.splitlines()
    assert multiplied[0].endswith("\tqueen") and len(multiplied) == 10


def test_similarity(run: Run) -> None:
    assert run("similarity", VECTORS, "Paris", "Rome").out == "0.5739\n"


def test_evaluation(run: Run) -> None:
    evaluated = run("evaluate", VECTORS, FILES / "pairs.tsv", FILES / "analogies.txt")
    assert evaluated.code == 0
    assert evaluated.out == (
        f"{FILES / 'pairs.tsv'}\n"
        "  Spearman  0.8171\n"
        "  pairs     10 of 11\n"
        f"{FILES / 'analogies.txt'}\n"
        "  capital-common-countries   33.33 %  (1 of 3, 1 with words that have no vectors)\n"
        "  family                    100.00 %  (4 of 4)\n"
        "  gram5-present-participle  100.00 %  (2 of 2, 1 with words that have no vectors)\n"
        "  meaning                    71.43 %  (5 of 7, 1 with words that have no vectors)\n"
        "  grammar                   100.00 %  (2 of 2, 1 with words that have no vectors)\n"
        "  all                        77.78 %  (7 of 9, 2 with words that have no vectors)\n"
    )


def test_what_is_not_covered_has_no_score(run: Run, tmp_path: Path) -> None:
    (tmp_path / "pairs.txt").write_text("cabbage turnip 8\n")
    assert run("evaluate", VECTORS, "pairs.txt").out == "pairs.txt\n  Spearman  –\n  pairs     0 of 1\n"


def test_the_first_words_are_drawn(run: Run, tmp_path: Path) -> None:
    assert run("plot", VECTORS, "--out", "words.html", "--count", 5).err == "wrote words.html: 5 words\n"
    page = (tmp_path / "words.html").read_text(encoding="utf-8")
    assert page.count("<text ") == 5 and ">queen</text>" in page and ">café</text>" not in page


def test_chosen_words_are_drawn_and_the_others_named(run: Run, tmp_path: Path) -> None:
    (tmp_path / "chosen.txt").write_text("café king\nqueen cabbage king\nturnip man\n", encoding="utf-8")
    drawn = run("plot", VECTORS, "--words", "chosen.txt", "--out", "words.html")
    assert drawn.code == 0
    assert "warning: these have no vectors: cabbage, turnip\n" in drawn.err and "4 words" in drawn.err
    assert ">café</text>" in (tmp_path / "words.html").read_text(encoding="utf-8")


def test_images_are_drawn(run: Run, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", exc_type=ImportError)
    assert run("plot", VECTORS, "--out", "words.png", "--count", 12).code == 0
    assert (tmp_path / "words.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("neighbours", VECTORS, "qeen"), 2, "“qeen” is not among the 21 words that have vectors\n  try: queen"),
        (("neighbours", "missing.bin", "king"), 1, "missing.bin: there is no such file"),
        (("similarity", TEXT, "a", "b"), 1, "neither a header nor a word and its numbers"),
        (("train", TEXT, "--out", "out.npy"), 2, "does not say how"),
        (("train", "missing.txt", "--out", "out.bin"), 1, "missing.txt: there is no such file"),
        (("train", TEXT, "--out", "out.bin", "--min-count", 1000), 1, "no word occurs 1000 times"),
        (("train", TEXT, "--out", "out.bin", "--device", "cuda"), 2, "can't use the device “cuda”"),
        (("evaluate", VECTORS, "missing.txt"), 1, "missing.txt: there is no such file"),
        (("plot", VECTORS, "--out", "out.pdf"), 2, "ends in .png or .html"),
        (("plot", VECTORS, "--out", "out.html", "--words", "empty.txt"), 1, "empty.txt: there are no words"),
    ],
)
def test_mistakes_are_told_and_nothing_is_written(
    run: Run, tmp_path: Path, arguments: tuple[object, ...], code: int, message: str
) -> None:
    (tmp_path / "empty.txt").write_text("\n")
    result = run(*arguments)
    assert result.code == code
    assert message in result.err and "Traceback" not in result.err
    assert not list(tmp_path.glob("out*"))


@pytest.mark.parametrize(
    ("arguments", "name"),
    [(("train", TEXT, "--dim", 4, "--epochs", 1), "v.bin"), (("plot", VECTORS, "--count", 5), "v.html")],
)
def test_nothing_is_overwritten_unless_asked(
    run: Run, tmp_path: Path, arguments: tuple[object, ...], name: str
) -> None:
    (tmp_path / name).write_text("precious")
    refused = run(*arguments, "--out", name)
    assert refused.code == 2 and "already there" in refused.err
    assert (tmp_path / name).read_text() == "precious"
    assert run(*arguments, "--out", name, "--overwrite").code == 0
    assert (tmp_path / name).read_bytes() != b"precious"
