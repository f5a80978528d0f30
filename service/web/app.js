// The page: takes a video in, runs the request and shows what comes of it.

import { Problem, classify, keptKey, served, useKey } from "./api.js";
import { $, seconds, size } from "./dom.js";
import { evidenceOf } from "./evidence.js";
import { exampleVideo } from "./example.js";
import { Gallery } from "./gallery.js";
import { LiveCamera } from "./live.js";
import { attentionToAsk, chosenModel, showModels } from "./models.js";
import { headline } from "./moments.js";
import { Partial } from "./partial.js";
import { Recorder, canRecord } from "./recorder.js";
import { ResultView } from "./result.js";
import { problemText } from "./summary.js";

// It is short: each moment lies in two windows.
const EXAMPLE_OPTIONS = { windows: "all", stride: "0.5", split: "shots" };
const STAGES = ["upload", "decode", "score"];

let chosen = null;
let running = null;

const view = new ResultView(showProblem);
const partial = new Partial($("partial"));
const gallery = new Gallery($("cards"), {
  open: (entry) => {
    running?.abort();
    chosen = entry.file ?? (entry.url ? byUrl(entry.url) : null);
    $("again").hidden = !chosen;
    $("chosen").textContent = entry.name;
    present(entry);
  },
  changed: () => ($("gallery").hidden = gallery.entries.length === 0),
});

