"""Attacks: closed forms, agreement with the libraries, what an attacker sees, resumption, storage."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from data_prep import load_images
from data_prep.arrays import write_arrays
from data_prep.errors import InputError
from robustness.attack import Attack, read_attacks, replace_eps
from robustness.measure import craft as craft_module
from robustness.measure.adversarial import AdversarialSet, encode
from robustness.measure.craft import Crafted, craft, distance
from robustness.measure.journal import Journal
from robustness.measure.stages import Stage, list_stages
from robustness.measure.subjects import load_subjects
from robustness.measure.victims import Victim, choose_lam
from robustness.policies import ResidualLaw
from robustness.suite import Suite
from sdnet_core import build_model, weights_fingerprint
from sdnet_core.adversarial import frozen
from sdnet_core.augment import to_images

CPU = torch.device("cpu")
SHAPE = (3, 8, 8)


class Linear(nn.Module):
    """Two classes with logits ∓⟨w, x − ½⟩: the sign of the inner product decides."""

    def __init__(self, weight: Tensor, classes: int = 2) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)
        self.classes = classes
        self.training = False

    def forward(self, images: Tensor) -> Tensor:
        margin = ((images - 0.5) * self.weight).flatten(1).sum(1)
        others = torch.full((len(images), self.classes - 2), -50.0)
        return torch.cat([torch.stack([-margin, margin], 1), others], 1)


def linear_problem(n: int = 40) -> tuple[Linear, Tensor, Tensor, Tensor]:
    """A linear model, images away from 0 and 1, their labels, and margins |⟨w, x − ½⟩|."""
    generator = torch.Generator().manual_seed(0)
    model = Linear(torch.randn(SHAPE, generator=generator))
    images = 0.5 + 0.1 * (torch.rand((n, *SHAPE), generator=generator) - 0.5)
    margin = ((images - 0.5) * model.weight.detach()).flatten(1).sum(1)
    return model, images, (margin > 0).long(), margin.abs()


def run(
    model: nn.Module, attack: Attack, images: Tensor, labels: Tensor, classes: int = 2, **options: object
) -> Crafted:
    stages = list_stages(attack, model, num_classes=classes, seed=0)
    settings = {"norm": attack.norm, "eps": attack.eps, "batch_size": attack.batch_size, "seed": 0, "device": CPU}
    return craft(model, stages, images, labels, **{**settings, **options})


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_pgd_breaks_a_linear_model_exactly_where_the_closed_form_says(norm):
    """Trap 5: the smallest perturbation is |⟨w, x − ½⟩| / ‖w‖ in the dual norm."""
    model, images, labels, margin = linear_problem()
    weight = model.weight.detach().flatten()
    smallest = margin / (weight.abs().sum() if norm == "linf" else weight.norm())
    for eps in smallest.quantile(torch.tensor([0.2, 0.5, 0.8])).tolist():
        attack = Attack(name="pgd", norm=norm, eps=eps, steps=40)
        crafted = run(model, attack, images, labels)
        clear = (smallest / eps - 1).abs() > 1e-3
        assert torch.equal(crafted.robust[clear], (smallest > eps)[clear])
        assert (distance(crafted.images, images, norm) <= eps + 1e-6).all()
        assert crafted.images.min() >= 0
        assert crafted.images.max() <= 1


def test_images_that_are_wrong_from_the_start_are_not_attacked():
    model, images, labels, _ = linear_problem()
    labels[::4] = 1 - labels[::4]
    crafted = run(model, Attack(name="pgd", norm="linf", eps=0.05), images, labels)
    assert not crafted.attacked[::4].any()
    assert not crafted.robust[::4].any()
    assert torch.equal(crafted.images[::4], images[::4])


def half_breaker(half: int) -> Stage:
    """Breaks the images whose index, written into their first pixel, is even or odd."""

    def perturb(images: Tensor, labels: Tensor) -> Tensor:
        moved = images.clone()
        chosen = (images[:, 0, 0, 0] * 1000).round().long() % 2 == half
        moved[chosen, 0, 0, 1] = 1.0
        return moved

    return Stage(f"half-{half}", perturb)


class Marked(nn.Module):
    """Answers 1 where the second pixel is 1, otherwise 0."""

    def forward(self, images: Tensor) -> Tensor:
        return torch.stack([torch.full((len(images),), 0.5), images[:, 0, 0, 1]], 1)


def marked_problem(n: int = 20) -> tuple[Tensor, Tensor]:
    images = torch.zeros((n, *SHAPE))
    images[:, 0, 0, 0] = torch.arange(n) / 1000
    return images, torch.zeros(n, dtype=torch.int64)


def test_attacks_that_break_disjoint_halves_leave_nothing():
    """Trap 8: the worst case is taken image by image, not attack by attack."""
    images, labels = marked_problem()
    options = {"norm": "linf", "eps": 1.0, "batch_size": 7, "seed": 0, "device": CPU}
    one = craft(Marked(), [half_breaker(0)], images, labels, **options)
    both = craft(Marked(), [half_breaker(0), half_breaker(1)], images, labels, **options)
    assert one.robust.float().mean() == 0.5
    assert both.robust.float().mean() == 0
    assert both.broken_by.tolist() == [0, 1] * 10


def test_an_attempt_outside_the_budget_is_no_attempt_and_is_recorded():
    images, labels = marked_problem()
    options = {"norm": "linf", "eps": 0.5, "batch_size": 7, "seed": 0, "device": CPU}
    stage = half_breaker(0)
    crafted = craft(Marked(), [stage, half_breaker(1)], images, labels, **options)
    assert crafted.robust.all()
    assert torch.equal(crafted.images, images)
    assert crafted.dropped.all(), "by one stage or the other"
    assert craft(Marked(), [stage], images, labels, **options).dropped.tolist() == [True, False] * 10
    smallest = Stage("smallest", stage.perturb, knows_budget=False)
    assert not craft(Marked(), [smallest], images, labels, **options).dropped.any()


def test_a_killed_attack_goes_on_at_its_next_batch(tmp_path, monkeypatch):
    """Every batch is kept; the resumed result is the undisturbed one, random starts included."""
    model, images, labels, _ = linear_problem()
    attack = Attack(name="pgd", norm="linf", eps=0.01, steps=3, restarts=2, batch_size=9)
    expected: list[tuple[str, int]] = []
    whole = run(model, attack, images, labels, progress=lambda *step: expected.append(step))
    made: list[int] = []
    attempt = craft_module._attempt
    monkeypatch.setattr(craft_module, "_attempt", lambda *a, **k: (made.append(1), attempt(*a, **k))[1])

    def stop(stage: str, n: int) -> None:
        if len(made) == 3:
            raise KeyboardInterrupt

    journal = Journal(tmp_path / "journal")
    with pytest.raises(KeyboardInterrupt):
        run(model, attack, images, labels, journal=journal, progress=stop)
    seen: list[tuple[str, int]] = []
    resumed = run(model, attack, images, labels, journal=journal, progress=lambda *step: seen.append(step))
    assert torch.equal(resumed.images, whole.images)
    assert torch.equal(resumed.robust, whole.robust)
    assert torch.equal(resumed.broken_by, whole.broken_by)
    assert seen == expected
    assert len(made) == len(expected), "no batch was attacked twice"


@pytest.mark.parametrize("damage", ["cut", "flipped", "of other images"])
def test_a_damaged_batch_is_attacked_again_and_no_other(damage, tmp_path, monkeypatch):
    model, images, labels, _ = linear_problem()
    attack = Attack(name="pgd", norm="linf", eps=0.01, steps=3, restarts=2, batch_size=9)
    journal = Journal(tmp_path / "journal")
    whole = run(model, attack, images, labels, journal=journal)
    first, second, *_ = sorted(journal.folder.iterdir())
    content = bytearray(first.read_bytes())
    content[len(content) // 2] ^= 0x10
    first.write_bytes(
        {"cut": first.read_bytes()[:100], "flipped": content, "of other images": second.read_bytes()}[damage]
    )
    made: list[int] = []
    attempt = craft_module._attempt
    monkeypatch.setattr(craft_module, "_attempt", lambda *a, **k: (made.append(1), attempt(*a, **k))[1])
    assert torch.equal(run(model, attack, images, labels, journal=journal).images, whole.images)
    assert len(made) == 1
    assert len(list(journal.folder.iterdir())) > 1


def test_what_a_journal_takes_grows_with_the_batches_and_not_with_their_number_squared(tmp_path, monkeypatch):
    """Every image is written once per stage that attacks it."""
    model, images, labels, _ = linear_problem()
    run(model, Attack(name="pgd", norm="linf", eps=1e-4, batch_size=2), images, labels, journal=Journal(tmp_path / "j"))
    files = list((tmp_path / "j").iterdir())
    assert len(files) > 5
    assert sum(file.stat().st_size for file in files) < images.numpy().nbytes + 2000 * len(files)


def test_an_attack_leaves_the_global_generator_as_it_was():
    model, images, labels, _ = linear_problem(4)
    before = torch.random.get_rng_state()
    run(model, Attack(name="pgd", norm="linf", eps=0.01), images, labels)
    assert torch.equal(torch.random.get_rng_state(), before)


def small_victim(arch: str = "resnet18", lam: float | None = None, classes: int = 10) -> tuple[Victim, Tensor, Tensor]:
    """An untrained small network and images of the classes that it answers: right on all of them."""
    torch.manual_seed(0)
    network = build_model(arch, width=4, num_classes=classes).eval()
    images = torch.from_numpy(load_images("shapes", split="test").pixels[:12]).permute(0, 3, 1, 2).float() / 255
    images = images.contiguous()
    with torch.no_grad():
        network.linear.bias -= network(images).mean(0)
    victim = Victim(network, lam)
    return victim, images, victim(images).argmax(1).detach()


class TinyConvolution(nn.Module):
    """Five classes from 8 × 8 pixels: as cheap as a model with a curved boundary can be."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.convolution, self.linear = nn.Conv2d(3, 8, 3), nn.Linear(8 * 36, 5)
        self.training = False

    def forward(self, images: Tensor) -> Tensor:
        return self.linear(self.convolution(images).relu().flatten(1))


