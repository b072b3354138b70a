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
# # Your own bags
#
# After this page you can cross-validate a classifier on bags of your own, correct the likelihood if
# the instances of a bag are nearly copies of each other, and test whether a classifier has learned
# a wrong rule. You need the likelihood of [chapter 1](01_presence_likelihood.ipynb). The page runs
# in about a minute on one CPU core and downloads nothing; the numbers on Musk and Elephant come
# from records.
#
# ## Problem
#
# You have a table. Each row is an instance, one column names its bag, and each bag has one label.
# You have two questions. How good is a classifier on *new bags*? And did it learn the rule that
# you believe in, or something else that happens to separate your bags?

# %%
import json
from collections import defaultdict
from importlib.resources import files
from statistics import mean, stdev

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_score

from wsl_tutorial import check, presence, show
from wsl_tutorial.data import concepts
from wsl_tutorial.estimators import BagKFold, PresenceClassifier
from wsl_tutorial.kernel import Candidate, KernelPresence
from wsl_tutorial.reproduce import tables

show.style()

# %% [markdown]
# The folds of cross-validation must be whole bags. If some instances of a bag are in the training
# set and others in the test set, the classifier can recognise the bag, and its score is too high.
# Each fold also needs both classes, but a file often lists all positive bags first. `BagKFold`
# keeps bags whole, spreads the classes evenly, and can shuffle. For an AUC of bags use
# `scoring=bag_scorer("roc_auc")`, also from `wsl_tutorial.estimators`; the string `"roc_auc"`
# compares single rows instead of bags.
#
# A list of arrays becomes a table with `np.concatenate` and `np.repeat`, as below. Images need a
# network that turns each image, or each of its tiles, into a row.

# %%
rng = np.random.default_rng(0)
ragged = [rng.normal(size=(rng.integers(2, 8), 5)) for _ in range(60)]
labels = np.arange(60) % 2
for bag, label in zip(ragged, labels, strict=True):
    bag[0, 0] += 3 * label  # one instance of a positive bag differs
X = np.concatenate(ragged)
bags = np.repeat(np.arange(60), [len(bag) for bag in ragged])
table = np.column_stack([X, bags])  # column 5 names the bag
model = PresenceClassifier(bags=5, random_state=0)
folds = BagKFold(5, bags=5, shuffle=True, random_state=0)
scores = cross_val_score(model, table, labels[bags], cv=folds)
print(f"accuracy on new bags {scores.mean():.2f}")

# %% [markdown]
# ## What is hidden
#
# The hidden variables are the labels of the instances. By the rule of multiple instances a bag is
# positive if at least one of its instances is. Let $p_j$ be the probability that instance $j$ is
# positive. The bag is negative only if all its instances are, so chapter 1 computes the probability
# of a positive bag as $1 - \prod_j (1 - p_j)$, **assuming that the hidden labels are independent
# given the features**.
#
# Three classic data sets are cited as examples of this rule. In Musk 1 and Musk 2 a bag is a
# molecule, an instance is one of its shapes, and the label says whether the molecule smells of
# musk. In Elephant a bag is an image and an instance is a segment of it. The shapes of a molecule
# are nearly copies of one another, so their hidden labels are not independent: if one shape is
# positive, similar shapes are too. With forty near copies the product makes the probability of a
# positive bag far too large.
#
# ## Derivation
#
# ### Copies
#
# Suppose a bag consists of groups of exact copies, and the copies of a group **share one hidden
# label**. Then the product needs one factor $1 - p$ for each group, not one for each copy. If
# instance $j$ has $m_j$ copies in its bag, itself included, the factor of its group is the product
# of $(1 - p_j)^{1 / m_j}$ over the members. So each instance gets the weight $1 / m_j$.
#
# For near copies we replace the number of copies by a sum of similarities between 0 and 1, here
# those of a Gaussian kernel with width $\sigma$ (for width 0 we take the limit, in which only exact
# copies count):
#
# $$ w_j = \Bigl[ \sum_k \exp \Bigl( - \frac{\lVert x_j - x_k \rVert^2}{2 \sigma^2} \Bigr) \Bigr]^{-1} . \tag{16.1} $$
#
# The sum of the weights is the *effective size* of the bag. It is the number of instances, $n$, if
# they are far apart, the number of groups for groups of exact copies that are far apart, and 1 for
# infinite width. The likelihood is exact if every similarity is 0 (independent labels) or 1 (one
# shared label). In between the weights are a model, not a theorem.

