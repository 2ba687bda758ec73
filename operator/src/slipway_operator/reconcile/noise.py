"""Strips from the cluster's messages what must not go into a status."""

import re

_BACK_OFF = re.compile(r'^Back-off pulling image "[^"]*"(: )?')
_PULL_ERROR = re.compile(r"^ErrImagePull: ")
_LOCAL_PORT = re.compile(r":\d+->")
_QUERY = re.compile(r"(https?://[^\s?\"'<>]+)\?[^\s\"'<>,\]]*")
_CONTAINER_ID = re.compile(r"(?<!sha256:)\b[0-9a-f]{64}\b")


def without_noise(message: str) -> str:
    """The message without what differs between attempts, so that the status stays the same.

    And without the query of an address: that of a presigned one is a credential.
    """
    for noise, instead in (
        (_BACK_OFF, ""),
        (_PULL_ERROR, ""),
        (_LOCAL_PORT, "->"),
        (_QUERY, r"\1"),
    ):
        message = noise.sub(instead, message)
    return _CONTAINER_ID.sub("(id)", message)
