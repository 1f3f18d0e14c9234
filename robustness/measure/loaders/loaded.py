"""What a loader hands over."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from robustness.measure.world import World


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What the data set asks of a model.

    Args:
        num_classes: K, the number of its classes.
        classes: their names in the order of the labels; empty where they are not known.
        image_size: height and width of the images; None where they are not known.
    """

    num_classes: int
    classes: tuple[str, ...] = ()
    image_size: tuple[int, int] | None = None


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """A module with what its source says of it.

    Args:
        model: images (N, 3, H, W) to logits (N, K).
        version: of the library that it comes from; empty for none.
        mean: channel means that the model wants taken off; None if it takes images in [0, 1].
        std: channel standard deviations; as ``mean``.
        input_size: height and width of the images that its source evaluates it on; None if the source does not say.
        content: SHA-256 of the file that holds the program itself; empty where the weights say it all.
        differentiable: whether gradients reach the images.
        notes: what a reader of the numbers should know, a sentence each.
        world: in which it was loaded, where code of the user's ran; None if none did.
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
