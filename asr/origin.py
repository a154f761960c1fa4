"""The model that a training begins with: which one it is, its tokens, its weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from asr import artefact, build, idle
from asr.config import Model, Recipe
from asr.errors import ConfigError, ModelError
from asr.features import FeatureExtractor
from asr.files import read_record
from asr.model.acoustic import AcousticModel
from asr.recipe_file import read_recipe
from asr.reporting import Reporter
from asr.text import tokenizer as tokenizers
from asr.text.tokenizer import Tokenizer
from asr.training.transfer import some_tokens, transfer

ANEW = {"dropout", "dropout_kind", "weight_dropout", "initialization", "recurrent_initialization", "forget_bias"}
"""Settings of layers that trained weights don't depend on."""


def describe(recipe: Recipe, record: Path) -> dict[str, Any] | None:
    """Where the model is that a training begins with, what tells it from all others, and how good it is.

    Args:
        recipe: of the training.
        record: what this returned when the training began, or no file yet: so a run can be finished when the
            model is gone, unless its statistics of features are needed again (`features.normalization: global`).

    Returns:
        Its path and `artefact.identity`, or None where all weights are new.

    Raises:
        ModelError: there is no such model.
        ConfigError: its features are not those of the recipe, or its tokens are to be kept, and of another kind.
    """
    path = recipe.training.init_from
    if path is None:
        return None
    try:
        folder = artefact.locate(path)
    except ModelError:
        known = read_record(record)
        if known.get("path") != str(path):
            raise
        return known
    there = read_recipe(folder / artefact.CONFIG)
    _check_features(recipe, there, folder)
    _check_kept_tokens(recipe, there.tokens.kind, folder)
    return {"path": str(path), **artefact.identity(folder)}


def tokens(recipe: Recipe, texts: Sequence[str]) -> Tokenizer:
    """The tokens of a recipe's normalised training transcripts; with `tokens.keep`, after all those of the model.

    Raises:
        ConfigError: that model has tokens of another kind, or pieces that can't spell the transcripts.
    """
    section, path = recipe.tokens, recipe.training.init_from
    if not section.keep or path is None:
        return build.tokens(section, texts)
    folder = artefact.locate(path)
    kept = tokenizers.load(folder)
    _check_kept_tokens(recipe, kept.kind, folder)
    if kept.kind in ("characters", "words"):
        return tokenizers.extended(kept, build.tokens(section, texts))
    if strange := tokenizers.uncovered(kept, texts):
        raise ConfigError(
            f"the pieces of this model can't spell {some_tokens(list(strange))} of the transcripts",
            where=folder,
            hint="tokens.keep=false, for pieces of their own",
        )
    return kept


def features(path: Path) -> FeatureExtractor:
    """The features of a model, with its statistics: its weights belong to them, and few recordings give worse."""
    return artefact.load(artefact.locate(path)).features


def inherit(recipe: Recipe, acoustic: AcousticModel, tokenizer: Tokenizer, reporter: Reporter) -> None:
    """Give a new model the weights of the model to begin with, as far as they fit, and tell the user how far.

    Args:
        recipe: of the training.
        acoustic: with new weights; changed in place.
        tokenizer: its tokens.
        reporter: told what was taken over.

    Raises:
        ModelError: there is no such model, or it is damaged.
        ConfigError: its features are not those of the recipe, or nothing in it fits.
    """
    path = recipe.training.init_from
    if path is None:
        return
    folder = artefact.locate(path)
    model = artefact.load(folder)
    _check_features(recipe, model.config, folder)
    taken = transfer(model.acoustic.state_dict(), model.tokenizer.surfaces, acoustic, tokenizer.surfaces)
    others = [f"\n  {line}" for line in _differences(model.config.model, recipe.model)]
    if not taken.anything:
        raise ConfigError(
            "none of its weights fit this model" + "".join(others),
            where=folder,
            expected="layers of the same kind and width, or tokens that both have",
            hint="that model's settings, as in its config.yaml, or no training.init_from",
        )
    reporter.say(f"  begins with {model.metadata.get('name', folder.name)} ({folder}):")
    for line in str(taken).splitlines():
        reporter.say(f"    {line}")
    if taken.dropped:
        reporter.say(
            f"  left behind: {some_tokens(taken.dropped)}, which the new transcripts don't have; "
            "tokens.keep=true to keep what the model can say"
        )
    if others:
        reporter.warn("weights go by their names and shapes, but that model was made otherwise" + "".join(others))


def _check_features(wanted: Recipe, there: Recipe, folder: Path) -> None:
    """The lowest weights belong to certain bins at a certain rate and scale: with others they mean nothing."""
    here, model = (idle.without(recipe).features.model_dump(mode="json") for recipe in (wanted, there))
    others = [key for key in here if here[key] != model[key]]
    if others:
        raise ConfigError(
            "the features that this model hears are not the recipe's"
            + "".join(f"\n  features.{key}: {model[key]} there, {here[key]} here" for key in others),
            where=folder,
            expected="the same, so that its weights mean the same",
            hint=" ".join(f"features.{key}={model[key]}" for key in others),
        )


def _check_kept_tokens(wanted: Recipe, there: str, folder: Path) -> None:
    if wanted.tokens.keep and wanted.tokens.kind != there:
        raise ConfigError(
            f"tokens.keep with {wanted.tokens.kind}, but the tokens of the model to begin with are {there}",
            where=folder,
            hint=f"tokens.kind={there}",
        )


def _differences(there: Model, here: Model) -> Iterator[str]:
    old, new = there.model_dump(mode="json"), here.model_dump(mode="json")
    for part, settings in old.items():
        for key, value in settings.items():
            if key not in ANEW and value != new[part][key]:
                yield f"model.{part}.{key}: {value} there, {new[part][key]} here"
