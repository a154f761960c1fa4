"""Reports of an evaluation: plain text for a terminal, and the record that goes into results.json."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from rich.cells import cell_len

from asr.errors import counted
from asr.evaluation.wer import Answer, Edit, Score, align, count_words

_LABEL_WIDTH = 5  # of "REF: "


def format_report(
    name: str,
    answers: Sequence[Answer],
    score: Score,
    breakdowns: Mapping[str, Mapping[str, Score]] | None = None,
    worst: int = 10,
    width: int = 100,
) -> str:
    """All that there is to say about a test set, without a line end after.

    Args:
        name: of the test set.
        answers: the ones that were scored.
        score: theirs.
        breakdowns: a breakdown for each field that was asked for.
        worst: how many utterances to show, those with the most word errors first.
        width: of the terminal, in columns.
    """
    tables = [format_breakdown(field, scores) for field, scores in (breakdowns or {}).items()]
    parts = [f"{name}\n{format_totals(score)}", *tables, format_worst(answers, worst, width)]
    return "\n\n".join(filter(None, parts))


def format_totals(score: Score) -> str:
    """Word, character and sentence error rate with the counts behind them, a line each."""
    interval = f"{_percent(score.ci_low)}, {_percent(score.ci_high)}"
    kinds = f"{score.substitutions} substituted, {score.deletions} deleted, {score.insertions} inserted"
    character_errors = round(score.cer * score.characters)
    wrong = round(score.sentence_error_rate * score.utterances)
    return "\n".join(
        (
            f"WER {_percent(score.wer)} % [{interval}]  ({score.errors} / {score.words} words: {kinds})",
            f"CER {_percent(score.cer)} %  ({character_errors} / {score.characters} characters)",
            f"SER {_percent(score.sentence_error_rate)} %  ({wrong} / {score.utterances} utterances)",
            f"[ ]: {100 * score.confidence:g} % interval of the WER, bootstrap over {score.resampled}",
        )
    )


def format_breakdown(field: str, scores: Mapping[str, Score]) -> str:
    """A table with a row for each value of a field."""
    header = (field, "utterances", "words", "WER %", "interval", "CER %")
    rows = [
        (
            value,
            str(score.utterances),
            str(score.words),
            _percent(score.wer),
            f"[{_percent(score.ci_low)}, {_percent(score.ci_high)}]",
            _percent(score.cer),
        )
        for value, score in scores.items()
    ]
    widths = [max(map(cell_len, column)) for column in zip(header, *rows, strict=True)]
    lines = [_table_line(row, widths) for row in (header, *rows)]
    return "\n".join((lines[0], "-" * cell_len(lines[0]), *lines[1:]))


def format_worst(answers: Sequence[Answer], worst: int = 10, width: int = 100) -> str:
    """The utterances with the most word errors, aligned; of equals the one with fewer words first.

    Utterances without errors are not shown: with none at all the result is "".
    """
    counts = count_words(answers)
    ranked = sorted(
        (-int(errors), int(words), index)
        for index, (words, errors) in enumerate(zip(counts[:, 0], counts[:, 1:].sum(axis=1), strict=True))
        if errors
    )
    blocks = [
        f"{answers[index].id}  ({counted(-negative, 'error')} in {counted(words, 'word')})\n"
        + format_alignment(align(answers[index].reference, answers[index].hypothesis), width)
        for negative, words, index in ranked[:worst]
    ]
    heading = f"Most errors ({len(blocks)} of {len(ranked)} utterances with errors)"
    return "\n\n".join((heading, *blocks)) if blocks else ""


def format_alignment(edits: Sequence[Edit], width: int = 100) -> str:
    """Reference above hypothesis, word under word, gaps filled with `*`, and S, D or I under each error.

    Args:
        edits: an alignment, as `align` makes it.
        width: columns, after which the three lines continue in a block of their own.
    """
    blocks: list[str] = []
    for line in _wrap(edits, width - _LABEL_WIDTH):
        sizes = [_cells(edit) for edit in line]
        gaps = ["*" * size for size in sizes]
        rows = {
            "REF: ": [edit.reference or gap for edit, gap in zip(line, gaps, strict=True)],
            "HYP: ": [edit.hypothesis or gap for edit, gap in zip(line, gaps, strict=True)],
            "     ": ["" if edit.kind == "C" else edit.kind for edit in line],
        }
        lines = [(label + " ".join(map(_to_right, row, sizes))).rstrip() for label, row in rows.items()]
        blocks.append("\n".join(filter(None, lines)))
    return "\n\n".join(blocks)


def to_results(name: str, score: Score) -> dict[str, str | int | float]:
    """The record of a test set in results.json; rates are fractions."""
    return {
        "name": name,
        "utterances": score.utterances,
        "words": score.words,
        "wer": score.wer,
        "cer": score.cer,
        "ci_low": score.ci_low,
        "ci_high": score.ci_high,
    }


def _wrap(edits: Sequence[Edit], width: int) -> Iterator[list[Edit]]:
    """Split an alignment into lines that are not wider than `width` columns, unless one word is."""
    line: list[Edit] = []
    used = 0
    for edit in edits:
        if line and used + 1 + _cells(edit) > width:
            yield line
            line, used = [], 0
        used += _cells(edit) + bool(line)
        line.append(edit)
    yield line


def _cells(edit: Edit) -> int:
    """The columns of a terminal that the wider of its words takes; a Chinese character takes two."""
    return max(cell_len(edit.reference), cell_len(edit.hypothesis))


def _to_right(word: str, cells: int) -> str:
    return " " * (cells - cell_len(word)) + word


def _table_line(cells: Sequence[str], widths: Sequence[int]) -> str:
    """The first cell to the left, the others to the right."""
    label = cells[0] + " " * (widths[0] - cell_len(cells[0]))
    return "  ".join((label, *map(_to_right, cells[1:], widths[1:])))


def _percent(rate: float) -> str:
    return f"{100 * rate:.2f}"
