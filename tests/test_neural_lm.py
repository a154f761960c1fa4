"""The neural language model against brute force, and what training it promises."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from logs import log
from recorder import Recorder
from safetensors.torch import load_file

from asr.errors import AsrError, ConfigError, DataError, ModelError
from asr.reporting import Silent
from asr.text import generation, neural, tokenizer, units
from asr.text.neural import NeuralLm
from asr.text.neural_network import Architecture, LanguageNetwork
from asr.text.padding import NOTHING, STEP, consecutive_batches, fill_batches, pad
from asr.text.softmax import draw_log_uniform, sampled_nll
from asr.training import language, loop
from asr.training.optimization import Optimization, Update

WORDS = ("a", "b", "c")
LIKE = {"layers": 1, "embedding": 8, "hidden": 8, "dropout": 0.0}


def model(words: Sequence[str] = WORDS, seed: int = 0, spread: float = 1.0, **like: object) -> NeuralLm:
    """One with random weights, larger than those that a training begins with: probabilities differ much."""
    torch.manual_seed(seed)
    known = units.Words(words)
    network = LanguageNetwork(Architecture(len(known.symbols), **{**LIKE, **like}))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(std=spread)
    return NeuralLm(known, network.eval())


BEGINNING_ALIKE = [["a", "b", "c", "b"], ["c", "c", "b"], ["b", "a"], ["a", "b", "c"], ["a", "b", "c", "b"]]
SENTENCES = [[], ["a"], ["b", "zebra", "a"], ["a", "b", "c"] * 5, ["c"] * 40, *BEGINNING_ALIKE]

KINDS = [
    {},
    {"cell": "gru", "layers": 2},
    {"tied": False},
    {"hidden": 6},
    {"softmax": "sampled"},
    {"softmax": "adaptive", "tied": False, "hidden": 32},
]


def vocabulary(like: dict[str, object]) -> Sequence[str]:
    return [*WORDS, *(f"w{number}" for number in range(97))] if like.get("softmax") == "adaptive" else WORDS


# ------------------------------------------------------------------------------------------------ scores


@pytest.mark.parametrize("like", KINDS)
@torch.inference_mode()
def test_scores_are_those_of_the_network_word_by_word(like: dict[str, object]) -> None:
    """Each sentence alone, a word at a time, with a softmax over everything."""
    lm = model(vocabulary(like), **like)
    for sentence, scores in zip(SENTENCES, lm.log_probs(SENTENCES), strict=True):
        numbers = [lm.words.index(word) if word in lm.words else 1 for word in sentence]
        state, expected = None, []
        for before, after in itertools.pairwise([0, *numbers, 0]):
            features, state = lm.network(torch.tensor([[before]]), state)
            distribution = lm.network.log_probs(features[0])[0]
            assert distribution.exp().sum().item() == pytest.approx(1, abs=1e-5)
            expected.append(distribution[after].item())
        np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(lm.log_prob(SENTENCES), [s.sum() for s in lm.log_probs(SENTENCES)])


@settings(max_examples=20, deadline=None)
@given(st.lists(st.lists(st.sampled_from([*WORDS, "zebra"]), max_size=20), min_size=1, max_size=8), st.randoms())
def test_a_sentence_is_scored_alike_in_any_company(sentences: list[list[str]], random: object) -> None:
    lm = model()
    together = lm.log_probs(sentences)
    for sentence, scores in zip(sentences, together, strict=True):
        assert len(scores) == len(sentence) + 1
        np.testing.assert_allclose(scores, lm.log_probs([sentence])[0], rtol=1e-4, atol=1e-5)


def test_a_later_word_never_changes_an_earlier_score() -> None:
    lm = model()
    one, other = lm.log_probs([["a", "b", "c", "a"], ["a", "b", "b", "c"]])
    np.testing.assert_allclose(one[:2], other[:2], rtol=1e-5)
    assert abs(one[2] - other[2]) > 1e-3


def test_many_and_long_sentences_are_scored_in_several_batches() -> None:
    """Too many for one; and a very long one does not make others as long as itself."""
    lm = model()
    many = [list(words) for length in range(7) for words in itertools.product(WORDS, repeat=length)]
    many.insert(400, ["a"] * 2000)
    batches = [
        range(len(many))[batch] for batch in consecutive_batches([len(words) for words in many], 1024, 1 << 17)
    ]
    assert [place for batch in batches for place in batch] == list(range(len(many)))
    assert max(map(len, batches)) <= 1024
    assert all(len(batch) * max(len(many[place]) for place in batch) <= 1 << 17 for batch in batches)
    some = slice(0, None, 100)  # the long one among them
    np.testing.assert_allclose(
        lm.log_prob(many)[some], [lm.log_prob([words])[0] for words in many[some]], rtol=1e-4
    )


def test_nothing_is_scored_of_nothing() -> None:
    assert model().log_probs([]) == []


@torch.inference_mode()
def test_the_words_of_tokens_have_the_product_of_their_probabilities() -> None:
    torch.manual_seed(0)
    known = units.Tokens(tokenizer.build("characters", ["ab ba c"]))
    lm = NeuralLm(known, LanguageNetwork(Architecture(len(known.symbols), **LIKE)))
    assert known.symbols == ("</s>", "<unk>", " ", "a", "b", "c")
    scores = lm.log_probs([["ab", "xx", "c"]])[0]
    numbers = [0, 3, 4, 2, 1, 2, 5, 0]  # a b, space and unknown, space and c, the end
    features, _ = lm.network(torch.tensor([numbers[:-1]]))
    each = lm.network.log_probs(features[0]).gather(1, torch.tensor(numbers[1:])[:, None])[:, 0]
    expected = [each[:2].sum(), each[2:4].sum(), each[4:6].sum(), each[6]]
    np.testing.assert_allclose(scores, expected, rtol=1e-5)
    assert "ab" in lm and "xx" not in lm


@pytest.mark.parametrize(("kind", "size"), [("bpe", 18), ("unigram", 14), ("words", None), ("characters", None)])
def test_tokens_of_words_are_those_of_the_sentence(kind: str, size: int | None) -> None:
    text = "the cat and the hat sat at the hut"
    tokens = tokenizer.build(kind, [text, "that that cat"], size)
    known = units.Tokens(tokens)
    numbers = [number for word in known.encode(text.split()) for number in word]
    assert [number - 1 for number in numbers] == tokens.encode(text)
    assert known.decode(numbers) == text


# ----------------------------------------------------------------------------------------------- softmax


def tensors(size: int, count: int = 6, width: int = 4) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(1)
    draw = [torch.randn(*shape, generator=generator) for shape in ((count, width), (size, width), (size,))]
    return tuple(tensor.requires_grad_() for tensor in draw)


def test_a_sample_of_everything_is_the_full_softmax() -> None:
    x, weight, bias = tensors(7)
    targets = torch.tensor([0, 1, 2, 3, 3, 6])
    full = F.cross_entropy(x @ weight.T + bias, targets, reduction="none")
    sampled = sampled_nll(x, targets, weight, bias, torch.arange(7), torch.zeros(7))
    torch.testing.assert_close(sampled, full)
    for one, other in zip(
        torch.autograd.grad(sampled.sum(), (x, weight, bias)),
        torch.autograd.grad(full.sum(), (x, weight, bias)),
        strict=True,
    ):
        torch.testing.assert_close(one, other)


def test_the_sampled_sum_is_that_of_the_full_softmax_on_average() -> None:
    """exp(loss) times the target's exponential is the estimated sum over all units."""
    x, weight, bias = tensors(50, count=3)
    targets = torch.tensor([0, 7, 49])
    generator = torch.Generator().manual_seed(2)
    logits = x @ weight.T + bias
    draws = [draw_log_uniform(50, 200, generator) for _ in range(1500)]
    sums = torch.stack(
        [
            (sampled_nll(x, targets, weight, bias, *drawn) + logits[range(3), targets]).exp().detach()
            for drawn in draws
        ]
    )
    deviation = sums.std(0) / math.sqrt(len(sums))
    assert ((sums.mean(0) - logits.exp().sum(1)).abs() < 4 * deviation).all()
    assert (deviation < 0.02 * sums.mean(0)).all()


