"""The image's HEALTHCHECK: exit 0 if the server on this machine is alive, else 1."""

from __future__ import annotations

import http.client
import os
import sys

_TIMEOUT_SECONDS = 2.0
_ON_ALL = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - to be asked there


def main() -> int:
    """Ask the liveness route."""
    port = int(os.environ.get("SLIPWAY_PORT", "").strip() or "8080")
    host = os.environ.get("SLIPWAY_HOST", "").strip()
    connection = http.client.HTTPConnection(_ON_ALL.get(host, host), port, timeout=_TIMEOUT_SECONDS)
    try:
        connection.request("GET", "/v2/health/live")
        return 0 if connection.getresponse().status == http.client.OK else 1
    except (OSError, http.client.HTTPException):
        return 1
    finally:
        connection.close()


if __name__ == "__main__":
    sys.exit(main())
