"""The synthetic corpus: sentences and voices apart between the sets, the same files from the same seed."""

from __future__ import annotations

import ast
import json
import re
import sys
from collections import Counter
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from asr.data.corpora import commands
from asr.data.manifest import Utterance, read_manifest
from asr.errors import DataError, MissingDependencyError
from asr.text.grammar import parse

QUICKSTART = Path(__file__).parent.parent / "recipes" / "quickstart" / "grammar.txt"
SETS = ("train", "dev", "test")

espeak = pytest.mark.skipif(find_spec("espeakng_loader") is None, reason="needs the extra synth")


def variants(name: commands.Set) -> set[str]:
    return {*commands.VARIANTS[name].female.split(), *commands.VARIANTS[name].male.split()}


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


def split(text: str, train: int, dev: int, test: int, seed: int = 0) -> dict[commands.Set, list[str]]:
    sizes: dict[commands.Set, int] = {"train": train, "dev": dev, "test": test}
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
    requests = commands.draw_requests("dev", sentences["dev"], 100, np.random.default_rng(0))
    assert Counter(request["text"] for request in requests) == dict.fromkeys(sentences["dev"], 50)


def test_tiniest_grammar() -> None:
    sentences = split("<s> = a | b | a b ;", 1000, 1, 1)
    assert [len(sentences[name]) for name in ("train", "dev", "test")] == [1, 1, 1]
    with pytest.raises(DataError, match=r"a grammar: the grammar has only 2 sentences(.|\n)*at least 3"):
        split("<s> = a | b ;", 1000, 1, 1)


# ---------------------------------------------------------------------------------------------------- voices


def test_variants_of_the_sets_are_disjoint_and_of_both_sexes() -> None:
    train, dev, test = (variants(name) for name in commands.VARIANTS)
    assert not train & dev
    assert not (train | dev) & test
    assert len(train) >= 30
    assert len(dev) >= 6
    assert len(test) >= 8
    for sexes in commands.VARIANTS.values():
        assert len(sexes.female.split()) >= 3
        assert len(sexes.male.split()) >= 3
        assert not {*sexes.female.split()} & {*sexes.male.split()}


