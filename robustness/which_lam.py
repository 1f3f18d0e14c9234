"""The λ that a model is measured at: one type, from the call of the network to the row of a table."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from robustness.grids import format_lam, round_lam
from robustness.policies import Law


@dataclass(frozen=True)
class WhichLam:
    """λ of a measurement: a number, a policy that chooses it for each image, or neither for a model without λ.

    Args:
        value: λ ≥ 0, rounded like the λs of a grid; None if a policy chooses it and for a model without λ.
        policy: name of the policy; empty for a fixed λ and for a model without λ.
        law: the law that the policy applies; None if read from a table, which has only the policy's name.
    """

    value: float | None = None
    policy: str = ""
    law: Law | None = None

    @classmethod
    def of(cls, given: LamGiven) -> WhichLam:
        """Convert a number, a law or None to a ``WhichLam``; return a ``WhichLam`` as it is."""
        if isinstance(given, WhichLam):
            return given
        if isinstance(given, Law):
            return cls(policy=given.name, law=given)
        return cls(None if given is None else round_lam(given))

    @classmethod
    def from_row(cls, row: Mapping[Any, Any], prefix: str = "") -> WhichLam:
        """Read the fields ``lam`` and ``policy``, with ``prefix`` before their names, from a row or a cell's record."""
        lam, policy = row[f"{prefix}lam"], row[f"{prefix}policy"]
        if isinstance(policy, str) and policy:
            return cls(policy=policy)
        return cls(None if lam is None or (isinstance(lam, float) and math.isnan(lam)) else float(lam))

    def to_row(self, prefix: str = "") -> dict[str, Any]:
        """Return the fields that :meth:`from_row` reads."""
        return {f"{prefix}lam": self.value, f"{prefix}policy": self.policy}

    def identity(self) -> Any:
        """Return its identity in the key of a cell, as JSON values."""
        return self.value if self.law is None else {"policy": self.policy, **vars(self.law)}

    @property
    def title(self) -> str:
        """Title for people: ``λ = 0.1`` or ``the residual λ``; empty for a model without λ."""
        return f"the {self.policy} λ" if self.policy else "" if self.value is None else f"λ = {format_lam(self.value)}"

    @property
    def entry(self) -> float | str:
        """Value in a table: λ, the name of the policy, or an empty text."""
        return self.policy if self.value is None else self.value


LamGiven = WhichLam | Law | float | None
"""Types that :meth:`WhichLam.of` accepts."""
