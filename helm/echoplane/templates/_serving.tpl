{{/*
One serving Deployment. Takes (dict "root" $ "part" "serving" "values" .Values.serving): another profile, such as one
for GPU nodes, is another call with values of the same shape.
*/}}
{{- define "echoplane.servingDeployment" -}}
{{- $name := printf "%s-%s" (include "echoplane.name" .root) .part }}
{{- $serving := .values }}
{{- $root := .root }}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ $name }}
  labels:
    {{- include "echoplane.labels" . | nindent 4 }}
spec:
  {{- if not $serving.autoscaling.enabled }}
  replicas: {{ $serving.replicas }}
  {{- end }}
  revisionHistoryLimit: 5
  # A pod leaves only when another is ready in its place.
  strategy: {type: RollingUpdate, rollingUpdate: {maxSurge: 1, maxUnavailable: 0}}
  selector:
    matchLabels:
      {{- include "echoplane.selector" . | nindent 6 }}
  template:
    metadata:
      labels:
        {{- include "echoplane.selector" . | nindent 8 }}
    spec:
      {{- include "echoplane.podSecurity" $root | nindent 6 }}
      # Draining, then the longest upload and answer that may have begun.
      terminationGracePeriodSeconds: {{ add $serving.drainS $serving.uploadTimeoutS $serving.deadlineS 10 }}
      {{- with $serving.priorityClassName }}
      priorityClassName: {{ . }}
      {{- end }}
      {{- with $serving.nodeSelector }}
      nodeSelector: {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with $serving.tolerations }}
      tolerations: {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with $serving.runtimeClassName }}
      runtimeClassName: {{ . }}
      {{- end }}
      topologySpreadConstraints:
        - maxSkew: 1
          topologyKey: kubernetes.io/hostname
          whenUnsatisfiable: ScheduleAnyway
          labelSelector:
            matchLabels:
              {{- include "echoplane.selector" . | nindent 14 }}
      {{- if $serving.triton.enabled }}
      initContainers:
        {{- include "echoplane.triton" . | nindent 8 }}
      {{- end }}
      containers:
        - name: serving
          image: {{ include "echoplane.image" (dict "root" $root "image" $serving.image) }}
          imagePullPolicy: {{ $root.Values.imagePullPolicy }}
          {{- include "echoplane.containerSecurity" $root | nindent 10 }}
          ports: [{name: http, containerPort: 3000}]
          env:
            - {name: MLFLOW_TRACKING_URI, value: {{ include "echoplane.mlflowUri" $root | quote }}}
            - {name: ECHOPLANE_TASKS, value: {{ join "," $serving.tasks | quote }}}
            - {name: ECHOPLANE_POLL_S, value: {{ $serving.pollS | quote }}}
            - {name: ECHOPLANE_RUNTIME, value: {{ $serving.runtime | quote }}}
            {{- with $serving.runtimeOrder }}
            - {name: ECHOPLANE_RUNTIME_ORDER, value: {{ join "," . | quote }}}
            {{- end }}
            - {name: ECHOPLANE_PRECISION, value: {{ $serving.precision | quote }}}
            - {name: ECHOPLANE_MAX_UPLOAD_MIB, value: {{ $serving.maxUploadMiB | quote }}}
            - {name: ECHOPLANE_MAX_IN_FLIGHT, value: {{ $serving.maxInFlight | quote }}}
            - {name: ECHOPLANE_DEADLINE_S, value: {{ $serving.deadlineS | quote }}}
            - {name: ECHOPLANE_UPLOAD_TIMEOUT_S, value: {{ $serving.uploadTimeoutS | quote }}}
            - {name: ECHOPLANE_REQUIRE_CONFINEMENT, value: {{ $serving.requireConfinement | quote }}}
            - {name: ECHOPLANE_ALLOW_UNSIGNED_MODELS, value: {{ $root.Values.signing.allowUnsignedModels | quote }}}
            {{- if $root.Values.signing.trustedKeys }}
            - {name: ECHOPLANE_TRUSTED_KEYS, value: /etc/echoplane/keys/trusted-keys.json}
            {{- end }}
            {{- if $root.Values.monitor.enabled }}
            - {name: ECHOPLANE_PREDICTION_LOG, value: /tmp/predictions}
            - {name: ECHOPLANE_PREDICTION_LOG_MAX_MIB, value: "512"}
            - {name: ECHOPLANE_PREDICTION_LOG_URL, value: {{ include "echoplane.predictions" $root | quote }}}
            {{- include "echoplane.s3Environment" $root | nindent 12 }}
            {{- end }}
            {{- if $serving.tokensSecret }}
            - {name: ECHOPLANE_TOKEN_FILE, value: /etc/echoplane/tokens/tokens.json}
            {{- end }}
            {{- with $serving.oidc }}
            {{- if .issuer }}
            - {name: ECHOPLANE_OIDC_ISSUER, value: {{ .issuer | quote }}}
            - {name: ECHOPLANE_OIDC_AUDIENCE, value: {{ required "serving.oidc.issuer needs serving.oidc.audience: else any token of the issuer would do." .audience | quote }}}
            - {name: ECHOPLANE_OIDC_CLIENT_ID, value: {{ .clientId | quote }}}
            - {name: ECHOPLANE_OIDC_SCOPE, value: {{ .scope | quote }}}
            {{- end }}
            {{- end }}
            {{- if not (or $serving.tokensSecret $serving.oidc.issuer) }}
            - {name: ECHOPLANE_ALLOW_UNAUTHENTICATED, value: "true"}
            {{- end }}
            {{- with $serving.prometheusUrl }}
            - {name: ECHOPLANE_PROMETHEUS_URL, value: {{ . | quote }}}
            - {name: ECHOPLANE_PROMETHEUS_LABELS, value: {{ dict "namespace" $root.Release.Namespace | toJson | quote }}}
            {{- end }}
          {{- with $root.Values.mlflow.credentialsSecret }}
          envFrom: [{secretRef: {name: {{ . }}}}]
          {{- end }}
          # Alive: the process answers. Ready: every task has a model that passed its checks. A pod without a model
          # is not restarted: there may be no champion yet.
          startupProbe: {httpGet: {path: /livez, port: http}, periodSeconds: 2, timeoutSeconds: 2, failureThreshold: 90}
          livenessProbe: {httpGet: {path: /livez, port: http}, periodSeconds: 10, timeoutSeconds: 5, failureThreshold: 6}
          readinessProbe: {httpGet: {path: /readyz, port: http}, periodSeconds: 2, timeoutSeconds: 5, failureThreshold: 3}
          # The service leaves the proxies' lists while the pod still answers; then SIGTERM lets it finish what it has.
          # The kubelet sleeps: a command that a busy node fails to start would let SIGTERM come at once.
          lifecycle: {preStop: {sleep: {seconds: {{ $serving.drainS }}}}}
          resources: {{- toYaml $serving.resources | nindent 12 }}
          volumeMounts:
            - {name: tmp, mountPath: /tmp}
            {{- if $root.Values.signing.trustedKeys }}
            - {name: keys, mountPath: /etc/echoplane/keys, readOnly: true}
            {{- end }}
            {{- if $serving.tokensSecret }}
            - {name: tokens, mountPath: /etc/echoplane/tokens, readOnly: true}
            {{- end }}
      volumes:
        {{- with $serving.tokensSecret }}
        - name: tokens
          secret: {secretName: {{ . }}, defaultMode: 0440}
        {{- end }}
        {{- if $root.Values.signing.trustedKeys }}
        - name: keys
          configMap: {name: {{ include "echoplane.name" $root }}-trusted-keys, defaultMode: 0444}
        {{- end }}
        - name: tmp
          emptyDir: {sizeLimit: {{ $serving.tmpSize }}}
        {{- if $serving.triton.enabled }}
        - name: triton
          emptyDir: {sizeLimit: {{ $serving.triton.engineCacheSize }}}
        - name: shared-memory
          emptyDir: {medium: Memory, sizeLimit: 1Gi}
        {{- end }}
{{- end }}

