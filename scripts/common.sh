# Shared by the scripts at the top of the repository, which source it. It only defines things.
# shellcheck shell=bash disable=SC2034  # what is set here is read by the scripts that source this

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python=$root/.venv/bin/python
suites=(libero_spatial libero_object libero_goal libero_10 libero_90)

# OpenMP's threads spin while they wait for work. With the simulator or a second process on the same cores they then
# take the time that the others would have worked in: a request gets several times slower. Passive waiting costs
# microseconds.
export OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-PASSIVE}
# The scripts run from the repository's folder; a pinned .venv must not pick up packages from elsewhere.
export PYTHONNOUSERSITE=1

die() {
    printf 'error: %s\n' "$1" >&2
    shift
    (($# == 0)) || printf '  %s\n' "$@" >&2
    exit 1
}

# option_value OPTION ARGUMENT...: the value of OPTION VALUE or OPTION=VALUE among the arguments, the last one; or
# nothing.
option_value() {
    local option=$1 value=''
    while shift && (($#)); do
        case $1 in
            "$option") value=${2-} ;;
            "$option="*) value=${1#*=} ;;
        esac
    done
    printf '%s' "$value"
}

# fresh_folder NAME: makes a folder of that name, or with -2, -3, ... behind it where that is taken, and says which.
fresh_folder() {
    local name=$1 count=1
    mkdir -p "$(dirname "$name")" 2>/dev/null || true  # its error is that of the next one
    until mkdir "$name" 2>/dev/null; do
        [[ -e $name ]] || die "cannot make the folder $name in $PWD; name another one: -- --output FOLDER"
        name=$1-$((++count))
    done
    printf '%s' "$name"
}

# canonical_suite NAME: libero_goal for goal, libero-goal, LIBERO_GOAL; anything else is an error with the nearest name.
canonical_suite() {
    local name=${1,,} known hint
    name=${name//-/_}
    name=libero_${name#libero_}
    [[ $name != libero_long ]] || name=libero_10
    for known in "${suites[@]}"; do
        [[ $name != "$known" ]] || { printf '%s' "$known"; return; }
    done
    # Before any set-up, so with whatever Python is there; without one the list alone has to do.
    hint=$(cd "$root" && python3 -c \
        'import sys; from gr00t.spelling import did_you_mean; print(did_you_mean(sys.argv[1], sys.argv[2:]))' \
        "$name" "${suites[@]}" 2>/dev/null) || true
    die "unknown suite '$1'${hint:+; $hint}" "suites: ${suites[*]}"
}

# suite_model SUITE: the published fine-tune of NVIDIA's base model for a suite.
suite_model() {
    local short=${1#libero_}
    [[ $short != 10 ]] || short=long
    printf 'youliangtan/gr00t-n1.5-libero-%s-posttrain' "$short"
}

# suite_data_config SUITE: the goal checkpoint was trained with mean/std statistics, the others with min/max.
suite_data_config() {
    local class=LiberoDataConfig
    [[ $1 != libero_goal ]] || class=LiberoDataConfigMeanStd
    printf 'examples.Libero.custom_data_config:%s' "$class"
}

# What the policy in examples/Libero/demo_policy was trained with.
demo_data_config=examples.Libero.demo_data_config:DemoDataConfig

# server_command MODEL SUITE PORT: sets the array `server` to the documented command.
server_command() {
    server=("$python" scripts/inference_service.py --model_path "$1" --server
        --data_config "$(suite_data_config "$2")" --denoising-steps 8 --port "$3"
        --embodiment-tag new_embodiment)
}

# duquant_defaults: the documented W4A8 settings. What is exported already wins.
mapfile -t exported_before < <(compgen -A export GR00T_DUQUANT_ || true)
duquant_defaults() {
    duquant_default SCOPE ''
    duquant_default INCLUDE '.*(backbone\..*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)|action_head\..*\.mlp\.(gate_proj|up_proj|down_proj)).*'
    duquant_default EXCLUDE '(?:^|\.)(vision|radio|norm|ln|layernorm|embed|lm_head)(?:\.|$)|action_head\..*\.self_attn\.'
    duquant_default WBITS_DEFAULT 4
    duquant_default ABITS 8
    duquant_default BLOCK 16
    duquant_default PERMUTE 1
    duquant_default ROW_ROT restore
    duquant_default ACT_PCT 99.9
    duquant_default CALIB_STEPS 32
    duquant_default LS 0.15
}

duquant_default() {
    local name=GR00T_DUQUANT_$1
    [[ -v $name ]] || printf -v "$name" '%s' "$2"
    export "${name?}"
}

# show_duquant: every setting in force, and which of them came from the caller's environment.
show_duquant() {
    local name from
    while read -r name; do
        from=''
        [[ " ${exported_before[*]-} " != *" $name "* ]] || from='   (from your environment)'
        printf '  %s=%s%s\n' "$name" "${!name}" "$from"
    done < <(compgen -A export GR00T_DUQUANT_)
}

# check_port PORT: a number, and nobody listens there. A foreign server would answer our ping and be taken for ours.
check_port() {
    if ! [[ $1 =~ ^[0-9]{1,5}$ ]] || ((10#$1 < 1 || 10#$1 > 65535)); then
        die "--port $1: expected a number from 1 to 65535"
    fi
    if (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; then
        die "port $1 is in use by another program" "choose another one: --port $(($1 < 65535 ? $1 + 1 : 5555))"
    fi
}

# What stands before a Python program in place of $python, where the program must not outlive this script, whatever
# ends the script.
tied=("$python" gr00t/processes/watchdog.py $$)

# wait_until_ready PORT: for the background only; ends with status 0 once the server answers a ping. It becomes the
# waiting program, so that killing the background process leaves nothing behind.
wait_until_ready() {
    exec "${tied[@]}" -c '
import sys
from gr00t.serving.client import ExternalRobotInferenceClient
with ExternalRobotInferenceClient(host="127.0.0.1", port=int(sys.argv[1])) as client:
    client.wait_until_ready(timeout_s=3600.0)
' "$1"
}
