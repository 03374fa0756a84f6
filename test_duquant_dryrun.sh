#!/usr/bin/env bash
# Lists the layers that DuQuant would quantize, with their bits and settings. Reads no weights, downloads nothing.
#
#   ./test_duquant_dryrun.sh [MODEL_PATH_OR_HUB_ID]     (default: the built-in full-size architecture)
#
# The documented W4A8 settings apply; a GR00T_DUQUANT_* variable that you have exported wins.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
source scripts/common.sh

[[ ${1-} != -h && ${1-} != --help ]] || { usage; exit 0; }
launch "$@"
