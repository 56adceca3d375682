// Adds to the links and forms of the page: streamed answers, the keyboard and copying.
// Everything else is rendered by the server, and works without this file.

import { $, $$, reveal } from "./dom.js";
import { watch } from "./asking.js";
import { enrich } from "./copying.js";
import { focusQuestion } from "./keys.js";
import "./fields.js";
import "./files.js";
import "./tabs.js";

document.documentElement.classList.add("scripted-page");
enrich(document);
if (location.hash === "#question" && $("#question")) focusQuestion();
reveal($("#history [aria-current=page]"));
if (location.hash) document.getElementById(location.hash.slice(1))?.scrollIntoView({ behavior: "instant" });
for (const article of $$("article[data-status=asking]")) watch(article.dataset.id);
