"""A stack deployed into a sandbox with a control plane, and questions to its API server."""

import contextlib
import json
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import yaml

from sandbox.checkout import ROOT
from sandbox.control_plane import ControlPlane, ControlPlanes
from sandbox.kubernetes_api import KubernetesApi, Manifest
from sandbox.state import State, read_json
from tests.program.harness import Sandbox, Step, heed_signals, is_alive


class Cluster(Sandbox):
    """One stack of a sandbox, with its cluster."""

    timeout_seconds = 600  # an `up` from nothing makes a few hundred objects, on a machine that others use too

    def __init__(self, checkout: Path, state: Path, stack: str) -> None:
        super().__init__(checkout, state)
        self.stack = stack
        self.phase = 0
        """Where the last up has taken it."""
        self.printed: list[str] = []
        """What each up has said."""

    def up(self, phase: int, *arguments: str, expect: int = 0) -> str:
        """Deploy the stack at a phase; what was printed."""
        done = self.run("up", "--stack", self.stack, "--phase", str(phase), *arguments, expect=expect)
        self.phase = phase
        self.printed.append(done.stdout + done.stderr)
        return self.printed[-1]

    def runbook(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Do what the operator's command line says to this stack."""
        done = subprocess.run(
            self._runbook(*arguments),
            cwd=self.checkout,
            capture_output=True,
            text=True,
            timeout=self.timeout_seconds,
            check=False,
        )
        self.printed.append(done.stdout + done.stderr)
        assert not check or done.returncode == 0, f"{arguments} ended with {done.returncode}:\n{done.stderr}"
        return done

    @contextmanager
    def starting_runbook(self, *arguments: str) -> Generator["subprocess.Popen[str]"]:
        """The same, while other things are done; whatever becomes of these, it is ended with the block."""
        with subprocess.Popen(
            self._runbook(*arguments),
            cwd=self.checkout,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=heed_signals,  # noqa: PLW1509
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    def _runbook(self, *arguments: str) -> list[str]:
        where = ["--stack", self.stack, "--sandbox", "--state-dir", str(self.state)]
        return [sys.executable, "-m", "runbook", *arguments, *where]

    def changes(self, phase: int | None = None) -> set[Step]:
        """What an up would do, at this phase or another; what it only reads is no change."""
        planned = self.plan("--stack", self.stack, "--phase", str(self.phase if phase is None else phase))
        return {step for step in planned if step.operation not in ("read", "discard")}

    def kubectl(self, arguments: str) -> str:
        """What kubectl prints, warnings included."""
        done = self.shell(f"kubectl {arguments}", "--stack", self.stack)
        return done.stdout + done.stderr

    @property
    def plane(self) -> ControlPlane:
        """The control plane of its cluster."""
        plane = ControlPlanes(State(self.state)).find(f"pyairtable-{self.stack}")
        assert plane, f"the stack {self.stack} has no control plane"
        return plane

    @property
    def api(self) -> KubernetesApi:
        """The API server, asked as its administrator."""
        return KubernetesApi(self.plane.kubeconfig)

    def pods(self, app: str = "") -> list[Manifest]:
        """Pods of the namespace that are not on their way out, of one app or of all."""
        found = self.api.list("v1", "Pod", namespace="pyairtable", label_selector=f"app={app}" if app else None)
        return [pod for pod in found if not pod["metadata"].get("deletionTimestamp")]

    def nodes(self) -> list[Manifest]:
        """Nodes of the cluster."""
        return self.api.list("v1", "Node")

    def not_running(self) -> list[str]:
        """Pods of the whole cluster that are not ready, with what they are instead; jobs' that are done are well."""
        return [
            f"{pod['metadata']['namespace']}/{pod['metadata']['name']} {pod['status'].get('phase')}"
            for pod in self.api.list("v1", "Pod")
            if not is_ready(pod) and pod["status"].get("phase") != "Succeeded"
        ]

    def everything_runs(self) -> bool:
        """Whether each store and service has a pod, and then every pod of the cluster is ready."""
        wanted = {"postgres", "redis", *(service["name"] for service in self.services())}
        return wanted <= {label(pod, "app") for pod in self.pods()} and self.not_running() == []

    def is_at_strength(self) -> bool:
        """Whether each Deployment has what its autoscaler wants at least, which brings that some time after an up."""
        available = {
            name_of(deployment): deployment.get("status", {}).get("availableReplicas", 0)
            for deployment in self.api.list("apps/v1", "Deployment", namespace="pyairtable")
        }
        autoscalers = self.api.list("autoscaling/v2", "HorizontalPodAutoscaler", namespace="pyairtable")
        return self.not_running() == [] and all(
            available[autoscaler["spec"]["scaleTargetRef"]["name"]] >= autoscaler["spec"]["minReplicas"]
            for autoscaler in autoscalers
        )

    def node_of(self, app: str) -> Manifest:
        """The node on which an app's only pod runs."""
        (pod,) = self.pods(app)
        (node,) = (node for node in self.nodes() if name_of(node) == pod["spec"]["nodeName"])
        return node

    def states(self) -> list[Manifest]:
        """The resources in the stack's state."""
        deployment = self.engine_state().get("checkpoint", {}).get("latest") or {}
        return deployment.get("resources", [])

    def engine_state(self) -> dict[str, Any]:
        """The stack's file in the engine's backend."""
        return json.loads((self.state / f"backend/.pulumi/stacks/pyairtable/{self.stack}.json").read_text())

    def services(self) -> list[dict[str, Any]]:
        """The services of the committed stack file."""
        return self.stack_file()["pyairtable:services"]

    def stack_file(self) -> dict[str, Any]:
        """The config of the committed stack file."""
        return yaml.safe_load((self.checkout / f"Pulumi.{self.stack}.yaml").read_text())["config"]

    def override(self, key: str, value: object) -> None:
        """Set a key of the sandbox's own config of the stack."""
        self.run("config", "set", "--stack", self.stack, key, json.dumps(value))

    def compute_left(self) -> dict[str, list[str]]:
        """What the emulator still holds of the services that only phase 2 uses; empty when it is nothing."""
        ec2, own = self.aws("ec2"), [{"Name": "tag:Stack", "Values": [self.stack]}]
        clusters = self.aws("eks").list_clusters()["clusters"]
        listed: dict[str, list[str]] = {
            "clusters": clusters,
            "networks": [vpc["VpcId"] for vpc in ec2.describe_vpcs(Filters=own)["Vpcs"]],
            "subnets": [subnet["SubnetId"] for subnet in ec2.describe_subnets(Filters=own)["Subnets"]],
            "addresses": [address["AllocationId"] for address in ec2.describe_addresses()["Addresses"]],
            "volumes": [volume["VolumeId"] for volume in ec2.describe_volumes()["Volumes"]],
            "launch templates": [t["LaunchTemplateName"] for t in ec2.describe_launch_templates()["LaunchTemplates"]],
            "buckets": [bucket["Name"] for bucket in self.aws("s3").list_buckets()["Buckets"]],
            "groups": [
                group["AutoScalingGroupName"]
                for group in self.aws("autoscaling").describe_auto_scaling_groups()["AutoScalingGroups"]
            ],
            "security groups": [g["GroupId"] for g in ec2.describe_security_groups(Filters=own)["SecurityGroups"]],
            "route tables": [t["RouteTableId"] for t in ec2.describe_route_tables(Filters=own)["RouteTables"]],
            "gateways": [
                g["InternetGatewayId"] for g in ec2.describe_internet_gateways(Filters=own)["InternetGateways"]
            ],
            "endpoints": [e["VpcEndpointId"] for e in ec2.describe_vpc_endpoints(Filters=own)["VpcEndpoints"]],
            "NAT gateways": [
                gateway["NatGatewayId"]
                for gateway in ec2.describe_nat_gateways(Filters=own)["NatGateways"]
                if gateway["State"] != "deleted"
            ],
            "flow logs": [log["FlowLogId"] for log in ec2.describe_flow_logs()["FlowLogs"]],
            "log groups": [
                group["logGroupName"]
                for group in self.aws("logs").describe_log_groups()["logGroups"]
                if "spend-report" not in group["logGroupName"]
            ],
            "roles": [
                role["RoleName"]
                for role in self.aws("iam").list_roles()["Roles"]
                if role["RoleName"].startswith(f"pyairtable-{self.stack}") and "spend-report" not in role["RoleName"]
            ],
            "alarms": [
                alarm["AlarmName"]
                for alarm in self.aws("cloudwatch").describe_alarms()["MetricAlarms"]
                if "backup" in alarm["AlarmName"]
            ],
            "target groups": [t["TargetGroupName"] for t in self.aws("elbv2").describe_target_groups()["TargetGroups"]],
            "balancers": [b["LoadBalancerName"] for b in self.aws("elbv2").describe_load_balancers()["LoadBalancers"]],
        }
        return {kind: items for kind, items in listed.items() if items}

    def secrets_left(self) -> dict[str, list[str]]:
        """What is left of what only phase 3 uses, in the emulator and in the cluster; empty when it is nothing."""
        listed: dict[str, list[str]] = {
            "secrets": [
                secret["Name"]
                for secret in self.aws("secretsmanager").list_secrets(IncludePlannedDeletion=True)["SecretList"]
            ],
            "keys": [
                alias["AliasName"]
                for alias in self.aws("kms").list_aliases()["Aliases"]
                if alias["AliasName"].endswith(f"{self.stack}-secrets")
            ],
            "roles": [
                role["RoleName"]
                for role in self.aws("iam").list_roles()["Roles"]
                if role["RoleName"].endswith(("external-secrets", "rotation"))
            ],
            "alarms": [
                alarm["AlarmName"]
                for alarm in self.aws("cloudwatch").describe_alarms()["MetricAlarms"]
                if "password" in alarm["AlarmName"]
            ],
            "namespaces": [
                name_of(namespace)
                for namespace in self.api.list("v1", "Namespace")
                if name_of(namespace).startswith("external-secrets")
            ],
            "definitions": [
                name_of(definition)
                for definition in self.api.list("apiextensions.k8s.io/v1", "CustomResourceDefinition")
                if "external-secrets" in name_of(definition)
            ],
            "workloads": [
                name_of(workload)
                for api_version, kind in (("apps/v1", "Deployment"), ("batch/v1", "CronJob"))
                for workload in self.api.list(api_version, kind, namespace="pyairtable")
                if name_of(workload) in ("secret-restarter", "database-rotation")
            ],
        }
        return {kind: items for kind, items in listed.items() if items}


@contextmanager
def running(stack: str, state: Path) -> Generator[Cluster]:
    """A stack in a sandbox of its own over this checkout, which is stopped at the end."""
    cluster = Cluster(ROOT, state, stack)
    with cluster.stopping():
        yield cluster


def is_ready(thing: Manifest) -> bool:
    """Whether a node or pod says that it is ready."""
    conditions = thing.get("status", {}).get("conditions", [])
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)


def name_of(thing: Manifest) -> str:
    """The name of an object."""
    return thing["metadata"]["name"]


def label(thing: Manifest, name: str) -> str:
    """A label of an object."""
    return thing["metadata"].get("labels", {}).get(name, "")


def processes_of(plane: ControlPlane, container: str = "") -> list[psutil.Process]:
    """The processes that run for the containers of a name, or for all that really run.

    The kubelet looks at its pods twice a second: what the API server has been told takes a moment to be so here.
    """
    found: list[psutil.Process] = []
    for key, entry in read_json(plane.containers).items():
        if entry["pid"] and container in ("", key.rpartition("/")[2]):
            with contextlib.suppress(psutil.NoSuchProcess):
                found.append(psutil.Process(entry["pid"]))
    return [process for process in found if is_alive(process)]
