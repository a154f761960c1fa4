"""A recipe with a language model: it is estimated, the search is tuned, both are measured and part of the model."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from dataclasses import replace
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from recorder import Recorder
from tones import SETTINGS

import asr
from asr import artefact, pipeline
from asr.assess import recognise_manifest
from asr.data.manifest import Utterance, read_manifest, write_manifest
from asr.decoder_settings import DecoderSettings
from asr.doctor import SAMPLE_RATE, TONES, synthesise
from asr.errors import AsrError, DataError
from asr.evaluation import wer
from asr.recipe_file import read_recipe
from asr.text import kneser_ney, ngram
from asr.text.perplexity import measure

UNTRAINED = "training.epochs=2"
"""Too few to hear every word, but enough that the order of words, which is always the same, tells the others."""
LANGUAGE_MODEL = "language_model={order: 2, trials: 12}"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Recordings in which each tone has only one that may follow it; returns the recipe."""
    folder = tmp_path_factory.mktemp("rounds")
    rng = np.random.default_rng(5)
    for name, count in (("train", 60), ("dev", 16), ("test", 16)):
        utterances = []
        for index in range(count):
            first, length = rng.integers(len(TONES)), rng.integers(3, 7)
            text = " ".join(islice(cycle(TONES), int(first), int(first + length)))
            path = folder / f"{name}-{index}.wav"
            waveform = synthesise(text, rng)
            soundfile.write(path, waveform, SAMPLE_RATE)
            utterances.append(Utterance(path, len(waveform) / SAMPLE_RATE, text))
        write_manifest(folder / f"{name}.jsonl", utterances)
    (folder / "recipe.yaml").write_text(
        "name: rounds\n"
        "prepare: {corpus: manifests, train: train.jsonl, dev: dev.jsonl, tests: {test: test.jsonl}}\n",
        encoding="utf-8",
    )
    return folder / "recipe.yaml"


def stages_done(heard: Recorder) -> list[str]:
    """Those that were done now, not before."""
    return [line.split("] ")[1] for line in heard.said if line.startswith("[") and "done before" not in line]


def run(recipe: Path, folder: Path, *settings: str) -> tuple[dict[str, Any], Recorder]:
    heard = Recorder()
    wanted = read_recipe(recipe, [*SETTINGS, UNTRAINED, *settings])
    return pipeline.run(wanted, folder, folder.parent / "data", heard), heard


