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
from robustness.measure.foreign import ForeignClassifier, is_foreign, load_foreign, runs_code, wrap_model
from robustness.measure.loaders.address import parse_address, shorten_path
from sdnet_core import Network, load_model, read_card, shipped_models, weights_fingerprint
from sdnet_core.speed import accelerate

Classifier = Network | ForeignClassifier
"""What is measured: images in [0, 1] and λ in, logits out."""
_MOST_FOLDERS = 3
"""That a name keeps of a path, to tell it from another one."""


@dataclass(frozen=True)
class Subject:
    """A model under measurement.

    Args:
        name: what tables call it.
        network: in eval mode, on the device of the run.
        fingerprint: SHA-256 of its weights.
        accuracy: what its card records: ``correct``, ``n``, ``data``, ``fingerprint``; may be empty.
        law: the residual law beside its weights; None if there is none.
        precision: ``"float32"``, or ``"fast"`` for the faster form of :func:`sdnet_core.speed.accelerate`.
        sketches: what a model from elsewhere answers to the probe images, by λ; see :meth:`show_probes`.
        again: loads another instance of a model that a function of the user makes; None for others.
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
        """λ of training, rounded as the λs of a grid are; None for a model without λ."""
        return None if self.network.lam is None else round_lam(self.network.lam)

    def lambdas(self, grid: tuple[float, ...]) -> tuple[float | None, ...]:
        """The λs to measure: the grid, or λ of training if it is empty; one None for a model without λ."""
        return (grid or (self.lam,)) if self.network.has_lam else (None,)

    def show_probes(self, lambdas: Iterable[float | None], size: tuple[int, int], device: torch.device) -> None:
        """Ask a model from elsewhere, at every λ, for its answers to the probe images, of which its keys are made.

        A network of this project is all in its weights and its configuration, and is not asked.
        """
        if isinstance(self.network, ForeignClassifier):
            for lam in set(lambdas) - self.sketches.keys():
                self.sketches[lam] = sketch_answers(self.network, lam, size, device)

    def reset(self, *, chance: bool = True) -> None:
        """Make the model what it was before it was first measured; ``chance``: its random numbers, too.

        A network of this project never changes.
        """
        if isinstance(self.network, ForeignClassifier):
            self.network.reset(chance=chance)

    def identity(self) -> dict[str, Any]:
        """What decides the model's answers; JSON values."""
        return {"name": self.name, "weights": self.fingerprint, **self.network.describe()}


def load_subject(
    given: str | nn.Module | Callable[..., Any],
    *,
    num_classes: int,
    device: torch.device,
    speed: str = "exact",
    name: str | None = None,
    classes: tuple[str, ...] = (),
    image_size: tuple[int, int] | None = None,
    enlarge_to: int | None = None,
) -> Subject:
    """Load or wrap one model (see :func:`load_subjects`), without its residual law: it may be about to be fitted.

    Args:
        given: what is written on the command line, or a module or function images → logits.
        num_classes: of the data set.
        device: where it is put.
        speed: ``"exact"`` or ``"fast"``, the latter for networks of this project.
        name: what tables call it; default: what was written, or what kind of object it is.
        classes: names of the classes of the data in the order of the labels, if they are known.
        image_size: height and width of the images, if they are known.
        enlarge_to: pixels that the short side of every image gets before a model from elsewhere sees it, after any
            corruption; None leaves it. Networks of this project take images as they are.

    Raises:
        PrerequisiteError: no such model, or a package or a file that it needs is missing.
        InputError: what is there cannot be used, or tells another number of classes apart.
    """
    accuracy: dict[str, Any] = {}
    again: Callable[[], Classifier] | None = None
    network: Classifier
    size: dict[str, Any] = {"image_size": image_size, "enlarge_to": enlarge_to}
    if not isinstance(given, str):
        title = name or _name_object(given)
        network = wrap_model(title, given, num_classes=num_classes, **size)
    elif is_foreign(given):
        title = name or name_of(given)
        load = partial(load_foreign, given, num_classes=num_classes, classes=classes, **size)
        network, again = load(), load if runs_code(given) else None
    else:
        title = name or name_of(given)
        _check_classes(given, read_card(given).config.num_classes, num_classes)
        network, accuracy = load_model(given), read_card(given).accuracy
    _check_classes(title, network.num_classes, num_classes)
    fingerprint = weights_fingerprint(network)
    if isinstance(network, Network):
        network = accelerate(network, speed, device)
    elif speed == "fast":
        raise InputError(f"--speed fast is for the networks of this project: measure {title} without it")
    precision = "fast" if speed == "fast" else "float32"
    return Subject(title, network.to(device), fingerprint, accuracy, precision=precision, again=again)


def load_subjects(
    models: Sequence[str] | Mapping[str, str | nn.Module | Callable[..., Any]],
    *,
    num_classes: int,
    device: torch.device,
    speed: str = "exact",
    classes: tuple[str, ...] = (),
    image_size: tuple[int, int] | None = None,
    enlarge_to: int | None = None,
) -> list[Subject]:
    """Load every one of ``models`` onto ``device``, with its residual law where it has one.

    Args:
        models: as they are written on the command line (shipped names, paths of checkpoints, and what
            :func:`robustness.measure.foreign.load_foreign` takes), or names for tables and what they stand for.
        num_classes: as the other arguments, see :func:`load_subject`.
        device: where they are put.
        speed: ``"exact"`` or ``"fast"``.
        classes: names of the classes.
        image_size: height and width of the images.
        enlarge_to: pixels of the short side that models from elsewhere see.

    Raises:
        PrerequisiteError: no such model.
        InputError: a damaged or foreign file, another number of classes, two models of one name, a law that was fitted
            to other weights.
    """
    named = models if isinstance(models, Mapping) else _name_models(models)
    options: dict[str, Any] = {"classes": classes, "image_size": image_size, "enlarge_to": enlarge_to}
    subjects = []
    for name, given in named.items():
        subject = load_subject(given, num_classes=num_classes, device=device, speed=speed, name=name, **options)
        if isinstance(given, str) and not is_foreign(given):
            subject = replace(subject, law=read_law(given, weights=subject.fingerprint))
        subjects.append(subject)
    return subjects


def _check_classes(title: str, found: int, wanted: int) -> None:
    if found != wanted:
        raise InputError(
            f"{title} was trained for {found} classes and the data set has {wanted}: choose a model of this data set"
        )


def _name_models(models: Sequence[str]) -> dict[str, str]:
    """A name for each model; with as many of the folders as tell two of one name apart."""
    names = [name_of(given) for given in models]
    for folders in range(1, _MOST_FOLDERS + 1):
        names = [
            name_of(given, folders) if names.count(name) > 1 else name
            for name, given in zip(names, models, strict=True)
        ]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"two models are called {name!r}: leave one of them out, or rename one")
    return dict(zip(names, models, strict=True))


def name_of(given: str, folders: int = 0) -> str:
    """What tables call a model that was written: shipped names as they are, of files the name without the folders.

    ``folders``: so many of the folders are kept; of a checkpoint that training calls ``model`` the folder is the name.
    """
    if (address := parse_address(given)) is not None:
        return address.name_within(folders)
    if given in shipped_models():
        return given
    path = Path(given)
    if not path.name:
        raise InputError(f"expected the name or file of a model, got {given!r}; see python -m sdnet_core list")
    return shorten_path(str(path.parent if path.stem == "model" else path.with_suffix("")), folders)


def _name_object(model: object) -> str:
    """What tables call an object that was given without a name: its class, or a function's own name."""
    return str(getattr(model, "__name__", type(model).__name__))
