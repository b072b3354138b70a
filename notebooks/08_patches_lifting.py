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
# # Patches: lifting a choice
#
# After this page you can say why the choice of the $K$ best places has no gradient, derive the
# training of MIST from the papers' (1) to (7) with the assumption of every step, tell a penalty
# from a Lagrange multiplier, name the two things that this training can not do, and compute what a
# bag of labels says about patches. You need [One idea](00_one_idea.ipynb), the chain rule, and
# gradient descent. The page runs in ten seconds on one CPU core and needs no GPU.
#
# The paper is [Angles, Jin, Kornblith, Tagliasacchi and Yi (2021), *MIST: Multiple Instance Spatial
# Transformer*](https://arxiv.org/abs/1811.10725). "Paper (6)" means its equation 6, "the release"
# the authors' program, "the papers" are this one and version 3 of the same arXiv entry; numbers
# like (8.2) are ours, and each of them is a function of the package.
#
# ## Problem
#
# Somewhere in an image stand $K$ digits. We are told *which* digits, as a bag of labels, or even
# less: only that there are $K$ things worth looking at. Nobody says where. A network is to find
# them, cut out a patch around each, and read the patches. The page trains no network: for the
# mathematics one image and a heat map are enough.

# %%
from functools import partial

import matplotlib.pyplot as plt
import torch
from matplotlib.patches import Rectangle

from wsl_tutorial import check, counts, patches, show
from wsl_tutorial.data import digits

show.style()

# %% [markdown]
# ## What is hidden
#
# Hidden are $K$ *places*. A place is $x_k = (x, y, s)$: the centre of a square box, in pixels, and
# the side $s$ of the box. Pixel centres are integers, and $x$ runs along the width. Our example has
# two digits of 8 x 8 pixels and boxes of side 8. Such a box covers 9 x 9 pixels when its centre is
# a pixel.

# %%
tiles, classes = (x.double() for x in digits.load("test"))
SHAPE, SIDE, SIZE, K = (24, 36), 8.0, 9, 2
generator = torch.Generator().manual_seed(78)
world = digits.canvases(tiles, classes.long(), 1, SHAPE, generator, k=(K, K))
image = torch.nn.functional.avg_pool2d(world["images"], 3, 1, 1)  # (1, 1, 24, 36), out of focus
true = world["places"]  # (1, 2, 3)
print("true centres", true[0, :, :2].tolist(), "labels", world["classes"][0].tolist())


# %%
def frame(axis, places, colour=show.COLOURS[1], style="-", mark="s"):
    """Draw the boxes of places (K, 3), and their centres."""
    for x, y, s in places.tolist():
        box = {"fill": False, "ec": colour, "ls": style, "lw": 1.5}
        axis.add_patch(Rectangle((x - s / 2, y - s / 2), s, s, **box))
        axis.plot(x, y, mark, color=colour, ms=4)
    axis.set(xticks=[], yticks=[])
    axis.grid(False)


# %% [markdown]
# ## Derivation
#
# ### From a heat map to places
#
# A network $\mathcal{H}_\eta$ with weights $\eta$ gives every pixel a score. Here the mean
# brightness of 7 x 7 pixels stands for it. Scores are only comparable with their neighbours, so the
# paper takes a softmax in the window $W_i$ of pixels around pixel $i$, its *local softmax*, with a
# strength $a$:
#
# $$ h_i = \frac{e^{a z_i}}{\sum_{j \in W_i} e^{a z_j}} . \tag{8.1} $$
#
# In a window of $n$ pixels a peak that stands above the others by $(\log n) / a$ and some $1/a$
# more gets nearly 1, however high it is. A constant map gets $1/n$, so that a map cannot be zero
# everywhere. For $a \to \infty$ only maxima of their windows are left.
#
# Then comes *suppression*: a pixel that is not the greatest of a small window $V_i$ around it
# leaves. Then the $K$ greatest that are left are the places. The paper calls the whole extractor
# $E_K$:
#
# $$ E_K(h) = \operatorname*{arg\,top}_{K} \; \bigl\{ h_i \;:\; h_i = \max_{j \in V_i} h_j \bigr\} . \tag{8.2} $$
#
# The figure shows the four stages.

# %%
blur = torch.full((1, 1, 7, 7), 1 / 49).double()
scores = torch.nn.functional.conv2d(image, blur, padding=3)[:, 0]  # (1, 24, 36)
h = patches.local_softmax(scores, 9, 40.0)  # (1, 24, 36)
left = patches.suppress(h, 5)  # (1, 24, 36), -inf where suppressed
places, values = patches.top_k(left, K, SIDE)  # (1, 2, 3), (1, 2)
assert torch.equal(places, patches.extract(h, K, 5, SIDE)[0])

# %%
fig, axes = plt.subplots(1, 4, figsize=(7.2, 1.7))
stages = {"image": image[0, 0], "scores": scores[0], "local softmax": h[0]}
stages["left after suppression"] = (left > -torch.inf)[0].double() * h[0]
for axis, (name, stage) in zip(axes, stages.items(), strict=True):
    axis.imshow(stage, cmap="gray_r" if name == "image" else "cividis")
    axis.set_title(name, size=9)
    frame(axis, places[0] if axis is axes[0] else places[0, :0])
show.figure(
    fig,
    alt="Four panels: an image with two digits, each in a square box; smooth scores with two broad"
    " hills; the local softmax, dark but for two narrow peaks and a faint brim; after suppression a"
    " few single pixels, the brightest two at the centres of the boxes.",
)

