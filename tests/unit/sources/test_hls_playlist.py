"""Playlists of HLS: what is read of them, and what is refused."""

import pytest

from service.errors import SourceLimit, SourceRefused
from service.sources.hls_playlist import MAX_SEGMENTS, MasterPlaylist, MediaPlaylist, Segment, parse

AT = "https://camera.example.com/live/a.m3u8"


def media(*lines: str) -> MediaPlaylist:
    found = parse("\n".join(("#EXTM3U", *lines)), AT)
    assert isinstance(found, MediaPlaylist)
    return found


def test_segments_are_numbered_and_their_addresses_made_absolute() -> None:
    found = media(
        "#EXT-X-TARGETDURATION:4",
        "#EXT-X-MEDIA-SEQUENCE:17",
        "#EXTINF:3.9,",
        "one.ts",
        "#EXT-X-DISCONTINUITY",
        "#EXTINF:4,title",
        "#EXT-X-PROGRAM-DATE-TIME:2026-01-01T00:00:00Z",
        "/two.ts?x=1",
        "stray.ts",
    )
    assert found == MediaPlaylist(
        (
            Segment(17, "https://camera.example.com/live/one.ts", None),
            Segment(18, "https://camera.example.com/two.ts?x=1", None),
        ),
        4.0,
        False,
    )


def test_the_header_of_a_fragmented_mp4_belongs_to_the_segments_after_it() -> None:
    found = media('#EXT-X-MAP:URI="init.mp4"', "#EXTINF:1,", "1.m4s", "#EXT-X-ENDLIST")
    assert found.segments[0].init_url == "https://camera.example.com/live/init.mp4"
    assert found.ended


def test_of_several_qualities_the_one_that_takes_least_is_read() -> None:
    text = (
        '#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=900000,CODECS="avc1,mp4a"\nhigh.m3u8\n'
        "#EXT-X-STREAM-INF:RESOLUTION=320x180,BANDWIDTH=90000\nlow.m3u8\n"
    )
    assert parse(text, AT) == MasterPlaylist("https://camera.example.com/live/low.m3u8")


@pytest.mark.parametrize(
    "lines",
    [
        ['#EXT-X-KEY:METHOD=AES-128,URI="key.bin"', "#EXTINF:1,", "a.ts"],
        ["#EXT-X-KEY:METHOD=SAMPLE-AES"],
        ["#EXT-X-KEY:"],
        ["#EXTINF:1,", "#EXT-X-BYTERANGE:100@0", "a.ts"],
        ['#EXT-X-MAP:URI="a.mp4",BYTERANGE="100@0"'],
        ['#EXT-X-DEFINE:NAME="x",VALUE="y"'],
        ["#EXT-X-MEDIA-SEQUENCE:-1"],
        ["#EXT-X-MEDIA-SEQUENCE:1e9"],
        ["#EXT-X-TARGETDURATION:inf"],
        ["#EXT-X-STREAM-INF:BANDWIDTH=1"],
    ],
)
def test_what_is_not_supported_is_refused(lines: list[str]) -> None:
    with pytest.raises(SourceRefused):
        media(*lines)


def test_what_is_no_playlist_is_refused() -> None:
    with pytest.raises(SourceRefused):
        parse("one.ts\n#EXTM3U", AT)


def test_a_playlist_of_too_many_segments_is_refused() -> None:
    with pytest.raises(SourceLimit):
        media(*["#EXTINF:1,\na.ts"] * (MAX_SEGMENTS + 1))


def test_a_target_duration_has_bounds() -> None:
    assert [media(f"#EXT-X-TARGETDURATION:{s}").target_s for s in (0, 5, 999999)] == [0.5, 5.0, 60.0]
