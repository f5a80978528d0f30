"""Uploads that were scored before, on a program with a result cache, and on one without."""

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from service.api.api_keys import new_key
from testing.program import Program, upload
from testing.videos import numbered, write_video
from tests.e2e.test_access import caller, entry

ALICE, BOB, LIMITED = new_key(), new_key(), new_key()


@pytest.fixture(scope="module")
def remembering(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    directory = tmp_path_factory.mktemp("remembering")
    limited = entry("limited", LIMITED, 'video_seconds = "3/hour"')
    (directory / "keys.toml").write_text(entry("alice", ALICE) + entry("bob", BOB) + limited)
    program = Program(
        directory,
        VIDTR_API_KEYS_FILE=str(directory / "keys.toml"),
        VIDTR_RESULT_CACHE_S="300",
        VIDTR_TORCH_THREADS="1",
    )
    with program:
        yield program


@pytest.fixture
def alice(remembering: Program) -> Iterator[httpx.Client]:
    with caller(remembering, ALICE) as client:
        yield client


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """A video of its own for each test, since the program remembers; 1.2 s."""
    first = int(uuid4()) % 60_000
    return write_video(
        tmp_path / "clip.mp4",
        30,
        fps=25,
        size=(96, 64),
        draw=lambda i, width, height: numbered(first + i, width, height),
    )


def decoded(client: httpx.Client) -> float:
    """Frames that the program has decoded so far."""
    [line] = [row for row in client.get("/metrics").text.splitlines() if row.startswith("vidtr_frames_decoded_total")]
    return float(line.split()[1])


def test_the_same_upload_gets_the_earlier_result_without_being_decoded(alice: httpx.Client, video: Path) -> None:
    first = upload(alice, video)
    before = decoded(alice)
    second = upload(alice, video)
    assert (first.status_code, "X-Cache" in first.headers) == (200, False)
    assert (second.status_code, second.headers["X-Cache"]) == (200, "hit")
    assert second.json() == first.json()
    assert decoded(alice) == before


def test_a_repeated_upload_costs_no_seconds_of_video(remembering: Program, video: Path) -> None:
    with caller(remembering, LIMITED) as limited:
        assert [upload(limited, video).status_code for _ in range(5)] == [200] * 5
        assert upload(limited, video, top_k=2).status_code == 429


@pytest.mark.parametrize("options", [{"top_k": 2}, {"start": 0.2}, {"attention": "layers"}], ids=str)
def test_other_options_are_another_upload(remembering: Program, video: Path, options: dict[str, str]) -> None:
    with caller(remembering, BOB) as bob:
        first = upload(bob, video)
        assert upload(bob, video, **options).json()["id"] != first.json()["id"]


def test_nobody_gets_what_another_key_has_uploaded(remembering: Program, alice: httpx.Client, video: Path) -> None:
    first = upload(alice, video)
    with caller(remembering, BOB) as bob:
        other = upload(bob, video)
    assert "X-Cache" not in other.headers
    assert other.json()["id"] != first.json()["id"]


def test_an_erased_result_is_not_given_again(alice: httpx.Client, video: Path) -> None:
    first = upload(alice, video).json()["id"]
    assert alice.delete(f"/v1/jobs/{first}").status_code == 204
    again = upload(alice, video)
    assert (again.status_code, "X-Cache" in again.headers) == (200, False)
    assert again.json()["id"] != first


def test_an_idempotency_key_leads_to_the_job_of_the_earlier_result(alice: httpx.Client, video: Path) -> None:
    first = upload(alice, video).json()["id"]
    alice.headers["Idempotency-Key"] = uuid4().hex
    assert upload(alice, video).json()["id"] == first
    assert upload(alice, video).json()["id"] == first
    assert upload(alice, video, top_k=3).status_code == 422


def test_an_asynchronous_upload_is_led_to_the_finished_job(alice: httpx.Client, video: Path) -> None:
    first = upload(alice, video).json()["id"]
    alice.headers["Prefer"] = "respond-async"
    answer = upload(alice, video)
    assert (answer.status_code, answer.headers["X-Cache"]) == (202, "hit")
    assert (answer.json()["id"], answer.json()["status"]) == (first, "succeeded")


def test_a_stream_of_events_ends_with_the_earlier_result(alice: httpx.Client, video: Path) -> None:
    first = upload(alice, video).json()["id"]
    alice.headers["Accept"] = "text/event-stream"
    events = upload(alice, video).text
    assert "event: decoded" not in events
    assert f'"id": "{first}"' in events.split("event: result")[1]


def test_without_the_setting_every_upload_is_scored(client: httpx.Client, clip: Path) -> None:
    first, second = upload(client, clip), upload(client, clip)
    assert "X-Cache" not in second.headers
    assert first.json()["id"] != second.json()["id"]
