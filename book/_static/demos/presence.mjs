// The presence likelihood on a small grid. The arithmetic is exported and held equal to wsl_tutorial.presence by
// tests/test_demos.py. `p` is an array of positions, each an array of C + 1 probabilities with the background last;
// `labels` is an array of C booleans.

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
const NAMES = [...CLASSES, "background"];
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
.presence { --line: color-mix(in srgb, currentColor 35%, transparent); --a: #0072b2; --b: #d55e00; --phi: #8a8a8a;
  border: 1px solid var(--line); border-radius: .5rem; padding: .75rem; margin: 1rem 0; line-height: 1.4; color: inherit }
.presence fieldset { border: 0; padding: 0; margin: 0 0 .6rem; min-width: 0 }
.presence legend { font-weight: 600; font-size: 1rem; padding: 0; margin: 0 }
.presence .row { display: flex; flex-wrap: wrap; gap: .3rem 1rem; align-items: center }
.presence .grid { display: grid; grid-template-columns: repeat(2, minmax(0, 1fr)); gap: .5rem }
.presence .cell { border: 1px solid var(--line); border-radius: .35rem; padding: .4rem; min-width: 0 }
.presence label { display: block; font-size: .9rem }
.presence .row label { display: inline-flex; gap: .35rem; align-items: center }
.presence input[type=range] { width: 100%; margin: 0 0 .25rem; accent-color: currentColor }
.presence button { font: inherit; color: inherit; background: transparent; border: 1px solid currentColor;
  border-radius: .3rem; padding: .2rem .6rem; cursor: pointer }
.presence :is(button, input):focus-visible { outline: 3px solid #d55e00; outline-offset: 2px }
.presence .post { display: grid; grid-template-columns: 1.2em minmax(0, 1fr) 3.2em; gap: .1rem .3rem;
  font-size: .85rem; font-variant-numeric: tabular-nums; align-items: center; margin: .2rem 0 0 }
.presence .bar { height: .7rem; border: 1px solid var(--line) }
.presence .bar > i { display: block; height: 100% }
.presence .scroll { overflow-x: auto }
.presence table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; margin: .3rem 0 .6rem;
  color: inherit; width: auto }
.presence td { padding: .15rem .4rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap }
.presence td:first-child { text-align: left; white-space: normal }
.presence caption { text-align: left; font-weight: 600; caption-side: top; color: inherit; padding: 0; white-space: nowrap }
.presence .maps { display: flex; flex-wrap: wrap; gap: .3rem; margin: .3rem 0 .6rem }
.presence .maps > div { display: grid; grid-template-columns: 1fr 1fr; border: 1px solid var(--line); font: 600 .62rem/1.15 monospace }
.presence .maps span { width: 1.15em; text-align: center }
.presence [data-class="0"] { background: var(--a); color: #fff }
.presence [data-class="1"] { background: var(--b); color: #000 }
.presence .bar > [data-class="2"] { background: var(--phi) }
.presence output { display: block; font-weight: 600 }
`;

function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

function number(x, digits = 5) {
  const text = x === 0 ? "0" : Math.abs(x) < 1e-3 ? x.toExponential(3) : x.toFixed(digits);
  return text.replaceAll("-", "−");
}
const setName = (labels) => `{${members(labels).map((l) => CLASSES[l]).join(", ")}}`;

export function mount(root) {
  const id = `presence-${Math.random().toString(36).slice(2, 8)}`;
  const state = structuredClone(PRESETS["clear evidence"]);
  const choice = SETS.map((labels, i) => element("input", { type: "radio", name: `${id}-set`, value: i, id: `${id}-set${i}` }));
  const sliders = [];
  const values = [];
  const bars = [];
  const status = element("output", { "aria-live": "polite" });
  const results = element("div");

  const cells = PLACES.map((place, m) => {
    const cell = element("fieldset", { class: "cell" }, element("legend", {}, place));
    sliders[m] = CLASSES.map((name, l) => {
      const slider = element("input", { type: "range", id: `${id}-${m}${l}`, ...LIMITS });
      const value = element("span");
      (values[m] ??= []).push(value);
      slider.addEventListener("input", () => {
        state.logits[m][l] = Number(slider.value);
        draw();
      });
      slider.addEventListener("change", announce); // once per finished move, not at every step of it
      cell.append(element("label", { for: slider.id }, `logit of ${name}: `, value), slider);
      return slider;
    });
    const post = element("div", { class: "post" });
    bars[m] = NAMES.map((name, c) => {
      const fill = element("i", { "data-class": c });
      const text = element("span");
      post.append(
        element("span", { title: name }, SHORT[c]),
        element("span", { class: "bar", "aria-hidden": "true" }, fill),
        text,
      );
      return { fill, text };
    });
    cell.append(post);
    return cell;
  });

  choice.forEach((radio, i) =>
    radio.addEventListener("change", () => {
      state.labels = i;
      draw();
      announce();
    }),
  );
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
    const labels = SETS[state.labels];
    const p = state.logits.map((pair) => softmax([...pair, 0])); // 4 x 3: A, B and the background, whose logit is 0
    const r = posterior(p, labels);
    choice.forEach((radio, i) => (radio.checked = i === state.labels));
    state.logits.forEach((pair, m) => {
      pair.forEach((z, l) => {
        sliders[m][l].value = z;
        values[m][l].textContent = z.toFixed(1).replace("-", "−");
      });
      bars[m].forEach(({ fill, text }, c) => {
        fill.style.width = `${100 * r[m][c]}%`;
        text.textContent = r[m][c].toFixed(3);
      });
    });
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
      element("div", { class: "scroll" },
        element("table", {}, element("caption", {}, "Terms of the alternating series"), element("tbody", {}, ...rows)),
        element("table", {}, element("caption", {}, `Probability of ${setName(labels)}`), element("tbody", {}, ...sums))),
    ];
  }

  function announce() {
    const labels = SETS[state.labels];
    const p = state.logits.map((pair) => softmax([...pair, 0]));
    const single = seriesFloat32(p, labels);
    const exact = recursion(p, labels);
    const lost = Math.abs(single - exact) > 0.01 * exact;
    status.textContent =
      `Probability of the label set ${setName(labels)}: ${number(exact)}. ` +
      (lost ? `The float32 series says ${number(single)}: cancelled.` : "The float32 series agrees within 1\u00a0%.");
  }

  const sets = SETS.map((labels, i) => element("label", { for: choice[i].id }, choice[i], setName(labels)));
  root.replaceChildren(
    element("style", {}, STYLE),
    element("div", { class: "presence", role: "group", "aria-label": "Presence likelihood on a 2 by 2 grid" },
      element("fieldset", {}, element("legend", {}, "Label set of the image"), element("div", { class: "row" }, ...sets)),
      element("fieldset", {}, element("legend", {}, "Start from"), element("div", { class: "row" }, ...presets)),
      element("p", {}, "Logits against the background (0); bars: posterior of each position given the label set."),
      element("div", { class: "grid" }, ...cells),
      status,
      results),
  );
  draw();
  announce();
}
