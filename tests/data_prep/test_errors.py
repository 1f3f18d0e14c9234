from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from data_prep.errors import EXIT_BAD_INPUT, InputError, run_command
from data_prep.generate import generate_archive_c
from robustness import ablate, fit, run
from sdnet_core import train

SHORT = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nGPU 0 has …"),
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"),
    MemoryError(),
]

_OLD_STYLE = re.compile(r"; got|must be|: (give|leave|choose|name|write|use|put|add|install|pip|save|check)\b|\.$")


def list_messages() -> Iterator[tuple[str, str]]:
    """Yield the place and words of every message written where a UsageError is made; … stands for a value."""
    root = Path(__file__).parents[2]
    for path in (
        path for package in ("data_prep", "sdnet_core", "robustness") for path in (root / package).rglob("*.py")
    ):
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            is_error = isinstance(call, ast.Call) and ast.unparse(call.func) in ("InputError", "PrerequisiteError")
            if is_error and call.args:
                parts = getattr(call.args[0], "values", [call.args[0]])
                words = "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in parts)
                yield f"{path.relative_to(root)}:{call.lineno}", words


def test_messages_say_what_was_expected_what_came_and_what_to_do():
    messages = list(list_messages())
    assert len(messages) > 300
    assert not [f"{place}: {words}" for place, words in messages if _OLD_STYLE.search(words)]


@pytest.mark.parametrize("error", SHORT, ids=lambda error: type(error).__name__)
def test_a_command_that_runs_out_of_memory_says_so_in_one_line(error, capsys):
    def load_a_large_model() -> int:
        raise error

    assert run_command(load_a_large_model) == EXIT_BAD_INPUT
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: out of memory")
    assert "--device" in line


def test_another_error_of_the_runtime_is_raised():
    def divide() -> int:
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes"):
        run_command(divide)


COMMANDS = {
    "run": (run.main, ["--dry-run"]),
    "fit": (fit.main, ["sdnet18-shapes", "--data", "shapes", "--n", "2"]),
    "ablate": (ablate.main, ["--recipe", "shapes-sdnet18", "--vary", "model.n_steps=1", "--dry-run"]),
    "train": (train.main, ["--recipe", "shapes-sdnet18"]),
}


@pytest.mark.parametrize("seed", ["-1", str(2**63)])
@pytest.mark.parametrize("name", COMMANDS)
def test_seeds_out_of_range_are_refused_before_the_work(name, seed, tmp_path):
    main, words = COMMANDS[name]
    with pytest.raises(InputError, match=r"expected --seed as a whole number from 0 to 2\^63"):
        main([*words, "--seed", seed, *(["--out", str(tmp_path / "out")] if name != "fit" else [])])
    assert not (tmp_path / "out").exists()


def test_corruptions_of_a_negative_seed_are_refused(tmp_path):
    with pytest.raises(InputError, match="expected --seed as"):
        generate_archive_c("cifar10c", data_dir=tmp_path, corruptions=["contrast"], n=1, seed=-1)
