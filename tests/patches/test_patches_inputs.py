"""Walks over patches, regions, crf and boxes: every dtype, NaN, nothing at all, torch's modes."""

import copy
import io
import logging
import math
import pickle
import warnings
from functools import partial

import input_walks
import pytest
import small_inputs
import torch
from small_inputs import Case, parts, total
from torch import Tensor
from torch.autograd import forward_ad

from wsl_tutorial import crf, metrics, patches, regions

ROOMS = {
    "patches": small_inputs.PATCHES,
    "regions": small_inputs.REGIONS,
    "crf": small_inputs.CRF,
    "metrics": small_inputs.BOXES,
}
CASES = {f"{room}.{name}": case for room, cases in ROOMS.items() for name, case in cases.items()}
READS_SOME = ("patches.sample", "patches.place", "patches.reconstruction_loss")  # inside a box
each = pytest.mark.parametrize("name", CASES)
HALVES = (torch.float16, torch.bfloat16)  # are widened to float32
DTYPES = [torch.uint8, torch.int16, torch.bool, torch.float16, torch.bfloat16, torch.complex64]


def close(a, b, tolerance=1e-7) -> bool:
    return all(
        torch.allclose(x.double(), y.double(), rtol=tolerance, atol=tolerance, equal_nan=True)
        for x, y in zip(parts(a), parts(b), strict=True)
    )


def test_every_public_function_is_walked():
    walked = {name.partition(",")[0] for name in CASES}
    for room, module in {"patches": patches, "regions": regions, "crf": crf}.items():
        own = {
            f"{room}.{name}"
            for name, x in vars(module).items()
            if callable(x) and x.__module__.startswith(module.__name__) and name[0] != "_"
        }
        results = ("Lifted", "Erased", "Look", "Rule", "as_released", "as_printed")
        assert own - walked == {f"{room}.{x}" for x in results if hasattr(module, x)}


# Dtypes, NaN, nothing -----------------------------------------------------------------------------


def asked(case: Case, *inputs: Tensor):
    """Return the result, or None where the function refuses its input by name."""
    try:
        return case.call(*inputs)
    except ValueError as refusal:
        message = str(refusal)
    assert " must " in message or "got" in message
    return None


@each
def test_a_dtype_gives_the_same_answer_or_is_refused(name):
    case = CASES[name]
    for k, dtype in ((k, d) for k in range(len(case.inputs)) for d in DTYPES):
        changed = [x.to(dtype) if i == k else x for i, x in enumerate(case.inputs)]
        answer = asked(case, *changed)
        if answer is not None:
            changed[k] = changed[k].float() if dtype in HALVES else changed[k].double()
            assert close(answer, case.call(*changed)), (k, dtype)


@each
def test_float32_gives_the_answer_of_float64_in_its_own_dtype(name):
    case = CASES[name]
    answer, exact = (
        case.call(*[x.to(d) for x in case.inputs]) for d in (torch.float32, torch.float64)
    )
    assert all(x.dtype == torch.float32 for x in parts(answer))
    if name.rpartition(".")[2] not in ("perturbed_top_k", "draw_places", "wildcat_pooling"):
        assert close(answer, exact, 1e-4)  # the noise of these three is of the dtype


