"""The fused solver against the plain one: the same codes and gradients, in one pass and with less memory."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from sdnet_core import CSCConv2d, CSCLinear, shrinkage
from sdnet_core.fista import fista
from sdnet_core.fused import fused_fista
from sdnet_core.sparse_coding import SparseCoding

SHAPES = [(3, 1, 1, 8), (3, 2, 1, 9), (7, 2, 3, 17)]
OPTIONS = [
    {"mu": mu, "non_negative": non_negative, "robust": robust}
    for mu, non_negative, robust in itertools.product((0.0, 0.3), (True, False), (False, True))
]


def make_layer(kernel: int = 3, stride: int = 1, padding: int = 1, size: int = 8) -> CSCConv2d:
    torch.manual_seed(0)
    return CSCConv2d(3, 12, kernel_size=kernel, stride=stride, padding=padding, image_size=size)


def solve(solver, layer: SparseCoding, x: Tensor, lam: float | Tensor, **options) -> list[Tensor]:
    """The code, and the gradients of a weighted sum of it for the input, the dictionary and, if it is a tensor, λ."""
    x = x.detach().requires_grad_()
    wanted = [x, layer.weight]
    if isinstance(lam, Tensor):
        lam = lam.detach().requires_grad_()
        wanted.append(lam)
    code = solver(x, layer, step=layer.step, lam=lam, **options)
    weights = torch.linspace(-1, 1, code.numel(), dtype=code.dtype).view_as(code).to(code.device)
    return [code, *torch.autograd.grad((code * weights).sum(), wanted)]


def assert_alike(
    layer: SparseCoding, x: Tensor, lam: float | Tensor, rtol: float = 1e-9, atol: float = 1e-11, **options
):
    for fused, plain in zip(solve(fused_fista, layer, x, lam, **options), solve(fista, layer, x, lam, **options)):
        torch.testing.assert_close(fused, plain, rtol=rtol, atol=atol)


@pytest.mark.parametrize("n_steps", [1, 2, 3, 8])
@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("shape", SHAPES)
def test_codes_and_gradients_are_those_of_plain_fista(shape, options, n_steps):
    layer = make_layer(*shape).double()
    x = torch.randn(2, 3, shape[-1], shape[-1] + 1, dtype=torch.float64)
    per_image = torch.tensor([0.05, 0.4], dtype=torch.float64).view(2, 1, 1, 1)
    for lam in (0.2, per_image):
        assert_alike(layer, x, lam, n_steps=n_steps, **options)


@pytest.mark.parametrize("shape", [(4, 10), (4, 7, 10)])
def test_vectors_and_tokens(shape):
    layer = CSCLinear(10, 24).double()
    lam = torch.rand(4, *[1] * (len(shape) - 1), dtype=torch.float64)
    assert_alike(layer, torch.randn(shape, dtype=torch.float64), lam, n_steps=3)


def test_inputs_of_any_memory_layout():
    layer = make_layer().double()
    x = torch.randn(4, 3, 8, 16, dtype=torch.float64)
    for view in (x[::2, :, :, ::2], x.transpose(2, 3), x.contiguous(memory_format=torch.channels_last)):
        assert_alike(layer, view, 0.2, n_steps=3)


def test_bf16_is_as_near_to_the_exact_code_as_plain_fista_in_bf16():
    layer = make_layer()
    x = torch.randn(8, 3, 8, 8)
    exact = solve(fista, layer, x, 0.1, n_steps=3)
    with torch.autocast("cpu", torch.bfloat16):
        plain, fused = (solve(solver, layer, x, 0.1, n_steps=3) for solver in (fista, fused_fista))
    assert fused[0].dtype == torch.bfloat16
    assert [gradient.dtype for gradient in fused[1:]] == [torch.float32, torch.float32]
    for mine, other, right in zip(fused, plain, exact):
        error, reference = ((value.float() - right).norm() / right.norm() for value in (mine, other))
        assert error < 1.5 * reference + 1e-3


def test_only_the_gradients_that_are_asked_for_are_computed():
    layer = make_layer().requires_grad_(False)
    x = torch.randn(2, 3, 8, 8, requires_grad=True)
    fused_fista(x, layer, step=layer.step, lam=0.1).sum().backward()
    assert x.grad is not None
    layer.requires_grad_(True)
    fused_fista(x.detach(), layer, step=layer.step, lam=0.1).sum().backward()
    assert layer.weight.grad is not None
    assert not fused_fista(x.detach(), layer.requires_grad_(False), step=layer.step, lam=0.1).requires_grad


@pytest.mark.parametrize("options", OPTIONS)
def test_a_known_correlation_changes_nothing_but_the_time(options):
    layer = make_layer().double()
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    correlation = layer.analysis(x).detach()
    before = correlation.clone()
    for lam in (0.1, 0.4):
        for solver in (fista, fused_fista):
            code = solver(x, layer, step=layer.step, lam=lam, n_steps=3, correlation=correlation, **options)
            torch.testing.assert_close(code, solver(x, layer, step=layer.step, lam=lam, n_steps=3, **options))
    assert torch.equal(correlation, before)


def test_a_known_correlation_takes_part_in_the_gradient():
    layer = make_layer()
    x = torch.randn(2, 3, 8, 8, requires_grad=True)
    (through,) = torch.autograd.grad(layer(x, 0.1, layer.analysis(x)).sum(), x)
    (direct,) = torch.autograd.grad(layer(x, 0.1).sum(), x)
    torch.testing.assert_close(through, direct)


def test_not_a_number_stays_one():
    layer = make_layer()
    x = torch.randn(2, 3, 8, 8)
    x[0, 0, 0, 0] = torch.nan
    code = fused_fista(x, layer, step=layer.step, lam=0.1)
    assert code[0].isnan().any()
    assert not code[1].isnan().any()


def saved_bytes(solver, n_steps: int) -> int:
    """Memory that waits for the backward pass, without the weight."""
    layer = make_layer()
    x = torch.randn(4, 3, 8, 8, requires_grad=True)
    storages: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        code = solver(x, layer, step=layer.step, lam=0.1, n_steps=n_steps)
    storages.pop(layer.weight.untyped_storage().data_ptr(), None)
    assert code.requires_grad
    return sum(storages.values())


def test_less_memory_waits_for_the_backward_pass():
    image, code = (4 * 4 * channels * 8 * 8 for channels in (3, 12))
    assert saved_bytes(fused_fista, 2) == 2 * image + 2 * code  # x, the misfit; z₁, z₂
    assert saved_bytes(fista, 2) > saved_bytes(fused_fista, 2)
    assert saved_bytes(fused_fista, 8) == image
    assert saved_bytes(fista, 8) > 20 * saved_bytes(fused_fista, 8)


def test_a_changed_dictionary_is_noticed_before_a_wrong_gradient():
    layer = make_layer()
    code = fused_fista(torch.randn(2, 3, 8, 8), layer, step=layer.step, lam=0.1)
    layer.normalise_atoms()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        code.sum().backward()


@pytest.fixture
def interpreted(monkeypatch):
    """Run the Triton kernels in Triton's interpreter, on the CPU."""
    pytest.importorskip("triton", reason="Triton comes with PyTorch's CUDA builds only")
    from triton.runtime.interpreter import InterpretedFunction

    from sdnet_core import triton_kernels

    for name in ("shrink_kernel", "differentiate_kernel"):
        monkeypatch.setattr(triton_kernels, name, InterpretedFunction(getattr(triton_kernels, name).fn))
    monkeypatch.setattr(shrinkage, "runs_kernels", lambda tensor: True)


