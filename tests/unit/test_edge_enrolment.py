"""Invitations, certificates and signed reports: what is given, and what is refused."""

import json
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from starlette.testclient import TestClient

from echoplane import cli
from echoplane.edge.enrolment import Enrolment, Refused, create
from echoplane.edge.fleet import Report
from echoplane.edge.identity import (
    CURVE,
    is_signed,
    name_of,
    new_invitation,
    public_pem,
    read_invitation,
    request_for,
    signed,
    unsealed,
)
from echoplane.edge.upload import receive
from echoplane.errors import ConfigError
from serving.edge.identity import Identity, root_path
from serving.edge.settings import EdgeSettings
from serving.enrolment.__main__ import configured
from serving.enrolment.app import MAX_BODY_BYTES, build
from serving.enrolment.settings import EnrolmentSettings, read_enrolment_settings
from serving.http_protocol import HttpProtocol

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
ROOT = b'{"signed": "root"}'
BOX = "box-7"


@pytest.fixture
def enrolment(tmp_path: Path) -> Enrolment:
    create(tmp_path / "enrolment", ROOT, NOW)
    return Enrolment(tmp_path / "enrolment")


@pytest.fixture
def key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(CURVE)


def test_a_certificate_is_for_the_invited_device_its_key_and_a_week(
    enrolment: Enrolment, key: ec.EllipticCurvePrivateKey
) -> None:
    secret = enrolment.invite(BOX, DAY, NOW).secret
    made = x509.load_pem_x509_certificate(enrolment.enrol(secret, request_for(BOX, key), NOW).encode())
    made.verify_directly_issued_by(x509.load_pem_x509_certificate(enrolment.authority))
    assert made.subject == name_of(BOX)
    assert public_pem(made.public_key()) == public_pem(key.public_key())
    assert made.not_valid_after_utc == NOW + timedelta(days=7)
    usage = made.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [x509.ExtendedKeyUsageOID.CLIENT_AUTH]
    assert made.extensions.get_extension_for_class(x509.BasicConstraints).value.ca is False
    assert enrolment.keys() == {BOX: public_pem(key.public_key())}


def test_of_an_invitation_only_the_digest_is_kept_and_files_are_their_owners(
    enrolment: Enrolment, tmp_path: Path
) -> None:
    secret = enrolment.invite(BOX, DAY, NOW).secret
    kept = b"".join(path.read_bytes() for path in (tmp_path / "enrolment").iterdir())
    assert secret.encode() not in kept
    assert (tmp_path / "enrolment" / "ca.key").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "enrolment").stat().st_mode & 0o777 == 0o700
    with pytest.raises(ConfigError, match="never overwritten"):
        create(tmp_path / "enrolment", ROOT, NOW)


def test_an_invitation_that_is_unknown_expired_or_replaced_is_refused(
    enrolment: Enrolment, key: ec.EllipticCurvePrivateKey
) -> None:
    request = request_for(BOX, key)
    first = enrolment.invite(BOX, DAY, NOW).secret
    for secret, when in (("x" * 43, NOW), (first, NOW + DAY), ("", NOW)):
        with pytest.raises(Refused, match="unknown or has expired"):
            enrolment.enrol(secret, request, when)
    enrolment.invite(BOX, DAY, NOW)
    with pytest.raises(Refused, match="unknown or has expired"):
        enrolment.enrol(first, request, NOW)
    assert enrolment.keys() == {}


def test_a_used_invitation_works_again_only_for_the_same_key(
    enrolment: Enrolment, key: ec.EllipticCurvePrivateKey
) -> None:
    secret = enrolment.invite(BOX, DAY, NOW).secret
    enrolment.enrol(secret, request_for(BOX, key), NOW)
    other = ec.generate_private_key(CURVE)
    with pytest.raises(Refused, match="was used"):
        enrolment.enrol(secret, request_for(BOX, other), NOW)
    assert enrolment.enrol(secret, request_for(BOX, key), NOW), "the answer got lost"
    assert enrolment.keys() == {BOX: public_pem(key.public_key())}
    enrolment.enrol(enrolment.invite(BOX, DAY, NOW).secret, request_for(BOX, other), NOW)
    assert enrolment.keys() == {BOX: public_pem(other.public_key())}, "a new box of the same name"
    with pytest.raises(Refused):
        enrolment.enrol(secret, request_for(BOX, key), NOW)


def built(subject: x509.Name, key: Any, algorithm: Any) -> str:
    builder = x509.CertificateSigningRequestBuilder(subject)
    return builder.sign(key, algorithm).public_bytes(Encoding.PEM).decode()


