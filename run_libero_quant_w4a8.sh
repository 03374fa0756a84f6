#!/usr/bin/env bash
# Serves GR00T N1.5 at 4-bit weights and 8-bit activations, and with --eval drives LIBERO's robot with it.
#
#   ./run_libero_quant_w4a8.sh [SUITE|demo] [MODEL] [-y] [--eval] [--port N] [SERVER OPTION VALUE]...
#                              [-- EVALUATION OPTION...]
#
#   SUITE    libero_spatial (default) | libero_object | libero_goal | libero_10 | libero_90
#   demo     everything offline with the small trained policy of this repository: what W4A8 costs it, and whether
#            it looks at all, in a few minutes
#   MODEL    checkpoint folder or model hub id (default: the published fine-tune for the suite)
#   -y       do not ask for confirmation (nor does it in CI or without a terminal)
#   --eval   instead of only serving: evaluate the policy on the suite; exits with the evaluation's status
#   --port   the server's port (default 5555; with --eval: a free one)
#   --tokenizer, --device, --dtype, --seed, --prompt-style, each with its value, go to the server
#   --       what follows goes to scripts/evaluate.py, for example: -- --tasks 0,3 --trials 5 --arms bf16,w4a8
#
# The documented W4A8 settings apply; a GR00T_DUQUANT_* variable that you have exported wins.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
source scripts/common.sh

usage() { sed -n '2,/^set/{/^#/s/^# \{0,1\}//p;}' "$0"; }

# what is asked for

suite='' model='' port='' assume_yes=0 evaluate=0 evaluation=() server_options=()
while (($#)); do
    case $1 in
        -h | --help) usage; exit 0 ;;
        -y | --yes) assume_yes=1 ;;
        --eval) evaluate=1 ;;
        --port) (($# > 1)) || die "--port needs a number"; port=$2; shift ;;
        --port=*) port=${1#--port=} ;;
        --tokenizer | --device | --dtype | --seed | --prompt-style)
            (($# > 1)) || die "$1 needs a value"
            server_options+=("$1" "$2")
            shift
            ;;
        --) shift; evaluation=("$@"); break ;;
        -*) usage >&2; die "unknown option '$1'" ;;
        *)
            if [[ -z $suite ]]; then suite=$1
            elif [[ -z $model ]]; then model=$1
            else die "one suite and one model at most, got also '$1'"; fi
            ;;
    esac
    shift
done
suite=${suite:-libero_spatial}
[[ -z $port ]] || check_port "$port"

demo=0
if [[ ${suite,,} == demo ]]; then
    demo=1 evaluate=1 assume_yes=1
    [[ -z $model ]] || die "demo has its own model; to serve $model name a suite: ${suites[*]}"
    # Nothing may be fetched; the policy was trained on the stand-ins.
    export HF_HUB_OFFLINE=1
    # Five instructions in one scene, the objects somewhere else in every episode: a policy that succeeds has
    # read and looked.
    suite=libero_object_prompts model=examples/Libero/demo_policy
    results=$(option_value --output ${evaluation[@]+"${evaluation[@]}"})
    evaluation=(--arms "bf16,w4a8=environment,replay" --placement wide --trials 2 --assets stand-ins
        --workers 2 --data-config "$demo_data_config" ${evaluation[@]+"${evaluation[@]}"})
