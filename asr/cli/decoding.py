"""How to decode: the options that transcribing and evaluating share, and what they mean."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from threading import Timer
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from asr.errors import ConfigError, DataError, counted, quoted
from asr.files import read_text

if TYPE_CHECKING:
    from asr.decoder_settings import DecoderSettings
    from asr.decoding.automaton import Automaton
    from asr.decoding.types import Options
    from asr.reporting import Reporter

HOTWORD_BONUS = 3.0
COMPILED_GRAMMAR = ".vocab"
PATIENCE_SECONDS = 2.0

DecoderName = Annotated[
    Literal["greedy", "beam"] | None,
    typer.Option(
        "--decoder",
        help="How to search.",
        show_default="beam for a tuned model and with the options below, else greedy",
    ),
]
BeamWidth = Annotated[
    int | None,
    typer.Option(
        metavar="N", min=1, help="How many hypotheses to keep in each frame.", show_default="the model's, else 32"
    ),
]
LanguageModel = Annotated[
    Path | None,
    typer.Option(metavar="FILE", exists=True, dir_okay=False, help="N-gram model: .arpa, .arpa.gz or .ngram."),
]
Alpha = Annotated[
    float | None,
    typer.Option(metavar="X", min=0, help="The language model's weight.", show_default="the model's, else 0.5"),
]
Beta = Annotated[
    float | None,
    typer.Option(
        metavar="X", help="Bonus of a word (with an LM of tokens, of a token).", show_default="the model's, else 2"
    ),
]
Lexicon = Annotated[
    Path | None,
    typer.Option(metavar="FILE", exists=True, dir_okay=False, help="The only words there are, one to a line."),
]
Hotwords = Annotated[
    str | None,
    typer.Option(
        metavar="FILE_OR_LIST",
        help=f'Words and phrases to expect: "anna:5, new york", or a file with one to a line and, '
        f"after a tab, its bonus ({HOTWORD_BONUS:g} by default).",
    ),
]
GrammarFile = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        exists=True,
        dir_okay=False,
        help="Hear only its sentences: its text, or what `asr vocab build` made of it. Excludes --lm, --alpha, "
        "--beta, --lexicon, --rescore and --nbest-rescored.",
    ),
]
Rescore = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        exists=True,
        dir_okay=False,
        help="Another language model, to rerank the best hypotheses: as --lm, or a neural one (.safetensors).",
    ),
]
NbestRescored = Annotated[
    int | None,
    typer.Option(
        min=1, metavar="N", help="How many of them it ranks; 1 leaves it out.", show_default="the model's, else 50"
    ),
]
RejectAbove = Annotated[
    float | None,
    typer.Option(
        metavar="X", min=0, help="With --grammar: no text where the rejection is higher.", show_default="never"
    ),
]


@dataclass(frozen=True)
class DecodingOptions:
    """The options of decoding as they were given; None where one was not."""

    decoder: Literal["greedy", "beam"] | None = None
    beam_width: int | None = None
    lm: Path | None = None
    alpha: float | None = None
    beta: float | None = None
    lexicon: Path | None = None
    hotwords: str | None = None
    grammar: Path | None = None
    reject_above: float | None = None
    rescore: Path | None = None
    nbest_rescored: int | None = None
    nbest: int = 1

    def __post_init__(self) -> None:
        """Refuse contradictions.

        Raises:
            ConfigError: two options exclude each other.
        """
        searched = ("beam_width", "lm", "alpha", "beta", "lexicon", "hotwords", "grammar")
        beam = self._given(*searched, "rescore", "nbest_rescored", "nbest")
        if self.decoder == "greedy" and beam:
            raise ConfigError(f"--decoder greedy knows no {beam[0]}", hint="--decoder beam")
        words = self._given("lm", "alpha", "beta", "lexicon", "rescore", "nbest_rescored")
        if self.grammar is not None and words:
            raise ConfigError(
                f"--grammar and {words[0]} exclude each other", expected="one of them: a grammar has its own words"
            )
        if self.reject_above is not None and self.grammar is None:
            raise ConfigError("--reject-above without --grammar", hint="--grammar FILE")

    def settings(self, own: DecoderSettings | None) -> DecoderSettings | None:
        """Settings of the search, None for greedy decoding, given those of the model.

        Raises:
            ConfigError: a weight is given and nothing that it weighs, or a number of hypotheses and nothing that
            rescores them.
        """
        from asr.decoder_settings import choose

        at_each_call = self._given("hotwords", "grammar", "nbest")
        settings = choose(
            own,
            {
                "decoder": "beam" if at_each_call else self.decoder,
                "lm": self.lm,
                "lexicon": self.lexicon,
                "alpha": self.alpha,
                "beta": self.beta,
                "beam_width": self.beam_width,
                "rescore": self.rescore,
                "nbest_rescored": self.nbest_rescored,
            },
        )
        if settings is not None and self.grammar is not None:
            return settings.model_copy(update={"lm": None, "lexicon": None, "rescore": None})
        return settings

    def options(self) -> Options:
        """What goes into each call of the decoder.

        Raises:
            ConfigError, DataError: the hotwords or the grammar can't be read.
        """
        options: Options = {}
        if self.nbest > 1:
            options["nbest"] = self.nbest
        if self.hotwords is not None:
            options["hotwords"] = read_hotwords(self.hotwords)
        if self.grammar is not None:
            options["grammar"] = _read_grammar(self.grammar)
        return options

    def _given(self, *names: str) -> list[str]:
        """Those of the options that were given, as one types them."""
        given = [field.name for field in fields(self) if getattr(self, field.name) != field.default]
        return [f"--{name.replace('_', '-')}" for name in names if name in given]


def read_hotwords(argument: str) -> dict[str, float]:
    """Phrases and their bonuses, from a file or as they stand.

    Raises:
        ConfigError: a bonus in the argument is no number, it has no phrases, or it means a file that is not there.
        DataError: the same in a file, with the line; or it holds no phrases.
    """
    path = Path(argument)
    if os.path.isfile(argument):  # noqa: PTH113  # Path.is_file fails where the phrases are longer than a name may be
        return _hotwords_in(path)
    if _means_a_file(argument):
        raise ConfigError(
            "there is no such file",
            where=f"--hotwords {argument}",
            hint=f'where it is a phrase, a comma behind it: --hotwords "{argument},"',
        )
    expected = 'phrases such as "anna:5, new york"'
    try:
        hotwords = dict(_hotword(part, ":") for part in argument.split(",") if part.strip())
    except ValueError as error:
        raise ConfigError(str(error), where="--hotwords", expected=expected) from None
    if not hotwords:
        raise ConfigError("holds no phrases", where=f"--hotwords {quoted(argument)}", expected=expected)
    return hotwords


def _means_a_file(argument: str) -> bool:
    if argument.endswith((".txt", ".tsv")):
        return True
    if "," in argument:
        return False
    return "/" in argument or os.sep in argument or re.fullmatch(r"\S+\.[A-Za-z]{1,5}", argument) is not None


def _hotwords_in(path: Path) -> dict[str, float]:
    hotwords = {}
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if line.strip() and not line.startswith("#"):
            try:
                phrase, bonus = _hotword(line, "\t")
            except ValueError as error:
                raise DataError(
                    str(error), where=f"{path}, line {number}", expected="a phrase, a tab, a number"
                ) from None
            hotwords[phrase] = bonus
    if not hotwords:
        raise DataError("holds no phrases", where=path, expected="one to a line")
    return hotwords


def _hotword(text: str, mark: str) -> tuple[str, float]:
    if mark not in text:
        return text.strip(), HOTWORD_BONUS
    phrase, _, written = text.rpartition(mark)
    try:
        bonus = float(written)
    except ValueError:
        bonus = math.nan
    if not math.isfinite(bonus):
        raise ValueError(f"the bonus of {phrase.strip()!r} is {written.strip()!r}, not a number")
    return phrase.strip(), bonus


def _read_grammar(path: Path) -> Automaton:
    from asr.decoding import automaton
    from asr.text import grammar

    if path.suffix == COMPILED_GRAMMAR:
        return automaton.load(path)
    return automaton.compile(grammar.read(path))


def prepare(settings: DecoderSettings | None, reporter: Reporter) -> None:
    """Compile the decoder; say so where that takes time."""
    if settings is None:
        from asr.decoding.greedy import warm
    else:
        from asr.decoding.beam import warm
    with announced("loading the decoder; the first time, compiling it takes half a minute …", reporter):
        warm()


@contextmanager
def announced(message: str, reporter: Reporter) -> Iterator[None]:
    """Say what takes so long, if the block takes long."""
    timer = Timer(PATIENCE_SECONDS, reporter.say, [message])
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def describe(
    settings: DecoderSettings | None, decoding: DecodingOptions, hotwords: Mapping[str, float] | None
) -> str:
    """How recordings will be decoded, in a few words."""
    if settings is None:
        return "greedy decoding"
    parts = [f"beam search of width {settings.beam_width}"]
    if settings.lm is not None:
        parts.append(f"language model {settings.lm.name} (alpha {settings.alpha:g}, beta {settings.beta:g})")
    if settings.lexicon is not None:
        parts.append(f"words of {settings.lexicon.name}")
    if hotwords:
        parts.append(counted(len(hotwords), "hotword"))
    if decoding.grammar is not None:
        parts.append(f"sentences of {decoding.grammar.name}")
    if settings.rescore is not None and settings.rescores:
        parts.append(f"the best {settings.nbest_rescored} rescored by {settings.rescore.name}")
    return ", ".join(parts)
