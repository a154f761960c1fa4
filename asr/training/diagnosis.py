"""What the curves of a training say, in words: each finding with the figures behind it, and what to try.

All functions read the entries of a training's log, in order, and leave out what an entry does not hold.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Literal

from asr.errors import some

Entries = Sequence[Mapping[str, Any]]
Severity = Literal["serious", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("serious", "warning", "note")

MANY = 3
"""Epochs in a row: two may be chance."""
OVERFIT_RISE = 1.1
"""Of the dev loss over its lowest; that of some hundred utterances moves by a few per cent from epoch to epoch."""
OVERFIT_NATS = 0.05
"""Per label, likewise: where all is learnt, both are next to nothing."""
OVERFIT_GAP = 5.0
"""Dev loss over training loss. Unseen voices cost something like a factor of two in trainings that are well."""
OVERFIT_WER = 0.1
"""A gap matters only where there is something left to gain."""
HIGH_LOSS = 0.5
"""Nats per label in training: a label has a probability of 60 %."""
WIDE_GAP = 1.15
"""Dev loss over a training loss that is high itself, and made higher by dropout and masks."""
STILL_FALLING = 0.95
"""Of the training loss, in an epoch or two."""
SLOWLY_FALLING = 0.93
"""Of the training loss in two epochs, as schedules end."""
SPENT_RATE = 0.1
"""Of the highest learning rate: with less of it, a loss falls slowly whatever is left to learn."""
JUMP = 1.5
"""Of the training loss over the lowest before."""
JUMP_NATS = 0.5
"""It must be that large, too: a loss near zero may well double."""
VIOLENT_UPDATE = 0.03
"""Update over weight, of the middle layer. About 1e-3 is healthy (Bottou; Karpathy, CS231n notes); with Adam, small
layers that learn well see 1e-2 and more for some epochs."""
BRUTAL_UPDATE = 0.1
"""Likewise, in any epoch: ten times what is seen where a network learns well."""
TIMID_UPDATE = 1e-4
"""Likewise: a tenth of what is healthy, in the epoch where it is largest."""
COLLAPSED = 0.9
"""Of the hypotheses are empty. The share of blank frames says less: with words as tokens it is often 95 %."""
VANISHED = 1e-4
"""Root mean square gradient of a layer's weights over that of the layer with the largest."""
EXPLODED = 10.0
"""Mean gradient norm of an epoch over the median of those before it."""
LARGE_NORM = 100.0
"""Of gradients of a loss per label, which are around 1 to 10 in trainings that are well."""
SKIPPED_SHARE = 0.01
"""Of the steps. Now and then the scale of fp16's gradients (and of bf16's on GPUs) is tried at twice its size."""
SKIPPED_FIRST = 16
"""Of the first steps, until that scale is found: it begins at 65536, and is halved each time."""
DEAD_SHARE = 0.4
"""Of a layer's channels: what a learning rate that is too high leaves dead (Karpathy, CS231n notes)."""
WAITING_SHARE = 0.25
"""Of the time of training."""
WORTH_SECONDS = 60.0
"""Less waiting in all is not worth a word."""
TRIAL = "asr train RECIPE --overfit 10, to see whether the model can learn these texts from this sound at all"


@dataclass(frozen=True)
class Finding:
    """Something that is wrong with a training.

    Attributes:
        kind: its name, such as "over-fitting".
        severity: serious: the training is in vain; warning: it could be better; note: good to know.
        seen: with figures and epochs.
        advice: what to try.
    """

    kind: str
    severity: Severity
    seen: str
    advice: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.seen}\n  try: {self.advice}"


def diagnose(entries: Entries, finished: bool) -> list[Finding]:
    """All that is wrong, the most serious first.

    Args:
        entries: of the log.
        finished: whether the training has come to its end; before, a loss that is still high says nothing.
    """
    findings = [finding for check in ANY_TIME for finding in check(entries)]
    kinds = {finding.kind for finding in findings}
    fit = [] if "blank collapse" in kinds else list(_over_fitting(entries))
    if finished and "exploding gradient" not in kinds:
        fit += _nothing_learnt(entries)
    if finished and not fit and not kinds & {"learning rate too high", "blank collapse"}:
        fit = list(_under_fitting(entries))
    findings += fit
    return sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity))