@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.02), ("l2", 0.12)])
def test_autoattack_agrees_with_pyautoattack_to_the_image(norm, eps):
    from pyautoattack import AutoAttack

    model = TinyConvolution()
    images = torch.rand(16, *SHAPE, generator=torch.Generator().manual_seed(1))
    labels = model(images).argmax(1).detach()
    ours = run(model, Attack(name="autoattack", norm=norm, eps=eps, queries=50, batch_size=8), images, labels, 5)
    theirs = AutoAttack(model, norm={"linf": "Linf", "l2": "L2"}[norm], eps=eps, seed=0)
    theirs.square.n_queries, theirs.apgd_targeted.n_target_classes, theirs.fab.n_target_classes = 50, 4, 4
    found, _ = theirs.run_standard_evaluation(images, labels, batch_size=8)
    robust = model(found).argmax(1) == labels
    assert torch.equal(ours.robust, robust)
    assert 2 < robust.sum() < 14, "the budget should break some images and not others"


def test_attacks_on_a_shipped_model_agree_with_the_libraries_to_the_image():
    """Through λ, the fused solver and the channels-last layout: light parts on a few images."""
    import torchattacks
    from pyautoattack import AutoAttack

    (subject,) = load_subjects(("sdnet18-shapes",), num_classes=10, device=CPU)
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
        theirs = AutoAttack(victim, norm="Linf", eps=eps, version="custom", attacks=list(parts), seed=0)
        theirs.square.n_queries = 30
        found, _ = theirs.run_standard_evaluation(images, labels, batch_size=100)
        assert torch.equal(ours, victim(found).argmax(1) == labels)
        assert 0 < ours.sum() < len(labels), "the budget should break some images and not others"

        pgd = run(victim, Attack(name="pgd", norm="linf", eps=eps, steps=10), images, labels, 10)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            moved = torchattacks.PGD(victim, eps=eps, alpha=eps / 4, steps=10)(images, labels)
        torch.testing.assert_close(pgd.images, moved)
        assert torch.equal(pgd.robust, victim(moved).argmax(1) == labels)


