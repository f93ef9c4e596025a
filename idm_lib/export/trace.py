"""From a program in PyTorch to a flat list of ATen operations."""

import torch
from torch.fx import GraphModule
from torch.fx.experimental.proxy_tensor import make_fx

from idm_lib.export.step import Program


@torch.no_grad()
def traced(program: Program) -> GraphModule:
    """The program's graph: a placeholder for each input and weight, then ATen operations with all shapes known.

    Nothing is computed: the tensors are fake ones, with shapes and without values. So whatever the program asks of a
    value (a test for NaN, say) is left out, and what depends on one (an ``if``) raises torch's own error.
    """
    tensors = [*program.inputs.values(), *program.weights.values()]
    graph = make_fx(program.function, tracing_mode="fake")(*tensors)
    graph.graph.eliminate_dead_code()
    return graph
