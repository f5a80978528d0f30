"""The API whose decode processes are taken over, or are not shut in: what callers and operators hear of it.

API and worker are processes beside a Redis with a password; uploads that are programs run where others are decoded.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from service.local.process import LocalServerError, ServerProcess, free_ports
from service.local.redis import LocalRedis
from testing.program import upload
from tests.fixtures import access_list, bare_machine, evil_worker
from tests.fixtures.access_list import restricted
from tests.fixtures.evil_worker import program
from tests.fixtures.servers import SHIPPED_REPOSITORY

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="decode processes are shut in on Linux only")

START_S = 120
STOP_S = 30
CANARY = "whsec_" + 12 * "Y2Fu"

# A report that could be true, of clips that are black; programs change it.
HONEST = """
spec = json.loads(task.partition(b"\\n")[0])
shape = [spec["frames"], spec["height"], spec["width"], 3]
with clips.open("r+b") as file:
    file.write(bytes(shape[0] * shape[1] * shape[2] * 3))
video = dict(
    duration_s=1.0, width=64, height=64, fps=25.0, container="mp4", codec="h264", rotation=0, frames_decoded=shape[0]
)
window = dict(start_s=0.0, end_s=1.0, times_s=[0.0] * shape[0])
decoded = dict(
    video=video, coverage=1.0, windows=[window], crops=1, clip_shape=shape, warnings=[], decode_ms=1.0
)
report = dict(decoded=decoded)
"""
# All of its process, and of those before it, that a program can get at.
LOOK = """
found = [str(dict(os.environ))]
for place in ("/proc/self/environ", f"/proc/{os.getppid()}/environ", "/proc/1/environ", "/proc/self/maps"):
    try:
        with open(place, "rb") as file:
            found.append(str(file.read()))
    except OSError as problem:
        found.append(str(problem))
for number in range(64):
    try:
        found.append(str(os.pread(number, 1 << 16, 0)))
    except OSError:
        pass
found = " ".join(found).replace(str(upload), "")
"""
# Says a report by itself, so that it runs on when the report is read.
TAKE_BACK = """
frame = sys._getframe()
while "control" not in frame.f_locals:
    frame = frame.f_back
said = json.dumps(report).encode()
said = struct.pack("!Q", len(said)) + said
os.write(frame.f_locals["control"], said)
with clips.open("r+b") as file:
    file.truncate(0)
time.sleep(60)
"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Of API and worker, which runs."""
    with LocalRedis(tmp_path_factory.mktemp("redis"), persist=False) as redis:
        variables = {
            **os.environ,
            "VIDTR_REDIS_URL": restricted(redis.url),
            "VIDTR_MODEL_REPOSITORY": str(SHIPPED_REPOSITORY),
            "VIDTR_WEBHOOK_SECRET": CANARY,
            "VIDTR_TORCH_THREADS": "1",
            "VIDTR_DECODE_WORKERS": "2",
            "VIDTR_DECODE_CRASHES_PER_CALLER": "0",
        }
        command = [sys.executable, "-m", "service.cli.main", "worker"]
        worker = ServerProcess(
            command, name="the worker", log=tmp_path_factory.mktemp("worker") / "log", environment=variables
        )
        worker.start()
        try:
            yield variables
        finally:
            worker.stop(STOP_S)


@contextmanager
def serving(
    environment: dict[str, str], log: Path, *prepare: str, ready: str = "model", **settings: str
) -> Iterator[httpx.Client]:
    """An API whose decode processes are prepared so; raises LocalServerError where it does not start."""
    [port] = free_ports(1)
    api = ServerProcess(
        [sys.executable, "-m", "tests.e2e.altered_api", *prepare],
        name="the api",
        log=log,
        environment={**environment, "VIDTR_PORT": str(port), **settings},
    )
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:

        def answers() -> bool:
            try:
                return client.get("/health/ready", params={"check": ready}).is_success
            except httpx.TransportError:
                return False

        try:
            api.start()
            api.wait_until(answers, START_S)
            yield client
        finally:
            api.stop(STOP_S)


def named(prepare: Callable[..., object]) -> str:
    return f"{prepare.__module__}:{prepare.__name__}"


