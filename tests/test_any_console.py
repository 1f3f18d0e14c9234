"""Every command on every console: closed output, and encodings without the letters of this field."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from fabricate import fabricate_models
from pictured import write_png

from data_prep import load_images
from data_prep.__main__ import COMMANDS as DATA
from data_prep.errors import EXIT_DONE, run_command
from robustness.__main__ import COMMANDS

CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
MODELS = ("list", "show", "halve", "convert", "init")
FORMS = [
    *(f"{name} --help" for name in COMMANDS),
    *(f"data {name} --help" for name in DATA),
    *(f"models {name} --help" for name in MODELS),
    *("data list", "models list", "models show sdnet18-shapes"),
    "run --suite demo --models sdnet18-shapes --selection none --n 8 --dry-run",
]


@pytest.mark.parametrize("console", ["latin-1", "ascii", "no stdout", "no stderr"])
@pytest.mark.parametrize("form", FORMS)
def test_what_is_only_said_is_said(form, console, monkeypatch, tmp_path):
    """As Python starts with ``PYTHONIOENCODING=latin-1``, ``LC_ALL=C``, ``>&-`` and ``2>&-``."""
    name, *words = form.split()
    written = {stream: io.BytesIO() for stream in ("stdout", "stderr")}
    for stream, file in written.items():
        encoding = "utf-8" if console.startswith("no") else console
        text = None if console == f"no {stream}" else io.TextIOWrapper(file, encoding=encoding, errors="strict")
        monkeypatch.setattr(sys, stream, text)
    monkeypatch.chdir(tmp_path)

    def command() -> int:
        try:
            code: int = import_module(COMMANDS[name][0]).main(words)
        except SystemExit as end:
            return int(end.code or 0)
        return code

    assert run_command(command) == EXIT_DONE
    sys.stdout.flush()
    if console.startswith("no"):
        getattr(sys, console.removeprefix("no ")).close()  # what took its place
    assert bool(written["stdout"].getvalue()) == (console != "no stdout")
    assert written["stderr"].getvalue() == b""


CONSOLES = {
    "latin-1": ("", {"PYTHONIOENCODING": "latin-1"}),
    "C": ("", {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}),
    "no stdout": (">&-", {}),
    "no stderr": ("2>&-", {}),
}
TINY = "--recipe shapes-sdnet18 --set data=tiny --set model.width=2 --set epochs=1 --set batch_size=10 --device cpu"
RUN = "robustness.run --suite demo --corruptions contrast --severities 1 --n 6 --lambdas 0.1 --device cpu"
WORK = {
    "data_prep import tree --name tiny": 0,
    "data_prep import tree --name cifar10": 0,
    "data_prep generate cifar10c --n 2": 0,
    "data_prep describe tree": 0,
    "data_prep verify tiny": 0,
    f"{RUN} --models sparse.safetensors,plain.safetensors --out one": 0,
    f"{RUN} --models sparse.safetensors --out one": 0,
    f"{RUN} --models sparse.safetensors --out shard --shard 1/1": 0,
    f"{RUN} --models sparse.safetensors --data nowhere": 2,
    "robustness.report one": 0,
    "robustness.compare one one": 0,
    "robustness.merge whole shard": 0,
    "robustness.fit sparse.safetensors --data shapes --n 10 --lambdas 0.1,0.2": 0,
    f"robustness.ablate {TINY} --vary model.lam=0.2 --suite few.toml --n 4 --out ablation": 0,
    "robustness.run --suite shifts --models resnet18-cifar10 --out shifts": 0,
    f"sdnet_core.train {TINY} --out training": 0,
    "sdnet_core init --arch sdnet18 --width 2 --out untrained.safetensors": 0,
    "sdnet_core halve training/model.safetensors --out half.safetensors": 0,
    "sdnet_core convert nowhere.pth.tar --arch sdnet18 --out converted.safetensors": 2,
    "sdnet_core.visualize sparse.safetensors --images shapes:0 --layers input_layer --out look": 0,
}
"""Commands that work, one after the other, and their exit codes."""


@pytest.fixture
def workplace(tmp_path: Path) -> Path:
    """A folder with two models, pictures of ten classes, and a shifted set of them."""
    fabricate_models(tmp_path)
    images = load_images("shapes", split="test")
    for split in ("train", "test"):
        for index, label in enumerate(images.labels[:20]):
            write_png(tmp_path / "tree" / split / CIFAR10[label] / f"{index}.png", images.pixels[index])
    (tmp_path / "data").mkdir()
    np.savez(tmp_path / "data" / "cifar102_test.npz", images=images.pixels[:20], labels=images.labels[:20])
    (tmp_path / "few.toml").write_text(
        'data = "x"\nprofile = "sweep"\ncorruptions = ["gaussian_noise"]\nseverities = [1]\n'
    )
    return tmp_path


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("console", CONSOLES)
def test_what_works_works(console, workplace):
    redirection, environment = CONSOLES[console]
    environment = os.environ | environment | {"PYTHONPATH": str(Path(__file__).parents[1])}
    for words, code in WORK.items():
        command = ["bash", "-c", f'"{sys.executable}" -m {words} {redirection}']
        result = subprocess.run(command, capture_output=True, env=environment, cwd=workplace, check=False)
        said = result.stderr.decode(errors="replace")
        assert result.returncode == code, f"{words}: {said}"
        assert "Traceback" not in said
        assert code == 0 or console == "no stderr" or "error: " in said
