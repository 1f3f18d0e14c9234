"""The tables of attacks: every row with its interval and trust mark, and the paper's layout by norm."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from data_prep.files import write_text
from robustness.analysis.attacks import Attacks
from robustness.analysis.frames import Run
from robustness.analysis.latex import to_latex
from robustness.analysis.tables import describe, split_heads, to_markdown, write_csv
from robustness.analysis.trust import INVALID, OK, SUSPECT
from robustness.attack import NORMS, format_eps

SYMBOLS = {OK: "", SUSPECT: " ?", INVALID: " ✗"}
ATTACK_NOTE = (
    "Columns: attack, ε, threat model (whitebox: crafted at that λ; adaptive: the worst case over every λ and the "
    "policy); robust: the worst case over everything tried within ε. ?: SUSPECT, ✗: INVALID, not to be believed; "
    "tables/attacks.csv says why."
)


def write_attack_tables(run: Run, attacks: Attacks) -> None:
    """Write ``tables/attacks.csv``, ``worst_case.csv``, ``transfer.csv``, and ``attacks_<norm>.md/.tex``."""
    tables = run.directory.path / "tables"
    write_csv(attacks.rows, tables / "attacks.csv")
    write_csv(attacks.worst, tables / "worst_case.csv")
    write_csv(attacks.transfers, tables / "transfer.csv")
    for norm in attacks.rows["norm"].unique():
        wide = widen_attacks(run, attacks, str(norm), intervals=True)
        title = f"Accuracy under {NORMS[str(norm)]} attacks, 95 % intervals"
        caption = f"{describe(run)}. {title}. {describe_attacks(run)}. {ATTACK_NOTE}"
        path: Path = tables / f"attacks_{norm}"
        write_text(path.with_suffix(".md"), f"{to_markdown(wide)}\n\n{caption}\n")
        heads = split_heads(list(wide.columns), [column.rpartition(" ")[0] for column in wide.columns[1:]])
        write_text(path.with_suffix(".tex"), to_latex(wide, caption, path.name, heads=heads))


def describe_attacks(run: Run) -> str:
    """The parameters of the attacks: each kind once."""
    return "; ".join(dict.fromkeys(attack["about"] for attack in run.record["suite"]["attacks"]))


def widen_attacks(run: Run, attacks: Attacks, norm: str, *, intervals: bool) -> pd.DataFrame:
    """One row per model and λ or policy; natural accuracy, then a column per attack, ε and threat model, in percent.

    Args:
        run: gives the natural accuracies.
        attacks: the rows to lay out.
        norm: ``linf`` or ``l2``.
        intervals: whether to write the 95 % intervals, too.
    """
    rows = attacks.rows[(attacks.rows["norm"] == norm) & (attacks.rows["threat"] != "transfer")]
    natural = run.cells[(run.cells["perturbation"] == "clean") & run.cells["model"].isin(rows["model"].unique())]
    columns: dict[str, pd.Series] = {"natural": _texts(natural, intervals)}
    for (attack, eps, threat), group in rows.groupby(["perturbation", "eps", "threat"], sort=False):
        columns[f"{attack} {format_eps(float(str(eps)), norm)} {threat}"] = _texts(group, intervals)
    for eps, group in attacks.worst[attacks.worst["norm"] == norm].groupby("eps"):
        columns[f"robust {format_eps(float(str(eps)), norm)}"] = _texts(group, intervals)
    wide = pd.DataFrame(columns).reindex([*columns["natural"].index]).fillna("–")
    wide.index.name = "accuracy (%)"
    return wide


def _texts(rows: pd.DataFrame, intervals: bool) -> pd.Series:
    """Accuracy, interval and mark of every row as one text, by the name of its model and λ."""
    texts = {}
    for row in records(rows):
        accuracy, low, high = (100 * float(str(row[name])) for name in ("accuracy", "ci_low", "ci_high"))
        text = f"{accuracy:.1f} [{low:.1f}, {high:.1f}]" if intervals else f"{accuracy:.1f}"
        trust = row["trust"]
        texts[name_setting(row)] = text + (SYMBOLS[trust] if isinstance(trust, str) else "")
    return pd.Series(texts, dtype=object)


def records(frame: pd.DataFrame) -> list[dict[str, object]]:
    """The rows of a frame as dictionaries."""
    return [{str(key): value for key, value in row.items()} for row in frame.to_dict("records")]


def name_setting(row: dict[str, object]) -> str:
    """``model``, ``model λ=0.1`` or ``model residual``."""
    if row["policy"]:
        return f"{row['model']} {row['policy']}"
    lam = row["lam"]
    return f"{row['model']} λ={lam:g}" if isinstance(lam, float) and lam == lam else str(row["model"])
