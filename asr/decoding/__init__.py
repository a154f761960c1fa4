"""From log-probabilities to words, with their times and confidences."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from asr.decoding.types import Hypothesis, Word

if TYPE_CHECKING:
    from asr.decoding.beam import Decoder
    from asr.decoding.greedy import GreedyDecoder

__all__ = ["Decoder", "GreedyDecoder", "Hypothesis", "Word"]


def __getattr__(name: str) -> Any:
    # What brings torch and a compiler along is imported where it is used.
    if name == "Decoder":
        from asr.decoding.beam import Decoder

        return Decoder
    if name == "GreedyDecoder":
        from asr.decoding.greedy import GreedyDecoder

        return GreedyDecoder
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
