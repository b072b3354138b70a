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
# # Presence, computed safely
#
# After this page you can say why logarithms do not rescue an alternating series, compute the same
# likelihood by a recursion that only adds, read off its posterior and its gradient, and bracket it
# where $2^L$ terms are too many. You need [chapter 1](01_presence_likelihood.ipynb), above all
# (1.1) and (1.2), and an idea of what a rounding error is. The page runs in ten seconds on one CPU
# core and needs no GPU.
#
# ## Problem
#
# Chapter 1 ends with an exact formula. With $q_j(S) = p_{\phi,j} + \sum_{\ell \in S} p_{\ell,j}$, the
# probability that position $j$ emits the background or a label of $S$, the series (1.2) reads
#
# $$ \mathrm{Prb}(L \mid P) = \sum_{S \subseteq L} (-1)^{|L \setminus S|} \, \alpha_{S,\phi} ,
# \qquad \alpha_{S,\phi} = \prod_{j=1}^{n} q_j(S) , $$
#
# where $n = MN$ counts the positions. A product over many positions underflows, so
# [Li (2018)](https://arxiv.org/abs/1811.12346), section 3.3, works with logarithms throughout:
# $\log(x - y) = \log x + \log(1 - e^{\log y - \log x})$. That cures underflow. It does not cure
# *cancellation*: if $x$ and $y$ agree in their first eight digits and the arithmetic keeps seven,
# the difference was lost when $y$ was rounded, before anybody took a logarithm.

# %%
import time
from decimal import Decimal, getcontext
from itertools import combinations
from math import prod

import matplotlib.pyplot as plt
import torch
from torch.autograd import grad

from wsl_tutorial import check, presence, show

show.style()
generator = torch.Generator().manual_seed(0)
noise = 0.5 * torch.randn(11, 64, generator=generator)  # ten digits and the background

# %% [markdown]
# Here is an image on which it happens. It has 64 positions and ten classes, and its bag holds the
# labels 0, 1 and 2. The network sees labels 0 and 1 well, each at three positions. It has hardly
# noticed label 2, whose logit is about $z$ at every position; that of the background is about 0.
# Every network passes through such states: a faint digit among others that it reads already.
#
# We want the truth to compare with. Python's `decimal` evaluates (1.2) with 60 digits, on the very
# float32 numbers that the other methods get.


# %%
def image(z, noise=noise):
    logits = noise.clone()  # (11, 64)
    logits[:10] -= 5.0  # the background, the last row, is ahead nearly everywhere
    logits[0, 10:13] += 10.0
    logits[1, 40:43] += 10.0
    logits[2] += z + 5.0
    return logits.log_softmax(0)[None]  # (1, 11, 64)


# %%
def subsets(items):
    return [s for k in range(len(items) + 1) for s in combinations(items, k)]


def exact(log_p):
    getcontext().prec = 60
    p = [[Decimal(v).exp() for v in column] for column in log_p[0, OWN].T.tolist()]  # 64 x 4
    alpha = {s: prod(sum(q[l] for l in (*s, 3)) for q in p) for s in subsets(range(3))}
    return sum((-1) ** (3 - len(s)) * a for s, a in alpha.items())


# %%
OWN = [0, 1, 2, 10]  # the bag's labels, then the background
labels = (torch.arange(10) < 3)[None]  # (1, 10)
print(f"z = -12: Prb = {exact(image(-12.0)):.6e}")

# %% [markdown]
# The released training code divides all terms of (1.2) by the leading one, $\alpha_{L,\phi}$. It
# starts a sum $T$ at 1, adds the terms from the smallest set to the largest, and returns
# $\log \alpha_{L,\phi} + \log(|T| + 10^{-16})$; the absolute value and the small constant keep the
# logarithm finite. We write the routine from this description. Of its gradient one number tells
# most, the *gradient mass* of label 2, $\sum_j \partial \log \mathrm{Prb} / \partial \log p_{2,j}$.
# We shall see below that it is the expected number of positions that emit label 2, given that the
# bag holds it. With evidence this weak it must be close to 1.


# %%
def literal(log_p, labels=(0, 1, 2)):
    p = log_p[0].exp()  # (11, 64)
    log_alpha = {s: p[[*s, -1]].sum(0).log().sum() for s in subsets(labels)}
    full = log_alpha[tuple(labels)]
    T = 1.0
    for s, a in list(log_alpha.items())[:-1]:  # the last is the full set, the leading 1
        T = T + (-1) ** (len(labels) - len(s)) * (a - full).exp()
    return full + (T.abs() + 1e-16).log()


# %%
def mass(function, log_p):
    log_p = log_p.clone().requires_grad_()
    (slope,) = grad(function(log_p), log_p)  # (1, 11, 64)
    return slope[0, 2].sum().item()


# %%
def ours(log_p):
    return presence.log_likelihood(log_p, labels).squeeze()


# %% tags=["nbval-ignore-output"]
print("             log Prb                                  gradient mass of label 2")
print("  p of 2     exact   float32   float64   package       float32    float64    package")
for z in (-12.0, -17.0, -22.0, -27.0, -32.0, -42.0):
    single, double = image(z), image(z).double()
    values = [f(x).item() for f, x in ((literal, single), (literal, double), (ours, single))]
    masses = [mass(f, x) for f, x in ((literal, single), (literal, double), (ours, single))]
    row = " ".join(f"{v:9.3f}" for v in (exact(single).ln(), *values))
    print(f"{single[0, 2, 0].exp():8.0e} {row}    ", " ".join(f"{v:10.2g}" for v in masses))

