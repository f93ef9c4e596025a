"""ATen's layers of a network in ONNX: convolutions, norms, and changes of resolution."""

from typing import Any

import torch
from torch.fx import Node

from idm_lib.export.arithmetic import Rule
from idm_lib.export.layout import shape_of
from idm_lib.export.writer import Writer

aten = torch.ops.aten


def convolution(writer: Writer, node: Node, args: list[Any]) -> str:
    """A convolution of two dimensions, with or without a bias."""
    x, weight, bias, stride, padding, dilation, transposed, _, groups = args
    if transposed:
        raise NotImplementedError("a transposed convolution")
    inputs = [x, weight] if bias is None else [x, weight, bias]
    pads = list(padding) * 2
    return writer.op("Conv", *inputs, strides=list(stride), pads=pads, dilations=list(dilation), group=groups)


def group_norm(writer: Writer, node: Node, args: list[Any]) -> list[str | None]:
    """Each group's mean and variance taken out, then each channel's scale and offset; two more results are unused.

    A group is an instance with one channel, and for that there is an operator which every runtime has.
    """
    x, weight, bias, batch, channels, _, groups, eps = args
    shape = shape_of(node.args[0])
    ones, zeros = (writer.constant(torch.full((groups,), value)) for value in (1.0, 0.0))
    flat = writer.op("Reshape", x, writer.constant([batch, groups, -1]))
    normal = writer.op("InstanceNormalization", flat, ones, zeros, epsilon=float(eps))
    out = writer.op("Reshape", normal, writer.constant(shape))
    column = writer.constant([1, channels] + [1] * (len(shape) - 2))
    for kind, value in (("Mul", weight), ("Add", bias)):
        out = out if value is None else writer.op(kind, out, writer.op("Reshape", value, column))
    return [out, None, None]


def pixel_shuffle(writer: Writer, node: Node, args: list[Any]) -> str:
    """(B, C·r², H, W) → (B, C, H·r, W·r)."""
    return writer.op("DepthToSpace", args[0], blocksize=args[1], mode="CRD")


def pixel_unshuffle(writer: Writer, node: Node, args: list[Any]) -> str:
    """(B, C, H·r, W·r) → (B, C·r², H, W); ONNX's SpaceToDepth has the channels in another order."""
    (batch, channels, height, width), r = shape_of(node.args[0]), args[1]
    split = writer.op("Reshape", args[0], writer.constant([batch, channels, height // r, r, width // r, r]))
    moved = writer.op("Transpose", split, perm=[0, 1, 3, 5, 2, 4])
    return writer.op("Reshape", moved, writer.constant(shape_of(node)))


def upsample(writer: Writer, node: Node, args: list[Any]) -> str:
    """Each pixel as a square of equal ones."""
    rules = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    return writer.op("Resize", args[0], "", "", writer.constant(shape_of(node)), **rules)


RULES: dict[Any, Rule] = {
    aten.convolution.default: convolution,
    aten.native_group_norm.default: group_norm,
    aten.pixel_shuffle.default: pixel_shuffle,
    aten.pixel_unshuffle.default: pixel_unshuffle,
    aten.upsample_nearest2d.default: upsample,
}
