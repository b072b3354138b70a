# %% tags=["remove-cell", "nbval-ignore-output"]
import importlib.util
import os
import subprocess
import sys

if importlib.util.find_spec("wsl_tutorial") is None:
    home = "wsl-tutorial @ git+https://github.com/weak-supervision/wsl-tutorial"
    spec = os.environ.get("WSL_TUTORIAL_SPEC", home)
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", spec], check=True)

# %% [markdown]
# # One idea: sum over what is hidden
#
# After this page you can write down the exact likelihood of any weak label on a small bag,
# differentiate it in one line, and say of four published methods which of them compute this sum,
# which one replaces it by a maximum, and which one avoids it. You need the softmax, conditional
# probability, the chain rule, and PyTorch tensors. The page runs in half a minute on one CPU core
# and needs no GPU.
#
# ## Problem
#
# A classifier of *instances* (pixels, patches, faces) is usually trained with one label for each
# instance. Often nobody has those labels. What exists is a statement about a group of instances, a
# *bag*: there is a 3 and a 7 on this house; three of these seven faces are women; nine digits are
# somewhere in this picture; this tissue slide is malignant. The statement is true and cheap, and
# it does not say which instance is responsible. Such statements are called *weak labels*.
#
# This page compares four kinds, named after what the bag tells; the chapters that follow treat
# *presence* in full:
#
# | name | the bag tells | paper |
# |---|---|---|
# | **presence** | *which* classes occur | [Li (2018)](https://arxiv.org/abs/1811.12346) |
# | **counts** | *how many* instances each class has | [Baručić and Kybic (2022)](https://arxiv.org/abs/2110.03426) |
# | **patches** | that *K things* matter, and their labels as a bag | [Angles, Jin et al. (2021)](https://arxiv.org/abs/1811.10725) |
# | **regions** | the *class* of the whole image | [Belharbi et al. (2020)](https://arxiv.org/abs/1907.12934) |
#
# The four papers look unlike. We show that they ask one question, and say where two of them leave
# the common path.

# %%
import matplotlib.pyplot as plt
import torch

from wsl_tutorial import check, presence, show, toy, train

show.style()

# %% [markdown]
# ## What is hidden
#
# We build a world small enough to see everything. An instance is a point $x_i$ of the plane, and a
# bag is $n$ points, $X = (x_1, \dots, x_n)$. Each point has a label $h_i$, one of 0, 1, 2 or
# $\phi$: three foreground classes, the arms of a spiral, and the background $\phi$ in the middle.
# In code $\phi$ is the last label, number 3. The labels of a bag together are a *labelling*,
# $h = (h_1, \dots, h_n)$.
#
# Nobody shows us $h$. An *observer* looks at $h$, applies a map $g$, and tells us $o = g(h)$. Four
# observers are four such maps on labels of shape `(..., n)`. We draw many bags of five points, and
# pick one that holds a point of class 0, two of class 2 and two of the background.

# %%
generator = torch.Generator().manual_seed(0)
cloud, cloud_labels = toy.world(800, 1, generator)  # (800, 1, 2), (800, 1)
points, labels = toy.world(500, 5, generator)  # (500, 5, 2), (500, 5)
wanted = (toy.patches(labels) == torch.tensor([0, 2, 2, 3, 3])).all(-1)  # (500,)
gaps = [torch.pdist(x).min() if ok else 0 for x, ok in zip(points, wanted, strict=True)]
chosen = torch.tensor(gaps).argmax()  # the bag whose points are easiest to tell apart
hidden, order = labels[chosen].sort()  # (5,)
bag = points[chosen][order]  # (5, 2)
for name, observe in toy.OBSERVERS.items():
    print(f"{name:8}  g({hidden.tolist()}) = {observe(hidden).tolist()}")

# %% [markdown]
# Read the four answers. *Presence* says yes or no for each foreground class. *Counts* gives the
# size of each class, background last. *Patches* sorts the labels, so it keeps their bag and
# forgets which point had which; the entries before the 3s belong to the $K = 3$ things that
# matter. *Regions* names one class: the foreground class with most points, ties to the smaller
# number, and the background if there is no foreground. In the paper on regions an image holds a
# single class, and then this is that class.
#
# The figure shows the bag twice: on the left with its hidden labels in front of the whole world,
# on the right as each observer leaves it.

