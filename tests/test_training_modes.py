"""The losses of the rooms as people train them: compiled, exported, in halves, in two processes."""

import os
import socket
from datetime import timedelta

import pytest
import torch
import torch.distributed as dist
from torch import multiprocessing, nn

from wsl_tutorial import counts, patches, presence, regions

torch.manual_seed(0)
LABELS = torch.rand(8, 3) > 0.5
MASK = torch.arange(6) < torch.arange(8)[:, None] % 5 + 2
COUNTS = (torch.rand(8, 6) > 0.5).logical_and(MASK).sum(1)
BY_CLASS = torch.tensor([[2, 1, 2, 1]] * 8)
TARGET = torch.arange(8) % 4
X = torch.randn(8, 4, 6)


def presence_loss(x, rows=slice(None)):
    return -presence.log_likelihood(x.log_softmax(1), LABELS[rows]).mean()


def counts_loss(x, rows=slice(None)):
    return -counts.log_likelihood(x[:, 0], COUNTS[rows], MASK[rows]).mean()


def multiclass_loss(x, rows=slice(None)):
    return -counts.log_likelihood_multiclass(x.mT.log_softmax(2), BY_CLASS[rows]).mean()


def patches_loss(x, rows=slice(None)):
    return patches.proportion_loss(x.mT, BY_CLASS[rows]).mean()


def regions_loss(x, rows=slice(None)):
    return regions.min_max_loss(x[..., 0], x[..., 1], TARGET[rows], x[..., 2])


LOSSES = (presence_loss, counts_loss, multiclass_loss, patches_loss, regions_loss)
each_loss = pytest.mark.parametrize("loss", LOSSES)


class Model(nn.Module):
    """A linear layer and a loss, as one program."""

    def __init__(self, loss, rows=slice(None)):
        super().__init__()
        self.loss, self.rows = loss, rows
        self.weight = nn.Parameter(torch.eye(4) + 0.1)

    def forward(self, x):
        return self.loss(torch.einsum("cd,bdn->bcn", self.weight, x), self.rows)


def slope(model, x=X):
    value = model(x)
    return value, *torch.autograd.grad(value, next(iter(model.parameters())))


def compiled(program, **options):
    torch._dynamo.reset()
    return torch.compile(program, fullgraph=True, backend="aot_eager", **options)


@each_loss
def test_a_compiled_loss_is_one_graph_with_the_same_gradient(loss):
    model = Model(loss)
    torch.testing.assert_close(slope(compiled(model)), slope(model))


@each_loss
def test_an_exported_loss_gives_the_same_value_and_gradient(loss):
    model = Model(loss)
    program = torch.export.export(model, (X,)).module()
    torch.testing.assert_close(slope(program), slope(model))


def test_a_compiled_loss_still_refuses_wrong_values():
    with pytest.raises(ValueError, match=r"log_p of shape .* must hold log-probabilities"):
        compiled(presence.log_likelihood)(X, LABELS)
    with pytest.raises(RuntimeError, match="a value is out of range"):
        compiled(regions.min_max_loss)(X[..., 0] / 0, X[..., 1], TARGET)


def test_a_compiled_loss_takes_batches_of_any_size():
    run = compiled(presence.log_likelihood, dynamic=True)
    for size in (8, 5, 3):
        log_p = X[:size].log_softmax(1)
        value = presence.log_likelihood(log_p, LABELS[:size])
        torch.testing.assert_close(run(log_p, LABELS[:size]), value)


def test_a_compiled_function_is_not_compiled_again_for_each_size():
    run = compiled(presence.log_likelihood, dynamic=True)
    more = compiled(counts.log_likelihood_multiclass, dynamic=True)
    for size in range(2, 14):  # more sizes than the compiler would take one by one
        log_p = torch.randn(size, 4, 3).log_softmax(1)
        labels = torch.arange(3 * size).view(size, 3) % 2
        torch.testing.assert_close(run(log_p, labels), presence.log_likelihood(log_p, labels))
        log_p, y = log_p.mT, torch.tensor([[1, 0, 2, 0]]).expand(size, -1)
        right = counts.log_likelihood_multiclass(log_p, y)
        torch.testing.assert_close(more(log_p, y), right)


def test_each_compiled_function_has_a_limit_of_its_own():
    torch._dynamo.reset()
    log_p = X.log_softmax(1)
    functions = ("log_likelihood", "recursion", "posterior", "alternating_series", "beta_recursion")
    given = {name: (log_p, LABELS) for name in functions}
    given |= {n: (log_p,) for n in ("marginals", "log_marginals", "mean_scores", "noisy_or")}
    given |= {n: (log_p,) for n in ("log_alpha_scores", "most_probable_set", "max_pooling")}
    for name, args in given.items():
        function = getattr(presence, name)
        run = torch.compile(function, fullgraph=True, backend="aot_eager")
        torch.testing.assert_close(run(*args), function(*args))


