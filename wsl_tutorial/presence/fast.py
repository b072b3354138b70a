"""The exact likelihood, quickly: how `log_likelihood` and `posterior` work.

Take a bag with L labels and n positions. Only its labels and the background phi may be emitted, so
each position keeps these classes alone. Divide their probabilities by their sum at each position:
these *shares* sum to 1. The product of the sums over the positions is the leading alpha, and

    log Prb = log(leading alpha) + log T,

where T is the probability that all L labels occur if each position draws a class by its shares.
There are three ways to compute T, and each bag takes the first one that is safe.

1. *The series* (`_series`). T is the sum over all 2**L subsets S of the labels, with the sign
   (-1)**(number of labels missing from S), of the product over the positions of q(S), the share of
   S and phi together. A matrix of zeros and ones times the shares gives q for all subsets and
   positions at once. With many labels this table is large: `_grouped_products` splits each subset
   into a low and a high half, so that one matrix product multiplies five positions.

   The series subtracts and may cancel. Rounding moves it by at most about n eps times the sum of
   the sizes of its terms. Hence the *certificate*: T is kept if it exceeds 1e-4 times this sum,
   so its relative error is at most n eps / 1e-4. A bag fails the test if it has a label with weak
   evidence, or many labels for its number of positions.

2. *The scan* (`_scan`), for the remaining bags. Read the positions one by one and keep, for each of
   the 2**L subsets S, the probability that exactly S has been covered so far. A position adds
   nothing new or one label: positive numbers are multiplied and added, and nothing cancels. One
   step for each position would be slow. But positions commute, so cut them into chunks, scan all
   chunks side by side (`_forward`), and merge them in a binary tree (`_merge`). The merge of two
   chunks is the *union product*: for each U the sum over S | T = U of a(S) b(T), 3**L products.

   Products of many small probabilities may underflow. So the shares of a label, except for the
   first four or five labels, are divided by their sum over all positions. A state with the label
   *owes* this factor once; if both sides of a union have the label, one of the two is paid there.

3. *The recursion in log space* (`plain.log_recursion`), where even the scan underflows: it has no
   limit of range and is slow. Few bags need it.

The gradient of log Prb with respect to `log_p` is the posterior, Eq. (2.3), so `LogLikelihood`
computes both in one pass, and its backward only multiplies. In the series the posterior is a second
matrix product. In the scan it is the mass of all paths through a position: the state before it, by
what completes the state after it (`_walk_back`). A second derivative repeats the computation with
autograd's graph.

Labels observed with errors (`noisy`) differ at the end only: instead of the full label set, every
set counts, with a weight for each label that is in it and another for each that is not.

Bags with few labels are computed apart where the table of subsets is large (`evaluate`), since the
cost doubles with each label. Blocks and chunks are sized for the cache of a CPU, and for the kernel
launches and the memory of a GPU.
"""

import math

import torch
from torch import Tensor

from wsl_tutorial._shapes import log, per_bag

from ._inputs import bags_of, restrict, split_posterior
from .plain import log_recursion, log_weights

_CERTIFICATE = 1e-4  # least ratio of the series to the sum of the sizes of its terms, Eq. (2.2)
_SMALLEST = 1e-250  # a smaller result of the scan may lack paths that underflowed
_SMALLEST_TWICE = 1e-100  # the same where a second derivative, 1 / value**2, must not overflow
_SCANNED = 2**24  # most states times positions in one scan
_GROUP = 5  # positions whose shares one matrix product multiplies


