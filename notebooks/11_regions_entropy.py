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
# # Regions: what a class says about pixels
#
# After this page you can derive a loss that trains two networks together: one computes a mask of
# the pixels that show the class, the other classifies the masked image. You can say which term of
# the loss bounds an entropy, compute the mask from the maps of the first network, and prove when
# the mask of all ones minimises the loss. You need [One idea](00_one_idea.ipynb), logarithms, and
# the chain rule of derivatives. The page runs in ten seconds on one CPU core and needs no GPU.
#
# The paper is [Belharbi, Rony, Dolz, Ben Ayed, McCaffrey and Granger (2020), *Min-max entropy for
# weakly supervised pointwise localization*](https://arxiv.org/abs/1907.12934). "Paper (6)" means
# its equation 6. Numbers like (11.2) are ours.
#
# ## Problem
#
# A pathologist looks at an image of tissue and writes down one word: malignant. Her decision rests
# on the glands and not on the tissue between them, but she did not mark them. We get thousands of
# such images, each with its class and nothing else. We want a classifier, and also the pixels on
# which the decision rests.

# %%
import matplotlib.pyplot as plt
import torch
from torch.nn import functional as F

from wsl_tutorial import check, regions, show
from wsl_tutorial.data import glands

show.style()

# %% [markdown]
# We study the problem on *synthetic glands*: images in which we know what decides the class. Each
# image is covered with stripes. In the stroma, the tissue between the glands, their direction
# varies smoothly and at random. In a gland they cross its boundary at a right angle (class 0) or
# run along it (class 1). The figure shows three images, each drawn twice from the same random
# numbers, as class 0 and as class 1.


# %%
def draw(label):
    generator = torch.Generator().manual_seed(5)
    return glands.glands(3, generator, size=128, labels=torch.full((3,), label))


# %% tags=["hide-input"]
drawn = [draw(0), draw(1)]
fig, axes = plt.subplots(2, 3, figsize=(5.4, 3.7))
for label, row in enumerate(axes):
    row[0].set_ylabel(f"class {label}")
    pictures = zip(
        row, *(drawn[label][k] for k in ("images", "masks")), strict=True
    )
    for axis, image, mask in pictures:
        axis.imshow(image.permute(1, 2, 0))
        axis.contour(mask, [0.5], colors="white", linewidths=1.2)
        axis.set(xticks=[], yticks=[])
        axis.grid(False)
show.figure(
    fig,
    alt="Three images of striped violet tissue, drawn twice, with the glands"
    " outlined in white. In the upper row the stripes in the glands meet the"
    " outline at a right angle, in the lower row they follow it. Outside the"
    " outlines both rows are the same.",
)

# %% [markdown]
# Only the angle between stripes and white outlines shows the class: another label changes no pixel
# outside the glands, as the counts below confirm.

# %% tags=["hide-input"]
stroma = ~drawn[0]["masks"]  # (3, 128, 128)
changed = (drawn[0]["images"] != drawn[1]["images"]).any(1)  # (3, 128, 128)
most = changed[~stroma].double().mean() > 0.5
in_stroma = (changed & stroma).sum().item()
print("stroma pixels that change with the class:", in_stroma)
print("more than half of the gland pixels do:", bool(most))

# %% [markdown]
# The generator has several *regimes*. In `everywhere`, used above, the stripes in all glands follow
# the *class direction*: across the boundary for class 0, along it for class 1. The next chapters
# train in it and in five others:
#
# - `graded`: the stripes deviate from the class direction, in some glands more than in others;
# - `head`: they deviate by up to 63 degrees, except in one small patch of one gland;
# - `one`: the image has a single gland;
# - `spurious`: the stroma has a main direction, and in most training images it depends on the
#   class;
# - `unbalanced`: class 0 is more frequent.
#
# The figure shows both classes of each regime and their frequencies. Inside a solid orange outline
# the stripes stay within 45 degrees of the class direction; inside a dashed blue one they may
# deviate further.


# %% tags=["hide-input"]
def outlined(axis, made):
    """Draw an image in grey with solid and dashed outlines."""
    grey = made["images"][0].double().mean(0) // 40  # few levels
    axis.imshow(grey, cmap="gray")
    # stripes deviate by (1 - strength) 90 degrees at most
    well = made["strength"][0] >= 0.5
    for part, style, k in ((made["masks"][0], "--", 5), (well, "-", 6)):
        look = {"colors": show.COLOURS[k], "linestyles": style}
        axis.contour(part, [0.5], linewidths=1.6, **look)
    axis.set(xticks=[], yticks=[])
    axis.grid(False)