# %%
ANSWERS = [
    "which?  0 and 2",
    "how many?  1, 0, 2 and 2 φ",
    "K = 3 things:  0, 2, 2",
    "which class?  2",
]
MARKS, HUES = [*show.MARKERS[:3], "x"], [*show.COLOURS[:3], show.GREY]


def scatter(axis, xy, of, **style):
    for c in range(toy.CLASSES):
        axis.scatter(*xy[of == c].T, marker=MARKS[c], color=HUES[c], **style)


def frame(axis, title):
    axis.set(xlim=(-3.3, 2.6), ylim=(-2.6, 3.3), xticks=[], yticks=[], aspect="equal")
    axis.set_title(title, size=9)


# %%
fig = plt.figure(figsize=(7.2, 3.7))
left, right = fig.subfigures(1, 2)
axis = left.subplots()
scatter(axis, cloud[:, 0], cloud_labels[:, 0], s=9, alpha=0.35, linewidths=0.8)
scatter(axis, bag, hidden, s=130, linewidths=2.5)
for xy, text in zip([(1.6, 2.6), (-3.0, 0.8), (0.6, -2.4), (-1.0, -1.1)], "012φ", strict=True):
    axis.text(*xy, text, size=14)
frame(axis, "the world, and one bag of five")
for axis, name, answer in zip(right.subplots(2, 2).flat, toy.OBSERVERS, ANSWERS, strict=True):
    frame(axis, f"{name}\n{answer}")
    for x, y in bag.tolist():
        axis.text(x, y, "?", color=show.GREY, size=13, weight="bold", ha="center", va="center")
show.figure(
    fig,
    alt="Left: a spiral of three arms, of circles, squares and triangles, around a middle of grey"
    " crosses; five large marks are one bag: one circle, two triangles, two crosses. Right: four"
    " panels with the same five points as question marks, each under the answer of one observer:"
    " which classes, how many of each, the bag of three labels, and the single class.",
)

# %% [markdown]
# The positions are the same in all five panels. The labels are gone in four of them, and something
# different is left of them each time. This is the subject of the book: **a weak label is what a
# many-to-one map leaves of all hidden labels**.
#
# ## Derivation
#
# ### From points to labellings
#
# A network sees one point at a time and gives $k$ numbers for point $i$, the *logits*
# $z_{i,0}, \dots, z_{i,k-1}$. The softmax turns them into probabilities,
#
# $$ p_{i,l} = P(h_i = l \mid x_i) = \frac{e^{z_{i,l}}}{\sum_{l'} e^{z_{i,l'}}} . $$
#
# To speak about whole labellings we need one assumption. **Conditional independence: given the
# points, the labels are independent of each other, and $h_i$ depends on $X$ through $x_i$ only.**
# The probability of a labelling is then a product,
#
# $$ P(h \mid X) = \prod_{i=1}^{n} p_{i,h_i} . $$
#
# The toy world fulfils the assumption, because `toy.world` draws each label on its own. Its first
# half is Assumption 1 of Li. Baručić and Kybic state the second half, and need both for the step
# from their Eq. (2) to Eq. (3).
#
# For two points and four labels there are $4^2 = 16$ labellings, few enough for a table. In place
# of a trained network we take the softmax of minus a third of the squared distance to the middle
# of each class.

# %%
middle = torch.stack([cloud[cloud_labels == c].mean(0) for c in range(toy.CLASSES)])  # (4, 2)
logits = -torch.cdist(bag, middle).square() / 3  # (5, 4)
log_p = logits.log_softmax(-1)  # (5, 4)

first, second = log_p[0], log_p[3]  # (4,) each: a point of class 0, a point of the background
table = first[:, None] + second[None, :]  # (4, 4): log P(h) of every labelling of these two
print(f"16 labellings, total probability {table.exp().sum():.4f}")

