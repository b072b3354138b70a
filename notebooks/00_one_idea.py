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
# # One idea: sum over what is hidden
#
# This page introduces the one idea behind the whole book. After it you can write down the exact
# likelihood of any weak label on a small bag, derive its gradient, and say which of four published
# methods compute this likelihood and which replace it by something easier. You need the softmax,
# conditional probability, the chain rule, and PyTorch tensors. The page runs in half a minute on
# one CPU core and needs no GPU.
#
# ## Problem
#
# We usually train a classifier of *instances* (pixels, image patches, faces) on one label per
# instance. Often nobody has collected those labels. What we have instead is a fact about a whole
# group of instances, called a *bag*: this house number contains a 3 and a 7; three of the seven
# people in this photograph are women; there are nine digits somewhere in this picture; this tissue
# slide is malignant. Such a fact is true and cheap to collect, but it does not identify the
# instances responsible for it. It is a *weak label*.
#
# Can a network learn to label single instances from such facts alone? It can. This page derives
# the likelihood and the gradient that make it possible, for every kind of weak label at once. We
# compare four kinds, each studied in a paper of its own:
#
# | name | what we observe of a bag | paper |
# |---|---|---|
# | **presence** | *which* classes occur | [Li (2018)](https://arxiv.org/abs/1811.12346) |
# | **counts** | *how many* instances each class has | [Baručić and Kybic (2022)](https://arxiv.org/abs/2110.03426) |
# | **patches** | the labels of *K things*, in no order and without their places | [Angles, Jin et al. (2021)](https://arxiv.org/abs/1811.10725) |
# | **regions** | the *class* of the whole image | [Belharbi et al. (2020)](https://arxiv.org/abs/1907.12934) |
#
# The four papers look very different, but they all face one question: how probable is the weak
# label, if we take every possible labelling of the instances into account? Two papers answer it
# exactly; the other two use a substitute.

# %%
import matplotlib.pyplot as plt
import torch

from wsl_tutorial import check, presence, show, toy, train

show.style()

# %% [markdown]
# ## What is hidden
#
# We start with a world so small that we can see everything in it. An instance is a point $x_i$ of
# the plane, and a bag is a list of $n$ points, $X = (x_1, \dots, x_n)$. Each point has a label
# $h_i$. Labels 0, 1 and 2 are three foreground classes, the arms of a spiral. The fourth label,
# $\phi$, is the background in the middle; in code it is number 3, the last label. All labels of a
# bag together form a *labelling*, $h = (h_1, \dots, h_n)$.
#
# We never get to see $h$. An *observer* looks at $h$, applies a map $g$, and reports only the
# result, $o = g(h)$. Our four kinds of weak labels are four such maps. In code each takes labels of
# shape `(..., n)`. We draw 500 bags of five points and pick a bag with one point of class 0, two
# points of class 2 and two of the background.

# %%
generator = torch.Generator().manual_seed(0)
cloud, cloud_labels = toy.world(800, 1, generator)  # (800, 1, 2), (800, 1)
points, labels = toy.world(500, 5, generator)  # (500, 5, 2), (500, 5)
wanted = toy.patches(labels) == torch.tensor([0, 2, 2, 3, 3])  # (500, 5)
gaps = torch.stack([torch.pdist(x).min() for x in points])  # (500,)
# Of the bags we want, the one whose closest points are furthest apart.
chosen = (gaps * wanted.all(-1)).argmax()
hidden, order = labels[chosen].sort()  # (5,)
bag = points[chosen][order]  # (5, 2)

# %%
for name, observe in toy.OBSERVERS.items():
    print(f"{name:8}  g({hidden.tolist()}) = {observe(hidden).tolist()}")

# %% [markdown]
# *Presence* reports, for each foreground class, whether it occurs. *Counts* reports the size of
# each class, with the background last. *Patches* sorts the labels, so we know which labels there
# are but not which point has which; the entries before the 3s are the labels of the $K = 3$ things
# of interest. *Regions* reports a single class: the foreground class with the most points (the
# smaller number if there is a tie), or the background if there is no foreground. In the paper on
# regions each image contains one class only, and this is the class reported.
#
# The figure shows the same bag five times. On the left, large marks show its points with their
# hidden labels, in front of 800 other points of the world. On the right, each panel shows what an
# observer reports.

# %% tags=["hide-input"]
ANSWERS = [
    "which?  0 and 2",
    "how many?  1, 0, 2 and 2 φ",
    "K = 3 things:  0, 2, 2",
    "which class?  2",
]
MARKS, HUES = [*show.MARKERS[:3], "x"], [*show.COLOURS[:3], show.GREY]