class NewFindings:
    """What is wrong with a training that goes on, each kind of finding once.

    Args:
        entries: of its log, as far as it has come.
    """

    def __init__(self, entries: Entries) -> None:
        self._told: set[str] = set()
        for count in range(1, len(entries) + 1):
            self.since(entries[:count])

    def since(self, entries: Entries) -> list[Finding]:
        """What is wrong now that there is another entry, and was not before."""
        new = [each for each in diagnose(entries, finished=False) if each.kind not in self._told]
        self._told |= {each.kind for each in new}
        return new


def _infinite_losses(entries: Entries) -> Iterator[Finding]:
    train = [name for entry in entries for name in entry.get("infinite", [])]
    dev = list(dict.fromkeys(name for entry in entries for name in entry.get("dev_infinite", [])))
    if train or dev:
        most = max(entries, key=lambda entry: entry.get("infinite_losses", 0.0))
        count = most.get("infinite_losses", 0.0)
        sets = " and ".join(f"{len(names)} {kind}" for kind, names in (("training", train), ("dev", dev)) if names)
        if 0 < count < len(train):  # they are others in each epoch, as they are joined and sped up
            sets = f"in epoch {most['epoch']}, {count:.0f} training samples" + f" and {len(dev)} of dev" * bool(dev)
            said = f"{sets} had fewer frames than their labels need, and taught"
        elif len(train) + len(dev) == 1:
            said = f"{sets} utterance has fewer frames than its labels need, and teaches"
        else:
            said = f"{sets} utterances have fewer frames than their labels need, and teach"
        yield Finding(
            "infinite losses",
            "warning",
            f"{said} nothing: {some([*train, *dev])}",
            "look whether these texts belong to these recordings; smaller model.frontend.strides; longer tokens "
            "(tokens.kind=bpe)",
        )


def _learning_rate_too_high(entries: Entries) -> Iterator[Finding]:
    jump = _jump(entries)
    seen = jump or _brutality(entries) or _restlessness(entries)
    if seen:
        losses = [loss for _, loss in curve_of_steps(entries, "train_loss")]
        last = losses[-1] if losses else math.inf
        overcome = last <= HIGH_LOSS or (jump is not None and last == min(losses))
        yield Finding(
            "learning rate too high",
            "note" if overcome else "serious",
            seen,
            _suited(
                entries,
                recogniser="training.learning_rate three to ten times smaller; a longer training.warmup",
                start="pretrain.learning_rate three to ten times smaller",
                language_model="--learning-rate three to ten times smaller",
            ),
        )


def _jump(entries: Entries) -> str | None:
    """The training loss has risen, at once or by and by, and not since SpecAugment has set in."""
    losses, masked = curve_of_steps(entries, "train_loss"), dict(curve(entries, "masked"))
    before, lowest, was_masked = 0, math.inf, 0.0
    for epoch, loss in losses:
        if loss > max(JUMP * lowest, lowest + JUMP_NATS) and masked.get(epoch, False) <= was_masked:
            now = f", and is {losses[-1][1]:.2f} in epoch {losses[-1][0]}" if epoch != losses[-1][0] else ""
            return f"the training loss rose from {lowest:.2f} in epoch {before} to {loss:.2f} in epoch {epoch}{now}"
        if loss < lowest or masked.get(epoch, False) > was_masked:
            before, lowest = epoch, loss
        was_masked = masked.get(epoch, False)
    return None


def _brutality(entries: Entries) -> str | None:
    """The weights were overthrown, mostly in the first epoch: before there is a loss that could rise."""
    epoch, ratio = max(update_ratios(entries), key=lambda found: found[1], default=(0, 0.0))
    if ratio < BRUTAL_UPDATE:
        return None
    return f"in epoch {epoch} each step changed the weights by {ratio:.0%} of their size (0.1% would be usual)"


