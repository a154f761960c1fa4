"""Transcripts as files: the syntax that other programs expect, and the cutting into subtitles."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.decoding.types import Slot
from asr.errors import ConfigError
from asr.formats import FORMATS, NAMED_TEXT, Format
from asr.transcript import Alternative, Segment, TimedWord, Transcript, cut_at_pauses, mean_confidence


def words(*spans: tuple[str, float, float]) -> tuple[TimedWord, ...]:
    return tuple(TimedWord(text, start, end, 0.5) for text, start, end in spans)


TALK = Transcript(
    path="talks/my talk.wav",
    duration=3725.5,
    text="rock & roll forever",
    words=words(("rock", 0.04, 0.4), ("&", 0.4, 0.52), ("roll", 0.52, 1.0), ("forever", 3723.9996, 3725.0)),
    confidence=0.5,
)
RANKED = replace(TALK, alternatives=(Alternative(TALK.text, -2.504), Alternative("rocking rolls", -13.0)))
COMMAND = replace(TALK, slots=(Slot("music", "rock"), Slot("music", "roll")), rejection=0.25)
SILENCE = Transcript(path="silence.wav", duration=2.0, text="", words=(), confidence=0.99)


def rendered(name: str, *transcripts: Transcript) -> str:
    return "".join(FORMATS[name].render(transcripts))


def test_text_is_a_line_for_each_recording() -> None:
    assert rendered("text", TALK) == "rock & roll forever\n"
    assert "".join(NAMED_TEXT.render([TALK, SILENCE])) == "talks/my talk.wav: rock & roll forever\nsilence.wav: \n"


def test_alternatives_stand_below_the_text_with_their_scores() -> None:
    below = "     -2.50  rock & roll forever\n    -13.00  rocking rolls\n"
    assert rendered("text", RANKED, TALK) == f"{TALK.text}\n{below}{TALK.text}\n"
    assert "".join(NAMED_TEXT.render([RANKED])) == f"talks/my talk.wav: {TALK.text}\n{below}"


@pytest.mark.parametrize("name", ["srt", "vtt", "ctm", "tsv"])
def test_other_formats_hold_the_best_only(name: str) -> None:
    assert rendered(name, RANKED) == rendered(name, TALK)
    assert not FORMATS[name].shows_alternatives


@pytest.mark.parametrize("form", [FORMATS["text"], NAMED_TEXT, FORMATS["json"]])
def test_these_hold_the_others_too(form: Format) -> None:
    assert RANKED.alternatives[1].text in "".join(form.render([RANKED]))
    assert form.shows_alternatives


def test_srt() -> None:
    # Rounding must carry from milliseconds into seconds and minutes: 3723.9996 s is 01:02:04,000.
    assert rendered("srt", TALK) == (
        "1\n00:00:00,040 --> 00:00:01,040\nrock & roll\n\n2\n01:02:04,000 --> 01:02:05,000\nforever\n\n"
    )
    assert rendered("srt", SILENCE) == ""


def test_subtitles_are_shown_until_they_can_be_read() -> None:
    """CTC's words end with their last spike; but the next subtitle begins on time, and none is past the end."""
    spikes = words(
        ("five", 2.4, 2.46), ("incomprehensibilities", 10.0, 10.1), ("or", 11.0, 11.1), ("so", 12.5, 12.6)
    )
    lines = rendered("srt", replace(TALK, duration=13.0, words=spikes)).splitlines()[1::4]
    assert [line.replace(",", ".")[6:12] + line.replace(",", ".")[23:] for line in lines] == [
        "02.40003.400",
        "10.00011.000",
        "11.00012.000",
        "12.50013.000",
    ]


def test_vtt_escapes_what_would_be_markup() -> None:
    assert rendered("vtt", TALK) == (
        "WEBVTT\n\n00:00:00.040 --> 00:00:01.040\nrock &amp; roll\n\n01:02:04.000 --> 01:02:05.000\nforever\n"
    )
    assert rendered("vtt", SILENCE) == "WEBVTT\n"


def test_ctm_has_six_columns_whatever_the_file_is_called() -> None:
    lines = [line.split(" ") for line in rendered("ctm", TALK, SILENCE).splitlines()]
    assert lines[0] == ["my_talk", "1", "0.040", "0.360", "rock", "0.5000"]
    assert [len(line) for line in lines] == [6, 6, 6, 6]


def test_tsv_is_read_by_a_csv_reader() -> None:
    tricky = Transcript("a\tb.wav", 1.0, TALK.text, TALK.words[:1], 0.5)
    rows = list(csv.DictReader(io.StringIO(rendered("tsv", TALK, tricky)), delimiter="\t"))
    assert [row["text"] for row in rows] == ["rock & roll", "forever", "rock"]
    assert rows[2] == {"path": "a b.wav", "start": "0.040", "end": "0.400", "confidence": "0.5000", "text": "rock"}


