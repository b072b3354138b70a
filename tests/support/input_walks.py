"""Walks over public functions: every dtype, NaN and infinities, nothing at all, torch's modes.

A `Case` is a function with arguments that suit it. Each walk changes one thing about them and says
what came of it: the same answer, or a refusal. Anything else fails.
"""

import copy
import pickle
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torch.autograd import forward_ad

DTYPES = [torch.uint8, torch.int16, torch.bool, torch.float16, torch.bfloat16]
DTYPES += [torch.float32, torch.float64]
HALVES = (torch.float16, torch.bfloat16)
ROUNDING = {torch.float32: 1e-5, torch.float16: 1e-5, torch.bfloat16: 1e-5}  # from equal numbers


@dataclass(frozen=True)
class Case:
    """A function of bags: `floats`, float64 (B, ...), to differentiate; `rest`, what else it takes.

    Whole numbers among `rest` are 0 or 1, so that every dtype holds them. `classes` is the axis
    over which a float argument holds log-probabilities, None for logits.
    """

    function: Callable
    floats: dict[str, Tensor]
    rest: dict[str, object] = field(default_factory=dict)
    classes: dict[str, int] = field(default_factory=dict)
    derivative: bool = True  # False: the answer is a choice
    half: bool = True  # False: half precision may be refused

    def __call__(self, **changed):
        return self.function(**{**self.floats, **self.rest, **changed})

    def tensors(self) -> dict[str, Tensor]:
        given = {**self.floats, **self.rest}
        return {name: x for name, x in given.items() if isinstance(x, Tensor)}


def parts(answer) -> list[Tensor]:
    return list(answer) if isinstance(answer, tuple) else [answer]


def equal(got, expected, tolerance: float = 1e-9) -> None:
    for a, b in zip(parts(got), parts(expected), strict=True):
        if b.dtype == torch.bool:
            assert torch.equal(a, b)
        else:
            torch.testing.assert_close(a.double(), b.double(), rtol=tolerance, atol=tolerance)


def bag_sum(case: Case, *floats: Tensor) -> Tensor:
    """A scalar of the answer that depends on every part of it in a different way."""
    answer = case(**dict(zip(case.floats, floats, strict=True)))
    weights = [torch.arange(1, x.numel() + 1).to(x).view(x.shape).cos() for x in parts(answer)]
    finite = (x.masked_fill(x.isinf(), 0) for x in parts(answer))
    return sum((x * w).sum() for x, w in zip(finite, weights, strict=True))


def asked(case: Case, *names: str, **changed):
    """The answer, or None where it is refused with a message that names one of the arguments."""
    try:
        return case(**changed)
    except (ValueError, TypeError) as refusal:
        message = str(refusal)
    assert any(name in message for name in names), message
    return None


# Dtypes, NaN, nothing -----------------------------------------------------------------------------


def walk_dtypes(case: Case) -> None:
    """One argument in each dtype: the answer that the same values have in its own, or refused."""
    for name, x in case.tensors().items():
        for dtype in DTYPES:
            changed = x.to(dtype)
            got = asked(case, name, **{name: changed})
            if got is not None:
                exact = changed.to(x.dtype)
                if dtype in HALVES and name == "log_p" and name in case.classes:
                    exact = exact.log_softmax(case.classes[name])  # rounding spoilt the sum
                equal(got, case(**{name: exact}), ROUNDING.get(dtype, 1e-9))
            if dtype in HALVES and name in case.floats and case.half:
                assert got is not None
                assert not {y.dtype for y in parts(got)} & set(HALVES)


