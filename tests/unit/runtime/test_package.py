"""Packages: what `fetch` takes and refuses, and what `serve` makes of them."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper
from runtime_kit import onnx_models, packages
from runtime_kit.faulty_http import Answer, FaultyServer, Seen
from runtime_kit.fuzzing import examples
from runtime_kit.process import Server, digest_of, seed
from runtime_kit.process import run as run_command

from slipway_runtime import errors
from slipway_runtime.artifact import graph
from slipway_runtime.artifact.cache import Cache
from slipway_runtime.artifact.digest import Digest
from slipway_runtime.artifact.fetch import fetch
from slipway_runtime.artifact.manifest import decode
from slipway_runtime.artifact.retry import Retry
from slipway_runtime.artifact.sources import open_source
from slipway_runtime.artifact.stored import find
from slipway_runtime.inference import model as models
from slipway_runtime.settings import FetchSettings

RETRY = Retry(attempts=3, deadline=60, sleep=lambda _seconds: None)
ONE = packages.entry("model.onnx", b"x", "model")


def run(
    tmp_path: Path,
    uri: str,
    digest: str,
    max_bytes: int | None = None,
    connections: int = 8,
    **options: Any,
) -> Path:
    return fetch(
        open_source(uri, FetchSettings.model_validate(options)),
        Digest.parse(digest),
        Cache(tmp_path / "cache"),
        max_bytes=max_bytes,
        retry=RETRY,
        connections=connections,
    )


def local(folder: Path) -> str:
    return f"file://{folder}/slipway.json"


# ---- the manifest ----


def listed(**changes: Any) -> dict[str, Any]:
    return packages.manifest([ONE | changes])


def files(*entries: dict[str, Any]) -> dict[str, Any]:
    return packages.manifest(list(entries))


def other(path: str) -> dict[str, Any]:
    return packages.entry(path, b"", "externalData")


@pytest.mark.parametrize(
    ("document", "message"),
    [
        pytest.param(listed(path="../model.onnx"), "does not lie inside", id="up"),
        pytest.param(listed(path="a/../../model.onnx"), "does not lie inside", id="up within"),
        pytest.param(listed(path="/etc/passwd"), "does not lie inside", id="absolute"),
        pytest.param(listed(path="./model.onnx"), "does not lie inside", id="dot"),
        pytest.param(listed(path="a//model.onnx"), "does not lie inside", id="empty part"),
        pytest.param(listed(path=""), "does not lie inside", id="empty"),
        pytest.param(listed(path="."), "does not lie inside", id="only a dot"),
        pytest.param(listed(path="a\\b"), "backslash", id="backslash"),
        pytest.param(listed(path="a\u0000b"), "control character", id="NUL"),
        pytest.param(listed(path="a\nb"), "control character", id="newline"),
        pytest.param(listed(path="slipway.json"), "own name", id="the manifest itself"),
        pytest.param(listed(path="a" * 256), "longer than a file system", id="long name"),
        pytest.param(listed(path="a/" * 600 + "b"), "longer than a file system", id="long path"),
        pytest.param(listed(size=-1), "greater than or equal to 0", id="negative size"),
        pytest.param(listed(size=2**60), "less than or equal", id="absurd size"),
        pytest.param(listed(size=10**400), r"files\.0\.size", id="endless size"),
        pytest.param(listed(size="1"), "valid integer", id="size as text"),
        pytest.param(listed(size=True), "valid integer", id="size as boolean"),
        pytest.param(listed(digest="sha256:abc"), "pattern", id="short digest"),
        pytest.param(listed(digest=ONE["digest"] + "\n"), "pattern", id="digest and newline"),
        pytest.param(listed(digest=ONE["digest"].upper()), "pattern", id="upper case"),
        pytest.param(listed(role="script"), "'externalData'", id="unknown role"),
        pytest.param(listed(more=1), "Extra inputs", id="unknown member"),
        pytest.param(listed(size=packages.CHUNK + 1), "0 chunks are listed", id="no chunks"),
        pytest.param(listed(chunkSize=packages.CHUNK, chunks=[]), "its size makes 0", id="chunks"),
        pytest.param(listed(chunkSize=1), "67108864", id="chunk size"),
        pytest.param(listed(role="golden", size=2**26 + 1, chunkSize=2**26,
                            chunks=[ONE["digest"]] * 2), "golden samples may", id="golden bomb"),
        pytest.param(files(), "at least 1", id="no files"),
        pytest.param(files(ONE, ONE), "exactly one file", id="two models"),
        pytest.param(files(other("w")), "exactly one file", id="no model"),
        pytest.param(files(ONE, other("w"), other("W")), "differ in case", id="case alone"),
        pytest.param(files(ONE, other("a"), other("a/b")), "both a file and a folder", id="nested"),
        pytest.param(files(*[ONE] * 10_001), "at most 10000", id="too many files"),
        pytest.param(files(ONE) | {"schemaVersion": 2}, "schemaVersion is 2", id="version"),
        pytest.param(files(ONE) | {"golden": {"rtol": -1, "atol": 0}}, "rtol", id="tolerance"),
        pytest.param(files(ONE) | {"golden": {"rtol": float("nan"), "atol": 0}}, "golden",
                     id="tolerance that is no number"),
        pytest.param(files(ONE) | {"hooks": {}}, "Extra inputs", id="unknown section"),
        pytest.param([], "slipway.json is no package", id="a list"),
        pytest.param({}, "and 2 more", id="nothing"),
    ],
)  # fmt: skip
def test_a_manifest_of_another_form_is_refused_with_the_place(
    document: object, message: str
) -> None:
    with pytest.raises(errors.InvalidModel, match=message):
        decode(json.dumps(document).encode())


@pytest.mark.parametrize(
    "content",
    [
        b"{",
        b"{}" * 2,
        b'{"schemaVersion": 1, "schemaVersion": 1}',
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"schemaVersion": 1' + b"0" * 5000 + b"}",
    ],
)
def test_what_is_no_json_object_is_refused(content: bytes) -> None:
    with pytest.raises(errors.InvalidModel, match="no package manifest"):
        decode(content)


def test_a_manifest_without_end_is_too_large() -> None:
    with pytest.raises(errors.TooLarge):
        decode(b"{" + b" " * 2**24 + b"}")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
MEMBERS = [*packages.manifest([]), "golden", "serving", "metadata"]
FILE_MEMBERS = [*ONE, "chunks", "chunkSize"]


@examples(150)
@given(st.data())
def test_a_manifest_is_read_or_refused_and_never_a_defect(data: st.DataObject) -> None:
    document = packages.manifest([dict(ONE)], metadata={"licence": "x"})
    for _ in range(data.draw(st.integers(0, 3))):
        if data.draw(st.booleans()):
            document[data.draw(st.sampled_from(MEMBERS) | st.text())] = data.draw(JSON)
        else:
            entry: dict[str, Any] = dict(ONE)
            entry[data.draw(st.sampled_from(FILE_MEMBERS) | st.text())] = data.draw(JSON)
            document["files"] = [entry]
    try:
        manifest = decode(json.dumps(document).encode())
    except errors.Failure:
        return
    root = Path("/package")
    for file in manifest.files:
        assert (root / file.path).resolve().is_relative_to(root)
        assert file.path != "slipway.json"


@examples(150)
@given(st.binary(max_size=200))
def test_any_bytes_are_no_manifest(content: bytes) -> None:
    with pytest.raises(errors.InvalidModel):
        decode(content)


# ---- fetch ----


def test_a_package_is_fetched_whole_and_found_again(tmp_path: Path) -> None:
    digest = packages.external(tmp_path / "p")
    model = run(tmp_path, local(tmp_path / "p"), digest)
    entry = Cache(tmp_path / "cache").entry(Digest.parse(digest))
    assert model == entry / "model.onnx"
    found = {str(path.relative_to(entry)) for path in entry.rglob("*") if path.is_file()}
    assert found == {"slipway.json", "model.onnx", "data/w.bin"}
    assert (entry / "data/w.bin").read_bytes() == packages.WEIGHTS
    shutil.rmtree(tmp_path / "p")
    assert run(tmp_path, local(tmp_path / "p"), digest) == model


def serve_folder(folder: Path, prefix: str) -> Callable[[Seen], Answer]:
    """Answers GET and HEAD below a prefix with a folder's files, ranges included."""

    def answer(seen: Seen) -> Answer:
        path = folder / seen.path.partition("?")[0].removeprefix(prefix)
        if not path.is_file():
            return Answer(404)
        content = path.read_bytes()
        headers = {"ETag": f'"{digest_of(content)[-8:]}"'}
        wanted = seen.headers.get("Range")
        if wanted is None:
            return Answer(200, content, headers=headers)
        first, _, last = wanted.removeprefix("bytes=").partition("-")
        part = content[int(first) : int(last or len(content)) + 1]
        span = f"bytes {first}-{int(first) + len(part) - 1}/{len(content)}"
        return Answer(206, part, headers=headers | {"Content-Range": span})

    return answer


