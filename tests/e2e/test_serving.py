"""A model that is applied gets served, by pods that are what they should be."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
from contextlib import closing

import pytest
import trustme
from requests_to_model import send
from runtime_kit import onnx_models

from slipway_dev.s3 import S3Server
from slipway_dev.testbed import BUCKET, STORAGE_SECRET, Testbed, is_ready

X = [[1.0, 2.0, 3.0, 4.0], [0.0, 0.0, 0.0, 1.0]]
Y = [[41.0, 51.0], [7.0, 8.0]]  # X W + 1, worked out by hand


@pytest.fixture
def served(testbed: Testbed, namespace: str) -> str:
    artifact = testbed.upload("linear.onnx", onnx_models.linear())
    testbed.apply(testbed.model(namespace, "linear", artifact))
    testbed.cluster.kubectl(
        "wait", "--for=condition=Ready", "mdep/linear", "-n", namespace, "--timeout=60s"
    )
    return artifact.digest


def test_an_applied_model_answers_on_every_protocol_with_its_digest(
    testbed: Testbed, namespace: str, served: str
) -> None:
    version = served.removeprefix("sha256:")[:12]

    predicted = send(testbed, namespace, "linear", "POST", "/predict", X)
    infer = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [2, 4], "data": X}]}
    inferred = send(testbed, namespace, "linear", "POST", "/v2/models/linear/infer", infer)
    metadata = send(testbed, namespace, "linear", "GET", "/v2/models/linear")
    health = send(testbed, namespace, "linear", "GET", "/health")
    metrics = send(testbed, namespace, "linear", "GET", "/metrics")

    assert predicted.json == {"y": Y}
    assert predicted.headers["slipway-model-digest"] == served
    assert inferred.json["model_version"] == version
    assert inferred.json["outputs"][0]["shape"] == [2, 2]
    assert inferred.json["outputs"][0]["data"] == [value for row in Y for value in row]
    assert metadata.json["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}]
    assert health.json["digest"] == served
    assert b"nv_inference_request_success" in metrics.text


def test_a_request_that_does_not_fit_is_told_what_is_wrong(
    testbed: Testbed, namespace: str, served: str
) -> None:
    answer = send(testbed, namespace, "linear", "POST", "/predict", {"x": [[1.0, 2.0]]})

    assert answer.status == 400
    assert "x" in answer.json["error"]
    assert "4" in answer.json["error"]


def test_models_of_text_know_the_letters_of_all_languages(testbed: Testbed, namespace: str) -> None:
    """In the locales that `slipway export` and scikit-learn's converter write into them."""
    model = onnx_models.lower_case("C.UTF-8", "en_US.UTF-8")
    testbed.apply(testbed.model(namespace, "text", testbed.upload("text.onnx", model)))
    testbed.wait_for(namespace, "text", "ready", is_ready)

    answer = send(testbed, namespace, "text", "POST", "/predict", {"text": ["ÄRGER", "МИР"]})

    assert answer.json == {"y0": ["ärger", "мир"], "y1": ["ärger", "мир"]}


def test_status_says_what_is_served_and_where(
    testbed: Testbed, namespace: str, served: str
) -> None:
    status = testbed.get_model(namespace, "linear")["status"]

    assert status["serving"]["digest"] == status["target"]["digest"] == served
    assert status["url"] == f"http://linear.{namespace}.svc"
    assert status["history"][0]["outcome"] == "Good"
    shown = testbed.cluster.kubectl("get", "mdep", "linear", "-n", namespace).stdout
    assert served.removeprefix("sha256:")[:12] in shown


