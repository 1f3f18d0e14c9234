"""The tables of attacks: every row with its interval and trust mark, and the paper's layout by norm."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from data_prep.files import write_text
from robustness.analysis.attacks import Attacks, Row
from robustness.analysis.columns import ACCURACY, to_records
from robustness.analysis.frames import Run
from robustness.analysis.latex import to_latex
from robustness.analysis.tables import describe
from robustness.analysis.texts import (
    MARK_NOTE,
    SYMBOLS,
    Head,
    format_number,
    format_value,
    join_head,
    name_budget,
    name_setting,
    to_markdown,
    write_csv,
)
from robustness.analysis.worst_case import Survivors
from robustness.attack import NORMS, format_eps
from robustness.verdicts import OK
from robustness.which_lam import WhichLam

_MARKS = f"{MARK_NOTE}; tables/attacks.csv says why."
Texts = dict[tuple[str, WhichLam], str]
"""Texts of a column by model and λ."""


def write_attack_tables(run: Run, attacks: Attacks) -> None:
    """Write ``tables/attacks.csv``, ``worst_case.csv``, ``transfer.csv``, and ``attacks_<norm>.md/.tex``."""
    tables = run.directory.path / "tables"
    write_csv(attacks.rows, tables / "attacks.csv")
    write_csv(attacks.worst, tables / "worst_case.csv")
    write_csv(attacks.transfers, tables / "transfer.csv")
    for norm in attacks.rows["norm"].unique():
        wide = widen_attacks(run, attacks, str(norm), whole=True)
        title = f"Accuracy under {NORMS[str(norm)]} attacks, 95 % intervals"
        caption = f"{describe(run)}. {title}. {describe_attacks(run)}. {explain_columns(attacks)}"
        path: Path = tables / f"attacks_{norm}"
        reasons = [
            f"- {reason}: " + "; ".join(f"{setting} ({', '.join(columns)})" for setting, columns in places.items())
            for reason, places in list_reasons(attacks, str(norm)).items()
        ]
        write_text(path.with_suffix(".md"), "\n".join([to_markdown(wide), "", caption, *reasons, ""]))
        write_text(path.with_suffix(".tex"), to_latex(wide, caption, path.name))


def describe_attacks(run: Run) -> str:
    """Describe the parameters of the attacks, each kind once."""
    return "; ".join(dict.fromkeys(attack["about"] for attack in run.record["suite"]["attacks"]))


def explain_columns(attacks: Attacks) -> str:
    """Explain the columns of the tables, including the threat models if a model has a λ."""
    if not attacks.has_lam:
        return f"Columns: attack, ε; robust: the worst case over all attacks within ε. {_MARKS}"
    return (
        "Columns: attack, ε, threat model (whitebox: crafted at that λ; transfer: at the training λ; adaptive: the "
        f"worst case over every λ and policy); robust: the worst case over all attacks within ε. {_MARKS}"
    )


def list_reasons(attacks: Attacks, norm: str) -> dict[str, dict[str, list[str]]]:
    """List every reason for a mark other than OK by model, λ and the columns of :func:`widen_attacks` that it marks."""
    places: dict[str, dict[str, list[str]]] = {}
    results: list[tuple[Row | Survivors, Head]] = [
        *((row, _head(attacks, row.duel.attack, norm, row.duel.eps, row.threat)) for row in attacks.listed),
        *((robust, _head(attacks, "robust", norm, robust.eps)) for robust in attacks.survivors),
    ]
    for result, head in results:
        if result.norm == norm and result.verdict.mark != OK:
            setting = name_setting({"model": result.model, **result.shown.to_row()})
            for reason in result.verdict.reasons:
                places.setdefault(reason, {}).setdefault(setting, []).append(join_head(head))
    return places


def widen_attacks(run: Run, attacks: Attacks, norm: str, *, whole: bool) -> pd.DataFrame:
    """Lay out a row per model and λ or policy: natural accuracy, then each attack, ε and threat model, in percent.

    Args:
        run: source of the natural accuracies.
        attacks: the rows to lay out.
        norm: ``linf`` or ``l2``.
        whole: add the 95 % intervals and the threat model ``transfer``, which are too wide for a terminal.
    """
    rows = attacks.rows[(attacks.rows["norm"] == norm) & (whole | (attacks.rows["threat"] != "transfer"))]
    natural = run.cells[(run.cells["perturbation"] == "clean") & run.cells["model"].isin(rows["model"].unique())]
    columns: dict[Head, Texts] = {("", "natural"): _write_column(natural, whole)}
    for (attack, eps, threat), group in rows.groupby(["perturbation", "eps", "threat"], sort=False):
        columns[_head(attacks, str(attack), norm, float(str(eps)), str(threat))] = _write_column(group, whole)
    for eps, group in attacks.worst[attacks.worst["norm"] == norm].groupby("eps"):
        columns[_head(attacks, "robust", norm, float(str(eps)))] = _write_column(group, whole)
    settings = list(columns["", "natural"])
    names = [name_setting({"model": model, **which.to_row()}) for model, which in settings]
    texts = {head: [column.get(setting, "–") for setting in settings] for head, column in columns.items()}
    return pd.DataFrame(texts, index=pd.Index(names, name="accuracy (%)"))


def _head(attacks: Attacks, attack: str, norm: str, eps: float, threat: str = "") -> Head:
    """Write the head of a column: attack and budget, and the threat model if a model has a λ."""
    if threat and attacks.has_lam:
        return f"{attack} {name_budget(norm, eps)}", threat
    return f"{attack} {NORMS[norm]}", format_eps(eps, norm)


def _write_column(rows: pd.DataFrame, intervals: bool) -> Texts:
    """Write accuracy, interval and mark of every row as one text."""
    texts = {}
    for row in to_records(rows):
        value = [row[name] for name in ACCURACY]
        text = format_value(*value) if intervals else format_number(100 * value[0])
        texts[row["model"], WhichLam.from_row(row)] = text + SYMBOLS.get(row["trust"], "")
    return texts
