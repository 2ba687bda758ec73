"""``spec.template``: additions to the pods."""

from pydantic import Field

from slipway_operator.api.schema import Schema, cel, validated
from slipway_operator.api.spec.values import OpaqueObject


class PodTemplate(Schema):
    """What users add to the model's pods; merged over the pool's values. What the operator itself
    sets cannot be replaced.
    """

    labels: dict[str, str] | None = Field(
        default=None,
        max_length=64,
        description="Labels of the pods.",
        json_schema_extra=validated(
            cel(
                "self.all(k, !k.startsWith('slipway.dev/') && k != 'app.kubernetes.io/managed-by' "
                "&& k != 'pod-template-hash')",
                "labels beginning with slipway.dev/, app.kubernetes.io/managed-by and "
                "pod-template-hash are set by the operator and by Kubernetes: choose other names",
            )
        ),
    )
    annotations: dict[str, str] | None = Field(
        default=None,
        max_length=64,
        description="Annotations of the pods.",
        json_schema_extra=validated(
            cel(
                "self.all(k, !k.startsWith('slipway.dev/') && "
                "k != 'eks.amazonaws.com/skip-containers')",
                "annotations beginning with slipway.dev/ and eks.amazonaws.com/skip-containers are "
                "set by the operator: choose other names",
            )
        ),
    )
    node_selector: dict[str, str] | None = Field(
        default=None, description="Merged over the pool's selector, key by key."
    )
    tolerations: list[OpaqueObject] | None = Field(
        default=None, description="Added to the pool's tolerations."
    )
    affinity: OpaqueObject | None = Field(default=None, description="Affinity of the pods.")
    topology_spread_constraints: list[OpaqueObject] | None = Field(
        default=None,
        max_length=16,
        description="Replaces the default, which spreads the pods over zones and hosts as far as "
        "possible; an empty list removes it.",
    )
    service_account_name: str | None = Field(
        default=None, description="ServiceAccount of the pods, for IRSA. Its token is not mounted."
    )
    priority_class_name: str | None = Field(default=None, description="PriorityClass of the pods.")
    image_pull_secrets: list[OpaqueObject] | None = Field(
        default=None, description="Secrets for pulling the image; added to the pool's."
    )
    termination_grace_period_seconds: int | None = Field(
        default=None, ge=0, description="Default: drain delay + drain timeout + 5 s."
    )
