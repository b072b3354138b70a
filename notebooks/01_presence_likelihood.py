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
# # Presence: the likelihood of a label set
#
# After this page you can derive, in three ways, the exact probability that a feature map shows a
# given set of classes and no other. You can also say what it costs, why nobody expects a much
# cheaper method for many labels, and which statements of the paper hold. You need [One
# idea](00_one_idea.ipynb) up to its Eq. (0.1), sets, and the binomial theorem. The page runs in ten
# seconds on one CPU core and needs no GPU.
#
# The paper is [Li (2018), *A multiclass multiple instance learning method with exact
# likelihood*](https://arxiv.org/abs/1811.12346), and we follow its order. "Paper (6)" means its
# equation 6. Equations with numbers like (1.2) are ours, and the package has a function for each of
# them.
#
# ## Problem
#
# A fully convolutional network looks at an image. At each position of a coarse grid it outputs
# probabilities for $C$ classes and for the background $\phi$. Of a street number we know only
# *which* digits occur: $\{1, 2, 4\}$ for an image that shows 2241. We do not know how often, where,
# or in which order. The paper calls this set the label of the image. To train the network with such
# labels, we need the probability of a label set.

# %%
from itertools import combinations, permutations, product
from math import comb

import matplotlib.pyplot as plt
import torch

from wsl_tutorial import check, presence, show, toy

show.style()

# %% [markdown]
# ## What is hidden
#
# The grid has $M \times N$ positions. We write $j$ for a position where the paper writes $(m, n)$.
# The network's output is the tensor $P$ with entries $p_{\ell, j}$: the probability of *emitting
# class $\ell$ at position $j$*, for $\ell = 1, \dots, C$ or $\ell = \phi$ (paper (1)). At each
# position they sum to one (paper (2)). In code `log_p` has shape `(B, C+1, M, N)`, the background
# comes last, and classes count from 0.
#
# The hidden label is the class $h_j$ emitted at each position. The label set $L$ is the
# observation: it contains the classes, other than $\phi$, that were emitted somewhere. Like the
# paper, we also write $L$ for the number of its members where this causes no confusion. Training
# maximises the mean of $\log \mathrm{Prb}(L \mid P)$ over the images (paper (3)).
#
# The example of this page has two classes and a grid of $2 \times 2$ positions.

# %%
p = torch.tensor(
    [
        [[0.7, 0.2], [0.1, 0.1]],  # class 0, likely at the top left
        [[0.1, 0.1], [0.2, 0.6]],  # class 1, likely at the bottom right
        [[0.2, 0.7], [0.7, 0.3]],  # background
    ],
    dtype=torch.float64,
)  # (3, 2, 2)
log_p = p.log()[None]  # (1, 3, 2, 2)


