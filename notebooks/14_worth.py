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
# After this page you can compare the labels of this book on one scale: compute how many bits a
# label carries, what it costs to make, and how much a network learns from it. You need the
# likelihoods of [chapter 1](01_presence_likelihood.ipynb) and [chapter
# 5](05_counts_likelihood.ipynb), and the lifting of [chapter 8](08_patches_lifting.ipynb). The page
# runs in under a minute on one CPU core. It trains six small networks; the large comparison comes
# from records.
#
# ## Problem
#
# You have a budget for labels and can choose which kind to buy. Papers on weak supervision compare
# methods *on the same labels*. They seldom compare labels, since each paper has its own data,
# network and measure. Here all of these are the same, and only the labels differ.
#
# ## What is hidden
#
# A canvas contains $K$ digits, where $K$ is 0, 1, 2 or 3 with equal probability. The network of
# [chapter 3](03_presence_learning.ipynb) looks at the canvas through windows two pixels apart, the
# *cells*. Each digit lies on a cell. **Assume that all choices of $K$ cells that keep a least
# distance are equally probable, and that each digit is of any of $C = 10$ classes, independently.**
# The hidden variables are the classes of all cells; most cells are empty, $\phi$. The canvases also
# contain pieces of digits, so ink alone does not show where a digit is.

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
# digits on a canvas; cells a side; least distance in cells
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
# | *class* | one class for the whole image: its largest digit, or "none" | regions, 11 to 13 |
# | *presence* | which digits occur | 1 to 4 |
# | *counts* | how many of each | 5 to 7 |
# | *patches* | the same counts, for a learner that commits itself to $K$ places | 8 to 10 |
# | *places* | the cells with a digit, but not which digit | none: a control |
# | *full* | the cells, and the digit on each | full supervision |
#
# In *class*, as in the chapters on regions, a part of the image decides: the largest digit.
# *Patches* has the same labels as *counts*, since $K$ is the sum of the counts. Only the learner
# differs: it does not sum over all possible places but selects $K$ of them and moves them. So this
# pair compares two *methods* on equal labels.


# %%
def told(i):
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
labels = [told(i) for i in range(3)]
rows = [
    (o, *map(str, seen))
    for o, *seen in zip(worth.OBSERVERS, *labels, strict=True)
]
head = ("observer", *(f"canvas {i}" for i in range(3)))
show.Markdown(tables.grid(head, rows))

# %% [markdown]
# The table shows the labels of the first three canvases. A place is the number of a cell.
#
# ## Derivation
#
# ### The bits of a label
#
# Let $o$ be the label and $P(o)$ its probability. Then observing $o$ carries $-\log_2 P(o)$ bits,
# the length of its word in the best code. The mean over labels is the *entropy*
#
# $$ H(o) = - \sum_o P(o) \log_2 P(o) . \tag{14.1} $$
#
# Every label is a function of the hidden $h$. So $P(o, h) = P(h)$, and $H(h) = H(o) + H(h \mid o)$.
# The last term, what the label leaves open, is never negative: a coarser label never carries more
# bits. The image plays no role here. The bits are a price, known before any learning.
#
# **The largest digit.** Each of $K$ digits is at most $m$ with probability $(m + 1)/10$,
# independently. With $P(K) = 1/4$ for our four numbers of digits,
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
# **The counts.** $K$ digits in a row have $C^K$ equally probable sequences, and
# $K! / \prod_c y_c!$ of them have the counts $y$:
#
# $$ P(y) = P(K) \, \frac{K!}{\prod_c y_c!} \, C^{-K} , \qquad K = \sum_c y_c . \tag{14.4} $$
#
# **Places.** Let $N_K$ be the number of sets of $K$ cells that keep their distance. Given $K$ all
# are equally probable, so a set carries $\log_2 N_K$ bits, and each digit on it $\log_2 C$ more:
#
# $$ H(\text{places}) = H(K) + \mathbb{E} \log_2 N_K , \qquad H(\text{full}) = H(\text{places}) + \mathbb{E} K \log_2 C . \tag{14.5} $$
#
# We check $N_K$ on a small square by enumerating all sets.

# %% tags=["hide-input"]
from itertools import combinations, product


def keeps_distance(cells, apart):
    pairs = combinations(cells, 2)
    return all(max(abs(a - c), abs(b - d)) >= apart for (a, b), (c, d) in pairs)


