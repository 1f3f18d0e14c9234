"""Bounds on the zoo's robust accuracy: ``PYTHONPATH=tests python -m redteam.bounds`` writes ``bounds.json``.

An attacker who knows a defence attacks what is below it (``Member.substitutes``), and the model itself, and shows the
images to a fresh instance, as they are and rounded to eight bits. An image is broken if any of them is answered
wrongly; by a stochastic model, as often as it is. What is left bounds the robust accuracy from above.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from attacked import run
from torch import Tensor

from data_prep.shapes import make_shapes
from robustness.attack import Attack
from robustness.measure.foreign import ForeignClassifier
from robustness.measure.loaders.loaded import Loaded
from robustness.measure.victims import Victim
from sdnet_core.augment import to_images

from .base import Member
from .networks import CLASSES
from .zoo import ZOO

BOUNDS = Path(__file__).parent / "bounds.json"
N, EPS = 30, 4 / 255
_DRAWS = 3
_STEPS = 20


def load_shapes(n: int = N) -> tuple[Tensor, Tensor]:
    """Images (N, 3, 32, 32) in [0, 1] and labels, the same as in ``--suite`` runs on shapes, a few of each class."""
    images = make_shapes("test").subset(n)
    return to_images(torch.from_numpy(images.pixels.copy())).contiguous(), torch.from_numpy(images.labels.copy())


def bound(member: Member, images: Tensor, labels: Tensor, eps: float = EPS) -> tuple[float, float]:
    """Clean accuracy, and the accuracy that the best known attack leaves."""
    shares = [_share_right(member, images, labels)]
    for attempt in _attempts(member, images, labels, eps):
        shares += [_share_right(member, shown, labels) for shown in (attempt, (attempt * 255).round() / 255)]
    return float(shares[0].mean()), float(torch.stack(shares).amin(0).mean())


def _attempts(member: Member, images: Tensor, labels: Tensor, eps: float) -> Iterator[Tensor]:
    """Adversarial images for every substitute and for the model itself, by two losses."""
    for victim in (*member.substitutes(), member.build()):
        for loss in ("ce", "dlr"):
            options = {"steps": _STEPS, "loss": loss}
            attack = Attack(name="APGD", norm="linf", eps=eps, options=options)
            network = ForeignClassifier(Loaded(model=victim), num_classes=CLASSES, origin=member.name)
            yield run(Victim(network, None), attack, images, labels, CLASSES).images


@torch.no_grad()
def _share_right(member: Member, images: Tensor, labels: Tensor) -> Tensor:
    """Compute the share of fresh instances that are right about each image, (N,)."""
    torch.manual_seed(0)
    draws = _DRAWS if member.kind == "randomness" else 1
    return torch.stack([(member.build()(images).argmax(1) == labels).float() for _ in range(draws)]).mean(0)


def read_bounds() -> dict[str, dict[str, float]]:
    """Read the stored clean and robust accuracies by name."""
    return json.loads(BOUNDS.read_text())["members"]


def main(names: list[str]) -> None:
    """Bound ``names``, or all, and store them with the others."""
    images, labels = load_shapes()
    known = read_bounds() if BOUNDS.is_file() and names else {}
    for name in names or list(ZOO):
        clean, robust = bound(ZOO[name], images, labels)
        known[name] = {"clean": round(clean, 4), "robust": round(robust, 4)}
        print(f"{name:16} clean {clean:6.1%}  robust at most {robust:6.1%}", flush=True)
        _write({name: known[name] for name in ZOO if name in known})


def _write(members: dict[str, dict[str, float]]) -> None:
    about = {"command": "PYTHONPATH=tests python -m redteam.bounds", "n": N, "eps": "4/255", "norm": "linf"}
    lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(value)}" for name, value in members.items())
    head = json.dumps(about, ensure_ascii=False)[:-1]
    BOUNDS.write_text(f'{head}, "members": {{\n{lines}\n}}}}\n')


if __name__ == "__main__":
    main(sys.argv[1:])
