"""The OpenAPI document: what it says of the loaded model, and that its examples are answered."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jsonschema import Draft202012Validator
from runtime_kit import onnx_models
from runtime_kit.in_process import InProcess
from runtime_kit.process import Server

from slipway_runtime.protocol import examples
from slipway_runtime.server.http import STATUS

JSON, BINARY, CSV = "application/json", "application/octet-stream", "text/csv"
IMAGE = ("n", 3, 224, 224)
TOO_LARGE = ("n", 3, 512, 512)
ROUTES = {
    "/predict": (JSON,),
    "/v2/models/m/infer": (JSON, BINARY),
    "/v1/models/m:predict": (JSON,),
    "/invocations": (JSON, CSV),
}
TOKEN = "a-token"


async def described(tmp_path: Path, content: bytes) -> tuple[InProcess, dict[str, Any]]:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    served = InProcess(path)
    served.model.warm_up()
    reply = await served.request("GET", "/openapi.json")
    assert (reply.status, reply.headers["content-type"]) == (200, JSON)
    return served, reply.json


def bodies(document: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    """What the document says of each body, by route and media type."""
    return {
        (path, kind): media
        for path in ROUTES
        for kind, media in document["paths"][path]["post"]["requestBody"]["content"].items()
    }


def test_the_openapi_document_describes_the_loaded_model(linear_server: Server) -> None:
    document = linear_server.get("/openapi.json").json
    assert "/v2/models/m/infer" in document["paths"]
    content = document["paths"]["/predict"]["post"]["requestBody"]["content"]
    schema = content["application/json"]["schema"]
    x = schema["properties"]["x"]
    assert (schema["required"], x["description"]) == (["x"], "FP32 [-1, 4]")
    assert (x["items"]["minItems"], x["items"]["items"]["type"]) == (4, "number")
    (answer,) = document["paths"]["/predict"]["post"]["responses"]["200"]["content"].values()
    assert answer["schema"]["properties"]["y"]["description"] == "FP32 [-1, 2]"


@pytest.mark.parametrize(
    ("content", "with_csv"),
    [
        pytest.param(onnx_models.linear(), False, id="columns without names"),
        pytest.param(onnx_models.weighted(["a", "b", "c"]), True, id="columns with names"),
        pytest.param(onnx_models.input_per_column(), True, id="an input per column"),
        pytest.param(onnx_models.two_inputs(), False, id="two inputs"),
        pytest.param(onnx_models.lookup(), True, id="an index"),
        pytest.param(onnx_models.classifier(), False, id="a map per row"),
        pytest.param(onnx_models.every_datatype(), True, id="every datatype"),
        pytest.param(onnx_models.identity("BYTES"), True, id="text"),
        pytest.param(onnx_models.identity(shape=()), False, id="a scalar"),
        pytest.param(onnx_models.identity(shape=None), False, id="of any rank"),
        pytest.param(onnx_models.identity(input_name="inputs"), True, id="called inputs"),
        pytest.param(onnx_models.identity(shape=IMAGE), False, id="an image"),
    ],
)
async def test_every_example_of_the_document_is_answered(
    tmp_path: Path, content: bytes, with_csv: bool
) -> None:
    served, document = await described(tmp_path, content)
    found = {
        where: media["example"] for where, media in bodies(document).items() if "example" in media
    }
    json_routes = {(path, JSON) for path in ROUTES}
    assert found.keys() == json_routes | ({("/invocations", CSV)} if with_csv else set())
    for (path, kind), example in found.items():
        body = example.encode() if kind == CSV else json.dumps(example).encode()
        reply = await served.request("POST", path, body, {"content-type": kind})
        assert reply.status == 200, (path, kind, reply.body[:200])


@pytest.mark.parametrize("datatype", ["BOOL", "BYTES", "INT64", "BF16"])
async def test_the_example_of_the_page_is_answered(tmp_path: Path, datatype: str) -> None:
    served, _ = await described(tmp_path, onnx_models.identity(datatype))
    example = await served.request("GET", "/example.json")
    assert example.body.startswith(b'{\n  "x": [[')
    assert (await served.request("POST", "/predict", example.body)).status == 200


@pytest.mark.parametrize("shape", [IMAGE, TOO_LARGE])
async def test_an_example_that_is_too_long_to_look_at_is_left_out(
    tmp_path: Path, shape: tuple[str | int, ...]
) -> None:
    served, _ = await described(tmp_path, onnx_models.identity(shape=shape))
    reply = await served.request("GET", "/example.json")
    assert (reply.status, reply.body) == (200, b"")


@pytest.mark.parametrize(
    ("content", "values"),
    [
        (onnx_models.identity(), [[[1, 2], [3, 4]], [1, 2]]),
        (onnx_models.identity(shape=None), [[[1, 2]], 1]),
        (onnx_models.identity(shape=(2,)), [[1, 2]]),
        (onnx_models.classifier(), [[[0.25, 0.75]], [0.25, 0.75]]),
    ],
    ids=["matrix", "of no told shape", "vector", "map per row"],
)
async def test_answers_are_as_the_document_says(
    tmp_path: Path, content: bytes, values: list[object]
) -> None:
    served, document = await described(tmp_path, content)
    operation = document["paths"]["/predict"]["post"]
    asked = operation["requestBody"]["content"][JSON]["schema"]
    told = operation["responses"]["200"]["content"][JSON]["schema"]
    (x,) = asked["properties"]
    Draft202012Validator(asked).validate({x: values[0]})
    for value in values:
        reply = await served.request("POST", "/predict", json.dumps({x: value}).encode())
        assert reply.status == 200, reply.json
        assert reply.json.keys() == told["properties"].keys()
        Draft202012Validator(told).validate(reply.json)


async def test_no_other_answer_is_as_the_document_says(tmp_path: Path) -> None:
    _, document = await described(tmp_path, onnx_models.identity())
    (content,) = document["paths"]["/predict"]["post"]["responses"]["200"]["content"].values()
    told = Draft202012Validator(content["schema"])
    assert [told.is_valid({"y": value}) for value in ([[1.5]], [1.5], 1.5, ["a word"])] == [
        True,
        True,
        False,
        False,
    ]


async def test_the_document_is_asked_for_as_any_other_route(tmp_path: Path) -> None:
    served, _ = await described(tmp_path, onnx_models.linear())
    assert (await served.request("HEAD", "/openapi.json")).status == 200
    assert (await served.request("GET", "/openapi.json/")).status == 200
    refused = await served.request("POST", "/openapi.json", b"{}")
    assert (refused.status, refused.headers["allow"]) == (405, "GET, HEAD")
    assert "takes GET, HEAD, not POST" in refused.json["error"]


async def test_an_example_that_would_be_too_large_is_left_out_with_a_sentence(
    tmp_path: Path,
) -> None:
    _, document = await described(tmp_path, onnx_models.identity(shape=TOO_LARGE))
    for media in bodies(document).values():
        assert "example" not in media
    for path in ROUTES:
        body = document["paths"][path]["post"]["requestBody"]
        assert "too large for an example" in body["description"]


@pytest.mark.parametrize("workers", ["1", "2"])
def test_the_inputs_of_a_golden_sample_are_the_example(tmp_path: Path, workers: str) -> None:
    x, y = [[1.5, 2.0, 3.0, 4.0]], [[41.0, 51.5]]
    golden = {
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": x[0]}],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [1, 2], "data": y[0]}],
    }
    extra = {"SLIPWAY_GOLDEN": json.dumps({"samples": [golden]}), "SLIPWAY_WORKERS": workers}
    with Server(tmp_path, onnx_models.linear(), extra=extra) as server:
        server.start().wait_until_ready()
        found = bodies(server.get("/openapi.json").json)
        assert found["/predict", JSON]["example"] == {"x": x}
        assert found["/v2/models/m/infer", JSON]["example"] == {"inputs": golden["inputs"]}
        assert server.post("/predict", found["/predict", JSON]["example"]).json == {"y": y}


async def test_a_large_golden_sample_gives_its_shape_alone(tmp_path: Path) -> None:
    served, _ = await described(tmp_path, onnx_models.identity(shape=("n", 3, "h", "w")))
    sample = {"x": np.full((2, 3, 64, 64), 0.123, np.float32)}
    given = examples.of_model(served.model, sample)
    assert given is not None
    assert given["x"].shape == [2, 3, 64, 64]
    assert not given["x"].nested.any()


async def test_each_route_tells_its_bodies_its_answers_and_how_it_fails(tmp_path: Path) -> None:
    _, document = await described(tmp_path, onnx_models.linear())
    # No route of the document lets a request come in the clear, or takes another method.
    of_a_request = set(STATUS.values()) - {401, 403, 405} | {200, 408}
    for path, kinds in ROUTES.items():
        operation = document["paths"][path]["post"]
        assert tuple(operation["requestBody"]["content"]) == kinds
        assert {int(status) for status in operation["responses"]} == of_a_request
    infer = document["paths"]["/v2/models/m/infer"]["post"]
    (parameter,) = infer["parameters"]
    assert (parameter["in"], parameter["name"]) == ("header", "Inference-Header-Content-Length")
    assert tuple(infer["responses"]["200"]["content"]) == (JSON, BINARY)
    assert "security" not in document


def test_where_tokens_are_asked_for_the_document_says_so(tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text(TOKEN)
    extra = {"SLIPWAY_TOKEN_FILE": str(tmp_path / "tokens")}
    with Server(tmp_path, onnx_models.linear(), extra=extra) as server:
        server.start().wait_until_ready()
        known = {"authorization": f"Bearer {TOKEN}"}
        document = server.request("GET", "/openapi.json", headers=known).json
        (name,) = document["components"]["securitySchemes"]
        assert document["components"]["securitySchemes"][name]["scheme"] == "bearer"
        assert document["security"] == [{name: []}]
        for path, operations in document["paths"].items():
            for method, operation in operations.items():
                is_open = operation.get("security") == []
                assert is_open != ("401" in operation["responses"])
                refused = server.request(method.upper(), path).status == 401
                assert refused != is_open, path
