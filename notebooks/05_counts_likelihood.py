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
# # Counts: the likelihood of a number
#
# After this page you can derive the probability that a bag of $n$ instances contains exactly $y$
# positives, compute it and its E-step in $O(n\,y)$ steps where the paper enumerates
# $\binom{n}{y}$ configurations, keep both exact for saturated probabilities and for thousands of
# instances, and show that counts and presence are one recursion over two automata. You need [One
# idea](00_one_idea.ipynb). The page runs in ten seconds on one CPU core and needs no GPU.
#
# The paper is [Baručić and Kybic (2022), *Fast learning from label proportions with small
# bags*](https://arxiv.org/abs/2110.03426). "Paper (6)" means its equation 6. Numbers like (5.3)
# are ours; each of these equations is a function of the package.
#
# ## Problem
#
# A group photo shows seven faces, and we know that three of them are women, but not which. Eight
# embryos were transferred, and two children were born. Such a bag has instances
# $X = (x_1, \dots, x_n)$ and a count $y$. From many bags we want a classifier of single instances.
# The task is called *learning from label proportions*: if the size of the bag is known, a
# proportion is a count. We need the probability of a count, and what a count says about each
# instance.

# %%
from itertools import combinations
from math import comb

import matplotlib.pyplot as plt
import torch

from wsl_tutorial import check, counts, finite_automaton, presence, show, toy

show.style()

# %% [markdown]
# ## What is hidden
#
# Each instance has a hidden label $h_i \in \{0, 1\}$. We observe their sum,
# $y = h_1 + \dots + h_n$. A network with one output gives each instance a *logit* $z_i$, and
# $\rho_i = 1 / (1 + e^{-z_i})$ is its probability of being positive (paper (4)). The labels of a
# whole bag, $h$, are a *configuration*; $H$ is the set of configurations with $y$ positives.
#
# Our example for this page has five instances and the count 2. Of the $2^5 = 32$ configurations,
# $\binom{5}{2} = 10$ remain.

# %%
rho = torch.tensor([0.9, 0.7, 0.5, 0.2, 0.1], dtype=torch.float64)  # (5,)
z, y = rho.logit(), 2
observed = torch.tensor([y])  # (1,): the counts of a batch of one bag
pairs = combinations(range(5), y)
H = torch.tensor([[i in c for i in range(5)] for c in pairs])  # (10, 5)
print(f"{len(H)} configurations of {2**5},", end=" ")
print(f"expected count {rho.sum():.1f}, observed {y}")

# %% [markdown]
# ## Derivation
#
# ### The sum over configurations
#
# **Conditional independence: given the instances, the labels are independent, and $h_i$ depends on
# $x_i$ only.** Then the probability of a configuration is a product, paper (3). By (0.1) the
# probability of a count is the sum over its configurations, paper (2):
#
# $$ P(y \mid X) = \sum_{h \in H} \; \prod_{i=1}^{n} \rho_i^{h_i} (1 - \rho_i)^{1 - h_i} . \tag{5.1} $$
#
# With equal $\rho_i$ this is the binomial distribution; in general it is called the
# *Poisson-binomial* distribution. The figure draws the ten configurations of our bag, each with its
# share of the sum.

# %%
joint = torch.where(H, rho, 1 - rho).prod(1)  # (10,): paper (3)
P = joint.sum()
share = joint / P  # (10,)
print(f"P(y = 2) = {P:.4f}")
assert torch.allclose(P.log(), counts.enumeration(z[None], observed))
log_p = torch.stack([1 - rho, rho], 1).log()  # (5, 2)
by_toy = toy.log_marginal(log_p, lambda h: h.sum(-1, True), observed)
assert torch.allclose(P.log(), by_toy)

# %% tags=["hide-input"]
fig, axes = plt.subplots(1, 10, figsize=(7.2, 1.9), sharey=True)
order = share.argsort(descending=True)
for axis, h, part in zip(axes, H[order], share[order], strict=True):
    for i, positive in enumerate(h.tolist()):
        colour, size = (show.COLOURS[0], 90) if positive else (show.GREY, 10)
        axis.scatter(0, i, color=colour, s=size, marker="o")
    axis.set(xlim=(-1, 1), ylim=(4.6, -0.6), xticks=[], yticks=range(5))
    axis.set_title(f"{100 * part:.1f} %")
    axis.set_yticklabels([f"ρ = {r:.1f}" for r in rho])
    axis.grid(False)
