"""A trained model on disk: a folder that can be copied, and that runs no code when it is loaded.

config.yaml           the resolved recipe
metadata.json         format version, versions of asr and torch, what identifies the weights, and what the training
                      says of itself
model.safetensors     weights, and statistics of the features
tokenizer.json …      the tokenizer's files
README.md             the model card
decoder.json          settings of the beam search, where they were tuned: see `DecoderSettings`
lm.ngram, lexicon.txt its language model and its words, where it has them
rescoring.ngram       the language model that ranks the best hypotheses anew, where it has one; .safetensors, where
                      it is neural
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, NonNegativeFloat, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as to_safetensors
from torch import Tensor, nn

from asr import build
from asr.config import Recipe
from asr.decoder_settings import DecoderSettings, faults
from asr.errors import ModelError, listing, refuse_newer_format
from asr.features import FeatureExtractor
from asr.files import PARTIAL, atomic_path, file_fingerprint, patiently, read_json, write_json, write_text
from asr.model.acoustic import AcousticModel
from asr.recipe_file import read_recipe, to_yaml
from asr.run_folder import RunFolder
from asr.text import tokenizer as tokenizers
from asr.text.tokenizer import Tokenizer

FORMAT_VERSION = 2
"""Raised whenever an older asr could not read, or would misread, what this one writes."""

ASR_VERSION = version("asr")
CONFIG, METADATA, WEIGHTS, CARD = "config.yaml", "metadata.json", "model.safetensors", "README.md"
DECODER, LANGUAGE_MODEL, LEXICON = "decoder.json", "lm.ngram", "lexicon.txt"
RESCORING, NEURAL_RESCORING = "rescoring.ngram", "rescoring.safetensors"
MOST_TENSORS_SHOWN = 5


class _Training(BaseModel):
    """What `_Known` says of a training."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)

    epochs: int = 0
    parameters: int = 0
    precision: str = ""
    dev: dict[str, Any] = {}
    sample_seconds: dict[str, NonNegativeFloat] = {}


class _Known(BaseModel):
    """What metadata.json may hold, and of which types, besides what others put there; all of it may be missing."""

    model_config = ConfigDict(strict=True)

    asr_version: str = ""
    torch_version: str = ""
    created: str = ""
    weights: str = ""
    name: str = ""
    seed: int = 0
    training: _Training = _Training()
    begun_from: dict[str, Any] | None = None
    manifests: dict[str, str] = {}
    tests: list[dict[str, Any]] = []
    search: str | None = None


@dataclass(frozen=True)
class Model:
    """A trained model in memory.

    Attributes:
        config: the resolved recipe.
        tokenizer: token ids to text.
        features: waveforms to features.
        acoustic: features to log-probabilities of tokens.
        metadata: what metadata.json holds.
        decoder: how its output is searched; greedily, where there are no settings.
    """

    config: Recipe
    tokenizer: Tokenizer
    features: FeatureExtractor
    acoustic: AcousticModel
    metadata: Mapping[str, Any]
    decoder: DecoderSettings | None = None


def save(
    folder: str | Path,
    *,
    config: Recipe,
    tokenizer: Tokenizer,
    features: FeatureExtractor,
    acoustic: AcousticModel,
    metadata: Mapping[str, Any],
    card: str,
    decoder: DecoderSettings | None = None,
) -> None:
    """Write a model folder as a whole, in place of one that is there.

    Args:
        folder: of the model.
        config, tokenizer, features, acoustic: its parts.
        metadata: JSON-able; the format version, the versions of asr and torch, the time and what identifies the
            weights are added.
        card: the text of its README.md.
        decoder: how its output is searched; the files that it names, which may be in the folder, become part of it.
    """
    known = {
        "format_version": FORMAT_VERSION,
        "asr_version": ASR_VERSION,
        "torch_version": torch.__version__,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in _state(features, acoustic).items()}
    with atomic_path(Path(folder)) as temporary:
        temporary.mkdir()
        write_text(temporary / CONFIG, to_yaml(config))
        write_text(temporary / CARD, card)
        tokenizer.save(temporary)
        # Not save_file: it keeps its file from everybody but its owner.
        (temporary / WEIGHTS).write_bytes(to_safetensors(tensors))
        # Last, since the metadata may be those of a model with other weights, or with the same in another order.
        identified = {"weights": file_fingerprint(temporary / WEIGHTS)}
        write_json(temporary / METADATA, known | dict(metadata) | identified)
        if decoder is not None:
            save_decoder(temporary, decoder)