CENTRE = {"ha": "center", "va": "center"}


def scatter(axis, xy, of, **style):
    for c in range(toy.CLASSES):
        axis.scatter(*xy[of == c].T, marker=MARKS[c], color=HUES[c], **style)


def frame(axis, title):
    axis.set(
        xlim=(-3.3, 2.6), ylim=(-2.6, 3.3), xticks=[], yticks=[], aspect="equal"
    )
    axis.set_title(title, size=9)


# %% tags=["hide-input"]
fig = plt.figure(figsize=(7.2, 3.7))
left, right = fig.subfigures(1, 2)
axis = left.subplots()
scatter(axis, cloud[:, 0], cloud_labels[:, 0], s=9, alpha=0.35, linewidths=0.8)
scatter(axis, bag, hidden, s=130, linewidths=2.5)
NAMES = {"0": (1.6, 2.6), "1": (-3.0, 0.8), "2": (0.6, -2.4), "φ": (-1.0, -1.1)}
for text, xy in NAMES.items():
    axis.text(*xy, text, size=14)
frame(axis, "the world, and one bag of five")
for axis, name, answer in zip(
    right.subplots(2, 2).flat, toy.OBSERVERS, ANSWERS, strict=True
):
    frame(axis, f"{name}\n{answer}")
    for x, y in bag.tolist():
        axis.text(x, y, "?", color=show.GREY, size=13, weight="bold", **CENTRE)
show.figure(
    fig,
    alt="Left: a spiral of three arms (circles, squares, triangles) around grey"
    " crosses; five large marks are one bag: one circle, two triangles, two"
    " crosses. Right: four panels show the same five points as question marks,"
    " each under one observer's report: which classes, how many of each, the"
    " three labels of interest, and the single class.",
)

# %% [markdown]
# The points are the same in all five panels. On the right their labels are lost, but each observer
# keeps some information about them. This is the one idea of the book: **a weak label is what
# remains of all hidden labels after a many-to-one map.**
#
# ## Derivation
#
# ### From points to labellings
#
# A network sees one point at a time. For point $i$ it outputs one number for each of the $k$ labels
# (here $k = 4$). These numbers are the *logits* $z_{i,0}, \dots, z_{i,k-1}$. The softmax turns them
# into probabilities:
#
# $$ p_{i,l} = P(h_i = l \mid x_i) = \frac{e^{z_{i,l}}}{\sum_{l'} e^{z_{i,l'}}} . $$
#
# To get the probability of a whole labelling we need one assumption. **Conditional independence:
# given the points, the labels are independent of each other, and $h_i$ depends on $X$ only through
# $x_i$.** The probability of a labelling is then a product:
#
# $$ P(h \mid X) = \prod_{i=1}^{n} p_{i,h_i} . $$
#
# The assumption is true in the toy world: `toy.world` draws the labels independently, and then each
# point from its own label alone. The first half of the assumption is Assumption 1 of Li. Baručić
# and Kybic state the second half, and need both for the step from their Eq. (2) to Eq. (3).
#
# Two points and four labels have $4^2 = 16$ labellings, few enough to write into a table. As a
# stand-in for the logits of a trained network we take minus one third of the squared distance to
# the mean of each class.

# %%
middle = torch.stack(
    [cloud[cloud_labels == c].mean(0) for c in range(toy.CLASSES)]
)  # (4, 2)
logits = -torch.cdist(bag, middle).square() / 3  # (5, 4)
log_p = logits.log_softmax(-1)  # (5, 4)

# %%
first, second = log_p[0], log_p[3]  # (4,) each: of class 0, of the background
table = first[:, None] + second[None, :]  # (4, 4): log P(h) of each labelling
print(f"16 labellings, total probability {table.exp().sum():.4f}")

# %% [markdown]
# ### From labellings to an observation
#
# Now we observe $o$. This means that the hidden labelling is one of those with $g(h) = o$. Two
# different labellings cannot both be true, so their probabilities add:
#
# $$ \log P(o \mid X) = \log \sum_{h \,:\, g(h) = o} \; \prod_{i=1}^{n} p_{i,h_i} . \tag{0.1} $$
#
# To learn from weak labels by maximum likelihood means to maximise (0.1), summed over all bags.
#
# The table makes (0.1) visible. Give all labellings with the same report $g(h)$ the same colour
# and letter. Then $P(o \mid X)$ is the sum over the cells of one colour. The figure colours our
# table once for each observer. The area of the square in a cell is proportional to
# $P(h \mid X)$.


