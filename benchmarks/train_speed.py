"""Training: whole steps of SDNet-18 and SDNet-18-all next to ResNet-18, fused next to plain, and the memory they need.

    python benchmarks/train_speed.py                  batches of 32 and 128, full width
    python benchmarks/train_speed.py --precision bf16 --device cuda

A step is forward, backward, SGD and, for the sparse networks, the projection. All forms alternate within one process;
ratios are paired medians, above 1 is faster than ResNet-18. Memory is the peak on a GPU; on the CPU it is what autograd
keeps for the backward pass together with weights, gradients and momenta.
"""

from __future__ import annotations

from functools import partial

import torch
from core import NETWORKS
from pairing import alternate, make_parser, plain_solver, prepare, print_ratios, print_roofline, run_plain
from torch import Tensor
from torch.nn import functional

from sdnet_core import CSCConv2d, Network, build_model
from sdnet_core.training import memory_layout


def main() -> None:
    parser = make_parser(__doc__, rounds=5)
    parser.add_argument("--precision", choices=["float32", "bf16"], default="float32")
    options = parser.parse_args()
    device = prepare(options)
    layout = memory_layout(device, options.width)
    networks = {
        name: build_model(arch, width=options.width, **more).to(memory_format=layout).to(device)
        for name, (arch, more) in NETWORKS.items()
    }
    for batch_size in options.batch_sizes:
        images = torch.rand(batch_size, 3, 32, 32, device=device).contiguous(memory_format=layout)
        labels = torch.randint(10, (batch_size,), device=device)
        compare_steps(networks, images, labels, options.rounds, options.precision)
    compare_layers(options.width, max(options.batch_sizes), device, layout, options.rounds)


def compare_steps(networks: dict[str, Network], images: Tensor, labels: Tensor, rounds: int, precision: str) -> None:
    """Whole training steps, then the memory of each."""
    print(f"\ntraining, batch {len(images)}, {precision}, {layout_of(images)}, ratio to ResNet-18:")
    steps = {name: Step(network, images, labels, precision) for name, network in networks.items()}
    sparse = [name for name, network in networks.items() if network.has_lam]
    also = {name: f"{name}, plain FISTA" for name in sparse}
    jobs = {**steps, **{also[name]: partial(run_plain, steps[name]) for name in sparse}}
    seconds = alternate(jobs, rounds=rounds, device=images.device)
    print_ratios(seconds, per_call=len(images), baseline="ResNet-18", also=also)
    print_roofline(steps, seconds, images.device, len(images))
    reference = steps["ResNet-18"].measure_memory()
    for name, step in steps.items():
        forms = {name: step.measure_memory()}
        if name in also:
            with plain_solver():
                forms[also[name]] = step.measure_memory()
        for form, amount in forms.items():
            print(f"  {form}: {amount / 1e6:.0f} MB, {amount / reference:.2f} of ResNet-18")


class Step:
    """One training step of a network on a fixed batch."""

    def __init__(self, network: Network, images: Tensor, labels: Tensor, precision: str) -> None:
        self.network, self.images, self.labels, self.precision = network.train(), images, labels, precision
        self.optimiser = torch.optim.SGD(network.parameters(), lr=1e-4, momentum=0.9, nesterov=True, weight_decay=5e-4)

    def __call__(self) -> None:
        with torch.autocast(self.images.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            loss = functional.cross_entropy(self.network(self.images), self.labels)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.optimiser.step()
        self.network.project()

    def measure_memory(self) -> int:
        """Bytes: the peak on a GPU; on the CPU what autograd keeps for the backward pass, weights and SGD state."""
        if self.images.is_cuda:
            torch.cuda.reset_peak_memory_stats(self.images.device)
            self()
            return torch.cuda.max_memory_allocated(self.images.device)
        weights = {parameter.untyped_storage().data_ptr() for parameter in self.network.parameters()}
        kept: dict[int, Tensor] = {}

        def pack(tensor: Tensor) -> Tensor:
            kept[tensor.untyped_storage().data_ptr()] = tensor
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            self()
        activations = sum(t.untyped_storage().nbytes() for pointer, t in kept.items() if pointer not in weights)
        return activations + 3 * sum(p.numel() * p.element_size() for p in self.network.parameters())


def compare_layers(width: int, batch_size: int, device: torch.device, layout: torch.memory_format, rounds: int) -> None:
    """Forward and backward of the sparse-coding layer alone, fused next to plain."""
    for channels, size in ((3, 32), (width, 32), (4 * width, 8)):
        atoms = max(channels, width)
        layer = CSCConv2d(channels, atoms, image_size=size).to(memory_format=layout).to(device)
        x = torch.rand(batch_size, channels, size, size, device=device).contiguous(memory_format=layout)
        x.requires_grad_(channels > 3)
        print(f"\nlayer {channels} → {atoms} at {size} × {size}, batch {batch_size}, ratio to plain:")
        jobs = {"plain": partial(run_plain, there_and_back, layer, x), "fused": partial(there_and_back, layer, x)}
        print_ratios(alternate(jobs, rounds=rounds, device=device), per_call=batch_size, baseline="plain")


def there_and_back(layer: CSCConv2d, x: Tensor) -> None:
    """Forward, and backward from a gradient of ones."""
    code = layer(x)
    code.backward(torch.ones_like(code))


def layout_of(images: Tensor) -> str:
    """Memory format of the images."""
    return "channels last" if images.is_contiguous(memory_format=torch.channels_last) else "contiguous"


if __name__ == "__main__":
    main()