# %% [markdown]
# The hills have become peaks, and the boxes stand on the digits. The faint pixels are maxima of
# empty windows; they wait below the first $K$. (At the border a window has fewer pixels, so an
# empty corner gets a little more than an empty middle. The release takes the sum of the nearest
# window that fits into the map, and lets faint peaks vanish by a constant in the denominator.)
#
# ### From places to patches, and back
#
# The *sampler* $\mathcal{S}$ cuts the patch of a place out of the image $I$. It is a grid of
# positions $u$ from edge to edge of the box, read by bilinear interpolation (a spatial transformer,
# [Jaderberg et al. 2015](https://arxiv.org/abs/1506.02025)):
#
# $$ P_k(u) = I\bigl( (x, y) + s \, u \bigr) , \qquad u \in \bigl\{ -\tfrac12, \dots, \tfrac12 \bigr\}^2 . \tag{8.3} $$
#
# Between pixels the interpolated image is linear along each axis. So its derivative in $x$ exists
# there: on a row of pixels it is the difference of the two neighbouring pixels, and between two
# rows the mean of two such differences, weighted as the rows. **Interpolation is the only source of
# gradients for places**, here and in the inverse (8.4), and it knows the image one pixel around the
# box, no further.

# %%
seen = patches.sample(image, places, SIZE)  # (1, 2, 1, 9, 9)
x, y = places[0, 0, :2].int().tolist()
assert torch.allclose(seen[0, 0, 0], image[0, 0, y - 4 : y + 5, x - 4 : x + 5])
leaf = (places + torch.tensor([0.25, 0, 0])).requires_grad_()  # between two pixels
(slope,) = torch.autograd.grad(patches.sample(image, leaf, SIZE)[0, 0, 0, 4, 6], leaf)
print(f"slope {slope[0, 0, 0]:+.4f}, pixels {image[0, 0, y, x + 3] - image[0, 0, y, x + 2]:+.4f}")

# %% [markdown]
# The *generalised inverse* $\mathcal{S}^{-1}$ starts from an image of zeros and puts a patch $P$
# back into its box. At a pixel $q$ it reads the patch where the sampler would have read it, and 0
# outside:
#
# $$ \mathcal{S}^{-1}(P, x_k)(q) = P\Bigl( \frac{q - (x, y)}{s} \Bigr) . \tag{8.4} $$
#
# With it we have a first task, paper (8): show the image again as a sum of its $K$ patches. $T_\tau$
# is a network with weights $\tau$ that works on each patch (an auto-encoder in the paper):
#
# $$ \ell = \Bigl\| I - \sum_{k=1}^{K} \mathcal{S}^{-1} \bigl( T_\tau(P_k), x_k \bigr) \Bigr\|_2^2 . \tag{8.5} $$
#
# The package takes the mean over the pixels. On this page $T_\tau$ returns the patch multiplied by
# a number $\tau$, and mostly $\tau = 1$: then the loss is what the boxes miss.


# %%
def task_loss(places, tau=1.0):
    """Eq. (8.5) for our image: places (1, K, 3) -> (1,)."""
    return patches.reconstruction_loss(image, tau * patches.sample(image, places, SIZE), places)


# %%
back = patches.place(seen, places, SHAPE).sum(1)  # (1, 1, 24, 36)
assert torch.allclose((image - back).square().mean(), task_loss(places)[0])
blank = patches.reconstruction_loss(image, 0 * seen, places)
print(f"loss without patches {blank[0]:.4f}, with the two places {task_loss(places)[0]:.4f}")

# %% [markdown]
# ### Why top-K has no gradient
#
# Now chain the parts: paper (1) asks for the weights that minimise
# $\ell(T_\tau(\mathcal{S}(E_K(\mathcal{H}_\eta(I)))))$. What is the derivative in the heat map? We
# give it three peaks: one on each digit, and a decoy on an empty spot. The left panel changes
# the height of the second digit's peak; the right panel slides the second place itself.

# %%
first, second = true[0, :, :2].round().long().tolist()
decoy = [31, 19]
peaks = torch.zeros(1, *SHAPE).double()
for (x, y), value in ((first, 0.9), (decoy, 0.6)):
    peaks[0, y, x] = value


# %%
def loss_of_height(value):
    changed = peaks.clone()
    changed[0, second[1], second[0]] = value
    return task_loss(patches.extract(changed, K, 5, SIDE)[0])[0]


def loss_of_place(x):
    return task_loss(torch.tensor([[[*first, SIDE], [x, second[1], SIDE]]]).double())[0]


# %%
heights, line = torch.linspace(0.01, 1, 100), torch.linspace(0, SHAPE[1] - 1, 281)
fig, (a, b) = plt.subplots(1, 2, figsize=(7.2, 2.6), sharey=True)
a.plot(heights, [loss_of_height(v) for v in heights], marker="")
a.set(xlabel="height of the digit's peak", ylabel="task loss")
b.plot(line, [loss_of_place(x.item()) for x in line], marker="", color=show.COLOURS[1])
b.axvline(second[0], color=show.GREY, ls="--", marker="", lw=1)
b.set(xlabel="x of the second place / px")
show.figure(
    fig,
    alt="Left: the loss against the height of a peak, two level stretches with one step down where"
    " the peak passes the decoy. Right: the loss against the position of a place. It is level at both"
    " ends, a little higher from about 5 to 15 pixels, where the box overlaps that of the other"
    " digit, and then falls into a valley at the digit's centre, marked by a dashed line.",
)