# %% [markdown]
# Read the float32 columns from the top. The value is right, then off by whole nats, and then it
# stops moving, whatever the evidence. The gradient mass goes from 1 to nonsense. Double precision
# postpones the same end by nine digits. The last columns are the package's.
#
# The digits of the failed entries are rounding noise and differ between machines. Their kind does
# not, so we count it over 200 images like this one, with other noise.


# %%
def kinds(images):
    masses = torch.tensor([mass(literal, x) for x in images])
    wrong, right = masses < 0, (masses - 1).abs() < 0.5
    return [f"{100 * kind.float().mean():.0f} %" for kind in (right, ~right & ~wrong, wrong)]


# %% tags=["nbval-ignore-output"]
print("evidence    within a factor 2   too weak or strong   wrong sign")
for z in (-12.0, -17.0, -22.0, -27.0):
    others = [image(z, 0.5 * torch.randn(11, 64, generator=generator)) for _ in range(200)]
    print(f"z = {z:5.0f} " + "".join(f"{share:>18}" for share in kinds(others)))

# %% [markdown]
# From $z = -22$ on the sign of the gradient is close to the toss of a coin. Where rounding makes $T$
# negative, the absolute value turns it, and a training step pushes the label *away* from the image
# that holds it. The rest of this page derives a computation that has no such states.
#
# ## What is hidden
#
# The same as in chapter 1: the class that each position emits. We look at it in a new way, one
# position after the other, and keep only what matters for the bag: *which labels have appeared so
# far*. For $L$ labels that is one of $2^L$ sets, however many positions there are.
#
# ## Derivation
#
# ### How many digits a sum loses
#
# Let a sum $T = \sum_i t_i$ have terms that are each computed with relative error at most $\delta$,
# and **let the additions be exact** (each adds at most the rounding of $\sum_i |t_i|$ to that). The
# error of the sum is then at most $\delta \sum_i |t_i|$, and relative to the sum itself
#
# $$ \frac{|\text{error}|}{|T|} \le \kappa \, \delta , \qquad \kappa = \frac{\sum_i |t_i|}{|\sum_i t_i|} . $$
#
# If all $t_i \ge 0$ then $\kappa = 1$: the sum is as good as its terms. With mixed signs
# $\kappa$ has no limit. For our image we compute it exactly, and compare with the number of digits
# that the formats have: $\delta$ is about $6 \cdot 10^{-8}$ in float32, $10^{-16}$ in float64.


# %%
def kappa(log_p):
    alpha = [log_p[0, [*s, 10]].double().logsumexp(0).sum().exp() for s in subsets(range(3))]
    return sum(alpha).item() / float(exact(log_p))  # sum of |terms|, over the exact sum


# %%
for z in (-2.0, -7.0, -12.0, -17.0, -27.0):
    print(f"z = {z:5.0f}   kappa = {kappa(image(z)):.0e}")

# %% [markdown]
# At $z = -17$ the series loses six digits, nearly all that float32 owns. Is the problem itself
# hopeless, then, a small number hidden among large ones? It is not. Change every $\log p$ by at
# most $\delta$. Each labelling is a product of $n$ factors, so its probability changes by a factor
# between $e^{-n\delta}$ and $e^{n\delta}$, and so does any sum of labellings:
#
# $$ |\Delta \log \mathrm{Prb}(L \mid P)| \le n \, \delta . $$
#
# The likelihood is a well-conditioned function of $\log P$. It is the *formula* that throws digits
# away, by adding labellings that do not count and taking them off again. We need one that adds up
# the allowed labellings only.
#
# ### A walk over the positions
#
# Number the positions $1, \dots, n$ in any order. Let $f_j(S)$ be the probability that positions
# 1 to $j$ emit exactly the labels of $S$, and otherwise background. Before the first position
# nothing has been emitted: $f_0(\emptyset) = 1$, and $f_0(S) = 0$ for all other $S$.
#
# How can the covered set be $S$ after position $j$? Either it was $S$ before, and $j$ emits
# background or a label that is in $S$ already. Or one label $\ell \in S$ was missing, and $j$ emits
# it. These cases exclude each other and there is no third. By **conditional independence**
# (Assumption 1 of Li) position $j$ does not care what the others emitted, so the probabilities
# multiply:
#
# $$ f_j(S) = f_{j-1}(S) \Bigl( p_{\phi,j} + \sum_{\ell \in S} p_{\ell,j} \Bigr)
# + \sum_{\ell \in S} f_{j-1}(S \setminus \{\ell\}) \, p_{\ell,j} . \tag{2.1} $$
#
# At the end $\mathrm{Prb}(L \mid P) = f_n(L)$. There is no minus sign anywhere.
#
# In code a set of labels is a bit mask, and emitting $\ell$ turns $S$ into `S | 1 << l`, whether $\ell$
# is new or not. One position is then a matrix between covered sets, and the walk is a product.


# %%
def transition(p):
    """p (L+1,), background last -> (2**L, 2**L): row S, column T holds Prb(S becomes T)."""
    n_labels = len(p) - 1
    A = p.new_zeros(2**n_labels, 2**n_labels)
    for S in range(2**n_labels):
        A[S, S] += p[-1]
        for l in range(n_labels):
            A[S, S | 1 << l] += p[l]
    return A