# %% tags=["hide-input"]
names = ("everywhere", "graded", "head", "one", "spurious", "unbalanced")
fig, axes = plt.subplots(4, 3, figsize=(4.5, 6.5))
for k, name in enumerate(names):
    regime = glands.REGIMES[name]
    for label, share in enumerate(regime.prior or (0.5, 0.5)):
        g, labels = torch.Generator().manual_seed(9), torch.tensor([label])
        axis = axes[k // 3 * 2 + label, k % 3]
        outlined(axis, glands.glands(1, g, regime, size=96, labels=labels))
        axis.set_title("" if label else name)
        axis.set_xlabel(f"class {label}: {100 * share:.0f} %")
show.figure(
    fig,
    alt="Twelve grey images of striped tissue: six regimes, each with class 0"
    " above class 1. All glands have solid outlines in the regimes"
    " everywhere, one (with a single large gland), spurious and unbalanced."
    " In graded some are dashed. In head all are dashed, except for one small"
    " solid patch. Inside solid lines the stripes run across the gland's"
    " boundary in class 0 and along it in class 1. The stroma is the same in"
    " both classes, except in spurious: there its stripes are horizontal in"
    " class 0 and vertical in class 1. Each class has 50 %, in unbalanced 70"
    " and 30 %.",
)

# %% [markdown]
# Only in `spurious` do the two images differ outside the glands too: the stripes of the stroma are
# horizontal for class 0 and vertical for class 1.
#
# ## What is hidden
#
# The hidden variable is a mask. It is 1 at each pixel that helps to recognise the class and 0
# elsewhere (paper (1)). A mask splits an image $X$ into two images: $X^+$ keeps the pixels of the
# mask, $X^-$ keeps the others, and removed pixels are set to 0. The paper assumes **conditional
# independence: given $X^+$, the class $y$ does not depend on $X^-$**.
#
# A *localiser* $M$ computes a *soft* mask $R^+$, with numbers between 0 and 1 instead of bits. Let
# $R^- = 1 - R^+$. A *classifier* then sees $X^+ = X R^+$ and $X^- = X R^-$. It should be certain of
# the class on $X^+$ and undecided on $X^-$.
#
# ## Derivation
#
# ### Entropy and its bounds
#
# We call $-\log p$ the *surprise* of an event of probability $p$. It is 0 if the event is certain
# and grows without bound as $p$ goes to 0. The *entropy* of a distribution is its mean surprise;
# with the natural logarithm it is in *nats*. A classifier that sees $x$ gives each of $C$ classes a
# probability $\hat p(k \mid x)$. Their entropy is paper (2):
#
# $$ H(\hat p) = - \sum_{k=1}^{C} \hat p(k \mid x) \log \hat p(k \mid x) . \tag{11.1} $$
#
# A class with $\hat p = 0$ adds nothing, because $t \log t \to 0$ as $t \to 0$. The entropy is 0 if
# and only if one class is certain. It is largest, $\log C$, for the uniform distribution $u$ with
# $u_k = 1/C$. To prove this, take any two distributions $p$ and $q$ and sum over the classes with
# $p_k > 0$. Apply the inequality $\log t \leq t - 1$, an equality only at $t = 1$, to
# $t = q_k / p_k$:
#
# $$ - \mathrm{KL}(p \,\|\, q) = \sum_k p_k \log \frac{q_k}{p_k} \;\leq\; \sum_k p_k \Bigl( \frac{q_k}{p_k} - 1 \Bigr) \leq 0 . $$
#
# So the *Kullback-Leibler divergence* $\mathrm{KL}(p \,\|\, q)$ is never negative, and it is zero
# only if every $q_k / p_k$ is 1, that is, for $p = q$. For $q = u$ it equals $\log C - H(p)$, so
# $H(p) \leq \log C$. Three predictions and their entropies:

# %% tags=["hide-input"]
logits = torch.tensor(
    [[0.0, 0.0, 0.0], [2.0, 0.0, -1.0], [30.0, 0.0, 0.0]]
)  # (3, 3)
for row, h in zip(
    logits.softmax(1).tolist(), regions.conditional_entropy(logits), strict=True
):
    print([f"{p:.3f}" for p in row], f"entropy {h:.3g} nats")

# %% [markdown]
# In the last row the entropy is tiny but not zero. The code computes it from the logits, not from
# rounded probabilities.
#
# ### One term is a bound
#
# On $X^+$ a small entropy of the prediction is not enough: a classifier that is certain of the
# *wrong* class has a small entropy. So the paper minimises the cross-entropy with the label, paper
# (3). Let $p$ be the true distribution of the class given $X^+$. We write $H(Y \mid X^+)$ for its
# entropy, averaged over images. For one $X^+$ the mean of the loss over the class is
# $- \sum_k p_k \log \hat p_k = H(p) + \mathrm{KL}(p \,\|\, \hat p)$. Now average over images:
#
# $$ \mathbb{E} \bigl[ - \log \hat p(y \mid X^+) \bigr] = H(Y \mid X^+) + \mathbb{E} \, \mathrm{KL}\bigl( p \,\|\, \hat p \bigr) \;\geq\; H(Y \mid X^+) . $$
#
# The entropy on the right does not depend on the classifier. So the mean loss is an upper bound of
# the entropy: **a small mean loss, on enough images that the classifier has not seen, shows that
# the masked image almost determines the class**.
#
# On $X^-$ we want the opposite, a large $H(Y \mid X^-)$. But the entropy of the *prediction* is no
# lower bound of $H(Y \mid X^-)$. A classifier that always predicts $u$ there has the largest
# possible entropy, even if $X^-$ shows every gland. To show that $X^-$ contains no information we
# would need the *best* classifier on $X^-$. It is an *adversary* of the mask, since it minimises
# what the mask maximises:
#
# $$ \max_{R} \; H(Y \mid X^-) = \max_{R} \; \min_{\hat p} \; \mathbb{E} \bigl[ - \log \hat p(y \mid X^-) \bigr] . $$
#
# In the paper both networks minimise the same loss. So the classifier is no adversary but a
# *collaborator*: it helps the mask to make both terms small. Nothing checks whether another
# classifier could read the class from $X^-$.
#
# ### Two ways to be undecided
#
# One can maximise the entropy (11.1) of the prediction on $X^-$, paper (4). Or one can minimise the
# cross-entropy of this prediction with the uniform distribution, paper (5), as the authors do:
#
# $$ - \frac{1}{C} \sum_{k=1}^{C} \log \hat p(k \mid X^-) = \log C + \mathrm{KL}( u \,\|\, \hat p ) . \tag{11.2} $$
#
# The negative entropy is $- \log C + \mathrm{KL}(\hat p \,\|\, u)$, with the two arguments of the
# divergence exchanged. **Both losses are smallest at $\hat p = u$, but their gradients differ.**
# With respect to the logits $z$ they are
#
# $$ \frac{\partial}{\partial z_k} \, \text{(11.2)} = \hat p_k - \frac1C , \qquad \frac{\partial (-H)}{\partial z_k} = \hat p_k \, ( \log \hat p_k + H ) . $$
#
# Both follow from $\partial \log \hat p_j / \partial z_k = \delta_{jk} - \hat p_k$, where
# $\delta_{jk}$ is 1 for $j = k$ and otherwise 0. The figure shows them for two classes, as
# functions of the difference of the two logits.

# %%
z = torch.linspace(-10, 10, 201, dtype=torch.float64)
pair = torch.stack([z, torch.zeros_like(z)], 1).requires_grad_()  # (201, 2)
(uniform,) = torch.autograd.grad(
    regions.cross_entropy_to_uniform(pair).sum(), pair
)
(negative,) = torch.autograd.grad(
    -regions.conditional_entropy(pair).sum(), pair
)
p = pair.detach().softmax(1)  # (201, 2)
H = -(p * p.log()).sum(1, keepdim=True)  # (201, 1)
assert torch.allclose(uniform, p - 1 / 2)
assert torch.allclose(negative, p * (p.log() + H))

# %% tags=["hide-input"]
fig, axis = plt.subplots(figsize=(5.8, 2.8))
axis.plot(
    z, uniform[:, 0], markevery=25, label="cross-entropy to uniform (11.2)"
)
axis.plot(z, negative[:, 0], markevery=25, label="negative entropy")
axis.set(
    xlabel="logit of class 1 minus logit of class 2",
    ylabel="gradient for logit 1",
)
axis.legend()
at = negative[:, 0].argmax()
show.figure(
    fig,
    alt="Gradient of two losses against the difference of two logits. The"
    " circles of cross-entropy to uniform rise from minus one half to one"
    " half and stay there. The squares of negative entropy are at most"
    f" {negative[at, 0]:.2f}, at a difference of {z[at]:.1f}, and return to"
    " zero on both sides.",
)

# %% [markdown]
# Where the classifier is certain, as it is after training on whole images, the gradient of the
# negative entropy vanishes, while the gradient of the cross-entropy is still one half.
#
# ### The right target when classes are not equally frequent
#
# If $X^-$ contains no information, the best classifier predicts not $u$ but the frequencies of the
# classes, the *prior* $\pi$. With any fixed distribution $q$ as the target, the loss is
#
# $$ - \sum_{k=1}^{C} q_k \log \hat p(k \mid X^-) = H(q) + \mathrm{KL}( q \,\|\, \hat p ) , \tag{11.3} $$
#
# and its gradient is $\hat p_k - q_k$. For $q = \pi$ a classifier that predicts the prior has the
# smallest possible loss, $H(\pi)$. For $q = u$ its loss exceeds the smallest one by $\mathrm{KL}(u
# \,\|\, \pi)$. Without its validation images, the training part of GlaS, the medical data of the
# paper, has 29 benign and 38 malignant images:

# %% tags=["hide-input"]
prior = torch.tensor([29.0, 38.0]) / 67
honest = prior.log()[None]  # (1, 2)
paid = regions.cross_entropy_to_uniform(honest) - torch.log(torch.tensor(2.0))
right = regions.cross_entropy_to_prior(
    honest, prior
) - regions.conditional_entropy(honest)
print(f"excess for the prior in (11.2): {paid.item():.4f} nats")
print(f"excess for the prior in (11.3): {right.item():.4f} nats")

# %% [markdown]
# For classes in the ratio 9 to 1 the excess in (11.2) would be half a nat.
#
# ### The loss
#
# The first two terms of the loss are the cross-entropy on $X^+$ and (11.2) on $X^-$. A third term
# trains the localiser to predict the class of $X$ with probabilities $\hat p_s$ of its own (paper
# (7)). Paper (8) adds up all three, averaged over images:
#
# $$ \ell = \underbrace{- \log \hat p(y \mid X^+)}_{H^+} \; \underbrace{- \frac1C \sum_k \log \hat p(k \mid X^-)}_{H^-} \; \underbrace{- \log \hat p_s(y \mid X)}_{H_s} . \tag{11.4} $$
#
# Paper (6) is the same without $H_s$. The terms have no weights, and no term measures the size of
# the mask.

# %%
g = torch.Generator().manual_seed(0)
on_plus, on_minus, on_all = 2 * torch.randn(3, 5, 2, generator=g)  # (5, 2) each
y = torch.tensor([0, 1, 1, 0, 1])
by_hand = F.cross_entropy(on_plus, y) + F.cross_entropy(on_all, y)
by_hand = by_hand - on_minus.log_softmax(1).mean()
ours = regions.min_max_loss(on_plus, on_minus, y, on_all)
assert torch.allclose(ours, by_hand)

# %% [markdown]
# ### From class maps to class scores
#
# The localiser is a convolutional network whose last layer gives one map $A_k$ for each class, on a
# coarse grid of $n$ positions. *Pooling* turns a map into a score $s_k$, and the softmax of the
# scores is $\hat p_s$. Four poolings are common:
#
# - *Average*, as in class activation mapping (CAM): $s_k$ is the mean of $A_k$.
# - *Maximum*: $s_k$ is its largest value.
# - *Log-sum-exp*, between the two, with a sharpness $r > 0$:
#
# $$ s_k = \frac1r \log \frac1n \sum_{j=1}^{n} e^{\, r A_{k,j}} . \tag{11.5} $$
#
# - *WILDCAT*: the mean over the set $J$ of the $k_{\max}$ largest values, plus $\alpha$ times the
#   mean over the set $J'$ of the $k_{\min}$ smallest ones. The paper takes $\alpha = 0$ and nine
#   percent of the positions for $k_{\max}$:
#
# $$ s_k = \frac{1}{k_{\max}} \sum_{j \in J} A_{k,j} + \frac{\alpha}{k_{\min}} \sum_{j \in J'} A_{k,j} . \tag{11.6} $$
#
# For $r \to 0$, log-sum-exp becomes the mean (expand the exponential), and for $r \to \infty$ the
# maximum (the largest term dominates). With $\alpha = 0$, WILDCAT is the maximum for $k_{\max} = 1$
# and the mean for $k_{\max} = n$.

# %%
A = [0.1, 0.3, 2.0, 2.6, 1.8, 0.4, 0.2, 0.9, 1.1, 0.3]
A = torch.tensor(A, dtype=torch.float64)
maps = A[None, None]  # (1, 1, 10): one map on ten positions
mean, largest = regions.average_pooling(maps), regions.max_pooling(maps)
sharp, wildcat = regions.log_sum_exp_pooling, regions.wildcat_pooling
assert torch.allclose(sharp(maps, 1e-6), mean)
assert torch.allclose(sharp(maps, 1e4), largest, atol=1e-3)
assert torch.allclose(wildcat(maps, 10), mean)
assert torch.allclose(wildcat(maps, 1), largest)

# %% [markdown]
# The gradient of $s_k$ with respect to the map shows how much each position contributes to a
# training step. The figure shows a map, and beside it this gradient for the four poolings.

# %% tags=["hide-input"]
poolings = {
    "average": regions.average_pooling,
    "log-sum-exp, r = 3": lambda m: regions.log_sum_exp_pooling(m, 3.0),
    "WILDCAT, 3 of 10": lambda m: regions.wildcat_pooling(m, 3),
    "maximum": regions.max_pooling,
}
leaf = maps.clone().requires_grad_()
slopes = [torch.autograd.grad(p(leaf).sum(), leaf) for p in poolings.values()]
shares = [slope[0, 0] for (slope,) in slopes]  # (10,) each
assert all(abs(share.sum() - 1) < 1e-9 for share in shares)

# %% tags=["hide-input"]
fig, axes = plt.subplots(1, 5, figsize=(7.4, 1.9), sharex=True)
for axis, name, row in zip(
    axes, ["map A", *poolings], [A, *shares], strict=True
):
    axis.bar(
        range(10), row, color=show.GREY if name == "map A" else show.COLOURS[0]
    )
    axis.set_title(name, size=8)
    axis.set(xlabel="position", ylim=(0, 2.8 if name == "map A" else 1.05))
show.figure(
    fig,
    alt="Five bar charts over ten positions. The map has one hill of three"
    " high values and a lower one. Average pooling gives each position a"
    " tenth, log-sum-exp most to the top of the hill and some to its sides,"
    " WILDCAT a third to each of three positions, the maximum all to one.",
)

# %% [markdown]
# With a sharp pooling, few positions contribute: those where the map is largest. (The step changes
# weights that all positions share.) Nothing makes the localiser cover the rest of the gland. With
# average pooling all positions contribute equally, including those in the stroma.
#
# ### From class maps to one map
#
# One map $T$ for the whole image is the mean of the class maps, weighted by the localiser's own
# probabilities:
#
# $$ T = \sum_{k=1}^{C} \hat p_s(k \mid X) \, A_k . \tag{11.7} $$
#
# ### From one map to a mask
#
# $T$ is enlarged to the size of the image. Its values have no fixed scale, but the threshold will
# be a fixed number. So the released program shifts and scales $T$ to $[0, 1]$, a step that the
# paper does not mention:
#
# $$ \tilde T_j = \frac{T_j - \min T}{\max T - \min T} . \tag{11.8} $$
#
# In training, minimum and maximum are taken over the whole batch, in testing over the image. Then
# comes the soft threshold of paper (9),
#
# $$ R^+_j = \frac{1}{1 + e^{- \omega ( \tilde T_j - \sigma_0 )}} , \tag{11.9} $$
#
# with $\omega = 8$ and $\sigma_0 = 1/2$. For the evaluation a pixel is in the mask if $R^+_j \geq
# 1/2$. This means $\tilde T_j \geq 1/2$, that is, $T_j$ is at least the **midrange**, half-way
# between the smallest and the largest value of $T$. Neither $\omega$ nor an entropy enters this
# condition. The example has four pixels with $T = (-3, 0, 1, 5)$.

# %% tags=["hide-input"]
T = torch.tensor(
    [[[-3.0, 0.0, 1.0, 5.0]]]
)  # (1, 1, 4): one image of four pixels
for omega in (1.0, 8.0, 100.0):
    R = regions.soft_mask(regions.normalise(T), omega, 0.5)  # (1, 1, 1, 4)
    print(f"omega {omega:5}:", [f"{r:.3f}" for r in R.flatten().tolist()])
print("R+ at least 1/2:           ", (R >= 0.5).flatten().tolist())
print("T at least 1, the midrange:", (T >= 1).flatten().tolist())

# %% [markdown]
# ## Code
#
# ### The mask is cut from the graph
#
# Appendix A.2 of the paper says that the gradient of the enlargement is not deterministic.
# Therefore the enlarged map is detached and becomes "input data" for the classifier. We build the
# smallest pair of networks, with a shared body and a head each for the localiser M and the
# classifier C, and print which part receives a gradient from which loss.

# %%
torch.manual_seed(0)
body = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.ReLU())
head_m, head_c = (
    torch.nn.Conv2d(8, 2, 1),
    torch.nn.Conv2d(8, 2, 1),
)  # localiser, classifier
X, label = (
    drawn[0]["images"][:, :, ::4, ::4] / 127.5 - 1,
    torch.zeros(3, dtype=torch.int64),
)


