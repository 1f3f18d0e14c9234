"""Random numbers by address: a draw depends on the key, the image and the position, never on earlier draws.

Every image owns a stream of 64-bit words, SplitMix64 in its counter form,

    word(j) = mix(start + (j + 1) γ),   start = mix(mix(a + γ index) ⊕ b),   γ = 0x9E3779B97F4A7C15   (mod 2⁶⁴)

where a and b are words of the SHA-256 of the key. All of it is wrapping integer arithmetic on int64 tensors, so a CPU
and a GPU give the same words. Streams are windows of one cycle of 2⁶⁴ words; the probability that any two of a
million images of 224 × 224 share a part of it is below 1 %.

Source: Steele, Lea & Flood, "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014 (SplitMix64, known by its
finaliser's two multipliers).
"""

from __future__ import annotations

import hashlib
import math
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy import special
from torch import Tensor

GAMMA = 0x9E3779B97F4A7C15
MULTIPLIERS = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
SHIFTS = (30, 27, 31)


class Streams:
    """One stream of random numbers per image; every call takes the next numbers of every stream.

    key: any text that names the purpose of the streams; equal keys give equal streams.
    indices: int64 (N,), the identity of each image.
    """

    def __init__(self, key: str, indices: Int[Tensor, " n"]) -> None:
        digest = hashlib.sha256(key.encode()).digest()
        first, second = (_signed(int.from_bytes(digest[k : k + 8], "little")) for k in (0, 8))
        self._start = mix(mix(indices * _signed(GAMMA) + first) ^ second)
        self._position = 0

    @property
    def device(self) -> torch.device:
        """Device on which the numbers are drawn."""
        return self._start.device

    def __len__(self) -> int:
        return len(self._start)

    def bits(self, *shape: int) -> Int[Tensor, "n ..."]:
        """Draw int32 (N, *shape), all 32 bits uniform and independent."""
        count = math.prod(shape)
        words = (count + 1) // 2
        counters = torch.arange(self._position + 1, self._position + words + 1, device=self.device)
        self._position += words
        values = mix(self._start[:, None] + counters * _signed(GAMMA)).view(torch.int32)
        return values[:, :count].reshape(len(self), *shape)

    def uniform(self, *shape: int, low: float = 0.0, high: float = 1.0) -> Float[Tensor, "n ..."]:
        """Draw float32 (N, *shape) from the uniform distribution on [low, high), in steps of (high − low) 2⁻²⁴."""
        fractions = (self.bits(*shape) >> 8).bitwise_and_(0xFFFFFF).to(torch.float32).mul_(2.0**-24)
        return fractions.mul_(high - low).add_(low)

    def normal(self, *shape: int, mean: float = 0.0, std: float = 1.0) -> Float[Tensor, "n ..."]:
        """Draw float32 (N, *shape) from N(mean, std²), by inversion at 2¹⁶ equally likely points.

        A look-up replaces the logarithm, so all devices agree to the bit. The variance is exact; tails end at 4.3 std.
        """
        count = math.prod(shape)
        halves = self.bits((count + 1) // 2).view(torch.int16)[:, :count].to(torch.int32)
        values = _normal_points(self.device).index_select(0, halves.add_(1 << 15).view(-1))
        return values.mul_(std).add_(mean).view(len(self), *shape)

    def integers(self, *shape: int, low: int, high: int | Int[Tensor, "n ..."]) -> Int[Tensor, "n ..."]:
        """Draw int64 (N, *shape) uniformly from low, …, high − 1; the bias is below (high − low) 2⁻³².

        high: above ``low``; a tensor that broadcasts with (N, *shape) gives every number its own bound.
        """
        return (((self.bits(*shape).long() & 0xFFFFFFFF) * (high - low)) >> 32).add_(low)


def mix(words: Int[Tensor, "*shape"]) -> Int[Tensor, "*shape"]:
    """Scramble 64-bit words one to one by the finaliser of SplitMix64. ``words`` is not changed."""
    words = words ^ _shift_right(words, SHIFTS[0])
    words *= _signed(MULTIPLIERS[0])
    words ^= _shift_right(words, SHIFTS[1])
    words *= _signed(MULTIPLIERS[1])
    words ^= _shift_right(words, SHIFTS[2])
    return words


def _shift_right(words: Int[Tensor, "*shape"], places: int) -> Int[Tensor, "*shape"]:
    """Shift without copying the sign: torch's own shift of int64 is arithmetic."""
    return (words >> places).bitwise_and_((1 << (64 - places)) - 1)


def _signed(word: int) -> int:
    """Convert a word to the int64 with the same 64 bits."""
    return word - (1 << 64) if word >> 63 else word


@lru_cache(maxsize=8)
def _normal_points(device: torch.device) -> Float[Tensor, " 65536"]:
    """Compute the quantiles of N(0, 1) at (k + ½) 2⁻¹⁶, scaled to variance 1, float32."""
    points = special.ndtri((np.arange(1 << 16) + 0.5) / (1 << 16))
    return torch.from_numpy((points / points.std()).astype(np.float32)).to(device)
