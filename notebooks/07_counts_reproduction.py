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
# # Counts: the reproduction
#
# After this page you can judge a paper that prints curves instead of numbers: say what an epoch
# costs and what of it is the method's, find out how far a wobbling curve flatters "half the
# epochs", and tell "statistically indistinguishable" from "equal". You need [chapter
# 6](06_counts_learning.ipynb), and the *verdict* and the *protocols* of [chapter
# 4](04_presence_reproduction.ipynb). The page runs in twenty seconds on one CPU core. It trains
# nothing: what was trained is read from records.
#
# ## Problem
#
# [Baručić and Kybic (2022), *Fast learning from label proportions with small
# bags*](https://arxiv.org/abs/2110.03426), compare four learners: *supervised*, which sees the
# labels of all instances; DLLP, the proportion loss (6.1);
# [LLP-GAN](https://arxiv.org/abs/1909.02180), a generative adversarial network with that loss; and
# *MLE-LLP*, the EM of [chapter 6](06_counts_learning.ipynb). How much of the comparison is numbers?

# %%
import math
import statistics
import tempfile
from pathlib import Path

import torch
from scipy import stats
from torch.utils.flop_counter import FlopCounterMode

from wsl_tutorial import check, show
from wsl_tutorial.data import bags, groups
from wsl_tutorial.reproduce import records, tables
from wsl_tutorial.reproduce.counts import PAPER, claims, experiments, methods, networks, page

show.style()

# %%
show.Markdown(page.rows_by_place())

# %% [markdown]
# Of the accuracies none is printed. What can be held against us is eight durations, "about half the
# number of epochs" for two data sets, and sentences about who is ahead of whom. So the object of
# this reproduction is the *claim*, and the question of this page is what it takes to test one.
#
# ## What is hidden
#
# The paper has four pages, and the authors' program holds the method without the experiments. We
# read both for what a run needs to know:
#
# | what a reader asks | the text | the program |
# |---|---|---|
# | Which learning rate, which batch? | "best hyper-parameters discovered through grid-search" | an example with 1e-4 and 16 instances |
# | Which grid, and chosen on what? | not said; no validation set is named | not there |
# | How many epochs? | until the likelihood changes by less than 1e-4 | a fixed number |
# | How strong are flips, blur and colour changes? | not said | flips alone |
# | How many bags of birds and cats? | not said for section 3.2; 1,250 or more in section 3.3 | not there |
# | How is a face cut out? | rescaled to 96 x 120 | not there |
# | Which test stands behind "statistically indistinguishable"? | not said | not there |
# | Is ResNet-18 pretrained, does it normalise batches? | not said | random weights, no normalisation |
#
# Where both are silent we had to choose, and each choice is a field of the experiment with its
# source. One choice decides more than all others: the learning rates.
#
# ## Derivation
#
# ### What an epoch costs
#
# Let $F$ be the cost of one forward pass over all training instances. The backward pass forms two
# products of the same size for each layer, one with respect to its input and one with respect to
# its weights, so it costs about $2F$, and an epoch of plain training about $3F$. An E-step needs
# the logits of all instances: one more forward pass, $F$, and then the posteriors. **Assume that
# the posteriors cost nothing beside it**; the recursion of [chapter 5](05_counts_likelihood.ipynb)
# makes this true. With an E-step every $k$ epochs, an epoch of EM costs, in epochs of plain
# training,
#
# $$ \frac{3F + F/k}{3F} = 1 + \frac{1}{3k} . $$
#
# For the paper's $k = 1$ that is $4/3$. We let PyTorch count the operations of the paper's network,
# then look what Table 1 says.

# %%
network = networks.discriminator(torch.Generator().manual_seed(0), dropout=(0.0, 0.0, 0.0))
images = torch.rand(16, 3, 32, 32, generator=torch.Generator().manual_seed(1))


# %%
def operations(work):
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


