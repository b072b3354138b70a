// The count likelihood of a bag of six. The arithmetic is exported and held equal to wsl_tutorial.counts by
// tests/book/test_demos_counts.py. `z` is an array of logits, `y` the number of positives among them.

import { bars, controls, element, frame, minus } from "./controls.mjs";

export const sigmoid = (z) => (z < 0 ? Math.exp(z) / (1 + Math.exp(z)) : 1 / (1 + Math.exp(-z)));
const sum = (xs) => xs.reduce((a, b) => a + b, 0);

/** Eq. (5.1): every configuration with y positives, and the sum of their probabilities. */
export function enumerate(z, y) {
  const rho = z.map(sigmoid);
  const not = z.map((x) => sigmoid(-x));
  const rows = [];
  for (let code = 0; code < 2 ** z.length; code++) {
    const h = z.map((_, i) => (code >> i) & 1);
    if (sum(h) === y) rows.push({ h, weight: h.reduce((w, one, i) => w * (one ? rho[i] : not[i]), 1) });
  }
  return { rows, value: sum(rows.map((row) => row.weight)) };
}

/** Eq. (5.3): f[i][j], the probability that the first i instances hold j positives. */
export function forward(z, y) {
  const table = [Array.from({ length: y + 1 }, (_, j) => (j === 0 ? 1 : 0))];
  for (const x of z) {
    const f = table.at(-1);
    table.push(f.map((stays, j) => stays * sigmoid(-x) + (j ? f[j - 1] * sigmoid(x) : 0)));
  }
  return table;
}

export function recursion(z, y) {
  return forward(z, y).at(-1)[y];
}

/** Eq. (5.2): forward and backward; the logits are shifted to the middle first, which changes nothing else. */
export function posterior(z, y) {
  if (y === 0 || y === z.length) return z.map(() => (y ? 1 : 0));
  const sorted = [...z].sort((a, b) => b - a);
  const middle = (sorted[y - 1] + sorted[y]) / 2;
  const x = z.map((v) => v - middle);
  const f = forward(x, y);
  const g = forward([...x].reverse(), y).reverse();
  return x.map((v, i) => (sigmoid(v) * sum(f[i].slice(0, y).map((a, j) => a * g[i + 1][y - 1 - j]))) / f.at(-1)[y]);
}

/** Fisher's identity: the pull of the likelihood on each logit, posterior minus prior. */
export function pull(z, y) {
  return posterior(z, y).map((r, i) => r - sigmoid(z[i]));
}

/** The pull of Eq. (6.1), minus the gradient of the proportion loss. */
export function proportionPull(z, y) {
  const n = z.length;
  const mean = sum(z.map(sigmoid)) / n;
  const rest = sum(z.map((x) => sigmoid(-x))) / n;
  const q = y / n;
  return z.map((x) => ((q * rest - (1 - q) * mean) / (mean * rest)) * ((sigmoid(x) * sigmoid(-x)) / n));
}

const N = 6;
const LIMITS = { min: -6, max: 6, step: 0.1 };
const PRESETS = {
  "expected count met": { y: 3, shift: 0, z: [1.2, 0.4, 0.1, -0.1, -0.4, -1.2] },
  "constant answer": { y: 3, shift: 0, z: [0, 0, 0, 0, 0, 0] },
  "one is sure": { y: 1, shift: 0, z: [4, 0, 0, 0, -1, -1] },
  "sure and wrong": { y: 6, shift: -3, z: [-2, -2, -2, -2, -2, -2] },
};

const STYLE = `
.counts .grid { grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)) }
.counts .bar > i { background: #8a8a8a }
.counts .bar > [data-post] { background: #0072b2 }
.counts .maps { font: 600 .75rem/1.2 monospace }
.counts .maps > div { border: 1px solid var(--line); padding: .1rem .3rem; text-align: center }
`;

const signed = (x) => minus(`${x < 0 ? "" : "+"}${(Math.abs(x) < 5e-4 ? 0 : x).toFixed(3)}`);

export function mount(root) {
  const state = structuredClone(PRESETS["expected count met"]);
  const { slider, radios, presets, show } = controls(draw, announce);
  const status = element("output", { "aria-live": "polite" });
  const results = element("div");
  const logits = () => state.z.map((z) => z + state.shift);

  const beliefs = [];
  const cells = state.z.map((_, i) => {
    const parts = slider(`logit ${i + 1}`, LIMITS, () => state.z[i], (v) => (state.z[i] = v));
    beliefs[i] = bars(["ρ", "r"], (k) => (k ? { "data-post": "" } : {}));
    return element("fieldset", { class: "cell" }, element("legend", {}, `instance ${i + 1}`), ...parts, beliefs[i].node);
  });

  function draw() {
    const z = logits();
    const r = posterior(z, state.y);
    show();
    beliefs.forEach((one, i) => one.show([sigmoid(z[i]), r[i]]));
    results.replaceChildren(...report(z));
  }

  function report(z) {
    const { rows, value } = enumerate(z, state.y);
    const heading = `${rows.length} ${rows.length === 1 ? "configuration" : "configurations"} of 64, most probable first`;
    const maps = [...rows].sort((a, b) => b.weight - a.weight).map(({ h, weight }) =>
      element("div", {}, h.map((one) => (one ? "●" : "·")).join(""), element("br"), `${((100 * weight) / value).toFixed(1)} %`));
    const line = (name, xs) => element("tr", {}, element("th", { scope: "row" }, name), ...xs.map((x) => element("td", {}, signed(x))));
    return [
      element("strong", {}, heading),
      element("div", { class: "maps", role: "img", "aria-label": heading }, ...maps),
      element("div", { class: "scroll", tabindex: "0" },
        element("table", {}, element("caption", {}, "Pull on each logit"),
          element("tbody", {}, line("likelihood, r − ρ", pull(z, state.y)), line("DLLP (6.1)", proportionPull(z, state.y))))),
    ];
  }

  function announce() {
    const z = logits();
    const expected = sum(z.map(sigmoid));
    const value = recursion(z, state.y);
    const text = value < 1e-3 ? value.toExponential(3) : value.toFixed(4);
    status.textContent = minus(
      `Probability of the count ${state.y}: ${text}. Expected count ${expected.toFixed(2)}, posteriors sum to ` +
        `${sum(posterior(z, state.y)).toFixed(2)}.`,
    );
  }

  const numbers = Array.from({ length: N + 1 }, (_, y) => String(y));
  frame(root, "counts", "Count likelihood of a bag of six", STYLE,
    radios("Number of positives", numbers, () => state.y, (y) => (state.y = y)),
    presets(state, PRESETS),
    ...slider("shift of all logits", LIMITS, () => state.shift, (v) => (state.shift = v)),
    element("p", {}, "Bars: the prior ρ of each instance, and its posterior r given the count."),
    element("div", { class: "grid" }, ...cells),
    status,
    results);
  draw();
  announce();
}
