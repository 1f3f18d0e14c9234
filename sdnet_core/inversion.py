"""Feature inversion: images reconstructed from the codes of a layer, back through the network layer by layer."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from data_prep.errors import InputError
from sdnet_core.networks import ARCHITECTURES, Network
from sdnet_core.sparse_coding import CSCConv2d, Lambda


@dataclass(frozen=True)
class LayerCode:
    """The input and output of a sparse-coding layer.

    Args:
        name: name of the layer in the network, ``"layer1.0.conv2"``.
        layer: the layer itself.
        signal: its input x (N, C, H, W).
        code: its output z (N, D, H', W').
    """

    name: str
    layer: CSCConv2d
    signal: Float[Tensor, "n c h w"]
    code: Float[Tensor, "n d oh ow"]

    def sparsity(self) -> Float[Tensor, " n"]:
        """Compute the fraction of zeros in the code of each image."""
        return (self.code == 0).flatten(1).float().mean(1)

    @torch.no_grad()
    def misfit(self) -> Float[Tensor, " n"]:
        """Compute ‖x − Az‖²/‖x‖² of each image: the part of its input that the layer does not explain."""
        return self.layer.residual(self.signal, self.code) / self.signal.flatten(1).square().sum(1)


def named_sparse_layers(model: Network) -> dict[str, CSCConv2d]:
    """List the sparse-coding layers by name, from input to output.

    Raises:
        InputError: the network has none.
    """
    layers = {name: module for name, module in model.named_modules() if isinstance(module, CSCConv2d)}
    if not layers:
        raise model.lacks_code()
    return layers


def invertible_layers(model: Network) -> list[str]:
    """List the layers whose codes can be inverted to an image: all before the network's first sum, ReLU or pooling."""
    names = list(named_sparse_layers(model))
    return [name for name in names if not name.startswith("layer") or name.startswith("layer1.0.") or _is_chain(model)]


def explain_limit(model: Network) -> str | None:
    """Explain in a sentence why some layers cannot be inverted to an image; None if all can."""
    if _is_chain(model):
        return None
    last = invertible_layers(model)[-1]
    if ARCHITECTURES[model.config.arch].sparse_blocks:
        reason = "a block adds its shortcut to its codes, and a sum does not tell its parts"
    else:
        reason = "behind it are convolutions with ReLU, which have no synthesis A z to go back by"
    return f"reconstructions end at {last}: {reason}"


@torch.no_grad()
def record_codes(model: Network, images: Float[Tensor, "n 3 h w"], lam: Lambda | None = None) -> list[LayerCode]:
    """Record input and code of every sparse-coding layer in one forward pass of ``model`` (in eval mode).

    Args:
        model: an SDNet.
        images: images in [0, 1].
        lam: λ of the call, as in :meth:`Network.forward`; None is the training λ.

    Raises:
        InputError: a network without sparse code, a λ out of range.
    """
    records: list[LayerCode] = []
    with ExitStack() as hooks:
        for name, layer in named_sparse_layers(model).items():
            hooks.callback(layer.register_forward_hook(partial(_keep, records, name)).remove)
        model(images, lam)
    return records


def _keep(records: list[LayerCode], name: str, layer: CSCConv2d, inputs: tuple[Any, ...], code: Tensor) -> None:
    """Record one layer's call, as a forward hook."""
    records.append(LayerCode(name, layer, inputs[0], code))


@torch.no_grad()
def invert_codes(model: Network, records: Sequence[LayerCode]) -> Float[Tensor, "n 3 h w"]:
    """Reconstruct the images from the code of the last of ``records``, in [0, 1] units, not clipped.

    With the layers z₁ = csc₁(x) and zₗ = cscₗ(BNₗ₋₁(zₗ₋₁)): ẑₗ₋₁ = BNₗ₋₁⁻¹(Aₗ ẑₗ) from ẑ = z of the last layer down to
    x̂ = A₁ ẑ₁, then the normalisation undone.

    Args:
        model: the network of the records.
        records: records of :func:`record_codes` from the input layer to the layer to invert.

    Raises:
        InputError: the last layer is not in :func:`invertible_layers`.

    Source: Dai et al., NeurIPS 2022, the visualisation of learnt features; the ε of BatchNorm is part of the inverse.
    """
    *earlier, last = records
    if last.name not in invertible_layers(model):
        raise InputError(
            f"the code of {last.name} does not lead back to an image, as {explain_limit(model)}; choose an earlier "
            "layer"
        )
    signal = last.layer.synthesis(last.code, last.signal)
    for record in reversed(earlier):
        code = invert_norm(norm, signal) if (norm := _norm_after(model, record.name)) else signal
        signal = record.layer.synthesis(code, record.signal)
    images: Tensor = model.normalise.inverse(signal)
    return images


def invert_norm(norm: nn.BatchNorm2d, y: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
    """Solve BN(x) = y in eval mode: x = (y − β)·√(σ² + ε)/γ + m; a channel with γ = 0 returns its mean m."""
    mean, variance = norm.running_mean, norm.running_var
    assert mean is not None
    assert variance is not None
    scale = torch.where(norm.weight == 0, 0.0, (variance + norm.eps).sqrt() / norm.weight)
    return (y - norm.bias.view(-1, 1, 1)) * scale.view(-1, 1, 1) + mean.view(-1, 1, 1)


def _is_chain(model: Network) -> bool:
    return ARCHITECTURES[model.config.arch].sparse_blocks and not model.config.shortcut


def _norm_after(model: Network, name: str) -> nn.BatchNorm2d | None:
    """Find the BatchNorm that follows a layer; the second layer of the ImageNet stem has none."""
    if name == "second_layer":
        return None
    norm = model.get_submodule("input_norm" if name == "input_layer" else name.replace(".conv", ".bn"))
    assert isinstance(norm, nn.BatchNorm2d)
    return norm