# %% [markdown]
# ### From labellings to an observation
#
# Two different labellings cannot both be the truth, so the events "the labels are $h$" are
# disjoint. The event "we are told $o$" is the union of those with $g(h) = o$. Probabilities of
# disjoint events add:
#
# $$ \log P(o \mid X) = \log \sum_{h \,:\, g(h) = o} \; \prod_{i=1}^{n} p_{i,h_i} . \tag{0.1} $$
#
# This is the one idea. To learn from weak labels by maximum likelihood is to make (0.1) large,
# summed over the bags.
#
# An observer cannot tell apart two labellings that $g$ maps to the same answer. It paints the
# table of labellings, one colour and letter for each answer, and $P(o \mid X)$ is the sum over the
# cells of one colour. The figure paints our table four times; the squares have areas proportional
# to $P(h \mid X)$.


# %%
def paint(axis, observe):
    names = {}
    for cell, answer in enumerate(observe(toy.labellings(2)).tolist()):  # 16 answers
        a, b = divmod(cell, 4)
        c = names.setdefault(tuple(answer), len(names))  # a new answer gets the next colour
        side = 0.94 * (table[a, b] - table.max()).div(2).exp().item()
        hue = {"color": show.COLOURS[c], "lw": 0}
        axis.add_patch(plt.Rectangle((b - 0.5, a - 0.5), 1, 1, alpha=0.25, **hue))
        axis.add_patch(plt.Rectangle((b - side / 2, a - side / 2), side, side, alpha=0.5, **hue))
        axis.text(b, a, "abcdefghij"[c], ha="center", va="center", size=9, weight="bold")
    axis.set(xlim=(-0.5, 3.5), ylim=(3.5, -0.5), aspect="equal", xticks=range(4), yticks=range(4))
    axis.set(xticklabels="012φ", yticklabels="012φ", xlabel="label of the second")
    axis.grid(False)
    return len(names)


# %%
fig, axes = plt.subplots(1, 4, figsize=(7.2, 2.4))
for axis, (name, observe) in zip(axes, toy.OBSERVERS.items(), strict=True):
    axis.set_title(f"{name}: {paint(axis, observe)} answers")
axes[0].set_ylabel("label of the first")
show.figure(
    fig,
    alt="The four by four table of labellings, painted by four observers. Presence uses seven"
    " letters; counts and patches use ten and paint the same pattern, symmetric about the"
    " diagonal; regions uses four. The square in a cell shows its probability; most of it is in"
    " the row of label 0.",
)

# %% [markdown]
# Keep three things. Each painting covers the whole table, so the probabilities of all answers sum
# to one, whatever the network says. Presence merges cells that counts keeps apart: "0 and 0" and
# "0 and φ" both answer {0}. A coarser painting is a weaker label. And counts and patches paint the
# same pattern: on a *given* list of points, "how many of each class" and "the bag of labels" are
# the same information. These two papers differ in what is hidden, for in *patches* nobody gives
# the list of points.
#
# We now take the sum (0.1) for one colour, by hand and by the package.

# %%
h = toy.labellings(2)  # (16, 2), in the order of the flattened table
seen = torch.tensor([True, False, False])  # class 0 occurs, classes 1 and 2 do not
agree = (toy.presence(h) == seen).all(-1)  # (16,)
by_hand = table.flatten()[agree].logsumexp(0)
print(f"{int(agree.sum())} labellings agree, P = {by_hand.exp():.4f}")
pair = torch.stack((first, second))  # (2, 4)
assert torch.allclose(by_hand, toy.log_marginal(pair, toy.presence, seen))

# %% [markdown]
# ### The labels after the observation
#
# What does the answer say about a single point? By the definition of conditional probability, a
# labelling with $g(h) = o$ has probability $P(h \mid X) / P(o \mid X)$ once we know $o$, and any
# other labelling has probability zero. Adding up those in which point $i$ has label $l$ gives
#
# $$ r_{i,l} = P(h_i = l \mid o, X) = \frac{1}{P(o \mid X)} \sum_{h \,:\, g(h) = o, \; h_i = l} P(h \mid X) . \tag{0.2} $$
#
# We call $p$ the *prior*: what the network thinks of a point on its own. We call $r$ the
# *posterior*: what it must think when the bag has spoken. Every labelling gives point $i$ exactly
# one label, so $r_{i,\cdot}$ sums to one. In the table, $r$ of the first point is the sum along
# the rows over the cells of one colour, divided by all of that colour.

