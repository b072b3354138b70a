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
# # Counts: the reproduction
#
# After this page you can judge a paper that prints curves instead of numbers: say what an epoch costs
# and which part of it is due to the method, find out by how much a fluctuating curve favours "half the
# epochs", and distinguish "statistically indistinguishable" from "equal". You need [chapter
# 6](06_counts_learning.ipynb), and the *verdict* and the *protocols* of [chapter
# 4](04_presence_reproduction.ipynb). The page runs in twenty seconds on one CPU core. It trains nothing
# and reads all results of training from records.
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
from wsl_tutorial.reproduce.counts import PAPER, claims, methods, networks, page

show.style()

# %% tags=["hide-input"]
show.Markdown(page.rows_by_place())

# %% [markdown]
# The paper prints no accuracy. The only numbers we can compare with are eight durations and "about half
# the number of epochs" for two data sets; the rest are sentences about which method is better. So this
# page reproduces *claims*, and asks what it takes to test one.
#
# ## What is hidden
#
# The paper has four pages, and the authors' program has the method without the experiments. We read both
# for what a run needs:
#
# | question | the text | the program |
# |---|---|---|
# | Which learning rate, which batch? | "best hyper-parameters discovered through grid-search" | an example with 1e-4 and 16 instances |
# | Which grid, and chosen on what? | not stated; no validation set is named | not there |
# | How many epochs? | until the likelihood changes by less than 1e-4 | a fixed number |
# | How strong are flips, blur and colour changes? | not stated | flips alone |
# | How many bags of birds and cats? | not stated for section 3.2; 1,250 or more in section 3.3 | not there |
# | How is a face cut out? | rescaled to 96 x 120 | not there |
# | Which test is behind "statistically indistinguishable"? | not stated | not there |
# | Is ResNet-18 pretrained, does it normalise batches? | not stated | random weights, no normalisation |
#
# Where both are silent we had to choose. One choice matters more than all others: the learning rates.
#
# ## Derivation
#
# ### What an epoch costs
#
# Let $F$ be the cost of one forward pass over all training instances. The backward pass computes two
# products of the same size for each layer, one with respect to its input and one with respect to its
# weights, so it costs about $2F$, and an epoch of plain training about $3F$. An E-step needs the logits of
# all instances, one more forward pass $F$, and then the posteriors. **Assume that the posteriors cost
# nothing in comparison**; the recursion of [chapter 5](05_counts_likelihood.ipynb) makes this true. With
# an E-step every $k$ epochs, an epoch of EM costs, in epochs of plain training,
#
# $$ \frac{3F + F/k}{3F} = 1 + \frac{1}{3k} . $$
#
# For the paper's $k = 1$ that is $4/3$. PyTorch counts the operations of the paper's network; the table
# below it is made from the paper's Table 1.

# %%
generator = torch.Generator().manual_seed(0)
network = networks.discriminator(generator, dropout=(0.0, 0.0, 0.0))
generator = torch.Generator().manual_seed(1)
images = torch.rand(16, 3, 32, 32, generator=generator)


# %%
def operations(work):
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


# %%
forward = operations(lambda: network(images))
both = operations(lambda: network(images).sum().backward())
print(f"forward and backward: {both / forward:.2f} forward passes")

# %% tags=["hide-input"]
show.Markdown(page.table_1())

