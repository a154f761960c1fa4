"""Every fault of a data set, found before anything is trained on it and reported together, by file."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch

from asr import audio
from asr.data.manifest import Utterance
from asr.errors import AsrError, DataError, counted, is_or_are, listing, some
from asr.lengths import ctc_frames
from asr.text.normalize import Normalizer

SLACK_SECONDS = 0.25
"""How far a manifest's duration may be from the file's: lossy formats round to their frames."""
NEIGHBOURS_SHARE_SECONDS = 0.1
"""What two stretches of a recording may have in common, and be different utterances all the same."""

SECONDS_PER_CHARACTER = 3.0
"""Of transcript, spaces not counted: no reader is so slow, so with more the transcript tells but a part."""
LONG_SECONDS = 10.0
"""Shorter recordings may well hold a single digit and a pause."""


@dataclass(frozen=True)
class Summary:
    """What a data set holds.

    Attributes:
        utterances: how many.
        hours: of audio.
        words: of normalised transcript.
        speakers: how many different ones are named.
        trained_speakers: how many of them are in the training set, where this is another.
    """

    utterances: int
    hours: float
    words: int
    speakers: int
    trained_speakers: int


def check_sets(
    sets: Mapping[str, Sequence[Utterance]],
    normalizer: Normalizer,
    progress: Callable[[int], None] = lambda done: None,
) -> tuple[dict[str, Summary], list[str]]:
    """Check the recordings and transcripts of all sets.

    Args:
        sets: the training, dev and test sets by name; the first is the training set.
        normalizer: of transcripts.
        progress: called with the number of utterances checked so far.

    Returns:
        A summary of each set, and warnings (recordings shared between sets or repeated, transcripts that are
        empty or far too short).

    Raises:
        DataError: shards that are missing; recordings that can't be read or are not as long as their manifest says,
            all together; a set to measure with in which nothing is said.
    """
    check_recordings(sets, progress)
    training, *_ = sets
    trained = _speakers(sets[training])
    texts = {name: [normalizer(utterance.text) for utterance in utterances] for name, utterances in sets.items()}
    summaries = {
        name: _summary(utterances, texts[name], set() if name == training else trained)
        for name, utterances in sets.items()
    }
    mute = [name for name, summary in summaries.items() if name != training and not summary.words]
    if mute:
        raise DataError(
            f"all transcripts are empty: {', '.join(mute)}",
            expected="words in sets that measure: an error rate is a share of them",
            hint="leave the set out; `asr transcribe` tells what is heard where nobody speaks",
        )
    return summaries, [*_shared(sets), *_empty(sets, texts), *_wordless(sets, texts)]


def check_recordings(
    sets: Mapping[str, Sequence[Utterance]], progress: Callable[[int], None] = lambda done: None
) -> None:
    """Check that all recordings of some sets can be read; arguments and errors as of `check_sets`."""
    everything = [(name, utterance) for name, utterances in sets.items() for utterance in utterances]
    _refuse_missing_shards(utterance for _, utterance in everything)
    faults = []
    with ThreadPoolExecutor() as pool:
        for done, fault in enumerate(pool.map(lambda item: _fault(item[1]), everything), start=1):
            if fault is not None:
                faults.append(f"{everything[done - 1][0]}: {fault}")
            progress(done)
    if faults:
        raise DataError(
            f"{len(faults)} of {len(everything)} recordings can't be used\n{listing(faults)}",
            hint="mend or remove these lines of the manifests, then run the command again",
        )


def _refuse_missing_shards(utterances: Iterable[Utterance]) -> None:
    shards = {utterance.member.archive for utterance in utterances if utterance.member is not None}
    missing = sorted(path for path in shards if not path.is_file())
    if missing:
        raise DataError(
            f"{len(missing)} of {counted(len(shards), 'shard')} {is_or_are(len(missing))} not there\n"
            + listing(missing),
            hint="copy them beside the index that names them",
        )


def _fault(utterance: Utterance) -> str | None:
    """What is wrong with a recording, which is read to its end: damage inside does not show in a header."""
    try:
        duration = audio.measure_by_decoding(utterance.source).duration
    except AsrError as error:  # also that PyAV, which it needs, is not installed
        return str(error)
    if abs(duration - utterance.duration) > SLACK_SECONDS:
        return f"{utterance.source}: the manifest says {utterance.duration:.2f} s, the file lasts {duration:.2f} s"
    return None


def _summary(utterances: Sequence[Utterance], texts: Sequence[str], trained: set[str]) -> Summary:
    speakers = _speakers(utterances)
    return Summary(
        len(utterances),
        sum(utterance.duration for utterance in utterances) / 3600,
        sum(len(text.split()) for text in texts),
        len(speakers),
        len(speakers & trained),
    )


def _speakers(utterances: Iterable[Utterance]) -> set[str]:
    return {utterance.speaker for utterance in utterances if utterance.speaker is not None}


def _shared(sets: Mapping[str, Sequence[Utterance]]) -> list[str]:
    """Recordings that are in a set and in one that is to measure it, or more than once in one set."""
    heard = defaultdict(list)
    for place, utterances in enumerate(sets.values()):
        for index, utterance in enumerate(utterances):
            heard[utterance.audio.resolve()].append((*_interval(utterance), place, index))
    found = defaultdict(set)
    for stretches in heard.values():
        for one, other in _overlapping(stretches):
            (first, _), (second, index) = sorted((one, other))
            found[first, second].add(index)
    names = list(sets)
    warnings = []
    for (first, second), indices in sorted(found.items()):
        if 1 < first < second:  # test sets may share what they like
            continue
        name, measured = names[first], names[second]
        recordings = f"{counted(len(indices), 'recording')} {is_or_are(len(indices))}"
        if first == second:
            said = f"{recordings} in {name} more than once"
        elif first == 0:
            said = f"{recordings} in {name} and in {measured}, so the figures of {measured} are too good"
        else:
            said = (
                f"{recordings} in {name} and in {measured}, so {measured} does not measure what is chosen on {name}"
            )
        warnings.append(f"{said}\n{listing(sets[measured][index].source for index in sorted(indices))}")
    return warnings


def _interval(utterance: Utterance) -> tuple[float, float]:
    """From where to where in its recording, in seconds."""
    start = utterance.start or 0.0
    return start, start + utterance.duration


def _overlapping(
    stretches: Iterable[tuple[float, float, int, int]],
) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """All pairs of utterances, each (set, index), whose stretches (start, end, set, index) share sound."""
    open_ones: list[tuple[float, tuple[int, int]]] = []
    for start, end, *utterance in sorted(stretches):
        this = (utterance[0], utterance[1])
        open_ones = [(last, other) for last, other in open_ones if last - start > NEIGHBOURS_SHARE_SECONDS]
        if end - start > NEIGHBOURS_SHARE_SECONDS:
            yield from ((other, this) for _, other in open_ones)
            open_ones.append((end, this))


def _empty(sets: Mapping[str, Sequence[Utterance]], texts: Mapping[str, Sequence[str]]) -> list[str]:
    warnings = []
    for name, utterances in sets.items():
        silent = [utterance.source for utterance, text in zip(utterances, texts[name], strict=True) if not text]
        if silent:
            transcripts = counted(len(silent), "transcript")
            warnings.append(f"{transcripts} of {name} {is_or_are(len(silent))} empty\n{listing(silent)}")
    return warnings


def _wordless(sets: Mapping[str, Sequence[Utterance]], texts: Mapping[str, Sequence[str]]) -> list[str]:
    """Long recordings with hardly any transcript, most likely of a part: what they teach is wrong."""
    warnings = []
    for name, utterances in sets.items():
        found = [
            f"{utterance.source} ({utterance.duration:.0f} s, {text!r})"
            for utterance, text in zip(utterances, texts[name], strict=True)
            if utterance.duration > LONG_SECONDS
            and 0 < len(text.replace(" ", "")) * SECONDS_PER_CHARACTER < utterance.duration
        ]
        if found:
            warnings.append(
                f"{counted(len(found), 'transcript')} of {name} can't be all that is said: "
                f"less than a character in {SECONDS_PER_CHARACTER:.0f} s: {some(found)}"
            )
    return warnings


def infeasible(
    utterances: Iterable[Utterance], encode: Callable[[str], Sequence[int]], frames: Callable[[float], int]
) -> list[str]:
    """Utterances with fewer output frames than CTC needs to spell their transcript.

    Args:
        utterances: to look at.
        encode: transcript to token ids.
        frames: seconds to output frames.

    Returns:
        A line for each of them.
    """
    found = []
    for utterance in utterances:
        labels = encode(utterance.text)
        needs = int(ctc_frames(torch.tensor([labels]), torch.tensor([len(labels)])))
        has = frames(utterance.duration)
        if has < needs:
            found.append(f"{utterance.source}: {counted(has, 'frame')} for {needs}: {utterance.text!r}")
    return found
