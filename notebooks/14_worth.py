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
# # What is a weak label worth?
#
# After this page you can compute how many bits a label carries, what it costs to make, and how much
# a network learns from it. You need the likelihoods of [chapter 1](01_presence_likelihood.ipynb)
# and [chapter 5](05_counts_likelihood.ipynb), and the lifting of [chapter
# 8](08_patches_lifting.ipynb). The page runs in under a minute on one CPU core; the large
# comparison comes from records.
#
# ## Problem
#
# You have a budget for labels and can choose which kind to buy. Most papers on weak supervision
# compare methods *on the same labels*. Here only the labels differ.
#
# ## What is hidden
#
# A canvas contains $K$ digits, where $K$ is 0, 1, 2 or 3 with equal probability. The network of
# [chapter 3](03_presence_learning.ipynb) looks at the canvas through windows two pixels apart.
# Each window is a *cell*, and each digit lies at the centre of a cell. Two cells keep the least
# distance if their rows or their columns differ by at least 4 (5 in the records below). **Assume
# that all choices of $K$ cells that keep this distance from each other are equally probable, and
# that each digit has any of $C = 10$ classes with equal probability, independently.** The hidden
# variables are the classes of all cells. Most cells are empty; their class is the background
# $\phi$ of chapter 1. The canvases also contain pieces of digits, so ink alone does not show where
# a digit is.

# %%
import math

import matplotlib.pyplot as plt
import torch

from wsl_tutorial import check, counts, presence, show, train, worth
from wsl_tutorial.data import digits, lattice
from wsl_tutorial.reproduce import ledger, records, tables
from wsl_tutorial.reproduce.evidence import ahead
from wsl_tutorial.reproduce.experiment import changed
from wsl_tutorial.reproduce.worth import PAPER, data, experiments, methods
from wsl_tutorial.reproduce.worth.settings import SMOKE, Settings

show.style()

# %%
# range of K; cells per side; least distance in cells
K, CELLS, APART = (0, 3), 10, 4
g = torch.Generator().manual_seed(0)
made = lattice.canvases(*digits.load(), 6, 32, g, k=K, apart=APART, clutter=2)
for name, x in made.items():
    print(f"{name}: {tuple(x.shape)}")

# %% [markdown]
# Six observers label a canvas. Each label is a function of the hidden classes:
#
# | observer | label | chapter |
# |---|---|---|
# | *class* | the largest digit, or "none" | regions, 11 to 13 |
# | *presence* | the set of digits that occur | 1 to 4 |
# | *counts* | how many of each digit | 5 to 7 |
# | *patches* | the same as *counts*, for a different learner | 8 to 10 |
# | *places* | the cells with a digit, but not which digit | none; for comparison |
# | *full* | the cells, and the digit on each | none; full supervision |
#
# *Patches* and *counts* have the same labels, since $K$ is the sum of the counts. But *counts* sums
# over all possible places, and *patches* selects $K$ places and moves them. So this pair compares
# two *methods*. The figure shows six canvases, with circles around the digits, and the table the
# labels of the first three. The number -1 means "none"; cells are numbered row by row, from 0.


# %% tags=["hide-input"]
def labels_of(i):
    """Return the six labels of canvas i."""
    there = made["classes"][i] >= 0
    row, column = made["cells"][i][there].unbind(-1)
    classes = made["classes"][i][there].tolist()
    cells = (row * CELLS + column).tolist()
    return [worth.observe(o, classes, cells) for o in worth.OBSERVERS]


# %% tags=["hide-input"]
fig, axes = plt.subplots(1, 6, figsize=(7.2, 1.45))
for i, axis in enumerate(axes):
    axis.imshow(made["images"][i, 0], cmap="gray", vmin=0, vmax=1)
    at = lattice.centres(made["cells"][i][made["classes"][i] >= 0])
    axis.plot(*at.T, "o", mfc="none", mec=show.COLOURS[1], ms=16)
    axis.set(xticks=[], yticks=[], title=f"canvas {i}")
    axis.grid(False)
show.figure(
    fig,
    alt="Six canvases with handwritten digits on black, among pieces of other"
    " digits. Circles mark the digits; the pieces have none.",
)

# %% tags=["hide-input"]
labels = [labels_of(i) for i in range(3)]
rows = [
    (o, *map(str, seen))
    for o, *seen in zip(worth.OBSERVERS, *labels, strict=True)
]
head = ("observer", *(f"canvas {i}" for i in range(3)))
show.Markdown(tables.grid(head, rows))

