"""docs/install.md promises which rights the operator takes, and its commands are ones that work."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml

from slipway_operator.api.conditions import READY, STALLED

GUIDE = Path(__file__).resolve().parents[3] / "docs/install.md"


def test_the_guide_lists_exactly_the_rights_that_the_chart_grants(render, pick):
    role = pick(render(), "ClusterRole", name="slipway")
    granted = {
        resource: ", ".join(rule["verbs"])
        for rule in role["rules"]
        for resource in rule["resources"]
    }
    rows = re.findall(r"^\| `([a-z/]+)` \| ([a-z, ]+) \|", GUIDE.read_text(), re.MULTILINE)
    assert dict(rows) == granted


def test_the_guide_lists_what_each_integration_grants_besides(render, pick):
    def granted(ci: str) -> dict[str, str]:
        role = pick(render(ci=ci), "ClusterRole", name="slipway")
        return {
            resource: ", ".join(rule["verbs"])
            for rule in role["rules"]
            for resource in rule["resources"]
        }

    more = {k: v for k, v in granted("integrations").items() if k not in granted("default")}
    row = re.compile(r"^\| [^|]+ \| `([a-z]+)` \| ([a-z, ]+) \|", re.MULTILINE)
    assert dict(row.findall(GUIDE.read_text())) == more


def of_group(resource: str, group: str) -> str:
    """A resource as `kubectl create role` wants it: modeldeployments.slipway.dev/scale."""
    name, *subresource = resource.split("/")
    return "/".join([f"{name}.{group}", *subresource])


@pytest.mark.parametrize("kind", ["view", "edit"])
def test_a_user_may_do_by_the_role_of_the_guide_what_the_clusters_own_roles_allow(
    kind, render, pick
):
    command = re.search(r"create role .*--verb=(\S+) \\\n +--resource=(\S+)", GUIDE.read_text())
    assert command
    verbs, resources = (part.split(",") for part in command.groups())
    for rule in pick(render(), "ClusterRole", name=f"slipway-{kind}")["rules"]:
        (group,) = rule["apiGroups"]
        allowed = {of_group(resource, group) for resource in rule["resources"]}
        # Who may read a ModelDeployment reads its status with it.
        assert allowed - {"modeldeployments.slipway.dev/status"} <= set(resources)
        assert set(rule["verbs"]) - {"deletecollection"} <= set(verbs)


def test_the_health_check_for_argo_cd_reads_what_the_operator_writes():
    text = GUIDE.read_text()
    shown = re.search(r"^    (resource\.customizations.*: \|\n(?:      .*\n)+)", text, re.MULTILINE)
    assert shown
    ((key, script),) = yaml.safe_load(shown[1]).items()
    crd = yaml.safe_load((GUIDE.parents[1] / "crds/modeldeployments.yaml").read_text())["spec"]
    assert key == f"resource.customizations.health.{crd['group']}_{crd['names']['kind']}"
    assert set(re.findall(r"condition\.(\w+)", script)) == {READY, STALLED}
    fields = crd["versions"][0]["schema"]["openAPIV3Schema"]["properties"]
    assert set(re.findall(r"obj\.spec\.(\w+)", script)) <= set(fields["spec"]["properties"])
    assert set(re.findall(r"told\.(\w+)", script)) <= set(fields["status"]["properties"])


def helm_commands() -> list[str]:
    """Every `helm install` and `helm upgrade` of the guide, in one line each."""
    text = re.sub(r" \\\n *", " ", GUIDE.read_text())
    return re.findall(r"^    (helm (?:install|upgrade) .+)$", text, re.MULTILINE)


def values_files(folder: Path) -> None:
    """Write the files that the guide shows under their names."""
    shown = re.findall(r"^    # (\w+\.yaml).*\n    (\w+: .+)$", GUIDE.read_text(), re.MULTILINE)
    for name, content in shown:
        assert yaml.safe_load(content)
        (folder / name).write_text(content)


def test_the_guide_has_commands_to_install_and_to_upgrade():
    assert len(helm_commands()) >= 6


@pytest.mark.parametrize("command", helm_commands(), ids=helm_commands())
def test_helm_takes_a_command_of_the_guide_as_it_is_written(command, helm, tmp_path):
    values_files(tmp_path)
    (tmp_path / "charts").symlink_to(GUIDE.parents[1] / "charts")
    (verb, *arguments) = shlex.split(command)[1:]
    told = subprocess.run([helm, verb, "--help"], capture_output=True, text=True, check=True).stdout
    for flag in (argument for argument in arguments if argument.startswith("-")):
        assert re.search(rf"(^|\s){flag}\b", told), flag
    # Without a cluster there is nothing to take over and nothing to reuse.
    of_clusters = ("--create-namespace", "--reset-then-reuse-values", "--take-ownership")
    rendering = [argument for argument in arguments if argument not in of_clusters]
    done = subprocess.run(
        [helm, "template", *rendering], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "kind: Deployment" in done.stdout
