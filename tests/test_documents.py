"""What the documents tell users to type can be typed, and their links lead somewhere."""

from __future__ import annotations

import inspect
import re
import shlex
import typing
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from typer.main import get_command

from asr import recipe_file, reference
from asr.cli import app
from asr.cli.recipe_options import RecipeCommand

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "recipes/*/README.md", "scripts/*.md", "data/*.md")
    for path in ROOT.glob(pattern)
)
NAMES = [str(path.relative_to(ROOT)) for path in DOCUMENTS]
FENCED = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
SPAN = re.compile(r"(`+)(?!`)(.+?)(?<!`)\1(?!`)", re.DOTALL)
SETTING = re.compile(r"([a-z][a-z0-9_]*(?:\.[a-z0-9_]+)*)=(.*)", re.DOTALL)


class Line(NamedTuple):
    """A command as it is written; `whole`: one to be typed as it stands, not one that is only named."""

    text: str
    whole: bool


def fenced(text: str, *languages: str) -> list[str]:
    return [content for language, content in FENCED.findall(text) if language in languages]


def spans(text: str) -> list[str]:
    """Code within sentences."""
    paragraphs = re.split(r"\n\s*\n", FENCED.sub("\n\n", text))
    return [" ".join(code.split()) for paragraph in paragraphs for _, code in SPAN.findall(paragraph)]


def commands(text: str) -> Iterator[Line]:
    """Those of asr."""
    for block in fenced(text, "sh", "text", "console", "bash", "bat"):
        lines = re.sub(r"\\\n\s*", "", block).splitlines()
        shown = any(line.startswith("$ ") for line in lines)  # with what they print
        yield from (Line(line.removeprefix("$ "), True) for line in lines if line.startswith("$ ") or not shown)
    for span in spans(text):
        first, *others = span.split(" | ") if "[" not in span else [span]
        yield Line(first, False)
        words = first.split()
        if words[:1] == ["asr"] and len(words) > 2:  # `asr recipes list | show NAME`
            yield from (Line(" ".join([*words[:2], other]), False) for other in others if other[:4] != "asr ")


def arguments(line: str) -> Iterator[list[str]]:
    """What asr is called with, for each time that a command line calls it."""
    words = shlex.shlex(line.replace("\\", "/"), posix=True, punctuation_chars="|&;<>")
    words.whitespace_split, words.commenters = True, "#"
    called: list[str] | None = None
    try:
        for word in words:
            if set(word) <= set("|&;<>"):
                if called is not None:
                    yield called
                called = None
            elif called is not None:
                called.append(word)
            elif word == "asr" or word.endswith(("bin/asr", "Scripts/asr")):
                called = []
    except ValueError:  # no command: a quotation mark that is an apostrophe
        return
    if called is not None:
        yield called


def is_placeholder(word: str) -> bool:
    return "…" in word or "..." in word or re.fullmatch(r"\[?[A-Z][A-Z_]*\]?", word) is not None


ALL = [
    (name, line)
    for name, path in zip(NAMES, DOCUMENTS, strict=True)
    if path.name != "CHANGELOG.md"  # tells of what was
    for line in dict.fromkeys(commands(path.read_text(encoding="utf-8")))
    if re.match(r"(\S*(bin/|Scripts.))?asr\s|.*[&;|]\s*\S*asr\s|srun\b.* asr |torchrun\b.* asr ", line.text)
]


def test_there_are_commands_in_the_documents() -> None:
    assert {"README.md", "recipes/quickstart/README.md"} <= {name for name, _ in ALL}
    assert sum(line.whole for _, line in ALL) > 10
    assert sum(not line.whole for _, line in ALL) > 10


@pytest.mark.parametrize(("name", "line"), ALL, ids=lambda value: value if isinstance(value, str) else value.text)
def test_commands_and_their_options_and_settings_are_there(name: str, line: Line) -> None:
    calls = list(arguments(line.text))
    assert calls
    for words in calls:
        check(words, line.whole)


def check(words: list[str], whole: bool) -> None:
    command: Any = get_command(app)
    words = [word for word in words if word not in ("--debug", "\\")]
    while words and hasattr(command, "commands"):
        if words[0] in ("COMMAND", "…", "...") or words[0] == "--help":
            return
        if words[0].startswith("-"):
            break  # an option of asr itself
        assert words[0] in command.commands, f"there is no command {words[0]}"
        command = command.commands[words.pop(0)]
    if "--help" in words or (hasattr(command, "commands") and not words and not whole):
        return
    words = [without_brackets(word) for word in words if word not in ("…", "...")]
    context, types = command.context_class(command), typing.get_type_hints(inspect.unwrap(command.callback))
    values, extra, _ = command.make_parser(context).parse_args(words)  # which says what option is not there
    assert extra == []
    for parameter in command.params:
        value = values.get(parameter.name)
        for each in value if isinstance(value, list | tuple) else [value]:
            if isinstance(each, str) and not is_placeholder(each):
                assert is_allowed(each, types[parameter.name]), f"{parameter.name}: {each}"
    if whole:
        missing = [each.name for each in command.params if each.required and not values.get(each.name)]
        assert missing == []
    if isinstance(command, RecipeCommand):
        check_settings(values.get("recipe"), [each for each in values.get("settings") or () if "=" in each])
        for vary in values.get("vary") or ():
            check_settings(None, [vary])


