"""TLS that hangs, TLS that is none, and certificates and tokens that change under way."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
import trustme
from runtime_kit import onnx_models
from runtime_kit.process import Reply, Server, send
from tritonclient.grpc import service_pb2, service_pb2_grpc

SECONDS = 0.5
MOST = 64


def until(condition: Callable[[], bool], server: Server, seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, server.log
        time.sleep(0.05)


def write_pair(folder: Path, authority: trustme.CA) -> None:
    """A certificate for this host, and its key, as a Secret of type kubernetes.io/tls has them."""
    folder.mkdir(exist_ok=True)
    issued = authority.issue_cert("127.0.0.1")
    (folder / "tls.key").write_bytes(issued.private_key_pem.bytes())
    (folder / "tls.crt").write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))


class Mount:
    """A folder as the kubelet mounts a Secret: links to links, of which one is put in place."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._versions = 0
        root.mkdir()
        for name in ("tls.crt", "tls.key", "tokens"):
            (root / name).symlink_to(f"..data/{name}")

    def put(self, authority: trustme.CA, token: str, key_of: trustme.CA | None = None) -> None:
        self._versions += 1
        version = self._root / f"..{self._versions}"
        write_pair(version, authority)
        if key_of is not None:
            other = key_of.issue_cert("127.0.0.1").private_key_pem
            (version / "tls.key").write_bytes(other.bytes())
        (version / "tokens").write_text(token)
        (self._root / "..next").symlink_to(version.name)
        (self._root / "..next").rename(self._root / "..data")

    @property
    def variables(self) -> dict[str, str]:
        return {
            "SLIPWAY_TLS_CERTIFICATE": str(self._root / "tls.crt"),
            "SLIPWAY_TLS_KEY": str(self._root / "tls.key"),
            "SLIPWAY_TLS_PORT": "0",
            "SLIPWAY_TOKEN_FILE": str(self._root / "tokens"),
        }


def tls_port(server: Server) -> int:
    found = re.search(r"TLS is at port (\d+)", server.log)
    assert found
    return int(found[1])


def trusting(server: Server, authority: trustme.CA) -> http.client.HTTPSConnection:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return http.client.HTTPSConnection("127.0.0.1", tls_port(server), context=context, timeout=10)


def predict(connection: http.client.HTTPConnection, token: str) -> Reply:
    return send(connection, "POST", "/predict", b"[1,2,3,4]", {"authorization": f"Bearer {token}"})


def accepted(server: Server, authority: trustme.CA, token: str) -> bool:
    """Whether a new connection is trusted and its request is answered."""
    with contextlib.closing(trusting(server, authority)) as connection:
        try:
            return predict(connection, token).status == 200
        except ssl.SSLCertVerificationError:
            return False


def accepted_by_grpc(server: Server, authority: trustme.CA, token: str) -> bool:
    credentials = grpc.ssl_channel_credentials(authority.cert_pem.bytes())
    with grpc.secure_channel(server.grpc_address, credentials) as channel:
        ask = service_pb2_grpc.GRPCInferenceServiceStub(channel).ServerReady
        try:
            known = (("authorization", f"Bearer {token}"),)
            return ask(service_pb2.ServerReadyRequest(), metadata=known, timeout=5).ready
        except grpc.RpcError:
            return False


