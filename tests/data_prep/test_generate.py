from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from data_prep import generate
from data_prep.__main__ import main
from data_prep.archives_c import find_archive_c
from data_prep.cifar_c import CifarC
from data_prep.corruptions import corrupt, corruption_names, parameters, registry
from data_prep.errors import EXIT_BAD_INPUT, EXIT_DONE, InputError, PrerequisiteError
from data_prep.files import digest_of, locked
from data_prep.generate import generate_archive_c
from data_prep.importing import import_tree
from data_prep.sources import load_images

QUICK = ("fog", "contrast")


@pytest.fixture
def data_dir(make_tree, tmp_path: Path) -> Path:
    """A folder with a ``cifar10`` of 12 test images."""
    import_tree(make_tree(size=(32, 32), test=6), name="cifar10", note="toy", data_dir=tmp_path / "data")
    return tmp_path / "data"


def test_layout_reads_back_as_the_official_one(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generate, "BLOCK_IMAGES", 5)
    folder = generate_archive_c("cifar10c", data_dir=data_dir, corruptions=QUICK, seed=3)
    assert folder == data_dir / "CIFAR-10-C-generated"
    clean = load_images("cifar10", "test", data_dir)
    labels = np.load(folder / "labels.npy")
    np.testing.assert_array_equal(labels, np.tile(clean.labels, 5))
    for name in QUICK:
        pixels = np.load(folder / f"{name}.npy")
        assert (pixels.dtype, pixels.shape) == (np.uint8, (60, 32, 32, 3))
        for severity in range(1, 6):
            expected = corrupt(clean.pixels, name, severity=severity, seed=3)
            np.testing.assert_array_equal(pixels[12 * severity - 12 : 12 * severity], expected)
            block, its_labels = CifarC(folder).load(name, severity)
            np.testing.assert_array_equal(block, expected)
            np.testing.assert_array_equal(its_labels, clean.labels)
    assert sorted(path.name for path in folder.iterdir()) == ["contrast.npy", "fog.npy", "labels.npy", "manifest.json"]


def test_manifest_says_how_every_file_was_made(data_dir: Path) -> None:
    folder = generate_archive_c("cifar10c", data_dir=data_dir, corruptions=("fog",), seed=3)
    manifest = json.loads((folder / "manifest.json").read_text())
    clean = load_images("cifar10", "test", data_dir)
    assert manifest["title"] == "cifar10 (toy)"
    assert manifest["fingerprint"] == clean.fingerprint
    assert (manifest["n"], manifest["seed"], manifest["archive"]) == (12, 3, "CIFAR-10-C-generated")
    assert sorted(manifest["files"]) == ["fog.npy", "labels.npy"]
    for name, entry in manifest["files"].items():
        assert entry["sha256"] == digest_of(folder / name, "sha256")
    assert manifest["files"]["fog.npy"]["parameters"] == [parameters("fog", severity) for severity in range(1, 6)]


def test_a_subset_has_the_noise_of_the_full_set(data_dir: Path) -> None:
    full = generate_archive_c("cifar10c", data_dir=data_dir, corruptions=("gaussian_noise",))
    pixels = np.load(full / "gaussian_noise.npy").reshape(5, 12, 32, 32, 3)
    shutil.rmtree(full)
    folder = generate_archive_c("cifar10c", data_dir=data_dir, corruptions=("gaussian_noise",), n=4)
    chosen = load_images("cifar10", "test", data_dir).subset(4).indices
    part = np.load(folder / "gaussian_noise.npy").reshape(5, 4, 32, 32, 3)
    np.testing.assert_array_equal(part, pixels[:, chosen])


