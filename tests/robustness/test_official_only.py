"""Archives whose corruptions nobody generates here: measured from their files, from the suite to the report."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import robustness
from data_prep.archives_c import CORRUPTIONS_3DCC
from data_prep.class_lists import imagenet_wnids
from data_prep.errors import InputError, PrerequisiteError
from data_prep.importing import import_tree
from robustness.suite import Suite, read_suite_file

SIDE = 36
WNIDS = [imagenet_wnids()[index] for index in (5, 207, 999)]


class Brightness(nn.Module):
    """Answers by the red of the first pixel: class 5 below 100, 207 up to 199, 999 above."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        red = images[:, 0, 0, 0] * 255 * self.scale
        logits = torch.zeros(len(images), 1000)
        for index, low, high in ((5, -1, 100), (207, 100, 200), (999, 200, 256)):
            logits[:, index] = ((red >= low) & (red < high)).float()
        return logits


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Three images, red 50, 150 and 250; an ImageNet-3DCC in which severity 5 makes all of them bright."""
    for wnid, red in zip(WNIDS, (50, 150, 250), strict=True):
        clean = tmp_path / "tree" / "val" / wnid / "a.png"
        clean.parent.mkdir(parents=True)
        Image.new("RGB", (SIDE, SIDE), (red, 0, 0)).save(clean)
        for corruption in CORRUPTIONS_3DCC:
            for severity in range(1, 6):
                path = tmp_path / "data" / "ImageNet-3DCC" / corruption / str(severity) / wnid / "a.png"
                path.parent.mkdir(parents=True)
                Image.new("RGB", (SIDE, SIDE), (250 if severity == 5 else red, 0, 0)).save(path)
    import_tree(tmp_path / "tree", name="imagenet", data_dir=tmp_path / "data")
    return tmp_path / "data"


def test_imagenet_3dcc_is_measured_from_its_folders(data: Path, tmp_path: Path, without_figures: None) -> None:
    run = robustness.evaluate(
        {"mine": Brightness()},
        suite="imagenet3dcc",
        corruptions=["flash", "near_focus"],
        data_dir=data,
        out=tmp_path / "run",
        progress=False,
    )
    cells = run.cells.set_index(["perturbation", "severity"])["accuracy"]
    assert cells["clean", 0] == 1
    for name in ("flash", "near_focus"):
        assert [cells[name, severity] for severity in range(1, 6)] == pytest.approx([1, 1, 1, 1, 1 / 3])
    assert set(run.cells["source"]) == {"official"}
    assert robustness.open_run(tmp_path / "run").cells.equals(run.cells)
    assert "near_focus" in run.report().read_text(encoding="utf-8")


def test_what_is_not_on_disk_is_neither_generated_nor_left_out(data: Path, tmp_path: Path) -> None:
    fields = read_suite_file("imagenet3dcc") | {"models": ("mine",)}
    assert Suite(**fields).corruptions == CORRUPTIONS_3DCC
    assert Suite(**fields | {"corruptions": ("archive", "-flash")}).corruptions == tuple(
        name for name in CORRUPTIONS_3DCC if name != "flash"
    )
    with pytest.raises(InputError, match=r"expected a corruption.*, got 'near_focus'"):
        Suite(**fields | {"archive": "", "corruptions": ("near_focus",)})
    (data / "ImageNet-3DCC").rename(data / "elsewhere")
    with pytest.raises(PrerequisiteError, match=r"expected the official files of imagenet3dcc in .*; get it: unpack"):
        robustness.evaluate({"mine": Brightness()}, suite="imagenet3dcc", data_dir=data, out=tmp_path / "run")


def test_an_archive_of_any_data_set_is_measured_by_its_folder(tmp_path: Path, without_figures: None) -> None:
    """As MedMNIST-C: names that are nowhere in this project, beside one that is."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 12)
    images = np.broadcast_to(np.array([50, 150, 250], np.uint8)[labels, None, None, None], (12, 33, 33, 3)).copy()
    (tmp_path / "data").mkdir()
    folder = tmp_path / "mnist-c"
    folder.mkdir()
    for name, level in (("stain_deposit", 0), ("fog", 255)):
        blocks = [images] * 4 + [np.full_like(images, level)]
        np.savez_compressed(folder / f"{name}.npz", test_images=np.concatenate(blocks), test_labels=np.tile(labels, 5))
    clean = robustness.measure.prepare.load_images((images, labels), classes=["a", "b", "c"])

    class Three(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return Brightness()(x)[:, [5, 207, 999]]

    suite = Suite(name="own", data="own", archive=str(folder), corruptions=("archive",), models=("mine",))
    from robustness.measure.perturbations import find_official

    archive = find_official(suite, clean, tmp_path / "data")
    assert archive is not None
    assert suite.corruptions == ("fog", "stain_deposit")
    assert suite.levels("stain_deposit") == (1, 2, 3, 4, 5)
    assert (archive.match(clean, "fog", 5)[0:12] == 255).all()
    assert np.array_equal(archive.match(clean, "stain_deposit", 4)[0:12], images)
