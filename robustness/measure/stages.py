"""The stages of an attack: each turns images that are still right into images that the model may get wrong.

PGD and its relatives are torchattacks', AutoAttack is pyautoattack's; nothing here computes an attack step itself.
"""

from __future__ import annotations

import inspect
import itertools
import logging
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import torch
from torch import Tensor, nn

from data_prep.errors import InputError, PrerequisiteError
from data_prep.fields import fits
from robustness.attack import Attack

_TARGETED_DLR_CLASSES = 4
"""The targeted DLR loss takes the fourth largest logit."""
_L2 = {"CW", "PGDL2", "PGDRSL2", "DeepFool", "EADEN"}
_NEITHER_NORM = {"EADL1", "SparseFool", "OnePixel", "Pixle", "JSMA", "VANILA", "GN", "MultiAttack", "LGV", "AutoAttack"}
"""What torchattacks offers that bounds no L∞ or L2 norm, is no attack of its own, or is AutoAttack once more."""
_COUNTS = {
    *("steps", "num_iter_set", "nb_iter", "max_iterations", "binary_search_steps", "n_restarts", "n_queries"),
    *("eot_iter", "n_classes", "nb_sample", "noise_batch_size", "batch_max", "max_batch_size", "m", "N", "len_kernel"),
}
"""Options of torchattacks' classes that are whole numbers from 1."""
_BUDGET_NAMES = {"eps", "max_epsilon"}
"""What torchattacks' classes call ε."""


@dataclass(frozen=True)
class Stage:
    """One attempt: ``perturb(images, labels)`` returns adversarial images; it draws from the global generator.

    Args:
        name: what marks and files call it.
        perturb: the attempt.
        knows_budget: it was given ε; False for one that looks for the smallest perturbation, whatever that is.
    """

    name: str
    perturb: Callable[[Tensor, Tensor], Tensor]
    knows_budget: bool = True


def library_of(attack: Attack) -> str:
    """Name and version of the package that computes the attack.

    Raises:
        PrerequisiteError: it is not installed.
    """
    package = "pyautoattack" if attack.name == "autoattack" else "torchattacks"
    try:
        return f"{package} {metadata.version(package)}"
    except metadata.PackageNotFoundError:
        raise PrerequisiteError(f"attack {attack.label} needs the package {package}: pip install {package}") from None


def list_stages(
    attack: Attack, victim: nn.Module, *, num_classes: int, seed: int, leave_early: bool = True
) -> list[Stage]:
    """The stages of ``attack`` on ``victim``, in their order.

    Args:
        attack: what is done.
        victim: images to logits.
        num_classes: of the victim.
        seed: of the attacks that draw from a generator of their own.
        leave_early: AutoAttack's APGD may stop where every image of a batch is answered wrongly. The victim is fooled
            as often either way; what just fools it fools another model less often than what further steps make of it.

    Raises:
        PrerequisiteError: the library of the attack is not installed.
        InputError: torchattacks has no such attack, or it does not take the options; AutoAttack's DLR loss was asked
            for with too few classes.
    """
    library_of(attack)
    if attack.name == "autoattack":
        return _autoattack_stages(attack, victim, num_classes, seed, leave_early=leave_early)
    if attack.name == "pgd":
        import torchattacks

        kind = {"linf": torchattacks.PGD, "l2": torchattacks.PGDL2}[attack.norm]
        pgd = kind(victim, eps=attack.eps, alpha=attack.alpha, steps=attack.steps, random_start=attack.random_start)
        return [Stage(f"restart-{index}", pgd) for index in range(attack.restarts)]
    return [_find_torchattack(attack, victim, num_classes, seed)]


