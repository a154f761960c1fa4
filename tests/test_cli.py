"""The command line, as a user meets it: what it prints where, and how it exits."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import asr
from asr import audio, catalogue, doctor
from asr.cli import main
from asr.cli.inputs import find_recordings
from asr.data.manifest import Utterance, write_manifest
from asr.doctor import SAMPLE_RATE, Check, synthesise
from asr.errors import ConfigError
from asr.recipe_file import read_recipe

COMMANDS: tuple[list[str], ...] = (
    [],
    ["train"],
    ["transcribe"],
    ["evaluate"],
    ["recipes"],
    ["recipes", "list"],
    ["recipes", "show"],
    ["recipes", "copy"],
    ["doctor"],
)


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str


Run = Callable[..., Result]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Call `asr` in this process."""
    monkeypatch.setenv("COLUMNS", "80")

    def call(*arguments: object) -> Result:
        capsys.readouterr()
        with pytest.raises(SystemExit) as caught:
            main([str(argument) for argument in arguments])
        printed = capsys.readouterr()
        return Result(int(caught.value.code or 0), printed.out, printed.err)

    return call


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that reads tones, made by the doctor's self-test, which must pass for that."""
    folder = tmp_path_factory.mktemp("doctor")
    checks = list(doctor.self_test(folder))
    assert [check.fault for check in checks] == [None] * 3
    return folder / "model"


