"""State the audit of Angles, Jin et al. (2021): what mathematics decides, and programs."""

from ..experiment import Audit, Finding, Sentence

AUDIT = Audit(
    cited="Angles, Jin et al.",
    chapter=10,
    sentences=(
        Sentence(
            "section 3, (3)",
            "lambda is a Lagrange multiplier",
            False,
            "lambda is the weight of the least-squares penalty; the constraint holds only in the "
            "limit of large lambda",
            "test_the_constraint_of_a_penalty_holds_only_in_its_limit",
        ),
        Sentence(
            "section 4.1",
            "extraction undoes the ideal heat map",
            True,
            "Eq. (8.7), for one scale, or with (8.6) in place of the printed moment: for centres "
            "on pixels, none in the window of suppression around another",
            "test_eq_8_7_is_undone_by_the_extraction_of_places_that_are_apart",
            equation="8.7",
        ),
        Sentence(
            "section 4.1",
            "the scale is the sum of responses times scales",
            False,
            "Eq. (8.6): the sum must be divided by the sum of the responses",
            "test_eq_8_6_returns_the_scale_that_was_split_and_the_printed_form_does_not",
            equation="8.6",
        ),
        Sentence(
            "tables 2, 5",
            "one run with nine digits and K = 9 cannot have both the recall of 97.5 % and the "
            "average precision (AP) of 92.2 %",
            None,
            "Eq. (10.3): true if AP is the area under the curve of precision against recall; two "
            "other definitions (chapter 10) allow both, and the paper does not define AP",
            "test_eq_10_3_has_no_room_for_both_printed_numbers",
            equation="10.3",
        ),
    ),
    findings=(
        Finding(
            "One detection counted for two digits",
            "ubc-vision/mist, released with the paper",
            "utils/torch_utils.py",
            "3de57d2",
            "objects nearer than two thirds of a box",
        ),
        Finding(
            "Dividing by the number of detections",
            "ubc-vision/mist, released with the paper",
            "utils/torch_utils.py",
            "3de57d2",
            "images without background class, where K is not the number of objects",
        ),
        Finding(
            "A label 0 counts as right",
            "ubc-vision/mist, released with the paper",
            "utils/torch_utils.py",
            "3de57d2",
            "digits; with a background class 0 the rule is right",
        ),
        Finding(
            "Lower peaks do not become 1",
            "ubc-vision/mist, released with the paper",
            "models/detector.py",
            "3de57d2",
            "heat maps with peaks of unequal height",
        ),
        Finding(
            "Zeros above negative scores",
            "ubc-vision/mist, released with the paper",
            "models/detector.py",
            "3de57d2",
            "heat maps without softmax, as for PASCAL + COCO",
        ),
    ),
)
