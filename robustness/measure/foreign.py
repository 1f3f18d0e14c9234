"""Foreign models, which this project did not build, behind the calls that the harness makes.

All of them have one interface: they take images in [0, 1], return logits, and do their own normalisation. A module
whose ``forward`` takes ``lam`` and that has a number ``lam`` exposes that knob as λ, and every λ grid, policy and
attack works on it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from data_prep.errors import InputError
from robustness.measure.guest import Guest
from robustness.measure.loaders import functions, hugging_face, libraries, programs, robustbench
from robustness.measure.loaders.address import Address, is_foreign, parse_address, runs_code
from robustness.measure.loaders.loaded import Loaded, Wanted, find_enlarged
from robustness.measure.wrappers import as_module, find_dtype, find_hidden_knob, find_knob, take_logits
from sdnet_core.classifier import Classifier
from sdnet_core.networks import Network, Normalise
from sdnet_core.sparse_coding import Lambda, check_lam

__all__ = ["ForeignClassifier", "is_foreign", "load_foreign", "runs_code", "wrap_model"]


class ForeignClassifier(Classifier):
    """An external module behind the calls that the harness makes.

    Args:
        loaded: the module and what its source says about it. Its output may also be something that holds the logits,
            and its ``forward`` may take ``lam`` as a keyword. It is called in the type of its own weights; images and
            logits are float32 outside it.
        num_classes: number of classes K.
        origin: the user's name for the model, and the version of the library that it comes from.
        enlarge_to: short side in pixels to which every image is enlarged for the model, bilinear; None keeps the size.
    """

    def __init__(self, loaded: Loaded, *, num_classes: int, origin: str, enlarge_to: int | None = None) -> None:
        super().__init__()
        self.model = as_module(loaded.model)
        self.num_classes, self.origin, self.enlarge_to = num_classes, origin, enlarge_to
        self.input_size, self.content = loaded.input_size, loaded.content
        self.differentiable, self.notes = loaded.differentiable, loaded.notes
        if part := find_hidden_knob(self.model):
            self.hidden_knob = part
            self.notes += (
                f"{origin}: its part {part} takes lam and the model itself does not, so that λ is not varied; let its "
                "forward take lam and hand it on, and give it the attribute lam",
            )
        mean, std = loaded.mean, loaded.std
        self.normalise = nn.Identity() if mean is None or std is None else Normalise(mean, std)
        self.lam, self.dtype = find_knob(self.model, origin), find_dtype(self.model)
        self.eval()
        self.guest = Guest(self.model, partial(take_logits, num_classes=num_classes), loaded.world)

    def train(self, mode: bool = True) -> ForeignClassifier:
        """Set the mode as in every module; a program of ``torch.export`` has only the mode of its recording."""
        self.training = mode
        for child in self.children():
            try:
                child.train(mode)
            except NotImplementedError:
                continue
        return self

    def encode(
        self,
        images: Float[Tensor, "n 3 h w"],
        lam: Lambda | None = None,
        correlation: Tensor | None = None,  # noqa: ARG002 - for models with a code
    ) -> Tensor:
        """Compute logits (N, K) of images in [0, 1] at λ = ``lam``; None is the model's own λ.

        Raises:
            InputError: a λ for a model without one, a λ that is negative or not finite, or an output without logits.
        """
        if lam is not None and not self.has_lam:
            raise InputError(f"expected no λ for {self.origin}, which has none, got lam={lam}; leave it out")
        x = self.normalise(self._enlarge(images).contiguous()).to(self.dtype)
        if self.lam is None:
            return self.guest.ask(x)
        return self.guest.ask(x, lam=check_lam(self.lam if lam is None else lam, len(images)))

    def shown_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """Compute the height and width to which images of height and width ``size`` are enlarged for the model."""
        return size if self.enlarge_to is None else find_enlarged(size, self.enlarge_to)

    def _enlarge(self, images: Tensor) -> Tensor:
        if self.enlarge_to is None:
            return images
        size = self.shown_size((images.shape[2], images.shape[3]))
        return functional.interpolate(images, size, mode="bilinear", antialias=True)

    def find_misfit(self, height: int, width: int) -> str:
        """Return a clause on the image size that the model's source evaluates it at; empty if it gets that size."""
        size = height, width
        if self.input_size in (None, size, self.shown_size(size)):
            return ""
        return f"its source evaluates it on images of {self.input_size[0]} × {self.input_size[1]} pixels"

    def accelerate(self, speed: str, device: torch.device) -> ForeignClassifier:
        """Move the model to ``device``; raise InputError for the fast form, which it does not have."""
        if speed == "fast":
            raise InputError(f"--speed fast is for the networks of this project; measure {self.origin} without it")
        return self.to(device)

    def reset(self, *, chance: bool = True) -> None:
        """Undo the changes made by calls since the first call of this method: see :meth:`Guest.reset`."""
        self.guest.reset(chance=chance)

    def describe(self) -> dict[str, Any]:
        """Return everything but the weights that decides the logits, as JSON values."""
        content = {"file": self.content} if self.content else {}
        enlarged = {"enlarged_to": self.enlarge_to} if self.enlarge_to else {}
        return {"arch": self.origin, "lam": self.lam, "num_classes": self.num_classes, **content, **enlarged}


