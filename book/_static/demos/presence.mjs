// The presence likelihood on a small grid. The arithmetic is exported and held equal to wsl_tutorial.presence by
// tests/book/test_demos_presence.py. `p` is an array of positions, each an array of C + 1 probabilities with the background last;
// `labels` is an array of C booleans.

import { bars, controls, element, frame, minus } from "./controls.mjs";

const same = (x) => x;
const bits = (mask) => [...mask.toString(2)].filter((b) => b === "1").length;

export function softmax(logits) {
  const top = Math.max(...logits);
  const e = logits.map((z) => Math.exp(z - top));
  const total = e.reduce((a, b) => a + b, 0);
  return e.map((x) => x / total);
}

function members(labels) {
  return labels.flatMap((on, l) => (on ? [l] : []));
}

/** Eq. (0.1): every labelling whose set of classes is exactly the bag's label set, and the sum of their probabilities. */
export function enumerate(p, labels) {
  const k = p[0].length;
  const rows = [];
  for (let code = 0; code < k ** p.length; code++) {
    const classes = p.map((_, m) => Math.floor(code / k ** m) % k);
    if (!labels.every((on, l) => classes.includes(l) === on)) continue;
    rows.push({ classes, weight: classes.reduce((w, h, m) => w * p[m][h], 1) });
  }
  return { count: rows.length, value: rows.reduce((s, row) => s + row.weight, 0), rows };
}

/** Eq. (1.2): the alternating series; `round` is applied to every result, Math.fround makes it float32 arithmetic. */
export function series(p, labels, round = same) {
  const L = members(labels);
  const sets = Array.from({ length: 2 ** L.length }, (_, mask) => mask).sort((a, b) => bits(b) - bits(a) || a - b);
  const terms = sets.map((mask) => {
    const kept = L.filter((_, i) => mask & (1 << i));
    const alpha = p.reduce(
      (product, q) => round(product * kept.reduce((s, l) => round(s + round(q[l])), round(q.at(-1)))),
      1,
    );
    return { kept, sign: (L.length - kept.length) % 2 ? -1 : 1, alpha };
  });
  return { terms, value: terms.reduce((s, t) => round(s + t.sign * t.alpha), 0) };
}

export function seriesFloat32(p, labels) {
  return series(p, labels, Math.fround).value;
}

/** Eq. (2.1): the recursion over the set of labels that have appeared so far; it only adds. */
export function recursion(p, labels, round = same) {
  const L = members(labels);
  let f = new Array(2 ** L.length).fill(0);
  f[0] = 1;
  for (const q of p) {
    f = f.map((stay, mask) => {
      let keep = round(q.at(-1));
      let arrive = 0;
      L.forEach((l, i) => {
        if (!(mask & (1 << i))) return;
        keep = round(keep + round(q[l]));
        arrive = round(arrive + round(round(q[l]) * f[mask ^ (1 << i)]));
      });
      return round(round(stay * keep) + arrive);
    });
  }
  return f.at(-1);
}

/** Eq. (2.3): the probability that each position emits each class, given the label set; null where no labelling fits. */
export function posterior(p, labels) {
  const { value, rows } = enumerate(p, labels);
  if (!(value > 0)) return null;
  const r = p.map((q) => q.map(() => 0));
  for (const { classes, weight } of rows) classes.forEach((h, m) => (r[m][h] += weight / value));
  return r;
}

const CLASSES = ["A", "B"];
const SHORT = [...CLASSES, "φ"];
const PLACES = ["top left", "top right", "bottom left", "bottom right"];
const SETS = [[false, false], [true, false], [false, true], [true, true]];
const LIMITS = { min: -20, max: 10, step: 0.5 };
const PRESETS = {
  "clear evidence": { labels: 3, logits: [[4, -4], [-4, -4], [-4, -4], [-4, 4]] },
  "no idea": { labels: 3, logits: [[0, 0], [0, 0], [0, 0], [0, 0]] },
  "weak evidence": { labels: 3, logits: [[10, -20], [-4, -20], [-4, -20], [-4, -19]] },
};