# %% tags=["hide-input"]
def paint(axis, observe):
    names = {}
    reports = observe(toy.labellings(2)).tolist()  # 16 of them
    for cell, report in enumerate(reports):
        a, b = divmod(cell, 4)
        # A new report gets the next colour.
        c = names.setdefault(tuple(report), len(names))
        side = 0.94 * (table[a, b] - table.max()).div(2).exp().item()
        for size, alpha in ((1, 0.25), (side, 0.5)):
            corner = (b - size / 2, a - size / 2)
            hue = {"color": show.COLOURS[c], "lw": 0, "alpha": alpha}
            axis.add_patch(plt.Rectangle(corner, size, size, **hue))
        axis.text(b, a, "abcdefghij"[c], size=9, weight="bold", **CENTRE)
    axis.set(xlim=(-0.5, 3.5), ylim=(3.5, -0.5), aspect="equal")
    axis.set(
        xticks=range(4), xticklabels="012φ", xlabel="label of second point"
    )
    axis.set(yticks=range(4), yticklabels="012φ")
    axis.grid(False)
    return len(names)


# %% tags=["hide-input"]
fig, axes = plt.subplots(1, 4, figsize=(7.2, 2.4))
for axis, (name, observe) in zip(axes, toy.OBSERVERS.items(), strict=True):
    axis.set_title(f"{name}: {paint(axis, observe)} reports")
axes[0].set_ylabel("label of first point")
show.figure(
    fig,
    alt="The four by four table of labellings, coloured for four observers."
    " Presence needs seven letters; counts and patches need ten and give the"
    " same pattern, symmetric about the diagonal; regions needs four. The"
    " square in a cell shows its probability; most is in the row of label 0.",
)

# %% [markdown]
# The figure shows three things. First, each colouring covers the whole table, so the probabilities
# of all possible reports sum to one, whatever the network outputs. Second, presence merges cells
# that counts keeps apart: "0 and 0" and "0 and $\phi$" have the same presence label, {0}. Merging
# reports makes a label weaker. Third, counts and patches give the same pattern. If the list of
# points is *given*, "how many of each class" and "which labels, in any order" are the same
# information. The two papers still differ: in *patches* the list is not given, and the method must
# first find the points in an image.
#
# We now compute (0.1) for one colour, by hand and with the package.

# %%
h = toy.labellings(2)  # (16, 2), in the order of the flattened table
seen = torch.tensor([True, False, False])  # class 0 and no other
agree = (toy.presence(h) == seen).all(-1)  # (16,)
by_hand = table.flatten()[agree].logsumexp(0)  # ()
print(f"{int(agree.sum())} labellings agree, P = {by_hand.exp():.4f}")
pair = torch.stack((first, second))  # (2, 4)
assert torch.allclose(by_hand, toy.log_marginal(pair, toy.presence, seen))

# %% [markdown]
# ### The labels after the observation
#
# What do we know about a single point once $o$ is observed? By the definition of conditional
# probability, a labelling with $g(h) = o$ now has probability $P(h \mid X) / P(o \mid X)$, and
# every other labelling has probability zero. We add up the labellings in which point $i$ has label
# $l$:
#
# $$ r_{i,l} = P(h_i = l \mid o, X) = \frac{1}{P(o \mid X)} \sum_{h \,:\, g(h) = o, \; h_i = l} P(h \mid X) . \tag{0.2} $$
#
# We call $p$ the *prior*, the network's output for the point alone. We call $r$ the *posterior*,
# the probability of the label given the observation of the bag. Every labelling gives point $i$
# exactly one label, so $r_{i,\cdot}$ sums to one. In the table, take the cells of one colour and
# divide each by the sum over this colour; the row sums are then the posterior of the first point,
# and the column sums that of the second. We print the prior and the posterior of the second point,
# which belongs to the background.

# %%
weight = table.exp() * agree.reshape(4, 4) / by_hand.exp()  # (4, 4)
print("prior    ", [f"{v:.3f}" for v in second.exp().tolist()])
print("posterior", [f"{v:.3f}" for v in weight.sum(0).tolist()])
r = toy.posterior(pair, toy.presence, seen)  # (2, 4)
assert torch.allclose(weight.sum(0), r[1])
assert torch.allclose(weight.sum(1), r[0])

