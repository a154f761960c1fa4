"""Beam search against brute force: every path through every frame, counted."""

from __future__ import annotations

import itertools
import math
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from asr.decoder_settings import DecoderSettings, choose
from asr.decoding import alignment
from asr.decoding.automaton import compile as compile_grammar
from asr.decoding.beam import Decoder
from asr.errors import ConfigError, DataError
from asr.text import ngram
from asr.text.grammar import parse
from asr.text.ngram import NgramModel

CHARACTERS = ("", "a", "b", " ")
PIECES = ("", " a", "b", " ", "ab")
WORDS = ("", " a", " b", " ab", " ba")
EXACT = {"beam_threshold": 1e9, "token_threshold": 1e9, "blank_skip": 1.0}
WIDE = 10_000

ARPA = """
\\data\\
ngram 1=6
ngram 2=6
ngram 3=3

\\1-grams:
-1.6\t<unk>
-99\t<s>\t-0.2
-0.9\t</s>
-0.7\ta\t-0.31
-0.8\tb\t-0.17
-1.1\tab\t-0.45

\\2-grams:
-0.4\t<s> a\t-0.1
-0.9\ta b\t-0.25
-0.5\ta ab
-1.2\tb a\t-0.05
-0.3\tab </s>
-0.6\tb </s>

\\3-grams:
-0.2\t<s> a b
-1.0\ta b a
-0.35\ta b </s>

\\end\\
"""
TOKEN_ARPA = """
\\data\\
ngram 1=6
ngram 2=4

\\1-grams:
-99\t<s>\t-0.2
-0.9\t</s>
-2.0\t<unk>
-0.7\ta\t-0.31
-0.8\tb\t-0.17
-1.1\t▁\t-0.45

\\2-grams:
-0.4\t<s> a
-0.9\ta b
-1.2\tb ▁
-0.3\ta </s>

\\end\\
"""


def read_arpa(folder: Path, text: str) -> NgramModel:
    (folder / "lm.arpa").write_text(text, encoding="utf-8")
    return ngram.load(folder / "lm.arpa")


@pytest.fixture(scope="module")
def word_lm(tmp_path_factory: pytest.TempPathFactory) -> NgramModel:
    return read_arpa(tmp_path_factory.mktemp("lm"), ARPA)


@pytest.fixture(scope="module")
def token_lm(tmp_path_factory: pytest.TempPathFactory) -> NgramModel:
    return read_arpa(tmp_path_factory.mktemp("lm"), TOKEN_ARPA)


def random_log_probs(rng: np.random.Generator, frames: int, vocab: int) -> NDArray[np.float32]:
    logits = rng.normal(0, rng.uniform(0.3, 3.0), (frames, vocab))
    return (logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)).astype(np.float32)


def labellings(log_probs: NDArray[np.float32]) -> dict[tuple[int, ...], float]:
    """The probability of every labelling: that of all its paths together, one by one."""
    frames, vocab = log_probs.shape
    paths = np.array(list(itertools.product(range(vocab), repeat=frames)), np.int64).reshape(-1, frames)
    probability = np.exp(log_probs.astype(np.float64)[np.arange(frames), paths].sum(axis=1))
    code = np.zeros(len(paths), np.int64)
    for time in range(frames):
        speaks = paths[:, time] != 0
        if time > 0:
            speaks &= paths[:, time] != paths[:, time - 1]
        code = np.where(speaks, code * vocab + paths[:, time], code)
    sums: dict[tuple[int, ...], float] = {}
    codes, places = np.unique(code, return_inverse=True)
    for number, total in zip(codes, np.bincount(places, probability), strict=True):
        digits: list[int] = []
        while number:
            number, digit = divmod(int(number), vocab)
            digits.insert(0, digit)
        sums[tuple(digits)] = total
    return sums


