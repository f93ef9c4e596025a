"""The inference half of ``idm bench gpu``: images a second by option, the loss in dB, and DDNM beside IDM."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

import idm_lib as idm
from benchmarks._clock import Budget, Row, seconds
from idm_lib.evaluation import psnr
from idm_lib.notebook.photos import photo
from idm_lib.solvers import ddnm

Options = idm.InferenceOptions
OPTIONS = {
    "float32": Options(),
    "channels last": Options(channels_last=True),
    "float16": Options(dtype=torch.float16),
    "bfloat16": Options(dtype=torch.bfloat16),
    "float16, channels last": Options(dtype=torch.float16, channels_last=True),
    "bfloat16, channels last": Options(dtype=torch.bfloat16, channels_last=True),
}
COMPILED = {
    "float16, channels last, compiled": Options(dtype=torch.float16, channels_last=True, compile=True),
    "bfloat16, channels last, compiled": Options(dtype=torch.bfloat16, channels_last=True, compile=True),
}
COMPILING_TAKES = 100.0  # seconds that have to be left before it begins
PHOTOS = ("camera", "astronaut", "coffee")


def options_rows(
    budget: Budget, name: str, model: nn.Module, size: int, batch: int, trained: bool, table: Mapping[str, Options],
    device: str, rounds: int,
) -> list[Row]:  # fmt: skip
    """Images a second under every option, ``batch`` at a time; with trained weights the loss in dB, too.

    Args:
        budget: of time.
        name: of the model, for the record.
        model: an InvertibleDiffusion.
        size: side of the images.
        batch: how many at a time.
        trained: whether the model reconstructs; dB mean nothing otherwise.
        table: the options; the first is what the others are compared with.
        device: where to.
        rounds: calls to take the fastest of.
    """
    images = torch.cat([photo(p, size) for p in PHOTOS]).to(device)
    op = idm.BlockCS((size, size), 0.25, seed=0).to(device)
    model = model.to(device).eval()
    y = op.A(images)
    many = op.A(images[torch.arange(batch) % len(images)])
    reference: list[float] = []

    def measure(options: Options) -> Row:
        try:
            ready = idm.optimised(model, options)
        except idm.InputError as refusal:
            return {"refused": str(refusal)}
        with torch.no_grad():
            found = ready(y, op).clamp(0, 1)
            ready(many, op)  # warms up, and compiles
            row: Row = {"images_per_second": batch / seconds(lambda: ready(many, op), device, rounds)}
        if trained:
            values = [float(psnr(a[None], b[None])) for a, b in zip(found, images, strict=True)]
            reference.extend(values if not reference else [])
            losses = [whole - value for whole, value in zip(reference, values, strict=True)]
            row |= {"psnr": sum(values) / len(values), "worst_loss_db": max(losses)}
        return row

    return [
        budget.row(
            {"model": name, "option": option, "image_size": size, "batch": batch},
            COMPILING_TAKES if given.compile else 5.0,
            lambda given=given: measure(given),
        )
        for option, given in table.items()
    ]


class FullPrior(nn.Module):
    """Stable Diffusion's whole U-Net as DDNM's prior, on grey images as four channels; random weights, for timing.

    Args:
        config: of diffusers' UNet2DConditionModel, where it is not Stable Diffusion v1.5's.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        self.unet = UNet2DConditionModel(**{"cross_attention_dim": 768, "sample_size": 64} | dict(config))
        self.half: torch.dtype | None = None

    def forward(self, noisy: Tensor, sigma: Tensor | float) -> Tensor:
        """(B, 1, H, W) and a noise level → the clean image's estimate."""
        words = noisy.new_zeros(noisy.shape[0], 77, self.unet.config.cross_attention_dim)
        with torch.autocast(noisy.device.type, dtype=self.half, enabled=self.half is not None):
            noise = self.unet(pixel_unshuffle(noisy, 2), 1, words).sample
        return noisy - sigma * pixel_shuffle(noise.float(), 2)


def against_ddnm(
    budget: Budget, model: nn.Module, full: Mapping[str, Any], size: int, iterations: int, device: str, rounds: int
) -> list[Row]:
    """Seconds an image: DDNM on the full U-Net, the chain on the pruned one, in one run, both with random weights."""
    op = idm.BlockCS((size, size), 0.25, seed=0).to(device)
    y = op.A(photo(PHOTOS[0], size).to(device))
    with torch.device(device):
        prior = FullPrior(full).eval()
    model = model.to(device).eval()
    rows = []
    for name, half in (("float32", None), ("float16", torch.float16), ("bfloat16", torch.bfloat16)):
        prior.half = half
        ready = idm.optimised(model, Options(dtype=half))
        calls: dict[str, tuple[int, Callable[[int], Any]]] = {
            "ddnm, full U-Net": (iterations, lambda n: ddnm(y, op, prior, iterations=n)),
            "idm, pruned U-Net": (model.config.steps, lambda n, ready=ready: ready(y, op)),
        }
        for method, (evaluations, call) in calls.items():

            def measure(call: Callable[[int], Any] = call, evaluations: int = evaluations) -> Row:
                with torch.no_grad():
                    call(2)
                    return {"seconds_per_image": seconds(lambda: call(evaluations), device, rounds)}

            about = {"method": method, "precision": name, "network_calls": evaluations, "image_size": size}
            rows.append(budget.row(about, 30.0, measure))
    return rows
