"""TensorFlow Serving, MLflow, records and CSV; docs/runtime.md shows the same forms."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable
from itertools import permutations
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper
from runtime_kit import onnx_models
from runtime_kit.process import Server

from slipway_runtime.artifact.digest import Digest
from slipway_runtime.errors import BadRequest
from slipway_runtime.inference import model as models
from slipway_runtime.inference.json_values import NonFinite, to_json_ready
from slipway_runtime.inference.model import Model
from slipway_runtime.inference.tensors import Array, TensorSpec
from slipway_runtime.protocol import frames, mlflow, predict, tfserving, v2, v2_info, values
from slipway_runtime.protocol.request import Body, Decode

LoadModel = Callable[[bytes], Model]

ONE = onnx_models.linear
TWO = onnx_models.two_inputs
ROW = [1, 2, 3, 4]


def ask(decode: Decode, model: Model, document: Any, kind: bytes = b"application/json") -> Any:
    content = document if isinstance(document, bytes) else orjson.dumps(document)
    call = decode(model, Body(content, kind))
    (answer,) = call.encode(model.infer(call.inputs, call.outputs), "refuse").parts
    return orjson.loads(answer)


@pytest.mark.parametrize(
    ("make", "request_body", "answer"),
    [
        (ONE, {"instances": [ROW, ROW]}, {"predictions": [[41, 51], [41, 51]]}),
        (ONE, {"instances": [{"x": ROW}]}, {"predictions": [[41, 51]]}),
        (ONE, {"inputs": [ROW]}, {"outputs": [[41, 51]]}),
        (ONE, {"inputs": {"x": [ROW]}}, {"outputs": [[41, 51]]}),
        (ONE, {"signature_name": "serving_default", "inputs": [ROW]}, {"outputs": [[41, 51]]}),
        (
            TWO,
            {"instances": [{"a": [1, 2, 3], "b": [1, 1, 1]}, {"b": [0, 0, 0], "a": [1, 1, 1]}]},
            {
                "predictions": [
                    {"total": [2, 3, 4], "difference": [0, 1, 2]},
                    {"total": [1, 1, 1], "difference": [1, 1, 1]},
                ]
            },
        ),
        (
            TWO,
            {"inputs": {"a": [[1, 2, 3]], "b": [[1, 1, 1]]}},
            {"outputs": {"total": [[2, 3, 4]], "difference": [[0, 1, 2]]}},
        ),
        (
            lambda: onnx_models.identity("BYTES"),
            {"instances": [["a", {"b64": base64.b64encode("ż".encode()).decode()}]]},
            {"predictions": [["a", "ż"]]},
        ),
    ],
)
def test_tensorflow_serving_by_row_and_by_column(
    load_model: LoadModel, make: Callable[[], bytes], request_body: Any, answer: Any
) -> None:
    assert ask(tfserving.decode, load_model(make()), request_body) == answer


def test_rows_of_several_outputs_are_not_made_one_by_one(
    load_model: LoadModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That takes 10 microseconds for each, on the event loop: 0.2 s of silence for 20,000."""
    looks: list[str] = []

    def look(spec: TensorSpec, array: Array, non_finite: NonFinite) -> object:
        looks.append(spec.name)
        return to_json_ready(spec, array, non_finite)

    monkeypatch.setattr(values, "to_json_ready", look)
    datatypes = {"age": "INT64", "name": "BYTES", "share": "FP32"}
    model = load_model(
        onnx_models.build(
            [helper.make_node("Identity", [name], [f"{name}_out"]) for name in datatypes],
            [onnx_models.tensor(name, ["n"], datatype) for name, datatype in datatypes.items()],
            [onnx_models.tensor(f"{name}_out", ["n"], of) for name, of in datatypes.items()],
        )
    )
    rows = [{"age": 2**63 - number, "name": f"{number}", "share": 0.1} for number in range(1, 100)]
    answer = ask(tfserving.decode, model, {"instances": rows})
    assert answer["predictions"] == [
        {f"{name}_out": value for name, value in row.items()} for row in rows
    ]
    assert sorted(looks) == ["age_out", "name_out", "share_out"]


