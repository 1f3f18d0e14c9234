"""Time per image of every corruption, ours beside the package ``imagecorruptions``, in one run on the same cores.

    python benchmarks/corruptions.py                  both sizes, all 19, both on two threads
    python benchmarks/corruptions.py --device cuda    ours on the GPU
    python benchmarks/corruptions.py --quick          a few images: shows that it works, not what it takes

Each figure is the mean over the five severities of the best of three runs (the reference is timed once). The
reference is what ``tests/parity`` compares with: the package behind shims, one image at a time, with OpenCV on the same
number of threads. Images are real where SDNET_SHARED_DATA (default: ../shared/data) has them, or else smooth noise.
"""

from __future__ import annotations

import argparse
import importlib.util
import io
import os
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from data_prep.corruptions import corrupt, corruption_names

ROOT = Path(__file__).parents[1]
SETTINGS = {  # profile: (side, images for us, images for the reference, archive, stride through it)
    "cifar": (32, 2000, 40, "cifar10-jpeg.tar.xz", 29),
    "imagenet": (224, 64, 2, "imagenet-sample.tar", 3),
}
SEVERITIES = range(1, 6)


def load_reference() -> Callable[..., object]:
    path = ROOT / "tests" / "parity" / "reference.py"
    spec = importlib.util.spec_from_file_location("reference", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if (reason := module.unavailable()) is not None:
        raise SystemExit(f"error: {reason}; pip install imagecorruptions opencv-python scikit-image")
    return module.Reference


def load_images(profile: str, count: int) -> np.ndarray:
    side, _, _, archive, stride = SETTINGS[profile]
    path = Path(os.environ.get("SDNET_SHARED_DATA", ROOT.parent / "shared" / "data")) / archive
    if not path.is_file():
        coarse = np.random.default_rng(0).integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)
        pictures = (Image.fromarray(it).resize((side, side), Image.Resampling.BICUBIC) for it in coarse)
        return np.stack([np.asarray(picture) for picture in pictures])
    images = []
    with tarfile.open(path) as tar:
        files = (member for member in tar if member.isfile())
        for number, member in enumerate(files):
            if number % stride == 0:
                picture = Image.open(io.BytesIO(tar.extractfile(member).read())).convert("RGB")
                left, top = (picture.width - side) // 2, (picture.height - side) // 2
                images.append(np.asarray(picture.crop((left, top, left + side, top + side))))
            if len(images) == count:
                break
    return np.stack(images)


def time_ours(pixels: torch.Tensor, name: str, profile: str, repeats: int) -> float:
    """Milliseconds per image, tables and kernels built before."""
    total = 0.0
    for severity in SEVERITIES:
        corrupt(pixels[: min(8, len(pixels))], name, severity=severity, profile=profile)
        runs = []
        for _ in range(repeats):
            synchronise(pixels)
            start = time.perf_counter()
            corrupt(pixels, name, severity=severity, profile=profile)
            synchronise(pixels)
            runs.append(time.perf_counter() - start)
        total += min(runs)
    return total / len(SEVERITIES) / len(pixels) * 1e3


def time_reference(images: np.ndarray, name: str, reference: Callable[..., object]) -> float:
    reference(images[0], name, 1)
    start = time.perf_counter()
    for severity in SEVERITIES:
        for image in images:
            reference(image, name, severity)
    return (time.perf_counter() - start) / len(SEVERITIES) / len(images) * 1e3


def synchronise(pixels: torch.Tensor) -> None:
    if pixels.is_cuda:
        torch.cuda.synchronize()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profiles", default="cifar,imagenet")
    parser.add_argument("--corruptions", default=",".join(corruption_names("all")))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    import cv2

    torch.set_num_threads(arguments.threads)
    cv2.setNumThreads(arguments.threads)
    reference_type = load_reference()
    where = torch.cuda.get_device_name() if arguments.device == "cuda" else f"{arguments.threads} threads"
    for profile in arguments.profiles.split(","):
        side, ours, theirs, *_ = SETTINGS[profile]
        ours, theirs, repeats = (8, 1, 1) if arguments.quick else (ours, theirs, 3)
        images = load_images(profile, ours)
        pixels = torch.from_numpy(images).to(arguments.device)
        reference = reference_type(profile)
        print(f"\n{side} x {side}, ms per image, {where}\n")
        print("| corruption | ours | reference | ratio |\n|---|--:|--:|--:|")
        sums = np.zeros(2)
        for name in arguments.corruptions.split(","):
            mine = time_ours(pixels, name, profile, repeats)
            times = np.array([mine, time_reference(images[:theirs], name, reference)])
            sums += times
            print(f"| {name} | {times[0]:.4f} | {times[1]:.2f} | {times[1] / times[0]:.0f} |", flush=True)
        print(f"| **sum** | **{sums[0]:.3f}** | **{sums[1]:.1f}** | **{sums[1] / sums[0]:.0f}** |")


if __name__ == "__main__":
    main()
