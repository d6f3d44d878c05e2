{{/* Names, labels and addresses. Most take a dict of "root" (the chart's context) and "component". */}}

{{- define "tunevane.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "tunevane.name" -}}
{{- printf "%s-%s" (include "tunevane.fullname" .root) .component -}}
{{- end -}}

{{/* What selectors hold: nothing that an upgrade changes. */}}
{{- define "tunevane.selector" -}}
app.kubernetes.io/name: {{ default .root.Chart.Name .root.Values.nameOverride | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- define "tunevane.labels" -}}
{{- $ours := include "tunevane.selector" . | fromYaml -}}
{{- $_ := set $ours "app.kubernetes.io/part-of" "tunevane" -}}
{{- $_ := set $ours "app.kubernetes.io/managed-by" .root.Release.Service -}}
{{- $_ := set $ours "app.kubernetes.io/version" (.root.Chart.AppVersion | replace "+" "_") -}}
{{- $_ := set $ours "helm.sh/chart" (printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-") -}}
{{- mergeOverwrite (deepCopy .root.Values.global.labels) $ours | toYaml -}}
{{- end -}}

{{- define "tunevane.image" -}}
{{- $image := (index .root.Values .component).image -}}
{{- $registry := default $image.registry .root.Values.global.imageRegistry -}}
{{- with $registry }}{{ trimSuffix "/" . }}/{{ end -}}
{{- $image.repository -}}
{{- if $image.digest -}}@{{ $image.digest }}{{- else -}}:{{ default .root.Chart.AppVersion $image.tag }}{{- end -}}
{{- end -}}

{{- define "tunevane.serviceAccountName" -}}
{{- $account := (index .root.Values .component).serviceAccount -}}
{{- if $account.create -}}
{{- default (include "tunevane.name" .) $account.name -}}
{{- else -}}
{{- default "default" $account.name -}}
{{- end -}}
{{- end -}}

{{- define "tunevane.claimName" -}}
{{- default (include "tunevane.name" .) (index .root.Values .component).persistence.existingClaim -}}
{{- end -}}

{{- define "tunevane.address" -}}
{{- printf "%s:%v" (include "tunevane.name" .) ((index .root.Values .component).service.port | int) -}}
{{- end -}}

{{- define "tunevane.qdrantUrl" -}}
{{- tpl .Values.qdrant.url . -}}
{{- end -}}

{{/* Port of the Qdrant server, as the evaluator reads it from the URL. */}}
{{- define "tunevane.qdrantPort" -}}
{{- $port := regexFind ":[0-9]+(/|$)" (include "tunevane.qdrantUrl" .) | trimPrefix ":" | trimSuffix "/" -}}
{{- default "6334" $port -}}
{{- end -}}

{{/* The components that are on, as a JSON list. */}}
{{- define "tunevane.components" -}}
{{- $on := list -}}
{{- range $component := list "trainer" "evaluator" "tracker" -}}
{{- if (index $.Values $component).enabled }}{{ $on = append $on $component }}{{ end -}}
{{- end -}}
{{- $on | toJson -}}
{{- end -}}
