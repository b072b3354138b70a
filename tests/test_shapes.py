"""The checks that all rooms share: what they refuse, and the one form of their errors."""

import re

import pytest
import torch

from wsl_tutorial import _shapes as shapes

X = torch.zeros(2, 3)
FORM = r"x must be (.+), got (.+?)(; .+)?"  # NAME must be WHAT, got WHAT; REMEDY


def refusal(check, *arguments, **options) -> str | None:
    """Return what is said of an input after its name, or None where it passes."""
    try:
        check("x", *arguments, **options)
    except ValueError as error:
        message = str(error)
    else:
        return None
    assert re.fullmatch(FORM, message)
    return message.removeprefix("x must be ")


def test_dtype_shape_and_device_are_checked_and_named():
    wanted = "float32 or float64 of shape (2, 4)"
    assert refusal(shapes.check_tensor, X, (2, 3)) is None
    assert refusal(shapes.check_tensor, X.double(), (2, 3)) is None
    assert refusal(shapes.check_tensor, X, (2, 4)) == (
        f"{wanted}, got torch.float32 of shape (2, 3) on cpu"
    )
    assert refusal(shapes.check_tensor, None, (2, 4)) == f"{wanted}, got NoneType"
    assert "of shape (6,), got" in refusal(shapes.check_tensor, X, (6,))


def test_another_tensor_sets_dtype_and_device():
    assert refusal(shapes.check_tensor, X, (2, 3), X) is None
    assert refusal(shapes.check_tensor, X, (2, 3), X.double()) == (
        "torch.float64 of shape (2, 3) on cpu, got torch.float32 of shape (2, 3) on cpu; "
        "take x.double()"
    )
    assert refusal(shapes.check_tensor, X, (2, 3), X.to("meta")) == (
        "torch.float32 of shape (2, 3) on meta, got torch.float32 of shape (2, 3) on cpu; "
        "take x.to('meta')"
    )


ONE_HOT = "from class numbers make a row for each bag with one_hot"


@pytest.mark.parametrize(
    ("x", "shape", "dtypes", "remedy"),
    [
        (X.half(), (2, 3), shapes.FLOATS, "take x.float()"),
        (X.long(), (2, 3), shapes.FLOATS, "take x.float()"),
        (X.numpy(), (2, 3), shapes.FLOATS, "take torch.as_tensor(x)"),
        (X, (2, 3), shapes.BOOL, "take x.bool()"),
        (X.tolist(), (2, 3), shapes.BOOL, "take torch.as_tensor(x).bool()"),
        (X[None, :, :1], (2,), shapes.BOOL, "take x.bool().reshape(2,)"),
        (X.bool(), (2, 3), shapes.WHOLE, "take x.long()"),
        (X, (2, 3), shapes.WHOLE, "take x.long() if its numbers are whole"),
        (X, (2, 3), shapes.FLAGS, "take x.nan_to_num(-1).long(), where -1 is unknown"),
        (torch.zeros(2).long(), (2, 3), shapes.FLAGS, f"{ONE_HOT}(x, 3)"),
        ([0, 2], ("B", "C"), shapes.FLAGS, f"{ONE_HOT}(torch.as_tensor(x), C)"),
        (
            [{1}, {0, 2}],
            (2, 3),
            shapes.FLAGS,
            "for each bag pass a row with 0 or 1 for every class",
        ),
        ([X, X[:1]], (2, 3), shapes.FLOATS, "pad bags to one tensor, as data.bags.collate does"),
        (X, (2,), (torch.int64,), "from a row for each bag take x.float().argmax(1)"),
        (X[:, :1].long(), (2,), (torch.int64,), "take x.reshape(2,)"),
        (None, (2, 3), shapes.BOOL, None),
        (X.bool(), (2, 4), shapes.BOOL, None),
        (X.cfloat(), (2, 3), shapes.WHOLE, None),
    ],
)
def test_the_remedy_makes_what_is_needed(x, shape, dtypes, remedy):
    said = refusal(shapes.check_tensor, x, shape, None, dtypes)
    assert said.partition("; ")[2] == (remedy or "")
    code = re.fullmatch(r"take (.*?)( if .*|, where .*)?", remedy or "")
    if code:
        made = eval(code[1], {"torch": torch, "x": x})
        assert refusal(shapes.check_tensor, made, shape, None, dtypes) is None


