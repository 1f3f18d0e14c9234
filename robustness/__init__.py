"""The question: how robust is an image classifier, perturbed how, at which λ?

``robustness.evaluate`` measures, ``robustness.open_run`` reads what was measured, ``robustness.Run`` shows it. Nothing
else is imported before one of them is used: torch and pandas take seconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from robustness.api import Run, evaluate, open_run

__all__ = ["Run", "evaluate", "open_run"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from robustness import api

        return getattr(api, name)
    raise AttributeError(f"module 'robustness' has no attribute {name!r}")
