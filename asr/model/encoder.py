"""Stacked recurrent layers that never see padding and keep the fused kernels.

Each direction is a layer of its own; the backward one reads sequences reversed within their own length, so the
padding comes last for both. That equals packed sequences, without losing oneDNN's kernels on CPU or an export.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from asr.lengths import reverse_within_length, valid_mask

CELLS: dict[str, type[nn.LSTM] | type[nn.GRU]] = {"lstm": nn.LSTM, "gru": nn.GRU}


class RecurrentLayer(nn.Module):
    """One LSTM (Hochreiter and Schmidhuber 1997) or GRU (Cho et al. 2014) layer, one- or bidirectional."""

    def __init__(self, cell: str, input_dim: int, hidden: int, bidirectional: bool) -> None:
        super().__init__()
        self.forward_rnn = CELLS[cell](input_dim, hidden, batch_first=True)
        self.backward_rnn = CELLS[cell](input_dim, hidden, batch_first=True) if bidirectional else None
        self.dim = hidden * (2 if bidirectional else 1)
        for rnn in (self.forward_rnn, self.backward_rnn):
            if rnn is not None:
                _initialise(rnn)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Map (batch, time, input_dim) to (batch, time, dim); what stands past the lengths is undefined."""
        ahead: Tensor = self.forward_rnn(x)[0]
        if self.backward_rnn is None:
            return ahead
        behind = self.backward_rnn(reverse_within_length(x, lengths))[0]
        return torch.cat([ahead, reverse_within_length(behind, lengths)], dim=2)


class EncoderLayer(nn.Module):
    """A recurrent layer, then an optional projection, layer normalisation, a residual link and dropout."""

    def __init__(
        self,
        cell: str,
        input_dim: int,
        hidden: int,
        bidirectional: bool,
        dropout: float,
        layer_norm: bool,
        projection: int | None,
        residual: bool,
    ) -> None:
        super().__init__()
        self.recurrent = RecurrentLayer(cell, input_dim, hidden, bidirectional)
        self.dim = projection or self.recurrent.dim
        self.projection = nn.Linear(self.recurrent.dim, projection) if projection else None
        self.norm = nn.LayerNorm(self.dim) if layer_norm else None
        self.residual = residual and input_dim == self.dim
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Map (batch, time, input_dim) to (batch, time, dim)."""
        y: Tensor = self.recurrent(x, lengths)
        if self.projection is not None:
            y = self.projection(y)
        if self.norm is not None:
            y = self.norm(y)
        y = self.dropout(y)
        return x + y if self.residual else y


class Encoder(nn.Module):
    """A stack of recurrent layers.

    Args:
        cell: lstm or gru.
        input_dim: width of the input frames.
        layers: how many.
        hidden: units per direction.
        bidirectional: read the utterance from both ends.
        dropout: after every layer, the last one too.
        layer_norm: normalise each layer's output (Ba et al. 2016).
        projection: width of a linear layer after each recurrent layer, or None.
        residual: add a layer's input to its output where the widths agree.

    Attributes:
        dim: width of the output frames.
    """

    def __init__(
        self,
        cell: str,
        input_dim: int,
        layers: int,
        hidden: int,
        bidirectional: bool = True,
        dropout: float = 0.0,
        layer_norm: bool = True,
        projection: int | None = None,
        residual: bool = False,
    ) -> None:
        super().__init__()
        stack = []
        self.dim = input_dim
        for _ in range(layers):
            layer = EncoderLayer(cell, self.dim, hidden, bidirectional, dropout, layer_norm, projection, residual)
            self.dim = layer.dim
            stack.append(layer)
        self.layers = nn.ModuleList(stack)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Map (batch, time, input_dim) to (batch, time, dim), zero past the lengths."""
        for layer in self.layers:
            x = layer(x, lengths)
        return x * valid_mask(lengths, x.shape[1])[:, :, None]


def _initialise(rnn: nn.LSTM | nn.GRU) -> None:
    """Xavier input weights, orthogonal recurrent weights per gate, zero biases, an LSTM's forget gate open.

    Saxe et al. 2014 for orthogonal weights, Jozefowicz et al. 2015 for the forget gate's bias of 1.
    """
    hidden = rnn.hidden_size
    weights = dict(rnn.named_parameters())
    with torch.no_grad():
        for gate in torch.split(weights["weight_ih_l0"], hidden):
            nn.init.xavier_uniform_(gate)
        for gate in torch.split(weights["weight_hh_l0"], hidden):
            nn.init.orthogonal_(gate)
        weights["bias_ih_l0"].zero_()
        weights["bias_hh_l0"].zero_()
        if isinstance(rnn, nn.LSTM):
            weights["bias_ih_l0"][hidden : 2 * hidden] = 1.0  # gates in the order input, forget, cell, output
