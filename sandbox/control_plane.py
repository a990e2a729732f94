"""Kubernetes control planes, one per EKS cluster: the real API server, controllers and scheduler, with kwok's nodes."""

import base64
import hashlib
import shutil
import ssl
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from http import HTTPStatus
from pathlib import Path

import yaml

from infra.naming import PROJECT
from sandbox import admission, postgres, services
from sandbox.errors import SandboxError
from sandbox.kubernetes_api import KubernetesApi, Manifest
from sandbox.progress import Progress
from sandbox.services import Command, Service
from sandbox.state import State, cache_folder, read_json, write_json, write_private
from sandbox.tools import TOOLS, find, wanted_version

KUBERNETES_VERSION = "{}.{}".format(*wanted_version(TOOLS["kube-apiserver"]))
SERVICE_NETWORK = "172.20.0.0/16"  # EKS's own, where the VPC lies in 10.0.0.0/8
POD_NETWORK = "100.64.0.0/16"
ADVERTISED_ADDRESS = "192.0.2.1"  # loopback is refused as an endpoint, and a machine offline has no other address
MANAGED_NODES = "kwok.x-k8s.io/node=fake"
"""Label of the nodes that kwok plays. Taken from a node, it is a machine that has gone silent."""

ADMIN = "admin"
USERS = {
    ADMIN: ("sandbox-admin", "system:masters"),
    "kube-controller-manager": ("system:kube-controller-manager",),
    "kube-scheduler": ("system:kube-scheduler",),
}
"""User and groups of each kubeconfig.

kwok, metrics-server and the sandbox's own programs stand for machines and borrow the administrator's.
"""

KUBE_APISERVER = "kube-apiserver"
STORES = ("etcd", KUBE_APISERVER)
KUBELET = "kubelet"
RELEASES = "releases"
OWN = (KUBELET, RELEASES)
"""Programs that are modules of the sandbox."""
CLIENTS = ("kube-controller-manager", "kube-scheduler", "kwok", "metrics-server", *OWN)
PROGRAMS = (*STORES, *CLIENTS)
PORTS = (
    *PROGRAMS,
    "etcd-peer",
    "postgres",
    "external-secrets-metrics",
    "external-secrets-health",
    "istiod-grpc",
    "istiod-http",
    "istiod-introspection",
    "istiod-monitoring",
    "istiod-webhooks",
)
METRICS_SERVICE = "sandbox-metrics-server"
SERVED_NAMES = (
    "127.0.0.1",
    "localhost",
    "172.20.0.1",  # the Service `kubernetes`
    "kubernetes.default.svc",
    f"{METRICS_SERVICE}.kube-system.svc",  # the name under which the API server calls it
)


@dataclass(frozen=True, kw_only=True)
class ControlPlane:
    """The control plane of one cluster, running or not."""

    cluster: str
    folder: Path
    ports: dict[str, int]

    @property
    def sandbox(self) -> Path:
        """Folder of the sandbox that has it."""
        return self.folder.parents[1]

    @property
    def url(self) -> str:
        """Address of the API server, the same for as long as the cluster exists."""
        return f"https://127.0.0.1:{self.ports[KUBE_APISERVER]}"

    @cached_property
    def certificate_authority(self) -> str:
        """The certificate authority's PEM in base64, as EKS and kubeconfigs carry it."""
        return _base64(self.keys / "ca.crt")

    @property
    def kubeconfig(self) -> Path:
        """Kubeconfig of the administrator."""
        return self.kubeconfig_of(ADMIN)

    def kubeconfig_of(self, user: str) -> Path:
        """Kubeconfig of one of USERS."""
        return self.folder / f"{user}.kubeconfig"

    @property
    def keys(self) -> Path:
        """Folder of keys and certificates."""
        return self.folder / "keys"

    @property
    def pods(self) -> Path:
        """Folders of the pods whose processes really run, by their uid."""
        return self.folder / "pods"

    @property
    def containers(self) -> Path:
        """What the kubelet notes about the containers that really run: process, number of starts, what is wrong."""
        return self.folder / "containers.json"

    @property
    def sockets(self) -> Path:
        """Folder of PostgreSQL's socket: in the cache, since a socket's path may not be long."""
        return cache_folder() / "run" / hashlib.sha256(str(self.folder).encode()).hexdigest()[:10]

    @property
    def services(self) -> dict[str, str]:
        """Names of its services in the sandbox, by program."""
        return {program: f"{self.cluster}-{program}" for program in PROGRAMS}


