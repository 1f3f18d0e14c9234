"""Models from elsewhere: the guide's example, every source, and what is refused."""

from __future__ import annotations

import ast
import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from data_prep import load_images
from data_prep.errors import InputError, PrerequisiteError
from robustness import run, session
from robustness.measure.foreign import ForeignClassifier, load_foreign
from robustness.measure.loaders.loaded import Loaded, Wanted
from robustness.measure.subjects import Subject, load_subjects
from sdnet_core import load_model

CPU = torch.device("cpu")
GUIDE = Path(__file__).parents[2] / "docs" / "benchmark-your-model.md"
IMAGES = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
MEAN, STD = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1), torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
NORMALISED = (IMAGES - MEAN) / STD
NO_NETWORK = "no network"


@pytest.fixture
def without_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Weights are looked for in an empty cache, and every download fails as it does without a network."""
    import urllib.request

    def refuse(*_: object, **__: object) -> None:
        raise OSError(NO_NETWORK)

    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    monkeypatch.setattr("socket.socket.connect", refuse)
    monkeypatch.setattr("time.sleep", lambda _: None)  # huggingface_hub tries again and again
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path / "torch"


def test_the_guides_module_is_measured_as_the_guide_says(tmp_path, monkeypatch, without_figures, capsys):
    source = re.search(r"```python\n(# mymodel\.py.*?)```", GUIDE.read_text(), re.DOTALL)
    assert source is not None
    (tmp_path / "mymodel.py").write_text(source[1])
    monkeypatch.syspath_prepend(tmp_path)
    command = "--suite demo --models mymodel:build,resnet18-shapes --n 100"
    assert f"robustness.run {command}\n" in GUIDE.read_text()
    options = ["--corruptions", "contrast", "--severities", "1", "--n", "10", "--out", str(tmp_path / "run")]
    monkeypatch.setattr(session, "find_other_sizes", lambda *_: ["of another size"])
    assert run.main([*command.split(), *options]) == 0
    assert "note: of another size\n" in capsys.readouterr().err
    assert json.loads((tmp_path / "run/run.json").read_text())["events"] == ["of another size"]
    cells = pd.read_csv(tmp_path / "run/cells.csv")
    assert cells["model"].unique().tolist() == ["mymodel:build", "resnet18-shapes"]
    assert cells["lam"].isna().all()


def test_a_knob_becomes_lambda(tmp_path, without_figures):
    """The example of the guide, swept, and attacked at each λ."""
    suite = tmp_path / "s.toml"
    suite.write_text(
        """
        data = "shapes"
        corruptions = ["gaussian_noise"]
        severities = [5]
        models = ["resnet18-shapes"]
        n = 12
        probe_images = 0
        [[attacks]]
        name = "pgd"
        eps = "1/255"
        steps = 2
        """
    )
    models = "examples.thresholding:build,resnet18-shapes"
    arguments = ["--suite", str(suite), "--models", models, "--lambdas", "0,0.2", "--out", str(tmp_path / "run")]
    assert run.main(arguments) == 0
    cells = pd.read_csv(tmp_path / "run/cells.csv").set_index(["perturbation", "model"])
    knob, plain = (cells.loc[[("gaussian_noise", name)]] for name in models.split(","))
    assert knob["lam"].tolist() == [0.0, 0.2]
    assert knob["accuracy"].iloc[0] == plain["accuracy"].iloc[0], "at λ = 0 nothing is taken off"
    attacked = cells.loc[[("pgd", "examples.thresholding:build")]]
    assert set(attacked["threat"]) == {"whitebox", "transfer", "adaptive"}


def test_a_knob_takes_one_lambda_per_image_and_refuses_what_is_none():
    model = load_foreign("examples.thresholding:build", Wanted(num_classes=10))
    lam = torch.tensor([0.0, 0.1, 0.2, 0.3])
    expected = torch.cat([model(IMAGES[i : i + 1], lam=float(lam[i])) for i in range(4)])
    torch.testing.assert_close(model(IMAGES, lam=lam), expected)
    torch.testing.assert_close(model(IMAGES), load_model("resnet18-shapes")(IMAGES))
    with pytest.raises(InputError, match="expected a finite λ ≥ 0, got"):
        model(IMAGES, lam=-0.1)
    with pytest.raises(InputError, match="expected no λ for"):
        ForeignClassifier(Loaded(model=nn.Flatten()), num_classes=10, origin="flat")(IMAGES, lam=0.1)


def test_modules_that_take_views_work_as_they_do_alone(tmp_path, monkeypatch, without_figures):
    """``view`` after a convolution fails on channels-last activations: nothing is laid out anew."""
    (tmp_path / "viewing.py").write_text(
        "import torch\n"
        "class Viewing(torch.nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.convolution, self.linear = torch.nn.Conv2d(3, 4, 3), torch.nn.Linear(3600, 10)\n"
        "    def forward(self, images):\n"
        "        return self.linear(self.convolution(images).view(len(images), -1))\n"
        "def build():\n"
        "    return Viewing()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    arguments = ["--suite", "demo", "--models", "viewing:build", "--corruptions", "contrast", "--n", "4"]
    assert run.main([*arguments, "--severities", "1", "--out", str(tmp_path / "run")]) == 0


def test_torchvisions_preset_normalises(without_network, monkeypatch):
    """Weights from the cache, where a download would put them; mean and std from their preset."""
    from torchvision import models

    torch.manual_seed(0)
    plain = models.squeezenet1_1().eval()
    url = models.SqueezeNet1_1_Weights.DEFAULT.url
    folder = without_network / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    torch.save(plain.state_dict(), place := folder / url.rpartition("/")[2])
    with pytest.raises(InputError, match=f"expected a file whose SHA-256 begins with b8a5.*, got {place}"):
        load_subjects(("torchvision:squeezenet1_1",), Wanted(num_classes=1000), device=CPU)
    monkeypatch.setattr("robustness.measure.loaders.libraries.hash_file", lambda _: "b8a52dc0")
    (subject,) = load_subjects(("torchvision:squeezenet1_1",), Wanted(num_classes=1000), device=CPU)
    torch.testing.assert_close(subject.network(IMAGES), plain(NORMALISED), rtol=1e-4, atol=1e-4)
    assert subject.network.input_size == (224, 224)
    assert subject.name == "torchvision:squeezenet1_1"
    assert subject.identity()["arch"].startswith("torchvision:squeezenet1_1 (torchvision ")


def test_timms_weights_are_taken_from_the_place_that_is_asked_for(without_network):
    """Normalised as its configuration says; a size that is not the data set's is said."""
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    name = "mobilenetv3_small_050"
    plain = timm.create_model(name).eval()
    place = without_network / "hub/timm" / f"{name}.safetensors"
    place.parent.mkdir(parents=True)
    save_file(plain.state_dict(), place)
    model = load_foreign(f"timm:{name}", Wanted(num_classes=1000))
    torch.testing.assert_close(model(IMAGES), plain(NORMALISED), rtol=1e-4, atol=1e-4)
    assert model.input_size == (224, 224)

    images, subjects = load_images("shapes", split="test").subset(4), [Subject(name, model, "", {})]
    (note,) = session.find_other_sizes(subjects, images)
    assert f"{name}: its source evaluates it on images of 224 × 224 pixels, these have 32 × 32" in note
    model.input_size = (32, 32)
    assert session.find_other_sizes(subjects, images) == []


