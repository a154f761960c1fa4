"""Max-norm: it holds after the call, and changes nothing else."""

from __future__ import annotations

import pytest
import torch

from asr.model.acoustic import AcousticModel
from asr.model.constraints import limit_norms
from asr.model.ctc import CtcHead
from asr.model.encoder import Encoder, LayerSettings
from asr.model.frontend import ConvSettings, Frontend
from asr.model.normalization import weight_norm


@pytest.fixture
def model() -> AcousticModel:
    torch.manual_seed(1)
    frontend = Frontend("resnet", 12, (8,), (2,), 3, ConvSettings())
    encoder = Encoder(frontend.dim, 1, LayerSettings("lstm", hidden=8))
    return AcousticModel(frontend, encoder, CtcHead(encoder.dim, 5))


def norms(weight: torch.Tensor) -> torch.Tensor:
    """Of each unit's incoming weights, written out."""
    return torch.stack([unit.double().square().sum().sqrt() for unit in weight])


def test_no_unit_is_above_the_limit_and_those_below_stay(model: AcousticModel) -> None:
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    limit_norms(model, 1.1)
    scaled = kept = 0
    for name, parameter in model.named_parameters():
        old = before[name]
        if parameter.ndim == 1:  # biases and normalisations
            assert torch.equal(parameter, old), name
            continue
        above = norms(old) > 1.1
        torch.testing.assert_close(norms(parameter), norms(old).clamp(max=1.1), rtol=1e-5, atol=0)
        assert torch.equal(parameter[~above], old[~above]), name
        cosine = torch.nn.functional.cosine_similarity(parameter.flatten(1), old.flatten(1))
        torch.testing.assert_close(cosine, torch.ones_like(cosine))  # only the length changes
        scaled, kept = scaled + int(above.sum()), kept + int((~above).sum())
    assert scaled > 10
    assert kept > 10


def test_a_forget_gates_bias_is_no_weight(model: AcousticModel) -> None:
    limit_norms(model, 1e-3)
    assert model.encoder.layers[0].recurrent.forward_rnn.bias_ih_l0[8:16].tolist() == [1.0] * 8


def test_it_holds_after_each_step(model: AcousticModel) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    for _ in range(3):
        log_probs, _ = model(torch.randn(2, 20, 12), torch.tensor([20, 13]))
        optimizer.zero_grad()
        (-log_probs[:, :, 0]).mean().backward()
        optimizer.step()
        limit_norms(model, 0.5)
        assert all(norms(parameter).max() < 0.50001 for parameter in model.parameters() if parameter.ndim > 1)
        assert all(parameter.requires_grad and parameter.grad is not None for parameter in model.parameters())


def test_of_normalised_weights_the_gain_is_the_norm() -> None:
    frontend = Frontend("conv1d", 12, (8,), (2,), 3, ConvSettings(normalization="weight"))
    block = frontend.blocks[0].conv
    with torch.no_grad():
        block.gain.copy_(torch.linspace(-10, 10, 8))
    limit_norms(frontend, 1.5)
    assert block.gain.abs().max() == 1.5
    assert norms(weight_norm(block.conv.weight, block.gain)).max() < 1.50001
    assert (block.gain < 0).sum() == 4
