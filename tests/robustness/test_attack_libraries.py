"""Agreement with torchattacks and pyautoattack, and what they are given."""

from __future__ import annotations

import hashlib
import inspect
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from attacked import CPU, SHAPE, Linear, Marked, TinyConvolution, curved_problem, marked_problem, run, small_victim
from torch import Tensor, nn

from data_prep import load_images
from data_prep.errors import InputError
from robustness.attack import Attack
from robustness.attack_kinds import kind_of
from robustness.measure.autoattack import LIBRARY_NORMS
from robustness.measure.cells import Adversary
from robustness.measure.craft import craft, distance
from robustness.measure.full_batches import _try_targets, perturb_by_apgd, perturb_by_fab, run_square
from robustness.measure.loaders.loaded import Wanted
from robustness.measure.pgd import pgd
from robustness.measure.stages import list_stages
from robustness.measure.subjects import load_subjects
from robustness.measure.victims import Victim
from robustness.measure.watchers import Watcher
from robustness.which_lam import WhichLam
from sdnet_core.adversarial import frozen
from sdnet_core.augment import to_images

REPLACED = {
    "APGDAttack.attack_single_run": "6b4bb9bb68306653",
    "APGDAttack_targeted.perturb": "5dae406264b31757",
    "FABAttack.attack_single_run": "90afcafb3cd6def2",
    "FABAttack.perturb": "e9d2190a82f510e2",
    "FABAttack_PT._get_predicted_label": "b750d74771a8f68d",
    "FABAttack_PT._predict_fn": "21622f57a2cb5af7",
    "SquareAttack.attack_single_run": "bbb4652b0b745d9c",
}
"""First digits of the SHA-256 of the methods of pyautoattack that this project replaces or steers."""


def test_the_replaced_methods_of_pyautoattack_are_those_of_the_pinned_version():
    """For another version, compare the methods with ours first: autoattack.py, full_batches.py, watchers.py."""
    from pyautoattack import autopgd_base, fab_base, fab_pt, square

    root = Path(__file__).parents[2]
    pin = f"pyautoattack=={metadata.version('pyautoattack')}"
    assert pin in (root / "constraints.txt").read_text().splitlines()
    assert f'"{pin}"' in (root / "pyproject.toml").read_text()
    places = [vars(module) for module in (autopgd_base, fab_base, fab_pt, square)]
    for name, digits in REPLACED.items():
        owner, _, method = name.partition(".")
        (kind,) = {place[owner] for place in places if owner in place}
        found = hashlib.sha256(inspect.getsource(vars(kind)[method]).encode()).hexdigest()
        assert found.startswith(digits), name


def ask_pyautoattack(model, images, labels, *, norm="linf", eps, queries, batch_size=100, **options):
    """Which images are right after AutoAttack of pyautoattack, (N,)."""
    from pyautoattack import AutoAttack

    theirs = AutoAttack(model, norm=LIBRARY_NORMS[norm], eps=eps, seed=0, **options)
    theirs.square.n_queries, theirs.apgd_targeted.n_target_classes, theirs.fab.n_target_classes = queries, 4, 4
    found, _ = theirs.run_standard_evaluation(images, labels, batch_size=batch_size)
    return model(found).argmax(1) == labels


@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.02), ("l2", 0.12)])
def test_autoattack_agrees_with_pyautoattack_to_the_image(norm, eps):
    model, images, labels = curved_problem(16)
    ours = run(model, Attack(name="autoattack", norm=norm, eps=eps, queries=50, batch_size=8), images, labels, 5)
    robust = ask_pyautoattack(model, images, labels, norm=norm, eps=eps, queries=50, batch_size=8)
    assert torch.equal(ours.robust, robust)
    assert 2 < robust.sum() < 14, "the budget should break some images and not others"


@pytest.mark.slow
def test_attacks_on_a_shipped_model_agree_with_pyautoattack_to_the_image():
    """Through λ, the fused solver and the channels-last layout: light parts on a few images."""
    (subject,) = load_subjects(("sdnet18-shapes",), Wanted(num_classes=10), device=CPU)
    shapes = load_images("shapes", split="test").subset(4)
    images = to_images(torch.from_numpy(np.array(shapes.pixels))).contiguous()
    labels = torch.from_numpy(np.array(shapes.labels))
    victim, eps = Victim(subject.network, subject.lam), 2 / 255
    with frozen(subject.network):
        right = victim(images).argmax(1) == labels
        images, labels = images[right], labels[right]
        parts = ("apgd-ce", "square")
        custom = Attack(name="autoattack", norm="linf", eps=eps, version="custom", parts=parts, queries=30)
        ours = run(victim, custom, images, labels, 10).robust
        options = {"version": "custom", "attacks": list(parts)}
        assert torch.equal(ours, ask_pyautoattack(victim, images, labels, eps=eps, queries=30, **options))
        assert 0 < ours.sum() < len(labels), "the budget should break some images and not others"