# %%
x = torch.tensor([[[0.0], [0.0], [0.0], [9.0], [9.5]]])
for width in (0.0, 0.5, 3.0, torch.inf):
    w = presence.copy_weights(x, width)[0]
    shown = " ".join(f"{value:.2f}" for value in w.tolist())
    print(f"width {width:4}: weights {shown}, effective size {w.sum():.2f}")

# %% [markdown]
# From here on we call what makes an instance positive a *concept*. With log odds $z_j$ we have
# $-\log (1 - p_j) = \log (1 + e^{z_j})$, the softplus of $z_j$. It is never negative. We call it
# the *evidence* of the instance. The weighted evidence of a bag adds up:
#
# $$ P(\text{the concept occurs}) = 1 - \prod_j (1 - p_j)^{w_j} = 1 - \exp \Bigl( - \sum_j w_j \log (1 + e^{z_j}) \Bigr) . \tag{16.2} $$
#
# If all weights are $1 / n$, the exponent is minus the mean evidence. For a bag of copies this is
# logistic regression on the one instance. Yet mean evidence differs from a mean of logits: **no
# instance can count against the concept**, because evidence is never negative. At worst an instance
# dilutes: if we add one without evidence to a bag of $n$, the weights $1 / n$ become $1 / (n + 1)$,
# which multiplies the mean evidence by $n / (n + 1)$. With the weights (16.1), an added instance
# that is unlike all others leaves their evidence unchanged.
#
# ### Several concepts
#
# Some rules need two things at once: a beach is sand *and* water. Let a bag be positive if all of
# $K$ hidden concepts occur. **We assume that different concepts occur independently given the
# bag.** (For classes that exclude one another in an instance, the product is only an upper bound,
# Eq. (2.5) of chapter 2.) Labels can also be wrong: **a label is flipped with a small probability**
# $\varepsilon$, which limits the loss of one bag. Let $z_{kj}$ be the log odds of concept $k$ in
# instance $j$.
#
# $$ P(y = 1 \mid X) = \varepsilon + (1 - 2 \varepsilon) \prod_{k=1}^{K} \bigl[ 1 - \exp ( - s_k ) \bigr] , \qquad s_k = \sum_j w_j \log (1 + e^{z_{kj}}) . \tag{16.3} $$
#
# We check this against an enumeration of the hidden labels of three instances and two concepts.

# %%
from itertools import product

g = torch.Generator().manual_seed(0)
z = torch.randn(1, 2, 3, generator=g, dtype=torch.float64)
p, total = z.sigmoid()[0], 0.0
for hidden in product([False, True], repeat=6):
    h = torch.tensor(hidden).view(2, 3)
    if h.any(1).all():  # both concepts occur
        total += torch.where(h, p, 1 - p).prod().item()
yes, ones = torch.tensor([True]), torch.ones(1, 3, dtype=torch.float64)
ours = presence.log_likelihood_concepts(z, yes, ones, noise=0.1).exp().item()
print(f"enumerated {0.1 + 0.8 * total:.10f}, ours {ours:.10f}")