@dataclass
class Reference:
    """What a text is worth, by the words of the documentation."""

    tokens: Sequence[str]
    lm: NgramModel | None = None
    arpa: str = ARPA
    lexicon: Sequence[str] | None = None
    alpha: float = 0.0
    beta: float = 0.0
    unknown: float = 0.0
    hotwords: Mapping[str, float] = field(default_factory=dict)
    sentences: frozenset[str] | None = None
    of_tokens: bool = False

    def best(self, log_probs: NDArray[np.float32]) -> list[tuple[str, float]]:
        """All texts and their scores, best first; of a text the score of its best labelling."""
        scores: dict[str, float] = defaultdict(lambda: -math.inf)
        for labelling, probability in labellings(log_probs).items():
            bonus = self._bonus(labelling)
            if bonus is not None and probability > 0:
                text = " ".join("".join(self.tokens[token] for token in labelling).split())
                scores[text] = max(scores[text], math.log(probability) + bonus)
        return sorted(scores.items(), key=lambda item: -item[1])

    def _bonus(self, labelling: tuple[int, ...]) -> float | None:
        raw = "".join(self.tokens[token] for token in labelling)
        words = raw.split()
        constrained = self.sentences is not None or ((self.lm or self.lexicon is not None) and not self.of_tokens)
        if constrained and "  " in raw:
            return None
        if self.sentences is not None:
            total = 0.0 if " ".join(words) in self.sentences else None
        elif self.lexicon is not None and any(word not in [*self.lexicon, *self.hotwords] for word in words):
            return None
        elif self.lm is None:
            total = 0.0
        else:
            units = [self.tokens[token].replace(" ", "▁") for token in labelling] if self.of_tokens else words
            told = (self.lexicon or (), *(phrase.split() for phrase in self.hotwords))
            known = {word for (word,) in _tables(self.arpa)[0]}.union(*told)
            strange = sum(unit not in known for unit in units)
            total = self.alpha * back_off(self.arpa, units) + self.beta * len(units) + self.unknown * strange
        padded = f" {raw.removeprefix(' ')} "
        for phrase, weight in self.hotwords.items():
            places = range(len(padded))
            occurrences = sum(padded.startswith(f" {phrase} ", place) for place in places)
            total = None if total is None else total + weight * occurrences
        return total


def _tables(arpa: str) -> list[dict[tuple[str, ...], tuple[float, float]]]:
    tables: list[dict[tuple[str, ...], tuple[float, float]]] = []
    for line in arpa.split("\n"):
        if line.endswith("-grams:"):
            tables.append({})
        elif "\t" in line:
            log_prob, words, *weight = line.split("\t")
            # Models hold natural logarithms in single precision.
            tables[-1][tuple(words.split())] = tuple(
                float(np.float32(float(value) * math.log(10))) for value in (log_prob, *(weight or ["0"]))
            )
    return tables


def back_off(arpa: str, words: Sequence[str]) -> float:
    """The sentence's natural log-probability, by the definition of a back-off model (Katz 1987)."""
    tables = _tables(arpa)
    known = [word if (word,) in tables[0] else "<unk>" for word in words]

    def log_prob(context: tuple[str, ...], word: str) -> float:
        gram = (*context, word)
        if gram in tables[len(context)]:
            return tables[len(context)][gram][0]
        weight = tables[len(context) - 1].get(context, (0.0, 0.0))[1]
        return weight + log_prob(context[1:], word)

    sentence = ["<s>", *known, "</s>"]
    total = 0.0
    for place in range(1, len(sentence)):
        context = tuple(sentence[max(0, place - len(tables) + 1) : place])
        total += log_prob(context, sentence[place])
    return total


def check(decoder: Decoder, reference: Reference, log_probs: NDArray[np.float32], **options: object) -> None:
    """The n-best list is the true one, in order and in score."""
    wanted = reference.best(log_probs)
    count = min(5, len(wanted)) or 1
    (best,) = decoder.decode(
        log_probs[None], [len(log_probs)], beam_width=WIDE, nbest=count, hotwords=reference.hotwords, **options
    )
    found = [best, *best.alternatives]
    if not wanted:
        assert best.text == "" and best.score == -math.inf
        return
    assert len({each.text for each in found}) == len(found)
    scores = [score for _, score in wanted[:count]]
    assert [each.score for each in found] == pytest.approx(scores, rel=1e-9, abs=1e-9)
    for each, (_, score) in zip(found, wanted, strict=False):
        assert dict(wanted)[each.text] == pytest.approx(score, rel=1e-9, abs=1e-9)
        assert each.acoustic + each.lm + each.bonus == pytest.approx(each.score)
        assert each.acoustic == pytest.approx(math.log(labellings(log_probs)[each.tokens]), rel=1e-9, abs=1e-9)


def cases(seed: int, count: int, vocab: int) -> list[NDArray[np.float32]]:
    rng = np.random.default_rng(seed)
    return [random_log_probs(rng, int(rng.integers(1, 8 if vocab == 4 else 6)), vocab) for _ in range(count)]


@pytest.mark.parametrize("tokens", [CHARACTERS, PIECES, WORDS])
def test_without_a_model_the_best_texts_are_the_most_probable_labellings(tokens: tuple[str, ...]) -> None:
    for log_probs in cases(1, 40, len(tokens)):
        check(Decoder(tokens, **EXACT), Reference(tokens), log_probs)


@pytest.mark.parametrize("tokens", [CHARACTERS, PIECES, WORDS])
def test_with_a_language_model_the_best_texts_are_those_of_the_weighted_sum(
    tokens: tuple[str, ...], word_lm: NgramModel
) -> None:
    rng = np.random.default_rng(2)
    for log_probs in cases(2, 40, len(tokens)):
        weights = {"alpha": rng.uniform(0, 2), "beta": rng.uniform(-1, 2), "unknown": -rng.uniform(0, 3)}
        decoder = Decoder(tokens, word_lm, **weights, **EXACT)
        check(decoder, Reference(tokens, word_lm, **weights), log_probs)