def save_decoder(folder: str | Path, settings: DecoderSettings) -> None:
    """Write settings of the beam search into a model folder, in place of those that are there.

    At no moment does the folder hold settings beside files that they were not made for.

    Args:
        folder: of the model.
        settings: the files that they name become part of the model.
    """
    folder = Path(folder)
    files = {}
    with ExitStack() as written:
        for key, name, source, copy in (
            ("lm", LANGUAGE_MODEL, settings.lm, _copy_language_model),
            ("lexicon", LEXICON, settings.lexicon, shutil.copyfile),
            ("rescore", rescoring_name(settings), settings.rescore, _copy_language_model),
        ):
            if source is not None:
                files[key] = Path(name)
                if source.resolve() != (folder / name).resolve():
                    copy(source, written.enter_context(atomic_path(folder / name)))
        patiently(folder / DECODER, lambda: (folder / DECODER).unlink(missing_ok=True))
    write_json(folder / DECODER, settings.model_copy(update=files).model_dump(mode="json"))


def rescoring_name(settings: DecoderSettings) -> str:
    """How the language model with which settings rescore is called in a model folder."""
    from asr.text import language_models

    is_neural = settings.rescore is not None and language_models.is_neural(settings.rescore)
    return NEURAL_RESCORING if is_neural else RESCORING


def _copy_language_model(source: Path, destination: Path) -> None:
    from asr.text import language_models, ngram
    from asr.text.ngram import NgramModel

    model = language_models.load(source)
    if isinstance(model, NgramModel):
        ngram.save(model, destination)
    else:
        from asr.text import neural

        neural.save(model, destination)


def load(folder: str | Path, device: str | torch.device = "cpu") -> Model:
    """Read a model folder.

    Args:
        folder: of the model.
        device: where its tensors shall be.

    Returns:
        The model, in evaluation mode.

    Raises:
        ModelError: the folder or a file in it is missing, damaged, from a newer asr, or does not fit the others.
        ConfigError: its config.yaml is wrong.
    """
    folder = Path(folder)
    _check_files(folder)
    metadata = _read_metadata(folder / METADATA)
    config = read_recipe(folder / CONFIG)
    tokenizer = tokenizers.load(folder)
    features = build.features(config.features)
    acoustic = build.acoustic(config.model, features.dim, len(tokenizer.surfaces))
    _load_tensors(folder / WEIGHTS, features, acoustic)
    _check_weights(folder / WEIGHTS, metadata)
    return Model(
        config,
        tokenizer,
        features.to(device).eval(),
        acoustic.to(device).eval(),
        metadata,
        read_decoder(folder),
    )


def locate(path: str | Path) -> Path:
    """The model folder that a path means: itself, or the one that its run made.

    Raises:
        ModelError: there is none.
    """
    path = Path(path)
    run = RunFolder(path)
    for folder in (path, run.model):
        if (folder / METADATA).is_file():
            return folder
    if not path.exists():
        raise ModelError("there is no such folder", where=path, expected="a model or the run that made it")
    if (run.training / "log.jsonl").exists():
        raise ModelError(
            "this run has made no model yet: it was stopped, or goes on elsewhere",
            where=path,
            hint="the command that began it, to go on where it stopped",
        )
    raise ModelError(
        f"this is no model: it holds no {METADATA}",
        where=path,
        expected=f"a folder with {METADATA}, {CONFIG} and {WEIGHTS}, or a finished run",
    )


def identity(folder: Path) -> dict[str, Any]:
    """What tells a model from all others, and how good it is.

    Raises:
        ModelError: it is not a whole model.
    """
    _check_files(folder)
    metadata = _read_metadata(folder / METADATA)
    known = {key: metadata.get(key) for key in ("name", "created", "training", "tests")}
    return {"weights": file_fingerprint(folder / WEIGHTS), **known}


def newest(runs: Path) -> Path:
    """The folder of the newest model of all runs below a folder.

    Raises:
        ModelError: there is none.
    """
    found = [(created, folder) for folder in _models_below(runs) if (created := _created(folder))]
    if not found:
        raise ModelError(
            f"there is no trained model below {runs.absolute()}",
            hint="`asr train quickstart` to train one, or name a model's folder",
        )
    return max(found)[1]


def _models_below(folder: Path) -> Iterator[Path]:
    """Those of runs, without what is still being written. Links to runs are followed."""
    paths = {*folder.glob(f"**/model/{METADATA}"), *folder.glob(f"*/model/{METADATA}")}
    return (path.parent for path in paths if PARTIAL not in str(path.relative_to(folder)))