FRAME = {"columns": ["b", "c", "a"], "data": [[2, 3, 1], [0, 9, 5]]}
RECORDS = [{"c": 3, "b": 2, "a": 1}, {"a": 5, "b": 0, "c": 9}]


def abc() -> bytes:
    return onnx_models.weighted(["a", "b", "c"])


@pytest.mark.parametrize(
    ("make", "request_body", "answer"),
    [
        (abc, {"dataframe_split": FRAME}, [123, 509]),
        (abc, {"dataframe_split": FRAME | {"index": [0, 1]}}, [123, 509]),
        (abc, {"dataframe_records": RECORDS}, [123, 509]),
        (abc, {"instances": [[1, 2, 3]]}, [123]),
        (abc, {"inputs": [[1, 2, 3]], "params": {}}, [123]),
        (abc, {"inputs": {"x": [[1, 2, 3]]}}, [123]),
        (abc, {"dataframe_records": [{**RECORDS[0], "unknown": "x"}]}, [123]),
        (
            onnx_models.input_per_column,
            {"dataframe_records": [{"name": "ż", "age": 7}]},
            {"age_out": [[7]], "name_out": [["ż"]]},
        ),
        (
            lambda: onnx_models.identity(shape=["n"]),
            {"dataframe_records": [{"whatever": 1.5}, {"whatever": 2}]},
            [1.5, 2],
        ),
        (ONE, {"dataframe_records": [{"x": ROW}]}, [[41, 51]]),
    ],
)
def test_mlflows_forms(
    load_model: LoadModel, make: Callable[[], bytes], request_body: Any, answer: Any
) -> None:
    assert ask(mlflow.decode, load_model(make()), request_body) == {"predictions": answer}


@pytest.mark.parametrize(
    ("make", "content", "answer"),
    [
        (abc, b"c,a,b\n3,1,2\n9,5,0\n", [123, 509]),
        (abc, "\ufeffa,b,c\r\n1,2,3\r\n".encode(), [123]),
        (abc, b"c, a,b \n3,1,2\n", [123]),
        (lambda: onnx_models.weighted(["a", " b", "c "]), b"a, b,c \n1,2,3\n", [123]),
        (
            onnx_models.input_per_column,
            b'name,age\n"a,b",7\n',
            {"age_out": [[7]], "name_out": [["a,b"]]},
        ),
    ],
)
def test_csv_is_a_data_frame(
    load_model: LoadModel, make: Callable[[], bytes], content: bytes, answer: Any
) -> None:
    assert ask(mlflow.decode, load_model(make()), content, b"text/csv") == {"predictions": answer}


def test_records_reach_predict(load_model: LoadModel) -> None:
    assert ask(predict.decode, load_model(abc()), {"records": RECORDS}) == {"y": [123, 509]}


@pytest.mark.parametrize(
    ("row", "found"), [([2, 0], [2]), ([2, 3], [2, 3]), ([-2, 0], [])], ids=["one", "two", "none"]
)
def test_what_values_select_of_one_row_is_a_list_however_long(
    load_model: LoadModel, row: list[float], found: list[float]
) -> None:
    model = load_model(onnx_models.picks_what_is_large())
    assert ask(predict.decode, model, row) == {"y": found}


def test_permuted_columns_give_equal_answers(load_model: LoadModel) -> None:
    model = load_model(abc())
    cells = {"a": 1, "b": 2, "c": 3}
    for order in permutations(cells):
        split = {"columns": list(order), "data": [[cells[name] for name in order]]}
        record = {name: cells[name] for name in order}
        line = ",".join(str(cells[name]) for name in order)
        csv = f"{','.join(order)}\n{line}\n".encode()
        for answer in (
            ask(mlflow.decode, model, {"dataframe_split": split})["predictions"],
            ask(mlflow.decode, model, {"dataframe_records": [record]})["predictions"],
            ask(mlflow.decode, model, csv, b"text/csv")["predictions"],
            ask(predict.decode, model, {"records": [record]})["y"],
        ):
            assert answer == [123]


