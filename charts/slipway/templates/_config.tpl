{{/*
What the schema of the values cannot say, since it takes two values to tell: refused before anything
is installed, rather than by the operator as it starts.
*/}}
{{- define "slipway.check" -}}
{{- with .Values.controller.leaderElection }}
{{- $in_order := and (lt (float64 .retryPeriodSeconds) (float64 .renewDeadlineSeconds)) (lt (float64 .renewDeadlineSeconds) (float64 .durationSeconds)) }}
{{- if and .retryPeriodSeconds .renewDeadlineSeconds .durationSeconds (not $in_order) }}
{{- fail "controller.leaderElection: retryPeriodSeconds must be below renewDeadlineSeconds, and that below durationSeconds" }}
{{- end }}
{{- end }}
{{- range $name, $pool := .Values.pools }}
{{- range (default dict $pool).preferredProviders }}
{{- if has . $pool.providers }}
{{- fail (printf "pools.%s: %s is both in providers and in preferredProviders" $name .) }}
{{- end }}
{{- end }}
{{- /* What is absent or null has the operator's default. */}}
{{- $rollout := dict "maxSurge" 1 "maxUnavailable" 0 "minReadySeconds" 0 "progressDeadlineSeconds" 600 }}
{{- range $key, $value := (default dict (default dict $pool).rollout) }}
{{- if ne $value nil }}
{{- $_ := set $rollout $key $value }}
{{- end }}
{{- end }}
{{- if and (regexMatch "^0+%?$" (toString $rollout.maxSurge)) (regexMatch "^0+%?$" (toString $rollout.maxUnavailable)) }}
{{- fail (printf "pools.%s.rollout: maxSurge and maxUnavailable are both 0, so no pod could ever be replaced" $name) }}
{{- end }}
{{- if le (int64 $rollout.progressDeadlineSeconds) (int64 $rollout.minReadySeconds) }}
{{- fail (printf "pools.%s.rollout: progressDeadlineSeconds must be above minReadySeconds" $name) }}
{{- end }}
{{- end }}
{{- range $label := list "app.kubernetes.io/name" "app.kubernetes.io/instance" "app.kubernetes.io/component" }}
{{- if hasKey (default dict $.Values.podLabels) $label }}
{{- fail (printf "podLabels: %s is the chart's own, by which pods are found; set nameOverride for another name" $label) }}
{{- end }}
{{- end }}
{{- if not (regexMatch "^[a-z]" (include "slipway.fullname" .)) }}
{{- fail (printf "the name %q begins with no letter, as that of a Service must: set fullnameOverride" (include "slipway.fullname" .)) }}
{{- end }}
{{- end }}

{{/*
One pool of the operator's configuration. What a pool does not say is left out: the operator has the
default.
*/}}
{{- define "slipway.pool" -}}
{{- $flavour := ternary .root.Values.runtime.gpuImage .root.Values.runtime.image (eq (default "cpu" .pool.flavour) "gpu") }}
{{- $pool := omit .pool "flavour" "image" "imagePullPolicy" "imagePullSecrets" "runtimeClassName" "startupTimeoutSeconds" }}
{{- $_ := set $pool "image" (default (include "slipway.image" (dict "root" .root "image" $flavour)) .pool.image) }}
{{- $_ := set $pool "imagePullPolicy" (default $flavour.pullPolicy .pool.imagePullPolicy) }}
{{- with concat (default list .root.Values.runtime.imagePullSecrets) (default list .pool.imagePullSecrets) | uniq }}
{{- $_ := set $pool "imagePullSecrets" . }}
{{- end }}
{{- with .pool.startupTimeoutSeconds }}
{{- $_ := set $pool "startupTimeoutSeconds" . }}
{{- end }}
{{- with .pool.runtimeClassName }}
{{- $_ := set $pool "runtimeClassName" . }}
{{- end }}
{{- toYaml $pool }}
{{- end }}

{{/*
The operator's configuration file. A value that is set to null is left out, as one of a pool is. No
number is printed by the template itself, which would write 1e+06 for a million.
*/}}
{{- define "slipway.config" -}}
{{- include "slipway.check" . }}
{{- $config := pick .Values.controller "workers" "resyncSeconds" "ambiguousRestarts" "conflictBackoffSeconds" "revisionHistoryLimit" "fetchProgress" "logFormat" }}
{{- $config = merge $config (pick .Values.watch "namespaces" "selector") (pick .Values "proxy" "modelNetworkPolicy" "integrations" "httpPort") }}
{{- $lease := dict "namespace" .Release.Namespace "name" (include "slipway.fullname" .) }}
{{- $_ := set $config "leaderElection" (merge $lease (default dict .Values.controller.leaderElection)) }}
{{- toYaml $config }}
pools:
{{- range $name, $pool := .Values.pools }}
{{- if $pool }}
  {{ $name | quote }}:
    {{- include "slipway.pool" (dict "root" $ "pool" $pool) | nindent 4 }}
{{- end }}
{{- end }}
{{- end }}
