"""Files from strangers are read and never obeyed: see docs/bad-input.md. Its other tests are in ``data_prep``."""

from __future__ import annotations

import io
import json
import pickle
import re
import shutil
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from fabricate import fabricate_run
from hostile import Call

from data_prep.arrays import read_arrays, write_arrays
from data_prep.errors import InputError, run_command
from data_prep.files import as_file_name
from data_prep.importing import import_tree
from robustness import compare, report
from robustness.run import main as run
from sdnet_core.__main__ import convert


def rename_model(folder: Path, name: str) -> None:
    record = json.loads((folder / "run.json").read_text())
    for model in record["models"]:
        model["name"] = name if model["name"] == "sparse" else model["name"]
    for cell in record["cells"]:
        cell["model"] = name if cell["model"] == "sparse" else cell["model"]
    (folder / "run.json").write_text(json.dumps(record))


def test_a_model_of_a_run_directory_is_neither_imported_nor_does_its_name_lead_out_of_it(
    tmp_path, monkeypatch, without_figures, capsys
):
    (tmp_path / "harmful.py").write_text(f"from pathlib import Path\nPath({str(tmp_path / 'done')!r}).touch()\n")
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("harmful:build", "../../../outside", "/tmp/outside", "x" * 300):
        folder = tmp_path / "runs" / "deep" / "run"
        fabricate_run(folder, corruptions=("contrast",), severities=(1,), n=8)
        (folder / "tables" / "severities_..").mkdir(parents=True)
        rename_model(folder, name)
        before = {path for path in tmp_path.rglob("*") if folder not in path.parents}
        monkeypatch.setattr("sys.argv", ["report", str(folder)])
        assert run_command(report.main) in (0, 2)
        assert run_command(lambda: compare.main([str(folder), str(folder)])) in (0, 2)  # noqa: B023
        assert {path for path in tmp_path.rglob("*") if folder not in path.parents} == before
        assert "Traceback" not in capsys.readouterr().err
        shutil.rmtree(folder)
    assert "harmful" not in sys.modules


@pytest.mark.parametrize("key", ["../../x", "/etc/passwd", "a/b", ".x", "", "x\n"])
def test_keys_of_a_run_directory_must_be_file_names(key, tmp_path):
    directory = fabricate_run(tmp_path, corruptions=("contrast",), severities=(1,), n=8).directory
    record = json.loads((tmp_path / "run.json").read_text())
    record["cells"][0]["key"] = key
    (tmp_path / "run.json").write_text(json.dumps(record))
    with pytest.raises(InputError, match=r"run\.json is not a record of a run: the key .* is not a file name"):
        directory.read_record()


@pytest.mark.parametrize("name", ["../x", "/tmp/x", "a/b", ".hidden", ""])
def test_a_suite_cannot_choose_a_folder_elsewhere(name, tmp_path):
    path = tmp_path / "suite.toml"
    path.write_text(f'name = "{name}"\ndata = "shapes"\nmodels = ["resnet18-shapes"]\n')
    with pytest.raises(InputError, match="in the name of a suite, which names a folder"):
        run(["--suite", str(path), "--dry-run"])


def test_names_become_file_names():
    assert re.fullmatch(r"timm_vit_\.\._a_b_-[0-9a-f]{8}", as_file_name("timm:vit/../a b‖"))
    assert as_file_name("sdnet18-cifar10_1.5") == "sdnet18-cifar10_1.5"


def test_no_pickle_in_an_array_archive_is_executed(tmp_path):
    path = tmp_path / "samples.npz"
    with zipfile.ZipFile(path, "w") as archive:
        buffer = io.BytesIO()
        np.save(buffer, np.array([Call(Path.touch, tmp_path / "done")], dtype=object), allow_pickle=True)
        archive.writestr("titles.npy", buffer.getvalue())
    assert read_arrays(path, most=1 << 20) is None
    assert not (tmp_path / "done").exists()


def test_arrays_that_unpack_to_more_than_expected_are_not_unpacked(tmp_path, monkeypatch):
    write_arrays(tmp_path / "bomb.npz", {"zeros": np.zeros(10 << 20, np.uint8)})
    assert (tmp_path / "bomb.npz").stat().st_size < 20_000
    monkeypatch.setattr("numpy.load", lambda *a, **k: pytest.fail("unpacked"))
    assert read_arrays(tmp_path / "bomb.npz", most=1 << 20) is None


def test_a_checkpoint_that_calls_something_or_unpacks_to_more_than_it_is_is_refused(tmp_path):
    harmful = tmp_path / "harmful.pth.tar"
    for write in (pickle.dump, torch.save):
        with harmful.open("wb") as file:
            write({"state_dict": Call(Path.touch, tmp_path / "done")}, file)
        with pytest.raises(InputError, match=r"expected a checkpoint of plain tensors .*nothing else is loaded"):
            convert(harmful, "sdnet18", "cifar10", tmp_path / "out.safetensors")
    assert not (tmp_path / "done").exists()

    stored, packed = tmp_path / "stored.pth.tar", tmp_path / "packed.pth.tar"
    torch.save({"weight": torch.zeros(1 << 20)}, stored)
    with zipfile.ZipFile(stored) as source, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            target.writestr(name, source.read(name))
    with pytest.raises(InputError, match="expected a checkpoint as torch writes it, never compressed"):
        convert(packed, "sdnet18", "cifar10", tmp_path / "out.safetensors")


def test_an_archive_cannot_hide_a_huge_file_among_its_images(tmp_path, monkeypatch):
    """A compressed archive is unpacked up to its last member, also past those that are no images."""
    monkeypatch.setattr("data_prep.trees.MAX_FILE_BYTES", 1000)
    path = tmp_path / "images.tar.xz"
    with tarfile.open(path, "w:xz") as archive:
        info = tarfile.TarInfo("test/a/notes.txt")
        info.size = 1001
        archive.addfile(info, io.BytesIO(b"\0" * 1001))
    with pytest.raises(InputError, match=r"expected files of at most 1,000 bytes, got test/a/notes\.txt with 1,001"):
        import_tree(path, name="x", data_dir=tmp_path)