def test_standard_autoattack_has_its_four_parts_in_their_order():
    victim, _, _ = small_victim()
    stages = list_stages(Attack(name="autoattack", norm="linf", eps=0.01), victim, num_classes=10, seed=0)
    assert [stage.name for stage in stages] == ["apgd-ce", "apgd-t", "fab-t", "square"]


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


@pytest.mark.parametrize(("norm", "eps"), [("linf", 2 / 255), ("l2", 0.2)])
def test_pgd_agrees_with_torchattacks_to_the_image(norm, eps):
    import torchattacks

    victim, images, labels = small_victim()
    ours = run(victim, Attack(name="pgd", norm=norm, eps=eps, steps=5, batch_size=12), images, labels)
    kind = torchattacks.PGD if norm == "linf" else torchattacks.PGDL2
    with torch.random.fork_rng():
        torch.manual_seed(0)
        theirs = kind(victim, eps=eps, alpha=2.5 * eps / 5, steps=5)(images, labels)
    torch.testing.assert_close(ours.images, theirs)
    assert torch.equal(ours.robust, victim(theirs).argmax(1) == labels)


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
    with pytest.raises(InputError, match="no attack 'FGSMM'"):
        run(victim, Attack(name="FGSMM", norm="linf", eps=0.1), images, labels)
    with pytest.raises(InputError, match="PGDL2 searches in l2"):
        run(victim, Attack(name="PGDL2", norm="linf", eps=0.03), images, labels)
    with pytest.raises(InputError, match="FGSM searches in linf"):
        run(victim, Attack(name="FGSM", norm="l2", eps=0.3), images, labels)
    two = Linear(torch.randn(SHAPE))
    for name, options, message in [
        ("MIFGSM", {"steps": 0}, "option steps must be a whole number ≥ 1; got 0"),
        ("MIFGSM", {"decay": "much"}, "option decay must be a finite number; got 'much'"),
        ("PGD", {"random_start": 1}, "option random_start must be bool"),
        ("TIFGSM", {"kernel_name": "round"}, "TIFGSM does not take these options"),
        ("APGDT", {}, "its loss needs 4 classes and the model has 2"),
        ("APGD", {"loss": "dlr"}, "its loss needs 3 classes and the model has 2"),
    ]:
        with pytest.raises(InputError, match=message):
            list_stages(Attack(name=name, norm="linf", eps=0.1, options=options), two, num_classes=2, seed=0)
    with pytest.raises(InputError, match="FGSM has no option stepz"):
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
    images = torch.rand(3, *SHAPE, generator=torch.Generator().manual_seed(1))
    model = TinyConvolution()
    labels = model(images).argmax(1).detach()
    attack = Attack(name="APGDT", norm="linf", eps=0.3, options={"steps": 2})
    assert not run(model, attack, images, labels, 5).robust.any()


