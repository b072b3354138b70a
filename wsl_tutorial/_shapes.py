"""Check inputs, sum logarithms, and let functions of bags work in all of torch's modes.

A bag is a row of the first axis of every tensor, and no bag depends on another one.
"""

import ast
import functools
import inspect
import math
import re
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from numbers import Integral, Real
from typing import Any

import torch
from torch import Tensor
from torch._compile import _disable_dynamo
from torch.autograd import forward_ad

_compiling = torch.compiler.is_compiling
SOFTMAX = "apply log_softmax({dim}) to float32 logits, under autocast logits.float()"


# The message of every check: NAME must be WHAT of shape SHAPE, got WHAT of shape SHAPE; REMEDY.
FLOATS = (torch.float32, torch.float64)  # bags in half precision come here widened, by `per_bag`
HALVES = (torch.float16, torch.bfloat16)
WHOLE = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
BOOL = (torch.bool,)
FLAGS = (*BOOL, *WHOLE)
REAL = (*FLOATS, *HALVES, *FLAGS)
NAMES = {FLOATS: "float32 or float64", WHOLE: "integer", FLAGS: "bool or integer", REAL: "real"}
CASTS = {torch.bool: "bool()", torch.float32: "float()", torch.float64: "double()"}


def check_tensor(
    name: str,
    x: Tensor,
    shape: tuple[int | str, ...],
    like: Tensor | None = None,
    dtypes: tuple[torch.dtype, ...] | None = None,
    remedy: str = "",
) -> None:
    """Raise ValueError unless x is a tensor of a shape and of one of these dtypes.

    `shape` holds sizes, and letters for sizes above 0; the size B may be 0, a batch without images.
    With `like`, x must be on its device. The dtype is by default that of `like`, else a float.
    """
    dtypes = dtypes or (FLOATS if like is None else (like.dtype,))
    fits = isinstance(x, Tensor) and x.dtype in dtypes and x.dim() == len(shape)
    fits = fits and (like is None or x.device == like.device)
    pairs = zip(shape, x.shape, strict=True) if fits else ()
    if not fits or not all((m > 0 or n == "B") if isinstance(n, str) else n == m for n, m in pairs):
        sizes = f"({', '.join(map(str, shape))}{',' if len(shape) == 1 else ''})"
        empty = isinstance(x, Tensor) and 0 in x.shape and any(isinstance(n, str) for n in shape)
        wanted = f"{NAMES.get(dtypes, dtypes[0])} of shape {sizes}"
        wanted += ", only B may be 0" if empty else ""
        wanted += "" if like is None else f" on {like.device}"
        device = None if like is None else like.device
        raise ValueError(_refusal(name, wanted, x, remedy, dtypes, shape, device))


def check_layout(
    name: str, x: Tensor, shape: str, dims: Sequence[int], remedy: str = "", empty: bool = False
) -> None:
    """Raise ValueError unless x is float32 or float64, with so many dims, and holds an element.

    With `empty` it may hold none.
    """
    check_floats(name, x, remedy, f" of shape {shape}")
    if x.dim() not in dims or (0 in x.shape and not empty):
        wanted = f"float32 or float64 of shape {shape}" + (", no size 0" if 0 in x.shape else "")
        one = shape.startswith("(B") and x.dim() + 1 in dims
        raise ValueError(_refusal(name, wanted, x, f"for one bag pass {name}[None]" if one else ""))


def check_floats(name: str, x: Tensor, remedy: str = "", shape: str = "") -> None:
    """Raise ValueError unless x is a float32 or float64 tensor; `shape` is for the message only."""
    if not isinstance(x, Tensor) or x.dtype not in FLOATS:
        wanted = f"float32 or float64{shape}"
        raise ValueError(_refusal(name, wanted, x, remedy))


def check_normalised(
    log_p: Tensor, real: Tensor | None = None, dim: int = 2, name: str = "log_p"
) -> None:
    """Raise ValueError unless the probabilities sum to 1 over a dim, where real (None: everywhere).

    real is bool, of the shape of log_p without this dim.
    """
    with torch.no_grad():
        off = (log_p.exp().sum(dim) - 1).abs()
        off = off if real is None else off.masked_fill(~real, 0)
        if not bool((off <= 1e-3).all()):
            raise ValueError(_not_normalised(name, log_p, dim))


