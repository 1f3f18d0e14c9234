"""The residual law: its fit, its file, and what it refuses."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from data_prep.errors import InputError
from data_prep.shapes import make_shapes
from robustness.fit import main
from robustness.laws import FittedLaw, NoiseLevel, fit_line, law_path, read_law, write_law
from robustness.measure.fitting import _find_best, draw_line, fit_residual_law
from robustness.measure.loaders.loaded import Wanted
from robustness.measure.subjects import load_subject, load_subjects
from robustness.policies import SWEEP_NOISES, ResidualLaw
from sdnet_core import ModelCard, build_model, load_model, save_model, weights_fingerprint

CPU = torch.device("cpu")


@pytest.fixture
def model(models: Path, tmp_path: Path) -> Path:
    """A copy of the untrained SDNet, to lay a law beside."""
    return Path(shutil.copy(models / "sparse.safetensors", tmp_path / "mine.safetensors"))


@pytest.fixture
def one_level(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the first level of every noise, on one of 40 images, so that a fit takes a second."""
    monkeypatch.setattr("robustness.measure.fitting.severities", lambda noise, profile: (1,))
    monkeypatch.setattr(
        "robustness.measure.fitting.load_images", lambda name, split, data_dir: make_shapes(split, n=40)
    )


def level(residual: float, lam: float, spread: float = 0.1, trained: float = 0.9) -> NoiseLevel:
    return NoiseLevel("a", 1, residual, lam, spread, 0.9, trained, fitted=False)


def test_least_squares_by_hand():
    """λ = 0.2, 0.3, 0.7 at r = 1, 2, 3: slope 0.25, intercept −0.1; 0.015 of 0.14 stays unexplained."""
    slope, intercept, r_squared = fit_line([level(1, 0.2), level(2, 0.3), level(3, 0.7)])
    assert (slope, intercept) == (pytest.approx(0.25), pytest.approx(-0.1))
    assert r_squared == pytest.approx(1 - 0.015 / 0.14)


def test_a_level_counts_by_its_spread():
    """Half the spread weighs as much as four levels, and a level that knows nothing of its best λ bends nothing."""
    weighed = fit_line([level(1, 0.2), level(2, 0.3, spread=0.05), level(3, 0.7)])
    assert weighed == pytest.approx(fit_line([level(1, 0.2), *[level(2, 0.3)] * 4, level(3, 0.7)]))
    bent = fit_line([level(1, 0.1), level(2, 0.2), level(3, 0.9, spread=1e4)])
    extreme = fit_line([level(1, 0.1, spread=1e-300), level(2, 0.3, spread=1e300), level(3, 0.2)])
    assert all(np.isfinite(extreme[:2]))
    assert bent[:2] == (pytest.approx(0.1), pytest.approx(0.0, abs=1e-6))


def test_a_flat_fit_has_no_quality():
    assert fit_line([level(1, 0.3), level(2, 0.3)]) == (pytest.approx(0.0), pytest.approx(0.3), None)
    assert fit_line([level(2, 0.2), level(2, 0.4)]) == (0.0, pytest.approx(0.3), pytest.approx(0.0))


@pytest.mark.usefixtures("one_level")
def test_the_command_stores_a_law_that_reads_back(model, capsys):
    options = ["--data", "shapes", "--n", "12", "--lambdas", "0.1,0.3", "--device", "cpu", "--seed", "3"]
    assert main([str(model), *options]) == 0
    assert "written" in capsys.readouterr().out
    weights = weights_fingerprint(load_model(model))
    fitted = read_law(model, weights=weights)
    assert fitted is not None
    assert [p.noise for p in fitted.points] == ["clean", *SWEEP_NOISES]
    assert all(0.099 < p.lam < 0.301 and p.spread > 0.199 / 12**0.5 for p in fitted.points)
    images = make_shapes("train", n=40).subset(12, seed=3)
    expected = {"weights": weights, "fingerprint": images.fingerprint, "seed": 3, "lambdas": [0.1, 0.3]}
    assert expected.items() <= fitted.provenance.items()
    assert fitted.provenance["data"] == {"name": "shapes", "title": "shapes", "split": "train", "n": 12}
    assert draw_line(fitted.points, fitted.provenance) == fitted


@pytest.mark.usefixtures("one_level")
def test_a_law_is_fitted_to_the_noises_that_were_chosen(model, capsys):
    options = ["--data", "shapes", "--n", "12", "--lambdas", "0.1,0.3", "--device", "cpu"]
    assert main([str(model), *options]) == 0
    everything = read_law(model, weights=weights_fingerprint(load_model(model)))
    assert main([str(model), *options, "--noises", "speckle_noise"]) == 0
    speckle = read_law(model, weights=weights_fingerprint(load_model(model)))
    assert "2 of 2 noise levels" in capsys.readouterr().out
    assert everything is not None
    assert speckle is not None
    points = [point for point in everything.points if point.noise in ("clean", "speckle_noise")]
    assert speckle == draw_line(points, everything.provenance)
    with pytest.raises(InputError, match="got fog"):
        main([str(model), *options, "--noises", "speckle_noise,fog"])


