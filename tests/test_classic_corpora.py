"""The classic corpora: their preparation, on miniatures in the official layouts; and the recipes for them."""

from __future__ import annotations

import hashlib
import inspect
import shutil
import tarfile
import threading
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import platformdirs
import pytest
import soundfile
from prepared_corpora import prepared, write

from asr import catalogue, stages
from asr.config import CORPORA, Recipe
from asr.data.batching import Sample
from asr.data.corpora import an4, common_voice, librispeech, speech_commands, yesno
from asr.data.corpora.download import Archive
from asr.data.corpora.prepared import write as write_prepared
from asr.data.corpora.registry import PREPARE
from asr.data.manifest import Utterance, write_manifest
from asr.errors import AsrError, DataError
from asr.pipeline import workspace
from asr.recipe_file import read_recipe
from asr.reporting import Silent
from asr.stages import corpus_inputs, learnt_inputs

Miniature = Callable[[Path], Path]


def pcm(seconds: float, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(-3000, 3000, round(16000 * seconds)).astype(np.int16)


def sound(path: Path, seconds: float = 1.0, rate: int = 16000) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, pcm(seconds)[: round(rate * seconds)], rate)


def pack(folder: Path, archive: Path) -> Path:
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(folder, folder.name)
    return archive


def texts(output: Path) -> dict[str, list[str]]:
    return {name: [each.text for each in utterances] for name, utterances in prepared(output).items()}


# -------------------------------------------------------------------------------------------------- yesno


def make_yesno(folder: Path) -> Path:
    """Of eight words each, as the official ones; 12 begin with no, 4 with yes."""
    for number in range(16):
        code = f"{number // 12}{number:04b}011"
        sound(folder / "waves_yesno" / f"{'_'.join(code)}.wav", 0.8, 8000)
    for stray in ("README~", "0_1_x.wav", "0_1_1_0_1_1_0_1 (copy).wav"):
        write(folder / "waves_yesno" / stray, "about")
    return folder / "waves_yesno"


def test_yesno(tmp_path: Path) -> None:
    yesno.prepare(make_yesno(tmp_path), tmp_path / "out")
    sets = prepared(tmp_path / "out")
    assert {name: len(utterances) for name, utterances in sets.items()} == {"train": 7, "dev": 5, "test": 4}
    (*_, last) = sets["test"]
    assert (last.audio.name, last.text) == ("1_1_1_1_1_0_1_1.wav", "yes yes yes yes yes no yes yes")
    with pytest.raises(DataError, match="holds 0 recordings of yesno"):
        (tmp_path / "empty").mkdir()
        yesno.prepare(tmp_path / "empty", tmp_path / "nothing")


def test_download_goes_into_the_cache_and_is_used_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    archive = pack(make_yesno(tmp_path), tmp_path / "waves_yesno.tar.gz")
    checksum = f"sha256:{hashlib.sha256(archive.read_bytes()).hexdigest()}"
    monkeypatch.setattr(platformdirs, "user_cache_path", lambda name: tmp_path / "cache" / name)
    monkeypatch.setattr(SimpleHTTPRequestHandler, "log_message", lambda *_: None)
    reports: list[tuple[object, ...]] = []
    handler = partial(SimpleHTTPRequestHandler, directory=tmp_path)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}/{archive.name}"
        monkeypatch.setattr(yesno, "ARCHIVE", Archive("yesno", url, "waves_yesno", checksum))
        yesno.prepare(None, tmp_path / "one", lambda *report: reports.append(report))
        server.shutdown()
        thread.join()
    yesno.prepare(None, tmp_path / "two")  # there is no server any more
    assert texts(tmp_path / "one") == texts(tmp_path / "two")
    assert prepared(tmp_path / "two")["dev"][0].audio.is_relative_to(tmp_path / "cache" / "asr" / "yesno")
    units = [report[2] for report in reports if len(report) == 3]
    assert list(dict.fromkeys(units)) == ["MB", "MB unpacked"]
    assert len(units) == len(reports) - 16


