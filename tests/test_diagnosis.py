"""Each fault of a training is found, in made-up curves and in trainings that have it; good ones have none."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
from recorder import Recorder
from tones import SETTINGS, write_recipe

from asr import pipeline, stages
from asr.data.batching import Sample
from asr.data.loading import Batch, Reader
from asr.data.manifest import Utterance, write_manifest
from asr.recipe_file import read_recipe
from asr.reporting import Silent
from asr.training import log, loop
from asr.training.diagnosis import Finding, NewFindings, diagnose

Log = list[dict[str, Any]]

COLUMNS = (
    "step",
    "learning_rate",
    "train_loss",
    "dev_loss",
    "dev_wer",
    "dev_cer",
    "gradient_norm",
    "seconds",
    "seconds_waiting_for_data",
)
QUICKSTART = (
    (142, 0.002999, 4.654, 2.916, 0.7035, 0.6188, 6.163, 15.6, 0.9854),
    (285, 0.002955, 2.077, 1.309, 0.3937, 0.3706, 2.483, 17.68, 0.7126),
    (427, 0.00285, 1.236, 0.7398, 0.2112, 0.1844, 1.958, 102.0, 4.426),
    (570, 0.002688, 0.8572, 0.4847, 0.149, 0.128, 1.789, 190.1, 8.506),
    (712, 0.002476, 0.6072, 0.3364, 0.09441, 0.07769, 1.501, 60.1, 2.333),
    (854, 0.002224, 0.4731, 0.2548, 0.07483, 0.06097, 1.436, 78.66, 2.628),
    (997, 0.001941, 0.3862, 0.1909, 0.06294, 0.05399, 1.305, 66.74, 2.11),
    (1139, 0.00164, 0.3186, 0.1601, 0.04825, 0.03924, 1.184, 81.37, 3.115),
    (1281, 0.001333, 0.2373, 0.1169, 0.03636, 0.0291, 1.036, 56.96, 1.841),
    (1424, 0.001035, 0.1954, 0.0949, 0.03147, 0.02541, 0.9212, 48.67, 2.585),
    (1567, 0.0007567, 0.1684, 0.09336, 0.03007, 0.02397, 0.931, 56.7, 2.267),
    (1709, 0.0005108, 0.1419, 0.08036, 0.02797, 0.02278, 0.8155, 55.08, 1.949),
    (1852, 0.0003077, 0.1233, 0.06844, 0.02098, 0.01607, 0.752, 61.52, 2.546),
    (1995, 0.0001559, 0.1054, 0.06914, 0.02238, 0.01712, 0.694, 55.95, 1.895),
    (2138, 6.205e-05, 0.09256, 0.0694, 0.02238, 0.01765, 0.6351, 71.65, 2.286),
    (2280, 3e-05, 0.08527, 0.06838, 0.02238, 0.01712, 0.6056, 174.7, 7.107),
)
"""The log of a run of the recipe quickstart, on two busy cores; test WER 2.1 %."""


def good() -> Log:
    layers = {
        "frontend": {"gradient": 1e-2, "update_ratio": 3e-3},
        "head": {"gradient": 5e-2, "update_ratio": 1e-3},
    }
    return [
        {
            "epoch": epoch,
            **dict(zip(COLUMNS, row, strict=True)),
            "layers": {**layers, "relu": {"dead": 0.1}},
            "dev_blank_share": 0.9,
            "dev_empty_share": 0.0,
            "skipped_steps": 0.0,
            "infinite": [],
            "dev_infinite": [],
        }
        for epoch, row in enumerate(QUICKSTART, start=1)
    ]


def changed(**columns: Sequence[Any]) -> Log:
    """The good log's first epochs, with other figures."""
    length = len(next(iter(columns.values())))
    return [
        entry | {name: values[index] for name, values in columns.items()}
        for index, entry in enumerate(good()[:length])
    ]


def with_layers(name: str, **figures: float) -> Log:
    return [entry | {"layers": entry["layers"] | {name: figures}} for entry in good()]


def kinds(entries: Log, finished: bool = True) -> list[str]:
    return [finding.kind for finding in diagnose(entries, finished)]


