"""Train a recipe several times and print what came out as a Markdown table.

    python scripts/repeat.py quickstart --over seed=1,2,3
    python scripts/repeat.py fsdd --over prepare.held_out_speaker=george,jackson,lucas,nicolas,theo,yweweler

Each run has a folder of its own below --runs, so a repetition that was cut off goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path


def main() -> None:
    """Run the repetitions one after another."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", help="as for `asr train`")
    parser.add_argument("settings", nargs="*", metavar="KEY=VALUE", help="for all repetitions")
    parser.add_argument("--over", required=True, metavar="KEY=A,B,C", help="the setting that differs")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of the runs")
    arguments = parser.parse_args()
    key, _, values = arguments.over.partition("=")
    rows = []
    for value in values.split(","):
        folder = arguments.runs / f"{Path(arguments.recipe).name}-{key.rpartition('.')[2]}-{value}"
        command = [sys.executable, "-m", "asr", "train", arguments.recipe, *arguments.settings, f"{key}={value}"]
        subprocess.run([*command, "--run-dir", str(folder)], check=True)
        results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
        rows += [row(value, test, results["stages"]) for test in results["tests"]]
    print(f"\n| {key} | test | words | WER | interval | CER | training | whole |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    print("\n".join(rows))


def row(value: str, test: dict[str, float], seconds: dict[str, float]) -> str:
    """One line of the table."""
    interval = f"{test['ci_low']:.2%} to {test['ci_high']:.2%}"
    times = f"{seconds['train']:.0f} s | {sum(seconds.values()):.0f} s"
    rates = f"{test['wer']:.2%} | {interval} | {test['cer']:.2%}"
    return f"| {value} | {test['name']} | {test['words']} | {rates} | {times} |"


if __name__ == "__main__":
    main()
