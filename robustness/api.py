"""The library in one call: :func:`evaluate` measures, :func:`open_run` reads a run, :class:`Run` shows it."""

from __future__ import annotations

import html
import shutil
import sys
import tempfile
import weakref
from collections.abc import Iterable, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pandas as pd

from data_prep.errors import InputError
from data_prep.schema import read
from robustness.analysis import frames
from robustness.analysis.comparison import compare_runs
from robustness.analysis.drawings import list_drawings
from robustness.analysis.findings import Findings
from robustness.analysis.page import write_page
from robustness.analysis.tables import describe, widen
from robustness.attack import Attack
from robustness.grids import check_lambdas, parse_eps, parse_lambdas, parse_severities
from robustness.measure.given import Models, name_models, undisturbed
from robustness.measure.prepare import plan_run
from robustness.measure.session import check_measured, measure
from robustness.mirror import fetch
from robustness.options import RunOptions
from robustness.run_directory import RunDirectory
from robustness.suite import Suite
from sdnet_core.style import figure_style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST_LAMBDAS = 6
_SHOWN = ("model", "perturbation", "norm", "eps", "threat", "lam", "n", "accuracy", "ci_low", "ci_high", "trust")
"""Columns of the attacks that a notebook shows."""


class Run:
    """A run that was measured: its numbers as frames, its figures, its report.

    Args:
        directory: the run directory.
    """

    def __init__(self, directory: RunDirectory) -> None:
        self._run = frames.Run.open(directory)

    @property
    def path(self) -> Path:
        """The run directory."""
        return self._run.directory.path

    @cached_property
    def findings(self) -> Findings:
        """Everything that follows from the outcomes."""
        return Findings.of(self._run)

    @property
    def cells(self) -> pd.DataFrame:
        """One row per model, perturbation, severity and λ, then attacks under every threat model: ``cells.csv``.

        Accuracies are shares in [0, 1] with Wilson's 95 % interval ``ci_low, ci_high``.
        """
        return self.findings.cells.copy()

    @property
    def summary(self) -> pd.DataFrame:
        """Mean accuracy over the severities, and over the corruptions, by model and λ policy: ``tables/summary.csv``.

        ``gain`` is the paired difference from the λ of training, ``versus`` that from the baseline model.
        """
        return self.findings.summary.copy()

    @property
    def attacks(self) -> pd.DataFrame:
        """Robust accuracy under every attack, budget and threat model with its trust mark: ``tables/attacks.csv``.

        Empty, with the columns of ``cells.csv``, where the run has no attack.
        """
        found = self.findings.attacks
        return pd.DataFrame(columns=frames.CELL_COLUMNS) if found is None else found.rows.copy()

    @property
    def missing(self) -> dict[str, str]:
        """Why there is no outcome, by the key of every cell that was asked for and has none."""
        return self._run.missing

    @property
    def headline(self) -> str:
        """The run in one sentence, that of the report."""
        return self.findings.headline

    @cached_property
    def figures(self) -> tuple[str, ...]:
        """Names of the figures that :meth:`plot` draws."""
        return tuple(drawing.name for drawing in list_drawings(self.findings))

    def plot(self, name: str) -> Figure:
        """Draw a figure of the run directory's ``figures``.

        Args:
            name: one of :attr:`figures`; of figures that there are one of for each model, such as
                ``accuracy_by_severity_<model>``, the beginning stands for that of the first model.

        Raises:
            InputError: there is no such figure.
        """
        drawings = {drawing.name: drawing for drawing in list_drawings(self.findings)}
        found = drawings.get(name) or next((it for key, it in drawings.items() if key.startswith(f"{name}_")), None)
        if found is None:
            raise InputError(f"expected a figure of the run ({', '.join(drawings) or 'it has none'}), got {name!r}")
        with figure_style():
            return found.draw()

    def report(self, path: str | Path | None = None) -> Path:
        """Write the report, one HTML file that needs no network, and return its path.

        Args:
            path: the file; None for ``report.html`` in the run directory.
        """
        if not len(self._run.cells):
            raise InputError(f"{self.path} has no finished cell: there is nothing to report")
        place = self.path / "report.html" if path is None else Path(path)
        write_page(self.findings, place)
        return place

    def compare(self, other: Run | str | Path, models: tuple[str, str] | None = None) -> pd.DataFrame:
        """Accuracy of ``other`` minus that of this run, paired image by image, with 95 % bootstrap intervals.

        Args:
            other: another run on the same images, or its run directory.
            models: the model of this run and the one of the other; None for every model that both have.

        Returns:
            The columns of :class:`robustness.analysis.comparison.Comparison`; ``frame.attrs["left_out"]`` names the
            policies that cannot be compared.

        Raises:
            InputError: the images, corruptions or protocols differ, or the runs have nothing in common.
        """
        theirs = other if isinstance(other, Run) else open_run(other)
        comparison = compare_runs(self._run, theirs._run, models=models)
        comparison.table.attrs["left_out"] = list(comparison.left_out)
        return comparison.table

    def __repr__(self) -> str:
        return f"<robustness.Run {self.path}: {self.headline}>"

    def _repr_html_(self) -> str:
        run = self._run
        wide = widen(self.findings.summary, run, most=_MOST_LAMBDAS)
        parts = [f"<p><b>{html.escape(self.headline)}</b></p>"]
        if wide.size:
            parts.append(wide.to_html(float_format=lambda value: f"{value:.1f}", na_rep="–"))
        if self.findings.attacks is not None:
            shown = self.attacks[list(_SHOWN)]
            parts.append(shown.to_html(index=False, float_format=lambda value: f"{value:.3g}", na_rep=""))
        parts.append(f"<p>{html.escape(describe(run))}. Accuracy in %. {html.escape(str(self.path))}</p>")
        return "".join(parts)


