"""The command line, as a user meets it: what it prints where, and how it exits."""

from __future__ import annotations

import errno
import io
import json
import math
import os
import shutil
import stat
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO
from unittest.mock import Mock

import numpy as np
import pytest
from command_line import Run, command
from typer.main import get_command

import asr
from asr import artefact, audio, catalogue, doctor, tuning
from asr.cli import app, decoding, main
from asr.cli.decoding import HOTWORD_BONUS, read_hotwords
from asr.cli.inputs import Recording, files_for, find_recordings
from asr.cli.reporter import TerminalReporter
from asr.data.manifest import Utterance, write_manifest
from asr.decoder_settings import DecoderSettings
from asr.decoding import beam
from asr.doctor import SAMPLE_RATE, Check, synthesise
from asr.errors import ConfigError, DataError
from asr.evaluation import report, wer
from asr.recipe_file import read_recipe
from asr.recognizer import Recognizer
from asr.tuning import Trial, Tuned


def commands(group: Any, *words: str) -> Iterator[list[str]]:
    """All that there are, groups among them."""
    yield [*words]
    for name, each in getattr(group, "commands", {}).items():
        yield from commands(each, *words, name)


COMMANDS = list(commands(get_command(app)))


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Call `asr` in this process."""
    monkeypatch.setenv("COLUMNS", "80")
    return command(capsys)


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


def test_there_are_commands() -> None:
    assert len(COMMANDS) > 30 and ["data", "import"] in COMMANDS


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_fits_a_terminal(run: Run, command: list[str]) -> None:
    result = run(*command, "--help")
    assert result.code == 0
    assert " ".join(["Usage: asr", *command]) in result.out
    assert max(map(len, result.out.splitlines())) <= 80
    assert "..." not in result.out.partition("Commands:")[2]  # no summary is cut short


def test_version(run: Run) -> None:
    assert run("--version").out == f"asr {asr.__version__}\n"


@pytest.mark.parametrize(
    "wrong",
    [
        ["--no-such-option"],
        ["no-such-command"],
        ["train", "x", "--no-such-option"],
        ["transcribe"],
        ["evaluate", "x"],
        ["tune", "decoder", "x", "y", "--seed", "-1"],
    ],
)
def test_wrong_usage_exits_with_2(run: Run, wrong: list[str]) -> None:
    result = run(*wrong)
    assert result.code == 2
    assert result.out == ""
    assert "Usage: asr" in result.err


@pytest.mark.parametrize(
    ("command", "option", "key"),
    [
        (["train"], "--epochs", "training.epochs"),
        (["tune", "lr"], "--learning-rate=1", "training.learning_rate"),
        (["tune", "search"], "--text.case", "text.case"),
        (["data", "augment"], "--reverb.kind", "augment.reverb.kind"),
    ],
)
def test_a_setting_in_the_guise_of_an_option_is_told_its_key(
    run: Run, command: list[str], option: str, key: str
) -> None:
    result = run(*command, "quickstart", option, "3")
    assert result.code == ConfigError.exit_code
    assert result.err.startswith(f"error: {option.partition('=')[0]}: there is no such option\n")
    assert f" {key}=VALUE" in result.err


def test_errors_are_messages_and_tracebacks_only_on_demand(run: Run) -> None:
    plain = run("recipes", "show", "nothing")
    assert plain.code == ConfigError.exit_code
    assert plain.err.startswith("error: nothing: there is no such recipe\n")
    assert "Traceback" not in plain.err
    for arguments in (["--debug", "recipes", "show", "nothing"], ["recipes", "show", "nothing", "--debug"]):
        debugged = run(*arguments)
        assert debugged.code == plain.code
        assert "Traceback" in debugged.err


def test_messages_stand_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    TerminalReporter().warn("a list.csv:100: [bold] is no markup, and the line no emoji")
    assert capsys.readouterr().err == "warning: a list.csv:100: [bold] is no markup, and the line no emoji\n"


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


class ClosedPipe(io.RawIOBase):
    """The standard output of Windows when its reader has gone, until it is made another file."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__()
        self.fileno = file.fileno

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:
        if stat.S_ISREG(os.fstat(self.fileno()).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")
        return len(data)


def test_a_closed_pipe_of_windows_is_quiet(tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    with (tmp_path / "output").open("wb") as file, monkeypatch.context() as patched:
        patched.setattr(sys, "platform", "win32")
        patched.setattr(sys, "stdout", io.TextIOWrapper(io.BufferedWriter(ClosedPipe(file))))
        result = run("recipes", "list")
        sys.stdout.close()
    assert (result.code, result.err) == (128 + 13, "")


def test_errors_are_utf_8_in_files_and_pipes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONIOENCODING", raising=False)
    content = io.BytesIO()
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(content, "cp1252", "backslashreplace"))
    with pytest.raises(SystemExit):
        main(["recipes", "show", "żółty\udcff"])
    sys.stderr.flush()
    assert content.getvalue().startswith("error: żółty\\udcff: there is no such recipe\n".encode())


# ------------------------------------------------------------------------------------------------ recipes


def test_recipes_list_and_show(run: Run) -> None:
    listed = run("recipes", "list").out
    folders = sorted(path.parent.name for path in Path(__file__).parent.parent.glob("recipes/*/recipe.yaml"))
    assert [line.split()[0] for line in listed.splitlines()] == folders
    assert {"fsdd", "quickstart"} < set(folders)
    shown = run("recipes", "show", "quickstart").out
    assert shown == (catalogue.shipped()["quickstart"] / "recipe.yaml").read_text(encoding="utf-8")


def test_a_recipe_to_show_that_is_not_utf_8(run: Run, tmp_path: Path) -> None:
    (tmp_path / "latin.yaml").write_bytes(b"name: caf\xe9\n")
    result = run("recipes", "show", tmp_path / "latin.yaml")
    assert (result.code, "latin.yaml: byte 9 is not UTF-8" in result.err) == (2, True)


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


@pytest.mark.parametrize("name", ["café", "my recipe", ".hidden", r"back\1", "nul"])
def test_recipes_are_copied_only_to_what_they_can_be_called(
    name: str, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run("recipes", "copy", "quickstart", name)
    assert (result.code, list(tmp_path.iterdir())) == (2, [])
    assert "try: asr recipes copy quickstart my-quickstart" in result.err


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
    assert caught.value.hint == "quickstart"
    with pytest.raises(ConfigError, match=r"empty: this folder holds no recipe\.yaml"):
        catalogue.resolve("empty")
    with pytest.raises(ConfigError, match="RECIPE first"):
        catalogue.resolve("training.epochs=3")


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


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no named pipes in folders")
def test_a_named_pipe_is_read_once(run: Run, here: Path) -> None:
    pipe = here / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=[Path("a.wav").read_bytes()])
    writer.start()
    assert run("transcribe", pipe).out == "low high\n"
    writer.join()


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
    assert found("a.wav", "./a.wav", "sub/../a.wav", str(here / "a.wav"), "*.wav") == ["a.wav"]
    assert found("sub/b.flac", "sub") == ["sub/b.flac", "sub/deep/c.mp3"]
    first, *others = find_recordings(["-", "a.wav", "-", "./-"])
    assert str(first.name) == "stdin"
    assert [str(other.source) for other in others] == ["a.wav", "-"]
    Path("odd[1].wav").touch()
    assert found("odd[1].wav") == ["odd[1].wav"]
    with pytest.raises(ConfigError, match="no file matches"):
        found("*.ogg")
    with pytest.raises(ConfigError, match="'': an empty name"):
        found("")
    Path("bare").mkdir()
    with pytest.raises(ConfigError, match="no recordings in this folder"):
        found("bare")


def test_a_manifest_is_for_evaluate(run: Run, here: Path) -> None:
    Path("test.jsonl").write_text("{}\n")
    result = run("transcribe", "test.jsonl", "--model", "nowhere")
    assert (result.code, result.out) == (2, "")
    assert "test.jsonl: a manifest, not a recording\n  try: asr evaluate MODEL test.jsonl " in result.err


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


def test_a_slash_makes_any_name_a_folder(run: Run, here: Path) -> None:
    assert run("transcribe", "a.wav", "--output", "results.v2/", "--format", "srt").code == 0
    assert [path.name for path in Path("results.v2").iterdir()] == ["a.srt"]
    Path("notes.txt").write_text("precious")
    result = run("transcribe", "a.wav", "--output", "notes.txt/")
    assert (result.code, Path("notes.txt").read_text()) == (2, "precious")
    assert "nothing can be written there" in result.err


def test_recordings_whose_names_differ_in_their_suffix_keep_it(run: Run, here: Path) -> None:
    say(Path("sub/b.wav"), "high")
    say(Path("sub/deep/b.wav"), "low")
    assert run("transcribe", "sub", "--output", "texts").code == 0
    texts = {str(path.relative_to("texts")): path.read_text() for path in Path("texts").rglob("*.txt")}
    assert texts == {"b.flac.txt": "middle\n", "b.wav.txt": "high\n", "deep/b.txt": "low\n"}


def test_capitals_do_not_tell_the_texts_of_recordings_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    recordings = [Recording(Path(name), Path(name).relative_to("in")) for name in ("in/A.wav", "in/a.mp3")]
    assert files_for(recordings, Path("texts"), ".txt") == [Path("texts/A.wav.txt"), Path("texts/a.mp3.txt")]
    recordings = [Recording(Path(name), Path(Path(name).name)) for name in ("x/A.wav", "y/a.wav")]
    for platform in ("darwin", "win32"):
        monkeypatch.setattr(sys, "platform", platform)
        with pytest.raises(ConfigError, match=r"A\.wav\.txt: would hold the text of x.A\.wav and of y.a\.wav"):
            files_for(recordings, Path("texts"), ".txt")
    monkeypatch.setattr(sys, "platform", "linux")
    assert len(set(files_for(recordings, Path("texts"), ".txt"))) == 2


def test_a_date_in_a_name_is_no_suffix(run: Run, here: Path) -> None:
    for name in ("2024.05.01", "2024.05.02 meeting", "2024.05.03.wav"):
        say(Path("in.wav"), "high")
        Path("in.wav").rename(name)
    assert run("transcribe", *sorted(map(str, Path().glob("2024*"))), "--output", "texts").code == 0
    names = sorted(path.name for path in Path("texts").iterdir())
    assert names == ["2024.05.01.txt", "2024.05.02 meeting.txt", "2024.05.03.txt"]


def test_what_an_interrupted_transcription_has_done_is_written(
    run: Run, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempt = Recognizer.attempt

    def interrupted(*arguments: Any) -> Iterator[Any]:
        yield next(attempt(*arguments))
        raise KeyboardInterrupt

    monkeypatch.setattr(Recognizer, "attempt", interrupted)
    result = run("transcribe", "a.wav", "sub/b.flac", "--output", "all.json")
    assert result.code == 130
    assert "all.json holds 1 of 2 recordings" in result.err
    assert [entry["text"] for entry in json.loads(Path("all.json").read_text())] == ["low high"]


def test_recordings_of_the_same_name_do_not_share_a_file(run: Run, here: Path) -> None:
    say(Path("other/b.flac"), "high")
    result = run("transcribe", "sub/b.flac", "other/b.flac", "--output", "texts")
    assert (result.code, Path("texts").exists()) == (2, False)
    assert "b.flac.txt: would hold the text of sub/b.flac and of other/b.flac" in result.err


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


def test_a_recording_is_not_overwritten_by_its_text(run: Run, here: Path) -> None:
    (here / "sub/b.txt").write_bytes((here / "sub/b.flac").read_bytes())  # a recording by another name
    before = [(here / name).read_bytes() for name in ("a.wav", "sub/b.txt")]
    for arguments in (["a.wav", "--output", "sub/../a.wav"], ["sub/b.txt", "--output", "sub/"]):
        result = run("transcribe", *arguments, "--format", "text", "--overwrite")
        assert (result.code, "would take the place of what it is made from" in result.err) == (2, True)
    assert [(here / name).read_bytes() for name in ("a.wav", "sub/b.txt")] == before


@pytest.mark.skipif(sys.platform == "win32", reason="links take a privilege there")
def test_where_a_link_stands_what_it_leads_to_is_written(run: Run, here: Path) -> None:
    Path("link.txt").symlink_to("talk.txt")  # which is not there yet, or not mounted
    assert run("transcribe", "a.wav", "--output", "link.txt").code == 2
    assert run("transcribe", "a.wav", "--output", "link.txt", "--overwrite").code == 0
    assert (Path("link.txt").is_symlink(), Path("talk.txt").read_text()) == (True, "low high\n")


@pytest.mark.skipif(sys.platform == "win32", reason="links take a privilege there")
def test_links_that_lead_to_themselves(run: Run, here: Path) -> None:
    Path("loop.wav").symlink_to("loop.wav")
    result = run("transcribe", "loop.wav", "loop.wav/a.wav", "--output", "texts/")
    assert (result.code, result.err.count("loop.wav: can't be opened")) == (1, 1)
    Path("loop.txt").symlink_to("loop.txt")
    result = run("transcribe", "a.wav", "--output", "loop.txt")
    assert (result.code, "loop.txt: already there" in result.err) == (2, True)
    assert run("transcribe", "a.wav", "--output", "loop.txt", "--overwrite").code == 0
    assert Path("loop.txt").read_text() == "low high\n"


def test_what_can_not_be_written_is_refused_at_once(run: Run, here: Path) -> None:
    result = run("transcribe", "a.wav", "sub", "--format", "srt")
    assert result.code == 2
    assert "--output FOLDER" in result.err
    result = run("transcribe", "a.wav", "--output", "talk.docx")
    assert (result.code, "no format is known by this suffix" in result.err) == (2, True)
    say(Path("other/b.flac"), "low")
    result = run("transcribe", "sub", "other", "--output", "texts")
    assert result.code == 2
    assert "sub/b.flac and of other/b.flac" in result.err
    assert not Path("texts").exists()
    result = run("transcribe", "sub", "a.wav", "other", "--format", "ctm")
    assert result.code == 2
    assert "sub/b.flac and other/b.flac would have the same name in the CTM file, b" in result.err
    assert run("transcribe", "sub", "a.wav", "--format", "ctm").out.count("b 1 ") == 1


def test_where_nothing_can_be_written_is_told_before_the_model_is_loaded(run: Run, here: Path) -> None:
    Path("notes").write_text("precious")
    for output in ("notes/talk.txt", "/proc/talk.txt" if sys.platform == "linux" else "notes/talk.txt"):
        result = run("transcribe", "a.wav", "--model", "gone", "--output", output)
        assert (result.code, "nothing can be written there" in result.err) == (2, True)
    result = run("transcribe", "a.wav", "--output", "notes")
    assert (result.code, Path("notes").read_text()) == (2, "precious")
    assert run("transcribe", "a.wav", "--output", "new/folder/talk.txt").code == 0


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


def test_a_model_need_not_tell_when_it_was_made(run: Run, here: Path, model: Path, tmp_path: Path) -> None:
    """As those that others make."""
    of_others = tmp_path / "of others"
    shutil.copytree(model, of_others)
    (of_others / "metadata.json").write_text('{"format_version": 1}')
    result = run("transcribe", "a.wav", "--model", str(of_others))
    assert (result.code, result.out) == (0, run("transcribe", "a.wav").out)
    assert f"model {of_others} (self-test) on " in result.err


def test_without_a_model_the_way_to_one_is_told(run: Run, here: Path) -> None:
    shutil.rmtree("runs")
    result = run("transcribe", "a.wav")
    assert result.code == 1
    assert "asr train quickstart" in result.err
    assert run("transcribe", "a.wav", "--device", "abacus").code == 2


# ----------------------------------------------------------------------------------------------- decoding

ARPA = """\\data\\
ngram 1=5

\\1-grams:
-0.7\t<unk>
-0.7\t</s>
-0.7\tlow
-0.7\tmiddle
-0.7\thigh

\\end\\
"""


@pytest.fixture
def words(here: Path) -> Path:
    """`here` with a language model, a lexicon, a grammar and hotwords, each in a file."""
    Path("three.arpa").write_text(ARPA)
    Path("words.txt").write_text("High\nMiddle\n")
    Path("commands.gram").write_text("<command> = (low{=quiet} | middle){level} high ;\n")
    Path("hot.txt").write_text("# names\nLow\t1.5\nhigh low\n")
    return here


def test_a_terminal_that_was_closed_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "write", Mock(side_effect=OSError(errno.EIO, "Input/output error")))
    monkeypatch.setattr(sys, "stderr", terminal)
    TerminalReporter().say("an epoch has ended")
    TerminalReporter().warn("a report can't be written")
    assert terminal.write.call_count == 2


def test_the_n_best_stand_below_the_text(run: Run, here: Path) -> None:
    result = run("transcribe", "a.wav", "--nbest", "3")
    first, *others = result.out.splitlines()
    assert first == "low high"
    scores, texts = zip(*(line.split(maxsplit=1) for line in others), strict=True)
    assert texts[0] == "low high"
    assert len(set(texts)) == 3
    assert sorted(map(float, scores), reverse=True) == list(map(float, scores))
    assert "on cpu, beam search of width 32" in result.err
    (found,) = json.loads(run("transcribe", "a.wav", "--nbest", "3", "--format", "json").out)
    assert [alternative["text"] for alternative in found["alternatives"]] == list(texts)


@pytest.mark.parametrize("suffix", ["srt", "vtt", "ctm", "tsv"])
def test_the_n_best_are_refused_where_only_one_would_be_written(run: Run, here: Path, suffix: str) -> None:
    for how in (["--format", suffix], ["--output", f"a.{suffix}"]):
        result = run("transcribe", "a.wav", "--nbest", "3", *how)
        assert (result.code, result.out, Path(f"a.{suffix}").exists()) == (2, "", False)
        assert f"--nbest 3, but a file of this kind (.{suffix})" in result.err
        assert "--format text or --format json" in result.err


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ([], "greedy decoding"),
        (["--decoder", "greedy"], "greedy decoding"),
        (["--decoder", "beam", "--beam-width", "7"], "beam search of width 7"),
        (
            ["--lm", "three.arpa", "--alpha", "0.25"],
            "beam search of width 32, language model three.arpa (alpha 0.25, beta 2)",
        ),
        (["--hotwords", "hot.txt"], "beam search of width 32, 2 hotwords"),
        (["--hotwords", "middle high"], "beam search of width 32, 1 hotword"),
        (["--rescore", "three.arpa"], "beam search of width 32, the best 50 rescored by three.arpa"),
        (
            ["--lm", "three.arpa", "--rescore", "three.arpa", "--nbest-rescored", "4"],
            "beam search of width 32, language model three.arpa (alpha 0.5, beta 2), "
            "the best 4 rescored by three.arpa",
        ),
        (["--rescore", "three.arpa", "--nbest-rescored", "1"], "beam search of width 32"),
    ],
)
def test_how_it_decodes_is_told_and_clear_speech_is_heard_either_way(
    run: Run, words: Path, options: list[str], told: str
) -> None:
    result = run("transcribe", "a.wav", *options)
    assert result.err.splitlines()[0].endswith(f" on cpu, {told}")
    assert result.out == "low high\n"


