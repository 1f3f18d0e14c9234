"""The corruptions with their groups, severities and parameters."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from typing import TYPE_CHECKING

from data_prep.corruptions.parameters import PROFILES, STORED_QUALITY, Parameters
from data_prep.errors import InputError

if TYPE_CHECKING:
    from data_prep.corruptions.levels import Pixels

CBAR = "cbar"
"""Group of the corruptions of CIFAR-10-C-bar and ImageNet-C-bar, ten each."""

N_SEVERITIES = 5
"""Number of severities of every corruption in the published test sets."""


SEQUENCES = (
    "gaussian_noise",
    "shot_noise",
    "motion_blur",
    "zoom_blur",
    "snow",
    "brightness",
    "translate",
    "rotate",
    "tilt",
    "scale",
)
"""The perturbation sequences of -P, in the order of the paper."""


def check_severity(severity: int) -> None:
    """Raise InputError unless the published test sets have this severity."""
    if severity not in range(1, N_SEVERITIES + 1):
        raise InputError(f"expected a severity from 1 to {N_SEVERITIES}, got {severity}; choose one of them")


@dataclass(frozen=True)
class Corruption:
    """A corruption: its name, its group and the module with the function that applies it.

    name: its name in files and on the command line, and the name of the function in its module.
    group: its kind. module: module of this package, imported on first use, since importing torch takes seconds.
    random: whether the function draws random numbers. extra: whether it is one of the 4 reserved for choosing λ.
    revision: version of the arithmetic, raised by every change that can alter an image, so that stored results expire.
    """

    name: str
    group: str
    module: str
    random: bool = True
    extra: bool = False
    revision: int = 1

    @cached_property
    def function(self) -> Callable[..., Pixels]:
        """The function from (pixels, parameters), or (pixels, parameters, streams) if random, to pixels."""
        function: Callable[..., Pixels] = getattr(import_module(f"data_prep.corruptions.{self.module}"), self.name)
        return function


CORRUPTIONS = {
    corruption.name: corruption
    for corruption in (
        Corruption("gaussian_noise", "noise", "noise"),
        Corruption("shot_noise", "noise", "noise"),
        Corruption("impulse_noise", "noise", "noise"),
        Corruption("defocus_blur", "blur", "blur", random=False),
        Corruption("glass_blur", "blur", "blur"),
        Corruption("motion_blur", "blur", "blur"),
        Corruption("zoom_blur", "blur", "blur", random=False),
        Corruption("snow", "weather", "weather", revision=2),
        Corruption("frost", "weather", "weather"),
        Corruption("fog", "weather", "weather"),
        Corruption("brightness", "weather", "digital", random=False),
        Corruption("contrast", "digital", "digital", random=False),
        Corruption("elastic_transform", "digital", "elastic"),
        Corruption("pixelate", "digital", "digital", random=False),
        Corruption("jpeg_compression", "digital", "digital", random=False),
        Corruption("speckle_noise", "noise", "noise", extra=True),
        Corruption("gaussian_blur", "blur", "blur", random=False, extra=True),
        Corruption("spatter", "weather", "spatter", extra=True),
        Corruption("saturate", "digital", "digital", random=False, extra=True),
        Corruption("blue_noise_sample", CBAR, "waves"),
        Corruption("checkerboard_cutout", CBAR, "shapes_over"),
        Corruption("inverse_sparkles", CBAR, "shapes_over"),
        Corruption("sparkles", CBAR, "shapes_over"),
        Corruption("brownish_noise", CBAR, "waves"),
        Corruption("pinch_and_twirl", CBAR, "warps"),
        Corruption("ripple", CBAR, "warps"),
        Corruption("circular_motion_blur", CBAR, "warps", random=False),
        Corruption("lines", CBAR, "shapes_over"),
        Corruption("transverse_chromatic_abberation", CBAR, "warps"),
        Corruption("caustic_refraction", CBAR, "warps"),
        Corruption("perlin_noise", CBAR, "waves"),
        Corruption("plasma_noise", CBAR, "waves"),
        Corruption("cocentric_sine_waves", CBAR, "waves"),
        Corruption("single_frequency_greyscale", CBAR, "waves"),
    )
}
"""The corruptions of -C in the order of the official tables, then the corruptions of C-bar."""

GROUPS_3DCC = {
    "near_focus": "blur",
    "far_focus": "blur",
    "bit_error": "digital",
    "color_quant": "digital",
    "flash": "weather",
    "fog_3d": "weather",
    "h265_abr": "digital",
    "h265_crf": "digital",
    "iso_noise": "noise",
    "low_light": "noise",
    "xy_motion_blur": "blur",
    "z_motion_blur": "blur",
}
"""The corruptions of ImageNet-3DCC under the nearest kinds of ImageNet-C. They are read and never generated: most need
the depth of the scene or a video coder, and no generator of the others has been shown to be faithful.