def without_brackets(word: str) -> str:
    """Those around what may be left out: [--option VALUE]."""
    if re.fullmatch(r"\[[^\[\]]*\]", word):
        return word[1:-1]
    if "[" in word and "]" in word:
        return word
    return word.removeprefix("[").removesuffix("]")


def is_allowed(value: str, annotation: Any) -> bool:
    """Whether a value is one of its type, as far as that needs no file."""
    members = typing.get_args(annotation)
    if typing.get_origin(annotation) is typing.Literal:
        return value in members
    if annotation in (int, float):
        return re.fullmatch(r"-?\d+" if annotation is int else r"-?(\d+\.?\d*|\.\d+)(e-?\d+)?", value) is not None
    if annotation is type(None) or annotation is bool:
        return False
    return any(is_allowed(value, each) for each in members if each is not ...) if members else True


def check_settings(recipe: str | None, settings: list[str]) -> None:
    """Against the schema; and where the recipe is one of ours, with it."""
    settings = [each for each in settings if not is_placeholder(each.partition("=")[0])]
    for setting in settings:
        assert is_key(setting.partition("=")[0]), setting
    complete = [each for each in settings if not is_placeholder(each.partition("=")[2])]
    name = (recipe or "").removeprefix("recipes/")
    if (ROOT / "recipes" / name / "recipe.yaml").is_file() and name:
        recipe_file.read_recipe(ROOT / "recipes" / name / "recipe.yaml", complete)


@cache
def known() -> tuple[set[str], set[str]]:
    """Keys of values, and of sections."""
    parts = reference.parts()
    return {each.key for part in parts for each in part.settings}, {part.key for part in parts} | {"prepare.corpus"}


def is_key(key: str) -> bool:
    """Whether a recipe can have it; settings that are mappings have keys of the user's below them."""
    settings, sections = known()
    return key in settings | sections or any(key.startswith(f"{each}.") for each in settings)


@pytest.mark.parametrize("name", NAMES)
def test_settings_in_sentences_are_there(name: str) -> None:
    """By their whole keys, or by the ends of these; arguments of Python's are told by their values."""
    if name == "CHANGELOG.md":
        pytest.skip("it tells of what was")
    for span in spans((ROOT / name).read_text(encoding="utf-8")):
        words = span.split() if name == "README.md" or name.startswith("recipes/") else []
        if not all(SETTING.fullmatch(word.strip("'")) for word in words) or re.search(
            r"=(True|False|None)\b", span
        ):
            continue  # a command, or Python
        for word in words:
            key = SETTING.fullmatch(word.strip("'"))[1]
            assert is_key(key) or recipe_file.keys_named(key), f"`{span}`: there is no setting {key}"


@pytest.mark.parametrize("name", NAMES)
def test_keys_of_recipes_in_documents_are_there(name: str) -> None:
    def keys(values: dict[str, Any], above: str = "") -> Iterator[str]:
        for key, value in values.items():
            yield f"{above}{key}"
            if isinstance(value, dict) and f"{above}{key}" not in known()[0]:
                yield from keys(value, f"{above}{key}.")

    for block in fenced((ROOT / name).read_text(encoding="utf-8"), "yaml"):
        values = yaml.safe_load(block)
        if isinstance(values, dict) and values.keys() & known()[1]:
            assert [key for key in keys(values) if not is_key(key)] == []


@pytest.mark.parametrize("name", NAMES)
def test_recipes_that_are_named_by_their_folders_are_there(name: str) -> None:
    for mentioned in re.findall(r"\basr train recipes/([\w-]+)", (ROOT / name).read_text(encoding="utf-8")):
        assert (ROOT / "recipes" / mentioned / "recipe.yaml").is_file()


# ----------------------------------------------------------------------------------------------------- links

LINK = re.compile(r"\[(?:[^\[\]]|\[[^\]]*\])*\]\(([^()\s]+)\)")


def anchors(path: Path) -> set[str]:
    """As GitHub makes them of headings."""
    found: list[str] = []
    for heading in re.findall(
        r"^#{1,6} +(.+?) *#*$", FENCED.sub("", path.read_text(encoding="utf-8")), re.MULTILINE
    ):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-")
        found.append(f"{slug}-{found.count(slug)}" if slug in found else slug)
    return {*found, *re.findall(r'<a (?:id|name)="([^"]+)"', path.read_text(encoding="utf-8"))}


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_somewhere(name: str) -> None:
    path = ROOT / name
    text = SPAN.sub("", FENCED.sub("", path.read_text(encoding="utf-8")))
    for link in LINK.findall(text):
        if re.match(r"[a-z]+:", link):
            continue  # of the web
        file, _, anchor = link.partition("#")
        target = (path.parent / file) if file else path
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target), link


def test_anchors_are_those_of_github() -> None:
    """Its own examples, docs.github.com, "Section links"; and the headings of ours that have code in them."""
    assert {"bench_augmentpy"} <= anchors(ROOT / "scripts" / "README.md")
    assert "your-own-recordings" in anchors(ROOT / "README.md")
