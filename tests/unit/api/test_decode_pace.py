from service.api.decode_pace import DecodePace


def test_before_the_first_decode_no_wait_is_expected() -> None:
    assert DecodePace(2).ready_in_s(100) == 0.0


def test_those_ahead_share_the_processes() -> None:
    pace = DecodePace(2)
    pace.observe(3.0)
    assert pace.ready_in_s(7) == 12.0


def test_the_pace_follows_slower_decodes() -> None:
    pace = DecodePace(1)
    pace.observe(1.0)
    waits = []
    for _ in range(30):
        pace.observe(5.0)
        waits.append(pace.ready_in_s(0))
    assert waits == sorted(waits)
    assert 1.0 < waits[0] < 4.9 < waits[-1] <= 5.0
