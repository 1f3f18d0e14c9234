from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from data_prep.corruptions import noise
from data_prep.corruptions.noise import alias_table, transmit
from data_prep.corruptions.random import Streams

CHANNELS = [
    (noise.gaussian_channel, (0.02, 0.1, 0.38)),
    (noise.speckle_channel, (0.06, 0.6)),
    (noise.shot_channel, (500, 60, 3)),
    (noise.impulse_channel, (0.01, 0.3)),
]
EVERY_CHANNEL = pytest.mark.parametrize(("channel", "parameter"), [(c, p) for c, rows in CHANNELS for p in rows])


def formula(channel: noise.Channel, x: np.ndarray, parameter: float, rng: np.random.Generator) -> np.ndarray:
    """Draw directly the distribution that the channel stands for."""
    if channel is noise.gaussian_channel:
        return x + rng.normal(0, parameter, x.shape)
    if channel is noise.speckle_channel:
        return x + x * rng.normal(0, parameter, x.shape)
    if channel is noise.shot_channel:
        return rng.poisson(x * parameter) / parameter
    lost, salt = rng.random(x.shape) < parameter, rng.random(x.shape) < 0.5
    return np.where(lost, salt, x)


def decode(table: torch.Tensor) -> np.ndarray:
    """The probabilities that an alias table stands for."""
    packed = table.numpy().astype(np.int64).reshape(256, 256)
    kept = ((packed >> 8) + (1 << 23)) / (1 << 24)
    probability = kept / 256
    for column in range(256):
        np.add.at(probability, (np.arange(256), packed[:, column] % 256), (1 - kept[:, column]) / 256)
    return probability


@EVERY_CHANNEL
def test_channel_is_the_distribution_of_the_formula(channel: noise.Channel, parameter: float) -> None:
    probability = channel(parameter)
    assert probability.shape == (256, 256)
    assert probability.min() >= 0
    np.testing.assert_allclose(probability.sum(axis=1), 1, atol=1e-12)
    rng, draws = np.random.default_rng(0), 100_000
    for value in (0, 1, 50, 128, 254, 255):
        drawn = formula(channel, np.full(draws, value / 255.0), parameter, rng)
        counts = np.bincount((np.clip(drawn, 0, 1) * 255).astype(np.uint8), minlength=256)
        expected = probability[value] * draws
        assert counts[expected == 0].sum() == 0
        common = expected >= 5
        rest = [counts[~common].sum()], [expected[~common].sum()]
        observed, wanted = np.append(counts[common], rest[0]), np.append(expected[common], rest[1])
        seen = wanted > 1e-9
        if seen.sum() > 1:
            wanted *= observed[seen].sum() / wanted[seen].sum()
            assert stats.chisquare(observed[seen], wanted[seen]).pvalue > 1e-4


@EVERY_CHANNEL
def test_alias_table_holds_the_channel(channel: noise.Channel, parameter: float) -> None:
    probability = channel(parameter)
    np.testing.assert_allclose(decode(alias_table(probability)), probability, atol=2.0**-32 * 16)


def test_transmission_draws_from_the_table() -> None:
    probability = noise.gaussian_channel(0.1)
    pixels = torch.full((40, 50, 64, 3), 30, dtype=torch.uint8)
    drawn = transmit(pixels, alias_table(probability), Streams("key", torch.arange(40)))
    assert drawn.dtype == torch.uint8
    counts = np.bincount(drawn.flatten().numpy(), minlength=256)
    expected = probability[30] * drawn.numel()
    common = expected >= 5
    expected *= counts[common].sum() / expected[common].sum()
    assert stats.chisquare(counts[common], expected[common]).pvalue > 1e-4
    assert counts[~common].sum() < 60


def test_no_noise_is_no_change() -> None:
    for channel in (noise.gaussian_channel, noise.speckle_channel, noise.impulse_channel):
        np.testing.assert_array_equal(channel(0.0), np.eye(256))
