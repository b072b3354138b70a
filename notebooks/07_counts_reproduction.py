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
# After this page you can judge a paper that prints curves instead of numbers. You can compute what an
# epoch costs, explain how fluctuations change the number of epochs that a curve seems to need, and
# distinguish "statistically indistinguishable" from "equal". You need [chapter
# 6](06_counts_learning.ipynb), and the *ledger*, the *protocols* and the *verdict* of [chapter
# 4](04_presence_reproduction.ipynb). The page runs in twenty seconds on one CPU core. It trains
# nothing: all results of training come from records.
#
# ## Problem
#
# [Baručić and Kybic (2022), *Fast learning from label proportions with small
# bags*](https://arxiv.org/abs/2110.03426), compare four learners: *supervised*, which sees the labels
# of all instances; DLLP, the proportion loss (6.1); [LLP-GAN](https://arxiv.org/abs/1909.02180), a
# generative adversarial network with that loss; and *MLE-LLP*, the EM of [chapter
# 6](06_counts_learning.ipynb). The table counts the results of the paper in our ledger: one row for
# each printed number, curve or point of a curve.

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
# The paper prints no accuracy. The only numbers we can compare with are eight durations and "about
# half the number of epochs" for two data sets. The remaining results are curves, and sentences about
# which method is better. So this page tests *claims*.
#
# ## What is hidden
#
# The paper has four pages of text, and the authors' program contains the method but not the
# experiments. We searched both for the settings that a run needs:
#
# | question | the text | the program |
# |---|---|---|
# | Which learning rate, which batch? | "best hyper-parameters discovered through grid-search" | an example with 1e-4 and 16 instances |
# | Which grid, and chosen on what? | not stated; no validation set is named | not there |
# | How many epochs? | until the likelihood changes by less than 1e-4 | a fixed number |
# | How strong are flips, blur and colour changes? | not stated | flips only |
# | How many bags of birds and cats? | not stated for section 3.2; up to 1,000 for training and 250 for testing in section 3.3 | not there |
# | Which test is behind "statistically indistinguishable"? | not stated | not there |
# | Is ResNet-18 pretrained, and does it use batch normalisation? | not stated | random weights, no batch normalisation |
#
# We chose what neither states.
#
# ## Derivation
#
# ### What an epoch costs
#
# Let $F$ be the cost of one forward pass over all training instances. The backward pass computes two
# products of the same size for each layer, one with respect to its input and one with respect to its
# weights, so it costs about $2F$, and an epoch of plain training about $3F$. An E-step needs the
# logits of all instances, one more forward pass $F$, and then the posteriors. **Assume that the
# posteriors cost nothing in comparison**; the recursion of [chapter 5](05_counts_likelihood.ipynb)
# makes this true. With an E-step every $k$ epochs, an epoch of EM costs, in epochs of plain training,
#
# $$ \frac{3F + F/k}{3F} = 1 + \frac{1}{3k} . $$
#
# For the paper's $k = 1$ that is $4/3$. PyTorch counts the operations of the paper's network. Then a
# table compares the seconds of the paper's Table 1 with the derivation: a forward pass is a third of
# an epoch of supervised learning, so the last two columns should agree.

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
# training steps if their batches have the same size; the paper does not print the sizes. On both
# data sets the E-step takes longer than a forward pass. The paper writes that small images make the
# E-step of CIFAR "more noticeable". But the first column shows that the E-step is a *larger* part
# of an epoch on the photos. MLE-LLP looks cheap on the photos only because DLLP is slow there: DLLP
# takes 1.70/0.96 = 1.8 supervised epochs, but 1.1 on CIFAR. A possible reason is that DLLP takes
# one bag a step, and a bag has on average four faces, but seven birds and cats. If so, the sentence
# "the duration of one epoch of MLE-LLP and DLLP is generally comparable" compares steps of
# different sizes.
#
# Two forms of the algorithm make no extra pass, because they use logits that the training steps
# compute anyway:
#
# - *direct ascent* on the likelihood: each step computes the posteriors of its own bags, which must
#   fit into a step as a whole;
# - *reuse*: keep the logit of each instance from the step that used it, and compute the posteriors of
#   the next epoch from these. The logits are up to one epoch old and belong to augmented images.
#
#
# ### Epochs to the final accuracy
#
# "Reaching the final accuracy in about half the number of epochs" needs a definition. Let $a_t$ be
# the test accuracy after epoch $t$, and $\bar a$ the final accuracy, the mean over the last tenth of
# the epochs (at least three). We define the number of epochs as
#
# $$ T = \min \{ t : a_t \geq 0.99 \, \bar a \} , \tag{7.1} $$
#
# and compare the $T$ of two methods on the same split. $T$ is the *first* epoch at which the curve
# reaches a level, so a fluctuating curve may reach it early by luck.
# Let $m_t$ be the accuracy without fluctuations. We write $a_t = m_t + \sigma z_t$ and **assume that
# the $z_t$ are independent and standard normal, and that $\bar a$ is fixed**; $\sigma$ is the
# *wobble* of the curve. $T > t$ means that all of the first $t$ epochs are below the level. With
# the normal distribution function $\Phi$,
#
# $$ P(T > t) = \prod_{s=1}^{t} \Phi \! \left( \frac{0.99 \, \bar a - m_s}{\sigma} \right) , \qquad \mathbb{E} \, T = \sum_{t \geq 0} P(T > t) . $$
#
# As an example let $m_t$ rise from 50 % to 90 % exponentially, once slowly and once twice as fast.
# The figure shows the expected $T$ of both curves against the wobble.


