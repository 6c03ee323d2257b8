#!/usr/bin/env bash
# Brings a Debian/Ubuntu machine to the state that the project needs: packages, virtual environment, eBPF object.
# Usage: setup.sh [setup|bench|acceptance]   A second run finds nothing to do.
set -euo pipefail
cd "$(dirname "$0")/.."
what=${1:-setup}
venv=${VENV:-.venv}

packages() { # the packages of section [$1]
    awk -v want="[$1]" '/^\[/ { on = ($0 == want); next } on && NF && $1 !~ /^#/ { print $1 }' .setup/debian-packages.txt
}

install_packages() {
    local missing=()
    local have
    have=$(dpkg-query -W -f '${db:Status-Abbrev} ${Package}\n' 2>/dev/null | awk '$1 == "ii" { print $2 }')
    for name in $(packages "$1"); do
        grep -qx -- "$name" <<<"$have" || missing+=("$name")
    done
    [ ${#missing[@]} -eq 0 ] && return
    if [ "$(id -u)" -ne 0 ]; then
        echo "setup: these Debian packages are missing and only root can install them: ${missing[*]}" >&2
        exit 1
    fi
    echo "setup: installing ${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive
    if [ ! -e /usr/sbin/policy-rc.d ]; then
        # Servers are for tests and benchmarks, inside namespaces: none is started, or enabled, on the machine itself.
        printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
        chmod +x /usr/sbin/policy-rc.d
        trap 'rm -f /usr/sbin/policy-rc.d' EXIT
    fi
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

install_locked() { # lock file, stamp name
    local stamp="$venv/.$2-stamp" want
    want=$(cat "$1" pyproject.toml | sha256sum; "$venv/bin/python" -V)
    [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$want" ] && return
    echo "setup: installing the Python packages of $1"
    "$venv/bin/pip" install -q --disable-pip-version-check --require-hashes -r "$1"
    [ "$2" = setup ] && "$venv/bin/pip" install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
    printf '%s' "$want" >"$stamp"
}

is_stamped() { # stamp file, wanted content
    [ -f "$1" ] && [ "$(cat "$1")" = "$2" ]
}

install_kafka() { # the genuine Apache Kafka with its Java clients and tools: $venv/kafka/libs
    local target want
    target=$(realpath "$venv")/kafka
    want=$(sha256sum <.setup/kafka/pom.xml)
    is_stamped "$target/libs-stamp" "$want" && return
    echo "setup: installing Apache Kafka"
    rm -rf "$target/libs"
    mvn -q -B -f .setup/kafka/pom.xml dependency:copy-dependencies -DoutputDirectory="$target/libs"
    printf '%s' "$want" >"$target/libs-stamp"
}

install_node_clients() { # Kafka clients for Node.js: $venv/kafka/node_modules
    local bin target want
    bin=$(realpath "$venv/bin")
    target=$(realpath "$venv")/kafka
    want=$(cat .setup/kafka/package*.json | sha256sum; "$bin/node" --version)
    is_stamped "$target/node-stamp" "$want" && return
    echo "setup: installing Kafka clients for Node.js"
    mkdir -p "$target"
    cp .setup/kafka/package.json .setup/kafka/package-lock.json "$target/"
    (cd "$target" && PATH="$bin:$PATH" npm ci --silent --ignore-scripts --no-audit --no-fund)
    printf '%s' "$want" >"$target/node-stamp"
}

install_packages setup
[ "$what" = bench ] && install_packages bench
[ "$what" = acceptance ] && install_packages acceptance
if [ ! -x "$venv/bin/python" ]; then
    echo "setup: creating $venv"
    "${PYTHON:-python3}" -m venv "$venv"
fi
install_locked .setup/requirements.lock setup
[ "$what" = bench ] && install_locked .setup/bench.lock bench
[ "$what" = fuzz ] && install_locked .setup/fuzz.lock fuzz
if [ "$what" = acceptance ]; then
    install_locked .setup/acceptance.lock acceptance
    echo "setup: building h2spec"
    (target=$(realpath "$venv/bin") && cd .setup/h2spec &&
        PATH="$target:$PATH" go build -o "$target/h2spec" github.com/summerwind/h2spec/cmd/h2spec)
    install_kafka
    install_node_clients
fi
[ "$what" = bench ] && install_kafka
"$venv/bin/python" -P -m bpf.build --quiet
