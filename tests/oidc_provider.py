"""An OpenID Connect provider for tests: discovery, keys, and the authorization code flow with PKCE."""

import base64
import hashlib
import http.server
import json
import secrets
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from joserfc import jwt
from joserfc.jwk import RSAKey

CLIENT = "echoplane-page"


@dataclass
class Behaviour:
    """What the provider does differently than it should."""

    error: str = ""
    """Error instead of a code."""
    state: str = ""
    """State instead of the one that was sent."""
    id_claims: dict[str, Any] = field(default_factory=dict)
    """Claims of the ID token that are changed."""
    claims: dict[str, Any] = field(default_factory=dict)
    """Claims of the access token that are changed."""
    valid_s: int = 60
    """Stated lifetime of an access token."""


class Provider:
    """Its keys, and the tokens that it signs; everybody is nurse-7. `redirect_uri` is the only one allowed."""

    def __init__(self) -> None:
        self.keys, self.fetches = [RSAKey.generate_key(2048, {"kid": "1"})], 0
        self.redirect_uri, self.does = "", Behaviour()
        self.grants: list[str] = []
        self._codes: dict[str, dict[str, str]] = {}
        self._refresh_tokens: set[str] = set()
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def token(self, header: dict[str, Any] | None = None, key: Any = None, **claims: Any) -> str:
        now = int(time.time())
        full = {"iss": self.url, "aud": "echoplane", "exp": now + 60, "sub": "nurse-7"} | claims
        full = {name: value for name, value in full.items() if value is not None}
        return jwt.encode({"alg": "RS256", "kid": "1"} | (header or {}), full, key or self.keys[0])

    def _discovery(self) -> dict[str, str]:
        names = ("authorization_endpoint", "token_endpoint", "jwks_uri", "end_session_endpoint")
        paths = ("authorize", "token", "keys", "logout")
        return {"issuer": self.url} | {name: f"{self.url}/{path}" for name, path in zip(names, paths, strict=True)}

    def _authorized(self, query: Mapping[str, str]) -> str:
        """Returns the address to which the browser is sent."""
        assert (query["response_type"], query["client_id"]) == ("code", CLIENT)
        assert query["code_challenge_method"] == "S256"
        assert query["redirect_uri"] == self.redirect_uri
        state = {"state": self.does.state or query["state"], "iss": self.url}
        if self.does.error:
            return f"{self.redirect_uri}?{urlencode(state | {'error': self.does.error})}"
        code = secrets.token_urlsafe(16)
        self._codes[code] = dict(query)
        return f"{self.redirect_uri}?{urlencode(state | {'code': code})}"

    def _granted(self, form: Mapping[str, str]) -> tuple[int, dict[str, Any]]:
        """Returns status and body of the token endpoint."""
        refused = 400, {"error": "invalid_grant"}
        if form["client_id"] != CLIENT:
            return refused
        self.grants.append(form["grant_type"])
        if form["grant_type"] == "refresh_token":
            if form["refresh_token"] not in self._refresh_tokens:
                return refused
            return 200, self._access()
        asked = self._codes.pop(form["code"], None)
        digest = hashlib.sha256(form["code_verifier"].encode()).digest()
        if asked is None or asked["code_challenge"] != base64.urlsafe_b64encode(digest).rstrip(b"=").decode():
            return refused
        claims = {"aud": CLIENT, "nonce": asked["nonce"]} | self.does.id_claims
        return 200, self._access() | {"id_token": self.token(**claims)}

    def _access(self) -> dict[str, Any]:
        refresh = secrets.token_urlsafe(16)
        self._refresh_tokens.add(refresh)
        claims = {"roles": ["predict", "operate"], "jti": secrets.token_hex(4)} | self.does.claims
        return {
            "access_token": self.token(**claims),
            "token_type": "Bearer",
            "expires_in": self.does.valid_s,
            "refresh_token": refresh,
        }

    def _handler(provider) -> type[http.server.BaseHTTPRequestHandler]:  # noqa: N805
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                url = urlsplit(self.path)
                if url.path in ("/authorize", "/logout"):
                    query = {name: values[0] for name, values in parse_qs(url.query).items()}
                    logout = query.get("post_logout_redirect_uri", "")
                    self.send_response(302)
                    self.send_header("Location", logout or provider._authorized(query))
                    self.end_headers()
                    return
                provider.fetches += 1
                known = {"keys": [key.as_dict(private=False) for key in provider.keys]}
                self._send(200, known if url.path == "/keys" else provider._discovery())

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                self._send(*provider._granted({name: values[0] for name, values in parse_qs(body).items()}))

            def _send(self, status: int, body: dict[str, Any]) -> None:
                self.send_response(status)
                self.send_header("Access-Control-Allow-Origin", "*")
                self.send_header("Content-Type", "application/json")
                self.end_headers()
                self.wfile.write(json.dumps(body).encode())

            def log_message(self, *_: object) -> None:
                pass

        return Handler
