"""The moving average of weights, against its definition: weighted sums."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from asr.training.averaging import MovingAverage


def weights(count: int) -> list[list[torch.Tensor]]:
    """Sets of weights that a training may have gone through, the first being those that it began with."""
    generator = torch.Generator().manual_seed(4)
    return [
        [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in ((2, 3), (4,))]
        for _ in range(count)
    ]


def put(parameters: list[nn.Parameter], values: list[torch.Tensor]) -> None:
    with torch.no_grad():
        for parameter, value in zip(parameters, values, strict=True):
            parameter.copy_(value)


def expected(history: list[list[torch.Tensor]], decay: float) -> list[torch.Tensor]:
    """The t-th of n counts as decay^(n - t), and the counts sum to 1; those of the beginning do not count."""
    n = len(history) - 1
    counts = [decay ** (n - t) for t in range(1, n + 1)]
    return [
        sum(count * values[part] for count, values in zip(counts, history[1:], strict=True)) / sum(counts)
        for part in range(len(history[0]))
    ]


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.999])
def test_later_weights_count_more_and_those_of_the_beginning_nothing(decay: float) -> None:
    history = weights(6)
    parameters = [nn.Parameter(value.clone()) for value in history[0]]
    average = MovingAverage(parameters, decay)
    for steps in range(1, 6):
        put(parameters, history[steps])
        average.add()
        with average.in_place():
            for parameter, wanted in zip(parameters, expected(history[: steps + 1], decay), strict=True):
                torch.testing.assert_close(parameter.detach(), wanted)
        assert all(map(torch.equal, parameters, history[steps]))


def test_the_weights_are_back_whatever_happens_meanwhile() -> None:
    before, after = weights(2)
    parameters = [nn.Parameter(value.clone()) for value in before]
    average = MovingAverage(parameters, 0.9)
    average.add()
    put(parameters, after)
    with pytest.raises(KeyboardInterrupt), average.in_place():
        assert all(map(torch.equal, parameters, before))
        raise KeyboardInterrupt
    assert all(map(torch.equal, parameters, after))
    assert all(parameter.requires_grad and parameter.grad_fn is None for parameter in parameters)


def test_a_restored_average_goes_on_where_it_was() -> None:
    history = weights(6)
    parameters = [nn.Parameter(value.clone()) for value in history[0]]
    average = MovingAverage(parameters, 0.7)
    for values in history[1:4]:
        put(parameters, values)
        average.add()
    state = {"count": average.state()["count"], "means": [mean.clone() for mean in average.state()["means"]]}
    again = MovingAverage(parameters, 0.7)
    again.restore(state)
    for values in history[4:]:
        put(parameters, values)
        again.add()
    for mean, wanted in zip(again.means, expected(history, 0.7), strict=True):
        torch.testing.assert_close(mean, wanted)
    with pytest.raises(ValueError, match="zip"):
        again.restore({**state, "means": state["means"][:1]})
