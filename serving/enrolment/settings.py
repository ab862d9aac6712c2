"""Settings of the enrolment, from the environment (prefix ECHOPLANE_ENROLMENT_)."""

from pathlib import Path

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from echoplane.errors import ConfigError
from serving.loopback import is_loopback

PREFIX = "ECHOPLANE_ENROLMENT_"


class EnrolmentSettings(BaseSettings):
    """Settings that `python -m serving.enrolment` reads once, when it starts."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, use_attribute_docstrings=True)

    folder: Path
    """Folder of the enrolment, which the first `echoplane edge invite` makes: authority, invitations, devices."""
    host: str = "127.0.0.1"
    """Address to listen on. Another than loopback needs `tls_certificate` and `tls_key`."""
    port: int = Field(default=9109, gt=0, lt=65536)
    """Port to listen on."""
    tls_certificate: str = ""
    """File (PEM) with the certificate by which devices know this server."""
    tls_key: str = ""
    """File (PEM) with its private key."""
    valid_days: float = Field(default=7, gt=0, le=90)
    """Days for which a device's certificate is valid; the device renews it when a third of them is left."""
    grace_days: float = Field(default=30, ge=0)
    """Days after its expiry in which a certificate still renews, for devices that were offline."""


def read_enrolment_settings() -> EnrolmentSettings:
    """Reads the settings. Raises ConfigError, which names the wrong setting but not its value."""
    try:
        settings = EnrolmentSettings()  # type: ignore[call-arg]  # from the environment
    except ValidationError as error:
        first = error.errors()[0]
        raise ConfigError(f"setting {PREFIX}{str(first['loc'][0]).upper()}: {first['msg']}.") from None
    if bool(settings.tls_certificate) != bool(settings.tls_key):
        raise ConfigError(f"{PREFIX}TLS_CERTIFICATE and {PREFIX}TLS_KEY belong together.")
    if not settings.tls_key and not is_loopback(settings.host):
        raise ConfigError(f"{PREFIX}HOST opens the enrolment to other machines; then {PREFIX}TLS_KEY is needed.")
    return settings
