"""CNN front-ends: features (batch, time, bins) to fewer, richer frames (batch, time', channels).

Padding never reaches a result: the input of every convolution is zero past each utterance's end, which is what
the convolution's own zero padding gives an utterance alone, and batch normalisation sees valid frames only.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from asr.lengths import LengthT, conv_length, valid_mask


class MaskedBatchNorm(nn.Module):
    """Batch normalisation over valid frames only (Ioffe and Szegedy 2015; statistics pooled over bins).

    In evaluation it is the usual affine map with running statistics, kept as in `torch.nn.BatchNorm2d`.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int, eps: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__()
        self.eps, self.momentum = eps, momentum
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Normalise `x` (batch, channels, time[, bins]), whose invalid frames are zero, by `mask` (batch, time)."""
        mean, var = self._batch_statistics(x, mask) if self.training else (self.running_mean, self.running_var)
        scale = self.weight * torch.rsqrt(var + self.eps)
        shift = self.bias - mean * scale
        shape = (1, -1) + (1,) * (x.ndim - 2)
        return x * scale.view(shape).to(x.dtype) + shift.view(shape).to(x.dtype)

    def _batch_statistics(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        x = x.float()
        count = (mask.sum() * math.prod(x.shape[3:])).clamp(min=1)
        dims = [dim for dim in range(x.ndim) if dim != 1]
        mean = x.sum(dims) / count
        centred = (x - mean.view((1, -1) + (1,) * (x.ndim - 2))) * _broadcast(mask, x)
        var = centred.square().sum(dims) / count
        with torch.no_grad():
            unbiased = var * (count / (count - 1).clamp(min=1))
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(unbiased, self.momentum)
        return mean, var


class MaskedConv(nn.Module):
    """Convolution, batch normalisation, ReLU and dropout, without a look at the padding.

    Args:
        dims: 1, over time with the bins as channels, or 2, over time and bins.
        in_channels, out_channels: channels.
        kernel: width in time and, for 2-D, in bins; odd.
        stride: in time.
        bin_stride: in bins, 2-D only.
        batch_norm, activation: whether to apply them.
        dropout: probability of a zeroed channel, constant over an utterance.
    """

    def __init__(
        self,
        dims: int,
        in_channels: int,
        out_channels: int,
        *,
        kernel: int,
        stride: int = 1,
        bin_stride: int = 1,
        batch_norm: bool = True,
        activation: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.kernel, self.stride, self.bin_stride = kernel, stride, bin_stride
        self.padding = kernel // 2
        bias = not batch_norm  # the normalisation has one
        self.conv: nn.Conv1d | nn.Conv2d
        if dims == 1:
            self.conv = nn.Conv1d(in_channels, out_channels, kernel, stride, self.padding, bias=bias)
        else:
            strides = (stride, bin_stride)
            self.conv = nn.Conv2d(in_channels, out_channels, kernel, strides, self.padding, bias=bias)
        nn.init.kaiming_normal_(self.conv.weight, nonlinearity="relu")
        self.norm = MaskedBatchNorm(out_channels) if batch_norm else None
        self.activation = activation
        self.dropout = nn.Dropout1d(dropout) if dims == 1 else nn.Dropout2d(dropout)

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Map (batch, channels, time[, bins]), zero past `lengths`, to the same with its new lengths."""
        x = self.conv(x)
        lengths = self.output_length(lengths)
        mask = valid_mask(lengths, x.shape[2])
        x = x * _broadcast(mask, x)
        if self.norm is not None:
            x = self.norm(x, mask)
        if self.activation:
            x = F.relu(x)
        return self.dropout(x) * _broadcast(mask, x), lengths

    def output_length(self, length: LengthT) -> LengthT:
        """Frames out for frames in."""
        return conv_length(length, self.kernel, self.stride, self.padding)

    def output_bins(self, bins: int) -> int:
        """Bins out for bins in (2-D)."""
        return conv_length(bins, self.kernel, self.bin_stride, self.padding)


