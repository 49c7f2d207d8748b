"""Checks what hosts deploy: the Dockerfile by hadolint, and the Helm chart; `make check-deploy` runs it.

The chart is linted and rendered by Helm's own library, with several values. Each manifest is validated
strictly against the schemas of the oldest and the newest Kubernetes, and by the rules below.
"""

import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import helm_python as helm
import kubernetes_validate
import yaml

DEPLOY = Path(__file__).parent
CHART = DEPLOY / "helm" / "treadle"
KUBERNETES = ("1.29", "1.37")
DRAIN_S = 30
"""The default of TREADLE_DRAIN_S."""
VALUES: dict[str, dict[str, Any]] = {
    "defaults": {},
    "everything": {
        "image": {"repository": "registry.example.com/treadle", "tag": "1"},
        "imagePullSecrets": [{"name": "registry"}],
        "settings": {"TREADLE_LOG_LEVEL": "debug", "TREADLE_MAX_JOBS": 10, "TREADLE_PRESENCE": "off"},
        "catalog": '[[models]]\nname = "gpt"\nprovider = "openai"\n',
        "worker": {"autoscaling": {"enabled": True}},
        "service": {"type": "NodePort", "port": 8080},
        "ingress": {"enabled": True, "className": "nginx", "tlsSecret": "tls", "annotations": {"a": "b"}},
        "networkPolicy": {"from": [{"namespaceSelector": {"matchLabels": {"name": "ingress"}}}]},
        "podAnnotations": {"prometheus.io/scrape": "true"},
        "nodeSelector": {"disk": "ssd"},
        "tolerations": [{"key": "a", "operator": "Exists"}],
        "affinity": {"nodeAffinity": {}},
    },
    "little": {"migrate": {"enabled": False}, "networkPolicy": {"enabled": False}},
}
REFUSED: tuple[dict[str, Any], ...] = (
    {"worker": {"replicas": 0}},
    {"worker": {"replica": 2}},
    {"settings": {"MAX_JOBS": "1"}},
    {"existingSecret": ""},
    {"service": {"type": "External"}},
)
"""Values with a mistake, which the schema of the values must find."""


def main() -> None:
    """Print each problem, and exit with 1 if there is one."""
    problems = [*_hadolint(), *_lint(), *_accepted_mistakes()]
    for name, values in VALUES.items():
        problems += [f"chart, {name}: {problem}" for problem in _check(values)]
    print(*problems, sep="\n", end="\n" if problems else "")
    sys.exit(bool(problems))


def _hadolint() -> Iterator[str]:
    program = Path(sysconfig.get_path("scripts")) / "hadolint"
    result = subprocess.run([program, DEPLOY / "image" / "Dockerfile"], capture_output=True, text=True, check=False)
    yield from result.stdout.splitlines()
    yield from result.stderr.splitlines()


def _lint() -> Iterator[str]:
    for message in helm.lint(CHART, strict=True)["messages"]:
        if message["severity"] > 1:
            yield f"chart: {message['path']}: {message['error']}"


def _accepted_mistakes() -> Iterator[str]:
    for values in REFUSED:
        with helm.Chart.load(CHART) as chart:
            try:
                chart.validate_schema(values)
            except helm.HelmValuesError:
                continue
        yield f"chart: the schema of the values accepts {values}"


def _check(values: dict[str, Any]) -> Iterator[str]:
    manifests = list(_rendered(values))
    for manifest in manifests:
        name = f"{manifest['kind']} {manifest['metadata']['name']}"
        for version in KUBERNETES:
            try:
                kubernetes_validate.validate(manifest, version, strict=True)
            except kubernetes_validate.ValidationError as error:
                yield f"{name}: Kubernetes {version}: {error.message}"
        yield from (f"{name}: {problem}" for problem in _pod_problems(manifest))
    yield from _missing(manifests, values)


def _rendered(values: dict[str, Any]) -> Iterator[dict[str, Any]]:
    with helm.Chart.load(CHART) as chart:
        files = chart.render(values, name="shop", namespace="apps")
    for path, text in files.items():
        if not path.endswith(".txt"):
            yield from (manifest for manifest in yaml.safe_load_all(text) if manifest)


def _pod_problems(manifest: dict[str, Any]) -> Iterator[str]:
    """Find what makes a pod unsafe, or end before its runs are released."""
    pod = manifest.get("spec", {}).get("template", {}).get("spec")
    if pod is None:
        return
    [container] = pod["containers"]
    if pod["enableServiceLinks"] or pod["automountServiceAccountToken"]:
        yield "the pod gets variables or a token of the cluster"
    if not pod["securityContext"]["runAsNonRoot"] or not container["securityContext"]["readOnlyRootFilesystem"]:
        yield "the pod may be root, or write to its image"
    if container["args"] == ["worker"] and pod["terminationGracePeriodSeconds"] <= DRAIN_S:
        yield "a worker is killed before its drain time has passed"
    if container["args"] == ["server"]:
        probes = {container[name]["httpGet"]["path"] for name in ("livenessProbe", "readinessProbe")}
        if probes != {"/livez", "/readyz"}:
            yield f"the probes are {sorted(probes)}"
    names = [variable["name"] for variable in container["env"]]
    if len(set(names)) != len(names):
        yield "a variable is set twice"


def _missing(manifests: list[dict[str, Any]], values: dict[str, Any]) -> Iterator[str]:
    kinds = {manifest["kind"] for manifest in manifests}
    expected = {"Deployment", "Service", "PodDisruptionBudget"}
    expected |= {"Job"} if values.get("migrate", {}).get("enabled", True) else set()
    expected |= {"NetworkPolicy"} if values.get("networkPolicy", {}).get("enabled", True) else set()
    expected |= {"Ingress"} if values.get("ingress", {}).get("enabled") else set()
    expected |= {"ConfigMap"} if values.get("catalog") else set()
    is_scaled = values.get("worker", {}).get("autoscaling", {}).get("enabled")
    expected |= {"HorizontalPodAutoscaler"} if is_scaled else set()
    if kinds != expected:
        yield f"kinds are {sorted(kinds)} instead of {sorted(expected)}"


if __name__ == "__main__":
    main()
