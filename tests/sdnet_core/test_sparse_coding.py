"""The mathematics of the sparse-coding layers."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from data_prep.errors import InputError
from sdnet_core import CSCConv2d, CSCLinear
from sdnet_core.fista import fista, objective, prox
from sdnet_core.sparse_coding import check_lam, project

SHAPES = [(3, 1, 1, 8), (3, 1, 1, 9), (3, 2, 1, 8), (3, 2, 1, 9), (7, 2, 3, 16), (7, 2, 3, 17), (5, 1, 2, 7)]


def make_layer(kernel: int = 3, stride: int = 1, padding: int = 1, size: int = 8, **options: object) -> CSCConv2d:
    torch.manual_seed(0)
    layer = CSCConv2d(3, 12, kernel_size=kernel, stride=stride, padding=padding, image_size=size, **options)
    return layer.double()


@pytest.mark.parametrize(("kernel", "stride", "padding", "size"), SHAPES)
def test_synthesis_is_the_adjoint_of_analysis(kernel, stride, padding, size):
    layer = make_layer(kernel, stride, padding, size)
    x = torch.randn(2, 3, size, size, dtype=torch.float64)
    correlation = layer.analysis(x)
    code = torch.randn_like(correlation)
    assert torch.isclose((correlation * code).sum(), (x * layer.synthesis(code, x)).sum(), rtol=1e-10)


@pytest.mark.parametrize(("kernel", "stride", "padding", "size"), [*SHAPES, (1, 2, 0, 7), (3, 3, 0, 11)])
def test_synthesis_by_planes_is_the_transposed_convolution(kernel, stride, padding, size):
    """With gradients PyTorch's own is used, without them the sum of planes."""
    layer = make_layer(kernel, stride, padding, size)
    x = torch.randn(2, 3, size, size + 1, dtype=torch.float64)
    code = torch.randn_like(layer.analysis(x))
    expected = layer.synthesis(code, x)
    assert expected.requires_grad
    with torch.no_grad():
        torch.testing.assert_close(layer.synthesis(code, x), expected)
        last = code.contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(layer.synthesis(last, x), expected)


@pytest.mark.parametrize(("kernel", "stride", "padding", "size"), SHAPES)
def test_step_is_0_9_over_the_squared_norm_of_the_dense_dictionary(kernel, stride, padding, size):
    layer = make_layer(kernel, stride, padding, size)
    basis = torch.eye(3 * size * size, dtype=torch.float64).view(-1, 3, size, size)
    dense = layer.analysis(basis).flatten(1).detach()
    assert layer.lipschitz == pytest.approx(float(torch.linalg.matrix_norm(dense, 2) ** 2), rel=1e-5)


def test_random_cifar_dictionary_has_the_published_norm():
    torch.manual_seed(0)
    assert CSCConv2d(3, 64).lipschitz == pytest.approx(31.4, abs=0.3)


def test_atoms_have_unit_norm_after_refresh_and_project():
    layer = make_layer()
    with torch.no_grad():
        layer.weight.mul_(torch.rand(12, 1, 1, 1, dtype=torch.float64) + 0.1)
    layer.project()
    torch.testing.assert_close(layer.weight.flatten(1).norm(dim=1), torch.ones(12, dtype=torch.float64))


def test_projection_follows_a_changing_dictionary():
    layer = make_layer()
    torch.manual_seed(1)
    for _ in range(30):
        with torch.no_grad():
            layer.weight.add_(0.01 * torch.randn_like(layer.weight))
        layer.project()
    followed = layer.lipschitz
    layer.refresh()
    assert followed == pytest.approx(layer.lipschitz, rel=0.02)


def test_layers_projected_together_are_those_projected_one_by_one():
    def make_layers() -> list[torch.nn.Module]:
        torch.manual_seed(0)
        shapes = [(3, 8, 1), (3, 8, 2), (3, 8, 1), (8, 8, 1)]
        layers = [CSCConv2d(c, d, stride=stride, image_size=8) for c, d, stride in shapes]
        layers += [CSCLinear(10, 24), CSCLinear(10, 24)]
        with torch.no_grad():
            for layer in layers:
                layer.weight.add_(0.1 * torch.randn_like(layer.weight))
        return layers

    together, apart = make_layers(), make_layers()
    for _ in range(3):
        project(together)
        for layer in apart:
            layer.project()
    for one, other in zip(together, apart, strict=True):
        torch.testing.assert_close(one.weight, other.weight)
        torch.testing.assert_close(one.step, other.step)
        assert one.step.ndim == 0


