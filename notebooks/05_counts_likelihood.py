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
# positives, and compute this probability and its E-step in $O(n\,y)$ steps, where the paper
# enumerates $\binom{n}{y}$ configurations. You can keep both results exact for nearly certain
# networks and for bags of thousands of instances. You can show that one recursion handles counts
# and presence. You need [One idea](00_one_idea.ipynb). The page runs in ten seconds on one CPU core
# and needs no GPU.
#
# The paper is [Baručić and Kybic (2022), *Fast learning from label proportions with small
# bags*](https://arxiv.org/abs/2110.03426). "Paper (6)" means its equation 6. Numbers like (5.3) are
# ours.
#
# ## Problem
#
# A group photo shows seven faces, and we know that three are women, but not which. Such a bag
# has instances $X = (x_1, \dots, x_n)$ and a count $y$. From many bags we want to learn a
# classifier of single instances. The task is called *learning from label proportions*, because the
# proportion of positives times the size of the bag is the count. We need the probability of a
# count, and the probability of each label given the count.

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
# Our example has five instances and the count 2.

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
# This is the *Poisson-binomial* distribution. The figure draws the ten configurations of our bag.
# The *share* of a configuration is its term of the sum divided by the whole sum.

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
# So the share of a configuration is its probability *given* the count, $P(h \mid y, X)$. Adding up
# the shares of the configurations in which instance $i$ is positive gives the *posterior* $r_i$:
#
# $$ r_i = P(h_i = 1 \mid y, X) = \frac{1}{P(y \mid X)} \sum_{h \in H \,:\, h_i = 1} P(h \mid X) . \tag{5.2} $$
#
# The paper writes $\phi_i$ for it. We call $\rho_i$, the probability before the count is known, the
# *prior*. In every configuration of $H$ exactly $y$ labels are 1, so **the posteriors of a bag sum
# to its count**.

# %%
r = (share[:, None] * H).sum(0)  # (5,)
print("prior    ", [f"{v:.3f}" for v in rho.tolist()], f"sum {rho.sum():.3f}")
print("posterior", [f"{v:.3f}" for v in r.tolist()], f"sum {r.sum():.3f}")
assert torch.allclose(r, counts.posterior(z[None], observed)[0])

# %% [markdown]
# ### Jensen's bound
#
# Training maximises the mean of $\log P(y \mid X)$ over the bags, paper (6). Each term is the
# logarithm of a sum, so it does not split into one term per instance. The expectation-maximisation
# algorithm (EM) replaces it by a lower bound that does. Take *any* distribution $\alpha > 0$ on
# $H$, and write the sum as an expectation under $\alpha$:
#
# $$ \log \sum_{h \in H} P(h \mid X) = \log \sum_{h \in H} \alpha(h) \, \frac{P(h \mid X)}{\alpha(h)} \;\geq\; \sum_{h \in H} \alpha(h) \log \frac{P(h \mid X)}{\alpha(h)} . $$
#
# This step is *Jensen's inequality*: the logarithm is concave, so the logarithm of a mean is at
# least the mean of the logarithms. The right side is paper (7). How far is it below the left side?
# For $h$ in $H$ the share is $P(h \mid y, X) = P(h \mid X) / P(y \mid X)$. Solve this for $P(h \mid
# X)$ and insert it:
#
# $$ \sum_{h \in H} \alpha(h) \log \frac{P(h \mid X)}{\alpha(h)} = \log P(y \mid X) - \sum_{h \in H} \alpha(h) \log \frac{\alpha(h)}{P(h \mid y, X)} . $$
#
# The last sum is the Kullback-Leibler divergence of $\alpha$ from the shares. It is never negative,
# and zero only if $\alpha(h) = P(h \mid y, X)$. So the best $\alpha(h)$ is the share of $h$, paper
# (10). Computing the shares is the **E-step**. After it the bound equals the log-likelihood of the
# current network. The output compares three choices of $\alpha$.

