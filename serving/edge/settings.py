"""Settings of an edge device, from the environment (prefix ECHOPLANE_EDGE_)."""

from pathlib import Path

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from echoplane.errors import ConfigError
from echoplane.tasks import BUILT_IN


class EdgeSettings(BaseSettings):
    """Settings that the agent reads once, when it starts."""

    model_config = SettingsConfigDict(env_prefix="ECHOPLANE_EDGE_", frozen=True, use_attribute_docstrings=True)

    repository_url: str
    """Address of the repository, http or https; `metadata/` and `targets/` are below it."""
    root_file: Path | None = None
    """Root metadata that is trusted from the start (`1.root.json` of the repository), put there at set-up. Needed
    unless the device is invited: an invitation pins it."""
    folder: Path = Path("/var/lib/echoplane-edge")
    """Folder of the agent: bundles, links that the service reads, metadata, state."""
    device: str = ""
    """Id of the device; empty for a random one that is made at the first start and kept."""
    channel: str = "stable"
    """Channel whose plan the device follows."""
    tasks: str = BUILT_IN[0]
    """Tasks that the device serves, comma separated."""
    service_url: str = ""
    """Address of the service on the device; a bundle that it does not take within `take_s` is taken back."""
    service_token_file: Path | None = None
    """File with a token of the service, if it has authentication."""
    take_s: float = Field(default=120, gt=0)
    """Time in seconds that the service has to take a new bundle."""
    poll_s: float = Field(default=300, gt=0)
    """Interval in seconds between two looks at the plan; up to a tenth is added at random."""
    reserve_mib: int = Field(default=512, ge=0)
    """Space in MiB that a download must leave free."""
    check_timeout_s: float = Field(default=600, gt=0)
    """Maximum time in seconds of a bundle's check before it may serve."""
    token_file: Path | None = None
    """File with a bearer token that is sent with every request."""
    enrolment_url: str = ""
    """Address of the enrolment (https), which gives and renews the device's certificate; empty for none."""
    invitation_file: Path | None = None
    """File with the text of `echoplane edge invite`; not read once the device is enrolled."""
    ca_file: Path | None = None
    """File (PEM) of the authorities by which servers are known; unset for those that Python trusts."""
    reports: str = ""
    """Address (http, https) or folder to which the device writes its report; empty for none."""
    results: str = ""
    """Address (http, https) or folder to which spooled results are sent; empty for none."""
    prediction_log: Path | None = None
    """Folder of the prediction log that the service writes (its ECHOPLANE_PREDICTION_LOG)."""


def read_edge_settings() -> EdgeSettings:
    """Reads the settings from the environment. Raises ConfigError, which names the wrong setting but not its value."""
    try:
        return EdgeSettings()  # type: ignore[call-arg]  # from the environment
    except ValidationError as error:
        first = error.errors()[0]
        name = f"ECHOPLANE_EDGE_{str(first['loc'][0]).upper()}"
        raise ConfigError(f"setting {name}: {first['msg']}.") from None


def bearer(token_file: Path | None) -> dict[str, str]:
    """Returns the header that carries the token in a file; empty without a file."""
    return {"Authorization": f"Bearer {token_file.read_text().strip()}"} if token_file else {}