# %% [markdown]
# ## Derivation
#
# ### The bits of a label
#
# Let $o$ be the label and $P(o)$ its probability. Then observing $o$ carries $-\log_2 P(o)$ bits.
# The mean over labels is the *entropy*
#
# $$ H(o) = - \sum_o P(o) \log_2 P(o) . \tag{14.1} $$
#
# Let $h$ be the hidden classes of all cells. Every label is a function of $h$, so $P(h) = P(o) \,
# P(h \mid o)$. Take $-\log_2$ and the mean: $H(h) = H(o) + H(h \mid o)$. The last term is the mean
# of $-\log_2 P(h \mid o)$, the bits that remain unknown after the label. It is never negative, so
# $H(o) \le H(h)$. In the same way, if one label is a function of another, it carries no more bits
# than the other.
#
# **The largest digit.** Given $K$, each of the $K$ digits is at most $m$ with probability $(m +
# 1)/C$, independently. With $P(K) = 1/4$ for $K = 0, 1, 2, 3$,
#
# $$ P(\max \le m) = \sum_K P(K) \Bigl( \frac{m + 1}{C} \Bigr)^{K} , \qquad P(\max = m) = P(\max \le m) - P(\max \le m - 1) , \tag{14.2} $$
#
# where $m = -1$ stands for "none" and $0^0 = 1$.
#
# **The set of digits.** A set $L$ of $\ell$ classes is observed if all $K$ digits are in $L$ and
# none of its classes is missing. By inclusion and exclusion over $j$ missing classes,
#
# $$ P(L) = \sum_K P(K) \sum_{j=0}^{\ell} (-1)^j \binom{\ell}{j} \Bigl( \frac{\ell - j}{C} \Bigr)^{K} . \tag{14.3} $$
#
# All $\binom{C}{\ell}$ sets of one size are equally probable.
#
# **The counts.** There are $C^K$ equally probable sequences of $K$ digits, and $K! / \prod_c y_c!$
# of them have the counts $y$:
#
# $$ P(y) = P(K) \, \frac{K!}{\prod_c y_c!} \, C^{-K} , \qquad K = \sum_c y_c . \tag{14.4} $$
#
# **Places.** Let $N_K$ be the number of sets of $K$ cells that keep the least distance. Given $K$,
# all of these sets are equally probable, so a set carries $\log_2 N_K$ bits. The class of each
# digit carries $\log_2 C$ bits more:
#
# $$ H(\text{places}) = H(K) + \mathbb{E} \log_2 N_K , \qquad H(\text{full}) = H(\text{places}) + \mathbb{E} K \log_2 C . \tag{14.5} $$
#
# We check the package's $N_K$ by enumeration on 4 x 4 cells with least distance 2. The output also
# gives $N_K$ for our canvases.

# %% tags=["hide-input"]
from itertools import combinations, product


def keeps_distance(cells, apart):
    pairs = combinations(cells, 2)
    return all(max(abs(a - c), abs(b - d)) >= apart for (a, b), (c, d) in pairs)


# %% tags=["hide-input"]
square = list(product(range(4), repeat=2))
for n in range(4):
    by_hand = sum(keeps_distance(s, 2) for s in combinations(square, n))
    package = worth.choices(4, 2, n)
    assert by_hand == package
    ours = worth.choices(CELLS, APART, n)
    print(f"K = {n}: {by_hand} enumerated, {package} computed; canvas: {ours}")

# %% [markdown]
# The next table shows the bits of each label.

# %% tags=["hide-input"]
BITS = {o: worth.bits(o, K, CELLS, APART) for o in worth.OBSERVERS}
rows = [(o, f"{b:.2f}", f"{b / BITS['full']:.0%}") for o, b in BITS.items()]
show.Markdown(tables.grid(("observer", "bits an image", "share of full"), rows))

# %% [markdown]
# *Presence* and *counts* differ little, because the digits of one canvas are seldom equal. If
# labels were worth their bits, one full label would be worth nearly five *class* labels.
#
# ### The likelihoods
#
# All observers except *patches* have the same kind of loss: the exact negative log-likelihood of
# the label. **Assume, as in chapter 1, that the cells are independent given the image $X$**, with
# log-probabilities `log_p` `(B, C+1, *positions)`. The likelihood of *presence* is that of chapter
# 1; those of *places* and *full* are products over the cells.
#
# In (1.1), $\alpha_S$ is the probability that every cell has a class of the set $S$. With $S = \{0,
# \ldots, m, \phi\}$ it is the probability that the largest digit is at most $m$; we write
# $\alpha_{\le m}$. The largest digit is $m$ if it is at most $m$, but not at most $m - 1$. Hence
#
# $$ \log P(\max = m \mid X) = \log \alpha_{\le m} + \log \bigl( 1 - e^{\log \alpha_{\le m - 1} - \log \alpha_{\le m}} \bigr) . \tag{14.6} $$
#
# The label "none" has the probability $\alpha_{\le -1}$: every cell is $\phi$. The exponent in
# (14.6) is $\sum_j \log (1 - \rho_j)$, where $\rho_j$ is the probability of $m$ at cell $j$,
# divided by the probability of $\{0, \ldots, m, \phi\}$ there. The code computes the sum with
# `log1p` and the bracket with `expm1`.
#
# For the counts, the recursion of chapter 5 takes one step for each cell. Joining parts of the
# canvas takes fewer steps. Number the observed digits $1, \ldots, K$ and let $c_k$ be the class of
# digit $k$. Take a part $A$ of the canvas and a subset $S$ of the digits. For each way to place the
# digits of $S$ on distinct cells of $A$, multiply the probabilities of all cells of $A$; a cell
# without a digit contributes its $p_\phi$. The sum over all ways is $f_A(S)$. A single cell has
# $f(\emptyset) = p_\phi$, $f(\{k\}) = p_{c_k}$, and $f(S) = 0$ for larger $S$. Two disjoint parts
# are joined by
#
# $$ f_{A \cup B}(S) = \sum_{T \subseteq S} f_A(T) \, f_B(S \setminus T) , \qquad P(y \mid X) = \frac{f_{\text{all}}(\{1, \ldots, K\})}{\prod_c y_c!} . \tag{14.7} $$
#
# The sum counts each arrangement $\prod_c y_c!$ times, since digits of one class can be exchanged;
# the division corrects this. The code joins cells in pairs, then the pairs in pairs, and so on, in
# log space: seven rounds for 100 cells. A subset is numbered in binary: bit $k$ is 1 if digit $k$,
# counted from 0, is in it.

