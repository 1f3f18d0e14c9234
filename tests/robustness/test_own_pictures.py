"""One's own model on one's own pictures, by one command."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from data_prep.errors import EXIT_BAD_INPUT, EXIT_DONE, InputError, run_command
from robustness.run import main

pytestmark = pytest.mark.usefixtures("without_figures")
MODEL = """
import torch


class RedOrBlue(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.sign = torch.nn.Parameter(torch.tensor([1.0, -1.0]))
        self.seen = set()

    def forward(self, images):
        if self.side is not None:
            assert tuple(images.shape[2:]) == (self.side, self.side)
        return (images[:, 0] - images[:, 2]).mean((1, 2))[:, None] * self.sign

    side = None


def build():
    return RedOrBlue()


def build_of_48():
    model = RedOrBlue()
    model.side = 48
    return model
"""


@pytest.fixture
def pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of 40 red and 40 blue pictures of several sizes and kinds, beside a model that tells them apart."""
    generator = np.random.default_rng(0)
    for name, colour in (("blue", (40, 60, 220)), ("red", (220, 60, 40))):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for index in range(40):
            height, width = generator.integers(34, 60, 2)
            pixels = np.clip(np.array(colour) + generator.normal(0, 20, (height, width, 3)), 0, 255).astype(np.uint8)
            image = Image.fromarray(pixels)
            suffix = ("png", "jpg", "webp", "bmp")[index % 4]
            (image.convert("RGBA") if suffix == "png" else image).save(
                tmp_path / "pictures" / name / f"{index:02}.{suffix}"
            )
    (tmp_path / "mymodel.py").write_text(MODEL)
    (tmp_path / "order.txt").write_text("red\nblue\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "pictures"


def measure(*words: str) -> int:
    return run_command(lambda: main(["--data", "pictures", "--device", "cpu", "--corruptions", "contrast", *words]))


def read_cells() -> pd.DataFrame:
    return pd.read_csv("results/runs/pictures/cells.csv")


def test_one_command_measures_a_folder(pictures, capsys):
    """The order of the classes is said, and that the model is right in another one."""
    words = ("--models", "mymodel.py:build", "--severities", "1")
    assert measure(*words) == EXIT_DONE
    shown = capsys.readouterr()
    assert "2 classes in this order: blue, red" in shown.out
    assert "sizes" in shown.out
    said = "100.0% of the clean images would be right with its classes in another order (output 0 for red, output 1 for"
    assert said in shown.err
    assert read_cells().query("perturbation == 'clean'")["accuracy"].item() == 0
    assert measure(*words, "--classes", "order.txt") == EXIT_DONE
    shown = capsys.readouterr()
    assert "2 classes in this order: red, blue" in shown.out
    assert "another order" not in shown.err
    assert read_cells().query("perturbation == 'clean'")["accuracy"].item() == 1


def test_images_are_scaled_for_the_model_after_the_corruption(pictures, capsys):
    words = ("--classes", "order.txt", "--severities", "1", "--resize", "32", "--crop", "32")
    assert measure(*words, "--models", "mymodel.py:build_of_48", "--input-size", "48") == EXIT_DONE
    assert read_cells().query("perturbation == 'clean'")["accuracy"].item() == 1
    assert "are brought to 48 × 48 for it, after the corruption" in capsys.readouterr().err
    assert measure(*words, "--models", "mymodel.py:build", "--input-size", "40") == EXIT_DONE
    assert measure(*words, "--models", "mymodel.py:build", "--input-size", "48") == EXIT_DONE
    assert read_cells().query("perturbation == 'clean' and model == 'mymodel.py:build'")["accuracy"].item() == 1
    assert len(list(Path("results/runs/pictures/outcomes").iterdir())) == 3 * len(read_cells()) / 2, "each has its key"


def test_json_is_the_only_output_and_quiet_says_nothing(pictures, capsys):
    words = ("--classes", "order.txt", "--models", "mymodel.py:build", "--severities", "1")
    assert measure(*words, "--json", "--quiet") == EXIT_DONE
    shown = capsys.readouterr()
    assert shown.err == ""
    result = json.loads(shown.out)
    assert result["status"] == "complete"
    assert result["missing"] == {}
    assert {row["perturbation"] for row in result["summary"]} >= {"clean", "contrast"}
    assert result["headline"]
    assert measure(*words, "--quiet") == EXIT_DONE
    assert capsys.readouterr() == ("", "")


def test_a_dry_run_counts_the_passes_of_every_part_and_measures_nothing(pictures, capsys):
    words = ("--classes", "order.txt", "--models", "mymodel.py:build", "--severities", "1,3", "--n", "30")
    assert measure(*words, "--attacks", "pgd", "--eps", "2/255", "--dry-run") == EXIT_DONE
    shown = capsys.readouterr().out
    assert "clean and corrupted images 90 passes" in shown  # clean and two severities of 30 images
    assert "attacks" in shown
    assert "about" in shown
    assert measure(*words, "--attacks", "pgd", "--eps", "2/255", "--dry-run", "--json") == EXIT_DONE
    plan = json.loads(capsys.readouterr().out)
    assert plan["passes"]["clean and corrupted images"] == 90
    assert plan["passes"]["trust probes"] == plan["passes"]["attacks"] // 3
    assert (plan["cells"], plan["done"], plan["n"]) == (4, 0, 30)
    assert plan["seconds"] > 0
    assert measure(*words, "--dry-run", "--quiet") == EXIT_DONE
    assert capsys.readouterr() == ("", "")
    assert not Path("results").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--data", "pictures"], "expected models .*, got none; give some with --models"),
        (["--data", "nothing-there", "--models", "resnet18-shapes"], "expected a data set"),
        (["--models", "resnet18-shapes", "--resize", "32"], "--resize is for the pictures of --data PATH"),
        (["--data", "pictures", "--models", "mymodel.py:build", "--eps", "2/255"], "--eps needs an attack"),
        (["--input-size", "0"], "expected --input-size from 1 to"),
        (["--suite", "cifar1oc"], "did you mean cifar10c"),
    ],
)
def test_what_cannot_be_measured_is_said_in_a_sentence(words, message, pictures):
    with pytest.raises(InputError, match=message):
        main(words)


def test_a_suite_file_may_have_a_byte_order_mark(pictures):
    Path("mine.toml").write_bytes(b"\xef\xbb\xbf" + b'data = "shapes"\nmodels = ["resnet18-shapes"]\nn = 10\n')
    assert run_command(lambda: main(["--suite", "mine.toml", "--dry-run"])) == EXIT_DONE


def test_the_name_that_a_suite_file_needs_is_said(pictures):
    Path("my suite.toml").write_text('data = "shapes"\nmodels = ["resnet18-shapes"]\n')
    with pytest.raises(InputError, match="write name = 'my_suite' into its file"):
        main(["--suite", "my suite.toml", "--dry-run"])


def test_an_abbreviated_option_is_refused(pictures, capsys):
    with pytest.raises(SystemExit) as exit_info:
        main(["--dat", "pictures"])
    assert exit_info.value.code == EXIT_BAD_INPUT
    assert "unrecognized arguments: --dat" in capsys.readouterr().err
