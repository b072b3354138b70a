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
# # Patches: places that move
#
# After this page you can train a network that finds digits from bags of labels alone, tell what a
# detection rate means by its chance level, and say what seven other ways to train a choice cost and
# what they learn on the same task. You need [chapter 8](08_patches_lifting.ipynb). The page runs in
# a minute on one CPU core and needs no GPU.
#
# ## Problem
#
# Chapter 8 ends with an algorithm that is no descent, moves places by a pixel, and reinforces
# whatever it has chosen. [Angles, Jin et al. (2021)](https://arxiv.org/abs/1811.10725) report that
# it finds 97.8 % of nine digits (their Table 2). Does it learn, where we can watch? And would
# something simpler?

# %%
from functools import partial

import matplotlib.pyplot as plt
import torch
from matplotlib.patches import Rectangle
from torch import nn
from torch.nn import functional as F

from wsl_tutorial import check, metrics, patches, show, train
from wsl_tutorial.data import digits

show.style()

# %% [markdown]
# ## What is hidden
#
# Our world: canvases of 30 x 30 pixels with three handwritten digits of 8 x 8 pixels at random
# places, without overlap. Of a canvas we keep how often each digit occurs, nothing else. Test
# canvases hold digits of other writers, and there we keep the places too, to measure.

# %%
SIZE, K, SIDE, PATCH = 30, 3, 10.0, 10  # canvas, places, side of a box, samples across a patch


def canvases(split, n, seed, **how):
    generator = torch.Generator().manual_seed(seed)
    return digits.canvases(*digits.load(split), n, SIZE, generator, **{"k": (K, K), **how})


# %%
world, test = canvases("train", 1500, seed=0), canvases("test", 200, seed=1)
true = test["places"].clone()  # (200, 3, 3)
true[..., 2] = SIDE  # a digit of 8 pixels with a margin of one

# %%
fig, axes = plt.subplots(1, 5, figsize=(7.2, 1.8))
for axis, image, classes in zip(axes, world["images"], world["classes"], strict=False):
    axis.imshow(image[0], cmap="gray_r")
    axis.set(xticks=[], yticks=[], title=" ".join(map(str, sorted(classes.tolist()))))
    axis.spines[:].set_visible(True)
    axis.grid(False)
show.figure(
    fig,
    alt="Five square canvases, each with three small handwritten digits at random places; above"
    " each its three labels, sorted.",
)

# %% [markdown]
# ## Derivation
#
# ### What counts as found
#
# A digit is found if a box overlaps its true box with an *IoU* (intersection over union) above one
# half. The release counts true boxes that *any* detection overlaps so; one detection may serve
# several. The fair count is a *matching*, one to one. For labels, the release counts the true
# labels that occur among the guesses, with multiplicity, wherever they are, and forgives missing
# zeros; the paper calls it "Classif.", and we count all classes. "Both" asks for a box and its
# label.
#
# What does ignorance score? The next cell takes places and labels of *other* canvases: right in
# number, size and spread, and without any relation to the image.


# %%
def measure(places, guess, truth=test):
    """Rates in % of places (B, K, 3) and guessed labels (B, K) on the test canvases."""
    boxes = truth["places"].clone()
    boxes[..., 2] = SIDE
    iou = metrics.box_iou(metrics.boxes(places), metrics.boxes(boxes))  # (B, K, L)
    return {
        "found": metrics.detected(iou, truth["classes"] >= 0),
        "matched": metrics.matched(iou, truth["classes"] >= 0),
        "labels": metrics.label_recall(guess, truth["classes"], 10),
        "both": metrics.detected_and_classified(iou, guess, truth["classes"]),
    }


# %%
chance = measure(true.roll(1, 0), test["classes"].roll(1, 0))
print("by chance:", {name: f"{rate:.0f} %" for name, rate in chance.items()})
for k in (1, 3, 9):
    guess, truth = torch.randint(10, (2, 20000, k), generator=torch.Generator().manual_seed(k))
    print(f"K = {k}: {metrics.label_recall(guess, truth, 10):.1f} % of the labels by luck")