def test_over_http_the_files_lie_beside_the_manifest_under_the_same_query(tmp_path: Path) -> None:
    digest = packages.external(tmp_path / "p", "w b.bin")
    with FaultyServer(serve_folder_unquoted(tmp_path / "p")) as server:
        assert run(tmp_path, f"{server.url}/a/b/slipway.json?sig=1#x", digest).is_file()
        assert {seen.path for seen in server.seen} == {
            "/a/b/slipway.json?sig=1",
            "/a/b/model.onnx?sig=1",
            "/a/b/w%20b.bin?sig=1",
        }


def serve_folder_unquoted(folder: Path) -> Callable[[Seen], Answer]:
    inner = serve_folder(folder, "/a/b/")
    return lambda seen: inner(Seen(seen.method, seen.path.replace("%20", " "), seen.headers))


def test_in_s3_the_files_lie_beside_the_manifest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    digest = packages.external(tmp_path / "p")
    with FaultyServer(serve_folder(tmp_path / "p", "/bucket/a/")) as server:
        uri = "s3://bucket/a/slipway.json"
        options = {"endpoint_url": server.url, "addressing_style": "path"}
        assert run(tmp_path, uri, digest, **options).is_file()


def remove(folder: Path) -> None:
    (folder / "data/w.bin").unlink()


