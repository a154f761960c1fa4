"""Synthetic speech: voices that differ, sounds as they were asked for, texts read aloud."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from command_line import Run, command
from markers import espeak
from sounds import decibels

from asr.data import synthesis
from asr.data.manifest import read_manifest
from asr.data.synthesis import VARIANTS, Set
from asr.errors import DataError


def variants(name: Set) -> set[str]:
    return {*VARIANTS[name].female.split(), *VARIANTS[name].male.split()}


# ---------------------------------------------------------------------------------------------------- voices


def test_variants_of_the_sets_are_disjoint_and_of_both_sexes() -> None:
    train, dev, test = (variants(name) for name in VARIANTS)
    assert not train & dev
    assert not (train | dev) & test
    # Distinct ones; the quickstart's published figures are of these.
    assert {name: (len({*of.female.split()}), len({*of.male.split()})) for name, of in VARIANTS.items()} == {
        "train": (10, 51),
        "dev": (3, 4),
        "test": (4, 7),
    }
    for sexes in VARIANTS.values():
        assert not {*sexes.female.split()} & {*sexes.male.split()}


def test_voices_are_used_evenly() -> None:
    requests = synthesis.draw_requests("train", ["hello"], 1200, np.random.default_rng(0))
    female = VARIANTS["train"].female.split()
    used = Counter(request["voice"].split("+")[1] for request in requests)
    assert set(used) == variants("train")
    assert {used[variant] for variant in female} == {600 // len(female)}
    accents = Counter(request["voice"].split("+")[0] for request in requests)
    assert set(accents) == set(synthesis.ACCENTS)
    assert min(accents.values()) > 100
    assert len({request["voice"] for request in requests}) > 40
    assert len({request["seed"] for request in requests}) == len(requests)


# ------------------------------------------------------------------------------------------------- synthesis

REQUEST: synthesis.Request = {
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
        made = dict(synthesis.speak(requests, tmp_path))
        assert list(made) == [request["audio"] for request in requests]
        waveforms = []
        for name, duration in made.items():
            info = soundfile.info(tmp_path / name)
            assert (info.samplerate, info.channels, info.subtype) == (16000, 1, "PCM_16")
            assert info.frames / 16000 == pytest.approx(duration, abs=1e-9)
            waveforms.append(soundfile.read(tmp_path / name)[0])
        return waveforms

    return run


@espeak
def test_every_voice_is_known_and_sounds_different(say: Say) -> None:
    names = [name for each in VARIANTS for name in sorted(variants(each))]
    in_one_accent = say(*({"voice": f"en-us+{name}"} for name in names))
    assert len({waveform.tobytes() for waveform in in_one_accent}) == len(names)
    in_all_accents = say(*({"voice": f"{accent}+m3"} for accent in synthesis.ACCENTS))
    assert len({waveform.tobytes() for waveform in in_all_accents}) == len(synthesis.ACCENTS)


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
def test_a_library_in_a_deep_folder_is_found(say: Say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (before,) = say({})
    deep = tmp_path.joinpath("é" * 50, *("x" * 50,) * 3)
    deep.mkdir(parents=True)
    spec = find_spec("espeakng_loader")
    assert spec is not None and spec.origin is not None
    (deep / "espeakng_loader").symlink_to(Path(spec.origin).parent)
    monkeypatch.setenv("PYTHONPATH", str(deep), prepend=os.pathsep)
    monkeypatch.chdir(tmp_path)
    (requests := tmp_path / "requests.jsonl").write_text(json.dumps(REQUEST), encoding="utf-8")
    command = [*synthesis.PROGRAM, requests.name, "."]  # which are not where the data are
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    np.testing.assert_array_equal(soundfile.read(tmp_path / REQUEST["audio"])[0], before)


@espeak
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"voice": "en-us+nobody"}, "no variant nobody, for “turn the"),
        ({"voice": "xx-nowhere+m3"}, "no language xx-nowhere, for “turn the"),
    ],
)
def test_failed_utterance_is_an_error(
    change: dict[str, Any], reason: str, say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its text can be read where the locale has another encoding than UTF-8, as on Windows."""
    for name, value in {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(DataError, match=f"synthesis failed.*{reason}"):
        say({}, change, {})


# ------------------------------------------------------------------------------------------------ reading aloud

TEXT = "The quick brown fox jumps over the lazy dog near the river bank.\n\nHe ran.\nNobody saw it.\n"
NOTHING_TO_SAY = "…\n* * *\n"


@pytest.mark.parametrize("longest", [1, 2, 5, 12, 100])
def test_pieces_hold_all_words_and_none_is_too_long(longest: int) -> None:
    rng = np.random.default_rng(1)
    for text in ("", "one", TEXT, "a " * 300):
        pieces = synthesis.in_pieces(text, longest, rng)
        assert " ".join(pieces).split() == text.split()
        sizes = [len(piece.split()) for piece in pieces]
        assert all(0 < size <= longest for size in sizes)
        assert all(3 * size >= longest for size in sizes[:-1])
    assert len({len(piece.split()) for piece in synthesis.in_pieces("a " * 300, 12, rng)}) > 5


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text(TEXT + NOTHING_TO_SAY, encoding="utf-8")
    return command(capsys, "data")


@espeak
def test_text_is_read_aloud(run: Run, tmp_path: Path) -> None:
    spoken = run("speak", "text.txt", "--out", "spoken", "--longest", 6, "--rate", "100,120")
    assert spoken.code == 0, spoken.err
    utterances = read_manifest(tmp_path / "spoken" / "manifest.jsonl")
    assert Counter(" ".join(each.text for each in utterances).split()) == Counter(TEXT.split())
    assert {each.fields["corpus"] for each in utterances} == {"synthetic"}
    assert {each.fields["variant"] for each in utterances} <= variants("train")
    assert spoken.out.startswith(f"{len(utterances)} utterances, ")
    for each in utterances:
        waveform, rate = soundfile.read(each.audio)
        assert len(waveform) / rate == pytest.approx(each.duration, abs=1e-4)
        assert 0.25 * len(each.text.split()) < each.duration - 0.1


@espeak
def test_pieces_of_punctuation_are_not_read(run: Run, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("good morning , said he .\n", encoding="utf-8")
    assert run("speak", "text.txt", "--out", "spoken", "--longest", 1).code == 0
    spoken = read_manifest(tmp_path / "spoken" / "manifest.jsonl")
    assert sorted(each.text for each in spoken) == ["good", "he", "morning", "said"]


@espeak
def test_what_has_no_sound_is_left_out_and_told(run: Run, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("turn on the light\n①\n１\nthe kitchen is dark\n", encoding="utf-8")
    spoken = run("speak", "text.txt", "--out", "spoken")
    assert spoken.code == 0
    assert "warning: 2 utterances left out, in which eSpeak NG finds nothing to say: “" in spoken.err
    texts = [each.text for each in read_manifest(tmp_path / "spoken" / "manifest.jsonl")]
    assert sorted(texts) == ["the kitchen is dark", "turn on the light"]
    (tmp_path / "text.txt").write_text("①\n", encoding="utf-8")
    nothing = run("speak", "text.txt", "--out", "silence")
    assert (nothing.code, (tmp_path / "silence").exists()) == (1, False)
    assert "eSpeak NG finds nothing to say in “①”" in nothing.err


@espeak
def test_a_seed_gives_the_same_recordings_and_a_count_some_of_them(run: Run, tmp_path: Path) -> None:
    folders = []
    for name, seed in (("one", 3), ("two", 3), ("other", 4)):
        assert run("speak", "text.txt", "--out", name, "--count", 2, "--seed", seed).code == 0
        folders.append([path.read_bytes() for path in sorted((tmp_path / name).rglob("*.wav"))])
    assert len(folders[0]) == 2
    assert folders[0] == folders[1] != folders[2]


@espeak
def test_other_languages_are_spoken_and_unknown_ones_named(run: Run, tmp_path: Path) -> None:
    assert run("speak", "text.txt", "--out", "sv", "--language", "sv", "--count", 1).code == 0
    (spoken,) = read_manifest(tmp_path / "sv" / "manifest.jsonl")
    assert spoken.fields["accent"] == "sv"
    refused = run("speak", "text.txt", "--out", "xx", "--language", "xx-nowhere")
    assert refused.code == 1 and "eSpeak NG has no language xx-nowhere" in refused.err
    known = refused.err.partition("expected: ")[2].split(", ")
    assert {"cmn", "en-us", "pt-br", "sv"} <= set(known)
    assert not (tmp_path / "xx").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("text.txt", "--out", "."), "already there"),
        (("text.txt", "--out", "new", "--rate", "fast"), "'fast' is no rate"),
        (("text.txt", "--out", "new", "--rate", "200,100"), "'200,100' is no rate"),
        (("none.txt", "--out", "new"), "none.txt"),
    ],
)
def test_mistakes_are_told_before_anything_is_said(
    run: Run, tmp_path: Path, arguments: tuple[object, ...], message: str
) -> None:
    refused = run("speak", *arguments)
    assert refused.code in (1, 2) and message in refused.err
    assert not (tmp_path / "new").exists()


# -------------------------------------------------------------------------------------------------- the licence


def test_program_that_loads_the_gpl_library_has_nothing_of_asr() -> None:
    tree = ast.parse(synthesis.SCRIPT.read_text(encoding="utf-8"))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.split(".")[0] for name in imported} - sys.stdlib_module_names == {
        "espeakng_loader",
        "numpy",
        "soxr",
    }
    statement = re.compile(r"^ *(import|from) .*(espeakng_loader|espeak_process)", re.MULTILINE)
    package = synthesis.SCRIPT.parents[1]
    assert [path for path in package.rglob("*.py") if statement.search(path.read_text("utf-8"))] == [
        synthesis.SCRIPT
    ]