def only(entries: Log, finished: bool = True) -> Finding:
    (finding,) = diagnose(entries, finished)
    return finding


# -------------------------------------------------------------------------------------------- good trainings


def test_a_good_training_has_no_findings_at_any_time() -> None:
    assert kinds(good()) == []
    for epochs in range(len(QUICKSTART) + 1):
        assert kinds(good()[:epochs], finished=False) == []


def test_old_logs_without_layers_and_blanks_are_read() -> None:
    entries = [{key: entry[key] for key in ("epoch", *COLUMNS)} for entry in good()]
    assert kinds(entries) == []


def test_the_log_of_a_language_model_is_read() -> None:
    entries = [
        {
            "epoch": epoch,
            "step": 10 * epoch,
            "train_loss": 6 - 0.3 * epoch,
            "dev_perplexity": math.exp(6 - 0.25 * epoch),
        }
        for epoch in range(1, 11)
    ]
    assert kinds(entries) == []
    for entry in entries[4:]:
        entry["dev_perplexity"] = math.exp(4 + 0.2 * entry["epoch"])
    assert kinds(entries, finished=False) == ["over-fitting"]
    entries[1]["train_loss"] = 9.0  # a jump that is overcome, and hides nothing
    assert kinds(entries, finished=False) == ["over-fitting", "learning rate too high"]
    assert [finding.severity for finding in diagnose(entries, finished=False)] == ["warning", "note"]
    entries[-1]["train_loss"] = 8.0
    assert only(entries[:2], finished=False).severity == "serious"


def test_a_language_model_that_learns_nothing_is_not_said_to_be_well() -> None:
    timid = {"recurrent": {"gradient": 1.0, "update_ratio": 1e-8}}
    entries = [
        {
            "epoch": epoch,
            "step": 10 * epoch,
            "train_loss": 4.7,
            "units": 9.0,
            "dev_perplexity": 109.0,
            "layers": timid,
        }
        for epoch in range(1, 4)
    ]
    finding = only(entries)
    assert (finding.kind, finding.advice) == ("learning rate too low", "--learning-rate ten times as large")


def test_advice_names_the_settings_of_what_is_trained() -> None:
    brutal = {"layers": {"frontend": {"gradient": 1.0, "update_ratio": 5.1}}}
    for figures, named in (
        ({"train_loss": 9.0}, "training.learning_rate"),
        ({"train_restoration": 9.0}, "pretrain.learning_rate"),
        ({"train_loss": 9.0, "units": 9.0}, "--learning-rate"),
    ):
        found = diagnose([{"epoch": 1, "step": 8, "gradient_norm": 500.0, **brutal, **figures}], finished=False)
        assert [finding.kind for finding in found] == ["learning rate too high", "exploding gradient"]
        assert all(named in finding.advice for finding in found), found


def test_loss_that_rises_a_little_where_spec_augment_sets_in_is_no_fault() -> None:
    assert kinds(changed(train_loss=[2.0, 0.9, 0.3, 0.6, 0.4, 0.3, 0.2])) == []


# ------------------------------------------------------------------------------------------- made-up curves


def test_over_fitting() -> None:
    losses = {"train_loss": [2.0, 1.0, 0.5, 0.3, 0.2, 0.1], "dev_loss": [2.0, 1.2, 0.9, 1.0, 1.1, 1.3]}
    finding = only(changed(**losses, dev_wer=[0.9, 0.6, 0.4, 0.4, 0.41, 0.42]))
    assert finding.kind == "over-fitting"
    assert "epoch 3 (0.900)" in finding.seen
    assert "1.300 in epoch 6" in finding.seen
    assert "from 0.500 to 0.100" in finding.seen


def test_a_rising_dev_loss_is_no_over_fitting_while_errors_become_fewer() -> None:
    losses = {"train_loss": [2.0, 1.0, 0.5, 0.4, 0.35], "dev_loss": [2.0, 0.40, 0.42, 0.43, 0.45]}
    assert kinds(changed(**losses, dev_wer=[0.9, 0.20, 0.15, 0.12, 0.09]), finished=False) == []


