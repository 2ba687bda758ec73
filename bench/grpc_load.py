"""A load of gRPC calls, in a process of its own: so many connections with one call under way each.

    python grpc_load.py ADDRESS REQUEST CONNECTIONS SECONDS

REQUEST is a file with a serialized ModelInferRequest. Prints a line of JSON: calls, seconds,
p50 and p99 in microseconds. Ends with 1 if any call fails.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import grpc

METHOD = "/inference.GRPCInferenceService/ModelInfer"


async def one(channel: Any, request: bytes, end: float, times: list[float]) -> None:
    call = channel.unary_unary(METHOD)  # bytes in, bytes out: nothing is encoded here
    began = time.perf_counter()
    while began < end:
        await call(request)
        now = time.perf_counter()
        times.append(now - began)
        began = now


async def main(address: str, request: bytes, connections: int, seconds: float) -> None:
    separate = [("grpc.use_local_subchannel_pool", 1)]
    channels = [grpc.aio.insecure_channel(address, separate) for _ in range(connections)]
    for channel in channels:
        await channel.unary_unary(METHOD)(request)
    times: list[float] = []
    began = time.perf_counter()
    await asyncio.gather(*(one(channel, request, began + seconds, times) for channel in channels))
    spent = time.perf_counter() - began
    centiles = statistics.quantiles(times, n=100)
    told = {"calls": len(times), "seconds": spent, "p50": centiles[49] * 1e6}
    print(json.dumps(told | {"p99": centiles[98] * 1e6}))
    for channel in channels:
        await channel.close()


if __name__ == "__main__":
    asyncio.run(
        main(sys.argv[1], Path(sys.argv[2]).read_bytes(), int(sys.argv[3]), float(sys.argv[4]))
    )
