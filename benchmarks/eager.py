"""Inference beside the same blocks composed by hand (``idm bench eager``).

The composition is what anyone would write from the paper with diffusers' blocks: a loop over the steps, a walk
through the U-Net, two streams, injectors by pixel shuffle and convolution. No chain, no policy, no check. It must
give the same image; what the library's machinery costs, or saves, in inference is the ratio of their times.
"""

import argparse
import statistics
import time
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import idm_lib as idm
from benchmarks.provenance import write
from idm_lib.models.planning import model_config

Pair = tuple[Tensor, Tensor]


def main(argv: Sequence[str] = ()) -> int:
    """Measure and write results/eager.json."""
    parser = argparse.ArgumentParser(prog="idm bench eager", description=__doc__)
    parser.add_argument("--model", default="sd15", help="a configuration with the paper's schedule")
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--ratio", type=float, default=0.3)
    parser.add_argument("--rounds", type=int, default=7, help="rounds; in each, both take their turn")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(argv)
    torch.manual_seed(options.seed)
    model = with_random_injectors(idm.InvertibleDiffusion(**model_config(options.model))).eval()
    op = idm.BlockCS((options.image_size, options.image_size), options.ratio, seed=options.seed)
    y = op.A(torch.rand(1, 1, options.image_size, options.image_size))
    payload = {key: getattr(options, key) for key in ("model", "image_size", "ratio", "rounds")}
    payload |= compare(model, y, op, options.rounds)
    print(f"  library: × {payload['time_ratio']:.3f} the composition's time, {payload['difference']:.1e} apart")
    print(f"written: {write('eager', payload, seed=options.seed)}")
    return 0


@torch.no_grad()
def compare(model: idm.InvertibleDiffusion, y: Tensor, op: Any, rounds: int) -> dict[str, Any]:
    """Both in turn, in changing order; the ratio is taken within each round, and its median reported."""
    ways = {"library": lambda: model(y, op), "composition": lambda: composed(model, y, op)}
    images = {name: way() for name, way in ways.items()}  # warms up as well
    scale = images["composition"].square().mean().sqrt()
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds):
        for name in sorted(ways, reverse=bool(number % 2)):
            began = time.perf_counter()
            ways[name]()
            seconds[name].append(time.perf_counter() - began)
    ratios = [a / b for a, b in zip(seconds["library"], seconds["composition"], strict=True)]
    found = {"time_ratio": statistics.median(ratios), "ratio_low": min(ratios), "ratio_high": max(ratios)}
    found |= {f"{name}_seconds": statistics.median(values) for name, values in seconds.items()}
    return found | {"difference": float((images["library"] - images["composition"]).abs().max() / scale)}


def with_random_injectors(model: idm.InvertibleDiffusion) -> idm.InvertibleDiffusion:
    """Injectors begin at zero; a comparison should see them."""
    for name, parameter in model.named_parameters():
        if ".i2f.weight" in name:
            nn.init.normal_(parameter, std=0.02)
    return model


def composed(model: idm.InvertibleDiffusion, y: Tensor, op: Any) -> Tensor:
    """The paper's sampler, written down."""
    back = op.A_adjoint(y)
    bars = torch.cat([torch.ones(1), model.alpha.clamp(0.01, 0.99).cumprod(0)])
    chain = model.chain
    x1 = bars[-1].sqrt() * back
    x2 = chain.s * x1
    for t, v in zip(range(len(model.alpha), 0, -1), chain.v, strict=True):
        noise = F.pixel_shuffle(unet(model.unet, F.pixel_unshuffle(x1, 2), t - 1, op, back), 2)
        clean = (x1 - (1 - bars[t]).sqrt() * noise) / bars[t].sqrt()
        clean = clean - op.A_dagger(op.A(clean) - y)
        step = bars[t - 1].sqrt() * clean + (1 - bars[t - 1]).sqrt() * noise
        x1, x2 = wired((x1, x2), step, v, chain.v_range)
    return x1 + chain.m * x2


def unet(net: Any, x: Tensor, step: int, op: Any, back: Tensor) -> Tensor:
    """The pruned and wired U-Net of one step."""
    h = net.conv_in(x)
    skips = [h]
    for block in net.down_blocks:
        pair: Pair = (h, h)
        for i, (resnet, run) in enumerate(zip(block.resnets, block.runs, strict=True)):
            links = iter(run.v)
            if not block.same_width[i]:
                h = resnet(h, None)
            pair = pair if run.s is None else (h, run.s * h)
            if block.same_width[i]:
                pair = wired(pair, resnet(pair[0], None), next(links), run.v_range)
            pair = layer(block, i, pair, links, run.v_range, (step, op, back))
            h = pair[0] + run.m * pair[1]
            skips.append(h)
        for down in block.downsamplers:
            h = down(h)
            skips.append(h)
    h = h.repeat(1, net.config.bottleneck_repeat, 1, 1)
    for block in net.up_blocks:
        run, links = block.run, iter(block.run.v)
        h = block.resnets[0](torch.cat([h, skips.pop()], 1), None)
        pair = layer(block, 0, (h, run.s * h), links, run.v_range, (step, op, back))
        for i, resnet in enumerate(block.resnets[1:], 1):
            pair = wired(pair, resnet(torch.cat([pair[0], skips.pop()], 1), None), next(links), run.v_range)
            pair = layer(block, i, pair, links, run.v_range, (step, op, back))
        h = pair[0] + run.m * pair[1]
        for up in block.upsamplers:
            h = up(h)
    return net.conv_out(F.silu(net.conv_norm_out(h)))


def layer(
    block: Any, i: int, pair: Pair, links: Any, bounds: tuple[float, float], told: tuple[int, Any, Any]
) -> Pair:
    """What follows a resnet: an injector, attention, an injector, each a link."""
    step, op, back = told
    before, after = (each[step] for each in block.injectors[2 * i : 2 * i + 2])
    pair = wired(pair, injected(before, pair[0], op, back), next(links), bounds)
    pair = wired(pair, block.attentions[i](pair[0], return_dict=False)[0], next(links), bounds)
    return wired(pair, injected(after, pair[0], op, back), next(links), bounds)


def injected(injector: Any, h: Tensor, op: Any, back: Tensor) -> Tensor:
    """Features, shuffled to full size, to an image and back."""
    image = injector.f2i(F.pixel_shuffle(h, injector.scale))
    physics = torch.cat([image, op.A_adjoint(op.A(image)), back], 1)
    return h + F.pixel_unshuffle(injector.i2f(physics), injector.scale)


def wired(pair: Pair, f: Tensor, v: Tensor, bounds: tuple[float, float]) -> Pair:
    """y₁ = (1−v)·F(x₁) + v·x₂, y₂ = x₁."""
    v = v.clamp(*bounds)
    return (1 - v) * f + v * pair[1], pair[0]