class PlainBlock(nn.Module):
    """One strided convolution, as in Deep Speech 2 (Amodei et al. 2016)."""

    def __init__(
        self,
        dims: int,
        in_channels: int,
        channels: int,
        stride: int,
        kernel: int,
        batch_norm: bool,
        dropout: float,
    ) -> None:
        super().__init__()
        self.conv = MaskedConv(
            dims, in_channels, channels, kernel=kernel, stride=stride, bin_stride=2, batch_norm=batch_norm,
            dropout=dropout,
        )  # fmt: skip

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

    def __init__(self, in_channels: int, channels: int, stride: int, batch_norm: bool, dropout: float) -> None:
        super().__init__()
        self.stride = stride
        self.first = MaskedConv(2, in_channels, channels, kernel=3, batch_norm=batch_norm)
        self.second = MaskedConv(2, channels, channels, kernel=3, batch_norm=batch_norm, dropout=dropout)

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """See `MaskedConv.forward`."""
        x, lengths = self.second(*self.first(x, lengths))
        # The frames past the end are zero and the activations are not negative: a maximum does not see them.
        # A last window that is not full is kept, so every frame has a part in the output.
        x = F.max_pool2d(x, (self.stride, 2), ceil_mode=True)
        return x, self.output_length(lengths)

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

    def __init__(self, in_channels: int, channels: int, stride: int, batch_norm: bool, dropout: float) -> None:
        super().__init__()
        bin_stride = 2 if stride > 1 else 1
        self.first = MaskedConv(
            2, in_channels, channels, kernel=3, stride=stride, bin_stride=bin_stride, batch_norm=batch_norm
        )
        self.second = MaskedConv(
            2, channels, channels, kernel=3, batch_norm=batch_norm, activation=False, dropout=dropout
        )
        self.shortcut: MaskedConv | None = None
        if stride > 1 or in_channels != channels:
            self.shortcut = MaskedConv(
                2, in_channels, channels, kernel=1, stride=stride, bin_stride=bin_stride,
                batch_norm=batch_norm, activation=False,
            )  # fmt: skip

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """See `MaskedConv.forward`."""
        residual = x if self.shortcut is None else self.shortcut(x, lengths)[0]
        x, lengths = self.second(*self.first(x, lengths))
        return F.relu(x + residual), lengths

    def output_length(self, length: LengthT) -> LengthT:
        """Frames out for frames in."""
        return self.first.output_length(length)

    def output_bins(self, bins: int) -> int:
        """Bins out for bins in."""
        return self.first.output_bins(bins)


class InceptionBlock(nn.Module):
    """Parallel 1×1, 3×3, 5×5 and pooling branches behind 1×1 bottlenecks (Szegedy et al. 2015, figure 2b)."""

    def __init__(self, in_channels: int, channels: int, stride: int, batch_norm: bool, dropout: float) -> None:
        super().__init__()
        quarter = channels // 4
        bottleneck = max(quarter // 2, 1)
        bin_stride = 2 if stride > 1 else 1

        def conv(ins: int, outs: int, kernel: int, strided: bool) -> MaskedConv:
            return MaskedConv(
                2, ins, outs, kernel=kernel, stride=stride if strided else 1,
                bin_stride=bin_stride if strided else 1, batch_norm=batch_norm,
                dropout=dropout if strided else 0.0,
            )  # fmt: skip

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
        # Zero would win over the negative values of a first block's features: the padding is −∞ to the maximum.
        mask = _broadcast(valid_mask(lengths, x.shape[2]), x)
        pooled = F.max_pool2d(x.masked_fill(mask == 0, -torch.inf), 3, stride=1, padding=1)
        pooled = pooled.masked_fill(mask == 0, 0.0)
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
        batch_norm, dropout: of each block.

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
        kernel: int = 5,
        batch_norm: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.two_dimensional = kind != "conv1d"
        self.subsampling = math.prod(strides)
        blocks: list[Block] = []
        previous, bins = (1, input_dim) if self.two_dimensional else (input_dim, 1)
        for width, stride in zip(channels, strides, strict=True):
            block = _block(kind, previous, width, stride, kernel, batch_norm, dropout)
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


def _block(
    kind: str, in_channels: int, channels: int, stride: int, kernel: int, batch_norm: bool, dropout: float
) -> Block:
    if kind in ("conv1d", "conv2d"):
        dims = 1 if kind == "conv1d" else 2
        return PlainBlock(dims, in_channels, channels, stride, kernel, batch_norm, dropout)
    blocks: dict[str, Callable[..., Block]] = {
        "vgg": VggBlock,
        "resnet": ResidualBlock,
        "inception": InceptionBlock,
    }
    return blocks[kind](in_channels, channels, stride, batch_norm, dropout)


def _broadcast(mask: Tensor, x: Tensor) -> Tensor:
    """A mask (batch, time) shaped to multiply (batch, channels, time[, bins])."""
    return mask.view(mask.shape[0], 1, mask.shape[1], *(1,) * (x.ndim - 3)).to(x.dtype)
