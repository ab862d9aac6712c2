// Sign-in by token, or with the provider that the service names: the form is shown if the service asks for a token.

import * as api from "./api.js";
import { byId, capital } from "./dom.js";
import * as oidc from "./oidc.js";

const UNKNOWN = "This token is unknown or has ended.";
const NOT_ACCEPTED = "The service did not accept the sign-in: it has ended, or is not for this service. Sign in again.";

/** Calls `probe`, which throws Refused if nobody is let in, then `welcome` with what it returned. */
export async function signIn(probe, welcome) {
  const ways = await (await api.send("/web/sign-in.json")).json(); // beside the page itself: if one came, so does the other
  byId("sign-in").addEventListener("submit", async (event) => {
    event.preventDefault();
    api.setToken(byId("token").value.trim());
    byId("token").value = "";
    await enter(probe, welcome, UNKNOWN);
  });
  byId("sign-out").addEventListener("click", () => leave(ways.provider));
  byId("sign-in-token").hidden = !ways.tokens;
  byId("sign-in-provider").hidden = !ways.provider;
  byId("sign-in-provider").addEventListener("click", () => withProvider(() => oidc.begin(ways.provider)));
  const failure = ways.provider ? await withProvider(() => oidc.finish(ways.provider)) : "";
  await enter(probe, welcome, failure || (api.hasToken() ? NOT_ACCEPTED : ""));
}

/** Forgets the token and asks for another. */
export function signOut() {
  api.forgetToken();
  location.reload();
}

function leave(provider) {
  api.forgetToken();
  if (provider) oidc.end(provider);
  else location.reload();
}

/** Returns why a step of the sign-in failed, and shows it; "" if it did not fail. */
async function withProvider(step) {
  try {
    await step();
    return "";
  } catch (failed) {
    if (!(failed instanceof oidc.SignInFailed)) throw failed;
    problem(failed.message);
    return failed.message;
  }
}

async function enter(probe, welcome, failure) {
  try {
    const found = await probe();
    show(false);
    say("");
    await welcome(found);
  } catch (refused) {
    if (!(refused instanceof api.Refused)) throw refused;
    if (refused.status === 401) api.forgetToken();
    const mayTry = refused.status === 401 || (refused.status === 403 && api.hasToken());
    show(mayTry);
    if (refused.status === 401) problem(failure);
    else say(refused.message);
  }
}

function problem(text) {
  byId("sign-in-problem").textContent = text;
  byId("sign-in-problem").hidden = !text;
}

function show(form) {
  byId("sign-in").hidden = !form;
  byId("sign-out").hidden = !api.hasToken();
  problem("");
  if (form) [byId("sign-in-provider"), byId("token")].find((each) => each.checkVisibility())?.focus();
}

/** Shows `text` above the page's content; nothing if it is empty. */
export function say(text) {
  byId("notice").textContent = capital(text);
  byId("notice").hidden = !text;
}