@pytest.mark.parametrize("workers", [1, 2])
def test_a_secret_that_is_rotated_takes_effect_without_a_restart(
    tmp_path: Path, workers: int
) -> None:
    first, second = trustme.CA(), trustme.CA()
    mount = Mount(tmp_path / "secret")
    mount.put(first, "old")
    extra = {"SLIPWAY_GRPC_PORT": "0", "SLIPWAY_WORKERS": str(workers), **mount.variables}
    with Server(tmp_path, onnx_models.linear(), extra=extra) as server:
        server.start().wait_until_ready()
        assert accepted(server, first, "old")
        assert accepted_by_grpc(server, first, "old")
        with contextlib.closing(trusting(server, first)) as kept:
            assert predict(kept, "old").status == 200

            mount.put(second, "wrong", key_of=first)
            until(lambda: server.log.count("cannot be used, the old is kept") == workers, server)
            assert accepted(server, first, "wrong")
            assert accepted_by_grpc(server, first, "wrong")

            mount.put(second, "new")
            until(lambda: server.log.count("tls.key changed and was read again") == workers, server)
            for _ in range(4):  # over new connections, so by each worker
                assert accepted(server, second, "new")
                assert not accepted(server, first, "new")
                assert not accepted(server, second, "old")
            assert accepted_by_grpc(server, second, "new")
            assert not accepted_by_grpc(server, first, "new")
            assert (predict(kept, "old").status, predict(kept, "new").status) == (401, 200)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def strict(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("strict")
    write_pair(folder, authority)
    extra = {
        "SLIPWAY_TLS_CERTIFICATE": str(folder / "tls.crt"),
        "SLIPWAY_TLS_KEY": str(folder / "tls.key"),
        "SLIPWAY_TLS_PORT": "0",
        "SLIPWAY_HEADER_TIMEOUT_SECONDS": str(SECONDS),
        "SLIPWAY_MAX_CONNECTIONS": str(MOST),
    }
    with Server(folder, onnx_models.linear(), extra=extra) as server:
        yield server.start().wait_until_ready()
        server.terminate()
        assert server.wait_for_end().code == 0


def told(server: Server, line: str) -> int:
    page = server.get("/metrics").body.decode()
    found = re.search(rf"^{re.escape(line)} (\d+)$", page, re.MULTILINE)
    assert found, page
    return int(found[1])


def client_hello() -> bytes:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = ssl.create_default_context().wrap_bio(incoming, outgoing, server_hostname="x")
    with contextlib.suppress(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


@pytest.mark.parametrize(
    "sent", [b"", client_hello()[:20], client_hello()], ids=["nothing", "half a hello", "a hello"]
)
def test_a_handshake_that_hangs_is_a_connection_and_is_cut_off(strict: Server, sent: bytes) -> None:
    before = told(strict, 'slipway_http_connections_closed_total{reason="handshake"}')
    with socket.create_connection(("127.0.0.1", tls_port(strict)), timeout=10) as connection:
        connection.sendall(sent)
        began = time.monotonic()
        assert told(strict, "slipway_http_connections") == 2
        with contextlib.suppress(ConnectionResetError):
            while connection.recv(65536):
                pass
        assert SECONDS * 0.9 <= time.monotonic() - began < 8
    assert told(strict, 'slipway_http_connections_closed_total{reason="handshake"}') == before + 1
    assert told(strict, "slipway_http_connections") == 1


def test_handshakes_that_hang_make_room(authority: trustme.CA, strict: Server) -> None:
    before = told(strict, 'slipway_http_connections_closed_total{reason="room"}')
    with contextlib.ExitStack() as stack:
        for _ in range(2 * MOST):
            stack.enter_context(socket.create_connection(("127.0.0.1", tls_port(strict))))
        connection = stack.enter_context(contextlib.closing(trusting(strict, authority)))
        assert send(connection, "POST", "/predict", b"[1,2,3,4]").json == {"y": [41, 51]}
        assert told(strict, "slipway_http_connections") <= MOST + 1
    assert told(strict, 'slipway_http_connections_closed_total{reason="room"}') > before


def test_what_is_not_tls_is_closed_without_noise(strict: Server) -> None:
    lines = len(strict.log.splitlines())
    with socket.create_connection(("127.0.0.1", tls_port(strict)), timeout=10) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        with contextlib.suppress(ConnectionResetError):
            while connection.recv(65536):
                pass
    until(lambda: told(strict, "slipway_http_connections") == 1, strict)
    since = [json.loads(line) for line in strict.log.splitlines()[lines:]]
    assert [entry for entry in since if entry["level"] != "info"] == []


@pytest.fixture
def answering(authority: trustme.CA, tmp_path: Path) -> Iterator[Server]:
    """Answers over TLS with as many ones as it is asked for."""
    write_pair(tmp_path / "pair", authority)
    extra = {
        "SLIPWAY_TLS_CERTIFICATE": str(tmp_path / "pair" / "tls.crt"),
        "SLIPWAY_TLS_KEY": str(tmp_path / "pair" / "tls.key"),
        "SLIPWAY_TLS_PORT": "0",
    }
    with Server(tmp_path, onnx_models.ones(), extra=extra) as server:
        yield server.start().wait_until_ready()


def request(count: int, fields: str = "") -> bytes:
    asked = {"inputs": [{"name": "shape", "datatype": "INT64", "shape": [1], "data": [count]}]}
    body = json.dumps(asked).encode()
    head = f"POST /v2/models/m/infer HTTP/1.1\r\nhost: m\r\n{fields}content-length: {len(body)}"
    return head.encode() + b"\r\n\r\n" + body


def connected(server: Server, authority: trustme.CA) -> ssl.SSLSocket:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    plain = socket.socket()
    plain.settimeout(20)
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
    plain.connect(("127.0.0.1", tls_port(server)))
    return context.wrap_socket(plain, server_hostname="127.0.0.1")


def test_a_kept_connection_over_tls_that_nobody_reads_holds_no_end_up(
    authority: trustme.CA, answering: Server
) -> None:
    with connected(answering, authority) as idle:
        idle.sendall(request(1))
        assert b" 200 OK" in idle.recv(1024)
        started = time.monotonic()
        answering.terminate()
        assert answering.wait_for_end().code == 0
        assert time.monotonic() - started < 15  # The client's farewell would be waited for for 30.


def test_an_answer_over_tls_that_ends_the_connection_comes_whole_however_late_it_is_read(
    authority: trustme.CA, answering: Server
) -> None:
    with connected(answering, authority) as late:
        late.sendall(request(2_000_000, "connection: close\r\n"))
        head, _, begin = late.recv(1024).partition(b"\r\n\r\n")
        length = int(re.search(rb"(?i)content-length: (\d+)", head)[1])  # type: ignore[index]
        time.sleep(3)
        came = len(begin)
        while piece := late.recv(65536):
            came += len(piece)
    assert came == length > 8_000_000
