"""The environment of a model's containers: what the spec and the pool say, as variables.

The variables are those of docs/pod-contract.md. One that says no more than the runtime's default is
left out, so that a field which nobody uses changes no pod.
"""

import json

from slipway_operator.api.model_deployment import Json
from slipway_operator.api.quantity import quantity
from slipway_operator.api.settings import Pool, Proxy
from slipway_operator.api.spec import (
    Batching,
    Connections,
    Golden,
    LogLevel,
    Model,
    Runtime,
    Storage,
    Threads,
)
from slipway_operator.build.cache import CACHE_DIR, ENGINES_DIR, keeps_engines
from slipway_operator.build.claim import CLAIM_DIR, claim_volume
from slipway_operator.build.literal import literal
from slipway_operator.build.resolve import RejectedSpecError, ResolvedServing

CA_DIR = "/etc/slipway/ca"
TLS_DIR = "/etc/slipway/tls"
TOKENS_DIR = "/etc/slipway/tokens"
TOKENS_FILE = "tokens"
HTTP_PORT = 8080
HTTPS_PORT = 8443
GRPC_PORT = 9000
# A variable may have 128 KiB on Linux, and each revision keeps its own.
_MOST_GOLDEN_BYTES = 64 * 1024


def fetch_environment(model: Model, proxy: Proxy, log_level: LogLevel | None) -> list[Json]:
    """Where the storage is, references to its credentials, and what to log."""
    storage = model.storage or Storage()
    values: dict[str, str | None] = {
        "SLIPWAY_CACHE_DIR": CACHE_DIR,
        "AWS_ENDPOINT_URL": storage.endpoint,
        "AWS_REGION": storage.region,
        "SLIPWAY_S3_ADDRESSING_STYLE": storage.addressing_style,
        "SLIPWAY_S3_ANONYMOUS": "true" if storage.anonymous else None,
        "SLIPWAY_CA_BUNDLE": f"{CA_DIR}/ca.crt" if storage.ca_bundle else None,
        "SLIPWAY_LOG_LEVEL": log_level,
        "SLIPWAY_CLAIM_DIR": CLAIM_DIR if claim_volume(model.uri) is not None else None,
        "HTTPS_PROXY": proxy.https_proxy,
        "HTTP_PROXY": proxy.http_proxy,
        "NO_PROXY": proxy.no_proxy,
    }
    env: list[Json] = [
        {"name": key, "value": literal(str(value))}
        for key, value in values.items()
        if value is not None
    ]
    for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        if storage.secret_name:
            reference: Json = {"name": storage.secret_name, "key": key}
            if key == "AWS_SESSION_TOKEN":
                reference["optional"] = True
            env.append({"name": key, "valueFrom": {"secretKeyRef": reference}})
    return env


def serve_environment(
    runtime: Runtime, golden: Golden | None, serving: ResolvedServing, pool: Pool
) -> list[Json]:
    """The user's variables, and ours, which nobody can replace.

    Raises:
        RejectedSpecError: the golden samples are too large for a variable.
    """
    env: dict[str, str] = {
        "SLIPWAY_CACHE_DIR": CACHE_DIR,
        "SLIPWAY_PORT": str(HTTP_PORT),
        "SLIPWAY_PROVIDERS": ",".join(serving.providers),
        "SLIPWAY_DRAIN_DELAY_SECONDS": str(pool.drain_delay_seconds),
        "SLIPWAY_DRAIN_TIMEOUT_SECONDS": str(pool.drain_timeout_seconds),
        **{key: str(value) for key, value in _optional(runtime).items() if value is not None},
    }
    if serving.preferred_providers:
        env["SLIPWAY_PREFERRED_PROVIDERS"] = ",".join(serving.preferred_providers)
    if keeps_engines(serving):
        env["SLIPWAY_ENGINE_CACHE_DIR"] = ENGINES_DIR
    if serving.provider_options:
        env["SLIPWAY_PROVIDER_OPTIONS"] = json.dumps(serving.provider_options, sort_keys=True)
    if golden is not None:
        env["SLIPWAY_GOLDEN"] = _golden(golden)
    own = {variable.name: variable.value for variable in runtime.env or []}
    ours = {key: literal(value) for key, value in env.items()}
    return [{"name": key, "value": value} for key, value in {**own, **ours}.items()]


