from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import ndimage

from data_prep.corruptions import edges, filters
from data_prep.corruptions.blur import shuffle_sources
from data_prep.corruptions.elastic import _sample
from data_prep.corruptions.filters import motion_blur_levels
from data_prep.corruptions.random import Streams
from data_prep.corruptions.spatter import _equalise
from data_prep.corruptions.weather import plasma
from data_prep.corruptions.zoom import crop_span, mean_zoom, zoom_matrix

CPU = torch.device("cpu")


def levels(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 256, shape).astype(np.float32))


@pytest.mark.parametrize("sigma", [0.05, 0.4, 1.0, 2.24, 6.0])
@pytest.mark.parametrize(("border", "truncate"), [("nearest", 4.0), ("reflect", 3.0)])
def test_gaussian_is_scipy_s(sigma: float, border: filters.Border, truncate: float) -> None:
    values = levels(2, 3, 37, 45)
    result = filters.gaussian(values, sigma, border=border, truncate=truncate)
    exact = ndimage.gaussian_filter(values.double().numpy(), (0, 0, sigma, sigma), mode=border, truncate=truncate)
    difference = np.abs(result.numpy() - exact)
    assert difference.max() < 0.25
    assert difference.mean() < 0.04
    along_width = filters.gaussian(values, (0.0, sigma), border=border, truncate=truncate)
    exact = ndimage.gaussian_filter(values.double().numpy(), (0, 0, 0, sigma), mode=border, truncate=truncate)
    assert np.abs(along_width.numpy() - exact).mean() < 0.04


def test_mirroring_at_the_edge_folds_as_often_as_it_takes() -> None:
    values = levels(1, 1, 1, 4)
    expected = np.pad(values[0, 0].numpy(), ((0, 0), (13, 13)), mode="symmetric")
    np.testing.assert_array_equal(filters.extend(values, 3, 13, "reflect")[0, 0], expected)


def test_fixed_point_keeps_the_sums() -> None:
    rng = np.random.default_rng(0)
    weights = rng.random(1000)
    group = np.sort(rng.integers(0, 40, 1000))
    sums = np.bincount(group, weights)
    whole = filters.fixed_point(weights / sums[group], 1 << 12, group)
    np.testing.assert_array_equal(np.bincount(group, whole), 1 << 12)
    assert np.abs(whole - weights / sums[group] * (1 << 12)).max() < 1
    assert filters.fixed_point(np.array([[1 / 3, 1 / 3], [1 / 3, 0.0]])).sum() == filters.WEIGHT_ONE


def test_correlation_is_exact() -> None:
    values = levels(2, 3, 20, 33)
    kernel = torch.from_numpy(filters.fixed_point(np.random.default_rng(1).dirichlet(np.ones(25)).reshape(5, 5)))
    result = filters.correlate(values, kernel)
    exact = [
        [ndimage.correlate(plane.numpy().astype(np.int64), kernel.numpy(), mode="mirror") for plane in image]
        for image in values
    ]
    np.testing.assert_array_equal(result.numpy().astype(np.int64), exact)


@pytest.mark.parametrize("degrees", [-135.0, -90.0, -44.9, 0.0, 17.3, 45.0])
def test_motion_blur_is_its_definition(degrees: float) -> None:
    height, width, radius, sigma = 21, 26, 6, 2.5
    values = levels(2, 1, height, width)
    angles = torch.tensor([degrees, 3.0])
    result = motion_blur_levels(values, radius, sigma, angles)[0, 0].numpy()
    weights = np.exp(-(np.arange(2 * radius + 1) ** 2) / (2 * sigma**2))
    expected = np.zeros((height, width))
    for step, weight in enumerate(weights / weights.sum()):
        down = math.ceil(step * math.sin(math.radians(degrees)) - 0.5)
        right = math.ceil(step * math.cos(math.radians(degrees)) - 0.5)
        rows = np.clip(np.arange(height) + down, 0, height - 1)
        columns = np.clip(np.arange(width) + right, 0, width - 1)
        expected += weight * values[0, 0].numpy()[rows[:, None], columns]
    np.testing.assert_allclose(result, expected, atol=0.02)


def test_a_motion_longer_than_the_image_repeats_its_border() -> None:
    white = torch.full((1, 1, 32, 32), 255.0)
    np.testing.assert_array_equal(motion_blur_levels(white, 20, 15.0, torch.zeros(1)).numpy(), white.numpy())


def test_a_wide_gaussian_is_scipy_s() -> None:
    values = np.random.default_rng(0).uniform(-1, 1, (40, 56))
    sigmas = (0.7 * 40, 0.9 * 56)
    down, across = (
        filters.gaussian_matrix(size, sigma, 3.0, CPU).numpy() for size, sigma in zip(values.shape, sigmas, strict=True)
    )
    exact = ndimage.gaussian_filter(values, sigmas, mode="reflect", truncate=3.0)
    np.testing.assert_allclose(down @ values @ across.T, exact, atol=1e-12)