# %% [markdown]
# Note the last lines. With nine labels out of ten classes each, independent guesses contain almost
# half of the true labels, because a bag of nine labels shares much with any other (53 % as the
# release counts: [chapter 10](10_patches_reproduction.ipynb)). In the paper's Table 2 the
# channel-wise baseline has "Classif." 75.5 % and "IOU 50%" 25.4 %. For an image of 80 pixels with
# nine boxes of 20, places without any relation to the image score between 23 and 29 %, depending on
# how they are laid out. **A rate without its chance level says little.**
#
# ### Other ways to train a choice
#
# Chapter 8 replaces the missing derivative of top-K by a regression onto moved places. There are
# others. Let $s_i$ be the scores of $n$ candidates.
#
# **Soft top-K.** [Xie et al. (2020)](https://arxiv.org/abs/2002.06504) let every candidate be in
# the choice to a degree $p_i$, with $\sum_i p_i = K$. They get the degrees from optimal transport
# between the scores and two anchors, by Sinkhorn's iterations. Transport to *two* anchors has one
# degree of freedom, a threshold $t$, and the answer is a closed form:
#
# $$ p_i = F\Bigl( \frac{s_i - t}{\varepsilon} \Bigr) , \qquad t \text{ such that } \sum_i p_i = K , \tag{9.1} $$
#
# with the logistic function for $F$. Other choices of $F$ are other published operators: the
# identity clipped to $[0, 1]$ is the projection onto the capped simplex ([Wang and Lu
# 2015](https://arxiv.org/abs/1503.01002)), the distribution function of a Laplace variable is LapSum
# ([Struski et al. 2025](https://arxiv.org/abs/2503.06242)), that of a normal variable is close to
# the perturbed top-K below. One bisection for $t$ serves all.


# %%
def margins(cdf, s, k, eps):
    """(s - t) / eps of Eq. (9.1) for scores (n,), by bisection."""
    low, high = s.min() - 20 * eps, s.max() + 20 * eps
    for _ in range(60):
        t = (low + high) / 2
        low, high = (t, high) if cdf((s - t) / eps).sum() > k else (low, t)
    return (s - t) / eps


# %%
shapes = {
    "logistic (Xie et al.)": torch.sigmoid,
    "clipped": lambda x: (x + 0.5).clamp(0, 1),
    "Laplace (LapSum)": torch.distributions.Laplace(*torch.tensor([0.0, 1.0])).cdf,
}


# %%
s = torch.tensor([0.98, 0.93, 0.77, 0.72, 0.66, 0.5, 0.42, 0.3, 0.22, 0.1]).double()
soft = patches.soft_top_k(s[None], K, 0.1)
assert torch.allclose(margins(torch.sigmoid, s, K, 0.1).sigmoid(), soft[0])
assert torch.allclose(patches.sinkhorn_top_k(s[None], K, 0.2, 500), soft, atol=1e-6)

# %% [markdown]
# (Sinkhorn's costs $s_i^2$ and $(s_i - 1)^2$ differ by $2 s_i - 1$, so at the temperature $2
# \varepsilon$ it is (9.1) at $\varepsilon$.) Differentiate
# $\sum_i F((s_i - t)/\varepsilon) = K$ to find $\partial t$; with $v_i = F'((s_i - t)/\varepsilon)$
# the Jacobian is
#
# $$ \frac{\partial p_i}{\partial s_j} = \frac{1}{\varepsilon} \Bigl( [i = j] \, v_i - \frac{v_i \, v_j}{\sum_l v_l} \Bigr) . $$
#
# Only candidates whose score is within a few $\varepsilon$ of the threshold learn. The figure shows
# the degrees and $v$.

# %%
fig, (a, b) = plt.subplots(1, 2, figsize=(7.2, 2.5))
for i, (name, cdf) in enumerate(shapes.items()):
    x = margins(cdf, s, K, 0.1).requires_grad_()
    style = {"color": show.COLOURS[i], "marker": show.MARKERS[i], "label": name}
    a.plot(s, cdf(x).detach(), **style)
    b.plot(s, torch.autograd.grad(cdf(x).sum(), x)[0], **style)
a.set(xlabel="score", ylabel="degree p")
b.set(xlabel="score", ylabel="slope v")
a.legend(fontsize=8)
show.figure(
    fig,
    alt="Left: degrees of membership against the score for three functions F, all rising from 0"
    " below the threshold to 1 above it. Right: their slopes v, high near the threshold and small"
    " away from it; the clipped one is one near the threshold and exactly zero elsewhere.",
)

