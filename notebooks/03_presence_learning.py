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
# # Presence, learned
#
# After this page you can train a network to find and read digits from nothing but the set of
# digits in each picture, place this loss among its relatives (cross-entropy, max-pooling, noisy-OR,
# CTC), read an answer off a label map, and name three situations in which the labels cannot teach.
# You need chapters [1](01_presence_likelihood.ipynb) and [2](02_presence_numerics.ipynb), and to
# have trained a convolutional network once. The page trains three networks in forty seconds on
# one CPU core and needs no GPU.
#
# ## Problem
#
# Here are four pictures. On each, two handwritten digits lie at places of their choice, and the
# title tells which digits occur; two equal digits have one label. Nobody tells where they are. No
# picture shows a digit alone, as the usual training sets do. We want a network that finds and
# reads each digit, in pictures of any size. This is the paper's "extended MNIST", on the small
# digits that come with scikit-learn.

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

# %%
generator = torch.Generator().manual_seed(0)
four = digits.canvases(single, single_labels, 4, 24, generator, k=(2, 2))
fig, axes = plt.subplots(1, 4, figsize=(7.2, 2.0))
for axis, image, labels in zip(axes, four["images"], four["labels"], strict=True):
    axis.imshow(image[0], cmap="gray", vmin=0, vmax=1)
    names = ", ".join(str(l) for l in labels.nonzero()[:, 0].tolist())
    axis.set(xticks=[], yticks=[], title="{" + names + "}")
    axis.grid(False)
show.figure(
    fig,
    alt="Four dark pictures of 24 by 24 pixels with two small handwritten digits each, at"
    " arbitrary places. The title of each is its set of digits.",
)

# %% [markdown]
# ## What is hidden
#
# An all-convolutional network turns a picture into a grid of positions and gives eleven numbers for
# each: one for every digit, one for the background $\phi$. The hidden variable is the *label map*,
# the class of each position. The label set says which classes occur in it.
#
# `models.reader` is such a network, four layers deep. Each position sees 13 × 13 pixels, a digit
# and its surroundings, and neighbours are 2 pixels apart. There is no pooling and no full layer, so
# a larger picture gives a larger map. Given the picture the positions are independent, as
# **Assumption 1** of [Li (2018)](https://arxiv.org/abs/1811.12346) wants: no output is fed back.

# %%
model = models.reader(torch.Generator().manual_seed(0))
print("pixels 24 x 24 -> logits", tuple(model(four["images"]).shape))
print("pixels 56 x 56 -> logits", tuple(model(torch.zeros(1, 1, 56, 56)).shape))
print("parameters", sum(p.numel() for p in model.parameters()))

# %% [markdown]
# ## Derivation
#
# The loss is minus the log-likelihood of the label set, averaged over the pictures of a batch. We
# derived it in chapter 1 and computed it in chapter 2. Here we ask what it is related to, since
# each relative says something about it.
#
# ### Cross-entropy: one position
#
# If the map has a single position and the bag a single label, then by (1.2)
# $\mathrm{Prb}(\{\ell\} \mid P) = (p_\ell + p_\phi) - p_\phi = p_\ell$, Eq. (12) of the paper. The loss is
# the cross-entropy of ordinary classification. Nothing was lost by generalising.

# %%
logits = torch.randn(5, 11, 1, 1, generator=generator)
target = torch.tensor([3, 1, 4, 1, 5])
log_p = logits.log_softmax(1)
ours = -presence.log_likelihood(log_p, F.one_hot(target, 10).bool()).mean()
print(f"presence {ours:.6f}, cross-entropy {F.cross_entropy(logits[:, :, 0, 0], target):.6f}")

# %% [markdown]
# ### Noisy-OR: one class, or many taken one by one
#
# With one class, $C = 1$, the label says "it occurs" or "it does not". It occurs with probability
# $1 - \prod_j (1 - p_j)$, the *noisy-OR* of binary multiple-instance learning, and this is (1.2).
# With more classes the probability that $\ell$ occurs is still
# $\pi_\ell = 1 - \prod_j (1 - p_{\ell,j})$. A tempting loss multiplies these as if the classes occurred
# independently: $\pi_\ell$ for each class in the bag, $1 - \pi_\ell$ for each class that is not. It costs
# $C \cdot MN$ and has no $2^L$. But positions emit *one* class each, so the events are not
# independent. As probabilities the two agree when every position is nearly certain, and differ when it
# is not. (Their logarithms need not agree: two labels on a single position are impossible for the one
# and only improbable for the other.)


# %%
def noisy_or(log_p, labels):
    log_p = log_p[:, :-1].double().clamp_max(-1e-12)  # p = 1 would give log 0, and a gradient NaN
    absent = torch.log1p(-log_p.exp()).flatten(2).sum(-1)  # (B, C): log(1 - pi)
    present = torch.log(-torch.expm1(absent))  # (B, C): log pi
    return torch.where(labels, present, absent).sum(1)  # (B,)


