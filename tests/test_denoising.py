"""The self-supervised start: what is masked, what is asked for, and that training begins with what was learnt."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from headerless import write_mp3_without_length
from hypothesis import given
from hypothesis import strategies as st
from recorder import Recorder
from safetensors.torch import load_file
from test_training import without_times
from tones import SETTINGS, write_recipe
from torch import Tensor
from torch.utils.data._utils.pin_memory import pin_memory

from asr import audio, build, pipeline, preflight, pretraining, stages
from asr.augment import SpanMasking, WaveformAugmenter
from asr.cli import main
from asr.config import Augment, Encoder, Frontend, Model, Noise
from asr.data import untranscribed
from asr.data.batching import Sample
from asr.data.corruption import CorruptingReader
from asr.data.manifest import Utterance, read_manifest, write_manifest
from asr.errors import ConfigError, DataError, ModelError
from asr.model.denoising import VISIBLE_WEIGHT, DenoisingModel, squared_errors
from asr.recipe_file import read_recipe
from asr.reporting import Silent
from asr.sound_files import Member
from asr.training import denoising, log
from asr.training.loop import InterruptedTrainingError

PRETRAIN = "pretrain={epochs: 2, batch_seconds: 6, learning_rate: 0.01, mask_span: 6}"


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recipe(tmp_path_factory.mktemp("tones"), train=40)


def run(
    path: Path, folder: Path, *settings: str, reporter: Recorder | None = None, overwrite: bool = False
) -> dict:
    recipe = read_recipe(path, [*SETTINGS, "training.epochs=1", PRETRAIN, *settings])
    return pipeline.run(recipe, folder, folder.parent / "data", reporter or Recorder(), overwrite)


@pytest.fixture(scope="module")
def finished(path: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Recorder]:
    folder, reporter = tmp_path_factory.mktemp("finished") / "run", Recorder()
    run(path, folder, reporter=reporter)
    return folder, reporter


# -------------------------------------------------------------------------------------- what is masked


@given(
    frames=st.integers(0, 200),
    bins=st.integers(1, 80),
    masking=st.builds(
        SpanMasking,
        share=st.floats(0, 0.99),
        span=st.integers(1, 40),
        band=st.floats(0, 0.99),
    ),
    seed=st.integers(0, 99),
)
def test_masks_lie_within_the_utterance(frames: int, bins: int, masking: SpanMasking, seed: int) -> None:
    masks = masking.plan(frames, bins, np.random.default_rng(seed))
    assert all(width == min(masking.span, frames // 2) for _, width in masks.time)
    assert all(0 <= start <= frames - width for start, width in masks.time)
    ((start, width),) = masks.freq
    assert 0 <= start <= bins - width
    assert width <= masking.band * bins


@pytest.mark.parametrize("frames", [15, 43, 1000])
def test_spans_cover_their_share_of_short_and_long_utterances(frames: int) -> None:
    rng = np.random.default_rng(1)
    drawn = [SpanMasking(share=0.3, span=7).plan(frames, 16, rng).time for _ in range(3000)]
    widths = [sum(width for _, width in spans) for spans in drawn]
    assert np.mean(widths) / frames == pytest.approx(0.3, abs=0.01)
    starts = [start for spans in drawn for start, _ in spans]
    assert min(starts) == 0
    assert max(starts) == frames - 7


@pytest.fixture(scope="module")
def reader(path: Path) -> CorruptingReader:
    recipe = read_recipe(path, SETTINGS)
    return CorruptingReader(8000, build.features(recipe.features), SpanMasking(0.3, 6, 0.5), WaveformAugmenter())


@pytest.fixture(scope="module")
def samples(path: Path) -> list[Sample]:
    utterances = read_manifest(path.parent / "corpus" / "dev.jsonl")
    return [Sample((utterance,), seed=(1, index)) for index, utterance in enumerate(utterances)]


def test_only_what_is_masked_is_changed(reader: CorruptingReader, samples: list[Sample]) -> None:
    batch = reader.read_batch(samples)
    for row, sample in enumerate(samples):
        waveform = torch.from_numpy(audio.load(sample.utterances[0].audio, 8000))
        frames = int(batch.lengths[row])
        torch.testing.assert_close(batch.clean[row, :frames], reader.extractor.each([waveform])[0])
        rng = np.random.default_rng(sample.seed)
        WaveformAugmenter()(waveform.numpy(), rng)  # which draws, too
        masks = reader.masking.plan(frames, 16, rng)
        masked = np.zeros((frames, 16), bool)
        for start, width in masks.time:
            masked[start : start + width] = True
        for start, width in masks.freq:
            masked[:, start : start + width] = True
        assert np.array_equal(batch.masked[row, :frames].numpy(), masked)
    assert batch.masked.any()
    assert torch.equal(batch.features, batch.clean.masked_fill(batch.masked, 0.0))
    assert batch.seconds == pytest.approx(sum(sample.duration for sample in samples), abs=1e-3)


def test_the_loader_can_pin_all_of_a_batch(
    reader: CorruptingReader, samples: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    pinned = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: pinned.append(tensor) or tensor)
    batch = reader.read_batch(samples)
    assert pin_memory(batch) == batch
    assert pinned == [batch.features, batch.clean, batch.masked, batch.lengths]


def test_noise_is_in_the_input_alone(reader: CorruptingReader, samples: list[Sample]) -> None:
    quiet, noisy = (
        replace(reader, noise=build.augmenter(Augment(noise=Noise(probability=share)), 8000)).read_batch(samples)
        for share in (0.0, 1.0)
    )
    assert torch.equal(noisy.clean, quiet.clean)
    assert torch.equal(noisy.lengths, quiet.lengths)
    visible = (noisy.features != 0) & (quiet.features != 0)
    assert (noisy.features != quiet.features)[visible].float().mean() > 0.9
    assert (noisy.features[noisy.masked] == 0).all()


def test_a_change_of_voice_is_in_both(reader: CorruptingReader, samples: list[Sample]) -> None:
    faster = replace(reader, voice=build.augmenter(Augment(speed=[1.25]), 8000)).read_batch(samples)
    assert (faster.lengths < reader.read_batch(samples).lengths).all()
    assert torch.equal(faster.features, faster.clean.masked_fill(faster.masked, 0.0))


def test_a_recording_is_corrupted_alike_in_any_batch(reader: CorruptingReader, samples: list[Sample]) -> None:
    noisy = replace(reader, noise=build.augmenter(Augment(noise=Noise(probability=0.5)), 8000))
    whole, alone = noisy.read_batch(samples), noisy.read_batch(samples[3:4])
    frames = int(alone.lengths[0])
    for name in ("features", "clean", "masked"):
        assert torch.equal(getattr(whole, name)[3, :frames], getattr(alone, name)[0, :frames]), name
        assert not getattr(whole, name)[3, frames:].any(), name


# ------------------------------------------------------------------------------- model and its errors


def model(frontend: Frontend | None = None, layers: int | None = None) -> DenoisingModel:
    frontend = frontend or Frontend(channels=(8, 8), strides=(2, 3))
    torch.manual_seed(1)
    return build.denoising(
        Model(frontend=frontend, encoder=Encoder(layers=2, hidden=5, dropout=0)), layers, input_dim=6
    )


@pytest.mark.parametrize("kind", ["conv1d", "conv2d", "vgg", "resnet", "inception"])
@pytest.mark.parametrize("strides", [(1,), (3,), (2, 2)])
def test_each_step_restores_the_frames_that_went_into_it(kind: str, strides: tuple[int, ...]) -> None:
    frontend = Frontend(kind=kind, channels=(4,) * len(strides), strides=strides)
    denoiser, subsampling = model(frontend).eval(), int(np.prod(strides))
    steps: list[Tensor] = []
    denoiser.encoder.register_forward_hook(lambda *arguments: steps.append(arguments[2]))
    weight, bias = denoiser.head.weight.view(subsampling, 6, -1), denoiser.head.bias.view(subsampling, 6)
    for length in range(1, 2 * subsampling + 2):
        restored = denoiser(torch.randn(1, length, 6), torch.tensor([length]))[0]
        places = [divmod(frame, subsampling) for frame in range(length)]
        expected = [weight[place] @ steps[-1][0, step] + bias[place] for step, place in places]
        torch.testing.assert_close(restored, torch.stack(expected))
        assert steps[-1].shape[1] == places[-1][0] + 1


def test_errors_are_what_a_loop_over_all_values_finds() -> None:
    rng = np.random.default_rng(1)
    lengths = [4, 0, 2]
    restored, clean = rng.normal(size=(2, 3, 5, 2))
    masked = rng.random((3, 5, 2)) < 0.4
    sums = {True: [0.0, 0], False: [0.0, 0]}
    for row, length in enumerate(lengths):
        for frame in range(length):
            for bin_ in range(2):
                place = row, frame, bin_
                sums[bool(masked[place])][0] += (restored[place] - clean[place]) ** 2
                sums[bool(masked[place])][1] += 1
    found = squared_errors(*map(torch.from_numpy, (restored, clean, masked)), torch.tensor(lengths))
    assert found.masked.item() == pytest.approx(sums[True][0], rel=1e-6)
    assert found.visible.item() == pytest.approx(sums[False][0], rel=1e-6)
    assert (found.masked_values.item(), found.visible_values.item()) == (sums[True][1], sums[False][1])
    (masked_sum, masked_count), (visible_sum, visible_count) = sums[True], sums[False]
    mean = (masked_sum + VISIBLE_WEIGHT * visible_sum) / (masked_count + VISIBLE_WEIGHT * visible_count)
    assert found.mean.item() == pytest.approx(mean, rel=1e-6)


@pytest.mark.parametrize("extra", [1, 2, 7, 30])
def test_padding_changes_neither_loss_nor_gradients(extra: int) -> None:
    generator = torch.Generator().manual_seed(extra)
    lengths = torch.tensor([17, 5, 12])
    features, clean = torch.randn(2, 3, 17, 6, generator=generator)
    masked = torch.rand(3, 17, 6, generator=generator) < 0.3
    found = []
    for padding in (0, extra):
        padded = [
            torch.cat([x, torch.full((3, padding, 6), fill, dtype=x.dtype)], dim=1)
            for x, fill in ((features, 9.0), (clean, -7.0), (masked, True))
        ]
        for row, length in enumerate(lengths):  # whatever stands there
            padded[0][row, length:] = 100.0 * padding
            padded[1][row, length:] = -50.0 * padding
        denoiser = model().train()
        mean = squared_errors(denoiser(padded[0], lengths), padded[1], padded[2], lengths).mean
        mean.backward()
        found.append((mean.detach(), {name: p.grad for name, p in denoiser.named_parameters()}))
    (alone, gradients), (with_padding, others) = found
    torch.testing.assert_close(with_padding, alone)
    for name, gradient in gradients.items():
        torch.testing.assert_close(others[name], gradient, atol=1e-6, rtol=1e-4, msg=name)
        assert gradient.abs().sum() > 0, name


def test_it_does_better_than_the_mean(path: Path, tmp_path: Path) -> None:
    """Tones are constant for 0.15 s, so that a span of 0.04 s can be told from what surrounds it."""
    recipe = read_recipe(
        path, [*SETTINGS, PRETRAIN, "pretrain.epochs=3", "pretrain.learning_rate=0.03", "pretrain.mask_span=4"]
    )
    work = pipeline.workspace(recipe, tmp_path / "run", tmp_path / "data", Silent())
    stages.prepare(work)
    stages.tokens(work)
    job = pretraining.job(work)
    task = denoising.DenoisingTask(job)
    with torch.no_grad():
        for parameter in job.model.head.parameters():
            parameter.zero_()
    mean = task.validate()
    assert mean.loss == pytest.approx(1, abs=0.1)
    other_voices = replace(job.reader, voice=build.augmenter(Augment(speed=[0.8]), 8000))
    assert denoising.DenoisingTask(replace(job, reader=other_voices)).validate() == mean
    restored = denoising.train(job, Silent()).dev
    assert restored.loss < 0.8 * mean.loss
    assert restored.masked < 0.8 * mean.masked
    assert restored.visible < 0.6 * mean.visible
    batch = next(iter(task.epoch(1, 0).batches))
    loss = task.loss(batch, nullcontext())
    total = {name: float(value) for name, value in loss.sums.items()}
    assert task.figures(total)["train_restoration"] == pytest.approx(loss.mean.item(), rel=1e-5)


# --------------------------------------------------------------------------------- the stage, as a whole


def test_the_training_begins_with_what_was_learnt(
    path: Path, tmp_path: Path, finished: tuple[Path, Recorder]
) -> None:
    settings = (*SETTINGS, "model.encoder.layers=2", PRETRAIN)
    found = {}
    for layers in ("1", "null"):
        recipe = read_recipe(path, [*settings, f"pretrain.layers={layers}"])
        work = pipeline.workspace(recipe, tmp_path / f"run-{layers}", tmp_path / "data", Silent())
        stages.prepare(work)
        stages.tokens(work)
        pretraining.pretrain(work)
        stored = load_file(work.pretrained)
        weights = stages.training_job(work).acoustic.state_dict()
        for name, tensor in stored.items():
            assert torch.equal(weights[name], tensor), name
        found[layers] = stored, weights
    plain = read_recipe(path, [*settings, "pretrain=null"])
    new = stages.training_job(replace(work, recipe=plain)).acoustic.state_dict()
    shallow, weights = found["1"]
    second = {name for name in new if name.startswith("encoder.layers.1.")}
    heads = {"head.linear.weight", "head.linear.bias"}
    assert new.keys() - shallow.keys() == second | heads
    assert new.keys() - found["null"][0].keys() == heads
    assert all(torch.equal(weights[name], new[name]) for name in second | heads)
    assert not torch.equal(weights["frontend.blocks.0.conv.conv.weight"], new["frontend.blocks.0.conv.conv.weight"])
    said = finished[1].said
    assert "[4/7] pretrain" in said
    taken = next(message for message in said if "of them pretrained" in message)
    assert "the front-end and 1 of 1 recurrent layers" in taken


def test_without_it_nothing_is_different(path: Path, tmp_path: Path) -> None:
    reporter = Recorder()
    run(path, tmp_path / "run", "pretrain=null", reporter=reporter)
    assert "[4/6] train" in reporter.said
    assert not any("pretrain" in message for message in reporter.said)
    assert not (tmp_path / "run" / "pretrain").exists()
    with pytest.raises(ConfigError, match=r"pretrain\.epochs: None there, 2 now"):  # the training would be another
        run(path, tmp_path / "run")
    names = [stage.name for stage in pipeline.stages_of(read_recipe(path))]
    assert names == ["prepare", "check", "tokens", "train", "evaluate", "package"]


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (["training.rates={encoder.layers.9: 0.1}"], "no part 'encoder.layers.9'"),
        (["training.rates={encoder: 0}", "training.unfreeze={encoder: 1}"], "has the rate 0"),
        (["training.unfreeze={frontend: 2, encoder: 2, head: 2}"], "every part of the model is frozen"),
    ],
)
def test_parts_that_cant_learn_are_told_before_anything_runs(
    path: Path, tmp_path: Path, settings: list[str], told: str
) -> None:
    with pytest.raises(ConfigError, match=re.escape(told)):
        run(path, tmp_path / "run", *settings, "training.epochs=2")
    assert not (tmp_path / "run" / "pretrain").exists()


def test_a_second_run_does_nothing_again(path: Path, finished: tuple[Path, Recorder]) -> None:
    folder, _ = finished
    again = Recorder()
    run(path, folder, reporter=again)
    assert "[4/7] pretrain: done before" in again.said
    assert again.steps == 0
    assert json.loads((folder / "results.json").read_text())["stages"]["pretrain"] > 0
    entries = log.read(folder / "pretrain")
    assert [entry["epoch"] for entry in entries] == [1, 2]
    page = (folder / "pretrain" / "report.html").read_text(encoding="utf-8")
    assert "Error of restoration" in page
    assert "nats per label" not in page
    with pytest.raises(SystemExit) as ended:
        main(["report", str(folder / "pretrain")])
    assert ended.value.code == 0
    assert (folder / "pretrain" / "report.html").read_text(encoding="utf-8") == page


def test_a_cut_off_start_resumes_exactly(path: Path, finished: tuple[Path, Recorder], tmp_path: Path) -> None:
    reporter = Recorder(finished[1].steps // 4)
    with pytest.raises(InterruptedTrainingError):
        run(path, tmp_path / "run", "training.workers=1", reporter=reporter)
    assert not (tmp_path / "run" / "pretrain" / "final.safetensors").exists()
    run(path, tmp_path / "run", "training.workers=1")
    for name in ("pretrain/final.safetensors", "model/model.safetensors"):
        expected = load_file(finished[0] / name)
        assert all(torch.equal(tensor, expected[key]) for key, tensor in load_file(tmp_path / "run" / name).items())
    for name in ("pretrain", "train"):
        before, after = (without_times(log.read(folder / name)) for folder in (finished[0], tmp_path / "run"))
        assert after == before


def test_other_settings_are_another_start(path: Path, finished: tuple[Path, Recorder], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with pytest.raises(InterruptedTrainingError):  # before the training has begun
        run(path, folder, reporter=Recorder(3))
    with pytest.raises(ConfigError, match=r"pretrain\.mask_span: \S+ there, 5 now"):
        run(path, folder, "pretrain.mask_span=5")
    run(path, folder, "pretrain.mask_span=5", "pretrain.epochs=1", overwrite=True)
    assert [entry["epoch"] for entry in log.read(folder / "pretrain")] == [1]


def test_layers_that_take_no_part_make_no_other_start(path: Path, tmp_path: Path) -> None:
    starts = {
        layers: pipeline.fingerprint_of("pretrain", work)
        for layers in ((1, 2), (1, 3), (2, 2), (2, 3), (None, 2), (None, 3))
        for settings in [(f"pretrain={{layers: {layers[0] or 'null'}}}", f"model.encoder.layers={layers[1]}")]
        for recipe in [read_recipe(path, [*SETTINGS, *settings])]
        for work in [pipeline.workspace(recipe, tmp_path / "run", tmp_path / "data", Recorder())]
    }
    assert starts[1, 2] == starts[1, 3] != starts[2, 2] == starts[2, 3] == starts[None, 2] != starts[None, 3]


def test_a_start_of_which_nothing_is_known_is_not_overwritten(
    path: Path, finished: tuple[Path, Recorder], tmp_path: Path
) -> None:
    """Nor does the training go on with another one, when asked to."""
    folder, first = finished[0], finished[1]
    other = Path(shutil.copytree(folder, folder.with_name("other")))
    (other / "stages" / "pretrain.json").write_bytes(b'{"started": "01')
    with pytest.raises(ConfigError, match=r"pretrain\.json: this record of the stage pretrain is damaged"):
        run(path, other)
    anew = Recorder()
    run(path, other, reporter=anew, overwrite=True)
    assert anew.steps == first.steps
    assert (other / "pretrain" / "final.safetensors").is_file()


def test_weights_that_are_damaged_or_of_another_model(finished: tuple[Path, Recorder], tmp_path: Path) -> None:
    weights = tmp_path / "final.safetensors"
    shutil.copy(finished[0] / "pretrain" / "final.safetensors", weights)
    other = build.acoustic(Model(), 16, 4)
    with pytest.raises(ModelError, match="of another model: encoder"):
        denoising.take_over(other, weights)
    weights.write_bytes(weights.read_bytes()[:-10])
    with pytest.raises(ModelError, match="can't be read"):
        denoising.take_over(other, weights)
    weights.unlink()
    with pytest.raises(ModelError, match="can't be read"):
        denoising.take_over(other, weights)


def test_trials_are_of_new_models(path: Path, tmp_path: Path) -> None:
    recipe = read_recipe(path, [*SETTINGS, PRETRAIN])
    assert len(preflight.find_learning_rate(recipe, tmp_path, Silent(), 1e-5, 1e-2, 3).points) == 3


# ------------------------------------------------------------------------- recordings without transcripts


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A long recording, a short one, and what is none."""
    rng = np.random.default_rng(1)
    place = tmp_path / "radio"
    (place / "inner").mkdir(parents=True)
    for name, seconds in (("long.wav", 2.5 * untranscribed.PIECE_SECONDS), ("inner/short.flac", 1.0)):
        soundfile.write(place / name, 0.1 * rng.standard_normal(round(8000 * seconds)), 8000)
    (place / "notes.txt").write_text("not a sound", encoding="utf-8")
    return place