const STYLE = `
.presence { --a: #0072b2; --b: #d55e00; --phi: #8a8a8a }
.presence .grid { grid-template-columns: repeat(2, minmax(0, 1fr)) }
.presence td:first-child { text-align: left; white-space: normal }
.presence .maps > div { display: grid; grid-template-columns: 1fr 1fr; border: 1px solid var(--line); font: 600 .62rem/1.15 monospace }
.presence .maps span { width: 1.15em; text-align: center }
.presence [data-class="0"] { background: var(--a); color: #fff }
.presence [data-class="1"] { background: var(--b); color: #000 }
.presence .bar > [data-class="2"] { background: var(--phi) }
`;

function number(x, digits = 5) {
  return minus(x === 0 ? "0" : Math.abs(x) < 1e-3 ? x.toExponential(3) : x.toFixed(digits));
}
const setName = (labels) => `{${members(labels).map((l) => CLASSES[l]).join(", ")}}`;

export function mount(root) {
  const state = structuredClone(PRESETS["clear evidence"]);
  const { slider, radios, presets, show } = controls(draw, announce);
  const status = element("output", { "aria-live": "polite" });
  const results = element("div");

  const beliefs = [];
  const cells = PLACES.map((place, m) => {
    const parts = CLASSES.flatMap((name, l) =>
      slider(`logit of ${name}`, LIMITS, () => state.logits[m][l], (v) => (state.logits[m][l] = v)));
    beliefs[m] = bars(SHORT, (c) => ({ "data-class": c }));
    return element("fieldset", { class: "cell" }, element("legend", {}, place), ...parts, beliefs[m].node);
  });

  // 4 x 3: A, B and the background, whose logit is 0
  const probabilities = () => state.logits.map((pair) => softmax([...pair, 0]));

  function draw() {
    const labels = SETS[state.labels];
    const p = probabilities();
    const r = posterior(p, labels);
    show();
    beliefs.forEach((one, m) => one.show(r[m]));
    results.replaceChildren(...report(p, labels));
  }

  function report(p, labels) {
    const all = enumerate(p, labels);
    const signed = series(p, labels);
    const rows = signed.terms.map(({ kept, sign, alpha }) =>
      element(
        "tr",
        {},
        element("td", {}, `${sign < 0 ? "−" : "+"} α of {${[...kept.map((l) => CLASSES[l]), "φ"].join(", ")}}`),
        element("td", {}, number(alpha, 11)),
      ),
    );
    const sums = [
      ["sum over the allowed labellings (0.1)", all.value],
      ["alternating series (1.2)", signed.value],
      ["alternating series in float32", seriesFloat32(p, labels)],
      ["recursion (2.1) in float32", recursion(p, labels, Math.fround)],
    ].map(([name, x]) => element("tr", {}, element("td", {}, name), element("td", {}, number(x))));
    const maps = [...all.rows].sort((a, b) => b.weight - a.weight).map(({ classes, weight }) => {
      const map = element("div", {}, ...classes.map((h) => element("span", { "data-class": h }, SHORT[h])));
      map.style.opacity = 0.3 + 0.7 * Math.sqrt(weight / all.rows.reduce((top, row) => Math.max(top, row.weight), 0));
      return map;
    });
    const heading = `${all.count} allowed ${all.count === 1 ? "labelling" : "labellings"} of 81, most probable first`;
    return [
      element("strong", {}, heading),
      element("div", { class: "maps", role: "img", "aria-label": heading }, ...maps),
      element("div", { class: "scroll", tabindex: "0" },
        element("table", {}, element("caption", {}, "Terms of the alternating series"), element("tbody", {}, ...rows)),
        element("table", {}, element("caption", {}, `Probability of ${setName(labels)}`), element("tbody", {}, ...sums))),
    ];
  }

  function announce() {
    const labels = SETS[state.labels];
    const p = probabilities();
    const single = seriesFloat32(p, labels);
    const exact = recursion(p, labels);
    const lost = Math.abs(single - exact) > 0.01 * exact;
    status.textContent =
      `Probability of the label set ${setName(labels)}: ${number(exact)}. ` +
      (lost ? `The float32 series says ${number(single)}: cancelled.` : "The float32 series agrees within 1\u00a0%.");
  }

  frame(root, "presence", "Presence likelihood on a 2 by 2 grid", STYLE,
    radios("Label set of the image", SETS.map(setName), () => state.labels, (i) => (state.labels = i)),
    presets(state, PRESETS),
    element("p", {}, "Logits against the background (0); bars: posterior of each position given the label set."),
    element("div", { class: "grid" }, ...cells),
    status,
    results);
  draw();
  announce();
}
