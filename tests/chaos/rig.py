"""A service of several real processes that can be killed, stopped and cut off, and a load that keeps account."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

import httpx

from service.local.process import ServerProcess, free_ports
from service.settings import Settings
from tests.fixtures.link import Link
from tests.fixtures.redis_sets import Server

PREFIX = "chaos"
LEASE_S = 2.0
JOBS = int(os.environ.get("VIDTR_CHAOS_JOBS", "60"))
RATE_PER_S = 12.0
# A machine that does other work beside may take a second for each job.
PATIENCE_S = 120.0 + JOBS


class Service:
    """API processes and workers over one Redis."""

    def __init__(
        self,
        directory: Path,
        *,
        apis: int,
        workers: int,
        relayed: Literal["worker", "api"] | None = None,
        delays_s: tuple[float, ...] = (1.0,),
        redis: Path | None = None,
        redis_url: str | None = None,
        **settings: Any,
    ) -> None:
        """The first process of the kind `relayed` reaches Redis through `link`, which can be cut.

        `redis` is the server's binary where any one will not do, and `redis_url` the address of servers that run;
        `settings` go before those of the rig.
        """
        self._settings = settings
        self.directory = directory
        self.redis = Server(directory / "redis", redis)
        self._others = redis_url
        self.link = Link(self.redis.port, delays_s=delays_s)
        self._relay_url = f"redis://127.0.0.1:{self.link.port}/0"
        self.ports = free_ports(apis)
        self.logs = [directory / f"worker-{i}.log" for i in range(workers)]
        self._workers = [
            self._process("worker", self.logs[i], relayed=relayed == "worker" and i == 0) for i in range(workers)
        ]
        self._apis = [
            self._process("api", directory / f"api-{port}.log", relayed=relayed == "api" and i == 0, port=port)
            for i, port in enumerate(self.ports)
        ]

    def _process(self, role: str, log: Path, *, relayed: bool, port: int = 0) -> ServerProcess:
        of_the_rig: dict[str, Any] = {
            "redis_url": self._relay_url if relayed else self._others or self.redis.url,
            "redis_prefix": PREFIX,
            "port": port,
            "worker_lease_s": LEASE_S,
            "torch_threads": 1,
            "decode_workers": 1,
            "reservation_ttl_s": 3.0,
            "result_ttl_s": 600,
        }
        settings = Settings(_env_file=None, **{**of_the_rig, **self._settings})
        return ServerProcess(
            [sys.executable, "-m", "service.cli.main", role],
            name=f"the {role}",
            log=log,
            environment=settings.child_environment(log.with_suffix(".secrets")),
        )

    @contextlib.contextmanager
    def running(self) -> Iterator[Service]:
        """Start everything, stop everything."""
        try:
            if self._others is None:
                self.redis.start()
            for process in (*self._workers, *self._apis):
                process.start()
            for port, process in zip(self.ports, self._apis, strict=True):
                process.wait_until(lambda port=port: _ready(port), 90)  # type: ignore[misc]
            for number, process in enumerate(self._workers):
                process.wait_until(lambda number=number: "serving" in self.logs[number].read_text(), 90)  # type: ignore[misc]
            yield self
        finally:
            for process in (*self._apis, *self._workers):
                process.stop(25)
            self.link.close()
            self.redis.stop()

    def worker_with_work(self) -> int:
        """Process id of a worker that holds clips now."""
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            for key in self.redis.client.scan_iter(f"{PREFIX}:clips:*"):
                for consumer in self.redis.client.xinfo_consumers(key, "workers"):
                    if consumer["pending"]:
                        return int(re.sub(r".*-(\d+)-[0-9a-f]{8}", r"\1", consumer["name"].decode()))
        raise AssertionError("no worker ever held a clip")

    def wait_until_scored(self) -> None:
        """Until one more job has succeeded than before."""
        before = self._succeeded()
        end = time.monotonic() + PATIENCE_S
        while self._succeeded() == before:
            assert time.monotonic() < end, "no job succeeded any more"
            time.sleep(0.02)

    def _succeeded(self) -> int:
        return sum(log.read_text().count('"job_succeeded"') for log in self.logs)

    def held_by(self, pid: int) -> int:
        """Clips that a worker's consumers hold."""
        return sum(
            consumer["pending"]
            for key in self.redis.client.scan_iter(f"{PREFIX}:clips:*")
            for consumer in self.redis.client.xinfo_consumers(key, "workers")
            if f"-{pid}-" in consumer["name"].decode()
        )

    def restart_worker(self, pid: int) -> None:
        """Start the worker that had this process id again, keeping its log, and wait until it serves."""
        end = time.monotonic() + PATIENCE_S
        # A process that was killed may still be ending.
        while not (ended := [number for number, process in enumerate(self._workers) if process.pid is None]):
            assert time.monotonic() < end, f"worker {pid} goes on"
            time.sleep(0.02)
        for number in ended:
            process = self._workers[number]
            process.stop(0)
            kept = self.logs[number].with_suffix(f".{pid}.log")
            self.logs[number].rename(kept)
            self.logs.append(kept)
            process.start()
            process.wait_until(lambda log=self.logs[number]: "serving" in log.read_text(), 90)  # type: ignore[misc]

    def kill_api(self, number: int) -> None:
        """kill -9 of one API process."""
        pid = self._apis[number].pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        self._apis[number].stop(0)

    def start_api(self, number: int) -> None:
        """Start it again at the same port."""
        self._apis[number].start()

    def finished_twice(self) -> int:
        """Jobs that the workers' logs report as finished more than once."""
        finished = Counter(
            json.loads(line)["job"]
            for log in self.logs
            for line in log.read_text().splitlines()
            if '"job_succeeded"' in line or '"job_failed"' in line
        )
        return sum(count > 1 for count in finished.values())


