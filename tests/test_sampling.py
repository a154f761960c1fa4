"""Sentences are drawn with the probabilities of the model."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np

from asr.text.kneser_ney import build
from asr.text.sampling import sample

TEXT = ["a b", "a b c", "a c", "b", "b a b", "c c c a"]


def test_sentences_are_as_frequent_as_they_are_probable() -> None:
    model = build(TEXT, 3).model
    generator = np.random.default_rng(0)
    draws = 4000
    counts = Counter(" ".join(sample(model, generator)) for _ in range(draws))
    unknown = 1 - math.exp(model.log_probs(["<unk>"], eos=False)[0])  # about the same in every state
    for sentence, count in counts.most_common(5):
        words = sentence.split()
        expected = math.exp(model.log_prob(words)) / unknown ** (len(words) + 1)
        assert abs(count / draws - expected) < 5 * math.sqrt(expected / draws)


def test_towards_temperature_0_the_most_probable_word_is_taken() -> None:
    model = build(TEXT, 3).model
    words = sample(model, np.random.default_rng(0), temperature=1e-6)
    for index, word in enumerate(words):
        choices = {
            other: model.log_probs([*words[:index], other], eos=False)[-1] for other in ("a", "b", "c", "</s>")
        }
        assert max(choices, key=lambda other: choices[other]) == word


def test_marks_and_the_unknown_word_are_never_drawn_and_sentences_end() -> None:
    model = build(TEXT, 1).model
    generator = np.random.default_rng(0)
    sentences = [sample(model, generator, temperature=50, longest=12) for _ in range(200)]
    assert {word for sentence in sentences for word in sentence} == {"a", "b", "c"}
    assert max(map(len, sentences)) == 12


def test_at_an_infinite_temperature_all_words_are_alike() -> None:
    model, generator = build(TEXT, 1).model, np.random.default_rng(0)
    drawn = [word for _ in range(200) for word in sample(model, generator, temperature=np.inf)]
    assert {drawn.count(word) > 0.8 * len(drawn) / 3 for word in "abc"} == {True}


def test_the_same_seed_draws_the_same() -> None:
    model = build(TEXT, 2).model
    assert sample(model, np.random.default_rng(5)) == sample(model, np.random.default_rng(5))
