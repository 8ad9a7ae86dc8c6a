{{- define "tidegate.name" -}}
{{- if contains "tidegate" .Release.Name }}{{ .Release.Name | trunc 50 | trimSuffix "-" }}{{ else }}{{ printf "%s-tidegate" .Release.Name | trunc 50 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "tidegate.selector" -}}
app.kubernetes.io/name: tidegate
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{- define "tidegate.labels" -}}
{{ include "tidegate.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{- end }}

{{- define "tidegate.serviceAccount" -}}
{{- if .Values.serviceAccount.create }}{{ .Values.serviceAccount.name | default (include "tidegate.name" .) }}{{ else }}{{ .Values.serviceAccount.name | default "default" }}{{ end }}
{{- end }}

{{/* Annotations for a Prometheus that finds pods by them: with a ServiceMonitor, each pod would be scraped twice. */}}
{{- define "tidegate.scrape" -}}
{{- if not .Values.serviceMonitor.enabled -}}
prometheus.io/scrape: "true"
prometheus.io/port: "9464"
prometheus.io/path: /metrics
{{- end }}
{{- end }}

{{- define "tidegate.config" -}}
{{ .Values.config | default (.Files.Get "tidegate.yaml") | trim }}
{{- end }}

{{/* The seconds of a duration of the configuration (1m30s, 500ms), rounded up. Takes its name and text. */}}
{{- define "tidegate.seconds" -}}
{{- if not (regexMatch "^([0-9]+(ms|s|m|h|d))+$" .text) }}{{ fail (printf "server.%s: %q is not a duration that the chart can read, which terminationGracePeriodSeconds is computed from" .name .text) }}{{ end }}
{{- $units := dict "ms" 1 "s" 1000 "m" 60000 "h" 3600000 "d" 86400000 }}
{{- $total := 0 }}
{{- range regexFindAll "[0-9]+(ms|s|m|h|d)" .text -1 }}
{{- $total = add $total (mul (regexFind "^[0-9]+" . | int64) (get $units (regexFind "[a-z]+$" .))) }}
{{- end }}
{{- div (add $total 999) 1000 }}
{{- end }}

{{/* A pod is killed after this time: what its drain takes, and 15 seconds for the connections that are left then. Refuses a
configuration that the manifests do not fit. */}}
{{- define "tidegate.grace" -}}
{{- $config := include "tidegate.config" . | fromYaml }}
{{- if hasKey $config "Error" }}{{ fail (printf "config: %s" $config.Error) }}{{ end }}
{{- $admin := ($config.admin | default dict).address | default "127.0.0.1:9464" }}
{{- if or (not (hasSuffix ":9464" $admin)) (regexMatch "^(127\\.|localhost|\\[::1\\])" $admin) }}{{ fail (printf "config: admin.address is %q; probes need 0.0.0.0:9464" $admin) }}{{ end }}
{{- $listen := $config.listen | default (list dict) }}
{{- $addresses := list }}
{{- range kindIs "map" $listen | ternary (list $listen) $listen }}{{ $addresses = append $addresses (.address | default "127.0.0.1:3000") }}{{ end }}
{{- $reached := false }}
{{- range $addresses }}{{ if and (hasSuffix ":3000" .) (not (regexMatch "^(127\\.|localhost|\\[::1\\])" .)) }}{{ $reached = true }}{{ end }}{{ end }}
{{- if not $reached }}{{ fail (printf "config: listen has %s; the Service needs 0.0.0.0:3000" (join ", " $addresses)) }}{{ end }}
{{- $server := $config.server | default dict }}
{{- $delay := include "tidegate.seconds" (dict "name" "drain_delay" "text" ($server.drain_delay | default "0s")) | int }}
{{- $timeout := include "tidegate.seconds" (dict "name" "drain_timeout" "text" ($server.drain_timeout | default "60s")) | int }}
{{- $probes := mul (.Values.readinessProbe.periodSeconds | int) (.Values.readinessProbe.failureThreshold | int) | int }}
{{- if lt $delay $probes }}{{ fail (printf "config: server.drain_delay is %ds; at least %ds are needed, readinessProbe.periodSeconds * failureThreshold: until then clients are sent to a pod that ends" $delay $probes) }}{{ end }}
{{- $least := add $delay $timeout 15 | int }}
{{- $grace := .Values.terminationGracePeriodSeconds | default $least | int }}
{{- if lt $grace $least }}{{ fail (printf "terminationGracePeriodSeconds is %d; at least %d are needed, server.drain_delay + server.drain_timeout + 15: streams would be cut" $grace $least) }}{{ end }}
{{- $grace }}
{{- end }}
