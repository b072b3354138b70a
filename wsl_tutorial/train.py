"""The one training loop: chapters and reproductions call the same `fit`."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm


def fit(
    model: nn.Module,
    loss: Callable[[nn.Module, Any], Tensor],
    batches: Callable[[int], Iterable],
    optimizer: torch.optim.Optimizer,
    *,
    epochs: int,
    schedule: Callable[[int, int], float] | None = None,
    evaluate: Callable[[nn.Module], dict[str, float]] | None = None,
    run: Any = None,
    progress: bool = False,
    capture: bool = False,
) -> list[dict[str, float]]:
    """Train `model`; return the curve, one dict an epoch: "epoch", mean "loss", `evaluate`'s keys.

    Where torch.distributed is initialised, its processes share every batch: each calls `fit` with
    the same model and the same batches, takes its own part of each, and the gradients are added up.
    That is the training of one process if the loss is a mean over the elements of a batch and the
    batches are tuples of tensors with one row an element. Every process gets the same curve.

    Args:
        loss: (model, batch) -> scalar to minimise.
        batches: epoch (from 0) -> its batches. For a run that resumes bit for bit it must give the
            same batches whenever it is asked for the same epoch.
        optimizer: of torch, or one whose `second_order` is true: its `step(closure)` then gets the
            loss with its graph.
        schedule: (epoch, step) -> factor on every initial learning rate.
        evaluate: model (in eval mode, without gradients) -> metrics, after every epoch.
        run: a `reproduce.runner.Run`: saves checkpoints, resumes from them, collects the curve.
            When it is out of time `fit` saves and returns early, with fewer than `epochs` points.
        progress: draw a bar.
        capture: record the step once, as a CUDA graph, and replay it on every batch, for networks
            of many small kernels that wait for their launches; see `Captured`.
    """
    for group in optimizer.param_groups:
        group.setdefault("initial_lr", group["lr"])
    curve: list[dict[str, float]] = []
    at = {"epoch": 0, "step": 0, "total": torch.zeros((), dtype=torch.float64)}
    if run is not None:
        at = _restore(run, model, optimizer) or at
        curve, run.captured = run.curve, capture
    step_on = (Captured if capture else _Step)(model, loss, optimizer)
    bar = tqdm(total=epochs, initial=at["epoch"], unit="epoch", disable=not progress)
    for epoch in range(at["epoch"], epochs):
        model.train()
        for step, batch in enumerate(batches(epoch)):
            if step < at["step"]:
                continue  # done before the checkpoint
            _set_rates(optimizer, schedule, epoch, step)
            value = step_on(batch)
            at["total"] = at["total"].to(value.device) + value
            at["step"] = step + 1
            if _saved_and_over(run, at, model, optimizer):
                return list(curve)
        point = {"epoch": epoch + 1, "loss": (at["total"] / max(at["step"], 1)).item()}
        if evaluate is not None:
            model.eval()
            with torch.no_grad():
                point.update(evaluate(model))
        if run is None:
            curve.append(point)
        else:
            run.log(**point)
        at = {"epoch": epoch + 1, "step": 0, "total": torch.zeros_like(at["total"])}
        bar.set_postfix(point, refresh=False)
        bar.update()
        if _saved_and_over(run, at, model, optimizer):
            break
    bar.close()
    return list(curve)


def processes() -> tuple[int, int]:
    """(rank, number) of the processes that share every batch: (0, 1) without torch.distributed."""
    group = torch.distributed
    if not (group.is_available() and group.is_initialized()):
        return 0, 1
    return group.get_rank(), group.get_world_size()


def from_first(value: Any) -> Any:
    """The first process's value (of anything that pickles) in all of them."""
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
    """This process's part of a batch, and the weight of the part's mean in the batch's mean.

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
    """The tensors as a tuple of the batch's own kind, which may have names."""
    return getattr(type(batch), "_make", tuple)(tensors)


def _restore(run, model, optimizer) -> dict | None:
    state = run.resume()
    state, run.curve = from_first((state, run.curve))
    if state is None:
        return None
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    return state["at"]


def _saved_and_over(run, at, model, optimizer) -> bool:
    """Save where it is time to; whether the run stops here, as soon as one process says so."""
    if run is None:
        return False
    over = torch.tensor(float(run.out_of_time()))
    add_up([over])
    over = bool(over)
    if over or run.due():
        run.checkpoint({"at": at, "model": model.state_dict(), "optimizer": optimizer.state_dict()})
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


class _Step:
    """One step of `fit`: a batch to the detached value of its loss."""

    def __init__(self, model: nn.Module, loss: Callable, optimizer: torch.optim.Optimizer) -> None:
        self.model, self.loss, self.optimizer = model, loss, optimizer

    def __call__(self, batch: Any) -> Tensor:
        part, weight = _part(batch)
        if getattr(self.optimizer, "second_order", False):
            value = self.optimizer.step(lambda: weight * self.loss(self.model, part))
        else:
            self.optimizer.zero_grad(set_to_none=True)
            value = weight * self.loss(self.model, part)
            value.backward()
            add_up([p.grad for p in self.model.parameters() if p.grad is not None])
            self.optimizer.step()
        value = value.detach()
        add_up([value])
        return value


