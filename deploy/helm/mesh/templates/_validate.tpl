{{/*
Checks that the schema cannot express: combinations of values. Each message names the values.
*/}}

{{- define "mesh.validate" -}}
{{- $faults := include "mesh.secretFaults" . | fromYamlArray -}}
{{- $faults = concat $faults (include "mesh.releaseFaults" . | fromYamlArray) -}}
{{- range include "mesh.serviceNames" . | splitList "," -}}
{{- $component := dict "root" $ "name" . -}}
{{- range list "mesh.replicaFaults" "mesh.drainFaults" "mesh.resourceFaults" "mesh.placeFaults" -}}
{{- $faults = concat $faults (include . $component | fromYamlArray) -}}
{{- end -}}
{{- end -}}
{{- $faults = concat $faults (include "mesh.quantityFaults" (dict "path" "migrations.resources" "resources" .Values.migrations.resources) | fromYamlArray) -}}
{{- if $faults -}}
{{- fail (printf "\n\n%s\n" (join "\n" $faults)) -}}
{{- end -}}
{{- end -}}

{{/* The faults, as YAML lists: first those of the Secrets and the release, then those of one service. */}}

{{- define "mesh.secretFaults" -}}
{{- if .Values.secrets.create }}
{{- if not .Values.database.host }}
- "database.host is required: the PostgreSQL that secrets.create writes into the connection URLs"
{{- end }}
{{- if not .Values.redis.host }}
- "redis.host is required: the Redis or Valkey that secrets.create writes into the connection URLs"
{{- end }}
{{- else if not .Values.secrets.prefix }}
{{- $keys := include "mesh.secretKeys" . | fromYaml }}
{{- $missing := false }}
{{- range include "mesh.neededSecrets" . | splitList "," }}
{{- if not (index $.Values.secrets .).existingSecret }}
{{- $missing = true }}
- {{ printf "secrets.%s.existingSecret is required: the Secret with %s" . (get $keys .) | quote }}
{{- end }}
{{- end }}
{{- if $missing }}
- "Or set secrets.prefix if `make secrets FORMAT=kubernetes` made all of them, or secrets.create=true for a trial"
{{- end }}
{{- end }}
{{- end -}}

{{- define "mesh.releaseFaults" -}}
{{- $account := .Values.serviceDefaults.serviceAccount -}}
{{- if and $account.create $account.name }}
- "serviceDefaults.serviceAccount.name must not be set with create=true: five services would create the same ServiceAccount"
{{- end }}
{{- $made := dict }}
{{- range include "mesh.serviceNames" . | splitList "," }}
{{- $component := dict "root" $ "name" . }}
{{- $name := include "mesh.serviceAccountName" $component }}
{{- if (include "mesh.service" $component | fromYaml).serviceAccount.create }}
{{- if and (hasKey $made $name) (not $account.name) }}
- {{ printf "services.%s.serviceAccount.name must not be that of services.%s (%s): with create=true each service creates its own" . (get $made $name) $name | quote }}
{{- end }}
{{- $_ := set $made $name . }}
{{- end }}
{{- end }}
{{- with include "mesh.installedLoadBalancing" . }}
{{- if ne . $.Values.grpc.loadBalancing }}
- {{ printf "grpc.loadBalancing must stay %s on this release: Kubernetes never changes the clusterIP of a Service. Install a second release with %s, or uninstall this one first" . $.Values.grpc.loadBalancing | quote }}
{{- end }}
{{- end }}
{{- if and .Values.grpc.tls.enabled (eq .Values.grpc.loadBalancing "mesh") }}
- "grpc.tls.enabled must not be true with grpc.loadBalancing=mesh: a service mesh encrypts calls itself, and cannot balance calls that it cannot read"
{{- end }}
{{- if .Values.httpRoute.enabled }}
{{- if not (or .Values.httpRoute.gateway.create .Values.httpRoute.parentRefs) }}
- "httpRoute.parentRefs is required: the Gateway that the route attaches to; or set httpRoute.gateway.create=true"
{{- end }}
{{- if and .Values.httpRoute.gateway.create (not .Values.httpRoute.gateway.className) }}
- "httpRoute.gateway.className is required: the GatewayClass of the Gateway that httpRoute.gateway.create creates"
{{- end }}
{{- end }}
{{- if and (include "mesh.isScaledByKeda" (dict "root" . "name" "gateway")) (not .Values.keda.prometheusAddress) }}
- "keda.prometheusAddress is required: the Prometheus that scrapes the gateway's open streams; or set keda.gateway.enabled=false"
{{- end }}
{{- end -}}

