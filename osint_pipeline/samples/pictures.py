"""Pictures that look like photographs to a perceptual hash, made from a seed: equal seed and size, equal bytes."""

import io
from functools import lru_cache
from random import Random

from PIL import Image, ImageChops, ImageDraw, ImageFilter

SIZE = (640, 480)


@lru_cache(maxsize=32)
def scene(seed: int, size: tuple[int, int] = SIZE) -> Image.Image:
    """Draw a scene: broad patches of light (what phash sees), a few shapes, and grain. Do not change the result."""
    random = Random(f"scene-{seed}")
    patches = Image.frombytes("RGB", (7, 6), random.randbytes(7 * 6 * 3))
    picture = patches.resize(size, Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(picture)
    for _ in range(9):
        _shape(draw, random, size)
    grain = Image.frombytes("L", (size[0] // 2, size[1] // 2), random.randbytes(size[0] // 2 * (size[1] // 2)))
    grain = grain.resize(size).point(lambda value: value // 14)
    picture = picture.filter(ImageFilter.GaussianBlur(1.2))
    return ImageChops.add(picture, Image.merge("RGB", (grain, grain, grain)))


def _shape(draw: ImageDraw.ImageDraw, random: Random, size: tuple[int, int]) -> None:
    width, height = size
    left, top = random.randrange(width), random.randrange(height)
    right, bottom = left + random.randrange(20, width // 5), top + random.randrange(20, height // 4)
    colour = tuple(random.randrange(256) for _ in range(3))
    form = random.choice((draw.ellipse, draw.rectangle, None))
    if form:
        form((left, top, right, bottom), fill=colour)
    else:
        draw.polygon([(left, bottom), ((left + right) // 2, top), (right, bottom)], fill=colour)


def jpeg(picture: Image.Image, quality: int = 88) -> bytes:
    """Encode as JPEG, without any metadata."""
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=quality)
    return out.getvalue()


@lru_cache(maxsize=512)
def photo(seed: int) -> bytes:
    """Make the JPEG of a scene as its first publisher has it."""
    return jpeg(scene(seed))


@lru_cache(maxsize=128)
def recompressed(seed: int, quality: int = 55, width: int = 480) -> bytes:
    """Make what another outlet shows of the same scene: smaller and of lower quality."""
    picture = scene(seed)
    height = round(picture.height * width / picture.width)
    return jpeg(picture.resize((width, height), Image.Resampling.LANCZOS), quality)


@lru_cache(maxsize=64)
def sticker(seed: int) -> bytes:
    """Make a small WebP with transparency."""
    random = Random(f"sticker-{seed}")
    picture = Image.new("RGBA", (160, 160), (0, 0, 0, 0))
    draw = ImageDraw.Draw(picture)
    draw.ellipse((10, 10, 150, 150), fill=(*random.randbytes(3), 255))
    for left in (50, 90):
        draw.ellipse((left, 50, left + 20, 70), fill=(20, 20, 20, 255))
    draw.arc((45, 60, 115, 120), 20, 160, fill=(20, 20, 20, 255), width=6)
    out = io.BytesIO()
    picture.save(out, "WEBP", lossless=True)
    return out.getvalue()
