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
# # Patches: lifting a choice
#
# After this page you can explain why choosing the $K$ best places has no gradient, derive the
# training of MIST from the papers' equations (1) to (7) with the assumption behind each step, tell
# a penalty from a Lagrange multiplier, name two things that this training cannot do, and compute
# what a bag of labels says about patches. You need [One idea](00_one_idea.ipynb), the chain rule
# and gradient descent. The page runs in ten seconds on one CPU core and needs no GPU.
#
# The paper is [Angles, Jin, Kornblith, Tagliasacchi and Yi (2021), *MIST: Multiple Instance Spatial
# Transformer*](https://arxiv.org/abs/1811.10725). "Paper (6)" means its equation 6, "version 3" is
# an earlier text of the same arXiv entry, "the papers" means both texts, and "the release" is the
# authors' code. Numbers like (8.2) are ours.
#
# ## Problem
#
# An image contains $K$ digits at unknown places. The observed label is the *bag* of the digits'
# classes; in an easier task only the number $K$ is given. A network has to find the digits, cut out
# a patch around each, and classify the patches or rebuild the image from them.

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
# The $K$ *places* are hidden. A place is $x_k = (x, y, s)$: the centre of a square box in pixels,
# and the side $s$ of the box. Pixel centres are integers, and $x$ runs along the width. Our example
# has two digits of 8 x 8 pixels, blurred by a mean over 3 x 3 pixels, and boxes of side 8. If the
# centre of such a box is an integer $x$, its edges are at $x - 4$ and $x + 4$, so the box covers 9
# x 9 pixel centres.

# %%
tiles, classes = (x.double() for x in digits.load("test"))
SHAPE, SIDE, SIZE, K = (24, 36), 8.0, 9, 2
generator = torch.Generator().manual_seed(78)
pair = {"k": (K, K)}
world = digits.canvases(tiles, classes.long(), 1, SHAPE, generator, **pair)
image = torch.nn.functional.avg_pool2d(world["images"], 3, 1, 1)
true = world["places"]  # (1, 2, 3)
print("true centres", true[0, :, :2].tolist(), end=" ")
print("labels", world["classes"][0].tolist())


# %% tags=["hide-input"]
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
# A network $\mathcal{H}_\eta$ with weights $\eta$ gives every pixel $i$ a score $z_i$. On this page
# the score is the mean brightness of 7 x 7 pixels. In version 3 (appendix A) the last layer of
# $\mathcal{H}_\eta$ is a softmax with strength $a$ (10 in the release) over the window $W_i$ of
# pixels around pixel $i$, the *local softmax*. Its result is the *heat map* $h$:
#
# $$ h_i = \frac{e^{a z_i}}{\sum_{j \in W_i} e^{a z_j}} . \tag{8.1} $$
#
# A peak that exceeds the other $n - 1$ pixels of its window by $d$ gets about
# $1 / (1 + n e^{-a d})$, whatever its height.
#
# The next step is *suppression*: a pixel that is not the maximum of a small window $V_i$ around it
# is discarded. The $K$ largest remaining pixels are the centres of the places. The paper calls the
# whole extractor $E_K$:
#
# $$ E_K(h) = \operatorname*{arg\,top}_{K} \; \bigl\{ h_i \;:\; h_i = \max_{j \in V_i} h_j \bigr\} . \tag{8.2} $$
#
# Of equal maxima in one window our code keeps the first (the release all). The side $s$ is fixed
# until (8.6). The figure shows the four stages.

# %%
blur = torch.full((1, 1, 7, 7), 1 / 49).double()
scores = torch.nn.functional.conv2d(image, blur, padding=3)[:, 0]
h = patches.local_softmax(scores, 9, 40.0)  # (1, 24, 36)
left = patches.suppress(h, 5)  # (1, 24, 36), -inf where suppressed
places, values = patches.top_k(left, K, SIDE)  # (1, 2, 3), (1, 2)
assert torch.equal(places, patches.extract(h, K, 5, SIDE)[0])

# %% tags=["hide-input"]
fig, axes = plt.subplots(1, 4, figsize=(7.2, 1.7))
stages = {"image": image[0, 0], "scores": scores[0], "local softmax": h[0]}
stages["after suppression"] = (left > -torch.inf)[0].double() * h[0]
for axis, (name, stage) in zip(axes, stages.items(), strict=True):
    axis.imshow(stage, cmap="gray_r" if name == "image" else "cividis")
    axis.set_title(name, size=9)
    frame(axis, places[0] if axis is axes[0] else places[0, :0])
show.figure(
    fig,
    alt="Four panels: an image with two digits, each in a square box; smooth"
    " scores with two broad hills; the local softmax, dark except for two"
    " narrow peaks and a faint rim at the border; after suppression a few"
    " single pixels, the brightest two at the centres of the boxes.",
)

