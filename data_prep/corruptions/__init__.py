"""Common corruptions of image classification, 19 from -C and 15 from C-bar, batched, on CPU and GPU alike."""

from typing import TYPE_CHECKING

from data_prep.corruptions.registry import (
    N_SEVERITIES,
    SEQUENCES,
    check_severity,
    corruption_names,
    expand_names,
    level_folder,
    parameters,
    profiles,
    severities,
)
from data_prep.lazy import attach

if TYPE_CHECKING:
    from data_prep.corruptions.engine import corrupt

__all__ = [
    "N_SEVERITIES",
    "SEQUENCES",
    "check_severity",
    "corrupt",
    "corruption_names",
    "expand_names",
    "level_folder",
    "parameters",
    "profiles",
    "severities",
]

__getattr__ = attach(__name__, {"corrupt": "data_prep.corruptions.engine"})