def test_only_fetch_holds_the_storage_credentials(
    testbed: Testbed, namespace: str, served: str
) -> None:
    (pod,) = testbed.cluster.get("pods", "-n", namespace)["items"]

    fetch, serve = pod["spec"]["initContainers"][0], pod["spec"]["containers"][0]
    references = {
        variable["name"]: variable["valueFrom"]["secretKeyRef"]["name"]
        for variable in fetch["env"]
        if "valueFrom" in variable
    }
    assert references["AWS_SECRET_ACCESS_KEY"] == STORAGE_SECRET
    assert not any("AWS" in variable["name"] for variable in serve["env"])
    assert pod["spec"]["automountServiceAccountToken"] is False
    assert serve["securityContext"]["readOnlyRootFilesystem"] is True


_WRITES = """
import sys
from pathlib import Path
for folder in sys.argv[1:]:
    try:
        (Path(folder) / "written").touch()
        print(folder, "can be written")
    except OSError as error:
        print(folder, error.strerror)
"""


def test_a_preferred_provider_that_the_image_lacks_is_passed_over_and_told(
    testbed: Testbed, namespace: str
) -> None:
    preferred = "OpenVINOExecutionProvider"
    artifact = testbed.upload("linear.onnx", onnx_models.linear())
    runtime = {"preferredProviders": [preferred]}
    testbed.apply(testbed.model(namespace, "linear", artifact, runtime=runtime))
    wanted = ("wait", "--for=condition=Ready", "mdep/linear", "-n", namespace, "--timeout=60s")
    testbed.cluster.kubectl(*wanted)

    health = send(testbed, namespace, "linear", "GET", "/health").json
    assert health["providers"] == ["CPUExecutionProvider"]
    assert "this image offers only" in health["passed_over"][preferred]

    # Its engines would have a folder that the pod's user may write, unlike the artifacts.
    folders = ("/var/cache/slipway-engines", "/var/cache/slipway")
    serve = ("exec", "-n", namespace, "deploy/linear", "-c", "serve", "--")
    told = testbed.cluster.kubectl(*serve, "python", "-c", _WRITES, *folders).stdout
    assert told.splitlines() == [
        f"{folders[0]} can be written",
        f"{folders[1]} Read-only file system",
    ]


def test_what_an_engineer_sets_for_one_model_holds_in_its_pod(
    testbed: Testbed, namespace: str
) -> None:
    artifact = testbed.upload("linear.onnx", onnx_models.linear())
    runtime = {
        "logLevel": "WARNING",
        "profiling": True,
        "connections": {"max": 64, "keepAliveSeconds": 1},
        "busyPollMicroseconds": 0,
    }
    testbed.apply(testbed.model(namespace, "linear", artifact, runtime=runtime))
    testbed.wait_for(namespace, "linear", "ready", is_ready)

    # The root file system is read-only, and a profile is written to a file first.
    profile = send(testbed, namespace, "linear", "POST", "/debug/profile?seconds=0.1")
    assert profile.status == 200, profile.text
    assert any(event["cat"] == "Session" for event in profile.json)
    address = testbed.service_address(namespace, "linear")
    with closing(http.client.HTTPConnection(address, timeout=10)) as idle:
        idle.request("GET", "/v2/health/live")
        assert idle.getresponse().read() is not None
        assert idle.sock.recv(1) == b""  # The server is the one that ends it.
    for container in ("fetch", "serve"):
        log = testbed.cluster.kubectl("logs", "-n", namespace, "deploy/linear", "-c", container)
        assert log.stdout == ""


def test_no_credential_is_in_a_log_an_event_or_the_status(
    testbed: Testbed, namespace: str, served: str
) -> None:
    secret = f"secret-of-{testbed.name}-reader"

    told = [
        testbed.cluster.kubectl("logs", "-n", namespace, "deploy/linear", "-c", name).stdout
        for name in ("fetch", "serve")
    ]
    told.append(testbed.cluster.kubectl("get", "events", "-n", namespace, "-o", "yaml").stdout)
    told.append(json.dumps(testbed.get_model(namespace, "linear")))
    told.append(
        testbed.cluster.kubectl("logs", "-n", "slipway-system", "deployment/slipway").stdout
    )

    assert all(told)
    assert not any(secret in text for text in told)


