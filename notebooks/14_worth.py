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
# # What is a weak label worth?
#
# After this page you can put the four observers of this book on one scale: compute how many bits
# each label tells, say what it costs to make, and read from records what a network learns from it.
# You need the likelihoods of [chapter 1](01_presence_likelihood.ipynb) and [chapter
# 5](05_counts_likelihood.ipynb), and the lifting of [chapter 8](08_patches_lifting.ipynb). The page
# runs in under a minute on one CPU core. It trains six small networks; the large comparison comes
# from records.
#
# ## Problem
#
# You have a budget for labels and a choice of what to ask for. Papers on weak supervision compare a
# method with another method *on the same labels*. They seldom compare labels, since each paper has
# its own data, its own network and its own measure. Here all of that is the same: one set of
# canvases, one network, one number of training steps. Only what the annotator tells differs.
#
# ## What is hidden
#
# A canvas carries $K$ digits, and $K$ is 0, 1, 2 or 3 with the same probability. The network of
# [chapter 3](03_presence_learning.ipynb) looks at the canvas through windows that stand two pixels
# apart, the *cells*. The digits stand on cells: **assume that every choice of $K$ cells that keep
# their distance is as probable as any other, and that each digit is of any of $C = 10$ classes,
# independently**. Hidden is the class of every cell, and most cells hide "nothing", $\phi$. The
# canvases also carry pieces of digits, so that ink does not tell where a digit is.

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
K, CELLS, APART = (0, 3), 10, 4  # digits on a canvas; cells a side; least distance in cells
g = torch.Generator().manual_seed(0)
made = lattice.canvases(*digits.load(), 6, 32, g, k=K, apart=APART, clutter=2)
for name, x in made.items():
    print(f"{name}: {tuple(x.shape)}")

# %% [markdown]
# Six observers look at a canvas. Each tells a function of the hidden classes and nothing else:
#
# | observer | tells | chapter |
# |---|---|---|
# | *class* | one name for the whole image: its greatest digit, or "none" | regions, 11 to 13 |
# | *presence* | which digits occur | 1 to 4 |
# | *counts* | how many of each | 5 to 7 |
# | *patches* | the same counts, to a learner that commits itself to $K$ places | 8 to 10 |
# | *places* | the cells that hold a digit, but not which digit | none: a control |
# | *full* | the cells, and the digit on each | full supervision |
#
# Two rows need a word. In the chapters on *regions* an image has one class and a part of the image
# decides it. The greatest digit is such a class: one place decides, and to know that it does, the
# rest must hold nothing greater. *Patches* is no other observation than *counts*: $K$ is the sum of
# the counts. What differs is the learner. It does not sum over all places that fit, it picks $K$ of
# them and moves them. So the pair shows what a *method* is worth at equal labels.


# %%
def told(i):
    """What the six observers tell of canvas i."""
    there = made["classes"][i] >= 0
    row, column = made["cells"][i][there].unbind(-1)
    arguments = (made["classes"][i][there].tolist(), (row * CELLS + column).tolist())
    return [worth.observe(o, *arguments) for o in worth.OBSERVERS]


# %%
fig, axes = plt.subplots(1, 6, figsize=(7.2, 1.45))
for i, axis in enumerate(axes):
    axis.imshow(made["images"][i, 0], cmap="gray", vmin=0, vmax=1)
    at = lattice.centres(made["cells"][i][made["classes"][i] >= 0])
    axis.plot(*at.T, "o", mfc="none", mec=show.COLOURS[1], ms=16)
    axis.set(xticks=[], yticks=[], title=f"canvas {i}")
    axis.grid(False)
show.figure(
    fig,
    alt="Six canvases with handwritten digits on black, among pieces of other digits. Circles mark"
    " the digits; the pieces have none.",
)

# %%
rows = [(o, *(str(told(i)[k]) for i in range(3))) for k, o in enumerate(worth.OBSERVERS)]
show.Markdown(tables.grid(("observer", *(f"canvas {i}" for i in range(3))), rows))

