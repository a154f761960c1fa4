"""Kinds of dropout: what they zero together, that they keep the mean, and that recognition knows none of it."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch

from asr.model.dropout import DROPOUTS, LockedDropout, dropout
from asr.model.encoder import EncoderLayer, LayerSettings, RecurrentLayer
from asr.model.frontend import ConvSettings, MaskedConv


@pytest.mark.parametrize("bins", [(), (5,)])
def test_a_locked_mask_is_drawn_for_each_utterance_and_channel_and_holds_for_all_frames(
    bins: tuple[int, ...],
) -> None:
    torch.manual_seed(1)
    y = LockedDropout(0.3).train()(torch.ones(200, 50, 7, *bins))
    first = y.flatten(2)[:, :, :1]
    assert torch.equal(y.flatten(2), first.expand(-1, -1, y[0, 0].numel()))
    torch.testing.assert_close(first.unique(), torch.tensor([0, 1 / 0.7]))
    kept = (first[:, :, 0] > 0).double()
    standard_error = (0.3 * 0.7) ** 0.5
    assert abs(kept.mean() - 0.7) < 5 * standard_error / 10_000**0.5
    assert (kept.mean(0) - 0.7).abs().max() < 5 * standard_error / 200**0.5  # no channel is special
    assert (kept.mean(1) - 0.7).abs().max() < 5 * standard_error / 50**0.5  # no utterance is special


def test_ordinary_dropout_changes_from_frame_to_frame() -> None:
    torch.manual_seed(1)
    y = DROPOUTS["ordinary"](0.5).train()(torch.ones(4, 8, 20))
    assert not torch.equal(y, y[:, :, :1].expand_as(y))


@pytest.mark.parametrize("p", [0.001, 0.1, 0.5, 0.97])
@pytest.mark.parametrize("transposed", [False, True])
def test_values_are_dropped_one_by_one_at_the_rate_that_was_asked_for(p: float, transposed: bool) -> None:
    torch.manual_seed(1)
    x = torch.full((37, 101, 271), 3.0)
    x = (x.transpose(1, 2) if transposed else x).requires_grad_()
    y = dropout(x, p)
    kept = y != 0
    torch.testing.assert_close(y[kept].unique(), torch.tensor([3 / (1 - p)]), rtol=1e-3, atol=0)
    error = ((1 - p) * p) ** 0.5
    assert abs(kept.double().mean() - (1 - p)) < 5 * error / x.numel() ** 0.5 + 2**-17
    for axis in range(3):  # as often everywhere, and whatever happens to the neighbours
        shares = kept.double().mean([other for other in range(3) if other != axis])
        assert (shares - (1 - p)).abs().max() < 6 * error / (x.numel() / x.shape[axis]) ** 0.5
        ahead, behind = kept.narrow(axis, 1, x.shape[axis] - 1), kept.narrow(axis, 0, x.shape[axis] - 1)
        assert abs((ahead == behind).double().mean() - (p**2 + (1 - p) ** 2)) < 0.003
    y.sum().backward()
    torch.testing.assert_close(x.grad * 3, y.detach())


@pytest.mark.parametrize("p", [0.0, 1e-7, 1.0])
def test_nothing_and_everything_can_be_dropped(p: float) -> None:
    x = torch.ones(3, 5, requires_grad=True)
    y = dropout(x, p)
    y.sum().backward()
    torch.testing.assert_close(y.detach(), torch.full((3, 5), float(p < 1)))
    torch.testing.assert_close(x.grad, y.detach())
    assert dropout(x[:0], 0.5).shape == (0, 5)
    assert dropout(x.bfloat16(), 0.5).dtype == torch.bfloat16


@pytest.mark.parametrize("kind", DROPOUTS)
def test_recognition_drops_nothing(kind: str) -> None:
    x = torch.randn(2, 8, 5)
    assert torch.equal(DROPOUTS[kind](0.5).eval()(x), x)


@pytest.mark.parametrize("kind", DROPOUTS)
def test_the_mean_is_kept(kind: str) -> None:
    torch.manual_seed(1)
    x = torch.randn(1, 2000, 1).expand(300, -1, 1)
    y = DROPOUTS[kind](0.2).train()(x)
    torch.testing.assert_close(y.mean(), x.mean(), atol=0.02, rtol=0)


@pytest.mark.parametrize("kind", ["ordinary", "locked"])
def test_an_encoders_units_are_locked_over_time_if_asked(kind: str) -> None:
    """Normalised outputs are never zero by themselves, so zeros are what dropout made."""
    torch.manual_seed(1)
    layer = EncoderLayer(4, LayerSettings("gru", hidden=16, dropout=0.5, dropout_kind=kind)).train()
    y = layer(torch.randn(3, 9, 4), torch.tensor([9, 9, 9]), torch.ones(3, 9, dtype=torch.bool))
    zeroed = (y == 0).float().mean(1)  # (utterances, units)
    assert 0 < zeroed.mean() < 1
    assert bool(((zeroed == 0) | (zeroed == 1)).all()) == (kind == "locked")
    if kind == "locked":
        assert not torch.equal(zeroed[0], zeroed[1])


def test_a_front_ends_channels_are_dropped_whole() -> None:
    torch.manual_seed(1)
    settings = ConvSettings("softplus", dropout=0.5)  # which is never zero
    conv = MaskedConv(2, 3, 16, settings, kernel=3, drop=True).train()
    y, _ = conv(torch.randn(4, 3, 9, 5), torch.tensor([9, 9, 9, 9]))
    zeroed = (y == 0).float().flatten(2).mean(2)
    assert set(zeroed.unique().tolist()) == {0.0, 1.0}


# ---------------------------------------------------------------------------------- of recurrent weights


@pytest.fixture(params=["lstm", "gru"])
def layer(request: pytest.FixtureRequest) -> RecurrentLayer:
    torch.manual_seed(1)
    return RecurrentLayer(5, LayerSettings(request.param, hidden=7, weight_dropout=0.5)).train()


X, LENGTHS = torch.linspace(-2, 2, 3 * 11 * 5).sin().view(3, 11, 5), torch.tensor([11, 8, 3])


def test_dropped_weights_are_those_between_hidden_states_alone(layer: RecurrentLayer) -> None:
    """The gradient of a dropped weight is zero; at the first frame, whose state is zero, nothing is dropped."""
    layer(X, LENGTHS).square().sum().backward()
    for rnn in (layer.forward_rnn, layer.backward_rnn):
        shares = {name: (parameter.grad == 0).float().mean() for name, parameter in rnn.named_parameters()}
        assert 0.3 < shares.pop("weight_hh_l0") < 0.7
        assert not any(shares.values())
    zeros = [rnn.weight_hh_l0.grad == 0 for rnn in (layer.forward_rnn, layer.backward_rnn)]
    assert not torch.equal(*zeros)  # each direction draws its own
    first = layer.forward_rnn(X[:, :1])[0]
    torch.testing.assert_close(layer(X, LENGTHS)[:, :1, :7], first)


def test_a_forward_pass_is_that_of_a_network_with_the_dropped_weights(layer: RecurrentLayer) -> None:
    generator = torch.get_rng_state()
    found = layer(X, LENGTHS)
    torch.set_rng_state(generator)
    other = deepcopy(layer).eval()
    with torch.no_grad():
        for rnn in (other.forward_rnn, other.backward_rnn):
            rnn.weight_hh_l0.copy_(dropout(rnn.weight_hh_l0, 0.5))
    torch.testing.assert_close(found, other(X, LENGTHS))


def test_nothing_of_it_is_left_behind(layer: RecurrentLayer) -> None:
    untouched = deepcopy(layer)
    names = [name for name, _ in layer.named_parameters()]
    assert not torch.equal(layer(X, LENGTHS), layer(X, LENGTHS))
    assert [name for name, _ in layer.named_parameters()] == names
    for name, tensor in layer.state_dict().items():
        assert torch.equal(tensor, untouched.state_dict()[name])
    expected = untouched.eval()(X, LENGTHS)
    assert torch.equal(layer.eval()(X, LENGTHS), expected)
    assert torch.equal(deepcopy(layer.train()).eval()(X, LENGTHS), expected)


def test_it_follows_torchs_generator(layer: RecurrentLayer) -> None:
    """On which the exact resumption of a training depends."""
    answers = []
    for _ in range(2):
        torch.manual_seed(7)
        answers.append(layer(X, LENGTHS))
    assert torch.equal(*answers)


def test_an_optimiser_moves_the_layers_own_weights(layer: RecurrentLayer) -> None:
    before = {name: parameter.clone() for name, parameter in layer.named_parameters()}
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    layer(X, LENGTHS).square().sum().backward()
    optimizer.step()
    for name, parameter in layer.named_parameters():
        torch.testing.assert_close(parameter, before[name] - 0.1 * parameter.grad)
        assert not torch.equal(parameter, before[name])
