"""Crafting: closed forms, budgets, the worst case image by image, resumption."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from attacked import CPU, Marked, half_breaker, linear_problem, marked_problem, run

from robustness.attack import Attack
from robustness.measure import craft as craft_module
from robustness.measure.craft import Journal, Stage, craft, distance
from robustness.measure.stages import list_stages

OPTIONS = {"norm": "linf", "eps": 1.0, "batch_size": 7, "seed": 0, "device": CPU}


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


def test_attacks_that_break_disjoint_halves_leave_nothing():
    """Trap 8: the worst case is taken image by image, not attack by attack."""
    images, labels = marked_problem()
    one = craft(Marked(), [half_breaker(0)], images, labels, **OPTIONS)
    both = craft(Marked(), [half_breaker(0), half_breaker(1)], images, labels, **OPTIONS)
    assert one.robust.float().mean() == 0.5
    assert both.robust.float().mean() == 0
    assert both.broken_by.tolist() == [0, 1] * 10


def test_an_attempt_outside_the_budget_is_no_attempt_and_is_recorded():
    images, labels = marked_problem()
    options = {**OPTIONS, "eps": 0.5}
    stage = half_breaker(0)
    crafted = craft(Marked(), [stage, half_breaker(1)], images, labels, **options)
    assert crafted.robust.all()
    assert torch.equal(crafted.images, images)
    assert crafted.dropped.all(), "by one stage or the other"
    assert craft(Marked(), [stage], images, labels, **options).dropped.tolist() == [True, False] * 10
    smallest = Stage("smallest", stage.perturb, knows_budget=False)
    assert not craft(Marked(), [smallest], images, labels, **options).dropped.any()


def test_images_that_are_wrong_from_the_start_are_moved_and_do_not_count():
    """Trap 4: shown at another λ, where the model may be right on them, they would pass for images that withstood."""
    model, images, labels, _ = linear_problem()
    labels[::4] = 1 - labels[::4]
    pgd = Attack(name="pgd", norm="linf", eps=0.01, steps=3, batch_size=9)
    alone = run(model, pgd, images, labels)
    (stage,) = list_stages(pgd, model, num_classes=2, seed=0)
    moved = run(model, pgd, images, labels, mover=stage)
    assert torch.equal(alone.images[::4], images[::4])
    distances = distance(moved.images, images, "linf")
    assert ((distances > 0.009) & (distances < 0.01 + 1e-6)).all()
    for name in ("attacked", "robust", "broken_by", "dropped"):
        assert torch.equal(getattr(moved, name), getattr(alone, name))
    assert torch.equal(moved.images[alone.attacked], alone.images[alone.attacked])


def test_images_that_withstood_a_search_which_gives_them_back_clean_are_moved_and_count():
    """APGD, FAB and Square return the clean image where they fail: shown at another λ, it would pass for robust."""
    images, labels = marked_problem()
    stages = [half_breaker(0)]
    alone = craft(Marked(), stages, images, labels, **OPTIONS)
    assert torch.equal(alone.images[1::2], images[1::2])
    nudge = Stage("mover", lambda x, y: torch.where(x > 0.5, x - 0.01, x + 0.01))
    nudged = craft(Marked(), stages, images, labels, mover=nudge, **OPTIONS)
    assert (nudged.images[1::2] != images[1::2]).all()
    assert torch.equal(nudged.images[::2], alone.images[::2]), "what is broken stays as it is"
    assert torch.equal(nudged.robust, alone.robust)
    broken = craft(Marked(), stages, images, labels, mover=half_breaker(1), **OPTIONS)
    assert not broken.robust.any()
    assert broken.broken_by.tolist() == [0, 1] * 10


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One entry for every batch that is attacked."""
    made: list[int] = []
    attempt = craft_module._attempt
    monkeypatch.setattr(craft_module, "_attempt", lambda *a, **k: (made.append(1), attempt(*a, **k))[1])
    return made


def test_a_killed_attack_goes_on_at_its_next_batch(tmp_path, made):
    """Every batch is kept; the resumed result is the undisturbed one, random starts included."""
    model, images, labels, _ = linear_problem()
    attack = Attack(name="pgd", norm="linf", eps=0.01, steps=3, restarts=2, batch_size=9)
    expected: list[tuple[str, int]] = []
    whole = run(model, attack, images, labels, progress=lambda *step: expected.append(step))
    made.clear()

    def stop(stage: str, n: int) -> None:
        if len(made) == 3:
            raise KeyboardInterrupt

    journal = Journal(tmp_path / "journal")
    with pytest.raises(KeyboardInterrupt):
        run(model, attack, images, labels, journal=journal, progress=stop)
    kept = sorted(journal.folder.iterdir())
    seen: list[tuple[str, int]] = []
    resumed = run(model, attack, images, labels, journal=journal, progress=lambda *step: seen.append(step))
    assert torch.equal(resumed.images, whole.images)
    assert torch.equal(resumed.robust, whole.robust)
    assert torch.equal(resumed.broken_by, whole.broken_by)
    assert resumed.seconds > sum(float(read["seconds"]) for read in map(np.load, kept))
    assert seen == expected
    assert len(made) == len(expected), "no batch was attacked twice"


@pytest.mark.parametrize("damage", ["cut", "flipped", "of other images"])
def test_a_damaged_batch_is_attacked_again_and_no_other(damage, tmp_path, made):
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
    made.clear()
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
