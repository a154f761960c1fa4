"""N-gram models answer as KenLM and the definition of backing off do, and read every tool's ARPA files."""

from __future__ import annotations

import errno
import gzip
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open

from asr.errors import ConfigError, DataError
from asr.text import arpa, ngram
from asr.text.ngram import NgramModel

SMALL = Path(__file__).parent / "ngrams" / "small.arpa"
LN10 = math.log(10)
BACKOFFS = (0.0, 0.0, -0.25, 0.5, -1.5)
TINY = """\\data\\
ngram 1=4
ngram 2=2

\\1-grams:
-1.5\t<s>\t-0.5
-0.75\t</s>
-0.5\ta\t-0.25
-1\t<unk>

\\2-grams:
-0.125\t<s> a
-0.375\ta a

\\end\\
"""

Words = tuple[str, ...]
Model = Mapping[Words, tuple[float, float]]  # n-grams to probability and back-off weight, as base-10 logarithms


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("asr.text.ngram.cache_folder", lambda: tmp_path / "cache")
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


def read(path: Path) -> NgramModel:
    return ngram.from_entries(arpa.read(path))


def read_text(folder: Path, text: str | bytes) -> NgramModel:
    path = folder / "text.arpa"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read(path)


def same(one: NgramModel, other: NgramModel) -> bool:
    arrays = zip([*one.ngram.arcs, *one.ngram[1:]], [*other.ngram.arcs, *other.ngram[1:]], strict=True)
    return one.words == other.words and one.order == other.order and all(np.array_equal(a, b) for a, b in arrays)


# What a model answers


def test_words_have_the_probabilities_that_kenlm_gives_them() -> None:
    model = read(SMALL)
    for line in SMALL.with_name("small_scores.tsv").read_text(encoding="utf-8").splitlines():
        sentence, scores = line.split("\t")
        expected = np.array(scores.split(), float)
        np.testing.assert_allclose(model.log_probs(sentence.split()) / LN10, expected, rtol=0, atol=1e-5)


def test_a_sentence_is_the_sum_of_its_words_and_its_ends_can_be_left_out(folder: Path) -> None:
    model = read_text(folder, TINY)
    assert model.log_prob(["a", "a"]) / LN10 == pytest.approx(-0.125 - 0.375 - 0.25 - 0.75)
    assert model.log_prob(["a"], bos=False) / LN10 == pytest.approx(-0.5 - 0.25 - 0.75)
    assert model.log_prob(["a"], eos=False) / LN10 == pytest.approx(-0.125)
    assert model.log_prob([]) / LN10 == pytest.approx(-0.5 - 0.75)
    assert model.log_prob([], bos=False, eos=False) == 0


def test_words_outside_the_vocabulary_are_unknown(folder: Path) -> None:
    model = read_text(folder, TINY)
    assert "a" in model and "b" not in model
    assert model.id("b") == model.unknown == 3
    assert model.log_prob(["b"]) / LN10 == pytest.approx(-0.5 - 1 - 0.75)


def test_a_file_of_a_newer_asr_says_so(folder: Path) -> None:
    ngram.save(read_text(folder, TINY), folder / "new.ngram")
    path = folder / "new.ngram"
    path.write_bytes(path.read_bytes().replace(b"asr n-gram 1", b"asr n-gram 2"))
    with pytest.raises(DataError, match=r"format 2(.|\n)*at most format 1(.|\n)*git pull"):
        ngram.load(path)


@st.composite
def models(draw: st.DrawFn) -> Model:
    """N-grams up to length 4 that hold their own beginnings, but not always their own ends."""
    words = ["<s>", "</s>", "<unk>", "a", "b", "c"]
    longest = draw(st.lists(st.lists(st.sampled_from(words), min_size=2, max_size=4).map(tuple), max_size=25))
    ngrams = {ngram[:length] for ngram in longest for length in range(1, len(ngram) + 1)}
    ngrams |= {(word,) for word in words}
    order = max(map(len, ngrams))
    numbers = st.integers(-4000, 0).map(lambda thousandths: thousandths / 1000)
    return {
        ngram: (draw(numbers), draw(st.sampled_from(BACKOFFS)) if len(ngram) < order else 0.0)
        for ngram in sorted(ngrams, key=lambda ngram: (len(ngram), ngram))
    }