show.figure(
    fig,
    alt="Ten columns of five dots, two of them large, with their shares of the"
    " sum in percent. The configuration of the two instances with the largest"
    " probabilities comes first with more than half; the two with the smallest"
    " come last.",
)

# %% [markdown]
# The share of a configuration is its probability *given* the count. Adding up the shares of the
# configurations in which instance $i$ is positive gives the *posterior* $r_i$:
#
# $$ r_i = P(h_i = 1 \mid y, X) = \frac{1}{P(y \mid X)} \sum_{h \in H \,:\, h_i = 1} P(h \mid X) . \tag{5.2} $$
#
# The paper calls it $\phi_i$; in this book $\phi$ is the background. In every configuration exactly
# $y$ labels are 1, so **the posteriors of a bag sum to its count**.

# %%
r = (share[:, None] * H).sum(0)  # (5,)
print("prior    ", [f"{v:.3f}" for v in rho.tolist()], f"sum {rho.sum():.3f}")
print("posterior", [f"{v:.3f}" for v in r.tolist()], f"sum {r.sum():.3f}")
assert torch.allclose(r, counts.posterior(z[None], observed)[0])

# %% [markdown]
# ### Jensen's bound
#
# Training maximises the mean of $\log P(y \mid X)$ over the bags, paper (6). The logarithm is taken
# of a sum, so the instances of a bag cannot be treated one by one. EM separates them with a lower
# bound. Take *any* distribution $\alpha$ on the configurations, and write the sum as an expectation
# under it:
#
# $$ \log \sum_{h \in H} P(h \mid X) = \log \sum_{h \in H} \alpha(h) \, \frac{P(h \mid X)}{\alpha(h)} \;\geq\; \sum_{h \in H} \alpha(h) \log \frac{P(h \mid X)}{\alpha(h)} . $$
#
# This step is *Jensen's inequality*: the logarithm is concave, so the logarithm of a mean is at
# least the mean of the logarithms. The right side is paper (7). How much is lost? Insert
# $P(h \mid X) = P(y \mid X) \, s(h)$, where $s(h)$ is the share of $h$:
#
# $$ \sum_{h \in H} \alpha(h) \log \frac{P(h \mid X)}{\alpha(h)} = \log P(y \mid X) - \sum_{h \in H} \alpha(h) \log \frac{\alpha(h)}{s(h)} . $$
#
# The last sum is the Kullback-Leibler divergence of $\alpha$ from $s$. It is never negative, and
# zero only for $\alpha = s$. So the best $\alpha$ is the share itself, paper (10). Computing it is
# the **E-step**, after which the bound touches the likelihood.

# %%
generator = torch.Generator().manual_seed(0)
for name, alpha in {
    "uniform": torch.full((10,), 0.1, dtype=torch.float64),
    "random": torch.rand(10, generator=generator, dtype=torch.float64),
    "share": share,
}.items():
    alpha = alpha / alpha.sum()  # (10,)
    bound = (alpha * (joint / alpha).log()).sum()
    print(f"{name:8} bound {bound:.4f}, log P {P.log():.4f}")

# %% [markdown]
# ### The M-step is cross-entropy
#
# The **M-step** fixes $\alpha$ and updates the network, which enters only through the numerator of
# the bound, paper (9b). By **conditional independence** the logarithm of the product is
# a sum over instances. Exchange the two sums. For each instance, the $\alpha(h)$ of the
# configurations in which it is positive add up to $r_i$, and the others to $1 - r_i$:
#
# $$ \sum_{h \in H} \alpha(h) \log P(h \mid X) = \sum_{i=1}^{n} r_i \log \rho_i + (1 - r_i) \log (1 - \rho_i) . $$
#
# That is paper (11): ordinary binary cross-entropy with soft targets. The instances of a bag are no
# longer coupled, so a mini-batch may mix instances of all bags.
#
# The figure shows the two steps for one unknown number. Each of four photos shows two people. One
# person is of the same kind in all photos, with an unknown logit $s$; the logit of the other is
# known. The counts are 1, 2, 1 and 0. The thick curve is the log-likelihood of $s$. Each thin curve
# is the bound after an E-step at its mark; its maximum is the place of the next E-step.