def _created(folder: Path) -> str | None:
    """When a model was made (ISO 8601 in UTC, so text order is time order), or None where that can't be read."""
    try:
        created = read_json(folder / METADATA)["created"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return created if isinstance(created, str) else None


def missing(folder: Path) -> list[str]:
    """The files that every model has, and that a folder lacks."""
    return [name for name in (METADATA, CONFIG, WEIGHTS) if not (folder / name).is_file()]


def _check_files(folder: Path) -> None:
    if not folder.is_dir():
        raise ModelError("there is no such folder", where=folder, expected="a trained model")
    if lacking := missing(folder):
        raise ModelError(
            f"{', '.join(lacking)} missing",
            where=folder,
            expected="all the files of a trained model",
            hint="copy the whole folder again",
        )


def _read_metadata(path: Path) -> dict[str, Any]:
    try:
        metadata = read_json(path)
        written_in = int(metadata["format_version"])
    except (ValueError, KeyError, TypeError, OverflowError):
        raise ModelError("not a model's metadata", where=path, expected="JSON with a format_version") from None
    writer = str(metadata.get("asr_version", ""))
    refuse_newer_format(written_in, FORMAT_VERSION, "model", path.parent, writer, ModelError)
    try:
        _Known.model_validate(metadata)
    except ValidationError as error:
        hint = "copy the model again"
        raise ModelError(f"not a model's metadata: {faults(error)}", where=path, hint=hint) from None
    return dict(metadata)


def read_decoder(folder: Path) -> DecoderSettings | None:
    """How a model's output is searched, if its folder tells it; files are named by where they are.

    Raises:
        ModelError: the settings are damaged, or files that they name are not there.
    """
    path = folder / DECODER
    if not path.is_file():
        return None
    try:
        settings = DecoderSettings.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise ModelError(f"not a decoder's settings: {faults(error)}", where=path) from None
    named = {"lm": settings.lm, "lexicon": settings.lexicon, "rescore": settings.rescore}
    files = {key: folder / name for key, name in named.items() if name is not None}
    missing = [str(file) for file in files.values() if not file.is_file()]
    if missing:
        raise ModelError(f"{path.name} names files that are not there: {', '.join(missing)}", where=folder)
    return settings.model_copy(update=files)


def _state(features: nn.Module, acoustic: nn.Module) -> dict[str, Tensor]:
    """The tensors of both parts (not copies), under the names that they have in the file."""
    return {
        f"{part}.{name}": tensor
        for part, module in (("features", features), ("acoustic", acoustic))
        for name, tensor in module.state_dict().items()
    }


def _load_tensors(path: Path, features: nn.Module, acoustic: nn.Module) -> None:
    try:
        stored = load_file(path)
    except SafetensorError as error:
        raise ModelError(f"the weights are damaged: {error}", where=path, hint="copy the model again") from None
    wanted = _state(features, acoustic)
    unfit = [f"{name} is missing" for name in wanted.keys() - stored.keys()]
    unfit += [f"{name} is not part of this model" for name in stored.keys() - wanted.keys()]
    for name in wanted.keys() & stored.keys():
        found, own = stored[name], wanted[name]
        if found.shape != own.shape:
            unfit.append(f"{name} is {list(found.shape)}, not {list(own.shape)}")
        elif not _is_like(found.dtype, own.dtype):
            unfit.append(f"{name} is of {found.dtype}, not {own.dtype}".replace("torch.", ""))
    if unfit:
        listed = listing(sorted(unfit), MOST_TENSORS_SHOWN)
        raise ModelError(
            f"{len(unfit)} of the weights do not fit {CONFIG} and the tokenizer\n{listed}",
            where=path,
            hint="copy the whole folder again: its files must come from one training",
        )
    with torch.no_grad():
        for name, tensor in wanted.items():
            tensor.copy_(stored[name])


def _is_like(found: torch.dtype, own: torch.dtype) -> bool:
    """Whether numbers can take the place of others: as the same type, or as real ones of another precision."""
    return found == own or (found.is_floating_point and own.is_floating_point)


def _check_weights(path: Path, metadata: Mapping[str, Any]) -> None:
    """Refuse weights that are not those with which the metadata were written; older ones do not tell these."""
    if "weights" in metadata and file_fingerprint(path) != metadata["weights"]:
        raise ModelError(
            f"the weights are damaged, or not those that {METADATA} was written with",
            where=path,
            hint="copy the model again, the whole folder",
        )
