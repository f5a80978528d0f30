"""The least that a FastAPI handler does with an upload: take it whole, and answer.

uvicorn benchmarks.common.empty_app:app
"""

from __future__ import annotations

from typing import Annotated

from fastapi import FastAPI, File, UploadFile

app = FastAPI()


@app.post("/v1/classify")
async def classify(file: Annotated[UploadFile, File()]) -> dict[str, int]:
    """Read the file to its end."""
    return {"bytes": len(await file.read())}
