"""The acoustic model: its answers never depend on padding or company; its loss is the sum over alignments."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import asdict, replace
from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence

from asr.model.acoustic import AcousticModel
from asr.model.activations import ACTIVATIONS
from asr.model.ctc import CtcHead, ctc_loss, disagreement
from asr.model.dropout import DROPOUTS
from asr.model.encoder import Encoder, LayerSettings, RecurrentLayer
from asr.model.frontend import ConvSettings, Frontend
from asr.model.initialization import INITIALIZERS
from asr.model.normalization import NORMALIZATIONS

KINDS = ("conv1d", "conv2d", "vgg", "resnet", "inception")
BINS = 20

PLAIN_CONVOLUTIONS, PLAIN_LAYERS = ConvSettings(), LayerSettings()
CONVOLUTIONS = [
    *[ConvSettings(activation=name) for name in ACTIVATIONS],
    *[ConvSettings(normalization=name, groups=4) for name in NORMALIZATIONS],
    ConvSettings("selu", "none", dropout=0.1, dropout_kind="alpha", initialization="lecun_normal"),
    ConvSettings("softplus", "none"),
    ConvSettings("softplus", "instance"),
]
LAYERS = [
    *[LayerSettings(cell, normalization=name) for cell in ("lstm", "gru") for name in ("layer", "batch", "none")],
    LayerSettings("lstm", bidirectional=False),
    LayerSettings("gru", bidirectional=False, normalization="batch"),
    LayerSettings("lstm", projection=8, residual=True),
    LayerSettings("gru", projection=8, residual=True, normalization="batch"),
    LayerSettings("lstm", dropout=0.2, dropout_kind="locked", weight_dropout=0.2),
    LayerSettings("gru", dropout=0.2, weight_dropout=0.2),
]


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Threads cost tensors as small as these more than they gain, on a busy machine many times."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def acoustic(
    kind: str,
    convolutions: ConvSettings = PLAIN_CONVOLUTIONS,
    layers: LayerSettings = PLAIN_LAYERS,
    strides: tuple[int, ...] = (2, 2),
    depth: int = 2,
) -> AcousticModel:
    torch.manual_seed(1)
    frontend = Frontend(kind, BINS, (8,) * len(strides), strides, 5, convolutions)
    stack = Encoder(frontend.dim, depth, replace(layers, hidden=8))
    model = AcousticModel(frontend, stack, CtcHead(stack.dim, 6))
    model.train()  # statistics that are not the initial ones, so that a padded frame would not stay zero
    model(torch.randn(3, 64, BINS) + 1, torch.tensor([64, 50, 41]))
    return model.eval()


def changes(settings: object) -> str:
    """What is not as by default, for the names of tests."""
    if not isinstance(settings, ConvSettings | LayerSettings):
        return str(settings)
    plain = asdict(type(settings)())
    return " ".join(f"{key}={value}" for key, value in asdict(settings).items() if value != plain[key]) or "plain"


@torch.no_grad()
def assert_padding_does_not_matter(model: AcousticModel, lengths: Sequence[int], atol: float = 1e-5) -> None:
    torch.manual_seed(sum(lengths))  # the same once more, when hypothesis tries an example again
    utterances = [torch.randn(length, BINS) for length in lengths]
    batch = pad_sequence(utterances, batch_first=True)
    batch = torch.cat([batch, torch.zeros(len(batch), 13, BINS)], dim=1)
    for row, length in enumerate(lengths):
        batch[row, length:] = 9.0  # what stands in the padding must not matter
    together, out_lengths = model(batch, torch.tensor(lengths))
    for row, utterance in enumerate(utterances):
        alone, length = model(utterance[None], torch.tensor([len(utterance)]))
        assert length[0] == out_lengths[row] == alone.shape[1] == model.output_length(len(utterance))
        torch.testing.assert_close(together[row, : length[0]], alone[0], atol=atol, rtol=0)


@pytest.mark.parametrize("strides", [(2, 2), (1, 3), (4,)])
@pytest.mark.parametrize("kind", KINDS)
def test_alone_padded_or_batched_over_consecutive_lengths(kind: str, strides: tuple[int, ...]) -> None:
    assert_padding_does_not_matter(acoustic(kind, strides=strides), range(1, 71))


SOME_LENGTHS = st.lists(st.integers(1, 90), min_size=1, max_size=8)


@cache
def kept(kind: str, convolutions: ConvSettings, layers: LayerSettings) -> AcousticModel:
    return acoustic(kind, convolutions, layers)


@pytest.mark.parametrize("convolutions", CONVOLUTIONS, ids=changes)
@given(kind=st.sampled_from(KINDS), lengths=SOME_LENGTHS)
@settings(max_examples=15)
def test_every_choice_of_convolutions_does_not_see_padding(
    convolutions: ConvSettings, kind: str, lengths: list[int]
) -> None:
    # Over a few frames a channel hardly varies; what it is divided by then makes rounding errors large.
    atol = 1e-3 if convolutions.normalization == "instance" else 1e-5
    assert_padding_does_not_matter(kept(kind, convolutions, PLAIN_LAYERS), lengths, atol)


@pytest.mark.parametrize("layers", LAYERS, ids=changes)
@given(lengths=SOME_LENGTHS)
@settings(max_examples=10)
def test_every_choice_of_layers_does_not_see_padding(layers: LayerSettings, lengths: list[int]) -> None:
    assert_padding_does_not_matter(kept("conv1d", PLAIN_CONVOLUTIONS, layers), lengths)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_recurrent_layer_equals_torchs_packed_bidirectional_one(cell: str) -> None:
    torch.manual_seed(1)
    layer = RecurrentLayer(5, LayerSettings(cell, hidden=7))
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


VARIANTS = [
    *[("conv1d", convolutions, PLAIN_LAYERS) for convolutions in CONVOLUTIONS],
    *[("conv1d", ConvSettings(initialization=name), PLAIN_LAYERS) for name in INITIALIZERS],
    *[("conv1d", ConvSettings(dropout=0.1, dropout_kind=name), PLAIN_LAYERS) for name in DROPOUTS],
    *[("conv1d", PLAIN_CONVOLUTIONS, layers) for layers in LAYERS],
    *[("conv1d", PLAIN_CONVOLUTIONS, LayerSettings(recurrent_initialization=name)) for name in INITIALIZERS],
]


def toy_loss(model: AcousticModel) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    log_probs, lengths = model(torch.randn(3, 20, BINS, generator=generator), torch.tensor([20, 18, 11]))
    return ctc_loss(
        log_probs, lengths, torch.tensor([[1, 2, 2], [3, 0, 0], [5, 4, 0]]), torch.tensor([3, 1, 2])
    ).mean


@pytest.mark.parametrize(
    ("kind", "convolutions", "layers"),
    [*VARIANTS, *[(kind, convolutions, PLAIN_LAYERS) for kind in KINDS[1:] for convolutions in CONVOLUTIONS]],
    ids=changes,
)
def test_every_weight_learns(kind: str, convolutions: ConvSettings, layers: LayerSettings) -> None:
    model = acoustic(kind, convolutions, layers, strides=(2,)).train()
    toy_loss(model).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        if convolutions.normalization == "weight" and parameter.ndim > 1 and parameter[0].numel() == 1:
            continue  # the direction of a single number is its sign, which no gradient changes
        if parameter.numel() > 1:  # the scale of a single weight is lost in the normalisation behind it
            assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize(("kind", "convolutions", "layers"), VARIANTS, ids=changes)
def test_every_variant_can_learn_a_batch_by_heart(
    kind: str, convolutions: ConvSettings, layers: LayerSettings
) -> None:
    model = acoustic(kind, convolutions, layers, strides=(2,), depth=1)
    before = toy_loss(model).item()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.03)
    for _ in range(60):
        optimizer.zero_grad()
        toy_loss(model.train()).backward()
        optimizer.step()
    with torch.no_grad():
        assert toy_loss(model.eval()) < 0.2 * before


@pytest.mark.parametrize(
    ("kind", "convolutions", "layers"),
    [("resnet", convolutions, PLAIN_LAYERS) for convolutions in CONVOLUTIONS if not convolutions.dropout]
    + [("conv1d", PLAIN_CONVOLUTIONS, layers) for layers in LAYERS if not layers.dropout],
    ids=changes,
)
def test_training_does_not_see_padding(kind: str, convolutions: ConvSettings, layers: LayerSettings) -> None:
    """The statistics of a batch, too, are those of its valid frames."""
    model = acoustic(kind, convolutions, layers)
    x, lengths = torch.randn(3, 30, BINS), torch.tensor([30, 17, 4])
    padded = torch.cat([x, torch.full((3, 9, BINS), 5.0)], dim=1)
    expected, out_lengths = deepcopy(model).train()(x, lengths)
    found, _ = model.train()(padded, lengths)
    for row, length in enumerate(out_lengths):
        torch.testing.assert_close(found[row, :length], expected[row, :length], atol=1e-4, rtol=0)


@pytest.mark.parametrize("kind", ["conv2d", "resnet", "inception"])
@pytest.mark.parametrize("bins", [1, 2, 3, 4])
def test_few_bins_are_the_same_in_half_precision(kind: str, bins: int) -> None:
    """oneDNN's bf16 convolutions leave some values as memory had them, where a stride leads to a single place."""
    torch.manual_seed(1)
    frontend = Frontend(kind, bins, (8, 16, 8), (2, 2, 2), 3, ConvSettings(normalization="none"))
    features, lengths = torch.randn(4, 30, bins), torch.tensor([30, 29, 20, 8])
    found = []
    for enabled in (False, True, True, True):
        rubbish = [torch.full((100_000,), math.nan, dtype=torch.bfloat16) for _ in range(5)]
        del rubbish
        frontend.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            out, _ = frontend(features, lengths)
        out.float().square().mean().backward()
        gradients = [parameter.grad.flatten() for parameter in frontend.parameters() if parameter.ndim > 1]
        found.append((out.detach().float(), torch.cat(gradients)))
    expected, *others = found
    for other in others:
        for there, here in zip(expected, other, strict=True):
            assert (there - here).norm() < 0.05 * there.norm()


