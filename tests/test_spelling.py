"""What tokens spell, against Python's own strings."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from asr.decoding.spelling import Spelling

SURFACES = ("", " ", "a", " a", "bc", " ß", "東京", " \N{GRINNING FACE}x", "'")


@given(st.lists(st.lists(st.integers(0, len(SURFACES) - 1), max_size=8), max_size=5))
def test_texts_have_single_spaces(texts: list[list[int]]) -> None:
    tokens = np.array([token for text in texts for token in text], np.int32)
    ends = np.cumsum([len(text) for text in texts], dtype=np.int64)
    expected = [" ".join("".join(SURFACES[token] for token in text).split()) for text in texts]
    assert Spelling.of(SURFACES).texts(tokens, ends) == expected
