"""What ``slipway deploy``, ``status`` and ``rollback`` share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from slipway import terminal
from slipway.cluster import rollout
from slipway.cluster.kubectl import Cluster, Json
from slipway.cluster.wait import until_ready
from slipway.options import json_option

F = TypeVar("F", bound=Callable[..., Any])


def cluster_options(command: F) -> F:
    """Add which cluster is meant."""
    for option in (
        json_option,
        click.option("--context", help="Context of the kubeconfig; default: the current one."),
        click.option("--namespace", "-n", help="Namespace; default: that of the context."),
    ):
        command = option(command)
    return command


def waiting_options(command: F) -> F:
    """Add whether and for how long the rollout is waited for."""
    for option in (
        click.option(
            "--timeout", type=float, default=600.0, show_default=True, help="Seconds to wait."
        ),
        click.option(
            "--wait/--no-wait",
            "wait_for_it",
            default=True,
            help="Wait until it is ready (default).",
        ),
    ):
        command = option(command)
    return command


def wait(
    cluster: Cluster,
    name: str,
    digest: str,
    timeout: float,
    wanted: Callable[[Json], bool],
    before: Json | None = None,
) -> Json:
    """Wait for a rollout and show how it goes. Raises what `until_ready` does."""
    with terminal.following(f"rolling out {name}") as tell:
        return until_ready(cluster, name, digest, timeout, tell, wanted, before)


def summary(model: Json) -> dict[str, Any]:
    """Return what a program wants to know of a ModelDeployment."""
    told = rollout.status(model)
    progress = rollout.progress(model)
    return {
        "name": model["metadata"]["name"],
        "namespace": model["metadata"].get("namespace"),
        "ready": progress.state == "ready",
        "state": progress.state,
        "reason": progress.reason,
        "message": progress.message,
        "available": rollout.condition(model, "Available").get("status") == "True",
        "serving": told.get("serving"),
        "target": told.get("target"),
        "outdated": told.get("outdated", False),
        "requestedRollback": told.get("requestedRollback"),
        "lastFailure": told.get("lastFailure"),
        "history": told.get("history", []),
        "replicas": told.get("replicas", 0),
        "readyReplicas": told.get("readyReplicas", 0),
        "url": told.get("url"),
    }


def show(told: dict[str, Any]) -> None:
    """Print it for a person."""
    serving, failure = told["serving"], told["lastFailure"]
    facts = [
        ("model", f"{told['namespace']}/{told['name']}"),
        ("state", f"{told['state']}: {told['reason']}"),
        ("", told["message"]),
        ("answering", "yes" if told["available"] else "no"),
        ("serving", f"{serving['digest']} (revision {serving['revision']})" if serving else "-"),
        ("pods", f"{told['readyReplicas']} of {told['replicas']} ready"),
        ("url", told["url"] or "-"),
    ]
    if told["outdated"]:
        facts.append(
            ("outdated", "yes: the operator, its images or the pool changed since this revision")
        )
    if failure:
        facts.append(("last failure", f"{failure['reason']} (revision {failure['revision']})"))
        facts.append(("", failure["message"]))
    terminal.print_facts(facts)
    terminal.print_table(
        ("revision", "digest", "outcome", "since"),
        [
            (str(e["revision"]), e["digest"], e["outcome"], e.get("time") or "")
            for e in told["history"]
        ],
    )