# %% [markdown]
# ## Derivation
#
# ### The bits of a label
#
# Let $o$ be what is told. If $o$ has the probability $P(o)$, then the news of it is $-\log_2 P(o)$
# bits: the length of its word in the best code. The mean news of a label is its *entropy*,
#
# $$ H(o) = - \sum_o P(o) \log_2 P(o) . \tag{14.1} $$
#
# Every observer tells a function $o = g(h)$ of the hidden $h$. Then $P(o, h) = P(h)$, and splitting
# the news of $h$ into that of $o$ and the rest gives $H(h) = H(o) + H(h \mid o)$. The last term is
# what the observer keeps silent about. It is never negative, so a coarser observer never tells more bits.
# Which image $X$ belongs to $o$ plays no role here: the bits are a price tag, to be paid before any
# learning.
#
# **The greatest digit.** Each of $K$ digits is at most $m$ with probability $(m + 1)/10$,
# independently. With $P(K) = 1/4$ for our four numbers of digits,
#
# $$ P(\max \le m) = \sum_K P(K) \Bigl( \frac{m + 1}{C} \Bigr)^{K} , \qquad P(\max = m) = P(\max \le m) - P(\max \le m - 1) , \tag{14.2} $$
#
# where $m = -1$ stands for "none" and $0^0 = 1$.
#
# **The set of digits.** A set $L$ of $\ell$ classes occurs when all $K$ digits are in $L$ and none of
# its classes is missing. Inclusion and exclusion over the $j$ missing ones:
#
# $$ P(L) = \sum_K P(K) \sum_{j=0}^{\ell} (-1)^j \binom{\ell}{j} \Bigl( \frac{\ell - j}{C} \Bigr)^{K} . \tag{14.3} $$
#
# All $\binom{C}{\ell}$ sets of one size are equally probable.
#
# **The counts.** $K$ digits in a row have $C^K$ equally probable sequences, and
# $K! / \prod_c y_c!$ of them have the counts $y$:
#
# $$ P(y) = P(K) \, \frac{K!}{\prod_c y_c!} \, C^{-K} , \qquad K = \sum_c y_c . \tag{14.4} $$
#
# **Places.** Let $N_K$ be the number of sets of $K$ cells that keep their distance. Given $K$ all are
# equally probable, so a set costs $\log_2 N_K$ bits, and each digit on it $\log_2 C$ more:
#
# $$ H(\text{places}) = H(K) + \mathbb{E} \log_2 N_K , \qquad H(\text{full}) = H(\text{places}) + \mathbb{E} K \log_2 C . \tag{14.5} $$
#
# $N_K$ is a count. We check it on a small square by going through all sets.

# %%
from itertools import combinations, product


def keeps_distance(cells, apart):
    pairs = combinations(cells, 2)
    return all(max(abs(a - c), abs(b - d)) >= apart for (a, b), (c, d) in pairs)


# %%
square = list(product(range(4), repeat=2))
for n in range(4):
    by_hand = sum(keeps_distance(s, 2) for s in combinations(square, n))
    assert by_hand == worth.choices(4, 2, n)
    print(f"{n} of 4 x 4 cells, two apart: {by_hand}; ours: {worth.choices(CELLS, APART, n)}")

# %% [markdown]
# Now the price tags. The last column is the share of the bits of full supervision; the seconds that
# a label costs come below.

# %%
BITS = {o: worth.bits(o, K, CELLS, APART) for o in worth.OBSERVERS}
rows = [(o, f"{b:.2f}", f"{b / BITS['full']:.0%}") for o, b in BITS.items()]
show.Markdown(tables.grid(("observer", "bits an image", "share of full"), rows))

