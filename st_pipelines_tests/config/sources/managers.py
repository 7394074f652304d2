"""Fakes of every source of credentials, with one interface: `SecretStore`."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from pathlib import Path

import boto3
import requests

from st_pipelines_tests.config.sources.web import KeyVaultServer, VaultServer
from st_pipelines_tests.deadlines import DEADLINE

REGION = "us-east-1"


class SecretStore:
    """A source of credentials that can be made to fail.

    Attributes:
        title: the source in messages.
        forbidden, unreachable, absent: a part of the error message in each of these cases.
    """

    title: str
    forbidden: str
    unreachable: str
    absent: str

    def put(self, values: dict[str, str]) -> None:
        """Replaces the credentials, given by field."""
        raise NotImplementedError

    def environment(self) -> dict[str, str]:
        """Returns the environment variables that name the store."""
        raise NotImplementedError

    def deny_access(self) -> dict[str, str]:
        """Denies access; returns the environment variables that this takes, if any."""
        raise NotImplementedError

    def unreachable_environment(self) -> dict[str, str]:
        """Returns environment variables that name an unreachable store."""
        raise NotImplementedError

    def close(self) -> None:
        pass


class Aws(SecretStore):
    """AWS Secrets Manager, simulated by moto."""

    unreachable = "is unreachable (EndpointConnectionError): check network, proxy and region"
    forbidden = "access is denied: allow secretsmanager:GetSecretValue for it"
    absent = "the secret does not exist: check its name and the region (ResourceNotFoundException)"

    def __init__(self, url: str) -> None:
        self._url = url
        self._name = f"servicetitan/{uuid.uuid4().hex}"
        self.title = f"AWS Secrets Manager {self._name}"
        self._client = boto3.client(
            "secretsmanager",
            region_name=REGION,
            endpoint_url=url,
            aws_access_key_id="MARKED-key",
            aws_secret_access_key="MARKED-access",
        )

    def put(self, values: dict[str, str]) -> None:
        self.put_text(json.dumps(values))

    def put_text(self, text: str) -> None:
        try:
            self._client.put_secret_value(SecretId=self._name, SecretString=text)
        except self._client.exceptions.ResourceNotFoundException:
            self._client.create_secret(Name=self._name, SecretString=text)

    def environment(self) -> dict[str, str]:
        return {
            "SERVICETITAN_AWS_SECRET_ID": self._name,
            "SERVICETITAN_AWS_REGION": REGION,
            "AWS_ENDPOINT_URL": self._url,
            "AWS_ACCESS_KEY_ID": "MARKED-key",
            "AWS_SECRET_ACCESS_KEY": "MARKED-access",
            "AWS_MAX_ATTEMPTS": "1",
        }

    def deny_access(self) -> dict[str, str]:
        # A user without permissions. The reset makes moto check permissions from now on.
        iam = boto3.client(
            "iam",
            region_name=REGION,
            endpoint_url=self._url,
            aws_access_key_id="a",
            aws_secret_access_key="b",
        )
        user = f"no-permissions-{uuid.uuid4().hex}"
        iam.create_user(UserName=user)
        key = iam.create_access_key(UserName=user)["AccessKey"]
        requests.post(f"{self._url}/moto-api/reset-auth", data="0", timeout=DEADLINE)
        return {
            "AWS_ACCESS_KEY_ID": key["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"],
        }

    def unreachable_environment(self) -> dict[str, str]:
        return {"AWS_ENDPOINT_URL": "http://127.0.0.1:1"}

    def close(self) -> None:
        requests.post(f"{self._url}/moto-api/reset-auth", data="Infinity", timeout=DEADLINE)


class Azure(SecretStore):
    """Azure Key Vault; clients log in with a managed identity."""

    unreachable = "is unreachable (ServiceRequestError): check the URL, network and proxy"
    forbidden = "access to SERVICETITAN-CLIENT-ID is denied: give this identity the role"
    absent = "set SERVICETITAN_CLIENT_ID, SERVICETITAN_CLIENT_SECRET, SERVICETITAN_APP_KEY"

    def __init__(self, folder: Path) -> None:
        self.server = KeyVaultServer()
        self.title = f"Azure Key Vault {self.server.url}"
        self._ca_bundle = folder / "authority.pem"
        self.server.authority.cert_pem.write_to_path(str(self._ca_bundle))

    def put(self, values: dict[str, str]) -> None:
        self.server.values = {
            f"SERVICETITAN-{name}".upper().replace("_", "-"): value
            for name, value in values.items()
        }

    def environment(self) -> dict[str, str]:
        return {
            "SERVICETITAN_AZURE_KEY_VAULT": self.server.url,
            "REQUESTS_CA_BUNDLE": str(self._ca_bundle),
            "IDENTITY_ENDPOINT": f"{self.server.url}/identity",
            "IDENTITY_HEADER": self.server.identity_header,
            "AZURE_TOKEN_CREDENTIALS": "ManagedIdentityCredential",
        }

    def deny_access(self) -> dict[str, str]:
        self.server.denies_access = True
        return {}

    def unreachable_environment(self) -> dict[str, str]:
        return {"SERVICETITAN_AZURE_KEY_VAULT": "https://127.0.0.1:1"}

    def close(self) -> None:
        self.server.close()


class Vault(SecretStore):
    """HashiCorp Vault; clients log in by `token`, `approle` or `kubernetes`."""

    unreachable = "is unreachable (ConnectionError): check the URL, network, proxy and"
    forbidden = "access is denied (Forbidden): the token is invalid or expired, or its policy lacks"
    absent = "the secret does not exist, or its latest version is deleted: check SERVICETITAN_VAULT"

    def __init__(self, folder: Path, login: str) -> None:
        self.server = VaultServer()
        self.title = f"Vault {self.server.url} secret/servicetitan"
        self._token_file = folder / "token"
        self._token_file.write_text(self.server.service_account + "\n")
        self._login = login

    def put(self, values: dict[str, str]) -> None:
        self.server.values = dict(values)

    def environment(self) -> dict[str, str]:
        login = {
            "token": {"SERVICETITAN_VAULT_TOKEN": self.server.token},
            "approle": {
                "SERVICETITAN_VAULT_ROLE_ID": self.server.role_id,
                "SERVICETITAN_VAULT_SECRET_ID": self.server.secret_id,
            },
            "kubernetes": {
                "SERVICETITAN_VAULT_KUBERNETES_ROLE": "loader",
                "SERVICETITAN_VAULT_KUBERNETES_TOKEN_FILE": str(self._token_file),
            },
        }
        return {
            "SERVICETITAN_VAULT_URL": self.server.url,
            "SERVICETITAN_VAULT_PATH": "servicetitan",
            **login[self._login],
        }

    def deny_access(self) -> dict[str, str]:
        self.server.denies_access = True
        return {}

    def unreachable_environment(self) -> dict[str, str]:
        return {"SERVICETITAN_VAULT_URL": "http://127.0.0.1:1"}

    def close(self) -> None:
        self.server.close()


class Mounted(SecretStore):
    """A folder as Kubernetes mounts a secret: links into a version that is swapped as a whole."""

    unreachable = "cannot be read as a folder (No such file or directory): mount the secrets there"
    forbidden = "is a folder: name a file in it"
    absent = "set SERVICETITAN_CLIENT_ID, SERVICETITAN_CLIENT_SECRET, SERVICETITAN_APP_KEY"

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "mounted"
        self.folder.mkdir()
        self.title = f"folder {self.folder}"
        self.put({})

    def put(self, values: dict[str, str]) -> None:
        version = self.folder / f"..{uuid.uuid4().hex}"
        version.mkdir()
        for name, value in values.items():
            (version / name).write_text(value)
            (version / name).chmod(0o644)
            link = self.folder / name
            if not link.is_symlink():
                link.symlink_to(Path("..data") / name)
        current = self.folder / "..data"
        previous = current.resolve() if current.is_symlink() else None
        (self.folder / "..tmp").symlink_to(version.name)
        os.replace(self.folder / "..tmp", current)
        if previous:
            shutil.rmtree(previous)

    def environment(self) -> dict[str, str]:
        return {"SERVICETITAN_SECRETS_DIR": str(self.folder)}

    def deny_access(self) -> dict[str, str]:
        # Root may read every file whatever its mode, but cannot read a folder as a file.
        config = self.folder.parent / "config.json"
        config.mkdir()
        return {"SERVICETITAN_CONFIG_FILE": str(config)}

    def unreachable_environment(self) -> dict[str, str]:
        return {"SERVICETITAN_SECRETS_DIR": str(self.folder / "gone")}
