# %% tags=["remove-cell", "nbval-ignore-output"]
import importlib.util
import os
import subprocess
import sys

if importlib.util.find_spec("wsl_tutorial") is None:
    home = "wsl-tutorial @ git+https://github.com/weak-supervision/wsl-tutorial"
    spec = os.environ.get("WSL_TUTORIAL_SPEC", home)
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "-q", spec], check=True
    )

# %% [markdown]
# # Regions: the reproduction
#
# After this page you can work out the size of a test set from its error rates, put a confidence
# interval around an error rate, bound numbers that a table leaves out, decide which of two curves a
# printed area belongs to, and fix the rules of a comparison before the training. You need
# [chapter 12](12_regions_erasing.ipynb), and the *verdicts* and *protocols* of
# [chapter 4](04_presence_reproduction.ipynb). The page runs in twenty seconds on one CPU core. It
# trains nothing: all results come from records.
#
# ## Problem
#
# [Belharbi, Rony, Dolz, Ben Ayed, McCaffrey and Granger (2020), *Min-max entropy for weakly
# supervised pointwise localization*](https://arxiv.org/abs/1907.12934), print six tables, and areas
# under curves in a figure. They test on tissue (GlaS), on five and on two hundred species of birds
# (CUB5, CUB), and on flowers (OxF). The table below shows the numbers that the paper's claims rest
# on: the classification error, and the Dice indices (12.4) of region and complement.

# %%
import tempfile
from pathlib import Path

import torch
from scipy.optimize import brentq
from torch.utils.flop_counter import FlopCounterMode

from wsl_tutorial import check, metrics, show, train
from wsl_tutorial.data import cub, glas
from wsl_tutorial.reproduce import records, tables
from wsl_tutorial.reproduce.experiment import changed, settings_of
from wsl_tutorial.reproduce.regions import PAPER, leaks, networks, page
from wsl_tutorial.reproduce.regions.data import batches, parts_of
from wsl_tutorial.reproduce.regions.methods import min_max, model_of

show.style()


# %% tags=["hide-input"]
EXPERIMENTS = {e.name: e for e in PAPER.experiments}
ROWS = page.ROWS  # of the ledger
show.Markdown(page.claimed())

# %% [markdown]
# In the full Table 2, min-max entropy with erasing ($u = 4$) has the highest $F_1^-$ of the methods
# that train without masks, on every data set. Erasing nearly doubles $F_1^+$ on GlaS. Each number
# comes from one run.
#
# ## What is hidden
#
# The table compares the paper with the program that its authors released and, for the baselines,
# with that of their survey ([Rony et al. 2019](https://arxiv.org/abs/1909.03354)). To *cut* a map
# means to turn it into a mask.
#
# | question | the text | the programs |
# |---|---|---|
# | Does the mask carry a gradient? | section 1: the localiser "is driven through" the entropies; appendix A.2: the mask is detached | the mask is detached: no gradient of $H^+$ and $H^-$ reaches the localiser's head |
# | How is a CAM cut? | not stated | where the map of the *true* class exceeds all other class maps; no background map |
# | How is the attention of Deep MIL cut? | not stated | at $1 / (C h w)$ for $C$ classes and $h \times w$ positions, below uniform attention, $1 / (h w)$ |
# | How many images? | 84 for training (GlaS), 111 for testing (CUB5) | 85 and 145 |
#
# The [reproduction page](../book/reproductions-regions.md) lists every difference.
#
# ## Derivation
#
# ### The size of a test set from its error rates
#
# An error rate is $k$ wrong images out of $n$. It is printed with $d$ decimals, and the remaining
# decimals are *cut off* or rounded. If they are cut off, a printed rate $\hat e$, in %, can come
# from each $k$ with
#
# $$ \bigl\lfloor 10^d \cdot 100 \, k / n \bigr\rfloor = 10^d \, \hat e . \tag{13.1} $$
#
# These $k$ lie in an interval of length $n / 10^{d + 2}$. So for $n < 10^{d+2}$ at most one $k$
# fits. With two decimals, only a share of about $n / 10^4$ of all rates is possible. **Assume that
# for a wrong $n$ each printed rate is possible with this probability, independently.** Then a wrong
# $n$ explains $m$ different rates with probability $(n / 10^4)^m$. We test for every $n$ from 50 to
# 400 whether it explains all rates of a column.

