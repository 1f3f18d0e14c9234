"""Natural shifts measured: models that answer by colour, whose accuracies are known beforehand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from pictured import write_png
from PIL import Image
from torch import nn

import robustness
from data_prep import ImageSet
from data_prep.class_lists import imagenet_wnids
from data_prep.decode import Geometry
from data_prep.errors import EXIT_DONE, InputError, PrerequisiteError
from data_prep.importing import import_tree
from data_prep.shifts import CIFAR10_CLASSES, geometry_beside
from data_prep.subsets import group_subset, imagenet_subset, objectnet_groups, read_wnids
from robustness import run as command
from robustness.analysis.shifts import add_effective_robustness, fit_line, format_shifts, logit
from robustness.measure.evaluate import pool

SIDE = 8
WNIDS = imagenet_wnids()


class ByColour(nn.Module):
    """The largest logit, 2, is class 0's, which no subset has; the next, 1, belongs to the class of the colour."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        pixel = (images[:, :, 0, 0] * 255).round().long()
        shown = pixel[:, 0] * 256 + pixel[:, 1]
        logits = torch.zeros(len(images), 1000)
        logits[:, 0] = 2
        return logits.scatter(1, shown[:, None], 1.0)


def picture(index: int) -> Image.Image:
    return Image.new("RGB", (SIDE, SIDE), (index // 256, index % 256, 0))


def clean_set(indices: list[int]) -> ImageSet:
    pixels = np.stack([np.asarray(picture(index)) for index in indices])
    labels = np.array(indices)
    return ImageSet("imagenet", "imagenet", "val", pixels, labels, WNIDS, np.arange(len(indices)))


def evaluate_on(tmp_path: Path, indices: list[int]) -> robustness.Run:
    """The suite of all shifts in ``tmp_path``, beside clean images of the classes ``indices``."""
    options = {"suite": "shifts", "data_dir": tmp_path, "out": tmp_path / "run", "device": "cpu", "progress": False}
    return robustness.evaluate({"mine": ByColour()}, clean_set(indices), **options)


def test_models_are_asked_among_the_classes_of_a_set_only(tmp_path: Path) -> None:
    """Class 0 has the largest logit and is not in ImageNet-R."""
    for position, wnid in enumerate(read_wnids("imagenet_r")):
        path = tmp_path / "imagenet-r" / wnid / "1.png"
        path.parent.mkdir(parents=True)
        picture(WNIDS.index(wnid) if position % 4 != 1 else 3).save(path)  # a quarter shows another class
    assert not imagenet_subset("imagenet_r").mask[[0, 3]].any()
    run = evaluate_on(tmp_path, [0, 1, 2, 3, 4])  # two of which do not count
    (row,) = run.findings.shifts.to_dict("records")
    assert (row["shift"], row["n"], row["accuracy"]) == ("ImageNet-R", 200, 0.75)
    assert (row["clean_n"], row["clean_accuracy"]) == (3, 1)
    assert row["ci_low"] < 0.75 < row["ci_high"]
    (clean,) = run.findings.run.corrupted.to_dict("records")
    assert (clean["n"], clean["accuracy"]) == (5, 0.2), "of all classes, 0 is the answer to everything"
    assert (run.findings.board.measure, run.findings.board.table["shifts"].item()) == ("shifts", 0.75)
    assert "Under natural shifts mine keeps 75.0" in run.headline
    assert {"shift_ImageNet-R"} <= set(run.figures)
    assert (run.path / "figures" / "shift_ImageNet-R.png").is_file()
    assert "| ImageNet-R | mine | 75.0" in (run.path / "tables" / "shifts.md").read_text(encoding="utf-8")


def test_any_class_of_an_object_is_right_and_none_besides(tmp_path: Path) -> None:
    """Every folder of ObjectNet shows the last of its classes, whose representative is the first."""
    for folder, wnids in objectnet_groups().items():
        path = tmp_path / "objectnet-1.0" / "images" / folder / "1.png"
        path.parent.mkdir(parents=True)
        framed = Image.new("RGB", (SIDE + 4, SIDE + 4), (255, 0, 0))
        framed.paste(picture(WNIDS.index(wnids[-1])), (2, 2))
        framed.save(path)
    clocks = [WNIDS.index("n02708093"), WNIDS.index("n03196217")]
    (row,) = evaluate_on(tmp_path, clocks).findings.shifts.to_dict("records")
    assert (row["n"], row["accuracy"], row["clean_n"], row["clean_accuracy"]) == (113, 1, 2, 1)


def test_logits_of_a_group_are_its_largest() -> None:
    subset = group_subset({"a": ("q", "s"), "b": ("r",)}, ("p", "q", "r", "s"))
    logits = torch.tensor([[9.0, 1, 2, 3], [9, 4, 2, 3], [9, -1, -2, -3]])
    inf = torch.inf
    assert pool(logits, subset).tolist() == [[-inf, 3, 2, -inf], [-inf, 4, 2, -inf], [-inf, -1, -2, -inf]]


def table_of(shifted: list[float], clean: list[float], n: int = 1000) -> pd.DataFrame:
    rows = [
        {"model": f"m{index}", "lam": np.nan, "shift": "X", "protocol": "all classes count", "classes": 10, "n": n}
        | {"accuracy": a, "ci_low": a - 0.01, "ci_high": a + 0.01, "clean_n": n, "clean_accuracy": c}
        | {"clean_ci_low": c - 0.01, "clean_ci_high": c + 0.01}
        for index, (a, c) in enumerate(zip(shifted, clean, strict=True))
    ]
    return pd.DataFrame(rows)


def test_effective_robustness_is_what_lies_above_the_line_of_the_others() -> None:
    clean = np.array([0.6, 0.7, 0.8, 0.9])
    value = 1.2 * np.log(clean / (1 - clean)) - 0.7
    on_line = 1 / (1 + np.exp(-value))
    line = fit_line(table_of(on_line.tolist(), clean.tolist()))
    assert line == pytest.approx((1.2, -0.7))
    shifted = [*on_line[:3].tolist(), on_line[3] + 0.05]
    full = add_effective_robustness(table_of(shifted, clean.tolist()))
    assert full["effective_robustness"].iloc[3] == pytest.approx(0.05)
    assert full["effective_robustness"].iloc[0] != pytest.approx(
        0
    )  # the line of the others includes the model above it
    assert add_effective_robustness(table_of(shifted[:3], clean[:3].tolist()))["expected"].isna().all()
    assert fit_line(table_of([0.1, 0.2, 0.3], [0.5, 0.5, 0.5])) is None
    assert logit([0, 1], [100, 100]) == pytest.approx([-np.log(199), np.log(199)])
    again = pd.concat([table_of(shifted, clean.tolist()).assign(model="m3").tail(1), table_of(shifted, clean.tolist())])
    own = add_effective_robustness(again)["effective_robustness"]
    assert own.iloc[-1] == pytest.approx(0.05)  # another λ of the same model is none of the others
    text = format_shifts(full)
    assert "| X | m3 |" in text
    assert "+5.0 |" in text
    assert "- X: all classes count." in text


def test_the_suite_measures_what_is_there_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    pixels, labels = rng.integers(0, 256, (20, 32, 32, 3), dtype=np.uint8), rng.integers(0, 10, 20)
    for index, (image, name) in enumerate(zip(pixels, CIFAR10_CLASSES, strict=False)):
        write_png(tmp_path / "tree" / "test" / name / f"{index}.png", image)
    import_tree(tmp_path / "tree", name="cifar10", data_dir=tmp_path / "data")
    words = ["--suite", "shifts", "--models", "resnet18-cifar10", "--data-dir", str(tmp_path / "data")]
    words += ["--out", str(tmp_path / "out"), "--device", "cpu"]
    with pytest.raises(PrerequisiteError, match=r"expected natural shifts of cifar10 \(cifar10\.1, cifar10\.2\) in .*"):
        command.main(words)
    np.savez(tmp_path / "data" / "cifar102_test.npz", images=pixels, labels=labels)
    own = tmp_path / "own.toml"
    own.write_text('data = "cifar10"\ncorruptions = []\nshifts = ["imagenetr"]\nmodels = ["resnet18-cifar10"]\n')
    with pytest.raises(InputError, match=r"expected natural shifts of cifar10 .*, got imagenetr"):
        command.main([*words, "--suite", str(own)])
    assert command.main(words) == EXIT_DONE
    out = capsys.readouterr()
    assert "CIFAR-10.2 has 2,000 images, and 20 are here" in out.out
    table = pd.read_csv(tmp_path / "out" / "tables" / "shifts.csv")
    assert table[["n", "clean_n"]].to_numpy().tolist() == [[20, 10]]
    assert len(list((tmp_path / "out" / "outcomes").iterdir())) == 2, "the clean images are asked once"
    assert command.main(words) == EXIT_DONE
    assert "2 cells, 2 of them done" in capsys.readouterr().out


def test_shifted_photographs_are_prepared_as_the_clean_ones(tmp_path: Path) -> None:
    write_png(tmp_path / "tree" / "val" / WNIDS[0] / "x.png", np.zeros((60, 50, 3), np.uint8))
    import_tree(tmp_path / "tree", name="imagenet", data_dir=tmp_path / "data", geometry=Geometry(resize=40, crop=36))
    clean = clean_set([0])
    assert geometry_beside(clean, tmp_path / "data") == Geometry(resize=40, crop=36)
    assert geometry_beside(clean, tmp_path) == Geometry(resize=9, crop=8)