@pytest.mark.parametrize("tokens", [CHARACTERS, PIECES, WORDS])
@pytest.mark.parametrize("with_lm", [False, True])
def test_with_a_lexicon_only_its_words_are_heard(
    tokens: tuple[str, ...], with_lm: bool, word_lm: NgramModel
) -> None:
    lexicon = ["ab", "ba", "a"]
    weights = {"alpha": 0.7, "beta": 0.5, "unknown": -2.0} if with_lm else {}
    decoder = Decoder(tokens, word_lm if with_lm else None, lexicon, **weights, **EXACT)
    reference = Reference(tokens, word_lm if with_lm else None, lexicon=lexicon, **weights)
    for log_probs in cases(3, 30, len(tokens)):
        check(decoder, reference, log_probs)


@pytest.mark.parametrize("tokens", [CHARACTERS, PIECES, WORDS])
@pytest.mark.parametrize("with_lm", [False, True])
def test_each_occurrence_of_a_hotword_counts_its_bonus(
    tokens: tuple[str, ...], with_lm: bool, word_lm: NgramModel
) -> None:
    rng = np.random.default_rng(4)
    weights = {"alpha": 0.7, "beta": 0.5, "unknown": -2.0} if with_lm else {}
    decoder = Decoder(tokens, word_lm if with_lm else None, **weights, **EXACT)
    for log_probs in cases(4, 30, len(tokens)):
        phrases = {phrase: rng.uniform(-2, 5) for phrase in ("ba", "a b", "a b a", "b")}
        check(decoder, Reference(tokens, word_lm if with_lm else None, **weights, hotwords=phrases), log_probs)


@pytest.mark.parametrize("with_lm", [False, True])
def test_a_hotword_opens_a_closed_lexicon(with_lm: bool, word_lm: NgramModel) -> None:
    lm, weights = (word_lm, {"alpha": 0.7, "beta": 0.5, "unknown": -2.0}) if with_lm else (None, {})
    decoder = Decoder(CHARACTERS, lm, ["a"], **weights, **EXACT)
    hotwords = {"bb": 1.5, "ab": 0.5}  # the language model knows the second
    for log_probs in cases(5, 20, len(CHARACTERS)):
        check(decoder, Reference(CHARACTERS, lm, lexicon=["a"], **weights, hotwords=hotwords), log_probs)


def test_a_symbol_that_the_tokens_lack_makes_no_other_model(token_lm: NgramModel, tmp_path: Path) -> None:
    foreign = read_arpa(tmp_path, TOKEN_ARPA.replace("1=6", "1=7").replace("-1.1\t▁", "-3.0\t7\n-1.1\t▁"))
    log_probs = np.log(np.random.default_rng(3).dirichlet(np.ones(4), (5, 6))).astype(np.float32)
    found, wanted = (Decoder(CHARACTERS, lm).decode(log_probs, [6] * 5) for lm in (foreign, token_lm))
    assert [each.text for each in found] == [each.text for each in wanted]
    assert [each.score for each in found] == pytest.approx([each.score for each in wanted], abs=1e-4)


def test_a_language_model_of_tokens_scores_each_token(token_lm: NgramModel) -> None:
    decoder = Decoder(CHARACTERS, token_lm, alpha=0.8, beta=0.3, **EXACT)
    reference = Reference(CHARACTERS, token_lm, TOKEN_ARPA, alpha=0.8, beta=0.3, of_tokens=True)
    for log_probs in cases(6, 40, len(CHARACTERS)):
        check(decoder, reference, log_probs)


@pytest.mark.parametrize("tokens", [("", "你", "好", "们"), ("", "你", "好", " ")])
def test_a_language_model_of_chinese_characters_is_one_of_tokens(tokens: tuple[str, ...], tmp_path: Path) -> None:
    arpa = re.sub(r"\ba\b", "你", re.sub(r"\bb\b", "好", TOKEN_ARPA)).replace("▁", "们")
    decoder = Decoder(tokens, read_arpa(tmp_path, arpa), alpha=0.8, beta=0.3, unknown=-2.0, **EXACT)
    reference = Reference(tokens, decoder.vocabulary.lm, arpa, alpha=0.8, beta=0.3, unknown=-2.0, of_tokens=True)
    for log_probs in cases(6, 20, len(tokens)):
        check(decoder, reference, log_probs)


