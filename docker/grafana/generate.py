"""Writes the dashboards: `python docker/grafana/generate.py`. The JSON beside it is what Grafana reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent / "dashboards"
RATE = "[$__rate_interval]"
CLASSIFY = 'route="/v1/classify"'
SERVER_ERRORS = CLASSIFY + ', status=~"5.."'
CALLER_ERRORS = CLASSIFY + ', status=~"4.."'
INFERENCE = 'stage="inference"'
WORKERS = 'count(up{job="vidtr-worker"} == 1)'


def panel(title: str, unit: str, *queries: tuple[str, str], stacked: bool = False) -> dict[str, Any]:
    """A time series of `(PromQL, legend)` pairs."""
    return {
        "title": title,
        "type": "timeseries",
        "datasource": {"type": "prometheus", "uid": "prometheus"},
        "fieldConfig": {
            "defaults": {
                "unit": unit,
                "min": 0,
                "custom": {
                    "fillOpacity": 30 if stacked else 5,
                    "stacking": {"mode": "normal" if stacked else "none"},
                },
            },
            "overrides": [],
        },
        "options": {"legend": {"displayMode": "table", "placement": "bottom", "calcs": ["mean", "max"]}},
        "targets": [{"refId": chr(65 + i), "expr": e, "legendFormat": text} for i, (e, text) in enumerate(queries)],
    }


def rate(metric: str, by: str = "", where: str = "") -> str:
    """Events a second, added up over processes."""
    grouped = f" by ({by}) " if by else ""
    return f"sum{grouped}(rate({metric}{{{where}}}{RATE}))" if where else f"sum{grouped}(rate({metric}{RATE}))"


def quantiles(metric: str, where: str = "") -> list[tuple[str, str]]:
    """p50, p95 and p99 of a histogram."""
    return [
        (f"histogram_quantile({q}, {rate(f'{metric}_bucket', 'le', where)})", f"p{round(q * 100)}")
        for q in (0.5, 0.95, 0.99)
    ]


def stage_mean() -> str:
    """Mean seconds of each stage of a job."""
    where = 'stage!="total"'
    return f"{rate('vidtr_stage_seconds_sum', 'stage', where)} / {rate('vidtr_stage_seconds_count', 'stage', where)}"


DASHBOARDS: dict[str, list[dict[str, Any]]] = {
    "Service": [
        panel("Requests by route", "reqps", (rate("vidtr_http_requests_total", "route"), "{{route}}")),
        panel(
            "Share of failed classifications",
            "percentunit",
            (
                f"({rate('vidtr_http_requests_total', where=SERVER_ERRORS)} or vector(0))"
                f" / {rate('vidtr_http_requests_total', where=CLASSIFY)}",
                "5xx",
            ),
            (
                f"({rate('vidtr_http_requests_total', where=CALLER_ERRORS)} or vector(0))"
                f" / {rate('vidtr_http_requests_total', where=CLASSIFY)}",
                "4xx",
            ),
        ),
        panel("Duration of a classification", "s", *quantiles("vidtr_http_request_seconds", CLASSIFY)),
        panel("Mean time of each stage", "s", (stage_mean(), "{{stage}}"), stacked=True),
        panel(
            "p95 of each stage",
            "s",
            (f"histogram_quantile(0.95, {rate('vidtr_stage_seconds_bucket', 'le, stage')})", "{{stage}}"),
        ),
        panel("Errors by code", "ops", (rate("vidtr_errors_total", "code") + " > 0", "{{code}}"), stacked=True),
        panel("Uploads refused at admission", "ops", (rate("vidtr_admission_rejects_total", "reason"), "{{reason}}")),
        panel("Decode failures", "ops", (rate("vidtr_decode_failures_total", "code"), "{{code}}")),
        panel("Requests in progress", "short", ("sum(vidtr_http_requests_in_progress)", "requests")),
        panel("Releases", "short", ("count by (version) (vidtr_build_info)", "{{version}}")),
    ],
    "Queue and workers": [
        panel("Clips in the queue", "short", ("max by (model, class) (vidtr_queue_clips)", "{{model}} {{class}}")),
        panel(
            "Age of the oldest clip", "s", ("max by (model, class) (vidtr_queue_oldest_seconds)", "{{model}} {{class}}")
        ),
        panel("Bytes in the queue", "bytes", ("max by (model, class) (vidtr_queue_bytes)", "{{model}} {{class}}")),
        panel("Jobs by outcome", "ops", (rate("vidtr_jobs_total", "state"), "{{state}}")),
        panel("Clips by outcome", "ops", (rate("vidtr_clips_total", "outcome"), "{{outcome}}")),
        panel("Clips by model", "ops", (rate("vidtr_model_clips_total", "model, version"), "{{model}}:{{version}}")),
        panel(
            "Mean batch",
            "short",
            (f"{rate('vidtr_batch_clips_sum', 'model')} / {rate('vidtr_batch_clips_count', 'model')}", "{{model}}"),
        ),
        panel("Wait in the queue", "s", *quantiles("vidtr_stage_seconds", 'stage="queue"')),
        panel(
            "Leases lost and clips given up",
            "ops",
            (rate("vidtr_leases_lost_total"), "leases lost"),
            (rate("vidtr_dead_letters_total"), "given up"),
        ),
        panel("Workers by their breaker", "short", ("max by (breaker) (vidtr_workers)", "{{breaker}}")),
        panel("Failed inference calls", "ops", (rate("vidtr_backend_errors_total", "kind"), "{{kind}}")),
        panel(
            "Model versions served", "short", ("max by (model, version) (vidtr_model_served)", "{{model}}:{{version}}")
        ),
        panel(
            "Redis memory",
            "bytes",
            ("max(vidtr_redis_memory_bytes)", "used"),
            ("max(vidtr_redis_memory_limit_bytes)", "budget"),
        ),
    ],
    "Triton and batching": [
        panel(
            "Mean batch",
            "short",
            (
                f"{rate('nv_inference_count', 'model, version')} / {rate('nv_inference_exec_count', 'model, version')}",
                "{{model}}:{{version}}",
            ),
        ),
        panel(
            "Where a request spends its time",
            "s",
            *(
                (
                    f"{rate(f'nv_inference_{part}_duration_us')} / {rate('nv_inference_request_success')} / 1e6",
                    part.replace("_", " "),
                )
                for part in ("queue", "compute_input", "compute_infer", "compute_output")
            ),
            stacked=True,
        ),
        panel("Requests", "reqps", (rate("nv_inference_request_success", "model"), "{{model}}")),
        panel(
            "Failed requests", "reqps", (rate("nv_inference_request_failure", "model, reason"), "{{model}} {{reason}}")
        ),
        panel("Requests waiting", "short", ("sum by (model) (nv_inference_pending_request_count)", "{{model}}")),
        panel("Clips", "ops", (rate("nv_inference_count", "model, version"), "{{model}}:{{version}}")),
        panel("GPU utilisation", "percentunit", ("avg by (gpu_uuid) (nv_gpu_utilization)", "{{gpu_uuid}}")),
        panel(
            "GPU memory",
            "bytes",
            ("sum by (gpu_uuid) (nv_gpu_memory_used_bytes)", "used {{gpu_uuid}}"),
            ("sum by (gpu_uuid) (nv_gpu_memory_total_bytes)", "total {{gpu_uuid}}"),
        ),
        panel("GPU power", "watt", ("sum by (gpu_uuid) (nv_gpu_power_usage)", "{{gpu_uuid}}")),
    ],
    "Capacity": [
        panel(
            "Use of the decode processes",
            "percentunit",
            ("sum(vidtr_decodes_in_progress) / sum(vidtr_decode_processes)", "in progress / processes"),
        ),
        panel("Decode seconds per second", "short", (rate("vidtr_stage_seconds_sum", "", 'stage="decode"'), "busy")),
        panel(
            "Share of time that workers infer",
            "percentunit",
            (
                f"{rate('vidtr_stage_seconds_sum', where=INFERENCE)} / {WORKERS}",
                "inference",
            ),
        ),
        panel(
            "Seconds of inference per clip",
            "s",
            (f"{rate('vidtr_stage_seconds_sum', where=INFERENCE)} / {rate('vidtr_batch_clips_sum')}", "mean"),
        ),
        panel(
            "Redis memory used",
            "percentunit",
            ("max(vidtr_redis_memory_bytes) / max(vidtr_redis_memory_limit_bytes > 0)", "used / budget"),
        ),
        panel("Upload volume", "Bps", (rate("vidtr_upload_bytes_total"), "uploads")),
        panel("Frames decoded", "ops", (rate("vidtr_frames_decoded_total"), "frames")),
        panel("CPU", "short", (rate("process_cpu_seconds_total", "job", 'job=~"vidtr-.*"'), "{{job}}")),
        panel("Memory", "bytes", ('sum by (job) (process_resident_memory_bytes{job=~"vidtr-.*"})', "{{job}}")),
    ],
}


def slug(title: str) -> str:
    """File name and uid of a dashboard."""
    return title.lower().replace(" ", "-")


def dashboard(title: str) -> dict[str, Any]:
    """Grafana's model of a dashboard: two panels a row."""
    panels = [
        {"id": i + 1, "gridPos": {"h": 9, "w": 12, "x": i % 2 * 12, "y": i // 2 * 9}, **content}
        for i, content in enumerate(DASHBOARDS[title])
    ]
    return {
        "title": title,
        "uid": f"vidtr-{slug(title)}",
        "tags": ["vidtr"],
        "schemaVersion": 39,
        "editable": False,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "links": [{"type": "dashboards", "tags": ["vidtr"], "title": "vidtr", "asDropdown": True}],
        "panels": panels,
    }


def text(title: str) -> str:
    """The file of a dashboard."""
    return json.dumps(dashboard(title), indent=1) + "\n"


if __name__ == "__main__":
    for name in DASHBOARDS:
        (HERE / f"{slug(name)}.json").write_text(text(name), encoding="utf-8")