def _find_torchattack(attack: Attack, victim: nn.Module, num_classes: int, seed: int) -> Stage:
    import torchattacks

    names = [name for name in torchattacks.__all__ if hasattr(torchattacks, name) and name not in _NEITHER_NORM]
    if attack.name not in names:
        raise InputError(f"no attack {attack.name!r}: choose pgd, autoattack or one of {', '.join(sorted(names))}")
    kind = getattr(torchattacks, attack.name)
    takes = inspect.signature(kind).parameters
    options = dict(attack.options)
    if unknown := set(options) - set(takes) | {"model"} & set(options):
        raise InputError(
            f"attack {attack.name} has no option {', '.join(sorted(unknown))}: "
            f"choose from {', '.join(name for name in takes if name != 'model')}"
        )
    norms = ("linf", "l2") if "norm" in takes else ("l2",) if attack.name in _L2 else ("linf",)
    if attack.norm not in norms:
        raise InputError(f"attack {attack.name} searches in {norms[0]}: write norm = {norms[0]!r} and an ε for it")
    budget = _BUDGET_NAMES & set(takes)
    options |= dict.fromkeys(budget, attack.eps)
    if "norm" in takes:
        options["norm"] = {"linf": "Linf", "l2": "L2"}[attack.norm]
    _check_options(attack, {name: takes[name].default for name in attack.options}, num_classes)
    if "n_classes" in takes:
        options.setdefault("n_classes", min(takes["n_classes"].default, num_classes))
    if "seed" in takes:
        options.setdefault("seed", seed)
    try:
        perturb = kind(victim, **options)
    except Exception as error:  # whatever the class makes of its arguments
        raise InputError(f"attack {attack.label}: {attack.name} does not take these options: {error}") from error
    return Stage(attack.name, perturb, knows_budget=bool(budget))


def _check_options(attack: Attack, defaults: dict[str, Any], num_classes: int) -> None:
    """Refuse what would end or mean nothing in the middle of the work: torchattacks checks no argument itself."""
    for name, value in attack.options.items():
        kind: Any = type(defaults[name])
        if name in _COUNTS and not (fits(value, int) and value >= 1):
            raise InputError(f"attack {attack.label}: option {name} must be a whole number ≥ 1; got {value!r}")
        if kind in (bool, str) and not fits(value, kind):
            raise InputError(f"attack {attack.label}: option {name} must be {kind.__name__}; got {value!r}")
        if kind in (int, float) and not fits(value, float):
            raise InputError(f"attack {attack.label}: option {name} must be a finite number; got {value!r}")
    needed = _TARGETED_DLR_CLASSES if attack.name == "APGDT" else 3 if attack.options.get("loss") == "dlr" else 2
    needed = max(needed, attack.options.get("n_classes", 0))
    if num_classes < needed:
        raise InputError(f"attack {attack.label}: its loss needs {needed} classes and the model has {num_classes}")


def _autoattack_stages(
    attack: Attack, victim: nn.Module, num_classes: int, seed: int, *, leave_early: bool
) -> list[Stage]:
    """AutoAttack's parts with its own parameters.

    With ``leave_early`` APGD ends as soon as every image of its batch is answered wrongly twice; not in the version for
    stochastic models, ``rand``, where wrong answers prove little.

    Deviation: with K < 10 classes the targeted parts take K − 1 targets; with K = 3 the targeted DLR loss is not
        defined and ``apgd-dlr`` takes the place of ``apgd-t``, with K = 2 neither is and ``apgd-t`` is left out.

    Source: Croce & Hein, ICML 2020.
    """
    from pyautoattack import AutoAttack

    watcher = Watcher(victim)
    ensemble = AutoAttack(
        watcher,
        norm={"linf": "Linf", "l2": "L2"}[attack.norm],
        eps=attack.eps,
        version=attack.version,
        attacks=list(attack.parts) or None,
        seed=seed,
        device=_device_of(victim),
    )
    quiet = logging.Logger("quiet", logging.CRITICAL + 1)
    ensemble.logger = ensemble.apgd.logger = ensemble.apgd_targeted.logger = quiet
    targets = min(9, num_classes - 1)
    ensemble.apgd_targeted.n_target_classes = min(ensemble.apgd_targeted.n_target_classes, targets)
    ensemble.fab.n_target_classes = min(ensemble.fab.n_target_classes, targets)
    for apgd in (ensemble.apgd, ensemble.apgd_targeted) if leave_early and attack.version != "rand" else ():
        apgd.attack_single_run = _stopping_early(apgd.attack_single_run, watcher)
    ensemble.square.n_queries = attack.queries
    restarts = ensemble.fab.n_restarts

    def run(part: str) -> Callable[[Tensor, Tensor], Tensor]:
        @torch.no_grad()
        def perturb(images: Tensor, labels: Tensor) -> Tensor:
            if part in ("apgd-ce", "apgd-dlr"):
                ensemble.apgd.loss = part.removeprefix("apgd-")
                attack = ensemble.apgd
            elif part == "apgd-t":
                attack = ensemble.apgd_targeted
            elif part in ("fab", "fab-t"):
                attack = ensemble.fab
                attack.targeted = part == "fab-t"
                attack.n_restarts = 1 if attack.targeted else restarts
            else:
                attack = ensemble.square
            adversarial: Tensor = attack.perturb(images, labels)
            return adversarial

        return perturb

    parts = _possible_parts(ensemble.attacks_to_run, num_classes, given=attack.version == "custom")
    return [Stage(part, run(part)) for part in parts]


