"""The stages of an attack: each turns images that are still right into images that the model may get wrong.

PGD is this project's (:mod:`robustness.measure.pgd`), since torchattacks' depends on the scale of the gradient;
AutoAttack is pyautoattack's (:mod:`robustness.measure.autoattack`), and all other attacks are torchattacks'.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from importlib import metadata
from typing import Any

import torch
from torch import Tensor, nn

from data_prep.errors import InputError, PrerequisiteError, check_choice, check_known
from data_prep.schema import fits
from robustness.attack import Attack
from robustness.attack_kinds import REPAIRED_LIBRARY_ATTACKS, SCALE_FREE_LIBRARY_ATTACKS
from robustness.measure.autoattack import LIBRARY_NORMS, list_autoattack
from robustness.measure.craft import Setup, Stage
from robustness.measure.minimum import find_smallest
from robustness.measure.pgd import DLR_CLASSES, TARGETED_DLR_CLASSES, measure_norm, pgd
from robustness.measure.victims import ScaleFree

_L2 = {"CW", "PGDL2", "PGDRSL2", "DeepFool", "EADEN"}
_NEITHER_NORM = {"EADL1", "SparseFool", "OnePixel", "Pixle", "JSMA", "VANILA", "GN", "MultiAttack", "LGV", "AutoAttack"}
"""Classes of torchattacks that bound no L∞ or L2 norm, are not attacks of their own, or repeat AutoAttack."""
_COUNTS = {
    *("steps", "num_iter_set", "nb_iter", "max_iterations", "binary_search_steps", "n_restarts", "n_queries"),
    *("eot_iter", "n_classes", "nb_sample", "noise_batch_size", "batch_max", "max_batch_size", "m", "N", "len_kernel"),
}
"""Options of torchattacks' classes that are whole numbers from 1."""
_NOTHING = 1e-30
"""Constant added to a gradient's norm in place of torchattacks' 1e-10, which exceeds gradients of confident networks.
"""
_BUDGET_NAMES = {"eps", "max_epsilon"}
"""Names of ε in torchattacks' classes."""


def library_of(attack: Attack) -> str:
    """Return name and version of the package that computes the attack.

    Raises:
        PrerequisiteError: its package is not installed.
    """
    package = attack.kind.package
    if not package:
        return f"robustness {attack.name} {attack.kind.version}"
    try:
        return f"{package} {metadata.version(package)}"
    except metadata.PackageNotFoundError:
        raise PrerequisiteError(f"attack {attack.label} needs the package {package}; pip install {package}") from None


def list_stages(
    attack: Attack, victim: nn.Module, *, num_classes: int, seed: int, leave_early: bool = True
) -> list[Stage]:
    """List the stages of ``attack`` on ``victim``, in their order.

    Args:
        attack: the attack.
        victim: images to logits.
        num_classes: number of classes of the victim.
        seed: seed of the attacks that have their own generator.
        leave_early: let AutoAttack's APGD stop once every image of a batch is classified wrongly. The victim is fooled
            as often either way, but further steps make images that fool other models more often.

    Raises:
        PrerequisiteError: the library of the attack is not installed.
        InputError: torchattacks has no such attack, or it does not take the options; too few classes for AutoAttack's
            DLR loss.
    """
    library_of(attack)
    list_own = _STAGES_OF.get(attack.name, _list_torchattack)
    return list_own(attack, Setup(victim, num_classes, seed, leave_early))


def _list_losses(attack: Attack, num_classes: int) -> list[tuple[str, int, str]]:
    """List loss, rank of its target class and a name, one for each run."""
    if "dlr" in attack.losses and num_classes < DLR_CLASSES:
        raise attack.fault(
            f"expected at least {DLR_CLASSES} classes for the loss dlr, got {num_classes}; choose another loss"
        )
    listed = []
    for loss in attack.losses:
        ranks = min(attack.targets, num_classes - 1) if loss == "targeted" else 1
        listed += [(loss, rank, f"{loss}-{rank}" if loss == "targeted" else loss) for rank in range(1, ranks + 1)]
    return listed


def _list_pgd(attack: Attack, setup: Setup) -> list[Stage]:
    """List a stage for every restart, loss and target class."""
    stages = []
    for restart in range(attack.restarts):
        for loss, rank, name in _list_losses(attack, setup.num_classes):
            run = partial(
                pgd,
                setup.victim,
                norm=attack.norm,
                eps=attack.eps,
                steps=attack.steps,
                step_size=attack.alpha,
                loss=loss,
                rank=rank,
                random_start=attack.random_start,
                leave_early=setup.leave_early,
            )
            stages.append(Stage(f"{name}, restart {restart + 1}" if restart else name, run))
    return stages


