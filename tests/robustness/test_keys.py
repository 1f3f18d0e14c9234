"""Cell keys stay byte for byte: what was measured and published is still found done."""

from __future__ import annotations

import numpy as np
import pytest

from data_prep import load_images
from robustness.attack import Attack
from robustness.laws import FittedLaw
from robustness.measure import cells, probes
from robustness.measure.plan import plan_attacks, plan_tasks
from robustness.measure.subjects import Subject
from robustness.measure.tasks import AttackTask
from robustness.policies import ResidualLaw
from robustness.suite import Suite
from sdnet_core import build_model

KEYS = {
    "sdnet clean 0 0.15  - -": "56dbaeb87f4f9e049ec366bf23dbfec839c70d8cbe4a48283711db23ac16cf86",
    "sdnet clean 0 None residual - -": "0c007a326895fd20567809db14cb2ae606b0ea57896102a186aa36c77aac198b",
    "sdnet gaussian_noise 5 0.25  - -": "72d8bd760b6dabb4f49c4b21f8f884e6b817690401da1255485a32b2f7e90977",
    "resnet contrast 1 None  - -": "ae58a6512db112d5d45355788b6a68d9845eb7b2cd63682cff2e169f2bf84c02",
    "sdnet pgd 0 0.1  0.1 ": "fd0aa08a5b432cffe4b53fa5abaad50a95081b371c5064145cea4bd97a9f2c85",
    "sdnet pgd 0 None residual 0.25 ": "95aecfad255a906ffb4bf740d9ccac3ed8d242e9df4ae9220128a318d809f0bb",
    "sdnet pgd 0 0.15  None residual": "70bea2fd1184bf3b5dd4ca77c632a29bc6b9e1fc749ad9eac5682f0658f966b1",
    "sdnet pgd 0 None residual None residual": "41cdca9db8e0f9de9eb66144609e7eb19853c7aa46b23d04784fe06e145950bb",
    "resnet pgd 0 None  None ": "cad8193fd4c71d03a488326b465b3e73f3cfbf30c2d3814b208d63cc91eb6b05",
    "sdnet λ=0.15 pgd L∞ 2/255": "6033df5c3b954d5f91e07c95dd625ac41ce77d40e455733aebd38ac0e4a80428",
    "sdnet residual λ pgd L∞ 2/255": "93cf748245a7b30f8e3dcccd22c84c3a0d439788b11f231a9757fa03a7d34bf1",
    "resnet pgd L∞ 2/255": "a58a8dda8d53cc1eba3d500e0a297c246acdcfebc773a72e6c860b5c25625e47",
}
"""Computed by the release before λ became a type of its own."""


def list_keys(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The keys of a small grid, by what its cells are; what attacks and libraries say of themselves is held still."""
    monkeypatch.setattr(cells, "library_of", lambda _: "library 1")
    monkeypatch.setattr(probes, "probe_libraries", lambda _: ["library 1"])
    monkeypatch.setattr(probes, "VERSION", 1)
    monkeypatch.setattr(Attack, "identity", lambda self: {"name": self.name, "norm": self.norm, "eps": self.eps})
    images = load_images("shapes", split="test").subset(8)
    sizes = {"width": 2, "num_classes": len(images.classes), "image_size": 32}
    law = FittedLaw(ResidualLaw(0.01, 0.05, 0.1, 0.4), None, (), {})
    subjects = [
        Subject("sdnet", build_model("sdnet18", lam=0.15, **sizes), "a" * 64, {}, law),
        Subject("resnet", build_model("resnet18", **sizes), "b" * 64, {}),
    ]
    suite = Suite(
        name="keys",
        data="shapes",
        corruptions=("gaussian_noise", "contrast"),
        severities=(1, 5),
        models=("a",),
        lambdas=(0.1, 0.25),
        attacks=(Attack(name="pgd", norm="linf", eps=2 / 255),),
        probe_images=20,
    )
    tasks, attacks = plan_tasks(suite, subjects, images, archive=None), plan_attacks(suite, subjects, images)
    keys = {task.title: task.key for task in attacks}
    for cell in (cell for task in (*tasks, *attacks) for cell in task.cells):
        row = cell.row()
        fields = ("model", "perturbation", "severity", "lam", "policy", "crafted_lam", "crafted_policy")
        keys[" ".join(str(row.get(name, "-")) for name in fields)] = cell.key
    return keys


def test_keys_are_those_of_the_first_release(monkeypatch):
    keys = list_keys(monkeypatch)
    assert {name: keys.get(name) for name in KEYS} == KEYS


def plan_probed(subjects: list[Subject], *, side: int) -> dict[str, AttackTask]:
    """The attack on each model, by its name, on grey images of so many pixels a side."""
    pixels, labels = np.full((8, side, side, 3), 128, np.uint8), np.arange(8) % 10
    images = load_images((pixels, labels), classes=tuple("abcdefghij"))
    attack = Attack(name="pgd", norm="linf", eps=2 / 255)
    suite = Suite(name="s", data="d", corruptions=(), models=("m",), attacks=(attack,), threats=("whitebox",))
    return {task.subject.name: task for task in plan_attacks(suite, subjects, images)}


def test_other_models_of_the_run_are_in_the_key_where_they_are_donors():
    """No network is shipped for images of 40 pixels, so that the marks depend on which models help."""
    first, second, third, fourth = (
        Subject(name, build_model("resnet18", width=2, num_classes=10, image_size=40), name * 64, {}) for name in "abcd"
    )
    alone, pair = plan_probed([first], side=40)["a"], plan_probed([first, second], side=40)["a"]
    assert alone.perturbation.donors == ()
    assert pair.perturbation.donors == (second,)
    assert pair.key == alone.key, "the adversarial images are the same"
    assert pair.cells[0].key != alone.cells[0].key
    many = [plan_probed([first, second, third, *more], side=40)["a"].cells[0].key for more in ([], [fourth])]
    assert many[0] == many[1], "two donors are enough"
    for models in ([first], [first, second]):
        assert plan_probed(models, side=32)["a"].perturbation.donors == ()
