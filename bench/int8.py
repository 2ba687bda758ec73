"""INT8 and FP16 variants of two models of usual size, by `slipway quantize` and `optimize`.

A sentence transformer (6 layers, 384 wide) and a residual CNN, both of bench/models.py. Weights are
random: size and latency do not depend on them, differences do and are given all the same. Writes
bench/results/int8.{json,md}.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from environment import environment, publish
from models import cnn, transformer

ROOT = Path(__file__).resolve().parents[1]
SLIPWAY = Path(sys.executable).parent / "slipway"


def images(count: int, size: int, seed: int) -> np.ndarray:
    """Smooth colours with some noise, more like photographs than white noise is."""
    random = np.random.default_rng(seed)
    coarse = random.normal(0, 1, (count, 3, 6, 6))
    large = np.kron(coarse, np.ones((1, 1, size // 6, size // 6)))
    return (large + random.normal(0, 0.1, large.shape)).astype(np.float32)


def sentences(count: int, length: int, words: int, seed: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    lengths = random.integers(length // 4, length + 1, count)
    mask = (np.arange(length) < lengths[:, None]).astype(np.int64)
    return {"ids": random.integers(0, words, (count, length)) * mask, "mask": mask}


def slipway(*arguments: object) -> Any:
    """Run the command; 12 means that it refused what it measured, which is a result too."""
    done = subprocess.run(
        [SLIPWAY, *map(str, arguments), "--json"], capture_output=True, text=True, check=False
    )
    if done.returncode not in (0, 12):
        raise SystemExit(done.stdout + done.stderr)
    return json.loads(done.stdout)


def measure(folder: Path, rounds: int) -> dict[str, Any]:
    words, size = 30522, 96
    onnx.save_model(transformer(words=words), str(folder / "transformer.onnx"))
    onnx.save_model(cnn(size=size), str(folder / "cnn.onnx"))
    np.savez(folder / "sentences.npz", **sentences(64, 32, words, 5))
    np.savez(folder / "seen.npz", **sentences(64, 32, words, 6))
    np.savez(folder / "images.npz", image=images(64, size, 7))
    np.savez(folder / "calibration.npz", image=images(64, size, 8))
    common = ("--rounds", rounds)
    text = (folder / "transformer.onnx", "--samples", folder / "sentences.npz", *common)
    image = (folder / "cnn.onnx", "--samples", folder / "images.npz", *common)
    static = ("--method", "int8-static", "--calibration", folder / "calibration.npz")
    return {
        "transformer": slipway(
            "quantize", *text, "--method", "int8-dynamic", "--method", "fp16",
            "--html", folder / "transformer.html",
        ),
        "transformer, optimized": slipway("optimize", *text),
        "cnn": slipway("quantize", *image, *static, "--method", "fp16",
                       "--html", folder / "cnn.html"),
        "cnn, optimized": slipway("optimize", *image),
    }  # fmt: skip


def table(results: dict[str, Any]) -> str:
    where, reports = results["environment"], results["reports"]
    processor = next(iter(reports.values()))["processor"]
    int8 = ", ".join(processor["int8"]) or "no INT8 dot products"
    head = ("model", "variant", "size", "load", "latency (quartiles)", "times as fast",
            "lowest cosine", "largest difference", "")  # fmt: skip
    lines = [
        "# INT8 and FP16 variants",
        "",
        f"{where['date']}, commit {where['commit']}: {processor['name']} ({int8}),",
        f"one thread of {where['cores']} cores, load {where['load_1m']} at the start. Weights are",
        "random: sizes and times are what such models have, differences are not. Batch 1; the",
        "transformer (6 layers, 384 wide) on 32 tokens, the CNN on 96 x 96 pixels. Medians of",
        "paired rounds; times as fast with their 95 % interval. `bench/int8.py` says how.",
        "",
        f"| {' | '.join(head)} |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, report in reports.items():
        for variant in ({"method": "original", **report["original"]}, *report["variants"]):
            latency, speed = variant["latency"], variant.get("speedUp")
            outputs = variant.get("outputs", [])
            low, high = latency["quartilesMs"]
            kept = (report["kept"] or {}).get("method") == variant["method"]
            judged = "refused" if variant.get("failures") else ("kept" if kept else "")
            cells = (
                name,
                variant["method"],
                f"{variant['size'] / 2**20:.1f} MiB",
                f"{variant['loadMs']:.0f} ms",
                f"{latency['medianMs']:.2f} ms ({low:.2f} to {high:.2f})",
                f"{speed['median']:.2f} ({speed['lower']:.2f} to {speed['upper']:.2f})"
                if speed
                else "",
                f"{min(o['lowestCosine'] for o in outputs):.5f}" if outputs else "",
                f"{max(o['maxAbsolute'] for o in outputs):.3g}" if outputs else "",
                judged,
            )
            lines.append(f"| {' | '.join(cells)} |")
    lines += ["", "Why variants were refused:", ""]
    lines += [
        f"- {name}, {variant['method']}: {failure}"
        for name, report in reports.items()
        for variant in report["variants"]
        for failure in variant["failures"]
    ]
    return "\n".join([*lines, ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--output", type=Path, default=ROOT / "bench" / "results")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        results = {
            "environment": environment(),
            "reports": measure(Path(folder), arguments.rounds),
        }
        for page in Path(folder).glob("*.html"):
            if os.environ.get("KEEP_PAGES"):
                page.rename(Path(os.environ["KEEP_PAGES"]) / page.name)
    publish(arguments.output, "int8", results, table(results))


if __name__ == "__main__":
    main()
