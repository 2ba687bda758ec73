"""Each kind of source, from the framework to an answer over HTTP: how far apart the numbers are.

Every model is exported, validated, packed, pushed to an S3 server, verified there, fetched from
there by the runtime, and asked over HTTP for rows that no step has seen; the answers are compared
with the framework's own. The runtime is the pod's program on this machine, not a cluster. Writes
bench/results/sources.{json,md}.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
from environment import environment, publish

from slipway_dev.s3 import S3Server

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "packaging"))
from torch_environment import program  # noqa: E402 - the tests' own environment

HERE = Path(sys.executable).parent
EXAMPLES = ROOT / "examples"
TORCH = ("--input", "features=FP32[batch,4]", "--output", "probabilities")
ROWS = 64

# What each framework computes itself, in a process of its own environment: rows in, answers out.
_TORCH = """
import sys, numpy as np, torch
sys.path.insert(0, sys.argv[3] + '/pytorch'); from fraud import model
x = np.load(sys.argv[1])
np.save(sys.argv[2], model.eval()(torch.from_numpy(x)).detach().numpy())
"""
_SKLEARN = """
import sys, numpy as np
sys.path.insert(0, sys.argv[3] + '/scikit-learn'); from iris import pipeline
np.save(sys.argv[2], pipeline.predict_proba(np.load(sys.argv[1])))
"""
_PYFUNC = """
import sys, numpy as np, pandas as pd, mlflow.pyfunc
frame = pd.DataFrame(np.load(sys.argv[1]), columns=['age', 'income', 'term', 'amount'])
np.save(sys.argv[2], mlflow.pyfunc.load_model(sys.argv[3]).predict(frame.astype('float64')))
"""
_PLAIN = """
import sys, numpy as np
np.save(sys.argv[2], 2 * np.load(sys.argv[1]) + 1)
"""


def rows(low: tuple[float, ...], high: tuple[float, ...]) -> np.ndarray:
    return np.random.default_rng(99).uniform(low, high, (ROWS, len(low))).astype(np.float32)


PEOPLE = rows((18, 1e4, 1, 1e3), (80, 9e4, 72, 5e4))


def kinds(folder: Path) -> list[dict[str, Any]]:
    """Source, how it is exported, what computes the truth, and which output is compared."""
    run([program("python"), EXAMPLES / "pytorch/torchscript.py", folder / "fraud.pt"],
        cwd=EXAMPLES / "pytorch")  # fmt: skip
    run([HERE / "python", EXAMPLES / "plain-onnx/make.py", folder / "plain.onnx"])
    run([program("python"), EXAMPLES / "mlflow/log_models.py", folder / "mlflow"])
    weights = "import torch, fraud; torch.save(fraud.model.state_dict(), r'%s')"
    run([program("python"), "-c", weights % (folder / "w.pt")], cwd=EXAMPLES / "pytorch")
    ranges = ("age=18:80", "income=10000:90000", "term=1:72", "amount=1000:50000")
    custom = ("--trust-pickle", "--env", "current",
              *(word for text in ranges for word in ("--range", text)))  # fmt: skip
    torch = {"truth": _TORCH, "about": EXAMPLES, "rows": PEOPLE, "output": "probabilities"}
    return [
        {"kind": "PyTorch module", "cwd": "pytorch", "export": ["fraud:model", *TORCH], **torch},
        {"kind": "PyTorch class and state_dict", "cwd": "pytorch",
         "export": ["fraud:Fraud", "--state-dict", folder / "w.pt", *TORCH], **torch},
        {"kind": "TorchScript", "cwd": "pytorch",
         "export": [folder / "fraud.pt", *TORCH], **torch},
        {"kind": "scikit-learn pipeline", "cwd": "scikit-learn", "export": ["iris:pipeline"],
         "truth": _SKLEARN, "about": EXAMPLES, "output": "probabilities",
         "rows": rows((4, 2, 1, 0.1), (8, 4.5, 7, 2.5))},
        {"kind": "MLflow: PythonModel around ONNX", "cwd": ".",
         "export": [folder / "mlflow/custom", *custom], "truth": _PYFUNC, "columns": True,
         "about": folder / "mlflow/custom", "rows": PEOPLE, "output": "probabilities"},
        {"kind": "plain .onnx", "cwd": ".", "file": folder / "plain.onnx", "truth": _PLAIN,
         "about": "", "rows": rows((-1e3,), (1e3,)), "output": "y"},
    ]  # fmt: skip


def run(command: list[Any], **more: Any) -> str:
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, check=False, **more
    )
    if done.returncode:
        raise SystemExit(f"{command}\n{done.stdout}{done.stderr}")
    return done.stdout


def slipway(*arguments: Any, **more: Any) -> Any:
    return json.loads(run([HERE / "slipway", *arguments, "--json"], **more) or "null")


def one(kind: dict[str, Any], folder: Path, variables: dict[str, str]) -> dict[str, Any]:
    folder.mkdir()
    model = folder / "model.onnx"
    told: dict[str, Any] = {"kind": kind["kind"]}
    if "file" in kind:
        model.write_bytes(kind["file"].read_bytes())
    else:
        command = [program("slipway"), "export", *kind["export"], "--out", model, "--json"]
        exported = json.loads(run(command, cwd=EXAMPLES / kind["cwd"]))
        told["exporter"] = exported["exporter"]
        told["export_max_abs"] = max(
            item["maxAbsolute"] for item in exported["validation"]["worst"]
        )
    slipway("validate", model, *(("--range", "1:1000") if kind.get("columns") else ()))
    slipway("pack", model, "--name", "bench", "--out", folder / "package")
    where = {"env": variables}
    pushed = slipway("push", folder / "package", "--to", "s3://models/sources", **where)
    slipway("verify", pushed["uri"], **where)
    np.save(folder / "rows.npy", kind["rows"])
    python = HERE / "python" if kind["truth"] is _PLAIN else program("python")
    run([python, "-c", kind["truth"], folder / "rows.npy", folder / "truth.npy", kind["about"]])
    truth = np.load(folder / "truth.npy")
    answers = served(pushed, kind, folder, variables)
    truth = truth.reshape(answers.shape).astype(np.float64)
    apart = np.abs(answers.astype(np.float64) - truth)
    told["digest"] = pushed["digest"]
    told["served_max_abs"] = float(apart.max())
    told["served_max_rel"] = float(
        (apart / np.maximum(np.abs(truth.reshape(apart.shape)), 1e-5)).max()
    )
    return told


def served(
    pushed: dict[str, Any], kind: dict[str, Any], folder: Path, variables: dict[str, str]
) -> np.ndarray:
    """Fetch from S3 and serve, as a pod's two containers do, and ask for all rows."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = variables | {
        "SLIPWAY_CACHE_DIR": str(folder / "cache"),
        "SLIPWAY_TERMINATION_LOG": str(folder / "termination.json"),
        "SLIPWAY_HOST": "127.0.0.1", "SLIPWAY_PORT": str(port), "SLIPWAY_DRAIN_DELAY_SECONDS": "0",
        "SLIPWAY_LOG_LEVEL": "ERROR",
    }  # fmt: skip
    runtime, digest = HERE / "slipway-runtime", ("--digest", pushed["digest"])
    run([runtime, "fetch", "--uri", pushed["uri"], *digest], env=settings)
    names = ["age", "income", "term", "amount"]
    data = kind["rows"].tolist()
    if kind.get("columns"):
        path, body = "/invocations", {"dataframe_split": {"columns": names, "data": data}}
    else:
        path, body = "/predict", {"instances": data}
    command = [runtime, "serve", *digest, "--name", "bench"]
    with subprocess.Popen([str(part) for part in command], env=settings) as server:
        try:
            url = f"http://127.0.0.1:{port}"
            _wait(f"{url}/v2/health/ready", server)
            return _ask(url + path, body, kind["output"])
        finally:
            server.terminate()