def test_where_all_steps_were_skipped_there_is_no_training_loss_to_compare_with() -> None:
    losses = {"train_loss": [3.0, 1.0, 0.5, 0.0, 0.0], "dev_loss": [3.0, 1.0, 2.0, 2.0, 2.0]}
    assert "over-fitting" not in kinds(changed(**losses, dev_wer=[0.9, 0.5, 0.4, 0.4, 0.4]))


def test_where_all_is_learnt_there_is_no_over_fitting() -> None:
    losses = {"train_loss": [2.0, 0.5, 1e-2, 1e-3, 1e-4, 1e-5], "dev_loss": [2.0, 0.4, 2e-4, 3e-4, 4e-4, 4e-4]}
    assert kinds(changed(**losses, dev_wer=[0.9, 0.2, 0.0, 0.0, 0.0, 0.0])) == []


def test_a_dev_loss_that_has_just_risen_or_rises_with_that_of_training_is_no_over_fitting() -> None:
    wer = [0.9, 0.6, 0.4, 0.4, 0.41, 0.42]
    falling = [2.0, 1.0, 0.5, 0.4, 0.35, 0.3]
    for dev, fault in (
        ([2.0, 1.2, 0.9, 1.0, 1.1, 1.3], ["over-fitting"]),
        ([2.0, 1.2, 1.0, 0.9, 1.1, 1.3], []),  # two epochs ago
        ([2.0, 1.2, 0.9, 0.95, 0.95, 0.98], []),  # by less than a tenth
    ):
        assert kinds(changed(train_loss=falling, dev_loss=dev, dev_wer=wer), finished=False) == fault
    rising = changed(
        train_loss=[2.0, 1.0, 0.5, 0.5, 0.55, 0.6], dev_loss=[2.0, 1.2, 0.9, 1.0, 1.1, 1.3], dev_wer=wer
    )
    assert kinds(rising, finished=False) == []


def test_a_gap_between_training_and_dev_is_over_fitting_where_errors_are_left() -> None:
    losses = {"train_loss": [2.0, 1.0, 0.3, 0.1, 0.05], "dev_loss": [2.0, 1.2, 0.9, 0.8, 0.8]}
    assert kinds(changed(**losses, dev_wer=[0.9, 0.5, 0.4, 0.4, 0.4])) == ["over-fitting"]
    assert kinds(changed(**losses, dev_wer=[0.9, 0.5, 0.1, 0.05, 0.01])) == []


def test_under_fitting_shows_at_the_end_only() -> None:
    falling = changed(train_loss=[3.0, 2.5, 2.1, 1.8], dev_loss=[3.0, 2.6, 2.2, 1.9])
    assert kinds(falling, finished=False) == []
    finding = only(falling)
    assert finding.kind == "under-fitting"
    assert "after 4 epochs the training loss is still 1.80" in finding.seen
    assert finding.advice.startswith("more training.epochs")
    flat = changed(train_loss=[3.0, 1.82, 1.81, 1.8], dev_loss=[3.0, 2.6, 2.2, 1.9])
    assert only(flat).advice.startswith("a larger model")
    spent = changed(
        train_loss=[3.0, 1.82, 1.81, 1.8], dev_loss=[3.0, 2.6, 2.2, 1.9], learning_rate=[2e-3, 1e-3, 5e-4, 1e-4]
    )
    assert only(spent).advice.startswith("more training.epochs, as the learning rate has fallen")
    slowly = changed(train_loss=[3.0, 2.04, 1.96, 1.88], dev_loss=[3.0, 2.6, 2.2, 1.9])  # as a cosine ends
    assert only(slowly).advice.startswith("more training.epochs")


