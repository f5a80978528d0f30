"""The Lua scripts as files: their headers, the loader, and what a call has to give."""

import ast
import functools
import re
from pathlib import Path

import pytest
from redis.asyncio import Redis

import service.queue
from service.queue.scripts import Script, load, pieces_of, source

PACKAGE = Path(service.queue.__path__[0])
SCRIPTS = sorted(file.stem for file in (PACKAGE / "lua").glob("*.lua"))
FRAGMENTS = sorted(f"include/{file.stem}" for file in (PACKAGE / "lua/include").glob("*.lua"))
ALIASES = re.compile(r"^local ([\w, ]+) = ((?:(?:KEYS|ARGV)\[\d+\]|unpack\((?:KEYS|ARGV), \d+, \d+\)|, )+)$", re.M)
INTEGRATION = Path(__file__).parents[2] / "integration"

# Of each script a method that sends it, and the file of the tests that call this method for what the script does.
TESTED = {
    "accept": ("JobIntake.accept", "test_job_store.py"),
    "add_clips": ("StagedIntake.add_clips", "test_staged_jobs.py"),
    "add_dead_letter": ("DeadLetters.add", "test_dead_letters.py"),
    "announce": ("ModelDirectory.announce", "test_model_directory.py"),
    "audit_reservations": ("QueueCapacity.audit", "test_reservation_counts.py"),
    "cancel": ("JobStore.cancel", "test_job_store.py"),
    "claim_key": ("IdempotencyKeys.claim", "test_idempotency.py"),
    "claim_stream_webhooks": ("StreamWebhookQueue.claim", "test_stream_webhooks.py"),
    "claim_webhooks": ("WebhookQueue.claim", "test_webhook_queue.py"),
    "clear_streams": ("ModelDirectory.clear", "test_model_directory.py"),
    "dismiss": ("ClipStream.ack", "test_clip_stream.py"),
    "drop_dead_letter": ("DeadLetters.drop", "test_dead_letters.py"),
    "drop_reservations": ("QueueCapacity.drop", "test_reservation_counts.py"),
    "begin_line": ("BatchStore.begin_line", "test_batch_store.py"),
    "end_line": ("BatchStore.end_line", "test_batch_store.py"),
    "end_turn": ("Turn.end", "test_turns.py"),
    "finish": ("JobStore.finish", "test_job_store.py"),
    "hold_stream": ("LiveStreams.hold", "test_live_streams.py"),
    "lead_key": ("IdempotencyKeys.lead", "test_idempotency.py"),
    "leave_group": ("ClipStream.leave", "test_clip_stream.py"),
    "live": ("ModelDirectory.live", "test_fleet_sums.py"),
    "look_up": ("ClipStream.look_up", "test_clip_stream.py"),
    "open_batch": ("BatchStore.open", "test_batch_store.py"),
    "overdue": ("JobStore.expire_overdue", "test_job_store.py"),
    "pass_lead": ("Lead.pass_on", "test_lead.py"),
    "reclaim": ("ClipStream.reclaim", "test_clip_stream.py"),
    "record_fault": ("JobStore.record_failure", "test_job_store.py"),
    "record_scores": ("JobStore.record_scores", "test_job_store.py"),
    "release_capacity": ("QueueCapacity.release", "test_capacity.py"),
    "release_key": ("IdempotencyKeys.release", "test_idempotency.py"),
    "renew_capacity": ("QueueCapacity.renew", "test_capacity.py"),
    "renew_keys": ("IdempotencyKeys.renew", "test_idempotency.py"),
    "renew_lease": ("ClipStream.renew", "test_clip_stream.py"),
    "replay": ("DeadLetters.replay", "test_dead_letters.py"),
    "reserve": ("QueueCapacity.reserve", "test_capacity.py"),
    "stream_webhook_again": ("StreamWebhookQueue.again", "test_stream_webhooks.py"),
    "stream_webhook_done": ("StreamWebhookQueue.done", "test_stream_webhooks.py"),
    "take": ("ClipStream.take", "test_clip_stream.py"),
    "take_lead": ("Lead.take", "test_lead.py"),
    "take_turn": ("Turn.mine", "test_turns.py"),
    "touch_job": ("Durability.wait_persisted", "test_durability.py"),
    "trim_dead_letters": ("DeadLetters.letters", "test_dead_letters.py"),
    "webhook_again": ("WebhookQueue.again", "test_webhook_queue.py"),
    "webhook_done": ("WebhookQueue.done", "test_webhook_queue.py"),
    "withdraw": ("ModelDirectory.withdraw", "test_model_directory.py"),
}
PLACE = re.compile(r"(KEYS|ARGV)\[(\d+)\]|unpack\((KEYS|ARGV), (\d+), (\d+)\)")


