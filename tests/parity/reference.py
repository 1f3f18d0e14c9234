"""The independent reference for the corruptions: the steps of the official generators, one image at a time.

Written from what the generators of CIFAR-10-C and ImageNet-C do (``make_cifar_c.py`` and ``make_imagenet_c.py`` of
hendrycks/robustness), with NumPy, SciPy, scikit-image, OpenCV and Pillow in float64, and with none of the code under
test. Randomness comes from one seeded generator. Motion blur is ImageMagick's, written out; ``test_corruptions.py``
compares it with ImageMagick itself where that is installed.
"""

from __future__ import annotations

import functools
import importlib.util
import io
import math
from pathlib import Path

import numpy as np
from PIL import Image

PACKAGE = "imagecorruptions"  # for its pictures of frost only
FROST_FILES = ("frost1.png", "frost2.png", "frost3.png", "frost4.jpg", "frost5.jpg")
STORED_QUALITY = {"cifar": None, "imagenet": 85}

CIFAR_PARAMETERS = {
    "gaussian_noise": [0.04, 0.06, 0.08, 0.09, 0.10],
    "shot_noise": [500, 250, 100, 75, 50],
    "impulse_noise": [0.01, 0.02, 0.03, 0.05, 0.07],
    "speckle_noise": [0.06, 0.1, 0.12, 0.16, 0.2],
    "gaussian_blur": [0.4, 0.6, 0.7, 0.8, 1],
    "glass_blur": [(0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2)],
    "defocus_blur": [(0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)],
    "motion_blur": [(6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5)],
    "zoom_blur": [(1.06, 0.01), (1.11, 0.01), (1.16, 0.01), (1.21, 0.01), (1.26, 0.01)],
    "fog": [(0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75)],
    "frost": [(1, 0.2, 0.2), (1, 0.3, 0.2), (0.9, 0.4, 0.2), (0.85, 0.4, 0.2), (0.75, 0.45, 0.2)],
    "snow": [
        (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
        (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
        (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
        (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
        (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
    ],
    "spatter": [
        (0.62, 0.1, 0.7, 0.7, 0.5, 0),
        (0.65, 0.1, 0.8, 0.7, 0.5, 0),
        (0.65, 0.3, 1, 0.69, 0.5, 0),
        (0.65, 0.1, 0.7, 0.69, 0.6, 1),
        (0.65, 0.1, 0.5, 0.68, 0.6, 1),
    ],
    "contrast": [0.75, 0.5, 0.4, 0.3, 0.15],
    "brightness": [0.05, 0.1, 0.15, 0.2, 0.3],
    "saturate": [(0.3, 0), (0.1, 0), (1.5, 0), (2, 0.1), (2.5, 0.2)],
    "jpeg_compression": [80, 65, 58, 50, 40],
    "pixelate": [0.95, 0.9, 0.85, 0.75, 0.65],
    "elastic_transform": [(0, 0, 2.56), (1.6, 6.4, 2.24), (2.56, 1.92, 1.92), (3.2, 1.28, 1.6), (3.2, 0.96, 0.96)],
}
IMAGENET_PARAMETERS = {
    "gaussian_noise": [0.08, 0.12, 0.18, 0.26, 0.38],
    "shot_noise": [60, 25, 12, 5, 3],
    "impulse_noise": [0.03, 0.06, 0.09, 0.17, 0.27],
    "speckle_noise": [0.15, 0.2, 0.35, 0.45, 0.6],
    "gaussian_blur": [1, 2, 3, 4, 6],
    "glass_blur": [(0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2)],
    "defocus_blur": [(3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5)],
    "motion_blur": [(10, 3), (15, 5), (15, 8), (15, 12), (20, 15)],
    "zoom_blur": [(1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03)],
    "fog": [(1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4)],
    "frost": [(1, 0.4, 1), (0.8, 0.6, 1), (0.7, 0.7, 1), (0.65, 0.7, 1), (0.6, 0.75, 1)],
    "snow": [
        (0.1, 0.3, 3, 0.5, 10, 4, 0.8),
        (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
        (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
        (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
        (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
    ],
    "spatter": [
        (0.65, 0.3, 4, 0.69, 0.6, 0),
        (0.65, 0.3, 3, 0.68, 0.6, 0),
        (0.65, 0.3, 2, 0.68, 0.5, 0),
        (0.65, 0.3, 1, 0.65, 1.5, 1),
        (0.67, 0.4, 1, 0.65, 1.5, 1),
    ],
    "contrast": [0.4, 0.3, 0.2, 0.1, 0.05],
    "brightness": [0.1, 0.2, 0.3, 0.4, 0.5],
    "saturate": [(0.3, 0), (0.1, 0), (2, 0), (5, 0.1), (20, 0.2)],
    "jpeg_compression": [25, 18, 15, 10, 7],
    "pixelate": [0.6, 0.5, 0.4, 0.3, 0.25],
    "elastic_transform": [
        (244 * 2, 244 * 0.7, 244 * 0.1),
        (244 * 2, 244 * 0.08, 244 * 0.2),
        (244 * 0.05, 244 * 0.01, 244 * 0.02),
        (244 * 0.07, 244 * 0.01, 244 * 0.02),
        (244 * 0.12, 244 * 0.01, 244 * 0.02),
    ],
}
TABLES = {"cifar": CIFAR_PARAMETERS, "imagenet": IMAGENET_PARAMETERS}


def unavailable() -> str | None:
    """Why there is no reference on this machine, or None."""
    for package in (PACKAGE, "cv2", "skimage"):
        if importlib.util.find_spec(package) is None:
            return f"the reference needs the package {package}"
    return None


def frost_folder() -> Path:
    """Find the folder of the frost pictures."""
    return Path(importlib.util.find_spec(PACKAGE).origin).parent / "frost"


@functools.cache
def frost_picture(number: int, scale: float) -> np.ndarray:
    import cv2

    picture = cv2.imread(str(frost_folder() / FROST_FILES[number]))[..., ::-1]
    return picture if scale == 1 else cv2.resize(picture, (0, 0), fx=scale, fy=scale)


class Reference:
    """One profile of the reference, with its own random numbers; images one at a time."""

    def __init__(self, profile: str, seed: int = 0, *, stored: bool = True) -> None:
        self.table = TABLES[profile]
        self.quality = STORED_QUALITY[profile] if stored else None
        self.random = np.random.RandomState(seed)

    def __call__(self, image: np.ndarray, name: str, severity: int) -> np.ndarray:
        """uint8 (H, W, 3) to the same, as it is read from the published file."""
        entry = self.table[name][severity - 1]
        values = getattr(self, name)(image / 255.0, *(entry if isinstance(entry, tuple) else (entry,)))
        if values.dtype != np.uint8:
            values = (np.clip(values, 0, 1) * 255).astype(np.uint8)
        return values if self.quality is None else through_jpeg(values, self.quality)

    def gaussian_noise(self, x: np.ndarray, sigma: float) -> np.ndarray:
        return x + self.random.normal(0, sigma, x.shape)

    def shot_noise(self, x: np.ndarray, photons: float) -> np.ndarray:
        return self.random.poisson(x * photons) / photons

    def impulse_noise(self, x: np.ndarray, amount: float) -> np.ndarray:
        hit, salt = self.random.uniform(size=x.shape) < amount, self.random.uniform(size=x.shape) < 0.5
        return np.where(hit, salt.astype(float), x)

    def speckle_noise(self, x: np.ndarray, sigma: float) -> np.ndarray:
        return x + x * self.random.normal(0, sigma, x.shape)

    def gaussian_blur(self, x: np.ndarray, sigma: float) -> np.ndarray:
        from skimage.filters import gaussian

        return gaussian(x, sigma, channel_axis=-1)

    def glass_blur(self, x: np.ndarray, sigma: float, reach: int, passes: int) -> np.ndarray:
        levels = (self.gaussian_blur(x, sigma) * 255).astype(np.uint8)
        height, width = levels.shape[:2]
        for _ in range(passes):
            for row in range(height - reach, reach, -1):
                steps = self.random.randint(-reach, reach, (width, 2)).tolist()
                for column in range(width - reach, reach, -1):
                    right, down = steps[column - 1]
                    levels[row, column] = levels[row + down, column + right]  # both views are one memory: no swap
        return self.gaussian_blur(levels / 255.0, sigma)

    def defocus_blur(self, x: np.ndarray, radius: float, rim: float) -> np.ndarray:
        import cv2

        reach, taps = (8, 3) if radius <= 8 else (int(radius), 5)
        rows, columns = np.mgrid[-reach : reach + 1, -reach : reach + 1]
        disk = (rows**2 + columns**2 <= radius**2).astype(np.float64)
        kernel = cv2.GaussianBlur(disk / disk.sum(), (taps, taps), rim)
        return np.stack([cv2.filter2D(np.ascontiguousarray(x[..., c]), -1, kernel) for c in range(3)], axis=-1)

    def motion_blur(self, x: np.ndarray, radius: int, sigma: float) -> np.ndarray:
        levels = np.rint(x * 255).astype(np.uint8)
        return motion_blur_levels(levels, radius, sigma, self.random.uniform(-45, 45))

    def zoom_blur(self, x: np.ndarray, stop: float, step: float) -> np.ndarray:
        factors = np.arange(1, stop, step)
        return (x + sum(zoom_centre(x, factor) for factor in factors)) / (len(factors) + 1)

    def snow(self, x: np.ndarray, *entry: float) -> np.ndarray:
        mean, std, factor, least, radius, sigma, keep = entry
        layer = zoom_centre(self.random.normal(mean, std, x.shape[:2]), factor)
        layer = (np.clip(np.where(layer < least, 0, layer), 0, 1) * 255).astype(np.uint8)
        layer = motion_blur_levels(layer, radius, sigma, self.random.uniform(-135, -45))[..., None] / 255.0
        grey = (x @ [0.299, 0.587, 0.114])[..., None]
        return keep * x + (1 - keep) * np.maximum(x, 1.5 * grey + 0.5) + layer + layer[::-1, ::-1]

    def frost(self, x: np.ndarray, image_share: float, frost_share: float, scale: float) -> np.ndarray:
        picture = frost_picture(self.random.randint(5), scale)
        height, width = x.shape[:2]
        top, left = (self.random.randint(0, picture.shape[k] - x.shape[k]) for k in (0, 1))
        return image_share * x + frost_share * picture[top : top + height, left : left + width] / 255.0

    def fog(self, x: np.ndarray, density: float, decay: float) -> np.ndarray:
        height, width = x.shape[:2]
        side = 2 ** math.ceil(math.log2(max(height, width)))
        cloud = self._plasma(side, decay)[:height, :width, None]
        return (x + density * cloud) * x.max() / (x.max() + density)

    def _plasma(self, side: int, decay: float) -> np.ndarray:
        """Diamond-square on a torus: the middles of squares, then the middles of their sides, by modular indices."""
        land = np.zeros((side, side))
        step, wibble = side, 100.0
        while step > 1:
            half = step // 2
            rows, columns = np.meshgrid(*[np.arange(0, side, step)] * 2, indexing="ij")
            across = ((-half, 0), (half, 0), (0, -half), (0, half))
            along = [(a, b) for a in (-half, half) for b in (-half, half)]
            for down, right, around in ((half, half, along), (0, half, across), (half, 0, across)):
                r, c = rows + down, columns + right
                beside = sum(land[(r + a) % side, (c + b) % side] for a, b in around)
                land[r, c] = beside / 4 + wibble * self.random.uniform(-wibble, wibble, r.shape)
            step, wibble = half, wibble / decay
        return (land - land.min()) / np.ptp(land)

    def spatter(
        self, x: np.ndarray, mean: float, std: float, sigma: float, least: float, strength: float, is_mud: int
    ) -> np.ndarray:
        import cv2
        from skimage.filters import gaussian

        layer = gaussian(self.random.normal(mean, std, x.shape[:2]), sigma)
        if is_mud:
            mask = gaussian((layer > least).astype(float), strength)
            mask = np.where(mask < 0.8, 0, mask)[..., None]
            return x * (1 - mask) + mask * np.array([63, 42, 20]) / 255.0
        depth = (np.where(layer < least, 0, layer) * 255).astype(np.uint8)
        distance = cv2.distanceTransform(255 - cv2.Canny(depth, 50, 150), cv2.DIST_L2, 5)
        levels = cv2.equalizeHist(cv2.blur(np.minimum(distance, 20), (3, 3)).astype(np.uint8))
        relief = cv2.blur(cv2.filter2D(levels, cv2.CV_8U, np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]])), (3, 3))
        water = depth.astype(float) * relief
        return x + strength * (water / water.max())[..., None] * np.array([175, 238, 238]) / 255.0

    def contrast(self, x: np.ndarray, factor: float) -> np.ndarray:
        means = x.mean(axis=(0, 1))
        return (x - means) * factor + means

    def brightness(self, x: np.ndarray, shift: float) -> np.ndarray:
        from skimage import color

        hue, saturation, value = np.moveaxis(color.rgb2hsv(x), -1, 0)
        return color.hsv2rgb(np.stack([hue, saturation, np.clip(value + shift, 0, 1)], axis=-1))

    def saturate(self, x: np.ndarray, slope: float, offset: float) -> np.ndarray:
        from skimage import color

        hue, saturation, value = np.moveaxis(color.rgb2hsv(x), -1, 0)
        return color.hsv2rgb(np.stack([hue, np.clip(saturation * slope + offset, 0, 1), value], axis=-1))

    def jpeg_compression(self, x: np.ndarray, quality: int) -> np.ndarray:
        return through_jpeg(np.rint(x * 255).astype(np.uint8), quality)

    def pixelate(self, x: np.ndarray, fraction: float) -> np.ndarray:
        picture = Image.fromarray(np.rint(x * 255).astype(np.uint8))
        small = picture.resize([int(side * fraction) for side in picture.size], Image.Resampling.BOX)
        return np.asarray(small.resize(picture.size, Image.Resampling.BOX))

    def elastic_transform(self, x: np.ndarray, amplitude: float, sigma: float, jitter: float) -> np.ndarray:
        """Random affine map of three points about the centre, then a smooth random displacement; lengths in pixels."""
        import cv2
        from scipy.ndimage import map_coordinates
        from skimage.filters import gaussian

        size = np.array(x.shape[:2])
        middle, third = size // 2, size.min() // 3
        corners = np.float32(middle + third * np.array([[1, 1], [1, -1], [-1, -1]]))
        moved = corners + np.float32(self.random.uniform(-jitter, jitter, (3, 2)))
        affine = cv2.getAffineTransform(corners, moved)
        turned = cv2.warpAffine(x, affine, tuple(size[::-1].tolist()), borderMode=cv2.BORDER_REFLECT_101)
        right, down = (
            amplitude * gaussian(self.random.uniform(-1, 1, size), sigma, mode="reflect", truncate=3) for _ in range(2)
        )
        rows, columns = np.indices(size)
        places = [rows + down, columns + right]
        return np.stack([map_coordinates(turned[..., c], places, order=1, mode="reflect") for c in range(3)], axis=-1)


def through_jpeg(levels: np.ndarray, quality: int) -> np.ndarray:
    """Into a JPEG file and back; that the official files are optimised changes their size, not their pixels."""
    file = io.BytesIO()
    Image.fromarray(levels).save(file, "JPEG", quality=quality, optimize=True)
    return np.asarray(Image.open(file))


def zoom_centre(x: np.ndarray, factor: float) -> np.ndarray:
    """Enlarge the centre and cut the middle out of what comes out."""
    from scipy.ndimage import zoom

    height, width = x.shape[:2]
    rows, columns = math.ceil(height / factor), math.ceil(width / factor)
    top, left = (height - rows) // 2, (width - columns) // 2
    centre = x[top : top + rows, left : left + columns]
    enlarged = zoom(centre, (factor, factor, 1)[: x.ndim], order=1)
    top, left = (enlarged.shape[0] - height) // 2, (enlarged.shape[1] - width) // 2
    return enlarged[top : top + height, left : left + width]


def motion_blur_levels(levels: np.ndarray, radius: int, sigma: float, degrees: float) -> np.ndarray:
    """ImageMagick's motion blur of 8-bit levels: one-sided Gaussian, border pixels repeated, fraction dropped."""
    steps = np.arange(2 * radius + 1)
    weights = np.exp(-(steps**2) / (2 * sigma**2))
    rows, columns = np.indices(levels.shape[:2])
    total = np.zeros(levels.shape)
    for step, weight in zip(steps, weights / weights.sum(), strict=True):
        down, right = (math.ceil(step * turn(math.radians(degrees)) - 0.5) for turn in (math.sin, math.cos))
        total += (
            weight
            * levels[np.clip(rows + down, 0, levels.shape[0] - 1), np.clip(columns + right, 0, levels.shape[1] - 1)]
        )
    return (total + 1e-6).astype(np.uint8)
