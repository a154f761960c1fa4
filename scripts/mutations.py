"""Break the program on purpose, one line at a time, and see that a test notices.

    python scripts/mutations.py

Works on a copy in a temporary folder. Ends with 1 if a mutation survives.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Mutation:
    """A line of a file, what it is replaced by, and the tests that should fail then."""

    name: str
    file: str
    before: str
    after: str
    tests: str


MUTATIONS = (
    Mutation(
        "swap two labels",
        "asr/text/tokenizer.py",
        "self._ids = {character: token for token, character in enumerate(self.surfaces)}",
        "self._ids = {character: {1: 2, 2: 1}.get(id_, id_) for id_, character in enumerate(self.surfaces)}",
        "tests/test_text.py",
    ),
    Mutation(
        "drop the mask",
        "asr/lengths.py",
        "return torch.arange(max_length, device=lengths.device)[None, :] < lengths[:, None]",
        "return torch.arange(max_length, device=lengths.device)[None, :] < max_length + 0 * lengths[:, None]",
        "tests/test_model.py",
    ),
    Mutation("shift the loss's blank", "asr/model/ctc.py", "BLANK = 0", "BLANK = 1", "tests/test_model.py"),
    Mutation(
        "shift the decoder's blank",
        "asr/decoding/greedy.py",
        "blank: int = 0",
        "blank: int = 1",
        "tests/test_greedy.py",
    ),
    Mutation(
        "take CTC lengths from the padded batch",
        "asr/model/acoustic.py",
        "return self.head(self.encoder(x, lengths)), lengths",
        "return self.head(self.encoder(x, lengths)), lengths * 0 + x.shape[1]",
        "tests/test_model.py",
    ),
    Mutation(
        "reverse whole rows, padding and all",
        "asr/lengths.py",
        "index = torch.where(time < end, end - 1 - time, time)",
        "index = (x.shape[1] - 1 - time).expand(x.shape[0], -1)",
        "tests/test_model.py",
    ),
    Mutation(
        "leave dropout on in recognition",
        "asr/recognizer.py",
        "self._acoustic = model.acoustic.to(self.device).eval()",
        "self._acoustic = model.acoustic.to(self.device).train()",
        "tests/test_recognizer.py",
    ),
    Mutation(
        "drop the last batch",
        "asr/data/batching.py",
        "while start < len(samples):",
        "while start < len(samples) - 1:",
        "tests/test_batching.py",
    ),
    Mutation(
        "forget the generator's state on resuming",
        "asr/training/randomness.py",
        'torch.set_rng_state(own["cpu"])',
        "pass",
        "tests/test_training.py",
    ),
    Mutation(
        "keep what dropout leaves as it is, not scaled up",
        "asr/model/dropout.py",
        "return x * kept.mul_(1 / (1 - threshold / 2**16))",
        "return x * kept",
        "tests/test_dropout.py",
    ),
    Mutation(
        "keep an epoch that was read ahead though its batches should have grown",
        "asr/training/loop.py",
        "if ahead and (ahead.number, ahead.growth) == (progress.epoch, growth):",
        "if ahead and ahead.number == progress.epoch:",
        "tests/test_training.py",
    ),
    Mutation(
        "let a mixture count what backs off twice",
        "asr/text/mixing.py",
        "weight[entry] = max(1 - taken, 0.0) / (1 - given)",
        "weight[entry] = max(1 - taken, 0.0)",
        "tests/test_mixing.py",
    ),
    Mutation(
        "mix the probability of <unk> into those of words that a part lacks",
        "asr/text/mixing.py",
        "if known[last[entry]]:",
        "if known[last[entry]] or True:",
        "tests/test_mixing.py",
    ),
    Mutation(
        "let a repeated token follow without a blank",
        "asr/decoding/search.py",
        "mass = place.blank * unit.probability",
        "mass = (place.blank + place.label) * unit.probability",
        "tests/test_beam.py",
    ),
    Mutation(
        "keep what was paid for a hotword that breaks off",
        "asr/decoding/search.py",
        "factor /= rules.phrases.advance[phrase]",
        "factor /= 1.0",
        "tests/test_beam.py",
    ),
    Mutation(
        "take a token for a child that another prefix has",
        "asr/decoding/search.py",
        "mark = beam.state[0].time * limits.width + i  # of no other prefix and no other frame",
        "mark = beam.state[0].rows * limits.width + i",
        "tests/test_beam.py",
    ),
    Mutation(
        "forget the end of the sentence",
        "asr/decoding/search.py",
        "log_factor += rules.alpha * ngram.score(rules.lm, lm, rules.lm_end)[0]",
        "log_factor += 0.0",
        "tests/test_beam.py",
    ),
    Mutation(
        "forget the bonus of a single hotword",
        "asr/decoding/search.py",
        "rules.unknown if word == NO_WORD else rules.trie.bonus[node]",
        "rules.unknown if word == NO_WORD else 0.0",
        "tests/test_beam.py",
    ),
    Mutation(
        "drop recurrent weights in recognition",
        "asr/model/encoder.py",
        "if self.training and self.weight_dropout",
        "if self.weight_dropout",
        "tests/test_dropout.py",
    ),
    Mutation(
        "forget the mask after a residual sum",
        "asr/model/frontend.py",
        "* _mask(lengths, x), lengths",
        ", lengths",
        "tests/test_model.py",
    ),
    Mutation(
        "forget the bias correction of the moving average",
        "asr/training/averaging.py",
        "share = (1 - self.decay) / (1 - self.decay**self.count)",
        "share = 1 - self.decay",
        "tests/test_optimization.py",
    ),
    Mutation(
        "let the statistics of frozen layers drift",
        "asr/training/optimization.py",
        "for module in self.still:",
        "for module in ():",
        "tests/test_transfer.py",
    ),
    Mutation(
        "let the first parts of a model learn an epoch early",
        "asr/training/optimization.py",
        "parameter.requires_grad_(first <= epoch)",
        "parameter.requires_grad_(first <= epoch + 1)",
        "tests/test_transfer.py",
    ),
    Mutation(
        "take over rows of the head by their number",
        "asr/training/transfer.py",
        'values[here] = source[f"{module}.{tensor}"][there]',
        'values[here] = source[f"{module}.{tensor}"][here]',
        "tests/test_transfer.py",
    ),
    Mutation(
        "back off without the weight",
        "asr/text/ngram.py",
        "total += ngram.backoff[state]",
        "total += 0.0",
        "tests/test_ngram.py",
    ),
    Mutation(
        "prefer noise to blanks",
        "asr/training/validation.py",
        "return self.cer if self.cer <= UNLEARNT else 1.0, comparable(self.loss)",
        "return self.cer, comparable(self.loss)",
        "tests/test_validation.py",
    ),
    Mutation(
        "take betas of nadam for a setting that does nothing",
        "asr/idle.py",
        '_among("adam", "adamw", "nadam")',
        '_among("adam", "adamw")',
        "tests/test_idle.py",
    ),
    Mutation(
        "promise each process all the memory that there is",
        "asr/training/headroom.py",
        "int((1 - KEPT) * left / processes)",
        "int((1 - KEPT) * left)",
        "tests/test_headroom.py",
    ),
)


def main() -> None:
    """Try every mutation."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    survivors = [mutation.name for mutation in MUTATIONS if not is_noticed(mutation)]
    if survivors:
        sys.exit(f"survived: {', '.join(survivors)}")


def is_noticed(mutation: Mutation) -> bool:
    """Whether a test fails with a mutation."""
    with tempfile.TemporaryDirectory() as folder:
        for name in ("asr", "tests", "recipes", "scripts"):
            shutil.copytree(ROOT / name, Path(folder) / name, ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("pyproject.toml", "README.md"):
            shutil.copy(ROOT / name, folder)
        path = Path(folder) / mutation.file
        source = path.read_text(encoding="utf-8")
        if source.count(mutation.before) != 1:
            sys.exit(f"{mutation.file} has changed: {mutation.before!r} is not one line of it any more")
        path.write_text(source.replace(mutation.before, mutation.after), encoding="utf-8")
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", mutation.tests]
        result = subprocess.run(
            command,
            cwd=folder,
            env={**os.environ, "PYTHONPATH": folder},
            capture_output=True,
            text=True,
            check=False,
        )
    noticed = result.returncode == 1 and "failed" in result.stdout
    print(
        f"{'noticed ' if noticed else 'SURVIVED'}  {mutation.name} ({mutation.file}, {mutation.tests})", flush=True
    )
    return noticed


if __name__ == "__main__":
    main()
