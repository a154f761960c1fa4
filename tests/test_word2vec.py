"""Word vectors are learnt by the objectives they are said to be, whatever the engine."""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from functools import cache
from itertools import pairwise, product

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from asr.errors import ConfigError, DataError
from asr.text import huffman, phrases, spool, word2vec, word2vec_numba, word2vec_torch
from asr.text.spool import SEPARATOR
from asr.text.vectors import WordVectors
from asr.text.word2vec import train
from asr.text.word2vec_model import HIERARCHICAL, SAMPLED, Learn, Model, Piece, initial, noise

CUDA = pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU"))
ENGINES = ["numba", "cpu", CUDA]  # the torch engine by its device
ARCHITECTURES = ["skip-gram", "cbow"]
OBJECTIVES = ["negative", "hierarchical", "sampled"]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """For PyTorch, whose threads wait for one another longer than such small batches take."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


PAIRS = 32  # how many may move a vector in one batch of the torch engine


def training(engine: str, model: Model) -> AbstractContextManager[Learn]:
    if engine == "numba":
        return word2vec_numba.training(model, threads=1)
    return word2vec_torch.training(model, engine, rate=word2vec_torch.LIMIT / PAIRS)


# The gradients

ALWAYS = 3  # the word that is drawn
IDS = np.array([0, 1, 2, 0, SEPARATOR, 5, 4, SEPARATOR, 1, SEPARATOR, SEPARATOR, 3, 2, 3, 1], np.int32)


def random_model(architecture: str, objective: str) -> Model:
    generator = np.random.default_rng(5)
    counts = np.array([9, 7, 6, 3, 2, 1])
    model = initial(counts, 7, architecture == "cbow", objective, 1, 2, generator)  # type: ignore[arg-type]
    inputs, outputs = generator.normal(0, 0.7, (2, 6, 7)).astype(np.float32)
    only = noise(np.eye(6)[ALWAYS])
    expected = generator.normal(size=6).astype(np.float32)
    return model._replace(inputs=inputs, outputs=outputs, noise=only, log_expected=expected)


Example = tuple[int, list[int]]  # a centre word, and those around it


def examples() -> Iterator[Example]:
    """Those of a window of 1."""
    for position, centre in enumerate(IDS.tolist()):
        around = [at for at in (position - 1, position + 1) if 0 <= at < len(IDS)]
        context = [int(IDS[at]) for at in around if IDS[at] >= 0]
        if centre >= 0 and context:
            yield centre, context


def loss(model: Model, inputs: torch.Tensor, outputs: torch.Tensor, example: Example) -> torch.Tensor:
    """What `Model` says."""
    centre, context = example
    hidden = inputs[context]
    if model.cbow:
        total = hidden.sum(0, keepdim=True)
        hidden = total + (total / len(context) - total).detach()  # the mean, with the sum's gradient
    if model.objective == HIERARCHICAL:
        way = slice(*model.paths.offsets[centre : centre + 2])
        signs = torch.from_numpy(2.0 * model.paths.turns[way] - 1)
        return -F.logsigmoid(signs * (hidden @ outputs[model.paths.nodes[way]].T)).sum()
    rows = [centre] if centre == ALWAYS else [centre, *[ALWAYS] * model.samples]
    scores = hidden @ outputs[rows].T
    if model.objective == SAMPLED:
        return -(scores - torch.from_numpy(model.log_expected[rows])).log_softmax(-1)[:, 0].sum()
    return -F.logsigmoid(scores[:, 0]).sum() - F.logsigmoid(-scores[:, 1:]).sum()


def descended(model: Model, rate: float, steps: Sequence[Sequence[Example]]) -> tuple[torch.Tensor, torch.Tensor]:
    """The parameters after steps against the gradient of the losses at some examples each, by autograd."""
    inputs, outputs = (torch.from_numpy(part).double() for part in (model.inputs, model.outputs))
    for batch in steps:
        leaves = [part.clone().requires_grad_() for part in (inputs, outputs)]
        total = torch.stack([loss(model, *leaves, example) for example in batch]).sum()
        slopes = torch.autograd.grad(total, leaves)
        inputs, outputs = inputs - rate * slopes[0], outputs - rate * slopes[1]
    return inputs, outputs


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_steps_go_down_the_gradient(engine: str, architecture: str, objective: str) -> None:
    model = random_model(architecture, objective)
    steps = [list(examples())]  # a batch
    if engine == "numba" and model.cbow:
        steps = [[example] for example in examples()]
    elif engine == "numba":
        steps = [[(centre, [word])] for centre, context in examples() for word in context]
    inputs, outputs = descended(model, 0.1, steps)
    with training(engine, model) as learn:
        learn([Piece(IDS, 0.1, seed=1)])
    np.testing.assert_allclose(model.inputs, inputs, atol=1e-5)
    np.testing.assert_allclose(model.outputs, outputs, atol=1e-5)


def test_the_sigmoid_saturates_far_from_0() -> None:
    for score, expected in ((-30, 1), (30, 0)):
        model = random_model("skip-gram", "negative")
        model.inputs[:], model.outputs[:] = 0, 0
        model.inputs[:, 0], model.outputs[:2, 0] = 1, score
        with training("numba", model) as learn:
            learn([Piece(np.array([0, 1], np.int32), 1e-3, seed=1)])
        assert model.outputs[1, 0] - score == pytest.approx(1e-3 * expected, abs=2e-6)


def test_many_pairs_of_a_batch_move_a_vector_no_more_than_the_limit_of_them() -> None:
    moved = []
    for pairs in (PAIRS // 4, PAIRS, 7 * PAIRS):
        model = random_model("skip-gram", "hierarchical")
        before = model.inputs.copy()
        with training("cpu", model) as learn:
            learn([Piece(np.tile(np.array([4, 5, SEPARATOR], np.int32), pairs), 0.01, seed=1)])
        moved.append(model.inputs - before)
    np.testing.assert_allclose(moved[1], 4 * moved[0], rtol=1e-3, atol=1e-7)
    np.testing.assert_allclose(moved[2], moved[1], rtol=1e-3, atol=1e-5)


# What is drawn

RATE = 1e-6  # so small that a vector of zeros stays one for whoever reads it


def counting_model(words: int, window: int, samples: int) -> Model:
    counts = np.arange(words, 0, -1) ** 2
    model = initial(counts, 1, False, "negative", window, samples, np.random.default_rng(0))
    model.inputs[:] = 0
    return model


def assert_binomial(found: float, draws: int, share: float) -> None:
    assert abs(found - draws * share) < 5 * math.sqrt(draws * share * (1 - share))


@pytest.mark.parametrize("engine", ENGINES)
def test_words_are_drawn_by_their_counts_to_the_power_of_three_quarters(engine: str) -> None:
    model = counting_model(words=12, window=1, samples=5)
    model.inputs[:] = 1  # each draw moves the output of a word by rate / 2
    pieces = [Piece(np.array([10, 11], np.int32), RATE, seed) for seed in range(1, 2001)]
    with training(engine, model) as learn:
        learn(pieces)
    weights = np.arange(12, 0, -1) ** 1.5
    for word in range(10):
        drawn = -model.outputs[word, 0] / (RATE / 2)
        assert_binomial(drawn, 2 * 5 * len(pieces), weights[word] / weights.sum())


@pytest.mark.parametrize("engine", ENGINES)
def test_the_nearer_a_word_the_more_often_it_is_around(engine: str) -> None:
    window = 4
    model = counting_model(words=7, window=window, samples=1)
    model.outputs[5] = 1  # each time that a word is around word 5, its input moves by rate / 2
    pieces = [Piece(np.array([0, 1, 2, 3, 4, 5], np.int32), RATE, seed) for seed in range(1, 2001)]
    model = model._replace(noise=noise(np.eye(7)[6]))
    with training(engine, model) as learn:
        learn(pieces)
    around = model.inputs[:, 0] / (RATE / 2)
    assert (around[0], around[4]) == (pytest.approx(0, abs=0.1), pytest.approx(len(pieces), rel=1e-3))
    for word in (1, 2, 3):
        assert_binomial(around[word], len(pieces), word / window)


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=40).filter(lambda weights: sum(weights) > 1e-3))
def test_alias_tables_hold_the_distribution(weights: list[float]) -> None:
    table = noise(np.array(weights))
    share = np.minimum(table.share.astype(np.float64), 1)
    probability = (share + np.bincount(table.other, 1 - share, len(weights))) / len(weights)
    np.testing.assert_allclose(probability, np.array(weights) / sum(weights), atol=1e-6)


def test_frequent_words_are_thinned_to_their_shares() -> None:
    counts = np.array([500_000, 20_000, 100])
    kept = word2vec.shares_kept(counts, 1e-3)
    frequency = counts / counts.sum()
    expected = [math.sqrt(1e-3 / share) + 1e-3 / share for share in frequency[:2]]
    np.testing.assert_allclose(kept, [*expected, 1], rtol=1e-6)
    ids = np.append(np.repeat(np.arange(3), counts), [SEPARATOR] * 1000).astype(np.int32)
    left = Counter(word2vec.thin(ids, np.append(kept, np.float32(1)), np.random.default_rng(3)).tolist())
    assert (left[2], left[SEPARATOR]) == (100, 1000)
    for word in range(2):
        assert_binomial(left[word], int(counts[word]), float(kept[word]))


def test_without_subsampling_all_words_are_kept() -> None:
    assert (word2vec.shares_kept(np.array([500_000, 1]), 0) == 1).all()


# Huffman codes


def codes(counts: Sequence[int]) -> list[list[tuple[int, int]]]:
    """For each word the inner nodes on its way, and the turns there."""
    found = huffman.paths(np.array(counts))
    steps = list(zip(found.nodes.tolist(), found.turns.tolist(), strict=True))
    return [steps[begin:end] for begin, end in pairwise(found.offsets.tolist())]


@given(st.lists(st.integers(1, 1000), min_size=1, max_size=60))
def test_codes_are_as_short_as_huffmans(counts: list[int]) -> None:
    heap, cost = sorted(counts), 0
    while len(heap) > 1:
        merged = heapq.heappop(heap) + heapq.heappop(heap)
        cost += merged
        heapq.heappush(heap, merged)
    assert sum(count * len(code) for count, code in zip(counts, codes(counts), strict=True)) == cost


@given(st.lists(st.integers(1, 1000), min_size=2, max_size=60))
def test_codes_are_ways_through_one_tree(counts: list[int]) -> None:
    leads: dict[tuple[int, int], object] = {}
    roots = set()
    for word, code in enumerate(codes(counts)):
        roots.add(code[0][0])
        for step, following in zip(code, [*(node for node, _ in code[1:]), f"word {word}"], strict=True):
            assert leads.setdefault(step, following) == following  # so none is the beginning of another
    assert len(roots) == 1
    assert leads.keys() == set(product(range(len(counts) - 1), range(2)))


# Phrases


def spelled(text: spool.NumberedText) -> list[str]:
    sentences: list[list[str]] = [[]]
    for number in np.concatenate(list(text.blocks)).tolist():
        if number == SEPARATOR:
            sentences.append([])
        else:
            sentences[-1].append(text.words[number])
    return [" ".join(sentence) for sentence in sentences[:-1]]


def test_texts_are_numbered_and_spelled_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "_BLOCK", 8)
    sentences = ["a b a c", "", "c", "b b b b b b b b b b b b", "d a"]
    text = spool.read(sentences)
    assert len(list(text.blocks)) == 3
    assert spelled(text) == sentences
    assert dict(zip(text.words, text.counts.tolist(), strict=True)) == Counter(" ".join(sentences).split())


@settings(max_examples=30)
@given(
    st.lists(st.lists(st.sampled_from("abcde"), max_size=8).map(" ".join), min_size=1, max_size=12).filter(any),
    st.floats(0, 4),
    st.integers(0, 2),
)
def test_phrases_are_those_of_the_formula(sentences: list[str], threshold: float, discount: int) -> None:
    words = [sentence.split() for sentence in sentences]
    counts = Counter(word for sentence in words for word in sentence)
    together = Counter(pair for sentence in words for pair in pairwise(sentence))

    def belongs(first: str, second: str) -> bool:
        count = together[first, second] - discount
        return count / (counts[first] * counts[second]) * counts.total() > threshold and count > 0

    def joined(sentence: list[str]) -> Iterator[str]:
        while sentence:
            length = 2 if len(sentence) > 1 and belongs(*sentence[:2]) else 1
            yield "_".join(sentence[:length])
            sentence = sentence[length:]

    text = phrases.join(spool.read(sentences), threshold, discount)
    expected = [" ".join(joined(sentence)) for sentence in words]
    assert spelled(text) == expected
    assert dict(zip(text.words, text.counts.tolist(), strict=True)) == {
        **dict.fromkeys(text.words, 0),
        **Counter(" ".join(expected).split()),
    }


def test_a_phrase_that_is_a_word_already_is_that_word() -> None:
    text = phrases.join(spool.read(["new york new_york"] * 9), 0.0, 0)
    assert sorted(text.words) == sorted(set(text.words))
    assert text.counts[text.words.index("new_york")] >= 18


def test_another_pass_makes_longer_phrases() -> None:
    generator = np.random.default_rng(2)
    sentences = []
    for _ in range(400):
        words = [f"w{word}" for word in generator.integers(40, size=8)]
        words[3:5] = ["new", "york", "times"] if generator.random() < 0.2 else words[3:5]
        sentences.append(" ".join(words))

    def found(passes: int) -> set[str]:
        words = train(sentences, dim=2, epochs=1, phrase_passes=passes, phrase_threshold=20).words
        return {word for word in words if "_" in word}

    assert [found(passes) for passes in range(3)] == [set(), {"new_york"}, {"new_york_times"}]


# Training


def topics(sentences: int) -> Iterator[str]:
    """Sentences of one topic each: words such as a0, a1 … among words of all topics."""
    generator = np.random.default_rng(0)
    for _ in range(sentences):
        topic = "abcde"[generator.integers(5)]
        yield " ".join(
            f"{topic}{generator.integers(4)}" if generator.random() < 0.7 else f"x{generator.integers(6)}"
            for _ in range(10)
        )


TOPICS = list(topics(1500))


def cosines(vectors: WordVectors) -> NDArray[np.float32]:
    """Of all words, in the order of the alphabet."""
    order = np.argsort(vectors.words)
    unit = vectors.vectors[order] / np.linalg.norm(vectors.vectors[order], axis=1, keepdims=True)
    return np.asarray(unit @ unit.T)


@cache
def learnt(engine: str, architecture: str, objective: str) -> WordVectors:
    arguments = {"engine": "numba"} if engine == "numba" else {"engine": "torch", "device": engine}
    return train(
        TOPICS,
        dim=16,
        architecture=architecture,  # type: ignore[arg-type]
        objective=objective,  # type: ignore[arg-type]
        subsample=0,
        threads=1,
        **arguments,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_words_of_a_topic_are_neighbours(engine: str, architecture: str, objective: str) -> None:
    vectors = learnt(engine, architecture, objective)
    words = sorted(vectors.words)
    similar = cosines(vectors)
    for word, similarities in zip(words[:20], similar, strict=False):
        nearest = [words[index] for index in np.argsort(-similarities)[:4]]
        assert nearest[0] == word
        assert {other[0] for other in nearest} == {word[0]}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_both_engines_tell_topics_apart_equally_well(architecture: str, objective: str) -> None:
    within = np.kron(np.eye(5), np.ones((4, 4))) > 0
    gaps = []
    for engine in ("numba", "cpu"):
        similar = cosines(learnt(engine, architecture, objective))[:20, :20]
        gaps.append(similar[within].mean() - similar[~within].mean())
    assert gaps[0] == pytest.approx(gaps[1], abs=0.15)


@pytest.mark.parametrize("engine", ["numba", "torch"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("texts", [["a a a a a"], ["a", "b", "a"] * 4], ids=["one word", "words alone"])
def test_texts_that_teach_nothing_do_no_harm(  # type: ignore[no-untyped-def]
    engine, architecture, objective, texts: list[str]
) -> None:
    vectors = train(texts, dim=3, architecture=architecture, objective=objective, engine=engine, min_count=1)
    assert np.isfinite(vectors.vectors).all()


@pytest.mark.parametrize("engine", ["numba", "torch"])
def test_one_seed_gives_one_outcome(engine: word2vec.Engine) -> None:
    def vectors(seed: int) -> NDArray[np.float32]:
        return train(TOPICS[:200], dim=8, epochs=2, threads=1, seed=seed, engine=engine).vectors

    np.testing.assert_array_equal(vectors(3), vectors(3))
    assert not np.allclose(vectors(3), vectors(4))


def test_threads_share_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(word2vec_numba, "PIECE", 500)
    vectors = train(TOPICS, dim=16, subsample=0, threads=4)
    similar = cosines(vectors)
    assert similar[:4, :4].min() > similar[:4, 4:20].max()


def test_words_come_by_their_frequency_and_rare_ones_are_left_out() -> None:
    vectors = train(["c b b a a a", "d a a b b c c"], dim=3, min_count=3)
    assert vectors.words == ("a", "b", "c")
    assert vectors.vectors.shape == (3, 3)
    assert vectors.vectors.dtype == np.float32


def test_texts_in_many_blocks_are_learnt_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "_BLOCK", 300)
    told: list[tuple[int, int]] = []
    train(iter(TOPICS[:100]), dim=4, min_count=1, epochs=2, on_progress=lambda *progress: told.append(progress))
    assert len(told) > 4
    assert [done for done, _ in told] == sorted({done for done, _ in told})
    assert {total for _, total in told} == {2 * 10 * 100}
    assert told[-1] == (2000, 2000)


@pytest.mark.parametrize("texts", [[], ["", "  "]])
def test_a_text_without_words_is_refused(texts: list[str]) -> None:
    with pytest.raises(DataError, match="no words"):
        train(texts)


def test_a_text_of_rare_words_is_refused() -> None:
    with pytest.raises(DataError, match="no word occurs 5 times") as caught:
        train(["a b b", "c b"])
    assert "“b”, the most frequent, occurs 3 times" in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"architecture": "glove"}, "the architecture “glove”"),
        ({"objective": "softmax"}, "the objective “softmax”"),
        ({"engine": "jax"}, "the engine “jax”"),
        ({"dim": 0}, "dim is 0"),
        ({"window": 0}, "window is 0"),
        ({"epochs": -1}, "epochs is -1"),
        ({"threads": 0}, "threads is 0"),
        ({"engine": "torch", "device": "abacus"}, "PyTorch has no device “abacus” here"),
        ({"engine": "torch", "device": "meta"}, "PyTorch has no device “meta” here"),  # it holds no numbers
        ({"engine": "torch", "device": "cuda:99"}, "PyTorch has no device “cuda:99” here"),
        ({"engine": "numba", "device": "cuda"}, "the numba engine can't use the device “cuda”"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(arguments, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ConfigError, match=message):
        train(["a b"], **arguments)
