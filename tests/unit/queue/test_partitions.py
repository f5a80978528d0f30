import asyncio
from binascii import crc_hqx
from collections import Counter
from itertools import pairwise
from uuid import uuid4

import pytest
from redis.crc import key_slot

from service.queue.partitions import (
    MOST_PARTITIONS,
    SLOTS,
    Independently,
    PerPartition,
    QueueAddress,
    Rotation,
    job_id_in,
    number_of,
    prefixes,
    share_of,
)


@pytest.mark.parametrize("count", [1, 2, 3, 12, MOST_PARTITIONS])
def test_the_id_of_a_job_says_in_which_partition_it_is(count: int) -> None:
    for number in range(count):
        job_id = job_id_in(number, count)
        assert number_of(job_id, count) == number
        assert len(job_id) == 32
        assert int(job_id, 16)


def test_the_partition_takes_three_digits_of_an_id_and_leaves_the_others() -> None:
    random = uuid4().hex
    assert job_id_in(11, 16, random) == f"00b{random[3:]}"
    assert job_id_in(0, 1, random) == random


@pytest.mark.parametrize("text", ["", "zzz", "ÄÖÜ", "fff" + 29 * "0", "-1"])
def test_any_text_is_looked_for_in_one_of_the_partitions(text: str) -> None:
    assert number_of(text, 4) in range(4)


def test_one_partition_has_the_keys_of_earlier_releases() -> None:
    [keys] = QueueAddress("redis://x", "vidtr").key_names()
    assert keys.job("a") == "vidtr:job:a"


@pytest.mark.parametrize("count", [2, 3, 12, MOST_PARTITIONS])
def test_all_keys_of_a_partition_are_in_one_slot_and_partitions_divide_the_slots_evenly(count: int) -> None:
    slots: list[int] = []
    for keys in QueueAddress("redis://x", "vidtr", count).key_names():
        of_partition = {key_slot(key.encode()) for key in (keys.job("a"), keys.deadlines, keys.held("b"), keys.quotas)}
        assert len(of_partition) == 1
        slots += of_partition
    assert [slot * count // SLOTS for slot in slots] == list(range(count))


def test_the_slot_of_a_tag_is_the_one_that_redis_computes() -> None:
    for prefix in prefixes("any", 5):
        assert crc_hqx(prefix.strip("{}").encode(), 0) % SLOTS == key_slot(prefix.encode())


def test_no_two_partitions_share_a_prefix_though_one_number_begins_with_the_other() -> None:
    names = sorted(prefixes("vidtr", MOST_PARTITIONS))
    assert not any(later.startswith(earlier) for earlier, later in pairwise(names))


def test_everything_has_one_home_and_homes_are_spread() -> None:
    parts, again = PerPartition(range(4)), PerPartition(range(4))
    homes = [parts.home(f"owner-{number}") for number in range(400)]
    assert homes == [again.home(f"owner-{number}") for number in range(400)]
    assert min(Counter(homes).values()) > 60


def test_shares_are_rounded_up() -> None:
    assert [share_of(total, 4) for total in (0, 1, 4, 5)] == [0, 1, 1, 2]


async def test_uploads_take_partitions_in_turn_and_one_that_was_away_last() -> None:
    rotation = Rotation(3)
    turns = [rotation.order() for _ in range(3)]
    assert {tuple(sorted(turn)) for turn in turns} == {(0, 1, 2)}
    assert sorted(turn[0] for turn in turns) == [0, 1, 2]
    rotation.away(1)
    assert [rotation.order()[-1] for _ in range(6)] == [1] * 6


async def test_a_partition_that_hangs_is_left_out_until_it_has_ended() -> None:
    calls, released = Counter[int](), asyncio.Event()

    async def work(part: int) -> None:
        calls[part] += 1
        if part == 0:
            await released.wait()

    everywhere = Independently(patience_s=0.01)
    for _ in range(3):
        await everywhere.run([0, 1, 2], work)
    assert calls == {0: 1, 1: 3, 2: 3}
    released.set()
    await everywhere.run([0, 1, 2], work)
    await everywhere.run([0, 1, 2], work)
    assert calls[0] == 2


async def test_what_fails_in_one_partition_is_done_in_the_others_and_raised() -> None:
    done: list[int] = []

    async def work(part: int) -> None:
        if part == 1:
            raise ValueError(part)
        done.append(part)

    with pytest.raises(ValueError, match="1"):
        await Independently(patience_s=10).run([0, 1, 2], work)
    assert done == [0, 2]
