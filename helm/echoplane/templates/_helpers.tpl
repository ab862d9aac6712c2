{{/* Name of everything: the release's, with the chart's name in it. */}}
{{- define "echoplane.name" -}}
{{- if contains "echoplane" .Release.Name }}{{ .Release.Name }}{{ else }}{{ .Release.Name }}-echoplane{{ end }}
{{- end }}

{{/* Labels of an object. Takes (dict "root" $ "part" "serving"). */}}
{{- define "echoplane.labels" -}}
helm.sh/chart: {{ .root.Chart.Name }}-{{ .root.Chart.Version }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
app.kubernetes.io/part-of: echoplane
{{ include "echoplane.selector" . }}
{{- end }}

{{/* Labels that never change: a Deployment's selector can't. */}}
{{- define "echoplane.selector" -}}
app.kubernetes.io/name: echoplane
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .part }}
{{- end }}

{{/* An image of ours. Takes (dict "root" $ "image" NAME). */}}
{{- define "echoplane.image" -}}
{{- $digest := get .root.Values.imageDigests .image }}
{{- if and .root.Values.requireDigests (not $digest) }}
{{- fail (printf "requireDigests is set, and imageDigests has none for %s: `python -m infra.signed_images values` writes them." .image) }}
{{- end }}
{{- .root.Values.imageRegistry }}{{ .image }}{{ if $digest }}@{{ $digest }}{{ else }}:{{ .root.Values.imageTag | default .root.Chart.AppVersion }}{{ end }}
{{- end }}

{{/* What the Pod Security Standard `restricted` asks of a pod. fsGroup: volumes are writable for the group. */}}
{{- define "echoplane.podSecurity" -}}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end }}

{{- define "echoplane.containerSecurity" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end }}

{{/* The gateway's sites by called AE title, as JSON. */}}
{{- define "echoplane.aeTitles" -}}
{{ toJson (.Values.gateway.aeTitles | default (dict "ECHOPLANE" "default")) }}
{{- end }}

{{/* Where clients find MLflow. */}}
{{- define "echoplane.mlflowUri" -}}
{{- if .Values.mlflow.enabled -}}
http://{{ include "echoplane.name" . }}-mlflow.{{ .Release.Namespace }}.svc:5000
{{- else -}}
{{ .Values.mlflow.externalUri }}
{{- end }}
{{- end }}

{{/* Bucket and address of the object store; empty where there is none. */}}
{{- define "echoplane.bucket" -}}
{{ .Values.s3.bucket | default (ternary "echoplane" "" .Values.minio.enabled) }}
{{- end }}
{{- define "echoplane.s3Endpoint" -}}
{{- if .Values.minio.enabled -}}
http://{{ include "echoplane.name" . }}-minio.{{ .Release.Namespace }}.svc:9000
{{- else -}}
{{ .Values.s3.endpoint }}
{{- end }}
{{- end }}

{{/* Where serving ships its prediction log, and the monitor reads it. */}}
{{- define "echoplane.predictions" -}}
s3://{{ include "echoplane.bucket" . | trim }}/predictions
{{- end }}

{{/* The variables by which boto3 finds the object store. */}}
{{- define "echoplane.s3Environment" -}}
- {name: AWS_DEFAULT_REGION, value: {{ .Values.s3.region | quote }}}
{{- with include "echoplane.s3Endpoint" . }}
- {name: MLFLOW_S3_ENDPOINT_URL, value: {{ . | quote }}}
- {name: AWS_ENDPOINT_URL, value: {{ . | quote }}}
{{- end }}
{{- with .Values.s3.existingSecret }}
- name: AWS_ACCESS_KEY_ID
  valueFrom: {secretKeyRef: {name: {{ . }}, key: AWS_ACCESS_KEY_ID}}
- name: AWS_SECRET_ACCESS_KEY
  valueFrom: {secretKeyRef: {name: {{ . }}, key: AWS_SECRET_ACCESS_KEY}}
{{- end }}
{{- end }}

