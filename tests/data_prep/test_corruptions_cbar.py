"""The corruptions of C-bar: lists, what an image depends on, official folders. (Their values: tests/parity.)"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from pictured import write_png

from data_prep import load_images
from data_prep.archives_c import count_all, find_archive_c, open_archive_c
from data_prep.catalogue import list_data
from data_prep.corruptions import corrupt, corruption_names, expand_names, level_folder, parameters, severities
from data_prep.corruptions.registry import CORRUPTIONS, extra_of_kind
from data_prep.errors import InputError
from data_prep.imageset import ImageSet
from robustness.suite import Suite, read_suite_file

CIFAR, IMAGENET = (corruption_names("cbar", profile) for profile in ("cifar", "imagenet"))
BOTH = [(name, profile) for profile, names in (("cifar", CIFAR), ("imagenet", IMAGENET)) for name in names]
EACH = pytest.mark.parametrize(("name", "profile"), BOTH)


def pictures(count: int, height: int = 32, width: int = 32) -> np.ndarray:
    rng = np.random.default_rng(0)
    tiles = rng.integers(20, 236, (count, -(-height // 8), -(-width // 8), 3)).repeat(8, axis=1).repeat(8, axis=2)
    return (tiles[:, :height, :width] + rng.integers(-20, 20, (count, height, width, 3))).astype(np.uint8)


def test_each_set_has_ten_and_they_stay_out_of_the_other_groups() -> None:
    assert len(CIFAR) == len(IMAGENET) == 10
    assert set(CIFAR) | set(IMAGENET) == set(corruption_names("cbar"))
    assert set(CIFAR) & set(IMAGENET) == {
        "blue_noise_sample",
        "checkerboard_cutout",
        "inverse_sparkles",
        "sparkles",
        "brownish_noise",
    }
    for group in ("all", "standard", "extra", "noise", "blur", "weather", "digital"):
        assert not set(corruption_names(group)) & set(corruption_names("cbar"))
    assert all(severities(name, profile) == (1, 2, 3, 4, 5) for name, profile in BOTH)
    assert expand_names(["cbar", "-lines"], "cifar") == tuple(name for name in CIFAR if name != "lines")
    assert parameters("lines", 5, "cifar")["parameters"] == [2.5]
    with pytest.raises(InputError, match=r"expected a corruption of the profile 'imagenet' .*, got 'ripple'; choose"):
        corrupt(pictures(1), "ripple", severity=1, profile="imagenet")


@pytest.mark.parametrize(("suite", "names"), [("cifar10cbar", CIFAR), ("imagenetcbar", IMAGENET)])
def test_suites_ask_for_the_ten_of_their_data(suite: str, names: tuple[str, ...]) -> None:
    fields = read_suite_file(suite)
    assert Suite(**(fields | {"models": ("any",)})).corruptions == names
    assert all(extra_of_kind(name) is None for name in names)


@EACH
def test_an_image_depends_on_its_seed_and_index_alone(name: str, profile: str) -> None:
    images = pictures(5, 36, 44)
    indices = np.array([7, 3_000_000_000, 0, 12, 5])
    options = {"severity": 4, "profile": profile, "seed": 2}
    together = corrupt(images, name, indices=indices, **options)
    assert (together.dtype, together.shape) == (images.dtype, images.shape)
    for one in (0, 1, 4):
        alone = corrupt(images[one : one + 1], name, indices=indices[one : one + 1], **options)
        np.testing.assert_array_equal(alone[0], together[one])
    same = corrupt(images[:1].repeat(2, axis=0), name, indices=[1, 2], **options)
    assert (same[0] != same[1]).any() == CORRUPTIONS[name].random
    assert (corrupt(images, name, indices=indices, **(options | {"seed": 3})) != together).any() == CORRUPTIONS[
        name
    ].random
    assert corrupt(images[:0], name, severity=1, profile=profile).shape == (0, 36, 44, 3)


@pytest.mark.gpu
@EACH
def test_a_gpu_gives_the_same_image(name: str, profile: str) -> None:
    images = torch.from_numpy(pictures(4))
    expected = corrupt(images, name, severity=3, profile=profile)
    result = corrupt(images.cuda(), name, severity=3, profile=profile)
    assert ((result.cpu().int() - expected.int()).abs() > 0).double().mean() < 1e-3


def write_official(folder: Path, images: ImageSet) -> None:
    """ImageNet-C-bar as its generator writes it: the folder of a severity is called by the generator's level."""
    for name in IMAGENET:
        for severity in range(1, 6):
            corrupted = corrupt(images.pixels, name, severity=severity, profile="imagenet")
            for pixels, label, file in zip(corrupted, images.labels, images.files, strict=True):
                write_png(folder / name / level_folder(name, severity) / images.classes[label] / file, pixels)


def test_official_folders_are_read(tmp_path: Path) -> None:
    clean = load_images((pictures(2, 40, 40), [0, 1]), classes=["n01440764", "n01443537"])
    clean = replace(clean, files=np.array(["a.JPEG", "b.JPEG"]))
    assert level_folder("caustic_refraction", 2) == "3.20"
    assert level_folder("fog", 2) == "2"
    write_official(tmp_path / "ImageNet-C-Bar", clean)
    archive = find_archive_c("imagenetcbar", tmp_path)
    assert archive == open_archive_c(tmp_path / "ImageNet-C-Bar")
    assert dict(count_all(archive)) == dict.fromkeys(IMAGENET, 2)
    for severity in (1, 5):
        expected = corrupt(clean.pixels, "sparkles", severity=severity, profile="imagenet")
        np.testing.assert_array_equal(archive.match(clean, "sparkles", severity)[:], expected)
    (tmp_path / "ImageNet-C-Bar" / "caustic_refraction" / "2.35").rename(tmp_path / "away")
    with pytest.raises(InputError, match=r"expected a folder 2\.35 in .*caustic_refraction"):
        archive.match(clean, "caustic_refraction", 1)


def test_the_list_says_how_to_get_them(tmp_path: Path) -> None:
    entries = {entry.name: entry for entry in list_data(tmp_path)}
    assert "10 x 5 x 10,000" in str(entries["cifar10cbar"])
    assert "augmentation-corruption" in str(entries["imagenetcbar"])
