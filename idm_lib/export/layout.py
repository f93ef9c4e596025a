"""ATen's operations that move numbers and change none, in ONNX; as all shapes are known, most are a reshape."""

from typing import Any

import torch
from torch.fx import Node

from idm_lib.export.arithmetic import Rule
from idm_lib.export.writer import Writer

aten = torch.ops.aten
_KINDS = {torch.float32: 1, torch.int32: 6, torch.int64: 7, torch.float64: 11}


def shape_of(value: Any) -> list[int]:
    """The shape of a node's result."""
    return [int(size) for size in value.meta["val"].shape]


def reshape(writer: Writer, node: Node, args: list[Any]) -> str:
    """Whatever gives the same numbers in the same order."""
    return writer.op("Reshape", args[0], writer.constant(shape_of(node)))


def same(writer: Writer, node: Node, args: list[Any]) -> str:
    """What is another tensor to autograd or to memory, and the same numbers."""
    return args[0]


def select(writer: Writer, node: Node, args: list[Any]) -> str:
    """One index of a dimension."""
    return writer.op("Gather", args[0], writer.constant(args[2]), axis=args[1])


def index_select(writer: Writer, node: Node, args: list[Any]) -> str:
    """Some indices of a dimension."""
    return writer.op("Gather", args[0], args[2], axis=args[1])


def narrow(writer: Writer, node: Node, args: list[Any]) -> str:
    """A stretch of a dimension, every step-th index of it."""
    dim, start, end, step = [*args[1:], *(0, 0, None, 1)[len(args) - 1 :]]
    if shape_of(node) == shape_of(node.args[0]):
        return args[0]
    stop = shape_of(node.args[0])[dim] if end is None else end  # beyond the end means the end, to ONNX as well
    parts = [writer.constant([each]) for each in (start or 0, stop, dim, step)]
    return writer.op("Slice", args[0], *parts)


def unbind(writer: Writer, node: Node, args: list[Any]) -> list[str]:
    """Every index of a dimension."""
    dim = args[1] if len(args) > 1 else 0
    size = shape_of(node.args[0])[dim]
    return [writer.op("Gather", args[0], writer.constant(i), axis=dim) for i in range(size)]


def split(writer: Writer, node: Node, args: list[Any]) -> list[str]:
    """Parts of equal length, but perhaps for the last."""
    dim = args[2] if len(args) > 2 else 0
    sizes = [int(part.shape[dim]) for part in node.meta["val"]]
    return writer.ops("Split", len(sizes), args[0], writer.constant(sizes), axis=dim)


def item(writer: Writer, node: Node, args: list[Any]) -> str:
    """One of several results."""
    return args[0][args[1]]


def cat(writer: Writer, node: Node, args: list[Any]) -> str:
    """Join tensors."""
    return writer.op("Concat", *args[0], axis=args[1] if len(args) > 1 else 0)


def permute(writer: Writer, node: Node, args: list[Any]) -> str:
    """Reorder dimensions."""
    return writer.op("Transpose", args[0], perm=list(args[1]))


def transpose(writer: Writer, node: Node, args: list[Any]) -> str:
    """Swap two dimensions."""
    order = list(range(len(shape_of(node))))
    first, second = args[1:] if len(args) > 1 else (0, 1)
    order[first], order[second] = order[second], order[first]
    return writer.op("Transpose", args[0], perm=order)


def roll(writer: Writer, node: Node, args: list[Any]) -> str:
    """Shift, and let what leaves come in at the other end."""
    out, shape = args[0], shape_of(node)
    for shift, dim in zip(args[1], args[2], strict=True):
        cut, axis = -shift % shape[dim], writer.constant([dim])
        if cut:
            ends = [([cut], [shape[dim]]), ([0], [cut])]
            parts = [writer.op("Slice", out, *map(writer.constant, end), axis) for end in ends]
            out = writer.op("Concat", *parts, axis=dim)
    return out


def expand(writer: Writer, node: Node, args: list[Any]) -> str:
    """Repeat dimensions of length one."""
    shape = shape_of(node)
    return args[0] if shape == shape_of(node.args[0]) else writer.op("Expand", args[0], writer.constant(shape))


def repeat(writer: Writer, node: Node, args: list[Any]) -> str:
    """Lay copies side by side."""
    return args[0] if set(args[1]) == {1} else writer.op("Tile", args[0], writer.constant(list(args[1])))


def pad(writer: Writer, node: Node, args: list[Any]) -> str:
    """A frame of one number round the last dimensions."""
    if not any(args[1]):
        return args[0]
    dims, pairs = len(shape_of(node)), list(zip(args[1][::2], args[1][1::2], strict=True))[::-1]
    before, after = zip(*([(0, 0)] * (dims - len(pairs)) + pairs), strict=True)
    value = writer.constant(float(args[2]) if len(args) > 2 else 0.0, node.meta["val"].dtype)
    return writer.op("Pad", args[0], writer.constant([*before, *after]), value)


def cast(writer: Writer, node: Node, args: list[Any]) -> str:
    """Another dtype."""
    return writer.op("Cast", args[0], to=_KINDS[node.meta["val"].dtype])


def full_like(writer: Writer, node: Node, args: list[Any]) -> str:
    """A tensor of one number."""
    return writer.constant(torch.full(shape_of(node), args[1], dtype=node.meta["val"].dtype))


def linspace(writer: Writer, node: Node, args: list[Any]) -> str:
    """Equally spaced numbers."""
    return writer.constant(torch.linspace(*args, dtype=node.meta["val"].dtype))


def arange(writer: Writer, node: Node, args: list[Any]) -> str:
    """The numbers from 0 up."""
    return writer.constant(torch.arange(*args, dtype=node.meta["val"].dtype))


def grid_index(writer: Writer, node: Node, args: list[Any]) -> str:
    """Some rows and some columns, or more of the last dimensions, each by an index that varies along its own alone.

    Older PyTorch, 2.6 for one, takes enlarging to the nearest pixel apart into this.
    """
    out, dims = args[0], len(shape_of(node.args[0]))
    first = args[1].index(next(index for index in args[1] if index is not None))
    for dim in range(first, dims):
        source = node.args[1][dim] if dim < len(args[1]) else None
        shape = [] if source is None else shape_of(source)
        if shape != [*shape[:1], *[1] * (dims - dim - 1)]:
            raise NotImplementedError(f"{node.target} with indices that are no grid")
        out = writer.op("Gather", out, writer.op("Reshape", args[1][dim], writer.constant([-1])), axis=dim)
    return out


RULES: dict[Any, Rule] = {
    **dict.fromkeys((aten.view.default, aten._unsafe_view.default, aten.unsqueeze.default), reshape),
    **dict.fromkeys((aten.clone.default, aten.detach.default, aten.alias.default), same),
    aten.select.int: select,
    aten.index_select.default: index_select,
    aten.slice.Tensor: narrow,
    aten.unbind.int: unbind,
    aten.split.Tensor: split,
    aten.cat.default: cat,
    aten.permute.default: permute,
    aten.transpose.int: transpose,
    aten.t.default: transpose,
    aten.roll.default: roll,
    aten.expand.default: expand,
    aten.repeat.default: repeat,
    aten.constant_pad_nd.default: pad,
    aten._to_copy.default: cast,
    aten.full_like.default: full_like,
    aten.linspace.default: linspace,
    aten.arange.default: arange,
    aten._unsafe_index.Tensor: grid_index,
}