# %% [markdown]
# ### A small kernel machine
#
# A hundred bags are few for a network. We make $z$ linear in features of a Gaussian kernel
# $k(x, x') = \exp(-\gamma \lVert x - x' \rVert^2 / D)$ on $D$ features, standardised and clipped at
# $\pm 3$. We choose $m$ training instances $x_1, \ldots, x_m$ as *landmarks*. Their kernel matrix
# has the eigendecomposition $U \Lambda U^\top$. The features are
#
# $$ \phi(x) = \Lambda^{-1/2} U^\top \bigl( k(x, x_1), \ldots, k(x, x_m) \bigr)^\top . \tag{16.4} $$
#
# Then $\phi(x) \cdot \phi(x') = k(x, x')$ on the landmarks (the method of Nyström). The code leaves
# out eigenvalues below $10^{-4}$ of the largest one, so there the equation is approximate. The
# coefficients of $z$ get a squared penalty, because a hundred bags do not determine hundreds of
# coefficients. The penalty shrinks the differences between bags, so the predictions for new bags
# are too cautious: their log odds have the right order but are too small. We correct this after
# training. Let $P$ be the product over concepts in (16.3). We multiply its log odds by a *slope*
# $a$:
#
# $$ P_a = \frac{P^a}{P^a + (1 - P)^a} . \tag{16.5} $$
#
# This is Platt's (1999) calibration without an intercept. $P_a$ increases with $P$, so the slope
# does not change the order in which one model ranks the bags, and still no instance counts against
# a concept. In (16.3) $P_a$ takes the place of $P$. The fit uses the noise $\varepsilon$;
# `predict_proba` returns $P_a$, the probability before a label is flipped.
#
# Five settings remain open: $\gamma$; the width in (16.1), either infinite or the width of this
# kernel, $\sigma^2 = D / (2 \gamma)$; the number of concepts, $K \in \{1, 2\}$; the penalty; and
# the slope, $a \in \{1, 2, 4\}$. We do not choose them by hand: the final prediction is a weighted
# mean over all candidate settings. Within the training bags, each candidate predicts every bag once
# without having seen its label, in four folds. Let $\ell_c$ be the log-likelihood of all these
# predictions. The weight, or *share*, of candidate $c$ is
#
# $$ \omega_c = \frac{e^{\ell_c}}{\sum_{c'} e^{\ell_{c'}}} . \tag{16.6} $$
#
# For candidates that are equally probable beforehand, this would be Bayes' rule if $\ell_c$ were
# the log-likelihood of the candidate with its coefficients integrated out. We use the held-out
# log-likelihood in its place. **Is it safe to rely on validation here?** Validation bags come from
# the same distribution as training bags, so a wrong rule that separates the classes in this
# distribution looks perfect in validation too. The family of models protects us from one kind of
# wrong rule: apart from dilution, none of its members can express "negative because of this
# instance". A wrong rule "positive because of this instance" it can express. That no instance
# counts against the concept is our assumption; it does not come from the data.
#
# ## Code
#
# `KernelPresence` trains all candidates on all folds side by side, as columns of one matrix. A
# `Candidate` has five fields. `scale` is $\gamma$; `copies` is the width in (16.1), "kernel" for
# that of the kernel and "all" for infinite, or "none", which gives every instance the weight 1
# (width 0 if no two instances are equal); `concepts` is $K$; `penalty` is the factor of the squared
# penalty, 0.03 or 0.1; `slope` is $a$. Candidates that differ only in slope share one training.
#
# ### Tests that a wrong rule passes in training
#
# [Raff and Holt (2023)](https://arxiv.org/abs/2310.17867) propose *unit tests* for classifiers of
# bags.
#
# 1. *Single*: positive bags have at least one instance of a concept. Every negative *training* bag
#    also contains a poison, an instance far from all others, so "negative if poison" is a perfect
#    rule in training. In the test set the poison is in the positive bags. A model that learned the
#    rule of multiple instances ignores it.
# 2. *Both*: positive bags contain two concepts, negative bags only one of them. The poison is as in
#    the first test.
# 3. *Frequency*: positive bags contain two concepts. Negative training bags contain one of the two,
#    once or twice; negative test bags contain it about forty times. A model that only adds up
#    evidence takes these test bags for positive.
#
# We run a small version of the first test, with our likelihood and with a logistic regression on
# the means of bags.

# %%
from sklearn.linear_model import LogisticRegression

g = torch.Generator().manual_seed(0)
made = {
    part: concepts.bags("single", part, 100, g) for part in ("train", "test")
}


def bag_means(d):
    sums = torch.zeros(len(d["labels"]), 16).index_add(
        0, d["bags"], d["instances"]
    )
    return sums / torch.bincount(d["bags"])[:, None]


# %%
train = made["train"]
settings = product(("all", "kernel"), (1, 2))
grid = [
    Candidate(scale=3.0, copies=copies, concepts=k, penalty=0.03)
    for copies, k in settings
]
machine = KernelPresence(grid, landmarks=100, steps=80)
machine.fit(train["instances"], train["bags"], train["labels"])
linear = LogisticRegression(max_iter=1000)
linear = linear.fit(bag_means(train), train["labels"])

# %%
for part, d in made.items():
    ours = machine.predict_proba(d["instances"], d["bags"])
    theirs = linear.predict_proba(bag_means(d))[:, 1]
    aucs = [roc_auc_score(d["labels"], q) for q in (ours, theirs)]
    print(f"{part:5s}: AUC ours {aucs[0]:.2f}, bag means {aucs[1]:.2f}")

# %% [markdown]
# The regression on bag means is perfect on the training bags. It orders nearly every pair of a
# positive and a negative test bag wrongly: the model has learned the poison, not the rule.
#
# ## Reproduction
#
# The records behind the next tables are in `wsl_tutorial/results/own-bags.jsonl`;
# `scripts/own_bags.py` makes them, with versions, commit, checksums of the data and run time. All
# random draws are seeded with the number of the repeat, or with those of the repeat and the fold.


# %% tags=["hide-input"]
def records():
    place = files("wsl_tutorial").joinpath("results/own-bags.jsonl")
    found = defaultdict(list)
    for record in map(json.loads, place.read_text("utf-8").splitlines()):
        found[record["kind"], record["name"], record["method"]].append(record)
    return found


