"""Perplexities are those that KenLM's scores give."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from asr.errors import DataError
from asr.text import arpa, kneser_ney, ngram
from asr.text.perplexity import Perplexity, measure

SMALL = Path(__file__).parent / "ngrams" / "small.arpa"


def test_perplexity_is_that_of_kenlms_scores() -> None:
    lines = SMALL.with_name("small_scores.tsv").read_text(encoding="utf-8").splitlines()
    sentences = [line.split("\t")[0] for line in lines]
    scores = np.array([float(score) for line in lines for score in line.split("\t")[1].split()])
    outside = {"ZEBRA", "qoppa", "Ελένη"}
    known = np.array([word not in outside for sentence in sentences for word in (*sentence.split(), "</s>")])
    measured = measure(ngram.from_entries(arpa.read(SMALL)), sentences)
    assert measured.sentences == 40
    assert measured.words == len(scores) - 40
    assert measured.unknown == np.count_nonzero(~known) > 0
    assert measured.perplexity == pytest.approx(10 ** -scores.mean(), rel=1e-5)
    assert measured.perplexity_known == pytest.approx(10 ** -scores[known].mean(), rel=1e-5)


def test_the_mark_of_unknown_words_is_none_that_is_known() -> None:
    measured = measure(kneser_ney.build(["a b", "b a"], 2).model, ["<unk> a"])
    assert (measured.words, measured.unknown) == (2, 1)


def test_without_a_known_word_there_is_no_perplexity_of_known_words(tmp_path: Path) -> None:
    (tmp_path / "no-end.arpa").write_text("\\data\\\nngram 1=1\n\n\\1-grams:\n-1 a\n\n\\end\\\n")
    model = ngram.from_entries(arpa.read(tmp_path / "no-end.arpa"))
    assert math.isnan(measure(model, ["b c"]).perplexity_known)
    assert measure(model, ["a a"]).perplexity == pytest.approx(10)


def test_what_is_next_to_impossible_has_an_infinite_perplexity() -> None:
    assert Perplexity(1, 1, 0, 1, -5000.0, -5000.0).perplexity == math.inf


def test_a_text_without_words_is_refused() -> None:
    with pytest.raises(DataError, match="no words"):
        measure(ngram.from_entries(arpa.read(SMALL)), [])
