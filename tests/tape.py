"""What a CUDA graph does, on a CPU: record the operations of a step, then repeat them blindly.

A CUDA graph repeats kernels with the arguments and the addresses that they were recorded with: what
Python computed in between (a number that counts steps, a tensor put in another's place) is frozen.
So does a tape: every operation is executed again on the very tensors it was recorded with, and what
it returns is written to where its result lay. Only random generators move on by themselves, as
registered ones do with a CUDA graph.
"""

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from tests.algorithms.test_contract import SYNCHRONIZING


class _Recorder(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.calls = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        # Nothing in a graph can ask the device for a number or for a shape.
        name = str(func)
        assert not name.startswith(SYNCHRONIZING), f"{name} waits for the device"
        # Where the tensors are now: some operations give another shape to a tensor in place.
        now = tree_map_only(Tensor, torch.ops.aten.alias, (args, kwargs))
        out = func(*args, **kwargs)
        self.calls.append((func, *now, tree_map_only(Tensor, torch.ops.aten.alias, out)))
        return out


def tape(run, generators):
    """For `capture` of `Step`. Recording executes the step once, the first replay does not."""
    with _Recorder() as recorder:
        run()
    is_first = True

    def replay():
        nonlocal is_first
        if is_first:
            is_first = False
            return
        with torch.no_grad():
            for func, args, kwargs, out in recorder.calls:
                again = func(*args, **kwargs)
                for place, value in zip(tree_leaves(out), tree_leaves(again), strict=True):
                    if isinstance(place, Tensor) and place.data_ptr() != value.data_ptr():
                        place.copy_(value)

    return replay
