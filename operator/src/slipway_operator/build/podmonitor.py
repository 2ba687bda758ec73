"""The PodMonitor, by which the Prometheus Operator finds the metrics of a model's pods."""

from slipway_operator.api.model_deployment import Json, ModelDeployment
from slipway_operator.api.settings import Settings
from slipway_operator.build.labels import child_metadata, selector


def pod_monitor(model: ModelDeployment, settings: Settings) -> Json | None:
    """The PodMonitor, or None where the configuration or the spec has switched it off."""
    own, default = model.spec.monitoring.enabled, settings.integrations.pod_monitor
    if not (default.enabled if own is None else own):
        return None
    endpoint: Json = {"port": "http", "path": "/metrics"}
    if default.interval is not None:
        endpoint["interval"] = default.interval
    labels = selector(model.name)
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PodMonitor",
        "metadata": {**child_metadata(model), "labels": {**default.labels, **labels}},
        "spec": {"selector": {"matchLabels": labels}, "podMetricsEndpoints": [endpoint]},
    }