# %% [markdown]
# The boxes lie on the digits.
#
# ### From places to patches, and back
#
# The *sampler* $\mathcal{S}$ cuts the patch of a place out of the image $I$. It reads the image by
# bilinear interpolation on a grid of positions $u$ that spans the box from edge to edge (a spatial
# transformer, [Jaderberg et al. 2015](https://arxiv.org/abs/1506.02025)):
#
# $$ P_k(u) = I\bigl( (x, y) + s \, u \bigr) , \qquad u \in \bigl\{ -\tfrac12, \dots, \tfrac12 \bigr\}^2 . \tag{8.3} $$
#
# Between pixels the interpolated image is linear along each axis, so its derivative in $x$ exists
# there: on a row of pixels it is the difference of the two neighbouring pixels (the output compares
# the two). **Interpolation is the only source of gradients for places.**

# %%
seen = patches.sample(image, places, SIZE)  # (1, 2, 1, 9, 9)
x, y = places[0, 0, :2].int().tolist()
assert torch.allclose(seen[0, 0, 0], image[0, 0, y - 4 : y + 5, x - 4 : x + 5])

# %% tags=["hide-input"]
leaf = (places + torch.tensor([0.25, 0, 0])).requires_grad_()  # between pixels
value = patches.sample(image, leaf, SIZE)[0, 0, 0, 4, 6]
(slope,) = torch.autograd.grad(value, leaf)
difference = image[0, 0, y, x + 3] - image[0, 0, y, x + 2]
print(f"slope {slope[0, 0, 0]:+.4f}, pixels {difference:+.4f}")

# %% [markdown]
# The *generalised inverse* $\mathcal{S}^{-1}$ puts a patch $P$ back into its box in an image of
# zeros. The sampler would read a pixel $q$ inside the box at $u = (q - (x, y)) / s$. So $q$ gets
# the value of the patch at this $u$, by interpolation. Outside the box it fades to 0 within the
# distance of two samples:
#
# $$ \mathcal{S}^{-1}(P, x_k)(q) = P\Bigl( \frac{q - (x, y)}{s} \Bigr) . \tag{8.4} $$
#
# The inverse gives us a first task, paper (8): reconstruct the image as a sum of its $K$ patches.
# $T_\tau$ is a network with weights $\tau$ that works on each patch (an auto-encoder in the paper):
#
# $$ \ell = \Bigl\| I - \sum_{k=1}^{K} \mathcal{S}^{-1} \bigl( T_\tau(P_k), x_k \bigr) \Bigr\|_2^2 . \tag{8.5} $$
#
# The package takes the mean over the pixels. On this page $T_\tau$ multiplies the patch by a number
# $\tau$. With $\tau = 1$, integer centres and disjoint boxes, every pixel inside a box is
# reproduced exactly, and the loss comes only from pixels outside the boxes.


# %%
def task_loss(places, tau=1.0):
    """Compute Eq. (8.5) for our image: places (1, K, 3) -> (1,)."""
    seen = tau * patches.sample(image, places, SIZE)
    return patches.reconstruction_loss(image, seen, places)


# %% tags=["hide-input"]
back = patches.place(seen, places, SHAPE).sum(1)  # (1, 1, 24, 36)
assert torch.allclose((image - back).square().mean(), task_loss(places)[0])
blank = patches.reconstruction_loss(image, 0 * seen, places)[0]
print(f"loss without patches {blank:.4f},", end=" ")
print(f"with the two places {task_loss(places)[0]:.4f}")

# %% [markdown]
# ### Why top-K has no gradient
#
# Paper (1) composes these parts into one loss and minimises it over $\eta$ and $\tau$. What is its
# derivative in the heat map? We build a map with three peaks: one on each digit, and a *decoy* on
# an empty spot. The left panel changes the height of the second digit's peak; the right panel moves
# the second place itself.

# %%
first, second = true[0, :, :2].round().long().tolist()
spots = {"first digit": first, "decoy": [31, 19], "second digit": second}


def peak(heights):
    """Return a map (1, H, W) with a peak on each of the three spots."""
    h = torch.zeros(1, *SHAPE).double()
    for (x, y), value in zip(spots.values(), heights, strict=True):
        h[0, y, x] = value
    return h


# %% tags=["hide-input"]
def loss_of_height(value):
    h = peak((0.9, 0.6, value))
    return task_loss(patches.extract(h, K, 5, SIDE)[0])[0]


def loss_of_place(x):
    moved = [[*first, SIDE], [x, second[1], SIDE]]
    return task_loss(torch.tensor([moved]).double())[0]


# %% tags=["hide-input"]
heights = torch.linspace(0.01, 1, 100)
line = torch.linspace(0, SHAPE[1] - 1, 281)
sliding = torch.stack([loss_of_place(x.item()) for x in line])
above = line[sliding > 1.001 * sliding[0]]  # higher than on the flat parts
assert above[[0, -1]].round().tolist() == [5, 15]
fig, (a, b) = plt.subplots(1, 2, figsize=(7.2, 2.6), sharey=True)
a.plot(heights, [loss_of_height(v) for v in heights], marker="")
a.set(xlabel="height of the digit's peak", ylabel="task loss")
b.plot(line, sliding, marker="", color=show.COLOURS[1])
b.axvline(second[0], color=show.GREY, ls="--", marker="", lw=1)
b.set(xlabel="x of the second place / px")
show.figure(
    fig,
    alt="Left: the loss against the height of a peak, two level stretches with"
    " one step down where the peak passes the decoy. Right: the loss against"
    " the position of a place. It is level at both ends, a little higher from"
    " about 5 to 15 pixels, where ink of the other digit counts twice, and"
    " then falls into a valley at the digit's centre, marked by a dashed line.",
)

# %% [markdown]
# On the left the derivative is zero wherever it exists. The loss is **piecewise constant in the
# heat map**, so back-propagation gives the network no gradient. On the right the loss is
# **piecewise smooth in the places**: it slopes down to the digit where the box touches the digit,
# and is flat farther away. For $x$ between 4 and 20 the two boxes overlap, and (8.5) counts ink
# twice. This causes the rise from about 5 to 15. So the method has to use the derivative in the
# places and replace that in the heat map.
#
# The ripple on the right comes from interpolation, which blurs a patch a little when the centre
# lies between pixels.
#
# ### The side of a box
#
# With heat maps at several scales $s$, of shape `(B, S, H, W)`, a pixel has one value $h_s$ for
# each scale. The side of the box is the mean of the scales, weighted by these values (a first
# moment):
#
# $$ \bar s = \frac{\sum_s h_s \, s}{\sum_s h_s} . \tag{8.6} $$
#
# The paper prints only the numerator (section 4.1), which grows with the values of the map. Also,
# it seems to weight the scales not by $h_s$ but by the *pooled terms* $h_s^2 / \sum_s h_s$ of
# version 3 (appendix A). A digit half-way between the scales 1 and 2 gives 1/2 on both maps. Both
# terms are then 1/4, and the printed moment is 3/4, smaller than *both* scales. Dividing by the sum
# of the terms helps here, but the values 0.8 and 0.2 then give 1.06, not 1.2.

# %% tags=["hide-input"]
two = torch.tensor([1.0, 2.0]).double()  # the scales
for answers in ((0.5, 0.5), (0.8, 0.2)):
    maps = torch.tensor(answers).double().view(1, 2, 1, 1)
    pooled = maps.square() / maps.sum(1, keepdim=True)  # (1, 2, 1, 1)
    assert torch.allclose(pooled.sum(1), patches.pool_scales(maps))
    printed = (pooled[0, :, 0, 0] @ two).item()
    sides = [patches.first_moment(x, two).item() for x in (pooled, maps)]
    print(f"{answers}: printed moment {printed:.2f},", end=" ")
    print(f"divided {sides[0]:.2f}, (8.6) {sides[1]:.2f}")

# %% [markdown]
# ### The ideal heat map
#
# The partner $G$ of the extractor goes from places to maps: its map is 1 at the rounded centre of
# every place and 0 elsewhere. (With several scales the 1 is split between the scales just below and
# above the side so that (8.6) returns it.) In the formula the bracket is 1 if its statement is
# true, else 0:
#
# $$ G(\{x_k\})_i = \bigl[ \, i = \mathrm{round}(x_k, y_k) \text{ for some } k \, \bigr] . \tag{8.7} $$
#
# The paper *assumes* that $\{x_k\} \approx E_K(G(\{x_k\}))$. With (8.7) this is exact under three
# conditions: **the centres lie on pixels, the sides lie between the smallest and the largest scale,
# and no place lies in the suppression window of another.** We apply $G$ and then $E_K$ to two pairs
# of places:

# %% tags=["hide-input"]
scales = torch.tensor([6.0, 8.0, 12.0]).double()
apart = torch.tensor([[[10, 8, 9.5], [22, 17, 6.0]]]).double()
ideal = patches.ideal_heatmap(apart, SHAPE, scales)
found = patches.extract(ideal, K, 5, scales)[0]
print("apart:", apart[0].tolist())
print("    ->", found[0].tolist())
close = torch.tensor([[[10, 8, SIDE], [12, 8, SIDE]]]).double()
ideal = patches.ideal_heatmap(close, SHAPE)
found, value = patches.extract(ideal, K, 5, SIDE)
print("close:", close[0].tolist())
print("    ->", found[0].tolist(), "values", value[0].tolist())

# %% [markdown]
# The first pair comes back, in another order. Of the second pair only one peak survives the
# suppression; the value 0 marks the empty second place.
#
# ### Slack variables
#
# *Lifting* means adding variables until the hard step moves from the objective into a constraint,
# and then replacing the constraint by a penalty. The added variables are called *slack variables*.
# Write $\ell_\tau(x)$ for the task loss at places $x$.
#
# **Paper (2): copies.** Minimise $\ell_\tau(x)$ also over the heat map $h$ and the places $x$,
# subject to the constraints $h = \mathcal{H}_\eta(I)$ and $x = E_K(h)$. This is still the problem
# of paper (1). **Every image has its own $h$ and $x$, but all images share the weights.**
#
# **Paper (3): a penalty.** The first constraint enters the objective as
# $\lambda \| h - \mathcal{H}_\eta(I) \|^2$. The papers call $\lambda$ a Lagrange multiplier, but it
# is the weight of a *penalty*. A multiplier is determined by the optimisation, and the constraint
# then holds exactly. The weight of a penalty is chosen by us, and the constraint is violated: the
# minimum of $f(v) + \lambda (v - g)^2$ has $v - g = -f'(v) / (2 \lambda)$. This deviation,
# proportional to the derivative of the loss $f$, is the training signal we want.
#
# **Paper (4): invert the extractor.** Replace $x = E_K(h)$ by $h = G(x)$. **Assumption:
# $x = E_K(G(x))$**, under the three conditions above. The new constraint is stricter: it excludes
# every other map with these places.
#
# **Paper (5): drop $h$**, which is now a function of $x$:
#
# $$ \min_{\eta, \tau, x} \; J = \ell_\tau(x) + \lambda \, \bigl\| G(x) - \mathcal{H}_\eta(I) \bigr\|_2^2 . $$
#
# **Paper (6) and (7): blocks.** Fix $\eta$ and improve $\tau$ and $x$; then fix these and improve
# $\eta$. Only the second term depends on $\eta$: it is ordinary regression onto a map of dots,
#
# $$ \ell_{\text{heat}} = \bigl\| G(x) - \mathcal{H}_\eta(I) \bigr\|_2^2 . \tag{8.8} $$
#
# For $x$ the second term of $J$ is no help: $G$ rounds, so its derivative in the centres is zero.
# The paper replaces it by $\lambda \| x - E_K(\mathcal{H}_\eta(I)) \|_2^2$. **This is a different
# function**: a distance between heat maps has become a distance in pixels. The blocks no longer
# belong to *one* objective.
#
# ### The step on the places
#
# Paper (6) minimises $\ell_\tau(x) + \lambda \| x - x_0 \|^2$ in $x$, where $x_0$ are the extracted
# places. Replace $\ell$ by its linear model at the present $x_t$, add
# $\| x - x_t \|^2 / (2 \alpha)$ to stay near $x_t$, and keep the penalty. The derivative of this
# sum is zero at
#
# $$ x_{t+1} = \frac{x_t - \alpha \, \nabla \ell(x_t) + 2 \alpha \lambda \, x_0}{1 + 2 \alpha \lambda} . \tag{8.9} $$
#
# With $\lambda = 0$ this is gradient descent with the rate $\alpha$. The penalty's derivative is
# taken at the new place $x_{t+1}$; the step is called *implicit* in the penalty. For large
# $\lambda$ it ends near $x_0$. An *explicit* step, which takes both derivatives at $x_t$, would
# jump past $x_0$.


# %%
def step(x, x0, g, alpha, lam):
    return (x - alpha * g + 2 * alpha * lam * x0) / (1 + 2 * alpha * lam)


# %% tags=["hide-input"]
start = places + torch.tensor([1.7, -1.4, 0])  # two pixels off
x = start.clone()
for _ in range(3):
    leaf = x.clone().requires_grad_()
    (g,) = torch.autograd.grad(task_loss(leaf).sum(), leaf)
    x[..., :2] = step(x, start, g, 50.0, 0.004)[..., :2]  # the side stays
assert torch.allclose(x, patches.move(start, task_loss, 3, 50.0, penalty=0.004))

# %% [markdown]
# ### No penalty at all: stop early
#
# The release has no penalty. It takes two gradient steps from $x_0$ and stops. Measure $x$ from
# $x_0$, along a direction in which the loss is a parabola with curvature $c$ and its minimum at
# distance $d$. Each gradient step multiplies the remaining distance by $1 - \alpha c$. Compare $m$
# such steps with the exact minimum under the penalty:
#
# $$ x_m = \bigl[ 1 - (1 - \alpha c)^m \bigr] \, d , \qquad x_\lambda = \frac{c}{c + 2 \lambda} \, d . $$
#
# For small $c$ the two distances are $m \alpha c \, d$ and $c \, d / (2 \lambda)$: **equal for
# $\lambda = 1 / (2 m \alpha)$.** The figure compares $x_m / d$ with $x_\lambda / d$.

# %% tags=["hide-input"]
m, alpha = 2, 1.0
curvature = torch.logspace(-2, 0, 30).double()  # one image for each


def bowl(places):
    """Return a quadratic loss with its minimum one pixel away."""
    return 0.5 * curvature * (places[:, 0, 0] - 1).square()


# %% tags=["hide-input"]
origin = torch.zeros(30, 1, 3).double()
stopped = patches.move(origin, bowl, m, alpha)[:, 0, 0]
held = patches.move(origin, bowl, 300, alpha, penalty=1 / (2 * m * alpha))
held = held[:, 0, 0]
assert torch.allclose(stopped, 1 - (1 - alpha * curvature) ** m)
assert torch.allclose(held, curvature / (curvature + 1 / (m * alpha)))

# %% tags=["hide-input"]
fig, axis = plt.subplots(figsize=(5.4, 2.7))
axis.plot(curvature, stopped, label="two steps, then stop")
axis.plot(curvature, held, label="penalty λ = 1 / (2mα)")
axis.set(xscale="log", xlabel="curvature × α", ylabel="share of the distance")
axis.legend()
show.figure(
    fig,
    alt="The share of the distance to the minimum against the curvature, on a"
    " logarithmic axis. Two steps and the penalty agree for small curvature"
    " and rise together; at curvature one the two steps have gone all the way,"
    " the penalty two thirds of it.",
)

# %% [markdown]
# Early stopping acts like the penalty where the curvature is small. The release has the rate $10^4$
# on the mean loss of a batch of 32. The mean divides the gradient of each image by 32, so the rate
# for one image's loss is $10^4 / 32 = 312.5$. With $m = 2$ this corresponds to
# $\lambda = 1 / (2 \cdot 2 \cdot 312.5) = 8 \cdot 10^{-4}$ per squared pixel. So **the rate of the
# places must grow with the batch size**.
#
# ### For differentiable layers, lifting is back-propagation
#
# We check regression onto moved places on a differentiable $g(\theta)$ in the role of network and
# extractor.
#
# 1. Take a step on the slack variable from $v_0 = g(\theta)$:
#    $v^+ = v_0 - \alpha \nabla \ell(v_0)$.
# 2. Regress $g$ onto the constant $v^+$. At $v_0$ the gradient of
#    $\tfrac12 \| g(\theta) - v^+ \|^2$ is
#    $J_g^\top (v_0 - v^+) = \alpha \, J_g^\top \nabla \ell(v_0)$, with the Jacobian $J_g$: this is
#    **back-propagation, times $\alpha$.**
#
# [Frerix et al. (2018)](https://arxiv.org/abs/1706.04638) prove it layer by layer. Our check uses a
# soft-argmax, a differentiable map from heat maps to places.

# %%
theta = torch.randn(1, K, *SHAPE, generator=generator).double()
theta.requires_grad_()
v0 = patches.soft_argmax(theta, 3.0, SIDE)  # (1, 2, 3)
loss = task_loss(v0).sum()
(by_chain_rule,) = torch.autograd.grad(loss, theta, retain_graph=True)
v1 = patches.move(v0, task_loss, 1, 7.0)
(by_lifting,) = torch.autograd.grad(0.5 * (v0 - v1).square().sum(), theta)
equal = torch.allclose(by_lifting, 7.0 * by_chain_rule)
print("equal, with the factor 7:", equal)

# %% [markdown]
# So one such step gives something new only where the Jacobian is useless, as for top-K.
#
# ### At top-K: the better choice minus the present one
#
# Half of (8.8) has the gradient $\mathcal{H} - G(x^+)$ in the map, where $x^+$ are the moved
# places. If the map is nearly ideal, the descent direction is
#
# $$ G(x^+) - G(E_K(\mathcal{H})) : \quad \text{improved selection minus present selection.} $$
#
# Two known estimators for discrete layers also subtract two selections: *black-box differentiation*
# ([Vlastelica et al. 2020](https://arxiv.org/abs/1912.02175)) and *I-MLE* ([Niepert et al.
# 2021](https://arxiv.org/abs/2106.01798)). Describe a choice by a *mask* that is 1 for each chosen
# candidate and 0 for the others: the sum in (8.5) then runs over all candidates, each patch times
# its entry of the mask. These methods change the *scores* along the derivative of the loss in the
# mask, and select again. The derivative needs the patches of all candidates. MIST reads only those
# of the chosen places, and changes their *positions*.
#
# Take the three peaks again, but now the decoy's is higher than the second digit's. The output
# shows the *pull* on each peak: minus the gradient of half of (8.8), summed over the 5 x 5 pixels
# around it. Its last line is the derivative of the task loss in the mask, in the same order.

# %%
h = peak((0.9, 0.8, 0.6)).requires_grad_()
x0, _ = patches.extract(h.detach(), K, 5, SIDE)
lifted = patches.lifted_step(h, x0, task_loss, 2, 0.5, normalise=True)
half = lifted.heat.sum() * h.numel() / 2  # half of (8.8)
(gradient,) = torch.autograd.grad(half, h)

