"""What the functions of bags share: sums of logarithms, and one way through all of torch's modes.

A bag is a row of the first axis of every tensor, and no bag depends on another one.
"""

import functools
import inspect
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor
from torch._compile import _disable_dynamo
from torch.autograd import forward_ad

_compiling = getattr(torch.compiler, "is_compiling", lambda: False)  # torch 2.1 has none
SOFTMAX = "apply log_softmax({dim}) to float32 logits, under autocast logits.float()"


def check_normalised(log_p: Tensor, real: Tensor) -> None:
    """Raise ValueError where the classes (dim 2) of a real instance do not sum to 1.

    log_p (B, n, C), real bool (B, n).
    """
    with torch.no_grad():
        off = (log_p.exp().sum(2) - 1).abs().masked_fill(~real, 0)
        if not bool((off <= 1e-3).all()):
            raise ValueError(
                f"log_p of shape {tuple(log_p.shape)} must hold log-probabilities that sum to 1 "
                f"over dim 2; {SOFTMAX.format(dim=2)}"
            )


def check_floats(name: str, x: Tensor, remedy: str) -> None:
    """Raise ValueError unless x is a tensor of a dtype that keeps the digits of a logarithm."""
    if not isinstance(x, Tensor) or x.dtype not in (torch.float32, torch.float64):
        got = x.dtype if isinstance(x, Tensor) else type(x).__name__
        raise ValueError(f"{name} must be a float32 or float64 tensor, got {got}; {remedy}")


def log(x: Tensor) -> Tensor:
    """log x; at 0 it is -inf with gradient 0, and no derivative of it is NaN."""
    zero = x == 0
    return x.masked_fill(zero, 1).log().masked_fill(zero, -torch.inf)


def logsumexp(x: Tensor, dim: int) -> Tensor:
    """log sum exp; where all are -inf it is -inf with gradient 0; no derivative of it is NaN.

    Of torch's own, the gradient there is NaN, and so is the second derivative of its `logaddexp`
    for terms far apart.
    """
    highest = x.detach().amax(dim, keepdim=True)
    highest = highest.masked_fill(highest.isinf(), 0)
    return log((x - highest).exp().sum(dim)) + highest.squeeze(dim)


def cut(log_p: Tensor) -> Tensor:
    """The same, with gradient 0 where it is -inf: what is impossible pulls at nothing."""
    return log_p.masked_fill(log_p == -torch.inf, -torch.inf)


def log_any(log_p: Tensor) -> Tensor:
    """log(1 - product of (1 - p)) over the last axis: that at least one of independent events is.

    Where the p are so small that their sum is this probability but for rounding, their logarithms
    are summed: nothing underflows.
    """
    p = log_p.exp()
    rare = p.sum(-1) < torch.finfo(p.dtype).eps / 4
    certain = p >= 1
    miss = torch.log1p(-p.masked_fill(certain, 0)).masked_fill(certain, -torch.inf).sum(-1)
    often = log(-torch.expm1(miss.masked_fill(rare, -1)))
    return torch.where(rare, logsumexp(log_p, -1), often)


def per_bag(function: Callable, shared: Sequence[str] = ()) -> Callable:
    """Let a function of bags, tensors (B, ...) in and out, work in all of torch's modes.

    The function looks at values, so transforms cannot trace it. Under `torch.func` and forward-mode
    AD it is called on plain tensors instead: `vmap` makes one longer batch, and derivatives of any
    order are those of its own autograd graph. In inference mode it is called outside of it,
    without a graph, and `torch.compile` leaves it out of its graphs. Arguments named in `shared`
    are the same for all bags.
    """
    eager = _disable_dynamo(function)  # imports the compiler at its first call only
    names = inspect.signature(function)

    @functools.wraps(function)
    def run(*args, **kwargs):
        if _compiling():
            return eager(*args, **kwargs)
        tensors = [x for x in (*args, *kwargs.values()) if isinstance(x, Tensor)]
        if torch.is_inference_mode_enabled() or any(x.is_inference() for x in tensors):
            graph = torch.is_grad_enabled()  # False in inference mode
            with torch.inference_mode(False), torch.set_grad_enabled(graph):
                args = [_normal(x) for x in args]
                return run(*args, **{name: _normal(x) for name, x in kwargs.items()})
        if not _transformed(tensors):
            return function(*args, **kwargs)
        given = names.bind(*args, **kwargs).arguments
        bags = {n: x for n, x in given.items() if isinstance(x, Tensor) and n not in shared}
        rest = {name: x for name, x in given.items() if name not in bags}
        return _PerBag.apply(
            lambda *xs: function(**rest, **dict(zip(bags, xs, strict=True))), *bags.values()
        )

    return run


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
    """Whether `torch.func` transforms what is computed now, or one of these has a tangent."""
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
        tangents = [
            torch.zeros_like(x) if t is None else t
            for x, t in zip(inputs, tangents, strict=True)
            if x.is_floating_point()
        ]
        pushed = _PerBag.apply(_push(ctx.body, len(inputs)), *inputs, *tangents)
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
    """From n inputs and the cotangents of the body's outputs: those of its float inputs."""

    def pulled(*given: Tensor) -> tuple[Tensor, ...]:
        graph = _graph_wanted(given)
        with torch.enable_grad():
            outputs, floats = _trace(body, given[:n])
            return _gradients(outputs, floats, given[n:], graph)

    return pulled