@pytest.mark.usefixtures("interpreted")
@pytest.mark.parametrize("n_steps", [1, 2, 4])
@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("channels_last", [False, True])
def test_triton_kernels_compute_the_same(channels_last, options, n_steps):
    layer = make_layer(3, 2, 1, 9)
    x = torch.randn(2, 3, 9, 10)
    if channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    for lam in (0.2, torch.tensor([0.05, 0.4]).view(2, 1, 1, 1)):
        assert_alike(layer, x, lam, n_steps=n_steps, rtol=1e-4, atol=1e-5, **options)


@pytest.mark.usefixtures("interpreted")
def test_triton_kernels_keep_not_a_number_and_take_empty_batches():
    layer = make_layer()
    x = torch.randn(2, 3, 8, 8)
    x[0] = torch.nan
    for non_negative in (True, False):
        code = fused_fista(x, layer, step=layer.step, lam=0.1, non_negative=non_negative)
        assert code[0].isnan().any()
        assert not code[1].isnan().any()
    assert fused_fista(x[:0], layer, step=layer.step, lam=0.1).shape == (0, 12, 8, 8)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_on_a_gpu_codes_and_gradients_are_those_of_plain_fista(dtype):
    layer = make_layer(3, 2, 1, 17).cuda()
    x = torch.randn(8, 3, 17, 18, device="cuda")
    tolerance = 1e-4 if dtype == torch.float32 else 3e-2
    for lam in (0.1, torch.rand(8, 1, 1, 1, device="cuda")):
        with torch.autocast("cuda", torch.bfloat16, enabled=dtype == torch.bfloat16):
            assert_alike(layer, x, lam, n_steps=3, rtol=tolerance, atol=tolerance)
