"""Optimisers against their papers' formulas; penalties, limits and averages against what they claim."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator
from typing import get_args

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from asr.config import Training
from asr.errors import ConfigError
from asr.training.optimization import Optimization, OptimizationMethods, needs_scaling
from asr.training.optimizers import OPTIMIZERS, STATES, OptimizerSettings
from asr.training.task import Loss

Array = NDArray[np.float64]
RATE, DECAY = 0.1, 0.05
FACTORS = (1.0, 0.5, 0.25)


class Quadratic(nn.Module):
    """(w - 1)² curvature / 2 summed over a matrix, and over a vector: its gradient is known."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        self.matrix = nn.Parameter(torch.randn(2, 3, generator=generator, dtype=torch.float64))
        self.vector = nn.Parameter(torch.randn(3, generator=generator, dtype=torch.float64))

    def forward(self) -> Tensor:
        return sum((torch.from_numpy(CURVATURE) * (w - 1) ** 2 / 2).sum() for w in (self.matrix, self.vector))


CURVATURE = np.array([0.1, 2.0, 7.0])


def gradient(w: Array) -> Array:
    return CURVATURE * (w - 1)


def optimization(model: nn.Module, rule: OptimizerSettings | str = "adamw", **given: object) -> Optimization:
    plain = {"learning_rate": RATE, "weight_decay": 0.0, "clip_norm": None, "precision": "fp32"}
    methods = {name: given.pop(name) for name in list(given) if name not in plain}
    rule = OptimizerSettings(rule) if isinstance(rule, str) else rule
    return Optimization(model, **{**plain, **given}, methods=OptimizationMethods(rule, **methods))


# -------------------------------------------------------------------------------------------- optimisers


def sgd(w: Array, decay: float) -> Iterator[Array]:
    for rate in rates():
        w = w - rate * (gradient(w) + decay * w)
        yield w


def momentum(w: Array, decay: float) -> Iterator[Array]:
    """Polyak 1964."""
    velocity = np.zeros_like(w)
    for rate in rates():
        velocity = 0.8 * velocity + gradient(w) + decay * w
        w = w - rate * velocity
        yield w


def nesterov(w: Array, decay: float) -> Iterator[Array]:
    """Sutskever et al. 2013, for the point that looks ahead, as in Bengio et al. 2013 (with a constant rate)."""
    velocity = np.zeros_like(w)
    for rate in rates():
        found = gradient(w) + decay * w
        velocity = 0.8 * velocity + found
        w = w - rate * (found + 0.8 * velocity)
        yield w


def adagrad(w: Array, decay: float) -> Iterator[Array]:
    """Duchi et al. 2011."""
    squares = np.zeros_like(w)
    for rate in rates():
        found = gradient(w) + decay * w
        squares = squares + found**2
        w = w - rate * found / (np.sqrt(squares) + 1e-10)
        yield w


def adadelta(w: Array, decay: float) -> Iterator[Array]:
    """Zeiler 2012, algorithm 1."""
    squares, updates = np.zeros_like(w), np.zeros_like(w)
    for rate in rates():
        found = gradient(w) + decay * w
        squares = 0.7 * squares + 0.3 * found**2
        update = -np.sqrt(updates + 1e-6) / np.sqrt(squares + 1e-6) * found
        updates = 0.7 * updates + 0.3 * update**2
        w = w + rate * update
        yield w


def rmsprop(w: Array, decay: float) -> Iterator[Array]:
    """Tieleman and Hinton 2012."""
    squares = np.zeros_like(w)
    for rate in rates():
        found = gradient(w) + decay * w
        squares = 0.7 * squares + 0.3 * found**2
        w = w - rate * found / (np.sqrt(squares) + 1e-8)
        yield w


def adam(w: Array, decay: float, decoupled: bool = False) -> Iterator[Array]:
    """Kingma and Ba 2015, algorithm 1; decoupled: Loshchilov and Hutter 2019, algorithm 2."""
    mean, squares = np.zeros_like(w), np.zeros_like(w)
    for t, rate in enumerate(rates(), start=1):
        found = gradient(w) + (0 if decoupled else decay * w)
        mean, squares = 0.6 * mean + 0.4 * found, 0.7 * squares + 0.3 * found**2
        step = mean / (1 - 0.6**t) / (np.sqrt(squares / (1 - 0.7**t)) + 1e-8)
        w = w - rate * (step + (decay * w if decoupled else 0))
        yield w