def test_a_network_of_a_size_that_is_no_square_is_not_said_to_be_of_another():
    """Its card tells the height of the images that it was trained on."""
    network = load_model("resnet18-shapes")
    images = load_images("shapes", split="test").subset(4)
    subjects = [Subject("own", network, "", {})]
    wide = dataclasses.replace(images, pixels=np.repeat(images.pixels, 2, axis=2))
    assert session.find_other_sizes(subjects, wide) == []
    high = dataclasses.replace(images, pixels=np.repeat(images.pixels, 2, axis=1))
    (note,) = session.find_other_sizes(subjects, high)
    assert "own: it was made for images 32 pixels high, these have 64 × 32" in note


def test_callers_ask_a_model_and_not_its_type():
    """Only where an object comes in is its type looked at; everything else is in the interface, Classifier."""
    switches = []
    for path in Path(session.__file__).parent.rglob("*.py"):
        calls = (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call))
        asked = (ast.unparse(call) for call in calls if ast.unparse(call.func) in ("isinstance", "getattr", "hasattr"))
        named = re.compile(r"isinstance\(.*\b(Network|ForeignClassifier|Classifier)\b|attr\(\S*network,")
        switches += [f"{path.name}: {call}" for call in asked if named.search(call)]
    assert switches == ["foreign.py: isinstance(loaded.model, Network)"]