def _not_normalised(name: str, log_p: Tensor, dim: int) -> str:
    """Return the message about probabilities that do not sum to 1."""
    return (
        f"{name} of shape {tuple(log_p.shape)} must hold log-probabilities that sum to 1 over dim "
        f"{dim}; {SOFTMAX.format(dim=dim)}"
    )


def check_values(fits: Tensor, message: Callable[[], str]) -> None:
    """Raise ValueError with this message unless all of `fits`, bool, is true.

    Inside a compiled or exported graph the check is an assertion of torch, RuntimeError, and under
    `torch.func` it is one of the plain tensor, of all samples.
    """
    if _compiling():
        remedy = "a value is out of range; call the function uncompiled to see which"
        torch.ops.aten._assert_async.msg(fits.all(), remedy)
        return
    functorch = getattr(torch._C, "_functorch")  # noqa: B009, for its types are not published
    while functorch.is_functorch_wrapped_tensor(fits):
        fits = functorch.get_unwrapped(fits)
    if not bool(fits.all()):
        raise ValueError(message())


def check_int(name: str, x: int, least: int | None = 0) -> None:
    """Raise ValueError unless x is an int, of at least `least` (None: any)."""
    if not isinstance(x, Integral) or isinstance(x, bool) or (least is not None and x < least):
        bound = "" if least is None else f" of at least {least}"
        raise ValueError(f"{name} must be an int{bound}, got {shown(x)}")


def check_number(
    name: str,
    x: float,
    least: float = -math.inf,
    most: float = math.inf,
    above: float = -math.inf,
    below: float = math.inf,
    remedy: str = "",
) -> None:
    """Raise ValueError unless x is a finite number, in [least, most] and in (above, below)."""
    real = isinstance(x, Real) and not isinstance(x, bool)
    if not real or not (least <= x <= most and above < x < below):
        bounds = {"of at least": least, "at most": most, "above": above, "below": below}
        wanted = [f"{word} {n:g}" for word, n in bounds.items() if math.isfinite(n)]
        wanted = " ".join(["a finite number", " and ".join(wanted)]).rstrip()
        raise ValueError(f"{name} must be {wanted}, got {shown(x)}" + (remedy and f"; {remedy}"))


def check_sides(name: str, x: Sequence[int]) -> None:
    """Raise ValueError unless x is (H, W)."""
    pair = isinstance(x, tuple | list) and len(x) == 2
    if not pair or not all(isinstance(n, Integral) and n is not True and n > 0 for n in x):
        raise ValueError(f"{name} must be (H, W), two whole numbers above 0, got {x!r}")


def shown(x: object) -> str:
    """Return dtype, shape and device of a tensor, or the repr of anything else, for an error."""
    return described(x) if isinstance(x, Tensor) else repr(x)


def described(x: object) -> str:
    """Return dtype, shape and device of a tensor, or the type of anything else, for an error."""
    tensor = isinstance(x, Tensor)
    return f"{x.dtype} of shape {tuple(x.shape)} on {x.device}" if tensor else type(x).__name__


def _refusal(name: str, wanted: str, x: object, remedy: str, *needed) -> str:
    """Return the message of an error; a remedy for a tensor does not help with anything else."""
    if not remedy or not isinstance(x, Tensor):
        remedy = _remedy(name, x, *needed) or remedy
    return f"{name} must be {wanted}, got {described(x)}" + (f"; {remedy}" if remedy else "")


def _remedy(
    name: str,
    x: Any,
    dtypes: tuple[torch.dtype, ...] = FLOATS,
    shape: tuple[int | str, ...] = (),
    device: torch.device | None = None,
) -> str:
    """Return what makes a tensor of these dtypes, this shape and device from x; "" if unknown."""
    made = name
    if not isinstance(x, Tensor):
        try:
            x, made = torch.as_tensor(x), f"torch.as_tensor({name})"
        except (TypeError, ValueError, RuntimeError):
            if not isinstance(x, list | tuple):
                return ""
            row = "for each bag pass a row with 0 or 1 for every class"
            return row if dtypes == FLAGS else "pad bags to one tensor, as data.bags.collate does"
    labels, same = dtypes == FLAGS, [n for n in x.shape if n != 1] == [n for n in shape if n != 1]
    if dtypes == (torch.int64,) and x.dim() == 2 and len(shape) == 1 and not same:
        return f"from a row for each bag take {made}.float().argmax(1)"
    cast, note = _cast(x, dtypes)
    made += cast
    if device not in (None, x.device):
        made += f".to('{device}')"
    if shape and same and tuple(x.shape) != shape:
        made += f".reshape{tuple(shape)}"
    elif labels and x.dim() == 1 and len(shape) == 2:
        return f"from class numbers make a row for each bag with one_hot({made}, {shape[1]})"
    return "" if made == name else f"take {made}{note}"


