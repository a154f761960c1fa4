"""Normalisation and tokenizers: worked examples, round trips, and sentencepiece itself as the reference."""

from __future__ import annotations

import json
import re
import unicodedata
from pathlib import Path

import pytest
import sentencepiece
from hypothesis import example, given
from hypothesis import strategies as st

from asr.errors import ConfigError, DataError, ModelError
from asr.text.normalize import Normalizer
from asr.text.tokenizer import (
    CharacterTokenizer,
    SentencePieceTokenizer,
    Tokenizer,
    WordTokenizer,
    build,
    load,
    uncovered,
)

COMMANDS = [
    f"turn {state} the {device} in the {room}"
    for state in ("on", "off")
    for device in ("lamp", "radio", "heating")
    for room in ("kitchen", "hall", "living room")
]

SCRIPTS = {
    "Amharic": ["ሰላም ለዓለም", "እንዴት ነህ"],
    "Arabic": ["مرحبا بالعالم", "كيف حالك"],
    "Chinese": ["你好 世界", "再见"],
    "Devanagari": ["नमस्ते दुनिया", "क्षत्रिय हिन्दी"],
    "Greek": ["γειά σου κόσμε", "τι κάνεις"],
    "Korean": ["안녕 세상", "잘 지내"],
    "Persian": ["می‌خواهم بروم", "نمی‌دانم"],  # zero-width non-joiners inside the words
    "Thai": ["สวัสดี ชาวโลก", "ขอบคุณ"],
    "Yoruba": ["ẹ káàárọ̀ o", "ọ̀rẹ́ mi"],  # ọ̀ has no composed form
}
MODIFIERS = re.compile("[\u02b0-\u02ff\ua700-\ua721\ua789\ua78a]")
"""The blocks Spacing Modifier Letters and Modifier Tone Letters."""
KINDS = [("characters", None), ("words", None), ("bpe", 40), ("unigram", 25)]


def canonical(text: str) -> str:
    return " ".join(unicodedata.normalize("NFC", text).split())


# ------------------------------------------------------------------------------------------ normalisation


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hello, World!", "hello world"),
        (" \tone \u00a0 two\u3000three\n", "one two three"),
        ("it’s don't", "it's don't"),
        ("twenty-one", "twenty one"),
        ("yes—no – and/or|nor", "yes no and or nor"),
        ("‘Don’t,’ he said, ‘the dogs’ tails’!", "don't he said the dogs tails'"),  # whose end is whose, who knows
        ("‘Hello’ and ‘good bye’. The boys’ o‘zbek", "hello and good bye the boys' ozbek"),
        ("ሰላም፡ለዓለም።እንዴት፡ነህ", "ሰላም ለዓለም እንዴት ነህ"),
        ("བཀྲ་ཤིས་བདེ་ལེགས།", "བཀྲ ཤིས བདེ ལེགས"),
        ("wait…what", "wait what"),
        ("the U.S. (1,000 $)", "the us 1000"),
        ("«Ça va ?»", "ça va"),
        ("Cafe\u0301", "caf\u00e9"),
        ("ỌRẸ\u0301", "ọrẹ\u0301"),
        ("\ufeffso\u00adfa", "sofa"),
        ("I ❤️ you 👩‍💻", "i you"),
        ("می‌خواهم", "می‌خواهم"),
        ("你好，世界。", "你好世界"),
        ("ma˥˩ se˨˦, ꜀ma!", "ma˥˩ se˨˦ ꜀ma"),  # tone letters, which Unicode takes for symbols
        ("ba꞉da ba꞊ ꜠a", "ba꞉da ba꞊ ꜠a"),  # as in Budu and Sabaot
        ("Ne˞ve˞, kʰaʔ", "ne˞ve˞ kʰaʔ"),
        ("?!", ""),
        ("", ""),
    ],
)
def test_normalized(text: str, expected: str) -> None:
    assert Normalizer()(text) == expected


def test_normalizer_options() -> None:
    text = "Straße: it’s twenty-one_two!"
    assert Normalizer("upper")(text) == "STRASSE IT'S TWENTY ONE TWO"
    assert Normalizer("keep")(text) == "Straße it's twenty one two"
    assert Normalizer(punctuation="keep")(text) == "straße: it's twenty-one_two!"
    assert Normalizer(keep_characters="")(text) == "straße its twenty one two"
    assert Normalizer(keep_characters="-:")(text) == "straße: its twenty-one two"


