import { Problem, classify, servedModels, useKey } from "./api.js";
import { facts, labelList, problemText, timeline, timingList, warningList, windowCharts } from "./view.js";

const $ = (id) => document.getElementById(id);
// Half the usual distance of sampled frames: a bar lights up while its frame is on screen.
const NEAR_S = 0.07;

let chosen = null;
let running = null;
let movePlayhead = () => {};

async function start(file) {
  if (!file) return;
  chosen = file;
  running?.abort();
  const own = new AbortController();
  running = own;
  $("chosen").textContent = `${file.name} (${(file.size / 1e6).toFixed(1)} MB)`;
  $("again").disabled = false;
  $("problem").hidden = true;
  $("result").hidden = true;
  $("progress").hidden = false;
  showProgress("upload", 0);
  try {
    const options = Object.fromEntries([...new FormData($("form"))].filter(([, value]) => value !== ""));
    const answer = await classify(file, options, showProgress, own.signal);
    if (running === own) showResult(answer, file);
  } catch (error) {
    if (running === own && error.name !== "AbortError") showProblem(error);
  } finally {
    if (running === own) $("progress").hidden = true;
  }
}

function showProgress(stage, share) {
  const text = stage === "upload" ? "Uploading" : "Decoding and scoring";
  // Written only when it changes: a live region would read every percent aloud.
  if ($("stage").textContent !== text) $("stage").textContent = text;
  if (share === null) $("bar").removeAttribute("value");
  else $("bar").value = share;
}

function showProblem(error) {
  const problem = error instanceof Problem ? error : new Problem({ code: "page_error", detail: String(error) });
  $("problem").replaceChildren(...problemText(problem));
  if (problem.body.code === "unauthorized") $("options").open = true;
  $("problem").hidden = false;
}

function showResult(answer, file) {
  const video = $("video");
  URL.revokeObjectURL(video.src);
  $("no-playback").hidden = true;
  video.hidden = false;
  video.src = URL.createObjectURL(file);
  $("warnings").replaceChildren(...warningList(answer.warnings));
  $("labels").replaceChildren(...labelList(answer.predictions));
  $("timings").replaceChildren(...timingList(answer.timings_ms));
  $("facts").textContent = facts(answer);
  $("windows").replaceChildren(...windowCharts(answer.windows, seek));
  $("raw").textContent = JSON.stringify(answer, null, 2);
  movePlayhead = timeline($("timeline"), answer);
  $("result").hidden = false;
  $("result").focus({ preventScroll: true });
  $("result").scrollIntoView({ block: "start" });
}

function seek(time) {
  const video = $("video");
  video.pause();
  video.currentTime = time;
  if (!video.hidden) video.scrollIntoView({ block: "nearest" });
}

function followPlayback() {
  const now = $("video").currentTime;
  movePlayhead(now);
  for (const bar of document.querySelectorAll(".bar")) {
    bar.classList.toggle("now", Math.abs(Number(bar.dataset.time) - now) < NEAR_S);
  }
}

async function showModels() {
  try {
    const models = await servedModels();
    const names = [...new Set(models.map((model) => model.name))];
    const preferred = models.find((model) => model.default);
    $("model").replaceChildren(...names.map((name) => new Option(name, name, false, name === preferred?.name)));
    const note = $("model-note");
    note.textContent = preferred ? `Default model: ${preferred.name}. ${preferred.description}` : "";
    note.hidden = !preferred;
  } catch (error) {
    showProblem(error);
  }
}

$("file").addEventListener("change", (event) => start(event.target.files[0]));
$("form").addEventListener("submit", (event) => {
  event.preventDefault();
  start(chosen);
});
$("key").addEventListener("change", (event) => {
  useKey(event.target.value.trim());
  $("problem").hidden = true;
  showModels();
});
$("cancel").addEventListener("click", () => running?.abort());
$("copy").addEventListener("click", () => navigator.clipboard.writeText($("raw").textContent));
$("video").addEventListener("timeupdate", followPlayback);
$("video").addEventListener("error", () => {
  $("video").hidden = true;
  $("no-playback").hidden = false;
});

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

showModels();
