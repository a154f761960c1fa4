"""Stacked recurrent layers that never see padding and keep the fused kernels.

Each direction is a layer of its own; the backward one reads sequences reversed within their own length, so the
padding comes last for both. That equals packed sequences, without losing oneDNN's kernels on CPU.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call

from asr.lengths import reverse_within_length, valid_mask
from asr.model.dropout import DROPOUTS, dropout
from asr.model.initialization import initialise_recurrent
from asr.model.normalization import NORMALIZATIONS

CELLS: dict[str, type[nn.LSTM] | type[nn.GRU]] = {"lstm": nn.LSTM, "gru": nn.GRU}


@dataclass(frozen=True)
class LayerSettings:
    """What all layers of an encoder have in common.

    Attributes:
        cell: lstm or gru.
        hidden: units per direction.
        bidirectional: read the utterance from both ends.
        dropout: after every layer, the last one too.
        dropout_kind: a name of `DROPOUTS`.
        weight_dropout: probability of a zeroed weight between hidden states.
        normalization: of each layer's output, a name of `NORMALIZATIONS`.
        projection: width of a linear layer after each recurrent layer, or None.
        residual: add a layer's input to its output where the widths agree.
        initialization, recurrent_initialization, forget_bias: see `initialise_recurrent`.
    """

    cell: str = "lstm"
    hidden: int = 256
    bidirectional: bool = True
    dropout: float = 0.0
    dropout_kind: str = "ordinary"
    weight_dropout: float = 0.0
    normalization: str = "layer"
    projection: int | None = None
    residual: bool = False
    initialization: str = "xavier_uniform"
    recurrent_initialization: str = "orthogonal"
    forget_bias: float = 1.0


class RecurrentLayer(nn.Module):
    """One LSTM (Hochreiter and Schmidhuber 1997) or GRU (Cho et al. 2014) layer, one- or bidirectional.

    In training, weights between hidden states may be dropped: one draw for all utterances and frames of a batch,
    so that the fused kernels stay in use (DropConnect as in Merity et al. 2018).
    """

    def __init__(self, input_dim: int, settings: LayerSettings) -> None:
        super().__init__()
        cell, hidden = CELLS[settings.cell], settings.hidden
        self.weight_dropout = settings.weight_dropout
        self.forward_rnn = cell(input_dim, hidden, batch_first=True)
        self.backward_rnn = cell(input_dim, hidden, batch_first=True) if settings.bidirectional else None
        self.dim = hidden * (2 if settings.bidirectional else 1)
        for rnn in (self.forward_rnn, self.backward_rnn):
            if rnn is not None:
                initialise_recurrent(
                    rnn, settings.initialization, settings.recurrent_initialization, settings.forget_bias
                )

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Map (batch, time, input_dim) to (batch, time, dim); what stands past the lengths is undefined."""
        ahead = self._run(self.forward_rnn, x)
        if self.backward_rnn is None:
            return ahead
        behind = self._run(self.backward_rnn, reverse_within_length(x, lengths))
        return torch.cat([ahead, reverse_within_length(behind, lengths)], dim=2)

    def _run(self, rnn: nn.LSTM | nn.GRU, x: Tensor) -> Tensor:
        output: Tensor
        if self.training and self.weight_dropout:
            dropped = dropout(rnn.get_parameter("weight_hh_l0"), self.weight_dropout)
            # Such a call leaves the layer's own weights alone, and lays out these as cuDNN wants them.
            output = functional_call(rnn, {"weight_hh_l0": dropped}, (x,))[0]
        else:
            output = rnn(x)[0]
        return output


class EncoderLayer(nn.Module):
    """A recurrent layer, then an optional projection, normalisation, dropout and a residual link."""

    def __init__(self, input_dim: int, settings: LayerSettings) -> None:
        super().__init__()
        self.recurrent = RecurrentLayer(input_dim, settings)
        self.dim = settings.projection or self.recurrent.dim
        self.projection = nn.Linear(self.recurrent.dim, self.dim) if settings.projection else None
        self.norm = NORMALIZATIONS[settings.normalization](self.dim, 1)
        self.residual = settings.residual and input_dim == self.dim
        self.dropout = DROPOUTS[settings.dropout_kind](settings.dropout)

    def forward(self, x: Tensor, lengths: Tensor, mask: Tensor) -> Tensor:
        """Map (batch, time, input_dim) to (batch, time, dim), given the valid frames (batch, time) too."""
        y: Tensor = self.recurrent(x, lengths)
        if self.projection is not None:
            y = self.projection(y)
        y = y.transpose(1, 2)  # (batch, dim, time)
        if self.norm is not None:
            y = self.norm(y, mask[:, None])
        y = self.dropout(y).transpose(1, 2)
        return x + y if self.residual else y


class Encoder(nn.Module):
    """A stack of recurrent layers.

    Args:
        input_dim: width of the input frames.
        layers: how many.
        settings: of each.

    Attributes:
        dim: width of the output frames.
    """

    def __init__(self, input_dim: int, layers: int, settings: LayerSettings) -> None:
        super().__init__()
        stack = []
        self.dim = input_dim
        for _ in range(layers):
            layer = EncoderLayer(self.dim, settings)
            self.dim = layer.dim
            stack.append(layer)
        self.layers = nn.ModuleList(stack)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Map (batch, time, input_dim) to (batch, time, dim), zero past the lengths."""
        mask = valid_mask(lengths, x.shape[1])
        for layer in self.layers:
            x = layer(x, lengths, mask)
        return x * mask[:, :, None]
