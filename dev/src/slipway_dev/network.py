"""The addresses of a node cluster and the bridge its pods hang on.

The bridge belongs to this machine alone: pods reach services on this machine and each other, and
nothing is forwarded or masqueraded to the outside.
"""

from __future__ import annotations

import ipaddress
import json
import random
import socket
import subprocess
from contextlib import closing, suppress
from pathlib import Path

from slipway_dev.errors import DevError

BRIDGE = "slipway0"
CNI_NAME = "slipway-dev"
POD_NETWORK = ipaddress.IPv4Network("10.213.0.0/24")
SERVICE_NETWORK = ipaddress.IPv4Network("10.214.0.0/16")
NODE_ADDRESS = str(POD_NETWORK[1])
API_SERVICE_ADDRESS = str(SERVICE_NETWORK[1])
LOOPBACK = "127.0.0.1"

_FORWARDING = Path("/proc/sys/net/ipv4/ip_forward")
# Below both the node ports of Kubernetes and the ports that Linux gives to outgoing connections.
_PORTS = range(20000, 30000)


def free_ports(names: list[str]) -> dict[str, int]:
    """Choose a free TCP port for each name, for servers that start later and may restart."""
    chosen: dict[str, int] = {}
    candidates = random.sample(_PORTS, len(_PORTS))
    for name in names:
        while not _free(candidates[-1]):
            candidates.pop()
        chosen[name] = candidates.pop()
    return chosen


def free_port() -> int:
    """Choose one."""
    return free_ports(["it"])["it"]


def _free(port: int) -> bool:
    with closing(socket.socket()) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with suppress(OSError):
            probe.bind(("", port))
            return True
    return False


def check_routes() -> None:
    """Refuse a machine whose own network overlaps with the cluster's."""
    for route in _ip_json("-4", "route", "show"):
        destination = str(route.get("dst", "default"))
        if destination == "default" or route.get("dev") == BRIDGE:
            continue
        for ours in (POD_NETWORK, SERVICE_NETWORK):
            if ours.overlaps(ipaddress.IPv4Network(destination, strict=False)):
                raise DevError(
                    f"This machine routes {destination} itself, which overlaps with {ours}.",
                    "Change POD_NETWORK and SERVICE_NETWORK in dev/src/slipway_dev/network.py.",
                )


def bridge_exists() -> bool:
    """Say whether the bridge is there."""
    return Path("/sys/class/net", BRIDGE).exists()


def create_bridge() -> None:
    """Make the bridge now (the CNI plugin would at the first pod): servers listen on it before."""
    if not bridge_exists():
        _ip("link", "add", BRIDGE, "type", "bridge")
    _ip("address", "replace", f"{NODE_ADDRESS}/{POD_NETWORK.prefixlen}", "dev", BRIDGE)
    _ip("link", "set", BRIDGE, "up")


def remove_bridge() -> None:
    """Remove the bridge."""
    if bridge_exists():
        _ip("link", "delete", BRIDGE)


def forwarding() -> bool:
    """Say whether this machine forwards packets, as a Service of a pod needs."""
    return _FORWARDING.read_text().strip() == "1"


def set_forwarding(enabled: bool) -> None:
    """Switch the forwarding of packets."""
    _FORWARDING.write_text("1" if enabled else "0")


def remove_proxy_rules() -> None:
    """Remove the nftables tables of kube-proxy."""
    for family in ("ip", "ip6"):
        command = ["nft", "delete", "table", family, "kube-proxy"]
        subprocess.run(command, capture_output=True, check=False)  # it may not exist


def cni_configuration(data: Path) -> dict[str, object]:
    """Render the CNI network: a bridge with addresses from the pod network."""
    return {
        "cniVersion": "0.4.0",
        "name": CNI_NAME,
        "plugins": [
            {
                "type": "bridge",
                "bridge": BRIDGE,
                "isGateway": True,
                "hairpinMode": True,
                "ipam": {
                    "type": "host-local",
                    "dataDir": str(data),
                    "ranges": [[{"subnet": str(POD_NETWORK), "gateway": NODE_ADDRESS}]],
                    # Only the Service network: pods have no way out of this machine.
                    "routes": [{"dst": str(SERVICE_NETWORK)}],
                },
            }
        ],
    }


def _ip(*arguments: str) -> str:
    try:
        done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise DevError("The program `ip` is missing.", "apt-get install iproute2") from None
    if done.returncode != 0:
        raise DevError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


def _ip_json(*arguments: str) -> list[dict[str, object]]:
    return json.loads(_ip("-json", *arguments) or "[]")