def shorten(folder: Path) -> None:
    (folder / "data/w.bin").write_bytes(packages.WEIGHTS[:-1])


def lengthen(folder: Path) -> None:
    (folder / "data/w.bin").write_bytes(packages.WEIGHTS + b"x")


def alter(folder: Path) -> None:
    (folder / "data/w.bin").write_bytes(packages.WEIGHTS[:-1] + b"x")


def alter_manifest(folder: Path) -> None:
    with (folder / "slipway.json").open("a") as file:
        file.write(" ")


@pytest.mark.parametrize(
    ("damage", "kind", "message"),
    [
        (remove, errors.ArtifactNotFound, "data/w.bin"),
        (shorten, errors.DigestMismatch, "data/w.bin has 31 bytes, and slipway.json says 32"),
        (lengthen, errors.DigestMismatch, "data/w.bin has 33 bytes, and slipway.json says 32"),
        (alter, errors.DigestMismatch, "data/w.bin holds 32 bytes with the digest"),
        (alter_manifest, errors.DigestMismatch, "slipway.json holds"),
    ],
)
def test_a_package_that_is_not_as_it_was_pinned_is_refused_whole(
    tmp_path: Path, damage: Callable[[Path], None], kind: type[errors.Failure], message: str
) -> None:
    digest = packages.external(tmp_path / "p")
    damage(tmp_path / "p")
    with pytest.raises(kind, match=message):
        run(tmp_path, local(tmp_path / "p"), digest)
    assert list((tmp_path / "cache" / "sha256").iterdir()) == []
    assert list((tmp_path / "cache" / "tmp").iterdir()) == []


def test_the_limit_holds_for_all_files_together(tmp_path: Path) -> None:
    digest = packages.external(tmp_path / "p")
    total = sum(path.stat().st_size for path in (tmp_path / "p").rglob("*") if path.is_file())
    with pytest.raises(errors.TooLarge, match=rf"package at .* has {total} bytes, above"):
        run(tmp_path, local(tmp_path / "p"), digest, max_bytes=total - 1)
    assert run(tmp_path, local(tmp_path / "p"), digest, max_bytes=total).is_file()


