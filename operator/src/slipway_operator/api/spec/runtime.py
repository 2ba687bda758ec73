"""``spec.runtime``: how the model is run."""

from enum import StrEnum
from typing import Annotated

from pydantic import ConfigDict, Field

from slipway_operator.api.schema import Schema, cel, validated
from slipway_operator.api.spec.values import (
    CPU_PROVIDER,
    Bytes,
    LibraryPath,
    ModelAlias,
    Provider,
    ProviderOptions,
    Quantity,
    Workers,
)


class Threads(Schema):
    """Threads of the ONNX Runtime session. Absent: from the container's CPU limit."""

    intra_op: int | None = Field(
        default=None, ge=1, le=1024, description="Threads in one operator."
    )
    inter_op: int | None = Field(default=None, ge=1, le=1024, description="Operators side by side.")
    executor: int | None = Field(
        default=None, ge=1, le=64, description="Runs of the model side by side. Absent: one."
    )


class Batching(Schema):
    """Requests that share one run of the model."""

    max_batch_size: int | None = Field(
        default=None,
        ge=1,
        le=65536,
        description="Rows that may share a run; 1 switches batches off. Absent: up to 32, for "
        "models that gain by it.",
    )
    max_delay_ms: int | None = Field(
        default=None,
        ge=0,
        le=60_000,
        description="How long a request may wait for others, in milliseconds. Absent: not at all.",
    )


class NonFinite(StrEnum):
    """How NaN and infinities, which JSON has not got, are written into JSON answers."""

    REFUSE = "refuse"
    NULL = "null"
    STRING = "string"


class GraphOptimization(StrEnum):
    """How far ONNX Runtime rewrites the graph when it loads it."""

    NONE = "none"
    BASIC = "basic"
    EXTENDED = "extended"
    LAYOUT = "layout"
    ALL = "all"


class LogLevel(StrEnum):
    """The lowest severity that is logged."""

    DEBUG = "DEBUG"
    INFO = "INFO"
    WARNING = "WARNING"
    ERROR = "ERROR"


class Connections(Schema):
    """What clients may ask of the serving port, and of that of gRPC."""

    max: int | None = Field(
        default=None,
        ge=8,
        le=1_000_000,
        description="Connections to one port; with more, those that wait for their client make "
        "room. Absent: 4096.",
    )
    keep_alive_seconds: int | None = Field(
        default=None,
        ge=1,
        le=86_400,
        description="How long an idle connection is kept: longer than the load balancer before it "
        "keeps its own. Absent: 75.",
    )
    header_timeout_seconds: int | None = Field(
        default=None,
        ge=0,
        le=3600,
        description="How long a TLS handshake may take, and a request's head; 0: no limit. "
        "Absent: 10.",
    )
    body_timeout_seconds: int | None = Field(
        default=None,
        ge=0,
        le=86_400,
        description="How long a request's body may take to arrive, and how long a client may take "
        "in nothing of its answer; 0: no limit. Absent: 60.",
    )


class Resources(Schema):
    """Requests and limits of the serve container; they replace the pool's, key by key."""

    requests: dict[str, Quantity] | None = Field(
        default=None, max_length=32, description="Requested quantities."
    )
    limits: dict[str, Quantity] | None = Field(default=None, max_length=32, description="Limits.")


class EnvVar(Schema):
    """One environment variable of the serve container; name and value, no reference."""

    name: str = Field(
        pattern="^[A-Za-z_][A-Za-z0-9_]*$", max_length=256, description="Name of the variable."
    )
    value: str = Field(default="", description="Value of the variable.")


class Tls(Schema):
    """Encrypted connections: requests are then taken on port 443 of the Service alone, while probes
    and metrics stay in the clear.
    """

    secret_name: str = Field(
        min_length=1,
        max_length=253,
        description="Secret with keys tls.crt and tls.key, as of type kubernetes.io/tls.",
    )


class BearerTokens(Schema):
    """Tokens of which every request must bring one."""

    secret_name: str = Field(min_length=1, max_length=253, description="Secret with the tokens.")
    key: str | None = Field(
        default=None,
        min_length=1,
        max_length=253,
        description="Key that holds them, one a line: two while one is replaced. Absent: tokens.",
    )