def _wait(url: str, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 120
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                if answer.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            pass
        if server.poll() is not None or time.monotonic() > deadline:
            raise SystemExit(f"the server is not ready: {server.poll()}")
        time.sleep(0.1)


def _ask(url: str, body: dict[str, Any], output: str) -> np.ndarray:
    request = urllib.request.Request(
        url, json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            told = json.loads(answer.read())
    except urllib.error.HTTPError as error:
        raise SystemExit(f"{url}: {error.read().decode()}") from None
    found = told.get("predictions", told)
    return np.array(found[output] if isinstance(found, dict) else found)


def table(results: dict[str, Any]) -> str:
    where = results["environment"]
    lines = [
        "# From each source to an answer",
        "",
        f"{where['date']}, commit {where['commit']}, Python {where['python']}. Every model was",
        "exported, validated, packed, pushed to an S3 server, verified there, fetched from there",
        f"by the runtime and asked over HTTP for {ROWS} rows that no step had seen. The runtime",
        "ran as a process on this machine, as `slipway serve` has it, not in a cluster. The",
        "largest differences to what the framework computes itself; `bench/sources.py` says how.",
        "",
        "| source | exporter | export: max abs | answers: max abs | answers: max relative |",
        "|---|---|---|---|---|",
    ]
    for row in results["sources"]:
        export = row.get("export_max_abs")
        lines.append(
            f"| {row['kind']} | {row.get('exporter', '-')} |"
            f" {'-' if export is None else f'{export:.2g}'} | {row['served_max_abs']:.2g} |"
            f" {row['served_max_rel']:.2g} |"
        )
    return "\n".join([*lines, ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=ROOT / "bench" / "results")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, S3Server("bench-sources") as server:
        server.root_client().create_bucket(Bucket="models")
        variables = dict(os.environ) | {
            "AWS_ENDPOINT_URL": server.endpoint,
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": server.root.access,
            "AWS_SECRET_ACCESS_KEY": server.root.secret,
            "AWS_EC2_METADATA_DISABLED": "true",
            "NO_PROXY": "*",
        }
        found: list[dict[str, Any]] = []
        for index, kind in enumerate(kinds(Path(name))):
            found.append(one(kind, Path(name) / str(index), variables))
            print(found[-1], flush=True)
    results = {
        "environment": environment(),
        "sources": found,
    }
    publish(arguments.output, "sources", results, table(results))


if __name__ == "__main__":
    main()