Source: Kar, Yeo, Atanov & Zamir, "3D Common Corruptions and Data Augmentation", CVPR 2022.
"""

GROUPS = ("all", "standard", "extra", "noise", "blur", "weather", "digital", CBAR)


def corruption_names(group: str = "standard", profile: str | None = None) -> tuple[str, ...]:
    """List the names of a group in the order of the official tables.

    Args:
        group: "standard" (the 15 on which robustness is reported), "extra" (the 4 reserved for choosing λ), "all" (the
            19), the standard ones of one kind: "noise", "blur", "weather", "digital"; or "cbar": the 15 of both sets of
            C-bar.
        profile: restrict "cbar" to the 10 of this profile.

    Raises:
        InputError: any other group.
    """
    _expect(group, GROUPS, "corruption group")
    if group == CBAR:
        chosen = (name for name, it in CORRUPTIONS.items() if it.group == CBAR)
        return tuple(name for name in chosen if profile is None or severities(name, profile))
    known = {name: it for name, it in CORRUPTIONS.items() if it.group != CBAR}
    if group in ("all", "extra"):
        return tuple(name for name, it in known.items() if it.extra or group == "all")
    return tuple(name for name, it in known.items() if not it.extra and group in ("standard", it.group))


def extra_of_kind(corruption: str) -> str | None:
    """Return the extra corruption of the same kind (noise, blur, weather, digital); None for ``clean`` and C-bar."""
    if corruption not in CORRUPTIONS:
        return None
    group = CORRUPTIONS[corruption].group
    return next((name for name, it in CORRUPTIONS.items() if it.extra and it.group == group), None)


def group_of(name: str) -> str:
    """Return the kind of a corruption: ``"extra"`` if it is reserved for choosing λ, ``"other"`` if it is unknown."""
    if name not in CORRUPTIONS:
        return GROUPS_3DCC.get(name, "other")
    return "extra" if CORRUPTIONS[name].extra else CORRUPTIONS[name].group


def expand_names(names: Sequence[str], profile: str | None = None) -> tuple[str, ...]:
    """Replace every group in ``names`` by its corruptions, in the given order and without repetitions.

    names: groups and corruptions; a leading minus excludes one: ``("standard", "-frost")``.
    profile: as in ``corruption_names``.
    Raises: InputError for a name that is neither a group nor a corruption, and if nothing is left.
    """
    chosen: list[str] = []
    excluded: list[str] = []
    for name in names:
        plain = name.removeprefix("-")
        _expect(plain, (*GROUPS, *CORRUPTIONS), "corruption")
        members = corruption_names(plain, profile) if plain in GROUPS else [plain]
        (chosen if plain == name else excluded).extend(members)
    kept = tuple(dict.fromkeys(name for name in chosen if name not in excluded))
    if excluded and not kept:
        raise InputError(f"expected corruptions to keep, as in standard,-frost, got {','.join(names)}; name some")
    return kept


def profiles() -> tuple[str, ...]:
    """List the names of the parameter tables: "cifar", "imagenet" and "sweep"."""
    return tuple(PROFILES)


def severities(name: str, profile: str = "cifar") -> tuple[int, ...]:
    """List the severities at which ``profile`` defines the corruption, from 1 up; empty if it lacks the corruption.

    Raises: InputError for an unknown corruption or profile.
    """
    find(name)
    _expect(profile, PROFILES, "profile")
    return tuple(range(1, len(PROFILES[profile].get(name, ())) + 1))


def parameters(name: str, severity: int, profile: str = "cifar") -> dict[str, object]:
    """Return everything besides seed, index and pixels that determines a corrupted image, ready for JSON.

    Raises: InputError for an unknown corruption or profile and for a severity that the profile does not define.
    """
    entry = look_up(name, severity, profile)
    values = list(entry) if isinstance(entry, tuple) else [entry]
    stored = {"stored_quality": STORED_QUALITY[profile]} if profile in STORED_QUALITY else {}
    described = {"corruption": name, "severity": severity, "profile": profile, "parameters": values}
    return {**described, **stored, "revision": CORRUPTIONS[name].revision}


def level_folder(name: str, severity: int) -> str:
    """Name the folder of a severity in the official ImageNet-C and ImageNet-C-bar (the latter uses its own levels)."""
    levels = PROFILES["imagenet"].get(name, ()) if name in CORRUPTIONS and CORRUPTIONS[name].group == CBAR else ()
    return f"{levels[severity - 1]:.2f}" if levels else str(severity)


def find(name: str) -> Corruption:
    """Return the corruption with this name. Raises: InputError for an unknown name."""
    _expect(name, CORRUPTIONS, "corruption")
    return CORRUPTIONS[name]


def look_up(name: str, severity: int, profile: str) -> Parameters:
    """Look up the table entry. Raises: as ``parameters``."""
    available = severities(name, profile)
    if not available:
        known = ", ".join(PROFILES[profile])
        raise InputError(
            f"expected a corruption of the profile {profile!r} ({known}), got {name!r}; choose one of them, or another "
            "profile"
        )
    if severity not in available:
        raise InputError(
            f"expected a severity from 1 to {available[-1]} for {name} ({profile}), got {severity!r}; choose one of "
            "them"
        )
    return PROFILES[profile][name][int(severity) - 1]


def _expect(given: str, known: Iterable[str], what: str) -> None:
    known = tuple(known)
    if given not in known:
        close = difflib.get_close_matches(str(given), known, n=3)
        choices, hint = (
            ("", f"did you mean {' or '.join(close)}?") if close else (f" ({', '.join(known)})", "choose one")
        )
        raise InputError(f"expected a {what}{choices}, got {given!r}; {hint}")
