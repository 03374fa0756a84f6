# Shared by the scripts at the top of the repository, which source it. It only defines things.
# shellcheck shell=bash

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python=$root/.venv/bin/python

# OpenMP's threads spin while they wait for work. With the simulator or a second process on the same cores they then
# take the time that the others would have worked in: a request gets several times slower. Passive waiting costs
# microseconds.
export OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-PASSIVE}
# The scripts run from the repository's folder; a pinned .venv must not pick up packages from elsewhere.
export PYTHONNOUSERSITE=1

# usage: the comment at the top of the script.
usage() { sed -n '2,/^set/{/^#/s/^# \{0,1\}//p;}' "$0"; }

# launch ARGUMENT...: installs what the script's arguments need, then goes on as the Python program that does what they
# say: gr00t/cli/launch. Suites, models and settings are known there.
launch() {
    local reader=$python name groups
    name=$(basename "$0")
    # A wrong argument is refused before minutes of set-up, by whatever Python is there.
    if [[ ! -x $python ]]; then
        reader=python3
        if ! "$reader" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
            scripts/setup_env.sh core
            reader=$python
        fi
    fi
    groups=$("$reader" -m gr00t.cli.launch --groups "$name" "$@") || exit
    # shellcheck disable=SC2086  # words
    scripts/setup_env.sh $groups
    exec "$python" -m gr00t.cli.launch "$name" "$@"
}
