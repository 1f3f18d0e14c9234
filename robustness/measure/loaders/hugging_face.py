"""A folder of Hugging Face's transformers: ``hf:PATH``, read without the network and without running code from it."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from data_prep.errors import InputError, PrerequisiteError, damage_named, describe_error
from robustness.measure.loaders.address import Address
from robustness.measure.loaders.libraries import check_classes
from robustness.measure.loaders.loaded import Loaded, Wanted, import_package, loading

_PREPROCESSOR = "preprocessor_config.json"
_BYTE = 255.0


class Reordered(nn.Module):
    """A classifier whose classes are in a different order from the data's."""

    order: Tensor

    def __init__(self, model: nn.Module, order: list[int]) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("order", torch.tensor(order))

    def forward(self, images: Tensor) -> Tensor:
        """Compute logits in the order of the data."""
        logits: Tensor = self.model(images).logits
        return logits.index_select(1, self.order)


def load_folder(address: Address, wanted: Wanted) -> Loaded:
    """Load an image classifier saved by transformers, with the normalisation of its preprocessor.

    Raises:
        PrerequisiteError: the package, the folder or a file in it is missing.
        InputError: the model is not an image classifier, has other classes, or a file is damaged.
    """
    folder, given = Path(address.name), f"hf:{address.name}"
    if not (folder / "config.json").is_file():
        raise PrerequisiteError(
            f"expected config.json in {folder}, got none; give hf:FOLDER, a folder on this machine as save_pretrained "
            "or `hf download NAME --local-dir FOLDER` makes it"
        )
    config = _read_json(folder / "config.json")
    labels = _read_labels(config, folder)
    if labels:
        check_classes(given, len(labels), wanted)
    order, notes = _match(labels, wanted.classes, given)
    mean, std, size = _read_preprocessor(folder)
    with loading(), warnings.catch_warnings(action="ignore"):
        transformers = import_package("transformers", given)
        model = _read_model(transformers, folder, given)
    check_classes(given, int(model.config.num_labels), wanted)
    version = f"transformers {transformers.__version__}"
    model = Reordered(model, order) if order else model
    return Loaded(model=model, version=version, mean=mean, std=std, input_size=size, notes=notes)


def _read_model(transformers: Any, folder: Path, given: str) -> Any:
    before = transformers.utils.logging.get_verbosity()
    transformers.utils.logging.set_verbosity_error()
    try:
        model, report = transformers.AutoModelForImageClassification.from_pretrained(
            str(folder), local_files_only=True, trust_remote_code=False, dtype="auto", output_loading_info=True
        )
    except Exception as error:  # the files may raise anything
        raise InputError(
            f"expected an image classifier in {given}, got: {describe_error(error)}; save it again with save_pretrained"
        ) from error
    finally:
        transformers.utils.logging.set_verbosity(before)
    if missing := [*report["missing_keys"], *report["mismatched_keys"]]:
        raise InputError(
            f"expected weights for {missing[0]} in {given}, got none, so that transformers would draw them at random; "
            "save the classifier that was trained"
        )
    return model


def _read_labels(config: dict[str, Any], folder: Path) -> list[str]:
    """Read the names of the classes by their index; empty if the configuration does not list them."""
    labels = config.get("id2label")
    if not labels:
        return []
    indices = sorted(int(key) for key in labels if str(key).isdigit()) if isinstance(labels, dict) else []
    if indices != list(range(len(labels))):
        raise InputError(
            f"expected id2label in {folder / 'config.json'} to name the classes 0, 1, 2, …, got {labels!r}"[:300]
            + "; correct it"
        )
    return [str(labels[str(index)]) for index in indices]


def _match(labels: list[str], classes: tuple[str, ...], given: str) -> tuple[list[int], tuple[str, ...]]:
    """Find each class of the data among the model's classes, if only the order differs; return positions and a note.

    Raises:
        InputError: some, but not all, of their names are the same.
    """
    own, other = [_fold(it) for it in labels], [_fold(it) for it in classes]
    common = set(own) & set(other)
    if own == other or not common:
        return [], ()
    if set(own) != set(other) or len(set(own)) != len(own):
        strange = next(name for name, key in zip(classes, other, strict=True) if key not in common)
        raise InputError(
            f"expected a model of all {len(classes)} classes of the data, got {given}, which shares {len(common)} of "
            f"them and does not know {strange!r}; measure it on the data that it was trained for"
        )
    note = f"{given}: its classes are in another order than the classes of the data and are matched by their names"
    return [own.index(key) for key in other], (note,)


def _fold(name: str) -> str:
    return " ".join(name.lower().replace("_", " ").replace("-", " ").split())


def _read_preprocessor(folder: Path) -> tuple[tuple[float, ...], tuple[float, ...], tuple[int, int] | None]:
    """Read mean and standard deviation for images in [0, 1], and the size that images are brought to.

    The preprocessor maps bytes v = 255 x to (v f − o − m)/s, with the factor f, o = 1 or 0, and m and s; that is
    (x − (m + o)/(255 f)) / (s/(255 f)).
    """
    path = folder / _PREPROCESSOR
    if not path.is_file():
        raise PrerequisiteError(
            f"expected {_PREPROCESSOR} in {folder}, which says how images are normalised, got none; save the model's "
            "image processor there, too, with save_pretrained"
        )
    fields = _read_json(path)
    mean, std = fields.get("image_mean", 0.0), fields.get("image_std", 1.0)
    if not fields.get("do_normalize", True):
        mean, std = 0.0, 1.0
    elif "image_mean" not in fields or "image_std" not in fields:
        raise InputError(
            f"expected image_mean and image_std in {path}, which normalises images, got one or none of them; add them"
        )
    factor = fields.get("rescale_factor", 1 / _BYTE) if fields.get("do_rescale", True) else 1.0
    offset = 1.0 if fields.get("rescale_offset") else 0.0
    kinds = (TypeError, ValueError, ZeroDivisionError)
    with damage_named(f"numbers to normalise by in {path}", "correct them", kinds):
        means, stds = (list(it) if isinstance(it, list) else [it] * 3 for it in (mean, std))
        scale = _BYTE * float(factor)
        shifted = tuple((float(it) + offset) / scale for it in means)
        scaled = tuple(float(it) / scale for it in stds)
    if len(shifted) != 3 or len(scaled) != 3 or not all(it > 0 for it in scaled):
        raise InputError(
            f"expected three values of image_mean and of image_std > 0 in {path}, got {mean} and {std}; correct them"
        )
    return shifted, scaled, _read_size(fields)


def _read_size(fields: dict[str, Any]) -> tuple[int, int] | None:
    """Return height and width that the preprocessor produces; None if it keeps the size."""
    crop = fields.get("crop_size") if fields.get("do_center_crop") else None
    size = crop or (fields.get("size") if fields.get("do_resize", True) else None)
    if isinstance(size, int):
        return size, size
    if isinstance(size, dict) and all(isinstance(size.get(side), int) for side in ("height", "width")):
        return size["height"], size["width"]
    if isinstance(size, dict) and isinstance(size.get("shortest_edge"), int):
        return size["shortest_edge"], size["shortest_edge"]
    return None


def _read_json(path: Path) -> dict[str, Any]:
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"expected JSON in {path}, got: {describe_error(error)}; save or download it again") from error
    if not isinstance(fields, dict):
        raise InputError(f"expected an object in {path}, got {type(fields).__name__}; save or download it again")
    return fields