# %%
ERRORS = {s: set() for s in page.NAMES}  # the different rates of each data set
for r in ROWS.values():
    if r.measure == "classification error":
        ERRORS[r.data].add(r.value)


# %%
def explains(n, rates, cut):
    return all(metrics.counts_behind(rate, n, cut=cut) for rate in rates)


# %% tags=["hide-input"]
for s in ("GlaS", "CUB5"):
    print(f"{s}, {len(ERRORS[s])} rates, explained by n =")
    for cut, name in ((True, "cut"), (False, "rounded")):
        sizes = [n for n in range(50, 401) if explains(n, ERRORS[s], cut)]
        print(f"  {name:8}{sizes}")
some = sum(bool(metrics.counts_behind(rate, 111)) for rate in ERRORS["CUB5"])
print(f"n = 111, as in the text, explains {some} of the rates of CUB5")

# %% [markdown]
# **CUB5 has 145 test images, or 290, and the decimals are cut off.** The official test set has 145
# images of these five species. Rounding would exclude every size.
#
# ### How much one image weighs
#
# Which true error rates are compatible with $k$ and $n$? Let $p$ be the probability of an error on
# a new image, and $\hat p = k / n$ the observed rate. **Assume that the test images are independent
# draws.** Then $\hat p$ has standard deviation $\sqrt{p (1 - p) / n}$. If we replaced $p$ by
# $\hat p$, as in chapter 4, $k = 0$ would give a standard error of zero. Instead we ask for all $p$
# at most $z$ standard deviations away: $|\hat p - p| \leq z \sqrt{p (1 - p) / n}$. Squared, with
# $w = z^2 / n$, this reads $(1 + w) p^2 - (2 \hat p + w) p + \hat p^2 \leq 0$. The two roots are
# the ends of *Wilson's interval*:
#
# $$ p_\pm = \frac{\hat p + w / 2 \pm \sqrt{w \, \hat p (1 - \hat p) + w^2 / 4}}{1 + w} , \qquad w = z^2 / n . \tag{13.2} $$
#
# For $k = 0$ the interval is $[0, w / (1 + w)]$. For random $k$, with $z = 1.96$ and $n = 80$, the
# interval contains $p$ with probability 95 % on average over $p$, but only 84 % at $p = 0.22$ %.
# The figure shows the intervals of Table 1 on the two small sets. Dotted lines show the error of
# always answering the more frequent class (GlaS) or of guessing (CUB5).

# %% tags=["hide-input"]
TESTED = {"GlaS": glas.SIZES["test"], "CUB5": cub.SIZES["five"]["test"]}
most = leaks.MEASURED["error, the more frequent class"]
CHANCE = {"GlaS": most, "CUB5": 80.0}
counts = {}
for r in ROWS.values():
    if r.table == "Table 1" and r.data in TESTED:
        (k,) = metrics.counts_behind(r.value, TESTED[r.data])
        counts[r.method, r.data] = k

# %% tags=["hide-input"]
fig = page.wilson_intervals(counts, TESTED, CHANCE)
show.figure(
    fig,
    alt="Wilson intervals of seven methods. On GlaS all lie between 0 and 9"
    " percent and overlap; chance is at 46. On CUB5 five methods lie between 6"
    " and 30 percent and four of them overlap widely; CAM-Max and CAM-LSE lie"
    " at 70 and 84, around the chance level of 80.",
)

# %% tags=["hide-input"]
rate = page.printed("Table 3", "min-max u=0", "classification error")["CUB5"]
(zero,) = metrics.counts_behind(rate.value, TESTED["CUB5"])
counts["min-max u=0", "CUB5"] = zero
FOUR_LOOKS = ("min-max u=4", "GlaS"), ("min-max u=4", "CUB5")
for m, s in (*FOUR_LOOKS, ("min-max u=0", "CUB5"), ("Grad-CAM", "CUB5")):
    k, n = counts[m, s], TESTED[s]
    low, high = metrics.wilson_interval(k, n)
    print(f"{s}, {m}: {k} of {n}, {100 * k / n:.1f} % [{low:.1f}, {high:.1f}]")

