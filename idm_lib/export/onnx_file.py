"""An ONNX file, written byte by byte: the few messages of its protocol buffer that a graph of ours needs.

The format is fixed and public (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto): a field is a key, its number
and kind, then an integer of seven bits a byte, four bytes, or a length and as many bytes. That is all that is written
here, so that exporting needs no package that the library does not need anyway.
"""

import struct
from collections.abc import Sequence

import numpy as np

OPSET = 18  # of the operators' definitions
_IR_VERSION = 8  # of the file format, the one that came with the opset
_KINDS = {"float32": 1, "int32": 6, "int64": 7, "bool": 9, "float16": 10, "float64": 11}

Attribute = int | float | str | Sequence[int]


def model_bytes(name: str, graph: bytes) -> bytes:
    """A whole file from a graph's bytes."""
    opset = _field(2, OPSET)
    return b"".join(
        [_field(1, _IR_VERSION), _field(2, "idm_lib"), _field(7, _field(2, name) + graph), _field(8, opset)]
    )


def graph_bytes(
    nodes: Sequence[bytes], tensors: Sequence[bytes], inputs: Sequence[bytes], outputs: Sequence[bytes]
) -> bytes:
    """A graph: nodes in the order of computation, tensors that are part of it, what goes in and what comes out."""
    parts = ((1, nodes), (5, tensors), (11, inputs), (12, outputs))
    return b"".join(_field(number, each) for number, group in parts for each in group)


def node_bytes(kind: str, inputs: Sequence[str], outputs: Sequence[str], attributes: dict[str, Attribute]) -> bytes:
    """One operation, as ``Conv``, with the names of its tensors."""
    parts = [_field(1, name) for name in inputs] + [_field(2, name) for name in outputs] + [_field(4, kind)]
    return b"".join(parts + [_field(5, _attribute(name, value)) for name, value in attributes.items()])


def tensor_bytes(name: str, array: np.ndarray) -> bytes:
    """A tensor with its values, stored as they are in memory, little end first."""
    little = np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<"), copy=False)
    dims = b"".join(_field(1, int(size)) for size in array.shape)
    return dims + _field(2, _KINDS[array.dtype.name]) + _field(8, name) + _field(9, little.tobytes())


def value_bytes(name: str, shape: Sequence[int], dtype: str) -> bytes:
    """What an input or output is: its name, shape and type."""
    dims = b"".join(_field(1, _field(1, int(size))) for size in shape)
    return _field(1, name) + _field(2, _field(1, _field(1, _KINDS[dtype]) + _field(2, dims)))


def _attribute(name: str, value: Attribute) -> bytes:
    if isinstance(value, float):
        return _field(1, name) + _key(2, 5) + struct.pack("<f", value) + _field(20, 1)
    if isinstance(value, int):
        return _field(1, name) + _field(3, value) + _field(20, 2)
    if isinstance(value, str):
        return _field(1, name) + _field(4, value) + _field(20, 3)
    return _field(1, name) + b"".join(_field(8, int(each)) for each in value) + _field(20, 7)


def _field(number: int, value: int | str | bytes) -> bytes:
    if isinstance(value, int):
        return _key(number, 0) + _varint(value)
    raw = value.encode() if isinstance(value, str) else value
    return _key(number, 2) + _varint(len(raw)) + raw


def _key(number: int, kind: int) -> bytes:
    return _varint(number << 3 | kind)


def _varint(value: int) -> bytes:
    value &= (1 << 64) - 1  # negative numbers are written as 64-bit two's complement
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)