# %% [markdown]
# The observer has ruled out labels 1 and 2. Their probability has moved to label 0 and to $\phi$.
#
# In the demo below, an image has six places, each with a hidden label: class A, class B or the
# background. This makes $3^6 = 729$ labellings. You choose the hidden labels, the observer, and how
# sure a network is of each label. The demo lists the labellings that agree with the observation,
# adds up their probabilities (0.1), and shows the posterior (0.2) of each place. It also prints
# $-\log_2 P(o)$, the information in the observation in *bits*.
#
# <div class="demo" data-demo="idea">On the web page you choose six hidden labels and one of the four observers. Without JavaScript, change the labels and the probabilities in the cells above and run them again.</div>
#
# ### The gradient
#
# To train the network we need the derivative of (0.1) with respect to every logit $z_{i,l}$. We
# find it in three steps. The bracket $[\,\cdot\,]$ is 1 if the statement inside is true and 0
# otherwise.
#
# *Step 1, one factor.* We differentiate $\log p_{i,m} = z_{i,m} - \log \sum_{l'} e^{z_{i,l'}}$:
#
# $$ \frac{\partial \log p_{i,m}}{\partial z_{i,l}} = [m = l] - \frac{e^{z_{i,l}}}{\sum_{l'} e^{z_{i,l'}}} = [m = l] - p_{i,l} . $$
#
# *Step 2, one labelling.* By **conditional independence**
# $\log P(h \mid X) = \sum_j \log p_{j,h_j}$, and only the term $j = i$ contains $z_{i,l}$. For a
# positive function $f$ the chain rule gives $\partial f = f \, \partial \log f$. Therefore
#
# $$ \frac{\partial P(h \mid X)}{\partial z_{i,l}} = P(h \mid X) \, \bigl( [h_i = l] - p_{i,l} \bigr) . $$
#
# *Step 3, the sum.* We differentiate the logarithm in (0.1), insert step 2, and split the sum into
# two:
#
# $$ \begin{aligned}
# \frac{\partial \log P(o \mid X)}{\partial z_{i,l}}
# &= \frac{1}{P(o \mid X)} \sum_{h \,:\, g(h) = o} P(h \mid X) \, \bigl( [h_i = l] - p_{i,l} \bigr) \cr
# &= \frac{1}{P(o \mid X)} \sum_{h \,:\, g(h) = o, \; h_i = l} P(h \mid X) \cr
# &\quad - p_{i,l} \, \frac{1}{P(o \mid X)} \sum_{h \,:\, g(h) = o} P(h \mid X) .
# \end{aligned} $$
#
# The first term is (0.2). In the second term the sum is $P(o \mid X)$ itself and cancels. What
# remains is *Fisher's identity* for our model:
#
# $$ \frac{\partial \log P(o \mid X)}{\partial z_{i,l}} = r_{i,l} - p_{i,l} . \tag{0.3} $$
#
# The gradient is **posterior minus prior**, for every map $g$. To check this, we let autograd
# differentiate the sum (0.1) for all four observers and compare.

# %%
for name, observe in toy.OBSERVERS.items():
    z = logits.double().requires_grad_()  # (5, 4)
    toy.log_marginal(z.log_softmax(-1), observe, observe(hidden)).backward()
    log_q = z.detach().log_softmax(-1)  # (5, 4)
    fisher = toy.fisher_gradient(log_q, observe, observe(hidden))  # (5, 4)
    same = torch.allclose(z.grad, fisher, rtol=0, atol=1e-12)
    print(f"{name:8}  autograd = r - p: {same}")

# %% [markdown]
# Equation (0.3) has six consequences:
#
# 1. Every entry lies between $-1$ and $1$, because $r$ and $p$ are probabilities. No observation
#    can make this gradient explode.
# 2. For each point the entries sum to zero: probability only moves from one label to another.
# 3. If the observer reports all labels, $g(h) = h$, then $r_{i,l} = [h_i = l]$. Then (0.3) is minus
#    the gradient of the cross-entropy, that is, supervised learning.
# 4. If the report was certain beforehand, $P(o \mid X) = 1$, then $r = p$ and the gradient is zero.
#    **A label that we could predict with certainty teaches nothing.**
# 5. Averaged over all possible reports, $r$ equals $p$: $\sum_o P(o \mid X) \, r = p$, by the law
#    of total probability. Once the network outputs the true $p$, the gradients cancel on average,
#    although a single bag may still raise the probability of a wrong label.
# 6. (0.3) is also minus the gradient of the cross-entropy against soft targets $r$, recomputed at
#    every step. If we minimise this cross-entropy fully before we recompute the targets, we get the
#    EM algorithm of [Dempster, Laird and Rubin (1977)](https://www.jstor.org/stable/2984875). Its
#    E-step computes (0.2), and its M-step minimises the cross-entropy against fixed $r$.
#
# The figure shows $r - p$ for our bag of five. Each row is a point, named by its hidden label, and
# each column a label. The posterior is above the prior where the sign is +, below it where it is −.

