import subprocess
import sys
import urllib.request
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from service.local.process import free_ports
from service.telemetry import metrics

WRITER = """
from service.telemetry import metrics
metrics.STAGE.labels("decode").observe(0.02)
metrics.UPLOAD_BYTES.inc(100)
metrics.REQUESTS_IN_PROGRESS.inc()
"""


def samples(text: str) -> dict[str, float]:
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = ",".join(f"{key}={value}" for key, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}"] = sample.value
    return found


def test_the_metrics_of_processes_that_share_a_directory_are_added_up(tmp_path: Path) -> None:
    for _ in range(3):
        subprocess.run([sys.executable, "-c", WRITER], env={"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}, check=True)
    found = samples(metrics.render(tmp_path).decode())
    assert found["vidtr_upload_bytes_total{}"] == 300
    assert found["vidtr_stage_seconds_count{stage=decode}"] == 3
    assert found["vidtr_stage_seconds_bucket{le=0.025,stage=decode}"] == 3
    assert found["vidtr_stage_seconds_bucket{le=0.01,stage=decode}"] == 0


def test_label_values_that_are_known_beforehand_start_at_zero(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-c", "import service.telemetry.metrics"],
        env={"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)},
        check=True,
    )
    found = samples(metrics.render(tmp_path).decode())
    assert found["vidtr_dead_letters_total{}"] == 0
    assert found["vidtr_errors_total{code=backend_failed}"] == 0
    assert found["vidtr_admission_rejects_total{reason=queue_full}"] == 0


def test_a_port_of_its_own_serves_the_shared_metrics(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", WRITER], env={"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}, check=True)
    (port,) = free_ports(1)
    code = f"""
import sys
from pathlib import Path
from service.telemetry import metrics
metrics.serve("127.0.0.1", {port}, Path({str(tmp_path)!r}))
print("up", flush=True)
sys.stdin.read()
"""
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        assert server.stdout.readline() == "up\n"
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            text = answer.read().decode()
        server.kill()
    assert samples(text)["vidtr_upload_bytes_total{}"] == 100