# %%
forward = operations(lambda: network(images))
both = operations(lambda: network(images).sum().backward())
print(f"forward and backward: {both / forward:.2f} forward passes")

# %%
show.Markdown(page.table_1())

# %% [markdown]
# The *E-step* column is the difference of MLE-LLP and supervised learning, which take the same
# training steps if the grid gave both one batch size; the paper does not print it. On both data
# sets it exceeds a forward pass. The paper blames the small images of CIFAR for a noticeable
# E-step. By its own table MLE-LLP takes 1.70 supervised epochs on the group photos and 1.53 on
# CIFAR, so the E-step weighs *more* on the photos. What differs is DLLP, which is slow there. Why?
# The paper does not say how many bags DLLP takes a step. One, the usual form, would explain it: the
# photos have four faces a bag where the birds and cats have seven instances. Then "the duration of
# one epoch of MLE-LLP and DLLP is generally comparable" compares steps of different sizes. A fair
# competitor takes several bags a step, and against it EM has to pay for its extra pass.
#
# Unless it makes none. Two forms of the algorithm use logits that the training steps compute
# anyway:
#
# - *direct ascent* on the likelihood, an E-step in every step, where whole bags fit into a step;
# - *reuse*: keep the logit of each instance from the step that used it, and take the posteriors of
#   the next epoch from these. They are stale by up to an epoch and belong to augmented images; they
#   cost nothing, and bags need not fit.
#
# `tests/benchmarks/counts_speed.py` measures both, and the records below hold seconds of each.
#
# ### Epochs to the final accuracy
#
# "Reaching the final accuracy in about half the number of epochs" needs a reading. Let $a_t$ be the
# test accuracy after epoch $t$, and $\bar a$ the final accuracy, the mean over the last tenth of
# the epochs (no fewer than three). We read *reaching* as
#
# $$ T = \min \{ t : a_t \geq 0.99 \, \bar a \} , \tag{7.1} $$
#
# and compare the $T$ of two methods on the same split. (7.1) is a *first passage*, and a curve that
# wobbles passes early by luck. Let $m_t$ be the smooth course of the accuracy and
# $a_t = m_t + \sigma z_t$. **Assume independent standard normal $z_t$.** Not having passed before
# $t + 1$ means $t$ failures in a row, so with the normal distribution function $\Phi$
#
# $$ P(T > t) = \prod_{s=1}^{t} \Phi \! \left( \frac{0.99 \, \bar a - m_s}{\sigma} \right) , \qquad \mathbb{E} \, T = \sum_{t \geq 0} P(T > t) . $$
#
# Take a course that rises from 50 % to 90 % at two speeds, one half of the other.


# %%
def course(rate, epochs=200):
    return 90 - 40 * torch.exp(-torch.arange(1, epochs + 1).double() / rate)  # (epochs,)


# %%
def expected_passage(m, sigma):
    """E T of (7.1) for the course m with independent wobble sigma, in points."""
    failure = torch.special.ndtr((0.99 * 90 - m) / sigma)
    return 1 + failure.cumprod(0).sum().item()


# %%
curve = [{"epoch": t + 1, "accuracy": a} for t, a in enumerate(course(10).tolist())]
assert methods.arrival(curve, final=90) == math.ceil(10 * math.log(40 / 0.9))
assert math.isclose(expected_passage(course(10), 1e-9), methods.arrival(curve, final=90))

# %%
sigmas = [0.01, 0.25, 0.5, 1, 1.5, 2, 3, 4]
slow, fast = ([expected_passage(course(r), s) for s in sigmas] for r in (10, 5))
show.figure(
    page.passages(sigmas, slow, fast),
    alt="The expected number of epochs to the final accuracy against the wobble between epochs, for"
    " a slow and a fast course. Both fall from the first: a wobble of two points takes more than a"
    " quarter of the slow course's epochs away.",
)

