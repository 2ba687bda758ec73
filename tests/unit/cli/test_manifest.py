"""`slipway manifest`: a complete ModelDeployment, and digests set in place."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from cli_kit import models
from cli_kit.models import digest_of
from cli_kit.run import process, slipway

from slipway.gitops.resources import propose
from slipway.model.memory import measured
from slipway_operator.api.crd import manifest as crd
from slipway_operator.api.spec import ModelDeploymentSpec

OLD = "sha256:" + 64 * "0"
NEW = digest_of(b"new")
OLD_URI = "s3://models/fraud/sha256/000/model.onnx"
NEW_URI = f"s3://models/fraud/sha256/{NEW.removeprefix('sha256:')}/model.onnx"

Write = Callable[..., Path]


@pytest.fixture
def written(folder: Path) -> Write:
    def write(text: str, name: str = "f.yaml") -> Path:
        path = folder / name
        path.write_bytes(text.encode())
        return path

    return write


def closed(node: Any) -> Any:
    """The schema as `kubectl apply` uses it: unknown fields are refused."""
    if isinstance(node, list):
        return [closed(item) for item in node]
    if not isinstance(node, dict):
        return node
    out = {key: closed(value) for key, value in node.items()}
    if isinstance(node.get("properties"), dict):
        out.setdefault("additionalProperties", False)
    if node.get("x-kubernetes-int-or-string"):
        out.pop("type", None)
    return out


def valid(resource: Any) -> None:
    schema = crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    properties = schema["properties"] | {"metadata": {"type": "object"}}
    jsonschema.Draft7Validator(
        closed(schema) | {"properties": closed(properties) | {"metadata": {"type": "object"}}}
    ).validate(resource)
    ModelDeploymentSpec.model_validate(resource["spec"])


# ---- a new manifest ----


def test_a_manifest_is_valid_against_the_crd_and_complete(linear: Path) -> None:
    assert slipway("pack", linear, "--name", "fraud").code == 0
    ended = slipway(
        "manifest", "fraud.slipway", "--uri", "s3://models/fraud/slipway.json",
        "--namespace", "payments", "--pool", "cpu", "--replicas", 2, "--secret", "models-reader",
        "--endpoint", "https://s3.example.com", "--region", "eu-west-1",
        "--addressing-style", "path", "--service-account", "reader",
    )  # fmt: skip
    assert ended.code == 0
    resource = yaml.safe_load(ended.out)
    valid(resource)
    assert resource["metadata"] == {"name": "fraud", "namespace": "payments"}
    spec = resource["spec"]
    assert (
        spec["model"]["digest"]
        == slipway("pack", linear, "--name", "fraud", "--json").json["digest"]
    )
    assert spec["model"]["storage"]["secretName"] == "models-reader"
    limit = int(spec["runtime"]["resources"]["limits"]["memory"].removesuffix("Mi"))
    request = int(spec["runtime"]["resources"]["requests"]["memory"].removesuffix("Mi"))
    assert 128 < request < limit < 1024


def test_the_smallest_manifest_says_nothing_that_the_pool_says(folder: Path) -> None:
    ended = slipway("manifest", "--uri", NEW_URI, "--name", "fraud")
    assert yaml.safe_load(ended.out) == {
        "apiVersion": "slipway.dev/v1alpha1",
        "kind": "ModelDeployment",
        "metadata": {"name": "fraud"},
        "spec": {"model": {"uri": NEW_URI, "digest": NEW}},
    }
    valid(yaml.safe_load(ended.out))


def test_what_push_printed_can_be_piped_into_it(folder: Path, written: Write) -> None:
    pushed = written(json.dumps({"uri": NEW_URI, "digest": NEW}), "pushed.json")
    ended = slipway("manifest", "--pushed", pushed, "--name", "fraud", "--out", "out.yaml")
    assert (ended.code, ended.out) == (0, "")
    assert yaml.safe_load((folder / "out.yaml").read_text())["spec"]["model"]["digest"] == NEW


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--uri", NEW_URI], "--name"),
        (["--uri", NEW_URI, "--name", "Fraud_1"], "no name for a ModelDeployment"),
        (["--uri", NEW_URI, "--name", "x" * 51], "at most 50"),
        (["--uri", "ftp://x/y", "--digest", NEW, "--name", "m"], "s3://"),
        (["--uri", "https://h/m.onnx", "--name", "m"], "--digest"),
        (["--digest", NEW, "--name", "m"], "--uri"),
        (["--uri", "https://me:secret@h/m", "--digest", NEW, "--name", "m"], "presigned"),
        (["--uri", "pvc://claim/../x", "--digest", NEW, "--name", "m"], "out of the claim"),
        (["--uri", "pvc://Claim/x", "--digest", NEW, "--name", "m"], "no place that pods"),
        (["--uri", NEW_URI, "--name", "m", "--endpoint", "s3.local"], "no URL of a server"),
        (["--uri", NEW_URI, "--name", "m", "--endpoint", "http://me:secret@s3"], "--secret"),
        (
            ["--uri", "https://h/m", "--digest", NEW, "--name", "m", "--secret", "s"],
            "keys of an object storage",
        ),
        (["--digest", "abc", "--uri", NEW_URI, "--name", "m"], "'abc' is no digest"),
    ],
)
def test_what_the_cluster_would_refuse_is_refused_here(flags: list[str], told: str) -> None:
    ended = slipway("manifest", *flags)
    assert ended.code == 2
    assert told in ended.err
    assert "secret@" not in ended.err


def test_no_password_is_set_in_a_file(written: Write) -> None:
    file = written(PLAIN)
    flags = ["--uri", "https://me:secret@h/m", "--digest", NEW]
    ended = slipway("manifest", "--set-digest", file, *flags)
    assert ended.code == 2
    assert "secret" not in Path(file).read_text()


def test_an_endpoint_that_only_this_machine_reaches_is_pointed_out() -> None:
    flags = ["manifest", "--uri", NEW_URI, "--name", "m", "--endpoint"]
    assert "pods do not reach" in slipway(*flags, "http://localhost:9000").err
    assert "pods do not reach" not in slipway(*flags, "http://minio:9000").err


@pytest.mark.parametrize("name", ["no", "on", "y"])
def test_a_name_that_yaml_takes_for_a_boolean_is_quoted(name: str) -> None:
    uri = f"s3://models/sha256/{64 * 'a'}/model.onnx"
    ended = slipway("manifest", "--name", name, "--uri", uri)
    assert f'  name: "{name}"\n' in ended.out


def test_an_uri_that_tells_another_digest_is_refused() -> None:
    uri = f"s3://models/sha256/{64 * 'a'}/model.onnx"
    ended = slipway("manifest", "--name", "m", "--uri", uri, "--digest", f"sha256:{64 * 'b'}")
    assert ended.code == 2
    assert f"is the place of sha256:{64 * 'a'}" in ended.err


def test_a_digest_that_is_not_the_artifacts_is_refused(linear: Path) -> None:
    ended = slipway("manifest", linear, "--digest", NEW, "--uri", NEW_URI, "--name", "m")
    assert ended.code == 2


@pytest.mark.parametrize(
    ("size", "peak", "request_", "limit", "cache"),
    [
        (1, 100 << 20, "256Mi", "384Mi", None),
        (500 << 20, None, "1280Mi", "1856Mi", None),
        (3 << 30, 7 << 30, "7296Mi", "10944Mi", "3392Mi"),
    ],
)
def test_memory_is_proposed_from_what_was_measured_or_else_from_the_size(
    size: int, peak: int | None, request_: str, limit: str, cache: str | None
) -> None:
    proposal = propose(size, peak)
    assert (proposal.request, proposal.limit, proposal.cache) == (request_, limit, cache)


def test_what_the_measuring_process_itself_takes_is_not_the_models(linear: Path) -> None:
    mine = bytearray(b"x") * (768 << 20)
    peak = measured(linear)
    assert peak is not None
    assert 32 << 20 < peak < len(mine) // 2


# ---- an edit in place ----

PLAIN = f"""\
# Ours; see the wiki.
apiVersion: slipway.dev/v1alpha1
kind:   ModelDeployment      # odd blanks stay
metadata: {{name: fraud}}
spec:
    replicas:  2
    model:
        digest: {OLD}   # set by CI
        uri: "{OLD_URI}"
