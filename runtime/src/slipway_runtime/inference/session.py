"""The ONNX Runtime session; the only module that touches onnxruntime (which has no types)."""

from __future__ import annotations

import ctypes
import functools
import os
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias, cast

import numpy as np

from slipway_runtime.errors import (
    BadRequest,
    Failure,
    InferenceFailed,
    InvalidArguments,
    InvalidModel,
    OutOfMemory,
    ProviderUnavailable,
    RequestError,
    UnsupportedOpset,
)
from slipway_runtime.inference.tensors import BF16, DATATYPES, Array, Datatype, TensorSpec
from slipway_runtime.settings import CPU_PROVIDER

# The official Linux wheels send telemetry unless this is set before the import.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import onnxruntime

_ort = cast("Any", onnxruntime)

VERSION: str = _ort.__version__

_DATATYPES: Mapping[str, Datatype] = {
    f"tensor({onnx_name})": DATATYPES[name]
    for onnx_name, name in (
        ("bool", "BOOL"),
        ("int8", "INT8"),
        ("int16", "INT16"),
        ("int32", "INT32"),
        ("int64", "INT64"),
        ("uint8", "UINT8"),
        ("uint16", "UINT16"),
        ("uint32", "UINT32"),
        ("uint64", "UINT64"),
        ("float16", "FP16"),
        ("bfloat16", BF16),
        ("float", "FP32"),
        ("double", "FP64"),
        ("string", "BYTES"),
    )
}

_MAPS = ("seq(map(int64,tensor(float)))", "seq(map(string,tensor(float)))")
GraphOptimization: TypeAlias = Literal["none", "basic", "extended", "layout", "all"]
_GRAPH_OPTIMIZATIONS: Mapping[GraphOptimization, str] = {
    "none": "DISABLE_ALL",
    "basic": "ENABLE_BASIC",
    "extended": "ENABLE_EXTENDED",
    "layout": "ENABLE_LAYOUT",
    "all": "ENABLE_ALL",
}
_ONNX_BFLOAT16 = 16
_CUDA_PROVIDERS = ("CUDA", "Tensorrt", "NvTensorRTRTX")
_PROVIDER_SUFFIX = "ExecutionProvider"
_LOG_ERRORS_ONLY = 3
_LOG_FATAL_ONLY = 4
_OPERATOR_SIGNS = ("is not a registered function/op",)
_LOCALE_SIGNS = ("Failed to construct locale",)
_OPSET_SIGNS = (
    "official released onnx opset versions",
    "Unsupported model IR version",
    "Unknown model file format version",
)
_MEMORY_SIGNS = (
    *("Failed to allocate memory", "bad_alloc", "BFCArena", "out of memory"),
    "smaller than requested bytes",
)
_DEVICE_SIGNS = ("CUDA", "CUDNN", "CUBLAS", "TensorRT", "OpenVINO")
_OPTION_SIGNS = (
    *("Unknown provider option", "Failed to parse provider option"),
    "Invalid OpenVINO EP option",
)
_MESSAGE_CHARACTERS = 600
_LOADED_FROM = re.compile(r"Load model from \S+ failed: ?")


@dataclass(frozen=True)
class Tuning:
    """Session options that keep ONNX Runtime's defaults unless they are set.

    ``entries`` are ONNX Runtime's session configuration entries by name. ``cpu_arena_limit`` is in
    bytes, 0 being none. ``custom_op_libraries`` run code of their own in this process. A session
    with ``profile_prefix`` writes what it ran to a file whose path begins so.
    """

    graph_optimization: GraphOptimization = "all"
    entries: Mapping[str, str] = field(default_factory=dict[str, str])
    cpu_arena: bool = True
    cpu_arena_limit: int = 0
    custom_op_libraries: Sequence[Path] = ()
    profile_prefix: Path | None = None


class NodeArg(Protocol):
    """An input or output as ONNX Runtime describes it."""

    name: str
    type: str
    shape: list[int | str | None]