# %%
weight = (table.exp() * agree.reshape(4, 4)) / by_hand.exp()  # (4, 4)
print("prior    ", [f"{v:.3f}" for v in second.exp().tolist()])
print("posterior", [f"{v:.3f}" for v in weight.sum(0).tolist()])
r = toy.posterior(pair, toy.presence, seen)  # (2, 4)
assert torch.allclose(weight.sum(0), r[1])
assert torch.allclose(weight.sum(1), r[0])

# %% [markdown]
# These are the numbers of the second point, a background point. Labels 1 and 2 are ruled out, and
# their share went to 0 and $\phi$.
#
# In the demo below you choose a picture of six hidden labels, the map that observes it, and how
# sure a network is of each label. It lists the labellings that remain, adds up their probabilities
# (0.1), and shows the posterior (0.2) of each place. With A, B and the background there are $3^6 =
# 729$ labellings.
#
# <div class="demo" data-demo="idea">On the web page you choose six hidden labels and one of the four observers. The demo lists the labellings that agree with the observation, their total probability, the bits that the label carries, and the posterior of each place. Without JavaScript, change the labels and the probabilities in the cells above and run them again.</div>
#
# ### The gradient
#
# To train the network we need the derivative of (0.1) in every logit $z_{i,l}$. We take three
# steps. Write $[\,\cdot\,]$ for 1 if the statement inside holds and 0 otherwise.
#
# *Step 1, one factor.* From $\log p_{i,m} = z_{i,m} - \log \sum_{l'} e^{z_{i,l'}}$ we get
#
# $$ \frac{\partial \log p_{i,m}}{\partial z_{i,l}} = [m = l] - \frac{e^{z_{i,l}}}{\sum_{l'} e^{z_{i,l'}}} = [m = l] - p_{i,l} . $$
#
# *Step 2, one labelling.* By **conditional independence**
# $\log P(h \mid X) = \sum_j \log p_{j,h_j}$, and $z_{i,l}$ appears only in the term $j = i$. The
# chain rule gives $\partial f = f \, \partial \log f$ for a positive function $f$, so
#
# $$ \frac{\partial P(h \mid X)}{\partial z_{i,l}} = P(h \mid X) \, \bigl( [h_i = l] - p_{i,l} \bigr) . $$
#
# *Step 3, the sum.* We differentiate the logarithm in (0.1), insert step 2, and split the bracket:
#
# $$ \begin{aligned}
# \frac{\partial \log P(o \mid X)}{\partial z_{i,l}}
# &= \frac{1}{P(o \mid X)} \sum_{h \,:\, g(h) = o} P(h \mid X) \, \bigl( [h_i = l] - p_{i,l} \bigr) \cr
# &= \frac{1}{P(o \mid X)} \sum_{h \,:\, g(h) = o, \; h_i = l} P(h \mid X) \cr
# &\quad - p_{i,l} \, \frac{1}{P(o \mid X)} \sum_{h \,:\, g(h) = o} P(h \mid X) .
# \end{aligned} $$
#
# The first term is (0.2). In the second, the sum is $P(o \mid X)$ itself and cancels. What remains
# is *Fisher's identity* for our model,
#
# $$ \frac{\partial \log P(o \mid X)}{\partial z_{i,l}} = r_{i,l} - p_{i,l} . \tag{0.3} $$
#
# The gradient is **posterior minus prior**, for every map $g$. We let autograd differentiate the
# sum for all four observers, and compare.

# %%
for name, observe in toy.OBSERVERS.items():
    z = logits.double().requires_grad_()  # (5, 4)
    toy.log_marginal(z.log_softmax(-1), observe, observe(hidden)).backward()
    fisher = toy.fisher_gradient(z.detach().log_softmax(-1), observe, observe(hidden))  # (5, 4)
    print(f"{name:8}  autograd = r - p: {torch.allclose(z.grad, fisher, rtol=0, atol=1e-12)}")

