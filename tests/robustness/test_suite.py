"""Suite files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from data_prep import load_images
from data_prep.errors import InputError
from data_prep.shapes import make_shapes
from robustness import run
from robustness.measure.prepare import load_selection
from robustness.measure.request import plan_run, read_suite
from robustness.options import RunOptions
from robustness.suite import Suite, read_suite_file, shipped_suites


@pytest.mark.parametrize("name", shipped_suites())
def test_shipped_suites_are_valid(name):
    suite = Suite(**({"models": ("a-model",)} | read_suite_file(name)))
    assert suite.description
    assert suite.lambdas


def test_the_standard_group_is_the_fifteen_and_the_sweep_is_the_references():
    assert len(Suite(**read_suite_file("cifar10c")).corruptions) == 15
    noise = Suite(**read_suite_file("noise"))
    assert {name: len(noise.levels(name)) for name in noise.corruptions} == {
        "gaussian_noise": 10,
        "shot_noise": 10,
        "speckle_noise": 6,
        "impulse_noise": 10,
    }
    assert noise.lambdas == tuple(k / 10 for k in range(1, 15))


@pytest.mark.parametrize(
    ("corruptions", "expected"),
    [
        (("gaussian_noise", "shot_noise"), ("speckle_noise",)),
        (("fog", "contrast", "defocus_blur"), ("gaussian_blur", "spatter", "saturate")),
        (("speckle_noise",), ("speckle_noise",)),
        (("blue_noise_sample",), ()),
        ((), ()),
    ],
)
def test_lambda_is_chosen_on_the_extra_corruptions_of_the_kinds_that_are_measured(corruptions, expected):
    suite = Suite(
        name="s", data="shapes", models=("sums",), corruptions=corruptions, profile="cifar", selection="extra"
    )
    assert suite.selection_corruptions == expected
    assert (load_selection(suite, Path("data"), make_shapes("test")) is None) == (not expected)


@pytest.mark.parametrize(("options", "selection"), [([], "same"), (["none"], ""), (["extra"], "extra")])
def test_the_command_line_chooses_the_selection(options, selection):
    words = ["--suite", "noise", *(word for option in options for word in ("--selection", option))]
    assert read_suite(run.read_options(run.make_parser().parse_args(words))).selection == selection


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("data = 'shapes'\nlambda = [0.1]", "expected keys among .*, got lambda; rename"),
        ("corruptions = ['contrast']", "expected the key `data`"),
        ("data = 'shapes'\nseverities = [0]", "expected severities 1 to 5"),
        ("data = 'shapes'\nseverities = ['1']", r"expected severities\[0\] as a whole number, got '1'"),
        ("data = 'shapes'\nlambdas = [-1]", "expected a finite λ ≥ 0"),
        (
            "data = 'shapes'\nn = true",
            "expected n as a whole number or empty, got True",
        ),
        ("data = 'shapes'\nn = 0", "at least 1 image"),
        ("data = 'shapes'\ncorruptions = ['rain']", "rain"),
        ("data = 'shapes'\nprofile = 'mnist'", "mnist"),
        ("data = 'shapes'\nprofile = 'sweep'\ncorruptions = ['fog']", "profile 'sweep' defines, got fog"),
        ("data = 'shapes'\nmodels = []", "expected models for the suite s, got none"),
        ("data = 'shapes'\nsplit = 'train'\nselection = 'extra'", "selection chooses λ on the split train"),
        ("data = [", "expected valid TOML"),
    ],
)
def test_bad_suites_are_refused(text, message, tmp_path):
    path = tmp_path / "s.toml"
    path.write_text(text if "models" in text else f"models = ['m']\n{text}")
    with pytest.raises(InputError, match=message):
        Suite(**read_suite_file(str(path)))


def test_an_unknown_suite_names_the_known_ones():
    with pytest.raises(InputError, match="demo"):
        read_suite_file("cifar11c")


@pytest.mark.parametrize(("suite", "archive"), [("cifar10c", "cifar10c"), ("cifar10cbar", "cifar10cbar")])
def test_the_same_data_again_keeps_the_archive_of_the_suite(suite, archive):
    assert read_suite(RunOptions(suite=suite)).archive == archive
    assert read_suite(RunOptions(suite=suite, data="cifar10")).archive == archive
    assert read_suite(RunOptions(suite=suite, data="cifar100")).archive == "cifar100c"
    assert read_suite(RunOptions(suite=suite, data="shapes")).archive == ""


@pytest.mark.parametrize(("side", "profile", "fitting"), [(70, "cifar", "imagenet"), (32, "imagenet", "cifar")])
def test_corruptions_for_images_of_another_size_are_noted(side, profile, fitting):
    """A suite file without a profile has CIFAR's."""
    pictures = load_images((np.zeros((4, side, side, 3), np.uint8), np.array([0, 1, 0, 1])))
    models = {"sums": lambda images: images.sum((2, 3))[:, :2]}
    for name, notes in ((profile, 1), (fitting, 0)):
        suite = Suite(name="s", data="given", models=("sums",), corruptions=("contrast",), profile=name, selection="")
        events = plan_run(RunOptions(), models=models, data=pictures, suite=suite).events
        assert len(events) == notes
        assert all(f"write profile = '{fitting}' into its file" in event for event in events)
