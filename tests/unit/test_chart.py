"""The chart as `helm` renders it: every scenario of helm/echoplane/ci, and what it refuses."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import helm_python as helm
import kubernetes_validate
import pytest
import yaml
from cel_expr_python import cel
from kubernetes.utils.quantity import parse_quantity

from echoplane import __version__
from echoplane.adapters.ray_manifest import CLAIMS, IMAGES, LABELS, NODE_KEYS, RayCluster
from echoplane.monitoring import alerts
from echoplane.settings import ServingSettings
from echoplane.tasks import BUILT_IN
from pipelines.cluster import SETTINGS_OF_STEPS, SMALL, STEP, STEP_LABEL, Size, training_size
from serving.edge.settings import EdgeSettings, read_edge_settings
from serving.gateway.settings import GatewaySettings
from serving.monitor.settings import MonitorSettings, read_monitor_settings
from tests.rayjob_attacks import ATTACKS, attacking, step_rayjob

TRUST = {f"ECHOPLANE_{name}" for name in ("TRUSTED_KEYS", "SIGNING_KEY", "ALLOW_UNSIGNED_MODELS", "AUDIT_LOG")}
"""What `rollback` reads beside the monitor's settings."""
CHART = Path(__file__).resolve().parents[2] / "helm" / "echoplane"
SCENARIOS = sorted(CHART.glob("ci/*-values.yaml"))
KUBERNETES = "1.34"
Object = dict[str, Any]


def template(values: Object) -> dict[str, str]:
    """Returns helm's rendering of each template. Raises HelmError if it refuses."""
    return helm.Chart.load(CHART).render(values, name="echoplane", namespace="heart")


def rendered(scenario: Path, **values: Any) -> list[Object]:
    made = template(yaml.safe_load(scenario.read_text()) | values)
    texts = [text for path, text in sorted(made.items()) if path.endswith(".yaml")]
    return [one for text in texts for one in yaml.safe_load_all(text) if one]


@pytest.fixture(scope="module", params=SCENARIOS, ids=lambda path: path.stem.removesuffix("-values"))
def objects(request: pytest.FixtureRequest) -> list[Object]:
    return rendered(request.param)


def of_kind(objects: list[Object], *kinds: str) -> list[Object]:
    return [one for one in objects if one["kind"] in kinds]


def pods(objects: list[Object]) -> Iterator[tuple[str, Object]]:
    """The pod of every Deployment, Job and test, with its owner's name."""
    for one in of_kind(objects, "Deployment", "DaemonSet", "Job"):
        yield one["metadata"]["name"], one["spec"]["template"]
    for one in of_kind(objects, "Pod"):
        yield one["metadata"]["name"], one


def containers(objects: list[Object]) -> Iterator[Object]:
    for _, pod in pods(objects):
        yield from pod["spec"].get("initContainers", []) + pod["spec"]["containers"]


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda path: path.stem)
def test_lint_has_no_complaint(scenario: Path) -> None:
    values = yaml.safe_load(scenario.read_text())
    report = helm.lint(CHART, values, strict=True, kube_version=f"v{KUBERNETES}.0")
    assert report["errors"] == []
    assert [message["error"] for message in report["messages"] if message["severity"] > 1] == []


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda path: path.stem)
def test_rendering_twice_gives_the_same(scenario: Path) -> None:
    values = yaml.safe_load(scenario.read_text())
    assert template(values) == template(values)


def test_objects_have_the_fields_of_kubernetes_and_no_other(objects: list[Object]) -> None:
    for one in objects:
        if one["apiVersion"] != "monitoring.coreos.com/v1":
            kubernetes_validate.validate(one, KUBERNETES, strict=True)


