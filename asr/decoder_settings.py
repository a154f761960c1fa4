"""How a model's output is searched: settings that were tuned for it, and what a user wants instead."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, TypedDict, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from asr.errors import ConfigError
from asr.mistakes import in_words

MOST_BONUS = 100.0
"""Of a word, in nats: its exponential, and the product of several, is still a number."""


class Tuning(BaseModel):
    """What settings were tuned on, and what that brought: word error rates of one set, as fractions."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    manifest: str = Field(description="fingerprint of the manifest")
    utterances: int
    words: int
    wer_greedy: float
    wer_untuned: float
    wer: float


class RescoringTuning(BaseModel):
    """What the weights of a rescoring were tuned on, and what that brought: word error rates, as fractions."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    manifest: str = Field(description="fingerprint of the manifest")
    utterances: int
    words: int
    wer_first_pass: float
    wer_untuned: float
    wer: float


class DecoderSettings(BaseModel):
    """Of a beam search, and of what ranks its best hypotheses anew (see `asr.decoding.rescoring`).

    Attributes:
        alpha: weight of the language model.
        beta: bonus of a word, or of a token where the language model is one of tokens.
        unknown: bonus of a word, or token, that neither the language model nor the lexicon knows.
        beam_width: how many prefixes are kept at each frame.
        lm: file of the language model, ARPA or compact.
        lexicon: file of the only words that are allowed.
        rescore: file of a second language model, which ranks the best hypotheses anew.
        nbest_rescored: how many hypotheses it ranks; with 1, it is left out.
        gamma: its weight.
        delta: bonus of a word in this ranking.
        first_pass: share of the first language model's part that stays.
        tuning, rescoring_tuning: where the numbers come from.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    alpha: Annotated[float, Field(ge=0)] = 0.5
    beta: Annotated[float, Field(ge=-MOST_BONUS, le=MOST_BONUS)] = 2.0
    unknown: Annotated[float, Field(le=MOST_BONUS)] = -10.0
    beam_width: Annotated[int, Field(ge=1)] = 32
    lm: Path | None = None
    lexicon: Path | None = None
    rescore: Path | None = None
    nbest_rescored: Annotated[int, Field(ge=1)] = 50
    gamma: Annotated[float, Field(ge=0)] = 0.25
    delta: float = 0.0
    first_pass: Annotated[float, Field(ge=0)] = 0.5
    tuning: Tuning | None = None
    rescoring_tuning: RescoringTuning | None = None

    @property
    def rescores(self) -> bool:
        """Whether hypotheses are ranked anew."""
        return self.rescore is not None and self.nbest_rescored > 1


class Choice(TypedDict, total=False):
    """What a user may say of decoding; what is left out or None is as the model has it.

    decoder: "beam" is the default where the model has settings of its own or any of the others is given.
    lm, lexicon, alpha, beta, beam_width, rescore, nbest_rescored: as in `DecoderSettings`.
    """

    decoder: Literal["greedy", "beam"] | None
    lm: str | Path | None
    lexicon: str | Path | None
    alpha: float | None
    beta: float | None
    beam_width: int | None
    rescore: str | Path | None
    nbest_rescored: int | None


def choose(own: DecoderSettings | None, choice: Choice) -> DecoderSettings | None:
    """Settings as the user wants them.

    Args:
        own: the model's.
        choice: the user's.

    Returns:
        Settings of a beam search, or None for greedy decoding.

    Raises:
        ConfigError: there is no such decoder, a value is out of range, greedy decoding is chosen and something
            that it has no use for, or a weight or a number of hypotheses and no language model that it is of.
    """
    given = cast(Mapping[str, object], choice)
    changes = {name: value for name, value in given.items() if name != "decoder" and value is not None}
    decoder = choice.get("decoder")
    if decoder not in (None, "greedy", "beam"):
        raise ConfigError(f"{decoder!r}", where="decoder", expected="greedy, beam, or None for the model's own")
    if decoder == "greedy":
        if changes:
            raise ConfigError(f"greedy decoding has no use for {', '.join(changes)}", expected="the decoder beam")
        return None
    if decoder is None and own is None and not changes:
        return None
    base = {} if own is None else own.model_dump()
    try:
        settings = DecoderSettings.model_validate({**base, **changes})
    except ValidationError as error:
        raise ConfigError(f"the decoder's settings are wrong: {faults(error)}") from None
    if settings.lm is None and (weight := next((name for name in ("alpha", "beta") if name in changes), None)):
        raise ConfigError(f"{weight} (--{weight}) without a language model", hint="--lm FILE; in Python, lm=FILE")
    if settings.rescore is None and "nbest_rescored" in changes:
        raise ConfigError(
            "nbest_rescored (--nbest-rescored) without a language model that rescores",
            hint="--rescore FILE; in Python, rescore=FILE",
        )
    return settings


def faults(error: ValidationError) -> str:
    """What is wrong with settings, on one line."""
    return "; ".join(f"{'.'.join(map(str, fault['loc']))}: {in_words(fault)}" for fault in error.errors())
