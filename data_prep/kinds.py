"""The kinds of corruptions, including corruptions that exist only in published archives."""

from __future__ import annotations

from data_prep.corruptions.registry import CORRUPTIONS

GROUPS_3DCC = {
    "near_focus": "blur",
    "far_focus": "blur",
    "xy_motion_blur": "blur",
    "z_motion_blur": "blur",
    "flash": "weather",
    "fog_3d": "weather",
    "bit_error": "digital",
    "color_quant": "digital",
    "h265_abr": "digital",
    "h265_crf": "digital",
    "iso_noise": "noise",
    "low_light": "noise",
}
"""The corruptions of ImageNet-3DCC, under the nearest kinds of ImageNet-C."""


def group_of(name: str) -> str:
    """Return the kind of a corruption: noise, blur, weather, digital, or ``"other"`` for an unknown name."""
    if name in CORRUPTIONS:
        return CORRUPTIONS[name].group
    return GROUPS_3DCC.get(name, "other")


def is_extra(name: str) -> bool:
    """Tell whether a corruption is one of the four that are reserved for choosing λ."""
    return name in CORRUPTIONS and CORRUPTIONS[name].extra
