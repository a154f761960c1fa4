"""Language models of either kind, told apart by what their files hold, not by their names."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from asr.text import compact, ngram
from asr.text.ngram import NgramModel

if TYPE_CHECKING:
    from asr.text.neural import NeuralLm


def load(path: str | Path) -> NgramModel | NeuralLm:
    """Read a language model: n-grams (ARPA, or asr's compact form) or what `asr lm train` writes.

    Raises:
        DataError: it is missing, damaged, from a newer asr, or something else.
    """
    if is_neural(Path(path)):
        from asr.text import neural

        return neural.load(path)
    return ngram.load(path)


def is_neural(path: Path) -> bool:
    """Whether this is the file of a neural language model.

    Raises:
        DataError: it is damaged.
    """
    if not path.is_file() or not compact.is_compact(path) or ngram.is_saved(path):
        return False
    from asr.text import neural  # torch: only where it is needed

    return neural.is_neural(path)
