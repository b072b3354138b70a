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
# # Presence, learned
#
# After this page you can train a network to find and read digits when the labels only list the
# digits in each picture. You can also explain how the loss of this network is related to
# cross-entropy, max-pooling, noisy-OR and CTC, and name three situations in which the labels are
# not enough to learn from. You need chapters [1](01_presence_likelihood.ipynb) and
# [2](02_presence_numerics.ipynb), and you should have trained a convolutional network once. The
# page trains three networks in forty seconds on one CPU core and needs no GPU.
#
# ## Problem
#
# The four pictures below contain two handwritten digits each, at arbitrary places that are not
# given. The title is the set of digits, so a digit that occurs twice is listed once. We want a
# network that finds and reads each digit, in pictures of any size. This is the paper's "extended
# MNIST", here with the small digits of scikit-learn.

# %%
from itertools import product

import matplotlib.pyplot as plt
import torch
from matplotlib.colors import PowerNorm
from torch.autograd import grad
from torch.nn import functional as F

from wsl_tutorial import check, models, presence, show, train
from wsl_tutorial.data import digits

show.style()

# %%
single, single_labels = digits.load("train")  # (1297, 1, 8, 8), (1297,)
unseen, unseen_labels = digits.load("test")  # (500, 1, 8, 8), (500,)

# %% tags=["hide-input"]
generator = torch.Generator().manual_seed(0)
four = digits.canvases(single, single_labels, 4, 24, generator, k=(2, 2))
fig, axes = plt.subplots(1, 4, figsize=(7.2, 2.0))
for axis, image, labels in zip(
    axes, four["images"], four["labels"], strict=True
):
    axis.imshow(image[0], cmap="gray", vmin=0, vmax=1)
    names = ", ".join(str(l) for l in labels.nonzero()[:, 0].tolist())
    axis.set(xticks=[], yticks=[], title="{" + names + "}")
    axis.grid(False)
show.figure(
    fig,
    alt="Four dark pictures of 24 by 24 pixels with two small handwritten"
    " digits each, at arbitrary places. The title of each is its set of"
    " digits.",
)

# %% [markdown]
# ## What is hidden
#
# An all-convolutional network turns a picture into a grid of positions. At each position it outputs
# eleven numbers, one for each digit and one for the background $\phi$. The hidden variable is the
# *label map*, the class of each position. The label set contains the classes that occur in it.
#
# `models.reader` is such a network with four layers. Each position sees 13 × 13 pixels, a digit and
# its surroundings, and neighbouring positions are 2 pixels apart. There is no pooling and no fully
# connected layer, so a larger picture gives a larger map. No position receives the class of another
# as an input. Given the picture, the positions are therefore independent, as **Assumption 1** of
# [Li (2018)](https://arxiv.org/abs/1811.12346) requires.

# %%
model = models.reader(torch.Generator().manual_seed(0))
print("pixels 24 x 24 -> logits", tuple(model(four["images"]).shape))
print("pixels 56 x 56 -> logits", tuple(model(torch.zeros(1, 1, 56, 56)).shape))
print("parameters", sum(p.numel() for p in model.parameters()))

# %% [markdown]
# ## Derivation
#
# The loss is minus the log-likelihood of the label set, averaged over the pictures of a batch.
#
# ### Cross-entropy: one position
#
# If the map has a single position and the bag a single label, then by (1.2)
# $\mathrm{Prb}(\{\ell\} \mid P) = (p_\ell + p_\phi) - p_\phi = p_\ell$, Eq. (12) of the paper. The
# loss is then the cross-entropy of ordinary classification.

# %%
logits = torch.randn(5, 11, 1, 1, generator=generator)
target = torch.tensor([3, 1, 4, 1, 5])
log_p = logits.log_softmax(1)
ours = -presence.log_likelihood(log_p, F.one_hot(target, 10).bool()).mean()
usual = F.cross_entropy(logits[:, :, 0, 0], target)
print(f"presence {ours:.6f}, cross-entropy {usual:.6f}")

# %% [markdown]
# ### Noisy-OR: one class, or many taken one by one
#
# With one class, $C = 1$, the label is "it occurs" or "it does not". The class is absent if no
# position emits it, with probability $\prod_j (1 - p_j) = \prod_j p_{\phi,j}$. It occurs with
# probability $1 - \prod_j (1 - p_j)$, the *noisy-OR* of binary multiple-instance learning. This is
# (1.2) for $L = \{1\}$.
#
# With more classes, $\ell$ still occurs with probability $\pi_\ell = 1 - \prod_j (1 - p_{\ell,j})$.
# It is tempting to multiply these as if the classes occurred independently: $\pi_\ell$ for each
# class in the bag, $1 - \pi_\ell$ for each other class. The product has $C \cdot MN$ factors, while
# (1.2) has $2^{|L|}$ terms. But each position emits *one* class, so the events are not independent.
# For example, two labels on a single position are impossible under the exact likelihood, but not
# under noisy-OR.
#
# If each position emits one class almost surely, both formulas give nearly 0 or nearly 1. Otherwise
# they differ. To see by how much, we multiply random logits by a *sharpness*, draw label maps from
# the resulting $P$, and print the mean *gap*: the exact log-probability of the label set minus the
# noisy-OR value.


