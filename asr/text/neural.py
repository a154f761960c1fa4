"""Neural language models: LSTMs and GRUs over words or tokens (Mikolov et al. 2010; Sundermeyer et al. 2012).

Sentences are independent: each begins with the zero state and the boundary of sentences, and ends with that.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load as from_safetensors
from safetensors.torch import save as to_safetensors
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from asr.errors import ConfigError, DataError, ModelError, refuse_newer_format
from asr.files import write_bytes
from asr.text import compact, units
from asr.text.neural_network import Architecture, LanguageNetwork, State, state_of
from asr.text.padding import NOTHING, consecutive_batches
from asr.text.units import BOUNDARY, UNKNOWN, Units, Words

SUFFIX = ".safetensors"
FORMAT_VERSION = 1
"""Raised whenever an older asr could not read, or would misread, what this one writes."""

_DESCRIPTION = "neural_language_model"  # in the metadata of a file

_ROWS_OF_UNITS = frozenset({"embedding.weight", "weight", "bias"})  # a row of these tensors is of one unit

_SENTENCES = 1024  # at a time
_UNITS = 1 << 17  # of sentences that are scored together, padding included


@dataclass(frozen=True, eq=False)
class NeuralLm:
    """A neural language model.

    Attributes:
        units: what it predicts.
        network: predicts it.
    """

    units: Units
    network: LanguageNetwork

    @property
    def words(self) -> tuple[str, ...]:
        """Its vocabulary, </s> and <unk> first; of tokens, if it is of tokens."""
        return self.units.symbols

    def __contains__(self, word: object) -> bool:
        """Whether a word can be written without <unk>."""
        return word in self.units

    @property
    def device(self) -> torch.device:
        """Where its network is."""
        return self.network.embedding.weight.device

    def log_prob(self, sentences: Sequence[Sequence[str]]) -> NDArray[np.float64]:
        """Natural log-probabilities (sentences,) of sentences with their ends."""
        return np.array([scores.sum() for scores in self.log_probs(sentences)], np.float64)

    @torch.inference_mode()
    def log_probs(self, sentences: Sequence[Sequence[str]]) -> list[NDArray[np.float64]]:
        """Natural log-probability of each word of sentences after those before it, and of the sentence's end.

        They do not depend on the other sentences. An unknown word has the probability of <unk>; a word of several
        tokens has the product of theirs, the one that separates it from the word before among them.

        Args:
            sentences: the words of each.

        Returns:
            For each sentence (words + 1,), the end last.
        """
        self.network.eval()
        spelled = [[*self.units.encode(sentence), [BOUNDARY]] for sentence in sentences]
        numbers = [[BOUNDARY, *(number for word in words for number in word)] for words in spelled]
        scores: list[NDArray[np.float64]] = [np.empty(0)] * len(numbers)
        order = sorted(range(len(numbers)), key=numbers.__getitem__)
        for batch in consecutive_batches([len(numbers[place]) for place in order], _SENTENCES, _UNITS):
            places = order[batch]
            found = self._unit_log_probs([numbers[place] for place in places])
            for row, place in enumerate(places):
                starts = np.cumsum([0, *map(len, spelled[place][:-1])])
                scores[place] = np.add.reduceat(found[row, : len(numbers[place]) - 1], starts)
        return scores

    def _unit_log_probs(self, sentences: Sequence[Sequence[int]]) -> NDArray[np.float64]:
        """Natural log-probabilities (sentences, longest - 1) of all units but the first, which all have in common.

        What sentences begin with alike, as the hypotheses of an utterance do, is computed once.

        Args:
            sentences: sorted, so that those that begin alike stand together.
        """
        rows_of_units = [torch.tensor(sentence) for sentence in sentences]
        units: NDArray[np.int64] = pad_sequence(rows_of_units, batch_first=True, padding_value=NOTHING).numpy()
        new = np.ones(units.shape, bool)
        np.logical_or.accumulate(units[1:] != units[:-1], axis=1, out=new[1:])
        beginnings = np.cumsum(new, axis=0)  # which one a sentence has, up to and with each of its units
        scores = np.zeros((len(units), units.shape[-1] - 1))
        state: State = None
        in_state = np.zeros(len(units), np.int64)
        for time in range(scores.shape[1]):
            rows = np.flatnonzero(units[:, time + 1] != NOTHING)
            _, first, beginning = np.unique(beginnings[rows, time], return_index=True, return_inverse=True)
            _, first_longer, longer = np.unique(beginnings[rows, time + 1], return_index=True, return_inverse=True)
            state = state_of(state, self._tensor(in_state[rows[first]]))
            in_state[rows] = beginning
            x, state = self.network(self._tensor(units[rows[first], time])[:, None], state)
            followers = self._tensor(beginning[first_longer]), self._tensor(units[rows[first_longer], time + 1])
            log_probs = self.network.followers_log_probs(x[:, 0], *followers)
            scores[rows, time] = log_probs.cpu().double().numpy()[longer]
        return scores

    def _tensor(self, numbers: NDArray[np.int64]) -> Tensor:
        return torch.from_numpy(numbers).to(self.device)

    def scored(self, texts: Iterable[str]) -> Iterator[tuple[list[str], NDArray[np.float64]]]:
        """The words of each text of a stream, and their `log_probs`."""
        sentences = (text.split() for text in texts)
        while chunk := list(islice(sentences, _SENTENCES)):
            yield from zip(chunk, self.log_probs(chunk), strict=True)


def save(model: NeuralLm, path: str | Path) -> None:
    """Write a model, atomically, as one safetensors file.

    Raises:
        ConfigError: the file's name does not end in .safetensors.
    """
    path = Path(path)
    check_name(path)
    tensors = {f"network.{name}": tensor.cpu().contiguous() for name, tensor in model.network.state_dict().items()}
    tensors |= {f"units.{name}": torch.from_numpy(content.copy()) for name, content in model.units.files().items()}
    description = {
        "format_version": FORMAT_VERSION,
        "units": model.units.kind,
        "architecture": asdict(model.network.architecture),
    }
    # One entry, since safetensors writes several in any order.
    write_bytes(path, to_safetensors(tensors, {_DESCRIPTION: json.dumps(description)}))


def check_name(path: Path) -> None:
    """Refuse what `save` would refuse.

    Raises:
        ConfigError: the name does not end in .safetensors.
    """
    if path.suffix != SUFFIX:
        what = "this name does not say that a neural language model is to be written"
        raise ConfigError(what, where=path, expected=f"a name that ends in {SUFFIX}")


def is_neural(path: Path) -> bool:
    """Whether a file that is there says that it is a neural language model.

    Raises:
        DataError: it is damaged.
    """
    return compact.is_compact(path) and _DESCRIPTION in compact.metadata(path)


def load(path: str | Path, device: str | torch.device = "cpu") -> NeuralLm:
    """Read a model that `save` wrote.

    Args:
        path: of the file.
        device: where its network shall be.

    Raises:
        DataError: there is no such file, or it is damaged, of another kind or from a newer asr.
    """
    path = Path(path)
    if not path.is_file():
        what = "this is a folder" if path.is_dir() else "there is no such file"
        raise DataError(what, where=path, expected="a neural language model")
    if not is_neural(path):
        raise DataError("this is no neural language model", where=path, expected="what `asr lm train` writes")
    try:
        description = json.loads(compact.metadata(path)[_DESCRIPTION])
        refuse_newer_format(description["format_version"], FORMAT_VERSION, "language model", path)
        parts = _parts(from_safetensors(path.read_bytes()))
        known = units.load(description["units"], {name: part.numpy() for name, part in parts["units"].items()})
        network = LanguageNetwork(Architecture(**description["architecture"]))
        network.load_state_dict(parts["network"])
        if len(known.symbols) != network.architecture.units:
            raise ValueError(f"{len(known.symbols)} units and a network for {network.architecture.units}")
    except (SafetensorError, ValueError, KeyError, TypeError, RuntimeError, ConfigError, ModelError) as error:
        raise DataError(f"the file is damaged: {error}", where=path, hint="copy or train it again") from None
    return NeuralLm(known, network.to(device).eval())


def extended(model: NeuralLm, words: Iterable[str], dropout: float) -> NeuralLm:
    """A copy of a model that knows more words, to be trained on with another dropout.

    New words begin with the weights of <unk>, whose probability they share with it in equal parts: what the model
    says of the words that it knew does not change.

    Args:
        model: over words, if some are new.
        words: known or not; special ones are left out.
        dropout: see `Architecture`.

    Raises:
        ConfigError: some are new, and the softmax is adaptive: which part of it a word is in depends on all others.
    """
    new = [word for word in dict.fromkeys(words) if word not in model and word not in units.SPECIAL]
    before, old = len(model.words), model.network
    network = LanguageNetwork(replace(old.architecture, units=before + len(new), dropout=dropout))
    state = old.state_dict()
    if not new:
        network.load_state_dict(state)
        return NeuralLm(model.units, network.to(model.device))
    if old.architecture.softmax == "adaptive":
        raise ConfigError(
            "an adaptive softmax takes no new words",
            where=new[0],
            expected="a model with a full or sampled softmax",
            hint="train it anew with --softmax sampled",
        )
    for name in _ROWS_OF_UNITS & state.keys():
        rows = state[name]
        state[name] = torch.cat([rows, rows[UNKNOWN].expand(len(new), *rows.shape[1:])])
    state["bias"][[UNKNOWN, *range(before, before + len(new))]] -= math.log(1 + len(new))
    network.load_state_dict(state)
    return NeuralLm(Words([*model.words[len(units.SPECIAL) :], *new]), network.to(model.device))


def _parts(tensors: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Tensors by the part of the model that their names begin with."""
    parts: dict[str, dict[str, Tensor]] = {"network": {}, "units": {}}
    for name, tensor in tensors.items():
        part, _, rest = name.partition(".")
        parts[part][rest] = tensor
    return parts
