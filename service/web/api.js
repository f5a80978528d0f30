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

export async function servedModels() {
  const response = await fetch("v1/models", { headers: authorization() }).catch(() => {
    throw unreachable();
  });
  if (!response.ok) throw problemOf(await response.text(), response.status, response.headers.get("Retry-After"));
  return (await response.json()).models;
}

/**
 * Upload `file` and return the answer.
 *
 * `tell(stage, known)` hears of "upload" with the bytes sent, and then of the service's own stages.
 * Aborting `signal` rejects with an AbortError, and the service drops the job.
 */
export async function classify(file, options, tell, signal) {
  let id = null;
  let answer = null;
  const response = await upload(`v1/classify?${new URLSearchParams(options)}`, file, signal, tell, (stage, known) => {
    if (stage === "problem") throw new Problem(known);
    id = known.id;
    if (stage === "result") answer = known;
    else tell(stage, known);
  });
  // A process that shuts down lets its streams go; the job is in safe hands.
  return answer ?? (id ? follow(`v1/jobs/${id}`, tell, signal) : response);
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
    const form = new FormData();
    form.append("file", file);
    request.open("POST", url);
    request.setRequestHeader("Accept", "text/event-stream");
    for (const [name, value] of Object.entries(authorization())) request.setRequestHeader(name, value);
    request.send(form);
  });
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
}

async function follow(location, tell, signal) {
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