# %% [markdown]
# Read the table from above. Most of a full label is *where*: the places alone are the greater part
# of its bits, and the digits on them the smaller. The set and the counts differ by little, because
# two of three digits are seldom equal. And the class of an image tells a fifth of what full
# supervision tells. If labels were worth their bits, one fully labelled canvas would replace nearly
# five with a class.
#
# ### The likelihoods
#
# Each observer needs its loss, and for a fair comparison it is the same for all: minus the exact
# log-likelihood of what is told. **Assume, as in chapter 1, that the cells are independent given the
# image**, with log-probabilities `log_p` `(B, C+1, *positions)`. *Presence* has its likelihood since
# chapter 1; *places* and *full* are products over the cells. Two are new.
#
# The greatest digit is at most $m$ if no cell holds a greater one. In the notation of (1.1) this is
# $\alpha$ of the set $\{0, \ldots, m, \phi\}$, written $\alpha_{\le m}$. Hence
#
# $$ \log P(\max = m \mid X) = \log \alpha_{\le m} + \log \bigl( 1 - e^{\log \alpha_{\le m - 1} - \log \alpha_{\le m}} \bigr) , \tag{14.6} $$
#
# where the difference in the exponent is a sum over the cells of $\log (1 - \rho_j)$, with $\rho_j$ the
# share of $m$ in the mass of $\{0, \ldots, m, \phi\}$: `log1p`, then `expm1`, and where the $\rho_j$
# underflow the logarithm of their sum. "None" is $\alpha_{\le -1}$, every cell $\phi$.
#
# For the counts, chapter 5 has a recursion over instances. Our instances are cells, a hundred or two,
# and a recursion takes one step for each. But only $K \le 3$ cells hold anything. Number the told
# digits $1, \ldots, K$ and let $f_A(S)$ be the sum, over all ways to put the digits of the subset $S$
# on distinct cells of a part $A$ of the canvas, of the product of all its cells' probabilities. A
# single cell has $f(\emptyset) = p_\phi$ and $f(\{k\}) = p_{c_k}$. Two disjoint parts join by
#
# $$ f_{A \cup B}(S) = \sum_{T \subseteq S} f_A(T) \, f_B(S \setminus T) , \qquad P(y \mid X) = \frac{f_{\text{all}}(\{1, \ldots, K\})}{\prod_c y_c!} , \tag{14.7} $$
#
# where the division removes the orders of equal digits. Cells join in pairs, pairs in pairs: eight
# rounds for 196 cells, all canvases at once, in log space.

# %% [markdown]
# ## Code


