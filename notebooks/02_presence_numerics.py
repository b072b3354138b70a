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
# # Presence, computed safely
#
# After this page you can explain why logarithms do not make the alternating series of chapter 1
# accurate, compute the same likelihood with a recursion that never subtracts, obtain its posterior
# and gradient, and bound it when a bag has too many labels. You need [chapter
# 1](01_presence_likelihood.ipynb), above all (1.1) and (1.2), and you should know what a rounding
# error is. The page runs in ten seconds on one CPU core and needs no GPU.
#
# ## Problem
#
# Let $q_j(S) = p_{\phi,j} + \sum_{\ell \in S} p_{\ell,j}$ be the probability that position $j$
# emits the background or a label of $S$. Then the series (1.2) of chapter 1 reads
#
# $$ \mathrm{Prb}(L \mid P) = \sum_{S \subseteq L} (-1)^{|L \setminus S|} \, \alpha_{S,\phi} ,
# \qquad \alpha_{S,\phi} = \prod_{j=1}^{n} q_j(S) , $$
#
# with $n = MN$ positions. A product over many positions underflows. Therefore [Li
# (2018)](https://arxiv.org/abs/1811.12346), section 3.3, works with logarithms throughout, using
# $\log(x - y) = \log x + \log(1 - e^{\log y - \log x})$. This cures underflow, but not
# *cancellation*. If $x$ and $y$ agree in more digits than we compute with, both are rounded to the
# same number, and $x - y$ is lost before we take its logarithm.

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
noise = 0.5 * torch.randn(11, 64, generator=generator)  # ten digits and phi

# %% [markdown]
# The function `image` returns log-probabilities for which this happens, at 64 positions and for ten
# classes. The label set is $\{0, 1, 2\}$. Labels 0 and 1 are detected clearly, each at three
# positions. The logit of label 2 is about $z$ at every position, that of the background about 0. We
# call the evidence for label 2 *weak* if the label is improbable at every position.
#
# As a reference we evaluate (1.2) with 60 digits, using Python's `decimal`.


# %%
def image(z, noise=noise):
    logits = noise.clone()  # (11, 64)
    logits[:10] -= 5.0  # the background leads nearly everywhere
    logits[0, 10:13] += 10.0
    logits[1, 40:43] += 10.0
    logits[2] += z + 5.0
    return logits.log_softmax(0)[None]  # (1, 11, 64)


# %%
def subsets(items):
    sizes = range(len(items) + 1)
    return [s for k in sizes for s in combinations(items, k)]


# %% tags=["hide-input"]
def exact(log_p):
    getcontext().prec = 60
    columns = log_p[0, OWN].T.tolist()  # 64 lists of 4
    p = [[Decimal(v).exp() for v in column] for column in columns]
    alpha = {
        s: prod(sum(q[l] for l in (*s, 3)) for q in p)
        for s in subsets(range(3))
    }
    return sum((-1) ** (3 - len(s)) * a for s, a in alpha.items())


# %%
OWN = [0, 1, 2, 10]  # the labels of the bag, then the background
labels = (torch.arange(10) < 3)[None]  # (1, 10)
print(f"z = -12: Prb = {exact(image(-12.0)):.6e}")

# %% [markdown]
# The authors' training code divides all terms of (1.2) by the leading term $\alpha_{L,\phi}$. It
# starts a sum $T$ at 1, adds the other terms from the smallest set to the largest, and returns
# $\log \alpha_{L,\phi} + \log(|T| + 10^{-16})$. The function `literal` is our own version of this
# routine.
#
# To judge its gradient we look at one number, the *gradient mass* of label 2, $\sum_j \partial \log
# \mathrm{Prb} / \partial \log p_{2,j}$. We will see below that it is the expected number of
# positions that emit label 2, given the label set. Label 2 must occur at least once, and with weak
# evidence a second occurrence is very improbable. So the gradient mass must be close to 1.
#
# The table compares the exact value with `literal` in float32 and float64 and with
# `presence.log_likelihood` of our package. Its second column is the probability of label 2 at the
# first position.


# %%
def literal(log_p, labels=(0, 1, 2)):
    p = log_p[0].exp()  # (11, 64)
    *smaller, _ = sets = subsets(labels)  # the full set comes last
    log_alpha = {s: p[[*s, -1]].sum(0).log().sum() for s in sets}
    full = log_alpha[tuple(labels)]
    T = 1.0
    for s in smaller:
        T = T + (-1) ** (len(labels) - len(s)) * (log_alpha[s] - full).exp()
    return full + (T.abs() + 1e-16).log()


# %%
def mass(function, log_p):
    log_p = log_p.clone().requires_grad_()
    (slope,) = grad(function(log_p), log_p)  # (1, 11, 64)
    return slope[0, 2].sum().item()


