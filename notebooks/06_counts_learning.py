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
# # Counts: learning from numbers
#
# After this page you can train a classifier of single instances from counts in three ways: with the
# likelihood, with EM and with the loss DLLP. You can explain why the first two are one algorithm,
# derive why the gradient of DLLP vanishes when the expected count is right, and compute how the
# likelihood's push on single instances shrinks as bags grow. You need
# [chapter 5](05_counts_likelihood.ipynb) and second derivatives. The page runs in half a minute on
# one CPU core and needs no GPU.
#
# ## Problem
#
# [Baručić and Kybic (2022)](https://arxiv.org/abs/2110.03426) train by EM: an E-step computes soft
# targets for all instances, then one epoch of cross-entropy follows. They make two claims: EM is as
# accurate as *DLLP* (deep learning from label proportions), a loss that compares proportions, and
# it reaches the final accuracy "in about half the number of epochs". This page looks for a reason
# why EM could be faster; [chapter 7](07_counts_reproduction.ipynb) tests the claims.

# %%
from itertools import product

import matplotlib.pyplot as plt
import torch
from torch.nn import functional as F

from wsl_tutorial import check, counts, show, train
from wsl_tutorial.data import digits

show.style()

# %% [markdown]
# ## What is hidden
#
# We take the 8 x 8 handwritten digits and one yes-no question: is the digit 5 or greater? A bag is
# a few images, and we keep only the number of images for which the answer is yes. We deal the 1,297
# training images into bags of 2 to 12, the sizes of the paper's CIFAR experiment. To put bags of
# unequal size into one batch, we pad the short ones; a `mask` marks the real entries.

# %%
images, classes = digits.load("train")  # (1297, 1, 8, 8), (1297,)
test_images, test_classes = digits.load("test")
positive = classes >= 5  # (1297,): only supervised learning sees it