# %%
def course(rate, epochs=200):
    t = torch.arange(1, epochs + 1).double()
    return 90 - 40 * torch.exp(-t / rate)  # (epochs,)


# %%
def expected_passage(m, sigma):
    """Return E T of (7.1): course m without fluctuations, wobble sigma."""
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
for sigma in (0.5, 2, 8):
    ratio = steady / expected_passage(course(10), sigma)
    print(f"fast σ = 0.5, slow σ = {sigma:g}: ratio of epochs {ratio:.2f}")

# %% [markdown]
# By construction the fast course needs half the epochs of the slow one. If the slow course fluctuates
# more, its $T$ shrinks, and the ratio of the two $T$ rises, even above 1. The paper says that MLE-LLP
# has a smaller variance than DLLP "during training". If it means this wobble, (7.1) makes DLLP look
# faster than it is. A ratio of $T$ is only fair if both curves fluctuate equally.
#
# ### When two methods are indistinguishable
#
# Let $d_k$ be the accuracy of MLE-LLP minus that of DLLP on split $k$ of $K$, with the mean $\bar d$
# and the sample standard deviation $s$. All methods use the same splits, so the *paired* $t$-test
# applies: a hard test set lowers both accuracies and hardly changes $d_k$. But random splits share
# bags. Let $q$ be the share of all bags on which a split tests, and $n$ the number of these test
# bags. **Assume that each bag has one number, the gap between the two
# methods on this bag, and that these numbers are independent with variance $v$.** Then $d_k$ is the
# mean of the numbers of the $n$ test bags of split $k$. (The model neglects that the networks of two
# splits differ.) A test bag of split $k$ is also a test bag of split $l$ with probability $q$,
# therefore
#
# $$ \mathrm{Var}(d_k) = \frac{v}{n} , \qquad \mathrm{Cov}(d_k, d_l) = q \, \frac{v}{n} , \qquad \mathrm{Var}(\bar d) = \frac{v}{n} \left( \frac{1}{K} + \frac{K - 1}{K} q \right) . $$
#
# The expected sample variance is the variance minus the covariance,
# $\mathbb{E} \, s^2 = (1 - q) \, v / n$. In the ratio $v$ and $n$ cancel:
# $\mathrm{Var}(\bar d) / \mathbb{E} \, s^2 = 1/K + q/(1 - q)$. The test statistic is
#
# $$ t = \frac{\bar d}{s \sqrt{1/K + q/(1 - q)}} , \tag{7.2} $$
#
# with $K - 1$ degrees of freedom. For $q = 0$ it is the statistic of the usual paired $t$-test. If
# a split trains on all bags that it does not test on, $q / (1 - q)$ is the ratio of test bags to
# training bags, and this is the *corrected resampled $t$-test* of [Nadeau and Bengio
# (2003)](https://doi.org/10.1023/A:1024068626366). To see the effect of the correction, we generate
# 300 data sets on which the two methods are equally good, split each ten times, and count how often
# the test finds a difference at the level 0.05. The output also gives the smallest mean gap that is
# significant, in units of $s$ ("sd").


