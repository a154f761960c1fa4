"""Error rates against Levenshtein's distance, intervals against scipy and enumeration, and the look of reports."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import jiwer
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from scipy.stats import bootstrap as scipy_bootstrap  # type: ignore[import-untyped]

from asr.errors import DataError
from asr.evaluation.report import format_alignment, format_report, to_results
from asr.evaluation.wer import Answer, align, breakdown, score

texts = st.lists(st.sampled_from(["a", "b", "ab", "ça", "lamp", "你好"]), max_size=8).map(" ".join)
pairs = st.lists(st.tuples(texts, texts), min_size=1, max_size=8)


def utterances_of(pairs: list[tuple[str, str]]) -> list[Answer]:
    return [Answer(f"{index}.wav", *pair) for index, pair in enumerate(pairs)]


def random_utterances(count: int, seed: int = 0) -> list[Answer]:
    """Of six speakers, the later ones understood worse."""
    rng = np.random.default_rng(seed)
    utterances = []
    for index in range(count):
        said = rng.choice(["turn", "on", "the", "lamp", "radio"], rng.integers(1, 9)).tolist()
        heard = [word if rng.random() > 0.06 * (index % 6) else "off" for word in said]
        fields = {"speaker": index % 6, "gender": "fm"[index % 2]}
        utterances.append(Answer(f"{index:03}.wav", " ".join(said), " ".join(heard), fields))
    return utterances


# ----------------------------------------------------------------------------------------------- rates


@given(pairs.filter(lambda pairs: any(reference for reference, _ in pairs)))
def test_rates_are_the_fewest_errors_over_what_was_said(pairs: list[tuple[str, str]]) -> None:
    """Of all utterances together; jiwer, which counts them, is not asked."""
    references, hypotheses = map(list, zip(*pairs, strict=True))
    result = score(utterances_of(pairs), bootstrap=10)
    errors = sum(levenshtein(reference.split(), hypothesis.split()) for reference, hypothesis in pairs)
    assert result.words == len(" ".join(references).split())
    assert result.errors == result.substitutions + result.deletions + result.insertions == errors
    assert result.wer == pytest.approx(errors / result.words)
    assert result.deletions - result.insertions == result.words - len(" ".join(hypotheses).split())
    assert result.characters == sum(map(len, references))
    assert result.cer == pytest.approx(sum(levenshtein(*pair) for pair in pairs) / result.characters)
    assert result.utterances == len(pairs)
    assert result.sentence_error_rate == pytest.approx(np.mean([r != h for r, h in pairs]))
    assert result.ci_low <= result.ci_high


def test_white_space_is_no_error() -> None:
    result = score([Answer("a", " turn\ton  the lamp\n", "turn on the lamp")])
    assert (result.wer, result.cer, result.characters) == (0, 0, len("turn on the lamp"))


def test_empty_references_count_as_insertions() -> None:
    result = score([Answer("a", "", "uh oh"), Answer("b", "turn on", ""), Answer("c", "", "")])
    assert (result.utterances, result.words) == (3, 2)
    assert (result.substitutions, result.deletions, result.insertions) == (0, 2, 2)
    assert result.wer == 2.0
    assert result.cer == (len("uh oh") + len("turn on")) / len("turn on")
    assert result.sentence_error_rate == pytest.approx(2 / 3)


@pytest.mark.parametrize("utterances", [[], [Answer("a", " ", "uh")]])
def test_no_reference_words_at_all(utterances: list[Answer]) -> None:
    with pytest.raises(DataError, match=f"no words in the references of {len(utterances)} utterances"):
        score(utterances)


@given(texts, texts)
def test_alignment_spells_both_texts_with_the_fewest_errors(reference: str, hypothesis: str) -> None:
    edits = align(reference, hypothesis)
    assert " ".join(edit.reference for edit in edits if edit.kind != "I") == reference
    assert " ".join(edit.hypothesis for edit in edits if edit.kind != "D") == hypothesis
    for edit in edits:
        assert (edit.reference == edit.hypothesis) == (edit.kind == "C")
        assert (edit.reference == "") == (edit.kind == "I")
        assert (edit.hypothesis == "") == (edit.kind == "D")
    assert sum(edit.kind != "C" for edit in edits) == levenshtein(reference.split(), hypothesis.split())


def levenshtein(a: Sequence[str], b: Sequence[str]) -> int:
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, start=1):
        previous, row[0] = row[0], i
        for j, y in enumerate(b, start=1):
            previous, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, previous + (x != y))
    return row[-1]


# ------------------------------------------------------------------------------------------- intervals


def test_interval_over_utterances_agrees_with_scipy() -> None:
    utterances = [Answer(u.id, u.reference, u.hypothesis) for u in random_utterances(60)]
    result = score(utterances, bootstrap=20_000, confidence=0.9)
    words = np.array([len(u.reference.split()) for u in utterances])
    errors = np.array([u.hypothesis.split().count("off") for u in utterances])  # nobody said "off"
    expected = scipy_bootstrap(
        (errors, words),
        lambda e, w, axis: e.sum(axis=axis) / w.sum(axis=axis),
        paired=True,
        confidence_level=0.9,
        n_resamples=20_000,
        method="percentile",
        rng=np.random.default_rng(1),
    ).confidence_interval
    assert result.resampled == "utterances"
    assert (result.ci_low, result.ci_high) == pytest.approx((expected.low, expected.high), abs=0.004)


def test_interval_over_speakers_agrees_with_enumeration() -> None:
    counts = {"ann": [(0, 4), (1, 5)], "bob": [(2, 3)], "cy": [(3, 6), (0, 1)]}  # errors, words of each utterance
    utterances = [
        Answer(f"{speaker}", "a " * words, "b " * errors + "a " * (words - errors), {"speaker": speaker})
        for speaker, said in counts.items()
        for errors, words in said
    ]
    totals = np.array([np.sum(said, axis=0) for said in counts.values()])
    drawn = totals[list(product(range(3), repeat=3))].sum(axis=1)
    rates = np.sort(drawn[:, 0] / drawn[:, 1])
    result = score(utterances, bootstrap=30_000, confidence=0.8)
    assert result.resampled == "speakers"
    assert result.ci_low == pytest.approx(np.quantile(rates, 0.1, method="inverted_cdf"))
    assert result.ci_high == pytest.approx(np.quantile(rates, 0.9, method="inverted_cdf"))


def test_draws_of_speakers_who_say_nothing_have_no_rate() -> None:
    utterances = [
        Answer("noise", "", "a " * 6, {"speaker": "nobody"}),
        Answer("speech", "a " * 4, "a " * 4, {"speaker": "ann"}),
    ]
    result = score(utterances, bootstrap=500)
    assert (result.ci_low, result.ci_high) == (0, 1.5)  # ann twice; once and once


def test_speakers_are_drawn_only_where_all_are_known_and_two_differ() -> None:
    utterances = random_utterances(30)
    assert score(utterances).resampled == "speakers"
    for nobody in ({}, {"speaker": None}, {"speaker": ""}):
        assert score([*utterances, Answer("x", "a", "a", nobody)]).resampled == "utterances"
    assert score([u for u in utterances if u.fields["speaker"] == 3]).resampled == "utterances"


def test_interval_is_repeatable_and_widens_with_confidence() -> None:
    utterances = random_utterances(60)
    first = score(utterances, seed=3)
    assert first == score(utterances, seed=3)
    wide = score(utterances, seed=3, confidence=0.99)
    assert wide.ci_low < first.ci_low < first.wer < first.ci_high < wide.ci_high
    assert score(utterances, seed=4).ci_high != first.ci_high


def test_many_utterances_are_resampled_in_blocks() -> None:
    utterances = [Answer("a", "a b", "a c" if index % 4 == 0 else "a b") for index in range(4000)]
    result = score(utterances, bootstrap=600)
    spread = 1.96 * (0.25 * 0.75 / 4000) ** 0.5 / 2  # normal approximation of the mean of half a Bernoulli
    assert (result.ci_low, result.ci_high) == pytest.approx((0.125 - spread, 0.125 + spread), abs=0.1 * spread)


# ------------------------------------------------------------------------------------------- breakdown


def test_breakdown_partitions_the_utterances() -> None:
    utterances = random_utterances(40)
    parts = breakdown(utterances, "speaker")
    assert list(parts) == ["0", "1", "2", "3", "4", "5"]
    assert sum(part.utterances for part in parts.values()) == 40
    for value, part in parts.items():
        assert part == score([u for u in utterances if str(u.fields["speaker"]) == value])


def test_breakdown_by_missing_and_mixed_values() -> None:
    ages: list[dict[str, object]] = [{"age": age} for age in (30, "nan", "old", 9, None, "", 100)] + [{}]
    utterances = [Answer(str(index), "a", "a", fields) for index, fields in enumerate(ages)]
    parts = breakdown(utterances, "age")
    assert [(value, part.utterances) for value, part in parts.items()] == [
        ("9", 1), ("30", 1), ("100", 1), ("nan", 1), ("old", 1), ("(none)", 3),
    ]  # fmt: skip


def test_breakdown_keeps_a_value_whose_references_are_empty() -> None:
    utterances = [Answer("a", "", "uh oh", {"kind": "noise"}), Answer("b", "on", "on", {"kind": "speech"})]
    noise = breakdown(utterances, "kind")["noise"]
    assert (noise.utterances, noise.words, noise.insertions) == (1, 0, 2)
    assert noise.wer == jiwer.wer("", "uh oh") == 2


# --------------------------------------------------------------------------------------------- reports


def test_report() -> None:
    utterances = [
        Answer("good.wav", "turn on the lamp", "turn on the lamp", {"speaker": "ann"}),
        Answer("bad.wav", "turn off the radio in the hall", "turn of radio in the hall uh", {"speaker": "bob"}),
        Answer("worse.wav", "stop it now", "", {"speaker": "bob"}),
    ]
    result = score(utterances, bootstrap=200)
    report = format_report("clean", utterances, result, {"speaker": breakdown(utterances, "speaker")}, width=80)
    low, high = f"{100 * result.ci_low:.2f}", f"{100 * result.ci_high:.2f}"
    assert report.splitlines()[:3] == [
        "clean",
        f"WER 42.86 % [{low}, {high}]  (6 / 14 words: 1 substituted, 4 deleted, 1 inserted)",
        "CER 33.33 %  (19 / 57 characters)",
    ]
    assert "SER 66.67 %  (2 / 3 utterances)\n[ ]: 95 % interval of the WER, bootstrap over speakers\n" in report
    assert "\nspeaker  utterances  words  WER %         interval  CER %\n" in report
    assert "\nann               1      4   0.00     [0.00, 0.00]   0.00\n" in report
    assert "\nbob               2     10  60.00  [42.86, 100.00]  46.34\n" in report
    assert report.endswith(
        "Most errors (2 of 2 utterances with errors)\n\n"
        "worse.wav  (3 errors in 3 words)\n"
        "REF: stop it now\n"
        "HYP: **** ** ***\n"
        "        D  D   D\n\n"
        "bad.wav  (3 errors in 7 words)\n"
        "REF: turn off the radio in the hall **\n"
        "HYP: turn  of *** radio in the hall uh\n"
        "            S   D                    I"
    )


def test_report_without_errors_shows_no_utterance() -> None:
    utterances = [Answer("a.wav", "on", "on")]
    assert "a.wav" not in format_report("perfect", utterances, score(utterances))


def test_report_shows_only_the_worst() -> None:
    utterances = random_utterances(60)
    report = format_report("test", utterances, score(utterances), worst=3)
    wrong = [sum(e.kind != "C" for e in align(u.reference, u.hypothesis)) for u in utterances]
    assert report.count("REF: ") == 3
    assert f"(3 of {sum(map(bool, wrong))} utterances with errors)" in report
    assert f"{max(wrong)} errors in" in report


@given(texts.filter(lambda text: text.isascii()), texts.filter(lambda text: text.isascii()))
def test_alignment_looks_like_that_of_jiwer(reference: str, hypothesis: str) -> None:
    drawn = jiwer.visualize_alignment(
        jiwer.process_words(reference, hypothesis), show_measures=False, skip_correct=False
    )
    expected = [line.rstrip() for line in drawn.splitlines()[2:]]
    ours = format_alignment(align(reference, hypothesis), width=1000).splitlines()
    assert [line for line in ours if line] == [line for line in expected if line]


@given(texts, texts, st.integers(12, 60))
def test_alignment_wraps_and_stays_in_columns(reference: str, hypothesis: str, width: int) -> None:
    edits = align(reference, hypothesis)
    lines = format_alignment(edits, width).splitlines()
    assert all(cell_len(line) <= width for line in lines)
    references = [line[5:] for line in lines if line.startswith("REF:")]
    hypotheses = [line[5:] for line in lines if line.startswith("HYP:")]
    assert [word for line in references for word in line.split() if set(word) != {"*"}] == reference.split()
    assert [word for line in hypotheses for word in line.split() if set(word) != {"*"}] == hypothesis.split()
    for above, below in zip(references, hypotheses, strict=True):
        assert word_columns(above) == word_columns(below)
    marks = "".join(line for line in lines if line.startswith(" ")).split()
    assert marks == [edit.kind for edit in edits if edit.kind != "C"]


def word_columns(line: str) -> list[int]:
    """The terminal columns in which words end."""
    words = line.split(" ")
    ends = np.cumsum([cell_len(word) + 1 for word in words])
    return [int(end) for end, word in zip(ends, words, strict=True) if word]


def test_results_record() -> None:
    result = score([Answer("a", "turn on the lamp", "turn off the lamp")], bootstrap=10)
    assert to_results("clean", result) == {
        "name": "clean",
        "utterances": 1,
        "words": 4,
        "wer": 0.25,
        "cer": 2 / 16,
        "ci_low": 0.25,
        "ci_high": 0.25,
    }