# %%
other = torch.tensor([0.0, 1.0, -1.0, 0.0]).double()
seen = torch.tensor([1, 2, 1, 0])


def photos(s):
    """Return the logits (4, 2) of four bags of two."""
    return torch.stack([s.expand(4), other], 1)


def bound(s, target):
    """Compute Jensen's bound at s, up to a constant; target (4, 2)."""
    up, down = photos(s).sigmoid().log(), (-photos(s)).sigmoid().log()
    return (target * up + (1 - target) * down).sum()


def likelihood(s):
    return counts.log_likelihood(photos(s), seen).sum()


# %%
line = torch.linspace(-4, 3, 141, dtype=torch.float64)
truth = torch.stack([likelihood(s) for s in line])  # (141,)
s0, steps = torch.tensor(-3.0).double(), []
for _ in range(3):
    target = counts.posterior(photos(s0), seen)  # (4, 2): E-step
    curve = torch.stack([bound(s, target) for s in line])  # (141,)
    curve = curve - bound(s0, target) + likelihood(s0)
    assert (curve <= truth + 1e-9).all()
    steps.append((s0, curve))
    s0 = line[curve.argmax()]  # M-step

# %% tags=["hide-input"]
fig, axis = plt.subplots(figsize=(6.2, 3.0))
axis.plot(line, truth, color="black", lw=2.5, marker="", label="log-likelihood")
for k, (s0, curve) in enumerate(steps):
    colour = show.COLOURS[k]
    axis.plot(
        line, curve, lw=1, marker="", color=colour, label=f"bound {k + 1}"
    )
    axis.plot(s0, likelihood(s0), show.MARKERS[k], color=colour, ms=8)
axis.set(xlabel="logit s", ylabel="nats", ylim=(-9, -3))
axis.legend(loc="lower right")
show.figure(
    fig,
    alt="A thick curve of the log-likelihood over the logit s, and three thin"
    " curves below it, each touching it at one mark. The marks climb along the"
    " thick curve, each at the maximum of the bound before it, with shorter"
    " and shorter steps.",
)

# %% [markdown]
# No bound crosses the likelihood, so no EM step can lower it: the new value is at least the maximum
# of the bound, which is at least the old value. A gradient step only has to raise the bound.
#
# ### The same sum by a recursion
#
# (5.1) has $\binom{n}{y}$ terms: 924 for six of twelve, 184,756 for ten of twenty. The paper treats
# bags of "less than 10 ~ 20 instances", but the method needs no such limit, because the terms share
# their factors. Read the instances one after the other, and let $f_i(j)$ be the probability that
# the first $i$ contain $j$ positives. If the next instance is negative, $j$ stays; if it is
# positive, $j$ grows by one. By **conditional independence** the factors multiply:
#
# $$ \begin{aligned}
# f_i(j) &= f_{i-1}(j) \, (1 - \rho_i) + f_{i-1}(j-1) \, \rho_i , \cr
# f_0(0) &= 1 , \qquad P(y \mid X) = f_n(y) .
# \end{aligned} \tag{5.3} $$
#
# Only $j \leq y$ is needed, which makes $O(n\,y)$ steps. No term is negative, so nothing cancels.


# %%
def forward(rho, y):
    """Return f_i(j) of Eq. (5.3): rho (n,) -> (n + 1, y + 1)."""
    f = [torch.eye(y + 1, dtype=rho.dtype)[0]]  # nothing read: no positives
    for p in rho:
        moved = torch.cat([f[-1].new_zeros(1), f[-1][:-1]])  # (y + 1,)
        f.append(f[-1] * (1 - p) + moved * p)
    return torch.stack(f)


# %%
f = forward(rho, y)  # (6, 3)
print(f"f_5(2) = {f[-1, -1]:.4f}, cells {5 * (y + 1)},", end=" ")
print(f"for six of twelve {12 * 7} against {comb(12, 6)}")
value = counts.log_likelihood(z[None], observed)[0]
assert torch.allclose(f[-1, -1].log(), value)

