#!/usr/bin/env bash
# Serves the policy of a LIBERO suite: unquantized, or quantized as the GR00T_DUQUANT_* variables say that you export.
#
#   ./run_inference_server.sh SUITE [MODEL] [OPTION...]
#
#   SUITE   libero_spatial | libero_object | libero_goal | libero_10 | libero_90
#   MODEL   checkpoint folder or model hub id (default: the published fine-tune for the suite)
#   OPTION  passed on to scripts/inference_service.py, for example --port 5556, --device cpu, --tokenizer FOLDER
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
source scripts/common.sh

case ${1-} in
    -h | --help) usage; exit 0 ;;
    '' | -*) usage >&2; exit 2 ;;
esac
launch "$@"