# %% tags=["hide-input"]
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
# The **M-step** fixes $\alpha$ and updates the network. In the bound only $P(h \mid X)$ now depends
# on the network, paper (9b). By **conditional independence** its logarithm is a sum over instances.
# Exchange this sum with the sum over $h$. For each instance $i$, the $\alpha(h)$ of the
# configurations in which $i$ is positive add up to $r_i$, and the others add up to $1 - r_i$:
#
# $$ \sum_{h \in H} \alpha(h) \log P(h \mid X) = \sum_{i=1}^{n} r_i \log \rho_i + (1 - r_i) \log (1 - \rho_i) . $$
#
# That is paper (11): ordinary binary cross-entropy with soft targets.
#
# The figure shows both steps for a model with a single parameter $s$. There are four photos of two
# people. In each photo one person has the logit $s$, and the other a known logit. The counts are 1,
# 2, 1 and 0. The thick curve is the log-likelihood of $s$ in nats (the unit of natural logarithms).
# Each mark is a value of $s$ at which an E-step is made, and the thin curve through the mark is the
# resulting bound. The M-step moves $s$ to the maximum of the bound.

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
# No bound crosses the likelihood, and each bound touches it at its mark. So an EM step cannot lower
# the likelihood: its new value is at least the maximum of the bound, and the maximum is at least
# the value at the mark, which is the old likelihood. The M-step need not reach the maximum. Any
# step that raises the bound, such as a small gradient step, raises the likelihood too.
#
# ### The same sum by a recursion
#
# (5.1) has $\binom{n}{y}$ terms, 184,756 for ten positives of twenty. The paper treats bags of
# "less than 10 ~ 20 instances", but the method needs no such limit, because many terms have factors
# in common. Read the instances in order, and let $f_i(j)$ be the probability that the first $i$
# instances contain $j$ positives. If the next instance is negative, $j$ stays; if it is positive,
# $j$ grows by one. By **conditional independence** each case multiplies $f_{i-1}$ by the label's
# probability:
#
# $$ \begin{aligned}
# f_i(j) &= f_{i-1}(j) \, (1 - \rho_i) + f_{i-1}(j-1) \, \rho_i , \cr
# f_0(0) &= 1 , \qquad P(y \mid X) = f_n(y) .
# \end{aligned} \tag{5.3} $$
#
# Only $j \leq y$ is needed, so the recursion takes $O(n\,y)$ steps.


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
print(f"f_5(2) = {f[-1, -1]:.4f}, from {5 * (y + 1)} values f_i(j)")
print(f"six of twelve: {12 * 7} values, {comb(12, 6)} configurations")
value = counts.log_likelihood(z[None], observed)[0]
assert torch.allclose(f[-1, -1].log(), value)

# %% [markdown]
# The posterior needs this table and a second one. Let $g_i(k)$ be the probability that the
# instances after the $i$-th contain $k$ positives. The recursion (5.3) computes it with the
# instances in reverse order. If instance $i$ is positive, $j$ positives come before it and
# $y - 1 - j$ after it, for some $j$. So
#
# $$ r_i = \frac{\rho_i}{P(y \mid X)} \sum_{j=0}^{y-1} f_{i-1}(j) \; g_i(y - 1 - j) . $$
#
# This is the *forward-backward* pass of hidden Markov models. In the figure a step to the right is
# a negative label, and a step up and to the right a positive one. Every configuration of $H$ is one
# path from the lower left point to the upper right. The width of an edge is the probability, given
# the count, that the path uses this edge. The rising edges at instance $i$ have the total width
# $r_i$.

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
# By (0.3) the gradient of $\log P(y \mid X)$ in $z_i$ is posterior minus prior, $r_i - \rho_i$. So
# $r = \rho + \nabla_z \log P(y \mid X)$, and automatic differentiation computes it.

# %%
leaf = z.clone().requires_grad_()
forward(leaf.sigmoid(), y)[-1, -1].log().backward()
assert torch.allclose(rho + leaf.grad, r)

