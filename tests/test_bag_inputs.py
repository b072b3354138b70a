"""Presence, counts and their kin for every dtype, NaN, infinity, nothing, and in torch's modes."""

import inspect

import input_walks
import pytest
import torch
from input_walks import Case

from wsl_tutorial import counts, finite_automaton, presence, toy, worth


def normal(*shape):
    generator = torch.Generator().manual_seed(len(shape))
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


LOG_P = normal(2, 4, 5).log_softmax(1)
LABELS = torch.tensor([[True, True, False], [False, True, False]])
MASK = torch.tensor([[True, True, True, True, False], [True] * 5])
NOISE = {"labels": LABELS, "false_positive": 0.1, "false_negative": 0.2}
ONE = torch.tensor([1, 1])
BINARY = {"counts": ONE, "mask": MASK}
BY_CLASS = {"log_p": normal(2, 4, 3).log_softmax(2)}
THREE = {"counts": torch.ones(2, 3, dtype=torch.int64), "mask": ~torch.eye(2, 4).bool()}
MASKED = {"mask": THREE["mask"]}
CELLS = {"log_p": normal(2, 4, 2, 2).log_softmax(1)}
PAIR, PLACES = torch.tensor([[1, 0], [1, 1]]), torch.tensor([[0, 1], [1, 0]])
POINTS = {"log_p": normal(2, 3, 4).log_softmax(2)}
SEEN = {"observe": toy.counts, "observed": torch.tensor([[1, 1, 1, 0], [0, 1, 1, 1]])}
CONCEPTS = {"logits": normal(2, 2, 5), "weights": normal(2, 5).sigmoid()}
MACHINE = {
    "transition": finite_automaton.counts(5),
    "accept": torch.arange(6) == ONE[:, None],
    "mask": MASK,
}
torch.manual_seed(0)
MODEL = torch.nn.Conv2d(1, 3, 2).double().requires_grad_(False)


def presence_case(function, **rest):
    return Case(function, {"log_p": LOG_P}, {**rest, "mask": MASK}, {"log_p": 1})


def counts_case(function, **rest):
    return Case(function, {"logits": normal(2, 5)}, rest)


