"""The independent reference for the corruptions of C-bar: the steps of their generator, one image at a time.

Written from what the generator does (``imagenet_c_bar/corrupt.py`` of facebookresearch/augmentation-corruption), with
NumPy, SciPy and scikit-image in float64. All random numbers come from ``draws``: with the numbers of the code
under test both must give the same image, with others they must only move it as far.
"""

from __future__ import annotations

import itertools

import numpy as np
import torch
from scipy import ndimage

from data_prep.corruptions.random import Streams

CIFAR_LEVELS = {
    "blue_noise_sample": (0.7, 1.4, 2.1, 3.5, 4.2),
    "checkerboard_cutout": (1, 2, 3, 4, 5),
    "inverse_sparkles": (1, 1.5, 2.5, 4.5, 5),
    "pinch_and_twirl": (5.5, 6, 6.5, 8.5, 10),
    "ripple": (5.5, 6, 6.5, 7.5, 8),
    "brownish_noise": (2.5, 4, 5.5, 6.5, 7),
    "circular_motion_blur": (2.8, 3.6, 4.4, 5.2, 6),
    "lines": (0.5, 1, 1.5, 2, 2.5),
    "sparkles": (0.7, 3.5, 5.6, 6.3, 7),
    "transverse_chromatic_abberation": (1, 2, 5, 9, 10),
}
IMAGENET_LEVELS = {
    "caustic_refraction": (2.35, 3.2, 4.9, 6.6, 9.15),
    "inverse_sparkles": (1, 2, 4, 9, 10),
    "sparkles": (1, 2, 3, 5, 6),
    "perlin_noise": (4.6, 5.2, 5.8, 7.6, 8.8),
    "blue_noise_sample": (0.8, 1.6, 2.4, 4, 5.6),
    "plasma_noise": (4.75, 7, 8.5, 9.25, 10),
    "checkerboard_cutout": (2, 3, 4, 5, 6),
    "cocentric_sine_waves": (3, 5, 8, 9, 10),
    "single_frequency_greyscale": (1, 1.5, 2, 4.5, 5),
    "brownish_noise": (1, 2, 3, 4, 5),
}
LEVELS = {"cifar": CIFAR_LEVELS, "imagenet": IMAGENET_LEVELS}


class SameDraws:
    """The random numbers that the code under test draws for one image, in its order."""

    def __init__(self, key: str, index: int) -> None:
        self._streams = Streams(key, torch.tensor([index]))

    def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
        return low + (high - low) * float(self._streams.uniform(1, 1))

    def uniforms(self, *shape: int) -> np.ndarray:
        return self._streams.uniform(*shape)[0].numpy().astype(float)

    def integer(self, low: int, high: int) -> int:
        return int(self._streams.integers(1, 1, low=low, high=high))

    def integers(self, *shape: int, low: int, high: int) -> np.ndarray:
        return self._streams.integers(*shape, low=low, high=high)[0].numpy()

    def normals(self, count: int) -> np.ndarray:
        return self._streams.normal(count)[0].numpy().astype(float)

    def order(self, count: int) -> np.ndarray:
        return self._streams.bits(count)[0].numpy().argsort()


class OtherDraws:
    """Random numbers of NumPy."""

    def __init__(self, seed: int) -> None:
        self._random = np.random.default_rng(seed)

    def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
        return float(self._random.uniform(low, high))

    def uniforms(self, *shape: int) -> np.ndarray:
        return self._random.uniform(size=shape)

    def integer(self, low: int, high: int) -> int:
        return int(self._random.integers(low, high))

    def integers(self, *shape: int, low: int, high: int) -> np.ndarray:
        return self._random.integers(low, high, shape)

    def normals(self, count: int) -> np.ndarray:
        return self._random.normal(size=count)

    def order(self, count: int) -> np.ndarray:
        return self._random.permutation(count)


Draws = SameDraws | OtherDraws


def corrupt_like_c_bar(image: np.ndarray, name: str, profile: str, severity: int, draws: Draws) -> np.ndarray:
    """uint8 (S, S, 3) to the same, before any JPEG file."""
    level = LEVELS[profile][name][severity - 1]
    return np.clip(globals()[name](image.astype(float), level, draws), 0, 255).astype(np.uint8)


