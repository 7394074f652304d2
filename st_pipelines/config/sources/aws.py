"""AWS Secrets Manager: one secret whose text is a JSON object, read as `AWSCURRENT`."""

from __future__ import annotations

from typing import Any

from pydantic_settings import BaseSettings

from st_pipelines.config.errors import SettingsError, SourceUnavailable
from st_pipelines.config.sources.base import Reading, Source, fields_of, near_misses, plain_object
from st_pipelines.config.sources.places import Places
from st_pipelines.config.sources.vendor import quiet, vendor

_SECONDS = 10
_HINTS = {
    "ResourceNotFoundException": "there is no such secret: check name and region",
    "AccessDeniedException": "it may not be read: allow secretsmanager:GetSecretValue for it",
    "DecryptionFailure": "it cannot be decrypted: allow kms:Decrypt for its key",
    "InvalidRequestException": "it is being deleted, or has no current version",
    "UnrecognizedClientException": "AWS does not accept the credentials that boto3 found",
    "InvalidClientTokenId": "AWS does not accept the credentials that boto3 found",
    "InvalidSignatureException": "AWS does not accept the credentials that boto3 found",
    "IncompleteSignature": "AWS does not accept the credentials that boto3 found",
    "ExpiredTokenException": "the AWS credentials have expired: renew them",
    "ExpiredToken": "the AWS credentials have expired: renew them",
}
_OF_BOTO = {
    "NoRegionError": "no region is known: set {prefix}AWS_REGION or AWS_REGION",
    "NoCredentialsError": "no AWS credentials were found: give this machine a role, or set "
    "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or {prefix}AWS_PROFILE",
    "PartialCredentialsError": "the AWS credentials are incomplete",
    "ProfileNotFound": "there is no such profile in the AWS configuration: correct "
    "{prefix}AWS_PROFILE",
    "ParamValidationError": "the name of the secret is not valid",
}
_PASSING = ("ConnectionError", "HTTPClientError", "EndpointConnectionError", "ReadTimeoutError")
_OVERLOADED = ("ThrottlingException", "InternalServiceError", "ServiceUnavailable")


class SecretsManager(Source):
    """The secret that `..._AWS_SECRET_ID` names, by boto3 and whatever credentials that finds."""

    def __init__(self, settings_cls: type[BaseSettings], prefix: str, places: Places) -> None:
        """Nothing is asked yet.

        Raises:
            SettingsError: boto3 is not installed.
        """
        super().__init__(settings_cls, prefix, f"AWS Secrets Manager {places.aws_secret_id}")
        self._places = places
        setting = f"{prefix}AWS_SECRET_ID"
        self._boto3 = vendor("boto3", extra="aws", setting=setting)
        self._botocore = vendor("botocore.exceptions", extra="aws", setting=setting)
        self._config = vendor("botocore.config", extra="aws", setting=setting)

    def read(self) -> Reading:
        """Asks for the secret's current version.

        Raises:
            SettingsError: it cannot be read; says what to do.
            SourceUnavailable: AWS cannot be reached, or is overloaded.
        """
        answer = self._ask()
        text = answer.get("SecretString")
        if text is None:
            raise SettingsError(f"{self.title} is binary: store a JSON object as its text")
        mapping = plain_object(text, self.title)
        values = fields_of(mapping, self.fields, self.prefix)
        hints = near_misses(mapping, self.fields, self.prefix)
        created = answer.get("CreatedDate")
        return Reading(
            values=values,
            created={name: created for name in values if created},
            warnings=tuple(f"{self.title}: {hint}" for hint in hints),
        )

    def _ask(self) -> dict[str, Any]:
        errors, problem = self._botocore, SettingsError("")
        try:
            with quiet():
                session = self._boto3.Session(
                    region_name=self._places.aws_region, profile_name=self._places.aws_profile
                )
                timeouts = self._config.Config(connect_timeout=_SECONDS, read_timeout=_SECONDS)
                client = session.client("secretsmanager", config=timeouts)
                return client.get_secret_value(SecretId=self._places.aws_secret_id)
        except errors.ClientError as error:
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
            problem = self._refused(error.response.get("Error", {}).get("Code", ""), status)
        except errors.BotoCoreError as error:
            problem = self._not_asked(error)
        # Raised out here: the library's exception may hold headers and answers.
        raise problem

    def _refused(self, code: str, status: int | None) -> SettingsError:
        if code in _OVERLOADED:
            return SourceUnavailable(f"{self.title} does not answer now ({code}): try again later")
        forbidden = _HINTS["AccessDeniedException"] if status == 403 else ""
        hint = _HINTS.get(code) or forbidden or "AWS refuses to hand it out"
        return SettingsError(f"{self.title}: {hint} ({code})")

    def _not_asked(self, error: Exception) -> SettingsError:
        kinds = [kind.__name__ for kind in type(error).__mro__]
        for name, hint in _OF_BOTO.items():
            if name in kinds:
                return SettingsError(f"{self.title}: {hint.format(prefix=self.prefix)}")
        if any(name in kinds for name in _PASSING):
            return SourceUnavailable(
                f"{self.title} cannot be reached ({kinds[0]}): check network, proxy and region"
            )
        return SettingsError(f"{self.title} cannot be asked ({kinds[0]})")
