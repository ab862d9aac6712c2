"""Access to the service: by tokens from a file, by an OpenID Connect provider's, or from this machine alone."""

import base64
import hmac
import json
import logging
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from joserfc.jwk import RSAKey

from echoplane import cli
from echoplane.errors import ConfigError
from echoplane.settings import ServingSettings
from echoplane.tokens import change_tokens, find_token, new_token, read_tokens
from serving.api.http import app
from serving.api.models.slots import Slot
from tests import dicom_files as dicom
from tests.oidc_provider import Provider
from tests.serving_app import Asking, tiny_slot

TASK = "/v1/echo-view-video"
ROUTES = {"/v1/models": "GET", "/docs": "GET", "/openapi.json": "GET", "/metrics": "GET", "/v1/study": "POST"}
ROUTES |= {"/v1/history": "GET"}
ROUTES |= dict.fromkeys((TASK, "/v1/explain/echo-view-video", "/v1/dicom", "/v1/frames", "/v1/feedback"), "POST")


@pytest.fixture(scope="module")
def slot(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slot]:
    with tiny_slot(tmp_path_factory.mktemp("bundle")) as slot:
        yield slot


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "tokens.json"


def token_for(file: Path, *roles: str, name: str = "radiology", expires: datetime | None = None) -> str:
    token, entry = new_token(name, "lakeside", roles, expires)
    change_tokens(file, add=entry)
    return token


def clip() -> dict[str, Any]:
    return {"content": dicom.jpeg_clip(), "headers": {"content-type": "application/dicom"}}


def test_every_route_but_health_is_denied_without_a_token(slot: Slot, file: Path) -> None:
    token_for(file, "predict")
    ask = Asking(slot, ServingSettings(token_file=str(file)), host="127.0.0.1")
    for path, method in ROUTES.items():
        for token in (None, "", "x", "echoplane_0000000000000000_" + "a" * 43):
            response = ask(method, path, token)
            assert (response.status_code, response.json()["type"][-15:]) == (401, "unauthenticated"), path
            assert response.headers["www-authenticate"].startswith("Bearer")
    assert [ask("GET", path).status_code for path in ("/livez", "/readyz")] == [200, 200]


def test_a_role_allows_its_routes_and_no_others(slot: Slot, file: Path) -> None:
    ask = Asking(slot, ServingSettings(token_file=str(file)))
    predict, feedback, operate = (token_for(file, role, name=role) for role in ("predict", "feedback", "operate"))
    assert ask("POST", TASK, predict, **clip()).status_code == 200
    assert ask("GET", "/metrics", predict).status_code == 403
    assert ask("POST", TASK, feedback, **clip()).status_code == 403
    assert ask("POST", TASK, operate, **clip()).status_code == 403
    assert ask("GET", "/metrics", operate).status_code == 200
    assert [ask("GET", "/v1/models", token).status_code for token in (predict, feedback, operate)] == [200] * 3


def test_a_token_counts_from_its_making_to_its_removal_without_a_restart(slot: Slot, file: Path) -> None:
    first = token_for(file, "predict", name="first")
    ask = Asking(slot, ServingSettings(token_file=str(file)))
    assert ask("GET", "/v1/models", first).status_code == 200
    second = token_for(file, "predict", name="second")
    assert ask("GET", "/v1/models", second).status_code == 200
    assert change_tokens(file, remove="first") == 1
    assert ask("GET", "/v1/models", first).status_code == 401
    assert ask("GET", "/v1/models", second).status_code == 200


@pytest.mark.parametrize("damage", ["gone", "broken", "writable"])
def test_a_token_file_that_cannot_be_trusted_lets_nobody_in(slot: Slot, file: Path, damage: str) -> None:
    token = token_for(file, "predict")
    ask = Asking(slot, ServingSettings(token_file=str(file)), host="127.0.0.1")
    assert ask("GET", "/v1/models", token).status_code == 200
    if damage == "gone":
        file.unlink()
    else:
        file.write_text(file.read_text() + ("]" if damage == "broken" else " "))
        file.chmod(0o622 if damage == "writable" else 0o600)
    response = ask("GET", "/v1/models", token)
    assert (response.status_code, response.json()["type"]) == (503, "urn:echoplane:problem:access-unavailable")
    assert ask("GET", "/livez").status_code == 200


