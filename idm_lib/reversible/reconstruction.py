"""The error of what inversion rebuilds, measured link by link against the true streams."""

import copy

import torch
from torch import Tensor

from idm_lib.reversible.chain import Extras, ReversibleChain
from idm_lib.reversible.drift import relative_error
from idm_lib.reversible.streams import ExactStreams


@torch.no_grad()
def reconstruction_errors(
    chain: ReversibleChain, x1: Tensor, x2: Tensor, extras: Extras | None = None, *, dtype: torch.dtype | None = None
) -> dict[str, float]:
    """Run the chain up and down again as its backward pass would, and compare.

    Stores all streams on the way, so it is for inspection; :class:`DriftLog` watches a training run cheaply.

    Args:
        chain: the chain; its ``stream_dtype`` and ``anchor_every`` are used.
        x1, x2: the streams, (B, C, ...).
        extras: as for the chain's call.
        dtype: measure a copy of the chain in this dtype; extras must then fit it. None: as it is.

    Returns:
        Relative root-mean-square error of each link's rebuilt x2, by label, in the order in which they are rebuilt:
        the last link first.

    Raises:
        InputError: shapes, devices or extras do not fit.
    """
    if dtype is not None:
        chain, x1, x2 = copy.deepcopy(chain).to(dtype), x1.to(dtype), x2.to(dtype)
    spec, tensors = chain._prepare(x1, x2, extras, "invert", frozenset(), None)
    plan, links = spec.plan, spec.links

    def body(index: int, stream: Tensor) -> Tensor:
        return links[index].body(streams.decode(stream, plan.io_dtype), *spec.filled(index, tensors))

    with spec.ambient.entered():
        streams = plan.streams()
        s1, s2 = streams.encode(x1), streams.encode(x2)
        inputs = []
        for index, link in enumerate(links):
            inputs.append((s1, s2))
            s1, s2 = streams.mix(index, link, body(index, s1), s2), s1
        streams = plan.streams(streams.close() if isinstance(streams, ExactStreams) else ())
        errors = {}
        for index in reversed(range(len(links))):
            if index in plan.anchors:
                s1, s2 = inputs[index]
            else:
                s1, s2 = s2, streams.unmix(index, links[index], body(index, s2), s1)
            truth = streams.decode(inputs[index][1], torch.float64)
            errors[spec.labels[index]] = relative_error(streams.decode(s2, torch.float64), truth)
    return errors
