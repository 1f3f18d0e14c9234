"""The kinds of attacks: which fields a suite may give, which identify the attack, and how tables describe it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

from data_prep.errors import check_choice, check_known

if TYPE_CHECKING:
    from robustness.attack import Attack

AUTOATTACK_VERSIONS = ("standard", "plus", "rand", "custom")
AUTOATTACK_PARTS = ("apgd-ce", "apgd-dlr", "apgd-t", "fab", "fab-t", "square")
LOSSES = ("ce", "margin", "dlr", "targeted")
SCALE_FREE_LIBRARY_ATTACKS = {
    *("FGSM", "FFGSM", "RFGSM", "BIM", "PGD", "PGDL2", "APGD", "APGDT", "UPGD", "TPGD"),
    *("MIFGSM", "NIFGSM", "DIFGSM", "TIFGSM", "PIFGSM", "PIFGSMPP"),
}
"""Attacks of torchattacks that use only the sign or direction of a gradient; their gradients are brought to one scale.
"""
REPAIRED_LIBRARY_ATTACKS = {*SCALE_FREE_LIBRARY_ATTACKS, "EOTPGD", "PGDRS", "PGDRSL2", "SINIFGSM", "VMIFGSM", "VNIFGSM"}
"""Attacks of torchattacks whose loss does not change when a constant is added to all logits, so that its gradient can
be repaired where float32 rounds 1 − p to 0."""
_LIBRARY_VERSION = 2
"""Version of the interface between models and torchattacks; raise it whenever what torchattacks gets changes."""
_APGD_STEPS, _USUAL_STEPS = 100, 10


class Kind:
    """The base class, which describes classes of torchattacks; the other kinds override it.

    keys: fields that a suite may give in addition to the fields of every attack.
    defaults: defaults of these fields that differ from the defaults of :class:`~robustness.attack.Attack`.
    package: package that computes the attack; empty for an attack of this project.
    version: version of an attack of this project; raise it whenever a step of the attack changes, so that older
        outcomes no longer count as done. 0 for attacks of libraries.
    transfers: false if the images just fool one network, so that they say nothing about another λ.
    moves_survivors: true if an image that withstands the attack is left where the search ended, not where it began.
    """

    keys: frozenset[str] = frozenset({"options"})
    defaults: ClassVar[Mapping[str, Any]] = MappingProxyType({})
    package: str = "torchattacks"
    version: int = 0
    transfers: bool = True
    moves_survivors: bool = False

    def check(self, attack: Attack) -> None:
        """Raise InputError for fields that contradict each other."""

    def needs_gradients(self, attack: Attack) -> bool:
        """Tell whether the attack differentiates through the model; Square only queries it."""
        return attack.name != "Square"

    def count_passes(self, attack: Attack) -> int:
        """Estimate the number of forward passes per image; a backward pass counts as two."""
        steps = attack.options.get("steps")
        return 3 * (steps if isinstance(steps, int) else _USUAL_STEPS)

    def describe(self, attack: Attack) -> str:
        """Describe the parameters for captions."""
        options = ", ".join(f"{name} = {value}" for name, value in attack.options.items())
        return f"{attack.name} of torchattacks" + (f" ({options})" if options else "")

    def identify(self, attack: Attack) -> dict[str, Any]:
        """Return the fields that decide the result, in addition to the fields of every attack, as JSON values."""
        version = {"version": _LIBRARY_VERSION} if attack.name in REPAIRED_LIBRARY_ATTACKS else {}
        return {"options": attack.options, **version}


class _Stepped(Kind):
    """Attacks of this project that take steps along the gradients of several losses."""

    package = ""

    def check(self, attack: Attack) -> None:
        given = attack.losses
        if not given or len(set(given)) < len(given) or set(given) - set(LOSSES):
            got = ", ".join(given) or "none"
            raise attack.fault(f"expected different losses among {', '.join(LOSSES)}, got {got}; name each once")

    def count_passes(self, attack: Attack) -> int:
        runs = len(attack.losses) + (attack.targets - 1) * ("targeted" in attack.losses)
        return 3 * attack.steps * attack.restarts * runs

    def identify(self, attack: Attack) -> dict[str, Any]:
        targets = {"targets": attack.targets} if "targeted" in attack.losses else {}
        return {"steps": attack.steps, "losses": list(attack.losses), **targets, "version": self.version}

    def _name_losses(self, attack: Attack) -> str:
        names = ", ".join(attack.losses).replace("targeted", f"{attack.targets} targeted")
        return f"loss{'es' * (len(attack.losses) > 1)} {names}"


class _PGD(_Stepped):
    keys = frozenset({"steps", "step_size", "restarts", "random_start", "losses", "targets"})
    version = 2
    moves_survivors = True

    def describe(self, attack: Attack) -> str:
        size = "2.5 ε / steps" if attack.step_size is None else f"{attack.step_size:g}"
        restarts = f"{attack.restarts} restart{'s' * (attack.restarts > 1)}"
        return f"{attack.steps} steps of {size}, {restarts}, {self._name_losses(attack)}"

    def identify(self, attack: Attack) -> dict[str, Any]:
        start = {} if attack.random_start else {"random_start": False}
        return {**super().identify(attack), "step_size": attack.alpha, "restarts": attack.restarts, **start}


class _Minimum(_Stepped):
    keys = frozenset({"steps", "losses", "targets"})
    defaults: ClassVar[Mapping[str, Any]] = MappingProxyType({"steps": 100, "losses": ("margin",)})
    version = 1
    transfers = False

    def describe(self, attack: Attack) -> str:
        return f"smallest perturbation by {attack.steps} steps, {self._name_losses(attack)}"


class _AutoAttack(Kind):
    keys = frozenset({"version", "parts", "queries"})
    package = "pyautoattack"

    def check(self, attack: Attack) -> None:
        check_choice(attack.version, AUTOATTACK_VERSIONS, "a version", where=f"attack {attack.label}: ")
        if (attack.version == "custom") != bool(attack.parts):
            raise attack.fault("parts are given with version = 'custom', and only with it; write both or neither")
        check_known(attack.parts, AUTOATTACK_PARTS, "parts", where=f"attack {attack.label}: ")

    def needs_gradients(self, attack: Attack) -> bool:
        return attack.parts != ("square",)

    def count_passes(self, attack: Attack) -> int:
        return 3 * _APGD_STEPS * len(attack.parts or AUTOATTACK_PARTS) + attack.queries

    def describe(self, attack: Attack) -> str:
        parts = f" ({', '.join(attack.parts)})" if attack.parts else ""
        return f"AutoAttack {attack.version}{parts}"

    def identify(self, attack: Attack) -> dict[str, Any]:
        return {"version": attack.version, "parts": list(attack.parts), "queries": attack.queries}


_KINDS: dict[str, Kind] = {"pgd": _PGD(), "minimum": _Minimum(), "autoattack": _AutoAttack()}
_LIBRARY = Kind()


def kind_of(name: str) -> Kind:
    """Return the kind of the attack called ``name``: a class of torchattacks unless it is one of the others."""
    return _KINDS.get(name, _LIBRARY)


def has_margin_loss(stages: Sequence[str]) -> bool:
    """Tell whether an APGD of AutoAttack with another loss than the cross-entropy is among the names of ``stages``."""
    return not {"apgd-dlr", "apgd-t"}.isdisjoint(stages)