def test_a_lexicon_closes_the_vocabulary(run: Run, words: Path) -> None:
    result = run("transcribe", "a.wav", "--lexicon", "words.txt")
    assert "low" not in result.out.split()
    assert "high" in result.out.split()
    assert "words of words.txt" in result.err


def test_a_grammar_fills_slots_and_rejects_other_speech(run: Run, words: Path) -> None:
    say(Path("other.wav"), "high high middle low")
    arguments = ("transcribe", "a.wav", "other.wav", "--grammar", "commands.gram")
    command, other = json.loads(run(*arguments, "--format", "json").out)
    assert command["text"] == "low high"
    assert command["slots"] == [{"name": "level", "value": "quiet"}]
    assert other["text"] in ("low high", "middle high", "")
    assert command["rejection"] < 1 < other["rejection"]
    rejecting = (*arguments, "--reject-above", "1")
    assert run(*rejecting).out == "a.wav: low high\nother.wav: \n"
    command, other = json.loads(run(*rejecting, "--format", "json").out)
    assert (command["rejected"], other["rejected"]) == (False, True)
    assert (other["text"], other["slots"]) == ("", [])


def test_a_grammar_that_the_model_cannot_spell_prints_nothing(run: Run, words: Path) -> None:
    Path("zoo.gram").write_text("<command> = zebra ;\n")
    result = run("transcribe", "a.wav", "--grammar", "zoo.gram", "--format", "json")
    assert (result.code == 0, result.out) == (False, "")
    assert "zebra" in result.err


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--decoder", "greedy", "--lm", "three.arpa"], ("--decoder greedy", "--lm")),
        (["--decoder", "greedy", "--nbest", "2"], ("--decoder greedy", "--nbest")),
        (["--decoder", "greedy", "--grammar", "commands.gram"], ("--decoder greedy", "--grammar")),
        (["--decoder", "greedy", "--beam-width", "8"], ("--decoder greedy", "--beam-width")),
        (["--grammar", "commands.gram", "--lm", "three.arpa"], ("--grammar", "--lm")),
        (["--grammar", "commands.gram", "--lexicon", "words.txt"], ("--grammar", "--lexicon")),
        (["--reject-above", "2"], ("--reject-above", "--grammar")),
        (["--beta", "2"], ("--beta", "--lm")),
        (["--decoder", "greedy", "--rescore", "three.arpa"], ("--decoder greedy", "--rescore")),
        (["--grammar", "commands.gram", "--rescore", "three.arpa"], ("--grammar", "--rescore")),
        (["--nbest-rescored", "5"], ("--nbest-rescored", "--rescore FILE")),
        (["--rescore", "gone.arpa"], ("--rescore", "gone.arpa")),
        (["--rescore", "three.arpa", "--nbest-rescored", "0"], ("--nbest-rescored",)),
        (["--hotwords", "gone.txt"], ("--hotwords gone.txt", "no such file")),
    ],
)
def test_contradictions_are_refused_by_name(
    run: Run, words: Path, options: list[str], named: tuple[str, ...]
) -> None:
    result = run("transcribe", "a.wav", *options)
    assert (result.code, result.out) == (2, "")
    assert all(name in result.err for name in named)


