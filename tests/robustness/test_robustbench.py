"""What ``generate`` writes, read by RobustBench's own loader."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from data_prep import ImageSet, corrupt
from data_prep.errors import PrerequisiteError
from data_prep.generate import generate_archive_c
from data_prep.store import Record, labels_path, pixels_path
from robustness.measure.loaders.robustbench import import_robustbench

N = 10_000
"""RobustBench takes it for granted that a severity has this many images."""


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """A ``cifar10`` of 10,000 test images of noise."""
    rng = np.random.default_rng(0)
    classes = tuple("abcdefghij")
    pixels = rng.integers(0, 256, (N, 32, 32, 3), dtype=np.uint8)
    labels = rng.integers(0, 10, N)
    images = ImageSet("cifar10", "cifar10 (noise)", "test", pixels, labels, classes, np.arange(N))
    folder = tmp_path / "data" / "cifar10"
    folder.mkdir(parents=True)
    np.save(pixels_path(folder, "test"), pixels)
    np.save(labels_path(folder, "test"), labels)
    Record(
        name=images.name,
        title=images.title,
        note="noise",
        classes=classes,
        counts={"test": N},
        fingerprints={"test": images.fingerprint},
        image_size=(32, 32),
        resize=None,
        crop=None,
        source="rng",
        source_sha256=None,
    ).write(folder)
    return tmp_path / "data"


def test_a_generated_archive_reads_back_through_robustbench(data_dir, tmp_path):
    pytest.importorskip("pyautoattack", reason="RobustBench is not installed: pip install '.[attacks]'")
    load_cifar10c = import_robustbench().data.load_cifar10c
    generated = generate_archive_c("cifar10c", data_dir=data_dir, corruptions=["contrast"])
    (tmp_path / "CIFAR-10-C").symlink_to(generated)
    clean = np.load(pixels_path(data_dir / "cifar10", "test"), mmap_mode="r")[:100]
    labels = np.load(labels_path(data_dir / "cifar10", "test"))[:100]
    for severity in (1, 5):
        x, y = load_cifar10c(100, severity, str(tmp_path), shuffle=False, corruptions=["contrast"])
        read = (x * 255).round().to(torch.uint8).permute(0, 2, 3, 1)
        np.testing.assert_array_equal(read, corrupt(clean, "contrast", severity=severity))
        assert y.tolist() == labels.tolist()
    x, _ = load_cifar10c(N, 5, str(tmp_path), corruptions=["contrast"])
    assert x.shape == (N, 3, 32, 32)
    assert "autoattack" not in sys.modules


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.delitem(sys.modules, "robustbench", raising=False)
    monkeypatch.setitem(sys.modules, "pyautoattack", None)
    with pytest.raises(PrerequisiteError, match=r"import of pyautoattack halted.*; in the project"):
        import_robustbench()
    assert "autoattack" not in sys.modules