class ControlPlanes:
    """The control planes of one sandbox. Calls that start or stop processes take the sandbox's lock."""

    def __init__(self, state: State) -> None:
        self.state = state

    def ensure(self, cluster: str, version: str = KUBERNETES_VERSION) -> ControlPlane:
        """The running control plane of a cluster; what of it does not run is started, on what it held before.

        Raises:
            SandboxError: the sandbox has no such version, or a service did not start.
        """
        if version != KUBERNETES_VERSION:
            raise SandboxError(
                f"starting the control plane of {cluster}: Kubernetes {version} is asked for, and the sandbox has "
                f"{KUBERNETES_VERSION} only"
            )
        plane = self.find(cluster)
        missing = self.missing(plane) if plane else PROGRAMS
        if plane and not missing:
            self._wait_until_ready(plane)
            return plane
        # Builds may take long: before the lock.
        binaries = {program: find(TOOLS[program]) for program in PROGRAMS if program in TOOLS}
        with self.state.locked():
            plane = self.find(cluster)
            plane = with_all_ports(plane) if plane else make(self.state.clusters / cluster, cluster)
            self._start(plane, binaries, self.missing(plane))
        return plane

    def find(self, cluster: str) -> ControlPlane | None:
        """The control plane of a cluster, if it was ever made; it may have been stopped."""
        folder = self.state.clusters / cluster
        ports = read_json(folder / "ports.json")
        return ControlPlane(cluster=cluster, folder=folder, ports=ports) if ports else None

    def at(self, url: str) -> ControlPlane | None:
        """The control plane whose API server has an address."""
        return next((plane for plane in self.all() if plane.url == url), None)

    def all(self) -> list[ControlPlane]:
        """Every control plane, running or not."""
        return [plane for cluster in self.clusters() if (plane := self.find(cluster))]

    def clusters(self) -> list[str]:
        """Clusters with a control plane, running or not."""
        return sorted(path.parent.name for path in self.state.clusters.glob("*/ports.json"))

    def missing(self, plane: ControlPlane) -> tuple[str, ...]:
        """Those of its programs that do not run."""
        running = self._services(plane)
        return tuple(program for program in PROGRAMS if program not in running)

    def remove(self, cluster: str) -> None:
        """End a cluster's control plane and forget everything in it."""
        with self.state.locked():
            plane = self.find(cluster)
            self._stop([plane] if plane else [])
            if plane:
                shutil.rmtree(plane.sockets, ignore_errors=True)
            shutil.rmtree(self.state.clusters / cluster, ignore_errors=True)

    def stop(self) -> list[str]:
        """End the processes of all of them and keep what they hold; names of the clusters whose were running."""
        with self.state.locked():
            return self._stop(self.all())

    def _services(self, plane: ControlPlane) -> dict[str, Service]:
        """Those of its services that run, by program."""
        recorded = services.recorded(self.state)
        return {
            program: service
            for program, name in plane.services.items()
            if (service := recorded.get(name)) and service.process
        }

    def _start(self, plane: ControlPlane, binaries: dict[str, Path], missing: Sequence[str]) -> None:
        if not missing:  # another command was quicker
            return
        how = commands(self.state, plane, binaries)
        postgres.socket_file(plane.sockets, plane.ports["postgres"])  # before anything starts
        _kwok_config(plane).write_text(exec_into_postgres(plane))
        with Progress(f"starting the control plane of {plane.cluster}") as progress:

            def start(programs: Sequence[str]) -> None:
                if wanted := [program for program in programs if program in missing]:
                    progress.note(", ".join(wanted))
                    services.start_together(self.state, [how[program] for program in wanted])

            start(STORES)
            self._wait_until_ready(plane)
            api = KubernetesApi(plane.kubeconfig)
            # Before the clients: where those run, this has been done.
            for manifest in (*_metrics_registration(plane), *admission.manifests()):
                api.apply(manifest, force=True)
            start(CLIENTS)

    def _wait_until_ready(self, plane: ControlPlane) -> None:
        services.wait_until_ready(self._services(plane)[KUBE_APISERVER], _answers(plane, "/readyz"))

    def _stop(self, planes: Sequence[ControlPlane]) -> list[str]:
        """End planes' processes, the stores last; clusters of which any was running."""
        stores = [plane.services["etcd"] for plane in planes]
        others = [name for plane in planes for name in plane.services.values() if name not in stores]
        running = [plane.cluster for plane in planes if self._services(plane)]
        with Progress(f"stopping the control plane of {', '.join(running)}") if running else nullcontext():
            services.stop(self.state, *others)
            services.stop(self.state, *stores)
        return running


