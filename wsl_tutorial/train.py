"""Train: chapters and reproductions call the same loop, `fit`."""

import itertools
import math
import operator
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from wsl_tutorial._shapes import check_int, check_number

M = TypeVar("M", bound=nn.Module)


class Optimizer(Protocol):
    """Describe the part of an optimiser that `fit` uses; torch's optimisers have it."""

    @property
    def param_groups(self) -> list[dict[str, Any]]: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any], /) -> None: ...

    def step(self, closure: Any, /) -> Any: ...


def fit(
    model: M,
    loss: Callable[[M, Any], Tensor | Iterator[Tensor]],
    batches: Callable[[int], Iterable],
    optimizer: Optimizer,
    *,
    epochs: int,
    schedule: Callable[[int, int], float] | None = None,
    evaluate: Callable[[M], dict[str, float]] | None = None,
    run: Any = None,
    progress: bool = False,
    capture: bool = False,
) -> list[dict[str, float]]:
    """Train `model`; return the curve, one dict an epoch: "epoch", mean "loss", `evaluate`'s keys.

    With a `run`, a training that is stopped and resumed gives, bit for bit, what it would have
    given uninterrupted. `batches`, `loss` and `evaluate` may draw from the default generators of
    torch (on every device), of numpy (`np.random.*`) and of Python (`random.*`), and `batches` may
    return a DataLoader, shuffled or not, with workers or without. Generators of your own are not
    saved: make those of `batches` anew from the epoch, e.g. `generator(seed, epoch)`. To check
    this, `batches` is called twice for the first epoch of a sitting; if the two answers differ, a
    ValueError is raised before the first step. Anything else that `loss` and `evaluate` remember
    between calls has to be a parameter or a buffer of the model.

    Where torch.distributed is initialised, its processes share every batch: each calls `fit` with
    the same model and the same batches, takes its own part of each, and the gradients are added up.
    That is the training of one process if the loss is a mean over the elements of a batch, the
    batches are tuples of tensors with one row an element, and the network neither takes statistics
    of a batch (batch normalisation) nor draws noise (dropout). Every process gets the same curve.

    Args:
        loss: (model, batch) -> scalar to minimise, or an iterator of scalars whose sum it is, each
            back-propagated before the next is computed (not with `capture`, nor second_order).
        batches: epoch (from 0) -> its batches, at least one.
        optimizer: of torch, or one whose `second_order` is true: its `step(closure)` then gets the
            loss with its graph.
        schedule: (epoch, step) -> factor on every initial learning rate.
        evaluate: model (in eval mode, without gradients) -> metrics, after every epoch.
        run: a `reproduce.runner.Run`: saves checkpoints, resumes from them, collects the curve.
            When it is out of time `fit` saves and returns early, with fewer than `epochs` points.
        progress: draw a bar.
        capture: record the step once, as a CUDA graph, and replay it on every batch, for networks
            of many small kernels that wait for their launches; see `Captured`.

    Raises ValueError where `epochs` is no int of at least 0, the optimiser has a rate, momentum or
    weight decay that is negative or not finite, an epoch has no batch, and where `batches` does not
    repeat itself.
    """
    check_int("epochs", epochs)
    for group in optimizer.param_groups:
        for name in {"lr", "momentum", "weight_decay"} & group.keys():
            check_number(f"{name} of the optimizer", float(group[name]), least=0)
        group.setdefault("initial_lr", group["lr"])
    curve: list[dict[str, float]] = []
    at: dict[str, Any] = {"epoch": 0, "step": 0, "total": torch.zeros((), dtype=torch.float64)}
    drawn = None
    if run is not None:
        at, drawn = _restore(run, model, optimizer) or (at, None)
        curve, run.captured = run.curve, capture
    saves = from_first(getattr(run, "folder", run) is not None)  # the first process alone has one
    tell = getattr(run, "tell", None)
    step_on = (Captured if capture else _Step)(model, loss, optimizer)
    bar = _bar(epochs, at["epoch"]) if progress else None
    if drawn is not None:
        set_random_state(drawn)  # last, so that nothing of the above moves it
    sitting = at["epoch"]
    for epoch in range(sitting, epochs):
        model.train()
        for step, batch in _walk(batches, epoch, at, saves, check=epoch == sitting):
            _set_rates(optimizer, schedule, epoch, step)
            value = step_on(batch)
            at["total"] = at["total"].to(value.device) + value
            at["step"] = step + 1
            if tell is not None:
                tell(epoch + 1, epochs, step + 1, at["steps"], value)
            if _saved_and_over(run, at, model, optimizer):
                return list(curve)
        if at["step"] == 0:
            raise ValueError(
                f"batches: gave none for epoch {epoch} (from 0), expected at least one; an "
                "iterator is used up after one epoch, and drop_last drops a set below one batch"
            )
        point = {"epoch": epoch + 1, "loss": (at["total"] / at["step"]).item()}
        if evaluate is not None:
            model.eval()
            with torch.no_grad():
                found = evaluate(model)
            if both := sorted(point.keys() & found.keys()):
                raise ValueError(f"evaluate: returned {both}, which fit itself sets; rename them")
            point.update(found)
        if run is None:
            curve.append(point)
        else:
            run.log(**point)
        zero = torch.zeros_like(at["total"])
        at = {"epoch": epoch + 1, "step": 0, "total": zero, "steps": at["step"]}
        if bar is not None:
            bar.set_postfix(point, refresh=False)
            bar.update()
        if _saved_and_over(run, at, model, optimizer):
            break
    if bar is not None:
        bar.close()
    return list(curve)