# %%
def noisy_or(log_p, labels):
    # p = 1 would give log 0, and NaN as its gradient.
    log_p = log_p[:, :-1].double().clamp_max(-1e-12)
    absent = torch.log1p(-log_p.exp()).flatten(2).sum(-1)  # (B, C): log(1 - pi)
    present = torch.log(-torch.expm1(absent))  # (B, C): log pi
    return torch.where(labels, present, absent).sum(1)  # (B,)


# %% tags=["hide-input"]
for sharpness in (1.0, 4.0, 16.0):
    logits = torch.randn(2000, 4, 2, 2, generator=generator).double()
    logits *= sharpness
    log_p = logits.log_softmax(1)  # (2000, 4, 2, 2): 3 classes, 4 positions
    chance = log_p.exp().permute(0, 2, 3, 1).reshape(-1, 4)  # (8000, 4)
    maps = torch.multinomial(chance, 1, generator=generator)  # drawn from P
    maps = maps.reshape(2000, 4, 1)
    labels = (maps == torch.arange(3)).any(1)  # (2000, 3)
    gap = presence.log_likelihood(log_p, labels) - noisy_or(log_p, labels)
    print(f"sharpness {sharpness:4.0f}: mean gap {gap.mean():.3f} nats")

# %%
logits = torch.randn(100, 2, 6, 6, generator=generator).double()
log_p, labels = logits.log_softmax(1), torch.rand(100, 1, generator=generator)
labels = labels < 0.5  # one class: the two losses are the same
exact_one = presence.log_likelihood(log_p, labels)  # (100,)
assert torch.allclose(exact_one, noisy_or(log_p, labels))

# %% [markdown]
# Because the label sets are drawn from the exact distribution, the mean gap estimates the
# Kullback-Leibler divergence of the exact distribution from noisy-OR. It shrinks as $P$ becomes
# sharper, and is zero for one class, as the assertion checks.
#
# ### Max-pooling: the traditional loss
#
# Traditional multiple-instance learning uses only the best position. With several labels,
#
# $$ J_{\max}(L, P) = - \frac{1}{|L|} \sum_{\ell \in L} \log \max_{j} p_{\ell,j} . \tag{3.1} $$
#
# The classes outside $L$ do not appear in this loss. If $p$ is a softmax at each position, the loss
# therefore has a useless minimum. Let position 1 always emit class 1, position 2 class 2, and so on
# ($MN \ge C$ positions are enough). Then every maximum is 1, and the loss is zero for *every* label
# set, although the network ignores the picture. (Our network cannot do this in every picture: equal
# windows get equal outputs.) Under the exact likelihood the same constant output gives probability
# zero to every set but one. The paper therefore uses one softmax over all classes *and* positions
# of an image, so that raising one probability lowers all others. We compute three losses of this
# constant output for the label set $\{0, 1\}$.

# %%
constant = torch.full((1, 11, 6, 6), -40.0)
constant.flatten(2)[0, range(10), range(10)] = 40.0  # position k emits digit k
constant[:, 10] = 0.0
some = torch.arange(10)[None] < 2  # the label set {0, 1}
joint = constant.flatten(1).log_softmax(1).view_as(constant)
log_p = constant.log_softmax(1)
each = presence.max_pooling_loss(log_p, some).abs()
print(f"max-pooling, softmax at each position: loss {each:.3f}")
everything = presence.max_pooling_loss(joint, some)
print(f"max-pooling, joint softmax:            loss {everything:.3f}")
ours = -presence.log_likelihood(log_p, some).item()
print(f"exact likelihood:                      loss {ours:.0f}")

# %% [markdown]
# With the joint softmax the loss (3.1) is at least $\log |L|$, because the maxima of $|L|$ labels
# share a total probability of 1, at best $1/|L|$ each. (The constant output shares it among ten
# positions, so its loss is $\log 10 = 2.303$. Its exact loss is $8 \cdot 40$: eight positions must
# emit the background, at 40 nats each.) At the minimum of (3.1) all other probabilities are zero,
# including those of the background: the joint softmax cannot express "nothing here".
#
# The authors' code differs from the paper: its softmax runs over the *whole batch*, and it does not
# divide by $|L|$. The gradient of one picture then depends on the other pictures in its batch. To
# test this, we write both versions and turn the second of two pictures black.


# %%
def max_pooling(logits, labels):
    joint = logits.flatten(1).log_softmax(1).view_as(logits)  # as in the paper
    return presence.max_pooling_loss(joint, labels)


# %%
def max_pooling_released(logits, labels):
    log_p = logits - logits.logsumexp((0, 1, 2, 3))  # over the whole batch
    best = log_p[:, :-1].flatten(2).amax(-1)  # (B, C)
    return -best.masked_fill(~labels, 0).sum(1).mean()


# %% tags=["hide-input"]
for loss in (max_pooling, max_pooling_released):
    slopes = []
    for other in (1.0, 0.0):
        light = torch.tensor([1.0, other]).reshape(2, 1, 1, 1)
        logits = model(four["images"][:2] * light)  # (2, 11, 6, 6)
        logits = logits.detach().requires_grad_()
        slopes.append(grad(loss(logits, four["labels"][:2]), logits)[0][0])
    alone = torch.allclose(*slopes, rtol=1e-3)
    print(f"{loss.__name__}: gradient of picture 1 unchanged: {alone}")

