"""Dealing utterances out to a training, a development and a test set that share no speaker."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from asr.data.manifest import Utterance
from asr.errors import DataError, counted

Unit = Literal["speaker", "recording"]


def split(
    utterances: Sequence[Utterance], shares: Mapping[str, float], seed: int, by: Unit = "speaker"
) -> dict[str, list[Utterance]]:
    """Hold out sets of utterances.

    A speaker is in one set alone. By recording, for utterances whose speaker is not known, and where all are of one
    speaker, the recording is, of which they may be stretches.

    Args:
        utterances: to deal out; their order is kept.
        shares: the part of the whole duration that each set is to have, roughly: speakers are not divided.
        seed: decides which speakers are held out.
        by: what is not divided.

    Returns:
        "train", what is left over, and the sets in the order of the shares.

    Raises:
        DataError: there are fewer speakers than sets.
    """
    groups = _groups([(utterance.audio, utterance.speaker) for utterance in utterances], len(shares) + 1, by)
    seconds = {name: sum(utterances[index].duration for index in group) for name, group in groups.items()}
    names = sorted(groups)
    left = [names[index] for index in np.random.default_rng(seed).permutation(len(names))]
    whole = sum(seconds.values())
    sets = {}
    for later, (name, share) in enumerate(shares.items()):
        needed = len(shares) - later  # a group for each set that is still to come, the training included
        chosen = _choose(left, seconds, share * whole, len(left) - needed)
        left = [group for group in left if group not in chosen]
        sets[name] = chosen
    return {
        name: [utterances[index] for index in sorted(index for group in chosen for index in groups[group])]
        for name, chosen in {"train": left, **sets}.items()
    }


def overshoots(
    sets: Mapping[str, Sequence[Utterance]], shares: Mapping[str, float], by: Unit = "speaker"
) -> list[str]:
    """A line for each held-out set that is more than half as large again as was asked for.

    Args:
        sets: what `split` has made, the training set included.
        shares, by: what it was asked for.
    """
    recordings = [(utterance.audio, utterance.speaker) for part in sets.values() for utterance in part]
    seconds = {name: sum(utterance.duration for utterance in part) for name, part in sets.items()}
    whole = sum(seconds.values())
    unit, number = _unit(recordings, by), len(_groups(recordings, len(sets), by))
    return [
        f"{name}: asked for {share:.0%}, held out {seconds[name] / whole:.0%}: "
        f"no {unit} is divided, and there are {number}"
        for name, share in shares.items()
        if seconds[name] > 1.5 * share * whole
    ]


def refuse_too_few(recordings: Sequence[tuple[Path, str | None]], sets: int, by: Unit = "speaker") -> None:
    """Refuse what `split` can't deal out to so many sets, before anything has been read.

    Args:
        recordings: where each utterance's is, and its speaker if that is known.
        sets: how many, the training set included.
        by: what is not divided.

    Raises:
        DataError: there are fewer speakers than sets.
    """
    _groups(recordings, sets, by)


def _unit(recordings: Sequence[tuple[Path, str | None]], by: Unit) -> Unit:
    """What is dealt out whole."""
    return by if len({speaker for _, speaker in recordings}) > 1 else "recording"


def _groups(recordings: Sequence[tuple[Path, str | None]], sets: int, by: Unit) -> dict[str, list[int]]:
    """What has to be in one set: the numbers of utterances, by speaker or else by recording."""
    unit = _unit(recordings, by)
    several = unit == "speaker"
    groups: dict[str, list[int]] = defaultdict(list)
    for index, (audio, speaker) in enumerate(recordings):
        groups[f"speaker {speaker}" if several and speaker is not None else f"recording {audio}"].append(index)
    if len(groups) < sets:
        raise DataError(
            f"{counted(len(groups), unit)} can't be dealt out to {sets} sets that share none",
            hint="--hold-out recordings, to measure with voices that were heard" if several else "more recordings",
        )
    return groups


def _choose(groups: Sequence[str], seconds: Mapping[str, float], wanted: float, most: int) -> list[str]:
    """Groups in their order, each taken if it brings the set nearer to what is wanted; if none, the shortest."""
    chosen: list[str] = []
    total = 0.0
    for group in groups:
        if len(chosen) < most and abs(total + seconds[group] - wanted) < abs(total - wanted):
            chosen.append(group)
            total += seconds[group]
    return chosen or [min(groups, key=lambda group: seconds[group])]
