#!/usr/bin/env bash
# Makes .venv what locks/cpu.txt says, then installs this tree into it and prepares the laptop
# profile's model. Each step is skipped while what it was made from is unchanged.
#
#   scripts/setup.sh          set up (what every `make` verb does first)
#   scripts/setup.sh lock     make locks/cpu.txt again from pyproject.toml (ARGS: for uv, --upgrade)
#
# The only file that knows a package index: PyTorch's CPU builds are not on PyPI.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly torch_index=https://download.pytorch.org/whl/cpu
readonly venv=.venv lock=locks/cpu.txt profile=configs/laptop.yaml
readonly python=$venv/bin/python

say() { printf '==> %s\n' "$*"; }
die() { printf 'headstart: %s\n' "$*" >&2; exit 1; }

# --- what a step was made from -----------------------------------------------------------------
# A stamp holds the fingerprint of the step's inputs. The path counts: environments do not move.
fingerprint() { { pwd; cat "$@"; } | sha256sum; }
is_current() { [ "$(cat "$venv/$1.stamp" 2>/dev/null)" = "$(fingerprint "${@:2}")" ]; }
stamp() { fingerprint "${@:2}" >"$venv/$1.stamp"; }

# --- Python ------------------------------------------------------------------------------------
can_make_venv() { "$1" -c "import ensurepip, sys, venv; sys.exit(not ($2))" 2>/dev/null; }

find_python() { # find_python CONDITION: the first Python that meets it and can make environments
    local name
    for name in python3.11 python3 python; do
        if can_make_venv "$name" "$1"; then echo "$name"; return; fi
    done
    return 1
}

find_uv() {
    command -v uv && return
    local any
    any=$(find_python 'sys.version_info >= (3, 8)') || die \
        "needs Python with its venv module: on Debian or Ubuntu, run: sudo apt-get install python3-venv"
    "$any" -m venv "$scratch/uv" && "$scratch/uv/bin/pip" install --quiet uv >&2 || die \
        "there is no Python 3.11 here, and uv, which could fetch one, could not be installed: install python3.11 and python3.11-venv"
    echo "$scratch/uv/bin/uv"
}

make_venv() {
    local base uv
    rm -rf "$venv"
    if base=$(find_python 'sys.version_info[:2] == (3, 11)'); then
        say "Making $venv with $("$base" --version)"
        "$base" -m venv "$venv"
        return
    fi
    say "No Python 3.11 with venv here: fetching one with uv"
    uv=$(find_uv)
    "$uv" venv --seed --python 3.11 "$venv" || die \
        "Python 3.11 could not be fetched: install python3.11 and python3.11-venv, then run this again"
}

is_usable() { # our Python, and not moved here from another path
    "$python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null &&
        grep -qsF "$PWD/$python" "$venv/bin/pip"
}

# --- packages ----------------------------------------------------------------------------------
pip_install() { "$python" -m pip --disable-pip-version-check install --no-deps "$@"; }
install_locked() { pip_install --require-hashes "$@"; }
locked() { sed -n "/^$1==/,/[^\\\\]\$/p" "$lock" >"$scratch/$1.txt"; echo "$scratch/$1.txt"; }

install_packages() {
    say "Installing the packages of $lock (about 4 GB on disk)"
    install_locked --quiet -r "$(locked pip)"
    # What this machine's pip is configured with comes first: it may hold the CPU build of torch.
    install_locked -r "$(locked torch)" 2>"$scratch/torch.log" ||
        install_locked --index-url "$torch_index" -r "$(locked torch)" || {
        cat "$scratch/torch.log" >&2
        die "torch's CPU build is neither where pip is configured to look nor at $torch_index: check the network, then run this again"
    }
    install_locked -r "$lock" || die "pip could not install $lock (see above): mend that, then run this again"
}

link_types() { # type checkers do not follow setuptools' editable finders
    local marker
    rm -rf .types
    mkdir -p .types/headstart
    for marker in */py.typed; do
        ln -sfn "../../${marker%/*}" ".types/headstart/${marker%/*}"
    done
}

# --- the two commands --------------------------------------------------------------------------
set_up() {
    [ "$(uname -sm)" = "Linux x86_64" ] || die \
        "$lock is for Linux on x86-64, and this is $(uname -sm)"
    exec 9<"${BASH_SOURCE[0]}"
    flock -n 9 || { say "Another set-up of this folder is running: waiting for it"; flock 9; }

    is_usable || make_venv
    if ! is_current packages "$lock"; then
        install_packages
        stamp packages "$lock"
    fi
    if ! is_current project "$lock" pyproject.toml || [ ! -d .types ]; then
        say "Installing headstart from this folder"
        PYTHONWARNINGS=ignore pip_install --quiet --no-build-isolation --editable .
        link_types
        stamp project "$lock" pyproject.toml
    fi
    if ! is_current model "$lock" "$profile"; then
        say "Preparing the model of $profile"
        "$venv/bin/headstart" model prepare --config "$profile"
        stamp model "$lock" "$profile"
    fi
}

make_lock() {
    # uv does not read pip's configuration, so pip's find-links are handed over, and PyTorch's page
    # for torch alone: as an index it would also answer for packages that PyPI has.
    local uv link links=()
    for link in $("$python" -m pip config get global.find-links 2>/dev/null); do
        links+=(--find-links "$link")
    done
    [ ${#links[@]} -gt 0 ] || links=(--find-links "$torch_index/torch/")
    uv=$(find_uv)
    "$uv" pip compile pyproject.toml --extra cpu --extra dev \
        --override locks/cpu.overrides.txt --output-file "$lock" --quiet "${links[@]}" "$@" \
        --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --no-annotate \
        --python-version 3.11 --python-platform x86_64-manylinux_2_28
}

scratch=$(mktemp -d)
readonly scratch
trap 'rm -rf "$scratch"' EXIT
case ${1:-} in
    "") set_up ;;
    lock) make_lock "${@:2}" ;;
    *) die "usage: scripts/setup.sh [lock [UV-OPTION...]]" ;;
esac
