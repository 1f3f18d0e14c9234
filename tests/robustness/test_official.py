"""Official -C archives in a run: used, stamped, and refused where they do not belong to the clean images."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from data_prep import corrupt, load_images
from data_prep.corruptions.frost_pictures import frost_pictures
from data_prep.errors import InputError, run_command
from robustness.analysis.comparison import compare_runs
from robustness.analysis.frames import Run
from robustness.run import main
from robustness.run_directory import RunDirectory

N = 12
pytestmark = pytest.mark.usefixtures("without_figures")


@pytest.fixture
def data_dir(import_shapes: Callable[..., Path]) -> Path:
    """A ``cifar10`` of 12 images of ten classes, and its official-looking archive of two corruptions."""
    folder = import_shapes("cifar10", test=N)
    images = load_images("cifar10", split="test", data_dir=folder)
    archive = folder / "CIFAR-10-C"
    archive.mkdir()
    for name in ("contrast", "pixelate"):
        levels = [corrupt(images.pixels, name, severity=severity) for severity in range(1, 6)]
        np.save(archive / f"{name}.npy", np.concatenate(levels))
    np.save(archive / "labels.npy", np.tile(images.labels, 5))
    return folder


def measure(data_dir: Path, models: Path, out: Path, *options: str) -> int:
    arguments = ["--suite", "cifar10c", "--data-dir", str(data_dir), "--out", str(out), "--device", "cpu"]
    arguments += ["--models", f"{models}/sparse.safetensors", "--corruptions", "contrast,pixelate", "--lambdas", "0.1"]
    return run_command(lambda: main([*arguments, *options]))


def test_the_official_archive_is_used_and_equals_what_is_generated(data_dir, models, tmp_path):
    assert measure(data_dir, models, tmp_path / "official") == 0
    official = pd.read_csv(tmp_path / "official" / "cells.csv")
    assert set(official["source"]) == {"official"}
    (data_dir / "CIFAR-10-C").rename(data_dir / "elsewhere")
    assert measure(data_dir, models, tmp_path / "generated") == 0
    generated = pd.read_csv(tmp_path / "generated" / "cells.csv")
    assert set(generated["source"]) == {"generated"}
    pd.testing.assert_frame_equal(
        official.drop(columns=["source", "seconds"]), generated.drop(columns=["source", "seconds"])
    )


def test_a_subset_takes_the_same_images_from_the_archive(data_dir, models, tmp_path):
    assert measure(data_dir, models, tmp_path / "run", "--n", "5") == 0
    assert (pd.read_csv(tmp_path / "run" / "cells.csv")["n"] == 5).all()


def test_another_copy_of_the_archive_is_measured_anew_and_never_paired_with_the_first(data_dir, models, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    assert measure(data_dir, models, first) == 0
    shutil.copytree(first, second)
    path, keys = data_dir / "CIFAR-10-C" / "pixelate.npy", {file.name for file in (first / "outcomes").iterdir()}
    os.utime(path)
    assert measure(data_dir, models, second) == 0
    assert {file.name for file in (second / "outcomes").iterdir()} == keys, "the same bytes, copied again"
    np.save(path, 255 - np.load(path))
    assert measure(data_dir, models, second) == 0
    assert len({file.name for file in (second / "outcomes").iterdir()} - keys) == 5
    tables = [pd.read_csv(out / "cells.csv").set_index("perturbation")["residual"] for out in (first, second)]
    assert (tables[0]["contrast"] == tables[1]["contrast"]).all()
    assert (tables[0]["pixelate"] != tables[1]["pixelate"]).all()
    with pytest.raises(InputError, match="differ in the archive that pixelate was read from"):
        compare_runs(*(Run.open(RunDirectory(out)) for out in (first, second)))


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("labels.npy", lambda path: np.save(path, (np.load(path) + 1) % 10), "one table never mixes sources"),
        ("manifest.json", lambda path: path.write_text("{}"), "a set that was generated here"),
        ("pixelate.npy", Path.unlink, "pixelate.npy"),
        ("pixelate.npy", lambda path: path.write_bytes(path.read_bytes()[:-1000]), "pixelate.npy"),
        ("pixelate.npy", lambda path: np.save(path, np.load(path).astype(np.float32)), "pixelate.npy"),
    ],
    ids=["labels of other images", "generated", "missing", "truncated", "wrong type"],
)
def test_a_faulty_archive_is_refused_before_anything_is_measured(
    name, damage, message, data_dir, models, tmp_path, capsys
):
    """Trap 7."""
    damage(data_dir / "CIFAR-10-C" / name)
    assert measure(data_dir, models, tmp_path / "run") == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert not (tmp_path / "run").exists()


def test_frost_for_the_training_images_is_asked_for_before_the_work(data_dir, models, tmp_path, capsys, monkeypatch):
    """The archive has the test images under frost; those that λ is chosen on have to be made."""
    archive = data_dir / "CIFAR-10-C"
    np.save(archive / "frost.npy", np.load(archive / "contrast.npy"))
    monkeypatch.setattr("data_prep.corruptions.frost_pictures.PACKAGE", "a_package_that_nobody_has")
    frost_pictures.cache_clear()
    only = ("--corruptions", "frost")
    assert measure(data_dir, models, tmp_path / "run", *only, "--selection", "same") == 2
    assert "frost needs the pictures in the package" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
    assert measure(data_dir, models, tmp_path / "run", *only, "--selection", "none") == 0
    assert set(pd.read_csv(tmp_path / "run" / "cells.csv")["source"]) == {"official"}