# %% [markdown]
# ### CTC: labels in a known order
#
# If the positions form a line, connectionist temporal classification (CTC) learns from the
# *sequence* of labels. A *path* consists of one symbol for each position, a class or a *blank*,
# which plays the role of our $\phi$. To read a path, we merge equal neighbours and then drop the
# blanks: the path *collapses* to a sequence. The loss is minus the log of the total probability of
# all paths that collapse to the given sequence.
#
# Every path collapses to one sequence and has the label set of this sequence. So the presence
# likelihood is the CTC likelihood summed over all sequences with these labels, in any order and
# with any number of repeats. We check this on five positions, where a sequence has at most five
# symbols.

# %%
line = 2 * torch.randn(1, 4, 5, generator=generator)
line = line.log_softmax(1)  # (1, 4, 5): three classes and phi, five positions


def ctc(sequence):
    sizes = torch.tensor([5]), torch.tensor([len(sequence)])
    args = line.permute(2, 0, 1), torch.tensor([sequence]), *sizes
    return (-F.ctc_loss(*args, blank=3, reduction="none")[0]).exp()


# %%
sequences = [s for n in range(1, 6) for s in product((0, 2), repeat=n)]
total = sum(ctc(s) for s in sequences if set(s) == {0, 2})
labels = torch.tensor([[True, False, True]])
ours = presence.log_likelihood(line, labels).exp().item()
print(f"CTC over all sequences {total:.6f}, presence {ours:.6f}")

# %% [markdown]
# Presence needs no order, but its label cannot distinguish two 7s from one 7.
#
# ### Deciding
#
# Which digit does a picture show if we know that it shows one? The likelihood of $\{\ell\}$ is
# $\alpha_{\ell,\phi} - \alpha_\phi$, and the last term is the same for all $\ell$. So the exact
# decision is the class with the largest
#
# $$ \log \alpha_{\ell,\phi} = \sum_j \log \bigl( p_{\ell,j} + p_{\phi,j} \bigr) . \tag{3.2} $$
#
# Where $p_{\ell,j} + p_{\phi,j}$ is close to 1, its logarithm is about $p_{\ell,j} + p_{\phi,j} -
# 1$. For a trained network and the right $\ell$ this holds at nearly every position. If we use the
# approximation for all $\ell$, the sum of $p_{\phi,j} - 1$ is the same for all and does not affect
# the decision. This gives the paper's approximate rule: the class with the largest mean over the
# positions,
#
# $$ \frac{1}{MN} \sum_j p_{\ell,j} . \tag{3.3} $$
#
# For a wrong $\ell$ the approximation may be poor. Suppose that some position emits another class
# almost surely. There $p_{\ell,j} + p_{\phi,j}$ is close to 0, and (3.2) becomes very negative,
# whatever the other positions emit. But one position changes (3.3) by at most $1/MN$. To see how
# often the rules agree, we draw random maps with background logits near 0, class logits near $-2$,
# $-4$ or $-8$, and evidence for a 3 at one position.


# %%
def agreement(log_p):
    exact_rule = presence.log_alpha_scores(log_p).argmax(1)  # (B,)
    mean_rule = presence.mean_scores(log_p).argmax(1)  # (B,)
    return (exact_rule == mean_rule).float().mean()


# %% tags=["hide-input"]
for doubt in (-2.0, -4.0, -8.0):
    shape = (200, 11, 6, 6)
    logits = torch.randn(shape, generator=generator, dtype=torch.float64)
    logits[:, :10] += doubt  # the background leads
    logits[:, 3, 2, 2] += 6.0  # some evidence of a 3
    log_p = logits.log_softmax(1)
    share = 100 * agreement(log_p)
    print(f"classes near {doubt:.0f}: the rules agree on {share:.0f} % of 200")

# %% [markdown]
# With improbable classes, the other positions emit the background almost surely, so the evidence
# decides under both rules.
#
# ## Code
#
# With AdamW we train on 1,280 new pictures per epoch, made of training digits. We keep the
# network's output for one picture, `watched`, after every epoch. We also measure how many *single*
# unseen digits in the middle of a canvas are misread. The decision rule is (3.3), and for
# max-pooling the class with the largest maximum.


# %%
def exact(logits, labels):
    return -presence.log_likelihood(logits.log_softmax(1), labels).mean()


def independent(logits, labels):
    return -noisy_or(logits.log_softmax(1), labels).mean()


# %%
def error(model, pooled=False):
    logits = model(F.pad(unseen, (8, 8, 8, 8)))  # (500, 11, 6, 6)
    scores = presence.mean_scores(logits.log_softmax(1))  # (500, 10)
    if pooled:
        scores = logits[:, :10].amax((2, 3))  # (500, 10)
    wrong = scores.argmax(1) != unseen_labels  # (500,)
    return 100 * wrong.float().mean().item()


# %%
def look(model, images):
    """Return log-probabilities (B, 11, H/2, W/2), without gradient."""
    with torch.no_grad():
        return model(F.pad(images, (6, 6, 6, 6))).log_softmax(1)


# %%
EPOCHS, BATCH = 20, 32
sixteen = torch.Generator().manual_seed(16)
watched = digits.canvases(unseen, unseen_labels, 1, 32, sixteen, k=(2, 2))


def draw(generator):
    """Yield the batches of an epoch."""
    pictures = digits.canvases(
        single, single_labels, 1280, 24, generator, k=(2, 2)
    )
    images, labels = pictures["images"], pictures["labels"]
    return zip(images.split(BATCH), labels.split(BATCH), strict=True)