def make(folder: Path, cluster: str) -> ControlPlane:
    """Choose ports and make certificates and kubeconfigs; the ports come last, so that half of it counts as nothing."""
    from sandbox.certificates import Authority, new_key  # takes a tenth of a second, and is used once per cluster

    shutil.rmtree(folder, ignore_errors=True)
    keys = folder / "keys"
    keys.mkdir(parents=True, mode=0o700)
    plane = ControlPlane(cluster=cluster, folder=folder, ports={})
    ports = services.free_ports(plane.sandbox, len(PORTS))
    plane = replace(plane, ports=dict(zip(PORTS, ports, strict=True)))
    authority = Authority(keys, "ca")
    authority.issue("server", "sandbox", hosts=SERVED_NAMES)
    new_key(keys / "service-accounts.key")
    # An authority of its own: who proves himself with it may speak in anybody's name.
    Authority(keys, "front-proxy-ca").issue("front-proxy", "front-proxy-client")
    for file, (user, *groups) in USERS.items():
        authority.issue(file, user, groups)
        write_private(plane.kubeconfig_of(file), _kubeconfig(plane, file))
    write_json(folder / "ports.json", plane.ports)
    return plane


def plane_of(kubeconfig: Path) -> ControlPlane:
    """The control plane that one of its kubeconfigs is for."""
    folder = kubeconfig.parent
    return ControlPlane(cluster=folder.name, folder=folder, ports=read_json(folder / "ports.json"))


def with_all_ports(plane: ControlPlane) -> ControlPlane:
    """The plane with the ports that an older version of this did not know."""
    missing = [name for name in PORTS if name not in plane.ports]
    if not missing:
        return plane
    free = services.free_ports(plane.sandbox, len(missing))
    plane = replace(plane, ports={**plane.ports, **dict(zip(missing, free, strict=True))})
    write_json(plane.folder / "ports.json", plane.ports)
    return plane


def _kubeconfig(plane: ControlPlane, user: str) -> str:
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": plane.cluster,
        "contexts": [{"name": plane.cluster, "context": {"cluster": plane.cluster, "user": user}}],
        "clusters": [
            {
                "name": plane.cluster,
                "cluster": {"server": plane.url, "certificate-authority-data": plane.certificate_authority},
            }
        ],
        "users": [
            {
                "name": user,
                "user": {
                    "client-certificate-data": _base64(plane.keys / f"{user}.crt"),
                    "client-key-data": _base64(plane.keys / f"{user}.key"),
                },
            }
        ],
    }
    return yaml.safe_dump(config, sort_keys=False)


def commands(state: State, plane: ControlPlane, binaries: dict[str, Path]) -> dict[str, Command]:
    """How each program is started. Everything listens on the loopback interface only, and speaks TLS."""
    binaries = {**binaries, **dict.fromkeys(OWN, Path(sys.executable))}
    environments = {
        # Where kwok looks for the programs that are run in a container.
        "kwok": {"PATH": postgres.search_path()},
        **{program: {"PYTHONPATH": str(Path(__file__).parent.parent)} for program in OWN},
    }
    arguments = {
        "etcd": (_etcd(plane), "/health"),
        KUBE_APISERVER: (_kube_apiserver(plane), "/readyz"),
        "kube-controller-manager": (_kube_controller_manager(plane), "/healthz"),
        "kube-scheduler": (_kube_scheduler(plane), "/healthz"),
        "kwok": (_kwok(plane, binaries["kwok"].parent), "/healthz"),
        "metrics-server": (_metrics_server(plane), "/livez"),
        **{program: (_own_program(state, plane, program), "/healthz") for program in OWN},
    }
    return {
        program: Command(
            name=plane.services[program],
            port=plane.ports[program],
            command=[str(binaries[program]), *flags],
            environment=environments.get(program, {}),
            is_ready=_answers(plane, path),
        )
        for program, (flags, path) in arguments.items()
    }