# %% tags=["hide-input"]
fig, axes = plt.subplots(1, 4, figsize=(7.2, 2.5), sharey=True)
for axis, (name, observe) in zip(axes, toy.OBSERVERS.items(), strict=True):
    moved = toy.fisher_gradient(log_p, observe, observe(hidden))  # (5, 4)
    axis.imshow(moved, cmap="PuOr", vmin=-0.7, vmax=0.7, aspect="auto")
    for i, row in enumerate(moved.tolist()):
        for l, value in enumerate(row):
            axis.text(l, i, f"{value:+.2f}", size=7, **CENTRE)
    axis.set(title=name, xticks=range(4), xticklabels="012φ", xlabel="label")
    axis.grid(False)
axes[0].set(yticks=range(5), yticklabels=["012φ"[c] for c in hidden])
axes[0].set_ylabel("point, by hidden label")
show.figure(
    fig,
    alt="Four tables of posterior minus prior, five points by four labels, with"
    " signs and colours. Rows sum to zero. Column 1 is negative throughout."
    " Counts and patches are equal. Under presence little moves except away"
    " from label 1; under regions label 2 gains at all five points, also at"
    " those that are not of class 2.",
)

# %% [markdown]
# The first three observers report that class 1 is absent, so its posterior is zero at every point.
# Counts and patches agree in every entry, as they did in the colouring. Regions reports class 2,
# and the posterior of 2 is above its prior at every point, also at the points of other classes. A
# true report can therefore mislead about single points. By consequence 5 these errors cancel on
# average once the network outputs the true $p$. The section "When it breaks" shows a case where
# training does not lead there.
#
# ## The four papers, side by side
#
# | | map $g$ | hidden | what the paper does with the sum (0.1) | cost of a bag |
# |---|---|---|---|---|
# | **presence** | the set of classes that occur | a class for each position of a feature map | **sums exactly**, by an alternating series over subsets of the label set (its Eq. 6) | $O(2^{L} n)$ for $L$ labels |
# | **counts** | the number of positive instances | a class for each instance: positive or negative | **sums exactly**, over all labellings with $y$ positives, E-step and M-step in turn (its Eqs. 6–11) | $\binom{n}{y}$ labellings; a recursion needs $O(n\,y)$ steps |
# | **patches** | the labels of $K$ things, in no order | $K$ places and sizes in a continuous image | **chooses** the $K$ places with the highest scores on a predicted map, the *heat map* (its Eqs. 1–7) | one heat map and $K$ patches |
# | **regions** | the class of the image | a mask: the pixels that show the class | **a surrogate**: be sure of the class inside the mask, undecided outside (its Eq. 6) | two passes through a classifier; through the network of the mask one, or several (chapter 12) |
#
# Only the first two rows compute (0.1).
#
# *Patches* first. An exact sum would run over all sets of $K$ places, and a place is three real
# numbers: two for its position and one for its size. The paper keeps only the best set, so a
# maximum replaces the sum. This choice has no derivative. The paper therefore treats the chosen
# places as free variables, moves them down the gradient of the task loss, and trains the heat map
# to predict where they ended up (its Algorithm 1). For classification the task loss is the squared
# distance between two means over the bag, one of the one-hot labels and one of the softmax outputs
# (its Eq. 9). This is not $-\log P$. As an example take a bag of two patches with the labels 0 and
# 1, and two networks: one is sure of both, the other gives each label probability one half at each
# patch.

# %%
sure = [[0.999, 0.001], [0.001, 0.999]]
bags = torch.tensor([sure, [[0.5, 0.5], [0.5, 0.5]]])  # (2, 2, 2)
squared = (bags.mean(1) - 0.5).square().sum(-1)  # (2,)
one_each = torch.ones(2, 2, dtype=torch.long)
minus_log = -toy.log_marginal(
    bags.log(), lambda h: toy.counts(h, k=2), one_each
)

# %% tags=["hide-input"]
for name, loss in (
    ("squared distance of means", squared),
    ("-log P(bag of labels)", minus_log),
):
    print(f"{name:26} sure: {loss[0]:.3f}   undecided: {loss[1]:.3f}")

