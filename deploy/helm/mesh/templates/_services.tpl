{{/*
What the chart knows of the services: their names, their values, who calls whom.
*/}}

{{- define "mesh.serviceNames" -}}gateway,auth,agent,memory,eval{{- end -}}

{{/* Those with a schema, in the order in which their migrations run. */}}
{{- define "mesh.schemaNames" -}}auth,agent,memory,eval{{- end -}}

{{/* The values of one service: serviceDefaults, and what services.<name> says besides, as YAML. */}}
{{- define "mesh.service" -}}
{{- $own := default dict (index .root.Values.services .name) -}}
{{- mergeOverwrite (deepCopy .root.Values.serviceDefaults) (deepCopy $own) | toYaml -}}
{{- end -}}

{{/* Who may call a gRPC service, as a comma-separated list: the edges of mesh_common/grpc/edges.py. */}}
{{- define "mesh.callersOf" -}}
{{- get (dict
  "auth" "gateway,agent"
  "agent" "gateway,agent"
  "memory" "gateway,agent"
  "eval" "gateway,agent"
) .name -}}
{{- end -}}

{{/* Whose targets a service is told, as a comma-separated list. */}}
{{- define "mesh.targetsOf" -}}
{{- get (dict "gateway" "auth,agent,memory,eval" "agent" "auth,memory,eval") .name -}}
{{- end -}}

{{/* "true" when KEDA scales the service. */}}
{{- define "mesh.isScaledByKeda" -}}
{{- $keda := default dict (index .root.Values.keda .name) -}}
{{- if and .root.Values.keda.enabled $keda.enabled -}}true{{- end -}}
{{- end -}}

{{/* "true" when something else than the Deployment says how many replicas there are. */}}
{{- define "mesh.isScaled" -}}
{{- $service := include "mesh.service" . | fromYaml -}}
{{- if or $service.autoscaling.enabled (include "mesh.isScaledByKeda" .) -}}true{{- end -}}
{{- end -}}

{{- define "mesh.minReplicas" -}}
{{- $service := include "mesh.service" . | fromYaml -}}
{{- ternary $service.autoscaling.minReplicas $service.replicas (eq (include "mesh.isScaled" .) "true") | int -}}
{{- end -}}

{{- define "mesh.maxReplicas" -}}
{{- $service := include "mesh.service" . | fromYaml -}}
{{- ternary $service.autoscaling.maxReplicas $service.replicas (eq (include "mesh.isScaled" .) "true") | int -}}
{{- end -}}

{{/* How long a pod may take to end: new connections stop coming, then the work under way, then some seconds to close. */}}
{{- define "mesh.terminationGraceSeconds" -}}
{{- $service := include "mesh.service" . | fromYaml -}}
{{- add $service.preStopSeconds $service.drainSeconds 10 -}}
{{- end -}}