# %% tags=["hide-input"]
def ours(log_p):
    return presence.log_likelihood(log_p, labels).squeeze()


# %% tags=["hide-input", "nbval-ignore-output"]
print(f"{'':15}log Prb{'':30}gradient mass of label 2")
print("  z   p of 2    exact  float32  float64  package", end="  ")
print("  float32   float64   package")
for z in (-12.0, -17.0, -22.0, -27.0, -32.0, -42.0):
    single, double = image(z), image(z).double()
    ways = (literal, single), (literal, double), (ours, single)
    values = [exact(single).ln(), *(f(x).item() for f, x in ways)]
    masses = [mass(f, x) for f, x in ways]
    row = " ".join(f"{v:8.3f}" for v in values)
    masses = " ".join(f"{v:9.2g}" for v in masses)
    print(f"{z:3.0f} {single[0, 2, 0].exp():8.0e} {row}  {masses}")

# %% [markdown]
# From top to bottom, the float32 value of $\log \mathrm{Prb}$ is right, then wrong by more than 2,
# and finally independent of $z$. Its gradient mass is first 1 and then meaningless. Float64 fails
# in the same way when label 2 is about $10^9$ times less probable.
#
# The wrong entries are rounding noise and differ between machines. For each of four $z$ we sort 200
# such images, each with new noise, by their gradient mass from `literal` in float32: about right
# (0.5 to 1.5), negative, or otherwise wrong.


# %% tags=["hide-input"]
def kinds(images):
    masses = torch.tensor([mass(literal, x) for x in images])
    wrong, right = masses < 0, (masses - 1).abs() < 0.5
    return [
        f"{100 * kind.float().mean():.0f} %"
        for kind in (right, ~right & ~wrong, wrong)
    ]


# %% tags=["hide-input", "nbval-ignore-output"]
print("evidence           about right             wrong         negative")
for z in (-12.0, -17.0, -22.0, -27.0):
    noises = [
        0.5 * torch.randn(11, 64, generator=generator) for _ in range(200)
    ]
    others = [image(z, noise) for noise in noises]
    print(f"z = {z:5.0f} " + "".join(f"{s:>18}" for s in kinds(others)))

# %% [markdown]
# From $z = -22$ on, the sign of the gradient is wrong for about half of the images. Where rounding
# makes $T$ negative, the absolute value reverses the gradient, and a training step makes label 2
# *less* probable in an image that contains it.
#
# ## What is hidden
#
# As in chapter 1, the class that each position emits is hidden. Now we go through the positions one
# by one and remember only *which labels have appeared so far*, the *covered set*. A bag with $L$
# labels (as in the paper, $L$ is also their number) has $2^L$ possible covered sets, however many
# positions there are.
#
# ## Derivation
#
# ### How many digits a sum loses
#
# Consider a sum $T = \sum_i t_i$ whose terms are computed with a relative error of at most
# $\delta$. **Assume that the additions are exact.** (Their rounding adds an error of about the same
# size.) The error of $T$ is then at most $\delta \sum_i |t_i|$. Relative to $T$ this is
#
# $$ \frac{|\text{error}|}{|T|} \le \kappa \, \delta , \qquad \kappa = \frac{\sum_i |t_i|}{|\sum_i t_i|} . $$
#
# If all $t_i \ge 0$, then $\kappa = 1$, and the sum is as accurate as its terms. If the signs
# differ, $\kappa$ can be arbitrarily large. We compute it for our image and compare it with the
# relative rounding error, about $6 \cdot 10^{-8}$ in float32 and $10^{-16}$ in float64.


# %%
def kappa(log_p):
    log_p = log_p.double()
    sets = [[*s, 10] for s in subsets(range(3))]
    alpha = [log_p[0, s].logsumexp(0).sum().exp() for s in sets]
    return sum(alpha).item() / float(exact(log_p))  # sum of |terms| / sum


# %% tags=["hide-input"]
for z in (-2.0, -7.0, -12.0, -17.0, -27.0):
    print(f"z = {z:5.0f}   kappa = {kappa(image(z)):.0e}")