# %%
def losses(attached):
    """Return H+ + H- and H_s of the pair of networks on three images."""
    maps = head_m(body(X))  # (3, 2, 32, 32)
    on_all = regions.wildcat_pooling(
        maps, 92
    )  # (3, 2): nine percent of 1024 positions
    R = regions.region(maps, on_all, (32, 32), 8.0, 0.5)  # (3, 1, 32, 32)
    R = R if attached else R.detach()
    plus, minus = (
        regions.average_pooling(head_c(body(x))) for x in (X * R, X * (1 - R))
    )
    return regions.min_max_loss(plus, minus, label), F.cross_entropy(
        on_all, label
    )


# %%
parts = {"head of M": head_m, "body": body[0], "head of C": head_c}
parts = {name: layer.weight for name, layer in parts.items()}
cases = (
    ("H+ + H-", False, 0),
    ("H_s", False, 1),
    ("H+ + H-, attached", True, 0),
)
for name, attached, which in cases:
    loss = losses(attached)[which]
    slopes = torch.autograd.grad(loss, list(parts.values()), allow_unused=True)
    zero = [g is None or g.norm() == 0 for g in slopes]
    found = ["0" if z else "not 0" for z in zero]
    print(f"{name:17}", dict(zip(parts, found, strict=True)))