def _restlessness(entries: Entries) -> str | None:
    """The weights change by much in each step, and nothing comes of it."""
    losses, ratios = curve_of_steps(entries, "train_loss"), update_ratios(entries)
    if len(losses) < MANY or not ratios or losses[-1][1] < HIGH_LOSS:
        return None
    falling = min(loss for _, loss in losses[-2:]) < STILL_FALLING * min(loss for _, loss in losses[:-2])
    if falling or ratios[-1][1] < VIOLENT_UPDATE:
        return None
    return (
        f"each step changes the weights by {ratios[-1][1]:.0%} of their size (0.1% would be usual), and the "
        f"training loss stays at {losses[-1][1]:.2f}"
    )


def _gradients(entries: Entries) -> Iterator[Finding]:
    yield from _exploding(entries)
    rms = {name: curve_of for name, curve_of in layer_curves(entries, "gradient").items() if len(curve_of) >= MANY}
    if not rms:
        return
    recent = {name: median(value for _, value in values[-MANY:]) for name, values in rms.items()}
    largest = max(recent.values())
    vanished = [name for name, value in recent.items() if value < VANISHED * largest]
    if vanished:
        least = min(vanished, key=lambda name: recent[name])
        yield Finding(
            "vanishing gradient",
            "warning",
            f"hardly any gradient reaches {some(vanished)}: {recent[least]:.1e} per weight in {least}, where the "
            f"largest of all layers is {largest:.1e}",
            _suited(
                entries,
                recogniser="normalisation (in model.frontend and model.encoder); model.encoder.residual=true; "
                "fewer layers; model.frontend.activation=relu",
                language_model="fewer --layers",
            ),
        )


def _nothing_learnt(entries: Entries) -> Iterator[Finding]:
    """All steps of a short training were skipped."""
    skipped, steps = _skipped_of(entries)
    if skipped >= steps > 0:
        yield _explosion(entries, skipped, steps)


def _skipped_of(entries: Entries) -> tuple[float, int]:
    steps = entries[-1]["step"] if entries else 0
    return sum(entry.get("skipped_steps", 0.0) for entry in entries), steps


def _explosion(entries: Entries, skipped: float, steps: int) -> Finding:
    seen = f"{skipped:.0f} of {steps} steps had a gradient that is not finite, and were skipped"
    return Finding("exploding gradient", "serious", seen, _against_explosion(entries))


def _against_explosion(entries: Entries) -> str:
    return _suited(
        entries,
        recogniser="a smaller training.learning_rate; a smaller training.clip_norm; training.precision=fp32",
        start="a smaller pretrain.learning_rate; training.precision=fp32",
        language_model="a smaller --learning-rate; --precision fp32",
    )


def _exploding(entries: Entries) -> Iterator[Finding]:
    skipped, steps = _skipped_of(entries)
    if skipped > max(SKIPPED_SHARE * steps, SKIPPED_FIRST):
        yield _explosion(entries, skipped, steps)
        return
    norms = curve_of_steps(entries, "gradient_norm")
    for index, (epoch, norm) in enumerate(norms):
        usual = median(value for _, value in norms[:index]) if index else math.inf
        if norm > LARGE_NORM or (norm > EXPLODED * usual and norm > 1):
            than = f", {norm / usual:.0f} times what it was before" if norm > EXPLODED * usual else ""
            seen = f"in epoch {epoch} its norm before clipping was {norm:.3g} on average{than}"
            yield Finding("exploding gradient", "warning", seen, _against_explosion(entries))
            return


