// Talks to the service. Every failure becomes a Problem, so that the page has one way to show what went wrong.

const POLL_MS = 500;

export class Problem extends Error {
  constructor(body, retryAfter = null) {
    super(body.detail);
    this.body = body;
    this.retryAfter = retryAfter ?? body.retry_after_s ?? null;
  }
}

const KEY = "vidtr-api-key";

let key = "";

/** Send this API key with every request from now on, also after a reload of this tab; an empty one sends none. */
export function useKey(text) {
  key = text;
  try {
    sessionStorage.setItem(KEY, text);
  } catch {
    // Storage may be forbidden: then the key lasts as long as the page.
  }
}

/** The key of this tab; empty where there is none. */
export function keptKey() {
  try {
    return sessionStorage.getItem(KEY) ?? "";
  } catch {
    return "";
  }
}

const authorization = () => (key ? { Authorization: `Bearer ${key}` } : {});

/** The models that can be asked, and whether videos may be named by their URL. */
export async function served() {
  const response = await get("v1/models");
  return await response.json();
}

/**
 * Upload `file`, or have the service fetch what is at its `url`, and return the answer.
 *
 * `tell(stage, known)` hears of "upload" with the bytes sent, and then of the service's own stages, among them a
 * "window" for each one that is scored before the answer is complete.
 * Aborting `signal` rejects with an AbortError, and the service drops the job.
 */
export async function classify(file, options, tell, signal) {
  let id = null;
  let answer = null;
  const response = await upload(`v1/classify?${new URLSearchParams(options)}`, file, signal, tell, (stage, known) => {
    if (stage === "problem") throw new Problem(known);
    id = known.id ?? id;
    if (stage === "result") answer = known;
    else tell(stage, known);
  });
  // A process that shuts down lets its streams go; the job is in safe hands.
  return answer ?? (id ? poll(`v1/jobs/${id}`, tell, signal) : response);
}

/** The answer of a job as a file, in one of the formats that the service writes: a name and the bytes. */
export async function exported(id, format, name) {
  const response = await get(`v1/jobs/${id}/result?${new URLSearchParams({ format, name })}`);
  const [, encoded] = /filename\*=UTF-8''([^;]+)/.exec(response.headers.get("Content-Disposition") ?? "") ?? [];
  return new File([await response.blob()], encoded ? decodeURIComponent(encoded) : `answer.${format}`);
}

/** Fetch what the service has at `path`. */
export const get = (path, method = "GET", signal = null) => asked(path, { method, signal, headers: authorization() });

/** Send `body`, and return what the service says to it. */
export async function post(path, body, type, signal = null) {
  const headers = { ...authorization(), "Content-Type": type };
  return await (await asked(path, { method: "POST", body, headers, signal })).json();
}

/** `hear(event, data)` each event of a stream, until it ends. Aborting `signal` rejects with an AbortError. */
export async function follow(path, signal, hear) {
  const response = await get(path, "GET", signal);
  const events = new EventReader(hear);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  for (let text = ""; ; ) {
    const { done, value } = await reader.read();
    if (done) return;
    text = events.rest(text + value);
  }
}

async function asked(path, request) {
  const response = await fetch(path, request).catch((error) => {
    throw error.name === "AbortError" ? error : unreachable();
  });
  if (!response.ok) throw problemOf(await response.text(), response.status, response.headers.get("Retry-After"));
  return response;
}

// XMLHttpRequest, because fetch does not report how much of a body has been sent.
function upload(url, file, signal, tell, hear) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    const events = new EventReader(hear);
    const read = () => {
      if (request.status !== 200) return;
      try {
        events.read(request.responseText);
      } catch (error) {
        reject(error);
        request.abort();
      }
    };
    signal.addEventListener("abort", () => request.abort(), { once: true });
    request.upload.addEventListener("progress", ({ loaded, total }) => tell("upload", { loaded, total }));
    request.addEventListener("progress", read);
    request.addEventListener("abort", () => reject(new DOMException("cancelled", "AbortError")));
    request.addEventListener("error", () => reject(unreachable()));
    request.addEventListener("load", () => {
      if (request.status >= 400) {
        reject(problemOf(request.responseText, request.status, request.getResponseHeader("Retry-After")));
      } else {
        read();
        resolve();
      }
    });
    request.open("POST", url);
    request.setRequestHeader("Accept", "text/event-stream");
    if (file.url) request.setRequestHeader("Content-Type", "application/json");
    for (const [name, value] of Object.entries(authorization())) request.setRequestHeader(name, value);
    request.send(file.url ? JSON.stringify({ source: { url: file.url } }) : formOf(file));
  });
}

function formOf(file) {
  const form = new FormData();
  form.append("file", file);
  return form;
}

/** Reads server-sent events from a text that grows. */
class EventReader {
  constructor(hear) {
    this.hear = hear;
    this.done = 0;
  }

  read(text) {
    for (let end = text.indexOf("\n\n", this.done); end >= 0; end = text.indexOf("\n\n", this.done)) {
      const block = text.slice(this.done, end);
      this.done = end + 2;
      const fields = Object.fromEntries(block.split("\n").map((line) => line.split(/: (.*)/, 2)));
      if (fields.event) this.hear(fields.event, JSON.parse(fields.data));
    }
  }

  /** The same for a text that does not end: what was read of it is left out of what is returned. */
  rest(text) {
    this.done = 0;
    this.read(text);
    return text.slice(this.done);
  }
}

async function poll(location, tell, signal) {
  for (;;) {
    const response = await fetch(location, { signal, headers: authorization() }).catch((error) => {
      throw error.name === "AbortError" ? error : unreachable();
    });
    const text = await response.text();
    if (!response.ok) throw problemOf(text, response.status, response.headers.get("Retry-After"));
    const job = JSON.parse(text);
    if (job.result) return job.result;
    if (job.error) throw new Problem(job.error);
    tell("running", job);
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    signal.throwIfAborted();
  }
}

function unreachable() {
  return new Problem({ code: "unreachable", detail: "The server cannot be reached, or it closed the connection." });
}

function problemOf(text, status, retryAfter) {
  try {
    const body = JSON.parse(text);
    if (body.code && body.detail) return new Problem(body, retryAfter);
  } catch {
    // Not ours: a proxy in between may answer in HTML.
  }
  return new Problem({ code: `http_${status}`, detail: `The server answered ${status} without saying why.` });
}
