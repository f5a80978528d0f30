"""Classify every video of an S3 bucket. Usage: python bucket.py BUCKET_URL OUT.jsonl [SERVER]

`BUCKET_URL` is an endpoint that lists with ListObjectsV2 and needs no signature: a public bucket, or a proxy that
signs: https://my-bucket.s3.eu-west-1.amazonaws.com. Needs `pip install vidtr-serve`.
Several videos are under way at a time; what OUT.jsonl already has is not sent again.
"""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote
from xml.etree import ElementTree

import httpx

from service.client import AsyncClient, VideoError, VidtrError

AT_A_TIME = 4
SUFFIXES = (".mp4", ".mov", ".mkv", ".webm", ".avi", ".ts")
NAMESPACE = {"s3": "http://s3.amazonaws.com/doc/2006-03-01/"}


async def keys(bucket: httpx.AsyncClient) -> AsyncIterator[str]:
    """Keys of all videos, page by page."""
    query = {"list-type": "2"}
    while True:
        page = ElementTree.fromstring((await bucket.get("/", params=query)).raise_for_status().content)  # noqa: S314
        for key in page.iterfind("s3:Contents/s3:Key", NAMESPACE):
            if key.text and key.text.lower().endswith(SUFFIXES):
                yield key.text
        token = page.findtext("s3:NextContinuationToken", None, NAMESPACE)
        if token is None:
            return
        query["continuation-token"] = token


async def answer(bucket: httpx.AsyncClient, client: AsyncClient, key: str) -> dict[str, object]:
    """One line of the output."""
    video = (await bucket.get("/" + quote(key))).raise_for_status().content
    try:
        # The key names the upload, so that one that is sent twice becomes one job.
        result = await client.classify(video, top_k=3, attention="none", idempotency_key=f"bucket:{key}"[:255])
    except VideoError as error:
        return {"key": key, "error": error.code, "detail": error.detail}
    return {"key": key, "predictions": [each.model_dump() for each in result.predictions]}


class Output:
    """The file of answers, one JSON object a line."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.keys = {json.loads(line)["key"] for line in path.read_text().splitlines()} if path.exists() else set()

    def write(self, line: dict[str, object]) -> None:
        with self._path.open("a") as file:
            file.write(json.dumps(line) + "\n")


async def main(bucket_url: str, out: str, server: str = "http://localhost:8080") -> int:
    output = Output(Path(out))
    places = asyncio.Semaphore(AT_A_TIME)
    failed = 0

    async with httpx.AsyncClient(base_url=bucket_url, timeout=60) as bucket, AsyncClient(server) as client:

        async def work(key: str) -> None:
            nonlocal failed
            try:
                output.write(await answer(bucket, client, key))
            except (VidtrError, httpx.HTTPError) as error:
                # Not written: the next run tries it again.
                failed += 1
                print(f"{key}: {error}", file=sys.stderr)
            finally:
                places.release()

        async with asyncio.TaskGroup() as group:
            async for key in keys(bucket):
                if key not in output.keys:
                    await places.acquire()
                    group.create_task(work(key))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main(*sys.argv[1:])))
