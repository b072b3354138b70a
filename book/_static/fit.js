// What is wider than its box: a table becomes smaller, then its heads stand upright, then each row becomes a
// card in which every cell is named by its column; a formula becomes smaller, down to LEAST of its size.
// Without this script both scroll in their boxes.

const SHORT = 24; // letters of a cell that may stand beside others
const LEAST = 0.7;

function name(table) {
  const heads = [...(table.tHead?.rows[0]?.cells ?? [])].map((head) => head.innerText.trim().replace(/\s+/g, " "));
  for (const row of table.querySelectorAll("tbody tr")) {
    row.setAttribute("role", "row");
    [...row.cells].forEach((cell, i) => {
      cell.setAttribute("role", cell.tagName === "TH" ? "rowheader" : "cell");
      if (i && heads[i]) cell.dataset.label = heads[i];
      cell.classList.toggle("long", cell.innerText.length > SHORT);
    });
  }
}

const wordy = (table) => table.tBodies[0]?.innerText.length > 70 * table.tBodies[0].rows.length;

function mend(table) {
  const wide = () => table.getBoundingClientRect().width > table.parentElement.clientWidth + 1;
  table.classList.remove("tight", "upright", "cards");
  const phone = window.innerWidth <= 600;
  for (const way of phone && wordy(table) ? [] : ["tight", "upright"]) {
    if (wide()) table.classList.add(way);
  }
  if (!wide() && !(phone && wordy(table))) return;
  table.classList.remove("tight", "upright");
  table.classList.add("cards");
}

/** Formulas are measured together, then changed together: the page is laid out twice, not once for each. */
function shrink() {
  const formulas = [...document.querySelectorAll(".bd-article div.math > mjx-container")];
  formulas.forEach((formula) => (formula.style.fontSize = ""));
  const room = formulas.map((formula) => formula.parentElement.clientWidth / formula.parentElement.scrollWidth);
  formulas.forEach((formula, i) => {
    if (room[i] < 1) formula.style.fontSize = `${Math.floor(100 * Math.max(LEAST, room[i] - 0.02))}%`;
  });
}

const tables = [...document.querySelectorAll(".bd-article table:not(.ledger, .claims)")].filter(
  (table) => !table.closest(".demo") && !table.querySelector("[colspan], [rowspan]"),
);
for (const table of tables) {
  table.setAttribute("role", "table");
  table.tBodies[0]?.setAttribute("role", "rowgroup");
  name(table);
}

function fit() {
  tables.forEach(mend);
  shrink();
}

const article = document.querySelector(".bd-article");
let width = 0;
const boxes = new ResizeObserver(() => {
  if (width === article.clientWidth) return;
  width = article.clientWidth;
  fit();
});
if (article) boxes.observe(article);
for (const folded of document.querySelectorAll(".bd-article details")) {
  folded.addEventListener("toggle", () => tables.filter((table) => folded.contains(table)).forEach(mend));
}

/** Fit anew when styles are loaded, and when formulas in tables have their width. */
function ready() {
  fit();
  window.MathJax?.startup?.promise.then(fit);
}
if (document.readyState === "complete") ready();
else window.addEventListener("load", ready);