# %%
steady = fast[sigmas.index(0.5)]
for sigma in (0.5, 2, 4):
    ratio = steady / slow[sigmas.index(sigma)]
    print(f"fast with σ = 0.5, slow with σ = {sigma:g}: the ratio of epochs is {ratio:.2f}")

# %% [markdown]
# The fast course needs half the epochs of the slow one by construction. If it is also the steadier
# one (the paper says that the variance of MLE-LLP "during training" is smaller, which may mean this
# or the spread over the splits), its advantage shrinks under (7.1), as the ratios show: the wobble
# *flatters* DLLP. A ratio of $T$ is only as good as the likeness of the two wobbles, so the table
# below prints them side by side.
#
# ### Indistinguishable
#
# Let $d_k$ be the accuracy of MLE-LLP minus that of DLLP on split $k$ of $K$, with the mean $\bar
# d$ and the sample standard deviation $s$. All methods share the splits, so the *paired* $t$-test
# applies: a hard test set lowers both accuracies and leaves $d_k$ alone. But random splits share
# bags. Let $q$ be the part of all bags on which a split tests. **Assume that a split's gap is the
# mean of one number for each of its $n$ test bags, drawn independently with variance $\sigma^2$**,
# so that networks differ between bags and not between splits. A bag of split $k$ is in split $l$
# with probability $q$, therefore
#
# $$ \mathrm{Var}(d_k) = \frac{\sigma^2}{n} , \qquad \mathrm{Cov}(d_k, d_l) = q \, \frac{\sigma^2}{n} , \qquad \mathrm{Var}(\bar d) = \frac{\sigma^2}{n} \left( \frac{1}{K} + \frac{K - 1}{K} q \right) . $$
#
# The sample variance of equally correlated numbers has the expectation
# $\mathbb{E} \, s^2 = (1 - q) \, \sigma^2 / n$. Divide, and $\sigma$ and $n$ cancel:
# $\mathrm{Var}(\bar d) / \mathbb{E} \, s^2 = 1/K + q/(1 - q)$. The test statistic is
#
# $$ t = \frac{\bar d}{s \sqrt{1/K + q/(1 - q)}} , \tag{7.2} $$
#
# to be looked up with $K - 1$ degrees of freedom. With $q = 0$ it is the textbook's. Where all
# other bags train, $q / (1 - q)$ is the ratio of test bags to training bags, and this is the
# *corrected resampled $t$-test* of [Nadeau and Bengio
# (2003)](https://doi.org/10.1023/A:1024068626366). (Protocol `short` trains on fewer. There (7.2)
# corrects for the shared test bags only, and their ratio would be greater.) Does it matter? We
# invent 300 data sets on which the two methods are equally good, split each ten times, and count
# how often the test sees a difference at the level 0.05.


# %%
def rejected(share, q=0.2, K=10, N=1430, draws=300):
    """How often p < 0.05 where the true gap is 0, correcting for `share`."""
    generator, times = torch.Generator().manual_seed(2), 0
    for _ in range(draws):
        bag = torch.randn(N, generator=generator)  # one number a bag
        tested = torch.rand(K, N, generator=generator).argsort(1)[:, : int(q * N)]
        times += claims.p_value(bag[tested].mean(1).tolist(), share) < 0.05
    return times / draws


# %%
for share in (0.0, 0.2):
    floor = stats.t.ppf(0.975, 9) * math.sqrt(1 / 10 + share / (1 - share))
    print(f"share {share}: {rejected(share):.0%} false alarms; sees gaps from {floor:.2f} s on")

