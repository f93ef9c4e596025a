"""The reversible engine against plain autograd, checkpointing and other libraries (``idm bench engine``).

Evaluations, operations and bytes are counted exactly; gradient errors are against float64; times are ratios to plain
autograd within one run, in which all methods take turns. Chapter 07 reads the other libraries' rows, so record with
them: ``pip install --no-deps memcnn revlib``.
"""

import argparse
import importlib
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from benchmarks.operators import milliseconds
from benchmarks.provenance import write
from idm_lib.memory import Meter
from idm_lib.reversible import AdditiveCoupling, Coupling, ReversibleChain, WiredCoupling, reconstruction_errors

Call = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
OPTIONS: dict[str, dict[str, Any]] = {
    "store": {"memory": "store"},
    "checkpoint": {"memory": "checkpoint"},
    "invert": {"memory": "invert"},
    "invert, float64 streams": {"memory": "invert", "stream_dtype": torch.float64},
    "invert, anchor every 4": {"memory": "invert", "anchor_every": 4},
    "invert, bit-exact": {"memory": "invert", "stream_dtype": "exact"},
}


class Body(nn.Module):
    """Two 3×3 convolutions about a SiLU; counts its evaluations itself, so that any library can be compared."""

    def __init__(self, channels: int, device: str | None = None) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1, device=device)
        self.last = nn.Conv2d(channels, channels, 3, padding=1, device=device)
        self.evaluations = 0

    def forward(self, x: Tensor) -> Tensor:
        """Keeps the shape, (B, C, H, W)."""
        self.evaluations += 1
        return self.last(nn.functional.silu(self.first(x)))


def main(argv: Sequence[str] = ()) -> int:
    """Measure and write results/engine.json."""
    parser = argparse.ArgumentParser(prog="idm bench engine", description=__doc__)
    parser.add_argument("--rounds", type=int, default=9, help="rounds to take the median time of")
    parser.add_argument("--links", type=int, default=12, help="links of the timed chain")
    parser.add_argument("--channels", type=int, default=64)
    parser.add_argument("--side", type=int, default=48)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(argv)
    size = (options.batch, options.channels, options.side, options.side)
    payload = {
        "chain": {"links": options.links, "shape": list(size), "v": 0.5, "dtype": "float32"},
        "wired": compare(wired_methods(options.links, options.channels), size, options),
        "additive": compare(additive_methods(options.links, options.channels), size, options),
        "depth": bytes_against_depth(),
        "drift": drift(options.seed),
        "autocast": autocast_errors(options.seed),
    }
    print(f"written: {write('engine', payload, seed=options.seed)}")
    return 0


Method = tuple[list[Body], list[nn.Parameter], Call]


def chain_method(coupling: Callable[[Body], Coupling], links: int, channels: int, memory: str, **options) -> Method:
    """A chain of ours."""
    chain = ReversibleChain([coupling(Body(channels)) for _ in range(links)], **options)
    return [link.body for link in chain.links], list(chain.parameters()), lambda a, b: chain(a, b, memory=memory)


def torch_checkpoint_method(links: int, channels: int) -> Method:
    """``torch.utils.checkpoint`` round each body: what one would use without this library."""
    couplings = nn.ModuleList(WiredCoupling(Body(channels)) for _ in range(links))

    def call(x1: Tensor, x2: Tensor) -> tuple[Tensor, Tensor]:
        for link in couplings:
            x1, x2 = link.mix(checkpoint(link.body, x1, use_reentrant=False), x2), x1
        return x1, x2

    return [link.body for link in couplings], list(couplings.parameters()), call


def wired_methods(links: int, channels: int) -> dict[str, Callable[[], Method]]:
    """The wired chain with each kind of memory and cure."""
    methods: dict[str, Callable[[], Method]] = {
        name: lambda given=given: chain_method(WiredCoupling, links, channels, **given)
        for name, given in OPTIONS.items()
    }
    return methods | {"torch.utils.checkpoint": lambda: torch_checkpoint_method(links, channels)}


def additive_methods(links: int, channels: int) -> dict[str, Callable[[], Method]]:
    """The additive chain, which other libraries offer too."""
    return {
        "store": lambda: chain_method(AdditiveCoupling, links, channels, "store"),
        "invert": lambda: chain_method(AdditiveCoupling, links, channels, "invert"),
        "memcnn": lambda: memcnn_method(importlib.import_module("memcnn"), links, channels),
        "revlib": lambda: revlib_method(importlib.import_module("revlib"), links, channels),
    }


