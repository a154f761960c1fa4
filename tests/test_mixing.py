"""Mixtures of n-gram models: the weighted mean of every probability, and a distribution all the same."""

from __future__ import annotations

import math
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.errors import ConfigError, DataError
from asr.text import arpa, kneser_ney, mixing, ngram
from asr.text.ngram import END, START, NgramModel
from asr.text.perplexity import measure

EXPECTED = Path(__file__).parent / "ngrams"
UNKNOWN = "<unk>"

HOME = ["turn the light on", "turn the light off", "is the light on", "turn it off please"]
BOOKS = ["the sun was low", "he was on the hill", "it was the turn of the tide", "the hill is low", "is it on"]


def model(texts: list[str], order: int = 3, prune: tuple[int, ...] = ()) -> NgramModel:
    return kneser_ney.build(texts, order, prune).model


def listed(of: NgramModel) -> list[tuple[str, ...]]:
    """All n-grams of a model."""
    entries = ngram.to_entries(of)
    spelled: list[tuple[str, ...]] = [()]
    for parent, last in zip(entries.parent[1:].tolist(), entries.last[1:].tolist(), strict=True):
        spelled.append((*spelled[parent], entries.words[last]))
    return spelled[1:]


def probability(of: NgramModel, words: tuple[str, ...]) -> float:
    """Of the last word after those before it; 0 for a word that the model does not know."""
    if words[-1] not in of:
        return 0.0
    bos, words = words[0] == START, words[1:] if words[0] == START else words
    eos, words = words[-1] == END, words[:-1] if words[-1] == END else words
    return math.exp(of.log_probs(words, bos, eos)[-1])


sentences = st.lists(
    st.lists(st.sampled_from("abcd"), min_size=1, max_size=5).map(" ".join), min_size=1, max_size=6
)
others = st.lists(st.lists(st.sampled_from("cdef"), min_size=1, max_size=5).map(" ".join), min_size=1, max_size=6)


@settings(max_examples=60)
@given(sentences, others, st.integers(1, 4), st.integers(1, 3), st.floats(0.01, 0.99))
def test_every_ngram_has_the_mean_probability(
    one: list[str], two: list[str], long: int, short: int, share: float
) -> None:
    first, second = model(one, long), model(two, short)
    mixed = mixing.mix([first, second], [share, 1 - share])
    assert set(listed(mixed)) == {*listed(first), *listed(second)}
    for words in listed(mixed):
        if words != (START,):
            mean = share * probability(first, words) + (1 - share) * probability(second, words)
            assert probability(mixed, words) == pytest.approx(mean, rel=1e-5, abs=1e-9), words


@settings(max_examples=60)
@given(sentences, others, st.integers(1, 3), st.booleans())
def test_the_words_after_any_others_have_a_probability_of_one_together(
    one: list[str], two: list[str], order: int, pruned: bool
) -> None:
    mixed = mixing.mix([model(one, order, (0, 1) if pruned and order > 1 else ()), model(two, 3)], [2, 1])
    words = [word for word in mixed.words if word != START]
    for history in [(), *product([START, *"acf", UNKNOWN], "abcdef"), (START,), ("a",), ("f",)]:
        total = sum(probability(mixed, (*history, word)) for word in words)
        assert total == pytest.approx(1, abs=1e-4), history


def test_a_model_mixed_with_itself_stays_what_it_is() -> None:
    alone = model(HOME + BOOKS)
    mixed = mixing.mix([alone, alone], [1, 3])
    assert set(listed(mixed)) == set(listed(alone))
    for text in (*HOME, "the hill was on it", "nobody is on the hill"):
        np.testing.assert_allclose(mixed.log_probs(text.split()), alone.log_probs(text.split()), rtol=1e-4)


def test_a_mixture_is_written_and_read_as_any_model(tmp_path: Path) -> None:
    mixed = mixing.mix([model(HOME), model(BOOKS, 4), model(["quite another text"], 2)], [0.5, 0.3, 0.2])
    sentence = ["turn", "the", "tide", "quite", "off"]
    expected = mixed.log_probs(sentence)
    for name in ("mixed.arpa", "mixed.ngram"):
        ngram.save(mixed, tmp_path / name)
        np.testing.assert_allclose(ngram.load(tmp_path / name).log_probs(sentence), expected, rtol=1e-5)


