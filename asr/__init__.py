"""Train a speech recogniser on your own recordings, and use it.

import asr

recognizer = asr.load("runs/quickstart/model")
print(recognizer.transcribe("command.wav").text)
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Unpack

    from asr.decoder_settings import Choice
    from asr.recognizer import Recognizer

__all__ = ["load"]


def load(path: str | Path | None = None, device: str = "auto", **choice: Unpack[Choice]) -> Recognizer:
    """Load a trained model, ready to transcribe.

    Args:
        path: a model folder, or the folder of a run that made one; without it, the newest model below ./runs.
        device: auto, cpu, cuda or cuda:N; auto is the first GPU where there is one.
        choice: how to decode: decoder, lm, lexicon, alpha, beta, beam_width, rescore, nbest_rescored; what is left
            out is as the model has it.

    Raises:
        ModelError: there is no model, or it can't be used.
        ConfigError: there is no such device.
    """
    from asr import recognizer

    return recognizer.load(path, device, **choice)


if TYPE_CHECKING:
    __version__: str
else:  # a type checker would take it for a promise that there is whatever is asked for

    def __getattr__(name: str) -> str:
        if name == "__version__":
            from importlib.metadata import version

            return version("asr")
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
