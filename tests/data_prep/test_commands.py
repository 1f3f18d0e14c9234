from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from data_prep.__main__ import main
from data_prep.corruptions import corruption_names
from data_prep.errors import EXIT_BAD_INPUT, EXIT_DONE
from data_prep.importing import import_tree

Run = Callable[..., str]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command; return its output, or if it ``fails`` on its input, what it says."""

    def ask(*words: str, fails: bool = False) -> str:
        assert main(words) == (EXIT_BAD_INPUT if fails else EXIT_DONE)
        captured = capsys.readouterr()
        return captured.err if fails else captured.out

    return ask


def test_import_list_and_verify(tree: Path, here: Path, run: Run) -> None:
    out = run("import", str(tree), "--name", "toy", "--note", "copy", "--resize", "6", "--crop", "4")
    assert out.splitlines()[-1] == "toy (copy): 4 test, 6 train images of 4 x 4 in 2 classes"
    assert "10 images, 0 MB of pixels, into data/toy" in out
    out = run("list")
    assert any(line.split()[:3] == ["toy", "imported", "test"] and "data/toy" in line for line in out.splitlines())
    assert run("verify", "toy").count("fingerprint") == 2


def test_verify_notices_a_changed_pixel(tree: Path, here: Path, run: Run) -> None:
    run("import", str(tree), "--name", "toy")
    pixels = np.load(here / "data" / "toy" / "train.pixels.npy", mmap_mode="r+")
    pixels[0, 0, 0, 0] ^= 1
    pixels.flush()
    err = run("verify", "toy", fails=True)
    assert "expected fingerprint" in err
    assert "toy train" in err


def test_verify_of_a_corrupted_set(here: Path, run: Run) -> None:
    assert "get it: python -m data_prep download cifar10c" in run("verify", "cifar10c", fails=True)
    folder = here / "data" / "CIFAR-10-C"
    folder.mkdir(parents=True)
    np.save(folder / "labels.npy", np.arange(2))
    first, *others = corruption_names("all")
    for name in others:
        np.save(folder / f"{name}.npy", np.zeros((10, 32, 32, 3), np.uint8))
    assert f"got none of {first}" in run("verify", "cifar10c", fails=True)
    np.save(folder / f"{first}.npy", np.zeros((10, 32, 32, 3), np.uint8))
    assert f"cifar10c {first}: 5 x 2 images" in run("verify", "cifar10c")


def test_generated_sets_are_listed_and_verified(make_tree, here: Path, run: Run) -> None:
    assert "run: python -m data_prep generate cifar10c" in run("verify", "cifar10c-generated", fails=True)
    import_tree(make_tree(size=(32, 32), test=2), name="cifar10", note="toy", data_dir=here / "data")
    run("generate", "cifar10c", "--corruptions", "contrast,saturate")
    lines = run("list").splitlines()
    assert [line.split()[1] for line in lines if line.startswith("cifar10 ")] == ["imported"]
    (listed,) = (line for line in lines if line.startswith("cifar10c-generated"))
    assert "generated  2 corruptions of 4 images, from cifar10 (toy)" in listed
    assert "data/CIFAR-10-C-generated" in listed
    out = run("verify", "cifar10c-generated")
    assert "cifar10c-generated contrast: 5 x 4 images\ncifar10c-generated saturate: 5 x 4 images" in out

    folder = here / "data" / "CIFAR-10-C-generated"
    official = folder.with_name("CIFAR-10-C")
    official.symlink_to(folder.name)
    (listed,) = (line for line in run("list").splitlines() if line.startswith("cifar10c "))
    assert "not official" in listed
    official.unlink()
    np.save(folder / "fog.npy", np.load(folder / "contrast.npy"))
    assert "got also fog.npy; remove it" in run("verify", "cifar10c-generated", fails=True)
    (folder / "fog.npy").unlink()
    pixels = np.load(folder / "contrast.npy", mmap_mode="r+")
    pixels[0, 0, 0, 0] ^= 1
    pixels.flush()
    err = run("verify", "cifar10c-generated", fails=True)
    assert "contrast.npy, got another or no file; run: python -m data_prep generate cifar10c" in err
    (folder / "manifest.json").write_text("{")
    (listed,) = (line for line in run("list").splitlines() if line.startswith("cifar10c-generated"))
    assert "damaged" in listed


def test_list_shows_trees_damage_and_shadowed_imports(tree: Path, here: Path, run: Run) -> None:
    run("import", str(tree), "--name", "cifar10")
    (here / "data" / "cifar-10-batches-py").mkdir()
    run("import", str(tree), "--name", "broken")
    (here / "data" / "broken" / "dataset.json").write_text("{")
    tree.rename(here / "data" / "mine")
    out = run("list")
    assert "unused: the official files take precedence" in out
    assert "damaged" in out
    assert "python -m data_prep import data/mine --name mine" in out
    assert "python -m data_prep download cifar100" in out


def test_help_ends_with_the_data(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    out = capsys.readouterr().out
    assert "data:\nname" in out
    assert out.rstrip().splitlines()[-1].startswith("cifar10.2")


@pytest.mark.parametrize("command", ["list", "download", "import", "verify"])
def test_every_command_has_examples(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main([command, "--help"])
    assert f"  python -m data_prep {command}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("import", "nowhere", "--name", "toy"), "error: expected a folder or an archive to import, got nowhere"),
        (("verify", "nothing"), "error: expected a data set (shapes, cifar10, cifar100, imagenet) or the path"),
        (("download", "imagenet"), "error: expected something to download"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(here: Path, run: Run, words: tuple[str, ...], message: str) -> None:
    err = run(*words, fails=True)
    assert err.splitlines()[-1].startswith(message)
    assert "Traceback" not in err