def _dead_units(entries: Entries) -> Iterator[Finding]:
    curves = layer_curves(entries, "dead")
    dead = {name: values[-1][1] for name, values in curves.items() if values[-1][1] >= DEAD_SHARE}
    if dead:
        worst = max(dead, key=lambda name: dead[name])
        yield Finding(
            "dead units",
            "warning",
            f"{dead[worst]:.0%} of the channels of {worst} are zero whatever is heard"
            + (f"; likewise {some([name for name in dead if name != worst])}" if len(dead) > 1 else ""),
            _suited(
                entries, recogniser="a smaller training.learning_rate", start="a smaller pretrain.learning_rate"
            )
            + "; model.frontend.activation=leaky_relu; model.frontend.normalization=batch",
        )


def _blank_collapse(entries: Entries) -> Iterator[Finding]:
    empty, blank = curve(entries, "dev_empty_share"), curve(entries, "dev_blank_share")
    if len(empty) < MANY or min(share for _, share in empty[-MANY:]) < COLLAPSED:
        return
    train = curve(entries, "train_loss")
    falling = train[-1][1] < STILL_FALLING * train[-MANY][1]
    yield Finding(
        "blank collapse",
        "warning" if falling else "serious",
        f"in epoch {empty[-1][0]}, as in those before, {empty[-1][1]:.0%} of the dev utterances have an empty "
        f"hypothesis and {blank[-1][1]:.0%} of the frames are blank; "
        + ("the training loss is still falling" if falling else f"the training loss stays at {train[-1][1]:.2f}"),
        ("patience: CTC begins so, and often leaves it within some epochs; " if falling else "")
        + f"{TRIAL}; another training.learning_rate; a longer training.warmup; less dropout; "
        "training.sorted_first_epoch, if off",
    )


def _over_fitting(entries: Entries) -> Iterator[Finding]:
    train, dev = curve(entries, "train_loss"), dev_losses(entries)
    if len(train) != len(dev) or len(dev) <= MANY or not train[-1][1]:  # zero where all steps were skipped
        return
    place = min(range(len(dev)), key=lambda index: dev[index][1])
    epoch, lowest = dev[place]
    last, now = dev[-1]
    wers = [wer for _, wer in curve(entries, "dev_wer")]
    better = bool(wers) and min(wers[-MANY:]) < min(wers[:-MANY])  # CTC's loss may rise while errors become fewer
    risen = len(dev) - 1 - place >= MANY and now > max(OVERFIT_RISE * lowest, lowest + OVERFIT_NATS)
    if risen and not better and train[-1][1] < train[place][1]:
        seen = (
            f"the dev loss was lowest in epoch {epoch} ({lowest:.3f}) and has risen to {now:.3f} in epoch {last}, "
            f"while the training loss fell from {train[place][1]:.3f} to {train[-1][1]:.3f}"
        )
    elif now > OVERFIT_GAP * train[-1][1] and entries[-1].get("dev_wer", 0.0) > OVERFIT_WER:
        seen = f"in epoch {last} the dev loss ({now:.3f}) is {now / train[-1][1]:.0f} times the training loss"
    else:
        return
    yield Finding(
        "over-fitting",
        "warning",
        seen,
        _suited(
            entries,
            recogniser="more recordings, of more speakers; augment (speed, noise, spec_augment); more dropout; a "
            "smaller model; training.patience to save the time (the best epochs are kept anyway)",
            language_model="more text; more --dropout; a smaller model; --patience to save the time (the best "
            "epochs are kept anyway)",
        ),
    )


def _slow_loader(entries: Entries) -> Iterator[Finding]:
    waited = sum(entry.get("seconds_waiting_for_data", 0.0) for entry in entries)
    seconds = sum(entry.get("seconds", 0.0) for entry in entries)
    if waited > max(WAITING_SHARE * seconds, WORTH_SECONDS):
        yield Finding(
            "slow loader",
            "note",
            f"training waited for data during {waited:.0f} of {seconds:.0f} seconds ({waited / seconds:.0%})",
            "more training.workers; recordings as wav or flac at the rate of features.sample_rate, on a faster "
            "disk; less augment, of which codec takes longest",
        )


