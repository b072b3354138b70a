#!/usr/bin/env bash
# How exact the tails of scipy.stats.poisson_binom are: the number of positives in a bag.
#
# Guess before the run: pmf, cdf and sf all keep their digits, as those of scipy.stats.binom do.
# Seen with scipy 1.17.1: pmf and cdf do (to ten digits at 7e-57), sf does not. It is
# 1 - cdf, so it cannot be small: for 400 instances with p = 1/2, P(more than 350) comes out as
# 4e-16 instead of 1e-57, and for 2,000 instances P(more than 1,400) is 0 instead of 5e-74. The
# sum of pmf over the upper tail, or cdf for 1 - p, keeps the digits.
# Fails if sf keeps ten digits in one of these tails, or if pmf, cdf or the two other ways lose them.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet scipy==1.17.1 numpy==2.2.6
"$folder/env/bin/python" - <<'PY'
import numpy as np
import scipy
from scipy.stats import binom, poisson_binom

print("scipy", scipy.__version__)
for n, k in ((400, 350), (2000, 1400)):
    bag, same = poisson_binom([0.5] * n), binom(n, 0.5)
    missing = poisson_binom([1 - 0.5] * n)  # the number of negatives
    true = same.sf(k)
    ways = {"sf": bag.sf(k), "sum of pmf": bag.pmf(np.arange(k + 1, n + 1)).sum(),
            "cdf for 1 - p": missing.cdf(n - k - 1)}
    print(f"n = {n}, P(more than {k}): binom {true:.6g};",
          ", ".join(f"{way} {value:.6g}" for way, value in ways.items()))
    low = n - k
    for name in ("pmf", "cdf"):
        ours, theirs = getattr(bag, name)(low), getattr(same, name)(low)
        print(f"    {name}({low}): {ours:.6g}, binom {theirs:.6g}")
        assert np.isclose(ours, theirs, rtol=1e-10, atol=0)
    close = {way: np.isclose(value, true, rtol=1e-10, atol=0) for way, value in ways.items()}
    assert close == {"sf": False, "sum of pmf": True, "cdf for 1 - p": True}, close
PY
