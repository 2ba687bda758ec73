"""Models of every operator, opset, rank and datatype, served as ONNX Runtime itself runs them.

They are the cases by which ONNX tests its backends, and models that PyTorch exported years ago.
What ONNX Runtime's CPU provider does not run is not served either, which is counted.
"""

from __future__ import annotations

import json
import os
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.backend.test
import pytest
from onnx import numpy_helper
from runtime_kit.in_process import InProcess
from tritonclient.grpc import service_pb2
from tritonclient.utils import serialize_byte_tensor

from slipway_runtime.errors import InvalidModel
from slipway_runtime.inference.tensors import DATATYPES
from slipway_runtime.metrics import Metrics
from slipway_runtime.protocol import v2_grpc
from slipway_runtime.protocol.messages import message

os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import onnxruntime

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Case:
    name: str
    model: bytes
    inputs: list[Any]


def operator_cases() -> Iterator[Case]:
    from onnx.backend.test.case.node import collect_testcases  # noqa: PLC0415 - it runs them all

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = collect_testcases(None)
    for case in found:
        for inputs, _ in case.data_sets or ():
            yield Case(case.name, case.model.SerializeToString(), list(inputs))


def exported_cases() -> Iterator[Case]:
    folder = Path(onnx.backend.test.__file__).parent / "data"
    for path in sorted(folder.glob("*/*/model.onnx")):
        for data in sorted(path.parent.glob("test_data_set_0")):
            tensors = sorted(data.glob("input_*.pb"), key=lambda p: int(p.stem.split("_")[1]))
            inputs = [numpy_helper.to_array(onnx.load_tensor(str(tensor))) for tensor in tensors]
            yield Case(path.parent.name, path.read_bytes(), inputs)


def datatype_of(served: InProcess, name: str) -> str:
    return next(s.datatype.name for s in served.model.signature.inputs if s.name == name)


def encoded(array: np.ndarray) -> bytes:
    if array.dtype == np.object_:
        flat = serialize_byte_tensor(array)
        return flat.item() if flat.size else b""
    return np.ascontiguousarray(array).tobytes()


def as_values(array: np.ndarray) -> list[Any]:
    return array.reshape(-1).tolist()


def decoded(output: dict[str, Any], data: bytes | list[Any]) -> np.ndarray:
    dtype = DATATYPES[output["datatype"]].dtype
    if isinstance(data, list):
        return np.array(data, dtype=dtype).reshape(output["shape"])
    if output["datatype"] == "BYTES":
        texts = list[str]()
        while data:
            length = int.from_bytes(data[:4], "little")
            texts.append(data[4 : 4 + length].decode())
            data = data[4 + length :]
        return np.array(texts, dtype=np.object_).reshape(output["shape"])
    return np.frombuffer(data, dtype=dtype).reshape(output["shape"])


def same(one: np.ndarray, other: np.ndarray) -> bool:
    """Bit for bit, NaN included."""
    one, other = np.asarray(one), np.asarray(other)
    if one.dtype == np.object_:
        return one.shape == other.shape and as_values(one) == as_values(other)
    return (one.dtype, one.shape) == (other.dtype, other.shape) and one.tobytes() == other.tobytes()


def rounded(one: np.ndarray, other: np.ndarray) -> bool:
    """Equal but for the last bits: kernels add in another order where memory lies otherwise."""
    if one.dtype.kind != "f" or (one.dtype, one.shape) != (other.dtype, other.shape):
        return False
    return bool(np.allclose(one, other, rtol=1e-5, atol=1e-6, equal_nan=True))


async def by_binary(served: InProcess, inputs: Arrays) -> Arrays:
    blobs = {name: encoded(array) for name, array in inputs.items()}
    tensors = [
        {
            "name": name,
            "shape": list(array.shape),
            "datatype": datatype_of(served, name),
            "parameters": {"binary_data_size": len(blobs[name])},
        }
        for name, array in inputs.items()
    ]
    head = json.dumps({"inputs": tensors, "parameters": {"binary_data_output": True}}).encode()
    headers = {
        "content-type": "application/octet-stream",
        "inference-header-content-length": str(len(head)),
    }
    body = head + b"".join(blobs.values())
    reply = await served.request("POST", "/v2/models/m/infer", body, headers)
    assert reply.status == 200, reply.body
    length = int(reply.headers["inference-header-content-length"])
    rest = reply.body[length:]
    outputs: Arrays = {}
    for output in json.loads(reply.body[:length])["outputs"]:
        size = output["parameters"]["binary_data_size"]
        outputs[output["name"]] = decoded(output, rest[:size])
        rest = rest[size:]
    assert not rest
    return outputs