def test_pods_meet_the_restricted_standard(objects: list[Object]) -> None:
    for name, pod in pods(objects):
        assert pod["spec"]["automountServiceAccountToken"] is False, name
        security = pod["spec"]["securityContext"]
        assert security["runAsNonRoot"], name
        assert security["seccompProfile"]["type"] == "RuntimeDefault", name
    for container in containers(objects):
        security = container["securityContext"]
        assert security["allowPrivilegeEscalation"] is False
        assert security["readOnlyRootFilesystem"] is True
        assert security["capabilities"] == {"drop": ["ALL"]}


def test_every_container_says_what_it_needs_and_has_a_fixed_image(objects: list[Object]) -> None:
    for container in containers(objects):
        assert set(container["resources"]["requests"]) == {"cpu", "memory"}
        assert "memory" in container["resources"]["limits"]
        assert re.fullmatch(r"\S+:[^:]+", container["image"])
        assert not container["image"].endswith(":latest")


def test_no_secret_is_in_arguments_or_plain_variables(objects: list[Object]) -> None:
    secret = re.compile(r"PASSWORD|SECRET|TOKEN|ACCESS_KEY|ROOT_USER")
    for container in containers(objects):
        said = " ".join(container.get("command", []) + container.get("args", []))
        assert not secret.search(said)
        for variable in container.get("env", []):
            if secret.search(variable["name"]) and not variable["name"].endswith(("_FILE", "_PATH")):
                assert "secretKeyRef" in variable["valueFrom"], variable["name"]
            else:
                assert "@" not in variable.get("value", "")


def test_every_service_and_policy_selects_the_pods_of_one_workload(objects: list[Object]) -> None:
    labels = [(name, pod["metadata"]["labels"]) for name, pod in pods(objects)]
    for one in of_kind(objects, "Service", "NetworkPolicy", "PodDisruptionBudget", "Deployment"):
        spec = one["spec"]
        selector = spec.get("podSelector") or spec["selector"]
        if one["metadata"]["name"].endswith(NOT_ONE_WORKLOAD):
            continue
        wanted = selector.get("matchLabels", selector)
        found = [name for name, has in labels if wanted.items() <= has.items()]
        assert found == [one["metadata"]["name"]], one["kind"]


GUARDED = [path for path in SCENARIOS if "nodeport" not in path.name]
NOT_ONE_WORKLOAD = ("-default-deny", "-pipeline-steps", "-ray")


def policies(objects: list[Object]) -> dict[str, Object]:
    return {
        one["metadata"]["name"].removeprefix("echoplane-"): one["spec"] for one in of_kind(objects, "NetworkPolicy")
    }


@pytest.mark.parametrize(
    "scenario", [path for path in SCENARIOS if "nodeport" not in path.name], ids=lambda path: path.stem
)
def test_s10_every_pod_has_a_policy_for_what_comes_and_what_goes(scenario: Path) -> None:
    objects = rendered(scenario)
    found = policies(objects)
    deny = found["default-deny"]
    assert set(deny) == {"podSelector", "policyTypes"}, "it allows nothing"
    assert all(spec["policyTypes"] == ["Ingress", "Egress"] for spec in found.values())
    for name, pod in pods(objects):
        assert deny["podSelector"]["matchLabels"].items() <= pod["metadata"]["labels"].items(), name
    assert found["pipeline-steps"]["podSelector"]["matchLabels"] == dict([STEP_LABEL])
    assert found["ray"]["podSelector"]["matchLabels"] == LABELS


@pytest.mark.parametrize(
    "scenario", [path for path in SCENARIOS if "nodeport" not in path.name], ids=lambda path: path.stem
)
def test_s10_no_policy_opens_a_port_to_everywhere_or_dns_to_others_than_the_clusters(scenario: Path) -> None:
    for name, spec in policies(rendered(scenario)).items():
        for rule in spec.get("egress", []):
            assert rule.get("to"), f"{name}: {rule}"
            if any(port["port"] == 53 for port in rule.get("ports", [])):
                assert rule["to"][0]["podSelector"]["matchLabels"] == {"k8s-app": "kube-dns"}
        assert all(rule.get("from") for rule in spec.get("ingress", [])), name


