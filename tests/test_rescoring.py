"""Rescoring: the best is the best of all, ties change nothing, and the parts of a score add up."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise, product
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from asr import artefact, build
from asr.decoder_settings import DecoderSettings, choose
from asr.decoding.beam import Decoder
from asr.decoding.rescoring import WIDER, RescoringDecoder, Weights, remembering, rescore, sentence_scores
from asr.decoding.types import Hypothesis, Options, Word
from asr.errors import ConfigError, DataError
from asr.text import neural, units
from asr.text.neural import NeuralLm
from asr.text.neural_network import Architecture, LanguageNetwork
from asr.text.normalize import Normalizer

LOGARITHMS = st.floats(-20.0, 0.0)
BONUSES = st.floats(-5.0, 5.0)


def hypothesis(text: str, acoustic: float, lm: float = 0.0, bonus: float = 0.0) -> Hypothesis:
    return Hypothesis(text, (), (), (), acoustic + lm + bonus, 1.0, acoustic, lm, bonus)


def by_length(sentences: Sequence[Sequence[str]]) -> list[NDArray[np.float64]]:
    """A language model in which each letter, and the end, halves the probability."""
    half = math.log(0.5)
    return [np.array([half * len(word) for word in words] + [half]) for words in sentences]


@dataclass
class Prepared:
    """A decoder that has these hypotheses for every utterance, and remembers what it was asked."""

    found: Sequence[Hypothesis]
    options: list[Options] = field(default_factory=list)

    def decode(self, log_probs: Tensor, lengths: Tensor, **options: Unpack[Options]) -> list[Hypothesis]:
        self.options.append(options)
        best, *others = self.found[: options.get("nbest", 1)]
        return [with_alternatives(best, others) for _ in lengths]


def listed(best: Hypothesis) -> tuple[Hypothesis, ...]:
    return (replace(best, alternatives=()), *best.alternatives)


def with_alternatives(best: Hypothesis, others: Sequence[Hypothesis]) -> Hypothesis:
    return Hypothesis(
        best.text,
        (),
        (),
        best.words,
        best.score,
        1.0,
        best.acoustic,
        best.lm,
        best.bonus,
        alternatives=tuple(others),
    )


NOTHING = (torch.zeros(2, 1, 1), torch.ones(2))


@given(
    st.lists(st.tuples(LOGARITHMS, LOGARITHMS, BONUSES, LOGARITHMS, st.integers(0, 4)), min_size=1, max_size=8),
    st.floats(0.0, 3.0),
    BONUSES,
    st.floats(0.0, 2.0),
)
def test_hypotheses_are_ranked_by_the_sum_of_all_parts(
    numbers: list[tuple[float, float, float, float, int]], gamma: float, delta: float, first_pass: float
) -> None:
    hypotheses = [
        hypothesis(" ".join(["ah"] * words), acoustic, lm, bonus) for acoustic, lm, bonus, _, words in numbers
    ]
    sums = [
        acoustic + first_pass * lm + bonus + gamma * log_prob + delta * words
        for acoustic, lm, bonus, log_prob, words in numbers
    ]
    log_probs = np.array([each[3] for each in numbers])
    best = rescore(hypotheses, log_probs, Weights(gamma, delta, first_pass), len(numbers))
    ranked = listed(best)
    assert best.score == pytest.approx(max(sums))
    assert [each.score for each in ranked] == pytest.approx(sorted(sums, reverse=True))
    assert sorted(each.text for each in ranked) == sorted(each.text for each in hypotheses)
    for each in ranked:
        assert each.score == pytest.approx(each.acoustic + each.lm + each.bonus + each.rescoring)


def test_of_equals_the_one_that_was_better_before_stays_so() -> None:
    hypotheses = [hypothesis(text, score) for text, score in (("a", -1.0), ("b", -1.5), ("c", -1.5), ("d", -2.0))]
    best = rescore(hypotheses, np.array([-2.0, -1.5, -1.0, -1.0]), Weights(1.0), 4)
    assert [(each.text, each.score) for each in listed(best)] == [
        ("c", -2.5),
        ("a", -3.0),
        ("b", -3.0),
        ("d", -3.0),
    ]


def test_weights_that_do_nothing_change_nothing() -> None:
    hypotheses = [hypothesis("a", -1.0, -2.0, 0.5), hypothesis("b c", -1.5, -2.0, 0.0)]
    assert listed(rescore(hypotheses, np.array([-9.0, -1.0]), Weights(gamma=0.0), 2)) == tuple(hypotheses)


def test_what_else_is_known_of_a_hypothesis_goes_with_it() -> None:
    words = (Word("b", 3, 5, 0.25),)
    second = Hypothesis("b", (2,), (3,), words, -2.0, 0.25, -2.0)
    best = rescore([hypothesis("a", -1.0), second], np.array([-9.0, -1.0]), Weights(1.0))
    assert (best.words, best.tokens, best.token_frames, best.confidence) == (words, (2,), (3,), 0.25)
    assert best.alternatives == ()


def test_sentences_are_scored_once_and_together() -> None:
    asked: list[Sequence[Sequence[str]]] = []

    def scorer(sentences: Sequence[Sequence[str]]) -> list[NDArray[np.float64]]:
        asked.append(sentences)
        return by_length(sentences)

    lists = [[hypothesis("a bb", 0.0), hypothesis("a", 0.0)], [hypothesis("a", 0.0), hypothesis("", 0.0)]]
    scores = sentence_scores(scorer, lists)
    assert asked == [[["a", "bb"], ["a"], []]]
    half = math.log(0.5)
    assert [each.tolist() for each in scores] == [
        pytest.approx([4 * half, 2 * half]),
        pytest.approx([2 * half, half]),
    ]


def test_a_language_model_that_remembers_is_asked_once() -> None:
    asked: list[Sequence[Sequence[str]]] = []

    def scorer(sentences: Sequence[Sequence[str]]) -> list[NDArray[np.float64]]:
        asked.append(sentences)
        return by_length(sentences)

    remembers = remembering(scorer)
    for sentences in ([["a"], ["bb", "c"], ["a"]], [["bb", "c"], []]):
        found = remembers(sentences)
        assert [each.tolist() for each in found] == [each.tolist() for each in by_length(sentences)]
    assert asked == [[("a",), ("bb", "c")], [()]]


@pytest.mark.parametrize(("wanted", "asked"), [(1, 3), (2, 3), (3, 3), (5, 5)])
def test_so_many_are_ranked_and_so_many_are_given(wanted: int, asked: int) -> None:
    prepared = Prepared([hypothesis("a" * (6 - rank), -0.1 * rank) for rank in range(6)])
    decoder = RescoringDecoder(prepared, by_length, Weights(1.0), nbest=3)
    first, second = decoder.decode(*NOTHING, nbest=wanted, beam_width=7)
    assert prepared.options == [{"nbest": asked, "beam_width": 7 * WIDER}]
    assert first == second
    # The shorter the likelier, and the sixth is never seen.
    assert [each.text for each in listed(first)] == ["a" * n for n in range(7 - asked, 7 - asked + wanted)]


def test_under_a_grammar_nothing_is_rescored() -> None:
    prepared = Prepared([hypothesis("aa", -1.0), hypothesis("a", -1.1)])
    grammar: Any = object()
    decoder = RescoringDecoder(prepared, by_length, Weights(1.0), nbest=2)
    assert decoder.decode(*NOTHING, grammar=grammar)[0] == hypothesis("aa", -1.0)
    assert prepared.options == [{"grammar": grammar}]


def test_nothing_heard_stays_nothing() -> None:
    silence = Hypothesis("", (), (), (), -math.inf, 0.0, -math.inf)
    best = RescoringDecoder(Prepared([silence]), by_length, Weights(1.0), nbest=5).decode(*NOTHING)[0]
    assert (best.text, best.score, best.alternatives) == ("", -math.inf, ())


# ----------------------------------------------------------------------------------------- with a real search

TOKENS = ("", " sea", " see", " the", " i")
SAID = ("see see the sea", "i see the sea")  # as one hears it, and as it was
ARPA = """\\data\\
ngram 1=7
ngram 2=4

