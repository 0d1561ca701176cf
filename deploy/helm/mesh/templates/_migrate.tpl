{{/*
The pod that prepares the database for this release: roles and schemas first, then the migrations of every service.
*/}}

{{- define "mesh.migratePod" -}}
metadata:
  labels:
    {{- include "mesh.podLabels" (merge (dict "extraLabels" .root.Values.migrations.podLabels) .) | nindent 4 }}
  {{- with include "mesh.podAnnotations" (merge (dict "extraAnnotations" .root.Values.migrations.podAnnotations) .) | fromYaml }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  restartPolicy: Never
  serviceAccountName: {{ include "mesh.componentName" . | quote }}
  {{- include "mesh.podBasics" . | nindent 2 }}
  {{- with include "mesh.placement" .root.Values.migrations | trim }}
  {{- . | nindent 2 }}
  {{- end }}
  initContainers:
    {{- if .root.Values.migrations.bootstrap.enabled }}
    - name: bootstrap-db
      args: ["-m", "mesh_admin", "bootstrap-db"]
      env:
        {{- include "mesh.envFromSecret" (dict "variable" "BOOTSTRAP_ADMIN_DATABASE_URL" "secret" (include "mesh.secretName" (dict "root" .root "secret" "databaseAdmin"))) | nindent 8 }}
        {{- include "mesh.envFromSecret" (dict "variable" "BOOTSTRAP_DATABASE_PASSWORDS" "secret" (include "mesh.secretName" (dict "root" .root "secret" "bootstrap"))) | nindent 8 }}
      {{- include "mesh.migrateContainer" (merge (dict "name" "auth") .) | nindent 6 }}
    {{- end }}
    {{- range list "auth" "agent" "memory" }}
    - {{ include "mesh.migrateSchema" (merge (dict "name" .) $) | nindent 6 | trim }}
    {{- end }}
  containers:
    - {{ include "mesh.migrateSchema" (merge (dict "name" "eval") .) | nindent 6 | trim }}
  volumes:
    {{- include "mesh.tmpVolume" . | nindent 4 }}
{{- end -}}

{{- define "mesh.migrateSchema" -}}
name: migrate-{{ .name }}
args: ["-m", "mesh_{{ .name }}", "migrate"]
env:
  {{- include "mesh.envFromSecret" (dict "variable" (printf "%s_OWNER_DATABASE_URL" (upper .name)) "secret" (include "mesh.secretName" (dict "root" .root "secret" (printf "%sMigrate" .name)))) | nindent 2 }}
{{ include "mesh.migrateContainer" . }}
{{- end -}}

{{/* Fields common to every container of a Job. `name` is the service whose image it runs. */}}
{{- define "mesh.migrateContainer" -}}
image: {{ include "mesh.image" . | quote }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
resources:
  {{- toYaml .root.Values.migrations.resources | nindent 2 }}
securityContext:
  {{- include "mesh.containerSecurityContext" . | nindent 2 }}
volumeMounts:
  {{- include "mesh.tmpMount" . | nindent 2 }}
{{- end -}}