@pytest.mark.parametrize(
    ("setting", "fault"),
    [("training.device=cuda:7", "'cuda:7' can.t be used"), ("augment.noise.folder=nowhere", "no such folder")],
)
def test_what_a_training_lacks_is_told_before_the_corpus_is_got(setting: str, fault: str, tmp_path: Path) -> None:
    source = make_yesno(tmp_path)
    recipe = read_recipe(catalogue.shipped()["yesno"] / "recipe.yaml", [f"prepare.source={source}", setting])
    work = workspace(recipe, tmp_path / "run", tmp_path / "data", Silent())
    with pytest.raises(AsrError, match=fault):
        stages.prepare(work)
    assert not work.corpus.exists()


def test_a_corpus_whose_recordings_have_gone_names_the_folders_to_delete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platformdirs, "user_cache_path", lambda name: tmp_path / "cache" / name)
    unpacked = tmp_path / "cache" / "asr" / "yesno"
    source = make_yesno(unpacked)
    recipe = read_recipe(catalogue.shipped()["yesno"] / "recipe.yaml", [f"prepare.source={source}"])
    work = workspace(recipe, tmp_path / "run", tmp_path / "data", Silent())
    stages.prepare(work)
    gone = next(source.glob("*.wav"))
    gone.unlink()
    with pytest.raises(DataError, match="1 of 16 files with recordings") as raised:
        stages.check(work)
    assert f"  {gone}\n" in str(raised.value)
    assert f"delete {work.corpus} and {unpacked}, then" in str(raised.value)
    shutil.rmtree(unpacked)
    with pytest.raises(DataError, match=f"16 of 16 files(.|\n)*delete {work.corpus}, then"):
        stages.check(work)
    shutil.rmtree(work.corpus)
    make_yesno(unpacked)
    stages.prepare(work)
    stages.check(work)


def test_no_set_is_prepared_empty(tmp_path: Path) -> None:
    official = [Utterance(tmp_path / "a.wav", 1.0, "a", {})]
    with pytest.raises(DataError, match="no recordings for dev and other"):
        write_prepared(tmp_path / "out", official, [], {"test": official, "other": []})
    assert not (tmp_path / "out").exists()


# ---------------------------------------------------------------------------------------------------- AN4


def make_an4(folder: Path, form: str = "sph") -> Path:
    """Ten speakers for training, two for the test, of two utterances each; texts and paths as they are there."""
    root = folder / "an4"
    for name, place, speakers in (("train", "an4_clstk", "abcdefghij"), ("test", "an4test_clstk", "kl")):
        stems = [f"{place}/f{speaker}sh/cen{number}-f{speaker}sh-b" for speaker in speakers for number in (1, 2)]
        write(root / "etc" / f"an4_{name}.fileids", *stems)
        marks = ("<s> ", " </s>") if name == "train" else ("", "")
        names = [stem.split("/")[-1] for stem in stems]
        write(
            root / "etc" / f"an4_{name}.transcription",
            *(f"{marks[0]}P I T {each[3]}{marks[1]} ({each})" for each in names),
        )
        for seed, stem in enumerate(stems):
            path = root / "wav" / f"{stem}.{form}"
            path.parent.mkdir(parents=True, exist_ok=True)
            if form == "sph":
                soundfile.write(path, pcm(0.5, seed), 16000, format="NIST", subtype="PCM_16", endian="BIG")
            else:
                path.write_bytes(pcm(0.5, seed).astype(">i2").tobytes())
    return root


def test_an4(tmp_path: Path) -> None:
    an4.prepare(make_an4(tmp_path), 1, tmp_path / "out")
    sets = prepared(tmp_path / "out")
    assert {name: len(utterances) for name, utterances in sets.items()} == {"train": 18, "dev": 2, "test": 4}
    assert len({each.speaker for each in sets["train"]}) == 9
    first = sets["test"][0]
    assert (first.text, first.duration) == ("P I T 1", 0.5)
    assert first.fields == {"id": "cen1-fksh-b", "speaker": "fksh", "gender": "female"}