{{/*
A Triton server beside the service, as a sidecar: it is ready before the service starts, and ends after it. It listens on
loopback alone, since whoever reaches it can replace models, so the probe asks from inside.
*/}}
{{- define "echoplane.triton" -}}
{{- $triton := .values.triton }}
- name: triton
  image: {{ $triton.image }}
  imagePullPolicy: {{ .root.Values.imagePullPolicy }}
  restartPolicy: Always
  {{- include "echoplane.containerSecurity" .root | nindent 2 }}
  command: [tritonserver]
  args:
    - --model-repository=/tmp/models
    - --model-control-mode=explicit
    - --grpc-address=127.0.0.1
    - --http-address=127.0.0.1
    - --allow-metrics=false
  env:
    - {name: HOME, value: /tmp}
  # The service's first load must find the server, or it takes the next runtime.
  startupProbe:
    exec: {command: [curl, --silent, --fail, "http://127.0.0.1:8000/v2/health/ready"]}
    periodSeconds: 2
    timeoutSeconds: 5
    failureThreshold: 150
  resources:
    requests: {{- toYaml $triton.resources.requests | nindent 6 }}
    limits:
      {{- toYaml $triton.resources.limits | nindent 6 }}
      {{ $triton.gpuResource }}: {{ $triton.gpus }}
  volumeMounts:
    - {name: triton, mountPath: /tmp}
    - {name: triton, mountPath: /tmp/models, subPath: models}
    - {name: shared-memory, mountPath: /dev/shm}
{{- end }}
