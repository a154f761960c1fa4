"""Normalisations: torch's own, on the valid frames alone."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm as torch_weight_norm

from asr.lengths import valid_mask
from asr.model.frontend import ConvSettings, MaskedConv
from asr.model.normalization import NORMALIZATIONS, FrameLayerNorm, MaskedBatchNorm, MaskedGroupNorm, weight_norm

CHANNELS, TIME = 6, 9
BINS = pytest.mark.parametrize("bins", [(), (4,)], ids=["1-D", "2-D"])


def batch(lengths: list[int], bins: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Random features with something in the padding, and the mask of their valid frames."""
    x = 3 * torch.randn(len(lengths), CHANNELS, TIME, *bins) + 2
    return x, valid_mask(torch.tensor(lengths), TIME).view(len(lengths), 1, TIME, *(1 for _ in bins))


def with_random_affine(norm: nn.Module) -> nn.Module:
    with torch.no_grad():
        norm.weight.uniform_(0.5, 2)
        norm.bias.normal_()
    return norm


@BINS
def test_batch_norm_is_torchs_on_the_valid_frames(bins: tuple[int, ...]) -> None:
    torch.manual_seed(1)
    lengths = [9, 4, 1]
    ours, reference = MaskedBatchNorm(CHANNELS), nn.BatchNorm1d(CHANNELS)
    x, mask = batch(lengths, bins)
    x.requires_grad_()
    valid = torch.cat([x[row, :, :length].flatten(1).T for row, length in enumerate(lengths)])  # (frames, channels)
    found, expected = ours(x, mask), reference(valid)
    mine = torch.cat([found[row, :, :length].flatten(1).T for row, length in enumerate(lengths)])
    torch.testing.assert_close(mine, expected)
    torch.testing.assert_close(ours.running_mean, reference.running_mean)
    torch.testing.assert_close(ours.running_var, reference.running_var)
    weights = torch.randn_like(mine)
    mine_gradient = torch.autograd.grad((mine * weights).sum(), x, retain_graph=True)[0]
    torch.testing.assert_close(mine_gradient, torch.autograd.grad((expected * weights).sum(), x)[0])


def torch_layer_norm(x: Tensor, norm: FrameLayerNorm) -> Tensor:
    frames = F.layer_norm(x.transpose(1, 2), (CHANNELS, *x.shape[3:])).transpose(1, 2)
    shape = (1, -1, *(1,) * (x.ndim - 2))
    return frames * norm.weight.view(shape) + norm.bias.view(shape)


def torch_group_norm(x: Tensor, norm: MaskedGroupNorm) -> Tensor:
    return F.group_norm(x, norm.groups, norm.weight, norm.bias)


def torch_instance_norm(x: Tensor, norm: MaskedGroupNorm) -> Tensor:
    return F.instance_norm(x, weight=norm.weight, bias=norm.bias)


@pytest.mark.parametrize(
    ("kind", "reference"),
    [("layer", torch_layer_norm), ("group", torch_group_norm), ("instance", torch_instance_norm)],
)
@BINS
def test_the_others_are_torchs_on_each_utterance_alone(kind: str, reference, bins: tuple[int, ...]) -> None:
    torch.manual_seed(1)
    lengths = [9, 4, 2]
    norm = with_random_affine(NORMALIZATIONS[kind](CHANNELS, 3))
    x, mask = batch(lengths, bins)
    x.requires_grad_()
    found = norm(x, mask)
    for row, length in enumerate(lengths):
        alone = x[row : row + 1, :, :length]
        mine, expected = found[row : row + 1, :, :length], reference(alone, norm)
        torch.testing.assert_close(mine, expected)
        weights = torch.randn_like(mine)
        mine_gradient = torch.autograd.grad((mine * weights).sum(), x, retain_graph=True)[0]
        expected_gradient = torch.autograd.grad((expected * weights).sum(), x, retain_graph=True)[0]
        torch.testing.assert_close(mine_gradient, expected_gradient, atol=1e-5, rtol=1e-4)


def test_layer_norm_of_plain_frames_is_torchs_module() -> None:
    torch.manual_seed(1)
    ours, reference = with_random_affine(FrameLayerNorm(CHANNELS)), nn.LayerNorm(CHANNELS)
    reference.load_state_dict(ours.state_dict())
    x, mask = batch([9, 4], ())
    assert torch.equal(ours(x, mask).transpose(1, 2), reference(x.transpose(1, 2)))


@pytest.mark.parametrize(("channels", "asked", "found"), [(12, 4, 4), (12, 8, 4), (7, 8, 1), (8, 8, 8)])
def test_groups_that_do_not_divide_the_channels(channels: int, asked: int, found: int) -> None:
    assert NORMALIZATIONS["group"](channels, asked).groups == found