def test_little_data_is_neither_over_nor_under_fitting() -> None:
    """As in recipes/speechocean762: both losses are high, and far apart."""
    train = [2.7, 1.9, 1.7, 1.5, 1.35, 1.29, 1.25, 1.22]
    finding = only(changed(train_loss=train, dev_loss=[3.0, 2.0, 1.8, 1.6, 1.49, 1.47, 1.46, 1.46]))
    assert finding.kind == "little data"
    assert "after 8 epochs the training loss is still 1.22" in finding.seen
    assert "dev loss with 1.46" in finding.seen
    near = changed(train_loss=train, dev_loss=[3.0, 2.0, 1.8, 1.6, 1.4, 1.35, 1.3, 1.3])
    assert only(near).kind == "under-fitting"


def test_learning_rate_too_low() -> None:
    layers = {"frontend": {"gradient": 1.0, "update_ratio": 3e-5}, "head": {"gradient": 1.0, "update_ratio": 1e-5}}
    entries = changed(train_loss=[3.0, 2.9, 2.8, 2.7], dev_loss=[3.0, 2.9, 2.8, 2.7], layers=[layers] * 4)
    assert only(entries).kind == "learning rate too low"
    assert "2.0e-05" in only(entries).seen  # the middle between the two


def test_learning_rate_too_high_when_the_loss_jumps() -> None:
    finding = only(changed(train_loss=[3.0, 1.2, 4.1, 3.6]))
    assert (finding.kind, finding.severity) == ("learning rate too high", "serious")
    assert "from 1.20 in epoch 2 to 4.10 in epoch 3, and is 3.60 in epoch 4" in finding.seen
    recovered = only(changed(train_loss=[3.0, 1.2, 2.0, 0.9, 0.4]))
    assert (recovered.kind, recovered.severity) == ("learning rate too high", "note")


def test_learning_rate_too_high_when_the_loss_climbs_by_and_by() -> None:
    losses = {
        "train_loss": [3.0, 2.0, 1.5, 1.7, 2.0, 2.4, 2.9, 3.4],
        "dev_loss": [3.1, 2.2, 1.7, 1.9, 2.3, 2.7, 3.2, 3.8],
    }
    finding = only(changed(**losses))
    assert (finding.kind, finding.severity) == ("learning rate too high", "serious")
    assert "from 1.50 in epoch 3 to 2.40 in epoch 6, and is 3.40 in epoch 8" in finding.seen
    masked = [False, False, False, True, True, True, True, True]
    climbing = [1.0, 0.5, 0.3, 0.9, 1.0, 1.1, 1.2, 1.3]  # no more than half over what it is with masks
    assert "learning rate too high" not in kinds(changed(train_loss=climbing, masked=masked))


def test_a_loss_that_jumps_when_masks_set_in_says_nothing_of_the_learning_rate() -> None:
    losses = [3.0, 0.3, 0.9, 0.4]
    assert kinds(changed(train_loss=losses, masked=[False, False, True, True])) == []
    assert kinds(changed(train_loss=losses, masked=[False, True, True, True])) == ["learning rate too high"]
    assert kinds(changed(train_loss=losses)) == ["learning rate too high"]


def test_learning_rate_too_high_when_large_steps_lead_nowhere() -> None:
    layers = {"frontend": {"gradient": 1.0, "update_ratio": 0.05}}
    entries = changed(train_loss=[3.0, 2.8, 2.9, 2.8, 2.85], layers=[layers] * 5)
    assert kinds(entries) == ["learning rate too high"]
    learning = changed(train_loss=[3.0, 2.5, 2.0, 1.5, 1.0], layers=[layers] * 5)
    assert "learning rate too high" not in kinds(learning)


def test_learning_rate_too_high_when_the_first_steps_overthrow_the_weights() -> None:
    ratios = [{"frontend": {"gradient": 1.0, "update_ratio": ratio}} for ratio in (5.1, 0.01, 0.01)]
    finding = only(changed(train_loss=[198.0, 69.5, 20.7], layers=ratios), finished=False)
    assert (finding.kind, finding.severity) == ("learning rate too high", "serious")
    assert "in epoch 1 each step changed the weights by 510% of their size" in finding.seen


def test_a_violent_pretraining_has_no_transcripts_to_be_wrong_about() -> None:
    ratios = [{"frontend": {"gradient": 1.0, "update_ratio": ratio}} for ratio in (5.1, 0.01)]
    entries = changed(layers=ratios, train_restoration=[9.0, 1.0])
    for entry in entries:
        del entry["train_loss"]
    assert only(entries, finished=False).kind == "learning rate too high"