# %% [markdown]
# Both losses are almost zero for the network that is sure. Only $-\log P$ penalises the undecided
# network. For this network the labels 0 and 1, in either order, have $P = 2 \cdot \frac{1}{4}$, so
# the loss is $\log 2$.
#
# Now *regions*. If an image has one class $c$ and its pixels are independent, the exact sum runs
# over all masks that are not empty: pixels in the mask have label $c$, all others have $\phi$. This
# is the presence likelihood of the label set $\{c\}$, as the next cell verifies. The paper does not
# compute it. Its classifier sees all pixels in the mask at once, so there is no product over
# pixels, and the method predicts one mask instead of summing over masks. Two terms replace the sum:
# inside the mask, the cross-entropy to the label; outside, the cross-entropy to the uniform
# distribution. The second term assumes that the rest of the image supports no class more than
# another, which does not follow from $g$. By Appendix A.2 of the paper the mask is detached from
# the computation graph. Neither term therefore sends a gradient through the mask, which is learned
# from another classification loss (its Eq. 7).

# %%
pixels = log_p.T[None]  # (1, 4, 5): our five points as an image of class 2
masks = toy.labellings(5, 2)[1:].bool()  # (31, 5), all but the empty mask
each = torch.where(masks, log_p[:, 2], log_p[:, 3])  # (31, 5)
only_2 = torch.tensor([[False, False, True]])
assert torch.allclose(
    each.sum(-1).logsumexp(0), presence.log_likelihood(pixels, only_2)[0]
)

# %% [markdown]
# ## Code
#
# The whole chapter fits into a few lines: a network, an observer, and (0.1) as the loss. The runs
# below differ only in `observe`. `train.fit` is the training loop of the whole book; here an epoch
# is one step on all bags.


# %%
def network(seed):
    torch.manual_seed(seed)
    return torch.nn.Sequential(
        torch.nn.Linear(2, 32),
        torch.nn.Tanh(),
        torch.nn.Linear(32, toy.CLASSES),
    )


def fit(model, loss, steps=120):
    optimizer = torch.optim.Adam(model.parameters(), lr=0.03)
    train.fit(model, loss, lambda epoch: [None], optimizer, epochs=steps)
    return model


# %%
def learn(observe, points, labels, seed):
    observed = observe(labels)  # (B, d): all that the learner gets to know

    def loss(model, _):
        log_p = model(points).log_softmax(-1)  # (B, n, 4)
        return -toy.log_marginal(log_p, observe, observed).mean()

    return fit(network(seed), loss)


# %% [markdown]
# The labels are used only once, to compute `observed`. For reference we add an observer that
# reports all labels, which is supervised learning by consequence 3. We draw 10, 30 and 100 bags of
# four points, three times each, and train one network for each observer. Then we measure the share
# of 4000 new points that the network labels correctly. We leave patches out: its likelihood is that
# of counts.
#
# For a bag of four points the sum has $4^4 = 256$ terms. Enumeration grows fast: with the 16
# positions of a small feature map and eleven labels there would be $11^{16}$ terms. This is why we
# need the formulas of the next chapters.

# %%
test_points, test_labels = toy.world(4000, 1, torch.Generator().manual_seed(99))


def accuracy(model):
    with torch.no_grad():
        right = model(test_points).argmax(-1) == test_labels  # (4000, 1)
        return right.float().mean().item()


# %%
observers = {
    "all labels": lambda h: h,
    "counts": toy.counts,
    "presence": toy.presence,
    "regions": toy.regions,
}
sizes, scores = (10, 30, 100), {}
for name, observe in observers.items():
    for n_bags in sizes:
        runs = []
        for seed in range(3):
            world = toy.world(n_bags, 4, torch.Generator().manual_seed(seed))
            runs.append(accuracy(learn(observe, *world, seed)))
        scores[name, n_bags] = 100 * torch.tensor(runs)  # (3,)

# %% [markdown]
# ## Picture
#
# Marks show the mean over the three draws and thin bars their range. Presence and regions merge
# reports of counts, so we expect that they need more bags.

# %% tags=["hide-input"]
fig, axis = plt.subplots(figsize=(6.0, 3.2))
for shift, name in enumerate(observers):
    runs = torch.stack([scores[name, n] for n in sizes])  # (3, 3)
    mean, low, high = runs.mean(1), runs.min(1).values, runs.max(1).values
    x = [n * (1 + 0.05 * (shift - 1.5)) for n in sizes]
    bars = torch.stack((mean - low, high - mean))  # (2, 3)
    axis.errorbar(x, mean, bars, elinewidth=0.8, label=name)
