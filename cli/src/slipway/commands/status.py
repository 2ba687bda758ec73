"""``slipway status``: what a cluster serves, and why not what was asked for."""

from __future__ import annotations

import click

from slipway import terminal
from slipway.cluster.kubectl import Cluster
from slipway.commands.cluster import cluster_options, show, summary


@click.command("status")
@click.argument("name")
@cluster_options
def command(name: str, namespace: str | None, context: str | None, as_json: bool) -> None:
    """Tell what a ModelDeployment serves, its last failure, and its revisions.

    The exit code is 0 whatever state it is in; --json has `ready` and `reason`.
    """
    told = summary(Cluster(namespace, context).get(name))
    if as_json:
        terminal.print_json(told)
    else:
        show(told)