# %% [markdown]
# The posterior comes from the same table and its mirror image. Let $g_i(k)$ be the probability that
# the instances after the $i$-th contain $k$ positives; this is (5.3), read from the end. If
# instance $i$ is positive, $j$ positives come before it and $y - 1 - j$ after it, for some $j$. So
#
# $$ r_i = \frac{\rho_i}{P(y \mid X)} \sum_{j=0}^{y-1} f_{i-1}(j) \; g_i(y - 1 - j) . $$
#
# This is the *forward-backward* pass of hidden Markov models. The figure draws its paths. A step to
# the right is a negative, a step up and right a positive; every configuration of $H$ is one path
# from the origin to the count. The width of an edge is the probability, given the count, that the
# path uses it. The total width of the rising edges of step $i$ is $r_i$.

# %%
g = forward(rho.flip(0), y).flip(0)  # (6, 3): g_i(k)
rising = f[:-1, :-1] * rho[:, None] * g[1:, :-1].flip(1) / P  # (5, 2)
level = f[:-1] * (1 - rho[:, None]) * g[1:].flip(1) / P  # (5, 3)
assert torch.allclose(rising.sum(1), r)
assert torch.allclose(level.sum(1), 1 - r)

# %% tags=["hide-input"]
fig, axis = plt.subplots(figsize=(6.2, 2.6))
up, across = ({"color": c, "marker": ""} for c in show.COLOURS[1::-1])
for i in range(5):
    for j in range(y + 1):
        if j < y:
            width = 9 * rising[i, j].item()
            axis.plot([i, i + 1], [j, j + 1], lw=width, **up)
        axis.plot([i, i + 1], [j, j], lw=9 * level[i, j].item(), **across)
    axis.text(i + 0.5, 2.35, f"r = {r[i]:.2f}", ha="center", size=9)
axis.plot([0, 5], [0, y], "o", color="black")
axis.set(xticks=range(6), yticks=range(y + 1), ylim=(-0.3, 2.7))
axis.set(xlabel="instances read", ylabel="positives so far")
show.figure(
    fig,
    alt="A grid of six columns and three rows with edges from the lower left"
    " to the upper right corner. The thickest path rises in its first two"
    " steps and stays level after them. The posterior of each step is written"
    " above it, from 0.90 down to 0.04.",
)

# %% [markdown]
# We need not write the backward pass. By (0.3) the gradient of $\log P(y \mid X)$ in $z_i$ is
# posterior minus prior, $r_i - \rho_i$. So $r = \rho + \nabla_z \log P(y \mid X)$, and autograd
# does the rest.

# %%
leaf = z.clone().requires_grad_()
forward(leaf.sigmoid(), y)[-1, -1].log().backward()
assert torch.allclose(rho + leaf.grad, r)

# %% [markdown]
# ### What a count cannot see
#
# Add a constant $\lambda$ to all logits of a bag. Up to a common factor a configuration of $H$ has
# the weight $\prod_i e^{z_i h_i}$. It has exactly $y$ positives, so its weight grows by
# $e^{\lambda y}$, the same for all configurations. The shares do not change: **the posterior is
# invariant to a shift of all logits of its bag**, whatever the shift does to $\rho$. The posterior
# depends only on the differences of the logits. The count acts on their common level through the
# sum of the gradients, $\sum_i (r_i - \rho_i) = y - \sum_i \rho_i$.
#
# In the demo below you can move the logits of a bag of six and shift them all. It lists the
# configurations with their shares, and compares the gradient $r_i - \rho_i$ with that of another
# loss, DLLP, which the next chapter explains.
#
# <div class="demo" data-demo="counts">On the web page stands a bag of six instances with sliders for their logits, for a shift of all, and for the count. It lists the configurations and shows the posterior of each instance. Without JavaScript, change rho above and run the cells again.</div>

# %%
for shift in (-20.0, -1.0, 1.0, 20.0):
    moved = counts.posterior(z[None] + shift, observed)[0]
    total = (z + shift).sigmoid().sum()
    print(f"shift {shift:5}: sum of rho {total:.3f},", end=" ")
    print("posterior unchanged:", torch.allclose(moved, r))

# %% [markdown]
# ### One configuration in place of all
#
# What if we keep only the best configuration, a maximum in place of the sum? Within $H$ the weight
# is $e^{\sum_i z_i h_i}$ up to a common factor, so the best has the $y$ largest logits:
#
# $$ \hat h = \arg\max_{h \in H} P(h \mid X) , \qquad \hat h_i = 1 \;\text{ for the } y \text{ largest } z_i . \tag{5.4} $$
#
# Sorting is enough. Using $\hat h$ in place of $r$ as training targets is *hard EM*; the labelling
# step of Alter-∝SVM is of this kind. It commits to one configuration at once, which in our bag has
# little more than half of the probability.