@per_bag
def log_likelihood(
    log_p: Tensor, labels: Tensor, mask: Tensor | None = None, *, background: bool = True
) -> Tensor:
    """Eq. (2.2): log Prb(label set | P), exact up to rounding, however weak the evidence.

    The alternating series, normalised so that its leading term is 1, where a certificate bounds its
    rounding: with n positions and float64's eps the error in log Prb is at most about n eps / 1e-4,
    2e-9 for 784. Elsewhere the forward recursion over covered label sets, which only adds. Twice
    differentiable; the gradient with respect to `log_p` is `posterior`, so no entry exceeds 1.

    Args:
        log_p: (B, C+1, *positions), float32 or float64; (B, C, *positions) without a background.
        labels: bool (B, C), or integer with 1 for present, 0 for absent and -1 for unknown; at
            most 16 present a row. Unknown labels are summed out, see `at_least`.
        mask: bool (B, *positions), true for the positions of a bag, false for padding, which may
            hold anything and gets gradient 0; None for no padding. A bag without positions
            surely has no label.
        background: bool, whether the last channel of `log_p` is the background. Without one each
            position emits a class, so a bag with a position and no label is impossible.
    Returns:
        (B,) log-likelihoods in nats; -inf, with gradient 0, where the label set is impossible.
    Raises:
        ValueError: shapes, dtypes or devices disagree, `log_p` does not normalise, too many labels.
    Source: Li (2018), Proposition 1, for what is computed; chapter 2 for how.

    Example:
        >>> import torch
        >>> from wsl_tutorial import presence
        >>> log_p = torch.full((1, 2, 2), 0.5).log()  # one class and the background, two positions
        >>> presence.log_likelihood(log_p, torch.tensor([[True]])).exp()  # 1 - 1/2 * 1/2
        tensor([0.7500])
    """
    flat, index, real = bags_of(log_p, labels, mask, background)
    return LogLikelihood.apply(flat, index, real, None).to(log_p.dtype)


@per_bag(answer=torch.empty_like)
def posterior(
    log_p: Tensor, labels: Tensor, mask: Tensor | None = None, *, background: bool = True
) -> Tensor:
    """Eq. (2.3): Prb(position emits class | label set), the exact E-step.

    Args and errors: as `log_likelihood`.
    Returns:
        The shape and dtype of `log_p`; sums to 1 over the classes; zero at padding, and for an
        impossible label set, whose posterior is undefined. Entries lie between 0 and 1. Where the
        series is used, each has an absolute error of up to about n eps / 1e-4, so that 1e-20 may
        come out as 0; the gradient of `recursion` has a small relative error. Differentiable.
    Source: chapter 2; without phi, the same E-step in Pham, Raich & Fern (2017), arXiv 1411.4068.

    Example:
        >>> import torch
        >>> from wsl_tutorial import presence
        >>> log_p = torch.full((1, 2, 2), 0.5).log()  # one class and the background, two positions
        >>> presence.posterior(log_p, torch.tensor([[True]]))  # 1/2 over 3/4 for the class
        tensor([[[0.6667, 0.6667],
                 [0.3333, 0.3333]]])
    """
    flat, index, real = bags_of(log_p, labels, mask, background)
    _, responsibility = evaluate(flat, index, real, with_posterior=True)
    return split_posterior(responsibility, flat, log_p, labels, mask, background)


class LogLikelihood(torch.autograd.Function):
    """Compute value and posterior in one pass: the gradient in log p is the posterior."""

    @staticmethod
    def forward(ctx, flat: Tensor, index: Tensor, real: Tensor, weights: Tensor | None) -> Tensor:
        wanted = ctx.needs_input_grad[0]
        value, responsibility = evaluate(flat, index, real, wanted, weights)
        ctx.save_for_backward(flat, index, real, weights, *([responsibility] if wanted else []))
        return value

    @staticmethod
    def backward(ctx, grad: Tensor):
        flat, index, real, weights, responsibility = ctx.saved_tensors
        if torch.is_grad_enabled():  # a second derivative needs the graph of the posterior
            _, responsibility = evaluate(flat, index, real, True, weights)
        return grad[:, None, None] * responsibility, None, None, None