# %%
def walk(log_p):
    f = torch.zeros(2 ** (len(log_p) - 1)).to(log_p).log()  # (2**L,): log f, log 0 = -inf
    f[0] = 0.0
    for column in log_p.T:  # (L+1,)
        f = (f[:, None] + transition(column.exp()).log()).logsumexp(0)  # (2**L,)
    return f[-1]


# %% [markdown]
# `walk` stores logarithms, as $f$ may underflow, but every sum it takes is one of non-negative
# numbers. We run it in float32 on the image with $z = -42$, where even float64 failed, and compare
# it with the 60 digits and with the package.

# %%
log_p = image(-42.0)
print(f"decimal          {exact(log_p).ln():.4f}")
print(f"walk, float32    {walk(log_p[0, OWN]):.4f}")
assert torch.allclose(walk(log_p[0, OWN]), presence.recursion(log_p, labels)[0], rtol=1e-6)
assert torch.allclose(walk(log_p[0, OWN].double()), ours(log_p.double()), rtol=1e-12)

# %% [markdown]
# ### What only adding buys
#
# Each $f_j(S)$ is a sum of products of non-negative numbers. Summed from left to right, (2.1)
# rounds a number at most $2L + 1$ times a position: in up to $L$ additions in the bracket, one
# product, and up to $L$ additions of the labels that arrive. So the relative error of $f_n(L)$ is
# at most about $n (2L + 1) \, \varepsilon$, with $\varepsilon$ the rounding error of the format,
# *whatever the evidence*. In log space each stored logarithm adds its own rounding, $\varepsilon$
# times its size. Both are far from the factor $\kappa$.
#
# The figure puts the four ways side by side: the error of $\log \mathrm{Prb}$ against how probable
# label 2 is at each position.

# %%
zs = torch.linspace(-2, -46, 45)
truth = [float(exact(image(z)).ln()) for z in zs]
ways = {
    "series, float32": lambda x: literal(x),
    "series, float64": lambda x: literal(x.double()),
    "recursion, float32": lambda x: presence.recursion(x, labels),
    "package": lambda x: presence.log_likelihood(x.double(), labels),
}
# %%
fig, axis = plt.subplots()
for name, way in ways.items():
    error = [abs(way(image(z)).item() - t) for z, t in zip(zs, truth, strict=True)]
    axis.plot(zs.exp(), [max(e, 1e-16) for e in error], label=name, markevery=3)
axis.set(xscale="log", yscale="log", xlim=(1, 1e-20), ylim=(1e-17, 1e3))
axis.set(xlabel="probability of label 2 at each position", ylabel="error of log Prb / nats")
axis.legend(ncols=2, loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0)
show.figure(
    fig,
    alt="Error of the log-likelihood against the probability of the weak label, both axes"
    " logarithmic. The float32 series rises to errors above one nat near 1e-9, the float64 series"
    " near 1e-18. The float32 recursion stays below 1e-5 and the package below 1e-11 throughout.",
)

# %% [markdown]
# The two rising lines are the law $\kappa \delta$. Where $\kappa \delta$ reaches one nothing is left
# to lose, and they flatten. The other two do not know how weak the evidence is.
#
# ### What it costs, and its relatives
#
# For each position (2.1) touches $2^L$ sets for the first term and $L 2^{L-1}$ pairs for the
# second: $n (L 2^{L-1} + 2^L)$ multiplications in all. With five labels, the most that a house
# number of SVHN asks for, that is 112 a position, against 32 for the series.
#
# The walk is the forward algorithm of a hidden Markov model whose state is the covered set.
# Connectionist temporal classification runs the same algorithm with another state, the prefix of
# an ordered sequence; chapter 3 returns to it. Our order of positions is arbitrary, so we may also
# walk over two halves of the image separately and join them. The labels of the whole are the
# *union* of the labels of the halves:
#
# $$ f(S) = \sum_{A \cup B = S} f^{\text{left}}(A) \, f^{\text{right}}(B) . $$
#
# Joining pairs of pairs gives a tree of depth $\log_2 n$ instead of $n$ steps in a row.


# %%
def cover(p):
    f = p.new_zeros(2 ** (len(p) - 1))  # (2**L,)
    f[0] = 1.0
    for column in p.T:
        f = f @ transition(column)  # (2**L,)
    return f


# %%
def union_product(f, g):
    S = torch.arange(len(f))
    out = torch.zeros_like(f)
    return out.index_add(0, (S[:, None] | S).flatten(), (f[:, None] * g).flatten())  # (2**L,)


# %%
p = image(-12.0)[0, OWN].double().exp()  # (4, 64)
joined = union_product(cover(p[:, :32]), cover(p[:, 32:]))  # (8,)
assert torch.allclose(joined, cover(p), rtol=1e-12)
print(f"log Prb = {cover(p)[-1].log():.6f}, from two halves {joined[-1].log():.6f}")

