import { openAsBlob } from "node:fs";

import { classify, getJob, type JobResult, type Problem } from "./client/index.js";
import { client } from "./client/client.gen.js";

const [path = "", baseUrl = "", key = ""] = process.argv.slice(2);
client.setConfig({ baseUrl, auth: key });

// Of the content types of a request this generator keeps JSON: the video goes out by the options of the call.
async function send(video: Blob) {
  const form = new FormData();
  form.set("file", video, "clip.mp4");
  return classify({
    query: { windows: 2, top_k: 3, attention: "frames", crops: 1 },
    body: {},
    bodySerializer: () => form,
    headers: { "Content-Type": null },
  });
}

const classified = await send(await openAsBlob(path));
if (classified.data === undefined || !("predictions" in classified.data)) throw new Error(JSON.stringify(classified.error));
const result: JobResult = classified.data;
const best: number = result.predictions[0]?.score ?? 0;

const job = await getJob({ path: { job_id: result.id } });
const state: string | undefined = job.data?.status;

const refused = await send(new Blob(["no video"]));
const problem: Problem | undefined = refused.error;
if (best <= 0) throw new Error("no score");
console.log(result.windows.length, result.predictions[0]?.label, state, problem?.code);