# %% [markdown]
# Angles, Jin et al. (2021) hold against soft top-K that it takes too much memory. That is not about
# the operator, which costs $O(n)$. It is about the task: to weigh candidate $i$ by $p_i$, the task
# network must read *all* $n$ patches.
#
# **Perturbed top-K.** [Cordonnier et al. (2021)](https://arxiv.org/abs/2104.03059) add Gaussian
# noise $\sigma \xi$ to the scores, $\sigma$ its standard deviation, and average the hard choices.
# The mean is smooth, and shifting the variable of integration moves the derivative from the choice
# to the density of the noise:
#
# $$ p_i = \mathbb{E} \bigl[ \, i \in \operatorname{top}_K(s + \sigma \xi) \bigr] , \qquad \frac{\partial p_i}{\partial s_j} = \frac{1}{\sigma} \, \mathbb{E} \bigl[ [\, i \in \operatorname{top}_K(s + \sigma \xi) ] \; \xi_j \bigr] . \tag{9.2} $$
#
# The task network reads $K$ *mixtures* of patches: the chosen of every draw are put in the order of
# their index, and the first, the second, ... of all draws are averaged each by itself. The sum of
# their weights is $p_i$.
#
# **Straight-through.** Multiply the answer of patch $k$ by a gate of value 1 that has the
# derivative of the peak's height; $\mathrm{sg}$ stops the gradient:
#
# $$ \text{gate}_k = 1 + h_k - \mathrm{sg}(h_k) . \tag{9.3} $$
#
# It is biased, and says whether an answer should count more, not where to look.
#
# **REINFORCE.** Draw the places, one after the other, each from a softmax over the pixels $R_k$
# that earlier ones have not suppressed:
#
# $$ \log P(i_1, \dots, i_K) = \sum_{k=1}^{K} \Bigl( s_{i_k} - \log \sum_{j \in R_k} e^{s_j} \Bigr) . \tag{9.4} $$
#
# Since $\nabla P = P \, \nabla \log P$, the gradient of the expected loss in the scores is
# $\mathbb{E}[\ell \, \nabla \log P]$. A number subtracted from $\ell$ that does not depend on the
# draw changes nothing in the mean, since $\mathbb{E}[\nabla \log P] = \nabla \sum P = 0$, and much
# in the variance. With $M$ draws the mean of the *other* draws is such a number:
#
# $$ \nabla \, \mathbb{E}[\ell] \approx \frac{1}{M} \sum_{m=1}^{M} \Bigl( \ell_m - \frac{1}{M-1} \sum_{l \neq m} \ell_l \Bigr) \nabla \log P_m . \tag{9.5} $$
#
# It is unbiased, takes suppression into account, and reads $M K$ patches.
#
# **Channel-wise.** A heat map for each place, and its mean pixel:
#
# $$ (x_k, y_k) = \sum_i \operatorname{softmax}(a \, z^{(k)})_i \; (x_i, y_i) . \tag{9.6} $$
#
# It is differentiable. But which map takes which digit, when any may be anywhere?
#
# ## Code
#
# The heat map network is as small as one can learn: 16 templates of 9 x 9 pixels, and two layers
# that weigh them. The local softmax is (8.1) in windows of 7 x 7 pixels with strength 10, the
# scores continued beyond the border by their border values. The classifier ends in a *maximum over
# positions*: it does not care where in the patch a stroke is. That detail will matter.


# %%
def networks(seed, maps=1):
    torch.manual_seed(seed)
    heat = nn.Sequential(
        *(nn.Conv2d(1, 16, 9, padding=4), nn.ReLU(), nn.Conv2d(16, 16, 1), nn.ReLU()),
        nn.Conv2d(16, maps, 1),
    )
    task = nn.Sequential(
        *(nn.Conv2d(1, 16, 5, padding=2), nn.ReLU(), nn.Conv2d(16, 32, 5), nn.ReLU()),
        *(nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(32, 10)),
    )
    pair = nn.ModuleDict({"heat": heat, "task": task})
    return pair.to(memory_format=torch.channels_last)


# %%
def heatmap(scores):
    wide = F.pad(scores[:, None], (3, 3, 3, 3), mode="replicate")[:, 0]  # (B, H + 6, W + 6)
    return patches.local_softmax(wide, 7, 10.0)[:, 3:-3, 3:-3]  # (B, H, W)


