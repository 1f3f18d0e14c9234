from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from data_prep.corruptions.random import Streams, mix

SIGNIFICANCE = 1e-4


def streams(count: int = 1, key: str = "key") -> Streams:
    return Streams(key, torch.arange(count))


def test_words_are_those_of_splitmix64() -> None:
    """The published first outputs of SplitMix64 from the state 1234567."""
    gamma = 0x9E3779B97F4A7C15 - (1 << 64)
    words = mix(torch.arange(1, 6) * gamma + 1234567).numpy().view(np.uint64)
    expected = [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]
    assert words.tolist() == expected


def test_bits_are_fair_and_independent_of_one_another() -> None:
    bits = np.unpackbits(streams(64).bits(4096).numpy().view(np.uint8), axis=None).reshape(-1, 32)
    sigma = 0.5 / np.sqrt(len(bits))
    assert np.abs(bits.mean(axis=0) - 0.5).max() < 5 * sigma
    correlation = np.corrcoef(bits.T) - np.eye(32)
    assert np.abs(correlation).max() < 5.5 / np.sqrt(len(bits))


def test_uniform_numbers() -> None:
    values = streams(40).uniform(50, 500).numpy()
    assert values.shape == (40, 50, 500)
    assert values.min() >= 0
    assert values.max() < 1
    assert stats.kstest(values.ravel(), "uniform").pvalue > SIGNIFICANCE
    shifted = streams(3).uniform(1000, low=-45.0, high=45.0)
    assert -45 <= shifted.min() < -40 < 40 < shifted.max() < 45


def test_normal_numbers() -> None:
    values = streams(40).normal(50, 500).numpy().astype(np.float64)
    assert stats.kstest(values.ravel(), "norm").pvalue > SIGNIFICANCE
    n = values.size
    assert abs(values.mean()) < 5 / np.sqrt(n)
    assert abs(values.var() - 1) < 5 * np.sqrt(2 / n)
    assert abs(stats.skew(values.ravel())) < 5 * np.sqrt(6 / n)
    assert abs(stats.kurtosis(values.ravel())) < 0.01 + 5 * np.sqrt(24 / n)
    assert 4.2 < np.abs(values).max() < 4.4
    scaled = streams(40).normal(50, 500, mean=0.6, std=0.3).numpy()
    np.testing.assert_allclose(scaled, 0.6 + 0.3 * values, atol=1e-6)


def test_integers() -> None:
    values = streams(30).integers(2, 5000, low=-3, high=4)
    assert values.dtype == torch.int64
    counts = np.bincount(values.flatten().numpy() + 3, minlength=7)
    assert len(counts) == 7
    assert stats.chisquare(counts).pvalue > SIGNIFICANCE
    bounds = torch.arange(1, 31)
    bounded = streams(30).integers(low=0, high=bounds)
    assert (bounded >= 0).all()
    assert (bounded < bounds).all()


def test_every_image_has_a_stream_of_its_own_that_goes_on() -> None:
    drawn = streams(200).uniform(400).numpy()
    assert np.abs(np.corrcoef(drawn) - np.eye(200)).max() < 6 / np.sqrt(400)
    neighbours = np.corrcoef(drawn[:, :-1].ravel(), drawn[:, 1:].ravel())[0, 1]
    assert abs(neighbours) < 5 / np.sqrt(drawn.size)
    across = streams(2000)
    first, second = across.uniform().numpy(), across.uniform().numpy()
    assert stats.kstest(first, "uniform").pvalue > SIGNIFICANCE
    assert abs(np.corrcoef(first, second)[0, 1]) < 5 / np.sqrt(2000)
    assert abs(np.corrcoef(first[1:], first[:-1])[0, 1]) < 5 / np.sqrt(2000)


def test_an_image_s_numbers_depend_on_key_and_index_only() -> None:
    everyone = streams(10).bits(7, 3)
    some = Streams("key", torch.tensor([8, 2])).bits(7, 3)
    assert torch.equal(some, everyone[[8, 2]])
    for other in ("key2", "", "1/fog/3"):
        assert (streams(10, other).bits(7, 3) != everyone).double().mean() > 0.99


@pytest.mark.parametrize("shape", [(), (1,), (5,), (3, 7)])
def test_shapes(shape: tuple[int, ...]) -> None:
    for draw in (streams(4).bits, streams(4).uniform, streams(4).normal):
        assert draw(*shape).shape == (4, *shape)
    assert streams(4).integers(*shape, low=0, high=2).shape == (4, *shape)


@pytest.mark.gpu
def test_a_gpu_draws_the_same_numbers() -> None:
    here, there = streams(50), Streams("key", torch.arange(50, device="cuda"))
    assert torch.equal(here.bits(1001), there.bits(1001).cpu())
    assert torch.equal(here.uniform(77), there.uniform(77).cpu())
    assert torch.equal(here.normal(77), there.normal(77).cpu())
    assert torch.equal(here.integers(77, low=-4, high=4), there.integers(77, low=-4, high=4).cpu())