def test_what_was_removed_can_be_told() -> None:
    assert Normalizer(replacements=(("&", "and"),)).removed("¿Don’t & wait…? ma˥!") == ["¿", "…", "?", "!"]
    assert Normalizer(keep_characters="-").removed("it's twenty-one") == ["'"]
    assert Normalizer(punctuation="keep").removed("?!") == []
    assert Normalizer(punctuation="keep")("‘so’") == "‘so'"
    assert Normalizer(replacements=(("‘", "'"),))("‘so’") == "'so'"  # where ‘ is a letter


@pytest.mark.parametrize(
    ("replacements", "text", "expected"),
    [
        ({"&": "and"}, "R&B & soul", "r and b and soul"),
        ({"%": "percent", "$": "dollars"}, "5% of 10$", "5 percent of 10 dollars"),
        ({"ß": "ss"}, "Straße, ẞ", "strasse ß"),  # before letter case changes
        ({"`": "'"}, "don`t", "don't"),  # no word, so no spaces
        ({"-": ""}, "e-mail", "email"),
        ({"Dr.": "Doctor", "mr": "mister"}, "Dr. Drew, mr Ed, mrs Ed, hmr", "doctor drew mister ed mrs ed hmr"),
        ({"'s": " is"}, "it's 's", "it is is"),
        ({"one": "1", "1": "two"}, "one", "two"),  # in their order
        ({"1": "two", "one": "1"}, "one", "1"),
        ({"e\u0301": "e"}, "caf\u00e9 Cafe\u0301", "cafe cafe"),
        ({"क": "x"}, "कम", "xम"),
        ({"कम": "x"}, "कम कमी", "x कमी"),  # ी is a mark, no letter
        ({"ọ\u0300": "o"}, "ọ\u0300rẹ", "orẹ"),  # one character of two code points
        ({".": "dot", "\\": "x"}, r"a.b \1 c", "a dot b x 1 c"),
        ({"a b": "c"}, "a b xa b", "c xa b"),
        ({"ma": "x", "˩": "1"}, "ma ma˥ se˩", "x ma˥ se1"),  # tone letters belong to their words
    ],
)
def test_replacements(replacements: dict[str, str], text: str, expected: str) -> None:
    assert Normalizer(replacements=tuple(replacements.items()))(text) == expected


def test_patterns() -> None:
    numbers = ((r"(\d+)\s*km\b", r"\1 kilometres"), (r"(?i)\bDr\b\.?", "doctor"), (r"\[[^]]*\]", " "))
    text = Normalizer(patterns=numbers)("DR Who, 5km [laughs] 5kmh")
    assert text == "doctor who 5 kilometres 5kmh"
    both = Normalizer(replacements=(("&", "and"),), patterns=(("and", "or"),))
    assert both("this & that") == "this or that"
    assert Normalizer(patterns=(("a\u0301", "x"),))("b\u00e1d ba\u0301d") == "bxd bxd"  # composed or not


normalizers = st.builds(
    Normalizer,
    case=st.sampled_from(["lower", "upper", "keep"]),
    punctuation=st.sampled_from(["remove", "keep"]),
    keep_characters=st.text(alphabet="'-=.ϒ", max_size=2),
)


@given(normalizers, st.text())
@example(Normalizer(keep_characters="="), "=.\u0338")  # what a removed full stop had kept from composing
@example(Normalizer(case="upper"), "\u01f0\u0345")
@example(Normalizer(case="lower"), "İ\u0301")
@example(Normalizer(), "\u1100.\u1161")  # Hangul letters that become neighbours
def test_normalizing_is_idempotent_and_canonical(normalizer: Normalizer, text: str) -> None:
    once = normalizer(text)
    assert normalizer(once) == once
    assert once == canonical(once)


@given(st.text())
def test_normalized_text_has_neither_punctuation_nor_capitals(text: str) -> None:
    normalized = Normalizer()(text)
    assert not [c for c in normalized if unicodedata.category(c)[0] in "PS" and c != "'" and not MODIFIERS.match(c)]
    assert normalized == unicodedata.normalize("NFC", normalized.lower())


# -------------------------------------------------------------------------------------------- tokenizers