# %% [markdown]
# On GlaS no method errs on more than two images, and all intervals overlap. On CUB5 the method is
# *one bird* ahead of Grad-CAM. CAM-LSE is at chance level and CAM-Max is little better, so their
# Dice indices describe localisers that have not learnt the class. Erasing reduces the errors on
# CUB5 from 28 birds to 15 (Table 3). Their intervals overlap. Yet if the true error rates were
# equal and the images independent, so large a difference would have a probability of only 3 %
# (normal approximation).
#
# ### The row that is missing
#
# Table 2 contains All-ones but not All-zeros. In an image whose region covers the share $f$,
# All-ones has $F_1^+ = d_1 = 2 f / (1 + f)$ and All-zeros has $F_1^- = d_0 = 2 (1 - f) / (2 - f)$
# ([chapter 12](12_regions_erasing.ipynb)). Insert $f = d_1 / (2 - d_1)$ into $d_0$:
#
# $$ d_0 = \frac{4 \, (1 - d_1)}{4 - 3 \, d_1} . $$
#
# For one image this equation determines the missing row. A table prints means over images with
# different $f$. The second derivative of $d_0$ with respect to $d_1$ is $-24 / (4 - 3 d_1)^3 < 0$,
# so $d_0$ is a **concave** function of $d_1$, from 1 at $d_1 = 0$ to 0 at $d_1 = 1$. By Jensen's
# inequality the mean of $d_0$ is at most its value at the mean $\bar d_1$. A concave function also
# lies above the chord between its ends, here $1 - d_1$, so the mean is at least $1 - \bar d_1$:
#
# $$ 1 - \bar d_1 \; \leq \; \bar d_0 \; \leq \; \frac{4 \, (1 - \bar d_1)}{4 - 3 \, \bar d_1} . \tag{13.3} $$
#
# The table compares the printed $F_1^-$ with the range of All-zeros.

# %% tags=["hide-input"]
show.Markdown(page.zeros_beside_methods())

# %% [markdown]
# On all four sets the printed $F_1^-$ of the full method lies *below the upper bound* for a mask
# that ignores the image. **A large $F_1^-$ is no evidence of few false positives unless All-zeros
# is printed beside it.** What does support the method is that both indices are high at once.
#
# ### Which curve an area belongs to
#
# Fig. 6 of the paper prints areas under precision-recall curves, in one panel for the foreground
# and one for the background. We have the paper as plain text, which gives four areas but not their
# panel. Each cut of a map is one point of its curve, with recall $r$, precision $p$ and F1 score
# $2 r p / (r + p)$. Suppose that no cut has an F1 score above $\varphi$. If $2 r > \varphi$, then
# $p \leq \varphi r / (2 r - \varphi)$; for smaller $r$ every $p$ is allowed. So the bound is a
# horizontal line at 1 up to $r_0 = \varphi / (2 - \varphi)$, then a hyperbola that falls to $r_0$
# at recall 1.
#
# Fig. 6 does not say how a curve continues *between* two points. If it continues as a straight
# line, the area is largest for a curve that is 1 up to $r_0$ and then one straight line to the end
# of the hyperbola: the hyperbola is convex, so the line lies above it. If it has steps, each with
# the precision at its right end as in PxAP and (10.3), the area is at most that of the bound,
# because the bound never rises. The hyperbola has the integral
# $\frac{\varphi}{2} r + \frac{\varphi^2}{4} \log (2 r - \varphi)$. So
#
# $$ \text{area} \leq \tfrac12 + r_0 - \tfrac12 r_0^2 \;\; \text{(lines)} , \qquad \text{area} \leq \varphi + \tfrac12 \varphi^2 \log \bigl( \tfrac{2}{\varphi} - 1 \bigr) \;\; \text{(steps)} . \tag{13.4} $$
#
# The bound for lines is larger, so it holds for both kinds of curve. We set it equal to the printed
# area and call the solution $\varphi_0$: for one image, the *best* cut has at least this F1 score.
# The paper averages curves over images. Let $\varphi$ be the F1 score of an image's best cut. As a
# function of $\varphi$, the bound lies below its tangent at $\varphi_0$ (a folded cell checks one
# area). So the printed area, a mean, is at most the tangent at the mean $\varphi$. The tangent
# rises, and at $\varphi_0$ it equals the printed area. So the mean $\varphi$ is at least
# $\varphi_0$.


