"""Bytes between sender and decoder: in order, and never more than fit."""

import asyncio

from service.live.inbox import Inbox


async def test_bytes_come_out_in_order_however_they_are_cut() -> None:
    inbox = Inbox(1000)
    for piece in (b"abc", b"", b"defgh"):
        await inbox.put(piece)
    inbox.end()
    assert [await inbox.get(2) for _ in range(6)] == [b"ab", b"c", b"de", b"fg", b"h", b""]
    assert inbox.received == 8


async def test_a_sender_of_more_than_fits_waits_for_the_decoder() -> None:
    inbox = Inbox(10)
    for _ in range(2):
        await inbox.put(b"12345")
    putting = asyncio.create_task(inbox.put(b"x"))
    await asyncio.sleep(0.01)
    assert not putting.done()
    assert inbox.held == 10
    await inbox.get(3)
    await putting
    assert inbox.held == 8


async def test_a_decoder_that_waits_gets_the_first_bytes_that_come() -> None:
    inbox = Inbox(10)
    getting = asyncio.create_task(inbox.get(100))
    await asyncio.sleep(0)
    await inbox.put(b"now")
    assert await getting == b"now"


async def test_the_end_lets_a_sender_and_a_decoder_go() -> None:
    inbox = Inbox(1)
    await inbox.put(b"1")
    putting = asyncio.create_task(inbox.put(b"2"))
    await asyncio.sleep(0)
    inbox.end()
    await putting
    assert [await inbox.get(9), await inbox.get(9)] == [b"1", b""]
    assert inbox.received == 1
