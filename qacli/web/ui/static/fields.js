// Helps to fill in the form: the names of the models.

import { $, element } from "./dom.js";

const models = $("#models");

/** Load the names of the models once, when the options are opened. */
async function loadModels() {
  const response = await fetch("/v1/models").catch(() => null);
  if (!response?.ok) return;
  const { data } = await response.json();
  models.replaceChildren(...data.map(({ id }) => element("option", { value: id })));
}

if (models) $("#ask .options").addEventListener("toggle", loadModels, { once: true });
