"""Engines that a provider compiles from a model, kept from one start to the next.

TensorRT takes minutes for an engine, OpenVINO seconds for a blob. Either holds for one model, one
version of the libraries and of the driver, and one kind of device; a wrong one fails, or worse. So
what is kept lies below a key made of all of these, and is compared with its digests before use:

    <root>/sha256/<key>/engines.json     the key in words, and the files with size and SHA-256
    <root>/sha256/<key>/…                what the provider wrote

It is put there in one step, once the model is warm. What does not verify is removed and compiled
anew. The root must be writable to `serve`, so it is not the cache of artifacts.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import json
import logging
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from slipway_runtime.artifact.cache import Cache
from slipway_runtime.artifact.digest import Digest, digest_of_file
from slipway_runtime.errors import InvalidArguments

_RECORD: Final = "engines.json"
_CAPABILITY_MAJOR, _CAPABILITY_MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_*
_TENSORRT = "TensorrtExecutionProvider"
_OPENVINO = "OpenVINOExecutionProvider"

Options = Mapping[str, Mapping[str, str]]

logger = logging.getLogger(__name__)


class UnknownMachineError(Exception):
    """What an engine depends on cannot be found out here, so none is kept."""


@dataclass(frozen=True)
class Machine:
    """What a compiled engine depends on beside the model; versions as their makers write them."""

    libraries: Mapping[str, str]
    driver: str
    device: str


@dataclass(frozen=True)
class EngineKey:
    """All that an engine depends on; ``options`` are those of its provider."""

    model: str
    provider: str
    machine: Machine
    options: Mapping[str, str]

    @property
    def digest(self) -> Digest:
        """The name that engines with this key are kept under."""
        text = json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))
        return Digest(hashlib.sha256(text.encode()).hexdigest())


@dataclass
class Engines:
    """The engines of one load: ``options`` for the session, ``found`` where they were kept.

    ``provider`` is whose they are, None where none are kept.
    """

    options: Options
    provider: str | None = None
    found: bool = False
    keep: Callable[[], None] = lambda: None


@contextlib.contextmanager
def engines(
    root: Path | None,
    model: Digest,
    providers: Sequence[str],
    options: Options,
    find_machine: Callable[[str], Machine] | None = None,
) -> Generator[Engines]:
    """Give the session of a model the engines that are kept for it, or a folder for new ones.

    `Engines.keep` is called once the model is warm; what was compiled until then is kept. Without
    a root, or a provider that compiles, or where the machine is unknown, nothing is kept.
    """
    provider = next((name for name in providers if name in COMPILERS), None)
    if root is None or provider is None:
        yield Engines(options)
        return
    try:
        machine = (find_machine or machine_of)(provider)
    except UnknownMachineError as error:
        logger.warning("no engines are kept: %s", error)
        yield Engines(options)
        return
    key = EngineKey(str(model), provider, machine, options.get(provider, {}))
    cache = Cache(root)
    try:
        cache.prepare()
    except InvalidArguments as error:
        logger.warning(
            "no engines are kept: %s (SLIPWAY_ENGINE_CACHE_DIR) cannot be written: %s",
            root,
            error.__cause__,
        )
        yield Engines(options)
        return
    entry = cache.entry(key.digest)
    if _verified(entry, key):
        logger.info("engines of %s are kept from an earlier start: %s", provider, entry)
        yield Engines(_with_folder(options, provider, entry), provider, found=True)
        return
    if entry.exists():
        logger.warning("engines that do not match are compiled again: %s", entry)
        cache.discard(key.digest)
    with cache.temporary() as folder:

        def keep() -> None:
            if not any(path.is_file() for path in folder.rglob("*")):
                return
            try:
                _record(folder, key)
                cache.commit(folder, key.digest)
            except OSError as error:
                logger.warning("no engines are kept: %s: %s", root, error.strerror)
            else:
                logger.info("engines of %s are kept for the next start: %s", provider, entry)

        logger.info("%s compiles its engines, which may take minutes", provider)
        yield Engines(_with_folder(options, provider, folder), provider, keep=keep)


def _with_folder(options: Options, provider: str, folder: Path) -> Options:
    return {**options, provider: {**options.get(provider, {}), **COMPILERS[provider](str(folder))}}


def _tensorrt_options(folder: str) -> dict[str, str]:
    return {
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": folder,
        "trt_timing_cache_enable": "1",
        "trt_timing_cache_path": folder,
    }


def _openvino_options(folder: str) -> dict[str, str]:
    return {"cache_dir": folder}


COMPILERS: Final[Mapping[str, Callable[[str], dict[str, str]]]] = {
    _TENSORRT: _tensorrt_options,
    _OPENVINO: _openvino_options,
}
"""The providers that compile engines, and the options by which each keeps them in a folder."""


def _files(folder: Path) -> list[dict[str, Any]]:
    return [
        {
            "path": str(path.relative_to(folder)),
            "size": path.stat().st_size,
            "sha256": digest_of_file(path).hex,
        }
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != _RECORD
    ]


def _record(folder: Path, key: EngineKey) -> None:
    told = {"key": asdict(key), "files": _files(folder)}
    (folder / _RECORD).write_text(json.dumps(told, indent=2) + "\n")


def _verified(entry: Path, key: EngineKey) -> bool:
    """Return whether an entry holds what its record says, no less and no more, for this key."""
    try:
        told: Any = json.loads((entry / _RECORD).read_bytes())
        return told == {"key": asdict(key), "files": _files(entry)}
    except (OSError, ValueError):
        return False


# ---- the machine ----


def machine_of(provider: str) -> Machine:
    """Find out what engines of a provider depend on here.

    Raises:
        UnknownMachineError: part of it cannot be determined.
    """
    # Imported here, since the import takes a quarter of a second.
    from slipway_runtime.inference.session import VERSION  # noqa: PLC0415

    if provider == _TENSORRT:
        return _nvidia(VERSION)
    # The wheel brings its own OpenVINO, so its version is that of both.
    return Machine({"onnxruntime": VERSION}, driver="", device=_processor())


def _processor(path: Path = Path("/proc/cpuinfo")) -> str:
    """Return the processor's name and what it can do, as a digest of its flags."""
    told: dict[str, str] = {}
    with contextlib.suppress(OSError):
        for line in path.read_text().partition("\n\n")[0].splitlines():
            name, _, value = line.partition(":")
            told[name.strip()] = value.strip()
    if "model name" not in told or "flags" not in told:
        raise UnknownMachineError(f"{path} names no processor")
    return f"{told['model name']} {hashlib.sha256(told['flags'].encode()).hexdigest()[:12]}"


