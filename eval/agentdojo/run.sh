#!/usr/bin/env bash
# Runs the benchmark kit against bailiwick, both tracks, and writes the tables.
#
#   GUARD_KIT=/path/to/the/kit eval/agentdojo/run.sh [declared|undeclared] [options of the kit's run.py]
#
# Without a track: both. The virtual environment is made in target/agentdojo, and so are the tables:
# results-TRACK.txt and .json, decision times in times-TRACK.jsonl. GUARD_KIT is by default ../shared/eval/agentdojo
# beside the repository. Exit 1 if a gate is missed.

set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
root="$(cd "$here/../.." && pwd)"
kit="${GUARD_KIT:-$root/../shared/eval/agentdojo}"
out="$root/target/agentdojo"

[ -f "$kit/run.py" ] || { echo "there is no kit at $kit: set GUARD_KIT to its folder" >&2; exit 2; }
tracks=(declared undeclared)
case "${1:-}" in declared | undeclared) tracks=("$1"); shift ;; esac

mkdir -p "$out"
if ! cmp -s "$kit/requirements.txt" "$out/requirements.txt"; then
    python="$(command -v python3.11 || command -v python3)"
    "$python" -m venv "$out/venv"
    "$out/venv/bin/pip" install --quiet -r "$kit/requirements.txt"
    cp "$kit/requirements.txt" "$out/requirements.txt"
fi

missed=0
for track in "${tracks[@]}"; do
    rm -f "$out/times-$track.jsonl"
    PYTHONPATH="$here" PYTHONDONTWRITEBYTECODE=1 GUARD_TIMES="$out/times-$track.jsonl" \
        "$out/venv/bin/python" "$kit/run.py" --guards bailiwick_guard:from_env --track "$track" --gate \
        --json "$out/results-$track.json" --records "$out/records-$track.jsonl" "$@" |
        tee "$out/results-$track.txt" || missed=1
    cat "$out/times-$track.jsonl"
done
exit "$missed"