def test_a_request_for_another_name_or_by_another_kind_of_key_is_refused_and_uses_nothing_up(
    enrolment: Enrolment, key: ec.EllipticCurvePrivateKey
) -> None:
    secret, own = enrolment.invite(BOX, DAY, NOW).secret, name_of(BOX)
    more = x509.Name([*own, x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, "x")])
    other_curve = ec.generate_private_key(ec.SECP384R1())
    swapped = request_for(BOX, key).splitlines()
    swapped[3] = swapped[3][::-1]
    wrong = {
        "another device": request_for("box-8", key),
        "two names": built(more, key, hashes.SHA256()),
        "RSA": built(own, rsa.generate_private_key(65537, 2048), hashes.SHA256()),
        "Ed25519": built(own, ed25519.Ed25519PrivateKey.generate(), None),
        "P-384": built(own, other_curve, hashes.SHA256()),
        "tampered": "\n".join(swapped),
        "none": "no request",
    }
    for name, request in wrong.items():
        with pytest.raises(Refused):
            enrolment.enrol(secret, request, NOW)
        assert enrolment.keys() == {}, name
    assert enrolment.enrol(secret, request_for(BOX, key), NOW)


def test_an_authority_is_never_asked_for_by_a_device(enrolment: Enrolment, key: ec.EllipticCurvePrivateKey) -> None:
    """The key alone is taken from a request."""
    builder = x509.CertificateSigningRequestBuilder(name_of(BOX))
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    request = builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()
    made = enrolment.enrol(enrolment.invite(BOX, DAY, NOW).secret, request, NOW)
    constraints = x509.load_pem_x509_certificate(made.encode()).extensions.get_extension_for_class(
        x509.BasicConstraints
    )
    assert constraints.value.ca is False


def enrolled(enrolment: Enrolment, key: ec.EllipticCurvePrivateKey, device: str = BOX) -> str:
    return enrolment.enrol(enrolment.invite(device, DAY, NOW).secret, request_for(device, key), NOW)


def test_a_certificate_renews_for_the_same_key_and_name_also_some_time_after_its_end(
    enrolment: Enrolment, key: ec.EllipticCurvePrivateKey
) -> None:
    certificate, later = enrolled(enrolment, key), NOW + 30 * DAY
    renewed = enrolment.renew(certificate, request_for(BOX, key), later)
    assert x509.load_pem_x509_certificate(renewed.encode()).not_valid_after_utc == later + 7 * DAY
    with pytest.raises(Refused, match="too long ago"):
        enrolment.renew(certificate, request_for(BOX, key), NOW + 38 * DAY)


def test_a_renewal_for_another_key_name_or_authority_is_refused(
    enrolment: Enrolment, key: ec.EllipticCurvePrivateKey, tmp_path: Path
) -> None:
    certificate, other = enrolled(enrolment, key), ec.generate_private_key(CURVE)
    enrolled(enrolment, other, "box-8")
    create(tmp_path / "stranger", ROOT, NOW)
    stranger = Enrolment(tmp_path / "stranger")
    for name, certificate_of, request in (
        ("a stolen certificate", certificate, request_for(BOX, other)),
        ("another's name", certificate, request_for("box-8", key)),
        ("another's request", certificate, request_for("box-8", other)),
        ("of a stranger", enrolled(stranger, key), request_for(BOX, key)),
        ("the authority itself", enrolment.authority.decode(), request_for(BOX, key)),
        ("none", "no certificate", request_for(BOX, key)),
    ):
        with pytest.raises(Refused):
            enrolment.renew(certificate_of, request, NOW)
        assert len(enrolment.keys()) == 2, name


def test_a_revoked_device_gets_nothing_more(enrolment: Enrolment, key: ec.EllipticCurvePrivateKey) -> None:
    secret = enrolment.invite(BOX, DAY, NOW).secret
    certificate = enrolment.enrol(secret, request_for(BOX, key), NOW)
    assert enrolment.revoke(BOX)
    assert not enrolment.revoke(BOX)
    with pytest.raises(Refused):
        enrolment.renew(certificate, request_for(BOX, key), NOW)
    with pytest.raises(Refused):
        enrolment.enrol(secret, request_for(BOX, key), NOW)


def test_an_invitation_is_read_back_and_anything_else_is_not() -> None:
    made = new_invitation("box.7-a_b", ROOT)
    assert read_invitation(f" {made}\n") == made
    for text in ("", str(made)[1:], str(made).replace("edge1", "edge2"), "edge1.x.y.box-1", f"{made}/../x"):
        with pytest.raises(ConfigError) as refused:
            read_invitation(text)
        assert made.secret not in str(refused.value)


@pytest.fixture
def client(enrolment: Enrolment) -> Iterator[TestClient]:
    with TestClient(build(enrolment, lambda: NOW), base_url="https://enrolment.example") as client:
        yield client


