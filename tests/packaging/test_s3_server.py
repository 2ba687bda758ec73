"""The S3 server of the tests itself: what would otherwise fail somewhere else, now and then."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from slipway_dev.s3 import S3Server


def test_rights_that_are_given_at_once_are_all_given(server: S3Server, client: Any) -> None:
    client.create_bucket(Bucket="shared")
    client.put_object(Bucket="shared", Key="m", Body=b"content")
    users = [server.create_user(f"reader-{n}", f"secret-of-{n}") for n in range(8)]
    with ThreadPoolExecutor(len(users)) as pool:
        list(pool.map(lambda user: server.allow_get("shared", user.access), users))
    for user in users:
        answer = server.client(user).get_object(Bucket="shared", Key="m")
        assert answer["Body"].read() == b"content"


def test_what_a_killed_run_has_left_is_gone_at_the_next() -> None:
    left = S3Server("left")
    left.up()
    left.root_client().create_bucket(Bucket="models")
    left.create_user("reader", "its-secret")
    with S3Server("left") as server:
        assert server.root_client().list_buckets()["Buckets"] == []
        server.create_user("reader", "another-secret")