{{/* Choices that exclude each other, and forms, in words: of a form the schema would say only that it does not match. */}}
{{- define "echoplane.check" -}}
{{- if eq .Values.imageTag "latest" }}
{{- fail "imageTag is latest, which names another image tomorrow: name the tag that `make images` printed." }}
{{- end }}
{{- if and .Values.imageRegistry (not (hasSuffix "/" .Values.imageRegistry)) }}
{{- fail (printf "imageRegistry must end with a slash: %s/" .Values.imageRegistry) }}
{{- end }}
{{- if not (regexMatch "^[^\\s@]+(:[^:/\\s]+|@sha256:[0-9a-f]{64})$" .Values.minio.image) }}
{{- fail (printf "minio.image %s: name a tag or a digest." .Values.minio.image) }}
{{- end }}
{{- if and .Values.requireDigests .Values.minio.enabled (not (contains "@sha256:" .Values.minio.image)) }}
{{- fail (printf "requireDigests is set, and minio.image %s names a tag." .Values.minio.image) }}
{{- end }}
{{- range $name, $address := dict "mlflow.externalUri" .Values.mlflow.externalUri "s3.endpoint" .Values.s3.endpoint }}
{{- if and $address (not (regexMatch "^https?://[^/\\s]+(/\\S*)?$" $address)) }}
{{- fail (printf "%s must begin with http:// or https://, and name a host." $name) }}
{{- end }}
{{- if contains "@" $address }}
{{- fail (printf "%s holds a user or a password: values are stored in the clear. Put them into a Secret." $name) }}
{{- end }}
{{- end }}
{{- if and .Values.mlflow.enabled .Values.mlflow.externalUri }}
{{- fail "mlflow.externalUri names another server while mlflow.enabled is true: set one of them." }}
{{- end }}
{{- if not (or .Values.mlflow.enabled .Values.mlflow.externalUri) }}
{{- fail "serving has no registry: set mlflow.enabled=true, or mlflow.externalUri to an MLflow server's address." }}
{{- end }}
{{- if and .Values.minio.enabled .Values.s3.endpoint }}
{{- fail "s3.endpoint names another object store while minio.enabled is true: set one of them." }}
{{- end }}
{{- if and .Values.minio.enabled (not .Values.s3.existingSecret) }}
{{- fail "minio.enabled needs s3.existingSecret: kubectl create secret generic echoplane-s3 --from-literal=AWS_ACCESS_KEY_ID=NAME --from-literal=AWS_SECRET_ACCESS_KEY=LONG_RANDOM_TEXT, then --set s3.existingSecret=echoplane-s3." }}
{{- end }}
{{- if and .Values.s3.endpoint (not .Values.s3.bucket) }}
{{- fail "s3.endpoint is set without s3.bucket: name the bucket for artifacts." }}
{{- end }}
{{- with .Values.edge }}
{{- if and .enabled (not (and .repositoryUrl .root)) }}
{{- fail "edge.enabled needs edge.repositoryUrl, and the repository's first root: --set-file edge.root=1.root.json." }}
{{- end }}
{{- if ne .triton.enabled (eq (first (append .runtimeOrder "")) "triton") }}
{{- fail "edge.triton.enabled and edge.runtimeOrder must agree: set runtimeOrder=[triton, openvino] with the server, and no triton without it." }}
{{- end }}
{{- if and .enabled $.Values.networkPolicy.enabled (not $.Values.networkPolicy.edgeTo) }}
{{- fail "edge.enabled: name where the repository is in networkPolicy.edgeTo, such as [{ports: [{port: 443}], to: [{ipBlock: {cidr: 10.1.2.3/32}}]}]." }}
{{- end }}
{{- end }}
{{- with .Values.serving }}
{{- if ne .triton.enabled (eq (first (append .runtimeOrder "")) "triton") }}
{{- fail "serving.triton.enabled and serving.runtimeOrder must agree: set runtimeOrder=[triton, openvino] with the server, and no triton without it." }}
{{- end }}
{{- if and .triton.enabled (eq .image "echoplane-serving") }}
{{- fail "serving.triton.enabled needs serving.image=echoplane-serving-triton, which holds Triton's client: infra/images/build serving-triton." }}
{{- end }}
{{- end }}
{{- with .Values.monitor }}
{{- if and .enabled (not (include "echoplane.bucket" $ | trim)) }}
{{- fail "monitor.enabled needs a bucket, where serving ships its prediction log: set s3.bucket, or minio.enabled." }}
{{- end }}
{{- if and .enabled (not .webhookSecret) }}
{{- fail "monitor.enabled needs monitor.webhookSecret: kubectl create secret generic echoplane-webhook --from-literal=token=LONG_RANDOM_TEXT, then --set monitor.webhookSecret=echoplane-webhook." }}
{{- end }}
{{- if and .enabled (not $.Values.data.enabled) }}
{{- fail "monitor.enabled needs data.enabled: the references are the evaluations on the data volume." }}
{{- end }}
{{- if and .enabled $.Values.networkPolicy.enabled (not $.Values.minio.enabled) (not (and $.Values.networkPolicy.servingTo $.Values.networkPolicy.monitorTo)) }}
{{- fail "the bucket of the prediction log is outside of this release: name where it is in networkPolicy.servingTo and networkPolicy.monitorTo, such as [{ports: [{port: 443}], to: [{ipBlock: {cidr: 10.1.2.3/32}}]}]." }}
{{- end }}
{{- end }}
{{- if and .Values.serving.service.nodePort (ne .Values.serving.service.type "NodePort") }}
{{- fail "serving.service.nodePort needs serving.service.type NodePort." }}
{{- end }}
{{- with .Values.networkPolicy }}
{{- if and .enabled (not .dns) }}
{{- fail "networkPolicy.dns is empty: name the cluster's DNS, such as {namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: kube-system}}}." }}
{{- end }}
{{- if and .enabled $.Values.mlflow.externalUri (not (and .servingTo .stepsTo)) }}
{{- fail "mlflow.externalUri is outside of this release: name where it is in networkPolicy.servingTo and networkPolicy.stepsTo, such as [{ports: [{port: 443}], to: [{ipBlock: {cidr: 10.1.2.3/32}}]}]." }}
{{- end }}
{{- if and .enabled $.Values.mlflow.enabled (or $.Values.mlflow.databaseSecret (and $.Values.s3.bucket (not $.Values.minio.enabled))) (not .mlflowTo) }}
{{- fail "MLflow's database or bucket is outside of this release: name where it is in networkPolicy.mlflowTo, such as [{ports: [{port: 5432}], to: [{ipBlock: {cidr: 10.1.2.3/32}}]}]." }}
{{- end }}
{{- end }}
{{- with .Values.serving.autoscaling }}
{{- if and .enabled (gt (int .minReplicas) (int .maxReplicas)) }}
{{- fail (printf "serving.autoscaling.minReplicas is %d, above maxReplicas %d." (int .minReplicas) (int .maxReplicas)) }}
{{- end }}
{{- end }}
{{- end }}