def _nvidia(onnxruntime: str) -> Machine:
    """Ask the driver's and TensorRT's own libraries, since nvidia-smi need not be there."""
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
        nvinfer = ctypes.CDLL("libnvinfer.so.10")
        version = Path("/proc/driver/nvidia/version").read_text().splitlines()[0]
    except (OSError, IndexError) as error:
        raise UnknownMachineError(f"driver or TensorRT cannot be asked: {error}") from error
    device, name = ctypes.c_int(), ctypes.create_string_buffer(256)
    major, minor = ctypes.c_int(), ctypes.c_int()
    results = (
        cuda.cuInit(0),
        cuda.cuDeviceGet(ctypes.byref(device), 0),
        cuda.cuDeviceGetName(name, len(name), device),
        cuda.cuDeviceGetAttribute(ctypes.byref(major), _CAPABILITY_MAJOR, device),
        cuda.cuDeviceGetAttribute(ctypes.byref(minor), _CAPABILITY_MINOR, device),
    )
    if any(results):
        raise UnknownMachineError(f"the driver answers with errors: {results}")
    libraries = {"onnxruntime": onnxruntime, "tensorrt": str(nvinfer.getInferLibVersion())}
    architecture = f"{name.value.decode()} sm_{major.value}{minor.value}"
    return Machine(libraries, driver=version, device=architecture)