def _list_minimum(attack: Attack, setup: Setup) -> list[Stage]:
    """List one stage: the smallest perturbation that any loss finds."""
    losses = _list_losses(attack, setup.num_classes)
    find = partial(find_smallest, setup.victim, norm=attack.norm, steps=attack.steps)

    def perturb(images: Tensor, labels: Tensor) -> Tensor:
        best, smallest = images, torch.full_like(images[:, :1, :1, :1], torch.inf)
        for loss, rank, _ in losses:
            found = find(images, labels, loss=loss, rank=rank)
            size = measure_norm(found - images, attack.norm)
            is_better = (size > 0) & (size < smallest)
            best, smallest = torch.where(is_better, found, best), torch.where(is_better, size, smallest)
        return best

    return [Stage(attack.name, perturb, knows_budget=False)]


def _list_torchattack(attack: Attack, setup: Setup) -> list[Stage]:
    """List one stage: the class of torchattacks that the attack names."""
    import torchattacks

    names = [name for name in torchattacks.__all__ if hasattr(torchattacks, name) and name not in _NEITHER_NORM]
    check_choice(attack.name, ("pgd", "autoattack", *sorted(names)), "an attack")
    kind = getattr(torchattacks, attack.name)
    takes = inspect.signature(kind).parameters
    options = dict(attack.options)
    check_known(options, [name for name in takes if name != "model"], "options", where=f"attack {attack.name}: ")
    norms = ("linf", "l2") if "norm" in takes else ("l2",) if attack.name in _L2 else ("linf",)
    if attack.norm not in norms:
        raise InputError(
            f"attack {attack.name}: expected norm = {norms[0]!r}, in which it searches, got {attack.norm!r}; write it "
            "and an ε for it"
        )
    budget = _BUDGET_NAMES & set(takes)
    options |= dict.fromkeys(budget, attack.eps)
    if "norm" in takes:
        options["norm"] = LIBRARY_NORMS[attack.norm]
    _check_options(attack, {name: takes[name].default for name in attack.options}, setup.num_classes)
    if "n_classes" in takes:
        options.setdefault("n_classes", min(takes["n_classes"].default, setup.num_classes))
    if "seed" in takes:
        options.setdefault("seed", setup.seed)
    if "eps_for_division" in takes:
        options.setdefault("eps_for_division", _NOTHING)
    victim = setup.victim
    if attack.name in REPAIRED_LIBRARY_ATTACKS:
        victim = ScaleFree(victim, unit=attack.name in SCALE_FREE_LIBRARY_ATTACKS)
    try:
        perturb = kind(victim, **options)
    except Exception as error:  # the class may raise anything
        raise attack.fault(f"expected options that {attack.name} takes, got: {error}; correct them") from error
    return [Stage(attack.name, perturb, knows_budget=bool(budget))]


def _check_options(attack: Attack, defaults: dict[str, Any], num_classes: int) -> None:
    """Refuse options that would fail or mean nothing during the work: torchattacks checks no argument itself."""
    for name, value in attack.options.items():
        kind: Any = type(defaults[name])
        if name in _COUNTS and not (fits(value, int) and value >= 1):
            raise attack.fault(f"expected option {name} as a whole number ≥ 1, got {value!r}; correct it")
        if kind in (bool, str) and not fits(value, kind):
            raise attack.fault(f"expected option {name} as {kind.__name__}, got {value!r}; correct it")
        if kind in (int, float) and not fits(value, float):
            raise attack.fault(f"expected option {name} as a finite number, got {value!r}; correct it")
    needed = (
        TARGETED_DLR_CLASSES if attack.name == "APGDT" else DLR_CLASSES if attack.options.get("loss") == "dlr" else 2
    )
    needed = max(needed, attack.options.get("n_classes", 0))
    if num_classes < needed:
        raise attack.fault(
            f"expected at least {needed} classes for its loss, got a model of {num_classes}; choose another loss or "
            "attack"
        )


_STAGES_OF: dict[str, Callable[[Attack, Setup], list[Stage]]] = {
    "pgd": _list_pgd,
    "minimum": _list_minimum,
    "autoattack": list_autoattack,
}
"""Functions that list the stages of an attack by its name; any other name is a class of torchattacks."""