def places_of(scores, k=K):
    return patches.extract(heatmap(scores), k, 5, SIDE)


# %%
def answers(model, images, places):
    seen = patches.sample(images, places, PATCH).flatten(0, 1)  # (B K, 1, 10, 10)
    return model["task"](seen).unflatten(0, places.shape[:2])  # (B, K, 10)


# %% [markdown]
# Now Algorithm 1, (8.11). Places move by one step of one pixel. Where the release has a rate of
# 10,000 on the mean of its batch, we take a step of fixed *length*: the scale of the loss then
# plays no role.


# %%
def lifting(model, images, told, steps=1, k=K):
    h = heatmap(model["heat"](images)[:, 0])
    start, _ = patches.extract(h.detach(), k, 5, SIDE)

    def task_loss(places):
        return patches.proportion_loss(answers(model, images, places), told)

    step = patches.lifted_step(h, start, task_loss, steps, 1.0, normalise=True)
    return (step.task + step.heat).mean()


# %%
def evaluate(model, truth=test):
    scores = model["heat"](truth["images"])
    places, _ = places_of(scores[:, 0], truth["classes"].shape[1])
    if scores.shape[1] > 1:  # channel-wise
        places = patches.soft_argmax(scores, 10.0, SIDE)
    guess = answers(model, truth["images"], places).argmax(2)
    return measure(places, guess, truth)


# %%
def learn(method, model, stretches, steps=20, data=world, evaluate=evaluate, seed=0):
    """`stretches` times `steps` steps on batches of 32; what `evaluate` says after each stretch."""

    def batches(stretch):
        g = train.generator(seed, stretch)
        for rows in torch.randint(len(data["images"]), (steps, 32), generator=g):
            yield data["images"][rows], data["counts"][rows]

    parts = ({"params": model["task"].parameters()}, {"params": model["heat"].parameters()})
    optimizer = torch.optim.Adam([parts[0] | {"lr": 5e-3}, parts[1] | {"lr": 3e-3}])

    def loss(model, batch):
        return method(model, *batch)

    return train.fit(model, loss, batches, optimizer, epochs=stretches, evaluate=evaluate)


# %% [markdown]
# ## Picture
#
# We train for 200 steps and look at two test canvases on the way.

# %%
shown, diary = test["images"][[0, 2]], []


def watch(model):
    scores = model["heat"](shown)[:, 0]
    diary.append((heatmap(scores), places_of(scores)[0]))  # (2, 30, 30), (2, 3, 3)
    return evaluate(model)


# %%
model = networks(0)
with torch.no_grad():
    before = watch(model)
curve = learn(lifting, model, stretches=20, steps=10, evaluate=watch)
print("matched, one to one: more than 80 %:", curve[-1]["matched"] > 80)
print("both, box and label: more than 60 %:", curve[-1]["both"] > 60)


# %%
def boxes(axis, places, style="-"):
    for x, y, side in places.tolist():
        at = (x - side / 2, y - side / 2)
        box = Rectangle(at, side, side, fill=False, ec=show.COLOURS[1], lw=1.3, ls=style)
        axis.add_patch(box)
    axis.set(xticks=[], yticks=[], xlim=(-0.5, SIZE - 0.5), ylim=(SIZE - 0.5, -0.5))
    axis.grid(False)


# %%
stops = (0, 1, 3, 6, 20)
fig, axes = plt.subplots(4, len(stops), figsize=(7.2, 5.9))
for column, stop in zip(axes.T, stops, strict=True):
    maps, places = diary[stop]
    column[0].set_title(f"step {10 * stop}")
    for i in range(2):
        column[2 * i].imshow(shown[i, 0], cmap="gray_r")
        boxes(column[2 * i], places[i])
        column[2 * i + 1].imshow(maps[i], vmin=0, vmax=0.4)
        boxes(column[2 * i + 1], places[i, :0])
show.figure(
    fig,
    alt="Two canvases and their heat maps in five columns, from step 0 to step 200. At first the"
    " boxes stand beside digits and overlap, and the heat maps are nearly flat. After some tens of"
    " steps each digit has a box of its own. At the end a bright spot of a few pixels stands in the"
    " middle of every digit, with the box around it.",
)

