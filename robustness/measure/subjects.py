"""The models under measurement: found by name or path, loaded, and identified by the content of their weights."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from data_prep.errors import InputError
from robustness.grids import round_lam
from robustness.laws import FittedLaw, read_law
from robustness.measure.answers import Sketch, sketch_answers
from robustness.measure.foreign import is_foreign, load_foreign, runs_code, wrap_model
from robustness.measure.loaders.address import parse_address, shorten_path
from robustness.measure.loaders.loaded import Wanted
from robustness.policies import Law, NoiseLaw
from sdnet_core import load_model, read_card, shipped_models, weights_fingerprint
from sdnet_core.classifier import Classifier

_MOST_FOLDERS = 3
"""Largest number of folders that a name keeps of a path, to distinguish it from another."""


@dataclass(frozen=True)
class Subject:
    """A model under measurement.

    Args:
        name: name in tables.
        network: the network in eval mode, on the device of the run.
        fingerprint: SHA-256 of its weights.
        accuracy: accuracy on its card: ``correct``, ``n``, ``data``, ``fingerprint``; may be empty.
        law: the residual law next to its weights; None if there is none.
        precision: ``"float32"``, or ``"fast"`` for the faster form of :func:`sdnet_core.speed.accelerate`.
        sketches: sketches of a foreign model's logits on the probe images, by λ; see :meth:`show_probes`.
        again: loads another instance of a model made by a user's function; None for other models.
    """

    name: str
    network: Classifier
    fingerprint: str
    accuracy: dict[str, Any]
    law: FittedLaw | None = None
    precision: str = "float32"
    sketches: dict[float | None, Sketch] = field(default_factory=dict)
    again: Callable[[], Classifier] | None = None

    @property
    def lam(self) -> float | None:
        """Training λ, rounded like the λs of a grid; None for a model without λ."""
        return None if self.network.lam is None else round_lam(self.network.lam)

    def lambdas(self, grid: tuple[float, ...]) -> tuple[float | None, ...]:
        """List the λs to measure: the grid, or the training λ if it is empty; a single None for a model without λ."""
        return (grid or (self.lam,)) if self.network.has_lam else (None,)

    def laws(self) -> tuple[Law, ...]:
        """List the laws by which the model's λ can be chosen for each image: the fitted one and the noise level's."""
        if self.lam is None or not self.network.has_code:
            return ()
        fitted = () if self.law is None else (self.law.law,)
        return (*fitted, NoiseLaw(self.lam))

    def show_probes(self, lambdas: Iterable[float | None], size: tuple[int, int], device: torch.device) -> None:
        """Compute a model's logits on the probe images at every λ; they enter the keys of its cells.

        A network of this project is identified by its weights and configuration, and is skipped.
        """
        if not self.network.is_known:
            for lam in set(lambdas) - self.sketches.keys():
                self.sketches[lam] = sketch_answers(self.network, lam, size, device)

    def reset(self, *, chance: bool = True) -> None:
        """Restore the model's state before its first measurement; ``chance``: its random numbers as well."""
        self.network.reset(chance=chance)

    def identity(self) -> dict[str, Any]:
        """Return everything that decides the model's predictions, as JSON values."""
        return {"name": self.name, "weights": self.fingerprint, **self.network.describe()}


def load_subject(
    given: str | nn.Module | Callable[..., Any],
    wanted: Wanted,
    *,
    device: torch.device,
    speed: str = "exact",
    name: str | None = None,
) -> Subject:
    """Load or wrap one model (see :func:`load_subjects`), without its residual law, which may not be fitted yet.

    Args:
        given: the model as written on the command line, or a module or function images → logits.
        wanted: what the data set requires of it.
        device: device to load it onto.
        speed: ``"exact"`` or ``"fast"``, the latter for networks of this project.
        name: name in tables; default: ``given`` as written, or the kind of object.

    Raises:
        PrerequisiteError: no such model, or a package or a file that it needs is missing.
        InputError: the model is not usable, or has another number of classes.
    """
    accuracy: dict[str, Any] = {}
    again: Callable[[], Classifier] | None = None
    network: Classifier
    title = name or (name_of(given) if isinstance(given, str) else name_object(given))
    if not isinstance(given, str):
        network = wrap_model(title, given, wanted)
    elif is_foreign(given):
        load = partial(load_foreign, given, wanted)
        network, again = load(), load if runs_code(given) else None
    else:
        _check_classes(given, read_card(given).config.num_classes, wanted.num_classes)
        network, accuracy = load_model(given), read_card(given).accuracy
    _check_classes(title, network.num_classes, wanted.num_classes)
    fingerprint = weights_fingerprint(network)
    precision = "fast" if speed == "fast" else "float32"
    return Subject(title, network.accelerate(speed, device), fingerprint, accuracy, precision=precision, again=again)


def load_subjects(
    models: Sequence[str] | Mapping[str, str | nn.Module | Callable[..., Any]],
    wanted: Wanted,
    *,
    device: torch.device,
    speed: str = "exact",
) -> list[Subject]:
    """Load each of ``models`` onto ``device``, with its residual law if it has one.

    Args:
        models: models as written on the command line (shipped names, paths of checkpoints, and what
            :func:`robustness.measure.foreign.load_foreign` takes), or names for tables and what they stand for.
        wanted: what the data set requires of them; see :func:`load_subject` for this and the other arguments.
        device: device to load them onto.
        speed: ``"exact"`` or ``"fast"``.

    Raises:
        PrerequisiteError: no such model.
        InputError: a damaged or foreign file, another number of classes, two models with one name, or a law fitted to
            other weights.
    """
    named = models if isinstance(models, Mapping) else _name_models(models)
    subjects = []
    for name, given in named.items():
        subject = load_subject(given, wanted, device=device, speed=speed, name=name)
        if isinstance(given, str) and not is_foreign(given):
            subject = replace(subject, law=read_law(given, weights=subject.fingerprint))
        subjects.append(subject)
    return subjects


def _check_classes(title: str, found: int, wanted: int) -> None:
    if found != wanted:
        raise InputError(
            f"expected a model of {wanted} classes, as the data set has, got {title}, which was trained for {found}; "
            "choose a model of this data set"
        )


def _name_models(models: Sequence[str]) -> dict[str, str]:
    """Name each model, with as many folders as needed to distinguish equal names."""
    names = [name_of(given) for given in models]
    for folders in range(1, _MOST_FOLDERS + 1):
        names = [
            name_of(given, folders) if names.count(name) > 1 else name
            for name, given in zip(names, models, strict=True)
        ]
    for name in names:
        if names.count(name) > 1:
            raise InputError(
                f"expected models of different names, got two called {name!r}; leave one of them out, or rename one"
            )
    return dict(zip(names, models, strict=True))


def name_of(given: str, folders: int = 0) -> str:
    """Return the name in tables of a model given as text: shipped names unchanged, files without their folders.

    ``folders``: number of folders to keep; a checkpoint that training calls ``model`` is named by its folder.
    """
    if (address := parse_address(given)) is not None:
        return address.name_within(folders)
    if given in shipped_models():
        return given
    path = Path(given)
    if not path.name:
        raise InputError(f"expected the name or file of a model, got {given!r}; see python -m sdnet_core list")
    return shorten_path(str(path.parent if path.stem == "model" else path.with_suffix("")), folders)


def name_object(model: object) -> str:
    """Return the name in tables of an object given without one: its class, or a function's own name."""
    return str(getattr(model, "__name__", type(model).__name__))
