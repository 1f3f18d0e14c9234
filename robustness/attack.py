"""The definition of an attack: its name, norm, budget and parameters. Nothing here needs torch."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any

from data_prep.errors import InputError, check_choice
from data_prep.schema import read
from robustness.attack_kinds import Kind, kind_of
from robustness.grids import LARGEST_EPS, read_eps

NORMS = {"linf": "L∞", "l2": "L2", "l1": "L1"}
THREATS = ("whitebox", "transfer", "adaptive")
"""Threat models, which differ in what the attacker knows about λ; the module ``robustness.analysis.attacks`` defines
them."""
_ROUNDING = 1e-6
_COMMON_KEYS = {"name", "norm", "eps", "label", "batch_size"}
_GIVEN_OPTIONS = {"eps", "max_epsilon", "norm"}
"""Arguments of torchattacks' classes that are fields of an attack."""
_DEFAULT_EPS = {("cifar", "linf"): 8 / 255, ("cifar", "l2"): 0.5, ("cifar", "l1"): 12.0, ("imagenet", "linf"): 4 / 255}


def allowed_distance(eps: float) -> float:
    """Return the largest ‖x′ − x‖ in float32 that counts as within the budget ``eps``."""
    return eps * (1 + _ROUNDING) + _ROUNDING


@dataclass(frozen=True, kw_only=True)
class Attack:
    """One attack at one budget.

    Args:
        name: ``pgd``, ``autoattack``, ``minimum`` (the smallest perturbation of each image), or a class of
            ``torchattacks`` such as ``FGSM`` or ``MIFGSM``.
        norm: ``linf``, ``l2`` or ``l1``.
        eps: budget ε: ‖x′ − x‖ ≤ ε in the norm, images in [0, 1]; for ``minimum``, the largest distance that counts.
        label: name of the attack in tables; default: ``name``.
        steps: gradient steps of PGD or ``minimum``.
        step_size: step size α of PGD, in [0, 1] pixel units; default 2.5 ε / steps.
        losses: losses of PGD or ``minimum``, one run each: ``ce``, ``margin``, ``dlr``, ``targeted``. Each run of PGD
            continues with the images that withstood the runs before it.
        targets: number of classes that the loss ``targeted`` aims at, one run each, the most likely wrong ones first.
        restarts: number of PGD runs with each loss; an image is robust if it withstands all of them. More than one
            needs ``random_start``.
        random_start: start PGD at a random point of the ball instead of at the image.
        version: version of AutoAttack: ``standard``, ``plus``, ``rand`` or ``custom``.
        parts: the attacks of a ``custom`` AutoAttack.
        queries: number of queries of Square, as part of AutoAttack.
        options: arguments of a ``torchattacks`` class, other than the model, the norm and ε.
        batch_size: images that are attacked together. Random starts are drawn for a whole batch, so the batch size can
            change the result and belongs to the attack, unlike the batch size of the evaluation.

    Raises:
        InputError: a value that cannot be used, named.
    """

    name: str
    norm: str
    eps: float
    label: str = ""
    steps: int = 20
    step_size: float | None = None
    restarts: int = 1
    random_start: bool = True
    losses: tuple[str, ...] = ("ce",)
    targets: int = 3
    version: str = "standard"
    parts: tuple[str, ...] = ()
    queries: int = 5000
    options: dict[str, Any] = field(default_factory=dict, hash=False)
    batch_size: int = 100

    def __post_init__(self) -> None:
        object.__setattr__(self, "label", self.label or self.name)
        check_choice(self.norm, NORMS, "a norm", where=f"attack {self.label}: ")
        if not 0 < self.eps < math.inf:
            raise self.fault(f"expected a finite ε > 0, got {self.eps:g}; give such a number")
        if self.eps > LARGEST_EPS[self.norm]:
            raise self.fault(f"expected ε in [0, 1] pixel units, got {self.eps:g}; did you mean {self.eps:g}/255?")
        for name in ("steps", "restarts", "targets", "queries", "batch_size"):
            if getattr(self, name) < 1:
                raise self.fault(f"expected {name} of at least 1, got {getattr(self, name)}; give a larger number")
        if self.restarts > 1 and not self.random_start:
            raise self.fault(
                f"with random_start = false all {self.restarts} restarts are one and the same; leave restarts out"
            )
        if given := set(self.options) & _GIVEN_OPTIONS:
            got = ", ".join(sorted(given))
            raise self.fault(f"expected norm = … and eps = … next to the name, got {got} in options; move it there")
        if self.step_size is not None and not 0 < self.step_size < math.inf:
            raise self.fault(f"expected a finite step_size > 0, got {self.step_size}; give such a number")
        self.kind.check(self)

    def fault(self, reason: str) -> InputError:
        """Return the error that names this attack and says what is wrong with it."""
        return InputError(f"attack {self.label}: {reason}")

    @property
    def kind(self) -> Kind:
        """Kind of the attack, which knows its fields."""
        return kind_of(self.name)

    @property
    def title(self) -> str:
        """Title for people: ``pgd L∞ 8/255``."""
        return f"{self.label} {NORMS[self.norm]} {format_eps(self.eps, self.norm)}"

    @property
    def needs_gradients(self) -> bool:
        """True if the attack differentiates through the model."""
        return self.kind.needs_gradients(self)

    @property
    def alpha(self) -> float:
        """Step size of PGD, in [0, 1] pixel units."""
        return self.step_size if self.step_size is not None else 2.5 * self.eps / self.steps

    @property
    def passes(self) -> int:
        """Forward passes per image, estimated for progress and fair shares; a backward pass counts as two."""
        return self.kind.count_passes(self)

    def describe(self) -> str:
        """Describe the parameters for captions: ``pgd: 20 steps of 2.5 ε / steps``."""
        return f"{self.label}: {self.kind.describe(self)}"

    def identity(self) -> dict[str, Any]:
        """Return everything that decides the attack's result, given the model, λ, images and seed, as JSON values."""
        common = {"name": self.name, "norm": self.norm, "eps": self.eps, "batch_size": self.batch_size}
        return {**common, **self.kind.identify(self)}


