"""Faster forms of a trained network for evaluation: the same function in fewer passes over memory, or compiled."""

from __future__ import annotations

import copy
import os
import shutil

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from data_prep.errors import PrerequisiteError
from sdnet_core.networks import Block, Network
from sdnet_core.sparse_coding import Lambda


def accelerate(network: Network, speed: str, device: torch.device) -> Network:
    """A copy of ``network`` on ``device`` for evaluation.

    ``"exact"``: float32 without TF32, BatchNorm folded into the convolutions before it, channels last. The logits are
    those of the network to rounding.
    ``"fast"``: the same, and everything behind the sparse code compiled, in bfloat16 on GPUs and on CPUs that have
    instructions for it, on a GPU as CUDA graphs. Predictions may change: measure how many.

    Raises:
        PrerequisiteError: ``"fast"`` on the CPU without a C++ compiler.
    """
    fast = copy.deepcopy(network).eval()
    fold_batch_norms(fast)
    fast.to(memory_format=torch.channels_last).to(device)
    if device.type == "cuda":
        torch.backends.cudnn.allow_tf32 = False
    if speed == "fast":
        _compile(fast, device)
    return fast


def fold_batch_norms(network: Network) -> None:
    """Multiply every BatchNorm that follows a plain convolution into it, in place; in eval mode the function stays.

    W ← W γ/√(σ² + ε) and b = β − μ γ/√(σ² + ε). Behind a sparse-coding layer stands the shrinkage, so that its
    BatchNorm stays.
    """
    if isinstance(network.input_layer, nn.Conv2d):
        network.input_layer = fuse_conv_bn_eval(network.input_layer, network.input_norm)
        network.input_norm = nn.Identity()  # type: ignore[assignment]
    for block in network.blocks():
        _fold_block(block)


def _fold_block(block: Block) -> None:
    for convolution, norm in (("conv1", "bn1"), ("conv2", "bn2")):
        layer = getattr(block, convolution)
        if isinstance(layer, nn.Conv2d):
            setattr(block, convolution, fuse_conv_bn_eval(layer, getattr(block, norm)))
            setattr(block, norm, nn.Identity())
    if isinstance(block.shortcut, nn.Sequential):
        block.shortcut = fuse_conv_bn_eval(*block.shortcut)


def _compile(network: Network, device: torch.device) -> None:
    """Replace ``network.classify`` by its compiled form; the sparse code before it stays as it is, for λ to be free."""
    if device.type == "cuda":
        compiled = torch.compile(network.classify, mode="reduce-overhead")
    else:
        if not any(shutil.which(name) for name in (os.environ.get("CXX", "g++"), "g++", "clang++")):
            raise PrerequisiteError(
                "--speed fast compiles the network and finds no C++ compiler: install g++ or clang++, or leave it out"
            )
        compiled = torch.compile(network.classify, options={"freezing": True})

    lowers = multiplies_bfloat16(device)

    def classify(code: Tensor, lam: Lambda | None = None) -> Tensor:
        with torch.autocast(device.type, torch.bfloat16, enabled=lowers):
            logits: Tensor = compiled(code, lam if network.config.lam_layers == "all" else None)
        return logits.float()

    network.classify = classify  # type: ignore[method-assign]


def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether the device has instructions for products in bfloat16; CPUs without them are slower in it."""
    if device.type == "cuda":
        return True
    known = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")  # torch has no public name for them yet
    return any(getattr(torch.cpu, name, lambda: False)() for name in known)