{{/* A NetworkPolicy. Takes root, part, selector, egress (a list of rules), and if the pods are called: port and from. */}}
{{- define "echoplane.networkPolicy" -}}
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: {{ include "echoplane.name" .root }}-{{ .part }}
  labels:
    {{- include "echoplane.labels" . | nindent 4 }}
spec:
  podSelector: {{- toYaml .selector | nindent 4 }}
  policyTypes: [Ingress, Egress]
  {{- if .port }}
  ingress:
    - ports: [{port: {{ .port }}}]
      from: {{- toYaml .from | nindent 8 }}
  {{- end }}
  {{- with .egress }}
  egress: {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}

{{/* The egress rule to the API servers: as given, else as the cluster names them when the release is installed. */}}
{{- define "echoplane.toKubernetesApi" -}}
{{- $peers := list }}
{{- $ports := list (dict "port" 443) (dict "port" 6443) }}
{{- range .Values.networkPolicy.kubernetesApi }}
{{- $peers = append $peers (dict "ipBlock" (dict "cidr" .)) }}
{{- end }}
{{- if not $peers }}
{{- range (lookup "v1" "Endpoints" "default" "kubernetes").subsets }}
{{- range .addresses }}
{{- $peers = append $peers (dict "ipBlock" (dict "cidr" (printf "%s/%s" .ip (ternary "128" "32" (contains ":" .ip))))) }}
{{- end }}
{{- end }}
{{- end }}
{{- if $peers }}
{{- toYaml (list (dict "ports" $ports "to" $peers)) }}
{{- else }}
{{- toYaml list }}
{{- end }}
{{- end }}

{{/* The claim on which steps and Ray pods work. */}}
{{- define "echoplane.dataClaim" -}}
{{ .Values.data.existingClaim | default (printf "%s-data" (include "echoplane.name" .)) }}
{{- end }}

{{/* Images that Ray pods may run, as a list in CEL: how their names begin. The worker's may have any tag. */}}
{{- define "echoplane.workerImages" -}}
{{- $own := printf "%sechoplane-worker" .Values.imageRegistry -}}
{{ toJson (concat (list (printf "%s:" $own) (printf "%s@" $own)) .Values.pipelines.ray.images) }}
{{- end }}

{{/* Labels by which the network policy finds Ray pods, as JSON. */}}
{{- define "echoplane.rayLabels" -}}
{{ toJson (dict "app.kubernetes.io/part-of" "echoplane" "app.kubernetes.io/component" "ray") }}
{{- end }}

{{/* The API server's names of the accounts that run steps, as a list in CEL. */}}
{{- define "echoplane.stepUsers" -}}
{{- $users := list -}}
{{- range prepend .Values.pipelines.serviceAccounts (printf "%s-pipelines" (include "echoplane.name" .)) }}
{{- $users = append $users (printf "system:serviceaccount:%s:%s" $.Release.Namespace .) -}}
{{- end }}
{{- toJson $users }}
{{- end }}