def test_voices_are_used_evenly() -> None:
    requests = commands.draw_requests("train", ["hello"], 1200, np.random.default_rng(0))
    female = commands.VARIANTS["train"].female.split()
    used = Counter(request["voice"].split("+")[1] for request in requests)
    assert set(used) == variants("train")
    assert {used[variant] for variant in female} == {600 // len(female)}
    accents = Counter(request["voice"].split("+")[0] for request in requests)
    assert set(accents) == set(commands.ACCENTS)
    assert min(accents.values()) > 100
    assert len({request["voice"] for request in requests}) > 40
    assert len({request["seed"] for request in requests}) == len(requests)


# ------------------------------------------------------------------------------------------------- synthesis

REQUEST: commands.Request = {
    "audio": "0.wav",
    "text": "turn the kitchen lights off",
    "voice": "en-us+m3",
    "rate": 170,
    "pitch": 50,
    "pitch_range": 50,
    "lead": 0.4,
    "tail": 0.4,
    "rt60": 0.1,
    "direct_to_reverberant": 25,
    "level": -24,
    "snr": 20,
    "tilt": 0,
    "seed": 1,
}

Say = Callable[..., list[np.ndarray]]


@pytest.fixture
def say(tmp_path: Path) -> Say:
    """Speak requests, given by what differs from `REQUEST`, in one process: waveforms, full scale ±1."""

    def run(*changes: dict[str, Any]) -> list[np.ndarray]:
        requests = [{**REQUEST, "audio": f"{number}.wav", **change} for number, change in enumerate(changes)]
        made = dict(commands.speak(requests, tmp_path))
        assert list(made) == [request["audio"] for request in requests]
        waveforms = []
        for name, duration in made.items():
            info = soundfile.info(tmp_path / name)
            assert (info.samplerate, info.channels, info.subtype) == (16000, 1, "PCM_16")
            assert info.frames / 16000 == pytest.approx(duration, abs=1e-9)
            waveforms.append(soundfile.read(tmp_path / name)[0])
        return waveforms

    return run


def decibels(waveform: np.ndarray) -> float:
    return 10 * float(np.log10(np.mean(np.square(waveform))))


@espeak
def test_every_voice_is_known_and_sounds_different(say: Say) -> None:
    names = [name for each in commands.VARIANTS for name in sorted(variants(each))]
    in_one_accent = say(*({"voice": f"en-us+{name}"} for name in names))
    assert len({waveform.tobytes() for waveform in in_one_accent}) == len(names)
    in_all_accents = say(*({"voice": f"{accent}+m3"} for accent in commands.ACCENTS))
    assert len({waveform.tobytes() for waveform in in_all_accents}) == len(commands.ACCENTS)


@espeak
def test_levels_are_as_asked_for(say: Say) -> None:
    for waveform in say({"level": -24, "snr": 20}, {"level": -24, "snr": 20, "tilt": 2, "seed": 2}):
        lead, speech = waveform[:6400], waveform[6400:-6400]
        assert decibels(lead) == pytest.approx(-44, abs=2.5)
        assert decibels(speech) == pytest.approx(-24, abs=0.5)
    quiet = say({"level": -32, "snr": 40})[0]
    assert np.abs(quiet[:6400]).max() > 0  # eSpeak's own pauses are digital zero
    loud = say({"level": 0})[0]
    assert 0.9 < np.abs(loud).max() <= 1
    assert np.mean(np.abs(loud) > 0.99) < 1e-3


@espeak
def test_silence_is_as_long_as_asked_for(say: Say) -> None:
    close, wide = say({"lead": 0.05, "tail": 0.05, "snr": 60}, {"lead": 0.4, "tail": 0.3, "snr": 60})
    assert (len(wide) - len(close)) / 16000 == pytest.approx(0.6, abs=0.03)
    onsets = [int(np.argmax(np.abs(waveform) > 0.01)) / 16000 for waveform in (close, wide)]
    assert onsets[1] - onsets[0] == pytest.approx(0.35, abs=0.03)


@espeak
def test_noise_has_the_colour_asked_for(say: Say) -> None:
    leads = [waveform[:6400] for waveform in say(*({"snr": 0, "tilt": tilt} for tilt in (0, 1, 2)))]
    for lead, tilt in zip(leads, (0, 1, 2), strict=True):
        power = np.abs(np.fft.rfft(lead)) ** 2
        octaves = [10 * np.log10(power[k : 2 * k].mean()) for k in (100, 200, 400, 800, 1600)]
        slope = np.polyfit(range(5), octaves, 1)[0]
        assert slope == pytest.approx(-tilt * 10 * np.log10(2), abs=0.6)  # 1 / f^tilt, per octave


@espeak
def test_room_rings_after_the_speech(say: Say) -> None:
    echoes = ({"rt60": 0.4, "direct_to_reverberant": ratio, "snr": 90} for ratio in (5, 25))
    near, far = (waveform[-6400:] for waveform in say(*echoes))
    # The echo's level follows the ratio, and falls by 60 dB in 0.4 s: by 15 in 0.1 s.
    assert decibels(near[800:2400]) - decibels(far[800:2400]) == pytest.approx(20, abs=2)
    assert decibels(near[800:2400]) - decibels(near[2400:4000]) == pytest.approx(15, abs=3)


@espeak
def test_rate_and_pitch_reach_the_voice(say: Say) -> None:
    clean = {"snr": 90, "lead": 0, "tail": 0}
    slow, fast = say({"rate": 130, **clean}, {"rate": 220, **clean})
    assert len(slow) / len(fast) == pytest.approx(220 / 130, rel=0.1)
    low, high = say({"pitch": 20, "pitch_range": 0, **clean}, {"pitch": 80, "pitch_range": 0, **clean})
    assert fundamental(high) > 1.2 * fundamental(low)


def fundamental(waveform: np.ndarray) -> float:
    """Median over frames of the strongest period between 60 and 300 Hz."""
    periods = []
    for start in range(0, len(waveform) - 1024, 512):
        frame = waveform[start : start + 1024]
        correlation = np.correlate(frame, frame, "full")[1023:]
        periods.append(53 + int(np.argmax(correlation[53:267])))
    return 16000 / float(np.median(periods))


@espeak
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"voice": "en-us+nobody"}, r"no voice en-us\+nobody"),
        ({"voice": "xx-nowhere+m3"}, r"no voice xx-nowhere\+m3"),
        ({"text": "…"}, "made no sound"),
    ],
)
def test_failed_utterance_is_an_error(change: dict[str, Any], reason: str, say: Say) -> None:
    with pytest.raises(DataError, match=f"synthesis failed.*{reason}"):
        say({}, change, {})


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
    for name in commands.VARIANTS:
        assert {each.fields["variant"] for each in sets[name]} <= variants(name)
        assert Counter(each.fields["gender"] for each in sets[name])["female"] == len(sets[name]) / 2
        for each in sets[name]:
            waveform, rate = soundfile.read(each.audio)
            assert len(waveform) / rate == pytest.approx(each.duration, abs=1e-4)
            assert 0.01 < np.abs(waveform).max() <= 1
            assert np.mean(waveform[:800] == 0) < 0.5  # a noise floor, not digital silence
            assert each.speaker == f"{each.fields['accent']}+{each.fields['variant']}"
    # Nothing of the synthesis has come into this process.
    assert not {"espeakng_loader", "espeak_process", "asr.data.corpora.espeak_process"} & set(sys.modules)


@espeak
def test_same_corpus_to_the_bit_from_one_process_at_a_time_and_from_two(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "UTTERANCES_PER_PROCESS", 20)

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
    monkeypatch.setattr(commands, "ACCENTS", ("en-us", "xx-nowhere"))
    with pytest.raises(DataError, match="no voice xx-nowhere"):
        prepare(tmp_path)
    assert not list(tmp_path.glob("*.json*"))


@espeak
def test_missing_grammar(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.txt: there is no such grammar"):
        commands.prepare(tmp_path / "none.txt", 6, 2, 2, 1, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_missing_synthesizer_is_said_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'asr\[synth\]'"):
        commands.prepare(tmp_path / "none.txt", 6, 2, 2, 1, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_program_that_loads_the_gpl_library_has_nothing_of_asr() -> None:
    tree = ast.parse(commands.SCRIPT.read_text(encoding="utf-8"))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.split(".")[0] for name in imported} - sys.stdlib_module_names == {
        "espeakng_loader",
        "numpy",
        "soxr",
    }
    statement = re.compile(r"^ *(import|from) .*(espeakng_loader|espeak_process)", re.MULTILINE)
    package = commands.SCRIPT.parents[2]
    assert [path for path in package.rglob("*.py") if statement.search(path.read_text("utf-8"))] == [
        commands.SCRIPT
    ]