@pytest.mark.parametrize(
    ("decode", "make", "request_body", "message"),
    [
        (tfserving.decode, ONE, {}, "either instances"),
        (tfserving.decode, ONE, [ROW], "either instances"),
        (tfserving.decode, ONE, {"instances": [ROW], "inputs": [ROW]}, "either instances"),
        (tfserving.decode, ONE, {"instances": [ROW], "x": 1}, "got the member 'x'"),
        (tfserving.decode, ONE, {"instances": ROW}, "has 2 dimensions [-1, 4], got 1"),
        (tfserving.decode, ONE, {"instances": {"x": ROW}}, "must be a list of rows"),
        (tfserving.decode, ONE, {"inputs": [ROW], "signature_name": "z"}, "no signature"),
        (tfserving.decode, TWO, {"inputs": [ROW]}, "a value for each of 'a', 'b'"),
        (tfserving.decode, TWO, {"instances": [{"a": [1]}]}, "instances[0] has the members 'a'"),
        (tfserving.decode, TWO, {"instances": [{"a": 1, "b": 1}, 7]}, "instances[1] is the number"),
        (
            tfserving.decode,
            ONE,
            b'{"inputs": ' + b"[" * 900 + b"]" * 900 + b"}",
            "nested more than 40 deep",
        ),
        (
            tfserving.decode,
            lambda: onnx_models.identity("BYTES"),
            {"instances": [[{"b64": "!"}]]},
            "not the Base64",
        ),
        (mlflow.decode, abc, {}, "one of dataframe_split"),
        (mlflow.decode, abc, {"instances": [], "inputs": []}, "one of dataframe_split"),
        (mlflow.decode, abc, {"inputs": [[1, 2, 3]], "params": {"t": 1}}, "takes no params"),
        (mlflow.decode, abc, {"dataframe_split": {"data": []}}, "must be an object"),
        (mlflow.decode, abc, {"dataframe_split": {"columns": [1], "data": []}}, "be strings"),
        (
            mlflow.decode,
            abc,
            {"dataframe_split": {"columns": ["a"], "data": [[1, 2]]}},
            "data[0] is not a list of 1 cells",
        ),
        (mlflow.decode, abc, {"dataframe_records": [{"a": 1, "b": 2}]}, "missing: 'c'"),
        (
            mlflow.decode,
            abc,
            {"dataframe_split": {"columns": ["a", "b", "c", "a"], "data": []}},
            "'a' is there 2 times",
        ),
        (
            mlflow.decode,
            abc,
            {"dataframe_records": [RECORDS[0], {"a": 1, "b": 1, "d": 1}]},
            "dataframe_records[1] and dataframe_records[0] differ in the columns 'c', 'd'",
        ),
        (mlflow.decode, abc, {"dataframe_records": []}, "at least one object"),
        (
            mlflow.decode,
            abc,
            {"dataframe_split": {"columns": ["a", "b", "c"], "data": []}},
            "columns and no rows",
        ),
        (mlflow.decode, abc, {"dataframe_records": [{**RECORDS[0], "a": None}]}, "got null"),
        (
            mlflow.decode,
            onnx_models.weighted,
            {"dataframe_records": RECORDS},
            "the order of a request is no evidence",
        ),
        (predict.decode, onnx_models.weighted, {"records": RECORDS}, "metadata property columns"),
        (
            mlflow.decode,
            onnx_models.input_per_column,
            {"dataframe_records": [{"age": 1}]},
            "no column for input 'name'",
        ),
    ],
)
def test_what_is_wrong_or_would_be_a_guess_is_refused_with_a_sentence(
    load_model: LoadModel,
    decode: Decode,
    make: Callable[[], bytes],
    request_body: Any,
    message: str,
) -> None:
    with pytest.raises(BadRequest) as caught:
        ask(decode, load_model(make()), request_body)
    assert message in caught.value.message


