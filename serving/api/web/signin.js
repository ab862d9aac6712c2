// Sign-in by token: the form is shown if the service asks for one.

import * as api from "./api.js";
import { byId, capital } from "./dom.js";

/** Calls `probe`, which throws Refused if nobody is let in, then `welcome` with what it returned. */
export async function signIn(probe, welcome) {
  byId("sign-in").addEventListener("submit", async (event) => {
    event.preventDefault();
    api.setToken(byId("token").value.trim());
    byId("token").value = "";
    await enter(probe, welcome, "This token is unknown or has ended.");
  });
  byId("sign-out").addEventListener("click", signOut);
  await enter(probe, welcome, "");
}

export function signOut() {
  api.forgetToken();
  location.reload();
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
  if (form) byId("token").focus();
}

/** Shows `text` above the page's content; nothing if it is empty. */
export function say(text) {
  byId("notice").textContent = capital(text);
  byId("notice").hidden = !text;
}