def test_a_manifest_that_promises_more_than_the_volume_holds_is_refused_at_once(
    tmp_path: Path,
) -> None:
    size = 2**50
    chunks = [ONE["digest"]] * (size // packages.CHUNK // 2**10)
    bomb = other("w") | {"size": packages.CHUNK * len(chunks), "chunkSize": packages.CHUNK}
    content = json.dumps(packages.manifest([ONE, bomb | {"chunks": chunks}])).encode()
    (tmp_path / "slipway.json").write_bytes(content)
    with pytest.raises(errors.TooLarge, match="cache volume"):
        run(tmp_path, local(tmp_path), digest_of(content))


@pytest.mark.parametrize(
    "location", ["../w.bin", "/etc/passwd", "other.bin", "./data/w.bin", "data/../data/w.bin", ""]
)
def test_a_graph_that_names_a_file_that_is_not_pinned_is_refused_before_the_others_come(
    tmp_path: Path, location: str
) -> None:
    digest = packages.write(
        tmp_path / "p",
        {
            "model.onnx": ("model", packages.external_model(location)),
            "data/w.bin": ("externalData", packages.WEIGHTS),
        },
    )
    remove(tmp_path / "p")
    with pytest.raises(errors.InvalidModel, match="which is no file of the package"):
        run(tmp_path, local(tmp_path / "p"), digest)


def test_the_content_tells_a_package_from_a_bare_file_whatever_its_name(tmp_path: Path) -> None:
    packages.linear(tmp_path / "p")
    (tmp_path / "p/slipway.json").rename(tmp_path / "p/latest")
    digest = digest_of((tmp_path / "p/latest").read_bytes())
    assert run(tmp_path, f"file://{tmp_path}/p/latest", digest).name == "model.onnx"


# ---- large files ----


def large(folder: Path) -> tuple[str, bytes]:
    """A package with 65 MiB of external data, which nothing in the graph uses."""
    content = bytes(64 << 20) + b"w" * (1 << 20)
    files = {"model.onnx": ("model", onnx_models.linear()), "w.bin": ("externalData", content)}
    return packages.write(folder, files), content


def test_a_bad_chunk_of_a_large_file_is_named(tmp_path: Path) -> None:
    digest, _ = large(tmp_path / "p")
    model = run(tmp_path, local(tmp_path / "p"), digest)
    cache = Cache(tmp_path / "cache")
    assert find(cache, Digest.parse(digest)).model == model
    with (model.parent / "w.bin").open("r+b") as file:
        file.seek(packages.CHUNK + 1)
        file.write(b"x")
    with pytest.raises(errors.DigestMismatch, match=r"chunk 1 of .*w\.bin"):
        find(cache, Digest.parse(digest))


SECOND = f"bytes={packages.CHUNK}-{(65 << 20) - 1}"


def answers(folder: Path, on_second: Callable[[int, Answer], Answer]) -> Callable[[Seen], Answer]:
    """A folder over HTTP; what is answered to the n-th request for the second chunk is changed."""
    inner = serve_folder(folder, "/")
    asked: list[Seen] = []

    def answer(seen: Seen) -> Answer:
        whole = inner(seen)
        if seen.headers.get("Range") != SECOND:
            return whole
        asked.append(seen)
        return on_second(len(asked), whole)

    return answer


def requests(server: FaultyServer) -> list[tuple[str, str]]:
    return [(seen.path, seen.headers["Range"]) for seen in server.seen]


def test_a_bad_chunk_is_fetched_again_alone(tmp_path: Path) -> None:
    digest, content = large(tmp_path / "p")

    def once_bad(number: int, whole: Answer) -> Answer:
        return replace(whole, body=b"x" + whole.body[1:]) if number == 1 else whole

    with FaultyServer(answers(tmp_path / "p", once_bad)) as server:
        model = run(tmp_path, f"{server.url}/slipway.json", digest)
        assert (model.parent / "w.bin").stat().st_size == len(content)
        assert requests(server).count(("/w.bin", SECOND)) == 2
        assert len(requests(server)) == 5
    assert find(Cache(tmp_path / "cache"), Digest.parse(digest)).model == model


def test_a_chunk_that_stays_bad_is_a_mismatch(tmp_path: Path) -> None:
    digest, _ = large(tmp_path / "p")

    def bad(_number: int, whole: Answer) -> Answer:
        return replace(whole, body=b"x" + whole.body[1:])

    with (
        FaultyServer(answers(tmp_path / "p", bad)) as server,
        pytest.raises(errors.DigestMismatch, match=rf"bytes {packages.CHUNK} to .*w\.bin"),
    ):
        run(tmp_path, f"{server.url}/slipway.json", digest)


def test_a_later_fetch_asks_only_for_the_chunks_that_are_missing(tmp_path: Path) -> None:
    digest, _ = large(tmp_path / "p")
    with (
        FaultyServer(answers(tmp_path / "p", lambda _n, _whole: Answer(503))) as server,
        pytest.raises(errors.SourceUnavailable, match="67 MB of 68 MB had come"),
    ):
        run(tmp_path, f"{server.url}/slipway.json", digest, connections=1)
    with FaultyServer(answers(tmp_path / "p", lambda _n, whole: whole)) as server:
        run(tmp_path, f"{server.url}/slipway.json", digest)
        assert requests(server) == [("/w.bin", SECOND)]


def test_chunks_come_from_a_server_without_ranges_too(tmp_path: Path) -> None:
    digest, content = large(tmp_path / "p")
    inner = serve_folder(tmp_path / "p", "/")
    with FaultyServer(lambda seen: inner(replace(seen, headers={}))) as server:
        model = run(tmp_path, f"{server.url}/slipway.json", digest)
    assert (model.parent / "w.bin").stat().st_size == len(content)


# ---- the cache ----


def link(path: Path) -> None:
    moved = path.rename(path.parent.parent / "elsewhere")
    path.symlink_to(moved)


def link_folder(path: Path) -> None:
    moved = path.parent.rename(path.parent.parent.parent / "elsewhere")
    path.parent.symlink_to(moved)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.unlink(), "w.bin is missing"),
        (lambda path: path.write_bytes(b"x"), "has 1 bytes, the manifest says 32"),
        (lambda path: path.write_bytes(b"x" * 32), "w.bin holds 32 bytes"),
        (link, "w.bin is a link"),
        (link_folder, "data is a link"),
    ],
)
def test_what_was_changed_in_the_cache_is_noticed_and_fetched_again(
    tmp_path: Path, damage: Callable[[Path], object], message: str
) -> None:
    digest = packages.external(tmp_path / "p")
    model = run(tmp_path, local(tmp_path / "p"), digest)
    damage(model.parent / "data/w.bin")
    cache = Cache(tmp_path / "cache")
    with pytest.raises(errors.DigestMismatch, match=message):
        find(cache, Digest.parse(digest))
    run(tmp_path, local(tmp_path / "p"), digest)
    assert find(cache, Digest.parse(digest)).model == model


