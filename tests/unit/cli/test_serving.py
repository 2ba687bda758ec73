"""`slipway serve` and `slipway predict`, against the real runtime; `slipway compose`."""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import yaml
from cli_kit import models
from cli_kit.models import digest_of
from cli_kit.run import PROGRAM, environment, process, slipway
from onnx import helper
from PIL import Image

from slipway.errors import InvalidArguments
from slipway.model.tensor import Tensor
from slipway.serving.http import ask
from slipway.serving.inputs import from_csv


class Served:
    """`slipway serve` as a process; `told` is what it prints when it is ready."""

    def __init__(self, *arguments: object, **variables: str) -> None:
        self.process = subprocess.Popen(
            [PROGRAM, "serve", *map(str, arguments), "--port", "0", "--json"],
            env=environment(variables),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        text = ""
        while line := self.process.stdout.readline():
            text += line
            if line.rstrip() == "}":
                break
        self.told: Any = json.loads(text) if text else None

    def stop(self) -> tuple[int, str]:
        self.process.send_signal(signal.SIGTERM)
        _, err = self.process.communicate(timeout=60)
        return self.process.returncode, err


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    path = tmp_path_factory.mktemp("served") / "model.onnx"
    path.write_bytes(models.linear())
    running = Served(path, "--name", "fraud")
    yield running.told
    code, err = running.stop()
    assert (code, "Traceback" in err) == (0, False)


def test_a_file_is_served_verified_under_its_digest(served: Any) -> None:
    assert served["name"] == "fraud"
    assert served["digest"] == digest_of(models.linear())


@pytest.mark.parametrize("form", ["rows.csv", "header.csv", "x.npy", "x.npz", "x.json", "v.json"])
def test_data_of_every_form_gives_the_same_answer(served: Any, folder: Path, form: str) -> None:
    rows = np.array([[1, 2, 3, 4], [0, 0, 0, 1]], np.float32)
    path = folder / form
    match form:
        case "rows.csv":
            path.write_text("1,2,3,4\n0,0,0,1\n")
        case "header.csv":
            path.write_text("a,b,c,d\n1,2,3,4\n0,0,0,1\n")
        case "x.npy":
            np.save(path, rows)
        case "x.npz":
            np.savez(path, x=rows.astype(np.float16))
        case "x.json":
            path.write_text(json.dumps({"x": rows.tolist()}))
        case _:
            path.write_text(json.dumps(rows.tolist()))
    ended = slipway("predict", path, "--url", served["url"])
    assert ended.code == 0, ended.err
    lines = [line.split() for line in ended.out.splitlines()]
    assert lines == [["row", "y"], ["0", "41", "51"], ["1", "7", "8"]]


def test_a_header_that_the_model_knows_nothing_of_is_said_to_be_passed_over(
    served: Any, folder: Path
) -> None:
    (folder / "x.csv").write_text("d,c,b,a\n1,2,3,4\n")
    ended = slipway("predict", folder / "x.csv", "--url", served["url"])
    assert ended.code == 0
    assert "the model lists no columns" in ended.err


def test_a_server_that_tells_no_configuration_is_asked_all_the_same(
    served: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without_config(url: str, *more: Any, **named: Any) -> Any:
        return ask(f"{url}-that-is-not-there" if url.endswith("/config") else url, *more, **named)

    monkeypatch.setattr("slipway.commands.predict.ask", without_config)
    (folder / "x.csv").write_text("1,2,3,4\n")
    ended = slipway("predict", folder / "x.csv", "--url", served["url"], "--json")
    assert ended.code == 0, ended.err
    assert ended.json["outputs"][0]["data"] == [41, 51]


def test_columns_and_missing_values_reach_the_model_as_they_are_meant(folder: Path) -> None:
    model = models.identity(("n", 3))
    proto = onnx.load_from_string(model)
    proto.metadata_props.add(key="columns", value=json.dumps({"x": ["a", "b", "c"]}))
    file = folder / "m.onnx"
    file.write_bytes(proto.SerializeToString())
    (folder / "x.csv").write_text("c,a,b\n3,1,\n")
    (folder / "all.csv").write_text("c,a,b\n3,1,2\n")
    running = Served(file)
    try:
        url = running.told["url"]
        known = slipway("predict", "all.csv", "--url", url, "--json").json["outputs"]
        assert known[0]["data"] == [1, 2, 3]
        refused = slipway("predict", "x.csv", "--url", url)
        # The value arrived: what comes back has no form in JSON.
        assert "output 'y' holds 1 of 3 values that are not finite" in refused.err
    finally:
        assert running.stop()[0] == 0


def test_the_raw_answer_comes_as_json(served: Any, folder: Path) -> None:
    (folder / "x.csv").write_text("1,2,3,4\n")
    told = slipway("predict", folder / "x.csv", "--url", served["url"], "--json").json
    assert told["outputs"][0]["data"] == [41, 51]


@pytest.mark.parametrize(
    ("name", "content", "code", "told"),
    [
        ("x.csv", "1,2,3\n", 2, "the model refuses the request"),
        ("x.csv", "1,2,3,4\n1,2,3\n", 2, "row 2: 3 values, not 4"),
        ("x.csv", "1,2,3,4\n1,2,3,x\n", 2, "row 2: 'x' is no number"),
        ("x.csv", "", 2, "is empty"),
        ("x.json", "[1, 2", 2, "is no JSON"),
        ("x.npy", "nonsense", 2, "plain arrays"),
    ],
)
def test_data_that_does_not_fit_is_refused(
    served: Any, folder: Path, name: str, content: str, code: int, told: str
) -> None:
    (folder / name).write_text(content)
    ended = slipway("predict", name, "--url", served["url"])
    assert ended.code == code
    assert told in ended.err


def test_a_model_of_another_name_is_not_there(served: Any, folder: Path) -> None:
    (folder / "x.csv").write_text("1,2,3,4\n")
    ended = slipway("predict", "x.csv", "--url", served["url"], "--name", "other")
    assert ended.code == 5


def test_a_server_that_is_not_there_is_named_with_what_starts_one(folder: Path) -> None:
    (folder / "x.json").write_text("[1]")
    ended = slipway("predict", "x.json", "--url", "http://127.0.0.1:9")
    assert ended.code == 8
    assert "slipway serve" in ended.err


def test_a_picture_is_sent_as_the_served_model_declares_it(folder: Path) -> None:
    model = folder / "mean.onnx"
    node = helper.make_node("GlobalAveragePool", ["pixels"], ["means"])
    model.write_bytes(
        models.build(
            [node],
            [models.tensor("pixels", ["n", 3, 4, 6])],
            [models.tensor("means", ["n", 3, 1, 1])],
        )
    )
    Image.new("RGB", (60, 40), (255, 51, 0)).save(folder / "p.png")
    running = Served(model)
    try:
        ended = slipway("predict", "p.png", "--url", running.told["url"], "--json")
        assert ended.code == 0, ended.err
        assert ended.json["outputs"][0]["data"] == pytest.approx([1, 0.2, 0])
    finally:
        assert running.stop()[0] == 0


def test_a_package_is_served_under_its_name_and_its_page_is_opened(
    folder: Path, linear: Path
) -> None:
    assert slipway("pack", linear, "--name", "churn").code == 0
    browser, opened = folder / "browser", folder / "opened"
    browser.write_text(f'#!/bin/sh\necho "$1" > {opened}.part && mv {opened}.part {opened}\n')
    browser.chmod(0o755)
    running = Served(folder / "churn.slipway", "--open", BROWSER=str(browser))
    try:
        assert running.told["name"] == "churn"
        deadline = time.monotonic() + 20
        while not opened.exists():
            assert time.monotonic() < deadline, "no browser was asked to show the page"
            time.sleep(0.02)
        assert opened.read_text() == f"{running.told['url']}/docs\n"
    finally:
        assert running.stop()[0] == 0


def test_a_model_that_the_runtime_refuses_ends_with_its_reason(folder: Path) -> None:
    path = folder / "m.onnx"
    path.write_bytes(models.one_operator("Whirl"))
    ended = process("serve", path, "--port", "0")
    assert ended.code == 3
    assert "the runtime says InvalidModel" in ended.err


def test_without_the_runtime_the_extra_is_named(
    linear: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("slipway.serving.local.PROGRAM", "slipway-runtime-absent")
    ended = slipway("serve", linear)
    assert ended.code == 9
    assert "slipway[serve]" in ended.err


# ---- CSV ----

FP32 = Tensor("x", "FP32", (None, 2))


def test_columns_of_a_table_go_to_the_inputs_of_their_names() -> None:
    inputs = (Tensor("age", "INT64", (None, 1)), Tensor("city", "BYTES", (None, 1)))
    arrays = from_csv('city,age,other\n"Köln, Süd",41,x\nBonn,7,y\n', "f", inputs)
    assert arrays["age"].tolist() == [[41], [7]]
    assert arrays["city"].tolist() == [["Köln, Süd"], ["Bonn"]]
    with pytest.raises(InvalidArguments, match="no column 'city'"):
        from_csv("age\n1\n", "f", inputs)


def test_columns_that_the_model_lists_are_found_by_their_names() -> None:
    listed = {"x": ["age", "income"]}
    for text in ("age,income\n1,2\n", "income, age\n2,1\n", "\ufeffincome,age\n2,1\n"):
        arrays = from_csv(text.lstrip("\ufeff"), "f", (FP32,), listed)
        assert arrays["x"].tolist() == [[1, 2]]
    assert from_csv("1,2\n", "f", (FP32,), listed)["x"].tolist() == [[1, 2]]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("age\n1\n", "no column 'income'"),
        ("age,income,age\n1,2,3\n", "twice the column 'age'"),
        (",age,income\n0,1,2\n", "a column ''"),
        ("age,income\n1\n", "row 2: 1 values, not 2"),
    ],
)
def test_columns_that_the_model_does_not_list_are_refused(text: str, told: str) -> None:
    with pytest.raises(InvalidArguments, match=told):
        from_csv(text, "f", (FP32,), {"x": ["age", "income"]})


def test_an_empty_cell_is_a_missing_value_of_fractions_alone() -> None:
    rows = from_csv("1,\n,2\n", "f", (FP32,))["x"]
    np.testing.assert_array_equal(rows, np.array([[1, np.nan], [np.nan, 2]], np.float32))
    with pytest.raises(InvalidArguments, match="'' is no number"):
        from_csv("1,\n", "f", (Tensor("x", "INT64", (None, 2)),))


def test_whole_numbers_stay_exact() -> None:
    arrays = from_csv("9007199254740993\n", "f", (Tensor("x", "INT64", (None,)),))
    assert arrays["x"].tolist() == [9007199254740993]
    with pytest.raises(InvalidArguments, match="does not fit 'x'"):
        from_csv("1.5\n", "f", (Tensor("x", "INT64", (None,)),))


# ---- compose ----

URI = "s3://models/fraud/sha256/" + 64 * "0" + "/model.onnx"
DIGEST = "sha256:" + 64 * "0"


def composed(*flags: object) -> Any:
    ended = slipway("compose", "--uri", URI, "--digest", DIGEST, *flags)
    assert ended.code == 0, ended.err
    return yaml.safe_load(ended.out)


def test_only_fetch_has_credentials_and_none_are_written_down(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush")
    services = composed("--endpoint", "https://s3.example.com")["services"]
    assert services["fetch"]["environment"]["AWS_SECRET_ACCESS_KEY"] is None
    assert services["fetch"]["environment"]["AWS_ENDPOINT_URL"] == "https://s3.example.com"
    assert not [name for name in services["serve"]["environment"] if name.startswith("AWS")]
    assert "hush" not in json.dumps(services)


def test_every_container_is_hardened() -> None:
    services = composed()["services"]
    for name, service in services.items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
    for name in ("fetch", "serve"):
        assert services[name]["user"] == "65532:65532"
    assert services["serve"]["volumes"] == ["cache:/var/cache/slipway:ro"]
    assert services["serve"]["ports"] == ["127.0.0.1:8080:8080"]
    assert services["serve"]["depends_on"] == {
        "fetch": {"condition": "service_completed_successfully"}
    }


def test_a_local_file_is_mounted_read_only(linear: Path) -> None:
    composition = yaml.safe_load(slipway("compose", linear, "--name", "fraud").out)
    fetch = composition["services"]["fetch"]
    assert f"{linear.parent}:/models:ro" in fetch["volumes"]
    assert fetch["command"] == [
        "fetch", "--uri", "file:///models/model.onnx", "--digest", digest_of(linear.read_bytes()),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "flags", [(), ("--endpoint", "https://s3.example.com", "--region", "eu-west-1", "--port", "99")]
)
def test_the_file_is_one_by_the_compose_specification(flags: tuple[str, ...], folder: Path) -> None:
    ended = slipway("compose", "--uri", URI, "--digest", DIGEST, *flags, "--out", "compose.yaml")
    assert ended.code == 0, ended.err
    done = subprocess.run(
        [PROGRAM.parent / "check-jsonschema", "--builtin-schema", "vendor.compose-spec",
         "compose.yaml"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout


def test_plain_docker_lines_do_the_same() -> None:
    ended = slipway("compose", "--uri", URI, "--digest", DIGEST, "--name", "fraud", "--run")
    lines = [shlex.split(line) for line in ended.out.splitlines()]
    assert [line[0] for line in lines] == ["docker"] * 3
    fetch, serve = lines[1:]
    assert "--env=AWS_SECRET_ACCESS_KEY" in fetch
    assert not [word for word in serve if "AWS" in word]
    for line in (fetch, serve):
        assert {"--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges"} <= set(line)
    assert serve[-5:] == ["serve", "--digest", DIGEST, "--name", "fraud"]
