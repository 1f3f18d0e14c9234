"""The corruptions of C-bar beside an independent reference: the same image from the same random numbers."""

from __future__ import annotations

import numpy as np
import pytest
from parity import reference_cbar

from data_prep.corruptions import corrupt, corruption_names, engine
from data_prep.corruptions.parameters import PROFILES

NAMES = corruption_names("cbar")
SIDE = 32


def smooth(count: int, side: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    tiles = rng.integers(30, 226, (count, side // 4, side // 4, 3)).repeat(4, axis=1).repeat(4, axis=2)
    return (tiles + rng.integers(-20, 21, tiles.shape)).astype(np.uint8)


def test_levels_are_the_official_ones() -> None:
    for profile, levels in reference_cbar.LEVELS.items():
        assert set(levels) == set(corruption_names("cbar", profile))
        assert all(PROFILES[profile][name] == row for name, row in levels.items())


@pytest.mark.parametrize("name", NAMES)
def test_the_same_numbers_make_the_same_image(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("skimage", reason="the reference draws lines with scikit-image")
    monkeypatch.setattr(engine, "STORED_QUALITY", {})
    images = smooth(3, SIDE)
    for profile in ("cifar", "imagenet"):
        if name not in reference_cbar.LEVELS[profile]:
            continue
        for severity in (1, 4, 5):
            ours = corrupt(images, name, severity=severity, profile=profile, seed=5)
            draws = [reference_cbar.SameDraws(f"5/{name}/{severity}", index) for index in range(len(images))]
            theirs = np.stack(
                [
                    reference_cbar.corrupt_like_c_bar(image, name, profile, severity, its)
                    for image, its in zip(images, draws, strict=True)
                ]
            )
            difference = np.abs(ours.astype(int) - theirs)
            assert (difference <= 1).mean() >= 0.999
            assert difference.mean() <= 0.02
            assert (ours != images).mean() > 0.005