def _etcd(plane: ControlPlane) -> list[str]:
    clients, peers = (f"https://127.0.0.1:{plane.ports[name]}" for name in ("etcd", "etcd-peer"))
    return [
        f"--data-dir={plane.folder / 'etcd'}",
        "--unsafe-no-fsync",  # three times as fast; what is lost with the machine is a sandbox
        "--log-level=warn",
        f"--listen-client-urls={clients}",
        f"--advertise-client-urls={clients}",
        f"--listen-peer-urls={peers}",
        f"--initial-advertise-peer-urls={peers}",
        f"--initial-cluster=default={peers}",
        *(
            f"--{whose}{flag}"
            for whose in ("", "peer-")
            for flag in (
                f"cert-file={plane.keys / 'server.crt'}",
                f"key-file={plane.keys / 'server.key'}",
                f"trusted-ca-file={plane.keys / 'ca.crt'}",
                "client-cert-auth",
            )
        ),
    ]


def _kube_apiserver(plane: ControlPlane) -> list[str]:
    keys = plane.keys
    return [
        f"--etcd-servers=https://127.0.0.1:{plane.ports['etcd']}",
        f"--etcd-cafile={keys / 'ca.crt'}",
        f"--etcd-certfile={keys / f'{ADMIN}.crt'}",
        f"--etcd-keyfile={keys / f'{ADMIN}.key'}",
        *_serving(plane, KUBE_APISERVER),
        f"--advertise-address={ADVERTISED_ADDRESS}",
        f"--client-ca-file={keys / 'ca.crt'}",
        f"--requestheader-client-ca-file={keys / 'front-proxy-ca.crt'}",
        "--requestheader-allowed-names=front-proxy-client",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-username-headers=X-Remote-User",
        f"--proxy-client-cert-file={keys / 'front-proxy.crt'}",
        f"--proxy-client-key-file={keys / 'front-proxy.key'}",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={keys / 'service-accounts.key'}",
        f"--service-account-signing-key-file={keys / 'service-accounts.key'}",
        f"--service-cluster-ip-range={SERVICE_NETWORK}",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--allow-privileged=true",  # as on EKS: the CNI's and the CSI driver's node pods are
        "--profiling=false",
    ]


def _kube_controller_manager(plane: ControlPlane) -> list[str]:
    return [
        *_serving(plane, "kube-controller-manager"),
        *_own_kubeconfig(plane, "kube-controller-manager"),
        f"--cluster-name={plane.cluster}",
        f"--root-ca-file={plane.keys / 'ca.crt'}",
        f"--service-account-private-key-file={plane.keys / 'service-accounts.key'}",
        "--use-service-account-credentials",
        "--leader-elect=false",
        "--profiling=false",
    ]


def _kube_scheduler(plane: ControlPlane) -> list[str]:
    return [
        *_serving(plane, "kube-scheduler"),
        *_own_kubeconfig(plane, "kube-scheduler"),
        "--leader-elect=false",
        "--profiling=false",
    ]


def _kwok(plane: ControlPlane, stages: Path) -> list[str]:
    port = plane.ports["kwok"]
    stage_files = [stages / Path(file).name for file in TOOLS["kwok"].files]
    own_files = sorted((Path(__file__).parent / "kwok").glob("*.yaml"))
    configs = [*stage_files, *own_files, _kwok_config(plane)]
    return [
        f"--kubeconfig={plane.kubeconfig}",
        f"--manage-nodes-with-label-selector={MANAGED_NODES}",
        "--node-lease-duration-seconds=0",  # heartbeats are the nodes' status: a kwok that starts again goes on at once
        *(f"--config={file}" for file in configs),
        f"--cidr={POD_NETWORK}",
        "--node-ip=127.0.0.1",  # where metrics-server finds the nodes' kubelets: all of them are kwok
        f"--node-port={port}",
        f"--server-address=127.0.0.1:{port}",
        f"--tls-cert-file={plane.keys / 'server.crt'}",
        f"--tls-private-key-file={plane.keys / 'server.key'}",
    ]