# %% [markdown]
# This is the picture of the chapter. Nobody said where a digit is; after some tens of steps the
# boxes have gone to the digits. The map is dark with a few bright pixels in the middle of each
# digit. It is not the ideal map, one dot each, since its targets move by a pixel in every step and
# a box is as good a pixel further. Note the order of events: places first, names later. The next
# figure has the curves.

# %%
fig, axis = plt.subplots(figsize=(6.0, 3.0))
steps = range(0, 201, 10)
for i, name in enumerate(("matched", "labels", "both")):
    rates = [before[name], *(point[name] for point in curve)]
    axis.plot(steps, rates, color=show.COLOURS[i], marker=show.MARKERS[i], label=name)
    axis.axhline(chance[name], color=show.COLOURS[i], ls=":", lw=1, marker="")
axis.set(xlabel="step", ylabel="of the test digits / %", ylim=(0, 100))
axis.legend(title="dotted: by chance")
show.figure(
    fig,
    alt="Three rates against the training step. The matched boxes rise above 80 percent within some"
    " tens of steps; the labels and both follow more slowly and end below them. Dotted lines show the"
    " chance levels, far below.",
)

# %% [markdown]
# ### Eight ways on one task
#
# Now the others, with the same networks, seeds, batches and number of steps, and the same rule at
# test time (local softmax, suppression, top-K; (9.6) for the channels). Two controls come first.
# *Frozen* never trains the heat map. *Self-training* is the lifting with steps of length zero: the
# network is trained on its own choice.


# %%
def self_training(model, images, told):
    return lifting(model, images, told, steps=0)


def frozen(model, images, told):
    with torch.no_grad():
        places, _ = places_of(model["heat"](images)[:, 0])
    return patches.proportion_loss(answers(model, images, places), told).mean()


def straight_through(model, images, told):
    places, values = places_of(model["heat"](images)[:, 0])
    gate = patches.straight_through(torch.ones_like(values), values)  # (B, K)
    p = answers(model, images, places).softmax(2) * gate[..., None]
    return patches.proportion_distance(p.mean(1), told).mean()


# %%
generator = torch.Generator().manual_seed(0)


def reinforce(model, images, told, draws=4):
    scores = 10 * model["heat"](images)[:, 0]  # the strength of the local softmax
    drawn = [patches.draw_places(scores, K, 5, SIDE, generator) for _ in range(draws)]
    z = answers(model, images, torch.cat([places for places, _ in drawn], 1))
    losses = torch.stack([patches.proportion_loss(part, told) for part in z.split(K, 1)])
    log_p = torch.stack([log_p for _, log_p in drawn])  # (draws, B)
    return patches.reinforce(losses, log_p).mean()


def channel_wise(model, images, told):
    places = patches.soft_argmax(model["heat"](images), 10.0, SIDE)
    return patches.proportion_loss(answers(model, images, places), told).mean()


# %% [markdown]
# The two that weigh candidates get a grid of 7 x 7 candidates, four pixels apart.

# %%
grid = torch.arange(3, SIZE, 4.0)  # (7,)
rows, columns = torch.meshgrid(grid, grid, indexing="ij")
cells = torch.stack([columns, rows, torch.full_like(rows, SIDE)], -1).view(1, -1, 3)  # (1, 49, 3)


def soft_top_k(model, images, told):
    scores = model["heat"](images)[:, 0, 3::4, 3::4].flatten(1)  # (B, 49)
    degree = patches.soft_top_k(scores, K, 0.1)
    p = answers(model, images, cells.expand(len(images), -1, -1)).softmax(2)  # (B, 49, 10)
    return patches.proportion_distance((degree[..., None] * p).sum(1) / K, told).mean()


def perturbed_top_k(model, images, told):
    scores = model["heat"](images)[:, 0, 3::4, 3::4].flatten(1)
    low, high = scores.amin(1, keepdim=True), scores.amax(1, keepdim=True)
    chosen = patches.perturbed_top_k((scores - low) / (high - low), K, 0.05, 50, generator)
    seen = patches.sample(images, cells.expand(len(images), -1, -1), PATCH)
    mixed = torch.einsum("bkn,bncij->bkcij", chosen, seen)  # (B, K, 1, 10, 10)
    z = model["task"](mixed.flatten(0, 1)).unflatten(0, chosen.shape[:2])
    return patches.proportion_loss(z, told).mean()


