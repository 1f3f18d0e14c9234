"""The residual law: its fit, its file, and what it refuses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from data_prep.errors import InputError
from data_prep.shapes import make_shapes
from robustness.fit import main
from robustness.laws import FittedLaw, NoiseLevel, law_path, read_law, write_law
from robustness.measure.fit import NOISES, draw_line, fit_line, fit_residual_law
from robustness.measure.subjects import load_subject, load_subjects
from robustness.policies import ResidualLaw
from sdnet_core import ModelCard, build_model, load_model, save_model, weights_fingerprint

CPU = torch.device("cpu")


@pytest.fixture
def model(models: Path, tmp_path: Path) -> Path:
    """A copy of the untrained SDNet, to lay a law beside."""
    return Path(shutil.copy(models / "sparse.safetensors", tmp_path / "mine.safetensors"))


@pytest.fixture
def one_level(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the first level of every noise, so that a fit takes a second."""
    monkeypatch.setattr("robustness.measure.fit.severities", lambda noise, profile: (1,))


def test_least_squares_by_hand():
    """λ = 0.2, 0.3, 0.7 at r = 1, 2, 3: slope 0.25, intercept −0.1; 0.015 of 0.14 stays unexplained."""
    slope, intercept, r_squared = fit_line([1.0, 2.0, 3.0], [0.2, 0.3, 0.7])
    assert (slope, intercept) == (pytest.approx(0.25), pytest.approx(-0.1))
    assert r_squared == pytest.approx(1 - 0.015 / 0.14)


def test_a_flat_fit_has_no_quality():
    assert fit_line([1.0, 2.0], [0.3, 0.3]) == (pytest.approx(0.0), pytest.approx(0.3), None)
    assert fit_line([2.0, 2.0], [0.2, 0.4]) == (0.0, pytest.approx(0.3), pytest.approx(0.0))


@pytest.mark.usefixtures("one_level")
def test_the_command_stores_a_law_that_reads_back(model, monkeypatch, capsys):
    monkeypatch.setattr("robustness.fit.load_images", lambda name, split, data_dir: make_shapes(split, n=40))
    options = ["--data", "shapes", "--n", "12", "--lambdas", "0.1,0.3", "--device", "cpu", "--seed", "3"]
    assert main([str(model), *options]) == 0
    assert "written" in capsys.readouterr().out
    weights = weights_fingerprint(load_model(model))
    fitted = read_law(model, weights=weights)
    assert fitted is not None
    assert [p.noise for p in fitted.points] == ["clean", *NOISES]
    assert {p.lam for p in fitted.points} <= {0.1, 0.3}
    images = make_shapes("train", n=40).subset(12, seed=3)
    expected = {"weights": weights, "fingerprint": images.fingerprint, "seed": 3, "lambdas": [0.1, 0.3]}
    assert expected.items() <= fitted.provenance.items()
    assert fitted.provenance["data"] == {"name": "shapes", "title": "shapes", "split": "train", "n": 12}
    assert draw_line(fitted.points, fitted.provenance) == fitted


def test_levels_that_defeat_the_model_are_left_out_and_the_line_is_clipped_to_what_was_best():
    """Kept: λ = 0.2, 0.3, 0.7 at r = 1, 2, 3; the fourth level leaves less than half of the clean accuracy."""
    levels = [("clean", 1.0, 0.2, 0.9), ("a", 2.0, 0.3, 0.6), ("a", 3.0, 0.7, 0.45), ("a", 4.0, 0.1, 0.44)]
    points = [NoiseLevel(name, 1, r, lam, 0.9, trained, False) for name, r, lam, trained in levels]
    fitted = draw_line(points, {})
    assert [point.fitted for point in fitted.points] == [True, True, True, False]
    assert (fitted.law.slope, fitted.law.intercept) == (pytest.approx(0.25), pytest.approx(-0.1))
    assert (fitted.law.lowest, fitted.law.highest) == (0.2, 0.7)
    assert fitted.r_squared == pytest.approx(1 - 0.015 / 0.14)


@pytest.mark.usefixtures("one_level")
def test_the_residual_is_that_at_the_lambda_of_training_and_the_best_lambda_has_the_most_right_answers(model):
    subject = load_subject(str(model), num_classes=10, device=CPU)
    images = make_shapes("train", n=40)
    options = {"weights": subject.fingerprint, "seed": 0, "device": CPU, "batch_size": 20}
    clean = fit_residual_law(subject.network, images, (0.2, 0.9), **options).points[0]
    x = torch.from_numpy(images.pixels).permute(0, 3, 1, 2) / 255
    with torch.inference_mode():
        residual = subject.network.residual(x, subject.network.encode(x, 0.1)).mean()
        right = {lam: float((subject.network(x, lam).argmax(1).numpy() == images.labels).mean()) for lam in (0.2, 0.9)}
    assert clean.residual == pytest.approx(float(residual), rel=1e-4)
    assert clean.accuracy == max(right.values())
    assert clean.lam == (0.9 if right[0.9] > right[0.2] else 0.2)


def test_images_outside_the_training_split_and_models_without_lambda_are_refused(models):
    network = load_model(models / "sparse.safetensors")
    options = {"weights": "", "seed": 0, "device": CPU, "batch_size": 20}
    with pytest.raises(InputError, match="split 'train' only"):
        fit_residual_law(network, make_shapes("test", n=4), (0.1,), **options)
    train = make_shapes("train", n=4)
    with pytest.raises(InputError, match="resnet18 has no sparse code"):
        fit_residual_law(load_model(models / "plain.safetensors"), train, (0.1,), **options)


def test_a_law_of_other_weights_and_a_damaged_law_are_refused(model):
    assert read_law(model, weights="w") is None
    law = FittedLaw(ResidualLaw(0.1, 0.2, 0.1, 1.0), None, (), {"weights": "w"})
    write_law(law, law_path(model))
    assert read_law(model, weights="w") == law
    with pytest.raises(InputError, match=r"other weights .*python -m robustness\.fit"):
        read_law(model, weights="v")
    for text in ("{", "[]", json.dumps({**law.to_json(), "format": "x"}), json.dumps({**law.to_json(), "law": {}})):
        law_path(model).write_text(text)
        with pytest.raises(InputError, match="is damaged"):
            read_law(model, weights="w")


def test_a_new_model_under_an_old_law_is_refused_when_it_is_measured(model):
    weights = weights_fingerprint(load_model(model))
    law = FittedLaw(ResidualLaw(0.1, 0.2, 0.1, 1.0), None, (), {"weights": weights})
    write_law(law, law_path(model))
    assert load_subjects((str(model),), num_classes=10, device=CPU)[0].law == law
    other = build_model("sdnet18", width=2)
    save_model(other, model, ModelCard(name="other", config=other.config))
    with pytest.raises(InputError, match="other weights"):
        load_subjects((str(model),), num_classes=10, device=CPU)
    assert load_subject(str(model), num_classes=10, device=CPU).law is None, "fitting it again must stay possible"
