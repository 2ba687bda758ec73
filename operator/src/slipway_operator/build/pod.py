"""The pod template: ``fetch`` with the storage credentials, ``serve`` without them.

The flags, variables, paths and ports are those of docs/pod-contract.md.
"""

from slipway_operator.api import names
from slipway_operator.api.model_deployment import Json
from slipway_operator.api.quantity import quantity
from slipway_operator.api.settings import Pool
from slipway_operator.api.spec import ModelDeploymentSpec, Storage
from slipway_operator.build.cache import (
    cache_volume,
    fetch_mount,
    largest_artifact,
    serve_mounts,
)
from slipway_operator.build.claim import claim_mount, claim_volume
from slipway_operator.build.environment import (
    CA_DIR,
    GRPC_PORT,
    HTTP_PORT,
    HTTPS_PORT,
    TLS_DIR,
    TOKENS_DIR,
    TOKENS_FILE,
    fetch_environment,
    serve_environment,
)
from slipway_operator.build.labels import selector
from slipway_operator.build.literal import literal
from slipway_operator.build.resolve import ResolvedServing, resolve_serving

HTTPS_NAME = "https"
"""Name of the port for requests over TLS, in the pod and in the Service."""
SHARED_MEMORY_DIR = "/dev/shm"  # noqa: S108 - a path in the container

_CONTAINER_SECURITY: Json = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}


def pod_template(name: str, spec: ModelDeploymentSpec, pool: Pool) -> Json:
    """The pod template of one model, without the label of its revision."""
    serving = resolve_serving(spec, pool)
    template, model = spec.template, spec.model
    bundle = model.storage.ca_bundle if model.storage else None
    volumes: list[Json] = [
        cache_volume(serving),
        {"name": "tmp", "emptyDir": {"sizeLimit": "64Mi"}},
    ]
    if serving.shared_memory is not None:
        shared: Json = {"medium": "Memory", "sizeLimit": serving.shared_memory}
        volumes.append({"name": "shm", "emptyDir": shared})
    if bundle:
        volumes.append(
            {
                "name": "ca-bundle",
                "configMap": {
                    "name": bundle.config_map_name,
                    "items": [{"key": bundle.key, "path": "ca.crt"}],
                },
            }
        )
    volumes += _secrets(spec)
    if (claim := claim_volume(model.uri)) is not None:
        volumes.append(claim)
    pod: Json = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": serving.termination_grace_seconds,
        "securityContext": _pod_security(pool.run_as_user),
        "initContainers": [_fetch(spec, pool, serving)],
        "containers": [_serve(name, spec, pool)],
        "volumes": volumes,
    }
    optional: Json = {
        "nodeSelector": serving.node_selector,
        "tolerations": serving.tolerations,
        "runtimeClassName": pool.runtime_class_name,
        "affinity": template.affinity,
        "topologySpreadConstraints": (
            _spread(name)
            if template.topology_spread_constraints is None
            else template.topology_spread_constraints
        ),
        "serviceAccountName": template.service_account_name,
        "priorityClassName": template.priority_class_name,
        "imagePullSecrets": serving.image_pull_secrets,
    }
    pod.update({key: value for key, value in optional.items() if value})
    return {
        "metadata": {
            "labels": {
                **(template.labels or {}),
                **selector(name),
                names.LABEL_DIGEST: names.short_digest(model.digest),
                names.LABEL_POOL: spec.pool,
            },
            "annotations": {
                **(template.annotations or {}),
                # IAM roles for service accounts: the role is for fetch alone.
                "eks.amazonaws.com/skip-containers": "serve",
                names.ANNOTATION_DIGEST: model.digest,
                names.ANNOTATION_URI: names.shown_uri(model.uri),
            },
        },
        "spec": pod,
    }


def encrypts(template: Json) -> bool:
    """Whether pods of this template take requests over TLS alone."""
    return any(
        port.get("name") == HTTPS_NAME
        for container in template["spec"]["containers"]
        for port in container.get("ports") or ()
    )


def _secrets(spec: ModelDeploymentSpec) -> list[Json]:
    """Volumes with what only serve may read."""
    volumes: list[Json] = []
    if (tls := spec.runtime.tls) is not None:
        volumes.append({"name": "tls", "secret": {"secretName": tls.secret_name}})
    if (tokens := spec.runtime.bearer_tokens) is not None:
        items = [{"key": tokens.key or TOKENS_FILE, "path": TOKENS_FILE}]
        secret: Json = {"secretName": tokens.secret_name, "items": items}
        volumes.append({"name": "tokens", "secret": secret})
    return volumes