@pytest.mark.parametrize("kind", ["batch", "layer", "group", "instance"])
@given(data=st.data())
def test_what_stands_in_the_padding_does_not_matter(kind: str, data: st.DataObject) -> None:
    lengths = data.draw(st.lists(st.integers(1, TIME), min_size=1, max_size=4))
    torch.manual_seed(data.draw(st.integers(0, 9)))
    norm = with_random_affine(NORMALIZATIONS[kind](CHANNELS, 2))
    x, mask = batch(lengths, (4,))
    other = torch.where(mask, x, 100.0)
    torch.testing.assert_close(deepcopy(norm)(x, mask) * mask, deepcopy(norm)(other, mask) * mask)


def test_an_utterance_of_one_frame_has_no_variance() -> None:
    """Of which torch's own instance normalisation makes an error; here it is the shift alone."""
    norm = with_random_affine(NORMALIZATIONS["instance"](CHANNELS, 1))
    x, mask = batch([1], ())
    torch.testing.assert_close(norm(x, mask)[0, :, 0], norm.bias)


# -------------------------------------------------------------------------------------- of the weights


@pytest.mark.parametrize("dims", [1, 2])
def test_normalised_weights_are_torchs_parametrisation(dims: int) -> None:
    torch.manual_seed(1)
    convolution = {1: nn.Conv1d, 2: nn.Conv2d}[dims]
    direction, gain = convolution(3, 5, 3).weight.detach(), torch.rand(5) + 0.5
    reference = torch_weight_norm(convolution(3, 5, 3, bias=False))
    parts = reference.parametrizations.weight
    with torch.no_grad():
        parts.original0.copy_(gain.view(parts.original0.shape))
        parts.original1.copy_(direction)
    found = weight_norm(direction, gain)
    torch.testing.assert_close(found, reference.weight)
    torch.testing.assert_close(found.flatten(1).norm(dim=1), gain)


@pytest.mark.parametrize("dims", [1, 2])
def test_a_weight_normalised_convolution_starts_as_a_plain_one(dims: int) -> None:
    x, lengths = torch.randn(2, 3, 8, *(5,) * (dims - 1)), torch.tensor([8, 8])
    answers = []
    for normalization in ("none", "weight"):
        torch.manual_seed(1)
        answers.append(MaskedConv(dims, 3, 4, ConvSettings(normalization=normalization), kernel=3)(x, lengths)[0])
    torch.testing.assert_close(*answers)


def test_the_length_of_a_normalised_weight_does_not_count() -> None:
    torch.manual_seed(1)
    conv = MaskedConv(1, 3, 4, ConvSettings(normalization="weight"), kernel=3)
    x, lengths = torch.randn(2, 3, 8), torch.tensor([8, 5])
    before = conv(x, lengths)[0]
    with torch.no_grad():
        conv.conv.weight.mul_(7)
    torch.testing.assert_close(conv(x, lengths)[0], before)
    with torch.no_grad():
        conv.gain.mul_(2)
        conv.conv.bias.mul_(2)
    torch.testing.assert_close(conv(x, lengths)[0], 2 * before)


@pytest.mark.parametrize("kind", NORMALIZATIONS)
def test_a_models_file_holds_plain_names(kind: str) -> None:
    norm = {"weight", "bias"} | ({"running_mean", "running_var"} if kind == "batch" else set())
    expected = {
        "none": {"conv.weight", "conv.bias"},
        "weight": {"conv.weight", "conv.bias", "gain"},
    }.get(kind, {"conv.weight"} | {f"norm.{name}" for name in norm})
    conv = MaskedConv(1, 8, 8, ConvSettings(normalization=kind), kernel=3)
    assert set(conv.state_dict()) == expected


def test_statistics_keep_nothing_of_a_batch_that_overflows() -> None:
    norm, mask = MaskedBatchNorm(3), torch.ones(2, 1, 5, dtype=torch.bool)
    norm(torch.randn(2, 3, 5), mask)
    kept = norm.running_mean.clone(), norm.running_var.clone()
    x = torch.randn(2, 3, 5)
    x[0, 1, 2] = torch.inf
    norm(x, mask)
    for now, then in zip((norm.running_mean, norm.running_var), kept, strict=True):
        assert now[1] == then[1]
        assert (now != then).tolist() == [True, False, True]


def test_statistics_keep_nothing_of_a_batch_without_a_valid_frame() -> None:
    norm = MaskedBatchNorm(3)
    norm(torch.randn(2, 3, 5), torch.ones(2, 1, 5, dtype=torch.bool))
    kept = norm.running_mean.clone(), norm.running_var.clone()
    norm(torch.randn(2, 3, 5), torch.zeros(2, 1, 5, dtype=torch.bool))
    assert torch.equal(norm.running_mean, kept[0])
    assert torch.equal(norm.running_var, kept[1])