def adamw(w: Array, decay: float) -> Iterator[Array]:
    return adam(w, decay, decoupled=True)


def nadam(w: Array, decay: float) -> Iterator[Array]:
    """Dozat 2016, algorithm 2, with the momentum schedule of its section 3."""
    mean, squares, product = np.zeros_like(w), np.zeros_like(w), 1.0
    for t, rate in enumerate(rates(), start=1):
        now, following = (0.6 * (1 - 0.5 * 0.96 ** (0.004 * step)) for step in (t, t + 1))
        product *= now
        found = gradient(w) + decay * w
        mean, squares = 0.6 * mean + 0.4 * found, 0.7 * squares + 0.3 * found**2
        ahead = (1 - now) * found / (1 - product) + following * mean / (1 - product * following)
        w = w - rate * ahead / (np.sqrt(squares / (1 - 0.7**t)) + 1e-8)
        yield w


def rates() -> Iterator[float]:
    return iter(RATE * factor for factor in FACTORS)


REFERENCES: dict[str, Callable[[Array, float], Iterator[Array]]] = {
    "sgd": sgd,
    "momentum": momentum,
    "nesterov": nesterov,
    "adagrad": adagrad,
    "adadelta": adadelta,
    "rmsprop": rmsprop,
    "adam": adam,
    "adamw": adamw,
    "nadam": nadam,
}


def test_a_recipe_names_every_optimiser() -> None:
    assert get_args(Training.model_fields["optimizer"].annotation) == tuple(OPTIMIZERS) == tuple(REFERENCES)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_steps_follow_the_papers_and_vectors_do_not_decay(name: str) -> None:
    model = Quadratic()
    rule = OptimizerSettings(name, momentum=0.8, betas=(0.6, 0.7), rho=0.7)
    optimized = optimization(model, rule, weight_decay=DECAY)
    matrices = REFERENCES[name](model.matrix.detach().numpy().copy(), DECAY)
    vectors = REFERENCES[name](model.vector.detach().numpy().copy(), 0.0)
    tolerance = 1e-6 if name == "nadam" else 1e-9  # torch keeps nadam's product in single precision
    for factor, matrix, vector in zip(FACTORS, matrices, vectors, strict=True):
        optimized.step(model(), factor)
        np.testing.assert_allclose(model.matrix.detach().numpy(), matrix, rtol=tolerance)
        np.testing.assert_allclose(model.vector.detach().numpy(), vector, rtol=tolerance)
        assert optimized.current_learning_rate == RATE * factor


@pytest.mark.parametrize(("name", "precision"), [*((name, "fp32") for name in OPTIMIZERS), ("adamw", "fp16")])
def test_a_restored_optimisation_goes_on_bit_for_bit(name: str, precision: str) -> None:
    """With everything that has a state: dropout, and in fp16 the scale of the gradients."""
    more = {"backstitch": 0.3, "backstitch_interval": 2} if name == "sgd" else {}

    def begin() -> tuple[nn.Module, Optimization]:
        torch.manual_seed(5)
        model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 1))
        methods = {"ema": 0.9, "l1": 0.01, "max_norm": 0.5, **more}
        return model, optimization(model, name, weight_decay=DECAY, precision=precision, **methods)

    def train(model: nn.Module, optimized: Optimization, batches: range) -> None:
        for batch in batches:
            inputs = torch.randn(6, 4, generator=torch.Generator().manual_seed(batch))
            optimized.learn(lambda inputs=inputs: Loss(model(inputs).square().mean(), {}), 1 / (batch + 1))

    whole, optimized = begin()
    train(whole, optimized, range(7))
    first, before = begin()
    train(first, before, range(3))
    file = io.BytesIO()
    torch.save({**before.state(), "random": torch.get_rng_state()}, file)
    file.seek(0)
    second, after = begin()
    state = torch.load(file, weights_only=True)
    after.restore(state)
    torch.set_rng_state(state["random"])
    train(second, after, range(3, 7))
    with optimized.averaged(), after.averaged():
        assert all(map(torch.equal, whole.state_dict().values(), second.state_dict().values()))
    assert all(map(torch.equal, whole.state_dict().values(), second.state_dict().values()))
    assert after.current_learning_rate == optimized.current_learning_rate