def _optional(runtime: Runtime) -> dict[str, int | str | None]:
    """Variables of fields that may be absent."""
    threads, batching = runtime.threads or Threads(), runtime.batching or Batching()
    connections = runtime.connections or Connections()
    timeout, size = runtime.request_timeout_ms, runtime.max_request_size
    return {
        "SLIPWAY_INTRA_OP_THREADS": threads.intra_op,
        "SLIPWAY_INTER_OP_THREADS": threads.inter_op,
        "SLIPWAY_EXECUTOR_THREADS": threads.executor,
        "SLIPWAY_WORKERS": runtime.workers,
        "SLIPWAY_MAX_BATCH_SIZE": batching.max_batch_size,
        "SLIPWAY_MAX_BATCH_DELAY_MS": batching.max_delay_ms,
        "SLIPWAY_GRAPH_OPTIMIZATION": runtime.graph_optimization,
        "SLIPWAY_SESSION_OPTIONS": _json(runtime.session_options),
        "SLIPWAY_CUSTOM_OP_LIBRARIES": ",".join(runtime.custom_op_libraries or ()) or None,
        "SLIPWAY_CPU_ARENA": "false" if runtime.cpu_arena is False else None,
        "SLIPWAY_MAX_QUEUE": runtime.queue_size,
        "SLIPWAY_REQUEST_TIMEOUT_SECONDS": None if timeout is None else f"{timeout / 1000:g}",
        "SLIPWAY_MAX_BODY_BYTES": None if size is None else int(quantity(size)),
        "SLIPWAY_NON_FINITE": runtime.non_finite,
        "SLIPWAY_MODEL_ALIASES": ",".join(runtime.aliases or ()) or None,
        "SLIPWAY_GRPC_PORT": GRPC_PORT if runtime.grpc else None,
        "SLIPWAY_ACCESS_LOG": "true" if runtime.access_log else None,
        "SLIPWAY_LOG_LEVEL": runtime.log_level,
        "SLIPWAY_MAX_CONNECTIONS": connections.max,
        "SLIPWAY_KEEP_ALIVE_SECONDS": connections.keep_alive_seconds,
        "SLIPWAY_HEADER_TIMEOUT_SECONDS": connections.header_timeout_seconds,
        "SLIPWAY_BODY_TIMEOUT_SECONDS": connections.body_timeout_seconds,
        "SLIPWAY_BUSY_POLL_MICROSECONDS": runtime.busy_poll_microseconds,
        "SLIPWAY_PROFILING": "true" if runtime.profiling else None,
        "SLIPWAY_TLS_CERTIFICATE": f"{TLS_DIR}/tls.crt" if runtime.tls else None,
        "SLIPWAY_TLS_KEY": f"{TLS_DIR}/tls.key" if runtime.tls else None,
        "SLIPWAY_TOKEN_FILE": f"{TOKENS_DIR}/{TOKENS_FILE}" if runtime.bearer_tokens else None,
    }


def _golden(golden: Golden) -> str:
    text = golden.model_dump_json(by_alias=True, exclude_none=True)
    size = len(literal(text).encode())
    if size > _MOST_GOLDEN_BYTES:
        raise RejectedSpecError(
            "InvalidGolden",
            f"spec.golden has {size} bytes as JSON, at most {_MOST_GOLDEN_BYTES} may "
            "be: give fewer or smaller samples, or put them into a package (slipway pack)",
        )
    return text


def _json(value: dict[str, str] | None) -> str | None:
    return json.dumps(value, sort_keys=True) if value else None
