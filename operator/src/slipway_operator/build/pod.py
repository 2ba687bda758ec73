"""The pod template: ``fetch`` with the storage credentials, ``serve`` without them.

The flags, variables, paths and ports are those of docs/pod-contract.md.
"""

from slipway_operator.api import names
from slipway_operator.api.model_deployment import Json
from slipway_operator.api.quantity import quantity
from slipway_operator.api.settings import Pool
from slipway_operator.api.spec import ModelDeploymentSpec, Storage
from slipway_operator.build.labels import selector
from slipway_operator.build.resolve import ResolvedServing, resolve_serving

CACHE_DIR = "/var/cache/slipway"
CA_DIR = "/etc/slipway/ca"
HTTP_PORT = 8080
USER_ID = 65532
_CACHE_OVERHEAD = 1 << 20  # directories and the like, in bytes

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
        {"name": "cache", "emptyDir": {"sizeLimit": serving.cache_size}},
        {"name": "tmp", "emptyDir": {"sizeLimit": "64Mi"}},
    ]
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
    pod: Json = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": serving.termination_grace_seconds,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER_ID,
            "runAsGroup": USER_ID,
            "fsGroup": USER_ID,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
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
        "imagePullSecrets": template.image_pull_secrets,
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


def _spread(name: str) -> list[Json]:
    """Over zones and over hosts, as far as that can be had: no pod waits for it."""
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
        {"name": "cache", "mountPath": CACHE_DIR},
        {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - a path in the container
    ]
    if storage.ca_bundle:
        mounts.append({"name": "ca-bundle", "mountPath": CA_DIR, "readOnly": True})
    return {
        **_container("fetch", serving.image, pool),
        "args": [
            "fetch",
            "--uri",
            spec.model.uri,
            "--digest",
            spec.model.digest,
            # The kubelet would evict the pod, and name neither the cause nor the field.
            "--max-bytes",
            str(max(1, int(quantity(serving.cache_size)) - _CACHE_OVERHEAD)),
        ],
        "env": _storage_env(storage),
        # Fetching needs little memory whatever the size; one that starved the node's other pods
        # while many models start would.
        "resources": {
            "requests": {"cpu": "100m", "memory": "128Mi"},
            "limits": {"memory": "512Mi"},
        },
        "volumeMounts": mounts,
    }


def _storage_env(storage: Storage) -> list[Json]:
    values: dict[str, str | None] = {
        "SLIPWAY_CACHE_DIR": CACHE_DIR,
        "AWS_ENDPOINT_URL": storage.endpoint,
        "AWS_REGION": storage.region,
        "SLIPWAY_S3_ADDRESSING_STYLE": storage.addressing_style,
        "SLIPWAY_S3_ANONYMOUS": "true" if storage.anonymous else None,
        "SLIPWAY_CA_BUNDLE": f"{CA_DIR}/ca.crt" if storage.ca_bundle else None,
    }
    env: list[Json] = [
        {"name": key, "value": str(value)} for key, value in values.items() if value is not None
    ]
    for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        if storage.secret_name:
            reference: Json = {"name": storage.secret_name, "key": key}
            if key == "AWS_SESSION_TOKEN":
                reference["optional"] = True
            env.append({"name": key, "valueFrom": {"secretKeyRef": reference}})
    return env


def _serve(name: str, spec: ModelDeploymentSpec, pool: Pool) -> Json:
    serving = resolve_serving(spec, pool)
    threads = spec.runtime.threads
    env: dict[str, str] = {
        "SLIPWAY_CACHE_DIR": CACHE_DIR,
        "SLIPWAY_PORT": str(HTTP_PORT),
        "SLIPWAY_PROVIDERS": ",".join(serving.providers),
        "SLIPWAY_DRAIN_DELAY_SECONDS": str(pool.drain_delay_seconds),
        "SLIPWAY_DRAIN_TIMEOUT_SECONDS": str(pool.drain_timeout_seconds),
    }
    if threads and threads.intra_op:
        env["SLIPWAY_INTRA_OP_THREADS"] = str(threads.intra_op)
    if threads and threads.inter_op:
        env["SLIPWAY_INTER_OP_THREADS"] = str(threads.inter_op)
    own = {variable.name: variable.value for variable in spec.runtime.env or []}
    container: Json = {
        **_container("serve", serving.image, pool),
        "args": ["serve", "--digest", spec.model.digest, "--name", name],
        "env": [{"name": key, "value": value} for key, value in {**own, **env}.items()],
        "ports": [{"name": "http", "containerPort": HTTP_PORT, "protocol": "TCP"}],
        "volumeMounts": [
            {"name": "cache", "mountPath": CACHE_DIR, "readOnly": True},
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - a path in the container
        ],
        **_probes(pool),
    }
    if serving.resources:
        container["resources"] = serving.resources
    return container


def _probes(pool: Pool) -> Json:
    ready = {"path": "/v2/health/ready", "port": "http"}
    live = {"path": "/v2/health/live", "port": "http"}
    return {
        # One probe a second makes a pod ready within a second of its warm-up.
        "startupProbe": {
            "httpGet": ready,
            "periodSeconds": 1,
            "timeoutSeconds": 5,
            "failureThreshold": pool.startup_timeout_seconds,
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