{{/* The grpc.loadBalancing of the installed release; empty if none is installed or there is no cluster. */}}
{{- define "mesh.installedLoadBalancing" -}}
{{- $name := include "mesh.componentName" (dict "root" . "name" "agent") -}}
{{- with lookup "v1" "Service" .Release.Namespace $name -}}
{{- ternary "client" "mesh" (eq .spec.clusterIP "None") -}}
{{- end -}}
{{- end -}}

{{- define "mesh.replicaFaults" -}}
{{- $service := include "mesh.service" . | fromYaml -}}
{{- $path := printf "services.%s" .name -}}
{{- $min := $service.autoscaling.minReplicas | int -}}
{{- $max := $service.autoscaling.maxReplicas | int -}}
{{- if and (include "mesh.isScaled" .) (gt $min $max) }}
- {{ printf "%s.autoscaling.minReplicas (%d) must not be above maxReplicas (%d)" $path $min $max | quote }}
{{- end }}
{{- $fewest := include "mesh.minReplicas" . | int -}}
{{- $mustStay := $service.pdb.minAvailable -}}
{{- if and $service.pdb.enabled (not (kindIs "invalid" $mustStay)) (gt (include "mesh.maxReplicas" . | int) 1) }}
{{- $staying := $mustStay | toString | trimSuffix "%" | float64 -}}
{{- if hasSuffix "%" (toString $mustStay) -}}
{{- $staying = ceil (divf (mulf $staying $fewest) 100) -}}
{{- end -}}
{{- if ge $staying (float64 $fewest) }}
- {{ printf "%s.pdb.minAvailable (%v) leaves none of its %d replicas to evict, so a node could never be drained; use pdb.maxUnavailable or more replicas" $path $mustStay $fewest | quote }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "mesh.drainFaults" -}}
{{- $service := include "mesh.service" . | fromYaml -}}
{{- $age := .root.Values.grpc.maxConnectionAgeSeconds -}}
{{- /* gRPC randomizes the age by 10 % in either direction. */ -}}
{{- if and (ne .name "gateway") (eq .root.Values.grpc.loadBalancing "client") (le (mulf $service.preStopSeconds 10) (mulf $age 11)) }}
- {{ printf "services.%s.preStopSeconds (%v) must be above grpc.maxConnectionAgeSeconds (%v) by more than a tenth: clients discover that a replica terminates only when a connection ends" .name $service.preStopSeconds $age | quote }}
{{- end }}
{{- end -}}

{{- define "mesh.resourceFaults" -}}
{{- $service := include "mesh.service" . | fromYaml -}}
{{- include "mesh.quantityFaults" (dict "path" (printf "services.%s.resources" .name) "resources" $service.resources) -}}
{{- end -}}

{{- define "mesh.quantityFaults" -}}
{{- $limits := default dict .resources.limits -}}
{{- range $resource, $request := default dict .resources.requests }}
{{- $limit := get $limits $resource }}
{{- if and (hasKey $limits $resource) (gt (include "mesh.quantity" $request | float64) (include "mesh.quantity" $limit | float64)) }}
- {{ printf "%s.requests.%s (%v) must not be above its limit (%v)" $.path $resource $request $limit | quote }}
{{- end }}
{{- end }}
{{- end -}}

{{/* A quantity as a plain number: 250m is 0.25, 1Gi is 1073741824. */}}
{{- define "mesh.quantity" -}}
{{- $text := toString . -}}
{{- $factors := dict "m" 0.001 "" 1 "k" 1e3 "M" 1e6 "G" 1e9 "T" 1e12 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 -}}
{{- $suffix := regexFind "[a-zA-Z]*$" $text -}}
{{- printf "%f" (mulf (trimSuffix $suffix $text | float64) (get $factors $suffix)) -}}
{{- end -}}

{{/* Values that only some services have. */}}
{{- define "mesh.placeFaults" -}}
{{- $own := default dict (index .root.Values.services .name) -}}
{{- if and (ne .name "agent") (hasKey $own "models") }}
- {{ printf "services.%s.models must not be set: only the agent has models" .name | quote }}
{{- end }}
{{- if and (eq .name "gateway") (hasKey $own "database") }}
- "services.gateway.database must not be set: the gateway has no database"
{{- end }}
{{- if and (eq .name "agent") (not $own.models) }}
{{- $given := false -}}
{{- range (include "mesh.service" . | fromYaml).extraEnv }}{{ if eq .name "AGENT_MODELS" }}{{ $given = true }}{{ end }}{{ end -}}
{{- if not $given }}
- "services.agent.models is required: at least one model, or AGENT_MODELS from a Secret by services.agent.extraEnv"
{{- end }}
{{- end }}
{{- end -}}
