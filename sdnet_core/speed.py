"""Faster forms of a trained network for evaluation, with fewer passes over memory, or compiled."""

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
    """Make a faster copy of ``network`` on ``device`` for evaluation.

    ``"exact"``: float32 without TF32, BatchNorm folded into the convolutions before it, channels last. The logits equal
    the logits of the network up to rounding.
    ``"fast"``: the same, and everything after the sparse code is compiled, in bfloat16 on GPUs and on CPUs with
    instructions for it, and as CUDA graphs on GPUs. Predictions may change: measure how many.

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
    """Fold every BatchNorm after a plain convolution into the convolution, in place, without changing the function.

    W ← W γ/√(σ² + ε) and b = β − μ γ/√(σ² + ε), in eval mode. A sparse-coding layer ends with its shrinkage, so its
    BatchNorm cannot be folded.
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
    """Replace ``network.classify`` by its compiled form; the sparse code is not compiled, so that λ can vary."""
    if device.type == "cuda":
        compiled = torch.compile(network.classify, mode="reduce-overhead")
    else:
        if not any(shutil.which(name) for name in (os.environ.get("CXX", "g++"), "g++", "clang++")):
            raise PrerequisiteError(
                "--speed fast compiles the network and finds no C++ compiler; install g++ or clang++, or leave it out"
            )
        compiled = torch.compile(network.classify, options={"freezing": True})

    lowers = multiplies_bfloat16(device)

    def classify(code: Tensor, lam: Lambda | None = None) -> Tensor:
        with torch.autocast(device.type, torch.bfloat16, enabled=lowers):
            logits: Tensor = compiled(code, lam if network.config.lam_layers == "all" else None)
        return logits.float()

    network.classify = classify  # type: ignore[method-assign]


def multiplies_bfloat16(device: torch.device) -> bool:
    """Tell whether the device has instructions for bfloat16 products; bfloat16 is slower on CPUs without them."""
    if device.type == "cuda":
        return True
    known = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")  # torch does not have public names for these yet
    return any(getattr(torch.cpu, name, lambda: False)() for name in known)
