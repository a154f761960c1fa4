"""Transfer learning: which weights are taken over, which stay frozen and until when, and what users are told."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from recorder import Recorder
from safetensors.torch import load_file, save_file
from tones import SETTINGS, write_recipe
from torch import Tensor

from asr import artefact, build, origin, pipeline, stages
from asr.cli import main
from asr.config import Encoder, Features, Frontend, Model, Recipe, Tokens, Training
from asr.errors import ConfigError, ModelError
from asr.features import GlobalNorm
from asr.model.acoustic import AcousticModel
from asr.model.normalization import MaskedBatchNorm
from asr.recipe_file import read_recipe
from asr.text import tokenizer as tokenizers
from asr.training.loop import InterruptedTrainingError
from asr.training.optimization import Optimization, OptimizationMethods
from asr.training.optimizers import OptimizerSettings, layers, parameter_groups
from asr.training.transfer import transfer

BINS = 6


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """More would wait for each other on such small tensors."""
    torch.set_num_threads(1)


def acoustic(vocab: int, seed: int = 0, **given: object) -> AcousticModel:
    """A small model with statistics of batch normalisation in both parts, which are not the initial ones."""
    frontend = {"channels": (4, 4), "strides": (2, 1), "kernel": 3}
    encoder = {"layers": 2, "hidden": 3, "dropout": 0.3, "normalization": "batch"}
    for key, value in given.items():
        (frontend if key in frontend or key == "kind" else encoder)[key] = value
    torch.manual_seed(seed)
    model = build.acoustic(Model(frontend=Frontend(**frontend), encoder=Encoder(**encoder)), BINS, vocab)
    model.train()
    model(*batch(seed))
    return model


def batch(seed: int = 0) -> tuple[Tensor, Tensor]:
    return torch.randn(3, 20, BINS, generator=torch.Generator().manual_seed(seed)), torch.tensor([20, 13, 7])


def state(model: AcousticModel, part: str = "") -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items() if name.startswith(part)}


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


# ------------------------------------------------------------------------------------------------ weights

OLD = ["turn the lamp on", "turn it off", "set a timer for one minute", "the lamp is on"]
NEW = ["zero one two", "one lamp", "the two lamps", "naïve on"]


@pytest.mark.parametrize("kind", ["characters", "words", "bpe", "unigram"])
def test_rows_of_the_head_follow_the_tokens(kind: str) -> None:
    old, new = (build.tokens(Tokens(kind=kind, size=s), t) for s, t in sizes(kind))
    source, target = acoustic(len(old.surfaces), seed=1), acoustic(len(new.surfaces), seed=2)
    before = target.head.linear.weight.detach().clone(), target.head.linear.bias.detach().clone()
    taken = transfer(source.state_dict(), old.surfaces, target, new.surfaces)
    shared = 0
    for row, surface in enumerate(new.surfaces):
        (other,) = [index for index, known in enumerate(old.surfaces) if known == surface] or [None]
        weight, bias = before if other is None else (source.head.linear.weight, source.head.linear.bias)
        expected = row if other is None else other
        assert torch.equal(target.head.linear.weight[row], weight[expected])
        assert torch.equal(target.head.linear.bias[row], bias[expected])
        shared += other is not None
    assert 1 < shared < len(new.surfaces)
    assert set(taken.shared) == set(old.surfaces[1:]) & set(new.surfaces[1:])
    assert set(taken.added) == set(new.surfaces) - set(old.surfaces)
    assert set(taken.dropped) == set(old.surfaces) - set(new.surfaces)
    assert f"partly: {shared - 1} of {len(new.surfaces) - 1} symbols and the blank; new: " in str(taken)
    for part in ("frontend", "encoder"):
        assert same(state(source, part), state(target, part))


def sizes(kind: str) -> list[tuple[int | None, list[str]]]:
    return [(20, OLD), (19, NEW)] if kind in ("bpe", "unigram") else [(None, OLD), (None, NEW)]


@pytest.mark.parametrize("kind", ["conv1d", "resnet"])
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_a_model_with_the_same_tokens_is_the_same_model(kind: str, cell: str) -> None:
    surfaces = ("", " one", " two", " three")
    source, target = acoustic(4, 1, kind=kind, cell=cell), acoustic(4, 2, kind=kind, cell=cell)
    taken = transfer(source.state_dict(), surfaces, target, surfaces)
    features, lengths = batch(5)
    assert torch.equal(target.eval()(features, lengths)[0], source.eval()(features, lengths)[0])
    assert all(not layer.misfits and not layer.missing for layer in taken.layers)
    assert [line.split()[-1] for line in str(taken).splitlines()[1:]] == ["copied"] * 5


def test_tokens_in_another_order_give_the_same_answers() -> None:
    old, new = ("", " a", " b", " c"), ("", " c", " a", " b")
    source, target = acoustic(4, 1), acoustic(4, 2)
    transfer(source.state_dict(), old, target, new)
    features, lengths = batch(5)
    expected, found = source.eval()(features, lengths)[0], target.eval()(features, lengths)[0]
    torch.testing.assert_close(found, expected[..., [old.index(surface) for surface in new]])


def test_what_has_another_shape_stays_new_as_a_whole_and_is_named() -> None:
    surfaces = ("", " a")
    source, target = acoustic(2, 1, layers=3), acoustic(2, 2, channels=(4, 8))
    before = state(target)
    taken = transfer(source.state_dict(), surfaces, target, surfaces)
    after = state(target)
    for name in after:
        # The recurrent weights of encoder.layers.0 would fit, but not those that go with them.
        new = name.startswith(("frontend.blocks.1", "encoder.layers.0.recurrent"))
        assert torch.equal(after[name], before[name] if new else source.state_dict()[name]), name
    table = str(taken)
    assert "frontend.blocks.1  new\n  conv.conv: weight is [4, 4, 3] there, [8, 4, 3] here\n" in table
    assert "encoder.layers.0   partly: norm\n" in table
    assert "recurrent.forward_rnn: weight_ih_l0 is [12, 4] there, [12, 8] here\n" in table
    assert table.endswith("encoder.layers.2   only in that model")


def test_layers_that_are_not_there_are_new() -> None:
    surfaces = ("", " a")
    taken = transfer(acoustic(2, 1).state_dict(), surfaces, acoustic(2, 2, layers=3), surfaces)
    assert "encoder.layers.2   new\n" in str(taken)
    assert taken.anything


def test_the_blank_alone_is_nothing() -> None:
    source, target = acoustic(3, 1), acoustic(3, 2, channels=(5, 5), layers=1, hidden=3, normalization="none")
    assert not transfer(source.state_dict(), ("", " a", " b"), target, ("", " c", " d")).anything
    assert transfer(source.state_dict(), ("", " a", " b"), target, ("", " b", " d")).anything


# ------------------------------------------------------------------------------------ freezing and rates


def optimization(model: AcousticModel, rule: str = "adamw", **methods: object) -> Optimization:
    given = {"learning_rate": 0.05, "weight_decay": 0.1, "clip_norm": None, "precision": "fp32"}
    return Optimization(model, **given, methods=OptimizationMethods(OptimizerSettings(rule), **methods))


def step(model: AcousticModel, optimized: Optimization, seed: int = 0) -> None:
    optimized.prepare_model()
    log_probs, lengths = model(*batch(seed))
    optimized.step(sum(row[:length, 1].square().mean() for row, length in zip(log_probs, lengths, strict=True)), 1)


@pytest.mark.parametrize("rule", ["sgd", "momentum", "adagrad", "rmsprop", "adadelta", "adamw", "nadam"])
def test_parts_stay_as_they_are_until_their_epoch(rule: str) -> None:
    """To the last bit: weights, statistics, whatever else the steps do; and learn afterwards, statistics too."""
    model = acoustic(4)
    unfreeze = {"frontend": 3, "encoder": 2, "encoder.layers.1": 1}
    optimized = optimization(model, rule, unfreeze=unfreeze, l1=0.01, max_norm=0.3, ema=0.5)
    parts = ["frontend.blocks.0", "frontend.blocks.1", "encoder.layers.0", "encoder.layers.1", "head"]
    begins = [3, 3, 2, 1, 1]
    for epoch in (1, 2, 3):
        before = [state(model, part) for part in parts]
        optimized.begin_epoch(epoch)
        for seed in range(3):
            step(model, optimized, seed)
        with optimized.averaged():
            averaged = [state(model, part) for part in parts]
        for part, first, old, average in zip(parts, begins, before, averaged, strict=True):
            new = state(model, part)
            if epoch < first:
                assert same(new, old) and same(average, old), (epoch, part)
            else:
                assert not any(torch.equal(new[name], old[name]) for name in old), (epoch, part)


def test_frozen_parts_keep_their_statistics_and_dropout_stays_on() -> None:
    model = acoustic(4)
    optimized = optimization(model, rates={"frontend": 0, "encoder": 0})
    before = state(model)
    for _ in range(2):
        step(model, optimized)
    changed = {name for name, tensor in state(model).items() if not torch.equal(tensor, before[name])}
    assert changed == {"head.linear.weight", "head.linear.bias"}
    norms = [module for module in model.modules() if isinstance(module, MaskedBatchNorm)]
    assert len(norms) == 4 and not any(norm.training for norm in norms)
    assert model.encoder.layers[0].dropout.training and model.encoder.layers[0].recurrent.forward_rnn.training


def test_no_gradient_is_computed_for_what_is_frozen() -> None:
    model = acoustic(4)
    optimized = optimization(model, unfreeze={"frontend": 2})
    step(model, optimized)
    assert all(parameter.grad is None for parameter in model.frontend.parameters())
    assert all(parameter.grad is not None for parameter in model.encoder.parameters())


def test_the_optimiser_begins_anew_with_a_part() -> None:
    """Adam's first step is the learning rate, whatever the gradient (Kingma and Ba 2015)."""
    model = acoustic(4)
    optimized = optimization(model, "adam", unfreeze={"frontend": 2})
    optimized.optimizer.param_groups[0]["weight_decay"] = 0.0
    for _ in range(5):
        step(model, optimized)
    optimized.begin_epoch(2)
    weights = model.frontend.blocks[1].conv.norm.bias
    before = weights.detach().clone()
    step(model, optimized)
    torch.testing.assert_close((weights.detach() - before).abs(), torch.full_like(before, 0.05), rtol=1e-3, atol=0)


