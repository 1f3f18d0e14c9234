"""Perturbation sequences measured: models whose flips are known beforehand, generated frames and official ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from small_models import CPU, ByBrightness
from torch import nn

import robustness
from data_prep import ImageSet
from data_prep.corruptions import SEQUENCES
from data_prep.corruptions.sequences import perturb
from data_prep.errors import InputError, PrerequisiteError
from robustness.analysis.sequences import MEAN_OF_SEQUENCES
from robustness.flips import flips_of_sequences, top5_distances
from robustness.measure.loaders.loaded import Wanted
from robustness.measure.perturbations import PerturbedImages
from robustness.measure.sequences import evaluate_sequences
from robustness.report import print_summary
from robustness.suite import Suite

CLASSES = tuple("abcdefghij")


def make_images(n: int = 12) -> ImageSet:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (n, 32, 32, 3), dtype=np.uint8) // 2 + rng.integers(0, 100, (n, 1, 1, 3), np.uint8)
    files = np.array([f"{index}.JPEG" for index in range(n)])
    return ImageSet("cifar10", "made up", "test", pixels, np.arange(n) % 10, CLASSES, np.arange(n), files)


def measure(suite: Suite, folder: Path, images: ImageSet | None = None) -> robustness.Run:
    models = {"fine": ByBrightness(), "coarse": ByBrightness(4.0)}
    given = {"data": images or make_images(), "data_dir": folder, "device": "cpu", "progress": False}
    return robustness.evaluate(models, suite=suite, out=folder / "run", baseline="fine", **given)


def suite_of(*names: str, archive: str = "cifar10p", difficulty: int = 1) -> Suite:
    fields = {"archive": archive, "difficulty": difficulty, "models": ("fine",), "corruptions": ()}
    return Suite(name="p", data="cifar10", sequences=names, **fields)


@pytest.mark.parametrize(("noise", "step"), [(True, 1), (False, 1), (False, 3)])
def test_outcomes_are_flips_and_distances_of_all_frames_whatever_the_batch(noise: bool, step: int) -> None:
    rng = np.random.default_rng(1)
    frames = rng.integers(0, 256, (5, 7, 2, 2, 3), dtype=np.uint8)
    labels = np.array([3, 4, 5, 4, 6])
    network = robustness_network()
    with torch.no_grad():
        logits = network(torch.from_numpy(frames).flatten(0, 1).permute(0, 3, 1, 2) / 255).numpy().reshape(5, 7, 10)
    for batch_size in (3, 7, 20, 100):
        (table,) = evaluate_sequences(
            network,
            PerturbedImages(frames, labels),
            np.arange(5),
            [None],
            noise=noise,
            step=step,
            device=CPU,
            batch_size=batch_size,
        )
        predicted = logits.argmax(axis=2)
        np.testing.assert_allclose(table["flips"], flips_of_sequences(predicted, noise=noise, step=step), atol=1e-6)
        np.testing.assert_allclose(table["top5_distance"], top5_distances(logits, noise=noise, step=step), atol=1e-5)
        assert table["predicted"].tolist() == predicted[:, 0].tolist()
        assert table["correct"].tolist() == (predicted[:, 0] == labels).tolist()
        softmax = torch.from_numpy(logits[:, 0]).log_softmax(1)
        np.testing.assert_allclose(table["nll"], -softmax[np.arange(5), labels], atol=1e-5)


def robustness_network() -> nn.Module:
    from robustness.measure.foreign import wrap_model

    return wrap_model("mine", ByBrightness(), Wanted(num_classes=10))


def test_a_run_counts_flips_as_the_paper_does(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images, names = make_images(), ("brightness", "translate")
    run = measure(suite_of(*names), tmp_path, images)
    table = run.sequences.set_index(["sequence", "model"])
    flips = {}
    for name in names:
        frames = perturb(images.pixels, name, indices=images.indices)
        shown = torch.from_numpy(frames).flatten(0, 1).permute(0, 3, 1, 2) / 255
        for model, span in (("fine", 10.0), ("coarse", 4.0)):
            predicted = ByBrightness(span)(shown).argmax(1).numpy().reshape(len(images), -1)
            flips[name, model] = flips_of_sequences(predicted, noise=False)
            assert table.loc[(name, model), "flips"] == pytest.approx(flips[name, model].mean(), abs=1e-6)
    for model in ("fine", "coarse"):
        row = table.loc[(MEAN_OF_SEQUENCES, model)]
        mean = np.mean([flips[name, model].mean() for name in names])
        assert row["flips"] == pytest.approx(mean, abs=1e-6)
        assert row["flips_low"] <= mean <= row["flips_high"]
        board = run.findings.board.table.set_index("model").loc[model]
        assert board["steady"] == pytest.approx(1 - mean, abs=1e-6)
    quotients = [flips[name, "coarse"].mean() / flips[name, "fine"].mean() for name in names]
    coarse = table.loc[(MEAN_OF_SEQUENCES, "coarse")]
    assert coarse["flip_rate"] == pytest.approx(100 * np.mean(quotients), rel=1e-5)
    assert table.loc[(MEAN_OF_SEQUENCES, "fine"), ["flip_rate", "distance_rate"]].tolist() == [100, 100]
    assert run.findings.board.measure == "steady"
    assert run.findings.board.table["model"].iloc[0] == "coarse"
    assert "Along perturbation sequences coarse keeps" in run.headline
    assert "of the frames" in run.headline
    print_summary(run.findings)
    assert "mean of sequences" in capsys.readouterr().out
    assert len(run.cells.query("perturbation == 'clean'")) == 2
    assert "| mean of sequences | coarse |" in (tmp_path / "run/tables/sequences.md").read_text(encoding="utf-8")
    assert '"sequences":[{"sequence":"brightness"' in (tmp_path / "run/report.html").read_text(encoding="utf-8")


def test_official_arrays_are_read_and_difficulty_skips_frames(tmp_path: Path) -> None:
    images = make_images()
    folder = tmp_path / "CIFAR-10-P"
    folder.mkdir()
    ramp = np.zeros((20, 6, 32, 32, 3), np.uint8)
    ramp[:] = (np.arange(6) * 13 + 3)[None, :, None, None, None]  # half a tenth more in every frame
    np.save(folder / "brightness.npy", ramp)
    assert measure(suite_of("brightness"), tmp_path, images).sequences["flips"].iloc[0] == pytest.approx(0.4)
    run = measure(suite_of("brightness", difficulty=2), tmp_path, images)
    assert run.sequences["flips"].iloc[0] == pytest.approx(1.0)
    assert set(run.findings.run.sequences["source"]) == {"official"}
    with pytest.raises(InputError, match=r"expected a file gaussian_noise_2\.npy in .*CIFAR-10-P, got none"):
        measure(suite_of("gaussian_noise", difficulty=2), tmp_path, images)
    np.save(folder / "tilt.npy", ramp[:, 0])
    with pytest.raises(InputError, match=r"expected uint8 \(N, frames, 32, 32, 3\) in .*tilt\.npy"):
        measure(suite_of("tilt"), tmp_path, images)
    np.save(folder / "tilt.npy", ramp[:4])
    with pytest.raises(InputError, match=r"expected a sequence for every image of made up in .*, got 4"):
        measure(suite_of("tilt"), tmp_path, images)


def test_official_videos_are_read_frame_by_frame(tmp_path: Path) -> None:
    cv2 = pytest.importorskip("cv2")
    images = make_images(3)
    suite = suite_of("brightness", archive="imagenetp")
    with pytest.raises(PrerequisiteError, match=r"expected ImageNet-P in .*, got none, and it is not made here"):
        measure(suite, tmp_path, images)
    for index, label in enumerate("abc"):
        folder = tmp_path / "ImageNet-P" / "brightness" / label
        folder.mkdir(parents=True)
        video = cv2.VideoWriter(str(folder / f"{index}.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 30, (32, 32))
        for frame in range(4):
            video.write(np.full((32, 32, 3), 12 + 26 * (frame * (index > 0)), np.uint8))
        video.release()
    table = measure(suite, tmp_path, images).sequences.set_index(["sequence", "model"])
    assert table.loc[("brightness", "fine"), "flips"] == pytest.approx(2 / 3), "one video of three stands still"
    (folder / "2.mp4").write_bytes(b"no video")
    reasons = set(measure(suite, tmp_path, images).missing.values())
    assert len(reasons) == 1
    assert "expected frames of 32 x 32" in min(reasons)
    assert min(reasons).endswith("2.mp4, got 0 frames; get it again")
    (folder / "2.mp4").unlink()
    with pytest.raises(InputError, match=r"expected a video c/2\.mp4 in .* for every clean image, got none for 1 of 3"):
        measure(suite, tmp_path, images)


def test_suites_of_sequences_know_their_names(tmp_path: Path) -> None:
    assert suite_of("all").sequences == SEQUENCES
    with pytest.raises(InputError, match=r"expected a sequence .gaussian_noise, .*, got 'fog'"):
        measure(suite_of("fog", archive=""), tmp_path)
    with pytest.raises(InputError, match="has sequences and corruptions"):
        Suite(name="x", data="cifar10", models=("a",), sequences=("tilt",))
    with pytest.raises(InputError, match="difficulty of sequences as 1, 2 or 3, got 4"):
        suite_of("tilt", difficulty=4)


def test_frames_of_shipped_suites_lie_in_files_and_resume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from robustness.measure import perturbations

    monkeypatch.setattr(perturbations, "_IN_MEMORY_BYTES", 1000)
    first = measure(suite_of("translate"), tmp_path)
    again = measure(suite_of("translate", "tilt"), tmp_path)
    of_first, of_both = (run.sequences.query("sequence == 'translate'") for run in (first, again))
    pd.testing.assert_frame_equal(of_first.reset_index(drop=True), of_both.reset_index(drop=True))
    assert not list((tmp_path / "run").glob(".scratch-*"))
