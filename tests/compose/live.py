"""The compose stack, run: `python -m tests.compose.live` where `docker compose` reaches an engine.

Builds the images, starts the stack, classifies a video through the published port, looks for it in Prometheus and in
Triton's counters, tries to write to each container, to reach Triton from where nobody should and without its key, kills
the main process of each container and then all at once, moves to a release whose Redis needs more rights, and takes
everything down. Each time the stack must answer again. Prints a line a step; the first failure ends it with status 1.

With `COMPOSE_FILE=docker-compose.yml:compose.gpu.yml` it is the stack of a GPU server.
The video is `VIDTR_LIVE_CLIP`, else a real one from beside the repository, else a generated one.
`VIDTR_CLIENT_PREFIX` is put before commands that must reach the published port, where that takes another namespace.
"""

import json
import os
import shlex
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from service.settings import Settings
from testing.videos import write_video

ROOT = Path(__file__).parents[2]
PROJECT = "vidtr-live"
COMPOSE = ["docker", "compose", "-p", PROJECT]
BASE = "http://127.0.0.1:8080"
LASTING = ("api", "worker", "redis", "triton", "prometheus", "alertmanager", "grafana")
NEXT = "next-release"
SCRAPED = ("vidtr-api", "vidtr-worker", "triton", "prometheus")
REAL_CLIP = ROOT.parent / "shared" / "clips" / "torchcodec__nasa_13013.mp4"
IMAGE_LIMIT_BYTES = 250e6
# Only an end to waiting in vain: a busy machine takes minutes to start a container of Python.
PATIENCE_S = 300.0