# %%
best = counts.map_configuration(z[None], observed)[0]  # (5,)
print(best.int().tolist(), f"share {share.max():.3f}")
assert (best == H[share.argmax()]).all()

# %% [markdown]
# ### More than two classes
#
# With $C$ classes we observe a vector of counts, $c = (c_1, \dots, c_C)$ with sum $n$. The
# recursion keeps its form; its states become vectors. Let $e_k$ be the vector with a one for class
# $k$ and $p_{i,k}$ the probability that instance $i$ is of class $k$:
#
# $$ f_i(v) = \sum_{k \,:\, v_k > 0} f_{i-1}(v - e_k) \; p_{i,k} , \qquad P(c \mid X) = f_n(c) . \tag{5.5} $$
#
# There are $\prod_k (c_k + 1)$ vectors $v \leq c$, each visited once. For fixed $C$ this is
# polynomial in $n$. If every class occurs once, $c_k = 1$, it is $2^n$, and the value is the
# permanent of the matrix $p$, which we met in [chapter 1](01_presence_likelihood.ipynb): a much
# cheaper algorithm is unlikely. The posterior is again the gradient, now in $\log p_{i,k}$:
#
# $$ r_{i,k} = \frac{\partial \log P(c \mid X)}{\partial \log p_{i,k}} . \tag{5.6} $$
#
# A path that emits class $k$ at step $i$ contains the factor $p_{i,k}$ once, so the derivative of
# $P(c \mid X)$ in $\log p_{i,k}$ is the total probability of these paths.

# %%
ten = torch.randn(1, 6, 10, generator=generator, dtype=torch.float64)
ten = ten.log_softmax(2)  # (1, 6, 10)
digits = torch.tensor([[3, 3, 3, 7, 7, 9]])
c = torch.nn.functional.one_hot(digits, 10).sum(1)  # (1, 10)
posterior = counts.posterior_multiclass(ten, c)[0]  # (6, 10)
leaf = ten.clone().requires_grad_()
counts.log_likelihood_multiclass(leaf, c).sum().backward()
assert torch.allclose(leaf.grad[0], posterior)
sums = posterior.sum(0).round(decimals=6).tolist()
print(f"{int((c + 1).prod())} states; sums over the bag:", sums)

# %%
small = ten[0, :3, :3].log_softmax(-1)  # (3, 3): few enough to enumerate
seen = torch.tensor([1, 0, 2])
by_toy = toy.log_marginal(small, lambda h: toy.counts(h, 3), seen)
value = counts.log_likelihood_multiclass(small[None], seen[None])[0]
assert torch.allclose(value, by_toy)

# %% [markdown]
# **Large bags.** With 500, 300 and 200 instances of three classes there are $3 \cdot 10^7$ vectors,
# but $P(c \mid X)$ is also the coefficient of $s_1^{c_1} \cdots s_C^{c_C}$ in the polynomial
# $\prod_i \sum_k p_{i,k} s_k$. A coefficient is a Fourier mean of the polynomial's values on the
# unit circle, $s_k = e^{i \omega_k}$. Three steps make this mean short:
#
# 1. Multiply the weight of every class by a factor, the same for all instances, so that the
#    expected counts are $c$. This changes the coefficient by a known factor.
# 2. Choose the grid of frequencies for counts within nine standard deviations of $c$ instead of $n$.
#    The error is the probability of counts farther away.
# 3. Leave out the frequencies at which the product is negligible.
#
# The number of frequencies hardly depends on $n$: a few hundred for three classes. The bounds of
# both errors are in `wsl_tutorial/counts/window.py`. The function chooses this method where it is
# cheaper.

# %%
g = torch.Generator().manual_seed(1)
many = torch.randn(1, 1000, 3, generator=g).double().log_softmax(2)
c = torch.tensor([[500, 300, 200]])
value = counts.log_likelihood_multiclass(many, c)
sums = counts.posterior_multiclass(many, c).sum(1)
assert torch.allclose(sums, c.double())
print(f"{int((c + 1).prod()):,} vectors, log P = {value.item():.4f}")

