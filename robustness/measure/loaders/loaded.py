"""The input and output of a loader."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from robustness.measure.world import World


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """The data set's requirements for a model.

    Args:
        num_classes: number of classes K.
        classes: their names in the order of the labels; empty if unknown.
        image_size: height and width of the images; None if unknown.
    """

    num_classes: int
    classes: tuple[str, ...] = ()
    image_size: tuple[int, int] | None = None


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """A module and the facts that its source gives about it.

    Args:
        model: images (N, 3, H, W) to logits (N, K).
        version: version of the library that it comes from; empty for none.
        mean: channel means to subtract from images; None if the model takes images in [0, 1].
        std: channel standard deviations to divide by; None as for ``mean``.
        input_size: height and width of the images that its source evaluates it on; None if the source does not say.
        content: SHA-256 of the file that holds the program itself; empty if the weights identify the model.
        differentiable: true if gradients reach the images.
        notes: notes for a reader of the numbers, one sentence each.
        world: world that the user's code ran in while loading; None if no such code ran.
    """

    model: nn.Module
    version: str = ""
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    input_size: tuple[int, int] | None = None
    content: str = ""
    differentiable: bool = True
    notes: tuple[str, ...] = ()
    world: World | None = None