def as_arpa(model: Model, between: str = "\t") -> str:
    order = max(map(len, model))
    sections = [[ngram for ngram in model if len(ngram) == length] for length in range(1, order + 1)]
    lines = ["\\data\\", *(f"ngram {length}={len(section)}" for length, section in enumerate(sections, start=1))]
    for length, section in enumerate(sections, start=1):
        lines += ["", f"\\{length}-grams:"]
        for words in section:
            probability, backoff = model[words]
            fields = [str(probability), " ".join(words), *([str(backoff)] if backoff else [])]
            lines.append(between.join(fields))
    return "\n".join([*lines, "", "\\end\\", ""])


def by_definition(model: Model, history: Words, word: str) -> float:
    if (*history, word) in model:
        return model[*history, word][0]
    backoff = model[history][1] if history in model else 0.0
    return backoff + by_definition(model, history[1:], word)


@given(models(), st.lists(st.sampled_from(["a", "b", "c", "d", "</s>"]), max_size=8))
def test_probabilities_are_those_of_the_definition(folder: Path, model: Model, sentence: Sequence[str]) -> None:
    known = ["<s>", *(word if word != "d" else "<unk>" for word in sentence), "</s>"]
    order = max(map(len, model))
    expected = [
        by_definition(model, tuple(known[max(0, index - order + 1) : index]), known[index])
        for index in range(1, len(known))
    ]
    found = read_text(folder, as_arpa(model)).log_probs(sentence) / LN10
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


# Other tools' files


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("\t", " "),
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text.replace("\n", " \t\n"),
        lambda text: "made by a tool\nngram of all kinds\n\n" + text,
        lambda text: "\ufeff" + text,
        lambda text: text.removesuffix("\n"),
        lambda text: text.replace("\n\n", "\n"),
        lambda text: text.replace("\n", "\n\n"),
        lambda text: text.replace("ngram 2=2\n", "ngram 2=2\nngram 3=0\n"),
        lambda text: text.replace("ngram 2=2\n", "ngram 2=2\nngram 3=0\n").replace(
            "\\end\\", "\\3-grams:\n\n\\end\\"
        ),
        lambda text: text.replace("ngram 1=4", "ngram  1 = 4"),
        lambda text: text.replace("a a\n", "a a\t0\n").replace("</s>\n", "</s>\t-0.0\n"),
        lambda text: text.replace("-0.125", "-.125").replace("-0.375", "-37.5e-2").replace("-1.5", "-0.15E+1"),
        lambda text: text.replace("<unk>", "<UNK>"),
    ],
)
def test_tools_write_differently_and_mean_the_same(folder: Path, change) -> None:  # type: ignore[no-untyped-def]
    assert same(read_text(folder, change(TINY)), read_text(folder, TINY))


def test_compressed_files_are_read_whatever_their_name(folder: Path) -> None:
    assert same(read_text(folder, gzip.compress(TINY.encode())), read_text(folder, TINY))


def test_where_unk_is_absent_it_is_as_improbable_as_in_kenlm(folder: Path) -> None:
    model = read_text(folder, TINY.replace("ngram 1=4", "ngram 1=3").replace("-1\t<unk>\n", ""))
    assert model.words == ("<s>", "</s>", "a", "<unk>")
    assert model.log_prob(["b", "a"]) / LN10 == pytest.approx(-0.5 - 100 - 0.5 - 0.25 - 0.75)


def test_a_probability_of_zero_is_very_small(folder: Path) -> None:
    for zero in ("-inf", "-INF", "-Infinity", "-99"):
        model = read_text(folder, TINY.replace("-0.125", zero))
        assert model.log_prob(["a"], eos=False) / LN10 == pytest.approx(-99)