# %% [markdown]
# With the mask detached, **the head of the localiser gets exactly no gradient from the min-max
# terms** $H^+$ and $H^-$. It is trained only by its own cross-entropy $H_s$. Section 1 of the paper
# says that the localiser "is driven through" conditional entropy. But the min-max terms reach it
# only through the shared body. With the mask attached (third line), they train its head too.
#
# ## Picture
#
# ### All ones
#
# **Claim.** *If no image of the distribution is constant, the mask of all ones is a global
# minimiser of paper (6).* Let $R^+ = 1$. Then $X^+ = X$, and $X^-$ is 0 at every pixel. Choose a
# classifier that predicts $p(y \mid X)$ for an image and $u$ for the image of zeros. **By the
# assumption, no image is the image of zeros**, so such a classifier exists.
#
# 1. *$H^-$ has its smallest value.* By (11.2) it is $\log C$ plus a divergence, and the divergence
#    is 0 for the prediction $u$.
# 2. *$H^+$ has its smallest value.* We saw that it is at least $H(Y \mid X^+)$ for every mask. The
#    mask is a function of the image, so $X^+$ is a function of $X$, and it cannot contain more
#    information about $y$ than $X$ does. Hence $H(Y \mid X^+) \geq H(Y \mid X)$. With our mask and
#    classifier, $H^+$ equals $H(Y \mid X)$.
#
# Both terms have their smallest values at once, so their sum is smallest. $\square$
#
# The third term of (11.4) does not depend on the mask. So no term penalises *false positives*,
# pixels of the stroma in the mask.
#
# Three things outside the loss make masks small. First, (11.8) maps the smallest value of $T$ to 0
# and the largest to 1. So in every test image, and in every batch in training, some pixels are in
# the mask and some are not, unless $T$ is constant. Second, the threshold at the midrange decides
# how many pixels are in the mask. Third, sharp pooling gives $T$ only a few peaks.
#
# ### Sufficient, complete, minimal
#
# We now compare all *fixed* masks, equal for all images. (The shape of other masks can show the
# class.) An image has three binary cells, gland $a$, gland $b$ and stroma $s$. Two classes are
# equally frequent. We call a joint distribution of class and cells a *world*. The *mutual
# information* $I(Y; Z) = H(Y) - H(Y \mid Z)$ is the part of our uncertainty about $Y$ that $Z$
# removes. After $X^+$, the remaining image $X^-$ removes another $I(Y; X^- \mid X^+) = H(Y \mid
# X^+) - H(Y \mid X)$. The sum is
#
# $$ I(Y; X) = I(Y; X^+) + I(Y; X^- \mid X^+) . $$
#
# - The mask is *sufficient* if $I(Y; X^- \mid X^+) = 0$: once $X^+$ is known, $X^-$ adds nothing.
#   This is the paper's assumption of **conditional independence**. Minimising $H^+$ aims at it.
# - It is *complete* if $I(Y; X^-) = 0$: $X^-$ alone contains no information. This is *marginal*
#   independence. The demand to be undecided on $X^-$ aims at it.
# - A sufficient mask is *minimal* if no smaller mask is sufficient.