@settings(max_examples=60, deadline=None)
@given(
    u=st.floats(-5, 5),
    lam=st.floats(0, 3),
    mu=st.floats(0, 2),
    step=st.floats(0.01, 2),
    non_negative=st.booleans(),
)
def test_prox_minimises_its_objective(u, lam, mu, step, non_negative):
    """Brute force over a fine grid finds nothing lower than the closed form."""
    grid = torch.linspace(0 if non_negative else -6, 6, 24001, dtype=torch.float64)
    value = prox(torch.tensor([u], dtype=torch.float64), step=step, lam=lam, mu=mu, non_negative=non_negative)

    def energy(z: torch.Tensor) -> torch.Tensor:
        return 0.5 * (z - u) ** 2 + step * (lam * z.abs() + 0.5 * mu * z**2)

    assert float(energy(value)) <= float(energy(grid).min()) + 1e-9
    assert not non_negative or float(value) >= 0


def test_signed_prox_satisfies_moreaus_identity():
    """u = prox of λ‖·‖₁ at u + projection of u onto the ℓ∞ ball of radius λ."""
    u = torch.randn(100, dtype=torch.float64)
    shrunk = prox(u, step=1.0, lam=0.7, non_negative=False)
    torch.testing.assert_close(shrunk + u.clamp(-0.7, 0.7), u)


def test_non_negative_prox_is_relu_of_softshrink():
    u, step, lam, mu = torch.randn(50, dtype=torch.float64), 0.3, 0.5, 0.2
    sigma = 1 / (1 + mu * step)
    expected = functional.relu(functional.softshrink(sigma * u, sigma * lam * step))
    torch.testing.assert_close(prox(u, step=step, lam=lam, mu=mu), expected)


def test_two_steps_are_the_formula_of_the_paper():
    layer = make_layer(n_steps=2, lam=0.2)
    x = torch.randn(4, 3, 8, 8, dtype=torch.float64)
    first = functional.relu(layer.step * layer.analysis(x) - 0.2 * layer.step)
    gradient = layer.analysis(x - layer.synthesis(first, x))
    torch.testing.assert_close(layer(x), functional.relu(first + layer.step * gradient - 0.2 * layer.step))


@pytest.mark.parametrize("non_negative", [True, False])
@pytest.mark.parametrize("mu", [0.0, 0.3])
def test_objective_falls_and_converges_to_the_optimality_conditions(mu, non_negative):
    lam = 0.3
    layer = make_layer(mu=mu, non_negative=non_negative)
    x = torch.randn(3, 3, 8, 8, dtype=torch.float64)

    def solve(n_steps: int) -> torch.Tensor:
        return fista(x, layer, step=layer.step, lam=lam, mu=mu, n_steps=n_steps, non_negative=non_negative)

    start = objective(x, torch.zeros_like(layer.analysis(x)), layer, lam=lam, mu=mu)
    one, two, many = (objective(x, solve(n), layer, lam=lam, mu=mu) for n in (1, 2, 60))
    assert (one <= start).all()
    assert (two <= one + 1e-12).all()
    assert (many < two).all()

    code = solve(3000)
    gradient = layer.analysis(layer.synthesis(code, x) - x) + mu * code
    active = code.abs() > 1e-6
    assert active.any()
    torch.testing.assert_close(gradient[active], -lam * code[active].sign(), atol=1e-4, rtol=0)
    assert (-gradient[~active] <= lam + 1e-4).all()
    assert non_negative or (gradient[~active].abs() <= lam + 1e-4).all()


BAD_LAMBDAS = [-0.1, math.nan, math.inf, *map(torch.tensor, (-0.1, math.nan, [0.1, -0.2], [0.1, math.nan]))]


@pytest.mark.parametrize("lam", BAD_LAMBDAS)
def test_bad_lambda_is_refused(lam):
    with pytest.raises(InputError, match=r"expected a finite [λμ] ≥ 0"):
        make_layer()(torch.randn(2, 3, 8, 8, dtype=torch.float64), lam=lam)


def test_lambda_per_image_equals_one_call_per_image():
    layer = make_layer()
    x = torch.randn(3, 3, 8, 8, dtype=torch.float64)
    lams = torch.tensor([0.0, 0.2, 0.9])
    together = layer(x, lam=lams)
    for index, lam in enumerate(lams.tolist()):
        torch.testing.assert_close(together[index : index + 1], layer(x[index : index + 1], lam=lam))
    with pytest.raises(InputError, match="one value for each image"):
        layer(x, lam=torch.tensor([0.1, 0.2]))


def test_gradients_reach_input_dictionary_and_lambda():
    layer = make_layer(size=6)
    x = torch.randn(2, 3, 6, 6, dtype=torch.float64, requires_grad=True)
    lam = torch.tensor([0.1, 0.3], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, lam: layer(x, lam=lam).tanh(), (x, lam), atol=1e-6)
    layer(x, lam=lam).sum().backward()
    assert layer.weight.grad is not None
    assert layer.weight.grad.abs().sum() > 0