def test_a_whitebox_attack_sees_the_evaluated_lambda_and_no_other(monkeypatch):
    """Trap 4."""
    victim, images, labels = small_victim("sdnet18", 0.3)
    encode, seen = victim.network.encode, []

    def spy(images: Tensor, lam: object = None) -> Tensor:
        seen.append(lam)
        return encode(images, lam)

    monkeypatch.setattr(victim.network, "encode", spy)
    run(victim, Attack(name="pgd", norm="linf", eps=2 / 255, steps=4), images, labels)
    assert len(seen) == 1 + 4 + 1, "the clean images, four steps, the result"
    assert set(seen) == {0.3}


def test_gradients_flow_through_the_policy_and_past_its_bounds():
    """The derivative of λ(x) with respect to x counts, and a clipped λ can still be pushed."""
    victim, images, _ = small_victim("sdnet18", 0.1)
    network = victim.network
    with torch.no_grad():
        residual = network.residual(images, network.encode(images))
    middle = float(residual.median())
    law = ResidualLaw(slope=0.2 / middle, intercept=0.0, lowest=0.15, highest=0.25)
    x = images.clone().requires_grad_(True)
    chosen = choose_lam(network, x, law)
    torch.testing.assert_close(chosen.detach(), law.lam(residual))
    assert ((chosen > 0.15) & (chosen < 0.25)).any()
    assert ((chosen == 0.15) | (chosen == 0.25)).any()
    (gradient,) = torch.autograd.grad(chosen.sum(), x)
    assert (gradient.flatten(1).abs().sum(1) > 0).all(), "straight-through: also where λ is clipped"

    through = torch.autograd.grad(Victim(network, law)(x).sum(), x)[0]
    fixed = torch.autograd.grad(network(x, lam=law.lam(residual)).sum(), x)[0]
    assert not torch.allclose(through, fixed), "an attack on the policy differentiates through λ"