# ---- the graph ----


def nested(location: str) -> bytes:
    """External data three graphs deep, in an attribute, in a function."""
    inner = onnx_models.onnx_from(packages.external_model(location)).graph.initializer[0]
    node = helper.make_node("Constant", [], ["c"], value=inner)
    for depth in range(3):
        body = helper.make_graph([node], f"body{depth}", [], [])
        node = helper.make_node("If", ["c"], ["d"], then_branch=body, else_branch=body)
    function = helper.make_function("d", "f", ["x"], ["y"], [node], [])
    model = onnx_models.onnx_from(onnx_models.linear())
    model.functions.append(function)
    return model.SerializeToString()


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (onnx_models.linear(), set[str]()),
        (b"", set[str]()),
        (packages.external_model("w.bin"), {"w.bin"}),
        (packages.external_model("w.bin", offset="0", length="32"), {"w.bin"}),
        (nested("deep.bin"), {"deep.bin"}),
        (onnx_models.identity(input_name="location"), set[str]()),
    ],
    ids=["inside", "empty", "external", "with offset", "nested", "only the word"],
)
def test_the_files_that_a_graph_needs_are_found(
    tmp_path: Path, content: bytes, found: set[str]
) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    assert graph.external_locations(path) == found


def test_a_graph_that_other_readers_would_find_elsewhere_is_refused(tmp_path: Path) -> None:
    """ONNX Runtime drops what a field's number has beyond 32 bits, and sees the graph."""
    model = onnx_models.onnx_from(packages.external_model("w.bin"))
    graph_bytes = model.graph.SerializeToString()
    model.ClearField("graph")
    tag, size = _varint((1 << 32) + (7 << 3) + 2), _varint(len(graph_bytes))
    content = model.SerializeToString() + tag + size + graph_bytes
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    (tmp_path / "w.bin").write_bytes(packages.WEIGHTS)
    assert onnxruntime.InferenceSession(path).get_outputs()
    with pytest.raises(errors.InvalidModel, match="beyond 32 bits"):
        graph.external_locations(path)