# %%
for sharpness in (1.0, 4.0, 16.0):
    logits = sharpness * torch.randn(2000, 4, 2, 2, generator=generator).double()
    log_p = logits.log_softmax(1)  # (2000, 4, 2, 2): three classes on four positions
    chance = log_p.exp().permute(0, 2, 3, 1).reshape(-1, 4)  # (8000, 4)
    maps = torch.multinomial(chance, 1, generator=generator).reshape(2000, 4, 1)
    labels = (maps == torch.arange(3)).any(1)  # (2000, 3): label sets of maps drawn from P
    gap = presence.log_likelihood(log_p, labels) - noisy_or(log_p, labels)
    print(f"sharpness {sharpness:4.0f}: mean gap {gap.mean():.3f} nats")

# %%
log_p = torch.randn(100, 2, 6, 6, generator=generator).double().log_softmax(1)
labels = torch.rand(100, 1, generator=generator) < 0.5  # one class: the two are one loss
assert torch.allclose(presence.log_likelihood(log_p, labels), noisy_or(log_p, labels))

# %% [markdown]
# The gap is the mean information that noisy-OR ignores: the exact likelihood is the better model of
# maps drawn from $P$, and the less so, the more certain $P$ is. Keep noisy-OR in mind as a rival.
#
# ### Max-pooling: the traditional loss
#
# Traditional multiple-instance learning asks the best position only. With several labels,
#
# $$ J_{\max}(L, P) = - \frac{1}{|L|} \sum_{\ell \in L} \log \max_{j} p_{\ell,j} . \tag{3.1} $$
#
# It says nothing about the classes outside $L$. With a softmax at each position this is fatal: let
# position 1 always emit class 1, position 2 class 2, and so on. Every maximum is 1 and the loss is
# zero for *every* label set, without a look at the picture (if there are as many positions as classes,
# $MN \ge C$; with fewer, for every set that fits). The exact likelihood of the same
# constant answer is zero for every set but one. The paper therefore normalises over classes *and*
# positions together, so that mass given to one class is taken from all others.

# %%
constant = torch.full((1, 11, 6, 6), -40.0)
constant.flatten(2)[0, range(10), range(10)] = 40.0  # position k emits digit k
constant[:, 10] = 0.0
some = torch.arange(10)[None] < 2  # the label set {0, 1}
joint = constant.flatten(1).log_softmax(1).view_as(constant)
log_p = constant.log_softmax(1)
print(f"max-pooling, softmax at each position: {presence.max_pooling_loss(log_p, some).abs():.3f}")
print(f"max-pooling, softmax over everything:  {presence.max_pooling_loss(joint, some):.3f}")
print(f"presence: {-presence.log_likelihood(log_p, some).item():.0f}")

# %% [markdown]
# So normalised, (3.1) has a floor. The maxima of $|L|$ labels share a total mass of 1, so the best
# that a network can do is $1/|L|$ for each, a loss of $\log |L|$. (The constant answer above shares
# its mass among ten positions, and pays $\log 10$ for each label.) All other entries are then zero,
# those of the background among them: the joint softmax has no way to say "nothing here".
#
# What the authors' code does is different again: it divides by the sum over the *whole batch*, and
# does not divide by $|L|$. Then the pictures of a batch compete for the mass, and the gradient for
# one depends on which others were drawn with it. We write both and turn the second picture black.


# %%
def max_pooling(logits, labels):
    joint = logits.flatten(1).log_softmax(1).view_as(logits)  # as printed
    return presence.max_pooling_loss(joint, labels)


# %%
def max_pooling_released(logits, labels):
    log_p = logits - logits.logsumexp((0, 1, 2, 3))  # as coded: one sum for the batch
    best = log_p[:, :-1].flatten(2).amax(-1)  # (B, C)
    return -best.masked_fill(~labels, 0).sum(1).mean()


# %%
for loss in (max_pooling, max_pooling_released):
    slopes = []
    for other in (1.0, 0.0):
        pair = four["images"][:2] * torch.tensor([1.0, other])[:, None, None, None]
        logits = model(pair).detach().requires_grad_()  # (2, 11, 6, 6)
        slopes.append(grad(loss(logits, four["labels"][:2]), logits)[0][0])
    alone = torch.allclose(*slopes, rtol=1e-3)
    print(f"{loss.__name__}: gradient of picture 1 independent of picture 2: {alone}")

# %% [markdown]
# ### CTC: forgetting the order
#
# On a line of positions, connectionist temporal classification (CTC) learns from the *sequence* of
# labels. A path emits a class or the blank at each position; repeats are merged, then blanks
# dropped; the loss is minus the log of the summed probability of the paths that collapse to the
# given sequence. Its blank is our $\phi$.
#
# Every path collapses to one sequence, and has the label set of that sequence. So the presence
# likelihood is the CTC likelihood summed over all sequences with these labels: any order, any
# number of repeats. We check it on five positions, where a sequence has at most five symbols.