class OrtSession(Protocol):
    """What is used of onnxruntime.InferenceSession."""

    def run(
        self, output_names: Sequence[str] | None, feeds: Mapping[str, Any], run_options: Any = None
    ) -> list[object]:
        """Run the graph on arrays or OrtValues; the outputs are arrays."""
        ...

    def run_with_ort_values(
        self, output_names: Sequence[str], feeds: Mapping[str, Any], run_options: Any = None
    ) -> list[Any]:
        """Run the graph on OrtValues; the outputs are OrtValues."""
        ...

    def get_inputs(self) -> list[NodeArg]:
        """Return the inputs that must be fed."""
        ...

    def get_outputs(self) -> list[NodeArg]:
        """Return the outputs."""
        ...

    def get_modelmeta(self) -> Any:
        """Return what the model says about itself."""
        ...

    def get_providers(self) -> list[str]:
        """Return the providers that the session really has."""
        ...

    def end_profiling(self) -> str:
        """Write the profile; returns its path."""
        ...


_AS_IT_IS = Tuning()


def available_providers() -> list[str]:
    """Return the execution providers that this build of ONNX Runtime knows."""
    return cast("list[str]", _ort.get_available_providers())


def open_session(
    path: Path,
    required: Sequence[str],
    *,
    preferred: Sequence[str] = (),
    intra_op_threads: int,
    inter_op_threads: int,
    provider_options: Mapping[str, Mapping[str, str]] | None = None,
    tuning: Tuning = _AS_IT_IS,
) -> OrtSession:
    """Load a model by its path and make sure that it runs where it was asked to.

    ONNX Runtime falls back to the CPU silently when a provider cannot start; for a required one
    that is an error here. Nodes that a provider has no kernel for may run on the CPU all the same.
    Those ``preferred``, which must be available, come before the required ones. The session may
    lack them: its ``get_providers`` tells.

    Raises:
        ProviderUnavailable: a required provider is not in this build, or not in the session, or
            one of either kind cannot start.
        UnsupportedOpset: the opset or IR version is newer than this ONNX Runtime.
        InvalidModel: not ONNX, or refused for another reason.
        InvalidArguments: a provider does not know one of its options, or a library of custom
            operators cannot be loaded.
        OutOfMemory: the model could not be allocated.
    """
    chosen = provider_options or {}
    _require(required, available_providers(), "this image offers")
    providers = [*preferred, *required]
    if any(name.startswith(_CUDA_PROVIDERS) for name in providers):
        # The CUDA libraries lie in packages beside onnxruntime, where the loader does not look.
        _ort.preload_dlls(directory="")
    options = _ort.SessionOptions()
    options.intra_op_num_threads = intra_op_threads
    options.inter_op_num_threads = inter_op_threads
    # Spinning threads would eat the quota that other threads of this pod need.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    options.log_severity_level = _LOG_ERRORS_ONLY
    _tune(options, tuning)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            session = cast(
                "OrtSession",
                _ort.InferenceSession(
                    str(path),
                    sess_options=options,
                    providers=providers,
                    provider_options=[dict(chosen.get(name, {})) for name in providers],
                    enable_fallback=0,
                ),
            )
    except Exception as error:
        raise load_failure(error, providers) from error
    _require(required, session.get_providers(), "the session has")
    return session


