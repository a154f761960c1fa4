"""The acoustic model: its answers never depend on padding or company; its loss is the sum over alignments."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence

from asr.model.acoustic import AcousticModel
from asr.model.ctc import CtcHead, ctc_loss
from asr.model.encoder import Encoder, RecurrentLayer
from asr.model.frontend import Frontend, MaskedBatchNorm

KINDS = ("conv1d", "conv2d", "vgg", "resnet", "inception")
BINS = 20


def acoustic(kind: str, cell: str = "lstm", strides: tuple[int, ...] = (2, 2), **encoder: object) -> AcousticModel:
    torch.manual_seed(1)
    frontend = Frontend(kind, BINS, (8,) * len(strides), strides)
    stack = Encoder(cell, frontend.dim, layers=2, hidden=8, **encoder)
    model = AcousticModel(frontend, stack, CtcHead(stack.dim, 6))
    model.train()  # statistics that are not the initial ones, so that a padded frame would not stay zero
    model(torch.randn(3, 64, BINS) + 1, torch.tensor([64, 50, 41]))
    return model.eval()


@torch.no_grad()
def assert_padding_does_not_matter(model: AcousticModel, lengths: range) -> None:
    utterances = [torch.randn(length, BINS) for length in lengths]
    batch = pad_sequence(utterances, batch_first=True)
    batch = torch.cat([batch, torch.zeros(len(batch), 13, BINS)], dim=1)
    for row, length in enumerate(lengths):
        batch[row, length:] = 9.0  # what stands in the padding must not matter
    together, out_lengths = model(batch, torch.tensor(lengths))
    for row, utterance in enumerate(utterances):
        alone, length = model(utterance[None], torch.tensor([len(utterance)]))
        assert length[0] == out_lengths[row] == alone.shape[1] == model.output_length(len(utterance))
        torch.testing.assert_close(together[row, : length[0]], alone[0], atol=1e-5, rtol=0)


@pytest.mark.parametrize("strides", [(2, 2), (1, 3), (4,)])
@pytest.mark.parametrize("kind", KINDS)
def test_alone_padded_or_batched_over_consecutive_lengths(kind: str, strides: tuple[int, ...]) -> None:
    assert_padding_does_not_matter(acoustic(kind, strides=strides), range(1, 71))


@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize(
    "options",
    [
        {"bidirectional": False},
        {"layer_norm": False},
        {"projection": 8, "residual": True},
        {"residual": True, "dropout": 0.5},
    ],
    ids=str,
)
def test_encoders_do_not_see_padding(cell: str, options: dict[str, object]) -> None:
    assert_padding_does_not_matter(acoustic("conv1d", cell, **options), range(1, 62))


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_recurrent_layer_equals_torchs_packed_bidirectional_one(cell: str) -> None:
    torch.manual_seed(1)
    layer = RecurrentLayer(cell, 5, 7, bidirectional=True)
    reference = {"lstm": nn.LSTM, "gru": nn.GRU}[cell](5, 7, batch_first=True, bidirectional=True)
    assert layer.backward_rnn is not None
    for name, parameter in layer.forward_rnn.named_parameters():
        getattr(reference, name).data.copy_(parameter)
    for name, parameter in layer.backward_rnn.named_parameters():
        getattr(reference, f"{name}_reverse").data.copy_(parameter)
    x, lengths = torch.randn(4, 11, 5), torch.tensor([11, 8, 3, 1])
    packed = pack_padded_sequence(x, lengths, batch_first=True)
    expected, _ = pad_packed_sequence(reference(packed)[0], batch_first=True)
    found = layer(x, lengths)
    for row, length in enumerate(lengths):
        torch.testing.assert_close(found[row, :length], expected[row, :length])


@pytest.mark.parametrize("bins", [(), (6,)])
def test_batch_norm_is_torchs_on_the_valid_frames(bins: tuple[int, ...]) -> None:
    torch.manual_seed(1)
    lengths, channels = [9, 4, 1], 5
    ours, reference = MaskedBatchNorm(channels), nn.BatchNorm1d(channels)
    x = torch.randn(3, channels, 9, *bins, requires_grad=True)
    mask = torch.arange(9)[None] < torch.tensor(lengths)[:, None]
    shaped = mask.view(3, 1, 9, *(1 for _ in bins)).float()
    valid = torch.cat([x[row, :, :length].flatten(1).T for row, length in enumerate(lengths)])  # (frames, channels)
    found, expected = ours(x * shaped, mask), reference(valid)
    mine = torch.cat([found[row, :, :length].flatten(1).T for row, length in enumerate(lengths)])
    torch.testing.assert_close(mine, expected)
    torch.testing.assert_close(ours.running_mean, reference.running_mean)
    torch.testing.assert_close(ours.running_var, reference.running_var)
    weights = torch.randn_like(mine)
    mine_gradient = torch.autograd.grad((mine * weights).sum(), x, retain_graph=True)[0]
    torch.testing.assert_close(mine_gradient, torch.autograd.grad((expected * weights).sum(), x)[0])


@pytest.mark.parametrize("kind", KINDS)
def test_every_weight_learns(kind: str) -> None:
    model = acoustic(kind).train()
    log_probs, lengths = model(torch.randn(2, 40, BINS), torch.tensor([40, 33]))
    ctc_loss(log_probs, lengths, torch.tensor([[1, 2, 2], [3, 0, 0]]), torch.tensor([3, 1])).mean.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        if parameter.numel() > 1:  # the scale of a single weight is lost in the normalisation behind it
            assert parameter.grad.abs().sum() > 0, name


def test_identity_and_projection_shortcuts() -> None:
    frontend = Frontend("resnet", BINS, (8, 8), (2, 1))
    first, second = frontend.blocks
    assert first.shortcut is not None
    assert second.shortcut is None


def test_forget_gates_start_open_and_recurrent_weights_orthogonal() -> None:
    rnn = RecurrentLayer("lstm", 4, 6, bidirectional=False).forward_rnn
    assert rnn.bias_ih_l0[6:12].tolist() == [1.0] * 6
    assert (rnn.bias_ih_l0 + rnn.bias_hh_l0).sum() == 6
    for gate in rnn.weight_hh_l0.split(6):
        torch.testing.assert_close(gate @ gate.T, torch.eye(6), atol=1e-5, rtol=0)


def brute_force_loss(log_probs: torch.Tensor, labels: list[int]) -> float:
    """−log of the summed probability of all paths that collapse to the labels."""
    time, vocab = log_probs.shape
    probability = 0.0
    for path in itertools.product(range(vocab), repeat=time):
        if [token for token, _ in itertools.groupby(path) if token != 0] == labels:
            probability += math.exp(sum(log_probs[t, token].item() for t, token in enumerate(path)))
    return -math.log(probability) if probability else math.inf


def test_ctc_loss_is_the_sum_over_all_alignments() -> None:
    torch.manual_seed(1)
    cases = [
        (labels, time) for time in range(1, 6) for n in range(4) for labels in itertools.product((1, 2), repeat=n)
    ]
    lengths = torch.tensor([time for _, time in cases])
    target_lengths = torch.tensor([len(labels) for labels, _ in cases])
    targets = torch.tensor([[*labels, *[1] * (3 - len(labels))] for labels, _ in cases])
    log_probs = torch.randn(len(cases), 5, 3).log_softmax(-1)
    loss = ctc_loss(log_probs, lengths, targets, target_lengths)
    expected = [brute_force_loss(log_probs[row, :time], list(labels)) for row, (labels, time) in enumerate(cases)]
    torch.testing.assert_close(loss.per_utterance, torch.tensor(expected), rtol=1e-4, atol=1e-5)
    assert loss.infinite == sum(math.isinf(value) for value in expected) > 0
    finite = [
        (value, len(labels)) for value, (labels, _) in zip(expected, cases, strict=True) if math.isfinite(value)
    ]
    assert loss.labels == sum(count for _, count in finite)
    assert loss.mean.item() == pytest.approx(sum(value for value, _ in finite) / loss.labels, rel=1e-4)


def test_an_impossible_utterance_leaves_the_others_gradients_alone() -> None:
    torch.manual_seed(1)
    logits = torch.randn(2, 4, 3, requires_grad=True)
    targets, target_lengths = torch.tensor([[1, 2, 0], [1, 1, 1]]), torch.tensor([2, 3])
    both = ctc_loss(logits.log_softmax(-1), torch.tensor([4, 4]), targets, target_lengths)
    gradient = torch.autograd.grad(both.mean, logits)[0]
    alone = ctc_loss(logits[:1].log_softmax(-1), torch.tensor([4]), targets[:1], target_lengths[:1])
    expected = torch.autograd.grad(alone.mean, logits)[0]
    torch.testing.assert_close(gradient, expected)
    assert both.infinite == 1
