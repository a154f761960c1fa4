"""Model folders: they come back as they were saved, and what can't be trusted is refused with a reason."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import asr
from asr import artefact, build
from asr.artefact import Model
from asr.config import Recipe
from asr.decoder_settings import DecoderSettings, Tuning
from asr.doctor import SPOKEN, synthesise
from asr.errors import DataError, ModelError
from asr.features import GlobalNorm
from asr.files import PARTIAL
from asr.recognizer import Recognizer
from asr.text import neural, ngram, units
from asr.text.neural_network import Architecture, LanguageNetwork
from asr.text.normalize import Normalizer

MODELS = Path(__file__).parent / "models"


def make_model(kind: str = "characters", size: int | None = None, normalization: str = "utterance") -> Model:
    recipe = Recipe.model_validate(
        {
            "name": "small",
            "prepare": {"corpus": "manifests", "train": "/a", "dev": "/b", "tests": {"c": "/c"}},
            "tokens": {"kind": kind, "size": size},
            "features": {"sample_rate": 8000, "n_mels": 12, "normalization": normalization},
            "model": {"frontend": {"channels": [8], "strides": [2]}, "encoder": {"layers": 1, "hidden": 8}},
        }
    )
    torch.manual_seed(1)
    tokenizer = build.tokens(recipe.tokens, ["grüße aus köln", "naïve café"])
    statistics = GlobalNorm(torch.linspace(-9, 2, 12), torch.linspace(0.5, 3, 12))
    features = build.features(recipe.features, statistics if normalization == "global" else None)
    acoustic = build.acoustic(recipe.model, features.dim, len(tokenizer.surfaces))
    return Model(recipe, tokenizer, features, acoustic, {"seed": 1})


def save(model: Model, folder: Path, **metadata: Any) -> Path:
    artefact.save(
        folder,
        config=model.config,
        tokenizer=model.tokenizer,
        features=model.features,
        acoustic=model.acoustic,
        metadata={**model.metadata, **metadata},
        card="# small\n",
    )
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save(make_model(), tmp_path / "model")


def edit_metadata(folder: Path, **changes: Any) -> None:
    path = folder / "metadata.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def forget_weights(folder: Path) -> None:
    """Have the metadata be those of a model from before they identified the weights."""
    path = folder / "metadata.json"
    metadata = json.loads(path.read_text())
    path.write_text(json.dumps({key: value for key, value in metadata.items() if key != "weights"}))


@pytest.mark.parametrize(
    ("kind", "size", "normalization"),
    [("characters", None, "utterance"), ("words", None, "global"), ("bpe", 30, "none"), ("unigram", 19, "global")],
)
def test_a_model_comes_back_as_it_was(tmp_path: Path, kind: str, size: int | None, normalization: str) -> None:
    model = make_model(kind, size, normalization)
    loaded = artefact.load(save(model, tmp_path / "model", wer=0.25))
    assert loaded.config == model.config
    assert loaded.tokenizer.surfaces == model.tokenizer.surfaces
    assert loaded.tokenizer.encode("grüße aus köln") == model.tokenizer.encode("grüße aus köln")
    waveforms = [np.random.default_rng(0).standard_normal(5000).astype(np.float32)]
    expected, _ = Recognizer(model).log_probs(waveforms)
    found, _ = Recognizer(loaded).log_probs(waveforms)
    assert torch.equal(found, expected)
    assert (loaded.metadata["seed"], loaded.metadata["wer"]) == (1, 0.25)


@pytest.mark.parametrize("kept", sorted(MODELS.iterdir()), ids=lambda folder: folder.name)
def test_every_format_that_was_ever_written_still_loads(kept: Path) -> None:
    """A self-test's model of each format; a new format gets a new folder, the old ones stay."""
    waveform = synthesise(SPOKEN, np.random.default_rng(7))
    assert asr.load(kept, device="cpu").transcribe(waveform).text == SPOKEN


def test_the_format_of_today_is_among_those_kept() -> None:
    assert (MODELS / f"format-{artefact.FORMAT_VERSION}").is_dir()


