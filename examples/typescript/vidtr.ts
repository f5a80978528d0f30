// A typed client without dependencies, for browsers, Node 18 and later, Deno and Bun.
// The shapes are those of `/openapi.json`; `npx openapi-typescript http://localhost:8080/openapi.json` writes all of them.

export interface Prediction {
  label: string;
  index: number;
  score: number;
  /** Score from which on the label holds, and whether it does; models without thresholds give neither. */
  threshold?: number;
  passes?: boolean;
}

export interface FrameAttention {
  /** Seconds from the first presented frame. */
  time_s: number;
  frame: number;
  /** Share of the window's attention. */
  score: number;
  /** 1 where the network still carried the frame after its last layer. */
  retention: number;
  layer_scores?: number[];
  layer_retention?: number[];
}

export interface Evidence {
  label: string;
  score: number;
  /** Of the window in which a single frame stands still. */
  still_score: number;
  /** 0 where contributions are exact. */
  error: number;
  frames: { time_s: number; frame: number; contribution: number; enough: boolean }[];
  /** Clips that were scored for it. */
  forwards: number;
  engine_ms: number;
}

export interface Window {
  start_s: number;
  end_s: number;
  predictions: Prediction[];
  attention?: FrameAttention[];
  /** With `embedding: true`, of length 1. */
  embedding?: number[];
  /** Whether no label holds in this window. */
  abstained?: boolean;
  /** What frames contribute, with `evidence: "causal"`. */
  evidence?: Evidence;
}

export interface Warning {
  code: string;
  detail: string;
}

export interface Result {
  id: string;
  status: "succeeded";
  model: { name: string; version: string; trained: boolean; weights_sha256: string };
  coverage: number;
  predictions: Prediction[];
  windows: Window[];
  timings_ms: Record<string, number>;
  warnings: Warning[];
  /** Whether no label holds for the whole video. */
  abstained?: boolean;
  /** With `embedding: true`; only those of the same `weights_sha256` can be compared. */
  embedding?: number[];
}

export interface Job {
  id: string;
  status: "queued" | "running" | "succeeded" | "failed" | "expired";
  clips_total: number;
  clips_done: number;
  result?: Result;
  error?: Problem;
}

/** A problem document (RFC 9457). */
export interface Problem {
  code: string;
  detail: string;
  status?: number;
  limit?: unknown;
  actual?: unknown;
  request_id?: string;
}

export interface Options {
  model?: string;
  version?: string;
  top_k?: number;
  min_score?: number;
  windows?: number | "auto" | "all";
  stride?: number;
  split?: "none" | "shots";
  crops?: 1 | 3;
  start?: number;
  end?: number;
  attention?: "frames" | "layers" | "none";
  evidence?: "none" | "causal";
  evidence_label?: string;
  evidence_window?: number;
  evidence_orders?: number;
  embedding?: boolean;
  stream?: number;
  webhook?: string;
}

export class VidtrError extends Error {
  readonly problem: Problem;
  /** Seconds after which to try again, where the server names them. */
  readonly retryAfterS: number | undefined;

  constructor(problem: Problem, retryAfterS?: number) {
    super(`${problem.code}: ${problem.detail}`);
    this.problem = problem;
    this.retryAfterS = retryAfterS;
  }
}

export class Client {
  private readonly server: string;
  private readonly headers: Record<string, string>;

  constructor(server = "http://localhost:8080", apiKey?: string) {
    this.server = server.replace(/\/$/, "");
    this.headers = apiKey === undefined ? {} : { Authorization: `Bearer ${apiKey}` };
  }

  /** Waits for the answer, also where the server turns the request into a job. */
  async classify(video: Blob, options: Options = {}): Promise<Result> {
    const response = await this.upload(video, options, {});
    const body: unknown = await response.json();
    return response.status === 202 ? this.wait((body as Job).id) : (body as Result);
  }

  /** Comes back with the job as soon as it is accepted. */
  async submit(video: Blob, options: Options = {}): Promise<Job> {
    const response = await this.upload(video, options, { Prefer: "respond-async" });
    return (await response.json()) as Job;
  }

  async job(id: string): Promise<Job> {
    return (await (await this.request(`/v1/jobs/${id}`, {})).json()) as Job;
  }

  async wait(id: string, pauseMs = 500): Promise<Result> {
    for (;;) {
      const job = await this.job(id);
      if (job.result !== undefined) return job.result;
      if (job.error !== undefined) throw new VidtrError(job.error);
      await new Promise((resolve) => setTimeout(resolve, pauseMs));
    }
  }

  private upload(video: Blob, options: Options, headers: Record<string, string>): Promise<Response> {
    const query = new URLSearchParams();
    for (const [name, value] of Object.entries(options)) {
      if (value !== undefined) query.set(name, String(value));
    }
    const form = new FormData();
    form.set("file", video, "video");
    // A request that is sent again with its key does not make a second job.
    const key = { "Idempotency-Key": crypto.randomUUID() };
    return this.request(`/v1/classify?${query}`, { method: "POST", body: form, headers: { ...key, ...headers } });
  }

  private async request(path: string, init: RequestInit): Promise<Response> {
    const response = await fetch(this.server + path, { ...init, headers: { ...this.headers, ...init.headers } });
    if (response.ok) return response;
    const retryAfter = response.headers.get("Retry-After");
    throw new VidtrError(
      (await response.json()) as Problem,
      retryAfter === null ? undefined : Number(retryAfter),
    );
  }
}
