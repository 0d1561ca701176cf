{{/*
The environment of a service. services.<name>.extraEnv takes precedence over everything here.
*/}}

{{- define "mesh.env" -}}
{{- $service := include "mesh.service" . | fromYaml -}}
{{- $taken := dict -}}
{{- range $service.extraEnv }}{{ $_ := set $taken .name true }}{{ end -}}
{{- range include "mesh.chartEnv" . | fromYamlArray }}
{{- if not (hasKey $taken .name) }}
{{ list . | toYaml }}
{{- end }}
{{- end }}
{{- with $service.extraEnv }}
{{ tpl (toYaml .) $.root }}
{{- end }}
{{- end -}}

{{- define "mesh.chartEnv" -}}
{{- $values := .root.Values -}}
{{- $prefix := upper .name -}}
{{- $service := include "mesh.service" . | fromYaml -}}
{{- include "mesh.secretEnv" . }}
- name: {{ $prefix }}_SERVICE_JWKS_FILE
  value: /etc/mesh/service-jwks.json
- name: {{ $prefix }}_LOG_LEVEL
  value: {{ $service.logLevel }}
- name: {{ $prefix }}_DRAIN_S
  value: {{ $service.drainSeconds | quote }}
- name: {{ $prefix }}_TRACE_SAMPLE_RATIO
  value: {{ $values.telemetry.sampleRatio | quote }}
{{- with $values.telemetry.otlpEndpoint }}
- name: OTEL_EXPORTER_OTLP_ENDPOINT
  value: {{ . | quote }}
{{- end }}
{{- if has .name (list "gateway" "auth") }}
- name: {{ $prefix }}_ISSUER
  value: {{ $values.issuer | quote }}
- name: {{ $prefix }}_AUDIENCE
  value: {{ $values.audience | quote }}
{{- end }}
{{- if ne .name "gateway" }}
- name: {{ $prefix }}_GRPC_MAX_CONNECTION_AGE_S
  value: {{ $values.grpc.maxConnectionAgeSeconds | quote }}
- name: {{ $prefix }}_DATABASE_POOL_SIZE
  value: {{ $service.database.poolSize | quote }}
- name: {{ $prefix }}_DATABASE_MAX_OVERFLOW
  value: {{ $service.database.maxOverflow | quote }}
{{- end }}
{{- include "mesh.tlsEnv" . }}
{{- include "mesh.healthEnv" . }}
{{- range include "mesh.targetsOf" . | splitList "," | compact }}
- name: {{ $prefix }}_{{ upper . }}_TARGET
  value: dns:///{{ include "mesh.componentName" (dict "root" $.root "name" .) }}.{{ $.root.Release.Namespace }}.svc:50051
{{- end }}
{{- if eq .name "agent" }}
- name: POD_IP
  valueFrom:
    fieldRef:
      fieldPath: status.podIP
- name: AGENT_ADVERTISED_ADDRESS
  value: $(POD_IP):50051
{{- with $service.models }}
- name: AGENT_MODELS
  value: {{ toJson . | quote }}
{{- end }}
{{- if .root.Values.assistants }}
- name: AGENT_ASSISTANTS_DIR
  value: /etc/mesh-assistants
{{- end }}
{{- end }}
{{- if and (eq .name "auth") (dig "limits" "cpu" "" $service.resources) }}
# Python would count the node's cores. Hashing a password occupies one core.
- name: AUTH_HASH_WORKERS
  valueFrom:
    resourceFieldRef:
      containerName: auth
      resource: limits.cpu
{{- end }}
{{- range $name, $value := $service.env }}
- name: {{ $name }}
  value: {{ (kindIs "string" $value | ternary $value (toJson $value)) | quote }}
{{- end }}
{{- end -}}

{{/* The keys of the service's own Secret, and the provider's keys. */}}
{{- define "mesh.secretEnv" -}}
{{- $secret := include "mesh.secretName" (dict "root" .root "secret" .name) -}}
{{- $own := get (dict
  "gateway" (list "SERVICE_KEY" "REDIS_URL")
  "auth" (list "SERVICE_KEY" "DATABASE_URL" "SIGNING_KEY")
  "agent" (list "SERVICE_KEY" "DATABASE_URL")
  "memory" (list "SERVICE_KEY" "DATABASE_URL")
  "eval" (list "SERVICE_KEY" "DATABASE_URL")
) .name -}}
{{- $provider := get (dict
  "gateway" list
  "auth" list
  "agent" (list "OPENAI_API_KEY")
  "memory" (list "OPENAI_API_KEY" "EMBEDDING_API_KEY")
  "eval" (list "OPENAI_API_KEY")
) .name -}}
{{- range $own }}
{{ include "mesh.envFromSecret" (dict "variable" (printf "%s_%s" (upper $.name) .) "secret" $secret) }}
{{- end }}
{{- if eq .name "auth" }}
{{- range list "AUTH_PREVIOUS_SIGNING_KEY" "AUTH_NEXT_SIGNING_KEY" }}
{{ include "mesh.envFromSecret" (dict "variable" . "secret" $secret "optional" true) }}
{{- end }}
{{- end }}
{{- with include "mesh.providerSecretName" .root }}
{{- $providerSecret := . }}
{{- range $provider }}
{{ include "mesh.envFromSecret" (dict "variable" (printf "%s_%s" (upper $.name) .) "secret" $providerSecret "optional" true) }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "mesh.tlsEnv" -}}
{{- if .root.Values.grpc.tls.enabled }}
{{- $prefix := upper .name }}
- name: {{ $prefix }}_GRPC_TLS_CERT_FILE
  value: /etc/mesh/tls/tls.crt
- name: {{ $prefix }}_GRPC_TLS_KEY_FILE
  value: /etc/mesh/tls/tls.key
- name: {{ $prefix }}_GRPC_TLS_CA_FILE
  value: /etc/mesh/tls/ca.crt
{{- end }}
{{- end -}}

{{/* Probes have a server of their own: they do not support TLS, and a full service must not look like a dead one. */}}
{{- define "mesh.healthEnv" -}}
{{- if ne .name "gateway" }}
- name: {{ upper .name }}_GRPC_HEALTH_PORT
  value: "50052"
{{- end }}
{{- end -}}