@pytest.mark.parametrize(
    ("decode", "request_body", "kind"),
    [
        (predict.decode, {"records": [{"age": None, "b": None, "a": 1}]}, b"application/json"),
        (
            mlflow.decode,
            {"dataframe_split": {"columns": ["a", "age", "b"], "data": [[1, None, None]]}},
            b"application/json",
        ),
        (mlflow.decode, b"b,age,a\n,,1\n", b"text/csv"),
    ],
    ids=["records", "data frame", "CSV"],
)
def test_missing_numbers_reach_a_model_that_says_that_it_takes_them(
    load_model: LoadModel, decode: Decode, request_body: Any, kind: bytes
) -> None:
    answer = ask(decode, load_model(onnx_models.fills_gaps()), request_body, kind)
    assert answer.get("predictions", answer) == {"y": [[7]], "z": [[1, 7]]}
    with pytest.raises(BadRequest, match=r"got null|'' is no FP32"):
        ask(decode, load_model(onnx_models.fills_gaps(says_so=False)), request_body, kind)


def test_many_columns_take_no_more_than_their_number(load_model: LoadModel) -> None:
    """They are looked at on the event loop: with their square, a small body would hold it."""
    columns = [f"c{number}" for number in range(50_000)]
    names = {"columns": json.dumps({"x": columns})}
    shape = ["n", len(columns)]
    model = load_model(
        onnx_models.build(
            [helper.make_node("Identity", ["x"], ["y"])],
            [onnx_models.tensor("x", shape)],
            [onnx_models.tensor("y", shape)],
            metadata=names,
        )
    )
    row = list(range(len(columns)))
    split = {"columns": columns[::-1], "data": [row]}
    began = time.process_time()
    answer = ask(mlflow.decode, model, {"dataframe_split": split})
    with pytest.raises(BadRequest, match="'c0' is there 2 times"):
        ask(mlflow.decode, model, {"dataframe_split": {"columns": [*columns, "c0"], "data": []}})
    # It was half a minute.
    assert time.process_time() - began < 3
    assert answer == {"predictions": [row[::-1]]}


def test_a_cell_of_csv_may_be_long(load_model: LoadModel) -> None:
    text = "a" * 200_000
    model = load_model(onnx_models.identity("BYTES"))
    answer = ask(mlflow.decode, model, f"x\n{text}\n".encode(), b"text/csv")
    assert answer == {"predictions": [[text]]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the body is empty"),
        (b"a,b,c\n1,2\n", "line 2 of the CSV has 2 cells"),
        (b'a,b,c\n\n1,"2\n",3\n\n\n1,2\n', "line 7 of the CSV has 2 cells"),
        (b"a,b,c\n", "columns and no rows"),
        (b"a,b,c\n1,2,x\n", "column 'c': 'x' is no FP32"),
        (b"a,b,c\n1,2,1_0\n", "'1_0' is no FP32"),
        (b"a,b,c\n1,2,\n", "'' is no FP32"),
        (b"a,b,c\n1,2,nan\n", "column 'c': 'nan' is no FP32"),
        (b"a,b,c, a\n1,2,3,4\n", "the column 'a' is there 2 times"),
        (b"\xff", "not UTF-8"),
        (b'a,b,c\n"1"x,2,3\n', "not CSV"),
    ],
)
def test_csv_that_does_not_fit_is_refused(
    load_model: LoadModel, content: bytes, message: str
) -> None:
    with pytest.raises(BadRequest) as caught:
        ask(mlflow.decode, load_model(abc()), content, b"text/csv")
    assert message in caught.value.message


@pytest.mark.parametrize(
    "properties",
    [
        "not JSON",
        "[1]",
        '{"z": ["a"]}',
        '{"x": "a,b,c"}',
        '{"x": ["a", "b"]}',
        '{"x": ["a", "b", "a"]}',
    ],
)
def test_a_columns_property_that_does_not_fit_is_left_aside(
    load_model: LoadModel, properties: str
) -> None:
    model = load_model(onnx_models.weighted(properties=properties))
    assert model.columns == {}
    assert ask(predict.decode, model, [1, 2, 3]) == {"y": 123}


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["a", "b", "x", "columns", "data", "inputs", "instances", "b64"]),
            inner,
            max_size=3,
        )
    ),
    max_leaves=10,
)
MEMBERS = ["inputs", "instances", "records", "dataframe_split", "dataframe_records", "features"]


