"""LaTeX tables: booktabs, escaped, split over pages where they are long."""

from __future__ import annotations

import itertools
import re
import unicodedata

import pandas as pd

from robustness.analysis.texts import Head

_ESCAPES = {
    **{character: f"\\{character}" for character in "$&#_%{}"},
    "\\": r"\textbackslash{}",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": "$<$",
    ">": "$>$",
    "|": "$|$",
    '"': "''",
    "λ": r"$\lambda$",
    "ε": r"$\varepsilon$",
    "∞": r"$\infty$",
    "‖": r"$\|$",
    "²": "$^2$",
    "≥": r"$\geq$",
    "≤": r"$\leq$",
    "±": r"$\pm$",
    "·": r"$\cdot$",
    "×": r"$\times$",
    "✗": r"$\times$",
    "−": "$-$",
    "–": "--",
    "—": "---",
    "…": r"\ldots{}",
    "‘": "`",
    "’": "'",
    "“": "``",
    "”": "''",
    "\N{NO-BREAK SPACE}": "~",
    "\N{NARROW NO-BREAK SPACE}": r"\,",
}
_LONG = 40
"""Rows that fit a page."""
_WIDE = 72
"""Characters that fit a line."""


def escape(text: object) -> str:
    """Escape text for LaTeX, in ASCII; a letter without an entry loses its accents, or becomes a question mark."""
    return "".join(_ESCAPES.get(character) or _to_ascii(character) for character in str(text))


def _to_ascii(character: str) -> str:
    if character.isascii():
        return character if character.isprintable() else " "
    plain = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode()
    return "".join(_ESCAPES.get(part, part) for part in plain) or "?"


def to_latex(
    texts: pd.DataFrame,
    caption: str,
    name: str,
    *,
    bold: pd.DataFrame | None = None,
) -> str:
    """Write a booktabs table: a ``longtable`` if it exceeds a page, shrunk to the line if it is wider.

    Args:
        texts: the cells as text; the name of the index heads the first column. A column is called by its title, or by
            a pair of group and title; columns of one group stand below a common head.
        caption: caption of the table.
        name: name of the file, from which ``\\label`` is made.
        bold: the cells to set in bold; None for none.
    """
    heads: list[Head] = [("", head) if isinstance(head, str) else head for head in texts.columns]
    titles = [[escape(texts.index.name), *(escape(title) for _, title in heads)]]
    body = []
    for row, (index, values) in enumerate(zip(texts.index, texts.to_numpy())):
        cells = [escape(value) for value in values]
        if bold is not None:
            cells = [rf"\textbf{{{cell}}}" if bold.iat[row, i] else cell for i, cell in enumerate(cells)]
        body.append(_line([escape(index), *cells]))
    head = [*_head_groups([group for group, _ in heads]), *map(_line, titles)]
    columns = f"l{'r' * len(heads)}"
    label = rf"\label{{tab:{re.sub('[^a-z0-9]+', '-', name.lower()).strip('-')}}}"
    caption = rf"\caption{{{escape(caption)}}}{label}"
    if len(body) > _LONG:
        head = [r"\toprule", *head, r"\midrule"]
        lines = [rf"\begin{{longtable}}{{{columns}}}", rf"{caption}\\", *head, r"\endfirsthead", *head, r"\endhead"]
        lines += [r"\bottomrule", r"\endfoot", *body, r"\end{longtable}"]
        return _join(["booktabs", "longtable"], lines)
    tabular = [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", *head, r"\midrule", *body, r"\bottomrule"]
    tabular += [r"\end{tabular}"]
    is_wide = _count_characters(texts, heads) > _WIDE
    if is_wide:
        tabular = [r"\resizebox{\textwidth}{!}{%", *tabular[:-1], r"\end{tabular}}"]
    lines = [r"\begin{table}", r"\centering", *tabular, caption, r"\end{table}"]
    return _join(["booktabs", *(["graphicx"] if is_wide else [])], lines)


def _count_characters(texts: pd.DataFrame, heads: list[Head]) -> int:
    """Count the characters of the widest cell of every column, and two between columns."""
    columns = [[str(texts.index.name), *map(str, texts.index)]]
    columns += [[title, *map(str, texts.iloc[:, place])] for place, (_, title) in enumerate(heads)]
    return sum(max(map(len, column)) + 2 for column in columns) - 2


def _line(cells: list[str]) -> str:
    return " & ".join(cells) + r" \\"


def _head_groups(groups: list[str]) -> list[str]:
    """Write the line above the titles: every group over its columns, with a rule below it."""
    if not any(groups):
        return []
    cells, rules, start = [""], [], 2
    for group, columns in itertools.groupby(groups):
        end = start + len(list(columns))
        cells.append(rf"\multicolumn{{{end - start}}}{{c}}{{{escape(group)}}}")
        if group:
            rules.append(rf"\cmidrule(lr){{{start}-{end - 1}}}")
        start = end
    return [_line(cells), "".join(rules)]


def _join(packages: list[str], lines: list[str]) -> str:
    return "\n".join([f"% packages: {', '.join(packages)}", *lines]) + "\n"
