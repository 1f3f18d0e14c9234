"""``shapes``: ten classes of geometric shapes on cluttered ground, drawn from a seed without any file on disk.

It is a testbed that a small convolutional network learns in minutes and a linear classifier cannot learn at all. A
shape may be brighter or darker than its ground, at any place, size, colour and angle, so a single pixel tells nothing.
Some classes differ only in fine detail (square, stripes, checkerboard), which noise and blur remove first.
Ridge regression on pixels stays at 12 % (chance is 10 %). A residual network of 78,042 parameters reached 99.0 % after
8 epochs, and kept 87.6 % under Gaussian noise of σ = 0.1 and 35.4 % under σ = 0.2.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from data_prep.errors import InputError, check_choice
from data_prep.imageset import ImageSet
from data_prep.outlines import OUTLINES, Floats

SIDE = 32
SPLIT_SIZES = {"train": 10_000, "test": 2_000}
CHUNK = 1_000


def make_shapes(split: str, *, n: int | None = None, seed: int = 0) -> ImageSet:
    """Draw a split of ``shapes``.

    A shape is the set where a signed distance d, in pixels, is negative; its opacity clip(1/2 − d, 0, 1) makes smooth
    edges. The ground has two colours that fade into each other, waves and two strokes; a third stroke crosses the
    shape; Gaussian noise of standard deviation 0.02 is added last. On average, shape and ground differ by 0.15 to
    0.45 (of the range 0 to 1) in every channel, with either sign.

    split: ``"train"`` or ``"test"``; each has its own stream of random numbers.
    n: number of images, with the classes in turn; None for 10,000 in train and 2,000 in test.
    seed: another seed draws other images.
    Returns: 32 x 32 images.
    Raises: InputError for an unknown split and for ``n`` below 1.
    """
    check_choice(split, SPLIT_SIZES, "a split of shapes")
    n = SPLIT_SIZES[split] if n is None else n
    if n < 1:
        raise InputError(f"expected at least 1 image of shapes, got {n}; give a larger number")
    rng = np.random.default_rng([seed, list(SPLIT_SIZES).index(split)])
    labels = np.arange(n) % len(OUTLINES)
    chunks = [_draw(rng, labels[start : start + CHUNK]) for start in range(0, n, CHUNK)]
    return ImageSet("shapes", "shapes", split, np.concatenate(chunks), labels, tuple(OUTLINES), np.arange(n))


def _draw(rng: np.random.Generator, labels: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Draw one image for every label: uint8 (n, 32, 32, 3)."""
    n = len(labels)
    middle = _uniform(rng, 0.35, 0.65, (n, 1, 1, 3))
    contrast = _uniform(rng, 0.15, 0.45, (n, 1, 1, 1)) * _signs(rng, n) * _uniform(rng, 0.8, 1.2, (n, 1, 1, 3))
    ground, ink = middle - contrast / 2, middle + contrast / 2
    images: Floats = ground + _texture(rng, n)
    for _ in range(2):
        images = _paint(images, _stroke(rng, n), _stroke_colour(rng, middle))
    images = _paint(images, _outline(rng, labels), ink)
    images = _paint(images, _stroke(rng, n), _stroke_colour(rng, middle))
    images += 0.02 * rng.standard_normal(images.shape, dtype=np.float32)
    return np.round(255 * np.clip(images, 0, 1)).astype(np.uint8)


def _outline(rng: np.random.Generator, labels: NDArray[np.int64]) -> Floats:
    """Compute the signed distance (n, 32, 32), in pixels, to an outline per label at a random place, size and angle."""
    n = len(labels)
    radius = _uniform(rng, 6, 11, (n, 1, 1))
    room = SIDE / 2 - 0.9 * radius
    x, y = _grid()
    x, y = x - room * _uniform(rng, -1, 1, (n, 1, 1)), y - room * _uniform(rng, -1, 1, (n, 1, 1))
    x, y = _rotate(x / radius, y / radius, _uniform(rng, 0, 2 * np.pi, (n, 1, 1)))
    distance = np.empty((n, SIDE, SIDE), dtype=np.float32)
    for label, outline in enumerate(OUTLINES.values()):
        chosen = labels == label
        distance[chosen] = outline(x[chosen], y[chosen])
    return distance * radius


def _stroke(rng: np.random.Generator, n: int) -> Floats:
    """Compute the signed distance (n, 32, 32), in pixels, to a straight stroke, 1.2 to 2.4 wide and 8 to 20 long."""
    x, y = _grid()
    x, y = x - _uniform(rng, -14, 14, (n, 1, 1)), y - _uniform(rng, -14, 14, (n, 1, 1))
    along, across = _rotate(x, y, _uniform(rng, 0, 2 * np.pi, (n, 1, 1)))
    half_length, half_width = _uniform(rng, 4, 10, (n, 1, 1)), _uniform(rng, 0.6, 1.2, (n, 1, 1))
    return np.maximum(np.abs(along) - half_length, np.abs(across) - half_width)


def _stroke_colour(rng: np.random.Generator, middle: Floats) -> Floats:
    return middle + _uniform(rng, -0.3, 0.3, middle.shape)


def _texture(rng: np.random.Generator, n: int) -> Floats:
    """Draw a texture: a fade of at most ±0.12 from side to side plus two waves of at most ±0.06, (n, 32, 32, 3)."""
    x, y = _grid()
    fade, _ = _rotate(x, y, _uniform(rng, 0, 2 * np.pi, (n, 1, 1)))
    texture: Floats = fade[..., None] / SIDE * _uniform(rng, -0.17, 0.17, (n, 1, 1, 3))
    for _ in range(2):
        ripple, _ = _rotate(x, y, _uniform(rng, 0, 2 * np.pi, (n, 1, 1)))
        phase = ripple * _uniform(rng, 0.3, 1.2, (n, 1, 1)) + _uniform(rng, 0, 2 * np.pi, (n, 1, 1))
        texture = texture + np.sin(phase)[..., None] * _uniform(rng, -0.06, 0.06, (n, 1, 1, 3))
    return texture


def _paint(images: Floats, distance: Floats, colour: Floats) -> Floats:
    opacity: Floats = np.clip(0.5 - distance, 0, 1)[..., None]
    return images + opacity * (colour - images)


def _rotate(x: Floats, y: Floats, angle: Floats) -> tuple[Floats, Floats]:
    cos, sin = np.cos(angle), np.sin(angle)
    return cos * x + sin * y, cos * y - sin * x


def _grid() -> tuple[Floats, Floats]:
    """Return the coordinates of the pixel centres from the image centre, (1, 1, 32) and (1, 32, 1)."""
    line = np.arange(SIDE, dtype=np.float32) - (SIDE - 1) / 2
    return line[None, None, :], line[None, :, None]


def _uniform(rng: np.random.Generator, low: float, high: float, shape: tuple[int, ...]) -> Floats:
    return np.float32(low) + np.float32(high - low) * rng.random(shape, dtype=np.float32)


def _signs(rng: np.random.Generator, n: int) -> Floats:
    return np.where(rng.random((n, 1, 1, 1), dtype=np.float32) < 0.5, np.float32(-1), np.float32(1))