def test_models_are_frozen_for_an_attack_and_restored():
    victim, images, labels = small_victim("sdnet18", 0.1)
    network = victim.network.train()
    network.linear.weight.requires_grad_(False)
    before = weights_fingerprint(network)
    with frozen(network):
        assert not network.training
        run(victim, Attack(name="pgd", norm="linf", eps=2 / 255, steps=3), images, labels)
    assert network.training
    assert network.linear.bias.requires_grad
    assert not network.linear.weight.requires_grad
    assert weights_fingerprint(network) == before


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_stored_images_keep_budget_range_and_answer(norm, tmp_path):
    victim, images, labels = small_victim()
    clean = (images.permute(0, 2, 3, 1) * 255).round().to(torch.uint8).numpy()
    eps = 2 / 255 if norm == "linf" else 0.2
    crafted = run(victim, Attack(name="pgd", norm=norm, eps=eps, steps=5), images, labels)
    options = {"victim": victim, "stages": ("restart-0",), "seconds": 1.0}
    stored = encode(crafted, clean, labels, batch_size=12, device=CPU, **options)
    stored.write(tmp_path / "a.npz")
    read = AdversarialSet.read(tmp_path / "a.npz", clean)
    assert read is not None
    decoded = torch.from_numpy(read[0:12]).permute(0, 3, 1, 2)
    assert np.array_equal(read[5:9], read[0:12][5:9])
    assert (distance(decoded, images, norm) <= distance(crafted.images, images, norm) + 1e-6).all()
    assert (decoded - crafted.images).abs().max() <= eps / 127 + 1e-6
    assert torch.equal(victim(decoded).argmax(1) == labels, crafted.robust)
    assert read.seconds == 1.0
    assert AdversarialSet.read(tmp_path / "a.npz", clean[:5]) is None
    arrays = dict(np.load(tmp_path / "a.npz"))
    for name, damage in {
        "about": np.array("{"),
        "scale": arrays["scale"][:3],
        "broken_by": arrays["broken_by"] + np.int16(9),
        "exact_index": np.array([99]),
        "dropped": arrays["dropped"].astype(np.int8),
    }.items():
        write_arrays(tmp_path / "damaged.npz", {**arrays, name: damage})
        assert AdversarialSet.read(tmp_path / "damaged.npz", clean) is None, name
    assert AdversarialSet.read(tmp_path / "absent.npz", clean) is None


