{{/* The pod of a component. Takes a dict of "root" and "component". */}}

{{/* A setting as text: toJson keeps large whole numbers whole, which toString does not. */}}
{{- define "tunevane.settingText" -}}
{{- if kindIs "slice" . -}}{{- join "," . -}}
{{- else if kindIs "string" . -}}{{- . -}}
{{- else -}}{{- toJson . -}}
{{- end -}}
{{- end -}}

{{- define "tunevane.env" -}}
{{- $root := .root -}}
{{- $component := .component -}}
{{- $own := index $root.Values $component -}}
{{- $prefix := printf "TUNEVANE_%s_" (upper $component) -}}
{{- $settings := deepCopy $own.settings -}}
{{- $_ := set $settings "host" "0.0.0.0" -}}
{{- $_ := set $settings "port" $own.service.port -}}
{{- $_ := set $settings "state_dir" "/var/lib/tunevane" -}}
{{- if eq $component "tracker" -}}
{{- $_ := set $settings "http_host" "0.0.0.0" -}}
{{- $_ := set $settings "http_port" $own.service.httpPort -}}
{{- $ingress := $root.Values.pages.ingress -}}
{{- if and $ingress.enabled (not $settings.public_url) -}}
{{- $_ := set $settings "public_url" (printf "%s://%s" (ternary "https" "http" (ne $ingress.tlsSecret "")) $ingress.host) -}}
{{- end -}}
{{- else -}}
{{- $_ := set $settings "metrics_host" "0.0.0.0" -}}
{{- $_ := set $settings "metrics_port" $own.service.httpPort -}}
{{- end -}}
{{- if eq $component "trainer" -}}
{{- if not $settings.evaluator -}}
{{- $_ := set $settings "evaluator" (include "tunevane.address" (dict "root" $root "component" "evaluator")) -}}
{{- end -}}
{{- if and (not $settings.tracker) $root.Values.tracker.enabled -}}
{{- $_ := set $settings "tracker" (include "tunevane.address" (dict "root" $root "component" "tracker")) -}}
{{- end -}}
{{- end -}}
{{- if eq $component "evaluator" -}}
{{- with include "tunevane.qdrantUrl" $root -}}
{{- $_ := set $settings "qdrant_url" . -}}
{{- end -}}
{{- if tpl $root.Values.qdrant.caSecret.name $root -}}
{{- $_ := set $settings "qdrant_ca_file" "/etc/tunevane/qdrant/ca.crt" -}}
{{- end -}}
{{- end -}}
- name: HOME
  value: /tmp
- name: TUNEVANE_HOME
  value: /tmp/tunevane
- name: TUNEVANE_LOG_FORMAT
  value: {{ $root.Values.logFormat | quote }}
{{- if ne $component "tracker" }}
- name: HF_HOME
  value: /var/lib/tunevane/huggingface
{{- end }}
{{- range $name, $value := $settings }}
{{- $text := include "tunevane.settingText" $value }}
{{- if $text }}
- name: {{ printf "%s%s" $prefix (upper $name) }}
  value: {{ $text | quote }}
{{- end }}
{{- end }}
{{- if eq $component "evaluator" }}
{{- include "tunevane.secretEnv" (dict "name" "TUNEVANE_EVALUATOR_QDRANT_API_KEY" "secret" (tpl $root.Values.qdrant.existingSecret.name $root) "key" $root.Values.qdrant.existingSecret.key) }}
{{- end }}
{{- if eq $component "tracker" }}
{{- include "tunevane.secretEnv" (dict "name" "TUNEVANE_TRACKER_HTTP_TOKEN" "secret" $root.Values.pages.existingSecret.name "key" $root.Values.pages.existingSecret.key) }}
{{- include "tunevane.secretEnv" (dict "name" "WANDB_API_KEY" "secret" $root.Values.wandb.existingSecret.name "key" $root.Values.wandb.existingSecret.key) }}
{{- end }}
{{- with $own.extraEnv }}
{{ tpl (toYaml .) $root }}
{{- end }}
{{- end -}}

{{- define "tunevane.secretEnv" -}}
{{- if .secret }}
- name: {{ .name }}
  valueFrom:
    secretKeyRef:
      name: {{ .secret }}
      key: {{ .key }}
{{- end }}
{{- end -}}

{{- define "tunevane.resources" -}}
{{- $resources := deepCopy .resources -}}
{{- if gt (int .gpu.count) 0 -}}
{{- $limits := default dict $resources.limits -}}
{{- $_ := set $limits .gpu.resource (int .gpu.count) -}}
{{- $_ := set $resources "limits" $limits -}}
{{- end -}}
{{- toYaml $resources -}}
{{- end -}}

{{/* A probe of one gRPC service by its full name; the timing comes from the values. */}}
{{- define "tunevane.probe" -}}
{{- mergeOverwrite (deepCopy .timing) (dict "grpc" (dict "port" (int .port) "service" .service)) | toYaml -}}
{{- end -}}

{{- define "tunevane.stateVolume" -}}
{{- $own := index .root.Values .component -}}
- name: state
{{- if not $own.persistence.enabled }}
  emptyDir:
    sizeLimit: {{ $own.persistence.size }}
{{- else if or $own.persistence.existingClaim (ne .component "evaluator") }}
  persistentVolumeClaim:
    claimName: {{ include "tunevane.claimName" . }}
{{- else }}
  # Each evaluator has its own cache, which goes with its pod.
  ephemeral:
    volumeClaimTemplate:
      metadata:
        labels:
          {{- include "tunevane.selector" . | nindent 10 }}
        {{- with $own.persistence.annotations }}
        annotations:
          {{- toYaml . | nindent 10 }}
        {{- end }}
      spec:
        {{- include "tunevane.claimSpec" . | nindent 8 }}
{{- end }}
{{- end -}}

