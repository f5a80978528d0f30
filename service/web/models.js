// The model picker.

import { $, element, percent, seconds, spaced } from "./dom.js";

/** Show the served models, and keep what was chosen if it is still there. */
export function showModels(models) {
  const chosen = $("model").value;
  const newest = new Set();
  const options = models.map((model) => {
    const older = newest.has(model.name);
    newest.add(model.name);
    const text = older ? `${model.name}, version ${model.version}` : model.name;
    const option = new Option(text, older ? `${model.name} ${model.version}` : model.name, false, model.default);
    option.model = model;
    return option;
  });
  $("model").replaceChildren(...options);
  if (options.some(({ value }) => value === chosen)) $("model").value = chosen;
  describe();
}

/** What was measured of the attention in an answer, by the weights that gave it; undefined where nothing was. */
export function faithfulnessOf({ name, version, weights_sha256: weights }) {
  const models = [...$("model").options].map((option) => option.model);
  return models.find((model) => model.name === name && model.version === version && model.weights_sha256 === weights)?.faithfulness;
}

/** The request's options for the chosen model: the newest version goes without saying. */
export function chosenModel() {
  const [model, version] = $("model").value.split(" ");
  return { ...(model && { model }), ...(version && { version }) };
}

/** How much attention to ask the chosen model for: where it looked too, if it says so. */
export const attentionToAsk = () => ($("model").selectedOptions[0]?.model?.spatial_grid ? "spatial" : "layers");

function describe() {
  const model = $("model").selectedOptions[0]?.model;
  $("model-labels").hidden = !model;
  if (!model) {
    $("model-note").textContent = "No model is served at the moment.";
    return;
  }
  const trained = model.trained ? "" : " Its weights are random: the labels mean nothing.";
  $("model-note").textContent =
    `${model.description.replace(/([^.])$/, "$1.")} Looks at windows of ${seconds(model.span_s)}, ${model.frames} frames each.${trained}`;
  $("model-labels-count").textContent = `${model.labels.length} labels`;
  $("model-labels-list").replaceChildren(
    ...model.labels.map((label, index) => {
      const threshold = model.thresholds?.[index];
      return element("li", {}, threshold === undefined ? spaced(label) : `${spaced(label)} from ${percent(threshold)}`);
    }),
  );
}

$("model").addEventListener("change", describe);