# The end.
"""

FORMS = {
    "plain": PLAIN,
    "windows": PLAIN.replace("\n", "\r\n"),
    "no newline at the end": PLAIN.rstrip("\n"),
    "byte order mark": "\ufeff" + PLAIN,
    "other letters": PLAIN.replace("Ours", "Größe 模型 🚢"),
    "flow": f"{{apiVersion: slipway.dev/v1alpha1, kind: ModelDeployment, metadata: {{name: fraud}},"
    f" spec: {{model: {{digest: '{OLD}', uri: {OLD_URI}}}}}}}\n",
    "several documents": "---\nkind: ConfigMap\ndata: {digest: kept, uri: kept}\n---\n"
    + PLAIN
    + "---\n# nothing here\n---\na: [1,   2]\n",
    "a list": "apiVersion: v1\nkind: List\nitems:\n- "
    + PLAIN.replace("\n", "\n  ").rstrip()
    + "\n",
    "strategic merge patch": f"apiVersion: slipway.dev/v1alpha1\nkind: ModelDeployment\n"
    f"metadata:\n  name: fraud\nspec:\n  model:\n    uri: {OLD_URI}\n    digest: '{OLD}'\n",
    "json patch": f"- op: test\n  path: /spec/pool\n  value: cpu\n- op: replace\n"
    f"  path: /spec/model/digest\n  value: {OLD}  # CI\n"
    f'- {{op: replace, path: /spec/model/uri, value: "{OLD_URI}"}}\n',
    "inline kustomize patch": "resources:\n- base\npatches:\n- target: {kind: Deployment}\n"
    "  patch: |-\n    - op: remove\n      path: /x\n"
    "- target:\n    kind: ModelDeployment\n    name: fraud\n  patch: |-\n"
    f"    - op: replace\n      path: /spec/model/digest\n      value: {OLD}  # CI\n\n"
    f"    - op: replace\n      path: /spec/model/uri\n      value: '{OLD_URI}'\n# end\n",
    "inline kustomize merge patch": "patches:\n  - patch: |\n      "
    + PLAIN.replace("\n", "\n      ").rstrip()
    + "\n",
}


@pytest.mark.parametrize("form", FORMS)
def test_digest_and_uri_are_set_and_no_other_byte_changes(form: str, written: Write) -> None:
    path = written(FORMS[form])
    before = path.read_bytes()
    ended = slipway("manifest", "--set-digest", path, "--digest", NEW, "--uri", NEW_URI)
    assert ended.code == 0, ended.err
    expected = before.replace(OLD.encode(), NEW.encode()).replace(
        OLD_URI.encode(), NEW_URI.encode()
    )
    assert path.read_bytes() == expected != before
    again = slipway("manifest", "--set-digest", path, "--uri", NEW_URI, "--json")
    assert [change["changed"] for change in again.json["changes"]] == [False, False]
    assert path.read_bytes() == expected


HELM = f"""\
image:
  digest: {OLD}   # not this one
