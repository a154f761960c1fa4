"""Word vectors: queries against brute force and gensim, the files of other tools, and evaluation."""

from __future__ import annotations

import gzip
import json
import math
import re
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from asr.errors import ConfigError, DataError, MissingDependencyError
from asr.text import vector_evaluation, vector_files, vector_plot
from asr.text.vector_evaluation import Section, spearman
from asr.text.vectors import WordVectors

FILES = Path(__file__).parent / "vectors"


@pytest.fixture(scope="module")
def vectors() -> WordVectors:
    return vector_files.load(FILES / "gensim.bin")


@pytest.fixture(scope="module")
def gensims() -> Any:
    return json.loads((FILES / "gensim.json").read_text(encoding="utf-8"))


def random_vectors(words: int, dim: int) -> WordVectors:
    rows = np.random.default_rng(0).normal(size=(words, dim)).astype(np.float32)
    return WordVectors(tuple(f"w{number}" for number in range(words)), rows)


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return math.fsum(a * b) / math.sqrt(math.fsum(a * a) * math.fsum(b * b))


def test_neighbours_and_similarities_are_gensims(vectors: WordVectors, gensims: Any) -> None:
    found = vectors.neighbours("king", 5)
    assert [word for word, _ in found] == [word for word, _ in gensims["neighbours of king"]]
    assert [score for _, score in found] == pytest.approx([score for _, score in gensims["neighbours of king"]])
    assert vectors.similarity("Paris", "Rome") == pytest.approx(gensims["similarity of Paris and Rome"])


def test_neighbours_of_a_vector_begin_with_the_word_that_has_it(vectors: WordVectors) -> None:
    row = vectors.vectors[vectors.id("café")]
    (first, score), *rest = vectors.neighbours(3 * row, 4)
    assert (first, score) == ("café", pytest.approx(1))
    assert [word for word, _ in rest] == [word for word, _ in vectors.neighbours("café", 3)]


def test_analogies_by_addition_are_gensims(vectors: WordVectors, gensims: Any) -> None:
    found = vectors.analogy("man", "king", "woman", 5)
    assert [word for word, _ in found] == [word for word, _ in gensims["man, king, woman"]]
    assert [score for _, score in found] == pytest.approx([score for _, score in gensims["man, king, woman"]])


def test_analogies_by_multiplication_follow_the_formula(vectors: WordVectors) -> None:
    def moved(word: str, other: str) -> float:
        return (cosine(*(vectors.vectors[vectors.id(each)].astype(float) for each in (word, other))) + 1) / 2

    def product(word: str) -> float:
        return moved(word, "king") * moved(word, "woman") / (moved(word, "man") + 0.001)

    expected = sorted({*vectors.words} - {"man", "king", "woman"}, key=product, reverse=True)
    found = vectors.analogy("man", "king", "woman", 100, "multiply")
    assert [word for word, _ in found] == expected
    assert [score for _, score in found] == pytest.approx(list(map(product, expected)), rel=1e-4)


def test_no_more_neighbours_than_there_are(vectors: WordVectors) -> None:
    assert len(vectors.neighbours("king", 1000)) == len(vectors.words) - 1
    lone = random_vectors(3, 4)
    assert lone.analogy("w0", "w1", "w2") == []


def test_a_vector_of_zeros_is_like_nothing() -> None:
    rows = np.array([[0, 0], [0, 3], [0, -2]], np.float32)
    vectors = WordVectors(("none", "up", "down"), rows)
    assert [score for _, score in vectors.neighbours("none")] == [0, 0]
    assert vectors.similarity("none", "none") == 0
    assert vectors.neighbours("up") == [("none", 0), ("down", -1)]


def test_words_outside_the_vocabulary_are_told_with_similar_ones(vectors: WordVectors) -> None:
    for wrong in (
        lambda: vectors.neighbours("swiming"),
        lambda: vectors.similarity("king", "swiming"),
        lambda: vectors.analogy("king", "queen", "swiming"),
        lambda: vectors.only(["king", "swiming"]),
    ):
        with pytest.raises(ConfigError, match=r"“swiming” is not among the 21 words(.|\n)*try: swimming, swim"):
            wrong()
    with pytest.raises(ConfigError, match=r"“paris” (.|\n)*try: Paris"):
        vectors.id("paris")
    with pytest.raises(ConfigError, match=r"“zzzz” is not among the 21 words that have vectors$"):
        vectors.id("zzzz")


