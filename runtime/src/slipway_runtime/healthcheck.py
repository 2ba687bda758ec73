"""The image's HEALTHCHECK: exit 0 if the server on this machine is alive, else 1."""

from __future__ import annotations

import http.client
import os
import sys

_TIMEOUT_SECONDS = 2.0


def main() -> int:
    """Ask the liveness route."""
    port = int(os.environ.get("SLIPWAY_PORT") or "8080")
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT_SECONDS)
    try:
        connection.request("GET", "/v2/health/live")
        return 0 if connection.getresponse().status == http.client.OK else 1
    except (OSError, http.client.HTTPException):
        return 1
    finally:
        connection.close()


if __name__ == "__main__":
    sys.exit(main())