def test_recordings_are_found_in_a_folder_and_long_ones_are_cut(folder: Path) -> None:
    found = untranscribed.find(folder)
    assert [utterance.audio.name for utterance in found] == ["short.flac", "long.wav"]
    assert [utterance.duration for utterance in found] == [1.0, 2.5 * untranscribed.PIECE_SECONDS]
    assert untranscribed.find(folder / "long.wav") == found[1:]
    short, *pieces = untranscribed.in_pieces(found)
    assert short == found[0]
    assert [piece.duration for piece in pieces] == [2.5 * untranscribed.PIECE_SECONDS / 3] * 3
    joined = np.concatenate([audio.load(piece.source, 8000) for piece in pieces])
    assert np.array_equal(joined, audio.load(folder / "long.wav", 8000))


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_recordings_whose_names_no_manifest_can_hold_are_told(folder: Path) -> None:
    name = b"caf\xe9.wav".decode(errors="surrogateescape")  # Latin-1, as in old archives
    (folder / "long.wav").rename(folder / name)
    with pytest.raises(DataError, match=r"1 of 2 recordings are not UTF-8\n.*caf\\udce9\.wav.*\n  try: rename"):
        untranscribed.find(folder)
    assert len(untranscribed.recordings(folder)) == 2  # which stand in no manifest