@pytest.mark.parametrize("name", ["gensim.txt", "gensim.bin"])
def test_gensims_files_are_read(name: str) -> None:
    loaded = vector_files.load(FILES / name)
    assert loaded.words[:3] == ("the", "king", "queen") and loaded.words[-2:] == ("café", "日本")
    assert loaded.vectors.shape == (21, 8) and loaded.vectors.dtype == np.float32
    assert loaded.vectors[1, :2].tolist() == [np.float32(-2.9164762), np.float32(0.9667046)]


def test_text_and_binary_hold_the_same() -> None:
    text, binary = (vector_files.load(FILES / name) for name in ("gensim.txt", "gensim.bin"))
    assert text.words == binary.words
    np.testing.assert_array_equal(text.vectors, binary.vectors)


@pytest.mark.parametrize("name", ["v.txt", "v.vec.gz", "v.bin", "v.bin.gz"])
def test_what_is_written_is_read_again_to_the_last_bit(tmp_path: Path, name: str) -> None:
    written = random_vectors(500, 7)
    written.vectors[:3] *= np.array([[1e-38], [1e30], [0]], np.float32)
    vector_files.save(written, tmp_path / name)
    loaded = vector_files.load(tmp_path / name)
    assert loaded.words == written.words
    np.testing.assert_array_equal(loaded.vectors, written.vectors)


@pytest.mark.parametrize("name", ["v.txt", "v.bin"])
def test_files_larger_than_what_is_read_at_once(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vector_files, "_BYTES_AT_ONCE", 50)
    written = random_vectors(300, 5)
    vector_files.save(written, tmp_path / name)
    loaded = vector_files.load(tmp_path / name)
    assert loaded.words == written.words
    np.testing.assert_array_equal(loaded.vectors, written.vectors)


@pytest.mark.parametrize("name", ["v.txt", "v.bin"])
def test_gensim_reads_what_we_write(tmp_path: Path, vectors: WordVectors, name: str) -> None:
    # gensim was seen to read these very bytes; where there is one for this Python, it does so again.
    vector_files.save(vectors, tmp_path / name)
    assert (tmp_path / name).read_bytes() == (FILES / "ours").with_suffix((tmp_path / name).suffix).read_bytes()
    models = pytest.importorskip("gensim.models", exc_type=ImportError)
    loaded = models.KeyedVectors.load_word2vec_format(str(tmp_path / name), binary=name == "v.bin")
    assert tuple(loaded.index_to_key) == vectors.words
    np.testing.assert_array_equal(loaded.vectors, vectors.vectors)


def binary(*entries: tuple[bytes, list[float]], end: bytes = b"") -> bytes:
    return b"".join(word + b" " + struct.pack(f"<{len(row)}f", *row) + end for word, row in entries)


CUT = "na\N{LATIN SMALL LETTER I WITH DIAERESIS}".encode()[:-1]


