"""First weights, by the names that recipes use; drawn from torch's global generator.

A convolution's fan-in is input channels × kernel area and its fan-out output channels × kernel area. The gates of a
recurrent layer are separate matrices that torch keeps in one, so each is initialised by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn


def uniform_(weight: Tensor) -> Tensor:
    """Fill `weight` (outputs, inputs, …) from U(−1/√fan_in, 1/√fan_in), torch's own choice for linear layers."""
    bound = weight[0].numel() ** -0.5
    return nn.init.uniform_(weight, -bound, bound)


def orthogonal_(weight: Tensor) -> Tensor:
    """Fill `weight` with an orthogonal matrix (Saxe et al. 2014), the same for any number of threads.

    The last bits of a QR decomposition depend on how many there are; so it takes place in one.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return nn.init.orthogonal_(weight)
    finally:
        torch.set_num_threads(threads)


INITIALIZERS: dict[str, Callable[[Tensor], Tensor]] = {
    "uniform": uniform_,
    "xavier_uniform": nn.init.xavier_uniform_,  # variance 2 / (fan_in + fan_out): Glorot and Bengio 2010
    "xavier_normal": nn.init.xavier_normal_,
    "he_uniform": partial(nn.init.kaiming_uniform_, nonlinearity="relu"),  # variance 2 / fan_in: He et al. 2015
    "he_normal": partial(nn.init.kaiming_normal_, nonlinearity="relu"),
    "lecun_normal": partial(nn.init.kaiming_normal_, nonlinearity="linear"),  # 1 / fan_in: Klambauer et al. 2017
    "orthogonal": orthogonal_,
}


@torch.no_grad()
def initialise_recurrent(rnn: nn.LSTM | nn.GRU, inputs: str, recurrent: str, forget_bias: float) -> None:
    """Give a one-layer, one-direction network its first weights, gate by gate, and zero biases.

    Args:
        rnn: changed in place.
        inputs, recurrent: names of initialisers of the input-to-hidden and the hidden-to-hidden weights.
        forget_bias: of an LSTM's forget gate, 1 to start with it open (Jozefowicz et al. 2015). Torch adds up two
            biases; the other one is zero.
    """
    hidden = rnn.hidden_size
    weights = dict(rnn.named_parameters())
    for gate in torch.split(weights["weight_ih_l0"], hidden):
        INITIALIZERS[inputs](gate)
    for gate in torch.split(weights["weight_hh_l0"], hidden):
        INITIALIZERS[recurrent](gate)
    weights["bias_ih_l0"].zero_()
    weights["bias_hh_l0"].zero_()
    if isinstance(rnn, nn.LSTM):
        weights["bias_ih_l0"][hidden : 2 * hidden] = forget_bias  # gates in the order input, forget, cell, output