# %% [markdown]
# On the left the derivative is zero wherever it exists: *how high* a peak is plays no role, only
# *which* peaks are chosen. The loss is **piecewise constant in a heat map of one scale**, and so
# back-propagation tells $\eta$ nothing. (With several scales, below, the sides of the boxes have a
# gradient; the choice and the centres have none.) On the right the loss is **piecewise smooth in the
# places**: within reach of the digit there is a slope down to it. For $x$ between about 5 and 15
# the loss rises and falls again: there the second box overlaps the first, which stands on the other
# digit, and (8.5) adds twice what both cover. The rise on the left even points *away* from the
# digit that is missed. Elsewhere there is no slope. (The ripple is interpolation: between pixels a
# patch is a little blurred.) The method must live with the second panel and replace the first.
#
# The ripple has a consequence. Extracted places are pixels, where interpolation has a kink: the
# derivatives from the left and from the right differ, and automatic differentiation returns one of
# them, or a part of each. Here it can be zero beside a slope:

# %%
x, nudge = 18.0, 2**-10
leaf = torch.tensor([[[*first, SIDE], [x, second[1], SIDE]]]).double().requires_grad_()
(slope,) = torch.autograd.grad(task_loss(leaf).sum(), leaf)
sides = [((loss_of_place(x + e) - loss_of_place(x)) / e).item() for e in (-nudge, nudge)]
print(f"at x = 18: left {sides[0]:.4f}, right {sides[1]:.4f}, autograd {slope[0, 1, 0]:.4f}")

# %% [markdown]
# It happens with $\tau = 1$ and samples that fall on pixels. A box whose samples fall between
# pixels, like 32 samples in 20 pixels, or a task that changes its patches, averages over the kinks.
#
# ### The side of a box
#
# With heat maps at several scales $s$, `(B, S, H, W)`, a pixel has a value $h_s$ for each of them,
# and the side of the box is a first moment, a mean of the scales:
#
# $$ \bar s = \frac{\sum_s h_s \, s}{\sum_s h_s} . \tag{8.6} $$
#
# The paper prints the numerator only (section 4.1). It also pools the maps over the scales
# (appendix A of version 3), to $\sum_s h_s^2 / \sum_s h_s$, of which $h_s^2 / \sum_s h_s$ are the
# terms. Take a digit half-way between the scales 1 and 2, so that both answer 1/2. The pooled terms
# are 1/4 and 1/4, and the printed moment is 3/4, below *every* scale. Its size depends on how sure
# the map is, and **no linear rule can return the side that was put in**: what it returns grows with
# the map. (For maps that sum to 1 the numerator, taken before the pooling, does.) With the division,
# and the $h_s$ of *before* the pooling, (8.6) does: the pooled terms are squares, and of the answers
# 0.8 and 0.2 they make a side of 1.06 instead of 1.2.

# %%
two = torch.tensor([1.0, 2.0]).double()  # the scales
for answers in ((0.5, 0.5), (0.8, 0.2)):
    maps = torch.tensor(answers).double().view(1, 2, 1, 1)
    pooled = maps.square() / maps.sum(1, keepdim=True)  # (1, 2, 1, 1)
    assert torch.allclose(pooled.sum(1), patches.pool_scales(maps))
    sides = [(pooled[0, :, 0, 0] @ two).item()]
    sides += [patches.first_moment(x, two).item() for x in (pooled, maps)]
    print("{}: printed {:.2f}, divided {:.2f}, before pooling {:.2f}".format(answers, *sides))

# %% [markdown]
# ### The ideal heat map
#
# The extractor goes from maps to places. Its partner $G$ goes back: zero everywhere, 1 at the
# rounded centre of every place (and with several scales the 1 is split between the two nearest so
# that (8.6) returns the side):
#
# $$ G(\{x_k\})_i = \bigl[ \, i = \mathrm{round}(x_k, y_k) \text{ for some } k \, \bigr] . \tag{8.7} $$
#
# The paper *assumes* that $\{x_k\} \approx E_K(G(\{x_k\}))$. With (8.7) it is exact under three
# conditions: **the centres lie on pixels, the sides within the scales, and no place lies in the
# window of suppression around another.** Rounding costs up to half a pixel along each axis. Of two
# places, one in the window around the other, one is lost.

# %%
scales = torch.tensor([6.0, 8.0, 12.0]).double()
apart = torch.tensor([[[10, 8, 9.5], [22, 17, 6.0]]]).double()
found, _ = patches.extract(patches.ideal_heatmap(apart, SHAPE, scales), K, 5, scales)
print("apart:   ", found[0].tolist())
close = torch.tensor([[[10, 8, SIDE], [12, 8, SIDE]]]).double()
found, value = patches.extract(patches.ideal_heatmap(close, SHAPE), K, 5, SIDE)
print("together:", found[0].tolist(), "values", value[0].tolist())