@pytest.fixture(scope="module")
def finished(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("finished") / "run"
    return folder, run(corpus, folder, LANGUAGE_MODEL)[0]


def test_the_model_is_one_of_the_training_transcripts(corpus: Path, finished: tuple[Path, dict[str, Any]]) -> None:
    model = ngram.load(finished[0] / "lm.ngram")
    texts = [utterance.text.split() for utterance in read_manifest(corpus.parent / "train.jsonl")]
    bigrams = Counter(pair for text in texts for pair in zip(["<s>", *text], [*text, "</s>"], strict=True))
    assert set(TONES) | {"<s>", "</s>", "<unk>"} == set(model.words)
    entries = ngram.to_entries(model)
    assert entries.counts[1] == len(bigrams)


def test_the_search_does_better_and_is_part_of_the_model(
    corpus: Path, finished: tuple[Path, dict[str, Any]]
) -> None:
    folder, results = finished
    greedy, search = results["tests"]
    assert (greedy["name"], search["name"]) == ("test", "test, beam search")
    assert search["wer"] < greedy["wer"]
    utterances = read_manifest(corpus.parent / "test.jsonl")
    answers = recognise_manifest(asr.load(folder / "model"), utterances)
    assert wer.score(answers, bootstrap=1).wer == search["wer"]
    tuning = json.loads((folder / "model" / "decoder.json").read_text(encoding="utf-8"))["tuning"]
    assert tuning["utterances"] == 16
    assert tuning["wer"] < tuning["wer_greedy"]
    card = (folder / "model" / "README.md").read_text(encoding="utf-8")
    assert "| test, beam search |" in card
    assert (folder / "evaluate" / "test, beam search.txt").is_file()


def test_a_run_that_was_moved_searches_with_its_own_language_model(
    corpus: Path, finished: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    moved = shutil.copytree(finished[0], tmp_path / "moved")
    shutil.rmtree(moved / "model")
    settings = json.loads((moved / "search.json").read_text(encoding="utf-8"))
    assert "lm" not in settings
    older = settings | {"lm": "runs/elsewhere/lm.ngram"}  # as it was once written
    (moved / "search.json").write_text(json.dumps(older), encoding="utf-8")
    _, heard = run(corpus, moved, LANGUAGE_MODEL)
    assert stages_done(heard) == ["prepare", "package"]  # prepare: the data folder is another one
    assert ngram.load(moved / "model" / "lm.ngram").words == ngram.load(moved / "lm.ngram").words


def test_other_texts_change_the_language_model_and_not_the_training(
    corpus: Path, finished: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    more = tmp_path / "more.jsonl"  # of which only the transcripts are text
    write_manifest(more, [Utterance(tmp_path / "sound.wav", 1.0, "Hum, hum!")])
    folder = shutil.copytree(finished[0], tmp_path / "run")
    settings = f"language_model={{order: 2, trials: 12, texts: [{more}]}}"
    _, heard = run(corpus, folder, settings)
    assert stages_done(heard) == ["prepare", "language model", "tune", "evaluate", "package"]  # prepare as above
    assert "hum" in ngram.load(folder / "lm.ngram").words  # normalised, as transcripts are
    assert "wav" not in " ".join(ngram.load(folder / "lm.ngram").words)
    (mixed,) = [line for line in heard.said if "mixed" in line]
    assert float(mixed.split()[-2].strip(",")) > 0.9  # of the transcripts: dev is of their kind
    _, heard = run(corpus, folder, settings)
    assert stages_done(heard) == []
    results, heard = run(corpus, folder)
    assert stages_done(heard) == ["evaluate", "package"]
    assert [test["name"] for test in results["tests"]] == ["test"]
    assert not (folder / "model" / "decoder.json").exists()
    assert not (folder / "evaluate" / "test, beam search.txt").exists()


def test_what_tuning_has_put_into_a_model_stays_as_long_as_it_fits(
    corpus: Path, finished: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    lm = shutil.copy(finished[0] / "lm.ngram", tmp_path / "lm.ngram")
    for name, settings in (("none", ()), ("own", (LANGUAGE_MODEL,))):
        folder = shutil.copytree(finished[0], tmp_path / name)
        run(corpus, folder, *settings)
        artefact.save_decoder(folder / "model", DecoderSettings(lm=lm, alpha=0.77, rescore=lm))
        _, heard = run(corpus, folder, *settings, "evaluate.bootstrap=9")
        assert stages_done(heard) == ["evaluate", "package"]
        kept = artefact.read_decoder(folder / "model")
        assert kept is not None
        assert (kept.alpha, kept.rescore) == (0.77, folder / "model" / "rescoring.ngram")
        assert not any("left out" in warning for warning in heard.warned)
    results, heard = run(corpus, folder, "language_model={order: 1, trials: 3}")
    assert any("the recipe's own search has changed" in warning for warning in heard.warned)
    now, searches = artefact.read_decoder(folder / "model"), len(results["tests"]) == 2  # it may do better, or not
    assert (now is not None) == searches
    assert now is None or (now.rescore is None and now.alpha != 0.77)
    artefact.save_decoder(folder / "model", DecoderSettings(alpha=0.77))
    wanted = read_recipe(corpus, [*SETTINGS, UNTRAINED, "seed=2"])
    pipeline.run(wanted, folder, tmp_path / "data", heard, overwrite=True)
    assert any("the network has changed" in warning for warning in heard.warned)
    assert artefact.read_decoder(folder / "model") is None


def test_fields_that_no_test_set_has_are_told(
    corpus: Path, finished: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    folder = shutil.copytree(finished[0], tmp_path / "run")
    _, heard = run(corpus, folder, "evaluate.fields=[gendr]")
    assert any("evaluate.fields: no test set has gendr; there are: none" in warning for warning in heard.warned)


def test_transcripts_of_several_corpora_are_mixed_too(corpus: Path, tmp_path: Path) -> None:
    utterances = read_manifest(corpus.parent / "train.jsonl")
    more = [
        replace(each, text="low low low", fields={**each.fields, "corpus": "drones"}) for each in utterances[:9]
    ]
    noise = [replace(each, text=" – ", fields={**each.fields, "corpus": "noise"}) for each in utterances[:2]]
    train = tmp_path / "train.jsonl"
    write_manifest(train, utterances + more + noise)
    wanted = read_recipe(corpus, [*SETTINGS, f"prepare.train={train}", "language_model={order: 2}"])
    heard = Recorder()
    pipeline.run_stages(pipeline.workspace(wanted, tmp_path / "run", tmp_path / "data", heard), "language model")
    assert [line.split(":")[0] for line in heard.said if "2-grams" in line] == [
        "  transcripts",
        "  transcripts of drones",
    ]
    model = ngram.load(tmp_path / "run" / "lm.ngram")
    alone = kneser_ney.build([utterance.text for utterance in utterances], 2).model
    dev = [utterance.text for utterance in read_manifest(corpus.parent / "dev.jsonl")]
    assert measure(model, dev).perplexity == pytest.approx(measure(alone, dev).perplexity, rel=0.02)


def test_a_search_that_is_no_better_is_left_out(corpus: Path, tmp_path: Path) -> None:
    well = (
        "training.epochs=10",
        "model.encoder.hidden=24",
        "model.encoder.dropout=0",
        "language_model={order: 1, trials: 4}",
    )
    results, _ = run(corpus, tmp_path / "run", *well)
    assert [test["name"] for test in results["tests"]] == ["test"]
    assert results["tests"][0]["wer"] == 0
    assert not (tmp_path / "run" / "model" / "decoder.json").exists()


def test_texts_that_are_missing_are_named_before_anything_is_done(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"files that are not there: .*none\.txt"):
        run(corpus, tmp_path / "run", "language_model={texts: [none.txt]}")
    assert not (tmp_path / "run").exists()


def test_settings_that_make_no_sense_are_refused(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(AsrError, match="order"):
        run(corpus, tmp_path / "run", "language_model={order: 0}")