def test_a_compiled_function_takes_names_in_any_order():
    def loss(function, x):
        real = torch.ones(8, 6, dtype=torch.bool)
        many = torch.ones(8, 6, dtype=torch.int8)
        log_p = x.log_softmax(1)
        first = presence.log_likelihood(mask=real, labels=LABELS, log_p=log_p)
        return first.sum() + function(multiplicity=many, counts=BY_CLASS, log_p=log_p.mT).sum()

    x = X.clone().requires_grad_()
    value = loss(counts.log_likelihood_multiclass, x)
    got = compiled(loss)(counts.log_likelihood_multiclass, x)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, value)
    slopes = [torch.autograd.grad(y, x)[0] for y in (got, value)]
    torch.testing.assert_close(*slopes)


def test_a_compiled_function_takes_numbers_that_change():
    widths = compiled(lambda x, width: presence.copy_weights(x, width))
    orders = compiled(lambda x, order: presence.bounds(x, LABELS, order))
    log_p = X.log_softmax(1)
    for number in (1, 2, 3):
        for width in (number, number / 2):
            right = presence.copy_weights(X, width)
            torch.testing.assert_close(widths(X, width), right)
        torch.testing.assert_close(orders(log_p, number), presence.bounds(log_p, LABELS, number))


def test_half_log_p_of_noisy_counts_is_compiled_and_vectorised():
    confusion = torch.randn(4, 4).log_softmax(1)

    def function(log_p, y):
        return counts.log_likelihood_noisy_multiclass(log_p, y, confusion)

    log_p = X.mT.log_softmax(2).bfloat16()
    value = function(log_p, BY_CLASS)
    torch.testing.assert_close(compiled(function)(log_p, BY_CLASS), value)
    parts = torch.func.vmap(function)(log_p.view(2, 4, 6, 4), BY_CLASS.view(2, 4, 4))
    torch.testing.assert_close(parts.flatten(), value)
    with pytest.raises(ValueError, match=r"log_p of shape .* sum to 1 over dim 2"):
        torch.func.vmap(function)(1 + log_p[None], BY_CLASS[None])


@each_loss
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_answered_in_float32(loss, dtype):
    x = X.to(dtype).requires_grad_()
    value = loss(x)
    (gradient,) = torch.autograd.grad(value, x)
    assert (value.dtype, gradient.dtype) == (torch.float32, dtype)
    exact = loss(X)
    assert abs(value - exact) < 8 * torch.finfo(dtype).eps * exact.abs()


def test_half_log_p_is_normalised_again_so_that_the_errors_of_a_bag_do_not_add_up():
    """Every label set of equal, rounded instances: the probabilities of all sets sum to 1."""
    log_p = torch.tensor([0.4, 0.35, 0.25]).log().bfloat16().expand(1, 5000, 3).mT
    drift = log_p.double().logsumexp(1).sum()
    sets = torch.tensor([[False, False], [False, True], [True, False], [True, True]])
    total = presence.log_likelihood(log_p.expand(4, -1, -1), sets).logsumexp(0)
    assert drift.abs() > 1
    assert total.abs() < 1e-3


def test_half_logits_in_the_place_of_log_p_are_refused():
    with pytest.raises(ValueError, match=r"log_p of shape .* sum to 1 over dim 1"):
        presence.log_likelihood(X.bfloat16(), LABELS)


def test_half_padding_may_hold_anything():
    log_p = X.mT.log_softmax(2)
    spoilt = log_p.masked_fill(~MASK[..., None], torch.nan).bfloat16().requires_grad_()
    value = counts.log_likelihood_multiclass(spoilt, y_of(MASK), MASK)
    (gradient,) = torch.autograd.grad(value.sum(), spoilt)
    assert value.isfinite().all()
    assert gradient.isfinite().all()
    assert (gradient[~MASK] == 0).all()


def y_of(mask):
    """Return counts (B, 4) that sum to the sizes of the bags."""
    size = mask.sum(1)
    return torch.stack([size - size // 2, size // 2, 0 * size, 0 * size], 1)


@each_loss
def test_accumulated_gradients_are_those_of_the_whole_batch(loss):
    model = Model(loss)
    for rows in (slice(0, 4), slice(4, 8)):
        model.rows = rows
        (model(X[rows]) / 2).backward()
    torch.testing.assert_close(model.weight.grad, slope(Model(loss))[1])


def train_one_of_two(rank: int, port: int) -> None:
    """Compare one process's averaged gradient of half a batch with that of the whole batch."""
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    dist.init_process_group("gloo", rank=rank, world_size=2, timeout=timedelta(minutes=2))
    rows = slice(4 * rank, 4 * rank + 4)
    for loss in LOSSES:
        model = nn.parallel.DistributedDataParallel(Model(loss, rows))
        model(X[rows]).backward()
        torch.testing.assert_close(model.module.weight.grad, slope(Model(loss))[1])
    dist.destroy_process_group()


def test_two_processes_average_to_the_gradient_of_the_whole_batch():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    start = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    multiprocessing.set_forkserver_preload(["torch.distributed", "torch._dynamo"])  # once for both
    multiprocessing.start_processes(train_one_of_two, (port,), nprocs=2, start_method=start)
