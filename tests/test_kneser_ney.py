"""Models are estimated as KenLM's lmplz and the formulas of Chen & Goodman do."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from asr.errors import ConfigError, DataError
from asr.hashing import EMPTY
from asr.text import arpa, kneser_ney, ngram
from asr.text.arpa import Entries
from asr.text.kneser_ney import FALLBACK, build
from asr.text.ngram import NgramModel

EXPECTED = Path(__file__).parent / "ngrams"
TEXT = (EXPECTED / "text.txt").read_text().splitlines()
LN10 = math.log(10)

Words = tuple[str, ...]


def listed(entries: Entries) -> dict[Words, tuple[float, float]]:
    """N-grams to the base-10 logarithms of their probability and back-off weight."""
    spelled: list[Words] = [()]
    for parent, last in zip(entries.parent[1:].tolist(), entries.last[1:].tolist(), strict=True):
        spelled.append((*spelled[parent], entries.words[last]))
    values = zip(entries.log_prob / LN10, entries.backoff / LN10, strict=True)
    return {
        words: (float(log_prob), float(backoff)) for words, (log_prob, backoff) in zip(spelled, values, strict=True)
    }


def assert_same(found: dict[Words, tuple[float, float]], expected: dict[Words, tuple[float, float]]) -> None:
    for words, values in expected.items():
        assert found[words] == pytest.approx(values, abs=1e-5), words


# lmplz


@pytest.mark.parametrize(
    ("name", "lines", "arguments"),
    [
        ("text_o3", 60, {"order": 3}),
        (
            "text_o4_pruned_limited",
            60,
            {"order": 4, "prune": (0, 0, 1), "vocabulary": {*" ".join(TEXT).split()} - {"sky", "hat", "it", "jam"}},
        ),
        ("text_5_lines", 5, {"order": 3}),
    ],
)
def test_every_probability_and_weight_is_that_of_lmplz(name: str, lines: int, arguments) -> None:  # type: ignore[no-untyped-def]
    found = listed(ngram.to_entries(build(TEXT[:lines], **arguments).model))
    expected = listed(arpa.read(EXPECTED / f"{name}.arpa"))
    assert found.keys() == expected.keys()
    assert_same(found, expected)


@pytest.mark.parametrize(
    ("name", "order", "prune", "sizes"),
    [
        ("librispeech_o3", 3, (), (8734, 43068, 62523)),
        ("librispeech_o4_pruned", 4, (0, 0, 1, 1), (8734, 43068, 3050, 559)),
    ],
)
def test_on_real_text_too(corpora: Path, name: str, order: int, prune: Sequence[int], sizes: Sequence[int]) -> None:
    with (corpora / "librispeech_text" / "train-clean-100.txt").open(encoding="utf-8") as file:
        texts = [next(file).split(" ", 1)[1] for _ in range(2000)]
    estimate = build(texts, order, prune)
    entries = ngram.to_entries(estimate.model)
    expected = {}
    for line in (EXPECTED / f"{name}.tsv").read_text().splitlines():
        log_prob, words, *backoff = line.split("\t")
        expected[tuple(words.split())] = (float(log_prob), float(backoff[0]) if backoff else 0.0)
    assert entries.counts == sizes
    assert (estimate.sentences, estimate.tokens) == (2000, 67422)
    assert estimate.discounts[0] == pytest.approx((0.620391, 1.07766, 1.57319), abs=1e-5)
    assert estimate.discounts[1] == pytest.approx((0.828325, 1.16506, 1.51138), abs=1e-5)
    if not prune:
        assert estimate.discounts[2] == pytest.approx((0.93196, 1.35222, 1.68822), abs=1e-5)
    assert_same(listed(entries), expected)


# The formulas


def by_formula(texts: Sequence[str], order: int, prune: Sequence[int]) -> Callable[[Words, str], float]:
    """P(word | history) by Chen & Goodman 1998, equations 24 to 26, with nothing shared and nothing fast."""
    raw: Counter[Words] = Counter()
    for text in texts:
        words = ("<s>", *text.split(), "</s>")
        for end in range(1, len(words)):
            raw.update(words[begin : end + 1] for begin in range(max(0, end - order + 1), end + 1))
    before = {(*words[1:], words[0]) for words in raw}
    preceded = Counter(words[:-1] for words in before)
    counts = {
        words: number if len(words) == order or words[0] == "<s>" else preceded[words]
        for words, number in raw.items()
    }
    after: dict[Words, list[Words]] = {}
    for words in counts:
        after.setdefault(words[:-1], []).append(words)

    def discount(words: Words) -> float:
        n = Counter(count for other, count in counts.items() if len(other) == len(words))
        y = n[1] / (n[1] + 2 * n[2]) if n[1] else 0
        amounts = [i - (i + 1) * y * n[i + 1] / n[i] if n[i] else -1 for i in (1, 2, 3)]
        fits = all(0 <= amount <= i for i, amount in enumerate(amounts, start=1))
        return (amounts if fits else FALLBACK)[min(counts[words], 3) - 1]

    def probability(history: Words, word: str) -> float:
        shorter = probability(history[1:], word) if history else 1 / (len(after[()]) + 1)
        if history not in after:
            return shorter
        kept = {words for words in after[history] if raw[words] > prune[len(history)]}
        total = sum(counts[words] for words in after[history])
        freed = sum(discount(words) if words in kept else counts[words] for words in after[history])
        longer = (*history, word)
        own = counts[longer] - discount(longer) if longer in kept else 0
        return (own + freed * shorter) / total

    return probability


sentences = st.lists(st.sampled_from(["a", "b", "c", "d", "e"]), min_size=1, max_size=7).map(" ".join)


@settings(max_examples=40)
@given(
    st.lists(sentences, min_size=1, max_size=30),
    st.integers(1, 4),
    st.integers(0, 2),
    st.lists(sentences, max_size=3),
)
def test_probabilities_are_those_of_the_formulas(
    texts: Sequence[str], order: int, threshold: int, tests: Sequence[str]
) -> None:
    prune = [0, 0, threshold, threshold][:order]
    model = build(texts, order, prune).model
    expected = by_formula(texts, order, prune)
    for sentence in (*texts[:2], *tests):
        words = ("<s>", *(word if word in model else "<unk>" for word in sentence.split()), "</s>")
        for index, log_prob in enumerate(model.log_probs(sentence.split()), start=1):
            history = words[max(0, index - order + 1) : index]
            assert math.exp(log_prob) == pytest.approx(expected(history, words[index]), rel=1e-5)


def sums(model: NgramModel) -> Iterator[float]:
    """The sum over all words but <s>, in every state."""
    keys = model.ngram.arcs.keys
    predicted = [number for number, word in enumerate(model.words) if word != "<s>"]
    for state in {0, *(keys[keys != EMPTY] >> 32).tolist()}:
        yield math.fsum(math.exp(ngram.score(model.ngram, state, word)[0]) for word in predicted)


@settings(max_examples=40)
@given(
    st.lists(sentences, min_size=1, max_size=30),
    st.integers(1, 4),
    st.sampled_from([(), (0, 1), (1,), (0, 0, 2)]),
    st.none() | st.integers(1, 5) | st.sets(st.sampled_from("abcde"), min_size=1),
)
def test_every_distribution_sums_to_one(
    texts: Sequence[str], order: int, prune: Sequence[int], vocabulary: int | set[str] | None
) -> None:
    try:
        model = build(texts, order, prune[:order], vocabulary).model
    except DataError:
        reject()  # no word is left
    np.testing.assert_allclose(list(sums(model)), 1, rtol=0, atol=1e-6)


# Arguments and the text


def test_the_text_is_read_once_and_in_pieces_of_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = ngram.to_entries(build(TEXT, 3).model)
    monkeypatch.setattr(kneser_ney, "_CHUNK", 7)
    pieces = ngram.to_entries(build(iter(TEXT), 3).model)
    assert listed(pieces) == listed(whole)


def test_lines_without_words_are_no_sentences() -> None:
    with_blanks = [line for text in TEXT for line in (text, "", " \t")]
    assert listed(ngram.to_entries(build(with_blanks, 3).model)) == listed(ngram.to_entries(build(TEXT, 3).model))


def test_a_model_knows_at_least_one_word() -> None:
    for limits in (([], ["A", "B"]), ([9], None)):
        with pytest.raises(DataError, match="would know no word"):
            build(["a b", "b a"], 2, *limits)


def test_a_limit_keeps_the_most_frequent_words() -> None:
    frequent = [word for word, _ in Counter(" ".join(TEXT).split()).most_common(10)]
    limited = build(TEXT, 3, vocabulary=10).model
    assert set(limited.words) == {"<unk>", "<s>", "</s>", *frequent}
    named = build(TEXT, 3, vocabulary=[*frequent, "neverseen"]).model
    assert listed(ngram.to_entries(limited)) == listed(ngram.to_entries(named))


def test_it_is_told_where_counts_are_too_few_for_discounts() -> None:
    estimate = build(TEXT[:5], 3)
    assert estimate.derived == (True, True, False)
    assert estimate.discounts[2] == FALLBACK
    assert build(TEXT, 3).derived == (True, True, True)


def test_a_model_is_no_longer_than_the_sentences() -> None:
    model = build(["a b", "b"], 5).model
    probability = by_formula(["a b", "b"], 4, [0, 0, 0, 0])
    expected = math.log(probability(("<s>",), "b")) + math.log(probability(("<s>", "b"), "</s>"))
    assert model.order == 4
    assert model.log_prob(["b"]) == pytest.approx(expected, abs=1e-5)


def test_an_estimate_is_the_same_after_writing_and_reading(tmp_path: Path) -> None:
    model = build(TEXT, 3).model
    ngram.save(model, tmp_path / "lm.arpa")
    assert listed(arpa.read(tmp_path / "lm.arpa")) == listed(ngram.to_entries(model))


@pytest.mark.parametrize("texts", [[], ["", " "]])
def test_a_text_needs_words(texts: Sequence[str]) -> None:
    with pytest.raises(DataError, match="no words"):
        build(texts, 3)


@pytest.mark.parametrize("word", ["<s>", "</s>", "<unk>"])
def test_a_text_has_no_special_words(word: str) -> None:
    with pytest.raises(DataError, match=f"a special word in “a {word} b”"):
        build(["a b", f"a {word} b"], 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"order": 0}, "n-grams of 0 words"),
        ({"order": 2, "prune": (0, 0, 1)}, "3 thresholds for n-grams of 2 words"),
        ({"order": 3, "prune": (0, 2, 1)}, "the thresholds 0 2 1"),
        ({"order": 3, "prune": (-1,)}, "the thresholds -1"),
        ({"order": 3, "vocabulary": 0}, "a vocabulary of 0 words"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(arguments, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ConfigError, match=message):
        build(TEXT, **arguments)