@pytest.mark.parametrize(
    ("content", "words", "rows"),
    [
        pytest.param(b"a 1 2\nb 3 -4e-1\n", "a b", [[1, 2], [3, -0.4]], id="GloVe has no header"),
        pytest.param(b"2 2\na 1 2 \nb 3 4 \n", "a b", [[1, 2], [3, 4]], id="word2vec.c ends lines with a space"),
        pytest.param(
            b"2 2\r\na\t1\t2\r\nb  3  4\r\n\r\n", "a b", [[1, 2], [3, 4]], id="Windows, tabs, blank lines"
        ),
        pytest.param(b"\xef\xbb\xbf1 2\na 1 2", "a", [[1, 2]], id="byte order mark, no newline at the end"),
        pytest.param(b"a 1 2\n. . 3 4\n", "a|. .", [[1, 2], [3, 4]], id="GloVe has words with spaces"),
        pytest.param(b"3 1\na 1\nb 2\na 3\n", "a b", [[1], [2]], id="the first of a repeated word counts"),
        pytest.param(b"1 2\n" + CUT + b" 1 2\n", "na\ufffd", [[1, 2]], id="word2vec.c cuts long words"),
        pytest.param("2 1\na\xa0b 1\n\u2028 2\n".encode(), "a\xa0b|\u2028", [[1], [2]], id="spaces of Unicode"),
        pytest.param(b"2 1\n5 6\n7 8\n", "5 7", [[6], [8]], id="words that are numbers"),
        pytest.param(
            b"2 2\n" + binary((b"a", [1, 2]), (b"b", [3, 4])), "a b", [[1, 2], [3, 4]], id="gensim's binary"
        ),
        pytest.param(
            b"2 2\n" + binary((b"a", [1, 2]), (b"b", [3, 4]), end=b"\n"),
            "a b",
            [[1, 2], [3, 4]],
            id="word2vec.c's binary",
        ),
        pytest.param(
            b"2 2\n" + binary((CUT, [1e-8, 2]), (b"b", [3, struct.unpack("<f", b"\n \n ")[0]])),
            "na\ufffd|b",
            [[1e-8, 2], [3, struct.unpack("<f", b"\n \n ")[0]]],
            id="binary with newlines and spaces in numbers",
        ),
        pytest.param(
            b"1 2\n" + binary((b"a", [struct.unpack("<f", b"\n \n ")[0], 2])),
            "a",
            [[struct.unpack("<f", b"\n \n ")[0], 2]],
            id="binary with a newline right after the word",
        ),
    ],
)
def test_files_of_many_tools_are_read(tmp_path: Path, content: bytes, words: str, rows: list[list[float]]) -> None:
    (tmp_path / "plain").write_bytes(content)
    (tmp_path / "packed").write_bytes(gzip.compress(content))
    for name in ("plain", "packed"):
        loaded = vector_files.load(tmp_path / name)
        assert loaded.words == tuple(words.split("|") if "|" in words else words.split(" "))
        np.testing.assert_array_equal(loaded.vectors, np.array(rows, np.float32))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "vectors: the file is empty"),
        (b"two words\n", "vectors: the first line is neither a header nor a word and its numbers"),
        (b"\x80\x04\x95pickle", "vectors: the first line is neither"),
        (b"\xba\x16\x4f\x2f\x0c\0\0\0", "vectors: this is a model in fastText's own format"),
        (b"0 5\n", "vectors, line 1: the first line announces 0 words with 5 numbers"),
        (b"3 2\na 1 2\nb 3\nc 5 6\n", "vectors, line 3: “b 3”\n  expected: a word and 2 numbers"),
        (b"3 2\na 1 2\n3 4\nc 5 6\n", "vectors, line 3: “3 4”\n  expected: a word and 2 numbers"),
        (b"3 2\na 1 2\nb 3 4 5\nc 6\n", "vectors, line 3: “b 3 4 5”"),
        (b"3 2\na 1\nb 3 4\nc 5 6\n", "vectors, line 2: “a 1”"),
        (b"a 1 2\n\nb 3 x\n", "vectors, line 3: “b 3 x”"),
        (b"a 1 2\nb 3 nan\n", "vectors, line 2: “b 3 nan”"),
        (b"a 1 2\nb 3 1e99\n", "vectors, line 2: “b 3 1e99”"),
        (b"3 2\na 1 2\nb 3 4\n", "vectors: the first line announces 3 words, but there are 2"),
        (b"1 2\na 1 2\nb 3 4\n", "vectors: the first line announces 1 words, but there are 2"),
        (b"1 2\n", "vectors: the first line announces 1 words, but there are 0"),
        (b"999999999999999999 999999999\na 1\n", "more than fits into memory"),
        (b"2 2\n" + binary((b"a", [1, 2]), (b"b", [3, 4]))[:-1], "vectors: the file ends within word 2 of 2"),
        (b"3 2\n" + binary((b"a", [1, 2]), (b"b", [3, 4])), "announces 3 words, but there are 2"),
        (b"2 2\n" + binary((b"a", [1, 2]), (b"b", [3, math.nan])), "the binary file is damaged near word 2 of 2"),
        (b"2 2\n" + binary((b"a", [1, 2])) + b"\0" * 2_000_000, "the binary file is damaged near word 1 of 2"),
        (gzip.compress(b"a 1 2\n" * 100, mtime=0)[:-9], "vectors: gzip can't read it"),
    ],
)
def test_damaged_files_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "vectors").write_bytes(content)
    with pytest.raises(DataError, match=re.escape(message)):
        vector_files.load(tmp_path / "vectors")


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="missing: there is no such file"):
        vector_files.load(tmp_path / "missing")
    with pytest.raises(DataError, match="this is a folder"):
        vector_files.load(tmp_path)