def _tune(options: Any, tuning: Tuning) -> None:
    """Apply what was asked for to the options of a session."""
    level = f"ORT_{_GRAPH_OPTIMIZATIONS[tuning.graph_optimization]}"
    options.graph_optimization_level = getattr(_ort.GraphOptimizationLevel, level)
    options.enable_cpu_mem_arena = tuning.cpu_arena
    if tuning.cpu_arena and tuning.cpu_arena_limit:
        _limit_cpu_arena(tuning.cpu_arena_limit)
        options.add_session_config_entry("session.use_env_allocators", "1")
    for name, value in tuning.entries.items():
        options.add_session_config_entry(name, value)
    for library in tuning.custom_op_libraries:
        try:
            options.register_custom_ops_library(str(library))
        except Exception as error:
            raise InvalidArguments(
                "SLIPWAY_CUSTOM_OP_LIBRARIES (spec.runtime.customOpLibraries) names"
                f" {library}, which cannot be used: {_without_paths(error)}"
            ) from error
    if tuning.profile_prefix is not None:
        options.enable_profiling = True
        options.profile_file_prefix = str(tuning.profile_prefix)


@functools.cache
def _limit_cpu_arena(limit: int) -> None:
    """Give the process one arena of at most so many bytes, which sessions may share."""
    memory = _ort.OrtMemoryInfo(
        "Cpu", _ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, _ort.OrtMemType.DEFAULT
    )
    as_requested = 1  # grows by what is needed, and not to the next power of two
    arena = _ort.OrtArenaCfg({"max_mem": limit, "arena_extend_strategy": as_requested})
    _ort.create_and_register_allocator(memory, arena)


def plain_run(session: OrtSession) -> Callable[..., list[object]]:
    """Return ``run(output_names, feeds, run_options)`` of a session for feeds that are arrays.

    The session's own `run` looks at names and types once more, which takes longer than a small
    model; the protocols have done so. Its inner session is no public name, so it may be absent.
    """
    inner = getattr(session, "_sess", None)
    return cast("Callable[..., list[object]]", (inner or session).run)


def run_options() -> Any:
    """Return options of runs; what fails is told by exceptions, and not by ONNX Runtime's log.

    It would write a line of its own form for each request whose values the model cannot take.
    """
    options = _ort.RunOptions()
    options.log_severity_level = _LOG_FATAL_ONLY
    return options


def bfloat16_value(bits: Array) -> Any:
    """Return the OrtValue of a bfloat16 tensor over uint16 bits, which must outlive it."""
    return _ort.OrtValue.ortvalue_from_numpy_with_onnx_type(
        np.asarray(bits, order="C"), _ONNX_BFLOAT16
    )


def value(array: Array) -> Any:
    """Return the OrtValue of an array that holds no strings; the array must outlive it."""
    return _ort.OrtValue.ortvalue_from_numpy(np.asarray(array, order="C"))


def array_of(value: Any) -> Array:
    """Return an output's array; of bfloat16 the bits, copied, since NumPy cannot view them."""
    if value.element_type() != _ONNX_BFLOAT16:
        return value.numpy()
    shape: list[int] = value.shape()
    size = int(np.prod(shape)) * np.dtype(np.uint16).itemsize
    data = ctypes.string_at(value.data_ptr(), size) if size else b""
    return np.frombuffer(data, dtype=np.uint16).reshape(shape)


def load_failure(error: Exception, providers: Sequence[str]) -> Failure:
    """Return the failure that an exception of the loader means."""
    text = _without_paths(error)
    if isinstance(error, MemoryError) or _has(text, _MEMORY_SIGNS):
        return OutOfMemory(f"the model does not fit into memory: {text}; raise the memory limit")
    if _has(text, _OPTION_SIGNS):
        return InvalidArguments(
            f"SLIPWAY_PROVIDER_OPTIONS (spec.runtime.providerOptions) cannot be used: {text}"
        )
    if _has(text, _OPSET_SIGNS):
        return UnsupportedOpset(
            f"ONNX Runtime {VERSION} does not know the opset or IR version of the model: {text};"
            " export it for an older opset, or use a newer runtime image"
        )
    accelerated = [name for name in providers if name != CPU_PROVIDER]
    if accelerated and _has(text, _DEVICE_SIGNS):
        named = (name for name in accelerated if _has(text, (name.removesuffix(_PROVIDER_SUFFIX),)))
        provider = next(named, accelerated[0])
        return ProviderUnavailable(f"{provider} cannot start: {text}", provider=provider)
    remedy = ""
    if _has(text, _OPERATOR_SIGNS):
        remedy = (
            "; SLIPWAY_CUSTOM_OP_LIBRARIES (spec.runtime.customOpLibraries) names libraries with"
            " operators of your own"
        )
    elif _has(text, _LOCALE_SIGNS):
        remedy = (
            "; this locale of its text operators is not installed here: export it with the locale"
            " C.UTF-8, as `slipway export` does"
        )
    return InvalidModel(f"ONNX Runtime {VERSION} refuses the model: {text}{remedy}")