# %% tags=["hide-input"]
square = list(product(range(4), repeat=2))
for n in range(4):
    by_hand = sum(keeps_distance(s, 2) for s in combinations(square, n))
    assert by_hand == worth.choices(4, 2, n)
    ours = worth.choices(CELLS, APART, n)
    print(f"{n} of 4 x 4 cells, two apart: {by_hand}; ours: {ours}")

# %% [markdown]
# The table shows the bits of each label, and their share of the bits of full supervision.

# %% tags=["hide-input"]
BITS = {o: worth.bits(o, K, CELLS, APART) for o in worth.OBSERVERS}
rows = [(o, f"{b:.2f}", f"{b / BITS['full']:.0%}") for o, b in BITS.items()]
show.Markdown(tables.grid(("observer", "bits an image", "share of full"), rows))

# %% [markdown]
# Most of a full label is *where*: the places alone carry more than half of its bits. Set and counts
# differ little, because digits on one canvas are seldom equal. If labels were worth their bits, one
# fully labelled canvas would replace nearly five with a class.
#
# ### The likelihoods
#
# For a fair comparison all observers have the same loss, the negative exact log-likelihood of the
# label. **Assume, as in chapter 1, that the cells are independent given the image**, with
# log-probabilities `log_p` `(B, C+1, *positions)`. The likelihood of *presence* is that of chapter
# 1; *places* and *full* are products over the cells. Two are new.
#
# The largest digit is at most $m$ if no cell contains a larger one. In the notation of (1.1) this
# is $\alpha$ of the set $\{0, \ldots, m, \phi\}$, written $\alpha_{\le m}$. Hence
#
# $$ \log P(\max = m \mid X) = \log \alpha_{\le m} + \log \bigl( 1 - e^{\log \alpha_{\le m - 1} - \log \alpha_{\le m}} \bigr) . \tag{14.6} $$
#
# The exponent is a sum over cells of $\log (1 - \rho_j)$, where $\rho_j$ is the share of $m$ in the
# mass of $\{0, \ldots, m, \phi\}$. The code uses `log1p`, then `expm1`, and where the $\rho_j$
# underflow the logarithm of their sum. "None" is $\alpha_{\le -1}$: every cell is $\phi$.
#
# For the counts, chapter 5 has a recursion with one step for each instance. Our instances are a
# hundred or two cells, but only $K \le 3$ of them contain a digit. Number the observed digits $1,
# \ldots, K$. For a part $A$ of the canvas, place the digits of a subset $S$ on distinct cells of
# $A$, multiply the probabilities of all its cells, and sum over the ways to do this: $f_A(S)$. A
# single cell has $f(\emptyset) = p_\phi$ and $f(\{k\}) = p_{c_k}$. Two disjoint parts are joined by
#
# $$ f_{A \cup B}(S) = \sum_{T \subseteq S} f_A(T) \, f_B(S \setminus T) , \qquad P(y \mid X) = \frac{f_{\text{all}}(\{1, \ldots, K\})}{\prod_c y_c!} . \tag{14.7} $$
#
# The division removes the orders of equal digits. Cells are joined in pairs, pairs in pairs, and so
# on: eight rounds for 196 cells, for all canvases at once, in log space.

# %% [markdown]
# ## Code