# %%
ways = {  # and how many patches the classifier reads for an image and a step
    "frozen": (frozen, K),
    "self-training": (self_training, K),
    "lifting": (lifting, 2 * K),
    "straight-through": (straight_through, K),
    "REINFORCE": (reinforce, 4 * K),
    "soft top-K": (soft_top_k, 49),
    "perturbed top-K": (perturbed_top_k, K),
    "channel-wise": (channel_wise, K),
}


# %%
results = {}
for name, (method, _) in ways.items():
    start = networks(0, maps=K if name == "channel-wise" else 1)
    results[name] = learn(method, start, stretches=2, steps=80)[-1]

# %% tags=["nbval-ignore-output"]
rates, said = ("matched", "labels", "both"), []
for name, of in (results | {"chance": chance}).items():
    said.append(f"{name} " + ", ".join(f"{of[rate]:.0f}" for rate in rates))
fig, axis = plt.subplots(figsize=(7.2, 3.4))
for i, rate in enumerate(rates):
    values = [results[name][rate] for name in ways]
    style = {"color": show.COLOURS[i], "marker": show.MARKERS[i], "ls": ""}
    axis.plot(values, range(len(ways)), ms=8, label=rate, **style)
    axis.axvline(chance[rate], color=show.COLOURS[i], ls=":", lw=1)
names = [f"{name} ({n} patches)" for name, (_, n) in ways.items()]
axis.set(yticks=range(len(ways)), yticklabels=names, xlim=(0, 100), ylim=(7.5, -0.5))
axis.set(xlabel="of the test digits / %, after 160 steps")
axis.legend(bbox_to_anchor=(1, 1), title="dotted: by chance")
show.figure(
    fig,
    alt="Matched boxes, labels and both of eight methods as dots on a scale from 0 to 100 percent,"
    " with the patches each reads for a step, and dotted lines for chance. In percent: "
    f"{'; '.join(said)}.",
)

# %%
centres = patches.soft_argmax(start["heat"](test["images"]), 10.0, SIDE)[..., :2]  # of the channels
lead = max(results["channel-wise"][rate] - chance[rate] for rate in rates)
print("channel-wise, no rate 5 points above chance:", lead < 5)
print(
    "its places spread less than half as far as the digits:",
    bool(centres.std() < true[..., :2].std() / 2),
)

# %% [markdown]
# The dots are of one training, and another processor ends elsewhere. Look at the labels first.
# Nearly everybody is far above chance, even with a random heat map: a classifier can learn from
# patches that show a part of a digit in a way that repeats. The boxes are where the methods part.
#
# - **Self-training alone goes a long way.** The shared network regresses what recurs, and digits
#   recur. It may keep an offset that it began with; with some seeds it finds the centres by itself.
#   Run the cell with others: its labels change little, its boxes much.
# - **Moving the places turns an offset into a centre**, so lifting has better boxes than
#   self-training. It has a price: the classifier learns at places that have moved to please it and
#   is tested at places that have not, and its labels come later. In *both* it is about where
#   self-training is, and behind soft and perturbed top-K.
# - **Straight-through** has a signal about which patch should count, not where a better one is. It
#   can read the labels well from boxes that match no digit.
# - **Soft top-K** learns well, and reads many times the patches. **REINFORCE** is slow to start: it
#   has no gradient to follow, only luck to repeat. **Perturbed top-K** reads mixtures of patches
#   until its choice is sure.
# - **Channel-wise** is no better than chance in this run. With digits anywhere, nothing says which
#   map takes which digit. The maps stay nearly flat, and the mean pixel of a flat map is the middle
#   of the canvas, whatever the canvas shows. That is this start and these 160 steps, no law: with
#   other seeds and more steps it can leave chance, and on other canvases and with a larger network
#   it does: see the record `mist/three-channel-wise`, of the short protocol, in
#   [chapter 10](10_patches_reproduction.ipynb).
#
# One run of 160 steps on easy canvases ranks nobody: a start that differs in the sixth digit can
# move the boxes of REINFORCE by tens of points. The experiments of the reproduction use the paper's
# canvases and several seeds.
#
# ## When it breaks
#
# ### A place beside the digit
#
# The task decides what a place *is*. Take the maximum over positions out of the classifier, so that
# it reads strokes where they are. Now an offset is a habit that the two networks can share: the
# classifier learns digits as they look two pixels off, and at that offset the places have no reason
# to move.