def _cast(x: Tensor, dtypes: tuple[torch.dtype, ...]) -> tuple[str, str]:
    """Return the call that brings x to one of these dtypes, and a note on it."""
    if x.dtype in dtypes or x.is_complex():
        return "", ""
    if torch.int64 not in dtypes:
        return "." + CASTS.get(dtypes[0], f"to({dtypes[0]})"), ""
    if not x.is_floating_point():
        return ".long()", ""
    if dtypes == FLAGS:
        return ".nan_to_num(-1).long()", ", where -1 is unknown"
    return ".long()", " if its numbers are whole"


def log(x: Tensor) -> Tensor:
    """Return log x; at 0 it is -inf with gradient 0, and no derivative of it is NaN."""
    zero = x == 0
    return x.masked_fill(zero, 1).log().masked_fill(zero, -torch.inf)


def logsumexp(x: Tensor, dim: int) -> Tensor:
    """Return log sum exp; where all are -inf it is -inf with gradient 0, and no derivative is NaN.

    The gradient of torch's own is NaN there, and so is the second derivative of its `logaddexp`
    for terms far apart.
    """
    highest = x.detach().amax(dim, keepdim=True)
    highest = highest.masked_fill(highest.isinf(), 0)
    return log((x - highest).exp().sum(dim)) + highest.squeeze(dim)


def cut(log_p: Tensor) -> Tensor:
    """Return log_p, with gradient 0 where it is -inf: impossible events change no parameter."""
    return log_p.masked_fill(log_p == -torch.inf, -torch.inf)


def log_any(log_p: Tensor) -> Tensor:
    """Return log(1 - product of (1 - p)) over the last axis: at least one of the events happens.

    The events are independent. If the p are so small that their sum is this probability but for
    rounding, `logsumexp` of their logarithms is returned: nothing underflows.
    """
    p = log_p.exp()
    rare = p.sum(-1) < torch.finfo(p.dtype).eps / 4
    certain = p >= 1
    miss = torch.log1p(-p.masked_fill(certain, 0)).masked_fill(certain, -torch.inf).sum(-1)
    often = log(-torch.expm1(miss.masked_fill(rare, -1)))
    return torch.where(rare, logsumexp(log_p, -1), often)


def bags_like(first: Tensor) -> Tensor:
    """Return the shape (B,) of most answers, as an empty tensor."""
    return first.new_empty(first.shape[0])  # len would be a constant of the compiler