@each
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_what_is_not_finite_is_refused_or_leaves_a_trace(name, bad):
    """A NaN gives a NaN; an infinity gives one, or the limit of large numbers; or it is refused."""
    case = CASES[name]
    for k, x in enumerate(case.inputs):
        for at in (0, x.numel() // 2, x.numel() - 1):

            def answer(value, k=k, x=x, at=at):
                changed = x.flatten().index_fill(0, torch.tensor(at), value).view(x.shape)
                if name in READS_SOME and x.dim() > 3:
                    changed = torch.full_like(x, value)
                return asked(case, *[changed if i == k else y for i, y in enumerate(case.inputs)])

            out = answer(bad)
            if out is None or any(p.isnan().any() for p in parts(out)):
                continue
            assert not math.isnan(bad), (k, at)
            limit = answer(math.copysign(1e30, bad))
            great = [(p.abs() > 1e25) for p in parts(limit)]  # infinite in the limit
            pairs = zip(parts(out), parts(limit), great, strict=True)
            assert close(
                tuple(o.masked_fill(g, 0) for o, _, g in pairs),
                tuple(x.masked_fill(g, 0) for x, g in zip(parts(limit), great, strict=True)),
            )


@each
def test_no_bag_gives_no_answer_or_is_refused(name):
    case = CASES[name]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        out = asked(case, *[x[:0] for x in case.inputs])
        assert out is None or all(p.numel() == 0 for p in parts(out))
        for k, x in enumerate(case.inputs):
            for dim in range(1, x.dim()):
                changed = [y.narrow(dim, 0, 0) if i == k else y for i, y in enumerate(case.inputs)]
                out = asked(case, *changed)
                assert out is None or all(p.numel() == 0 for p in parts(out)), (k, dim)


# Torch's modes ------------------------------------------------------------------------------------


def first(case: Case) -> tuple[Tensor, ...]:
    leaves = [x.clone().requires_grad_() for x in case.inputs]
    slopes = torch.autograd.grad(total(case, *leaves), leaves, allow_unused=True)
    return tuple(
        torch.zeros_like(x) if g is None else g for x, g in zip(leaves, slopes, strict=True)
    )


def plain(case: Case, context) -> bool:
    expected = case.call(*case.inputs)
    with context:
        return close(case.call(*case.inputs), expected)


def func_grad(case: Case) -> bool:
    every, f = tuple(range(len(case.inputs))), partial(total, case)
    found = torch.func.grad(f, every)(*case.inputs), torch.func.jacrev(f, every)(*case.inputs)
    return all(close(slopes, first(case)) for slopes in found)


def vmap(case: Case) -> bool:
    two = [torch.stack([x, 0.9 * x.flip(-1)]) for x in case.inputs]
    single = [parts(case.call(*one)) for one in zip(*two, strict=True)]
    together = parts(torch.func.vmap(case.call)(*two))
    return all(
        close(t, torch.stack(s)) for t, s in zip(together, zip(*single, strict=True), strict=True)
    )


def forward(case: Case) -> bool:
    along = tuple(small_inputs.randn(*x.shape, seed=90 + i) for i, x in enumerate(case.inputs))
    expected = sum((g * v).sum() for g, v in zip(first(case), along, strict=True))
    _, slope = torch.func.jvp(partial(total, case), case.inputs, along)
    with forward_ad.dual_level():
        dual = [forward_ad.make_dual(x, v) for x, v in zip(case.inputs, along, strict=True)]
        tangent = forward_ad.unpack_dual(total(case, *dual)).tangent
    return close(slope, expected) and close(tangent, expected)


def second(case: Case) -> bool:
    leaves = [x.clone().requires_grad_() for x in case.inputs]
    check = partial(torch.autograd.gradgradcheck, atol=1e-4, fast_mode=True, raise_exception=False)
    return check(partial(total, case), leaves)


def compiled(case: Case, fullgraph: bool) -> bool:
    torch._dynamo.reset()
    call = torch.compile(case.call, backend="eager", fullgraph=fullgraph)
    right = close(call(*case.inputs), case.call(*case.inputs))
    if case.slopes:
        leaves = [x.clone().requires_grad_() for x in case.inputs]
        out = total(case._replace(call=call), *leaves)
        slopes = torch.autograd.grad(out, leaves, allow_unused=True, materialize_grads=True)
        right = right and close(tuple(slopes), first(case))
    return right


def autocast(case: Case) -> bool:
    inputs = [x.float() for x in case.inputs]
    expected = case.call(*inputs)
    with torch.autocast("cpu", torch.bfloat16):
        found = case.call(*inputs)
    same = all(a.dtype == b.dtype for a, b in zip(parts(found), parts(expected), strict=True))
    return same and close(found, expected)


class Layer(torch.nn.Module):
    """Call the function `name` in the forward pass."""

    def __init__(self, name: str):
        super().__init__()
        self.name = name
        self.weight = torch.nn.Parameter(torch.tensor(1.0, dtype=torch.float64))

    def forward(self, *inputs):
        return CASES[self.name].call(*[x * self.weight for x in inputs])


def copied(name: str) -> bool:
    layer, case = Layer(name), CASES[name]
    with torch.no_grad():
        expected = layer(*case.inputs)
        layer(*case.inputs)
        file = io.BytesIO()
        torch.save(layer, file)
        file.seek(0)
        others = (
            copy.deepcopy(layer),
            pickle.loads(pickle.dumps(layer)),
            torch.load(file, weights_only=False),
        )
        return all(close(other(*case.inputs), expected) for other in others)


MODES = {  # the columns of the table
    "no_grad": lambda name: plain(CASES[name], torch.no_grad()),
    "inference_mode": lambda name: plain(CASES[name], torch.inference_mode()),
    "func.grad, jacrev": lambda name: func_grad(CASES[name]),
    "vmap": lambda name: vmap(CASES[name]),
    "forward mode, jvp": lambda name: forward(CASES[name]),
    "second derivative": lambda name: second(CASES[name]),
    "compile, fullgraph": lambda name: compiled(CASES[name], True),
    "compile": lambda name: compiled(CASES[name], False),
    "autocast": lambda name: autocast(CASES[name]),
    "deepcopy, pickle": copied,
}
MEAN = ("patches.perturbed_top_k", "patches.reinforce")  # right in the mean: test_patches
TABLE = input_walks.table("Patches and regions")


def found(name: str) -> dict[str, str]:
    """Return the entry for each mode: yes; refused, with an error; - without a derivative."""
    modes = {mode: partial(works, name) for mode, works in MODES.items()}
    if name not in MEAN:
        return input_walks.verdicts(modes, CASES[name].slopes)
    del modes["second derivative"]
    return input_walks.verdicts(modes, True) | {"second derivative": "in the mean"}


@pytest.fixture
def _quiet():
    torch._logging.set_logs(dynamo=logging.CRITICAL)
    yield
    torch._dynamo.reset()


@each
@pytest.mark.usefixtures("_quiet")
def test_the_table_of_modes_says_what_the_walk_finds(name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert found(name) == TABLE[name]


def test_the_table_of_modes_has_a_row_for_every_function():
    assert list(TABLE) == list(CASES)


@pytest.mark.parametrize("name", [n for n, case in CASES.items() if not case.slopes])
def test_what_is_constant_is_so_in_forward_mode_too(name):
    """The reverse mode has no graph, so a tangent would be another derivative."""
    case = CASES[name]
    with forward_ad.dual_level():
        dual = [forward_ad.make_dual(x, torch.ones_like(x)) for x in case.inputs]
        for out in parts(case.call(*dual)):
            assert forward_ad.unpack_dual(out).tangent is None
    leaves = [x.clone().requires_grad_() for x in case.inputs]
    assert not any(out.requires_grad for out in parts(case.call(*leaves)))


@pytest.mark.parametrize("name", ["patches.move", "patches.lifted_step"])
def test_moves_inside_a_transform_are_refused_and_not_wrong(name):
    case = CASES[name]
    with pytest.raises(RuntimeError, match="functorch transform"):
        torch.func.grad(partial(total, case))(*case.inputs)


def test_the_metrics_of_boxes_are_walked_with_their_gradient():
    assert set(small_inputs.BOXES) == {"boxes", "box_iou"}
    assert metrics.box_iou(*small_inputs.BOXES["box_iou"].inputs).max() > 0.1