def test_gradients_of_the_sampled_softmax_are_right() -> None:
    x, weight, bias = (tensor.detach().double().requires_grad_() for tensor in tensors(9))
    targets, samples = torch.tensor([0, 1, 2, 3, 3, 8]), torch.tensor([0, 2, 5, 8])

    def loss(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        true = (x * weight[targets]).sum(1) + bias[targets]
        total = true.exp().clone()
        for row, target in enumerate(targets):
            for sample, expected in zip(samples, (0.5, 1.5, 0.2, 2.0), strict=True):
                if sample != target:
                    total[row] += (x[row] @ weight[sample] + bias[sample]).exp() / expected
        return (total.log() - true).sum()

    log_expected = torch.tensor([0.5, 1.5, 0.2, 2.0], dtype=torch.double).log()
    ours = torch.autograd.grad(
        sampled_nll(x, targets, weight, bias, samples, log_expected).sum(), (x, weight, bias)
    )
    for one, other in zip(ours, torch.autograd.grad(loss(x, weight, bias), (x, weight, bias)), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def test_units_are_drawn_log_uniformly() -> None:
    samples, log_expected = draw_log_uniform(5, 100_000, torch.Generator().manual_seed(3))
    probabilities = np.log(np.arange(2, 7) / np.arange(1, 6)) / np.log(6)
    counts = 100_000 * probabilities / log_expected.exp().double().numpy()
    assert samples.tolist() == [0, 1, 2, 3, 4]
    np.testing.assert_allclose(counts / 100_000, probabilities, atol=0.005)
    assert counts.sum() == pytest.approx(100_000)


def test_tying_shares_the_matrix() -> None:
    tied, apart = model(hidden=6).network, model(hidden=6, tied=False).network
    assert sum(tuple(parameter.shape) == (5, 8) for parameter in tied.parameters()) == 1
    x, target = torch.ones(1, 8), torch.tensor([2])
    before = tied.target_log_probs(x, target).item()
    with torch.no_grad():
        tied.embedding.weight[2] += 1
        apart_before = apart.target_log_probs(torch.ones(1, 6), target).item()
        apart.embedding.weight[2] += 1
    assert tied.target_log_probs(x, target).item() > before + 0.01
    assert apart.target_log_probs(torch.ones(1, 6), target).item() == apart_before


@pytest.mark.parametrize(
    ("like", "message"),
    [
        ({"units": 500, "softmax": "adaptive"}, "can't be tied"),
        ({"units": 5, "softmax": "adaptive", "tied": False}, "too few"),
        ({"units": 5, "softmax": "hard"}, "softmax: “hard”"),
        ({"units": 5, "cell": "rnn"}, "cell: “rnn”"),
    ],
)
def test_what_does_not_go_together_is_refused(like: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Architecture(**like)


# ----------------------------------------------------------------------------------------------- batches


@given(st.lists(st.integers(1, 100), min_size=1, max_size=60), st.integers(1, 300))
def test_batches_hold_every_sentence_once_within_the_budget(lengths: list[int], budget: int) -> None:
    batches = fill_batches(lengths, budget)
    assert sorted(place for batch in batches for place in batch) == list(range(len(lengths)))
    for batch in batches:
        inputs, targets = pad([[1] * (lengths[place] + 1) for place in batch])
        assert inputs.shape == targets.shape and inputs.shape[1] % STEP == 0
        assert len(batch) == 1 or inputs.numel() <= budget
        assert (targets != NOTHING).sum(1).tolist() == [lengths[place] for place in batch]


# -------------------------------------------------------------------------------------------- generation


def every_sentence(lm: NeuralLm, longest: int) -> list[tuple[float, str]]:
    texts = [words for length in range(longest + 1) for words in itertools.product(WORDS, repeat=length)]
    return sorted(zip(lm.log_prob(texts).tolist(), map(" ".join, texts), strict=True), reverse=True)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize("seed", range(5))
def test_a_wide_beam_finds_the_most_probable_sentences(cell: str, seed: int) -> None:
    lm = model(seed=seed, cell=cell)
    expected = every_sentence(lm, longest=4)[:6]
    found = generation.search(lm, beam_width=200, count=6, longest=4)
    assert [sentence.text for sentence in found] == [text for _, text in expected]
    np.testing.assert_allclose([sentence.log_prob for sentence in found], [p for p, _ in expected], rtol=1e-4)


def test_a_narrow_beam_finds_less() -> None:
    """But what it finds has its own probability."""
    lm = model()
    narrow, wide = (generation.search(lm, beam_width=width, count=6, longest=4) for width in (2, 200))
    for one, other in zip(narrow, wide, strict=True):
        assert one.log_prob == pytest.approx(lm.log_prob([one.text.split()])[0], rel=1e-4)
        assert one.log_prob <= other.log_prob + 1e-6
    assert sum(sentence.log_prob for sentence in narrow) < sum(sentence.log_prob for sentence in wide) - 0.1


@pytest.mark.parametrize(("temperature", "top_k"), [(1.0, None), (0.5, None), (2.0, 2), (1.0, 1)])
def test_first_words_are_drawn_as_often_as_they_should(temperature: float, top_k: int | None) -> None:
    lm = model(spread=0.7)
    count = 4000
    drawn = generation.sample(lm, torch.Generator().manual_seed(4), count, temperature, top_k, longest=1)
    with torch.inference_mode():
        features, _ = lm.network(torch.tensor([[0]]))
        scores = (lm.network.log_probs(features[:, 0])[0] / temperature).double().numpy()
    scores[1] = -np.inf  # <unk>
    if top_k is not None:
        scores[np.argsort(-scores)[top_k:]] = -np.inf
    expected = np.exp(scores) / np.exp(scores).sum()
    found = [drawn.count(text) / count for text in ("", "<unk>", *WORDS)]
    np.testing.assert_allclose(found, expected, atol=4 * math.sqrt(0.25 / count))


def test_sentences_end_where_they_end_or_are_cut_off() -> None:
    lm = model(spread=0.3)
    drawn = generation.sample(lm, torch.Generator().manual_seed(5), 200, longest=6)
    lengths = {len(text.split()) for text in drawn}
    assert max(lengths) == 6 and len(lengths) > 3
    assert not any("<" in text for text in drawn)
    again = generation.sample(lm, torch.Generator().manual_seed(5), 200, longest=6)
    assert again == drawn


# ---------------------------------------------------------------------------------------------- new words


@pytest.mark.parametrize("like", KINDS[:5])
@torch.inference_mode()
def test_new_words_share_what_unknown_had(like: dict[str, object]) -> None:
    lm = model(**like)
    grown = neural.extended(lm, ["b", "zebra", "okapi", "zebra", "<unk>"], dropout=0.4)
    assert grown.words == (*lm.words, "zebra", "okapi")
    assert grown.network.architecture.dropout == 0.4
    sentences = [["a"], ["b", "c", "a"]]
    for before, after in zip(lm.log_probs(sentences), grown.log_probs(sentences), strict=True):
        np.testing.assert_allclose(after, before, atol=1e-5)
    for word in ("zebra", "okapi", "gnu"):
        shared = lm.log_probs([["a", "gnu", "b"]])[0] - [0, math.log(3), 0, 0]
        np.testing.assert_allclose(grown.log_probs([["a", word, "b"]])[0], shared, atol=1e-5)


def test_single_words_have_nothing_between_them() -> None:
    known = units.Tokens(tokenizer.CharacterTokenizer(["a", "b"]))
    assert known.encode(["ab"]) == [[2, 3]]


def test_without_new_words_a_model_is_copied() -> None:
    lm = model(vocabulary({"softmax": "adaptive"}), softmax="adaptive", tied=False, hidden=32)
    copy = neural.extended(lm, WORDS, dropout=0.2)
    assert copy.words == lm.words
    for name, tensor in copy.network.state_dict().items():
        assert torch.equal(tensor, lm.network.state_dict()[name])
    next(copy.network.parameters()).data.zero_()
    assert next(lm.network.parameters()).any()
    with pytest.raises(ConfigError, match="takes no new words"):
        neural.extended(lm, ["zebra"], dropout=0.2)


# ----------------------------------------------------------------------------------------------- on disk


@pytest.mark.parametrize("like", KINDS)
def test_a_saved_model_scores_the_same(like: dict[str, object], tmp_path: Path) -> None:
    lm = model(vocabulary(like), **like)
    neural.save(lm, tmp_path / "lm.safetensors")
    loaded = neural.load(tmp_path / "lm.safetensors")
    assert loaded.words == lm.words
    assert loaded.network.architecture == lm.network.architecture
    for one, other in zip(loaded.log_probs(SENTENCES), lm.log_probs(SENTENCES), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(("kind", "size"), [("characters", None), ("bpe", 8)])
def test_a_saved_model_of_tokens_holds_its_tokenizer(kind: str, size: int | None, tmp_path: Path) -> None:
    known = units.Tokens(tokenizer.build(kind, ["ab ab ba c"], size))
    lm = NeuralLm(known, LanguageNetwork(Architecture(len(known.symbols), **LIKE)))
    neural.save(lm, tmp_path / "lm.safetensors")
    loaded = neural.load(tmp_path / "lm.safetensors")
    np.testing.assert_array_equal(loaded.log_probs([["ab", "c"]])[0], lm.log_probs([["ab", "c"]])[0])


def test_only_files_of_this_name_are_written(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="safetensors"):
        neural.save(model(), tmp_path / "lm.bin")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kept", [5, 20, 200, 500, 900])
def test_a_damaged_file_is_refused(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "lm.safetensors"
    neural.save(model(), path)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(DataError, match=r"lm\.safetensors"):
        neural.load(path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b'format_version\\": 1', b'format_version\\": 2', "in format 2"),
        (b'\\"units\\": \\"words', b'\\"units\\": \\"woods', "damaged: units of kind woods"),
        (b'\\"hidden\\": 8', b'\\"hidden\\": 9', "damaged"),
        (b'\\"softmax\\": \\"full\\"', b'\\"softmax\\": \\"fool\\"', "damaged"),
        (b"neural_language_model", b"plural_language_model", "no neural language model"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, old: bytes, new: bytes, message: str) -> None:
    path = tmp_path / "lm.safetensors"
    neural.save(model(), path)
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new))
    with pytest.raises(DataError, match=message):
        neural.load(path)


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        neural.load(tmp_path / "lm.safetensors")
    with pytest.raises(DataError, match="a folder"):
        neural.load(tmp_path)


# ---------------------------------------------------------------------------------------------- training


def loop_settings(**changed: object) -> loop.Settings:
    values = {
        "epochs": 4,
        "learning_rate": 0.02,
        "warmup": 0.05,
        "schedule": "cosine",
        "weight_decay": 0.0,
        "clip_norm": 1.0,
        "patience": None,
        "average": 1,
        "threads": 1,
    }
    return loop.Settings(**{**values, **changed})


def sentences(count: int, seed: int) -> list[str]:
    """Of a language whose entropy is known: a coin chooses each of the first words, the rest is an echo of it."""
    rng = np.random.default_rng(seed)
    return [f"{word} {' '.join([word] * 3)} end" for word in rng.choice(["heads", "tails"], count)]


def job(
    folder: Path, texts: list[str], dev: list[str], like: dict | None = None, **changed: object
) -> language.Job:
    torch.manual_seed(7)
    known = units.count_words(texts)
    architecture = Architecture(len(known.symbols), **{**LIKE, "hidden": 16, **(like or {})})
    lm = NeuralLm(known, LanguageNetwork(architecture))
    return language.Job(lm, texts, dev, loop_settings(**changed), seed=3, folder=folder, batch_units=64, draws=20)


@pytest.mark.parametrize("like", [{}, {"softmax": "sampled"}, {"cell": "gru", "tied": False, "dropout": 0.1}])
def test_learns_a_language_down_to_its_entropy(like: dict, tmp_path: Path) -> None:
    """One bit for a sentence of five words and its end."""
    task = job(tmp_path, sentences(200, 1), sentences(60, 2), like, epochs=8)
    outcome = language.train(task, Silent())
    assert outcome.dev.measured.perplexity == pytest.approx(2 ** (1 / 6), rel=0.02)
    entries = log(tmp_path)
    assert [entry["epoch"] for entry in entries] == list(range(1, 9))
    assert entries[-1]["dev_perplexity"] == pytest.approx(outcome.dev.measured.perplexity, rel=1e-3)
    assert entries[-1]["units"] == 200 * 6


def test_an_adaptive_softmax_learns(tmp_path: Path) -> None:
    words = [f"w{number}" for number in range(120)]
    texts = [f"{word} {word}" for word in words] * 3
    like = {"softmax": "adaptive", "tied": False, "embedding": 32, "hidden": 64}
    outcome = language.train(job(tmp_path, texts, texts, like, epochs=20), Silent())
    assert outcome.dev.measured.perplexity < 1.3 * 120 ** (1 / 3)


@pytest.mark.parametrize("cuts", [(1,), (25, 4)])
def test_a_cut_off_training_resumes_exactly(tmp_path: Path, cuts: tuple[int, ...]) -> None:
    like = {"softmax": "sampled", "dropout": 0.3}
    texts, dev = sentences(120, 1), sentences(20, 2)
    whole = job(tmp_path / "whole", texts, dev, like, average=2)
    language.train(whole, Silent())
    for cut in cuts:
        with pytest.raises(loop.InterruptedTrainingError, match="SIGINT"):
            language.train(job(tmp_path / "cut", texts, dev, like, average=2), Recorder(cut))
    resumed = job(tmp_path / "cut", texts, dev, like, average=2)
    language.train(resumed, Silent())
    for name, tensor in whole.model.network.state_dict().items():
        assert torch.equal(tensor, resumed.model.network.state_dict()[name]), name


def test_a_step_is_watched_though_the_first_are_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in fp16, until the scale of gradients is found; short epochs would have no watched step."""
    move, steps = Optimization._move, itertools.count()
    monkeypatch.setattr(
        Optimization, "_move", lambda *given: Update(math.inf, True) if next(steps) < 3 else move(*given)
    )
    language.train(job(tmp_path, sentences(60, 1), sentences(5, 2), epochs=1), Silent())
    (entry,) = log(tmp_path)
    assert entry["skipped_steps"] == 3
    assert entry["layers"]["embedding"]["update_ratio"] > 0


def test_early_stopping_keeps_the_best(tmp_path: Path) -> None:
    """Trained on one side of the coin, the perplexity of both sides rises after a while."""
    texts, dev = ["heads end"] * 40 + ["tails end"], ["heads end", "tails end"]
    task = job(tmp_path, texts, dev, epochs=40, patience=2, schedule="constant", learning_rate=0.05)
    outcome = language.train(task, Silent())
    perplexities = [
        json.loads(line)["dev_perplexity"] for line in (tmp_path / "log.jsonl").read_text().splitlines()
    ]
    best = int(np.argmin(perplexities))
    assert len(perplexities) == best + 1 + 2 < 40
    assert outcome.dev.measured.perplexity == pytest.approx(perplexities[best], rel=1e-4)
    assert len(list((tmp_path / "checkpoints").glob("epoch-*"))) == 1


def test_long_sentences_are_learnt_in_pieces(tmp_path: Path) -> None:
    text = " ".join(["tick", "tock"] * 10)
    task = job(tmp_path, [text], [text])
    pieces = language.LanguageTask(language.Job(**{**vars(task), "longest": 8})).examples
    numbers = [0, *[2, 3] * 10, 0]
    assert [piece.tolist() for piece in pieces] == [numbers[0:9], numbers[8:17], numbers[16:22]]


def test_too_little_memory_is_said_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def loss(*arguments: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")

    monkeypatch.setattr(language.LanguageTask, "loss", loss)
    with pytest.raises(AsrError, match="out of memory with batches of 64 units"):
        language.train(job(tmp_path, ["one two"] * 4, ["one two"], epochs=1), Silent())


def test_the_checkpoint_of_another_model_is_refused(tmp_path: Path) -> None:
    texts = sentences(20, 1)
    language.train(job(tmp_path, texts, texts, epochs=1), Silent())
    with pytest.raises(ModelError, match="of another model"):
        language.train(job(tmp_path, texts, texts, {"cell": "gru"}, epochs=1), Silent())


def test_the_checkpoint_holds_a_tied_matrix_once(tmp_path: Path) -> None:
    texts = sentences(20, 1)
    task = job(tmp_path, texts, texts, {"embedding": 16}, epochs=1)
    language.train(task, Silent())
    (weights,) = (tmp_path / "checkpoints").glob("epoch-*")
    assert sum(tensor.shape == (5, 16) for tensor in load_file(weights).values()) == 1


def test_words_are_counted_by_frequency_then_spelling() -> None:
    known = units.count_words(["b a a c", "d b a <unk>"], min_count=1)
    assert known.symbols == ("</s>", "<unk>", "a", "b", "c", "d")
    assert units.count_words(["b a a c", "d b a"], min_count=2).symbols == ("</s>", "<unk>", "a", "b")
    assert units.count_words(["b a a c", "d b a"], limit=1).symbols == ("</s>", "<unk>", "a")
    assert known.encode(["a", "e", "</s>"]) == [[2], [1], [1]]
    with pytest.raises(DataError, match="no words"):
        units.count_words(["a b c"], min_count=2)