# %% [markdown]
# At $z = -17$ the series loses six digits, nearly all that float32 has. But the likelihood itself
# is not sensitive to small errors of its input. Change every $\log p$ by at most $\delta$. The
# probability of a labelling is a product of $n$ factors, so it changes by a factor between
# $e^{-n\delta}$ and $e^{n\delta}$. The same is true of a sum of such probabilities:
#
# $$ |\Delta \log \mathrm{Prb}(L \mid P)| \le n \, \delta . $$
#
# It is the *formula* that loses digits: its leading term also contains the labellings that miss a
# label of the bag, and the other terms subtract their probability again. We need a formula that
# sums the allowed labellings alone.
#
# ### A walk over the positions
#
# Number the positions $1, \dots, n$ in any order. Let $f_j(S)$ be the probability that positions
# 1 to $j$ emit each label of $S$ at least once, and otherwise only background. Before the first
# position nothing has been emitted: $f_0(\emptyset) = 1$, and $f_0(S) = 0$ for all other $S$.
#
# The covered set after position $j$ is $S$ in two cases. Either it was $S$ before, and $j$ emits
# background or a label of $S$. Or exactly one label $\ell \in S$ was missing, and $j$ emits $\ell$.
# By **conditional independence** (Assumption 1 of Li) the emission at $j$ does not depend on the
# others, so the probabilities multiply:
#
# $$ f_j(S) = f_{j-1}(S) \Bigl( p_{\phi,j} + \sum_{\ell \in S} p_{\ell,j} \Bigr)
# + \sum_{\ell \in S} f_{j-1}(S \setminus \{\ell\}) \, p_{\ell,j} . \tag{2.1} $$
#
# At the end $\mathrm{Prb}(L \mid P) = f_n(L)$. The formula has no minus sign.
#
# In code a set of labels is a bit mask. Emitting $\ell$ turns $S$ into `S | 1 << l`, whether $\ell$
# is new or not. One position then gives a matrix whose entry $(S, S')$ is the probability that the
# covered set $S$ becomes $S'$, and the walk is a product of these matrices.


# %%
def transition(p):
    """Return Prb(S becomes S'), (2**L, 2**L), for one position p (L+1,)."""
    n_labels = len(p) - 1
    A = p.new_zeros(2**n_labels, 2**n_labels)
    for S in range(2**n_labels):
        A[S, S] += p[-1]
        for l in range(n_labels):
            A[S, S | 1 << l] += p[l]
    return A


# %%
def walk(log_p):
    f = torch.zeros(2 ** (len(log_p) - 1)).to(log_p).log()  # (2**L,): log f
    f[0] = 0.0
    for column in log_p.T:  # (L+1,)
        A = transition(column.exp()).log()  # (2**L, 2**L)
        f = (f[:, None] + A).logsumexp(0)  # (2**L,)
    return f[-1]


# %% [markdown]
# `walk` stores logarithms, because $f$ may underflow. We run it in float32 on the image with $z =
# -42$, where even the float64 series fails.

# %% tags=["hide-input"]
log_p = image(-42.0)
print(f"decimal          {exact(log_p).ln():.4f}")
print(f"walk, float32    {walk(log_p[0, OWN]):.4f}")
ours_32 = presence.recursion(log_p, labels)[0]
assert torch.allclose(walk(log_p[0, OWN]), ours_32, rtol=1e-6)
log_p = log_p.double()
assert torch.allclose(walk(log_p[0, OWN]), ours(log_p), rtol=1e-12)

# %% [markdown]
# ### The rounding error without subtractions
#
# Each $f_j(S)$ is a sum of products of non-negative numbers. Every product in (2.1) takes one
# multiplication and at most $L$ additions; the bracket takes at most $L$ more. Each of these
# operations has a relative rounding error of at most $\delta$. The relative error of $f_n(L)$ is
# then at most about $n (2L + 1) \, \delta$, *however weak the evidence*. In log space each stored
# logarithm is rounded as well, by $\delta$ times its size.
#
# The figure shows the error of $\log \mathrm{Prb}$, in nats (with natural logarithms), of the
# series (`literal`) in float32 and float64, the recursion in float32 and the package.

# %% tags=["hide-input"]
zs = torch.linspace(-2, -46, 45)
truth = [float(exact(image(z)).ln()) for z in zs]
ways = {
    "series, float32": lambda x: literal(x),
    "series, float64": lambda x: literal(x.double()),
    "recursion, float32": lambda x: presence.recursion(x, labels),
    "package": lambda x: presence.log_likelihood(x.double(), labels),
}

# %% tags=["hide-input"]
fig, axis = plt.subplots()
for name, way in ways.items():
    values = [way(image(z)).item() for z in zs]
    errors = [abs(v - t) for v, t in zip(values, truth, strict=True)]
    errors = [max(e, 1e-16) for e in errors]  # zero has no logarithm
    axis.plot(zs.exp(), errors, label=name, markevery=3)
axis.set(xscale="log", yscale="log", xlim=(1, 1e-20), ylim=(1e-17, 1e3))
axis.set_xlabel("probability of label 2 at each position")
axis.set_ylabel("error of log Prb / nats")
above = {"loc": "lower left", "bbox_to_anchor": (0, 1), "borderaxespad": 0}
axis.legend(ncols=2, **above)
show.figure(
    fig,
    alt="Error of the log-likelihood against the probability of the weak label,"
    " both axes logarithmic. The float32 series rises to errors above one nat"
    " near 1e-9, the float64 series near 1e-18. The float32 recursion stays"
    " below 1e-5 and the package below 1e-11 throughout.",
)