def test_an_epoch_of_skipped_steps_is_not_compared_with() -> None:
    entries = changed(
        train_loss=[0.0, 20.0, 5.0], gradient_norm=[0.0, 3.0, 2.0], step=[8, 16, 24], skipped_steps=[8.0, 0.0, 0.0]
    )
    assert kinds(entries, finished=False) == []
    violent = [{"frontend": {"gradient": 1.0, "update_ratio": 0.04}}] * 4
    learning = changed(train_loss=[0.0, 20.0, 5.0, 2.0], layers=violent, skipped_steps=[8.0, 0.0, 0.0, 0.0])
    assert "learning rate too high" not in kinds(learning, finished=False)


def test_blank_collapse() -> None:
    stuck = {"train_loss": [4.0, 3.0, 2.9, 2.9], "dev_loss": [4.0, 3.0, 2.9, 2.9]}
    finding = only(changed(**stuck, dev_empty_share=[1.0, 1.0, 0.95, 1.0], dev_blank_share=[1.0] * 4))
    assert (finding.kind, finding.severity) == ("blank collapse", "serious")
    assert "100% of the dev utterances have an empty hypothesis" in finding.seen
    # the blanks of a model of words that is well
    assert (
        kinds(changed(dev_blank_share=[0.97] * 8, dev_empty_share=[1.0, 1.0, 0.5, 0.1, 0.0, 0.0, 0.0, 0.0])) == []
    )


def test_a_collapse_that_may_end_by_itself_is_only_a_warning() -> None:
    entries = changed(train_loss=[9.0, 5.0, 4.0], dev_empty_share=[1.0] * 3, dev_blank_share=[1.0] * 3)
    assert only(entries, finished=False).severity == "warning"


def test_infinite_losses_are_named_and_counted() -> None:
    infinite = [[f"{name}.wav" for name in "abcde"], [], ["f.wav"]]
    finding = only(changed(infinite=infinite, dev_infinite=[["x.wav"]] * 3), finished=False)
    assert finding.kind == "infinite losses"
    assert "6 training and 1 dev utterances have" in finding.seen
    assert "a.wav, b.wav, c.wav and 4 more" in finding.seen
    seen = only(changed(infinite=[["a.wav"], [], []]), finished=False).seen
    assert seen == "1 training utterance has fewer frames than its labels need, and teaches nothing: a.wav"


def test_slow_loader() -> None:
    slow = changed(seconds=[100.0] * 4, seconds_waiting_for_data=[40.0] * 4)
    assert only(slow, finished=False).kind == "slow loader"
    assert "160 of 400 seconds (40%)" in only(slow, finished=False).seen
    assert kinds(changed(seconds=[1.0] * 4, seconds_waiting_for_data=[0.9] * 4), finished=False) == []  # so what


def test_a_loader_may_take_a_quarter_of_a_long_training() -> None:
    for waited, fault in ((24.0, []), (26.0, ["slow loader"])):
        entries = changed(seconds=[100.0] * 4, seconds_waiting_for_data=[waited] * 4)
        assert kinds(entries, finished=False) == fault


def test_exploding_gradient() -> None:
    finding = only(changed(gradient_norm=[2.0, 3.0, 2.0, 80.0]), finished=False)
    assert finding.kind == "exploding gradient"
    assert "in epoch 4" in finding.seen
    assert "40 times" in finding.seen
    assert kinds(changed(gradient_norm=[500.0, 3.0]), finished=False) == ["exploding gradient"]
    assert kinds(changed(gradient_norm=[0.01, 0.3]), finished=False) == []  # small anyway


def test_skipped_steps_are_an_explosion_unless_they_are_few() -> None:
    finding = only(changed(skipped_steps=[0.0, 100.0]), finished=False)
    assert (finding.kind, finding.severity) == ("exploding gradient", "serious")
    assert "100 of 285 steps" in finding.seen
    assert kinds(changed(skipped_steps=[2.0, 0.0]), finished=False) == []


