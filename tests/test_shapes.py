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
    assert refusal(shapes.check_tensor, [1.0], (2, 4)) == f"{wanted}, got list"
    assert refusal(shapes.check_tensor, X.half(), (2, 3)).endswith("; take x.float()")
    assert refusal(shapes.check_tensor, X.long(), (2, 3)).endswith("on cpu")
    assert refusal(shapes.check_tensor, X.half(), (2, 3), X, shapes.BOOL).endswith("on cpu")
    assert "of shape (6,), got" in refusal(shapes.check_tensor, X, (6,))


def test_another_tensor_sets_dtype_and_device():
    assert refusal(shapes.check_tensor, X, (2, 3), X) is None
    assert refusal(shapes.check_tensor, X, (2, 3), X.double()) == (
        "torch.float64 of shape (2, 3) on cpu, got torch.float32 of shape (2, 3) on cpu"
    )
    assert refusal(shapes.check_tensor, X, (2, 3), X.to("meta")) == (
        "torch.float32 of shape (2, 3) on meta, got torch.float32 of shape (2, 3) on cpu"
    )


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
    assert not refusal(layout, X[0], "(B, n)", (2,), "convert it").endswith("convert it")
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
    assert refusal(shapes.check_number, float("inf")) == "a finite number, got inf"
