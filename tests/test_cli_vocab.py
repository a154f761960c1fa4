"""`asr vocab`, as a user meets it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from command_line import Result, Run, command

MODEL = Path(__file__).parent / "models" / "format-1"  # whose words are high, low and middle
HOUSE = """
<command> = dim the <room>{room} lights to <number 0-100>{level} percent | light (on{=true} | off{=false}){state} ;
<room> = kitchen | (living | sitting) room ;
"""


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Call `asr vocab` in this process, in a folder with a grammar."""
    monkeypatch.chdir(tmp_path)
    Path("house.txt").write_text(HOUSE, encoding="utf-8")
    return command(capsys, "vocab")


@pytest.fixture
def spelling_model(tmp_path: Path) -> Path:
    """What is looked at of a model that writes letters, in a run's folder."""
    shutil.copytree(MODEL, tmp_path / "run" / "model")
    description = {"kind": "characters", "alphabet": list(" 'abcdefghilmnoprstu")}
    (tmp_path / "run" / "model" / "tokenizer.json").write_text(json.dumps(description), encoding="utf-8")
    return tmp_path / "run"


def test_build_tells_what_it_made(run: Run) -> None:
    result = run("build", "house.txt")
    assert (result.code, result.err) == (0, "")
    name, *lines = result.out.splitlines()
    assert name == "house.vocab"
    told = dict(line.split(maxsplit=1) for line in lines)
    assert told.keys() == {"sentences", "words", "states", "slots"}
    assert told["sentences"] == str(3 * 101 + 2)
    assert told["slots"] == "room, level, state"
    assert Path(name).is_file()


def test_build_elsewhere_in_another_language(run: Run) -> None:
    assert run("build", "house.txt", "--out", "deep/haus.vocab", "--language", "de").code == 0
    assert not Path("house.vocab").exists()
    result = run("match", "deep/haus.vocab", "dim the kitchen lights to einundzwanzig percent")
    assert result.out.splitlines() == ["inside", "  room: kitchen", "  level: 21"]


def test_nothing_is_overwritten_unless_asked(run: Run) -> None:
    run("build", "house.txt")
    before = Path("house.vocab").read_bytes()
    Path("house.txt").write_text("other words\n")
    refused = run("build", "house.txt")
    assert (refused.code, refused.out) == (2, "")
    assert "house.vocab" in refused.err and "--overwrite" in refused.err
    assert Path("house.vocab").read_bytes() == before
    assert run("build", "house.txt", "--overwrite").code == 0
    assert run("match", "house.vocab", "other words").code == 0


def test_another_name_than_vocab_is_refused(run: Run) -> None:
    result = run("build", "house.txt", "--out", "house.bin")
    assert result.code == 2
    assert "ends in .vocab" in result.err


@pytest.mark.parametrize("folder", [".", "..", "/"])
def test_a_folder_is_no_grammar(run: Run, folder: str) -> None:
    result = run("build", folder)
    assert (result.code, result.out) == (2, "")
    assert f"error: {folder}: this is a folder" in result.err


def test_mistakes_in_the_grammar_are_told_with_their_line(run: Run) -> None:
    Path("house.txt").write_text("<a> = turn\n (on | off\n;")
    result = run("build", "house.txt")
    assert result.code == 1
    assert "error: house.txt:3: found “;”" in result.err
    assert not Path("house.vocab").exists()
    assert "no such grammar" in run("build", "nowhere.txt").err


def test_show_gives_examples(run: Run) -> None:
    Path("house.txt").write_text("<a> = turn (left | right)+ ;")
    run("build", "house.txt")
    result = run("show", "house.vocab")
    assert result.code == 0
    assert "sentences  endless" in result.out
    assert "slots      none" in result.out
    examples = [line.strip() for line in result.out.splitlines()[4:]]
    assert 1 < len(examples) <= 5
    assert all(run("match", "house.vocab", example).code == 0 for example in examples)
    assert run("show", "house.vocab") == result


def test_more_sentences_than_python_writes_digits_of_are_told_by_their_power_of_ten(run: Run) -> None:
    times = " ".join
    rules = (f"<a> = {times(['<b>'] * 25)};", f"<b> = {times(['<c>'] * 25)};", f"<c> = {times(['<d>'] * 25)};")
    Path("huge.txt").write_text("\n".join([*rules, "<d> = x | y;"]))  # 2 to the power of 25³
    assert "sentences  about 10^4704" in run("build", "huge.txt").out


