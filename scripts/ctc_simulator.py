"""Log-probabilities as a CTC network of middling quality might give, whose errors a language model can mend.

CTC networks answer with blanks, and with spikes of a frame or two where a token was heard. Here each token of a
text makes a spike that it shares with tokens that sound alike; some spikes are weak, some are smeared over several
frames, some appear where nothing was said. How hard it is differs between tokens, words and utterances, so that
errors come in company, as real ones do.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

ALIKE = ("aeiouy", "bp", "dt", "gkcqx", "sczx", "fv", "mn", "lr", "gj", "uw", "iy")
"""Letters that sound alike in English."""
EDIT = 0.8
"""What leaving a letter out counts for, where another of the same sort in its place counts 0.7 and any other 1."""
SHARPNESS = 0.22
"""The distance that makes a confusion e times rarer."""
FLOOR = -11.0
"""Mean log-probability of a token that is not involved, in a vocabulary of one; it is shared among more."""
REST = (-6.0, 2.0)
"""Mean and deviation of the logarithm of what a clear spike leaves to the blank."""
WORST = 0.75
"""The share that other tokens have at most, on average, in a token's spikes."""


class Channel(NamedTuple):
    """How well the network hears.

    gap: mean number of blank frames between two spikes.
    confusion: mean share that other tokens have in a spike.
    weak: how often a spike is weaker than the blank, more or less.
    spurious: how often, after a token, another spike follows without reason.
    """

    gap: float
    confusion: float
    weak: float = 0.04
    spurious: float = 0.01


def confusions(surfaces: Sequence[str]) -> FloatArray:
    """How often each token is heard as each other one.

    Args:
        surfaces: of the tokens, the blank's "" first.

    Returns:
        (vocab, vocab), rows that add up to 1 but for the blank's; a row has neither its own token nor the blank.
    """
    distances = np.array([[distance(said, heard) for heard in surfaces] for said in surfaces])
    weights: FloatArray = np.exp(-distances / SHARPNESS)
    np.fill_diagonal(weights, 0.0)
    weights[0] = weights[:, 0] = 0.0
    weights[1:] /= weights[1:].sum(axis=1, keepdims=True)
    return weights


def distance(first: str, second: str) -> float:
    """Edit distance of two spellings (Levenshtein 1966), in which letters that sound alike are near."""
    row = [EDIT * column for column in range(len(second) + 1)]
    for letter in first:
        left, previous = row[0] + EDIT, row[0]
        following = [left]
        for column, other in enumerate(second, start=1):
            left = min(left + EDIT, row[column] + EDIT, previous + letter_distance(letter, other))
            previous = row[column]
            following.append(left)
        row = following
    return row[-1]


def letter_distance(first: str, second: str) -> float:
    """0 for a letter and itself, at most 1."""
    if first == second:
        return 0.0
    if any(first in group and second in group for group in ALIKE):
        return 0.35
    return 0.7 if (first in "aeiouy") == (second in "aeiouy") and first.isalpha() and second.isalpha() else 1.0


def simulate(
    words: Sequence[Sequence[int]], confused: FloatArray, channel: Channel, rng: np.random.Generator
) -> NDArray[np.float32]:
    """What the network answers to one utterance.

    Args:
        words: the tokens of each word of its text, without blanks; the blank is 0.
        confused: as `confusions` gives it.
        channel: how well it hears.
        rng: draws everything.

    Returns:
        (frames, vocab) natural log-probabilities.
    """
    hardness = rng.gamma(4.0, 0.25) * rng.gamma(
        0.25, 4.0, len(words)
    )  # the utterance's and the words'; 1 on average
    tokens = [(token, hard) for word, hard in zip(words, hardness, strict=True) for token in word]
    frames = blanks(rng, channel.gap, 1, len(confused))
    for (token, hard), (following, _) in zip_longest(tokens, tokens[1:], fillvalue=(0, 0.0)):
        frames += spike(token, confused, channel, hard, rng)
        frames += blanks(rng, channel.gap, int(following == token), len(confused))
        if rng.random() < channel.spurious * hard:
            heard = int(rng.integers(1, len(confused)))
            frames += [rng.uniform(0.05, 0.7) * shares(heard, confused, 0.5, rng)]
            frames += blanks(rng, channel.gap, 1, len(confused))
    return log_probabilities(np.array(frames), rng)


def blanks(rng: np.random.Generator, mean: float, least: int, vocab: int) -> list[FloatArray]:
    """Frames without a token."""
    return [np.zeros(vocab) for _ in range(max(least, rng.poisson(mean)))]


def spike(
    token: int, confused: FloatArray, channel: Channel, hard: float, rng: np.random.Generator
) -> list[FloatArray]:
    """The frames in which a token is heard; each holds the probabilities of all but the blank."""
    mean = min(channel.confusion * hard, WORST)
    heard = shares(token, confused, rng.beta(mean, 1.0 - mean), rng)
    height = rng.uniform(0.05, 0.7) if rng.random() < channel.weak * hard else 1.0 - min(0.5, rng.lognormal(*REST))
    match rng.choice(3, p=(0.65, 0.28, 0.07)):
        case 0:
            heights = [height]
        case 1:
            heights = [height, height * rng.uniform(0.3, 1.0)]
        case _:
            heights = [
                height * rng.uniform(0.2, 0.6),
                height * rng.uniform(0.5, 0.9),
                height * rng.uniform(0.2, 0.6),
            ]
    return [height * heard for height in heights]


def shares(token: int, confused: FloatArray, doubt: float, rng: np.random.Generator) -> FloatArray:
    """Divide a spike between a token and the few, drawn anew, that it is confused with here."""
    drawn = rng.gamma(1.5 * confused[token] + 1e-9)
    divided: FloatArray = doubt * drawn / drawn.sum()
    divided[token] = 1.0 - doubt
    return divided


def log_probabilities(frames: FloatArray, rng: np.random.Generator) -> NDArray[np.float32]:
    """Add the noise on the floor, give the blank the rest, and normalise."""
    frames[:, 0] = 1.0 - frames.sum(axis=1)
    level = FLOOR - np.log(frames.shape[1]) + rng.normal(0.0, 1.0, (len(frames), 1))
    frames += np.exp(level + rng.normal(0.0, 2.0, frames.shape))
    normalised: NDArray[np.float32] = np.log(frames / frames.sum(axis=1, keepdims=True)).astype(np.float32)
    return normalised
