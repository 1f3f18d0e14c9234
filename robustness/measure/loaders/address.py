"""The address of a model on the command line, parsed: nothing is looked up and nothing is run."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from sdnet_core.config import shipped_models

LIBRARIES = ("torchvision", "timm", "robustbench", "hf")
"""Sources that are written before a colon."""
WITH_WEIGHTS = ("torchvision", "timm")
"""Libraries whose architectures take weights from a file: ``timm:NAME@FILE``."""
PROGRAMS = (".pt", ".pth", ".th", ".tar", ".bin", ".ckpt", ".ts", ".torchscript", ".pt2", ".onnx", ".h5", ".keras")
"""Suffixes of files that may hold a whole model, or weights without one."""
_FUNCTION = re.compile(r"(?P<module>.+?):(?P<function>[^\W\d]\w*)(?:@(?P<weights>.+))?", re.DOTALL)


@dataclass(frozen=True)
class Address:
    """A model that the project has not built.

    Args:
        source: one of :data:`LIBRARIES`, ``function`` or ``file``.
        name: the name in the library; the folder of ``hf``; the module or the ``.py`` file of a function; the file.
        function: the name of the function.
        weights: the file of ``@FILE``; empty for none.
    """

    source: str
    name: str
    function: str = ""
    weights: str = ""

    @property
    def title(self) -> str:
        """Name in tables: the model as written, without the folders of files."""
        return self.name_within(0)

    def name_within(self, folders: int) -> str:
        """Return :attr:`title` with this many of the folders of its files."""
        weights = f"@{shorten_path(self.weights, folders)}" if self.weights else ""
        if self.source == "function":
            module = shorten_path(self.name, 0 if weights else folders) if self.name.endswith(".py") else self.name
            return f"{module}:{self.function}{weights}"
        if self.source == "hf":
            return f"hf:{shorten_path(self.name, folders)}"
        return shorten_path(self.name, folders) if self.source == "file" else f"{self.source}:{self.name}{weights}"


def shorten_path(path: str, folders: int) -> str:
    """Return the name of a file with its last ``folders``, at least one if training calls the file ``model``."""
    kept = 1 + max(folders, int(Path(path).stem == "model"))
    return "/".join(part.strip("/") for part in Path(os.path.abspath(path)).parts[-kept:])  # noqa: PTH100  a link keeps its name


def parse_address(given: str) -> Address | None:
    """Parse ``given`` into an address; None for a shipped name or a checkpoint of this project."""
    if given in shipped_models():
        return None
    source, _, rest = given.partition(":")
    if source in LIBRARIES and rest:
        name, _, weights = rest.partition("@") if source in WITH_WEIGHTS else (rest, "", "")
        return Address(source, name, weights=weights)
    if not Path(given).exists() and (match := _FUNCTION.fullmatch(given)):
        return Address("function", match["module"], match["function"], match["weights"] or "")
    if ":" in given and not Path(given).exists():
        return Address("function", *given.rpartition(":")[::2])
    return Address("file", given) if Path(given).suffix.lower() in (*PROGRAMS, ".py") else None


def is_foreign(given: str) -> bool:
    """Check whether the project has not built a model."""
    return parse_address(given) is not None


def runs_code(given: str) -> bool:
    """Check whether loading the model runs arbitrary code: a function, or a program in a PyTorch file."""
    address = parse_address(given)
    return address is not None and (
        address.source == "function" or (address.source == "file" and Path(address.name).suffix.lower() != ".onnx")
    )