def test_each_layer_learns_more_slowly_than_the_one_above() -> None:
    model = acoustic(4)
    order = ["frontend.blocks.0", "frontend.blocks.1", "encoder.layers.0", "encoder.layers.1", "head"]
    assert layers(model) == order
    rates = {"encoder": 0.5, "encoder.layers.1": 2.0}
    groups = parameter_groups(model, 0.1, rates, layer_decay=0.8)
    found = {id(parameter): group["rate"] for group in groups for parameter in group["params"]}
    expected = dict(zip(order, [0.8**4, 0.8**3, 0.5 * 0.8**2, 2 * 0.8, 1.0], strict=True))
    for name, parameter in model.named_parameters():
        (layer,) = [layer for layer in order if name.startswith(f"{layer}.")]
        assert found[id(parameter)] == pytest.approx(expected[layer]), name


def test_something_must_learn_from_the_first_epoch() -> None:
    with pytest.raises(
        ConfigError, match=r"training\.unfreeze: every part of the model is frozen in the first epoch"
    ):
        optimization(acoustic(4), unfreeze={"frontend": 2, "encoder": 2, "head": 3})
    with pytest.raises(ConfigError, match=r"no part 'encodr'.*\n.*encoder, frontend, head"):
        optimization(acoustic(4), unfreeze={"encodr": 2})
    with pytest.raises(ConfigError, match="frontend is to be unfrozen, but has the rate 0"):
        optimization(acoustic(4), rates={"frontend": 0.0}, unfreeze={"frontend": 2})
    optimization(acoustic(4), rates={"encoder": 0.0, "encoder.layers.1": 1.0}, unfreeze={"encoder": 2})
    with pytest.raises(ValueError, match="encoder in epoch 5, but there are 4 epochs"):
        Training(epochs=4, unfreeze={"encoder": 5})