class Runtime(Schema):
    """How the model is run. What is absent comes from the pool."""

    model_config = ConfigDict(
        json_schema_extra=validated(
            cel(
                "!has(self.providers) || !has(self.preferredProviders) || "
                "!self.preferredProviders.exists(p, p in self.providers)",
                "a provider is either required or preferred: remove it from providers or from "
                "preferredProviders",
            )
        )
    )

    image: str | None = Field(
        default=None, min_length=1, description="Serving image. Default: the pool's."
    )
    providers: list[Provider] | None = Field(
        default=None,
        min_length=1,
        max_length=8,
        description="Execution providers, all required, in order. Default: the pool's.",
    )
    preferred_providers: list[Provider] | None = Field(
        default=None,
        max_length=8,
        description="Execution providers that are used where they can be had, in order, before "
        "the required ones. One that cannot is passed over: the log of the pod says why, its "
        "/health and its metrics tell it. Default: the pool's; an empty list: none.",
        json_schema_extra=validated(
            cel(
                f"!self.exists(p, p == '{CPU_PROVIDER}')",
                f"{CPU_PROVIDER} takes every node, so none would be left to those behind it: name "
                "it last in providers",
            )
        ),
    )
    resources: Resources | None = Field(default=None, description="Requests and limits.")
    provider_options: ProviderOptions | None = Field(
        default=None,
        max_length=8,
        description="Options of execution providers, such as {CUDAExecutionProvider: "
        "{gpu_mem_limit: '4294967296'}}; merged over the pool's, key by key. ONNX Runtime "
        "documents their names.",
    )
    threads: Threads | None = Field(default=None, description="Session threads.")
    workers: Workers | None = Field(
        default=None,
        description="Processes that serve one pod's requests, each with the model in memory; "
        "together they have no more threads than the CPU limit. auto: as many as CPUs where the "
        "model is small and requests cost more than its run, else one. Absent: one.",
    )
    batching: Batching | None = Field(
        default=None, description="Requests that share one run of the model."
    )
    graph_optimization: GraphOptimization | None = Field(
        default=None,
        description="How far ONNX Runtime rewrites the graph when it loads it. Absent: all.",
    )
    session_options: dict[str, Annotated[str, Field(max_length=1024)]] | None = Field(
        default=None,
        max_length=64,
        description="Configuration entries of the session, such as "
        "{session.intra_op.allow_spinning: '1'}. ONNX Runtime documents their names.",
    )
    custom_op_libraries: list[LibraryPath] | None = Field(
        default=None,
        max_length=16,
        description="Libraries with operators of your own, by their paths in the image; they run "
        "as part of the server.",
    )
    cpu_arena: bool | None = Field(
        default=None,
        description="Whether ONNX Runtime keeps memory that it has used; false is slower and "
        "smaller. Absent: true.",
    )
    queue_size: int | None = Field(
        default=None,
        ge=1,
        le=1_000_000,
        description="Requests that may wait; one more is answered with 429. Absent: 256.",
    )
    request_timeout_ms: int | None = Field(
        default=None,
        ge=0,
        le=86_400_000,
        description="Milliseconds that a request may take before it is answered with 504. "
        "0 or absent: no limit.",
    )
    max_request_size: Bytes | None = Field(
        default=None, description="Largest body of a request, in bytes. Absent: 64Mi."
    )
    non_finite: NonFinite | None = Field(
        default=None,
        description="How NaN and infinities are written into JSON answers. Absent: refused.",
    )
    aliases: list[ModelAlias] | None = Field(
        default=None,
        max_length=16,
        description="Further names under which the model answers, besides that of this object.",
    )
    grpc: bool | None = Field(
        default=None,
        description="Serve the Open Inference Protocol over gRPC too, on port 9000 of the Service.",
    )
    access_log: bool | None = Field(
        default=None, description="Write one log line for each request."
    )
    log_level: LogLevel | None = Field(
        default=None,
        description="The least that a line of the log must be about, that of fetch too. Absent: "
        "INFO.",
    )
    connections: Connections | None = Field(
        default=None, description="How many connections there may be, and their time limits."
    )
    busy_poll_microseconds: int | None = Field(
        default=None,
        ge=0,
        le=1000,
        description="How long the server stays awake after an answer, where the next request has "
        "mostly followed as soon; 0 saves that processor time. Absent: 200.",
    )
    profiling: bool | None = Field(
        default=None,
        description="Answer POST /debug/profile with a profile of the model's runs. For it the "
        "model is in memory twice.",
    )
    tls: Tls | None = Field(
        default=None,
        description="Take requests over TLS alone. A renewed certificate is read while serving.",
    )
    bearer_tokens: BearerTokens | None = Field(
        default=None,
        description="Answer only requests with a token. Another one is read while serving.",
    )
    shared_memory: Bytes | None = Field(
        default=None,
        description="Size of /dev/shm, which counts towards the memory limit. Default: the "
        "pool's, else what the container runtime gives.",
    )
    cache_size: Bytes | None = Field(
        default=None,
        description="Size limit of the volume that holds the artifact. Engines that TensorRT or "
        "OpenVINO compiles get as much again.",
    )
    startup_timeout_seconds: int | None = Field(
        default=None,
        ge=10,
        le=86400,
        description="How long loading and warming may take before the container is restarted. "
        "Default: the pool's. A rollout also needs a progressDeadlineSeconds that is as long.",
    )
    env: list[EnvVar] | None = Field(
        default=None,
        max_length=100,
        description="Environment of the serve container, such as OTEL_EXPORTER_OTLP_ENDPOINT, "
        "where traces go. Names with SLIPWAY_ are refused.",
        json_schema_extra={
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["name"],
            **validated(
                cel(
                    "self.all(e, !e.name.startsWith('SLIPWAY_'))",
                    "names beginning with SLIPWAY_ are set by the operator: use the fields "
                    "threads, workers, batching, graphOptimization, sessionOptions, "
                    "customOpLibraries, cpuArena, queueSize, requestTimeoutMs, maxRequestSize, "
                    "nonFinite, aliases, grpc, accessLog, logLevel, connections, "
                    "busyPollMicroseconds, profiling, tls, bearerTokens, providers, "
                    "preferredProviders and providerOptions of spec.runtime, and spec.golden",
                )
            ),
        },
    )