def test_the_scale_of_gradients_is_that_which_was_found() -> None:
    """Else the first steps of each resumed training would be skipped again."""
    optimized, again = (optimization(nn.Linear(3, 2), "sgd", precision="fp16") for _ in range(2))
    first = again.scaler.get_scale()
    assert optimized.step(optimized.model(torch.ones(3)).sum() * math.inf, 1.0).skipped
    again.restore(optimized.state())
    assert again.scaler.get_scale() == optimized.scaler.get_scale() == first / 2


@pytest.mark.parametrize(
    ("precision", "device", "scaled"),
    [("fp16", "cpu", True), ("bf16", "cpu", False), ("bf16", "cuda", True), ("fp32", "cuda", False)],
)
def test_gradients_are_scaled_where_layers_compute_in_fp16(precision: str, device: str, scaled: bool) -> None:
    assert needs_scaling(precision, torch.device(device)) == scaled


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_fused_optimisers_are_those_that_gpus_have_too(name: str) -> None:
    (group,) = OPTIMIZERS[name](
        [{"params": [torch.nn.Parameter(torch.ones(1))]}], 0.1, OptimizerSettings(name)
    ).param_groups
    assert bool(group.get("fused")) == (name in ("sgd", "momentum", "nesterov", "adam", "adamw"))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_trial_of_memory_knows_what_an_optimiser_remembers(name: str) -> None:
    model = Quadratic()
    optimized = optimization(model, name)
    optimized.step(model(), 1.0)
    state = optimized.optimizer.state[model.matrix]
    kept = [value for value in state.values() if torch.is_tensor(value) and value.shape == model.matrix.shape]
    assert len(kept) == STATES[name]


def test_a_state_of_other_methods_is_refused() -> None:
    state = optimization(Quadratic(), "adamw").state()
    with pytest.raises(ValueError, match="moving average"):
        optimization(Quadratic(), "adamw", ema=0.9).restore(state)
    with pytest.raises(ValueError, match="group"):
        optimization(Quadratic(), "adamw", rates={"matrix": 0.1}).restore(state)


# -------------------------------------------------------------------------------------------- backstitch


def test_backstitch_steps_back_and_then_further_forward() -> None:
    """Wang et al. 2017, on every second batch; sgd on the others."""
    model, size = Quadratic(), 0.3
    optimized = optimization(model, "sgd", backstitch=size, backstitch_interval=2)
    w = model.matrix.detach().numpy().copy()
    for batch, factor in enumerate((1.0, 0.5, 0.25)):
        before = model().item()
        found, update = optimized.learn(lambda: Loss(model(), {}), factor)
        assert found.mean.item() == before
        assert not update.skipped
        rate = RATE * factor
        if batch % 2 == 0:
            w = w + size * rate * gradient(w)
            w = w - (1 + size) * rate * gradient(w)
        else:
            w = w - rate * gradient(w)
        np.testing.assert_allclose(model.matrix.detach().numpy(), w, rtol=1e-12)
        assert optimized.current_learning_rate == rate


def test_both_passes_of_backstitch_drop_the_same_units_and_the_next_batch_others() -> None:
    model, drawn = nn.Linear(50, 1), []

    def loss() -> Loss:
        dropped = F.dropout(torch.ones(50))
        drawn.append(dropped)
        return Loss(model(dropped).sum(), {})

    optimized = optimization(model, "sgd", backstitch=0.3)
    torch.manual_seed(1)
    optimized.learn(loss, 1.0)
    optimized.learn(loss, 1.0)
    first, again, second, _ = drawn
    assert torch.equal(first, again)
    assert not torch.equal(first, second)
    torch.manual_seed(1)
    assert torch.equal(first, F.dropout(torch.ones(50)))
    assert torch.equal(second, F.dropout(torch.ones(50)))


