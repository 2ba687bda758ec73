"""Fetches and serves a model in a network of its own and counts what leaves it: run under
`unshare --net`.

The network has loopback alone, and a route for all addresses, so that whatever is tried is sent and
counted. Prints JSON: connections opened and datagrams sent, by whom.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc

from runtime_kit import onnx_models
from runtime_kit.faulty_http import Answer, FaultyServer
from runtime_kit.process import PROGRAM, Server, digest_of

ELSEWHERE = "192.0.2.1"  # for documentation: nobody has it


def counters() -> tuple[int, int]:
    """TCP connections opened and UDP datagrams sent in this network so far."""
    rows = [line.split() for line in Path("/proc/net/snmp").read_text().splitlines()]
    pairs = zip(rows[::2], rows[1::2], strict=True)
    snmp = {names[0]: dict(zip(names[1:], values[1:], strict=True)) for names, values in pairs}
    six = dict(line.split() for line in Path("/proc/net/snmp6").read_text().splitlines())
    return int(snmp["Tcp:"]["ActiveOpens"]), (
        int(snmp["Udp:"]["OutDatagrams"]) + int(six.get("Udp6OutDatagrams", 0))
    )


def since(before: tuple[int, int]) -> list[int]:
    return [now - then for now, then in zip(counters(), before, strict=True)]


def reach_out() -> None:
    with contextlib.suppress(OSError), socket.socket() as connection:
        connection.settimeout(0.2)
        connection.connect((ELSEWHERE, 443))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
        datagrams.sendto(b"x", (ELSEWHERE, 53))


def serve_and_ask(folder: Path) -> int:
    """Use the server in every way; returns how many connections its clients have opened."""
    opened = 0
    connect = Server.connect

    def counted(server: Server, timeout: float = 30):  # type: ignore[no-untyped-def]
        nonlocal opened
        opened += 1
        return connect(server, timeout)

    Server.connect = counted  # type: ignore[method-assign]
    extra = {"SLIPWAY_GRPC_PORT": "0", "SLIPWAY_WORKERS": "2"}
    with Server(folder, onnx_models.linear(), extra=extra) as server:
        server.start().wait_until_ready()
        for path in ("/", "/docs", "/openapi.json", "/metrics", "/health"):
            assert server.get(path).status == 200, path
        assert server.post("/predict", [1, 2, 3, 4]).status == 200
        with grpc.insecure_channel(server.grpc_address) as channel:
            opened += 1
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            assert stub.ServerLive(service_pb2.ServerLiveRequest()).live
        server.terminate()
        assert server.wait_for_end().code == 0
    return opened


def fetch_from_the_storage(folder: Path) -> int:
    """Fetch with credentials, without any, and anonymously; returns the storage's connections."""
    content = onnx_models.linear()
    keys = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}
    ways = {"keys": (keys, 0), "none": ({}, 31), "anonymous": ({"SLIPWAY_S3_ANONYMOUS": "1"}, 0)}
    with FaultyServer([Answer(body=content, headers={"ETag": '"1"'})]) as storage:
        for way, (variables, code) in ways.items():
            done = subprocess.run(
                [PROGRAM, "fetch", "--uri", "s3://models/m.onnx", "--digest", digest_of(content)],
                env=without_settings(
                    {
                        "SLIPWAY_CACHE_DIR": str(folder / way),
                        "SLIPWAY_TERMINATION_LOG": str(folder / "termination"),
                        "AWS_ENDPOINT_URL": storage.url,
                        "HOME": str(folder),
                        **variables,
                    }
                ),
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            assert done.returncode == code, (way, done.stdout + done.stderr)
        return storage.connections


def without_settings(extra: dict[str, str]) -> dict[str, str]:
    """The environment, without what others have set for the runtime."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("AWS_", "SLIPWAY_")) and not name.lower().endswith("_proxy")
    }
    return kept | extra


def main() -> None:
    for command in ("link set lo up", "route add default dev lo"):
        subprocess.run(["ip", *command.split()], check=True)
    before = counters()
    reach_out()
    control = since(before)
    before = counters()
    folder = Path(sys.argv[1])
    opened = serve_and_ask(folder)
    served = since(before)
    before = counters()
    storage = fetch_from_the_storage(folder)
    fetched = since(before)
    print(
        json.dumps(
            {
                "control": control,
                "clients": opened,
                "served": served,
                "storage": storage,
                "fetched": fetched,
            }
        )
    )


if __name__ == "__main__":
    os.environ.pop("OTEL_EXPORTER_OTLP_ENDPOINT", None)
    main()
