"""The API server goes away and comes back, and the world may have changed meanwhile."""

from __future__ import annotations

import base64
import json
import ssl
import urllib.request

from slipway_dev import state as states
from slipway_dev.cluster import Cluster


class Etcd:
    """Removes objects behind the API server's back, so that no watch tells of it."""

    def __init__(self, cluster: Cluster) -> None:
        state = states.load(cluster.name)
        assert state is not None
        pair = state.certificate("etcd")
        context = ssl.create_default_context(cafile=str(state.authority))
        context.load_cert_chain(pair.certificate, pair.key)
        self._url = f"https://127.0.0.1:{state.ports['etcd']}/v3/kv/deleterange"
        self._opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
        )

    def delete(self, key: str) -> None:
        """Remove the object of a key, which has to be there."""
        body = json.dumps({"key": base64.b64encode(key.encode()).decode()}).encode()
        with self._opener.open(urllib.request.Request(self._url, body), timeout=5) as answer:
            assert json.loads(answer.read())["deleted"] == "1"


class Outage:
    """Takes the API server away, and brings it back."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    def begin(self) -> None:
        """Kill the API server."""
        self._cluster.stop("apiserver", grace=0)

    def end(self) -> None:
        """Start it again, if it is away, and Kubernetes' own controllers with it.

        They would back off for up to half a minute.
        """
        if self._cluster.health()["apiserver"] == "ready":
            return
        self._cluster.start("apiserver")
        for component in ("controller-manager", "scheduler"):
            self._cluster.stop(component, grace=0)
            self._cluster.start(component)