# %% [markdown]
# ### What a count cannot determine
#
# Add a constant $\lambda$ to all logits of a bag. Since $\rho_i = e^{z_i} (1 - \rho_i)$, a term of
# (5.1) is $\prod_i e^{z_i h_i}$ times $\prod_i (1 - \rho_i)$. The second product is the same for
# all configurations and cancels in the shares. The first product is multiplied by $e^{\lambda y}$,
# because a configuration of $H$ has exactly $y$ positives. This factor cancels too, so **the
# posterior is invariant to a shift of all logits of its bag**, although $\rho$ changes. The
# likelihood is not invariant: gradient ascent changes the sum of the logits in proportion to
# $\sum_i (r_i - \rho_i) = y - \sum_i \rho_i$.
#
# In the demo you can move the logits of a bag of six and shift them all. It also shows the gradient
# of DLLP, a loss that the next chapter explains.
#
# <div class="demo" data-demo="counts">The web page shows a bag of six instances with sliders for their logits, for a shift of all logits, and for the count. It lists the configurations and shows the posterior of each instance. Without JavaScript, change rho above and run the cells again.</div>

# %% tags=["hide-input"]
for shift in (-20.0, -1.0, 1.0, 20.0):
    moved = counts.posterior(z[None] + shift, observed)[0]
    total = (z + shift).sigmoid().sum()
    print(f"shift {shift:5}: sum of rho {total:.3f},", end=" ")
    print("posterior unchanged:", torch.allclose(moved, r))

# %% [markdown]
# ### One configuration in place of all
#
# Suppose that we keep only the most probable configuration. Within $H$ the probability is
# proportional to $e^{\sum_i z_i h_i}$, so it is largest if the $y$ instances with the largest
# logits are positive:
#
# $$ \hat h = \arg\max_{h \in H} P(h \mid X) , \qquad \hat h_i = 1 \;\text{ for the } y \text{ largest } z_i . \tag{5.4} $$
#
# Training with $\hat h$ in place of $r$ is *hard EM*. Hard EM ignores all other configurations,
# although in our bag $\hat h$ has little more than half of the probability.

# %%
best = counts.map_configuration(z[None], observed)[0]  # (5,)
print(best.int().tolist(), f"share {share.max():.3f}")
assert (best == H[share.argmax()]).all()

# %% [markdown]
# ### More than two classes
#
# With $C$ classes we observe a vector of counts, $c = (c_1, \dots, c_C)$ with sum $n$. In the
# recursion a vector $v$ of counts takes the place of $j$. Let $e_k$ be the vector with a one for
# class $k$ and zeros elsewhere, and let $p_{i,k}$ be the probability that instance $i$ is of class
# $k$:
#
# $$ f_i(v) = \sum_{k \,:\, v_k > 0} f_{i-1}(v - e_k) \; p_{i,k} , \qquad P(c \mid X) = f_n(c) . \tag{5.5} $$
#
# Only vectors with $v_k \leq c_k$ for all $k$ are needed. There are $\prod_k (c_k + 1)$ of them,
# and each occurs only at $i = \sum_k v_k$. For fixed $C$ their number is polynomial in $n$. But
# with $C = n$ classes that occur once each there are $2^n$ vectors, and $P(c \mid X)$, a sum over
# permutations, is the *permanent* of the matrix $p$. By Valiant's theorem ([chapter
# 1](01_presence_likelihood.ipynb)) a much cheaper exact algorithm is unlikely. The posterior is
# again a gradient, now in the $\log p_{i,k}$, each taken as a free variable:
#
# $$ r_{i,k} = \frac{\partial \log P(c \mid X)}{\partial \log p_{i,k}} . \tag{5.6} $$
#
# A labelling in which instance $i$ has class $k$ contains the factor $p_{i,k}$ once, so the
# derivative of $P(c \mid X)$ in $\log p_{i,k}$ is the total probability of these labellings. The
# derivative of the logarithm divides it by $P(c \mid X)$.

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
print(f"{int((c + 1).prod())} vectors; posterior summed over the bag:")
print(sums)

