#!/usr/bin/env bash
# Writes .setup/requirements.lock (runtime + dev) and .setup/bench.lock from pyproject.toml, with hashes,
# valid for every Python that pyproject.toml allows.
set -euo pipefail
cd "$(dirname "$0")/.."
tool=$(mktemp -d)
trap 'rm -rf "$tool"' EXIT
"${PYTHON:-python3}" -m venv "$tool"
"$tool/bin/pip" install -q --disable-pip-version-check uv
compile() { # output, options
    "$tool/bin/uv" pip compile -q --universal --generate-hashes --no-emit-index-url --no-annotate \
        --custom-compile-command "make lock" pyproject.toml "${@:2}" -o "$1"
}
compile .setup/requirements.lock --extra dev
compile .setup/bench.lock --extra bench -c .setup/requirements.lock
compile .setup/acceptance.lock --extra acceptance -c .setup/requirements.lock
compile .setup/fuzz.lock --extra fuzz -c .setup/requirements.lock