@pytest.mark.parametrize("bad", [1, 2])
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_backstitch_leaves_the_weights_where_a_gradient_is_not_finite(bad: int, precision: str) -> None:
    model = nn.Linear(3, 2)
    optimized = optimization(model, "sgd", precision=precision, backstitch=0.3)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    passes = iter((1, 2))

    def loss() -> Loss:
        scale = float("inf") if next(passes) == bad else 1.0
        return Loss(model(torch.ones(3)).sum() * scale, {})

    _, update = optimized.learn(loss, 1.0)
    assert update.skipped
    assert all(map(torch.equal, model.parameters(), before))
    assert {group["lr"] for group in optimized.optimizer.param_groups} == {RATE}  # which the log tells
    _, update = optimized.learn(lambda: Loss(model(torch.ones(3)).sum(), {}), 1.0)
    assert not update.skipped
    torch.testing.assert_close(model.bias.detach(), before[1] - RATE)  # a constant gradient of 1: a plain step


def test_backstitch_is_of_sgd() -> None:
    with pytest.raises(ConfigError, match="adam"):
        optimization(Quadratic(), "adam", backstitch=0.3)
    with pytest.raises(ValueError, match="backstitch is of optimizer sgd"):
        Training(optimizer="adam", backstitch=0.3)


def test_nesterov_needs_momentum() -> None:
    with pytest.raises(ValueError, match="needs a momentum"):
        Training(optimizer="nesterov", momentum=0)


# -------------------------------------------------------------------------- penalties, limits and averages


def test_gradients_are_cut_to_the_value() -> None:
    model = Quadratic()
    before = model.matrix.detach().numpy().copy()
    expected = np.clip(gradient(before), -0.5, 0.5)
    assert (np.abs(gradient(before)) > 0.5).any() and (np.abs(gradient(before)) < 0.5).any()
    optimized = optimization(model, "sgd", clip_value=0.5)
    update = optimized.step(model(), 1.0)
    np.testing.assert_allclose(model.matrix.detach().numpy(), before - RATE * expected, rtol=1e-12)
    assert update.gradient_norm > 0.5 * 3  # before it is cut


@pytest.mark.parametrize("name", ["sgd", "momentum", "adamw"])
def test_an_l1_penalty_finds_the_lasso(name: str) -> None:
    """Of orthonormal inputs the solution is known: the weights of least squares, each moved towards zero."""
    rng = np.random.default_rng(1)
    inputs = np.linalg.qr(rng.normal(size=(64, 8)))[0] * 8
    targets = inputs @ [3.0, -2.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0] + rng.normal(size=64)
    least_squares = inputs.T @ targets / 64
    lasso = np.sign(least_squares) * np.maximum(np.abs(least_squares) - 0.4, 0)
    assert (lasso[3:] == 0).all() and (lasso[:3] != 0).all() and (least_squares != 0).all()
    model = nn.Linear(8, 1, bias=False).double()
    optimized = optimization(model, name, l1=0.4)
    x, y = torch.from_numpy(inputs), torch.from_numpy(targets)
    for step in range(1000):
        optimized.step((model(x)[:, 0] - y).square().mean() / 2, 1 / (1 + step / 50))
    weights = model.weight[0].detach().numpy()
    assert np.abs(least_squares[3:]).max() > 0.1
    np.testing.assert_allclose(weights, lasso, atol=0.01)


def test_l1_leaves_biases_and_is_not_clipped() -> None:
    model = nn.Linear(3, 2)
    bias = model.bias.detach().clone()
    weight = model.weight.detach().clone()
    optimization(model, "sgd", l1=0.5, clip_norm=1e-3).step(model(torch.zeros(3)).sum() * 0, 1.0)
    assert torch.equal(model.bias, bias)
    torch.testing.assert_close(model.weight.detach(), weight - RATE * 0.5 * weight.sign())


def test_norms_keep_their_limit_after_every_step() -> None:
    model = nn.Linear(4, 3)
    optimized = optimization(model, "sgd", learning_rate=1.0, max_norm=0.7)
    for _ in range(3):
        optimized.step(-model(torch.ones(4)).sum(), 1.0)
        torch.testing.assert_close(model.weight.detach().norm(dim=1), torch.full((3,), 0.7))
    assert model.bias.detach().min() > 2


