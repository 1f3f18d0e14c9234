"""A model returned by a user's function: ``module:function`` or ``folder/file.py:function``."""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from data_prep.errors import InputError, PrerequisiteError, UsageError, describe_error
from robustness.measure.loaders.address import LIBRARIES, Address
from robustness.measure.loaders.loaded import Loaded, Wanted, loading
from robustness.measure.loaders.weights import load_weights
from robustness.measure.wrappers import as_module

_FOLDERS: list[Path] = []
"""Folders of files that models came from: modules next to one file differ from modules next to another."""
_OURS = ("robustness", "sdnet_core", "data_prep")


def load_function(address: Address, wanted: Wanted) -> Loaded:  # noqa: ARG001
    """Call the function without arguments, and fill the model that it returns with the weights of ``@FILE``, if given.

    Raises:
        PrerequisiteError: the file is missing, or imports a package that is not installed.
        InputError: no such module or function, or the function fails, ends the process, or returns no model.
    """
    given = f"{address.name}:{address.function}"
    with loading() as world:
        function = _find_function(address, given)
        with _telling(f"{given} fails"):
            model = function()
    if not callable(model):
        raise InputError(
            f"expected {given} to return a torch.nn.Module or a function, got {type(model).__name__}; return the model"
        )
    module = as_module(model)
    if address.weights:
        load_weights(module, Path(address.weights), owner=given)
    return Loaded(model=module, world=world)


def _find_function(address: Address, given: str) -> Callable[[], Any]:
    """Return the function itself, ready to be called."""
    is_file = address.name.endswith(".py")
    module = _import_file(Path(address.name)) if is_file else _import_module(address.name, given)
    function = getattr(module, address.function, None)
    if not callable(function):
        here = ", ".join(name for name, value in vars(module).items() if inspect.isfunction(value)) or "none"
        raise InputError(
            f"expected a function of {address.name} ({here}), got {address.function!r}; choose one of them"
        )
    try:
        inspect.signature(function).bind()
    except (TypeError, ValueError) as error:
        raise InputError(
            f"expected {given} to be callable without arguments, got: {error}; give them defaults"
        ) from error
    return function  # type: ignore[no-any-return]


def _import_module(name: str, given: str) -> ModuleType:
    if not all(part.isidentifier() for part in name.split(".")):
        raise InputError(
            f"expected a model of {', '.join(LIBRARIES)}, a module:function to import or a file.py:function, got "
            f"{given!r}; check the name"
        )
    sys.path.insert(0, str(Path.cwd()))  # of the model's world
    with _telling(f"{given}: its import fails"):
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is None or not name.startswith(error.name):
                raise PrerequisiteError(f"{given} imports {error.name}, which is not installed; install it") from error
            raise InputError(
                f"expected a model of {', '.join(LIBRARIES)}, or of a module that can be imported from here, got "
                f"{given}; check the name"
            ) from error


def _import_file(path: Path) -> ModuleType:
    """Import a file by its path; it can import what lies next to it, which takes precedence."""
    path = path.resolve()
    if not path.is_file():
        raise PrerequisiteError(
            f"expected a file of functions, got {path}, which is not there; check the path before the colon"
        )
    name = f"{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    if name in sys.modules:
        return sys.modules[name]
    _forget_namesakes(path.parent)
    specification = importlib.util.spec_from_file_location(name, path)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules[name] = module
    try:
        sys.path.insert(0, str(path.parent))  # of the model's world
        with _telling(f"{path.name}: its import fails"):
            try:
                specification.loader.exec_module(module)
            except ModuleNotFoundError as error:
                raise PrerequisiteError(
                    f"{path.name} imports {error.name}, which is not installed; install it"
                ) from error
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _forget_namesakes(folder: Path) -> None:
    """Forget modules of the same names from other folders, so that a module next to this file is imported from here."""
    beside = {path.stem for path in folder.glob("*.py")} | {path.name for path in folder.iterdir() if path.is_dir()}
    for name in list_own_modules():
        if name.partition(".")[0] in beside:
            del sys.modules[name]
    if folder not in _FOLDERS:
        _FOLDERS.append(folder)


def list_own_modules() -> dict[str, ModuleType]:
    """List by name the modules that lie next to the files of functions, including those files."""
    found: dict[str, ModuleType] = {}
    for name, module in list(sys.modules.items()):
        place = Path(getattr(module, "__file__", None) or "/")
        if name.partition(".")[0] not in _OURS and "site-packages" not in place.parts:
            found |= {name: module} if any(place.is_relative_to(folder) for folder in _FOLDERS) else {}
    return found


@contextmanager
def _telling(what: str) -> Iterator[None]:
    """Turn every exception of a user's code into an InputError that begins with ``what``."""
    try:
        yield
    except UsageError:
        raise
    except SystemExit as error:
        raise InputError(
            f"{what}, as it ends the process (sys.exit({error.code!r}), or argparse); put what runs as a script under "
            "if __name__ == '__main__'"
        ) from error
    except Exception as error:
        raise InputError(f"{what} with {describe_error(error)}; correct its code") from error


def name_functions(path: Path) -> list[str]:
    """List the functions of a file that can be called without arguments; the file is read, not run."""
    try:
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError):
        return []
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    return [it.name for it in functions if len(it.args.args) == len(it.args.defaults) and not it.name.startswith("_")]
