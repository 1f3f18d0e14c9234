"""The knobs of ``examples/knobs.py``: nothing at 0, what they say elsewhere."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch
from torch import nn

from sdnet_core.noise_level import estimate_noise_level

spec = importlib.util.spec_from_file_location("knobs", Path(__file__).parents[2] / "examples" / "knobs.py")
assert spec
assert spec.loader
knobs = importlib.util.module_from_spec(spec)
spec.loader.exec_module(knobs)

IMAGES = torch.rand((4, 3, 32, 32), generator=torch.Generator().manual_seed(0))


@pytest.fixture(params=["blurred", "thresholded", "adapted"])
def knob(request: pytest.FixtureRequest) -> nn.Module:
    return getattr(knobs, request.param)().eval().requires_grad_(False)  # type: ignore[no-any-return]


def test_a_knob_at_0_is_the_classifier_itself(knob):
    torch.testing.assert_close(knob(IMAGES, 0.0), knob.classifier(IMAGES), rtol=1e-4, atol=1e-4)
    assert (knob(IMAGES, 0.4) - knob.classifier(IMAGES)).abs().max() > 0.1


def test_every_image_has_a_knob_of_its_own(knob):
    given = torch.tensor([0.0, 0.3, 0.6, 0.9])
    together = knob(IMAGES, given)
    for index, value in enumerate(given.tolist()):
        alone = knob(IMAGES, value)  # the same batch, on whose statistics `adapted` depends
        if not isinstance(knob, knobs.Adapted):
            torch.testing.assert_close(together[index], alone[index], rtol=1e-3, atol=1e-3)
    assert not torch.allclose(together, knob(IMAGES, 0.0))


class Seen(nn.Module):
    """Returns the images that it is given."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images


def test_the_blur_is_a_gaussian_of_that_many_pixels():
    model = knobs.blurred()
    model.classifier = Seen()
    point = torch.zeros(1, 3, 33, 33)
    point[:, :, 16, 16] = 1
    spread = model(point, 0.8)[0, 0]
    rows = torch.arange(33.0) - 16
    assert spread.sum() == pytest.approx(1, abs=1e-5)
    assert (spread.sum(1) * rows**2).sum() == pytest.approx(0.8**2, rel=1e-3)


def test_a_threshold_shrinks_every_detail_and_keeps_the_mean():
    model = knobs.thresholded()
    model.classifier = Seen()
    nothing_left = model(IMAGES, 50.0)
    torch.testing.assert_close(nothing_left.mean((2, 3)), IMAGES.mean((2, 3)))
    assert nothing_left.var() < 0.1 * IMAGES.var()
    torch.testing.assert_close(model(IMAGES, 0.0), IMAGES)
    board = 0.3 * (-1.0) ** (torch.arange(32)[:, None] + torch.arange(32))
    shrunken = model(board.expand(1, 3, 32, 32), 1.0)[0, 0]  # its Haar coefficients are ±0.6, the threshold is 0.2
    torch.testing.assert_close(shrunken, board * 0.4 / 0.6)


def test_denoised_thresholds_each_image_at_its_own_noise_level_and_leaves_quiet_images_alone():
    """White noise on grey loses its details below σ̂; where σ̂ is below the floor the image stays as it is."""
    model = knobs.denoised()
    model.classifier = Seen()
    noise = torch.randn((2, 3, 32, 32), generator=torch.Generator().manual_seed(1))
    given = 0.5 + noise * torch.tensor([0.05, 0.01]).view(2, 1, 1, 1)
    found = model(given)
    assert torch.equal(found[1], given[1])
    level = float(estimate_noise_level(given)[0])
    expected = knobs._threshold(given[:1], torch.full((1, 1, 1, 1), level), step=1)[0]
    torch.testing.assert_close(found[0], expected)
    assert found[0].std() < 0.5 * given[0].std()


def test_adapted_statistics_are_those_of_the_batch():
    """A BatchNorm that normalises by its own batch undoes any scale and shift of its input."""
    norm = nn.BatchNorm2d(3).eval().requires_grad_(False)
    norm.running_mean += 2
    norm.running_var *= 5
    scaled = 3 * IMAGES + 1
    trained, batch = torch.zeros(4, 1, 1, 1), torch.ones(4, 1, 1, 1)
    torch.testing.assert_close(knobs.adapt(trained)(norm, (scaled,), None), norm(scaled))
    found = knobs.adapt(batch)(norm, (scaled,), None)
    torch.testing.assert_close(found, knobs.adapt(batch)(norm, (IMAGES,), None), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(found.mean((0, 2, 3)), torch.zeros(3), rtol=0, atol=1e-5)
    half = knobs.adapt(0.5 * batch)(norm, (scaled,), None)
    mean, variance = (2 + scaled.mean((0, 2, 3))) / 2, (5 + scaled.var((0, 2, 3))) / 2
    expected = (scaled - mean.view(1, 3, 1, 1)) / (variance.view(1, 3, 1, 1) + norm.eps).sqrt()
    torch.testing.assert_close(half, expected)