def per_bag(
    function: Callable | None = None,
    *,
    shared: Sequence[str] = (),
    answer: Callable[[Tensor], Tensor | tuple[Tensor, ...]] = bags_like,
    classes: int | None = 1,
) -> Callable:
    """Let a function of bags, tensors (B, ...) in and out, work in all of torch's modes.

    The function looks at values, so transforms cannot trace it. Under `torch.func` and forward-mode
    AD it is called on plain tensors instead: `vmap` makes one longer batch, and derivatives of any
    order are those of its own autograd graph. In inference mode it is called outside of it,
    without a graph. `torch.compile` and `torch.export` see one operator, `wsl_tutorial::bags`.

    Half precision is widened to float32. An argument called log_p is normalised again, because
    rounding to 8 bits moves the sum over classes by some thousandths at each instance, and the
    errors of a bag's instances would add up.

    Args:
        shared: names of arguments that are the same for all bags.
        answer: from the first argument, and others by their names, to empty tensors of the
            answer's shapes and dtypes.
        classes: the axis of log_p over which the probabilities sum to 1; None: over no axis.
    """
    if function is None:
        return functools.partial(per_bag, shared=shared, answer=answer, classes=classes)
    body = widened(function, classes)
    names = inspect.signature(function)
    order = list(names.parameters)
    key = f"{function.__module__}.{function.__qualname__}"
    _OPERATORS[key] = body, answer
    eager = _disable_dynamo(body)  # imports the compiler at its first call only

    @functools.wraps(function)
    def run(*args, **kwargs):
        if _compiling():
            given = {**dict(zip(order, args, strict=False)), **kwargs}
            plain = {n: _number(x) for n, x in given.items() if not isinstance(x, Tensor)}
            fits = len(given) == len(args) + len(kwargs) and all(n in order for n in given)
            if not fits or not all(isinstance(x, PLAIN) for x in plain.values()):
                return eager(*args, **kwargs)
            tensors = {n: given[n] for n in order if isinstance(given.get(n), Tensor)}
            found = _bags(key, list(tensors.values()), _literal(list(tensors), plain))
            return found[0] if len(found) == 1 else tuple(found)
        tensors = [x for x in (*args, *kwargs.values()) if isinstance(x, Tensor)]
        if torch.is_inference_mode_enabled() or any(x.is_inference() for x in tensors):
            graph = torch.is_grad_enabled()  # False in inference mode
            with torch.inference_mode(False), torch.set_grad_enabled(graph):
                args = [_normal(x) for x in args]
                return run(*args, **{name: _normal(x) for name, x in kwargs.items()})
        if not _transformed(tensors):
            return body(*args, **kwargs)
        given = names.bind(*args, **kwargs).arguments
        bags = {n: x for n, x in given.items() if isinstance(x, Tensor) and n not in shared}
        rest = {name: x for name, x in given.items() if name not in bags}
        return _PerBag.apply(
            lambda *xs: body(**rest, **dict(zip(bags, xs, strict=True))), *bags.values()
        )

    traced: Any = run  # the compiler counts compilations by code, and this code is shared
    traced.__code__ = traced.__code__.replace(co_name=function.__name__)
    return run


def widened(function: Callable, classes: int | None = None) -> Callable:
    """Return the function of arguments in half precision too, computed and answered in float32.

    log_p is normalised over the axis `classes`, if it is given.
    """
    order = list(inspect.signature(function).parameters)

    @functools.wraps(function)
    def wide(*args, **kwargs):
        if not any(isinstance(x, Tensor) and x.dtype in HALVES for x in (*args, *kwargs.values())):
            return function(*args, **kwargs)
        args = [_wide(name, x, classes) for name, x in zip(order, args, strict=False)]
        return function(*args, **{name: _wide(name, x, classes) for name, x in kwargs.items()})

    return wide


def _wide(name: str, x: object, classes: int | None) -> object:
    """Return a tensor of half precision as float32, log_p normalised over its classes."""
    if not isinstance(x, Tensor) or x.dtype not in HALVES:
        return x
    wide = x.float()
    if name != "log_p" or classes is None or x.dim() <= classes:
        return wide
    unusable = (wide.detach().amax(classes, keepdim=True).abs() == torch.inf) | (
        wide.detach().isnan().any(classes, keepdim=True)
    )  # padding, or refused by the function itself
    total = logsumexp(wide.masked_fill(unusable, 0), classes).unsqueeze(classes)
    total = total.masked_fill(unusable, 0)
    allowed = 1e-3 + torch.finfo(x.dtype).eps * math.log(max(2, x.shape[classes]))
    check_values(total.detach().abs() <= allowed, lambda: _not_normalised(name, x, classes))
    return wide - total


# One operator for the compiler: it calls the function by its name -------------------------------

PLAIN = (int, float, bool, str, type(None))
_OPERATORS: dict[str, tuple[Callable, Callable]] = {}


def _number(x: object) -> object:
    """Return a number as the compiler's constant, even where it varied between calls."""
    if type(x) not in (int, float):
        return x
    compiler: Any = torch.fx
    return compiler.experimental.symbolic_shapes.guard_scalar(x)


def _literal(tensors: list[str], plain: dict[str, object]) -> str:
    """Return names of tensors and further arguments as text, for an operator's signature."""
    return f"({tensors!r}, {plain!r})"


def _read(given: str) -> tuple[list[str], dict[str, object]]:
    """Return what `_literal` wrote; a float may be infinite."""
    return ast.literal_eval(re.sub(r": (-?)inf\b", r": \g<1>1e999", given))