@pytest.mark.parametrize("word", ["new york", "", "tab\t", "line\n"])
def test_words_that_the_formats_cant_hold_are_not_written(tmp_path: Path, word: str) -> None:
    with pytest.raises(DataError, match="expected: words without white space in them"):
        vector_files.save(WordVectors(("a", word), np.ones((2, 2), np.float32)), tmp_path / "v.txt")
    assert not list(tmp_path.iterdir())


def test_names_say_the_format(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"v\.npy: this name does not say how"):
        vector_files.save(random_vectors(2, 2), tmp_path / "v.npy")


def test_ratings_are_compared_as_gensim_does(vectors: WordVectors, gensims: Any) -> None:
    agreement = vector_evaluation.rate(vectors, FILES / "pairs.tsv")
    assert agreement.correlation == pytest.approx(gensims["spearman"])
    assert (agreement.covered, agreement.pairs) == (10, 11)
    assert 100 * (1 - agreement.covered / agreement.pairs) == pytest.approx(gensims["oov percent"])


@pytest.mark.parametrize(
    "text",
    [
        "word1\tword2\tPOS\tSimLex999\tconc(w1)\nking\tqueen\tN\t9\t4.1\nking\tman\tN\t5\t4.8\nthe\tman\tN\t1\t3\n",
        "Word 1,Word 2,Human (Mean),1,2\nking,queen,9,1,1\nking,man,5,2,2\nthe,man,1,9,9\n",
        "king queen 9\r\nking man 5\r\nthe man 1\r\n",
        "\ufeff# of 1965\n\nking;queen;9\nking ; man ; 5\nthe;man;1\n",
    ],
)
def test_rated_pairs_come_in_many_layouts(vectors: WordVectors, tmp_path: Path, text: str) -> None:
    (tmp_path / "pairs").write_text(text, encoding="utf-8")
    agreement = vector_evaluation.rate(vectors, tmp_path / "pairs")
    cosines = [vectors.similarity(*pair) for pair in (("king", "queen"), ("king", "man"), ("the", "man"))]
    assert agreement.correlation == pytest.approx(scipy.stats.spearmanr(cosines, [9, 5, 1]).statistic)
    assert (agreement.covered, agreement.pairs) == (3, 3)


def test_analogies_are_counted_as_gensim_does(vectors: WordVectors, gensims: Any) -> None:
    sections = vector_evaluation.answer(vectors, FILES / "analogies.txt")
    for section in sections:
        assert section.correct == gensims["correct"][section.name]
        assert section.questions - section.correct == gensims["incorrect"][section.name]
    assert [section.unknown for section in sections] == [1, 0, 1]
    assert vector_evaluation.total("all", sections) == Section("all", 7, 9, 2)


@pytest.mark.parametrize("method", ["add", "multiply"])
def test_analogies_are_answered_the_same_few_at_a_time(
    vectors: WordVectors, monkeypatch: pytest.MonkeyPatch, method: Any
) -> None:
    whole = vector_evaluation.answer(vectors, FILES / "analogies.txt", method)
    monkeypatch.setattr(vector_evaluation, "_SCORES_AT_ONCE", 1)
    assert vector_evaluation.answer(vectors, FILES / "analogies.txt", method) == whole


def test_nothing_covered_has_no_score(tmp_path: Path, vectors: WordVectors) -> None:
    (tmp_path / "pairs").write_text("x y 1\nking z 2\n")
    agreement = vector_evaluation.rate(vectors, tmp_path / "pairs")
    assert math.isnan(agreement.correlation) and (agreement.covered, agreement.pairs) == (0, 2)
    (tmp_path / "analogies").write_text(": nothing\nx y z king\n")
    (section,) = vector_evaluation.answer(vectors, tmp_path / "analogies")
    assert math.isnan(section.accuracy) and section.unknown == 1