def _bar(epochs: int, done: int) -> Any:
    """Return a progress bar of `epochs` of which some are `done`."""
    from tqdm import tqdm

    return tqdm(total=epochs, initial=done, unit="epoch", disable=False)


def _walk(
    batches: Callable[[int], Iterable], epoch: int, at: dict[str, Any], saves: bool, check: bool
) -> Iterator[tuple[int, Any]]:
    """Yield (step, batch) of an epoch; where the training `saves`, from step at["step"] on.

    Raises ValueError where the batches of a training that saves end early or, with `check`, begin
    differently if asked for twice.
    """
    if saves:
        yield from _saved_walk(batches, epoch, at, check)
        return
    asked = batches(epoch)
    at["steps"] = operator.length_hint(asked, 0) or at.get("steps")
    yield from enumerate(asked)


def _saved_walk(
    batches: Callable[[int], Iterable], epoch: int, at: dict[str, Any], check: bool
) -> Iterator[tuple[int, Any]]:
    """Walk as `_walk`, noting in `at` what is needed to draw the batches before a checkpoint again.

    An iterator may draw from the global generators at every batch, and so may the training in
    between. at["start"] is their state before the epoch, at["found"][step] the state of those that
    the iterator drew from and that the training had moved since the batch before.
    """
    now, done, known = random_state(), at["step"], "start" in at
    start, found = at.setdefault("start", now), at.setdefault("found", {})
    first = _first(batches, epoch, start) if check else None
    if first or done:
        set_random_state(start)
    asked = batches(epoch)
    at["steps"] = operator.length_hint(asked, 0) or at.get("steps")
    if first and (shared := _shared(asked, first[0])):
        raise _differs(epoch, f"returned {shared} twice")
    iterator, chain = iter(asked), random_state()  # the chain: what a walk without training meets
    for step in itertools.count():
        if step < done:
            set_random_state(found.get(step, {}))
        before = random_state()
        try:
            batch = next(iterator)
        except StopIteration:
            if step < done:
                raise _differs(epoch, f"gave {step} batches, {done} before the stop") from None
            return
        after = random_state()
        drew = [name for name in before if not _unmoved(before[name], after[name])]
        moved = {n: before[n] for n in drew if not _unmoved(before[n], chain.get(n))}
        if moved and step >= done:
            found[step] = moved
        chain |= {name: after[name] for name in drew}
        if step == 0 and first and not _same(batch, first[1]):
            raise _differs(epoch, "gave different batches when asked twice")
        if step + 1 == done:
            if not known and any(not _unmoved(now[name], after.get(name)) for name in now):
                raise ValueError(
                    "run: its checkpoint is of an older version, which did not save what the "
                    "batches drew from; remove the checkpoint to start again"
                )
            set_random_state(now)
        if step >= done:
            yield step, batch


