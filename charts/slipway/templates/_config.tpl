{{/*
One pool of the operator's configuration. What a pool does not say is left out: the operator has the
default.
*/}}
{{- define "slipway.pool" -}}
{{- $flavour := ternary .root.Values.runtime.gpuImage .root.Values.runtime.image (eq (default "cpu" .pool.flavour) "gpu") }}
{{- $pool := omit .pool "flavour" "image" "imagePullPolicy" "runtimeClassName" "startupTimeoutSeconds" }}
{{- $_ := set $pool "image" (default (include "slipway.image" (dict "root" .root "image" $flavour)) .pool.image) }}
{{- $_ := set $pool "imagePullPolicy" (default $flavour.pullPolicy .pool.imagePullPolicy) }}
{{- with .pool.startupTimeoutSeconds }}
{{- $_ := set $pool "startupTimeoutSeconds" . }}
{{- end }}
{{- with .pool.runtimeClassName }}
{{- $_ := set $pool "runtimeClassName" . }}
{{- end }}
{{- toYaml $pool }}
{{- end }}

{{/* The operator's configuration file. */}}
{{- define "slipway.config" -}}
namespaces: {{ toJson .Values.watch.namespaces }}
selector: {{ toJson .Values.watch.selector }}
workers: {{ .Values.controller.workers }}
resyncSeconds: {{ .Values.controller.resyncSeconds }}
ambiguousRestarts: {{ .Values.controller.ambiguousRestarts }}
conflictBackoffSeconds: {{ .Values.controller.conflictBackoffSeconds }}
revisionHistoryLimit: {{ .Values.controller.revisionHistoryLimit }}
fetchProgress: {{ .Values.controller.fetchProgress }}
leaderElection:
  namespace: {{ .Release.Namespace | quote }}
  name: {{ include "slipway.fullname" . | quote }}
  durationSeconds: {{ .Values.controller.leaderElection.durationSeconds }}
  renewDeadlineSeconds: {{ .Values.controller.leaderElection.renewDeadlineSeconds }}
  retryPeriodSeconds: {{ .Values.controller.leaderElection.retryPeriodSeconds }}
proxy: {{ toJson .Values.proxy }}
modelNetworkPolicy: {{ toJson .Values.modelNetworkPolicy }}
integrations: {{ toJson .Values.integrations }}
httpPort: {{ .Values.httpPort }}
logFormat: {{ .Values.controller.logFormat }}
pools:
{{- range $name, $pool := .Values.pools }}
{{- if $pool }}
  {{ $name | quote }}:
    {{- include "slipway.pool" (dict "root" $ "pool" $pool) | nindent 4 }}
{{- end }}
{{- end }}
{{- end }}