def format_eps(eps: float, norm: str) -> str:
    """Format ε for people: ``8/255`` for L∞ if it is a multiple of 1/255, otherwise a decimal."""
    level = eps * 255
    if norm == "linf" and abs(level - round(level)) < 1e-9:
        return f"{round(level)}/255"
    return f"{eps:g}"


def _show(value: Any) -> str:
    """Return ``value`` as one line of a message."""
    text = str(value)
    return text if text.isprintable() else ascii(text)


def read_attacks(tables: list[dict[str, Any]], profile: str) -> tuple[Attack, ...]:
    """Read the ``[[attacks]]`` tables of a suite as attacks, one for each ε, in the order of the file.

    Args:
        tables: each with ``name``, and optionally ``norm`` (default ``linf``), ``eps`` (a number, ``"8/255"`` or a list
            of these; default: the usual budget for the profile) and the other fields of :class:`Attack`.
        profile: profile of the suite: ``cifar`` has ε = 8/255 (L∞) and 0.5 (L2) by default, ``imagenet`` 4/255 (L∞).

    Raises:
        InputError: an unknown key or an invalid value; the message names it.
    """
    attacks: list[Attack] = []
    for table in tables:
        fields = dict(table)
        if not isinstance(fields.get("name"), str):
            raise InputError(
                "[[attacks]]: expected the key `name`, pgd, autoattack or a class of torchattacks, got none; add it"
            )
        where = f"attack {_show(fields['name'])}"
        kind = kind_of(fields["name"])
        known = _COMMON_KEYS | kind.keys
        if unknown := set(fields) - known:
            hint = "write arguments of a class of torchattacks as options = { … }"
            raise InputError(
                f"{where}: expected keys among {', '.join(sorted(known))}, got "
                f"{', '.join(map(_show, sorted(unknown)))}; {hint if 'options' in known else 'rename or remove it'}"
            )
        norm = fields.setdefault("norm", "linf")
        given = fields.pop("eps", _DEFAULT_EPS.get((profile, str(norm))))
        if given is None or given == []:
            raise InputError(
                f"{where}: expected eps, since {_show(norm)} has no usual ε on {profile}, got none; give eps = …"
            )
        fields = {**kind.defaults, **fields}
        for eps in given if isinstance(given, list) else [given]:
            attacks.append(read({**fields, "eps": read_eps(eps)}, Attack, where))
    return tuple(attacks)


def check_distinct(attacks: tuple[Attack, ...]) -> None:
    """Raise InputError if two different attacks share a name, or one attack has two names."""
    titles: dict[str, Attack] = {}
    for attack in attacks:
        if attack.title in titles:
            raise InputError(
                f"expected attacks of different names, got two called {attack.title}; give one of them another label = "
                "…"
            )
        twin = next((title for title, other in titles.items() if other.identity() == attack.identity()), None)
        if twin:
            raise InputError(
                f"expected different attacks, got {attack.title} and {twin}, which are the same; leave one of them out"
            )
        titles[attack.title] = attack


def replace_eps(attacks: tuple[Attack, ...], budgets: tuple[tuple[str, float], ...]) -> tuple[Attack, ...]:
    """Return the attacks with other budgets: each attack once for every ε that is given for its norm.

    Args:
        attacks: the attacks of the suite.
        budgets: pairs of norm and ε; an empty norm means L∞ if the suite has L∞ attacks, otherwise the suite's norm.
            Attacks in a norm without a budget keep theirs.

    Raises:
        InputError: a budget for a norm in which the suite has no attack.
    """
    norms = list(dict.fromkeys(attack.norm for attack in attacks))
    default = "linf" if "linf" in norms else norms[0]
    wanted: dict[str, list[float]] = {}
    for norm, eps in budgets:
        wanted.setdefault(norm or default, []).append(eps)
    if unused := set(wanted) - set(norms):
        raise InputError(
            f"expected norms of the suite's attacks ({', '.join(norms)}), got {', '.join(sorted(unused))}; choose "
            "among them"
        )
    changed: dict[Attack, None] = {}
    for attack in attacks:
        for eps in wanted.get(attack.norm, [attack.eps]):
            changed[dataclasses.replace(attack, eps=eps)] = None
    return tuple(changed)
