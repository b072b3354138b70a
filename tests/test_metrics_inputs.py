"""Test measures on every dtype, NaN, infinities, empty inputs and values that are not numbers."""

import inspect
import math

import pytest
import torch

from wsl_tutorial import metrics

SPREAD = torch.tensor([[0, 3, 1], [2, 0, 3]])  # numbers that every dtype but bool holds
IOU = torch.tensor([[[0, 1, 0], [1, 0, 1]], [[0, 0, 1], [1, 1, 0]]])  # (2, 2, 3)
PRESENT = torch.tensor([[True, True, False], [True, True, True]])
GUESS, TRUTH = torch.tensor([[1, 0], [2, 1]]), torch.tensor([[0, 1, 2], [1, 2, 1]])
RANK = torch.tensor([[3, 1], [0, 2]])
DISTANCE = 3 * IOU + torch.tensor([[[2, 0, 1], [1, 5, 0]], [[0, 3, 2], [4, 4, 1]]])
MASKS = [torch.arange(12).view(3, 4) % 5 < 2, torch.arange(6).view(2, 3) > 2]
MAPS = [torch.arange(12).view(3, 4) % 2, torch.tensor([[0, 1, 1], [1, 0, 1]])]
BOXES = [torch.tensor([[0, 0, 4, 3]]), torch.tensor([[0, 0, 2, 1], [1, 0, 3, 2]])]
REALS, WHOLE, BOOL = "real", "whole", "bool"

RATES = {  # what is called with which tensors, and their kinds
    "error_rate": ((SPREAD, torch.tensor([1, 2])), (REALS, WHOLE)),
    "transcribe": ((SPREAD.T.contiguous()[None, :, None],), (REALS,)),
    "boxes": ((SPREAD,), (REALS,)),
    "box_iou": (
        (torch.tensor([[[0, 0, 3, 3], [1, 1, 2, 9]]]), torch.tensor([[[1, 0, 5, 2]]])),
        (REALS, REALS),
    ),
    "detected": ((IOU, PRESENT), (REALS, BOOL)),
    "matched": ((IOU, PRESENT), (REALS, BOOL)),
    "detected_and_classified": ((IOU, GUESS, TRUTH), (REALS, WHOLE, WHOLE)),
    "precision_recall_f1": ((IOU, GUESS, TRUTH), (REALS, WHOLE, WHOLE)),
    "centre_error": ((DISTANCE, PRESENT), (REALS, BOOL)),
    "average_precision": (
        (torch.tensor([0, 3, 1, 2]), torch.tensor([True, False, True, True])),
        (REALS, BOOL),
    ),
    "mean_average_precision": ((IOU, GUESS, RANK, TRUTH), (REALS, WHOLE, REALS, WHOLE)),
    "area_under": ((torch.tensor([0, 1, 2]), torch.tensor([3, 1, 2])), (REALS, REALS)),
    "label_recall": ((GUESS, TRUTH), (WHOLE, WHOLE)),
}
LISTS = {  # the same with lists of tensors
    "confusion": ((MASKS, [~m for m in MASKS]), (BOOL, BOOL)),
    "mask_scores": ((MASKS, [~m for m in MASKS]), (BOOL, BOOL)),
    "trivial_masks": ((MASKS,), (BOOL,)),
    "precision_recall": ((MAPS, MASKS), (REALS, BOOL)),
    "pxap": ((MAPS, MASKS), (REALS, BOOL)),
    "max_box_accuracy": ((MAPS, BOXES), (REALS, REALS)),
}
EXTRA = {"average_precision": (4,), "label_recall": (3,)}
NUMBERS = {
    "label_recall_by_chance": (10, 3, 4),
    "found_by_chance": (3, 20.0, 60.0, 0.5),
    "precision_bounds": (80.0, 9.0, 9.0),
    "counts_behind": (12.5, 80, 2),
    "wilson_interval": (3, 50, 1.96),
    "all_zeros_bounds": (40.0,),
    "area_for_f1": (60.0,),
}
REAL = [torch.uint8, torch.int16, torch.bool, torch.float16, torch.bfloat16, torch.float32]
REAL += [torch.float64, torch.int64, torch.complex64]
bad = pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])


def test_every_public_function_is_walked():
    walked = {*RATES, *LISTS, *NUMBERS, "sequence_error", "coverage"}
    own = {
        name
        for name, x in vars(metrics).items()
        if inspect.isfunction(x) and x.__module__ == metrics.__name__ and name[0] != "_"
    }
    assert own == walked


def asked(name, *tensors):
    """Return the result as a flat list of numbers, or None if an argument is refused by name."""
    try:
        answer = getattr(metrics, name)(*tensors, *EXTRA.get(name, ()))
    except ValueError as refusal:
        message = str(refusal)
        assert "got" in message or "expected" in message
        return None
    return flat(answer)


def flat(answer) -> list[float]:
    if isinstance(answer, torch.Tensor):
        return answer.double().flatten().tolist()
    if isinstance(answer, dict):
        return [x for value in answer.values() for x in flat(value)]
    if isinstance(answer, list | tuple):
        return [x for value in answer for x in flat(value)]
    return [float(answer)]


