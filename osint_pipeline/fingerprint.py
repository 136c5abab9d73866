"""Perceptual hashes of pictures, made in a child process that a hostile picture may kill without harm to the crawl."""

import io
import os
import resource
import select
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO, cast

import imagehash
import numpy
from numpy.typing import NDArray
from PIL import Image, ImageOps

ALGORITHM = "phash"
VERSION = "imagehash-4.3/phash-8/prep-1"
DRAFT = (512, 512)  # JPEG decodes straight to about this: 2.8x at 1200x800, 5.9x at 12 megapixels, 0-2 bits off
FLAT_BITS = 4  # a hash with at most this many bits set or unset tells of no picture: flat images all collide
TRANSPOSES = (
    None,
    Image.Transpose.FLIP_LEFT_RIGHT,
    Image.Transpose.FLIP_TOP_BOTTOM,
    Image.Transpose.ROTATE_90,
    Image.Transpose.ROTATE_180,
    Image.Transpose.ROTATE_270,
    Image.Transpose.TRANSPOSE,
    Image.Transpose.TRANSVERSE,
)
EXPECTED = (  # what Pillow raises on hostile pictures; anything else ends the child, which is an answer too
    OSError,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
    ValueError,
    SyntaxError,
    EOFError,
    struct.error,
    OverflowError,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hashed:
    """A picture's hash as a signed 64-bit number (a BIGINT); width and height as stored, before any EXIF turn."""

    hash: int
    width: int
    height: int
    algorithm: str = ALGORITHM
    version: str = VERSION


@dataclass(frozen=True, slots=True, kw_only=True)
class NotHashed:
    """Why a picture has no hash: "flat", "too large: WxH", "timeout", "killed", or what the decoder said."""

    why: str


def phash(body: bytes, *, limit_pixels: int) -> Hashed | NotHashed:
    """Hash a picture in this process. Its size is checked before it is decoded; a failure is an answer, not an error."""
    prepared = _prepared(body, limit_pixels)
    if isinstance(prepared, NotHashed):
        return prepared
    picture, size = prepared
    value = _value(picture)
    if not FLAT_BITS < value.bit_count() < 64 - FLAT_BITS:
        return NotHashed(why="flat")
    return Hashed(hash=signed(value), width=size[0], height=size[1])


def variants(body: bytes, *, limit_pixels: int) -> tuple[int, ...]:
    """Hash the eight turns and mirrors of a picture, the first being itself; none where it cannot be hashed.

    For the asking side only: one stored hash is then found by a flipped or rotated copy.
    """
    prepared = _prepared(body, limit_pixels)
    if isinstance(prepared, NotHashed):
        return ()
    picture, _ = prepared
    turned = (picture if how is None else picture.transpose(how) for how in TRANSPOSES)
    return tuple(signed(_value(one)) for one in turned)


def signed(value: int) -> int:
    """Fold an unsigned 64-bit number into a BIGINT."""
    return value - (1 << 64) if value >> 63 else value


def neighbours(
    hash: int | numpy.uint64, hashes: NDArray[numpy.uint64], radius: int
) -> tuple[NDArray[numpy.intp], NDArray[numpy.uint8]]:
    """Find all hashes that differ in at most `radius` bits: their places in the array and their distances.

    `hash` may be signed or unsigned. A scan: 10 million hashes take tens of milliseconds.
    """
    distances = numpy.bitwise_count(hashes ^ numpy.uint64(int(hash) & 0xFFFFFFFFFFFFFFFF))
    places = numpy.flatnonzero(distances <= radius)
    return places, distances[places]


def _value(picture: Image.Image) -> int:
    bits = imagehash.phash(picture).hash.flatten()
    return int.from_bytes(numpy.packbits(bits).tobytes(), "big")


def _prepared(body: bytes, limit_pixels: int) -> tuple[Image.Image, tuple[int, int]] | NotHashed:
    try:
        with Image.open(io.BytesIO(body)) as picture:
            size = picture.size
            if size[0] * size[1] > limit_pixels:
                return NotHashed(why=f"too large: {size[0]}x{size[1]}")
            picture.draft("L", DRAFT)
            return _grey(ImageOps.exif_transpose(picture)), size
    except EXPECTED as error:
        return NotHashed(why=f"{type(error).__name__}: {error}"[:200])
    except MemoryError:
        return NotHashed(why="memory")


def _grey(picture: Image.Image) -> Image.Image:
    """Make 8-bit grey: 16 bits scaled (else clipped: 31 bits off), transparency on white."""
    if picture.mode.startswith("I;16"):
        deep = numpy.asarray(picture).astype(numpy.uint16)
        return Image.fromarray((deep >> 8).astype(numpy.uint8))
    if picture.mode in ("I", "F"):
        return _scaled(picture)
    if picture.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        return Image.alpha_composite(white, picture).convert("L")
    return picture.convert("L")


def _scaled(picture: Image.Image) -> Image.Image:
    wide = numpy.asarray(picture).astype(numpy.float64)
    if not numpy.isfinite(wide).all():
        raise ValueError("the picture holds numbers that are none")
    top = wide.max(initial=0)
    scale = 1 / 257 if 255 < top <= 65535 and picture.mode == "I" else (255 / top if top > 255 or 0 < top <= 1 else 1)
    return Image.fromarray(numpy.clip(wide * scale, 0, 255).astype(numpy.uint8))


HEAD = struct.Struct(">BQ")  # what is asked (0 hash, 1 variants), bytes that follow
SIZE = struct.Struct(">Q")
CHILD = "from osint_pipeline.fingerprint import serve; serve()"


class Fingerprints:
    """Hashes pictures in a child process with bounded memory and time; a child that dies is replaced.

    Started at the first picture. One picture at a time; safe to call from any thread.
    """

    def __init__(
        self, *, limit_pixels: int = 64_000_000, memory_bytes: int = 2 << 30, seconds_per_picture: float = 20.0
    ) -> None:
        self.limit_pixels, self.memory_bytes, self.seconds = limit_pixels, memory_bytes, seconds_per_picture
        self._child: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    def hash(self, body: bytes) -> Hashed | NotHashed:
        """Hash a picture. What cannot be hashed is answered with the reason."""
        answer = self._ask(0, body)
        if isinstance(answer, NotHashed):
            return answer
        kind, _, rest = answer.partition(b" ")
        if kind == b"why":
            return NotHashed(why=rest.decode())
        value, width, height = (int(part) for part in rest.split())
        return Hashed(hash=value, width=width, height=height)

    def variants(self, body: bytes) -> tuple[int, ...]:
        """Hash the eight turns and mirrors of a picture; none where it cannot be hashed."""
        answer = self._ask(1, body)
        if isinstance(answer, NotHashed):
            return ()
        return tuple(int(part) for part in answer.split())

    def close(self) -> None:
        """End the child. May be called twice; a later hash starts another."""
        with self._lock:
            self._end()

    def __enter__(self) -> "Fingerprints":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ask(self, what: int, body: bytes) -> bytes | NotHashed:
        with self._lock:
            if self._child is None or self._child.poll() is not None:
                self._end()
                self._child = self._start()
            try:
                return self._talk(self._child, what, body)
            except (EOFError, BrokenPipeError, TimeoutError) as error:
                self._end()
                return NotHashed(why="timeout" if isinstance(error, TimeoutError) else "killed")

    def _start(self) -> subprocess.Popen[bytes]:
        arguments = [str(self.limit_pixels), str(self.memory_bytes), str(round(self.seconds) + 2)]
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        os.set_blocking(_pipe(child.stdin).fileno(), False)
        return child

    def _talk(self, child: subprocess.Popen[bytes], what: int, body: bytes) -> bytes:
        deadline = time.monotonic() + self.seconds
        _write(_pipe(child.stdin).fileno(), HEAD.pack(what, len(body)), deadline)
        _write(_pipe(child.stdin).fileno(), body, deadline)
        out = _pipe(child.stdout).fileno()
        (size,) = SIZE.unpack(_read(out, SIZE.size, deadline))
        return _read(out, size, deadline)

    def _end(self) -> None:
        if self._child is None:
            return
        self._child.kill()
        self._child.wait()
        _pipe(self._child.stdin).close()
        _pipe(self._child.stdout).close()
        self._child = None


def _pipe(one: Any) -> BinaryIO:
    return cast(BinaryIO, one)


def _wait(readers: list[int], writers: list[int], deadline: float) -> None:
    left = deadline - time.monotonic()
    if left <= 0 or not any(select.select(readers, writers, [], left)):
        raise TimeoutError


def _write(pipe: int, data: bytes, deadline: float) -> None:
    view = memoryview(data)
    while view:
        _wait([], [pipe], deadline)
        view = view[os.write(pipe, view[: 1 << 16]) :]


def _read(pipe: int, size: int, deadline: float) -> bytes:
    parts, left = [], size
    while left:
        _wait([pipe], [], deadline)
        part = os.read(pipe, left)
        if not part:
            raise EOFError
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


def serve() -> None:
    """Answer pictures on standard input until it ends: the child's side of Fingerprints."""
    limit_pixels, memory_bytes, seconds = (int(one) for one in sys.argv[1:4])
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    Image.MAX_IMAGE_PIXELS = None  # our own limit is checked before decoding
    jobs: tuple[Callable[[bytes], bytes], ...] = (
        lambda body: _told(phash(body, limit_pixels=limit_pixels)),
        lambda body: b" ".join(b"%d" % one for one in variants(body, limit_pixels=limit_pixels)),
    )
    while head := sys.stdin.buffer.read(HEAD.size):
        what, size = HEAD.unpack(head)
        signal.alarm(seconds)  # ends this process where the parent is no longer there to do so
        told = jobs[what](sys.stdin.buffer.read(size))
        signal.alarm(0)
        sys.stdout.buffer.write(SIZE.pack(len(told)) + told)
        sys.stdout.buffer.flush()


def _told(found: Hashed | NotHashed) -> bytes:
    if isinstance(found, NotHashed):
        return b"why " + found.why.encode(errors="replace")
    return b"hash %d %d %d" % (found.hash, found.width, found.height)
