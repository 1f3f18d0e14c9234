"""Output of ``generate``, read by RobustBench's own loader."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch

from data_prep import corrupt, load_images
from data_prep.errors import PrerequisiteError
from data_prep.generate import generate_archive_c
from robustness.measure.loaders.robustbench import import_robustbench

N = 10_000
"""RobustBench takes it for granted that a severity has this many images."""


def test_a_generated_archive_reads_back_through_robustbench(tmp_path, monkeypatch):
    pytest.importorskip("pyautoattack", reason="RobustBench is not installed: pip install '.[attacks]'")
    load_cifar10c = import_robustbench().data.load_cifar10c
    rng = np.random.default_rng(0)
    images = load_images((rng.integers(0, 256, (N, 32, 32, 3), dtype=np.uint8), rng.integers(0, 10, N)))
    monkeypatch.setattr("data_prep.generate.load_images", lambda *_: images)
    generated = generate_archive_c("cifar10c", data_dir=tmp_path / "data", corruptions=["contrast"])
    (tmp_path / "CIFAR-10-C").symlink_to(generated)
    for severity in (1, 5):
        x, y = load_cifar10c(100, severity, str(tmp_path), shuffle=False, corruptions=["contrast"])
        read = (x * 255).round().to(torch.uint8).permute(0, 2, 3, 1)
        np.testing.assert_array_equal(read, corrupt(images.pixels[:100], "contrast", severity=severity))
        assert y.tolist() == images.labels[:100].tolist()
    x, _ = load_cifar10c(N, 5, str(tmp_path), corruptions=["contrast"])
    assert x.shape == (N, 3, 32, 32)
    assert "autoattack" not in sys.modules


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.delitem(sys.modules, "robustbench", raising=False)
    monkeypatch.setitem(sys.modules, "pyautoattack", None)
    with pytest.raises(PrerequisiteError, match=r"import of pyautoattack halted.*; in the project"):
        import_robustbench()
    assert "autoattack" not in sys.modules