def to(x, change):
    return [change(t) for t in x] if isinstance(x, list) else change(x)


@pytest.mark.parametrize("name", [*RATES, *LISTS])
def test_a_dtype_gives_the_same_rate_or_is_refused(name):
    tensors, kinds = (RATES | LISTS)[name]
    for k, kind in enumerate(kinds):
        for dtype in REAL:

            def swapped(change, k=k):
                return [to(x, change) if i == k else x for i, x in enumerate(tensors)]

            answer = asked(name, *swapped(lambda x, dtype=dtype: x.to(dtype)))
            if kind == BOOL:
                assert (answer is None) == (dtype != torch.bool), (k, dtype)
            elif kind == WHOLE:
                whole = not (dtype.is_floating_point or dtype.is_complex)
                assert (answer is None) != whole, (k, dtype)
            else:
                assert (answer is None) == dtype.is_complex, (k, dtype)
            if answer is not None:
                kept = torch.int64 if kind == WHOLE else torch.bool if kind == BOOL else None
                exact = swapped(
                    lambda x, dtype=dtype, kept=kept: x.to(dtype).to(kept or torch.float64)
                )
                assert answer == pytest.approx(asked(name, *exact), rel=1e-6), (k, dtype)


@pytest.mark.parametrize("name", [*RATES, *LISTS])
def test_tensors_with_a_graph_have_the_same_rate(name):
    tensors, kinds = (RATES | LISTS)[name]
    real = [k == REALS for k in kinds]
    plain, leaves = (
        [to(x, change) if r else x for x, r in zip(tensors, real, strict=True)]
        for change in (torch.Tensor.double, lambda x: x.double().requires_grad_())
    )
    assert asked(name, *leaves) == pytest.approx(asked(name, *plain))


@bad
@pytest.mark.parametrize("name", [*RATES, *LISTS])
def test_what_is_not_finite_gives_nan_or_is_refused_and_no_plausible_rate(name, bad):
    tensors, kinds = (RATES | LISTS)[name]
    for k, kind in enumerate(kinds):
        if kind != REALS or (bad, name) in ORDERED:
            continue
        every = [sum(x.numel() for x in tensors[k])] if isinstance(tensors[k], list) else ()
        size = every[0] if every else tensors[k].numel()
        for at in range(size):
            if name in OF_PRESENT and not OF_PRESENT[name].flatten()[at % 12]:
                continue  # a value of padding plays no role
            spoilt = [spoil(x, at, bad) if i == k else x for i, x in enumerate(tensors)]
            answer = asked(name, *spoilt)
            assert answer is None or any(math.isnan(x) or math.isinf(x) for x in answer), (k, at)


ORDERED = {  # an infinite score has its place in an order; -inf is what was left out, or ruled out
    *((x, name) for x in (math.inf, -math.inf) for name in ("average_precision",)),
    *((-math.inf, name) for name in ("error_rate", "transcribe", "detected", "matched")),
    *((-math.inf, name) for name in ("detected_and_classified", "precision_recall_f1")),
    *((x, "mean_average_precision") for x in (math.inf, -math.inf)),
    *((x, "box_iou") for x in (math.inf, -math.inf)),  # the limit of great boxes, below
    (math.inf, "centre_error"),
}
THERE = PRESENT[:, None].expand(2, 2, 3)
OF_PRESENT = {"detected": THERE, "matched": THERE, "centre_error": THERE}
OF_PRESENT["precision_recall_f1"] = (TRUTH > 0)[:, None].expand(2, 2, 3)  # 0 is background


def spoil(x, at, value):
    if not isinstance(x, list):
        return x.double().flatten().index_fill(0, torch.tensor(at), value).view(x.shape)
    out = []
    for t in x:
        inside = 0 <= at < t.numel()
        out.append(spoil(t, at, value) if inside else t)
        at -= t.numel()
    return out


def test_infinite_boxes_have_the_iou_of_their_limit():
    unit = torch.tensor([[[0.0, 0, 1, 1]]])
    for wide in ([0, 0, math.inf, 1], [-math.inf, 0, 1, 1], [-math.inf, -math.inf, 1, 1]):
        assert metrics.box_iou(torch.tensor([[wide]]), unit).item() == 0
    assert metrics.box_iou(torch.tensor([[[0.0, 0, math.inf, 1]]] * 1), torch.tensor(
        [[[0.0, 0, math.inf, 1]]])).isnan().all()  # fmt: skip
    assert metrics.box_iou(torch.full((1, 1, 4), math.inf), unit).isnan().all()


@pytest.mark.parametrize("target", [-1, 2, -100])
def test_a_target_that_is_no_class_is_no_error(target):
    with pytest.raises(ValueError, match=r"target: got .* expected 0 \.\. 1"):
        metrics.error_rate(torch.eye(2), torch.tensor([0, target]))


