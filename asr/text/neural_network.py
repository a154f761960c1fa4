"""The network of a neural language model: embedding, recurrent layers, softmax."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from asr.errors import ConfigError
from asr.text.softmax import draw_log_uniform, sampled_nll

CELLS: dict[str, type[nn.LSTM] | type[nn.GRU]] = {"lstm": nn.LSTM, "gru": nn.GRU}
SOFTMAXES = ("full", "sampled", "adaptive")
SMALLEST_ADAPTIVE = 100
"""Units; for fewer, parts of the vocabulary would have next to none."""

State = Any
"""Of the recurrent layers, as torch has it: a tensor (layers, batch, hidden), or two of them for LSTMs."""


@dataclass(frozen=True)
class Architecture:
    """What a network is like.

    Attributes:
        units: how many it predicts, the most frequent first, unless the softmax is full.
        cell: lstm (Hochreiter and Schmidhuber 1997) or gru (Cho et al. 2014).
        layers: recurrent ones.
        embedding: width of what the layers see of a unit.
        hidden: width of the layers.
        dropout: of embeddings, between layers and before the softmax (Zaremba et al. 2014).
        tied: the same matrix embeds units and predicts them (Press & Wolf 2017; Inan et al. 2017), after a linear
            layer where the widths differ.
        softmax: full; sampled, which is full but for the loss to train with; or adaptive, with fewer numbers for
            rare units (Grave et al. 2017), which can't be tied: its matrices are of other widths than embeddings.

    Raises:
        ConfigError: these do not go together.
    """

    units: int
    cell: str = "lstm"
    layers: int = 2
    embedding: int = 256
    hidden: int = 512
    dropout: float = 0.3
    tied: bool = True
    softmax: str = "full"

    def __post_init__(self) -> None:
        if self.cell not in CELLS:
            raise ConfigError(f"“{self.cell}”", where="cell", expected=", ".join(CELLS))
        if self.softmax not in SOFTMAXES:
            raise ConfigError(f"“{self.softmax}”", where="softmax", expected=", ".join(SOFTMAXES))
        if self.softmax == "adaptive" and self.tied:
            raise ConfigError(
                "an adaptive softmax can't be tied to the embeddings",
                where="softmax",
                expected="a matrix for all units, of the width of the embeddings, where it is tied",
                hint="an output of its own (not tied), or the full or sampled softmax",
            )
        if self.softmax == "adaptive" and self.units < SMALLEST_ADAPTIVE:
            raise ConfigError(
                f"{self.units} units are too few for an adaptive softmax",
                where="softmax",
                expected=f"{SMALLEST_ADAPTIVE} or more",
                hint="the full softmax, which is faster then",
            )


class LanguageNetwork(nn.Module):
    """Predicts each unit of a sentence from those before it. Arguments are those of its architecture."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = like = architecture
        between = like.dropout if like.layers > 1 else 0.0
        self.embedding = nn.Embedding(like.units, like.embedding)
        self.recurrent = CELLS[like.cell](
            like.embedding, like.hidden, like.layers, batch_first=True, dropout=between
        )
        self.dropout = nn.Dropout(like.dropout)
        project = like.tied and like.hidden != like.embedding
        self.projection = nn.Linear(like.hidden, like.embedding, bias=False) if project else None
        if like.softmax == "adaptive":
            self.adaptive = nn.AdaptiveLogSoftmaxWithLoss(like.hidden, like.units, _cutoffs(like.units))
        else:
            self.bias = nn.Parameter(torch.zeros(like.units))
            # A tied matrix is looked up, not registered again: files hold it once.
            self.weight = None if like.tied else nn.Parameter(torch.empty(like.units, like.hidden))
        self._initialise()

    def _initialise(self) -> None:
        """Embeddings as Merity et al. 2018; an LSTM's forget gate open (Jozefowicz et al. 2015)."""
        with torch.no_grad():
            for matrix in (self.embedding.weight, getattr(self, "weight", None)):
                if matrix is not None:
                    matrix.uniform_(-0.1, 0.1)
            if isinstance(self.recurrent, nn.LSTM):
                hidden = self.architecture.hidden
                for layer in range(self.architecture.layers):
                    getattr(self.recurrent, f"bias_ih_l{layer}")[hidden : 2 * hidden] = 1.0

    def forward(self, inputs: Tensor, state: State = None) -> tuple[Tensor, State]:
        """Map units (batch, time) to features (batch, time, width) of the units that follow, from a state on.

        Returns:
            The features, and the state after the last unit.
        """
        x, state = self.recurrent(self.dropout(self.embedding(inputs)), state)
        x = self.dropout(x)
        return x if self.projection is None else self.projection(x), state

    def loss(self, x: Tensor, targets: Tensor, draws: int, generator: torch.Generator) -> Tensor:
        """Negative log-likelihoods (n,) to train with, of targets (n,) after features (n, width).

        Args:
            x, targets: as `forward` gives and shall give them.
            draws: how many units a sampled softmax draws from all.
            generator: for these.
        """
        if self.architecture.softmax != "sampled":
            return -self.target_log_probs(x, targets)
        drawn = draw_log_uniform(self.architecture.units, draws, generator)
        return sampled_nll(x, targets, self._matrix, self.bias, *drawn)

    def target_log_probs(self, x: Tensor, targets: Tensor) -> Tensor:
        """Natural log-probabilities (n,) of targets (n,) after features (n, width)."""
        if self.architecture.softmax == "adaptive":
            with torch.autocast(x.device.type, enabled=False):  # its parts would lose precision in it
                log_probs: Tensor = self.adaptive(x.float(), targets).output
            return log_probs
        return -F.cross_entropy(self._logits(x), targets, reduction="none")

    def followers_log_probs(self, x: Tensor, rows: Tensor, targets: Tensor) -> Tensor:
        """Natural log-probabilities (n,) of targets (n,), each after the features of its row (n,) of x."""
        if self.architecture.softmax == "adaptive":  # whose point is not to ask about all units
            return self.target_log_probs(x[rows], targets)
        return self.log_probs(x)[rows, targets]

    def log_probs(self, x: Tensor) -> Tensor:
        """Natural log-probabilities (n, units) of all units after features (n, width)."""
        if self.architecture.softmax == "adaptive":
            return self.adaptive.log_prob(x)
        return F.log_softmax(self._logits(x), dim=-1)

    def _logits(self, x: Tensor) -> Tensor:
        # Added afterwards, the bias brings single precision back, in which exponentials may be added up.
        return F.linear(x, self._matrix) + self.bias

    @property
    def _matrix(self) -> Tensor:
        return self.embedding.weight if self.weight is None else self.weight


def state_of(state: State, rows: Tensor) -> State:
    """The state of some rows of a batch."""
    if state is None:
        return None
    if isinstance(state, tuple):  # an LSTM's
        return tuple(part[:, rows] for part in state)
    return state[:, rows]


def _cutoffs(units: int) -> list[int]:
    """Where an adaptive softmax cuts the vocabulary: a head, and tails of ever rarer units."""
    return sorted({units // 10, units * 2 // 5})