def evaluate(
    flat: Tensor,
    index: Tensor,
    real: Tensor,
    with_posterior: bool,
    weights: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Return log-likelihood (B,) and posterior (B, C+1, N); bags of few labels may go apart.

    The posterior is empty without `with_posterior`. With `weights` (B, K, 2) all label sets count:
    each has the product of its labels' weights, [.., 0] for a label that does not occur and [.., 1]
    for one that does; padding has the weights 1 and 0.
    """
    (bags, most), few = real.shape, (real.shape[1] + 1) // 2
    groups = [(torch.arange(bags, device=real.device), most)]
    if most > 1 and bags * 2**most * flat.shape[2] > 2 * _block_size(flat):
        short = real.sum(1) <= few
        groups = [((~short).nonzero()[:, 0], most), (short.nonzero()[:, 0], few)]
    if weights is not None:  # often for all classes: a few bags at a time are quicker
        rows = torch.arange(bags, device=real.device)
        groups = [(few_rows, most) for few_rows in rows.split(_few(most, flat))]
    value = flat.new_zeros(bags)
    posterior = flat.new_zeros(flat.shape if with_posterior else 0) if bags else 0 * flat
    for rows, labels in groups:
        if len(rows) == 0:
            continue
        own = index[rows]
        own = torch.cat([own[:, :labels], own[:, -1:]], 1)
        log_w = restrict(flat, own, real[rows, :labels]).double()
        pairs = None if weights is None else weights[rows, :labels]
        mine, resp = _solve(log_w, real[rows, :labels], with_posterior, pairs)
        value.index_copy_(0, rows, mine.to(flat.dtype))
        if with_posterior:
            resp = resp.to(flat.dtype).masked_fill((mine == -torch.inf)[:, None, None], 0)
            posterior.flatten(0, 1).index_copy_(0, own.flatten(), resp.flatten(0, 1))
    if with_posterior:  # the series may be off by some 1e-12
        posterior = posterior.clamp(0, 1) if posterior.requires_grad else posterior.clamp_(0, 1)
    return value, posterior


def _solve(
    log_w: Tensor, real: Tensor, with_posterior: bool, weights: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return log-likelihood (b,) and posterior (b, K+1, N), by series, scan or recursion.

    The posterior has no meaning without `with_posterior`.
    """
    largest = log_w.amax(1)  # (b, N)
    never = largest == -torch.inf  # a position that can emit nothing allowed
    possible = ~never.any(-1)
    if not bool(possible.all()):
        log_w, largest = log_w.masked_fill(never[:, None], 0), largest.masked_fill(never, 0)
    share = log_w.softmax(1)  # (b, K+1, N)
    total = largest - share.amax(1).log()  # (b, N), logsumexp without exponentials of its own
    leading = total.sum(-1)
    relative, resp, kept = _series(share, real, with_posterior, weights)
    value = leading + relative.log()
    for rows in memory_parts((~kept & possible).nonzero()[:, 0], share):
        pairs = None if weights is None else weights[rows]
        scaled, scan_resp, safe = _scan(share[rows], real[rows], with_posterior, pairs)
        value = value.index_copy(0, rows, leading[rows] + scaled)
        if scan_resp is not None:
            resp = resp.index_copy(0, rows, scan_resp)
        if not bool(safe.all()):
            rows = rows[~safe]
            pairs = None if weights is None else weights[rows]
            plain, plain_resp = _recursion_posterior(log_w[rows], real[rows], with_posterior, pairs)
            value = value.index_copy(0, rows, plain)
            if plain_resp is not None:
                resp = resp.index_copy(0, rows, plain_resp)
    return value.masked_fill(~possible, -torch.inf), resp


def memory_parts(rows: Tensor, share: Tensor) -> tuple[Tensor, ...]:
    """Split row numbers into groups whose scan fits in memory."""
    if len(rows) == 0:
        return ()
    _, columns, positions = share.shape
    return rows.split(max(1, _SCANNED // (2 ** (columns - 1) * positions)))


def _members(labels: int, like: Tensor) -> Tensor:
    """Return (2**K, K+1): row S is 1 for each label in the subset S (bit l of S), and for phi."""
    subsets = torch.arange(2**labels, device=like.device)[:, None]
    bits = (subsets >> torch.arange(labels, device=like.device)) & 1
    return torch.cat([bits, torch.ones_like(subsets)], 1).to(like)


def _signs(real: Tensor, members: Tensor) -> Tensor:
    """Return (B, 2**K): (-1)**(labels missing from S), 0 where S contains padding."""
    odd = 1 - 2 * (members[:, :-1].sum(1) % 2)  # (-1)**|S|
    labels = real.sum(1, keepdim=True)
    inside = torch.arange(len(odd), device=real.device) < 2**labels  # real slots are the low bits
    return odd * inside * (1 - 2 * (labels % 2))


def _coefficients(weights: Tensor) -> Tensor:
    """Return (B, 2**K): what takes the place of `_signs` where all label sets have a weight.

    A label's weight is w1 + (w0 - w1) [it is absent], so q(S) has w1 for the labels in S and
    w0 - w1 for the others.
    """
    absent, present = weights.unbind(2)  # (B, K) each
    total = weights.new_ones(len(weights), 1)
    for outside, inside in zip((absent - present).unbind(1), present.unbind(1), strict=True):
        total = torch.cat([total * outside[:, None], total * inside[:, None]], 1)
    return total


def _series(
    share: Tensor, real: Tensor, with_posterior: bool, weights: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Return Eq. (2.2) over the leading alpha (B,), the posterior, and which bags are certified.

    T = sum over subsets S of signs times products over positions of q(S), q the share of S and phi.
    A product that underflows is negligible against the leading term, 1, or with weights against
    the smallest T that is certified. In a graph 1 / q**3 must not overflow, for derivatives.
    """
    graph = torch.is_grad_enabled() and share.requires_grad
    least, smallest = (_SMALLEST_TWICE, 1e20 * _SMALLEST_TWICE) if graph else (1e-280, _SMALLEST)
    members = _members(share.shape[1] - 1, share)
    signs = _signs(real, members) if weights is None else _coefficients(weights)
    parts = _blocks(share)
    products = _products_over_positions(share, members, parts)
    terms = signs * products.masked_fill(products < least, 0)  # denormals are slow
    value = terms.sum(1)
    kept = value > (_CERTIFICATE * terms.abs().sum(1)).clamp_min(smallest)
    value = torch.where(kept, value, torch.ones_like(value))
    if not (with_posterior and bool(kept.any())):
        return value, share, kept
    # d T / d share = sum over S of +-product / q; where q is 0, so are product and share
    scale = (terms / value[:, None])[:, :, None]  # (B, 2**K, 1)
    slopes = [members.T @ (scale / (members @ part)) for part in parts]
    return value, share * torch.cat(slopes, -1), kept


def _blocks(share: Tensor) -> tuple[Tensor, ...]:
    """Return the shares cut into blocks of positions whose tables of subsets fit a cache."""
    table = len(share) * 2 ** (share.shape[1] - 1)
    return share.clamp_min(1e-300).split(max(1, _block_size(share) // max(1, table)), -1)


def _products_over_positions(share: Tensor, members: Tensor, parts: tuple[Tensor, ...]) -> Tensor:
    """Return the product over the positions of q(S) for every subset, (B, 2**K)."""
    if len(members) <= 256:
        return torch.stack([(members @ part).prod(-1) for part in parts]).prod(0)
    return _grouped_products(share)


def _block_size(like: Tensor) -> int:
    """Return the elements of a block, for a CPU's cache or a GPU's memory."""
    return 2**16 if like.device.type == "cpu" else 2**27


def _unscaled(like: Tensor) -> int:
    """Return how many labels the scan leaves unscaled; the table of `_pairs` has 3**this rows."""
    return 4 if like.device.type == "cpu" else 5


def _grouped_products(share: Tensor) -> Tensor:
    """Return the products over positions of all subset sums, (B, 2**K), in few passes.

    A subset splits into a low and a high half; q = a(low) + b(high), and a product of `_GROUP` such
    sums is one matrix product of inner size 2**_GROUP: sums of products, no logarithm, no sign.
    """
    batch, columns, positions = share.shape
    half = (columns - 1) // 2
    low = (
        _members(half, share) @ share[:, [*range(half), columns - 1]]
    )  # phi goes with the low half
    high = _members(columns - 1 - half, share)[:, :-1] @ share[:, half:-1]
    pad = -positions % _GROUP
    low = torch.nn.functional.pad(low, (0, pad), value=1.0).unflatten(-1, (-1, _GROUP))
    high = torch.nn.functional.pad(high, (0, pad)).unflatten(-1, (-1, _GROUP))
    left, right = torch.ones_like(low[..., :1]), torch.ones_like(high[..., :1])
    for i in range(_GROUP):  # (B, 2**half, N / _GROUP, 2**_GROUP)
        left = torch.cat([left * low[..., i, None], left], -1)
        right = torch.cat([right, right * high[..., i, None]], -1)
    left, right = left.transpose(1, 2), right.permute(0, 2, 3, 1)
    block = max(1, 16 * _block_size(share) // (batch * left.shape[2] * right.shape[3]))
    pairs = zip(left.split(block, 1), right.split(block, 1), strict=True)
    products = torch.stack([(a @ b).prod(1) for a, b in pairs]).prod(0)  # (B, 2**low, 2**high)
    return products.transpose(1, 2).flatten(1)


def _scan(
    share: Tensor, real: Tensor, with_posterior: bool, weights: Tensor | None = None
) -> tuple[Tensor, Tensor | None, Tensor]:
    """Return Eq. (2.1) in linear space: log T (B,), the posterior, and which bags stay in range.

    Chunks of positions are scanned side by side, then merged by union products: positions commute.
    After the first four or five labels, the shares of a label are divided by their sum, a factor
    that every state with the label owes. So states stay below 1, and those of the scaled labels do
    not underflow even where the evidence is very weak.
    """
    smallest = _SMALLEST
    if torch.is_grad_enabled() and share.requires_grad:
        smallest = max(smallest, _SMALLEST_TWICE)
    bags, columns, positions = share.shape
    labels = columns - 1
    p = _chunked(share)  # (steps, K+1, chunks * b)
    chunks = p.shape[2] // bags
    sums = share[:, :-1].sum(-1).T.clamp_min(_SMALLEST)  # (K, b)
    plain = _unscaled(share)
    sums = torch.cat([torch.ones_like(sums[:plain]), sums[plain:]])
    owed = sums.repeat(1, chunks)  # (K, chunks * b)
    first = p[:, :-1] / owed
    members = _members(labels, share)
    state = share.new_zeros([2] * labels + [chunks * bags])
    state.view(len(members), -1)[0] = 1  # nothing is covered yet
    states = [state]
    for now, new in zip(p.unbind(), first.unbind(), strict=True):
        states.append(_forward(states[-1], members @ now, new))
    final = None if weights is None else _final_weights(weights, sums)
    full, after = _merge(states.pop(), owed, real, smallest if with_posterior else None, final)
    safe = full > smallest
    value = log(full)
    if final is None:
        safe = safe & ((sums > _SMALLEST) | ~real.T).all(0)
        value = value + sums.log().masked_fill(~real.T, 0).sum(0)
    if after is None:
        return value, None, safe
    weight = _walk_back(states, after, members, p, first)
    weight = weight.unflatten(2, (chunks, bags)).permute(3, 1, 0, 2).flatten(2)
    return value, weight[..., :positions], safe


def _final_weights(weights: Tensor, sums: Tensor) -> Tensor:
    """Return the weight of every label set with what its scaled labels owe: (2**K, b)."""
    factors = torch.stack([torch.ones_like(sums.T), sums.T], 2)  # (b, K, 2)
    return log_weights(weights * factors).exp().T


def best_sets(share: Tensor) -> Tensor:
    """Return the most probable label set (B,) for shares (B, K+1, N); bit l of it is label l.

    The best set has at least the mean probability, 2**-K, so that rounding is small against it.
    Where the second best comes closer than rounding may have moved both, the recursion decides.
    """
    rounding = 4 * share[:1].numel() * torch.finfo(share.dtype).eps
    best, sure = [], []
    for rows in share.split(_few(share.shape[1] - 1, share)):
        chance, size = _all_sets(rows)
        top, sets = chance.topk(min(2, chance.shape[1]))  # (b, 2) each
        best.append(sets[:, 0])
        sure.append(top[:, 0] - top[:, 1:].sum(1) > rounding * size)
    found = torch.cat(best)
    for rows in memory_parts((~torch.cat(sure)).nonzero()[:, 0], share):
        found = found.index_copy(0, rows, label_sets(share[rows]).argmax(0))
    return found


def _few(labels: int, like: Tensor) -> int:
    """Return for how many bags the table of subsets at 32 positions fits a block."""
    return max(1, _block_size(like) // (32 * 2**labels))


def _all_sets(share: Tensor) -> tuple[Tensor, Tensor]:
    """Return the series (1.2) for all label sets (b, 2**K), and the sum of its terms (b,)."""
    members = _members(share.shape[1] - 1, share)
    chance = _products_over_positions(share, members, _blocks(share))
    size = chance.sum(1)
    for label in range(share.shape[1] - 1):
        without, with_label = chance.unflatten(1, (-1, 2, 2**label)).unbind(2)
        chance = torch.stack([without, with_label - without], 2).flatten(1)
    return chance, size


def label_sets(share: Tensor) -> Tensor:
    """Return the probability of every label set, (2**K, b), for shares (b, K+1, N).

    Bit l of a set is label l. Eq. (2.1) in linear space: what is below some 1e-300 comes out as 0.
    """
    bags, columns, _ = share.shape
    members = _members(columns - 1, share)
    p = _chunked(share)
    state = share.new_zeros([2] * (columns - 1) + [p.shape[2]])
    state.view(len(members), -1)[0] = 1
    for now in p.unbind():
        state = _forward(state, members @ now, now[:-1])
    plain = _unscaled(share)
    owed = torch.ones_like(p[0, plain:-1])
    return _levels(state, owed, _pairs(min(columns - 1, plain), share), bags)[-1]


def _chunked(share: Tensor) -> Tensor:
    """Return the shares of all chunks side by side: (steps, K+1, chunks * b)."""
    bags, columns, positions = share.shape
    chunks = _chunks(bags, columns - 1, positions, share)
    padded = torch.nn.functional.pad(share, (0, -positions % chunks))
    padded[:, -1, positions:] = 1  # padding emits phi
    return padded.unflatten(2, (-1, chunks)).permute(2, 1, 3, 0).flatten(2)


def _chunks(bags: int, labels: int, positions: int, like: Tensor) -> int:
    """Return how many chunks of positions to scan side by side, the fastest power of two.

    The scan costs in proportion to positions / chunks, the merge in proportion to chunks. A CPU
    spends its time on products, as measured. A GPU spends it on kernel launches, some 3 K a
    position at 5 microseconds, and on memory, some 50 bytes a product of a merge at 3 TB/s. It must
    also hold all states.
    """
    if like.device.type == "cpu":
        doublings = round(math.log2(positions * 4.0 ** (7 - labels) / bags) / 2)
    else:
        best = positions * max(labels, 1) * 9e5 / (3.0**labels * bags)  # its square root
        held = (_SCANNED // (2**labels * bags)).bit_length() - 1
        doublings = min(round(math.log2(best) / 2), held)
    return 2 ** min(max(doublings, 0), positions.bit_length() - 1)


def _walk_back(
    states: list[Tensor], after: Tensor, members: Tensor, p: Tensor, first: Tensor
) -> Tensor:
    """Return (steps, K+1, M): the mass of the paths on which a position emits each label, or phi.

    `states` are those before each position; `after` is what completes the states at the end.
    """
    again, enter = [], []  # the masses without the factor of the position itself
    for before, now, new in zip(states[::-1], p.unbind()[::-1], first.unbind()[::-1], strict=True):
        again.append(members.T @ (before * after).view(len(members), -1))
        after, entering = _backward(before, after, members @ now, new)
        enter += entering
    weight = p * torch.stack(again[::-1])
    weight[:, :-1].addcmul_(first, torch.stack(enter).view_as(first).flip(0))
    return weight


def _forward(state: Tensor, again: Tensor, first: Tensor) -> Tensor:
    """Return states (2, .., 2, M) after one more position; bit `label` is axis -2 - label.

    `again` (2**K, M) is the probability that the position adds nothing new, `first` (K, M) that it
    adds a label.
    """
    new = state * again.view_as(state)
    for label, p in enumerate(first.unbind()):
        new.select(-2 - label, 1).addcmul_(state.select(-2 - label, 0), p)
    return new


def _backward(
    before: Tensor, after: Tensor, again: Tensor, first: Tensor
) -> tuple[Tensor, list[Tensor]]:
    """Return what completes each state before a position, from what completes it after.

    Also return K masses (M,) of the paths that first meet a label there, without its probability.
    """
    new, entering = after * again.view_as(after), []
    for label, p in enumerate(first.unbind()):
        completed = after.select(-2 - label, 1)
        new.select(-2 - label, 0).addcmul_(completed, p)
        paths = before.select(-2 - label, 0) * completed
        entering.append(paths.view(-1, len(p)).sum(0))
    return new, entering


def _merge(
    ends: Tensor, owed: Tensor, real: Tensor, smallest: float | None, final: Tensor | None = None
) -> tuple[Tensor, Tensor | None]:
    """Return the union product of chunks (2, .., 2, c * b) at the full label set (b,).

    With `final` (2**K, b) it is the sum over all sets with these weights. This walks up a binary
    tree and down again. The second result, (2, .., 2, c * b), is the derivative of the logarithm
    with respect to `ends`; it is 0 for bags whose value is not above `smallest`, and None without a
    `smallest`.
    """
    bags, labels = real.shape
    plain = _unscaled(ends)
    pairs, owed = _pairs(min(labels, plain), ends), owed[plain:]
    levels = _levels(ends, owed, pairs, bags)
    everything = 2 ** real.sum(1)[None] - 1  # (1, b)
    if final is None:
        full = levels[-1].gather(0, everything)
    else:
        full = (final * levels[-1]).sum(0, keepdim=True)
    if smallest is None:
        return full[0], None
    slope = torch.where(full > smallest, full, torch.ones_like(full)).reciprocal()
    if final is None:
        outside = torch.zeros_like(levels[-1]).scatter(0, everything, slope)
    else:
        outside = final * slope
    for level in levels[-2::-1]:
        others = level.roll(outside.shape[1], 1)
        outside = _union(outside.repeat(1, 2), others, owed, pairs[::-1], adjoint=True)
    return full[0], outside.view_as(ends)


def _levels(ends: Tensor, owed: Tensor, pairs: list[Tensor], bags: int) -> list[Tensor]:
    """Return the union products of neighbours, (2**K, c * b) and half as many at each level."""
    levels = [ends.view(2 ** (ends.dim() - 1), -1)]
    while levels[-1].shape[1] > bags:
        a, b = levels[-1].chunk(2, 1)
        levels.append(_union(a, b, owed, pairs))
    return levels


def _union(
    a: Tensor, b: Tensor, owed: Tensor, pairs: list[Tensor], adjoint: bool = False
) -> Tensor:
    """Return the sum over S | T = U of a(S) b(T), times `owed` for each label in both; (2**K, M).

    The adjoint takes the derivative with respect to the product as `a`, and returns that with
    respect to a factor.
    """
    columns = max(1, _block_size(a) // (2 * 3 ** (len(a).bit_length() - 1)))  # fit the cache
    owed = owed[:, : a.shape[1]]
    if a.shape[1] <= columns:
        return _products(a, b, owed, pairs, adjoint)
    blocks = zip(*(x.split(columns, 1) for x in (a, b, owed)), strict=True)
    return torch.cat([_products(x, y, z, pairs, adjoint) for x, y, z in blocks], 1)


def _products(a: Tensor, b: Tensor, owed: Tensor, pairs: list[Tensor], adjoint: bool) -> Tensor:
    """Return (a0, a1) (b0, b1) = (a0 b0, a0 b1 + a1 (b0 + owed b1)), by label down to `pairs`.

    This takes 3**K products and no subtraction.
    """
    if len(owed) == 0:
        left, right, union = pairs
        return union.T @ ((left @ a) * (right @ b))
    (a0, a1), (b0, b1) = a.chunk(2), b.chunk(2)
    a = torch.cat([a0, a1 if adjoint else a0, a1], 1)
    b = torch.cat([b0, b1, torch.addcmul(b0, owed[-1], b1)], 1)
    x, y, z = _products(a, b, owed[:-1].repeat(1, 3), pairs, adjoint).chunk(3, 1)
    return torch.cat([x + y, z] if adjoint else [x, y + z])


def _pairs(labels: int, like: Tensor) -> list[Tensor]:
    """Return the same for unscaled labels, as (3**K, 2**K) tables of 0 and 1 of S, T and S | T.

    For each label there are three cases: neither set has it, T alone has it, or S has it and T may.
    """
    subsets = _members(labels, like)[:, :-1]
    digits = torch.arange(3**labels, device=like.device)[:, None, None]
    digits = digits // 3 ** torch.arange(labels, device=like.device) % 3  # (3**K, 1, K)
    left, union = (digits == 2) == subsets, (digits > 0) == subsets
    return [x.all(2).to(like) for x in (left, (digits == 2) | (digits == subsets), union)]


def _recursion_posterior(
    log_w: Tensor, real: Tensor, with_posterior: bool, weights: Tensor | None = None
) -> tuple[Tensor, Tensor | None]:
    """Return the log-space recursion and its gradient, for bags beyond the range of the scan."""
    if not with_posterior:
        return log_recursion(log_w, real, weights), None
    second_order = torch.is_grad_enabled() and log_w.requires_grad
    with torch.enable_grad():
        log_w = log_w if log_w.requires_grad else log_w.detach().requires_grad_()
        value = log_recursion(log_w, real, weights)
        (weight,) = torch.autograd.grad(value.sum(), log_w, create_graph=second_order)
    return value.detach(), weight
