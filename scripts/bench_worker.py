"""A process in which decoders are timed: `bench_decoders.py` starts one for asr and one in the peers' environment.

It reads requests from standard input and writes answers to standard output, a JSON object to a line:

    {"task": "FOLDER", "decoder": "flashlight", "settings": {…}, "part": ["test", 0, 20], "seconds": 0.3}
    {"texts": ["…", …], "seconds": 0.71, "frames": 3920}

Alpha and beta are natural logarithms' for every decoder. `seconds` in a request: repeat so long and give the mean.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Frames = NDArray[np.float32]
"""(frames, vocab) natural log-probabilities of an utterance."""
BLANK, SPACE = "<blank>", "▁"


class Task(NamedTuple):
    """What is to be decoded; see `bench_decoders.save_task`."""

    folder: Path
    surfaces: list[str]
    kind: str
    words: list[str]


class Decoder(NamedTuple):
    """A decoder that is ready.

    prepare: puts utterances into the form that it takes, which is not timed.
    decode: to their texts.
    """

    prepare: Callable[[list[Frames]], Any]
    decode: Callable[[Any], list[str]]


# ---------------------------------------------------------------------------------------------------- ours


def asr(task: Task, settings: dict[str, Any]) -> Decoder:
    """The decoder of this project: with its language model unless "lm" is false, closed vocabulary if "closed".

    It gives texts only, as the peers do, unless "timestamps".
    """
    from asr.decoding.beam import Decoder as BeamDecoder
    from asr.text import ngram

    options = {key: settings.pop(key) for key in ("beam_width", "threads")}
    options["timestamps"] = settings.pop("timestamps", False)
    hotwords = task.words[-settings.pop("hotwords") :] if "hotwords" in settings else []
    options["hotwords"] = dict.fromkeys(hotwords, 1.0) or None
    lm = ngram.load(task.folder / "lm.arpa") if settings.pop("lm", True) else None
    lexicon = task.words if settings.pop("closed", False) else None
    decoder = BeamDecoder(task.surfaces, lm, lexicon, **settings)
    return Decoder(padded, lambda batch: [best.text for best in decoder.decode(*batch, **options)])


def greedy(task: Task, settings: dict[str, Any]) -> Decoder:
    """The greedy decoder of this project."""
    from asr.decoding.greedy import GreedyDecoder

    decoder, timestamps = GreedyDecoder(task.surfaces), settings.get("timestamps", False)
    return Decoder(padded, lambda batch: [best.text for best in decoder.decode(*batch, timestamps=timestamps)])


def argmax(task: Task, settings: dict[str, Any]) -> Decoder:
    """Only the best token of every frame, by numpy: the least that any decoder does."""

    def decode(batch: tuple[Frames, list[int]]) -> list[str]:
        batch[0].argmax(-1)
        return []

    return Decoder(padded, decode)


def padded(utterances: list[Frames]) -> tuple[Frames, list[int]]:
    """A batch (utterances, frames, vocab), and the lengths."""
    lengths = [len(utterance) for utterance in utterances]
    batch = np.zeros((len(utterances), max(lengths), utterances[0].shape[1]), np.float32)
    for row, utterance in zip(batch, utterances, strict=True):
        row[: len(utterance)] = utterance
    return batch, lengths


# --------------------------------------------------------------------------------------------------- peers


def flashlight(task: Task, settings: dict[str, Any]) -> Decoder:
    """Torchaudio's `ctc_decoder`, with log-add: over a lexicon or, of tokens that are whole words, over them."""
    import torch
    from torchaudio.models.decoder import ctc_decoder

    torch.set_num_threads(1)
    alpha, beta = settings.pop("alpha"), settings.pop("beta")
    language = {"lm_weight": alpha * np.log(10), "word_score": beta}  # KenLM's logarithms are to the base 10
    names = [surface.strip() if task.kind == "words" else surface.replace(" ", SPACE) for surface in task.surfaces]
    names[0] = BLANK
    lexicon = None if task.kind == "words" else str(task.folder / "lexicon.txt")
    silence = SPACE if SPACE in names else BLANK
    decoder = ctc_decoder(
        lexicon,
        names,
        _kenlm(task.folder, lexicon, tuple(names)),
        blank_token=BLANK,
        sil_token=silence,
        log_add=True,
        **language,
        **settings,
    )

    def prepare(utterances: list[Frames]) -> Any:
        # With characters every word ends with a space, so the last one needs it too.
        if task.kind == "characters":
            end = np.full((1, len(names)), -30.0, np.float32)
            end[0, names.index(SPACE)] = 0.0
            utterances = [np.concatenate((utterance, end)) for utterance in utterances]
        batch, lengths = padded(utterances)
        return torch.from_numpy(batch), torch.tensor(lengths)

    def decode(batch: Any) -> list[str]:
        if lexicon:
            return [" ".join(best.words) for best, *_ in decoder(*batch)]
        return [" ".join(decoder.idxs_to_tokens(best.tokens)) for best, *_ in decoder(*batch)]

    return Decoder(prepare, decode)