# %% [markdown]
# The value 0 says that nobody is there: only one peak was left.
#
# ### Slack variables
#
# *Lifting* means: add variables until the hard step disappears from the objective into a
# constraint, then soften the constraint. Write $\ell_\tau(x)$ for the task loss at places $x$.
#
# **Paper (2): copies.** Give the heat map and the places their own names,
#
# $$ \min_{\eta, \tau, h, x} \; \ell_\tau(x) \quad \text{subject to} \quad h = \mathcal{H}_\eta(I) , \;\; x = E_K(h) . $$
#
# This is paper (1) itself, nothing is lost. **Every image has its own $h$ and $x$; $\eta$ and
# $\tau$ are shared**, which will matter.
#
# **Paper (3): a penalty.** The first constraint goes into the objective, as
# $\lambda \| h - \mathcal{H}_\eta(I) \|^2$. The papers call $\lambda$ a Lagrange multiplier. It is
# the weight of a *penalty*. A multiplier would stand before $h - \mathcal{H}$ without the square,
# would be *found* by the optimisation, and would make the constraint hold. A penalty is *chosen*,
# and for every finite $\lambda$ the constraint is violated wherever the loss still pulls. One line
# shows it: for a fixed $g$ the minimum of $f(v) + \lambda (v - g)^2$ has $v - g = -f'(v) / (2
# \lambda)$. The slack is proportional to the force on it, and this force is the information that we
# are after.
#
# **Paper (4): turn the extractor round.** Replace $x = E_K(h)$ by $h = G(x)$. **Assumption:
# $x = E_K(G(x))$**, the conditions above. Many maps have the same extracted places; only one is
# ideal. So (4) allows less than (3), and asks the network for more: not only the right maxima, but
# zero elsewhere and 1 at the maxima.
#
# **Paper (5): drop $h$**, which is now a function of $x$:
#
# $$ \min_{\eta, \tau, x} \; J = \ell_\tau(x) + \lambda \, \bigl\| G(x) - \mathcal{H}_\eta(I) \bigr\|_2^2 . $$
#
# **Paper (6), (7): blocks.** Hold $\eta$ and improve $\tau, x$; hold these and improve $\eta$. For
# $\eta$ only the second term counts, and it is ordinary regression onto a picture of dots:
#
# $$ \ell_{\text{heat}} = \bigl\| G(x) - \mathcal{H}_\eta(I) \bigr\|_2^2 . \tag{8.8} $$
#
# For $x$ the second term of $J$ is of no use, since $G$ rounds: its derivative in the centres is
# zero. (In the sides it is not, where there are several scales.) Here
# the paper applies $E_K$ to the penalty term and minimises
#
# $$ \ell_\tau(x) + \lambda \, \bigl\| x - E_K(\mathcal{H}_\eta(I)) \bigr\|_2^2 $$
#
# instead. **This is another function.** A distance between heat maps has become a distance in
# pixels, so the blocks are not blocks of *one* objective, and what is known of block coordinate
# descent does not apply. We come back to it with numbers.
#
# ### The step on the places
#
# How should we minimise (6) in $x$? Let $x_0 = E_K(\mathcal{H}_\eta(I))$, the extracted places. Put
# the linear model of $\ell$ at the present $x_t$ in the place of $\ell$, stay near $x_t$, and keep
# the penalty as it is:
#
# $$ x_{t+1} = \arg\min_x \; \nabla \ell(x_t) \cdot x + \frac{1}{2 \alpha} \| x - x_t \|^2 + \lambda \| x - x_0 \|^2 . $$
#
# The derivative is zero at
#
# $$ x_{t+1} = \frac{x_t - \alpha \, \nabla \ell(x_t) + 2 \alpha \lambda \, x_0}{1 + 2 \alpha \lambda} . \tag{8.9} $$
#
# With $\lambda = 0$ this is gradient descent with the rate $\alpha$. For great $\lambda$ it stays
# at $x_0$; an explicit step on both terms would overshoot.


# %%
def step(x, x0, g, alpha, lam):
    return (x - alpha * g + 2 * alpha * lam * x0) / (1 + 2 * alpha * lam)


# %%
start = places + torch.tensor([1.7, -1.4, 0])  # two pixels off
x = start.clone()
for _ in range(3):
    leaf = x.clone().requires_grad_()
    (g,) = torch.autograd.grad(task_loss(leaf).sum(), leaf)
    x = torch.cat([step(x, start, g, 50.0, 0.004)[..., :2], start[..., 2:]], -1)
assert torch.allclose(x, patches.move(start, task_loss, 3, 50.0, penalty=0.004))

# %% [markdown]
# ### No penalty at all: stop early
#
# The release has no $\lambda$. It takes two gradient steps from $x_0$ and stops. Is the penalty
# gone? Take a loss with curvature $c$ along some direction and its minimum at distance $d$ from
# $x_0$: $\ell = \tfrac{c}{2} (x - x_0 - d)^2$. Each gradient step multiplies what is left of the way
# by $1 - \alpha c$, so $m$ steps go
#
# $$ x_m - x_0 = \bigl[ 1 - (1 - \alpha c)^m \bigr] \, d \quad (\text{Landweber}), \qquad x_\lambda - x_0 = \frac{c}{c + 2 \lambda} \, d \quad (\text{Tikhonov}) $$
#
# where the first is known as Landweber's iteration and the second, Tikhonov's regularisation, is the
# exact minimum with the penalty, from $c (x - x_0 - d) + 2 \lambda (x - x_0)
# = 0$. For small $c$ the two are $m \alpha c \, d$ and $c \, d / (2 \lambda)$: **equal for
# $\lambda = 1 / (2 m \alpha)$.** There, early stopping is a penalty with another name. The figure
# compares the shares of the way for all curvatures.

# %%
m, alpha = 2, 1.0
curvature = torch.logspace(-2, 0, 30).double()  # each its own image, minimum one pixel away


def bowl(places):
    return 0.5 * curvature * (places[:, 0, 0] - 1).square()


origin = torch.zeros(30, 1, 3).double()
stopped = patches.move(origin, bowl, m, alpha)[:, 0, 0]
held = patches.move(origin, bowl, 300, alpha, penalty=1 / (2 * m * alpha))[:, 0, 0]
assert torch.allclose(stopped, 1 - (1 - alpha * curvature) ** m)
assert torch.allclose(held, curvature / (curvature + 1 / (m * alpha)))