def test_scaling_goes_through_the_scale_subresource(
    testbed: Testbed, namespace: str, served: str
) -> None:
    testbed.cluster.kubectl("scale", "mdep/linear", "-n", namespace, "--replicas=2")
    testbed.wait_for(
        namespace, "linear", "two ready pods", lambda m: m["status"]["readyReplicas"] == 2
    )
    testbed.cluster.kubectl("scale", "mdep/linear", "-n", namespace, "--replicas=0")
    model = testbed.wait_for(
        namespace, "linear", "no pod left", lambda m: m["status"]["replicas"] == 0 and is_ready(m)
    )

    assert model["status"]["conditions"][0]["reason"] == "ScaledToZero"


def test_storage_with_a_private_authority_is_reached_through_its_bundle(
    testbed: Testbed, namespace: str
) -> None:
    with S3Server("e2e-tls", tls=True) as storage:
        content = onnx_models.linear()
        client = storage.root_client()
        client.create_bucket(Bucket=BUCKET)
        client.put_object(Bucket=BUCKET, Key="linear.onnx", Body=content)
        reader = storage.create_user("tls-reader", "secret-of-tls-reader")
        storage.allow_get(BUCKET, reader.access)
        artifact = testbed.upload("linear.onnx", content)
        testbed.apply(
            {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": "corporate-ca", "namespace": namespace},
                "data": {"ca.crt": storage.authority.read_text()},
            },
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": "tls-reader", "namespace": namespace},
                "stringData": {
                    "AWS_ACCESS_KEY_ID": reader.access,
                    "AWS_SECRET_ACCESS_KEY": reader.secret,
                },
            },
        )
        model = testbed.model(namespace, "linear", artifact)
        model["spec"]["model"]["storage"].update(
            endpoint=storage.endpoint,
            secretName="tls-reader",
            caBundle={"configMapName": "corporate-ca"},
        )
        testbed.apply(model)
        testbed.wait_for(namespace, "linear", "ready over TLS", is_ready)

        assert send(testbed, namespace, "linear", "POST", "/predict", X).json == {"y": Y}


def test_with_tls_and_tokens_only_who_has_one_is_answered_and_only_encrypted(
    testbed: Testbed, namespace: str
) -> None:
    authority = trustme.CA()
    host = f"linear.{namespace}.svc"
    made = authority.issue_cert(host)
    certificate = b"".join(part.bytes() for part in made.cert_chain_pems).decode()
    pair = {"tls.crt": certificate, "tls.key": made.private_key_pem.bytes().decode()}
    secrets = {"certificate": pair, "clients": {"tokens": "first\nsecond\n"}}
    for name, data in secrets.items():
        metadata = {"name": name, "namespace": namespace}
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": data}
        testbed.apply(secret)
    runtime = {"tls": {"secretName": "certificate"}, "bearerTokens": {"secretName": "clients"}}
    artifact = testbed.upload("linear.onnx", onnx_models.linear())
    testbed.apply(testbed.model(namespace, "linear", artifact, runtime=runtime))
    model = testbed.wait_for(namespace, "linear", "ready", is_ready)
    assert model["status"]["url"] == f"https://{host}"

    context = ssl.create_default_context()
    authority.configure_trust(context)
    address = testbed.service_address(namespace, "linear").partition(":")[0]

    def ask(token: str | None) -> int:
        connection = http.client.HTTPSConnection(host, 443, context=context, timeout=10)
        # The name is for the certificate; the way is the Service's address.
        connection.sock = context.wrap_socket(
            socket.create_connection((address, 443), 10), server_hostname=host
        )
        try:
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            connection.request("POST", "/predict", json.dumps(X), headers)
            return connection.getresponse().status
        finally:
            connection.close()

    assert (ask("second"), ask("third"), ask(None)) == (200, 401, 401)
    assert send(testbed, namespace, "linear", "POST", "/predict", X).status == 403
    assert send(testbed, namespace, "linear", "GET", "/metrics").status == 200
