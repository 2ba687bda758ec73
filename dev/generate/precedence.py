"""The table of docs/resource.md on who decides about a part of the pod."""

import markdown_table

_HEADER = (
    "Part of the pod",
    "1. fixed by the operator",
    "2. spec",
    "3. pool",
    "4. otherwise",
)
_ROWS = (
    (
        "image, providers",
        "",
        "`runtime.image`, `runtime.providers`",
        "`image`, `providers`",
        "",
    ),
    (
        "preferred providers",
        "",
        "`runtime.preferredProviders`",
        "`preferredProviders`, less those required",
        "none",
    ),
    (
        "provider options",
        "",
        "`runtime.providerOptions`, key by key",
        "`providerOptions`",
        "ONNX Runtime's",
    ),
    (
        "requests and limits of `serve`",
        "",
        "`runtime.resources`, key by key",
        "`resources`",
        "",
    ),
    (
        "requests and limits of `fetch`",
        "all; no more CPU and memory is requested than for `serve`, whose CPU limit it has",
        "",
        "",
        "",
    ),
    (
        "variables of `serve`",
        "all with `SLIPWAY_`, by the fields of `spec.runtime`",
        "`runtime.env`",
        "",
        "the runtime's",
    ),
    (
        "variables of `fetch`",
        "storage, credentials",
        "`model.storage`",
        "`proxy`, else the operator's",
        "",
    ),
    (
        "labels",
        "`slipway.dev/…`, `app.kubernetes.io/managed-by` (refused in a spec)",
        "`template.labels`",
        "",
        "",
    ),
    (
        "annotations",
        "`slipway.dev/…`, `eks.amazonaws.com/skip-containers` (refused)",
        "`template.annotations`",
        "",
        "",
    ),
    (
        "node selector",
        "",
        "`template.nodeSelector`, key by key",
        "`nodeSelector`",
        "",
    ),
    (
        "tolerations, pull secrets",
        "",
        "both are joined",
        "both are joined",
        "",
    ),
    (
        "spread over zones and hosts",
        "",
        "`template.topologySpreadConstraints`, as a whole",
        "",
        "as far as possible",
    ),
    (
        "affinity, priority class, ServiceAccount",
        "",
        "`template`",
        "",
        "none",
    ),
    (
        "runtime class",
        "",
        "",
        "`runtimeClassName`",
        "the cluster's",
    ),
    (
        "user and groups",
        "never root",
        "",
        "`runAsUser`",
        "65532",
    ),
    (
        "other security settings, probes, token (none)",
        "always",
        "",
        "",
        "",
    ),
    (
        "grace period",
        "",
        "`template.terminationGracePeriodSeconds`",
        "drain times + 5 s",
        "",
    ),
    (
        "engines that a provider compiles",
        "a folder of the cache volume, which then holds twice its size",
        "",
        "",
        "",
    ),
    (
        "cache, shared memory",
        "",
        "`runtime.cacheSize`, `runtime.sharedMemory`",
        "`cacheSize`, `sharedMemory`",
        "",
    ),
    (
        "rollout",
        "",
        "`rollout`",
        "`rollout`",
        "",
    ),
)


def render() -> str:
    """The table's text."""
    return markdown_table.table(_HEADER, _ROWS)
