"""``spec.route``: the way to the model from outside the cluster."""

from pydantic import ConfigDict, Field

from slipway_operator.api.schema import Schema, cel, validated
from slipway_operator.api.spec.values import HostName


class ParentRef(Schema):
    """The Gateway, or one of its listeners, that the route belongs to."""

    name: str = Field(min_length=1, max_length=253, description="Name of the Gateway.")
    namespace: str | None = Field(
        default=None,
        min_length=1,
        max_length=63,
        description="Its namespace. Absent: that of this object.",
    )
    section_name: str | None = Field(
        default=None, min_length=1, max_length=253, description="One of its listeners."
    )
    port: int | None = Field(
        default=None, ge=1, le=65535, description="Listeners with this port only."
    )


class GatewayRoute(Schema):
    """An HTTPRoute of the Gateway API, and a GRPCRoute where asked for. The former takes a path
    other than / off again, since models answer below /.
    """

    parent_refs: list[ParentRef] = Field(
        min_length=1, max_length=32, description="Gateways that the route belongs to."
    )
    grpc_hostnames: list[HostName] | None = Field(
        default=None,
        min_length=1,
        max_length=16,
        description="Host names under which the model answers gRPC, by a GRPCRoute. None of them "
        "may be among the route's others: a Gateway gives each to one kind of route.",
    )


class IngressRoute(Schema):
    """An Ingress. To take a path other than / off again is a matter of its controller's
    annotations.
    """

    class_name: str | None = Field(
        default=None,
        min_length=1,
        max_length=253,
        description="IngressClass. Absent: the cluster's default.",
    )
    tls_secret_name: str | None = Field(
        default=None,
        min_length=1,
        max_length=253,
        description="Secret with the certificate of the host names.",
    )
    annotations: dict[str, str] | None = Field(
        default=None, max_length=64, description="Annotations for the controller."
    )


class Route(Schema):
    """The way to the model from outside the cluster."""

    model_config = ConfigDict(
        json_schema_extra=validated(
            cel(
                "has(self.gateway) != has(self.ingress)",
                "a route is either for a Gateway or an Ingress: set gateway or ingress, not both",
            ),
            cel(
                "!has(self.gateway) || !has(self.gateway.grpcHostnames) || "
                "self.gateway.grpcHostnames.all(name, !(name in self.hostnames))",
                "a Gateway gives a host name to one kind of route: give gateway.grpcHostnames "
                "names of their own",
            ),
        )
    )

    hostnames: list[HostName] = Field(
        min_length=1,
        max_length=16,
        description="Host names under which the model answers; the first is shown in status.url.",
    )
    path: str = Field(
        default="/",
        max_length=1024,
        pattern="^/[A-Za-z0-9/._~-]*$",
        description="Path prefix under which the model answers.",
    )
    https: bool | None = Field(
        default=None,
        description="Whether clients come by https, for status.url. Absent: with a gateway true, "
        "with an ingress if it has a tlsSecretName.",
    )
    gateway: GatewayRoute | None = Field(
        default=None,
        description="Make an HTTPRoute of the Gateway API, and a GRPCRoute where asked for.",
    )
    ingress: IngressRoute | None = Field(default=None, description="Make an Ingress.")
