"""Time of the harness over a bare loop of the same forward passes, alternating in one process.

    python benchmarks/eval_overhead.py [--n 1000] [--corruptions A,B] [--repeats 5]

The bare loop moves the same pixels, runs ``model(images, lam=...)`` for the same λs and keeps the predicted classes.
The harness also perturbs the images and writes outcomes with confidence, likelihood, residual and sparsity, and on a
GPU makes the images of the next job meanwhile or does not. Seconds are processor time on a CPU and wall time on a GPU.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from functools import partial
from pathlib import Path

import torch
from pairing import clock_of

from data_prep import load_images
from data_prep.command_line import CommandParser
from robustness.measure.executors import LocalExecutor
from robustness.measure.loaders.loaded import Wanted
from robustness.measure.measurement import Measurement
from robustness.measure.subjects import load_subjects
from robustness.run_directory import RunDirectory
from robustness.suite import Suite
from sdnet_core.augment import to_images
from sdnet_core.environment import describe_environment, select_device


def bare_loop(measurement: Measurement) -> float:
    """Seconds of the forward passes alone, over images that are perturbed already."""
    clock = clock_of(measurement.device)
    started = clock()
    with torch.inference_mode():
        for subject in measurement.subjects:
            for lam in subject.lambdas(measurement.suite.lambdas):
                predicted = []
                for start in range(0, len(measurement.images), measurement.batch_size):
                    pixels = torch.from_numpy(measurement.images.pixels[start : start + measurement.batch_size])
                    images = to_images(pixels.to(measurement.device))
                    predicted.append(subject.network(images, lam=lam).argmax(1))
                torch.cat(predicted).cpu()
    return clock() - started


def harness(measurement: Measurement, *, overlap: bool) -> float:
    """Seconds of the whole measurement, from perturbing the images to outcomes on disk."""
    measurement.executor = LocalExecutor(overlap=overlap)
    measurement.directory.create()
    measurement.directory.clear()
    measurement.done.clear()
    clock = clock_of(measurement.device)
    started = clock()
    measurement.run([])
    return clock() - started


def main() -> int:
    parser = CommandParser(description=__doc__)
    parser.add_argument("--models", default="sdnet18-cifar10,resnet18-cifar10")
    parser.add_argument("--data", default="cifar10")
    parser.add_argument("--data-dir", default="data")
    parser.add_argument("--n", type=int, default=1000)
    parser.add_argument("--corruptions", default="gaussian_noise", help="at severity 3")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device")
    arguments = parser.parse_args()
    device = select_device(arguments.device)
    suite = Suite(
        name="overhead",
        data=arguments.data,
        corruptions=tuple(arguments.corruptions.split(",")),
        severities=(3,),
        models=tuple(arguments.models.split(",")),
        lambdas=(0.1, 0.2, 0.5),
    )
    images = load_images(suite.data, split="test", data_dir=arguments.data_dir).subset(arguments.n)
    subjects = load_subjects(suite.models, Wanted(num_classes=len(images.classes)), device=device)
    with tempfile.TemporaryDirectory() as folder:
        directory = RunDirectory(Path(folder) / "run")
        measurement = Measurement(suite, subjects, images, None, directory, device, 250)
        rounds = len({task.perturbation for task in measurement.tasks})
        ways = {"harness": False} if device.type == "cpu" else {"harness": False, "harness, overlapping": True}
        runs = {way: partial(harness, measurement, overlap=overlap) for way, overlap in ways.items()}
        pairs: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
        for repeat in range(1 + arguments.repeats):
            bare = sum(bare_loop(measurement) for _ in range(rounds))
            for way, run in runs.items():
                full = run()
                if repeat:  # the first one warms up
                    pairs[way].append((bare, full))
    hardware = describe_environment(device)["hardware"]
    print(f"{arguments.models}, n = {arguments.n}, {rounds} sets of images, λ = 0.1, 0.2, 0.5")
    print(f"{hardware.get('gpu', hardware['processor'])}, {hardware['threads']} threads, torch {torch.__version__}")
    for way, both in pairs.items():
        bare, full = (statistics.median(values) for values in zip(*both))
        ratios = sorted(second / first for first, second in both)
        print(f"bare forward loop {bare:.2f} s, {way} {full:.2f} s (medians of {arguments.repeats})")
        print(
            f"{way}: ratio {statistics.median(ratios):.3f} "
            f"(paired median; lowest {ratios[0]:.3f}, highest {ratios[-1]:.3f})"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
