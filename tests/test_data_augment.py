"""`asr data augment`: what it writes is what training hears."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from command_line import command

from asr import audio, build
from asr.data.batching import Sample
from asr.data.loading import Reader
from asr.data.manifest import Utterance
from asr.recipe_file import read_recipe

RATE = 8000
RECIPE = """
name: test
prepare: {corpus: fsdd}
features: {sample_rate: 8000, n_mels: 16}
augment:
  speed: [0.8, 1.0, 1.25]
  noise: {probability: 1}
  telephone: {probability: 0.5}
  spec_augment: {freq_width: 4, time_width: 8}
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE, encoding="utf-8")
    return path


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    path = tmp_path / "memo.wav"
    soundfile.write(path, 0.3 * np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE), RATE)
    return path


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    return command(capsys, "data", "augment")(*arguments)


def test_it_writes_what_a_reader_reads(
    capsys: pytest.CaptureFixture[str], recipe: Path, recording: Path, tmp_path: Path
) -> None:
    out = tmp_path / "heard"
    status, told, _ = run(capsys, recording, "--recipe", recipe, "--out", out, "--count", 3, "--seed", 7)
    assert status == 0
    lines = told.splitlines()
    resolved = read_recipe(recipe)
    reader = Reader(
        RATE,
        build.features(resolved.features),
        build.normalizer(resolved.text),
        build.tokens(resolved.tokens, ["one"]),
        augmenter=build.augmenter(resolved.augment, RATE),
        spec_augment=build.spec_augment(resolved.augment),
    )
    for number, line in enumerate(lines, start=1):
        sample = Sample((Utterance(recording, 1.0, "one", {}),), seed=(7, number))
        expected = reader.waveform(sample, np.random.default_rng(sample.seed))
        heard = audio.load(out / f"memo-{number}.wav", RATE)
        np.testing.assert_allclose(heard, expected, atol=1 / 32768)
        assert line.startswith(f"{out / f'memo-{number}.wav'}  {len(heard) / RATE:.2f} s  speed (factor ")
        factor = float(line.split("speed (factor ")[1].split(")")[0])
        assert len(heard) == pytest.approx(RATE / factor, abs=1)
        assert "noise (snr_db " in line
    assert len(lines) == len(list(out.iterdir())) == 3
    assert any("masked bins " in line for line in lines)


def test_one_step_alone_even_if_the_recipe_has_it_not(
    capsys: pytest.CaptureFixture[str], recipe: Path, recording: Path, tmp_path: Path
) -> None:
    for step in ("telephone", "pitch", "gain_db", "reverb", "silence"):
        status, told, _ = run(
            capsys, recording, "--recipe", recipe, "--out", tmp_path / step, "--count", 2, "--only", step
        )
        assert status == 0
        assert [line.split("s  ")[1].split(" (")[0] for line in told.splitlines()] == [step, step]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--only", "echo"), "no such step\n  expected: silence, speed, pitch, tempo, reverb, noise, gain_db"),
        (("augment.noise.snr_db=[30, 5]",), "augment.noise.snr_db: the low end 30 is above the high end 5"),
        (("augment.noise.probability=1.5",), "augment.noise.probability: should be 1 or less"),
        (("augment.noise.folder=nowhere",), "nowhere: there is no such folder"),
        (("augment.telephone.codecs=[fax]",), "should be 'mu-law', 'a-law', 'adpcm' or 'gsm'; found 'fax'"),
    ],
)
def test_what_is_wrong_is_said(
    capsys: pytest.CaptureFixture[str],
    recipe: Path,
    recording: Path,
    tmp_path: Path,
    arguments: tuple[str, ...],
    message: str,
) -> None:
    status, _, said = run(capsys, recording, "--recipe", recipe, "--out", tmp_path / "heard", *arguments)
    assert status in (1, 2)
    assert message in said
    assert not (tmp_path / "heard").exists()


def test_nothing_is_overwritten_unasked(
    capsys: pytest.CaptureFixture[str], recipe: Path, recording: Path, tmp_path: Path
) -> None:
    arguments = (recording, "--recipe", recipe, "--out", tmp_path, "--count", 1)
    (tmp_path / "memo-1.wav").write_bytes(b"mine")
    status, _, said = run(capsys, *arguments)
    assert status == 2
    assert "memo-1.wav: already there" in said
    assert (tmp_path / "memo-1.wav").read_bytes() == b"mine"
    assert run(capsys, *arguments, "--overwrite")[0] == 0
