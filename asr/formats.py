"""Transcripts as text for people and other programs: plain text, JSON, subtitles, CTM, TSV."""

from __future__ import annotations

import html
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from asr.transcript import Segment, Transcript

SHOWN_SECONDS, CHARACTERS_PER_SECOND = 1.0, 17.0  # of a subtitle: at least, and to be read in


@dataclass(frozen=True)
class Format:
    """A way to write transcripts down.

    Attributes:
        suffix: of files in this format.
        write: one transcript.
        header, separator, footer: what stands before, between and after transcripts.
        holds_many: whether the transcripts of several recordings can share a file.
        shows_alternatives: whether it holds more than the best way to hear a recording.
    """

    suffix: str
    write: Callable[[Transcript], str]
    header: str = ""
    separator: str = ""
    footer: str = ""
    holds_many: bool = True
    shows_alternatives: bool = False

    def render(self, transcripts: Iterable[Transcript]) -> Iterator[str]:
        """Write transcripts down as they come, in parts that joined are the whole file.

        Nothing comes before the first transcript; if the transcripts break off, the file ends after the last one.
        """
        begun = False
        try:
            for transcript in transcripts:
                yield (self.separator if begun else self.header) + self.write(transcript)
                begun = True
        except (Exception, KeyboardInterrupt):
            if begun:
                yield self.footer
            raise
        yield self.footer if begun else self.header + self.footer


def text(transcript: Transcript) -> str:
    """What was said, on one line; where several ways to hear it were asked for, these below, with their scores."""
    return f"{transcript.text}\n" + "".join(
        f"{alternative.score:10.2f}  {alternative.text}\n" for alternative in transcript.alternatives
    )


def named_text(transcript: Transcript) -> str:
    """As `text`, after the recording's path."""
    return f"{_on_one_line(transcript.path)}: {text(transcript)}"


def json_object(transcript: Transcript) -> str:
    """All that is known, as a JSON object.

    Times are in seconds, confidences from 0 to 1, scores natural logarithms. What is infinite, because no sentence
    of the grammar is possible, is null, and so is a confidence that is not known.
    """
    value: dict[str, Any] = {
        "path": transcript.path,
        "duration": round(transcript.duration, 3),
        "text": transcript.text,
        "confidence": _finite(transcript.confidence),
        "words": [_timed(word) for word in transcript.words],
        "segments": [_timed(segment) for segment in transcript.segments],
    }
    if transcript.alternatives:
        value["alternatives"] = [
            {"text": alternative.text, "score": _finite(alternative.score)}
            for alternative in transcript.alternatives
        ]
    if transcript.rejection is not None:
        value["slots"] = [slot._asdict() for slot in transcript.slots]
        value["rejection"] = _finite(transcript.rejection)
        value["rejected"] = transcript.rejected
    return json.dumps(value, indent=2, ensure_ascii=False)


def srt(transcript: Transcript) -> str:
    """SubRip subtitles, one for each segment."""
    return "".join(
        f"{number}\n{_clock(segment.start, ',')} --> {_clock(end, ',')}\n{segment.text}\n\n"
        for number, (segment, end) in enumerate(_shown(transcript), start=1)
    )


def vtt(transcript: Transcript) -> str:
    """The cues of WebVTT subtitles, one for each segment (https://www.w3.org/TR/webvtt1/)."""
    return "".join(
        f"\n{_clock(segment.start, '.')} --> {_clock(end, '.')}\n{html.escape(segment.text, quote=False)}\n"
        for segment, end in _shown(transcript)
    )


def _shown(transcript: Transcript) -> Iterator[tuple[Segment, float]]:
    """Segments, each with the time until which it is shown: long enough to be read, if the next one leaves it."""
    segments = transcript.segments
    following = [*(segment.start for segment in segments[1:]), transcript.duration]
    for segment, limit in zip(segments, following, strict=False):
        readable = segment.start + max(SHOWN_SECONDS, len(segment.text) / CHARACTERS_PER_SECOND)
        yield segment, max(segment.end, min(readable, limit))


def ctm(transcript: Transcript) -> str:
    """NIST's time-marked conversation format: recording, channel, start, duration, word, confidence."""
    recording = ctm_name(PurePath(transcript.path))
    return "".join(
        f"{recording} 1 {word.start:.3f} {word.end - word.start:.3f} {word.text} {word.confidence:.4f}\n"
        for word in transcript.words
    )


def ctm_name(path: PurePath) -> str:
    """What a recording is called in a CTM file: its file's name without suffix and blanks."""
    return "_".join(without_suffix(path).name.split())


def without_suffix(path: PurePath) -> PurePath:
    """A recording's path without the suffix that tells its format; a date, as in “2024.05.01”, has none."""
    return path.with_suffix("") if re.fullmatch(r"\.\d?[A-Za-z]\w{0,4}", path.suffix) else path


def _on_one_line(path: str) -> str:
    return re.sub(r"[\t\r\n]", " ", path)


def tsv(transcript: Transcript) -> str:
    """A row for each segment, times in seconds."""
    path = _on_one_line(transcript.path)
    return "".join(
        f"{path}\t{segment.start:.3f}\t{segment.end:.3f}\t{segment.confidence:.4f}\t{segment.text}\n"
        for segment in transcript.segments
    )


TEXT = Format(".txt", text, shows_alternatives=True)
NAMED_TEXT = Format(".txt", named_text, shows_alternatives=True)
FORMATS = {
    "text": TEXT,
    "json": Format(".json", json_object, header="[\n", separator=",\n", footer="\n]\n", shows_alternatives=True),
    "srt": Format(".srt", srt, holds_many=False),
    "vtt": Format(".vtt", vtt, header="WEBVTT\n", holds_many=False),
    "ctm": Format(".ctm", ctm),
    "tsv": Format(".tsv", tsv, header="path\tstart\tend\tconfidence\ttext\n"),
}


def _timed(part: Any) -> dict[str, str | float | None]:
    return {
        "text": part.text,
        "start": round(part.start, 3),
        "end": round(part.end, 3),
        "confidence": _finite(part.confidence),
    }


def _finite(number: float) -> float | None:
    return round(number, 4) if math.isfinite(number) else None


def _clock(seconds: float, mark: str) -> str:
    """Hours, minutes, seconds, and milliseconds after the mark."""
    whole, milliseconds = divmod(round(seconds * 1000), 1000)
    minutes, seconds_left = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{seconds_left:02}{mark}{milliseconds:03}"