@pytest.fixture(scope="module")
def evil(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """An API with a sandbox, in which uploads that are programs run."""
    log = tmp_path_factory.mktemp("evil") / "log"
    with serving(environment, log, named(evil_worker.prepare_evil), VIDTR_DECODE_SANDBOX="require") as client:
        yield client


def sent(client: httpx.Client, folder: Path, source: str) -> httpx.Response:
    return upload(client, program(folder / "program.mp4", source))


def crashed(answer: httpx.Response) -> bool:
    return (answer.status_code, answer.json().get("code")) == (422, "decoder_crash")


def test_a_report_that_could_be_true_is_believed(evil: httpx.Client, tmp_path: Path) -> None:
    answer = sent(evil, tmp_path, HONEST)
    assert answer.status_code == 200, answer.text
    assert answer.json()["video"]["duration_s"] == 1.0


@pytest.mark.parametrize(
    "lie",
    [
        'decoded["windows"] = [window] * 50',
        'decoded["crops"] = 3',
        'decoded["clip_shape"] = [10**6] * 4',
        'video["duration_s"] = float("nan")',
        'video["width"] = 10**30',
        'window["times_s"] = [1e300] * shape[0]',
        'decoded["warnings"] = [dict(code="you_have_won", detail="")]',
        'decoded["coverage"] = "all"',
        "report = dict(decoded=[1])",
        'report = dict(error=dict(code="unauthorized", detail="secret"))',
        'report = dict(error=dict(code="undecodable", detail=dict(a=1)))',
        'report = dict(error=dict(code="undecodable", detail="", retry_after_s="soon"))',
        'report = dict(error=dict(code="undecodable", detail="x" * (1 << 20)))',
        "report = {}",
        "raise ValueError",
        "os.kill(os.getpid(), 9)",
    ],
)
def test_a_cell_that_lies_fails_its_own_upload_alone(evil: httpx.Client, clip: Path, tmp_path: Path, lie: str) -> None:
    assert crashed(sent(evil, tmp_path, HONEST + lie))
    assert upload(evil, clip).status_code == 200


def test_no_answer_to_a_program_holds_a_secret_of_the_api(evil: httpx.Client, tmp_path: Path) -> None:
    say = 'report = dict(error=dict(code="undecodable", detail=found[{start}:{start} + 2000]))'
    told = []
    for start in range(0, 20_000, 2000):
        answer = sent(evil, tmp_path, LOOK + say.format(start=start))
        assert (answer.status_code, answer.json()["code"]) == (422, "undecodable"), answer.text
        told.append(answer.text + str(answer.headers))
    everything = "".join(told)
    assert "OPENBLAS_NUM_THREADS" in everything
    for secret in (CANARY, access_list.PASSWORD + "@", f":{access_list.PASSWORD}", "VIDTR_"):
        assert secret not in everything


@pytest.mark.slow
def test_clips_that_are_taken_back_fail_their_upload_alone(
    environment: dict[str, str], clip: Path, tmp_path: Path
) -> None:
    prepare = named(bare_machine.prepare_evil_on_a_bare_machine)
    with serving(environment, tmp_path / "log", prepare, VIDTR_DECODE_SANDBOX="best_effort") as client:
        answers: list[httpx.Response] = []
        # The sandbox worker may be the slower one; then its clips have been read already, and are scored.
        while not any(map(crashed, answers)) and len(answers) < 20:
            answers.append(sent(client, tmp_path, HONEST + TAKE_BACK))
        assert crashed(answers[-1])
        assert all(answer.status_code == 200 for answer in answers[:-1])
        assert upload(client, clip).status_code == 200


def layers(client: httpx.Client) -> dict[str, float]:
    """What the metrics say of each layer of the sandbox."""
    lines = client.get("/metrics").text.splitlines()
    samples = (line.rpartition(" ") for line in lines if line.startswith("vidtr_sandbox_layer{"))
    return {name.split('"')[1]: float(value) for name, _, value in samples}


def test_an_api_that_loses_its_sandbox_is_not_ready_and_names_the_check(
    environment: dict[str, str], clip: Path, tmp_path: Path
) -> None:
    bare = tmp_path / "bare"
    prepare = (named(bare_machine.prepare_until), str(bare))
    # A process for each upload: those that were made before are soon used up.
    required = {"VIDTR_DECODE_SANDBOX": "require", "VIDTR_DECODE_ISOLATION": "upload"}
    with serving(environment, tmp_path / "log", *prepare, **required) as client:
        assert upload(client, clip).status_code == 200
        assert client.get("/health/ready").json()["checks"]["sandbox"] == "ok"
        assert (layers(client)["landlock"], layers(client)["seccomp"]) == (1, 1)
        bare.touch()
        answers = [upload(client, clip) for _ in range(5)]
        assert (answers[-1].status_code, answers[-1].json()["code"]) == (500, "sandbox_missing")
        ready = client.get("/health/ready")
        assert ready.status_code == 503
        assert ready.json()["checks"] | {"sandbox": ""} == {
            "redis": "ok",
            "durability": "ok",
            "model": "ok",
            "backend": "ok",
            "process": "ok",
            "sandbox": "",
        }
        assert "seccomp" in ready.json()["checks"]["sandbox"]
        assert (layers(client)["landlock"], layers(client)["seccomp"]) == (0, 0)
        assert client.get("/health/live").status_code == 200


def test_where_a_sandbox_is_not_required_the_metrics_say_that_there_is_none(
    environment: dict[str, str], clip: Path, tmp_path: Path
) -> None:
    prepare = named(bare_machine.prepare_on_a_bare_machine)
    with serving(environment, tmp_path / "log", prepare, VIDTR_DECODE_SANDBOX="best_effort") as client:
        assert upload(client, clip).status_code == 200
        assert client.get("/health/ready").status_code == 200
        assert (layers(client)["landlock"], layers(client)["seccomp"]) == (0, 0)


def test_an_api_that_others_reach_does_not_start_without_a_sandbox(environment: dict[str, str], tmp_path: Path) -> None:
    prepare = named(bare_machine.prepare_on_a_bare_machine)
    with (
        pytest.raises(LocalServerError, match="sandbox_missing"),
        serving(environment, tmp_path / "log", prepare, VIDTR_HOST="0.0.0.0"),  # noqa: S104 - what the test is about
    ):
        pass
