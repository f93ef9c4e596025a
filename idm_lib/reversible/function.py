"""The chain's one autograd Function: forward without a graph, backward by walking the links in reverse.

What it keeps for the backward pass does not depend on the number of links: the two end streams, the side inputs and
the parameters, plus whatever cure was asked for (anchors, remainder words) and results kept for replay. Backward
rebuilds each link's input from its output. Per link there is *one* evaluation of the body, with a graph; it serves
the inverse and the gradients alike.

Nothing here writes to ``.grad``: gradients are returned for every tensor that was passed, so accumulation, tied
weights, frozen parameters, ``torch.autograd.grad``, DDP's hooks and gradient scaling work as for any operation.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from idm_lib.reversible.backward import Walk
from idm_lib.reversible.forward import run
from idm_lib.reversible.spec import Spec, Tape


class ReversibleFunction(torch.autograd.Function):
    """``apply(spec, x1, x2, *tensors) -> (y1, y2)``: a whole chain as one operation of autograd.

    ``tensors`` holds, each once, every parameter and every tensor among the side inputs.
    """

    @staticmethod
    def forward(ctx: Any, spec: Spec, x1: Tensor, x2: Tensor, *tensors: Tensor) -> tuple[Tensor, Tensor]:
        """Run the chain without a graph."""
        tape = Tape()
        with spec.ambient.entered():
            y1, y2 = run(spec, x1, x2, tensors, tape)
        ctx.layout, kept = tape.flat()
        ctx.save_for_backward(*tensors, *kept)
        ctx.spec, ctx.count, ctx.dtypes = spec, len(tensors), (x1.dtype, x2.dtype)
        ctx.set_materialize_grads(False)
        return y1, y2

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g1: Tensor | None, g2: Tensor | None) -> tuple[Tensor | None, ...]:
        """Walk the links from last to first; return a gradient for every tensor that needs one."""
        saved = ctx.saved_tensors  # read once: unpacking may recompute or fetch
        _, needs_x1, needs_x2, *needs = ctx.needs_input_grad
        tape = Tape.from_flat(ctx.layout, saved[ctx.count :])
        walk = Walk(ctx.spec, saved[: ctx.count], tape, needs, needs_x1 or needs_x2)
        del saved, tape
        # Unless the graph is to be kept, nobody but the walk holds the tape now, and the walk drops what it has used.
        ctx.maybe_clear_saved_tensors()
        g1, g2 = walk.run(g1, g2)
        g1 = g1.to(ctx.dtypes[0]) if needs_x1 and g1 is not None else None
        g2 = g2.to(ctx.dtypes[1]) if needs_x2 and g2 is not None else None
        return None, g1, g2, *(walk.gradients.get(number) for number in range(ctx.count))