# %% tags=["hide-input"]
for name, (x, y) in spots.items():
    pull = -gradient[0, max(y - 2, 0) : y + 3, x - 2 : x + 3].sum()
    print(f"pull around the {name:12} {pull:+.2f}")
candidates = torch.tensor([[[*p, SIDE] for p in spots.values()]]).double()
mask = torch.tensor([1.0, 1, 0]).double().requires_grad_()  # the chosen two
every = patches.sample(image, candidates, SIZE)
every = patches.place(every, candidates, SHAPE)[0]  # (3, 1, 24, 36)
rest = image[0] - (mask[:, None, None, None] * every).sum(0)
(slope,) = torch.autograd.grad(rest.square().mean(), mask)
print("derivative of the loss in the mask", slope.round(decimals=4).tolist())

# %% [markdown]
# The chosen digit is pulled up towards 1. The *decoy is pulled up too*: its box is empty, so its
# place has no gradient and stays, and the regression turns it into an ideal peak. The missed digit
# is *pushed down*, because it is not in the target. The derivative in the mask is negative for the
# missed digit: choosing it would lower the loss.
#
# This shows two limits. **No gradient raises a peak far away**: places move about a pixel at a
# time. And **every choice is reinforced, right or wrong**. Training can still succeed, because all
# images share the network: pixels that look alike get similar values, and the regression fits the
# mean of their targets. Digits are often targets. Blank spots are almost never targets, so
# regression pulls their peaks down. The argument fails if the network can tell *where* a pixel is:
# zero padding reveals the border, and the network can then learn to choose a corner of every image.
#
# ### Three other names for the same loop
#
# *EM.* Moving the places improves one guess of the hidden places, while a full E-step would compute
# a distribution; updating $\tau$ is an M-step. The heat map network learns to predict the improved
# guess from the image (*amortised inference*). *Self-training.* With steps of length zero the
# network is trained on its own choice; the next chapter measures how far this goes. *Vector
# quantisation.* (8.8) pulls the map towards a discrete map, as the auto-encoder VQ-VAE pulls each
# code towards the nearest entry of a learned table ([van den Oord et al.
# 2017](https://arxiv.org/abs/1711.00937)).
#
# ### What a bag of labels determines
#
# The second task of the paper reads the patches. The label of an image is a bag of one-hot vectors
# without places, with the mean $\bar y$. The classifier gives a softmax $\hat p_k$ for patch $k$.
# Paper (9) compares $\bar y$ with the mean $\bar p$ of the answers:
#
# $$ \ell = \| \bar y - \bar p \|_2^2 , \qquad \bar p = \frac{1}{K} \sum_{k=1}^{K} \hat p_k . \tag{8.10} $$
#
# Both $\bar y$ and $\bar p$ are proportions, so there may be more places than labels.
#
# *What the loss cannot see.* The gradient in $\hat p_k$ is $\tfrac{2}{K} (\bar p - \bar y)$, the
# same for every patch of the bag. When the mean is right it is zero, whichever patch gave which
# answer. The exact probability of the observed counts, (5.5) of [chapter
# 5](05_counts_likelihood.ipynb), can still have a gradient there, unless all answers are equal. (It
# needs as many places as labels.) Suppose two patches have the answers (0.6, 0.4) and (0.4, 0.6),
# and the bag has one label of each class. The descent directions in the logits are:

# %% tags=["hide-input"]
answers = torch.tensor([[[0.6, 0.4], [0.4, 0.6]]]).double()  # (1, 2, 2)
log_p = answers.log().requires_grad_()
labels = torch.tensor([[1, 1]])  # one of each class
loss = patches.proportion_loss(log_p, labels).sum()
(of_means,) = torch.autograd.grad(loss, log_p)
posterior = counts.posterior_multiclass(log_p.detach(), labels)
of_counts = (posterior - answers)[0].round(decimals=3)
print("pull of (8.10):    ", (-of_means[0]).abs().round(decimals=3).tolist())
print("pull of the counts:", of_counts.tolist())

# %% [markdown]
# *Different bags can still identify the classes.* Let $p_a$ be the answer for a patch of true class
# $a$, **the same in every bag**. If the bags $\{1, 2\}$, $\{1, 3\}$ and $\{2, 3\}$ have zero loss,
# then $p_1 + p_2 = e_1 + e_2$ and so on, with one-hot vectors $e_a$. The sum of the first two
# equations minus the third gives $p_1 = e_1$. If all bags are equal, any answers with the right
# mean have zero loss, such as $\bar y$ for every patch.
#
# ## Code
#
# Algorithm 1, in the order of the release, does three things for each batch: (i) extract the
# places; (ii) move them with (8.9); (iii) take one optimiser step of $\tau$ on the task loss and of
# $\eta$ on (8.8), both at the moved places. No gradient of one loss reaches the weights of the
# other. So the two steps are *one* backward pass of the sum
#
# $$ \ell_\tau(x^+) + \bigl\| G(x^+) - \mathcal{H}_\eta(I) \bigr\|_2^2 . \tag{8.11} $$
#
# We run the loop with the smallest possible networks: $\tau$ is the factor from above, and the heat
# map itself is the parameter $\eta$. In `train`, `penalty` is the $\lambda$ of (8.9), and `lam` is
# that of $J$.