else
    suite=$(canonical_suite "$suite")
    ((evaluate || ${#evaluation[@]} == 0)) || die "options after -- are for the evaluation: add --eval"
    evaluation=(--arms w4a8=environment ${evaluation[@]+"${evaluation[@]}"})
fi

groups=(core)
((evaluate)) && groups+=(libero)
scripts/setup_env.sh "${groups[@]}"

model=${model:-$(suite_model "$suite")}
((evaluate)) || [[ -n $port ]] || { port=5555; check_port "$port"; }

# show it, list the layers, ask

duquant_defaults
# A folder per model: a pack belongs to one set of weights, and the suites would overwrite each other's. The demo
# quantizes anew each time, since that is what it shows.
if ((demo)); then duquant_default PACKDIR ''; else
    duquant_default PACKDIR "duquant_packed_llm_dit_w4a8/$(basename "$model")"
fi

echo "GR00T N1.5, DuQuant W4A8"
data_config=$(suite_data_config "$suite")
((!demo)) || data_config=$demo_data_config
printf '  %-20s %s\n' suite "$suite" model "$model" 'data config' "$data_config" \
    'denoising steps' 8 port "${port:-a free one}"
show_duquant
echo
# As ./test_duquant_dryrun.sh does.
GR00T_DUQUANT_DRYRUN=1 "${tied[@]}" scripts/scan_linear_layers.py --dry-run --model-path "$model"
case ${GR00T_DUQUANT_DRYRUN-} in
    1 | true | yes | on) echo "GR00T_DUQUANT_DRYRUN is set: nothing is served."; exit 0 ;;
esac

if ((!assume_yes)) && [[ -z ${CI-} && -t 0 ]]; then
    read -r -p "Start the quantized server? [Y/n] " answer
    case ${answer,,} in
        '' | y | yes) ;;
        *) echo "Nothing was started."; exit 0 ;;
    esac
fi

# The manual recipe has it on: every Linear is logged with the reason why it was taken or left.
((demo)) || duquant_default DEBUG 1

# evaluate: one program starts the server, calibrates it first if its scales are static, and ends it

if ((evaluate)); then
    evaluation=(scripts/evaluate.py --suite "$suite" --model "$model" --video all
        ${server_options[@]+"${server_options[@]}"} ${evaluation[@]+"${evaluation[@]}"})
    ((demo)) || exec "$python" "${evaluation[@]}"
    # Two demos may start within one second.
    [[ -n $results ]] || results=$(fresh_folder "runs/demo-$(date +%Y%m%d-%H%M%S)")
    status=0
    "${tied[@]}" "${evaluation[@]}" --output "$results" || status=$?
    rmdir "$results" 2>/dev/null || true  # empty where the request was refused
    if [[ -d $results/videos ]]; then
        films=$(find "$results/videos" -name '*.mp4' | sort)
        # Quantized and successful, if there is one.
        film=$(grep -m 1 'w4a8.*success' <<<"$films") || film=${films%%$'\n'*}
        echo
        printf '%-10s %s\n' 'report' "$results/report.html" 'video' "$film"
    fi
    exit "$status"
fi

# serve

server_pid='' waiter_pid=''
# shellcheck disable=SC2317  # reached through the trap
stop() {
    local status=$?
    # Once is enough: what follows must not be cut short by further signals.
    trap - EXIT
    trap '' HUP INT TERM
    [[ -z $waiter_pid ]] || kill "$waiter_pid" 2>/dev/null || true
    if [[ -n $server_pid ]] && kill "$server_pid" 2>/dev/null; then
        for _ in {1..50}; do
            kill -0 "$server_pid" 2>/dev/null || break
            sleep 0.1
        done
        kill -KILL "$server_pid" 2>/dev/null || true
    fi
    wait 2>/dev/null || true
    exit "$status"
}
trap stop EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

server_command "$model" "$suite" "$port"
server+=(${server_options[@]+"${server_options[@]}"})
started=$SECONDS
"${tied[@]}" "${server[@]:1}" &
server_pid=$!

server_died() {
    local status=0
    wait "$server_pid" || status=$?
    server_pid=''
    ((!status)) || printf 'error: the server ended with status %s%s\n' "$status" "${1:+ $1}" >&2
    exit "$status"
}

wait_until_ready "$port" &
waiter_pid=$!
wait -n "$server_pid" "$waiter_pid" || true
kill -0 "$server_pid" 2>/dev/null || server_died "before it was ready"
wait "$waiter_pid" || die "the server did not become ready"
waiter_pid=''
echo "The server is ready on port $port after $((SECONDS - started)) s."

echo "Evaluate it from a second terminal: ./run_libero_eval.sh $suite --headless --port $port"
echo "Stop it with Ctrl-C."
server_died