# %% tags=["hide-input"]
def random_p(k, n, seed):
    """Return a random P (k, n): k classes with phi, n positions."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(k, n, generator=generator, dtype=torch.float64)
    return logits.softmax(0)


assert torch.allclose(p.sum(0), torch.ones(2, 2, dtype=torch.float64))

# %% [markdown]
# ## Derivation
#
# ### One label on four positions, by counting
#
# To multiply the probabilities of positions we need the paper's **Assumption 1: given the image and
# the network, the emissions at different positions are independent.** The paper ensures it with a
# network without feedback from its outputs: what is emitted at one position cannot influence
# another position. A grid of classes $h$ then has probability $\prod_j p_{h_j, j}$. By (0.1) the
# probability of the label set is the sum over all grids that show exactly this set.
#
# Take $L = \{0\}$. Each position emits class 0 or $\phi$, never class 1, and at least one emits
# class 0. There are $2^4 = 16$ grids of 0 and $\phi$, and only the grid that is all $\phi$ is
# excluded. The paper writes out the remaining 15. The figure shows all 16 with their probabilities.

# %%
flat = p.flatten(1)  # (3, 4): class, position
grids = sorted(product([0, 2], repeat=4), key=lambda h: (h.count(0), h))
chance = [flat[list(h), range(4)].prod() for h in grids]
fifteen = sum(chance[1:])  # without the first, which is all phi
print(f"{len(grids) - 1} grids, Prb({{0}}) = {fifteen:.4f}")


# %% tags=["hide-input"]
def tile(axis, h, title, allowed):
    axis.set(xlim=(0, 2), ylim=(2, 0), xticks=[1], yticks=[1], aspect="equal")
    axis.tick_params(length=0, labelbottom=False, labelleft=False)
    axis.spines[:].set_visible(True)
    for j, c in enumerate(h):
        colour, size = (show.COLOURS[0], 90) if c == 0 else (show.GREY, 8)
        axis.scatter(j % 2 + 0.5, j // 2 + 0.5, size, color=colour, marker="o")
    if not allowed:
        cross = [0, 2, 1, 0, 2], [0, 2, 1, 2, 0]
        axis.plot(*cross, color=show.COLOURS[1], marker="", lw=1.5)
    axis.set_title(title, size=8)


# %% tags=["hide-input"]
fig, axes = plt.subplots(2, 8, figsize=(7.2, 2.3))
for axis, h, q in zip(axes.flat, grids, chance, strict=True):
    tile(axis, h, f"{100 * q:.1f} %", allowed=0 in h)
show.figure(
    fig,
    alt="Sixteen small grids of two by two positions, a large dot for class 0"
    " and a small one for background, with their probabilities in percent. The"
    " grid of background alone is crossed out; the other fifteen are the four"
    " with one large dot, six with two, four with three and one with four. One"
    " grid, with class 0 at the top left only, has by far the largest"
    " probability.",
)

# %% [markdown]
# The sum over grids has about $(L+1)^{MN}$ terms. Two labels on the $28 \times 28$ positions of the
# paper's house numbers give $3^{784}$ terms, which is out of reach. First try the demo. It has two
# classes, A and B, and two sliders per position, for the logits of A and B. The logit of the
# background is fixed at 0. Choose a label set. The demo lists the grids that show it, adds up their
# probabilities, and compares the sum with the terms of the formula that we derive next.
#
# <div class="demo" data-demo="presence">The web page shows a grid of two by two positions with sliders. It lists the grids that show the chosen label set, adds up their probabilities, and compares the sum with the terms of Eq. (1.2). Without JavaScript, change the numbers of p above and run the cells again.</div>
#
# We compare our sum with two others: the enumeration of chapter 0, which works for any observer,
# and the formula of the package.

# %%
one = torch.tensor([[True, False]])  # (1, 2): the label set {0}
by_enumeration = toy.log_marginal(
    flat.T.log(), lambda h: toy.presence(h, k=3), one[0]
)
assert torch.allclose(fifteen.log(), by_enumeration)
assert torch.allclose(fifteen.log(), presence.log_likelihood(log_p, one)[0])

# %% [markdown]
# ### Only these classes: $\alpha$
#
# "*Exactly* these classes" is hard because it is a condition on all positions together. "*Only*
# these classes" is easy, because each position satisfies it separately. For a set $S$ of classes,
# which may contain $\phi$, let $\alpha_S$ be the probability that every position emits a member of
# $S$. One position does so with probability $\sum_{\ell \in S} p_{\ell, j}$, and by **Assumption
# 1** the positions multiply:
#
# $$ \alpha_S = \prod_{j=1}^{MN} \; \sum_{\ell \in S} p_{\ell, j} . \tag{1.1} $$
#
# This is paper (4). Two values are immediate, paper (5): a single class gives
# $\alpha_{\{\ell\}} = \prod_j p_{\ell,j}$, and all $C + 1$ classes give 1.
#
# If we multiply out this product of sums, we get a sum of products, one for each grid over $S$. The
# distributive law replaces $|S|^{MN}$ terms by $MN$ multiplications. We check this on the 16 grids.


# %%
def alpha(p, S):
    """Return Eq. (1.1) for p (k, positions) and a collection S of rows."""
    return p[list(S)].sum(0).prod()


# %%
assert torch.allclose(alpha(flat, [0, 2]), sum(chance))
members = torch.tensor([[True, False, True]])  # (1, 3): class 0 and phi
by_package = presence.log_alpha(log_p, members)[0]
assert torch.allclose(alpha(flat, [0, 2]).log(), by_package)

# %% [markdown]
# ### From "only" to "exactly": Proposition 1
#
# From here on the sets $S$ and $T$ do not contain $\phi$; we write $\phi$ separately. Let
# $q(S) = \alpha_{S \cup \{\phi\}}$ be the probability of "only classes of $S$, and $\phi$". Let
# $f(T) = \mathrm{Prb}(T \mid P)$ be the probability of "the label set is exactly $T$". If only
# classes of $S$ are emitted, then the label set is one of the subsets of $S$. These events are
# disjoint, so
#
# $$ q(S) = \sum_{T \subseteq S} f(T) \qquad \text{for every } S . $$
#
# We know $q$ and want $f$. The subsets of $L$, ordered by inclusion, are a *lattice*, and solving
# this system is called *Möbius inversion* on the lattice. The solution is Proposition 1, paper (6):
#
# $$ \mathrm{Prb}(L \mid P) = \sum_{S \subseteq L} (-1)^{|L| - |S|} \, \alpha_{S \cup \{\phi\}} . \tag{1.2} $$
#
# *Proof.* Insert the system into the right side and exchange the sums:
#
# $$ \sum_{S \subseteq L} (-1)^{|L|-|S|} \sum_{T \subseteq S} f(T) = \sum_{T \subseteq L} f(T) \sum_{S \,:\, T \subseteq S \subseteq L} (-1)^{|L| - |S|} . $$
#
# Fix $T$, and let $d = |L| - |T|$ be the number of labels that are missing in $T$. To choose $S$,
# we choose which of these $d$ labels are still missing in $S$. If $i$ of them are, the sign is
# $(-1)^i$, and there are $\binom{d}{i}$ such choices. By the binomial theorem the inner sum is
#
# $$ \sum_{i=0}^{d} \binom{d}{i} (-1)^i = (1 - 1)^d , $$
#
# which is 1 for $d = 0$ and 0 for every $d \geq 1$. So every $T \neq L$ drops out, and $f(L)$
# remains. ∎
#
# Assumption 1 was used only to make $\alpha$ a product. The rest is counting.


# %%
def series(p, L):
    """Return Eq. (1.2) for p (C+1, positions) and a collection L of classes."""
    phi, n = len(p) - 1, len(L)
    sets = [S for size in range(n + 1) for S in combinations(L, size)]
    return sum((-1) ** (n - len(S)) * alpha(p, (*S, phi)) for S in sets)


# %%
both = torch.tensor([[True, True]])
for L, labels in (([0], one), ([0, 1], both)):
    value = series(flat, L).log()
    by_package = presence.alternating_series(log_p, labels)[0]
    assert torch.allclose(value, by_package)
    print(f"Prb({set(L)}) = {value.exp():.4f}")

# %% [markdown]
# The signs are those of *inclusion-exclusion*. Start with all grids that show only labels of $L$.
# Subtract the grids in which one label is missing. The grids in which two are missing were
# subtracted twice, so add them back once; and so on.
#
# The next figure shows this for three labels. The left panel is the lattice of the eight sets $S$,
# with the sign of each $\alpha$. The sets of one size form a *layer*. In the right panel each row
# is a kind of grid, given by the number $d$ of labels that it misses, and each column is a layer.
# The entry is the sum of the signs of those sets $S$ of the layer whose $\alpha$ counts such a
# grid.

# %% tags=["hide-input"]
EDGE = {True: {"ec": show.COLOURS[0]}, False: {"ec": show.COLOURS[1]}}


def card(axis, x, y, text, plus):
    box = {"boxstyle": "round", "fc": "white", "lw": 1.8} | EDGE[plus]
    axis.text(x, y, text, ha="center", va="center", bbox=box)


# %% tags=["hide-input"]
def lattice(axis, n=3):
    at = {}
    for size in range(n + 1):
        layer = list(combinations(range(n), size))
        at |= {S: (i - (len(layer) - 1) / 2, size) for i, S in enumerate(layer)}
    grey = {"color": "#c0c0c0", "marker": "", "lw": 1, "zorder": 0}
    for S, T in product(at, at):
        if len(T) == len(S) + 1 and set(S) < set(T):
            axis.plot(*zip(at[S], at[T], strict=True), **grey)
    for S, (x, y) in at.items():
        plus = (n - len(S)) % 2 == 0
        name = "{" + ", ".join(map(str, S)) + "}"
        card(axis, x, y, f"{'+' if plus else '−'} {name}", plus)
    axis.set(xlim=(-1.6, 1.6), ylim=(-0.5, 3.5), xticks=[], yticks=range(4))
    axis.set_ylabel("size of S")
    axis.grid(False)


# %% tags=["hide-input"]
fig, (left, right) = plt.subplots(
    1, 2, figsize=(7.2, 3.3), width_ratios=[1.2, 1]
)
lattice(left)
for d in range(4):
    for i in range(d + 1):
        card(right, i, d, f"{(-1) ** i * comb(d, i):+d}", i % 2 == 0)
    right.text(3.8, d, f"= {int(d == 0)}", ha="center", va="center")
right.set(xlim=(-0.5, 4.2), ylim=(3.5, -0.5), xlabel="size of S")
right.set(xticks=range(4), xticklabels=[3, 2, 1, 0], yticks=range(4))
right.set_ylabel("labels missing in the grid, d")
right.set_title("how often a grid is counted")
right.grid(False)
show.figure(
    fig,
    alt="Left: the lattice of the eight subsets of three labels; the full set"
    " has a plus, the three pairs a minus, the three single labels a plus, the"
    " empty set a minus. Right: a table with the rows +1; +1 −1; +1 −2 +1;"
    " +1 −3 +3 −1, which sum to 1, 0, 0, 0.",
)

# %% [markdown]
# The rows are Pascal's triangle with signs. The first row means that a grid that shows all three
# labels is counted once. Every other row sums to zero.
#
# ### The paper's derivation, with $\beta$
#
# The paper proves Proposition 1 with a second quantity. Let $S$ be a non-empty set of classes *in
# which $\phi$ may be a member like any other*. Let $\beta_S$ be the probability that *each* class
# of $S$ is emitted and no other. If only classes of $S$ are emitted, then the emitted classes form
# exactly one non-empty subset of $S$. So $\alpha_S$ is the sum of $\beta_T$ over these subsets,
# and we get $\beta_S$ by subtracting the smaller ones. The label set is $L$ if the emitted classes
# are $L$, or $L$ and $\phi$:
#
# $$ \begin{aligned}
# \beta_S &= \alpha_S - \sum_{\emptyset \neq T \subsetneq S} \beta_T , \cr
# \mathrm{Prb}(L \mid P) &= \beta_{L} + \beta_{L \cup \{\phi\}} \qquad (\text{only } \beta_{\{\phi\}} \text{ if } L = \emptyset) .
# \end{aligned} \tag{1.3} $$
#
# The first line is paper (9) for one class and paper (10) for more. Paper (11) is another form of
# the second line for $L \neq \emptyset$. Split $\alpha_{L \cup \{\phi\}}$ into the $\beta$ of all
# non-empty subsets of $L \cup \{\phi\}$, sort these by whether they contain $\phi$, and solve for
# the two that belong to $L$ itself:
#
# $$ \mathrm{Prb}(L \mid P) = \alpha_{L \cup \{\phi\}} - \beta_{\{\phi\}} - \sum_{\emptyset \neq T \subsetneq L} \bigl( \beta_T + \beta_{T \cup \{\phi\}} \bigr) . $$


# %%
def beta(p, S):
    """Return the first line of Eq. (1.3) for a tuple S of rows."""
    smaller = [T for size in range(1, len(S)) for T in combinations(S, size)]
    return alpha(p, S) - sum(beta(p, T) for T in smaller)


# %%
value = beta(flat, (0, 1)) + beta(flat, (0, 1, 2))
paper_11 = (
    alpha(flat, (0, 1, 2))
    - beta(flat, (2,))
    - sum(beta(flat, T) for T in [(0,), (0, 2), (1,), (1, 2)])
)
assert torch.allclose(value, paper_11)
assert torch.allclose(value.log(), presence.beta_recursion(log_p, both)[0])
assert torch.allclose(value, series(flat, [0, 1]))

# %% [markdown]
# ### A complete proof of Appendix A
#
# The appendix replaces the $\beta$ in paper (11) by $\alpha$ again and again, and reads off the
# coefficients. It shows the first two rounds and the final coefficients. Two questions stay open:
# why no $\alpha_S$ *without* $\phi$ survives, and why the coefficients stay right through all
# rounds. One induction answers both.
#
# Look at the brackets of paper (11). By (1.3),
# $\beta_T + \beta_{T \cup \{\phi\}} = \mathrm{Prb}(T)$, and
# $\beta_{\{\phi\}} = \mathrm{Prb}(\emptyset)$. The $\beta$ without $\phi$ appear only inside these
# brackets, so paper (11) becomes
#
# $$ \mathrm{Prb}(L) = \alpha_{L \cup \{\phi\}} - \sum_{T \subsetneq L} \mathrm{Prb}(T) . $$
#
# *Claim:* $\mathrm{Prb}(L) = \sum_{S \subseteq L} c_{L,S} \, \alpha_{S \cup \{\phi\}}$ with
# $c_{L,S} = (-1)^{|L|-|S|}$. *Induction on $|L|$.* For $L = \emptyset$ we have
# $\mathrm{Prb}(\emptyset) = \beta_{\{\phi\}} = \alpha_{\{\phi\}}$, so $c = 1$. Let the claim hold
# for all smaller sets, and insert it for each $\mathrm{Prb}(T)$ above. The right side then has only
# sets with $\phi$, which answers the first question. The coefficient of $\alpha_{L \cup \{\phi\}}$
# is 1. For $S \subsetneq L$ with $d = |L| - |S| \geq 1$, collect the contributions of all $T$
# between $S$ and $L$; there are $\binom{d}{i}$ of them with $|T| - |S| = i$, and $i = d$ is
# excluded because $T \neq L$:
#
# $$ c_{L,S} = - \sum_{i=0}^{d-1} \binom{d}{i} (-1)^{i} = - \bigl[ (1-1)^d - (-1)^d \bigr] = (-1)^d . $$
#
# This is the claim. For $S = \emptyset$ and $d = L$ it is the sum printed in the appendix,
# $-1 + \binom{L}{1} - \binom{L}{2} + \dots$, which equals $(-1)^L - [1 + (-1)]^L$. ∎
#
# The appendix contains a misprint. In its first round, paper (15), the last sum of $\beta$ terms
# runs over the sets $T$ with two labels missing. It prints only $\beta_{T \cup \{\phi\}}$, but
# $\beta_T$ belongs there too. We compare both versions with Proposition 1 for four labels.

# %% tags=["hide-input"]
four = random_p(6, 5, seed=0)  # four labels, one more, phi; five positions
L, phi = (0, 1, 2, 3), 5


def round_one(corrected):
    value = alpha(four, (*L, phi)) + 3 * beta(four, (phi,))
    value += 2 * sum(beta(four, (i,)) + beta(four, (i, phi)) for i in L)
    for T in combinations(L, 2):
        value += beta(four, (*T, phi)) + corrected * beta(four, T)
    return value - sum(alpha(four, (*T, phi)) for T in combinations(L, 3))


# %% tags=["hide-input"]
for text, yes in (("corrected", 1), ("as printed", 0)):
    gap = round_one(yes) - series(four, L)
    print(f"paper (15) {text:10} minus Proposition 1: {gap:8.1e}")

# %% [markdown]
# ### A third view: a polynomial
#
# Give every label of $L$ a variable $s_\ell$ and define
#
# $$ F(s) = \prod_{j} \Bigl( p_{\phi,j} + \sum_{\ell \in L} s_\ell \, p_{\ell,j} \Bigr) . $$
#
# If $s_\ell$ is 1 for $\ell \in S$ and 0 otherwise, then $F$ is $\alpha_{S \cup \{\phi\}}$. So
# (1.2) is a signed sum of $F$ over the corners of a cube. For a single monomial
# $\prod_\ell s_\ell^{a_\ell}$ of $F$, the signed sum factorises,
#
# $$ \sum_{s \in \{0,1\}^L} (-1)^{L - \sum s_\ell} \prod_\ell s_\ell^{a_\ell} = \prod_{\ell} \bigl( 1^{a_\ell} - 0^{a_\ell} \bigr) = \begin{cases} 1 & \text{if all } a_\ell \geq 1 , \cr 0 & \text{otherwise,} \end{cases} $$
#
# because $0^0 = 1$. **Proposition 1 keeps exactly the monomials that contain every label.** The
# exponent $a_\ell$ counts the positions that emit $\ell$, so these are the grids we want. Two facts
# follow without calculation.
#
# *Too many labels.* $F$ has degree $MN$. If $L > MN$, no monomial contains all labels, and (1.2)
# gives 0, as it should, because one position emits one class. The paper shows this for two labels
# on one position.
#
# *As many labels as positions.* If $L = MN$, every surviving monomial has all $a_\ell = 1$: each
# position emits a different label. The value is $\sum_\pi \prod_j p_{\pi(j), j}$ over all
# permutations $\pi$. This is the *permanent* of the $L \times L$ matrix of the $p_{\ell,j}$, and
# (1.2) is Ryser's formula (1963) for it. No position is left for the background, so $p_\phi$ cannot
# matter, although it appears in every factor. We may replace it by any number, even a negative one.

# %% tags=["hide-input"]
filled = random_p(5, 4, seed=1)  # four labels and phi on four positions
square = filled[:4]  # (4, 4)
permanent = sum(
    square[list(pi), range(4)].prod() for pi in permutations(range(4))
)
for background in (0.0, 0.1, 7.3, -2.0):
    with_phi = torch.cat([square, torch.full((1, 4), background)])  # (5, 4)
    value = series(with_phi, range(4))
    print(
        f"p_phi = {background:4}: series {value:.6f}, permanent {permanent:.6f}"
    )
all_four = torch.ones(1, 4, dtype=torch.bool)
whole = presence.log_likelihood(filled.log()[None], all_four)
assert torch.allclose(whole.exp(), permanent)

# %% [markdown]
# ### The cases that the paper lists
#
# - *No label*: $\mathrm{Prb}(\emptyset) = \alpha_{\{\phi\}} = \prod_j p_{\phi,j}$. Every position
#   is background.
# - *One label*, paper (7): $\mathrm{Prb}(\{\ell\}) = \alpha_{\{\ell,\phi\}} - \alpha_{\{\phi\}}$.
#   Factor out the first term, and write $\rho_j = p_{\ell,j} / (p_{\ell,j} + p_{\phi,j})$ for the
#   probability of $\ell$ at a position that emits $\ell$ or $\phi$:
#
# $$ \mathrm{Prb}(\{\ell\}) = \alpha_{\{\ell,\phi\}} \Bigl( 1 - \prod_j (1 - \rho_j) \Bigr) . $$
#
# The bracket is the *noisy-OR* of multiple-instance learning. The factor in front is the
# probability that no other class appears. With one class, $C = 1$, the factor is 1 and $\rho_j =
# p_{1,j}$, so we have noisy-OR itself.
# - *Two labels*, paper (8):
#   $\alpha_{\{1,2,\phi\}} - \alpha_{\{1,\phi\}} - \alpha_{\{2,\phi\}} + \alpha_{\{\phi\}}$.
# - *One position and one label*, paper (12): $(p_\ell + p_\phi) - p_\phi = p_\ell$. The loss
#   $-\log p_\ell$ is the cross-entropy of ordinary classification.
# - *One position and two labels*: zero, by the polynomial.

# %%
column = torch.tensor([[0.5], [0.3], [0.2]], dtype=torch.float64)  # (3, 1)
for L in ([0], [0, 1]):
    print(f"one position: Prb({set(L)}) = {series(column, L):.4f}")

# %%
rho = flat[0] / (flat[0] + flat[2])  # (4,)
noisy_or = alpha(flat, [0, 2]) * (1 - (1 - rho).prod())
assert torch.allclose(noisy_or, fifteen)
none = torch.tensor([[False, False]])
assert torch.allclose(
    presence.log_likelihood(log_p, none).exp(), flat[2].prod()
)

# %% [markdown]
# ## Code
#
# ### What it costs
#
# (1.2) has $2^L$ terms, each a product over $MN$ positions. If we compute each factor from
# the factor of a smaller set, with one addition, the cost is $O(2^L \, MN)$, as the paper states. A
# house number with five different digits has 32 terms. For (1.3) the paper states the same cost.
# This is right for the $\alpha$. The number of subtractions grows faster with $L$: there is one for
# each pair $T \subsetneq S$ of subsets of $L \cup \{\phi\}$. There are about $3^{L+1}$ pairs,
# because each class is in $T$, in $S$ only, or in neither.
#
# Möbius inversion needs far fewer subtractions if we go label by label. We keep one number for each
# set of classes, at first $q(S)$. For each class in turn, and for every set that contains it, we
# subtract the number of the same set without this class. After this step, "this class may appear"
# has become "this class must appear". After all $C$ classes, the number of each set is its
# probability. So we get $\mathrm{Prb}$ **for all label sets at once**, with $C \, 2^{C-1}$
# subtractions.


# %%
def all_label_sets(p):
    """Return Prb of every set (2**C,); bit c of the index is class c."""
    C = len(p) - 1
    sums = p[-1:]  # (1, positions), grows to (2**C, positions)
    for c in range(C):
        sums = torch.cat([sums, sums + p[c]])
    f = sums.prod(1)  # (2**C,): q of every set
    for c in range(C):
        without, having = f.reshape(-1, 2, 2**c).unbind(1)
        f = torch.stack([without, having - without], 1).flatten()
    return f


# %%
digits = random_p(11, 9, seed=2)  # ten digits and phi, nine positions
f = all_label_sets(digits)  # (1024,)
odd = torch.tensor([[c in (1, 3, 7) for c in range(10)]])
print(f"{len(f)} label sets, total {f.sum():.6f},", end=" ")
print(f"most probable: Prb = {f.max():.4f}")
by_package = presence.log_likelihood(digits.log()[None], odd).exp()
assert torch.allclose(f[2**1 + 2**3 + 2**7], by_package)

# %% [markdown]
# One pass gives all 1024 probabilities of ten digits, and they sum to one: Proposition 1 defines a
# distribution over label sets.
#
# ### Why the cost can hardly be smaller
#
# Could a better formula avoid the $2^L$? Probably not. For $L = MN$ the likelihood *is* a
# permanent, and [Valiant (1979)](https://doi.org/10.1016/0304-3975%2879%2990044-6) proved that
# computing permanents, even of matrices of zeros and ones, is *#P-hard*: at least as hard as
# counting the solutions of any problem in NP. An exact method that is polynomial in both $L$ and
# $MN$ would solve all these problems in polynomial time, which nobody expects. Ryser's $2^L$ is
# close to the best known. For fixed $L$ the cost is linear in $MN$, also with the method of
# [chapter 2](02_presence_numerics.ipynb).
#
# ## Picture
#
# The paper states of (6) that "generally, its truncated version gives neither an upper bound nor a
# lower bound". This depends on the order in which we add the terms. The figure shows partial sums
# for two bags of six labels. On the left they start with the full set, on the right with $\phi$
# alone, and they add one layer after another.


# %% tags=["hide-input"]
def layers(p):
    """Return the terms of Eq. (1.2) for six labels, by size of S: (7,)."""
    terms = []
    for size in range(7):
        alphas = [alpha(p, (*S, 6)) for S in combinations(range(6), size)]
        terms.append((-1) ** (6 - size) * sum(alphas))
    return torch.stack(terms)


# %% tags=["hide-input"]
bags = [random_p(7, 8, seed) for seed in (0, 1)]  # two of (7, 8)
for bag in bags:
    assert torch.allclose(layers(bag).sum(), series(bag, range(6)))

# %% tags=["hide-input"]
fig, axes = plt.subplots(1, 2, figsize=(7.0, 2.9), sharey=True)
for k, bag in enumerate(bags):
    terms = layers(bag) / layers(bag).sum()  # (7,)
    for axis, order in zip(axes, (terms.flip(0), terms), strict=True):
        axis.plot(range(1, 8), order.cumsum(0), label=f"bag {k + 1}", lw=1)
ticks = [-100, -10, -1, 0, 1, 10, 100]
for axis, title in zip(
    axes, ("from the full set", "from φ alone"), strict=True
):
    axis.axhline(1, color=show.GREY, ls="--", marker="")
    axis.set(title=title, xlabel="layers added", xticks=range(1, 8))
    axis.set_yscale("symlog", linthresh=2)
    axis.set(yticks=ticks, yticklabels=ticks)
axes[0].set_ylabel("partial sum / exact value")
axes[0].legend()
show.figure(
    fig,
    alt="Partial sums over the exact value against the number of layers added,"
    " two bags. From the full set both lie above and below one in turn, closer"
    " and closer after two layers. From the background alone they swing with"
    " growing size up to layer five; after three layers one bag is above one"
    " and the other below.",
)

# %% [markdown]
# From $\phi$ alone the sums are not bounds: after three layers they are above the exact value for
# one bag and below it for the other. Here the paper is right. It is also right if the sum stops
# inside a layer. For example, subtract from the full set only the terms without label 1 and without
# label 2: a grid that misses label 3 is still counted once, and one that misses 1 and 2 is counted
# $-1$ times. But from the full set, layer by layer, the sums of both bags are above, below, above,
# and so on. To prove that this always holds, stop after the layer with $k$ labels missing. A grid
# that misses $d \geq 1$ labels should be counted zero times. So far it has been counted
# $\sum_{i=0}^{k} (-1)^i \binom{d}{i} = (-1)^k \binom{d-1}{k}$ times; the identity follows from
# $\binom{d}{i} = \binom{d-1}{i} + \binom{d-1}{i-1}$, by which neighbouring terms cancel. Therefore
#
# $$ \begin{aligned}
# (\text{sum up to layer } k) - \mathrm{Prb}(L)
# &= (-1)^k \sum_{T \subsetneq L} \binom{d_T - 1}{k} \, \mathrm{Prb}(T) , \cr
# d_T &= |L| - |T| ,
# \end{aligned} $$
#
# where all terms of the sum are non-negative. The partial sum is an upper bound for even $k$ and a
# lower bound for odd $k$. These are *Bonferroni's inequalities*, Eq. (2.4) of chapter 2, with the
# function `presence.bounds`. We print the best bounds for bag 1 from the layers with up to $k$
# labels missing, divided by the exact value. The lower bound is 0 until a partial sum for odd $k$
# is positive.

# %% tags=["hide-input"]
six = torch.ones(1, 6, dtype=torch.bool)
exact = series(bags[0], range(6))
for k in range(4):
    low, high = presence.bounds(bags[0].log()[None], six, order=k)
    low, high = (low.exp() / exact).item(), (high.exp() / exact).item()
    print(f"k = {k}:  {low:5.3f} <= 1 <= {high:6.3f}")

# %% [markdown]
# ## When it breaks
#
# **Cancellation.** (1.2) subtracts numbers that may agree in all their digits. This happens when a
# label is very improbable at every position, or when a few positions must show many labels. We take
# 64 positions and three labels. Two labels are almost certain, with probability 0.97 at four
# positions each; the third has the same small probability $p_3$ at all 64. The figure shows the
# computed value of the series, in two precisions, divided by the exact value. It also shows a
# recursion that never subtracts, Eq. (2.1) of the next chapter, in single precision.


# %% tags=["hide-input"]
def weak_bag(p3):
    p = torch.full((4, 64), 1e-6, dtype=torch.float64)
    p[0, :4], p[1, 4:8], p[2] = 0.97, 0.97, p3
    p[3] = 1 - p[:3].sum(0)
    return p  # (4, 64)


# %% tags=["hide-input"]
three = torch.ones(1, 3, dtype=torch.bool)
weak = [10.0**-e for e in torch.arange(3, 16.5, 0.5).tolist()]
ratios = []
for bag in map(weak_bag, weak):
    log_bag = bag.log()[None]  # (1, 4, 64)
    exact = presence.log_likelihood(log_bag, three).exp()[0]
    single = series(bag.float(), range(3))
    double = series(bag, range(3))
    walk = presence.recursion(log_bag.float(), three)[0].exp()
    ratios.append(torch.stack([single, double, walk]) / exact)  # (3,)

# %% tags=["hide-input"]
fig, axis = plt.subplots(figsize=(6.0, 2.8))
names = "series, float32", "series, float64", "recursion, float32"
for name, values in zip(names, torch.stack(ratios, 1), strict=True):
    axis.plot(weak, values, label=name, lw=1)
axis.set_xlabel("probability $p_3$ of the weak label at each position")
axis.set_ylabel("computed Prb / exact Prb")
axis.set(xscale="log", ylim=(-0.15, 1.6))
axis.invert_xaxis()
axis.legend(loc="lower left", bbox_to_anchor=(0.42, 0.12))
show.figure(
    fig,
    alt="The computed over the exact probability against the probability of the"
    " weak label, which falls to the right. The float32 series leaves one and"
    " is zero from about ten to the minus eight on; the float64 series leaves"
    " one at about ten to the minus fourteen; the float32 recursion stays at"
    " one.",
)

# %% [markdown]
# Where the ratio is zero, $\log 0$ ends the training. With other numbers the series can even become
# negative. The authors' code takes the absolute value and adds $10^{-16}$. This keeps the loss
# finite, but where the computed sum is negative, the gradient has the wrong sign. Section 3.3 of
# the paper proposes logarithms against *underflow*; they do not help against *cancellation*.
# Chapter 2 measures the problem and solves it.
#
# **Assumption 1.** A digit covers several neighbouring positions. They see nearly the same pixels,
# so they are right or wrong together, but the product treats them as independent evidence. Suppose
# that the network gives a digit probability one half at each position it covers, and that the
# positions always agree. Then the true probability is one half. We compare it with (1.2).

# %% tags=["hide-input"]
for covered in (1, 2, 4, 8):
    half = torch.full((2, covered), 0.5, dtype=torch.float64)  # one class, phi
    print(
        f"agreeing positions: {covered}, truth: 0.500,",
        f"Eq. (1.2): {series(half, [0]):.3f}",
    )

# %% [markdown]
# The more positions agree, the higher the value of the formula, without any new evidence. So use
# $\mathrm{Prb}(L \mid P)$ as a training loss that works, not as a calibrated probability.
#
# **Labels without information.** If every class is in every image, $L$ is known beforehand.
# [Chapter 0](00_one_idea.ipynb) shows what happens then.
#
# ### Earlier work
#
# Section 4.2 of the paper states: "To our best knowledge, we are the first to derive the exact
# model likelihood for multiclass MIL under rather general settings." The closed form (1.2) for
# feature maps of a convolutional network is the paper's own. The model is older. [Pham, Raich and
# Fern (2014)](https://arxiv.org/abs/1411.4068) study bags whose label set is the union of their
# instances' labels. They maximise the likelihood by EM and compute the exact posteriors by dynamic
# programming over label sets, in time linear in the bag size. Their model has no background: the
# recursion gives (1.2) for $p_\phi = 0$, without subtractions. [In
# 2015](https://gtas.unican.es/pub/443.htm) they added a class like $\phi$. For one class (1.2) is
# noisy-OR, which multiple-instance learning has used since
# [Maron and Lozano-Pérez
# (1998)](https://papers.nips.cc/paper/1346-a-framework-for-multiple-instance-learning).
#
# ## Reproduction
#
# [Chapter 4](04_presence_reproduction.ipynb) reproduces the numbers of the paper. The page [Errata
# and remarks](../book/errata.md) collects the errors that we found in its text.
#
# ## Exercises
#
# **1, by hand.** One row of two positions, one label: list the grids, add their probabilities, and
# show that the sum is paper (7). Then take two labels on the same two positions, and check paper
# (8) and the permanent.
#
# **2, code.** Write $\log \mathrm{Prb}(\{\ell\})$ for a batch, from `log_p` of shape
# `(B, C+1, M, N)` and a class number, in log space throughout. The function below is a first
# attempt.


# %%
def one_label(log_p, label):
    return log_p[:, label].flatten(1).sum(1)


check.attempt(check.one_label, one_label)

# %% [markdown]
# **3, by hand and code.** How many grids of $n$ positions show exactly $L$ given labels? For
# $L = 1$ and $n = 4$ there are 15. What must you insert for the $p$ in (1.2)?


# %%
def count_labellings(L, n):
    return (L + 1) ** n


check.attempt(check.count_labellings, count_labellings)

# %% [markdown]
# **4, change the observer.** A lazy annotator names some classes that occur, but perhaps not all of
# them. Derive the probability that *at least* the classes of $L$ occur, by inclusion-exclusion over
# "label $\ell$ is missing". Write it for `log_p` `(B, C+1, M, N)` and `labels` `(B, C)`, as a
# logarithm.


# %%
def at_least(log_p, labels):
    return presence.log_likelihood(log_p, labels)


check.attempt(check.at_least, at_least)

# %% [markdown]
# **5, change an assumption.** Replace the softmax at each position by $C$ independent sigmoids, so
# that a position may emit several classes at once. Show that $\mathrm{Prb}(L)$ becomes a product
# over the classes, with cost $O(C \, MN)$ and no $2^L$. Under the softmax, how does one class
# influence the others at the same position, and why not here? Which of the two models lets one
# position explain *two* labels of the set?
#
# **6, explain to a colleague.** Your colleague has found a paper with an exact likelihood for label
# sets "in polynomial time", whatever the number of labels. Explain in a few sentences, using the
# word permanent, which restriction or changed assumption to look for.
#
# ## Further reading
#
# - [Li (2018)](https://arxiv.org/abs/1811.12346), sections 2 and 3 and Appendix A: the source of
#   this chapter.
# - [Pham, Raich and Fern (2014)](https://arxiv.org/abs/1411.4068), *Dynamic programming for
#   instance annotation in multi-instance multi-label learning*: the recursion of chapter 2.
# - [Björklund, Husfeldt, Kaski and Koivisto (2007)](https://arxiv.org/abs/cs/0611101), *Fourier
#   meets Möbius: fast subset convolution*: the transform of this page and its other uses.
# - [Valiant (1979)](https://doi.org/10.1016/0304-3975%2879%2990044-6), *The complexity of computing
#   the permanent*: why we cannot expect to avoid the $2^L$.