# %% [markdown]
# ## Code


# %%
def log_counts(log_p, labels):
    """Compute (14.7) for one canvas: log_p (C+1, N), labels: its digits."""
    K = len(labels)
    f = torch.full(
        (log_p.shape[1], 2**K), -torch.inf, dtype=log_p.dtype
    )  # (N, subsets)
    f[:, 0] = log_p[-1]
    for k, c in enumerate(labels):
        f[:, 2**k] = log_p[c]
    while len(f) > 1:
        a, b = f[: len(f) // 2], f[len(f) // 2 : len(f) // 2 * 2]
        splits = [[t for t in range(S + 1) if t & S == t] for S in range(2**K)]
        joined = [
            torch.logsumexp(a[:, T] + b[:, [S ^ t for t in T]], 1)
            for S, T in enumerate(splits)
        ]
        f = torch.cat([torch.stack(joined, 1), f[len(f) // 2 * 2 :]])
    orders = math.prod(math.factorial(labels.count(c)) for c in set(labels))
    return f[0, -1] - math.log(orders)


# %%
g = torch.Generator().manual_seed(1)
log_p = torch.randn(1, 11, 5, 5, generator=g, dtype=torch.float64).log_softmax(
    1
)
its_digits = [7, 2, 7]
ours = log_counts(log_p[0].flatten(1), its_digits)
package = worth.log_likelihood_counts(log_p, torch.tensor([its_digits]))[0]
y = torch.tensor([[0, 0, 1, 0, 0, 0, 0, 2, 0, 0, 22]])
chapter_5 = counts.log_likelihood_multiclass(log_p.flatten(2).mT, y)[0]
print(f"{ours:.10f} {package:.10f} {chapter_5:.10f}")

# %% [markdown]
# All three agree. If one label is a function of another, it is at least as probable,
# whatever the network predicts. The next cell prints $-\log_2 P(o \mid X)$, the loss in bits, for
# one canvas.

# %% tags=["hide-input"]
classes, cells = torch.tensor([its_digits]), torch.tensor([[3, 12, 24]])
labels = (classes[..., None] == torch.arange(10)).any(1)
values = {
    "class": worth.log_likelihood_class(log_p, classes.amax(1)),
    "presence": presence.log_likelihood(log_p, labels),
    "counts": worth.log_likelihood_counts(log_p, classes),
    "places": worth.log_likelihood_places(log_p, cells),
    "full": worth.log_likelihood_full(log_p, cells, classes),
}
for name, value in values.items():
    print(f"{name:9s} {-value.item() / math.log(2):7.2f} bits")

# %% [markdown]
# A loss in bits can be compared with $H(o)$, the mean loss of a learner that knows the distribution
# of the labels and ignores the image. Let $b$ be the mean loss of a network over all images. If
# $b < H(o)$, the network *explains* $H(o) - b$ bits from the image. No prediction has a smaller
# mean loss than the true $P(o \mid X)$, whose mean loss is $H(o \mid X)$. So the explained bits are
# a lower bound of $H(o) - H(o \mid X)$, the *mutual information* of label and image. On 400 test
# images a mean loss has a standard error: 0.14 bits for *counts* if the learner ignores the image.
#
# ## Picture
#
# We train the network six times, for the same number of steps on the same 500 canvases of small
# digits.

# %%
SMALL = {
    **SMOKE,
    "widths": (24, 32, 48),
    "images": 500,
    "most_images": 500,
    "test_images": 400,
    "steps": 240,
    "batch": 16,
    "lr": 5e-3,
    "points": 1,
}


# %%
CONFIGS = {o: changed(Settings(), **SMALL, observer=o) for o in worth.OBSERVERS}
WORLD = data.world(CONFIGS["full"], 0, "cpu")


# %%
def student(config):
    """Train a network with an observer's labels."""
    model, g, c = (
        methods.network(config, 0),
        train.generator(1, 0),
        config.optimiser,
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=c.lr)

    def batches(epoch):
        for rows in torch.randint(
            config.data.images, (c.steps, c.batch), generator=g
        ):
            yield {name: x[rows] for name, x in WORLD["train"].items()}

    schedule = train.cosine(1, c.steps, warmup=0.05)
    train.fit(
        model,
        methods.objective(config),
        batches,
        optimizer,
        epochs=1,
        schedule=schedule,
    )
    return model.eval()


# %%
STUDENTS = {observer: student(config) for observer, config in CONFIGS.items()}

# %% [markdown]
# The figure shows the maps of the six networks for one test canvas. Every cell shows its most
# probable class, or a dot for $\phi$.

# %% tags=["hide-input"]
test = WORLD["test"]
three = int(((test["classes"] >= 0).sum(1) == 3).nonzero()[0])
image = test["images"][three : three + 1]
with torch.no_grad():
    maps = torch.cat(
        [model(image) for model in STUDENTS.values()]
    )  # (6, 11, 10, 10)
# %% tags=["hide-input"]
fig = show.label_map(image.expand(6, -1, -1, -1), maps)
for axis, observer in zip(fig.axes[:6], STUDENTS, strict=True):
    axis.set_title(observer, fontsize=18)
show.figure(
    fig,
    alt="A test canvas with three digits, six times, and under it the maps of"
    " six networks, each with the name of a digit where the network sees one"
    " and a dot elsewhere. Each network was trained by one observer's labels.",
)

# %% [markdown]
# Every network finds digits, but not every network names them correctly. We measure three shares of
# the digits on all test canvases. *Reading*: to read a digit, sum the probability of each class
# over the true cell and its eight neighbours; the true class must have the largest sum. *Found*:
# take as many peaks of the network's map of $1 - p_\phi$ as there are digits; a digit is found if a
# peak is nearer to it than half the least distance. *Both*: the digit is found, and its class has
# the largest sum around the nearest peak. The last three columns are in bits.

# %% tags=["hide-input", "nbval-ignore-output"]
rows = []
for observer, model in STUDENTS.items():
    scores = methods.measures(CONFIGS[observer], model, test)
    shares = [f"{scores[m]:.0f}" for m in ("reading", "found", "both")]
    left = scores.get("bits")
    paid = ("-", "-")
    if left is not None:
        paid = (f"{left:.2f}", f"{BITS[observer] - left:.2f}")
    rows.append((observer, *shares, f"{BITS[observer]:.2f}", *paid))
head = ("reading, %", "found, %", "both, %", "H(o)", "loss b", "explained")
show.Markdown(tables.grid(("observer", *head), rows))

# %% [markdown]
# The labels of *class*, *presence*, *counts* and *patches* contain no places. Still, their networks
# find most digits: wherever a digit lies, the label becomes more probable if the network names this
# digit there. For *class* this is true of the largest digit only. (The loss of *patches* is no
# likelihood, so it has no bits.)
#
# ## When it breaks
#
# ### Without "none", class labels do not identify the background
#
# Suppose no canvas is empty. Take any network and exchange the probabilities of $\phi$ and of 0 in
# every cell. If the largest digit is 1 or more, the likelihood of *class* does not change: both
# sets in (14.6) contain 0 as well as $\phi$. If the largest digit is 0, the likelihood is
# $\alpha_{\le 0} - \alpha_{\le -1}$, and only the second term changes: from the probability that
# all cells are empty to the probability that all cells are 0. For a good network both are near 0 on
# a canvas with digits. Only the label "none" distinguishes the two networks, as the next cell shows
# for the random `log_p` from above.


# %%
def exchanged(log_p):
    """Exchange the probabilities of 0 and of empty."""
    return log_p[:, [10, *range(1, 10), 0]]


# %% tags=["hide-input"]
both = torch.cat([log_p, exchanged(log_p)])
for m in (-1, 0, 1, 5):
    a, b = worth.log_likelihood_class(both, torch.tensor([m, m])).tolist()
    name = "none" if m < 0 else m
    print(f"largest digit {name}: {a:.4f}, exchanged {b:.4f}")

# %% tags=["hide-input"]
for k in ((1, 3), (0, 3)):
    share = worth.class_law(k)[0]
    print(f"{k[0]} to {k[1]} digits: {share:.0%} of the canvases are empty")

# %% [markdown]
# If every canvas has a digit, no *class* label contradicts a network that calls its background 0.
# The label "none" carries only two bits, but it decides which class is the background. This is why
# $K$ starts at 0.
#
# ### Bits that cannot be used
#
# *Places* carries more bits than *class*, *presence*, *counts* and *patches*. Yet its likelihood
# does not depend on the class that the network predicts for a digit. So no number of such labels
# teaches the network to read.
#
# ### Sums and choices
#
# The likelihood of *counts* sums over all placements, so every cell has a gradient from the first
# step. *Patches* trains its classifier only on the $K$ patches it selected. While some of them show
# pieces of digits, the classifier learns from wrong examples.
#
# ## Reproduction
#
# We know no paper that compares these labels. Our records cover the six observers with 30 to 3,000
# canvases of MNIST digits (protocol *short*: half the resolution, a smaller network, fewer steps,
# one CPU core) or up to 30,000 (protocol *paper*: full size, on a GPU).

# %% tags=["hide-input"]
HELD = records.published()
EXPERIMENTS = {e.name: e for e in PAPER.experiments}
protocol, named, found = tables.fullest(PAPER, list(EXPERIMENTS), HELD)
NUMBERS = [
    n
    for n in experiments.NUMBERS
    if any(found.get(f"worth/{o}-{n}") for o in worth.OBSERVERS)
]

# %% tags=["hide-input"]
config = EXPERIMENTS["worth/full-100"].settings(protocol)
k, SIDE, apart = config.data.instances, data.cells(config), config.data.apart
PRICE = {o: worth.bits(o, k, SIDE, apart) for o in worth.OBSERVERS}
seconds = [r["seconds"] for runs in found.values() for r in runs]
print(f"{named}: {len(seconds)} runs", end="")
if seconds:
    print(f" of {min(seconds):.0f} to {max(seconds):.0f} seconds")
print(f"{SIDE} x {SIDE} cells, bits of a label:")
print(", ".join(f"{o} {b:.2f}" for o, b in PRICE.items()))


# %% tags=["hide-input"]
def curve(observer, metric):
    """Return numbers of images with records, and a metric's mean and sd."""
    points = []
    for n in NUMBERS:
        runs = found.get(f"worth/{observer}-{n}", [])
        values = {r["seed"]: r["metrics"].get(metric) for r in runs}
        if runs and None not in values.values():
            points.append((n, *ledger.summary(values, "mean")))
    return points


# %% tags=["hide-input"]
rows = []
for observer in worth.OBSERVERS:
    points = {n: (mean, sd) for n, mean, sd in curve(observer, "both")}
    scores = (points.get(n) for n in NUMBERS)
    texts = (tables.number(*s, 1) if s else "not run" for s in scores)
    rows.append((observer, *texts))
head = ("both, %", *(f"{n:,} images" for n in NUMBERS))
grid = tables.grid(head, rows)
show.Markdown(f"Mean ± sd over the seeds; {named}\n\n{grid}")

# %% [markdown]
# ### What a label costs
#
# **Assume that a label takes the time to look at the image, plus the time to name its classes, plus
# the time to click on its places**:
#
# $$ t(o) = t_\text{look} + t_\text{name} \, \mathbb{E}[\text{names}] + t_\text{click} \, \mathbb{E}[\text{clicks}] . \tag{14.8} $$
#
# *Class* needs one name, *presence* one for each class that occurs, *counts* and *full* one for
# each digit; *places* and *full* need one click for each digit. We take one second for a name and
# 2.4 seconds for a click: on photographs with twenty classes, [Bearman et al.
# (2016)](https://arxiv.org/abs/1506.02106) use one second to decide whether a class occurs and a
# median of 2.4 seconds for the first click on an object. One second to look is our assumption. In
# the demo below you can change the seconds.
#
# <div class="demo" data-demo="worth">On the web page, sliders set the seconds to look, to name and to click, and the numbers of digits and classes. A table shows the bits, the seconds and the bits a second of the six observers. Without JavaScript, change the seconds below and run the cells again.</div>

# %%
SECONDS = {"look": 1.0, "name": 1.0, "click": 2.4}
EFFORT = {
    o: worth.effort(o, config.data.instances, **SECONDS)
    for o in worth.OBSERVERS
}
# %% tags=["hide-input"]
rows = [
    (o, f"{PRICE[o]:.2f}", f"{t:.1f}", f"{PRICE[o] / t:.2f}", f"{3600 / t:.0f}")
    for o, t in EFFORT.items()
]
head = ("observer", "bits", "seconds", "bits a second", "images an hour")
show.Markdown(tables.grid(head, rows))

# %% [markdown]
# By this model *full* gives the most bits a second: a click is slow, but carries many bits.
#
# ### Three prices of one score
#
# The next figure plots the share of digits found and read against three prices: images, bits of
# labels, and hours of labelling. For the same score, a curve further left is cheaper.


# %% tags=["hide-input"]
def draw(axis, observer, k, metric, price=1.0):
    """Draw the curve of an observer; one image costs `price`."""
    points = curve(observer, metric)
    style = {
        "color": show.COLOURS[k],
        "marker": show.MARKERS[k],
        "capsize": 2,
        "lw": 1.4,
    }
    if points:
        n, mean, sd = zip(*points, strict=True)
        axis.errorbar(
            [price * x for x in n],
            mean,
            [s or 0 for s in sd],
            label=observer,
            **style,
        )


# %% tags=["hide-input"]
PRICES = {
    "images": dict.fromkeys(worth.OBSERVERS, 1.0),
    "bits of labels": PRICE,
    "hours of labelling": {o: t / 3600 for o, t in EFFORT.items()},
}
# %% tags=["hide-input"]
fig, axes = plt.subplots(1, 3, figsize=(7.2, 3.2), sharey=True)
for axis, (title, price) in zip(axes, PRICES.items(), strict=True):
    for k, observer in enumerate(worth.OBSERVERS):
        draw(axis, observer, k, "both", price[observer])
    axis.set(xscale="log", xlabel=title, ylim=(0, 100))
axes[0].set(ylabel="digits found and read / %")
axes[1].set(title=named)
handles = axes[0].get_legend_handles_labels()
if handles[0]:
    fig.legend(*handles, loc="outside lower center", ncols=6, fontsize=8)
show.figure(
    fig,
    alt="The share of digits found and read by networks trained with the"
    " labels of six observers, against the number of images, the bits of the"
    " labels and the hours of labelling, each on a logarithmic axis"
    f" ({named}).",
)

# %% [markdown]
# The next figure shows *reading* (left) and *found* (right) separately; its three rows have the
# three prices.

# %% tags=["hide-input"]
fig, axes = plt.subplots(3, 2, figsize=(6.4, 7.6), sharey=True, sharex="row")
for row, (unit, price) in zip(axes, PRICES.items(), strict=True):
    for axis, metric in zip(row, ("reading", "found"), strict=True):
        for k, observer in enumerate(worth.OBSERVERS):
            draw(axis, observer, k, metric, price[observer])
        axis.set(xscale="log", xlabel=unit, ylim=(0, 100))
    row[0].axhline(10, color=show.GREY, ls="--", marker="", lw=1)
    row[0].set(ylabel="digits / %")
axes[0, 0].set(title="reading")
axes[0, 1].set(title="found")
handles = axes[0, 1].get_legend_handles_labels()
if handles[0]:
    fig.legend(*handles, loc="outside lower center", ncols=3, fontsize=9)
show.figure(
    fig,
    alt="The share of digits read at their true places, left, and found,"
    " right, against the number of labelled images, the bits of labels and the"
    f" hours of labelling, from the top, for six observers ({named}). A dashed"
    " line marks the chance level of reading.",
)

# %% [markdown]
# If two curves exchange their order from one row to the next, which label is cheaper depends on the
# price.
#
# ### Full labels for one weak label
#
# Let $n_o(a)$ be the number of images at which the curve of observer $o$ reaches the score $a$,
# interpolated linearly in $\log n$ between records. One weak label is worth
#
# $$ w_o(a) = \frac{n_{\text{full}}(a)}{n_o(a)} \tag{14.9} $$
#
# full labels. In each seed all observers label the same canvases, so each seed gives a value of
# $w$. The table shows the smallest and the largest, and the ratios of bits $H(o) / H(\text{full})$
# and of seconds $t(o) / t(\text{full})$. If $w$ exceeds the ratio of seconds, an hour of weak
# labels is worth more than an hour of full ones.

# %%
LEVELS = (50, 70, 80)
SEEDS = sorted({r["seed"] for runs in found.values() for r in runs})


# %% tags=["hide-input"]
def needed(observer, level):
    """Return the images needed for a level, by seed; NaN if not known."""
    images = {}
    for seed in SEEDS:
        runs = {n: found.get(f"worth/{observer}-{n}", []) for n in NUMBERS}
        runs = {n: r for n, rs in runs.items() for r in rs if r["seed"] == seed}
        points = [r["metrics"]["both"] for r in runs.values()]
        images[seed] = math.nan
        if runs:
            images[seed] = worth.images_needed(list(runs), points, level)
    return images


# %%
def rates(observer, level):
    """Return (14.9), a weak label in full ones, for every seed."""
    weak, full = needed(observer, level), needed("full", level)
    return [worth.worth(weak[seed], full[seed]) for seed in SEEDS]


# %% tags=["hide-input"]
def written(values):
    """Write the smallest and the largest number, or their common value."""
    if not values or any(map(math.isnan, values)):
        return "not known"
    ends = (f"{float(f'{x:.2g}'):,g}" for x in (min(values), max(values)))
    return " to ".join(dict.fromkeys(ends)).replace("inf", "never")


# %% tags=["hide-input"]
rows = []
for o in worth.OBSERVERS[:-1]:
    bits, asked = PRICE[o] / PRICE["full"], EFFORT[o] / EFFORT["full"]
    values = (written(rates(o, a)) for a in LEVELS)
    rows.append((o, *values, f"{bits:.2f}", f"{asked:.2f}"))
levels = (f"worth at {a} %" for a in LEVELS)
head = ("observer", *levels, "ratio of bits", "ratio of seconds")
grid = tables.grid(head, rows)
show.Markdown(f"Worth of one label, in full labels; {named}\n\n{grid}")

# %% [markdown]
# *0* means that the observer does not reach the score with the available images. *Not known* means
# that in some seed a curve starts above the score, or that full supervision does not reach it.
#
# The next table shows the price of a score, from the smallest to the largest over the seeds. A *<*
# means that every seed of the observers on its left costs less than every seed of those on its
# right. (If four such prices, two of each observer, were drawn independently from one
# distribution, the ranges would be disjoint with probability 1/3.) A *~* means that the ranges
# overlap, so the order is not known.


# %% tags=["hide-input"]
def cheapest(price, level):
    """Return (smallest, largest, observer) where all seeds are known."""
    paid = []
    for o in worth.OBSERVERS:
        images = needed(o, level).values()
        if any(map(math.isfinite, images)) and not any(map(math.isnan, images)):
            paid.append((price[o] * min(images), price[o] * max(images), o))
    return sorted(paid)


# %% tags=["hide-input"]
def above(level):
    """Return the observers with a seed above the level at its first record."""
    known = {
        o: needed(o, level).values()
        for o in worth.OBSERVERS
        if curve(o, "both")
    }
    return [o for o, images in known.items() if any(map(math.isnan, images))]


# %% tags=["hide-input"]
def ordered(paid):
    """Write the observers in a line: < between disjoint ranges."""
    line, most = "", -math.inf
    for low, high, observer in paid:
        line += (" < " if low > most else " ~ ") if line else ""
        line += f"{observer} {written([low, high])}"
        most = max(most, high)
    return line or "none"


# %% tags=["hide-input"]
rows = []
for level in LEVELS:
    over = ", ".join(above(level)) or "none"
    for name, price in PRICES.items():
        line = ordered(cheapest(price, level))
        rows.append((f"{level} %", name, line, over))
head = ("level", "price", "cheapest first", "starts above the level")
show.Markdown(f"{named}\n\n" + tables.grid(head, rows))

# %% [markdown]
# An observer in the last column has a price below that of its fewest images.
#
# ### The worth of an hour
#
# We compare an hour of weak labels with an hour of full ones. For a verdict, all seeds must agree
# at every level at which $w$ is known. If $w$ is known for some seeds only, the verdict is
# *undecided*. **Assume that the seeds are independent.** If each of two observers were the better
# one with probability 1/2 in every seed, all $s$ seeds would agree on the better one with
# probability $2 / 2^s$ or less. We also give the lead of *full* over *presence* and *counts* in the
# share *both*, with the half-width of its 95 % interval (Welch's t).


# %% tags=["hide-input"]
def hours(observer):
    """Compare an hour of weak labels with a full one at all known levels."""
    levels = [rates(observer, level) for level in LEVELS]
    # unknown seeds, level by level
    unknown = [sum(map(math.isnan, at)) for at in levels]
    pairs = list(zip(levels, unknown, strict=True))
    known = [w for at, u in pairs if not u for w in at]
    ask = EFFORT[observer] / EFFORT["full"]
    partly = any(0 < u < len(at) for at, u in pairs)
    if partly or not known or min(known) <= ask <= max(known):
        return "undecided"
    return "further" if min(known) > ask else "less far"


# %% tags=["hide-input"]
def last(observer):
    """Return full supervision's lead with the most images, in points."""
    numbers = (n for n in NUMBERS if found.get(f"worth/full-{n}"))
    n = max(numbers, default=0)
    runs = [found.get(f"worth/{o}-{n}", []) for o in ("full", observer)]
    gap, error = ahead(*runs, "both") if all(runs) else (math.nan, math.nan)
    word = "undecided"
    if abs(gap) > error:
        word = "full labels lead" if gap > 0 else "full labels are behind"
    return n, f"{gap:+.1f} ± {error:.1f} points, {word}"


# %% tags=["hide-input"]
WEAK = worth.OBSERVERS[:-1]
verdicts = {word: [] for word in ("further", "less far", "undecided")}
for o in WEAK:
    verdicts[hours(o)].append(o)
named_by = {w: ", ".join(f"*{o}*" for o in os) for w, os in verdicts.items()}
listed = {word: names or "none" for word, names in named_by.items()}

# %% tags=["hide-input"]
lines = [f"Evidence: {named}."]
for word, how in (("further", "more"), ("less far", "less")):
    lines.append(
        f"An hour of labels is worth {how} than an hour of full ones:"
        f" {listed[word]}."
    )
lines.append(f"Undecided by these seeds: {listed['undecided']}.")
for o in ("presence", "counts"):
    n, lead = last(o)
    lines.append(
        f"With {n:,} images, lead of full labels over *{o}*, both: {lead}."
    )
chance = 2 / 2 ** len(SEEDS) if SEEDS else math.nan
lines.append(
    "If each of two observers is better with probability 1/2, all seeds agree"
    f" with probability {chance:.0%} or less."
)
show.Markdown("\n".join(f"- {line}" for line in lines))

# %% [markdown]
# The last table shows the explained bits $H(o) - b$ on new canvases. If a number is negative, the
# network predicts the labels worse than a learner that ignores the image.

# %% tags=["hide-input"]
rows = []
for o in worth.OBSERVERS:
    points = {n: mean for n, mean, _ in curve(o, "bits")}
    left = (points.get(n, math.nan) for n in NUMBERS)
    told_bits = (f"{PRICE[o] - x:.2f}" for x in left)
    texts = (x.replace("nan", "not known") for x in told_bits)
    rows.append((o, f"{PRICE[o]:.2f}", *texts))
head = ("observer", "H(o)", *(f"{n:,}" for n in NUMBERS))
grid = tables.grid(head, rows)
show.Markdown(f"Explained bits by the number of images; {named}\n\n{grid}")

# %% [markdown]
# ### Claims
#
# We wrote these four claims as tests of the records. Records at reduced size give no verdict; the
# last column says whether they agree.

# %% tags=["hide-input"]
show.Markdown(tables.claims(PAPER, HELD))

# %% [markdown]
# ### What this does and does not say
#
# We compared the labels on one kind of canvas, with one network, one number of steps, one learning
# rate and labels without errors. The network's initial bias for $\phi$ comes from the mean number
# of digits, and in the test the number of digits is given. You can use the method for other data:
# *compare labels at equal images, at equal bits and at equal hours, and say which of the three you
# pay for*.
#
# To make all records again: `.venv/bin/python -m wsl_tutorial.reproduce run 'worth/*-30'
# 'worth/*-100' 'worth/*-300' 'worth/*-1000' 'worth/*-3000' --protocol short`; on a GPU `run
# 'worth/*' --protocol paper`.
#
# ## Exercises
#
# **1, by hand and code.** Change the observer: it only says whether there is a 7. Give the bits of
# its answer; `k` is the pair of the smallest and the largest number of digits.


# %%
def seven_bits(k):
    p = 1 / 10
    return -p * math.log2(p) - (1 - p) * math.log2(1 - p)


check.attempt(check.seven_bits, seven_bits)

# %% [markdown]
# **2, code.** Write the likelihood of that observer for `log_p` `(B, C+1, N)`, the class `label`,
# and `seen`, bool `(B,)`.


# %%
def any_of(log_p, label, seen):
    missing = (1 - log_p[:, label].exp()).log().sum(1)
    return torch.where(seen, (1 - missing.exp()).log(), missing)


check.attempt(check.any_of, any_of)

# %% [markdown]
# **3, code.** In a square of `cells` x `cells`, how many pairs of cells differ by at least `apart`
# in their rows or in their columns? Find a formula without a loop.


# %%
def pairs(cells, apart):
    n = cells**2
    return n * (n - 1) // 2


check.attempt(check.pairs_apart, pairs)

# %% [markdown]
# **4, code.** How many seconds must a click take so that *full* and *counts* carry equally many
# bits a second? You know their bits, the seconds of a *counts* label, and the clicks of a *full*
# one.


# %%
def break_even(bits_counts, bits_full, seconds_counts, clicks):
    return bits_full / bits_counts * seconds_counts / clicks


check.attempt(check.break_even, break_even)

# %% [markdown]
# **5, by hand.** The label is the *number* of digits and nothing else. Give its bits for $K$
# uniform on 0 to 3. Which of *reading* and *found* can a network learn from it, and why?
#
# **6, explain to a colleague.** Your colleague has 2,000 photographs and ten hours of an annotator.
# In three sentences, say which three numbers you would measure before you choose between image
# classes, points and boxes.
#
# ## Further reading
#
# - [Bearman, Russakovsky, Ferrari and Fei-Fei (2016)](https://arxiv.org/abs/1506.02106), *What's
#   the point: semantic segmentation with point supervision*: labels compared at equal hours.
# - [Papadopoulos, Uijlings, Keller and Ferrari (2017)](https://arxiv.org/abs/1708.02750), *Extreme
#   clicking for efficient object annotation*.
# - Cover and Thomas, *Elements of information theory*, chapter 2: entropy, and why a function of
#   $h$ cannot carry more information than $h$.
