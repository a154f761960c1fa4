"""What the report of a run's training tells of its recipe."""

from __future__ import annotations

from asr import reference
from asr.config import Recipe
from asr.recipe_file import to_yaml
from asr.training.report import About


def about(recipe: Recipe, pretraining: bool = False) -> About:
    """Of the training, or its self-supervised start: title, settings, and those that are not at their defaults."""
    title = recipe.name + (", before any transcript" if pretraining else "")
    return About(title, to_yaml(recipe), reference.changed(recipe))
