"""AutoAttack's targeted parts in fewer, fuller batches: remaining images, towards several target classes at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from robustness.measure.craft import distance

_Attempt = Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
"""Function from images, labels, target classes and random numbers to the images found and whether they fool the model.
"""


@torch.no_grad()
def perturb_by_apgd(search: Any, images: Tensor, labels: Tensor, *, most: int) -> Tensor:
    """Replace ``APGDAttack_targeted.perturb`` in L∞ and L2: the same random numbers, the same images.

    Args:
        search: pyautoattack's ``APGDAttack_targeted`` with one restart.
        images: clean images (N, 3, H, W).
        labels: (N,) classes of the images.
        most: largest number of images per forward pass.

    Source: Croce & Hein, ICML 2020.
    """
    search.init_hyperparam(images)

    def draw(*shape: int) -> Tensor:
        return 2 * torch.rand(shape) - 1 if search.norm == "Linf" else torch.randn(shape)

    def attempt(images: Tensor, labels: Tensor, targets: Tensor, drawn: Tensor) -> tuple[Tensor, Tensor]:
        search.y_target = targets
        start = images + search.eps * search.normalize(drawn.to(images.device))
        _, right, _, adversarial = search.attack_single_run(images, labels, start)
        return adversarial, right == 0

    return _try_targets(search, search.model, attempt, draw, images, labels, most)


@torch.no_grad()
def perturb_by_fab(search: Any, images: Tensor, labels: Tensor, *, norm: str, most: int) -> Tensor:
    """Replace ``FABAttack.perturb`` with targets and one restart, which draws nothing: the same images.

    Args:
        search: pyautoattack's ``FABAttack_PT``.
        images: clean images (N, 3, H, W).
        labels: (N,) classes of the images.
        norm: ``linf``, ``l2`` or ``l1``.
        most: largest number of images per forward pass.

    Source: Croce & Hein, ICML 2020.
    """

    def attempt(images: Tensor, labels: Tensor, targets: Tensor, _: Tensor) -> tuple[Tensor, Tensor]:
        search.target_class = 1
        search._get_predicted_label = lambda shown: search.predict(shown).argmax(1)
        search._predict_fn = lambda _: functional.one_hot(targets)  # a run takes its targets from their ranks
        adversarial = search.attack_single_run(images, labels, is_targeted=True)
        is_wrong = search.predict(adversarial).argmax(1) != labels
        return adversarial, is_wrong & (distance(adversarial, images, norm) <= search.eps)

    return _try_targets(search, search.predict, attempt, torch.empty, images, labels, most)


def _try_targets(
    search: Any,
    ask: Callable[[Tensor], Tensor],
    attempt: _Attempt,
    draw: Callable[..., Tensor],
    images: Tensor,
    labels: Tensor,
    most: int,
) -> Tensor:
    """Attempt one target class after another on the remaining images, the most likely wrong ones first.

    Once no image falls, which becomes the rule, the following classes are attempted together, as many as fit. Classes
    after the first one that fools the model on any image are attempted again without that image, so that the random
    numbers equal the numbers of sequential attempts.
    """
    logits = ask(images)
    targets = logits.sort(1)[1].flip(1)[:, 1 : 1 + search.n_target_classes]
    found, left, done, ahead = images.clone(), (logits.argmax(1) == labels).nonzero()[:, 0], 0, 1
    torch.manual_seed(search.seed)
    while len(left) and done < targets.shape[1]:
        count = max(min(ahead, most // len(left), targets.shape[1] - done), 1)
        drawn, states = [], []
        for _ in range(count):
            drawn.append(draw(len(left), *images.shape[1:]))
            states.append(torch.get_rng_state())
        aimed = targets[left, done : done + count].T.flatten()
        adversarial, fooled = attempt(
            images[left].repeat(count, 1, 1, 1), labels[left].repeat(count), aimed, torch.cat(drawn)
        )
        fooled = fooled.view(count, -1)
        falls = fooled.any(1)
        last = int(falls.int().argmax()) if falls.any() else count - 1
        torch.set_rng_state(states[last])
        found[left[fooled[last]]] = adversarial.view(count, len(left), *images.shape[1:])[last, fooled[last]]
        left, done = left[~fooled[last]], done + last + 1
        ahead = 1 if falls.any() else len(targets[0])
    return found
