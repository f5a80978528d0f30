from fractions import Fraction

import opentimelineio as otio
import pytest

from service.exports.timecode import FrameRate

NTSC = FrameRate(Fraction(30000, 1001))


@pytest.mark.parametrize(
    ("measured", "nominal"),
    [
        (23.976024, Fraction(24000, 1001)),
        (23.98, Fraction(24000, 1001)),
        (24.0, Fraction(24)),
        (25.04, Fraction(25)),
        (29.97, Fraction(30000, 1001)),
        (30.0, Fraction(30)),
        (59.94, Fraction(60000, 1001)),
        (27.3, Fraction(25)),
        (240.0, Fraction(60)),
        (None, Fraction(25)),
        (0.0, Fraction(25)),
    ],
)
def test_a_measured_rate_becomes_the_nearest_one_that_editors_have(measured: float | None, nominal: Fraction) -> None:
    assert FrameRate.nearest(measured).fps == nominal


def test_drop_frame_leaves_two_numbers_out_in_each_minute_but_every_tenth() -> None:
    assert [NTSC.timecode(frame) for frame in (1799, 1800)] == ["00:00:59;29", "00:01:00;02"]
    assert [NTSC.timecode(frame) for frame in (17981, 17982)] == ["00:09:59;29", "00:10:00;00"]


@pytest.mark.parametrize("fps", [Fraction(24000, 1001), Fraction(25), Fraction(30000, 1001), Fraction(60000, 1001)])
def test_a_timecode_of_any_frame_of_three_hours_is_read_as_that_frame_by_opentimelineio(fps: Fraction) -> None:
    rate = FrameRate(fps)
    for frame in range(0, int(3 * 3600 * fps), 997):
        assert otio.opentime.from_timecode(rate.timecode(frame), float(fps)).value == frame


def test_an_hour_of_drop_frame_is_an_hour_of_the_clock_to_four_frames() -> None:
    assert NTSC.timecode(NTSC.hour(1)) == "01:00:00;00"
    assert abs(NTSC.hour(1) * NTSC.frame_s - 3600) < 4 * NTSC.frame_s


def test_timecode_begins_anew_after_a_day() -> None:
    assert FrameRate(Fraction(25)).timecode(25 * (24 * 3600 + 61)) == "00:01:01:00"
