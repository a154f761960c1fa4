"""The corpora that recipes prepare, by the name that a recipe gives them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from asr.data.corpora import (
    an4,
    commands,
    common_voice,
    fsdd,
    librispeech,
    speech_commands,
    speechocean762,
    yesno,
)

PREPARE: Mapping[str, Callable[..., None]] = {
    "an4": an4.prepare,
    "commands": commands.prepare,
    "common-voice": common_voice.prepare,
    "fsdd": fsdd.prepare,
    "librispeech": librispeech.prepare,
    "speech-commands": speech_commands.prepare,
    "speechocean762": speechocean762.prepare,
    "yesno": yesno.prepare,
}
"""Each takes the keys of its section of the recipe, `output` (the corpus's folder) and `progress`; it writes the
manifests and, last, `corpus.json`, which names them."""