# %%
def best_cut(area):
    """Return the F1 score that the best cut has at least, both in %."""
    return brentq(lambda f1: metrics.area_for_f1(f1) - area, 1, 100)


# %% tags=["hide-input"]
at, bound = best_cut(94.2), metrics.area_for_f1
slope = (bound(at + 0.01) - bound(at - 0.01)) / 0.02
for f1 in range(1, 101):
    assert 94.2 + slope * (f1 - at) > bound(f1) - 1e-3

# %% tags=["hide-input"]
show.Markdown(page.areas_beside_cuts(best_cut))

# %% [markdown]
# If these were areas of the foreground, the same maps with better cuts would have a mean $F_1^+$
# above 79 %, but with the paper's cut it is 40 to 53 %. If they are areas of the background, the
# best cuts need an $F_1^-$ above 79 %, and the paper's cuts have 86 to 92 %. So we take them for
# background areas. A *constant* map has one cut, which marks all pixels: recall 1 and, for the
# background, precision $1 - f$, with $f$ the share of the bird. The line to this point from
# precision 1 at recall 0 has the area $1 - f/2$. By Jensen's inequality and the chord, as in
# (13.3), the mean share lies between $\bar d_1 / (2 - \bar d_1)$ and $\bar d_1$, which gives the
# last column. The printed areas, 94.2 to 95.4 %, may be only one or two points larger than that of
# a constant map.
#
# ## Code
#
# ### Eight methods, two comparisons
#
# All methods except U-Net share one training loop and a residual network pretrained on ImageNet.
# *As printed* gives each method the network, augmentation, schedule and cut of its authors; the
# min-max method runs with its own ResNet-101 and with the baselines' ResNet-18. *On equal terms*
# gives every method the settings of the min-max method on GlaS, with ResNet-18. As printed, the
# baselines use each GlaS image 1,280 times in training, the min-max method 400 times.
#
# ### What erasing costs
#
# A training step passes the image $\max(u, 1)$ times through the localiser. It also makes two
# passes through the classifier, on images of half the size, each of which costs a share $\kappa$ of
# a localiser pass. A backward pass costs twice a forward pass in both, so a step with $u$ looks
# costs $R = (u + 2 \kappa) / (1 + 2 \kappa)$ times a step with one look. Parts of an epoch such as
# loading do not depend on $u$. If they take the share $b$ of an epoch with one look, the durations
# of the epochs have the ratio $\rho = (1 - b) R + b$. We solve this for $b$ and insert the printed
# $\rho$. For $\kappa$ we count operations, and we check $R$ on a step of a tiny network.


# %% tags=["hide-input"]
def operations(work):
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


def forward(side, **kind):
    """Return the operations of one pass over an image of side x side pixels."""
    with torch.device("meta"):  # shapes without numbers
        trunk, image = networks.Trunk(**kind), torch.empty(1, 3, side, side)
    return operations(lambda: trunk(image))


# %% tags=["hide-input"]
KIND = ("width", "stages", "blocks", "stride", "pool")


def step(u):
    """Return the operations of a real step of tiny networks, and kappa."""
    config = EXPERIMENTS["minmax/glas-min-max-u4"].settings("smoke")
    small = {"believe": "always", "lazy": False, "width": 8, "erase_from": 0}
    config = changed(config, **small, epochs=1, u=u, size=64, crop=64)
    loader = batches(config, parts_of(config, 0)["train"], 0, "cpu")
    batch = next(iter(loader(1)))
    model = model_of(config, 0, "cpu").train()
    kind = {k: settings_of(config)[k] for k in KIND}
    share = forward(32, **kind) / forward(64, **kind)
    return operations(
        lambda: train.backward(min_max(config, model, batch))
    ), share


# %%
def ratio(kappa, u=4):
    return (u + 2 * kappa) / (1 + 2 * kappa)


