"""Video classification with temporal attention: VidTr and C-VidTr behind an HTTP API."""

__version__ = "0.3.0"
