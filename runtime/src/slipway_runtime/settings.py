"""What the environment sets, checked once at the start.

Plain pydantic over ``os.environ``: pydantic-settings would add 0.2 s to every start.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
)

DEFAULT_CACHE_DIR = Path("/var/cache/slipway")
DEFAULT_TERMINATION_LOG = Path("/dev/termination-log")
MIN_CONNECTIONS = 8
MAX_WORKERS = 64
CPU_PROVIDER = "CPUExecutionProvider"
_BODIES = 4
_PREFIX = "SLIPWAY_"
# One letter or word that is wrong or missing; SLIPWAY_SERVICE_HOST of Kubernetes is less.
_ALIKE = 0.85
# Larger values are taken for typing errors.
_DAY = 86_400
_WEEK = 7 * _DAY
_INT64 = 2**63 - 1
_Seconds = Annotated[float, Field(ge=0, le=_DAY)]
_Wait = Annotated[float, Field(gt=0, le=_DAY)]
_Bytes = Annotated[int, Field(ge=0, le=_INT64)]
MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_PROVIDER = re.compile(r"[A-Za-z][A-Za-z0-9]*ExecutionProvider")


class SettingsError(ValueError):
    """A variable is malformed; the message names it and says what it may be."""


def _split(value: object) -> object:
    return [item.strip() for item in value.split(",")] if isinstance(value, str) else value


def _providers(value: object) -> object:
    names = _split(value)
    if isinstance(names, list):
        for name in names:  # pyright: ignore[reportUnknownVariableType]
            if not _PROVIDER.fullmatch(str(name)):  # pyright: ignore[reportUnknownArgumentType]
                raise ValueError(
                    f"{str(name)!r} is not the name of an execution provider"  # pyright: ignore[reportUnknownArgumentType]
                    " (such as CPUExecutionProvider)"
                )
    return names  # pyright: ignore[reportUnknownVariableType]


def _aliases(value: object) -> object:
    names = _split(value)
    if isinstance(names, list):
        for name in names:  # pyright: ignore[reportUnknownVariableType]
            if not MODEL_NAME.fullmatch(str(name)):  # pyright: ignore[reportUnknownArgumentType]
                raise ValueError(f"{str(name)!r} is not a model name (letters, digits, - _ .)")  # pyright: ignore[reportUnknownArgumentType]
    return names  # pyright: ignore[reportUnknownVariableType]


def _workers(value: object) -> object:
    if value == "auto" or isinstance(value, int):
        return value
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 4:  # noqa: PLR2004
        return int(value)
    raise ValueError(f"{str(value)!r} is neither a number of processes nor `auto`")


def _options(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError as error:
        raise ValueError(
            f'it must be JSON such as {{"CUDAExecutionProvider": {{"device_id": "0"}}}}: {error}'
        ) from None


def _entries(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError as error:
        raise ValueError(
            f'it must be JSON such as {{"session.intra_op.allow_spinning": "1"}}: {error}'
        ) from None


class Settings(BaseModel):
    """A model whose fields carry the variable they are read from as their alias."""

    model_config = ConfigDict(frozen=True, populate_by_name=True, extra="ignore")

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Self:
        """Read the settings; a variable that is set but empty counts as not set.

        Raises:
            SettingsError: a variable is malformed.
        """
        given: dict[str, Any] = {}
        for name, field in cls.model_fields.items():
            value = environment.get(field.alias or name, "").strip()
            if value:
                given[field.alias or name] = value
        try:
            return cls.model_validate(given)
        except ValidationError as error:
            problems = [
                f"{'.'.join(str(part) for part in problem['loc'][:1])}: {problem['msg']}"
                for problem in error.errors(include_url=False, include_input=False)
            ]
            raise SettingsError("; ".join(problems)) from None


class CommonSettings(Settings):
    """What both commands read."""

    cache_dir: Path = Field(DEFAULT_CACHE_DIR, alias="SLIPWAY_CACHE_DIR")
    termination_log: Path = Field(DEFAULT_TERMINATION_LOG, alias="SLIPWAY_TERMINATION_LOG")
    log_format: Literal["json", "text"] = Field("json", alias="SLIPWAY_LOG_FORMAT")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", alias="SLIPWAY_LOG_LEVEL"
    )


class FetchSettings(CommonSettings):
    """What `fetch` reads. Times are in seconds.

    Credentials are not among them: boto3 finds them by its own chain.
    """

    endpoint_url: str | None = Field(None, alias="AWS_ENDPOINT_URL")
    region: str | None = Field(None, alias="AWS_REGION")
    addressing_style: Literal["auto", "path", "virtual"] = Field(
        "auto", alias="SLIPWAY_S3_ADDRESSING_STYLE"
    )
    anonymous: bool = Field(False, alias="SLIPWAY_S3_ANONYMOUS")
    ca_bundle: Path | None = Field(None, alias="SLIPWAY_CA_BUNDLE")
    claim_dir: Path | None = Field(None, alias="SLIPWAY_CLAIM_DIR")
    attempts: Annotated[int, Field(ge=1, le=20)] = Field(5, alias="SLIPWAY_FETCH_ATTEMPTS")
    deadline: Annotated[float, Field(gt=0, le=_WEEK)] = Field(
        1800.0, alias="SLIPWAY_FETCH_DEADLINE_SECONDS"
    )
    connections: Annotated[int, Field(ge=1, le=64)] = Field(8, alias="SLIPWAY_FETCH_CONNECTIONS")
    connect_timeout: _Wait = Field(10.0, alias="SLIPWAY_FETCH_CONNECT_TIMEOUT_SECONDS")
    read_timeout: _Wait = Field(60.0, alias="SLIPWAY_FETCH_READ_TIMEOUT_SECONDS")


class ServeSettings(CommonSettings):
    """What `serve` reads. Times are in seconds, sizes in bytes; 0 threads = from the CPU quota."""

    host: str = Field("::", alias="SLIPWAY_HOST")
    port: Annotated[int, Field(ge=0, le=65535)] = Field(8080, alias="SLIPWAY_PORT")
    grpc_port: Annotated[int, Field(ge=0, le=65535)] | None = Field(None, alias="SLIPWAY_GRPC_PORT")
    providers: Annotated[list[str], BeforeValidator(_providers), Field(min_length=1)] = Field(
        [CPU_PROVIDER], alias="SLIPWAY_PROVIDERS"
    )
    preferred_providers: Annotated[list[str], BeforeValidator(_providers)] = Field(
        default_factory=list[str], alias="SLIPWAY_PREFERRED_PROVIDERS"
    )
    provider_options: Annotated[dict[str, dict[str, str]], BeforeValidator(_options)] = Field(
        default_factory=dict, alias="SLIPWAY_PROVIDER_OPTIONS"
    )
    engine_cache_dir: Path | None = Field(None, alias="SLIPWAY_ENGINE_CACHE_DIR")
    intra_op_threads: Annotated[int, Field(ge=0, le=1024)] = Field(
        0, alias="SLIPWAY_INTRA_OP_THREADS"
    )
    inter_op_threads: Annotated[int, Field(ge=0, le=1024)] = Field(
        1, alias="SLIPWAY_INTER_OP_THREADS"
    )
    workers: Annotated[
        Literal["auto"] | Annotated[int, Field(ge=1, le=MAX_WORKERS)], BeforeValidator(_workers)
    ] = Field(1, alias="SLIPWAY_WORKERS")
    graph_optimization: Literal["none", "basic", "extended", "layout", "all"] = Field(
        "all", alias="SLIPWAY_GRAPH_OPTIMIZATION"
    )
    session_options: Annotated[dict[str, str], BeforeValidator(_entries)] = Field(
        default_factory=dict, alias="SLIPWAY_SESSION_OPTIONS"
    )
    cpu_arena: bool = Field(True, alias="SLIPWAY_CPU_ARENA")
    cpu_arena_limit: _Bytes = Field(0, alias="SLIPWAY_CPU_ARENA_LIMIT_BYTES")
    custom_op_libraries: Annotated[list[Path], BeforeValidator(_split)] = Field(
        default_factory=list[Path], alias="SLIPWAY_CUSTOM_OP_LIBRARIES"
    )
    profiling: bool = Field(False, alias="SLIPWAY_PROFILING")
    drain_delay: _Seconds = Field(5.0, alias="SLIPWAY_DRAIN_DELAY_SECONDS")
    drain_timeout: _Seconds = Field(30.0, alias="SLIPWAY_DRAIN_TIMEOUT_SECONDS")
    tls_certificate: Path | None = Field(None, alias="SLIPWAY_TLS_CERTIFICATE")
    tls_key: Path | None = Field(None, alias="SLIPWAY_TLS_KEY")
    tls_port: Annotated[int, Field(ge=0, le=65535)] = Field(8443, alias="SLIPWAY_TLS_PORT")
    token_file: Path | None = Field(None, alias="SLIPWAY_TOKEN_FILE")
    keep_alive: Annotated[int, Field(ge=1, le=_DAY)] = Field(75, alias="SLIPWAY_KEEP_ALIVE_SECONDS")
    header_timeout: _Seconds = Field(10.0, alias="SLIPWAY_HEADER_TIMEOUT_SECONDS")
    body_timeout: _Seconds = Field(60.0, alias="SLIPWAY_BODY_TIMEOUT_SECONDS")
    max_connections: Annotated[int, Field(ge=MIN_CONNECTIONS, le=1_000_000)] = Field(
        4096, alias="SLIPWAY_MAX_CONNECTIONS"
    )
    max_body_bytes: Annotated[int, Field(ge=1, le=_INT64)] = Field(
        64 * 1024 * 1024, alias="SLIPWAY_MAX_BODY_BYTES"
    )
    max_bodies_bytes: _Bytes = Field(0, alias="SLIPWAY_MAX_BODIES_BYTES")
    max_queue: Annotated[int, Field(ge=1, le=1_000_000)] = Field(256, alias="SLIPWAY_MAX_QUEUE")
    executor_threads: Annotated[int, Field(ge=1, le=64)] = Field(
        1, alias="SLIPWAY_EXECUTOR_THREADS"
    )
    max_batch_size: Annotated[int, Field(ge=0, le=65536)] = Field(0, alias="SLIPWAY_MAX_BATCH_SIZE")
    max_batch_delay_ms: Annotated[float, Field(ge=0, le=60_000)] = Field(
        0.0, alias="SLIPWAY_MAX_BATCH_DELAY_MS"
    )
    request_timeout: _Seconds = Field(0.0, alias="SLIPWAY_REQUEST_TIMEOUT_SECONDS")
    inline_microseconds: Annotated[float, Field(ge=0, le=20_000)] = Field(
        500.0, alias="SLIPWAY_INLINE_MICROSECONDS"
    )
    busy_poll_microseconds: Annotated[float, Field(ge=0, le=1000)] = Field(
        200.0, alias="SLIPWAY_BUSY_POLL_MICROSECONDS"
    )
    non_finite: Literal["refuse", "null", "string"] = Field("refuse", alias="SLIPWAY_NON_FINITE")
    aliases: Annotated[list[str], BeforeValidator(_aliases)] = Field(
        default_factory=list, alias="SLIPWAY_MODEL_ALIASES"
    )
    golden: str | None = Field(None, alias="SLIPWAY_GOLDEN")
    access_log: bool = Field(False, alias="SLIPWAY_ACCESS_LOG")
    otlp_endpoint: str | None = Field(None, alias="OTEL_EXPORTER_OTLP_ENDPOINT")
    otlp_traces_endpoint: str | None = Field(None, alias="OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")

    @property
    def intake_bytes(self) -> int:
        """What the bodies of all requests together may take: at least one body."""
        return max(self.max_bodies_bytes or _BODIES * self.max_body_bytes, self.max_body_bytes)

    @property
    def ports(self) -> int:
        """How many ports there are: HTTP in the clear, over TLS, gRPC."""
        return 1 + (self.tls_certificate is not None) + (self.grpc_port is not None)

    @property
    def tracing(self) -> bool:
        """Whether traces have somewhere to go."""
        return self.otlp_endpoint is not None or self.otlp_traces_endpoint is not None

    @field_validator("preferred_providers")
    @classmethod
    def _beside_the_required(cls, value: list[str], given: ValidationInfo) -> list[str]:
        required = [name for name in value if name in given.data.get("providers", ())]
        if required:
            raise ValueError(
                f"{', '.join(required)} is among SLIPWAY_PROVIDERS too: a provider is either"
                " required or preferred"
            )
        if CPU_PROVIDER in value:
            raise ValueError(
                f"{CPU_PROVIDER} takes every node, so none would be left to those behind it: name"
                " it last in SLIPWAY_PROVIDERS"
            )
        return value

    @field_validator("provider_options")
    @classmethod
    def _of_providers_in_use(
        cls, value: dict[str, dict[str, str]], given: ValidationInfo
    ) -> dict[str, dict[str, str]]:
        # A malformed one is missing here, and already reported.
        if not {"providers", "preferred_providers"} <= given.data.keys():
            return value
        used = [*given.data["providers"], *given.data["preferred_providers"]]
        unused = sorted(value.keys() - set(used))
        if unused:
            raise ValueError(
                f"{', '.join(unused)} is not among SLIPWAY_PROVIDERS and"
                " SLIPWAY_PREFERRED_PROVIDERS"
            )
        return value


def misspelled(environment: Mapping[str, str]) -> dict[str, str]:
    """Return variables that nothing reads, under the setting of either command that is meant.

    What looks like none is left aside: Kubernetes and other programs set such variables, too.
    """
    fields = (FetchSettings.model_fields | ServeSettings.model_fields).values()
    known = {str(field.alias) for field in fields}
    found: dict[str, str] = {}
    for name in environment:
        if name.startswith(_PREFIX) and name not in known:
            import difflib  # noqa: PLC0415 - seldom needed

            for meant in difflib.get_close_matches(name, known, n=1, cutoff=_ALIKE):
                found[meant] = name
    return found
