"""The 19 common corruptions of image classification, batched, on CPU and GPU alike."""

from data_prep.corruptions.engine import corrupt
from data_prep.corruptions.registry import (
    N_SEVERITIES,
    corruption_names,
    expand_names,
    parameters,
    profiles,
    severities,
)

__all__ = ["N_SEVERITIES", "corrupt", "corruption_names", "expand_names", "parameters", "profiles", "severities"]
