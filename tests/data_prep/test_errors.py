from __future__ import annotations

import pytest
import torch

from data_prep.errors import EXIT_BAD_INPUT, run_command

SHORT = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nGPU 0 has …"),
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"),
    MemoryError(),
]


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
