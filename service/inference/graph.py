"""Tools to rewrite the graph of a frozen TorchScript module."""

from __future__ import annotations

from typing import Any


class GraphEditor:
    """Inserts operations before a node and puts their result in its place."""

    def __init__(self, graph: Any, node: Any) -> None:
        self._graph = graph
        self._node = node
        graph.setInsertPoint(node)

    def constant(self, value: object) -> Any:
        """A constant of the graph."""
        return self._graph.insertConstant(value)

    def emit(self, kind: str, *inputs: Any, type_: Any = None) -> Any:
        """The result of an operation, a tensor where no other type is given."""
        node = self._graph.insertNode(self._graph.create(kind, list(inputs)))
        if type_ is not None:
            node.output().setType(type_)
        return node.output()

    def replace(self, result: Any) -> None:
        """Give `result` to all that used the node, and remove it."""
        self._node.output().replaceAllUsesWith(result)
        # A destroyed node must not stay the point of insertion.
        self._graph.setInsertPoint(self._graph.return_node())
        self._node.destroy()


def inputs(node: Any) -> list[Any]:
    """The values that a node takes."""
    return list(node.inputs())


def constant(value: Any) -> Any:
    """What a value is, where the graph knows; None otherwise."""
    return value.toIValue() if value.node().kind() == "prim::Constant" else None


def fused_relu_user(node: Any) -> Any:
    """The ReLU that alone reads a node's result; None where something else does."""
    uses = node.output().uses()
    return uses[0].user if [use.user.kind() for use in uses] in (["aten::relu"], ["aten::relu_"]) else None