def test_a_language_model_of_words_of_a_letter_is_one_of_words(tmp_path: Path) -> None:
    arpa = ARPA.replace("ab", "c")  # as is one of what is spelt out
    decoder = Decoder(CHARACTERS, read_arpa(tmp_path, arpa), alpha=0.8, beta=0.3, unknown=-2.0, **EXACT)
    reference = Reference(CHARACTERS, decoder.vocabulary.lm, arpa, alpha=0.8, beta=0.3, unknown=-2.0)
    for log_probs in cases(6, 20, len(CHARACTERS)):
        check(decoder, reference, log_probs)


@pytest.mark.parametrize("tokens", [CHARACTERS, PIECES, WORDS])
def test_with_a_grammar_the_most_probable_of_its_sentences_is_heard(tokens: tuple[str, ...]) -> None:
    grammar = parse("<s> = a [b] | ab (a | b) | ba ;")
    decoder = Decoder(tokens, **EXACT)
    reference = Reference(tokens, sentences=frozenset(grammar.sentences()))
    for log_probs in cases(7, 30, len(tokens)):
        check(decoder, reference, log_probs, grammar=compile_grammar(grammar))


@pytest.mark.parametrize("tokens", [CHARACTERS, PIECES, WORDS])
def test_a_sentence_of_a_grammar_is_heard_where_words_of_it_were_not_said(tokens: tuple[str, ...]) -> None:
    grammar = parse("<s> = a [b] | ab (a | b) | ba ;")
    reference, rng = Reference(tokens, sentences=frozenset(grammar.sentences())), np.random.default_rng(8)
    for log_probs in cases(8, 30, len(tokens)):
        silent = rng.random(len(log_probs)) < 0.7
        log_probs[silent] = np.log(np.append(0.9999, rng.dirichlet(np.ones(len(tokens) - 1)) * 1e-4))
        check(Decoder(tokens), reference, log_probs, grammar=compile_grammar(grammar))


# ------------------------------------------------------------------------------- the search that is pruned

LETTERS = ("", " ", "e", "n", "o", "t", "s")


def prune_by_hand(log_probs: NDArray[np.float32], width: int, threshold: float) -> dict[tuple[int, ...], float]:
    """Prefix beam search in a few lines and dictionaries (Hannun et al. 2014, algorithm 1), nothing skipped."""
    beam = {(): (1.0, 0.0)}
    for frame in np.exp(log_probs.astype(np.float64)):
        grown: dict[tuple[int, ...], list[float]] = defaultdict(lambda: [0.0, 0.0])
        for prefix, (blank, label) in beam.items():
            grown[prefix][0] += (blank + label) * frame[0]
            for token in range(1, len(frame)):
                if prefix and prefix[-1] == token:
                    grown[prefix][1] += label * frame[token]
                    grown[(*prefix, token)][1] += blank * frame[token]
                else:
                    grown[(*prefix, token)][1] += (blank + label) * frame[token]
        best = max(map(sum, grown.values()))
        kept = sorted(grown.items(), key=lambda item: -sum(item[1]))[:width]
        beam = {prefix: (b, n) for prefix, (b, n) in kept if b + n >= best * math.exp(-threshold)}
    return {prefix: math.log(sum(masses)) for prefix, masses in beam.items()}


@pytest.mark.parametrize(("width", "threshold"), [(1, 10.0), (3, 10.0), (8, 2.0), (20, 6.0)])
def test_a_narrow_beam_keeps_what_the_algorithm_keeps(width: int, threshold: float) -> None:
    rng = np.random.default_rng(width)
    decoder = Decoder(LETTERS, beam_threshold=threshold, token_threshold=1e9, blank_skip=1.0)
    for _ in range(30):
        log_probs = random_log_probs(rng, 40, len(LETTERS))
        wanted = sorted(prune_by_hand(log_probs, width, threshold).items(), key=lambda item: -item[1])
        (found,) = decoder.decode(log_probs[None], [40], beam_width=width)
        assert found.tokens == wanted[0][0]
        assert found.score == pytest.approx(wanted[0][1], rel=1e-9)


def test_recombination_changes_the_best_text_hardly_ever_and_never_for_a_better_one(word_lm: NgramModel) -> None:
    weights = {"alpha": 0.8, "beta": 0.5, "unknown": -1.0}
    thorough = Decoder(CHARACTERS, word_lm, **weights, **EXACT, recombine=False)
    quick = Decoder(CHARACTERS, word_lm, **weights, **EXACT)
    rng = np.random.default_rng(8)
    same = 0
    for _ in range(100):
        log_probs = random_log_probs(rng, 7, len(CHARACTERS))[None]
        (wanted,), (found,) = (decoder.decode(log_probs, [7], beam_width=WIDE) for decoder in (thorough, quick))
        assert found.score <= wanted.score + 1e-9
        same += found.text == wanted.text
    assert same >= 90