def _kwok_config(plane: ControlPlane) -> Path:
    """Configuration of kwok in this plane alone."""
    return plane.folder / "kwok.yaml"


def exec_into_postgres(plane: ControlPlane) -> str:
    """Let kwok run what `kubectl exec` runs in PostgreSQL's pod: here, with the real server's socket."""
    variables = {
        "PGHOST": plane.sockets,
        "PGPORT": plane.ports["postgres"],
        "PGUSER": postgres.SUPERUSER,
    }
    local = {"envs": [{"name": name, "value": str(value)} for name, value in variables.items()]}
    config = {
        "apiVersion": "kwok.x-k8s.io/v1alpha1",
        "kind": "ClusterExec",
        "metadata": {"name": "postgres"},
        "spec": {
            "selector": {"matchNamespaces": [PROJECT], "matchNames": ["postgres-0"]},
            "execs": [{"containers": ["postgres", "credentials"], "local": local}],
        },
    }
    return yaml.safe_dump(config, sort_keys=False)


def _own_program(state: State, plane: ControlPlane, program: str) -> list[str]:
    return [
        "-P",  # where it is started has nothing to say about what is imported
        "-m",
        f"sandbox.{program}",
        f"--state-dir={state.folder}",
        f"--cluster={plane.cluster}",
        f"--listen=127.0.0.1:{plane.ports[program]}",
    ]


def _metrics_server(plane: ControlPlane) -> list[str]:
    return [
        *_serving(plane, "metrics-server"),
        f"--kubeconfig={plane.kubeconfig}",
        f"--authentication-kubeconfig={plane.kubeconfig}",
        f"--authorization-kubeconfig={plane.kubeconfig}",
        f"--kubelet-certificate-authority={plane.keys / 'ca.crt'}",
        "--kubelet-use-node-status-port",
        "--kubelet-preferred-address-types=InternalIP",
        "--kubelet-request-timeout=5s",
        "--metric-resolution=10s",
    ]


def _serving(plane: ControlPlane, program: str) -> list[str]:
    return [
        "--bind-address=127.0.0.1",
        f"--secure-port={plane.ports[program]}",
        f"--tls-cert-file={plane.keys / 'server.crt'}",
        f"--tls-private-key-file={plane.keys / 'server.key'}",
    ]


def _own_kubeconfig(plane: ControlPlane, user: str) -> list[str]:
    file = plane.kubeconfig_of(user)
    return [f"--{flag}={file}" for flag in ("kubeconfig", "authentication-kubeconfig", "authorization-kubeconfig")]


def _answers(plane: ControlPlane, path: str) -> Callable[[int], bool]:
    """A check of whether a service of the plane answers."""

    def is_ready(port: int) -> bool:
        try:
            with _opener(plane).open(f"https://127.0.0.1:{port}{path}", timeout=5) as answer:
                return answer.status == HTTPStatus.OK
        except (urllib.error.URLError, OSError):
            return False

    return is_ready


def _opener(plane: ControlPlane) -> urllib.request.OpenerDirector:
    """Speaks as the administrator to services of the plane, whatever proxy the environment names."""
    context = ssl.create_default_context(cafile=plane.keys / "ca.crt")
    context.load_cert_chain(plane.keys / f"{ADMIN}.crt", plane.keys / f"{ADMIN}.key")
    return urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))


def _metrics_registration(plane: ControlPlane) -> list[Manifest]:
    """Tell the API server that metrics-server, which is no pod here, listens on a port of this machine."""
    port = plane.ports["metrics-server"]
    return [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": METRICS_SERVICE, "namespace": "kube-system"},
            "spec": {"type": "ExternalName", "externalName": "localhost", "ports": [{"port": port}]},
        },
        {
            "apiVersion": "apiregistration.k8s.io/v1",
            "kind": "APIService",
            "metadata": {"name": "v1beta1.metrics.k8s.io"},
            "spec": {
                "group": "metrics.k8s.io",
                "version": "v1beta1",
                "service": {"name": METRICS_SERVICE, "namespace": "kube-system", "port": port},
                "caBundle": plane.certificate_authority,
                "groupPriorityMinimum": 100,
                "versionPriority": 100,
            },
        },
    ]


def _base64(file: Path) -> str:
    return base64.b64encode(file.read_bytes()).decode()
