"""Parts of pyautoattack in fewer, fuller batches.

The targeted parts attempt several target classes at a time on the images that remain, Square in L∞ several squares.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from robustness.measure.craft import distance
from robustness.measure.pgd import margin

_MOST_AHEAD = 16
"""Largest number of squares tried at once on an image."""
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

    Once a class breaks no image, which is soon the usual case, the following classes are attempted together, as many as
    fit. Classes after the first one that fools the model on any image are attempted again without that image, so that
    the random numbers equal the numbers of sequential attempts.
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


class _Squares:
    """The squares of a search, drawn in pyautoattack's order; none depends on the model.

    Args:
        search: pyautoattack's ``SquareAttack``.
        shape: shape of an image, (3, H, W).
    """

    def __init__(self, search: Any, shape: torch.Size) -> None:
        self._search, self._shape = search, shape
        self._table, self._drawn = torch.zeros(search.n_queries, 3 + shape[0]), 0

    def take(self, first: Tensor, count: int) -> Tensor:
        """Return ``count`` squares per image from ``first`` (M,) on, ±2ε inside, 0 elsewhere: (M, count, 3, H, W)."""
        wanted = (first[:, None].cpu() + torch.arange(count)).clamp_max(len(self._table) - 1)
        self._draw(int(wanted.max()) + 1)
        top, left, side, *signs = self._table[wanted].to(first.device).unbind(-1)
        _, height, width = self._shape
        rows, columns = (torch.arange(size, device=first.device) for size in (height, width))
        in_rows = (rows >= top[..., None]) & (rows < (top + side)[..., None])
        in_columns = (columns >= left[..., None]) & (columns < (left + side)[..., None])
        square = (in_rows[..., :, None] & in_columns[..., None, :])[:, :, None]
        values: Tensor = square * (2.0 * self._search.eps * torch.stack(signs, -1))[..., None, None]
        return values

    def _draw(self, count: int) -> None:
        channels, height, width = self._shape
        for query in range(self._drawn, count):
            share = self._search.p_selection(query)
            side = min(max(round(math.sqrt(share * (channels * height * width) / channels)), 1), height, width)
            top, left = (int((size - side) * torch.rand([1])) for size in (height, width))
            signs = torch.sign(2 * torch.rand([channels, 1, 1]) - 1).flatten()
            self._table[query] = torch.tensor([top, left, side, *signs.tolist()])
        self._drawn = max(self._drawn, count)


@torch.no_grad()
def run_square(search: Any, images: Tensor, labels: Tensor, *, most: int) -> tuple[Tensor, Tensor]:
    """Replace ``SquareAttack.attack_single_run`` in L∞: the same random numbers, the same images.

    A square is kept if it lowers the margin, which becomes rare; all other squares leave the image unchanged. So
    several squares are tried on the same image at once, and the squares after the first kept square are tried again. An
    image is done when it is classified wrongly.

    Args:
        search: pyautoattack's ``SquareAttack`` with its loss ``margin``, seeded.
        images: clean images (N, 3, H, W).
        labels: (N,) classes of the images.
        most: largest number of images per forward pass.

    Returns:
        The number of squares tried on each image, and its last version.

    Source: Andriushchenko et al., ECCV 2020.
    """
    eps, queries, (n, channels, _, width) = search.eps, search.n_queries, images.shape
    best = (images + eps * search.random_choice([n, channels, 1, width])).clamp(0, 1)
    margins = _measure_margin(search, best, labels)
    tried = torch.zeros_like(labels)
    squares, ahead = _Squares(search, images.shape[1:]), 1
    while True:
        active = ((margins > 0) & (tried < queries)).nonzero()[:, 0]
        if not len(active):
            return tried + 1, best
        count = max(min(ahead, most // len(active)), 1)
        x = images[active][:, None]
        moved = best[active][:, None] + squares.take(tried[active], count)
        moved = torch.clamp(torch.min(torch.max(moved, x - eps), x + eps), 0, 1)
        new = _measure_margin(search, moved.flatten(0, 1), labels[active].repeat_interleave(count))
        new = new.view(len(active), count)
        order = torch.arange(count, device=images.device)
        is_left = order < (queries - tried[active])[:, None]
        is_better = ((new < margins[active][:, None]) | (new <= 0)) & is_left
        kept, first = is_better.any(1), is_better.int().argmax(1)
        rows = active[kept]
        best[rows], margins[rows] = moved[kept, first[kept]], new[kept, first[kept]]
        tried[active] += torch.where(kept, first + 1, is_left.sum(1))
        ahead = min(2 * ahead, _MOST_AHEAD) if int(kept.sum()) * 4 <= len(active) else max(ahead // 2, 1)


def _measure_margin(search: Any, images: Tensor, labels: Tensor) -> Tensor:
    return -margin(search.predict(images), labels, labels)