def _first(batches: Callable[[int], Iterable], epoch: int, state: dict[str, Any]) -> tuple:
    """Return the answer of `batches` for an epoch and its first batch (None if there is none)."""
    set_random_state(state)
    asked = batches(epoch)
    return asked, next(iter(asked), None)


def _shared(asked: Any, other: Any) -> str:
    """Name what two answers of `batches` share that moves on from epoch to epoch, or return ""."""
    if asked is other and isinstance(asked, Iterator):
        return "one iterator"
    if asked is other and getattr(asked, "persistent_workers", False):
        return "a DataLoader whose workers persist"
    places = ("generator", "sampler.generator", "batch_sampler.sampler.generator")
    held = [{_inside(x, place) for place in places} - {None} for x in (asked, other)]
    return "a DataLoader with one generator" if held[0] & held[1] else ""


def _inside(owner: Any, path: str) -> Any:
    """Return the generator at a dotted path of attributes, or None."""
    for name in path.split("."):
        owner = getattr(owner, name, None)
    return owner if isinstance(owner, torch.Generator) else None


def _differs(epoch: int, what: str) -> ValueError:
    return ValueError(
        f"batches: for epoch {epoch} (from 0) it {what}, so that a stopped training could not be "
        "resumed; it has to start anew at every call: make its own generators there from the "
        "epoch, e.g. by train.generator(seed, epoch), or draw from the global ones"
    )


DEVICES = ("cuda", "xpu")  # whose modules hold a generator for each device


def random_state() -> dict[str, Any]:
    """Return the state of the default generators of torch (of all devices), numpy and Python."""
    state = {"python": random.getstate(), "torch": torch.get_rng_state()}
    state["numpy"] = _packed(np.random.get_state(legacy=False))  # noqa: NPY002 (the user's)
    for name in DEVICES:
        device = getattr(torch, name, None)
        if device is not None and device.is_initialized():
            state[name] = device.get_rng_state_all()
    if torch.backends.mps.is_available():
        state["mps"] = torch.mps.get_rng_state()
    return state


def set_random_state(state: dict[str, Any]) -> None:
    """Set the generators that `state` holds, as `random_state` returned them."""
    if "python" in state:
        random.setstate(state["python"])
    if "numpy" in state:
        np.random.set_state(_unpacked(state["numpy"]))  # noqa: NPY002
    if "torch" in state:
        torch.set_rng_state(state["torch"])
    for name in set(DEVICES) & state.keys():
        device = getattr(torch, name)
        device.set_rng_state_all(state[name][: device.device_count()])
    if "mps" in state and torch.backends.mps.is_available():
        torch.mps.set_rng_state(state["mps"])


def _packed(state: Any) -> Any:
    """Return numpy's state with its arrays as (dtype, tensor of bytes), to go into a checkpoint."""
    if isinstance(state, dict):
        return {name: _packed(value) for name, value in state.items()}
    if isinstance(state, np.ndarray):
        return state.dtype.str, torch.from_numpy(state.view(np.uint8))
    return state


def _unpacked(state: Any) -> Any:
    if isinstance(state, dict):
        return {name: _unpacked(value) for name, value in state.items()}
    return state[1].numpy().view(state[0]) if isinstance(state, tuple) else state


def _unmoved(a: Any, b: Any) -> bool:
    """Return whether two states of one generator are equal; Python's is a long tuple of numbers."""
    return a == b if isinstance(a, tuple) else _same(a, b)


