"""Models as people have them: functions and files; their names; and what is said of those that cannot be used."""

from __future__ import annotations

import os
import sys

import pytest
import torch
from small_models import BUILDER, CPU, IMAGES, OPTIONS, make, quiet

from data_prep.errors import InputError, PrerequisiteError
from robustness.measure.foreign import load_foreign, runs_code, wrap_model
from robustness.measure.loaders.loaded import Wanted
from robustness.measure.subjects import load_subject, load_subjects, name_of
from sdnet_core import Network, load_model, weights_fingerprint

NET = """
import torch
from torch import nn

def build():
    return nn.Sequential(nn.Flatten(), nn.Linear(192, 10))
"""


def test_a_function_of_a_file_is_found_by_its_path_and_finds_what_lies_beside_it(write):
    """Two folders may hold files of the same names; a function that seeds nothing builds the same network again."""
    for folder, scale in (("one", 1), ("two", 2)):
        write("net.py", f"SCALE = {scale}", folder)
        source = "from net import SCALE\n" + NET.replace("Flatten()", "Flatten(), nn.Hardtanh(0, SCALE / 4)")
        path = write("mymodel.py", source, folder)
        subject = load_subject(f"{path}:build", **OPTIONS)
        assert subject.name == "mymodel.py:build"
        assert subject.network.model[1].max_val == scale / 4
        again = load_subject(f"{path}:build", **OPTIONS)
        assert again.identity() == subject.identity(), "its random weights are the same, so that it can be resumed"
    assert str(path.parent) not in sys.path


def test_code_of_a_user_changes_nothing_for_others_while_it_is_loaded(write, capsys, tmp_path):
    path = write(
        "rude.py",
        "import argparse, os, sys, torch\n"
        "argparse.ArgumentParser().parse_args()\n"
        "print('loading λ…')\n"
        + NET.replace(
            "    return",
            "    os.chdir('/'); torch.set_default_dtype(torch.float64)\n"
            "    torch.set_grad_enabled(False); torch.manual_seed(5); print('building')\n    return",
        ),
    )
    before, state = os.getcwd(), torch.get_rng_state()  # noqa: PTH109
    subject = load_subject(f"{path}:build", **OPTIONS)
    assert os.getcwd() == before  # noqa: PTH109
    assert torch.get_default_dtype() == torch.float32
    assert torch.is_grad_enabled()
    assert torch.equal(torch.get_rng_state(), state)
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == "loading λ…\nbuilding\n"
    assert subject.network(IMAGES).dtype == torch.float32
    assert subject.network.dtype == torch.float64


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("import sys\nsys.exit(0)", r"its import fails, as it ends the process \(sys.exit\(0\)"),
        (
            "import argparse\np = argparse.ArgumentParser()\np.add_argument('--x', required=True)\np.parse_args()",
            "ends the",
        ),
        (
            "def build():\n    raise SystemExit('done')",
            r"m.py:build fails, as it ends the process \(sys.exit\('done'\)",
        ),
        ("import nowhere_to_be_found", "m.py imports nowhere_to_be_found, which is not installed"),
        ("1 / 0", "its import fails with ZeroDivisionError"),
        ("def build(:", "its import fails with SyntaxError"),
        ("def bild():\n    pass", "\\(bild\\), got 'build'; choose"),
        ("def build():\n    return 3", r"to return a torch.nn.Module or a function, got int"),
        ("def build(path):\n    pass", "to be callable without arguments, got"),
    ],
)
def test_code_that_makes_no_model_is_told_from_a_model(write, source, message):
    with pytest.raises((InputError, PrerequisiteError), match=message):
        load_foreign(f"{write('m.py', source)}:build", Wanted(num_classes=10))


def test_a_file_without_a_function_is_answered_with_its_functions(write):
    path = write("mymodel.py", NET + "\ndef other(x):\n    pass\n\ndef small(width=4):\n    pass\n")
    with pytest.raises(InputError, match=r"\(build, small\), got the file alone; name it, .*mymodel\.py:FUNCTION"):
        load_foreign(str(path), Wanted(num_classes=10))
    with pytest.raises(PrerequisiteError, match=r"expected a file of functions, got .*gone\.py"):
        load_foreign(str(path.with_name("gone.py")) + ":build", Wanted(num_classes=10))


