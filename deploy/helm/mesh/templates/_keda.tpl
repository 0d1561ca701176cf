{{/*
KEDA triggers: the gateway scales by open streams, the agent by runs that have not ended.
*/}}

{{- define "mesh.gatewayTrigger" -}}
{{- $keda := .root.Values.keda -}}
- type: prometheus
  metadata:
    serverAddress: {{ $keda.prometheusAddress | quote }}
    query: {{ tpl $keda.gateway.query .root | quote }}
    threshold: {{ $keda.gateway.streamsPerReplica | int | quote }}
{{- end -}}

{{- define "mesh.agentTrigger" -}}
{{- $keda := .root.Values.keda -}}
- type: postgresql
  metadata:
    query: {{ $keda.agent.query | quote }}
    targetQueryValue: {{ $keda.agent.runsPerReplica | int | quote }}
  authenticationRef:
    name: {{ include "mesh.componentName" . | quote }}
{{- end -}}