# %% [markdown]
# The *E-step* column is the difference between MLE-LLP and supervised learning. Both take the same
# training steps if the grid gave them one batch size, which the paper does not print. On both data sets
# this difference exceeds a forward pass. The paper blames the small images of CIFAR for a noticeable
# E-step, but by its own table MLE-LLP takes 1.70 supervised epochs on the group photos and 1.53 on CIFAR,
# so the E-step weighs *more* on the photos. Only DLLP is slow there. One possible reason: if DLLP takes
# one bag a step, its usual form, its steps are smaller on the photos, with four faces a bag against seven
# birds and cats. Then "the duration of one epoch of MLE-LLP and DLLP is generally comparable" compares
# steps of different sizes. A fair competitor takes several bags a step, and EM then has to pay for its
# extra pass.
#
# Two forms of the algorithm make no extra pass, because they use logits that the training steps compute
# anyway:
#
# - *direct ascent* on the likelihood: an E-step in every step, where whole bags fit into a step;
# - *reuse*: keep the logit of each instance from the step that used it, and compute the posteriors of the
#   next epoch from these. The logits are up to one epoch old and belong to augmented images.
#
# `tests/benchmarks/counts_speed.py` measures both; the records below have seconds of each.
#
# ### Epochs to the final accuracy
#
# "Reaching the final accuracy in about half the number of epochs" needs a definition. Let $a_t$ be the
# test accuracy after epoch $t$, and $\bar a$ the final accuracy, the mean over the last tenth of the
# epochs (at least three). We define the number of epochs as
#
# $$ T = \min \{ t : a_t \geq 0.99 \, \bar a \} , \tag{7.1} $$
#
# and compare the $T$ of two methods on the same split. $T$ is a *first passage*, and a fluctuating curve
# passes early by luck. Let $m_t$ be the smooth course of the accuracy and $a_t = m_t + \sigma z_t$.
# **Assume independent standard normal $z_t$.** $T > t$ means that the first $t$ epochs all fail, so with
# the normal distribution function $\Phi$
#
# $$ P(T > t) = \prod_{s=1}^{t} \Phi \! \left( \frac{0.99 \, \bar a - m_s}{\sigma} \right) , \qquad \mathbb{E} \, T = \sum_{t \geq 0} P(T > t) . $$
#
# Take a course that rises from 50 % to 90 % at two speeds, one half of the other.


# %%
def course(rate, epochs=200):
    t = torch.arange(1, epochs + 1).double()
    return 90 - 40 * torch.exp(-t / rate)  # (epochs,)


# %%
def expected_passage(m, sigma):
    """E T of (7.1) for the course m with wobble sigma, in points."""
    failure = torch.special.ndtr((0.99 * 90 - m) / sigma)
    return 1 + failure.cumprod(0).sum().item()


# %% tags=["hide-input"]
slow = list(enumerate(course(10).tolist(), 1))
first = methods.arrival([{"epoch": t, "accuracy": a} for t, a in slow], 90)
assert first == math.ceil(10 * math.log(40 / 0.9))
assert math.isclose(expected_passage(course(10), 1e-9), first)

# %% tags=["hide-input"]
sigmas = [0.01, 0.25, 0.5, 1, 1.5, 2, 3, 4]
slow, fast = ([expected_passage(course(r), s) for s in sigmas] for r in (10, 5))
show.figure(
    page.passages(sigmas, slow, fast),
    alt="The expected number of epochs to the final accuracy against the"
    " wobble between epochs, for a slow and a fast course. Both fall from the"
    " start: a wobble of two points removes more than a quarter of the epochs"
    " of the slow course.",
)

# %% tags=["hide-input"]
steady = fast[sigmas.index(0.5)]
for sigma in (0.5, 2, 4):
    ratio = steady / slow[sigmas.index(sigma)]
    print(f"fast σ = 0.5, slow σ = {sigma:g}: ratio of epochs {ratio:.2f}")