# %% [markdown]
# Now the series appears in a new light. Sum $f$ over all subsets of $S$, the *zeta transform*. The
# result is the probability that nothing outside $S$ is emitted, which is $\alpha_{S,\phi}$, and a
# union product of two $f$ becomes an ordinary product of their transforms, for each set $S$ on its
# own. One position has the transform $q_j(S)$, so all have $\prod_j q_j(S)$: that is (1.1). The
# inverse, the Möbius transform, is (1.2). So the alternating series is a fast algorithm for the
# union product of $n$ positions: transform, multiply, transform back ([Björklund et al.
# 2007](https://arxiv.org/abs/cs/0611101)). The minus signs live in the way back, and there the
# digits die.
#
# ### A quick path with a certificate
#
# The series has one great advantage: its $2^L$ products have no order, so a batch of bags is one
# matrix product, while the walk needs $n$ steps one after the other. And most bags do not cancel.
# We can have both, because the series *tells* us whether it lost its digits. Divide it by its
# leading term:
#
# $$ \begin{aligned}
# \log \mathrm{Prb}(L \mid P) &= \sum_{j} \log q_j(L) + \log T , \cr
# T &= \sum_{S \subseteq L} (-1)^{|L \setminus S|} \prod_{j} \frac{q_j(S)}{q_j(L)} .
# \end{aligned} \tag{2.2} $$
#
# The ratios lie between 0 and 1 and the leading term is 1. If a product underflows it was
# negligible beside that 1, so no logarithms are needed inside $T$. Each product has a relative
# error of about $n \varepsilon$, so $T$ has an absolute error of about
# $n \varepsilon \sum |\text{terms}|$. We accept $T$ where
# $T > \tau \sum |\text{terms}|$. Its relative error is then below $n \varepsilon / \tau$; with
# $\tau = 10^{-4}$, float64 and a thousand positions, below $10^{-8}$. All other bags go to (2.1).


# %%
def quick(log_p, tau=1e-4):
    """log_p (B, L+1, n) -> the normalised series (B,), and whether to believe it (B,)."""
    L = log_p.shape[1] - 1
    keep = torch.tensor([[l in s for l in range(L)] + [True] for s in subsets(range(L))])
    total = log_p.logsumexp(1, keepdim=True)  # (B, 1, n): log q(L)
    ratio = keep.to(log_p) @ (log_p - total).exp()  # (B, 2**L, n)
    products = ratio.prod(-1)  # (B, 2**L)
    series = products @ (-1.0) ** (~keep).sum(1).to(log_p)  # (B,): T
    return total.sum((1, 2)) + series.log(), series > tau * products.sum(1)


# %%
weak = torch.cat([image(z) for z in (-2.0, -7.0, -12.0, -17.0, -27.0)]).double()  # (5, 11, 64)
value, accepted = quick(weak[:, OWN])
truth = presence.recursion(weak, labels.expand(5, -1))  # (5,)
assert torch.allclose(value[accepted], truth[accepted], rtol=1e-9)
print("accepted:", accepted.tolist())

# %% [markdown]
# This is `presence.log_likelihood`: series for the bags whose certificate holds, recursion for the
# rest, in float64 inside whatever the network computes in. The recursion takes chunks of positions
# side by side and joins them by union products; it stays in linear space, where every label but the
# first few divides its $p_{\ell,j}$ by their sum, and goes to log space only where even that underflows.
#
# Which bags fail the certificate? If labels occurred independently, each with probability $1 - s_\ell$,
# the series would keep the share $T / \sum |\text{terms}| = \prod_\ell (1 - s_\ell) / (1 + s_\ell)$ of
# its terms. With $\tau = 10^{-4}$ one label that hardly occurs is enough, and so are many labels of
# middling evidence: two labels that occur with 2 % each, five with 27 %, ten with 57 %, sixteen with
# 72 %. As a network learns there are fewer of these bags.
#
# ### The posterior
#
# Training needs the gradient, and by (0.3) the gradient needs the posterior $r_{\ell,j}$, the
# probability that position $j$ emits $\ell$ given the label set. The walk gives it with a second
# walk from the other end. Let $b_j(S)$ be the probability that the positions after $j$ complete the
# covered set $S$ to $L$ and emit nothing outside $L$: $b_n(L) = 1$, $b_n$ is 0 for all other sets,
# and going backwards, position $j$ brings nothing new or one of the missing labels,
#
# $$ b_{j-1}(S) = q_j(S) \, b_j(S) + \sum_{\ell \in L \setminus S} p_{\ell,j} \, b_j(S \cup \{\ell\}) . $$
#
# For position $j$ to emit $\ell$, some set
# $S$ is covered before it, and the rest must be completed from $S \cup \{\ell\}$:
#
# $$ r_{\ell,j} = \frac{p_{\ell,j}}{\mathrm{Prb}(L \mid P)} \sum_{S \subseteq L} f_{j-1}(S) \, b_j(S \cup \{\ell\})
# = \frac{\partial \log \mathrm{Prb}(L \mid P)}{\partial \log p_{\ell,j}} , \tag{2.3} $$
#
# for $\ell \in L$; for the background read $S \cup \{\phi\}$ as $S$; for all other classes $r = 0$.
#
# The second equality holds because every labelling uses position $j$ once. So $\mathrm{Prb}$ is
# *linear* in the probabilities at position $j$, and $p_{\ell,j} \, \partial \mathrm{Prb} / \partial
# p_{\ell,j}$ is the part of the sum in which $j$ emits $\ell$.