def memcnn_method(memcnn: ModuleType, links: int, channels: int) -> Method:
    """Pairs of bodies as memcnn's additive couplings, on streams concatenated along the channels."""
    bodies = [Body(channels) for _ in range(links)]
    blocks = nn.Sequential(
        *(
            memcnn.InvertibleModuleWrapper(
                fn=memcnn.AdditiveCoupling(Fm=bodies[i], Gm=bodies[i + 1]), keep_input=False, keep_input_inverse=False
            )
            for i in range(0, links, 2)
        )
    )

    def call(x1: Tensor, x2: Tensor) -> tuple[Tensor, Tensor]:
        second, first = blocks(torch.cat([x2, x1], 1)).chunk(2, 1)  # memcnn's first stream is our second
        return first, second

    return bodies, [p for body in bodies for p in body.parameters()], call


def revlib_method(revlib: ModuleType, links: int, channels: int) -> Method:
    """revlib's sequential container, which alternates the streams by itself."""
    bodies = [Body(channels) for _ in range(links)]
    blocks = revlib.ReversibleSequential(*bodies)

    def call(x1: Tensor, x2: Tensor) -> tuple[Tensor, Tensor]:
        second, first = blocks(torch.cat([x2, x1], 1)).chunk(2, 1)
        return first, second

    return bodies, [p for body in bodies for p in body.parameters()], call


def compare(methods: dict[str, Callable[[], Method]], size: Sequence[int], options: argparse.Namespace) -> list[dict]:
    """Evaluations, FLOPs, bytes, gradient error and time of each method, on the same weights and streams."""
    truth: list[Tensor] | None = None
    rows, steps = [], {}
    for name, make in methods.items():
        torch.manual_seed(options.seed)
        try:
            bodies, parameters, call = make()
        except ImportError:
            rows.append({"method": name, "note": "not installed where this was recorded"})
            continue
        if truth is None:
            truth = step(parameters, call, size, options.seed, torch.float64)()
            for p in parameters:
                p.data = p.data.float()
        action = step(parameters, call, size, options.seed, torch.float32)
        for body in bodies:
            body.evaluations = 0
        try:
            with Meter() as meter:
                found = action()
        except Exception as failure:  # another library may not work with this torch: that is a result too
            rows.append({"method": name, "note": f"fails with torch {torch.__version__}: {type(failure).__name__}"})
            continue
        counts = meter.counts()
        rows.append(
            {
                "method": name,
                "evaluations": sum(body.evaluations for body in bodies) / len(bodies),
                "flops": counts.flops,
                "peak_bytes": counts.peak_bytes - sum(g.nbytes for g in found),
                "gradient_error": distance(found, truth),
                "autograd_grad": supports_autograd_grad(parameters, call, size),
            }
        )
        steps[name] = action
    times = milliseconds(steps, options.rounds)
    for row in rows:
        if row["method"] in times:
            row["time_ratio"] = times[row["method"]] / times["store"]
        print("  " + ", ".join(f"{k} {v:.3g}" if isinstance(v, float) else f"{v}" for k, v in row.items()))
    return rows


def step(
    parameters: Sequence[nn.Parameter], call: Call, size: Sequence[int], seed: int, dtype: torch.dtype
) -> Callable[[], list[Tensor]]:
    """One training step up to the gradients, of the streams first and then of the parameters."""
    generator = torch.Generator().manual_seed(seed)
    pair = [torch.randn(tuple(size), generator=generator, dtype=torch.float64).to(dtype) for _ in range(2)]
    for p in parameters:
        p.data = p.data.to(dtype)

    def run() -> list[Tensor]:
        wanted = [*(x.clone().requires_grad_() for x in pair), *parameters]
        for tensor in wanted:
            tensor.grad = None
        h1, h2 = call(wanted[0], wanted[1])
        (h1.square().mean() + (h1 * h2).mean()).backward()  # not every library supports torch.autograd.grad
        return [tensor.grad for tensor in wanted]

    return run


