"""CNN front-ends: features (batch, time, bins) to fewer, richer frames (batch, time', channels).

Padding never reaches a result: the input of every convolution is zero past each utterance's end, which is what
the convolution's own zero padding gives an utterance alone, and normalisations see valid frames only.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from asr.lengths import LengthT, conv_length, valid_mask
from asr.model.activations import ACTIVATIONS
from asr.model.dropout import DROPOUTS
from asr.model.initialization import INITIALIZERS
from asr.model.normalization import NORMALIZATIONS, weight_norm


@dataclass(frozen=True)
class ConvSettings:
    """What all convolutions of a front-end have in common.

    Attributes:
        activation: a name of `ACTIVATIONS`.
        normalization: a name of `NORMALIZATIONS`.
        groups: of group normalisation; of a convolution whose channels they do not divide, their greatest common
            divisor.
        dropout: after each block.
        dropout_kind: a name of `DROPOUTS`.
        initialization: a name of `INITIALIZERS`.
    """

    activation: str = "relu"
    normalization: str = "batch"
    groups: int = 8
    dropout: float = 0.0
    dropout_kind: str = "locked"
    initialization: str = "he_normal"


class MaskedConv(nn.Module):
    """Convolution, normalisation, activation and dropout, without a look at the padding.

    Args:
        dims: 1, over time with the bins as channels, or 2, over time and bins.
        in_channels, out_channels: channels.
        settings: see `ConvSettings`.
        kernel: width in time and, for 2-D, in bins; odd.
        stride: in time.
        bin_stride: in bins, 2-D only.
        activate, drop: whether the activation and the dropout come here.
    """

    def __init__(
        self,
        dims: int,
        in_channels: int,
        out_channels: int,
        settings: ConvSettings,
        *,
        kernel: int,
        stride: int = 1,
        bin_stride: int = 1,
        activate: bool = True,
        drop: bool = False,
    ) -> None:
        super().__init__()
        self.kernel, self.stride, self.bin_stride = kernel, stride, bin_stride
        self.padding = kernel // 2
        norm = NORMALIZATIONS[settings.normalization](out_channels, settings.groups)
        bias = norm is None  # the normalisation has one
        self.conv: nn.Conv1d | nn.Conv2d
        if dims == 1:
            self.conv = nn.Conv1d(in_channels, out_channels, kernel, stride, self.padding, bias=bias)
        else:
            strides = (stride, bin_stride)
            self.conv = nn.Conv2d(in_channels, out_channels, kernel, strides, self.padding, bias=bias)
        INITIALIZERS[settings.initialization](self.conv.weight)
        self.gain: nn.Parameter | None = None
        if settings.normalization == "weight":  # normalised weights start as they were drawn
            self.gain = nn.Parameter(self.conv.weight.detach().flatten(1).norm(dim=1))
        self.norm = norm
        self.activation = ACTIVATIONS[settings.activation]() if activate else nn.Identity()
        self.dropout = DROPOUTS[settings.dropout_kind](settings.dropout if drop else 0.0)

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Map (batch, channels, time[, bins]), zero past `lengths`, to the same with its new lengths."""
        x = self._convolve(x)
        lengths = self.output_length(lengths)
        mask = _mask(lengths, x)
        if self.norm is not None:
            x = self.norm(x, mask)
        return self.dropout(self.activation(x)) * mask, lengths

    def _convolve(self, x: Tensor) -> Tensor:
        weight = self.conv.weight if self.gain is None else weight_norm(self.conv.weight, self.gain)
        # Where one place is left, any stride is as good as 1. In bf16, oneDNN gets others wrong there (torch 2.11):
        # values and gradients may be what was in memory before.
        places = [self._places(size, step) for size, step in zip(x.shape[2:], self.conv.stride, strict=True)]
        strides = [1 if left == 1 else step for left, step in zip(places, self.conv.stride, strict=True)]
        convolve = F.conv1d if isinstance(self.conv, nn.Conv1d) else F.conv2d
        out = convolve(x, weight, self.conv.bias, strides, self.padding)
        for dimension, left in enumerate(places, start=2):
            out = out.narrow(dimension, 0, left)
        return out

    def _places(self, size: int, stride: int) -> int:
        return conv_length(size, self.kernel, stride, self.padding)

    def output_length(self, length: LengthT) -> LengthT:
        """Frames out for frames in."""
        return conv_length(length, self.kernel, self.stride, self.padding)

    def output_bins(self, bins: int) -> int:
        """Bins out for bins in (2-D)."""
        return self._places(bins, self.bin_stride)


