"""What the demonstration does and shows, step by step; each step raises when it did not work."""

from __future__ import annotations

import http.client
import json
import time
from typing import Any

import numpy as np

from slipway_dev.console import results, step
from slipway_dev.demo.classifier import Classifier, train
from slipway_dev.errors import DevError
from slipway_dev.testbed import Artifact, Testbed, condition, is_ready, is_stalled
from slipway_dev.traffic import SteadyTraffic, Tally

NAMESPACE, NAME = "demo", "fraud"
_SAMPLE = [0.5, -1.25, 3.0, 0.75]
_REPLICAS = 2


class Story:
    """Serve, roll out under load, and survive a wrong digest."""

    def __init__(self, testbed: Testbed) -> None:
        self._testbed = testbed

    def tell(self) -> None:
        """Run the whole demonstration.

        Raises:
            DevError: a step did not end as it must.
        """
        first, second = train(1), train(2)
        self._testbed.create_namespace(NAMESPACE)
        one = self._testbed.upload(f"{NAME}/v1/model.onnx", first.to_onnx())
        self._chapter("1. Serve a model that is pinned by its digest")
        self._serve(one, first)
        self._chapter("2. Roll out a new digest while requests keep coming")
        two = self._testbed.upload(f"{NAME}/v2/model.onnx", second.to_onnx())
        self._roll_out(one, two, second)
        self._chapter("3. Ask for a digest that the artifact does not have")
        self._refuse(two)
        self._mend(two)

    # ---- chapters ----

    def _serve(self, artifact: Artifact, reference: Classifier) -> None:
        self._apply(artifact)
        with step("kubectl wait --for=condition=Ready"):
            self._testbed.cluster.kubectl(
                "wait", "--for=condition=Ready", f"modeldeployment/{NAME}", "-n", NAMESPACE,
                "--timeout=120s",
            )  # fmt: skip
        self._show_model()
        self._predict(reference, artifact)

    def _roll_out(self, old: Artifact, new: Artifact, reference: Classifier) -> None:
        with self._traffic() as traffic:
            self._wait_for_answers(traffic, old, 100)
            self._apply(new)
            self._watch_until_ready()
            self._wait_for_answers(traffic, new, 200)
        self._show_tally(traffic.tally)
        self._predict(reference, new)

    def _refuse(self, good: Artifact) -> None:
        wrong = Artifact(good.uri, "sha256:" + "0" * 64)
        with self._traffic() as traffic:
            began = time.monotonic()
            self._apply(wrong)
            model = self._testbed.wait_for(
                NAMESPACE, NAME, "told that the digest is wrong",
                is_stalled,
            )  # fmt: skip
            seconds = time.monotonic() - began
            # Some more answers, now that it is decided.
            self._wait_for_answers(traffic, good, traffic.tally.by_digest[good.digest] + 100)
        ready, failure = condition(model, "Ready"), model["status"]["lastFailure"]
        results.print(f"After {seconds:.1f} s the status says:")
        results.print(f"  Ready   {ready['status']}: {ready['reason']}", markup=False)
        results.print(f"  {ready['message']}", markup=False)
        results.print(
            f"  lastFailure: {failure['reason']} in container {failure['container']}, "
            f"exit code {failure['exitCode']}",
            markup=False,
        )
        self._show_tally(traffic.tally)
        if set(traffic.tally.by_digest) != {good.digest}:
            raise DevError("Something other than the good digest answered.")

    def _mend(self, good: Artifact) -> None:
        self._apply(good)
        self._testbed.wait_for(NAMESPACE, NAME, "ready again", is_ready)
        results.print("Asked for the good digest again: Ready.")

    # ---- parts ----

    def _chapter(self, title: str) -> None:
        results.print(f"\n[bold]{title}[/bold]")

    def _apply(self, artifact: Artifact) -> None:
        self._testbed.apply(self._testbed.model(NAMESPACE, NAME, artifact, replicas=_REPLICAS))
        results.print(f"kubectl apply: {NAME} with digest {artifact.digest[:19]}…")

    def _show_model(self) -> None:
        shown = self._testbed.cluster.kubectl("get", "modeldeployments,pods", "-n", NAMESPACE)
        results.print(shown.stdout, markup=False)

    def _address(self) -> str:
        return self._testbed.service_address(NAMESPACE, NAME)

    def _traffic(self) -> SteadyTraffic:
        body = json.dumps({"features": _SAMPLE}).encode()
        return SteadyTraffic(self._address(), "/predict", body)

    def _predict(self, reference: Classifier, artifact: Artifact) -> None:
        expected = reference.predict(np.array([_SAMPLE], np.float32))[0].tolist()
        connection = http.client.HTTPConnection(self._address(), timeout=10)
        try:
            connection.request("POST", "/predict", json.dumps({"features": _SAMPLE}))
            response = connection.getresponse()
            answer = json.loads(response.read())
            digest = response.headers["slipway-model-digest"]
        finally:
            connection.close()
        results.print(f"POST /predict  {json.dumps({'features': _SAMPLE})}", markup=False)
        results.print(f"  answered  {json.dumps(answer)}", markup=False)
        results.print(f"  expected  {json.dumps({'probabilities': expected})}", markup=False)
        results.print(f"  by        {digest}", markup=False)
        if digest != artifact.digest or not np.allclose(
            answer["probabilities"], expected, atol=1e-5
        ):
            raise DevError("The answer is not the expected one.")

    def _wait_for_answers(self, traffic: SteadyTraffic, artifact: Artifact, count: int) -> None:
        """Let the traffic run until that artifact has given so many answers."""
        deadline = time.monotonic() + 60
        while (answered := traffic.tally.by_digest[artifact.digest]) < count:
            if time.monotonic() > deadline:
                raise DevError(
                    f"Only {answered} of {count} answers by {artifact.digest}: {traffic.tally}"
                )
            time.sleep(0.1)

    def _watch_until_ready(self) -> None:
        """Print every change of the status until the rollout is complete."""
        began = time.monotonic()
        last = ""

        def ready(model: dict[str, Any]) -> bool:
            nonlocal last
            now = condition(model, "Ready")
            serving = model["status"].get("serving", {}).get("version", "nothing")
            line = f"Ready={now.get('status')} {now.get('reason')}: {now.get('message')}"
            if line != last:
                last = line
                seconds = time.monotonic() - began
                results.print(f"  {seconds:5.1f} s  serving {serving}  {line}", markup=False)
            return is_ready(model)

        self._testbed.wait_for(NAMESPACE, NAME, "rolled out", ready, timeout=120)

    def _show_tally(self, tally: Tally) -> None:
        results.print(f"{tally.sent} requests sent, {tally.failed} failed", markup=False)
        for digest, count in tally.by_digest.items():
            results.print(f"  {count:6d} answered by {digest[:19]}…", markup=False)
        for failure, count in tally.failures.items():
            results.print(f"  {count:6d} failed: {failure}", markup=False)
        if tally.failed:
            raise DevError(f"{tally.failed} of {tally.sent} requests failed.")
