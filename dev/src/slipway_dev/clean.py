"""Everything off this machine that any of the tools here has started."""

from __future__ import annotations

import shutil

from slipway_dev import docker, paths
from slipway_dev import state as states
from slipway_dev.cluster import Cluster
from slipway_dev.console import step
from slipway_dev.s3 import S3Server


def clean(*, caches: bool) -> None:
    """Stop and remove every cluster, S3 server and Docker daemon of ours; then the caches."""
    for cluster in states.all_clusters():
        Cluster(cluster.name, cluster.size).down()
    for folder in paths.state().glob("s3-*"):
        S3Server(folder.name.removeprefix("s3-")).down()
    docker.Daemon().clean()
    if caches:
        with step(f"Remove {paths.cache()}"):
            shutil.rmtree(paths.cache(), ignore_errors=True)