# %%
fig, axis = plt.subplots(figsize=(5.4, 2.7))
axis.plot(curvature, stopped, label="two steps, then stop")
axis.plot(curvature, held, label="penalty λ = 1 / (2mα)")
axis.set(xscale="log", xlabel="curvature × α", ylabel="share of the way")
axis.legend()
show.figure(
    fig,
    alt="The share of the way to the minimum against the curvature, on a logarithmic axis. Two"
    " steps and the penalty agree for small curvature and rise together; at curvature one the two"
    " steps have gone all the way, the penalty two thirds of it.",
)

# %% [markdown]
# The two are one curve where the loss is flat on the scale of the whole way, $m \alpha c \ll 1$, and
# differ where it is steep. (Many small steps are not enough: with $m = 200$ of $\alpha c = 0.01$ the
# shares are 0.87 and 0.67.) In the release $\alpha$ is $10^4$ on the mean over a batch of 32, 312.5 for one image. Two
# steps are a penalty of $\lambda = 1 / (2 \cdot 2 \cdot 312.5) = 8 \cdot 10^{-4}$ per squared
# pixel. (Its loss is half of (8.10), below. Beside (8.10) itself the rate is 156.25, and the
# penalty $1.6 \cdot 10^{-3}$.) Note what this says of the batch size: **the rate of places must
# grow with the batch**, or the mean divides the steps away.
#
# ### For differentiable layers, lifting is back-propagation
#
# Is $\mathcal{H} - G(x)$ a strange signal? Apply the recipe where we can check it, to any
# differentiable $g(\theta)$ in the place of $E_K(\mathcal{H}_\eta)$. Let $v_0 = g(\theta)$.
#
# 1. Step on the slack: $v^+ = v_0 - \alpha \nabla \ell(v_0)$.
# 2. Regression of $g$ onto the constant $v^+$: the gradient of $\tfrac12 \| g(\theta) - v^+ \|^2$ is
#    $J_g^\top (g(\theta) - v^+)$, with the Jacobian $J_g$.
# 3. At $g(\theta) = v_0$ this is $\alpha \, J_g^\top \nabla \ell(v_0) = \alpha \, \nabla_\theta \,
#    \ell(g(\theta))$: **back-propagation, times $\alpha$.**
#
# [Frerix et al. (2018)](https://arxiv.org/abs/1706.04638) prove it layer by layer. We check it with
# a soft-argmax, a differentiable $g$ from heat maps to places.

# %%
theta = torch.randn(1, K, *SHAPE, generator=generator).double().requires_grad_()
v0 = patches.soft_argmax(theta, 3.0, SIDE)  # (1, 2, 3)
(by_chain_rule,) = torch.autograd.grad(task_loss(v0).sum(), theta, retain_graph=True)
v1 = patches.move(v0, task_loss, 1, 7.0)
(by_lifting,) = torch.autograd.grad(0.5 * (v0 - v1).square().sum(), theta)
print("equal, with the factor 7:", torch.allclose(by_lifting, 7.0 * by_chain_rule))

# %% [markdown]
# So lifting is interesting only where $J_g$ is useless, as for top-K.
#
# *Target propagation* ([Lee et al. 2015](https://arxiv.org/abs/1412.7525)) is built the same way: a
# layer gets a target instead of a gradient, and is regressed onto it. There the target of a layer
# comes from that of the layer above, through an approximate inverse that is learned. Here the task
# gives a target to the places, $x^+$, and $G$ takes it down through the extractor. **$G$ is an
# inverse that need not be learned**, and by the assumption of paper (4) an exact one.
#
# ### At top-K: the better choice minus the present one
#
# The gradient of half of (8.8) in the map is $\mathcal{H} - G(x^+)$, where $x^+$ are the moved
# places. If the network answers nearly ideally, $\mathcal{H} \approx G(E_K(\mathcal{H}))$, the
# descent direction is
#
# $$ G(x^+) - G(E_K(\mathcal{H})) : \quad \text{improved selection minus present selection.} $$
#
# The "if" is what *difference* target propagation does without: it adds to the layer's own answer
# the change of the inverse, a target of $\mathcal{H} + G(x^+) - G(E_K(\mathcal{H}))$, and has this
# direction whatever $\mathcal{H}$ is. MIST's target also asks for ideal maps. The difference of two
# selections is the form of two known estimators for discrete layers, *black-box differentiation*
# ([Vlastelica et al. 2020](https://arxiv.org/abs/1912.02175)) and *I-MLE* ([Niepert et al.
# 2021](https://arxiv.org/abs/2106.01798)). They choose once with the scores $z$ and once with
# $z - \mu \, \partial \ell / \partial b$, where $b$ is the 0-1 mask of the choice and $\mu > 0$. The
# difference is the space in which the choice is improved: they change *scores*, and need the
# derivative for every candidate, so they read all patches; MIST changes *positions*, and reads $K$.
#
# That saves much and costs something. Our three peaks again, with the decoy above the second digit:


# %%
def peak(heights):
    """Map (1, H, W) with peaks on the first digit, the decoy and the second digit."""
    h = torch.zeros(1, *SHAPE).double()
    for (x, y), value in zip((first, decoy, second), heights, strict=True):
        h[0, y, x] = value
    return h


candidates = torch.tensor([[[*p, SIDE] for p in (first, decoy, second)]]).double()  # (1, 3, 3)


