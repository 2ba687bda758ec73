"""The programs that we build from pinned Go modules, each once for a given set of pins.

The cache folder of a module is named after all that decides its binaries: go.mod, go.sum, our own
sources, the build flags and the Go version. A change of a pin therefore never meets an old binary,
and two checkouts share what they have in common.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from slipway_dev import paths
from slipway_dev.console import step
from slipway_dev.errors import DevError
from slipway_dev.locks import exclusive

KUBERNETES_VERSION = "v1.35.4"
_LOG_LINES = 20


@dataclass(frozen=True)
class Module:
    """One Go module below dev/tools and the main packages to build from it, by binary name."""

    name: str
    packages: Mapping[str, str]
    variables: Mapping[str, str] = field(default_factory=dict[str, str])
    tags: tuple[str, ...] = ()

    @property
    def folder(self) -> Path:
        """The folder of its go.mod."""
        return paths.tool_modules() / self.name

    def flags(self) -> list[str]:
        """Return the flags of `go build` that decide what comes out."""
        linker = ["-s", "-w", *(f"-X {name}={value}" for name, value in self.variables.items())]
        tags = ["-tags", ",".join(self.tags)] if self.tags else []
        return ["-trimpath", "-buildvcs=false", *tags, "-ldflags", " ".join(linker)]


def _kubernetes(*names: str) -> dict[str, str]:
    return {name: f"k8s.io/kubernetes/cmd/{name}" for name in names}


# Kubernetes reads its own version from these; without them it says v0.0.0 and clients object.
_VERSION_PACKAGES = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
_KUBERNETES_VARIABLES = {
    f"{package}.{name}": value
    for package in _VERSION_PACKAGES
    for name, value in (
        ("gitVersion", KUBERNETES_VERSION),
        ("gitMajor", KUBERNETES_VERSION.removeprefix("v").split(".")[0]),
        ("gitMinor", KUBERNETES_VERSION.split(".")[1]),
    )
}

MODULES = (
    Module("etcd", {"etcd": "go.etcd.io/etcd/server/v3"}),
    Module(
        "kubernetes",
        _kubernetes(
            "kube-apiserver",
            "kube-controller-manager",
            "kube-scheduler",
            "kubectl",
            "kubelet",
            "kube-proxy",
        ),
        _KUBERNETES_VARIABLES,
    ),
    Module("helm", {"helm": "helm.sh/helm/v4/cmd/helm"}),
    Module("s3", {"versitygw": "github.com/versity/versitygw/cmd/versitygw"}),
    Module("checks", {"kubeconform": "github.com/yannh/kubeconform/cmd/kubeconform"}),
    Module(
        "grpc",
        {
            "grpcurl": "github.com/fullstorydev/grpcurl/cmd/grpcurl",
            "h2spec": "github.com/summerwind/h2spec/cmd/h2spec",
        },
    ),
    Module("tritongo", {"tritongo": "."}),
    Module("kstatus", {"kstatus": "."}),
    Module("pause", {"pause": "."}),
    Module("kwok", {"kwok": "sigs.k8s.io/kwok/cmd/kwok"}),
    Module(
        "prometheus",
        {"promtool": "github.com/prometheus/prometheus/cmd/promtool"},
        # Without the clients of all clouds: only a running Prometheus asks them for targets.
        tags=("remove_all_sd",),
    ),
)
_SELDOM_NEEDED = {"grpc", "kwok", "prometheus", "tritongo"}
COMMON = tuple(
    name for module in MODULES if module.name not in _SELDOM_NEEDED for name in module.packages
)
_BY_BINARY = {binary: module for module in MODULES for binary in module.packages}


def names() -> list[str]:
    """Return the names of all binaries that can be built."""
    return list(_BY_BINARY)


def path(name: str) -> Path:
    """Return the path of one binary, built now if it is not in the cache."""
    return ensure([name])[name]


def ensure(wanted: Iterable[str]) -> dict[str, Path]:
    """Build what is missing of the wanted binaries and return the path of each."""
    by_module: dict[str, list[str]] = {}
    for name in wanted:
        by_module.setdefault(_module_of(name).name, []).append(name)
    built: dict[str, Path] = {}
    for module in MODULES:
        binaries = by_module.get(module.name, [])
        if binaries:
            built.update(_ensure_module(module, binaries))
    return built


def source(binary: str, module: str) -> Path:
    """Return the folder of the sources of a Go module that a binary is built from."""
    command = ["go", "list", "-m", "-f", "{{.Dir}}", module]
    done = subprocess.run(
        command, cwd=_module_of(binary).folder, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise DevError(f"The sources of {module} are missing: {done.stderr.strip()}")
    return Path(done.stdout.strip())


def folder(wanted: Iterable[str]) -> Path:
    """Return a folder that holds exactly the wanted binaries, for a PATH."""
    binaries = ensure(wanted)
    digest = hashlib.sha256("\n".join(str(item) for item in sorted(binaries.values())).encode())
    place = paths.cache() / "tools" / digest.hexdigest()[:16]
    place.mkdir(parents=True, exist_ok=True)
    for name, target in binaries.items():
        link = place / name
        if not link.exists():
            link.unlink(missing_ok=True)
            link.symlink_to(target)
    return place


def cache_key(module: Module, compiler: str) -> str:
    """Return the key of a module's binaries: equal exactly when they would come out equal."""
    digest = hashlib.sha256()
    sources = sorted(
        file for file in module.folder.iterdir() if file.suffix in {".mod", ".sum", ".go"}
    )
    for part in (compiler, json.dumps(module.flags())):
        digest.update(f"{len(part)}:{part}".encode())
    for source in sources:
        content = source.read_bytes()
        digest.update(f"{source.name}:{len(content)}:".encode())
        digest.update(content)
    return digest.hexdigest()[:16]