# %%
def both_terms(x, eta, tau, lam):
    """Return the task loss and the heat map term of J."""
    gap = (patches.ideal_heatmap(x, SHAPE) - eta).square().sum()
    return task_loss(x, tau)[0].item(), lam * gap.item()


# %%
def train(eta, tau, rounds, rate=0.7, penalty=0.0, lam=0.01, alpha=None):
    """Run Algorithm 1: steps of one pixel, or of (8.9) with `alpha`."""
    path, J = [], []
    step = {"steps": 1, "lr": alpha or 1.0, "normalise": not alpha}
    for _ in range(rounds):
        x, _ = patches.extract(eta, K, 5, SIDE)
        path.append(x[:, x[0, :, 0].argsort()])  # from left to right
        J.append(both_terms(x, eta, tau, lam))
        loss = partial(task_loss, tau=tau)
        x = patches.move(x, loss, penalty=penalty, **step)
        J.append(both_terms(x, eta, tau, lam))
        leaf = tau.clone().requires_grad_()
        (slope,) = torch.autograd.grad(task_loss(x, leaf).sum(), leaf)
        tau = tau - 2 * slope
        J.append(both_terms(x, eta, tau, lam))
        eta = eta - rate * (eta - patches.ideal_heatmap(x, SHAPE))  # (8.8)
        J.append(both_terms(x, eta, tau, lam))
    return torch.cat(path), torch.tensor(J).view(rounds, 4, 2), tau


# %%
beside = torch.tensor([[[8, 18, SIDE], [26, 5, SIDE]]]).double()
eta = 0.6 * patches.ideal_heatmap(beside, SHAPE)  # peaks beside the digits
path, terms, tau = train(eta, torch.tensor(0.5).double(), 12)
J = terms.sum(-1)  # (12, 4)
print(f"first objective J {J[0, 0]:.4f}, last {J[-1, -1]:.4f};", end=" ")
print(f"tau from 0.5 to {tau:.2f}")

# %% [markdown]
# The package's `lifted_step` does (ii) and returns both losses of (8.11).

# %% tags=["hide-input"]
h = eta.clone().requires_grad_()
x0, _ = patches.extract(eta, K, 5, SIDE)
lifted = patches.lifted_step(h, x0, task_loss, 1, 1.0, normalise=True)
assert torch.equal(lifted.task, task_loss(lifted.places))
dots = patches.ideal_heatmap(lifted.places, SHAPE)
assert torch.allclose(lifted.heat, (h - dots).square().mean((1, 2)))

# %% [markdown]
# ## Picture
#
# The left panel draws the paths of the two places, the right panel $J$ after each block.

# %% tags=["hide-input"]
fig, (a, b) = plt.subplots(1, 2, figsize=(7.2, 2.6), width_ratios=[1.25, 1])
a.imshow(image[0, 0], cmap="gray_r")
for k in range(K):
    a.plot(*path[:, k, :2].T, "o-", color=show.COLOURS[0], ms=3, lw=1)
frame(a, path[0], show.COLOURS[0], "--", "o")
frame(a, path[-1])
names = ("extract", "places", "task", "heat map")
rounds = torch.arange(len(J))
every_block = torch.arange(J.numel()) / 4
b.plot(every_block, J.flatten(), color=show.GREY, marker="", lw=1)
for i, name in enumerate(names):
    dot = {"color": show.COLOURS[i], "label": name}
    b.plot(rounds + i / 4, J[:, i], show.MARKERS[i], **dot)
b.set(xlabel="round", ylabel="objective J")
b.legend(fontsize=8)
show.figure(
    fig,
    alt="Left: two dashed boxes beside two digits, and a chain of dots from"
    " the centre of each to the centre of a solid box on the digit. Right: the"
    " objective over the rounds. It falls on the whole, but jumps up at every"
    " step of the places and comes down with the heat map.",
)

# %% [markdown]
# The boxes walk onto the digits, about a pixel per round, and the peaks follow. But the step on the
# places *raises* $J$ in every round.
#
# ## When it breaks
#
# **It is not a descent.** The paper writes that "being based on block coordinate descent, this
# process converges smoothly". In block coordinate descent no block raises the objective. Here one
# does:

# %% tags=["hide-input"]
rise = J.diff(dim=1) > 1e-9  # (12, 3): after places, task, heat map
for name, number in zip(names[1:], rise.sum(0).tolist(), strict=True):
    print(f"the block {name:8} raised J in {number} of {len(J)} rounds")
