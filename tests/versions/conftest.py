"""An S3 server on loopback, as `moto` plays it, for remotes and recordings in buckets."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Repo


@dataclass(frozen=True)
class S3Server:
    """A running server; `environment` is what clients need to find it."""

    url: str
    environment: dict[str, str]
    client: Any

    def make_bucket(self, name: str) -> str:
        """Make an empty bucket; returns its URL."""
        self.client.create_bucket(Bucket=name)
        return f"s3://{name}"

    def upload(self, bucket: str, folder: Path, prefix: str = "") -> None:
        """Upload a folder's files."""
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                self.client.put_object(Bucket=bucket, Key=prefix + path.relative_to(folder).as_posix(), Body=path.read_bytes())

    def objects(self, bucket: str) -> dict[str, int]:
        """Sizes of the objects of a bucket by key."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
        return {entry["Key"]: entry["Size"] for page in pages for entry in page.get("Contents", [])}

    def use_as_remote(self, repo: Repo, bucket_url: str) -> None:
        """Make a bucket the default DVC remote of a repository."""
        repo.environment.update(self.environment)
        repo.run("dvc", "remote", "add", "-d", "-f", "storage", bucket_url)
        repo.run("dvc", "remote", "modify", "storage", "endpointurl", self.url)


@pytest.fixture
def s3_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Server]:
    """Start a server for one test; this process and its children find it through the environment."""
    import boto3
    import s3fs
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    environment = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "NO_PROXY": host,
        "no_proxy": host,
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    try:
        yield S3Server(environment["AWS_ENDPOINT_URL"], environment, boto3.client("s3"))
    finally:
        s3fs.S3FileSystem.clear_instance_cache()
        server.stop()