def test_autoattack_that_is_not_left_early_fools_other_models_more_often():
    """The same robust images on the victim itself; what only just fools it is harmless elsewhere."""
    model, images, labels = curved_problem()
    attack = Attack(name="autoattack", norm="linf", eps=0.1, version="custom", parts=("apgd-ce",))
    found = {
        early: craft(
            model,
            list_stages(attack, model, num_classes=5, seed=0, leave_early=early),
            images,
            labels,
            **{"norm": "linf", "eps": 0.1, "batch_size": 24, "seed": 0, "device": CPU},
        )
        for early in (True, False)
    }
    assert not found[True].robust.any()
    assert not found[False].robust.any()
    other = TinyConvolution()
    with torch.no_grad():
        other.linear.weight += 0.05 * torch.randn(other.linear.weight.shape, generator=torch.Generator().manual_seed(2))
    standing = {early: int((other(crafted.images).argmax(1) == labels).sum()) for early, crafted in found.items()}
    assert standing[False] < standing[True]


def test_one_lucky_wrong_answer_of_a_stochastic_model_does_not_end_an_attack():
    """The model is wrong every third time that it is asked, whatever it is shown."""

    class Moody(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.asked = 0

        def forward(self, images: Tensor) -> Tensor:
            self.asked += 1
            return torch.tensor([[0.0, 1.0] if self.asked % 3 == 0 else [1.0, 0.0]]).repeat(len(images), 1)

    watcher, labels = Watcher(Moody()), torch.zeros(4, dtype=torch.int64)
    images = torch.rand(4, *SHAPE)
    with watcher.watching_within(images, labels, "linf", 1.0):
        for _ in range(7):
            watcher(images)
    assert watcher.model.asked > 7, "it was asked again, and not left"


def test_standard_autoattack_has_its_four_parts_in_their_order():
    victim, _, _ = small_victim()
    stages = list_stages(Attack(name="autoattack", norm="linf", eps=0.01), victim, num_classes=10, seed=0)
    assert [stage.name for stage in stages] == ["apgd-ce", "apgd-t", "fab-t", "square"]


@pytest.mark.parametrize("part", ["apgd-ce", "fab-t", "square"])
def test_parts_of_autoattack_find_what_pyautoattacks_find_in_fewer_and_fuller_batches(part):
    model, images, labels = curved_problem(16, seed=3)
    eps = 0.04 if part == "square" else 0.015
    asked: list[int] = []
    model.register_forward_hook(lambda _module, inputs, _output: asked.append(len(inputs[0])))
    attack = Attack(name="autoattack", norm="linf", eps=eps, version="custom", parts=(part,), queries=400)
    ours = run(model, attack, images, labels, 5).robust
    questions, calls = sum(asked), len(asked)
    asked.clear()
    theirs = ask_pyautoattack(model, images, labels, eps=eps, queries=400, version="custom", attacks=[part])
    assert torch.equal(ours, theirs)
    assert 2 < ours.sum() < 14, "the budget should break some images and not others"
    if part == "square":
        assert calls < 0.4 * len(asked)
    else:
        assert questions < 0.9 * sum(asked)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("part", ["apgd-t", "fab-t"])
def test_several_target_classes_at_a_time_find_the_images_of_one_after_the_other(part, norm):
    """The same random starts although images fall on the way: what pyautoattack returns, to rounding."""
    from pyautoattack import AutoAttack

    (model, images, labels), eps = curved_problem(12, seed=4), {"linf": 0.012, "l2": 0.09}[norm]
    calls = {}
    for most in (1, 12, 100):
        ensemble = AutoAttack(model, norm=LIBRARY_NORMS[norm], eps=eps, seed=0)
        search = ensemble.apgd_targeted if part == "apgd-t" else ensemble.fab
        search.n_iter, search.n_target_classes, search.targeted = 20, 4, True
        with torch.no_grad():
            theirs = search.perturb(images, labels)
        asked = []
        hook = model.register_forward_hook(lambda *_: asked.append(1))  # noqa: B023
        if part == "apgd-t":
            ours = perturb_by_apgd(search, images, labels, most=most)
        else:
            ours = perturb_by_fab(search, images, labels, norm=norm, most=most)
        hook.remove()
        calls[most] = len(asked)
        assert (ours - theirs).abs().max() < 1e-4
    moved = (theirs != images).flatten(1).any(1).sum()
    assert 2 < moved < 10, "the budget should break some images and not others"
    assert calls[100] < calls[1]


def test_images_that_fall_on_the_way_change_no_random_number_of_the_others():
    """Image i falls when class i + 2 is the target, with one class at a time or with all of them together."""
    search = SimpleNamespace(n_target_classes=5, seed=0)
    images = torch.arange(6.0)[:, None, None, None].expand(6, *SHAPE)
    logits = torch.tensor([9.0, 5, 4, 3, 2, 1]).expand(6, 6)

    def attempt(images, labels, targets, drawn):
        return images + drawn, images[:, 0, 0, 0] == targets - 2

    def find(most):
        given = (lambda _: logits, attempt, torch.rand, images, torch.zeros(6, dtype=torch.long))
        return _try_targets(search, *given, most)

    torch.testing.assert_close(find(100), find(1), rtol=0, atol=0)
    assert (find(1) != images).flatten(1).any(1).tolist() == [True] * 4 + [False] * 2


def test_autoattack_in_l1_stays_within_its_budget_and_breaks_images():
    model, images, labels = curved_problem(4)
    attack = Attack(name="autoattack", norm="l1", eps=6.0, version="custom", parts=("apgd-ce", "square"), queries=20)
    found = run(model, attack, images, labels, 5)
    assert not found.dropped.any()
    assert not found.robust.all()
    assert (distance(found.images, images, "l1") <= 6 * (1 + 1e-5)).all()


def test_square_gives_the_images_of_pyautoattack():
    from pyautoattack.square import SquareAttack

    model, images, labels = curved_problem(9, seed=3)
    search = SquareAttack(model, norm="Linf", n_queries=150, eps=0.03, seed=5, resc_schedule=False, device=CPU)
    search.init_hyperparam(images)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        _, theirs = search.attack_single_run(images, labels)
        torch.manual_seed(0)
        _, ours = run_square(search, images, labels, most=40)
    assert torch.equal(ours, theirs)


@pytest.mark.parametrize(
    ("classes", "parts"), [(2, ["apgd-ce", "fab-t", "square"]), (3, ["apgd-ce", "apgd-dlr", "fab-t", "square"])]
)
def test_autoattack_runs_with_fewer_classes_than_the_dlr_loss_needs(classes, parts):
    """Trap 8."""
    torch.manual_seed(0)
    model = Linear(torch.randn(SHAPE), classes)
    images = torch.rand(6, *SHAPE)
    labels = model(images).argmax(1).detach()
    attack = Attack(name="autoattack", norm="linf", eps=0.3, queries=20)
    stages = list_stages(attack, model, num_classes=classes, seed=0)
    assert [stage.name for stage in stages] == parts
    assert not run(model, attack, images, labels, classes).robust.any()
    custom = Attack(name="autoattack", norm="linf", eps=0.3, version="custom", parts=("apgd-t",))
    with pytest.raises(InputError, match=f"apgd-t is not defined for {classes} classes"):
        list_stages(custom, model, num_classes=classes, seed=0)


@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.02), ("l2", 0.12)])
def test_pgd_takes_the_steps_of_torchattacks_on_a_model_without_doubts_and_keeps_what_was_wrong_on_the_way(norm, eps):
    import torchattacks

    model, images, labels = curved_problem()
    kind = torchattacks.PGD if norm == "linf" else torchattacks.PGDL2
    with torch.random.fork_rng():
        torch.manual_seed(0)
        ours = pgd(model, images, labels, norm=norm, eps=eps, steps=5)
        torch.manual_seed(0)
        theirs = kind(model, eps=eps, alpha=2.5 * eps / 5, steps=5)(images, labels)
    robust, robust_theirs = model(ours).argmax(1) == labels, model(theirs).argmax(1) == labels
    assert 2 < robust.sum() < 22, "the budget should break some images and not others"
    same = robust | ~robust_theirs
    torch.testing.assert_close(ours[same], theirs[same])
    assert not (robust & ~robust_theirs).any()


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_networks_in_the_channels_last_layout_can_be_attacked(norm):
    victim, images, labels = small_victim("sdnet18", 0.1)
    victim.network.to(memory_format=torch.channels_last)
    run(victim, Attack(name="pgd", norm=norm, eps=0.01, steps=2), images, labels)
    parts = ("apgd-ce", "square")
    attack = Attack(name="autoattack", norm=norm, eps=1e-3, version="custom", parts=parts, queries=3)
    run(victim, attack, images[:2], labels[:2], 10)


