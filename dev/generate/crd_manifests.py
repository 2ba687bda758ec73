"""The CustomResourceDefinition: as a plain manifest, and as a template of the chart."""

from pathlib import Path
from typing import Any

import yaml

from slipway_operator.api.crd import manifest

_HEADER = "# Generated from the operator's models by `make generate`. Do not edit.\n"

_CHART_METADATA = """\
metadata:
  name: {name}
  labels:
    {{{{- include "slipway.labels" . | nindent 4 }}}}
  {{{{- if .Values.crds.keep }}}}
  annotations:
    helm.sh/resource-policy: keep
  {{{{- end }}}}
"""


def _dump(data: dict[str, Any]) -> str:
    return yaml.safe_dump(data, sort_keys=False, width=100)


def plain(_root: Path) -> str:
    """What `kubectl apply -f crds/` installs."""
    return _HEADER + _dump(manifest())


def chart_template(_root: Path) -> str:
    """The same CRD, installed and upgraded by Helm.

    It is a template and not a file under the chart's crds/, since Helm never upgrades those.
    """
    crd = manifest()
    metadata = _CHART_METADATA.format(name=crd["metadata"]["name"])
    head = _dump({key: crd[key] for key in ("apiVersion", "kind")})
    spec = _dump({"spec": crd["spec"]})
    if "{{" in spec:
        raise ValueError("a description or rule of the CRD holds '{{', which Helm would evaluate")
    return f"{{{{- if .Values.crds.install }}}}\n{_HEADER}{head}{metadata}{spec}{{{{- end }}}}\n"