def test_a_model_may_lack_the_marks_of_a_sentence(folder: Path) -> None:
    text = "\\data\\\nngram 1=2\nngram 2=1\n\n\\1-grams:\n-1 a\n-2 b\n\n\\2-grams:\n-0.5 a b\n\n\\end\\\n"
    model = read_text(folder, text)
    assert (model.start, model.end) == (0, -1)
    assert model.log_prob(["a", "b"]) / LN10 == pytest.approx(-1.5)


def test_words_are_any_text_without_spaces(folder: Path) -> None:
    words = ("Ελένη", "\u2028", "é", "e\u0301", "x\u00a0y", "0", "-1", "ngram")
    lines = "".join(f"-1\t{word}\n" for word in words)
    model = read_text(folder, f"\\data\\\nngram 1={len(words)}\n\\1-grams:\n{lines}\\end\\")
    assert model.words == (*words, "<unk>")


@given(st.lists(st.floats(-1e9, 0) | st.floats(-1e-30, 0) | st.floats(-100, 0), min_size=1, max_size=20), st.data())
def test_numbers_are_read_to_the_precision_of_float32(
    folder: Path, numbers: list[float], data: st.DataObject
) -> None:
    formats = st.sampled_from(["{!r}", "{:g}", "{:e}", "{:.12f}", "{:.3E}", "{:.30f}"])
    written = [data.draw(formats).format(number) for number in numbers]
    lines = "".join(f"{text} w{index}\n" for index, text in enumerate(written))
    model = read_text(folder, f"\\data\\\nngram 1={len(written)}\n\\1-grams:\n{lines}\\end\\")
    expected = np.array([float(text) * LN10 for text in written]).astype(np.float32)
    np.testing.assert_allclose(model.ngram.log_prob[1:-1], expected, rtol=1.2e-7, atol=0)


# Files that are wrong


@pytest.mark.parametrize(
    ("before", "after", "line", "message"),
    [
        ("ngram 1=4", "ngram 1=5", 11, "the section ends after 4 1-grams"),
        ("ngram 1=4", "ngram 1=3", 9, "one more 1-gram"),
        ("ngram 2=2", "ngram 2=1", 13, "one more 2-gram"),
        ("ngram 2=2", "ngram 3=2", 3, "the header says “ngram 3=2”"),
        ("ngram 2=2", "ngram 2=two", 3, "the header says “ngram 2=two”"),
        ("ngram 1=4", "ngram 1=0", 3, "the header announces no unigrams"),
        ("ngram 1=4\nngram 2=2\n", "", 1, "the header announces no unigrams"),
        ("ngram 2=2", "ngram 2=0\nngram 3=2", 4, r"the header announces \[4, 0, 2\] n-grams"),
        ("<s> a", "<s> b", 12, "the word “b” is not among the unigrams"),
        ("-0.375\ta a", "-0.375\ta", 13, "2 fields"),
        ("-0.375\ta a", "-0.375\ta a a a a", 13, "6 fields"),
        ("-0.375", "minus", 13, "begins or ends with no number"),
        ("-0.375", "-0.3.75", 13, "begins or ends with no number"),
        ("-0.375", "-", 13, "begins or ends with no number"),
        ("-0.375", "-1e", 13, "begins or ends with no number"),
        ("-0.375", "nan", 13, "begins or ends with no number"),
        ("a\t-0.25", "a\tb", 8, "begins or ends with no number"),
        ("-0.375", "0.375", 13, "the log-probability 0.375"),
        ("a a", "<s> a", 13, "“<s> a” comes a second time"),
        ("</s>\n", "<s>\n", 7, "“<s>” comes a second time"),
        ("\\2-grams:", "\\3-grams:", 11, "the line says “.3-grams:”"),
        ("\\end\\", "\\3-grams:", 15, "the line says “.3-grams:”"),
        ("\n\\end\\\n", "", 14, "the file ends here"),
        ("-0.375\ta a\n\n\\end\\\n", "", 13, "the file ends after 1 2-grams"),
    ],
)
def test_the_line_at_fault_is_named(folder: Path, before: str, after: str, line: int, message: str) -> None:
    assert TINY.count(before) == 1 or before == "a a"
    with pytest.raises(DataError, match=rf"text\.arpa, line {line}: .*{message}") as error:
        read_text(folder, TINY.replace(before, after))
    assert error.value.expected