# %% [markdown]
# **Rows that represent many instances.** To the model all voters of a group in a precinct look
# alike: 2,000 in one group, 3,000 in another, and one count for each party. Their factors in the
# polynomial are equal, so a row of $m$ instances contributes a power $m$ of its factor, and costs
# no more than one instance. Every function of counts takes these numbers as `multiplicity`. The
# posterior of a row is then the expected number of each class among its instances.
#
# **More classes.** With ten classes in a bag of 100 there are too many frequencies as well.
# `approximate=True` keeps step 1 and replaces the mean by a normal density with a correction of the
# next order, relative to the multinomial distribution with the same expected counts. Its errors,
# listed in `wsl_tutorial/counts/saddlepoint.py`, are near 0.004 nats while the network is unsure,
# and some tenths of a nat when it is nearly sure.

# %%
voters, votes = torch.tensor([[2000, 3000]]), torch.tensor([2600])
two = torch.tensor([[0.3, -0.5]], dtype=torch.float64)  # (1, 2): per group
by_group = counts.posterior(two, votes, multiplicity=voters)[0]
every = two[0].repeat_interleave(voters[0])[None]  # (1, 5000)
parts = counts.posterior(every, votes)[0].split(voters[0].tolist())
assert torch.allclose(by_group, torch.stack([part.sum() for part in parts]))
print("expected votes of the groups:", [round(v) for v in by_group.tolist()])

# %%
ten = torch.randn(1, 100, 10, generator=g).double().log_softmax(2)
ten_counts = torch.full((1, 10), 10)
nearly = counts.posterior_multiclass(ten, ten_counts, approximate=True)
assert torch.allclose(nearly.sum(1), ten_counts.double())

# %% [markdown]
# ## Code
#
# ### One recursion, two observations
#
# Compare (5.3) with the recursion of chapter 2 over covered label sets. Both read the instances in
# order, keep a *state* that summarises what was read, and add up the probabilities of all paths.
# The state of counts is the number of positives; the state of presence is the set of classes seen.
# A machine that reads labels and changes its state is a *finite automaton*: a table `transition`
# with the next state for each state and label, and a set of accepted last states. One function,
# `finite_automaton.log_marginal`, serves both; its gradient is the E-step of both.


# %%
def read(log_p, transition, end):
    """Add up the paths from state 0 to `end`: (n, k), (S, k) -> ()."""
    f = torch.full((len(transition),), -torch.inf, dtype=log_p.dtype)
    f[0] = 0
    for p in log_p:  # (k,)
        paths = f[:, None] + p  # (S, k): leave each state by each label
        into = [paths[transition == t].logsumexp(0) for t in range(len(f))]
        f = torch.stack(into)  # (S,)
    return f[end]


# %%
count_table = finite_automaton.counts(y)
set_table = finite_automaton.presence(2)
print("counts, next state by 0, 1:   ", count_table.tolist())
print("presence, next set by 0, 1, φ:", set_table.tolist())
assert torch.allclose(read(log_p, count_table, y), P.log())
three = torch.randn(4, 3, generator=generator, dtype=torch.float64)
three = three.log_softmax(1)  # (4, 3)
labels = torch.tensor([[True, True]])
both = presence.log_likelihood(three.T[None], labels)
assert torch.allclose(read(three, set_table, 0b11), both[0])
accept = torch.tensor([False, False, True])
after = finite_automaton.posterior(log_p[None], count_table, accept)
assert torch.allclose(after[0, :, 1], r)

# %% [markdown]
# In the first table $-1$ forbids a step: it would be one positive too many. In the second table the
# states are sets written as binary numbers, and the background leaves the state unchanged. Any
# observation that such a table can express has an exact likelihood and an exact E-step, with a cost
# proportional to its edges: at least $y$, an even number, two neighbours of the same class.
# `presence` and `counts` agree with the automaton (the tests compare them), and are faster because
# they know their table.
#
# ### All counts at once
#
# Multiply out the polynomial with one factor for each instance. The coefficient of $t^j$ collects
# the configurations with $j$ positives:
#
# $$ \prod_{i=1}^{n} \bigl( 1 - \rho_i + \rho_i \, t \bigr) = \sum_{j=0}^{n} P(j \mid X) \, t^j . \tag{5.7} $$
#
# (5.3) multiplies one factor after the other, but any order is allowed. `counts.log_likelihood`
# cuts long bags into chunks, scans them side by side, and multiplies the polynomials in a tree.
# `counts.log_distribution` returns all coefficients, in log space.

