"use strict";
// The page can be read without this: it adds the search, the count and the buttons, and opens what older browsers print.
const questions = document.querySelector(".questions");
const trials = [...questions.querySelectorAll(".trial")];
const search = document.querySelector("#search");
const shown = document.querySelector("#shown");
const plain = (text) => text.normalize("NFKC").toLowerCase();
let texts = null;

const filter = () => {
  const words = plain(search.value).split(/\s+/).filter(Boolean);
  const only = questions.querySelector("[name=only]:checked").value;
  if (words.length) texts ??= trials.map((trial) => plain(trial.textContent));
  let count = 0;
  trials.forEach((trial, i) => {
    trial.hidden = !words.every((word) => texts[i].includes(word));
    count += !trial.hidden && (only === "all" || trial.dataset.outcome === only);
  });
  shown.textContent = `${count} of ${trials.length} shown`;
};

const setOpen = (open) => document.querySelectorAll("details").forEach((part) => { part.open = open; });
let closed = [];

if (search) {
  document.querySelectorAll(".scripted").forEach((part) => { part.hidden = false; });
  search.addEventListener("input", filter);
  questions.querySelectorAll("[name=only]").forEach((choice) => choice.addEventListener("change", filter));
  document.querySelector("#open").addEventListener("click", () => setOpen(true));
  document.querySelector("#close").addEventListener("click", () => setOpen(false));
  filter();
}
addEventListener("beforeprint", () => {
  closed = [...document.querySelectorAll("details:not([open])")];
  setOpen(true);
});
addEventListener("afterprint", () => closed.forEach((part) => { part.open = false; }));
