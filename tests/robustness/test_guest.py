"""Calls into models from elsewhere: nothing outside them changes, and what they need is there."""

from __future__ import annotations

import copy
import os
import pickle
import random
import signal
import sys
import warnings
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from vices import describe_globals

from robustness.attack import Attack
from robustness.measure.foreign import ForeignClassifier
from robustness.measure.guest import Guest
from robustness.measure.loaders.loaded import Loaded
from robustness.measure.probes import Prober
from robustness.measure.stages import list_stages
from robustness.measure.victims import Victim
from robustness.measure.world import ModelExitError
from sdnet_core.adversarial import frozen

IMAGES = torch.rand(6, 3, 4, 4, generator=torch.Generator().manual_seed(0))
WEIGHT = torch.randn(10, 48, generator=torch.Generator().manual_seed(1))


class Linear(nn.Module):
    """Logits W x, after or while ``vice`` does something to the images that it is given."""

    def __init__(self, vice: Callable[[Tensor], Tensor] = lambda images: images, weight: Tensor = WEIGHT) -> None:
        super().__init__()
        self.vice, self.weight = vice, nn.Parameter(weight.clone())

    def forward(self, images: Tensor) -> Tensor:
        return self.vice(images).flatten(1) @ self.weight.T


def classify(model: nn.Module) -> ForeignClassifier:
    return ForeignClassifier(Loaded(model=model), num_classes=10, origin="o")


def gradient_of(model: ForeignClassifier, images: Tensor = IMAGES) -> Tensor:
    x = images.clone().requires_grad_()
    loss = functional.cross_entropy(model(x), torch.arange(6), reduction="sum")
    return torch.autograd.grad(loss, x)[0]


def change_everything(images: Tensor) -> Tensor:
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002
    random.seed(0)
    torch.set_grad_enabled(False)
    torch.set_default_dtype(torch.float64)
    torch.set_default_device("meta")
    torch.use_deterministic_algorithms(True)
    torch.set_float32_matmul_precision("medium")
    torch.backends.cudnn.benchmark = True
    torch.set_autocast_enabled("cpu", True)
    torch.set_num_threads(torch.get_num_threads() + 1)
    np.seterr(all="raise")
    os.chdir("/")
    sys.path.insert(0, "/somewhere")
    sys.stdout = None
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    return images


def test_whatever_a_model_does_to_globals_is_undone_after_every_call_and_every_gradient():
    class Vicious(torch.autograd.Function):
        @staticmethod
        def forward(ctx, images):
            return images.clone()

        @staticmethod
        def backward(ctx, gradient):
            return change_everything(gradient)

    def fail(images: Tensor) -> Tensor:
        change_everything(images)
        raise ValueError("after all that")

    before = describe_globals()
    for grad in (False, True):
        with torch.set_grad_enabled(grad):
            expected = [*before[:3], grad, *before[4:]]
            classify(Linear(change_everything))(IMAGES)
            assert describe_globals() == expected
            with pytest.raises(ValueError, match="after all that"):
                classify(Linear(fail))(IMAGES)
            assert describe_globals() == expected
    gradient_of(classify(Linear(Vicious.apply)))
    assert describe_globals() == before


def test_a_model_keeps_what_it_set_for_itself():
    """Its random numbers go on from call to call, and its default type is its own."""
    drawn = []

    def draw(images: Tensor) -> Tensor:
        drawn.append((float(torch.rand(())), np.random.rand(), random.random(), torch.get_default_dtype()))  # noqa: NPY002
        torch.set_default_dtype(torch.float64)
        return images

    model = classify(Linear(draw))
    torch.manual_seed(3)
    for _ in range(2):
        model(IMAGES)
    assert all(a != b for a, b in zip(*drawn, strict=True))
    again = classify(Linear(draw))
    torch.manual_seed(4)
    again(IMAGES)
    assert drawn[2] == drawn[0], "its generators start at the same seed, whatever the harness's are"


def test_an_attack_draws_the_same_beside_a_model_that_seeds():
    """Square proposes what it would propose to the same model without the seeding."""

    def seed(images: Tensor) -> Tensor:
        torch.manual_seed(0)
        torch.rand(5)
        return images

    found = []
    for vice in (seed, lambda images: images):
        model = classify(Linear(vice))
        attack = Attack(name="autoattack", norm="linf", eps=0.1, version="custom", parts=("square",), queries=30)
        (stage,) = list_stages(attack, Victim(model, None), num_classes=10, seed=0)
        torch.manual_seed(0)
        with frozen(model):
            found.append(stage.perturb(IMAGES, torch.arange(6)))
    torch.testing.assert_close(*found, rtol=0, atol=0)


