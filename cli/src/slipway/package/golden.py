"""Golden samples: inputs with the outputs that must come, as ``golden.json``.

Tensors have the form that the Open Inference Protocol gives them in JSON, so whatever serves a
model can read them: name, datatype, shape, and data in row-major order.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from slipway.errors import InvalidModel
from slipway.model.signature import DTYPES, Array
from slipway.model.tensor import Tensor
from slipway.validation.cases import Case


def encode(
    samples: Sequence[tuple[Case, Mapping[str, Array]]],
    inputs: Sequence[Tensor],
    outputs: Sequence[Tensor],
) -> bytes:
    """Return the content of the file for cases with their outputs.

    Raises:
        InvalidModel: an output is not finite, for which JSON has no form.
    """
    document = {
        "samples": [
            {
                "inputs": [_tensor(tensor, case.inputs[tensor.name], case) for tensor in inputs],
                "outputs": [
                    _tensor(tensor, found[tensor.name], case)
                    for tensor in outputs
                    if tensor.name in found and tensor.served
                ],
            }
            for case, found in samples
        ]
    }
    return (json.dumps(document, ensure_ascii=False, separators=(",", ":")) + "\n").encode()


def _tensor(tensor: Tensor, array: Array, case: Case) -> dict[str, Any]:
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise InvalidModel(
            f"{tensor.name!r} of the sample {case.label!r} is not finite, so it cannot be golden",
            "give other inputs with --samples FILE.npz, or leave golden samples out: --no-golden",
        )
    data = array.astype(DTYPES[tensor.datatype]).ravel()
    return {
        "name": tensor.name,
        "datatype": tensor.datatype,
        "shape": list(array.shape),
        "data": [_shortest(value) for value in data] if data.dtype.kind == "f" else data.tolist(),
    }


def _shortest(value: Any) -> float:
    # The shortest decimal that gives the same FP16 or FP32 back, not that of its FP64 value.
    return float(str(value))
