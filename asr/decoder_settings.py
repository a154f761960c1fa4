"""How a model's output is searched: settings that were tuned for it, and what a user wants instead."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, TypedDict, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from asr.errors import ConfigError


class Tuning(BaseModel):
    """What settings were tuned on, and what that brought: word error rates of one set, as fractions."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    manifest: str = Field(description="fingerprint of the manifest")
    utterances: int
    words: int
    wer_greedy: float
    wer_untuned: float
    wer: float


class DecoderSettings(BaseModel):
    """Of a beam search.

    Attributes:
        alpha: weight of the language model.
        beta: bonus of a word.
        unknown: bonus of a word that the language model does not know.
        beam_width: how many prefixes are kept at each frame.
        lm: file of the language model, ARPA or compact.
        lexicon: file of the only words that are allowed.
        tuning: where the numbers come from.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    alpha: Annotated[float, Field(ge=0)] = 0.5
    beta: float = 2.0
    unknown: float = -10.0
    beam_width: Annotated[int, Field(ge=1)] = 32
    lm: Path | None = None
    lexicon: Path | None = None
    tuning: Tuning | None = None


class Choice(TypedDict, total=False):
    """What a user may say of decoding; what is left out or None is as the model has it.

    decoder: "beam" is the default where the model has settings of its own or any of the others is given.
    lm, lexicon, alpha, beta, beam_width: as in `DecoderSettings`.
    """

    decoder: Literal["greedy", "beam"] | None
    lm: str | Path | None
    lexicon: str | Path | None
    alpha: float | None
    beta: float | None
    beam_width: int | None


def choose(own: DecoderSettings | None, choice: Choice) -> DecoderSettings | None:
    """Settings as the user wants them.

    Args:
        own: the model's.
        choice: the user's.

    Returns:
        Settings of a beam search, or None for greedy decoding.

    Raises:
        ConfigError: a value is out of range, or greedy decoding is chosen and something that it has no use for.
    """
    given = cast(Mapping[str, object], choice)
    changes = {name: value for name, value in given.items() if name != "decoder" and value is not None}
    decoder = choice.get("decoder")
    if decoder == "greedy":
        if changes:
            raise ConfigError(f"greedy decoding has no use for {', '.join(changes)}", expected="the decoder beam")
        return None
    if decoder is None and own is None and not changes:
        return None
    base = {} if own is None else own.model_dump()
    try:
        return DecoderSettings.model_validate({**base, **changes})
    except ValidationError as error:
        raise ConfigError(f"the decoder's settings are wrong: {faults(error)}") from None


def faults(error: ValidationError) -> str:
    """What is wrong with settings, on one line."""
    return "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