# %%
line = (2 * torch.randn(1, 4, 5, generator=generator)).log_softmax(1)  # (1, 3 classes + phi, 5)
total = torch.zeros(())
for length in range(1, 6):
    for sequence in product((0, 2), repeat=length):
        if set(sequence) == {0, 2}:
            args = torch.tensor([sequence]), torch.tensor([5]), torch.tensor([length])
            total += (-F.ctc_loss(line.permute(2, 0, 1), *args, blank=3, reduction="none")[0]).exp()
# %%
ours = presence.log_likelihood(line, torch.tensor([[True, False, True]])).exp().item()
print(f"CTC over all sequences {total:.6f}, presence {ours:.6f}")

# %% [markdown]
# CTC needs an order, so it lives on lines. Presence gives the order up and works on grids, and
# on bags without any geometry. It pays with the count: two 7s and one 7 are the same label.
#
# ### Deciding
#
# A picture known to show one digit: which? The likelihood of $\{\ell\}$ is $\alpha_{\ell,\phi} -
# \alpha_\phi$, and the last term is the same for all $\ell$. So the exact decision is the largest of
#
# $$ \log \alpha_{\ell,\phi} = \sum_j \log \bigl( p_{\ell,j} + p_{\phi,j} \bigr) . \tag{3.2} $$
#
# For a trained network $p_{\ell,j} + p_{\phi,j}$ is close to 1 at nearly every position if $\ell$ is the
# right answer. Insert $\log z = (z - 1) + O((z-1)^2)$, and drop the terms without $\ell$. What
# remains is the mean over the positions,
#
# $$ \frac{1}{MN} \sum_j p_{\ell,j} , \tag{3.3} $$
#
# the paper's approximate rule. The two part where some position emits a third class with
# confidence: (3.2) then punishes every $\ell$ but that one, without bound; (3.3) does not mind.

# %%
for doubt in (-2.0, -4.0, -8.0):
    logits = torch.randn(200, 11, 6, 6, generator=generator, dtype=torch.float64)
    logits[:, :10] += doubt  # the background leads
    logits[:, 3, 2, 2] += 6.0  # some evidence of a 3
    log_p = logits.log_softmax(1)
    same = presence.log_alpha_scores(log_p).argmax(1) == presence.mean_scores(log_p).argmax(1)
    print(f"classes near {doubt:.0f}: the rules agree on {100 * same.float().mean():.0f} % of 200")

# %% [markdown]
# ## Code
#
# We train on 1,280 new pictures an epoch, drawn from the training digits, with AdamW and a learning
# rate that rises and falls. The loop is `train.fit`; the loss is one line. To see what the network
# believes while it learns, we keep its answer to one picture after every epoch. And we measure,
# though training never sees such a picture, how many *single* unseen digits in the middle of a
# canvas are misread under (3.3), or, for max-pooling, under its own rule, the largest maximum.


# %%
def exact(logits, labels):
    return -presence.log_likelihood(logits.log_softmax(1), labels).mean()


def independent(logits, labels):
    return -noisy_or(logits.log_softmax(1), labels).mean()


# %%
def error(model, pooled=False):
    logits = model(F.pad(unseen, (8, 8, 8, 8)))  # (500, 11, 6, 6)
    scores = logits.amax((2, 3)) if pooled else presence.mean_scores(logits.log_softmax(1))
    return 100 * (scores[:, :10].argmax(1) != unseen_labels).float().mean().item()


# %%
def look(model, images):
    """Log-probabilities (B, 11, H/2, W/2) at every second pixel, without gradient."""
    with torch.no_grad():
        return model(F.pad(images, (6, 6, 6, 6))).log_softmax(1)


# %%
EPOCHS, BATCH = 20, 32
watched = digits.canvases(unseen, unseen_labels, 1, 32, torch.Generator().manual_seed(16), k=(2, 2))


