"""Decodes for `benchmarks.decode` with torchcodec and decord2, in an interpreter that has them.

Reads one JSON task a line, answers one JSON line each: seconds taken, times of the frames, on request the pictures.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import decord
import torch
from torchcodec.decoders import VideoDecoder
from torchcodec.transforms import Resize


def torchcodec(task: dict[str, Any], seek_mode: str) -> tuple[Any, list[float]]:
    decoder = VideoDecoder(
        task["path"],
        dimension_order="NHWC",
        num_ffmpeg_threads=1,
        seek_mode=seek_mode,
        transforms=[Resize((task["height"], task["width"]))],
    )
    batch = decoder.get_frames_played_at(task["moments"])
    return batch.data.numpy(), batch.pts_seconds.tolist()


def decord2(task: dict[str, Any]) -> tuple[Any, list[float]]:
    reader = decord.VideoReader(task["path"], width=task["width"], height=task["height"], num_threads=1)
    pictures = reader.get_batch(task["indices"]).asnumpy()
    return pictures, reader.get_frame_timestamp(task["indices"])[:, 0].tolist()


def run(task: dict[str, Any]) -> dict[str, Any]:
    began = time.process_time()
    if task["tool"] == "decord2":
        pictures, times = decord2(task)
    else:
        pictures, times = torchcodec(task, task["tool"].removeprefix("torchcodec_"))
    seconds = time.process_time() - began
    if task.get("save"):
        Path(task["save"]).write_bytes(pictures.tobytes())
    return {"seconds": seconds, "times": times}


def main() -> None:
    torch.set_num_threads(1)
    for line in sys.stdin:
        try:
            answer = run(json.loads(line))
        except Exception as error:  # every cell is reported, failures too
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
