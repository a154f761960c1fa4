"""Searching for settings of a recipe: trainings with different ones, compared on the dev set."""
