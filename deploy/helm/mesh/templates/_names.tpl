{{/*
Names and labels. Templates for one component take (dict "root" $ "name" "gateway").
*/}}

{{- define "mesh.name" -}}
{{- default .Chart.Name .Values.nameOverride -}}
{{- end -}}

{{/*
The release name if it contains "mesh", otherwise <release>-mesh; mesh-<release> if it begins with a digit, which the
name of a Service must not. Truncated, because "-migrate-<hash>" and pod suffixes are appended.
*/}}
{{- define "mesh.fullname" -}}
{{- $name := include "mesh.name" . -}}
{{- $release := .Release.Name | replace "." "-" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride -}}
{{- else if regexMatch "^[0-9]" $release -}}
{{- printf "%s-%s" $name $release | trunc 40 | trimSuffix "-" -}}
{{- else if contains $name $release -}}
{{- $release | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" $release $name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "mesh.componentName" -}}
{{- printf "%s-%s" (include "mesh.fullname" .root) .name -}}
{{- end -}}

{{- define "mesh.serviceAccountName" -}}
{{- $service := include "mesh.service" . | fromYaml -}}
{{- if $service.serviceAccount.create -}}
{{- default (include "mesh.componentName" .) $service.serviceAccount.name -}}
{{- else -}}
{{- default "default" $service.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{/* Labels for selectors. They never change during the life of a release. */}}
{{- define "mesh.selectorLabels" -}}
app.kubernetes.io/name: {{ include "mesh.name" .root | quote }}
app.kubernetes.io/instance: {{ .root.Release.Name | quote }}
app.kubernetes.io/component: {{ .name | quote }}
{{- end -}}

{{/* Labels of a pod. `extraLabels` and commonLabels cannot override those of the chart. */}}
{{- define "mesh.podLabels" -}}
{{- $own := include "mesh.selectorLabels" . | fromYaml -}}
{{- $_ := set $own "app.kubernetes.io/part-of" "agent-mesh" -}}
{{- $_ := set $own "app.kubernetes.io/version" (include "mesh.version" .root) -}}
{{- mergeOverwrite (deepCopy .root.Values.commonLabels) (deepCopy (default dict .extraLabels)) $own | toYaml -}}
{{- end -}}

{{- define "mesh.labels" -}}
{{- $own := include "mesh.podLabels" . | fromYaml -}}
{{- $_ := set $own "app.kubernetes.io/managed-by" .root.Release.Service -}}
{{- $_ := set $own "helm.sh/chart" (printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-") -}}
{{- toYaml $own -}}
{{- end -}}

{{- define "mesh.version" -}}
{{- default .Chart.AppVersion .Values.image.tag | replace "+" "_" | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* Metadata of an object of one component. Optional: objectName, extraLabels, extraAnnotations. */}}
{{- define "mesh.metadata" -}}
name: {{ default (include "mesh.componentName" .) .objectName | quote }}
namespace: {{ .root.Release.Namespace | quote }}
labels:
  {{- include "mesh.labels" . | nindent 2 }}
{{- with mergeOverwrite (deepCopy .root.Values.commonAnnotations) (default dict .extraAnnotations) }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "mesh.image" -}}
{{- $service := include "mesh.service" . | fromYaml -}}
{{- $image := $service.image -}}
{{- $registry := default .root.Values.image.registry $image.registry -}}
{{- $name := default (printf "mesh-%s" .name) $image.name -}}
{{- $reference := ternary (printf "%s/%s" $registry $name) $name (ne $registry "") -}}
{{- if $image.digest -}}
{{- printf "%s@%s" $reference $image.digest -}}
{{- else -}}
{{- printf "%s:%s" $reference (coalesce $image.tag .root.Values.image.tag .root.Chart.AppVersion) -}}
{{- end -}}
{{- end -}}