def test_levels_that_defeat_the_model_are_left_out_and_the_line_is_clipped_to_what_was_best():
    """Kept: λ = 0.2, 0.3, 0.7 at r = 1, 2, 3; the fourth level leaves less than half of the clean accuracy."""
    levels = [("clean", 1.0, 0.2, 0.9), ("a", 2.0, 0.3, 0.6), ("a", 3.0, 0.7, 0.45), ("a", 4.0, 0.1, 0.44)]
    points = [dataclasses.replace(level(r, lam, trained=trained), noise=name) for name, r, lam, trained in levels]
    fitted = draw_line(points, {})
    assert [point.fitted for point in fitted.points] == [True, True, True, False]
    assert (fitted.law.slope, fitted.law.intercept) == (pytest.approx(0.25), pytest.approx(-0.1))
    assert (fitted.law.lowest, fitted.law.highest) == (0.2, 0.7)
    assert fitted.r_squared == pytest.approx(1 - 0.015 / 0.14)


@pytest.mark.usefixtures("one_level")
def test_the_residual_is_that_at_the_lambda_of_training_and_the_best_lambda_has_the_most_right_answers(model):
    subject = load_subject(str(model), Wanted(num_classes=10), device=CPU)
    images = make_shapes("train", n=40)
    options = {"weights": subject.fingerprint, "seed": 0, "device": CPU, "batch_size": 20}
    clean = fit_residual_law(subject.network, images, (0.2, 0.9), **options).points[0]
    x = torch.from_numpy(images.pixels).permute(0, 3, 1, 2) / 255
    with torch.inference_mode():
        residual = subject.network.residual(x, subject.network.encode(x, 0.1)).mean()
        right = {lam: float((subject.network(x, lam).argmax(1).numpy() == images.labels).mean()) for lam in (0.2, 0.9)}
    assert clean.residual == pytest.approx(float(residual), rel=1e-4)
    assert clean.accuracy == max(right.values())
    assert (clean.lam > 0.55) == (right[0.9] > right[0.2])


def test_images_outside_the_training_split_and_models_without_lambda_are_refused(models):
    network = load_model(models / "sparse.safetensors")
    options = {"weights": "", "seed": 0, "device": CPU, "batch_size": 20}
    with pytest.raises(InputError, match="expected the split 'train' to fit a law on"):
        fit_residual_law(network, make_shapes("test", n=4), (0.1,), **options)
    train = make_shapes("train", n=4)
    with pytest.raises(InputError, match="expected a network with a sparse code, got resnet18"):
        fit_residual_law(load_model(models / "plain.safetensors"), train, (0.1,), **options)


def test_a_law_of_other_weights_and_a_damaged_law_are_refused(model):
    assert read_law(model, weights="w") is None
    law = FittedLaw(ResidualLaw(0.1, 0.2, 0.1, 1.0), None, (), {"weights": "w"})
    write_law(law, law_path(model))
    assert read_law(model, weights="w") == law
    with pytest.raises(InputError, match=r"a law of other weights; fit it again .*python -m robustness\.fit"):
        read_law(model, weights="v")
    certain = dataclasses.asdict(level(1, 0.2, spread=0.0))
    for text in (
        json.dumps({**law.to_json(), "points": [certain]}),
        "{",
        "[]",
        json.dumps({**law.to_json(), "format": "x"}),
        json.dumps({**law.to_json(), "law": {}}),
    ):
        law_path(model).write_text(text)
        with pytest.raises(InputError, match=r"expected a residual law .*, got damaged text"):
            read_law(model, weights="w")


def test_a_new_model_under_an_old_law_is_refused_when_it_is_measured(model):
    weights = weights_fingerprint(load_model(model))
    law = FittedLaw(ResidualLaw(0.1, 0.2, 0.1, 1.0), None, (), {"weights": weights})
    write_law(law, law_path(model))
    assert load_subjects((str(model),), Wanted(num_classes=10), device=CPU)[0].law == law
    other = build_model("sdnet18", width=2)
    save_model(other, model, ModelCard(name="other", config=other.config))
    with pytest.raises(InputError, match="other weights"):
        load_subjects((str(model),), Wanted(num_classes=10), device=CPU)
    assert load_subject(str(model), Wanted(num_classes=10), device=CPU).law is None, (
        "fitting it again must stay possible"
    )


def test_the_best_lambda_is_a_mean_over_samples_of_the_images():
    """λ = 0.2 wins clearly in one level; in another it differs from 0.4 by one image in 100, and the spread says so."""
    frames = {}
    for name, right in (("clear", {0.2: 90, 0.4: 50}), ("close", {0.2: 71, 0.4: 70})):
        sets = {lam: np.roll(np.arange(100) < count, round(100 * lam)) for lam, count in right.items()}
        answers = {lam: pd.DataFrame({"correct": correct, "residual": 3.0}) for lam, correct in sets.items()}
        frames[name] = _find_best(name, 1, answers, (0.2, 0.4), 0.2)
    assert (frames["clear"].lam, frames["clear"].accuracy) == (pytest.approx(0.2, abs=0.01), pytest.approx(0.9))
    assert 0.25 < frames["close"].lam < 0.35
    assert frames["clear"].spread < 0.065 < 0.1 < frames["close"].spread
