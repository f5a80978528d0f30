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
    from service.contracts import DeadLetter
    from service.queue.dead_letters import DeadLetters
    from service.queue.partitions import PerPartition

app = typer.Typer(help="Jobs that were given up because of one of their clips.", no_args_is_help=True)

Answer = TypeVar("Answer")
JobId = Annotated[str, typer.Argument(help="Id of the job.")]


def _ask(question: Callable[[PerPartition[DeadLetters]], Awaitable[Answer]]) -> Answer:
    from service.queue.dead_letters import DeadLetterConfig, DeadLetters
    from service.queue.job_intake import JobTtlConfig
    from service.queue.partitions import QueueAddress, close

    settings = Settings()

    async def ask() -> Answer:
        partitions = settings.subset(QueueAddress).connect("vidtr-dead")
        times, limits = settings.subset(JobTtlConfig), settings.subset(DeadLetterConfig).share(len(partitions))
        try:
            return await question(partitions.map(lambda of: DeadLetters(of.redis, of.keys, times, limits)))
        finally:
            await close(partitions)

    return asyncio.run(ask())


@app.command("list")
def list_letters() -> None:
    """A table of all dead letters, newest first."""
    letters, away = _ask(_all_letters)
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
    Console().print(table if letters or away else "no dead letters")
    for problem in away:
        Console(stderr=True).print(problem, highlight=False, soft_wrap=True)
    if away:
        raise typer.Exit(1)


async def _all_letters(dead: PerPartition[DeadLetters]) -> tuple[list[DeadLetter], list[str]]:
    """The letters of the partitions that can be reached, newest first, and why others cannot."""
    from service.errors import QueueUnavailable

    if len(dead) == 1:
        return await dead[0].letters(), []
    letters: list[DeadLetter] = []
    away: list[str] = []
    for number, of_one in enumerate(dead):
        try:
            letters += await of_one.letters()
        except QueueUnavailable as error:
            away.append(f"The letters of partition {number} are missing: {error.detail}")
    return sorted(letters, key=lambda letter: letter.created_at, reverse=True), away


@app.command()
def show(job_id: JobId) -> None:
    """One dead letter with the record of its job, as JSON."""
    letter, record = _ask(lambda dead: dead.of(job_id).show(job_id))
    Console().print_json(data={"letter": letter.model_dump(mode="json"), "job": record.model_dump(mode="json")})


@app.command()
def replay(job_id: JobId) -> None:
    """Open the job again and queue those of its clips that have no scores."""
    queued = _ask(lambda dead: dead.of(job_id).replay(job_id))
    Console().print(f"job {job_id}: {queued} clips queued", highlight=False)


@app.command()
def drop(job_id: JobId) -> None:
    """Forget the letter and erase the clips kept with it; the job stays failed."""
    _ask(lambda dead: dead.of(job_id).drop(job_id))
    Console().print(f"job {job_id}: dropped", highlight=False)