def _same(a: Any, b: Any, depth: int = 8) -> bool:
    """Return whether two values, or the values in two containers, are equal; a NaN equals itself.

    Objects are compared by their attributes; those that have none count as equal.
    """
    if type(a) is not type(b):
        return False
    if isinstance(a, Tensor):
        if a.layout != torch.strided:
            return True
        if a.shape != b.shape or a.dtype != b.dtype or a.device != b.device:
            return False
        return torch.equal(a, b) or bool(((a == b) | ((a != a) & (b != b))).all())
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_same(a[name], b[name], depth) for name in a)
    if isinstance(a, tuple | list):
        return len(a) == len(b) and all(_same(x, y, depth) for x, y in zip(a, b, strict=True))
    if a is None or isinstance(a, bool | int | float | complex | str | bytes | np.generic):
        return bool(a == b or (a != a and b != b))
    if depth == 0 or not hasattr(a, "__dict__"):
        return True
    return _same(vars(a), vars(b), depth - 1)


def processes() -> tuple[int, int]:
    """Return (rank, number) of the processes that share a batch; (0, 1) for a single one."""
    group = torch.distributed
    if not (group.is_available() and group.is_initialized()):
        return 0, 1
    return group.get_rank(), group.get_world_size()


def from_first(value: Any) -> Any:
    """Return the first process's value (anything that pickles) in all processes."""
    held = [value]
    if processes()[1] > 1:
        torch.distributed.broadcast_object_list(held)
    return held[0]


def add_up(tensors: Sequence[Tensor]) -> None:
    """Add each tensor up over all processes, in place; they have one dtype."""
    if processes()[1] == 1:
        return
    flat = torch.cat([t.reshape(-1) for t in tensors])
    torch.distributed.all_reduce(flat)
    for t, total in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
        t.copy_(total.view(t.shape))


def _part(batch: Any) -> tuple[Any, float]:
    """Return this process's part of a batch, and the weight of its mean in the batch's mean.

    A process for which nothing is left takes the first element with weight 0.
    """
    rank, number = processes()
    if number == 1:
        return batch, 1.0
    if not (isinstance(batch, tuple) and len({len(x) for x in batch}) == 1):
        raise ValueError(
            f"batches: {number} processes can share a tuple of tensors with one row an element, "
            f"not a {type(batch).__name__}"
        )
    n = len(batch[0])
    start, end = n * rank // number, n * (rank + 1) // number
    mine = slice(start, end) if end > start else slice(0, 1)
    return _like(batch, (x[mine] for x in batch)), (end - start) / n


def _like(batch: tuple, tensors: Iterable[Tensor]) -> tuple:
    """Return the tensors as a tuple of the batch's own kind, which may be a named tuple."""
    return getattr(type(batch), "_make", tuple)(tensors)


def _restore(run, model, optimizer) -> tuple[dict, dict | None] | None:
    """Load a checkpoint: return its place in the training and random state (None: already set)."""
    state = run.resume()
    state, run.curve = from_first((state, run.curve))
    if state is None:
        return None
    model.load_state_dict(state["model"])
    for name, value in state.get("buffers", {}).items():
        owner, _, own = name.rpartition(".")
        module = model.get_submodule(owner)
        setattr(module, own, value.to(getattr(module, own).device))
    optimizer.load_state_dict(state["optimizer"])
    return state["at"], state.get("random")


def _saved_and_over(run, at, model, optimizer) -> bool:
    """Save if due; return whether the run stops here: any process may be out of time."""
    if run is None:
        return False
    over = torch.tensor(float(run.out_of_time()))
    add_up([over])
    over = bool(over)
    if over or run.due():
        state = {"at": at, "random": random_state(), "model": model.state_dict()}
        state["buffers"] = {n: b for n, b in model.named_buffers() if n not in state["model"]}
        run.checkpoint({**state, "optimizer": optimizer.state_dict()})
    return over