axis.set(xscale="log", xticks=sizes, xticklabels=sizes)
axis.set(
    xlabel="training bags of 4 points", ylabel="accuracy on single points / %"
)
axis.minorticks_off()
axis.legend(title="the learner observes")
show.figure(
    fig,
    alt="Accuracy on single points against the number of training bags, for"
    " four kinds of labels. All rise. Counts lies close to full supervision,"
    " regions is lowest, presence lies between them from 30 bags on; with a"
    " hundred bags all four have come close together.",
)

# %% [markdown]
# Three of the four learners have never seen the label of a single point, and yet all three classify
# single points. Counts is hard to distinguish from full supervision. The weaker labels need more
# bags, and regions needs the most. (With 10 bags, three draws do not separate presence from full
# supervision either.)
#
# ## When it breaks
#
# Consequence 4 matters in practice. Suppose that the bags are large. A bag of 64 points almost
# certainly contains every class. Its presence label is then the full set of classes, as we could
# predict, and (0.3) is nearly zero. Li makes this point in section 5.4: if every class occurs in
# every training sample, nothing can be learned. Learning fails for a second reason too. If all
# label sets are full, (0.1) does not change when we swap two foreground classes, so no number of
# bags can show which is which.
#
# A bag of 64 points has $4^{64}$ labellings, too many to enumerate. We use the formula of the next
# chapters, and first check it against enumeration on bags of four.

# %%
four, four_labels = toy.world(50, 4, torch.Generator().manual_seed(5))
log_p4 = (-torch.cdist(four, middle).square() / 3).log_softmax(-1)  # (50, 4, 4)
observed = toy.presence(four_labels)  # (50, 3)
formula = presence.log_likelihood(log_p4.transpose(1, 2), observed)  # (50,)
assert torch.allclose(
    formula, toy.log_marginal(log_p4, toy.presence, observed), atol=1e-5
)


# %%
def learn_presence(n, seed):
    points, labels = toy.world(64, n, torch.Generator().manual_seed(seed))
    observed, model = toy.presence(labels), network(seed)

    def log_p(model):
        return model(points).log_softmax(-1).transpose(1, 2)  # (64, 4, n)

    def loss(model, _):
        return -presence.log_likelihood(log_p(model), observed).mean()

    with torch.no_grad():
        p = log_p(model).exp()  # (64, 4, n)
        moved = presence.posterior(log_p(model), observed) - p  # (64, 4, n)
    fit(model, loss)
    return moved.abs().sum(1).mean().item() / 2, 100 * accuracy(model)


# %%
ns = (1, 4, 8, 16, 32, 64)
grown = torch.tensor(
    [[learn_presence(n, seed) for seed in range(3)] for n in ns]
)  # (6, 3, 2)

# %% [markdown]
# The left panel shows half the sum of $|r - p|$ over the labels. This is the share of a point's
# probability that the bag's label moves before training. The right panel shows the accuracy after
# training on 64 bags. Each line is one of three runs. The dashed line is the accuracy of always
# answering "background".

# %% tags=["hide-input"]
fig, (moved, score) = plt.subplots(1, 2, figsize=(7.0, 2.9))
for seed in range(3):
    moved.plot(ns, grown[:, seed, 0])
    score.plot(ns, grown[:, seed, 1])
constant = 100 * (test_labels == 3).float().mean()
score.axhline(constant, color=show.GREY, ls="--", marker="")
moved.set(ylabel="share of probability moved", yscale="log")
score.set(ylabel="accuracy on single points / %", ylim=(0, 100))
for axis in (moved, score):
    axis.set(xscale="log", xlabel="points in a bag", xticks=ns, xticklabels=ns)
    axis.minorticks_off()
show.figure(
    fig,
    alt="Two panels against the number of points in a bag, three runs each."
    " Left, on a logarithmic scale, the probability moved by the label falls by"
    " many powers of ten from one to 64 points. Right, accuracy stays high up"
    " to eight points and is far below the dashed line at 64.",
)

