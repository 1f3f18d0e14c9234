"""The 19 common corruptions of image classification, batched, on CPU and GPU alike."""

from data_prep.corruptions.engine import corrupt
from data_prep.corruptions.registry import (
    N_SEVERITIES,
    check_severity,
    corruption_names,
    expand_names,
    parameters,
    profiles,
    severities,
)

__all__ = [
    "N_SEVERITIES",
    "check_severity",
    "corrupt",
    "corruption_names",
    "expand_names",
    "parameters",
    "profiles",
    "severities",
]