# %% tags=["hide-input"]
RECORDS = records()
NAMES = {
    "ours": "ours (16.3), weighted by (16.6)",
    "exact": "independent instances, small network",
    "max": "maximum, small network",
    "mean": "mean, small network",
    "attention": "gated attention, small network",
    "means": "logistic regression on bag means",
    "set kernel": "set kernel, support vector machine",
}


# %% tags=["hide-input"]
def cell(kind, name, method, measures):
    runs = RECORDS.get((kind, name, method), [])
    if not runs:
        return "not run"
    means = [mean(r["measures"][m] for r in runs) for m in measures]
    return " / ".join(f"{v:.1f}" for v in means) + f" ({len(runs)})"


# %% [markdown]
# We compare ours with six methods. *Independent instances* is (16.2) with all weights 1. *Maximum*
# and *mean* pool the logits of a bag. *Gated attention* classifies a weighted mean of hidden
# features, with positive weights that it also learns. The *set kernel* of two bags is the mean of
# the Gaussian kernel over all pairs of their instances, here approximated by the features (16.4)
# and normalised. The first table shows the unit tests: AUC on training and test bags in per cent,
# for 200 training bags and 400 test bags. The number of seeds is in parentheses.

# %% tags=["hide-input"]
AUCS = ("train_auc", "test_auc")
rows = [
    (NAMES[m], *(cell("tests", t, m, AUCS) for t in concepts.TESTS))
    for m in NAMES
]
show.Markdown(tables.grid(("AUC training / test", *concepts.TESTS), rows))

# %% [markdown]
# Look for a drop from training to test. Ours passes all three tests. Bag means, mean pooling,
# attention and the set kernel clearly fail the first test: in each, the poison can lower the score
# of a bag. The set kernel does better on the third test, probably because a kernel can represent
# two narrow concepts by different features. The likelihood with independent instances cannot use
# the poison; in the first test it fits even the training bags badly. It passes the second test by
# counting: a bag with more instances of a concept has more evidence. The third test reveals this,
# because its negative test bags have the higher count. One maximum cannot require two concepts, so
# this network fails the second and the third test.
#
# Now the three data sets. Each repeat has ten folds of whole bags, stratified and shuffled, the
# same for all methods. Scaling, landmarks and settings use the nine training folds. Accuracy is
# over all bags; AUC is the mean over folds.

# %% tags=["hide-input"]
SETS = ("musk1", "musk2", "elephant")
both = ("accuracy", "auc")
rows = [(NAMES[m], *(cell("cv", s, m, both) for s in SETS)) for m in NAMES]
show.Markdown(tables.grid(("accuracy / AUC, per cent (repeats)", *SETS), rows))

# %% [markdown]
# How much of a gap is luck? Musk 1 has 92 bags, so one bag is more than one point of accuracy. We
# look at differences within a repeat.


# %% tags=["hide-input"]
def gap(name, other, measure):
    ours, theirs = (
        {r["repeat"]: r["measures"][measure] for r in RECORDS["cv", name, m]}
        for m in ("ours", other)
    )
    d = [ours[k] - theirs[k] for k in sorted(ours.keys() & theirs.keys())]
    if len(d) < 2:
        return f"{d[0]:+.1f}" if d else "not run"
    return f"{mean(d):+.1f} ± {stdev(d):.1f}"


# %% tags=["hide-input"]
others = [m for m in NAMES if m != "ours"]
rows = [
    (NAMES[m], *(f"{gap(s, m, 'accuracy')}, {gap(s, m, 'auc')}" for s in SETS))
    for m in others
]
head = "accuracy, AUC of ours minus those of"
show.Markdown(tables.grid((head, *SETS), rows))

# %% [markdown]
# The ± is the standard deviation over repeats. All repeats use the same bags, so it shows the
# effect of the folds, not of a new set of molecules.
#
# **Ours is level with the best methods.** We call a gap a finding if it is larger than its ±. Then
# one method beats ours once: the set kernel in AUC on Musk 2, by hardly more than the ±. On Musk 1
# ours has the higher AUC, as narrowly compared with mean pooling and the set kernel. Otherwise these
# three are level. Independent instances and the maximum are behind in both measures on all three
# sets, attention in AUC. (The features of the independent likelihood differ from ours, so copies
# alone do not explain its gap.) Mean pooling and the set kernel fail the first unit test. Whether
# that matters depends on your bags, and no score of a cross-validation can show it.
#
# The last table is about the settings. For each setting it adds up the shares (16.6) of all
# candidates with the same value, averaged over folds and repeats, and shows the value with the
# largest sum.