# %%
every = counts.log_distribution(z[None])[0].exp()  # (6,)
t = torch.tensor(0.3).double()
polynomial = (every * t ** torch.arange(6)).sum()
assert torch.allclose((1 - rho + rho * t).prod(), polynomial)
print([f"{v:.4f}" for v in every.tolist()], f"sum {every.sum():.4f}")

# %% [markdown]
# ### Why nothing underflows
#
# A trained network is often sure, and sometimes sure and wrong: a count may have a probability of
# $e^{-2000}$, too small for any float. Logarithms solve this at a cost. The shift is cheaper: it
# does not change the shares, so we may compute with $z_i + \lambda$ for any $\lambda$, and undo its
# effect on $P$ exactly,
#
# $$ \log P_z(y) = \log P_{z + \lambda}(y) - \lambda y + \sum_i \log \frac{1 + e^{z_i + \lambda}}{1 + e^{z_i}} . $$
#
# Choose $\lambda$ such that the expected count is $y$. A Poisson-binomial distribution whose mean
# is a whole number has its largest probability there ([Darroch
# (1964)](https://doi.org/10.1214/aoms/1177703287)), and the largest of $n + 1$ probabilities is at
# least $1 / (n + 1)$. Terms that underflow beside such a number do not matter.
#
# The package does this for more than 64 instances, padding included. Up to 64 it needs no search:
# it takes $-\lambda$ half-way between the $y$-th largest logit and the next. Then
# $\rho_i \geq 1/2$ for the $y$ upper instances and $\rho_i \leq 1/2$ for the others. So the
# configuration in which exactly the upper ones are positive has a probability of at least $2^{-n}$,
# and so has the count. A double represents $2^{-64}$ without difficulty.

# %%
many = torch.randn(1, 2000, generator=generator, dtype=torch.float64)
many = 4 * many - 3  # (1, 2000)
for n_positive in (0, 20, 1000, 1990):
    value = counts.log_likelihood(many, torch.tensor([n_positive]))[0]
    plain = forward(many[0].sigmoid(), n_positive)[-1, -1].log()
    print(f"y = {n_positive:4}: log P = {value:10.2f},", end=" ")
    print(f"plain recursion {plain:10.2f}")

# %% [markdown]
# ## Picture
#
# How does a count change what we believe about an instance? The figure takes seven instances with
# logits from $-3$ to 3 and shows the posterior against the prior for each possible count.

# %% tags=["hide-input"]
seven = torch.linspace(-3, 3, 7, dtype=torch.float64).expand(8, -1)  # (8, 7)
after = counts.posterior(seven, torch.arange(8))  # (8, 7)
fig, axis = plt.subplots(figsize=(5.6, 3.6))
for n_positive in range(8):
    name = f"y = {n_positive}"
    axis.plot(seven[0].sigmoid(), after[n_positive], lw=1, label=name)