def _set_rates(optimizer, schedule, epoch, step):
    if schedule is not None:
        factor = schedule(epoch, step)
        for group in optimizer.param_groups:
            rate = group["initial_lr"] * factor
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate)  # a graph reads it from there
            else:
                group["lr"] = rate


def backward(loss: Tensor | Iterator[Tensor], weight: float = 1.0) -> Tensor:
    """Back-propagate a loss, or its parts one after the other, and return its detached value.

    The graph of a part is freed before the next part is computed, so the memory is that of the
    largest part. weight: a factor on the loss.
    """
    values = []
    for part in (loss,) if isinstance(loss, Tensor) else loss:
        value = weight * part
        value.backward()
        values.append(value.detach())
    if not values:
        raise ValueError("loss: got an iterator without a part, expected at least one scalar")
    return sum(values[1:], values[0])


class _Step:
    """Take one step of `fit`: from a batch to the detached value of its loss."""

    def __init__(self, model: nn.Module, loss: Callable, optimizer: Any) -> None:
        self.model, self.loss, self.optimizer = model, loss, optimizer

    def __call__(self, batch: Any) -> Tensor:
        part, weight = _part(batch)
        if getattr(self.optimizer, "second_order", False):
            value = self.optimizer.step(lambda: weight * self.loss(self.model, part))
        else:
            self.optimizer.zero_grad(set_to_none=True)
            value = backward(self.loss(self.model, part), weight)
            add_up([p.grad for p in self.model.parameters() if p.grad is not None])
            self.optimizer.step()
        value = value.detach()
        add_up([value])
        return value


class Captured(_Step):
    """Record a step once, as a CUDA graph, and replay it: one launch instead of thousands.

    The first `WARM_UP` batches are ordinary steps, which set up the optimiser's state and the plans
    of the libraries. The next one is recorded; from then on every batch is copied to the recorded
    one's memory, and no line of Python runs. So a batch is a tuple of tensors; one of other
    shapes than the recorded one takes an ordinary step. The loss may neither read a value
    from the device nor make a tensor from Python's numbers; noise comes from PyTorch's default
    generator. Learning rates become tensors, which a schedule fills. The optimiser is of torch and
    `capturable`.

    Raises ValueError where the model is not on a GPU, several processes share the batches, or these
    are not tuples.
    """

    WARM_UP = 3

    def __init__(self, model: nn.Module, loss: Callable, optimizer: Any) -> None:
        super().__init__(model, loss, optimizer)
        device = next(model.parameters()).device
        _check_capture(device)
        for group in optimizer.param_groups:
            group["capturable"] = True
            group["lr"] = torch.tensor(float(group["lr"]), device=device)
        self.warm, self.batch = 0, ()
        self.graph: torch.cuda.CUDAGraph | None = None
        self.value: Any = None

    def __call__(self, batch: Any) -> Tensor:
        if self.warm < self.WARM_UP:
            self.warm += 1
            return self._beside(batch)
        if self.graph is None:
            self.graph = self._record(batch)
        if any(a.shape != b.shape for a, b in zip(self.batch, batch, strict=True)):
            return super().__call__(batch)
        for kept, new in zip(self.batch, batch, strict=True):
            kept.copy_(new)
        self.graph.replay()
        return self.value

    def _beside(self, batch: Any) -> Tensor:
        """Take an ordinary step on another stream, which recording requires."""
        stream, own = torch.cuda.Stream(), torch.cuda.current_stream()
        stream.wait_stream(own)
        with torch.cuda.stream(stream):
            value = super().__call__(batch)
        own.wait_stream(stream)
        return value

    def _record(self, batch: Any) -> torch.cuda.CUDAGraph:
        if not isinstance(batch, tuple):
            raise ValueError(f"batches: a graph takes tuples, not a {type(batch).__name__}")
        self.batch = _like(batch, (x.clone() for x in batch))
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self.value = super().__call__(self.batch)
        return graph


