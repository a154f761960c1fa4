"""From log-probabilities to words, with their times and confidences."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from asr.decoding.greedy import GreedyDecoder
from asr.decoding.types import Hypothesis, Word

if TYPE_CHECKING:
    from asr.decoding.beam import Decoder

__all__ = ["Decoder", "GreedyDecoder", "Hypothesis", "Word"]


def __getattr__(name: str) -> Any:
    if name == "Decoder":  # whose compiler takes half a second to import
        from asr.decoding.beam import Decoder

        return Decoder
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
