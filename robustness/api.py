"""The library in one call: :func:`evaluate` measures and returns a :class:`~robustness.runs.Run`."""

from __future__ import annotations

import shutil
import sys
import tempfile
import weakref
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from data_prep.command_line import parse_names
from data_prep.errors import InputError
from data_prep.schema import read
from robustness.analysis.overview import Overview
from robustness.attack import Attack
from robustness.grids import check_lambdas, parse_eps, parse_lambdas, parse_severities
from robustness.measure.given import Models, name_models, undisturbed
from robustness.measure.request import find_parent, plan_runs
from robustness.options import RunOptions
from robustness.runs import Run, open_run
from robustness.session import check_measured, conduct
from robustness.suite import Suite, shipped_suites
from robustness.suite_folders import write_list


def evaluate(
    model: Models,
    data: Any = None,
    *,
    suite: str | Path | Suite | Sequence[str | Path | Suite] | None = None,
    corruptions: Sequence[str] | str | None = None,
    severities: Sequence[int] | str | int | None = None,
    attacks: Sequence[str | dict[str, Any] | Attack] | str | None = None,
    eps: Sequence[str | float] | str | float | None = None,
    lambdas: Sequence[float] | str | float | None = None,
    n: int | None = None,
    split: str | None = None,
    classes: Sequence[str] | str | Path | None = None,
    resize: int | None = None,
    crop: int | None = None,
    input_size: int | None = None,
    baseline: str | None = None,
    seed: int | None = None,
    out: str | Path | None = None,
    data_dir: str | Path = "data",
    device: str | None = None,
    batch_size: int | None = None,
    speed: str = "exact",
    timeout: float | None = None,
    fresh: bool = False,
    progress: bool = True,
) -> Run:
    """Measure models on images under corruptions and attacks; modules are returned to their original state.

    Args:
        model: a ``torch.nn.Module``; a function from images, float32 (N, 3, H, W) in [0, 1], to logits (N, K); a name
            as on the command line; or a dict or list of these. The model does its own normalisation.
        data: a data set by name; a folder or archive of pictures; an :class:`data_prep.ImageSet`; arrays
            ``(images, labels)``; or a torch ``Dataset`` or ``DataLoader`` of pairs. None uses the suite's data.
        suite: the name or file of a suite, or a :class:`robustness.suite.Suite`; the arguments below replace its keys.
            None builds a suite from the arguments below. Several suites (``"cifar10c,shifts"`` or a list) share images
            and models.
        corruptions: names or groups; without a suite, the 15 standard ones, or none if only attacks are given.
        severities: levels ≥ 1; every level by default.
        attacks: ``"pgd"``, ``"autoattack"``, a class of torchattacks, or a table as in a suite file.
        eps: budgets of the attacks in [0, 1] pixel units: ``"2/255"``, ``0.03``, ``"l2:0.5"``.
        lambdas: the λ grid of models that have a λ, a list or ``"first:last:count"``; by default their training λ.
        n: size of the random subset of the images; None for all.
        split: split of the data set; by default ``test``, else the validation split, else the only one.
        classes: names of the labels of arrays, or the class folders of pictures, in the order of the model's outputs;
            or a file that lists them.
        resize: short side in pixels to which pictures are scaled; pictures of several sizes have a default.
        crop: side in pixels of the central square that pictures are cropped to.
        input_size: short side in pixels to which images are enlarged, after the corruption, for external models.
        baseline: the model that the others are compared with.
        seed: seed of the subset, the generated corruptions and the random starts of attacks; 0 by default.
        out: run directory, or with several suites their common folder; repeat the call to resume after an
            interruption. None uses a temporary directory, which is removed with the :class:`Run`.
        data_dir: folder of the data sets.
        device: ``cpu`` or ``cuda``; by default CUDA if it works.
        batch_size: images per forward pass.
        speed: ``exact``, or ``fast`` to compile networks of this project that are given by name.
        timeout: seconds after which one perturbation or attack of a model is abandoned.
        fresh: delete what ``out`` holds and measure everything again.
        progress: show a bar and warnings on standard error.

    Returns:
        The run, or :class:`Runs` for several suites. :attr:`Run.missing` has the failed cells and their reasons.

    Raises:
        PrerequisiteError: data, a model, a package or a GPU is missing.
        InputError: an invalid value, or a model that fails in every cell.
    """
    models = name_models(model)
    by_name = all(isinstance(it, str) for it in models.values()) and not isinstance(model, dict)
    if suite is None and data is None:
        raise InputError("expected images or a suite, got neither; give data=… or suite=…")
    named = isinstance(data, str | Path) or data is None
    suites = _list_suites(suite)
    has_object = any(isinstance(it, Suite) for it in suites)
    objects = {"model": not by_name, "data": not named, "suite": has_object}
    options = _read_options(
        suite=None if suite is None or has_object else ",".join(map(str, suites)),
        data=str(data) if named and data is not None else None,
        split=split,
        resize=resize,
        crop=crop,
        classes=str(classes) if isinstance(classes, str | Path) else None,
        input_size=input_size,
        lambdas=_read_lambdas(lambdas),
        models=tuple(map(str, models.values())) if by_name else tuple(models),
        corruptions=_listed(corruptions),
        severities=parse_severities(severities) if isinstance(severities, str) else _listed(severities),
        attacks=_describe_attacks(attacks),
        eps=None if eps is None else parse_eps(",".join(map(str, _listed(eps) or ()))),
        baseline=baseline,
        n=n,
        seed=seed,
        data_dir=str(data_dir),
        out=None if out is None else str(out),
        device=device,
        batch_size=batch_size,
        speed=speed,
        timeout=timeout,
        fresh=fresh,
        objects=tuple(name for name, is_object in objects.items() if is_object),
    )
    if out is not None:
        _evaluate(options, models, data, suites, attacks, classes, progress)
        return open_run(out)
    folder = tempfile.mkdtemp(prefix="robustness-")
    try:
        _evaluate(options, models, data, suites, attacks, classes, progress, folder=folder)
        run = open_run(folder)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    weakref.finalize(run, shutil.rmtree, folder, ignore_errors=True)
    return run


