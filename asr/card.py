"""The model card: what a model's README says of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from asr.config import Recipe
from asr.errors import counted

TEMPLATE = """\
# {name}

A speech recogniser: {layers}, CTC over {tokens}, {parameters:,} parameters.
Trained with `asr`'s recipe `{name}` (seed {seed}, {epochs}) on {created}; `config.yaml` holds every
setting.{beginning}

## Use

    asr transcribe --model . recording.wav

or in Python:

    import asr
    print(asr.load(".").transcribe("recording.wav").text)

It expects speech like that of its training, sampled at {sample_rate} Hz or anything resampled to it, and answers
with text that is {case}. It knows no words or sounds beyond its training and makes no guess at who speaks.

## Word error rate

| test set | utterances | words | WER | interval | CER |
| --- | --- | --- | --- | --- | --- |
{rows}

The interval is a bootstrap's, over speakers where they are known, at {confidence:g} % confidence; decoding is
greedy unless a beam search is named.
"""


def model_card(recipe: Recipe, metadata: Mapping[str, Any]) -> str:
    """The card of a trained model, in Markdown.

    Args:
        recipe: resolved.
        metadata: as in the model's `metadata.json`.
    """
    encoder, frontend = recipe.model.encoder, recipe.model.frontend
    direction = "bidirectional " if encoder.bidirectional else ""
    layers = f"{counted(encoder.layers, f'{direction}{encoder.cell.upper()} layer')} of {encoder.hidden}"
    return TEMPLATE.format(
        name=recipe.name,
        layers=f"{frontend.kind} front-end, {layers}",
        tokens=recipe.tokens.kind
        if recipe.tokens.size is None
        else f"{recipe.tokens.size} {recipe.tokens.kind} units",
        parameters=metadata["training"]["parameters"],
        seed=recipe.seed,
        epochs=counted(metadata["training"]["epochs"], "epoch"),
        created=metadata["created"][:10],
        beginning=_beginning(metadata.get("begun_from")),
        sample_rate=recipe.features.sample_rate,
        case={"lower": "lower-case", "upper": "upper-case", "keep": "in mixed case"}[recipe.text.case],
        rows="\n".join(_row(test) for test in metadata["tests"]),
        confidence=100 * recipe.evaluate.confidence,
    )


def _beginning(model: Mapping[str, Any] | None) -> str:
    if model is None:
        return ""
    return f" It began with the weights of another model, `{model['name']}` ({str(model['created'])[:10]})."


def _row(test: Mapping[str, Any]) -> str:
    interval = f"{test['ci_low']:.2%} to {test['ci_high']:.2%}"
    return (
        f"| {test['name']} | {test['utterances']} | {test['words']} "
        f"| {test['wer']:.2%} | {interval} | {test['cer']:.2%} |"
    )