def test_show_lists_all_sentences_where_they_are_few(run: Run) -> None:
    Path("house.txt").write_text("turn on\nturn off\nturn on\n")
    run("build", "house.txt")
    assert run("show", "house.vocab").out.splitlines()[4:] == ["    turn on", "    turn off"]


@pytest.mark.parametrize(
    ("sentence", "reason"),
    [
        ("dim the sitting rooms", "“rooms” can't come after “dim the sitting”"),
        ("dim the sitting", "there is more to come"),
        ("Dim the kitchen", "“Dim” can't come first"),
        ("light on please", "“please” can't come after “light on”"),
        ("", "something must be said"),
    ],
)
def test_match_says_where_a_sentence_leaves_the_grammar(run: Run, sentence: str, reason: str) -> None:
    run("build", "house.txt")
    result = run("match", "house.vocab", sentence)
    assert (result.code, result.out, result.err) == (1, f"outside: {reason}\n", "")


def test_match_fills_slots(run: Run) -> None:
    run("build", "house.txt")
    assert run("match", "house.vocab", "  light  off ") == Result(0, "inside\n  state: false\n", "")


def test_match_takes_letters_and_their_marks_for_what_they_look_like(run: Run) -> None:
    Path("menu.txt").write_text("caf\u00e9 bitte\n", encoding="utf-8")
    run("build", "menu.txt")
    assert run("match", "menu.vocab", "cafe\u0301 bitte").out == "inside\n"


def test_a_grammar_is_not_replaced_by_what_is_made_of_it(run: Run) -> None:
    Path("house.txt").rename("house.vocab")
    result = run("build", "house.vocab", "--overwrite")
    assert (result.code, "would take the place of what it is made from" in result.err) == (2, True)
    assert Path("house.vocab").read_text(encoding="utf-8") == HOUSE


@pytest.mark.parametrize("command", [["show", "house.txt"], ["match", "house.txt", "light on"]])
def test_a_grammar_that_was_not_built_is_no_vocabulary(run: Run, command: list[str]) -> None:
    result = run(*command)
    assert (result.code, result.out) == (1, "")
    assert "house.txt: not a vocabulary" in result.err and "asr vocab build" in result.err


def test_all_words_that_a_model_of_words_does_not_know_are_named(run: Run) -> None:
    Path("tones.txt").write_text("low high\nLow high\nlow deep\nhigher\n", encoding="utf-8")
    result = run("build", "tones.txt", "--model", MODEL)
    assert result.code == 1
    assert "tones.txt: 3 of its words can't be heard by this model" in result.err
    assert "“Low”: write “low”" in result.err
    assert "“deep”: the model does not know it" in result.err
    assert "“higher”: the model does not know it" in result.err
    assert "“high”" not in result.err
    assert not Path("tones.vocab").exists()
    Path("tones.txt").write_text("low high\n", encoding="utf-8")
    assert run("build", "tones.txt", "--model", MODEL).code == 0


def test_all_letters_that_a_model_of_letters_does_not_know_are_named(run: Run, spelling_model: Path) -> None:
    Path("list.txt").write_text("turn on\nZoo quiz\nfive o’clock!\n–\nturn-off\n", encoding="utf-8")
    result = run("build", "list.txt", "--model", spelling_model)
    assert result.code == 1
    lines = [line.strip() for line in result.err.splitlines() if line.startswith("  “")]
    assert lines == [
        "“Zoo”: there is no token for “z”",
        "“five”: there is no token for “v”",
        "“o’clock!”: there is no token for “k”",
        "“quiz”: there is no token for “q”, “z”",
        "“turn-off”: write “turn off”",
        "“–”: leave it out, it is not spoken",
    ]
    Path("list.txt").write_text("turn on\nturn the lamp off\n", encoding="utf-8")
    assert run("build", "list.txt", "--model", spelling_model).code == 0


def test_no_such_model(run: Run) -> None:
    result = run("build", "house.txt", "--model", "nowhere")
    assert result.code == 1
    assert "nowhere" in result.err