@given(st.dictionaries(st.sampled_from(MEMBERS), JSON_VALUES, max_size=2) | JSON_VALUES)
def test_no_document_whatever_breaks_a_decoder(document: Any) -> None:
    for decode in (predict.decode, tfserving.decode, mlflow.decode, v2.decode):
        for model in models_for_fuzzing():
            try:
                body = Body(orjson.dumps(document, option=orjson.OPT_PASSTHROUGH_SUBCLASS))
            except orjson.JSONEncodeError:
                return  # An integer beyond 64 bits, or a lone surrogate.
            try:
                decode(model, body)
            except BadRequest as refusal:
                assert len(refusal.message) > 10  # noqa: PT017


_FUZZED: list[Model] = []


def models_for_fuzzing() -> list[Model]:
    return _FUZZED


@pytest.fixture(autouse=True, scope="module")
def _models(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("fuzzed")
    for number, content in enumerate((abc(), TWO(), onnx_models.identity("BYTES"))):
        path = folder / f"{number}.onnx"
        path.write_bytes(content)
        identity = models.ModelIdentity("m", Digest("0" * 64))
        _FUZZED.append(
            models.load(
                identity, path, ["CPUExecutionProvider"], intra_op_threads=1, inter_op_threads=1
            )
        )


@given(st.text(alphabet='abc,"\n\r1.x\0', max_size=40))
def test_no_csv_whatever_breaks_its_parser(text: str) -> None:
    try:
        frame = frames.from_csv(text.encode())
    except BadRequest:
        return
    assert all(len(row) == len(frame.columns) for row in frame.rows)


@pytest.mark.parametrize(
    ("labels", "names"), [((3, 5), ["3", "5"]), (("no", "yes"), ["no", "yes"])]
)
def test_a_map_per_row_is_served_by_label_and_as_a_matrix(
    load_model: LoadModel, labels: Any, names: list[str]
) -> None:
    model = load_model(onnx_models.classifier(labels))
    model.warm_up()
    rows = [[0.25, 0.75], [1, 0]]
    by_label = [dict(zip(names, row, strict=True)) for row in rows]
    assert ask(predict.decode, model, rows) == {"p": by_label}
    assert ask(predict.decode, model, rows[0]) == {"p": by_label[0]}
    assert ask(tfserving.decode, model, {"instances": rows}) == {"predictions": by_label}
    tensor = {"name": "x", "shape": [2, 2], "datatype": "FP32", "data": rows}
    (output,) = ask(v2.decode, model, {"inputs": [tensor]})["outputs"]
    assert (output["shape"], output["data"]) == ([2, 2], [0.25, 0.75, 1, 0])
    assert orjson.loads(output["parameters"]["labels"]) == names
    assert v2_info.metadata(model)["outputs"] == [
        {"name": "p", "datatype": "FP32", "shape": [-1, 2]}
    ]


def test_the_everyday_routes_answer_over_http(linear_server: Server) -> None:
    version = linear_server.digest[7:19]
    for path in ("/v1/models/m", "/v1/models/m/versions/1", f"/v1/models/m/versions/{version}"):
        (status,) = linear_server.get(path).json["model_version_status"]
        assert (status["version"], status["state"]) == (version, "AVAILABLE")
        reply = linear_server.post(f"{path}:predict", {"instances": [ROW]})
        assert reply.json == {"predictions": [[41, 51]]}
    assert linear_server.post("/invocations", {"inputs": [ROW]}).json == {"predictions": [[41, 51]]}
    assert linear_server.get("/ping").status == 200
    csv = linear_server.request("POST", "/invocations", b"a,b\n", {"content-type": "text/csv"})
    assert csv.status == 400
    assert linear_server.post("/v1/models/m:classify", {}).status == 501
    wrong = linear_server.post("/v1/models/n:predict", {})
    assert (wrong.status, "no model 'n'" in wrong.json["error"]) == (404, True)
