"""Find the numbers in what the steps of the GPU day print; a step that was stopped has printed some of them."""

from __future__ import annotations

import json
import re

Found = dict[str, float | str]
"""Numbers, or words, by what they are."""


def read_nothing(_: str) -> Found:
    """For a step that prints no number."""
    return {}


def read_machine(text: str) -> Found:
    """One flat JSON object on a line of its own."""
    objects = [line for line in text.splitlines() if line.startswith("{")]
    return {name: str(value) for name, value in json.loads(objects[-1]).items()} if objects else {}


def read_counts(text: str) -> Found:
    """pytest's last line: tests that passed, failed, were skipped."""
    lines = [line for line in text.splitlines() if re.search(r"\b\d+ \w+.* in [\d.]+s", line)]
    pairs = re.findall(r"(\d+) (passed|failed|skipped|errors?)\b", lines[-1]) if lines else []
    return {kind: float(count) for count, kind in pairs}


def read_passed(text: str) -> Found:
    """The same, and nothing where all were skipped: then no GPU was seen."""
    found = read_counts(text)
    return found if found.keys() - {"skipped"} else {}


_SECTION = re.compile(r"(\S.*), ratio to (.+):")
_RATIO = r"([\d.]+) \([\d.]+ to [\d.]+\)"
_ROW = re.compile(rf"  (\S.*?)\s{{2,}}([\d.]+) images/s  {_RATIO}(?:  against (.+): {_RATIO})?")
_MEMORY = re.compile(r"  (\S.*): \d+ MB, ([\d.]+) of ResNet-18")


def read_ratios(text: str) -> Found:
    """``core.py`` and ``train_speed.py``: images per second of every baseline, all other forms as ratios to it."""
    found: Found = {}
    section = baseline = ""
    for line in text.splitlines():
        if head := _SECTION.fullmatch(line):
            section, baseline = head.groups()
        elif row := _ROW.fullmatch(line):
            name, rate, ratio, other, against = row.groups()
            if name == baseline:
                found[f"{section}: {name}, images/s"] = float(rate)
            else:
                found[f"{section}: {name} to {baseline}"] = float(ratio)
            if other:
                found[f"{section}: {name} to {other}"] = float(against)
        elif row := _MEMORY.fullmatch(line):
            found[f"{section}: memory of {row[1]} to ResNet-18"] = float(row[2])
    return found


def read_table(text: str) -> Found:
    """``gpu_day_checks.py``: a table whose first column is the row's name and whose head names the others."""
    found: Found = {}
    head: list[str] = []
    for line in text.splitlines():
        if not (line.startswith("|") and line.endswith("|")):
            continue
        cells = [cell.strip() for cell in line[1:-1].split("|")]
        if not head:
            head = cells
        elif set("".join(cells)) - set(":-"):
            found |= {f"{cells[0]}: {name}": float(cell) for name, cell in zip(head[1:], cells[1:], strict=True)}
    return found


def read_agreement(text: str) -> Found:
    """``agreement.py``: shares in percent."""
    names = ("same predictions", "accuracy fast", "accuracy exact")
    found: Found = {}
    for line in text.splitlines():
        if row := re.fullmatch(r"\| (\S+) \| (\S*) \| ([\d.]+)% \| ([\d.]+)% \| ([\d.]+)% \|", line):
            model = f"{row[1]} λ={row[2]}" if row[2] else row[1]
            found |= {f"{model}: {name} (%)": float(row[3 + at]) for at, name in enumerate(names)}
    return found


def read_attacks(text: str) -> Found:
    """``attacks.py``: the first repetition."""
    row = re.search(
        r"ours +([\d.]+) s, pyautoattack +([\d.]+) s, ratio ([\d.]+); "
        r"robust ([\d.]+)% and ([\d.]+)%, alike on (\d+) of (\d+) images",
        text,
    )
    names = ("seconds", "seconds of pyautoattack", "ratio", "robust (%)", "robust by pyautoattack (%)", "alike", "of")
    return dict(zip(names, map(float, row.groups()))) if row else {}


def read_rates(text: str) -> Found:
    """``scale.py rate``."""
    rows = re.findall(r"^(.+): ([\d,]+) images/s at (\d+) × \d+, batches of (\d+)$", text, re.MULTILINE)
    return {f"{work}, batches of {batch}, images/s": float(rate.replace(",", "")) for work, rate, _, batch in rows}


def read_overhead(text: str) -> Found:
    """``eval_overhead.py``: seconds relative to the bare loop."""
    rows = re.findall(r"^(harness.*): ratio ([\d.]+) \(", text, re.MULTILINE)
    return {f"{way} to the bare loop": float(ratio) for way, ratio in rows}
