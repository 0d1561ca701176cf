{{/*
Names of the Secrets: the operator's own, or the one that `mesh_admin secrets` gives.
*/}}

{{/* The keys of every Secret that the chart reads, for error messages. */}}
{{- define "mesh.secretKeys" -}}
gateway: GATEWAY_SERVICE_KEY and GATEWAY_REDIS_URL
auth: AUTH_SERVICE_KEY, AUTH_DATABASE_URL and AUTH_SIGNING_KEY
agent: AGENT_SERVICE_KEY and AGENT_DATABASE_URL
memory: MEMORY_SERVICE_KEY and MEMORY_DATABASE_URL
eval: EVAL_SERVICE_KEY and EVAL_DATABASE_URL
authMigrate: AUTH_OWNER_DATABASE_URL
agentMigrate: AGENT_OWNER_DATABASE_URL
memoryMigrate: MEMORY_OWNER_DATABASE_URL
evalMigrate: EVAL_OWNER_DATABASE_URL
bootstrap: BOOTSTRAP_DATABASE_PASSWORDS
databaseAdmin: BOOTSTRAP_ADMIN_DATABASE_URL
serviceKeys: service-jwks.json
{{- end -}}

{{/* The prefix of the Secrets made by `mesh_admin secrets`; empty if each Secret has its own name. */}}
{{- define "mesh.secretPrefix" -}}
{{- default (ternary (include "mesh.fullname" .) "" .Values.secrets.create) .Values.secrets.prefix -}}
{{- end -}}

{{/* The Secrets that these values require, comma-separated. */}}
{{- define "mesh.neededSecrets" -}}
{{- $needed := list "gateway" "auth" "agent" "memory" "eval" "serviceKeys" -}}
{{- if .Values.migrations.enabled -}}
{{- $needed = concat $needed (list "authMigrate" "agentMigrate" "memoryMigrate" "evalMigrate") -}}
{{- if .Values.migrations.bootstrap.enabled -}}
{{- $needed = concat $needed (list "bootstrap" "databaseAdmin") -}}
{{- end -}}
{{- end -}}
{{- join "," $needed -}}
{{- end -}}

{{/* The components whose Secrets `mesh_admin secrets` makes, comma-separated. */}}
{{- define "mesh.madeSecrets" -}}
gateway,auth,agent,memory,eval,auth-migrate,agent-migrate,memory-migrate,eval-migrate,bootstrap,database-admin,redis,service-keys
{{- end -}}

{{/* The name of one Secret: (dict "root" $ "secret" "authMigrate"). _validate.tpl ensures that it has one. */}}
{{- define "mesh.secretName" -}}
{{- $made := printf "%s-%s" (include "mesh.secretPrefix" .root) (kebabcase .secret) -}}
{{- default $made (index .root.Values.secrets .secret).existingSecret -}}
{{- end -}}

{{/* The Secret with the keys of model providers; empty if there is none. */}}
{{- define "mesh.providerSecretName" -}}
{{- $prefix := include "mesh.secretPrefix" . -}}
{{- default (ternary (printf "%s-provider" $prefix) "" (ne $prefix "")) .Values.secrets.provider.existingSecret -}}
{{- end -}}

{{- define "mesh.tlsSecretName" -}}
{{- default (printf "%s-tls" (include "mesh.componentName" .)) (index .root.Values.secrets.tls .name).existingSecret -}}
{{- end -}}

{{/* One variable from a Secret: (dict "variable" "X" "secret" "name" "optional" true). */}}
{{- define "mesh.envFromSecret" -}}
- name: {{ .variable }}
  valueFrom:
    secretKeyRef:
      name: {{ .secret | quote }}
      key: {{ .variable }}
      {{- if .optional }}
      optional: true
      {{- end }}
{{- end -}}