def test_steps_that_are_skipped_until_the_scale_is_found_are_no_explosion() -> None:
    for skipped in (1.0, 16.0):  # of 65536 = 2 ** 16
        assert kinds(changed(step=[50, 100], skipped_steps=[skipped, 0.0]), finished=False) == []
    for skipped, fault in ((49.0, []), (51.0, ["exploding gradient"])):  # of a long one, a hundredth
        assert kinds(changed(step=[2500, 5000], skipped_steps=[skipped, 0.0]), finished=False) == fault
    stuck = changed(step=[8, 16, 24, 32], skipped_steps=[8.0] * 4)
    assert kinds(stuck[:2], finished=False) == []
    assert kinds(stuck[:3], finished=False) == ["exploding gradient"]
    nothing = [entry | {"train_loss": 0.0, "layers": {}} for entry in stuck[:2]]
    assert "16 of 16 steps had a gradient that is not finite" in only(nothing, finished=True).seen


def test_vanishing_gradient() -> None:
    finding = only(with_layers("encoder.0", gradient=1e-7, update_ratio=1e-3))
    assert finding.kind == "vanishing gradient"
    assert "encoder.0" in finding.seen
    assert "frontend" not in finding.seen


def test_dead_units() -> None:
    finding = only(with_layers("frontend.1", dead=0.62))
    assert finding.kind == "dead units"
    assert "62% of the channels of frontend.1" in finding.seen


@pytest.mark.parametrize(("shares", "fault"), [([0.6, 0.3, 0.1], []), ([0.1, 0.3, 0.6], ["dead units"])])
def test_units_are_dead_that_are_so_now(shares: list[float], fault: list[str]) -> None:
    layers = [entry["layers"] | {"relu": {"dead": share}} for entry, share in zip(good(), shares, strict=False)]
    assert kinds(changed(layers=layers), finished=False) == fault


@pytest.mark.parametrize(
    ("gradients", "fault"),
    [
        ([1e-8, 1e-8, 1e-8, 1e-8, 1e-2, 1e-2, 1e-2], []),  # it has come
        ([1e-2, 1e-2, 1e-2, 1e-2, 1e-8, 1e-8, 1e-8], ["vanishing gradient"]),
        ([1e-2, 1e-2, 1e-2, 1e-2, 1e-2, 1e-2, 1e-8], []),  # once says nothing
        ([1e-8, 1e-8], []),
    ],
)
def test_a_gradient_has_vanished_that_does_not_come_any_more(gradients: list[float], fault: list[str]) -> None:
    """Ones that are ten thousand times smaller than the largest, which is 0.05 here, in the last three epochs."""
    layers = [
        entry["layers"] | {"encoder": {"gradient": gradient, "update_ratio": 1e-3}}
        for entry, gradient in zip(good(), gradients, strict=False)
    ]
    assert kinds(changed(layers=layers), finished=False) == fault


def test_the_gravest_come_first() -> None:
    entries = changed(
        train_loss=[3.0, 1.2, 4.1, 3.6],
        infinite=[["a.wav"], [], [], []],
        seconds=[100.0] * 4,
        seconds_waiting_for_data=[90.0] * 4,
    )
    assert [finding.severity for finding in diagnose(entries, finished=True)] == ["serious", "warning", "note"]


def test_what_was_said_before_is_not_said_again() -> None:
    entries = changed(infinite=[["a.wav"], [], []], skipped_steps=[0.0, 0.0, 200.0])
    findings = NewFindings([])
    assert [finding.kind for finding in findings.since(entries[:1])] == ["infinite losses"]
    assert findings.since(entries[:2]) == []
    assert [finding.kind for finding in findings.since(entries)] == ["exploding gradient"]
    resumed = NewFindings(entries[:2])
    assert [finding.kind for finding in resumed.since(entries)] == ["exploding gradient"]