# %% [markdown]
# By construction the fast course needs half the epochs of the slow one. If it also fluctuates less, as the
# paper may mean by the smaller variance of MLE-LLP "during training", its advantage by (7.1) shrinks:
# fluctuation *flatters* DLLP. A ratio of $T$ is only fair if both curves fluctuate alike.
#
# ### Indistinguishable
#
# Let $d_k$ be the accuracy of MLE-LLP minus that of DLLP on split $k$ of $K$, with the mean $\bar d$ and
# the sample standard deviation $s$. All methods use the same splits, so the *paired* $t$-test applies: a
# hard test set lowers both accuracies and does not change $d_k$. But random splits share bags. Let $q$ be
# the share of all bags on which a split tests. **Assume that a split's gap is the mean of one number for
# each of its $n$ test bags, drawn independently with variance $\sigma^2$**, so that networks differ
# between bags and not between splits. A bag of split $k$ is in split $l$ with probability $q$, therefore
#
# $$ \mathrm{Var}(d_k) = \frac{\sigma^2}{n} , \qquad \mathrm{Cov}(d_k, d_l) = q \, \frac{\sigma^2}{n} , \qquad \mathrm{Var}(\bar d) = \frac{\sigma^2}{n} \left( \frac{1}{K} + \frac{K - 1}{K} q \right) . $$
#
# The sample variance of equally correlated numbers has the expectation
# $\mathbb{E} \, s^2 = (1 - q) \, \sigma^2 / n$. In the ratio $\sigma$ and $n$ cancel:
# $\mathrm{Var}(\bar d) / \mathbb{E} \, s^2 = 1/K + q/(1 - q)$. The test statistic is
#
# $$ t = \frac{\bar d}{s \sqrt{1/K + q/(1 - q)}} , \tag{7.2} $$
#
# with $K - 1$ degrees of freedom. For $q = 0$ it is the textbook's. If all other bags train, $q / (1 - q)$
# is the ratio of test bags to training bags, and this is the *corrected resampled $t$-test* of [Nadeau and
# Bengio (2003)](https://doi.org/10.1023/A:1024068626366). (Protocol `short` trains on fewer bags. There
# (7.2) corrects for the shared test bags only.) Does it matter? We invent 300 data sets on which the two
# methods are equally good, split each ten times, and count how often the test finds a difference at the
# level 0.05.


# %%
def rejected(share, q=0.2, K=10, N=1430, draws=300):
    """Share of p < 0.05 if the true gap is 0, correcting for `share`."""
    generator, times = torch.Generator().manual_seed(2), 0
    for _ in range(draws):
        bag = torch.randn(N, generator=generator)  # one number a bag
        order = torch.rand(K, N, generator=generator).argsort(1)
        gaps = bag[order[:, : int(q * N)]].mean(1).tolist()
        times += claims.p_value(gaps, share) < 0.05
    return times / draws


# %% tags=["hide-input"]
for share in (0.0, 0.2):
    floor = stats.t.ppf(0.975, 9) * math.sqrt(1 / 10 + share / (1 - share))
    alarms = f"{rejected(share):.0%} false alarms"
    print(f"share {share}: {alarms}; detects gaps above {floor:.2f} s")

# %% [markdown]
# Treated as independent, ten splits of one data set raise a false alarm several times as often as the
# level promises. The corrected test keeps the level, but it cannot detect a gap below 1.34 standard
# deviations of $d_k$, the last number. *Indistinguishable* means "smaller than that", which depends on the
# number of bags as much as on the methods. The claims use $q = 0$, the reading under which the paper's
# sentence is hardest to confirm; the paired tests below print both.
#
# ### Choosing without labels
#
# A grid search needs a criterion. Accuracy on held-out instances needs labels, which a learner from counts
# does not have, and accuracy on the test set is not held out. But a fifth of the training bags can be held
# out, with their counts. Let $\hat y$ be the number of instances of a bag that the network calls positive.
# Our criterion is the *error of counts*, $|\hat y - y|$, averaged over the held-out bags. How closely does
# it follow accuracy? Errors in opposite directions cancel in a bag. In the figure each instance is wrong
# with the same probability, independently, in bags of 2 to 12.


# %% tags=["hide-input"]
def count_error(wrong, draws=20_000):
    """Mean |predicted - true count|, each instance wrong on its own."""
    generator = torch.Generator().manual_seed(3)
    sizes = torch.randint(2, 13, (draws,), generator=generator)
    mask = torch.arange(12) < sizes[:, None]  # (draws, 12)
    truth = torch.rand(draws, 12, generator=generator) < 0.5
    flips = torch.rand(draws, 12, generator=generator) < wrong
    off = ((truth ^ flips) & mask).sum(1) - (truth & mask).sum(1)
    return off.abs().double().mean().item()


