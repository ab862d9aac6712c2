// Requests to the service. The token stays in this tab's session storage; file names are never sent.

const KEY = "echoplane-token";
const TRIES = 3;

export class Refused extends Error {
  /** A request that got no answer: `status` is 0 if the service could not be reached. */
  constructor(status, problem) {
    super(problem.detail ?? "the service gave no reason.");
    this.status = status;
    this.kind = (problem.type ?? "").split(":").pop();
    this.requestId = problem.request_id ?? null;
  }
}

/** How a token that ends soon is replaced: `renew()` returns the next one, or null. It does not outlive the page. */
const renewal = { due_ms: Infinity, renew: null, running: null };

export const hasToken = () => sessionStorage.getItem(KEY) !== null;
export const forgetToken = () => sessionStorage.removeItem(KEY);

export function setToken(token, due_ms = Infinity, renew = null) {
  sessionStorage.setItem(KEY, token);
  Object.assign(renewal, { due_ms, renew });
}

async function renewIfDue() {
  if (!renewal.renew || Date.now() < renewal.due_ms) return;
  renewal.running ??= renewal.renew().finally(() => (renewal.running = null));
  await renewal.running;
}

/** Sends a request; tries again if the service is busy. Throws Refused if there is no answer. */
export async function send(path, options = {}) {
  await renewIfDue();
  const token = sessionStorage.getItem(KEY);
  const headers = { ...options.headers, ...(token ? { authorization: `Bearer ${token}` } : {}) };
  for (let tried = 1; ; tried += 1) {
    let response;
    try {
      response = await fetch(path, { ...options, headers, credentials: "omit", redirect: "error" });
    } catch {
      throw new Refused(0, { detail: "the service cannot be reached. Check the connection, then try again." });
    }
    if (response.ok) return response;
    const problem = await response.json().catch(() => ({}));
    if (response.status !== 429 || tried >= TRIES) throw new Refused(response.status, problem);
    const wait_s = Number(response.headers.get("retry-after")) || 1;
    await new Promise((resolve) => setTimeout(resolve, 1000 * wait_s * (1 + Math.random())));
  }
}

/** The models that answer, with their labels, and whether feedback is kept. */
export const models = async () => (await send("/v1/models")).json();

const form = (...files) => {
  const body = new FormData();
  for (const file of files) body.append("file", file, "file");
  return body;
};

/** The answers of every task that accepts the file, and its problems. */
export const answersTo = async (file) =>
  (await (await send("/v1/study", { method: "POST", body: form(file) })).json()).files;

/** The answers to the files as DICOM objects: a zip, and the number of answers and files that it has none of. */
export async function dicomOf(files) {
  const response = await send("/v1/dicom", { method: "POST", body: form(...files) });
  return { zip: await response.blob(), leftOut: Number(response.headers.get("echoplane-left-out")) };
}

/** The frames of a clip: the header of the pack, and each picture as a JPEG. */
export async function framesOf(file) {
  const response = await send("/v1/frames", { method: "POST", body: form(file) });
  return unpacked(await response.arrayBuffer());
}

export function unpacked(buffer) {
  const size = new DataView(buffer).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, size)));
  let start = 4 + size;
  const pictures = header.lengths.map((length) => {
    const picture = new Blob([new Uint8Array(buffer, start, length)], { type: "image/jpeg" });
    start += length;
    return picture;
  });
  return { header, pictures };
}

/** The explanation of the answer of `task` to the file. */
export const explanationOf = async (file, task) =>
  (await send(`/v1/explain/${encodeURIComponent(task)}`, { method: "POST", body: form(file) })).json();

/** Sends the right label of an answered request. */
export const sendFeedback = (requestId, task, label) =>
  send("/v1/feedback", {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ request_id: requestId, task, label }),
  });
