#!/usr/bin/env bash
# Serves GR00T N1.5 at 4-bit weights and 8-bit activations, and with --eval drives LIBERO's robot with it.
#
#   ./run_libero_quant_w4a8.sh [SUITE|demo] [MODEL] [-y] [--eval | --harness vla-eval] [--port N]
#                              [SERVER OPTION VALUE]... [-- EVALUATION OPTION...]
#
#   SUITE    libero_spatial (default) | libero_object | libero_goal | libero_10 | libero_90
#   demo     everything offline with the small trained policy of this repository: what W4A8 costs it, and whether
#            it looks at all, in a few minutes
#   MODEL    checkpoint folder or model hub id (default: the published fine-tune for the suite)
#   -y       do not ask for confirmation (nor does it in CI or without a terminal)
#   --eval   instead of only serving: evaluate the policy on the suite; exits with the evaluation's status
#   --harness vla-eval   instead of --eval: another project's harness plays, here and without a container; its own
#            result file says what it played. With demo: six episodes of libero_object, some minutes
#   --port   the server's port (default 5555; with --eval and --harness: a free one)
#   --tokenizer, --device, --dtype, --seed, --prompt-style, each with its value, go to the server
#   --       what follows goes to scripts/evaluate.py, for example: -- --tasks 0,3 --trials 5 --arms bf16,w4a8
#            or, with --harness, to `vla-eval run`: -- --benchmark-field episodes_per_task=50 --record-video
#
# The documented W4A8 settings apply; a GR00T_DUQUANT_* variable that you have exported wins.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
source scripts/common.sh

for word in "$@"; do
    case $word in
        -h | --help) usage; exit 0 ;;
        --) break ;;
    esac
done
launch "$@"
