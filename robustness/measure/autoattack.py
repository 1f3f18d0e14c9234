"""AutoAttack: pyautoattack's parts, in their order, on any victim."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from data_prep.errors import InputError
from robustness.attack import Attack
from robustness.measure.stages import Stage

_DLR_CLASSES, _TARGETED_DLR_CLASSES = 3, 4
"""The DLR loss takes the third largest logit, the targeted one the fourth."""
PYAUTOATTACK = {"linf": "Linf", "l2": "L2", "l1": "L1"}
"""Its names of the norms."""


def autoattack_stages(
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
        norm=PYAUTOATTACK[attack.norm],
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
    if num_classes < _DLR_CLASSES:
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