def _ready(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/health/ready", timeout=2).is_success
    except httpx.TransportError:
        return False


@dataclass
class Account:
    """What became of the jobs of a load."""

    ids: dict[str, set[str]] = field(default_factory=dict)
    promised: set[str] = field(default_factory=set)
    """jobs of a 202"""
    taken_at: list[float] = field(default_factory=list)
    """when an upload was taken, by the monotonic clock"""
    states: Counter[str] = field(default_factory=Counter)
    problems: Counter[str] = field(default_factory=Counter)
    gave_up: int = 0

    @property
    def accepted(self) -> int:
        """Requests that were told of a job."""
        return sum(bool(ids) for ids in self.ids.values())

    @property
    def lost(self) -> int:
        """Accepted jobs that the service knows nothing of any more."""
        return self.states["lost"]

    @property
    def unfinished(self) -> int:
        """Accepted jobs that had not ended when patience did."""
        return self.states["unfinished"]

    @property
    def twice(self) -> int:
        """Requests whose repetitions made more than one job."""
        return sum(len(ids) > 1 for ids in self.ids.values())

    def line(self, scenario: str, finished_twice: int) -> str:
        """One line for a person."""
        return (
            f"{scenario}: accepted {self.accepted}, completed {self.states['succeeded']}, "
            f"failed with cause {self.states['failed'] + self.states['expired']}, lost {self.lost}, "
            f"unfinished {self.unfinished}, "
            f"answered twice {self.twice + finished_twice}; on the way: {dict(self.problems) or 'no trouble'}"
        )


class Load:
    """Open loop: requests start at a steady rate whatever the answers do, and repeat with their keys until taken."""

    def __init__(
        self,
        ports: list[int],
        body: bytes,
        jobs: int = JOBS,
        *,
        rate_per_s: float = RATE_PER_S,
        follow_answers: bool = True,
    ) -> None:
        """Without `follow_answers` a 200 is the end: nothing is promised of its job."""
        self._ports = ports
        self._body = body
        self._jobs = jobs
        self._rate_per_s = rate_per_s
        self._follow_answers = follow_answers
        self.account = Account()
        self.started = 0

    async def run(self) -> Account:
        """Send everything and follow every job to its end."""
        async with httpx.AsyncClient(timeout=httpx.Timeout(40), limits=httpx.Limits(max_connections=200)) as client:
            async with asyncio.TaskGroup() as group:
                for number in range(self._jobs):
                    group.create_task(self._one(client, number))
                    self.started = number + 1
                    await asyncio.sleep(1 / self._rate_per_s)
        return self.account

    async def _one(self, client: httpx.AsyncClient, number: int) -> None:
        key = uuid4().hex
        ids = self.account.ids.setdefault(key, set())
        headers = {"Idempotency-Key": key, "Content-Type": "video/mp4"}
        if number % 2:
            headers["Prefer"] = "respond-async"
        end = time.monotonic() + PATIENCE_S
        tries = number
        while time.monotonic() < end:
            port = self._ports[tries % len(self._ports)]
            tries += 1
            try:
                answer = await client.post(f"http://127.0.0.1:{port}/v1/classify", content=self._body, headers=headers)
            except httpx.TransportError as error:
                self.account.problems[type(error).__name__] += 1
                await asyncio.sleep(0.3)
                continue
            if answer.status_code in (200, 202):
                ids.add(answer.json()["id"])
                self.account.taken_at.append(time.monotonic())
                if answer.status_code == 202:
                    self.account.promised.add(answer.json()["id"])
                elif not self._follow_answers:
                    self.account.states[answer.json()["status"]] += 1
                    return
                break
            self.account.problems[f"{answer.status_code} {answer.json()['code']}"] += 1
            assert answer.status_code in (409, 503, 504), answer.text
            await asyncio.sleep(0.3)
        else:
            self.account.gave_up += 1
            return
        self.account.states[await self._followed(client, next(iter(ids)), end, tries)] += 1

    async def states_of(self, jobs: set[str]) -> Counter[str]:
        """What the service says of some jobs in the end: all that it promised must still be there."""
        async with httpx.AsyncClient(timeout=httpx.Timeout(40)) as client:
            end = time.monotonic() + PATIENCE_S
            return Counter([await self._followed(client, job, end, 0) for job in jobs])

    async def _followed(self, client: httpx.AsyncClient, job: str, end: float, tries: int) -> str:
        while time.monotonic() < end:
            tries += 1
            try:
                answer = await client.get(f"http://127.0.0.1:{self._ports[tries % len(self._ports)]}/v1/jobs/{job}")
            except httpx.TransportError:
                await asyncio.sleep(0.3)
                continue
            if answer.status_code == 200:
                body = answer.json()
                if body["status"] == "succeeded" or (body["status"] in ("failed", "expired") and body.get("error")):
                    return str(body["status"])
            elif answer.status_code != 503:
                return "lost"
            await asyncio.sleep(0.2)
        return "unfinished"