def test_the_server_answers_what_is_wrong_without_showing_the_secret(
    client: TestClient, enrolment: Enrolment, caplog: pytest.LogCaptureFixture, key: ec.EllipticCurvePrivateKey
) -> None:
    secret = enrolment.invite(BOX, DAY, NOW).secret
    assert client.get("/livez").status_code == 200
    bad = {"secret": secret, "request": "x" * MAX_BODY_BYTES}
    assert client.post("/v1/enrol", json=bad).status_code == 413
    for body in (
        {"secret": secret},
        {"secret": secret, "request": "x", "more": 1},
        [secret],
        {"secret": 1, "request": "x"},
    ):
        answer = client.post("/v1/enrol", json=body)
        assert answer.status_code == 400
        assert secret not in answer.text
    wrong = client.post("/v1/enrol", json={"secret": secret, "request": request_for("box-8", key)})
    assert (wrong.status_code, wrong.json()["problem"]) == (
        403,
        "the request names another device than the invitation.",
    )
    answer = client.post("/v1/enrol", json={"secret": secret, "request": request_for(BOX, key)}).json()
    assert answer["root"] == ROOT.decode()
    renewed = client.post("/v1/renew", json={"certificate": answer["certificate"], "request": request_for(BOX, key)})
    assert renewed.status_code == 200
    assert secret not in caplog.text


def device(tmp_path: Path, invitation: object, now: datetime = NOW, **more: Any) -> Identity:
    file = tmp_path / "invitation"
    file.write_text(str(invitation))
    given = {"repository_url": "https://edge.example", "folder": tmp_path / "device", "invitation_file": file}
    settings = EdgeSettings(**(given | {"enrolment_url": "https://enrolment.example"} | more))
    return Identity(settings, lambda: now)


def test_a_device_enrols_keeps_its_key_and_takes_the_pinned_root(
    tmp_path: Path, client: TestClient, enrolment: Enrolment
) -> None:
    invitation = enrolment.invite(BOX, DAY, NOW)
    identity = device(tmp_path, invitation)
    assert (identity.device, identity.is_enrolled) == (BOX, False)
    assert identity.sealed(b"{}") == b"{}"
    assert identity.keep(client) == ""
    assert identity.is_enrolled
    folder = tmp_path / "device" / "identity"
    assert (folder / "key.pem").stat().st_mode & 0o777 == 0o600
    assert root_path(identity._settings).read_bytes() == ROOT
    first = (folder / "certificate.pem").read_bytes()
    assert device(tmp_path, "gone").keep(client) == "", "the invitation is not read again"
    assert (folder / "certificate.pem").read_bytes() == first, "not due"
    assert is_signed(*unsealed(identity.sealed(b"{}")), enrolment.keys()[BOX])


def test_a_device_renews_when_a_third_is_left_and_when_its_clock_makes_no_sense(
    tmp_path: Path, client: TestClient, enrolment: Enrolment
) -> None:
    device(tmp_path, enrolment.invite(BOX, DAY, NOW)).keep(client)
    path = tmp_path / "device" / "identity" / "certificate.pem"
    for when, renews in ((4.6, False), (4.7, True), (-400, True), (9, True)):
        before = path.read_bytes()
        assert device(tmp_path, "", NOW + when * DAY).keep(client) == ""
        assert (path.read_bytes() != before) == renews, when


def test_what_fails_is_said_and_tried_again(tmp_path: Path, client: TestClient, enrolment: Enrolment) -> None:
    invitation = enrolment.invite(BOX, DAY, NOW)
    identity = device(tmp_path, invitation)
    with TestClient(build(enrolment, lambda: NOW + 2 * DAY), base_url="https://enrolment.example") as late:
        assert "unknown or has expired" in identity.keep(late)
    assert "must begin with https" in device(tmp_path, invitation, enrolment_url="http://enrolment.example").keep(
        client
    )
    other = new_invitation(BOX, b"another root")
    swapped = str(invitation).replace(invitation.root_sha256, other.root_sha256)
    assert "not the one that the invitation pins" in device(tmp_path, swapped).keep(client)
    assert not root_path(identity._settings).exists()
    assert identity.keep(client) == "", "the key is the same, so the invitation still works"


def test_an_invitation_for_another_device_is_refused_at_the_start(tmp_path: Path, enrolment: Enrolment) -> None:
    with pytest.raises(ConfigError, match="another device"):
        device(tmp_path, enrolment.invite(BOX, DAY, NOW), device="box-8")
    with pytest.raises(ConfigError, match="ENROLMENT_URL"):
        device(tmp_path, enrolment.invite(BOX, DAY, NOW), enrolment_url="")


