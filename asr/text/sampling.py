"""Sentences drawn from an n-gram model."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from asr.compiled import compiled
from asr.text.ngram import START, Ngram, NgramModel, score


def sample(
    model: NgramModel, generator: np.random.Generator, temperature: float = 1.0, longest: int = 100
) -> list[str]:
    """Draw the words of a sentence; <unk> is never drawn.

    Args:
        model: with </s>, or the sentence will be as long as it may.
        generator: of random numbers.
        temperature: below 1, probable words become more probable; towards 0, the most probable one is taken.
        longest: the most words.
    """
    barred = [model.unknown, *([model.id(START)] if START in model else [])]
    words: list[str] = []
    state = model.start
    while len(words) < longest:
        log_probs, states = _distribution(model.ngram, state, len(model.words))
        # The largest of log-probabilities with Gumbel noise is a draw from them (Gumbel 1954).
        noisy = log_probs / temperature + generator.gumbel(size=len(log_probs))
        noisy[barred] = -np.inf
        word = int(np.argmax(noisy))
        if word == model.end:
            break
        words.append(model.words[word])
        state = int(states[word])
    return words


@compiled
def _distribution(ngram: Ngram, state: int, words: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Of every word: its log-probability in a state, and the state after it."""
    log_probs, states = np.zeros(words), np.zeros(words, np.int64)
    for word in range(words):
        log_probs[word], states[word] = score(ngram, state, word)
    return log_probs, states