def _operator_body(key: str, given: str) -> Callable:
    """Return the function of a list of tensors that an operator stands for."""
    names, plain = _read(given)
    return lambda *xs: _OPERATORS[key][0](**dict(zip(names, xs, strict=True)), **plain)


def _run_operator(key: str, tensors: list[Tensor], given: str) -> list[Tensor]:
    with _autograd_on():
        outputs = _operator_body(key, given)(*tensors)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    return [x.detach().clone(memory_format=torch.contiguous_format) for x in outputs]


def _autograd_on() -> AbstractContextManager:
    """Return a context in which a posterior may take a gradient though an operator is running."""
    off = torch._C._dispatch_tls_local_exclude_set()
    keys = torch._C.DispatchKey
    for key in (keys.AutogradFunctionality, keys.AutogradOther, keys.ADInplaceOrView):
        off = off.remove(key)
    return torch._C._ForceDispatchKeyGuard(torch._C._dispatch_tls_local_include_set(), off)


def _fake_operator(key: str, tensors: list[Tensor], given: str) -> list[Tensor]:
    first = tensors[0].float() if tensors[0].dtype in HALVES else tensors[0]
    answer, (names, plain) = _OPERATORS[key][1], _read(given)
    wanted = getattr(getattr(answer, "__code__", None), "co_varnames", ())[1:]  # not of torch's own
    every = {**dict(zip(names, tensors, strict=True)), **plain}
    outputs = answer(first, **{name: x for name, x in every.items() if name in wanted})
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    return [x.new_empty(x.shape) for x in outputs]


def _run_pull(key: str, tensors: list[Tensor], given: str, cotangents: list[Tensor]):
    with _autograd_on():
        found = _pull(_operator_body(key, given), len(tensors))(*tensors, *cotangents)
    return [x.detach().clone(memory_format=torch.contiguous_format) for x in found]


def _fake_pull(key: str, tensors: list[Tensor], given: str, cotangents: list[Tensor]):
    return [x.new_empty(x.shape) for x in tensors if x.is_floating_point()]


def _save_operator(ctx, inputs, output) -> None:
    ctx.key, tensors, ctx.given = inputs
    ctx.save_for_backward(*tensors)


def _operator_backward(ctx, cotangents: list[Tensor]):
    tensors = list(ctx.saved_tensors)
    found = iter(torch.ops.wsl_tutorial.bags_pull(ctx.key, tensors, ctx.given, list(cotangents)))
    return None, [next(found) if x.is_floating_point() else None for x in tensors], None


def _defined() -> Callable:
    """Define the operators and return the first."""
    signature = "(str function, Tensor[] tensors, str given"
    for name, rest, run, fake in (
        ("bags", "", _run_operator, _fake_operator),
        ("bags_pull", ", Tensor[] cotangents", _run_pull, _fake_pull),
    ):
        torch.library.define(f"wsl_tutorial::{name}", f"{signature}{rest}) -> Tensor[]")
        torch.library.impl(f"wsl_tutorial::{name}", "CompositeExplicitAutograd")(run)
        torch.library.register_fake(f"wsl_tutorial::{name}")(fake)
    torch.library.register_autograd(
        "wsl_tutorial::bags", _operator_backward, setup_context=_save_operator
    )
    return torch.ops.wsl_tutorial.bags


_bags = _defined()


def refuse_transforms(name: str, *tensors: Tensor) -> None:
    """Raise RuntimeError under `torch.func` or forward-mode AD, where a zero would come out."""
    if _transformed(tensors):
        raise RuntimeError(
            f"{name} takes a gradient of its own and has no derivative; call it outside of "
            "torch.func and of forward-mode AD"
        )


def _normal(x):
    return x.clone() if isinstance(x, Tensor) and x.is_inference() else x


def _transformed(tensors: Sequence[Tensor]) -> bool:
    """Return whether `torch.func` transforms this computation, or a tensor has a tangent."""
    if torch._C._are_functorch_transforms_active():
        return True
    return any(forward_ad.unpack_dual(x).tangent is not None for x in tensors)


