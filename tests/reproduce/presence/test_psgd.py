"""The second-order optimiser does what its two papers derive."""

import copy
import itertools

import pytest
import torch
from torch import nn

from wsl_tutorial.reproduce.presence.psgd import (
    PSGDNewton,
    fit_preconditioner,
    hessian_vector_products,
    layer_parameters,
    matrix,
)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def spd(n, g, *, signs=False):
    """Return a symmetric matrix with eigenvalues 0.1 ... 3, every second one negated by `signs`."""
    q, _ = torch.linalg.qr(torch.randn(n, n, generator=g, dtype=torch.float64))
    values = torch.linspace(0.1, 3, n, dtype=torch.float64)
    if signs:
        values[::2] *= -1
    return (q * values) @ q.T, (q * values.abs()) @ q.T


def small_net(g, c_in=1):
    net = nn.Sequential(nn.Conv2d(c_in, 3, 3), nn.LeakyReLU(0.1), nn.Conv2d(3, 2, 2)).double()
    for p in net.parameters():
        nn.init.normal_(p, std=0.5, generator=g)
    return net


@pytest.mark.parametrize("signs", [False, True])
def test_preconditioner_fits_the_inverse_of_the_absolute_hessian(signs):
    g = generator()
    # H = h_right kron h_left acts on a matrix W as h_left W h_right
    h_left, abs_left = spd(5, g, signs=signs)
    h_right, abs_right = spd(3, g)
    left, right = (torch.eye(n, dtype=torch.float64) for n in (5, 3))
    for t in range(6000):
        v = torch.randn(5, 3, generator=g, dtype=torch.float64)
        lr = 0.1 if t < 3000 else 0.1 * (6000 - t) / 3000
        left, right = fit_preconditioner(left, right, v, h_left @ v @ h_right, lr)
    w = torch.randn(5, 3, generator=g, dtype=torch.float64)
    w_back = left.T @ left @ (abs_left @ w @ abs_right) @ right.T @ right
    assert (w_back - w).norm() < 0.1 * w.norm()
    for factor in (left, right):
        assert torch.equal(factor, factor.triu())
        assert (factor.diagonal() > 0).all()


def test_fit_balances_the_factors():
    g = generator()
    v = torch.randn(4, 2, generator=g)
    left, right = fit_preconditioner(1e4 * torch.eye(4), 1e-4 * torch.eye(2), v, v, 1e-6)
    assert left.abs().max().item() == pytest.approx(right.abs().max().item(), rel=1e-3)


def test_steps_on_a_badly_scaled_quadratic_become_newton_steps():
    g = generator(3)
    model = nn.Linear(4, 2).double()
    scale = torch.tensor([100.0, 10.0, 1.0, 0.1, 1.0], dtype=torch.float64)[:, None]
    target = torch.randn(5, 2, generator=g, dtype=torch.float64)

    def closure():
        return 0.5 * (scale * (matrix(model.weight, model.bias) - target) ** 2).sum()

    optimizer = PSGDNewton(model, 0.1, generator(1), preconditioner_lr=0.05)
    for _ in range(1500):
        optimizer.step(closure)
    assert closure().item() < 1e-8
    with torch.no_grad():
        model.weight += 1
        before = matrix(model.weight, model.bias) - target
    optimizer.step(closure)
    after = matrix(model.weight, model.bias) - target
    assert torch.allclose(after[:-1], 0.9 * before[:-1], atol=0.06)  # lr = 0.1 of the whole way


def test_hessian_vector_product_equals_finite_differences():
    g = generator()
    net, images = small_net(g), torch.rand(2, 1, 6, 6, generator=g, dtype=torch.float64)
    parameters = list(net.parameters())
    vectors = [torch.randn(p.shape, generator=g, dtype=p.dtype) for p in parameters]

    def gradient(shift):
        moved = copy.deepcopy(net)
        with torch.no_grad():
            for p, v in zip(moved.parameters(), vectors, strict=True):
                p += shift * v
        return torch.autograd.grad(moved(images).log_softmax(1)[:, 0].sum(), moved.parameters())

    loss = net(images).log_softmax(1)[:, 0].sum()
    gradients, products = hessian_vector_products(loss, parameters, vectors)
    for exact, expected in zip(gradients, gradient(0), strict=True):
        assert torch.allclose(exact, expected)
    for exact, up, down in zip(products, gradient(1e-6), gradient(-1e-6), strict=True):
        assert torch.allclose(exact, (up - down) / 2e-6, rtol=1e-5, atol=1e-6)


