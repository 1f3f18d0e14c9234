"""Calls into a foreign model: its own world, its own copy of the images, float32 logits, gradients if it has any."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from robustness.measure.state import State
from robustness.measure.world import World

_WANTS_GRADIENTS = re.compile(r"does not require grad|doesn't require grad")
"""Start of torch's message to a model that differentiates while no gradients are recorded."""


class Guest:
    """A module of unknown origin, behind the only calls that the harness makes into it.

    - The module gets its own copy of the images, so that in-place operations do not change other copies.
    - It runs in its own :class:`~robustness.measure.world.World`, forwards and backwards.
    - It is never called in inference mode, whose tensors an attack cannot use. A module that differentiates in
      ``forward`` (adaptation, purification) gets its gradients, including gradients of its weights.
    - Logits come back as float32. Where they do not depend on the images, the gradient is zero everywhere.

    Args:
        model: images (N, 3, H, W), and perhaps ``lam``, to logits (N, K).
        read: finds the logits in the module's output.
        world: world that the module was loaded in; None makes a new one.
    """

    def __init__(self, model: nn.Module, read: Callable[[Any], Tensor], world: World | None = None) -> None:
        self._model, self._read, self._world = model, read, world or World()
        self._trainable = [weight for weight in model.parameters() if weight.requires_grad]
        self._wants_gradients = False
        self._kept: tuple[State, World] | None = None

    def ask(self, images: Tensor, **knob: Tensor | float) -> Tensor:
        """Compute logits float32 (N, K), differentiable in the images and in the knob if gradients are recorded.

        Raises:
            Exception: whatever the module, or ``read``, raises.
        """
        inputs = [images, *(value for value in knob.values() if isinstance(value, Tensor))]
        if not (torch.is_grad_enabled() and any(value.requires_grad for value in inputs)):
            return self._answer(images, knob, gradients=False)
        logits: Tensor = _Apart.apply(self, tuple(knob), images, *knob.values())
        return logits

    def reset(self, *, chance: bool = True) -> None:
        """Restore the module and its world to their state at the first call of this method.

        ``chance``: also restart the global random numbers that it draws.
        """
        if self._kept is None:
            self._kept = State(self._model), self._world.copy()
            return
        state, world = self._kept
        state.restore()
        self._world.restore(world, chance=chance)

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_kept": None}  # kept again at its destination

    def _answer(self, images: Tensor, knob: dict[str, Tensor | float], *, gradients: bool) -> Tensor:
        with torch.inference_mode(False), self._world.entered():
            try:
                output = self._run(images, knob, gradients=gradients)
            except RuntimeError as error:
                if self._wants_gradients or not _WANTS_GRADIENTS.search(str(error)):
                    raise
                self._wants_gradients = True
                output = self._run(images, knob, gradients=gradients)
            with torch.set_grad_enabled(gradients):
                logits = self._read(output).to(images.device, torch.float32)
            return logits if gradients else logits.detach().clone()  # a model may use the same memory again

    def _run(self, images: Tensor, knob: dict[str, Tensor | float], *, gradients: bool) -> Any:
        with torch.set_grad_enabled(gradients):
            own = images.clone(memory_format=torch.contiguous_format)
            knob = {name: value.clone() if isinstance(value, Tensor) else value for name, value in knob.items()}
        if own.requires_grad:
            own.retain_grad()
        with torch.set_grad_enabled(gradients or self._wants_gradients), self._with_weights():
            return self._model(own, **knob)

    @contextmanager
    def _with_weights(self) -> Iterator[None]:
        """Record gradients of the weights as well, for a module that learns when it is called."""
        flags = [weight.requires_grad for weight in self._trainable] if self._wants_gradients else []
        try:
            for weight, _ in zip(self._trainable, flags):
                weight.requires_grad_(True)
            yield
        finally:
            for weight, flag in zip(self._trainable, flags):
                weight.requires_grad_(flag)

    def _differentiate(self, logits: Tensor, inputs: list[Tensor], gradient: Tensor) -> list[Tensor]:
        if not logits.requires_grad:
            return [torch.zeros_like(value) for value in inputs]
        with torch.inference_mode(False), self._world.entered():
            found = torch.autograd.grad(logits, inputs, gradient, retain_graph=True, allow_unused=True)
        return [torch.zeros_like(value) if part is None else part for value, part in zip(inputs, found)]


class _Apart(torch.autograd.Function):
    """A guest's logits with a graph of their own, which is differentiated in the guest's world."""

    @staticmethod
    def forward(ctx: Any, guest: Guest, names: tuple[str, ...], images: Tensor, *values: Tensor | float) -> Tensor:
        inputs = [_leaf(value) for value in (images, *values)]
        logits = guest._answer(inputs[0], dict(zip(names, inputs[1:])), gradients=True)
        ctx.guest, ctx.inputs, ctx.logits = guest, inputs, logits
        return logits.detach().clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Any:
        wanted = [value for value in ctx.inputs if isinstance(value, Tensor) and value.requires_grad]
        found = iter(ctx.guest._differentiate(ctx.logits, wanted, gradient))
        is_wanted = [isinstance(value, Tensor) and value.requires_grad for value in ctx.inputs]
        return None, None, *(next(found) if wanted_here else None for wanted_here in is_wanted)


def _leaf(value: Any) -> Any:
    """Return a tensor of the same values at which a graph begins, if its gradients are needed."""
    return value.detach().requires_grad_(value.requires_grad) if isinstance(value, Tensor) else value