def test_a_loaded_model_is_ready_for_use(folder: Path) -> None:
    loaded = artefact.load(folder)
    assert not loaded.acoustic.training
    assert not loaded.features.training


def test_the_folder_holds_what_it_should_and_no_pickle(folder: Path) -> None:
    names = {"config.yaml", "metadata.json", "model.safetensors", "tokenizer.json", "README.md"}
    assert {path.name for path in folder.iterdir()} == names
    metadata = json.loads((folder / "metadata.json").read_text())
    assert metadata["format_version"] == artefact.FORMAT_VERSION
    assert metadata["asr_version"] == asr.__version__
    assert metadata["torch_version"] == torch.__version__
    assert metadata["created"].endswith("+00:00")


def test_saving_replaces_the_folder_as_a_whole(folder: Path) -> None:
    (folder / "left over").touch()
    save(make_model("words"), folder)
    assert not (folder / "left over").exists()
    assert artefact.load(folder).tokenizer.kind == "words"


def test_a_failed_save_leaves_the_model_that_was_there(folder: Path) -> None:
    before = (folder / "metadata.json").read_text()
    with pytest.raises(ValueError, match="JSON"):
        save(make_model(), folder, wer=float("nan"))
    assert (folder / "metadata.json").read_text() == before
    assert [path.name for path in folder.parent.iterdir()] == ["model"]


# ------------------------------------------------------------------------------------ the decoder's settings

ARPA = """\\data\\
ngram 1=4

\\1-grams:
-0.5\t<unk>
-0.4\t</s>
-0.3\tgrüße
-0.9\taus

\\end\\
"""
TUNING = Tuning(manifest="0123456789abcdef", utterances=3, words=9, wer_greedy=0.3, wer_untuned=0.2, wer=0.1)


@pytest.fixture
def tuned(folder: Path, tmp_path: Path) -> Path:
    """A model with settings of its own, whose language model and lexicon came from elsewhere."""
    (tmp_path / "text.arpa").write_text(ARPA, encoding="utf-8")
    (tmp_path / "words").write_text("grüße\naus\n", encoding="utf-8")
    settings = DecoderSettings(
        alpha=0.75, beam_width=16, lm=tmp_path / "text.arpa", lexicon=tmp_path / "words", tuning=TUNING
    )
    artefact.save_decoder(folder, settings)
    return folder


def test_a_model_without_settings_has_none(folder: Path) -> None:
    assert artefact.load(folder).decoder is None


def test_settings_travel_with_the_folder(tuned: Path, tmp_path: Path) -> None:
    expected = ngram.load(tmp_path / "text.arpa").log_prob(["grüße", "aus"])
    (tmp_path / "text.arpa").unlink()
    (tmp_path / "words").unlink()
    elsewhere = tuned.rename(tmp_path / "elsewhere")
    settings = artefact.load(elsewhere).decoder
    assert settings == DecoderSettings(
        alpha=0.75,
        beam_width=16,
        lm=elsewhere / "lm.ngram",
        lexicon=elsewhere / "lexicon.txt",
        tuning=TUNING,
    )
    assert ngram.load(elsewhere / "lm.ngram").log_prob(["grüße", "aus"]) == expected
    assert (elsewhere / "lexicon.txt").read_text(encoding="utf-8") == "grüße\naus\n"


def test_a_rescoring_travels_with_the_folder(tuned: Path, tmp_path: Path) -> None:
    settings = artefact.load(tuned).decoder
    assert settings is not None
    (tmp_path / "second.arpa").write_text(ARPA.replace("-0.9", "-1.9"), encoding="utf-8")
    rescoring = {"rescore": tmp_path / "second.arpa", "gamma": 0.5, "first_pass": 0.25, "nbest_rescored": 20}
    artefact.save_decoder(tuned, settings.model_copy(update=rescoring))
    (tmp_path / "second.arpa").unlink()
    elsewhere = tuned.rename(tmp_path / "elsewhere")
    again = artefact.load(elsewhere).decoder
    assert again is not None
    assert again.rescore == elsewhere / "rescoring.ngram"
    assert (again.gamma, again.first_pass, again.nbest_rescored) == (0.5, 0.25, 20)
    assert ngram.load(elsewhere / "rescoring.ngram").log_prob(["aus"], eos=False) == pytest.approx(
        -1.9 * np.log(10)
    )
    assert ngram.load(elsewhere / "lm.ngram").log_prob(["aus"], eos=False) == pytest.approx(-0.9 * np.log(10))
    (elsewhere / "rescoring.ngram").unlink()
    with pytest.raises(ModelError, match=r"rescoring\.ngram"):
        artefact.load(elsewhere)


