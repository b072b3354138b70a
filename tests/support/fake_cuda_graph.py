"""CUDA graphs on a machine without a GPU: recorded operations are run again, as by a graph.

A CUDA graph stores kernels and addresses, and no Python. So `Graph` stores each operation that
reaches the device, with the tensors it read and wrote; `replay` runs the operations again and
writes the results to the same memory. An operation that cannot be recorded raises, as it does on a
GPU: one that waits for the device, or copies numbers from Python to it.
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
    "nonzero": "has a result of unknown size",
    "masked_select": "has a result of unknown size",
    "_unique2": "has a result of unknown size",
    "lift_fresh": "copies numbers from Python",
}
FREE = {"_local_scalar_dense", "_reshape_alias", "_unsafe_view", "alias", "as_strided", "detach"}
FREE |= {"empty", "empty_like", "empty_strided", "expand", "permute", "select", "slice", "split"}
FREE |= {"split_with_sizes", "squeeze", "t", "transpose", "unbind", "unfold", "unsqueeze", "view"}


def name_of(operation):
    """Return the name of an operation, without that of its overload."""
    return operation.overloadpacket.__name__


def storages(held):
    """Return the memory of all tensors of a nested structure."""
    return [x.untyped_storage() for x in tree_leaves(held) if isinstance(x, torch.Tensor)]


class Launches(TorchDispatchMode):
    """Count the operations that a GPU would launch; views and reads are left out."""

    def __init__(self):
        super().__init__()
        self.number = 0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        self.number += name_of(operation) not in FREE
        return operation(*args, **(kwargs or {}))


class Graph(TorchDispatchMode):
    """Replace torch.cuda.CUDAGraph."""

    def __init__(self):
        super().__init__()
        self.calls, self.replays = [], 0
        self.own, self.found = set(), {}  # memory of the graph; older memory, with a copy

    def __enter__(self):
        self.noise = torch.get_rng_state()
        return super().__enter__()

    def __exit__(self, *error):
        """Restore all memory: a recording computes nothing."""
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
        result = operation(*args, **kwargs)
        self.own |= {m.data_ptr() for m in storages(result)} - self.found.keys()
        self.calls.append((operation, args, kwargs, result))
        return result

    @torch.no_grad()
    def replay(self):
        """Run all recorded operations again, on the same memory."""
        self.replays += 1
        for operation, args, kwargs, before in self.calls:
            now = operation(*args, **kwargs)
            for kept, new in zip(tree_leaves(before), tree_leaves(now), strict=True):
                if isinstance(kept, torch.Tensor) and kept.data_ptr() != new.data_ptr():
                    kept.copy_(new)


class Stream:
    """Replace torch.cuda.Stream."""

    def wait_stream(self, other):
        pass


def pretend(monkeypatch):
    """Let `train.Captured` use `Graph` on the CPU; return the list of the graphs it will make."""
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
