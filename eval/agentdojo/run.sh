#!/usr/bin/env bash
# Runs the benchmark kit against bailiwick, both tracks, and writes the tables.
#
#   GUARD_KIT=/path/to/the/kit eval/agentdojo/run.sh [declared|undeclared|prepare] [options of the kit's run.py]
#
# Without a track: both. `prepare` only makes the virtual environment, in target/agentdojo, where the tables go too:
# results-TRACK.txt and .json, every run in records-TRACK.jsonl, decision times in times-TRACK.jsonl. GUARD_KIT is by
# default ../shared/eval/agentdojo beside the repository. Exit 1 if a gate of the kit is missed.

set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
root="$(cd "$here/../.." && pwd)"
kit="${GUARD_KIT:-$root/../shared/eval/agentdojo}"
out="$root/target/agentdojo"

main() {
    [ -f "$kit/run.py" ] || { echo "there is no kit at $kit: set GUARD_KIT to its folder" >&2; exit 2; }
    kit="$(cd "$kit" && pwd)"
    mkdir -p "$out"
    prepare
    local tracks=(declared undeclared)
    case "${1:-}" in
        prepare) return ;;
        declared | undeclared) tracks=("$1"); shift ;;
    esac
    local track missed=0
    for track in "${tracks[@]}"; do
        measure "$track" "$@" || missed=1
    done
    return "$missed"
}

# The kit's own packages, in an environment that is made again when the kit asks for others.
prepare() {
    cmp -s "$kit/requirements.txt" "$out/requirements.txt" && return
    local python
    python="$(command -v python3.11 || command -v python3)"
    "$python" -m venv --clear "$out/venv"
    "$out/venv/bin/pip" install --quiet --disable-pip-version-check -r "$kit/requirements.txt"
    cp "$kit/requirements.txt" "$out/requirements.txt"
}

measure() {
    local track="$1" ended=0
    shift
    rm -f "$out/times-$track.jsonl"
    PYTHONPATH="$here" PYTHONDONTWRITEBYTECODE=1 GUARD_TIMES="$out/times-$track.jsonl" \
        "$out/venv/bin/python" "$kit/run.py" --guards bailiwick_guard:from_env --track "$track" --gate \
        --json "$out/results-$track.json" --records "$out/records-$track.jsonl" "$@" >"$out/results-$track.txt" || ended=1
    cat "$out/results-$track.txt" "$out/times-$track.jsonl"
    return "$ended"
}

main "$@"