# %% [markdown]
# Taken for independent, ten splits of one data set raise a false alarm several times as often as
# the level promises. Corrected, they keep it. The price is the last number of each line: below 1.34
# standard deviations of $d_k$ no gap can be seen. *Indistinguishable* means "smaller than that",
# which is a statement about the number of bags as much as about the methods. The claims at the end
# use $q = 0$, the reading that is hardest on the paper's sentence; the paired tests before them
# print both.
#
# ### Choosing without labels
#
# A grid search needs a judge. Accuracy on held-out instances needs labels that a learner from
# counts does not have, and accuracy on the test set is not held out. What there is: a fifth of the
# training bags, with their counts. Let $\hat y$ be the number of instances that the network calls
# positive in a bag. We judge by $|\hat y - y|$, the *error of counts*, mean over the held-out bags.
# How much does it know about accuracy? Errors in opposite directions cancel in a bag. The figure
# lets each instance be wrong with the same probability, on its own, in bags of 2 to 12.


# %%
def count_error(wrong, draws=20_000):
    """Mean |predicted - true count| in drawn bags of 2 to 12, each instance wrong on its own."""
    generator = torch.Generator().manual_seed(3)
    sizes = torch.randint(2, 13, (draws,), generator=generator)
    mask = torch.arange(12) < sizes[:, None]  # (draws, 12)
    truth = torch.rand(draws, 12, generator=generator) < 0.5
    guess = truth ^ (torch.rand(draws, 12, generator=generator) < wrong)
    return ((guess & mask).sum(1) - (truth & mask).sum(1)).abs().double().mean().item()


# %%
errors = [e / 20 for e in range(21)]
show.figure(
    page.errors_of_counts(errors, [count_error(e) for e in errors]),
    alt="The mean error of counts against the share of wrong instances, if errors are independent."
    " It rises from zero, steeply at first, and flattens towards one hundred percent, where all"
    " classes are swapped.",
)

# %% [markdown]
# The judge is sharp where the network is good, and blunt where it is bad: errors cancel. But the
# curve rises throughout, so of two networks of this kind the judge prefers the better one. A
# network that gives one answer to everything is off by half a bag on average, 3.5, which is worse
# than any point of the curve. So the grid can be judged from counts, and we do so for all methods
# alike, supervised learning too.
#
# ## Code
#
# A method of this comparison is four words: which loss, how often an E-step, which E-step, how many
# bags a step. All share one loop, one network, one set of splits.

# %%
EXPERIMENTS = {e.name: e for e in PAPER.experiments}
HELD = records.published()
show.Markdown(page.methods_table())

# %% [markdown]
# The settings that the paper says in words, or not at all, with what we took:

# %%
every, differ = page.settings_rows(EXPERIMENTS["llp/cifar-curves"].config)
print(f"{len(every)} settings, {len(differ)} listed")
show.Markdown(tables.grid(("setting", "ours", "the paper", "source"), differ))

# %% [markdown]
# ### What the grid chose
#
# The experiment `llp/choice` trains every method at every point of the grid and keeps one number:
# the error of counts on held-out training bags. The next table is made from its records. The best
# rate of each method is marked, and all other experiments of the same protocol take it.

# %%
table, edge = page.grid_search(HELD)
show.Markdown(table)

# %%
show.Markdown(edge)

# %% [markdown]
# ## Picture
#
# ### The bags
#
# Two laws of bag sizes stand behind all experiments. Birds and cats come in bags of 2 to 12, each
# size equally likely. Of the photos only totals are printed: 1,913 photos of 3,439 men and 4,012
# women, at most 12 a photo. *The photos are not available to us.* They are for non-commercial
# research and have no address that a program may fetch them from. The loader waits for a copy: it
# finds the photos and people that give exactly these three totals, or says that it cannot. As a
# stand-in we bag birds and cats, as many as men and women, by the law that knows nothing but the
# mean and the maximum: the one of greatest entropy, $P(n) \propto c^n$.

# %%
total = groups.PAPER["male"] + groups.PAPER["female"]
laws = {
    "birds and cats": bags.uniform(2, 12),
    "stand-in for the photos": bags.geometric(total / groups.PAPER["bags"], groups.LARGEST),
}
for name, weights in laws.items():
    p, n = weights / weights.sum(), torch.arange(1, len(weights) + 1)
    push = (p / (4 * n - 4))[1:].sum() / p[1:].sum()
    print(f"{name}: mean size {(p * n).sum():.2f}, curvature {push:.3f}")
