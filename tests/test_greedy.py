"""Greedy decoding against brute force over all paths, and worked examples of its words."""

from __future__ import annotations

from itertools import groupby, product
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from asr.decoding.beam import Decoder
from asr.decoding.greedy import GreedyDecoder
from asr.decoding.types import Hypothesis, Word
from asr.errors import ConfigError, DataError
from asr.text.tokenizer import CharacterTokenizer

SURFACES = ("", " ", "a", "b", " c")


def random_log_probs(*shape: int, seed: int = 0) -> NDArray[np.float64]:
    logits = np.random.default_rng(seed).normal(size=shape) * 3
    return np.asarray(torch.tensor(logits).log_softmax(-1))


def log_posteriors(frames: list[tuple[int, float]], vocab: int) -> NDArray[np.float64]:
    """(1, time, vocab): for each frame a token and its posterior, the rest being shared by the others."""
    posteriors = [[p if v == token else (1 - p) / (vocab - 1) for v in range(vocab)] for token, p in frames]
    return np.log(posteriors)[None]


@pytest.mark.parametrize("blank", [0, 1, 2])
@pytest.mark.parametrize("time", [1, 2, 3, 4, 5])
def test_collapse_of_every_path(time: int, blank: int) -> None:
    paths = list(product(range(3), repeat=time))
    log_probs = np.log(np.eye(3)[np.array(paths)] * 0.9 + 0.1 / 3)
    hypotheses = GreedyDecoder(["x", "y", "z"], blank).decode(log_probs, [time] * len(paths))
    for path, hypothesis in zip(paths, hypotheses, strict=True):
        runs = [list(run) for _, run in groupby(enumerate(path), key=lambda frame: frame[1])]
        kept = [run[0] for run in runs if run[0][1] != blank]
        assert hypothesis.token_frames == tuple(frame for frame, _ in kept)
        assert hypothesis.tokens == tuple(token for _, token in kept)
        assert hypothesis.text == "".join("xyz"[token] for _, token in kept)


def test_score_is_that_of_the_best_of_all_paths() -> None:
    log_probs = random_log_probs(20, 4, 3)
    hypotheses = GreedyDecoder(["", "a", "b"]).decode(log_probs, [4] * 20)
    for frames, hypothesis in zip(log_probs, hypotheses, strict=True):
        best = max(sum(frames[t, v] for t, v in enumerate(path)) for path in product(range(3), repeat=4))
        assert hypothesis.score == pytest.approx(best)


def test_words_times_and_confidences() -> None:
    # frame             0         1         2         3         4         5         6         7         8
    frames = [(0, 0.9), (2, 0.6), (2, 0.8), (0, 0.9), (2, 0.5), (1, 0.9), (1, 0.7), (3, 0.9), (0, 0.9)]
    (hypothesis,) = GreedyDecoder(SURFACES).decode(log_posteriors(frames, 5), [9])
    assert hypothesis.text == "aa b"
    assert hypothesis.tokens == (2, 2, 1, 3)
    assert hypothesis.token_frames == (1, 4, 5, 7)
    assert [(word.text, word.start, word.end) for word in hypothesis.words] == [("aa", 1, 5), ("b", 7, 8)]
    assert [word.confidence for word in hypothesis.words] == pytest.approx([(0.8 * 0.5) ** 0.5, 0.9])
    assert hypothesis.confidence == pytest.approx((0.8 * 0.5 * 0.9 * 0.9) ** 0.25)
    assert hypothesis.score == pytest.approx(sum(np.log(p) for _, p in frames))


@pytest.mark.parametrize("decoder", [GreedyDecoder, Decoder])
def test_white_space_of_other_kinds_parts_no_words(decoder: type[GreedyDecoder | Decoder]) -> None:
    frames = [(1, 0.9), (2, 0.9), (3, 0.9), (4, 0.9)]
    (hypothesis,) = decoder(["", "a", "b\u3000", " ", "\u3000"]).decode(log_posteriors(frames, 5), [4])
    assert hypothesis.text == "ab\u3000 \u3000"
    words = [(word.text, word.start, word.end) for word in hypothesis.words]
    assert words == [("ab\u3000", 0, 2), ("\u3000", 3, 4)]


def test_surfaces_with_a_leading_space_begin_words() -> None:
    frames = [(4, 0.9), (2, 0.8), (4, 0.7), (1, 0.9), (1, 0.9), (4, 0.6), (1, 0.9)]
    (hypothesis,) = GreedyDecoder(SURFACES).decode(log_posteriors(frames, 5), [7])
    assert hypothesis.text == "ca c c"
    assert [(word.text, word.start, word.end) for word in hypothesis.words] == [
        ("ca", 0, 2),
        ("c", 2, 3),
        ("c", 5, 6),
    ]


def test_batch_equals_single_whatever_the_padding() -> None:
    log_probs = random_log_probs(6, 9, 5)
    lengths = [9, 0, 4, 1, 8, 5]
    padded = log_probs.copy()
    for row, length in zip(padded, lengths, strict=True):
        row[length:] = np.nan
    decoder = GreedyDecoder(SURFACES)
    batch = decoder.decode(padded, np.array(lengths))
    assert batch == [decoder.decode(log_probs[i : i + 1, :n], [n])[0] for i, n in enumerate(lengths)]
    assert batch == decoder.decode(torch.tensor(padded), torch.tensor(lengths))
    assert len({hypothesis.tokens for hypothesis in batch}) > 3