def test_what_comes_and_goes_is_said_once() -> None:
    dev = [2.0, 1.2, 0.9, 1.0, 1.1, 1.3, 0.95, 1.3]
    train, wer = [2.0, 1.0, 0.5, 0.3, 0.2, 0.15, 0.12, 0.1], [0.9, 0.2, *[0.05] * 6]
    entries = changed(train_loss=train, dev_loss=dev, dev_wer=wer)
    there = ["over-fitting" in kinds(entries[:count], finished=False) for count in range(1, 9)]
    assert there[5:] == [True, False, True]
    findings = NewFindings([])
    said = [finding.kind for count in range(1, 9) for finding in findings.since(entries[:count])]
    assert said == ["over-fitting"]
    assert NewFindings(entries[:7]).since(entries) == []


# ------------------------------------------------------------------------------------------- real trainings


@pytest.fixture(scope="module")
def tones(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recipe(tmp_path_factory.mktemp("tones"), train=24)


@pytest.fixture(scope="module")
def noise(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus of noise, in which no text can be heard."""
    folder = tmp_path_factory.mktemp("noise")
    path = write_recipe(folder, train=1)
    for name, count in (("train", 30), ("dev", 6)):
        write_manifest(folder / "corpus" / f"{name}.jsonl", list(_noises(folder / name, count)))
    return path


def _noises(folder: Path, count: int) -> Iterator[Utterance]:
    rng = np.random.default_rng(count)
    folder.mkdir()
    for index in range(count):
        path = folder / f"{index}.wav"
        soundfile.write(path, 0.1 * rng.standard_normal(8000), 8000)
        yield Utterance(path, 1.0, " ".join(rng.choice(list("abcdefgh"), size=2)))


def trained(path: Path, folder: Path, *settings: str, reporter: Silent | None = None) -> Log:
    recipe = read_recipe(path, [*SETTINGS, *settings])
    work = pipeline.workspace(recipe, folder, folder / "data", reporter or Silent())
    stages.prepare(work)
    stages.tokens(work)
    stages.train(work)
    assert (folder / "report.html").is_file()
    return log.read(work.training)


def test_a_real_training_that_is_well(tmp_path: Path) -> None:
    entries = trained(write_recipe(tmp_path), tmp_path / "run", "training.epochs=12")
    assert kinds(entries) == []


def test_a_real_learning_rate_that_is_too_high(tones: Path, tmp_path: Path) -> None:
    settings = ("training.learning_rate=0.5", "training.schedule=constant", "training.clip_norm=null")
    entries = trained(tones, tmp_path, "training.epochs=4", *settings)
    assert kinds(entries)[0] == "learning rate too high"


def test_a_real_learning_rate_that_spoils_the_first_epoch(tones: Path, tmp_path: Path) -> None:
    settings = ("training.learning_rate=1", "training.schedule=constant", "training.warmup=0")
    entries = trained(tones, tmp_path, "training.epochs=3", *settings)
    assert entries[0]["train_loss"] > entries[1]["train_loss"] > entries[2]["train_loss"]  # which shows nothing
    assert kinds(entries)[0] == "learning rate too high"


def test_real_over_fitting(tmp_path: Path) -> None:
    settings = ("training.epochs=24", "training.batch_seconds=3", "model.encoder.dropout=0")
    entries = trained(write_recipe(tmp_path, train=6), tmp_path / "run", *settings)
    assert kinds(entries) == ["over-fitting"]


def test_a_real_blank_collapse(noise: Path, tmp_path: Path) -> None:
    settings = ("training.learning_rate=0.1", "training.schedule=constant", "training.batch_seconds=2")
    reporter = Recorder()
    entries = trained(noise, tmp_path, "training.epochs=3", *settings, reporter=reporter)
    assert "blank collapse" in kinds(entries)
    told = [line for line in [*reporter.said, *reporter.warned] if "blank collapse" in line]
    assert len(told) == 1  # by the report alone, where it comes with the last epoch
    assert entries[-1]["dev_blank_share"] == entries[-1]["dev_empty_share"] == 1


def test_samples_drawn_anew_that_have_an_infinite_loss_are_counted_in_one_epoch() -> None:
    drawn = [[f"{name}{epoch}.wav + b.wav" for name in "acd"] for epoch in range(3)]
    finding = only(changed(infinite=drawn, infinite_losses=[3.0, 4.0, 3.0]), finished=False)
    assert finding.seen.startswith("in epoch 2, 4 training samples had fewer frames")
    assert "taught nothing: " in finding.seen
    dev = changed(infinite=drawn, infinite_losses=[3.0, 4.0, 3.0], dev_infinite=[["x.wav"]] * 3)
    assert "4 training samples and 1 of dev had" in only(dev, finished=False).seen


def test_real_infinite_losses(tones: Path, tmp_path: Path) -> None:
    settings = ("tokens.kind=characters", "model.frontend={channels: [8, 8], strides: [4, 2]}", "training.epochs=2")
    entries = trained(tones, tmp_path, *settings)
    (finding,) = (finding for finding in diagnose(entries, finished=True) if finding.kind == "infinite losses")
    assert entries[0]["infinite"]
    assert entries[1]["infinite"] == []  # they are the same
    assert len(entries[0]["infinite"]) == entries[0]["infinite_losses"] == entries[1]["infinite_losses"]
    assert entries[0]["infinite"][0] in finding.seen
    assert all(name.endswith(".wav") for name in entries[0]["infinite"])
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert all(name in page for name in [*entries[0]["infinite"], *entries[0]["dev_infinite"]])


def test_real_under_fitting(tones: Path, tmp_path: Path) -> None:
    entries = trained(tones, tmp_path, "training.epochs=3", "training.learning_rate=3e-4")
    assert kinds(entries) == ["under-fitting"]


def test_a_real_learning_rate_that_is_too_low(tones: Path, tmp_path: Path) -> None:
    entries = trained(tones, tmp_path, "training.epochs=3", "training.learning_rate=1e-6")
    assert kinds(entries) == ["learning rate too low"]


def test_real_dead_units(tones: Path, tmp_path: Path) -> None:
    # So deep that some half of a layer dies, in single precision and in bf16.
    frontend = (
        "model.frontend={channels: [16, 16, 16, 16, 16, 16], strides: [2, 1, 1, 1, 1, 1], normalization: none}"
    )
    settings = ("training.learning_rate=0.3", "training.schedule=constant", "training.warmup=0")
    entries = trained(tones, tmp_path, "training.epochs=2", frontend, *settings)
    assert "dead units" in kinds(entries)


def test_a_real_exploding_gradient(tones: Path, tmp_path: Path) -> None:
    frontend = "model.frontend={channels: [16], strides: [2], normalization: none}"
    rate = ("training.learning_rate=10", "training.schedule=constant", "training.warmup=0")
    optimizer = ("training.optimizer=sgd", "training.clip_norm=null")
    entries = trained(tones, tmp_path, "training.epochs=2", frontend, *rate, *optimizer)
    assert "exploding gradient" in kinds(entries)


def test_a_real_vanishing_gradient(tones: Path, tmp_path: Path) -> None:
    depth = 10
    shape = f"channels: {depth * [8]}, strides: {[2] + (depth - 1) * [1]}, kernel: 3"
    frontend = f"model.frontend={{{shape}, activation: softplus, normalization: none, initialization: uniform}}"
    settings = ("training.epochs=3", "training.optimizer=sgd")  # Adam would mend it
    entries = trained(tones, tmp_path, frontend, *settings)
    (finding,) = (finding for finding in diagnose(entries, True) if finding.kind == "vanishing gradient")
    assert "in frontend.blocks.0.conv.conv" in finding.seen


def test_a_real_slow_loader(tones: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that goes on by a minute with each batch that is read: a test has none to wait."""
    read, ahead = Reader.read_batch, [0]

    def slowly(reader: Reader, samples: Sequence[Sample]) -> Batch:
        ahead[0] += 60
        return read(reader, samples)

    monkeypatch.setattr(Reader, "read_batch", slowly)
    monkeypatch.setattr(loop, "time", SimpleNamespace(monotonic=lambda: time.monotonic() + ahead[0]))
    entries = trained(tones, tmp_path, "training.epochs=2", "training.batch_seconds=100")
    assert "slow loader" in kinds(entries)
