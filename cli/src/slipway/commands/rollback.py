"""``slipway rollback``: an earlier revision is served again."""

from __future__ import annotations

import click

from slipway import terminal
from slipway.cluster import rollout
from slipway.cluster.kubectl import Cluster, Json
from slipway.commands.cluster import cluster_options, show, summary, wait, waiting_options
from slipway.errors import InvalidArguments, NotFound

_ANNOTATION = "slipway.dev/rollback-to"


@click.command("rollback")
@click.argument("name")
@click.option(
    "--to",
    "revision",
    type=click.IntRange(min=1),
    help="A revision of the history; default: the newest good one before the present one.",
)
@click.option("--undo", is_flag=True, help="Serve what the spec says again.")
@waiting_options
@cluster_options
def command(
    name: str,
    revision: int | None,
    undo: bool,
    wait_for_it: bool,
    timeout: float,
    namespace: str | None,
    context: str | None,
    as_json: bool,
) -> None:
    """Serve an earlier revision again, without a change of the spec.

    It holds until --undo or until the spec changes. Where the spec comes from Git, revert the
    digest there as well: the next change rolls out what Git says.
    """
    if undo and revision is not None:
        raise InvalidArguments("--undo and --to exclude each other")
    cluster = Cluster(namespace, context)
    model = cluster.get(name)
    if undo:
        wanted, digest = None, str(model["spec"]["model"]["digest"])
    else:
        wanted, digest = _chosen(model, revision)
    annotations = {_ANNOTATION: None if wanted is None else str(wanted)}
    seen = cluster.patch(name, {"metadata": {"annotations": annotations}})
    if wait_for_it:
        seen = wait(
            cluster, name, digest, timeout, lambda new: _serves(new, wanted, digest), before=model
        )
    told = summary(seen)
    if as_json:
        terminal.print_json(told)
    else:
        show(told)


def _chosen(model: Json, revision: int | None) -> tuple[int, str]:
    name = model["metadata"]["name"]
    chosen = revision if revision is not None else rollout.revision_before(model)
    if chosen is None:
        raise NotFound(
            f"{name} has no earlier revision that was served", f"slipway status {name} lists them"
        )
    digest = rollout.digest_of(model, chosen)
    if digest is None:
        raise NotFound(f"{name} has no revision {chosen}", f"slipway status {name} lists them")
    return chosen, digest


def _serves(model: Json, revision: int | None, digest: str) -> bool:
    """Return whether the operator has acted on the annotation, which moves no generation."""
    requested = bool(rollout.section(model, "requestedRollback"))
    serving = rollout.section(model, "serving")
    if serving.get("digest") != digest:
        return False
    return not requested if revision is None else requested or serving["revision"] == revision