def _device_of(victim: nn.Module) -> torch.device:
    """Where its weights are; a model without any is wherever its input is, and the attack computes on the CPU."""
    weights = next(itertools.chain(victim.parameters(), victim.buffers()), None)
    return torch.device("cpu") if weights is None else weights.device


def _possible_parts(parts: list[str], num_classes: int, *, given: bool) -> list[str]:
    """The parts that are defined for so few classes; raises InputError if one that the user listed is not."""
    undefined = {"apgd-t"} if num_classes < _TARGETED_DLR_CLASSES else set()
    if num_classes < 3:
        undefined |= {"apgd-dlr"}
    if given and (bad := undefined & set(parts)):
        raise InputError(f"{', '.join(sorted(bad))} is not defined for {num_classes} classes: leave it out")
    if undefined == {"apgd-t"} and "apgd-dlr" not in parts:
        return ["apgd-dlr" if part == "apgd-t" else part for part in parts]
    return [part for part in parts if part not in undefined]


class _EveryImageFooled(Exception):
    """No image of the batch is left to fool."""


class Watcher(nn.Module):
    """Passes images through to a model and, within :meth:`watching`, keeps the first wrong version of each image."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.training = False
        self._labels: Tensor | None = None
        self.found = torch.empty(0)
        self._fooled = torch.empty(0)

    def forward(self, images: Tensor) -> Tensor:
        """Logits of ``images``; ends the attack once every watched image was answered wrongly, asked again, too."""
        logits: Tensor = self.model(images)
        if self._labels is not None:
            wrong = (logits.detach().max(1)[1] != self._labels) & ~self._fooled
            self.found = torch.where(wrong[:, None, None, None], images.detach(), self.found)
            self._fooled = self._fooled | wrong
            if bool(self._fooled.all()):
                again = self.model(self.found).detach().max(1)[1] != self._labels  # a stochastic model may think again
                self._fooled &= again
                if bool(again.all()):
                    raise _EveryImageFooled
        return logits

    @contextmanager
    def watching(self, images: Tensor, labels: Tensor) -> Any:
        """Watch the answers for versions of ``images`` with these ``labels``."""
        self.found, self._fooled = images.detach().clone(), torch.zeros_like(labels, dtype=torch.bool)
        self._labels = labels
        try:
            yield
        finally:
            self._labels = None


def _stopping_early(run: Callable[..., Any], watcher: Watcher) -> Callable[..., Any]:
    """``attack_single_run`` of APGD, left as soon as every image was fooled: the victim cannot be fooled by more."""

    def attack_single_run(images: Tensor, labels: Tensor, x_init: Tensor | None = None) -> Any:
        with watcher.watching(images, labels):
            try:
                return run(images, labels, x_init)
            except _EveryImageFooled:
                still_right = torch.zeros_like(labels, dtype=torch.bool)
                loss = torch.zeros(len(labels), device=images.device)
                return watcher.found, still_right, loss, watcher.found

    return attack_single_run