# %% [markdown]
# Six consequences:
#
# 1. Every entry lies between $-1$ and $1$, since $r$ and $p$ are probabilities. No observation
#    makes this gradient explode.
# 2. For each point the entries sum to zero: belief moves from label to label.
# 3. If the observer tells everything, $g(h) = h$, then $r_{i,l} = [h_i = l]$, and (0.3) is the
#    gradient of supervised learning, of minus the cross-entropy.
# 4. If the answer was certain, $P(o \mid X) = 1$, then knowing it changes nothing, $r = p$, and
#    the gradient is zero. **A label that could not have been otherwise teaches nothing.**
# 5. Averaged over all answers, $\sum_o P(o \mid X) \, r = p$, by the law of total probability. A
#    network that knows the true $p$ is left in peace on average, although a single bag may pull a
#    point the wrong way.
# 6. Training by (0.3) is training on soft targets $r$ that are renewed at every step. Renewed less
#    often, it is the EM algorithm of [Dempster, Laird and Rubin
#    (1977)](https://www.jstor.org/stable/2984875): (0.2) is the E-step, and cross-entropy against
#    a fixed $r$ is what the M-step minimises. The two gradients agree at the moment of the E-step.
#
# The figure shows $r - p$ for our bag. A row is a point with its hidden label, a column a label
# that gains (+) or loses (−) belief.

# %%
fig, axes = plt.subplots(1, 4, figsize=(7.2, 2.5), sharey=True)
for axis, (name, observe) in zip(axes, toy.OBSERVERS.items(), strict=True):
    moved = toy.fisher_gradient(log_p, observe, observe(hidden))  # (5, 4)
    axis.imshow(moved, cmap="PuOr", vmin=-0.7, vmax=0.7, aspect="auto")
    for i, row in enumerate(moved.tolist()):
        for l, value in enumerate(row):
            axis.text(l, i, f"{value:+.2f}", ha="center", va="center", size=7)
    axis.set(title=name, xticks=range(4), xticklabels="012φ", xlabel="label")
    axis.grid(False)
axes[0].set(
    yticks=range(5), yticklabels=["012φ"[c] for c in hidden], ylabel="point, by hidden label"
)
show.figure(
    fig,
    alt="Four tables of posterior minus prior, five points by four labels, with signs and colours."
    " Rows sum to zero. Column 1 is negative throughout. Counts and patches are equal. Under"
    " presence little moves but belief in label 1; under regions all five points gain belief in"
    " label 2, also those that are not of class 2.",
)

# %% [markdown]
# The first three observers know that class 1 is absent, and take all belief in it away. Counts and
# patches agree in every entry, as their paintings did. Regions was told "2", and every point gains
# belief in 2, whether it is one or not. A true answer can mislead about single points. Over bags
# it does not pull away from the true $p$ in the mean, by consequence 5; whether it leads a network
# there is another question, to which we come back.
#
# ## The four papers, side by side
#
# | | map $g$ | hidden | what the paper does with the sum (0.1) | cost of a bag |
# |---|---|---|---|---|
# | **presence** | the set of classes that occur | a class for each position of a feature map | **sums exactly**, by an alternating series over subsets of the label set (its Eq. 6) | $O(2^{L} n)$ for $L$ labels |
# | **counts** | the number of positives, of two classes | a class for each instance | **sums exactly**, over all labellings with $y$ positives, E-step and M-step in turn (its Eqs. 6–11) | $\binom{n}{y}$ labellings; a recursion needs $O(n\,y)$ steps |
# | **patches** | $K$, and the bag of their labels | $K$ places and sizes in a continuous image | **chooses** the top $K$ of a heat map, and lifts the choice to free variables to get a gradient (its Eqs. 1–7) | one heat map and $K$ patches |
# | **regions** | the class of the image | a mask: which pixels decide | **a surrogate**: classify the masked part, be undecided on the rest (its Eq. 6) | passes through a classifier |
#
# The first two rows are (0.1), computed in two ways. The last two are not, and we now say where
# they leave the path. First *patches*. An exact sum would run over all sets of $K$ places, and a
# place is a continuous triple of position and size. The paper keeps one set, the best: a maximum
# in place of the sum. A choice has no derivative, so the places become free variables; they move
# down the gradient of the task loss, and the heat map is regressed onto where they went (its
# Algorithm 1). For classification the task loss is a squared distance between the mean label
# vector and the mean softmax (its Eq. 9). This is not $-\log P$, as two patches show that should
# be one of class 0 and one of class 1:

# %%
bags = torch.tensor([[[0.999, 0.001], [0.001, 0.999]], [[0.5, 0.5], [0.5, 0.5]]])  # (2, 2, 2)
one_each = toy.counts(torch.tensor([[0, 1], [0, 1]]), k=2)  # (2, 2)
squared = (bags.mean(1) - 0.5).square().sum(-1)  # (2,)
minus_log = -toy.log_marginal(bags.log(), lambda h: toy.counts(h, k=2), one_each)  # (2,)
for name, loss in (("squared distance of means", squared), ("-log P(bag of labels)", minus_log)):
    print(f"{name:26} sure: {loss[0]:.3f}   undecided: {loss[1]:.3f}")

# %% [markdown]
# Both losses are satisfied by a network that is sure. Only the second objects to one that is
# undecided about every patch: it charges $\log 2$.
#
# Now *regions*. If an image has one class $c$ and its pixels are independent, the exact sum is
# short: over all masks that are not empty, masked pixels emit $c$ and the others $\phi$. That is
# the presence likelihood of the one-label set $\{c\}$, as the cell shows. The paper does not
# compute it. Its classifier sees the whole masked part at once, so no product over pixels exists,
# and its mask is computed instead of summed over. Two terms stand in for the sum: cross-entropy to
# the label on the masked part, and cross-entropy to the uniform distribution on the rest. The
# second is an assumption about what "undecidable" means and does not follow from $g$. By Appendix
# A.2 of the paper the mask is detached from the graph, so neither term reaches the mask through
# its own values.

# %%
pixels = log_p.T[None]  # (1, 4, 5): our five points as an image with one class, say 2
masks = toy.labellings(5, 2)[1:]  # (31, 5), all but the empty mask
each = torch.where(masks == 1, log_p[:, 2], log_p[:, 3]).sum(-1)  # (31,): log P of a mask
only_2 = torch.tensor([[False, False, True]])
assert torch.allclose(each.logsumexp(0), presence.log_likelihood(pixels, only_2)[0])

# %% [markdown]
# So one identity carries two of the methods and is the yardstick for the other two.
#
# ## Code
#
# The whole chapter in a few lines: a network, an observer, and (0.1) as the loss. Between the runs
# below only `observe` changes. `train.fit` is the training loop of the whole book; here an epoch
# is one step on all bags.


# %%
def network(seed):
    torch.manual_seed(seed)
    layers = torch.nn.Linear(2, 32), torch.nn.Tanh(), torch.nn.Linear(32, toy.CLASSES)
    return torch.nn.Sequential(*layers)


def fit(model, loss, steps=120):
    optimizer = torch.optim.Adam(model.parameters(), lr=0.03)
    train.fit(model, loss, lambda epoch: [None], optimizer, epochs=steps)
    return model


def learn(observe, points, labels, seed):
    observed = observe(labels)  # (B, d): all that the learner gets to know

    def loss(model, _):
        return -toy.log_marginal(model(points).log_softmax(-1), observe, observed).mean()

    return fit(network(seed), loss)


# %% [markdown]
# `observed` is the only use of the labels; after that line they are gone. The reference is the
# observer that tells all, which by consequence 3 is supervised learning. We draw 10, 30 and 100
# bags of four points, three times each, train one network for each observer, and measure how many
# of 4000 new points get their right label. Patches is left out: its painting, and so its
# likelihood, is that of counts.
#
# For a bag of four points the sum has $4^4 = 256$ terms. That is the price of enumeration, and the
# reason for the next chapters: with the 16 positions of a small feature map and eleven labels it
# would have $11^{16}$.

# %%
test_points, test_labels = toy.world(4000, 1, torch.Generator().manual_seed(99))


def accuracy(model):
    with torch.no_grad():
        return (model(test_points).argmax(-1) == test_labels).float().mean().item()


observers = {
    "all labels": lambda h: h,
    "counts": toy.counts,
    "presence": toy.presence,
    "regions": toy.regions,
}
sizes, scores = (10, 30, 100), {}
for name, observe in observers.items():
    for n_bags in sizes:
        worlds = [toy.world(n_bags, 4, torch.Generator().manual_seed(seed)) for seed in range(3)]
        runs = [accuracy(learn(observe, *world, seed)) for seed, world in enumerate(worlds)]
        scores[name, n_bags] = 100 * torch.tensor(runs)  # (3,)