def test_an_ngram_needs_its_beginning(folder: Path) -> None:
    text = TINY.replace("ngram 2=2", "ngram 2=2\nngram 3=1").replace("\\end\\", "\\3-grams:\n-1 a <s> a\n\n\\end\\")
    with pytest.raises(DataError, match="line 17: “a <s> a” begins with what is not among the 2-grams") as error:
        read_text(folder, text)
    assert error.value.expected == "a 2-gram “a <s>”"


def test_words_must_be_utf8(folder: Path) -> None:
    with pytest.raises(DataError, match="line 8: a word is not in UTF-8"):
        read_text(folder, TINY.replace("-0.5\ta\t", "-0.5\té\t").encode("latin-1"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b"hello\n", "this is no ARPA file"),
        (b"mmap lm http://kheafield.com/code format version 5\n\0", "this is no ARPA file"),
        (gzip.compress(TINY.encode(), mtime=0)[:-20], "gzip can't read it"),
        (b"\\data\\\nngram 1=99999999999999\n\\1-grams:\n-1 a\n", "the file is too short for the 99999999999999"),
    ],
)
def test_what_is_no_model_is_refused(folder: Path, content: bytes, message: str) -> None:
    path = folder / "wrong.arpa"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        ngram.load(path)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no such file"):
        ngram.load(tmp_path / "missing.arpa")
    with pytest.raises(DataError, match="this is a folder"):
        ngram.load(tmp_path)


@given(st.integers(0, len(TINY)), st.integers(0, 6), st.binary(max_size=6))
def test_damage_is_refused_or_harmless(folder: Path, position: int, removed: int, inserted: bytes) -> None:
    content = TINY.encode()
    try:
        model = read_text(folder, content[:position] + inserted + content[position + removed :])
    except DataError:
        return
    assert math.isfinite(model.log_prob(["a", "b", "a"]))


# Written and read again


@given(models(), st.sampled_from(["model.arpa", "model.arpa.gz", "model.ngram"]))
def test_a_model_is_the_same_after_writing_and_reading(folder: Path, model: Model, name: str) -> None:
    before = read_text(folder, as_arpa(model))
    ngram.save(before, folder / name)
    after = ngram.load(folder / name) if name.endswith(".ngram") else read(folder / name)
    assert same(before, after)


def test_half_precision_is_a_quarter_of_the_size_and_nearly_the_same(tmp_path: Path) -> None:
    model = read(SMALL)
    ngram.save(model, tmp_path / "whole.ngram")
    ngram.save(model, tmp_path / "half.ngram", half=True)
    half = ngram.load(tmp_path / "half.ngram")
    assert half.words == model.words and half.order == model.order
    for before, after in zip(model.ngram.arcs, half.ngram.arcs, strict=True):
        np.testing.assert_array_equal(after, before)
    np.testing.assert_allclose(half.ngram.log_prob, model.ngram.log_prob, rtol=5e-4)
    np.testing.assert_allclose(half.ngram.backoff, model.ngram.backoff, rtol=5e-4, atol=1e-7)
    assert (tmp_path / "half.ngram").stat().st_size < 0.35 * (tmp_path / "whole.ngram").stat().st_size