def test_what_is_whole_is_not_made_again(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = generate_archive_c("cifar10c", data_dir=data_dir, corruptions=QUICK)
    stamps = {path: path.stat().st_mtime_ns for path in folder.glob("[fc]*.npy")}
    digests = {path: digest_of(path, "sha256") for path in stamps}
    generate_archive_c("cifar10c", data_dir=data_dir, corruptions=(*QUICK, "brightness"))
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps
    assert (folder / "brightness.npy").is_file()

    damaged, missing = stamps
    with damaged.open("r+b") as file:
        file.seek(500)
        file.write(b"\x00\x01\x02")
    missing.unlink()
    generate_archive_c("cifar10c", data_dir=data_dir, corruptions=QUICK)
    assert {path: digest_of(path, "sha256") for path in digests} == digests

    for name in QUICK:
        revised = dataclasses.replace(registry.CORRUPTIONS[name], revision=registry.CORRUPTIONS[name].revision + 1)
        monkeypatch.setitem(registry.CORRUPTIONS, name, revised)
    generate_archive_c("cifar10c", data_dir=data_dir, corruptions=QUICK)
    assert all(path.stat().st_mtime_ns != stamps[path] for path in stamps)


def test_a_run_that_was_stopped_goes_on(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = corrupt

    def stop_in_fog(pixels: torch.Tensor, name: str, **options: object) -> torch.Tensor:
        if name == "fog" and options["severity"] == 3:
            raise KeyboardInterrupt
        return real(pixels, name, **options)

    with monkeypatch.context() as patch:
        patch.setattr("data_prep.corruptions.corrupt", stop_in_fog)
        with pytest.raises(KeyboardInterrupt):
            generate_archive_c("cifar10c", data_dir=data_dir, corruptions=("contrast", "fog"))
    folder = data_dir / "CIFAR-10-C-generated"
    assert sorted(path.stem for path in folder.glob("*.npy")) == ["contrast", "labels"]
    (folder / ".writing-killed").mkdir()
    stamp = (folder / "contrast.npy").stat().st_mtime_ns
    generate_archive_c("cifar10c", data_dir=data_dir, corruptions=("contrast", "fog"))
    assert (folder / "contrast.npy").stat().st_mtime_ns == stamp
    assert sorted(path.name for path in folder.iterdir()) == ["contrast.npy", "fog.npy", "labels.npy", "manifest.json"]


def test_a_run_that_was_stopped_at_its_first_file_goes_on(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = generate._write_array

    def stop_after_writing(*arguments: object) -> str:
        real(*arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(generate, "_write_array", stop_after_writing)
        with pytest.raises(KeyboardInterrupt):
            generate_archive_c("cifar10c", data_dir=data_dir, corruptions=("fog",))
    assert (data_dir / "CIFAR-10-C-generated" / "labels.npy").exists()
    folder = generate_archive_c("cifar10c", data_dir=data_dir, corruptions=("fog",))
    assert sorted(path.name for path in folder.iterdir()) == ["fog.npy", "labels.npy", "manifest.json"]


def test_a_folder_holds_one_set(data_dir: Path) -> None:
    generate_archive_c("cifar10c", data_dir=data_dir, corruptions=("contrast",), n=6)
    with pytest.raises(InputError, match=r"expected n 12 in .*manifest.json, got 6; remove"):
        generate_archive_c("cifar10c", data_dir=data_dir, corruptions=("contrast",))
    with pytest.raises(InputError, match=r"expected seed 1 in .*, got 0"):
        generate_archive_c("cifar10c", data_dir=data_dir, corruptions=("contrast",), n=6, seed=1)
    folder = data_dir / "CIFAR-10-C-generated"
    manifest = (folder / "manifest.json").read_text()
    (folder / "manifest.json").write_text(manifest.replace("CIFAR-10-C", "CIFAR-100-C"))
    with pytest.raises(InputError, match=r"expected archive CIFAR-10-C-generated in .*, got CIFAR-100-C-generated"):
        generate_archive_c("cifar10c", data_dir=data_dir, corruptions=("contrast",), n=6)
    (folder / "manifest.json").write_text("{")
    with pytest.raises(InputError, match="got damaged text"):
        generate_archive_c("cifar10c", data_dir=data_dir, corruptions=("contrast",), n=6)
    (folder / "manifest.json").unlink()
    with pytest.raises(InputError, match=r"expected an empty folder or a manifest\.json"):
        generate_archive_c("cifar10c", data_dir=data_dir, corruptions=("contrast",), n=6)


def test_the_official_folder_is_never_touched(data_dir: Path) -> None:
    official = data_dir / "CIFAR-10-C"
    official.mkdir()
    (official / "fog.npy").write_bytes(b"official")
    generate_archive_c("cifar10c", data_dir=data_dir, corruptions=("fog",))
    assert [path.name for path in official.iterdir()] == ["fog.npy"]
    assert (official / "fog.npy").read_bytes() == b"official"


def test_what_cannot_work_fails_before_anything_is_written(
    data_dir: Path, make_tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match="expected an archive to generate"):
        generate_archive_c("imagenetc", data_dir=data_dir)
    with pytest.raises(InputError, match="did you mean fog"):
        generate_archive_c("cifar10c", data_dir=data_dir, corruptions=("fgo",))
    with pytest.raises(PrerequisiteError, match="cifar100"):
        generate_archive_c("cifar100c", data_dir=data_dir, corruptions=QUICK)
    with monkeypatch.context() as patch:
        patch.setattr(torch.cuda, "is_available", lambda: False)
        with pytest.raises(PrerequisiteError, match="expected a CUDA device, got none"):
            generate_archive_c("cifar10c", data_dir=data_dir, corruptions=QUICK, device="cuda")
    import_tree(make_tree("large", size=(40, 36), test=1), name="cifar100", data_dir=data_dir)
    with pytest.raises(InputError, match=r"expected cifar100 as 32 x 32 images, got \(36, 40\)"):
        generate_archive_c("cifar100c", data_dir=data_dir, corruptions=QUICK)
    assert not (data_dir / "CIFAR-10-C-generated").exists()
    assert not (data_dir / "CIFAR-100-C-generated").exists()


def test_disk_space_is_checked_first(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 10, 3 * 5 * 12 * 3072 - 1))
    with pytest.raises(PrerequisiteError, match="MB of free disk"):
        generate_archive_c("cifar10c", data_dir=data_dir, corruptions=QUICK)
    assert not list((data_dir / "CIFAR-10-C-generated").glob("*.npy"))


def test_command_line(data_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["generate", "cifar10c", "--data-dir", str(data_dir)]
    assert main([*words, "--corruptions", "digital, contrast", "--n", "2"]) == EXIT_DONE
    captured = capsys.readouterr()
    assert "RobustBench cannot read a set of 2" in captured.out
    assert "all requested files are in" in captured.out
    folder = data_dir / "CIFAR-10-C-generated"
    assert sorted(path.stem for path in folder.glob("[!l]*.npy")) == sorted(corruption_names("digital"))
    assert main([*words, "--corruptions", "digitl"]) == EXIT_BAD_INPUT
    assert "did you mean digital" in capsys.readouterr().err


def test_any_data_set_is_generated_under_its_own_name(
    make_tree, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With ImageNet-C's parameters above 64 pixels a side, in the same layout, and never taken for official files."""
    data_dir = tmp_path / "data"
    for name, size in (("pets", (40, 36)), ("photos", (70, 66))):
        import_tree(make_tree(f"{name}-tree", size=size, train=1, val=2), name=name, data_dir=data_dir)
        words = ["generate", name, "--corruptions", "contrast", "--data-dir", str(data_dir)]
        assert main(words) == EXIT_DONE
        clean = load_images(name, "val", data_dir)
        folder = data_dir / f"{name}-C-generated"
        profile = "cifar" if name == "pets" else "imagenet"
        expected = corrupt(clean.pixels, "contrast", severity=4, profile=profile)
        np.testing.assert_array_equal(CifarC(folder, None).load("contrast", 4)[0], expected)
        manifest = json.loads((folder / "manifest.json").read_text())
        assert (manifest["split"], manifest["profile"], manifest["n"]) == ("val", profile, 4)
        assert main(["verify", f"{name}-C-generated", "--data-dir", str(data_dir)]) == EXIT_DONE
        with pytest.raises(InputError, match=r"got a set that was generated here.*; leave the archive out"):
            find_archive_c(str(folder), data_dir)
    main(["list", "--data-dir", str(data_dir)])
    assert "pets-C-generated" in capsys.readouterr().out
    with pytest.raises(InputError, match=r"expected split train in .*, got val; remove"):
        generate_archive_c("pets", data_dir=data_dir, split="train", corruptions=("contrast",), n=2)
    with pytest.raises(InputError, match=r"expected an archive to generate \(cifar10c, cifar100c\) or a data set"):
        generate_archive_c("imagenetc", data_dir=data_dir)
    folder = generate_archive_c(str(tmp_path / "pets-tree"), data_dir=data_dir, corruptions=("contrast",))
    assert folder == data_dir / "pets-tree-C-generated"


def test_two_do_not_write_one_set(data_dir: Path) -> None:
    lock = data_dir / ".CIFAR-10-C-generated.lock"
    with locked(lock), pytest.raises(InputError, match=r"something else is writing to .*CIFAR-10-C-generated; wait"):
        generate_archive_c("cifar10c", data_dir=data_dir, corruptions=QUICK)
    assert not (data_dir / "CIFAR-10-C-generated").exists()
