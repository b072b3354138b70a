"""The class of a GlaS image without a network: from its patient, and from its colours."""

import os
from collections.abc import Sequence

import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from torch import Tensor
from torch.nn import functional as F

from ...data import glas

# The results of `measure`, which a test compares where the data are. Rates in %.
MEASURED = {
    "test images of patients with training images": 79.0,
    "error, the more frequent class": 46.25,
    "error, the more frequent class of the patient": 13.75,
    "error, colours of the stroma": 20.0,
    "AUC, colours of the stroma": 88.8,
    "error, colours of the glands": 22.5,
    "AUC, colours of the glands": 90.0,
}


def measure(root: str | os.PathLike | None = None) -> dict[str, float]:
    """Return the numbers of `MEASURED`, computed from the data. Raises what `glas.load` raises.

    All 85 training images are used, the validation images among them.
    """
    train, valid, test = (glas.load(split, root) for split in ("train", "valid", "test"))
    labels = torch.cat([train["labels"], valid["labels"]])
    patients = torch.cat([train["patients"], valid["patients"]])
    right = by_patient(patients, labels, test["patients"]) == test["labels"]
    found = [
        torch.isin(test["patients"], patients).sum().item(),
        100 * (test["labels"] != labels.mode().values).double().mean().item(),
        100 * (~right).double().mean().item(),
    ]
    for inside in (False, True):
        rows = [colours(part["images"], part["masks"], inside) for part in (train, valid, test)]
        found += separated(torch.cat(rows[:2]), labels, rows[2], test["labels"])
    return dict(zip(MEASURED, map(float, found), strict=True))


def by_patient(patients: Tensor, labels: Tensor, asked: Tensor) -> Tensor:
    """Return labels (M,) for patients `asked` (M,): the more frequent one of the patient's images.

    patients, labels (N,): of the training images. In a tie, and for a patient without images, the
    more frequent label of all.
    """
    common, found = labels.mode().values.item(), []
    for patient in asked.tolist():
        counts = labels[patients == patient].bincount(minlength=2)
        tie = counts[0] == counts[1]
        found.append(common if tie else counts.argmax().item())
    return torch.tensor(found)


def colours(images: Sequence[Tensor], masks: Sequence[Tensor], inside: bool) -> Tensor:
    """Return mean and deviation of red, green, blue and of two grey gradients: (N, 10).

    At a quarter of the size, over the squares that lie wholly inside the glands, or outside, with
    the squares around them: a gradient takes the difference of two neighbours.
    """
    rows = []
    for image, mask in zip(images, masks, strict=True):
        small = F.avg_pool2d(image.float(), 4)  # (3, h, w)
        share = F.avg_pool2d(mask[None].float(), 4)[0]  # (h, w)
        slopes = torch.stack(torch.gradient(small.mean(0))).abs()  # (2, h, w)
        other = (share != float(inside)).float()  # (h, w)
        near = F.max_pool2d(other[None], 3, 1, 1)[0] > 0  # the square or one around it
        seen = torch.cat([small, slopes])[:, ~near]  # (5, pixels)
        rows.append(torch.cat([seen.mean(1), seen.std(1)]))
    return torch.stack(rows)


def separated(x: Tensor, y: Tensor, x_test: Tensor, y_test: Tensor) -> tuple[float, float]:
    """Return test error and area under the ROC curve, in %, of a logistic regression.

    x, x_test (N, k), y, y_test (N,).
    """
    mean, sd = x.mean(0), x.std(0)
    model = LogisticRegression(max_iter=2000).fit((x - mean) / sd, y)
    scores = model.decision_function((x_test - mean) / sd)
    error = ((scores > 0) != y_test.numpy()).mean()
    return 100 * float(error), 100 * float(roc_auc_score(y_test, scores))