{{- define "tunevane.claimSpec" -}}
{{- $persistence := (index .root.Values .component).persistence -}}
accessModes:
  {{- toYaml $persistence.accessModes | nindent 2 }}
{{- with $persistence.storageClass }}
storageClassName: {{ . }}
{{- end }}
resources:
  requests:
    storage: {{ $persistence.size }}
{{- end -}}

{{- define "tunevane.podSpec" -}}
{{- $root := .root -}}
{{- $component := .component -}}
{{- $own := index $root.Values $component -}}
{{- $title := title $component -}}
serviceAccountName: {{ include "tunevane.serviceAccountName" . }}
automountServiceAccountToken: false
# The variables of service links would be read as settings: TUNEVANE_TRAINER_PORT=tcp://...
enableServiceLinks: false
securityContext:
  {{- toYaml $own.podSecurityContext | nindent 2 }}
terminationGracePeriodSeconds: {{ int $own.terminationGracePeriodSeconds }}
{{- with $root.Values.global.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- range $key := list "runtimeClassName" "priorityClassName" "schedulerName" }}
{{- with index $own $key }}
{{ $key }}: {{ . }}
{{- end }}
{{- end }}
{{- range $key := list "nodeSelector" "affinity" "initContainers" }}
{{- with index $own $key }}
{{ $key }}:
  {{- tpl (toYaml .) $root | nindent 2 }}
{{- end }}
{{- end }}
{{- $tolerations := $own.tolerations }}
{{- if gt (int $own.gpu.count) 0 }}
{{- $tolerations = append $tolerations (dict "key" $own.gpu.resource "operator" "Exists" "effect" "NoSchedule") }}
{{- end }}
{{- with $tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $own.topologySpreadConstraints }}
topologySpreadConstraints:
{{- range . }}
{{- $constraint := deepCopy . }}
{{- if not (hasKey $constraint "labelSelector") }}
{{- $_ := set $constraint "labelSelector" (dict "matchLabels" (include "tunevane.selector" (dict "root" $root "component" $component) | fromYaml)) }}
{{- end }}
  - {{- toYaml $constraint | nindent 4 }}
{{- end }}
{{- end }}
containers:
  - name: {{ $component }}
    image: {{ include "tunevane.image" . }}
    imagePullPolicy: {{ $own.image.pullPolicy }}
    args: [serve, {{ $component }}]
    env:
      {{- include "tunevane.env" . | nindent 6 }}
    {{- with $own.extraEnvFrom }}
    envFrom:
      {{- tpl (toYaml .) $root | nindent 6 }}
    {{- end }}
    ports:
      - name: grpc
        containerPort: {{ int $own.service.port }}
      - name: http
        containerPort: {{ int $own.service.httpPort }}
    startupProbe:
      {{- include "tunevane.probe" (dict "timing" $own.startupProbe "port" $own.service.port "service" "") | nindent 6 }}
    livenessProbe:
      {{- include "tunevane.probe" (dict "timing" $own.livenessProbe "port" $own.service.port "service" "") | nindent 6 }}
    readinessProbe:
      {{- include "tunevane.probe" (dict "timing" $own.readinessProbe "port" $own.service.port "service" (printf "tunevane.api.%s.v1.%sService" $component $title)) | nindent 6 }}
    {{- if gt (int $own.preStopSleepSeconds) 0 }}
    lifecycle:
      preStop:
        sleep:
          seconds: {{ int $own.preStopSleepSeconds }}
    {{- end }}
    resources:
      {{- include "tunevane.resources" $own | nindent 6 }}
    securityContext:
      {{- toYaml $own.securityContext | nindent 6 }}
    terminationMessagePolicy: FallbackToLogsOnError
    volumeMounts:
      - name: state
        mountPath: /var/lib/tunevane
      - name: temporary
        mountPath: /tmp
      {{- if $own.sharedMemory.sizeLimit }}
      - name: shared-memory
        mountPath: /dev/shm
      {{- end }}
      {{- if and (eq $component "evaluator") (tpl $root.Values.qdrant.caSecret.name $root) }}
      - name: qdrant-ca
        mountPath: /etc/tunevane/qdrant
        readOnly: true
      {{- end }}
      {{- with $own.extraVolumeMounts }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
  {{- with $own.extraContainers }}
  {{- tpl (toYaml .) $root | nindent 2 }}
  {{- end }}
volumes:
  {{- include "tunevane.stateVolume" . | nindent 2 }}
  - name: temporary
    emptyDir:
      sizeLimit: {{ $own.temporary.sizeLimit }}
  {{- with $own.sharedMemory.sizeLimit }}
  - name: shared-memory
    emptyDir:
      medium: Memory
      sizeLimit: {{ . }}
  {{- end }}
  {{- if eq $component "evaluator" }}
  {{- with tpl $root.Values.qdrant.caSecret.name $root }}
  - name: qdrant-ca
    secret:
      secretName: {{ . }}
      items:
        - key: {{ $root.Values.qdrant.caSecret.key }}
          path: ca.crt
  {{- end }}
  {{- end }}
  {{- with $own.extraVolumes }}
  {{- tpl (toYaml .) $root | nindent 2 }}
  {{- end }}
{{- end -}}