def _varint(number: int) -> bytes:
    octets = bytearray()
    while number > 0x7F:
        octets.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes((*octets, number))


@examples(200)
@given(st.data())
def test_a_damaged_graph_is_read_or_refused_and_never_a_defect(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    content = bytearray(nested("w.bin"))
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "damaged.onnx"
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    with contextlib.suppress(errors.InvalidModel):
        assert len(graph.external_locations(path)) <= 1


# ---- serve ----


def fetch_and_serve(tmp_path: Path, digest: str) -> Server:
    arguments = ("fetch", "--uri", local(tmp_path / "p"), "--digest", digest)
    ended = run_command(tmp_path, *arguments)
    assert (ended.code, ended.termination) == (0, {}), ended.log
    return Server.of_cached(tmp_path, digest)


def test_a_package_is_served_with_its_external_data_columns_and_labels(tmp_path: Path) -> None:
    digest = packages.write(
        tmp_path / "p",
        {
            "graphs/fraud.onnx": ("model", packages.external_model("data/w.bin")),
            "graphs/data/w.bin": ("externalData", packages.WEIGHTS),
        },
        inputs=[{"name": "x", "datatype": "FP32", "shape": ["n", 4], "columns": list("abcd")}],
        outputs=[
            {"name": "y", "datatype": "FP32", "shape": ["n", 2], "labels": ["honest", "fraud"]}
        ],
    )
    with fetch_and_serve(tmp_path, digest) as server:
        server.start().wait_until_ready()
        records = [{"d": 4, "c": 3, "b": 2, "a": 1}]
        assert server.post("/predict", {"records": records}).json == {"y": [[40, 50]]}
        tensor = {"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]}
        (output,) = server.post("/v2/models/m/infer", {"inputs": [tensor]}).json["outputs"]
        assert json.loads(output["parameters"]["labels"]) == ["honest", "fraud"]
        reply = server.get("/v2")
        assert reply.headers["slipway-model-digest"] == digest


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"inputs": [{"name": "x", "datatype": "FP32", "shape": None, "columns": ["a"]}]},
         "columns do not fit"),
        ({"inputs": [{"name": "z", "datatype": "FP32", "shape": None, "columns": ["a"]}]},
         "no input 'z'"),
        ({"outputs": [{"name": "y", "datatype": "FP32", "shape": None, "labels": ["a"]}]},
         "its last dimension is 2"),
    ],
)  # fmt: skip
def test_names_that_do_not_fit_the_graph_are_refused(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    packages.linear(tmp_path, **changes)
    manifest = decode((tmp_path / "slipway.json").read_bytes())
    with pytest.raises(errors.InvalidModel, match=message):
        models.load(
            models.ModelIdentity("m", Digest("0" * 64)),
            tmp_path / "model.onnx",
            ["CPUExecutionProvider"],
            intra_op_threads=1,
            inter_op_threads=1,
            manifest=manifest,
        )


def test_a_bare_file_that_needs_others_is_refused_with_the_way_out(tmp_path: Path) -> None:
    content = packages.external_model("../../etc/passwd")
    digest = seed(tmp_path / "cache", content)
    with Server.of_cached(tmp_path, digest) as server:
        ended = server.start().wait_for_end()
    assert (ended.code, ended.termination["reason"]) == (21, "InvalidModel")
    assert "slipway pack" in ended.termination["message"]
