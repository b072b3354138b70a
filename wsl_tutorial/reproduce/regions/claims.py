"""The claims about regions: what the paper and this book say, tested on records."""

from math import inf, nan

from ..evidence import (
    Fact,
    ahead,
    at_least,
    behind,
    contrast,
    exactly,
    mean,
    plus_minus,
    ruling,
    values,
)
from ..experiment import Experiment, Whose, claim
from .experiments import EQUAL, LADDER, PRINTED, SECONDS, TRIVIAL

NAMES = {
    "f1_plus": "F1+",
    "f1_minus": "F1-",
    "midrange_f1_plus": "F1+ at the midrange",
    "midrange_f1_minus": "F1- at the midrange",
    "pxap": "PxAP",
}
EQUAL_CUT = ("midrange_f1_plus", "midrange_f1_minus", "pxap")
NEAR = 1.0  # points: "not below" and "the same" are read as within so much


def gaps_text(ours, other, *metrics: str) -> str:
    """Return the gaps between two experiments, with half-widths, by the names of the tables."""
    return ", ".join(f"{NAMES[m]} {plus_minus(ahead(ours, other, m))}" for m in metrics)


def not_below(ours, other, metric: str) -> Fact:
    """Return how much the gap is above -1 point."""
    return ahead(ours, other, metric, plus=NEAR)


def fewer_false_positives(ours, *others):
    """Test F1- above at one cut for all with F1+ not below, and PxAP above."""
    plus, minus, free = EQUAL_CUT
    facts = [ahead(ours, o, metric) for o in others for metric in (minus, free)]
    facts += [not_below(ours, o, plus) for o in others]
    return ruling("; ".join(gaps_text(ours, o, *EQUAL_CUT) for o in others), *facts)


def fewer_as_printed(ours, *others):
    """Test F1- above with F1+ not below, every method by its own cut, as in Table 2."""
    facts = [ahead(ours, o, "f1_minus") for o in others]
    facts += [not_below(ours, o, "f1_plus") for o in others]
    return ruling("; ".join(gaps_text(ours, o, "f1_plus", "f1_minus") for o in others), *facts)


def erasing_helps(four, *others):
    """Test F1+ above, F1- not below; by the midrange cut, which is the paper's for its method."""
    plus, minus = "midrange_f1_plus", "midrange_f1_minus"
    facts = [ahead(four, o, plus) for o in others] + [not_below(four, o, minus) for o in others]
    return ruling("; ".join(gaps_text(four, o, plus, minus) for o in others), *facts)


def competitive(ours, *others):
    """Test an error at most 2.5 points above each baseline, so above the best."""
    best = min(mean(o, "error", inf) for o in others)
    text = f"error {mean(ours, 'error', inf):.1f} %, of the best baseline {best:.1f} %"
    return ruling(text, *(behind(ours, o, "error", plus=2.5) for o in others))


def field_helps(ours, *others):
    """Test that F1+ plus F1- grows, and by more than the mean growth of the others."""

    def gain(records, side):
        before, after = values(records, f"f1_{side}"), values(records, f"crf1_f1_{side}")
        return [b - a for a, b in zip(before, after, strict=True)]

    def grown(records):
        return [a + b for a, b in zip(*(gain(records, s) for s in ("plus", "minus")), strict=True)]

    facts = (
        contrast((1, grown(ours))),
        contrast((1, grown(ours)), *((-1 / len(others), grown(o)) for o in others)),
    )
    text = "F1+ + F1- changes by {}; minus the mean change of the baselines: {}"
    return ruling(text.format(*(plus_minus(fact, 2) for fact in facts)), *facts)


def beats_zeros(ours, blind):
    """Test F1- above All-zeros."""
    zeros = mean(blind, "all_zeros_f1_minus")
    text = f"F1- {mean(ours, 'midrange_f1_minus'):.1f} %, All-zeros {zeros:.1f} %"
    return ruling(text, at_least(ours, "midrange_f1_minus", zeros))


def moderate(records):
    """Test the durations of one run, which no seed changes."""
    ratio = mean(records, "ratio", inf)
    return ruling(
        f"an epoch with u = 4 takes {ratio:.2f} times as long as one with u = 0",
        exactly(2.5 - ratio),
    )


