#!/bin/sh
# Sets up a virtual environment with the pinned dependencies and compiles llama.cpp for this CPU, or
# with CUDA=1 for its NVIDIA GPU too. A build for the CPU is never taken for one with CUDA.
# Environment: PYTHON (python3), VENV (.venv), CUDA (empty), CMAKE_ARGS (more options for llama.cpp).
# Called by `make`; safe to run again.
set -eu

python=${PYTHON:-python3}
venv=${VENV:-.venv}
cuda=${CUDA:-}
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

if [ -n "$cuda" ]; then
    [ -x /usr/local/cuda/bin/nvcc ] && PATH="$PATH:/usr/local/cuda/bin"
    command -v nvcc >/dev/null || [ -x "${CUDACXX:-}" ] ||
        fail "CUDA=1 needs nvcc of the CUDA toolkit (12.4 or newer): install it from developer.nvidia.com/cuda-downloads, or name it by CUDACXX=/path/to/nvcc"
    CMAKE_ARGS="-DGGML_CUDA=on ${CMAKE_ARGS:-}"
    export CMAKE_ARGS PATH
fi

if ! [ -x "$venv/bin/pip" ]; then
    echo "setup: making $venv"
    "$python" -m venv "$venv" || fail "can't make a virtual environment; on Debian: apt-get install python3-venv"
fi

pip="$venv/bin/python -m pip --disable-pip-version-check"
llama=$(grep '^llama-cpp-python==' requirements.lock)

echo "setup: installing the pinned packages"
grep -v '^llama-cpp-python==' requirements.lock >"$venv/others.txt"
$pip install --quiet -r "$venv/others.txt"

installed=$($pip freeze | sed 's|^llama_cpp_python|llama-cpp-python|' | grep '^llama-cpp-python==' || true)
has_cuda() {
    ls "$venv"/lib*/python*/site-packages/llama_cpp/lib/libggml-cuda* >/dev/null 2>&1
}
if [ "$installed" != "$llama" ] || { [ -n "$cuda" ] && ! has_cuda; }; then
    what="about ten core-minutes"
    options="--no-deps"
    if [ -n "$cuda" ]; then
        # Whatever wheel pip has kept may be one for the CPU.
        options="--no-deps --no-cache-dir --force-reinstall --no-binary llama-cpp-python"
        what="with CUDA, about an hour of one core"
    fi
    echo "setup: compiling llama.cpp ($llama) with $jobs jobs; $what, once"
    log="$venv/llama-build.log"
    # pip prints ninja's lines when it is verbose; the counters become one moving line.
    (CMAKE_BUILD_PARALLEL_LEVEL=$jobs $pip install --verbose $options "$llama" 2>&1; echo "exit=$?") |
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
if [ -n "$cuda" ]; then
    has_cuda || fail "llama.cpp was built, but without CUDA; the log is $venv/llama-build.log"
    "$venv/bin/python" -c 'import llama_cpp, sys; sys.exit(not llama_cpp.llama_supports_gpu_offload())' ||
        echo "setup: llama.cpp has CUDA but sees no GPU: is the driver loaded? nvidia-smi tells" >&2
fi

$pip install --quiet --no-deps --editable .
echo "setup: ready"