# %%
def forward_backward(p):
    steps = [transition(column) for column in p.T]  # n of (2**L, 2**L)
    f = [p.new_zeros(len(steps[0]))]
    b = [p.new_zeros(len(steps[0]))]
    f[0][0] = b[0][-1] = 1.0
    for forth, back in zip(steps, reversed(steps), strict=True):
        f.append(f[-1] @ forth)
        b.append(back @ b[-1])
    f, b = torch.stack(f), torch.stack(b[::-1])  # (n+1, 2**L) each
    S = torch.arange(len(steps[0]))
    arrive = [b[1:, S | 1 << l] for l in range(len(p) - 1)] + [b[1:]]  # L+1 of (n, 2**L)
    r = torch.stack([(f[:-1] * a).sum(1) for a in arrive])  # (L+1, n)
    return p * r / f[-1, -1], f, b


# %%
r, f, b = forward_backward(p)
log_p = image(-12.0).double().requires_grad_()  # (1, 11, 64)
(slope,) = grad(presence.recursion(log_p, labels).sum(), log_p)
assert torch.allclose(r, slope[0, OWN], rtol=1e-9)
assert torch.allclose(r, presence.posterior(log_p, labels)[0, OWN], rtol=1e-9)
print("sums to one over the classes:", torch.allclose(r.sum(0), torch.ones(64).double()))
print("expected number of positions for label 0, 1, 2:", [f"{v:.3f}" for v in r[:3].sum(1)])

# %% [markdown]
# Three facts to keep.
#
# 1. With respect to the logits the gradient is $r - p$, by (0.3). Every entry lies between $-1$
#    and $1$: no bag, however unlikely, makes it explode. The package returns $r$ as the gradient
#    in $\log p$ and lets the softmax subtract $p$.
# 2. If $\ell$ is in the bag, then $\sum_j r_{\ell,j} \ge 1$: at least one position emits it. That is
#    the gradient mass of our table. **A label that the network does not see at all still pulls
#    with the full weight of one position.**
# 3. How this pull is shared out is decided by ratios, however small the $p_{\ell,j}$ are. For a label
#    with $p_{\ell,j} \to 0$ everywhere, $r_{\ell,j}$ is in proportion to $p_{\ell,j} / q_j(L)$ times
#    the probability that the *other* positions supply the other labels. If $\ell$ is the only label,
#    these are the odds $p_{\ell,j} / p_{\phi,j}$ against the background: with $p_\ell = 10^{-6}$ at two
#    positions and $p_\phi = 0.9$ and $0.1$ there, the second position gets 0.9 of the pull.
#
# ### Bounds: too many labels
#
# $2^L$ is out of reach for a bag of 30 labels. Two brackets help. The first stops the series
# early: with at most two labels missing, a bag of 30 has 466 terms. Li writes in section 3.2 that a truncated series is in general neither an upper nor a
# lower bound. For terms dropped at will that is so, and for a cut inside a size, after some of the
# sets that miss $k$ labels. A cut between the sizes does bound: if we keep *all* sets from which at
# most $k$ labels are missing, then
#
# $$ \sum_{i=0}^{k} (-1)^i \sum_{\substack{S \subseteq L \cr |L \setminus S| = i}} \alpha_{S,\phi}
# \;\; \begin{cases} \ge \mathrm{Prb}(L \mid P) & k \text{ even} \cr
# \le \mathrm{Prb}(L \mid P) & k \text{ odd.} \end{cases} \tag{2.4} $$
#
# *Proof.* Take one labelling in which exactly $t$ labels of $L$ are missing, and count how often
# the left side adds it. It is in $\alpha_{S,\phi}$ if all of $L \setminus S$ is missing, so the
# count is $\sum_{i \le k} (-1)^i \binom{t}{i}$. For $t = 0$ that is 1, as it should be. For $t \ge
# 1$ it equals $(-1)^k \binom{t-1}{k}$: never negative for even $k$, never positive for odd $k$.
# $\square$
#
# These are Bonferroni's inequalities. We look for violations in 300 random bags of six labels on
# nine positions, of very different evidence, at every $k$.

# %%
strength = torch.rand(300, 1, 1, generator=generator) * 4  # (300, 1, 1)
bags = strength * torch.randn(300, 7, 9, generator=generator)
log_p = bags.double().log_softmax(1)  # (300, 7, 9)
all_six = torch.ones(300, 6, dtype=torch.bool)
truth = presence.recursion(log_p, all_six)  # (300,)

# %%
members = torch.tensor([[l in s for l in range(6)] + [True] for s in subsets(range(6))])  # (64, 7)
alpha = torch.stack([presence.log_alpha(log_p, m.expand(300, 7)) for m in members], 1)  # (300, 64)
missing = 7 - members.sum(1)  # (64,)
signed = alpha.exp() * (-1.0) ** missing  # (300, 64)
partial = torch.stack([signed[:, missing <= k].sum(1) for k in range(7)], 1)  # (300, 7)
excess = (partial - truth.exp()[:, None]) / alpha[:, -1:].exp()  # (300, 7)
side = excess * (-1.0) ** torch.arange(7)  # (300, 7): never negative, says (2.4)
print("violations in", side.numel(), "truncations:", int((side < -1e-12).sum()))

# %% [markdown]
# The figure draws the excess of the partial sums over the truth, relative to the leading term, for
# 40 of the bags. Above zero is an upper bound, below zero a lower one.

# %%
fig, axis = plt.subplots(figsize=(6.4, 3.0))
axis.plot(excess[:40].T, color=show.GREY, lw=0.5, marker="")
for parity, mark in ((0, "^"), (1, "v")):
    k = torch.arange(parity, 7, 2)
    axis.plot(k, excess[:40, k].T, ls="none", color=show.COLOURS[parity], marker=mark)