def cut_explains(ours, cam):
    """Test that there is a lead, and that one cut for all leaves at most half of it."""
    own, one = (ahead(ours, cam, key) for key in ("f1_minus", "midrange_f1_minus"))

    def taken(records):
        pairs = (values(records, key) for key in ("f1_minus", "midrange_f1_minus"))
        return [a / 2 - b for a, b in zip(*pairs, strict=True)]

    text = (
        f"F1- higher by {plus_minus(own)} with each method's own cut, "
        f"by {plus_minus(one)} with one cut for all"
    )
    return ruling(text, own, contrast((1, taken(ours)), (-1, taken(cam))))


def same_map(a, b):
    """Test PxAP within 1 point on either side."""
    facts = (ahead(a, b, "pxap", plus=NEAR), ahead(b, a, "pxap", plus=NEAR))
    return ruling(gaps_text(a, b, "pxap"), *facts)


def gains_ordered(*parts):
    """Test that u = 4 gains more F1+ over u = 0 where evidence is weak than where it is strong."""
    pairs = list(zip(parts[::2], parts[1::2], strict=True))
    gains = [ahead(four, zero, EQUAL_CUT[0]) for zero, four in pairs]

    def beyond_strong(k):
        signed = zip((-1, 1, 1, -1), (*pairs[k], *pairs[2]), strict=True)
        return contrast(*((weight, values(records, EQUAL_CUT[0])) for weight, records in signed))

    text = "F1+ gains: " + ", ".join(map(plus_minus, gains)) + " (graded, head, everywhere)"
    return ruling(text, beyond_strong(0), beyond_strong(1))


def not_removed(alone, zero, four):
    """Test that neither is above H_s alone by more than 1 point."""
    text = f"u = 0: {gaps_text(zero, alone, 'pxap')}; u = 4: {gaps_text(four, alone, 'pxap')}"
    return ruling(text, *(not_below(alone, other, "pxap") for other in (zero, four)))


def drifts(attached, area, zero):
    """Test that the attached mask is larger; an area missing in a run decides nothing."""
    parts = (mean(r, "midrange_area", nan) for r in (attached, area, zero))
    text = "area {:.1f} %, with an area term {:.1f} %, detached {:.1f} %".format(*parts)
    return ruling(text, *(ahead(attached, o, "midrange_area", nan) for o in (area, zero)))


def all_ones_is_optimal(zero, oracle):
    """Test that All-ones, where X+ = X and X- = 0, has no more H+ + H- than the run's masks."""

    def sums(records, masks):
        pairs = (values(records, f"h_{side}_{masks}", nan) for side in ("plus", "minus"))
        return [a + b for a, b in zip(*pairs, strict=True)]

    def lead(records, own):
        return contrast((1, sums(records, own)), (-1, sums(records, "all")))

    named = (("min-max", zero, "own"), ("true masks", oracle, "true"))
    text = "; ".join(f"{n}: {plus_minus(lead(r, own), 2)}" for n, r, own in named)
    return ruling(
        f"H+ + H- of the masks minus that of All-ones, in nats: {text}", lead(zero, "own")
    )


def of(source: str, *names: str, table=PRINTED) -> tuple[Experiment, ...]:
    """Return experiments by method; u0 and u4 are the min-max ones."""
    pick = {"u0": ("min-max", 0), "u4": ("min-max", 4)}
    return tuple(table[(source, *pick.get(n, (n, 0)))] for n in names)


def on(regime: str, *steps: str) -> tuple[Experiment, ...]:
    """Return steps of the ladder in one regime."""
    return tuple(LADDER[regime, s] for s in steps)