# %% tags=["hide-input"]
errors = [e / 20 for e in range(21)]
show.figure(
    page.errors_of_counts(errors, [count_error(e) for e in errors]),
    alt="The mean error of counts against the share of wrong instances, if"
    " errors are independent. It rises from zero, steeply at first, and"
    " flattens towards one hundred percent, where all"
    " classes are swapped.",
)

# %% [markdown]
# The criterion discriminates well between good networks and less well between bad ones. But the curve
# rises throughout, so of two such networks it prefers the better one. A network with a constant answer is
# off by half a bag on average, 3.5, which is worse than any point of the curve. So counts can decide the
# grid, and they do for all methods alike, supervised learning too.
#
# ## Code
#
# A method of this comparison has a loss, a period of the E-step, a form of the E-step and a number of bags
# a step. Everything else is shared: the training loop, the network and the splits.

# %%
EXPERIMENTS = {e.name: e for e in PAPER.experiments}
HELD = records.published()
show.Markdown(page.methods_table())

# %%
every, differ = page.settings_rows(EXPERIMENTS["llp/cifar-curves"].config)
print(f"{len(every)} settings, {len(differ)} not as printed in the paper")

# %% [markdown]
# [The page of this paper](../book/reproductions-counts.md) lists these settings: the paper describes them
# in words or not at all.
#
# ### What the grid chose
#
# The experiment `llp/choice` trains every method at every point of the grid and records the error of
# counts on held-out training bags. The best rate of each method is marked, and all other experiments of
# the same protocol use it.

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
# There are two distributions of bag sizes. Birds and cats come in bags of 2 to 12, each size equally
# likely. For the photos only totals are printed: 1,913 photos of 3,439 men and 4,012 women, at most 12 a
# photo. *The photos are not available to us.* They are for non-commercial research, and no program may
# download them. If you have a copy, the loader finds the photos and people that give exactly these three
# totals, or reports that it cannot. As a stand-in we put as many birds and cats as men and women into bags
# by the distribution of largest entropy for the given mean and maximum, $P(n) \propto c^n$.

# %% tags=["hide-input"]
total = groups.PAPER["male"] + groups.PAPER["female"]
mean = total / groups.PAPER["bags"]
laws = {
    "birds and cats": bags.uniform(2, 12),
    "stand-in for the photos": bags.geometric(mean, groups.LARGEST),
}
chance = 100 * groups.PAPER["female"] / total
print(f"chance level of the photos: {chance:.1f} %")
for name, weights in laws.items():
    p, n = weights / weights.sum(), torch.arange(1, len(weights) + 1)
    push = (p / (4 * n - 4))[1:].sum() / p[1:].sum()
    print(f"{name}: mean size {(p * n).sum():.2f}, curvature {push:.3f}")

# %% tags=["hide-input"]
show.figure(
    page.bag_sizes(laws),
    alt="Shares of bag sizes from 1 to 12. Birds and cats: equal from 2 to"
    " 12. The stand-in falls from about a quarter at one instance to nearly"
    " nothing at twelve.",
)

# %% [markdown]
# The printed *curvature* is the mean of $1/(4(n - 1))$ over bags of two or more: the push of [chapter
# 6](06_counts_learning.ipynb) in a bag with half positives. So if this distribution is near the true one,
# bag size alone makes the photos the easier data set for a learner from counts. If the gap to supervised
# learning is still larger there, as section 3.3 says, the faces themselves must be harder.
#
# ### The curves
#
# The next figure corresponds to the paper's Fig. 1: test accuracy by epoch, the mean over the splits, with
# a band of one standard deviation. The right panel is the stand-in, which is not in the paper.

# %% tags=["hide-input"]
fig, alt, accuracies = page.learning_curves(HELD)
show.figure(fig, alt=alt)

# %% tags=["hide-input"]
show.Markdown(accuracies)

