import numpy as np
import pytest
import torch

from sdnet_core import load_model
from sdnet_core.noise_level import estimate_noise_level


@pytest.mark.parametrize("sigma", [0.02, 0.3, 5.0])
def test_white_noise_has_its_own_level(sigma):
    noise = sigma * torch.randn(8, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    assert estimate_noise_level(noise).tolist() == pytest.approx([sigma] * 8, rel=0.05)
    assert float(estimate_noise_level(noise).mean()) == pytest.approx(sigma, rel=0.02)


def test_flat_parts_ramps_and_straight_edges_have_no_noise_and_hide_none():
    rows, columns = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
    smooth = torch.stack([torch.full_like(rows, 7), 3 * rows - columns, (rows > 9).float(), (columns % 2)])[:, None]
    smooth = smooth.repeat(1, 3, 1, 1).double()
    assert estimate_noise_level(smooth).tolist() == pytest.approx([0] * 4, abs=1e-12)
    noise = torch.randn(smooth.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    assert torch.allclose(estimate_noise_level(smooth + noise), estimate_noise_level(noise))


def test_the_level_scales_with_the_image_and_ignores_the_rest_of_the_batch():
    x = torch.randn(5, 3, 17, 12, generator=torch.Generator().manual_seed(2))
    assert torch.allclose(estimate_noise_level(-4 * x + 1), 4 * estimate_noise_level(x), rtol=1e-5)
    assert torch.equal(estimate_noise_level(x)[2:3], estimate_noise_level(x[2:3]))


def test_a_network_measures_its_normalised_images():
    network = load_model("sdnet18-shapes")
    images = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(3))
    mean, std = (torch.tensor(values)[:, None, None] for values in (network.config.mean, network.config.std))
    scaled = (images - mean) / std
    np.testing.assert_allclose(network.noise_level(images), estimate_noise_level(scaled), rtol=1e-5)
