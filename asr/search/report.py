"""What a search found, for the terminal: a table of the trials, the best settings to copy, what matters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from asr.search.space import Space, text
from asr.search.study import Plan, Trial

_NUMBER_WIDTH = 9  # characters


def short_names(keys: Sequence[str]) -> dict[str, str]:
    """The ends of keys by which they differ: `model.encoder.dropout` is `dropout` if no other one is."""

    def ending(key: str, parts: int) -> str:
        return ".".join(key.split(".")[-parts:])

    def shortest(key: str) -> str:
        lengths = range(1, key.count(".") + 2)
        others = [other for other in keys if other != key]
        return next(
            name for parts in lengths if (name := ending(key, parts)) not in [ending(o, parts) for o in others]
        )

    return {key: shortest(key) for key in keys}


def heading(plan: Plan) -> str:
    """Of a table of trials."""
    names = (f"{name:>{width}}" for name, width in _columns(plan).values())
    return f"trial  {plan.metric.upper()} %  epochs  {'  '.join(names)}"


def row(trial: Trial, plan: Plan) -> str:
    """Of a table of trials."""
    values = (f"{text(trial.settings[key]):>{width}}" for key, (_, width) in _columns(plan).items())
    value = error_rate(trial, plan)
    figure = "" if value is None else f"{100 * value:.2f}"
    note = "" if trial.state == "finished" else f"  {trial.state}"
    fault = f": {' '.join(trial.fault.split())}" if trial.fault else ""
    return f"{trial.number:>5}  {figure:>5}  {len(trial.curve):>6}  {'  '.join(values)}{note}{fault}"


def headline(trials: Sequence[Trial], plan: Plan) -> str:
    """How many trials there were, and what was spared by stopping some."""
    states = [trial.state for trial in trials]
    counts = [f"{states.count(state)} {state}" for state in dict.fromkeys(sorted(states))]
    trained = sum(len(trial.curve) for trial in trials)
    spared = sum(_epochs(trial, plan) - len(trial.curve) for trial in trials if trial.state == "pruned")
    said = f"{len(trials)} trials: {', '.join(counts)}; {trained} epochs"
    return f"{said}, pruning spared {spared} more ({spared / (spared + trained):.0%})" if spared else said


def summary(trials: Sequence[Trial], plan: Plan, importances: Mapping[str, float], most: int = 10) -> list[str]:
    """The best trials and the importances, for the terminal."""
    ordered = sorted(trials, key=lambda trial: trial.rank(plan.metric))
    lines = [headline(trials, plan), "", heading(plan), *(row(trial, plan) for trial in ordered[:most])]
    if len(ordered) > most:
        lines.append(f"… and {len(ordered) - most} more in the report")
    if importances:
        names = short_names(list(importances))
        width = max(map(len, names.values()))
        lines += ["", f"importance (share of the variance of the {plan.metric.upper()}, fANOVA)"]
        lines += [
            f"  {names[key]:{width}}  {share:4.0%}  {'#' * round(40 * share)}".rstrip()
            for key, share in importances.items()
        ]
    return lines


def arguments(settings: Mapping[str, Any]) -> list[str]:
    """Settings as arguments KEY=VALUE."""
    return [f"{key}={text(value)}" for key, value in settings.items()]


def _columns(plan: Plan) -> dict[str, tuple[str, int]]:
    """Name and width of the column of each key."""
    names = short_names([space.key for space in plan.spaces])
    return {space.key: (names[space.key], max(len(names[space.key]), _longest(space))) for space in plan.spaces}


def _longest(space: Space) -> int:
    return max((len(text(point)) for point in space.points or ()), default=_NUMBER_WIDTH)


def error_rate(trial: Trial, plan: Plan) -> float | None:
    """What a trial is measured by, if it has figures."""
    figures = trial.best(plan.metric)
    return None if figures is None else getattr(figures, plan.metric)


def _epochs(trial: Trial, plan: Plan) -> int:
    return int(trial.settings.get("training.epochs", plan.epochs))