# %% [markdown]
# ## Picture
#
# The marks show the mean over the three draws, the thin bars their range. By the paintings we
# expect that coarser labels need more bags.

# %%
fig, axis = plt.subplots(figsize=(6.0, 3.2))
for shift, name in enumerate(observers):
    runs = torch.stack([scores[name, n] for n in sizes])  # (3, 3)
    mean, low, high = runs.mean(1), runs.min(1).values, runs.max(1).values
    x = [n * (1 + 0.05 * (shift - 1.5)) for n in sizes]
    axis.errorbar(x, mean, torch.stack((mean - low, high - mean)), elinewidth=0.8, label=name)
axis.set(xscale="log", xticks=sizes, xticklabels=sizes, xlabel="training bags of 4 points")
axis.set(ylabel="single points classified right / %")
axis.minorticks_off()
axis.legend(title="the learner is told")
show.figure(
    fig,
    alt="Accuracy on single points against the number of training bags, for four kinds of labels."
    " All rise. Counts lies close to full supervision, regions is lowest, presence lies between"
    " them from 30 bags on; with a hundred bags all four have come close together.",
)

# %% [markdown]
# Three of the four learners never saw the label of a single point, and all of them classify single
# points. They pay in bags: counts is hard to tell from full supervision, regions pays most. (With
# 10 bags, three draws do not separate presence from full supervision either.)
#
# ## When it breaks
#
# Consequence 4 is not a curiosity. Let the bags grow. With 64 points every class is almost surely
# somewhere in the bag. The presence set is full, everybody knew that before, and (0.3) is nearly
# zero. Li says the same in section 5.4: if every class occurs in every training sample, nothing
# can be learned. There is a second reason. If all sets are full, (0.1) stays the same when two
# foreground classes swap their names, so no number of bags tells the learner which is which.
#
# A bag of 64 points has $4^{64}$ labellings, so we take the formula of the next chapters, after a
# check against enumeration on bags of four.

# %%
four, four_labels = toy.world(50, 4, torch.Generator().manual_seed(5))
log_p4 = (-torch.cdist(four, middle).square() / 3).log_softmax(-1)  # (50, 4, 4)
observed = toy.presence(four_labels)  # (50, 3)
formula = presence.log_likelihood(log_p4.transpose(1, 2), observed)  # (50,)
assert torch.allclose(formula, toy.log_marginal(log_p4, toy.presence, observed), atol=1e-5)


# %%
def learn_presence(n, seed):
    points, labels = toy.world(64, n, torch.Generator().manual_seed(seed))
    observed, model = toy.presence(labels), network(seed)

    def log_p(model):
        return model(points).log_softmax(-1).transpose(1, 2)  # (64, 4, n)

    with torch.no_grad():
        moved = presence.posterior(log_p(model), observed) - log_p(model).exp()  # (64, 4, n)
    fit(model, lambda model, _: -presence.log_likelihood(log_p(model), observed).mean())
    return moved.abs().sum(1).mean().item() / 2, 100 * accuracy(model)


ns = (1, 4, 8, 16, 32, 64)
grown = torch.tensor([[learn_presence(n, seed) for seed in range(3)] for n in ns])  # (6, 3, 2)

# %% [markdown]
# Left: half the sum of $|r - p|$ over the labels, the share of a point's belief that the bag's
# label moves before training starts. Right: the accuracy after training on 64 bags; the dashed
# line is that of always answering "background".

# %%
fig, (moved, score) = plt.subplots(1, 2, figsize=(7.0, 2.9))
for seed in range(3):
    moved.plot(ns, grown[:, seed, 0])
    score.plot(ns, grown[:, seed, 1])
score.axhline(100 * (test_labels == 3).float().mean(), color=show.GREY, ls="--", marker="")
moved.set(ylabel="share of belief moved by the label", yscale="log")
score.set(ylabel="single points classified right / %", ylim=(0, 100))
for axis in (moved, score):
    axis.set(xscale="log", xticks=ns, xticklabels=ns, xlabel="points in a bag")
    axis.minorticks_off()