@given(st.lists(st.tuples(st.integers(-3, 3), st.integers(-3, 3)), min_size=2, max_size=30))
def test_rank_correlation_with_ties_is_scipys(pairs: list[tuple[int, int]]) -> None:
    a, b = zip(*pairs, strict=True)
    if len({*a}) == 1 or len({*b}) == 1:
        assert math.isnan(spearman(a, b))
    else:
        assert spearman(a, b) == pytest.approx(scipy.stats.spearmanr(a, b).statistic)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("king queen 1\nking man\nman woman 2\n", "pairs, line 2: “king man”\n  expected: two words and a rating"),
        ("king queen 1\n\nking man high\nman woman 2\n", "pairs, line 3"),
        ("word1 word2 rating\n", "pairs: there are no pairs"),
        ("# nothing\n\n", "pairs: the file is empty"),
    ],
)
def test_wrong_pairs_are_refused(tmp_path: Path, vectors: WordVectors, text: str, message: str) -> None:
    (tmp_path / "pairs").write_text(text)
    with pytest.raises(DataError, match=re.escape(message)):
        vector_evaluation.rate(vectors, tmp_path / "pairs")


def test_wrong_analogies_are_refused(tmp_path: Path, vectors: WordVectors) -> None:
    (tmp_path / "analogies").write_text(": kind\nman king woman queen\nman king woman\n")
    with pytest.raises(DataError, match="analogies, line 3: “man king woman”\n  expected: four words"):
        vector_evaluation.answer(vectors, tmp_path / "analogies")
    (tmp_path / "latin").write_bytes("é".encode("latin-1"))
    for name, message in {"latin": "not UTF-8", "missing": "no such file", ".": "this is a folder"}.items():
        with pytest.raises(DataError, match=message):
            vector_evaluation.holds_analogies(tmp_path / name)


def test_words_that_are_alike_stand_together() -> None:
    groups = np.repeat(np.eye(4, 10), 20, axis=0)
    rows = groups + 0.05 * np.random.default_rng(0).normal(size=groups.shape)
    positions = vector_plot.project(WordVectors(tuple(map(str, range(80))), rows.astype(np.float32)))
    assert positions.shape == (80, 2) and positions.min() == 0 and positions.max() == 1
    distances = np.linalg.norm(positions[:, None] - positions, axis=2)
    np.fill_diagonal(distances, np.inf)
    assert (distances.argmin(axis=1) // 20 == np.arange(80) // 20).all()


def test_words_that_are_all_alike_are_drawn_too() -> None:
    positions = vector_plot.project(WordVectors(("a", "b", "c", "d"), np.ones((4, 3), np.float32)))
    assert np.isfinite(positions).all()


def test_lengths_of_vectors_do_not_move_words() -> None:
    vectors = random_vectors(30, 6)
    longer = WordVectors(vectors.words, vectors.vectors * np.float32(4))
    np.testing.assert_allclose(vector_plot.project(longer), vector_plot.project(vectors))


def test_a_page_is_complete_in_itself(tmp_path: Path) -> None:
    words = ("<script>", "R&D", "日本", "plain")
    rows = random_vectors(4, 5).vectors
    vector_plot.plot(WordVectors(words, rows), tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    found = re.findall(r'<text x="([\d.]+)" y="([\d.]+)">(.*?)</text>', page)
    assert [label for *_, label in found] == ["&lt;script&gt;", "R&amp;D", "日本", "plain"]
    assert all(0 <= float(x) <= 1000 and 0 <= float(y) <= 1000 for x, y, _ in found)
    assert "://" not in page and "src=" not in page and "href" not in page


def test_an_image_is_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", exc_type=ImportError)
    vector_plot.plot(random_vectors(20, 5), tmp_path / "words.png")
    assert (tmp_path / "words.png").read_bytes().startswith(b"\x89PNG")


def test_an_image_without_matplotlib_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingDependencyError, match=r'words.png: (.|\n)*pip install -e "\.\[plot\]"'):
        vector_plot.plot(random_vectors(20, 5), tmp_path / "words.png")


def test_what_cant_be_drawn_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="2 words"):
        vector_plot.plot(random_vectors(2, 5), tmp_path / "words.html")
    with pytest.raises(ConfigError, match=r"expected: a name that ends in .png or .html"):
        vector_plot.plot(random_vectors(5, 5), tmp_path / "words.pdf")