# %%
small = ten[0, :3, :3].log_softmax(-1)  # (3, 3): few enough to enumerate
seen = torch.tensor([1, 0, 2])
by_toy = toy.log_marginal(small, lambda h: toy.counts(h, 3), seen)
value = counts.log_likelihood_multiclass(small[None], seen[None])[0]
assert torch.allclose(value, by_toy)

# %% [markdown]
# **Large bags.** With 500, 300 and 200 instances of three classes there are $3 \cdot 10^7$ vectors.
# But $P(c \mid X)$ is also the coefficient of $t_1^{c_1} \cdots t_C^{c_C}$ in the polynomial
# $\prod_i \sum_k p_{i,k} t_k$. A discrete Fourier transform finds this coefficient: it is a
# weighted mean of the values of the polynomial at points $t_k = e^{\sqrt{-1} \, \omega_k}$, for a
# grid of frequencies $\omega$. Three steps reduce the number of frequencies:
#
# 1. Multiply $p_{i,k}$ by a factor that depends only on $k$, and normalise over $k$. Choose the
#    factors so that the expected counts are $c$. This changes the coefficient by a known factor.
# 2. Use a coarser grid. Then the mean also contains the small probabilities of some other counts,
#    at least about nine standard deviations from $c$. Their sum is the first error.
# 3. Leave out the frequencies at which the polynomial is negligible. This causes the second error.
#
# Then the number of frequencies hardly depends on $n$: a few hundred for three classes. Both errors
# are bounded in `wsl_tutorial/counts/window.py`. `counts.log_likelihood_multiclass` uses this
# method where it is cheaper than the recursion.

# %%
g = torch.Generator().manual_seed(1)
many = torch.randn(1, 1000, 3, generator=g).double().log_softmax(2)
c = torch.tensor([[500, 300, 200]])
value = counts.log_likelihood_multiclass(many, c)
sums = counts.posterior_multiclass(many, c).sum(1)
assert torch.allclose(sums, c.double())
print(f"{int((c + 1).prod()):,} vectors, log P = {value.item():.4f}")

# %% [markdown]
# **Rows that represent many instances.** In an election we observe the number of votes for each
# party in a polling district. All voters of one group look alike to the model, so their factors in
# the polynomial are equal. One row of the input can then represent the $m$ voters of a group: the
# $m$-th power of its factor costs no more than the factor itself. Every likelihood, posterior and
# loss accepts the numbers $m$ as `multiplicity`, and the posterior of a row is the expected number
# of each class among its instances. Below, 2,600 votes for one of two parties come from groups of
# 2,000 and 3,000 voters.

# %%
voters, votes = torch.tensor([[2000, 3000]]), torch.tensor([2600])
two = torch.tensor([[0.3, -0.5]], dtype=torch.float64)  # (1, 2): per group
by_group = counts.posterior(two, votes, multiplicity=voters)[0]
every = two[0].repeat_interleave(voters[0])[None]  # (1, 5000)
parts = counts.posterior(every, votes)[0].split(voters[0].tolist())
assert torch.allclose(by_group, torch.stack([part.sum() for part in parts]))
print("expected votes of the groups:", [round(v) for v in by_group.tolist()])

# %% [markdown]
# **More classes.** With ten classes in a bag of 100 there are too many frequencies as well.
# `approximate=True` keeps step 1, and replaces the mean over frequencies by a normal density with a
# correction term. The errors of $\log P(c \mid X)$, listed in `wsl_tutorial/counts/saddlepoint.py`,
# were measured on such bags with two kinds of instances: near 0.004 nats while the network is
# unsure, and some tenths of a nat when it is nearly certain.

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
# Compare (5.3) with the recursion of [chapter 2](02_presence_numerics.ipynb) over the sets of
# classes seen so far. Both read the instances in order, keep a *state* that summarises the labels
# read, and add up the probabilities of all paths. For counts the state is the number of positives;
# for presence it is the set of classes seen. A machine that reads labels and changes its state is a
# *finite automaton*. Its table `transition` has the next state for each state and label, and some
# states are accepted as final. One function, `finite_automaton.log_marginal`, computes both
# likelihoods, and its gradient gives both E-steps.


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
# labels 0 and 1 are two classes, the states are sets of them written as binary numbers, and the
# background $\phi$ leaves the state unchanged. Many other observations have such a table: at least
# $y$ positives, or two neighbours of the same class. Their likelihoods and E-steps are exact. The
# cost is proportional to the number of instances, times the number of states, times the largest
# number of transitions into one state.
#
# ### All counts at once
#
# Multiply out the polynomial with one factor for each instance. The coefficient of $t^j$ collects
# the configurations with $j$ positives:
#
# $$ \prod_{i=1}^{n} \bigl( 1 - \rho_i + \rho_i \, t \bigr) = \sum_{j=0}^{n} P(j \mid X) \, t^j . \tag{5.7} $$
#
# (5.3) multiplies one factor after the other, but any order is allowed. `counts.log_likelihood`
# cuts a long bag into chunks, applies the recursion to all chunks in parallel, and multiplies the
# resulting polynomials in pairs. `counts.log_distribution` returns the logarithms of all
# coefficients.

