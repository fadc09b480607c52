"""TorchServe's inference messages, as its own inference.proto (package org.pytorch.serve.grpc.inference) has them.

Its wheel carries no Python stubs; these two messages and one method are all that is asked here.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

PACKAGE = "org.pytorch.serve.grpc.inference"
#: The method that is asked.
PREDICTIONS = f"/{PACKAGE}.InferenceAPIsService/Predictions"
_Field = descriptor_pb2.FieldDescriptorProto


def _file() -> descriptor_pb2.FileDescriptorProto:
    found = descriptor_pb2.FileDescriptorProto(
        name="ultrathink/torchserve_inference.proto", package=PACKAGE, syntax="proto3"
    )
    request = found.message_type.add(name="PredictionsRequest")
    entry = request.nested_type.add(name="InputEntry")
    entry.options.map_entry = True
    _add(entry, "key", 1, _Field.TYPE_STRING)
    _add(entry, "value", 2, _Field.TYPE_BYTES)
    _add(request, "model_name", 1, _Field.TYPE_STRING)
    _add(request, "model_version", 2, _Field.TYPE_STRING)
    _add(request, "input", 3, _Field.TYPE_MESSAGE, f".{PACKAGE}.PredictionsRequest.InputEntry", repeated=True)
    answer = found.message_type.add(name="PredictionResponse")
    _add(answer, "prediction", 1, _Field.TYPE_BYTES)
    return found


def _add(
    message: descriptor_pb2.DescriptorProto,
    name: str,
    number: int,
    kind: _Field.Type.ValueType,
    type_name: str = "",
    *,
    repeated: bool = False,
) -> None:
    field = message.field.add(name=name, number=number, type=kind)
    field.label = _Field.LABEL_REPEATED if repeated else _Field.LABEL_OPTIONAL
    if type_name:
        field.type_name = type_name


_POOL = descriptor_pool.DescriptorPool()
_POOL.Add(_file())
#: A question: model_name, model_version ("" asks the default one), input (a map from names to bytes).
PredictionsRequest: Any = message_factory.GetMessageClass(
    _POOL.FindMessageTypeByName(f"{PACKAGE}.PredictionsRequest")
)
#: An answer: prediction (bytes).
PredictionResponse: Any = message_factory.GetMessageClass(
    _POOL.FindMessageTypeByName(f"{PACKAGE}.PredictionResponse")
)
