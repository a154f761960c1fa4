"""Train SpeechBrain's CTC recipe on the corpus of a run, for as long as that was trained, and compare word errors.

    python scripts/compare_speechbrain.py RUN --corpus FOLDER --work FOLDER --minutes 60

`scripts/README.md` says what is trained and how.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
from pathlib import Path

from bench_train import HERE, PEER
from peers import environment

from asr import build, recipe_file
from asr.config import Recipe
from asr.data.manifest import Utterance, read_manifest
from asr.evaluation import wer
from asr.text import tokenizer as tokenizers


def main() -> None:
    """Write what the peer needs, let it train and transcribe, score both alike."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="of `asr train`, whose tokens and transcripts are taken")
    parser.add_argument("--corpus", type=Path, required=True, metavar="FOLDER", help="which the run has prepared")
    parser.add_argument("--work", type=Path, required=True, metavar="FOLDER", help="for everything that is made")
    parser.add_argument("--minutes", type=float, required=True, help="of training")
    parser.add_argument("--threads", type=int, default=1, help="of the network's operations (%(default)s)")
    parser.add_argument("--seed", type=int, default=1986, help="SpeechBrain's own by default")
    parser.add_argument("--cnn", type=int, nargs=2, default=(128, 256), metavar="CHANNELS", help="%(default)s")
    parser.add_argument("--rnn", type=int, nargs=2, default=(4, 512), metavar=("LAYERS", "UNITS"))
    parser.add_argument("--cell", choices=("ligru", "lstm"), default="ligru", help="(%(default)s)")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32", help="(%(default)s)")
    parser.add_argument("--dnn", type=int, default=512, metavar="UNITS", help="of two layers (%(default)s)")
    parser.add_argument("--batch", type=int, default=8, help="utterances (%(default)s)")
    parser.add_argument("--pooling", type=int, default=2, help="of frames (%(default)s)")
    arguments = parser.parse_args()
    recipe = recipe_file.read_recipe(arguments.run / "config.yaml")
    work = arguments.work.resolve()
    task = {name: value for name, value in vars(arguments).items() if not isinstance(value, Path)}
    task |= {"work": str(work), **write_sets(recipe, arguments.run, arguments.corpus, work)}
    python = environment(work / "speechbrain", PEER)
    environ = {**os.environ, "OMP_NUM_THREADS": str(arguments.threads)}
    command = [str(python), str(HERE / "speechbrain_ctc.py"), json.dumps(task)]
    subprocess.run(command, check=True, env=environ)
    report(work, recipe, read_manifest(arguments.corpus / "test.jsonl"))


def write_sets(recipe: Recipe, run: Path, corpus: Path, work: Path) -> dict[str, object]:
    """Recordings with their labels, as SpeechBrain reads them; and what the labels stand for."""
    tokenizer, normalizer = tokenizers.load(run / "tokens"), build.normalizer(recipe.text)
    for name in ("train", "dev", "test"):
        rows = {}
        for number, utterance in enumerate(read_manifest(corpus / f"{name}.jsonl")):
            text = normalizer(utterance.text)
            labels = [] if tokenizer.unknown(text) else tokenizer.encode(text)
            if labels or name == "test":
                audio = {"wav": str(utterance.audio), "duration": utterance.duration}
                rows[f"{number:05d}"] = {**audio, "labels": labels}
        (work / f"{name}.json").write_text(json.dumps(rows), encoding="utf-8")
    return {"surfaces": list(tokenizer.surfaces)}


def report(work: Path, recipe: Recipe, test: list[Utterance]) -> None:
    """Score what it has heard, just as `asr train` scores."""
    heard = json.loads((work / "heard.json").read_text(encoding="utf-8"))
    normalizer = build.normalizer(recipe.text)
    scored = [
        wer.Answer(
            str(utterance.source), normalizer(utterance.text), heard[f"{number:05d}"].strip(), utterance.fields
        )
        for number, utterance in enumerate(test)
    ]
    result = wer.score(scored, recipe.evaluate.bootstrap, recipe.evaluate.confidence)
    print(f"WER {result.wer:.2%} ({result.ci_low:.2%} to {result.ci_high:.2%}), CER {result.cer:.2%}")


if __name__ == "__main__":
    main()
