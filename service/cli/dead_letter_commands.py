"""`vidtr dead`: look at the jobs that were given up, and replay or drop them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer
from rich.console import Console
from rich.table import Table

from service.settings import Settings

if TYPE_CHECKING:
    from service.queue.dead_letters import DeadLetters

app = typer.Typer(help="Jobs that were given up because of one of their clips.", no_args_is_help=True)

Answer = TypeVar("Answer")
JobId = Annotated[str, typer.Argument(help="Id of the job.")]


def _ask(question: Callable[[DeadLetters], Awaitable[Answer]]) -> Answer:
    from service.queue.connection import RedisConfig, connect_to
    from service.queue.dead_letters import DeadLetterConfig, DeadLetters
    from service.queue.job_intake import JobTtlConfig
    from service.queue.redis_keys import RedisKeys

    settings = Settings()

    async def ask() -> Answer:
        keys = RedisKeys(settings.redis_key_prefix)
        redis = connect_to(settings.subset(RedisConfig), keys, name="vidtr-dead")
        times, limits = settings.subset(JobTtlConfig), settings.subset(DeadLetterConfig)
        try:
            return await question(DeadLetters(redis, keys, times, limits))
        finally:
            await redis.aclose()

    return asyncio.run(ask())


@app.command("list")
def list_letters() -> None:
    """A table of all dead letters, newest first."""
    letters = _ask(lambda dead: dead.letters())
    table = Table("job", "clip", "code", "deliveries", "model", "since", "cause")
    for letter in letters:
        table.add_row(
            letter.job_id,
            str(letter.clip),
            letter.code,
            str(letter.deliveries),
            f"{letter.model}:{letter.version}",
            time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(letter.created_at)),
            letter.detail,
        )
    Console().print(table if letters else "no dead letters")


@app.command()
def show(job_id: JobId) -> None:
    """One dead letter with the record of its job, as JSON."""
    letter, record = _ask(lambda dead: dead.show(job_id))
    Console().print_json(data={"letter": letter.model_dump(mode="json"), "job": record.model_dump(mode="json")})


@app.command()
def replay(job_id: JobId) -> None:
    """Open the job again and queue those of its clips that have no scores."""
    queued = _ask(lambda dead: dead.replay(job_id))
    Console().print(f"job {job_id}: {queued} clips queued", highlight=False)


@app.command()
def drop(job_id: JobId) -> None:
    """Forget the letter and erase the clips kept with it; the job stays failed."""
    _ask(lambda dead: dead.drop(job_id))
    Console().print(f"job {job_id}: dropped", highlight=False)