class Captured(_Step):
    """A step that is recorded once, as a CUDA graph, and replayed: one launch instead of thousands.

    The first `WARM_UP` batches are ordinary steps, in which the optimiser's state and the plans of
    the libraries come to be. The next is recorded; from then on a batch is copied to where the
    recorded one lay, and no line of Python runs. So a batch is a tuple of tensors; one of other
    shapes than the recorded one takes an ordinary step. The loss may ask the device for no value
    and make no tensor from Python's numbers; noise is of PyTorch's default generator. Learning
    rates become tensors, which a schedule fills. The optimiser is of torch and `capturable`.

    Raises ValueError where the model is not on a GPU, several processes share the batches, or these
    are no tuples.
    """

    WARM_UP = 3

    def __init__(self, model: nn.Module, loss: Callable, optimizer: torch.optim.Optimizer) -> None:
        super().__init__(model, loss, optimizer)
        device = next(model.parameters()).device
        _check_capture(device)
        for group in optimizer.param_groups:
            group["capturable"] = True
            group["lr"] = torch.tensor(float(group["lr"]), device=device)
        self.warm, self.graph, self.batch, self.value = 0, None, (), None

    def __call__(self, batch: Any) -> Tensor:
        if self.warm < self.WARM_UP:
            self.warm += 1
            return self._beside(batch)
        if self.graph is None:
            self._record(batch)
        if any(a.shape != b.shape for a, b in zip(self.batch, batch, strict=True)):
            return super().__call__(batch)
        for kept, new in zip(self.batch, batch, strict=True):
            kept.copy_(new)
        self.graph.replay()
        return self.value

    def _beside(self, batch: Any) -> Tensor:
        """An ordinary step on another stream, as recording asks for."""
        stream, own = torch.cuda.Stream(), torch.cuda.current_stream()
        stream.wait_stream(own)
        with torch.cuda.stream(stream):
            value = super().__call__(batch)
        own.wait_stream(stream)
        return value

    def _record(self, batch: Any) -> None:
        if not isinstance(batch, tuple):
            raise ValueError(f"batches: a graph takes tuples, not a {type(batch).__name__}")
        self.batch = _like(batch, (x.clone() for x in batch))
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.value = super().__call__(self.batch)


def _check_capture(device: torch.device) -> None:
    if device.type != "cuda" or processes()[1] > 1:
        raise ValueError(
            "capture: a CUDA graph is of one process and its GPU, got a model on "
            f"{device.type} in {processes()[1]} processes"
        )


def logits(model: nn.Module, images: Tensor, bf16: bool = False) -> Tensor:
    """The model's answer in the dtype of its weights; with `bf16` its convolutions run in bfloat16.

    The softmax and the likelihood that follow keep float32 or float64.
    """
    images = images.contiguous(memory_format=torch.channels_last)
    with torch.autocast(images.device.type, torch.bfloat16, enabled=bf16):
        return model(images).to(images.dtype)


def staircase(
    epochs: int, steps: int, stages: int = 2, factor: float = 0.1
) -> Callable[[int, int], float]:
    """A schedule for `fit`: `stages` equal stretches, each `factor` times the one before it."""

    def schedule(epoch: int, step: int) -> float:
        return factor ** int(stages * _elapsed(epoch, step, epochs, steps))

    return schedule


def cosine(epochs: int, steps: int, warmup: float = 0.0) -> Callable[[int, int], float]:
    """A schedule for `fit`: a rise over the share `warmup` of all steps, then half a cosine."""

    def schedule(epoch: int, step: int) -> float:
        t = _elapsed(epoch, step + 1, epochs, steps)
        if t < warmup:
            return t / warmup
        return 0.5 * (1 + math.cos(math.pi * (t - warmup) / (1 - warmup)))

    return schedule


def _elapsed(epoch: int, step: int, epochs: int, steps: int) -> float:
    return (epoch * steps + step) / (epochs * steps)


def generator(*seeds: int, device: str | torch.device = "cpu") -> torch.Generator:
    """A generator of its own for every tuple of non-negative numbers, e.g. (seed, epoch)."""
    state = int(np.random.SeedSequence(seeds).generate_state(1, np.uint64)[0])
    return torch.Generator(device).manual_seed(state)


def select(
    curve: list[dict[str, float]], error: str = "test_error", validation: str = "validation"
) -> dict[str, float]:
    """What a curve reports under three rules of choosing the epoch; lower is better, ties: earlier.

    Returns the `error` of the last epoch, its minimum over the epochs (which looks at the test
    set), and its value at the epoch with the lowest `validation`, with the epochs' numbers.
    Raises ValueError for an empty curve.
    """
    if not curve:
        raise ValueError("curve must hold at least one epoch, got none")
    best = min(curve, key=lambda p: p[error])
    chosen = min(curve, key=lambda p: p[validation])
    return {
        f"last_{error}": curve[-1][error],
        f"best_{error}": best[error],
        "best_epoch": best["epoch"],
        f"validation_{error}": chosen[error],
        "validation_epoch": chosen["epoch"],
    }
