#!/bin/sh
# Sets up a virtual environment with the pinned dependencies and compiles llama.cpp for this CPU.
# Environment: PYTHON (python3), VENV (.venv). Called by `make`; safe to run again.
set -eu

python=${PYTHON:-python3}
venv=${VENV:-.venv}
jobs=$(nproc 2>/dev/null || echo 2)

fail() {
    printf 'setup: %s\n' "$1" >&2
    exit 1
}

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null ||
    fail "needs Python 3.11 or newer; on Debian: apt-get install python3 python3-venv (or set PYTHON=...)"
for tool in cc c++ cmake make; do
    command -v "$tool" >/dev/null ||
        fail "needs $tool to compile llama.cpp; on Debian: apt-get install build-essential cmake"
done

if ! [ -x "$venv/bin/pip" ]; then
    echo "setup: making $venv"
    "$python" -m venv "$venv" || fail "can't make a virtual environment; on Debian: apt-get install python3-venv"
fi

pip="$venv/bin/python -m pip --disable-pip-version-check"
llama=$(grep '^llama-cpp-python==' requirements.lock)

echo "setup: installing the pinned packages"
grep -v '^llama-cpp-python==' requirements.lock >"$venv/others.txt"
$pip install --quiet -r "$venv/others.txt"

if [ "$($pip freeze | sed 's|^llama_cpp_python|llama-cpp-python|' | grep '^llama-cpp-python==' || true)" != "$llama" ]; then
    echo "setup: compiling llama.cpp ($llama) with $jobs jobs; about ten core-minutes, once"
    log="$venv/llama-build.log"
    # pip prints ninja's lines when it is verbose; the counters become one moving line.
    (CMAKE_BUILD_PARALLEL_LEVEL=$jobs $pip install --verbose --no-deps "$llama" 2>&1; echo "exit=$?") |
        tee "$log" |
        awk '
            match($0, /\[[0-9]+\/[0-9]+\]/) {
                step = substr($0, RSTART + 1, RLENGTH - 2); split(step, part, "/")
                percent = int(100 * part[1] / part[2])
                if (percent >= last + 5 || part[1] == part[2]) {
                    printf "setup: llama.cpp %3d%% (%s files)\n", percent, step; fflush(); last = percent
                }
            }'
    grep -q '^exit=0$' "$log" || { tail -30 "$log" >&2; fail "llama.cpp did not compile; the whole log is $log"; }
fi

$pip install --quiet --no-deps --editable .
echo "setup: ready"
