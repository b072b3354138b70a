"""State the audit of Baručić & Kybic (2022): what mathematics decides, and programs."""

from ..experiment import Audit, Finding, Sentence

AUDIT = Audit(
    cited="Baručić & Kybic",
    chapter=7,
    sentences=(
        Sentence(
            "paper (10)",
            "the weights of the E-step are the posteriors of the instances given the count",
            True,
            "Eq. (5.2): they are shares of the configurations with this count",
            "test_eq_5_2_is_the_share_of_configurations_with_the_instance",
            equation="5.2",
        ),
        Sentence(
            "section 1.2",
            "the paper looks at bags of fewer than 10 to 20 instances; its sum is exact for any "
            "size",
            None,
            "Eq. (5.3): a scope is no claim; n y steps instead of C(n, y) configurations widen it",
            "test_eq_5_3_is_the_binomial_for_equal_instances_at_any_size",
            equation="5.3",
        ),
    ),
    findings=(
        Finding(
            "Nothing divided by nothing",
            "barucden/mlellp, released with the paper",
            "em.py",
            "e7c1641",
            "eight or more positives in a bag, all thought impossible",
        ),
        Finding(
            "Every configuration, one by one",
            "barucden/mlellp, released with the paper",
            "em.py",
            "e7c1641",
            "time and memory from twenty instances on; the numbers are right",
        ),
        Finding(
            "So many or fewer",
            "UCLA-StarAI/CountLoss, of Shukla et al. (2023)",
            "LLP/utils/log_space_algo.py",
            "afde1e0",
            "`prob_x_equals_k_final`, which its training calls; `ret_entire_tensor_k`, in log "
            "space too, and the linear form begin right",
        ),
        Finding(
            "The last positive",
            "Hhhhhhao/General-Framework-Weak-Supervision, of Chen et al. (2024)",
            "src/core/nfa.py",
            "4167850",
            "targets of EM for counts other than 0 and n",
        ),
        Finding(
            "The mean of logarithms",
            "gaabrielfranco/llp-learn, a library",
            "src/llp_learn/dllp/_classes.py",
            "9ee832d",
            "a baseline by the name of DLLP",
        ),
    ),
)
