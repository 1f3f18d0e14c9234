"""Time per image of every corruption, ours next to the fastest package that has it, in one run on the same cores.

    python benchmarks/corruptions.py                  both sizes, all 19
    python benchmarks/corruptions.py --device cuda    ours on the GPU
    python benchmarks/corruptions.py --corruptions cbar
    python benchmarks/corruptions.py --profiles cifar --images 400,4 --repeats 1
    python benchmarks/corruptions.py --quick          a few images: shows that it works, not what it takes

Each figure is the mean over the five severities of the best of three runs (--repeats), theirs as well as ours:
processor time of all threads, or on a GPU wall-clock time. The packages are ``imagecorruptions`` (behind the
shims of ``peer.py``), ``corrupt-tta`` and ``imgcorr``, as far as they are installed; the fastest counts. They take one
image at a time, with OpenCV on the same number of threads; at 224 × 224 all end with the JPEG file of ImageNet-C. The
latter two have the parameters of ImageNet-C only, also at 32 × 32. For C-bar, which none of them has, the other side is
the reference of ``tests/parity``: pixel by pixel, as the public generator does it. Images are real where
SDNET_SHARED_DATA (default: ../shared/data) has them, or else smooth noise.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from data_prep.command_line import CommandParser, parse_names
from data_prep.corruptions import corrupt, corruption_names, expand_names
from data_prep.errors import EXIT_DONE, InputError, PrerequisiteError, run_command
from sdnet_core.environment import select_device

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "tests"))

import peer  # noqa: E402 - next to this file
from pairing import clock_of, wait  # noqa: E402
from parity import reference, reference_cbar  # noqa: E402
from parity.real_images import ARCHIVES, archive_of, read_images  # noqa: E402

IMAGES = {"cifar": (2000, 40), "imagenet": (64, 2)}  # for us, for the reference
SEVERITIES = range(1, 6)
SLOWEST = "glass_blur"


def check_packages() -> None:
    if (reason := reference.unavailable()) is not None:
        raise PrerequisiteError(f"{reason}: in the project's folder, run pip install '.[test]'")


def load_images(profile: str, count: int) -> tuple[np.ndarray, str]:
    """Images and what they are."""
    folder = Path(os.environ.get("SDNET_SHARED_DATA", ROOT.parent / "shared" / "data"))
    if (archive := archive_of(profile, folder)).is_file():
        return read_images(profile, count, folder), f"images of {archive.name}"
    side = ARCHIVES[profile][2]
    coarse = np.random.default_rng(0).integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)
    pictures = (Image.fromarray(it).resize((side, side), Image.Resampling.BICUBIC) for it in coarse)
    return np.stack([np.asarray(picture) for picture in pictures]), "images of smooth noise"


def milliseconds(work: Callable[[], object], device: torch.device, repeats: int) -> float:
    """The shortest of some runs: processor time on the CPU, which other programs leave alone."""
    clock = clock_of(device)
    runs = []
    for _ in range(repeats):
        wait(device)
        start = clock()
        work()
        wait(device)
        runs.append(clock() - start)
    return min(runs) * 1e3


def time_ours(pixels: torch.Tensor, name: str, profile: str, repeats: int) -> float:
    """Milliseconds per image, tables and kernels built before."""
    total = 0.0
    for severity in SEVERITIES:
        options = {"severity": severity, "profile": profile}
        corrupt(pixels[:8], name, **options)
        total += milliseconds(lambda o=options: corrupt(pixels, name, **o), pixels.device, repeats)
    return total / len(SEVERITIES) / len(pixels)


def time_reference(images: np.ndarray, name: str, reference: Callable[..., object], repeats: int) -> float:
    """Milliseconds per image."""
    reference(images[0], name, 1)
    total = 0.0
    for severity in SEVERITIES:
        work = lambda level=severity: [reference(image, name, level) for image in images]  # noqa: E731
        total += milliseconds(work, torch.device("cpu"), repeats)
    return total / len(SEVERITIES) / len(images)


def pixel_by_pixel(profile: str) -> Callable[[np.ndarray, str, int], np.ndarray]:
    """The reference of C-bar, with the JPEG file where the profile has one."""
    draws, quality = reference_cbar.OtherDraws(0), peer.STORED_QUALITY.get(profile)

    def work(image: np.ndarray, name: str, severity: int) -> np.ndarray:
        result = reference_cbar.corrupt_like_c_bar(image, name, profile, severity, draws)
        return result if quality is None else peer.through_jpeg(result, quality)

    return work


def format_row(title: str, times: np.ndarray) -> str:
    return f"| {title} | {times[0]:.4f} | {times[1]:.2f} | {times[1] / times[0]:.1f} |"


def main() -> int:
    parser = CommandParser(description=__doc__)
    parser.add_argument("--profiles", default=",".join(IMAGES))
    parser.add_argument("--corruptions", default="all")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--images", metavar="OURS,THEIRS", help="default: 2000,40 of 32 pixels, 64,2 of 224")
    parser.add_argument("--repeats", type=int, default=3, help="runs, of which the shortest counts")
    parser.add_argument("--quick", action="store_true", help="--images 8,1 --repeats 1")
    arguments = parser.parse_args()
    images_of, repeats = ("8,1", 1) if arguments.quick else (arguments.images, arguments.repeats)
    if images_of is not None and not re.fullmatch(r"[1-9]\d*,[1-9]\d*", images_of):
        raise InputError(f"expected --images as two whole numbers, as in 400,4, got {images_of}; write them so")
    profiles, given = parse_names(arguments.profiles), parse_names(arguments.corruptions)
    if unknown := set(profiles) - IMAGES.keys():
        raise InputError(f"expected --profiles of {', '.join(IMAGES)}, got {', '.join(sorted(unknown))}")
    device = select_device(arguments.device)
    check_packages()
    import cv2

    torch.set_num_threads(arguments.threads)
    cv2.setNumThreads(arguments.threads)
    threads = f"processor time, {arguments.threads} thread{'s' * (arguments.threads != 1)}"
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else threads
    for profile in profiles:
        ours, theirs = map(int, images_of.split(",")) if images_of else IMAGES[profile]
        images, title = load_images(profile, ours)
        pixels = torch.from_numpy(images).to(device)
        names, packages = expand_names(given, profile), peer.find_peers(profile)
        print(f"\n{' x '.join(map(str, images.shape[1:3]))}, {title}, ms per image, {where}")
        print(f"{ours} images for ours, {theirs} for the others, best of {repeats}\n")
        print("| corruption | ours | theirs | ratio | fastest of the others |\n|---|--:|--:|--:|---|")
        rows = {}
        for name in names:
            mine = time_ours(pixels, name, profile, repeats)
            others = {"tests/parity": pixel_by_pixel(profile)} if name in corruption_names("cbar") else packages
            took = {title: time_reference(images[:theirs], name, it, repeats) for title, it in others.items()}
            fastest = min(took, key=took.__getitem__)
            rows[name] = np.array([mine, took[fastest]])
            print(f"{format_row(name, rows[name])} {fastest} |", flush=True)
        print(f"{format_row('**sum**', sum(rows.values()))} |")
        if rest := [times for name, times in rows.items() if name != SLOWEST]:
            print(f"{format_row(f'sum without {SLOWEST}', sum(rest))} |")
    return EXIT_DONE


if __name__ == "__main__":
    sys.exit(run_command(main))