# %%
def world(p_a, p_b):
    """Return P(y, a, b, s) from P(a | y) (2, 2, 1) and P(b | y, a)."""
    return (p_a * p_b / 2)[..., None] * torch.tensor([0.5, 0.5])


def told(accuracy):
    """Return P(cell | y) of a gland with this probability of showing y."""
    return torch.tensor([[accuracy, 1 - accuracy], [1 - accuracy, accuracy]])


# %%
fair = torch.full((2, 2), 0.5)
b_is_y_xor_a = torch.eye(2)[
    torch.tensor([[0, 1], [1, 0]])
]  # (2, 2, 2): y, a, b
worlds = {
    "redundant: a = y, b = y": world(told(1.0)[:, :, None], told(1.0)[:, None]),
    "noisy: each is y in 9 of 10": world(
        told(0.9)[:, :, None], told(0.9)[:, None]
    ),
    "joint: y = a xor b": world(fair[:, :, None], b_is_y_xor_a),
}
assert all(abs(p.sum() - 1) < 1e-6 for p in worlds.values())


# %%
def entropy(p):
    """Return the entropy of a table of probabilities, in bits."""
    return -torch.special.xlogy(p, p).sum() / torch.log(torch.tensor(2.0))


# %%
def given(p, seen):
    """Return H(Y | cells) in the world p (2, 2, 2, 2)."""
    unseen = [1 + i for i, cell in enumerate("abs") if cell not in seen]
    q = p.sum(unseen) if unseen else p  # (2, ...)
    return (entropy(q) - entropy(q.sum(0))).item() + 0.0


