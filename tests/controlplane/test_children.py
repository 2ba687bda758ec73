"""What one ModelDeployment makes, and how all of it goes again."""

from __future__ import annotations

import pytest
from control_plane.operator_process import OperatorProcess
from control_plane.space import MODEL, Space


def test_a_first_apply_makes_deployment_service_and_revision(
    operator: OperatorProcess, space: Space
) -> None:
    view = space.settle()
    (revision,) = space.revisions()
    deployment, service = space.deployment(), space.child("services")
    uid = view.obj["metadata"]["uid"]
    for child in (deployment, service, revision):
        (owner,) = child["metadata"]["ownerReferences"]
        assert (owner["kind"], owner["name"], owner["uid"]) == ("ModelDeployment", MODEL, uid)
        assert owner["controller"]
    assert view.serving == space.digest("v1")