BY = "not in the paper"
CAMS = ("cam-avg", "cam-max", "cam-lse", "wildcat")
A = "higher F1- and PxAP, and F1+ at most 1 point lower, all cut at the midrange"
B = "erasing (u = 4) gives a higher F1+ and an F1- at most 1 point lower"
CLAIMS = (
    claim(
        "minmax-a-printed",
        "GlaS, each method with its own cut: u = 4 has a higher F1- than the CAM methods, and an "
        "F1+ at most 1 point lower",
        "table 2",
        of("glas", "u4", *CAMS),
        fewer_as_printed,
    ),
    claim(
        "minmax-a-cut",
        f"GlaS, u = 4 compared with CAM-Avg and WILDCAT: {A}",
        "section 4",
        of("glas", "u4", "cam-avg", "wildcat"),
        fewer_false_positives,
    ),
    claim(
        "minmax-a-equal",
        f"GlaS, one network and training for all, u = 4 compared with CAM-Avg and WILDCAT: {A}",
        "section 4",
        of("glas", "u4", "cam-avg", "wildcat", table=EQUAL),
        fewer_false_positives,
    ),
    claim(
        "minmax-a-pets",
        f"Pets, u = 4 compared with CAM-Avg and WILDCAT: {A}",
        "section 4, of other data",
        of("pets", "u4", "cam-avg", "wildcat", table=EQUAL),
        fewer_false_positives,
    ),
    claim("minmax-b-glas", f"GlaS, {B}", "table 4", of("glas", "u4", "u0"), erasing_helps),
    claim(
        "minmax-c-glas",
        "GlaS: u = 4 classifies about as well as the best baseline (read as: its error is at most "
        "2.5 points, two images, higher)",
        "table 1",
        of("glas", "u4", *CAMS, "deep-mil"),
        competitive,
    ),
    claim(
        "minmax-d-field",
        "GlaS: the random field raises F1+ + F1- of u = 4, and by more than for the CAM methods",
        "section B.3.3",
        of("glas", "u4", *CAMS),
        field_helps,
    ),
    claim(
        "minmax-e-seconds",
        "erasing increases the training time moderately, read as at most by a factor of 2.5",
        "section B.3.2",
        SECONDS[:1],
        moderate,
    ),
    claim(
        "minmax-zeros",
        "GlaS: u = 4 has a higher F1- than All-zeros",
        "not in the paper",
        (*of("glas", "u4"), TRIVIAL["glas"]),
        beats_zeros,
        Whose.BOOK,
    ),
    *(
        claim(
            f"minmax-a-{regime}",
            f"synthetic glands ({regime}), u = 4 compared with H_s alone and CAM-Avg: {A}",
            BY,
            on(regime, "u4", "alone", "cam-avg"),
            fewer_false_positives,
            Whose.BOOK,
        )
        for regime in ("graded", "head")
    ),
    *(
        claim(
            f"minmax-b-{regime}",
            f"synthetic glands ({regime}): {B} than u = 0, than u = 4 tested with its first mask, "
            "and than u = 4 with H_s divided by the looks",
            BY,
            on(regime, "u4", "u0", "u4-first", "u4-matched"),
            erasing_helps,
            Whose.BOOK,
        )
        for regime in ("graded", "head")
    ),
    *(
        claim(
            f"minmax-cut-{regime}",
            f"synthetic glands ({regime}): with one cut for all, u = 0 loses at least half of its "
            "lead over CAM-Avg in F1-",
            BY,
            on(regime, "u0", "cam-avg"),
            cut_explains,
            Whose.BOOK,
        )
        for regime in ("graded", "head")
    ),
    *(
        claim(
            f"minmax-detached-{regime}",
            f"synthetic glands ({regime}): with a detached mask, u = 0 has the same PxAP as H_s "
            "alone (within 1 point)",
            BY,
            on(regime, "u0", "alone"),
            same_map,
            Whose.BOOK,
        )
        for regime in ("graded", "head")
    ),
    claim(
        "minmax-erasing-where",
        "erasing raises F1+ more where the evidence is graded or small than where it is everywhere",
        BY,
        (*on("graded", "u0", "u4"), *on("head", "u0", "u4"), *on("everywhere", "u0", "u4")),
        gains_ordered,
        Whose.BOOK,
    ),
    claim(
        "minmax-spurious",
        "where the stroma shows the class, the min-max terms do not raise PxAP above that of H_s "
        "alone (read as: by at most 1 point)",
        BY,
        on("spurious", "alone", "u0", "u4"),
        not_removed,
        Whose.BOOK,
    ),
    claim(
        "minmax-drift",
        "with an attached mask and no area term, masks grow larger than with a detached mask",
        BY,
        on("graded", "attached", "attached-area", "u0"),
        drifts,
        Whose.BOOK,
    ),
    claim(
        "minmax-all-ones",
        "H+ + H- of All-ones is at most that of the learnt masks",
        BY,
        on("graded", "u0", "oracle"),
        all_ones_is_optimal,
        Whose.BOOK,
    ),
)
