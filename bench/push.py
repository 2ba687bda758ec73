"""`slipway push` beside a plain upload with boto3, and what the command costs by itself.

Each round uploads the same new file with both, as whole processes, to an S3 server on this
machine; every other round in reverse. Files and objects lie in memory (/dev/shm) where there is
such a place: the writing of a disk would be most of what is measured, and its noise all of it.
Also the time of `slipway --help`, and what the command installs without torch. Writes
bench/results/push.{json,md}.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from environment import environment, publish

from slipway_dev.s3 import S3Server

ROOT = Path(__file__).resolve().parents[1]
SLIPWAY = Path(sys.executable).parent / "slipway"
_MEMORY = Path("/dev/shm")
PLAIN = """
import sys, boto3, boto3.s3.transfer
boto3.client("s3").upload_file(sys.argv[1], "models", sys.argv[2])
"""


def seconds(command: list[Any], variables: dict[str, str]) -> float:
    begun = time.perf_counter()
    subprocess.run([str(part) for part in command], env=variables, check=True, capture_output=True)
    return time.perf_counter() - begun


def new_content(path: Path, mebibytes: int) -> None:
    with path.open("wb") as file:
        for _ in range(mebibytes):
            file.write(os.urandom(1 << 20))


def upload(server: S3Server, folder: Path, mebibytes: int, rounds: int) -> dict[str, Any]:
    variables = dict(os.environ) | {
        "AWS_ENDPOINT_URL": server.endpoint,
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": server.root.access,
        "AWS_SECRET_ACCESS_KEY": server.root.secret,
        "AWS_EC2_METADATA_DISABLED": "true",
        "NO_PROXY": "*",
    }
    weights, model = folder / "weights.bin", folder / "model.onnx"
    client = server.root_client()
    taken: dict[str, list[float]] = {"plain": [], "file": [], "package": []}
    for number in range(rounds + 1):
        new_content(weights, mebibytes)
        _model(model, weights)
        package = folder / f"package-{number}"
        subprocess.run(
            [SLIPWAY, "pack", model, "--out", package, "--no-golden"],
            check=True, capture_output=True,
        )  # fmt: skip
        bare = folder / f"bare-{number}.onnx"
        _bare(bare, mebibytes)
        commands = {
            "plain": [sys.executable, "-c", PLAIN, weights, f"plain-{number}"],
            "file": [SLIPWAY, "push", bare, "--to", "s3://models/file"],
            "package": [SLIPWAY, "push", package, "--to", "s3://models/package"],
        }
        names = list(commands) if number % 2 else list(commands)[::-1]
        found = {name: seconds(commands[name], variables) for name in names}
        told = ", ".join(f"{name} {value:.2f} s" for name, value in found.items())
        print(f"{mebibytes} MiB, round {number}: {told}", flush=True)
        if number:  # The first round warms the caches.
            for name, value in found.items():
                taken[name].append(value)
        bare.unlink()
        subprocess.run(["rm", "-r", package], check=True)
        for item in client.list_objects_v2(Bucket="models").get("Contents", []):
            client.delete_object(Bucket="models", Key=item["Key"])
    shares = {
        name: sorted(a / b for a, b in zip(taken["plain"], taken[name], strict=True))
        for name in ("file", "package")
    }
    return {
        "mebibytes": mebibytes,
        "rounds": rounds,
        "seconds": taken,
        "share": {
            name: {"median": statistics.median(v), "min": v[0], "max": v[-1]}
            for name, v in shares.items()
        },
    }


def _model(path: Path, weights: Path) -> None:
    import onnx  # noqa: PLC0415 - not for those who ask for --help alone
    from onnx import TensorProto, helper  # noqa: PLC0415

    count = weights.stat().st_size // 4
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[1, count])
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", weights.name), ("offset", "0"), ("length", str(count * 4))):
        tensor.external_data.append(onnx.StringStringEntryProto(key=key, value=value))
    onnx.save_model(_graph(helper, TensorProto, tensor, count), str(path))


def _bare(path: Path, mebibytes: int) -> None:
    import numpy as np  # noqa: PLC0415
    import onnx  # noqa: PLC0415
    from onnx import TensorProto, helper, numpy_helper  # noqa: PLC0415

    count = (mebibytes << 20) // 4
    raw = np.frombuffer(os.urandom(count * 4), np.float32).reshape(1, count)
    tensor = numpy_helper.from_array(raw, "w")
    onnx.save_model(_graph(helper, TensorProto, tensor, count), str(path))


def _graph(helper: Any, types: Any, tensor: Any, count: int) -> Any:
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "w"], ["y"])], "weights",
        [info("x", types.FLOAT, ["batch", count])], [info("y", types.FLOAT, ["batch", count])],
        [tensor],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])
    model.ir_version = 10
    return model


def help_seconds(rounds: int) -> dict[str, Any]:
    times = sorted(seconds([SLIPWAY, "--help"], dict(os.environ)) for _ in range(rounds))
    quarters = statistics.quantiles(times, n=4)
    return {
        "rounds": rounds, "median": statistics.median(times),
        "quartiles": [quarters[0], quarters[2]], "min": times[0], "max": times[-1],
    }  # fmt: skip


def install_mebibytes(folder: Path) -> dict[str, float]:
    """What `pip install slipway` takes, with and without what it needs, in a new environment."""
    uv = os.environ.get("UV") or shutil.which("uv") or ROOT / ".tools" / "uv" / "bin" / "uv"
    place = folder / "install"
    variables = dict(os.environ) | {"UV_PROJECT_ENVIRONMENT": str(place), "UV_LINK_MODE": "copy"}
    subprocess.run(
        [uv, "sync", "--frozen", "--quiet", "--no-dev", "--no-editable", "--package", "slipway"],
        cwd=ROOT, env=variables, check=True,
    )  # fmt: skip
    packages = next(place.glob("lib/python*/site-packages"))
    sizes = {
        entry.name: sum(file.stat().st_size for file in entry.rglob("*") if file.is_file())
        for entry in packages.iterdir()
        if entry.is_dir() and not entry.name.endswith(".dist-info")
    }
    largest = sorted(sizes.items(), key=lambda item: -item[1])[:6]
    return {"all": round(sum(sizes.values()) / 2**20, 1)} | {
        name: round(size / 2**20, 1) for name, size in largest
    }


def table(results: dict[str, Any]) -> str:
    where, quick, disk = results["environment"], results["help"], results["install"]
    low, high = quick["quartiles"]
    kept = "in memory" if results["in_memory"] else "on its disk"
    largest = ", ".join(f"{name} {size:g}" for name, size in disk.items() if name != "all")
    head = ("MiB", "rounds", "plain upload", "push of a file", "push of a package",
            "share: file", "share: package")  # fmt: skip
    lines = [
        "# Pushing, and what the command costs",
        "",
        f"{where['date']}, commit {where['commit']}: {where['cores']} cores for client and server,",
        f"load {where['load_1m']} at the start. Whole processes, in interleaved rounds, to an S3",
        f"server on this machine, files and objects {kept}. `bench/push.py` says how.",
        "",
        f"| {' | '.join(head)} |",
        "|---|---|---|---|---|---|---|",
    ]
    for run in results["uploads"]:
        times = [f"{statistics.median(run['seconds'][n]):.2f} s" for n in run["seconds"]]
        shares = [
            f"{share['median']:.2f} ({share['min']:.2f} to {share['max']:.2f})"
            for share in run["share"].values()
        ]
        cells = [str(run["mebibytes"]), str(run["rounds"]), *times, *shares]
        lines.append(f"| {' | '.join(cells)} |")
    lines += [
        "",
        "The share is the time of a plain upload (boto3's upload_file) over that of the push, in",
        "the same round: median, lowest and highest. The push has hashed every byte before",
        "anything is visible.",
        "",
        f"`slipway --help`, {quick['rounds']} times: {quick['median']:.3f} s in the median,",
        f"quartiles {low:.3f} and {high:.3f}, all {quick['min']:.3f} to {quick['max']:.3f}.",
        "",
        f"Installed without extras: {disk['all']:g} MiB; of these {largest}.",
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 512], help="MiB")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--help-rounds", type=int, default=31)
    parser.add_argument("--output", type=Path, default=ROOT / "bench" / "results")
    arguments = parser.parse_args()
    results: dict[str, Any] = {
        "environment": environment(),
        "help": help_seconds(arguments.help_rounds),
    }
    if _MEMORY.is_dir():
        os.environ["SLIPWAY_STATE"] = str(_MEMORY / "slipway-bench-push")
    results["in_memory"] = _MEMORY.is_dir()
    place = _MEMORY if _MEMORY.is_dir() else None
    with tempfile.TemporaryDirectory(dir=place) as folder, S3Server("bench-push") as server:
        server.root_client().create_bucket(Bucket="models")
        results["install"] = install_mebibytes(Path(folder))
        results["uploads"] = [
            upload(server, Path(folder), size, arguments.rounds) for size in arguments.sizes
        ]
    publish(arguments.output, "push", results, table(results))


if __name__ == "__main__":
    main()
