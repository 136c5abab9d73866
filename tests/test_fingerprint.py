"""Pictures are hashed as measured, near ones are found, and a hostile one harms nothing."""

import io
import os
import struct
import threading
import time
import zlib
from pathlib import Path

import imagehash
import numpy
import pytest
from PIL import Image, ImageOps

from osint_pipeline.fingerprint import (
    VERSION,
    Fingerprints,
    Hashed,
    NotHashed,
    neighbours,
    phash,
    signed,
    variants,
)
from osint_pipeline.samples import pictures

LIMIT = 64_000_000
PHOTO = pictures.photo(1)


def corpus(*parts):
    """Give a folder of the shared corpora, or skip."""
    root = os.environ.get("OSINT_CORPORA")
    if not root:
        pytest.skip("OSINT_CORPORA names no folder of corpora")
    return Path(root).joinpath(*parts)


def saved(picture, form="PNG", **options):
    out = io.BytesIO()
    picture.save(out, form, **options)
    return out.getvalue()


def distance(one, two):
    return ((one ^ two) & 0xFFFFFFFFFFFFFFFF).bit_count()


def value(body):
    found = phash(body, limit_pixels=LIMIT)
    assert isinstance(found, Hashed), found
    return found.hash


@pytest.fixture(scope="module")
def hasher():
    with Fingerprints(limit_pixels=LIMIT) as child:
        yield child


def test_hash_is_imagehash_s_own_as_a_signed_number():
    for seed in range(6):
        body = saved(pictures.scene(seed).convert("L"))
        told = phash(body, limit_pixels=LIMIT)
        assert told.hash == signed(int(str(imagehash.phash(Image.open(io.BytesIO(body)))), 16))
        assert -(1 << 63) <= told.hash < 1 << 63
        assert (told.width, told.height, told.algorithm, told.version) == (640, 480, "phash", VERSION)


def test_draft_decoding_stays_within_two_bits():
    for seed in range(4):
        large = pictures.jpeg(pictures.scene(seed, (2400, 1800)), 85)
        assert distance(value(large), signed(int(str(imagehash.phash(Image.open(io.BytesIO(large)))), 16))) <= 2


def test_recompressed_is_near_and_another_is_far():
    for seed in (3, 8, 21):
        assert distance(value(pictures.photo(seed)), value(pictures.recompressed(seed))) <= 6
    assert distance(value(pictures.photo(3)), value(pictures.photo(8))) > 10


def test_exif_turn_is_undone():
    picture = pictures.scene(1)
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = saved(picture.transpose(Image.Transpose.ROTATE_90), "JPEG", quality=90, exif=exif)
    assert distance(value(turned), value(PHOTO)) <= 2


def test_sixteen_bits_are_scaled():
    grey = pictures.scene(1).convert("L")
    deep = Image.fromarray(numpy.asarray(grey).astype(numpy.uint16) * 257)
    assert distance(value(saved(deep)), value(saved(grey))) <= 1


def test_transparency_is_seen_on_white():
    picture = pictures.scene(1).convert("RGBA")
    hole = Image.new("L", picture.size, 255)
    hole.paste(0, (0, 0, 200, 200))
    clear = picture.copy()
    clear.putalpha(hole)
    white = picture.copy()
    white.paste((255, 255, 255, 255), (0, 0, 200, 200))
    assert value(saved(clear)) == value(saved(white))


@pytest.mark.parametrize("colour", [0, 128, 255])
def test_flat_pictures_have_no_hash(colour):
    assert phash(saved(Image.new("RGB", (300, 200), (colour,) * 3)), limit_pixels=LIMIT) == NotHashed(why="flat")


def test_too_many_pixels_are_refused_before_decoding(hasher):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    side = 60_000
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    bomb += chunk(b"IDAT", zlib.compress(bytes(1 << 20))) + chunk(b"IEND", b"")
    assert hasher.hash(bomb) == NotHashed(why=f"too large: {side}x{side}")
    assert phash(PHOTO, limit_pixels=1000) == NotHashed(why="too large: 640x480")


def test_what_is_no_picture_says_so():
    for body in (b"", b"<html></html>", PHOTO[:500]):
        found = phash(body, limit_pixels=LIMIT)
        assert isinstance(found, NotHashed) and found.why


def test_child_answers_as_this_process_does(hasher):
    assert hasher.hash(PHOTO) == phash(PHOTO, limit_pixels=LIMIT)
    assert hasher.variants(PHOTO) == variants(PHOTO, limit_pixels=LIMIT)
    assert hasher.variants(b"no picture") == ()