# %% [markdown]
# The two rising lines are those of the series. They flatten where $\kappa \delta$ reaches one and
# all digits are lost. The recursion and the package stay accurate.
#
# ### Cost, and related algorithms
#
# For each set $S$ and each position, the walk (2.1) multiplies once, and once more for each label
# of $S$. In all it needs $n (L 2^{L-1} + 2^L)$ multiplications, and the series needs $n 2^L$. A
# house number of SVHN has at most five labels: 112 multiplications per position for the walk, 32
# for the series.
#
# The walk is the forward algorithm of a hidden Markov model whose state is the covered set. Because
# the positions are independent, we may also walk over each half of the image. Let
# $f^{\text{left}}(A)$ and $f^{\text{right}}(B)$ be the probabilities that the halves cover exactly
# $A$ and $B$. The label set of the image is the *union* of the label sets of the halves, so
#
# $$ f_n(S) = \sum_{A \cup B = S} f^{\text{left}}(A) \, f^{\text{right}}(B) . $$
#
# We call this the *union product* of $f^{\text{left}}$ and $f^{\text{right}}$.
#
# ### A fast series with a certificate
#
# The walk needs $n$ steps one after the other. The series has no such order: one matrix product
# computes all $q_j(S)$ of a whole batch. We can use the series where it is accurate, because we can
# *detect* whether it has lost its digits. Divide the series by its leading term:
#
# $$ \begin{aligned}
# \log \mathrm{Prb}(L \mid P) &= \sum_{j} \log q_j(L) + \log T , \cr
# T &= \sum_{S \subseteq L} (-1)^{|L \setminus S|} \prod_{j} \frac{q_j(S)}{q_j(L)} .
# \end{aligned} \tag{2.2} $$
#
# The ratios lie between 0 and 1, and the leading term of $T$ is 1. A product that underflows is
# negligible beside this 1, so $T$ needs no logarithms. Each product has a relative error of about
# $n \delta$, so $T$ has an absolute error of about $n \delta \sum |\text{terms}|$. We choose a
# threshold $\tau$ and accept $T$ if $T > \tau \sum |\text{terms}|$, so if $\kappa \tau < 1$. The
# relative error of $T$ is then below $n \delta / \tau$. With $\tau = 10^{-4}$, float64 and a
# thousand positions this is below $10^{-8}$. For all other bags we compute (2.1). We try this on
# our image with $z = -2, -7, -12, -17$ and $-27$.


# %%
def members(L):
    """Return (2**L, L+1), true if the set contains the label (or phi)."""
    sets = subsets(range(L))
    return torch.tensor([[l in s for l in range(L)] + [True] for s in sets])


# %%
def quick(log_p, tau=1e-4):  # (B, L+1, n)
    """Return log Prb by (2.2) and whether to accept it, (B,) each."""
    keep = members(log_p.shape[1] - 1)  # (2**L, L+1)
    total = log_p.logsumexp(1, keepdim=True)  # (B, 1, n): log q(L)
    ratio = keep.to(log_p) @ (log_p - total).exp()  # (B, 2**L, n)
    products = ratio.prod(-1)  # (B, 2**L)
    series = products @ (-1.0) ** (~keep).sum(1).to(log_p)  # (B,): T
    return total.sum((1, 2)) + series.log(), series > tau * products.sum(1)


# %% tags=["hide-input"]
weak = torch.cat([image(z) for z in (-2.0, -7.0, -12.0, -17.0, -27.0)])
weak = weak.double()  # (5, 11, 64)
value, accepted = quick(weak[:, OWN])
truth = presence.recursion(weak, labels.expand(5, -1))  # (5,)
assert torch.allclose(value[accepted], truth[accepted], rtol=1e-9)
print("accepted:", accepted.tolist())