def single_frequency_greyscale(x: np.ndarray, level: float, draws: Draws) -> np.ndarray:
    rows, columns = np.indices(x.shape[:2])
    first = draws.uniform(-np.pi, np.pi)
    pair = [first, draws.uniform(-1, 1) * abs(first)]
    phase = draws.uniform(0, 2 * np.pi)
    across, down = pair[::-1] if draws.uniform() < 0.5 else pair
    return x + 196 * level / 10 * np.sin(columns * across + rows * down + phase)[..., None]


def cocentric_sine_waves(x: np.ndarray, level: float, draws: Draws) -> np.ndarray:
    side = len(x)
    rows, columns = np.indices(x.shape[:2])
    centre_column, centre_row = draws.uniform(0, side), draws.uniform(0, side)
    frequency, amplitude, ring = draws.uniform(0, 10), draws.uniform(0, side / 10), draws.uniform(0, side / 10)
    angle = np.arctan2(columns - centre_column, rows - centre_row) * frequency
    distance = np.sqrt((columns - centre_column) ** 2 + (rows - centre_row) ** 2) + np.sin(angle) * amplitude
    return x + 128 * level / 10 * ((distance % ring) / ring - 0.5)[..., None]


def plasma_noise(x: np.ndarray, level: float, draws: Draws) -> np.ndarray:
    rows, columns = np.indices(x.shape[:2]).astype(float)
    time, folds = draws.uniform(0, 6 * np.pi), draws.integer(4, 7)
    sharpness, scale = draws.uniform(0.5, 1), draws.uniform(0.075, 0.2) * len(x)
    a, b = columns / scale, rows / scale
    frequency = drift = damping = 1.0
    for _ in range(folds):
        shift = np.array([np.cos(b * frequency + time / drift), np.sin(a * frequency + time / drift)]) / damping
        a, b = a + shift[0] - 0.3 * shift[1], b + shift[1] + 0.3 * shift[0]
        frequency, drift, damping = frequency * 1.93, drift * 1.15, damping * (2.25 - sharpness)
    colours = np.stack([np.sin(a - time), np.sin((a + b + np.sin(time)) / 2), np.sin(b + time)], axis=-1)
    intensity = 64 * level / 10
    return (1 - intensity / 255) * x + intensity * colours


def perlin_noise(x: np.ndarray, level: float, draws: Draws) -> np.ndarray:
    side, alpha = len(x), level / 10 * 0.5
    table = draws.order(256)
    slopes = draws.integers(256, 2, low=-256, high=256) / 256.0
    slopes /= np.linalg.norm(slopes, axis=1, keepdims=True)
    table, slopes = np.tile(table, 3), np.tile(slopes, (3, 1))

    def noise(row: float, column: float) -> float:
        lattice = [int(row) % 256, int(column) % 256]
        inside = [row % 1, column % 1]
        dots = {}
        for a, b in itertools.product((0, 1), repeat=2):
            slope = slopes[table[table[lattice[0] + a] + lattice[1] + b]]
            dots[a, b] = slope[0] * (inside[0] - a) + slope[1] * (inside[1] - b)
        blend = [t * t * (3 - 2 * t) for t in inside]
        sides = [dots[0, b] + blend[0] * (dots[1, b] - dots[0, b]) for b in (0, 1)]
        return 1.5 * (sides[0] + blend[1] * (sides[1] - sides[0]))

    cell = 32 * side / 224
    cloud = [
        [sum(abs(noise(f * r / cell, f * c / cell)) / f for f in (1, 2, 4, 8, 16)) for c in range(side)]
        for r in range(side)
    ]
    return (1 - alpha) * x + 255 * alpha * np.clip(0.5 * np.array(cloud) + 0.5, 0, 1)[..., None]


