{{- define "vidtr.selector" -}}
app.kubernetes.io/name: vidtr
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "vidtr.labels" -}}
app.kubernetes.io/name: vidtr
app.kubernetes.io/instance: {{ .root.Release.Name }}
{{- with .component }}
app.kubernetes.io/component: {{ . }}
{{- end }}
{{- end }}

{{/* Image of one of our targets: registry, name, tag. */}}
{{- define "vidtr.image" -}}
{{- with .root.Values.image.registry }}{{ . }}/{{ end }}{{ .name }}:{{ .tag | default .root.Values.image.tag | default .root.Chart.AppVersion }}
{{- end }}

{{/* A setting as it is given, else the default of the program. */}}
{{- define "vidtr.setting" -}}
{{- $defaults := .root.Files.Get "files/defaults.yaml" | fromYaml }}
{{- get .root.Values.settings .name | default (get $defaults .name) | int64 }}
{{- end }}

{{/* Longest that a request may take: it is received, and then followed to its deadline. */}}
{{- define "vidtr.requestSeconds" -}}
{{- $upload := include "vidtr.setting" (dict "root" . "name" "upload_timeout_s") }}
{{- $deadline := include "vidtr.setting" (dict "root" . "name" "job_deadline_s") }}
{{- add $upload $deadline 30 }}
{{- end }}

{{/* Longest that an API pod has to answer what it has begun to receive. */}}
{{- define "vidtr.apiGraceSeconds" -}}
{{- $upload := include "vidtr.setting" (dict "root" . "name" "upload_timeout_s") }}
{{- $decode := include "vidtr.setting" (dict "root" . "name" "decode_timeout_s") }}
{{- add $upload $decode 30 }}
{{- end }}

{{- define "vidtr.podAnnotations" -}}
{{- $config := include (print .root.Template.BasePath "/config.yaml") .root | sha256sum }}
{{- $checksum := ternary (dict "checksum/config" $config) dict .root.Values.rolloutOnChange }}
{{- with merge $checksum (.pod.annotations | default dict) }}
annotations: {{ toJson . }}
{{- end }}
{{- end }}

{{/* Placement and identity of a pod, and its spread over nodes and zones. */}}
{{- define "vidtr.podOptions" -}}
automountServiceAccountToken: false
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets: {{ toJson . }}
{{- end }}
{{- range $name := list "affinity" "nodeSelector" "priorityClassName" "runtimeClassName" "serviceAccountName" "tolerations" }}
{{- with get $.pod $name }}
{{ $name }}: {{ toJson . }}
{{- end }}
{{- end }}
topologySpreadConstraints:
{{- range $key := list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
  - maxSkew: 1
    topologyKey: {{ $key }}
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels: {{- include "vidtr.selector" $ | nindent 8 }}
{{- end }}
{{- end }}

{{- define "vidtr.podSecurity" -}}
securityContext:
  runAsNonRoot: true
  runAsUser: {{ .user }}
  runAsGroup: {{ .user }}
  fsGroup: {{ .user }}
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "vidtr.containerSecurity" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end }}

{{- define "vidtr.redisMounts" -}}
{{- with .Values.redis.caSecret }}
- {name: redis-ca, mountPath: /run/redis-ca, readOnly: true}
{{- end }}
{{- with .Values.redis.passwordSecret }}
- {name: redis-password, mountPath: /run/redis-password, readOnly: true}
{{- end }}
{{- end }}

{{- define "vidtr.redisVolumes" -}}
{{- with .Values.redis.caSecret }}
- {name: redis-ca, secret: {secretName: {{ . }}, items: [{key: ca.crt, path: ca.crt}]}}
{{- end }}
{{- with .Values.redis.passwordSecret }}
- {name: redis-password, secret: {secretName: {{ . }}, items: [{key: password, path: password}]}}
{{- end }}
{{- end }}

{{/* A budget means something where there is more than one replica. */}}
{{- define "vidtr.budget" -}}
{{- $least := ternary .values.autoscaling.min .values.replicas .root.Values.autoscaling.enabled | int }}
{{- if gt $least 1 }}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ .root.Release.Name }}-{{ .component }}
  labels: {{- include "vidtr.labels" . | nindent 4 }}
spec:
  maxUnavailable: 25%
  # A pod that is not ready protects nothing, and must not keep a node from being drained.
  unhealthyPodEvictionPolicy: AlwaysAllow
  selector:
    matchLabels: {{- include "vidtr.selector" . | nindent 6 }}
{{- end }}
{{- end }}