def _check_capture(device: torch.device) -> None:
    if device.type != "cuda" or processes()[1] > 1:
        raise ValueError(
            "capture: a CUDA graph is of one process and its GPU, got a model on "
            f"{device.type} in {processes()[1]} processes"
        )


def logits(model: nn.Module, images: Tensor, bf16: bool = False) -> Tensor:
    """Return the model's answer in the dtype of its weights, under an outer autocast as well.

    With `bf16` its convolutions run in bfloat16. The softmax and the likelihood that follow keep
    the float32 or float64 of the weights (of the images, where a model has none).
    """
    weights = next((p for p in model.parameters() if p.is_floating_point()), images)
    if images.is_floating_point():
        images = images.to(weights.dtype)
    images = images.contiguous(memory_format=torch.channels_last)
    with in_bfloat16(images.device.type, bf16):
        return model(images).to(weights.dtype)


@contextmanager
def in_bfloat16(kind: str, wanted: bool = True) -> Iterator[None]:
    """Run a block under autocast to bfloat16 on devices of type `kind`, if `wanted`.

    A processor without instructions for bfloat16 takes ten times as long as in float32. There,
    convolutions and products round their operands to bfloat16, run in float32 and round the result:
    the same numbers up to the order of the sums, forward and backward.
    """
    rounded = wanted and kind == "cpu" and not _has_bfloat16()
    with (
        torch.autocast(kind, torch.bfloat16, enabled=wanted),
        _Rounded() if rounded else nullcontext(),
    ):
        yield


def _has_bfloat16() -> bool:
    """Return whether this CPU has vector instructions for convolutions in bfloat16."""
    asked = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)
    return asked is not None and asked()


class _Rounded(TorchFunctionMode):
    """Run convolutions and products as if in bfloat16, with sums in float32."""

    PRODUCTS = frozenset((F.conv2d, F.conv_transpose2d, F.linear, torch.matmul, torch.bmm))

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        tensors = [x for x in (*args, *kwargs.values()) if isinstance(x, Tensor)]
        if func not in self.PRODUCTS or any(x.dtype == torch.float64 for x in tensors):
            return func(*args, **kwargs)  # autocast leaves float64 as it is
        args = [_rounded(x) for x in args]
        kwargs = {name: _rounded(x) for name, x in kwargs.items()}
        with torch.autocast("cpu", enabled=False):
            return func(*args, **kwargs).bfloat16()


def _rounded(x: Any) -> Any:
    return x.bfloat16().float() if isinstance(x, Tensor) else x