CASES = {
    "presence.log_likelihood": presence_case(presence.log_likelihood, labels=LABELS),
    "presence.posterior": presence_case(presence.posterior, labels=LABELS),
    "presence.recursion": presence_case(presence.recursion, labels=LABELS),
    "presence.log_alpha": presence_case(
        presence.log_alpha, members=torch.tensor([[True, False, True, True]] * 2)
    ),
    "presence.alternating_series": presence_case(presence.alternating_series, labels=LABELS),
    "presence.beta_recursion": presence_case(presence.beta_recursion, labels=LABELS),
    "presence.bounds": presence_case(presence.bounds, labels=LABELS, order=1),
    "presence.bracket": presence_case(presence.bracket, labels=LABELS),
    "presence.max_pooling_loss": Case(
        presence.max_pooling_loss, {"log_p": LOG_P}, {"labels": LABELS}
    ),
    "presence.log_alpha_scores": presence_case(presence.log_alpha_scores),
    "presence.mean_scores": presence_case(presence.mean_scores),
    "presence.noisy_or": presence_case(presence.noisy_or),
    "presence.max_pooling": presence_case(presence.max_pooling),
    "presence.mean_pooling": presence_case(presence.mean_pooling),
    "presence.marginals": presence_case(presence.marginals),
    "presence.log_marginals": presence_case(presence.log_marginals),
    "presence.most_probable_set": Case(
        presence.most_probable_set, {"log_p": LOG_P}, {"mask": MASK}, {"log_p": 1}, derivative=False
    ),
    "presence.log_likelihood_noisy": presence_case(presence.log_likelihood_noisy, **NOISE),
    "presence.posterior_noisy": presence_case(presence.posterior_noisy, **NOISE),
    "presence.input_gradient": Case(
        presence.input_gradient,
        {"images": normal(2, 1, 3, 3)},
        {"model": MODEL, "label": 1, "position": (0, 1)},
        derivative=False,
    ),
    "counts.log_likelihood": counts_case(counts.log_likelihood, **BINARY),
    "counts.posterior": counts_case(counts.posterior, **BINARY),
    "counts.enumeration": counts_case(counts.enumeration, **BINARY),
    "counts.map_configuration": Case(
        counts.map_configuration, {"logits": normal(2, 5)}, BINARY, derivative=False
    ),
    "counts.log_distribution": counts_case(counts.log_distribution, mask=MASK),
    "counts.log_likelihood_noisy": Case(
        counts.log_likelihood_noisy,
        {"logits": normal(2, 5), "log_noise": normal(2, 6).log_softmax(1)},
        {"mask": MASK},
        half=False,  # of one dtype both
    ),
    "counts.log_likelihood_interval": counts_case(
        counts.log_likelihood_interval, low=torch.tensor([0, 1]), high=ONE, mask=MASK
    ),
    "counts.proportion_loss": counts_case(counts.proportion_loss, **BINARY),
    "counts.normal_approximation": counts_case(counts.normal_approximation, **BINARY),
    "counts.log_likelihood_multiclass": Case(
        counts.log_likelihood_multiclass, BY_CLASS, THREE, {"log_p": 2}
    ),
    "counts.posterior_multiclass": Case(counts.posterior_multiclass, BY_CLASS, THREE, {"log_p": 2}),
    "counts.map_configuration_multiclass": Case(
        counts.map_configuration_multiclass, BY_CLASS, THREE, {"log_p": 2}, derivative=False
    ),
    "counts.log_likelihood_noisy_multiclass": Case(
        counts.log_likelihood_noisy_multiclass,
        {**BY_CLASS, "log_confusion": normal(2, 3, 3).log_softmax(2)},
        THREE,
        {"log_p": 2, "log_confusion": 2},
        half=False,  # of a confusion
    ),
    "counts.log_likelihood_interval_multiclass": Case(
        counts.log_likelihood_interval_multiclass,
        BY_CLASS,
        {"low": torch.tensor([[0, 1, 0], [1, 0, 0]]), "high": THREE["counts"], **MASKED},
        {"log_p": 2},
    ),
    "counts.proportion_loss_multiclass": Case(
        counts.proportion_loss_multiclass, BY_CLASS, THREE, {"log_p": 2}
    ),
    "counts.normal_approximation_multiclass": Case(
        counts.normal_approximation_multiclass, BY_CLASS, THREE, {"log_p": 2}
    ),
    "counts.counts_from_proportions": Case(
        counts.counts_from_proportions,
        {"p": torch.tensor([[0.0, 1.0], [1.0, 0.0]], dtype=torch.float64)},
        {"n": ONE},
        derivative=False,
        half=False,
    ),
    "worth.log_likelihood_class": Case(
        worth.log_likelihood_class, CELLS, {"largest": torch.tensor([1, 0])}, {"log_p": 1}
    ),
    "worth.log_likelihood_counts": Case(
        worth.log_likelihood_counts, CELLS, {"classes": PAIR}, {"log_p": 1}
    ),
    "worth.log_likelihood_places": Case(
        worth.log_likelihood_places, CELLS, {"cells": PLACES}, {"log_p": 1}
    ),
    "worth.log_likelihood_full": Case(
        worth.log_likelihood_full, CELLS, {"cells": PLACES, "classes": PAIR}, {"log_p": 1}
    ),
    "toy.log_marginal": Case(toy.log_marginal, POINTS, SEEN, {"log_p": 2}, half=False),
    "toy.posterior": Case(toy.posterior, POINTS, SEEN, {"log_p": 2}, half=False),
    "toy.fisher_gradient": Case(toy.fisher_gradient, POINTS, SEEN, {"log_p": 2}, half=False),
    "finite_automaton.log_marginal": Case(
        finite_automaton.log_marginal,
        {"log_p": normal(2, 5, 2).log_softmax(2)},
        MACHINE,
        {"log_p": 2},
        half=False,
    ),
    "finite_automaton.posterior": Case(
        finite_automaton.posterior,
        {"log_p": normal(2, 5, 2).log_softmax(2)},
        MACHINE,
        {"log_p": 2},
        half=False,
    ),
    "presence.copy_weights": Case(
        presence.copy_weights, {"x": normal(2, 5, 3)}, {"width": 1.5, "mask": MASK}
    ),
    "presence.log_occurrence": Case(presence.log_occurrence, CONCEPTS),
    "presence.log_likelihood_concepts": Case(
        presence.log_likelihood_concepts, CONCEPTS, {"labels": torch.tensor([True, False])}
    ),
}
OWN = [name for name in CASES if name != "presence.input_gradient"]  # there the model decides
NO_FLOATS = {
    "presence.at_least",
    *("toy.world", "toy.presence", "toy.counts", "toy.patches", "toy.regions", "toy.labellings"),
    *("finite_automaton.presence", "finite_automaton.counts"),
    *(f"worth.{name}" for name in ("observe", "entropy", "class_law", "presence_law")),
    *(f"worth.{name}" for name in ("counts_law", "choices", "places_bits", "bits", "acts")),
    *("worth.effort", "worth.images_needed", "worth.worth"),
}


def test_the_walks_miss_no_public_function():
    public = {
        f"{module.__name__.rpartition('.')[2]}.{name}"
        for module in (presence, counts, worth, toy, finite_automaton)
        for name, function in vars(module).items()
        if inspect.isfunction(function) and not name.startswith("_")
        if function.__module__.startswith(module.__name__)
    }
    assert public == set(CASES) | NO_FLOATS


@pytest.mark.parametrize("name", OWN)
def test_every_dtype_gives_the_same_answer_or_is_refused(name):
    input_walks.walk_dtypes(CASES[name])


@pytest.mark.parametrize("name", CASES)
def test_nan_is_never_a_plausible_number(name):
    input_walks.walk_nan(CASES[name])


@pytest.mark.parametrize("name", OWN)
def test_infinity_is_the_limit_of_large_numbers_and_no_derivative_is_nan(name):
    input_walks.walk_infinity(CASES[name])


@pytest.mark.parametrize("name", OWN)
def test_nothing_is_no_bag_or_refused(name):
    input_walks.walk_nothing(CASES[name])


@pytest.mark.parametrize("name", OWN)
@pytest.mark.parametrize("change", [torch.Tensor.tolist, torch.Tensor.numpy, torch.Tensor.float])
def test_what_is_no_tensor_or_of_another_dtype_is_refused_with_a_remedy(name, change):
    rest = {"mask", "labels", "counts", "low", "high", "multiplicity", "members"}
    for argument, x in CASES[name].tensors().items():
        if argument in rest or (argument in ("log_p", "logits") and change != torch.Tensor.float):
            with pytest.raises(ValueError, match=rf"^{argument} must be .*, got .*; .*{argument}"):
                CASES[name](**{argument: change(x)})


TABLE = input_walks.table("Presence and counts")


@pytest.mark.parametrize("name", CASES)
def test_the_table_of_modes_says_what_the_walk_finds(name):
    assert input_walks.walk_modes(CASES[name]) == TABLE[name]


def test_the_table_of_modes_has_a_row_for_every_walk():
    assert list(TABLE) == list(CASES)
