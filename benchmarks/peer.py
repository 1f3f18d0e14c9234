"""The package ``imagecorruptions``, behind shims: what the speed of the corruptions is compared with.

Its module is run from its source text with three changes, so that it works with the current libraries and with both
profiles: names that NumPy, SciPy and scikit-image have dropped are supplied; its parameters may be replaced; and its
randomness comes from one seeded generator instead of the global one. The arithmetic is untouched. Where CIFAR-10-C
differs by more than numbers (frost and elastic transform) there is a version here, in OpenCV and SciPy. The package is
no reference for what the images look like: its elastic transform and frost differ from ImageNet-C's.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import io
import sys
import types
from collections.abc import Callable
from functools import partial
from pathlib import Path
from unittest import mock

import numpy as np
from parity.reference import CIFAR_PARAMETERS, PACKAGE, frost_folder  # in tests/
from PIL import Image

OTHERS = {"corrupt-tta": "corrupt_tta", "imgcorr": "imgcorr"}
"""Other packages and their modules, compared with where they are installed."""
STORED_QUALITY = {"imagenet": 85}
"""Quality of the JPEG file that ends every corruption of ImageNet-C, which the package leaves to its user."""


def through_jpeg(levels: np.ndarray, quality: int) -> np.ndarray:
    """Into a JPEG file and back."""
    file = io.BytesIO()
    Image.fromarray(levels).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


def find_peers(profile: str) -> dict[str, Callable[[np.ndarray, str, int], np.ndarray]]:
    """The packages that are installed, by name, each uint8 (H, W, 3) to the same.

    Those without CIFAR-10-C's parameters have ImageNet-C's for images of any size.
    """
    peers: dict[str, Callable[[np.ndarray, str, int], np.ndarray]] = {PACKAGE: Peer(profile)}
    elsewhere = [place for place in sys.path if Path(place).resolve() != Path(__file__).resolve().parent]
    with mock.patch.object(sys, "path", elsewhere):  # numba looks for a package that is called as a file here
        for name, module in OTHERS.items():
            if importlib.util.find_spec(module) is not None:
                peers[name] = partial(_corrupt, importlib.import_module(module), STORED_QUALITY.get(profile))
    return peers


def _corrupt(module: types.ModuleType, quality: int | None, image: np.ndarray, name: str, severity: int) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        result = np.uint8(module.corrupt(image, severity=severity, corruption_name=name))
    return result if quality is None else through_jpeg(result, quality)


class Peer:
    """One profile of the package, with its own random numbers; images one at a time."""

    def __init__(self, profile: str, seed: int = 0) -> None:
        self.profile = profile
        self.random = np.random.RandomState(seed)
        self._module = _load(profile, self.random)

    def __call__(self, image: np.ndarray, name: str, severity: int) -> np.ndarray:
        """uint8 (H, W, 3) to the same."""
        if self.profile == "cifar" and name == "frost":
            result = self._cifar_frost(image, severity)
        elif self.profile == "cifar" and name == "elastic_transform":
            result = self._cifar_elastic(image, severity)
        else:
            with np.errstate(divide="ignore", invalid="ignore"):
                result = getattr(self._module, name)(Image.fromarray(image), severity)
                result = np.nan_to_num(np.asarray(result))
        quality = STORED_QUALITY.get(self.profile)
        return np.uint8(result) if quality is None else through_jpeg(np.uint8(result), quality)

    def _cifar_frost(self, image: np.ndarray, severity: int) -> np.ndarray:
        import cv2

        a, b, scale = CIFAR_PARAMETERS["frost"][severity - 1]
        number = self.random.randint(5) + 1
        picture = cv2.imread(str(next(frost_folder().glob(f"frost{number}.*"))))
        picture = cv2.resize(picture, (0, 0), fx=scale, fy=scale)
        y, x = (self.random.randint(0, picture.shape[axis] - image.shape[axis]) for axis in (0, 1))
        crop = picture[y : y + image.shape[0], x : x + image.shape[1], ::-1]
        return np.clip(a * image + b * crop, 0, 255)

    def _cifar_elastic(self, image: np.ndarray, severity: int) -> np.ndarray:
        import cv2
        from scipy.ndimage import map_coordinates
        from skimage.filters import gaussian

        size = np.array(image.shape[:2])
        alpha, sigma, jitter = CIFAR_PARAMETERS["elastic_transform"][severity - 1]
        centre, third = np.float32(size) // 2, min(size) // 3
        corners = np.float32([centre + third, [centre[0] + third, centre[1] - third], centre - third])
        moved = corners + self.random.uniform(-jitter, jitter, size=corners.shape).astype(np.float32)
        affine = cv2.getAffineTransform(corners, moved)
        turned = cv2.warpAffine(
            np.float32(image) / 255.0, affine, image.shape[1::-1], borderMode=cv2.BORDER_REFLECT_101
        )
        shifts = [
            gaussian(self.random.uniform(-1, 1, size=size), sigma, mode="reflect", truncate=3) * alpha for _ in range(2)
        ]
        grid = np.meshgrid(*map(np.arange, size), indexing="ij")
        places = [axis + np.float32(shift) for axis, shift in zip(grid, shifts, strict=True)]
        planes = [map_coordinates(turned[..., c], places, order=1, mode="reflect") for c in range(3)]
        return np.clip(np.stack(planes, axis=-1), 0, 1) * 255


class _Overlay(types.SimpleNamespace):
    """A module with some names of its own and all others from another module."""

    def __init__(self, base: object, **names: object) -> None:
        super().__init__(**names)
        self._base = base

    def __getattr__(self, name: str) -> object:
        return getattr(self._base, name)


def _load(profile: str, random: np.random.RandomState) -> types.ModuleType:
    import cv2  # noqa: F401 - before the patch below, which forgets what it sees imported
    import scipy.ndimage
    import skimage.util
    from skimage.filters import gaussian

    spec = importlib.util.find_spec(PACKAGE)
    path = Path(spec.origin).with_name("corruptions.py")
    tree = ast.parse(path.read_text(encoding="utf-8"))
    if profile == "cifar":
        for function in (node for node in tree.body if isinstance(node, ast.FunctionDef)):
            _replace_parameters(function)
    module = types.ModuleType("reference_corruptions")
    interpolation = _Overlay(scipy.ndimage)
    resources = types.SimpleNamespace(resource_filename=lambda _, name: str(path.parent / name))
    stubs = {"scipy.ndimage.interpolation": interpolation, "pkg_resources": resources}
    with mock.patch.dict(sys.modules, stubs):
        exec(compile(tree, str(path), "exec"), vars(module))

    def salt_and_pepper(image: np.ndarray, mode: str, amount: float) -> np.ndarray:
        return skimage.util.random_noise(image, mode=mode, amount=amount, rng=random.randint(2**31))

    def old_gaussian(image: np.ndarray, *args: object, multichannel: bool = False, **options: object) -> np.ndarray:
        return gaussian(image, *args, channel_axis=-1 if multichannel else None, **options)

    module.np = _Overlay(np, float_=np.float64, random=random)
    module.sk = _Overlay(module.sk, util=types.SimpleNamespace(random_noise=salt_and_pepper))
    module.gaussian = old_gaussian
    return module


def _replace_parameters(function: ast.FunctionDef) -> None:
    """Put the list of CIFAR parameters in the place of the one that the function indexes with the severity."""
    if function.name not in CIFAR_PARAMETERS:
        return
    rows = CIFAR_PARAMETERS[function.name]
    if function.name == "zoom_blur":
        text = f"[{', '.join(f'np.arange(1, {stop}, {step})' for stop, step in rows)}]"
    else:
        text = repr(rows)
    for node in ast.walk(function):
        if isinstance(node, ast.Subscript) and isinstance(node.value, ast.List):
            node.value = ast.parse(text, mode="eval").body
