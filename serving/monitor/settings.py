"""Settings of the monitor, from the environment (prefix ECHOPLANE_), read once."""

from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from echoplane.errors import ConfigError
from echoplane.monitoring.automatic_rollback import RollbackPolicy
from echoplane.monitoring.retraining import LoopPolicy
from echoplane.settings import wrong_setting
from serving.loopback import is_loopback


class MonitorSettings(BaseSettings):
    """Settings that `python -m serving.monitor` reads."""

    model_config = SettingsConfigDict(env_prefix="ECHOPLANE_", frozen=True, use_attribute_docstrings=True)

    prediction_log: str = ""
    """Prediction log to watch: the service's folder, or s3://BUCKET/PREFIX."""
    evaluations: str = ""
    """Folder of the results of `evaluate` (ROOT/evaluate), whose test studies are the references, and of accepted
    studies (`echoplane drift-reference`)."""
    monitor_state: str = "monitor"
    """Folder in which the monitor keeps its state and the retraining loop its audit file."""
    monitor_host: str = "127.0.0.1"
    """Address that the monitor listens on. Another than loopback needs ECHOPLANE_WEBHOOK_TOKEN_FILE."""
    monitor_port: int = Field(default=9108, gt=0, lt=65536)
    """Port that the monitor listens on."""
    monitor_poll_s: float = Field(default=10, gt=0)
    """Interval in seconds at which the log and the retraining loop are looked at."""
    prediction_log_retention_days: int = Field(default=400, gt=0)
    """Days after which a shipped log's days are removed; days older than 2 are compacted to Parquet before."""
    webhook_token_file: str = ""
    """File whose content Alertmanager must send as bearer token to /v1/alerts."""
    monitor_token_file: str = ""
    """File of access tokens, made by `echoplane token`. With it, a person whose token has the role `operate` decides on
    retraining on the monitor's page; without, only by `echoplane retrain`."""
    retrain_command: str = ""
    """Command that retrains, such as `python -m pipelines run echo-view`; {task} is replaced. Empty: runs can be
    requested and approved, but none starts."""
    retrain_timeout_s: float = Field(default=86_400, gt=0)
    """Time in seconds after which a retraining command is ended."""
    retrain_debounce_s: float = LoopPolicy.model_fields["debounce_s"].default
    """Time in seconds that an alert must last before it asks for a run."""
    retrain_runs_per_week: int = LoopPolicy.model_fields["runs_per_week"].default
    """Maximum number of runs started within 7 days, over all tasks."""
    retrain_cool_down_s: float = LoopPolicy.model_fields["cool_down_s"].default
    """Time in seconds after a task's run or a rejection during which alerts ask for no other run."""
    retrain_approval: Literal["person", "automatic"] = "person"
    """`person`: a named person approves each run. `automatic`: the monitor starts it within the limits above."""

    automatic_rollback: bool = False
    """If true, the monitor returns a task to its previous model when the new one's answers are certainly worse. Needs
    MLFLOW_TRACKING_URI and, if promotions are signed, ECHOPLANE_SIGNING_KEY_FILE."""
    rollback_min_studies: int = RollbackPolicy.model_fields["min_studies"].default
    """Studies that the new and the previous model must have answered before their shares of "cannot tell" are
    compared."""
    rollback_min_feedback: int = RollbackPolicy.model_fields["min_feedback"].default
    """Studies with feedback that both must have before their shares of right labels are compared."""
    rollback_margin: float = RollbackPolicy.model_fields["margin"].default
    """Share by which the new model must be worse, beyond the 99.9 % intervals of both."""
    rollback_young_s: float = RollbackPolicy.model_fields["young_s"].default
    """Time in seconds since its first answer after which a model is no longer rolled back automatically."""
    mlflow_tracking_uri: str = Field(default="", validation_alias="MLFLOW_TRACKING_URI")
    """Address of the registry; only automatic rollback needs it."""

    def rollback_policy(self) -> RollbackPolicy:
        return RollbackPolicy(
            min_studies=self.rollback_min_studies,
            min_feedback=self.rollback_min_feedback,
            margin=self.rollback_margin,
            young_s=self.rollback_young_s,
        )

    def policy(self) -> LoopPolicy:
        return LoopPolicy(
            debounce_s=self.retrain_debounce_s,
            runs_per_week=self.retrain_runs_per_week,
            cool_down_s=self.retrain_cool_down_s,
            approval=self.retrain_approval,
        )

    def webhook_token(self) -> str:
        """Returns the token, or an empty text if none is demanded. Raises ConfigError if one is needed and absent."""
        if self.webhook_token_file:
            try:
                token = Path(self.webhook_token_file).read_text().strip()
            except OSError:
                token = ""
            if len(token) < MIN_TOKEN:
                raise ConfigError(f"ECHOPLANE_WEBHOOK_TOKEN_FILE must name a file of at least {MIN_TOKEN} characters.")
            return token
        if self.monitor_host != "localhost" and not is_loopback(self.monitor_host):
            raise ConfigError(
                "ECHOPLANE_MONITOR_HOST opens the monitor to other machines; then ECHOPLANE_WEBHOOK_TOKEN_FILE must "
                "name a file with a token, because alerts can ask for retraining."
            )
        return ""


MIN_TOKEN = 16


def read_monitor_settings() -> MonitorSettings:
    """Reads the settings from the environment. Raises ConfigError, which names the wrong setting but not its value."""
    try:
        settings = MonitorSettings()
        settings.policy()
        settings.rollback_policy()
    except ValidationError as error:
        raise wrong_setting(error) from None
    if not settings.prediction_log:
        raise ConfigError("ECHOPLANE_PREDICTION_LOG must name the prediction log of the service.")
    if settings.automatic_rollback and not settings.mlflow_tracking_uri:
        raise ConfigError("ECHOPLANE_AUTOMATIC_ROLLBACK needs the address of the registry: set MLFLOW_TRACKING_URI.")
    return settings