# %%
def log_counts(log_p, told):
    """(14.7) for one canvas: log_p (C+1, N), told: the digits, in any order."""
    K = len(told)
    f = torch.full((log_p.shape[1], 2**K), -torch.inf, dtype=log_p.dtype)  # (N, subsets)
    f[:, 0] = log_p[-1]
    for k, c in enumerate(told):
        f[:, 2**k] = log_p[c]
    while len(f) > 1:
        a, b = f[: len(f) // 2], f[len(f) // 2 : len(f) // 2 * 2]
        splits = [[t for t in range(S + 1) if t & S == t] for S in range(2**K)]
        joined = [
            torch.logsumexp(a[:, T] + b[:, [S ^ t for t in T]], 1) for S, T in enumerate(splits)
        ]
        f = torch.cat([torch.stack(joined, 1), f[len(f) // 2 * 2 :]])
    orders = math.prod(math.factorial(told.count(c)) for c in set(told))
    return f[0, -1] - math.log(orders)


# %%
g = torch.Generator().manual_seed(1)
log_p = torch.randn(1, 11, 5, 5, generator=g, dtype=torch.float64).log_softmax(1)
told_digits = [7, 2, 7]
ours = log_counts(log_p[0].flatten(1), told_digits)
package = worth.log_likelihood_counts(log_p, torch.tensor([told_digits]))[0]
y = torch.tensor([[0, 0, 1, 0, 0, 0, 0, 2, 0, 0, 22]])
chapter_5 = counts.log_likelihood_multiclass(log_p.flatten(2).mT, y)[0]
print(f"{ours:.10f} {package:.10f} {chapter_5:.10f}")

# %% [markdown]
# The three agree. The coarser the observer, the more probable what it tells, whatever the network
# answers; we look at the likelihoods of one canvas by all observers.

# %%
classes, cells = torch.tensor([told_digits]), torch.tensor([[3, 12, 24]])
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
# Measured so, in bits, a loss is comparable with the price tag. A learner that knew the law of the
# labels and ignored the image would pay $H(o)$ a test image. (Our networks cannot be this learner:
# their cells are independent, and for independent cells the best law of $K$ costs 0.16 bits more, or
# 0.18 if all cells are alike.)
# One whose *mean* over all images is $b < H(o)$ has explained $H(o) - b$ bits from the image: a lower
# bound of the mutual information $I(o; X)$, as no code beats the true $P(o \mid X)$. A mean over $n$
# test images has a standard error, for counts about $2.9 / \sqrt n$ bits: 0.14 with 400 images.
#
# ## Picture
#
# We train the network six times, on the same 500 canvases of the small digits, for the same number
# of steps. The lines that train are those of the records below, with another setting.

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
    """A network trained with an observer's labels."""
    model, g, c = methods.network(config, 0), train.generator(1, 0), config.optimiser
    optimizer = torch.optim.AdamW(model.parameters(), lr=c.lr)

    def batches(epoch):
        for rows in torch.randint(config.data.images, (c.steps, c.batch), generator=g):
            yield {name: x[rows] for name, x in WORLD["train"].items()}

    schedule = train.cosine(1, c.steps, warmup=0.05)
    train.fit(model, methods.objective(config), batches, optimizer, epochs=1, schedule=schedule)
    return model.eval()


# %%
STUDENTS = {observer: student(config) for observer, config in CONFIGS.items()}

# %% [markdown]
# First their maps of one test canvas. Every cell shows its most probable class, a dot for "nothing".

# %%
test = WORLD["test"]
three = int(((test["classes"] >= 0).sum(1) == 3).nonzero()[0])
image = test["images"][three : three + 1]
with torch.no_grad():
    maps = torch.cat([model(image) for model in STUDENTS.values()])  # (6, 11, 10, 10)
fig = show.label_map(image.expand(6, -1, -1, -1), maps)
for axis, observer in zip(fig.axes[:6], STUDENTS, strict=True):
    axis.set_title(observer, fontsize=18)
show.figure(
    fig,
    alt="A test canvas with three digits, six times, and under it the maps of six networks, each"
    " with a letter where the network sees a digit and a dot elsewhere. They were trained with the"
    " labels of the six observers.",
)

# %% [markdown]
# Two questions are asked of each network on all test canvases. *Reading*: is the right class the most
# probable one at the true place, and its eight neighbours? *Found*: if it points at as many places as
# there are digits, is one of them nearer to the digit than half the least distance? *Both* asks
# that the class at the place it points at is right, too. The last columns hold the bits.

# %% tags=["nbval-ignore-output"]
rows = []
for observer, model in STUDENTS.items():
    scores = methods.measures(CONFIGS[observer], model, test)
    shares = [f"{scores[m]:.0f}" for m in ("reading", "found", "both")]
    left = scores.get("bits")
    paid = ("-", "-") if left is None else (f"{left:.2f}", f"{BITS[observer] - left:.2f}")
    rows.append((observer, *shares, f"{BITS[observer]:.2f}", *paid))
head = ("observer", "reading, %", "found, %", "both, %", "H(o)", "paid", "explained")
show.Markdown(tables.grid(head, rows))

# %% [markdown]
# Hold the columns *found* and *explained* against what was told. Four of the six observers never said
# a word about places. What the networks know of them comes from the images: a digit is what explains
# the label wherever it stands. (The lifting's map is no probability, so it has no bits.)
#
# ## When it breaks
#
# ### A name that nobody contradicts
#
# Let no canvas be empty. Take any network and exchange the probabilities of $\phi$ and of 0 in every
# cell. For the observer *class* nothing changes where the greatest digit is 1 or more, since both
# $\alpha$ of (14.6) hold both. Where it is 0 next to nothing changes: the exchanged network only must
# not call *all* cells nothing. The label "none" alone tells the two apart.


# %%
def exchanged(log_p):
    """The probabilities of 0 and of nothing exchanged."""
    return log_p[:, [10, *range(1, 10), 0]]


# %%
both = torch.cat([log_p, exchanged(log_p)])
for m in (-1, 0, 1, 5):
    a, b = worth.log_likelihood_class(both, torch.tensor([m, m])).tolist()
    print(f"greatest {m:2d}: {a:.4f} and {b:.4f}")
for k in ((1, 3), (0, 3)):
    law = worth.class_law(k)
    print(f"{k[0]} to {k[1]} digits: {law[0]:.0%} of the canvases tell 0 from nothing")

# %% [markdown]
# With at least one digit on every canvas no label contradicts a network that paints its background
# with zeros: the observation does not identify what we want to read. With empty canvases a quarter
# of the labels contradict it. An image *without* the thing is worth more than its bits to a
# learner from image classes. That is why $K$ begins at 0 here.
#
# ### Bits that cannot be used
#
# *Places* tells more bits than the four observers above it. Yet it never names a class, so no number
# of labels teaches its network to read: whatever class it puts on a digit, the likelihood is the same.
# Bits measure what is told, and not whether it is what you want to know. The converse is the hope of
# weak supervision: what you want to know need not be told.
#
# ### Sums and picks
#
# *Counts* and *patches* have the same labels. The sum over all placements gives every cell a gradient
# from the first step. The lifting gets its gradient at $K$ places that it chose itself, and while
# they lie on pieces of digits it learns from errors. Its advantage is elsewhere: it needs no
# likelihood over cells, so places may be anywhere and of any size (chapter 8).
#
# ## Reproduction
#
# No paper has this table. The records hold the six observers with 30 to 3,000 canvases of MNIST
# (protocol *short*: half the size, one CPU core; protocol *paper*: full size, on a GPU, up to
# 30,000). Everything else is equal: network, steps, rate.

# %%
HELD = records.published()
EXPERIMENTS = {e.name: e for e in PAPER.experiments}
protocol, named, found = tables.fullest(PAPER, list(EXPERIMENTS), HELD)
config = EXPERIMENTS["worth/full-100"].settings(protocol)
SIDE = data.cells(config)
PRICE = {o: worth.bits(o, config.data.instances, SIDE, config.data.apart) for o in worth.OBSERVERS}
seconds = [r["seconds"] for runs in found.values() for r in runs]
took = f" of {min(seconds):.0f} to {max(seconds):.0f} seconds" if seconds else ""
print(f"{named}: {len(seconds)} runs{took}")
print(f"{SIDE} x {SIDE} cells; " + ", ".join(f"{o} {b:.2f} bits" for o, b in PRICE.items()))


# %%
def curve(observer, metric):
    """Numbers of images that have records, and a metric's mean and sd over the seeds."""
    points = []
    for n in experiments.NUMBERS:
        runs = found.get(f"worth/{observer}-{n}", [])
        values = {r["seed"]: r["metrics"].get(metric) for r in runs}
        if runs and None not in values.values():
            points.append((n, *ledger.summary(values, "mean")))
    return points


# %%
rows = []
for observer in worth.OBSERVERS:
    points = {n: (mean, sd) for n, mean, sd in curve(observer, "both")}
    scores = (points.get(n) for n in experiments.NUMBERS)
    rows.append((observer, *(tables.number(*s, 1) if s else "not run" for s in scores)))
head = ("both, %", *(f"{n:,} images" for n in experiments.NUMBERS))
show.Markdown(f"Mean ± sd over the seeds; {named}\n\n" + tables.grid(head, rows))

# %% [markdown]
# ### What a label costs
#
# Bits are a price in information. An annotator is paid by the hour. **Assume that a label takes
# the time to take the image in, to give its names, and to click on its places**, one after the other:
#
# $$ t(o) = t_\text{look} + t_\text{name} \, \mathbb{E}[\text{names}] + t_\text{click} \, \mathbb{E}[\text{clicks}] . \tag{14.8} $$
#
# *Class* gives one name, *presence* one for each class that occurs, *counts* and *full* one for each
# digit; *places* and *full* click once for each digit. For the seconds we take one to give a name and
# 2.4 to click on an object: [Bearman et al. (2016)](https://arxiv.org/abs/1506.02106) measured one
# second to decide whether a class occurs and 2.4 for the first click on an object of it, on
# photographs with twenty classes. The second to take in the image is our assumption. For scale: a
# box took 7 seconds by its four extreme points and about 35 when drawn ([Papadopoulos et al.
# 2017](https://arxiv.org/abs/1708.02750)), the full mask of a photograph 239.7 (Bearman et al.).
# Such numbers depend on the classes, the tool and the training; move them in the demo.
#
# <div class="demo" data-demo="worth">On the web page stand sliders for the seconds that an annotator takes to look, to name and to click, and for the numbers of digits and classes. A table shows the bits, the seconds and the bits a second of the six observers. Without JavaScript, change the seconds below and run the cells again.</div>

# %%
SECONDS = {"look": 1.0, "name": 1.0, "click": 2.4}
EFFORT = {o: worth.effort(o, config.data.instances, **SECONDS) for o in worth.OBSERVERS}
rows = [
    (o, f"{PRICE[o]:.2f}", f"{t:.1f}", f"{PRICE[o] / t:.2f}", f"{3600 / t:.0f}")
    for o, t in EFFORT.items()
]
head = ("observer", "bits", "seconds", "bits a second", "images an hour")
show.Markdown(tables.grid(head, rows))

# %% [markdown]
# By this model, and on a canvas of this size, *full* tells the most bits a second: a click is slow, but
# it says much. (A place among fewer cells says less: on 6 x 6 cells *counts* would be first.) Whether it is also
# the best use of an hour is for the records to say.
#
# ### One score, three prices
#
# The next figure draws the share of digits found and read against the number of images, against the
# bits that were told, and against the hours of labelling. A curve further left is cheaper.


# %%
def draw(axis, observer, k, metric, price=1.0):
    """The curve of an observer; `price` of one image is the unit of the axis."""
    points = curve(observer, metric)
    style = {"color": show.COLOURS[k], "marker": show.MARKERS[k], "capsize": 2, "lw": 1.4}
    if points:
        n, mean, sd = zip(*points, strict=True)
        axis.errorbar([price * x for x in n], mean, [s or 0 for s in sd], label=observer, **style)


# %%
PRICES = {
    "images": dict.fromkeys(worth.OBSERVERS, 1.0),
    "bits told": PRICE,
    "hours of labelling": {o: t / 3600 for o, t in EFFORT.items()},
}
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
    alt="The share of digits found and read by networks trained with the labels of six observers,"
    " against the number of images, the bits told, and the hours of labelling, each on a"
    f" logarithmic axis ({named}).",
)

# %% [markdown]
# The score has two halves: the reading at the true places, on the left, and the localisation, on the
# right, by images, by bits and by hours. Remember on the right that only *places* and *full* were
# told any place.

# %%
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
    alt="The share of digits read at their true places, left, and found, right, against the number"
    " of labelled images, the bits told and the hours of labelling, from the top, for six observers"
    f" ({named}). A dashed line marks chance for reading.",
)

# %% [markdown]
# Read down a column. Where two curves change places from one row to the next, it is the price, and not
# the learning, that decides between the two labels.
#
# ### The exchange rate
#
# Fix a level of the score, $a$. Let $n_o(a)$ be the number of images at which the curve of the
# observer $o$ reaches it, straight in $\log n$ between the records. One weak label is worth
#
# $$ w_o(a) = \frac{n_{\text{full}}(a)}{n_o(a)} \tag{14.9} $$
#
# full labels. It is a rate *at a level*: nothing forces it to be the same for a good and for a bad network.
# All observers of one seed label the same canvases, so each seed has its own $w$. We print the
# least and the greatest, and beside them what the bits and the seconds promised:
# $H(o) / H(\text{full})$ and $t(o) / t(\text{full})$. If $w$ exceeds the ratio of seconds, an hour of
# weak labels beats an hour of full ones.

# %%
LEVELS = (50, 70, 80)
SEEDS = sorted({r["seed"] for runs in found.values() for r in runs})


def needed(observer, level):
    """Images that the observer needs for a level, by seed; NaN where there is no curve."""
    images = {}
    for seed in SEEDS:
        runs = {n: r for n in experiments.NUMBERS for r in found.get(f"worth/{observer}-{n}", [])
                if r["seed"] == seed}  # fmt: skip
        points = [r["metrics"]["both"] for r in runs.values()]
        images[seed] = worth.images_needed(list(runs), points, level) if runs else math.nan
    return images


# %%
def rates(observer, level):
    """What a weak label is worth in full ones: (14.9) of every seed."""
    weak, full = needed(observer, level), needed("full", level)
    return [worth.worth(weak[seed], full[seed]) for seed in SEEDS]


def written(values):
    """The least and the greatest of some numbers, or the one that they are."""
    if not values or any(map(math.isnan, values)):
        return "not known"
    ends = (f"{float(f'{x:.2g}'):,g}" for x in (min(values), max(values)))
    return " to ".join(dict.fromkeys(ends)).replace("inf", "never")


# %%
rows = []
for o in worth.OBSERVERS[:-1]:
    promised = (f"{PRICE[o] / PRICE['full']:.2f}", f"{EFFORT[o] / EFFORT['full']:.2f}")
    rows.append((o, *(written(rates(o, a)) for a in LEVELS), *promised))
head = ("observer", *(f"worth at {a} %" for a in LEVELS), "bits promise", "seconds ask")
show.Markdown(f"In full labels, seed by seed; {named}\n\n" + tables.grid(head, rows))

# %% [markdown]
# *0* means that the observer does not reach the level with the images there are, *not known* that
# full supervision is above the level, or below it, with all numbers of images that we have. Next
# the prices themselves, seed by seed. A *<* stands where the seeds agree on the order: all of them
# pay less on its left. (Of two equal observers in independent runs, the ranges of $s$ seeds fail to
# meet in 2 of $\binom{2s}{s}$ cases: a third, for two seeds.) Between the names of a group, joined
# by *~*, the ranges meet, and the records do not say which is cheaper.


# %%
def cheapest(price, level):
    """(least, greatest, observer) of those whose price is known in all seeds, cheapest first."""
    paid = []
    for o in worth.OBSERVERS:
        images = needed(o, level).values()
        if any(map(math.isfinite, images)) and not any(map(math.isnan, images)):
            paid.append((price[o] * min(images), price[o] * max(images), o))
    return sorted(paid)


def above(level):
    """The observers that are above the level from their first record on, in a seed at least."""
    known = {o: needed(o, level).values() for o in worth.OBSERVERS if curve(o, "both")}
    return [o for o, images in known.items() if any(map(math.isnan, images))]


# %%
def ordered(paid):
    """The observers in a line: < between groups whose ranges do not meet."""
    line, most = "", -math.inf
    for low, high, observer in paid:
        line += (" < " if low > most else " ~ ") if line else ""
        line += f"{observer} {written([low, high])}"
        most = max(most, high)
    return line or "none"


rows = [
    (f"{level} %", name, ordered(cheapest(price, level)), ", ".join(above(level)) or "none")
    for level in LEVELS
    for name, price in PRICES.items()
]
head = ("level", "price", "observers, cheapest first", "above it with the fewest images")
show.Markdown(f"{named}\n\n" + tables.grid(head, rows))

# %% [markdown]
# *Never* is a seed that does not reach the level. The last column lists curves that begin above it:
# their price is not known, and lower than that of their first record.
#
# ### So, what is it worth?
#
# The answer is made from the same records: an hour of weak labels against an hour of full ones, at
# every level that is known and in every seed, and what is left of the difference with the most
# images, with the half-width of its interval at 5 % (Welch's t). Beside it stands what
# chance does. **Assume that the seeds are independent.** If two observers were equal, all $s$ seeds
# would put the same one ahead at one level with the probability $2 / 2^s$, and at several levels no
# more often. An observer of which a seed is unknown at a level, while another one is known, is left
# undecided. Two seeds know their own spread badly: their half-width is 4.3 standard errors and more.


# %%
def hours(observer):
    """Whether an hour of weak labels leads further than one of full ones, at all known levels."""
    levels = [rates(observer, level) for level in LEVELS]
    unknown = [sum(map(math.isnan, at)) for at in levels]  # seeds, level by level
    known = [w for at, u in zip(levels, unknown, strict=True) if not u for w in at]
    ask = EFFORT[observer] / EFFORT["full"]
    partly = any(0 < u < len(at) for at, u in zip(levels, unknown, strict=True))
    if partly or not known or min(known) <= ask <= max(known):
        return "undecided"
    return "further" if min(known) > ask else "less far"


def last(observer):
    """Full supervision's lead with the most images that have records, in points."""
    n = max((n for n in experiments.NUMBERS if found.get(f"worth/full-{n}")), default=0)
    runs = [found.get(f"worth/{o}-{n}", []) for o in ("full", observer)]
    gap, error = ahead(*runs, "both") if all(runs) else (math.nan, math.nan)
    words = {gap > error: "full labels lead", gap < -error: "full labels are behind"}
    return n, f"{gap:+.1f} ± {error:.1f} points, {words.get(True, 'undecided')}"


# %%
WEAK = worth.OBSERVERS[:-1]
verdicts = {word: [] for word in ("further", "less far", "undecided")}
for o in WEAK:
    verdicts[hours(o)].append(o)
listed = {word: ", ".join(f"*{o}*" for o in names) or "none" for word, names in verdicts.items()}
lines = [
    f"An hour of labels leads {word} than an hour of full ones: {listed[word]}."
    for word in ("further", "less far")
]
lines.append(f"Undecided by these seeds: {listed['undecided']}.")
for o in ("presence", "counts"):
    n, lead = last(o)
    lines.append(f"With {n:,} images, full labels against *{o}*, found and read: {lead}.")
chance = 2 / 2 ** len(SEEDS) if SEEDS else math.nan
lines.append(f"By chance alone the seeds agree on two equal observers in {chance:.0%}; {named}.")
show.Markdown("\n".join(f"- {line}" for line in lines))

# %% [markdown]
# The bits that the networks explain say how much of the label they predict on new canvases, the whole
# label being $H(o)$:

# %%
rows = []
for o in worth.OBSERVERS:
    points = {n: mean for n, mean, _ in curve(o, "bits")}
    left = (points.get(n, math.nan) for n in experiments.NUMBERS)
    told_bits = (f"{PRICE[o] - x:.2f}" for x in left)
    rows.append((o, f"{PRICE[o]:.2f}", *(x.replace("nan", "not known") for x in told_bits)))
head = ("explained bits", "H(o)", *(f"{n:,}" for n in experiments.NUMBERS))
show.Markdown(f"{named}; a number below 0 is overconfidence\n\n" + tables.grid(head, rows))

# %% [markdown]
# ### Claims
#
# These sentences stand as tests beside the experiments, with their readings in brackets, so that they
# can fail. Short runs agree or disagree; they give no verdict.

# %%
show.Markdown(tables.claims(PAPER, HELD))

# %% [markdown]
# ### What this does and does not say
#
# One world, one network, one rate for all observers, labels without error. The network is told the
# mean number of digits by its first bias, and the number of digits at test. A larger canvas raises the
# bits of *places* and *full* and leaves the others; more classes raise all but *places*. Annotators err,
# and err differently: chapter 6 has a likelihood for wrong counts. What carries over is the way to ask:
# *compare labels at equal images, at equal bits and at equal hours, and say which of the three you
# pay for*.
#
# All records again: `.venv/bin/python -m wsl_tutorial.reproduce run 'worth/*-30' 'worth/*-100' 'worth/*-300'
# 'worth/*-1000' 'worth/*-3000' --protocol short`; on a GPU `run 'worth/*' --protocol paper`.
#
# ## Exercises
#
# **1, by hand and code.** Change the observer: it only says whether there is a 7. Give the bits of
# its answer, for `k` the least and greatest number of digits. The attempt forgets that a canvas
# may hold more than one digit.


# %%
def seven_bits(k):
    p = 1 / 10
    return -p * math.log2(p) - (1 - p) * math.log2(1 - p)


check.attempt(check.seven_bits, seven_bits)

# %% [markdown]
# **2, code.** The likelihood of that observer: `log_p` `(B, C+1, N)`, the class `label`, and `seen`
# bool `(B,)`. The attempt loses all digits where the label is improbable.


# %%
def any_of(log_p, label, seen):
    missing = (1 - log_p[:, label].exp()).log().sum(1)
    return torch.where(seen, (1 - missing.exp()).log(), missing)


check.attempt(check.any_of, any_of)

# %% [markdown]
# **3, code.** How many pairs of cells of a square of `cells` x `cells` are at least `apart` rows or
# columns from each other? Find a formula without a loop over pairs; the attempt counts all pairs.


# %%
def pairs(cells, apart):
    n = cells**2
    return n * (n - 1) // 2


check.attempt(check.pairs_apart, pairs)

# %% [markdown]
# **4, code.** At how many seconds a click do *full* and *counts* tell equally many bits a second?
# Given are their bits, the seconds of a counts label, and the clicks of a full one. The attempt
# charges the clicks alone.


# %%
def break_even(bits_counts, bits_full, seconds_counts, clicks):
    return bits_full / bits_counts * seconds_counts / clicks


check.attempt(check.break_even, break_even)

# %% [markdown]
# **5, by hand.** The observer tells the *number* of digits and nothing else. Give its bits for $K$
# uniform on 0 to 3. Which of *reading* and *found* can a network learn from it, and why?
#
# **6, explain to a colleague.** Your colleague has 2,000 photographs and ten hours of an annotator. In
# three sentences, say which three numbers you would measure before you choose between image
# classes, points and boxes.
#
# ## Further reading
#
# - [Bearman, Russakovsky, Ferrari and Fei-Fei (2016)](https://arxiv.org/abs/1506.02106), *What's the
#   point: semantic segmentation with point supervision*: labels compared at equal hours.
# - [Papadopoulos, Uijlings, Keller and Ferrari (2017)](https://arxiv.org/abs/1708.02750), *Extreme
#   clicking for efficient object annotation*.
# - Cover and Thomas, *Elements of information theory*, chapter 2: entropy, and why a function of $h$
#   cannot tell more than $h$.