def test_recordings_in_shards_are_heard_once_each(folder: Path) -> None:
    """They are read as wholes, so pieces of them would all be the same."""
    (long,) = untranscribed.find(folder / "long.wav")
    sharded = replace(long, member=Member(folder / "x.tar", "long.wav", 0, 1))
    assert list(untranscribed.in_pieces([sharded])) == [sharded]


def test_pieces_of_an_mp3_are_of_what_sounds(tmp_path: Path) -> None:
    """Whose header, without a length, lets one guess more than there is."""
    rng = np.random.default_rng(1)
    sound = np.concatenate((np.zeros(8000 * 30), 0.3 * rng.standard_normal(8000 * 10))).astype(np.float32)
    write_mp3_without_length(tmp_path / "radio.mp3", sound, 8000)
    assert audio.read_header(tmp_path / "radio.mp3").duration > 45
    pieces = list(untranscribed.in_pieces(untranscribed.find(tmp_path)))
    assert sum(piece.duration for piece in pieces) == pytest.approx(40, abs=0.2)
    assert len(audio.load(pieces[-1].source, 8000)) == pytest.approx(8000 * pieces[-1].duration, abs=8000 * 0.2)


def test_recordings_of_the_corpus_are_left_out(folder: Path) -> None:
    found = untranscribed.find(folder)
    known = [replace(found[0], audio=folder / "inner" / ".." / "inner" / "short.flac")]
    assert untranscribed.without(found, known) == [found[1]]


