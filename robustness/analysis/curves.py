"""Robust accuracy at every ε, from the smallest perturbation of each image, next to attacks at a fixed ε."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from robustness.analysis.attacks import Attacks, Row
from robustness.analysis.columns import read_stages, to_records
from robustness.analysis.drawings import Drawing, add_legend, save_drawings, scale_budgets
from robustness.analysis.frames import Run
from robustness.analysis.tables import describe
from robustness.analysis.texts import name_setting, write_csv
from robustness.attack import NORMS
from robustness.statistics import share_interval
from robustness.which_lam import WhichLam
from sdnet_core.style import as_label, panel_grid

_POINTS = 33
_STAGE = "minimum"
_NOTE = (
    "Share of images whose smallest perturbation that was found is larger than ε (an upper bound of robust accuracy). "
    "Circles: attacks at a fixed ε (whitebox); below the line they found what the search did not."
)


def tabulate_curves(run: Run, attacks: Attacks) -> pd.DataFrame:
    """Tabulate robust accuracy against ε for every model and λ that the attack ``minimum`` searched.

    Returns:
        ``model, lam, policy, attack, norm, eps, robust, ci_low, ci_high, n`` and ``fixed``, the accuracy under the
        strongest attack at that ε alone (NaN if there is none). ε: evenly spaced up to the largest that counts, and
        the ε of the fixed attacks. Shares in [0, 1] with Wilson's 95 % intervals. Empty without such an attack.
    """
    rows = []
    fixed: dict[tuple[str, str, WhichLam], list[Row]] = {}
    for whitebox in (row for row in attacks.listed if row.threat == "whitebox"):
        fixed.setdefault((whitebox.model, whitebox.norm, whitebox.shown), []).append(whitebox)
    for row, smallest in _list_searches(run):
        strongest: dict[float, float] = {}
        for other in fixed.get((row["model"], row["norm"], WhichLam.from_row(row)), ()):
            if other.duel.attack != row["perturbation"] and other.duel.eps <= row["eps"]:
                strongest[other.duel.eps] = min(other.accuracy, strongest.get(other.duel.eps, 1.0))
        fields = {name: row[name] for name in ("model", "lam", "policy")}
        fields |= {"attack": row["perturbation"], "norm": row["norm"]}
        for eps in sorted({*np.linspace(0, row["eps"], _POINTS), *strongest}):
            values = dict(zip(("robust", "ci_low", "ci_high"), share_interval(smallest > eps), strict=True))
            counted = {"n": len(smallest), "fixed": strongest.get(eps, np.nan)}
            rows.append({**fields, "eps": eps, **values, **counted})
    return pd.DataFrame(rows)


def _list_searches(run: Run) -> Iterator[tuple[dict[str, Any], np.ndarray]]:
    """List the cells of the search, and the smallest ε of each image: 0 if it is wrong anyway, ∞ if none was found."""
    for row in to_records(run.cells[run.cells["threat"] == "whitebox"]):
        outcome = run.outcome(row["key"])
        if read_stages(outcome)[0] == _STAGE:
            smallest = np.where(outcome["broken_by"] == "", np.inf, outcome["distance"])
            yield row, np.where(outcome["attacked"], smallest, 0.0)


def write_curves(run: Run, attacks: Attacks, *, pdf: bool) -> None:
    """Write ``tables/robust_curve.csv`` and the figure ``robust_curve``, if the run has searched."""
    curves = tabulate_curves(run, attacks)
    if not len(curves):
        return
    write_csv(curves, run.directory.path / "tables" / "robust_curve.csv")
    save_drawings([Drawing("robust_curve", f"{describe(run)}. {_NOTE}", partial(draw_curves, curves))], run, pdf=pdf)


def draw_curves(curves: pd.DataFrame) -> Figure:
    """Draw a panel per norm: a line for every model and λ with its 95 % interval, and the attacks at a fixed ε."""
    norms = list(dict.fromkeys(curves["norm"]))
    figure, axes = panel_grid(len(norms), x="ε", y="robust (%)", share_x=False, height=2.4)
    for axis, norm in zip(axes, norms):
        scale = scale_budgets(axis, norm)
        axis.set_title(NORMS[norm])
        of_norm = curves[curves["norm"] == norm]
        for _, group in of_norm.groupby(["model", "lam", "policy"], sort=False, dropna=False):
            eps = scale * group["eps"]
            (line,) = axis.plot(eps, 100 * group["robust"], label=as_label(name_setting(group.iloc[0])))
            axis.fill_between(eps, 100 * group["ci_low"], 100 * group["ci_high"], color=line.get_color(), alpha=0.1)
            axis.plot(eps, 100 * group["fixed"], "o", color=line.get_color())
    add_legend(figure, axes[0], most=3)
    return figure
