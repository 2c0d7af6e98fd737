#!/bin/sh
# Installs Minions with the cluster's parts into a folder: install.sh FOLDER [cpu|cuda]
# The container images are made by this script, and a machine without containers by the same one.
set -eu

folder=${1:?"usage: install.sh FOLDER [cpu|cuda]"}
variant=${2:-cpu}
source=$(cd "$(dirname "$0")/../.." && pwd)
python=${PYTHON:-python3}

fail() {
    printf 'install: %s\n' "$1" >&2
    exit 1
}

case $variant in
cpu) unset CMAKE_ARGS || true ;;
cuda)
    command -v nvcc >/dev/null || fail "the cuda variant compiles llama.cpp with nvcc, which is not here: install the CUDA toolkit"
    CMAKE_ARGS="-DGGML_CUDA=on"
    export CMAKE_ARGS
    ;;
*) fail "the variant is cpu or cuda, not $variant" ;;
esac
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || fail "needs Python 3.11 or newer (set PYTHON=...)"

[ -x "$folder/bin/pip" ] || "$python" -m venv "$folder"
pip="$folder/bin/python -m pip --disable-pip-version-check --quiet"
llama=$(grep '^llama-cpp-python==' "$source/requirements.lock") || fail "$source/requirements.lock names no llama-cpp-python"

echo "install: packages"
$pip install -r "$source/requirements.lock"
if [ "$variant" = cuda ]; then
    echo "install: llama.cpp for CUDA; pip would take a wheel for the CPU from its cache"
    $pip install --no-cache-dir --force-reinstall --no-deps "$llama"
fi
echo "install: minions"
$pip install "$source[cluster]"
"$folder/bin/minions" --help >/dev/null || fail "the command does not start"
"$folder/bin/python" -c 'import ray' || fail "Ray does not start"
echo "install: done, $folder/bin/minions"