# %%
h = peak((0.9, 0.8, 0.6)).requires_grad_()
x0, _ = patches.extract(h.detach(), K, 5, SIDE)
lifted = patches.lifted_step(h, x0, task_loss, steps=2, lr=0.5, normalise=True)
(gradient,) = torch.autograd.grad(lifted.heat.sum() * h.numel() / 2, h)
for name, (x, y) in {"first digit": first, "decoy": decoy, "second digit": second}.items():
    pull = -gradient[0, max(y - 2, 0) : y + 3, x - 2 : x + 3].sum()
    print(f"pull around the {name:12} {pull:+.2f}")
mask = torch.tensor([1.0, 1, 0]).double().requires_grad_()  # first and decoy are chosen
every = patches.place(patches.sample(image, candidates, SIZE), candidates, SHAPE)[0]
error = (image[0] - (mask[:, None, None, None] * every).sum(0)).square().mean()
print("derivative in the mask", torch.autograd.grad(error, mask)[0].round(decimals=4).tolist())

# %% [markdown]
# Read the pulls. The chosen digit is pulled up towards 1. The *decoy is pulled up too*: its box is
# empty, so its place has no gradient, so it stays, and the regression makes it an ideal peak. The
# missed digit is *pushed down*, because it is not in the target. The last line is what a method
# knows that reads all three patches: the missed digit would lower the loss.
#
# Two limits follow. **No gradient ever says: take that far-away peak.** Places move about a pixel
# at a time. And **what was chosen is reinforced, right or wrong**: this is self-training. Why
# should it work at all? Because $\eta$ is shared. The map of one image cannot tell digit from
# decoy; a network that sees every pixel of every image through the same filters can regress only
# what recurs. Digits recur. A blank spot recurs even more, but its target is nearly always 0, so
# regression pulls its peak down. What looks the same wherever it is chosen wins. The argument
# assumes that the network cannot tell *where* a pixel is. Padding with zeros at the border tells
# it, and then it can learn to choose a corner of every image.
#
# ### Three other names for the same loop
#
# *EM.* The places are hidden variables. Moving them is a hard E-step that goes only a little way,
# the update of $\tau$ is an M-step, and the heat map network learns to guess the E-step's result:
# *amortised inference*, trained by regression as in wake-sleep ([Hinton et al.
# 1995](https://doi.org/10.1126/science.7761831)). The local optima of hard EM come with it.
# *Self-training.* With steps of length zero, the network is trained on its own choice; the next
# chapter measures how far this alone goes. *Vector quantisation.* $\| \mathcal{H} - G(x) \|^2$
# pulls an encoder to its own quantised output, as the commitment loss of VQ-VAE does ([van den Oord
# et al. 2017](https://arxiv.org/abs/1711.00937)).
#
# ### What a bag of labels says
#
# The second task of the paper reads the patches. We are told the labels of the image as a bag, $L$
# one-hot vectors $y_l$ without places; the classifier answers $\hat p_k$ for the patch $k$, a
# softmax. Paper (9) compares the means:
#
# $$ \ell = \Bigl\| \frac{1}{L} \sum_{l=1}^{L} y_l - \frac{1}{K} \sum_{k=1}^{K} \hat p_k \Bigr\|_2^2 = \| \bar y - \bar p \|_2^2 . \tag{8.10} $$
#
# Both sides are proportions, so $K \neq L$ is legal: with twice as many places as labels, two
# places may look at each digit. We know this problem. A bag of patches with label *proportions* is
# the observation of [chapter 5](05_counts_likelihood.ipynb), and (8.10) is a loss on proportions
# like DLLP's (6.1), with squares in place of cross-entropy.
#
# *What it cannot see.* The gradient in $\hat p_k$ is $\tfrac{2}{K} (\bar p - \bar y)$, the same for
# every patch of the bag. When the mean is right, it is zero, whoever said what. The exact
# likelihood of the counts, (5.5), goes on (it needs $K = L$, which (8.10) does not):

# %%
log_p = torch.tensor([[[0.6, 0.4], [0.4, 0.6]]]).double().log().requires_grad_()  # (1, 2, 2)
told = torch.tensor([[1, 1]])  # one of each class
(of_means,) = torch.autograd.grad(patches.proportion_loss(log_p, told).sum(), log_p)
posterior = counts.posterior_multiclass(log_p.detach(), told)
print("pull of (8.10):    ", (-of_means[0]).abs().round(decimals=3).tolist())
print("pull of the counts:", (posterior - log_p.exp())[0].detach().round(decimals=3).tolist())

# %% [markdown]
# *What identifies the classes all the same.* Different bags. Let $p(a)$ be the answer for a patch
# of true class $a$, **the same in every bag**. The bags $\{1, 2\}$, $\{1, 3\}$ and $\{2, 3\}$ with
# zero loss say $p(1) + p(2) = e_1 + e_2$ and so on, where $e_a$ is the one-hot vector of class $a$.
# Add the first two, subtract the third: $2 p(1) = 2 e_1$. If all bags are equal there is one
# equation, and any constant answer with the right mean solves it.
#
# ## Code
#
# Algorithm 1 in the order of the release, for one batch: (i) extract $x_0$; (ii) move the places
# with (8.9); (iii) one optimiser step of $\tau$ on the task loss and of $\eta$ on (8.8), both at
# the moved places. The task loss sees $\eta$ only through places that are constants, the heat map
# loss sees $\tau$ only through its target. So the two steps are *one* backward pass of the sum
#
# $$ \ell_\tau(x^+) + \bigl\| G(x^+) - \mathcal{H}_\eta(I) \bigr\|_2^2 , \qquad x^+ = \text{(8.9) from } E_K(\mathcal{H}_\eta(I)) . \tag{8.11} $$
#
# (The papers print $\tau$, $x$, $\eta$.) We run the loop with the
# smallest networks there are: $\tau$ is the number of before, and the heat map of our one image is
# itself the parameter, $\mathcal{H} = \eta$.


