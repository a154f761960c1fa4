"""Everything that can be set is told, truly."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from command_line import command

from asr import recipe_file, reference
from asr.config import CORPORA
from asr.errors import ConfigError

ROOT = Path(__file__).parents[1]
RECIPES = ROOT / "recipes"
README = "\n\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "README.md", *ROOT.glob("docs/**/*.md")))
"""And what it leads to, if that has files of its own."""
SETTINGS = {setting.key: setting for part in reference.parts() for setting in part.settings}


def keys(values: dict[str, Any], above: str = "") -> Iterator[str]:
    """Of all sections and settings, however deep; what a setting has for its value may have keys of its own."""
    for name, value in values.items():
        key = f"{above}{name}"
        yield key
        if isinstance(value, dict) and key not in SETTINGS:
            yield from keys(value, f"{key}.")


@pytest.mark.parametrize("name", sorted(path.parent.name for path in RECIPES.glob("*/recipe.yaml")))
def test_every_key_of_every_recipe_is_told(name: str) -> None:
    values = yaml.safe_load(recipe_file.to_yaml(recipe_file.read_recipe(RECIPES / name / "recipe.yaml")))
    found = list(keys(values))
    assert "model.encoder.cell" in found and any(key.count(".") == 2 for key in found)
    assert {*SETTINGS, *(part.key for part in reference.parts()), "prepare.corpus"}.issuperset(found)


def test_there_are_recipes() -> None:
    assert "quickstart" in {path.parent.name for path in RECIPES.glob("*/recipe.yaml")}


@pytest.mark.parametrize("key", SETTINGS)
def test_each_setting_has_a_meaning_in_a_sentence(key: str) -> None:
    meaning = SETTINGS[key].meaning
    assert re.match(r"[A-Z`]|auto:|batch:|fbank:|train:", meaning)
    assert meaning.endswith((".", "}.", ")."))
    assert not meaning.startswith(("Of ", "At "))


@pytest.mark.parametrize("key", [key for key in SETTINGS if key != "name" and not key.startswith("prepare.")])
def test_defaults_are_values_that_a_recipe_may_have(key: str) -> None:
    default = SETTINGS[key].default
    assert default is not None
    recipe = recipe_file.read_recipe(RECIPES / "an4" / "recipe.yaml")
    assert recipe_file.with_settings(recipe, {key: yaml.safe_load(default)})


@pytest.mark.parametrize(
    ("key", "default", "allowed"),
    [
        ("training.epochs", "30", "a whole number, 1 or more"),
        ("training.step_factor", "0.1", "a number, above 0, below 1"),
        ("training.betas", "[0.9, 0.98]", "a pair; each: a number, 0 or more, below 1"),
        ("training.unfreeze", "{}", "{name: value}; each value: a whole number, 1 or more"),
        ("training.clip_value", "null", "a number, above 0, or null"),
        ("features.sample_rate", "16000", "a whole number, 4000 or more, at most 48000"),
        ("augment.tempo.factor", "[0.9, 1.1]", "a range [low, high] within 0.5 and 2"),
        ("augment.speed.factors", "[0.9, 1.0, 1.1]", "a list; each: a number, 0.25 or more, at most 4"),
        ("augment.gain_db.low", "-6.0", "a number, -60 or more, at most 60"),
        ("text.case", "lower", "lower, upper or keep"),
        ("text.replacements", "[]", "pairs {from: to}"),
        ("tokens.keep", "false", "true or false"),
        ("prepare.train", None, "a path"),
    ],
)
def test_what_is_allowed(key: str, default: str | None, allowed: str) -> None:
    settings = [setting for part in reference.about(key) for setting in part.settings]
    assert (settings[0].default, settings[0].allowed) == (default, allowed)


CHOICES = [
    (key, choice)
    for key, setting in SETTINGS.items()
    for choice in re.split(", | or ", setting.allowed)
    if re.fullmatch(r"[\w-]+( or [\w-]+)?|([\w-]+, )+[\w-]+ or [\w-]+", setting.allowed)
    if key.startswith(("features.", "model.", "training.", "tokens.kind"))
    and choice not in ("true", "false", "text")
]


def blocks() -> list[set[str]]:
    """The words that stand as code in each paragraph, item of a list and row of a table; keys are one word."""
    text = re.sub("```.*?```", "", README, flags=re.DOTALL)
    return [
        {word.rstrip(".") for span in re.findall("`([^`]+)`", block) for word in re.findall(r"[\w.-]+", span)}
        for block in re.split(r"\n\s*\n|\n(?=\||\s*[-*] )", text)
    ]


BLOCKS = blocks()


@pytest.mark.parametrize(("key", "choice"), CHOICES)
def test_every_choice_is_in_the_readme(key: str, choice: str) -> None:
    """Where the setting is told of, or its section: elsewhere, the same word means something else."""
    section, _, name = key.rpartition(".")
    told = [words for words in BLOCKS if choice in words]
    assert any(name in words or any(f"{word}.".startswith(f"{section}.") for word in words) for words in told)


def test_sections_settings_and_ends_of_names_are_found() -> None:
    assert [part.key for part in reference.about("model")] == ["model", "model.frontend", "model.encoder"]
    (part,) = reference.about("training.rho")
    assert [setting.key for setting in part.settings] == ["training.rho"]
    assert [part.key for part in reference.about("dropout")] == ["model.frontend", "model.encoder"]
    assert {part.choice for part in reference.about("prepare")} == set(CORPORA)
    several = reference.about("training.rho", "tokens", "training.epochs", "training.rho")
    assert [(part.key, len(part.settings)) for part in several] == [("tokens", 3), ("training", 2)]
    with pytest.raises(ConfigError, match="did you mean momentum"):
        reference.about("momentun")


def test_what_a_recipe_changes() -> None:
    recipe = recipe_file.read_recipe(
        RECIPES / "an4" / "recipe.yaml",
        ["augment={gain_db: [-3, 3]}", "pretrain={noise: null, epochs: 10}", "training.step_at=[0.5]", "seed=7"],
    )
    changed = dict(reference.changed(recipe))
    assert "prepare.seed" not in changed and "pretrain.noise=null" in changed
    assert {"seed=7", "augment.gain_db.low=-3.0", "pretrain.epochs=10", "training.step_at=[0.5]"} <= set(changed)
    assert changed["augment.gain_db"].startswith("Decibels")
    plain = recipe_file.with_settings(recipe, {"pretrain": None})
    assert not any(key.startswith("pretrain") for key, _ in reference.changed(plain))


def test_the_command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "70")
    run = command(capsys, "recipes", "settings")
    every = run().out
    assert all(name.rpartition(".")[2] in every for name in SETTINGS)
    assert max(map(len, every.splitlines())) <= 70
    some = run("training.epochs", "pretrain").out
    assert "  training.epochs = 30\n      a whole number, 1 or more\n      How often" in some
    assert "(off unless" in some and "training.rho" not in some
    wrong = run("training.epoch")
    assert wrong.code == 2 and "did you mean training.epochs" in wrong.err