# %% [markdown]
# ## When it breaks
#
# ### The plateau
#
# At a constant answer DLLP has no curvature along contrasts, and the likelihood has little ([chapter
# 6](06_counts_learning.ipynb)). A network that reaches the constant answer can stay there for epochs. The
# error of counts shows this without any label, because a constant answer is off by half a bag on average.
# The next figure shows it at every rate of the grid for both methods.

# %% tags=["hide-input"]
fig, alt = page.plateau(HELD)
show.figure(fig, alt=alt)

# %% tags=["hide-input"]
show.Markdown(page.on_the_plateau(HELD))

# %% [markdown]
# So a comparison of two methods at *one* rate can give any result. This is why one grid and one criterion
# choose the rates of all methods, and why a paper without a printed grid cannot be reproduced to a number.
#
# ### The other differences, and what we do about each
#
# | difference | what we do |
# |---|---|
# | no printed accuracies | we test claims by rules; the readings in brackets are ours |
# | no printed grid | our own, judged by the counts of held-out training bags, for every method |
# | one bag a step for DLLP and LLP-GAN | the same, and four bags a step as separate methods |
# | probabilities clamped at 1e-6, products in float32 | log space, nothing clamped ([chapter 5](05_counts_likelihood.ipynb)) |
# | the group photos | a loader that checks the three totals; until then, a stand-in that answers no row |
#
# ## Reproduction
#
# All tables below are made from records, and their captions name the protocol. [The page of this
# paper](../book/reproductions-counts.md) has every row of the ledger and every claim with its verdict, and,
# folded, the deviations of the runs and the cost of each experiment.
#
# ### Table 1: seconds, as ratios
#
# Seconds depend on the machine, but ratios depend mostly on the method. The table has the duration of an
# epoch divided by that of DLLP with one bag a step, as we assume for the paper, and by that of DLLP with
# four.

# %% tags=["hide-input"]
show.Markdown(page.seconds(HELD))

# %% [markdown]
# Read the last column for `mle_llp`, `mle_llp_reuse` and `direct`. Only the first makes a separate pass
# for the E-step. The steps also differ in size: methods that learn from instances take the batch that the
# grid chose, and larger steps are cheaper for the same images. In the benchmark of the package, with equal
# steps, `mle_llp` exceeds `mle_llp_reuse` by the pass, a third of an epoch as derived above.
#
# ### Epochs, wobble and the paired test
#
# The claims of section 3.2 about speed and similarity rest on three quantities for each method: its final
# accuracy, its $T$ of (7.1), and its *wobble*, the standard deviation of the differences between
# neighbouring late epochs, divided by $\sqrt 2$.

# %% tags=["hide-input"]
show.Markdown(page.speed(HELD))

# %% tags=["hide-input"]
show.Markdown(page.paired_tests(HELD))

# %% [markdown]
# ### Fig. 3: the gap to supervised learning
#
# Section 3.3 trains on 200 to 1,000 bags. Protocol `short` takes a fifth of each. The figure shows how
# many points each learner from counts is behind supervised learning on the same bags.

# %% tags=["hide-input"]
fig, alt, gaps = page.behind_supervised(HELD)
show.figure(fig, alt=alt)

# %% tags=["hide-input"]
show.Markdown(gaps)

# %% [markdown]
# ### Beyond the paper: variants
#
# How often should the E-step come, what does a hard E-step cost, and does DLLP gain from several bags a
# step? The variants run on the splits of the curves above, so each has a paired difference to the method
# that it varies. The column *with counts* is the accuracy if the counts of the *test* bags are known: the
# $y$ instances with the largest logits are called positive, which is the most probable labelling with the
# right count.

# %% tags=["hide-input"]
show.Markdown(page.variants(HELD))

# %% [markdown]
# ### Beyond the paper: ten classes
#
# The paper's method is for two classes, but its likelihood extends to more: with the counts of all ten
# classes of CIFAR-10 (a JPEG copy, which answers no row) it is (5.5).

