"""Text from a neural language model: by chance, or the most probable. <unk> is never among it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from asr.text.neural import NeuralLm
from asr.text.neural_network import State, state_of
from asr.text.units import BOUNDARY, UNKNOWN

_AT_ONCE = 256  # sentences that are drawn together


class Generated(NamedTuple):
    """A sentence, and the natural log-probability of its units and its end."""

    text: str
    log_prob: float


@torch.inference_mode()
def sample(
    model: NeuralLm,
    generator: torch.Generator,
    count: int = 1,
    temperature: float = 1.0,
    top_k: int | None = None,
    longest: int = 100,
) -> list[str]:
    """Draw sentences.

    Args:
        model: the model.
        generator: of random numbers, on the model's device.
        count: how many sentences.
        temperature: below 1, probable units become more probable; towards 0, the most probable one is taken.
        top_k: draw from so many of the most probable units only (Fan et al. 2018), or None for all.
        longest: the most units (words, or tokens) in a sentence, which is cut off there.
    """
    model.network.eval()
    found = []
    for first in range(0, count, _AT_ONCE):
        units = torch.full((min(_AT_ONCE, count - first), 1), BOUNDARY, device=model.device)
        state: State = None
        drawn: list[Tensor] = []
        ended = torch.zeros_like(units, dtype=torch.bool)
        while len(drawn) < longest and not ended.all():
            log_probs, state = _following(model, units, state)
            units = _draw(log_probs / temperature, top_k, generator)
            drawn.append(units)
            ended |= units == BOUNDARY
        found += [_text(model, numbers) for numbers in torch.cat(drawn, 1).tolist()]
    return found


def _draw(scores: Tensor, top_k: int | None, generator: torch.Generator) -> Tensor:
    """A unit (rows, 1) for each row of scores (rows, units), with the probability that its softmax is."""
    if top_k is None:
        return torch.multinomial(scores.softmax(1), 1, generator=generator)
    best, units = scores.topk(min(top_k, scores.shape[1]))
    return units.gather(1, torch.multinomial(best.softmax(1), 1, generator=generator))


def _text(model: NeuralLm, numbers: Sequence[int]) -> str:
    end = numbers.index(BOUNDARY) if BOUNDARY in numbers else len(numbers)
    return model.units.decode(numbers[:end])


@torch.inference_mode()
def search(model: NeuralLm, beam_width: int = 8, count: int = 1, longest: int = 100) -> list[Generated]:
    """Find probable sentences, the most probable first.

    Args:
        model: the model.
        beam_width: how many unfinished sentences to keep at each length; the more, the surer that nothing more
            probable is missed.
        count: how many sentences.
        longest: the most units (words, or tokens) in a sentence; longer ones are not looked for.
    """
    model.network.eval()
    finished: list[tuple[float, list[int]]] = []
    open_: list[tuple[float, list[int]]] = [(0.0, [])]
    units = torch.full((1, 1), BOUNDARY, device=model.device)
    state: State = None
    for length in range(longest + 1):
        log_probs, state = _following(model, units, state)
        totals = log_probs.double() + _column([total for total, _ in open_], model.device)
        finished += [
            (total, numbers) for total, (_, numbers) in zip(totals[:, BOUNDARY].tolist(), open_, strict=True)
        ]
        finished = sorted(finished, reverse=True)[:count]
        totals[:, BOUNDARY] = -math.inf
        best, places = totals.flatten().topk(min(beam_width, totals.numel()))
        best, places = best[best > -math.inf], places[best > -math.inf]
        # A sentence only becomes less probable by what is added to it.
        settled = len(finished) == count and (not len(places) or finished[-1][0] >= best[0].item())
        if settled or not len(places) or length == longest:
            break
        rows, added = places // totals.shape[1], places % totals.shape[1]
        open_ = [
            (total, [*open_[row][1], unit])
            for total, row, unit in zip(best.tolist(), rows.tolist(), added.tolist(), strict=True)
        ]
        units, state = added[:, None], state_of(state, rows)
    return [Generated(model.units.decode(numbers), total) for total, numbers in finished]


def _following(model: NeuralLm, units: Tensor, state: State) -> tuple[Tensor, State]:
    """Log-probabilities (rows, units) of what follows units (rows, 1), without <unk>; and the state then."""
    features, state = model.network(units, state)
    log_probs = model.network.log_probs(features[:, 0])
    log_probs[:, UNKNOWN] = -math.inf
    return log_probs, state


def _column(values: Sequence[float], device: torch.device) -> Tensor:
    return torch.tensor(values, dtype=torch.float64, device=device)[:, None]