def test_hotwords_in_an_argument() -> None:
    assert len(read_hotwords(", ".join(f"anna kowalska {number}" for number in range(99)))) == 99
    assert read_hotwords("anna:5, new york ,7:30: -2") == {"anna": 5.0, "new york": HOTWORD_BONUS, "7:30": -2.0}
    for wrong in ("anna:much", "anna:nan", "anna:inf"):
        with pytest.raises(ConfigError, match="'anna'"):
            read_hotwords(wrong)
    for nothing in ("", " ", ",", " , "):
        with pytest.raises(ConfigError, match="holds no phrases"):
            read_hotwords(nothing)


@pytest.mark.parametrize("name", ["lists/names.lst", "lists/my names", "names.lst", "gone.CSV", "my names.txt"])
def test_a_file_of_hotwords_that_is_not_there_is_no_hotword(name: str) -> None:
    with pytest.raises(ConfigError, match=f"--hotwords {name}: there is no such file"):
        read_hotwords(name)


@pytest.mark.parametrize("phrase", ["dr. smith", "U.S.", "7.30", "and/or,", "names.lst,", "24/7, new york"])
def test_these_are_hotwords(phrase: str) -> None:
    assert next(iter(read_hotwords(phrase))) == phrase.split(",")[0]


def test_hotwords_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "names"
    path.write_text("# names\n\nanna\t5\nnew york\nC# minor: rondo\t1\n", encoding="utf-8")
    assert read_hotwords(str(path)) == {"anna": 5.0, "new york": HOTWORD_BONUS, "C# minor: rondo": 1.0}
    path.write_text("anna\nbert\tx\n")
    with pytest.raises(DataError, match="names, line 2: the bonus of 'bert' is 'x'"):
        read_hotwords(str(path))
    path.write_text("# nobody\n")
    with pytest.raises(DataError, match="no phrases"):
        read_hotwords(str(path))


