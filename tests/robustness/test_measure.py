"""Cells, outcomes and evaluation: the traps of the protocol that lie below the command line."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from data_prep import ImageSet, load_images
from data_prep.errors import InputError
from robustness.measure.cells import Cell
from robustness.measure.evaluate import EvaluationError, evaluate
from robustness.measure.foreign import ForeignClassifier
from robustness.measure.loaders.loaded import Loaded, Wanted
from robustness.measure.perturbations import PerturbedImages, perturb
from robustness.measure.plan import list_perturbations
from robustness.measure.subjects import Subject, load_subjects
from robustness.run_directory import RunDirectory
from robustness.suite import Suite
from robustness.which_lam import WhichLam
from sdnet_core import build_model, weights_fingerprint
from sdnet_core.augment import to_images

CPU = torch.device("cpu")
IMAGES = load_images("shapes", split="test").subset(23)


def make_subject(seed: int = 0, arch: str = "sdnet18", **options: object) -> Subject:
    torch.manual_seed(seed)
    network = build_model(arch, width=2, **options).eval()
    return Subject("s", network, weights_fingerprint(network), {})


def run(network: torch.nn.Module, lambdas: list[float] | list[None], batch_size: int = 8) -> list[pd.DataFrame]:
    images = PerturbedImages(IMAGES.pixels, IMAGES.labels)
    return evaluate(network, images, IMAGES.indices, lambdas, device=CPU, batch_size=batch_size)


def test_an_uneven_last_batch_gives_the_values_of_single_images():
    """Trap 3: 23 images in batches of 8, one at a time, and all at once."""
    network = make_subject().network
    frames = [run(network, [0.3], batch_size)[0] for batch_size in (8, 1, 100)]
    for other in frames[1:]:
        pd.testing.assert_frame_equal(frames[0], other, rtol=1e-4, atol=1e-5)
    assert list(frames[0]["index"]) == list(IMAGES.indices)
    assert (frames[0]["correct"] == (frames[0]["predicted"] == IMAGES.labels)).all()


def test_a_lambda_is_answered_alike_alone_and_in_a_sweep():
    network = make_subject().network
    before = weights_fingerprint(network)
    sweep = run(network, [0.1, 0.5, 0.1])
    pd.testing.assert_frame_equal(sweep[0], sweep[2])
    pd.testing.assert_frame_equal(sweep[1], run(network, [0.5])[0])
    assert sweep[1]["sparsity"].mean() > sweep[0]["sparsity"].mean()
    levels = network.noise_level(to_images(torch.from_numpy(np.array(IMAGES.pixels)))).numpy()
    for frame in sweep:
        np.testing.assert_allclose(frame["noise_level"], levels, rtol=1e-6)
    assert not sweep[0]["nll"].equals(sweep[1]["nll"])
    assert weights_fingerprint(network) == before


def test_confidence_and_nll_are_those_of_the_softmax():
    network = make_subject().network
    frame = run(network, [0.2])[0]
    with torch.inference_mode():
        x = torch.from_numpy(IMAGES.pixels).permute(0, 3, 1, 2).float() / 255
        probabilities = network(x, lam=0.2).softmax(1).numpy()
    np.testing.assert_allclose(frame["confidence"], probabilities.max(1), rtol=1e-4)
    expected = -np.log(probabilities[np.arange(len(IMAGES)), IMAGES.labels])
    np.testing.assert_allclose(frame["nll"], expected, rtol=1e-3, atol=1e-5)


def test_logits_that_are_not_finite_fail_the_cell():
    network = make_subject().network
    with torch.no_grad():
        network.linear.bias[0] = torch.nan
    with pytest.raises(EvaluationError, match=r"23 of 23 images are not finite at λ = 0\.2"):
        run(network, [0.2])


def make_cell(**changes: object) -> Cell:
    suite = Suite(name="s", data="shapes", models=("m",), corruptions=("gaussian_noise",), severities=(1, 2))
    perturbations = list_perturbations(suite, suite.corruptions, archive=None)
    fields = {"subject": make_subject(), "lam": 0.1, "perturbation": perturbations[1], "images": IMAGES, "seed": 0}
    fields |= {"perturbation": perturbations[2]} if changes.pop("harder", False) else {}
    fields |= changes
    return Cell(**{**fields, "lam": WhichLam.of(fields["lam"])})


@pytest.mark.parametrize(
    "change",
    [
        {"lam": 0.2},
        {"seed": 1},
        {"harder": True},
        {"subject": dataclasses.replace(make_subject(), precision="fast")},
        {"images": IMAGES.subset(22)},
        {"subject": make_subject(seed=1)},
        {"subject": make_subject(n_steps=3)},
        {"subject": make_subject(mu=0.1)},
    ],
)
def test_whatever_changes_the_result_changes_the_key(change):
    """Trap 9: one changed weight, λ, seed, or fewer images is no cache hit."""
    assert make_cell().key == make_cell().key
    assert make_cell(**change).key != make_cell().key


def perturb_by(corruption: str, images: ImageSet, scratch: Path) -> np.ndarray:
    suite = Suite(name="s", data="shapes", models=("m",), corruptions=(corruption,), severities=(3,))
    perturbation = list_perturbations(suite, suite.corruptions, archive=None)[1]
    return perturb(perturbation, images, seed=0, archive=None, device=CPU, scratch=scratch).pixels


def test_perturbed_images_do_not_depend_on_the_subset(tmp_path):
    some = IMAGES.subset(5)
    whole, part = (perturb_by("gaussian_noise", images, tmp_path) for images in (IMAGES, some))
    assert np.array_equal(part, whole[np.isin(IMAGES.indices, some.indices)])


def test_images_too_many_for_memory_are_kept_in_a_file(monkeypatch, tmp_path):
    in_memory = perturb_by("contrast", IMAGES, tmp_path)
    monkeypatch.setattr("robustness.measure.perturbations._IN_MEMORY_BYTES", 0)
    in_file = perturb_by("contrast", IMAGES, tmp_path)
    assert isinstance(in_file, np.memmap)
    assert np.array_equal(in_file, in_memory)


def test_cells_read_together_are_those_read_one_by_one(monkeypatch, tmp_path):
    """Three kinds of cells, mixed, two of them damaged or absent, at most two cells of 23 images at a time."""
    directory = RunDirectory(tmp_path / "run")
    directory.create()
    sparse = run(make_subject().network, [0.1, 0.2, 0.3, 0.4])
    plain, few = run(make_subject(arch="resnet18").network, [None])[0], sparse[0].head(9)
    frames = dict(zip("abcdefg", [*sparse[:3], plain, few, few[::-1], sparse[3]], strict=True))
    for seconds, (key, frame) in enumerate(frames.items()):
        directory.write_outcome(key, frame, {"seconds": seconds})
    (directory.outcomes / "b.parquet").write_bytes(b"damaged")
    sizes = {key: len(frame) for key, frame in frames.items()} | {"absent": 23, "c": 22}
    monkeypatch.setattr("robustness.run_directory._BATCH_ROWS", 50)
    for names in (["correct", "residual"], ["confidence"]):
        batches = list(directory.read_batches(sizes, names))
        assert [key for batch in batches for key in batch.keys] == ["a", "d", "e", "f", "g"]
        for batch in batches:
            for row, (key, metadata) in enumerate(zip(batch.keys, batch.metadata, strict=True)):
                found = {name: values[row] for name, values in batch.columns.items()}
                expected = frames[key][[name for name in names if name in frames[key]]].reset_index(drop=True)
                pd.testing.assert_frame_equal(pd.DataFrame(found), expected)
                assert metadata["seconds"] == list(frames).index(key)
    sizes = dict.fromkeys("abc", 23)
    directory.write_outcome("b", frames["b"], {"seconds": 1})
    assert [batch.keys for batch in directory.read_batches(sizes, ["correct"])] == [["a", "b"], ["c"]]


def test_a_network_of_another_number_of_classes_is_refused(models):
    with pytest.raises(InputError, match=r"expected a model of 100 classes, .*, which was trained for 10"):
        load_subjects((f"{models}/sparse.safetensors",), Wanted(num_classes=100), device=CPU)


@pytest.mark.parametrize("classes", [40_000, 70_000])
def test_classes_beyond_two_bytes_stay_what_they_are(tmp_path, classes):
    """With int16 a label of 40,000 was negative, and at 70,000 a prediction that is wrong by 65,536 was right."""
    model = nn.Linear(1, classes, bias=False)
    labels = np.array([classes - 1, 5, 5])

    class Points(nn.Module):
        def forward(self, images):
            answer = torch.zeros(len(images), classes)
            answer[:, classes - 1] = 1.0
            return answer + 0 * model.weight.sum()

    network = ForeignClassifier(Loaded(model=Points()), num_classes=classes, origin="points")
    images = PerturbedImages(IMAGES.pixels[:3], labels)
    (frame,) = evaluate(network, images, np.arange(3), [None], device=CPU, batch_size=2)
    assert frame["label"].tolist() == labels.tolist()
    assert frame["predicted"].tolist() == [classes - 1] * 3
    assert frame["correct"].tolist() == [True, False, False]
    directory = RunDirectory(tmp_path / "run")
    directory.create()
    directory.write_outcome("new", frame, {"seconds": 1})
    old = frame.assign(label=np.array([3, 5, 5], np.int16), predicted=np.array([5, 5, 5], np.int16))
    directory.write_outcome("old", old, {"seconds": 1})
    read = {
        batch.keys[0]: batch.columns["predicted"][0].tolist()
        for batch in directory.read_batches({"new": 3, "old": 3}, ["predicted"])
    }
    assert read == {"new": [classes - 1] * 3, "old": [5, 5, 5]}


def test_labels_that_do_not_fit_are_refused():
    network = ForeignClassifier(
        Loaded(model=nn.Sequential(nn.Flatten(), nn.Linear(3072, 10))), num_classes=10, origin="linear"
    )
    images = PerturbedImages(IMAGES.pixels[:2], IMAGES.labels[:2])
    with pytest.raises(EvaluationError, match="from 0 to 2147483647, got 0 to 2147483648"):
        evaluate(network, images, np.array([0, 2**31]), [None], device=CPU, batch_size=2)
