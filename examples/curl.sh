#!/usr/bin/env bash
# Usage: curl.sh VIDEO [SERVER]
set -euo pipefail
video=$1
server=${2:-http://localhost:8080}

# One request, one answer.
curl -fsS -F "file=@$video" "$server/v1/classify?windows=2&top_k=2"
echo

# A job: accepted at once, polled until it has ended.
location=$(curl -fsSi -H 'Prefer: respond-async' -F "file=@$video" "$server/v1/classify" |
  tr -d '\r' | sed -n 's/^location: //p')
until status=$(curl -fsS "$server$location" | sed -n 's/.*"status": *"\([a-z]*\)".*/\1/p') &&
  [[ $status != queued && $status != running ]]; do
  sleep 0.5
done
echo "the job $location has $status"

# An error has a stable code, which a script can branch on.
code=$(printf 'no video' | curl -sS -T - -X POST "$server/v1/classify" | sed -n 's/.*"code": *"\([a-z_]*\)".*/\1/p')
echo "text is refused as $code"
