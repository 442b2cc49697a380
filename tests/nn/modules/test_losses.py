"""Distillation losses against brute force in numpy."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from skcompress.nn.modules.losses import binary_kl, soft_kl, soften

TEMPERATURES = st.floats(0.25, 8.0)


def brute_soften(p, t):
    powers = [x ** (1 / t) if x > 0 else 0.0 for x in p]
    return [x / sum(powers) for x in powers]


def brute_row(logits, p, t):
    """T^2 KL(p_T || q_T) of one row, in plain Python."""
    exps = [math.exp((s - max(logits)) / t) for s in logits]
    q = [e / sum(exps) for e in exps]
    return t**2 * sum(a * math.log(a / b) for a, b in zip(brute_soften(p, t), q, strict=True) if a)


def brute_mean(logits, p, t):
    """Mean over everything but axis 1."""
    rows = np.moveaxis(np.asarray(logits), 1, -1).reshape(-1, logits.shape[1])
    targets = np.moveaxis(np.asarray(p), 1, -1).reshape(-1, p.shape[1])
    return np.mean([brute_row(list(a), list(b), t) for a, b in zip(rows, targets, strict=True)])


@st.composite
def cases(draw):
    shape = draw(st.sampled_from([(1, 2), (3, 2), (4, 5), (2, 3, 4), (2, 3, 2, 2)]))
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    logits = rng.normal(size=shape) * draw(st.sampled_from([0.1, 3.0, 30.0]))
    p = rng.dirichlet(np.ones(shape[1]) * 0.5, size=shape[:1] + shape[2:])
    p = np.moveaxis(p, -1, 1).copy()
    if draw(st.booleans()):  # zeros, as forests give
        p[p < 0.2] = 0
        p[:, 0] += p.sum(axis=1) == 0
        p /= p.sum(axis=1, keepdims=True)
    return torch.from_numpy(logits), torch.from_numpy(p)


@given(cases(), TEMPERATURES)
@settings(deadline=None, max_examples=100)
def test_soft_kl_is_the_definition(case, temperature):
    logits, p = case
    expected = brute_mean(logits, p, temperature)
    np.testing.assert_allclose(soft_kl(logits, p, temperature), expected, rtol=1e-9, atol=1e-9)


@given(cases(), TEMPERATURES)
@settings(deadline=None, max_examples=50)
def test_binary_kl_is_the_definition(case, temperature):
    logits, p = case[0], case[1].clamp(0, 1)
    rows = torch.stack([torch.zeros_like(logits).reshape(-1), logits.reshape(-1)], dim=1)
    targets = torch.stack([1 - p.reshape(-1), p.reshape(-1)], dim=1)
    expected = brute_mean(rows, targets, temperature)
    np.testing.assert_allclose(binary_kl(logits, p, temperature), expected, rtol=1e-9, atol=1e-9)


@given(cases(), TEMPERATURES)
@settings(deadline=None, max_examples=50)
def test_soften_is_the_definition(case, temperature):
    _, p = case
    got = soften(p, temperature)
    rows = np.moveaxis(np.asarray(p), 1, -1).reshape(-1, p.shape[1])
    expected = np.array([brute_soften(row, temperature) for row in rows])
    np.testing.assert_allclose(
        np.moveaxis(got.numpy(), 1, -1).reshape(expected.shape), expected, rtol=1e-9, atol=1e-12
    )
    assert torch.equal(got == 0, p == 0)


@given(cases(), TEMPERATURES)
@settings(deadline=None, max_examples=50)
def test_never_negative_and_zero_only_when_equal(case, temperature):
    logits, p = case
    assert soft_kl(logits, p, temperature) >= -1e-9
    assert soft_kl(logits, torch.softmax(logits, 1), temperature).abs() < 1e-8
    # log-probabilities are valid logits
    assert soft_kl(torch.log_softmax(logits, 1), p, temperature) == pytest.approx(
        soft_kl(logits, p, temperature).item(), rel=1e-8, abs=1e-9
    )


def test_softening_probabilities_is_dividing_logits():
    logits = torch.randn(5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(
        soften(torch.softmax(logits, 1), 3.0), torch.softmax(logits / 3.0, dim=1)
    )


@pytest.mark.parametrize("temperature", [0.01, 1.0, 100.0])
@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_one_hot_teacher_gives_finite_losses_and_gradients(temperature, scale):
    logits = (scale * torch.tensor([[1.0, -2.0, 0.5], [0.0, 1.0, 0.0]])).requires_grad_()
    p = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.5, 0.5]])
    loss = soft_kl(logits, p, temperature)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(logits.grad).all()


def test_one_hot_teacher_is_cross_entropy_at_temperature_one():
    logits = torch.randn(6, 4, generator=torch.Generator().manual_seed(1))
    y = torch.tensor([0, 1, 2, 3, 0, 1])
    p = nn.functional.one_hot(y, 4).float()
    torch.testing.assert_close(soft_kl(logits, p, 1.0), nn.functional.cross_entropy(logits, y))
    torch.testing.assert_close(
        binary_kl(logits, p, 1.0), nn.functional.binary_cross_entropy_with_logits(logits, p)
    )


def test_zero_probability_where_the_student_is_certain_too():
    logits = torch.tensor([[0.0, -torch.inf]], requires_grad=True)
    loss = soft_kl(logits, torch.tensor([[1.0, 0.0]]), 2.0)
    assert loss.item() == 0


def test_gradients():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 4, 2, dtype=torch.float64, generator=generator, requires_grad=True)
    p = torch.softmax(3 * torch.randn(3, 4, 2, dtype=torch.float64, generator=generator), 1)
    p[0, 1] = 0
    assert torch.autograd.gradcheck(lambda s: soft_kl(s, p, 2.5), logits)
    assert torch.autograd.gradcheck(lambda s: binary_kl(s, p, 2.5), logits)


def test_gradients_keep_their_size_as_the_temperature_rises():
    logits = torch.tensor([[0.3, -0.1, 0.2]], dtype=torch.float64, requires_grad=True)
    p = torch.tensor([[0.3, 0.3, 0.4]], dtype=torch.float64)
    sizes = [
        torch.autograd.grad(soft_kl(logits, p, t), logits)[0].norm().item() for t in (10.0, 100.0)
    ]
    assert sizes[1] == pytest.approx(sizes[0], rel=0.05)


def test_no_gradient_into_the_teacher():
    p = torch.tensor([[0.5, 0.5]], requires_grad=True)
    logits = torch.tensor([[0.0, 1.0]], requires_grad=True)
    soft_kl(logits, p, 2.0).backward()
    assert p.grad is None
    assert logits.grad is not None


@pytest.mark.parametrize("shape", [(3,), (3, 1), (3, 2)])
def test_binary_mean_is_over_all_outputs(shape):
    logits = torch.ones(shape)
    expected = brute_row([0.0, 1.0], [0.8, 0.2], 2.0)
    assert binary_kl(logits, torch.full(shape, 0.2), 2.0).item() == pytest.approx(expected, 1e-5)


@pytest.mark.parametrize("temperature", [0, -1.0, float("nan"), float("inf")])
def test_bad_temperature(temperature):
    with pytest.raises(ValueError, match=f"Got temperature={temperature!r}, but expected"):
        soft_kl(torch.zeros(1, 2), torch.tensor([[0.5, 0.5]]), temperature)


def test_shapes_that_would_broadcast_are_refused():
    with pytest.raises(ValueError, match=r"shape \(4, 2\) and .* shape \(1, 2\)"):
        soft_kl(torch.zeros(4, 2), torch.ones(1, 2), 1.0)
    with pytest.raises(ValueError, match=r"\(N, C, ...\)"):
        soft_kl(torch.zeros(4), torch.ones(4), 1.0)
    with pytest.raises(ValueError, match=r"shape \(4, 1\) and .* shape \(4,\)"):
        binary_kl(torch.zeros(4, 1), torch.ones(4), 1.0)