def test_other_attacks_of_torchattacks_go_by_name():
    victim, images, labels = small_victim()
    crafted = run(victim, Attack(name="FGSM", norm="linf", eps=8 / 255), images, labels)
    assert distance(crafted.images, images, "linf").max() == pytest.approx(8 / 255, abs=1e-6)
    with pytest.raises(InputError, match="got 'FGSMM'; choose one of them"):
        run(victim, Attack(name="FGSMM", norm="linf", eps=0.1), images, labels)
    with pytest.raises(InputError, match="attack PGDL2: expected norm = 'l2', in which it searches, got 'linf'"):
        run(victim, Attack(name="PGDL2", norm="linf", eps=0.03), images, labels)
    with pytest.raises(InputError, match="attack FGSM: expected norm = 'linf', in which it searches, got 'l2'"):
        run(victim, Attack(name="FGSM", norm="l2", eps=0.3), images, labels)
    two = Linear(torch.randn(SHAPE))
    for name, options, message in [
        ("MIFGSM", {"steps": 0}, "expected option steps as a whole number ≥ 1, got 0; correct"),
        ("MIFGSM", {"decay": "much"}, "expected option decay as a finite number, got 'much'; correct"),
        ("PGD", {"random_start": 1}, "expected option random_start as bool, got 1"),
        ("TIFGSM", {"kernel_name": "round"}, "expected options that TIFGSM takes, got"),
        ("APGDT", {}, "expected at least 4 classes for its loss, got a model of 2"),
        ("APGD", {"loss": "dlr"}, "expected at least 3 classes for its loss, got a model of 2"),
    ]:
        with pytest.raises(InputError, match=message):
            list_stages(Attack(name=name, norm="linf", eps=0.1, options=options), two, num_classes=2, seed=0)
    with pytest.raises(InputError, match=r"attack FGSM: expected options among .*, got stepz"):
        run(victim, Attack(name="FGSM", norm="linf", eps=0.1, options={"stepz": 3}), images, labels)


