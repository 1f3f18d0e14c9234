"""The zoo under attack: ``PYTHONPATH=tests python -m redteam.table --suite pgd`` prints what is said of every member.

Truth is the bound of ``bounds.json``. A model that is marked OK more than 5 points above it has passed; an honest one
that is marked otherwise, though its number is right within 5 points, is accused. Both end the command with exit code 1.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import attacked

from data_prep import ImageSet
from data_prep.shapes import make_shapes
from robustness.analysis.attacks import Attacks
from robustness.attack import Attack
from robustness.measure.loaders.loaded import Wanted
from robustness.measure.subjects import load_subjects
from robustness.suite import Suite
from robustness.verdicts import OK

from .bounds import EPS, N, read_bounds
from .networks import CLASSES
from .zoo import ZOO

TOLERANCE = 0.05
ATTACKS = {
    "pgd": Attack(name="pgd", norm="linf", eps=EPS, steps=20),
    "autoattack": Attack(name="autoattack", norm="linf", eps=EPS, queries=1000),
}
"""As the suites of these names have them; Square has fewer queries, for the time's sake."""


@dataclass(frozen=True)
class Line:
    """Verdict of a run on one member next to the truth."""

    name: str
    kind: str
    truth: float
    accuracy: float
    mark: str
    reason: str
    seconds: float
    probe_share: float

    @property
    def is_wrong(self) -> bool:
        """It passes, or is accused."""
        holds = self.accuracy <= self.truth + TOLERANCE
        return (self.kind == "honest" and holds and self.mark != OK) or (self.mark == OK and not holds)

    def __str__(self) -> str:
        flag = "✗" if self.is_wrong else " "
        return (
            f"{flag} {self.kind:13} {self.name:16} {self.truth:6.1%} {self.accuracy:6.1%}  {self.mark:8} "
            f"{self.seconds:6.1f} s {self.probe_share:5.0%}  {self.reason}"
        )


@cache
def _draw(n: int) -> ImageSet:
    return make_shapes("test").subset(n)


def measure(names: Sequence[str], attack: Attack, *, n: int = N, **options: object) -> Iterator[Line]:
    """Attack members through the harness, as any models of a user's are attacked, in one run.

    ``options`` are further fields of the suite.
    """
    given = tuple(f"redteam.zoo:{name}" for name in names)
    truths = read_bounds()
    with tempfile.TemporaryDirectory() as folder:
        suite = Suite(name="zoo", data="shapes", models=given, corruptions=(), attacks=(attack,), **options)
        subjects = load_subjects(given, Wanted(num_classes=CLASSES), device=attacked.CPU)
        measurement, run = attacked.measure(suite, subjects, _draw(n), Path(folder), batch_size=64)
        attacks = Attacks.of(run)
        assert attacks is not None
        rows = {row["model"]: row for row in attacks.rows.to_dict("records")}
        keys = run.cells[run.cells["norm"].notna()].set_index("model")["key"]
        for name, model in zip(names, given, strict=True):
            truth, kind = truths.get(name, {}).get("robust", 1.0), ZOO[name].kind
            if model not in rows:
                yield Line(name, kind, truth, 0.0, "failed", str(measurement.failures), 0.0, 0.0)
                continue
            outcome, row = run.outcome(keys[model]), rows[model]
            share = float(outcome["probe_passes"].iloc[0]) / float(outcome["attack_passes"].iloc[0])
            values = (row[column] for column in ("accuracy", "trust", "trust_reason", "seconds"))
            yield Line(name, kind, truth, *values, share)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; 1 if a model passes or an honest one is accused."""
    parser = argparse.ArgumentParser(prog="python -m redteam.table", description=__doc__)
    parser.add_argument("names", nargs="*", help="members; default: all")
    parser.add_argument("--suite", choices=list(ATTACKS), default="pgd")
    parser.add_argument("--n", type=int, default=N, help="images")
    given = parser.parse_args(arguments)
    print(f"  {'kind':13} {'model':16} {'truth':>6} {'says':>6}  {'mark':8} {'time':>8} {'probes':>5}  reason")
    lines = []
    for line in measure(given.names or list(ZOO), ATTACKS[given.suite], n=given.n):
        lines.append(line)
        print(line, flush=True)
    passed = [line.name for line in lines if line.is_wrong and line.mark == OK]
    accused = [line.name for line in lines if line.is_wrong and line.mark != OK]
    print(f"{len(lines)} models: {len(passed)} pass {passed}, {len(accused)} honest ones are accused {accused}")
    return int(bool(passed or accused))


if __name__ == "__main__":
    sys.exit(main())
