"""Mixtures with classes: proper distributions, values by hand, and weights that are the best ones."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
import word_classes
from hypothesis import given
from hypothesis import strategies as st
from word_classes import ClassModel, Mixture

from asr.errors import ConfigError
from asr.text import kneser_ney
from asr.text.ngram import NgramModel
from asr.text.vectors import WordVectors

TEXT = (
    "we sail on monday",
    "we sail on friday",
    "they rest on monday",
    "they rest",
    "we rest on sunday we sail",
    "they sail",
)
CLASSES = {
    "monday": "day",
    "friday": "day",
    "sunday": "day",
    "we": "who",
    "they": "who",
    "sail": "do",
    "rest": "do",
}


@pytest.fixture(scope="module")
def words() -> NgramModel:
    return kneser_ney.build(TEXT, 3).model


@pytest.fixture(scope="module")
def classed() -> ClassModel:
    return word_classes.build(TEXT, 3, CLASSES)


@pytest.mark.parametrize("weight", [0.01, 0.5, 0.99])
@pytest.mark.parametrize("history", [(), ("we",), ("they", "sail", "on"), ("friday", "on"), ("today", "we")])
def test_after_every_history_the_probabilities_add_up_to_one(
    words: NgramModel, classed: ClassModel, weight: float, history: tuple[str, ...]
) -> None:
    mixture = Mixture(words, classed, weight)
    following = [word for word in words.words if word not in ("<s>", "</s>", "<unk>")] + ["nobody knows this one"]
    log_probs = [mixture.log_probs([*history, word])[len(history)] for word in following]
    log_probs.append(mixture.log_probs(history)[-1])
    assert np.exp(log_probs).sum() == pytest.approx(1.0, abs=1e-6)


def test_a_model_of_classes_by_hand() -> None:
    """Three times each: class C of a and b, class D of x, the end. Of 9, the fallback discount takes 1.5 from each,
    and what it takes is shared by four, <unk> among them: 1.5 / 9 + 4.5 / 9 / 4 = 7 / 24, and 1 / 8 for <unk>. So
    where nothing is unknown each has (7 / 24) / (7 / 8) = 1 / 3, and a two thirds of its class."""
    model = word_classes.build(["a x", "b x", "a x"], 1, {"a": "C", "b": "C", "x": "D"})
    found = np.exp(model.known_log_probs(["a", "b", "x"]))
    assert found == pytest.approx([2 / 9, 1 / 9, 1 / 3, 1 / 3], rel=1e-6)


def test_words_without_a_vector_are_one_class() -> None:
    model = word_classes.build(["a x", "b y", "a z"], 1, {"a": "C", "b": "C"})
    assert model.classes == {"a": "C", "b": "C", "x": "others", "y": "others", "z": "others"}
    assert model.shares["x"] == pytest.approx(math.log(1 / 3))


def test_a_mixture_adds_probabilities_and_leaves_unknown_words_alone(
    words: NgramModel, classed: ClassModel
) -> None:
    sentence = ["they", "sail", "on", "nothing"]
    mixture = Mixture(words, classed, 0.25)
    by_word, by_class = word_classes.both_log_probs(words, classed, sentence)
    assert by_word.tolist() == pytest.approx(words.log_probs(sentence).tolist())
    expected = np.log(0.75 * np.exp(by_word) + 0.25 * np.exp(by_class))
    expected[3] = by_word[3]  # “nothing” is unknown
    assert mixture.log_probs(sentence) == pytest.approx(expected)


def test_classes_say_of_a_word_what_was_said_of_others(words: NgramModel, classed: ClassModel) -> None:
    """Nobody has rested on a friday, but on other days."""
    by_word, by_class = word_classes.both_log_probs(words, classed, ["they", "rest", "on", "friday"])
    assert by_class[3] > by_word[3]


# ----------------------------------------------------------------------------------------------- weights

PROBABILITIES = st.lists(st.tuples(st.floats(1e-6, 1.0), st.floats(1e-6, 1.0)), min_size=2, max_size=30)


def log_likelihood(ratios: np.ndarray, weight: float) -> float:
    return float(np.log(weight * ratios + 1 - weight).sum())


@given(PROBABILITIES, st.floats(0.001, 0.999))
def test_no_step_makes_the_text_less_probable(pairs: list[tuple[float, float]], weight: float) -> None:
    ratios = np.array([one / other for one, other in pairs])
    before = log_likelihood(ratios, weight)
    for _ in range(5):
        weight = word_classes.step(ratios, weight)
        after = log_likelihood(ratios, weight)
        assert after >= before - 1e-9 * max(1.0, abs(before))
        before = after


@pytest.mark.parametrize("seed", range(4))
def test_the_weight_is_the_best_of_all(seed: int) -> None:
    by_word, by_class = np.log(np.random.default_rng(seed).uniform(0.01, 1.0, (2, 200)))
    grid = np.linspace(0.0005, 0.9995, 1000)
    best = max(grid, key=lambda weight: log_likelihood(np.exp(by_class - by_word), weight))
    assert word_classes.estimate_weight(by_word, by_class) == pytest.approx(best, abs=0.002)


# ----------------------------------------------------------------------------------------------- clusters


def test_clusters_go_by_direction_and_not_by_length() -> None:
    bundles = {"north": (0.0, 1.0), "east": (1.0, 0.0), "west": (-1.0, 0.0)}
    rng = np.random.default_rng(0)
    rows = [
        (f"{name}-{number}", length * (np.array(direction) + rng.normal(0, 0.05, 2)))
        for (name, direction), (number, length) in product(bundles.items(), enumerate((0.1, 1.0, 30.0)))
    ]
    names, vectors = zip(*rows, strict=True)
    found = word_classes.cluster(WordVectors(tuple(names), np.array(vectors, np.float32)), 3)
    assert found.keys() == set(names)
    assert len(set(found.values())) == 3
    assert all(found[name] == found[f"{name.partition('-')[0]}-0"] for name in names)


def test_clusters_are_the_same_each_time_and_take_vectors_of_zeros() -> None:
    vectors = np.random.default_rng(1).normal(size=(20, 4)).astype(np.float32)
    vectors[3] = 0
    words = WordVectors(tuple(map(str, range(20))), vectors)
    assert word_classes.cluster(words, 5, seed=2) == word_classes.cluster(words, 5, seed=2)


@pytest.mark.parametrize("count", [0, 3])
def test_as_many_classes_as_words_at_most(count: int) -> None:
    vectors = WordVectors(("a", "b"), np.eye(2, dtype=np.float32))
    with pytest.raises(ConfigError, match=rf"{count} classes\n.*from 1 to 2"):
        word_classes.cluster(vectors, count)