# %%
def rigid(seed):
    pair = networks(seed)
    layers = (nn.Flatten(), nn.Linear(PATCH**2, 64), nn.ReLU(), nn.Linear(64, 10))
    pair["task"] = nn.Sequential(*layers)
    return pair


# %% [markdown]
# ### A wrong number, and digits that overlap
#
# We also train with $K = 5$ places for three digits, and on canvases where digits may overlap. At
# test time all are asked for three places.

# %%
crowded = {name: canvases(name, n, 2, overlap=True) for name, n in (("train", 1500), ("test", 200))}


# %%
five = partial(lifting, k=5)
cases = {
    "as above": results["lifting"],
    "reads by position": learn(lifting, rigid(0), 2, 80)[-1],
    "K = 5 for three": learn(five, networks(0), 2, 80)[-1],
    "digits overlap": learn(
        lifting, networks(0), 2, 80, crowded["train"], lambda m: evaluate(m, crowded["test"])
    )[-1],
}

# %%
fig, axis = plt.subplots(figsize=(6.4, 2.4))
for i, rate in enumerate(("found", "matched", "labels", "both")):
    style = {"color": show.COLOURS[i], "marker": show.MARKERS[i], "ls": "", "ms": 8}
    axis.plot([case[rate] for case in cases.values()], range(len(cases)), label=rate, **style)
axis.set(yticks=range(len(cases)), yticklabels=cases, xlim=(0, 100), ylim=(len(cases) - 0.5, -0.5))
axis.set(xlabel="of the test digits / %, after 160 steps")
axis.legend(bbox_to_anchor=(1, 1))
show.figure(
    fig,
    alt="Rates of four cases as dots. As above: most boxes match. A classifier that reads by"
    " position matches fewer boxes and reads fewer labels. With five places for three digits, and"
    " where digits overlap, all rates are lower.",
)

# %% [markdown]
# With the rigid classifier fewer boxes match and fewer labels are right, some of them by luck. A
# wrong $K$ is legal, since both sides of (8.10) are proportions: two of the five places look at
# something else, or twice at the same digit. But five sure answers never have the shares 1/3, 1/3,
# 1/3: the loss of a perfect reader is at least 0.027, and it asks the classifier to be unsure. The
# paper reports a loss of at most 2.1 points of average precision where the number of digits varies
# and $K$ is fixed (Table 5). Where digits overlap, a centre may lie in the window around another, and
# the assumption of chapter 8 breaks.
#
# In the demo below you choose K, the window of suppression, the gap between three digits, and the
# height of a bump where no digit is. It counts the digits that are found and the places that find
# no digit of their own.
#
# <div class="demo" data-demo="extraction">On the web page stands a heat map with three digits and one false bump. You choose K, the window of suppression, the gap between the digits and the height of the false bump; the demo shows the places that are extracted, the digits found and the digits missed. Without JavaScript, change K in the cells above and run them again.</div>
#
# ### Several sizes
#
# One heat map has one side for all boxes. Two boxes with one centre and the sides $a < b$ have the
# IoU $a^2 / b^2$. So a fixed side can only find objects within a factor $\sqrt 2$ of it, wherever
# the places go.

# %%
sides = torch.tensor([5.0, 6.0, 7.0, 7.1, 8.0, 10.0, 12.0, 14.0, 14.2, 16.0])
drawn = metrics.boxes(F.pad(sides[:, None, None], (2, 0)))  # centre 0, (10, 1, 4)
ours = metrics.boxes(torch.tensor([[[0.0, 0.0, SIDE]]]).expand(10, 1, 3))
iou = metrics.box_iou(ours, drawn)[:, 0, 0]
print("sides that a box of 10 finds:", [f"{s:g}" for s in sides[iou > 0.5]])

# %% [markdown]
# The paper describes heat maps at several scales with (8.6), and its places move with their sides;
# the release has one scale. Two scales, 8 and 16, on an image with one large digit: the map says 8,
# the task is (8.5) with $\tau = 1$, and the side takes steps of a pixel.

# %%
large = F.pad(F.interpolate(digits.load("test")[0][1:2], 14, mode="bilinear"), (6, 4, 4, 6))
scales, trace = torch.tensor([8.0, 16.0]), []
eta = patches.ideal_heatmap(torch.tensor([[[11.0, 13.0, 8.0]]]), (24, 24), scales)