def _push(body: Callable, n: int) -> Callable:
    """From n inputs and the tangents of the float ones: those of the body's outputs.

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
    """Outputs of a body, in a graph that begins at its float inputs, and these."""
    inputs = [
        x.detach().requires_grad_() if x.is_floating_point() and not x.requires_grad else x
        for x in given
    ]
    outputs = body(*inputs)
    floats = [x for x in inputs if x.is_floating_point()]
    return outputs if isinstance(outputs, tuple) else (outputs,), floats


def _gradients(outputs, inputs, weights, graph: bool) -> tuple[Tensor, ...]:
    """torch.autograd.grad that is 0 where an output does not depend on an input."""
    pairs = [(y, w) for y, w in zip(outputs, weights, strict=True) if y.requires_grad]
    found = (None,) * len(inputs)
    if pairs:
        ys, ws = zip(*pairs, strict=True)
        found = torch.autograd.grad(ys, inputs, ws, create_graph=graph, allow_unused=True)
    return tuple(
        torch.zeros_like(x) if g is None else g for x, g in zip(inputs, found, strict=True)
    )


def check_bool(name: str, x: Tensor, shape: tuple[int, ...], like: Tensor) -> None:
    """Raise ValueError unless x is a bool tensor of a shape, on the device of `like`."""
    if not isinstance(x, Tensor) or x.dtype != torch.bool or tuple(x.shape) != shape:
        seen = f"{x.dtype} {tuple(x.shape)}" if isinstance(x, Tensor) else type(x).__name__
        raise ValueError(f"{name} must be a bool tensor of shape {shape}, got {seen}")
    if x.device != like.device:
        raise ValueError(f"{name} is on {x.device}, expected {like.device}")


def check_tensor(name: str, x: Tensor, shape: tuple[int | str, ...], like: Tensor | None = None):
    """Raise ValueError unless x is a float32 or float64 tensor of a shape.

    `shape` holds sizes, and letters for sizes above 0; the size B may be 0, a batch without images.
    With `like`, x must have its dtype and be on its device.
    """
    fits = isinstance(x, Tensor) and x.dim() == len(shape)
    pairs = tuple(zip(shape, x.shape, strict=True)) if fits else ()
    fits = fits and all((m > 0 or n == "B") if isinstance(n, str) else n == m for n, m in pairs)
    kind = "float32 or float64" if like is None else f"{like.dtype} on {like.device}"
    if like is None:
        fits = fits and x.dtype in (torch.float32, torch.float64)
    else:
        fits = fits and (x.dtype, x.device) == (like.dtype, like.device)
    if not fits:
        expected = "(" + ", ".join(map(str, shape)) + ")"
        expected += ", none but B 0" if isinstance(x, Tensor) and 0 in x.shape else ""
        half = isinstance(x, Tensor) and x.dtype in (torch.float16, torch.bfloat16)
        remedy = f"; take {name}.float()" if half else ""
        raise ValueError(f"{name} must be {kind} of shape {expected}, got {got(x)}{remedy}")


def got(x: object) -> str:
    """Return dtype, shape and device of a tensor, or the type of anything else, for an error."""
    return f"{x.dtype} {tuple(x.shape)} on {x.device}" if isinstance(x, Tensor) else str(type(x))


def check_integers(name: str, x: Tensor, shape: tuple[int, ...], like: Tensor) -> None:
    """Raise ValueError unless x is an integer tensor of a shape, on the device of `like`."""
    whole = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
    if not isinstance(x, Tensor) or x.dtype not in whole or tuple(x.shape) != shape:
        seen = f"{x.dtype} {tuple(x.shape)}" if isinstance(x, Tensor) else type(x).__name__
        raise ValueError(f"{name} must be an integer tensor of shape {shape}, got {seen}")
    if x.device != like.device:
        raise ValueError(f"{name} is on {x.device}, expected {like.device}")


def check_layout(name: str, x: Tensor, shape: str, dims: tuple[int, ...]) -> None:
    """Raise ValueError unless x is float32 or float64, of so many dims, and not empty."""
    if not isinstance(x, Tensor) or x.dtype not in (torch.float32, torch.float64):
        half = isinstance(x, Tensor) and x.dtype in (torch.float16, torch.bfloat16)
        remedy = f"; take {name}.float()" if half else ""
        raise ValueError(f"{name} must be a float32 or float64 tensor, got {described(x)}{remedy}")
    if x.dim() not in dims or 0 in x.shape:
        raise ValueError(f"{name} must be {shape}, got {described(x)}")


def check_exact(
    name: str, x: Tensor, shape: tuple[int, ...], like: Tensor, dtype: torch.dtype | None = None
) -> None:
    """Raise ValueError unless x has this shape, the device of `like`, and its dtype or `dtype`."""
    expected = tuple(shape), dtype or like.dtype, like.device
    if not isinstance(x, Tensor) or (tuple(x.shape), x.dtype, x.device) != expected:
        raise ValueError(f"{name} must be {', '.join(map(str, expected))}, got {described(x)}")


def described(x: object) -> str:
    """Return shape, dtype and device of a tensor, or the type of anything else."""
    tensor = isinstance(x, Tensor)
    return f"shape {tuple(x.shape)}, {x.dtype}, {x.device}" if tensor else type(x).__name__


def full_precision(x: Tensor) -> AbstractContextManager:
    """Return a context in which autocast does not multiply matrices in half precision."""
    kind = x.device.type
    here = torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)
    return torch.autocast(kind, enabled=False) if here else nullcontext()