def test_half_precision_with_gradient() -> None:
    log_probs = torch.tensor(log_posteriors([(2, 0.75), (0, 0.75)], 5), dtype=torch.bfloat16, requires_grad=True)
    (hypothesis,) = GreedyDecoder(SURFACES).decode(log_probs, [2])
    assert hypothesis.text == "a"
    assert hypothesis.confidence == pytest.approx(0.75, rel=0.01)


def test_silence() -> None:
    nothing = Hypothesis("", (), (), (), score=0.0, confidence=1.0, acoustic=0.0)
    decoder = GreedyDecoder(SURFACES)
    assert decoder.decode(np.zeros((2, 0, 5)), [0, 0]) == [nothing, nothing]
    assert decoder.decode(np.full((1, 3, 5), np.nan), [0]) == [nothing]
    assert decoder.decode(np.zeros((0, 3, 5)), []) == []
    (blanks,) = decoder.decode(log_posteriors([(0, 0.4), (0, 0.9)], 5), [2])
    assert (blanks.text, blanks.words) == ("", ())
    assert blanks.confidence == pytest.approx((0.4 * 0.9) ** 0.5)


def test_impossible_frames_have_no_confidence() -> None:
    log_probs = log_posteriors([(2, 0.9), (3, 0.9)], 5)
    log_probs[0, 1] = -np.inf
    log_probs[0, 0] = [-np.inf, -np.inf, 0, -np.inf, -np.inf]
    (hypothesis,) = GreedyDecoder(SURFACES).decode(log_probs, [2])
    assert hypothesis.words == (Word("a", 0, 1, 1.0),)
    assert hypothesis.score == -np.inf


def test_nan_is_named() -> None:
    log_probs = random_log_probs(3, 6, 5)
    log_probs[1, 4, 2] = np.nan
    with pytest.raises(DataError, match="NaN in utterance 1, frame 4"):
        GreedyDecoder(SURFACES).decode(log_probs, [6, 6, 6])
    assert len(GreedyDecoder(SURFACES).decode(log_probs, [6, 4, 6])) == 3


def test_another_vocabulary_is_refused() -> None:
    with pytest.raises(DataError, match=r"(?s)shape \(1, 2, 4\).*time, 5\)"):
        GreedyDecoder(SURFACES).decode(np.zeros((1, 2, 4)), [2])


log_values = st.one_of(st.floats(-30, 0, width=32), st.just(-np.inf), st.just(np.nan))


@given(st.data())
def test_any_input_gives_consistent_words_or_a_data_error(data: st.DataObject) -> None:
    batch, time = data.draw(st.integers(1, 3)), data.draw(st.integers(0, 12))
    elements = data.draw(st.sampled_from([log_values, st.floats(-30, 0, width=32)]))
    log_probs = data.draw(hnp.arrays(np.float32, (batch, time, 5), elements=elements))
    lengths = data.draw(st.lists(st.integers(0, time), min_size=batch, max_size=batch))
    decoder = GreedyDecoder(SURFACES)
    if any(np.isnan(row[:length]).any() for row, length in zip(log_probs, lengths, strict=True)):
        with pytest.raises(DataError, match="NaN"):
            decoder.decode(log_probs, lengths)
        return
    for hypothesis, length in zip(decoder.decode(log_probs, lengths), lengths, strict=True):
        spelled = "".join(SURFACES[token] for token in hypothesis.tokens).split()
        assert [word.text for word in hypothesis.words] == spelled
        assert hypothesis.text == " ".join(spelled)
        bounds = [bound for word in hypothesis.words for bound in (word.start, word.end)]
        assert bounds == sorted(bounds)
        assert all(word.start < word.end <= length for word in hypothesis.words)
        confidences = [hypothesis.confidence, *(word.confidence for word in hypothesis.words)]
        assert all(0 <= confidence <= 1 for confidence in confidences)
        assert len(hypothesis.token_frames) == len(hypothesis.tokens)
        assert not np.isnan(hypothesis.score)


@given(st.lists(st.integers(0, 4), max_size=15))
def test_text_is_what_the_tokenizer_decodes(path: list[int]) -> None:
    tokenizer = CharacterTokenizer([" ", "a", "b", "c"])
    log_probs = np.log(np.eye(5)[np.array(path, dtype=int)] * 0.9 + 0.02)[None]
    (hypothesis,) = GreedyDecoder(tokenizer.surfaces).decode(log_probs, [len(path)])
    assert hypothesis.text == tokenizer.decode(hypothesis.tokens)


def test_a_misspelt_option_is_not_taken_for_one_of_a_beam_search() -> None:
    misspelt: Any = {"beamwidth": 3}
    with pytest.raises(ConfigError, match=r"beamwidth: there is no such option .*did you mean beam_width"):
        GreedyDecoder(SURFACES).decode(random_log_probs(1, 2, len(SURFACES)), [2], **misspelt)
