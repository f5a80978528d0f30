#!/usr/bin/env bash
# Runs tests/compose/live.py. Where no engine answers and a folder with stand-ins for engine and base images is given
# (STAND_INS, by default ../shared/docker), it starts that engine and gives the stand-ins the pinned names.
set -euo pipefail
cd "$(dirname "$0")/../.."
stand_ins=${STAND_INS:-../shared/docker}
python=${PYTHON:-.venv/bin/python}
if ! docker version >/dev/null 2>&1; then
  [ -r "$stand_ins/lib.sh" ] || { echo "skipped: no Docker engine answers, and there are no stand-ins in $stand_ins"; exit 0; }
  # shellcheck disable=SC1091
  . "$stand_ins/lib.sh"
  bash "$stand_ins/01-install.sh" && bash "$stand_ins/02-engine-up.sh"
  docker image inspect "nvcr.io/nvidia/tritonserver:24.10-py3" >/dev/null 2>&1 || bash "$stand_ins/04-stand-ins.sh"
  pinned() { sed -n "s#.*\(image: \${[A-Z]*_IMAGE:-\|ARG PYTHON_IMAGE=\)\($1[^}]*\)}\{0,1\}\$#\2#p" docker-compose.yml docker/Dockerfile; }
  for pair in python=python:3.11-slim redis=redis:7-alpine prom/prometheus=prom/prometheus:latest \
    prom/alertmanager=prom/alertmanager:latest grafana/grafana=grafana/grafana:latest \
    nvcr.io=nvcr.io/nvidia/tritonserver:24.10-py3; do
    docker tag "${pair#*=}" "$(pinned "${pair%%=*}")"
  done
  export VIDTR_CLIENT_PREFIX="nsenter --net=/run/netns/$NS"
fi
exec "$python" -u -m tests.compose.live
