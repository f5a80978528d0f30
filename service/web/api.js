// Talks to the service. Every failure becomes a Problem, so that the page has one way to show what went wrong.

const POLL_MS = 500;

export class Problem extends Error {
  constructor(body, retryAfter = null) {
    super(body.detail);
    this.body = body;
    this.retryAfter = retryAfter;
  }
}

let key = "";

/** Send this API key with every request from now on; an empty one sends none. */
export function useKey(text) {
  key = text;
}

const authorization = () => (key ? { Authorization: `Bearer ${key}` } : {});

export async function servedModels() {
  const response = await fetch("v1/models", { headers: authorization() });
  if (!response.ok) throw problemOf(await response.text(), response.status, response.headers.get("Retry-After"));
  return (await response.json()).models;
}

/**
 * Upload `file` and return the answer.
 *
 * `onProgress` gets ("upload", share sent) and then ("work", share of clips done, or null where it is not known).
 * Aborting `signal` rejects with an AbortError.
 */
export async function classify(file, options, onProgress, signal) {
  const answer = await upload(`v1/classify?${new URLSearchParams(options)}`, file, onProgress, signal);
  return answer.status === 202 ? follow(answer.location, onProgress, signal) : answer.body;
}

// XMLHttpRequest, because fetch does not report how much of a body has been sent.
function upload(url, file, onProgress, signal) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    signal.addEventListener("abort", () => request.abort(), { once: true });
    request.upload.addEventListener("progress", (event) => {
      if (event.lengthComputable) onProgress("upload", event.loaded / event.total);
    });
    request.upload.addEventListener("load", () => onProgress("work", null));
    request.addEventListener("abort", () => reject(new DOMException("cancelled", "AbortError")));
    request.addEventListener("error", () => reject(unreachable()));
    request.addEventListener("load", () => {
      const { status, responseText } = request;
      if (status >= 400) {
        reject(problemOf(responseText, status, request.getResponseHeader("Retry-After")));
      } else {
        // A leading slash would leave a path that a proxy serves the page under.
        const location = request.getResponseHeader("Location")?.replace(/^\//, "");
        resolve({ status, location, body: JSON.parse(responseText) });
      }
    });
    const form = new FormData();
    form.append("file", file);
    request.open("POST", url);
    for (const [name, value] of Object.entries(authorization())) request.setRequestHeader(name, value);
    request.send(form);
  });
}

async function follow(location, onProgress, signal) {
  for (;;) {
    const response = await fetch(location, { signal, headers: authorization() }).catch((error) => {
      throw error.name === "AbortError" ? error : unreachable();
    });
    const text = await response.text();
    if (!response.ok) throw problemOf(text, response.status, response.headers.get("Retry-After"));
    const job = JSON.parse(text);
    if (job.result) return job.result;
    if (job.error) throw new Problem(job.error);
    onProgress("work", job.clips_done / job.clips_total);
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