def test_one_lambda_tensor_gets_the_sum_of_the_gradients_per_image():
    layer = make_layer()
    x = torch.randn(3, 3, 8, 8, dtype=torch.float64)
    one, each = torch.tensor(0.1, requires_grad=True), torch.full((3,), 0.1, requires_grad=True)
    for lam in (one, each):
        layer(x, lam=lam).tanh().sum().backward()
    assert one.grad is not None
    assert each.grad is not None
    assert one.grad != 0
    torch.testing.assert_close(one.grad, each.grad.sum())


def test_no_host_waits_for_the_values_of_lambda_on_a_device():
    """A meta tensor has no values, so that asking for them raises."""
    lam = torch.empty(2, device="meta")
    assert check_lam(lam, 2) is lam
    with pytest.raises(InputError, match="one value for each image"):
        check_lam(lam, 3)


def test_huge_lambda_silences_every_code():
    layer = make_layer()
    assert not layer(torch.randn(2, 3, 8, 8, dtype=torch.float64), lam=1e6).any()


def test_residual_is_per_image_and_independent_of_the_batch():
    layer = make_layer()
    x = torch.randn(5, 3, 8, 8, dtype=torch.float64)
    code = layer(x)
    residual = layer.residual(x, code)
    assert residual.shape == (5,)
    torch.testing.assert_close(residual[3], (x[3:4] - layer.synthesis(code[3:4], x[3:4])).square().sum())


def test_robust_data_term_takes_unit_residual_steps():
    layer = make_layer(robust=True, n_steps=2, lam=0.0, non_negative=False)
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    first = layer.step * layer.analysis(x)
    misfit = x - layer.synthesis(first, x)
    unit = misfit / misfit.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    torch.testing.assert_close(layer(x), first + 0.5 * layer.step * layer.analysis(unit))


@pytest.mark.parametrize("shape", [(4, 10), (4, 7, 10)])
def test_linear_layer_is_sparse_coding_with_a_matrix(shape):
    torch.manual_seed(0)
    layer = CSCLinear(10, 24, lam=0.1).double()
    x = torch.randn(shape, dtype=torch.float64)
    code = layer(x)
    assert code.shape == (*shape[:-1], 24)
    dense = layer.weight.detach()
    assert layer.lipschitz == pytest.approx(float(torch.linalg.matrix_norm(dense, 2) ** 2), rel=1e-5)
    first = functional.relu(layer.step * (x @ dense.T - 0.1))
    expected = functional.relu(first + layer.step * ((x - first @ dense) @ dense.T - 0.1))
    torch.testing.assert_close(code, expected)
    assert layer.residual(x, code).shape == (4,)


def test_a_dictionary_of_one_column_has_its_norm_in_closed_form():
    layer, x = CSCLinear(1, 4, lam=0.1), torch.tensor([[2.0], [-3.0]])
    assert layer.lipschitz == pytest.approx(4)
    code = layer(x)
    layer.project()
    assert layer.lipschitz == pytest.approx(4)
    torch.testing.assert_close(layer(x), code)


@pytest.mark.parametrize("value", [0.0, 1e-30, 3e38])
def test_a_dictionary_without_a_norm_is_refused(value):
    layer = CSCConv2d(3, 4, image_size=8)
    torch.nn.init.constant_(layer.weight, value)
    with pytest.raises(InputError, match="expected atoms of finite norms, not all of them 0, got norms from"):
        layer.refresh()


@pytest.mark.parametrize("options", [{"mu": -1.0}, {"n_steps": 0}, {"lam": math.nan}])
def test_bad_hyper_parameters_are_refused(options):
    with pytest.raises(InputError, match=r"expected (a finite [λμ] ≥ 0|at least 1 FISTA step K), got"):
        CSCConv2d(3, 4, image_size=8, **options)


@pytest.mark.parametrize("n_steps", [1, 2, 3, 4, 6])
def test_fista_is_that_of_beck_and_teboulle_with_the_first_code_as_its_start(n_steps):
    """Written out with their counting: y₁ = z₀, z_k = P(y_k), y_{k+1} = z_k + (t_k − 1)/t_{k+1} (z_k − z_{k−1})."""
    layer = make_layer()
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    step, lam = layer.step, 0.1

    def descend(y: torch.Tensor) -> torch.Tensor:
        return (y + step * layer.analysis(x - layer.synthesis(y, x)) - step * lam).clamp_min(0)

    before = y = descend(torch.zeros_like(layer.analysis(x)))
    t = 1.0
    for _ in range(n_steps - 1):
        code, t_next = descend(y), (1 + math.sqrt(1 + 4 * t * t)) / 2
        y = code + (t - 1) / t_next * (code - before)
        before, t = code, t_next
    torch.testing.assert_close(fista(x, layer, step=step, lam=lam, n_steps=n_steps), before)