def _evaluate(
    options: RunOptions,
    models: dict[str, Any],
    data: Any,
    suites: Sequence[str | Suite | None],
    attacks: Sequence[str | dict[str, Any] | Attack] | str | None,
    classes: Sequence[str] | str | Path | None,
    progress: bool,
    folder: str | None = None,
) -> None:
    """Measure into ``out``, or if it is not given into ``folder``, which the record does not name."""
    placed = options if folder is None else msgspec.structs.replace(options, out=folder)
    with undisturbed(models):
        runs = plan_runs(
            placed,
            suites,
            models=models,
            data=data if "data" in options.objects else None,
            attacks=None if attacks is None else tuple(_listed(attacks) or ()),
            classes=classes,
            progress=progress,
        )
        parent = find_parent(placed, suites)
        if parent is not None:
            write_list(parent, [measurement.suite.name for measurement, _ in runs])
        measured = {}
        for measurement, own in runs:
            measurement.quiet = not progress
            asked = own if folder is None else msgspec.structs.replace(own, out=None)
            warn = partial(print, file=sys.stderr) if progress else lambda _: None
            measured[measurement.suite.name] = conduct(measurement, own, asked=asked, warn=warn)
            check_measured(measurement)
        if parent is not None:
            Overview(parent, {name: found for name, found in measured.items() if found is not None}).write()


def _list_suites(suite: Any) -> tuple[str | Suite | None, ...]:
    """Return the suites as the command line names them, or the objects themselves; a single None for no suite."""
    if isinstance(suite, str):
        return parse_names(suite, shipped_suites()) or (suite,)
    listed = _listed(suite) or (None,)
    return tuple(it if it is None or isinstance(it, Suite) else str(it) for it in listed)


def _describe_attacks(attacks: Any) -> tuple[str | dict[str, Any], ...] | None:
    """Return the attacks as the record holds them: names and tables."""
    listed = _listed(attacks)
    if listed is None:
        return None
    return tuple({"label": it.label, **it.identity()} if isinstance(it, Attack) else it for it in listed)


def _read_lambdas(lambdas: Sequence[float] | str | float | None) -> tuple[float, ...] | None:
    if lambdas is None:
        return None
    return parse_lambdas(lambdas) if isinstance(lambdas, str) else check_lambdas(_listed(lambdas) or ())


def _read_options(**given: Any) -> RunOptions:
    """Convert the arguments of a call to options of the declared types; NumPy numbers become plain ones."""

    def unwrap(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(map(unwrap, value))
        return value.item() if isinstance(value, np.generic) else value

    return read({"type": "run", **{name: unwrap(value) for name, value in given.items()}}, RunOptions, "evaluate")


def _listed(values: Any) -> tuple[Any, ...] | None:
    """Return values as a tuple: the parts of a comma-separated text, or a single value."""
    if values is None:
        return None
    if isinstance(values, str):
        return tuple(part.strip() for part in values.split(",") if part.strip())
    is_single = isinstance(values, dict | Attack) or not isinstance(values, Iterable)
    return (values,) if is_single else tuple(values)