def supports_autograd_grad(parameters: Sequence[nn.Parameter], call: Call, size: Sequence[int]) -> bool:
    """Whether ``torch.autograd.grad`` gives a gradient for every parameter."""
    x1, x2 = (torch.ones(tuple(size), requires_grad=True) for _ in range(2))
    try:
        torch.autograd.grad(sum(h.sum() for h in call(x1, x2)), [x1, x2, *parameters])
    except RuntimeError:
        return False
    return True


def distance(found: Sequence[Tensor], truth: Sequence[Tensor]) -> float:
    """Euclidean distance over all gradients, relative."""
    square = sum(float((a.double() - b.double()).square().sum()) for a, b in zip(found, truth, strict=True))
    return (square / sum(float(b.double().square().sum()) for b in truth)) ** 0.5


def bytes_against_depth() -> list[dict]:
    """Peak bytes of activations, counted on the meta device: no data is ever there."""
    rows = []
    for links in (4, 8, 16, 32, 64, 128, 256):
        row: dict[str, Any] = {"links": links}
        for name, given in OPTIONS.items():
            given = dict(given)
            memory = given.pop("memory")
            chain = ReversibleChain([WiredCoupling(Body(32, "meta")) for _ in range(links)], **given).to("meta")
            x = torch.empty(2, 32, 64, 64, device="meta", requires_grad=True)
            with Meter() as meter:
                h1, h2 = chain(x, x, memory=memory)
                (h1 + h2).sum().backward()
            row[name] = meter.counts().peak_bytes - sum(p.grad.nbytes for p in chain.parameters())
        rows.append(row)
    return rows


def lively_chain(links: int, v: float, seed: int, dtype: torch.dtype = torch.float32, **options) -> ReversibleChain:
    """Bodies with twice torch's initial weights: near a slope of one, as trained bodies are."""
    torch.manual_seed(seed)
    chain = ReversibleChain([WiredCoupling(Body(8), v=v) for _ in range(links)], **options)
    with torch.no_grad():
        for link in chain.links:
            link.body.first.weight.mul_(2)
            link.body.last.weight.mul_(2)
    return chain.to(dtype)


def drift(seed: int) -> list[dict]:
    """Error of the stream that inversion rebuilds last, against depth, for several v and dtypes."""
    generator = torch.Generator().manual_seed(seed)
    x1, x2 = torch.randn(2, 2, 8, 16, 16, generator=generator, dtype=torch.float64)
    rows = []
    for dtype in ("float32", "float64"):
        for v in (0.2, 0.3, 0.5, 0.8):
            chain = lively_chain(64, v, seed, stream_dtype="input")
            errors = reconstruction_errors(chain, x1, x2, dtype=getattr(torch, dtype))
            rows.append({"dtype": dtype, "v": v, "errors": [min(e, 1e300) for e in errors.values()]})
    return rows


def autocast_errors(seed: int) -> list[dict]:
    """Gradient error under autocast, with and without a cure, beside the error of the half precision itself."""
    generator = torch.Generator().manual_seed(seed)
    pair = torch.randn(2, 4, 8, 16, 16, generator=generator, dtype=torch.float64)

    def gradients(links: int, v: float, memory: str, half: torch.dtype | None, **options) -> list[Tensor]:
        dtype = torch.float64 if half is None else torch.float32
        chain = lively_chain(links, v, seed, dtype, **options)
        x1, x2 = (x.to(dtype).requires_grad_() for x in pair)
        with torch.autocast("cpu", dtype=half or torch.bfloat16, enabled=half is not None):
            h1, h2 = chain(x1, x2, memory=memory)
        return list(torch.autograd.grad((h1 * h2.cos()).mean() * 64, [x1, x2, *chain.parameters()]))

    rows = []
    for half in (torch.float16, torch.bfloat16):
        for v, links in ((0.5, 11), (0.3, 11), (0.3, 24), (0.5, 40)):
            truth = gradients(links, v, "store", None)
            row = {"dtype": str(half).removeprefix("torch."), "v": v, "links": links}
            row["stored"] = distance(gradients(links, v, "store", half, stream_dtype=torch.float64), truth)
            for name, cure in (("uncured", "input"), ("auto", "auto"), ("exact", "exact")):
                error = distance(gradients(links, v, "invert", half, stream_dtype=cure), truth)
                row[name] = error if error < 1e300 else None  # JSON has no infinity and no NaN
            rows.append(row)
    return rows