class _PerBag(torch.autograd.Function):
    """A function of bags as one step, whose derivatives are again functions of bags."""

    @staticmethod
    def forward(body: Callable, *inputs: Tensor):
        return body(*inputs)

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        ctx.body, *tensors = inputs
        ctx.save_for_backward(*tensors)
        ctx.save_for_forward(*tensors)
        ctx.several = isinstance(output, tuple)
        ctx.smooth = ctx.several or output.is_floating_point()
        if not ctx.smooth:
            ctx.mark_non_differentiable(output)

    @staticmethod
    def backward(ctx, *cotangents: Tensor):
        inputs = ctx.saved_tensors
        found = iter(_PerBag.apply(_pull(ctx.body, len(inputs)), *inputs, *cotangents))
        return None, *(next(found) if x.is_floating_point() else None for x in inputs)

    @staticmethod
    def jvp(ctx, _, *tangents: Tensor | None):
        if not ctx.smooth:
            return None
        inputs = ctx.saved_tensors
        filled = [
            torch.zeros_like(x) if t is None else t
            for x, t in zip(inputs, tangents, strict=True)
            if x.is_floating_point()
        ]
        pushed = _PerBag.apply(_push(ctx.body, len(inputs)), *inputs, *filled)
        return pushed if ctx.several else pushed[0]

    @staticmethod
    def vmap(info, in_dims, body: Callable, *inputs: Tensor):
        size, folded = info.batch_size, []
        for x, dim in zip(inputs, in_dims[1:], strict=True):
            x = x.expand(size, *x.shape) if dim is None else x.movedim(dim, 0)
            if x.dim() < 2:
                raise ValueError(
                    f"vmap: got a sample of shape {tuple(x.shape[1:])}, expected an axis of bags "
                    "in every tensor; add it with x[None]"
                )
            folded.append(x.flatten(0, 1))
            bags = x.shape[1]
        output = _PerBag.apply(body, *folded)
        if isinstance(output, tuple):
            return tuple(x.reshape(size, bags, *x.shape[1:]) for x in output), (0,) * len(output)
        return output.reshape(size, bags, *output.shape[1:]), 0


def _pull(body: Callable, n: int) -> Callable:
    """Return the function from n inputs and cotangents of the outputs to those of float inputs."""

    def pulled(*given: Tensor) -> tuple[Tensor, ...]:
        graph = _graph_wanted(given)
        with torch.enable_grad():
            outputs, floats = _trace(body, given[:n])
            return _gradients(outputs, floats, given[n:], graph)

    return pulled


def _push(body: Callable, n: int) -> Callable:
    """Return the function from n inputs and tangents of the float ones to those of the outputs.

    A gradient is linear in the cotangents, so its gradient with respect to them pushes tangents.
    """

    def pushed(*given: Tensor) -> tuple[Tensor, ...]:
        graph = _graph_wanted(given)
        with torch.enable_grad():
            outputs, floats = _trace(body, given[:n])
            weights = [torch.zeros_like(y, requires_grad=True) for y in outputs]
            pulled = _gradients(outputs, floats, weights, graph=True)
            return _gradients(pulled, weights, given[n:], graph)

    return pushed


def _graph_wanted(given: tuple[Tensor, ...]) -> bool:
    return torch.is_grad_enabled() and any(x.requires_grad for x in given)


def _trace(body: Callable, given: tuple[Tensor, ...]) -> tuple[tuple[Tensor, ...], list[Tensor]]:
    """Return the outputs of a body, in a graph from its float inputs, and these inputs."""
    inputs = [
        x.detach().requires_grad_() if x.is_floating_point() and not x.requires_grad else x
        for x in given
    ]
    outputs = body(*inputs)
    floats = [x for x in inputs if x.is_floating_point()]
    return outputs if isinstance(outputs, tuple) else (outputs,), floats


def _gradients(outputs, inputs, weights, graph: bool) -> tuple[Tensor, ...]:
    """Return the gradients of `torch.autograd.grad`, 0 if no output depends on an input."""
    pairs = [(y, w) for y, w in zip(outputs, weights, strict=True) if y.requires_grad]
    found = (None,) * len(inputs)
    if pairs:
        ys, ws = zip(*pairs, strict=True)
        found = torch.autograd.grad(ys, inputs, ws, create_graph=graph, allow_unused=True)
    return tuple(
        torch.zeros_like(x) if g is None else g for x, g in zip(inputs, found, strict=True)
    )


def full_precision(x: Tensor) -> AbstractContextManager:
    """Return a context in which autocast does not multiply matrices in half precision."""
    kind = x.device.type
    here = torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)
    return torch.autocast(kind, enabled=False) if here else nullcontext()
