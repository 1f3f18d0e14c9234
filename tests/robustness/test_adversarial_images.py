"""Adversarial images on disk."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from attacked import CPU, SHAPE, run, small_victim
from torch import Tensor, nn

from data_prep.arrays import write_arrays
from robustness.attack import Attack
from robustness.measure.adversarial import AdversarialSet, encode
from robustness.measure.craft import Crafted, distance


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_stored_images_keep_budget_range_and_answer(norm, tmp_path):
    victim, images, labels = small_victim()
    clean = (images.permute(0, 2, 3, 1) * 255).round().to(torch.uint8).numpy()
    eps = 2 / 255 if norm == "linf" else 0.2
    crafted = run(victim, Attack(name="pgd", norm=norm, eps=eps, steps=5), images, labels)
    options = {"victim": victim, "stages": ("restart-0",)}
    stored = encode(crafted, clean, labels, batch_size=12, device=CPU, **options)
    stored.write(tmp_path / "a.npz")
    read = AdversarialSet.read(tmp_path / "a.npz", clean)
    assert read is not None
    decoded = torch.from_numpy(read[0:12]).permute(0, 3, 1, 2)
    assert np.array_equal(read[5:9], read[0:12][5:9])
    assert (distance(decoded, images, norm) <= distance(crafted.images, images, norm) + 1e-6).all()
    assert (decoded - crafted.images).abs().max() <= eps / 127 + 1e-6
    moved = ~(crafted.images == images).flatten(1).all(1)
    shares = distance(decoded, images, norm)[moved] / distance(crafted.images, images, norm)[moved]
    assert moved.any()
    assert (shares > 0.9995).all(), "what is shown at other λs has the strength of what was crafted"
    assert torch.equal(victim(decoded).argmax(1) == labels, crafted.robust)
    assert read.seconds == crafted.seconds > 0
    assert AdversarialSet.read(tmp_path / "a.npz", clean[:5]) is None
    arrays = dict(np.load(tmp_path / "a.npz"))
    for name, damage in {
        "about": np.array("{"),
        "scale": arrays["scale"][:3],
        "broken_by": arrays["broken_by"] + np.int16(9),
        "exact_index": np.array([99]),
        "dropped": arrays["dropped"].astype(np.int8),
    }.items():
        write_arrays(tmp_path / "damaged.npz", {**arrays, name: damage})
        assert AdversarialSet.read(tmp_path / "damaged.npz", clean) is None, name
    assert AdversarialSet.read(tmp_path / "absent.npz", clean) is None


def test_images_whose_answer_depends_on_the_last_bit_are_stored_exactly():
    """A model that answers by the exact value of a pixel: rounding the perturbation would heal every image."""

    class Touchy(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            fooled = (images[:, 0, 0, 0] == torch.tensor(0.3)).float()
            return torch.stack([torch.full((len(images),), 0.5), fooled], 1)

    images = torch.zeros(4, *SHAPE)
    moved = images.clone()
    moved[:, 0, 0, 0], moved[:, 0, 0, 1] = 0.3, 0.31
    truth = torch.ones(4, dtype=torch.bool)
    crafted = Crafted(moved, truth, ~truth, torch.zeros(4, dtype=torch.int64), ~truth)
    labels = torch.zeros(4, dtype=torch.int64)
    options = {"victim": Touchy(), "stages": ("s",)}
    clean = np.zeros((4, 8, 8, 3), np.uint8)
    stored = encode(crafted, clean, labels, batch_size=4, device=CPU, **options)
    assert list(stored.exact_index) == [0, 1, 2, 3]
    assert np.array_equal(stored[1:3], moved.permute(0, 2, 3, 1).numpy()[1:3])