def say(path: Path, text: str, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    audio.save(path, synthesise(text, np.random.default_rng(seed)), SAMPLE_RATE)
    return path


@pytest.fixture
def here(tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a trained model and two recordings."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(model, tmp_path / "runs" / "tones" / "model")
    say(tmp_path / "a.wav", "low high")
    say(tmp_path / "sub" / "b.flac", "middle")
    return tmp_path


# ------------------------------------------------------------------------------------------------ the app


def test_nothing_heavy_is_imported_before_it_is_used() -> None:
    heavy = ("torch", "numpy", "librosa", "torchaudio", "soundfile", "scipy", "pydantic", "jiwer", "rich")
    code = f"import sys, asr.cli; print([name for name in {heavy} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize("command", COMMANDS)
def test_help_fits_a_terminal(run: Run, command: list[str]) -> None:
    result = run(*command, "--help")
    assert result.code == 0
    assert " ".join(["Usage: asr", *command]) in result.out
    assert max(map(len, result.out.splitlines())) <= 80
    assert "..." not in result.out.partition("Commands:")[2]  # no summary is cut short


def test_version(run: Run) -> None:
    assert run("--version").out == f"asr {asr.__version__}\n"


@pytest.mark.parametrize("wrong", [["--no-such-option"], ["no-such-command"], ["transcribe"], ["evaluate", "x"]])
def test_wrong_usage_exits_with_2(run: Run, wrong: list[str]) -> None:
    result = run(*wrong)
    assert result.code == 2
    assert result.out == ""
    assert "Usage: asr" in result.err


def test_errors_are_messages_and_tracebacks_only_on_demand(run: Run) -> None:
    plain = run("recipes", "show", "nothing")
    assert plain.code == ConfigError.exit_code
    assert plain.err.startswith("error: nothing: there is no such recipe\n")
    assert "Traceback" not in plain.err
    for arguments in (["--debug", "recipes", "show", "nothing"], ["recipes", "show", "nothing", "--debug"]):
        debugged = run(*arguments)
        assert debugged.code == plain.code
        assert "Traceback" in debugged.err


def test_an_interrupt_is_quiet(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(catalogue, "shipped", interrupted)
    result = run("recipes", "list")
    assert (result.code, result.out, result.err) == (130, "", "")


def test_a_closed_pipe_is_quiet() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "asr", "recipes", "show", "quickstart"]
    result = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert result.stderr == ""
    assert result.returncode != 0


# ------------------------------------------------------------------------------------------------ recipes


def test_recipes_list_and_show(run: Run) -> None:
    listed = run("recipes", "list").out
    assert [line.split()[0] for line in listed.splitlines()] == ["fsdd", "quickstart"]
    shown = run("recipes", "show", "quickstart").out
    assert shown == (catalogue.shipped()["quickstart"] / "recipe.yaml").read_text(encoding="utf-8")


def test_recipes_copy_never_overwrites(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("recipes", "copy", "quickstart").code == 0
    recipe = tmp_path / "quickstart" / "recipe.yaml"
    original = (catalogue.shipped()["quickstart"] / "recipe.yaml").read_text(encoding="utf-8")
    assert recipe.read_text(encoding="utf-8") == original.replace("name: quickstart", 'name: "quickstart"')
    recipe.write_text("mine")
    again = run("recipes", "copy", "quickstart")
    assert (again.code, recipe.read_text()) == (2, "mine")
    assert "already there" in again.err
    assert run("recipes", "copy", "quickstart", "other/place").code == 0
    assert read_recipe(tmp_path / "other" / "place" / "recipe.yaml").name == "place"
    assert run("recipes", "copy", "nothing").code == 2


def test_what_a_recipe_argument_means(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shipped = catalogue.shipped()["fsdd"] / "recipe.yaml"
    assert catalogue.resolve("fsdd") == shipped
    Path("fsdd").mkdir()  # the data set itself, say: no reason to miss the recipe
    assert catalogue.resolve("fsdd") == shipped
    Path("fsdd/recipe.yaml").touch()  # one's own copy goes first
    assert catalogue.resolve("fsdd") == Path("fsdd/recipe.yaml")
    assert catalogue.resolve("fsdd/recipe.yaml") == Path("fsdd/recipe.yaml")


def test_a_wrong_recipe_argument_names_those_near_by(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("recipes/mine", "yours", "empty"):
        Path(folder).mkdir(parents=True)
    Path("recipes/mine/recipe.yaml").touch()
    Path("yours/recipe.yaml").touch()
    with pytest.raises(ConfigError) as caught:
        catalogue.resolve("quikstart")
    for known in ("recipes/mine", "yours", "fsdd", "quickstart"):
        assert known in str(caught.value.expected)
    assert caught.value.hint == "asr train quickstart"
    with pytest.raises(ConfigError, match=r"empty: this folder holds no recipe\.yaml"):
        catalogue.resolve("empty")


# --------------------------------------------------------------------------------------------- transcribe


def test_text_alone_goes_to_standard_output(run: Run, here: Path) -> None:
    result = run("transcribe", "a.wav")
    assert (result.code, result.out) == (0, "low high\n")
    assert "model runs/tones/model (self-test, trained 20" in result.err  # says which it found


def test_several_recordings_are_named(run: Run, here: Path) -> None:
    result = run("transcribe", "--model", "runs/tones", "sub", "a.wav")
    assert result.out == "sub/b.flac: middle\na.wav: low high\n"


def test_json(run: Run, here: Path) -> None:
    found = json.loads(run("transcribe", "a.wav", "sub/b.flac", "--format", "json").out)
    assert [entry["text"] for entry in found] == ["low high", "middle"]
    word = found[1]["words"][0]
    # Said from 0.1 to 0.25 s, heard within a frame of 40 ms and a window of 25 ms.
    assert word["start"] == pytest.approx(0.1, abs=0.1)
    assert word["end"] == pytest.approx(0.25, abs=0.1)


def test_standard_input(run: Run, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(Path("a.wav").read_bytes())))
    assert run("transcribe", "-").out == "low high\n"


def test_folders_and_patterns_in_order(here: Path) -> None:
    for name in ("z.WAV", "sub/deep/c.mp3", "sub/notes.txt"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).touch()

    def found(*arguments: str) -> list[str]:
        return [str(recording.source) for recording in find_recordings(arguments)]

    assert found("sub", "a.wav") == ["sub/b.flac", "sub/deep/c.mp3", "a.wav"]
    assert found("*.wav", "sub/**/*.mp3") == ["a.wav", "sub/deep/c.mp3"]
    assert found(str(here / "*.WAV")) == [str(here / "z.WAV")]
    assert [str(recording.name) for recording in find_recordings(["sub"])] == ["b.flac", "deep/c.mp3"]
    Path("odd[1].wav").touch()
    assert found("odd[1].wav") == ["odd[1].wav"]
    with pytest.raises(ConfigError, match="no file matches"):
        found("*.ogg")
    Path("bare").mkdir()
    with pytest.raises(ConfigError, match="no recordings in this folder"):
        found("bare")


def test_output_into_a_file_is_in_the_format_of_its_suffix(run: Run, here: Path) -> None:
    result = run("transcribe", "a.wav", "--output", "talk.srt")
    assert (result.code, result.out) == (0, "")
    assert Path("talk.srt").read_text().startswith("1\n00:00:00,")
    assert run("transcribe", "a.wav", "sub/b.flac", "--output", "all.txt").code == 0
    assert Path("all.txt").read_text() == "a.wav: low high\nsub/b.flac: middle\n"


def test_output_into_a_folder_is_a_file_for_each(run: Run, here: Path) -> None:
    say(Path("sub/deep/c.wav"), "high")
    assert run("transcribe", "a.wav", "sub", "--output", "texts").code == 0
    texts = {str(path.relative_to("texts")): path.read_text() for path in Path("texts").rglob("*.txt")}
    assert texts == {"a.txt": "low high\n", "b.txt": "middle\n", "deep/c.txt": "high\n"}


def test_nothing_is_overwritten_unless_asked(run: Run, here: Path) -> None:
    Path("talk.txt").write_text("precious")
    Path("texts").mkdir()
    Path("texts/b.vtt").write_text("precious")
    for arguments in (["a.wav", "--output", "talk.txt"], ["sub", "--output", "texts", "--format", "vtt"]):
        result = run("transcribe", *arguments)
        assert result.code == 2
        assert "already there" in result.err
    assert Path("talk.txt").read_text() == Path("texts/b.vtt").read_text() == "precious"
    assert run("transcribe", "a.wav", "--output", "talk.txt", "--overwrite").code == 0
    assert Path("talk.txt").read_text() == "low high\n"


def test_what_can_not_be_written_is_refused_at_once(run: Run, here: Path) -> None:
    result = run("transcribe", "a.wav", "sub", "--format", "srt")
    assert result.code == 2
    assert "--output FOLDER" in result.err
    say(Path("other/b.wav"), "low")
    result = run("transcribe", "sub", "other", "--output", "texts")
    assert result.code == 2
    assert "sub/b.flac and of other/b.wav" in result.err
    assert not Path("texts").exists()


def test_an_unreadable_recording_costs_the_exit_code_only(run: Run, here: Path) -> None:
    Path("page.mp3").write_text("<!DOCTYPE html><html></html>")
    result = run("transcribe", "a.wav", "page.mp3", "missing.wav", "sub")
    assert result.code == 1
    assert result.out == "a.wav: low high\nsub/b.flac: middle\n"
    assert "page.mp3: is not a sound file: it holds a web page" in result.err
    assert "missing.wav: there is no such file" in result.err
    assert "2 of 4 recordings" in result.err


def test_a_lone_unreadable_recording_is_an_error_before_the_model_is_loaded(run: Run, here: Path) -> None:
    result = run("transcribe", "missing.wav", "--output", "text.txt")
    assert (result.code, result.err) == (1, "error: missing.wav: there is no such file\n")
    assert not Path("text.txt").exists()


def test_without_a_model_the_way_to_one_is_told(run: Run, here: Path) -> None:
    shutil.rmtree("runs")
    result = run("transcribe", "a.wav")
    assert result.code == 1
    assert "asr train quickstart" in result.err
    assert run("transcribe", "a.wav", "--device", "abacus").code == 2


# ----------------------------------------------------------------------------------------------- evaluate


@pytest.fixture
def manifest(here: Path) -> Path:
    """Five utterances; the text of one is wrong in one word of three, and one lies outside the folder."""
    spoken = ("low high middle", "high", "low low low", "middle middle", "high low")
    utterances = []
    for index, text in enumerate(spoken):
        path = say(here / "test" / f"{index}.wav", text, seed=index)
        written = "Low, low HIGH!" if index == 2 else text
        utterances.append(Utterance(path, 1.0, written, {"speaker": f"s{index % 2}", "age": 30 + index}))
    write_manifest(here / "test" / "test.jsonl", utterances)
    return here / "test" / "test.jsonl"


def test_evaluate(run: Run, manifest: Path) -> None:
    result = run(
        "evaluate", "runs/tones", manifest, "--by", "speaker", "--json", "wer.json", "--hypotheses", "h.tsv"
    )
    assert result.code == 0
    assert "WER 9.09 %" in result.out  # 1 of 11 words
    assert "REF: low low high" in result.out
    figures: dict[str, Any] = json.loads(Path("wer.json").read_text())
    (test,) = figures["tests"]
    assert set(test) == {"name", "utterances", "words", "wer", "cer", "ci_low", "ci_high"}
    assert (test["name"], test["utterances"], test["words"]) == ("test", 5, 11)
    assert test["wer"] == pytest.approx(1 / 11)
    assert set(figures["stages"]) == {"evaluate"}
    assert figures["by"]["speaker"]["s0"]["words"] == 8
    assert Path("h.tsv").read_text().splitlines() == [
        "0.wav\tlow high middle",
        "1.wav\thigh",
        "2.wav\tlow low low",
        "3.wav\tmiddle middle",
        "4.wav\thigh low",
    ]


def test_hypotheses_carry_the_paths_of_the_manifest(run: Run, manifest: Path) -> None:
    inside, outside = manifest.parent / "1.wav", manifest.parent.parent / "a.wav"
    manifest.write_text(
        "".join(
            json.dumps({"audio_filepath": path, "duration": 1, "text": "high"}) + "\n\n"
            for path in (str(inside), "../a.wav")
        )
    )
    assert run("evaluate", "runs/tones", manifest, "--hypotheses", "h.tsv").code == 0
    assert outside.is_file()
    assert Path("h.tsv").read_text() == f"{inside}\thigh\n../a.wav\tlow high\n"


def test_evaluate_never_overwrites_nor_leaves_out(run: Run, manifest: Path) -> None:
    Path("wer.json").write_text("precious")
    assert run("evaluate", "runs/tones", manifest, "--json", "wer.json").code == 2
    assert Path("wer.json").read_text() == "precious"
    (manifest.parent / "3.wav").unlink()
    result = run("evaluate", "runs/tones", manifest)
    assert result.code == 1
    assert "3.wav: there is no such file" in result.err
    assert "WER" not in result.out


def test_a_field_that_nobody_has_is_refused(run: Run, manifest: Path) -> None:
    result = run("evaluate", "runs/tones", manifest, "--by", "dialect")
    assert result.code == 2
    assert "expected: age, speaker" in result.err


# ------------------------------------------------------------------------------------------------- doctor


def test_doctor_reports(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = [doctor.Part("av", "videos", None, "pip install 'asr[av]'")]
    monkeypatch.setattr(doctor, "optional_parts", lambda: parts)
    monkeypatch.setattr(doctor, "self_test", lambda folder: iter([Check("walk", 0.1), Check("run", 0.2, "fell")]))
    result = run("doctor")
    assert result.code == 1
    assert "av missing: pip install 'asr[av]'" in result.out
    assert "✓ walk (0.1 s)\n  ✗ run (0.2 s)\n      fell\n" in result.out
    monkeypatch.setattr(doctor, "self_test", lambda folder: iter([Check("walk", 0.1)]))
    assert run("doctor").code == 0


def test_the_self_test_stops_at_what_is_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def deaf(*_: object) -> np.ndarray:
        return np.zeros(10, np.float32)

    monkeypatch.setattr(audio, "load", deaf)
    checks = list(doctor.self_test(tmp_path))
    assert len(checks) == 1
    assert checks[0].fault


def test_doctor_names_versions() -> None:
    versions = doctor.versions()
    assert versions["asr"] == asr.__version__
    assert "missing" not in versions.values()
