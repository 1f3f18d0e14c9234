"""The active test: can an attack find an adversarial example that is known to exist?

The model gets a last layer for each image x: a linear readout of its logits that says 0 for x and for random images
within η ε of it, and 1 for one image b on the border of the budget. So b is adversarial and within ε. An attack that
finds neither b nor another such image has no power against the layers below the readout, so its failure on the model
itself proves nothing.

Source: Zimmermann, Brendel, Tramèr & Carlini, *Increasing Confidence in Adversarial Robustness Evaluations*, NeurIPS
2022.

Deviation: the readout is of the logits, which every model has, in place of the features before the last layer. It is
    the linear discriminant of ``INNER`` points and the border point, the one of ``BORDER`` candidates that lies
    farthest out, in place of a regression on about a thousand points: an eightieth of the passes. Two further classes
    that never win serve losses that need more than two classes. The attack ends as soon as it has found an example for
    every image.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from data_prep.errors import InputError
from robustness.attack import Attack
from robustness.measure.craft import craft
from robustness.measure.stages import list_stages
from robustness.measure.watchers import Impatient

INNER, BORDER = 16, 6
INNER_SHARE = 0.75
"""η: inner points lie within this share of the budget."""
HARDNESS = 0.8
"""Position of the threshold between the highest inner score (0) and the score of the border point (1)."""
CLASSES = 4
_RIDGE = 1e-2


class Readout(nn.Module):
    """The model with one readout per image; an image gets the readout of the nearest clean image.

    Args:
        victim: images to logits.
        clean: the images (N, 3, H, W) that the readouts are made for.
        weight: (N, K) weights of the readouts.
        bias: (N,) biases of the readouts.
    """

    def __init__(self, victim: nn.Module, clean: Tensor, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.victim, self.training = victim, False
        self.clean, self.weight, self.bias = nn.Buffer(clean), nn.Buffer(weight), nn.Buffer(bias)

    def forward(self, images: Float[Tensor, "m 3 h w"]) -> Float[Tensor, "m c"]:
        """Compute the logits of the classes 0 and 1, and of two classes that never win."""
        with torch.no_grad():
            own = torch.cdist(images.detach().flatten(1), self.clean.flatten(1), p=1).argmin(1)
        score = (self.victim(images) * self.weight[own]).sum(1) + self.bias[own]
        least = -score.abs() - 5
        return torch.stack([-score, score, least, least - 1], 1)


@torch.no_grad()
def make_readout(
    victim: nn.Module, images: Float[Tensor, "n 3 h w"], *, norm: str, eps: float, seed: int
) -> tuple[Readout, Tensor]:
    """Build the readouts of ``images``, and (N,) bool: which of them have a border point distinct from inner points."""
    n = len(images)
    generator = torch.Generator().manual_seed(seed)
    inner = torch.stack([_draw(images, norm, INNER_SHARE * eps, generator, border=False) for _ in range(INNER - 1)])
    border = torch.stack([_draw(images, norm, eps, generator, border=True) for _ in range(BORDER)])
    points = torch.cat([images[None], inner, border])
    logits = torch.stack([victim(batch).double() for batch in points], 1)
    inside, outside = logits[:, :INNER], logits[:, INNER:]
    centre = inside.mean(1, keepdim=True)
    spread = (inside - centre).mT @ (inside - centre) / INNER
    scale = spread.diagonal(dim1=1, dim2=2).mean(1).clamp(min=1e-30)
    spread = spread / scale[:, None, None] + _RIDGE * torch.eye(logits.shape[2], device=images.device)
    weights = torch.linalg.solve(spread, (outside - centre).mT).mT
    weights = weights / weights.norm(dim=2, keepdim=True).clamp(min=1e-30)
    scores = ((outside - centre) * weights).sum(2)
    highest = ((inside - centre) @ weights.mT).amax(1)
    best = ((scores - highest) / highest.clamp(min=1e-30)).argmax(1)
    rows = torch.arange(n, device=images.device)
    top, rest, weight = scores[rows, best], highest[rows, best], weights[rows, best]
    threshold = rest + HARDNESS * (top - rest)
    is_separable = (top - rest > 1e-6 * scale.sqrt()) & torch.isfinite(top) & torch.isfinite(threshold)
    factor = 3 / torch.where(is_separable, threshold.abs(), 1)
    bias = -(threshold + (centre[:, 0] * weight).sum(1)) * factor
    return Readout(victim, images, (weight * factor[:, None]).float(), bias.float()), is_separable.cpu()


def _draw(images: Tensor, norm: str, eps: float, generator: torch.Generator, *, border: bool) -> Tensor:
    """Draw random images within ``eps`` of ``images`` (L∞: in the cube; else in all directions), or at that
    distance."""
    if norm == "linf":
        noise = 2 * torch.rand(images.shape, generator=generator) - 1
        delta = noise.sign() if border else noise
    else:
        noise = torch.randn(images.shape, generator=generator)
        delta = noise / noise.flatten(1).norm(p=1 if norm == "l1" else 2, dim=1)[:, None, None, None]
    return (images + eps * delta.to(images.device)).clamp(0, 1)


def find_planted(
    victim: nn.Module, attack: Attack, images: Float[Tensor, "n 3 h w"], *, seed: int, device: torch.device
) -> Int[Tensor, " n"]:
    """Check for each image whether ``attack`` finds the planted example: 1 found, 0 missed, −1 not planted.

    Args:
        victim: images to logits, frozen and in eval mode, on ``device``.
        attack: the attack of the row that is judged.
        images: clean images in [0, 1], on the CPU.
        seed: seed of the points and of the attack.
        device: device of the victim.
    """
    readout, is_separable = make_readout(victim, images.to(device), norm=attack.norm, eps=attack.eps, seed=seed)
    answer = torch.where(is_separable, 0, -1)
    chosen = is_separable.nonzero()[:, 0]
    if not len(chosen):
        return answer
    impatient = Impatient(readout)
    try:
        stages = list_stages(attack, impatient, num_classes=CLASSES, seed=seed)
    except InputError:  # its options ask for more classes
        return torch.full_like(answer, -1)
    crafted = craft(
        impatient,
        [impatient.cut_short(stage) for stage in stages],
        images[chosen],
        torch.zeros(len(chosen), dtype=torch.int64),
        norm=attack.norm,
        eps=attack.eps,
        batch_size=attack.batch_size,
        seed=seed,
        device=device,
    )
    answer[chosen] = torch.where(crafted.attacked, (~crafted.robust).long(), -1)
    return answer