def test_a_neural_rescoring_travels_with_the_folder(folder: Path, tmp_path: Path) -> None:
    known = units.count_words(["grüße aus"])
    network = LanguageNetwork(Architecture(len(known.symbols), embedding=4, hidden=5))
    neural.save(neural.NeuralLm(known, network), tmp_path / "lm.safetensors")
    artefact.save_decoder(folder, DecoderSettings(rescore=tmp_path / "lm.safetensors"))
    expected = neural.load(tmp_path / "lm.safetensors").log_prob([["grüße"]])
    (tmp_path / "lm.safetensors").unlink()
    settings = artefact.load(folder.rename(tmp_path / "elsewhere")).decoder
    assert settings is not None
    assert settings.rescore == tmp_path / "elsewhere" / "rescoring.safetensors"
    assert neural.load(settings.rescore).log_prob([["grüße"]]) == pytest.approx(expected)


def test_settings_are_replaced_and_files_of_the_model_kept(tuned: Path) -> None:
    settings = artefact.load(tuned).decoder
    assert settings is not None
    before = (tuned / "lm.ngram").read_bytes()
    artefact.save_decoder(tuned, settings.model_copy(update={"alpha": 2.0, "lexicon": None}))
    again = artefact.load(tuned).decoder
    assert again == settings.model_copy(update={"alpha": 2.0, "lexicon": None})
    assert (tuned / "lm.ngram").read_bytes() == before


def test_settings_that_can_not_be_written_leave_those_that_were_there(tuned: Path, tmp_path: Path) -> None:
    before = {path.name: path.read_bytes() for path in tuned.iterdir()}
    (tmp_path / "other words").write_text("köln\n", encoding="utf-8")
    (tmp_path / "broken.arpa").write_text("broken")
    with pytest.raises(DataError, match=r"broken\.arpa"):
        artefact.save_decoder(tuned, DecoderSettings(lm=tmp_path / "broken.arpa", lexicon=tmp_path / "other words"))
    assert {path.name: path.read_bytes() for path in tuned.iterdir()} == before


def test_a_new_training_does_not_inherit_settings(tuned: Path) -> None:
    save(make_model(), tuned)
    assert artefact.load(tuned).decoder is None


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", "Invalid JSON"),
        ("[]", "should be a section"),
        ('{"alpha": -1}', "alpha: should be 0 or more"),
        ('{"alpha": "much"}', "alpha: should be a number"),
        ('{"omega": 1}', "omega: there is no such key"),
        ('{"beta": NaN}', "beta: should be a finite number"),
    ],
)
def test_wrong_settings_are_refused(folder: Path, content: str, expected: str) -> None:
    (folder / "decoder.json").write_text(content)
    with pytest.raises(ModelError, match=rf"decoder\.json: not a decoder's settings: .*{expected}"):
        artefact.load(folder)


def test_a_missing_language_model_is_named(tuned: Path) -> None:
    (tuned / "lm.ngram").unlink()
    with pytest.raises(ModelError, match=r"lm\.ngram"):
        artefact.load(tuned)


# ------------------------------------------------------------------------------------------------ refusal


@pytest.mark.parametrize("version", [artefact.FORMAT_VERSION + 1, 99, 0, -1])
def test_an_unknown_format_is_refused_with_the_version_that_wrote_it(folder: Path, version: int) -> None:
    edit_metadata(folder, format_version=version, asr_version="7.8.9")
    with pytest.raises(ModelError, match=rf"format {version}, written by asr 7\.8\.9"):
        artefact.load(folder)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"format_version": "new"}', "\x00"])
