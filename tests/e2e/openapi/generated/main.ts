// Built against what `openapi-typescript` writes: every option, answer and error below has its type from the document.
import { openAsBlob } from "node:fs";

import createClient from "openapi-fetch";

import type { components, paths } from "./api.js";

const [path = "", baseUrl = "", key = ""] = process.argv.slice(2);
const client = createClient<paths>({ baseUrl, headers: { Authorization: `Bearer ${key}` } });

function form(video: Blob): FormData {
  const parts = new FormData();
  parts.set("file", video, "clip.mp4");
  return parts;
}

async function classify(video: Blob) {
  return client.POST("/v1/classify", {
    params: { query: { windows: 2, top_k: 3, attention: "frames", crops: 1 } },
    body: { file: "clip.mp4" },
    bodySerializer: () => form(video),
  });
}

const classified = await classify(await openAsBlob(path));
if (classified.data === undefined || !("predictions" in classified.data)) throw new Error("no answer");
const result: components["schemas"]["JobResult"] = classified.data;
const best: number = result.predictions[0]?.score ?? 0;

const job = await client.GET("/v1/jobs/{job_id}", { params: { path: { job_id: result.id } } });
const state: components["schemas"]["JobState"] | undefined = job.data?.status;

const refused = await classify(new Blob(["no video"]));
const problem: components["schemas"]["Problem"] | undefined = refused.error;
if (best <= 0) throw new Error("no score");
console.log(result.windows.length, result.predictions[0]?.label, state, problem?.code);
