"""An S3 server of this machine alone, with access keys and bucket policies as a real one has.

It listens on loopback and, while a cluster has its node, on the bridge, where pods reach it.
"""

from __future__ import annotations

import json
import secrets
import shutil
import signal
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from slipway_dev import binaries, network, paths
from slipway_dev.console import step
from slipway_dev.errors import DevError
from slipway_dev.locks import exclusive
from slipway_dev.pki import Authority, pair
from slipway_dev.process import Program

REGION = "us-east-1"
_NO_POLICY = "NoSuchBucketPolicy"
_sdk: Any = boto3  # it has no types


@dataclass(frozen=True)
class Keys:
    """An access key and its secret."""

    access: str
    secret: str


@dataclass(frozen=True)
class _Facts:
    port: int
    tls: bool
    addresses: list[str]
    root: dict[str, str]


class S3Server:
    """One S3 server, known by its name to every process on this machine.

    As a context manager it is there for the block, empty at first, whatever a process that was
    killed has left; with `up` and `down` it outlives the process.
    """

    def __init__(self, name: str = "demo", *, tls: bool = False) -> None:
        self.name = name
        self._tls = tls
        self._folder = paths.state() / f"s3-{name}"
        self._program = Program("s3", self._folder)

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
        """Start the server; do nothing where it runs and listens wherever it should."""
        program = binaries.path("versitygw")
        with exclusive(paths.cache(), "another part that is being set up"):
            if self._program.running() and self._facts().addresses == _addresses():
                return
            with step(f"S3 server {self.name}"):
                self._program.stop()
                self._configure()
                self._launch(program)

    def down(self) -> None:
        """Stop the server and remove its objects and users."""
        with exclusive(paths.cache(), "another part that is being set up"):
            self._program.stop(grace=0)
            shutil.rmtree(self._folder, ignore_errors=True)
        paths.forget_empty_state()

    def running(self) -> bool:
        """Say whether the server runs."""
        return self._program.running()

    # ---- use ----

    @property
    def endpoint(self) -> str:
        """The URL for S3 clients, in pods and on this machine."""
        facts = self._facts()
        return f"{'https' if facts.tls else 'http'}://{facts.addresses[-1]}:{facts.port}"

    @property
    def root(self) -> Keys:
        """The keys that may do everything."""
        return Keys(**self._facts().root)

    @property
    def authority(self) -> Path:
        """The certificate of the authority that a server with TLS is signed by."""
        return self._folder / "pki" / "ca.crt"

    @property
    def log(self) -> Path:
        """The server's log: one line for each request."""
        return self._program.log

    def root_client(self) -> Any:
        """Return a boto3 S3 client that may do everything."""
        return self.client(self.root)

    def client(self, keys: Keys) -> Any:
        """Return a boto3 S3 client with these keys."""
        direct = Config(s3={"addressing_style": "path"}, proxies={}, retries={"max_attempts": 1})
        return _sdk.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name=REGION,
            aws_access_key_id=keys.access,
            aws_secret_access_key=keys.secret,
            verify=str(self.authority) if self._facts().tls else None,
            config=direct,
        )

    def create_user(self, access: str, secret: str) -> Keys:
        """Make a user that may do nothing until a bucket's policy names it."""
        self._administer("create-user", "--access", access, "--secret", secret, "--role", "user")
        return Keys(access, secret)

    def allow_get(self, bucket: str, user: str) -> None:
        """Let a user read the objects of a bucket (s3:GetObject) and no more: not list them."""
        # Reading and writing a policy is two requests: what another adds in between would be lost.
        with exclusive(self._folder, "a bucket's policy that is being changed"):
            self._append_to_policy(
                bucket,
                {
                    "Effect": "Allow",
                    "Principal": {"AWS": [user]},
                    "Action": ["s3:GetObject"],
                    "Resource": [f"arn:aws:s3:::{bucket}/*"],
                },
            )

    # ---- faults ----

    def stop(self) -> None:
        """End the server as a crash would; its objects and users stay."""
        self._program.stop(grace=0)

    def start(self) -> None:
        """Start the server again after `stop`."""
        self._launch(binaries.path("versitygw"))

    def pause(self) -> None:
        """Freeze the server: connections are accepted and nothing is answered."""
        self._program.send(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a paused server run on."""
        self._program.send(signal.SIGCONT)

    # ---- inside ----

    def _append_to_policy(self, bucket: str, statement: dict[str, Any]) -> None:
        client = self.root_client()
        try:
            policy: Any = json.loads(client.get_bucket_policy(Bucket=bucket)["Policy"])
        except ClientError as error:
            response: Any = error.response  # pyright: ignore[reportUnknownMemberType]
            if response["Error"]["Code"] != _NO_POLICY:
                raise
            policy = {"Version": "2012-10-17", "Statement": []}
        policy["Statement"].append(statement)
        client.put_bucket_policy(Bucket=bucket, Policy=json.dumps(policy))

    def _configure(self) -> None:
        known = self._folder / "s3.json"
        if known.exists():
            facts = self._facts()
            port, tls, root = facts.port, facts.tls, facts.root
        else:
            self._folder.mkdir(parents=True)
            self._folder.chmod(0o700)
            port, tls = network.free_port(), self._tls
            root = asdict(Keys(f"root{secrets.token_hex(4)}", secrets.token_urlsafe(24)))
            for part in ("objects", "users"):
                (self._folder / part).mkdir()
            if tls:
                Authority(self._folder / "pki").issue(
                    "server", "s3", hosts=[network.LOOPBACK, "localhost", network.NODE_ADDRESS]
                )
        facts = _Facts(port, tls, _addresses(), root)
        known.write_text(json.dumps(asdict(facts), indent=2))

    def _launch(self, program: Path) -> None:
        facts = self._facts()
        listen = [f"--port={address}:{facts.port}" for address in facts.addresses]
        if facts.tls:
            server = pair(self._folder / "pki", "server")
            listen += [f"--cert={server.certificate}", f"--key={server.key}"]
        self._program.start(
            [
                program,
                *listen,
                f"--region={REGION}",
                "--keep-alive",
                f"--iam-dir={self._folder / 'users'}",
                "posix",
                self._folder / "objects",
            ],
            env={
                "ROOT_ACCESS_KEY": facts.root["access"],
                "ROOT_SECRET_KEY": facts.root["secret"],
            },
        )
        self._program.wait_until("the S3 server answers", self._state, 20)

    def _state(self) -> str | None:
        try:
            self.root_client().list_buckets()
        except Exception as error:  # noqa: BLE001 - botocore raises many kinds while it starts
            return str(error)
        return None

    def _administer(self, *arguments: str) -> None:
        keys = self.root
        command = [binaries.path("versitygw"), "admin", f"--endpoint-url={self.endpoint}"]
        if self._facts().tls:
            command.append("--allow-insecure")
        done = subprocess.run(
            [*command, *arguments],
            env={"ADMIN_ACCESS_KEY": keys.access, "ADMIN_SECRET_KEY": keys.secret},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise DevError(f"S3: {arguments[0]}: {done.stdout.strip()} {done.stderr.strip()}")

    def _facts(self) -> _Facts:
        try:
            return _Facts(**json.loads((self._folder / "s3.json").read_text()))
        except OSError:
            raise DevError(
                f"There is no S3 server named {self.name}.",
                f"dev/cluster s3 up --name {self.name} starts one.",
            ) from None


def _addresses() -> list[str]:
    return [network.LOOPBACK, *([network.NODE_ADDRESS] if network.bridge_exists() else [])]