# %% tags=["hide-input"]
def mean_shares(kind, name):
    runs, total = RECORDS.get((kind, name, "ours"), []), defaultdict(float)
    for r in runs:
        for key, share in r["shares"].items():
            for setting in key.split(", "):
                total[setting] += share / len(runs)
    return total


# %% tags=["hide-input"]
SETTINGS = ("scale", "copies", "concepts", "penalty", "slope")
PLACES = [("cv", s) for s in SETS] + [("tests", t) for t in concepts.TESTS]
rows = []
for kind, name in PLACES:
    total, row = mean_shares(kind, name), [name]
    for field in SETTINGS:
        value = max((k for k in total if k.startswith(field)), key=total.get)
        row.append(f"{value.split()[1]} ({total[value]:.2f})")
    rows.append(row)
show.Markdown(tables.grid(("value (sum of shares)", *SETTINGS), rows))

# %% [markdown]
# On both Musk sets infinite width ("all") has most of the share: all shapes of a molecule count as
# copies. On Elephant and in the unit tests the width of the kernel has it. The tests with two
# concepts get two. In *single*, where one concept is true, two get more than half: both can learn
# the same one.
#
# ## When it breaks
#
# - **The rule is false for your bags.** If some instances do count against a class, a family that
#   cannot express this loses accuracy, and a set kernel may be better. Decide what you believe
#   *before* you look at the scores.
# - **Near copies have different labels.** With the weights (16.1) a positive instance among many
#   similar negative ones gets a small weight. If you search for one rare cell among many similar
#   cells, use width 0.
# - **Dilution.** With infinite width, almost nothing remains of the evidence of one positive
#   instance among a thousand irrelevant ones.
# - **The limits of the records.** We first developed the method on other folds of Musk 1 and
#   Elephant. The third kernel scale, 10, was added after a first trial of the unit tests, in which
#   two narrow concepts were too close for the other two scales. For the set kernel we tried two
#   penalties on other folds and kept the better one; each network has one setting, which we did not
#   tune. The slopes and the second penalty came after a first record: on other folds of Musk and
#   two more sets of images, Tiger and Fox, left-out predictions were too cautious. They raised our
#   scores on both Musk sets and lowered them a little on Elephant. Published figures differ in
#   folds and in tuning, so compare within the tables.
#
# ## Exercises
#
# **1, by hand.** A bag contains three copies of an instance with $p = 1/2$. Give the probability of
# a positive bag if the three are independent, the probability of a positive bag if they share one
# label, and the effective size in the second case. The attempt treats the copies as independent in
# both cases.


# %%
def three_copies():
    return 1 - 0.5**3, 1 - 0.5**3, 3


check.attempt(check.three_copies, three_copies)

# %% [markdown]
# **2, code.** Compute the logarithm of (16.2) from `logits` `(B, n)` and `weights` `(B, n)`,
# accurately also for logits of -60.


# %%
def log_occurs(logits, weights):
    missing = (1 - logits.sigmoid()).prod(1)
    return (1 - missing).log()


check.attempt(check.log_occurs, log_occurs)

# %% [markdown]
# **3, by hand.** Show that mean pooling of logits can express "negative if poison" and (16.2)
# cannot. Which quantity can be negative in mean pooling but not in (16.2)?
#
# **4, by hand.** A bag has two instances with $p = 0.9$ and 98 with $p = 0$. Give the probability
# of a positive bag with the weights 1 and with the weights $1 / 100$. Which one do you want for a
# slide with one tumour, and which one for a molecule?
#
# **5, code.** Write a fourth unit test: a training set in which both the *size* of the bag and the
# rule separate the classes, and a test set in which only the rule does. Run `KernelPresence` with
# width 0 and with infinite width on it.
#
# **6, explain to a colleague.** Your colleague's attention model has a validation AUC of 0.99 and
# yours 0.93. In three sentences, tell her which experiment you would run before her model is used.
#
# ## Further reading
#
# - [Raff and Holt (2023)](https://arxiv.org/abs/2310.17867), *Reproducibility in multiple instance
#   learning: a case for algorithmic unit tests*.
# - Dietterich, Lathrop and Lozano-Pérez (1997), *Solving the multiple instance problem with
#   axis-parallel rectangles*: the source of Musk.
# - Andrews, Tsochantaridis and Hofmann (2002), *Support vector machines for multiple-instance
#   learning*: the source of Elephant.
# - Platt (1999), *Probabilistic outputs for support vector machines*: the calibration in (16.5).
# - Gärtner, Flach, Kowalczyk and Smola (2002), *Multi-instance kernels*: the set kernel.
# - Leinster and Cobbold (2012), *Measuring diversity: the importance of species similarity*: the
#   sums in (16.1).