# %% [markdown]
# For each mask (`-` is the empty one) the table lists four quantities in bits: the entropy of the
# class given only $X^+$ and given only $X^-$, and the two kinds of information. The last two
# columns are losses. *Together* is paper (6) with the best classifier: it predicts from $X^+$ as
# well as possible, recognises $X^-$ by its erased cells, and predicts $u$ there. *Against* has an
# adversary that predicts from $X^-$ as well as possible: $H(Y \mid X^+) - H(Y \mid X^-)$.

# %% tags=["hide-input"]
masks = ["", "a", "b", "ab", "s", "as", "bs", "abs"]
for name, p in worlds.items():
    print(name)
    print(" X+   H(Y|X+)  H(Y|X-)  I(Y;X-|X+)  I(Y;X-)  together  against")
    for mask in masks:
        rest = "".join(c for c in "abs" if c not in mask)
        plus, minus = given(p, mask), given(p, rest)
        more, alone = plus - given(p, "abs"), given(p, "") - minus
        row = (plus, minus, more, alone, plus + 1, plus - minus)
        row = (abs(v) if abs(v) < 5e-4 else v for v in row)  # no -0.000
        print(f" {mask or '-':4}" + " ".join(f"{v:9.3f}" for v in row))

# %% [markdown]
# *Redundant.* Gland $a$ alone is sufficient. But it is not complete: $X^-$ shows gland $b$, so
# $I(Y; X^-) = 1$ bit, the whole entropy of the class. *Together* is the same for six of the eight
# masks: one gland or two, with stroma or without. *Against* prefers the two masks that contain both
# glands.
#
# *Noisy.* Now one gland is not sufficient, and minimising $H(Y \mid X^+)$ alone already requires
# both.
#
# *Joint.* Neither gland alone contains information about the class. The mask with $a$ alone is
# complete, but it is not sufficient. With the first world this shows that **neither independence
# implies the other.** Section 3 of the paper concludes that $X^+$ is sufficient *because* $X^-$
# contains no information. This world is a counterexample.
#
# In every world, adding the stroma to a mask changes neither *together* nor *against*: no term
# favours minimal masks.
#
# The demo below has six cells. Its classifier adds up the evidence in the cells that it sees. Move
# the mask, and start from one of two equal glands, from all ones, or from the head of a bird.
#
# <div class="demo" data-demo="regions">The web page shows six cells with sliders for a mask, and the entropies and the loss (11.4). Without JavaScript, change the worlds above and run the cells again.</div>
#
# ## When it breaks
#
# **The background reveals the class.** Then no mask of the objects alone is complete. Enlarging a
# fixed mask never increases $H(Y \mid X^+)$ and never decreases $H(Y \mid X^-)$, so neither
# *together* nor *against* gets worse. *Against* is better for the mask of all ones than for any
# mask of the objects, because $X^-$ then no longer contains the background. GlaS is such a case: in
# chapter 13 the stroma shows the class about as well as the glands do.
#
# **A collaborator instead of an adversary.** In the table, *together* does not depend on what $X^-$
# shows. A trained network may instead predict the class from a gland in $X^-$. Then such a gland
# increases the loss, as in *against*. But nothing guarantees such predictions.
#
# **Constant maps.** If $T$ is constant, (11.8) is 0/0. The package then returns 1/2 everywhere,
# with gradient 0.

