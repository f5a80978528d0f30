// Usage: npx tsc && node build/main.js VIDEO [SERVER]
import { openAsBlob } from "node:fs";

import { Client, VidtrError } from "./vidtr.js";

const [video = "clip.mp4", server] = process.argv.slice(2);
const client = new Client(server);

const result = await client.classify(await openAsBlob(video), { windows: 2, top_k: 1 });
for (const window of result.windows) {
  console.log(window.start_s, window.end_s, window.predictions[0]?.label);
}

const job = await client.submit(await openAsBlob(video));
console.log((await client.wait(job.id)).id === job.id ? "the job has its result" : "another job");

try {
  await client.classify(new Blob(["no video"]));
} catch (error) {
  if (!(error instanceof VidtrError)) throw error;
  console.log("text is refused as", error.problem.code);
}