# %%
def learn(loss, keep=None):
    generator = torch.Generator().manual_seed(1)
    model = models.reader(generator)

    def batches(epoch):
        drawn = digits.canvases(single, single_labels, 1280, 24, generator, k=(2, 2))
        return zip(drawn["images"].split(BATCH), drawn["labels"].split(BATCH), strict=True)

    def evaluate(model):
        if keep is not None:
            keep.append(look(model, watched["images"]))
        return {"error": error(model, pooled=loss is max_pooling)}

    optimizer = torch.optim.AdamW(model.parameters(), lr=0.015)
    schedule = train.cosine(EPOCHS, 1280 // BATCH, warmup=0.15)
    curve = train.fit(model, lambda model, batch: loss(model(batch[0]), batch[1]), batches, optimizer,
                      epochs=EPOCHS, schedule=schedule, evaluate=evaluate)  # fmt: skip
    return model, [point["error"] for point in curve]


# %%
history = []
reader, curve = learn(exact, keep=history)
print("unseen single digits misread, below 10 %:", curve[-1] < 10)

# %% [markdown]
# The network has never seen a digit alone, was never told where anything is, and reads single
# digits. Do the two decisions differ?

# %%
with torch.no_grad():
    log_p = reader(F.pad(unseen, (8, 8, 8, 8))).log_softmax(1)  # (500, 11, 6, 6)
same = presence.log_alpha_scores(log_p).argmax(1) == presence.mean_scores(log_p).argmax(1)
agree = bool(same.float().mean() > 0.9)
print("the rules (3.2) and (3.3) agree on more than 90 % of the digits:", agree)

# %% [markdown]
# ## Picture
#
# ### Finding and reading
#
# We now show the network what it was not trained for: canvases of 40 × 40 pixels with three or four
# unseen digits. A black margin of six pixels makes the map cover the whole canvas: position $(m, n)$
# is then centred on pixel $(2m, 2n)$. Below each canvas is the class with the largest probability at
# each of the 20 × 20 positions, a dot for the background, as in Fig. 2 of the paper.

# %%
large = digits.canvases(unseen, unseen_labels, 3, 40, torch.Generator().manual_seed(4), k=(3, 4))
log_p = look(reader, large["images"])  # (3, 11, 20, 20)
show.figure(
    show.label_map(large["images"], log_p),
    alt="Three canvases with three or four scattered digits, and below each its label map: small"
    " clusters of one letter on and beside each digit, most of them the right letter, and dots"
    " everywhere else.",
)

# %% [markdown]
# The map is sparse, and each cluster lies where a digit is or a few pixels beside it: any position
# whose 13 × 13 pixels hold the digit may say so, and one that does is enough for the likelihood. The
# background between them keeps two neighbours apart. What is not learned is how to turn clusters
# into a list of digits; the paper says so in section 5.4.
#
# We count. A digit is *found* if its class is emitted within 8 pixels of its middle, and an
# emission is *right* if a digit of its class lies within 8 pixels of it.


# %%
def score(model, n=100):
    generator = torch.Generator().manual_seed(5)
    drawn = digits.canvases(unseen, unseen_labels, n, 40, generator, k=(3, 4))
    classes = look(model, drawn["images"]).argmax(1)  # (n, 20, 20)
    pixel = 2.0 * torch.arange(20)
    far = (drawn["places"][:, :, None, :2] - pixel[:, None]).abs() <= 8  # (n, 4, 20, 2)
    near = far[:, :, :, None, 1] & far[:, :, None, :, 0]  # (n, 4, 20, 20)
    same = drawn["classes"][:, :, None, None] == classes[:, None]  # (n, 4, 20, 20)
    hit, emitted = near & same, classes < 10
    found = hit.flatten(2).any(2)[drawn["classes"] >= 0].float().mean()
    return found, hit.any(1)[emitted].float().mean(), emitted.float().mean()


# %%
found, right, emitting = score(reader)
print("found, more than 75 %:", bool(found > 0.75))
print("right, more than 75 %:", bool(right > 0.75))
print("positions that emit, below 20 %:", bool(emitting < 0.2))

# %% [markdown]
# ### The posterior sharpens
#
# How did places come out of sets? Watch the E-step. The picture `watched` holds two unseen digits.
# For six moments of the training we draw the posterior (2.3) of each of its labels, given its
# label set, with the network of that moment.

# %%
moments = [1, 2, 3, 5, 10, 20]
which = watched["classes"][0].tolist()
fig, axes = plt.subplots(2, 7, figsize=(7.4, 2.7))
for row, label in enumerate(which):
    axes[row, 0].imshow(watched["images"][0, 0], cmap="gray")
    axes[row, 0].set_ylabel(f"where is the {label}?")
    for axis, epoch in zip(axes[row, 1:], moments, strict=True):
        r = presence.posterior(history[epoch - 1], watched["labels"])[0, label]  # (16, 16)
        drawn = axis.imshow(r, norm=PowerNorm(0.5, vmin=0, vmax=1))
        axis.set_title(f"epoch {epoch}" if row == 0 else "")
for axis in axes.flat:
    axis.set(xticks=[], yticks=[])
    axis.grid(False)
fig.colorbar(drawn, ax=axes, label="posterior", shrink=0.8)
show.figure(
    fig,
    alt="Left: a picture with two digits. Then, for each of its two labels, six maps of the"
    " posterior at epochs 1, 2, 3, 5, 10 and 20. The first maps are even where nothing is; the last are"
    " bright at a few positions on and beside the digit and dark everywhere else.",
)

# %% [markdown]
# In the first map the network knows no digit, and the posterior spreads each label over the empty
# places. The gradient $r - p$ asks each of them for a little more of it. Across many pictures only the
# strokes of the digit are common to all bags with the label, so the ratios of $p$ begin to favour
# them; the posterior, which looks at nothing but ratios, concentrates; and the gradient follows.
# This is expectation maximisation with an exact E-step at every step of the optimiser.
#
# With a live kernel you can walk through all epochs: the next cell puts a slider on them. The
# printed page does not run it.

# %% tags=["skip-execution", "nbval-skip"]
import ipywidgets


@ipywidgets.interact(epoch=(1, EPOCHS))
def where(epoch=1):
    r = presence.posterior(history[epoch - 1], watched["labels"])[0, which]  # (2, 16, 16)
    fig, axes = plt.subplots(1, 2, figsize=(5.2, 2.7))
    for axis, label, one in zip(axes, which, r, strict=True):
        axis.imshow(one, norm=PowerNorm(0.5, vmin=0, vmax=1))
        axis.set(title=f"where is the {label}?", xticks=[], yticks=[])
    show.figure(fig, alt=f"The posterior of both labels after epoch {epoch}, one map each.")


# %% [markdown]
# The demo below trains on one image of six positions that shows one class. Compare the two losses:
# the exact likelihood pulls on every position in proportion to its posterior less its probability,
# max-pooling pulls on the best position alone.
#
# <div class="demo" data-demo="sharpening">On the web page stand the logits of six positions, which you can move or train by gradient steps on the exact likelihood or on the max-pooling loss. The demo shows the probability, the posterior and the pull of each position. Without JavaScript, run the cells above with other logits.</div>
#
# ### What the pixels say
#
# For one detection, the slope of its log-probability with respect to the pixels shows what it
# rests on. With $I_c$ the channels of the picture,
#
# $$ G(y, x) = \sum_c \Bigl| \frac{\partial \log p_{\ell,j}}{\partial I_c(y, x)} \Bigr| . \tag{3.4} $$
#
# We take, on each large canvas, the surest detection.

# %%
fig, axes = plt.subplots(1, 6, figsize=(7.4, 1.6))
for b, (left, right) in enumerate(axes.reshape(3, 2)):
    label, m, n = (log_p[b, :10] == log_p[b, :10].max()).nonzero()[0].tolist()
    padded = F.pad(large["images"][b : b + 1], (6, 6, 6, 6))  # (1, 1, 52, 52)
    slope = presence.input_gradient(reader, padded, label, (m, n))[0, 6:-6, 6:-6]  # (40, 40)
    left.imshow(large["images"][b, 0], cmap="gray")
    left.add_patch(plt.Rectangle((2 * n - 6.5, 2 * m - 6.5), 13, 13, fc="none", ec=show.COLOURS[1]))
    right.imshow(slope / slope.max())
    left.set_title(f"a {label} here", size=9)
    right.set_title("slope", size=9)
for axis in axes.flat:
    axis.set(xticks=[], yticks=[])
    axis.grid(False)
show.figure(
    fig,
    alt="Three pairs: a canvas with a square around its surest detection, and the slope of that"
    " detection in the pixels. The slope is zero outside a window of 13 by 13 pixels and strongest"
    " on and around the strokes of the digit in it.",
)

# %% [markdown]
# It is a vague image, as the paper says: zero outside the 13 × 13 pixels that the position sees,
# strongest on and around the strokes.
#
# ### The relatives, on the same budget
#
# Max-pooling (3.1) and noisy-OR train on the same pictures for the same number of steps. We compare
# the error on single digits, and then the label maps.

# %%
rivals = {
    "exact": (reader, curve),
    "max-pooling": learn(max_pooling),
    "noisy-OR": learn(independent),
}
fig, axis = plt.subplots(figsize=(6.4, 2.8))
for name, (_, errors) in rivals.items():
    axis.plot(range(1, EPOCHS + 1), errors, label=name, markevery=2)
axis.set(xlabel="epoch", ylabel="single digits misread / %", ylim=(0, 100), xticks=range(0, 21, 4))
axis.legend()
show.figure(
    fig,
    alt="Error on single unseen digits against the epoch for three losses. All start above 50"
    " percent, fall steeply within the first ten epochs and end below 15 percent.",
)

# %%
fig, axes = plt.subplots(1, 4, figsize=(7.4, 2.2))
axes[0].imshow(large["images"][0, 0], cmap="gray")
for axis, (name, (rival, _)) in zip(axes[1:], rivals.items(), strict=True):
    classes = look(rival, large["images"][:1])[0].argmax(0)  # (20, 20)
    axis.set(xlim=(-0.5, 19.5), ylim=(19.5, -0.5), aspect="equal", title=name)
    for m, n in (classes < 10).nonzero().tolist():
        axis.text(n, m, classes[m, n].item(), size=5, ha="center", va="center")
for axis in axes:
    axis.set(xticks=[], yticks=[])
    axis.spines[:].set(visible=True)
    axis.grid(False)
show.figure(
    fig,
    alt="A canvas with digits and its label map under three losses. Exact and noisy-OR emit small"
    " clusters at the digits and background elsewhere. Max-pooling emits some digit at every"
    " position: there is no background at all.",
)

# %%
for name, (rival, errors) in rivals.items():
    found, right, emitting = score(rival)
    print(
        f"{name:12} reads single digits, error below 15 %: {errors[-1] < 15};",
        f"finds, emissions mostly right: {bool(right > 0.5)}",
    )

# %% [markdown]
# Three findings, and the first is not what the paper's supplement A leads one to expect.
#
# 1. Max-pooling, normalised as printed, *reads* single digits too, with its own decision rule, and it
#    starts faster. Its error ends above those of the other two, by a few points. Digits of 64 pixels on a map of 36
#    positions are a mild test. Whether the gap that the paper reports on MNIST is there is a
#    question for [chapter 4](04_presence_reproduction.ipynb).
# 2. It cannot *find*: on the canvas above the background is hardly ever the answer. The gradient of
#    (3.1) in the score of a background is the probability of that entry, which is never negative. So
#    training only pushes the background down.
# 3. Noisy-OR does all that the exact likelihood does, at this size, for less. With two labels in a
#    bag and a network that soon becomes sure, there is little left between them. It is a
#    probability of label sets too, but of a map on which the classes are emitted independently, several
#    at one position if it so happens. Only the exact sum is the probability of a set under the map that
#    the softmax describes, one class a position, and only it has the posterior above.
#
# ### Predicting the label set
#
# The same network predicts label sets. Whatever else occurs, label $\ell$ occurs with probability
#
# $$ \pi_\ell = 1 - \prod_j (1 - p_{\ell,j}) . \tag{3.5} $$
#
# For one label by itself noisy-OR is exact. `presence.marginals` computes it in log space, so that
# a probability of $10^{-20}$ keeps its digits. The labels with $\pi_\ell > 1/2$ are the prediction
# with the fewest wrong labels on average. The most probable *set* may be another one: with three
# positions that emit A and B with probability 0.2 each, both $\pi$ are 0.49, and yet $\{A\}$, with
# probability 0.30, is more probable than no label, with 0.22. `presence.most_probable_set` finds it
# exactly. A set is at most as probable as each of its labels, so a class with a small
# $\pi_\ell$ is left out if some set is more probable than that; one walk (2.1) gives the
# probabilities of all sets of the remaining classes.

# %%
six = torch.Generator().manual_seed(6)
pictures = digits.canvases(unseen, unseen_labels, 100, 24, six, k=(2, 2))
log_p = look(reader, pictures["images"])  # (100, 11, 12, 12)
each = presence.marginals(log_p) > 0.5  # (100, 10)
best = presence.most_probable_set(log_p)  # (100, 10)
gain = presence.log_likelihood(log_p, best) - presence.log_likelihood(log_p, each)  # (100,)
print("the most probable set is never less probable:", bool((gain > -1e-4).all()))
print("both agree on most pictures:", bool((best == each).all(1).float().mean() > 0.5))

# %% [markdown]
# ### Padded maps, and labels that nobody checked
#
# Maps of different sizes share a batch if the small ones are padded, and `mask` is true where a
# position is real. A padded position emits the background for sure, a factor of 1 in every formula
# of these chapters. So a bag has the value, gradient and posterior that it has alone, and a bag of
# padding alone has no label with probability 1, the empty product.
#
# Labels may be integers: 1 for present, 0 for absent, $-1$ for *unknown*, if nobody checked. We sum
# over both answers. A position may then emit the unknown class or not, as it may emit $\phi$. So add
# its $p_{\ell,j}$ to $p_{\phi,j}$ and leave $\ell$ out of the sets $S$: an unknown label costs
# nothing. `presence.at_least(labels)` makes all labels unknown that are not present, which answers
# exercise 6 of chapter 2. If every position has a class, `background=False` takes a `log_p` without
# $\phi$.

# %%
padded = log_p[:2].clone()  # (2, 11, 12, 12)
mask = torch.ones(2, 12, 12, dtype=torch.bool)
mask[1, :, 8:] = False
padded[1, :, :, 8:] = float("nan")  # padding may hold anything
unknown = torch.tensor([[1, 1, -1] + 7 * [0], [1, -1, -1] + 7 * [0]])  # (2, 10)
value = presence.log_likelihood(padded, unknown, mask)  # (2,)
alone = presence.log_likelihood(log_p[1:2, :, :, :8], unknown[1:])
assert torch.allclose(value[1:], alone)
answers = torch.tensor([[1, 1, u] + 7 * [0] for u in (0, 1)]).bool()  # (2, 10)
both = presence.log_likelihood(log_p[:1].expand(2, -1, -1, -1), answers)
assert torch.allclose(value[0], both.logsumexp(0))

# %% [markdown]
# ## When it breaks
#
# **A class in every bag.** Suppose a 0 occurs in each picture. Take any answer $P$, and let one
# corner of the map say 0 whatever the picture holds. Label 0 is then explained in every bag, and
# nothing asks the other positions to look for zeros. In the extreme of section 5.4 of the paper
# every class is in every bag. The constant answer above, one class a position, is then certain of
# every label set it will meet; and by (0.3) where the label was certain the gradient is zero.

# %%
full = torch.ones(4, 10, dtype=torch.bool)
logits = constant.double().expand(4, -1, -1, -1).clone().requires_grad_()  # sees no picture
value = presence.log_likelihood(logits.log_softmax(1), full)  # (4,)
(slope,) = grad(value.sum(), logits)
print(
    f"log-likelihood {value.min().abs().item():.6f}, largest slope {slope.abs().max().item():.6f}"
)

# %% [markdown]
# **Two classes that always come together.** Suppose 0 and 1 occur together or not at all. Exchange
# their channels in the last layer of the trained network: it now calls each 0 a 1 and each 1 a 0.
# No bag can tell. The likelihood of every such label set is symmetric in the two, and so the
# data cannot choose between a perfect reader and this one. Correlation that is strong but not
# complete leaves the choice to a few bags, and learning becomes slow: the paper's remark.

# %%
swap = torch.tensor([1, 0, *range(2, 11)])
drawn = digits.canvases(unseen, unseen_labels, 400, 24, generator, k=(2, 2))
together = drawn["labels"][:, 0] == drawn["labels"][:, 1]  # (400,)
log_p = look(reader, drawn["images"])[together]
labels = drawn["labels"][together]
change = presence.log_likelihood(log_p[:, swap], labels) - presence.log_likelihood(log_p, labels)
# %%
zeros_and_ones = unseen_labels < 2
log_p = look(reader, unseen[zeros_and_ones])
for name, channels in (("trained", torch.arange(11)), ("exchanged", swap)):
    answers = presence.mean_scores(log_p[:, channels]).argmax(1)
    right = (answers == unseen_labels[zeros_and_ones]).float().mean()
    print(f"{name:9}: reads zeros and ones right, more than half: {bool(right > 0.5)}")
print("largest change of a log-likelihood below 1e-5:", bool(change.abs().max() < 1e-5))

# %% [markdown]
# **Wrong labels.** A label that is not in the picture pulls with gradient mass 1, however sure the
# network is, and its loss has no limit. Chapter 0, exercise 5, puts the error into the model: with
# a small probability the bag tells anything. Up to constants the loss becomes
# $-\log(\mathrm{Prb} + \eta)$ with a floor $\eta$, and its gradient $w \, (r - p)$ with the weight
# $w = \mathrm{Prb} / (\mathrm{Prb} + \eta)$. The released code has a floor by accident,
# $10^{-16} \alpha_{L,\phi}$. We give 400 pictures one wrong label each, and draw how probable the
# trained network finds the right and the wrong sets, with $w$ for two floors.

# %%
clean = drawn["labels"]  # (400, 10)
extra = (~clean).float().multinomial(1, generator=torch.Generator().manual_seed(7))  # (400, 1)
wrong = clean.scatter(1, extra, True)  # (400, 10)
log_p = look(reader, drawn["images"]).double()  # (400, 11, 12, 12)
mass = presence.posterior(log_p, wrong).sum((2, 3)).gather(1, extra)  # (400, 1)
print(f"gradient mass of the wrong label: at least {mass.min():.1f}")

# %%
fig, axis = plt.subplots(figsize=(6.4, 3.0))
for name, labels, color in (("right set", clean, 0), ("one wrong label", wrong, 1)):
    value = presence.log_likelihood(log_p, labels).clamp_min(-11.9)  # (400,)
    bars = {"bins": 24, "range": (-12, 0), "alpha": 0.6, "weights": [1 / 400] * 400}
    axis.hist(value, **bars, color=show.COLOURS[color], hatch="/" * color, label=name)
x = torch.linspace(-12, 0, 100)
for eta, style in ((1e-1, "-"), (1e-3, "--")):
    axis.plot(x, torch.sigmoid(x - torch.tensor(eta).log()), style, color="black", marker="",
              label=f"weight w, floor {eta:g}")  # fmt: skip
axis.set(xlabel="log Prb of the label set / nats (left end: −12 and less)", ylim=(0, 1.05))
axis.set_ylabel("share of pictures, weight w")
axis.legend(loc="upper left")
show.figure(
    fig,
    alt="Histograms of the log-likelihood of 400 pictures. With the right label set most lie within"
    " two nats of zero, with one wrong label most lie below that; the two heaps overlap. Two rising"
    " curves, the weights for two floors, fall off to the left, the larger floor first.",
)

# %% [markdown]
# The heaps overlap, because some wrong labels are plausible and some right ones hard to see. A large
# floor mutes many of the wrong and some of the right; a small one catches only what is absurd. And
# it must come late: at the start of training *all* sets are improbable, a floor mutes them all,
# and the network never starts. State it, and report both runs.
#
# **Wrong labels, of known rates.** If each label errs by itself, we can do better than a floor. Let
# $a$ be the probability that a label is observed though it does not occur, and $b$ that it is not
# observed though it occurs. The observation $o$ then has the probability
#
# $$ \mathrm{Prb}(o \mid P) = \sum_{L} \mathrm{Prb}(L \mid P) \prod_{\ell} \mathrm{Prb}(o_\ell \mid [\ell \in L]) , \tag{3.6} $$
#
# where the factor of an observed label is $w_1 = 1 - b$ if the label occurs and $w_0 = a$ if it does
# not; for a label that is not observed, $w_1 = b$ and $w_0 = 1 - a$. Either way the factor is
# $w_1 + (w_0 - w_1) \, [\ell \text{ is absent}]$, and $\alpha_{S,\phi}$ is the probability that all
# labels outside $S$ are absent. Multiply out: (3.6) is a series like (1.2), in which
# $\alpha_{S,\phi}$ has $w_1$ for each label in $S$ and $w_0 - w_1$ for each label outside. If
# $a + b < 1$, only observed labels bring minus signs. Where they cancel, the walk (2.1) takes over
# and adds up all covered sets with their factors. With $a > 0$ and $b > 0$ no observation is
# impossible. The cost is $2^C$, or $2^{|L|}$ for $b = 0$.

# %%
a = b = 0.05
some, added = log_p[:50], extra[:50]  # (50, 11, 12, 12), (50, 1)
noisy = presence.log_likelihood_noisy(some, wrong[:50], a, b)  # (50,)
pull = presence.posterior_noisy(some, wrong[:50], a, b).sum((2, 3)).gather(1, added)  # (50, 1)
one_error = torch.tensor(a * (1 - b) ** 9).log()  # nine of ten labels are right
right = presence.log_likelihood(some, clean[:50])  # (50,)
print("at least as probable as one error:", bool((noisy > right + one_error - 1e-6).all()))
weaker = (pull < mass[:50]).float().mean()
print("the wrong label pulls less than before, on most pictures:", bool(weaker > 0.5))

# %% [markdown]
# ## Reproduction
#
# Everything above ran on embedded digits in seconds, and proves nothing about the paper's numbers.
# [Chapter 4](04_presence_reproduction.ipynb) holds the networks of the paper, on MNIST, CIFAR-10,
# extended MNIST and SVHN, and sets each published number beside ours, or says why it was not run.
#
# ## Exercises
#
# **1, by hand.** One class, two positions with $p = (0.6, 0.5)$, and the label says "it occurs".
# Compute the probability of this bag under the exact likelihood, under max-pooling with these same
# numbers (the largest $p$), and the posterior that position 1 emits the class.


# %%
def one_class():
    return 1.1, 0.6, 0.6  # Prb, largest p, posterior of position 1


check.attempt(check.one_class, one_class)

# %% [markdown]
# **2, code.** Independent sigmoids: a network gives each class its own yes or no at each position,
# so several classes may be emitted at one place, and $\phi$ is "no to all". Write the exact
# log-likelihood of a label set from `logits (B, C, M, N)`. Mind large logits.


# %%
def sigmoids(logits, labels):
    absent = (1 - logits.sigmoid()).flatten(2).prod(-1)  # (B, C)
    return torch.where(labels, 1 - absent, 1.0).log().sum(1)


check.attempt(check.sigmoids, sigmoids)

# %% [markdown]
# **3, code.** A row of a label map becomes a reading as in CTC: merge repeats, then drop the
# background. Two equal digits with background between them are two digits. Write it for a list.


# %%
def collapse(row, background=10):
    kept = [c for c in row if c != background]
    return [c for c, before in zip(kept, [None, *kept]) if c != before]  # noqa: B905


check.attempt(check.collapse, collapse)

# %% [markdown]
# **4, code.** Write $\log(\mathrm{Prb} + \eta)$ from `log_prb (B,)`, without leaving log space, and
# so that its gradient is $w$ even for $\log \mathrm{Prb} = -1000$. The version below is a clamp.


# %%
def floored(log_prb, eta):
    return log_prb.clamp_min(torch.tensor(eta).log())


check.attempt(check.floored, floored)

# %% [markdown]
# **5, change an assumption.** The picture comes with one label only: its *most frequent* class (the
# observer *regions* of chapter 0). Which label maps agree? Why does no product over positions with a
# sum over subsets give the likelihood, and what does the state of a walk have to remember?
#
# **6, experiment.** Train with `k=(1, 1)`, a single digit a picture, then with three digits, then
# with four. The single digits are the strongest label. Which network learns fastest, and which reads
# the large canvases best? Think of what keeps two neighbours apart.
#
# **7, explain to a colleague.** "Max-pooling reads the digits as well, so why bother with the
# sum?" Answer with one picture of this page and no formula.
#
# ## Further reading
#
# - [Graves, Fernández, Gomez and Schmidhuber (2006)](https://doi.org/10.1145/1143844.1143891),
#   *Connectionist temporal classification*: the ordered relative.
# - [Pathak, Shelhamer, Long and Darrell (2015)](https://arxiv.org/abs/1412.7144), *Fully
#   convolutional multi-class multiple instance learning*: max-pooling for label maps of photographs.
# - [Ilse, Tomczak and Welling (2018)](https://arxiv.org/abs/1802.04712), *Attention-based deep
#   multiple instance learning*: let the network learn the pooling.
# - [Carbonneau, Cheplygina, Granger and Gagnon (2018)](https://arxiv.org/abs/1612.03365), *Multiple
#   instance learning: a survey*: what bags, labels and assumptions can be.