print(f"chance level of the photos: {100 * groups.PAPER['female'] / total:.1f} %")

# %%
show.figure(
    page.bag_sizes(laws),
    alt="Shares of bag sizes from 1 to 12. Birds and cats: equal from 2 to 12. The stand-in falls"
    " from about a quarter at one instance to nearly nothing at twelve.",
)

# %% [markdown]
# The printed *curvature* is the mean of $1/(4(n - 1))$ over bags of two or more: the push of
# [chapter 6](06_counts_learning.ipynb) in a bag with half positives. A count of a smaller bag says
# more about each instance, and a bag of one is a labelled instance. So if this law is near the
# truth, size alone makes the photos the easier data set for a learner from counts; if its gap to
# supervised learning is wider there, as section 3.3 says, then faces are what is hard.
#
# ### The curves
#
# Now what the paper's Fig. 1 shows: test accuracy by epoch, the mean over the splits, with a band
# of one standard deviation. The right panel is the stand-in, and is no figure of the paper.

# %%
fig, alt, accuracies = page.learning_curves(HELD)
show.figure(fig, alt=alt)

# %%
show.Markdown(accuracies)

# %% [markdown]
# ## When it breaks
#
# ### The plateau
#
# At a constant answer DLLP has no curvature along contrasts, and the likelihood has little
# ([chapter 6](06_counts_learning.ipynb)). A network that falls onto the constant answer can stay
# there for epochs. The error of counts shows it at once, without any label: one answer for all
# instances is off by half a bag on average. The next figure shows every rate of the grid for both methods,
# as the judge sees them.

# %%
fig, alt = page.plateau(HELD)
show.figure(fig, alt=alt)

# %%
show.Markdown(page.on_the_plateau(HELD))

# %% [markdown]
# A comparison of two methods at *one* rate can therefore say anything: at a rate that suits one
# method the other may sit on the plateau. This is why the rates of all methods come from one grid
# with one judge, and why a paper that prints no grid cannot be reproduced to a number.
#
# ### The other differences, and what we do about each
#
# | what | what we do |
# |---|---|
# | no number to hit | claims are tested by rules that stand next to the experiments; the readings in brackets are ours |
# | no printed grid | our own, judged by the counts of held-out training bags, for every method |
# | the stopping rule | a fixed number of epochs; the final accuracy is a mean over the last ones |
# | bags are walked in their order | instances are shuffled over all bags |
# | one bag a step for DLLP and LLP-GAN | the same, and beside it four bags a step, as methods of their own |
# | probabilities clamped at 1e-6, products in float32 | log space; nothing is clamped ([chapter 5](05_counts_likelihood.ipynb)) |
# | LLP-GAN was made for bags of 16 and more | its adversarial part sees 2 to 12 images a step here; one method gives it four bags |
# | the group photos | a loader that checks the three printed totals; until then, a stand-in that fills no row |
#
# ## Reproduction
#
# Everything below is made from records. First the state of all rows of the ledger, by place. A row
# of a curve is judged by the place of its method among the four, each by its strongest evidence.
# Runs at reduced size give no verdict.

# %%
show.Markdown(page.states(HELD))

# %% [markdown]
# ### Table 1: seconds, as ratios
#
# Seconds belong to a machine; ratios to the method, if the machine is not full of overhead. The
# table holds the duration of an epoch over that of DLLP with one bag a step, as we take the paper's
# to be, and over that of DLLP with four.

# %%
show.Markdown(page.seconds(HELD))