def open_run(path: str | Path) -> Run:
    """Read a run directory; no model and no data are needed.

    Args:
        path: the ``--out`` of a run, or its URL, from which it is fetched.

    Raises:
        PrerequisiteError: there is no run.
        InputError: its record is damaged.
    """
    return Run(fetch(str(path)))


def evaluate(
    model: Models,
    data: Any = None,
    *,
    suite: str | Path | Suite | None = None,
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
    """Measure models on images under corruptions and attacks; modules are handed back as they came.

    Args:
        model: a ``torch.nn.Module``; a function from images, float32 (N, 3, H, W) in [0, 1], to logits (N, K); a name
            as on the command line; or a dict or list of those. Normalisation is the model's own business.
        data: a data set by name; a folder or archive of pictures; an :class:`data_prep.ImageSet`; arrays
            ``(images, labels)``; or a torch ``Dataset`` or ``DataLoader`` of pairs. None for the suite's.
        suite: a suite by name, its file, or a :class:`robustness.suite.Suite`; what follows replaces its keys. None
            makes one of what follows.
        corruptions: names or groups; without a suite the 15 standard ones, or none where only attacks are named.
        severities: levels ≥ 1; every level by default.
        attacks: ``"pgd"``, ``"autoattack"``, a class of torchattacks, or a table as in a suite file.
        eps: budgets of the attacks in [0, 1] pixel units: ``"2/255"``, ``0.03``, ``"l2:0.5"``.
        lambdas: the λ grid of models that have a λ, a list or ``"first:last:count"``; by default their λ of training.
        n: a random subset of the images.
        split: of the data set; by default ``test``, else one for validation, else the only one.
        classes: names of the labels of arrays, or the class folders of pictures, in the order of the model's outputs;
            or a file that lists them.
        resize: short side in pixels to which pictures are scaled; pictures of several sizes have a default.
        crop: side in pixels of the central square that is cut out of them.
        input_size: pixels that the short side of an image gets, after the corruption, for models from elsewhere.
        baseline: the model that the others are compared with.
        seed: of the subset, of generated corruptions and of the random starts of attacks; 0 by default.
        out: run directory; the same call resumes there after an interruption. None for a temporary one, which is
            removed with the :class:`Run`.
        data_dir: folder of the data sets.
        device: ``cpu`` or ``cuda``; by default CUDA where it works.
        batch_size: images per forward pass.
        speed: ``fast`` for compiled networks of this project, given by name.
        timeout: seconds after which a model is given up under one perturbation or attack.
        fresh: forget what ``out`` holds.
        progress: show a bar and warnings on standard error.

    Returns:
        The run. Cells that failed are in :attr:`Run.missing`, with their reasons.

    Raises:
        PrerequisiteError: data, a model, a package or a GPU is missing.
        InputError: a value that cannot be used, or a model that fails throughout.
    """
    models = name_models(model)
    by_name = all(isinstance(it, str) for it in models.values()) and not isinstance(model, dict)
    if suite is None and data is None:
        raise InputError("expected images or a suite, got neither: give data=… or suite=…")
    named = isinstance(data, str | Path) or data is None
    objects = {"model": not by_name, "data": not named, "suite": isinstance(suite, Suite)}
    options = _read_options(
        suite=None if suite is None or isinstance(suite, Suite) else str(suite),
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
        _evaluate(options, options, models, data, suite, attacks, classes, progress)
        return open_run(out)
    folder = tempfile.mkdtemp(prefix="robustness-")
    placed = msgspec.structs.replace(options, out=folder)
    try:
        _evaluate(placed, options, models, data, suite, attacks, classes, progress)
        run = open_run(folder)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    weakref.finalize(run, shutil.rmtree, folder, ignore_errors=True)
    return run


def _evaluate(
    options: RunOptions,
    asked: RunOptions,
    models: dict[str, Any],
    data: Any,
    suite: str | Path | Suite | None,
    attacks: Sequence[str | dict[str, Any] | Attack] | str | None,
    classes: Sequence[str] | str | Path | None,
    progress: bool,
) -> None:
    """Measure into the run directory of ``options``, whose record says that it was ``asked`` for."""
    with undisturbed(models):
        measurement = plan_run(
            options,
            models=models,
            data=data if "data" in options.objects else None,
            suite=suite if isinstance(suite, Suite) else None,
            attacks=None if attacks is None else tuple(_listed(attacks) or ()),
            classes=classes,
            progress=progress,
        )
        measurement.quiet = not progress
        measure(measurement, options, asked=asked, warn=partial(print, file=sys.stderr) if progress else lambda _: None)
        check_measured(measurement)


def _describe_attacks(attacks: Any) -> tuple[str | dict[str, Any], ...] | None:
    """The attacks as the record holds them: names and tables."""
    listed = _listed(attacks)
    if listed is None:
        return None
    return tuple({"label": it.label, **it.identity()} if isinstance(it, Attack) else it for it in listed)


def _read_lambdas(lambdas: Sequence[float] | str | float | None) -> tuple[float, ...] | None:
    if lambdas is None:
        return None
    return parse_lambdas(lambdas) if isinstance(lambdas, str) else check_lambdas(_listed(lambdas) or ())


def _read_options(**given: Any) -> RunOptions:
    """The options of a call, each of its type; numbers of NumPy become plain ones."""

    def unwrap(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(map(unwrap, value))
        return value.item() if isinstance(value, np.generic) else value

    return read({"type": "run", **{name: unwrap(value) for name, value in given.items()}}, RunOptions, "evaluate")


def _listed(values: Any) -> tuple[Any, ...] | None:
    """Values as a tuple: those of a text with commas, or a single one."""
    if values is None:
        return None
    if isinstance(values, str):
        return tuple(part.strip() for part in values.split(",") if part.strip())
    is_single = isinstance(values, dict | Attack) or not isinstance(values, Iterable)
    return (values,) if is_single else tuple(values)