def test_the_moving_average_is_the_weighted_mean_of_all_steps() -> None:
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    optimized = optimization(model, "adamw", ema=0.8)
    history, inputs = [], torch.randn(5, 3, generator=torch.Generator().manual_seed(1))
    for _ in range(6):
        optimized.step(model(inputs).pow(3).sum(), 1.0)
        history.append(model[0].weight.detach().double().clone())
    raw = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    weights = [0.8 ** (6 - t) for t in range(1, 7)]
    expected = sum(w * h for w, h in zip(weights, history, strict=True)) / sum(weights)
    with optimized.averaged():
        torch.testing.assert_close(model[0].weight.detach().double(), expected, rtol=1e-6, atol=1e-7)
        assert torch.equal(model[1].running_mean, raw["1.running_mean"])
        assert model[1].running_mean.abs().sum() > 0
    assert all(torch.equal(tensor, raw[name]) for name, tensor in model.state_dict().items())


def test_a_skipped_step_is_not_averaged() -> None:
    model = nn.Linear(2, 1)
    optimized = optimization(model, "sgd", ema=0.5)
    optimized.step(model(torch.ones(2)).sum(), 1.0)
    first = model.weight.detach().clone()
    optimized.step(model(torch.ones(2)).sum() * float("nan"), 1.0)
    assert optimized.average is not None and optimized.average.count == 1
    with optimized.averaged():
        assert torch.equal(model.weight, first)


# ------------------------------------------------------------------------------------- parts of the model


def parts() -> nn.ModuleDict:
    return nn.ModuleDict(
        {
            "frontend": nn.Linear(2, 2),
            "encoder": nn.ModuleDict({"a": nn.Linear(2, 2), "b": nn.Linear(2, 2)}),
            "encoders": nn.Linear(2, 2),
        }
    )


def test_each_part_goes_by_its_own_rate_and_frozen_parts_stay() -> None:
    model = parts()
    before = {name: tensor.detach().clone() for name, tensor in model.named_parameters()}
    rates = {"frontend": 0.0, "encoder": 0.1, "encoder.b": 0.5}
    optimized = optimization(model, "sgd", rates=rates, max_norm=10.0, weight_decay=0.0)
    for _ in range(2):
        optimized.step(sum(parameter.sum() for parameter in model.parameters()), 1.0)
    expected = {"frontend": 0.0, "encoder.a": 0.1, "encoder.b": 0.5, "encoders": 1.0}
    for name, parameter in model.named_parameters():
        moved = before[name] - 2 * RATE * expected[name.rpartition(".")[0]]
        torch.testing.assert_close(parameter.detach(), moved)
    assert torch.equal(model["frontend"].weight, before["frontend.weight"])
    assert optimized.current_learning_rate == pytest.approx(RATE)


def test_max_norm_leaves_what_is_frozen() -> None:
    model = parts()
    before = model["frontend"].weight.detach().clone()
    optimization(model, "sgd", rates={"frontend": 0.0}, max_norm=0.01).step(
        model["encoders"](torch.ones(2)).sum(), 1
    )
    assert torch.equal(model["frontend"].weight, before)
    assert model["encoders"].weight.norm(dim=1).max() <= 0.0101


def test_parts_that_are_not_there_and_models_without_any_left_are_named() -> None:
    with pytest.raises(ConfigError, match=r"no part 'front'.*\n.*encoder, encoders, frontend"):
        optimization(parts(), "sgd", rates={"front": 0.1})
    with pytest.raises(ConfigError, match="frozen"):
        optimization(Quadratic(), "sgd", rates={"matrix": 0.0, "vector": 0.0})


def test_a_training_goes_on_where_gradients_are_scaled() -> None:
    """As one that began on a CPU does on a GPU."""
    before, after = (optimization(nn.Linear(2, 1)) for _ in range(2))
    after.scaler = torch.amp.grad_scaler.GradScaler("cpu")
    before.step(before.model(torch.ones(1, 2)).sum(), 1.0)
    after.restore(before.state())
    torch.testing.assert_close(after.model.state_dict(), before.model.state_dict())
    assert after.scaler.get_scale() == 2**16
