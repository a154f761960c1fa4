"""The corpora that recipes prepare, by the name that a recipe gives them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from asr.data.corpora import commands, fsdd, speechocean762

PREPARE: Mapping[str, Callable[..., None]] = {
    "commands": commands.prepare,
    "fsdd": fsdd.prepare,
    "speechocean762": speechocean762.prepare,
}
"""Each takes the keys of its section of the recipe, `output` (the corpus's folder) and `progress`; it writes the
manifests and, last, `corpus.json`, which names them."""
