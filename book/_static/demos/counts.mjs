// The count likelihood of a bag of six. The arithmetic is exported and held equal to wsl_tutorial.counts by
// tests/test_demos_counts.py. `z` is an array of logits, `y` the number of positives among them.

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

/** Eq. (5.2): f[i][j], the probability that the first i instances hold j positives. */
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

/** Eq. (5.3): forward and backward; the logits are shifted to the middle first, which changes nothing else. */
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
.counts { --line: color-mix(in srgb, currentColor 35%, transparent); --prior: #8a8a8a; --post: #0072b2;
  border: 1px solid var(--line); border-radius: .5rem; padding: .75rem; margin: 1rem 0; line-height: 1.4; color: inherit }
.counts fieldset { border: 0; padding: 0; margin: 0 0 .6rem; min-width: 0 }
.counts legend { font-weight: 600; font-size: 1rem; padding: 0; margin: 0 }
.counts .row { display: flex; flex-wrap: wrap; gap: .3rem 1rem; align-items: center }
.counts .grid { display: grid; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); gap: .5rem }
.counts .cell { border: 1px solid var(--line); border-radius: .35rem; padding: .4rem; min-width: 0 }
.counts label { display: block; font-size: .9rem }
.counts .row label { display: inline-flex; gap: .35rem; align-items: center }
.counts input[type=range] { width: 100%; margin: 0 0 .25rem; accent-color: currentColor }
.counts button { font: inherit; color: inherit; background: transparent; border: 1px solid currentColor;
  border-radius: .3rem; padding: .2rem .6rem; cursor: pointer }
.counts :is(button, input):focus-visible { outline: 3px solid #d55e00; outline-offset: 2px }
.counts .bars { display: grid; grid-template-columns: 1.2em minmax(0, 1fr) 3.2em; gap: .1rem .3rem;
  font-size: .85rem; font-variant-numeric: tabular-nums; align-items: center }
.counts .bar { height: .7rem; border: 1px solid var(--line) }
.counts .bar > i { display: block; height: 100%; background: var(--prior) }
.counts .bar > [data-post] { background: var(--post) }
.counts .scroll { overflow-x: auto }
.counts table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; margin: .3rem 0 .6rem;
  color: inherit; width: auto }
.counts :is(td, th) { padding: .15rem .4rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; font-weight: 400 }
.counts caption { text-align: left; font-weight: 600; caption-side: top; color: inherit; padding: 0; white-space: nowrap }
.counts .maps { display: flex; flex-wrap: wrap; gap: .3rem; margin: .3rem 0 .6rem; font: 600 .75rem/1.2 monospace }
.counts .maps > div { border: 1px solid var(--line); padding: .1rem .3rem; text-align: center }
.counts output { display: block; font-weight: 600 }
`;

function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

const minus = (text) => text.replaceAll("-", "−");
const signed = (x) => minus(`${x < 0 ? "" : "+"}${(Math.abs(x) < 5e-4 ? 0 : x).toFixed(3)}`);

export function mount(root) {
  const id = `counts-${Math.random().toString(36).slice(2, 8)}`;
  const state = structuredClone(PRESETS["expected count met"]);
  const status = element("output", { "aria-live": "polite" });
  const results = element("div");
  const logits = () => state.z.map((z) => z + state.shift);

  function slider(name, get, set) {
    const input = element("input", { type: "range", id: `${id}-${name.replaceAll(" ", "-")}`, ...LIMITS });
    const value = element("span");
    input.addEventListener("input", () => {
      set(Number(input.value));
      draw();
    });
    input.addEventListener("change", announce); // once per finished move, not at every step of it
    const show = () => {
      input.value = get();
      value.textContent = minus(get().toFixed(1));
    };
    return { parts: [element("label", { for: input.id }, `${name}: `, value), input], show };
  }

  const sliders = [];
  const bars = [];
  const cells = state.z.map((_, i) => {
    const one = slider(`logit ${i + 1}`, () => state.z[i], (v) => (state.z[i] = v));
    sliders.push(one);
    const grid = element("div", { class: "bars" });
    bars.push(
      ["ρ", "r"].map((name) => {
        const fill = element("i", name === "r" ? { "data-post": "" } : {});
        const text = element("span");
        grid.append(element("span", {}, name), element("span", { class: "bar", "aria-hidden": "true" }, fill), text);
        return { fill, text };
      }),
    );
    return element("fieldset", { class: "cell" }, element("legend", {}, `instance ${i + 1}`), ...one.parts, grid);
  });
  const shift = slider("shift of all logits", () => state.shift, (v) => (state.shift = v));
  sliders.push(shift);

  const choice = Array.from({ length: N + 1 }, (_, y) => {
    const radio = element("input", { type: "radio", name: `${id}-count`, value: y, id: `${id}-count${y}` });
    radio.addEventListener("change", () => {
      state.y = y;
      draw();
      announce();
    });
    return radio;
  });
  const presets = Object.keys(PRESETS).map((name) => {
    const button = element("button", { type: "button" }, name);
    button.addEventListener("click", () => {
      Object.assign(state, structuredClone(PRESETS[name]));
      draw();
      announce();
    });
    return button;
  });

  function draw() {
    const z = logits();
    const r = posterior(z, state.y);
    sliders.forEach((one) => one.show());
    choice.forEach((radio, y) => (radio.checked = y === state.y));
    bars.forEach((pair, i) =>
      [sigmoid(z[i]), r[i]].forEach((p, k) => {
        pair[k].fill.style.width = `${100 * p}%`;
        pair[k].text.textContent = p.toFixed(3);
      }),
    );
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
      element("div", { class: "scroll" },
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

  const told = choice.map((radio, y) => element("label", { for: radio.id }, radio, String(y)));
  root.replaceChildren(
    element("style", {}, STYLE),
    element("div", { class: "counts", role: "group", "aria-label": "Count likelihood of a bag of six" },
      element("fieldset", {}, element("legend", {}, "Number of positives"), element("div", { class: "row" }, ...told)),
      element("fieldset", {}, element("legend", {}, "Start from"), element("div", { class: "row" }, ...presets)),
      ...shift.parts,
      element("p", {}, "Bars: the prior ρ of each instance, and its posterior r given the count."),
      element("div", { class: "grid" }, ...cells),
      status,
      results),
  );
  draw();
  announce();
}