def test_an4_in_raw_big_endian_samples(tmp_path: Path) -> None:
    sounds = {}
    for form in ("sph", "raw"):
        an4.prepare(make_an4(tmp_path / form, form), 1, tmp_path / form / "out")
        sounds[form] = [
            soundfile.read(each.audio, dtype="int16") for each in prepared(tmp_path / form / "out")["test"]
        ]
    for seed, ((first, rate), (second, _)) in enumerate(zip(*sounds.values(), strict=True)):
        assert rate == 16000
        np.testing.assert_array_equal(first, pcm(0.5, seed))
        np.testing.assert_array_equal(second, pcm(0.5, seed))


def test_faults_of_an4(tmp_path: Path) -> None:
    root = make_an4(tmp_path)
    write(
        root / "etc" / "an4_test.transcription",
        "NO ID",
        "<s> </s> (cen1-fksh-b)",
        "ONE (cen9-fksh-b)",
        "TWO (cen2-flsh-b)",
    )
    (root / "wav" / "an4test_clstk" / "flsh" / "cen2-flsh-b.sph").unlink()
    with pytest.raises(DataError) as raised:
        an4.prepare(root, 1, tmp_path / "out")
    for part in (
        "4 entries",
        ":1: not TEXT (ID): NO ID",
        ":2: not TEXT (ID)",
        ":3: cen9-fksh-b is not in",
        "no such file",
    ):
        assert part in str(raised.value)


# -------------------------------------------------------------------------------------------- LibriSpeech


def make_librispeech(folder: Path) -> Path:
    for number, name in enumerate(librispeech.ARCHIVES):
        place = folder / "LibriSpeech" / name / str(number) / "7"
        sound(place / f"{number}-7-0000.flac")
        write(place / f"{number}-7.trans.txt", f"{number}-7-0000 FROM {name.upper()}")
    return folder / "LibriSpeech"


def test_librispeech_in_folders_and_in_archives(tmp_path: Path) -> None:
    root = make_librispeech(tmp_path)
    archives = tmp_path / "archives"
    archives.mkdir()
    for name in ("train-clean-5", "train-clean-100", "dev-clean", "test-other"):
        with tarfile.open(archives / f"{name}.tar.gz", "w:gz") as tar:
            tar.add(root / name, f"LibriSpeech/{name}")
    for source in (tmp_path, root, archives):
        output = tmp_path / f"out-{source.name}"
        librispeech.prepare(source, ("train-clean-100", "train-clean-5"), "dev-clean", ("test-other",), output)
        assert texts(output) == {
            "train": ["FROM TRAIN-CLEAN-100", "FROM TRAIN-CLEAN-5"],
            "dev": ["FROM DEV-CLEAN"],
            "test-other": ["FROM TEST-OTHER"],
        }
    (root / "dev-clean.tar.gz").write_bytes(b"what was unpacked")
    librispeech.prepare(root, ("train-clean-5",), "dev-clean", ("test-other",), tmp_path / "beside")
    assert texts(tmp_path / "beside")["dev"] == ["FROM DEV-CLEAN"]
    with pytest.raises(DataError, match="test-clean: there is no such folder"):
        librispeech.prepare(archives, ("train-clean-100",), "dev-clean", ("test-clean",), tmp_path / "out")
    with pytest.raises(DataError, match=rf"no such folder\n  try: give the folder above the sets: {root}$"):
        librispeech.prepare(
            root / "dev-clean", ("train-clean-100",), "dev-clean", ("test-other",), tmp_path / "out"
        )


def test_no_training_depends_on_the_sets_that_test_it() -> None:
    sections = [
        {"corpus": "librispeech", "tests": tests} for tests in (["test-clean"], ["test-clean", "test-other"])
    ]
    sections.append({"corpus": "librispeech", "train": ["train-clean-5"], "tests": ["test-clean"]})
    recipes = [Recipe.model_validate({"name": "libri", "prepare": section}) for section in sections]
    one, more, other = map(learnt_inputs, recipes)
    assert one == more != other
    one, more, _ = map(corpus_inputs, recipes)
    assert one != more