# %%
def rejected(share, q=0.2, K=10, N=1430, draws=300):
    """Return how often p < 0.05 without a gap; (7.2) has q = share."""
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
    print(f"q = {share}: {alarms}; finds a mean gap above {floor:.2f} sd")

# %% [markdown]
# If we treat ten splits of one data set as independent, the test gives false alarms several times
# as often as its level promises. The corrected test keeps the level, but detects only mean gaps
# above $1.34 \, s$. So *indistinguishable* does not mean equal, only that $\bar d$ is below the
# limit of the test, and $s$ depends on the number of bags as well as on the methods. To judge the
# paper's sentence we use $q = 0$: this test finds more differences, so "indistinguishable" is
# harder to confirm. The table of paired tests below prints $p$ for $q = 0$ (*textbook*) and
# *corrected*.
#
# ### Choosing without labels
#
# A grid search needs a criterion. Accuracy on held-out instances needs labels, which a learner from
# counts does not have, and the test set must not choose the settings. But we can hold out a fifth of
# the training bags with their counts. Let $\hat y$ be the number of instances of a bag that the
# network calls positive. Our criterion is the *error of counts*, $|\hat y - y|$, averaged over the
# held-out bags. It does not determine the accuracy, because errors in opposite directions cancel in a
# bag. The figure shows how both are related if each instance is wrong independently with the same
# probability, in bags of 2 to 12.


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
# The curve rises throughout, so of two networks with such errors the criterion prefers the better
# one. A network that calls all instances positive is wrong by the number of negatives, $n - y$, and
# one that calls all negative by $y$. With equal classes both are half a bag on average, 3.5, which
# is worse than any point of the curve. We use this criterion for all methods.
#
# ## Code
#
# The table lists the methods of the comparison. *period* is the number of epochs from one E-step to
# the next, *hard* an E-step by the most probable configuration, *reuse* the form explained above;
# *several* means four bags a step instead of one. The methods share everything else, except for
# learning rates, batches, and LLP-GAN's two logits and $\beta_1 = 0.5$ of Adam.

# %%
EXPERIMENTS = {e.name: e for e in PAPER.experiments}
HELD = records.published()
show.Markdown(page.methods_table())

# %% tags=["hide-input"]
every, differ = page.settings_rows(EXPERIMENTS["llp/cifar-curves"].config)
print(f"{len(every)} settings, of which the paper gives", end=" ")
print(f"{len(differ)} in words or not at all")

# %% [markdown]
# ### The settings chosen by grid search
#
# The experiment `llp/choice` trains every method at every point of the grid and records the error
# of counts on held-out training bags. The best rate and batch of each method are marked. Protocols
# `short` and `desk` use them; `paper` has the rate 3e-4 (photos: 1e-4) and the batch 16 for every
# method. A batch consists of instances; methods that take whole bags have no batch size to choose.

# %% tags=["hide-input"]
table, edge = page.grid_search(HELD)
show.Markdown(table)

# %% tags=["hide-input"]
show.Markdown(edge)