axis.plot([0, 1], [0, 1], color=show.GREY, ls="--", marker="")
axis.set(xlabel="prior ρ", ylabel="posterior r")
axis.legend(ncol=2, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
show.figure(
    fig,
    alt="Posterior against prior for seven instances, one rising curve for"
    " each count from 0 to 7. The curve of count 0 is flat at zero, that of 7"
    " flat at one; the others bend from below the dashed diagonal for small"
    " counts to above it for large ones, and keep the order.",
)

# %% [markdown]
# The order of the instances stays the same, and the two extreme counts give hard labels. Where the
# count is near its expectation, the sure instances move least; for the counts 1 and 6, the
# instances that are sure of the wrong side move much. The curves of 3 and 4 are steeper than the
# diagonal in the middle: the count enlarges a difference between instances. The next chapter turns
# this into the reason why small bags are easy.
#
# ## When it breaks
#
# **Products in single precision.** The released code clamps $\rho$ to $[10^{-6}, 1 - 10^{-6}]$ and
# multiplies in float32. Take a bag of eight with count 8 and all $\rho_i$ at the lower end: each
# product is $10^{-48}$, below the smallest float32, and the targets are $0/0$.

# %%
low = torch.full((8,), 1e-6)  # (8,), float32
product = low.prod()
ours = counts.posterior(low.logit()[None], torch.tensor([8]))[0]
print("released:", (product / product).item(), " here:", ours.tolist()[:2])

# %% [markdown]
# One such bag gives NaN targets, and one NaN in a mini-batch ends the training. This happens when
# the network is sure of the opposite of the truth about a whole bag: rare at the start, likely if
# the data contain a wrong count.
#
# **Dependent labels.** In photos of couples one face says much about the other. The product in
# (5.1) ignores this, and puts too much probability on counts away from the truth. The *order* of
# the instances may still be right.
#
# **What counts cannot tell.** If every bag has $y = n/2$, swapping the names of the two classes
# changes nothing. If all bags are large, a count says little about one instance. Both are the
# subject of [chapter 6](06_counts_learning.ipynb).
#
# ### Who was first
#
# The E-step by dynamic programming is older than the paper: [Sun, Sheldon and O'Connor
# (2017)](https://doi.org/10.1109/ICDM.2017.54) train with label proportions by EM with *cardinality
# potentials*, with messages for several classes. In statistics the posterior (5.2) is the
# *conditional Bernoulli* distribution of [Chen, Dempster and Liu
# (1994)](https://doi.org/10.1093/biomet/81.3.457), who also use the recursion and the shift.
#
# ## Reproduction
#
# [Chapter 7](07_counts_reproduction.ipynb) repeats the experiments behind the paper's figures and
# its table, and shows which of them have run.
#
# ## Exercises
#
# **1, by hand.** Three instances have $\rho = 0.5, 0.5, 0.2$ and the count is 1. Compute $P(1)$ and
# the three posteriors. Does the probability of any instance grow? Compare the count with
# $\sum_i \rho_i$. Then double the odds $\rho_i / (1 - \rho_i)$ of all three: what happens to the
# posteriors?


# %%
def three_instances():
    return 0.65, 0.5, 0.5, 0.2  # P(1), r of each instance


check.attempt(check.three_instances, three_instances)

# %% [markdown]
# **2, code.** Write (5.3) for one bag, `rho` `(n,)` and a number `y`, and return $P(y \mid X)$. The
# attempt below overwrites $f$ while it still needs it.


# %%
def count_probability(rho, y):
    f = [1.0] + [0.0] * y
    for p in rho.tolist():
        for j in range(y + 1):
            f[j] = f[j] * (1 - p) + (f[j - 1] * p if j else 0)
    return f[y]


check.attempt(check.count_probability, count_probability)

# %% [markdown]
# **3, code.** Someone gives you `counts.log_likelihood` as a black box. Return the E-step of a
# batch, `logits` `(B, n)` and `observed` `(B,)`, from one backward pass.


# %%
def e_step(logits, observed):
    logits = logits.requires_grad_()
    counts.log_likelihood(logits, observed).sum().backward()
    return logits.grad


check.attempt(check.e_step, e_step)

# %% [markdown]
# **4, change the observer.** A cautious annotator says: *at least* $y$ positives. Return a table
# `transition` `(y + 1, 2)` of an automaton for it that starts in state 0 and accepts state $y$.


# %%
def at_least_table(y):
    return finite_automaton.counts(y)


check.attempt(check.at_least_table, at_least_table)

# %% [markdown]
# **5, by hand.** Show that the leave-one-out count needs no second recursion: divide the polynomial
# (5.7) by the factor of instance $i$, coefficient by coefficient. From which end must you divide
# when $\rho_i > 1/2$, and what happens to rounding errors from the other end?
#
# **6, explain to a colleague.** Your colleague wants to use the method on bags of 300 and has read
# that it is limited to bags of 10 to 20. Explain in three sentences what the limit was, and what
# *does* get worse when bags grow.
#
# ## Further reading
#
# - [Baručić and Kybic (2022)](https://arxiv.org/abs/2110.03426), section 2: the source of this
#   chapter.
# - [Sun, Sheldon and O'Connor (2017)](https://doi.org/10.1109/ICDM.2017.54), *A probabilistic
#   approach for learning with label proportions applied to the US presidential election*.
# - [Shukla, Zeng, Ahmed and Van den Broeck (2023)](https://arxiv.org/abs/2311.13718), *A unified
#   approach to count-based weakly supervised learning*: the exact probability of a count as a loss.
# - [Ahmed, Zeng, Niepert and Van den Broeck (2023)](https://arxiv.org/abs/2210.01941), *SIMPLE: a
#   gradient estimator for k-subset sampling*: the posterior (5.2) as a gradient, in another use.
