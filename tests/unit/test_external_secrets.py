"""The controller of External Secrets listens on loopback only and knows nothing but the emulator."""

import os
from pathlib import Path

import pytest

from sandbox.aws_account import AwsAccount, account_of, note
from sandbox.control_plane import ControlPlane
from sandbox.errors import SandboxError
from sandbox.external_secrets import command

ACCOUNT = AwsAccount(id="123456789012", region="eu-west-1")
ARGUMENTS = ["--namespace=pyairtable", "--metrics-addr=:8080", "--loglevel=info"]


@pytest.fixture
def plane(tmp_path: Path) -> ControlPlane:
    ports = {"external-secrets-metrics": 20001, "external-secrets-health": 20002}
    made = ControlPlane(cluster="pyairtable-dev", folder=tmp_path, ports=ports)
    note(made, ACCOUNT)
    return made


def test_an_account_is_kept_beside_the_control_plane(plane: ControlPlane) -> None:
    assert account_of(plane) == ACCOUNT
    note(plane, ACCOUNT._replace(id="210987654321"))
    assert account_of(plane).id == "210987654321"


def test_a_cluster_of_nobody_is_refused(plane: ControlPlane) -> None:
    (plane.folder / "account.json").unlink()
    with pytest.raises(SandboxError, match=r"the account of the cluster pyairtable-dev: .*account\.json is not there"):
        command(plane, Path("/bin/external-secrets"), 4566, ARGUMENTS)


def test_the_controller_gets_the_containers_arguments_and_listens_on_loopback(plane: ControlPlane) -> None:
    words, _ = command(plane, Path("/bin/external-secrets"), 4566, ARGUMENTS)
    assert words[:4] == ["/bin/external-secrets", *ARGUMENTS]
    # The last one counts.
    assert words[4:] == ["--metrics-addr=127.0.0.1:20001", "--live-addr=127.0.0.1:20002"]


def test_the_controller_sees_the_clusters_account_at_the_emulator_and_nothing_of_the_users(plane: ControlPlane) -> None:
    _, variables = command(plane, Path("/bin/external-secrets"), 4566, ARGUMENTS)
    assert variables["KUBECONFIG"] == str(plane.kubeconfig)
    assert (variables["AWS_ACCESS_KEY_ID"], variables["AWS_REGION"]) == (ACCOUNT.id, ACCOUNT.region)
    endpoints = {name: value for name, value in variables.items() if name.endswith("_ENDPOINT")}
    assert set(endpoints) == {"AWS_SECRETSMANAGER_ENDPOINT", "AWS_SSM_ENDPOINT", "AWS_STS_ENDPOINT"}
    assert set(endpoints.values()) == {"http://127.0.0.1:4566"}
    assert {variables["AWS_CONFIG_FILE"], variables["AWS_SHARED_CREDENTIALS_FILE"]} == {os.devnull}