# %%
def log_counts(log_p, told):
    """Compute (14.7) for one canvas: log_p (C+1, N), told: its digits."""
    K = len(told)
    f = torch.full(
        (log_p.shape[1], 2**K), -torch.inf, dtype=log_p.dtype
    )  # (N, subsets)
    f[:, 0] = log_p[-1]
    for k, c in enumerate(told):
        f[:, 2**k] = log_p[c]
    while len(f) > 1:
        a, b = f[: len(f) // 2], f[len(f) // 2 : len(f) // 2 * 2]
        splits = [[t for t in range(S + 1) if t & S == t] for S in range(2**K)]
        joined = [
            torch.logsumexp(a[:, T] + b[:, [S ^ t for t in T]], 1)
            for S, T in enumerate(splits)
        ]
        f = torch.cat([torch.stack(joined, 1), f[len(f) // 2 * 2 :]])
    orders = math.prod(math.factorial(told.count(c)) for c in set(told))
    return f[0, -1] - math.log(orders)


# %%
g = torch.Generator().manual_seed(1)
log_p = torch.randn(1, 11, 5, 5, generator=g, dtype=torch.float64).log_softmax(
    1
)
told_digits = [7, 2, 7]
ours = log_counts(log_p[0].flatten(1), told_digits)
package = worth.log_likelihood_counts(log_p, torch.tensor([told_digits]))[0]
y = torch.tensor([[0, 0, 1, 0, 0, 0, 0, 2, 0, 0, 22]])
chapter_5 = counts.log_likelihood_multiclass(log_p.flatten(2).mT, y)[0]
print(f"{ours:.10f} {package:.10f} {chapter_5:.10f}")

# %% [markdown]
# The package and chapter 5 agree with it. The coarser the label, the more probable it is, whatever
# the network predicts. The next cell compares the labels of one canvas.

# %% tags=["hide-input"]
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
# A loss in bits can be compared with $H(o)$. A learner that knew the distribution of the labels and
# ignored the image would pay $H(o)$ per test image. (Our networks cannot do quite this: with
# independent cells the best distribution of $K$ costs at least 0.16 bits more.) If the mean loss
# over all images is $b < H(o)$, the network explains $H(o) - b$ bits from the image. This is a
# lower bound of the mutual information $I(o; X)$, since no code beats the true $P(o \mid X)$. A
# mean over $n$ test images has a standard error, for counts about $2.9 / \sqrt n$ bits: 0.14 with
# 400 images.
#
# ## Picture
#
# We train the network six times, on the same 500 canvases of small digits and for the same number
# of steps, with the code of the recorded experiments below.

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
# The figure shows their maps of one test canvas. Every cell shows its most probable class, or a dot
# if it is empty.

# %%
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
    " six networks, each with a letter where the network sees a digit and a"
    " dot elsewhere. They were trained with the labels of the six observers.",
)

# %% [markdown]
# Each network finds digits, but not all networks know their names. We measure three rates on all
# test canvases. *Reading*: the right class is the most probable digit at the true place or one of
# its eight neighbours. *Found*: the network points at as many places as there are digits, and one
# of them is nearer to the digit than half the least distance. *Both*: the class at this place is
# also right. The last columns are in bits.

# %% tags=["nbval-ignore-output"]
rows = []
for observer, model in STUDENTS.items():
    scores = methods.measures(CONFIGS[observer], model, test)
    shares = [f"{scores[m]:.0f}" for m in ("reading", "found", "both")]
    left = scores.get("bits")
    paid = ("-", "-")
    if left is not None:
        paid = (f"{left:.2f}", f"{BITS[observer] - left:.2f}")
    rows.append((observer, *shares, f"{BITS[observer]:.2f}", *paid))
head = ("reading, %", "found, %", "both, %", "H(o)", "paid", "explained")
show.Markdown(tables.grid(("observer", *head), rows))

# %% [markdown]
# Compare *found* and *explained* with the labels. Four of the six observers never mention a place.
# What their networks know of places comes from the images: a digit explains the label wherever it
# lies. (The map of the lifting is no probability, so it has no bits.)
#
# ## When it breaks
#
# ### A name that nobody contradicts
#
# Suppose no canvas is empty. Take any network and exchange the probabilities of $\phi$ and of 0 in
# every cell. For the observer *class* nothing changes if the largest digit is 1 or more, since both
# $\alpha$ of (14.6) contain both. If it is 0, almost nothing changes: the exchanged network must
# only not call *all* cells empty. Only the label "none" distinguishes the two networks.


# %%
def exchanged(log_p):
    """Exchange the probabilities of 0 and of empty."""
    return log_p[:, [10, *range(1, 10), 0]]


# %%
both = torch.cat([log_p, exchanged(log_p)])
for m in (-1, 0, 1, 5):
    a, b = worth.log_likelihood_class(both, torch.tensor([m, m])).tolist()
    print(f"greatest {m:2d}: {a:.4f} and {b:.4f}")

# %%
for k in ((1, 3), (0, 3)):
    share = worth.class_law(k)[0]
    print(f"{k[0]} to {k[1]} digits: {share:.0%} of the canvases are empty")

# %% [markdown]
# If every canvas has a digit, no label contradicts a network that calls its background 0: the
# labels do not identify what we want to read. With empty canvases a quarter of the labels
# contradict it. So for a learner from image classes, an image *without* the object is worth more
# than its bits. This is why $K$ starts at 0 here.
#
# ### Bits that cannot be used
#
# *Places* carries more bits than the four observers above it in the table. Yet it never names a
# class, so no number of labels teaches its network to read: the likelihood does not depend on the
# class that the network puts on a digit. Bits measure how much is observed, not whether it is what
# you want to know. The reverse is the hope of weak supervision: you can learn what was never
# observed.
#
# ### Sums and picks
#
# *Counts* and *patches* have the same labels. The sum over all placements gives every cell a
# gradient from the first step. The lifting gets its gradient only at the $K$ places it selected,
# and learns from errors while these lie on pieces of digits. But it needs no likelihood over cells,
# so places can be anywhere and of any size (chapter 8).
#
# ## Reproduction
#
# No paper has this table. The records cover the six observers with 30 to 3,000 canvases of MNIST
# (protocol *short*: half the size, one CPU core; protocol *paper*: full size, on a GPU, up to
# 30,000). Network, steps and learning rate are the same for all.

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
# Bits are a price in information, but an annotator is paid by the hour. **Assume that a label takes
# the time to look at the image, to name its classes, and to click on its places**, one after the
# other:
#
# $$ t(o) = t_\text{look} + t_\text{name} \, \mathbb{E}[\text{names}] + t_\text{click} \, \mathbb{E}[\text{clicks}] . \tag{14.8} $$
#
# *Class* needs one name, *presence* one for each class that occurs, *counts* and *full* one for
# each digit; *places* and *full* need one click for each digit. We take one second for a name and
# 2.4 for a click: on photographs with twenty classes, [Bearman et al.
# (2016)](https://arxiv.org/abs/1506.02106) measured one second to decide whether a class occurs and
# 2.4 for the first click on an object. The second for looking is our assumption. A box took 7
# seconds by its four extreme points ([Papadopoulos et al. 2017](https://arxiv.org/abs/1708.02750)).
# In the demo below you can change the seconds.
#
# <div class="demo" data-demo="worth">On the web page stand sliders for the seconds that an annotator takes to look, to name and to click, and for the numbers of digits and classes. A table shows the bits, the seconds and the bits a second of the six observers. Without JavaScript, change the seconds below and run the cells again.</div>

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
# By this model, on a canvas of this size, *full* gives the most bits a second: a click is slow, but
# carries many bits. Whether it is also the best use of an hour, only the records can show.
#
# ### One score, three prices
#
# The next figure draws the share of digits found and read against the number of images, against the
# bits of their labels, and against the hours of labelling. A curve further left is cheaper.


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
    "bits told": PRICE,
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
    " labels of six observers, against the number of images, the bits told,"
    f" and the hours of labelling, each on a logarithmic axis ({named}).",
)

# %% [markdown]
# The next figure separates the two parts of the score: reading at the true places on the left,
# localisation on the right, by images, bits and hours. On the right, remember that only *places*
# and *full* have labels with places.

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
    " right, against the number of labelled images, the bits told and the"
    f" hours of labelling, from the top, for six observers ({named}). A dashed"
    " line marks chance for reading.",
)

# %% [markdown]
# Read down a column. Where two curves change places from one row to the next, the price decides
# between the two labels, not the learning.
#
# ### The exchange rate
#
# Let $n_o(a)$ be the number of images at which the curve of observer $o$ reaches the score $a$,
# interpolated linearly in $\log n$. One weak label is worth
#
# $$ w_o(a) = \frac{n_{\text{full}}(a)}{n_o(a)} \tag{14.9} $$
#
# full labels. The rate depends on the level. All observers of one seed label the same canvases, so
# each seed has its own $w$. We print the smallest and the largest, and beside them the ratios of
# bits $H(o) / H(\text{full})$ and of seconds $t(o) / t(\text{full})$. If $w$ exceeds the ratio of
# seconds, an hour of weak labels beats an hour of full ones.

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
    """Return (14.9) of every seed: the worth of a weak label in full ones."""
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
show.Markdown(f"In full labels, seed by seed; {named}\n\n{grid}")

# %% [markdown]
# *0* means that the observer does not reach the level with the available images. *Not known* means
# that the curve of full supervision lies above the level, or below it, for all numbers of images.
#
# The next table shows the prices themselves. A *<* means that the seeds agree on the order: all of
# them pay less on its left. (The ranges of two equal observers with two seeds each are disjoint by
# chance in a third of all cases.) Where *~* joins two names their ranges overlap, and the records
# do not show which is cheaper.


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
head = ("level", "price", "cheapest first", "above it with the fewest images")
show.Markdown(f"{named}\n\n" + tables.grid(head, rows))

# %% [markdown]
# *Never* is a seed that does not reach the level. Curves in the last column start above it, so
# their price is unknown, but lower than that of their first record.
#
# ### So, what is it worth?
#
# From the same records we compare an hour of weak labels with an hour of full ones, at every known
# level and in every seed. If only some seeds of an observer are known at a level, it is undecided.
# We also give the remaining difference with the most images, with the half-width of its interval at
# 5 % (Welch's t). **Assume that the seeds are independent.** If two observers were equal, all $s$
# seeds would agree on the better one at one level with probability $2 / 2^s$, and at several levels
# no more often. Two seeds estimate their own spread badly: their half-width is at least 4.3
# standard errors.


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
lines = [
    f"An hour of labels leads {word} than an hour of full ones: {listed[word]}."
    for word in ("further", "less far")
]
lines.append(f"Undecided by these seeds: {listed['undecided']}.")
for o in ("presence", "counts"):
    n, lead = last(o)
    lines.append(
        f"With {n:,} images, full labels against *{o}*, found and read: {lead}."
    )
chance = 2 / 2 ** len(SEEDS) if SEEDS else math.nan
lines.append(
    f"By chance, seeds agree on two equal observers in {chance:.0%}; {named}."
)
show.Markdown("\n".join(f"- {line}" for line in lines))

# %% [markdown]
# The last table shows how many bits of the label the networks explain on new canvases. The whole
# label has $H(o)$ bits.

# %% tags=["hide-input"]
rows = []
for o in worth.OBSERVERS:
    points = {n: mean for n, mean, _ in curve(o, "bits")}
    left = (points.get(n, math.nan) for n in NUMBERS)
    told_bits = (f"{PRICE[o] - x:.2f}" for x in left)
    texts = (x.replace("nan", "not known") for x in told_bits)
    rows.append((o, f"{PRICE[o]:.2f}", *texts))
head = ("explained bits", "H(o)", *(f"{n:,}" for n in NUMBERS))
grid = tables.grid(head, rows)
show.Markdown(f"{named}; a number below 0 is overconfidence\n\n{grid}")

# %% [markdown]
# ### Claims
#
# These sentences are tests beside the experiments, with their exact reading in brackets, so they
# can fail. Short runs agree or disagree; they give no verdict.

# %%
show.Markdown(tables.claims(PAPER, HELD))

# %% [markdown]
# ### What this does and does not say
#
# The comparison has one world, one network, one learning rate for all observers, and labels without
# errors. The network starts with a bias set from the mean number of digits, and at test it knows
# the number of digits. A larger canvas raises the bits of *places* and *full* only; more classes
# raise all but *places*. The method carries over: *compare labels at equal images, at equal bits
# and at equal hours, and say which of the three you pay for*.
#
# To make all records again: `.venv/bin/python -m wsl_tutorial.reproduce run 'worth/*-30'
# 'worth/*-100' 'worth/*-300' 'worth/*-1000' 'worth/*-3000' --protocol short`; on a GPU `run
# 'worth/*' --protocol paper`.
#
# ## Exercises
#
# **1, by hand and code.** Change the observer: it only says whether there is a 7. Give the bits of
# its answer, for `k` the smallest and largest number of digits. The attempt forgets that a canvas
# may contain more than one digit.


# %%
def seven_bits(k):
    p = 1 / 10
    return -p * math.log2(p) - (1 - p) * math.log2(1 - p)


check.attempt(check.seven_bits, seven_bits)

# %% [markdown]
# **2, code.** Write the likelihood of that observer for `log_p` `(B, C+1, N)`, the class `label`,
# and `seen`, bool `(B,)`. The attempt loses all digits where the label is improbable.


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
# **4, code.** At how many seconds a click do *full* and *counts* carry equally many bits a second?
# Given are their bits, the seconds of a counts label, and the clicks of a full one. The attempt
# charges the clicks alone.


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
# - [Bearman, Russakovsky, Ferrari and Fei-Fei (2016)](https://arxiv.org/abs/1506.02106), *What's the
#   point: semantic segmentation with point supervision*: labels compared at equal hours.
# - [Papadopoulos, Uijlings, Keller and Ferrari (2017)](https://arxiv.org/abs/1708.02750), *Extreme
#   clicking for efficient object annotation*.
# - Cover and Thomas, *Elements of information theory*, chapter 2: entropy, and why a function of $h$
#   cannot carry more information than $h$.
