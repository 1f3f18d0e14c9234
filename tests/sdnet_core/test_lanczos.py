"""The largest eigenvalue against dense decompositions, close and equal eigenvalues included."""

from __future__ import annotations

import math

import pytest
import torch

from sdnet_core import CSCConv2d
from sdnet_core.lanczos import find_largest_eigenvalue


def multiply_by(values: torch.Tensor):
    """A random symmetric matrix with the eigenvalues ``values``, as a map on vectors, and the matrix."""
    generator = torch.Generator().manual_seed(1)
    basis, _ = torch.linalg.qr(torch.randn(len(values), len(values), generator=generator, dtype=torch.float64))
    matrix = (basis * values.double()) @ basis.T
    return (lambda x: (matrix @ x.double()).to(x)), matrix


@pytest.mark.parametrize(
    "values",
    [
        torch.linspace(0, 7, 300),
        torch.tensor([5.0, 5.0, 5.0, 1.0, 0.0]),
        torch.cat([torch.tensor([3.0, 3.0 * (1 - 1e-3)]), torch.linspace(0, 2, 500)]),
        torch.tensor([2.5]),
        torch.full((40,), 4.0),
    ],
    ids=["spread", "equal", "close", "number", "multiple of the identity"],
)
def test_it_is_the_largest_eigenvalue_and_its_vector(values):
    multiply, matrix = multiply_by(values)
    start = torch.randn(len(values), generator=torch.Generator().manual_seed(0))
    value, vector = find_largest_eigenvalue(multiply, start)
    assert value == pytest.approx(float(torch.linalg.eigvalsh(matrix)[-1]), rel=2e-6)
    assert float(torch.linalg.vector_norm(vector)) == pytest.approx(1, abs=1e-6)
    residual = multiply(vector) - value * vector
    assert float(torch.linalg.vector_norm(residual)) < 2e-3 * value


def test_the_vector_has_the_shape_of_the_start():
    _, vector = find_largest_eigenvalue(lambda x: 2 * x, torch.ones(1, 3, 4, 4))
    assert vector.shape == (1, 3, 4, 4)


@pytest.mark.parametrize(("kernel", "stride", "size"), [(3, 1, 9), (3, 2, 8), (5, 1, 7)])
def test_the_symbol_of_a_dictionary_bounds_its_norm(kernel, stride, size):
    """Zero padding and strides only lower ‖A‖²: max over frequencies of ‖Ŵ(ω)‖² is an upper bound."""
    torch.manual_seed(2)
    layer = CSCConv2d(3, 8, kernel_size=kernel, stride=stride, padding=kernel // 2, image_size=size)
    symbol = torch.fft.fft2(layer.weight.detach().double(), s=(64, 64)).permute(2, 3, 0, 1)
    bound = float(torch.linalg.matrix_norm(symbol, 2).max() ** 2)
    assert 0.2 * bound < layer.lipschitz <= bound * (1 + 1e-5)
    assert math.isfinite(layer.lipschitz)


@pytest.mark.parametrize(
    ("seed", "channels", "atoms", "stride", "size"), [(263, 32, 16, 2, 11), (49, 1, 4, 1, 6), (98, 1, 4, 1, 7)]
)
def test_a_start_with_little_of_the_largest_eigenvector_suffices(seed, channels, atoms, stride, size):
    """Dictionaries for which a residual of 1e-5, or Kato and Temple's bound, stops at a smaller eigenvalue."""
    torch.manual_seed(seed)
    layer = CSCConv2d(channels, atoms, stride=stride, image_size=size)
    side = -(-size // stride)
    codes = torch.eye(atoms * side**2, dtype=torch.float64).view(-1, atoms, side, side)
    like = torch.zeros(len(codes), channels, size, size, dtype=torch.float64)
    columns = layer.synthesise(codes, layer.weight.detach().double(), like).flatten(1)
    assert layer.lipschitz == pytest.approx(float(torch.linalg.matrix_norm(columns, 2) ** 2), rel=1e-6)
