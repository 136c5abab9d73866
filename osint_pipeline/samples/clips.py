"""Tiny valid media files made by hand: a progressive MP4 of JPEG frames (ISO 14496-12, -14) and an Ogg Opus voice."""

import struct
from functools import lru_cache

from osint_pipeline.samples import pictures

FRAMES_PER_SECOND = 5
MATRIX = struct.pack(">9I", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)


def _box(kind: bytes, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return struct.pack(">I4s", 8 + len(body), kind) + body


def _full(kind: bytes, *parts: bytes, flags: int = 0) -> bytes:
    return _box(kind, struct.pack(">I", flags), *parts)


@lru_cache(maxsize=64)
def mp4(seed: int, frames: int = 10, size: tuple[int, int] = (320, 240)) -> bytes:
    """Make a film of `frames` JPEG frames, moov before mdat so that it plays while it loads."""
    samples = [pictures.jpeg(pictures.scene(seed * 1000 + number, size), 80) for number in range(frames)]
    head = _box(b"ftyp", b"isom", struct.pack(">I", 0x200), b"isomiso2mp41")
    offset = len(head) + len(_movie(samples, size, 0)) + 8
    return head + _movie(samples, size, offset) + _box(b"mdat", *samples)


def _movie(samples: list[bytes], size: tuple[int, int], offset: int) -> bytes:
    duration = len(samples)
    header = struct.pack(">IIIIIHH8x", 0, 0, FRAMES_PER_SECOND, duration, 0x10000, 0x100, 0)
    movie = _full(b"mvhd", header, MATRIX, bytes(24), struct.pack(">I", 2))
    shape = struct.pack(">II", size[0] << 16, size[1] << 16)
    track = _full(b"tkhd", struct.pack(">IIIII8xHHHH", 0, 0, 1, 0, duration, 0, 0, 0, 0), MATRIX, shape, flags=3)
    media = _box(
        b"mdia",
        _full(b"mdhd", struct.pack(">IIIIHH", 0, 0, FRAMES_PER_SECOND, duration, 0x55C4, 0)),
        _full(b"hdlr", struct.pack(">I4s12x", 0, b"vide"), b"sample\0"),
        _information(samples, size, offset),
    )
    return _box(b"moov", movie, _box(b"trak", track, media))


def _information(samples: list[bytes], size: tuple[int, int], offset: int) -> bytes:
    count = len(samples)
    table = _box(
        b"stbl",
        _full(b"stsd", struct.pack(">I", 1), _entry(size)),
        _full(b"stts", struct.pack(">III", 1, count, 1)),
        _full(b"stsc", struct.pack(">IIII", 1, 1, count, 1)),
        _full(b"stsz", struct.pack(">II", 0, count), *(struct.pack(">I", len(one)) for one in samples)),
        _full(b"stco", struct.pack(">II", 1, offset)),
    )
    data = _box(b"dinf", _full(b"dref", struct.pack(">I", 1), _full(b"url ", flags=1)))
    return _box(b"minf", _full(b"vmhd", bytes(8), flags=1), data, table)


def _entry(size: tuple[int, int]) -> bytes:
    decoder = struct.pack(">BB", 0x6C, 0x11) + bytes(11)  # object type 0x6C is JPEG (ISO 10918-1), a visual stream
    described = b"\x04" + bytes([len(decoder)]) + decoder + b"\x06\x01\x02"
    stream = b"\x03" + bytes([3 + len(described)]) + struct.pack(">HB", 1, 0) + described
    shape = struct.pack(">6xH16xHHIIIH32xHh", 1, *size, 0x480000, 0x480000, 0, 1, 24, -1)
    return _box(b"mp4v", shape, _full(b"esds", stream))


def _crc_table() -> tuple[int, ...]:
    table = []
    for number in range(256):
        value = number << 24
        for _ in range(8):
            value = (value << 1 ^ (0x04C11DB7 if value & 0x80000000 else 0)) & 0xFFFFFFFF
        table.append(value)
    return tuple(table)


CRC = _crc_table()


def _page(packets: list[bytes], granule: int, number: int, flags: int) -> bytes:
    """Lay packets (each below 255 bytes) into an Ogg page (RFC 3533 6)."""
    lacing = bytes(len(packet) for packet in packets)
    blank = struct.pack("<4sBBqIII", b"OggS", 0, flags, granule, 0x0511, number, 0)
    page = blank + bytes([len(lacing)]) + lacing + b"".join(packets)
    check = 0
    for byte in page:
        check = (check << 8 & 0xFFFFFFFF) ^ CRC[check >> 24 ^ byte]
    return page[:22] + struct.pack("<I", check) + page[26:]


@lru_cache(maxsize=16)
def voice(seconds: int) -> bytes:
    """Make a voice message of silence: Opus in Ogg (RFC 7845), frames of 20 ms."""
    head = _page([b"OpusHead" + struct.pack("<BBHIhB", 1, 1, 312, 48000, 0, 0)], 0, 0, 2)
    tags = _page([b"OpusTags" + struct.pack("<I6sI", 6, b"sample", 0)], 0, 1, 0)
    pages = [_page([b"\xf8\xff\xfe"] * 50, 48000 * (number + 1), number + 2, 0) for number in range(seconds - 1)]
    last = _page([b"\xf8\xff\xfe"] * 50, 48000 * seconds, seconds + 1, 4)
    return head + tags + b"".join(pages) + last
