#!/usr/bin/env bash
# The AUC of bag logits in torchmetrics, updated with one bag a step, as loops over bags do.
#
# Guess before the run: the AUC depends on the order of the logits alone, so the sizes of the batches
# do not matter.
# Seen with torchmetrics 1.9.0: each call of update decides by itself whether its values are logits:
# one value outside [0, 1] is, and gets the logistic function; a value inside is taken for a
# probability and stays. With one bag a step, a logit of 0.9 stays 0.9 and a logit of 1.5 becomes
# 0.82, so their order turns round: an AUC of 1 in one batch is 0 one by one, without a warning. Drawn
# logits lose some hundredths, and average precision changes too. The logistic function before update
# gives one answer.
# Fails if an AUC no longer depends on the batches.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet torch==2.15.0 torchmetrics==1.9.0 scikit-learn==1.9.1
OMP_NUM_THREADS=1 "$folder/env/bin/python" - <<'PY'
import torch
import torchmetrics
from sklearn.metrics import average_precision_score, roc_auc_score
from torchmetrics.classification import BinaryAUROC, BinaryAveragePrecision

print("torchmetrics", torchmetrics.__version__)


def batched(metric, scores, labels, size):
    for part, own in zip(scores.split(size), labels.split(size)):
        metric.update(part, own)
    return metric.compute().item()


labels = torch.arange(20) % 2
ordered = torch.where(labels == 1, torch.linspace(1.1, 2, 20), torch.linspace(0.9, 1, 20))
torch.manual_seed(0)
many = torch.arange(200) % 2
drawn = torch.randn(200) * 2 + many
for name, scores, truth in (("ordered", ordered, labels), ("drawn", drawn, many)):
    for metric, oracle in ((BinaryAUROC, roc_auc_score), (BinaryAveragePrecision, average_precision_score)):
        found = [batched(metric(), scores, truth, size) for size in (len(scores), 1)]
        safe = batched(metric(), scores.sigmoid(), truth, 1)
        print(f"{name}: {metric.__name__} in one batch {found[0]:.3f}, one by one {found[1]:.3f}")
        assert abs(found[0] - oracle(truth, scores)) < 1e-5
        assert abs(safe - found[0]) < 1e-5
        assert abs(found[1] - found[0]) > 0.005
perfect, turned = (batched(BinaryAUROC(), ordered, labels, size) for size in (20, 1))
assert perfect == 1 and turned == 0
PY