# %% [markdown]
# The last two images fail the test. `presence.log_likelihood` works like this and computes in
# float64, even if its input is float32. (For the bags that fail, it joins the walks over several
# parts of the image by union products.)
#
# ### The posterior
#
# Training needs the gradient, and by (0.3) the gradient needs the posterior $r_{\ell,j}$, the
# probability that position $j$ emits $\ell$ given the label set. A second walk, from the other end,
# provides it. Let $b_j(S)$ be the probability that the positions after $j$ complete the covered set
# $S$ to $L$ and emit nothing outside $L$. At the end $b_n(L) = 1$, and $b_n$ is 0 for all other
# sets. Going backwards, position $j$ emits nothing new or one of the missing labels:
#
# $$ b_{j-1}(S) = q_j(S) \, b_j(S) + \sum_{\ell \in L \setminus S} p_{\ell,j} \, b_j(S \cup \{\ell\}) . $$
#
# If position $j$ emits $\ell$, some set $S$ is covered before it, and the remaining positions must
# complete $S \cup \{\ell\}$. Therefore
#
# $$ r_{\ell,j} = \frac{p_{\ell,j}}{\mathrm{Prb}(L \mid P)} \sum_{S \subseteq L} f_{j-1}(S) \, b_j(S \cup \{\ell\})
# = \frac{\partial \log \mathrm{Prb}(L \mid P)}{\partial \log p_{\ell,j}} , \tag{2.3} $$
#
# for $\ell \in L$. For the background read $S \cup \{\phi\}$ as $S$; for all other classes $r = 0$.
#
# The second equality holds because a labelling assigns exactly one class to position $j$. So
# $\mathrm{Prb}$ is *linear* in the probabilities at position $j$, and $p_{\ell,j} \, \partial
# \mathrm{Prb} / \partial p_{\ell,j}$ is the probability of all labellings in which $j$ emits
# $\ell$.


# %%
p = image(-12.0)[0, OWN].double().exp()  # (4, 64)


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
    arrive = [b[1:, S | 1 << l] for l in range(len(p) - 1)]  # L of (n, 2**L)
    arrive.append(b[1:])  # the background adds no label
    r = torch.stack([(f[:-1] * a).sum(1) for a in arrive])  # (L+1, n)
    return p * r / f[-1, -1], f, b


# %% tags=["hide-input"]
r, f, b = forward_backward(p)
log_p = image(-12.0).double().requires_grad_()  # (1, 11, 64)
(slope,) = grad(presence.recursion(log_p, labels).sum(), log_p)
assert torch.allclose(r, slope[0, OWN], rtol=1e-9)
assert torch.allclose(r, presence.posterior(log_p, labels)[0, OWN], rtol=1e-9)
ones = torch.ones(64).double()
print("sums to one over the classes:", torch.allclose(r.sum(0), ones))
expected = [f"{v:.3f}" for v in r[:3].sum(1)]
print("expected number of positions for label 0, 1, 2:", expected)

# %% [markdown]
# Three facts follow.
#
# 1. With respect to the logits the gradient is $r - p$, by (0.3). Every entry lies between $-1$ and
#    $1$, however improbable the bag.
# 2. If $\ell$ is in the bag, at least one position emits it. **So the gradient mass $\sum_j
#    r_{\ell,j}$ is at least 1, even if the network does not see the label at all.**
# 3. Let $p_{\ell,j} \to 0$ at all positions, in fixed ratios. Then $r_{\ell,j}$ becomes proportional
#    to $p_{\ell,j}$ times the probability that the *other* positions emit exactly the other labels.
#    So if the evidence for $\ell$ is weak, its gradient mass is divided among the positions by the
#    ratios of the $p_{\ell,j}$ and of these probabilities. The size of the $p_{\ell,j}$ does not
#    matter.
#
# ### Bounds: too many labels
#
# A bag of 30 labels has $2^{30}$ subsets, too many for the series and the walk, but we can bound
# its likelihood in two ways. The first stops the series early: only 466 of the $2^{30}$ terms
# belong to sets from which at most two labels are missing. If we keep *all* sets from which at most
# $k$ labels are missing, the sum is a bound:
#
# $$ \sum_{i=0}^{k} (-1)^i \sum_{\substack{S \subseteq L \cr |L \setminus S| = i}} \alpha_{S,\phi}
# \;\; \begin{cases} \ge \mathrm{Prb}(L \mid P) & k \text{ even} \cr
# \le \mathrm{Prb}(L \mid P) & k \text{ odd.} \end{cases} \tag{2.4} $$
#
# These are Bonferroni's inequalities, and [chapter 1](01_presence_likelihood.ipynb) proves them. We
# look for violations at every $k$ in 300 random bags of six labels on nine positions.

# %% tags=["hide-input"]
strength = torch.rand(300, 1, 1, generator=generator) * 4  # (300, 1, 1)
bags = strength * torch.randn(300, 7, 9, generator=generator)
log_p = bags.double().log_softmax(1)  # (300, 7, 9)
all_six = torch.ones(300, 6, dtype=torch.bool)
truth = presence.recursion(log_p, all_six)  # (300,)

# %% tags=["hide-input"]
keep = members(6)  # (64, 7)
alpha = [presence.log_alpha(log_p, m.expand(300, 7)).exp() for m in keep]
alpha = torch.stack(alpha, 1)  # (300, 64)
missing = 7 - keep.sum(1)  # (64,)
signed = alpha * (-1.0) ** missing  # (300, 64)
partial = [signed[:, missing <= k].sum(1) for k in range(7)]
partial = torch.stack(partial, 1)  # (300, 7)
excess = (partial - truth.exp()[:, None]) / alpha[:, -1:]  # (300, 7)

