"""From a traced program to the bytes of an ONNX file."""

import operator
from typing import Any

from torch.fx import GraphModule, Node

from idm_lib.errors import InputError
from idm_lib.export import arithmetic, layers, layout
from idm_lib.export.arithmetic import Rule
from idm_lib.export.onnx_file import model_bytes
from idm_lib.export.step import Program
from idm_lib.export.trace import traced
from idm_lib.export.writer import Writer

RULES: dict[Any, Rule] = {**arithmetic.RULES, **layout.RULES, **layers.RULES, operator.getitem: layout.item}


def to_onnx(program: Program, name: str) -> bytes:
    """An ONNX file, opset 18, with the program's inputs and outputs under their names and its weights inside.

    Args:
        program: what to export; see :mod:`idm_lib.export.step`.
        name: of the graph.

    Raises:
        InputError: the program uses an operation that has no rule here.
    """
    return converted(traced(program), program, name)[0]


def converted(graph: GraphModule, program: Program, name: str) -> tuple[bytes, set[str]]:
    """The file, and which of ONNX's operators it uses."""
    writer, names = Writer(), {}
    waiting = [*program.inputs, *program.weights]

    def argument(value: Any) -> Any:
        if isinstance(value, Node):
            return names[value]
        return [argument(each) for each in value] if isinstance(value, list | tuple) else value

    outputs: dict[str, Any] = {}
    for node in graph.graph.nodes:
        args = [argument(value) for value in node.args]
        if node.op == "placeholder":
            names[node] = waiting.pop(0)
            if node.users and names[node] in program.weights:
                names[node] = writer.weight(names[node], program.weights[names[node]])
        elif node.op == "output":
            for label, source, value in zip(program.outputs, args[0], node.args[0], strict=True):
                writer.rename(source, label)
                outputs[label] = value.meta["val"]
        elif node.target in RULES:
            names[node] = RULES[node.target](writer, node, args)
        else:
            raise InputError(
                f"{node.target} has no rule in idm_lib.export, so {name} cannot be exported; add one to its RULES."
            )
    return model_bytes(name, writer.graph(program.inputs, outputs)), writer.kinds