axis.axhline(0, color="black", lw=1, marker="")
axis.set(yscale="symlog", xlabel="most labels missing, k", ylabel="(partial sum − Prb) / leading α")
axis.set_yscale("symlog", linthresh=1e-3)
show.figure(
    fig,
    alt="Excess of the truncated series over the likelihood for 40 bags, against the number of"
    " labels that may be missing. All points at even numbers lie on or above zero, all points at"
    " odd numbers on or below it, and all reach zero at six.",
)

# %% [markdown]
# Each curve jumps from side to side, and none is ever on the wrong one. `presence.bounds` returns
# the best of each side up to an order. A partial sum cancels as the series does, so it is moved
# outwards by the most that rounding can have cost it. A lower sum that is not positive says nothing
# of a probability: the lower side is then $-\infty$. The order is limited by the number of terms, at
# most $2^{16}$, so a bag may have any number of labels. At order $L$ nothing is left out: there both
# sides are the likelihood itself, computed by (2.2) and, where that cancels, by (2.1).

# %%
value = presence.log_likelihood(log_p, all_six)  # (300,)
for k in (1, 2, 4, 6):
    lower, upper = presence.bounds(log_p, all_six, order=k)  # (300,) each
    inside = (lower <= value) & (value <= upper)
    print(
        f"order {k}: inside {bool(inside.all())}, lower side finite for {lower.isfinite().sum()},",
        f"upper side {(upper - value).median():.3f} nats too high",
    )

# %% [markdown]
# Truncation still needs $L^k$ terms, and it subtracts. The second bracket needs $L \cdot MN$ steps.
# Condition on the event that only $L$ and the background are emitted. Position $j$ then emits
# $\ell$ with probability $\rho_{\ell,j} = p_{\ell,j} / q_j(L)$, still independently of the others,
# and label $\ell$ is nowhere with probability $s_\ell = \prod_j (1 - \rho_{\ell,j})$. We claim
#
# $$ \max \Bigl( 0, \; 1 - \sum_{\ell \in L} s_\ell \Bigr) \; \le \;
# \frac{\mathrm{Prb}(L \mid P)}{\alpha_{L,\phi}} \; \le \; \prod_{\ell \in L} (1 - s_\ell) . \tag{2.5} $$
#
# The ratio is the probability that no label is missing. *Lower side:* label $\ell$ is missing with
# probability $s_\ell$, so some label is missing with at most the sum of these, the union bound.
# *Upper side:* the labels compete for positions. A position emits one class, so its indicators
# "emits $\ell$" are negatively associated; joining independent positions keeps that; and "label
# $\ell$ occurs" is an increasing function of the indicators of $\ell$ alone. For increasing
# functions of disjoint groups of negatively associated variables the mean of the product is at most
# the product of the means (Joag-Dev and Proschan 1983). That all labels occur is therefore at most
# as probable as if they occurred independently.


# %%
def sides(own):
    """own (B, L+1, n) log-probabilities -> lower and upper side of (2.5), times alpha, (B,)."""
    total = own.logsumexp(1)  # (B, n)
    share = (own[:, :-1] - total[:, None]).exp()  # (B, L, n)
    s = (1 - share).prod(-1)  # (B, L)
    return total.sum(1) + torch.stack([(1 - s.sum(1)).clamp_min(0), (1 - s).prod(1)]).log()


# %%
lower, upper = sides(log_p)  # (300,) each
assert torch.allclose(torch.stack(presence.bracket(log_p, all_six)), torch.stack((lower, upper)))
inside = (lower <= truth + 1e-9) & (truth <= upper + 1e-9)
print(
    f"inside: {bool(inside.all())}, median distance to the upper side"
    f" {(upper - truth).median():.2f} nats"
)

# %% [markdown]
# Where the evidence is good all $s_\ell$ are small and the two sides meet. Here is a bag of 60 labels
# on 40 × 40 positions, each detected somewhere, which no exact method of this page can touch.

