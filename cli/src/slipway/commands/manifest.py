"""``slipway manifest``: a ModelDeployment, or a digest set in YAML that is there."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import click
from ruamel.yaml import YAML
from ruamel.yaml.scalarstring import DoubleQuotedScalarString

from slipway import files, terminal
from slipway.commands import pushing
from slipway.errors import InvalidArguments
from slipway.gitops.deployment import Wanted, build, check_uri
from slipway.gitops.edit import Which, set_digest
from slipway.gitops.resources import Proposal, propose
from slipway.model.memory import measured
from slipway.options import FILE, WRITTEN, json_option
from slipway.package import source
from slipway.package.manifest import is_digest
from slipway.storage.client import Location
from slipway.storage.verify import digest_in

# True or false in YAML 1.1, and text in 1.2, which ruamel writes.
_BOOLEANS = frozenset(("y", "n", "yes", "no", "on", "off"))

_THIS_MACHINE = frozenset(("localhost", "127.0.0.1", "::1"))


@click.command("manifest")
@click.argument("artifact", type=FILE, required=False)
@click.option("--uri", help="Where pods fetch it: s3://, https://, pvc:// or file:///.")
@click.option("--digest", help="sha256:…; default: ARTIFACT's, or that in the key of an S3 uri.")
@click.option("--pushed", type=FILE, help="Take uri and digest from what `push --json` printed.")
@click.option(
    "--set-digest",
    "edited",
    type=FILE,
    multiple=True,
    metavar="FILE",
    help="Set digest (and uri) in this YAML file instead; may be given several times.",
)
@click.option("--path", help="Where in that file the digest stands, such as model.digest.")
@click.option("--name", help="Name of the ModelDeployment; default: the package's.")
@click.option("--namespace", help="Its namespace.")
@click.option("--pool", help="Node-pool profile.")
@click.option("--replicas", type=click.IntRange(min=0), help="Pods that serve it.")
@click.option("--secret", help="Secret with the storage's credentials.")
@click.option("--endpoint", help="URL of an S3-compatible server, as pods reach it.")
@click.option("--region", help="Region of the bucket.")
@click.option("--addressing-style", type=click.Choice(["auto", "path", "virtual"]))
@click.option("--service-account", help="ServiceAccount of the pods, for IRSA.")
@click.option(
    "--resources/--no-resources", default=True, help="Propose memory, measured here (default)."
)
@click.option("--out", type=WRITTEN, help="Write the manifest to this file.")
@json_option
def command(
    artifact: Path | None,
    uri: str | None,
    digest: str | None,
    pushed: Path | None,
    edited: tuple[Path, ...],
    path: str | None,
    name: str | None,
    namespace: str | None,
    pool: str | None,
    replicas: int | None,
    secret: str | None,
    endpoint: str | None,
    region: str | None,
    addressing_style: str | None,
    service_account: str | None,
    resources: bool,
    out: Path | None,
    as_json: bool,
) -> None:
    """Write a ModelDeployment, or set a digest in YAML that is there.

    With --set-digest everything else in the file stays as it is, to the byte: comments, order,
    quotes. Without it a complete manifest is printed; memory is proposed from ARTIFACT.
    """
    if pushed is not None:
        uri, digest = pushing.read(pushed)
    local = source.find(artifact) if artifact is not None else None
    digest = digest or (local.digest if local else None) or _digest_in(uri)
    if digest is None or not is_digest(digest):
        raise InvalidArguments(
            f"{digest!r} is no digest" if digest else "it is not known which digest is meant",
            "give --digest sha256:…, --pushed FILE, or the package or .onnx file itself",
        )
    if (told := _digest_in(uri)) not in (None, digest):
        raise InvalidArguments(f"{uri} is the place of {told}, not of {digest}", "check both")
    if local is not None and digest != local.digest:
        raise InvalidArguments(f"{artifact} has the digest {local.digest}, not {digest}")
    if edited:
        _tell_changes(edited, digest, uri, Which(name, namespace, path), as_json=as_json)
        return
    if uri is None:
        raise InvalidArguments("it is not known where the artifact is", "give --uri or --pushed")
    chosen = name or (local.manifest.name if local and local.manifest else None)
    if chosen is None:
        raise InvalidArguments("the model has no name", "give --name")
    wanted = Wanted(
        chosen, uri, digest, namespace, pool, replicas, secret, endpoint, region,
        addressing_style, service_account,
    )  # fmt: skip
    if local is not None and resources:
        wanted = replace(wanted, proposal=_proposal(local))
    manifest = build(wanted)
    _point_out(endpoint)
    if out is not None:
        files.write(out, _yaml(manifest).encode())
        terminal.note(f"wrote {out}")
    if as_json:
        terminal.print_json(manifest)
    elif out is None:
        click.echo(_yaml(manifest), nl=False)


def _point_out(endpoint: str | None) -> None:
    if endpoint and urlsplit(endpoint).hostname in _THIS_MACHINE:
        terminal.warn(f"pods do not reach {endpoint}: --endpoint is the server as they reach it")


def _digest_in(uri: str | None) -> str | None:
    return digest_in(Location.parse(uri)) if uri and uri.startswith("s3://") else None


def _proposal(local: source.LocalArtifact) -> Proposal:
    model = local.folder / local.manifest.model.path if local.manifest else local.entry
    terminal.note("measuring the model's memory")
    return propose(local.size, measured(model))


def _tell_changes(
    edited: tuple[Path, ...],
    digest: str,
    uri: str | None,
    which: Which,
    *,
    as_json: bool,
) -> None:
    if uri is not None:
        check_uri(uri)
    changes = set_digest(edited, digest, uri, which)
    if as_json:
        terminal.print_json(
            {"changes": [vars(item) | {"changed": item.old != item.new} for item in changes]}
        )
        return
    terminal.print_table(
        ("file", "model", "field", "before", "after"),
        [
            (i.file, i.name, i.field, i.old, "as before" if i.old == i.new else i.new)
            for i in changes
        ],
    )


def _yaml(manifest: dict[str, Any]) -> str:
    text = io.StringIO()
    writer: Any = YAML()
    writer.default_flow_style = False
    writer.width = 4096
    writer.dump(_quoted(manifest), text)
    return text.getvalue()


def _quoted(value: Any) -> Any:
    """Return a document in which text that YAML 1.1, Kubernetes' form, takes for more is quoted."""
    if isinstance(value, dict):
        return {key: _quoted(item) for key, item in cast("dict[str, Any]", value).items()}
    if isinstance(value, list):
        return [_quoted(item) for item in cast("list[Any]", value)]
    if isinstance(value, str) and value.lower() in _BOOLEANS:
        return DoubleQuotedScalarString(value)
    return value