def test_a_network_of_this_project_that_a_function_returns_is_that_network(write):
    """Its ``forward`` takes ``lam``, of a ResNet too."""
    source = "from sdnet_core import load_model\ndef build():\n    return load_model('{}')\n"
    for name in ("resnet18-shapes", "sdnet18-shapes"):
        subject = load_subject(
            f"{write(f'{name[:3]}.py', source.format(name))}:build", Wanted(num_classes=10), device=CPU
        )
        assert isinstance(subject.network, Network)
        assert subject.lam == load_model(name).lam
        assert subject.fingerprint == weights_fingerprint(load_model(name))


def test_a_function_makes_a_model_too_and_objects_are_measured_as_they_are():
    weight = torch.randn(10, 192, generator=torch.Generator().manual_seed(0))
    subject = load_subject(lambda images: images.flatten(1) @ weight.T, name="mine", **OPTIONS)
    torch.testing.assert_close(subject.network(IMAGES), IMAGES.flatten(1) @ weight.T)
    assert subject.name == "mine"
    assert load_subject(make(), **OPTIONS).name == "Plain"
    names = [subject.name for subject in load_subjects({"a": make(), "b": make()}, **OPTIONS)]
    assert names == ["a", "b"]
    with pytest.raises(InputError, match=r"expected three as a torch.nn.Module or a function, got int"):
        wrap_model("three", 3, Wanted(num_classes=10))


def test_two_files_of_one_name_are_told_apart_by_their_folders(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        quiet(lambda folder=folder: torch.jit.script(make()).save(tmp_path / folder / "net.pt"))
    paths = [str(tmp_path / folder / "net.pt") for folder in ("a", "b")]
    assert [subject.name for subject in load_subjects(paths, **OPTIONS)] == ["a/net.pt", "b/net.pt"]
    assert load_subjects(paths[:1], **OPTIONS)[0].name == "net.pt"
    with pytest.raises(
        InputError, match=r"expected models of different names, got two called .*; leave one of them out"
    ):
        load_subjects([paths[0], paths[0]], **OPTIONS)


def test_models_are_named_by_their_files_and_not_by_where_those_lie(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for given, name, longer in (
        ("resnet18-shapes", "resnet18-shapes", "resnet18-shapes"),
        ("x/a.safetensors", "a", "x/a"),
        ("x/y/model.safetensors", "y", "x/y"),
        ("x/net.onnx", "net.onnx", "x/net.onnx"),
        ("x/y/model.pt", "y/model.pt", "y/model.pt"),
        ("pkg.mod:build", "pkg.mod:build", "pkg.mod:build"),
        ("x/m.py:build", "m.py:build", "x/m.py:build"),
        ("x/m.py:build@r/w.pth", "m.py:build@w.pth", "m.py:build@r/w.pth"),
        ("torchvision:resnet18@r/w.pth", "torchvision:resnet18@w.pth", "torchvision:resnet18@r/w.pth"),
        ("robustbench:Standard@L2", "robustbench:Standard@L2", "robustbench:Standard@L2"),
        ("hf:x/tiny", "hf:tiny", "hf:x/tiny"),
    ):
        assert name_of(given) == name
        assert name_of(given, 1) == longer


def test_a_model_of_a_file_travels_with_its_code(write, monkeypatch):
    """To a machine that has neither the file nor what lies beside it."""
    cloudpickle = pytest.importorskip("ray.cloudpickle", reason="Ray is not installed: pip install ray")
    from robustness.measure.loaders.functions import list_own_modules
    from robustness.measure.ray_executor import send_own_modules

    write("part.py", "from torch import nn\n\nclass Part(nn.Linear):\n    pass\n")
    path = write("travels.py", "from part import Part\n" + BUILDER.replace("nn.Linear", "Part"))
    network = load_subject(f"{path}:wrapped", **OPTIONS).network
    send_own_modules()
    sent = cloudpickle.dumps(network)
    for name in list_own_modules():
        monkeypatch.delitem(sys.modules, name)
    torch.testing.assert_close(cloudpickle.loads(sent)(IMAGES), network(IMAGES))


@pytest.mark.parametrize("given", ["m:f", "a/m.py:f", "m.py:f@w.pth", "net.pt", "net.pt2", "net.pth"])
def test_programs_run_code_and_weights_do_not(given):
    assert runs_code(given)
    for other in (
        "torchvision:resnet18@w.pth",
        "timm:a@w.pth",
        "hf:folder",
        "net.onnx",
        "a.safetensors",
        "resnet18-shapes",
    ):
        assert not runs_code(other)
