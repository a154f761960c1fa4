"""Which words a recogniser gets wrong: of what it has seen, of lists such as names, of spellings, of speakers.

    python scripts/measure_errors.py RUN MANIFEST HEARD.tsv --seen train.txt --seen books.txt --list names.txt

`HEARD.tsv` is what `asr evaluate RUN MANIFEST --hypotheses HEARD.tsv` writes. See `scripts/README.md`.
"""

from __future__ import annotations

import argparse
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from asr import build, recipe_file
from asr.data.manifest import Utterance, read_manifest
from asr.evaluation import wer

CONFUSIONS = 15
"""So many of the most frequent are shown."""


class Word(NamedTuple):
    """A word that was said."""

    word: str
    heard: str
    """Empty where it was left out."""
    utterance: Utterance


def main() -> None:
    """Print a table of kinds of words, and the most frequent confusions."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="of `asr train`, by whose rules texts are compared")
    parser.add_argument("manifest", type=Path)
    parser.add_argument("heard", type=Path, metavar="HEARD.tsv")
    parser.add_argument(
        "--seen", type=Path, action="append", default=[], metavar="TEXTS", help="tell words in it apart"
    )
    parser.add_argument("--list", type=Path, action="append", default=[], metavar="WORDS", help="tell these apart")
    parser.add_argument(
        "--spelled", action="append", default=[], metavar="REGEX", help="tell words that match apart"
    )
    parser.add_argument("--by", action="append", default=[], metavar="FIELD", help="of the manifest")
    arguments = parser.parse_args()
    normalizer = build.normalizer(recipe_file.read_recipe(arguments.run / "config.yaml").text)
    words = list(said(read_manifest(arguments.manifest), arguments.heard, normalizer))
    print("| words | how many | wrong | left out |\n| --- | --- | --- | --- |")
    show("all", words)
    unseen = words
    for path in arguments.seen:
        known = Counter(normalizer(path.read_text(encoding="utf-8")).split())
        show(f"ten times and more in {path.name}", [each for each in unseen if known[each.word] >= 10])
        show(f"less often in {path.name}", [each for each in unseen if 0 < known[each.word] < 10])
        unseen = [each for each in unseen if not known[each.word]]
    if arguments.seen:
        show("in none of these", unseen)
    for path in arguments.list:
        listed = set(normalizer(path.read_text(encoding="utf-8")).split())
        show(path.stem, [each for each in words if each.word in listed])
    for expression in arguments.spelled:
        show(f"`{expression}`", [each for each in words if re.search(expression, each.word)])
    for field in arguments.by:
        for value in sorted({each.utterance.fields[field] for each in words}, key=str):
            show(f"{field} {value}", [each for each in words if each.utterance.fields[field] == value])
    confused = Counter((each.word, each.heard) for each in words if each.heard not in ("", each.word))
    found = ", ".join(f"{word} → {heard} ({count})" for (word, heard), count in confused.most_common(CONFUSIONS))
    print(f"\nMost frequent: {found}")


def said(utterances: list[Utterance], heard: Path, normalizer: Callable[[str], str]) -> Iterator[Word]:
    """All words that were said, with what was heard in their place."""
    answers = [line.split("\t") for line in heard.read_text(encoding="utf-8").splitlines()]
    names = [Path(answer[0]).name for answer in answers], [utterance.audio.name for utterance in utterances]
    if names[0] != names[1]:
        raise SystemExit(f"{heard} is not what `asr evaluate` wrote for this manifest: other recordings are in it")
    for utterance, answer in zip(utterances, answers, strict=True):
        for edit in wer.align(normalizer(utterance.text), answer[-1]):
            if edit.kind != "I":
                yield Word(edit.reference, edit.hypothesis, utterance)


def show(kind: str, words: list[Word]) -> None:
    """A row of the table."""
    if words:
        wrong = sum(each.word != each.heard for each in words) / len(words)
        out = sum(not each.heard for each in words) / len(words)
        print(f"| {kind} | {len(words)} | {wrong:.1%} | {out:.1%} |")


if __name__ == "__main__":
    main()
