"""Path, loss and integrators: closed forms and orders of convergence."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from neurobridge.flow import (
    SOLVERS,
    STEPS,
    VelocityMLP,
    flow_matching_loss,
    integrate,
    recouple,
    sample_path,
    squared_distance,
)  # fmt: skip
from tests.refusals import refused


def test_the_path_is_straight_and_its_velocity_constant():
    x_0, x_1 = torch.randn(50, 3, dtype=torch.float64), torch.randn(50, 3, dtype=torch.float64)
    sample = sample_path(x_0, x_1)
    torch.testing.assert_close(sample.x_t, x_0 + sample.t * (x_1 - x_0))
    torch.testing.assert_close(sample.dx_t, x_1 - x_0)
    assert ((sample.t >= 0) & (sample.t <= 1)).all()


def test_the_width_of_the_path_is_sigma():
    x = torch.zeros(20_000, 2, dtype=torch.float64)
    sample = sample_path(x, x, sigma=0.3, generator=torch.Generator().manual_seed(0))
    assert float(sample.x_t.std()) == pytest.approx(0.3, rel=0.02)


def test_the_true_velocity_has_no_loss():
    x_0, x_1 = torch.randn(10, 3), torch.randn(10, 3)
    sample = sample_path(x_0, x_1)
    assert float(flow_matching_loss(lambda t, x, c: x_1 - x_0, sample, None)) == 0
    assert float(flow_matching_loss(lambda t, x, c: x_1 - x_0 + 2, sample, None)) == pytest.approx(4)


def test_points_of_different_dimensions_have_no_path():
    with refused(ValueError, (4, 2), (4, 3)):
        sample_path(torch.zeros(4, 2), torch.zeros(4, 3))


ORDERS = {"euler": 1, "midpoint": 2, "rk4": 4}


@pytest.mark.parametrize(("method", "order"), list(ORDERS.items()))
def test_order_of_convergence(method, order):
    # dx/dt = x cos t from 0 to 1 has the solution x_0 exp(sin 1).
    x = torch.ones(1, 1, dtype=torch.float64)
    steps = np.array([8, 16, 32, 64])
    errors = [
        abs(float(integrate(lambda t, s: s * torch.cos(t), x, method=method, n_steps=int(n)).x) - math.exp(math.sin(1)))
        for n in steps
    ]
    slope = -np.polyfit(np.log(steps), np.log(errors), 1)[0]
    assert slope == pytest.approx(order, abs=0.15)


@pytest.mark.parametrize("method", list(SOLVERS))
def test_backward_undoes_forward(method):
    x = torch.randn(20, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def field(t, state):
        return torch.sin(state) * (1 + t)

    forward = integrate(field, x, method=method, n_steps=400)
    backward = integrate(field, forward.x, t_start=1.0, t_end=0.0, method=method, n_steps=400)
    tolerance = 2e-2 if method == "euler" else 1e-4
    assert float((backward.x - x).norm() / x.norm()) < tolerance


@pytest.mark.parametrize(("method", "cost"), list(ORDERS.items()))
def test_evaluations_are_counted(method, cost):
    end = integrate(lambda t, x: x, torch.ones(1, 1), method=method, n_steps=5)
    assert end.n_evaluations == 5 * cost


def test_a_diverging_field_is_an_error_not_a_result():
    x = torch.tensor([[0.0], [1e30], [1e35]])
    with refused(FloatingPointError, "2 of 3"):
        integrate(lambda t, state: state**3, x, method="euler", n_steps=10)


@pytest.mark.parametrize("method", list(SOLVERS))
def test_gaussian_to_gaussian_by_the_closed_form_velocity(method):
    # N(0, I) to N(m, S) independently coupled: the marginal at t has mean t m and covariance S_t = (1-t)^2 I + t^2 S, the
    # velocity is m + (t S - (1-t) I) S_t^-1 (x - t m), and the end map m + S^(1/2) x.
    generator = torch.Generator().manual_seed(0)
    A = torch.randn(3, 3, dtype=torch.float64, generator=generator)
    S, m = A @ A.T + torch.eye(3), torch.tensor([1.0, -2.0, 3.0], dtype=torch.float64)
    eye = torch.eye(3, dtype=torch.float64)

    def velocity(t, x):
        S_t = (1 - t) ** 2 * eye + t**2 * S
        return m + (x - t * m) @ torch.linalg.solve(S_t, t * S - (1 - t) * eye)

    values, vectors = torch.linalg.eigh(S)
    root = vectors @ torch.diag(values.sqrt()) @ vectors.T
    x = torch.randn(50, 3, dtype=torch.float64, generator=generator)
    end = integrate(velocity, x, method=method, n_steps=100).x
    exact = m + x @ root
    worst = {"euler": 3e-2, "midpoint": 5e-4, "rk4": 1e-7, "dopri5": 1e-4}[method]
    assert float((end - exact).norm() / exact.norm()) < worst


def test_the_solvers_are_the_fixed_rules_and_the_adaptive_one():
    assert list(SOLVERS) == [*STEPS, "dopri5"]
    assert list(STEPS) == list(ORDERS)


@pytest.mark.parametrize("method", list(SOLVERS))
def test_a_velocity_that_is_not_a_number_is_an_error(method):
    with pytest.raises(FloatingPointError, match="Mend"):
        integrate(lambda t, x: x * torch.nan, torch.ones(2, 2), method=method)


def test_unknown_methods_and_no_steps_are_refused():
    with pytest.raises(ValueError, match=r"'heun'.*midpoint"):
        integrate(lambda t, x: x, torch.ones(1, 1), method="heun")
    with pytest.raises(ValueError, match=r"n_steps=0"):
        integrate(lambda t, x: x, torch.ones(1, 1), n_steps=0)
    with pytest.raises(ValueError, match=r"rtol=0"):
        integrate(lambda t, x: x, torch.ones(1, 1), method="dopri5", rtol=0)


def test_an_untrained_network_is_the_zero_field():
    network = VelocityMLP(5, 3)
    out = network(torch.rand(7, 1), torch.randn(7, 5), torch.randn(7, 3))
    assert torch.equal(out, torch.zeros(7, 5))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_does_not_overflow(dtype):
    x_0 = torch.tensor([[3e4, -3e4], [6e4, 1.0]]).to(dtype)
    x_1 = -x_0
    exact = squared_distance(x_0.double(), x_1.double())
    assert torch.allclose(squared_distance(x_0, x_1).double(), exact, rtol=1e-5)
    assert torch.equal(recouple(x_0, x_1), recouple(x_0.double(), x_1.double()))
    sample = sample_path(x_0, x_1)
    assert sample.dx_t.dtype is torch.float32
    assert torch.equal(sample.dx_t.double(), x_1.double() - x_0.double())