def test_compiling_is_announced_only_if_it_takes_long(
    run: Run, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(beam, "warm", lambda: None)
    assert "loading the decoder" not in run("transcribe", "a.wav", "--decoder", "beam").err
    monkeypatch.setattr(decoding, "PATIENCE_SECONDS", 0.01)
    monkeypatch.setattr(beam, "warm", lambda: time.sleep(0.5))
    assert "loading the decoder" in run("transcribe", "a.wav", "--decoder", "beam").err


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


def test_hypotheses_of_stretches_carry_their_places(run: Run, manifest: Path) -> None:
    entries = (
        {"audio_filepath": "3.wav", "duration": 0.5, "text": "middle"},
        {"audio_filepath": "3.wav", "offset": 0.5, "duration": 0.25, "text": "middle"},
    )
    manifest.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    assert run("evaluate", "runs/tones", manifest, "--hypotheses", "h.tsv").code == 0
    rows = [line.split("\t") for line in Path("h.tsv").read_text().splitlines()]
    assert [row[:3] for row in rows] == [["3.wav", "", "0.5"], ["3.wav", "0.5", "0.25"]]
    assert all(len(row) == 4 for row in rows)


def test_what_evaluate_has_found_out_is_written_before_it_is_shown(
    run: Run, manifest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(report, "format_report", Mock(side_effect=BrokenPipeError))
        run("evaluate", "runs/tones", manifest, "--json", "wer.json", "--hypotheses", "h.tsv")
    assert len(Path("h.tsv").read_text().splitlines()) == 5
    assert json.loads(Path("wer.json").read_text())["tests"][0]["words"] == 11
    manifest.write_text(json.dumps({"audio_filepath": "1.wav", "duration": 1, "text": ""}) + "\n")
    result = run("evaluate", "runs/tones", manifest, "--hypotheses", "untranscribed.tsv")
    assert (result.code, "no words in the references" in result.err) == (1, True)
    assert Path("untranscribed.tsv").read_text() == "1.wav\thigh\n"


def test_where_nothing_can_be_measured_evaluate_says_so_at_once(
    run: Run, manifest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Recognizer, "stream", lambda *arguments, **options: pytest.fail("it listens"))
    manifest.write_text(json.dumps({"audio_filepath": "1.wav", "duration": 1, "text": "?!"}) + "\n")
    result = run("evaluate", "runs/tones", manifest, "--json", "wer.json")
    assert (result.code, "no words in the references of 1 utterances" in result.err) == (1, True)


@pytest.mark.skipif(sys.platform == "win32", reason="it has no named pipes in folders")
def test_a_manifest_may_come_from_a_pipe(run: Run, manifest: Path) -> None:
    content = manifest.read_text().replace('"duration"', '"offset": null, "duration"')
    pipe = manifest.parent / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_text, args=[content])
    writer.start()
    assert run("evaluate", "runs/tones", pipe, "--hypotheses", "h.tsv").code == 0
    writer.join()
    assert Path("h.tsv").read_text().splitlines()[1] == "1.wav\thigh"


def test_evaluate_writes_two_files(run: Run, manifest: Path) -> None:
    result = run("evaluate", "model", manifest, "--json", "a", "--hypotheses", "a", "--overwrite")
    assert (result.code, "--json and --hypotheses: the same file for both" in result.err) == (2, True)


def test_a_folder_in_the_place_of_a_file_is_refused_at_once(run: Run, manifest: Path) -> None:
    Path("figures").mkdir()
    result = run("evaluate", "runs/tones", manifest, "--json", "figures", "--overwrite")
    assert (result.code, "figures: a folder, where a file is to be written" in result.err) == (2, True)


@pytest.mark.skipif(sys.platform == "win32", reason="it has no named pipes in folders")
def test_a_device_or_pipe_is_not_replaced_by_a_file(run: Run, manifest: Path) -> None:
    os.mkfifo("figures")
    result = run("evaluate", "runs/tones", manifest, "--json", "figures", "--overwrite")
    assert (result.code, "figures: a device or pipe, where a file is to be written" in result.err) == (2, True)
    assert Path("figures").is_fifo()


def test_evaluate_never_overwrites_nor_leaves_out(run: Run, manifest: Path) -> None:
    Path("wer.json").write_text("precious")
    assert run("evaluate", "runs/tones", manifest, "--json", "wer.json").code == 2
    assert Path("wer.json").read_text() == "precious"
    (manifest.parent / "3.wav").unlink()
    result = run("evaluate", "runs/tones", manifest)
    assert result.code == 1
    assert f"{manifest}: 1 of 5 recordings is not there\n  {manifest.parent / '3.wav'}" in result.err
    assert "WER" not in result.out


def test_swapped_arguments_are_told(run: Run, manifest: Path) -> None:
    result = run("evaluate", manifest, "runs/tones")
    assert (result.code, "the model, and behind it a manifest" in result.err) == (2, True)


def test_a_field_that_nobody_has_is_refused(run: Run, manifest: Path) -> None:
    result = run("evaluate", "runs/tones", manifest, "--by", "dialect")
    assert result.code == 2
    assert "expected: age, speaker" in result.err


def test_evaluate_decodes_as_it_is_told(run: Run, manifest: Path) -> None:
    Path("words.txt").write_text("high\nmiddle\n")
    result = run("evaluate", "runs/tones", manifest, "--lexicon", "words.txt", "--hypotheses", "h.tsv")
    assert "beam search of width 32, words of words.txt" in result.err
    assert "low" not in Path("h.tsv").read_text()


# --------------------------------------------------------------------------------------------------- tune


def test_tuning_what_is_perfect_leaves_it_alone(run: Run, manifest: Path) -> None:
    Path("three.arpa").write_text(ARPA)
    before = sorted(path.name for path in Path("runs/tones/model").iterdir())
    result = run("tune", "decoder", "runs/tones", manifest, "--lm", "three.arpa", "--trials", "3")
    assert result.code == 0
    assert "test: WER 9.09% greedy" in result.out  # as `test_evaluate` has it
    assert "no better than greedy decoding: runs/tones/model stays as it is" in result.out
    assert sorted(path.name for path in Path("runs/tones/model").iterdir()) == before


def test_what_tuning_finds_becomes_part_of_the_model(
    run: Run, manifest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def score(errors: int) -> wer.Score:
        return wer.Score(5, 100, 400, errors, 0, 0, errors / 100, 0.0, 0.0, 1.0, 1.0)

    begun: list[DecoderSettings] = []

    def tune(recognizer: object, evidence: object, settings: DecoderSettings, *arguments: Any) -> Tuned:
        begun.append(settings)
        best = Trial(settings.model_copy(update={"alpha": 0.25, "beam_width": 16}), score(1))
        return Tuned(score(9), score(5), best, [best])

    monkeypatch.setattr(tuning, "tune", tune)
    Path("three.arpa").write_text(ARPA)
    command = ("tune", "decoder", "runs/tones", manifest, "--lm", "three.arpa")
    assert "dry run" in run(*command, "--dry-run").out
    assert artefact.load("runs/tones/model").decoder is None
    result = run(*command)
    assert "WER 9.00% greedy, 5.00% beam search untuned, 1.00% tuned (100 words in 5 utterances)" in result.out
    assert "written into runs/tones/model: decoder.json, lm.ngram" in result.out
    Path("three.arpa").unlink()
    settings = artefact.load("runs/tones/model").decoder
    assert settings is not None
    assert settings.tuning is not None
    assert (settings.tuning.wer_greedy, settings.tuning.wer_untuned, settings.tuning.wer) == (0.09, 0.05, 0.01)
    told = "beam search of width 16, language model lm.ngram (alpha 0.25, beta 2)"
    assert told in run("transcribe", "a.wav").err
    assert "greedy decoding" in run("transcribe", "a.wav", "--decoder", "greedy").err
    run("tune", "decoder", "runs/tones", manifest, "--dry-run")
    weights = [(each.alpha, each.beam_width) for each in begun]
    assert weights == [(0.5, 32), (0.5, 32), (0.25, 16)]  # the model's own are tried first, once it has some
    assert asr.load("runs/tones").transcribe("a.wav").text == "low high"


def test_a_language_model_in_other_letters_rescores_nothing(run: Run, words: Path) -> None:
    Path("upper.arpa").write_text(ARPA.replace("low", "LOW").replace("middle", "MIDDLE").replace("high", "HIGH"))
    result = run("transcribe", "a.wav", "--lm", "three.arpa", "--rescore", "upper.arpa")
    assert (result.code, result.out) == (1, "")
    assert "upper.arpa: the recogniser can write no word of this language model (“LOW”" in result.err


def test_rescored_hypotheses_are_listed_in_their_new_order(run: Run, words: Path) -> None:
    Path("low.arpa").write_text(ARPA.replace("-0.7\thigh", "-9\thigh"))
    before = [line.split() for line in run("transcribe", "a.wav", "--nbest", "20").out.splitlines()[1:]]
    options = ("--nbest", "3", "--rescore", "low.arpa", "--nbest-rescored", "20")
    text, *listed = run("transcribe", "a.wav", *options).out.splitlines()
    after = [line.split() for line in listed]

    def second(words: list[str]) -> float:
        return math.log(10) * sum(-9 if word == "high" else -0.7 for word in [*words, "</s>"])

    expected = {" ".join(heard): float(score) + 0.25 * second(heard) for score, *heard in before}
    scores = [float(score) for score, *_ in after]
    assert scores == pytest.approx([expected[" ".join(heard)] for _, *heard in after], abs=0.02)
    assert scores == pytest.approx(sorted(expected.values(), reverse=True)[:3], abs=0.02)
    assert [heard for _, *heard in after] != [heard for _, *heard in before[:3]]
    assert text.split() == after[0][1:]


def test_a_tuned_rescoring_becomes_part_of_the_model(
    run: Run, manifest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def score(errors: int) -> wer.Score:
        return wer.Score(5, 100, 400, errors, 0, 0, errors / 100, 0.0, 0.0, 1.0, 1.0)

    def tune(recognizer: object, evidence: object, settings: DecoderSettings, *arguments: Any) -> Tuned:
        best = Trial(settings.model_copy(update={"gamma": 0.75, "nbest_rescored": 10}), score(1))
        return Tuned(score(9), score(5), best, [best])

    monkeypatch.setattr(tuning, "tune_rescoring", tune)
    Path("three.arpa").write_text(ARPA)
    assert "--lm FILE" in run("tune", "rescoring", "runs/tones", manifest).err
    command = ("tune", "rescoring", "runs/tones", manifest, "--lm", "three.arpa")
    assert "dry run" in run(*command, "--dry-run").out
    result = run(*command)
    assert "WER 9.00% first pass, 5.00% rescored untuned, 1.00% tuned (100 words in 5 utterances)" in result.out
    assert "written into runs/tones/model: decoder.json, rescoring.ngram" in result.out
    Path("three.arpa").unlink()
    settings = artefact.load("runs/tones/model").decoder
    assert settings is not None
    assert (settings.gamma, settings.rescore) == (0.75, Path("runs/tones/model/rescoring.ngram"))
    tuned = settings.rescoring_tuning
    assert tuned is not None
    assert (tuned.wer_first_pass, tuned.wer_untuned, tuned.wer) == (0.09, 0.05, 0.01)
    told = "beam search of width 32, the best 10 rescored by rescoring.ngram"
    assert told in run("transcribe", "a.wav").err
    assert "rescored" not in run("transcribe", "a.wav", "--nbest-rescored", "1").err
    assert asr.load("runs/tones").transcribe("a.wav").text == "low high"
    assert "rescored by runs/tones/model/rescoring.ngram" in run("tune", "rescoring", "runs/tones", manifest).err

    def tune_search(recognizer: object, evidence: object, settings: DecoderSettings, *arguments: Any) -> Tuned:
        return Tuned(score(9), score(5), Trial(settings, score(1)), [Trial(settings, score(1))])

    monkeypatch.setattr(tuning, "tune", tune_search)
    warned = [
        "run `asr tune rescoring` with it again" in run("tune", "decoder", "runs/tones", manifest, *option).err
        for option in (["--dry-run"], [])
    ]
    assert warned == [False, True]


# ------------------------------------------------------------------------------------------------- doctor


def test_doctor_reports(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = [doctor.Part("av", "videos", None, 'pip install -e ".[av]"')]
    monkeypatch.setattr(doctor, "optional_parts", lambda: parts)
    monkeypatch.setattr(doctor, "self_test", lambda folder: iter([Check("walk", 0.1), Check("run", 0.2, "fell")]))
    result = run("doctor")
    assert result.code == 1
    assert 'av missing: pip install -e ".[av]"' in result.out
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


def test_doctor_knows_all_optional_parts() -> None:
    project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text(encoding="utf-8"))
    extras = project["project"]["optional-dependencies"].keys() - {"dev"}
    assert {part.install for part in doctor.optional_parts()} == {f'pip install -e ".[{name}]"' for name in extras}


def test_doctor_names_versions() -> None:
    versions = doctor.versions()
    assert versions["asr"] == asr.__version__
    assert "missing" not in versions.values()