# %% [markdown]
# The loss does not warn us of this failure. An untrained network gives every label a probability of
# about one quarter at each point, so it already expects all three classes among 64 points. $P(o
# \mid X)$ is close to 1 and the loss close to 0, its best possible value, from the first step. Yet
# the trained classifier is worse than always answering "background". The small gradient that
# remains is misleading. A point of the background does not help to complete the label set. If the
# set is full, the posterior of $\phi$ is therefore below its prior at every point, and the first
# steps lower the mean probability of the background. Adam divides the gradient by its own size, so
# even a tiny gradient gives full steps. After about ten steps, rounding errors dominate most of the
# computed gradients, and Adam follows these errors too. Look at the labels before you train: if
# nearly all bags have the same label, do not expect to learn much from it. Counts would still
# differ from bag to bag: 11 and 9 points of a class are different reports.
#
# Two other assumptions can fail. If the observer makes errors, $g$ is the wrong map, and the
# observed label may even have probability zero; exercise 5 repairs this. If the labels of
# neighbouring points depend on each other, the product over points is wrong. If they tend to be
# equal, it counts the same evidence more than once.
#
# ## Reproduction
#
# This chapter has no published numbers to reproduce. The page
# [Reproductions](../book/reproductions.md) lists all numbers of the four papers and what we
# reproduced of them. *Presence* comes next: [chapter 1](01_presence_likelihood.ipynb) derives its
# likelihood, [chapter 2](02_presence_numerics.ipynb) computes it safely in floating point, [chapter
# 3](03_presence_learning.ipynb) trains with it, and [chapter 4](04_presence_reproduction.ipynb)
# reproduces the paper.
#
# ## Exercises
#
# Each cell below starts with a wrong answer and prints a hint. Replace the answer with your own.
#
# **1, by hand.** Two points have $p_{1,\cdot} = (0.6, 0, 0, 0.4)$ and
# $p_{2,\cdot} = (0.5, 0, 0, 0.5)$. The observer reports that class 0 occurs, and no other. Compute
# $P(o)$, $r_{1,0}$ and $r_{2,0}$. By what factor does the probability of class 0 grow at each
# point, and why is it the same factor?


# %%
def two_points():
    return 0.5, 0.6, 0.4  # P(o), r of the first point, r of the second


check.attempt(check.two_points, two_points)

# %% [markdown]
# **2, code.** In binary multiple-instance learning we observe one bit: is there any foreground in
# the bag? Write this observer, from labels `(..., n)` to `(..., 1)`.


# %%
def any_foreground(labels):
    return (labels < 3).all(-1, keepdim=True)


check.attempt(check.any_foreground, any_foreground)

# %% [markdown]
# **3, by hand and code.** How many labellings have given counts, for example 2, 1, 0 and 1? The
# function below counts all orders of all points. Which orders give the same labelling?

# %%
from math import factorial


def consistent_with_counts(counts):
    return factorial(sum(counts))


check.attempt(check.consistent_with_counts, consistent_with_counts)

# %% [markdown]
# **4, code.** Someone gives you a log-likelihood as a black box, and you need the posterior $r$. By
# (0.3) one backward pass is enough. Return $r$, of shape `(n, k)`.


# %%
def posterior_by_autograd(logits, observe, observed):
    logits = logits.requires_grad_()
    toy.log_marginal(logits.log_softmax(-1), observe, observed).backward()
    return logits.grad


check.attempt(check.posterior_by_autograd, posterior_by_autograd)

# %% [markdown]
# **5, change an assumption.** The observer makes errors: with probability $\varepsilon$ it reports
# one of the $A$ possible reports, drawn uniformly, instead of $g(h)$. Express the probability of
# its report with the help of (0.1). Show that the gradient becomes $w \, (r - p)$ with a weight $w$
# between 0 and 1, and find $w$. For which bags is $w$ small, and what does this do to a mislabelled
# bag?
#
# **6, explain to a colleague.** Your colleague trains on the presence labels of large photographs.
# Almost all of them contain sky, ground and people. The loss falls to nearly zero in the first
# epoch, and your colleague is pleased. Explain in three sentences, without a formula, what has
# happened and which labels to ask for.
#
# ## Further reading
#
# - [Zhang, Charoenphakdee, Wu and Sugiyama (2020)](https://arxiv.org/abs/2004.06316), *Learning
#   from aggregate observations*: maximum likelihood under a many-to-one map in general, and what
#   such data can identify at all.
# - [Shukla, Zeng, Ahmed and Van den Broeck (2023)](https://arxiv.org/abs/2311.13718), *A unified
#   approach to count-based weakly supervised learning*: exact counts as the loss for several kinds
#   of weak labels.
# - [Pham, Raich and Fern (2014)](https://arxiv.org/abs/1411.4068), *Dynamic programming for
#   instance annotation in multi-instance multi-label learning*: the presence map without a
#   background, with EM, in time linear in the size of the bag.
# - [Dempster, Laird and Rubin (1977)](https://www.jstor.org/stable/2984875), *Maximum likelihood
#   from incomplete data via the EM algorithm*: the source of the E-step and the M-step.