@given(st.lists(st.text(min_size=1)))
def test_characters_round_trip(texts: list[str]) -> None:
    texts = ["a", *texts]
    tokenizer = build("characters", texts)
    for text in texts:
        ids = tokenizer.encode(text)
        assert 0 not in ids
        assert tokenizer.decode(ids) == canonical(text)


@given(st.lists(st.text(min_size=1)))
def test_words_round_trip(texts: list[str]) -> None:
    texts = ["a", *texts]
    tokenizer = build("words", texts)
    for text in texts:
        ids = tokenizer.encode(text)
        assert len(ids) == len(canonical(text).split())
        assert tokenizer.decode(ids) == canonical(text)


PIECES = {kind: build(kind, COMMANDS, 27) for kind in ("bpe", "unigram")}


@given(st.sampled_from(sorted(PIECES)), st.text(alphabet=sorted(set("".join(COMMANDS)))))
def test_pieces_round_trip(kind: str, text: str) -> None:
    ids = PIECES[kind].encode(text)
    assert 0 not in ids
    assert PIECES[kind].decode(ids) == canonical(text)


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_pieces_are_those_of_sentencepiece(kind: str, tmp_path: Path) -> None:
    PIECES[kind].save(tmp_path)
    reference = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "tokenizer.model"))
    assert len(PIECES[kind].surfaces) == reference.get_piece_size() == 27
    for text in [*COMMANDS, "the chill on", "a"]:
        assert PIECES[kind].encode(text) == reference.encode(text)
        assert PIECES[kind].decode(reference.encode(text)) == reference.decode(reference.encode(text)) == text
    assert any(re.fullmatch(r" \w+", surface) for surface in PIECES[kind].surfaces)


@pytest.mark.parametrize(("kind", "size"), KINDS)
@pytest.mark.parametrize("script", sorted(SCRIPTS))
def test_scripts(kind: str, size: int | None, script: str) -> None:
    texts = [canonical(text) for text in SCRIPTS[script]]
    if size is not None:
        size = largest_size(kind, texts)
    tokenizer = build(kind, texts, size)
    for text in texts:
        assert tokenizer.decode(tokenizer.encode(text)) == text
        assert tokenizer.encode(unicodedata.normalize("NFD", text)) == tokenizer.encode(text)
        assert "".join(tokenizer.surfaces[token] for token in tokenizer.encode(text)).strip() == text


def largest_size(kind: str, texts: list[str]) -> int:
    """The largest that sentencepiece takes, as the error says it."""
    with pytest.raises(ConfigError, match=r"10000 tokens are too many\n  expected: at most \d+") as error:
        build(kind, texts, 10_000)
    return int(re.findall(r"at most (\d+)", str(error.value))[0])


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_sizes_at_and_beyond_the_limits(kind: str) -> None:
    largest = largest_size(kind, COMMANDS)
    assert len(build(kind, COMMANDS, largest).surfaces) == largest
    with pytest.raises(ConfigError, match=f"at most {largest}"):
        build(kind, COMMANDS, largest + 1)
    with pytest.raises(ConfigError, match="5 tokens are too few") as error:
        build(kind, COMMANDS, 5)
    smallest = int(re.findall(r"at least (\d+)", str(error.value))[0])
    assert len(build(kind, COMMANDS, smallest).surfaces) == smallest
    with pytest.raises(ConfigError, match="too few"):
        build(kind, COMMANDS, smallest - 1)


@pytest.mark.parametrize(("kind", "size"), KINDS)
def test_the_order_of_the_texts_does_not_matter(kind: str, size: int | None, tmp_path: Path) -> None:
    for name, texts in [("forward", COMMANDS), ("backward", COMMANDS[::-1])]:
        build(kind, texts, size).save(tmp_path / name)
    files = [path.name for path in (tmp_path / "forward").iterdir()]
    assert len(files) == (1 if size is None else 2)
    for file in files:
        assert (tmp_path / "forward" / file).read_bytes() == (tmp_path / "backward" / file).read_bytes()


def test_surfaces() -> None:
    assert build("characters", ["one", "two"]).unknown("one two") == []  # as utterances are joined
    assert build("characters", ["b a", "cafe\u0301"]).surfaces == ("", " ", "a", "b", "c", "f", "\u00e9")
    assert build("words", ["turn on", "turn off"]).surfaces == ("", " off", " on", " turn")


