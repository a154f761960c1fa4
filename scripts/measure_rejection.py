"""How well a grammar tells its commands from other speech: the share of commands heard right and the share of other
recordings taken for a command, for a range of rejection thresholds.

    python scripts/measure_rejection.py runs/quickstart recipes/quickstart/grammar.txt \\
        data/commands-*/test.jsonl FOLDER_OF_OTHER_SPEECH … --say train-clean-100.txt

With --say, eSpeak NG says beginnings of a text's lines in the voices of the quickstart's test set, too.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import asr
from asr.audio import SUFFIXES
from asr.data.manifest import read_manifest
from asr.data.synthesis import draw_requests, synthesise
from asr.decoding import automaton
from asr.recognizer import Recognizer
from asr.sound_files import Member, Stretch
from asr.text import grammar
from asr.transcript import Transcript

SAID, LEAST_WORDS, MOST_WORDS, SEED = 300, 3, 9, 5
THRESHOLDS = (0.2, 0.3, 0.4, 0.5, 0.7, 1.0, 1.5, np.inf)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("grammar", type=Path, help="its text")
    parser.add_argument("commands", type=Path, help="manifest of recordings of its sentences")
    parser.add_argument("others", type=Path, nargs="*", help="folders of recordings of anything else")
    parser.add_argument("--say", type=Path, metavar="FILE", help="a name, then a sentence, on each line")
    arguments = parser.parse_args()
    recognizer = asr.load(arguments.model, decoder="beam")
    commands = read_manifest(arguments.commands)
    compiled = automaton.compile(grammar.read(arguments.grammar))
    heard = _hear(recognizer, [utterance.source for utterance in commands], compiled)
    right = np.array(
        [
            transcript.text == recognizer.normalizer(utterance.text)
            for transcript, utterance in zip(heard, commands, strict=True)
        ]
    )
    others = {
        folder.name: _rejections(_hear(recognizer, _recordings(folder), compiled)) for folder in arguments.others
    }
    if arguments.say:
        with tempfile.TemporaryDirectory() as folder:
            _say(arguments.say, Path(folder))
            others["unrelated"] = _rejections(_hear(recognizer, _recordings(Path(folder)), compiled))
    _print_table(_rejections(heard), right, others)


def _say(text: Path, folder: Path) -> None:
    """Record sentences that are no commands, in the voices that say the commands."""
    rng = np.random.default_rng(SEED)
    lines = [line.partition(" ")[2].lower() for line in text.read_text(encoding="utf-8").split("\n") if line]
    sentences = [
        " ".join(line.split()[: int(rng.integers(LEAST_WORDS, MOST_WORDS + 1))])
        for line in rng.permutation(lines)[:SAID].tolist()
    ]
    (folder / "audio").mkdir()
    requests = draw_requests("test", sentences, SAID, rng)
    synthesise(requests, folder, processes=2, progress=lambda done, total: None)


def _recordings(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)


def _hear(
    recognizer: Recognizer, paths: Sequence[Path | Stretch | Member], compiled: automaton.Automaton
) -> list[Transcript]:
    return list(recognizer.stream(paths, grammar=compiled))


def _rejections(transcripts: Sequence[Transcript]) -> NDArray[np.float64]:
    return np.array([transcript.rejection for transcript in transcripts])


def _print_table(
    rejections: NDArray[np.float64], right: NDArray[np.bool_], others: dict[str, NDArray[np.float64]]
) -> None:
    print(f"{len(right)} commands; " + ", ".join(f"{name}: {len(values)}" for name, values in others.items()))
    print(f"| reject above | commands right | wrong | rejected | {' | '.join(others)} |")
    print("| --- " * (4 + len(others)) + "|")
    for threshold in THRESHOLDS:
        accepted = rejections <= threshold
        shares = [np.mean(accepted & right), np.mean(accepted & ~right), np.mean(~accepted)]
        shares += [np.mean(np.isfinite(values) & (values <= threshold)) for values in others.values()]
        print(f"| {threshold:g} | " + " | ".join(f"{share:.1%}" for share in shares) + " |")


if __name__ == "__main__":
    main()