# ----------------------------------------------------------------------------------- runs on the command line


class Tones(NamedTuple):
    recipe: Path
    run: Path


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Tones:
    """A recipe, and a run of it that learnt something."""
    folder = tmp_path_factory.mktemp("tones")
    path = write_recipe(folder, train=60)
    pipeline.run(read_recipe(path, [*SETTINGS, "training.epochs=4"]), folder / "run", folder / "data", Recorder())
    return Tones(path, folder / "run")


@pytest.fixture
def tones(trained: Tones, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tones:
    """The same, where it may be changed, and the working folder."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(trained.run / "model", tmp_path / "old" / "model")
    return Tones(trained.recipe, Path("old"))


def settings(*more: str) -> list[str]:
    return [*SETTINGS, "training.init_from=old", "training.epochs=3", *more]


def asr(*arguments: object) -> int:
    with pytest.raises(SystemExit) as exit:
        main([str(argument) for argument in arguments])
    return int(exit.value.code or 0)


def train(recipe: Path, *more: str) -> int:
    return asr("train", recipe, *settings(*more), "--run-dir", "new", "--data-dir", "data")


def test_a_run_begins_with_a_model_and_says_so(tones: Tones, capsys: pytest.CaptureFixture[str]) -> None:
    assert train(tones.recipe) == 0
    shown = capsys.readouterr().err
    assert "begins with tones (" in shown
    table = ["frontend.blocks.0  copied", "encoder.layers.0   copied", "head               copied"]
    assert "\n".join(f"    {line}" for line in ["layer              weights", *table]) in shown
    losses = [json.loads(line)["train_loss"] for line in (Path("new/train/log.jsonl")).read_text().splitlines()]
    old = artefact.load("old/model")
    assert losses[0] < 1.5 * old.metadata["training"]["dev"]["loss"]  # 10 with new weights
    new = artefact.load("new/model").metadata["begun_from"]
    assert new["name"] == "tones"
    assert new["weights"] == artefact.identity(Path("old/model"))["weights"]
    assert new["tests"] == old.metadata["tests"] and new["training"] == old.metadata["training"]


def test_what_the_model_holds_counts_not_where_it_lies(tones: Tones, capsys: pytest.CaptureFixture[str]) -> None:
    assert train(tones.recipe) == 0
    Path("old").rename("elsewhere")
    capsys.readouterr()
    assert train(tones.recipe, "training.init_from=elsewhere/model") == 0
    assert capsys.readouterr().err.count("done before") == 6
    weights = Path("elsewhere/model/model.safetensors")
    tensors = load_file(weights)
    save_file({**tensors, "acoustic.head.linear.bias": tensors["acoustic.head.linear.bias"] + 1}, weights)
    assert train(tones.recipe, "training.init_from=elsewhere/model") == ConfigError.exit_code
    assert "weights to begin with: " in capsys.readouterr().err


def test_a_run_is_finished_where_the_model_is_gone(tones: Tones, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = read_recipe(tones.recipe, settings())
    with pytest.raises(InterruptedTrainingError):
        pipeline.run(recipe, Path("new"), Path("data"), Recorder(interrupt_after=20))
    shutil.rmtree("old")
    assert train(tones.recipe) == 0
    assert artefact.load("new/model").metadata["begun_from"]["name"] == "tones"
    assert train(tones.recipe, "training.init_from=older") == ModelError.exit_code
    assert "older: there is no such folder" in capsys.readouterr().err
    Path("new/train/begun_from.json").write_text("{")
    assert train(tones.recipe) == ModelError.exit_code
    assert "old: there is no such folder" in capsys.readouterr().err


GRADUAL = ("training.unfreeze={encoder: 2, frontend: 3}", "training.layer_decay=0.7", "training.ema=0.9")


def test_a_training_cut_off_between_two_unfreezings_resumes_exactly(tones: Tones) -> None:
    recipe = read_recipe(tones.recipe, settings(*GRADUAL))
    whole = Recorder()
    pipeline.run(recipe, Path("whole"), Path("data"), whole)
    said = [line for line in whole.said if "learning from here on" in line]
    assert [line.split()[1] for line in said] == ["2", "3"]
    for cut in (whole.steps // 2, whole.steps // 3):  # within the second epoch, and then within the third
        with pytest.raises(InterruptedTrainingError):
            pipeline.run(recipe, Path("new"), Path("data"), Recorder(interrupt_after=cut))
    pipeline.run(recipe, Path("new"), Path("data"), Recorder())
    assert same(load_file("whole/model/model.safetensors"), load_file("new/model/model.safetensors"))


def test_frozen_parts_come_out_as_they_were(tones: Tones) -> None:
    assert train(tones.recipe, "training.rates={frontend: 0, encoder: 0}") == 0
    old, new = (load_file(Path(run) / "model" / "model.safetensors") for run in ("old", "new"))
    changed = {name for name in old if not torch.equal(old[name], new[name])}
    assert changed == {"acoustic.head.linear.weight", "acoustic.head.linear.bias"}


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ("features.n_mels=20", ("features.n_mels: 16 there, 20 here", "try: features.n_mels=16")),
        ("features.normalization=global", ("features.normalization: utterance there, global here",)),
        (
            "model={frontend: {channels: [17], strides: [2]}, encoder: {layers: 1, hidden: 20}}",
            ("none of its weights fit", "model.frontend.channels: [16] there, [17] here", "cell: gru there, lstm"),
        ),
    ],
)
def test_models_that_do_not_fit_are_refused(
    tones: Tones, capsys: pytest.CaptureFixture[str], wrong: str, told: tuple[str, ...]
) -> None:
    assert train(tones.recipe, wrong) == ConfigError.exit_code
    shown = capsys.readouterr().err
    assert all(part in shown for part in told), shown
    assert "Traceback" not in shown


def test_tokens_that_cannot_be_kept_are_refused_before_a_corpus_is_prepared(
    tones: Tones, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(tones.recipe, "tokens={kind: characters, keep: true}") == ConfigError.exit_code
    shown = capsys.readouterr().err
    assert "tokens.keep with characters, but the tokens of the model to begin with are words" in shown
    assert "prepare" not in shown
    arguments = [tones.recipe, *settings("tokens={kind: characters, keep: true}"), "--data-dir", "data"]
    assert asr("train", *arguments, "--check-gradients") == ConfigError.exit_code
    assert "the tokens of the model to begin with are words" in capsys.readouterr().err


def test_weights_that_fit_another_network_are_warned_of(tones: Tones, capsys: pytest.CaptureFixture[str]) -> None:
    assert train(tones.recipe, "training.epochs=1", "model.frontend.strides=[1]", "model.encoder.dropout=0.2") == 0
    shown = capsys.readouterr().err
    assert "warning: weights go by their names and shapes" in shown
    assert "model.frontend.strides: [2] there, [1] here" in shown
    assert "dropout" not in shown


def test_trials_begin_with_the_model_too(tones: Tones, capsys: pytest.CaptureFixture[str]) -> None:
    frozen = "training.rates={frontend: 0, encoder: 0}"
    common = [tones.recipe, *settings(frozen)]
    assert asr("train", *common, "--overfit", 3, "--run-dir", "new", "--data-dir", "data") == 0
    assert artefact.load("new-overfit/train/final").config.training.rates == {}
    assert asr("train", *common, "--check-gradients", "--data-dir", "data") == 0
    # Its loss is as good as it gets, so there may be no rate to propose.
    code = asr("tune", "lr", *common, "--steps", 20, "--data-dir", "data", "--out", "rates.html")
    shown = capsys.readouterr()
    assert (code == 0) == ("try: asr train" in shown.out)
    assert (code == 1) == ("more --steps" in shown.err or "nothing is proposed" in shown.err)
    assert code in (0, 1) and Path("rates.html").is_file()
    assert shown.err.count("begins with tones") == 3


def test_statistics_of_global_normalisation_come_with_the_weights(tmp_path: Path) -> None:
    corpus = {"corpus": "manifests", "train": "a", "dev": "b", "tests": {"test": "c"}}
    section = Features(sample_rate=8000, n_mels=16, normalization="global")
    recipe = Recipe(name="old", prepare=corpus, features=section, model=Model(encoder=Encoder(layers=1, hidden=4)))
    norm = GlobalNorm(torch.linspace(-3, 2, 16), torch.linspace(0.5, 4, 16))
    tokenizer = build.tokens(recipe.tokens, ["abc"])
    parts = {
        "features": build.features(section, norm),
        "acoustic": build.acoustic(recipe.model, 16, len(tokenizer.surfaces)),
    }
    artefact.save(tmp_path / "old", config=recipe, tokenizer=tokenizer, metadata={}, card="", **parts)
    wanted = recipe.model_copy(update={"training": Training(init_from=tmp_path / "old")})
    found = stages.fit_features(wanted, []).state_dict()
    assert torch.equal(found["norm.mean"], norm.mean) and torch.equal(found["norm.std"], norm.std)


# ------------------------------------------------------------------------------------------------ tokens


def test_the_words_of_the_model_are_kept_before_the_new_ones(tones: Tones) -> None:
    recipe = read_recipe(tones.recipe, settings("tokens.keep=true"))
    assert origin.tokens(recipe, ["low beep", "a high low"]).surfaces == (
        "",
        " high",
        " low",
        " middle",
        " a",
        " beep",
    )
    plain = read_recipe(tones.recipe, settings())
    assert origin.tokens(plain, ["low beep"]).surfaces == ("", " beep", " low")


def test_all_that_the_model_can_say_survives_in_the_run(tones: Tones, capsys: pytest.CaptureFixture[str]) -> None:
    """Transcripts without “middle”: the model forgets the word, unless it is told to keep it."""
    for name in ("train", "dev", "test"):
        lines = (tones.recipe.parent / "corpus" / f"{name}.jsonl").read_text().splitlines()
        kept = [json.loads(line) for line in lines if "middle" not in line]
        for each in kept:
            each["audio_filepath"] = str(tones.recipe.parent / "corpus" / each["audio_filepath"])
        Path(f"{name}.jsonl").write_text("".join(f"{json.dumps(each)}\n" for each in kept))
    Path("recipe.yaml").write_text(tones.recipe.read_text().replace("corpus/", ""))
    few = ("training.epochs=1", "training.rates={head: 0, encoder: 0}")
    assert train(Path("recipe.yaml"), *few) == 0
    assert "left behind: middle, which the new transcripts don't have; tokens.keep=true" in capsys.readouterr().err
    assert artefact.load("new/model").tokenizer.surfaces == ("", " high", " low")
    shutil.rmtree("new")
    assert train(Path("recipe.yaml"), *few, "tokens.keep=true") == 0
    old, new = artefact.load("old/model"), artefact.load("new/model")
    assert new.tokenizer.surfaces == old.tokenizer.surfaces == ("", " high", " low", " middle")
    assert torch.equal(new.acoustic.head.linear.weight, old.acoustic.head.linear.weight)


def keeping(folder: Path, tokenizer: tokenizers.Tokenizer) -> Recipe:
    """A recipe that keeps the tokens of a model."""
    section = Tokens(kind=tokenizer.kind, size=None if tokenizer.kind == "characters" else 99, keep=True)
    folder.mkdir()
    (folder / artefact.METADATA).write_text("{}")
    tokenizer.save(folder)
    corpus = {"corpus": "manifests", "train": "a", "dev": "b", "tests": {"test": "c"}}
    return Recipe(name="new", prepare=corpus, tokens=section, training=Training(init_from=folder))


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_pieces_are_kept_as_they_are(kind: str, tmp_path: Path) -> None:
    old = build.tokens(Tokens(kind=kind, size=20), OLD)
    recipe = keeping(tmp_path / "old", old)
    assert origin.tokens(recipe, ["lamp is", "of one"]).surfaces == old.surfaces
    with pytest.raises(ConfigError, match="can't spell z, q of the transcripts"):
        origin.tokens(recipe, ["one zone", "a quiz"])


def test_characters_are_added_after_those_of_the_model(tmp_path: Path) -> None:
    recipe = keeping(tmp_path / "old", build.tokens(Tokens(), ["bad"]))
    found = origin.tokens(recipe, ["abc é"])
    assert found.surfaces == ("", " ", "a", "b", "d", "c", "é")
    assert found.decode(found.encode("bad é")) == "bad é"


def test_keeping_tokens_needs_a_model() -> None:
    corpus = {"corpus": "manifests", "train": "a", "dev": "b", "tests": {"test": "c"}}
    with pytest.raises(ValueError, match=r"set training\.init_from too"):
        Recipe(name="new", prepare=corpus, tokens=Tokens(keep=True))