def _under_fitting(entries: Entries) -> Iterator[Finding]:
    train = curve(entries, "train_loss")
    if len(train) < MANY or train[-1][1] < HIGH_LOSS:
        return
    ratios = update_ratios(entries)
    largest = max((ratio for _, ratio in ratios), default=math.inf)
    seen = f"after {train[-1][0]} epochs the training loss is still {train[-1][1]:.2f} nats per label"
    if largest < TIMID_UPDATE:
        yield Finding(
            "learning rate too low",
            "warning",
            f"{seen}, and steps change the weights by {largest:.1e} of their size at most (1e-3 would be usual)",
            _suited(entries, recogniser="training.learning_rate", language_model="--learning-rate")
            + " ten times as large",
        )
        return
    if "dev_wer" not in entries[-1]:  # how low a language model can come, its text alone decides
        return
    falling = train[-1][1] < SLOWLY_FALLING * train[-3][1]
    dev = dev_losses(entries)
    if dev and dev[-1][1] > WIDE_GAP * train[-1][1] and not falling:
        yield Finding(
            "little data",
            "warning",
            f"{seen}, and the dev loss with {dev[-1][1]:.2f} well above it, though dropout and masks make training "
            "harder: part of what is learnt does not carry over to other recordings",
            "more recordings, of more speakers, or similar ones (prepare.extra, training.init_from); "
            "a language_model",
        )
        return
    rates = [rate for _, rate in curve(entries, "learning_rate")]
    if falling:
        first = "more training.epochs"
    elif rates and rates[-1] < SPENT_RATE * max(rates):
        first = "more training.epochs, as the learning rate has fallen with these; a larger model"
    else:
        first = "a larger model"
    yield Finding(
        "under-fitting",
        "warning",
        seen + (", and still falling" if falling else ""),
        f"{first}; less dropout and augment; another training.learning_rate; {TRIAL}",
    )


ANY_TIME: tuple[Callable[[Entries], Iterator[Finding]], ...] = (
    _infinite_losses,
    _learning_rate_too_high,
    _gradients,
    _dead_units,
    _blank_collapse,
    _slow_loader,
)
"""What can be told at any time, whatever else there is."""


def _suited(entries: Entries, recogniser: str, start: str = "", language_model: str = "") -> str:
    """Advice for what is trained: a recogniser, by default; its self-supervised start; or a language model."""
    figures = entries[-1] if entries else {}
    if "units" in figures:
        return language_model or recogniser
    if "train_restoration" in figures:
        return start or recogniser
    return recogniser


# ------------------------------------------------------------------------------------------------ curves


def curve(entries: Entries, name: str) -> list[tuple[int, float]]:
    """A figure of all epochs that have it, as (epoch, value)."""
    return [(entry["epoch"], entry[name]) for entry in entries if name in entry]


def curve_of_steps(entries: Entries, name: str) -> list[tuple[int, float]]:
    """The same of what steps add up to, without the epochs of which all steps were skipped."""
    return [(epoch, value) for epoch, value in curve(entries, name) if value]


def dev_losses(entries: Entries) -> list[tuple[int, float]]:
    """The loss on the dev set; of a language model the logarithm of its perplexity."""
    perplexities = curve(entries, "dev_perplexity")
    return [(epoch, math.log(value)) for epoch, value in perplexities] or curve(entries, "dev_loss")


def layer_curves(entries: Entries, figure: str) -> dict[str, list[tuple[int, float]]]:
    """A figure of each layer that has it, as (epoch, value)."""
    found: dict[str, list[tuple[int, float]]] = {}
    for entry in entries:
        for name, figures in entry.get("layers", {}).items():
            if figure in figures:
                found.setdefault(name, []).append((entry["epoch"], figures[figure]))
    return found


def update_ratios(entries: Entries) -> list[tuple[int, float]]:
    """Update over weight of the middle layer, as (epoch, value)."""
    found = []
    for entry in entries:
        ratios = [
            figures["update_ratio"] for figures in entry.get("layers", {}).values() if "update_ratio" in figures
        ]
        if ratios:
            found.append((entry["epoch"], median(ratios)))
    return found
