#!/usr/bin/env bash
# Evaluates a running policy server on a LIBERO suite.
#
#   ./run_libero_eval.sh SUITE [--headless] [--port N] [--host NAME] [--tasks 0,3] [--trials N] [OPTION...]
#
#   SUITE   libero_spatial | libero_object | libero_goal | libero_10 | libero_90
#
# Start the server first, in another terminal: ./run_inference_server.sh SUITE. Results land in runs/.
# Several policies side by side, started and ended for you: scripts/evaluate.py --arms bf16,w4a8 --suite SUITE
# All options: ./run_libero_eval.sh SUITE --help
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
source scripts/common.sh

case ${1-} in
    -h | --help) usage; exit 0 ;;
    '' | -*) usage >&2; exit 2 ;;
esac
launch "$@"