def test_reports_count_only_if_the_enrolled_device_signed_them(
    tmp_path: Path, enrolment: Enrolment, key: ec.EllipticCurvePrivateKey
) -> None:
    enrolled(enrolment, key)
    enrolled(enrolment, other := ec.generate_private_key(CURVE), "box-8")
    report = Report(device=BOX, channel="stable", time=NOW, version="1", tasks={}, free_mib=1)
    plain = report.model_dump_json().encode()
    good = signed(plain, key)
    store = tmp_path / "reports"
    store.mkdir()
    altered = json.loads(good) | {"signed": plain.decode().replace('"free_mib":1', '"free_mib":9')}
    cases = {
        "signed": (good, True),
        "not signed": (plain, False),
        "by another device": (signed(plain, other), False),
        "altered": (json.dumps(altered).encode(), False),
        "no signature": (json.dumps(altered | {"signature": "%"}).encode(), False),
        "no text": (json.dumps({"signed": 1, "signature": ""}).encode(), False),
    }
    for name, (content, counts) in cases.items():
        (store / f"{BOX}.json").write_bytes(content)
        found = receive(str(store), enrolment.keys())
        assert ([one.report for one in found.seen] == [report], found.unreadable == []) == (counts, counts), name
    (store / f"{BOX}.json").write_bytes(good)
    assert receive(str(store)).reports == [report], "signatures are asked for only with an enrolment"
    enrolment.revoke(BOX)
    assert receive(str(store), enrolment.keys()).reports == []


def test_the_command_invites_and_revokes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def edge(*arguments: object) -> dict[str, Any]:
        assert cli.main(["edge", *map(str, arguments), "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    repo, folder = tmp_path / "repo", tmp_path / "enrolment"
    edge("init", repo, "--new-keys", tmp_path / "keys")
    made = edge("invite", repo, "--device", BOX, "--enrolment", folder, "--valid-h", "1")
    invitation = read_invitation(made["invitation"])
    root = (repo / "metadata" / "1.root.json").read_bytes()
    assert (invitation.device, invitation.root_sha256) == (BOX, new_invitation(BOX, root).root_sha256)
    Enrolment(folder).enrol(invitation.secret, request_for(BOX, ec.generate_private_key(CURVE)), datetime.now(UTC))
    assert edge("revoke", repo, "--device", BOX, "--enrolment", folder) == {"revoked": True}
    edge("init", tmp_path / "other", "--new-keys", tmp_path / "other-keys")
    assert cli.main(["edge", "invite", str(tmp_path / "other"), "--device", BOX, "--enrolment", str(folder)]) == 2
    assert cli.main(["edge", "invite", str(repo), "--device", "a/b", "--enrolment", str(folder)]) == 2
    assert cli.main(["edge", "invite", str(repo), "--device", BOX]) == 2


def test_settings_that_would_send_secrets_in_the_clear_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ECHOPLANE_ENROLMENT_FOLDER", "/enrolment")
    assert read_enrolment_settings().host == "127.0.0.1"
    monkeypatch.setenv("ECHOPLANE_ENROLMENT_HOST", "0.0.0.0")
    with pytest.raises(ConfigError, match="TLS_KEY is needed"):
        read_enrolment_settings()
    monkeypatch.setenv("ECHOPLANE_ENROLMENT_TLS_KEY", "/key")
    with pytest.raises(ConfigError, match="belong together"):
        read_enrolment_settings()
    monkeypatch.delenv("ECHOPLANE_ENROLMENT_FOLDER")
    with pytest.raises(ConfigError, match="ECHOPLANE_ENROLMENT_FOLDER"):
        read_enrolment_settings()


def test_two_processes_cannot_both_use_an_invitation(enrolment: Enrolment, tmp_path: Path) -> None:
    """The second waits for the first's transaction, and then sees that it was used."""
    secret = enrolment.invite(BOX, DAY, NOW).secret
    path = tmp_path / "enrolment" / "enrolment.sqlite"
    with sqlite3.connect(path, isolation_level=None, timeout=0) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(sqlite3.OperationalError, match="locked"), sqlite3.connect(path, timeout=0) as blocked:
            blocked.execute("BEGIN IMMEDIATE")
        other.execute("UPDATE invitations SET key = 'another'")
        other.execute("COMMIT")
    with pytest.raises(Refused, match="was used"):
        enrolment.enrol(secret, request_for(BOX, ec.generate_private_key(CURVE)), NOW)


def test_its_server_takes_a_renewed_certificate_and_waits_for_no_slow_header(
    tmp_path: Path, enrolment: Enrolment
) -> None:
    config = configured(enrolment, EnrolmentSettings(folder=tmp_path / "enrolment"))
    assert config.http is HttpProtocol  # tests/unit/test_certificates.py shows what it does
