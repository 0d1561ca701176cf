{{/*
Building blocks of NetworkPolicies.
*/}}

{{/* An egress rule: (dict "to" peers "ports" (list 5432) "protocols" (list "TCP")). Without peers, any address. */}}
{{- define "mesh.egressTo" -}}
{{- $protocols := default (list "TCP") .protocols -}}
- ports:
    {{- range $port := .ports }}
    {{- range $protocols }}
    - {port: {{ $port | int }}, protocol: {{ . }}}
    {{- end }}
    {{- end }}
  {{- with .to }}
  to:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}

{{/* The pods of some components: (dict "root" $ "names" (list "agent")). */}}
{{- define "mesh.podPeers" -}}
{{- range .names }}
- podSelector:
    matchLabels:
      {{- include "mesh.selectorLabels" (dict "root" $.root "name" .) | nindent 6 }}
{{- end }}
{{- end -}}

{{- define "mesh.egressToDNS" -}}
{{- $dns := .root.Values.networkPolicy.dns -}}
{{- include "mesh.egressTo" (dict "to" $dns.to "ports" $dns.ports "protocols" (list "UDP" "TCP")) -}}
{{- end -}}

{{- define "mesh.egressToDatabase" -}}
{{- $values := .root.Values -}}
{{- include "mesh.egressTo" (dict "to" $values.networkPolicy.database.to "ports" (list $values.database.port)) -}}
{{- end -}}

{{/* The collector's port, taken from its address. */}}
{{- define "mesh.otlpPort" -}}
{{- $host := get (urlParse .Values.telemetry.otlpEndpoint) "host" -}}
{{- regexFind ":[0-9]+$" $host | trimPrefix ":" | default "4317" -}}
{{- end -}}

{{/* The services that a service calls, comma-separated. */}}
{{- define "mesh.calleesOf" -}}
{{- $callees := list -}}
{{- range include "mesh.serviceNames" .root | splitList "," -}}
{{- if has $.name (include "mesh.callersOf" (dict "name" .) | splitList ",") -}}
{{- $callees = append $callees . -}}
{{- end -}}
{{- end -}}
{{- join "," $callees -}}
{{- end -}}

{{- define "mesh.serviceIngress" -}}
{{- $policy := .root.Values.networkPolicy -}}
{{- if eq .name "gateway" }}
- ports:
    - {port: 8000, protocol: TCP}
  {{- with $policy.ingressFrom }}
  from:
    {{- toYaml . | nindent 4 }}
    {{- include "mesh.podPeers" (dict "root" $.root "names" (list "test")) | trim | nindent 4 }}
  {{- end }}
{{- else }}
- ports:
    - {port: 50051, protocol: TCP}
  from:
    {{- include "mesh.podPeers" (dict "root" .root "names" (include "mesh.callersOf" . | splitList ",")) | trim | nindent 4 }}
{{- end }}
{{- with $policy.monitoringFrom }}
- ports:
    - {port: 9464, protocol: TCP}
  from:
    {{- toYaml . | nindent 4 }}
{{- end }}
{{- end -}}

{{- define "mesh.serviceEgress" -}}
{{- $values := .root.Values -}}
{{- $policy := $values.networkPolicy -}}
{{ include "mesh.egressToDNS" . }}
{{- with include "mesh.calleesOf" . }}
- ports:
    - {port: 50051, protocol: TCP}
  to:
    {{- include "mesh.podPeers" (dict "root" $.root "names" (splitList "," .)) | trim | nindent 4 }}
{{- end }}
{{- if eq .name "gateway" }}
{{ include "mesh.egressTo" (dict "to" $policy.redis.to "ports" (list $values.redis.port)) }}
{{- else }}
{{ include "mesh.egressToDatabase" . }}
{{- end }}
{{- if $values.telemetry.otlpEndpoint }}
{{ include "mesh.egressTo" (dict "to" $policy.otlp.to "ports" (list (include "mesh.otlpPort" .root))) }}
{{- end }}
{{- if has .name (list "agent" "memory" "eval") }}
{{- include "mesh.egressToProviders" . }}
{{- end }}
{{- if eq .name "agent" }}
{{- include "mesh.egressToWeb" . }}
{{- end }}
{{- end -}}

{{/* For the agent's tools that read the web, if services.agent.env enables them. SearXNG needs a rule of the operator. */}}
{{- define "mesh.egressToWeb" -}}
{{- $env := .root.Values.services.agent.env -}}
{{- if or (eq (toString $env.AGENT_WEB_FETCH) "true") (eq (toString $env.AGENT_WEB_SEARCH_PROVIDER) "ddgs") }}
- ports:
    - {port: 80, protocol: TCP}
    - {port: 443, protocol: TCP}
  to:
    {{- include "mesh.publicAddresses" . | nindent 4 }}
{{- end }}
{{- end -}}

{{- define "mesh.egressToProviders" -}}
{{- $provider := .root.Values.networkPolicy.provider -}}
{{- if $provider.public }}
- ports:
    - {port: 443, protocol: TCP}
  to:
    {{- include "mesh.publicAddresses" . | nindent 4 }}
{{- end }}
{{- with $provider.egress }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "mesh.publicAddresses" -}}
# Excludes the private networks of clusters and clouds, and cloud metadata servers.
- ipBlock:
    cidr: 0.0.0.0/0
    except: [10.0.0.0/8, 100.64.0.0/10, 169.254.0.0/16, 172.16.0.0/12, 192.168.0.0/16]
- ipBlock:
    cidr: ::/0
    except: ["fc00::/7", "fe80::/10"]
{{- end -}}
