"""The suite imagenetc: official folders where they are, generated corruptions where not, WNIDs as labels."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
from pictured import write_png
from PIL import Image

from data_prep import corrupt, load_images
from data_prep.__main__ import main as prepare_data
from data_prep.class_lists import imagenet_wnids
from data_prep.errors import run_command
from robustness.run import main
from sdnet_core.__main__ import main as manage_models

CORRUPTIONS = ("contrast", "pixelate")
SIDE = 96
pytestmark = pytest.mark.usefixtures("without_figures")


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """An ``imagenet`` of 6 validation images in two of the 1000 classes, and ImageNet-C of two corruptions."""
    pictures = load_images("shapes", split="test").pixels
    for index in range(6):
        folder = tmp_path / "tree" / "val" / ("n02123045" if index % 3 else "n01443537")
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pictures[index]).resize((110, 98)).save(folder / f"ILSVRC2012_val_{index:08}.JPEG")
    data = tmp_path / "data"
    words = ["import", str(tmp_path / "tree"), "--name", "imagenet", "--resize", "98", "--crop", str(SIDE)]
    assert prepare_data([*words, "--data-dir", str(data)]) == 0
    images = load_images("imagenet", split="val", data_dir=data)
    for corruption in CORRUPTIONS:
        for severity in range(1, 6):
            corrupted = corrupt(images.pixels, corruption, severity=severity, profile="imagenet")
            for pixels, label, file in zip(corrupted, images.labels, images.files):
                folder = data / "ImageNet-C" / corruption / str(severity) / images.classes[label]
                write_png(folder / file, pixels)  # lossless, under the official name
    return data


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "untrained.safetensors"
    words = ["init", "--arch", "sdnet18", "--dataset", "imagenet", "--width", "2", "--out", str(path)]
    assert manage_models(words) == 0
    return path


def measure(data_dir: Path, model: Path, out: Path, *options: str) -> int:
    words = ["--suite", "imagenetc", "--data-dir", str(data_dir), "--out", str(out), "--device", "cpu"]
    words += ["--models", str(model), "--corruptions", ",".join(CORRUPTIONS), "--lambdas", "0.1"]
    return run_command(lambda: main([*words, *options]))


def outcomes(out: Path) -> pd.DataFrame:
    return pd.concat(pd.read_parquet(path) for path in sorted((out / "outcomes").glob("*.parquet")))


def test_the_official_folders_are_used_and_equal_what_is_generated(data_dir, model, tmp_path):
    assert measure(data_dir, model, tmp_path / "official") == 0
    official = pd.read_csv(tmp_path / "official" / "cells.csv")
    assert set(official["source"]) == {"official"}
    assert len(official) == 1 + 2 * 5
    assert json.loads((tmp_path / "official" / "run.json").read_text())["batch_size"] == 50
    wnids = imagenet_wnids()
    labels = outcomes(tmp_path / "official").groupby("label")["index"].nunique()
    assert labels.to_dict() == {wnids.index("n01443537"): 2, wnids.index("n02123045"): 4}
    shutil.rmtree(data_dir / "ImageNet-C")
    assert measure(data_dir, model, tmp_path / "generated") == 0
    generated = pd.read_csv(tmp_path / "generated" / "cells.csv")
    assert set(generated["source"]) == {"generated"}
    columns = ["source", "seconds"]
    pd.testing.assert_frame_equal(official.drop(columns=columns), generated.drop(columns=columns))


def test_a_missing_file_is_refused_before_anything_is_measured(data_dir, model, tmp_path, capsys):
    """Trap 7."""
    (data_dir / "ImageNet-C" / "pixelate" / "5" / "n02123045" / "ILSVRC2012_val_00000001.JPEG").unlink()
    assert measure(data_dir, model, tmp_path / "run") == 2
    assert "n02123045/ILSVRC2012_val_00000001.JPEG" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_damaged_file_costs_its_own_cells_by_name_and_no_others(data_dir, model, tmp_path, capsys):
    path = data_dir / "ImageNet-C" / "contrast" / "5" / "n02123045" / "ILSVRC2012_val_00000001.JPEG"
    whole = path.read_bytes()
    path.write_bytes(whole[:1000])
    out, two = tmp_path / "run", ("--lambdas", "0.1,0.5")
    assert measure(data_dir, model, out, *two) == 1
    reason = "contrast/5/n02123045/ILSVRC2012_val_00000001.JPEG: expected a whole image file"
    told = capsys.readouterr()
    assert f"2 of 22 cells are missing: {path.parents[3]}/{reason}" in told.out + told.err
    cells = json.loads((out / "run.json").read_text())["cells"]
    failed = [cell for cell in cells if cell["status"] == "failed"]
    assert {(cell["perturbation"], cell["severity"]) for cell in failed} == {("contrast", 5)}
    assert all(reason in cell["reason"] for cell in failed)
    assert len(pd.read_csv(out / "cells.csv")) == 20
    path.write_bytes(whole)
    assert measure(data_dir, model, out, *two) == 0
    assert len(pd.read_csv(out / "cells.csv")) == 22


def test_models_and_images_must_be_brought(model, tmp_path, capsys):
    assert run_command(lambda: main(["--suite", "imagenetc"])) == 2
    assert "expected models for the suite imagenetc, got none; give some with --models" in capsys.readouterr().err
    assert measure(tmp_path, model, tmp_path / "run") == 2
    assert "import PATH --name imagenet --resize 256 --crop 224" in capsys.readouterr().err
