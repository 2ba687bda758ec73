"""docs/resource.md: every field of a ModelDeployment, from the schema that the CRD carries."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import markdown_table
import precedence

from slipway_operator.api.crd import structural_schema
from slipway_operator.api.reasons import CLASS_OF, REASON_OF_EXIT_CODE, FailureClass, Reason
from slipway_operator.api.spec import ModelDeploymentSpec
from slipway_operator.api.status import ModelDeploymentStatus

_INTRO = """\
<!-- Generated from the operator's models by `make generate`. Do not edit. -->
# The ModelDeployment

`slipway.dev/v1alpha1`, namespaced, short name `mdep`. A field without a default is absent until you
set it; where the text says so, the pool's value then counts. Ready-made manifests are in
[examples/](../examples/), the settings of pools in the [chart](../charts/slipway/README.md).

A name is at most 50 characters: lower-case letters, digits and `-`, beginning with a letter and not
ending with `-`, because a Service is named after it. A failed revision is tried again when the spec
changes, or when the annotation `slipway.dev/retry` gets a new value.

To serve an earlier version at once, `kubectl annotate mdep NAME slipway.dev/rollback-to=NUMBER`:
the numbers are in `status.history`, and each whose rollout was completed can be returned to. It
holds until the annotation is removed or the spec changes; `status.requestedRollback` tells of it.

"""

_PRECEDENCE = """\
## Who decides

The operator's configuration gives a pool its profile, the spec overrides it, and what the operator
needs for its promises nobody can replace. From strongest to weakest:

"""

_REASONS = """\
## Reasons

What `status.lastFailure.reason`, the conditions and the Events say. An *intrinsic* reason lies in
the artifact, and the rollout has failed at the first sight of it. An *environmental* one is named
at once, but the rollout fails only at its progress deadline, since it may pass. An *ambiguous* one
counts after some restarts. A pod's container tells the operator by its exit code, see
[the contract between operator and pod](pod-contract.md).

Where nothing has failed, Ready says `Deploying` (a first version), `RollingOut`, `RolloutWithGap`,
`Serving`, `RollbackRequested` (served by that annotation's wish), `PodsMissing` (fewer are ready
than wanted, and no pod says why), `ScaledToZero` or `Suspended`. With pods missing, Ready may be
True with one of the reasons below: what is ready serves. Of what concerns the spec or the objects
around a model, the [README](../README.md#how-failure-looks) has the list.

"""


_SHORTFALLS = """\
A model that is served, but lacks something else that its spec asks for, is Ready False and Stalled
with one of these, and `Available` all the same. Each heals by itself when the cause is gone.

| Reason | What is missing |
| --- | --- |
| `KindMissing` | the cluster lacks a kind, as PodMonitor or HTTPRoute: install what brings it |
| `IntegrationDisabled` | the operator may not make it: the chart's `integrations` |
| `RouteNotAccepted` | a Gateway refuses a route, in whose words the message is |
| `RemovalHeld` | nothing, but a child that is wanted no more does not go: a finalizer holds it |
"""


def render(_root: Path) -> str:
    """The page's text."""
    spec = _sections("spec", structural_schema(ModelDeploymentSpec))
    status = _sections("status", structural_schema(ModelDeploymentStatus))
    return (
        _INTRO
        + "\n".join([*spec, *status])
        + "\n"
        + _PRECEDENCE
        + precedence.render()
        + "\n"
        + _REASONS
        + _reasons()
    )


def _sections(path: str, schema: dict[str, Any]) -> Iterator[str]:
    """One section for this object, then one for each object below it."""
    properties: dict[str, dict[str, Any]] = schema["properties"]
    required: list[str] = schema.get("required", [])
    rows = [
        (f"`{name}`", _type(field), _default(name, field, required), _meaning(field))
        for name, field in properties.items()
    ]
    description = schema.get("description", "")
    rules = "".join(f"\n- {rule['message']}" for rule in schema.get(_CEL, []))
    text = f"{description}\n" + (f"{rules}\n" if rules else "")
    table = markdown_table.table(("Field", "Type", "Default", "Meaning"), rows)
    yield f"## {path}\n\n{text}\n{table}"
    for name, field in properties.items():
        if "properties" in field:
            yield from _sections(f"{path}.{name}", field)
        elif "properties" in field.get("items", {}):
            yield from _sections(f"{path}.{name}[]", field["items"])


_CEL = "x-kubernetes-validations"
_STRINGS_BESIDE_INTEGERS = {"must be a quantity": "quantity", "or auto": "integer or `auto`"}
"""By what the rule of such a field says: its type."""


def _type(field: dict[str, Any]) -> str:
    if field.get("x-kubernetes-int-or-string"):
        said = " ".join(rule["message"] for rule in field.get(_CEL, []))
        for word, name in _STRINGS_BESIDE_INTEGERS.items():
            if word in said:
                return name
        return "integer or percentage"
    if field.get("type") == "array":
        return f"list of {_type(field['items'])}"
    values = field.get("additionalProperties")
    if isinstance(values, dict):
        return f"map of string to {_type(values)}"  # pyright: ignore[reportUnknownArgumentType]
    return str(field.get("type", "any"))


def _default(name: str, field: dict[str, Any], required: list[str]) -> str:
    if name in required:
        return "required"
    # An empty default of an object only lets the defaults inside it appear.
    if "default" not in field or "properties" in field:
        return ""
    return f"`{json.dumps(field['default'])}`"


def _meaning(field: dict[str, Any]) -> str:
    parts: list[str] = [field.get("description", "")]
    if "enum" in field:
        parts.append("One of " + ", ".join(f"`{value}`" for value in field["enum"]) + ".")
    bounds = [
        f"{word} {field[key]}"
        for key, word in (("minimum", "at least"), ("maximum", "at most"))
        if key in field
    ]
    if bounds:
        parts.append(", ".join(bounds).capitalize() + ".")
    if field.get("x-kubernetes-preserve-unknown-fields"):
        parts.append("As in a pod's spec.")
    return " ".join(part for part in parts if part)


def _reasons() -> str:
    codes = {reason: str(code) for code, reason in REASON_OF_EXIT_CODE.items()}

    def row(reason: Reason) -> tuple[str, str, str]:
        return f"`{reason}`", CLASS_OF[reason].value, codes.get(reason, "")

    order = list(FailureClass)
    reasons = sorted(Reason, key=lambda reason: order.index(CLASS_OF[reason]))
    return markdown_table.table(("Reason", "Class", "Exit code"), map(row, reasons))
