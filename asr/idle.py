"""Settings that do nothing beside the others of a recipe: told to its user, and no reason to train anew."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from asr.config import Recipe, Section
from asr.recipe_file import value_to_yaml


class Rule(NamedTuple):
    """When a setting counts.

    Attributes:
        key: of the setting.
        other: the key of the setting that decides it.
        counts: whether it counts beside a value of that.
    """

    key: str
    other: str
    counts: Callable[[Any], bool]


def _among(*values: str) -> Callable[[Any], bool]:
    return values.__contains__


def _not_among(*values: str) -> Callable[[Any], bool]:
    return lambda value: value not in values


def _is_unset(value: Any) -> bool:
    return value is None


RULES = (
    Rule("text.keep_characters", "text.punctuation", _among("remove")),
    Rule("features.n_mels", "features.kind", _not_among("spectrogram")),
    Rule("features.n_mfcc", "features.kind", _among("mfcc")),
    Rule("augment.spec_augment.freq_width", "augment.spec_augment.freq_masks", bool),
    Rule("augment.spec_augment.time_width", "augment.spec_augment.time_masks", bool),
    Rule("augment.spec_augment.time_fraction", "augment.spec_augment.time_masks", bool),
    Rule("augment.reverb.rt60_seconds", "augment.reverb.folder", _is_unset),
    Rule("augment.reverb.kind", "augment.reverb.folder", _is_unset),
    Rule("augment.reverb.rooms", "augment.reverb.kind", _among("image")),
    Rule("augment.noise.colour", "augment.noise.folder", _is_unset),
    Rule("augment.noise.at_once", "augment.noise.folder", bool),
    Rule("model.frontend.kernel", "model.frontend.kind", _among("conv1d", "conv2d")),
    Rule("model.frontend.groups", "model.frontend.normalization", _among("group")),
    Rule("model.frontend.dropout_kind", "model.frontend.dropout", bool),
    Rule("model.encoder.dropout_kind", "model.encoder.dropout", bool),
    Rule("model.encoder.forget_bias", "model.encoder.cell", _among("lstm")),
    Rule("pretrain.noise.colour", "pretrain.noise.folder", _is_unset),
    Rule("pretrain.noise.at_once", "pretrain.noise.folder", bool),
    Rule("pretrain.mask_span", "pretrain.mask_share", bool),
    Rule("training.momentum", "training.optimizer", _among("momentum", "nesterov")),
    Rule("training.betas", "training.optimizer", _among("adam", "adamw", "nadam")),
    Rule("training.rho", "training.optimizer", _among("adadelta", "rmsprop")),
    Rule("training.backstitch_interval", "training.backstitch", bool),
    Rule("training.final_factor", "training.schedule", _not_among("constant", "step")),
    Rule("training.step_at", "training.schedule", _among("step")),
    Rule("training.step_factor", "training.schedule", _among("step", "plateau")),
    Rule("training.plateau_patience", "training.schedule", _among("plateau")),
    Rule("training.batch_growth", "training.schedule", _not_among("constant")),
)


def remarks(recipe: Recipe) -> list[str]:
    """What a recipe says in vain, a sentence for each setting that is not at its default and does nothing."""
    found = []
    for rule, before in _idle(recipe):
        key, other = (f"{key}={value_to_yaml(_value(before, key))}" for key in (rule.key, rule.other))
        found.append(f"{key} does nothing with {other}")
    masks, epochs = recipe.augment.spec_augment, recipe.training.epochs
    if masks is not None and masks.start_epoch > epochs:
        found.append(
            f"augment.spec_augment does nothing: its start_epoch is {masks.start_epoch}, training.epochs {epochs}"
        )
    if recipe.training.schedule == "step" and not recipe.training.step_at:
        found.append("training.schedule=step does nothing with an empty training.step_at")
    return found


def without(recipe: Recipe) -> Recipe:
    """The recipe with all settings that do nothing at their defaults."""
    for rule, before in _idle(recipe):
        recipe = _with_default(before, rule.key.split("."))
    return recipe


def _idle(recipe: Recipe) -> Iterator[tuple[Rule, Recipe]]:
    """Rules of settings that do nothing, each with the recipe in which those before are at their defaults."""
    for rule in RULES:
        *path, name = rule.key.split(".")
        section = _value(recipe, ".".join(path))
        if section is None or getattr(section, name) == _default(section, name):
            continue
        if not rule.counts(_value(recipe, rule.other)):
            yield rule, recipe
            recipe = _with_default(recipe, rule.key.split("."))


def _value(recipe: Recipe, key: str) -> Any:
    value: Any = recipe
    for name in key.split("."):
        value = getattr(value, name, None)
    return value


def _default(section: Section, name: str) -> Any:
    return type(section).model_fields[name].get_default(call_default_factory=True)


def _with_default(section: Any, path: list[str]) -> Any:
    name, *rest = path
    value = _with_default(getattr(section, name), rest) if rest else _default(section, name)
    return section.model_copy(update={name: value})
