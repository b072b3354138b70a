"""Right and well-known wrong answers to exercises of chapters 2 and 3, run by `test_check`."""

import torch
from torch.autograd import grad
from torch.nn import functional as F

from wsl_tutorial import check, presence


def walk(p, again=True, phi=True, end=None):
    """The walk over covered sets; what is left out makes the wrong answers."""
    size = len(p) - 1
    f = torch.zeros(2**size, dtype=p.dtype)
    f[0] = 1
    for column in p.T:
        g = f * column[-1] if phi else torch.zeros_like(f)
        for S in range(2**size):
            for l in range(size):
                if again or not S >> l & 1:
                    g[S | 1 << l] += f[S] * column[l]
        f = g
    return f[-1] if end is None else end(f)


def slope(log_p, labels, of="log", sign=1, log=True):
    z = log_p.detach().requires_grad_()
    p = z.exp().detach().requires_grad_()
    x = {"log": z, "p": p.log(), "logits": z.log_softmax(1)}[of]
    value = presence.log_likelihood(x, labels)
    value = value if log else value.exp()
    return grad(sign * value.sum(), p if of == "p" else z)[0]


def restricted(log_p, labels):
    on = torch.cat([labels, labels.new_ones(len(labels), 1)], 1)[:, :, None, None]
    return log_p.masked_fill(~on, -torch.inf).softmax(1)


def sigmoids(logits, labels, present=None, absent=True):
    nowhere = F.logsigmoid(-logits).flatten(2).sum(-1)
    somewhere = (-torch.expm1(nowhere)).log() if present is None else present(logits.flatten(2))
    return torch.where(labels, somewhere, nowhere * absent).sum(1)


def naive_sigmoids(logits, labels):
    absent = (1 - logits.sigmoid()).flatten(2).prod(-1)
    return torch.where(labels, 1 - absent, absent).log().sum(1)


def merged(row):
    return [c for i, c in enumerate(row) if i == 0 or c != row[i - 1]]


def dropped(row, background):
    return [c for c in row if c != background]


CASES = [
    (
        check.two_steps,
        lambda: (0.3, 0.6, 0.37),
        [
            (lambda: (0.3, 0.6, 0.36), "first or second"),
            (lambda: (0.3, 0.6, 0.46), "phi takes no part"),
            (lambda: (1.0, 0.6, 0.37), "has emitted phi once"),
            (lambda: (0.3, 0.9, 0.37), "not that it emits 0 or phi"),
            (lambda: (0.3, 0.6, 0.4), "expected 0.3, 0.6, 0.37, got 0.3, 0.6, 0.4"),
        ],
    ),
    (
        check.covered,
        walk,
        [
            (lambda p: walk(p, again=False), "may be emitted again"),
            (lambda p: walk(p, phi=False), "the background may be emitted"),
            (lambda p: walk(p, end=torch.sum), "do not sum over the sets"),
            (lambda p: walk(p).log(), "not its logarithm"),
            (lambda p: None, "end it with a return"),
        ],
    ),
    (
        check.posterior,
        slope,
        [
            (lambda x, y: slope(x, y, of="p"), "a factor p"),
            (lambda x, y: slope(x, y, sign=-1), "the sign is turned"),
            (lambda x, y: slope(x, y, of="logits"), "stop at log_p"),
            (lambda x, y: slope(x, y, log=False), "not its logarithm"),
            (restricted, "raise r further"),
            (lambda x, y: slope(x, y).flatten(2), "the shape should be"),
        ],
    ),
    (
        check.digits_lost,
        lambda t: (t.abs().sum() / t.sum().abs()).log10(),
        [
            (lambda t: (t.abs().max() / t.sum()).log10(), "not the largest alone"),
            (lambda t: (t.sum() / t.abs().sum()).log10(), "upside down"),
            (lambda t: (t.abs().sum() / t.sum()).log(), "natural logarithm"),
            (lambda t: t.abs().sum() / t.sum(), "its logarithm counts"),
            (lambda t: (t.sum().abs() / t.sum()).log10(), "with their signs"),
        ],
    ),
    (
        check.one_class,
        lambda: (0.8, 0.6, 0.75),
        [
            (lambda: (1.1, 0.6, 0.6), "do not add"),
            (lambda: (0.3, 0.6, 1.0), "the chance of both"),
            (lambda: (0.8, 0.6, 0.6), "not the prior"),
            (lambda: (0.8, 0.6, 0.375), "position 2 does too"),
            (lambda: (0.8, 0.5, 0.75), "expected 0.8, 0.6, 0.75, got 0.8, 0.5, 0.75"),
        ],
    ),
    (
        check.sigmoids,
        sigmoids,
        [
            (lambda x, y: sigmoids(x, y, absent=False), "absent classes count too"),
            (lambda x, y: sigmoids(x, y, lambda z: F.logsigmoid(z).sum(-1)), "not if all do"),
            (lambda x, y: sigmoids(x, y, lambda z: F.logsigmoid(z.amax(-1))), "best position only"),
            (lambda x, y: sigmoids(x, y).exp(), "not its logarithm|asks for its logarithm"),
            (lambda x, y: -sigmoids(x, y), "the sign is turned"),
            (naive_sigmoids, "use logsigmoid"),
        ],
    ),
    (
        check.collapse,
        lambda row, background: dropped(merged(row), background),
        [
            (lambda row, background: merged(dropped(row, background)), "merge first"),
            (dropped, "merge them"),
            (lambda row, background: merged(row), "drop it at the end"),
            (lambda row, background: list(dict.fromkeys(dropped(row, background))), "come back"),
            (lambda row, background: None, "end it with a return"),
        ],
    ),
    (
        check.floored,
        lambda x, eta: torch.logaddexp(x, torch.tensor(eta).double().log()),
        [
            (lambda x, eta: x.clamp_min(torch.tensor(eta).double().log().item()), "no gradient"),
            (lambda x, eta: x + eta, "not to its logarithm"),
            (lambda x, eta: x + torch.tensor(eta).double().log(), "you added the logarithms"),
            (lambda x, eta: x.exp() + eta, "asks for its logarithm"),
            (
                lambda x, eta: (
                    torch.logaddexp(x.detach(), torch.tensor(eta).double().log()) + 0 * x
                ),
                "its gradient is not w",
            ),
        ],
    ),
]
