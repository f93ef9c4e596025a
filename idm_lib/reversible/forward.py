"""The links applied in order, each body evaluated once, and what a backward pass needs put aside."""

from collections.abc import Sequence
from contextlib import nullcontext

import torch
from torch import Tensor

from idm_lib.errors import InputError
from idm_lib.reversible.ambient import same_state
from idm_lib.reversible.parameters import check_buffers_unchanged, versions_of_buffers
from idm_lib.reversible.replay import Record
from idm_lib.reversible.spec import Spec, Tape
from idm_lib.reversible.streams import ExactStreams


def run(
    spec: Spec, x1: Tensor, x2: Tensor, tensors: Sequence[Tensor], tape: Tape | None = None
) -> tuple[Tensor, Tensor]:
    """Apply the links in order and return the end streams; put what a backward pass needs on ``tape``.

    Under autograd and without a tape this is plain backpropagation: ``memory="store"``.
    """
    plan = spec.plan
    streams = plan.streams()
    s1, s2 = streams.encode(x1), streams.encode(x2)
    for index, link in enumerate(spec.links):
        if tape is not None and index in plan.anchors:
            tape["anchor", index] = (s1, s2)
        elif tape is not None and spec.drift is not None:
            tape["watched", index] = (streams.decode(s2.flatten()[spec.drift.places(s2)], torch.float64),)
        f = _evaluate(spec, index, streams.decode(s1, plan.io_dtype), tensors, tape)
        s1, s2 = streams.mix(index, link, f, s2), s1
    y1, y2 = streams.decode(s1, plan.io_dtype), streams.decode(s2, plan.io_dtype)
    if isinstance(streams, ExactStreams):
        # Integers cannot hold NaN or infinity, and a training loop must see them.
        y1, y2 = y1.masked_fill(streams.outside, torch.nan), y2.masked_fill(streams.outside, torch.nan)
        if tape is not None:
            tape["words"] = streams.close()
    if tape is not None and len(spec.links) - 1 not in plan.anchors:
        tape["ends"] = (s1, s2)
    return y1, y2


def _evaluate(spec: Spec, index: int, x: Tensor, tensors: Sequence[Tensor], tape: Tape | None) -> Tensor:
    """Return F(x, *extras) of one link, refusing a body that changes what it is given."""
    extras = spec.filled(index, tensors)
    given = [t for t in (x, *extras) if isinstance(t, Tensor) and not t.is_inference()]
    versions = [t._version for t in given]
    if tape is None:
        f = spec.links[index].body(x, *extras)
    else:
        before, buffers = spec.ambient.random_state(), versions_of_buffers(spec.links[index])
        with Record(spec.replay, spec.ambient) if spec.replay else nullcontext() as record:
            f = spec.links[index].body(x, *extras)
        check_buffers_unchanged(buffers, spec.labels[index])
        if not same_state(before, spec.ambient.random_state()):
            tape["random", index] = before
            # Draws come in the order of memory, and a rebuilt input's layout is the arithmetic's, not this one.
            tape["layout", index] = (torch.tensor(torch.empty_like(x, device="meta").stride()),)
        for kept, results in record.results() if record else ():
            tape["kept", index, kept] = results
    if [t._version for t in given] != versions:
        raise InputError(
            f"expected bodies that leave their inputs as they are, got one that changes an input in place at "
            f"{spec.labels[index]}: give its first operation inplace=False"
        )
    return f