def _pod_security(user: int | None) -> Json:
    ids = ("runAsUser", "runAsGroup", "fsGroup") if user is not None else ()
    return {
        "runAsNonRoot": True,
        **dict.fromkeys(ids, user),
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def _spread(name: str) -> list[Json]:
    """Over zones and over hosts, as far as possible: no pod waits for it."""
    return [
        {
            "maxSkew": 1,
            "topologyKey": key,
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {"matchLabels": selector(name)},
            # Each revision by itself: the pods that it replaces are about to go.
            "matchLabelKeys": ["pod-template-hash"],
        }
        for key in ("topology.kubernetes.io/zone", "kubernetes.io/hostname")
    ]


def _container(name: str, image: str, pool: Pool) -> Json:
    return {
        "name": name,
        "image": image,
        "imagePullPolicy": pool.image_pull_policy,
        "securityContext": _CONTAINER_SECURITY,
        "terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "File",
    }


def _fetch(spec: ModelDeploymentSpec, pool: Pool, serving: ResolvedServing) -> Json:
    storage = spec.model.storage or Storage()
    mounts: list[Json] = [
        fetch_mount(),
        {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - a path in the container
    ]
    if storage.ca_bundle:
        mounts.append({"name": "ca-bundle", "mountPath": CA_DIR, "readOnly": True})
    if claim_volume(spec.model.uri) is not None:
        mounts.append(claim_mount())
    return {
        **_container("fetch", serving.image, pool),
        "args": [
            "fetch",
            "--uri",
            literal(spec.model.uri),
            "--digest",
            spec.model.digest,
            # The kubelet would evict the pod, and name neither the cause nor the field.
            "--max-bytes",
            str(largest_artifact(serving)),
        ],
        "env": fetch_environment(spec.model, pool.proxy, spec.runtime.log_level),
        "resources": _fetch_resources(serving.resources),
        "volumeMounts": mounts,
    }


def _fetch_resources(serve: Json) -> Json:
    """Requests and limits of ``fetch``: little, whatever the size of the artifact.

    It asks for no more than ``serve``, so that it never decides whether a pod finds a node, and has
    a CPU limit where ``serve`` has one: a quota on limits admits no pod without.
    """
    limits: Json = serve.get("limits") or {}
    # Kubernetes takes a limit for the request that is not given.
    reserved: Json = limits | (serve.get("requests") or {})
    requests: Json = {"cpu": "100m", "memory": "128Mi"}
    cpu_limit = {"cpu": limits["cpu"]} if "cpu" in limits else {}
    return {
        "requests": {
            name: min(amount, reserved.get(name, amount), key=quantity)
            for name, amount in requests.items()
        },
        "limits": {**cpu_limit, "memory": "512Mi"},
    }


def _golden(spec: ModelDeploymentSpec) -> list[str]:
    # A runtime image that is too old to check the samples refuses the flag.
    return [] if spec.golden is None else ["--golden"]


def _serve(name: str, spec: ModelDeploymentSpec, pool: Pool) -> Json:
    serving = resolve_serving(spec, pool)
    container: Json = {
        **_container("serve", serving.image, pool),
        "args": ["serve", "--digest", spec.model.digest, "--name", name, *_golden(spec)],
        "env": serve_environment(spec.runtime, spec.golden, serving, pool),
        "ports": _ports(spec),
        "volumeMounts": [
            *serve_mounts(serving),
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - a path in the container
        ],
        **_probes(serving.startup_timeout_seconds),
    }
    if serving.shared_memory is not None:
        container["volumeMounts"].append({"name": "shm", "mountPath": SHARED_MEMORY_DIR})
    secret_dirs = {"tls": TLS_DIR, "tokens": TOKENS_DIR}
    for volume in _secrets(spec):
        mount = {"name": volume["name"], "mountPath": secret_dirs[volume["name"]], "readOnly": True}
        container["volumeMounts"].append(mount)
    if serving.resources:
        container["resources"] = serving.resources
    return container


def _ports(spec: ModelDeploymentSpec) -> list[Json]:
    ports: list[Json] = [{"name": "http", "containerPort": HTTP_PORT, "protocol": "TCP"}]
    if spec.runtime.tls:
        ports.append({"name": HTTPS_NAME, "containerPort": HTTPS_PORT, "protocol": "TCP"})
    if spec.runtime.grpc:
        ports.append({"name": "grpc", "containerPort": GRPC_PORT, "protocol": "TCP"})
    return ports


def _probes(startup_timeout_seconds: int) -> Json:
    ready = {"path": "/v2/health/ready", "port": "http"}
    live = {"path": "/v2/health/live", "port": "http"}
    return {
        # One probe a second makes a pod ready within a second of its warm-up.
        "startupProbe": {
            "httpGet": ready,
            "periodSeconds": 1,
            "timeoutSeconds": 5,
            "failureThreshold": startup_timeout_seconds,
        },
        "readinessProbe": {
            "httpGet": ready,
            "periodSeconds": 5,
            "timeoutSeconds": 5,
            "failureThreshold": 3,
        },
        # A minute of silence from a route that never waits for an inference: the process hangs.
        "livenessProbe": {
            "httpGet": live,
            "periodSeconds": 10,
            "timeoutSeconds": 10,
            "failureThreshold": 6,
        },
    }