# %% [markdown]
# Read the last column for `mle_llp`, `mle_llp_reuse` and `direct`. The first makes a pass of its own
# for the E-step; the other two do not. Steps differ in size too: methods that learn from instances
# take the batch that the grid chose, and larger steps are cheaper for the same images. The benchmark
# of the package takes equal steps for all. There the excess of `mle_llp` over `mle_llp_reuse` is the
# pass, a third of an epoch by the arithmetic above, and the posteriors are less than a hundredth.
#
# ### Epochs, wobble and the paired test
#
# The claims of section 3.2 about speed and likeness rest on three quantities for each method: its
# final accuracy, its $T$ of (7.1), and its wobble, here the standard deviation between neighbouring
# late epochs, over $\sqrt 2$.

# %%
show.Markdown(page.speed(HELD))

# %%
show.Markdown(page.paired_tests(HELD))

# %% [markdown]
# ### Fig. 3: the gap to supervised learning
#
# Section 3.3 trains on 200 to 1,000 bags. A shorter protocol takes a fifth of each. The figure
# shows how many points each learner from counts is behind supervised learning on the same bags.

# %%
fig, alt, gaps = page.behind_supervised(HELD)
show.figure(fig, alt=alt)

# %%
show.Markdown(gaps)

# %% [markdown]
# ### Beyond the paper: variants
#
# When should the E-step come, what does a hard E-step cost, is DLLP better off with several bags a
# step? The variants run on the splits of the curves above, so each has a paired difference to the
# method that it varies. And what are the counts of *test* bags worth, where they are known? *Told*
# is the accuracy of the most probable labelling with the right count, which is the $y$ instances of
# the greatest logits.

# %%
show.Markdown(page.variants(HELD))

# %% [markdown]
# ### Beyond the paper: ten classes
#
# With the counts of all ten classes of CIFAR-10 (a JPEG copy, which fills no row) the likelihood is
# (5.5). The paper's method is for two classes; its likelihood is not.

# %%
fig, alt = page.ten_classes(HELD)
show.figure(fig, alt=alt)

# %% [markdown]
# ### Claims
#
# The sentences of the paper, and below them comparisons of our own, tested by the rule of [chapter
# 4](04_presence_reproduction.ipynb) on the strongest evidence of which all that a claim needs has
# run. Runs at reduced size give no verdict on the paper: a smaller network on fewer bags may answer
# otherwise.

# %%
show.Markdown(tables.claims(PAPER, HELD))

# %% [markdown]
# What does not hold stands in this table in the same type as what does. What differs from the
# paper in the runs of this page, the replaced settings of a smaller protocol among it:

# %%
protocol, named, found = tables.fullest(PAPER, [n for n, e in EXPERIMENTS.items() if e.data], HELD)
notes = tables.deviations(r for runs in found.values() for r in runs)
show.Markdown(f"Deviations, {named}.\n\n{notes}")

# %% [markdown]
# ### Run it yourself
#
# What has not run says why in the tables above. The costs are estimates until a record says better.

# %%
costs = [(f"`{e.name}`", ", ".join(e.data) or "none", e.seeds, e.cost) for e in PAPER.experiments]
show.Markdown(tables.grid(("experiment", "data", "seeds", "cost"), costs))

# %% [markdown]
# The commands below run everything on birds and cats, six runs side by side on one GPU. The grid
# comes first: its choice belongs into the settings before the rest is run. A run stops cleanly
# after its budget of seconds, and the same command goes on where it stopped.
#
# ```bash
# .venv/bin/python -m wsl_tutorial.reproduce run llp/choice --protocol paper --jobs 3 --budget 540 --out runs
# .venv/bin/python -m wsl_tutorial.reproduce run 'llp/cifar*' llp/stand-in-curves --protocol paper \
#     --jobs 6 --budget 540 --out runs
# .venv/bin/python -m wsl_tutorial.reproduce table llp --out runs
# ```
#
# The cell below does one seed of the learning curves from here. Set `FULL = True` on a machine with
# a GPU and the data.

