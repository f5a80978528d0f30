"""The one clock that all processes share: that of Redis. Clocks of two hosts are never compared with each other."""

from __future__ import annotations

# `now` in Unix seconds, for a script.
NOW = """
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
"""
