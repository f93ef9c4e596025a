"""A graph under construction: names for tensors, and constants that are stored once."""

from collections.abc import Sequence

import numpy as np
import torch

from idm_lib.export.onnx_file import Attribute, graph_bytes, node_bytes, tensor_bytes, value_bytes

_FLOAT32 = 1  # ONNX's number for the type


class Writer:
    """Collects the nodes and constants of one graph. A tensor is known by its name."""

    def __init__(self) -> None:
        self._nodes: list[bytes] = []
        self._tensors: dict[str, bytes] = {}
        self._constants: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        self._count = 0
        self.kinds: set[str] = set()  # operators used

    def op(self, kind: str, *inputs: str, **attributes: Attribute) -> str:
        """Add an operation of one output; return the output's name."""
        return self.ops(kind, 1, *inputs, **attributes)[0]

    def ops(self, kind: str, outputs: int, *inputs: str, **attributes: Attribute) -> list[str]:
        """Add an operation of several outputs; return their names."""
        names = [self._name() for _ in range(outputs)]
        self.kinds.add(kind)
        self._nodes.append(node_bytes(kind, inputs, names, attributes))
        return names

    def rename(self, name: str, to: str) -> None:
        """Give a tensor the name of an output."""
        self._nodes.append(node_bytes("Identity", [name], [to], {}))
        self.kinds.add("Identity")

    def constant(self, value: torch.Tensor | float | Sequence[int], dtype: torch.dtype = torch.int64) -> str:
        """The name of a constant: a tensor, or what makes one of ``dtype``."""
        tensor = value if isinstance(value, torch.Tensor) else torch.tensor(value, dtype=dtype)
        array = tensor.detach().cpu().numpy()
        key = (array.dtype.name, array.shape, array.tobytes())
        if key not in self._constants:
            self._constants[key] = self._name()
            self.tensor(self._constants[key], array)
        return self._constants[key]

    def tensor(self, name: str, array: np.ndarray) -> None:
        """Store a tensor under a name of its own."""
        self._tensors[name] = tensor_bytes(name, array)

    def weight(self, name: str, value: torch.Tensor) -> str:
        """Store a weight, in half as many bytes if that loses nothing (it was shipped so), and name its float32."""
        array = value.detach().cpu().numpy()
        half = array.astype(np.float16)
        if array.dtype != np.float32 or not np.array_equal(half.astype(np.float32), array):
            self.tensor(name, array)
            return name
        self.tensor(name, half)
        return self.op("Cast", name, to=_FLOAT32)

    def graph(self, inputs: dict[str, torch.Tensor], outputs: dict[str, torch.Tensor]) -> bytes:
        """The finished graph, with inputs and outputs like the given tensors."""

        def values(tensors: dict[str, torch.Tensor]) -> list[bytes]:
            return [value_bytes(k, t.shape, str(t.dtype).removeprefix("torch.")) for k, t in tensors.items()]

        return graph_bytes(self._nodes, list(self._tensors.values()), values(inputs), values(outputs))

    def _name(self) -> str:
        self._count += 1
        return f"t{self._count}"