def _coloured(power: np.ndarray, draws: Draws, channels: int) -> list[np.ndarray]:
    side = len(power)
    halves = 2 * np.pi * draws.uniforms(channels, side, side // 2)
    layers = []
    for half in halves:
        phases = np.concatenate((half, half[::-1, ::-1]), axis=1)
        wave = np.roll(power * np.exp(1j * phases), (side // 2, side // 2), axis=(0, 1))
        layer = np.fft.ifft2(wave).real
        layers.append(layer / layer.std())
    return layers


def _radii(side: int) -> np.ndarray:
    rows, columns = np.indices((side, side)) - side / 2
    return np.sqrt(rows**2 + columns**2)


def blue_noise_sample(x: np.ndarray, level: float, draws: Draws) -> np.ndarray:
    return x * (_coloured(_radii(len(x)), draws, 1)[0] > level / 10 * 3 - 2.5)[..., None]


def brownish_noise(x: np.ndarray, level: float, draws: Draws) -> np.ndarray:
    return x + 64 * level / 10 * np.stack(_coloured(1 / (_radii(len(x)) ** 2 + 1), draws, 3), axis=-1)


def _star(side: int, centre: tuple[float, float], lengths: np.ndarray, power: float) -> np.ndarray:
    glow = np.zeros((side, side))
    for row, column in itertools.product(range(side), repeat=2):
        down, right = row - centre[0], column - centre[1]
        place = (np.arctan2(right, down) + np.pi) / (2 * np.pi) * len(lengths)
        ray, between = int(place), place % 1
        here, following = lengths[ray % len(lengths)], lengths[(ray + 1) % len(lengths)]
        length = here + between * (following - here)
        bright = (length**2 / (down**2 + right**2 + 1e-4)) ** power
        glow[row, column] = np.clip(bright * (1 - (between - 0.5) ** 2), 0, 1)
    return glow[..., None]


def sparkles(x: np.ndarray, level: float, draws: Draws) -> np.ndarray:
    side, radius = len(x), level / 10 * 0.1 * len(x)
    for _ in range(5):
        centre = draws.uniform(0, side), draws.uniform(0, side)
        lengths = np.maximum(1, radius + 0.25 * radius * draws.normals(200))[: draws.integer(50, 200)]
        x = x + _star(side, centre, lengths, 1.0) * (255 - x)
    return x


def inverse_sparkles(x: np.ndarray, level: float, draws: Draws) -> np.ndarray:
    side, radius = len(x), 0.25 * len(x)
    centre = draws.uniform(0.25, 0.75) * side, draws.uniform(0.25, 0.75) * side
    lengths = (radius + 0.25 * radius * draws.normals(200))[: draws.integer(50, 200)]
    amount = 100 - level / 10 * 65
    return 255 + _star(side, centre, lengths, (100 - amount) / 50) * (x - 255)


def checkerboard_cutout(x: np.ndarray, level: float, draws: Draws) -> np.ndarray:
    side, angle = len(x), draws.uniform(0, 2 * np.pi)
    scale = max(1, draws.uniform(0.1, 0.25) * side)
    cut = draws.uniforms(64, 64) < level / 10
    result = x.copy()
    for row, column in itertools.product(range(side), repeat=2):
        a = (np.cos(angle) * row + np.sin(angle) * column) / scale
        b = (-np.sin(angle) * row + np.cos(angle) * column) / scale
        if int(a % 2) == int(b % 2) and cut[int(a), int(b)]:
            result[row, column] = 128
    return result


def lines(x: np.ndarray, level: float, draws: Draws) -> np.ndarray:
    from skimage.draw import line_aa

    side, mean, spread = len(x), draws.uniform(0, 2 * np.pi), draws.uniform(0.1, 1)
    for _ in range(int(level / 10 * side)):
        row, column = draws.uniform(0, side), draws.uniform(0, side)
        angle = mean + 2 * np.pi * spread * draws.uniform(-0.5, 0.5)
        down, right = side * np.cos(angle), side * np.sin(angle)
        ends = int(row - down), int(column - right), int(row + down), int(column + right)
        rows, columns, share = line_aa(*ends)
        inside = (rows >= 0) & (columns >= 0) & (rows < side) & (columns < side)
        rows, columns, share = rows[inside], columns[inside], share[inside, None]
        x = x.copy()
        x[rows, columns] = np.floor((1 - share) * x[rows, columns] + share * 128)
    return x


def _between(x: np.ndarray, row: float, column: float) -> np.ndarray:
    top, left = int(np.floor(row)), int(np.floor(column))
    value = np.zeros(x.shape[2])
    for r, c in itertools.product((top, top + 1), (left, left + 1)):
        if 0 <= r < len(x) and 0 <= c < len(x):
            value += x[r, c] * (1 - abs(row - r)) * (1 - abs(column - c))
    return value


def ripple(x: np.ndarray, level: float, draws: Draws) -> np.ndarray:
    side, amplitude = len(x), level / 10 * 0.025 * len(x)
    wavelengths = [draws.uniform(0.1, 0.3) * side for _ in range(2)]
    phases = [draws.uniform(0, 2 * np.pi) for _ in range(2)]

    def sway(place: int, axis: int) -> float:
        return place + amplitude * np.sin(2 * np.pi * place / wavelengths[axis] + phases[axis])

    return np.array([[_between(x, sway(r, 0), sway(c, 1)) for c in range(side)] for r in range(side)])


def pinch_and_twirl(x: np.ndarray, level: float, draws: Draws) -> np.ndarray:
    size = len(x) // 3
    signs, radius, amount = draws.uniforms(3, 3), size / 2, level / 10 * 0.4 + 0.1
    result = x.copy()
    for i, j in itertools.product(range(3), repeat=2):
        angle = (-1 if signs[i, j] < 0.5 else 1) * level / 10 * np.pi / 2
        for row, column in itertools.product(range(i * size, (i + 1) * size), range(j * size, (j + 1) * size)):
            centre = np.array([i * size + radius, j * size + radius])
            away = np.array([row, column]) - centre
            distance = np.linalg.norm(away)
            if distance > radius or round(distance, 3) == 0:
                continue
            share = distance / radius
            turn = angle * (1 - share) ** 2
            rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
            result[row, column] = _between(x, *(centre + rotation @ away * np.sin(np.pi / 2 * share) ** -amount))
    return result


def caustic_refraction(x: np.ndarray, level: float, draws: Draws) -> np.ndarray:
    side, time = len(x), draws.uniform(0.5, 2)
    size = draws.uniform(0.75, 1.25) * side
    water = np.zeros((side, side))
    for row, column in itertools.product(range(side), repeat=2):
        start = (np.array([row, column]) / size % 1) * 6.28318530718 - 250
        wave, light = start.copy(), 1.0
        for n in range(5):
            t = time * (1 - 3.5 / (n + 1))
            turned = [np.cos(t - wave[0]) + np.sin(t + wave[1]), np.sin(t - wave[1]) + np.cos(t + wave[0])]
            wave = start + np.array(turned)
            scaled = start * 0.005 / np.array([np.sin(wave[0] + t), np.cos(wave[1] + t)])
            light += 1 / np.linalg.norm(scaled)
        water[row, column] = np.clip(abs(1.17 - (light / 5) ** 1.4) ** 8, 0, 1)
    water = np.pad(ndimage.gaussian_filter(water, 1), 1)
    result = np.zeros_like(x)
    for row, column in itertools.product(range(side), repeat=2):
        down = water[row + 2, column + 1] - water[row, column + 1]
        right = water[row + 1, column + 2] - water[row + 1, column]
        normal = np.array([down, right, 1.0]) / np.linalg.norm([down, right, 1.0])
        ray = np.array([0.0, 0.0, 1.0])
        if normal[2] < 1 - 1e-3:
            inside = np.arcsin(np.sin(np.arccos(normal[2])) / 4)
            aside = np.cross(ray, normal)
            along = np.cross(normal, aside / np.linalg.norm(aside))
            ray = np.cos(inside) * normal + np.sin(inside) * along
        shift = np.round(ray * level / 10 * 0.5 * side, 3)
        seen = _between(x / 255, row + shift[0], column + shift[1]) + (down - right) * level / 10 * 2
        result[row, column] = np.clip(seen, 0, 1) * 255
    return result


def transverse_chromatic_abberation(x: np.ndarray, level: float, draws: Draws) -> np.ndarray:
    side, scale = len(x), level / 10 * 0.5
    order = draws.uniforms(3).argsort()
    result = x.copy()
    for channel in range(3):
        plane = x[..., channel].astype(np.uint8)
        enlarged = ndimage.zoom(plane, [1, 1 + scale / 2, 1 + scale][order[channel]], prefilter=False)
        edge = (len(enlarged) - side) // 2
        result[..., channel] = enlarged[edge : edge + side, edge : edge + side]
    return result


def circular_motion_blur(x: np.ndarray, level: float, draws: Draws) -> np.ndarray:
    shares = np.arange(21) / 10 - 1
    weights = np.exp(-2 * shares**2)
    turned = (ndimage.rotate(x, share * level / 10 * 15, reshape=False) for share in shares)
    return sum(weight * image for weight, image in zip(weights, turned, strict=True)) / weights.sum()