# %%
def train(eta, tau, rounds, rate=0.7, penalty=0.0, lam=0.01, alpha=None):
    """Algorithm 1 by hand: the places, both terms of J before and after each block, and tau.

    Steps of one pixel along the gradient, or, with `alpha`, of (8.9).
    """
    path, J, step = [], [], {"steps": 1, "lr": alpha or 1.0, "normalise": not alpha}

    def log(x):
        gap = (patches.ideal_heatmap(x, SHAPE) - eta).square().sum()
        J.append((task_loss(x, tau)[0].item(), lam * gap.item()))

    for _ in range(rounds):
        x, _ = patches.extract(eta, K, 5, SIDE)
        path.append(x[:, x[0, :, 0].argsort()])  # from left to right
        log(x)
        x = patches.move(x, partial(task_loss, tau=tau), penalty=penalty, **step)
        log(x)
        leaf = tau.clone().requires_grad_()
        tau = tau - 2 * torch.autograd.grad(task_loss(x, leaf).sum(), leaf)[0]
        log(x)
        eta = eta - rate * (eta - patches.ideal_heatmap(x, SHAPE))  # (8.8) downhill
        log(x)
    return torch.cat(path), torch.tensor(J).view(rounds, 4, 2), tau


# %%
beside = torch.tensor([[[8, 18, SIDE], [26, 5, SIDE]]]).double()
eta = 0.6 * patches.ideal_heatmap(beside, SHAPE)  # two peaks beside the digits
path, terms, tau = train(eta, torch.tensor(0.5).double(), 12)
J = terms.sum(-1)  # (12, 4)
print(f"objective J at first {J[0, 0]:.4f}, at last {J[-1, -1]:.4f}; tau from 0.5 to {tau:.2f}")

# %% [markdown]
# Three lines of the loop are the package's `lifted_step`, which returns both losses of (8.11) and
# the moved places:

# %%
h = eta.clone().requires_grad_()
x0, _ = patches.extract(eta, K, 5, SIDE)
lifted = patches.lifted_step(h, x0, task_loss, 1, 1.0, normalise=True)
assert torch.equal(lifted.places, patches.move(x0, task_loss, 1, 1.0, normalise=True))
assert torch.equal(lifted.task, task_loss(lifted.places))
dots = patches.ideal_heatmap(lifted.places, SHAPE)
assert torch.allclose(lifted.heat, (h - dots).square().mean((1, 2)))

# %% [markdown]
# ## Picture
#
# The left panel draws the way of the two places over the image, round after round. The right panel
# shows $J$, paper (5), after each block.

# %%
fig, (a, b) = plt.subplots(1, 2, figsize=(7.2, 2.6), width_ratios=[1.25, 1])
a.imshow(image[0, 0], cmap="gray_r")
for k in range(K):
    a.plot(path[:, k, 0], path[:, k, 1], "o-", color=show.COLOURS[0], ms=3, lw=1)
frame(a, path[0], show.COLOURS[0], "--", "o")
frame(a, path[-1])
names = ("extract", "places", "task", "heat map")
b.plot(torch.arange(J.numel()) / 4, J.flatten(), color=show.GREY, marker="", lw=1)
for i, name in enumerate(names):
    b.plot(
        torch.arange(len(J)) + i / 4, J[:, i], show.MARKERS[i], color=show.COLOURS[i], label=name
    )
b.set(xlabel="round", ylabel="objective J")
b.legend(fontsize=8)
show.figure(
    fig,
    alt="Left: two dashed boxes beside two digits, and a chain of dots from the centre of each to"
    " the centre of a solid box on the digit. Right: the objective over the rounds. It falls on the"
    " whole, but jumps up at every step of the places and comes down with the heat map.",
)

# %% [markdown]
# The boxes walk onto the digits, about a pixel a round, and the peaks of the map follow them. Now
# look at $J$: the step on the places *raises* it again and again. The next cell counts.
#
# ## When it breaks
#
# **It is no descent.** The paper writes that "being based on block coordinate descent, this process
# converges smoothly". Block coordinate descent never rises if no block does, and a block that is
# minimised exactly does not. This rises:

# %%
rise = J.diff(dim=1) > 1e-9  # (12, 3): after places, task, heat map
for name, number in zip(names[1:], rise.sum(0).tolist(), strict=True):
    print(f"the block {name:8} raised J in {number} of {len(J)} rounds")
print("the places raised the task loss in", (terms[..., 0].diff(dim=1)[:, 0] > 1e-9).sum().item())
for lam in (0.0005, 0.001):
    one = {"penalty": lam, "lam": lam, "alpha": 500.0}
    held = train(eta, torch.tensor(0.5).double(), 12, **one)[1]  # (12, 4, 2)
    rose = held.sum(-1).diff(dim=1)[:, 0] > 1e-9
    left = held[..., 1].diff(dim=1)[:, 0] > 1e-9  # a dot of G(x) left its peak
    print(f"one λ = {lam} in (8.9) and J: the places raised J in {rose.sum()},", end=" ")
    print(f"and left a pixel in {left.sum()}")

