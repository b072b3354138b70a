"""List what mathematics decides about Baručić & Kybic (2022), and findings in programs."""

from ..experiment import Audit, Finding, Sentence

AUDIT = Audit(
    cited="Baručić & Kybic",
    chapter=7,
    sentences=(
        Sentence(
            "paper (10), below (11)",
            "the weights of the E-step are the posteriors of the instances given the count",
            True,
            "Eq. (5.2): each is the share, by probability, of the configurations with this count "
            "in which the instance is positive",
            "test_eq_5_2_is_the_share_of_configurations_with_the_instance",
            equation="5.2",
        ),
        Sentence(
            "section 1.2",
            "the paper restricts itself to bags of fewer than 10 to 20 instances, but its sum over "
            "the configurations is exact for any size",
            None,
            "the paper claims nothing about larger bags; Eq. (5.3) computes the sum in n y steps",
            "test_eq_5_3_is_the_binomial_for_equal_instances_at_any_size",
            equation="5.3",
        ),
    ),
    findings=(
        Finding(
            "Zero divided by zero",
            "barucden/mlellp, released with the paper",
            "em.py",
            "e7c1641",
            "bags whose counts make at least eight nearly certain predictions wrong",
        ),
        Finding(
            "A list of all configurations",
            "barucden/mlellp, released with the paper",
            "em.py",
            "e7c1641",
            "time and memory for bags of twenty or more instances; the results are right",
        ),
        Finding(
            "At most k instead of exactly k",
            "UCLA-StarAI/CountLoss, of Shukla et al. (2023)",
            "LLP/utils/log_space_algo.py",
            "afde1e0",
            "`prob_x_equals_k_final`, which its training calls; `ret_entire_tensor_k`, also in log "
            "space, and the linear form start right",
        ),
        Finding(
            "A wrong factor for the last positive",
            "Hhhhhhao/General-Framework-Weak-Supervision, of Chen et al. (2024)",
            "src/core/nfa.py",
            "4167850",
            "the targets of EM, for counts other than 0 and n",
        ),
        Finding(
            "The mean of logarithms",
            "gaabrielfranco/llp-learn, a library",
            "src/llp_learn/dllp/_classes.py",
            "9ee832d",
            "a baseline that is called DLLP",
        ),
    ),
)