number = (terms[..., 0].diff(dim=1)[:, 0] > 1e-9).sum().item()
print(f"the block places   raised the task loss in {number} of {len(J)} rounds")
for lam in (0.0005, 0.001):
    one = {"penalty": lam, "lam": lam, "alpha": 500.0}
    terms = train(eta, torch.tensor(0.5).double(), 12, **one)[1]
    rose = terms.sum(-1).diff(dim=1)[:, 0] > 1e-9
    left = terms[..., 1].diff(dim=1)[:, 0] > 1e-9  # a dot left its peak
    print(f"gradient steps, λ = {lam}: places raised J in", end=" ")
    print(f"{rose.sum()} of {len(J)} rounds, dots moved in {left.sum()}")

# %% [markdown]
# A place that moves to another pixel moves its dot in $G(x)$ there. With the values $h_0$ of the
# map at the old pixel and $h_1$ at the new one, this adds $2 (h_0 - h_1)$ to the squared distance
# in $J$: up to 2 for maps in $[0, 1]$, however short the move was.
#
# In the first four lines every step is one pixel long, so a dot moves in every round. Near the end
# such a step also raises the task loss (fourth line). In the last two lines the places take
# gradient steps (8.9), with the same $\lambda$ as in $J$. These steps lower the task loss, so $J$
# can rise only when a dot moves.
#
# **Steps below half a pixel vanish.** If a round moves a place by less than half a pixel, the
# target is the old pixel, and the next round starts from it again. With too low a rate no place
# moves. We repeat the loop with a penalty that shortens every step.

# %% tags=["hide-input"]
for penalty in (0.0, 0.2, 0.6):
    half = torch.tensor(0.5).double()
    path, _, _ = train(eta, half, 12, penalty=penalty)
    ends = [f"{task_loss(x[None])[0]:.4f}" for x in (path[0], path[-1])]
    length = 1 / (1 + 2 * penalty)  # (8.9)
    print(f"steps of {length:.2f} px: task loss at the places", end=" ")
    print(f"from {ends[0]} to {ends[1]}")

# %% [markdown]
# The demo shows two more failures: **two places on one digit**, and **a place without a digit
# within reach**.
#
# <div class="demo" data-demo="patches">The web page shows here an image of one dimension with two objects, a heat map and two places, with a button for each block and sliders for the penalty, the step and the width of suppression. Without JavaScript, change the places `beside` above and run the cells again.</div>
#
# ## Reproduction
#
# The experiments `mist/*` train the paper's networks with this algorithm; [chapter
# 10](10_patches_reproduction.ipynb) shows the results.
#
# ## Exercises
#
# **1, by hand.** At one pixel the heat maps of the scales 10, 20 and 40 have the values $0.1$,
# $0.3$ and $0.1$. Compute three moments: (8.6), its numerator alone (the printed moment), and the
# printed moment of the pooled terms $h_s^2 / \sum h_s$.


# %%
def three_sides():
    return 22.0, 11.0, 11.0  # (8.6), printed, printed with pooled terms


check.attempt(check.three_sides, three_sides)

# %% [markdown]
# **2, code.** Write (8.1) for a row of scores `(n,)`: the softmax of each score among the `size`
# scores around it, with the window clipped at the ends.


# %%
def local_softmax_row(scores, size, strength):
    e = (strength * scores).exp()
    ends = (size // 2, size // 2)
    padded = torch.nn.functional.pad(e, ends, value=1.0)
    return e / padded.unfold(0, size, 1).sum(1)


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
# batch. Return the penalty, for one image, that lets its places move just as far where the loss is
# nearly flat.


# %%
def implicit_penalty(steps, lr, batch):
    return 1 / (2 * steps * lr)


check.attempt(check.implicit_penalty, implicit_penalty)

# %% [markdown]
# **5, change the task.** In (8.5) the patches are added where boxes overlap. The boxes of two
# digits share a column of pixels with ink. With $\tau = 1$, is the minimum of the loss at the true
# places? What would a maximum in place of the sum change, and what would it do to the gradient?
#
# **6, explain to a colleague.** Your colleague trains a detector on its own best guesses and is
# surprised that this works. Explain in three sentences what a network shared by all images can and
# cannot learn from such targets, and give an example of data on which it would learn the wrong
# thing.
#
# ## Further reading
#
# - [Angles, Jin et al. (2021)](https://arxiv.org/abs/1811.10725), sections 3 and 4; earlier
#   versions contain the appendices.
# - [Carreira-Perpiñán and Wang (2014)](https://arxiv.org/abs/1212.5921), *Distributed optimization
#   of deeply nested systems*: slack variables between layers, with a penalty that grows.
# - [Zach and Bourmaud (2018)](https://openaccess.thecvf.com/content_ECCV_2018/html/Christopher_Zach_Descending_lifting_or_ECCV_2018_paper.html),
#   *Descending, lifting or smoothing*: when lifting helps an optimisation.
