"""Count the predictions that ``--speed fast`` changes, on clean images and at several λs.

python benchmarks/agreement.py [--models sdnet18-cifar10,resnet18-cifar10] [--lambdas 0.1,0.5] [--n 1000]
"""

from __future__ import annotations

import sys

import torch

from data_prep import load_images
from data_prep.command_line import CommandParser
from robustness.grids import format_lam, parse_lambdas
from robustness.measure.agreement import measure_agreement
from robustness.measure.loaders.loaded import Wanted
from robustness.measure.subjects import load_subject
from sdnet_core.environment import describe_environment, select_device


def main() -> int:
    parser = CommandParser(description=__doc__)
    parser.add_argument("--models", default="sdnet18-cifar10,resnet18-cifar10")
    parser.add_argument("--lambdas", type=parse_lambdas, default=(0.1, 0.5), help="of models that have λ")
    parser.add_argument("--data", default="cifar10")
    parser.add_argument("--data-dir", default="data")
    parser.add_argument("--n", type=int, help="images (default: the whole test split)")
    parser.add_argument("--device")
    arguments = parser.parse_args()
    device = select_device(arguments.device)
    images = load_images(arguments.data, split="test", data_dir=arguments.data_dir)
    images = images.subset(arguments.n) if arguments.n else images
    print(f"{images.title}, n = {len(images)}, {describe_environment(device)['hardware']['processor']}, ", end="")
    print(f"torch {torch.__version__}\n\n| model | λ | same predictions | accuracy fast | accuracy exact |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for name in arguments.models.split(","):
        fast, exact = (
            load_subject(name, Wanted(num_classes=len(images.classes)), device=device, speed=speed)
            for speed in ("fast", "exact")
        )
        for lam in fast.lambdas(arguments.lambdas):
            found = measure_agreement(fast, exact, images, device=device, batch_size=250, lam=lam)
            shares = " | ".join(
                f"{count / found.n:.2%}" for count in (found.same, found.correct_fast, found.correct_exact)
            )
            print(f"| {name} | {'' if lam is None else format_lam(lam)} | {shares} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