def staircase(
    epochs: int, steps: int, stages: int = 2, factor: float = 0.1
) -> Callable[[int, int], float]:
    """Return a schedule for `fit`: `stages` equal stretches, each `factor` times the one before.

    After the last of epochs * steps steps it stays at the last stage. Raises ValueError where
    `epochs`, `steps` or `stages` is no int of at least 1, or `factor` no number of at least 0.
    """
    for name, number in (("epochs", epochs), ("steps", steps), ("stages", stages)):
        check_int(name, number, 1)
    check_number("factor", factor, least=0)

    def schedule(epoch: int, step: int) -> float:
        return factor ** min(stages * (epoch * steps + step) // (epochs * steps), stages - 1)

    return schedule


def cosine(epochs: int, steps: int, warmup: float = 0.0) -> Callable[[int, int], float]:
    """Return a schedule for `fit`: a rise over the share `warmup` of the steps, then half a cosine.

    It is 0 at the last of epochs * steps steps (1 if `warmup` is 1) and 0 after that. Raises
    ValueError where `epochs` or `steps` is no int of at least 1, or `warmup` not in [0, 1].
    """
    check_int("epochs", epochs, 1)
    check_int("steps", steps, 1)
    check_number("warmup", warmup, least=0, most=1)

    def schedule(epoch: int, step: int) -> float:
        t = (epoch * steps + step + 1) / (epochs * steps)
        if t > 1:
            return 0.0
        if t <= warmup:
            return t / warmup
        return 0.5 * (1 + math.cos(math.pi * (t - warmup) / (1 - warmup)))

    return schedule


# Numpy's seed sequences pad a tuple with zeros, so (7,) and (7, 0) give one stream. Of such tuples
# the one that records were made with keeps numpy's stream: (seed, purpose) for seeds below SEEDS,
# (number,) for larger ones; for the purposes below, an epoch, a point or (53) a step follows.
# The purposes have names in `reproduce.common.Salt`.
LENGTHS = {3: 3, 24: 3, 25: 3, 46: 3, 51: 3, 52: 3, 53: 4, 65: 3}
SEEDS = 100


def generator(*seeds: int, device: str | torch.device = "cpu") -> torch.Generator:
    """Return a generator of its own for every tuple of whole numbers >= 0, e.g. (seed, epoch).

    Tuples of different lengths have different streams too: (7,) and (7, 0), say. Raises ValueError
    for a negative number and TypeError for one that is not whole.
    """
    seeds = tuple(map(operator.index, seeds))
    if any(seed < 0 for seed in seeds):
        raise ValueError(f"seeds: got {seeds}, expected whole numbers of 0 or more")
    sequence = np.random.SeedSequence(seeds) if _of_records(seeds) else _sequence(seeds)
    state = int(sequence.generate_state(1, np.uint64)[0])
    return torch.Generator(device).manual_seed(state)


def _of_records(seeds: tuple[int, ...]) -> bool:
    """Return whether this tuple, of those equal up to trailing zeros, has numpy's stream."""
    if len(seeds) > 4 or max(seeds, default=0) >= 2**32:
        return False
    first, purpose = (*seeds, 0, 0)[:2]
    length = 1 if purpose == 0 and first >= SEEDS else LENGTHS.get(purpose, 2)
    return len(seeds) == length or (len(seeds) > length and seeds[-1:] > (0,))


def _sequence(seeds: tuple[int, ...]) -> np.random.SeedSequence:
    """Return a seed sequence of five words or more, from which the tuple can be read back."""
    words: list[int] = []
    for seed in seeds:
        parts = [seed >> shift & 0xFFFFFFFF for shift in range(0, seed.bit_length(), 32)]
        words += [len(parts), *parts]
    return np.random.SeedSequence(words, spawn_key=(len(words) + 1,))


def best(curve: Sequence[dict[str, float]], key: str, largest: bool = False) -> dict[str, float]:
    """Return the first point of a curve with the smallest (or largest) finite value of `key`.

    Where no value is finite, every value of the answer is NaN. Raises ValueError for an empty
    curve, or a point without `key`.
    """
    if not curve:
        raise ValueError("curve: got no epoch, expected at least one")
    if lacking := next((point for point in curve if key not in point), None):
        raise ValueError(f"curve: got no {key!r} in {list(lacking)}; let evaluate return it")
    finite = [point for point in curve if math.isfinite(point[key])]
    if not finite:
        return dict.fromkeys(curve[-1], math.nan)
    return (max if largest else min)(finite, key=lambda point: point[key])


def select(curve: list[dict[str, float]], error: str = "test_error") -> dict[str, float]:
    """Return what a curve reports under three rules of choosing the epoch; lower is better.

    They are the `error` of the last epoch, its minimum over the epochs (which looks at the test
    set), and its value at the epoch with the lowest "validation", with the epochs' numbers. Ties go
    to the earlier epoch; values that are not finite are never the lowest, see `best`. Raises
    ValueError for an empty curve.
    """
    lowest, chosen = best(curve, error), best(curve, "validation")
    return {
        f"last_{error}": curve[-1][error],
        f"best_{error}": lowest[error],
        "best_epoch": lowest["epoch"],
        f"validation_{error}": chosen[error],
        "validation_epoch": chosen["epoch"],
    }
