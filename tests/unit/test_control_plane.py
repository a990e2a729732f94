"""A control plane's files: certificates that hold, keys that only the user may read, an address that stays."""

import ipaddress
import ssl
import stat
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml
from cryptography import x509
from cryptography.x509.verification import PolicyBuilder, Store

from sandbox import control_plane, services
from sandbox.control_plane import KUBERNETES_VERSION, SERVED_NAMES, USERS, ControlPlane, ControlPlanes
from sandbox.errors import SandboxError
from sandbox.services import Command
from sandbox.state import State, write_json

CLUSTER = "pyairtable-dev"


@pytest.fixture
def state(tmp_path: Path) -> State:
    state = State(tmp_path / "state")
    state.prepare()
    return state


@pytest.fixture
def plane(state: State) -> ControlPlane:
    return control_plane.make(state.clusters / CLUSTER, CLUSTER)


def certificate(plane: ControlPlane, name: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate((plane.keys / f"{name}.crt").read_bytes())


def test_only_the_user_may_read_keys_and_kubeconfigs(plane: ControlPlane) -> None:
    secret = [*plane.keys.glob("*.key"), *plane.folder.glob("*.kubeconfig")]
    assert len(secret) == 8 + len(USERS)
    assert {stat.S_IMODE(path.stat().st_mode) for path in secret} == {0o600}


@pytest.mark.parametrize("name", SERVED_NAMES)
def test_the_servers_certificate_holds_for_each_name_under_which_it_is_called(plane: ControlPlane, name: str) -> None:
    store = Store([certificate(plane, "ca")])
    subject = x509.DNSName(name) if name[0].isalpha() else x509.IPAddress(ipaddress.ip_address(name))
    verifier = PolicyBuilder().store(store).build_server_verifier(subject)
    verifier.verify(certificate(plane, "server"), [])


def test_users_and_groups_are_those_that_kubernetes_knows(plane: ControlPlane) -> None:
    subject = certificate(plane, "admin").subject.rfc4514_string()
    assert subject == "CN=sandbox-admin,O=system:masters"
    assert certificate(plane, "kube-scheduler").subject.rfc4514_string() == "CN=system:kube-scheduler"


def test_certificates_outlive_the_sandbox(plane: ControlPlane) -> None:
    now = datetime.now(UTC)
    for path in plane.keys.glob("*.crt"):
        left = x509.load_pem_x509_certificate(path.read_bytes()).not_valid_after_utc - now
        assert left > timedelta(days=3000)


def test_python_takes_keys_and_certificates(plane: ControlPlane) -> None:
    context = ssl.create_default_context(cafile=plane.keys / "ca.crt")
    context.load_cert_chain(plane.keys / "admin.crt", plane.keys / "admin.key")


def test_the_kubeconfig_carries_all_that_it_needs(plane: ControlPlane) -> None:
    config = yaml.safe_load(plane.kubeconfig.read_text())
    assert config["current-context"] == CLUSTER
    assert config["clusters"][0]["cluster"] == {
        "server": plane.url,
        "certificate-authority-data": plane.certificate_authority,
    }
    assert set(config["users"][0]["user"]) == {"client-certificate-data", "client-key-data"}


def test_a_plane_is_found_by_name_and_by_address(state: State, plane: ControlPlane) -> None:
    planes = ControlPlanes(state)
    assert planes.clusters() == [CLUSTER]
    assert planes.find(CLUSTER) == planes.at(plane.url) == plane
    assert planes.find("pyairtable-prod") is None
    assert planes.at("https://127.0.0.1:1") is None
    assert set(planes.missing(plane)) == set(control_plane.PROGRAMS)


def test_a_plane_that_was_half_made_counts_as_none_and_is_made_anew(state: State, plane: ControlPlane) -> None:
    (plane.folder / "ports.json").unlink()
    assert ControlPlanes(state).find(CLUSTER) is None
    assert control_plane.make(plane.folder, CLUSTER).kubeconfig.exists()


def test_a_removed_plane_leaves_nothing(state: State, plane: ControlPlane) -> None:
    planes = ControlPlanes(state)
    planes.remove(CLUSTER)
    assert planes.clusters() == []
    assert not plane.folder.exists()
    planes.remove(CLUSTER)


def test_stopping_a_plane_that_runs_says_so_at_once(
    state: State, plane: ControlPlane, capsys: pytest.CaptureFixture[str]
) -> None:
    sleeps = Command(
        name=plane.services["etcd"],
        port=plane.ports["etcd"],
        command=[sys.executable, "-c", "import time; time.sleep(60)"],
        environment={},
        is_ready=lambda _: True,
    )
    services.start_together(state, [sleeps])
    assert ControlPlanes(state).stop() == [CLUSTER]
    assert capsys.readouterr().err == f"stopping the control plane of {CLUSTER}\n"
    assert services.recorded(state) == {}


@pytest.mark.usefixtures("plane")
def test_stopping_a_plane_that_does_not_run_says_nothing(state: State, capsys: pytest.CaptureFixture[str]) -> None:
    assert ControlPlanes(state).stop() == []
    assert capsys.readouterr().err == ""


def test_another_version_of_kubernetes_is_refused(state: State) -> None:
    with pytest.raises(SandboxError, match=rf"Kubernetes 1\.30 is asked for, and the sandbox has {KUBERNETES_VERSION}"):
        ControlPlanes(state).ensure(CLUSTER, "1.30")


def test_a_plane_of_an_older_version_gets_the_ports_that_it_lacks(state: State, plane: ControlPlane) -> None:
    old = {name: port for name, port in plane.ports.items() if name in ("etcd", "etcd-peer", "kube-apiserver")}
    write_json(plane.folder / "ports.json", old)
    found = ControlPlanes(state).find(CLUSTER)
    assert found
    assert "kubelet" in ControlPlanes(state).missing(found)
    completed = control_plane.with_all_ports(found)
    assert set(completed.ports) == set(control_plane.PORTS)
    assert len(set(completed.ports.values())) == len(control_plane.PORTS)
    assert old.items() <= completed.ports.items()
    assert ControlPlanes(state).find(CLUSTER) == control_plane.with_all_ports(completed) == completed


def test_postgres_socket_lies_in_a_folder_of_the_planes_own(state: State, plane: ControlPlane) -> None:
    other = control_plane.make(state.clusters / "other", "other")
    assert plane.sockets != other.sockets
    plane.sockets.mkdir(parents=True)
    ControlPlanes(state).remove(CLUSTER)
    assert not plane.sockets.exists()


def test_a_command_in_postgres_pod_is_told_where_the_real_server_is(plane: ControlPlane) -> None:
    config = yaml.safe_load(control_plane.exec_into_postgres(plane))
    (execs,) = config["spec"]["execs"]
    told = {variable["name"]: variable["value"] for variable in execs["local"]["envs"]}
    assert told == {"PGHOST": str(plane.sockets), "PGPORT": str(plane.ports["postgres"]), "PGUSER": "postgres"}
    assert execs["containers"] == ["postgres", "credentials"]


def test_everything_listens_on_the_loopback_interface_only(state: State, plane: ControlPlane) -> None:
    binaries = {program: Path("/bin") / program for program in control_plane.PROGRAMS}
    for program, command in control_plane.commands(state, plane, binaries).items():
        words = " ".join(command.command)
        assert "127.0.0.1" in words, program
        assert "0.0.0.0" not in words, program  # noqa: S104
        assert str(command.port) in words, program
