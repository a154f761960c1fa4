"""What the structure of a sound file tells of its end, which the libraries that decode it keep to themselves.

They take an Ogg, Matroska, CAF or MP3 file that a download has left unfinished for a shorter recording, and read a
WAV file to the end that its header tells, though that can tell no more than 4 GiB.
"""

from __future__ import annotations

import re
from typing import BinaryIO, Literal

_RIFF_HEADER, _CHUNK_HEADER = 12, 8  # bytes
_TRAILER = 0.05  # of a file: more than what stands after the sound without being a chunk, such as tags of MP3
_MOST_PADDING = 1 << 16  # zeros after a file, up to a multiple of a block of its disk
_OGG_PAGE = 27 + 255 + 255 * 255  # bytes at most: header, segment table, segments
_OGG_END_OF_STREAM = 4
_CAF = b"caff"
_MATROSKA = b"\x1aE\xdf\xa3"
_MATROSKA_SEGMENT = b"\x18S\x80g"
# The first frame of an MP3, silent, with LAME's or Xing's tag in place of its sound; the flags say that frames are
# counted, and how many there are follows.
_XING = re.compile(
    rb"\xff[\xe0-\xff]..(?:\0{9}|\0{17}|\0{32})(?:Xing|Info)\0\0\0[\x01\x03\x05\x07\x09\x0b\x0d\x0f](?!\0{4})",
    re.DOTALL,
)


def is_placeholder(size: int) -> bool:
    """Whether a size is what writers claim that can't go back to the header: ffmpeg, sox and arecord in a pipe.

    That is nothing, about 2 or 4 GiB or, in RF64 and W64, the largest number that there is.
    """
    return size == 0 or 0x7FFF_F000 <= size <= 0x8000_0000 or 0xFFFF_F000 <= size <= 0xFFFF_FFFF or size >= 1 << 62


def unclaimed_bytes(file: BinaryIO, size: int) -> int:
    """How many bytes of a WAV file's sound are after the end that its header tells; 0 of any other file.

    So it is where the header was never completed, or the sound is longer than the header can tell.

    Args:
        file: open, at any place; it is left at another.
        size: its bytes.
    """
    file.seek(0)
    head = file.read(_RIFF_HEADER)
    if not head.startswith((b"RIFF", b"RIFX")) or head[8:] != b"WAVE":
        return 0
    order: Literal["little", "big"] = "little" if head.startswith(b"RIFF") else "big"
    place, end = _RIFF_HEADER, 0
    while place < size:
        file.seek(place)
        chunk = file.read(_CHUNK_HEADER)
        if end and not re.fullmatch(rb"[ -~]{4}.{4}", chunk, re.DOTALL):
            break
        length = int.from_bytes(chunk[4:], order)
        place += _CHUNK_HEADER + length + length % 2
        if chunk.startswith(b"data"):
            end = place
    rest = size - end
    if not end or place in (size, size + 1) or rest <= max(_TRAILER * size, 2048):
        return 0
    file.seek(end)
    is_padding = rest <= _MOST_PADDING and not file.read(rest).strip(b"\0")
    return 0 if is_padding else rest


def missing_bytes(file: BinaryIO, size: int) -> int:
    """How many bytes an Ogg, Matroska (WebM) or CAF file lacks at least by its own structure; 0 of any other file.

    Args:
        file: open, at any place; it is left at another.
        size: its bytes.
    """
    file.seek(0)
    head = file.read(4)
    if head == b"OggS":
        return _missing_of_ogg(file, size)
    if head == _CAF:
        return _missing_of_caf(file, size)
    return _missing_of_matroska(file, size) if head == _MATROSKA else 0


def _missing_of_caf(file: BinaryIO, size: int) -> int:
    """Of the last chunk (Apple Core Audio Format Specification 1.0); one of sound may tell no length, as -1."""
    place = 8
    while place < size:
        file.seek(place)
        chunk = file.read(12)
        length = int.from_bytes(chunk[4:], signed=True)
        if len(chunk) < 12 or length < 0:  # what fills up the last chunk; or it tells no length
            return 0
        place += 12 + length
    return place - size


def _missing_of_ogg(file: BinaryIO, size: int) -> int:
    """Of the last page (RFC 3533, section 6), or of the one after it, on which its last packet goes on.

    That no page is marked as the stream's last is no proof: recorders that were stopped and broadcasts leave the
    mark out, and of a thousand downloads that break off hardly one does so between two pages.
    """
    file.seek(max(size - _OGG_PAGE, 0))
    tail = file.read(_OGG_PAGE)
    page = tail[max(tail.rfind(b"OggS\0"), 0) :]
    if not page.startswith(b"OggS"):
        return 0  # something else stands after the last page
    segments = sum(page[26:27])
    table = page[27 : 27 + segments]
    length = 27 + segments + sum(table)
    rest = page[length:]
    if rest and b"OggS".startswith(rest):
        return 27 - len(rest)
    goes_on = table.endswith(b"\xff") and not page[5] & _OGG_END_OF_STREAM
    return max(length - len(page), int(goes_on))


def _missing_of_matroska(file: BinaryIO, size: int) -> int:
    """Of the last element (RFC 8794): the segment, which is everything, or one in it where it tells no length.

    Of a file that was written into a pipe neither the segment nor, perhaps, its clusters tell theirs.
    """
    place = 0
    while place < size:
        file.seek(place)
        head = file.read(12)
        width = 9 - head[0].bit_length()  # of the identifier
        length = 9 - head[width].bit_length() if width < len(head) else 1
        if width > 4 or length > 8:
            return 0  # no element: something else stands after the last
        place += width + length
        content = int.from_bytes(head[width : width + length]) & (1 << 7 * length) - 1
        if place > size or content == (1 << 7 * length) - 1:
            continue  # it tells no length: on to the first element in it
        place += content
        if head.startswith(_MATROSKA_SEGMENT):
            break
    return max(place - size, 0)


def counts_frames(file: BinaryIO) -> bool:
    """Whether an MP3 file tells at its beginning how many frames it has.

    Args:
        file: open, at any place; it is left at another.
    """
    file.seek(0)
    head = file.read(10)
    tag = 0
    if head.startswith(b"ID3") and len(head) == 10:
        tag = 10 + sum(byte << shift for byte, shift in zip(head[6:], (21, 14, 7, 0), strict=True))
    file.seek(tag)
    return _XING.search(file.read(4096)) is not None