def test_the_file_holds_no_token_and_only_its_owner_reads_it(file: Path) -> None:
    token = token_for(file, "predict")
    secret = token.split("_", 2)[2]
    assert secret not in file.read_text()
    assert file.stat().st_mode & 0o777 == 0o600
    (entry,) = read_tokens(file).values()
    assert find_token(token, {entry.id: entry}) == entry
    assert find_token(token[:-1] + ("a" if token[-1] != "a" else "b"), {entry.id: entry}) is None
    assert find_token(f"other_{entry.id}_{secret}", {entry.id: entry}) is None


def test_a_token_ends_when_it_expires(file: Path) -> None:
    now = datetime.now(UTC)
    old = token_for(file, "predict", name="old", expires=now - timedelta(seconds=1))
    new = token_for(file, "predict", name="new", expires=now + timedelta(days=1))
    entries = read_tokens(file)
    assert find_token(old, entries) is None
    assert find_token(new, entries) is not None


def test_one_caller_has_a_rate_and_leaves_the_others_theirs(slot: Slot, file: Path) -> None:
    busy, other = token_for(file, "predict", name="busy"), token_for(file, "predict", name="other")
    ask = Asking(slot, ServingSettings(token_file=str(file), requests_per_minute=3))
    assert [ask("GET", "/v1/models", busy).status_code for _ in range(4)] == [200, 200, 200, 429]
    refused = ask("GET", "/v1/models", busy)
    assert refused.json()["type"] == "urn:echoplane:problem:rate-limit"
    assert 1 <= int(refused.headers["retry-after"]) <= 20
    assert ask("GET", "/v1/models", other).status_code == 200


def test_without_authentication_only_this_machine_is_answered(slot: Slot) -> None:
    for host, allowed in (("127.0.0.1", True), ("[::1]", True), ("10.1.2.3", False), ("0.0.0.0", False)):
        ask = Asking(slot, ServingSettings(), host=host)
        response = ask("GET", "/v1/models", headers={"host": "127.0.0.1", "x-forwarded-for": "127.0.0.1"})
        assert (response.status_code == 200) is allowed, host
        assert ask("GET", "/livez").status_code == 200
        if not allowed:
            assert "ECHOPLANE_ALLOW_UNAUTHENTICATED" in response.json()["detail"]
    allowed_by_name = Asking(slot, ServingSettings(allow_unauthenticated=True))
    assert allowed_by_name("GET", "/v1/models").status_code == 200


OTHERS_PAGES = [
    {"host": "clips.example.org"},
    {"host": "127.0.0.1.example.org:3000"},
    {"host": "localhost.example.org"},
    {"host": "127.0.0.1:3000", "origin": "https://clips.example.org"},
    {"host": "127.0.0.1:3000", "origin": "null"},
    {"host": "[::1"},
]


@pytest.mark.parametrize("headers", OTHERS_PAGES, ids=str)
def test_a_page_of_another_site_is_not_this_machine(slot: Slot, headers: dict[str, str]) -> None:
    """A browser on this machine runs other sites' pages, which may let a name of theirs point to it."""
    ask = Asking(slot, ServingSettings(), host="127.0.0.1")
    for path, method in ROUTES.items():
        assert ask(method, path, headers=headers).status_code == 403, path
    own = {"host": "localhost:3000", "origin": "http://localhost:3000"}
    assert ask("GET", "/v1/models", headers=own).status_code == 200