async def by_json(served: InProcess, inputs: Arrays) -> Arrays:
    tensors = [
        {
            "name": name,
            "shape": list(array.shape),
            "datatype": datatype_of(served, name),
            "data": as_values(array),
        }
        for name, array in inputs.items()
    ]
    reply = await served.infer({"inputs": tensors})
    assert reply.status == 200, reply.body
    return {output["name"]: decoded(output, output["data"]) for output in reply.json["outputs"]}


async def by_grpc(served: InProcess, inputs: Arrays) -> Arrays:
    request = service_pb2.ModelInferRequest(model_name="m")
    for name, array in inputs.items():
        request.inputs.add(name=name, shape=array.shape, datatype=datatype_of(served, name))
        request.raw_input_contents.append(encoded(array))
    own = message("ModelInferRequest").FromString(request.SerializeToString())
    answer = await served.service.answer(lambda model: v2_grpc.decode(own, model), 0.0)
    response = service_pb2.ModelInferResponse.FromString(answer.SerializeToString())
    return {
        output.name: decoded({"datatype": output.datatype, "shape": list(output.shape)}, raw)
        for output, raw in zip(response.outputs, response.raw_output_contents, strict=True)
    }


def is_finite(arrays: Arrays) -> bool:
    return all(np.isfinite(array).all() for array in arrays.values() if array.dtype.kind == "f")


async def check(case: Case, path: Path, metrics: Metrics, seen: Counter[str]) -> list[str]:
    """Serve one case, written to ``path``; returns what differs, and counts into `seen`."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    try:
        direct = onnxruntime.InferenceSession(str(path), options, ["CPUExecutionProvider"])
        names = [arg.name for arg in direct.get_inputs()]
        inputs: Arrays = dict(zip(names, case.inputs, strict=True))
        truth = dict(
            zip([arg.name for arg in direct.get_outputs()], direct.run(None, inputs), strict=True)
        )
        again = direct.run(None, inputs)
    except Exception:  # noqa: BLE001 - whatever it is: the reference does not run it
        seen["not run by ONNX Runtime"] += 1
        return []
    try:
        served = InProcess(path, metrics)
    except InvalidModel:
        seen["refused at load: no tensors of a served datatype"] += 1
        return []
    truth = {spec.name: truth[spec.name] for spec in served.model.signature.outputs}
    if any(value is None for value in truth.values()):
        seen["optional outputs that are absent"] += 1
        return []
    twice = dict(zip([arg.name for arg in direct.get_outputs()], again, strict=True))
    if not all(same(truth[name], twice[name]) for name in truth):
        seen["random"] += 1
        return []
    seen["served"] += 1
    seen[f"opset {onnx.load_model_from_string(case.model).opset_import[0].version}"] += 1
    ways = [by_binary, by_grpc]
    if is_finite(inputs) and is_finite(truth):
        ways.append(by_json)
    wrong = list[str]()
    for way in ways:
        try:
            outputs = await way(served, inputs)
        except Exception as error:  # noqa: BLE001 - all that go wrong are told together
            wrong.append(f"{case.name} {way.__name__} {error!r}"[:400])
            continue
        seen[way.__name__] += 1
        for name, value in truth.items():
            if same(outputs[name], value):
                continue
            if rounded(outputs[name], value):
                seen["equal but for rounding"] += 1
            else:
                wrong.append(
                    f"{case.name} {way.__name__} {name}: {outputs[name]!r} and not {value!r}"
                )
    return wrong


@pytest.mark.parametrize(
    ("cases", "at_least"),
    [(operator_cases, 1300), (exported_cases, 100)],
    ids=["operators", "exported"],
)
async def test_models_are_served_as_a_session_runs_them(
    cases: Any, at_least: int, tmp_path: Path, record_property: Any
) -> None:
    seen, wrong = Counter[str](), list[str]()
    metrics = Metrics("m", "1", "sha256:0")
    for case in cases():
        (tmp_path / "model.onnx").write_bytes(case.model)
        wrong += await check(case, tmp_path / "model.onnx", metrics, seen)
    for what, count in seen.items():
        record_property(what, count)
    print(dict(sorted(seen.items())))
    assert wrong == []
    assert seen["served"] >= at_least, seen
    assert seen["equal but for rounding"] <= 9, seen