# %% [markdown]
# ## Picture
#
# ### The bags
#
# Birds and cats come in bags of 2 to 12, each size equally likely. For the photos the paper prints
# only totals: 1,913 photos of 3,439 men and 4,012 women, at most 12 a photo. *The photos are not
# available to us.* We use a *stand-in*: as many cats as women and birds as men, in bags with the
# same mean and maximum size. Of all such distributions we take the one with the largest entropy,
# $P(n) \propto c^n$; the mean determines $c$.

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
# The printed *curvature* is the mean of $1/(4(n - 1))$ over bags of two or more: the curvature of
# [chapter 6](06_counts_learning.ipynb) along a contrast, in a bag with half positives. It is larger
# for the stand-in. So if the true distribution is similar, the size of the bags alone makes the
# photos the easier data set for a learner from counts. If section 3.3 finds such learners further
# behind supervised learning there, the reason must be something else.
#
# ### The curves
#
# The next figure corresponds to the paper's Fig. 1: test accuracy by epoch, the mean over the splits,
# with a band of one standard deviation. The right panel shows the stand-in.

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
# At a constant answer DLLP has no curvature along contrasts, and the likelihood has little
# ([chapter 6](06_counts_learning.ipynb)). A network that reaches the constant answer can stay there
# for epochs. The error of counts is then half a bag on average, so we can detect this plateau
# without labels. The next figure shows the error of counts of DLLP and MLE-LLP at every rate of the
# grid.

# %% tags=["hide-input"]
fig, alt = page.plateau(HELD)
show.figure(fig, alt=alt)

# %% tags=["hide-input"]
show.Markdown(page.on_the_plateau(HELD))

# %% [markdown]
# So the result of a comparison at *one* rate depends on the rate. This is why one grid and one
# criterion should choose the rates of all methods.
#
# ### The other differences, and what we do about each
#
# | difference | what we do |
# |---|---|
# | no printed accuracies | we test claims by rules; where a claim is vague, the list of claims gives our reading in brackets |
# | probabilities clamped at 1e-6, products in float32 | log space, nothing clamped ([chapter 5](05_counts_likelihood.ipynb)) |
# | the group photos | a loader that checks the three totals; without the photos, a stand-in, which gives no verdict |
#
# ## Reproduction
#
# [The page of this paper](../book/reproductions-counts.md) has the settings, every row of the
# ledger and every claim with its verdict, the deviations of the runs and the cost of each
# experiment.
#
# ### Table 1: seconds, as ratios
#
# Seconds depend on the machine, but ratios depend mostly on the method. The table shows the
# duration of an epoch, divided by that of DLLP with one bag a step, which we assume for the paper,
# and with four.

# %% tags=["hide-input"]
show.Markdown(page.seconds(HELD))

# %% [markdown]
# In the last column, compare `mle_llp` with `mle_llp_reuse` and `direct`, which make no separate
# pass for the E-step. By the derivation this pass costs about a third of an epoch; the measured
# difference is a little smaller. This is a single run, and other programs on the machine change
# such durations.
#
# ### Epochs, wobble and the paired test
#
# The claims of section 3.2 about epochs and similarity rest on the $T$ of (7.1) and the final
# accuracy of each method. The wobble shows whether the $T$ of two methods can be compared. We
# estimate it by the standard deviation of the differences between neighbouring epochs in the second
# half of the training, divided by $\sqrt 2$.

# %% tags=["hide-input"]
show.Markdown(page.speed(HELD))

# %% tags=["hide-input"]
show.Markdown(page.paired_tests(HELD))

# %% [markdown]
# ### Fig. 3: the gap to supervised learning
#
# Section 3.3 trains on 200 to 1,000 bags. Protocol `short` takes a fifth of each number. The figure
# has a panel for each protocol with records. It shows how many points each learner from counts is
# behind supervised learning on the same bags; below 0 it is ahead.

# %% tags=["hide-input"]
fig, alt, gaps = page.behind_supervised(HELD)
show.figure(fig, alt=alt)

# %% tags=["hide-input"]
show.Markdown(gaps)

# %% [markdown]
# ### Beyond the paper: variants
#
# The variants run on the splits of the curves above. The column *difference* is variant minus
# original method, over the *splits* on which both have run; the column *accuracy* averages over all
# splits of a method. The column *with counts* is the accuracy if the counts of the *test* bags are
# known: then the $y$ instances with the largest logits are called positive, which is the most
# probable configuration.

# %% tags=["hide-input"]
show.Markdown(page.variants(HELD))

# %% [markdown]
# In protocol `short` the hard E-step lowers the accuracy by far more than the standard deviation of
# the difference. The other differences are small or from a single split.
#
# ### Beyond the paper: ten classes
#
# If the counts of all ten classes of CIFAR-10 are known, the likelihood is (5.5). The figure
# compares training on these counts alone, `direct`, with training on all labels. (The images are a
# JPEG copy, so no verdict uses them.)