\\1-grams:
-2\t<unk>
-99\t<s>\t-0.5
-1\t</s>
-1\tsea\t-0.5
-1\tsee\t-0.5
-1\tthe\t-0.5
-1\ti\t-0.5

\\2-grams:
-0.1\t<s> i
-0.1\ti see
-0.1\tsee the
-0.1\tthe sea

\\end\\
"""


@pytest.fixture
def arpa(tmp_path: Path) -> Path:
    path = tmp_path / "sea.arpa"
    path.write_text(ARPA)
    return path


@pytest.fixture
def heard() -> NDArray[np.float32]:
    """(1, frames, vocab): between the words “i see the sea” others are heard as well, some of them more."""
    shares = ({" i": 0.4, " see": 0.6}, {" see": 0.55, " sea": 0.45}, {" the": 1.0}, {" sea": 0.6, " see": 0.4})
    frames = []
    for share in shares:
        frames.append([share.get(token, 1e-4) for token in TOKENS])
        frames.append([1.0] + [1e-4] * 4)
    probabilities = np.array(frames)
    return np.log(probabilities / probabilities.sum(axis=1, keepdims=True)).astype(np.float32)[None]


def test_a_language_model_mends_what_was_misheard(arpa: Path, heard: NDArray[np.float32]) -> None:
    settings = DecoderSettings(rescore=arpa, gamma=1.0, nbest_rescored=8, first_pass=1.0)
    plain = Decoder(TOKENS)
    rescoring = build.decoder(TOKENS, Normalizer(), settings)
    assert isinstance(rescoring, RescoringDecoder)
    assert plain.decode(heard, [8])[0].text == SAID[0]
    (best,) = rescoring.decode(torch.tensor(heard), torch.tensor([8]), nbest=8)
    assert best.text == SAID[1]
    # All that can have been said, by brute force: the search and the ARPA file by hand.
    by_hand = {
        f"{one} {two} the {three}": mass + second_pass(f"<s> {one} {two} the {three} </s>".split())
        for (one, p), (two, q), (three, r) in product(
            (("i", 0.4), ("see", 0.6)), (("see", 0.55), ("sea", 0.45)), (("sea", 0.6), ("see", 0.4))
        )
        for mass in [math.log(p * q * r)]
    }
    ranked = sorted(by_hand, key=lambda text: -by_hand[text])
    assert [each.text for each in listed(best)] == ranked
    assert [each.score for each in listed(best)] == pytest.approx([by_hand[text] for text in ranked], abs=0.02)


def second_pass(words: Sequence[str]) -> float:
    """The bigram model above: a bigram's probability, or back-off weight and unigram's."""
    known = [("<s>", "i"), ("i", "see"), ("see", "the"), ("the", "sea")]
    return math.log(10) * sum(-0.1 if pair in known else -1.5 for pair in pairwise(words))


def test_a_neural_language_model_rescores_as_well(tmp_path: Path) -> None:
    torch.manual_seed(1)
    known = units.count_words(["i see the sea", "i see"])
    model = NeuralLm(known, LanguageNetwork(Architecture(len(known.symbols), embedding=4, hidden=5)))
    path = tmp_path / "sea.safetensors"
    neural.save(model, path)
    sentences = [["i", "see"], [], ["sea", "the", "whale"]]
    found = build.scorer(DecoderSettings(rescore=path), list("aeehistw"))(sentences)
    for scores, expected in zip(found, model.log_probs(sentences), strict=True):
        assert scores == pytest.approx(expected)
    renamed = path.rename(tmp_path / "sea.bin")  # what a file holds counts, not what it is called
    settings = DecoderSettings(rescore=renamed)
    assert build.scorer(settings, list("aeehistw"))(sentences)[0] == pytest.approx(model.log_probs(sentences)[0])
    assert artefact.rescoring_name(settings) == artefact.NEURAL_RESCORING
    artefact.save_decoder(tmp_path, settings)
    kept = artefact.read_decoder(tmp_path)
    assert kept is not None and kept.rescore == tmp_path / artefact.NEURAL_RESCORING
    assert neural.load(kept.rescore).log_probs(sentences)[0] == pytest.approx(model.log_probs(sentences)[0])
    with pytest.raises(DataError, match=r"gone\.safetensors.*no such file"):
        build.scorer(DecoderSettings(rescore=tmp_path / "gone.safetensors"), list("aeehistw"))


@pytest.mark.parametrize("unknown", ["", "-99\t<unk>\n"])
def test_unknown_words_are_as_rare_as_the_rarest_where_a_model_holds_them_for_impossible(
    unknown: str, tmp_path: Path
) -> None:
    path = tmp_path / "sea.arpa"
    arpa = ARPA.replace("-2\t<unk>\n", unknown).replace("1=7", f"1={7 if unknown else 6}")
    path.write_text(arpa.replace("-1\tthe", "-1.5\tthe"))
    (found,) = build.scorer(DecoderSettings(rescore=path), TOKENS)([["i", "whale", "sea"]])
    # <s> i, then “whale” after i's weight, and both others without any, as no n-gram goes on from it.
    assert found / math.log(10) == pytest.approx([-0.1, -0.5 - 1.5, -1.0, -0.5 - 1.0], abs=1e-6)


@pytest.mark.parametrize("tokens", ["a▁", "你好"])
def test_an_ngram_model_of_tokens_rescores_no_words(tokens: str, tmp_path: Path) -> None:
    path = tmp_path / "tokens.arpa"
    unigrams = "-99\t<s>\n-0.5\t</s>\n-0.5\t{}\n-0.5\t{}\n".format(*tokens)
    path.write_text(f"\\data\\\nngram 1=4\n\n\\1-grams:\n{unigrams}\n\\end\\\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"an n-gram model of tokens.*\n.*one of words"):
        build.scorer(DecoderSettings(rescore=path), ["", *tokens.replace("▁", " "), " "])


def test_settings_say_whether_anything_is_rescored(arpa: Path) -> None:
    assert isinstance(build.decoder(TOKENS, Normalizer(), DecoderSettings()), Decoder)
    alone = DecoderSettings(rescore=arpa, nbest_rescored=1)
    assert isinstance(build.decoder(TOKENS, Normalizer(), alone), Decoder)


def test_a_missing_language_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.arpa.*no such file"):
        build.decoder(TOKENS, Normalizer(), DecoderSettings(rescore=tmp_path / "gone.arpa"))


def test_what_makes_no_sense_is_refused(arpa: Path) -> None:
    with pytest.raises(ConfigError, match="nbest_rescored"):
        choose(None, {"rescore": arpa, "nbest_rescored": 0})
    with pytest.raises(ConfigError, match="rescore"):
        choose(None, {"decoder": "greedy", "rescore": arpa})


@pytest.mark.parametrize("decoder", ["Beam", "gredy", "", True])
def test_there_is_no_other_decoder(decoder: Any) -> None:
    with pytest.raises(ConfigError, match=r"decoder: .*\n  expected: greedy, beam"):
        choose(None, {"decoder": decoder})


@pytest.mark.parametrize(
    ("choice", "told"),
    [
        ({"alpha": 2.0}, r"alpha .*without a language model\n.*lm=FILE"),
        ({"beta": 0.0}, r"beta .*without a language model\n.*lm=FILE"),
        ({"nbest_rescored": 9}, r"nbest_rescored .*without a language model that rescores\n.*rescore=FILE"),
    ],
)
def test_nothing_is_weighed_without_a_language_model(choice: Any, told: str, arpa: Path) -> None:
    for own in (None, DecoderSettings()):
        with pytest.raises(ConfigError, match=told):
            choose(own, choice)
    tuned = DecoderSettings(lm=arpa, rescore=arpa)
    assert choose(tuned, choice) == tuned.model_copy(update=choice)
