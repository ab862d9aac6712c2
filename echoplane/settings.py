"""Settings of the service, from the environment (prefix ECHOPLANE_), read once per process."""

from typing import Literal, TypeVar

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from echoplane.errors import ConfigError
from echoplane.runtimes.names import MAX_THREADS, Precision, RuntimeName
from echoplane.tasks import BUILT_IN
from echoplane.tasks.label_shares import LabelShares

MIB = 1 << 20
AnySettings = TypeVar("AnySettings", bound=BaseSettings)


class TrustSettings(BaseSettings):
    """Settings of whatever loads models from a registry."""

    model_config = SettingsConfigDict(env_prefix="ECHOPLANE_", frozen=True, use_attribute_docstrings=True)

    trusted_keys: str = ""
    """File of the public keys whose signed promotions are accepted, made by `echoplane keys`, or its JSON content;
    empty for the user's own. It is read again at each look for a model."""
    allow_unsigned_models: bool = False
    """Permission to load models of a registry that no trusted key has signed: whoever reaches the registry then decides
    what answers."""


class ServingSettings(TrustSettings):
    """Settings that the service reads. MLflow keeps its own variables (MLFLOW_TRACKING_URI and its credentials)."""

    bundles: str = ""
    """Bundle folders to serve, comma separated: FOLDER, or TASK=FOLDER to insist on its task."""
    tasks: str = BUILT_IN[0]
    """Tasks whose champion is followed if MLFLOW_TRACKING_URI is set and no folder is given; comma separated."""
    mlflow_tracking_uri: str = Field(default="", validation_alias="MLFLOW_TRACKING_URI")
    """The registry's address, http or https."""
    poll_s: float = Field(default=10, gt=0)
    """Interval in seconds at which a slot looks for another model."""
    model_cache: str = ""
    """Folder of copies of each task's last good model, that answers after a start while the registry is unavailable."""
    shadow_share: float = Field(default=0.1, ge=0, lt=1)
    """Maximum share of one core's time in which a challenger answers shadow traffic; 0 switches it off."""
    runtime: Literal["", RuntimeName] = ""
    """Runtime of every slot; empty for the one that the bundle was evaluated on."""
    runtime_order: str = ""
    """Runtimes to try in this order, comma separated, such as tensorrt,openvino; the first that opens the bundle and
    passes its golden check answers, and /v1/models says why one before it does not. Empty for the runtime above."""
    precision: Literal["", Precision] = ""
    """Precision of every slot; empty for the one that the bundle was evaluated at."""
    runtime_threads: int = Field(default=0, ge=0, le=MAX_THREADS)
    """Cores for one inference; 0 for the number that the bundle was evaluated with."""
    label_shares: dict[str, LabelShares] = {}
    """Share of each label among the site's studies, by task, as JSON {TASK: {LABEL: SHARE}} with a sum of 1 per task.
    Labels and abstention follow from probabilities for these shares, and every answer says so. Empty for the shares of
    training."""
    max_upload_mib: int = Field(default=256, gt=0)
    """Largest request body; more gets 413. A 2 s clip of 600x800 RGB at 50 Hz is 137 uncompressed."""
    max_files: int = Field(default=64, gt=0)
    """Maximum number of files in one request to /v1/study."""
    max_in_flight: int = Field(default=8, gt=0)
    """Requests that one process answers at once; half as many more, one at least, for callers who have none."""
    max_queued: int = Field(default=32, ge=0)
    """Maximum number of received requests that wait for one of these places; more get 429."""
    queue_timeout_s: float = Field(default=5, gt=0)
    """Maximum time that a received request waits for a place; then it gets 429."""
    answer_threads: int = Field(default=2, gt=0)
    """Files that are decoded and answered at once; half as many more, at least one, for callers with none at work."""
    require_confinement: bool = False
    """Refusal to start where the kernel can't keep decoders from the network, other programs and other files."""
    upload_timeout_s: float = Field(default=120, gt=0)
    """Time to receive one request's body; more gets 408."""
    min_upload_kib_per_s: float = Field(default=16, gt=0)
    """Minimum mean rate of a request's body, counted after its first 5 s; less gets 408."""
    deadline_s: float = Field(default=30, gt=0)
    """Time to answer all files of a request once it has a place; more gets 504."""

    prediction_log: str = ""
    """Folder for the prediction log, one row per answered study; empty for none."""
    prediction_log_max_mib: int = Field(default=2048, gt=0)
    """Maximum size of the prediction log; rows beyond it are dropped and counted."""
    prediction_log_url: str = ""
    """Address s3://BUCKET/PREFIX to which files of the log are shipped and then removed; empty to keep them."""

    prometheus_url: str = ""
    """Address of a Prometheus that scrapes this installation, for the dashboard's history; empty for none."""
    prometheus_labels: dict[str, str] = {}
    """Labels that its series of this installation have, as JSON, such as {"namespace": "heart"}."""
    prometheus_token_file: str = ""
    """File with a bearer token for that Prometheus; empty if it asks for none."""

    token_file: str = ""
    """File of access tokens, made by `echoplane token`; it is read again when it changes."""
    oidc_issuer: str = ""
    """Issuer of an OpenID Connect provider whose access tokens (JWT) are accepted."""
    oidc_audience: str = ""
    """Audience that these tokens must name."""
    oidc_keys_url: str = ""
    """Address of the provider's keys (JWKS); empty for the one in its discovery document."""
    oidc_client_id: str = ""
    """Public client by which people sign in on the pages (authorization code with PKCE); empty for tokens alone."""
    oidc_scope: str = "openid"
    """Scopes that the pages ask for, separated by spaces; openid must be one of them."""
    oidc_roles_claim: str = "roles"
    """Claim that lists the roles predict, feedback and operate."""
    oidc_site_claim: str = "site"
    """Claim that names the caller's site."""
    requests_per_minute: int = Field(default=600, gt=0)
    """Maximum rate of one caller's requests to one process; more get 429."""
    allow_unauthenticated: bool = False
    """Permission for clients of other machines to use the service without authentication."""


def read_trust_settings() -> TrustSettings:
    """Reads the settings of trust from the environment. Raises ConfigError, which names the wrong setting."""
    return _read(TrustSettings)


def read_serving_settings() -> ServingSettings:
    """Reads the settings from the environment. Raises ConfigError, which names the wrong setting but not its value."""
    return _read(ServingSettings)


def _read(kind: type[AnySettings]) -> AnySettings:
    try:
        return kind()
    except ValidationError as error:
        raise wrong_setting(error) from None


def wrong_setting(error: ValidationError) -> ConfigError:
    """Returns the error that names the first wrong setting and what was expected, never its value."""
    first = error.errors(include_input=False, include_url=False)[0]
    return ConfigError(f"setting {'.'.join(map(str, first['loc']))}: {first['msg']}.")
