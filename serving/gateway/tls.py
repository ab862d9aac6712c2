"""DICOM over TLS (PS3.15 annex B): TLS 1.2 or later, certificates in PEM files."""

import socket
import ssl

from echoplane.errors import ConfigError
from serving.certificates import RenewedCertificate
from serving.gateway.settings import GatewaySettings, Peer
from serving.gateway.work_errors import GiveUp, TryAgain

HANDSHAKE_TIMEOUT_S = 30


class _ServerContext(ssl.SSLContext):
    """Leaves the handshake to the thread of the association: pynetdicom would make it in the thread that accepts
    connections, where one silent client would keep out all others. Each connection gets the certificate that its files
    hold now."""

    own: RenewedCertificate | None = None

    def wrap_socket(  # type: ignore[override]  # pynetdicom gives no other argument
        self, sock: socket.socket, server_side: bool = False
    ) -> ssl.SSLSocket:
        if self.own:
            self.own.renew()
        sock.settimeout(HANDSHAKE_TIMEOUT_S)
        return super().wrap_socket(sock, server_side=server_side, do_handshake_on_connect=False)


def server_context(settings: GatewaySettings) -> ssl.SSLContext | None:
    """Returns the TLS context of the DICOM port; None without a certificate. Raises ConfigError if a file is wrong."""
    if not settings.tls_certificate:
        return None
    context = _ServerContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    _load_own(context, settings)
    context.own = RenewedCertificate(context, settings.tls_certificate, settings.tls_key)
    if settings.tls_client_ca:
        context.verify_mode = ssl.CERT_REQUIRED
        _load_authorities(context, settings.tls_client_ca, "ECHOPLANE_GATEWAY_TLS_CLIENT_CA")
    return context


def peer_arguments(peer: Peer, settings: GatewaySettings) -> tuple[ssl.SSLContext, str] | None:
    """Returns the TLS context for a peer and the name that its certificate must have; None for a peer without TLS.

    The gateway's certificate, if it has one, is shown to a peer that asks for one. Raises GiveUp if the peer's file is
    wrong, TryAgain if the gateway's own are, which were good at the start and may be just renewed.
    """
    if not peer.tls:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        if peer.tls_ca:
            _load_authorities(context, peer.tls_ca, f"tls_ca of the peer {peer.name}")
        else:
            context.load_default_certs()
    except ConfigError as error:
        raise GiveUp(str(error)) from None
    try:
        if settings.tls_certificate:
            _load_own(context, settings)
    except ConfigError as error:
        raise TryAgain(str(error)) from None
    return context, peer.tls_name or peer.host


def _load_own(context: ssl.SSLContext, settings: GatewaySettings) -> None:
    try:
        context.load_cert_chain(settings.tls_certificate, settings.tls_key)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"ECHOPLANE_GATEWAY_TLS_CERTIFICATE and _TLS_KEY: expected a certificate and its key, without a password, "
            f"as PEM files ({_reason(error)})."
        ) from None


def _load_authorities(context: ssl.SSLContext, path: str, name: str) -> None:
    try:
        context.load_verify_locations(path)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{name}: expected a PEM file of certificates ({_reason(error)}).") from None


def _reason(error: Exception) -> str:
    return getattr(error, "reason", None) or getattr(error, "strerror", None) or type(error).__name__
