"""What the Open Inference Protocol tells about the server and its model, in JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import orjson

from slipway_runtime.errors import NotSupported
from slipway_runtime.metrics import Metrics

if TYPE_CHECKING:  # They bring NumPy, and the server tells of itself before that is there.
    from slipway_runtime.inference.model import Model
    from slipway_runtime.inference.tensors import TensorSpec

PLATFORM: Final = "onnxruntime_onnx"
BACKEND: Final = "onnxruntime"
EXTENSIONS: Final = ("binary_tensor_data", "model_configuration", "model_repository", "statistics")

_LEFT_OUT: Final = (
    ("/v2/systemsharedmemory", "shared memory: clients and server share no machine here"),
    ("/v2/cudasharedmemory", "shared memory: clients and server share no machine here"),
    ("/v2/repository/models/", "loading and unloading: the model is pinned by its digest"),
    ("/v2/trace/", "trace settings"),
    ("/v2/logging", "log settings: they are variables of the environment"),
)
_TRACE_SUFFIX: Final = "/trace/setting"


def left_out(path: str) -> NotSupported | None:
    """Return the error for a route of the protocol that this server leaves out, else None."""
    for prefix, what in _LEFT_OUT:
        if path.startswith(prefix):
            return NotSupported(f"this server does not offer {what}")
    if path.startswith("/v2/models/") and path.endswith(_TRACE_SUFFIX):
        return NotSupported("this server does not offer trace settings")
    return None


def metadata(model: Model) -> dict[str, object]:
    """Return the answer of GET /v2/models/{model}."""
    return {
        "name": model.identity.name,
        "versions": [model.identity.version],
        "platform": PLATFORM,
        "inputs": [_tensor_metadata(spec) for spec in model.signature.inputs],
        "outputs": [_tensor_metadata(spec) for spec in model.signature.outputs],
    }


def config(model: Model, max_batch_size: int) -> dict[str, object]:
    """Return the answer of GET /v2/models/{model}/config, in the form of Triton's configuration.

    With a ``max_batch_size`` above 0 the shapes leave the batch dimension out, as Triton's do.
    """
    document: dict[str, object] = {
        "name": model.identity.name,
        "platform": PLATFORM,
        "backend": BACKEND,
        "max_batch_size": max_batch_size,
        "input": [_tensor_config(spec, max_batch_size) for spec in model.signature.inputs],
        "output": [_tensor_config(spec, max_batch_size) for spec in model.signature.outputs],
        "default_model_filename": "model.onnx",
        "parameters": {name: {"string_value": text} for name, text in _told(model).items()},
    }
    if max_batch_size > 0:
        document["dynamic_batching"] = {"preferred_batch_size": [max_batch_size]}
    return document


def _told(model: Model) -> dict[str, str]:
    told = {"digest": str(model.identity.digest)}
    if model.columns:
        told["columns"] = orjson.dumps(model.columns).decode()
    return told


def statistics(model: Model, metrics: Metrics) -> dict[str, object]:
    """Return the answer of GET /v2/models/{model}/stats: counts, and sums in nanoseconds."""
    done = metrics.request_success
    return {
        "model_stats": [
            {
                "name": model.identity.name,
                "version": model.identity.version,
                "last_inference": metrics.last_inference_ms,
                "inference_count": metrics.inference_count,
                "execution_count": metrics.exec_count,
                "inference_stats": {
                    "success": duration(done, metrics.request_us),
                    "fail": duration(metrics.request_failure, metrics.failure_us),
                    "queue": duration(done, metrics.queue_us),
                    "compute_input": duration(done, metrics.input_us),
                    "compute_infer": duration(done, metrics.infer_us),
                    "compute_output": duration(done, metrics.output_us),
                    "cache_hit": duration(0, 0),
                    "cache_miss": duration(0, 0),
                },
                "batch_stats": [
                    {
                        "batch_size": size,
                        "compute_input": duration(batch.count, batch.input_us),
                        "compute_infer": duration(batch.count, batch.infer_us),
                        "compute_output": duration(batch.count, batch.output_us),
                    }
                    for size, batch in sorted(metrics.batches.items())
                ],
            }
        ]
    }


def index(model: Model, *, unready: str | None, only_ready: bool = False) -> list[dict[str, str]]:
    """Return the answer of POST /v2/repository/index.

    ``unready`` is why no requests should come, None where they should; with ``only_ready`` a model
    that should get none is left out.
    """
    if unready is not None and only_ready:
        return []
    return [
        {
            "name": model.identity.name,
            "version": model.identity.version,
            "state": "READY" if unready is None else "UNAVAILABLE",
            "reason": unready or "",
        }
    ]


def duration(count: int, microseconds: float) -> dict[str, int]:
    """Return a count and a sum of times, as the statistics have them."""
    return {"count": count, "ns": int(microseconds * 1000)}


def data_type(spec: TensorSpec) -> str:
    """Return the datatype's name in Triton's configuration."""
    return "TYPE_STRING" if spec.datatype.kind == "O" else f"TYPE_{spec.datatype.name}"


def dims(spec: TensorSpec, max_batch_size: int) -> list[int]:
    """Return the shape in Triton's configuration."""
    return spec.wire_shape[1:] if max_batch_size > 0 else spec.wire_shape


def _tensor_metadata(spec: TensorSpec) -> dict[str, object]:
    return {"name": spec.name, "datatype": spec.datatype.name, "shape": spec.wire_shape}


def _tensor_config(spec: TensorSpec, max_batch_size: int) -> dict[str, object]:
    return {"name": spec.name, "data_type": data_type(spec), "dims": dims(spec, max_batch_size)}