# %%
def learn(loss, keep=None):
    generator = torch.Generator().manual_seed(1)
    model = models.reader(generator)

    def evaluate(model):
        if keep is not None:
            keep.append(look(model, watched["images"]))
        return {"error": error(model, pooled=loss is max_pooling)}

    optimizer = torch.optim.AdamW(model.parameters(), lr=0.015)
    schedule = train.cosine(EPOCHS, 1280 // BATCH, warmup=0.15)
    curve = train.fit(
        model,
        lambda model, batch: loss(model(batch[0]), batch[1]),
        lambda epoch: draw(generator),
        optimizer,
        epochs=EPOCHS,
        schedule=schedule,
        evaluate=evaluate,
    )
    return model, [point["error"] for point in curve]


# %%
history = []
reader, curve = learn(exact, keep=history)
print("misreads fewer than 10 % of unseen single digits:", curve[-1] < 10)

# %% [markdown]
# The network reads single digits, although the training shows neither single digits nor places. Do
# the two decision rules differ here?

# %%
with torch.no_grad():
    logits = reader(F.pad(unseen, (8, 8, 8, 8)))  # (500, 11, 6, 6)
log_p = logits.log_softmax(1)
agree = bool(agreement(log_p) > 0.9)
print("the rules (3.2) and (3.3) agree on more than 90 % of the digits:", agree)

# %% [markdown]
# ## Picture
#
# ### Finding and reading
#
# We give the network larger pictures, canvases of 40 × 40 pixels with three or four unseen digits.
# A black margin of six pixels makes the map cover the whole canvas, so that position $(m, n)$ is
# centred on pixel $(2m, 2n)$. Below each canvas we draw the most probable class at each of the 20 ×
# 20 positions, with a dot for the background, as in Fig. 2 of the paper.

# %%
seed_4 = torch.Generator().manual_seed(4)
large = digits.canvases(unseen, unseen_labels, 3, 40, seed_4, k=(3, 4))
log_p = look(reader, large["images"])  # (3, 11, 20, 20)
show.figure(
    show.label_map(large["images"], log_p),
    alt="Three canvases with three or four scattered digits, and below each its"
    " label map: small clusters of one class on and beside each digit, most of"
    " them of the right class, and dots everywhere else.",
)

# %% [markdown]
# Most positions emit the background, and each cluster of other classes lies on a digit or a few
# pixels beside it. Any position whose 13 × 13 pixels contain the digit may emit it, and for the
# likelihood one such position is enough.
#
# We call a digit *found* if its class is emitted within 8 pixels of its middle. An emission (of a
# digit, not the background) is *right* if a digit of its class lies within 8 pixels.


# %% tags=["hide-input"]
def score(model, n=100):
    generator = torch.Generator().manual_seed(5)
    drawn = digits.canvases(unseen, unseen_labels, n, 40, generator, k=(3, 4))
    classes = look(model, drawn["images"]).argmax(1)  # (n, 20, 20)
    pixel = 2.0 * torch.arange(20)
    away = drawn["places"][:, :, None, :2] - pixel[:, None]  # (n, 4, 20, 2)
    close = away.abs() <= 8
    near = close[:, :, :, None, 1] & close[:, :, None, :, 0]  # (n, 4, 20, 20)
    true = drawn["classes"]  # (n, 4)
    same = true[:, :, None, None] == classes[:, None]  # (n, 4, 20, 20)
    hit, emitted = near & same, classes < 10
    found = hit.flatten(2).any(2)[true >= 0].float().mean()
    right = hit.any(1)[emitted].float().mean()
    return found, right, emitted.float().mean()


# %% tags=["hide-input"]
found, right, emitting = score(reader)
print("more than 75 % of the digits found:", bool(found > 0.75))
print("more than 75 % of the emissions right:", bool(right > 0.75))
print("fewer than 20 % of the positions emit:", bool(emitting < 0.2))

# %% [markdown]
# ### The posterior during the training
#
# To see how a network learns places from sets, we watch the posterior, the result of the E-step in
# expectation maximisation (EM). The picture `watched` contains two unseen digits. The figure shows
# the posterior (2.3) of both labels at six times during the training.

# %% tags=["hide-input"]
moments = [1, 2, 3, 5, 10, 20]
which = watched["classes"][0].tolist()
fig, axes = plt.subplots(2, 7, figsize=(7.4, 2.7))
for row, label in enumerate(which):
    axes[row, 0].imshow(watched["images"][0, 0], cmap="gray")
    axes[row, 0].set_ylabel(f"where is the {label}?")
    for axis, epoch in zip(axes[row, 1:], moments, strict=True):
        r = presence.posterior(history[epoch - 1], watched["labels"])
        drawn = axis.imshow(r[0, label], norm=PowerNorm(0.5, vmin=0, vmax=1))
        axis.set_title(f"epoch {epoch}" if row == 0 else "")
for axis in axes.flat:
    axis.set(xticks=[], yticks=[])
    axis.grid(False)
fig.colorbar(drawn, ax=axes, label="posterior", shrink=0.8)
show.figure(
    fig,
    alt="Left: a picture with two digits. Then, for each of its two labels, six"
    " maps of the posterior at epochs 1, 2, 3, 5, 10 and 20. The first maps are"
    " even where nothing is; the last are bright at a few positions on and"
    " beside the digit and dark everywhere else.",
)

# %% [markdown]
# After epoch 1 the network recognises no digit yet, and the posterior $r$ of a label is spread over
# the black places. The gradient $r - p$ raises the probability of the label a little at each of
# them. But black places look the same in pictures without the label, and there the gradient lowers
# it. The strokes of the digit occur only in pictures with the label. So $p$ becomes larger at the
# strokes than elsewhere. While $p$ is small everywhere, the posterior depends on its ratios between
# the positions (chapter 2), so it becomes large at the strokes, and then the gradient does too.
#
# In the notebook the next cell shows all epochs, with a slider.

# %% tags=["hide-input", "skip-execution", "nbval-skip"]
import ipywidgets


@ipywidgets.interact(epoch=(1, EPOCHS))
def where(epoch=1):
    r = presence.posterior(history[epoch - 1], watched["labels"])
    r = r[0, which]  # (2, 16, 16)
    fig, axes = plt.subplots(1, 2, figsize=(5.2, 2.7))
    for axis, label, one in zip(axes, which, r, strict=True):
        axis.imshow(one, norm=PowerNorm(0.5, vmin=0, vmax=1))
        axis.set(title=f"where is the {label}?", xticks=[], yticks=[])
    alt = f"The posterior of both labels after epoch {epoch}, one map each."
    show.figure(fig, alt=alt)


# %% [markdown]
# The demo below trains on one image of six positions that shows one class. The *pull* on a logit is
# minus the derivative of the loss with respect to this logit. Compare the two losses: under the
# exact likelihood the pull is the posterior minus the probability, and max-pooling, here with a
# softmax at each position, pulls on the best position only.
#
# <div class="demo" data-demo="sharpening">On the web page you can move the logits of six positions, or train them by gradient steps on the exact likelihood or on the max-pooling loss. The demo shows the probability, the posterior and the pull of each position. Without JavaScript, run the cells above with other logits.</div>
#
# ### The pixels behind a detection
#
# On which pixels is a detection based? Let position $j$ emit class $\ell$, and let $I_c$ be the
# channels of the picture. We differentiate $\log p_{\ell,j}$ with respect to the pixels:
#
# $$ G(y, x) = \sum_c \Bigl| \frac{\partial \log p_{\ell,j}}{\partial I_c(y, x)} \Bigr| . \tag{3.4} $$
#
# For each large canvas, the figure shows the window of the most probable detection, and beside it
# $G$.

# %% tags=["hide-input"]
fig, axes = plt.subplots(1, 6, figsize=(7.4, 1.6))
for b, (left, right) in enumerate(axes.reshape(3, 2)):
    best = log_p[b, :10]  # (10, 20, 20)
    label, m, n = (best == best.max()).nonzero()[0].tolist()
    padded = F.pad(large["images"][b : b + 1], (6, 6, 6, 6))  # (1, 1, 52, 52)
    slope = presence.input_gradient(reader, padded, label, (m, n))
    slope = slope[0, 6:-6, 6:-6]  # (40, 40)
    corner, edge = (2 * n - 6.5, 2 * m - 6.5), show.COLOURS[1]
    left.imshow(large["images"][b, 0], cmap="gray")
    left.add_patch(plt.Rectangle(corner, 13, 13, fc="none", ec=edge))
    right.imshow(slope / slope.max())
    left.set_title(f"a {label} here", size=9)
    right.set_title("gradient G", size=9)
for axis in axes.flat:
    axis.set(xticks=[], yticks=[])
    axis.grid(False)
show.figure(
    fig,
    alt="Three pairs: a canvas with a square around its surest detection, and"
    " the gradient of this detection in the pixels. It is zero outside a window"
    " of 13 by 13 pixels and strongest on and around the strokes of the digit.",
)

# %% [markdown]
# $G$ is zero outside the 13 × 13 pixels that the position sees, and largest on and around the
# strokes.
#
# ### The other losses, with the same number of steps
#
# We train with max-pooling (3.1) and noisy-OR on the same pictures for the same number of steps,
# and compare errors and label maps.

# %%
rivals = {
    "exact": (reader, curve),
    "max-pooling": learn(max_pooling),
    "noisy-OR": learn(independent),
}

# %% tags=["hide-input"]
fig, axis = plt.subplots(figsize=(6.4, 2.8))
for name, (_, errors) in rivals.items():
    axis.plot(range(1, EPOCHS + 1), errors, label=name, markevery=2)
axis.set(xlabel="epoch", ylabel="single digits misread / %")
axis.set(ylim=(0, 100), xticks=range(0, 21, 4))
axis.legend()
show.figure(
    fig,
    alt="Error on single unseen digits against the epoch for three losses. All"
    " start above 50 percent, fall steeply within the first ten epochs and end"
    " below 15 percent.",
)

# %% tags=["hide-input"]
fig, axes = plt.subplots(1, 4, figsize=(7.4, 2.2))
axes[0].imshow(large["images"][0, 0], cmap="gray")
for axis, (name, (rival, _)) in zip(axes[1:], rivals.items(), strict=True):
    classes = look(rival, large["images"][:1])[0].argmax(0)  # (20, 20)
    axis.set(xlim=(-0.5, 19.5), ylim=(19.5, -0.5), aspect="equal", title=name)
    for m, n in (classes < 10).nonzero().tolist():
        text = classes[m, n].item()
        axis.text(n, m, text, size=5, ha="center", va="center")
for axis in axes:
    axis.set(xticks=[], yticks=[])
    axis.spines[:].set(visible=True)
    axis.grid(False)
show.figure(
    fig,
    alt="A canvas with digits and its label map under three losses. Exact and"
    " noisy-OR emit small clusters at the digits and background elsewhere."
    " Max-pooling emits some digit at every position: there is no background at"
    " all.",
)

# %% tags=["hide-input"]
for name, (rival, errors) in rivals.items():
    found, right, emitting = score(rival)
    print(
        f"{name:12} error below 15 %: {errors[-1] < 15};",
        f"emissions mostly right: {bool(right > 0.5)}",
    )

# %% [markdown]
# The paper's supplement A reports that max-pooling misreads 5 to 10 % of single digits, against
# less than 0.4 % for the exact likelihood. We see three things.
#
# 1. Here max-pooling with the paper's joint softmax *reads* single digits too, with its own
#    decision rule, and it learns faster at first. Its error ends a little above the others. But our
#    digits have only 64 pixels and our maps 36 positions, an easy test.
# 2. Max-pooling cannot *find* digits: on the canvas above it hardly ever outputs the background.
#    The gradient of (3.1) in the logit of a background entry is the probability of this entry,
#    which is never negative. So the gradient only pushes the background down.
# 3. On this small problem noisy-OR reads and finds digits like the exact likelihood, at lower cost.
#    With two labels in a bag and a network that soon becomes certain, the two losses hardly differ.
#    But only the exact likelihood assumes, like the softmax, one class per position, and has the
#    posterior (2.3).
#
# ### Predicting the label set
#
# The same network predicts label sets. Label $\ell$ occurs, with or without other labels, with
# probability
#
# $$ \pi_\ell = 1 - \prod_j (1 - p_{\ell,j}) . \tag{3.5} $$
#
# `presence.marginals` computes $\pi_\ell$, for which noisy-OR is exact. Predicting all labels with
# $\pi_\ell > 1/2$ gives the fewest wrong labels on average. The most probable *set* may be another
# one. For example, let three positions emit A and B with probability 0.2 each. Then both $\pi$ are
# 0.49, so this rule predicts no label. But $\{A\}$ has probability 0.30, and the empty set only
# 0.22.
#
# `presence.most_probable_set` finds the most probable set exactly. A set is at most as probable as
# each of its labels. So once we know the probability of some set, we can leave out every class
# whose $\pi_\ell$ is smaller. One walk (2.1) gives the probabilities of all sets of the remaining
# classes. On 100 pictures we check that this set is at least as probable as the set of all labels
# with $\pi_\ell > 1/2$.

# %% tags=["hide-input"]
six = torch.Generator().manual_seed(6)
pictures = digits.canvases(unseen, unseen_labels, 100, 24, six, k=(2, 2))
log_p = look(reader, pictures["images"])  # (100, 11, 12, 12)
each = presence.marginals(log_p) > 0.5  # (100, 10)
best = presence.most_probable_set(log_p)  # (100, 10)
log_best, log_each = (presence.log_likelihood(log_p, s) for s in (best, each))
gain = log_best - log_each  # (100,)
print("most probable set >= set of pi > 1/2:", bool((gain > -1e-4).all()))
agree = (best == each).all(1).float().mean()
print("the two sets agree on most pictures:", bool(agree > 0.5))

# %% [markdown]
# ### Padded maps and unknown labels
#
# To put maps of different sizes into one batch, pad the small ones and pass a `mask` that is true
# where a position is real. A padded position emits the background with certainty, which is a factor
# of 1 in every product. So a padded bag has the same value, gradient and posterior as the bag
# alone.
#
# Labels may be integers: 1 for present, 0 for absent, $-1$ for *unknown*. For an unknown label we
# sum over both possibilities: a position may emit it or not, like $\phi$. So we add its
# $p_{\ell,j}$ to $p_{\phi,j}$ and leave $\ell$ out of the sets $S$ in (1.2), which needs no
# additional term. `presence.at_least(labels)` makes all labels unknown that are not present.

# %%
padded = log_p[:2].clone()  # (2, 11, 12, 12)
mask = torch.ones(2, 12, 12, dtype=torch.bool)
mask[1, :, 8:] = False
padded[1, :, :, 8:] = float("nan")  # padding may hold anything
rest = 7 * [0]
unknown = torch.tensor([[1, 1, -1, *rest], [1, -1, -1, *rest]])  # (2, 10)
value = presence.log_likelihood(padded, unknown, mask)  # (2,)

# %%
alone = presence.log_likelihood(log_p[1:2, :, :, :8], unknown[1:])
assert torch.allclose(value[1:], alone)
answers = torch.tensor([[1, 1, u, *rest] for u in (0, 1)]).bool()  # (2, 10)
both = presence.log_likelihood(log_p[:1].expand(2, -1, -1, -1), answers)
assert torch.allclose(value[0], both.logsumexp(0))

# %% [markdown]
# ## When it breaks
#
# **A class in every bag.** Suppose that a 0 occurs in each picture. A network can then emit 0
# instead of the background. This alone makes label 0 certain in every bag, and nothing is left to
# learn about zeros. In the extreme case of section 5.4 of the paper every class is in every bag.
# Then the constant output above, one class per position, gives every bag probability 1. If the
# label has probability 1, the posterior equals the prior, and the gradient is zero by (0.3).

# %%
full = torch.ones(4, 10, dtype=torch.bool)
logits = constant.double().repeat(4, 1, 1, 1)  # the same for every picture
logits.requires_grad_()
value = presence.log_likelihood(logits.log_softmax(1), full)  # (4,)
(slope,) = grad(value.sum(), logits)
print(
    f"log-likelihood {value.min().abs().item():.6f},",
    f"largest slope {slope.abs().max().item():.6f}",
)

# %% [markdown]
# **Two classes that always come together.** Suppose that 0 and 1 occur together or not at all.
# Exchange their channels in the last layer of the trained network. It now calls each 0 a 1 and vice
# versa, but no likelihood changes, because each label set contains both classes or neither. The
# data cannot distinguish the two networks.

# %% tags=["hide-input"]
swap = torch.tensor([1, 0, *range(2, 11)])
drawn = digits.canvases(unseen, unseen_labels, 400, 24, generator, k=(2, 2))
together = drawn["labels"][:, 0] == drawn["labels"][:, 1]  # (400,)
log_p = look(reader, drawn["images"])[together]
labels = drawn["labels"][together]
before = presence.log_likelihood(log_p, labels)
change = presence.log_likelihood(log_p[:, swap], labels) - before

# %% tags=["hide-input"]
zeros_and_ones = unseen_labels < 2
log_p = look(reader, unseen[zeros_and_ones])
for name, channels in (("trained", torch.arange(11)), ("exchanged", swap)):
    answers = presence.mean_scores(log_p[:, channels]).argmax(1)
    right = (answers == unseen_labels[zeros_and_ones]).float().mean() > 0.5
    print(
        f"{name:9}: reads more than half of the zeros and ones: {bool(right)}"
    )
small = change.abs().max() < 1e-5
print("change of each log-likelihood below 1e-5:", bool(small))

# %% [markdown]
# **Wrong labels.** The posterior puts a wrong label somewhere, too, so its gradient mass $\sum_j
# r_{\ell,j}$ is at least 1, and the loss of its bag has no upper limit. Exercise 5 of chapter 0
# puts the error into the model: with a small probability the observed label set is drawn at random
# from all sets. The probability of the observation is then proportional to $\mathrm{Prb} + \eta$
# with a constant $\eta$, the *floor*, and the loss becomes $-\log(\mathrm{Prb} + \eta)$. This
# multiplies the gradient of each bag by $w = \mathrm{Prb} / (\mathrm{Prb} + \eta)$.
#
# We add one wrong label to the label set of each of 400 pictures and check its mass. The figure
# shows how probable the right and the wrong sets are under the trained network, and $w$ for two
# floors. Both are far above $\eta = 0.00005$, the floor for ten classes if 5 % of the label sets are
# drawn.

# %% tags=["hide-input"]
clean = drawn["labels"]  # (400, 10)
seven = torch.Generator().manual_seed(7)
extra = (~clean).float().multinomial(1, generator=seven)  # (400, 1)
wrong = clean.scatter(1, extra, True)  # (400, 10)
log_p = look(reader, drawn["images"]).double()  # (400, 11, 12, 12)
r = presence.posterior(log_p, wrong)  # (400, 11, 12, 12)
mass = r.sum((2, 3)).gather(1, extra)  # (400, 1)
print(f"smallest gradient mass of a wrong label: {mass.min():.1f}")

# %% tags=["hide-input"]
fig, axis = plt.subplots(figsize=(6.4, 3.0))
bars = {"bins": 24, "range": (-12, 0), "alpha": 0.6, "weights": [1 / 400] * 400}
sets = {"right set": clean, "one wrong label": wrong}
for k, (name, labels) in enumerate(sets.items()):
    value = presence.log_likelihood(log_p, labels).clamp_min(-11.9)  # (400,)
    hue = {"color": show.COLOURS[k], "hatch": "/" * k}
    axis.hist(value, label=name, **bars, **hue)
x = torch.linspace(-12, 0, 100)
for eta, style in ((1e-1, "-"), (1e-3, "--")):
    w = torch.sigmoid(x - torch.tensor(eta).log())  # (100,)
    text = f"weight w, floor {eta:g}"
    axis.plot(x, w, style, color="black", marker="", label=text)
axis.set_xlabel("log Prb of the label set / nats (left end: −12 and less)")
axis.set(ylabel="share of pictures, weight w", ylim=(0, 1.05))
axis.legend(loc="upper left")
show.figure(
    fig,
    alt="Histograms of the log-likelihood of 400 pictures. With the right label"
    " set most lie within two nats of zero, with one wrong label most lie below"
    " that; the two histograms overlap. Two curves, the weights for two floors,"
    " fall off to the left, the larger floor first.",
)

# %% [markdown]
# The histograms overlap: some wrong sets are more probable than some right ones. With the large
# floor, many wrong sets get a small weight, but so do some right ones. With the small floor, only
# very improbable sets get one. The floor must be added late: at the start of training the *right*
# sets are improbable, too, so all gradients would be small.
#
# **Wrong labels with known error rates.** If the errors in the labels are independent, we can do
# better than a floor. Let $a$ be the probability that a label is observed although it does not
# occur, and $b$ the probability that it is not observed although it occurs. Let $o_\ell$ be 1 if
# label $\ell$ is observed, and 0 otherwise. The observation $o$ has the probability
#
# $$ \mathrm{Prb}(o \mid P) = \sum_{L} \mathrm{Prb}(L \mid P) \prod_{\ell} \mathrm{Prb}(o_\ell \mid [\ell \in L]) , \tag{3.6} $$
#
# where a bracket is 1 if its statement is true, and 0 otherwise. The factor of an observed label is
# $w_1 = 1 - b$ if the label occurs and $w_0 = a$ if it does not. For a label that is not observed,
# $w_1 = b$ and $w_0 = 1 - a$. In both cases the factor is $w_1 + (w_0 - w_1) \, [\ell \text{ is
# absent}]$, and (3.6) is the expectation of the product of all factors. Multiply it out: the term
# of a set $S$ takes $w_1$ from each label in $S$, and $(w_0 - w_1) \, [\ell \text{ is absent}]$
# from each label outside. All these labels are absent with probability $\alpha_{S,\phi}$. So (3.6)
# is a series like (1.2), with the factors $w_1$ and $w_0 - w_1$ instead of the signs. The series
# has $2^C$ terms. For an observed label, $w_0 - w_1 = a + b - 1$ is negative if $a + b < 1$, so the
# terms can cancel. Where they do, we compute (3.6) itself, with all $\mathrm{Prb}(L \mid P)$ from
# the walk (2.1).
#
# We take 50 of the pictures with a wrong label, and $a = b = 0.05$. The observed set can arise from
# the right set by one error, so $\mathrm{Prb}(o \mid P)$ must be at least the probability of the
# right set times that of this error. We also test whether the model of errors reduces the gradient
# mass of the wrong label.

# %% tags=["hide-input"]
a = b = 0.05
some, added = log_p[:50], extra[:50]  # (50, 11, 12, 12), (50, 1)
noisy = presence.log_likelihood_noisy(some, wrong[:50], a, b)  # (50,)
r = presence.posterior_noisy(some, wrong[:50], a, b)  # (50, 11, 12, 12)
pull = r.sum((2, 3)).gather(1, added)  # (50, 1)
one_error = torch.tensor(a * (1 - b) ** 9).log()  # nine of ten labels are right
right = presence.log_likelihood(some, clean[:50])  # (50,)

# %% tags=["hide-input"]
probable = (noisy > right + one_error - 1e-6).all()
print("Prb(o) >= Prb(right set) Prb(one error):", bool(probable))
weaker = (pull < mass[:50]).float().mean() > 0.5
print("gradient mass smaller on most pictures:", bool(weaker))

# %% [markdown]
# ## Reproduction
#
# Everything above ran on small digits and proves nothing about the paper's numbers. [Chapter
# 4](04_presence_reproduction.ipynb) compares them with ours, on MNIST, CIFAR-10, extended MNIST and
# SVHN.
#
# ## Exercises
#
# **1, by hand.** One class, two positions with $p = (0.6, 0.5)$, and the label is "it occurs".
# Compute the probability of this label under the exact likelihood, the largest $p$, which
# max-pooling uses instead, and the posterior that position 1 emits the class.


# %%
def one_class():
    return 1.1, 0.6, 0.6  # Prb, largest p, posterior of position 1


check.attempt(check.one_class, one_class)

# %% [markdown]
# **2, code.** Independent sigmoids: a network decides about each class at each position separately,
# so several classes may be emitted at one position, and $\phi$ means that none is. Write the exact
# log-likelihood of a label set from `logits (B, C, M, N)`. Take care of large logits.


# %%
def sigmoids(logits, labels):
    absent = (1 - logits.sigmoid()).flatten(2).prod(-1)  # (B, C)
    return torch.where(labels, 1 - absent, 1.0).log().sum(1)


check.attempt(check.sigmoids, sigmoids)

# %% [markdown]
# **3, code.** A row of a label map is read like a path of CTC: merge equal neighbours, then drop
# the background. Two equal digits with background between them are two digits. Write a function
# that reads a row, given as a list.


# %%
def collapse(row, background=10):
    kept = [c for c in row if c != background]
    pairs = zip(kept, [None, *kept])  # noqa: B905
    return [c for c, before in pairs if c != before]


check.attempt(check.collapse, collapse)

# %% [markdown]
# **4, code.** Write $\log(\mathrm{Prb} + \eta)$ from `log_prb (B,)`, so that its gradient is $w$,
# also for $\log \mathrm{Prb} = -1000$.


# %%
def floored(log_prb, eta):
    return log_prb.clamp_min(torch.tensor(eta).log())


check.attempt(check.floored, floored)

# %% [markdown]
# **5, change an assumption.** The only label of a picture is its *most frequent* class, as for the
# observer *regions* in chapter 0. Which label maps agree with it? Why can the likelihood not be a
# sum over subsets, each term a product over positions, as in (1.2)? What does the state of a walk
# have to remember?
#
# **6, experiment.** Train with `k=(1, 1)` in `draw`, a single digit per picture, and compare with
# two. Labels of single digits are more informative. Which network learns faster, which reads the
# large canvases better, and which learns to separate neighbouring digits?
#
# **7, explain to a colleague.** "Max-pooling reads the digits as well, so why bother with the
# sum?" Answer with one picture of this page and no formula.
#
# ## Further reading
#
# - [Graves, Fernández, Gomez and Schmidhuber (2006)](https://doi.org/10.1145/1143844.1143891),
#   *Connectionist temporal classification*: the related loss for sequences.
# - [Pathak, Shelhamer, Long and Darrell (2015)](https://arxiv.org/abs/1412.7144), *Fully
#   convolutional multi-class multiple instance learning*: max-pooling for label maps of photographs.
# - [Ilse, Tomczak and Welling (2018)](https://arxiv.org/abs/1802.04712), *Attention-based deep
#   multiple instance learning*: a pooling that the network learns.
# - [Carbonneau, Cheplygina, Granger and Gagnon (2018)](https://arxiv.org/abs/1612.03365), *Multiple
#   instance learning: a survey*: kinds of bags, labels and assumptions.