@pytest.mark.parametrize("transcripts", [(), (TALK,), (TALK, SILENCE)])
def test_json_is_an_array_of_recordings(transcripts: tuple[Transcript, ...]) -> None:
    parsed = json.loads(rendered("json", *transcripts))
    assert [entry["path"] for entry in parsed] == [transcript.path for transcript in transcripts]
    if transcripts:
        first = parsed[0]
        assert (first["text"], first["duration"], first["confidence"]) == (TALK.text, 3725.5, 0.5)
        assert first["words"][2] == {"text": "roll", "start": 0.52, "end": 1.0, "confidence": 0.5}
        assert first["segments"][1] == {"text": "forever", "start": 3724.0, "end": 3725.0, "confidence": 0.5}


def test_json_holds_what_was_asked_for() -> None:
    plain, ranked, command = json.loads(rendered("json", TALK, RANKED, COMMAND))
    assert ranked.pop("alternatives") == [
        {"text": TALK.text, "score": -2.504},
        {"text": "rocking rolls", "score": -13.0},
    ]
    assert command.pop("slots") == [{"name": "music", "value": "rock"}, {"name": "music", "value": "roll"}]
    assert (command.pop("rejection"), command.pop("rejected")) == (0.25, False)
    assert plain == ranked == command


def refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is no JSON")


def test_json_has_no_infinity() -> None:
    impossible = replace(
        COMMAND, rejection=math.inf, alternatives=(Alternative("", -math.inf),), rejected=True, text="", words=()
    )

    (found,) = json.loads(rendered("json", impossible), parse_constant=refuse)
    assert (found["rejection"], found["rejected"], found["alternatives"]) == (
        None,
        True,
        [{"text": "", "score": None}],
    )


def test_a_confidence_that_is_not_known_is_null() -> None:
    spoken = tuple(replace(word, confidence=math.nan) for word in TALK.words)
    unknown = replace(TALK, words=spoken, confidence=math.nan)
    (found,) = json.loads(rendered("json", unknown), parse_constant=refuse)
    assert found["confidence"] is found["words"][0]["confidence"] is None
    assert found["text"] == TALK.text


def test_parts_come_with_the_transcripts() -> None:
    """A long job must show its first text before its last recording is read."""
    drawn = []

    def transcripts() -> object:
        for transcript in (TALK, SILENCE):
            drawn.append(transcript.path)
            yield transcript

    parts = Format(".txt", FORMATS["text"].write).render(transcripts())  # type: ignore[arg-type]
    assert next(parts) == "rock & roll forever\n"
    assert drawn == [TALK.path]


@pytest.mark.parametrize("done", [0, 1, 2])
@pytest.mark.parametrize("failure", [ConfigError("no such sentence"), KeyboardInterrupt()])
def test_what_breaks_off_stays_whole(done: int, failure: BaseException) -> None:
    def transcripts() -> Iterator[Transcript]:
        yield from (TALK, SILENCE)[:done]
        raise failure

    parts = []
    with pytest.raises(type(failure)):
        parts.extend(FORMATS["json"].render(transcripts()))
    written = "".join(parts)
    assert not written if done == 0 else len(json.loads(written)) == done


def test_segments_end_at_pauses() -> None:
    spoken = words(("a", 0.0, 0.5), ("b", 1.25, 1.5), ("c", 2.5, 3.0))
    assert [segment.text for segment in cut_at_pauses(spoken, pause=1.0)] == ["a b", "c"]
    assert [segment.text for segment in cut_at_pauses(spoken, pause=1.01)] == ["a b c"]


def test_long_segments_are_cut_at_the_longest_pause_of_their_second_half() -> None:
    spoken = words(("a", 0, 1), ("b", 1.5, 2), ("c", 2.1, 3), ("d", 3.3, 4), ("e", 4.1, 5), ("f", 5.1, 6))
    assert [segment.text for segment in cut_at_pauses(spoken, longest=5.0)] == ["a b c", "d e f"]


@st.composite
def spoken_words(draw: st.DrawFn) -> list[TimedWord]:
    time, found = 0.0, []
    for index in range(draw(st.integers(0, 30))):
        time += draw(st.sampled_from([0.0, 0.04, 0.2, 0.8, 3.0]))
        end = time + draw(st.sampled_from([0.04, 0.4, 1.0, 9.0]))
        found.append(TimedWord(str(index), time, end, 0.5))
        time = end
    return found


@given(spoken_words())
def test_segments_keep_every_word_and_their_limits(spoken: list[TimedWord]) -> None:
    segments = cut_at_pauses(spoken, pause=0.8, longest=7.0)
    assert [word for segment in segments for word in segment.words] == spoken
    for segment in segments:
        assert len(segment.words) == 1 or segment.end - segment.start <= 7.0
        gaps = [after.start - before.end for before, after in zip(segment.words, segment.words[1:], strict=False)]
        assert all(gap < 0.8 for gap in gaps)


def test_confidence_of_a_segment_is_the_geometric_mean() -> None:
    segment = Segment((TimedWord("a", 0, 1, 0.9), TimedWord("b", 1, 2, 0.4)))
    assert segment.confidence == pytest.approx(0.6)  # √(0.9 · 0.4)
    assert mean_confidence((TimedWord("a", 0, 1, 0.0),)) == 0.0
