"""ONNX files: what people have converted themselves, and what nobody should have."""

from __future__ import annotations

import numpy as np
import onnx
import skl2onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from skl2onnx.common.data_types import FloatTensorType
from sklearn.linear_model import LogisticRegression

from tests.conformance.cases import BINARY, NUMBERS, Case, Ends, Exact, Model, Refused, Within

FLOAT, INT64, DOUBLE, HALF, BOOL = (
    TensorProto.FLOAT, TensorProto.INT64, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BOOL,
)  # fmt: skip
TOKENS = np.random.default_rng(5).integers(0, 9, (96, 3)).astype(np.int64)
MASK = np.triu(np.full((4, 4), -np.inf, np.float32), 1)


def info(name, shape, kind=FLOAT):
    return helper.make_tensor_value_info(name, kind, shape)


def model(nodes, inputs=None, outputs=None, constants=(), opset=18, ml=None, functions=(), ir=8, domains=()):
    graph = helper.make_graph(
        nodes, "g", inputs or [info("x", ["n", 4])], outputs or [info("y", ["n", 4])],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in dict(constants).items()],
    )  # fmt: skip
    opsets = [helper.make_opsetid("", opset), *([helper.make_opsetid("ai.onnx.ml", ml)] if ml else [])]
    opsets += [helper.make_opsetid(d, 1) for d in domains]
    return helper.make_model(graph, opset_imports=opsets, ir_version=ir, functions=list(functions))


def file(made, rows=NUMBERS, answers=None) -> Model:
    """Answers are those of ONNX's reference implementation where none are given."""
    rows = rows if isinstance(rows, list) else [rows]

    def reference(arrays):
        names = [i.name for i in made.graph.input if i.name not in {t.name for t in made.graph.initializer}]
        with np.errstate(all="ignore"):
            return ReferenceEvaluator(made).run(None, dict(zip(names, arrays, strict=True)))

    return Model(lambda path: onnx.save(made, str(path) + ".onnx"), answers or reference, rows, predict=None)


def node(kind, inputs, outputs, **given):
    return helper.make_node(kind, inputs, outputs, **given)


def mul(**given):
    return model([node("Mul", ["x", "w"], ["y"])], constants={"w": np.arange(1, 5, dtype=np.float32)}, **given)


def converted(**given):
    trained = LogisticRegression().fit(NUMBERS, BINARY)
    made = skl2onnx.convert_sklearn(trained, initial_types=[("x", FloatTensorType([None, 4]))], **given)
    return file(made, answers=lambda a: [trained.predict(a[0]), trained.predict_proba(a[0])])


def local_function(name="Twice", domain="own"):
    body = helper.make_function(
        domain, name, ["a"], ["b"], [node("Add", ["a", "a"], ["b"])], [helper.make_opsetid("", 18)]
    )
    return model([node(name, ["x"], ["y"], domain=domain)], functions=[body], domains=[domain])


def like_an_operator():
    """A function of one's own by the name of an operator."""
    body = helper.make_function(
        "own", "Mul", ["a", "b"], ["c"], [node("Mul", ["a", "b"], ["c"])], [helper.make_opsetid("", 18)]
    )
    return model([node("Mul", ["x", "x"], ["y"], domain="own")], functions=[body], domains=["own"])


def branch(value):
    """A constant in a sub-graph."""
    then = helper.make_graph(
        [node("Constant", [], ["k"], value=numpy_helper.from_array(np.full(4, value, np.float32))), node("Add", ["x", "k"], ["t"])],
        "then", [], [info("t", ["n", 4])],
    )  # fmt: skip
    other = helper.make_graph([node("Identity", ["x"], ["e"])], "else", [], [info("e", ["n", 4])])
    return model([node("If", ["c"], ["y"], then_branch=then, else_branch=other)], constants={"c": np.array(True)})


def constant(value):
    return model([
        node("Constant", [], ["k"], value=numpy_helper.from_array(np.full(4, value, np.float32))),
        node("Mul", ["x", "k"], ["y"]),
    ])  # fmt: skip


