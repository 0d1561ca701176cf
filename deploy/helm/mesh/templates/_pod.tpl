{{/*
Building blocks of pods. Every pod of the chart satisfies the Pod Security level "restricted".
*/}}

{{- define "mesh.podSecurityContext" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "mesh.containerSecurityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{/* Fields common to every pod spec of the chart. */}}
{{- define "mesh.podBasics" -}}
automountServiceAccountToken: {{ default false .needsToken }}
enableServiceLinks: false
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . | quote }}
  {{- end }}
{{- end }}
securityContext:
  {{- include "mesh.podSecurityContext" . | nindent 2 }}
{{- end -}}


{{- define "mesh.tmpVolume" -}}
- name: tmp
  emptyDir:
    sizeLimit: 64Mi
{{- end -}}

{{- define "mesh.tmpMount" -}}
- name: tmp
  mountPath: /tmp
{{- end -}}

{{/* The scheduling fields among the given values. */}}
{{- define "mesh.placement" -}}
{{- range $key, $value := pick . "nodeSelector" "tolerations" "affinity" "priorityClassName" }}
{{- if $value }}
{{ dict $key $value | toYaml }}
{{- end }}
{{- end }}
{{- end -}}

{{/* /etc/mesh: the public keys of all services, and the service's certificate. */}}
{{- define "mesh.configVolume" -}}
- name: config
  projected:
    defaultMode: 0440
    sources:
      - secret:
          name: {{ include "mesh.secretName" (dict "root" .root "secret" "serviceKeys") | quote }}
          items:
            - key: service-jwks.json
              path: service-jwks.json
      {{- if .root.Values.grpc.tls.enabled }}
      - secret:
          name: {{ include "mesh.tlsSecretName" . | quote }}
          items:
            - key: tls.crt
              path: tls/tls.crt
            - key: tls.key
              path: tls/tls.key
            - key: ca.crt
              path: tls/ca.crt
      {{- end }}
{{- end -}}

{{/* One probe: (dict "root" $ "name" "auth" "health" "readiness" "timing" {...}). */}}
{{- define "mesh.probe" -}}
{{- if eq .name "gateway" }}
httpGet:
  path: {{ ternary "/readyz" "/healthz" (eq .health "readiness") }}
  port: http
{{- else }}
grpc:
  port: 50052
  service: {{ .health }}
{{- end }}
{{ toYaml .timing }}
{{- end -}}

{{- define "mesh.ports" -}}
{{- if eq .name "gateway" }}
- name: http
  containerPort: 8000
{{- else }}
- name: grpc
  containerPort: 50051
- name: health
  containerPort: 50052
{{- end }}
- name: metrics
  containerPort: 9464
{{- end -}}

{{/* Annotations of a pod. A new secrets.revision restarts every pod, so that it reads its changed Secret. */}}
{{- define "mesh.podAnnotations" -}}
{{- $annotations := deepCopy .root.Values.commonAnnotations -}}
{{- with .root.Values.secrets.revision -}}
{{- $_ := set $annotations "agent-mesh/secrets-revision" (kindIs "string" . | ternary . (int64 . | toString)) -}}
{{- end -}}
{{- if and .root.Values.monitoring.scrapeAnnotations (has .name (include "mesh.serviceNames" .root | splitList ",")) -}}
{{- $_ := mergeOverwrite $annotations (dict "prometheus.io/scrape" "true" "prometheus.io/port" "9464" "prometheus.io/path" "/metrics") -}}
{{- end -}}
{{- mergeOverwrite $annotations (default dict .extraAnnotations) | toYaml -}}
{{- end -}}

{{/* Spreads replicas over nodes and zones as far as possible. Each rollout's pods are counted separately. */}}
{{- define "mesh.topologySpread" -}}
{{- $service := include "mesh.service" . | fromYaml -}}
{{- if $service.topologySpread.enabled }}
topologySpreadConstraints:
  {{- range $service.topologySpread.topologyKeys }}
  - maxSkew: 1
    topologyKey: {{ . | quote }}
    whenUnsatisfiable: {{ $service.topologySpread.whenUnsatisfiable }}
    matchLabelKeys: [pod-template-hash]
    labelSelector:
      matchLabels:
        {{- include "mesh.selectorLabels" $ | nindent 8 }}
  {{- end }}
{{- end }}
{{- end -}}