def test_each_request_leaves_one_audit_line_without_patient_or_digest(
    slot: Slot, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    token = token_for(file, "predict")
    ask = Asking(slot, ServingSettings(token_file=str(file)))
    with caplog.at_level(logging.INFO, "echoplane.audit"):
        answered = ask("POST", TASK, token, **clip())
        ask("POST", TASK, token, content=b"no image", headers={"content-type": "application/dicom"})
        ask("GET", "/metrics", "wrong")
        ask("GET", "/livez")
    records = [r.getMessage() for r in caplog.records if r.name == "echoplane.audit"]
    lines = [json.loads(line.removeprefix("audit ")) for line in records]
    assert [(line["caller"], line["site"], line["status"]) for line in lines] == [
        *(("radiology", "lakeside", 200), ("radiology", "lakeside", 400), (None, None, 401))
    ]
    body = answered.json()
    outcome = "answered" if body["label"] else "abstained"
    assert lines[0]["outcomes"] == [{"task": "echo-view-video", "model": body["model"]["version"], "outcome": outcome}]
    assert lines[1]["outcomes"][0]["outcome"] == "not-an-image"
    assert lines[0]["roles"] == ["predict"]
    assert token not in caplog.text
    assert not [word for word in dicom.PLANTED if word in caplog.text]


@pytest.fixture
def provider() -> Iterator[Provider]:
    provider = Provider()
    yield provider
    provider.close()


def test_a_providers_token_is_accepted_with_its_roles(slot: Slot, provider: Provider) -> None:
    ask = Asking(slot, ServingSettings(oidc_issuer=provider.url, oidc_audience="echoplane"))
    assert ask("GET", "/v1/models", provider.token(roles=["predict"])).status_code == 200
    assert ask("GET", "/v1/models", provider.token(roles="operate predict")).status_code == 200
    assert ask("GET", "/metrics", provider.token(roles=["predict", "root"])).status_code == 403
    assert ask("GET", "/v1/models", provider.token()).status_code == 403
    assert provider.fetches == 2


def signed_with_public_key(provider: Provider, payload: str) -> str:
    """An HS256 token whose secret is the public key: an old confusion of signatures with shared secrets."""
    signed = (base64url(b'{"alg":"HS256","kid":"1"}') + "." + payload).encode()
    mac = hmac.digest(provider.keys[0].as_pem(private=False), signed, "sha256")
    return f"{signed.decode()}.{base64url(mac)}"


def base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def test_a_token_that_is_not_the_providers_own_is_refused(slot: Slot, provider: Provider) -> None:
    ask = Asking(slot, ServingSettings(oidc_issuer=provider.url, oidc_audience="echoplane"))
    stranger = RSAKey.generate_key(2048, {"kid": "1"})
    good = provider.token(roles=["predict"])
    header, payload, _ = good.split(".")
    unsigned = "eyJhbGciOiJub25lIn0." + payload + "."
    refused = {
        "signed by another key": provider.token(key=stranger, roles=["predict"]),
        "signed with the public key as a secret": signed_with_public_key(provider, payload),
        "unsigned": unsigned,
        "of another issuer": provider.token(iss="https://elsewhere", roles=["predict"]),
        "for another audience": provider.token(aud="other", roles=["predict"]),
        "for an audience that begins alike": provider.token(aud="echoplane-other", roles=["predict"]),
        "for other audiences": provider.token(aud=["other", "echoplane-page"], roles=["predict"]),
        "for no audience": provider.token(aud=[], roles=["predict"]),
        "without an audience": provider.token(aud=None, roles=["predict"]),
        "with an audience that is no name": provider.token(aud={"echoplane": True}, roles=["predict"]),
        "expired": provider.token(exp=int(time.time()) - 3600, roles=["predict"]),
        "without an end": provider.token(exp=None, roles=["predict"]),
        "without a signature": f"{header}.{payload}.",
        "no JWT": "a.b.c",
    }
    for name, token in refused.items():
        assert ask("GET", "/v1/models", token).status_code == 401, name
    assert ask("GET", "/v1/models", good).status_code == 200
    several = provider.token(aud=["other", "echoplane"], roles=["predict"])
    assert ask("GET", "/v1/models", several).status_code == 200
    assert provider.fetches <= 4, "bad tokens make nobody ask the provider again and again"


def test_a_provider_that_is_unavailable_gives_503_and_cached_keys_stay_valid(slot: Slot, provider: Provider) -> None:
    settings = ServingSettings(oidc_issuer=provider.url, oidc_audience="echoplane")
    cached, cold = Asking(slot, settings), Asking(slot, settings)
    token = provider.token(roles=["predict"])
    assert cached("GET", "/v1/models", token).status_code == 200
    provider.close()
    assert cached("GET", "/v1/models", token).status_code == 200
    assert cold("GET", "/v1/models", token).status_code == 503


def test_an_issuer_without_an_audience_is_refused(slot: Slot) -> None:
    with pytest.raises(ConfigError, match="ECHOPLANE_OIDC_AUDIENCE"):
        app.build(app.Service({slot.task: slot}, ServingSettings(oidc_issuer="https://issuer")))


@pytest.mark.parametrize(
    ("name", "value"),
    [("oidc_issuer", "http://issuer"), ("oidc_keys_url", "http://issuer/keys"), ("oidc_issuer", "file:///keys")],
)
def test_keys_of_a_provider_that_others_could_change_on_the_way_are_refused(slot: Slot, name: str, value: str) -> None:
    given = {"oidc_issuer": "https://issuer", "oidc_audience": "echoplane"} | {name: value}
    with pytest.raises(ConfigError, match=f"{name.upper()}: expected https"):
        app.build(app.Service({slot.task: slot}, ServingSettings(**given)))


def test_a_discovery_document_that_names_keys_over_http_lets_nobody_in(
    slot: Slot, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = Asking(slot, ServingSettings(oidc_issuer=provider.url, oidc_audience="echoplane"))
    keys = f"{provider.url}/keys".replace("127.0.0.1", "0.0.0.0")  # another name of the same server
    monkeypatch.setattr(provider, "_discovery", lambda: {"jwks_uri": keys})
    assert ask("GET", "/v1/models", provider.token(roles=["predict"])).status_code == 503


@pytest.mark.parametrize(
    "settings",
    [
        {"oidc_issuer": ""},
        {"oidc_issuer": "http://issuer"},
        {"oidc_issuer": "https://issuer; script-src *"},
        {"oidc_issuer": "https://issuer", "oidc_scope": "profile"},
    ],
)
def test_a_sign_in_that_cannot_be_safe_is_refused_at_the_start(slot: Slot, settings: dict[str, str]) -> None:
    given = {"oidc_client_id": "page", "oidc_audience": "echoplane"} | settings
    with pytest.raises(ConfigError, match="ECHOPLANE_OIDC_"):
        app.build(app.Service({slot.task: slot}, ServingSettings(**given)))


def test_the_page_may_reach_the_provider_alone_and_only_if_people_sign_in_there(slot: Slot, provider: Provider) -> None:
    settings = {"oidc_issuer": f"{provider.url}/realm", "oidc_audience": "echoplane"}
    ask = Asking(slot, ServingSettings(**settings))
    assert ask("GET", "/").headers["content-security-policy"].endswith("connect-src 'self'")
    assert ask("GET", "/web/sign-in.json").json() == {"tokens": True, "provider": None}
    ask = Asking(slot, ServingSettings(**settings, oidc_client_id="page"))
    assert ask("GET", "/").headers["content-security-policy"].endswith(f"connect-src 'self' {provider.url}")
    way = {"issuer": f"{provider.url}/realm", "client_id": "page", "scope": "openid"}
    assert ask("GET", "/web/sign-in.json").json() == {"tokens": False, "provider": way}


def test_the_command_makes_lists_and_removes_tokens(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = ["--file", str(file)]
    assert cli.main(["token", "new", "pacs", *base, "--site", "lakeside", "--roles", "predict,operate"]) == 0
    token = capsys.readouterr().out.strip()
    entry = find_token(token, read_tokens(file))
    assert entry is not None
    assert (entry.name, entry.site, entry.roles) == ("pacs", "lakeside", ("predict", "operate"))
    assert cli.main(["token", "list", *base]) == 0
    assert capsys.readouterr().out.strip() == "pacs  site lakeside  predict,operate  without end"
    assert cli.main(["token", "remove", "pacs", *base]) == 0
    assert read_tokens(file) == {}
    assert cli.main(["token", "remove", "pacs", *base]) == 2
    assert cli.main(["token", "new", "pacs", *base, "--roles", "predict,root"]) == 2
    assert cli.main(["token", "new", "two words", *base]) == 2