def test_an_operation_in_place_changes_nobodys_images():
    model, plain = classify(Linear(lambda images: images.sub_(0.5).mul_(2))), classify(Linear(lambda x: (x - 0.5) * 2))
    images = IMAGES.clone()
    for context in (torch.no_grad(), torch.inference_mode(), torch.enable_grad()):
        with context:
            torch.testing.assert_close(model(images), plain(IMAGES), rtol=0, atol=0)
    torch.testing.assert_close(gradient_of(model, images), gradient_of(plain), rtol=0, atol=0)
    assert torch.equal(images, IMAGES)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_logits_of_any_floating_type_become_float32(dtype):
    class Other(Linear):
        def forward(self, images: Tensor) -> Tensor:
            return super().forward(images).to(dtype)

    model, plain = classify(Other()), classify(Linear())
    assert model(IMAGES).dtype == gradient_of(model).dtype == torch.float32
    torch.testing.assert_close(model(IMAGES), plain(IMAGES), rtol=1e-2, atol=0.1)
    torch.testing.assert_close(gradient_of(model), gradient_of(plain), rtol=0.1, atol=0.1)
    attack = Attack(name="pgd", norm="linf", eps=0.1, steps=2)
    (stage,) = list_stages(attack, Victim(model, None), num_classes=10, seed=0)
    assert not torch.equal(stage.perturb(IMAGES, torch.arange(6)), IMAGES)


def purify(images: Tensor) -> Tensor:
    """One step down the gradient of ‖x − ½‖², as its author may write it: the gradient has to be enabled."""
    moved = images.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(((moved - 0.5) ** 2).sum(), moved)
    return images - 0.25 * gradient


def test_a_model_that_differentiates_its_input_works_in_every_mode():
    model, plain = classify(Linear(purify)), classify(Linear(lambda images: 0.5 * images + 0.25))
    for context in (torch.no_grad(), torch.inference_mode(), torch.enable_grad()):
        with context:
            torch.testing.assert_close(model(IMAGES), plain(IMAGES))
    expected = functional.cross_entropy(plain(IMAGES), torch.arange(6))
    assert torch.isfinite(expected)
    assert gradient_of(model).abs().sum() > 0