def walk_nan(case: Case) -> None:
    """NaN at any place of a float argument: NaN in the answer, or refused by name."""
    for name, x in case.floats.items():
        for place in range(0, x.numel(), max(1, x.numel() // 7)):
            spoilt = x.flatten().clone()
            spoilt[place] = torch.nan
            got = asked(case, name, **{name: spoilt.view(x.shape)})
            if got is None:
                continue
            if _is_padding(case.rest.get("mask"), x, place):
                equal(got, case())  # what is padding has no say
                continue
            assert any(y.isnan().any() for y in parts(got)), f"NaN in {name} at {place}: {got}"


def _is_padding(mask: Tensor | None, x: Tensor, place: int) -> bool:
    """Return whether an element of x (B, n, ...), or (B, classes, n) of presence, is padding."""
    if mask is None or mask.shape not in (x.shape[:2], (x.shape[0], *x.shape[2:])):
        return False
    wide = mask[:, None] if mask.shape != x.shape[:2] else mask
    wide = wide.reshape(*wide.shape, *[1] * (x.dim() - wide.dim()))
    return not wide.expand(x.shape).flatten()[place]


def walk_infinity(case: Case) -> None:
    """An infinite argument: refused by name, or the limit of large ones; no derivative is NaN."""
    for name, x in case.floats.items():
        for place in range(0, x.numel(), max(1, x.numel() // 7)):
            for sign in (-1, 1):
                infinite, large = (x.flatten().clone() for _ in range(2))
                infinite[place], large[place] = sign * torch.inf, sign * 2e4
                infinite, large = infinite.view(x.shape), large.view(x.shape)
                if name in case.classes and sign < 0:
                    infinite, large = (y.log_softmax(case.classes[name]) for y in (infinite, large))
                got = asked(case, name, **{name: infinite})
                if got is not None:
                    _is_limit(got, case(**{name: large}))
                    if case.derivative:
                        _has_derivatives(case, name, infinite)


def _is_limit(got, nearly) -> None:
    for a, b in zip(parts(got), parts(nearly), strict=True):
        if a.dtype == torch.bool:
            assert torch.equal(a, b)
            continue
        assert not a.isnan().any()
        far = a.isinf()
        assert (b[far].sign() == a[far].sign()).all()
        assert (b[far].abs() > 1e3).all()
        torch.testing.assert_close(a[~far], b[~far], rtol=1e-7, atol=1e-7)


def _has_derivatives(case: Case, name: str, at: Tensor) -> None:
    leaf = at.clone().requires_grad_()
    whole = bag_sum(case, *({**case.floats, name: leaf}).values())
    (slope,) = torch.autograd.grad(whole, leaf, create_graph=True)
    assert not slope.isnan().any()
    if slope.requires_grad:
        (second,) = torch.autograd.grad((slope * slope.detach()).sum(), leaf)
        assert not second.isnan().any()


def walk_nothing(case: Case) -> None:
    """No bag, and bags of nothing: an answer of no bags, a certainty, or refused.

    Where there is a derivative, it can be taken: the answer is part of the graph.
    """
    none = {name: x[:0] for name, x in case.tensors().items() if name != "transition"}
    got = asked(case, *none, **none)
    assert got is None or all(len(x) == 0 for x in parts(got))
    _is_in_graph(case, none)
    for name, x in case.floats.items():
        for axis in range(1, x.dim()):
            got = asked(case, *case.tensors(), **{name: x.narrow(axis, 0, 0)})
            assert got is None or all((y == 0).all() for y in parts(got))  # log 1, for sure
            _is_in_graph(case, _without(case, axis, x.shape[: axis + 1]))


def _without(case: Case, axis: int, sizes: tuple[int, ...]) -> dict[str, Tensor]:
    """The arguments with nothing along an axis, bags of none of these sizes, and counts of 0."""
    given = {n: x for n, x in case.tensors().items() if len(x) == sizes[0]}
    short = {n: x.narrow(axis, 0, 0) for n, x in given.items() if x.shape[: axis + 1] == sizes}
    return {n: x * 0 for n, x in given.items() if x.dtype == torch.int64} | short


def _is_in_graph(case: Case, changed: dict[str, Tensor]) -> None:
    leaves = {n: {**case.floats, **changed}[n].clone().requires_grad_() for n in case.floats}
    got = asked(case, *case.tensors(), **{**changed, **leaves}) if case.derivative else None
    if got is not None:
        slopes = torch.autograd.grad(sum(y.sum() for y in parts(got)), list(leaves.values()))
        assert not any(x.isnan().any() for x in slopes)


# Modes --------------------------------------------------------------------------------------------


def gradients(case: Case) -> list[Tensor]:
    leaves = [x.clone().requires_grad_() for x in case.floats.values()]
    return list(torch.autograd.grad(bag_sum(case, *leaves), leaves))


def in_no_grad(case: Case) -> None:
    leaves = {name: x.clone().requires_grad_() for name, x in case.floats.items()}
    with torch.no_grad():
        got = case(**leaves)
    equal(got, case())
    assert not any(x.requires_grad for x in parts(got))


def in_inference_mode(case: Case) -> None:
    expected = case()
    with torch.inference_mode():
        equal(case(), expected)
        inside = {name: x.clone() for name, x in case.tensors().items()}
        equal(case(**inside), expected)
    equal(case(**inside), expected)  # such tensors cannot be saved for a gradient


def in_func_grad(case: Case) -> None:
    floats, every = tuple(case.floats.values()), tuple(range(len(case.floats)))
    for transform in (torch.func.grad, torch.func.jacrev, torch.func.jacfwd):
        equal(transform(lambda *x: bag_sum(case, *x), every)(*floats), tuple(gradients(case)))


def in_vmap(case: Case) -> None:
    names, floats = list(case.floats), list(case.floats.values())
    many = [torch.stack([x, x.flip(0), x]) for x in floats]  # rows stay what they are

    def one(*x):
        return case(**dict(zip(names, x, strict=True)))

    got = torch.func.vmap(one)(*many)
    for i, alone in enumerate(zip(*many, strict=True)):
        equal(tuple(x[i] for x in parts(got)), tuple(parts(one(*alone))))
    if case.derivative:
        slopes = torch.func.vmap(torch.func.grad(lambda *x: bag_sum(case, *x)))(*many)
        leaf = many[0][1].clone().requires_grad_()
        value = bag_sum(case, leaf, *(x[1] for x in many[1:]))
        equal(slopes[1], torch.autograd.grad(value, leaf)[0])


def in_forward_mode(case: Case) -> None:
    names, floats = list(case.floats), list(case.floats.values())
    tangents = [torch.arange(x.numel()).to(x).view(x.shape).sin() for x in floats]

    def one(*x):
        return bag_sum(case, *x)

    expected = sum((g * t).sum() for g, t in zip(gradients(case), tangents, strict=True))
    equal(torch.func.jvp(one, tuple(floats), tuple(tangents))[1], expected)
    with forward_ad.dual_level():
        duals = [forward_ad.make_dual(x, t) for x, t in zip(floats, tangents, strict=True)]
        tangent = forward_ad.unpack_dual(bag_sum(case, *duals)).tangent
        assert tangent is not None, f"{names} lost their tangents"
        equal(tangent, expected)


def in_second_derivative(case: Case) -> None:
    """The product of the Hessian and a vector, by three ways and by a difference of gradients."""
    first, *others = case.floats.values()
    along = torch.arange(first.numel()).to(first).view(first.shape).sin()

    def one(x):
        return bag_sum(case, x, *others)

    def slope(x):
        x = x.detach().requires_grad_()
        return torch.autograd.grad(one(x), x, create_graph=True)[0], x

    gradient, leaf = slope(first)
    product = torch.zeros_like(first)
    if gradient.requires_grad:
        (product,) = torch.autograd.grad((gradient * along).sum(), leaf)
    step = 1e-5
    ahead, behind = slope(first + step * along)[0], slope(first - step * along)[0]
    equal(product, ((ahead - behind) / (2 * step)).detach(), 1e-5)
    equal(torch.func.jvp(torch.func.grad(one), (first,), (along,))[1], product)
    hessian = torch.func.hessian(one)(first).flatten(first.dim()).flatten(0, first.dim() - 1)
    equal(hessian @ along.flatten(), product.flatten())


def compiled(case: Case, fullgraph: bool) -> None:
    torch._dynamo.reset()
    program = torch.compile(lambda **x: case(**x), backend="aot_eager", fullgraph=fullgraph)
    equal(program(**case.floats), case())
    if case.derivative:
        leaves = {name: x.clone().requires_grad_() for name, x in case.floats.items()}
        answer = parts(program(**leaves))
        weights = [torch.ones_like(x) for x in answer]
        got = torch.autograd.grad(answer, list(leaves.values()), weights)
        plain = parts(case(**leaves))
        equal(got, torch.autograd.grad(plain, list(leaves.values()), weights))


def in_compile(case: Case) -> None:
    compiled(case, fullgraph=False)


def in_compile_fullgraph(case: Case) -> None:
    compiled(case, fullgraph=True)


def in_autocast(case: Case) -> None:
    """The same bits; those of a model's own layers, which run in bfloat16, up to its rounding."""
    single = {name: x.float() for name, x in case.floats.items()}
    models = {name: x for name, x in case.rest.items() if isinstance(x, torch.nn.Module)}
    single |= {name: copy.deepcopy(x).float() for name, x in models.items()}
    expected = case(**single)
    with torch.autocast("cpu", torch.bfloat16):
        got = case(**single)
    for a, b in zip(parts(got), parts(expected), strict=True):
        assert a.dtype == b.dtype
    equal(got, expected, 2e-2 if models else 0.0)


class Holder(torch.nn.Module):
    """A module that keeps the function and uses it."""

    def __init__(self, function: Callable):
        super().__init__()
        self.function = function
        self.scale = torch.nn.Parameter(torch.ones(()))

    def forward(self, **given):
        return self.function(**given)


def in_copies(case: Case) -> None:
    module, given = Holder(case.function), {**case.floats, **case.rest}
    module(**{**given, **{name: x * module.scale for name, x in case.floats.items()}})
    for again in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        equal(again(**given), case())


MODES = {
    "no_grad": in_no_grad,
    "inference_mode": in_inference_mode,
    "func.grad, jacrev": in_func_grad,
    "vmap": in_vmap,
    "forward mode, jvp": in_forward_mode,
    "second derivative": in_second_derivative,
    "compile, fullgraph": in_compile_fullgraph,
    "compile": in_compile,
    "autocast": in_autocast,
    "deepcopy, pickle": in_copies,
}
DERIVATIVES = ("func.grad, jacrev", "forward mode, jvp", "second derivative")
REFUSALS = (RuntimeError, NotImplementedError, ValueError, torch._dynamo.exc.UserError)


def walk_modes(case: Case) -> dict[str, str]:
    """Each mode's verdict: yes, - for a derivative where there is none, or refused."""
    return verdicts({mode: partial(walk, case) for mode, walk in MODES.items()}, case.derivative)


def verdicts(modes: dict[str, Callable[[], object]], derivative: bool) -> dict[str, str]:
    """Each mode's verdict, also wrong where its walk returns False."""
    found = {}
    for mode, walk in modes.items():
        if mode in DERIVATIVES and not derivative:
            found[mode] = "-"
        elif mode == "compile" and found["compile, fullgraph"] == "yes":
            found[mode] = "yes"  # the same graph
        else:
            try:
                found[mode] = "wrong" if walk() is False else "yes"
            except REFUSALS as refusal:
                found[mode] = "refused" if str(refusal) else "fails"
    return found


def table(rooms: str) -> dict[str, dict[str, str]]:
    """The table of modes under a heading of the API page."""
    page = Path(__file__).parents[2].joinpath("book", "api.md").read_text("utf-8")
    section = page.partition(f"### {rooms}\n")[2].partition("\n#")[0]
    rows = [
        [cell.strip().strip("`") for cell in line.strip("|").split("|")]
        for line in section.splitlines()
        if line.startswith("|") and not set(line) <= set("|-: ")
    ]
    head, *body = rows
    return {name: dict(zip(head[1:], cells, strict=True)) for name, *cells in body}
