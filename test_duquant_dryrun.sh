#!/usr/bin/env bash
# Lists the layers that DuQuant would quantize, with their bits and settings. Reads no weights, downloads nothing.
#
#   ./test_duquant_dryrun.sh [MODEL_PATH_OR_HUB_ID]     (default: the built-in full-size architecture)
#
# The documented W4A8 settings apply; a GR00T_DUQUANT_* variable that you have exported wins.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
source scripts/common.sh

case ${1-} in
    -h | --help) sed -n '2,/^set/{/^#/s/^# \{0,1\}//p;}' "$0"; exit 0 ;;
    -*) die "unknown option '$1'" "usage: ./test_duquant_dryrun.sh [MODEL_PATH_OR_HUB_ID]" ;;
esac
(($# <= 1)) || die "expected one model at most, got $#: $*"

scripts/setup_env.sh core
duquant_defaults
exec "$python" scripts/scan_linear_layers.py --dry-run ${1:+--model-path "$1"}
