{{/*
The services: their names, their values, and which calls which.
*/}}

{{- define "mesh.serviceNames" -}}gateway,auth,agent,memory,eval{{- end -}}

{{/* The services that have a schema, in the order of their migrations. */}}
{{- define "mesh.schemaNames" -}}auth,agent,memory,eval{{- end -}}

{{/* The values of one service, as YAML: serviceDefaults, overridden by services.<name>. */}}
{{- define "mesh.service" -}}
{{- $own := default dict (index .root.Values.services .name) -}}
{{- mergeOverwrite (deepCopy .root.Values.serviceDefaults) (deepCopy $own) | toYaml -}}
{{- end -}}

{{/* The services that may call a gRPC service, comma-separated: the edges of mesh_common/grpc/edges.py. */}}
{{- define "mesh.callersOf" -}}
{{- get (dict
  "auth" "gateway,agent"
  "agent" "gateway,agent"
  "memory" "gateway,agent"
  "eval" "gateway,agent"
) .name -}}
{{- end -}}

{{/* The services whose targets a service is configured with, comma-separated. */}}
{{- define "mesh.targetsOf" -}}
{{- get (dict "gateway" "auth,agent,memory,eval" "agent" "auth,memory,eval") .name -}}
{{- end -}}

{{/* "true" if KEDA scales the service. */}}
{{- define "mesh.isScaledByKeda" -}}
{{- $keda := default dict (index .root.Values.keda .name) -}}
{{- if and .root.Values.keda.enabled $keda.enabled -}}true{{- end -}}
{{- end -}}

{{/* "true" if an autoscaler, not the Deployment, sets the number of replicas. */}}
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

{{/* The grace period of a pod: until clients stop connecting, then the drain, then some seconds to close. */}}
{{- define "mesh.terminationGraceSeconds" -}}
{{- $service := include "mesh.service" . | fromYaml -}}
{{- add $service.preStopSeconds $service.drainSeconds 10 -}}
{{- end -}}
