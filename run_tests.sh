#!/usr/bin/env bash
# Installs what is missing, then checks style, types and behaviour. Options go to pytest: ./run_tests.sh -k wire
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
source scripts/common.sh

scripts/setup_env.sh core http websocket libero vla-eval openpi train gpu dev
# What a red test of another machine is to be compared with.
"$python" -c 'from gr00t.machine import describe_processor; print(describe_processor())'
failed=()
check() {
    local name=$1 begin=$SECONDS
    shift
    "$@" || failed+=("$name")
    echo "[$name: $((SECONDS - begin)) s]"
}
check "ruff check" "$python" -m ruff check
check "ruff format" "$python" -m ruff format --check
check "mypy" "$python" -m mypy
check "variables" "$python" scripts/update_variables.py --check

# Side by side: most of a test's time is one core's, or waiting. A file's tests stay together, as do their fixtures;
# -n 0 runs them one by one.
workers=$(nproc)
((workers <= 4)) || workers=4
# pytest comes last: its closing line is the last line of a run, whoever reads it. Above it, what took the time.
((${#failed[@]} == 0)) || echo "FAILED before the tests: ${failed[*]}" >&2
status=0
"$python" -m pytest -q -p no:cacheprovider -n "$workers" --dist loadfile --durations=20 "$@" || status=$?
((${#failed[@]} == 0)) || exit 1
exit "$status"
