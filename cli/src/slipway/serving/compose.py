"""The same two containers as a pod has, for Docker alone. Pure."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import Any

_CACHE = "/var/cache/slipway"
_USER = "65532:65532"


@dataclass(frozen=True)
class Wanted:
    """What to serve. ``mount`` is a folder of this machine that a file:// uri lies in."""

    name: str
    uri: str
    digest: str
    image: str
    port: int
    memory: str
    cpus: str
    endpoint: str | None = None
    region: str | None = None
    mount: str | None = None


def build(wanted: Wanted) -> dict[str, Any]:
    """Return a compose file: `fetch` runs to its end, then `serve` starts.

    Only `fetch` sees the storage's credentials, and only it may write to the cache; neither has a
    capability, a writable root or a way to more rights.
    """
    fetch: dict[str, Any] = _hardened(wanted, read_only_cache=False) | {
        "command": _fetch(wanted),
        "environment": _storage(wanted),
        "restart": "no",
    }
    if wanted.mount:
        fetch["volumes"] = [*fetch["volumes"], f"{wanted.mount}:/models:ro"]
    serve = _hardened(wanted, read_only_cache=True) | {
        "command": ["serve", "--digest", wanted.digest, "--name", wanted.name],
        "environment": {"SLIPWAY_TERMINATION_LOG": "/tmp/termination.json"},  # noqa: S108
        "depends_on": {"fetch": {"condition": "service_completed_successfully"}},
        "ports": [f"127.0.0.1:{wanted.port}:8080"],
        "restart": "unless-stopped",
        "stop_grace_period": "40s",
        "mem_limit": wanted.memory,
        "cpus": wanted.cpus,
    }
    prepare = {
        "image": wanted.image,
        "user": "0:0",
        "entrypoint": ["/opt/venv/bin/python", "-c"],
        "command": [f"import os; os.chown('{_CACHE}', 65532, 65532)"],
        "network_mode": "none",
        "read_only": True,
        "cap_drop": ["ALL"],
        "cap_add": ["CHOWN"],
        "security_opt": ["no-new-privileges:true"],
        "volumes": [f"cache:{_CACHE}"],
        "restart": "no",
    }
    fetch["depends_on"] = {"prepare": {"condition": "service_completed_successfully"}}
    return {
        "services": {"prepare": prepare, "fetch": fetch, "serve": serve},
        "volumes": {"cache": {}},
    }


def docker_run(wanted: Wanted) -> list[str]:
    """Return the lines that do the same with docker alone, one process after the other."""
    volume = f"slipway-{wanted.name}"
    common = [
        "docker", "run", "--rm", "--read-only", "--cap-drop=ALL",
        "--security-opt=no-new-privileges", "--tmpfs=/tmp",
    ]  # fmt: skip
    own = ["docker", "run", "--rm", "--user=0:0", "--cap-drop=ALL", "--cap-add=CHOWN",
           "--network=none", "--entrypoint=/opt/venv/bin/python"]  # fmt: skip
    variables = [
        f"--env={name}={value}" if value is not None else f"--env={name}"
        for name, value in _storage(wanted).items()
    ]
    mount = [f"--volume={wanted.mount}:/models:ro"] if wanted.mount else []
    lines = [
        [*own, f"--volume={volume}:{_CACHE}", wanted.image, "-c",
         f"import os; os.chown('{_CACHE}', 65532, 65532)"],
        [*common, f"--volume={volume}:{_CACHE}", *mount, *variables, wanted.image, *_fetch(wanted)],
        [*common, f"--volume={volume}:{_CACHE}:ro", f"--publish=127.0.0.1:{wanted.port}:8080",
         f"--memory={wanted.memory}", f"--cpus={wanted.cpus}",
         "--env=SLIPWAY_TERMINATION_LOG=/tmp/termination.json", wanted.image,
         "serve", "--digest", wanted.digest, "--name", wanted.name],
    ]  # fmt: skip
    return [shlex.join(line) for line in lines]


def _fetch(wanted: Wanted) -> list[str]:
    return ["fetch", "--uri", wanted.uri, "--digest", wanted.digest]


def _hardened(wanted: Wanted, *, read_only_cache: bool) -> dict[str, Any]:
    return {
        "image": wanted.image,
        "user": _USER,
        "read_only": True,
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
        "pids_limit": 512,
        "tmpfs": ["/tmp"],  # noqa: S108
        "volumes": [f"cache:{_CACHE}{':ro' if read_only_cache else ''}"],
    }


def _storage(wanted: Wanted) -> dict[str, str | None]:
    """Return variables of `fetch`; those without a value are taken from whoever starts it."""
    variables: dict[str, str | None] = {"SLIPWAY_TERMINATION_LOG": "/tmp/termination.json"}  # noqa: S108
    if not wanted.uri.startswith("s3://"):
        return variables
    variables |= dict.fromkeys(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"))
    if wanted.endpoint:
        variables["AWS_ENDPOINT_URL"] = wanted.endpoint
    if wanted.region:
        variables["AWS_REGION"] = wanted.region
    return variables
