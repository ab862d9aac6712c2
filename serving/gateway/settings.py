"""Settings of the DICOM gateway, from the environment (prefix ECHOPLANE_GATEWAY_), read once per process."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from echoplane.errors import ConfigError
from echoplane.tokens import NAME

AE_TITLE = r"^[A-Za-z0-9_.-]{1,16}$"
MIB = 1 << 20


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Rule(_Part):
    """Rule for the instances of one modality."""

    modality: str = Field(pattern=r"^[A-Z]{2,16}$")
    """Modality (0008,0060) of the instances."""
    sites: tuple[str, ...] = ()
    """Sites that the rule is for; empty for all."""
    tasks: tuple[str, ...] = ()
    """Tasks that answer; empty for every task that accepts the file."""
    send: Literal["files", "zip"] = "files"
    """`files` asks about each instance, `zip` about all of them as one study, as a cine MR needs."""
    copy_for_training: bool = False
    """True to copy the instances to ECHOPLANE_GATEWAY_COPY_FOLDER."""


class Peer(_Part):
    """An archive that results are sent to, by C-STORE, or by STOW-RS if it has an address."""

    name: str = Field(pattern=NAME)
    """Name in logs and metrics."""
    sites: tuple[str, ...] = ()
    """Sites whose results it gets; empty for all."""
    ae_title: str = Field(default="", pattern=f"{AE_TITLE}|^$")
    """Its AE title."""
    host: str = ""
    """Its address on the DICOM network."""
    port: int = Field(default=0, ge=0, le=65535)
    """Its port on the DICOM network."""
    tls: bool = False
    """True to send to it over TLS."""
    tls_ca: str = ""
    """PEM file of the authorities that may have signed its certificate; empty for the system's."""
    tls_name: str = ""
    """Name that its certificate must have; empty for `host`."""
    stow_url: str = Field(default="", pattern=r"^(https?://\S+)?$")
    """Address of the STOW-RS service, such as https://archive.example.org/dicom-web."""
    token_file: str = ""
    """File with the bearer token for `stow_url`."""
    results: bool = True
    """False for a peer that gets no results, only answers to its storage commitment requests."""

    @model_validator(mode="after")
    def _one_way(self) -> "Peer":
        dimse = (self.ae_title, self.host, self.port)
        if bool(self.stow_url) == any(dimse) or (not self.stow_url and not all(dimse)):
            raise ValueError("expected either stow_url, or ae_title, host and port")
        if not self.tls and (self.tls_ca or self.tls_name):
            raise ValueError("tls_ca and tls_name are for a peer with tls: true")
        if self.tls and self.stow_url:
            raise ValueError("tls is for C-STORE; give stow_url as an https address")
        return self


