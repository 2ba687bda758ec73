"""Requests to a served model through its Service, as any client sends them."""

from __future__ import annotations

import http.client
import json
from dataclasses import dataclass
from typing import Any

from slipway_dev.testbed import Testbed


@dataclass(frozen=True)
class Answer:
    status: int
    headers: http.client.HTTPMessage
    text: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.text)


def send(
    testbed: Testbed, namespace: str, name: str, method: str, path: str, body: Any = None
) -> Answer:
    connection = http.client.HTTPConnection(testbed.service_address(namespace, name), timeout=10)
    headers = {} if body is None else {"Content-Type": "application/json"}
    try:
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        response = connection.getresponse()
        return Answer(response.status, response.headers, response.read())
    finally:
        connection.close()
