"""``spec.golden``: what the model must compute before a pod is ready."""

from enum import StrEnum
from typing import Annotated, Any

from pydantic import Field, WithJsonSchema

from slipway_operator.api.schema import Schema

# Numbers, strings, booleans or further lists; the runtime holds them to the model's datatypes.
TensorData = Annotated[
    list[Any],
    WithJsonSchema(
        {
            "type": "array",
            "maxItems": 4096,
            "items": {"x-kubernetes-preserve-unknown-fields": True},
        }
    ),
]


class Datatype(StrEnum):
    """Datatypes of the Open Inference Protocol."""

    BOOL = "BOOL"
    UINT8 = "UINT8"
    UINT16 = "UINT16"
    UINT32 = "UINT32"
    UINT64 = "UINT64"
    INT8 = "INT8"
    INT16 = "INT16"
    INT32 = "INT32"
    INT64 = "INT64"
    FP16 = "FP16"
    BF16 = "BF16"
    FP32 = "FP32"
    FP64 = "FP64"
    BYTES = "BYTES"


class Tensor(Schema):
    """One input or output, as the Open Inference Protocol writes tensors in JSON."""

    name: str = Field(min_length=1, max_length=256, description="Name in the model.")
    datatype: Datatype = Field(description="Datatype in the model.")
    shape: list[Annotated[int, Field(ge=0)]] = Field(
        max_length=16, description="Sizes, the batch's included."
    )
    data: TensorData = Field(
        description="Elements in row-major order, flat or nested. Kubernetes rounds integers of "
        "2^63 and more: such samples belong into a package."
    )


class Sample(Schema):
    """Inputs, and the outputs that the model must compute from them."""

    inputs: list[Tensor] = Field(
        min_length=1, max_length=64, description="One tensor for each input of the model."
    )
    outputs: list[Tensor] = Field(
        min_length=1, max_length=64, description="The outputs that are compared."
    )


class Golden(Schema):
    """Samples that every pod computes before it is ready, beside those of a package. A value passes
    when |got - golden| <= atol + rtol * |golden|; strings must be equal. A serving image too old to
    check them does not start.
    """

    samples: list[Sample] = Field(
        min_length=1,
        max_length=16,
        description="At most 64 KiB in all; larger ones belong into a package.",
    )
    rtol: float | None = Field(default=None, ge=0, description="Absent: 0.0001.")
    atol: float | None = Field(default=None, ge=0, description="Absent: 0.00001.")
