"""ONNX models: through onnx2torch, with gradients, if it agrees with onnxruntime; otherwise through onnxruntime."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from data_prep.errors import InputError, PrerequisiteError, damage_named, describe_error
from robustness.measure.loaders.loaded import Loaded, Wanted, check_input_shape, import_package, loading
from robustness.measure.loaders.weights import hash_file
from robustness.measure.wrappers import FixedBatch

TOLERANCE = 1e-3
"""Largest difference of logits between onnx2torch and onnxruntime, as a share of the largest logit."""
_DTYPES = {"tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(float16)": np.float16}
_SIDE, _IMAGES = 64, 4
_OPSETS = (None, 17, 13)
"""Versions of ONNX's operations, tried in order: onnx2torch does not know the newest."""


class OnnxSession(nn.Module):
    """A model that onnxruntime runs on the CPU; gradients do not reach the images.

    Args:
        path: path of the ``.onnx`` file; external data is found next to it.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path, self._session = path, None

    @property
    def session(self) -> Any:
        """onnxruntime's session, made on first use: it cannot be sent to another process."""
        if self._session is None:
            runtime = import_package("onnxruntime", self.path)
            options = runtime.SessionOptions()
            options.intra_op_num_threads = torch.get_num_threads()
            options.log_severity_level = 3
            self._session = runtime.InferenceSession(str(self.path), options, providers=["CPUExecutionProvider"])
        return self._session

    def __getstate__(self) -> dict[str, Any]:
        """Return everything but the session."""
        return {**self.__dict__, "_session": None}

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Compute all outputs for images (N, 3, H, W), on the device of the images."""
        given = self.session.get_inputs()[0]
        array = images.detach().cpu().numpy().astype(_DTYPES[given.type])
        outputs = self.session.run(None, {given.name: array})
        return tuple(torch.from_numpy(it).to(images.device) for it in outputs if isinstance(it, np.ndarray))


class ChannelsLast(nn.Module):
    """A model for images (N, H, W, 3) that is given images (N, 3, H, W)."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Any:
        """Return the output of the model."""
        return self.model(images.permute(0, 2, 3, 1).contiguous())


def load_onnx(path: Path, wanted: Wanted) -> Loaded:
    """Read a model of ONNX.

    Raises:
        PrerequisiteError: a package is missing.
        InputError: a damaged file, or a model whose input is not images.
    """
    runner = OnnxSession(path)
    onnx = import_package("onnx", path)
    try:
        onnx.checker.check_model(str(path))
    except Exception as error:  # the packages raise a dozen kinds
        raise InputError(
            f"expected a whole ONNX file, got {path}, truncated or damaged ({describe_error(error)}); export or "
            "download it again"
        ) from error
    try:
        inputs = runner.session.get_inputs()
    except PrerequisiteError:
        raise
    except Exception as error:
        raise InputError(
            f"{path} cannot be run by onnxruntime ({describe_error(error)}); export it in float32 and the operations "
            "that onnxruntime has"
        ) from error
    if len(inputs) != 1 or inputs[0].type not in _DTYPES:
        taken = ", ".join(f"{it.name} {it.type}" for it in inputs)
        raise InputError(
            f"expected one input, images of floating-point numbers in [0, 1], got {path}, which takes {taken}; export "
            "it so"
        )
    shape = tuple(inputs[0].shape)
    is_last = len(shape) == 4 and shape[3] == 3 and shape[1] != 3
    shape = (shape[0], shape[3], *shape[1:3]) if is_last else shape
    batch, size = check_input_shape(path, shape, wanted)
    sample = _draw_sample(shape, wanted, is_last)
    converted, reason = _convert(path, runner, sample, _DTYPES[inputs[0].type])
    model: nn.Module = runner if converted is None else converted
    model = ChannelsLast(model) if is_last else model
    model = FixedBatch(model, batch) if batch is not None else model
    note = (
        f"{path.name} runs in onnxruntime, on the processor and without gradients ({reason}): corruptions and "
        "black-box attacks are measured, attacks by gradients are not"
    )
    return Loaded(
        model=model,
        version="ONNX" if converted is not None else "ONNX, onnxruntime",
        input_size=size,
        content=_hash(path, onnx),
        differentiable=converted is not None,
        notes=() if converted is not None else (note,),
    )


def _draw_sample(shape: tuple[Any, ...], wanted: Wanted, is_last: bool) -> Tensor:
    """Draw a few images of noise in the shape that the model takes."""
    free = wanted.shown_size or (_SIDE, _SIDE)
    n, height, width = (
        own if isinstance(own, int) else other for own, other in zip((shape[0], *shape[2:]), (_IMAGES, *free))
    )
    images = torch.rand(n, 3, height, width, generator=torch.Generator().manual_seed(0))
    return images.permute(0, 2, 3, 1).contiguous() if is_last else images


def _convert(path: Path, runner: OnnxSession, sample: Tensor, dtype: Any) -> tuple[nn.Module | None, str]:
    """Convert the model to a PyTorch module, if it agrees with onnxruntime; otherwise return None and the reason."""
    with damage_named(f"outputs of {path} for images of noise", "export it again"):
        expected = runner(sample)
    given, reason = sample.to(torch.from_numpy(np.zeros(0, dtype)).dtype), ""
    for opset in _OPSETS:
        try:
            with loading(), warnings.catch_warnings(action="ignore"), contextlib.redirect_stderr(io.StringIO()):
                converted = _translate(path, opset)
                with torch.no_grad():
                    output = converted(given)
        except ImportError:
            return None, "the package onnx2torch is not installed; in the project's folder, pip install '.[models]'"
        except Exception as error:  # an unknown operation can fail in many ways
            reason = reason or f"onnx2torch cannot convert it: {describe_error(error)}"
            continue
        answers = tuple(output) if isinstance(output, tuple | list) else (output,)
        if all(own.shape == other.shape and _agree(own, other) for own, other in zip(answers, expected)):
            return converted, ""
        reason = "what onnx2torch makes of it answers otherwise than onnxruntime"
    return None, reason


def _translate(path: Path, opset: int | None) -> nn.Module:
    """Translate a model with onnx2torch, after conversion to the operations of ``opset``, or as it is for None."""
    translator = importlib.import_module("onnx2torch")
    if opset is None:
        return translator.convert(str(path)).eval()  # type: ignore[no-any-return]
    content = importlib.import_module("onnx").load(str(path))
    rewritten = importlib.import_module("onnx.version_converter").convert_version(content, opset)
    return translator.convert(rewritten).eval()  # type: ignore[no-any-return]


def _agree(own: Tensor, other: Tensor) -> bool:
    largest = max(1.0, float(other.double().abs().max()))
    return bool((own.double() - other.double()).abs().max() <= TOLERANCE * largest)


def _hash(path: Path, onnx: Any) -> str:
    """Compute the SHA-256 (hex) of the file and of the external data that it names."""
    content = onnx.load(str(path), load_external_data=False)
    places = {
        entry.value for tensor in content.graph.initializer for entry in tensor.external_data if entry.key == "location"
    }
    if not places:
        return hash_file(path)
    hashes = [hash_file(path), *(hash_file(path.parent / place) for place in sorted(places))]
    return hashlib.sha256("".join(hashes).encode()).hexdigest()