# %%
FULL = False
OUT = Path(tempfile.gettempdir()) / "wsl-runs"
NAME = "llp/cifar-curves"
words = ["run", NAME, "--seeds", "0", "--protocol", "paper", "--out", str(OUT)]
if FULL:
    subprocess.run([sys.executable, "-m", "wsl_tutorial.reproduce", *words], check=True)

# %%
fresh = records.load(OUT / "records.jsonl") if FULL else []
lines = tables.beside(
    EXPERIMENTS[NAME],
    fresh,
    HELD,
    lambda runs: [f"{share:.2f}" for share in experiments.accuracies(runs).values()],
    len(experiments.NAMES),
)
show.Markdown(
    tables.grid(("birds and cats, seed 0, protocol paper", *experiments.NAMES.values()), lines)
)

# %% [markdown]
# ## Exercises
#
# **1, by hand.** An E-step comes every two epochs, and its pass runs without gradients on images
# that need no augmentation. What does an epoch cost in epochs of plain training? From which $k$ on
# does EM cost at most 1.05 epochs, and what do the targets lose by then?
#
# **2, code.** Write (7.1): from a list of accuracies, one an epoch, the first epoch (counted from
# 1) that reaches 99 % of the mean of the last tenth, no fewer than three. The attempt compares with
# the best epoch.


# %%
def arrival(accuracy):
    return next(t for t, a in enumerate(accuracy, 1) if a >= 0.99 * max(accuracy))


check.attempt(check.arrival, arrival)

# %% [markdown]
# **3, code.** Write the statistic of (7.2) from the list of gaps and the share $q$. The attempt is
# the textbook's.


# %%
def resampled_t(gaps, share):
    sd = statistics.stdev(gaps)
    return statistics.fmean(gaps) / (sd / math.sqrt(len(gaps)))


check.attempt(check.resampled_t, resampled_t)

# %% [markdown]
# **4, code.** Write the judge of the grid: `logits` `(B, n)`, `counts` `(B,)` and `mask` `(B, n)`
# to the mean over the bags of $|\hat y - y|$. The attempt forgets something.


# %%
def error_of_counts(logits, counts, mask):
    predicted = (logits >= 0).sum(1)
    return (predicted - counts).abs().double().mean()


check.attempt(check.error_of_counts, error_of_counts)

# %% [markdown]
# **5, change the judge.** Replace the error of counts by the mean log-likelihood (5.3) of the
# held-out counts. Which of the methods would this judge favour at equal accuracy, and why? Think of
# what DLLP asks of a single $\rho_i$.
#
# **6, explain to a colleague.** Your colleague has trained two learners on ten random splits of one
# data set, finds $p = 0.03$ in a paired $t$-test, and wants to write "significantly better".
# Explain in a few sentences what the ten splits have in common, and what else he could do with the
# same computing time.
#
# ## Further reading
#
# - [Baručić and Kybic (2022)](https://arxiv.org/abs/2110.03426), section 3: the experiments.
# - [Reproductions](../book/reproductions-counts.md): every row of this paper with its state, and
#   [errata and remarks](../book/errata.md): what we noticed on the way.
# - [Nadeau and Bengio (2003)](https://doi.org/10.1023/A:1024068626366), *Inference for the
#   generalization error*: the correction (7.2), and when it is too careful.
# - [Dietterich (1998)](https://doi.org/10.1162/089976698300017197), *Approximate statistical tests
#   for comparing supervised classification learning algorithms*: false alarms of resampled tests.
# - [Neal and Hinton (1998)](https://doi.org/10.1007/978-94-011-5014-9_12), *A view of the EM algorithm
#   that justifies incremental, sparse, and other variants*: why posteriors that are renewed now
#   and then still climb. *Reuse* mixes logits of different steps and has no such proof.
# - [Gulrajani and Lopez-Paz (2020)](https://arxiv.org/abs/2007.01434), *In search of lost domain
#   generalization*: a table depends on who judges the grid.
