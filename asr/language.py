"""The stages of a recipe that a language model brings: it is estimated, and the search that it guides is tuned."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from asr import artefact, build, tuning
from asr.config import Recipe
from asr.data import texts
from asr.data.manifest import Utterance, read_manifest
from asr.decoder_settings import DecoderSettings
from asr.errors import DataError
from asr.files import file_fingerprint, missing_files, write_json
from asr.recognizer import Recognizer
from asr.text import kneser_ney, mixing, ngram
from asr.workspace import Workspace


def inputs(recipe: Recipe) -> Any:
    """What the language model depends on beside the corpus."""
    section = recipe.language_model
    assert section is not None
    if missing := missing_files(section.texts):
        raise DataError("language_model.texts names files that are not there: " + ", ".join(missing))
    settings = section.model_dump(mode="json", exclude={"texts", "trials"})
    return [settings, [file_fingerprint(path) for path in section.texts], recipe.text.model_dump(mode="json")]


def estimate(work: Workspace) -> None:
    """Estimate an n-gram model of the training transcripts, written as the recogniser learns to write.

    Where there are further texts, or transcripts of several corpora (told apart by the field `corpus`), each has a
    model of its own, and these are mixed so as to foresee the dev set's transcripts best.
    """
    section, normalizer = work.recipe.language_model, build.normalizer(work.recipe.text)
    assert section is not None
    manifests, limits = work.manifests(), (section.prune, section.vocabulary)
    sources: list[tuple[str, Iterable[str], Any]] = [
        (f"transcripts{corpus}", transcripts, () if section.texts else limits)
        for corpus, transcripts in _by_corpus(read_manifest(manifests["train"])).items()
        if any(map(normalizer, transcripts))  # one may be noise alone
    ]
    sources += [(path.name, texts.read(path), limits) for path in section.texts]
    models = []
    for name, lines, limited in sources:
        found = kneser_ney.build(filter(None, map(normalizer, lines)), section.order, *limited)
        work.reporter.say(
            f"  {name}: {section.order}-grams of {found.tokens:,} words in {found.sentences:,} sentences"
        )
        models.append(found.model)
    if len(models) > 1:
        dev = (normalizer(utterance.text) for utterance in read_manifest(manifests["dev"]))
        weights = mixing.fitting_weights(models, dev)
        models = [mixing.mix(models, weights)]
        work.reporter.say(
            f"  mixed, as it fits the dev set best: {', '.join(f'{weight:.3f}' for weight in weights)}"
        )
    ngram.save(models[0], work.language_model)


def _by_corpus(utterances: Iterable[Utterance]) -> dict[str, list[str]]:
    """Transcripts by their corpus, as it is told in a line; most sets are of one, which has no name."""
    found: dict[str, list[str]] = {}
    for utterance in utterances:
        corpus = utterance.fields.get("corpus")
        found.setdefault(f" of {corpus}" if corpus else "", []).append(utterance.text)
    return found


def tune(work: Workspace) -> None:
    """Find the weights of the search with the fewest errors on dev, if there are fewer than in greedy decoding."""
    section = work.recipe.language_model
    assert section is not None
    device, manifest = build.device(work.recipe.training.device), work.manifests()["dev"]
    recognizer = Recognizer(artefact.load(work.trained, device), device)
    utterances = read_manifest(manifest)
    with work.reporter.progress("listen", len(utterances)) as advance:
        evidence = tuning.listen(recognizer, utterances, progress=advance)
    trials = section.trials + len(tuning.BEAM_WIDTHS)
    with work.reporter.progress("tune", trials) as advance:
        done = iter(range(1, trials + 1))
        tuned = tuning.tune(
            recognizer,
            evidence,
            DecoderSettings(lm=work.language_model),
            section.trials,
            on_trial=lambda trial: advance(next(done), f"WER {trial.score.wer:.2%}"),
        )
    best, found = tuned.best.score, tuned.best.settings
    work.reporter.say(
        f"  dev: WER {tuned.baseline.wer:.2%} greedy, {tuned.untuned.wer:.2%} with the usual weights, "
        f"{best.wer:.2%} with alpha {found.alpha:g}, beta {found.beta:g}, unknown {found.unknown:g}, "
        f"beam width {found.beam_width}"
    )
    if tuned.helps:
        write_json(work.search, tuned.search_settings(manifest).model_dump(mode="json", exclude={"lm"}))
    else:
        work.reporter.warn("the beam search is no better than greedy decoding on the dev set, and left out")
        write_json(work.search, None)