# %% [markdown]
# A place that moves by a pixel moves its dot in $G(x)$ by a pixel, and the map has no peak there
# yet: from pixel $a$ to pixel $b$ the squared distance in (5) jumps by $2 (\mathcal{H}_a -
# \mathcal{H}_b)$, up to 2 for maps in $[0, 1]$, however little was moved. The
# block on $x$ does not see that: its own penalty is that of (6), a distance in pixels, or none at
# all. Steps of a fixed length do this in every round. (In the end they also overshoot the minimum
# of the task loss, the fourth line.) The last lines have steps along the gradient, and one
# $\lambda$ in (8.9) and in $J$: then $J$ can rise in a round in which a place leaves its pixel. The
# smooth curves of the paper are an observation about its data, not a consequence of the
# construction.
#
# **Steps below half a pixel vanish.** $G$ rounds. If one round moves a place by less than half a
# pixel, the target is the old pixel, and the next round starts from it again: no progress is kept.
# So for one image the rate has a sharp lower limit (what is left of the training is regression onto
# the present choice; [chapter 9](09_patches_learning.ipynb) measures it). We repeat the loop with a
# penalty that shortens every step.

# %%
for penalty in (0.0, 0.2, 0.6):
    path, _, _ = train(eta, torch.tensor(0.5).double(), 12, penalty=penalty)
    ends = [f"{task_loss(x[None])[0]:.4f}" for x in (path[0], path[-1])]
    length = 1 / (1 + 2 * penalty)  # (8.9)
    print(f"steps of {length:.2f} px: task loss at the places from {ends[0]} to {ends[1]}")

# %% [markdown]
# **One digit in the window around another**, **no digit within reach**: the first breaks the
# assumption of (4), the second is the decoy above. Try them in the demo. It is a world of one
# dimension: an image with two objects, a heat map, and two places. Step through the blocks one by
# one.
#
# <div class="demo" data-demo="patches">On the web page stands an image of one dimension with two objects, a heat map and two places, with a button for each block of the algorithm and sliders for the penalty, the step and the width of suppression. It shows how the places drift and the heat map follows, and the objective after each block. Without JavaScript, change the places `beside` above and run the cells again.</div>
#
# ## Reproduction
#
# This chapter proves and trains nothing. The experiments `mist/*` train the paper's networks;
# [chapter 10](10_patches_reproduction.ipynb) shows what came out.
#
# ## Exercises
#
# **1, by hand.** At one pixel the heat maps of the scales 10, 20 and 40 answer $0.1$, $0.3$ and
# $0.1$. Compute the side by (8.6), the moment of the same values as the paper prints it, and that
# of the pooled terms $h_s^2 / \sum h_s$.


# %%
def three_sides():
    return 22.0, 11.0, 11.0  # (8.6), printed, printed with pooled terms


check.attempt(check.three_sides, three_sides)

# %% [markdown]
# **2, code.** Write (8.1) for a row of scores `(n,)`: the softmax of each among the `size` around
# it, the window clipped at the ends. The attempt takes padding for pixels.


# %%
def local_softmax_row(scores, size, strength):
    e = (strength * scores).exp()
    near = torch.nn.functional.pad(e, (size // 2, size // 2), value=1.0).unfold(0, size, 1)
    return e / near.sum(1)


check.attempt(check.local_softmax_row, local_softmax_row)

# %% [markdown]
# **3, code.** Write (8.9): one step from `x` with the gradient `g`, the start `x0`, the rate `lr`
# and the penalty $\lambda$. The attempt takes an explicit step on both terms. For which penalties
# does it run away from $x_0$?


# %%
def proximal_step(x, x0, g, lr, penalty):
    return x - lr * (g + 2 * penalty * (x - x0))


check.attempt(check.proximal_step, proximal_step)

# %% [markdown]
# **4, code.** A program takes `steps` gradient steps with the rate `lr` on the *mean* loss of a
# batch. Return the penalty, for one image, that lets its places go as far where the loss is nearly
# flat.


# %%
def implicit_penalty(steps, lr, batch):
    return 1 / (2 * steps * lr)


check.attempt(check.implicit_penalty, implicit_penalty)

# %% [markdown]
# **5, change the task.** In (8.5) the patches are added where boxes overlap. Two digits lie so near
# that their boxes share a column of pixels with ink in it. With $\tau = 1$, is the minimum of the
# loss at the true places? What would a maximum in place of the sum change, and what would it do to
# the gradient?
#
# **6, explain to a colleague.** Your colleague trains a detector on its own best guesses and is
# surprised that it does not collapse. Explain in three sentences what a shared network can regress
# and what it cannot, and give an example of data on which it would learn the wrong thing.
#
# ## Further reading
#
# - [Angles, Jin et al. (2021)](https://arxiv.org/abs/1811.10725), sections 3 and 4: the source of
#   this chapter. Earlier versions of the same arXiv entry hold the appendices.
# - [Carreira-Perpiñán and Wang (2014)](https://arxiv.org/abs/1212.5921), *Distributed optimization
#   of deeply nested systems*: slack variables between layers, with a penalty that grows.
# - [Frerix, Möllenhoff, Moeller and Cremers (2018)](https://arxiv.org/abs/1706.04638), *Proximal
#   backpropagation*: the three lines above, layer by layer.
# - [Lee, Zhang, Fischer and Bengio (2015)](https://arxiv.org/abs/1412.7525), *Difference target
#   propagation*: targets for layers, from inverses that are learned.
# - [Niepert, Minervini and Franceschi (2021)](https://arxiv.org/abs/2106.01798), *Implicit MLE*:
#   the difference of two choices as a gradient.
# - [Zach and Bourmaud (2018)](https://openaccess.thecvf.com/content_ECCV_2018/html/Christopher_Zach_Descending_lifting_or_ECCV_2018_paper.html),
#   *Descending, lifting or smoothing*: when lifting helps an optimisation.
