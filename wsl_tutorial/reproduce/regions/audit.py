"""State the audit of Belharbi et al. (2020): what mathematics decides, and programs."""

from ..experiment import Audit, Finding, Sentence

AUDIT = Audit(
    cited="Belharbi et al.",
    chapter=13,
    sentences=(
        Sentence(
            "paper (5)",
            "cross-entropy to the uniform distribution is smallest if the classifier cannot decide",
            True,
            "Eq. (11.2)",
            "test_eq_11_2_is_log_c_and_a_divergence_least_at_uniform",
            equation="11.2",
        ),
        Sentence(
            "section 1",
            "the min-max terms favour models with few false positives",
            False,
            "Eq. (11.4): the mask of all ones, with the most false positives, minimises the loss, "
            "if no image is constant like the remaining image, X- = 0",
            "test_eq_11_4_is_least_for_the_mask_of_all_ones",
            equation="11.4",
        ),
        Sentence(
            "sections 1, A.2",
            "conditional entropy trains a localiser whose mask is detached",
            False,
            "the entropy gives the localiser's head no gradient; layers shared with the "
            "classifier get one through the classifier only",
            "test_detached_c_does_not_move_the_localiser",
        ),
    ),
    findings=(
        Finding(
            "A detached mask",
            "sbelharbi/wsol-min-max-entropy-interpretability, released with the paper",
            "deepmil/models.py",
            "0134bf9",
            "all experiments; the paper says so in A.2",
        ),
        Finding(
            "Maps scaled over the batch",
            "sbelharbi/wsol-min-max-entropy-interpretability, released with the paper",
            "deepmil/models.py",
            "0134bf9",
            "training; a test image is alone in its batch",
        ),
        Finding(
            "A weight without effect",
            "sbelharbi/wsol-min-max-entropy-interpretability, released with the paper",
            "deepmil/decision_pooling.py",
            "e52078a",
            "none for the paper, whose weight is 0",
        ),
        Finding(
            "A threshold below uniform attention",
            "jeromerony/survey_wsl_histology, baselines of Belharbi et al.",
            "localization_mil.py",
            "4f0196c",
            "Deep MIL's masks on GlaS; on the photos too if they were cut by this rule",
        ),
        Finding(
            "No background class",
            "jeromerony/survey_wsl_histology, baselines of Belharbi et al.",
            "localization_mil.py",
            "4f0196c",
            "the masks of CAM and WILDCAT on GlaS; it reads the label of the test image",
        ),
    ),
)