def test_images_whose_answer_depends_on_the_last_bit_are_stored_exactly():
    """A model that answers by the exact value of a pixel: rounding the perturbation would heal every image."""

    class Touchy(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            fooled = (images[:, 0, 0, 0] == torch.tensor(0.3)).float()
            return torch.stack([torch.full((len(images),), 0.5), fooled], 1)

    images = torch.zeros(4, *SHAPE)
    moved = images.clone()
    moved[:, 0, 0, 0], moved[:, 0, 0, 1] = 0.3, 0.31
    truth = torch.ones(4, dtype=torch.bool)
    crafted = Crafted(moved, truth, ~truth, torch.zeros(4, dtype=torch.int64), ~truth)
    labels = torch.zeros(4, dtype=torch.int64)
    options = {"victim": Touchy(), "stages": ("s",), "seconds": 0.0}
    clean = np.zeros((4, 8, 8, 3), np.uint8)
    stored = encode(crafted, clean, labels, batch_size=4, device=CPU, **options)
    assert list(stored.exact_index) == [0, 1, 2, 3]
    assert np.array_equal(stored[1:3], moved.permute(0, 2, 3, 1).numpy()[1:3])


def test_attacks_are_read_from_tables_with_the_defaults_of_the_field():
    attacks = read_attacks([{"name": "pgd"}, {"name": "autoattack", "norm": "l2"}], "cifar")
    assert [(a.norm, a.eps) for a in attacks] == [("linf", 8 / 255), ("l2", 0.5)]
    assert attacks[0].alpha == pytest.approx(1 / 255)
    assert read_attacks([{"name": "pgd", "norm": "l2", "eps": 3.0}], "imagenet")[0].eps == 3, "a usual budget there"
    assert read_attacks([{"name": "pgd"}], "imagenet")[0].eps == 4 / 255
    assert [a.eps for a in read_attacks([{"name": "pgd", "eps": ["2/255", 0.5]}], "cifar")] == [2 / 255, 0.5]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"name": "pgd", "eps": 8}, "was 8/255 meant"),
        ({"name": "pgd", "norm": "l2", "eps": 128}, "was 128/255 meant"),
        ({"name": "pgd", "restarts": 2, "random_start": False}, "all 2 restarts are one and the same"),
        ({"name": "MIFGSM", "options": {"eps": 0.1}}, "eps in options: norm = … and eps = … are written beside"),
        ({"name": "APGD", "options": {"norm": "L2"}}, "norm in options"),
        ({"name": "PIFGSM", "options": {"max_epsilon": 0.1}}, "max_epsilon in options"),
        ({"name": "pgd", "eps": math.inf}, "finite number > 0"),
        ({"name": "pgd", "eps": "x"}, "ε must be a number"),
        ({"name": "pgd", "eps": 0}, "finite number > 0"),
        ({"name": "pgd", "eps": math.nan}, "finite number > 0"),
        ({"name": "pgd", "norm": "l0", "eps": 1}, "norm must be one of linf, l2"),
        ({"name": "pgd", "stepz": 3}, "unknown key stepz"),
        ({"name": "pgd", "version": "rand"}, "attack pgd: unknown key version"),
        ({"name": "autoattack", "steps": 3}, "attack autoattack: unknown key steps"),
        ({"name": "MIFGSM", "steps": 50}, "unknown key steps.* options = { … }"),
        ({"name": "pgd", "steps": 0}, "steps must be at least 1"),
        ({"name": "pgd", "steps": "many"}, "steps must be int"),
        ({"norm": "l2"}, "`name` is missing"),
        ({"name": "autoattack", "version": "fast"}, "version must be one of"),
        ({"name": "autoattack", "version": "custom"}, "parts are given with version"),
        ({"name": "autoattack", "version": "custom", "parts": ["pgd"]}, "unknown part pgd"),
    ],
)
def test_attacks_that_make_no_sense_are_refused(table, message):
    with pytest.raises(InputError, match=message):
        read_attacks([table], "cifar")


def test_attacks_without_a_usual_budget_and_of_one_name_are_refused():
    with pytest.raises(InputError, match="no usual ε for l2 on imagenet"):
        read_attacks([{"name": "pgd", "norm": "l2"}], "imagenet")
    options = {"name": "s", "data": "shapes", "models": ("m",), "corruptions": ()}
    for label in ("clean", "gaussian_noise"):
        with pytest.raises(InputError, match=f"an attack is called {label}, as other images are"):
            Suite(**options, attacks=read_attacks([{"name": "pgd", "label": label}], "cifar"))
    with pytest.raises(InputError, match="two attacks are called pgd L∞ 8/255"):
        Suite(**options, attacks=read_attacks([{"name": "pgd"}, {"name": "pgd", "steps": 100}], "cifar"))
    with pytest.raises(InputError, match="again L∞ 8/255 and pgd L∞ 8/255 are the same attack"):
        Suite(**options, attacks=read_attacks([{"name": "pgd"}, {"name": "pgd", "label": "again"}], "cifar"))


def test_budgets_of_the_command_line_replace_those_of_their_norm():
    suite = read_attacks([{"name": "pgd"}, {"name": "pgd", "norm": "l2"}], "cifar")
    changed = replace_eps(suite, (("", 2 / 255), ("", 4 / 255)))
    assert [(a.norm, a.eps) for a in changed] == [("linf", 2 / 255), ("linf", 4 / 255), ("l2", 0.5)]
    assert [(a.norm, a.eps) for a in replace_eps(suite[1:], (("", 0.3),))] == [("l2", 0.3)]
    with pytest.raises(InputError, match="no attack in l2"):
        replace_eps(suite[:1], (("l2", 0.3),))