def test_a_manifest_needs_no_texts(folder: Path, tmp_path: Path) -> None:
    manifest = tmp_path / "radio.jsonl"
    manifest.write_text('{"audio_filepath": "radio/long.wav", "duration": 37.5}\n', encoding="utf-8")
    (utterance,) = untranscribed.find(manifest)
    assert utterance == Utterance(tmp_path / "radio" / "long.wav", 37.5, "")
    with pytest.raises(DataError, match="no text"):
        read_manifest(manifest)


def test_what_cannot_be_heard_is_named(folder: Path) -> None:
    for name in ("a.wav", "b.flac"):
        (folder / name).write_bytes(b"no sound")
    with pytest.raises(DataError, match=r"2 of 4 recordings") as raised:
        untranscribed.find(folder)
    assert "a.wav" in str(raised.value)
    assert "b.flac" in str(raised.value)


def command(path: Path, folder: Path, *settings: str) -> int:
    arguments = ["train", str(path), *SETTINGS, "training.epochs=1", PRETRAIN, *settings]
    with pytest.raises(SystemExit) as exit:
        main([*arguments, "--run-dir", str(folder / "run"), "--data-dir", str(folder / "data")])
    return int(exit.value.code or 0)


def test_the_command_hears_a_folder_too(
    path: Path,
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sound, rate = soundfile.read(folder / "long.wav")
    soundfile.write(folder / "long.wav", sound[:-1], rate)  # in pieces of which four digits don't tell the length
    train, jobs = denoising.train, []
    monkeypatch.setattr(denoising, "train", lambda job, reporter: jobs.append(job) or train(job, reporter))
    shutil.copytree(path.parent / "corpus" / "test", folder / "test")
    corpus = tmp_path / "corpus"
    for name in ("train", "dev"):
        write_manifest(corpus / f"{name}.jsonl", read_manifest(path.parent / "corpus" / f"{name}.jsonl"))
    tested = read_manifest(path.parent / "corpus" / "test.jsonl")
    write_manifest(
        corpus / "test.jsonl", [replace(each, audio=folder / "test" / each.audio.name) for each in tested]
    )
    mine = corpus / "recipe.yaml"
    mine.write_text(path.read_text(encoding="utf-8").replace("corpus/", ""), encoding="utf-8")
    assert command(mine, tmp_path, f"pretrain.audio={folder}", "pretrain.epochs=1") == 0
    said = capsys.readouterr().err
    assert f"12 of the recordings in {folder} are in the corpus already" in said
    assert "44 recordings" in said  # 40 of the corpus, 1 short one, 3 pieces
    listed = read_manifest(tmp_path / "run" / "pretrain" / "audio.jsonl", transcribed=False)
    assert [each.audio.name for each in listed] == ["short.flac", *["long.wav"] * 3]
    assert jobs[0].train[-4:] == listed  # as one that was cut off would go on with
    write_manifest(corpus / "later.jsonl", [replace(listed[0], text="low")])
    tests = f"prepare.tests={{test: {corpus / 'test.jsonl'}, later: {corpus / 'later.jsonl'}}}"
    assert command(mine, tmp_path, f"pretrain.audio={folder}", "pretrain.epochs=1", tests) == 0
    said = capsys.readouterr().err
    assert "warning: 1 recording of the test sets is among those that pretrain has heard: remove" in said


@pytest.fixture
def wrong(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "empty").mkdir()
    yield tmp_path


@pytest.mark.parametrize(
    ("setting", "code", "message"),
    [
        ("pretrain.audio={wrong}/nowhere", 1, "neither a folder nor a manifest is there"),
        ("pretrain.audio={wrong}/empty", 1, "no recordings here"),
        ("training.init_from=model", 2, "pretrain and training.init_from both say what to begin with"),
        ("pretrain.layers=2", 2, "pretrain.layers is 2, but model.encoder.layers only 1"),
        ("features.normalization=none", 2, "pretrain needs features.normalization utterance or global"),
        ("pretrain.mask_share=1", 2, "pretrain.mask_share: should be below 1"),
        ("pretrain.layer=1", 2, "there is no such key (did you mean layers?)"),
    ],
)
def test_what_is_wrong_is_said(
    path: Path, wrong: Path, capsys: pytest.CaptureFixture[str], setting: str, code: int, message: str
) -> None:
    assert command(path, wrong, setting.format(wrong=wrong)) == code
    said = capsys.readouterr().err
    assert message in said
    assert "Traceback" not in said
