"""Watching steps: the figures are those of the step, and the step is the same as unwatched."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from asr import build
from asr.config import Model
from asr.model.frontend import ConvSettings, MaskedConv
from asr.training.watch import EVERY, averages, is_due, watched_step


class Silenced(nn.Module):
    """A ReLU of four channels, the first of which are never above zero."""

    def __init__(self, dead: int) -> None:
        super().__init__()
        self.activation = nn.ReLU()
        self.dead = dead

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = x.abs().clone()
        y[:, : self.dead] *= -1
        return self.activation(y), torch.full((len(x),), x.shape[2])


def step(model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor) -> None:
    optimizer.zero_grad()
    model(x).square().sum().backward()
    optimizer.step()


def test_figures_are_those_of_the_step() -> None:
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    before = [parameter.detach().clone() for parameter in model.parameters()]
    with watched_step(model) as figures:
        step(model, torch.optim.SGD(model.parameters(), lr=0.01), torch.randn(5, 3))
    layers = averages(figures)
    assert list(layers) == ["0", "1"]
    weight, gradient = before[0], model[0].weight.grad
    assert layers["0"]["gradient"] == pytest.approx(gradient.square().mean().sqrt().item(), rel=1e-5)
    assert layers["0"]["update_ratio"] == pytest.approx(0.01 * (gradient.norm() / weight.norm()).item(), rel=1e-3)


def test_the_first_step_is_watched_that_is_not_skipped_and_then_one_in_many() -> None:
    sums, learnt, watched = {}, 0, []
    for step in range(2 * EVERY + 10):
        due, skipped = is_due(sums, learnt), step in (0, 1, EVERY + 2)
        if due:
            watched.append(step)
        if not skipped:
            learnt += 1
            sums["watch"] = sums.get("watch", 0) + due
    assert watched == [0, 1, 2, EVERY + 2, EVERY + 3, 2 * EVERY + 3]


def test_several_steps_are_averaged_and_other_sums_left_out() -> None:
    model = nn.Linear(2, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    sums: dict[str, float] = {"loss": 7.0}
    norms = []
    for _ in range(3):
        with watched_step(model) as figures:
            step(model, optimizer, torch.randn(4, 2))
        norms.append(model.weight.grad.norm().item())
        sums |= {name: sums.get(name, 0.0) + value for name, value in figures.items()}
    (layer,) = averages(sums).values()
    assert layer["gradient"] == pytest.approx(sum(norms) / 3 / 2, rel=1e-5)  # the root of four weights
    assert averages({"loss": 1.0}) == {}


@pytest.mark.parametrize("dead", [0, 1, 3, 4])
def test_dead_channels_are_counted(dead: int) -> None:
    model = Silenced(dead)
    with watched_step(model) as figures:
        model(torch.randn(2, 4, 7))
    assert averages(figures)[""]["dead"] == dead / 4
    assert not model._forward_hooks
    assert not model.activation._forward_hooks


@pytest.mark.parametrize("kind", ["conv1d", "resnet"])
def test_what_dropout_silences_is_not_dead(kind: str) -> None:
    def dead(dropout: float) -> list[float]:
        frontend = {"kind": kind, "channels": [20], "strides": [2], "dropout": dropout, "dropout_kind": "locked"}
        section = Model.model_validate({"frontend": frontend, "encoder": {"layers": 1, "hidden": 3}})
        torch.manual_seed(1)
        model = build.acoustic(section, 8, 5)
        with watched_step(model) as figures:
            log_probs, _ = model(torch.randn(1, 30, 8), torch.tensor([30]))
            log_probs.square().mean().backward()
        return [layer["dead"] for layer in averages(figures).values() if "dead" in layer]

    assert dead(0.5) == dead(0.0)
    assert max(dead(0.5)) < 0.1


def test_padding_makes_no_channel_look_alive_or_dead() -> None:
    model = MaskedConv(1, 1, 2, ConvSettings(normalization="none"), kernel=1)
    with torch.no_grad():
        model.conv.weight.copy_(torch.tensor([-1.0, 1.0]).view(2, 1, 1))
        model.conv.bias.copy_(torch.tensor([0.5, -0.5]))  # what padding gives: alive and dead
    x, lengths = torch.ones(2, 1, 6), torch.tensor([6, 2])
    x[1, :, 2:] = 0
    with watched_step(model) as figures:
        model(x, lengths)[0].sum().backward()
    (layer,) = (layer for layer in averages(figures).values() if "dead" in layer)
    assert layer["dead"] == 1 / 2


@pytest.mark.parametrize("kind", ["conv1d", "conv2d", "vgg", "resnet", "inception"])
def test_a_watched_step_is_the_same_as_another(kind: str) -> None:
    section = Model.model_validate(
        {
            "frontend": {"kind": kind, "channels": [4], "strides": [2], "dropout": 0.1},
            "encoder": {"layers": 1, "hidden": 3},
        }
    )
    torch.manual_seed(1)
    plain = build.acoustic(section, 8, 5)
    watched = copy.deepcopy(plain)
    x, lengths = torch.randn(2, 12, 8), torch.tensor([12, 9])

    def train(model: nn.Module) -> None:
        torch.manual_seed(2)
        optimizer = torch.optim.AdamW(model.parameters())
        log_probs, _ = model(x, lengths)
        log_probs.square().mean().backward()
        optimizer.step()

    train(plain)
    with watched_step(watched) as figures:
        train(watched)
    for name, tensor in plain.state_dict().items():
        assert torch.equal(tensor, watched.state_dict()[name]), name
    layers = averages(figures)
    assert any("dead" in figures for figures in layers.values())
    assert {
        "encoder.layers.0.recurrent.forward_rnn",
        "encoder.layers.0.recurrent.backward_rnn",
        "head.linear",
    } < set(layers)


def test_a_matrix_without_weights_is_left_out() -> None:
    """As the tail of an adaptive softmax has for a narrow network."""
    model = nn.ParameterList([torch.ones(3, 0)])
    with watched_step(model) as figures:
        model[0].sum().backward()
    assert averages(figures) == {}