# %% tags=["hide-input"]
fig, alt = page.ten_classes(HELD)
show.figure(fig, alt=alt)

# %% [markdown]
# ### Claims
#
# We test the sentences of the paper by the rule of [chapter 4](04_presence_reproduction.ipynb), on
# the strongest protocol for which all experiments of a claim have records. Runs of protocol `short`
# give no verdict, those of `desk` do. A claim is *not tested* if an experiment that it needs has no
# records.

# %% tags=["hide-input"]
show.Markdown(tables.claims_tally(PAPER, HELD))

# %% [markdown]
# ### Run it yourself
#
# The commands below run everything on birds and cats, with up to six runs at once on one GPU. The
# grid search comes first: enter its choice as `rates` in `settings.py`, because the other runs do not
# read its records. A run stops after its budget of seconds; the same command continues it.
#
# ```bash
# .venv/bin/python -m wsl_tutorial.reproduce run llp/choice \
#     --protocol paper --jobs 3 --budget 540 --out runs
# .venv/bin/python -m wsl_tutorial.reproduce run 'llp/cifar*' llp/stand-in-curves \
#     --protocol paper --jobs 6 --budget 540 --out runs
# .venv/bin/python -m wsl_tutorial.reproduce table llp --out runs
# ```
#
# The cell below runs one seed of the learning curves. Set `FULL = True` on a machine with a GPU and
# the data.

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
# **1, by hand.** EM makes an E-step every two epochs, and its pass runs without gradients on images
# that need no augmentation. What does an epoch cost in epochs of plain training? From which $k$ on
# does it cost at most 1.05 epochs, and what is the disadvantage of targets that are $k$ epochs old?
#
# **2, code.** Write (7.1) for a list of accuracies: return the first epoch, counted from 1, that
# reaches 99 % of the mean of the last tenth (at least three epochs).


# %%
def arrival(accuracy):
    goal = 0.99 * max(accuracy)
    return next(t for t, a in enumerate(accuracy, 1) if a >= goal)


check.attempt(check.arrival, arrival)

# %% [markdown]
# **3, code.** Compute the statistic of (7.2) from the list of the gaps $d_k$ and the share $q$.


# %%
def resampled_t(gaps, share):
    sd = statistics.stdev(gaps)
    return statistics.fmean(gaps) / (sd / math.sqrt(len(gaps)))


check.attempt(check.resampled_t, resampled_t)

# %% [markdown]
# **4, code.** Write the criterion of the grid search: from `logits` `(B, n)`, `counts` `(B,)` and
# `mask` `(B, n)` compute the mean of $|\hat y - y|$ over the bags.


# %%
def error_of_counts(logits, counts, mask):
    predicted = (logits >= 0).sum(1)
    return (predicted - counts).abs().double().mean()


check.attempt(check.error_of_counts, error_of_counts)

# %% [markdown]
# **5, change the criterion.** Replace the error of counts by the mean log-likelihood (5.3) of the
# held-out counts. Which methods would this criterion favour at equal accuracy, and why? Think of what
# DLLP requires of a single $\rho_i$.
#
# **6, explain to a colleague.** Your colleague has trained two learners on ten random splits of one
# data set, finds $p = 0.03$ in a paired $t$-test, and wants to write "significantly better". What
# do the ten splits have in common, and how could your colleague use the same computing time better?
#
# ## Further reading
#
# - [Errata and remarks](../book/errata.md): what we noticed in the papers.
# - [Nadeau and Bengio (2003)](https://doi.org/10.1023/A:1024068626366), *Inference for the
#   generalization error*: the correction (7.2), and when it is too conservative.
# - [Dietterich (1998)](https://doi.org/10.1162/089976698300017197), *Approximate statistical tests
#   for comparing supervised classification learning algorithms*: false alarms of resampled tests.
# - [Gulrajani and Lopez-Paz (2020)](https://arxiv.org/abs/2007.01434), *In search of lost domain
#   generalization*: how the results of a comparison depend on the rule of model selection.
