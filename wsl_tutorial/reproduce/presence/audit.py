"""List what mathematics decides about Li (2018), and findings in public programs."""

from ..experiment import Audit, Finding, Sentence

AUDIT = Audit(
    cited="Li",
    chapter=4,
    sentences=(
        Sentence(
            "Proposition 1",
            "an alternating sum over subsets is the probability of a label set",
            True,
            "Eq. (1.2): it equals the sum over all labellings with exactly these labels",
            "test_eq_1_2_is_the_sum_over_grids",
            equation="1.2",
        ),
        Sentence(
            "paper (9)-(11)",
            "the recursion by subtraction gives the same probability",
            True,
            "Eq. (1.3): it agrees with the series; the probabilities of all label sets sum to 1",
            "test_eq_1_3_gives_what_the_series_gives_and_sums_to_one",
            equation="1.3",
        ),
        Sentence(
            "section 3.2",
            "in general, the truncated series gives neither an upper nor a lower bound",
            True,
            "cut inside a size, it may be too large or too small; Eq. (2.4): from the full set on "
            "and cut after all subsets of a size, it is an upper and a lower bound in turn",
            "test_a_series_cut_inside_a_size_lies_on_either_side",
        ),
        Sentence(
            "paper (13), (14)",
            "the mean probability approximates the exact decision",
            True,
            "Eq. (3.3): it is the first-order term of (3.2) for weak evidence",
            "test_eq_3_3_is_the_first_order_of_eq_3_2",
            equation="3.3",
        ),
    ),
    findings=(
        Finding(
            "A sum with the wrong sign",
            "lixilinx/MCMIL, released with the paper",
            "utilities.py",
            "a5d8148",
            "weak evidence in float32; the experiments on CIFAR-10 and SVHN use float64",
        ),
        Finding(
            "A maximum normalised over the batch",
            "lixilinx/MCMIL, released with the paper",
            "TraditionalMIL_ExtendedMNISTExperiment.py",
            "21ee5e7",
            "the baseline of supplementary A",
        ),
    ),
)