def test_published_checksums() -> None:
    """Those that torchaudio checks against."""
    module = pytest.importorskip("torchaudio.datasets.librispeech")
    theirs = {url.split("/")[-1].removesuffix(".tar.gz"): value for url, value in module._CHECKSUMS.items()}
    ours = {name: archive.checksum for name, archive in librispeech.ARCHIVES.items()}
    assert {name: f"sha256:{value}" for name, value in theirs.items()} == {name: ours[name] for name in theirs}
    config = pytest.importorskip("torchaudio.datasets.yesno")._RELEASE_CONFIGS["release1"]
    assert (yesno.ARCHIVE.url, yesno.ARCHIVE.checksum) == (config["url"], f"sha256:{config['checksum']}")
    words = pytest.importorskip("torchaudio.datasets.speechcommands")._CHECKSUMS
    assert speech_commands.ARCHIVE.checksum == f"sha256:{words[speech_commands.ARCHIVE.url]}"


# ---------------------------------------------------------------------------------------- Speech Commands


def make_speech_commands(folder: Path) -> Path:
    root = folder / "speech_commands"
    for word in ("yes", "no", "stop"):
        for speaker in ("0a7c2a8d", "1b88bf70", "2aca1e72"):
            sound(root / word / f"{speaker}_nohash_0.wav", 0.9)
    sound(root / "_background_noise_" / "running_tap.wav", 5)
    write(
        root / "validation_list.txt",
        "yes/1b88bf70_nohash_0.wav",
        "no/1b88bf70_nohash_0.wav",
        "stop/1b88bf70_nohash_0.wav",
    )
    write(root / "testing_list.txt", "yes/2aca1e72_nohash_0.wav", "no/2aca1e72_nohash_0.wav")
    return root


def test_speech_commands(tmp_path: Path) -> None:
    root = make_speech_commands(tmp_path)
    archive = tmp_path / "speech_commands_v0.02.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(root, ".")
    for source in (root, archive):
        speech_commands.prepare(source, tmp_path / "out")
        assert texts(tmp_path / "out") == {
            "train": ["no", "stop", "stop", "yes"],
            "dev": ["no", "stop", "yes"],
            "test": ["no", "yes"],
        }
    assert prepared(tmp_path / "out")["test"][0].fields == {"id": "no/2aca1e72_nohash_0.wav", "speaker": "2aca1e72"}
    write(root / "testing_list.txt", "yes/gone_nohash_0.wav")
    with pytest.raises(DataError, match=r"testing_list\.txt: there is no yes/gone_nohash_0\.wav"):
        speech_commands.prepare(root, tmp_path / "other")


# ------------------------------------------------------------------------------------------- Common Voice


def make_common_voice(folder: Path, languages: tuple[str, ...] = ("eo",)) -> Path:
    root = folder / "cv-corpus-17.0-2024-03-15"
    rows = {"train": "ab", "dev": "c", "test": "d", "validated": "abbcd"}
    for language in languages:
        for name, speakers in rows.items():
            lines = [
                f"{speaker}\tclip_{language}_{name}_{number}.mp3\tFrazo “{number}” de {speaker}, {name}.\t2\t0\t"
                for number, speaker in enumerate(speakers)
            ]
            write(root / language / f"{name}.tsv", "client_id\tpath\tsentence\tup_votes\tdown_votes\tage", *lines)
            for number in range(len(speakers)):
                sound(root / language / "clips" / f"clip_{language}_{name}_{number}.mp3", 2)
    return root


def test_common_voice(tmp_path: Path) -> None:
    root = make_common_voice(tmp_path)
    archive = pack(root, tmp_path / "eo.tar.gz")
    for source in (archive, root, root / "eo"):
        common_voice.prepare(source, None, "train", tmp_path / "out")
        assert texts(tmp_path / "out") == {
            "train": ["Frazo “0” de a, train.", "Frazo “1” de b, train."],
            "dev": ["Frazo “0” de c, dev."],
            "test": ["Frazo “0” de d, test."],
        }
    common_voice.prepare(root, "eo", "validated", tmp_path / "out")
    assert [each.speaker for each in prepared(tmp_path / "out")["train"]] == ["a", "b", "b"]


