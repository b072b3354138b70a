"""Learn from bags in a table, by scikit-learn's conventions.

A row of X is an instance. The column `bags` is the bag of each row, and what is observed comes once
a bag, or repeated on each of its rows as in a CSV file. The estimators put scikit-learn's interface
on the likelihoods of `presence` and `counts`:

    model = PresenceClassifier(bags="bag")
    cross_val_score(model, X, y, cv=BagKFold(10, bags="bag"))

Bags are numbered in the order in which they first appear in the rows. `tables` reads the rows and
what is observed of the bags, `batches` pads bags to tensors, `base` has the training and the output
of both estimators, `folds` the cross-validation.
"""

from wsl_tutorial.data.bags import collate

from .counts import CountClassifier
from .folds import BagKFold, bag_scorer
from .presence import PresenceClassifier

__all__ = ["BagKFold", "CountClassifier", "PresenceClassifier", "bag_scorer", "collate"]
