"""The way to a model from outside: routes of the Gateway API, or an Ingress."""

from slipway_operator.api.model_deployment import Json, ModelDeployment
from slipway_operator.api.spec.route import GatewayRoute
from slipway_operator.build.environment import GRPC_PORT
from slipway_operator.build.labels import child_metadata
from slipway_operator.build.pod import HTTPS_NAME
from slipway_operator.build.service import ENCRYPTED_PORT, SERVICE_PORT
from slipway_operator.build.whole import Whole


def http_route(model: ModelDeployment, *, encrypted: bool) -> Json | None:
    """The HTTPRoute, or None unless spec.route names a Gateway. ``encrypted`` as of the Service."""
    route = model.spec.route
    if route is None or route.gateway is None:
        return None
    port = ENCRYPTED_PORT if encrypted else SERVICE_PORT
    rule: Json = {
        "matches": [{"path": {"type": "PathPrefix", "value": route.path}}],
        "backendRefs": [{"name": model.name, "port": port}],
    }
    if route.path != "/":
        rewrite: Json = {"path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/"}}
        rule["filters"] = [{"type": "URLRewrite", "urlRewrite": rewrite}]
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": child_metadata(model),
        "spec": {
            "parentRefs": _parents(route.gateway),
            "hostnames": route.hostnames,
            "rules": [rule],
        },
    }


def grpc_route(model: ModelDeployment) -> Json | None:
    """The GRPCRoute, or None unless spec.route.gateway has host names for it."""
    route = model.spec.route
    if route is None or route.gateway is None or not route.gateway.grpc_hostnames:
        return None
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "GRPCRoute",
        "metadata": child_metadata(model),
        "spec": {
            "parentRefs": _parents(route.gateway),
            "hostnames": route.gateway.grpc_hostnames,
            "rules": [{"backendRefs": [{"name": model.name, "port": GRPC_PORT}]}],
        },
    }


def _parents(gateway: GatewayRoute) -> list[Json]:
    return [
        Whole(
            parent.model_dump(mode="json", by_alias=True, exclude_none=True),
            # The API server's defaults, so that nothing else is in the live object.
            group="gateway.networking.k8s.io",
            kind="Gateway",
        )
        for parent in gateway.parent_refs
    ]


def ingress(model: ModelDeployment, live: Json | None, *, encrypted: bool) -> Json | None:
    """The Ingress, or None unless spec.route asks for one. ``encrypted`` as of the Service.

    The class that the cluster gave to the ``live`` one, since none was asked for, stays: the API
    server gives it at the creation only.
    """
    route = model.spec.route
    if route is None or route.ingress is None:
        return None
    own = route.ingress
    service: Json = {"name": model.name, "port": {"name": HTTPS_NAME if encrypted else "http"}}
    path: Json = {"path": route.path, "pathType": "Prefix", "backend": {"service": service}}
    spec: Json = {
        "rules": [{"host": host, "http": {"paths": [path]}} for host in route.hostnames],
    }
    given: str | None = (live or {}).get("spec", {}).get("ingressClassName")
    if class_name := own.class_name or given:
        spec["ingressClassName"] = class_name
    if own.tls_secret_name is not None:
        spec["tls"] = [{"hosts": route.hostnames, "secretName": own.tls_secret_name}]
    metadata = child_metadata(model)
    if own.annotations:
        metadata["annotations"] = own.annotations
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": metadata,
        "spec": spec,
    }


def external_url(model: ModelDeployment) -> str | None:
    """Where the model answers outside the cluster; None without a route."""
    route = model.spec.route
    if route is None:
        return None
    by_default = route.ingress.tls_secret_name is not None if route.ingress else True
    https = by_default if route.https is None else route.https
    return f"{'https' if https else 'http'}://{route.hostnames[0]}{route.path.rstrip('/')}"
