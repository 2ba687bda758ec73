"""`slipway pack` and local `slipway verify`: the package and its manifest."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import onnx
import pytest
from cli_kit import models
from cli_kit.models import digest_of
from cli_kit.run import slipway

from slipway.errors import InvalidArguments
from slipway.package import hashing
from slipway.package.manifest import CHUNK_BYTES, decode

Save = Callable[..., Path]
SCHEMA = json.loads((Path(__file__).resolve().parents[3] / "docs/slipway.schema.json").read_text())


def manifest_of(folder: Path) -> Any:
    return json.loads((folder / "slipway.json").read_text())


def test_a_package_pins_every_file_by_size_and_digest(linear: Path, folder: Path) -> None:
    ended = slipway("pack", linear, "--name", "fraud", "--json")
    assert ended.code == 0
    package = folder / "fraud.slipway"
    content = (package / "slipway.json").read_bytes()
    assert ended.json["digest"] == digest_of(content)
    manifest = json.loads(content)
    jsonschema.validate(manifest, SCHEMA)
    for entry in manifest["files"]:
        packed = (package / entry["path"]).read_bytes()
        assert (entry["size"], entry["digest"]) == (len(packed), digest_of(packed))
    listed = {entry["path"] for entry in manifest["files"]} | {"slipway.json"}
    assert {path.name for path in package.iterdir()} == listed
    assert (package / "model.onnx").read_bytes() == linear.read_bytes()


def test_external_data_goes_with_the_model(folder: Path) -> None:
    model = models.with_external_data(folder)
    assert slipway("pack", model).code == 0
    manifest = manifest_of(folder / "big.slipway")
    assert [entry["role"] for entry in manifest["files"]] == ["model", "externalData", "golden"]
    packed = slipway("inspect", folder / "big.slipway" / "model.onnx", "--json")
    assert packed.json["servable"] is True


def test_the_same_model_gives_the_same_digest(linear: Path) -> None:
    first = slipway("pack", linear, "--out", "a", "--name", "m", "--json").json
    second = slipway("pack", linear, "--out", "b", "--name", "m", "--json").json
    assert first["digest"] == second["digest"]
    assert slipway("pack", linear, "--out", "a", "--name", "m").code == 0


def test_golden_samples_are_what_the_model_gives(linear: Path, folder: Path) -> None:
    np.savez(folder / "s.npz", x=np.array([[1, 2, 3, 4]], np.float32))
    assert slipway("pack", linear, "--out", "p", "--samples", "s.npz", "--atol", "0.01").code == 0
    (sample,) = json.loads((folder / "p" / "golden.json").read_text())["samples"]
    assert sample == {
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]}],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [1, 2], "data": [41, 51]}],
    }
    assert manifest_of(folder / "p")["golden"] == {"atol": 0.01, "rtol": 0.001}


def test_samples_whose_outputs_the_model_does_not_give_are_refused(
    linear: Path, folder: Path
) -> None:
    x = np.array([[1, 2, 3, 4]], np.float32)
    np.savez(folder / "s.npz", x=x, y=np.array([[41, 52]], np.float32))
    ended = slipway("pack", linear, "--out", "p", "--samples", "s.npz")
    assert ended.code == 4
    assert "s.npz holds 'y', from which what the model gives is 1 apart" in ended.err
    assert not (folder / "p").exists()
    assert slipway("pack", linear, "--out", "p", "--samples", "s.npz", "--atol", "2").code == 0


def test_golden_numbers_are_exact(saved: Save, folder: Path) -> None:
    values = np.array([[0.1, 1 / 3, 1e-40, 3.4e38]], np.float32)
    np.savez(folder / "s.npz", x=values)
    model = saved(models.identity())
    assert slipway("pack", model, "--out", "p", "--samples", "s.npz").code == 0
    (sample,) = json.loads((folder / "p" / "golden.json").read_text())["samples"]
    assert (np.array(sample["outputs"][0]["data"], np.float32) == values[0]).all()
    assert sample["outputs"][0]["data"][0] == 0.1


def test_what_has_no_form_in_json_is_not_made_golden(saved: Save) -> None:
    ended = slipway("pack", saved(models.logarithm()), "--range=-2:-1")
    assert ended.code == 3
    assert "--no-golden" in ended.err


def test_columns_and_labels_that_the_model_carries_need_not_be_said_again(
    saved: Save, folder: Path
) -> None:
    model = onnx.load_model_from_string(models.linear())
    for key, value in (
        ("columns", '{"x": ["age", "income", "term", "amount"]}'),
        ("labels", '{"another tool": 1}'),
        ("licence", "MIT"),
    ):
        model.metadata_props.append(onnx.StringStringEntryProto(key=key, value=value))
    assert slipway("pack", saved(model.SerializeToString()), "--out", "p").code == 0
    manifest = json.loads((folder / "p/slipway.json").read_text())
    assert manifest["inputs"][0]["columns"] == ["age", "income", "term", "amount"]
    assert "labels" not in manifest["outputs"][0]
    assert manifest["metadata"] == {"licence": "MIT"}


def test_columns_labels_hints_and_metadata_are_carried(linear: Path, folder: Path) -> None:
    (folder / "columns.txt").write_text("age\nincome\nterm\namount\n")
    ended = slipway(
        "pack", linear, "--out", "p", "--columns", "x=@columns.txt", "--labels", "y=no,yes",
        "--max-batch-size", 32, "--meta", "licence=Apache-2.0",
    )  # fmt: skip
    assert ended.code == 0
    manifest = manifest_of(folder / "p")
    jsonschema.validate(manifest, SCHEMA)
    assert manifest["inputs"][0]["columns"] == ["age", "income", "term", "amount"]
    assert manifest["outputs"][0]["labels"] == ["no", "yes"]
    assert manifest["serving"] == {"maxBatchSize": 32}
    assert manifest["metadata"] == {"licence": "Apache-2.0"}


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--columns", "z=a,b"], "'z', which the model does not have"),
        (["--columns", "x=a,b"], "2 columns are given for 'x', whose last dimension is 4"),
        (["--labels", "y=a,b,c"], "3 labels"),
    ],
)
def test_names_that_do_not_fit_are_refused(linear: Path, flags: list[str], told: str) -> None:
    ended = slipway("pack", linear, *flags)
    assert ended.code == 2
    assert told in ended.err


def test_a_folder_that_holds_something_else_is_left_alone(linear: Path, folder: Path) -> None:
    (folder / "p").mkdir()
    (folder / "p" / "mine.txt").write_text("mine")
    ended = slipway("pack", linear, "--out", "p")
    assert ended.code == 6
    assert [path.name for path in (folder / "p").iterdir()] == ["mine.txt"]
    assert not list(folder.glob(".*.tmp"))


def test_a_package_whose_files_were_changed_is_not_taken_for_the_same(
    linear: Path, folder: Path
) -> None:
    assert slipway("pack", linear, "--out", "p").code == 0
    assert slipway("pack", linear, "--out", "p").code == 0
    (folder / "p" / "model.onnx").write_bytes(b"other")
    assert slipway("pack", linear, "--out", "p").code == 6
    assert (folder / "p" / "model.onnx").read_bytes() == b"other"


def test_verify_finds_a_changed_a_missing_and_a_grown_file(linear: Path, folder: Path) -> None:
    digest = slipway("pack", linear, "--out", "p", "--json").json["digest"]
    assert slipway("verify", "p", "--digest", digest).code == 0
    assert slipway("verify", "p", "--digest", "sha256:" + 64 * "0").code == 4
    model = folder / "p" / "model.onnx"
    content = model.read_bytes()
    for bad in (content[:-1] + b"x", content + b"x", None):
        model.unlink()
        if bad is not None:
            model.write_bytes(bad)
        ended = slipway("verify", "p", "--json")
        assert ended.code == 4
        assert ended.json["intact"] is False
        assert [f["path"] for f in ended.json["files"] if f["problem"]] == ["model.onnx"]
        model.write_bytes(content)


def test_verify_takes_a_bare_file(linear: Path) -> None:
    digest = digest_of(linear.read_bytes())
    assert slipway("verify", linear, "--digest", digest).code == 0
    assert slipway("verify", linear, "--digest", digest_of(b"other")).code == 4
    assert slipway("verify", linear, "--digest", "abc").code == 2


def test_large_files_have_a_digest_for_each_64_mib(folder: Path) -> None:
    content = random.Random(1).randbytes(1024) * 1024 * 130  # 130 MiB
    path = folder / "weights.bin"
    path.write_bytes(content)
    found = hashing.packaged(path, "weights.bin", "externalData")
    assert found.digest == digest_of(content)
    assert list(found.chunks) == [
        f"sha256:{hashlib.sha256(content[start : start + CHUNK_BYTES]).hexdigest()}"
        for start in range(0, len(content), CHUNK_BYTES)
    ]
    path.write_bytes(content[:CHUNK_BYTES])
    assert hashing.packaged(path, "weights.bin", "externalData").chunks == ()


def a_manifest() -> Any:
    entry = {"path": "model.onnx", "role": "model", "size": 1, "digest": digest_of(b"x")}
    tensor = {"name": "x", "datatype": "FP32", "shape": ["n", 4]}
    return {
        "schemaVersion": 1,
        "name": "m",
        "files": [entry],
        "inputs": [tensor],
        "outputs": [tensor | {"name": "y"}],
    }


def set_in_file(**values: object) -> Callable[[Any], None]:
    return lambda manifest: manifest["files"][0].update(values)


@pytest.mark.parametrize(
    "spoil",
    [
        set_in_file(path="../model.onnx"),
        set_in_file(path="/model.onnx"),
        set_in_file(path="a/../../model.onnx"),
        set_in_file(path="a\\b"),
        set_in_file(path="slipway.json"),
        set_in_file(path=""),
        set_in_file(digest="sha256:abc"),
        set_in_file(role="script"),
        set_in_file(size=-1),
        set_in_file(size="1"),
        lambda manifest: manifest.update(schemaVersion=2),
        lambda manifest: manifest.update(files=[]),
        lambda manifest: manifest["files"].append(manifest["files"][0]),
        lambda manifest: manifest.pop("inputs"),
    ],
)
def test_reader_and_schema_refuse_the_same_manifests(spoil: Callable[[Any], None]) -> None:
    manifest = a_manifest()
    jsonschema.validate(manifest, SCHEMA)
    assert decode(json.dumps(manifest).encode(), "it").model.path == "model.onnx"
    spoil(manifest)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(manifest, SCHEMA)
    with pytest.raises(InvalidArguments):
        decode(json.dumps(manifest).encode(), "it")
