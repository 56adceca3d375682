// Helps to fill in the form: the names of the models.

import { $, ROOT, element } from "./dom.js";

const models = $("#models");
const profile = $("#ask-profile");
let ids = [];

/** Offer the models of the chosen profile, by their names there; without one all models. */
function showModels() {
  const prefix = `${profile?.value}/`;
  const own = ids.filter((id) => id.startsWith(prefix)).map((id) => id.slice(prefix.length));
  models.replaceChildren(...(own.length ? own : ids).map((value) => element("option", { value })));
}

/** Load the names of the models once, when the options are opened. */
async function loadModels() {
  const response = await fetch(`${ROOT}/v1/models`).catch(() => null);
  if (!response?.ok) return;
  const { data } = await response.json();
  ids = data.map(({ id }) => id);
  showModels();
}

if (models) $("#ask .options").addEventListener("toggle", loadModels, { once: true });
profile?.addEventListener("change", showModels);