class PlainBlock(nn.Module):
    """One strided convolution, as in Deep Speech 2 (Amodei et al. 2016)."""

    def __init__(
        self, dims: int, in_channels: int, channels: int, stride: int, kernel: int, settings: ConvSettings
    ) -> None:
        super().__init__()
        self.conv = MaskedConv(
            dims, in_channels, channels, settings, kernel=kernel, stride=stride, bin_stride=2, drop=True
        )

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """See `MaskedConv.forward`."""
        out: tuple[Tensor, Tensor] = self.conv(x, lengths)
        return out

    def output_length(self, length: LengthT) -> LengthT:
        """Frames out for frames in."""
        return self.conv.output_length(length)

    def output_bins(self, bins: int) -> int:
        """Bins out for bins in."""
        return self.conv.output_bins(bins)


class VggBlock(nn.Module):
    """Two 3×3 convolutions and a max-pooling of `stride` in time and 2 in bins (Simonyan and Zisserman 2015)."""

    def __init__(self, in_channels: int, channels: int, stride: int, settings: ConvSettings) -> None:
        super().__init__()
        self.stride = stride
        self.first = MaskedConv(2, in_channels, channels, settings, kernel=3)
        self.second = MaskedConv(2, channels, channels, settings, kernel=3, drop=True)

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """See `MaskedConv.forward`."""
        x, lengths = self.second(*self.first(x, lengths))
        x = _padding_below_all(x, lengths)
        # A last window that is not full is kept, so every frame has a part in the output.
        x = F.max_pool2d(x, (self.stride, 2), ceil_mode=True)
        lengths = self.output_length(lengths)
        return x.masked_fill(~_mask(lengths, x), 0.0), lengths

    def output_length(self, length: LengthT) -> LengthT:
        """Frames out for frames in."""
        return (length + self.stride - 1) // self.stride

    def output_bins(self, bins: int) -> int:
        """Bins out for bins in."""
        return (bins + 1) // 2


class ResidualBlock(nn.Module):
    """Two 3×3 convolutions and a shortcut (He et al. 2016).

    The shortcut is the identity where the shape stays, else a strided 1×1 projection.
    """

    def __init__(self, in_channels: int, channels: int, stride: int, settings: ConvSettings) -> None:
        super().__init__()
        bin_stride = 2 if stride > 1 else 1
        self.first = MaskedConv(2, in_channels, channels, settings, kernel=3, stride=stride, bin_stride=bin_stride)
        self.second = MaskedConv(2, channels, channels, settings, kernel=3, activate=False, drop=True)
        self.shortcut: MaskedConv | None = None
        if stride > 1 or in_channels != channels:
            self.shortcut = MaskedConv(
                2, in_channels, channels, settings, kernel=1, stride=stride, bin_stride=bin_stride, activate=False
            )
        self.activation = ACTIVATIONS[settings.activation]()

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """See `MaskedConv.forward`."""
        residual = x if self.shortcut is None else self.shortcut(x, lengths)[0]
        x, lengths = self.second(*self.first(x, lengths))
        return self.activation(x + residual) * _mask(lengths, x), lengths

    def output_length(self, length: LengthT) -> LengthT:
        """Frames out for frames in."""
        return self.first.output_length(length)

    def output_bins(self, bins: int) -> int:
        """Bins out for bins in."""
        return self.first.output_bins(bins)