def _module_of(binary: str) -> Module:
    try:
        return _BY_BINARY[binary]
    except KeyError:
        raise DevError(f"unknown tool {binary}", f"Known: {', '.join(names())}") from None


def _ensure_module(module: Module, binaries: list[str]) -> dict[str, Path]:
    place = paths.cache() / "bin" / f"{module.name}-{cache_key(module, _compiler())}"
    targets = {name: place / name for name in binaries}
    if all(target.exists() for target in targets.values()):
        return targets
    with exclusive(place, f"the build of {module.name}"):
        missing = [name for name, target in targets.items() if not target.exists()]
        if missing:
            with step(f"Build {', '.join(missing)}") as detail:
                _build(module, missing, place, detail)
    return targets


def _build(module: Module, binaries: list[str], place: Path, detail: Callable[[str], None]) -> None:
    with tempfile.TemporaryDirectory(dir=place) as scratch:
        # One binary has its name chosen here; several are named by Go after their packages.
        output = f"{scratch}/{binaries[0]}" if len(binaries) == 1 else f"{scratch}/"
        command = ["go", "build", "-v", *module.flags(), "-o", output]
        command += [module.packages[name] for name in binaries]
        _run_go(module, command, detail)
        for name in binaries:
            shutil.move(f"{scratch}/{name}", place / name)


def _run_go(module: Module, command: list[str], detail: Callable[[str], None]) -> None:
    lines: deque[str] = deque(maxlen=_LOG_LINES)
    with subprocess.Popen(
        ["nice", "-n", "10", *command],
        cwd=module.folder,
        env={**os.environ, "CGO_ENABLED": "0"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        for count, line in enumerate(process.stderr, start=1):
            lines.append(line.rstrip())
            detail(f"{count} packages, {lines[-1][-50:]}")
    if process.returncode != 0:
        raise DevError(
            f"{module.name} does not build: " + "\n".join(lines),
            "Go's module proxy must be reachable for the first build (see `go env GOPROXY`).",
        )


@cache
def _compiler() -> str:
    if shutil.which("go") is None:
        raise DevError(
            "Go is missing: the cluster's programs are built from source.",
            "Install Go 1.26 or newer from https://go.dev/dl and put its bin folder on PATH.",
        )
    command = ["go", "env", "GOVERSION", "GOOS", "GOARCH"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout
