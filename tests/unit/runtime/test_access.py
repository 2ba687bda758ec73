"""Bearer tokens and TLS: who may ask what, and what stays open."""

from __future__ import annotations

import asyncio
import http.client
import re
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme
from playwright.sync_api import expect
from runtime_kit import onnx_models
from runtime_kit.browser import open_page
from runtime_kit.process import Reply, Server, send
from tritonclient.grpc import service_pb2, service_pb2_grpc

from slipway_runtime.errors import Unauthorized
from slipway_runtime.server.access import Access
from slipway_runtime.settings import ServeSettings

TOKEN = "first-token"
OPEN = ("/v2/health/live", "/v2/health/ready", "/health", "/ping", "/metrics")


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def server(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("guarded")
    (folder / "tokens").write_text(f"second-token\n\n{TOKEN}\n")
    issued = authority.issue_cert("127.0.0.1")
    issued.private_key_pem.write_to_path(folder / "key.pem")
    for pem in issued.cert_chain_pems:
        pem.write_to_path(folder / "chain.pem", append=True)
    extra = {
        "SLIPWAY_TOKEN_FILE": str(folder / "tokens"),
        "SLIPWAY_TLS_CERTIFICATE": str(folder / "chain.pem"),
        "SLIPWAY_TLS_KEY": str(folder / "key.pem"),
        "SLIPWAY_TLS_PORT": "0",
        "SLIPWAY_GRPC_PORT": "0",
    }
    with Server(folder, onnx_models.linear(), extra=extra) as server:
        yield server.start().wait_until_ready()
        server.terminate()
        assert server.wait_for_end().code == 0


def securely(server: Server, authority: trustme.CA, path: str, token: str | None) -> Reply:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    found = re.search(r"TLS is at port (\d+)", server.log)
    assert found
    connection = http.client.HTTPSConnection("127.0.0.1", int(found[1]), context=context)
    headers = {} if token is None else {"authorization": token}
    try:
        method, body = ("POST", b"[1,2,3,4]") if path == "/predict" else ("GET", None)
        return send(connection, method, path, body, headers)
    finally:
        connection.close()


@pytest.mark.parametrize("path", OPEN)
def test_probes_need_neither_tls_nor_a_token(server: Server, path: str) -> None:
    assert server.get(path).status == 200


@pytest.mark.parametrize("path", ["/", "/predict", "/v2/models/m", "/docs", "/nowhere"])
def test_nothing_else_is_answered_in_the_clear(server: Server, path: str) -> None:
    reply = server.get(path)
    assert (reply.status, "TLS" in reply.json["error"]) == (403, True)


@pytest.mark.parametrize("token", [None, "", "Bearer", "Bearer ", "Bearer wrong", f"Basic {TOKEN}"])
@pytest.mark.parametrize("path", ["/predict", "/v2/models/m", "/openapi.json"])
def test_without_a_known_token_nothing_is_told(
    server: Server, authority: trustme.CA, path: str, token: str | None
) -> None:
    reply = securely(server, authority, path, token)
    assert (reply.status, reply.headers["www-authenticate"]) == (401, "Bearer")
    assert TOKEN not in reply.body.decode()


@pytest.mark.parametrize("token", [f"Bearer {TOKEN}", f"bearer  {TOKEN}", "Bearer second-token"])
def test_with_any_of_the_tokens_requests_are_answered(
    server: Server, authority: trustme.CA, token: str
) -> None:
    assert securely(server, authority, "/predict", token).json == {"y": [41, 51]}


def test_grpc_wants_the_same_and_leaves_health_open(server: Server, authority: trustme.CA) -> None:
    credentials = grpc.ssl_channel_credentials(authority.cert_pem.bytes())
    with grpc.secure_channel(server.grpc_address, credentials) as channel:
        ask = service_pb2_grpc.GRPCInferenceServiceStub(channel).ServerReady
        with pytest.raises(grpc.RpcError) as refused:
            ask(service_pb2.ServerReadyRequest())
        assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
        known = (("authorization", f"Bearer {TOKEN}"),)
        assert ask(service_pb2.ServerReadyRequest(), metadata=known).ready
    with grpc.insecure_channel(server.grpc_address) as channel:
        ask = service_pb2_grpc.GRPCInferenceServiceStub(channel).ServerReady
        with pytest.raises(grpc.RpcError) as refused:
            ask(service_pb2.ServerReadyRequest(), metadata=known, timeout=5)
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE


def test_the_pages_ask_for_the_token(tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text(TOKEN)
    extra = {"SLIPWAY_TOKEN_FILE": str(tmp_path / "tokens")}
    with Server(tmp_path, onnx_models.linear(), extra=extra) as server, open_page() as (page, _, _):
        server.start().wait_until_ready()
        page.goto(f"http://127.0.0.1:{server.port}/")
        page.get_by_label("This server requires a token").fill(TOKEN)
        page.get_by_role("button", name="Use it").click()
        page.get_by_role("button", name="Send").click()
        expect(page.locator("#answer")).to_have_text('{"y":[[1.0,1.0]]}')
        page.goto(f"http://127.0.0.1:{server.port}/docs")
        expect(page.locator("#state")).to_contain_text("requires a token")
        page.get_by_label("This server requires a token").fill(TOKEN)
        page.get_by_role("button", name="Use it").click()
        expect(page.get_by_role("heading", name="POST /predict", exact=True)).to_be_visible()
        assert TOKEN not in server.log


@pytest.mark.parametrize(
    ("variables", "content"),
    [
        ({"SLIPWAY_TOKEN_FILE": "file"}, "\n"),
        ({"SLIPWAY_TOKEN_FILE": "missing"}, ""),
        ({"SLIPWAY_TLS_CERTIFICATE": "file"}, ""),
        ({"SLIPWAY_TLS_CERTIFICATE": "file", "SLIPWAY_TLS_KEY": "file"}, "no PEM"),
    ],
)
def test_files_that_cannot_be_used_end_the_process(
    tmp_path: Path, variables: dict[str, str], content: str
) -> None:
    (tmp_path / "file").write_text(content)
    extra = {name: str(tmp_path / value) for name, value in variables.items()}
    with Server(tmp_path, onnx_models.linear(), extra=extra) as server:
        ended = server.start().wait_for_end()
    assert (ended.code, ended.termination["reason"]) == (2, "InvalidArguments")
    assert next(iter(variables)) in ended.termination["message"]


async def test_a_file_whose_rights_are_mended_is_read_without_another_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "tokens"
    path.write_text("old")
    monkeypatch.setattr("slipway_runtime.server.access._LOOK_SECONDS", 0.01)
    access = Access(ServeSettings(SLIPWAY_TOKEN_FILE=path))
    plain, denied = Path.read_text, [True]

    def read(self: Path, *more: Any, **named: Any) -> str:
        if denied:
            raise PermissionError(13, "Permission denied")
        return plain(self, *more, **named)

    monkeypatch.setattr(Path, "read_text", read)
    path.write_text("new-token \u00e9")
    watching = asyncio.create_task(access.watch())
    await asyncio.sleep(0.2)
    assert access.tokens is not None
    access.tokens.check("Bearer old")
    denied.clear()
    await asyncio.sleep(0.2)
    watching.cancel()
    access.tokens.check("Bearer new-token \u00c3\u00a9")  # UTF-8, as headers are shown
    with pytest.raises(Unauthorized):
        access.tokens.check("Bearer old")
