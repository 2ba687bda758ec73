"""kubectl as the way to a cluster: it knows every kind of login that a kubeconfig names."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from typing import Any

from slipway.errors import (
    AccessDenied,
    Conflict,
    InvalidArguments,
    MissingExtra,
    NotFound,
    SlipwayError,
    Unavailable,
)

Json = dict[str, Any]

PROGRAM_VARIABLE = "SLIPWAY_KUBECTL"
RESOURCE = "modeldeployments.slipway.dev"
MANAGER = "slipway-cli"
_MODEL_LABEL = "slipway.dev/model"
_SECONDS = 60
_REQUEST_TIMEOUT = "30s"


@dataclass(frozen=True)
class Cluster:
    """One namespace of one cluster; None leaves the choice to the kubeconfig."""

    namespace: str | None = None
    context: str | None = None

    def find(self, name: str) -> Json | None:
        """Return a ModelDeployment, or None where there is none."""
        text = self._run("get", RESOURCE, name, "--output=json", "--ignore-not-found")
        return json.loads(text) if text.strip() else None

    def get(self, name: str) -> Json:
        """Return a ModelDeployment.

        Raises:
            NotFound: there is none of that name.
        """
        found = self.find(name)
        if found is None:
            where = f"the namespace {self.namespace}" if self.namespace else "this namespace"
            raise NotFound(
                f"there is no ModelDeployment {name!r} in {where}",
                "kubectl get mdep --all-namespaces lists all",
            )
        return found

    def pods(self, name: str) -> list[Json]:
        """Return the pods of a ModelDeployment."""
        text = self._run("get", "pods", f"--selector={_MODEL_LABEL}={name}", "--output=json")
        return json.loads(text)["items"]

    def create(self, manifest: Json) -> Json:
        """Create a resource and return it."""
        return json.loads(
            self._run(
                "create", "--filename=-", f"--field-manager={MANAGER}", "--output=json",
                given=json.dumps(manifest),
            )
        )  # fmt: skip

    def apply(self, file: str) -> None:
        """Apply a file of manifests, or a folder with a kustomization."""
        self._run("apply", "--filename", file)

    def patch(self, name: str, patch: Json) -> Json:
        """Merge a patch into a ModelDeployment and return it."""
        return json.loads(
            self._run(
                "patch", RESOURCE, name, "--type=merge", f"--field-manager={MANAGER}",
                f"--patch={json.dumps(patch)}", "--output=json",
            )
        )  # fmt: skip

    def _run(self, *arguments: str, given: str | None = None) -> str:
        command = [_program(), *arguments, f"--request-timeout={_REQUEST_TIMEOUT}"]
        if self.namespace is not None:
            command.append(f"--namespace={self.namespace}")
        if self.context is not None:
            command.append(f"--context={self.context}")
        try:
            done = subprocess.run(
                command, input=given, capture_output=True, text=True, check=False, timeout=_SECONDS
            )
        except subprocess.TimeoutExpired:
            raise Unavailable(f"kubectl does not answer within {_SECONDS} s", _CONTEXT) from None
        if done.returncode:
            raise meaning(done.stderr)
        return done.stdout


_UNKNOWN_KIND = re.compile(
    r"(?:the server doesn't have a resource type|no matches for kind) \"([^\"]+)\""
)
_CONTEXT = "kubectl config current-context shows which cluster is meant; --context names another"


def meaning(said: str) -> SlipwayError:
    """Return what kubectl's complaint means. Pure."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    text = (lines[-1] if lines else "kubectl failed and said nothing").removeprefix("error: ")
    if "(AlreadyExists)" in said or "(Conflict)" in said:
        return Conflict(text, "it was changed meanwhile: run the command again")
    if unknown := _UNKNOWN_KIND.search(said):
        if unknown[1].lower().startswith("modeldeployment"):
            return NotFound(
                "this cluster knows no ModelDeployment", "install the operator: docs/install.md"
            )
        return NotFound(text, f"install what {unknown[1]} belongs to, or take it out of the file")
    if "(NotFound)" in said:
        return NotFound(text)
    if "(Forbidden)" in said or "(Unauthorized)" in said or "must be logged in" in said:
        return AccessDenied(text, "the verbs get, create and patch on modeldeployments are needed")
    if "is invalid" in said or "(BadRequest)" in said or "error validating" in said:
        return InvalidArguments(" ".join(lines)[:1000].removeprefix("error: "))
    return Unavailable(text, _CONTEXT)


def _program() -> str:
    found = os.environ.get(PROGRAM_VARIABLE) or shutil.which("kubectl")
    if found is None:
        raise MissingExtra(
            "kubectl is not installed", f"install it, or name it in {PROGRAM_VARIABLE}"
        )
    return found