def peaked(rng: np.random.Generator, frames: int, vocab: int) -> NDArray[np.float32]:
    """Log-probabilities such as a trained network gives: mostly blank, and clear."""
    logits = rng.normal(0, 2, (frames, vocab))
    logits[:, 0] += 6
    speaking = np.flatnonzero(rng.random(frames) < 0.5)
    logits[speaking, rng.integers(1, vocab, len(speaking))] += 12
    return (logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)).astype(np.float32)


def test_pruning_and_skipping_leave_clear_speech_as_it_is() -> None:
    rng = np.random.default_rng(9)
    for _ in range(50):
        log_probs = peaked(rng, 60, len(CHARACTERS))[None]
        (found,), (wanted,) = (Decoder(CHARACTERS, **pruning).decode(log_probs, [60]) for pruning in ({}, EXACT))
        assert found.text == wanted.text
        assert found.score == pytest.approx(wanted.score, abs=0.1)


# ---------------------------------------------------------------------------------- what must not matter


@pytest.fixture(scope="module")
def everything(word_lm: NgramModel) -> Decoder:
    return Decoder(CHARACTERS, word_lm, alpha=0.6, beta=0.4)


def speech(seed: int, count: int) -> tuple[NDArray[np.float32], list[int]]:
    """A batch, with rubbish behind the ends of its utterances."""
    rng = np.random.default_rng(seed)
    lengths = [int(length) for length in rng.integers(0, 60, count)]
    batch = np.full((count, 60, len(CHARACTERS)), np.nan, np.float32)
    for utterance, length in zip(batch, lengths, strict=True):
        utterance[:length] = random_log_probs(rng, length, len(CHARACTERS))
    return batch, lengths


def test_batch_single_and_threads_give_the_same(everything: Decoder) -> None:
    batch, lengths = speech(10, 24)
    options = {"nbest": 3, "hotwords": {"ab a": 2.0}}
    together = everything.decode(batch, lengths, threads=1, **options)
    assert everything.decode(batch, lengths, threads=4, **options) == together
    alone = [
        everything.decode(utterance[None, :length], [length], **options)[0]
        for utterance, length in zip(batch, lengths, strict=True)
    ]
    assert alone == together
    assert any(each.text for each in together)


@pytest.mark.parametrize("options", [{}, {"nbest": 3}, {"hotwords": {"ab": 2.0}}, {"beam_width": 1}])
def test_texts_alone_are_the_same(everything: Decoder, options: dict[str, object]) -> None:
    batch, lengths = speech(13, 12)
    timed = everything.decode(batch, lengths, **options)
    texts = everything.decode(batch, lengths, timestamps=False, **options)
    for one, other in zip(timed, texts, strict=True):
        for full, short in zip((one, *one.alternatives), (other, *other.alternatives), strict=True):
            expected = replace(full, words=(), token_frames=(), confidence=0.0, alternatives=())
            assert replace(short, confidence=0.0, alternatives=()) == expected
            assert math.isnan(short.confidence)


def test_texts_alone_have_their_rejection() -> None:
    grammar = compile_grammar(parse("<s> = a | b a ;"))
    log_probs = random_log_probs(np.random.default_rng(0), 7, len(CHARACTERS))[None]
    decoder = Decoder(CHARACTERS)
    (timed,) = decoder.decode(log_probs, [7], grammar=grammar)
    (texts,) = decoder.decode(log_probs, [7], grammar=grammar, timestamps=False)
    assert texts.rejection == timed.rejection > 0


def test_a_decoder_may_serve_several_threads_with_different_requests(everything: Decoder) -> None:
    batch, lengths = speech(11, 6)
    requests = [{"hotwords": {"ba": float(bonus)}} for bonus in range(4)]
    wanted = [everything.decode(batch, lengths, threads=1, **request) for request in requests]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda request: everything.decode(batch, lengths, **request), requests * 5))
    assert found == wanted * 5


@settings(max_examples=60)
@given(st.integers(0, 10_000), st.lists(st.integers(0, 40), max_size=6), st.sampled_from([{}, {"nbest": 3}]))
def test_a_stream_ends_with_the_result_of_the_whole_however_it_is_cut(
    everything: Decoder, seed: int, cuts: list[int], options: dict[str, int]
) -> None:
    rng = np.random.default_rng(seed)
    log_probs = peaked(rng, 40, len(CHARACTERS))
    (whole,) = everything.decode(log_probs[None], [40], **options)
    stream = everything.stream(**options)
    buffer = np.empty_like(log_probs)  # filled anew again and again, as by a microphone
    stable = ""
    for first, last in itertools.pairwise([0, *sorted(cuts), 40]):
        buffer[: last - first] = log_probs[first:last]
        partial = stream.feed(buffer[: last - first])
        assert partial.stable.split()[: len(stable.split())] == stable.split()
        stable = partial.stable
    assert stream.finish() == whole
    assert whole.text.split()[: len(stable.split())] == stable.split()


