"""The tables of attacks: every row with its interval and trust mark, and the paper's layout by norm."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from data_prep.files import write_text
from robustness.analysis.attacks import Attacks
from robustness.analysis.frames import Run
from robustness.analysis.latex import to_latex
from robustness.analysis.tables import SYMBOLS, describe, name_budget, name_setting, split_heads, to_markdown, write_csv
from robustness.attack import NORMS
from robustness.verdicts import OK

_MARKS = "?: SUSPECT, ✗: INVALID, not to be believed; tables/attacks.csv says why."


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
        heads = split_heads(list(wide.columns), [column.rpartition(" ")[0] for column in wide.columns[1:]])
        write_text(path.with_suffix(".tex"), to_latex(wide, caption, path.name, heads=heads))


def describe_attacks(run: Run) -> str:
    """Describe the parameters of the attacks, each kind once."""
    return "; ".join(dict.fromkeys(attack["about"] for attack in run.record["suite"]["attacks"]))


def explain_columns(attacks: Attacks) -> str:
    """Explain the columns of the tables, including the threat models if a model has a λ."""
    if not attacks.has_lam:
        return f"Columns: attack, ε; robust: the worst case over all attacks within ε. {_MARKS}"
    return (
        "Columns: attack, ε, threat model (whitebox: crafted at that λ; transfer: at the training λ; adaptive: the "
        f"worst case over every λ and the policy); robust: the worst case over all attacks within ε. {_MARKS}"
    )


def list_reasons(attacks: Attacks, norm: str) -> dict[str, dict[str, list[str]]]:
    """List every reason for a mark other than OK by model, λ and the columns of :func:`widen_attacks` that it marks."""
    rows = attacks.rows[attacks.rows["norm"] == norm]
    worst = attacks.worst[attacks.worst["norm"] == norm].assign(perturbation="robust", threat="")
    places: dict[str, dict[str, list[str]]] = {}
    for row in records(pd.concat([rows, worst])):
        if row["trust"] == OK:
            continue
        column = " ".join(_head(attacks, str(row["perturbation"]), norm, row["eps"], str(row["threat"])))
        for reason in str(row["trust_reason"]).split("; "):
            places.setdefault(reason, {}).setdefault(name_setting(row), []).append(column)
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
    columns: dict[str, pd.Series] = {"natural": _texts(natural, whole)}
    for (attack, eps, threat), group in rows.groupby(["perturbation", "eps", "threat"], sort=False):
        columns[" ".join(_head(attacks, str(attack), norm, eps, str(threat)))] = _texts(group, whole)
    for eps, group in attacks.worst[attacks.worst["norm"] == norm].groupby("eps"):
        columns[f"robust {name_budget(norm, eps)}"] = _texts(group, whole)
    wide = pd.DataFrame(columns).reindex([*columns["natural"].index]).fillna("–")
    wide.index.name = "accuracy (%)"
    return wide


def _head(attacks: Attacks, attack: str, norm: str, eps: object, threat: str) -> list[str]:
    """Write the head of a column: attack and ε, and the threat model if a model has a λ."""
    return [attack, name_budget(norm, eps), *([threat] if threat and attacks.has_lam else [])]


def _texts(rows: pd.DataFrame, intervals: bool) -> pd.Series:
    """Write accuracy, interval and mark of every row as one text, by model and λ."""
    texts = {}
    for row in records(rows):
        accuracy, low, high = (100 * float(str(row[name])) for name in ("accuracy", "ci_low", "ci_high"))
        text = f"{accuracy:.1f} [{low:.1f}, {high:.1f}]" if intervals else f"{accuracy:.1f}"
        trust = row["trust"]
        texts[name_setting(row)] = text + (SYMBOLS[trust] if isinstance(trust, str) else "")
    return pd.Series(texts, dtype=object)


def records(frame: pd.DataFrame) -> list[dict[str, object]]:
    """Return the rows of a frame as dictionaries."""
    return [{str(key): value for key, value in row.items()} for row in frame.to_dict("records")]