# %% tags=["hide-input"]
flat = torch.full((1, 2, 2), 7.0, requires_grad=True)
R = regions.soft_mask(regions.normalise(flat), 8.0, 0.5)
(slope,) = torch.autograd.grad(R.sum(), flat)
print(R.flatten().tolist(), "gradient", slope.flatten().tolist())

# %% [markdown]
# ## Reproduction
#
# [Chapter 12](12_regions_erasing.ipynb) adds recursive erasing and trains a small pair of networks.
# [Chapter 13](13_regions_reproduction.ipynb) reproduces the tables of the paper.
#
# ## Exercises
#
# **1, by hand.** A classifier predicts $(1/2, 1/4, 1/4)$. Compute, in units of $\log 2$, its
# entropy, the cross-entropy (11.2), and $\mathrm{KL}(u \,\|\, \hat p)$; leave $\log_2 3$ as it is.


# %%
def three_entropies():
    log3 = torch.log2(torch.tensor(3.0)).item()
    return 1.5, log3, 0.0  # H, (11.2), KL(u || p), in bits


check.attempt(check.three_entropies, three_entropies)

# %% [markdown]
# **2, code.** Write the gradient of the *negative* entropy with respect to the logits, without
# autograd, for `logits` `(B, C)`. A class may have the logit $-\infty$; its entry is 0.