def test_identity_and_projection_shortcuts() -> None:
    frontend = Frontend("resnet", BINS, (8, 8), (2, 1), 3, ConvSettings())
    first, second = frontend.blocks
    assert first.shortcut is not None
    assert second.shortcut is None


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_activation_is_the_one_that_was_asked_for(kind: str, activation: str) -> None:
    modules = list(Frontend(kind, BINS, (8,), (2,), 3, ConvSettings(activation)).modules())
    assert any(type(module) is ACTIVATIONS[activation] for module in modules)
    assert not any(
        type(module) in ACTIVATIONS.values() for module in modules if type(module) is not ACTIVATIONS[activation]
    )


CLOSED_FORMS = {
    "relu": lambda x: max(x, 0.0),
    "leaky_relu": lambda x: x if x > 0 else 0.01 * x,
    "elu": lambda x: x if x > 0 else math.exp(x) - 1,
    "selu": lambda x: 1.0507009873554805 * (x if x > 0 else 1.6732632423543772 * (math.exp(x) - 1)),
    "gelu": lambda x: x * 0.5 * (1 + math.erf(x / math.sqrt(2))),
    "mish": lambda x: x * math.tanh(math.log1p(math.exp(x))),
    "softplus": lambda x: math.log1p(math.exp(x)),
    "tanh": math.tanh,
    "hard_tanh": lambda x: min(max(x, -1.0), 1.0),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_are_those_of_their_papers(name: str) -> None:
    points = torch.linspace(-5, 5, 41, dtype=torch.float64)
    expected = torch.tensor([CLOSED_FORMS[name](x.item()) for x in points], dtype=torch.float64)
    torch.testing.assert_close(ACTIVATIONS[name]()(points), expected)


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


def test_the_loss_of_silence_alone_is_on_the_scale_of_labels() -> None:
    log_probs, nothing = torch.full((2, 30, 5), 1 / 5).log(), torch.zeros(2, 0, dtype=torch.long)
    loss = ctc_loss(log_probs, torch.tensor([30, 20]), nothing, torch.tensor([0, 0]))
    assert loss.mean.item() == pytest.approx(50 * math.log(5) / 5)  # of ten frames each


def test_disagreement_is_the_divergence_of_each_view_from_the_other_held_fixed() -> None:
    torch.manual_seed(1)
    logits, lengths = torch.randn(4, 5, 3, requires_grad=True), torch.tensor([5, 2, 5, 2])
    apart = disagreement(logits.log_softmax(-1), lengths)
    views = logits.detach().softmax(-1)
    for row, other in enumerate((2, 3, 0, 1)):
        expected = sum(
            float(other_p * (other_p / p).log())
            for time in range(int(lengths[row]))
            for p, other_p in zip(views[row, time], views[other, time], strict=True)
        )
        assert apart[row].item() == pytest.approx(expected, rel=1e-5)
    gradient = torch.autograd.grad(apart.sum(), logits)[0]
    valid = (torch.arange(5) < lengths[:, None])[:, :, None]
    torch.testing.assert_close(gradient, (views - views.roll(2, 0)).where(valid, 0.0))
    same = logits[:2].log_softmax(-1).repeat(2, 1, 1)
    assert disagreement(same, lengths).abs().max() < 1e-6


def test_what_is_not_a_number_is_not_hidden() -> None:
    log_probs = torch.randn(2, 4, 3).log_softmax(-1)
    log_probs[0] = torch.nan
    loss = ctc_loss(log_probs, torch.tensor([4, 4]), torch.tensor([[1, 2], [1, 2]]), torch.tensor([2, 2]))
    assert (loss.mean.isnan(), loss.labels, loss.infinite) == (True, 4, 0)


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