def test_the_name_of_the_file_says_how_to_write(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not say how"):
        ngram.save(read(SMALL), tmp_path / "model.bin")
    with pytest.raises(ConfigError, match="only the compact form"):
        ngram.save(read(SMALL), tmp_path / "model.arpa", half=True)


@pytest.mark.parametrize("half", [False, True])
def test_a_model_is_written_to_the_same_bytes_each_time(tmp_path: Path, half: bool) -> None:
    """Fifteen times: of two entries without an order the first comes first half of the time."""
    model = read(SMALL)
    paths = [tmp_path / f"{number}.ngram" for number in range(15)]
    for path in paths:
        ngram.save(model, path, half)
    assert len({path.read_bytes() for path in paths}) == 1
    with safe_open(paths[0], framework="numpy") as file:
        assert file.metadata() == {"format": "asr n-gram 1", "order": str(model.order)}
        stored = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # it is no mapping
    assert "\n".join(model.words).encode() == stored["words"].tobytes()
    np.testing.assert_array_equal(stored["log_prob"], model.ngram.log_prob.astype(stored["log_prob"].dtype))


@pytest.mark.parametrize("half", [False, True])
def test_a_damaged_compact_file_is_refused(tmp_path: Path, half: bool) -> None:
    path = tmp_path / "model.ngram"
    ngram.save(read(SMALL), path, half)
    content = path.read_bytes()
    begin = 8 + int.from_bytes(content[:8], "little")
    damaged = [
        content[:-8],
        content[:100],
        content.replace(b"asr n-gram 1", b"asr n-gram x"),
        content.replace(b'"log_prob"', b'"log_pr0b"'),
        content.replace(b'"I32"', b'"F32"'),
        content.replace(b'"order":"4"', b'"order":"x"'),
        content[:begin] + b"\x7f" * (len(content) - begin),
        content[:begin] + b"\xff" * (len(content) - begin),
    ]
    for each in damaged:
        assert each != content
        path.write_bytes(each)
        with pytest.raises(
            DataError, match=r"model\.ngram: (no n-gram model that this asr reads|the file is damaged)"
        ):
            ngram.load(path)


@given(st.data())
def test_damaged_arrays_are_refused_or_harmless(folder: Path, data: st.DataObject) -> None:
    path = folder / "flipped.ngram"
    ngram.save(read_text(folder, TINY), path, half=data.draw(st.booleans()))
    content = bytearray(path.read_bytes())
    for position in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=4)):
        content[position] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    try:
        model = ngram.load(path)
    except DataError:
        return
    assert model.log_probs(["a", "b", "a"], eos=False).shape == (3,)


# The cache


def test_an_arpa_file_is_read_once(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = ngram.load(SMALL)
    monkeypatch.setattr(arpa, "read", None)
    assert same(ngram.load(SMALL), first)
    assert len(list(cache.rglob("*.ngram"))) == 1


def test_a_changed_arpa_file_is_read_anew_and_replaces_the_old(tmp_path: Path, cache: Path) -> None:
    path = tmp_path / "changing.arpa"
    path.write_text(TINY)
    before = ngram.load(path)
    path.write_text(TINY.replace("-0.375", "-0.3750"))
    assert same(ngram.load(path), before)
    path.write_text(TINY.replace("-0.375", "-0.5"))
    assert ngram.load(path).log_prob(["a", "a"]) < before.log_prob(["a", "a"])
    assert len(list(cache.rglob("*.ngram"))) == 1


def test_a_damaged_cache_is_made_anew(cache: Path) -> None:
    first = ngram.load(SMALL)
    (kept,) = cache.rglob("*.ngram")
    kept.write_bytes(kept.read_bytes()[:1000])
    assert same(ngram.load(SMALL), first)
    assert kept.stat().st_size > 1000


def test_a_cache_that_cant_be_written_does_no_harm(cache: Path) -> None:
    cache.write_text("a file where the folder would be")
    assert same(ngram.load(SMALL), read(SMALL))


def test_a_cache_for_which_there_is_no_room_does_no_harm(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    assert same(ngram.load(SMALL), read(SMALL))
