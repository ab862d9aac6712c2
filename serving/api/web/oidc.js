// Sign-in with an OpenID Connect provider: authorization code with PKCE (RFC 7636), as a public client.

import { setToken } from "./api.js";

const PENDING = "echoplane-sign-in";
const MAX_AGE_MS = 600_000;
const CLOCK_SKEW_S = 300;
const EARLY_MS = 30_000;
const REDIRECT = `${location.origin}/`;

export class SignInFailed extends Error {}

/** Goes to the provider, which returns to REDIRECT; `finish` then goes on to this page. */
export async function begin(provider) {
  if (!window.isSecureContext) throw new SignInFailed("Signing in needs an https address. Ask your administrator for it.");
  const { authorization_endpoint: endpoint } = await discovered(provider);
  const [state, nonce, verifier] = [random(), random(), random()];
  sessionStorage.setItem(PENDING, JSON.stringify({ state, nonce, verifier, page: location.pathname, begun_ms: Date.now() }));
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(verifier));
  const query = { response_type: "code", client_id: provider.client_id, redirect_uri: REDIRECT, scope: provider.scope, state, nonce };
  const challenge = { code_challenge: base64url(new Uint8Array(digest)), code_challenge_method: "S256" };
  location.assign(withQuery(endpoint, { ...query, ...challenge }));
}

/** Ends a sign-in if the provider has just returned to this page; does nothing otherwise. Throws SignInFailed. */
export async function finish(provider) {
  const returned = new URLSearchParams(location.search);
  if (!returned.has("state")) return;
  history.replaceState(null, "", location.pathname); // no code stays in the address or the history
  const pending = JSON.parse(sessionStorage.getItem(PENDING) ?? "null");
  sessionStorage.removeItem(PENDING);
  if (!pending || pending.state !== returned.get("state") || Date.now() - pending.begun_ms > MAX_AGE_MS)
    throw new SignInFailed("This sign-in was not begun in this tab, or took too long. Sign in again.");
  if ((returned.get("iss") ?? provider.issuer) !== provider.issuer) throw new SignInFailed("Another provider answered. Sign in again.");
  if (!returned.has("code")) throw new SignInFailed(`The provider refused the sign-in (${plain(returned.get("error"))}).`);
  const grant = { grant_type: "authorization_code", code: returned.get("code"), redirect_uri: REDIRECT, code_verifier: pending.verifier };
  const given = await granted(provider, grant);
  check(provider, given.id_token, pending.nonce);
  keep(provider, given);
  if (pending.page !== location.pathname) {
    location.replace(pending.page);
    await new Promise(() => {}); // the page is about to be left
  }
}

/** Ends the session at the provider too, if it can: the next person at this computer must not sign in as this one. */
export async function end(provider) {
  const { end_session_endpoint: endpoint } = await discovered(provider).catch(() => ({}));
  if (endpoint) location.assign(withQuery(endpoint, { client_id: provider.client_id, post_logout_redirect_uri: REDIRECT }));
  else location.reload();
}

function keep(provider, { access_token: token, expires_in: left_s, refresh_token: refresh }) {
  const due_ms = left_s ? Date.now() + Math.max(1000 * left_s - EARLY_MS, 500 * left_s) : Infinity;
  setToken(token, due_ms, refresh ? () => renew(provider, refresh) : null);
}

async function renew(provider, refresh) {
  try {
    const given = await granted(provider, { grant_type: "refresh_token", refresh_token: refresh });
    keep(provider, { refresh_token: refresh, ...given });
  } catch (failed) {
    if (!(failed instanceof SignInFailed)) throw failed; // otherwise the old token is sent until the service refuses it
  }
}

async function discovered(provider) {
  const found = await fetched(`${provider.issuer.replace(/\/$/, "")}/.well-known/openid-configuration`);
  if (found.issuer !== provider.issuer) throw new SignInFailed("The provider names itself differently than this service does.");
  return found;
}

async function granted(provider, grant) {
  const { token_endpoint: endpoint } = await discovered(provider);
  const given = await fetched(endpoint, { method: "POST", body: new URLSearchParams({ ...grant, client_id: provider.client_id }) });
  if (typeof given.access_token !== "string") throw new SignInFailed("The provider gave no access token.");
  return given;
}

async function fetched(url, options = {}) {
  let response;
  try {
    response = await fetch(url, { ...options, credentials: "omit", redirect: "error" });
  } catch {
    throw new SignInFailed("The provider cannot be reached from this browser.");
  }
  const body = await response.json().catch(() => ({}));
  if (!response.ok) throw new SignInFailed(`The provider refused the sign-in (${plain(body.error)}).`);
  return body;
}

/** Checks the ID token. It came from the provider itself over TLS, which stands for its signature (OpenID Connect 3.1.3.7). */
function check(provider, idToken, nonce) {
  let claims;
  try {
    const part = idToken.split(".")[1].replaceAll("-", "+").replaceAll("_", "/");
    claims = JSON.parse(new TextDecoder().decode(Uint8Array.from(atob(part), (letter) => letter.charCodeAt(0))));
  } catch {
    throw new SignInFailed("The provider gave no ID token.");
  }
  const isOurs = claims.iss === provider.issuer && [claims.aud].flat().includes(provider.client_id) && claims.nonce === nonce;
  if (!isOurs || !(claims.exp > Date.now() / 1000 - CLOCK_SKEW_S)) throw new SignInFailed("The provider's ID token is not for this sign-in. Sign in again.");
}

const withQuery = (endpoint, query) => {
  const url = new URL(endpoint);
  for (const [name, value] of Object.entries(query)) url.searchParams.set(name, value);
  return url.href;
};

const random = () => base64url(crypto.getRandomValues(new Uint8Array(32)));
const base64url = (bytes) => btoa(String.fromCharCode(...bytes)).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
const plain = (code) => (/^[a-z_]{1,40}$/.test(code ?? "") ? code : "no reason given");
