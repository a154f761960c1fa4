"""Recipes: read, overridden, and every error of them reported together."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest
import torch
import yaml

from asr import build
from asr.card import model_card
from asr.config import CORPORA, Encoder, Frontend, FsddCorpus, Recipe, Section
from asr.errors import ConfigError
from asr.files import fingerprint
from asr.model.activations import ACTIVATIONS
from asr.model.dropout import DROPOUTS
from asr.model.encoder import CELLS
from asr.model.initialization import INITIALIZERS
from asr.model.normalization import NORMALIZATIONS
from asr.recipe_file import key_type, read_recipe, to_yaml

MINIMAL = "name: test\nprepare: {corpus: fsdd}\n"
MANIFESTS = "{corpus: manifests, train: a, dev: b"


def write(folder: Path, text: str) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def error_of(path: Path, *overrides: str) -> str:
    with pytest.raises(ConfigError) as raised:
        read_recipe(path, overrides)
    assert raised.value.exit_code == 2
    return str(raised.value)


def test_every_error_at_once_each_with_its_path_what_was_found_and_what_is_allowed(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        """
name: test
prepare: {corpus: fsdd, sourc: here}
training: {epochs: many, learning_rat: 3, warmup: 2}
model: {frontend: {channels: [8, 8], strides: [2]}, encoder: {cell: rnn}}
augment: {noise: {snr_db: [10, 3]}}
tokens: {kind: bpe}
""",
    )
    message = error_of(path, "seed=-1")
    assert "9 errors" in message
    for part in (
        "prepare.sourc: there is no such key (did you mean source?)",
        "training.epochs: should be a whole number; found 'many'",
        "training.learning_rat: there is no such key (did you mean learning_rate?); allowed: epochs, ",
        "training.warmup: should be 1 or less; found 2",
        "model.frontend: 2 channels but 1 strides",
        "model.encoder.cell: should be 'lstm' or 'gru'; found 'rnn'",
        "augment.noise.snr_db: the low end 10 is above the high end 3",
        "tokens: kind bpe needs a size",
        "seed: should be 0 or more; found -1",
    ):
        assert part in message


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("name: [", "not YAML"),
        ("- a\n- b", "a mapping"),
        ("name: a\nname: b", "'name' stands twice"),
        ("name: " + "[" * 3000, "hundreds deep"),
        ("name: " + "[" * 3000 + "]" * 3000, "hundreds deep"),
        ("- " * 3000 + "a", "hundreds deep"),
        ("name: a", "prepare: missing"),
        (
            "name: a\nprepare: {corpus: timit}",
            "prepare.corpus: there is no such corpus; allowed: manifests, commands, fsdd",
        ),
        (
            "training:\n  epochs:22\n  batch_seconds: 9",
            "try: a space behind each colon",
        ),
        ("training:\n\tepochs: 22", "try: spaces in place of tabs"),
    ],
)
def test_broken_files(tmp_path: Path, text: str, expected: str) -> None:
    assert expected in error_of(write(tmp_path, text))


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("training.epochs=2.5", "training.epochs: should be a whole number; found 2.5"),
        ("training.epochs=null", "training.epochs: should be a whole number; found null"),
        ("training.learning_rate=fast", "training.learning_rate: should be a number; found 'fast'"),
        ("training.learning_rate=.inf", "training.learning_rate: should be a finite number; found inf"),
        ("training.learning_rate=0", "training.learning_rate: should be above 0; found 0"),
        ("training.learning_rate=[1]", "training.learning_rate: should be a number; found [1]"),
        ("training.ema=1", "training.ema: should be below 1; found 1"),
        ("training.betas=[0.5, 0.5, 0.5]", "training.betas: should be 2 or fewer entries; found [0.5, 0.5, 0.5]"),
        ("training.betas=[0.5]", "training.betas.1: missing"),
        ("training.rates=[a]", "training.rates: should be keys with values: {key: value, …}; found ['a']"),
        ("training=5", "training: should be a section: keys below it, or {key: value, …}; found 5"),
        ("augment.noise=yes", "augment.noise: should be a section: keys below it, or {key: value, …}; found true"),
        ("augment.noise.snr_db=9", "augment.noise.snr_db: should be a range: [low, high]; found 9"),
        ("augment.noise.snr_db=[9]", "augment.noise.snr_db: should be a range: [low, high]; found [9]"),
        ("augment.noise.snr_db=[a, 9]", "augment.noise.snr_db.low: should be a number; found 'a'"),
        ("augment.codec.codecs=[]", "augment.codec.codecs: should be 1 or more entries; found []"),
        ("augment.codec.codecs=[mp9]", "augment.codec.codecs.0: should be 'opus' or 'mp3'; found 'mp9'"),
        ("model.frontend.channels=3", "model.frontend.channels: should be a list: [a, b, …]; found 3"),
        ("model.frontend.strides=[2, x]", "model.frontend.strides.1: should be a whole number; found 'x'"),
        ("model.encoder.bidirectional=7", "model.encoder.bidirectional: should be true or false; found 7"),
        ("tokens.keep=maybe", "tokens.keep: should be true or false; found 'maybe'"),
        (
            "evaluate.fields=[1]",
            "evaluate.fields.0: should be text (numbers, yes and no are text in quotation marks)",
        ),
        ("pretrain.audio=[a]", "pretrain.audio: should be a path; found ['a']"),
        ("training.init_from=3", "training.init_from: should be a path; found 3"),
        (
            "name=a/b",
            "name: should be letters, digits, “_”, “.” and “-”, the first one a letter or digit; found 'a/b'",
        ),
        ("training.epochs=true", "training: epochs should be a number; found true"),
        ("model.encoder.projection=false", "model.encoder: projection should be a number; found false"),
        (
            "training.rates={encodr: 0.1}",
            "training.rates: a model has no part 'encodr'; allowed: frontend, encoder, ",
        ),
        ("seed=100000000000000000000", "seed: should be below 9.22337e+18; found 100000000000000000000"),
        ("augment.gain_db=[0, 99]", "augment.gain_db.high: should be 60 or less; found 99"),
        ("augment.concatenate.pause_seconds=[-1, 0]", "augment.concatenate.pause_seconds: [-1, 0] is not within 0"),
        ("augment.noise.folder=~nobody-of-this-name/x", "augment.noise.folder: no home folder is known by this"),
        ("features.frame_shift_ms=0.01", "features: frames of 25 ms every 0.01 ms are too short at 16000 Hz"),
        ("features={kind: mfcc, n_mfcc: 60, n_mels: 40}", "features: n_mfcc is 60, but there are only 40 mel"),
        (
            "model.frontend={kind: inception, channels: [3], strides: [2]}",
            "model.frontend: 3 channels: inception shares them among its four branches",
        ),
        (
            "language_model={order: 2, prune: [0, 0, 1]}",
            "language_model: prune has 3 numbers, for n-grams of 2 words",
        ),
        (
            "language_model={prune: [1, 0]}",
            "language_model: prune is [1, 0]: no number may be smaller",
        ),
        (r"text.patterns={a: '\g<b>'}", r"text.patterns: 'a' to '\\g<b>' is no regular expression: unknown group"),
        ("augment.speed=1.1", "augment.speed: should be a list, such as [0.9, 1.0, 1.1], or {factors: …"),
        ("name=a.", "name: 'a.' can't be the name of a folder of Windows"),
        ("name=LPT1.a", "name: 'LPT1.a' can't be the name of a folder of Windows"),
        ("prepare=[]", "prepare: should be a section: keys below it, or {key: value, …}; found []"),
        ("prepare={}", "prepare.corpus: missing; allowed: manifests, "),
        (
            "prepare.corpus=fsd",
            "prepare.corpus: there is no such corpus (did you mean fsdd?); allowed: manifests, ",
        ),
        (f"prepare={MANIFESTS}, tests: {{1: c}}}}", "prepare.tests.1: should be text"),
        (f"prepare={MANIFESTS}, tests: {{dev: c}}}}", "prepare.tests.dev: 'dev' can't be the name of a test set"),
        (f"prepare={MANIFESTS}, tests: {{}}}}", "prepare.tests: should be 1 or more entries"),
    ],
)
def test_mistakes_are_in_our_words(tmp_path: Path, override: str, expected: str) -> None:
    assert f"\n  {expected}" in error_of(write(tmp_path, MINIMAL), override)


def test_who_has_made_a_mistake_is_told(tmp_path: Path) -> None:
    path = write(tmp_path, MINIMAL)
    assert error_of(path, "training.epochs=x").startswith(f"{path}, as changed on the command line: 1 error\n")
    assert error_of(path, "training={epochs: x}").startswith(f"{path}, as changed on the command line: 1 error\n")
    assert error_of(path, "training.backstitch=0.3").startswith(
        f"{path}, as changed on the command line: 1 error\n"
    )
    wrong = write(tmp_path, MINIMAL + "trainig: {}\n")
    assert error_of(wrong, "training.epochs=3").startswith(f"{wrong}: 1 error\n")


def test_files_that_cant_be_read(tmp_path: Path) -> None:
    (tmp_path / "latin.yaml").write_bytes("name: é".encode("latin-1"))
    for name, expected in {
        "latin.yaml": "byte 6 is not UTF-8",
        "gone.yaml": "no such file",
        ".": "a folder",
    }.items():
        assert expected in error_of(tmp_path / name)


def test_only_keys_that_the_recipe_has_are_suggested() -> None:
    recipe = Recipe.model_validate({"name": "test", "prepare": {"corpus": "fsdd"}})

    def suggested(key: str) -> str:
        with pytest.raises(ConfigError, match="there is no such key") as raised:
            key_type(recipe, key)
        return raised.value.what.partition("did you mean ")[2].rstrip("?)")

    assert suggested("prepare.recordings_per_digits") == "prepare.recordings_per_digit"
    assert suggested("augment.noise.snr_d") == "augment.noise.snr_db"  # of what is off
    assert suggested("prepare.train_utterances") == ""
    for key in {key for corpus in CORPORA.values() for key in corpus.model_fields} - set(FsddCorpus.model_fields):
        if meant := suggested(f"prepare.{key}"):
            key_type(recipe, meant)


def test_replacements_keep_their_order(tmp_path: Path) -> None:
    text = "text: {replacements: {b: c, a: b}, patterns: {'x+': y}}\n"
    recipe = read_recipe(write(tmp_path, MINIMAL + text))
    assert recipe.text.replacements == (("b", "c"), ("a", "b"))
    other = read_recipe(write(tmp_path, MINIMAL + "text: {replacements: {a: b, b: c}, patterns: {'x+': y}}\n"))
    assert fingerprint(recipe.text.model_dump(mode="json")) != fingerprint(other.text.model_dump(mode="json"))
    assert read_recipe(write(tmp_path, to_yaml(recipe))) == recipe
    assert build.normalizer(recipe.text)("a b xx") == "b c y"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{patterns: {'(': a}}", "text.patterns: '(' to 'a' is no regular expression: missing )"),
        (r"{patterns: {a: '\2'}}", "invalid group reference 2"),
        ("{replacements: {'': a}}", "1 or more characters"),
        ("{replacements: {1: a}}", "text.replacements.0.0: should be text"),
        ("{replacements: and}", "text.replacements: "),
    ],
)
def test_wrong_replacements(tmp_path: Path, text: str, expected: str) -> None:
    assert expected in error_of(write(tmp_path, f"{MINIMAL}text: {text}\n"))


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("epochs", "key=value"),
        ("=3", "key=value"),
        ("training.epochs=[", "not YAML"),
        ("training.epochs=" + "{a: " * 3000 + "}" * 3000, "hundreds deep"),
        (
            "name=2024-13-45",
            "not YAML: month must be in 1..12\n  try: what looks like a date or number, and is none",
        ),
        ("epochs=3", "epochs: there is no such key; pretrain.epochs or training.epochs may be meant"),
        ("model={[1]: 2}", "not YAML: a list or section as a key"),
        ("trainin.epochs=3", "training"),
        ("training.consistency=0.2", "set augment.spec_augment too"),
    ],
)
def test_wrong_overrides(tmp_path: Path, override: str, expected: str) -> None:
    assert expected in error_of(write(tmp_path, MINIMAL), override)


@pytest.mark.parametrize(
    "name", ["train", "dev", "a/b", "''", "'a: b'", "'why?'", "'a.'", "'a '", "aux", "Con.jsonl", '"a\\tb"']
)
def test_a_test_set_has_a_name_of_its_own(tmp_path: Path, name: str) -> None:
    """It would stand in for the training set, or its report be in a folder of its own."""
    sets = f"{{corpus: manifests, train: a.jsonl, dev: b.jsonl, tests: {{{name}: c.jsonl}}}}"
    assert "can't be the name of a test set" in error_of(write(tmp_path, f"name: test\nprepare: {sets}\n"))


def test_test_sets_may_be_called_what_files_may_be(tmp_path: Path) -> None:
    names = ["clean speech", "ärzte", "console", "com", "a.aux"]
    sets = f"{{corpus: manifests, train: a.jsonl, dev: b.jsonl, tests: {{{': c, '.join(names)}: c}}}}"
    assert list(read_recipe(write(tmp_path, f"name: test\nprepare: {sets}\n")).prepare.tests) == names


def test_masks_need_normalised_features(tmp_path: Path) -> None:
    path = write(tmp_path, MINIMAL + "features: {normalization: none}\n")
    assert "augment.spec_augment needs features.normalization utterance or global" in error_of(
        path, "augment.spec_augment={}"
    )
    assert read_recipe(path).augment.spec_augment is None
    for normalization in ("utterance", "global"):
        read_recipe(path, [f"features.normalization={normalization}", "augment.spec_augment={}"])


def test_overrides_win_and_paths_are_relative_to_where_they_were_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "recipe").mkdir()
    path = write(tmp_path / "recipe", MINIMAL + "augment: {noise: {folder: noises}}\ntraining: {epochs: 3}\n")
    monkeypatch.chdir(tmp_path)
    recipe = read_recipe(
        path,
        ["training.epochs=7", "prepare.source=audio", "augment.gain_db=[-6, 6]", "training.learning_rate=1e-4"],
    )
    assert recipe.training.epochs == 7
    assert recipe.training.learning_rate == 1e-4
    assert recipe.prepare.source == tmp_path / "audio"
    assert recipe.augment.noise is not None
    assert recipe.augment.noise.folder == tmp_path / "recipe" / "noises"
    assert recipe.augment.gain_db is not None
    assert recipe.augment.gain_db.pair == (-6, 6)


def test_a_tilde_is_the_home_folder(tmp_path: Path) -> None:
    recipe = read_recipe(write(tmp_path, MINIMAL), ["prepare.source=~/digits"])
    assert recipe.prepare.source == Path.home() / "digits"


def test_the_resolved_recipe_reads_back_as_itself(tmp_path: Path) -> None:
    recipe = read_recipe(write(tmp_path, MINIMAL), ["augment.reverb={}", "prepare.source=x"])
    assert Recipe.model_validate(yaml.safe_load(to_yaml(recipe))) == recipe


def test_recipes_that_ship_are_complete(tmp_path: Path) -> None:
    """Each writes out every section, so that a reader sees all there is to change."""
    for path in sorted((Path(__file__).parent.parent / "recipes").glob("*/recipe.yaml")):
        recipe = read_recipe(path)
        assert recipe.name == path.parent.name
        assert set(yaml.safe_load(path.read_text(encoding="utf-8"))) == set(Recipe.model_fields)


# ------------------------------------------------------------------------------------- the model's choices


def choices(section: type[Section], key: str) -> set[str]:
    return set(get_args(section.model_fields[key].annotation))


def test_the_schema_offers_what_there_is() -> None:
    assert choices(Frontend, "activation") == set(ACTIVATIONS)
    assert choices(Frontend, "normalization") == set(NORMALIZATIONS)
    assert choices(Frontend, "dropout_kind") == set(DROPOUTS)
    assert choices(Frontend, "initialization") == set(INITIALIZERS)
    assert choices(Encoder, "cell") == set(CELLS)
    assert choices(Encoder, "initialization") == set(INITIALIZERS)
    assert choices(Encoder, "recurrent_initialization") == set(INITIALIZERS)
    assert choices(Encoder, "normalization") < set(NORMALIZATIONS)
    assert choices(Encoder, "dropout_kind") < set(DROPOUTS)


def test_every_setting_reaches_the_model(tmp_path: Path) -> None:
    recipe = read_recipe(
        write(tmp_path, MINIMAL),
        [
            "model.frontend={activation: elu, normalization: group, groups: 3, channels: [6], strides: [3],"
            " kernel: 7, dropout: 0.25, dropout_kind: alpha, initialization: orthogonal}",
            "model.encoder={cell: lstm, layers: 1, hidden: 5, bidirectional: false, dropout: 0.125,"
            " dropout_kind: locked, weight_dropout: 0.5, normalization: batch, projection: 5, residual: true,"
            " initialization: orthogonal, recurrent_initialization: uniform, forget_bias: 3}",
        ],
    )
    shown = str(model := build.acoustic(recipe.model, 5, 4))
    for part in ("ELU(alpha=1.0)", "MaskedGroupNorm", "AlphaDropout(p=0.25", "kernel_size=(7,), stride=(3,)",
                 "LSTM(6, 5", "LockedDropout(p=0.125)", "MaskedBatchNorm"):  # fmt: skip
        assert part in shown
    conv, layer = model.frontend.blocks[0].conv, model.encoder.layers[0]
    assert conv.norm.groups == 3
    filters, gates = conv.conv.weight.flatten(1), layer.recurrent.forward_rnn.weight_ih_l0
    assert (filters @ filters.T).allclose(torch.eye(6), atol=1e-5)
    assert (gates[:5] @ gates[:5].T).allclose(torch.eye(5), atol=1e-5)
    assert layer.recurrent.forward_rnn.weight_hh_l0.abs().max() <= 5**-0.5
    assert layer.recurrent.forward_rnn.bias_ih_l0[5:10].tolist() == [3.0] * 5
    assert layer.recurrent.weight_dropout == 0.5
    assert layer.recurrent.backward_rnn is None
    assert layer.projection is not None
    assert not layer.residual  # the widths do not agree


@pytest.mark.parametrize("switch", [True, False])
def test_recipes_and_models_from_before_still_read(switch: bool) -> None:
    values = {
        "name": "old",
        "prepare": {"corpus": "fsdd"},
        "model": {"frontend": {"batch_norm": switch}, "encoder": {"layer_norm": switch}},
    }
    recipe = Recipe.model_validate(values)
    assert recipe.model.frontend.normalization == ("batch" if switch else "none")
    assert recipe.model.encoder.normalization == ("layer" if switch else "none")
    assert values["model"] == {"frontend": {"batch_norm": switch}, "encoder": {"layer_norm": switch}}
    assert "batch_norm" not in to_yaml(recipe)


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        (
            "model.frontend={batch_norm: true, normalization: layer}",
            "batch_norm has become normalization: batch",
        ),
        ("model.encoder={layer_norm: maybe}", "layer_norm has become normalization: layer, or none"),
    ],
)
def test_old_keys_that_say_two_things_or_nothing(tmp_path: Path, override: str, expected: str) -> None:
    assert expected in error_of(write(tmp_path, MINIMAL), override)


def test_a_card_counts_layers_and_epochs() -> None:
    model = {"encoder": {"cell": "lstm", "layers": 1, "hidden": 8}}
    metadata = {"training": {"parameters": 9, "epochs": 1}, "created": "2026-01-01T00:00", "tests": []}
    card = model_card(Recipe.model_validate({**yaml.safe_load(MINIMAL), "model": model, "seed": 1}), metadata)
    assert "1 bidirectional LSTM layer of 8" in card
    assert "(seed 1, 1 epoch)" in card.replace("\n", " ")
    evaluate = {"confidence": 0.975}
    card = model_card(Recipe.model_validate({**yaml.safe_load(MINIMAL), "evaluate": evaluate}), metadata)
    assert "at 97.5 % confidence" in card
