"""What to do with a video that is refused, in one line: the command that turns it into one that is accepted."""

from __future__ import annotations

CONVERT = "Convert it: `ffmpeg -i INPUT -c:v libx264 -pix_fmt yuv420p OUTPUT.mp4`"
"""For what FFmpeg reads and decodes."""

REWRAP = "Put it into a container: `ffmpeg -i INPUT -c copy OUTPUT.mkv`"
"""For pictures in an accepted coding, in a container that is not accepted."""
