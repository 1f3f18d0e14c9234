"""AutoAttack: pyautoattack's parts in their order, on any victim.

Some of its methods are replaced, without a change to which images are robust: ``attack_single_run`` of APGD and FAB
asks nothing more about an image that was classified wrongly, Square in L∞ tries several squares at a time, and the
targeted parts try several target classes. ``tests/robustness/test_attack_libraries.py`` compares image by image.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import copy
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from data_prep.errors import InputError
from robustness.attack import Attack, allowed_distance
from robustness.measure.craft import distance
from robustness.measure.square import run_square
from robustness.measure.stages import DLR_CLASSES, LIBRARY_NORMS, TARGETED_DLR_CLASSES, Stage
from robustness.measure.targets import perturb_by_apgd, perturb_by_fab


def autoattack_stages(
    attack: Attack, victim: nn.Module, num_classes: int, seed: int, *, leave_early: bool
) -> list[Stage]:
    """List AutoAttack's parts with its own parameters.

    With ``leave_early`` APGD and FAB ask nothing more about an image once it is misclassified twice within the
    budget; not in the version for stochastic models, ``rand``, where wrong answers prove little, nor in L1, where APGD
    begins beyond the budget.

    Deviation: with K < 10 classes the targeted parts take K − 1 targets; with K = 3 the targeted DLR loss is not
        defined and ``apgd-dlr`` takes the place of ``apgd-t``, with K = 2 neither is and ``apgd-t`` is left out.

    Source: Croce & Hein, ICML 2020; in L1 Croce & Hein, ICML 2021.
    """
    from pyautoattack import AutoAttack

    watcher = Watcher(victim)
    ensemble = AutoAttack(
        watcher,
        norm=LIBRARY_NORMS[attack.norm],
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
    targeted_fab = copy(ensemble.fab)
    if leave_early and attack.version != "rand" and attack.norm != "l1":
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

    parts = _possible_parts(ensemble.attacks_to_run, num_classes, given=attack.version == "custom")
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
        raise InputError(f"{', '.join(sorted(bad))} is not defined for {num_classes} classes: leave it out")
    if undefined == {"apgd-t"} and "apgd-dlr" not in parts:
        return ["apgd-dlr" if part == "apgd-t" else part for part in parts]
    return [part for part in parts if part not in undefined]


class _EveryImageFooled(Exception):
    """No image of the batch is left to fool."""


class Watcher(nn.Module):
    """Passes images to a model and, within :meth:`watching`, keeps the first wrong version of each image.

    Once an image was classified wrongly twice, the model is not asked about it any more: its logits stay the same,
    without a gradient.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.training = False
        self._labels: Tensor | None = None
        self._is_within: Callable[[Tensor], Tensor] = lambda images: torch.ones(len(images), dtype=torch.bool)
        self.found, self.fooled, self._logits = torch.empty(0), torch.empty(0, dtype=torch.bool), torch.empty(0)

    def forward(self, images: Tensor) -> Tensor:
        """Compute the logits of ``images``; end the attack once every watched image was classified wrongly twice."""
        if self._labels is None or len(images) != len(self._labels):
            logits: Tensor = self.model(images)
            return logits
        if not self.fooled.any():
            logits = self.model(images)
            self._logits = logits.detach().clone()
        else:
            asked = ~self.fooled
            logits = self._logits.clone()
            logits[asked] = self.model(images[asked])
        wrong = (logits.detach().argmax(1) != self._labels) & ~self.fooled
        wrong &= self._is_within(images.detach())
        if wrong.any():
            self._keep(images.detach(), logits.detach(), wrong)
        if self.fooled.all():
            raise _EveryImageFooled
        return logits

    def _keep(self, images: Tensor, logits: Tensor, wrong: Tensor) -> None:
        assert self._labels is not None
        with torch.no_grad():
            again = self.model(images[wrong]).argmax(1) != self._labels[wrong]  # a stochastic model may differ
        wrong = wrong.clone()
        wrong[wrong.clone()] = again
        self.fooled = self.fooled | wrong
        self.found[wrong], self._logits[wrong] = images[wrong], logits[wrong]

    @contextmanager
    def watching(self, images: Tensor, labels: Tensor, norm: str, eps: float) -> Iterator[None]:
        """Watch the answers for versions of ``images`` with these ``labels`` within ε."""
        clean = images.detach().clone()
        self.found, self.fooled = clean.clone(), torch.zeros_like(labels, dtype=torch.bool)
        self._is_within = lambda moved: distance(moved, clean, norm) <= eps
        self._labels = labels
        try:
            yield
        finally:
            self._labels = None


def _watched_apgd(run: Callable[..., Any], watcher: Watcher, norm: str, eps: float) -> Callable[..., Any]:
    """Run APGD's ``attack_single_run``: return best images, whether each is still right, their loss, wrong images."""

    def attack_single_run(images: Tensor, labels: Tensor, x_init: Tensor | None = None) -> Any:
        with watcher.watching(images, labels, norm, eps):
            try:
                best, right, loss, adversarial = run(images, labels, x_init)
            except _EveryImageFooled:
                best = adversarial = watcher.found
                right, loss = torch.zeros_like(labels, dtype=torch.bool), torch.zeros(len(labels), device=images.device)
        fooled = watcher.fooled
        return best, right * ~fooled, loss, torch.where(fooled[:, None, None, None], watcher.found, adversarial)

    return attack_single_run


def _watched_fab(run: Callable[..., Any], watcher: Watcher, norm: str, eps: float) -> Callable[..., Any]:
    """Run FAB's ``attack_single_run``: return the first wrong images within ε instead of the nearest ones."""

    def attack_single_run(images: Tensor, labels: Tensor, **options: Any) -> Tensor:
        with watcher.watching(images, labels, norm, eps):
            try:
                adversarial: Tensor = run(images, labels, **options)
            except _EveryImageFooled:
                adversarial = watcher.found
        return torch.where(watcher.fooled[:, None, None, None], watcher.found, adversarial)

    return attack_single_run
