"""Which kind a corruption is of, those included that only an official archive has."""

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
"""The corruptions of ImageNet-3DCC, by the kinds of ImageNet-C that they are nearest to."""


def group_of(name: str) -> str:
    """Tell the kind of a corruption: noise, blur, weather, digital, or ``"other"`` for one that is not known here."""
    if name in CORRUPTIONS:
        return CORRUPTIONS[name].group
    return GROUPS_3DCC.get(name, "other")


def is_extra(name: str) -> bool:
    """Tell whether a corruption is one of the four that are kept for choosing λ."""
    return name in CORRUPTIONS and CORRUPTIONS[name].extra
