"""A whole cluster: what `dev/cluster` does and what the tests and the demo import."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from slipway_dev import binaries, controlplane, kubelet, kwok, network, node, paths
from slipway_dev import state as states
from slipway_dev.component import Component, start_all
from slipway_dev.console import say, step
from slipway_dev.errors import DevError
from slipway_dev.kubelet import NODE_NAME
from slipway_dev.locks import exclusive
from slipway_dev.pki import Authority
from slipway_dev.process import Program
from slipway_dev.state import Size, State
from slipway_dev.wait import wait_until

_MORE_BINARIES = {Size.CONTROL_PLANE: (), Size.NODE: node.BINARIES, Size.KWOK: kwok.BINARIES}
_MORE_PORTS = {Size.CONTROL_PLANE: (), Size.NODE: node.PORTS, Size.KWOK: kwok.PORTS}


class Cluster:
    """One development cluster, known by its name to every process on this machine.

    As a context manager it is there for the block, new whatever a process that was killed has left;
    with `up` and `down` it outlives the process.
    """

    def __init__(self, name: str = "demo", size: Size | str = Size.CONTROL_PLANE) -> None:
        self.name = name
        self.size = Size(size)

    @classmethod
    def find(cls, name: str) -> Self:
        """Return the cluster of this name, whatever its size; raise DevError if there is none."""
        known = states.load(name)
        if known is None:
            raise DevError(
                f"There is no cluster named {name}.", f"dev/cluster up --name {name} starts one."
            )
        return cls(name, known.size)

    def __enter__(self) -> Self:
        self.down()
        self.up()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.down()

    # ---- life ----

    def up(self) -> None:
        """Bring the cluster up; return at once if it is up and healthy.

        Raises DevError where it cannot be: what is missing, or which part failed with its log.
        """
        programs = self._prepare_machine()
        with exclusive(paths.cache(), "a cluster that is being set up"):
            if self._already_up():
                return
            self._remove()
            with step(f"Cluster {self.name} ({self.size})"):
                state = self._new_state()
                try:
                    self._start(state, programs)
                except BaseException:
                    self._clear(state)
                    replace(state, failed=True).save()  # its folder stays, for the logs
                    raise

    def down(self) -> None:
        """Stop every program of the cluster and remove all that it left on this machine."""
        with exclusive(paths.cache(), "a cluster that is being set up"):
            self._remove()
        paths.forget_empty_state()

    def exists(self) -> bool:
        """Say whether this machine holds state of the cluster, live or not."""
        return states.load(self.name) is not None

    def health(self) -> dict[str, str]:
        """Return for each component "ready", or in words what is wrong with it."""
        return {
            part.name: _health(part, self._program(part.name))
            for part in self._components(self._state())
        }

    # ---- use ----

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return self._state().kubeconfig

    @property
    def node_address(self) -> str:
        """The address at which pods reach servers on this machine."""
        return network.NODE_ADDRESS if self.size is Size.NODE else network.LOOPBACK

    @property
    def node_name(self) -> str:
        """The name of the one real node."""
        return NODE_NAME

    def kubectl(
        self,
        *arguments: str | Path,
        input: str | None = None,  # noqa: A002 - the name that subprocess.run has
        check: bool = True,
        timeout: float | None = 120,
    ) -> subprocess.CompletedProcess[str]:
        """Run kubectl as administrator and return what it printed.

        Raises DevError with its complaint if it fails and `check` is set.
        """
        command = [
            binaries.path("kubectl"),
            f"--kubeconfig={self.kubeconfig}",
            f"--cache-dir={self._state().folder / 'kubectl'}",
            *arguments,
        ]
        done = subprocess.run(
            command, input=input, capture_output=True, text=True, check=False, timeout=timeout
        )
        if check and done.returncode != 0:
            said = " ".join(str(argument) for argument in arguments)
            raise DevError(f"kubectl {said}: {done.stderr.strip()}")
        return done

    def get(self, *arguments: str) -> Any:
        """Return what `kubectl get … -o json` prints, parsed."""
        return json.loads(self.kubectl("get", *arguments, "-o", "json").stdout)

    def load_images(self, images: Sequence[str]) -> None:
        """Bring images of our Docker daemon to the node, under the names pods ask for."""
        if self.size is not Size.NODE:
            raise DevError(f"Cluster {self.name} has no node that could run images.")
        node.load_images(self._state(), images)

    def tag_image(self, image: str, name: str) -> None:
        """Give an image that the node has another name."""
        node.tag_image(self._state(), image, name)

    def empty_dir(self, pod_uid: str, volume: str) -> Path:
        """Return where an emptyDir volume of a pod lies on this machine."""
        return kubelet.empty_dir(self._state(), pod_uid, volume)

    # ---- faults ----

    def stop(self, component: str, grace: float = 10.0) -> None:
        """End one component as a crash would (`grace` 0) or an orderly stop does."""
        self._program(self._component(component).name).stop(grace)

    def start(self, component: str) -> None:
        """Start a component that was stopped, and return when it is ready."""
        part, folder = self._component(component), self._state().folder
        part.launch(folder)
        part.wait(folder)

    def pause(self, component: str) -> None:
        """Freeze a component: its connections stay open and it answers nothing."""
        self._program(self._component(component).name).send(signal.SIGSTOP)

    def resume(self, component: str) -> None:
        """Let a paused component run on."""
        self._program(self._component(component).name).send(signal.SIGCONT)

    def log(self, component: str) -> Path:
        """Return the path of a component's log."""
        return self._program(component).log

    # ---- inside ----

    def _state(self) -> State:
        state = states.load(self.name)
        if state is None:
            raise DevError(
                f"There is no cluster named {self.name}.",
                f"dev/cluster up --name {self.name} starts one.",
            )
        return state

    def _prepare_machine(self) -> dict[str, Path]:
        with ThreadPoolExecutor() as side_by_side:
            built = side_by_side.submit(binaries.ensure, self._binary_names())
            if self.size is Size.NODE:
                node.check_machine()
            return built.result()

    def _binary_names(self) -> list[str]:
        return [*controlplane.BINARIES, *_MORE_BINARIES[self.size]]

    def _components(self, state: State) -> list[Component]:
        return self._parts(state, binaries.ensure(self._binary_names()))

    def _parts(self, state: State, programs: Mapping[str, Path]) -> list[Component]:
        parts = controlplane.components(state, programs)
        if state.size is Size.NODE:
            parts += node.components(state, programs, self._node_state)
        if state.size is Size.KWOK:
            parts.append(kwok.component(state, programs))
        return parts

    def _component(self, name: str) -> Component:
        parts = {part.name: part for part in self._components(self._state())}
        if name not in parts:
            raise DevError(f"Cluster {self.name} has no {name}.", f"It has: {', '.join(parts)}")
        return parts[name]

    def _program(self, component: str) -> Program:
        return Program(component, states.folder(self.name))

    def _already_up(self) -> bool:
        state = states.load(self.name)
        if state is None or state.failed:
            return False
        ill = {name: said for name, said in self._health_of(state).items() if said != "ready"}
        if ill:
            say(f"Cluster {self.name} is half dead ({'; '.join(ill)}): starting it anew")
            return False
        if state.size is not self.size:
            raise DevError(
                f"Cluster {self.name} is up, but with size {state.size}.",
                f"dev/cluster down --name {self.name} removes it.",
            )
        say(f"Cluster {self.name} ({self.size}) is already up and healthy")
        return True

    def _health_of(self, state: State) -> Mapping[str, str]:
        return Cluster(self.name, state.size).health()

    def _new_state(self) -> State:
        ports = network.free_ports([*controlplane.PORTS, *_MORE_PORTS[self.size]])
        if self.size is Size.NODE:
            node.check_only_one(self.name)
            absent = node.absent_places()
            state = State(self.name, self.size, ports, network.forwarding(), absent)
        else:
            state = State(self.name, self.size, ports)
        state.save()
        return state

    def _start(self, state: State, programs: Mapping[str, Path]) -> None:
        authority = Authority(state.folder / "pki")
        controlplane.prepare(state, authority)
        if self.size is Size.NODE:
            node.prepare(state, authority)
        if self.size is Size.KWOK:
            kwok.prepare(state, authority)
        start_all(self._parts(state, programs), state.folder)
        wait_until("the default service account", self._no_service_account, 30)
        if self.size is Size.KWOK:
            self.kubectl("apply", "-f", "-", input=kwok.nodes())
            self.kubectl("wait", "node", "--all", "--for=condition=Ready", "--timeout=30s")

    def _no_service_account(self) -> str | None:
        done = self.kubectl("get", "serviceaccount", "default", "-n", "default", check=False)
        return None if done.returncode == 0 else done.stderr.strip()

    def _node_state(self) -> str | None:
        done = self.kubectl("get", "node", NODE_NAME, "-o", "json", check=False)
        if done.returncode != 0:
            return done.stderr.strip()
        conditions = json.loads(done.stdout)["status"].get("conditions", [])
        ready = next((item for item in conditions if item["type"] == "Ready"), None)
        if ready is None:
            return "the kubelet has not reported yet"
        return None if ready["status"] == "True" else str(ready["message"])

    def _remove(self) -> None:
        state = states.load(self.name)
        if state is not None and not state.failed:
            with step(f"Remove cluster {self.name}"):
                self._clear(state)
        shutil.rmtree(states.folder(self.name), ignore_errors=True)

    def _clear(self, state: State) -> None:
        # Nothing of the state is kept, so nothing needs to be shut down in good order.
        pids = state.folder / "pids"
        for name in sorted(path.stem for path in pids.glob("*.json")):
            Program(name, state.folder).stop(grace=0)
        if state.size is Size.NODE:
            node.remove_traces(state)


def _health(part: Component, program: Program) -> str:
    if not program.running():
        return "not running"
    return part.probe() or "ready"