def test_a_long_stream_forgets_what_it_needs_no_more(everything: Decoder, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(12)
    log_probs = peaked(rng, 2000, len(CHARACTERS))
    (whole,) = everything.decode(log_probs[None], [2000])
    monkeypatch.setattr("asr.decoding.beam.MOST_ROWS", 100)
    stream = everything.stream()
    rows = []
    for piece in np.array_split(log_probs, 100):
        stream.feed(piece)
        rows.append(len(stream._beam.tree))
    assert max(rows) < 100 + 32 * 2 * 20 + 2000
    assert stream.finish() == whole


def test_stable_words_come_long_before_the_end(everything: Decoder) -> None:
    log_probs = peaked(np.random.default_rng(13), 400, len(CHARACTERS))
    stream = everything.stream()
    partials = [stream.feed(piece) for piece in np.array_split(log_probs, 40)]
    assert len(partials[20].stable.split()) > len(stream.finish().text.split()) / 4


# ------------------------------------------------------------------------------------------- known traps


@pytest.mark.parametrize("bonus", [0.0, 10.0, 20.0])
def test_however_much_is_added_to_the_probabilities_they_stay_numbers(word_lm: NgramModel, bonus: float) -> None:
    """Two hundred words, clearly said: e^(200 · 20) is no float."""
    said = "ab " * 200
    path = [index for letter in said for index in (CHARACTERS.index(letter), 0)]
    log_probs = np.log(np.full((len(path), len(CHARACTERS)), 1e-7, np.float32))
    log_probs[np.arange(len(path)), path] = 0.0
    decoder = Decoder(CHARACTERS, word_lm, ["ab"], beta=5.0)
    hotwords = {"ab": bonus} if bonus else None
    (heard,) = decoder.decode(log_probs[None], [len(path)], hotwords=hotwords)
    assert heard.text == said.strip()
    assert heard.score == pytest.approx(heard.acoustic + heard.lm + heard.bonus)
    assert heard.bonus == pytest.approx(200 * (5.0 + bonus), rel=1e-3)
    stream = decoder.stream(hotwords=hotwords)
    for start in range(0, len(path), 100):
        stream.feed(log_probs[start : start + 100])
    assert stream.finish().text == heard.text


@pytest.mark.parametrize("unknown", ["", "-99\t<unk>\n"])
def test_hotwords_are_heard_though_the_language_model_holds_other_words_for_impossible(
    tmp_path: Path, unknown: str
) -> None:
    lm = read_arpa(tmp_path, ARPA.replace("-1.6\t<unk>\n", unknown).replace("1=6", f"1={6 if unknown else 5}"))
    path = [CHARACTERS.index(letter) for letter in "a bab"]
    log_probs = np.log(np.full((len(path), len(CHARACTERS)), 0.01, np.float32))
    log_probs[np.arange(len(path)), path] = math.log(0.97)
    (alone,) = Decoder(CHARACTERS, lm).decode(log_probs[None], [len(path)])
    (heard,) = Decoder(CHARACTERS, lm).decode(log_probs[None], [len(path)], hotwords={"bab": 5.0})
    assert (alone.text, heard.text) == ("a ab", "a bab")
    rarest = math.log(10) * -1.1
    assert Decoder(CHARACTERS, lm).vocabulary.rules(None, None).lm.log_prob[1 + lm.unknown] == pytest.approx(rarest)
    assert lm.ngram.log_prob[1 + lm.unknown] < math.log(10) * -98


def test_a_word_that_ends_in_a_double_letter_needs_a_blank_in_between() -> None:
    # a b b -: a lexicon decoder that forgets the repeat rule at the end of words hears "abb".
    tokens, rare = ("", "a", "b", " "), 0.01
    rows = [[rare, 1, rare, rare], [rare, rare, 1, rare], [rare, rare, 1, rare], [1, rare, rare, rare]]
    log_probs = np.log(np.array(rows) / np.sum(rows, axis=1, keepdims=True)).astype(np.float32)[None]
    for decoder in (Decoder(tokens, lexicon=["ab", "abb"], **EXACT), Decoder(tokens, lexicon=["ab", "abb"])):
        (found,) = decoder.decode(log_probs, [4])
        assert found.text == "ab"


def test_infinities_nothing_and_silence() -> None:
    decoder = Decoder(CHARACTERS, lexicon=["ab"])
    nothing = np.full((1, 3, 4), -np.inf, np.float32)
    (impossible,) = decoder.decode(nothing, [3])
    assert (impossible.text, impossible.score, impossible.confidence) == ("", -math.inf, 0.0)
    (empty,) = decoder.decode(nothing, [0])
    assert (empty.text, empty.score, empty.confidence) == ("", 0.0, 1.0)
    assert decoder.decode(np.zeros((0, 0, 4), np.float32), []) == []
    silence = np.log(np.full((1, 3, 4), [0.9, 0.08, 0.01, 0.01], np.float32))
    assert decoder.decode(silence, [3])[0].text == ""


def test_a_word_that_breaks_off_is_left_out() -> None:
    # With a lexicon of "aab" and a token threshold that never tries the last b, no word is ever finished.
    log_probs = np.full((1, 4, 4), -20.0, np.float32)
    log_probs[0, [0, 1, 2, 3], [1, 3, 1, 1]] = -0.01
    (found,) = Decoder(CHARACTERS, lexicon=["a", "aab"]).decode(log_probs, [4])
    assert found.text == "a a"
    (found,) = Decoder(CHARACTERS, lexicon=["ab", "b"]).decode(log_probs, [4])
    assert found.text in ("", "ab", "b")


@settings(max_examples=150)
@given(st.data())
def test_whatever_it_is_given_it_answers_or_explains(everything: Decoder, data: st.DataObject) -> None:
    frames = data.draw(st.integers(0, 6))
    values = st.floats(-50, 0, width=32) | st.sampled_from([-math.inf, 0.0, math.nan, 1.0, math.inf])
    rows = data.draw(st.lists(st.lists(values, min_size=4, max_size=4), min_size=frames, max_size=frames))
    log_probs = np.array(rows, np.float32).reshape(1, frames, 4)
    width, nbest = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 5))
    wrong = bool(np.isnan(log_probs).any() or (log_probs > 0.001).any())
    try:
        (found,) = everything.decode(log_probs, [frames], beam_width=width, nbest=nbest, hotwords={"b a": 1.0})
    except DataError:
        assert wrong
        return
    assert not wrong
    scores = [found.score, *(each.score for each in found.alternatives)]
    assert scores == sorted(scores, reverse=True)
    assert all(0 <= word.start < word.end <= frames and 0 <= word.confidence <= 1 for word in found.words)
    assert " ".join(word.text for word in found.words) == found.text


def test_wrong_numbers_are_named() -> None:
    decoder = Decoder(CHARACTERS)
    log_probs = random_log_probs(np.random.default_rng(14), 5, 4)[None]
    holed = log_probs.copy()
    holed[0, 3, 2] = np.nan
    with pytest.raises(DataError, match="NaN in utterance 0, frame 3"):
        decoder.decode(holed, [5])
    with pytest.raises(DataError, match="log_softmax"):
        decoder.decode(log_probs + 5, [5])
    with pytest.raises(DataError, match=r"of shape \(1, 5, 3\)"):
        decoder.decode(log_probs[:, :, :3], [5])
    for lengths in ([6], [-1], [5, 5]):
        with pytest.raises(DataError, match="between 0 and 5 frames"):
            decoder.decode(log_probs, lengths)
    with pytest.raises(ConfigError, match="beam_width"):
        decoder.decode(log_probs, [5], beam_width=0)
    with pytest.raises(ConfigError, match="nbest"):
        decoder.decode(log_probs, [5], nbest=0)
    for threads in (0, -1):
        with pytest.raises(ConfigError, match="threads"):
            decoder.decode(log_probs, [5], threads=threads)
    for bonus in (1000.0, math.nan):
        with pytest.raises(ConfigError, match="the bonus of “a b”"):
            decoder.decode(log_probs, [5], hotwords={"a b": bonus})


def test_bonuses_whose_factors_are_no_numbers_are_refused(word_lm: NgramModel) -> None:
    for name, value in (("beta", 800.0), ("beta", -800.0), ("beta", math.nan), ("unknown", 800.0)):
        with pytest.raises(ConfigError, match=f"{name} is {value:g}"):
            Decoder(CHARACTERS, word_lm, **{name: value})
        with pytest.raises(ValueError, match=name):
            DecoderSettings(**{name: value})
    with pytest.raises(ConfigError, match=r"beta: .*100 or less"):
        choose(DecoderSettings(lm=Path("lm.arpa")), {"beta": 800.0})
    Decoder(CHARACTERS, word_lm, unknown=-1e9)  # an unknown word may be as good as impossible


def test_words_that_can_not_be_written_are_named(word_lm: NgramModel) -> None:
    log_probs = random_log_probs(np.random.default_rng(15), 5, 4)[None]
    with pytest.raises(DataError, match="“xy”"):
        Decoder(CHARACTERS, lexicon=["ab", "xy"])
    with pytest.raises(DataError, match="no words"):
        Decoder(CHARACTERS, lexicon=[])
    with pytest.raises(DataError, match="“Ab”"):
        Decoder(CHARACTERS).decode(log_probs, [5], hotwords={"a Ab": 1.0})
    with pytest.raises(DataError, match="“abba”"):
        Decoder(WORDS).decode(random_log_probs(np.random.default_rng(15), 5, 5)[None], [5], hotwords={"abba": 1.0})
    with pytest.raises(DataError, match="“z”"):
        Decoder(CHARACTERS).decode(log_probs, [5], grammar=compile_grammar(parse("<s> = a z ;")))
    with pytest.raises(DataError, match="no word of the language model"):
        Decoder(("", "x", " "), word_lm)
    with pytest.raises(DataError, match="space only in front"):
        Decoder(("", "a b"))


# --------------------------------------------------------------------------------- times and confidences


def test_times_are_those_of_the_best_path() -> None:
    # Every alignment of "ab a" in six frames, by brute force.
    rng = np.random.default_rng(16)
    text = np.array([1, 2, 3, 1], np.int32)
    for _ in range(50):
        log_probs = random_log_probs(rng, 6, 4)
        best = max(
            (path for path in itertools.product(range(4), repeat=6) if collapse(path) == tuple(text)),
            key=lambda path: log_probs[np.arange(6), path].sum(dtype=np.float64),
        )
        spans, score = alignment.align(log_probs, text, 0)
        assert score == pytest.approx(log_probs[np.arange(6), best].sum(dtype=np.float64), abs=1e-5)
        runs = [(key, len(list(group))) for key, group in itertools.groupby(best)]
        ends = np.cumsum([length for _, length in runs])
        wanted = [(end - length, end) for (key, length), end in zip(runs, ends, strict=True) if key]
        assert list(zip(spans["start"].tolist(), spans["end"].tolist(), strict=True)) == wanted


def collapse(path: Sequence[int]) -> tuple[int, ...]:
    return tuple(key for key, _ in itertools.groupby(path) if key)


def test_a_word_is_as_sure_as_the_texts_that_hold_it() -> None:
    # "a" is clear; behind it, "b" and "e" are heard 3 : 1, each without doubt that something was said.
    tokens = ("", " a", " b", " e")
    probabilities = np.array([[1e-9, 1, 1e-9, 1e-9], [1, 1e-9, 1e-9, 1e-9], [1e-9, 1e-9, 0.75, 0.25]])
    log_probs = np.log(probabilities / probabilities.sum(axis=1, keepdims=True)).astype(np.float32)
    (found,) = Decoder(tokens, **EXACT).decode(log_probs[None], [3])
    assert [(word.text, word.start, word.end) for word in found.words] == [("a", 0, 1), ("b", 2, 3)]
    assert found.words[0].confidence == pytest.approx(1.0, abs=1e-6)
    # Three quarters of the texts hold it, and three quarters of its frame.
    assert found.words[1].confidence == pytest.approx(0.75 * 0.75, abs=1e-6)


def test_a_narrow_beam_that_lost_all_sentences_of_a_grammar_is_made_wider() -> None:
    rng = np.random.default_rng(5)
    grammar = compile_grammar(parse("<s> = ab ba | bab aba | baa ;"))
    decoder = Decoder(CHARACTERS)
    log_probs = np.log(rng.dirichlet(np.ones(len(CHARACTERS)), (20, 9))).astype(np.float32)
    found = decoder.decode(log_probs, [9] * 20, beam_width=1, grammar=grammar)
    assert all(hypothesis.text and hypothesis.rejection < math.inf for hypothesis in found)
    for frames, hypothesis in zip(log_probs, found, strict=True):
        stream = decoder.stream(beam_width=1, grammar=grammar)
        for piece in np.array_split(frames, 3):
            stream.feed(piece)
        assert stream.finish().text == hypothesis.text


def test_a_grammar_tells_how_badly_the_audio_fits_its_sentences() -> None:
    grammar = compile_grammar(parse("<s> = (a | b){first} [ab] ;"))
    decoder = Decoder(WORDS)
    rows = np.full((1, 3, 5), -9.0, np.float32)
    rows[0, [0, 1, 2], [1, 0, 3]] = -0.001
    (inside,) = decoder.decode(rows, [3], grammar=grammar)
    assert inside.text == "a ab"
    assert inside.slots == (("first", "a"),)
    assert inside.rejection == pytest.approx(3 * 0.001 / 2)
    outside = rows[:, :, [0, 4, 2, 3, 1]]  # "ba ab"
    (far,) = decoder.decode(outside, [3], grammar=grammar)
    assert far.text.endswith("ab")
    assert far.rejection == pytest.approx((9.0 + 2 * 0.001) / len(far.tokens), rel=1e-3)
    never = np.full((1, 3, 5), -np.inf, np.float32)
    never[0, :, 4] = 0.0
    (none,) = decoder.decode(never, [3], grammar=grammar)
    assert (none.text, none.rejection) == ("", math.inf)
