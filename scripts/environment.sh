# Sourced by the other scripts: makes .venv when it is missing or older than pyproject.toml.
# In: extras to install ("" or "[test,…]" without brackets) as $1. Out: $FILORAY_ROOT, $FILORAY_PYTHON.

FILORAY_ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
FILORAY_PYTHON="$FILORAY_ROOT/.venv/bin/python"

filoray_find_python() {
    local candidate
    for candidate in python3 python3.13 python3.12 python3.11 python; do
        if command -v "$candidate" >/dev/null && "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
            echo "$candidate"
            return
        fi
    done
    echo "filoray needs Python 3.11 or newer on the PATH" >&2
    return 1
}

# The checkout takes what an installation writes; said in words if not (tried: permissions do not tell of a file system).
filoray_check_writable() {
    local probe="$FILORAY_ROOT/.filoray-writable-$$"
    if ! (: >"$probe") 2>/dev/null; then
        echo "$FILORAY_ROOT is not writable, so .venv cannot be made or renewed in it. Make it as its owner once" \
            "(scripts/launch.sh --help), or install elsewhere: python3 -m venv DIR && DIR/bin/pip install $FILORAY_ROOT" \
            "&& DIR/bin/filoray up --data-dir DATA" >&2
        return 1
    fi
    rm -f "$probe"
}

filoray_make_environment() {
    local extras=$1 stamp wanted python
    stamp="$FILORAY_ROOT/.venv/.filoray-installed-${extras:-base}"
    wanted=$(cksum <"$FILORAY_ROOT/pyproject.toml")
    [ -x "$FILORAY_PYTHON" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ] && return
    filoray_check_writable || return 1
    python=$(filoray_find_python) || return 1
    echo "Making the virtual environment in .venv (a minute or two, once) …" >&2
    [ -x "$FILORAY_PYTHON" ] || "$python" -m venv "$FILORAY_ROOT/.venv" || {
        echo "$python could not make a virtual environment in $FILORAY_ROOT/.venv (on Debian: apt-get install python3-venv)" >&2
        return 1
    }
    "$FILORAY_PYTHON" -m pip install --quiet --disable-pip-version-check \
        --editable "$FILORAY_ROOT${extras:+[$extras]}" 2>"$FILORAY_ROOT/.venv/install.log" || {
        cat "$FILORAY_ROOT/.venv/install.log" >&2
        echo "the packages could not be installed (see above)" >&2
        return 1
    }
    echo "$wanted" >"$stamp"
}