class GatewaySettings(BaseSettings):
    """Settings that the gateway reads. Lists and tables are JSON."""

    model_config = SettingsConfigDict(env_prefix="ECHOPLANE_GATEWAY_", frozen=True, use_attribute_docstrings=True)

    store: Path = Path("gateway")
    """Folder of the received instances and the queue. It holds patient data: only the owner may enter it."""
    ae_titles: dict[str, str] = {"ECHOPLANE": "default"}
    """Site by called AE title, as JSON; associations that call another title are rejected."""
    callers: tuple[str, ...] = ()
    """Calling AE titles that are accepted, as a JSON list."""
    allow_any_caller: bool = False
    """Permission for every calling AE title; an AE title is no proof of identity."""
    bind: str = "127.0.0.1"
    """Address to listen on."""
    dicom_port: int = Field(default=11112, ge=0, le=65535)
    """Port of the DICOM network service (C-ECHO, C-STORE)."""
    tls_certificate: str = ""
    """PEM file of the gateway's certificate and its chain. With it, the DICOM port speaks TLS alone."""
    tls_key: str = ""
    """PEM file of the certificate's private key."""
    tls_client_ca: str = ""
    """PEM file of the authorities by which a sender's certificate must be signed; empty to demand none."""
    http_port: int = Field(default=8042, ge=0, le=65535)
    """Port of health checks, metrics and DICOMweb."""
    http_token_file: str = ""
    """File of tokens, made by `echoplane token`, that admit other machines to the HTTP port."""
    storage_commitment: bool = False
    """Permission to commit to the storage of instances. A study that the gateway has committed to is never removed."""
    max_associations: int = Field(default=16, gt=0)
    """Maximum number of associations at once."""
    max_instance_mib: int = Field(default=2048, gt=0)
    """Maximum size of one instance."""
    min_free_mib: int = Field(default=1024, ge=0)
    """Free space of the store's disk below which instances are refused as out of resources."""
    quiet_s: float = Field(default=60, gt=0)
    """Time without a further instance after which a study is complete."""
    rules: tuple[Rule, ...] = (Rule(modality="US"), Rule(modality="MR", send="zip"))
    """Rules by modality, as a JSON list; instances of other modalities are only stored."""
    service_url: str = Field(default="http://127.0.0.1:3000", pattern=r"^https?://\S+$")
    """Address of the service that answers."""
    token_file: str = ""
    """File with the gateway's bearer token for the service."""
    token_files: dict[str, str] = {}
    """File with the bearer token by site, as JSON, for sites with a token of their own."""
    peers: tuple[Peer, ...] = ()
    """Archives that results are sent to, as a JSON list."""
    workers: int = Field(default=2, gt=0)
    """Number of studies and results that are worked on at once."""
    request_timeout_s: float = Field(default=120, gt=0)
    """Maximum time for one request to the service or to a peer."""
    retry_first_s: float = Field(default=5, gt=0)
    """Wait before the first retry; each further wait is twice as long."""
    retry_max_s: float = Field(default=900, gt=0)
    """Longest wait between two retries."""
    max_attempts: int = Field(default=20, gt=0)
    """Attempts after which work is set aside as stuck."""
    copy_folder: str = ""
    """Folder for copies of complete studies, from which de-identification makes training data. They identify patients.
    """
    keep_h: float = Field(default=168, gt=0)
    """Hours for which a study is kept after its last instance, once nothing of it is waiting or stuck."""

    @model_validator(mode="after")
    def _consistent(self) -> "GatewaySettings":
        if not self.callers and not self.allow_any_caller:
            raise ValueError("no caller is accepted; set ECHOPLANE_GATEWAY_CALLERS to a JSON list of AE titles")
        if any(rule.copy_for_training for rule in self.rules) and not self.copy_folder:
            raise ValueError("a rule copies for training; set ECHOPLANE_GATEWAY_COPY_FOLDER")
        if bool(self.tls_certificate) != bool(self.tls_key) or (self.tls_client_ca and not self.tls_key):
            raise ValueError("tls_certificate and tls_key belong together, and tls_client_ca needs both")
        if not self.ae_titles:
            raise ValueError("ae_titles is empty; name at least one AE title and its site")
        return self

    def rule_for(self, site: str, modality: str) -> Rule | None:
        """Returns the first rule for instances of this modality from this site."""
        matching = (rule for rule in self.rules if rule.modality == modality and (not rule.sites or site in rule.sites))
        return next(matching, None)

    def peers_for(self, site: str) -> list[Peer]:
        """Returns the peers that get the results of this site."""
        return [peer for peer in self.peers if peer.results and (not peer.sites or site in peer.sites)]


def read_gateway_settings() -> GatewaySettings:
    """Reads the settings from the environment. Raises ConfigError, which names the wrong setting but not its value."""
    try:
        return GatewaySettings()
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        name = ".".join(map(str, first["loc"])) or "of the gateway"
        raise ConfigError(f"setting {name}: {first['msg']}.") from None
    except ValueError as error:  # pydantic-settings: a value that is not JSON
        raise ConfigError(f"a setting of the gateway is not valid JSON ({type(error).__name__}).") from None