/** A video that the service fetches, in the place of a file. */
const byUrl = (url) => ({ url, name: url.split(/[?#]/, 1)[0].split("/").filter(Boolean).at(-1) ?? url });

// --- one request -------------------------------------------------------------------------------------------------

/** `before` is an entry of the same video and options: evidence that it has is kept. */
async function start(file, asked = {}, base = options(), before = null) {
  if (!file) return;
  if (!$("form").checkValidity()) {
    $("options").open = true;
    $("form").reportValidity();
    return;
  }
  chosen = file;
  camera.stop();
  running?.abort();
  const own = new AbortController();
  running = own;
  const request = { options: { ...base, ...asked }, keyed: $("key").value.trim() !== "" };
  $("chosen").textContent = file.url ? file.name : `${file.name}, ${size(file.size)}`;
  $("problem").hidden = true;
  view.hide();
  partial.clear();
  if (file.url) showStage("upload", null, "Asking for the video");
  else showStage("upload", 0, `0 of ${size(file.size)}`);
  $("progress").hidden = false;
  try {
    const answer = await classify(file, request.options, showProgress, own.signal);
    if (running !== own) return;
    const video = file.url ? { url: file.url, file: null } : { file };
    const evidence = before ? evidenceOf(before) : {};
    const entry = { id: answer.id, name: file.name, when: new Date().toISOString(), answer, request, evidence, ...video };
    present(entry, Number(asked.evidence_window ?? 0));
    gallery.add({ ...entry, picture: await view.picture() });
  } catch (error) {
    if (running !== own || error.name === "AbortError") return;
    // Of very many windows the answer goes without the maps.
    const tooLarge = error instanceof Problem && error.body.code === "spatial_attention_too_large";
    if (tooLarge) start(file, asked, { ...base, attention: "layers" }, before);
    else showProblem(error);
  } finally {
    if (running === own) {
      running = null;
      $("progress").hidden = true;
      $("again").hidden = false;
    }
  }
}

/** Query parameters: what is left at its default goes without saying. */
function options() {
  const asked = Object.fromEntries([...new FormData($("form"))].filter(([, value]) => value !== ""));
  const { windows, stride, split, crops, top_k, min_score, start: from, end } = asked;
  return {
    ...chosenModel(),
    ...(windows !== "auto" && { windows }),
    ...(stride && { stride }),
    ...(split !== "none" && { split }),
    ...(crops !== "1" && { crops }),
    ...(top_k !== "5" && { top_k }),
    ...(min_score && { min_score }),
    ...(from && { start: from }),
    ...(end && { end }),
    attention: attentionToAsk(),
  };
}

function showProgress(stage, known) {
  if (stage === "planned" || (stage === "decoded" && !partial.begun)) partial.begin(known.video);
  if (stage === "window") partial.add(known);
  const tell = {
    upload: ({ loaded, total }) => ["upload", loaded / total, `${size(loaded)} of ${size(total)}`],
    uploaded: () => ["decode", null, "Looking for the frames that are needed"],
    planned: ({ windows }) => ["decode", null, `Decoding ${windows.length} windows; the first are being scored`],
    decoded: ({ video, windows }) => [
      "score",
      null,
      `${seconds(video.duration_s)} of ${video.codec}, ${video.width} × ${video.height}; ${windows.length} windows to score`,
    ],
    queued: () => ["score", null, null],
    running: ({ clips_done: done, clips_total: total }) => ["score", done / total, `${done} of ${total} clips scored`],
  }[stage];
  if (tell) showStage(...tell(known));
}

function showStage(stage, share, detail) {
  for (const item of $("stages").children) {
    const place = STAGES.indexOf(item.dataset.stage) - STAGES.indexOf(stage);
    item.classList.toggle("over", place < 0);
    if (place === 0) item.setAttribute("aria-current", "step");
    else item.removeAttribute("aria-current");
  }
  if (share === null) $("bar").removeAttribute("value");
  else $("bar").value = share;
  if (detail !== null) $("stage-detail").textContent = detail;
  say({ upload: "Uploading", decode: "Decoding", score: "Scoring" }[stage]);
}

function present(entry, window = 0) {
  $("problem").hidden = true;
  document.body.classList.add("answered");
  view.show(entry, window);
  say(`Classified: ${headline(entry.answer, "spoken")}`);
  const place = entry.answer.windows[window]?.evidence ? "attention-card" : "result";
  $("title").focus({ preventScroll: true });
  $(place).scrollIntoView({ block: "start" });
}

function showProblem(error) {
  const problem = error instanceof Problem ? error : new Problem({ code: "page_error", detail: String(error) });
  $("problem").replaceChildren(...problemText(problem));
  $("problem").hidden = false;
  say("");
  if (problem.body.code === "unauthorized") {
    $("access").open = true;
    $("key").focus();
  }
}

// Written only when it changes: a live region would read every percent aloud.
function say(text) {
  if ($("said").textContent !== text) $("said").textContent = text;
}

// --- the rest of the page ----------------------------------------------------------------------------------------

async function listModels() {
  try {
    const { models, by_url: fetches } = await served();
    showModels(models);
    $("by-url").hidden = !fetches;
  } catch (error) {
    showProblem(error);
  }
}

function copies(button, source) {
  $(button).addEventListener("click", async () => {
    // Browsers lend the clipboard only to pages that came over HTTPS or from this machine.
    const done = await navigator.clipboard?.writeText($(source).textContent).then(() => true, () => false);
    if (!done) getSelection().selectAllChildren($(source));
    say(done ? "Copied" : "Selected: copy it with the keyboard");
    $(button).textContent = done ? "Copied" : "Selected";
    setTimeout(() => ($(button).textContent = "Copy"), 1500);
  });
}

$("file").addEventListener("change", ({ target }) => {
  start(target.files[0]);
  // The same file may be chosen again.
  target.value = "";
});
const fetchUrl = () => {
  const url = $("url").value.trim();
  if (url) start(byUrl(url));
  else $("url").focus();
};
$("fetch").addEventListener("click", fetchUrl);
$("url").addEventListener("keydown", (event) => {
  if (event.key !== "Enter") return;
  event.preventDefault();
  fetchUrl();
});
$("form").addEventListener("submit", (event) => {
  event.preventDefault();
  start(chosen);
});
$("key").value = keptKey();
useKey($("key").value);
$("key").addEventListener("change", () => {
  const key = $("key").value.trim();
  useKey(key);
  $("problem").hidden = true;
  listModels();
});
// A key is confirmed with Enter; that is not yet a wish to classify again.
$("key").addEventListener("keydown", (event) => {
  if (event.key === "Enter") {
    event.preventDefault();
    $("key").dispatchEvent(new Event("change"));
  }
});
$("cancel").addEventListener("click", () => {
  running?.abort();
  say("Cancelled");
  $("file").focus();
});
$("forget").addEventListener("click", () => {
  gallery.clear();
  $("main").focus();
});
$("example").addEventListener("click", async () => {
  $("example").disabled = true;
  say("Fetching the example video");
  await exampleVideo().then((file) => start(file, EXAMPLE_OPTIONS), showProblem);
  $("example").disabled = false;
});
// Of the window in view alone: of many windows it would be more than one request may have scored.
$("ask-evidence").addEventListener("click", () => {
  const { entry, index } = view;
  start(chosen, { evidence: "causal", evidence_window: String(index) }, entry.request.options, entry);
});
copies("copy-raw", "raw");
copies("copy-snippet", "snippet");

const recorder = new Recorder(start);
for (const source of ["webcam", "screen"]) {
  $(source).disabled = !canRecord();
  $(source).addEventListener("click", () => recorder.open(source));
}
const camera = new LiveCamera(showProblem, say);
$("camera").disabled = !canRecord();
$("camera").addEventListener("click", () => {
  running?.abort();
  $("problem").hidden = true;
  camera.start();
});
$("no-recording").hidden = canRecord();

// The whole page takes drops: a video that misses the box would otherwise replace the page.
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  $("drop").classList.add("over");
});
document.addEventListener("dragleave", () => $("drop").classList.remove("over"));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  $("drop").classList.remove("over");
  start(event.dataTransfer.files[0]);
});

listModels();
gallery.load();