# %%
every = counts.log_distribution(z[None])[0].exp()  # (6,)
t = torch.tensor(0.3).double()
polynomial = (every * t ** torch.arange(6)).sum()
assert torch.allclose((1 - rho + rho * t).prod(), polynomial)
print([f"{v:.4f}" for v in every.tolist()], f"sum {every.sum():.4f}")

# %% [markdown]
# ### Why nothing underflows
#
# A trained network is often nearly certain, and sometimes wrong: a count may have a probability of
# $e^{-2000}$, too small for double precision. We therefore shift the logits by $\lambda$, and undo
# the effect on the probability. With $P_z$ for the probability at the logits $z$,
#
# $$ \log P_z(y) = \log P_{z + \lambda}(y) - \lambda y + \sum_i \log \frac{1 + e^{z_i + \lambda}}{1 + e^{z_i}} . $$
#
# The counts 0 and $n$ have only one configuration. For other counts choose $\lambda$ such that the
# expected count is $y$. A Poisson-binomial distribution whose mean is a whole number has its
# largest probability there ([Darroch (1964)](https://doi.org/10.1214/aoms/1177703287)), and the
# largest of $n + 1$ probabilities is at least $1 / (n + 1)$. Terms that underflow are negligible
# beside such a number.
#
# For bags of more than 64 instances the package searches for this $\lambda$. Up to 64 no search is
# needed: it takes $-\lambda$ half-way between the $y$-th largest logit and the next. Then $\rho_i
# \geq 1/2$ for the $y$ upper instances and $\rho_i \leq 1/2$ for the others. So the configuration
# in which exactly the upper ones are positive has a probability of at least $2^{-n}$, and so has
# the count. Double precision represents $2^{-64}$. The output compares the package with the plain
# recursion (5.3) for a bag of 2,000 instances.

# %% tags=["hide-input"]
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
# For seven instances with logits from $-3$ to 3, the figure plots the posterior against the prior
# for each count.

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
# Every count keeps the order of the instances, and the counts 0 and 7 give hard labels. The curve
# of 3 is steeper than the diagonal for priors above 1/2, and the curve of 4 for priors below 1/2:
# there the count enlarges the differences between instances. [Chapter 6](06_counts_learning.ipynb)
# shows that training increases these differences faster in smaller bags.
#
# ## When it breaks
#
# **Products in single precision.** The authors' code clamps $\rho$ to $[10^{-6}, 1 - 10^{-6}]$ and
# multiplies in float32. Take a bag of eight with count 8, in which all $\rho_i$ are clamped to
# $10^{-6}$. Its only configuration has the probability $10^{-48}$, which is 0 in float32, so the
# targets are $0/0$. The output shows two of the package's eight targets.

# %% tags=["hide-input"]
low = torch.full((8,), 1e-6)  # (8,), float32
product = low.prod()
ours = counts.posterior(low.logit()[None], torch.tensor([8]))[0]
print("products in float32:", (product / product).item())
print("this package:       ", ours.tolist()[:2])

