"""A second device on a machine without one: its tensors are on the CPU, and report another one.

`ELSEWHERE` is a device of PyTorch that this build has by name only. Within `device()` tensors may
be created on it and moved to it. Each operation runs on the CPU, unless it mixes the two devices:
then it raises, as it does between a CPU and a GPU. So whole experiments can be tested for tensors
that are left on the CPU.
"""

import contextlib

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map

from wsl_tutorial.reproduce.patches import methods

ELSEWHERE = "lazy"  # the one that autograd serves on the CPU's own thread
MOVES = ("_to_copy", "copy_")  # tensors from one device to the other
CPU_INDICES = ("index", "index_put", "index_put_", "_index_put_impl_")  # they work on a GPU too


class There(torch.Tensor):
    """A tensor of the second device."""

    @staticmethod
    def __new__(cls, held):
        kind = {"dtype": held.dtype, "strides": held.stride(), "device": ELSEWHERE}
        kind["storage_offset"] = held.storage_offset()
        return torch.Tensor._make_wrapper_subclass(cls, held.shape, **kind)

    def __init__(self, held):
        self.held = held

    def __repr__(self):
        return f"There({self.held})"

    @classmethod
    def __torch_dispatch__(cls, operation, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        name = operation.overloadpacket.__name__
        target = kwargs.get("device")
        given = [x for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
        there = [x for x in given if isinstance(x, cls)]
        here = [x for x in given if not isinstance(x, cls) and x.dim() > 0]
        if name in CPU_INDICES and there and there[0] is given[0]:
            here = [x for x in here if x.is_floating_point()]
        if there and here and name not in MOVES:
            raise RuntimeError(f"{name}: tensors on {ELSEWHERE} and on the cpu")
        stays = bool(there) if target is None else torch.device(target).type == ELSEWHERE
        if target is not None:
            kwargs["device"] = "cpu"
        inner = tree_map(lambda x: x.held if isinstance(x, cls) else x, (args, kwargs))
        result = operation(*inner[0], **inner[1])
        if name == "copy_":
            return args[0]
        if stays:
            result = tree_map(lambda x: cls(x) if isinstance(x, torch.Tensor) else x, result)
        if not there or not stays:
            return result
        return return_and_correct_aliasing(operation, args, kwargs, result)


class Noise(torch.Generator):
    """A generator of the second device."""

    device = torch.device(ELSEWHERE)


class Either(torch.Generator):
    """Replace torch.Generator: return a generator of the device that is asked for."""

    def __new__(cls, device="cpu", plain=torch.Generator):
        return Noise() if torch.device(device).type == ELSEWHERE else plain(device)


class Making(TorchDispatchMode):
    """Let tensors be created on the second device, and moved to it."""

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        target = (kwargs or {}).get("device")
        goes = target is not None and torch.device(target).type == ELSEWHERE
        if goes or any(isinstance(x, There) for x in tree_leaves((args, kwargs))):
            return There.__torch_dispatch__(operation, types, args, kwargs)
        return operation(*args, **(kwargs or {}))


class Python(TorchFunctionMode):
    """Handle what happens before an operation: Python numbers and lists, generators, `tolist`."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if function in (torch.tensor, torch.as_tensor):
            target = kwargs.pop("device", None)
            made = function(*args, **kwargs)
            return made if target is None else made.to(target)
        if function is torch.Tensor.new_tensor:
            return torch.tensor(args[1], dtype=args[0].dtype).to(args[0].device)
        if function is torch.Tensor.tolist:
            return getattr(args[0], "held", args[0]).tolist()
        if function is torch.Tensor.__getitem__:
            args = args[0], tree_map(from_list, args[1], is_leaf=lambda x: isinstance(x, list))
        result = function(*args, **kwargs)
        noise = kwargs.get("generator")
        if noise is not None and isinstance(noise, Noise) is not isinstance(result, There):
            raise RuntimeError(f"{function.__name__}: the generator is not of the tensor's device")
        return result


def from_list(index):
    """Return a list as a tensor of indices, anything else as it is."""
    return torch.tensor(index, dtype=None if index else int) if isinstance(index, list) else index


@contextlib.contextmanager
def device(monkeypatch):
    """Yield the name of the second device, as `Run` takes it."""
    monkeypatch.setattr(torch, "Generator", Either)
    monkeypatch.setattr(methods, "generator", lambda device: Either(device))
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: contextlib.nullcontext())
    with Python(), Making():
        yield ELSEWHERE
