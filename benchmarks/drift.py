"""How inexact inversion becomes as T grows, by dtype and cure, on a small network (``idm bench drift``).

Two experiments, both against gradients of plain backpropagation in float64. ``chain``: T sampling steps as the links
of one chain, every one of them inverted, with the streams in several dtypes. ``model``: the whole model under named
policies, in which the steps are checkpointed or inverted and the blocks inside inverted. Bodies run in float32, or
under autocast in bfloat16, beside which ``stored`` is the error of that precision itself: nothing is inverted there.
"""

import argparse
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

import idm_lib as idm
from benchmarks.engine import distance
from benchmarks.provenance import write
from idm_lib.models.runs import BlockMemory
from idm_lib.models.steps import PaperStep, alpha_bars
from idm_lib.notebook.photos import photo
from idm_lib.reversible import reconstruction_errors

CURES: dict[str, dict[str, Any]] = {
    "float32": {"stream_dtype": torch.float32, "anchor_every": 0},
    "float32, anchor every 5": {"stream_dtype": torch.float32, "anchor_every": 5},
    "float64": {"stream_dtype": torch.float64, "anchor_every": 0},
    "float64, anchor every 10": {"stream_dtype": torch.float64, "anchor_every": 10},
    "exact": {"stream_dtype": "exact"},
}
BODIES = {"float32": None, "bfloat16": torch.bfloat16}
V = 0.45  # at 1/2 exactly, float64 streams halve without rounding for a while, which no trained v does
SMALL: dict[str, Any] = {
    "block_channels": (16, 32), "norm_groups": 8, "attention_heads": 2, "injectors": (False, False), "v": V,
}  # fmt: skip
LOST = 1e6  # an error beyond this is recorded as null: nothing is left


def main(argv: Sequence[str] = ()) -> int:
    """Measure and write results/drift.json."""
    parser = argparse.ArgumentParser(prog="idm bench drift", description=__doc__)
    parser.add_argument("--steps", type=int, nargs="+", default=[1, 3, 10, 30, 100], help="T of the chain")
    parser.add_argument("--model-steps", type=int, nargs="+", default=[1, 3, 10, 30], help="T of the whole model")
    parser.add_argument("--size", type=int, default=32, help="side of the photograph")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--name", default="drift", help="of the record")
    options = parser.parse_args(argv)
    scene = Scene(options.size, options.seed)
    payload: dict[str, Any] = {"v": V, "image_size": options.size, "lost_above": LOST}
    payload["chain"] = [row for T in options.steps for row in scene.chain_rows(T)]
    payload["model"] = [row for T in options.model_steps for row in scene.model_rows(T)]
    print(f"written: {write(options.name, payload, seed=options.seed)}")
    return 0


