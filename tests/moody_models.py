"""Models whose first input decides how they fare: well, for ever, too large, or not a number.

All read x[rows, 1] and give y[rows, 1]. For numbers up to 1000 they give the sigmoid of x, so
that every trial run goes well; beyond, each does what its name says.
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx
from onnx import TensorProto, helper

_FLOAT = TensorProto.FLOAT


def calm() -> onnx.ModelProto:
    """Nothing ever happens."""
    return _model([helper.make_node("Identity", ["answer"], ["y"])])


def nonfinite() -> onnx.ModelProto:
    """NaN: the root of a negative number."""
    nodes = [
        helper.make_node("Sub", ["thousand", "x"], ["room"]),
        helper.make_node("Sqrt", ["room"], ["root"]),
        helper.make_node("Mul", ["root", "nothing"], ["zero"]),
        helper.make_node("Add", ["answer", "zero"], ["y"]),
    ]
    return _model(nodes)


def hungry() -> onnx.ModelProto:
    """16 GiB of zeros."""
    nodes = [
        *_excess(),
        helper.make_node("Mul", ["excess", "four_billion"], ["size"]),
        helper.make_node("ConstantOfShape", ["size"], ["zeros"]),
        helper.make_node("ReduceSum", ["zeros"], ["zero"], keepdims=0),
        helper.make_node("Add", ["answer", "zero"], ["y"]),
    ]
    return _model(nodes)


def endless() -> onnx.ModelProto:
    """2^32 additions a unit, which do not end while anybody waits."""
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["more"], ["still"]),
            helper.make_node("Add", ["before", "nothing"], ["after"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("round", TensorProto.INT64, []),
            helper.make_tensor_value_info("more", TensorProto.BOOL, []),
            helper.make_tensor_value_info("before", _FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("still", TensorProto.BOOL, []),
            helper.make_tensor_value_info("after", _FLOAT, None),
        ],
    )
    nodes = [
        *_excess(),
        helper.make_node("Mul", ["excess", "four_billion"], ["many"]),
        helper.make_node("Squeeze", ["many"], ["rounds"]),
        helper.make_node("Loop", ["rounds", "", "answer"], ["y"], body=body),
    ]
    return _model(nodes)


def _excess() -> Sequence[onnx.NodeProto]:
    """How far the largest x lies beyond 1000, as INT64[1]; 0 where it does not."""
    return [
        helper.make_node("ReduceMax", ["x"], ["largest"], keepdims=0),
        helper.make_node("Sub", ["largest", "thousand"], ["beyond"]),
        helper.make_node("Relu", ["beyond"], ["positive"]),
        helper.make_node("Cast", ["positive"], ["whole"], to=TensorProto.INT64),
        helper.make_node("Unsqueeze", ["whole", "first"], ["excess"]),
    ]


def _model(nodes: Sequence[onnx.NodeProto]) -> onnx.ModelProto:
    column = [helper.make_tensor_value_info(name, _FLOAT, ["rows", 1]) for name in "xy"]
    constants = [
        helper.make_tensor("thousand", _FLOAT, [], [1000.0]),
        helper.make_tensor("nothing", _FLOAT, [], [0.0]),
        helper.make_tensor("four_billion", TensorProto.INT64, [1], [1 << 32]),
        helper.make_tensor("first", TensorProto.INT64, [1], [0]),
    ]
    answer = helper.make_node("Sigmoid", ["x"], ["answer"])
    graph = helper.make_graph([answer, *nodes], "moody", column[:1], column[1:], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model
