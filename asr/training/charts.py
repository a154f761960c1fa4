"""What the curves of a training are drawn in: each chart, and how it is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from asr.training.diagnosis import Entries, curve, layer_curves

Points = Sequence[tuple[int, float]]


@dataclass(frozen=True)
class Chart:
    """Curves over epochs that share a scale.

    Attributes:
        title: what they show.
        meaning: how they are read, in a sentence or two.
        curves: points (epoch, value) by name; those without a point are left out.
        logarithmic: whether the scale is; values that are not above zero are left out.
        percent: whether the values are shares.
    """

    title: str
    meaning: str
    curves: Mapping[str, Points]
    logarithmic: bool = False
    percent: bool = False


def charts(entries: Entries) -> list[Chart]:
    """What there is to see; charts without a point are left out."""
    waiting = [
        (entry["epoch"], entry["seconds_waiting_for_data"] / max(entry["seconds"], 1e-9))
        for entry in entries
        if "seconds_waiting_for_data" in entry
    ]
    growth = curve(entries, "batch_growth")

    def named(**figures: str) -> dict[str, Points]:
        return {name.replace("_", " "): curve(entries, figure) for name, figure in figures.items()}

    all_charts = [
        Chart(
            "Loss (nats per label)",
            "Both should fall. Over-fitting: dev rises while training falls. Under-fitting: both stay high. "
            "Dropout and augmentation make training harder, so that it may lie above dev.",
            named(training="train_loss", dev="dev_loss"),
            logarithmic=True,
        ),
        Chart(
            "Error rates on dev",
            "What counts, measured on recordings that are not learnt from. Words that are heard and were not said "
            "are errors too, so it can be more than 100 %.",
            named(WER="dev_wer", CER="dev_cer"),
            percent=True,
        ),
        Chart(
            "Perplexity on dev",
            "On average the model is as undecided as between so many words that are equally likely.",
            named(perplexity="dev_perplexity"),
            logarithmic=True,
        ),
        Chart(
            "Error of restoration (1: the mean)",
            "Squared error of the features that are restored; 1 is that of a model which always answers with their "
            "mean. It should fall where they are masked, too, which takes knowledge of speech.",
            named(
                training="train_restoration",
                dev="dev_restoration",
                masked="dev_masked",
                visible="dev_visible",
            ),
        ),
        Chart(
            "Learning rate",
            "The warm-up, then the schedule.",
            named(at_its_highest="highest_learning_rate", at_the_end_of_the_epoch="learning_rate"),
        ),
        Chart(
            "Learning rate of each layer",
            "Where parts of the model have rates of their own, or learn later; zero where a layer is frozen.",
            layer_curves(entries, "learning_rate"),
        ),
        Chart(
            "Size of batches",
            "In place of a falling learning rate, batches grow: so many times what they are at first.",
            {"growth": growth} if any(value != 1 for _, value in growth) else {},
        ),
        Chart(
            "Gradient norm before clipping",
            "Of all weights together: about 1 to 10 in trainings that are well. A leap to many times that says "
            "that gradients explode.",
            named(whole_model="gradient_norm"),
            logarithmic=True,
        ),
        Chart(
            "Gradient of each layer (per weight, clipped)",
            "Root mean square. A layer that lies ten thousand times below the largest learns hardly anything: its "
            "gradient vanishes.",
            layer_curves(entries, "gradient"),
            logarithmic=True,
        ),
        Chart(
            "Update over weight, of each layer",
            "How far a step moves the weights, in proportion to their size: about 0.001 is healthy. Many layers "
            "above 0.03: the learning rate is too high; below 0.0001: too low.",
            layer_curves(entries, "update_ratio"),
            logarithmic=True,
        ),
        Chart(
            "Channels that are dead",
            "They are zero whatever is heard, so they neither say nor learn anything.",
            layer_curves(entries, "dead"),
            percent=True,
        ),
        Chart(
            "Blanks on dev",
            "CTC first learns to answer with nothing but blanks. Empty hypotheses should then become rare; blank "
            "frames stay frequent, as there are more frames than tokens.",
            named(blank_frames="dev_blank_share", empty_hypotheses="dev_empty_share"),
            percent=True,
        ),
        Chart(
            "Time spent waiting for data",
            "Of the time of training. More than a quarter: the loader holds it up.",
            {"waiting": waiting},
            percent=True,
        ),
    ]
    return [chart for chart in all_charts if any(chart.curves.values())]