def missed(places):
    return patches.reconstruction_loss(large, patches.sample(large, places, 16), places)


# %%
for _ in range(24):
    h = eta.clone().requires_grad_()
    places, _ = patches.extract(eta, 1, 3, scales)
    trace.append((places[0, 0, 2].item(), missed(places).item()))
    steps = {"normalise": True, "side_lr": 1.0, "scales": scales}
    lifted = patches.lifted_step(h, places, missed, 1, 0.6, **steps)
    (slope,) = torch.autograd.grad(lifted.heat.sum(), h)
    eta = eta - slope * h.numel() / 4  # half-way to the ideal map
(side, loss), (last_side, last_loss) = trace[0], trace[-1]
print(f"side at first {side:.0f}; at last more than 12:", last_side > 12)
print("the loss fell to less than a third:", last_loss < loss / 3)

# %% [markdown]
# The box grows over the digit, whose tile has 14 pixels. What the steps on the side need is a
# target that can say it: (8.7) splits the peak between the two scales, and the moment (8.6) reads
# it back.
#
# ## Reproduction
#
# The experiments `mist/*` train the paper's networks on canvases made as the paper describes: nine
# digits on 80 x 80 pixels, three digits, reconstruction, Gabor noise, and the baselines.
# [Chapter 10](10_patches_reproduction.ipynb) tells which have run, and what came out.
#
# ## Exercises
#
# **1, by hand.** There are two classes, all labels are independent and uniform, and so are the
# guesses. Which share of the labels is among the guesses by luck, in the mean, for $K = 1$ and for
# $K = 2$? Why does it grow with $K$?


# %%
def lucky_labels():
    return 0.5, 0.5  # for K = 1 and K = 2


check.attempt(check.lucky_labels, lucky_labels)

# %% [markdown]
# **2, code.** Write (9.1) for scores `(n,)` and any increasing function `cdf` from 0 to 1: the
# degrees of membership that sum to `k`. The attempt has no threshold.


# %%
def soft_member(scores, k, temperature, cdf):
    p = cdf(scores / temperature)
    return k * p / p.sum()


check.attempt(check.soft_member, soft_member)

# %% [markdown]
# **3, code.** Return the factors before $\nabla \log P_m$ in (9.5), for losses `(M,)`, without the
# $1/M$. The attempt subtracts the mean of all draws. By which factor is its gradient too small in
# the mean?


# %%
def leave_one_out(losses):
    return losses - losses.mean()


check.attempt(check.leave_one_out, leave_one_out)

# %% [markdown]
# **4, change the observer.** An image holds at most $K$ objects, and `counts` `(B, C)` tells them.
# The paper adds a class, the background, for places without an object (PASCAL + COCO); let it be
# class 0. Return the counts `(B, C+1)` that $K$ places should show.


# %%
def with_background(counts, k):
    spare = torch.full((len(counts), 1), k)
    return torch.cat([spare, counts], 1)


check.attempt(check.with_background, with_background)

# %% [markdown]
# **5, by hand.** Two true boxes, and a detection that overlaps both with IoU 0.6, and a second
# detection far away. Compute "found" and "matched". Can the second exceed the first?
#
# **6, explain to a colleague.** Your colleague has a weakly supervised detector whose labels are
# right in 85 of 100 cases, and concludes that it looks at the objects. Explain in three sentences
# what else it may be doing, and which two numbers you would ask for.
#
# ## Further reading
#
# - [Angles, Jin et al. (2021)](https://arxiv.org/abs/1811.10725), section 5.
# - [Xie et al. (2020)](https://arxiv.org/abs/2002.06504), *Differentiable top-k with optimal
#   transport*.
# - [Cordonnier et al. (2021)](https://arxiv.org/abs/2104.03059), *Differentiable patch selection for
#   image recognition*, and [Berthet et al. (2020)](https://arxiv.org/abs/2002.08676) for its
#   gradient.
# - [Kool, van Hoof and Welling (2019)](https://arxiv.org/abs/1903.06059), *Stochastic beams and where
#   to find them*: draws without replacement.
# - [Eslami et al. (2016)](https://arxiv.org/abs/1603.08575), *Attend, infer, repeat*: places one
#   after the other, with an unknown number.