class Learns(nn.Module):
    """Test-time adaptation: one step down the entropy of its own answers, which moves its weights, with every batch."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(48, 10)
        self.linear.load_state_dict({"weight": WEIGHT, "bias": torch.zeros(10)})
        self.optimizer = torch.optim.SGD(self.linear.parameters(), lr=0.1, momentum=0.9)

    def forward(self, images: Tensor) -> Tensor:
        logits = self.linear(images.flatten(1))
        entropy = -(logits.softmax(1) * logits.log_softmax(1)).sum(1).mean()
        self.optimizer.zero_grad()
        entropy.backward()
        self.optimizer.step()
        return self.linear(images.flatten(1))


def test_a_model_that_learns_when_it_is_called_does_so_frozen_too_and_is_reset():
    model = classify(Learns())
    model.reset()
    with torch.inference_mode(), frozen(model):
        first, second = model(IMAGES), model(IMAGES)
        assert not torch.equal(first, second)
        model.reset()
        torch.testing.assert_close(model(IMAGES), first, rtol=0, atol=0)
        torch.testing.assert_close(model(IMAGES), second, rtol=0, atol=0)
    assert all(weight.requires_grad for weight in model.parameters())


@pytest.mark.parametrize("detach", [torch.no_grad(), lambda forward: lambda x: forward(x.detach())])
def test_a_model_that_lets_no_gradient_through_has_the_gradient_zero(detach):
    model = Linear()
    model.forward = detach(model.forward)
    model.weight.requires_grad_(False)
    guest = classify(model)
    assert gradient_of(guest).abs().max() == 0
    prober = Prober(Victim(guest, None), IMAGES, torch.arange(6), 10, limit=3, seed=0, device=torch.device("cpu"))
    assert prober.probe_model().zero_gradient.min() == 1


def test_an_attack_may_ask_for_the_gradient_of_one_answer_more_than_once():
    model, x = classify(Linear()), IMAGES.clone().requires_grad_()
    logits = model(x)
    rows = [torch.autograd.grad(logits[:, k].sum(), x, retain_graph=True)[0] for k in range(3)]
    torch.testing.assert_close(rows[2][0].flatten(), WEIGHT[2])


def test_a_model_that_ends_the_process_fails_instead():
    def leave(images: Tensor) -> Tensor:
        sys.exit(0)

    with pytest.raises(ModelExitError, match=r"the model calls sys\.exit\(0\)"):
        classify(Linear(leave))(IMAGES)


def test_a_model_that_moves_the_alarm_leaves_it_as_it_was():
    def quieten(images: Tensor) -> Tensor:
        signal.setitimer(signal.ITIMER_REAL, 0)
        return images

    outer = signal.setitimer(signal.ITIMER_REAL, 100)
    try:
        classify(Linear(quieten))(IMAGES)
        assert signal.getitimer(signal.ITIMER_REAL)[0] == pytest.approx(100, abs=5)
    finally:
        signal.setitimer(signal.ITIMER_REAL, *outer)


CALLS, LATER = 0, []


def count(calls: list[int] = [0]) -> float:  # noqa: B006
    """Calls, counted in a default, in an attribute and in a variable of this file."""
    global CALLS
    CALLS += 1
    calls[0] += 1
    count.calls = getattr(count, "calls", 0) + 1
    LATER.append(1)
    return calls[0] + count.calls + CALLS + len(LATER)


class Remembers(nn.Module):
    """State of every kind: each changes the answer of the next call."""

    calls_of_all = 0

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("buffer", torch.zeros(10))
        self.hidden, self.counts, self.calls = [torch.zeros(10)], {"calls": 0}, 0
        self.array, self.generator = np.zeros(10), torch.Generator().manual_seed(0)
        self.numpy_generator, self.late = np.random.default_rng(0), None
        total = torch.zeros(10)

        def add(answer: Tensor) -> Tensor:
            nonlocal total
            total = total + 1
            return answer + total

        self.add = add

    def forward(self, images: Tensor) -> Tensor:
        answer = images.mean((1, 2, 3))[:, None] + self.buffer + self.hidden[0] + self.counts["calls"] + self.calls
        answer = answer + torch.from_numpy(self.array).float() + torch.rand((), generator=self.generator)
        answer = self.add(answer + self.numpy_generator.random() + (0 if self.late is None else 1))
        answer = answer + count() + self.count_all()
        self.buffer += 1
        self.hidden[0] += 1
        self.hidden.append(torch.ones(1))
        self.counts["calls"] += 1
        self.calls += 1
        self.array += 1
        self.late = torch.ones(10)
        self.training = not self.training
        return answer

    @classmethod
    def count_all(cls) -> int:
        cls.calls_of_all += 1
        return cls.calls_of_all


def test_state_of_every_kind_is_put_back():
    model = classify(Remembers())
    model.reset()
    first, second = model(IMAGES), model(IMAGES)
    assert (second - first).min() > 11
    for _ in range(2):
        model.reset()
        assert not model.model.training
        torch.testing.assert_close(model(IMAGES), first, rtol=0, atol=0)
        torch.testing.assert_close(model(IMAGES), second, rtol=0, atol=0)


def test_what_refers_to_the_state_still_does_afterwards():
    """A hook that writes into a dictionary of the module still does: contents are put back, not objects."""

    class Hooked(Linear):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.seen = nn.Identity(), {}
            seen = self.seen
            self.inner.register_forward_hook(lambda _module, _inputs, output: seen.update(x=output))

        def forward(self, images: Tensor) -> Tensor:
            self.inner(images)
            return super().forward(self.seen["x"])

    model = classify(Hooked())
    model.reset()
    for images in (IMAGES, 1 - IMAGES):
        torch.testing.assert_close(model(images), classify(Linear())(images))
        model.reset()


def test_a_guest_travels_to_other_machines():
    model = classify(Linear(scale_at_random))
    model.reset()
    other = pickle.loads(pickle.dumps(model))
    torch.testing.assert_close(other(IMAGES), copy.deepcopy(model)(IMAGES), rtol=0, atol=0)
    assert isinstance(other.guest, Guest)


def scale_at_random(images: Tensor) -> Tensor:
    return images * torch.rand(())