def test_step_is_clipped_over_all_layers_together():
    g = generator()
    net, images = small_net(g), torch.rand(2, 1, 6, 6, generator=g, dtype=torch.float64)
    start = [p.detach().clone() for p in net.parameters()]
    optimizer = PSGDNewton(net, 0.5, generator(), max_norm=0.01)
    optimizer.step(lambda: 1e3 * (net(images) ** 2).sum())
    moved = [(p - s).norm() for p, s in zip(net.parameters(), start, strict=True)]
    assert torch.stack(moved).norm().item() == pytest.approx(0.5 * 0.01)


def test_a_small_network_learns_and_its_factors_stay_triangular():
    g = generator()
    net = small_net(g)
    images = torch.rand(32, 1, 6, 6, generator=g, dtype=torch.float64)
    classes = (images[:, 0, :3].mean((1, 2)) > images[:, 0, 3:].mean((1, 2))).long()
    optimizer = PSGDNewton(net, 0.1, generator(), max_norm=1.0, preconditioner_lr=0.05)

    def closure():
        return nn.functional.cross_entropy(net(images).mean((2, 3)), classes)

    losses = [optimizer.step(closure).item() for _ in range(400)]
    assert losses[-1] < 0.3 * losses[0]
    for weight, _ in layer_parameters(net):
        for factor in (optimizer.state[weight]["left"], optimizer.state[weight]["right"]):
            assert torch.equal(factor, factor.triu())


@pytest.mark.parametrize(
    ("first_has", "second_has", "lr", "steps"),
    [({"max_norm": 1.0}, {}, 0.7, 3), ({"every": 3}, {"every": 3}, 0.1, 4)],
    ids=["other options", "between two fits"],
)
def test_state_dict_round_trip_continues_bit_for_bit(first_has, second_has, lr, steps):
    g = generator()
    images = torch.rand(4, 1, 6, 6, generator=g, dtype=torch.float64)
    one = small_net(g)
    first = PSGDNewton(one, 0.1, generator(5), **first_has)
    for _ in range(steps):
        first.step(lambda: one(images).log_softmax(1)[:, 0].mean().neg())
    two = copy.deepcopy(one)
    second = PSGDNewton(two, lr, generator(9), **second_has)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    for net, optimizer in ((one, first), (two, second)):
        for _ in range(steps):
            optimizer.step(lambda net=net: net(images).log_softmax(1)[:, 0].mean().neg())
    assert second.param_groups[0]["lr"] == 0.1
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))


def test_parameters_outside_layers_are_refused():
    with pytest.raises(ValueError, match="model"):
        PSGDNewton(nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2)), 0.1, generator())


def test_the_preconditioner_is_fitted_at_every_so_many_steps():
    g = generator()
    images = torch.rand(4, 1, 6, 6, generator=g, dtype=torch.float64)
    net = small_net(g)
    optimizer = PSGDNewton(net, 0.1, generator(5), max_norm=1.0, every=3)
    left, drawn = [], []
    for _ in range(7):
        optimizer.step(lambda: net(images).log_softmax(1)[:, 0].mean().neg())
        left.append(optimizer.state[net[0].weight]["left"].clone())
        drawn.append(optimizer.generator.get_state())
    changed = [not torch.equal(a, b) for a, b in itertools.pairwise(left)]
    assert changed == [False, False, True, False, False, True]
    assert [not torch.equal(a, b) for a, b in itertools.pairwise(drawn)] == changed
    with pytest.raises(ValueError, match="every"):
        PSGDNewton(net, 0.1, generator(), every=0)


def test_a_step_without_a_fit_takes_the_preconditioned_gradient():
    g = generator()
    images = torch.rand(4, 1, 6, 6, generator=g, dtype=torch.float64)
    net = small_net(g)
    optimizer = PSGDNewton(net, 0.1, generator(5), every=2)

    def loss():
        return net(images).log_softmax(1)[:, 0].mean().neg()

    optimizer.step(loss)
    before = [p.detach().clone() for p in net.parameters()]
    gradients = torch.autograd.grad(loss(), list(net.parameters()))
    optimizer.step(loss)
    for i, layer in enumerate((net[0], net[2])):
        held = optimizer.state[layer.weight]
        left, right = (held[k].T @ held[k] for k in ("left", "right"))
        step = left @ matrix(*gradients[2 * i : 2 * i + 2]) @ right
        moved = matrix(*before[2 * i : 2 * i + 2]) - matrix(layer.weight, layer.bias)
        torch.testing.assert_close(moved, 0.1 * step)