@pytest.mark.parametrize(
    ("dtypes", "fits", "name"),
    [
        (shapes.BOOL, "bool", "torch.bool"),
        (shapes.WHOLE, "int64 int32 int16 int8 uint8", "integer"),
        (shapes.FLOATS, "float32 float64", "float32 or float64"),
    ],
)
def test_the_dtypes_of_each_kind(dtypes, fits, name):
    kinds = "bool int64 int32 int16 int8 uint8 float16 bfloat16 float32 float64 complex64"
    for kind in kinds.split():
        x = X.to(getattr(torch, kind))
        said = refusal(shapes.check_tensor, x, (2, 3), X, dtypes)
        assert (said is None) == (kind in fits.split())
        assert said is None or said.startswith(f"{name} of shape (2, 3) on cpu, got torch.{kind} ")


def test_letters_are_sizes_above_zero_but_for_a_batch():
    assert refusal(shapes.check_tensor, X, ("B", "K")) is None
    assert refusal(shapes.check_tensor, X[:0], ("B", 3)) is None
    said = refusal(shapes.check_tensor, X[:, :0], ("B", "K"))
    assert said.startswith("float32 or float64 of shape (B, K), only B may be 0, got ")


def test_a_layout_has_so_many_dims_and_an_element():
    layout = shapes.check_layout
    assert refusal(layout, X, "(B, n)", (2,)) is None
    assert refusal(layout, X[:, :0], "(B, n)", (2,), empty=True) is None
    assert "of shape (B, n), no size 0, got" in refusal(layout, X[:, :0], "(B, n)", (2,))
    assert "of shape (B, n), got" in refusal(layout, X[0], "(B, n)", (2,))
    assert refusal(layout, X.half(), "(B, n)", (2,), "convert it").endswith("; convert it")
    assert refusal(layout, X[0], "(B, n)", (2,)).endswith("; for one bag pass x[None]")
    assert refusal(layout, X[0], "(C, L)", (2,)).endswith("on cpu")
    assert refusal(shapes.check_floats, None, "convert it") == (
        "float32 or float64, got NoneType; convert it"
    )


def test_probabilities_sum_to_one_where_instances_are_real():
    log_p, real = torch.zeros(1, 2, 4).log_softmax(2), torch.tensor([[True, False]])
    log_p[0, 1] = 5.0
    shapes.check_normalised(log_p, real)
    with pytest.raises(ValueError, match=r"log_p of shape \(1, 2, 4\) must .* log_softmax\(2\)"):
        shapes.check_normalised(log_p, torch.ones_like(real))


def test_numbers_are_finite_and_in_their_range():
    for fits in (0, 0.5, 1):
        assert refusal(shapes.check_number, fits, least=0) is None
    assert refusal(shapes.check_number, -5) is None
    for wrong in (float("nan"), float("inf"), -0.1, True, "1", None, 1j):
        wanted = f"a finite number of at least 0, got {wrong!r}"
        assert refusal(shapes.check_number, wrong, least=0) == wanted
    for wrong in (0, 1):
        wanted = f"a finite number above 0 and below 1, got {wrong}"
        assert refusal(shapes.check_number, wrong, above=0, below=1) == wanted
    assert refusal(shapes.check_number, 1, least=0, most=1) is None
    assert refusal(shapes.check_number, 2, least=0, most=1, remedy="divide it") == (
        "a finite number of at least 0 and at most 1, got 2; divide it"
    )
    assert refusal(shapes.check_number, float("inf")) == "a finite number, got inf"