def run_failure(error: Exception) -> RequestError:
    """Return the request error that an exception of a run means.

    A node that fails on the CPU of a model that is warm has been given values that it cannot
    take (an index out of range, shapes that do not broadcast): that is the request's fault.
    """
    text = _without_paths(error)
    if isinstance(error, MemoryError) or _has(text, _MEMORY_SIGNS):
        return InferenceFailed("there is not enough memory for this request; send smaller batches")
    refused = "INVALID_ARGUMENT" in text or "running" in text
    if refused and not _has(text, _DEVICE_SIGNS):
        return BadRequest(f"the model cannot run on these inputs: {text}")
    return InferenceFailed(f"ONNX Runtime failed: {text}")


def describe(error: Exception) -> str:
    """Return what ONNX Runtime said, on one line, bounded, without paths of its build."""
    return _without_paths(error)


def is_out_of_memory(text: str) -> bool:
    """Return whether ONNX Runtime speaks of a failed allocation."""
    return _has(text, _MEMORY_SIGNS)


def input_spec(arg: NodeArg) -> TensorSpec:
    """Return an input's specification.

    Raises:
        InvalidModel: it is no tensor, or of a datatype that cannot be served.
    """
    spec = tensor_spec(arg)
    if spec is None or spec.is_map:
        raise InvalidModel(
            f"input {arg.name!r} is {arg.type}, and this runtime serves tensors of the datatypes"
            f" {', '.join(DATATYPES)} only: export the model with such inputs"
        )
    return spec


def tensor_spec(arg: NodeArg) -> TensorSpec | None:
    """Return the specification of a tensor of a datatype that can be served, else None.

    A map per row is described as a matrix, whose labels follow from a first run.
    """
    if arg.type in _MAPS:
        return TensorSpec(arg.name, DATATYPES["FP32"], (None, None), labels=(), is_map=True)
    datatype = _DATATYPES.get(arg.type)
    if datatype is None:
        return None
    shape = tuple(size if isinstance(size, int) and size >= 0 else None for size in arg.shape)
    return TensorSpec(arg.name, datatype, shape or None)


def _require(providers: Sequence[str], present: Sequence[str], who: str) -> None:
    for name in providers:
        if name not in present:
            raise ProviderUnavailable(
                f"the execution provider {name} is required, but {who} only"
                f" {', '.join(present)}: use an image and a node that have it, or another pool",
                provider=name,
            )


def _has(text: str, signs: Sequence[str]) -> bool:
    return any(sign.casefold() in text.casefold() for sign in signs)


def _without_paths(error: Exception) -> str:
    """Keep the sentences and drop C++ source locations and the path of the cached file."""
    text = " ".join(str(error).split()) or type(error).__name__
    text = _LOADED_FROM.sub("", text)
    head, separator, rest = text.partition("/onnxruntime_src/")
    if separator:
        # "…/file.cc:123 return type ns::function(arguments) the sentence"
        sentence = rest.rpartition(") ")[2] if ") " in rest else rest
        for mark in ("ONNX Runtime only", "Unsupported model"):
            start = rest.find(mark)
            if start >= 0:
                sentence = rest[start:]
        text = f"{head.rstrip()} {sentence}"
    return text[:_MESSAGE_CHARACTERS]
