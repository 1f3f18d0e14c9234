"""Inference: SDNet-18 and SDNet-18-all next to ResNet-18, fused next to plain, evaluation next to a plain loop.

    python benchmarks/core.py                         batches of 32 and 128, full width
    python benchmarks/core.py --fast                  with --speed fast (compiling takes minutes)
    python benchmarks/core.py --width 16 --batch-sizes 250 --rounds 3

All forms of a table alternate within one process. Networks are untrained, their input is random: neither changes the
work. ``ratio`` is the paired median of baseline time over time: above 1 is faster than ResNet-18.
"""

from __future__ import annotations

from functools import partial

import torch
from pairing import alternate, make_parser, prepare, print_ratios, print_roofline, run_plain
from torch import Tensor

from data_prep.command_line import parse_names
from sdnet_core import CSCConv2d, Network, build_model
from sdnet_core.speed import accelerate

NETWORKS = {
    "ResNet-18": ("resnet18", {}),
    "SDNet-18": ("sdnet18", {}),
    "SDNet-18-all": ("sdnet18_all", {"shortcut": False}),
}


def main() -> None:
    parser = make_parser(__doc__, rounds=7)
    parser.add_argument("--fast", action="store_true", help="with the compiled form")
    parser.add_argument("--networks", type=parse_names, default=tuple(NETWORKS), help="ResNet-18 and others")
    options = parser.parse_args()
    if not {"ResNet-18"} <= set(options.networks) <= NETWORKS.keys():
        parser.error(f"expected --networks of {', '.join(NETWORKS)} with ResNet-18, got {', '.join(options.networks)}")
    device = prepare(options)
    plain = {
        name: build_model(NETWORKS[name][0], width=options.width, **NETWORKS[name][1]).eval().to(device)
        for name in options.networks
    }
    exact = {name: accelerate(network, "exact", device) for name, network in plain.items()}
    fast = {name: accelerate(network, "fast", device) for name, network in plain.items()} if options.fast else {}
    with torch.inference_mode():
        for batch_size in options.batch_sizes:
            images = torch.rand(batch_size, 3, 32, 32, device=device)
            compare_networks(exact, images, options.rounds)
            for name in plain:
                compare_evaluation(plain[name], exact[name], fast.get(name), images, options.rounds)
        compare_layers(options.width, max(options.batch_sizes), device, options.rounds)


def compare_networks(networks: dict[str, Network], images: Tensor, rounds: int) -> None:
    """Inference of the networks as the harness runs them; the sparse ones also with the plain solver."""
    print(f"\ninference, batch {len(images)}, ratio to ResNet-18:")
    images = images.contiguous(memory_format=torch.channels_last)
    jobs = {name: partial(network, images) for name, network in networks.items()}
    sparse = [name for name, network in networks.items() if network.has_lam]
    also = {name: f"{name}, plain FISTA" for name in sparse}
    jobs |= {also[name]: partial(run_plain, networks[name], images) for name in sparse}
    seconds = alternate(jobs, rounds=rounds, device=images.device)
    print_ratios(seconds, per_call=len(images), baseline="ResNet-18", also=also)
    print_roofline({name: jobs[name] for name in networks}, seconds, images.device, len(images))


def compare_evaluation(plain: Network, exact: Network, fast: Network | None, images: Tensor, rounds: int) -> None:
    """The forms that ``--speed`` chooses from, next to an eager loop in float32 with the plain solver."""
    print(f"\nevaluation of {plain.config.arch}, batch {len(images)}, ratio to a plain eager loop:")
    laid_out = images.contiguous(memory_format=torch.channels_last)
    jobs = {"plain loop": partial(run_plain, plain, images), "--speed exact": partial(exact, laid_out)}
    if fast is not None:
        jobs["--speed fast"] = partial(fast, laid_out)
    seconds = alternate(jobs, rounds=rounds, device=images.device)
    print_ratios(seconds, per_call=len(images), baseline="plain loop")


def compare_layers(width: int, batch_size: int, device: torch.device, rounds: int) -> None:
    """The sparse-coding layer alone, forward, fused next to plain: at the input and between blocks."""
    for channels, size in ((3, 32), (width, 32), (4 * width, 8)):
        atoms = max(channels, width)
        layer = CSCConv2d(channels, atoms, image_size=size).to(memory_format=torch.channels_last).to(device)
        x = torch.rand(batch_size, channels, size, size, device=device).contiguous(memory_format=torch.channels_last)
        print(f"\nlayer {channels} → {atoms} at {size} × {size}, batch {batch_size}, ratio to plain:")
        jobs = {"plain": partial(run_plain, layer, x), "fused": partial(layer, x)}
        print_ratios(alternate(jobs, rounds=rounds, device=device), per_call=batch_size, baseline="plain")


if __name__ == "__main__":
    main()