# %% tags=["hide-input"]
fig, alt = page.ten_classes(HELD)
show.figure(fig, alt=alt)

# %% [markdown]
# ### Claims
#
# The sentences of the paper are tested by the rule of [chapter 4](04_presence_reproduction.ipynb) on the
# strongest evidence that all experiments of a claim have. Runs at reduced size give no verdict: a smaller
# network on fewer bags may give another answer.

# %% tags=["hide-input"]
show.Markdown(tables.claims_tally(PAPER, HELD))

# %% [markdown]
# ### Run it yourself
#
# The commands below run everything on birds and cats, six runs side by side on one GPU. The grid comes
# first, because its choice belongs into the settings of the other runs. A run stops after its budget of
# seconds, and the same command continues.
#
# ```bash
# .venv/bin/python -m wsl_tutorial.reproduce run llp/choice \
#     --protocol paper --jobs 3 --budget 540 --out runs
# .venv/bin/python -m wsl_tutorial.reproduce run 'llp/cifar*' llp/stand-in-curves \
#     --protocol paper --jobs 6 --budget 540 --out runs
# .venv/bin/python -m wsl_tutorial.reproduce table llp --out runs
# ```
#
# The cell below runs one seed of the learning curves. Set `FULL = True` on a machine with a GPU and the
# data.

# %%
FULL = False
OUT = Path(tempfile.gettempdir()) / "wsl-runs"
NAME = "llp/cifar-curves"
words = [NAME, "--seeds", "0", "--protocol", "paper", "--out", str(OUT)]
command = [sys.executable, "-m", "wsl_tutorial.reproduce", "run", *words]
if FULL:
    subprocess.run(command, check=True)
fresh = records.load(OUT / "records.jsonl") if FULL else []
show.Markdown(page.fresh(NAME, fresh, HELD))

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
    goal = 0.99 * max(accuracy)
    return next(t for t, a in enumerate(accuracy, 1) if a >= goal)


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
# **4, code.** Write the criterion of the grid: `logits` `(B, n)`, `counts` `(B,)` and `mask` `(B, n)`
# to the mean over the bags of $|\hat y - y|$. The attempt forgets something.


# %%
def error_of_counts(logits, counts, mask):
    predicted = (logits >= 0).sum(1)
    return (predicted - counts).abs().double().mean()


check.attempt(check.error_of_counts, error_of_counts)

# %% [markdown]
# **5, change the criterion.** Replace the error of counts by the mean log-likelihood (5.3) of the
# held-out counts. Which of the methods would this criterion favour at equal accuracy, and why? Think of
# what DLLP requires of a single $\rho_i$.
#
# **6, explain to a colleague.** Your colleague has trained two learners on ten random splits of one
# data set, finds $p = 0.03$ in a paired $t$-test, and wants to write "significantly better".
# Explain in a few sentences what the ten splits have in common, and what else he could do with the
# same computing time.
#
# ## Further reading
#
# - [Baručić and Kybic (2022)](https://arxiv.org/abs/2110.03426), section 3: the experiments.
# - [Errata and remarks](../book/errata.md): what we noticed on the way.
# - [Nadeau and Bengio (2003)](https://doi.org/10.1023/A:1024068626366), *Inference for the
#   generalization error*: the correction (7.2), and when it is too careful.
# - [Dietterich (1998)](https://doi.org/10.1162/089976698300017197), *Approximate statistical tests
#   for comparing supervised classification learning algorithms*: false alarms of resampled tests.
# - [Neal and Hinton (1998)](https://doi.org/10.1007/978-94-011-5014-9_12), *A view of the EM algorithm
#   that justifies incremental, sparse, and other variants*: why EM with posteriors that are renewed now
#   and then still increases the likelihood. *Reuse* mixes logits of different steps and has no such proof.
# - [Gulrajani and Lopez-Paz (2020)](https://arxiv.org/abs/2007.01434), *In search of lost domain
#   generalization*: how the rule of model selection decides a table.
