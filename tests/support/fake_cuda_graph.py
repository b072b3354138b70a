"""CUDA graphs on a machine without a GPU: what is recorded is run again, as a graph would.

A graph keeps kernels and addresses, and no Python. So `Graph` keeps every operation that reaches
the device with the very tensors it read and wrote; `replay` runs them again and writes the answers
to the same memory. What cannot be recorded raises, as it does on a GPU: an operation that waits for
the device, or brings numbers from Python to it.
"""

import contextlib
import sys

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from wsl_tutorial import train

FORBIDDEN = {
    "_local_scalar_dense": "reads a value",
    "is_nonzero": "reads a value",
    "equal": "reads a value",
    "nonzero": "has as many answers as it finds",
    "masked_select": "has as many answers as it finds",
    "_unique2": "has as many answers as it finds",
    "lift_fresh": "copies numbers from Python",
}
FREE = {"_local_scalar_dense", "_reshape_alias", "_unsafe_view", "alias", "as_strided", "detach"}
FREE |= {"empty", "empty_like", "empty_strided", "expand", "permute", "select", "slice", "split"}
FREE |= {"split_with_sizes", "squeeze", "t", "transpose", "unbind", "unfold", "unsqueeze", "view"}


def name_of(operation):
    return operation.overloadpacket.__name__


def storages(held):
    return [x.untyped_storage() for x in tree_leaves(held) if isinstance(x, torch.Tensor)]


class Launches(TorchDispatchMode):
    """Counts the operations that a GPU would launch, views and reads left out."""

    def __init__(self):
        super().__init__()
        self.number = 0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        self.number += name_of(operation) not in FREE
        return operation(*args, **(kwargs or {}))


class Graph(TorchDispatchMode):
    """Stands for torch.cuda.CUDAGraph."""

    def __init__(self):
        super().__init__()
        self.calls, self.replays = [], 0
        self.own, self.found = set(), {}  # memory of the graph; what it found, as it was

    def __enter__(self):
        self.noise = torch.get_rng_state()
        return super().__enter__()

    def __exit__(self, *error):
        """Recording computes nothing, so all is as before."""
        super().__exit__(*error)
        for storage, content in self.found.values():
            storage.copy_(content)
        torch.set_rng_state(self.noise)

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        kwargs, name = kwargs or {}, name_of(operation)
        by_mask = name in ("index", "index_put", "index_put_") and any(
            isinstance(x, torch.Tensor) and x.dtype == torch.bool for x in tree_leaves(args[1])
        )
        if by_mask or name in FORBIDDEN:
            why = "finds places by a mask" if by_mask else FORBIDDEN[name]
            raise RuntimeError(f"not permitted when the stream is capturing: {name} {why}")
        for memory in storages((args, kwargs)):
            if memory.data_ptr() not in self.own | self.found.keys():
                self.found[memory.data_ptr()] = memory, memory.clone()
        answer = operation(*args, **kwargs)
        self.own |= {m.data_ptr() for m in storages(answer)} - self.found.keys()
        self.calls.append((operation, args, kwargs, answer))
        return answer

    @torch.no_grad()
    def replay(self):
        self.replays += 1
        for operation, args, kwargs, before in self.calls:
            now = operation(*args, **kwargs)
            for kept, new in zip(tree_leaves(before), tree_leaves(now), strict=True):
                if isinstance(kept, torch.Tensor) and kept.data_ptr() != new.data_ptr():
                    kept.copy_(new)


class Stream:
    def wait_stream(self, other):
        pass


def pretend(monkeypatch):
    """Let `train.Captured` use `Graph` on the CPU; returns the graphs it makes, in their order."""
    made = []

    def graph():
        made.append(Graph())
        return made[-1]

    monkeypatch.setattr(torch.cuda, "CUDAGraph", graph)
    monkeypatch.setattr(torch.cuda, "graph", lambda graph: graph)
    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "current_stream", Stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: contextlib.nullcontext())
    adam = sys.modules["torch.optim.adam"]
    monkeypatch.setattr(adam, "_get_capturable_supported_devices", lambda *_: ["cpu"])
    monkeypatch.setattr(train, "_check_capture", lambda device: None)
    return made