def test_a_model_of_another_tool_can_be_a_part() -> None:
    other = ngram.from_entries(arpa.read(EXPECTED / "text_o4_pruned_limited.arpa"))
    mixed = mixing.mix([other, model(HOME)], [0.5, 0.5])
    for words in listed(other)[3:200]:
        mean = (probability(other, words) + probability(model(HOME), words)) / 2
        assert probability(mixed, words) == pytest.approx(mean, rel=1e-4, abs=1e-9)


def test_what_is_certain_stays_so_and_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "sure.arpa").write_text(
        "\\data\\\nngram 1=4\nngram 2=2\n\n\\1-grams:\n-1\t<unk>\n0\t<s>\t0\n-0.5\ta\t0\n-0.5\t</s>\n\n"
        "\\2-grams:\n0\t<s> a\n0\ta </s>\n\n\\end\\\n"
    )
    sure = ngram.load(tmp_path / "sure.arpa")
    mixed = mixing.mix([sure] * 6, [0.7, 1.1, 1.1, 1.1, 0.1, 0.6])  # whose shares add up to a little more than 1
    assert mixed.ngram.log_prob.max() <= 0
    ngram.save(mixed, tmp_path / "mixed.arpa")
    assert ngram.load(tmp_path / "mixed.arpa").log_prob(["a"]) == pytest.approx(0, abs=1e-6)


def test_weights_are_those_with_the_lowest_perplexity() -> None:
    parts = [model(HOME), model(BOOKS)]
    dev = ["turn the light on please", "the light is low", "he was off", "nobody was on it"]
    weights = mixing.fitting_weights(parts, dev)
    assert sum(weights) == pytest.approx(1)

    def foreseen(share: float) -> float:
        """The mixture's probability of the text, each word mixed by itself."""
        total = 0.0
        for text in dev:
            words = text.split()
            for place, word in enumerate([*words, END]):
                history = (START, *words[:place])
                unknown = all(word not in part for part in parts)
                each = [probability(part, (*history, UNKNOWN if unknown else word)) for part in parts]
                total += math.log(share * each[0] + (1 - share) * each[1])
        return total

    best = max(np.linspace(0.001, 0.999, 999), key=foreseen)
    assert weights[0] == pytest.approx(best, abs=0.002)
    mixed = measure(mixing.mix(parts, weights), dev)
    for share in (0.1, 0.9):
        assert mixed.perplexity < measure(mixing.mix(parts, [share, 1 - share]), dev).perplexity


def test_a_part_that_is_of_no_use_keeps_a_weight_above_zero() -> None:
    weights = mixing.fitting_weights([model(HOME), model(["zzz yyy xxx"])], ["turn the light on"] * 3)
    assert 0 < weights[1] < 0.2
    mixing.mix([model(HOME), model(BOOKS)], [1, 1e-6])


@pytest.mark.parametrize("weights", [[1], [1, 0], [1, -1], [1, math.nan], [1, math.inf], [1e308, 1e308], [1, 1, 1]])
def test_weights_that_make_no_sense_are_refused(weights: list[float]) -> None:
    with pytest.raises(ConfigError, match="of 2 models"):
        mixing.mix([model(HOME), model(BOOKS)], weights)


def test_what_cannot_be_mixed_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bare.arpa"
    path.write_text("\\data\\\nngram 1=1\n\n\\1-grams:\n-1\ta\n\n\\end\\\n")
    with pytest.raises(DataError, match="without <s> or </s>"):
        mixing.mix([model(HOME), ngram.load(path)], [1, 1])
    with pytest.raises(DataError, match="without <s> or </s>"):
        mixing.fitting_weights([model(HOME), ngram.load(path)], ["a"])
    with pytest.raises(DataError, match="no words"):
        mixing.fitting_weights([model(HOME), model(BOOKS)], ["", " "])
