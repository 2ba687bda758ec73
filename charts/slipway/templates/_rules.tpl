{{/*
What the operator may do where it watches: each rule is one that it uses, with the reason beside it.
No wildcard, and no verb on Secrets: pods refer to them, the operator never reads them.
*/}}
{{- define "slipway.rules" -}}
# What users ask for. The operator never writes it but for its status.
- apiGroups: [slipway.dev]
  resources: [modeldeployments]
  verbs: [get, list, watch]
- apiGroups: [slipway.dev]
  resources: [modeldeployments/status]
  verbs: [get, patch]
# Owner references block the deletion of their owner; where the admission plugin
# OwnerReferencesPermissionEnforcement is on, setting one asks for this right.
- apiGroups: [slipway.dev]
  resources: [modeldeployments/finalizers]
  verbs: [update]
# The pods' Deployment. It is owned, so its deletion is the garbage collector's.
- apiGroups: [apps]
  resources: [deployments]
  verbs: [get, list, watch, create, patch]
# Where Kubernetes says why it cannot create a pod (quota, pod security, webhooks).
- apiGroups: [apps]
  resources: [replicasets]
  verbs: [get, list, watch]
# Revisions: what to return to when a rollout fails. Old ones are deleted.
- apiGroups: [apps]
  resources: [controllerrevisions]
  verbs: [get, list, watch, create, patch, delete]
# Exit codes and termination messages. A pod whose cached artifact no longer matches its digest is
# deleted, since only a new pod fetches again.
- apiGroups: [""]
  resources: [pods]
  verbs: [get, list, watch, delete]
{{- if .Values.controller.fetchProgress }}
# How far a download has come, which a running container can tell in its log alone.
- apiGroups: [""]
  resources: [pods/log]
  verbs: [get]
{{- end }}
- apiGroups: [""]
  resources: [services]
  verbs: [get, list, watch, create, patch]
# Both exist only for some models, and are deleted when the model no longer asks for them.
- apiGroups: [autoscaling]
  resources: [horizontalpodautoscalers]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, list, watch, create, patch, delete]
# Limits the connections of the model's pods; deleted when switched off.
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies]
  verbs: [get, list, watch, create, patch, delete]
{{- with .Values.integrations }}
{{- if .podMonitor.enabled }}
# By which the Prometheus Operator finds the models' metrics.
- apiGroups: [monitoring.coreos.com]
  resources: [podmonitors]
  verbs: [get, list, watch, create, patch, delete]
{{- end }}
{{- if .keda.enabled }}
# Autoscaling by triggers of KEDA.
- apiGroups: [keda.sh]
  resources: [scaledobjects]
  verbs: [get, list, watch, create, patch, delete]
{{- end }}
{{- if .gateway.enabled }}
# The way to a model through a Gateway.
- apiGroups: [gateway.networking.k8s.io]
  resources: [httproutes, grpcroutes]
  verbs: [get, list, watch, create, patch, delete]
{{- end }}
{{- if .ingress.enabled }}
# The way to a model through an Ingress.
- apiGroups: [networking.k8s.io]
  resources: [ingresses]
  verbs: [get, list, watch, create, patch, delete]
{{- end }}
{{- end }}
# What happened, for `kubectl describe`; and why a volume of a pod cannot be mounted, which the
# kubelet tells in the pod's Events alone.
- apiGroups: [""]
  resources: [events]
  verbs: [list, create]
{{- end }}

{{/*
To notice when a kind of another project is installed: its definition, and no other. An install for
some namespaces has no such right, and looks again at every resync.
*/}}
{{- define "slipway.definitionRules" -}}
{{- $names := list }}
{{- with .Values.integrations }}
{{- if .podMonitor.enabled }}{{ $names = append $names "podmonitors.monitoring.coreos.com" }}{{ end }}
{{- if .keda.enabled }}{{ $names = append $names "scaledobjects.keda.sh" }}{{ end }}
{{- if .gateway.enabled }}{{ $names = concat $names (list "httproutes.gateway.networking.k8s.io" "grpcroutes.gateway.networking.k8s.io") }}{{ end }}
{{- end }}
{{- if $names }}
# To notice when one of these kinds is installed; no other definition can be read.
- apiGroups: [apiextensions.k8s.io]
  resources: [customresourcedefinitions]
  resourceNames: {{ toJson $names }}
  verbs: [list, watch]
{{- end }}
{{- end }}
