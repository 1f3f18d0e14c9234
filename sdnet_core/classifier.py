"""The interface of a measured model: a network of this project, or an external model behind the same calls."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from data_prep.errors import InputError
from sdnet_core.sparse_coding import Lambda


class Classifier(nn.Module, ABC):
    """An image classifier: images in [0, 1] and λ in, logits out.

    A call is ``classify(encode(images, lam), lam)``; if a model has no such halves, ``encode`` does all of it.
    """

    num_classes: int
    """Number of classes, one output each."""
    lam: float | None
    """Training λ; None for a model without λ."""
    input_size: tuple[int, int] | None
    """Height and width, in pixels, of the images that it was made for; None if unknown. Others are also accepted."""
    has_code = False
    """True for a network with a sparse code of the input."""
    is_known = False
    """True if only weights, configuration, image and λ decide the logits, and neither chance nor an earlier call."""
    differentiable = True
    """True if gradients reach the images."""
    notes: tuple[str, ...] = ()
    """Notes for a reader of the numbers, one sentence each."""
    hidden_knob = ""
    """Name of a part with a λ that the model itself does not take; empty for none."""

    @property
    def has_lam(self) -> bool:
        """True for a model with a λ to choose at test time."""
        return self.lam is not None

    def forward(self, images: Float[Tensor, "n 3 h w"], lam: Lambda | None = None) -> Tensor:
        """Compute logits (N, K) of images in [0, 1] at λ = ``lam`` (a number or a tensor (N,)); None is the training λ.

        Raises:
            InputError: λ was given to a model without λ, or is negative or not finite.
        """
        return self.classify(self.encode(images, lam), lam)

    @abstractmethod
    def encode(self, images: Tensor, lam: Lambda | None = None, correlation: Tensor | None = None) -> Tensor:
        """Compute the first half of a call; ``correlation`` is the result of :meth:`correlate` for the same images."""

    def classify(self, code: Tensor, lam: Lambda | None = None) -> Tensor:  # noqa: ARG002 - defaults
        """Compute logits (N, K) from the output of :meth:`encode`."""
        return code

    def correlate(self, images: Tensor) -> Tensor | None:
        """Compute what the codes at all λs start from; None for a model without a sparse code."""

    def residual(self, images: Tensor, code: Tensor) -> Tensor:  # noqa: ARG002 - as above
        """Compute ‖x − Az‖² per image; raise InputError without a sparse code."""
        raise self.lacks_code()

    def reconstruct(self, images: Tensor, code: Tensor) -> Tensor:  # noqa: ARG002 - as above
        """Compute A z as images; raise InputError without a sparse code."""
        raise self.lacks_code()

    def noise_level(self, images: Tensor) -> Tensor:  # noqa: ARG002 - as above
        """Estimate the noise level of each image, in normalised pixels; raise InputError without a sparse code."""
        raise self.lacks_code()

    def lacks_code(self) -> InputError:
        """Return the error of a model without a sparse code."""
        return InputError(f"expected a network with a sparse code, got {self.describe()['arch']}; take an SDNet")

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """Return, as JSON values, everything besides the weights that decides the logits."""

    @abstractmethod
    def find_misfit(self, height: int, width: int) -> str:
        """Return a clause on the images that the model was made for; empty if it was made for images of this size."""

    def shown_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """Compute the height and width at which the model sees images of height and width ``size``."""
        return size

    def reset(self, *, chance: bool = True) -> None:
        """Undo the changes that calls made in the model; ``chance``: in its random numbers as well."""

    @abstractmethod
    def accelerate(self, speed: str, device: torch.device) -> Classifier:
        """Return the model on ``device`` in its ``"exact"`` or ``"fast"`` form for evaluation."""