def test_timm_can_download_with_the_packages_that_are_installed():
    """It asks huggingface_hub for names at its import, and says only when it downloads that they were missing."""
    timm = pytest.importorskip("timm")
    assert timm.models._hub._has_hf_hub


def test_robustbench_models_are_loaded_from_their_place(without_network):
    from robustness.measure.loaders.robustbench import import_robustbench

    import_robustbench()
    from robustbench.model_zoo.architectures.resnet import ResNet18
    from robustbench.model_zoo.cifar10 import linf

    assert "Sehwag2021Proxy_R18" in linf
    torch.manual_seed(0)
    plain = ResNet18().eval()
    place = without_network / "hub/robustbench/cifar10/Linf/Sehwag2021Proxy_R18.pt"
    place.parent.mkdir(parents=True)
    torch.save({"state_dict": plain.state_dict()}, place)
    model = load_foreign("robustbench:Sehwag2021Proxy_R18", Wanted(num_classes=10))
    torch.testing.assert_close(model(IMAGES), plain(IMAGES), rtol=1e-4, atol=1e-4)
    torch.save({"state_dict": {"conv1.weight": torch.zeros(3, 3)}}, place)
    with pytest.raises(
        InputError, match=r"expected the weights of .*_R18 in .*R18.pt, got others; remove it and download it again"
    ):
        load_foreign("robustbench:Sehwag2021Proxy_R18", Wanted(num_classes=10))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("torchvision:resnet18", "weights of torchvision:resnet18 cannot be downloaded .* put https"),
        ("robustbench:Standard", "weights of robustbench:Standard cannot be downloaded .*Standard.pt"),
        ("timm:resnet18", "huggingface.co/timm/resnet18.a1_in1k as .*timm/resnet18.safetensors"),
    ],
)
def test_weights_that_cannot_be_had_are_asked_for(given, message, without_network):
    classes = 10 if given.startswith("robustbench") else 1000
    with pytest.raises(PrerequisiteError, match=message):
        load_foreign(given, Wanted(num_classes=classes))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("torchvision:resnet19", "expected a classifier of torchvision, got 'resnet19'"),
        ("timm:resnet19x", "expected a model of timm, got 'resnet19x'"),
        ("timm:resnet18.nobody", "timm:resnet18.nobody: Invalid pretrained tag"),
        ("robustbench:Nobody2020", "expected a model of RobustBench for cifar10 .*, got 'Nobody2020'"),
        ("robustbench:Standard@L7", "under 'L7'"),
        ("nowhere.models:build", "that can be imported from here, got nowhere.models"),
        ("examples.thresholding:bild", "got 'bild'; choose one of them"),
        ("json:dumps", "expected json:dumps to be callable without arguments"),
        ("platform:machine", "to return a torch.nn.Module or a function, got str"),
    ],
)
def test_names_that_lead_nowhere_are_refused(given, message):
    with pytest.raises(InputError, match=message):
        load_foreign(given, Wanted(num_classes=10))


class Unlucky(nn.Module):
    """Takes ``lam`` and does not say which one it was trained with."""

    def forward(self, images: torch.Tensor, lam: float) -> torch.Tensor:
        return images.flatten(1) * lam


def test_a_knob_without_its_value_of_training_is_refused():
    with pytest.raises(InputError, match=r"expected model\.lam, .*, to be the λ it was trained with"):
        ForeignClassifier(Loaded(model=Unlucky()), num_classes=10, origin="unlucky")


@pytest.mark.parametrize("lam", [torch.tensor(0.1), torch.tensor([0.1]), nn.Parameter(torch.tensor(0.1)), 0.1])
def test_a_lambda_of_training_in_a_tensor_is_that_of_the_grid(lam):
    """0.1 in float32 is 0.10000000149, and a grid has 0.1."""
    model = Unlucky()
    model.lam = lam
    assert Subject("m", ForeignClassifier(Loaded(model=model), num_classes=10, origin="m"), "", {}).lam == 0.1


def test_a_suite_file_cannot_run_code(tmp_path):
    path = tmp_path / "s.toml"
    path.write_text('data = "shapes"\nmodels = ["examples.thresholding:build"]\n')
    with pytest.raises(InputError, match="runs code; name it on the command line"):
        run.main(["--suite", str(path), "--dry-run"])
    assert run.main(["--suite", str(path), "--models", "examples.thresholding:build", "--dry-run"]) == 0