def test_metadata_that_says_nothing_is_refused(folder: Path, content: str) -> None:
    (folder / "metadata.json").write_text(content)
    with pytest.raises(ModelError, match=r"metadata\.json: not a model's metadata"):
        artefact.load(folder)


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"training": "x"}, "training: should be a section"),
        ({"training": {"sample_seconds": 3}}, "training.sample_seconds: "),
        ({"training": {"sample_seconds": {"typical": "long"}}}, "training.sample_seconds.typical: "),
        ({"created": None}, "created: "),
        ({"created": 20260301}, "created: "),
        ({"tests": {"test": 0.1}}, "tests: "),
        ({"begun_from": "another"}, "begun_from: "),
        ({"weights": 7}, "weights: "),
    ],
)
def test_metadata_of_wrong_types_are_refused_by_key(folder: Path, changes: dict[str, Any], fault: str) -> None:
    edit_metadata(folder, **changes)
    for read in (artefact.load, artefact.identity):
        with pytest.raises(ModelError, match=rf"metadata\.json: not a model's metadata: {re.escape(fault)}"):
            read(folder)


def test_metadata_need_no_more_than_the_format(folder: Path) -> None:
    """As those of models that others make."""
    (folder / "metadata.json").write_text('{"format_version": 1, "maker": ["others"]}')
    model = artefact.load(folder)
    assert model.metadata == {"format_version": 1, "maker": ["others"]}
    assert isinstance(Recognizer(model).transcribe(np.zeros(8000, np.float32)).text, str)
    assert artefact.identity(folder)["created"] is None


def test_a_version_without_end_is_refused(folder: Path) -> None:
    (folder / "metadata.json").write_text('{"format_version": 1e999}')
    with pytest.raises(ModelError, match=r"metadata\.json: not a model's metadata"):
        artefact.load(folder)


@pytest.mark.parametrize("name", ["config.yaml", "metadata.json", "model.safetensors", "tokenizer.json"])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(ModelError, match=name):
        artefact.load(folder)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="nowhere"):
        artefact.load(tmp_path / "nowhere")


