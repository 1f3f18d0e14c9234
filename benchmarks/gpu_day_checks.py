"""Steps of the GPU day that no other benchmark has; each prints one table.

python benchmarks/gpu_day_checks.py machine|parity|corruptions|epoch [--device cuda]
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shutil
import sys
import time
from pathlib import Path

import torch
from pairing import plain_solver
from torch import Tensor

from data_prep.command_line import CommandParser, parse_names
from data_prep.errors import EXIT_DONE, EXIT_SOME_FAILED, PrerequisiteError, run_command
from sdnet_core import Network, build_model
from sdnet_core.environment import describe_environment, select_device

NEEDED = ("cv2", "hypothesis", "imagecorruptions", "jaxtyping", "beartype", "pyautoattack", "pytest", "pytest_timeout")
"""Packages that the steps need besides the project's own."""

LARGEST_ERROR, LARGEST_GRADIENT_ERROR = 1e-3, 1e-2
"""‖fused − plain‖/‖plain‖ in float32; rounding turns a few codes of a million on or off, with all of their gradient."""


def show_machine(device: torch.device) -> int:
    """Print hardware, versions and revision as one JSON object, and refuse a machine that lacks something."""
    about = describe_environment(device)
    compiler = next(filter(None, map(shutil.which, (os.environ.get("CC", "gcc"), "gcc", "clang"))), "none")
    print(json.dumps({**about["hardware"], **about["versions"], **about["git"], "C compiler": compiler}), flush=True)
    if missing := [name for name in NEEDED if importlib.util.find_spec(name) is None]:
        raise PrerequisiteError(f"expected the packages of the extra test, got no {', '.join(missing)}: bring wheels")
    if compiler == "none":
        raise PrerequisiteError("expected a C compiler, with which Triton starts its kernels, got none: install gcc")
    return EXIT_DONE


def show_parity(device: torch.device, width: int) -> int:
    """Print how far the fused solver is from the plain one, in whole networks, and the device from the CPU.

    In bfloat16 the logits of both are compared with plain float32, and the fused form may be half as far again as the
    plain one. In so deep a network other codes become active, so its gradients differ: the tests compare layers.
    """
    print("| network | error | at most |\n|---|--:|--:|")
    torch.backends.cudnn.allow_tf32 = False
    within = True
    for arch, more in (("sdnet18", {}), ("sdnet18_all", {"shortcut": False})):
        torch.manual_seed(0)
        network, images = build_model(arch, width=width, **more), torch.rand(16, 3, 32, 32)
        _set_statistics(network, images)
        here = _answer(network, images, lowered=False)
        network = network.to(memory_format=torch.channels_last).to(device)
        images = images.to(device).contiguous(memory_format=torch.channels_last)
        with plain_solver():
            plain, lowered = (_answer(network, images, lowered=lowered) for lowered in (False, True))
        fused, fused_lowered = (_answer(network, images, lowered=lowered) for lowered in (False, True))
        cases = [
            ("fused in bf16 to plain in float32", fused_lowered[0], plain[0], 1.5 * _distance(lowered[0], plain[0]))
        ]
        for part, mine, right, cpu in zip(PARTS, fused, plain, here):
            most = LARGEST_ERROR if part == "logits" else LARGEST_GRADIENT_ERROR
            cases += [
                (f"{part}, fused to plain", mine, right, most),
                (f"{part}, {device.type} to CPU", mine, cpu, most),
            ]
        for title, mine, right, most in cases:
            error = _distance(mine, right)
            print(f"| {arch}, {title} | {error:.2e} | {most:.2e} |", flush=True)
            within = within and error <= most  # false for NaN, too
    return EXIT_DONE if within else EXIT_SOME_FAILED


PARTS = ("logits", "gradient for the images", "gradient for the first dictionary")


def _set_statistics(network: Network, images: Tensor) -> None:
    """Give the BatchNorms the statistics of a batch: with initial statistics no code survives 17 layers."""
    for layer in network.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.momentum = 1.0
    with torch.no_grad():
        network.train()(images)
    network.eval()


