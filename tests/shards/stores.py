"""An S3-compatible server for tests: moto's, on a port of its own, with an empty bucket."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from unittest.mock import patch

S3_ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "nobody",
    "AWS_SECRET_ACCESS_KEY": "nothing",
    "AWS_DEFAULT_REGION": "us-east-1",
}


@contextlib.contextmanager
def s3_bucket() -> Iterator[str]:
    """`s3://…` of an empty bucket, with the environment set as `storage.folder` documents it."""
    import s3fs
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        with patch.dict(os.environ, {**S3_ENVIRONMENT, "AWS_ENDPOINT_URL": f"http://{host}:{port}"}):
            s3fs.S3FileSystem.clear_instance_cache()  # one that another test made speaks to another server
            bucket = f"bucket-{secrets.token_hex(4)}"  # moto keeps its buckets as long as the process lives
            s3fs.S3FileSystem().mkdir(bucket)
            yield f"s3://{bucket}"
    finally:
        s3fs.S3FileSystem.clear_instance_cache()
        server.stop()