class InceptionBlock(nn.Module):
    """Parallel 1×1, 3×3, 5×5 and pooling branches behind 1×1 bottlenecks (Szegedy et al. 2015, figure 2b)."""

    def __init__(self, in_channels: int, channels: int, stride: int, settings: ConvSettings) -> None:
        super().__init__()
        quarter = channels // 4
        bottleneck = max(quarter // 2, 1)
        bin_stride = 2 if stride > 1 else 1

        def conv(ins: int, outs: int, kernel: int, strided: bool) -> MaskedConv:
            time_step, bin_step = (stride, bin_stride) if strided else (1, 1)
            return MaskedConv(
                2, ins, outs, settings, kernel=kernel, stride=time_step, bin_stride=bin_step, drop=strided
            )

        self.point = conv(in_channels, channels - 3 * quarter, 1, strided=True)
        self.reduce3, self.branch3 = (
            conv(in_channels, bottleneck, 1, False),
            conv(bottleneck, quarter, 3, True),
        )
        self.reduce5, self.branch5 = (
            conv(in_channels, bottleneck, 1, False),
            conv(bottleneck, quarter, 5, True),
        )
        self.pool = conv(in_channels, quarter, 1, strided=True)

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """See `MaskedConv.forward`."""
        pooled = F.max_pool2d(_padding_below_all(x, lengths), 3, stride=1, padding=1)
        pooled = pooled.masked_fill(~_mask(lengths, x), 0.0)
        point, out_lengths = self.point(x, lengths)
        branches = [
            point,
            self.branch3(*self.reduce3(x, lengths))[0],
            self.branch5(*self.reduce5(x, lengths))[0],
            self.pool(pooled, lengths)[0],
        ]
        return torch.cat(branches, dim=1), out_lengths

    def output_length(self, length: LengthT) -> LengthT:
        """Frames out for frames in."""
        return self.point.output_length(length)

    def output_bins(self, bins: int) -> int:
        """Bins out for bins in."""
        return self.point.output_bins(bins)


Block = PlainBlock | VggBlock | ResidualBlock | InceptionBlock


class Frontend(nn.Module):
    """A stack of CNN blocks.

    Args:
        kind: conv1d (over time, the bins as channels: the cheapest), conv2d, vgg, resnet or inception.
        input_dim: feature bins.
        channels: output channels of each block.
        strides: stride in time of each block.
        kernel: width of the convolutions of conv1d and conv2d, odd.
        settings: of all convolutions.

    Attributes:
        dim: width of the output frames.
        subsampling: product of the strides.
    """

    def __init__(
        self,
        kind: str,
        input_dim: int,
        channels: Sequence[int],
        strides: Sequence[int],
        kernel: int,
        settings: ConvSettings,
    ) -> None:
        super().__init__()
        self.two_dimensional = kind != "conv1d"
        self.subsampling = math.prod(strides)
        blocks: list[Block] = []
        previous, bins = (1, input_dim) if self.two_dimensional else (input_dim, 1)
        for width, stride in zip(channels, strides, strict=True):
            block = _block(kind, previous, width, stride, kernel, settings)
            previous = width
            if self.two_dimensional:
                bins = block.output_bins(bins)
            blocks.append(block)
        self.blocks = nn.ModuleList(blocks)
        self.dim = previous * bins

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Map features (batch, time, bins) and lengths to (batch, time', dim), zero past its lengths."""
        x = features * valid_mask(lengths, features.shape[1])[:, :, None]
        x = x[:, None] if self.two_dimensional else x.transpose(1, 2)
        for block in self.blocks:
            x, lengths = block(x, lengths)
        # (batch, channels, time[, bins]) → (batch, time, channels[ × bins])
        x = x.transpose(1, 2)
        return x.flatten(2), lengths

    def output_length(self, length: LengthT) -> LengthT:
        """Frames out for frames in, without computing them."""
        for block in self._typed_blocks():
            length = block.output_length(length)
        return length

    def _typed_blocks(self) -> Iterable[Block]:
        return cast("Iterable[Block]", self.blocks)


def _block(kind: str, in_channels: int, channels: int, stride: int, kernel: int, settings: ConvSettings) -> Block:
    if kind in ("conv1d", "conv2d"):
        return PlainBlock(1 if kind == "conv1d" else 2, in_channels, channels, stride, kernel, settings)
    blocks: dict[str, Callable[[int, int, int, ConvSettings], Block]] = {
        "vgg": VggBlock,
        "resnet": ResidualBlock,
        "inception": InceptionBlock,
    }
    return blocks[kind](in_channels, channels, stride, settings)


def _mask(lengths: Tensor, x: Tensor) -> Tensor:
    """The valid frames of `x` (batch, channels, time[, bins]), as booleans that broadcast to it."""
    return valid_mask(lengths, x.shape[2]).view(x.shape[0], 1, x.shape[2], *(1,) * (x.ndim - 3))


def _padding_below_all(x: Tensor, lengths: Tensor) -> Tensor:
    """`x`, zero past `lengths`, with −∞ there, which no maximum sees: zero would win over negative values."""
    mask = _mask(lengths, x)
    return x + torch.zeros_like(mask, dtype=x.dtype).masked_fill(~mask, -torch.inf)