@cache
def _kenlm(folder: Path, lexicon: str | None, names: tuple[str, ...]) -> Any:
    """Flashlight's language model, whose loading takes longer than much of the tuning."""
    from flashlight.lib.text.decoder.kenlm import KenLM  # type: ignore[import-not-found]
    from flashlight.lib.text.dictionary import (  # type: ignore[import-not-found]
        Dictionary,
        create_word_dict,
        load_words,
    )

    words = create_word_dict(load_words(lexicon)) if lexicon else Dictionary(list(names))
    return KenLM(str(folder / "lm.arpa"), words)


def pyctcdecode(task: Task, settings: dict[str, Any]) -> Decoder:
    """Pyctcdecode with KenLM, open vocabulary."""
    options = {key: settings.pop(key) for key in ("beam_width", "beam_prune_logp", "token_min_logp")}
    decoder = _pyctcdecode(task.folder)
    decoder.reset_params(**settings)
    return Decoder(
        lambda utterances: utterances, lambda batch: [decoder.decode(frames, **options) for frames in batch]
    )


@cache
def _pyctcdecode(folder: Path) -> Any:
    from pyctcdecode import build_ctcdecoder  # type: ignore[import-not-found]

    task = load_task(folder)
    pieces = task.kind != "characters"
    labels = [surface.replace(" ", SPACE) if pieces else surface for surface in task.surfaces]
    return build_ctcdecoder(labels, str(folder / "lm.arpa"), task.words)


def fast_ctc_decode(task: Task, settings: dict[str, Any]) -> Decoder:
    """Fast-ctc-decode, which has no language model and takes probabilities; "cut" is a part of 1 / vocab."""
    from fast_ctc_decode import beam_search  # type: ignore[import-not-found]

    alphabet = [BLANK, *task.surfaces[1:]]
    settings["beam_cut_threshold"] = settings.pop("cut") / len(alphabet)  # it takes none of 1 / vocab or more
    return Decoder(
        lambda utterances: [np.exp(utterance) for utterance in utterances],
        lambda batch: [" ".join(beam_search(frames, alphabet, **settings)[0].split()) for frames in batch],
    )


BUILDERS = {
    builder.__name__: builder for builder in (asr, greedy, argmax, flashlight, pyctcdecode, fast_ctc_decode)
}


# -------------------------------------------------------------------------------------------------- answers


@cache
def load_task(folder: Path) -> Task:
    """Read what all decoders need."""
    description = json.loads((folder / "task.json").read_text(encoding="utf-8"))
    words = (folder / "words.txt").read_text(encoding="utf-8").split()
    return Task(folder, description["surfaces"], description["kind"], words)


@lru_cache(maxsize=2)
def load_utterances(path: Path) -> list[Frames]:
    """Read the log-probabilities of a set."""
    with np.load(path) as arrays:
        return np.split(arrays["log_probs"], np.cumsum(arrays["lengths"])[:-1])


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Decode the part of a set that a request names, and time it."""
    task = load_task(Path(request["task"]))
    name, start, stop = request["part"]
    utterances = load_utterances(task.folder / f"{name}.npz")[start:stop]
    decoder = BUILDERS[request["decoder"]](task, dict(request["settings"]))
    decoder.decode(decoder.prepare(utterances[:1]))  # whatever it does only once
    batch = decoder.prepare(utterances)
    passes, seconds = 0, 0.0
    while passes == 0 or seconds < request["seconds"]:
        start_time = time.perf_counter()
        texts = decoder.decode(batch)
        seconds += time.perf_counter() - start_time
        passes += 1
    return {"texts": texts, "seconds": seconds / passes, "frames": sum(map(len, utterances))}


def main() -> None:
    """Answer requests until there are no more."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # libraries that print must not print among the answers
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), file=answers, flush=True)


if __name__ == "__main__":
    main()