def test_damaged_weights_are_refused(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    with pytest.raises(ModelError, match=r"model\.safetensors: the weights are damaged"):
        artefact.load(folder)


@pytest.mark.parametrize("place", [-1, -2000])
def test_a_bit_that_has_flipped_in_the_weights_is_noticed(folder: Path, place: int) -> None:
    weights = folder / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[place] ^= 1
    weights.write_bytes(content)
    with pytest.raises(ModelError, match=r"model\.safetensors: the weights are damaged.*\n.*copy the model again"):
        artefact.load(folder)


def test_the_weights_are_those_of_the_last_time_that_a_model_was_written(folder: Path, tmp_path: Path) -> None:
    """Whatever the metadata say that come with them, as where a run packages what it has trained."""
    other = artefact.load(save(make_model(normalization="global"), tmp_path / "other"))
    save(other, folder, weights="0123456789abcdef")
    artefact.save_decoder(folder, DecoderSettings(beam_width=16))
    assert artefact.load(folder).metadata["weights"] == other.metadata["weights"]


def test_models_that_do_not_identify_their_weights_load(folder: Path) -> None:
    forget_weights(folder)
    assert "weights" not in artefact.load(folder).metadata


def test_weights_of_other_numbers_are_refused_and_of_another_precision_are_not(folder: Path) -> None:
    path = folder / "model.safetensors"
    tensors = load_file(path)
    forget_weights(folder)
    save_file({name: tensor.half() for name, tensor in tensors.items()}, path)
    halved = artefact.load(folder).acoustic.state_dict()
    assert all(tensor.dtype == tensors[f"acoustic.{name}"].dtype for name, tensor in halved.items())
    save_file({name: tensor.int() for name, tensor in tensors.items()}, path)
    with pytest.raises(ModelError, match=r"(?s)of the weights do not fit.*is of int32, not float32"):
        artefact.load(folder)


def test_weights_of_another_model_are_refused_by_name_and_shape(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    del tensors["acoustic.head.linear.bias"]
    tensors["acoustic.head.linear.weight"] = torch.zeros(3, 5)
    tensors["acoustic.extra"] = torch.zeros(2)
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(ModelError) as caught:
        artefact.load(folder)
    message = str(caught.value)
    assert "3 of the weights" in message
    assert "acoustic.head.linear.bias is missing" in message
    assert "acoustic.extra is not part of this model" in message
    assert "acoustic.head.linear.weight is [3, 5], not [" in message


def test_another_models_tokenizer_is_refused(folder: Path, tmp_path: Path) -> None:
    other = save(make_model("words"), tmp_path / "other")
    (folder / "tokenizer.json").write_bytes((other / "tokenizer.json").read_bytes())
    with pytest.raises(ModelError, match="do not fit"):
        artefact.load(folder)


# ------------------------------------------------------------------------------------------------ finding


def test_a_run_stands_for_its_model(tmp_path: Path) -> None:
    model = save(make_model(), tmp_path / "runs" / "first" / "model")
    assert artefact.locate(model) == model
    assert artefact.locate(model.parent) == model
    with pytest.raises(ModelError, match=r"runs: this is no model"):
        artefact.locate(tmp_path / "runs")
    with pytest.raises(ModelError, match="no such folder"):
        artefact.locate(tmp_path / "nowhere")
    (tmp_path / "stopped" / "train").mkdir(parents=True)
    (tmp_path / "stopped" / "train" / "log.jsonl").touch()
    with pytest.raises(ModelError, match=r"stopped: this run has made no model yet"):
        artefact.locate(tmp_path / "stopped")


def test_the_newest_model_is_the_one_made_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    model = make_model()
    for name, created in (("b", "2026-03-01"), ("a/deeper", "2026-03-03"), ("c", "2026-03-02")):
        save(model, Path("runs", name, "model"), created=f"{created}T00:00:00+00:00", order=name)
    broken = Path("runs", "d", "model")
    broken.mkdir(parents=True)
    (broken / "metadata.json").write_text("half")
    edit_metadata(save(model, Path("runs", "e", "model")), created=[2027])
    assert artefact.newest(Path("runs")) == Path("runs/a/deeper/model")
    assert asr.load(device="cpu").model.metadata["order"] == "a/deeper"
    assert asr.load("runs/b", device="cpu").model.metadata["order"] == "b"


def test_the_newest_model_is_a_whole_one_and_may_be_behind_a_link(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    model, elsewhere = make_model(), tmp_path / "elsewhere"
    save(model, elsewhere / "model", created="2026-03-01T00:00:00+00:00")
    Path("runs").mkdir()
    Path("runs", "mine").symlink_to(elsewhere, target_is_directory=True)
    half = save(model, Path("runs", "b", f".model{PARTIAL}x", "model"), created="2026-03-02T00:00:00+00:00")
    assert half.is_dir()
    assert artefact.newest(Path("runs")) == Path("runs/mine/model")


def test_without_any_model_the_way_to_one_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match="asr train quickstart"):
        asr.load()


def test_the_lines_of_a_lexicon_are_normalised_one_by_one(tmp_path: Path) -> None:
    path = tmp_path / "words.txt"
    path.write_text("‘tis\nsea\ndogs’\n", encoding="utf-8")
    normalizer = Normalizer(patterns=((r"^sea$", "ocean"),))
    assert build.lexicon(DecoderSettings(lexicon=path), normalizer) == ["dogs'", "ocean", "tis"]


@pytest.mark.parametrize(
    ("content", "fault"),
    [(None, "there is no such file"), (b"one tw\xff", "byte 6 is not UTF-8"), (b" \n", "holds no words")],
)
def test_a_lexicon_that_is_none_is_refused(tmp_path: Path, content: bytes | None, fault: str) -> None:
    path = tmp_path / "words.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=rf"words\.txt: {fault}"):
        build.lexicon(DecoderSettings(lexicon=path), Normalizer())
