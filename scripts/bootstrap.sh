#!/bin/sh
# Creates .venv from the hashed locks: `scripts/bootstrap.sh dev` for the stack, `… test` for the stack and the test
# tools. Needs python3 (any version) with pip, which installs the pinned uv, and Python >= 3.13, which uv downloads if
# it is missing. It only adds and updates packages, so both can run in either order.
set -eu
cd "$(dirname "$0")/.."
kind=$1
tools=.mesh/tools
uv=$tools/bin/uv
log=.mesh/setup.log

main() {
  install_uv
  if ! is_recent .venv/bin/python; then
    make_venv
  fi
  echo "setup: packages of requirements/$kind.txt"
  "$uv" pip install --quiet --python .venv/bin/python --require-hashes -r "requirements/$kind.txt"
  set -- -e proto
  for member in services/*/; do
    set -- "$@" -e "${member%/}"
  done
  "$uv" pip install --quiet --python .venv/bin/python --no-deps --no-build-isolation "$@"
}

install_uv() {
  pinned=$(sed -n 's/^uv==\([0-9.]*\).*/\1/p' requirements/installer.txt)
  if [ -x "$uv" ] && [ "$("$uv" --version | cut -d' ' -f2)" = "$pinned" ]; then
    return
  fi
  command -v python3 >/dev/null || fail "there is no python3 on PATH: install Python 3.13 or newer, with pip"
  python3 -m pip --version >/dev/null 2>&1 || fail "python3 has no pip: install it (Debian: apt install python3-pip)"
  echo "setup: uv $pinned into $tools"
  rm -rf "$tools"
  python3 -m pip install --quiet --disable-pip-version-check --no-warn-script-location --root-user-action=ignore \
    --require-hashes --target "$tools" -r requirements/installer.txt ||
    fail "pip could not install uv $pinned: see the lines above"
}

make_venv() {
  python=$(find_python)
  echo "setup: .venv with ${python:-Python 3.13, downloaded by uv}"
  "$uv" venv --quiet --clear --python "${python:-3.13}" .venv 2>"$log" ||
    fail "no Python >= 3.13 on PATH or under ~/.pyenv/versions, and uv could not download one (see $log): install Python 3.13"
}

# Prints the first Python that is new enough. 3.13 is preferred, because the services' images run it.
find_python() {
  for candidate in python3.13 python3.14 python3 \
    "${HOME:-}"/.pyenv/versions/3.13*/bin/python "${HOME:-}"/.pyenv/versions/*/bin/python; do
    if is_recent "$candidate"; then
      # Resolves the shims of version managers to the real program.
      "$candidate" -c 'import os, sys; print(os.path.realpath(sys.executable))'
      return
    fi
  done
}

# Version managers also have shims for versions that are not selected; those fail when run.
is_recent() {
  "$1" -c 'import sys; sys.exit(sys.version_info < (3, 13))' >/dev/null 2>&1
}

fail() {
  echo "setup: $1" >&2
  exit 1
}

main