# %% tags=["hide-input"]
side = excess * (-1.0) ** torch.arange(7)  # (300, 7): not negative by (2.4)
violations = int((side < -1e-12).sum())
print("violations in", side.numel(), "truncations:", violations)

# %% [markdown]
# `presence.bounds` evaluates all truncations up to a given $k$, its argument `order`, and returns
# the largest lower and the smallest upper bound on $\log \mathrm{Prb}$. Because a truncated series
# can cancel too, the function moves each bound outwards by the largest possible rounding error. For
# four orders we print whether all 300 likelihoods lie between their bounds, how many lower bounds
# are finite, and the median error of the upper bound.

# %% tags=["hide-input"]
value = presence.log_likelihood(log_p, all_six)  # (300,)
for k in (1, 2, 4, 6):
    lower, upper = presence.bounds(log_p, all_six, order=k)  # (300,) each
    inside = ((lower <= value) & (value <= upper)).all()
    finite, high = lower.isfinite().sum(), (upper - value).median()
    print(
        f"order {k}: inside {bool(inside)}, finite lower bounds {finite},",
        f"upper bounds {high:.3f} too high",
    )

# %% [markdown]
# Truncation still needs about $L^k / k!$ terms, which may cancel. The second way needs $L \cdot MN$
# steps. Condition on the event that only labels of $L$ and the background are emitted. Position $j$
# then emits $\ell$ with probability $\rho_{\ell,j} = p_{\ell,j} / q_j(L)$, still independently of
# the other positions. Label $\ell$ is missing with probability $s_\ell = \prod_j (1 -
# \rho_{\ell,j})$. The probability that no label is missing is the ratio in the middle of
#
# $$ \max \Bigl( 0, \; 1 - \sum_{\ell \in L} s_\ell \Bigr) \; \le \;
# \frac{\mathrm{Prb}(L \mid P)}{\alpha_{L,\phi}} \; \le \; \prod_{\ell \in L} (1 - s_\ell) . \tag{2.5} $$
#
#
# *Lower side.* By the union bound, the probability that some label is missing is at most the sum of
# all $s_\ell$.
#
# *Upper side.* Let an indicator be 1 if position $j$ emits label $\ell$, and 0 otherwise. At most
# one indicator of a position is 1. Such indicators are *negatively associated*, and so are those of
# several independent positions together (Joag-Dev and Proschan 1983). This means: if we split them
# into disjoint groups and take a non-negative, increasing function of each group, the mean of the
# product is at most the product of the means. Take one group for each label. "Label $\ell$ occurs"
# is such a function of its group, with mean $1 - s_\ell$. All labels together are therefore at most
# as probable as if they occurred independently.
#
# The function `sides` multiplies both sides by $\alpha_{L,\phi}$ and takes logarithms. We test it
# on the 300 bags above; the printed error is in nats.


# %%
def sides(own):  # (B, L+1, n)
    """Return log(alpha times each side of (2.5)), (2, B)."""
    total = own.logsumexp(1)  # (B, n)
    share = (own[:, :-1] - total[:, None]).exp()  # (B, L, n)
    s = (1 - share).prod(-1)  # (B, L)
    ratio = torch.stack([(1 - s.sum(1)).clamp_min(0), (1 - s).prod(1)])
    return total.sum(1) + ratio.log()


# %% tags=["hide-input"]
lower, upper = sides(log_p)  # (300,) each
packaged = torch.stack(presence.bracket(log_p, all_six))  # (2, 300)
assert torch.allclose(packaged, torch.stack((lower, upper)))
inside = ((lower <= truth + 1e-9) & (truth <= upper + 1e-9)).all()
far = (upper - truth).median()
print(f"(2.5) holds: {bool(inside)}, upper side too high by {far:.2f} (median)")

# %% [markdown]
# If every label is detected clearly somewhere, all $s_\ell$ are small and the two sides nearly
# meet. An example is a bag of 60 labels on 40 × 40 positions.