(zero, share), (four, _) = step(0), step(4)
print(f"tiny step: counted {four / zero:.2f}, by formula {ratio(share):.2f}")

# %% tags=["hide-input"]
FOUR = EXPERIMENTS["minmax/glas-min-max-u4-resnet101"].config
side, trunk = FOUR.data.crop, FOUR.network.network
R = ratio(forward(side // 2, kind=trunk) / forward(side, kind=trunk))
print(f"{trunk}: R = {R:.2f}")
for r in ROWS.values():
    if r.table == "Table 5" and r.method.startswith("ratio"):
        b = (R - r.value) / (R - 1)
        print(f"{r.data}, printed {r.value}: b = {b:.0%}")

# %% [markdown]
# **If time is proportional to operations**, about half of the paper's epoch with $u = 0$ does not
# depend on $u$. If a batch (eight images) does not fill a GPU, a small image costs nearly as much
# as a large one; then $\kappa$ is closer to 1 and $b$ is smaller. We measured the ratio with our
# recipe (`desk`) and at reduced size (`short`). Under `short`, batch normalisation uses fixed
# statistics. So after a look without trust, later looks change nothing (chapter 12) and can be
# skipped. (A ratio above $R \approx 3$ means that time is not proportional to operations.)

# %% tags=["hide-input"]
HELD = records.published()
show.Markdown(
    "Measured ratio of the durations of an epoch, u = 4 to u = 0:"
    f" {page.ratios(HELD)}."
)

# %% [markdown]
# ## Picture
#
# ### Two worlds in which we know the answer
#
# GlaS cannot decide *why* a method wins, as the next section shows. For that we train on the
# synthetic glands of [chapter 11](11_regions_entropy.ipynb), in two regimes where, as the paper
# assumes, only the glands show the class. In *graded*, some glands show the class better than
# others. In *head*, one small part of the largest gland shows it well, and all other gland tissue
# hardly at all. The figure shows two images of each, with the true outlines.

# %% tags=["hide-input"]
fig = page.two_regimes()
show.figure(
    fig,
    alt="Four grey images of striped tissue with the glands outlined, two of"
    " the regime graded and two of the regime head. In the first two the"
    " stripes of some glands keep one angle to the outline, in the others only"
    " those of one small part do.",
)

# %% [markdown]
# ### How often a second look is trusted
#
# The figure shows the share of training images for which look $t$ was trusted, as a moving average
# over batches. Where the curves start at 0, the localiser trains alone first.

# %% tags=["hide-input"]
fig, named, text = page.trusted_looks(HELD)
show.figure(
    fig,
    alt="Share of looks that are trusted against the epoch, for the looks 0 to"
    f" 3 ({named}). In the last epoch, in percent: {text}",
)

# %% [markdown]
# At the end about half of the second looks, or more, are trusted: far more than in chapter 12.
#
# ## When it breaks
#
# ### GlaS shows the class without the glands
#
# The paper assumes that the class can be recognised from the glands and *not* from the remaining
# tissue (the stroma). To test this, we train two logistic regressions on the 85 training images.
# One sees only squares of 4 x 4 pixels that lie entirely in the stroma, the other only squares in
# the glands. Each reads mean and standard deviation, over the squares, of red, green, blue and the
# change of brightness in two directions. A third rule sees no pixel: it predicts the more frequent
# class of the *patient*. The first row counts images.

# %% tags=["hide-input"]
lines = [(what, f"{value:.4g}") for what, value in leaks.MEASURED.items()]
show.Markdown(
    tables.grid(("GlaS, 80 test images", "images (first row), %"), lines)
)

# %% [markdown]
# Against the paper's assumption, the stroma shows the class about as well as the glands do, through
# stain and texture. Nearly all test images come from patients with training images, so a network
# can find the class by recognising the patient.
#
# ### What the other differences change
#
# The cut of CAM gets the map of the true class even if the prediction is wrong. This cut is one of
# four rules below; the others use the predicted class. Training with $u = 4$ also trains on erased
# images and adds up $H_s$ over the looks. Both may help without changing the mask; L5 and L7 below
# test this.
#
# ## Reproduction
#
# The [reproduction page](../book/reproductions-regions.md) lists every number of Tables 1 to 6 and
# of Fig. 6, and every claim, with verdict and runs. The count (*closed data* are not available to
# us):

# %% tags=["hide-input"]
show.Markdown(tables.tally(list(ROWS.values()), PAPER, HELD))

# %% [markdown]
# ### Tables 1 to 4 on GlaS
#
# Each row shows the strongest evidence that we have, and the number of seeds.

# %% tags=["hide-input"]
show.Markdown(page.glas(HELD))

# %% [markdown]
# In these runs the $F_1^+$ of the full method is far below the printed one and All-ones, and
# erasing does not raise it.
#
# ### The ladder: one change at a time
#
# We train a *ladder* of experiments, from class activation maps to the full method. Network,
# training budget and cut are the same for all. Before the runs we fixed which experiments decide
# which claim. We call a mean over seeds *higher* or *lower* than another if the 95 % interval of
# their difference does not contain 0 ([chapter 4](04_presence_reproduction.ipynb)). L0 are the
# baselines, L1 trains the localiser alone ($H_s$), L2 adds $H^+$, and L3 adds $H^-$. L4 adds
# erasing. Three steps change L4: L5 uses only the mask of the first look, L6 trusts every look (in
# a second variant, those that predict the right class), and L7 divides $H_s$ by the number of
# looks. The last steps do not erase: L8 attaches the mask to the graph, in L9 another network
# learns the class from $X^-$ and the localiser works against it, and in L10 the classifier sees the
# true masks.
#
# The figure shows PxAP and Matthews' correlation of each step, with a dot for each seed. Dotted
# lines mark constant maps: their PxAP is the share of the glands, and their correlation is 0.

# %% tags=["hide-input"]
fig, text = page.ladder_dots(HELD)
show.figure(
    fig,
    alt="PxAP and Matthews' correlation of every step of the ladder in two"
    " regimes, a dot for each seed, with dotted lines for constant maps. Mean"
    f" PxAP in percent: {text}.",
)

# %% [markdown]
# Where the dots of two steps overlap, three seeds show no effect of the change between them. In
# *graded* this is so from L1 to L10; in *head*, Matthews' correlation is lower with erasing (L4)
# than without.
#
# ### Four rules for the cut
#
# We measure the same maps by four rules. *Own* is the paper's rule for each method. *Midrange* cuts
# the map of the predicted class half-way between its smallest and largest value. *Chosen* is one
# threshold for all images, with the largest sum of both indices on validation masks. The fourth,
# *no cut*, is PxAP, which needs no mask. The figure shows the two Dice indices of each method as
# three joined points: a circle with the method's number for its own cut, a square for the midrange,
# a triangle for the chosen threshold. The grey curve shows random masks of every size, in images
# that all have the same share of glands. Empty diamonds are the paper's numbers for GlaS.

# %% tags=["hide-input"]
fig, counted = page.cuts_in_the_plane(HELD)
show.figure(
    fig,
    alt="F1 of the region against F1 of the complement, with a grey curve of"
    " random masks. Left GlaS: empty diamonds for the paper, five of them near"
    " the lower right end of the curve, Deep MIL a little higher, and the full"
    " method outside of it, near 72 and 66. Methods with records, each as three"
    f" joined cuts: {counted}.",
)

# %% [markdown]
# As in chapter 12, only the distance from the grey curve is due to the map.
#
# ### Claims
#
# One seed leaves a claim that depends on chance *undecided*, and runs of reduced size give *no
# verdict* (chapter 4). For training time we accept one seed, so the ratio under `desk` decides this
# claim.

# %%
show.Markdown(tables.claims_tally(PAPER, HELD))

# %% [markdown]
# ### Run it yourself
#
# These commands need a GPU; with `--protocol short` most take minutes on a CPU core. The ladder
# needs no data. GlaS has to be requested: `wsl_tutorial/data/glas.py` says where, and `WSL_DATA`
# names its folder.
#
# ```bash
# run=".venv/bin/python -m wsl_tutorial.reproduce run"
# run="$run --protocol paper --jobs 4 --budget 3300 --out runs"
# $run 'minmax/glas-trivial' 'minmax/graded-trivial'   # seconds, no GPU
# $run 'minmax/graded-*' 'minmax/head-*'               # the ladder
# $run 'minmax/glas-*'                                 # Tables 1 to 6
# $run 'minmax/pets-*'                                 # beyond the paper
# .venv/bin/python -m wsl_tutorial.reproduce table minmax --out runs
# ```
#
# For Colab see [chapter 10](10_patches_reproduction.ipynb). CUB5, CUB and OxF need
# [CUB-200-2011](https://www.vision.caltech.edu/datasets/cub_200_2011/) (1.2 GB) and [Oxford Flowers
# 102](https://www.robots.ox.ac.uk/~vgg/data/flowers/102/) (0.55 GB) with their segmentations. With
# `FULL = True` the cell below trains one seed of the full method on synthetic glands.

# %%
FULL = False
OUT = Path(tempfile.gettempdir()) / "wsl-runs"
NAME = "minmax/graded-u4"
words = [NAME, "--seeds", "0", "--protocol", "paper", "--out", str(OUT)]
if FULL:
    command = [sys.executable, "-m", "wsl_tutorial.reproduce", "run", *words]
    subprocess.run(command, check=True)

# %% tags=["hide-input"]
fresh = records.load(OUT / "records.jsonl") if FULL else []
show.Markdown(page.fresh(NAME, fresh, HELD) if FULL else "Not run.")

# %% [markdown]
# ## Exercises
#
# **1, by hand.** Two methods differ on $m$ of the 80 test images of GlaS, and one of them is right
# on all $m$. If they were equally good, each of these images would be a toss of a fair coin. What
# is the smallest $m$ for which the two-sided probability of such a result is below 5 %, and how
# many percentage points of error is that? Compare with Table 1.


# %%
def images_apart():
    return 2, 2.5  # m, points of error


check.attempt(check.images_apart, images_apart)

# %% [markdown]
# **2, code.** Write (13.1): from a rate in % with two decimals, cut off, and $n$, return the list
# of all $k$.


# %%
def shares_behind(rate, n):
    return [k for k in range(n + 1) if round(100 * k / n, 2) == rate]


check.attempt(check.shares_behind, shares_behind)

# %% [markdown]
# **3, code.** From the mean $F_1^+$ of All-ones in %, return the largest value that the mean
# $F_1^-$ of All-zeros can have, in %.


# %%
def zeros_from_ones(all_ones):
    return 100 - all_ones


check.attempt(check.zeros_from_ones, zeros_from_ones)

# %% [markdown]
# **4, code.** Return the ratio $\rho$ of *What erasing costs*, for `u` looks ($u \geq 1$) against
# one look, from `kappa` and `b`.


# %%
def slower_by(u, kappa, b):
    return (u + 2 * kappa) / (1 + 2 * kappa)


check.attempt(check.slower_by, slower_by)

# %% [markdown]
# **5, change the cut.** Give CAM on GlaS a background: a third class map that is 0 everywhere, with
# arg-max over the three maps. Which bias of the linear layer must be left out, so that the value 0
# has a meaning? With cross-entropy as the only loss, what would teach the two class maps to be
# negative in the stroma? For which of the four rules above does it not matter where 0 lies?
#
# **6, explain to a colleague.** Your colleague reports 0 errors on the 80 test images of GlaS, and
# concludes that the network looks at the glands. Explain in four sentences what (13.2), the
# patients, and the stroma imply, and which split you would ask for.
#
# ## Further reading
#
# - [Belharbi et al. (2020)](https://arxiv.org/abs/1907.12934), section 4 and Appendix B; [Rony
#   et al. (2019)](https://arxiv.org/abs/1909.03354), the survey.
# - [Errata and remarks](../book/errata.md).
# - [Brown, Cai and DasGupta (2001)](https://doi.org/10.1214/ss/1009213286), *Interval estimation
#   for a binomial proportion*: why Wilson's interval.
# - [Boyd et al. (2012)](https://arxiv.org/abs/1206.4667), *Unachievable region in precision-recall
#   space*: a lower bound of the area from the share of positives.
