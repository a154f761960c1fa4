"""Tuning: it counts errors as they are, finds a known optimum, and is the same each time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import pytest
import torch
from torch import Tensor

from asr import audio, build, tuning
from asr.data.manifest import Utterance
from asr.decoder_settings import DecoderSettings
from asr.decoding.types import BatchDecoder, Hypothesis, Options
from asr.evaluation import wer
from asr.recognizer import Recognizer
from asr.tuning import BEAM_WIDTHS, LISTS, Evidence, Trial, Tuned

TOKENS = ("", " a", " b", " c")
ARPA = """\\data\\
ngram 1=5
ngram 2=3

\\1-grams:
-99\t<s>\t-0.3
-0.7\t</s>
-0.7\ta\t-0.3
-0.7\tb\t-0.3
-0.7\tc\t-0.3

\\2-grams:
-0.05\t<s> a
-0.05\ta b
-0.05\tb </s>

\\end\\
"""


def heard(*words: tuple[str, float]) -> Tensor:
    """Log-probabilities (frames, vocab): each word, or the next one in the alphabet, and a blank behind it."""
    frames = []
    for word, probability in words:
        index = "abc".index(word)
        row = np.full(4, 1e-4)
        row[1 + index], row[1 + (index + 1) % 3] = probability, 1 - probability
        frames += [row, np.array([1, 1e-4, 1e-4, 1e-4])]
    probabilities = np.array(frames)
    return torch.tensor(np.log(probabilities / probabilities.sum(axis=1, keepdims=True)), dtype=torch.float32)


def evidence(*utterances: tuple[str, list[Tensor]]) -> Evidence:
    stretches = [stretch for _, parts in utterances for stretch in parts]
    batches = [
        (torch.nn.utils.rnn.pad_sequence(stretches, batch_first=True), torch.tensor([len(s) for s in stretches]))
    ]
    return Evidence(batches, [len(parts) for _, parts in utterances], [text for text, _ in utterances])


@pytest.fixture
def recognizer() -> Any:
    """What tuning needs of one."""

    class Tokenizer:
        surfaces = TOKENS

    class Fake:
        model = type("Model", (), {"tokenizer": Tokenizer})
        normalizer = staticmethod(str)

    return Fake


# ------------------------------------------------------------------------------------------------ evidence


class Repeater:
    """Hears in each stretch as many words as it has frames."""

    def decode(self, log_probs: Tensor, lengths: Tensor, **options: Unpack[Options]) -> list[Hypothesis]:
        texts = [" ".join(["a"] * int(length)) for length in lengths]
        return [Hypothesis(text, (), (), (), 0.0, 1.0, 0.0) for text in texts]


def test_errors_are_counted_over_whole_recordings() -> None:
    def frames(count: int) -> Tensor:
        return torch.zeros(count, 4)

    found = tuning.measure(
        evidence(("a a a", [frames(1), frames(0), frames(2)]), ("a b", [frames(2)]), ("a", [frames(0)])), Repeater()
    )
    assert (found.utterances, found.words) == (3, 6)
    assert (found.substitutions, found.deletions, found.insertions) == (1, 1, 0)


def test_listening_keeps_text_and_sound_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "STRETCHES_AT_ONCE", 2)
    utterances = []
    for index, samples in enumerate((3000, 1000, 100, 2000, 4000)):
        path = tmp_path / f"{index}.wav"
        audio.save(path, np.zeros(samples, np.float32), 8000)
        utterances.append(Utterance(path, samples / 8000, f" A {samples}"))

    class Fake:
        normalizer = staticmethod(lambda text: text.strip().lower())

        @staticmethod
        def outputs(sources: list[Path], batch_size: int) -> Iterator[list[Tensor]]:
            for source in sources:
                frames = int(audio.read_header(source).duration * 8)
                yield [torch.full((1, 2), frames), torch.full((frames, 2), frames)]

    done: list[int] = []
    found = tuning.listen(Fake, utterances, progress=done.append)  # type: ignore[arg-type]
    assert found.references == ["a 100", "a 1000", "a 2000", "a 3000", "a 4000"]  # short ones first
    assert found.counts == [2] * 5
    rows = [
        log_probs[: int(n)] for batch, lengths in found.batches for log_probs, n in zip(batch, lengths, strict=True)
    ]
    assert [len(row) for row in rows] == [1, 0, 1, 1, 1, 2, 1, 3, 1, 4]
    assert [float(row[0, 0]) for row in rows[::2]] == [0, 1, 2, 3, 4]
    assert done == [1, 2, 3, 4, 5]


# -------------------------------------------------------------------------------------------------- search


def bowl(center: dict[str, float]) -> Callable[[DecoderSettings], Trial]:
    """Trials whose errors grow with the distance from a point, in shares of the ranges."""

    def attempt(settings: DecoderSettings) -> Trial:
        shares = [
            (getattr(settings, name) - value) / (tuning.RANGES[name][1] - tuning.RANGES[name][0])
            for name, value in center.items()
        ]
        errors = round(10_000 * float(np.hypot.reduce(shares)))
        return Trial(settings, wer.Score(1, 10_000, 1, errors, 0, 0, errors / 10_000, 0.0, 0.0, 1.0, 1.0))

    return attempt


@pytest.mark.parametrize(
    ("center", "near"),
    [
        ({"alpha": 1.3, "beta": 0.7}, 0.04),  # 80 random points of a square are 0.06 off on the average
        ({"alpha": 0.0, "beta": 6.0}, 0.04),
        ({"alpha": 2.2, "beta": -1.0, "unknown": -3.0}, 0.07),  # of a cube, 0.13
        ({"alpha": 3.4, "beta": 2.0, "unknown": -22.0}, 0.16),  # outside of the ranges, by 0.17
    ],
)
@pytest.mark.parametrize("seed", [0, 1])
def test_the_search_comes_close_to_a_known_optimum(center: dict[str, float], near: float, seed: int) -> None:
    attempt = bowl(center)
    best = tuning._best_weights(attempt, attempt(DecoderSettings()), tuple(center), 80, np.random.default_rng(seed))
    assert best.score.wer < near


def test_of_equal_errors_the_more_usual_weights_win() -> None:
    score = wer.Score(1, 10, 40, 1, 0, 0, 0.1, 0.05, 0.0, 1.0, 1.0)
    usual = DecoderSettings()
    trials = [
        Trial(DecoderSettings(alpha=0.0), score),
        Trial(DecoderSettings(alpha=usual.alpha + 0.3, beta=usual.beta - 0.1), replace(score, cer=0.06)),
        Trial(DecoderSettings(beta=usual.beta + 2), score),
        Trial(usual, replace(score, substitutions=2)),
    ]
    assert min(trials, key=lambda trial: trial.rank) is trials[1]


@pytest.mark.parametrize("dimensions", [1, 2, 3])
def test_points_are_spread_evenly(dimensions: int) -> None:
    points = tuning._evenly(64, dimensions, np.random.default_rng(5))
    assert points.shape == (64, dimensions)
    assert ((points >= 0) & (points < 1)).all()
    for axis in range(dimensions):
        # Random points would leave an eighth with 8 ± 2.6 of them, and the emptiest of eight with about four.
        counts = np.histogram(points[:, axis], bins=8, range=(0, 1))[0]
        assert counts.min() >= 5
        assert counts.max() <= 11


# -------------------------------------------------------------------------------------------------- tuning

HARD = evidence(
    *(("a b", [heard(("a", 0.9), ("b", probability))]) for probability in (0.3, 0.4, 0.6)),
    ("a b a b", [heard(("a", 0.4), ("b", 0.9)), heard(("a", 0.9), ("b", 0.45))]),
    ("c", [heard(("c", 0.999))]),
)
"""Half of the words sound rather like the next one; the language model knows better, but has never heard of c."""


def tune(recognizer: Recognizer, arpa: Path | None, **more: Any) -> tuple[Tuned, list[Trial]]:
    trials: list[Trial] = []
    settings = DecoderSettings(lm=arpa, alpha=0.01, beta=0.0)
    return tuning.tune(recognizer, HARD, settings, trials=20, on_trial=trials.append, **more), trials


@pytest.fixture
def arpa(tmp_path: Path) -> Path:
    path = tmp_path / "ab.arpa"
    path.write_text(ARPA)
    return path


def test_tuning_finds_weights_that_make_no_errors(recognizer: Any, arpa: Path) -> None:
    tuned, trials = tune(recognizer, arpa)
    assert tuned.baseline.errors == 4  # the words below 0.5
    assert tuned.untuned.errors == 4
    assert tuned.best.score.errors == 0
    assert tuned.best.settings.lm == arpa
    assert tuned.best.settings.beam_width == BEAM_WIDTHS[0]  # which is enough for three words
    assert [trial.settings.beam_width for trial in trials] == [32] * 20 + list(BEAM_WIDTHS)
    assert list(tuned.candidates) == trials[20:]


def test_tuning_is_the_same_each_time(recognizer: Any, arpa: Path) -> None:
    first, trials = tune(recognizer, arpa, seed=3, threads=1)
    second, again = tune(recognizer, arpa, seed=3, threads=2)
    assert (first, trials) == (second, again)
    _, others = tune(recognizer, arpa, seed=4)
    assert [trial.settings for trial in others] != [trial.settings for trial in trials]


def test_a_lexicon_leaves_unknown_words_out_of_it(recognizer: Any, arpa: Path, tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("a\nb\nc\n")
    settings = DecoderSettings(lm=arpa, lexicon=tmp_path / "words.txt")
    trials: list[Trial] = []
    tuning.tune(recognizer, HARD, settings, trials=10, on_trial=trials.append)
    assert {trial.settings.unknown for trial in trials} == {DecoderSettings().unknown}
    assert len({trial.settings.alpha for trial in trials}) > 5


def test_without_a_language_model_only_the_beam_is_tuned(recognizer: Any) -> None:
    tuned, trials = tune(recognizer, None)
    assert [trial.settings.beam_width for trial in trials] == [32, *BEAM_WIDTHS]
    assert tuned.best.settings.beam_width == BEAM_WIDTHS[0]
    assert tuned.best.score.errors == tuned.baseline.errors


def test_nobody_waits_for_times_that_nobody_reads(
    recognizer: Any, arpa: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Options] = []

    def measure(evidence: Evidence, decoder: BatchDecoder, **options: Unpack[Options]) -> wer.Score:
        asked.append(options)
        return measured(evidence, decoder, **options)

    measured = tuning.measure
    monkeypatch.setattr(tuning, "measure", measure)
    tune(recognizer, arpa)
    assert len(asked) == 20 + len(BEAM_WIDTHS) + 1  # the last of greedy decoding
    assert all(options.get("timestamps") is False for options in asked)


def test_the_narrowest_beam_that_is_as_good_is_kept(recognizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    errors = {8: 30, 16: 12, 32: 11, 64: 10, 128: 10}  # of 1000 words

    def measure(evidence: Evidence, decoder: object, beam_width: int = 0, **options: object) -> wer.Score:
        count = errors.get(beam_width, 50)
        return wer.Score(1, 10_000, 1, count, 0, 0, count / 10_000, 0.0, 0.0, 1.0, 1.0)

    monkeypatch.setattr(tuning, "measure", measure)
    tuned, _ = tune(recognizer, None)
    assert tuned.best.settings.beam_width == 16  # 0.02 % worse than the best; 8 is 0.2 % worse


# ----------------------------------------------------------------------------------------------- rescoring


def tune_rescoring(recognizer: Any, arpa: Path, **more: Any) -> tuple[Tuned, list[Trial]]:
    trials: list[Trial] = []
    settings = DecoderSettings(rescore=arpa, gamma=0.01)
    return tuning.tune_rescoring(recognizer, HARD, settings, trials=30, on_trial=trials.append, **more), trials


def test_tuning_finds_weights_of_a_rescoring_that_make_no_errors(recognizer: Any, arpa: Path) -> None:
    tuned, trials = tune_rescoring(recognizer, arpa)
    assert tuned.baseline.errors == tuned.untuned.errors == 4  # the words below 0.5
    assert tuned.best.score.errors == 0
    assert tuned.best.settings.rescore == arpa
    assert tuned.best.settings.nbest_rescored == LISTS[0]  # of the few texts that there are
    assert [trial.settings.nbest_rescored for trial in trials] == [LISTS[-1]] * 30 + list(LISTS)
    assert tuple(tuned.candidates) == tuple(trials[30:])
    assert {trial.settings.first_pass for trial in trials} == {DecoderSettings().first_pass}  # nothing to keep
    decoder = build.decoder(TOKENS, str, tuned.best.settings)  # type: ignore[arg-type]
    assert tuning.measure(HARD, decoder).errors == 0


def test_what_stays_of_the_first_language_model_is_tuned_too(recognizer: Any, arpa: Path) -> None:
    settings = DecoderSettings(lm=arpa, alpha=0.01, beta=0.0, rescore=arpa)
    trials: list[Trial] = []
    tuning.tune_rescoring(recognizer, HARD, settings, trials=10, on_trial=trials.append)
    assert len({trial.settings.first_pass for trial in trials}) > 5
    assert all(trial.settings.first_pass >= 0 for trial in trials)


def test_tuning_a_rescoring_is_the_same_each_time(recognizer: Any, arpa: Path) -> None:
    assert tune_rescoring(recognizer, arpa, threads=1) == tune_rescoring(recognizer, arpa, threads=2)
    assert tune_rescoring(recognizer, arpa) != tune_rescoring(recognizer, arpa, seed=1)


def test_the_fewest_hypotheses_that_are_as_good_are_kept() -> None:
    errors = {5: 30, 10: 12, 20: 11, 50: 10, 100: 10}  # of 10,000 words
    scores = {
        count: wer.Score(1, 10_000, 1, count, 0, 0, count / 10_000, 0.0, 0.0, 1.0, 1.0)
        for count in (*errors.values(), 50)
    }
    trials = [Trial(DecoderSettings(nbest_rescored=number), scores[count]) for number, count in errors.items()]
    assert tuning._least(trials, scores[50]).settings.nbest_rescored == 10
    assert tuning._least(trials, scores[12]).settings.nbest_rescored == 20  # 10 would be no better than before
    assert tuning._least(trials, scores[10]).settings.nbest_rescored == 10  # nor would any other
