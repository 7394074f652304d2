"""Fakes of every source of credentials, all with the same methods."""

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

AWS = "us-east-1"


class SecretStore:
    """Holds credentials, and can be made to fail.

    Attributes:
        forbidden, unreachable, absent: part of the error message in each of these cases.
    """

    title: str
    forbidden: str
    unreachable: str
    absent: str

    def put(self, values: dict[str, str]) -> None:
        raise NotImplementedError

    def environment(self) -> dict[str, str]:
        raise NotImplementedError

    def forbid(self) -> dict[str, str]:
        """Denies access; returns variables that must be set for it, if any."""
        raise NotImplementedError

    def elsewhere(self) -> dict[str, str]:
        """Returns variables that name an unreachable store."""
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
            region_name=AWS,
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
            "SERVICETITAN_AWS_REGION": AWS,
            "AWS_ENDPOINT_URL": self._url,
            "AWS_ACCESS_KEY_ID": "MARKED-key",
            "AWS_SECRET_ACCESS_KEY": "MARKED-access",
            "AWS_MAX_ATTEMPTS": "1",
        }

    def forbid(self) -> dict[str, str]:
        # Somebody who may do nothing; moto then asks everybody for permission.
        iam = boto3.client(
            "iam",
            region_name=AWS,
            endpoint_url=self._url,
            aws_access_key_id="a",
            aws_secret_access_key="b",
        )
        user = f"nobody-{uuid.uuid4().hex}"
        iam.create_user(UserName=user)
        key = iam.create_access_key(UserName=user)["AccessKey"]
        requests.post(f"{self._url}/moto-api/reset-auth", data="0", timeout=DEADLINE)
        return {
            "AWS_ACCESS_KEY_ID": key["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"],
        }

    def elsewhere(self) -> dict[str, str]:
        return {"AWS_ENDPOINT_URL": "http://127.0.0.1:1"}

    def close(self) -> None:
        requests.post(f"{self._url}/moto-api/reset-auth", data="Infinity", timeout=DEADLINE)


class Azure(SecretStore):
    """Azure Key Vault, with a managed identity."""

    unreachable = "is unreachable (ServiceRequestError): check the URL, network and proxy"
    forbidden = "access to SERVICETITAN-CLIENT-ID is denied: give this identity the role"
    absent = "set SERVICETITAN_CLIENT_ID, SERVICETITAN_CLIENT_SECRET, SERVICETITAN_APP_KEY"

    def __init__(self, folder: Path) -> None:
        self.server = KeyVaultServer()
        self.title = f"Azure Key Vault {self.server.url}"
        self._bundle = folder / "authority.pem"
        self.server.authority.cert_pem.write_to_path(str(self._bundle))

    def put(self, values: dict[str, str]) -> None:
        self.server.values = {
            f"SERVICETITAN-{name}".upper().replace("_", "-"): value
            for name, value in values.items()
        }

    def environment(self) -> dict[str, str]:
        return {
            "SERVICETITAN_AZURE_KEY_VAULT": self.server.url,
            "REQUESTS_CA_BUNDLE": str(self._bundle),
            "IDENTITY_ENDPOINT": f"{self.server.url}/identity",
            "IDENTITY_HEADER": self.server.identity_header,
            "AZURE_TOKEN_CREDENTIALS": "ManagedIdentityCredential",
        }

    def forbid(self) -> dict[str, str]:
        self.server.refuses = True
        return {}

    def elsewhere(self) -> dict[str, str]:
        return {"SERVICETITAN_AZURE_KEY_VAULT": "https://127.0.0.1:1"}

    def close(self) -> None:
        self.server.close()


class Vault(SecretStore):
    """HashiCorp Vault, with one of its logins."""

    unreachable = "is unreachable (ConnectionError): check the URL, network, proxy and"
    forbidden = "access is denied (Forbidden): the token is invalid or expired, or its policy lacks"
    absent = "the secret does not exist, or its latest version is deleted: check SERVICETITAN_VAULT"

    def __init__(self, folder: Path, login: str) -> None:
        self.server = VaultServer()
        self.title = f"Vault {self.server.url} secret/servicetitan"
        self._account = folder / "token"
        self._account.write_text(self.server.service_account + "\n")
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
                "SERVICETITAN_VAULT_KUBERNETES_TOKEN_FILE": str(self._account),
            },
        }
        return {
            "SERVICETITAN_VAULT_URL": self.server.url,
            "SERVICETITAN_VAULT_PATH": "servicetitan",
            **login[self._login],
        }

    def forbid(self) -> dict[str, str]:
        self.server.refuses = True
        return {}

    def elsewhere(self) -> dict[str, str]:
        return {"SERVICETITAN_VAULT_URL": "http://127.0.0.1:1"}

    def close(self) -> None:
        self.server.close()


class Mounted(SecretStore):
    """A folder as Kubernetes mounts a secret: links into a version, which is swapped as a whole."""

    unreachable = "cannot be read as a folder (No such file or directory): mount the secrets there"
    forbidden = "cannot be read (Is a directory): correct the path, the file or its mode"
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
            link.is_symlink() or link.symlink_to(Path("..data") / name)
        before = self.folder / "..data"
        old = before.resolve() if before.is_symlink() else None
        (self.folder / "..tmp").symlink_to(version.name)
        os.replace(self.folder / "..tmp", before)
        if old:
            shutil.rmtree(old)

    def environment(self) -> dict[str, str]:
        return {"SERVICETITAN_SECRETS_DIR": str(self.folder)}

    def forbid(self) -> dict[str, str]:
        # Root reads every file, so something else must stand in its way.
        config = self.folder.parent / "config.json"
        config.mkdir()
        return {"SERVICETITAN_CONFIG_FILE": str(config)}

    def elsewhere(self) -> dict[str, str]:
        return {"SERVICETITAN_SECRETS_DIR": str(self.folder / "gone")}
