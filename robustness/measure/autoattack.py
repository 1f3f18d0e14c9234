"""AutoAttack: pyautoattack's parts in their order, on any victim.

Some of its methods are replaced, without a change to which images are robust: ``attack_single_run`` of APGD and FAB
stops working on an image that was classified wrongly (:mod:`robustness.measure.watchers`); Square in L∞ tries several
squares at a time, and the targeted parts several target classes (:mod:`robustness.measure.full_batches`). The version
of pyautoattack is therefore pinned in ``pyproject.toml`` and in ``constraints.txt``;
``tests/robustness/test_attack_libraries.py`` fails if the source of a replaced method changes, and compares the results
image by image.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable
from copy import copy
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from data_prep.errors import InputError
from robustness.attack import Attack, allowed_distance
from robustness.measure.craft import Setup, Stage
from robustness.measure.full_batches import perturb_by_apgd, perturb_by_fab, run_square
from robustness.measure.pgd import DLR_CLASSES, TARGETED_DLR_CLASSES
from robustness.measure.watchers import EveryImageFooledError, Watcher

LIBRARY_NORMS = {"linf": "Linf", "l2": "L2", "l1": "L1"}
"""Names of the norms in torchattacks and pyautoattack."""


def list_autoattack(attack: Attack, setup: Setup) -> list[Stage]:
    """List a stage for each of AutoAttack's parts, with its own parameters.

    With ``leave_early`` APGD and FAB stop on an image once it is misclassified twice within the budget. They do not in
    the version ``rand``, which is for stochastic models, for which a misclassification proves little, and not in L1,
    where APGD begins beyond the budget.

    Deviation: with K < 10 classes the targeted parts take K − 1 targets; with K = 3 the targeted DLR loss is not
        defined and ``apgd-dlr`` takes the place of ``apgd-t``, with K = 2 neither is and ``apgd-t`` is left out.

    Source: Croce & Hein, ICML 2020; in L1 Croce & Hein, ICML 2021.
    """
    from pyautoattack import AutoAttack

    watcher = Watcher(setup.victim)
    ensemble = AutoAttack(
        watcher,
        norm=LIBRARY_NORMS[attack.norm],
        eps=attack.eps,
        version=attack.version,
        attacks=list(attack.parts) or None,
        seed=setup.seed,
        device=_device_of(setup.victim),
    )
    quiet = logging.Logger("quiet", logging.CRITICAL + 1)
    ensemble.logger = ensemble.apgd.logger = ensemble.apgd_targeted.logger = quiet
    targets = min(9, setup.num_classes - 1)
    ensemble.apgd_targeted.n_target_classes = min(ensemble.apgd_targeted.n_target_classes, targets)
    ensemble.fab.n_target_classes = min(ensemble.fab.n_target_classes, targets)
    targeted_fab = copy(ensemble.fab)
    if setup.leave_early and attack.version != "rand" and attack.norm != "l1":
        for apgd in (ensemble.apgd, ensemble.apgd_targeted):
            budget = allowed_distance(attack.eps)
            apgd.attack_single_run = _watched_apgd(apgd.attack_single_run, watcher, attack.norm, budget)
        for fab in (ensemble.fab, targeted_fab):
            fab.attack_single_run = _watched_fab(fab.attack_single_run, watcher, attack.norm, attack.eps)
    ensemble.square.n_queries = attack.queries
    if attack.norm == "linf":
        ensemble.square.attack_single_run = partial(run_square, ensemble.square, most=attack.batch_size)
    most = attack.batch_size
    perturb = {
        "apgd-ce": ensemble.apgd.perturb,
        "apgd-dlr": ensemble.apgd.perturb,
        "apgd-t": partial(perturb_by_apgd, ensemble.apgd_targeted, most=most)
        if attack.norm != "l1"
        else ensemble.apgd_targeted.perturb,
        "fab": ensemble.fab.perturb,
        "fab-t": partial(perturb_by_fab, targeted_fab, norm=attack.norm, most=most),
        "square": ensemble.square.perturb,
    }

    @torch.no_grad()
    def run(part: str, images: Tensor, labels: Tensor) -> Tensor:
        ensemble.apgd.loss = part.removeprefix("apgd-")
        adversarial: Tensor = perturb[part](images, labels)
        return adversarial

    parts = _possible_parts(ensemble.attacks_to_run, setup.num_classes, given=attack.version == "custom")
    return [Stage(part, partial(run, part)) for part in parts]


def _device_of(victim: nn.Module) -> torch.device:
    """Return the device of the victim's weights, or the CPU for a model without weights, which follows its input."""
    weights = next(itertools.chain(victim.parameters(), victim.buffers()), None)
    return torch.device("cpu") if weights is None else weights.device


def _possible_parts(parts: list[str], num_classes: int, *, given: bool) -> list[str]:
    """Return the parts that are defined for so few classes; raise InputError for a user-listed part that is not."""
    undefined = {"apgd-t"} if num_classes < TARGETED_DLR_CLASSES else set()
    if num_classes < DLR_CLASSES:
        undefined |= {"apgd-dlr"}
    if given and (bad := undefined & set(parts)):
        raise InputError(f"{', '.join(sorted(bad))} is not defined for {num_classes} classes; leave it out")
    if undefined == {"apgd-t"} and "apgd-dlr" not in parts:
        return ["apgd-dlr" if part == "apgd-t" else part for part in parts]
    return [part for part in parts if part not in undefined]


def _watched_apgd(run: Callable[..., Any], watcher: Watcher, norm: str, eps: float) -> Callable[..., Any]:
    """Run APGD's ``attack_single_run``: return best images, whether each is still right, their loss, wrong images."""

    def attack_single_run(images: Tensor, labels: Tensor, x_init: Tensor | None = None) -> Any:
        with watcher.watching_within(images, labels, norm, eps):
            try:
                best, right, loss, adversarial = run(images, labels, x_init)
            except EveryImageFooledError:
                best = adversarial = watcher.found
                right, loss = torch.zeros_like(labels, dtype=torch.bool), torch.zeros(len(labels), device=images.device)
        fooled = watcher.fooled
        return best, right * ~fooled, loss, torch.where(fooled[:, None, None, None], watcher.found, adversarial)

    return attack_single_run


def _watched_fab(run: Callable[..., Any], watcher: Watcher, norm: str, eps: float) -> Callable[..., Any]:
    """Run FAB's ``attack_single_run``: return the first wrong images within ε instead of the nearest ones."""

    def attack_single_run(images: Tensor, labels: Tensor, **options: Any) -> Tensor:
        with watcher.watching_within(images, labels, norm, eps):
            try:
                adversarial: Tensor = run(images, labels, **options)
            except EveryImageFooledError:
                adversarial = watcher.found
        return torch.where(watcher.fooled[:, None, None, None], watcher.found, adversarial)

    return attack_single_run
