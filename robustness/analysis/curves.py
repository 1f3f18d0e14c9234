"""Robust accuracy at every ε, from the smallest perturbation of each image, next to attacks at a fixed ε."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from robustness.analysis.attack_tables import records
from robustness.analysis.attacks import Attacks
from robustness.analysis.frames import Run
from robustness.analysis.tables import describe, name_setting, write_csv
from robustness.attack import NORMS
from robustness.statistics import wilson_interval
from sdnet_core.style import figure_style, panel_grid, save_figure

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
    whitebox = attacks.rows[attacks.rows["threat"] == "whitebox"]
    for row, smallest in _list_searches(run):
        same = (whitebox["model"] == row["model"]) & (whitebox["norm"] == row["norm"])
        same &= whitebox["lam"].fillna(-1.0).eq(-1.0 if pd.isna(row["lam"]) else row["lam"])
        same &= whitebox["policy"].fillna("").eq(row["policy"]) & (whitebox["perturbation"] != row["perturbation"])
        fixed = whitebox[same & (whitebox["eps"] <= row["eps"])].groupby("eps")["accuracy"].min()
        for eps in sorted({*np.linspace(0, float(row["eps"]), _POINTS), *fixed.index}):
            robust = int((smallest > eps).sum())
            low, high = wilson_interval(robust, len(smallest))
            rows.append(
                {
                    **{name: row[name] for name in ("model", "lam", "policy")},
                    "attack": row["perturbation"],
                    "norm": row["norm"],
                    "eps": eps,
                    "robust": robust / len(smallest),
                    "ci_low": low,
                    "ci_high": high,
                    "n": len(smallest),
                    "fixed": fixed.get(eps, np.nan),
                }
            )
    return pd.DataFrame(rows)


def _list_searches(run: Run) -> Iterator[tuple[dict[str, Any], np.ndarray]]:
    """List the cells of the search, and the smallest ε of each image: 0 if it is wrong anyway, ∞ if none was found."""
    for row in records(run.cells[run.cells["threat"] == "whitebox"]):
        outcome = run.outcome(str(row["key"]))
        if outcome["stages"].iloc[0].split(",")[0] == _STAGE:
            smallest = np.where(outcome["broken_by"] == "", np.inf, outcome["distance"])
            yield row, np.where(outcome["attacked"], smallest, 0.0)


def write_curves(run: Run, attacks: Attacks) -> None:
    """Write ``tables/robust_curve.csv`` and the figure ``robust_curve``, if the run has searched."""
    curves = tabulate_curves(run, attacks)
    if not len(curves):
        return
    write_csv(curves, run.directory.path / "tables" / "robust_curve.csv")
    with figure_style():
        save_figure(draw_curves(curves), run.directory.path / "figures", "robust_curve", f"{describe(run)}. {_NOTE}")


def draw_curves(curves: pd.DataFrame) -> Figure:
    """Draw a panel per norm: a line for every model and λ with its 95 % interval, and the attacks at a fixed ε."""
    norms = list(dict.fromkeys(curves["norm"]))
    figure, axes = panel_grid(len(norms), x="ε", y="robust (%)", share_x=False, height=2.4)
    for axis, norm in zip(axes, norms):
        scale = 255.0 if norm == "linf" else 1.0
        axis.set_title(NORMS[norm])
        axis.set_xlabel("ε (1/255)" if norm == "linf" else "ε")
        of_norm = curves[curves["norm"] == norm]
        for _, group in of_norm.groupby(["model", "lam", "policy"], sort=False, dropna=False):
            (line,) = axis.plot(
                scale * group["eps"], 100 * group["robust"], label=name_setting(group.iloc[0].to_dict())
            )
            axis.fill_between(
                scale * group["eps"], 100 * group["ci_low"], 100 * group["ci_high"], color=line.get_color(), alpha=0.1
            )
            axis.plot(scale * group["eps"], 100 * group["fixed"], "o", color=line.get_color())
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=min(len(labels), 3))
    return figure
