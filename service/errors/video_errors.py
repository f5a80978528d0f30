"""Why a video cannot be used."""

from __future__ import annotations

from service.errors.families import VideoError


class ContainerNotAllowed(VideoError):
    """The bytes are no container of the allow-list: a playlist, a picture, an audio file, or nothing known."""

    code = "container_not_allowed"


class CodecNotAllowed(VideoError):
    """The video stream's codec is not on the allow-list."""

    code = "codec_not_allowed"


class EncryptedVideo(VideoError):
    """The video is encrypted."""

    code = "encrypted_video"


class Undecodable(VideoError):
    """The container or the stream is damaged beyond use."""

    code = "undecodable"


class NoVideoStream(VideoError):
    """The container holds no video stream."""

    code = "no_video_stream"


class VideoTooShort(VideoError):
    """Fewer distinct frames than `min_distinct_frames` can be sampled."""

    code = "video_too_short"


class DurationLimit(VideoError):
    """The video lasts longer than `max_duration_s`."""

    code = "duration_limit"


class PixelLimit(VideoError):
    """A frame has more pixels than `max_pixels`."""

    code = "pixel_limit"


class PacketLimit(VideoError):
    """The file holds more packets than `max_packets`."""

    code = "packet_limit"


class StreamLimit(VideoError):
    """The container holds more streams than `max_streams`."""

    code = "stream_limit"


class FrameLimit(VideoError):
    """More frames than `max_decoded_frames` would have to be decoded."""

    code = "frame_limit"


class DecodeTimeout(VideoError):
    """Decoding took longer than `decode_timeout_s`."""

    code = "decode_timeout"


class DecodeCpuLimit(VideoError):
    """Decoding used more CPU seconds than `decode_cpu_s`."""

    code = "decode_cpu_limit"


class DecodeMemoryLimit(VideoError):
    """Decoding needs more address space than `decode_memory_bytes`."""

    code = "decode_memory_limit"


class DecoderCrash(VideoError):
    """The decode process ended by a signal or without a report."""

    code = "decoder_crash"


class TooManyClips(VideoError):
    """The requested windows times crops exceed `max_clips_per_job`."""

    code = "too_many_clips"