def places(expressions: str) -> list[tuple[str, int]]:
    """The elements that the right side of an alias line names."""
    found = []
    for one, at, several, first, last in PLACE.findall(expressions):
        found += [(one, int(at))] if one else [(several, i) for i in range(int(first), int(last) + 1)]
    return found


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_aliases_of_a_script_are_the_names_of_its_header(name: str) -> None:
    script = load(name)
    for names, expressions in ALIASES.findall(source(name)):
        for alias, (kind, at) in zip(names.split(", "), places(expressions), strict=True):
            assert alias == (script.keys if kind == "KEYS" else script.arguments).names[at - 1]


@pytest.mark.parametrize("name", [*SCRIPTS, *FRAGMENTS])
def test_a_script_says_what_it_does_and_keeps_to_the_width(name: str) -> None:
    lines = source(name).splitlines()
    assert re.match(r"-- [A-Z`]", lines[0])
    assert max(map(len, lines)) <= 120


def test_every_script_is_called_and_every_fragment_is_included() -> None:
    called = {
        name
        for file in PACKAGE.glob("*.py")
        for name in re.findall(r'Script\(redis, "(\w+)"\)', file.read_text(encoding="utf-8"))
    }
    assert called == set(SCRIPTS)
    assert {piece for name in SCRIPTS for piece in pieces_of(name)} == {*SCRIPTS, *FRAGMENTS}


def attributes(node: ast.AST) -> set[str]:
    """Names of the attributes that code mentions."""
    return {one.attr for one in ast.walk(node) if isinstance(one, ast.Attribute)}


@functools.cache
def senders() -> dict[str, set[str]]:
    """The scripts that each method of the package sends, by itself or through others of its class."""
    sent: dict[str, set[str]] = {}
    for file in PACKAGE.glob("*.py"):
        for one in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(one, ast.ClassDef):
                sent |= {f"{one.name}.{method}": names for method, names in sent_by(one).items()}
    return sent


def sent_by(of: ast.ClassDef) -> dict[str, set[str]]:
    """The scripts that each method of a class sends."""
    uses = {one.name: attributes(one) for one in of.body if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)}
    scripts = {
        place.removeprefix("self."): name
        for place, name in re.findall(r"(self\.\w+) = Script\(redis, '(\w+)'\)", ast.unparse(of))
    }
    for _ in uses:
        uses = {method: found.union(*(uses.get(name, ()) for name in found)) for method, found in uses.items()}
    return {method: {scripts[name] for name in found & set(scripts)} for method, found in uses.items()}


def called_in(file: Path) -> set[str]:
    """Names of the methods that the code of a file calls."""
    calls = (one.func for one in ast.walk(ast.parse(file.read_text(encoding="utf-8"))) if isinstance(one, ast.Call))
    return {called.attr for called in calls if isinstance(called, ast.Attribute)}


def test_every_script_is_in_the_table_of_their_tests() -> None:
    assert sorted(TESTED) == SCRIPTS


@pytest.mark.parametrize("name", TESTED)
def test_the_tests_of_a_script_call_a_method_that_sends_it(name: str) -> None:
    method, file = TESTED[name]
    assert name in senders()[method]
    assert method.partition(".")[2] in called_in(INTEGRATION / file)


def test_a_fragment_comes_once_and_after_those_that_it_includes() -> None:
    pieces = pieces_of("finish")
    assert len(set(pieces)) == len(pieces)
    assert pieces.index("include/now") < pieces.index("include/enqueue_webhook") < pieces.index("finish")


def test_values_are_put_in_the_order_of_the_header() -> None:
    given = {"models": 1, "routes": 2}
    assert load("clear_streams").keys.in_order(given) == [1, 2]
    arguments = {"group": "g", "entries_and_clips": ["1-0", 4, "2-0", 5]}
    assert load("dismiss").arguments.in_order(arguments) == ["g", "1-0", 4, "2-0", 5]


@pytest.mark.parametrize(
    "keys", [{}, {"key": 1, "more": 2}, {"other": 1}], ids=["one too few", "one too many", "another name"]
)
async def test_a_call_with_other_keys_than_those_of_the_header_is_an_error(keys: dict[str, int]) -> None:
    script = Script(Redis(unix_socket_path="/nowhere"), "release_key")
    with pytest.raises(TypeError, match="The script takes key; it was given"):
        await script(keys=keys, args={"token": "t"})


async def test_arguments_in_another_order_are_an_error() -> None:
    script = Script(Redis(unix_socket_path="/nowhere"), "claim_key")
    with pytest.raises(TypeError, match="takes token, life_ms, job_prefix; it was given life_ms, token, job_prefix"):
        await script(keys={"key": "k"}, args={"life_ms": 1, "token": "t", "job_prefix": "p"})