def test_s8_ray_pods_are_called_by_each_other_and_by_kuberay_alone() -> None:
    own, operator = policies(rendered(CHART / "ci" / "default-values.yaml"))["ray"]["ingress"]
    assert own == {"from": [{"podSelector": {"matchLabels": LABELS}}]}
    assert operator["ports"] == [{"port": 8265}]
    assert operator["from"] == [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kuberay"}}}]


def test_s9_the_variables_of_steps_and_the_admission_policy_allow_the_same() -> None:
    ray = {"images": ["other:1"], "claims": ["heart"], "nodeKeys": ["gpu"]}
    objects = rendered(CHART / "ci" / "default-values.yaml", pipelines={"ray": ray})
    (settings,) = (
        one["data"] for one in of_kind(objects, "ConfigMap") if one["metadata"]["name"].endswith("-pipelines")
    )
    assert set(settings) == set(SETTINGS_OF_STEPS), "each is given to the steps"
    assert settings[CLAIMS] == "echoplane-data,heart"
    assert (settings[IMAGES], settings[NODE_KEYS]) == ("other:1", "gpu")
    (policy,) = of_kind(objects, "ValidatingAdmissionPolicy")
    rules = " ".join(one["expression"] for one in policy["spec"]["validations"])
    for names in (["echoplane-data", "heart"], ["echoplane-worker:", "echoplane-worker@", "other:1"], ["gpu"]):
        assert json.dumps(names, separators=(",", ":")) in rules, names
    assert policy["spec"]["failurePolicy"] == "Fail"
    assert "system:serviceaccount:heart:echoplane-pipelines" in policy["spec"]["matchConditions"][0]["expression"]


def refused_by(policy: Object, job: Object) -> list[str]:
    """Messages of the rules of an admission policy that refuse `job`; an error refuses it too (failurePolicy)."""
    given: Object = {"object": job, "variables": {}}
    environment = cel.NewEnv(variables=dict.fromkeys(given, cel.Type.DYN))

    def value(expression: str) -> Any:
        return environment.compile(expression).eval(data=given).plain_value()

    for one in policy["spec"]["variables"]:
        given["variables"][one["name"]] = value(one["expression"])
    return [one["message"] for one in policy["spec"]["validations"] if value(one["expression"]) is not True]


@pytest.fixture
def step_job(monkeypatch: pytest.MonkeyPatch) -> Object:
    monkeypatch.setenv("ECHOPLANE_IMAGE", "echoplane-worker:1")
    return step_rayjob(RayCluster(volume="echoplane-data"))


@pytest.fixture(scope="module")
def policy() -> Object:
    (found,) = of_kind(rendered(CHART / "ci" / "default-values.yaml"), "ValidatingAdmissionPolicy")
    return found


def test_s9_the_admission_policy_admits_the_rayjob_of_training(policy: Object, step_job: Object) -> None:
    assert refused_by(policy, step_job) == []
    (group,) = step_job["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    group["numOfHosts"] = 1  # KubeRay's default, which the API server adds
    assert refused_by(policy, step_job) == []


@pytest.mark.parametrize(("path", "value"), ATTACKS, ids=str)
def test_s9_the_admission_policy_refuses_each_attack_with_a_steps_token(
    policy: Object, step_job: Object, path: tuple[Any, ...], value: Any
) -> None:
    assert refused_by(policy, attacking(step_job, path, value))


NODE = {"cpu": 2.0, "memory": 7.5 * 2**30}
"""Of 2 cores and 8 GiB: half a GiB is the system's."""
PLATFORM = {"cpu": 0.774, "memory": 3.5 * 2**30}
"""Requests of Kubeflow Pipelines 2.17, KubeRay 1.7 and DNS, as they ship."""


@pytest.mark.parametrize("size", [STEP, SMALL, training_size("step"), training_size("ray")], ids=str)
def test_k5_a_small_node_holds_every_step_beside_the_platform_and_the_release(size: Size) -> None:
    left = dict(NODE)
    for container in (PLATFORM, *_requests_of_the_release()):
        left = {kind: left[kind] - container[kind] for kind in left}
    assert quantity(size.cpu) <= left["cpu"]
    assert quantity(size.memory) <= left["memory"]


def _requests_of_the_release() -> Iterator[dict[str, float]]:
    for one in of_kind(rendered(CHART / "ci" / "small-node-values.yaml"), "Deployment"):
        for container in one["spec"]["template"]["spec"]["containers"]:
            for _ in range(one["spec"]["replicas"]):
                yield {kind: quantity(value) for kind, value in container["resources"]["requests"].items()}


def quantity(text: str) -> float:
    return float(parse_quantity(text))


def test_the_service_drains_before_it_ends(objects: list[Object]) -> None:
    (deployment,) = (one for one in of_kind(objects, "Deployment") if one["metadata"]["name"].endswith("-serving"))
    pod = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    drain_s = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    settings = {one["name"]: one.get("value") for one in container["env"]}
    max_duration_s = int(settings["ECHOPLANE_DEADLINE_S"]) + int(settings["ECHOPLANE_UPLOAD_TIMEOUT_S"])
    assert pod["terminationGracePeriodSeconds"] > drain_s + max_duration_s
    assert deployment["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert container["livenessProbe"]["httpGet"]["path"] == "/livez"


def test_the_service_is_given_settings_that_it_has_and_accepts(
    objects: list[Object], monkeypatch: pytest.MonkeyPatch
) -> None:
    (container,) = (one for one in containers(objects) if one["name"] == "serving")
    fields = ServingSettings.model_fields
    for variable in container["env"]:
        name = variable["name"]
        if re.match("AWS_|MLFLOW_S3_", name):
            continue
        assert name == "MLFLOW_TRACKING_URI" or name.removeprefix("ECHOPLANE_").lower() in fields, name
        monkeypatch.setenv(name, variable["value"])
    assert ServingSettings().mlflow_tracking_uri


def test_the_gateway_is_given_settings_that_it_has_and_accepts(monkeypatch: pytest.MonkeyPatch) -> None:
    objects = rendered(CHART / "ci" / "gateway-values.yaml")
    (container,) = (one for one in containers(objects) if one["name"] == "gateway")
    for variable in container["env"]:
        assert variable["name"].removeprefix("ECHOPLANE_GATEWAY_").lower() in GatewaySettings.model_fields
        monkeypatch.setenv(variable["name"], variable["value"])
    settings = GatewaySettings()
    assert settings.peers[0].port == 104
    assert {str(settings.dicom_port), str(settings.http_port)} == {
        str(port["containerPort"]) for port in container["ports"]
    }


def test_a_service_that_people_sign_in_to_answers_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    (container,) = (
        one for one in containers(rendered(CHART / "ci" / "sign-in-values.yaml")) if one["name"] == "serving"
    )
    given = {one["name"]: one["value"] for one in container["env"]}
    assert "ECHOPLANE_ALLOW_UNAUTHENTICATED" not in given
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    settings = ServingSettings()
    assert (settings.oidc_client_id, settings.oidc_audience) == ("echoplane-page", "echoplane")
    assert settings.prometheus_labels == {"namespace": "heart"}


def test_only_the_named_network_and_the_test_call_the_gateways_dicom_port() -> None:
    dicom, _ = policies(rendered(CHART / "ci" / "gateway-values.yaml"))["gateway"]["ingress"]
    test, network = dicom["from"]
    assert test["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == "test"
    assert network == {"ipBlock": {"cidr": "10.1.2.0/24"}}


def test_a_gpu_pod_has_a_server_that_starts_first_and_is_reached_from_inside_alone() -> None:
    objects = rendered(CHART / "ci" / "gpu-triton-values.yaml")
    (pod,) = (pod["spec"] for name, pod in pods(objects) if name.endswith("-serving"))
    (server,) = pod["initContainers"]
    assert server["restartPolicy"] == "Always", "a sidecar"
    assert {"--grpc-address=127.0.0.1", "--http-address=127.0.0.1"} <= set(server["args"])
    assert "--model-control-mode=explicit" in server["args"]
    assert server["resources"]["limits"]["nvidia.com/mig-1g.10gb"] == 1
    assert "ports" not in server
    environment = {one["name"]: one.get("value") for one in pod["containers"][0]["env"]}
    assert environment["ECHOPLANE_RUNTIME_ORDER"] == "triton,openvino"
    assert pod["runtimeClassName"] == "nvidia"


def test_a_jetson_has_service_and_agent_with_settings_that_they_accept(monkeypatch: pytest.MonkeyPatch) -> None:
    objects = rendered(CHART / "ci" / "jetson-values.yaml")
    (fleet,) = of_kind(objects, "DaemonSet")
    pod = fleet["spec"]["template"]["spec"]
    assert (pod["runtimeClassName"], pod["nodeSelector"]) == ("nvidia", {"kubernetes.io/arch": "arm64"})
    (server,) = pod["initContainers"]
    assert server["image"].endswith("-igpu")
    service, agent = pod["containers"]
    assert [one["command"][:4] for one in (service, agent)] == [
        ["python", "-m", "serving.edge", "serve"],
        ["python", "-m", "serving.edge", "run"],
    ]
    for variable in agent["env"]:
        monkeypatch.setenv(variable["name"], variable.get("value", "node-1"))
    settings = read_edge_settings()
    assert settings.device == "node-1"
    assert settings.repository_url == "https://edge.example.org/repository"
    assert {f"ECHOPLANE_EDGE_{name.upper()}" for name in EdgeSettings.model_fields} >= {
        one["name"] for one in agent["env"]
    }


def test_steps_may_create_rayjobs_and_nothing_else(objects: list[Object]) -> None:
    (role,) = (one for one in of_kind(objects, "Role") if one["metadata"]["name"].endswith("-pipelines"))
    assert {group for rule in role["rules"] for group in rule["apiGroups"]} == {"ray.io"}
    assert {kind for rule in role["rules"] for kind in rule["resources"]} == {"rayjobs", "rayjobs/status"}
    assert not of_kind(objects, "ClusterRole", "ClusterRoleBinding")


def test_the_monitor_may_ask_kubeflow_for_runs_and_sees_of_the_data_the_evaluations_alone() -> None:
    objects = rendered(CHART / "ci" / "monitor-values.yaml")
    (role,) = (one for one in of_kind(objects, "Role") if one["metadata"]["name"].endswith("-monitor"))
    assert {group for rule in role["rules"] for group in rule["apiGroups"]} == {"pipelines.kubeflow.org"}
    (container,) = (one for one in containers(objects) if one["name"] == "monitor")
    (mount,) = (one for one in container["volumeMounts"] if one["name"] == "data")
    assert (mount["subPath"], mount["readOnly"]) == ("evaluate", True)


def test_each_part_that_runs_is_scraped_and_has_its_alerts() -> None:
    values = yaml.safe_load((CHART / "ci" / "monitoring-values.yaml").read_text())["monitoring"]
    values["serviceMonitor"]["tokenSecret"] = "operate-token"
    for scenario, parts in {"default": [], "monitor": ["monitor"], "gateway": ["gateway"]}.items():
        objects = rendered(CHART / "ci" / f"{scenario}-values.yaml", monitoring=values)
        for kind in ("PrometheusRule", "ServiceMonitor"):
            names = [one["metadata"]["name"] for one in of_kind(objects, kind)]
            assert sorted(names) == sorted(f"echoplane-{part}" for part in ["serving", *parts])


def test_alerts_of_the_edge_fleet_are_installed_only_where_they_are_asked_for() -> None:
    values = yaml.safe_load((CHART / "ci" / "monitoring-values.yaml").read_text())["monitoring"]
    values["prometheusRule"]["edge"] = True
    objects = of_kind(rendered(CHART / "ci" / "default-values.yaml", monitoring=values), "PrometheusRule")
    (edge,) = (one for one in objects if one["metadata"]["name"] == "echoplane-edge")
    assert {rule["alert"] for rule in edge["spec"]["groups"][0]["rules"]} == {alert.name for alert in alerts.EDGE}


def test_guarded_metrics_are_scraped_with_a_token_and_open_ones_without() -> None:
    values = yaml.safe_load((CHART / "ci" / "monitoring-values.yaml").read_text())["monitoring"]
    values["serviceMonitor"]["tokenSecret"] = "operate-token"
    credentials = {"type": "Bearer", "credentials": {"name": "operate-token", "key": "token"}}
    expected = {
        "gateway": {"serving": credentials, "gateway": credentials},
        "monitor": dict.fromkeys(("serving", "monitor")),
    }
    for scenario, parts in expected.items():
        objects = rendered(CHART / "ci" / f"{scenario}-values.yaml", monitoring=values)
        for one in of_kind(objects, "ServiceMonitor"):
            (endpoint,) = one["spec"]["endpoints"]
            assert endpoint.get("authorization") == parts[one["metadata"]["name"].removeprefix("echoplane-")]


def test_the_test_of_a_release_sends_to_the_gateway_as_its_first_caller_over_tls() -> None:
    objects = rendered(CHART / "ci" / "gateway-values.yaml")
    (test,) = of_kind(objects, "Pod")
    (container,) = test["spec"]["containers"]
    given = {one["name"]: one["value"] for one in container["env"] if one["name"].startswith("GATEWAY")}
    assert (given["GATEWAY_CALLED"], given["GATEWAY_CALLING"], given["GATEWAY_PORT"]) == ("ECHOPLANE", "PACS", "104")
    mounts = {one["name"]: one["mountPath"] for one in container["volumeMounts"]}
    assert mounts["tls"] == given["GATEWAY_TLS"]
    assert "SecondaryCapture" in container["args"][0]


def test_the_monitor_is_given_settings_that_it_has_and_accepts(monkeypatch: pytest.MonkeyPatch) -> None:
    objects = rendered(CHART / "ci" / "monitor-values.yaml")
    environments = {
        one["name"]: {each["name"]: each.get("value") for each in one["env"]}
        for one in containers(objects)
        if one["name"] in ("monitor", "serving")
    }
    given = environments["monitor"]
    own = {name: value or "" for name, value in given.items() if name.startswith("ECHOPLANE_") and name not in TRUST}
    assert {name.removeprefix("ECHOPLANE_").lower() for name in own} <= set(MonitorSettings.model_fields)
    for name, value in (own | {"MLFLOW_TRACKING_URI": given["MLFLOW_TRACKING_URI"]}).items():
        monkeypatch.setenv(name, value)
    assert read_monitor_settings().policy().approval == "person"
    assert read_monitor_settings().automatic_rollback
    assert own["ECHOPLANE_PREDICTION_LOG"] == environments["serving"]["ECHOPLANE_PREDICTION_LOG_URL"]


def test_only_a_monitor_that_rolls_back_gets_the_signing_key_and_reaches_the_registry() -> None:
    values = CHART / "ci" / "monitor-values.yaml"
    for wanted in (True, False):
        monitor = yaml.safe_load(values.read_text())["monitor"] | {"automaticRollback": wanted}
        objects = rendered(values, monitor=monitor)
        (container,) = (one for one in containers(objects) if one["name"] == "monitor")
        assert ("ECHOPLANE_SIGNING_KEY" in {one["name"] for one in container["env"]}) is wanted
        (policy,) = (one for one in of_kind(objects, "NetworkPolicy") if one["metadata"]["name"].endswith("-mlflow"))
        (rule,) = policy["spec"]["ingress"]
        assert ("monitor" in json.dumps(rule["from"])) is wanted


def test_volumes_outlive_the_release(objects: list[Object]) -> None:
    for claim in of_kind(objects, "PersistentVolumeClaim"):
        assert claim["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"


def test_autoscaling_leaves_the_number_of_replicas_to_the_autoscaler() -> None:
    objects = rendered(CHART / "ci" / "autoscaling-values.yaml")
    (scaler,) = of_kind(objects, "HorizontalPodAutoscaler")
    (target,) = (one for one in of_kind(objects, "Deployment") if one["metadata"]["name"].endswith("-serving"))
    assert scaler["spec"]["scaleTargetRef"]["name"] == target["metadata"]["name"]
    assert "replicas" not in target["spec"]


def test_monitors_and_dashboard_are_where_the_documented_prometheus_looks() -> None:
    """Its release's name is the label by which it finds monitors, and begins Grafana's name."""
    installs = (CHART.parents[1] / "infra" / "README.md").read_text()
    (release,) = re.findall(r"helm install (\S+) kube-prometheus-stack ", installs)
    values = yaml.safe_load((CHART / "ci" / "monitoring-values.yaml").read_text())
    assert values["monitoring"]["serviceMonitor"]["labels"]["release"] == release
    assert values["monitoring"]["prometheusRule"]["labels"]["release"] == release
    assert f"svc/{release}-grafana" in (CHART.parents[1] / "docs" / "kubernetes.md").read_text()


def test_the_chart_and_the_package_have_one_version() -> None:
    assert yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"] == __version__


REFUSED = {
    "networkPolicy: {dns: []}": "networkPolicy.dns is empty",
    "networkPolicy: {stepsTo: [{ports: [{port: 443}]}]}": "missing property 'to'",
    "mlflow: {databaseSecret: database}": "name where it is in networkPolicy.mlflowTo",
    "gateway: {enabled: true}": "gateway.callers is empty",
    "{monitoring: {serviceMonitor: {enabled: true}}, serving: {tokensSecret: t}}": "metrics of serving need a token",
    "{monitoring: {serviceMonitor: {enabled: true, tokenSecret: t}}, gateway: {enabled: true, callers: [PACS]}}": (
        "without gateway.httpTokensSecret"
    ),
    "gateway: {enabled: true, callers: [PACS], tls: {requireClientCertificate: true}}": "needs gateway.tls.secret",
    "gateway: {callers: [A TITLE THAT IS TOO LONG]}": "at '/gateway/callers/0'",
    "{gateway: {enabled: true, callers: [PACS]}, serving: {tokensSecret: tokens}}": "needs gateway.tokenSecret",
    "gateway: {enabled: true, callers: [PACS], peers: [{name: archive}]}": "are in networkPolicy.gatewayTo",
    "serving: {oidc: {issuer: 'https://sso.example.org', audience: a}}": "are in networkPolicy.servingTo",
    "{serving: {oidc: {issuer: 'https://sso'}}, networkPolicy: {enabled: false}}": "needs serving.oidc.audience",
    "serving: {oidc: {issuer: 'http://sso.example.org'}}": "at '/serving/oidc/issuer'",
    "serving: {replicas: -1}": "at '/serving/replicas': minimum: got -1, want 0",
    "serving: {replicas: two}": "at '/serving/replicas': got string, want integer",
    "serving: {task: [echo-view-video]}": "at '/serving': additional properties 'task' not allowed",
    "serving: {tasks: [echo-views]}": "value must be one of 'echo-view-video'",
    "serving: {drainS: 0}": "at '/serving/drainS': minimum: got 0",
    "serving: {precision: f16}": "value must be one of '', 'auto', 'f32', 'bf16'",
    "serving: {service: {nodePort: 80}}": "nodePort",
    "serving: {triton: {enabled: true}}": "serving.triton.enabled and serving.runtimeOrder must agree",
    "serving: {runtimeOrder: [triton, openvino]}": "serving.triton.enabled and serving.runtimeOrder must agree",
    "serving: {runtimeOrder: [triton], triton: {enabled: true}}": "needs serving.image=echoplane-serving-triton",
    "edge: {enabled: true}": "edge.enabled needs edge.repositoryUrl",
    "edge: {enabled: true, repositoryUrl: 'https://edge.example.org', root: '{}'}": "is in networkPolicy.edgeTo",
    "edge: {repositoryUrl: 'https://user:secret@edge.example.org'}": "at '/edge/repositoryUrl'",
    "edge: {triton: {enabled: true}}": "edge.triton.enabled and edge.runtimeOrder must agree",
    "serving: {triton: {gpuResource: amd.com/gpu}}": "at '/serving/triton/gpuResource'",
    "serving: {runtimeOrder: [tensorrt]}": "value must be one of 'openvino', 'onnxruntime', 'triton'",
    "imageRegistry: registry.example.org/heart": "must end with a slash",
    "s3: {endpoint: https://user:secret@s3.example.org, bucket: echoplane}": "s3.endpoint holds a user or a password",
    "imageTag: latest": "name the tag that `make images` printed",
    "mlflow: {enabled: false, externalUri: mlflow.example.org}": "mlflow.externalUri must begin with http:// or https://",
    "mlflow: {volume: {size: 20}}": "at '/mlflow/volume/size': got number, want string",
    "minio: {image: minio}": "name a tag",
    "data: {accessModes: [ReadWriteOften]}": "value must be one of 'ReadWriteOnce'",
    "mlflow: {externalUri: https://mlflow.example.org}": "set one of them",
    "mlflow: {enabled: false}": "serving has no registry",
    "monitor: {enabled: true}": "monitor.enabled needs a bucket",
    "monitor: {retraining: {approval: nobody}}": "value must be one of 'person', 'automatic'",
    "minio: {enabled: true}": "kubectl create secret generic echoplane-s3",
    "s3: {endpoint: https://s3.example.org}": "without s3.bucket",
    "serving: {service: {nodePort: 30080}}": "needs serving.service.type NodePort",
}


@pytest.mark.parametrize(("setting", "words"), REFUSED.items(), ids=REFUSED)
def test_a_wrong_value_is_refused_in_words(setting: str, words: str) -> None:
    with pytest.raises(helm.HelmError, match=re.escape(words)):
        template(yaml.safe_load(setting))


def test_the_tasks_that_the_chart_knows_are_those_of_the_library() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    assert tuple(schema["properties"]["serving"]["properties"]["tasks"]["items"]["enum"]) == BUILT_IN


def test_the_schema_knows_every_value_and_no_other() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    schema = json.loads((CHART / "values.schema.json").read_text())
    assert _keys(values) == _schema_keys(schema) - {"global"}


def _keys(value: Any, prefix: str = "") -> set[str]:
    """Paths of settings, down to where a user's own keys begin."""
    if not isinstance(value, dict) or not value or prefix.endswith((".requests", ".limits")):
        return {prefix}
    return set().union(*(_keys(inner, f"{prefix}.{name}".strip(".")) for name, inner in value.items()))


def _schema_keys(schema: Object, prefix: str = "") -> set[str]:
    if "properties" not in schema:
        return {prefix}
    inner = schema["properties"].items()
    return set().union(*(_schema_keys(one, f"{prefix}.{name}".strip(".")) for name, one in inner))


@pytest.mark.skipif(not shutil.which("helm-docs"), reason="helm-docs is not on the PATH")
def test_the_readme_is_what_helm_docs_makes(tmp_path: Path) -> None:
    shutil.copytree(CHART, tmp_path / "echoplane")
    subprocess.run(["helm-docs", "--chart-search-root", str(tmp_path)], capture_output=True, check=True)
    assert (tmp_path / "echoplane" / "README.md").read_text() == (CHART / "README.md").read_text()