Loader = Callable[[Address, Wanted], Loaded]
_LOADERS: dict[str, Loader] = {
    "function": functions.load_function,
    "torchvision": libraries.load_torchvision,
    "timm": libraries.load_timm,
    "robustbench": robustbench.load_robustbench,
    "hf": hugging_face.load_folder,
    "file": programs.load_file,
}


def load_foreign(given: str, wanted: Wanted) -> Classifier:
    """Load a model that the project has not built (docs/benchmark-your-model.md lists the sources).

    Args:
        given: the model as written on the command line.
        wanted: what the data set requires of it.

    Returns:
        The model, in eval mode on the CPU; if a function returns a network of this project, that network itself.

    Raises:
        PrerequisiteError: a package, a file or the weights are missing.
        InputError: the source has no such model, or the model is not usable.
    """
    address = parse_address(given)
    assert address is not None, f"{given} is a model of this project"
    loaded = _LOADERS[address.source](address, wanted)
    return _wrap(f"{address.title} ({loaded.version})" if loaded.version else address.title, loaded, wanted)


def wrap_model(name: str, model: Any, wanted: Wanted) -> Classifier:
    """Put a module, or a function images → logits, behind the calls that the harness makes.

    Args:
        name: name in tables.
        model: images float32 (N, 3, H, W) in [0, 1] to logits (N, K); it does its own normalisation.
        wanted: what the data set requires of it; a model with layers that take their size from the first images needs
            the size of the images.

    Raises:
        InputError: the model cannot be called, or its knob has no training value.
    """
    if not callable(model):
        raise InputError(
            f"expected {name} as a torch.nn.Module or a function, got {type(model).__name__}; give one of them"
        )
    return _wrap(name, Loaded(model=as_module(model)), wanted)


def _wrap(origin: str, loaded: Loaded, wanted: Wanted) -> Classifier:
    if isinstance(loaded.model, nn.Module):
        tensors = loaded.model.state_dict().items()
        empty = [name for name, it in tensors if isinstance(it, Tensor) and it.is_meta and not nn.parameter.is_lazy(it)]
        if empty:
            raise InputError(
                f"expected weights in {origin}, got none behind {empty[0]}, which is on the device meta; load them "
                "before you hand it over, without offloading"
            )
    if isinstance(loaded.model, Network):
        return loaded.model.eval()
    classifier = ForeignClassifier(loaded, num_classes=wanted.num_classes, origin=origin, enlarge_to=wanted.enlarge_to)
    _fill_lazy(classifier, wanted.image_size)
    return classifier


def _fill_lazy(classifier: ForeignClassifier, image_size: tuple[int, int] | None) -> None:
    """Show one image to a model whose layers take their size from the first images that they see."""
    if not any(nn.parameter.is_lazy(it) for it in classifier.state_dict().values()):
        return
    if image_size is None:
        raise InputError(
            f"{classifier.origin} has layers that take their size from the first images; call it once before you hand "
            "it over, or give image_size"
        )
    with torch.no_grad():
        classifier(torch.zeros(1, 3, *image_size))
    classifier.notes += (
        f"{classifier.origin}: layers without a size took it from the first images, so that their weights are random",
    )