show.figure(
    fig,
    alt="Two panels against the number of points in a bag, three runs each. Left, on a logarithmic"
    " scale, the belief moved by the label falls by many powers of ten from one to 64 points."
    " Right, accuracy stays high up to eight points and is far below the dashed line at 64.",
)

# %% [markdown]
# The failure is silent. At 64 points the loss is almost zero from the first step, which is the best
# value it can have, and the classifier is worse than a constant. What little gradient there is
# leads astray, for Adam divides a gradient by its own size and makes full steps of it: for a full
# set the posterior of $\phi$ is below its prior at every point, so training never asks for
# background. Look at the labels before you train; if nearly every bag gives the same answer, expect
# nothing from it. Counts would survive here, because 11 and 9 points of a class are different
# answers.
#
# Two other assumptions can fail. If the observer errs, $g$ is the wrong map and a true bag may
# have $P(o \mid X) = 0$; exercise 5 repairs this. If the labels of neighbours depend on each
# other, the product over points counts the same evidence more than once.
#
# ## Reproduction
#
# This chapter has no published number to reproduce. The numbers of the four papers, and what has
# been reproduced of them, stand on the page [Reproductions](../book/reproductions.md). *Presence*
# is next: [chapter 1](01_presence_likelihood.ipynb) derives its likelihood, [chapter
# 2](02_presence_numerics.ipynb) makes it safe in floating point, chapters
# [3](03_presence_learning.ipynb) and [4](04_presence_reproduction.ipynb) train with it.
#
# ## Exercises
#
# **1, by hand.** Two points have $p_{1,\cdot} = (0.6, 0, 0, 0.4)$ and
# $p_{2,\cdot} = (0.5, 0, 0, 0.5)$. The observer says: class 0 occurs, and no other. Compute
# $P(o)$, $r_{1,0}$ and $r_{2,0}$. By what factor does the belief in class 0 grow at each point,
# and why is it the same factor? Replace the three numbers in the cell; each exercise below starts
# with a wrong answer and a hint.


# %%
def two_points():
    return 0.5, 0.6, 0.4  # P(o), r of the first point, r of the second


check.attempt(check.two_points, two_points)

# %% [markdown]
# **2, code.** Binary multiple-instance learning knows one bit: is there any foreground in the bag?
# Write this observer, from labels `(..., n)` to `(..., 1)`.


# %%
def any_foreground(labels):
    return (labels < 3).all(-1, keepdim=True)


check.attempt(check.any_foreground, any_foreground)

# %% [markdown]
# **3, by hand and code.** How many labellings have given counts, for example 2, 1, 0 and 1? The
# function counts all orders of all points; which orders give the same labelling?

# %%
from math import factorial


def consistent_with_counts(counts):
    return factorial(sum(counts))


check.attempt(check.consistent_with_counts, consistent_with_counts)

# %% [markdown]
# **4, code.** Someone gives you a log-likelihood as a black box, and you want its E-step. By (0.3)
# one backward pass is enough. Return $r$ of shape `(n, k)`.


# %%
def posterior_by_autograd(logits, observe, observed):
    logits = logits.requires_grad_()
    toy.log_marginal(logits.log_softmax(-1), observe, observed).backward()
    return logits.grad


check.attempt(check.posterior_by_autograd, posterior_by_autograd)

# %% [markdown]
# **5, change an assumption.** The observer errs: with probability $\varepsilon$ it tells one of
# the $A$ possible answers, drawn uniformly, instead of $g(h)$. Express the probability of what it
# tells by (0.1). Show that the gradient becomes $w \, (r - p)$ with a weight $w$ between 0 and 1,
# and find $w$. For which bags is it small, and what does this do to a mislabelled bag?
#
# **6, explain to a colleague.** Your colleague trains on the presence labels of large photographs.
# Sky, ground and people are in almost all of them. The loss falls to nearly zero in the first
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
#   instance annotation in multi-instance multi-label learning*: the presence map with EM, in time
#   linear in the size of the bag.
# - [Dempster, Laird and Rubin (1977)](https://www.jstor.org/stable/2984875), *Maximum likelihood
#   from incomplete data via the EM algorithm*: the source of the E-step and the M-step.