@pytest.mark.parametrize(("length", "factor"), [(31, 1.06), (50, 4.5), (32, 1.0), (7, 2.25)])
def test_zoom_is_scipy_s(length: int, factor: float) -> None:
    values = np.random.default_rng(0).random(length)
    expected = ndimage.zoom(values, factor, order=1)
    np.testing.assert_allclose(zoom_matrix(length, factor) @ values, expected, atol=1e-9)


def test_mean_zoom_is_the_mean_of_zooms() -> None:
    height, width, stop, step = 33, 40, 1.16, 0.01
    picture = np.random.default_rng(0).random((height, width))
    expected = picture.copy()
    factors = np.arange(1, stop, step)
    for factor in factors:
        (top, rows), (left, columns) = crop_span(height, factor), crop_span(width, factor)
        crop = picture[top : top + rows, left : left + columns]
        expected += ndimage.zoom(crop, factor, order=1)[:height, :width]
    sources, weights, starts = mean_zoom(height, width, stop, step, CPU)
    ends = np.append(starts[1:], len(weights))
    result = [
        weights[start:end].numpy() @ picture.ravel()[sources[start:end]]
        for start, end in zip(starts, ends, strict=True)
    ]
    expected = expected.ravel() / (len(factors) + 1)
    np.testing.assert_allclose(np.array(result) / filters.WEIGHT_ONE, expected, atol=2e-4)


@pytest.mark.parametrize(("reach", "passes"), [(1, 1), (1, 2), (2, 1), (3, 2), (4, 3)])
def test_the_shuffle_is_the_sequential_walk(reach: int, passes: int) -> None:
    height, width = 19, 23
    sources = shuffle_sources(height, width, reach, passes, Streams("key", torch.arange(3)))
    same = Streams("key", torch.arange(3))
    rows, columns = range(reach + 1, height - reach + 1), range(reach + 1, width - reach + 1)
    expected = torch.arange(height * width).view(1, height, width).repeat(3, 1, 1)
    for _ in range(passes):
        offsets = same.integers(2, len(rows), len(columns), low=-reach, high=reach)
        for image, row, column in itertools.product(range(3), reversed(rows), reversed(columns)):
            right, down = offsets[image, :, row - rows.start, column - columns.start].tolist()
            expected[image, row, column] = expected[image, row + down, column + right]
    assert torch.equal(sources, expected.flatten(1))


def test_plasma_is_a_smooth_map_from_0_to_1() -> None:
    maps = plasma(64, 2.0, Streams("key", torch.arange(20)))
    assert maps.shape == (20, 64, 64)
    assert (maps.amin(dim=(1, 2)) == 0).all()
    assert (maps.amax(dim=(1, 2)) == 1).all()
    rougher = plasma(64, 1.4, Streams("key", torch.arange(20)))
    steps = [(it.roll(1, 2) - it).abs().mean() for it in (maps, rougher)]  # also across the seam: the map is a torus
    assert steps[0] < 0.7 * steps[1] < 0.1
    assert (maps[0] != maps[1]).any()


@pytest.mark.parametrize("mirror", ["centre", "edge"])
def test_sampling_beyond_the_border_is_scipy_s(mirror: str) -> None:
    values = levels(1, 1, 9, 12)
    rng = np.random.default_rng(0)
    rows, columns = rng.uniform(-8, 16, (1, 30, 30)), rng.uniform(-11, 22, (1, 30, 30))
    mode = "mirror" if mirror == "centre" else "reflect"
    expected = ndimage.map_coordinates(values[0, 0].numpy(), (rows[0], columns[0]), order=1, mode=mode)
    result = _sample(values, torch.from_numpy(rows), torch.from_numpy(columns), mirror=mirror)
    np.testing.assert_allclose(result[0, 0], expected, atol=0.01)


def test_distance_is_the_shortest_path_of_king_and_knight_steps() -> None:
    mask = torch.from_numpy(np.random.default_rng(0).random((3, 30, 37)) < 0.004)
    mask[2] = False
    costs = {(0, 1): 1.0, (1, 1): edges.DIAGONAL, (1, 2): edges.KNIGHT}
    expected = np.where(mask, 0.0, 20.0)
    for _ in range(20):
        for down, right in itertools.product(range(-2, 3), repeat=2):
            steps = min(abs(down), abs(right)), max(abs(down), abs(right))
            if (cost := costs.get(steps)) is not None:
                padded = np.pad(expected, ((0, 0), (2, 2), (2, 2)), constant_values=20.0)
                moved = padded[:, 2 + down : 32 + down, 2 + right : 39 + right]
                expected = np.minimum(expected, moved + cost)
    np.testing.assert_allclose(edges.distance_to(mask, 20), expected, atol=1e-4)


def test_equalisation_spreads_the_levels() -> None:
    picture = torch.tensor([[[3, 3], [5, 9]], [[4, 4], [4, 4]]])
    assert _equalise(picture, 21).tolist() == [[[0, 0], [128, 255]], [[4, 4], [4, 4]]]