# %% tags=["hide-input"]
shape, float64 = (1, 61, 40, 40), torch.float64
logits = torch.randn(shape, generator=generator, dtype=float64)
logits[:, :-1] -= 8
for l in range(60):
    logits[0, l, l % 40, (7 * l + l // 40) % 40] = 9.0  # 60 different places
all_60 = torch.ones(1, 60, dtype=torch.bool)
lower, upper = presence.bracket(logits.log_softmax(1), all_60)
print(f"log Prb between {lower.item():.4f} and {upper.item():.4f}")

# %% [markdown]
# ## Code
#
# In practice you need two functions. Both take a batch, and `log_p` may have any number of position
# axes.

# %%
logits = torch.randn(3, 11, 8, 8, generator=generator)  # (B, C+1, M, N)
logits.requires_grad_()
sets = torch.zeros(3, 10, dtype=torch.bool)  # (B, C)
sets[0, [2, 7]] = sets[1, 4] = True  # the third bag is empty
log_p = logits.log_softmax(1)

# %%
loss = -presence.log_likelihood(log_p, sets).mean()
(slope,) = grad(loss, logits)  # (3, 11, 8, 8)
r = presence.posterior(log_p, sets)  # (3, 11, 8, 8)
assert torch.allclose(slope, (log_p.exp() - r) / 3, atol=1e-6)
largest = slope.abs().max()
print("largest entry of the gradient below 1/B:", bool(largest < 1 / 3))

# %% [markdown]
# We time value and gradient for 32 bags of one to five labels on 28 × 28 positions, the size of the
# paper's house numbers. The function `loop` calls `literal` once for each bag, as the authors' code
# does.

# %% tags=["hide-input"]
logits = torch.randn(32, 11, 28, 28, generator=generator).requires_grad_()
order = torch.rand(32, 10, generator=generator).argsort(1)
sets = order < 1 + torch.arange(32)[:, None] % 5  # (32, 10): one to five labels


def loop(log_p):
    bags = zip(log_p.flatten(2), sets, strict=True)
    return sum(literal(x[None], on.nonzero()[:, 0].tolist()) for x, on in bags)


# %% tags=["hide-input"]
def milliseconds(way):
    start = time.perf_counter()
    grad(way(logits.log_softmax(1)), logits)
    return 1e3 * (time.perf_counter() - start)


# %% tags=["hide-input", "nbval-ignore-output"]
def package(log_p):
    return presence.log_likelihood(log_p, sets).sum()


for way in (loop, package):
    best = min(milliseconds(way) for _ in range(20))
    print(f"{way.__name__} {best:.1f} ms")

# %% [markdown]
# ## Picture
#
# ### The covered set, and where the weak label is
#
# Forward times backward, $f_j(S) \, b_j(S) / \mathrm{Prb}(L \mid P)$, is the probability that the
# covered set after $j$ positions is $S$, given the label set of the bag. The left panel shows it
# for our image with $z = -12$. For the right panel we take $z = -22$ and raise the logit of label 2
# by 6 at position 22 only. It shows the prior $p_{2,j}$ and the posterior $r_{2,j}$ at all
# positions.

# %% tags=["hide-input"]
share = f * b / f[-1, -1]  # (65, 8)
lifted = image(-22.0).double()
lifted[0, 2, 22] += 6.0
lifted = lifted.log_softmax(1)
r = presence.posterior(lifted, labels)[0, 2]  # (64,)
prior = lifted[0, 2].exp()  # (64,)
print(f"position 22: prior {prior[22]:.0e}, posterior {r[22]:.2f}")

# %% tags=["hide-input"]
fig, (left, right) = plt.subplots(1, 2, figsize=(7.2, 3.2))
names = {0: "{}", 1: "{0}", 3: "{0, 1}"}
names |= {4: "{2}", 5: "{0, 2}", 7: "{0, 1, 2}"}
for S, name in names.items():
    style = {"color": show.COLOURS[S], "marker": show.MARKERS[S]}
    left.plot(share[:, S], label=name, markevery=8, **style)
left.set(xlabel="positions walked", ylim=(0, 1.05))
left.set_ylabel("probability, given the label set")
grey = {"ls": "none", "color": show.GREY, "marker": "x"}
hue = {"ls": "none", "color": show.COLOURS[2], "marker": "^"}
right.plot(prior, label="prior of label 2", **grey)
right.plot(r, label="posterior of label 2", **hue)
right.set(xlabel="position", yscale="log", ylim=(1e-13, 3))
right.set_ylabel("probability")
above = {"loc": "lower center", "bbox_to_anchor": (0.5, 1)}

# %% tags=["hide-input"]
left.legend(fontsize=8, ncols=3, columnspacing=1, **above)
right.legend(fontsize=8, ncols=2, columnspacing=1, **above)
show.figure(
    fig,
    alt="Left: probability of the covered set against positions walked. It"
    " moves from the empty set to sets with label 0 near position 10, to sets"
    " with label 1 near position 40, while the sets that contain label 2 gain"
    " steadily. Right: the prior of label 2 is 4e-8 at position 22, about 1e-12"
    " where labels 0 and 1 are seen, and about 1e-10 elsewhere. Its posterior"
    " is above one half at position 22 and below two percent elsewhere, least"
    " where labels 0 and 1 are seen.",
)

# %% [markdown]
# On the left, labels 0 and 1 join the covered set where they are detected; label 2 may join at any
# position. On the right the prior is below one in a million everywhere. Nevertheless the posterior
# is high at position 22: label 2 must be somewhere and is even less probable elsewhere.
#
# In the demo you can change the logits of a 2 × 2 image with two labels and compare the series with
# the recursion, both in float32.
#
# <div class="demo" data-demo="presence">This demo needs JavaScript. It lets you set the logits of a
# 2 by 2 image, and shows the allowed labellings, the terms of the series, and the posterior.</div>

# %% [markdown]
# ## When it breaks
#
# **More labels than positions.** No labelling is allowed, and the probability is 0. The series
# returns the logarithm of its rounding errors. The package returns $-\infty$ with gradient zero, so
# that one impossible bag does not spoil the gradients of its batch.

# %% tags=["hide-input"]
two = torch.randn(1, 11, 2, generator=generator, dtype=float64)
two = two.log_softmax(1).requires_grad_()  # three labels, two positions
value = presence.log_likelihood(two, labels)
(slope,) = grad(value.sum(), two)
print(
    f"series finite: {bool(literal(two).isfinite())},",
    f"package: {value.item()}, gradient {slope.abs().max().item()}",
)

# %% [markdown]
# **A wrong label.** Once $T$ has lost all its digits, $|T|$ has the size of a rounding error. The
# loss of the authors' routine then no longer grows, and the gradient mass of the label goes to 0
# with its evidence (last row of our table, float32). So the routine happens to ignore a label
# without any evidence. Under the exact likelihood a wrong label keeps a gradient mass of 1 or more.
# If your labels contain errors, put the errors into the model, as exercise 5 of [chapter
# 0](00_one_idea.ipynb) and the end of [chapter 3](03_presence_learning.ipynb) do.
#
# ## Reproduction
#
# The paper's networks learned in spite of the cancellation; for house numbers the authors' code
# uses float64. In [chapter 4](04_presence_reproduction.ipynb) all runs that train with this
# likelihood use `presence.log_likelihood`.
#
# ## Exercises
#
# **1, by hand.** Two positions, $L = \{0, 1\}$, with $p_{0,\cdot} = (0.6, 0.1)$, $p_{1,\cdot} =
# (0.1, 0.6)$, $p_{\phi,\cdot} = (0.3, 0.3)$. What are $f_1(\emptyset)$, $f_1(\{0\})$ and $f_2(L)$?
# Which of your numbers would change if $p_\phi$ were halved and nothing else changed? Replace these
# three numbers.


# %%
def two_steps():
    return 0.3, 0.6, 0.36  # f_1 of the empty set, f_1 of {0}, f_2 of L


check.attempt(check.two_steps, two_steps)

# %% [markdown]
# **2, code.** Write the walk for probabilities instead of logarithms. The input is `p (L+1, n)`,
# background last; return $\mathrm{Prb}(L \mid P)$. The version below lets each label appear only
# once.


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
# **3, code.** You have a log-likelihood but no forward-backward pass. Return the posterior
# `(B, C+1, *positions)` with one call of `grad`.


# %%
def posterior(log_p, labels):
    p = log_p.exp().requires_grad_()
    (slope,) = grad(presence.log_likelihood(p.log(), labels).sum(), p)
    return slope


check.attempt(check.posterior, posterior)

# %% [markdown]
# **4, code.** How many decimal digits will the series lose on a bag? The argument `terms (2**L,)`
# holds the terms of the series with their signs, the leading term first. Return $\log_{10} \kappa$.


# %%
def digits_lost(terms):
    return (terms.abs().max() / terms.sum()).log10()


check.attempt(check.digits_lost, digits_lost)

# %% [markdown]
# **5, by hand.** Show that both sides of (2.5) are exact for $L = 1$. For $L = 2$ and $s_1 + s_2
# \leq 1$, write the difference between the ratio and each side in terms of $s_1$, $s_2$ and the
# probability that both labels are missing. Why can the upper side be far off when $MN = L$?
#
# **6, change an assumption.** Suppose that we observe only "at least these labels"; other classes
# may occur too. Which term of (2.1) changes? What does the loss then demand of an image with no
# label?
#
# **7, explain to a colleague.** Your colleague converts everything to float64 and believes that
# the problem is solved. Explain, with $\kappa$ and without formulas, for which images it is not,
# and what such an image does to the weights.
#
# ## Further reading
#
# - [Pham, Raich and Fern (2014)](https://arxiv.org/abs/1411.4068), *Dynamic programming for
#   instance annotation in multi-instance multi-label learning*: the same recursion over label sets,
#   without a background, in an EM algorithm.
# - [Higham (2002)](https://doi.org/10.1137/1.9780898718027), *Accuracy and Stability of Numerical
#   Algorithms*: chapters 1 to 4, on cancellation and the error of sums.
# - [Joag-Dev and Proschan (1983)](https://doi.org/10.1214/aos/1176346079), *Negative association of
#   random variables, with applications*: the upper side of (2.5).
