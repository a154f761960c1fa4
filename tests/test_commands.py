"""The synthetic corpus: sentences and voices apart between the sets, the same files from the same seed."""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile
from markers import espeak

from asr.data import synthesis
from asr.data.corpora import commands
from asr.data.manifest import Utterance, read_manifest
from asr.data.synthesis import VARIANTS, Set
from asr.errors import DataError, MissingDependencyError
from asr.text.grammar import parse

QUICKSTART = Path(__file__).parent.parent / "recipes" / "quickstart" / "grammar.txt"
SETS = ("train", "dev", "test")


# ------------------------------------------------------------------------------------ the quickstart's grammar


def test_quickstart_grammar_is_worth_learning() -> None:
    grammar = parse(QUICKSTART.read_text(encoding="utf-8"))
    sentences = list(grammar.sentences())
    assert len(set(sentences)) == len(sentences) == grammar.count()
    assert len(sentences) > 4000
    assert 60 <= len(grammar.words()) <= 110
    assert {len(sentence.split()) for sentence in sentences} == set(range(2, 11))
    counts = Counter(word for sentence in sentences for word in sentence.split())
    assert min(counts.values()) >= 10


def test_quickstart_grammar_counts_its_commands_rightly() -> None:
    text = QUICKSTART.read_text(encoding="utf-8")
    claims = re.findall(r"\((\d+) ways\).*\n(<\w+>) =", text)
    assert len(claims) == 7
    for ways, rule in claims:
        assert parse(text.replace(f"\n{rule} =", f"\npublic {rule} =")).count() == int(ways), rule


# ------------------------------------------------------------------------------------------------- sentences


def split(text: str, train: int, dev: int, test: int, seed: int = 0) -> dict[Set, list[str]]:
    sizes: dict[Set, int] = {"train": train, "dev": dev, "test": test}
    return commands.split_sentences(parse(text), sizes, np.random.default_rng(seed), "a grammar")


def test_no_sentence_is_in_two_sets() -> None:
    sentences = split(QUICKSTART.read_text(encoding="utf-8"), 1500, 100, 200)
    assert [len(sentences[name]) for name in ("train", "dev", "test")] == [1500, 100, 200]
    assert len({sentence for each in sentences.values() for sentence in each}) == 1800


@pytest.mark.parametrize("seed", range(20))
def test_training_hears_every_word_that_is_drawn(seed: int) -> None:
    # Half of the words are in one sentence of sixty only.
    rare = " | ".join(f"rare{number}" for number in range(30))
    common = "(a | b | c | d | e) (a | b | c | d | e) [a]"
    sentences = split(f"<s> = {common} | {rare} | a (one | two | three) ;", 45, 5, 20, seed)
    words = {name: {word for each in sentences[name] for word in each.split()} for name in sentences}
    assert words["dev"] | words["test"] <= words["train"]


def test_small_grammar_is_shared_out_in_proportion() -> None:
    sentences = split("<s> = (a | b | c | d | e) (f | g | h | i) ;", 800, 100, 100)
    assert [len(sentences[name]) for name in ("train", "dev", "test")] == [16, 2, 2]
    assert len({sentence for each in sentences.values() for sentence in each}) == 20
    requests = synthesis.draw_requests("dev", sentences["dev"], 100, np.random.default_rng(0))
    assert Counter(request["text"] for request in requests) == dict.fromkeys(sentences["dev"], 50)


def test_tiniest_grammar() -> None:
    sentences = split("<s> = a | b | a b ;", 1000, 1, 1)
    assert [len(sentences[name]) for name in ("train", "dev", "test")] == [1, 1, 1]
    with pytest.raises(DataError, match=r"a grammar: the grammar has only 2 sentences(.|\n)*at least 3"):
        split("<s> = a | b ;", 1000, 1, 1)


# ---------------------------------------------------------------------------------------------------- corpus


def prepare(output: Path, processes: int = 2, seed: int = 1) -> dict[str, list[Utterance]]:
    commands.prepare(QUICKSTART, 40, 10, 22, seed, output, processes)
    corpus = json.loads((output / "corpus.json").read_text())
    assert corpus == {"train": "train.jsonl", "dev": "dev.jsonl", "tests": {"test": "test.jsonl"}}
    return {name: read_manifest(output / f"{name}.jsonl") for name in SETS}


@espeak
def test_corpus(tmp_path: Path) -> None:
    sets = prepare(tmp_path)
    assert [len(sets[name]) for name in SETS] == [40, 10, 22]
    assert len({each.audio for name in SETS for each in sets[name]}) == 72
    assert len({each.text for name in SETS for each in sets[name]}) == 72
    for name, sexes in VARIANTS.items():
        variants = {*sexes.female.split(), *sexes.male.split()}
        assert {each.fields["variant"] for each in sets[name]} <= variants
        assert Counter(each.fields["gender"] for each in sets[name])["female"] == len(sets[name]) / 2
        for each in sets[name]:
            waveform, rate = soundfile.read(each.audio)
            assert len(waveform) / rate == pytest.approx(each.duration, abs=1e-4)
            assert 0.01 < np.abs(waveform).max() <= 1
            assert np.mean(waveform[:800] == 0) < 0.5  # a noise floor, not digital silence
            assert each.speaker == f"{each.fields['accent']}+{each.fields['variant']}"
    # Nothing of the synthesis has come into this process.
    assert not {"espeakng_loader", "espeak_process", "asr.data.espeak_process"} & set(sys.modules)


@espeak
def test_same_corpus_to_the_bit_from_one_process_at_a_time_and_from_two(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(synthesis, "UTTERANCES_PER_PROCESS", 20)

    def content(folder: str, **arguments: int) -> dict[str, bytes]:
        prepare(tmp_path / folder, **arguments)
        files = sorted(path for path in (tmp_path / folder).rglob("*") if path.is_file())
        return {str(path.relative_to(tmp_path / folder)): path.read_bytes() for path in files}

    one, two = content("one", processes=1), content("two", processes=2)
    assert len(one) == 72 + 4
    assert one == two
    assert content("other", seed=2) != one


@espeak
def test_progress_counts_utterances(tmp_path: Path) -> None:
    reports: list[tuple[int, int]] = []
    commands.prepare(QUICKSTART, 6, 2, 2, 1, tmp_path, progress=lambda *report: reports.append(report))
    assert reports == [(done, 10) for done in range(1, 11)]


@espeak
def test_failure_leaves_no_corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(VARIANTS, "dev", synthesis.Variants(female="f2", male="nobody"))
    with pytest.raises(DataError, match="nobody"):
        prepare(tmp_path)
    assert not list(tmp_path.glob("*.json*"))


@espeak
def test_missing_grammar(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.txt: there is no such grammar"):
        commands.prepare(tmp_path / "none.txt", 6, 2, 2, 1, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_missing_synthesizer_is_said_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synthesis, "find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match=r'pip install -e "\.\[synth\]"'):
        commands.prepare(tmp_path / "none.txt", 6, 2, 2, 1, tmp_path / "out")
    assert not (tmp_path / "out").exists()