def test_training_pieces_is_silent_and_reads_long_texts(capfd: pytest.CaptureFixture[str]) -> None:
    tokenizer = build("bpe", [*COMMANDS, "x" * 10_000], 40)
    assert tokenizer.unknown("x") == []
    assert capfd.readouterr() == ("", "")


def test_decoding_what_a_model_may_put_out() -> None:
    tokenizer = CharacterTokenizer([" ", "a", "b"])
    assert tokenizer.decode([1, 2, 1, 1, 0, 3, 1]) == "a b"
    assert tokenizer.decode([]) == ""


@pytest.mark.parametrize(
    ("tokenizer", "named"),
    [
        (CharacterTokenizer([" ", "a", "n"]), "“x” (U+0078), “é” (U+00E9) in “an xéx”"),
        (WordTokenizer(["an"]), "“xéx” in “an xéx”"),
        (build("bpe", ["an nan"], 5), "“x” (U+0078), “é” (U+00E9) in “an xéx”"),
        (build("unigram", ["an nan"], 5), "“x” (U+0078), “é” (U+00E9) in “an xéx”"),
    ],
)
def test_what_cannot_be_encoded_is_named(tokenizer: Tokenizer, named: str) -> None:
    with pytest.raises(DataError) as error:
        tokenizer.encode("an xéx")
    assert f"no token for {named}" in str(error.value)


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_the_boundary_mark_of_sentencepiece_is_no_space(kind: str) -> None:
    assert PIECES[kind].unknown("on▁the") == ["▁"]


def test_uncovered() -> None:
    texts = ["x on x", "on", "ex y", "x", "x the"]
    assert uncovered(build("characters", COMMANDS), texts) == {
        "x": (5, ("x on x", "ex y", "x")),
        "y": (1, ("ex y",)),
    }
    assert list(uncovered(build("words", COMMANDS), ["zu on", "ex", "ex"])) == ["ex", "zu"]
    assert uncovered(PIECES["bpe"], texts)["x"] == (5, ("x on x", "ex y", "x"))
    assert uncovered(PIECES["unigram"], COMMANDS) == {}


@pytest.mark.parametrize(("kind", "size"), KINDS)
def test_save_and_load(kind: str, size: int | None, tmp_path: Path) -> None:
    saved = build(kind, COMMANDS, size)
    saved.save(tmp_path)
    loaded = load(tmp_path)
    assert type(loaded) is type(saved)
    assert (loaded.kind, loaded.surfaces) == (kind, saved.surfaces)
    assert [loaded.encode(text) for text in COMMANDS] == [saved.encode(text) for text in COMMANDS]
    assert json.loads((tmp_path / "tokenizer.json").read_text(encoding="utf-8"))["kind"] == kind


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "tokenizer.json: no such file"),
        ({"tokenizer.json": '{"kind": "bpe"}'}, "tokenizer.model: no such file"),
        ({"tokenizer.json": '{"kind": "bpe"}', "tokenizer.model": "rubbish"}, "can't be read"),
        ({"tokenizer.json": '{"kind": "bpe"}', "tokenizer.model": ""}, "piece 0"),
        ({"tokenizer.json": '{"kind": "phones"}'}, "phones"),
        ({"tokenizer.json": '{"kind": "words"}'}, "words"),
        ({"tokenizer.json": '["characters"]'}, "can't be read"),
        ({"tokenizer.json": "{"}, "can't be read"),
    ],
)
def test_a_broken_folder_is_a_model_error(files: dict[str, str], message: str, tmp_path: Path) -> None:
    for name, content in files.items():
        (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(ModelError) as error:
        load(tmp_path)
    assert message in str(error.value)
    assert str(tmp_path) in str(error.value)


def test_build_refuses_what_it_cannot_do() -> None:
    with pytest.raises(DataError, match="no text"):
        build("characters", ["", " \n"])
    with pytest.raises(ConfigError, match="unknown kind “phones”"):
        build("phones", COMMANDS)
    with pytest.raises(ConfigError, match="bpe has no size"):
        build("bpe", COMMANDS)


def test_a_sentencepiece_model_of_other_ids_is_refused(tmp_path: Path) -> None:
    prefix = tmp_path / "other"
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(COMMANDS), model_prefix=prefix, vocab_size=27, unk_id=1, bos_id=0, minloglevel=3
    )
    with pytest.raises(ValueError, match="piece 0"):
        SentencePieceTokenizer(prefix.with_suffix(".model").read_bytes(), "unigram")
