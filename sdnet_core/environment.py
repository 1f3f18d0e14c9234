"""The environment of a measurement, stored in every record: hardware, versions, revision."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from data_prep.errors import InputError, PrerequisiteError

_PACKAGES = ("torch", "torchvision", "numpy", "pandas", "pyarrow", "pillow", "scipy", "sdnet-robustness")


def select_device(name: str | None) -> torch.device:
    """Select the device called ``name``; None selects CUDA if it works, otherwise the CPU.

    Raises:
        InputError: a name other than ``cpu``, ``cuda`` and ``cuda:NUMBER``.
        PrerequisiteError: CUDA was requested and is not available.
    """
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if not re.fullmatch(r"cpu|cuda(:(0|[1-9][0-9]{0,2}))?", name):
        raise InputError(f"expected --device cpu, cuda or cuda:NUMBER, got {name!r}; choose one of them")
    device = torch.device(name)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise PrerequisiteError(f"--device {name} needs a CUDA GPU and driver, and none works here; give --device cpu")
    if device.index is not None and device.index >= torch.cuda.device_count():
        raise PrerequisiteError(
            f"expected --device cuda:0 to cuda:{torch.cuda.device_count() - 1}, the CUDA devices that there are, got "
            f"{name}; choose one of them"
        )
    return device


def describe_environment(device: torch.device) -> dict[str, Any]:
    """Collect hardware, operating system, Python, package versions and git revision as plain JSON values."""
    hardware: dict[str, Any] = {"device": str(device), "processor": _processor(), "cpu_cores": os.cpu_count()}
    hardware["threads"] = torch.get_num_threads()
    if device.type == "cuda":
        hardware["gpu"] = torch.cuda.get_device_name(device)
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    system = f"{platform.system()} {platform.machine()}"
    return {"hardware": hardware, "system": system, "versions": versions, "git": _revision()}


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _revision() -> dict[str, Any]:
    """Read commit and dirty flag of the source tree; empty for an installed package."""

    def git(*arguments: str) -> str:
        folder = Path(__file__).parent
        return subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain", "--untracked-files=no"))}
    except (OSError, subprocess.CalledProcessError):
        return {}
