"""The gradient check: right gradients pass in every kind of layer, a wrong one is found and named."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tones import SETTINGS, write_recipe
from torch import Tensor, nn

from asr import preflight
from asr.cli import main
from asr.model.ctc import CtcHead
from asr.recipe_file import read_recipe
from asr.reporting import Silent
from asr.training.gradient_check import Comparison, InDouble, check_gradients


class _Cube(torch.autograd.Function):
    """x³, with a gradient that is wrong by a factor."""

    @staticmethod
    def forward(context: torch.autograd.function.FunctionCtx, x: Tensor, factor: float) -> Tensor:
        context.save_for_backward(x)
        context.factor = factor
        return x**3

    @staticmethod
    def backward(context: torch.autograd.function.FunctionCtx, gradient: Tensor) -> tuple[Tensor, None]:
        (x,) = context.saved_tensors
        return context.factor * 3 * x**2 * gradient, None


def compare(factor: float) -> dict[str, Comparison]:
    torch.manual_seed(1)
    model = nn.ModuleDict({"first": nn.Linear(3, 4), "second": nn.Linear(4, 2), "idle": nn.Linear(2, 2)}).double()
    x = torch.randn(5, 3, dtype=torch.double)
    weights = [parameter.clone() for parameter in model.parameters()]

    def loss() -> Tensor:
        return model["second"](_Cube.apply(model["first"](x), factor)).square().sum()

    found = {each.name: each for each in check_gradients(model, loss, torch.Generator().manual_seed(0))}
    assert all(torch.equal(a, b) for a, b in zip(weights, model.parameters(), strict=True))
    return found


def test_right_gradients_agree_to_many_digits() -> None:
    found = compare(factor=1.0)
    assert all(each.right for each in found.values())
    assert found["first"].error < 1e-6
    assert found["first"].weights == found["second"].weights == 8
    assert found["idle"].analytic == found["idle"].numeric == 0


def test_a_unit_that_changes_sides_within_a_step_is_no_fault() -> None:
    model = nn.Linear(1, 1, bias=False).double()
    nn.init.constant_(model.weight, 5e-7)
    (found,) = check_gradients(model, lambda: model(torch.ones(1, 1).double()).relu().sum(), torch.Generator())
    assert found.right
    assert (found.analytic, found.numeric) == (1, pytest.approx(1))


@pytest.mark.parametrize("factor", [0.999, 1.001, -1.0, 0.0])
def test_a_wrong_gradient_is_found_in_the_layer_behind_which_it_is_wrong(factor: float) -> None:
    found = compare(factor)
    assert not found["first"].right
    assert found["first"].error == pytest.approx(abs(1 - factor) / max(abs(factor), 1), rel=1e-2)
    assert found["second"].right


def test_numeric_gradients_are_those_of_the_loss() -> None:
    """Of w·x they are x."""
    model = nn.Linear(6, 1, bias=False).double()
    x = torch.arange(1.0, 7.0, dtype=torch.double)
    (found,) = check_gradients(model, lambda: model(x).sum(), torch.Generator())
    assert found.weights == 6
    assert found.numeric == pytest.approx(x.norm().item(), rel=1e-6)


def test_single_precision_is_double_inside() -> None:
    head = CtcHead(3, 4).double()
    x = torch.randn(1, 2, 3, dtype=torch.double)
    assert head(x).dtype == torch.float
    with InDouble():
        assert head(x).dtype == torch.double


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recipe(tmp_path_factory.mktemp("tones"), train=20)


MODELS = (
    "{frontend: {kind: conv2d, channels: [3], strides: [2]}, encoder: {cell: lstm, layers: 2, hidden: 5}}",
    "{frontend: {kind: vgg, channels: [4], strides: [2], normalization: group, groups: 2},"
    " encoder: {cell: gru, layers: 1, hidden: 5, projection: 6, weight_dropout: 0.2, normalization: batch}}",
    "{frontend: {kind: resnet, channels: [4], strides: [2], normalization: weight, activation: gelu},"
    " encoder: {cell: gru, layers: 1, hidden: 5, bidirectional: false}}",
    # The first convolutions of width 1 are a factor of the only channel, which batch normalisation divides out.
    "{frontend: {kind: resnet, channels: [4], strides: [2]}, encoder: {cell: gru, layers: 1, hidden: 5}}",
    "{frontend: {kind: inception, channels: [8], strides: [2]}, encoder: {cell: gru, layers: 1, hidden: 5}}",
)


@pytest.mark.parametrize("model", MODELS)
def test_the_models_of_recipes_have_right_gradients(path: Path, tmp_path: Path, model: str) -> None:
    found = preflight.compare_gradients(read_recipe(path, [*SETTINGS, f"model={model}"]), tmp_path, Silent())
    assert [each.name for each in found if not each.right] == []
    assert all(each.error < 1e-5 for each in found if each.analytic > 1e-4)
    assert {"head.linear", "encoder.layers.0.recurrent.forward_rnn"} <= {each.name for each in found}


def test_the_command_says_which_layer_is_wrong(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["train", str(path), *SETTINGS, "--check-gradients", "--data-dir", str(tmp_path)]
    with pytest.raises(SystemExit) as exit:
        main(arguments)
    out = capsys.readouterr().out
    assert exit.value.code == 0
    assert "passed" in out
    assert out.splitlines()[0].split() == ["layer", "weights", "autograd", "numeric", "error"]

    forward = CtcHead.forward

    def detached(head: CtcHead, x: Tensor) -> Tensor:
        return forward(head, 1.01 * x - 0.01 * x.detach())  # the same value, another gradient

    monkeypatch.setattr(CtcHead, "forward", detached)
    with pytest.raises(SystemExit) as exit:
        main(arguments)
    out = capsys.readouterr().out
    assert exit.value.code == 1
    failed = out.splitlines()[-1]
    assert failed.startswith("failed: the gradients of frontend.blocks.0.conv.conv")
    assert "head.linear" not in failed
    assert not (tmp_path / "runs").exists()