def _answer(network: Network, images: Tensor, *, lowered: bool) -> list[Tensor]:
    x = images.clone().requires_grad_()
    with torch.autocast(images.device.type, torch.bfloat16, enabled=lowered):
        logits = network(x)
    weights = torch.linspace(-1, 1, logits.numel(), device=logits.device).view_as(logits)
    wanted = [x, network.input_layer.weight]
    return [logits.detach().float(), *torch.autograd.grad((logits.float() * weights).sum(), wanted)]


def _distance(one: Tensor, other: Tensor) -> float:
    one, other = one.double().cpu(), other.double().cpu()
    return float((one - other).norm() / other.norm())


def show_corruptions(device: torch.device, count: int) -> int:
    """Print the time of all 19 corruptions here, on the CPU and by the peer, and how many values differ."""
    import corruptions as timed
    import peer

    from data_prep.corruptions import corrupt, expand_names

    timed.check_packages()
    print("| corruption | ms | times as fast as the CPU | as the peer | values that differ from the CPU (%) |")
    print("|---|--:|--:|--:|--:|")
    for profile, images, few in (("cifar", count, 4), ("imagenet", max(count // 16, 2), 1)):
        pixels = torch.from_numpy(timed.load_images(profile, images)[0])
        there, part = pixels.to(device), pixels[: max(images // 4, 2)]
        package = peer.Peer(profile)
        for name in sorted(expand_names(("all",), profile), key=timed.SLOWEST.__eq__):  # that one last
            ours = timed.time_ours(there, name, profile, 2)
            cpu = timed.time_ours(part, name, profile, 1)
            theirs = timed.time_reference(pixels[:few].numpy(), name, package, 1)
            options = {"severity": 3, "profile": profile}
            same = corrupt(there[: len(part)], name, **options).cpu() == corrupt(part, name, **options)
            differing = 100 * float((~same).double().mean())
            row = f"{ours:.5f} | {cpu / ours:.2f} | {theirs / ours:.1f} | {differing:.4f}"
            print(f"| {name} at {pixels.shape[1]} | {row} |", flush=True)
    return EXIT_DONE


def show_epoch(device: torch.device, options: argparse.Namespace) -> int:
    """Train one epoch of every recipe in bfloat16 and print its speed, memory and test accuracy."""
    import pandas as pd

    from data_prep.sources import split_sizes
    from sdnet_core.recipes import read_recipe
    from sdnet_core.training import train_recipe

    print("| epoch | images | s | images/s | s with loading and writing | test accuracy (%) | peak MB |")
    print("|---|--:|--:|--:|--:|--:|--:|")
    where = {"data_dir": options.data_dir, "device": str(device)}
    for name in options.recipes:
        recipe, out = read_recipe(name, options.set), options.out / name
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        started = time.perf_counter()
        card = train_recipe(recipe, out, precision="bf16", fresh=True, **where)
        whole = time.perf_counter() - started
        seconds = float(pd.read_csv(out / "log.csv").iloc[-1]["seconds"])
        images = split_sizes(recipe.data, options.data_dir)["train"]
        accuracy = 100 * card.accuracy["correct"] / card.accuracy["n"]
        peak = torch.cuda.max_memory_allocated(device) / 1e6 if device.type == "cuda" else 0.0
        words = f"{images} | {seconds:.2f} | {images / seconds:.0f} | {whole:.2f} | {accuracy:.2f} | {peak:.0f}"
        print(f"| {recipe.name} on {recipe.data} | {words} |", flush=True)
    return EXIT_DONE


def main() -> int:
    parser = CommandParser(description=__doc__)
    parser.add_argument("step", choices=["machine", "parity", "corruptions", "epoch"])
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="epoch: a key of the recipe")
    parser.add_argument("--device")
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--recipes", type=parse_names, default=("cifar10-sdnet18-w64", "cifar10-resnet18-w64"))
    parser.add_argument("--data-dir", type=Path, default=Path("data"))
    parser.add_argument("--out", type=Path, default=Path("results/training/gpu-day"))
    options = parser.parse_args()
    device = select_device(options.device)
    if options.step == "machine":
        return show_machine(device)
    if options.step == "parity":
        return show_parity(device, options.width)
    if options.step == "corruptions":
        return show_corruptions(device, options.images)
    return show_epoch(device, options)


if __name__ == "__main__":
    sys.exit(run_command(main))