# %%
def deal(low, high, seed):
    """Deal bags of low to high images: indices (B, high), mask (B, high)."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(images), generator=generator)
    enough = (len(images),)
    sizes = torch.randint(low, high + 1, enough, generator=generator)
    last = int((sizes.cumsum(0) <= len(images)).sum())
    parts = order[: sizes[:last].sum()].split(sizes[:last].tolist())
    pad = torch.nn.utils.rnn.pad_sequence
    index = pad(parts, batch_first=True, padding_value=-1)
    return index.clamp_min(0), index >= 0


# %%
index, mask = deal(2, 12, seed=0)
y = (positive[index] & mask).sum(1)  # (B,): all that remains of the labels
print(f"{len(y)} bags of {mask.sum(1).double().mean():.1f} images;", end=" ")
print(f"first counts {y[:8].tolist()}")

# %% [markdown]
# The figure shows what the learner gets: images in groups, and a number for each group.

# %% tags=["hide-input"]
fig, axes = plt.subplots(4, 12, figsize=(7.2, 2.5))
for row, members, real in zip(axes, index, mask, strict=False):
    for axis, i, ok in zip(row, members, real, strict=True):
        axis.set_axis_off()
        if ok:
            axis.imshow(images[i, 0], cmap="gray_r")
centred = {"ha": "center", "va": "center", "size": 13, "weight": "bold"}
for row, count in zip(axes, y.tolist(), strict=False):
    row[0].text(-4, 4, count, **centred)
show.figure(
    fig,
    alt="Four rows of small handwritten digits, each row a bag of two to"
    " twelve images, with one bold number before it: how many digits in the"
    " row are 5 or greater.",
)

# %% [markdown]
# ## Derivation
#
# ### Proportions: DLLP
#
# We keep the notation of chapter 5. Instance $i$ has the hidden label $h_i$, the logit $z_i$ and the
# probability $\rho_i$ of being positive. Its posterior, given the count $y$ of its bag, is $r_i$.
# $H$ is the set of all configurations with $y$ positives.
#
# The loss *DLLP* of [Ardehaly and Culotta (2017)](https://arxiv.org/abs/1709.04108) compares two
# numbers: the proportion $q = y/n$ and the *mean* of the probabilities,
# $\bar\rho = \frac1n \sum_i \rho_i$. The loss is their cross-entropy:
#
# $$ \ell = - q \log \bar\rho - (1 - q) \log (1 - \bar\rho) . \tag{6.1} $$
#
# Each logarithm is taken of a mean. Some public versions of DLLP average the logarithms
# $\log \rho_i$ instead. That is a different loss: cross-entropy with the target $q$ for *every*
# instance, which pulls all $\rho_i$ to $q$. By the chain rule, with
# $\partial \rho_i / \partial z_i = \rho_i (1 - \rho_i)$,
#
# $$ - \frac{\partial \ell}{\partial z_i} = \frac{q - \bar\rho}{\bar\rho \, (1 - \bar\rho)} \cdot \frac{\rho_i (1 - \rho_i)}{n} . $$
#
# The first factor is common to all instances of the bag and sets the sign of their gradients. When
# the expected count $n \bar\rho$ equals $y$, this factor is zero, **whatever the single $\rho_i$
# are**. The gradient of the log-likelihood is posterior minus prior, $r_i - \rho_i$, by (0.3). The
# posteriors always sum to $y$. So when the expected count equals $y$, the differences
# $r_i - \rho_i$ sum to zero, but a single difference need not be zero. Take six instances with
# $\sum_i \rho_i = 3$ and $y = 3$:

# %%
rho = torch.tensor([[0.77, 0.60, 0.53, 0.45, 0.38, 0.27]]).double()  # (1, 6)
three = torch.tensor([3])
z = rho.logit().requires_grad_()
share = (three / 6).double()
loss = F.binary_cross_entropy(rho.mean(1), share)  # of the bag's mean
assert torch.allclose(loss, counts.proportion_loss(z, three))
(dllp,) = torch.autograd.grad(-counts.proportion_loss(z, three), z)
(exact,) = torch.autograd.grad(counts.log_likelihood(z, three).sum(), z)
dllp = dllp[0].round(decimals=3) + 0.0
print("DLLP       ", [f"{v:+.3f}" for v in dllp.tolist()])
print("likelihood ", [f"{v:+.3f}" for v in exact[0].tolist()])

# %% [markdown]
# The gradient of DLLP is zero here. The likelihood pushes the three instances with the largest
# $\rho_i$ up and the other three down: exactly three are positive, and these three are the best
# guess. (In other bags the number of instances that go up can differ from $y$: for
# $\rho = 0.45, 0.40, 0.15$ and the count 1, the first *two* go up.)
#
# ### The curvature at a constant answer
#
# How strong is the push at the start of training, when the network gives the same probability to
# every instance? Let all $\rho_i = q = y/n$; we call this the *constant answer*. Then both gradients
# are zero: DLLP's by the formula above, and the likelihood's because all posteriors are equal and
# sum to $y$, so $r_i = q = \rho_i$. Both losses are stationary at this point, and their second
# derivatives decide what follows.
#
# For the likelihood we differentiate $r_i - \rho_i$ by $z_j$. By chapter 5 the posterior $r_i$ is the
# mean of $h_i$ over the configurations of $H$, with the weights $w_h = e^{\sum_j z_j h_j}$. Since
# $\partial w_h / \partial z_j = h_j w_h$, the quotient rule applied to
# $r_i = \sum_h h_i w_h / \sum_h w_h$ gives the mean of $h_i h_j$ minus the product of the means of
# $h_i$ and $h_j$. This is the covariance given $y$. The derivative of $\rho_i$ is
# $\rho_i (1 - \rho_i)$ for $j = i$ and zero otherwise; with $[i = j]$ equal to 1 if $i = j$ and
# else 0,
#
# $$ \frac{\partial^2 \log P(y \mid X)}{\partial z_i \, \partial z_j} = \mathrm{Cov}(h_i, h_j \mid y) - [i = j] \; \rho_i (1 - \rho_i) . $$
#
# At the constant answer all configurations with $y$ positives are equally probable. So
# $\mathrm{Var}(h_i \mid y) = q (1 - q)$, and the diagonal cancels. The count is fixed, therefore
# $\sum_j \mathrm{Cov}(h_i, h_j \mid y) = 0$. By symmetry the $n - 1$ terms with $j \neq i$ are equal,
# and each is $- q(1-q)/(n-1)$. The matrix has this value off the diagonal and zero on it. Its
# eigenvalues are
#
# - along $(1, \dots, 1)$, all logits together: $-q(1-q)$;
# - along every *contrast*, a direction whose entries sum to zero: $+\dfrac{q(1-q)}{n-1}$.
#
# We maximise, so a deviation along a direction of negative curvature shrinks, and along one of
# positive curvature it grows. **If all instances of a bag have nearly $\rho_i = y/n$, and $y$ is
# neither 0 nor $n$, small differences between their logits grow, at a rate that falls as
# $1/(n-1)$.**
#
# The assumption $\rho_i = q$ matters. If all instances have the same $\rho$, not equal to $q$, the
# same steps give $\frac{n}{n-1} q(1-q) - \rho (1 - \rho)$ along a contrast. This is negative for the
# counts 0 and $n$, and also for counts close to them if $\rho$ is near 1/2 and the bag is large. If
# $y$ is binomial with $\rho$, the average of this curvature over $y$ is zero. By the law of total
# variance it is minus the variance of $\sum_i v_i r_i$ over $y$, for a contrast $v$ of length 1.
# This sum is 0 for every $y$, because all $r_i$ equal $y/n$. So differences between logits that have
# nothing to do with the labels get no push on average. Now suppose that positive instances have
# slightly larger logits than negative ones. A bag with a count near $n/2$ contains many of both, and
# there the difference grows. In a bag with a count near 0 or $n$ it grows less or shrinks, but few
# instances there differ from the rest.
#
# For DLLP, differentiate its gradient at $\bar\rho = q$. The factor $q - \bar\rho$ is zero, so only
# its derivative contributes, and $-\ell$ has the second derivative $-q(1-q)/n^2$ for every pair
# $i, j$. Along a contrast the curvature is therefore zero.

# %%
from torch.autograd.functional import hessian


# %%
def curvature(loss, n):
    """Return the curvatures at rho = 1/2, y = n/2: together, contrast."""
    half = torch.tensor([n // 2])
    start = torch.zeros(n, dtype=torch.float64)
    matrix = hessian(lambda z: loss(z[None], half), start)  # (n, n)
    together, contrast = torch.ones(n).double(), torch.zeros(n).double()
    contrast[0], contrast[1] = 1, -1
    return [(v @ matrix @ v / (v @ v)).item() for v in (together, contrast)]


def value(z, count):
    return counts.log_likelihood(z, count).sum()


def negative_dllp(z, count):
    return -counts.proportion_loss(z, count)


# %%
ns = (2, 4, 6, 12, 24, 48)
likelihood = torch.tensor([curvature(value, n) for n in ns])  # (6, 2)
proportion = torch.tensor([curvature(negative_dllp, n) for n in ns])
for n, (together, contrast) in zip(ns, likelihood.tolist(), strict=True):
    print(f"n = {n:2}: together {together:+.4f},", end=" ")
    print(f"contrast {contrast:+.4f}, 1/(4(n-1)) = {1 / (4 * (n - 1)):.4f}")

# %% [markdown]
# The printed values agree with the formulas for $q = 1/2$. The figure adds DLLP.

# %% tags=["hide-input"]
fig, axis = plt.subplots(figsize=(5.6, 2.9))
formula = [1 / (4 * (n - 1)) for n in ns]
axis.plot(ns, likelihood[:, 1], "o", label="likelihood, contrast")
axis.plot(ns, formula, color=show.COLOURS[0], lw=1, marker="")
colour = show.COLOURS[1]
axis.plot(ns, proportion[:, 1], "s", color=colour, label="DLLP, contrast")
axis.axhline(0, color=show.GREY, lw=0.8, marker="")
axis.set(xscale="log", xticks=ns, xticklabels=ns)
axis.set(xlabel="bag size n", ylabel="curvature")
axis.minorticks_off()
axis.legend()
show.figure(
    fig,
    alt="Curvature along a contrast against the size of the bag. The circles"
    " of the likelihood lie on the curve one over four times n minus one, from"
    " 0.25 at two instances to nearly zero at 48. The squares of DLLP lie at"
    " zero for every size.",
)

# %% [markdown]
# In a bag of two with the count 1, the likelihood's curvature along a contrast is 0.25. In a bag of
# twelve with six positives it is an eleventh of that. DLLP has no push *inside* a bag at the
# constant answer. It learns from differences *between* bags: an untrained network gives nearly the
# same $\rho$ to all instances of all bags, but the proportions $y/n$ differ. At such a constant
# $\rho$ the likelihood learns from the same differences: its gradient is $y/n - \rho$ for each
# instance, and that of DLLP is $(y/n - \rho)/n$. So an instance of a large bag has less weight in
# DLLP than in the likelihood.
#
# ### EM and direct ascent
#
# There are two ways to increase $\log P(y \mid X)$. *Direct ascent* takes whole bags in a
# mini-batch and follows the gradient of `counts.log_likelihood`. *EM* computes targets $r_i$ in an
# E-step, and until the next E-step it minimises the cross-entropy
# $-\sum_i \, [ r_i \log \rho_i + (1 - r_i) \log (1 - \rho_i) ]$. Its gradient in $z_i$ is
# $\rho_i - r_i$, which is Fisher's identity (0.3) up to the sign. **Directly after the E-step the
# gradients of the two ways are the same.** Later steps change $\rho_i$ but keep the targets. So, on
# the same mini-batches, EM is direct ascent with delayed posteriors. But EM also allows other
# mini-batches: as the paper points out, a whole bag need not fit into one. The next cells measure
# the effect of the delay: they keep the targets of one E-step, and compare the gradients of EM and
# of direct ascent by their cosine.


# %%
def network(seed, outputs=1):
    torch.manual_seed(seed)
    first, last = torch.nn.Linear(64, 64), torch.nn.Linear(64, outputs)
    layers = torch.nn.Flatten(), first, torch.nn.ReLU(), last
    return torch.nn.Sequential(*layers)


# %%
def logits(model, rows):
    """Return the logits (len(rows), n) of the bags `rows`."""
    return model(images[index[rows]].flatten(0, 1)).view(len(rows), -1)


# %%
def cross_entropy(model, rows, target):
    z, real = logits(model, rows), mask[rows]
    return F.binary_cross_entropy_with_logits(z[real], target[rows][real])


# %%
def direct(model, rows):
    z = logits(model, rows)
    value = counts.log_likelihood(z, y[rows], mask[rows])
    return -value.sum() / mask[rows].sum()


# %%
def gradient(model, loss):
    slopes = torch.autograd.grad(loss, list(model.parameters()))
    return torch.cat([g.flatten() for g in slopes])


# %%
model, every = network(0), torch.arange(len(y))
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
with torch.no_grad():  # the only E-step
    target = counts.posterior(logits(model, every), y, mask)  # (B, 12)


# %%
def delayed_loss(model, rows):
    return cross_entropy(model, rows, target)


def one_step(epoch):
    return [every]


# %%
cosines = []
for _ in range(60):
    delayed = gradient(model, delayed_loss(model, every))
    true = gradient(model, direct(model, every))
    cosines.append(F.cosine_similarity(delayed, true, dim=0).item())
    train.fit(model, delayed_loss, one_step, optimizer, epochs=1)
print(f"cosine of the two gradients: {cosines[0]:.6f} at the E-step,")
print(f"below 0.9 after {len(cosines) - 1} more steps:", cosines[-1] < 0.9)

# %% [markdown]
# At the E-step the two gradients agree up to rounding. Later the gradient of EM leads to the old
# targets, that of direct ascent to the posteriors of the current network. The first E-step is a
# special case: the untrained network's $\rho$ is nearly constant, so $r_i \approx y/n$. In its
# first epoch EM therefore trains with the proportion of a bag as the soft target of each of its
# instances.
#
# ## Code
#
# We compare supervised learning, direct ascent on the likelihood, EM and DLLP. They share one loop,
# the bags, the network, its initial weights, the order of the mini-batches (8 bags) and the
# optimiser. Only the loss differs. EM computes new targets before every epoch.


# %%
def batches(seed):
    """Return epoch -> mini-batches of 8 bags, equal for every learner."""

    def of_epoch(epoch):
        g = train.generator(seed, epoch)
        return torch.randperm(len(y), generator=g).split(8)

    return of_epoch


# %%
def accuracy(model):
    right = (model(test_images)[:, 0] > 0) == (test_classes >= 5)
    return {"accuracy": 100 * right.double().mean().item()}


# %%
def nothing(model):
    pass


def learn(
    loss, seed, epochs=20, before_epoch=nothing, model=None, each=accuracy
):
    model = model or network(seed)

    def epoch_batches(epoch):
        before_epoch(model)
        return batches(seed)(epoch)

    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    how = {"epochs": epochs, "evaluate": each}
    curve = train.fit(model, loss, epoch_batches, optimizer, **how)
    return [point["accuracy"] for point in curve]


# %%
target = torch.zeros(mask.shape)


def e_step(model):
    with torch.no_grad():
        z = logits(model, torch.arange(len(y)))
        target.copy_(counts.posterior(z, y, mask))


# %%
def supervised(model, rows):
    return cross_entropy(model, rows, positive[index].float())


def proportions(model, rows):
    z = logits(model, rows)
    return counts.proportion_loss(z, y[rows], mask[rows])


# %%
learners = {
    "supervised": (supervised, nothing),
    "likelihood": (direct, nothing),
    "EM": (delayed_loss, e_step),
    "DLLP": (proportions, nothing),
}
curves = {}
for name, (loss, before) in learners.items():
    runs = [learn(loss, seed, before_epoch=before) for seed in (0, 1)]
    curves[name] = torch.tensor(runs)  # (2, 20)

# %% [markdown]
# ## Picture
#
# The curves show the share of 500 new images that are classified right by the paper's rule
# $\rho \geq 1/2$ (its equation 5), which uses no count. Thin lines are the two runs, marks their
# mean.

# %% tags=["hide-input"]
fig, axis = plt.subplots(figsize=(6.4, 3.4))
epochs = range(1, 21)
for k, (name, runs) in enumerate(curves.items()):
    colour, mark = show.COLOURS[k], show.MARKERS[k]
    axis.plot(epochs, runs.T, color=colour, lw=0.5, alpha=0.6, marker="")
    mean = runs.mean(0)
    axis.plot(epochs, mean, color=colour, marker=mark, ms=4, label=name)
axis.set(xlabel="epoch", ylim=(50, 100))
axis.set_ylabel("single images classified right / %")
axis.set_xticks(range(0, 21, 5))
axis.legend(title="the learner")
show.figure(
    fig,
    alt="Accuracy on single images against the epoch for four learners."
    " Supervised learning is highest for most of the training. The"
    " likelihood and EM rise together and come close to it. DLLP is lowest"
    " in the first two epochs and again at the end.",
)

# %% [markdown]
# The curves of the likelihood and of EM stay close together from the first epoch on, as we expect
# from two forms of one algorithm. DLLP has the lowest accuracy in the first two epochs, and is a
# little behind at the end. Two runs on one small data set prove nothing. Chapter 7 compares the
# methods over up to ten splits of the paper's data.
#
# ### Ten classes
#
# If we know the counts of all ten digits, the likelihood is (5.5). We deal bags of five and train as
# before, now with a softmax over ten classes. Still no single image has a label.

# %%
index, mask = deal(5, 5, seed=1)
c = F.one_hot(classes[index], 10).sum(1)  # (B, 10)
y = (positive[index] & mask).sum(1)


# %%
def ten_classes(model, rows):
    log_p = model(images[index[rows]].flatten(0, 1)).log_softmax(1)
    log_p = log_p.view(len(rows), -1, 10)  # (b, 5, 10)
    return -counts.log_likelihood_multiclass(log_p, c[rows]).mean() / 5


# %%
def ten_accuracy(model):
    right = model(test_images).argmax(1) == test_classes
    return {"accuracy": 100 * right.double().mean().item()}


# %%
how = {"epochs": 12, "model": network(0, 10), "each": ten_accuracy}
ten = learn(ten_classes, 0, **how)
print(f"{len(c)} bags with counts of ten classes;", end=" ")
print("above 85 % right on single images:", ten[-1] > 85)

# %% [markdown]
# ## When it breaks
#
# ### Counts that are always one half
#
# If every bag has $y = n/2$, the classes can swap their names: replace every $z_i$ by $-z_i$, and
# $P(y \mid X)$ becomes $P(n - y \mid X) = P(y \mid X)$. The likelihood cannot tell a classifier
# from its opposite, and the initial weights decide between them. We deal bags of two with one image
# of each class, and train from six initialisations. The cell tests whether all accuracies end over
# 25 points from 50 %, on both sides of it; then a figure shows them.


# %%
def even_bags(seed):
    generator = torch.Generator().manual_seed(seed)
    sides = [torch.where(positive == side)[0] for side in (True, False)]
    pairs = min(map(len, sides))
    for k, side in enumerate(sides):
        order = torch.randperm(len(side), generator=generator)
        sides[k] = side[order][:pairs]
    return torch.stack(sides, 1)  # (pairs, 2)


# %%
index = even_bags(0)
mask = torch.ones_like(index, dtype=torch.bool)
y = torch.ones(len(index), dtype=torch.int64)
ends = [learn(direct, seed, epochs=4)[-1] for seed in range(6)]
ends = torch.tensor(ends)
far = ((ends - 50).abs() > 25).all()
print("far from one half, on either side:", bool(far))
print("some above it and some below:", bool(ends.min() < 50 < ends.max()))

# %% tags=["hide-input"]
fig, axis = plt.subplots(figsize=(5.6, 1.6))
axis.plot(ends, [0] * 6, "o", ms=9, alpha=0.6)
axis.axvline(50, color=show.GREY, ls="--", marker="")
axis.set(xlim=(0, 100), yticks=[])
axis.set_xlabel("single images classified right / %")
show.figure(
    fig,
    alt="Six runs as dots on a scale from 0 to 100 percent, each far from the"
    f" dashed line at 50: {(ends > 50).sum()} right of it,"
    f" {(ends < 50).sum()} left of it, with the classes swapped.",
)

# %% [markdown]
# Every run has separated the two classes, but the runs left of the dashed line (50 %) have swapped
# the names of the classes. Counts that vary break the symmetry. If your counts hardly vary, check
# the names with a few labels.
#
# ### Wrong counts
#
# If the counts contain errors, put the errors into the model. **Assume that the report depends on
# the instances only through the true count.** Let $\varepsilon(\tilde y \mid j)$ be the probability
# that $\tilde y$ is reported when the true count is $j$. The true count is one more hidden quantity
# to sum over:
#
# $$ \log P(\tilde y \mid X) = \log \sum_{j=0}^{n} P(j \mid X) \; \varepsilon(\tilde y \mid j) . \tag{6.2} $$
#
# If only a range is reported, one of several that do not overlap, such as "3 to 5", then
# $\varepsilon$ is 1 inside and 0 outside:
#
# $$ \log P(a \leq y \leq b \mid X) = \log \sum_{j=a}^{b} P(j \mid X) . \tag{6.3} $$
#
# The recursion (5.3) computes $P(j \mid X)$ for every $j$, so both sums are easy. In our example the
# person who counts overlooks each positive independently with probability 0.4. The probability of
# reporting $\tilde y$ of $j$ positives is then binomial,
# $\binom{j}{\tilde y} \, 0.6^{\tilde y} \, 0.4^{j - \tilde y}$. The code trains once with the
# reported counts as if they were true, and once with (6.2).

# %%
index, mask = deal(2, 8, seed=0)
generator = torch.Generator().manual_seed(0)
true_positive = positive[index] & mask
noticed = torch.rand(mask.shape, generator=generator) < 0.6
y = (true_positive & noticed).sum(1)

# %%
j = torch.arange(9)
binomial = torch.distributions.Binomial(j, torch.tensor(0.6))
log_epsilon = binomial.log_prob(torch.minimum(y[:, None], j))  # (B, 9)
log_epsilon = log_epsilon.masked_fill(y[:, None] > j, -torch.inf)


# %%
def noisy(model, rows):
    of_bags = (log_epsilon[rows], mask[rows])
    value = counts.log_likelihood_noisy(logits(model, rows), *of_bags)
    return -value.sum() / mask[rows].sum()


# %%
as_reported = learn(direct, 0, epochs=12)[-1]
with_error = learn(noisy, 0, epochs=12)[-1]
wrong = (y != true_positive.sum(1)).double().mean()
print(f"wrong counts: {wrong:.0%}")
ahead = with_error > as_reported + 10
print("with the error in the model, ahead by 10 points or more:", ahead)

# %% [markdown]
# If we train with the reported counts as if they were true, the $\rho$ of a clearly positive image is
# pulled to 0.6, the share of positives that is reported, and not to 1. That is near the threshold
# 1/2, where a small error changes the decision. With $\varepsilon$ in the model $\rho$ can be near
# 1. The next cell tests (6.2) for a report without errors and (6.3) for the range 1 to 2.

# %%
z, one = torch.tensor([[1.0, -0.5, 0.3]]), torch.tensor([1])
never_wrong = torch.tensor([0.0, 1, 0, 0]).log()
noisy_value = counts.log_likelihood_noisy(z, never_wrong)
assert torch.allclose(noisy_value, counts.log_likelihood(z, one))
in_range = counts.log_likelihood_interval(z, one, one + 1)
by_hand = counts.log_distribution(z)[0, 1:3].logsumexp(0)
assert torch.allclose(in_range[0], by_hand)

# %% [markdown]
# With $C$ classes a count can be wrong in too many ways to list. One way is common: single
# instances are assigned to a wrong class, and then the instances of each class are counted. Let
# $A_{k,d}$ be the probability that an instance of class $k$ is reported as $d$. **The mistakes are
# independent, given the classes.** Then the reported classes are independent as well, with the
# probabilities
#
# $$ p'_{i,d} = \sum_{k=1}^{C} p_{i,k} \, A_{k,d} , \tag{6.4} $$
#
# and (5.5) holds with $p'$ in place of $p$. Here every instance is reported once. If instances may
# be overlooked or counted twice, use (6.2), for two classes. The names of the package's functions
# for $C$ classes end in `_multiclass`.

# %%
three = torch.randn(1, 5, 3, generator=generator).log_softmax(2)
A = torch.tensor([[0.9, 0.1, 0], [0.2, 0.7, 0.1], [0, 0, 1]])  # (3, 3)
seen = torch.tensor([[2, 2, 1]])
noisy_counts = counts.log_likelihood_noisy_multiclass(three, seen, A.log())
reported = (three.exp() @ A).log()  # (1, 5, 3)
by_hand = counts.log_likelihood_multiclass(reported, seen)
assert torch.allclose(noisy_counts, by_hand)

# %% [markdown]
# In the demo below you choose the observed count of a bag of six, and whether it is exact, wrong by
# one at a known rate (6.2), or known to a range (6.3). The demo compares the distribution of the
# true count before and after the observation.
#
# <div class="demo" data-demo="noise">On the web page you choose a bag of six, its observed count, and whether the count is exact, wrong by one at times, or a range. The demo shows the distribution of the true count before and after the observation, and the logarithm of its probability. Without JavaScript, change the noise in the cells above and run them again.</div>
#
# ### Large bags
#
# Large bags are a problem for learning, not for the recursion: the same images in larger bags give
# fewer counts, and each count carries less information about a single instance. Where its variance
# is large, the count is nearly normal, with the mean and the variance of a sum of independent
# labels,
#
# $$ \begin{aligned}
# \log P(y \mid X) &\approx - \frac{(y - \mu)^2}{2 \sigma^2} - \frac{1}{2} \log (2 \pi \sigma^2) , \cr
# \mu &= \sum_i \rho_i , \qquad \sigma^2 = \sum_i \rho_i (1 - \rho_i) .
# \end{aligned} \tag{6.5} $$
#
# [Rosenman (2019)](https://arxiv.org/abs/1907.09053) uses (6.5) for elections. A large bag alone is
# not enough for it. The count of 10,000 instances with $\rho = 10^{-4}$ is nearly Poisson: the
# probability of 0 is 0.368, but the normal density there is 0.242. And a network that is sure of
# every instance gives a small variance in a bag of any size.
#
# Like the likelihood, and unlike DLLP, (6.5) can push the instances of a bag apart: among steps
# that keep $\mu = y$, those that lower $\sigma^2$ raise the density. But the two pushes differ.
# Start at $\rho_i = q$ and move the logits by $t$ along a contrast of length 1. The entries of a
# contrast sum to zero, so $\mu$ changes only by terms in $t^2$. Then $(y - \mu)^2$ is of the order
# of $t^4$, and only $\sigma^2$ contributes to the curvature of (6.5). Let $x = q (1 - q)$. The
# second derivative of $\rho (1 - \rho)$ by the logit is $x (1 - 6 x)$ at $\rho = q$; divided by
# $-2 \sigma^2 = -2 n x$, it gives the curvature $(6 x - 1) / (2 n)$. This is negative for $q$ below
# 0.21 or above 0.79. The curvature of the log-likelihood is $x / (n - 1)$, always positive.
#
# We compare (6.5) with the exact log-likelihood on one bag. Then we train three times on all images
# in bags of 2 to 128.


# %%
def normal(model, rows):
    z = logits(model, rows)
    value = counts.normal_approximation(z, y[rows], mask[rows])
    return -value.sum() / mask[rows].sum()


# %%
z = torch.linspace(-2, 2, 50, dtype=torch.float64)[None]
count = torch.tensor([27])
mean = z.sigmoid().sum(1)
variance = (z.sigmoid() * (-z).sigmoid()).sum(1)
density = torch.distributions.Normal(mean, variance.sqrt())
density = density.log_prob(count.double())
assert torch.allclose(density, counts.normal_approximation(z, count))
exact = counts.log_likelihood(z, count)[0]
print(f"50 instances, 27 positive: exact {exact:.4f},", end=" ")
print(f"normal {density[0]:.4f}")

# %%
sizes = (2, 8, 32, 128)
losses = {"likelihood": direct, "normal": normal, "DLLP": proportions}
grown = torch.zeros(3, len(losses), len(sizes))
for seed, (column, n) in product(range(3), enumerate(sizes)):
    index, mask = deal(n, n, seed)
    y = (positive[index] & mask).sum(1)
    steps = len(batches(seed)(0))  # in an epoch
    epochs = round(160 / steps)  # 160 to 168 steps for every size
    for row, loss in enumerate(losses.values()):
        end = learn(loss, seed, epochs=epochs)[-1]
        grown[seed, row, column] = end

# %% tags=["hide-input"]
fig, axis = plt.subplots(figsize=(5.6, 3.0))
means = grown.mean(0)  # (3, 4)
for k, (name, scores) in enumerate(zip(losses, means, strict=True)):
    look = {"color": show.COLOURS[k], "marker": show.MARKERS[k]}
    axis.plot(sizes, scores, label=name, **look)
axis.set(xscale="log", xticks=sizes, xticklabels=sizes)
axis.set(xlabel="images in a bag")
axis.set(ylabel="single images classified right / %")
axis.minorticks_off()
axis.legend()
show.figure(
    fig,
    alt="Accuracy on single images, mean of three runs, against the size of"
    " the bag, from 2 to 128, for the likelihood, its normal approximation"
    " and DLLP. The three curves lie close together and fall.",
)
assert (means.diff(dim=1) < 0).all()
harder = (means[:, 0] > means[:, -1] + 5).all()
print("from size 2 to 128 each loses over 5 points:", bool(harder))
near = abs(means[0, 0] - means[2, 0]) < 3
print("at size 2 DLLP is within 3 points of the likelihood:", bool(near))

# %% [markdown]
# With each of the three losses the accuracy falls as the bags grow. The same images give 648 counts
# at size 2 and 10 at size 128, and no loss can make up for that. In bags of two the likelihood's
# push inside a bag is strongest, but DLLP is nearly as accurate: about half of these bags have the
# count 0 or 2, which fixes the labels of both images for every loss. Speed is no reason to use
# (6.5): for a long bag `counts.log_likelihood` multiplies polynomials (chapter 5) in
# $O(n \log^2 n)$ steps.
#
# ## Reproduction
#
# The experiments `llp/*` train the paper's network, or a narrower one, on birds and cats of
# CIFAR-10, over up to ten splits, with supervised learning, DLLP, EM, direct ascent and LLP-GAN, a
# method that adds a generator of images to DLLP. [Chapter 7](07_counts_reproduction.ipynb) reads
# their records and tests the paper's claims.
#
# ## Exercises
#
# **1, by hand.** Two instances, one of them positive, have $z_1 = t$ and $z_2 = -t$.
# Write $\log P(1 \mid X)$ as a function of $t$, and show that $t = 0$ is its minimum. What is the
# curvature at $t = 0$, per unit of length along $(1, -1)$? Does it agree with $q(1-q)/(n-1)$?
#
# **2, code.** Write the loss of DLLP for a batch, `logits` `(B, n)` and `observed` `(B,)`, as a mean
# over the bags. The attempt below takes the mean in the wrong place.


# %%
def dllp_loss(logits, observed):
    q = observed / logits.shape[1]
    log_mean = F.logsigmoid(logits).mean(1)
    log_rest = F.logsigmoid(-logits).mean(1)
    return -(q * log_mean + (1 - q) * log_rest).mean()


check.attempt(check.dllp_loss, dllp_loss)

# %% [markdown]
# **3, code.** Return the two eigenvalues of the likelihood's second derivatives at the constant
# answer $\rho_i = y/n$, along all logits together and along a contrast, for a bag of $n$ with count
# $y$.


# %%
def constant_curvature(n, y):
    return -0.25, 0.25 / (n - 1)


check.attempt(check.constant_curvature, constant_curvature)

# %% [markdown]
# **4, change the observer.** Asked whether a bag has *at least* `observed` positives, the annotator
# says yes. Write the log-probability of this answer for a batch, `logits` `(B, n)` and `observed`
# `(B,)`.


# %%
def at_least_count(logits, observed):
    return counts.log_likelihood(logits, observed)


check.attempt(check.at_least_count, at_least_count)

# %% [markdown]
# **5, use the count twice.** At test time the paper decides by $\rho_i \geq 1/2$. If test bags come
# with counts too, which two other rules does chapter 5 offer? Which of the two rules can call a wrong
# number of instances positive, and which cannot?
#
# **6, explain to a colleague.** Your colleague trains DLLP on bags of eight, and has noticed that the
# loss is near its minimum from the second epoch on, while the accuracy still rises. Explain in
# three sentences, with the word contrast, what DLLP does not see and what the likelihood does see.
#
# ## Further reading
#
# - [Baručić and Kybic (2022)](https://arxiv.org/abs/2110.03426), sections 2.3 and 3.
# - [Neal and Hinton (1998)](https://doi.org/10.1007/978-94-011-5014-9_12), *A view of the EM
#   algorithm that justifies incremental, sparse, and other variants*: why EM with delayed targets
#   still increases a lower bound of the log-likelihood.
# - [Zhang, Charoenphakdee, Wu and Sugiyama (2020)](https://arxiv.org/abs/2004.06316), *Learning from
#   aggregate observations*: what can be identified from counts and what cannot.
# - [Tsai and Lin (2020)](https://arxiv.org/abs/1910.13188), *Learning from label proportions with
#   consistency regularization*: adds a term to the proportion loss that compares each instance with a
#   perturbed copy.