# %% [markdown]
# One NaN in a mini-batch ends the training. This happens if, by the count, at least eight clamped
# predictions of the network are wrong.
#
# **Dependent labels.** If a photo shows couples of a woman and a man, exactly half of the faces are
# women. The product in (5.1) ignores such dependence, and gives other counts a positive
# probability.
#
# **What counts cannot determine.** If every bag has $y = n/2$, swapping the names of the two
# classes changes nothing. If all bags are large, a typical count changes the probability of one
# instance only a little. [Chapter 6](06_counts_learning.ipynb) studies both.
#
# ### Earlier work
#
# The E-step by dynamic programming is older than the paper: [Sun, Sheldon and O'Connor
# (2017)](https://doi.org/10.1109/ICDM.2017.54) train with label proportions by EM. In statistics
# $P(h \mid y, X)$ is the *conditional Bernoulli* distribution of [Chen, Dempster and Liu
# (1994)](https://doi.org/10.1093/biomet/81.3.457), who also use the shift. The posteriors (5.2) are
# its *inclusion probabilities*.
#
# ## Reproduction
#
# [Chapter 7](07_counts_reproduction.ipynb) repeats the paper's experiments and states which have
# been run.
#
# ## Exercises
#
# **1, by hand.** Three instances have $\rho = 0.5, 0.5, 0.2$ and the count is 1. Compute $P(1)$ and
# the three posteriors to three digits. Is any posterior larger than its prior? Compare the count
# with $\sum_i \rho_i$. Then double the odds $\rho_i / (1 - \rho_i)$ of all three: what happens to
# the posteriors?


# %%
def three_instances():
    return 0.65, 0.5, 0.5, 0.2  # P(1), r of each instance


check.attempt(check.three_instances, three_instances)

# %% [markdown]
# **2, code.** Write (5.3) for one bag, `rho` `(n,)` and a number `y`, and return $P(y \mid X)$.


# %%
def count_probability(rho, y):
    f = [1.0] + [0.0] * y
    for p in rho.tolist():
        for j in range(y + 1):
            f[j] = f[j] * (1 - p) + (f[j - 1] * p if j else 0)
    return f[y]


check.attempt(check.count_probability, count_probability)

# %% [markdown]
# **3, code.** Use `counts.log_likelihood` as a black box: return the E-step of a batch, `logits`
# `(B, n)` and `observed` `(B,)`, from one backward pass.


# %%
def e_step(logits, observed):
    logits = logits.requires_grad_()
    counts.log_likelihood(logits, observed).sum().backward()
    return logits.grad


check.attempt(check.e_step, e_step)

# %% [markdown]
# **4, change the observer.** A cautious annotator reports that a bag has *at least* $y$ positives.
# Return the table `transition` `(y + 1, 2)` of an automaton for this observation. It starts in
# state 0 and accepts state $y$.


# %%
def at_least_table(y):
    return finite_automaton.counts(y)


check.attempt(check.at_least_table, at_least_table)

# %% [markdown]
# **5, by hand.** Show that the distribution of the count without instance $i$ needs no second
# recursion: divide the polynomial (5.7) by the factor of instance $i$, coefficient by coefficient.
# From which end must you divide when $\rho_i > 1/2$, and what happens to rounding errors if you
# divide from the other end?
#
# **6, explain to a colleague.** Your colleague wants to use the method on bags of 300 and has read
# that it is limited to bags of 10 to 20. Explain in three sentences where this limit came from, and
# what *does* get worse when bags grow.
#
# ## Further reading
#
# - [Baručić and Kybic (2022)](https://arxiv.org/abs/2110.03426), section 2: the source of this
#   chapter.
# - [Shukla, Zeng, Ahmed and Van den Broeck (2023)](https://arxiv.org/abs/2311.13718), *A unified
#   approach to count-based weakly supervised learning*: the exact probability of a count as a loss.
# - [Ahmed, Zeng, Niepert and Van den Broeck (2023)](https://arxiv.org/abs/2210.01941), *SIMPLE: a
#   gradient estimator for k-subset sampling*: uses the posterior (5.2) to differentiate through the
#   choice of $k$ of $n$ items.