class Scene:
    """A photograph, its measurements, and a small network with random weights.

    Args:
        size: side of the photograph.
        seed: of operator and weights.
    """

    def __init__(self, size: int, seed: int) -> None:
        self.seed = seed
        self.op = idm.BlockCS((size, size), ratio=0.3, seed=seed)
        self.y = self.op.A(photo("camera", size)).float().double()  # exact in both precisions

    def model(self, steps: int, wired_blocks: bool, dtype: torch.dtype) -> idm.InvertibleDiffusion:
        """The same weights at any T, in that dtype, which holds them without rounding."""
        torch.manual_seed(self.seed)
        model = idm.InvertibleDiffusion(steps=steps, wired_blocks=wired_blocks, **SMALL)
        with torch.no_grad():
            model.alpha.fill_(0.125 ** (1 / steps))  # from one noise level, however many steps there are
        return model.to(dtype)

    def chain_rows(self, steps: int) -> list[dict[str, Any]]:
        """Every cure and both precisions of the bodies."""
        truth = self._chain_gradients(steps, torch.float64, "store", None)[0]
        rows = []
        for bodies, half in BODIES.items():
            stored, _ = self._chain_gradients(steps, torch.float32, "store", half)
            for name, cure in CURES.items():
                found, inverse = self._chain_gradients(steps, torch.float32, "invert", half, cure)
                row = {"steps": steps, "bodies": bodies, "streams": name, "inverse_error": kept(inverse)}
                row |= {"gradient_error": kept(distance(found, truth)) if found else None}
                row |= {"stored": distance(stored, truth)}
                rows.append(row)
                print("  " + ", ".join(f"{k} {v}" for k, v in row.items()), flush=True)
        return rows

    def _chain_gradients(
        self,
        steps: int,
        dtype: torch.dtype,
        memory: str,
        half: torch.dtype | None,
        cure: dict[str, Any] | None = None,
    ) -> tuple[list[Tensor], float]:
        """All gradients, and the largest error of a rebuilt state; no gradients where no state is left."""
        model, y = self.model(steps, False, dtype), self.y.to(dtype)
        bars, unet = alpha_bars(model.alpha.detach()), model.unet
        links = [idm.WiredCoupling(PaperStep(unet, t - 1, BlockMemory()), v=V) for t in range(steps, 0, -1)]
        chain = idm.ReversibleChain(links, **(cure or {})).to(dtype)
        back = self.op.A_adjoint(y)
        side = [(y, self.op, back, bars[t], bars[t - 1]) for t in range(steps, 0, -1)]
        start = bars[-1].sqrt() * back
        with torch.autocast("cpu", dtype=half or torch.bfloat16, enabled=half is not None):
            h1, h2 = chain(start, start, side, memory=memory)
        loss = (h1.double() - self.op.A_adjoint(self.y)).abs().mean() + h2.double().square().mean()
        try:
            found = list(torch.autograd.grad(loss, list(chain.parameters())))
            with torch.autocast("cpu", dtype=half or torch.bfloat16, enabled=half is not None):
                errors = reconstruction_errors(chain, start, start, side) if cure else {"": 0.0}
        except idm.InputError:  # a rebuilt state is not finite, and the operator refuses it
            return [], float("inf")
        return found, max(errors.values())

    def model_rows(self, steps: int) -> list[dict[str, Any]]:
        """The policies that invert, on the model with wired blocks."""
        truth = self._model_gradients(steps, torch.float64, idm.MemoryPolicy.store(), None)[0]
        rows = []
        for bodies, half in BODIES.items():
            stored, _ = self._model_gradients(steps, torch.float32, idm.MemoryPolicy.store(), half)
            for name in ("lean", "paper"):
                for streams in ("input", "auto", "exact"):
                    named = idm.MemoryPolicy.named(name)
                    policy = idm.MemoryPolicy(named.steps, named.blocks, named.keep_steps, False, streams)
                    found, worst = self._model_gradients(steps, torch.float32, policy, half)
                    row = {"steps": steps, "bodies": bodies, "policy": name, "streams": streams}
                    row |= {"inverse_error": kept(worst), "gradient_error": kept(distance(found, truth))}
                    rows.append(row | {"stored": distance(stored, truth)})
                    print("  " + ", ".join(f"{k} {v}" for k, v in rows[-1].items()), flush=True)
        return rows

    def _model_gradients(
        self, steps: int, dtype: torch.dtype, policy: idm.MemoryPolicy, half: torch.dtype | None
    ) -> tuple[list[Tensor], float]:
        model, y = self.model(steps, True, dtype), self.y.to(dtype)
        log = idm.reversible.DriftLog(bound=float("inf"))
        with torch.autocast("cpu", dtype=half or torch.bfloat16, enabled=half is not None):
            out = model(y, self.op, memory=policy, drift=log)
        loss = (out.double() - self.op.A_adjoint(self.y)).abs().mean()
        found = list(torch.autograd.grad(loss, list(model.parameters())))
        worst = log.worst()
        return found, worst[1] if worst else 0.0


def kept(error: float) -> float | None:
    """None for what is lost, infinite or not a number: JSON has neither."""
    return error if error <= LOST else None
