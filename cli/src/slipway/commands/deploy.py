"""``slipway deploy``: push, change the cluster, and wait until the model answers."""

from __future__ import annotations

from pathlib import Path

import click

from slipway import terminal
from slipway.cluster import rollout
from slipway.cluster.kubectl import Cluster, Json
from slipway.commands import pushing
from slipway.commands.cluster import cluster_options, show, summary, wait, waiting_options
from slipway.errors import InvalidArguments
from slipway.gitops.deployment import Wanted, build
from slipway.gitops.edit import Which, set_digest
from slipway.options import FILE, storage_options
from slipway.storage.client import Settings


@click.command("deploy")
@click.argument("artifact", type=FILE, required=False)
@click.option("--name", help="The ModelDeployment; default: the one in --file.")
@click.option("--to", help="Push there first: s3://BUCKET/PREFIX.")
@click.option("--pushed", type=FILE, help="What `push --json` printed, in place of ARTIFACT.")
@click.option(
    "--file",
    "manifest",
    type=FILE,
    help="Set the digest in this manifest, and apply it; else the resource is changed itself.",
)
@click.option("--pool", help="Node-pool profile, where it is created.")
@click.option("--replicas", type=click.IntRange(min=0), help="Pods, where it is created.")
@click.option("--secret", help="Secret with the storage's credentials, where it is created.")
@click.option(
    "--pod-endpoint", help="The storage's URL as pods reach it, where it is created; --endpoint."
)
@waiting_options
@storage_options
@cluster_options
def command(
    artifact: Path | None,
    name: str | None,
    to: str | None,
    pushed: Path | None,
    manifest: Path | None,
    pool: str | None,
    replicas: int | None,
    secret: str | None,
    pod_endpoint: str | None,
    wait_for_it: bool,
    timeout: float,
    endpoint: str | None,
    region: str | None,
    addressing_style: str,
    ca_bundle: Path | None,
    namespace: str | None,
    context: str | None,
    as_json: bool,
) -> None:
    """Push a model, have a cluster serve it, and wait until it answers.

    For trying out; where a repository says what is served, use push and manifest --set-digest.
    With --file that manifest is edited and applied. Without it the ModelDeployment --name gets the
    new digest, or is created. The exit code is 13 when the rollout fails, with the reason.
    """
    settings = Settings(endpoint, region, addressing_style, ca_bundle)
    uri, digest = _artifact(artifact, to, pushed, settings)
    cluster = Cluster(namespace, context)
    if manifest is not None:
        which = Which(name, namespace)
        changes = set_digest([manifest], digest, uri, which)
        cluster.apply(str(manifest))
        called = _required(name or next((change.name for change in changes), None))
        # Where the file says it, and not where kubectl happens to look.
        told = next((change.namespace for change in changes if change.namespace), None)
        cluster = Cluster(namespace or told, context)
    else:
        called = _required(name)
        model = {"uri": uri, "digest": digest}
        if cluster.find(called) is not None:
            cluster.patch(called, {"spec": {"model": model}})
        else:
            wanted = Wanted(
                called, uri, digest, namespace, pool, replicas, secret,
                pod_endpoint or endpoint, region,
                None if addressing_style == "auto" else addressing_style,
            )  # fmt: skip
            cluster.create(build(wanted))
    seen = (
        wait(cluster, called, digest, timeout, lambda model: _serves(model, digest))
        if wait_for_it
        else cluster.get(called)
    )
    told = summary(seen)
    if as_json:
        terminal.print_json({"uri": uri, "digest": digest, **told})
    else:
        show(told)


def _artifact(
    artifact: Path | None, to: str | None, pushed: Path | None, settings: Settings
) -> tuple[str, str]:
    if pushed is not None and artifact is None:
        return pushing.read(pushed)
    if artifact is None or pushed is not None or to is None:
        raise InvalidArguments(
            "it is not known which artifact is meant",
            "slipway deploy model.onnx --to s3://BUCKET/PREFIX, or --pushed FILE",
        )
    done = pushing.push(artifact, to, None, settings)
    return done.uri, done.digest


def _required(name: str | None) -> str:
    if not name:
        raise InvalidArguments("it is not known which ModelDeployment is meant", "give --name")
    return name


def _serves(model: Json, digest: str) -> bool:
    return rollout.section(model, "serving").get("digest") == digest