models:
  - name: a
    # the artifact
    digest: '{OLD}'
    uri: {OLD_URI}
empty: {{digest: "", other:  }}  # to be set
"""


def test_helm_values_are_set_by_path(written: Write) -> None:
    path = written(HELM)
    ended = slipway(
        "manifest", "--set-digest", path, "--path", "models[0].digest", "--uri", NEW_URI
    )
    assert ended.code == 0
    expected = HELM.replace(f"'{OLD}'", f"'{NEW}'").replace(OLD_URI, NEW_URI)
    assert path.read_text() == expected


def test_a_value_that_is_still_empty_is_filled_in(written: Write) -> None:
    path = written(HELM)
    place = ("--set-digest", path, "--path", "empty.digest")
    assert slipway("manifest", *place, "--digest", NEW).code == 0
    assert path.read_text() == HELM.replace('digest: ""', f'digest: "{NEW}"')


def test_one_of_several_models_is_named(written: Write) -> None:
    other = PLAIN.replace("{name: fraud}", "{name: churn}")
    path = written(PLAIN + "---\n" + other)
    ended = slipway("manifest", "--set-digest", path, "--digest", NEW)
    assert ended.code == 2
    assert "churn, fraud" in ended.err
    named = ("--set-digest", path, "--digest", NEW, "--name", "churn")
    assert slipway("manifest", *named).code == 0
    assert path.read_text() == PLAIN + "---\n" + other.replace(OLD, NEW)


def test_of_several_namespaces_one_is_named(written: Write) -> None:
    def of(namespace: str) -> str:
        named = PLAIN.replace("{name: fraud}", f"{{name: fraud, namespace: {namespace}}}")
        assert named != PLAIN
        return named

    path = written(of("staging") + "---\n" + of("production"))
    both = ("--set-digest", path, "--digest", NEW)
    refused = slipway("manifest", *both)
    assert refused.code == 2
    assert "production, staging" in refused.err
    assert slipway("manifest", *both, "--namespace", "staging").code == 0
    assert path.read_text() == of("staging").replace(OLD, NEW) + "---\n" + of("production")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("s3://m/plain", "s3://m/my model #1/x.onnx"),
        ("s3://m/plain", "s3://m/a: b/x.onnx"),
        ("'s3://m/old'", "s3://m/o'brien/x.onnx"),
        ('"s3://m/old"', 's3://m/a"b/x.onnx'),
        ('"s3://m/old"', "s3://m/a\\new/x.onnx"),
    ],
)
def test_a_value_that_would_be_read_as_another_is_not_written(
    written: Write, old: str, new: str
) -> None:
    text = PLAIN.replace(f'"{OLD_URI}"', old)
    assert text != PLAIN
    path = written(text)
    ended = slipway("manifest", "--set-digest", path, "--digest", NEW, "--uri", new)
    assert ended.code == 2, ended.err
    assert "quote the old value there first" in ended.err
    assert path.read_text() == text


def test_several_files_are_set_or_none(written: Write) -> None:
    good, bad = written(PLAIN, "good.yaml"), written("a: 1\n", "bad.yaml")
    ended = slipway("manifest", "--set-digest", good, "--set-digest", bad, "--digest", NEW)
    assert ended.code == 5
    assert good.read_text() == PLAIN
    second = written(PLAIN, "second.yaml")
    both = ("--set-digest", good, "--set-digest", second)
    assert slipway("manifest", *both, "--digest", NEW).code == 0
    assert good.read_text() == second.read_text() == PLAIN.replace(OLD, NEW)


def test_a_file_that_is_not_changed_is_not_written(written: Write) -> None:
    path = written(PLAIN.replace(OLD, NEW))
    before = path.stat().st_mtime_ns
    assert slipway("manifest", "--set-digest", path, "--digest", NEW).code == 0
    assert path.stat().st_mtime_ns == before


def test_a_link_stays_one_and_what_it_leads_to_is_changed(written: Write) -> None:
    path = written(PLAIN)
    link = path.with_name("link.yaml")
    link.symlink_to(path.name)
    assert slipway("manifest", "--set-digest", link, "--digest", NEW).code == 0
    assert link.is_symlink()
    assert path.read_text() == PLAIN.replace(OLD, NEW)


def test_rights_of_the_file_stay(written: Write) -> None:
    path = written(PLAIN)
    path.chmod(0o640)
    assert slipway("manifest", "--set-digest", path, "--digest", NEW).code == 0
    assert path.stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize(
    ("text", "flags", "code", "told"),
    [
        ("a: 1\n", [], 5, "--path"),
        ("a: 1\n", ["--path", "b.digest"], 5, "nothing at b.digest"),
        (f"a: {{digest: {OLD}}}\n", ["--path", "a"], 2, "plain or quoted"),
        (f"a: {{digest: {OLD}}}\n", ["--path", "a.digest", "--uri", NEW_URI], 5, "no uri beside"),
        ("a:\n  digest:  # later\n", ["--path", "a.digest"], 2, 'write "" there first'),
        (f"a: &d {OLD}\nb: *d\n", ["--path", "b"], 2, "shared by an anchor"),
        ("a: {{ .Values.x }}\nb: [\n", [], 2, "Helm template"),
        (PLAIN, ["--name", "other"], 5, "called other"),
    ],
)
def test_what_cannot_be_set_is_told_and_left_alone(
    written: Write, text: str, flags: list[str], code: int, told: str
) -> None:
    path = written(text)
    ended = slipway("manifest", "--set-digest", path, "--digest", NEW, *flags)
    assert ended.code == code
    assert told in ended.err
    assert path.read_text() == text


def test_the_push_of_a_pipeline_sets_the_digest(written: Write, folder: Path) -> None:
    path = written(PLAIN)
    told = written(json.dumps({"uri": NEW_URI, "digest": NEW}), "p.json")
    ended = process("manifest", "--set-digest", path, "--pushed", told, cwd=folder)
    assert ended.code == 0
    assert path.read_text() == PLAIN.replace(OLD, NEW).replace(OLD_URI, NEW_URI)


def test_a_bare_model_needs_a_name_that_the_file_cannot_give(folder: Path) -> None:
    (folder / "m.onnx").write_bytes(models.linear())
    ended = slipway("manifest", "m.onnx", "--uri", "s3://models/m.onnx", "--name", "m", "--json")
    valid(ended.json)


def test_where_a_uri_is_missing_the_one_to_add_is_named(written: Write) -> None:
    path = written(f"model: {{digest: {OLD}}}\n")
    pushed = written(json.dumps({"uri": NEW_URI, "digest": NEW}), "pushed.json")
    place = ("manifest", "--set-digest", path, "--path", "model.digest")
    assert f"add uri there, as {NEW_URI}" in slipway(*place, "--pushed", pushed).err
    assert slipway(*place, "--digest", NEW).code == 0
    assert NEW in path.read_text()