# %%
logits = torch.randn(1, 61, 40, 40, generator=generator, dtype=torch.float64)
logits[:, :-1] -= 8
for l in range(60):
    logits[0, l, l % 40, (7 * l + l // 40) % 40] = 9.0  # 60 different places
lower, upper = presence.bracket(logits.log_softmax(1), torch.ones(1, 60, dtype=torch.bool))
print(f"log Prb between {lower.item():.4f} and {upper.item():.4f}")

# %% [markdown]
# ## Code
#
# All of it is two calls on a batch. `log_p` may have any number of position axes; the classes
# that a bag does not hold are restricted away inside.

# %%
logits = torch.randn(3, 11, 8, 8, generator=generator, requires_grad=True)  # (B, C+1, M, N)
sets = torch.zeros(3, 10, dtype=torch.bool)  # (B, C)
sets[0, [2, 7]] = sets[1, 4] = True  # the third bag is empty
log_p = logits.log_softmax(1)

# %%
loss = -presence.log_likelihood(log_p, sets).mean()
(slope,) = grad(loss, logits)  # (3, 11, 8, 8)
r = presence.posterior(log_p, sets)  # (3, 11, 8, 8)
assert torch.allclose(slope, (log_p.exp() - r) / 3, atol=1e-6)
print("largest entry of the gradient below 1/B:", bool(slope.abs().max() < 1 / 3))

# %% [markdown]
# How fast is it? We time value and gradient for 32 bags of one to five labels on 28 × 28 positions,
# the size of the paper's house numbers, against the literal routine with its loops. Seconds depend
# on the machine; `tests/benchmarks/presence_speed.py` measures ratios with more care, and times the
# case of the paper's footnote 1, with $M = N = C = 100$ and $L = 16$.

# %%
logits = torch.randn(32, 11, 28, 28, generator=generator, requires_grad=True)
order = torch.rand(32, 10, generator=generator).argsort(1)
sets = order < 1 + torch.arange(32)[:, None] % 5  # (32, 10): one to five labels


def loop(log_p):
    bags = zip(log_p.flatten(2), sets, strict=True)
    return sum(literal(x[None], on.nonzero()[:, 0].tolist()) for x, on in bags)


# %%
def milliseconds(way):
    start = time.perf_counter()
    grad(way(logits.log_softmax(1)), logits)
    return 1e3 * (time.perf_counter() - start)


# %% tags=["nbval-ignore-output"]
package = min(milliseconds(lambda x: presence.log_likelihood(x, sets).sum()) for _ in range(3))
print(f"loop {min(milliseconds(loop) for _ in range(3)):.1f} ms, package {package:.1f} ms")

# %% [markdown]
# ## Picture
#
# ### The covered set, and where the faint label is
#
# Forward times backward, $f_j(S) \, b_j(S) / \mathrm{Prb}(L \mid P)$, is the probability that the
# covered set is $S$ after $j$ positions, given the whole label set. The left panel draws it for
# our image with $z = -12$: a staircase from the empty set to $L$, with a step at each detection,
# and label 2 entering no one knows where. For the right panel we lift the logit of label 2 by 6 at
# a single position, from about $-22$ to $-16$. We draw its prior and its posterior over the 64
# positions.

# %%
share = f * b / f[-1, -1]  # (65, 8)
lifted = image(-22.0).double()
lifted[0, 2, 22] += 6.0
lifted = lifted.log_softmax(1)
r = presence.posterior(lifted, labels)[0, 2]  # (64,)
print(f"prior at the lifted position {lifted[0, 2, 22].exp():.0e}, posterior {r[22]:.2f}")

# %%
fig, (left, right) = plt.subplots(1, 2, figsize=(7.2, 3.2))
names = ["{}", "{0}", "{1}", "{0, 1}", "{2}", "{0, 2}", "{1, 2}", "{0, 1, 2}"]
for S in (0, 1, 3, 4, 5, 7):
    style = {"color": show.COLOURS[S], "marker": show.MARKERS[S], "markevery": 8}
    left.plot(share[:, S], label=names[S], **style)
left.set(xlabel="positions walked", ylabel="probability, given the label set", ylim=(0, 1.05))
left.legend(fontsize=8, ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1), columnspacing=1)
right.plot(lifted[0, 2].exp(), ls="none", color=show.GREY, marker="x", label="prior of label 2")
right.plot(r, ls="none", color=show.COLOURS[2], marker="^", label="posterior of label 2")
right.set(xlabel="position", ylabel="probability", yscale="log", ylim=(1e-11, 3))
right.legend(fontsize=8, ncols=2, loc="lower center", bbox_to_anchor=(0.5, 1), columnspacing=1)
show.figure(
    fig,
    alt="Left: probability of the covered set against positions walked. It moves from the empty"
    " set to sets with label 0 near position 10, to sets with label 1 near position 40, while the"
    " sets that hold label 2 gain steadily. Right: the prior of label 2 is about 1e-10 at every"
    " position; its posterior is above one half at the lifted position and a few percent or less"
    " elsewhere, least where labels 0 and 1 are seen.",
)

# %% [markdown]
# The prior is below one in a million everywhere. The posterior says *there*, because the label must
# be somewhere and the other places are worse still.
# This is the E-step that lets a network bootstrap itself from labels without places, and it works
# only if numbers of size $10^{-10}$ keep their digits.
#
# Turn the sum yourself. The preset "weak evidence" has four positions and a faint B; compare the
# float32 series with the float32 recursion.
#
# <div class="demo" data-demo="presence">This demo needs JavaScript. It lets you set the logits of a
# 2 by 2 image, and shows the allowed labellings, the terms of the series, and the posterior.</div>

# %% [markdown]
# ## When it breaks
#
# **More labels than positions.** Then no labelling is allowed and the probability is 0. The series
# must cancel to nothing, and returns the logarithm of its rounding errors. The recursion never
# reaches the full set. The package answers $-\infty$ with gradient zero, so that one impossible
# bag does not spoil the gradients of its batch; the mean loss is then infinite, and you see it.

# %%
three = torch.randn(1, 11, 2, generator=generator, dtype=torch.float64).log_softmax(1)
three.requires_grad_()  # (1, 11, 2): three labels cannot fit on two positions
value = presence.log_likelihood(three, labels)
(slope,) = grad(value.sum(), three)
print(
    f"series finite: {bool(literal(three).isfinite())}, package: {value.item()},",
    f"gradient {slope.abs().max().item()}",
)

# %% [markdown]
# **As many labels as positions.** Each label must take one position. The sum runs over all $L!$
# assignments and is a *permanent*; the series becomes Ryser's formula. The background cannot be
# emitted, so its probability must drop out, and it does, although it stands in every term.
# Computing permanents is #P-hard (Valiant 1979): an exact method that is polynomial in $L$ and $MN$
# would count the solutions of every problem in NP in polynomial time, which nobody expects.

# %%
p = torch.rand(4, 3, generator=generator, dtype=torch.float64)  # three labels, phi; 3 positions
for phi in (0.0, 0.1, 7.3):
    p[3] = phi  # not even a probability: the identity is algebra
    series = sum((-1) ** (3 - len(s)) * p[[*s, 3]].sum(0).prod() for s in subsets(range(3)))
    print(f"phi = {phi}: series {series:.9f}, recursion {cover(p)[-1]:.9f}")

# %% [markdown]
# **A wrong label.** The small constant of the literal routine caps its loss, in float64 at
# $16 \ln 10 \approx 36.8$ nats above $-\log \alpha_{L,\phi}$. By accident this makes it deaf to
# labels for which there is no evidence at all, the wrong ones among them. The exact likelihood
# pulls with mass 1 forever. If your labels err, say so in the model, as exercise 5 of
# [chapter 0](00_one_idea.ipynb) and the end of [chapter 3](03_presence_learning.ipynb) do, and do
# not leave it to the rounding.
#
# **Dependent positions.** The walk multiplies probabilities of different positions. Its arithmetic
# is exact; the assumption under it is the modeller's.
#
# ## Reproduction
#
# Two statements of the paper are settled here. A series that is truncated after all sets of a size
# does bound, (2.4), which section 3.2 does not say. And the arithmetic of section 3.3 is not enough, although the paper's networks learned
# with it: where float32 was too short for house numbers, the authors' code went to float64. All
# runs of [chapter 4](04_presence_reproduction.ipynb) use `presence.log_likelihood`.
#
# ## Exercises
#
# **1, by hand.** Two positions, $L = \{0, 1\}$, with $p_{0,\cdot} = (0.6, 0.1)$,
# $p_{1,\cdot} = (0.1, 0.6)$, $p_{\phi,\cdot} = (0.3, 0.3)$. Walk: what are $f_1(\emptyset)$,
# $f_1(\{0\})$ and $f_2(L)$? Which of your numbers would change if $p_\phi$ were halved? Replace the
# three numbers below; as before, each exercise starts with a wrong answer and its hint.


# %%
def two_steps():
    return 0.3, 0.6, 0.36  # f_1 of the empty set, f_1 of {0}, f_2 of L


check.attempt(check.two_steps, two_steps)

# %% [markdown]
# **2, code.** Write the walk in linear space with Python sets or bit masks, from `p (L+1, n)`,
# background last, to $\mathrm{Prb}(L \mid P)$. The version below allows a label to appear once only.


# %%
def covered(p):
    f = {frozenset(): 1.0}
    for column in p.T:
        g = {S: v * column[-1] for S, v in f.items()}
        for S, v in f.items():
            for l in set(range(len(p) - 1)) - S:
                g[S | {l}] = g.get(S | {l}, 0.0) + v * column[l]
        f = g
    return f.get(frozenset(range(len(p) - 1)), 0.0)


check.attempt(check.covered, covered)

# %% [markdown]
# **3, code.** You have a log-likelihood and no forward-backward pass. Return the posterior
# `(B, C+1, *positions)` by one call of `grad`.


# %%
def posterior(log_p, labels):
    p = log_p.exp().requires_grad_()
    (slope,) = grad(presence.log_likelihood(p.log(), labels).sum(), p)
    return slope


check.attempt(check.posterior, posterior)

# %% [markdown]
# **4, code.** How many decimal digits will the series lose on a bag? Return $\log_{10} \kappa$ from
# the terms of the series, leading term first, each with its sign: `terms (2**L,)`.


# %%
def digits_lost(terms):
    return (terms.abs().max() / terms.sum()).log10()


check.attempt(check.digits_lost, digits_lost)

# %% [markdown]
# **5, by hand.** Show that both sides of (2.5) are exact for $L = 1$. For $L = 2$ and $s_1 + s_2
# \leq 1$, express the distance to each side by $s_1$, $s_2$ and the probability that both labels
# are missing. Why is the upper side far off when $MN = L$?
#
# **6, change an assumption.** Suppose a bag only says "at least these labels"; other classes may
# occur too. Which term of (2.1) changes, and what does the loss then ask of an image with no label?
#
# **7, explain to a colleague.** Your colleague casts everything to float64 and says that the problem
# is solved. Explain, with $\kappa$ and without formulas, for which images it is not, and what such
# an image does to the weights.
#
# ## Further reading
#
# - [Pham, Raich and Fern (2014)](https://arxiv.org/abs/1411.4068), *Dynamic programming for instance
#   annotation in multi-instance multi-label learning*: the same recursion over label sets, four
#   years before the series, inside EM.
# - [Björklund, Husfeldt, Kaski and Koivisto (2007)](https://arxiv.org/abs/cs/0611101), *Fourier meets
#   Möbius: fast subset convolution*: zeta and Möbius transforms as an algorithm.
# - [Higham (2002)](https://doi.org/10.1137/1.9780898718027), *Accuracy and Stability of Numerical
#   Algorithms*: chapters 1 to 4, on conditioning, cancellation and the error of sums.
# - [Joag-Dev and Proschan (1983)](https://doi.org/10.1214/aos/1176346079), *Negative association of
#   random variables, with applications*: the upper side of (2.5).
# - [Valiant (1979)](https://doi.org/10.1016/0304-3975(79)90044-6), *The complexity of computing the
#   permanent*: why $2^L$ does not go away.
