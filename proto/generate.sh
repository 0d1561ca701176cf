#!/usr/bin/env bash
# Makes proto/gen anew from the .proto files; `--check` only compares, and fails when they differ.
# grpcio-tools 1.81 on purpose: stubs of 1.85 refuse to load beside the protobuf 6 that mem0ai needs.
set -euo pipefail
cd "$(dirname "$0")"
python=${PYTHON:-../.venv/bin/python}
bin=$(cd "$(dirname "$python")" && pwd)
target=gen
if [ "${1:-}" = --check ]; then
  target=$(mktemp -d)
  trap 'rm -rf "$target"' EXIT
else
  rm -rf gen/mesh
fi
mkdir -p "$target"
PATH="$bin:$PATH" "$python" -m grpc_tools.protoc --proto_path=. \
  --python_out="$target" --mypy_out=quiet:"$target" \
  --grpc_python_out="$target" --mypy_grpc_out=quiet,only_async:"$target" \
  $(find mesh -name '*.proto' | sort)
touch "$target/mesh/py.typed"
if [ "${1:-}" = --check ]; then
  diff -r -x __pycache__ "$target" gen || { echo "proto/gen is not what the .proto files give: run 'make proto'" >&2; exit 1; }
fi
