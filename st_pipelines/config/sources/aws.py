"""AWS Secrets Manager: one secret whose text is a JSON object, in its version `AWSCURRENT`."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from st_pipelines.config.errors import SettingsError, SourceUnavailable
from st_pipelines.config.sources.base import (
    ExplicitSettings,
    Manager,
    Reading,
    find_near_misses,
    parse_flat_object,
    pick_fields,
)
from st_pipelines.config.sources.vendor import import_vendor, quiet

_TIMEOUT_SECONDS = 10
_HINTS = {
    "ResourceNotFoundException": "the secret does not exist: check its name and the region",
    "AccessDeniedException": "access is denied: allow secretsmanager:GetSecretValue for it",
    "DecryptionFailure": "it cannot be decrypted: allow kms:Decrypt for its key",
    "InvalidRequestException": "it is being deleted, or has no current version",
    "UnrecognizedClientException": "AWS rejects the credentials that boto3 found",
    "InvalidClientTokenId": "AWS rejects the credentials that boto3 found",
    "InvalidSignatureException": "AWS rejects the credentials that boto3 found",
    "IncompleteSignature": "AWS rejects the credentials that boto3 found",
    "ExpiredTokenException": "the AWS credentials have expired: renew them",
    "ExpiredToken": "the AWS credentials have expired: renew them",
}
"""By error code of AWS."""
_BOTO_HINTS = {
    "NoRegionError": "no region is known: set {prefix}AWS_REGION or AWS_REGION",
    "NoCredentialsError": "no AWS credentials were found: give this machine a role, or set "
    "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or {prefix}AWS_PROFILE",
    "PartialCredentialsError": "the AWS credentials are incomplete",
    "ProfileNotFound": "the AWS configuration has no such profile: correct {prefix}AWS_PROFILE",
    "ParamValidationError": "the name of the secret is not valid",
}
"""By exception class of botocore."""
_UNREACHABLE = ("ConnectionError", "HTTPClientError", "EndpointConnectionError", "ReadTimeoutError")
_OVERLOADED = ("ThrottlingException", "InternalServiceError", "ServiceUnavailable")


class AwsPlaces(BaseModel):
    """Which secret to read.

    Attributes:
        aws_secret_id: name or ARN of the secret.
        aws_region, aws_profile: as AWS calls them; by default what boto3 finds.
    """

    aws_secret_id: str | None = None
    aws_region: str | None = None
    aws_profile: str | None = None


class SecretsManager(Manager):
    """The secret `..._AWS_SECRET_ID`, read by boto3 with whatever credentials it finds."""

    places = AwsPlaces
    named_by = "aws_secret_id"

    def __init__(
        self, settings_cls: type[ExplicitSettings], prefix: str, places: AwsPlaces
    ) -> None:
        super().__init__(settings_cls, prefix, f"AWS Secrets Manager {places.aws_secret_id}")
        self._places = places
        setting = f"{prefix}AWS_SECRET_ID"
        self._boto3 = import_vendor("boto3", extra="aws", setting=setting)
        self._errors = import_vendor("botocore.exceptions", extra="aws", setting=setting)
        self._config = import_vendor("botocore.config", extra="aws", setting=setting)

    def read(self) -> Reading:
        """Reads the current version of the secret.

        Raises:
            SettingsError: the secret cannot be read.
            SourceUnavailable: AWS is unreachable or overloaded.
        """
        response = self._get_secret_value()
        text = response.get("SecretString")
        if text is None:
            raise SettingsError(f"{self.title} is binary: store a JSON object as its text")
        mapping = parse_flat_object(text, self.title)
        values = pick_fields(mapping, self.fields, self.prefix)
        hints = find_near_misses(mapping, self.fields, self.prefix)
        created = response.get("CreatedDate")
        return Reading(
            values=values,
            created={name: created for name in values if created},
            warnings=tuple(f"{self.title}: {hint}" for hint in hints),
        )

    def _get_secret_value(self) -> dict[str, Any]:
        errors, problem = self._errors, SettingsError("")
        try:
            with quiet():
                session = self._boto3.Session(
                    region_name=self._places.aws_region, profile_name=self._places.aws_profile
                )
                config = self._config.Config(
                    connect_timeout=_TIMEOUT_SECONDS, read_timeout=_TIMEOUT_SECONDS
                )
                client = session.client("secretsmanager", config=config)
                return client.get_secret_value(SecretId=self._places.aws_secret_id)
        except errors.ClientError as error:
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
            problem = self._explain_response(
                error.response.get("Error", {}).get("Code", ""), status
            )
        except errors.BotoCoreError as error:
            problem = self._explain_failure(error)
        # Raised outside of `except`: boto3's exception may hold headers and the response.
        raise problem

    def _explain_response(self, code: str, status: int | None) -> SettingsError:
        if code in _OVERLOADED:
            return SourceUnavailable(f"{self.title} is unavailable ({code}): try again later")
        forbidden = _HINTS["AccessDeniedException"] if status == 403 else ""
        hint = _HINTS.get(code) or forbidden or "AWS refuses the request"
        return SettingsError(f"{self.title}: {hint} ({code})")

    def _explain_failure(self, error: Exception) -> SettingsError:
        classes = [cls.__name__ for cls in type(error).__mro__]
        for name, hint in _BOTO_HINTS.items():
            if name in classes:
                return SettingsError(f"{self.title}: {hint.format(prefix=self.prefix)}")
        if any(name in classes for name in _UNREACHABLE):
            return SourceUnavailable(
                f"{self.title} is unreachable ({classes[0]}): check network, proxy and region"
            )
        return SettingsError(f"{self.title} cannot be read ({classes[0]})")
