"use strict";
const all = (what, where = document) => [...where.querySelectorAll(what)];
const key = (row, column) => {
  const cell = row.cells[column], text = cell.dataset.v ?? cell.textContent.trim();
  const value = Number(text);
  return text === "" ? null : Number.isNaN(value) ? text.toLowerCase() : value;
};

function sort(header) {
  const table = header.closest("table"), column = header.cellIndex;
  const down = header.getAttribute("aria-sort") === "descending"
    || (!header.hasAttribute("aria-sort") && header.dataset.first === "up") ? 1 : -1;
  for (const other of all("th[aria-sort]", table)) other.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", down === 1 ? "ascending" : "descending");
  const rows = [...table.tBodies[0].rows].map((row) => [key(row, column), row]);
  rows.sort(([a], [b]) => a === null || b === null ? (a === null) - (b === null)
    : down * (typeof a === typeof b ? (a < b ? -1 : a > b ? 1 : 0) : typeof a === "number" ? -1 : 1));
  table.tBodies[0].append(...rows.map(([, row]) => row));
}

function filter() {
  const [suite, ability, find] = ["suite", "ability", "find"].map((id) => document.getElementById(id)?.value ?? "");
  const words = find.toLowerCase().split(/\s+/).filter(Boolean);
  for (const part of all("[data-ability]")) part.hidden = ability !== "" && part.dataset.ability !== ability;
  for (const item of all("[data-abilities]")) {
    const text = item.dataset.text?.toLowerCase();
    item.hidden = (ability !== "" && !item.dataset.abilities.split(",").includes(ability))
      || (text !== undefined && !words.every((word) => text.includes(word)));
  }
  for (const group of all(".group")) {
    const other = suite !== "" && "suite" in group.dataset && group.dataset.suite !== suite;
    group.hidden = other || all("[data-text]", group).every((item) => item.hidden);
  }
  for (const none of all(".none"))
    none.hidden = all("[data-abilities], .group", none.parentElement).some((item) => !item.closest("[hidden]"));
}

for (const button of all("th button")) button.addEventListener("click", () => sort(button.parentElement));
for (const control of all("#suite, #ability, #find")) control.addEventListener("input", filter);
for (const button of all(".switch button")) button.addEventListener("click", () => {
  const box = button.closest(".box");
  box.classList.toggle("by-cpu", button.dataset.axis === "cpu_seconds");
  for (const other of all(".switch button", box)) other.setAttribute("aria-pressed", String(other === button));
});
filter();
