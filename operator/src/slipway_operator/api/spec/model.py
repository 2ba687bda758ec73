"""``spec.model``: the artifact, and the way to its storage."""

from enum import StrEnum

from pydantic import ConfigDict, Field

from slipway_operator.api.schema import Schema, cel, validated


class ConfigMapKey(Schema):
    """A key of a ConfigMap in the ModelDeployment's namespace."""

    config_map_name: str = Field(min_length=1, description="Name of the ConfigMap.")
    key: str = Field(default="ca.crt", description="Key that holds the PEM bundle.")


class AddressingStyle(StrEnum):
    """How a bucket is named in a request."""

    AUTO = "auto"
    PATH = "path"
    VIRTUAL = "virtual"


class Storage(Schema):
    """How to reach the object storage. Only the fetch container sees any of it."""

    model_config = ConfigDict(
        json_schema_extra=validated(
            cel(
                "!(has(self.anonymous) && self.anonymous && has(self.secretName))",
                "anonymous access and secretName exclude each other: remove one of them",
            )
        )
    )

    secret_name: str | None = Field(
        default=None,
        min_length=1,
        description="Secret with keys AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY "
        "(AWS_SESSION_TOKEN optional). Not needed with IRSA or anonymous access.",
    )
    endpoint: str | None = Field(
        default=None,
        max_length=2048,
        description="URL of an S3-compatible server. Default: AWS.",
        json_schema_extra=validated(
            cel(
                "self.matches('^https?://.+')",
                "endpoint must be a URL with its scheme, such as https://s3.example.com",
            ),
            cel(
                "!self.matches('^https?://[^/]*@')",
                "endpoint is shown in status and logs and must hold no user name or password: "
                "put them into the Secret that secretName names",
            ),
        ),
    )
    region: str | None = Field(default=None, min_length=1, description="Region of the bucket.")
    addressing_style: AddressingStyle | None = Field(
        default=None,
        description="auto, path (https://host/bucket) or virtual (https://bucket.host).",
    )
    anonymous: bool | None = Field(default=None, description="Send unsigned requests.")
    ca_bundle: ConfigMapKey | None = Field(
        default=None, description="Additional certificate authorities of the storage server."
    )


class Model(Schema):
    """The artifact: where it is, and what it is."""

    uri: str = Field(
        max_length=2048,
        description="Where the ONNX file or package is: s3://bucket/key, https://host/path, "
        "pvc://claim/path (a PersistentVolumeClaim of this namespace) or file:///path.",
        json_schema_extra=validated(
            cel(
                "self.matches('^(s3://[^/]+/.+|https?://[^/]+/.*|file:///.+|"
                "pvc://[a-z0-9]([-a-z0-9.]*[a-z0-9])?/.+)$')",
                "uri must be s3://bucket/key, https://host/path, pvc://claim/path or file:///path",
            ),
            cel(
                "!self.matches('^pvc://.*/[.][.](/|$)')",
                "uri must not lead out of the claim: write the path from its root, without ..",
            ),
            cel(
                "!self.matches('^https?://[^/]*@')",
                "uri is shown in status and logs and must hold no user name or password: "
                "use a presigned URL, or s3:// with storage.secretName",
            ),
        ),
    )
    digest: str = Field(
        description="SHA-256 of the artifact; the identity of what is served.",
        max_length=128,
        json_schema_extra=validated(
            cel(
                "self.matches('^sha256:[a-f0-9]{64}$')",
                "digest must be 'sha256:' and 64 lower-case hex digits; "
                "get it with: sha256sum model.onnx",
            )
        ),
    )
    storage: Storage | None = Field(default=None, description="Access to the storage.")
