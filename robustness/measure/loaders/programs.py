"""Whole models in a file: TorchScript, and programs of ``torch.export``."""

from __future__ import annotations

import importlib
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import nn

from data_prep.errors import InputError, PrerequisiteError, damage_named, describe_error
from robustness.measure.loaders import onnx_files
from robustness.measure.loaders.address import Address
from robustness.measure.loaders.functions import name_functions
from robustness.measure.loaders.loaded import Loaded, Wanted, check_input_shape, loading
from robustness.measure.loaders.weights import check_is_binary, hash_file
from robustness.measure.wrappers import FixedBatch

_OTHERS = {".h5": "Keras", ".keras": "Keras"}


def load_file(address: Address, wanted: Wanted) -> Loaded:
    """Load a model from a file by its content, whatever its suffix.

    Raises:
        PrerequisiteError: no such file, or the package that reads it is missing.
        InputError: weights without an architecture, a damaged file, a program for images of another size.
    """
    path = Path(address.name)
    if not path.is_file():
        raise PrerequisiteError(f"expected the file of a model, got {path}, which is not there; check the path")
    if path.suffix == ".py":
        functions = ", ".join(name_functions(path)) or "none that can be called without arguments"
        raise InputError(
            f"expected one of the functions in {path} ({functions}), got the file alone; name it, {path}:FUNCTION"
        )
    if path.suffix in _OTHERS:
        raise InputError(
            f"expected a program of PyTorch or ONNX, got {path}, a model of {_OTHERS[path.suffix]}; export it as ONNX "
            "and give the .onnx file"
        )
    check_is_binary(path)
    if path.suffix == ".onnx":
        return onnx_files.load_onnx(path, wanted)
    members = _list_members(path)
    if any(name.endswith("/constants.pkl") for name in members) and any("/code/" in name for name in members):
        return _load_script(path)
    if any("/models/" in name and name.endswith(".json") for name in members):
        return _load_export(path, wanted)
    if any(name.endswith((".so", ".cubin", ".o")) for name in members):
        raise InputError(
            f"expected a program, got {path}, which holds machine code (AOTInductor); save the program itself, "
            "torch.export.save(…)"
        )
    raise InputError(
        f"expected a whole model in {path}, got weights alone, which do not say what network they belong to; give it, "
        f"too, as torchvision:NAME@{path}, timm:NAME@{path} or file.py:function@{path}, or convert an official SDNet "
        f"checkpoint with python -m sdnet_core convert {path} --arch sdnet18 --out model.safetensors"
    )


def _list_members(path: Path) -> list[str]:
    """List the members of a zip file, PyTorch's format; empty for other files."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError):
        return []


def _load_script(path: Path) -> Loaded:
    damage = damage_named(f"TorchScript in {path}", "save it again", (RuntimeError, ValueError))
    with damage, loading(), warnings.catch_warnings(action="ignore"):
        model = torch.jit.load(path, map_location="cpu")  # type: ignore[no-untyped-call]
    return Loaded(model=model, version="TorchScript", content=hash_file(path))


def _load_export(path: Path, wanted: Wanted) -> Loaded:
    try:
        with loading(), warnings.catch_warnings(action="ignore"):
            program = importlib.import_module("torch.export").load(path)
            model: nn.Module = program.module()
    except Exception as error:  # reading a file of another version may raise anything
        raise InputError(
            f"expected a program of torch.export in {path}, got: {describe_error(error)}; save it again with this "
            f"version of PyTorch, {torch.__version__}"
        ) from error
    shape = _input_shape(program, path)
    batch, size = check_input_shape(path, shape, wanted)
    model = model if batch is None else FixedBatch(model, batch)
    return Loaded(model=model, version="torch.export", input_size=size, content=hash_file(path))


def _input_shape(program: Any, path: Path) -> tuple[Any, ...]:
    """Return the shape of the images: a number where it was recorded as one, and another object where it is free."""
    inputs = set(program.graph_signature.user_inputs)
    shapes = [tuple(node.meta["val"].shape) for node in program.graph.nodes if node.name in inputs]
    if len(shapes) != 1:
        raise InputError(
            f"expected one input, images, got {path}, which takes {len(shapes)}; export a program that takes images "
            "alone"
        )
    return shapes[0]