@pytest.mark.parametrize("name", ["PIFGSM", "PIFGSMPP"])
def test_attacks_that_call_their_budget_otherwise_are_given_it_too(name):
    victim, images, labels = small_victim()
    crafted = run(victim, Attack(name=name, norm="linf", eps=2 / 255), images, labels, 10)
    assert not crafted.dropped.any()
    assert distance(crafted.images, images, "linf").max() == pytest.approx(2 / 255, abs=1e-6)


def test_models_without_parameters_can_be_attacked():
    images, labels = marked_problem(4)
    attack = Attack(name="autoattack", norm="linf", eps=1.0, version="custom", parts=("square",), queries=300)
    assert not run(Marked(), attack, images, labels).robust.all()


def test_apgdt_takes_as_many_targets_as_the_model_has_other_classes():
    model, images, labels = curved_problem(3)
    attack = Attack(name="APGDT", norm="linf", eps=0.3, options={"steps": 2})
    assert not run(model, attack, images, labels, 5).robust.any()


@pytest.mark.parametrize("elsewhere", [True, False])
def test_images_of_autoattack_depend_on_pgd_only_where_they_are_shown_elsewhere(elsewhere, monkeypatch):
    """There PGD moves what is left clean: another version is another cell."""
    attack = Attack(name="autoattack", norm="l2", eps=0.5)
    adversary = Adversary(attack=attack, crafted_for=WhichLam.of(0.1), probe_images=0, shown_elsewhere=elsewhere)
    before = adversary.identity()
    monkeypatch.setattr(kind_of("pgd"), "version", 99)
    assert (adversary.identity() != before) == elsewhere


def test_the_seed_of_a_run_reaches_attacks_with_a_generator_of_their_own():
    """torchattacks' Square resets its generator to a seed of its own: without it every seed is the same attack."""
    model, images, labels = curved_problem(4)
    attack = Attack(name="Square", norm="linf", eps=0.3, options={"n_queries": 2})
    found = [list_stages(attack, model, num_classes=5, seed=seed)[0].perturb(images, labels) for seed in (0, 0, 7)]
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])