def run(*command: str, check: bool = True) -> str:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, "COMPOSE_MENU": "0"})
    if check and done.returncode != 0:
        raise AssertionError(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    return done.stdout.strip()


def compose(*arguments: str, check: bool = True) -> str:
    return run(*COMPOSE, *arguments, check=check)


def wait_for(what: Callable[[], bool], seconds: float = PATIENCE_S) -> float:
    started = time.monotonic()
    while not what():
        assert time.monotonic() - started < seconds, f"still not after {seconds} s"
        time.sleep(0.5)
    return time.monotonic() - started


def curl(*arguments: str) -> str:
    prefix = shlex.split(os.environ.get("VIDTR_CLIENT_PREFIX", ""))
    return run(*prefix, "curl", "-s", "-m", "60", *arguments, check=False)


def classify(clip: Path) -> dict[str, Any]:
    try:
        answer: dict[str, Any] = json.loads(curl("-F", f"file=@{clip}", f"{BASE}/v1/classify"))
        return answer
    except ValueError:
        return {}


def prometheus(query: str) -> float:
    # Prometheus is not published: asked from inside.
    text = compose("exec", "-T", "prometheus", "wget", "-qO-", f"http://127.0.0.1:9090/api/v1/query?query={query}")
    result = json.loads(text)["data"]["result"]
    return float(result[0]["value"][1]) if result else 0.0


def container(service: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run("docker", "inspect", compose("ps", "-q", service)))[0]
    return found


def healthy(service: str) -> bool:
    return bool(container(service)["State"].get("Health", {}).get("Status") == "healthy")


def layers_above_base(image: str) -> float:
    """Bytes that our own Dockerfile adds: the layer of packages is by far the largest."""
    sizes = run(
        "docker", "history", "--no-trunc", "--human=false", "--format", "{{.Size}} {{.CreatedBy}}", image
    ).splitlines()
    ours = next(i for i, line in enumerate(sizes) if "groupadd --gid 10001" in line)
    return sum(float(line.split()[0]) for line in sizes[: ours + 1])


def restarts() -> dict[str, int]:
    return {service: container(service)["RestartCount"] for service in LASTING}


def kill_and_recover(service: str, clip: Path) -> float:
    before = restarts()
    os.kill(container(service)["State"]["Pid"], signal.SIGKILL)
    took = wait_for(lambda: restarts()[service] > before[service] and healthy(service))
    took += wait_for(lambda: classify(clip).get("status") == "succeeded")
    assert restarts() == {**before, service: before[service] + 1}, "another container went down with it"
    return took


def steps(clip: Path) -> None:
    compose("up", "-d", "--wait", "--pull", "never", "--no-build")
    print("up: every health check passes")
    waited = wait_for(lambda: classify(clip).get("status") == "succeeded")
    answer = classify(clip)
    assert answer["model"]["name"] == Settings.model_fields["default_model"].default, answer["model"]
    assert answer["model"]["trained"] is True
    best = answer["predictions"][0]
    print(
        f"{clip.name} is classified through the published port ({waited:.0f} s after up): {best['label']} "
        f"{best['score']:.2f} by {answer['model']['name']}, {len(answer['windows'])} windows, "
        f"{answer['timings_ms']['total']:.0f} ms"
    )
    assert json.loads(curl(f"{BASE}/metrics"))["code"] == "not_found"
    wait_for(lambda: prometheus('sum(vidtr_jobs_total{state="succeeded"})') >= 1)
    wait_for(lambda: prometheus("sum(nv_inference_count)") >= 1)
    wait_for(lambda: prometheus("count(up==1)") == len(SCRAPED) and prometheus("count(up)") == len(SCRAPED))
    print("Prometheus saw it, in our metrics and in Triton's")
    if "VIDTR_TRITON_SHARED_MEMORY=true" in container("worker")["Config"]["Env"]:
        url = "http://127.0.0.1:8000/v2/systemsharedmemory/status"
        header = '"vidtr-key: $(cat /secrets/triton/vidtr_triton_key)"'
        assert json.loads(compose("exec", "-T", "triton", "sh", "-c", f"curl -s -H {header} {url}")), (
            "no memory is shared"
        )
        print("clips reach Triton through shared memory")
    for image in ("api", "worker"):
        size = layers_above_base(container(image)["Image"])
        assert size < IMAGE_LIMIT_BYTES, (image, size)
        print(f"image {image}: {size / 1e6:.0f} MB above its base")
    for service in LASTING:
        user = compose("exec", "-T", service, "id", "-u")
        assert user != "0", service
        writable = [
            place
            for place in ("/", "/etc", "/usr", "/opt")
            if "made" in compose("exec", "-T", service, "sh", "-c", f"touch {place}/probe && echo made", check=False)
        ]
        assert writable == [], (service, writable)
        print(f"{service}: user {user}, its root is read-only")
    assert denials() == {}, denials()
    refused = compose("exec", "-T", "api", "python", "-c", FORBIDDEN, check=False)
    assert refused.split() == ["NoPermissionError"] * 3, refused
    print("Redis refuses foreign keys, KEYS and FLUSHALL to the service's user")
    shut_in = json.loads(curl(f"{BASE}/health/ready?check=sandbox"))
    assert {"landlock", "seccomp"} <= set(shut_in["sandbox"]), shut_in
    print(f"decode processes are shut in by {', '.join(shut_in['sandbox'])}")
    triton_is_shut()
    print("Triton is out of reach for the api, and does nothing for who has no key")
    for service in LASTING:
        print(f"{service} killed: the stack answers again after {kill_and_recover(service, clip):.0f} s")
    assert denials() == {}, denials()
    print("Redis refused the service nothing that it asked for since its restart")
    print(f"all killed and started, Redis last: the stack answers again after {start_backwards(clip):.0f} s")
    move_to_next_release(clip)
    print("a new release gave Redis the rights that the one before did not need")


def triton_is_shut() -> None:
    """No address of Triton answers the api, which is in every other network; and the worker none without the key."""
    networks = container("triton")["NetworkSettings"]["Networks"].values()
    addresses = [network["IPAddress"] for network in networks]
    assert len(addresses) == 2
    reached = {role: compose("exec", "-T", role, "python", "-c", REACHED, *addresses) for role in ("api", "worker")}
    assert json.loads(reached["api"]) == []
    assert len(json.loads(reached["worker"])) == 3, "what cannot be reached at all says nothing of the api"
    assert json.loads(compose("exec", "-T", "worker", "python", "-c", WITHOUT_KEY)) == [403, 403, 200, 200]


def start_backwards(clip: Path) -> float:
    """Starts the containers as an engine does after the machine's restart, without regard to what each depends on."""
    ids = [container(service)["Id"] for service in sorted(LASTING, key=lambda service: service == "redis")]
    compose("kill")
    for each in ids:
        run("docker", "start", each)
    took = wait_for(lambda: all(healthy(service) for service in LASTING))
    return took + wait_for(lambda: classify(clip).get("status") == "succeeded")


def move_to_next_release(clip: Path) -> None:
    """From an access list that lacks rights, as an earlier release left it, to a release of other images."""
    volume = f"{PROJECT}_secrets-redis:/secrets"
    image = container("api")["Config"]["Image"]
    run("docker", "run", "--rm", "--user", "0", "-v", volume, image, "python", "-c", EARLIER_LIST)
    compose("restart", "redis")
    wait_for(lambda: classify(clip).get("code") == "queue_unavailable")
    before = container("redis")
    repositories = {container(role)["Config"]["Image"].rpartition(":")[0] for role in ("api", "worker")}
    for repository in repositories:
        run("docker", "tag", f"{repository}:{image.rpartition(':')[2]}", f"{repository}:{NEXT}")
    try:
        run("env", f"VIDTR_VERSION={NEXT}", *COMPOSE, "up", "-d", "--wait", "--pull", "never", "--no-build")
        wait_for(lambda: classify(clip).get("status") == "succeeded")
        assert denials() == {}, denials()
        assert container("redis")["Id"] == before["Id"], "made anew, which would have read the list in any case"
    finally:
        compose("down", "--timeout", "20")
        run("docker", "image", "rm", *(f"{repository}:{NEXT}" for repository in repositories))


def denials() -> dict[str, int]:
    """Refusals by Redis' access list that it has counted since it started."""
    counts: dict[str, int] = json.loads(compose("exec", "-T", "api", "python", "-c", DENIALS))
    return counts


DENIALS = """
import json, redis
client = redis.Redis.from_url(open("/run/secrets/vidtr_redis_url").read())
print(json.dumps({k: v for k, v in client.info("stats").items() if k.startswith("acl_access_denied") and v}))
"""

REACHED = """
import json, socket, sys
reached = []
for address in sys.argv[1:]:
    for port in (8000, 8001, 8002):
        try:
            socket.create_connection((address, port), 3).close()
        except OSError:
            continue
        reached.append(f"{address}:{port}")
print(json.dumps(reached))
"""

# The models' list and a load, without the key; health without it, and the list with it.
WITHOUT_KEY = """
import json, urllib.error, urllib.request
key = open("/run/secrets/vidtr_triton_key").read()
index, load = ("v2/repository/index", "v2/repository/models/camera_motion/load")
statuses = []
for path, method, headers in (
    (index, "POST", {}), (load, "POST", {}), ("v2/health/ready", "GET", {}), (index, "POST", {"vidtr-key": key})
):
    request = urllib.request.Request(f"http://triton:8000/{path}", method=method, headers=headers)
    try:
        statuses.append(urllib.request.urlopen(request, timeout=10).status)
    except urllib.error.HTTPError as error:
        statuses.append(error.code)
print(json.dumps(statuses))
"""

EARLIER_LIST = """
import pathlib
users = pathlib.Path("/secrets/users.acl")
users.chmod(0o644)
users.write_text(users.read_text().replace(" +time", ""))
"""

FORBIDDEN = """
import redis
client = redis.Redis.from_url(open("/run/secrets/vidtr_redis_url").read())
for command in (("SET", "foreign", "1"), ("KEYS", "*"), ("FLUSHALL",)):
    try:
        client.execute_command(*command)
    except redis.exceptions.RedisError as error:
        print(type(error).__name__)
"""


def left_over() -> list[str]:
    label = f"label=com.docker.compose.project={PROJECT}"
    kinds = (("ps", "-aq"), ("volume", "ls", "-q"), ("network", "ls", "-q"))
    return [name for kind in kinds for name in run("docker", *kind, "--filter", label).split()]


def video(scratch: Path) -> Path:
    if chosen := os.environ.get("VIDTR_LIVE_CLIP"):
        return Path(chosen)
    return REAL_CLIP if REAL_CLIP.is_file() else write_video(scratch / "clip.mp4", 75, fps=25, size=(96, 64))


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        clip = video(Path(scratch))
        try:
            compose("build")
            steps(clip)
        finally:
            compose("down", "--volumes", "--timeout", "20")
    assert left_over() == []
    print("down leaves nothing")


if __name__ == "__main__":
    main()
