"""Batches: the same numbers whoever computes the features and however many processes read."""

from __future__ import annotations

import ctypes
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch
import torch.distributed as dist
from recorder import Recorder
from tones import SETTINGS, write_recipe
from torch.utils.data._utils.pin_memory import pin_memory

from asr import build, pipeline, stages
from asr.augment import Silence
from asr.config import Frontend, Model
from asr.data.batching import Sample, plan_epoch, plan_in_order
from asr.data.checks import check_recordings, check_sets
from asr.data.loading import Batch, Loader, Reader, join, lost_workers_named
from asr.data.manifest import Utterance, read_manifest, write_manifest
from asr.errors import AudioError, DataError, ExhaustedError
from asr.model.ctc import ctc_loss
from asr.recipe_file import read_recipe
from asr.text.normalize import Normalizer
from asr.workspace import Workspace

AUGMENT = (
    "augment={speed: [0.9, 1.1], noise: {}, reverb: {}, gain_db: [-6, 6],"
    " spec_augment: {freq_width: 4, time_width: 8}, concatenate: {max_utterances: 3}}",
)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recipe(tmp_path_factory.mktemp("tones"))


@pytest.fixture(scope="module")
def reader(path: Path) -> Reader:
    recipe = read_recipe(path, [*SETTINGS, *AUGMENT])
    train = read_manifest(recipe.prepare.train)
    return Reader(
        recipe.features.sample_rate,
        build.features(recipe.features),
        build.normalizer(recipe.text),
        build.tokens(recipe.tokens, [utterance.text for utterance in train]),
        augmenter=build.augmenter(recipe.augment, recipe.features.sample_rate),
        spec_augment=build.spec_augment(recipe.augment),
    )


@pytest.fixture(scope="module")
def plan(path: Path) -> list[list[Sample]]:
    recipe = read_recipe(path, [*SETTINGS, *AUGMENT])
    train = read_manifest(recipe.prepare.train)
    join = build.concatenation(recipe.augment)
    return plan_epoch(train, batch_seconds=10, seed=1, epoch=1, concatenation=join)


def assert_equal(first: Batch, second: Batch) -> None:
    assert first.samples == second.samples
    for name in ("inputs", "lengths", "targets", "target_lengths"):
        assert torch.equal(getattr(first, name), getattr(second, name)), name


def test_processes_change_nothing(reader: Reader, plan: list[list[Sample]]) -> None:
    batches = [list(Loader(reader, workers)(plan)) for workers in (0, 1, 2)]
    assert len(batches[0]) == len(plan)
    for alone, one, two in zip(*batches, strict=True):
        assert_equal(alone, one)
        assert_equal(alone, two)