# %%
def entropy_gradient(logits):
    p = logits.softmax(1)
    return p * (p.log() + regions.conditional_entropy(logits)[:, None])


check.attempt(check.entropy_gradient, entropy_gradient)

# %% [markdown]
# **3, code.** Subtract the entropy of the prior from (11.3) and return the remaining divergence,
# $\mathrm{KL}(\pi \,\|\, \hat p)$, of shape `(B,)`, for `logits` `(B, C)` and `prior` `(C,)`.


# %%
def divergence_from_prior(logits, prior):
    log_p = logits.log_softmax(1)
    return (log_p.exp() * (log_p - prior.log())).sum(1)


check.attempt(check.divergence_from_prior, divergence_from_prior)

# %% [markdown]
# **4, code.** Given `joint` `(2, a, b)`, the probabilities of $y$, $X^+$ and $X^-$, return
# $I(Y; X^-)$ and $I(Y; X^- \mid X^+)$ in nats. Entries may be 0.


# %%
def mutual_information(joint):
    q = joint.sum(1)  # (2, b): y and X-
    ratio = q / q.sum(0) / q.sum(1, keepdim=True)
    alone = torch.special.xlogy(q, ratio).sum()
    return alone, alone


check.attempt(check.mutual_information, mutual_information)

# %% [markdown]
# **5, by hand.** Take the redundant world without its stroma, and draw the mask anew for every
# image: $a$ or $b$, each with probability one half. Now $X^+$ and $X^-$ cannot be distinguished.
# Find the classifier's best prediction for an image with one visible gland, and show that
# *together* is 1.62 bits, more than for the mask of all ones. Why can (11.8) not make such masks if
# the two glands are equal?
#
# **6, explain to a colleague.** Your colleague has trained with (11.4) and reports $H^-$ close to
# $\log C$: "so the background is uninformative". Explain in three sentences, with the words
# collaborator and adversary, what was shown and what was not.
#
# ## Further reading
#
# - [Belharbi et al. (2022)](https://arxiv.org/abs/2011.07221): a later version, with the mask
#   attached and a penalty on its size.
# - [Zolna, Geras and Cho (2018)](https://arxiv.org/abs/1805.08249), *Classifier-agnostic saliency
#   map extraction*, and [Yu, Chang, Zhang and Jaakkola (2019)](https://arxiv.org/abs/1910.13294),
#   *Rethinking cooperative rationalization*: the adversary on $X^-$.
# - [Durand, Mordan, Thome and Cord
#   (2017)](https://openaccess.thecvf.com/content_cvpr_2017/html/Durand_WILDCAT_Weakly_Supervised_CVPR_2017_paper.html),
#   *WILDCAT*: pooling with the largest and the smallest values.
