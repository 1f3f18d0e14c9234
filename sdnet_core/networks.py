"""SDNet-18/34, their -all variants, and the ResNet baselines: one network, described by a frozen configuration."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from data_prep.errors import InputError
from sdnet_core.classifier import Classifier
from sdnet_core.config import ARCHITECTURES, CIFAR_MEAN, CIFAR_STD, IMAGENET_MEAN, IMAGENET_STD, NetworkConfig
from sdnet_core.noise_level import estimate_noise_level
from sdnet_core.sparse_coding import CSCConv2d, Lambda, SparseCoding, project

__all__ = [
    "ARCHITECTURES",
    "CIFAR_MEAN",
    "CIFAR_STD",
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "Block",
    "Network",
    "NetworkConfig",
    "Normalise",
]

_LARGEST_CIFAR_STEM = 64


class Normalise(nn.Module):
    """The map (x − mean)/std per channel, the first module of every network, whose inputs are images in [0, 1]."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1))

    def forward(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """Normalise images in [0, 1] to zero mean and unit variance."""
        return (images - self.mean) / self.std

    def inverse(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """Convert normalised pixels back to [0, 1] units."""
        return x * self.std + self.mean


class Block(nn.Module):
    """A basic residual block: two 3×3 convolutions, or two sparse-coding layers without a ReLU between them.

    Plain: relu(bn(conv(relu(bn(conv(x))))) + shortcut(x)).
    Sparse: relu(bn(csc(bn(csc(x)))) + shortcut(x)), and without the ReLU and the sum if there is no shortcut.
    """

    def __init__(
        self, config: NetworkConfig, in_channels: int, out_channels: int, stride: int, image_size: int
    ) -> None:
        super().__init__()
        self.sparse = ARCHITECTURES[config.arch].sparse_blocks
        self.conv1 = _convolution(config, in_channels, out_channels, stride=stride, image_size=image_size)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = _convolution(config, out_channels, out_channels, stride=1, image_size=-(-image_size // stride))
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.shortcut: nn.Module | None = None
        if config.shortcut:
            project = stride > 1 or in_channels != out_channels
            self.shortcut = (
                nn.Sequential(
                    nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False), nn.BatchNorm2d(out_channels)
                )
                if project
                else nn.Identity()
            )

    def forward(self, x: Tensor, lam: Lambda | None) -> Tensor:
        """Map (N, C, H, W) to (N, C', H/stride, W/stride); ``lam`` is for sparse layers, None keeps their own λ."""
        if self.sparse:
            out = self.bn2(self.conv2(self.bn1(self.conv1(x, lam)), lam))
        else:
            out = self.bn2(self.conv2(functional.relu_(self.bn1(self.conv1(x)))))
        return out if self.shortcut is None else functional.relu_(out.add_(self.shortcut(x)))


class Network(Classifier):
    """An image classifier whose first layer, and in the -all variants every layer, may be a sparse-coding layer.

    ``model(images, lam=0.3)`` maps images, float (N, 3, H, W) in [0, 1], to logits (N, num_classes). Without ``lam`` it
    uses the training λ. The call is ``classify(encode(images, lam))``: the two halves share the code of the input,
    which :meth:`residual` and :meth:`reconstruct` also use.

    Args:
        config: configuration of the network.
        converge: converge the step sizes of the random dictionaries, which takes seconds in an -all network; otherwise
            call :meth:`refresh` before the first call.

    Source: He et al., CVPR 2016, for the ResNets; Dai et al., NeurIPS 2022, section 4, for SDNet.
    """

    is_known = True

    def __init__(self, config: NetworkConfig, *, converge: bool = True) -> None:
        super().__init__()
        self.config = config
        architecture = ARCHITECTURES[config.arch]
        self.has_code = architecture.sparse_input
        self.num_classes, self.lam = config.num_classes, config.lam if self.has_code else None
        self.input_size = config.image_size, config.image_size
        large = config.image_size > _LARGEST_CIFAR_STEM
        width, size, channels = config.width, config.image_size, config.n_dict * config.width
        self.normalise = Normalise(config.mean, config.std)
        kernel, stride, padding = (7, 2, 3) if large else (3, 1, 1)
        self.input_layer: nn.Conv2d | CSCConv2d
        if architecture.sparse_input:
            geometry: dict[str, Any] = {"kernel_size": kernel, "stride": stride, "padding": padding, "image_size": size}
            self.input_layer = CSCConv2d(3, channels, **geometry, **_sparse_options(config))
        else:
            self.input_layer = nn.Conv2d(3, channels, kernel, stride=stride, padding=padding, bias=False)
        size = -(-size // stride)
        self.input_norm = nn.BatchNorm2d(channels)
        self.second_layer: CSCConv2d | None = None
        self.pool: nn.Module = nn.Identity()
        if large:
            if architecture.sparse_blocks:
                self.second_layer = CSCConv2d(channels, channels, stride=2, image_size=size, **_sparse_options(config))
            else:
                self.pool = nn.MaxPool2d(3, stride=2, padding=1)
            size = -(-size // 2)

        for index, n_blocks in enumerate(architecture.blocks):
            stage = nn.ModuleList()
            for position in range(n_blocks):
                stride = 2 if index > 0 and position == 0 else 1
                stage.append(Block(config, channels, width << index, stride, size))
                channels, size = width << index, -(-size // stride)
            self.add_module(f"layer{index + 1}", stage)
        self.linear = nn.Linear(channels, config.num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        if converge:
            self.refresh()

    def find_misfit(self, height: int, width: int) -> str:  # noqa: ARG002 - its card gives only the height
        """Return a clause on the height that the network was made for; empty if it was made for this height."""
        own = self.config.image_size
        return f"it was made for images {own} pixels high" if height != own else ""

    def accelerate(self, speed: str, device: torch.device) -> Network:
        """Make a faster copy on ``device``: see :func:`sdnet_core.speed.accelerate`."""
        from sdnet_core.speed import accelerate  # which imports this module

        return accelerate(self, speed, device)

    def describe(self) -> dict[str, Any]:
        """Return, as JSON values, everything besides the weights that determines predictions.

        Options newer than the first stored results are left out at their defaults, so that old keys stay valid.
        """
        described = dataclasses.asdict(self.config)
        if self.config.n_dict == 1:
            del described["n_dict"]
        return described

    def correlate(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n d oh ow"] | None:
        """Compute Aᵀx of the normalised images, which does not depend on λ; None for a network without λ."""
        x = self.normalise(images)
        return self.input_layer.analysis(x) if isinstance(self.input_layer, CSCConv2d) else None

    def encode(
        self,
        images: Float[Tensor, "n 3 h w"],
        lam: Lambda | None = None,
        correlation: Float[Tensor, "n d oh ow"] | None = None,
    ) -> Float[Tensor, "n d oh ow"]:
        """Compute the output of the input layer, which in an SDNet is the sparse code of the normalised images.

        Args:
            images: images in [0, 1].
            lam: λ, a number or a tensor (N,); None is the training λ.
            correlation: result of :meth:`correlate` for the same images, which saves time with several λs.

        Raises:
            InputError: λ was given to a network without λ, or is negative or not finite.
        """
        x = self.normalise(images)
        if isinstance(self.input_layer, CSCConv2d):
            return self.input_layer(x, lam, correlation)  # type: ignore[no-any-return]
        if lam is not None:
            raise InputError(f"expected no λ for {self.config.arch}, which has none, got lam={lam}; leave it out")
        return self.input_layer(x)  # type: ignore[no-any-return]

    def classify(self, code: Float[Tensor, "n d oh ow"], lam: Lambda | None = None) -> Float[Tensor, "n k"]:
        """Compute logits from the output of :meth:`encode`. ``lam`` has an effect only if ``lam_layers`` is "all"."""
        lam = lam if self.config.lam_layers == "all" else None
        x = self.input_norm(code)
        if not self.has_lam:
            x = functional.relu(x)
        x = self.pool(x)
        if self.second_layer is not None:
            x = self.second_layer(x, lam)
        for block in self.blocks():
            x = block(x, lam)
        logits: Tensor = self.linear(x.mean((2, 3)))
        return logits

    def residual(self, images: Float[Tensor, "n 3 h w"], code: Float[Tensor, "n d oh ow"]) -> Float[Tensor, " n"]:
        """Compute ‖x − Az‖² per image, with x the normalised image: summed squares in units of normalised pixels."""
        return self._sparse_input().residual(self.normalise(images), code)

    def noise_level(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, " n"]:
        """Estimate the noise level of each normalised image, in units of normalised pixels.

        See :func:`~sdnet_core.noise_level.estimate_noise_level`.
        """
        return estimate_noise_level(self.normalise(images))

    def reconstruct(
        self, images: Float[Tensor, "n 3 h w"], code: Float[Tensor, "n d oh ow"]
    ) -> Float[Tensor, "n 3 h w"]:
        """Compute A z as an image in [0, 1] units (not clipped), in the shape of ``images``."""
        reconstruction: Tensor = self.normalise.inverse(self._sparse_input().synthesis(code, images))
        return reconstruction

    def blocks(self) -> Iterator[Block]:
        """Yield the residual blocks from input to output."""
        for index in range(4):
            for block in self.get_submodule(f"layer{index + 1}").children():
                assert isinstance(block, Block)
                yield block

    def sparse_layers(self) -> Iterator[SparseCoding]:
        """Yield all sparse-coding layers from input to output."""
        return (module for module in self.modules() if isinstance(module, SparseCoding))

    def refresh(self) -> None:
        """Scale atoms to unit norm and converge every step size, after weights were set from outside."""
        for layer in self.sparse_layers():
            assert isinstance(layer, CSCConv2d)
            layer.refresh()

    def project(self) -> None:
        """Scale atoms to unit norm and update every step size by one power iteration, after an optimiser step."""
        project(self.sparse_layers())

    def _sparse_input(self) -> CSCConv2d:
        if not isinstance(self.input_layer, CSCConv2d):
            raise self.lacks_code()
        return self.input_layer


def _sparse_options(config: NetworkConfig) -> dict[str, Any]:
    options = {"lam": config.lam, "mu": config.mu, "n_steps": config.n_steps, "robust": config.robust}
    return {**options, "converge": False}


def _convolution(
    config: NetworkConfig, in_channels: int, out_channels: int, *, stride: int, image_size: int
) -> nn.Module:
    if ARCHITECTURES[config.arch].sparse_blocks:
        return CSCConv2d(in_channels, out_channels, stride=stride, image_size=image_size, **_sparse_options(config))
    return nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False)