def test_a_rate_of_more_decimals_than_printed_is_refused():
    assert metrics.counts_behind(33.333, 3, decimals=3) == [1]
    assert metrics.counts_behind(0.1 + 0.2, 1000, decimals=1) == [3]
    with pytest.raises(ValueError, match=r"rate: got 33\.333, expected a rate of 0 decimals"):
        metrics.counts_behind(33.333, 3, decimals=0)


def test_a_row_without_a_finite_maximum_has_no_winner():
    scores = torch.tensor([[0.0, 1.0], [-math.inf, -math.inf]])
    assert math.isnan(metrics.error_rate(scores, torch.tensor([1, 0])))
    ruled_out = torch.tensor([[0.0, 1.0], [-math.inf, 2.0]])
    assert metrics.error_rate(ruled_out, torch.tensor([1, 0])) == 50
    for value in (math.nan, -math.inf):
        with pytest.raises(ValueError, match="scores: got a position without"):
            metrics.transcribe(torch.full((1, 3, 1, 2), value))


@pytest.mark.parametrize("name", [*RATES, *LISTS])
def test_nothing_is_refused_by_name(name):
    tensors, _ = (RATES | LISTS)[name]
    empty = [[] if isinstance(x, list) else x[:0] for x in tensors]
    if name in ("boxes", "box_iou", "transcribe", "trivial_masks", "average_precision"):
        answer = asked(name, *empty)  # no image has no boxes, texts or masks; no detection, AP 0
        assert answer in (None, [], [0.0])
    else:
        assert asked(name, *empty) is None
    if name in LISTS and name != "trivial_masks":
        hollow = [[t.narrow(0, 0, 0) for t in x] for x in tensors]
        assert asked(name, *hollow) is None


def test_an_image_without_a_true_box_is_named():
    boxes = [BOXES[0], BOXES[1][:0]]
    with pytest.raises(ValueError, match="boxes: got no true box of image 1, expected one or more"):
        metrics.max_box_accuracy(MAPS, boxes)


@bad
@pytest.mark.parametrize("name", NUMBERS)
def test_a_number_that_is_none_is_refused(name, bad):
    numbers = NUMBERS[name]
    for k in range(len(numbers)):
        with pytest.raises(ValueError, match="got"):
            getattr(metrics, name)(*[bad if i == k else x for i, x in enumerate(numbers)])


@pytest.mark.parametrize(("name", "k"), [("detected", 2), ("matched", 2)])
def test_a_threshold_of_nan_finds_nan(name, k):
    assert math.isnan(getattr(metrics, name)(IOU, PRESENT, math.nan))


@pytest.mark.parametrize("step", [0, -0.1, 2, math.nan, math.inf])
def test_a_step_that_is_none_is_refused(step):
    for rate in (metrics.precision_recall, metrics.pxap):
        with pytest.raises(ValueError, match="step: got"):
            rate(MAPS, MASKS, step)
    with pytest.raises(ValueError, match="overlap: got"):
        metrics.max_box_accuracy(MAPS, BOXES, step)


def test_sequences_hold_whole_numbers():
    assert metrics.sequence_error([[1], []], [[1], [2]]) == 50
    assert metrics.sequence_error([torch.tensor([1, 2])], [torch.tensor([1, 2]).byte()]) == 0
    for wrong in ([[math.nan]], [[1.5]], [None]):
        with pytest.raises(ValueError, match="predicted: expected lists of whole numbers"):
            metrics.sequence_error(wrong, [[1]])
    with pytest.raises(ValueError, match="no sequences"):
        metrics.coverage([])


def test_scores_of_eight_bits_have_the_area_of_their_order():
    scores = [torch.tensor([[0, 255], [200, 10]]).byte()]
    true = [torch.tensor([[False, True], [True, False]])]
    assert metrics.area_under(*metrics.precision_recall(scores, true)) == pytest.approx(100)
    assert metrics.area_under(*metrics.precision_recall([true[0]], true)) == pytest.approx(100)


def test_large_boxes_of_half_precision_and_of_bytes_do_not_overflow():
    a, b = torch.tensor([[[0, 0, 400, 300]]]), torch.tensor([[[100, 0, 400, 300]]])
    for dtype in (torch.float16, torch.int16, torch.int32):
        assert metrics.box_iou(a.to(dtype), b.to(dtype)).item() == pytest.approx(0.75)
    far = torch.tensor([[[200, 200, 250, 250]]]).byte()
    assert metrics.box_iou(far, far - 190).item() == 0


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("name", [*RATES, *LISTS])
def test_rates_are_the_same_without_gradients(name, context):
    tensors, _ = (RATES | LISTS)[name]
    expected = asked(name, *tensors)
    with context():
        assert asked(name, *tensors) == pytest.approx(expected)


def test_a_rate_inside_vmap_is_refused_and_not_wrong():
    with pytest.raises(RuntimeError, match="vmap"):
        torch.func.vmap(metrics.detected)(torch.stack([IOU, IOU]), torch.stack([PRESENT, PRESENT]))
