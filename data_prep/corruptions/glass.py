"""The local shuffle of glass blur: a sequential process, solved for all pixels at once.

The original generator walks over the pixels p from the bottom right to the top left and gives each the colour of a
random neighbour s(p). (It is meant to swap the two, but its two NumPy views share their memory, so the neighbour keeps
its colour.) A pixel thus gets the original colour of s(p), or, if s(p) was visited before p, the new colour of s(p).
These links form a forest, whose chains pointer doubling resolves in a few steps.
"""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor

from data_prep.corruptions.random import Streams


def shuffle_sources(height: int, width: int, reach: int, passes: int, streams: Streams) -> Int[Tensor, "n p"]:
    """Compute the source of the colour of each of the p = h w pixels, (N, p), after ``passes`` walks.

    A walk visits the rows and columns from side − reach down to reach + 1; a neighbour is −reach to reach − 1 away.
    """
    everywhere = torch.arange(height * width, device=streams.device).expand(len(streams), -1)
    sources = everywhere
    for _ in range(passes):
        step = _one_pass(height, width, reach, streams)
        sources = sources.gather(1, step)
    return sources


def _one_pass(height: int, width: int, reach: int, streams: Streams) -> Int[Tensor, "n p"]:
    """Compute the source of each pixel's colour after one walk."""
    device = streams.device
    rows = torch.arange(reach + 1, height - reach + 1, device=device)[:, None]
    columns = torch.arange(reach + 1, width - reach + 1, device=device)
    right, down = streams.integers(2, len(rows), len(columns), low=-reach, high=reach).unbind(1)
    neighbour = (rows + down) * width + (columns + right)
    visited = torch.zeros(height, width, dtype=torch.bool, device=device)
    visited[reach + 1 : height - reach + 1, reach + 1 : width - reach + 1] = True

    everywhere = torch.arange(height * width, device=device)
    source = everywhere.expand(len(streams), -1).clone()
    source.view(-1, height, width)[:, reach + 1 : height - reach + 1, reach + 1 : width - reach + 1] = neighbour
    follows = (source > everywhere) & visited.view(-1)[source]
    chain = (source - everywhere).mul_(follows).add_(everywhere)
    while not torch.equal(chain, further := chain.gather(1, chain)):
        chain = further
    return source.gather(1, chain)