def test_dead_child_is_replaced():
    with Fingerprints(limit_pixels=LIMIT) as own:
        first = own.hash(PHOTO)
        os.kill(own._child.pid, 9)
        own._child.wait()
        assert own.hash(PHOTO) == first


def test_memory_limit_holds_and_the_next_picture_is_hashed():
    wide = saved(Image.effect_noise((7000, 6000), 90).convert("RGBA"), "TIFF")
    with Fingerprints(limit_pixels=LIMIT, memory_bytes=700 << 20) as own:
        found = own.hash(wide)
        assert isinstance(found, NotHashed) and found.why in ("memory", "killed"), found
        assert isinstance(own.hash(PHOTO), Hashed)


def test_slow_picture_is_given_up():
    slow = saved(Image.effect_noise((5000, 4000), 90).convert("RGB"), "WEBP", method=0)
    with Fingerprints(limit_pixels=LIMIT, seconds_per_picture=30) as own:
        own.hash(PHOTO)
        own.seconds = 0.05
        begun = time.monotonic()
        assert own.hash(slow) == NotHashed(why="timeout")
        assert time.monotonic() - begun < 5
        own.seconds = 30
        assert isinstance(own.hash(PHOTO), Hashed)


def test_many_threads_share_one_child(hasher):
    wanted = {seed: phash(pictures.photo(seed), limit_pixels=LIMIT) for seed in range(6)}
    got = {}
    threads = [
        threading.Thread(target=lambda seed=seed: got.update({seed: hasher.hash(pictures.photo(seed))}))
        for seed in wanted
    ]
    for one in threads:
        one.start()
    for one in threads:
        one.join(60)
    assert got == wanted


def test_close_ends_the_child():
    own = Fingerprints(limit_pixels=LIMIT)
    own.close()
    own.hash(PHOTO)
    child = own._child
    own.close()
    own.close()
    assert child.returncode is not None


def test_neighbours_are_exactly_those_within_the_radius():
    generator = numpy.random.default_rng(1)
    hashes = generator.integers(0, 1 << 64, 50_000, dtype=numpy.uint64)
    wanted = int(hashes[7])
    for place, bits in ((10, 1), (20, 3), (30, 10), (40, 11)):
        hashes[place] = wanted ^ ((1 << bits) - 1) << 50 & (1 << 64) - 1
    places, distances = neighbours(signed(wanted), hashes, 10)
    assert dict(zip(places.tolist(), distances.tolist(), strict=True)) == {7: 0, 10: 1, 20: 3, 30: 10}
    assert len(neighbours(numpy.uint64(wanted), numpy.empty(0, numpy.uint64), 10)[0]) == 0


def test_a_turned_or_mirrored_copy_is_found_by_a_variant():
    stored = value(PHOTO)
    for how in Image.Transpose:
        copy = pictures.jpeg(pictures.scene(1).transpose(how))
        assert distance(stored, value(copy)) > 10
        assert min(distance(stored, one) for one in variants(copy, limit_pixels=LIMIT)) <= 4
    mirrored = pictures.jpeg(ImageOps.mirror(pictures.scene(2)))
    assert min(distance(stored, one) for one in variants(mirrored, limit_pixels=LIMIT)) > 10


def test_corpus_modified_pictures_are_found():
    folder = corpus("images", "pdq", "pdq", "data")
    original = value((folder / "bridge-mods" / "aaa-orig.jpg").read_bytes())
    modified = {path.name: distance(original, value(path.read_bytes())) for path in folder.glob("bridge-mods/*.jpg")}
    assert len(modified) > 8 and max(modified.values()) <= 10, modified
    turned = list(folder.glob("reg-test-input/dih/*.jpg"))
    base = value((folder / "reg-test-input/dih/bridge-1-original.jpg").read_bytes())
    found = {
        path.name: min(distance(base, one) for one in variants(path.read_bytes(), limit_pixels=LIMIT))
        for path in turned
    }
    assert len(found) == 8 and max(found.values()) <= 10, found


def test_corpus_of_hostile_pictures_never_stops_the_hashing():
    files = [
        path for name in ("pillow-images", "pngsuite") for path in corpus("hostile", name).rglob("*") if path.is_file()
    ]
    assert len(files) > 100
    killed, hashed = [], 0
    with Fingerprints(limit_pixels=LIMIT, seconds_per_picture=5) as own:
        for path in files:
            found = own.hash(path.read_bytes())
            hashed += isinstance(found, Hashed)
            if isinstance(found, NotHashed) and found.why in ("killed", "timeout"):
                killed.append(path.name)
        assert isinstance(own.hash(PHOTO), Hashed)
    assert hashed > len(files) // 2
    assert len(killed) < 15, killed
