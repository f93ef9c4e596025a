"""ATen's arithmetic in ONNX: element by element, sums, and products of matrices."""

from collections.abc import Callable
from typing import Any

import torch
from torch.fx import Node

from idm_lib.export.writer import Writer

Rule = Callable[[Writer, Node, list[Any]], Any]  # (graph, the ATen node, its arguments with names for tensors)
aten = torch.ops.aten


def dtype_of(node: Node) -> torch.dtype:
    """The dtype of what a node computes from: its first tensor argument's."""
    return next(arg.meta["val"].dtype for arg in node.args if isinstance(arg, Node))


def named(writer: Writer, node: Node, value: Any) -> str:
    """The name of an argument; a number becomes a constant of the other arguments' dtype."""
    return value if isinstance(value, str) else writer.constant(value, dtype_of(node))


def elementwise(kind: str, swapped: bool = False) -> Rule:
    """A rule for an operation of tensors and numbers that broadcasts alike in both languages."""

    def rule(writer: Writer, node: Node, args: list[Any]) -> str:
        if node.kwargs.get("alpha", 1) != 1 or (kind in ("Add", "Sub") and len(args) > 2 and args[2] != 1):
            raise NotImplementedError(f"{node.target} with a factor alpha")
        operands = [named(writer, node, arg) for arg in args[:2]]
        return writer.op(kind, *(operands[::-1] if swapped else operands))

    return rule


def power(writer: Writer, node: Node, args: list[Any]) -> str:
    """The square, or any other power."""
    return (
        writer.op("Mul", args[0], args[0])
        if args[1] == 2
        else writer.op("Pow", args[0], named(writer, node, args[1]))
    )


def clamp(writer: Writer, node: Node, args: list[Any]) -> str:
    """Bounds that are numbers or tensors, either of which may be missing."""
    out = args[0]
    for kind, bound in zip(("Max", "Min"), args[1:], strict=False):
        out = out if bound is None else writer.op(kind, out, named(writer, node, bound))
    return out


def reduction(kind: str) -> Rule:
    """Mean or sum, over some dimensions or all."""

    def rule(writer: Writer, node: Node, args: list[Any]) -> str:
        keep = int(args[2]) if len(args) > 2 else 0
        axes = [writer.constant(list(args[1]))] if len(args) > 1 else []
        return writer.op(kind, args[0], *axes, keepdims=keep)

    return rule


def matmul(writer: Writer, node: Node, args: list[Any]) -> str:
    """A product of matrices."""
    return writer.op("MatMul", *args)


def add_matmul(writer: Writer, node: Node, args: list[Any]) -> str:
    """An offset and a product of matrices."""
    return writer.op("Add", writer.op("MatMul", args[1], args[2]), args[0])


def silu(writer: Writer, node: Node, args: list[Any]) -> str:
    """x·sigmoid(x)."""
    return writer.op("Mul", args[0], writer.op("Sigmoid", args[0]))


RULES: dict[Any, Rule] = {
    aten.add.Tensor: elementwise("Add"),
    aten.sub.Tensor: elementwise("Sub"),
    aten.mul.Tensor: elementwise("Mul"),
    aten.div.Tensor: elementwise("Div"),
    aten.rsub.Scalar: elementwise("Sub", swapped=True),
    aten.ge.Tensor: elementwise("GreaterOrEqual"),
    aten.pow.Tensor_Scalar: power,
    aten.clamp.default: clamp,
    aten.clamp.Tensor: clamp,
    aten.clamp_min.default: clamp,
    aten.mean.dim: reduction("ReduceMean"),
    aten.sum.default: reduction("ReduceSum"),
    aten.mm.default: matmul,
    aten.bmm.default: matmul,
    aten.addmm.default: add_matmul,
    aten.baddbmm.default: add_matmul,
    aten.silu.default: silu,
    **{
        getattr(aten, kind.lower()).default: (lambda w, n, a, kind=kind: w.op(kind, a[0]))
        for kind in ("Sqrt", "Abs", "Neg", "Reciprocal", "Exp", "Log", "Sin", "Cos", "Sigmoid")
    },
}
