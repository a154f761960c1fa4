"""First weights: the variances of their papers, orthogonal matrices, open forget gates."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from asr.model.frontend import ConvSettings, MaskedConv
from asr.model.initialization import INITIALIZERS, initialise_recurrent

VARIANCES: dict[str, Callable[[int, int], float]] = {
    "uniform": lambda fan_in, fan_out: 1 / (3 * fan_in),
    "xavier_uniform": lambda fan_in, fan_out: 2 / (fan_in + fan_out),
    "xavier_normal": lambda fan_in, fan_out: 2 / (fan_in + fan_out),
    "he_uniform": lambda fan_in, fan_out: 2 / fan_in,
    "he_normal": lambda fan_in, fan_out: 2 / fan_in,
    "lecun_normal": lambda fan_in, fan_out: 1 / fan_in,
}
"""Glorot and Bengio 2010, equation 12; He et al. 2015, equation 10; Klambauer et al. 2017, section 3."""


def check(weight: torch.Tensor, name: str, fan_in: int, fan_out: int) -> None:
    """Mean and variance within 5 standard errors, and the shape of the distribution."""
    weight, variance = weight.detach().double().flatten(), VARIANCES[name](fan_in, fan_out)
    kurtosis = 3.0 if name.endswith("normal") else 1.8
    count = weight.numel()
    assert abs(weight.mean()) < 5 * (variance / count) ** 0.5
    assert abs(weight.square().mean() / variance - 1) < 5 * ((kurtosis - 1) / count) ** 0.5
    if kurtosis == 1.8:  # uniform: bounded by √3 standard deviations
        assert 0.99 < weight.abs().max() / (3 * variance) ** 0.5 < 1.00001
    else:
        assert weight.abs().max() > 3 * variance**0.5


@pytest.mark.parametrize("name", VARIANCES)
@pytest.mark.parametrize(("dims", "area"), [(1, 5), (2, 25)])
def test_convolutions_have_the_variance_of_the_paper(name: str, dims: int, area: int) -> None:
    torch.manual_seed(1)
    conv = MaskedConv(dims, 24, 40, ConvSettings(initialization=name), kernel=5).conv
    check(conv.weight, name, 24 * area, 40 * area)


@pytest.mark.parametrize("name", VARIANCES)
@pytest.mark.parametrize("cell", [nn.LSTM, nn.GRU])
def test_each_gate_has_the_variance_of_the_paper(name: str, cell: type[nn.LSTM] | type[nn.GRU]) -> None:
    torch.manual_seed(1)
    rnn = cell(60, 90)
    initialise_recurrent(rnn, name, name, 1.0)
    for gate in rnn.weight_ih_l0.split(90):
        check(gate, name, 60, 90)
    for gate in rnn.weight_hh_l0.split(90):
        check(gate, name, 90, 90)


@pytest.mark.parametrize("cell", [nn.LSTM, nn.GRU])
def test_recurrent_weights_are_orthogonal_gate_by_gate(cell: type[nn.LSTM] | type[nn.GRU]) -> None:
    torch.manual_seed(1)
    rnn = cell(4, 6)
    initialise_recurrent(rnn, "uniform", "orthogonal", 1.0)
    gates = rnn.weight_hh_l0.split(6)
    for gate in gates:
        torch.testing.assert_close(gate @ gate.T, torch.eye(6), atol=1e-5, rtol=0)
    assert not torch.allclose(gates[0], gates[1])


def test_the_threads_at_hand_change_no_bit() -> None:
    before, drawn = torch.get_num_threads(), {}
    for threads in (1, 2, 4):
        torch.set_num_threads(threads)
        torch.manual_seed(1)
        drawn[threads] = INITIALIZERS["orthogonal"](torch.empty(160, 160))
        assert torch.get_num_threads() == threads
    torch.set_num_threads(before)
    assert torch.equal(drawn[1], drawn[2])
    assert torch.equal(drawn[1], drawn[4])


def test_orthogonal_convolutions_have_orthonormal_filters() -> None:
    conv = MaskedConv(2, 3, 8, ConvSettings(initialization="orthogonal"), kernel=3).conv
    filters = conv.weight.flatten(1)
    torch.testing.assert_close(filters @ filters.T, torch.eye(8), atol=1e-5, rtol=0)


@pytest.mark.parametrize("bias", [0.0, 1.0, -2.5])
def test_the_forget_gates_biases_add_up_to_what_was_asked_for(bias: float) -> None:
    lstm = nn.LSTM(4, 6)
    initialise_recurrent(lstm, "uniform", "uniform", bias)
    total = lstm.bias_ih_l0 + lstm.bias_hh_l0
    assert total.tolist() == [0.0] * 6 + [bias] * 6 + [0.0] * 12


def test_a_forget_gate_with_a_large_bias_remembers() -> None:
    """That the second quarter is the forget gate: torch's own cell tells."""
    lstm = nn.LSTM(4, 6)
    initialise_recurrent(lstm, "uniform", "uniform", 50.0)
    with torch.no_grad():
        lstm.weight_ih_l0.zero_()
        lstm.weight_hh_l0.zero_()
        state = torch.rand(1, 1, 6)
        _, (_, cell) = lstm(torch.zeros(10, 1, 4), (state, state))
    torch.testing.assert_close(cell, state)


def test_a_gru_has_no_forget_gate() -> None:
    gru = nn.GRU(4, 6)
    initialise_recurrent(gru, "uniform", "uniform", 3.0)
    assert not (gru.bias_ih_l0.any() or gru.bias_hh_l0.any())


def test_selu_keeps_mean_and_variance_with_lecun_normal_weights() -> None:
    """Klambauer et al. 2017: through many layers, with their alpha dropout too; He's weights blow it up."""
    torch.manual_seed(1)
    answers = {}
    for name in ("lecun_normal", "he_normal"):
        y = torch.randn(2000, 200)
        for _ in range(12):
            y = nn.AlphaDropout(0.1)(nn.SELU()(y @ INITIALIZERS[name](torch.empty(200, 200)).T))
        answers[name] = y
    assert answers["lecun_normal"].mean().item() == pytest.approx(0, abs=0.05)
    assert answers["lecun_normal"].std().item() == pytest.approx(1, abs=0.05)
    assert answers["he_normal"].std() > 2
