"""Small worlds of bags for the tests of the estimators."""

import numpy as np


def bags_of_one_class(n_bags, most=6, features=3, seed=0):
    """Return rows, the bag of each, a label 0/1 for each row's bag, and the class of each row.

    A bag of label 1 has a row or two whose first feature is 5 higher.
    """
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, most + 1, n_bags)
    bags = np.repeat(np.arange(n_bags), sizes)
    label = np.arange(n_bags) % 2
    first = np.r_[0, sizes.cumsum()[:-1]]
    hidden = np.zeros(len(bags), int)
    for bag in np.flatnonzero(label):
        hidden[first[bag] : first[bag] + min(sizes[bag], 1 + bag % 2)] = 1
    x = rng.normal(size=(len(bags), features))
    x[:, 0] += 5 * hidden
    return x, bags, label[bags], hidden


def bags_of_several_classes(n_bags, classes=3, seed=0):
    """Return rows, the bag of each, and the class of each row, 0 .. classes (the last is phi)."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 6, n_bags)
    bags = np.repeat(np.arange(n_bags), sizes)
    hidden = rng.integers(0, classes + 1, len(bags))
    centres = 6 * np.eye(classes + 1, classes)
    return centres[hidden] + rng.normal(size=(len(bags), classes)), bags, hidden
