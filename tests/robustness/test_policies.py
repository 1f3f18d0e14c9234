"""λ policies: the residual law."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from robustness.policies import ResidualLaw

LAW = ResidualLaw(slope=0.01, intercept=0.1, lowest=0.2, highest=0.5)


def test_the_law_is_a_clipped_line_on_arrays_and_tensors_alike():
    residual = np.array([0.0, 10.0, 20.0, 30.0, 100.0])
    expected = [0.2, 0.2, 0.3, 0.4, 0.5]
    np.testing.assert_allclose(LAW.lam(residual), expected)
    torch.testing.assert_close(LAW.lam(torch.from_numpy(residual)), torch.tensor(expected, dtype=torch.float64))


def test_the_law_is_differentiable_where_it_is_not_clipped():
    residual = torch.tensor([5.0, 30.0, 90.0], requires_grad=True)
    LAW.lam(residual).sum().backward()
    assert residual.grad is not None
    assert residual.grad.tolist() == pytest.approx([0.0, 0.01, 0.0])