@pytest.mark.skipif(sys.platform == "win32", reason="nothing is forked there")
@pytest.mark.filterwarnings("ignore:'pin_memory' argument is set as true but no accelerator")
def test_beside_other_processes_with_gpus_nothing_is_forked(
    reader: Reader, plan: list[list[Sample]], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(dist, "is_initialized", lambda: True)
        loader = Loader(reader, workers=1, device=torch.device("cuda"))
    assert loader._loader.multiprocessing_context.get_start_method() == "forkserver"
    for there, here in zip(loader(plan), Loader(reader)(plan), strict=True):
        assert_equal(there, here)


def test_a_loader_reads_one_plan_after_another(reader: Reader, plan: list[list[Sample]]) -> None:
    loader = Loader(reader, workers=1)
    for part in (plan[:2], plan[2:], plan):
        assert [batch.samples for batch in loader(part)] == [tuple(samples) for samples in part]


def test_a_loader_reads_before_it_is_asked(reader: Reader, plan: list[list[Sample]], tmp_path: Path) -> None:
    loader = Loader(Witness(reader, tmp_path), workers=1)
    batches = loader(plan)
    deadline = time.monotonic() + 60
    while not any(tmp_path.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert any(tmp_path.iterdir())
    next(batches)
    assert [batch.samples for batch in loader(plan[1:])] == [tuple(samples) for samples in plan[1:]]


@dataclass(frozen=True)
class Witness:
    """A reader that leaves a file in a folder for each batch that it has read."""

    reader: Reader
    folder: Path

    def read_batch(self, samples: Sequence[Sample]) -> Batch:
        batch = self.reader.read_batch(samples)
        (self.folder / samples[0].utterances[0].source.name).touch()
        return batch


@pytest.mark.parametrize("workers", [0, 1])
def test_a_recording_that_went_missing_is_named(reader: Reader, tmp_path: Path, workers: int) -> None:
    gone = Utterance(tmp_path / "gone.wav", 1.0, "low")
    with pytest.raises(AudioError, match=r"^\S*gone.wav: there is no such file") as raised:
        list(Loader(reader, workers)([[Sample((gone,))]]))
    assert "Traceback" not in str(raised.value)


def test_more_workers_than_cores_are_warned_of_in_words_and_once(
    path: Path, reader: Reader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def prepared(work: Workspace) -> None:
        stages.tokens(work)
        stages.training_job(work)

    Loader(reader, workers=99)  # of which torch would warn, and warnings are errors here
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    assert stage(path, tmp_path / "run", prepared, "training.workers=3").warned == [
        "training.workers=3, on 2 cores: fewer processes would read as much, and leave more to the training"
    ]
    assert stage(path, tmp_path / "other", prepared, "training.workers=2").warned == []


def test_workers_that_an_error_leaves_behind_end_with_the_program(reader: Reader, plan: list[list[Sample]]) -> None:
    program = """
import pickle, sys
from asr.data.loading import Loader
reader, plan = pickle.load(sys.stdin.buffer)
batches = Loader(reader, workers=1)(plan)
next(batches)
me = [batches]; me.append(me)  # so that it is there until the end
raise SystemExit(3)
"""
    result = subprocess.run(
        [sys.executable, "-c", program], input=pickle.dumps((reader, plan)), capture_output=True, timeout=300
    )
    assert (result.returncode, result.stderr) == (3, b"")


SHARED = "too little shared memory for the processes that read data"


ENDLESS = """
import multiprocessing, signal
from asr.data.loading import Loader

class Reader:
    def read_batch(self, samples):
        return list(range(100_000))  # more than a pipe holds

if __name__ == "__main__":
    batches = Loader(Reader(), workers=2)([[]] * 1000)
    next(batches)
    print(*(process.pid for process in multiprocessing.active_children()), flush=True)
    signal.pause()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGKILL")
def test_workers_end_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    (tmp_path / "endless.py").write_text(ENDLESS, encoding="utf-8")
    with subprocess.Popen([sys.executable, tmp_path / "endless.py"], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        workers = list(map(int, parent.stdout.readline().split()))
        assert len(workers) == 2
        parent.kill()
        try:
            parent.communicate(
                timeout=30
            )  # which ends when nobody can write there any more: it waits for them, too
        except subprocess.TimeoutExpired:
            for worker in workers:
                os.kill(worker, signal.SIGKILL)
            raise


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("DataLoader worker (pid 7) is killed by signal: Killed. ", r"reads data was killed \(Killed\)\n.*workers"),
        ("DataLoader worker (pid(s) 7, 8) exited unexpectedly", "a process that reads data has ended"),
        ("DataLoader worker (pid 7) is killed by signal: Bus error. It is …", f"{SHARED}\n.*--shm-size"),
        ("unable to allocate shared memory(shm) for file </torch_7_8_0>: No space left on device (28)", SHARED),
    ],
)
def test_workers_that_were_killed_are_named(said: str, expected: str) -> None:
    with pytest.raises(ExhaustedError, match=expected), lost_workers_named():
        raise RuntimeError(said)
    with pytest.raises(RuntimeError, match="sizes of tensors"), lost_workers_named():
        raise RuntimeError("Caught RuntimeError in DataLoader worker process 0.\nsizes of tensors must match")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has other signals")
def test_signals_do_not_end_workers_that_are_starting(reader: Reader, plan: list[list[Sample]]) -> None:
    """On macOS and Windows they begin as new programs, which take seconds until they can ignore one."""
    program = """
import multiprocessing, os, pickle, signal, sys
from asr.data.loading import Loader

class Plan(list):
    def __iter__(self):
        signal.raise_signal(signal.SIGINT)  # while the workers are started
        return super().__iter__()

multiprocessing.set_start_method("spawn")
reader, plan = pickle.load(sys.stdin.buffer)
numbers, noted = [signal.SIGINT, signal.SIGTERM], []
for number in numbers:
    signal.signal(number, lambda number, _: noted.append(number))
batches = Loader(reader, workers=1)(Plan(plan))
(worker,) = multiprocessing.active_children()
for number in numbers:
    os.kill(worker.pid, number)
assert noted == [signal.SIGINT]
signal.raise_signal(signal.SIGTERM)
assert noted == numbers
assert len(list(batches)) == len(plan)
"""
    result = subprocess.run(
        [sys.executable, "-c", program], input=pickle.dumps((reader, plan)), capture_output=True, timeout=300
    )
    assert result.returncode == 0, result.stderr.decode()


def test_on_windows_ctrl_c_is_kept_from_workers_that_are_starting(
    reader: Reader, plan: list[list[Sample]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """They inherit that it is ignored; the console is a stand-in."""
    calls: list[tuple[None, bool]] = []
    kernel = SimpleNamespace(SetConsoleCtrlHandler=lambda *arguments: calls.append(arguments))
    loader = Loader(reader)
    with monkeypatch.context() as windows:
        windows.setattr(sys, "platform", "win32")
        windows.setattr(ctypes, "windll", SimpleNamespace(kernel32=kernel), raising=False)
        loader(plan)
    assert calls == [(None, True), (None, False)]


def test_features_of_the_batch_equal_those_of_each_utterance(reader: Reader, plan: list[list[Sample]]) -> None:
    for samples in plan:
        one_by_one = reader.read_batch(samples)
        together = replace(reader, on_device=True).read_batch(samples)
        assert together.inputs.ndim == 2
        features, lengths = together.features(reader.extractor)
        assert torch.equal(lengths, one_by_one.lengths)
        time = int(lengths.max())
        torch.testing.assert_close(features[:, :time], one_by_one.inputs[:, :time], atol=1e-4, rtol=1e-4)
        assert (features == 0).sum() > (lengths.max() - lengths).sum() * features.shape[2]  # the masks are there


@pytest.mark.parametrize("on_device", [False, True])
def test_two_views_differ_by_their_masks_only(reader: Reader, plan: list[list[Sample]], on_device: bool) -> None:
    one, two = (replace(reader, on_device=on_device, views=views).read_batch(plan[0]) for views in (1, 2))
    rows = len(plan[0])
    (once, _), (twice, _) = (batch.features(reader.extractor) for batch in (one, two))
    first, second = twice[:rows], twice[rows:]
    assert torch.equal(first, once)
    assert not torch.equal(first, second)
    masked = (first == 0) | (second == 0)
    assert torch.equal(first.where(~masked, 0.0), second.where(~masked, 0.0))
    for name in ("lengths", "targets", "target_lengths"):
        assert torch.equal(getattr(two, name), torch.cat([getattr(one, name)] * 2)), name
    assert two.samples == one.samples


def test_labels_are_those_of_all_joined_utterances(reader: Reader, plan: list[list[Sample]]) -> None:
    batch = reader.read_batch(plan[0])
    for row, sample in enumerate(plan[0]):
        labels = batch.targets[row, : batch.target_lengths[row]].tolist()
        assert reader.tokenizer.decode(labels) == " ".join(part.text for part in sample.utterances)


def test_without_augmentation_a_sample_is_its_recording(reader: Reader, plan: list[list[Sample]]) -> None:
    utterance = plan[0][0].utterances[0]
    plain = replace(reader, augmenter=None, spec_augment=None)
    found = plain.waveform(Sample((utterance,)), np.random.default_rng(1))
    np.testing.assert_allclose(found, soundfile.read(utterance.audio)[0], atol=1e-6)


def test_a_sample_has_its_silence_around_all_of_it(reader: Reader, plan: list[list[Sample]]) -> None:
    plain = replace(reader, augmenter=None)
    sample = max((sample for batch in plan for sample in batch), key=lambda sample: len(sample.utterances))
    assert len(sample.utterances) > 1
    silent = replace(sample, silence=Silence(0.25, 0.5, 40.0, seed=1))
    alone, heard = (plain.waveform(each, np.random.default_rng(1)) for each in (sample, silent))
    rate = plain.sample_rate
    np.testing.assert_array_equal(heard[rate // 4 : -rate // 2], alone)
    assert len(heard) == pytest.approx(silent.duration * rate, abs=len(sample.utterances) + 2)


def test_silence_alone_is_read_as_noise_without_labels(reader: Reader, plan: list[list[Sample]]) -> None:
    silent = Sample((), silence=Silence(0.4, 0.0, 40.0, seed=1))
    batch = reader.read_batch([*plan[0], silent])
    assert batch.texts[-1] == ""
    assert batch.target_lengths[-1] == 0
    frames = batch.inputs[-1, : batch.lengths[-1]]
    assert len(frames) > 20
    assert frames.std() > 0


def test_joined_waveforms_have_their_pauses_as_quiet_as_the_recordings() -> None:
    rng = np.random.default_rng(1)
    loud = np.concatenate([np.full(800, 0.5), rng.normal(0, 1e-3, 800)]).astype(np.float32)
    joined = join([loud, loud, loud], [0.1, 0.05], 8000, rng)
    assert len(joined) == 3 * 1600 + 800 + 400
    np.testing.assert_array_equal(joined[:1600], loud)
    np.testing.assert_array_equal(joined[2400:4000], loud)
    assert 5e-4 < joined[1600:2400].std() < 2e-3


def test_checks_report_every_fault_by_file(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)  # so that nothing can read one of them
    recipe = read_recipe(path, SETTINGS)
    good = read_manifest(recipe.prepare.train)
    (tmp_path / "page.wav").write_text("<!doctype html><p>Sign in")
    cut_off = tmp_path / "cut_off.flac"
    soundfile.write(cut_off, np.random.default_rng(1).normal(0, 0.1, 40000), 8000)
    cut_off.write_bytes(cut_off.read_bytes()[:30000])
    (tmp_path / "memo.m4a").write_bytes(b"\0\0\0\x20ftypM4A " + bytes(1000))
    faulty = [
        Utterance(tmp_path / "memo.m4a", 1.0, "low"),
        Utterance(cut_off, 5.0, "low"),
        Utterance(tmp_path / "missing.wav", 1.0, "low"),
        Utterance(tmp_path / "page.wav", 1.0, "low"),
        replace(good[0], duration=good[0].duration + 1),
    ]
    with pytest.raises(DataError) as raised:
        check_sets({"train": [*good, *faulty], "dev": good[:1]}, build.normalizer(recipe.text))
    message = str(raised.value)
    assert message.startswith(f"5 of {len(good) + 6} recordings")
    for fault in faulty:
        assert str(fault.audio) in message


@pytest.mark.parametrize("off", [-0.3, -0.2, 0.2, 0.3])
def test_checks_refuse_durations_that_are_off_by_more_than_a_quarter_of_a_second(
    tmp_path: Path, off: float
) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(16000), 8000)
    sets = {"train": [Utterance(tmp_path / "a.wav", 2.0 + off, "low")]}
    if abs(off) < 0.25:
        check_recordings(sets)
    else:
        with pytest.raises(DataError, match=rf"a\.wav: the manifest says {2 + off:.2f} s, the file lasts 2\.00 s"):
            check_recordings(sets)


def test_checks_warn_of_tests_heard_in_training_and_of_empty_transcripts(path: Path) -> None:
    recipe = read_recipe(path, SETTINGS)
    train, test = read_manifest(recipe.prepare.train), read_manifest(recipe.prepare.tests["test"])
    normalizer = build.normalizer(recipe.text)
    summaries, warnings = check_sets({"train": train, "test": test}, normalizer)
    assert not warnings
    assert summaries["train"].utterances == 120
    assert summaries["train"].speakers == 4
    assert summaries["test"].words == sum(len(utterance.text.split()) for utterance in test)
    _, warnings = check_sets({"train": train, "test": [*test, train[3], replace(test[0], text="?")]}, normalizer)
    assert len(warnings) == 3
    assert str(train[3].audio) in warnings[0]
    assert str(test[0].audio) in warnings[2]
    assert warnings[2].startswith("1 transcript of test is empty")


def test_checks_warn_of_recordings_that_are_there_again(path: Path) -> None:
    train, dev, test = (
        read_manifest(path.parent / "corpus" / f"{name}.jsonl") for name in ("train", "dev", "test")
    )
    sets = {"train": [*train, train[0], train[0]], "dev": [*dev, train[1]], "test": [*test, dev[3], dev[2]]}
    _, warnings = check_sets({**sets, "few": test[:3]}, Normalizer())  # test sets may share recordings
    assert warnings == [
        f"2 recordings are in train more than once\n  {train[0].audio}\n  {train[0].audio}",
        f"1 recording is in train and in dev, so the figures of dev are too good\n  {train[1].audio}",
        "2 recordings are in dev and in test, so test does not measure what is chosen on dev\n"
        f"  {dev[3].audio}\n  {dev[2].audio}",
    ]


def test_a_set_in_which_nothing_is_said_is_refused(path: Path) -> None:
    train = read_manifest(path.parent / "corpus" / "train.jsonl")
    mute = [replace(each, text=text) for each, text in zip(train, ("", "?", "…"), strict=False)]
    with pytest.raises(DataError, match="all transcripts are empty: dev, noise"):
        check_sets({"train": train[:3], "dev": mute, "noise": mute, "test": [*mute, train[4]]}, Normalizer())


def test_checks_warn_of_long_recordings_with_hardly_any_text(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "long.flac", np.zeros(60 * 1000), 1000)
    soundfile.write(tmp_path / "digit.flac", np.zeros(9 * 1000), 1000)

    def warned(text: str, name: str = "long", seconds: int = 60) -> list[str]:
        return check_sets({"train": [Utterance(tmp_path / f"{name}.flac", seconds, text)]}, Normalizer())[1]

    assert warned("turn it on") == [
        "1 transcript of train can't be all that is said: less than a character in 3 s: "
        f"{tmp_path / 'long.flac'} (60 s, 'turn it on')"
    ]
    assert warned("a slow reader who pauses") == []  # 20 characters
    assert warned("1", "digit", 9) == []
    assert [len(warned(text)) for text in ("", "one")] == [1, 1]  # of an empty one only that it is empty


def stage(path: Path, folder: Path, which: Callable[[Workspace], None], *settings: str) -> Recorder:
    """What a stage says of a recipe's corpus."""
    recorder = Recorder()
    folder.mkdir()
    work = pipeline.workspace(read_recipe(path, [*SETTINGS, *settings]), folder, folder / "data", recorder)
    stages.prepare(work)
    which(work)
    return recorder


def test_the_check_tells_which_speakers_of_other_sets_are_trained_on(path: Path, tmp_path: Path) -> None:
    said = stage(path, tmp_path / "run", stages.check).said
    assert said[0].endswith(" words, 4 speakers")
    assert said[1].endswith(" words, 4 speakers (4 of them in train)")
    assert len(said) == 3
    train = read_manifest(path.parent / "corpus" / "train.jsonl")
    others = [replace(utterance, fields={"speaker": "another"}) for utterance in train]
    summaries, _ = check_sets({"train": train[:20], "test": others[20:]}, Normalizer())
    assert summaries["test"].trained_speakers == 0


def test_the_check_tells_what_is_removed_as_punctuation(tmp_path: Path) -> None:
    path = write_recipe(tmp_path, train=20)
    manifest = path.parent / "corpus" / "train.jsonl"
    train = read_manifest(manifest)
    texts = ["low.", "low, high?", "high 2.", *"!;:()[]{}", *(utterance.text for utterance in train[12:])]
    write_manifest(manifest, [replace(u, text=text) for u, text in zip(train, texts, strict=False)])
    said = stage(path, tmp_path / "run", stages.check, "text.keep_characters=','").said
    assert said[3:] == [
        "  removed as punctuation: “.” 2, “?” 1, “!” 1, “;” 1, “:” 1, “(” 1, “)” 1, “[” 1, “]” 1, “{” 1 and 1 more "
        "(text.keep_characters keeps them)",
        "  digits in 1 training transcript, learnt as they are written: "
        "text.replacements and text.patterns can have them written as they are spoken",
    ]


def test_tokens_tells_in_a_line_what_a_set_has_that_training_lacks(tmp_path: Path) -> None:
    path = write_recipe(tmp_path, train=20)
    manifest = path.parent / "corpus" / "dev.jsonl"
    dev = read_manifest(manifest)
    texts = ["low zz", "low zxy", "low q", "low", *(utterance.text for utterance in dev[4:])]
    write_manifest(manifest, [replace(u, text=text) for u, text in zip(dev, texts, strict=True)])
    assert stage(path, tmp_path / "run", stages.tokens, "tokens.kind=characters").warned[0] == (
        "dev: 4 characters are not in the training transcripts: z (3 times, as in “low zz”), "
        "x (1 time, as in “low zxy”), y (1 time, as in “low zxy”) and 1 more"
    )
    words = stage(path, tmp_path / "words", stages.tokens).warned[0]
    assert words.startswith("dev: 3 words are not in the training transcripts: zz (1 time, as in “low zz”)")


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"train": 1, "dev": 2, "tests": 3}', "\x00"])
def test_a_damaged_list_of_manifests_is_told(tmp_path: Path, content: str) -> None:
    path = write_recipe(tmp_path, train=4)
    work = pipeline.workspace(read_recipe(path, SETTINGS), tmp_path / "run", tmp_path / "data", Recorder())
    stages.prepare(work)
    assert set(work.manifests()) == {"train", "dev", "test"} and set(work.tests()) == {"test"}
    work.corpus_file.write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=r"corpus\.json: the list(.|\n)*delete this file"):
        work.manifests()


def test_a_dev_set_that_can_not_be_measured_is_refused(tmp_path: Path) -> None:
    path = write_recipe(tmp_path, train=20)
    manifest = path.parent / "corpus" / "dev.jsonl"
    write_manifest(manifest, [replace(u, text=f"{u.text} zzz") for u in read_manifest(manifest)])
    with pytest.raises(
        DataError, match="every utterance of the dev set has a word that no training transcript has"
    ):
        stage(path, tmp_path / "run", stages.tokens)


def test_tokens_tells_of_filters_that_hear_nothing(tmp_path: Path) -> None:
    path = write_recipe(tmp_path, train=20)
    warned = stage(
        path, tmp_path / "run", stages.tokens, "features={kind: mel, sample_rate: 8000, n_mels: 200}"
    ).warned
    assert warned == [
        "45 mel filters of 200 are too narrow to hear anything: a smaller features.n_mels would tell as much"
    ]


def test_the_loader_can_pin_all_of_a_batch(
    reader: Reader, plan: list[list[Sample]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """PyTorch leaves objects that it does not know, such as ours, where they are, and says nothing."""
    pinned = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: pinned.append(tensor) or tensor)
    batch = reader.read_batch(plan[0])
    assert_equal(pin_memory(batch), batch)
    assert [id(tensor) for tensor in pinned] == [
        id(tensor) for tensor in (batch.inputs, batch.lengths, batch.targets, batch.target_lengths)
    ]


def test_a_plan_in_order_reads_the_shortest_first(reader: Reader, path: Path) -> None:
    recipe = read_recipe(path, SETTINGS)
    plan = plan_in_order(read_manifest(recipe.prepare.dev), batch_seconds=5)
    lengths = [batch.lengths.max().item() for batch in Loader(replace(reader, augmenter=None))(plan)]
    assert lengths == sorted(lengths)


def test_a_recording_shorter_than_a_window_is_read_as_no_frames(reader: Reader, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "click.wav", np.full(80, 0.1), 8000)
    plain = replace(reader, augmenter=None, spec_augment=None)
    batch = plain.read_batch([Sample((Utterance(tmp_path / "click.wav", 0.01, "low"),))])
    assert batch.lengths.tolist() == [0]
    acoustic = build.acoustic(Model(frontend=Frontend(channels=(8,), strides=(2,))), plain.extractor.dim, 4)
    log_probs, lengths = acoustic(batch.inputs, batch.lengths)
    loss = ctc_loss(log_probs, lengths, batch.targets, batch.target_lengths)
    assert (lengths.tolist(), loss.infinite, loss.mean.item()) == ([0], 1, 0.0)
