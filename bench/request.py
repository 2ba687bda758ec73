"""The same row as each kind of server takes it, and how the output is found in the answer."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from models import Feeds

V2_PATH = "/v2/models/m/infer"
_DATATYPES = {"int64": "INT64", "float32": "FP32"}

Json = dict[str, Any]


@dataclass(frozen=True)
class Request:
    """What is sent, and how the numbers of the one output are found in the answer."""

    path: str
    body: bytes
    output: Callable[[bytes, Json], Any]
    headers: Json = field(default_factory=lambda: {"content-type": "application/json"})


def v2_json(feeds: Feeds) -> Request:
    """The Open Inference Protocol with the numbers as JSON."""
    tensors = [
        {**_described(name, array), "data": array.ravel().tolist()} for name, array in feeds.items()
    ]
    body = json.dumps({"inputs": tensors}).encode()
    return Request(V2_PATH, body, lambda answer, _: json.loads(answer)["outputs"][0]["data"])


def v2_binary(feeds: Feeds) -> Request:
    """The same with the numbers as bytes behind the JSON, both ways; the output is FP32."""
    tensors = [
        {**_described(name, array), "parameters": {"binary_data_size": array.nbytes}}
        for name, array in feeds.items()
    ]
    header = json.dumps({"inputs": tensors, "parameters": {"binary_data_output": True}}).encode()
    headers = {
        "content-type": "application/octet-stream",
        "inference-header-content-length": str(len(header)),
    }
    body = b"".join([header, *(array.tobytes() for array in feeds.values())])
    return Request(V2_PATH, body, _binary_output, headers)


def nested(feeds: Feeds) -> Request:
    """Nested lists by name, as applications made by hand take them."""
    body = json.dumps({"inputs": {name: array.tolist() for name, array in feeds.items()}}).encode()

    def output(answer: bytes, _headers: Json) -> Any:
        (only,) = json.loads(answer)["outputs"].values()
        return only

    return Request("/predict", body, output)


def ask(port: int, request: Request, method: str = "POST") -> tuple[int, bytes, Json]:
    """Status, body and headers (by lower-case name) of an answer from this machine."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(method, request.path, request.body or None, dict(request.headers))
        response = connection.getresponse()
        headers = {name.lower(): value for name, value in response.getheaders()}
        return response.status, response.read(), headers
    finally:
        connection.close()


def _described(name: str, array: np.ndarray) -> Json:
    return {"name": name, "shape": list(array.shape), "datatype": _DATATYPES[array.dtype.name]}


def _binary_output(answer: bytes, headers: Json) -> Any:
    return np.frombuffer(answer[int(headers["inference-header-content-length"]) :], np.float32)
