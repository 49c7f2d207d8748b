{{- define "treadle.name" -}}
{{ .Release.Name | trunc 50 | trimSuffix "-" }}
{{- end -}}

{{- define "treadle.labels" -}}
app.kubernetes.io/name: treadle
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{/* The labels that select the pods of one component. */}}
{{- define "treadle.selector" -}}
app.kubernetes.io/name: treadle
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{/* The template of a pod: root, component, command, resources, and `extra` fields of the container. */}}
{{- define "treadle.pod" -}}
metadata:
  labels:
    {{- include "treadle.labels" .root | nindent 4 }}
    app.kubernetes.io/component: {{ .component }}
  annotations:
    checksum/settings: {{ printf "%s%s" (toJson .root.Values.settings) .root.Values.catalog | sha256sum }}
    {{- with .root.Values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  # A Service named "treadle" would otherwise set TREADLE_PORT, which is a setting.
  enableServiceLinks: false
  automountServiceAccountToken: false
  securityContext:
    runAsNonRoot: true
    runAsUser: 10001
    runAsGroup: 10001
    fsGroup: 10001
    seccompProfile: {type: RuntimeDefault}
  {{- with .root.Values.imagePullSecrets }}
  imagePullSecrets: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .gracePeriod }}
  terminationGracePeriodSeconds: {{ . }}
  {{- end }}
  {{- with .restartPolicy }}
  restartPolicy: {{ . }}
  {{- end }}
  containers:
    - name: {{ .component }}
      image: {{ printf "%s:%s" .root.Values.image.repository (.root.Values.image.tag | default .root.Chart.AppVersion) | quote }}
      imagePullPolicy: {{ .root.Values.image.pullPolicy }}
      args: [{{ .component }}]
      securityContext:
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities: {drop: [ALL]}
      envFrom:
        - secretRef: {name: {{ .root.Values.existingSecret | quote }}}
      env:
        - {name: TREADLE_HOST, value: "0.0.0.0"}
        - {name: TREADLE_PORT, value: "8000"}
        - {name: TREADLE_TRUSTED_PROXIES, value: {{ .root.Values.trustedProxies | quote }}}
        {{- if and .root.Values.ingress.enabled (not (hasKey .root.Values.settings "TREADLE_ALLOWED_HOSTS")) }}
        - {name: TREADLE_ALLOWED_HOSTS, value: {{ .root.Values.ingress.host | quote }}}
        {{- end }}
        {{- if .root.Values.catalog }}
        - {name: TREADLE_CATALOG_FILE, value: /etc/treadle/treadle.toml}
        {{- end }}
        {{- range $name, $value := .root.Values.settings }}
        - {name: {{ $name }}, value: {{ $value | toString | quote }}}
        {{- end }}
      resources: {{- toYaml .resources | nindent 8 }}
      {{- with .probes }}
      {{- . | nindent 6 }}
      {{- end }}
      volumeMounts:
        - {name: data, mountPath: /var/lib/treadle}
        - {name: temporary, mountPath: /tmp}
        {{- if .root.Values.catalog }}
        - {name: catalog, mountPath: /etc/treadle, readOnly: true}
        {{- end }}
  volumes:
    - {name: data, emptyDir: {}}
    - {name: temporary, emptyDir: {}}
    {{- if .root.Values.catalog }}
    - name: catalog
      configMap: {name: {{ include "treadle.name" .root }}-catalog}
    {{- end }}
  {{- with .root.Values.nodeSelector }}
  nodeSelector: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .root.Values.tolerations }}
  tolerations: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .root.Values.affinity }}
  affinity: {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}
