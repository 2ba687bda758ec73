"""The kinds that the operator reads and writes, and where the API server keeps them."""

from dataclasses import dataclass

from slipway_operator.api.names import API_VERSION, GROUP, KIND, PLURAL, VERSION


@dataclass(frozen=True)
class Kind:
    """One kind of object.

    Attributes:
        owned: a child of a ModelDeployment, found by the operator's label.
    """

    group: str
    version: str
    plural: str
    name: str
    owned: bool = True

    @property
    def api_version(self) -> str:
        """``group/version``, or ``v1`` for the core group."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str | None = None, name: str | None = None) -> str:
        """The URL path of a collection or of one object."""
        root = "/apis" if self.group else "/api"
        middle = f"/namespaces/{namespace}" if namespace else ""
        return f"{root}/{self.api_version}{middle}/{self.plural}" + (f"/{name}" if name else "")


MODEL_DEPLOYMENT = Kind(GROUP, VERSION, PLURAL, KIND, owned=False)
CONTROLLER_REVISION = Kind("apps", "v1", "controllerrevisions", "ControllerRevision")
DEPLOYMENT = Kind("apps", "v1", "deployments", "Deployment")
REPLICA_SET = Kind("apps", "v1", "replicasets", "ReplicaSet")
POD = Kind("", "v1", "pods", "Pod")
SERVICE = Kind("", "v1", "services", "Service")
POD_DISRUPTION_BUDGET = Kind("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget")
AUTOSCALER = Kind("autoscaling", "v2", "horizontalpodautoscalers", "HorizontalPodAutoscaler")
NETWORK_POLICY = Kind("networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy")
POD_MONITOR = Kind("monitoring.coreos.com", "v1", "podmonitors", "PodMonitor")
SCALED_OBJECT = Kind("keda.sh", "v1alpha1", "scaledobjects", "ScaledObject")
HTTP_ROUTE = Kind("gateway.networking.k8s.io", "v1", "httproutes", "HTTPRoute")
GRPC_ROUTE = Kind("gateway.networking.k8s.io", "v1", "grpcroutes", "GRPCRoute")
INGRESS = Kind("networking.k8s.io", "v1", "ingresses", "Ingress")
CUSTOM_RESOURCE_DEFINITION = Kind(
    "apiextensions.k8s.io",
    "v1",
    "customresourcedefinitions",
    "CustomResourceDefinition",
    owned=False,
)
EVENT = Kind("", "v1", "events", "Event", owned=False)
LEASE = Kind("coordination.k8s.io", "v1", "leases", "Lease", owned=False)

ALWAYS = (DEPLOYMENT, SERVICE, POD_DISRUPTION_BUDGET, AUTOSCALER, NETWORK_POLICY)
OPTIONAL = (POD_MONITOR, SCALED_OBJECT, HTTP_ROUTE, GRPC_ROUTE, INGRESS)
"""Children of kinds that the cluster may lack, or the operator have no rights for."""

CHILDREN = (*ALWAYS, *OPTIONAL)
WATCHED = (MODEL_DEPLOYMENT, CONTROLLER_REVISION, REPLICA_SET, POD, *ALWAYS)
"""What every cluster has; kopf watches it."""

BY_NAME = {kind.name: kind for kind in (*WATCHED, *OPTIONAL)}

assert MODEL_DEPLOYMENT.api_version == API_VERSION
