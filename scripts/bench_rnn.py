"""Time the ways in which a bidirectional LSTM can be told that the utterances of a batch differ in length.

    python scripts/bench_rnn.py --layers 5 --hidden 512 --precision bf16

`scripts/README.md` says what is compared.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from statistics import median

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from asr import build
from asr.lengths import valid_mask
from asr.model.encoder import Encoder, EncoderLayer, LayerSettings
from asr.training.optimization import autocast_to, resolve_precision

ROWS = 8
"""cuDNN's persistent kernels want batches of a multiple of so many utterances."""
SHORTEST = 0.9
"""The shortest utterance of a batch, as a share of the longest: batches are of utterances that are alike."""
TOLERANCE = 1e-4

Way = Callable[[Tensor, Tensor], Tensor]


def main() -> None:
    """Print a table of times of forward and backward passes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=5, help="(%(default)s)")
    parser.add_argument("--hidden", type=int, default=512, help="of each direction (%(default)s)")
    parser.add_argument("--inputs", type=int, default=640, help="width of the frames (%(default)s)")
    parser.add_argument("--rows", type=int, default=53, help="utterances in the batch (%(default)s)")
    parser.add_argument("--frames", type=int, default=375, help="of the longest utterance (%(default)s)")
    parser.add_argument("--precision", default="fp32", help="fp32, bf16 or fp16 (%(default)s)")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda (%(default)s)")
    parser.add_argument("--rounds", type=int, default=7, help="(%(default)s)")
    arguments = parser.parse_args()
    device = build.device(arguments.device)
    autocast = autocast_to(resolve_precision(arguments.precision, device), device)
    torch.manual_seed(1)
    settings = LayerSettings(hidden=arguments.hidden, normalization="none")
    encoder = Encoder(arguments.inputs, arguments.layers, settings).to(device)
    batch = torch.randn(arguments.rows, arguments.frames, arguments.inputs, device=device)
    shares = torch.linspace(1, SHORTEST, arguments.rows)
    lengths = (shares * arguments.frames).long().to(device)
    ways = dict(ways_of(encoder))
    agree(ways, batch, lengths)
    times: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(arguments.rounds + 1):
        for name, way in ways.items():
            seconds = time_of(way, batch, lengths, autocast)
            if turn:  # the first one chooses and compiles kernels
                times[name].append(seconds)
    print("| | forward and backward pass | ratio to the first, of each round |\n| --- | --- | --- |")
    (first, *_) = times.values()
    for name, seconds_of in times.items():
        ratios = [own / other for own, other in zip(seconds_of, first, strict=True)]
        spread = f"{median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        print(f"| {name} | {1000 * median(seconds_of):.1f} ms | {spread} |")


def ways_of(encoder: Encoder) -> Iterator[tuple[str, Way]]:
    """The same network, computed in different ways."""
    yield "reversed within length (asr)", encoder
    yield f"the same, rows padded to a multiple of {ROWS}", lambda x, lengths: padded(encoder, x, lengths)
    stack = stacked(encoder)
    yield "packed, both directions in one call", lambda x, lengths: packed(stack, x, lengths)
    yield "lengths ignored (wrong), both directions in one call", lambda x, _: stack(x)[0]


def padded(encoder: Encoder, x: Tensor, lengths: Tensor) -> Tensor:
    """With utterances of one frame added, whose answers are left out."""
    added = -len(x) % ROWS
    output: Tensor = encoder(F.pad(x, (0, 0, 0, 0, 0, added)), F.pad(lengths, (0, added), value=1))
    return output[: len(x)]


def packed(stack: nn.LSTM, x: Tensor, lengths: Tensor) -> Tensor:
    """As packed sequences: torch's own way."""
    output, _ = stack(pack_padded_sequence(x, lengths.cpu(), batch_first=True))
    return pad_packed_sequence(output, batch_first=True)[0]


def stacked(encoder: Encoder) -> nn.LSTM:
    """Torch's own stack of layers with the weights of an encoder."""
    layers = [layer.recurrent for layer in encoder.layers if isinstance(layer, EncoderLayer)]
    first = layers[0].forward_rnn
    stack = nn.LSTM(first.input_size, first.hidden_size, len(layers), batch_first=True, bidirectional=True)
    state = {
        f"{name.removesuffix('_l0')}_l{number}{suffix}": weights
        for number, layer in enumerate(layers)
        for suffix, rnn in (("", layer.forward_rnn), ("_reverse", layer.backward_rnn))
        if rnn is not None
        for name, weights in rnn.state_dict().items()
    }
    stack.load_state_dict(state)
    return stack.to(next(encoder.parameters()).device)


def agree(ways: dict[str, Way], batch: Tensor, lengths: Tensor) -> None:
    """See that all ways but the wrong one say the same where there is speech."""
    speech = valid_mask(lengths, batch.shape[1])[..., None]
    with torch.inference_mode():
        wanted, *others = [way(batch, lengths) * speech for name, way in ways.items() if "wrong" not in name]
    for other in others:
        torch.testing.assert_close(other, wanted, atol=TOLERANCE, rtol=0)


def time_of(way: Way, batch: Tensor, lengths: Tensor, autocast: torch.autocast) -> float:
    """Seconds that it takes to compute an output and all gradients."""
    inputs = batch.clone().requires_grad_()
    wait(batch.device)
    started = time.perf_counter()
    with autocast:
        output = way(inputs, lengths)
    torch.autograd.backward(output.float().sum())
    wait(batch.device)
    return time.perf_counter() - started


def wait(device: torch.device) -> None:
    """Until a GPU has done what it was told."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


if __name__ == "__main__":
    main()