def unshaped():
    made = model(
        [node("Reshape", ["x", "s"], ["y"])], constants={"s": np.array([-1, 2, 2])}, outputs=[info("y", None)]
    )
    made.graph.output[0].type.tensor_type.ClearField("shape")
    return made


def o(kind, options, make, ends: Ends | None = None, **arguments) -> Case:
    return Case("ONNX", kind, options, make, ends or Within(), arguments)


CASES = [
    o("Mul", "", lambda: file(mul()), Exact()),
    *(o("Mul", f"opset {k}", lambda k=k: file(mul(opset=k)), Exact()) for k in (7, 9, 11, 13, 15, 17, 19, 21)),
    o("Mul", "an opset that the container does not read", lambda: file(mul(opset=25, ir=10)), Refused("reads up to")),
    o("Mul", "an IR that the container does not read", lambda: file(mul(ir=12)), Refused("IR")),
    o("Mul", "a fixed batch axis", lambda: file(mul(inputs=[info("x", [8, 4])], outputs=[info("y", [8, 4])])), Refused("the batch axis of x is fixed at 8")),
    o("LogisticRegression", "zipmap off", lambda: converted(options={"zipmap": False}, target_opset={"": 18, "ai.onnx.ml": 3})),
    o("LogisticRegression", "ZipMap", lambda: converted(target_opset={"": 18, "ai.onnx.ml": 3}), Refused('options={"zipmap": False}')),
    o("a function of one's own", "", lambda: file(local_function()), Exact()),
    o("a function of one's own", "by the name of an operator", lambda: file(like_an_operator()), Exact()),
    o("an operator of somebody's", "", lambda: file(model([node("Twice", ["x"], ["y"], domain="some.body")], domains=["some.body"])), Refused("some.body")),
    o("Constant", "", lambda: file(constant(2.0)), Exact()),
    o("Constant", "NaN", lambda: file(constant(np.nan)), Refused("answers y")),
    o("Constant", "NaN in a sub-graph", lambda: file(branch(np.nan)), Refused("answers y")),
    o("If", "", lambda: file(branch(2.0)), Exact()),
    o("a mask of infinities", "", lambda: file(model([node("MatMul", ["x", "w"], ["h"]), node("Unsqueeze", ["h", "a"], ["u"]), node("Add", ["u", "m"], ["s"]), node("Softmax", ["s"], ["y"], axis=2)], outputs=[info("y", ["n", 4, 4])], constants={"w": np.eye(4, dtype=np.float32), "a": np.array([1]), "m": MASK}))),
    o("a weight that is NaN", "", lambda: file(model([node("Mul", ["x", "w"], ["y"])], constants={"w": np.array([1, np.nan, 3, 4], np.float32)})), Refused("weight w holds NaN")),
    o("one number a row", "without an axis", lambda: file(model([node("ReduceSum", ["x", "a"], ["y"], keepdims=0)], outputs=[info("y", ["n"])], constants={"a": np.array([1])}))),
    o("one number a batch", "a scalar", lambda: file(model([node("ReduceSum", ["x"], ["y"], keepdims=0)], outputs=[info("y", [])])), Refused("y is a scalar")),
    o("an output without a shape", "", lambda: file(unshaped()), Exact()),
    o("Gather", "whole numbers as indices", lambda: file(model([node("Gather", ["w", "x"], ["y"])], inputs=[info("x", ["n", 3], INT64)], outputs=[info("y", ["n", 3])], constants={"w": np.linspace(0, 1, 9, dtype=np.float32)}), TOKENS), Exact()),
    o("double", "", lambda: file(model([node("Mul", ["x", "w"], ["y"])], inputs=[info("x", ["n", 4], DOUBLE)], outputs=[info("y", ["n", 4], DOUBLE)], constants={"w": np.arange(1.0, 5.0)}), NUMBERS.astype(np.float64)), Exact()),
    o("half", "", lambda: file(model([node("Mul", ["x", "w"], ["y"])], inputs=[info("x", ["n", 4], HALF)], outputs=[info("y", ["n", 4], HALF)], constants={"w": np.arange(1, 5, dtype=np.float16)}), NUMBERS.astype(np.float16)), Exact()),
    o("booleans", "out", lambda: file(model([node("Greater", ["x", "w"], ["y"])], outputs=[info("y", ["n", 4], BOOL)], constants={"w": np.zeros(4, np.float32)})), Exact()),
    o("text", "out", lambda: file(model([node("Cast", ["x"], ["y"], to=TensorProto.STRING)], outputs=[info("y", ["n", 4], TensorProto.STRING)])), Refused("only numbers and booleans")),
    o("a sequence", "out", lambda: file(model([node("SplitToSequence", ["x"], ["y"], axis=1)], outputs=[helper.make_tensor_sequence_value_info("y", FLOAT, None)])), Refused("y is a sequence")),
    o("a free inner axis", "", lambda: file(model([node("Relu", ["x"], ["y"])], inputs=[info("x", ["n", "t"])], outputs=[info("y", ["n", "t"])])), Refused("rows are served at one length")),
    o("two inputs", "", lambda: file(model([node("Add", ["x", "z"], ["y"])], inputs=[info("x", ["n", 4]), info("z", ["n", 4])]), [NUMBERS, NUMBERS * 2]), Exact()),
    o("two outputs", "", lambda: file(model([node("Relu", ["x"], ["y"]), node("Neg", ["x"], ["z"])], outputs=[info("y", ["n", 4]), info("z", ["n", 4])])), Exact()),
    o("two outputs", "of one name", lambda: file(model([node("Relu", ["x"], ["y"])], outputs=[info("y", ["n", 4]), info("y", ["n", 4])])), Refused("2 tensors share the name 'y'")),
    o("an answer that depends on the batch", "", lambda: file(model([node("ReduceMean", ["x", "a"], ["m"]), node("Sub", ["x", "m"], ["y"])], constants={"a": np.array([0])})), Refused("answers a row otherwise where others are beside it")),
    o("RandomNormalLike", "", lambda: file(model([node("RandomNormalLike", ["x"], ["y"])])), Refused("does not answer the same rows alike")),
    o("Mul", "names that are paths", lambda: file(model([node("Mul", ["../../x", "w"], ["/tmp/y"])], inputs=[info("../../x", ["n", 4])], outputs=[info("/tmp/y", ["n", 4])], constants={"w": np.ones(4, np.float32)})), Exact()),
    o("a convolution", "--precision fp16", lambda: file(model([node("Conv", ["x", "w"], ["y"])], inputs=[info("x", ["n", 1, 5, 5])], outputs=[info("y", ["n", 2, 3, 3])], constants={"w": np.random.default_rng(1).normal(size=(2, 1, 3, 3)).astype(np.float32)}), np.random.default_rng(2).normal(size=(64, 1, 5, 5)).astype(np.float32)), Within(2e-2), precision="fp16"),
    o("a product and a cast", "--precision fp16", lambda: file(model([node("MatMul", ["x", "w"], ["h"]), node("Cast", ["h"], ["i"], to=INT64), node("Cast", ["i"], ["f"], to=FLOAT), node("Sub", ["h", "f"], ["y"])], constants={"w": np.eye(4, dtype=np.float32) / 8})), Within(2e-2), precision="fp16"),
    o("Mul", "--precision fp16, no matrix product", lambda: file(mul()), Refused("it has no matrix product"), precision="fp16"),
    o("torch.onnx.export", "a small network", lambda: exported_by_torch()),  # noqa: PLW0108 - it is defined below
]  # fmt: skip


def exported_by_torch() -> Model:
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 2)).eval()

    def write(path):
        torch.onnx.export(
            net, (torch.zeros(2, 4),), str(path) + ".onnx", input_names=["x"], output_names=["y"],
            dynamic_axes={"x": {0: "n"}, "y": {0: "n"}}, dynamo=False,
        )  # fmt: skip

    def ask(arrays):
        with torch.no_grad():
            return [net(torch.from_numpy(arrays[0])).numpy()]

    return Model(write, ask, [NUMBERS], predict=None)