def test_which_language_of_common_voice(tmp_path: Path) -> None:
    root = make_common_voice(tmp_path, ("eo", "cy"))
    common_voice.prepare(root, "cy", "train", tmp_path / "out")
    assert "clip_cy" in prepared(tmp_path / "out")["dev"][0].audio.name
    with pytest.raises(DataError, match=r"several languages(.|\n)*one of cy, eo"):
        common_voice.prepare(root, None, "train", tmp_path / "out")
    with pytest.raises(DataError, match="does not hold 'de'"):
        common_voice.prepare(root, "de", "train", tmp_path / "out")
    with pytest.raises(DataError, match=r"not downloaded here(.|\n)*prepare\.source=ARCHIVE"):
        common_voice.prepare(None, None, "train", tmp_path / "out")
    with pytest.raises(DataError, match=r"no such file(.|\n)*datacollective\.mozillafoundation\.org"):
        common_voice.prepare(tmp_path / "gone.tar.gz", None, "train", tmp_path / "out")
    next((root / "cy" / "clips").glob("*dev_0.mp3")).unlink()
    hint = r"try: asr data import .*dev\.tsv (.|\n)*--skip-faulty(.|\n)*'prepare=\{corpus: manifests"
    with pytest.raises(DataError, match=rf"dev\.tsv:2: (.|\n)*{hint}"):
        common_voice.prepare(root, "cy", "train", tmp_path / "out")
    with pytest.raises(DataError, match=r"no train\.tsv"):
        common_voice.prepare(make_yesno(tmp_path), None, "train", tmp_path / "out")


# ------------------------------------------------------------------------------------------------ recipes


def test_a_section_names_what_the_preparation_takes() -> None:
    assert PREPARE.keys() == CORPORA.keys() - {"manifests"}
    for name, prepare in PREPARE.items():
        section = CORPORA[str(name)].model_fields.keys() - {"corpus"}
        assert section <= inspect.signature(prepare).parameters.keys(), name


MINIATURES: dict[str, Miniature] = {
    "yesno": make_yesno,
    "an4": make_an4,
    "mini-librispeech": make_librispeech,
    "librispeech-100": make_librispeech,
    "speech-commands": make_speech_commands,
    "common-voice": make_common_voice,
}


@pytest.mark.parametrize("name", MINIATURES)
def test_recipes_up_to_the_training(name: str, tmp_path: Path) -> None:
    source = MINIATURES[name](tmp_path)
    path = catalogue.shipped()[name] / "recipe.yaml"
    small = ["model.encoder.hidden=16"]
    if name == "librispeech-100":
        small += ["tokens={kind: characters}"]  # too few texts for 500 pieces
    recipe = read_recipe(path, [f"prepare.source={source}", *small])
    assert recipe.name == name
    work = workspace(recipe, tmp_path / "run", tmp_path / "data", Silent())
    stages.prepare(work)
    manifests, sets = work.manifests(), work.sets()
    said = sets["train"][0].text  # of so few texts, none has all the letters of another one
    write_manifest(manifests["dev"], [replace(each, text=said) for each in sets["dev"]])
    stages.check(work)
    stages.tokens(work)
    job = stages.training_job(work)
    samples = [utterance for utterances in work.sets().values() for utterance in utterances]
    batch = job.train_reader.read_batch([Sample((samples[0],), seed=(1,))])
    log_probs, lengths = job.acoustic(*batch.features(job.extractor))
    assert int(lengths[0]) > 0
    assert log_probs.shape[2] > 1


@pytest.mark.parametrize("name", MINIATURES)
def test_every_setting_is_written_out_and_the_readme_says_what_was_not_measured(name: str) -> None:
    folder = catalogue.shipped()[name]
    readme = (folder / "README.md").read_text(encoding="utf-8")
    assert readme.startswith(f"# {name}\n")
    assert f"asr train {name}" in readme
    assert "not measured here" in readme.lower()
    assert isinstance(read_recipe(folder / "recipe.yaml", ["prepare.source=x"]), Recipe)
