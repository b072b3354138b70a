// The one idea: six hidden labels, four observers, the labellings that remain. The arithmetic is exported and held equal
// to wsl_tutorial.toy by tests/book/test_demos_ideas.py. A labelling is an array of numbers; the background is the last.

import { bars, controls, element, frame, minus } from "./controls.mjs";

export const CLASSES = 3; // A, B and the background
const sum = (xs) => xs.reduce((a, b) => a + b, 0);
const counts = (h) => Array.from({ length: CLASSES }, (_, c) => h.filter((l) => l === c).length);

/** The four maps g of chapter 0, from a labelling to what is observed of it. */
export const OBSERVERS = {
  presence: (h) => counts(h).slice(0, -1).map((n) => n > 0),
  counts,
  patches: (h) => [...h].sort(),
  regions: (h) => {
    const things = counts(h).slice(0, -1);
    return [sum(things) ? things.indexOf(Math.max(...things)) : CLASSES - 1];
  },
};

/** Every labelling with g(h) = o and its probability under p (n, k), most probable first. */
export function remaining(p, observer, picture) {
  const observed = String(OBSERVERS[observer](picture));
  const all = Array.from({ length: CLASSES ** p.length }, (_, code) =>
    p.map((_, i) => Math.floor(code / CLASSES ** (p.length - 1 - i)) % CLASSES));
  return all
    .filter((h) => String(OBSERVERS[observer](h)) === observed)
    .map((h) => ({ h, weight: h.reduce((w, l, i) => w * p[i][l], 1) }))
    .sort((a, b) => b.weight - a.weight);
}

/** Eq. (0.1): the sum over the labellings that remain. */
export const marginal = (rows) => sum(rows.map((row) => row.weight));

/** Eq. (0.2): the probability of each label of each place, given the observation. */
export function posterior(p, rows) {
  const total = marginal(rows);
  return p.map((q, i) => q.map((_, l) => sum(rows.map(({ h, weight }) => (h[i] === l ? weight : 0))) / total));
}

/** A network that gives the true label probability `sure`, and the others the same share of the rest. */
export function network(picture, sure) {
  return picture.map((l) => Array.from({ length: CLASSES }, (_, c) => (c === l ? sure : (1 - sure) / (CLASSES - 1))));
}

const SIGNS = ["A", "B", "φ"];
const SHOWN = 40;
const ASKS = { presence: "which classes occur", counts: "how many of each", patches: "which things, in no order", regions: "the class of the image" };

const STYLE = `
.idea { --a: #0072b2; --b: #d55e00; --phi: #8a8a8a }
.idea .halves { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(18rem, 100%), 1fr)); gap: .5rem 1rem }
.idea .grid { grid-template-columns: repeat(3, minmax(0, 1fr)) }
.idea .cell button { width: 100%; margin-bottom: .25rem }
.idea .bars { grid-template-columns: 1em minmax(0, 1fr) 2.9em }
.idea .maps > div { display: grid; grid-template-columns: repeat(3, 1.2em); border: 1px solid var(--line); font: 600 .62rem/1.2 monospace; text-align: center }
.idea [data-class="0"] { background: var(--a); color: #fff }
.idea [data-class="1"] { background: var(--b); color: #000 }
.idea .bar > [data-class="2"] { background: var(--phi) }
`;

export function mount(root) {
  const state = { picture: [0, 2, 1, 2, 0, 2], observer: 0, sure: 1 / CLASSES };
  const names = Object.keys(OBSERVERS);
  const { slider, radios, show } = controls(draw, announce);
  const status = element("output", { "aria-live": "polite" });
  const list = element("div");
  const beliefs = state.picture.map(() => bars(SIGNS, (c) => ({ "data-class": c })));
  const cells = state.picture.map((_, i) => {
    const button = element("button", { type: "button" });
    button.addEventListener("click", () => {
      state.picture[i] = (state.picture[i] + 1) % CLASSES;
      draw();
      announce();
    });
    return { button, node: element("div", { class: "cell" }, button, beliefs[i].node) };
  });

  function now() {
    const p = network(state.picture, state.sure);
    return { p, rows: remaining(p, names[state.observer], state.picture) };
  }

  function draw() {
    const { p, rows } = now();
    show();
    posterior(p, rows).forEach((r, i) => beliefs[i].show(r));
    cells.forEach(({ button }, i) => {
      button.textContent = SIGNS[state.picture[i]];
      button.setAttribute("aria-label", `place ${i + 1}: ${SIGNS[state.picture[i]]}, change`);
    });
    const heading = `${rows.length} of ${CLASSES ** 6} labellings remain` + (rows.length > SHOWN ? `, the ${SHOWN} most probable:` : ":");
    const maps = rows.slice(0, SHOWN).map(({ h }) =>
      element("div", {}, ...h.map((l) => element("span", { "data-class": l }, SIGNS[l]))));
    list.replaceChildren(element("strong", {}, heading), element("div", { class: "maps", role: "img", "aria-label": heading }, ...maps));
  }

  function announce() {
    const { rows } = now();
    const bits = -Math.log2(marginal(rows));
    status.textContent = minus(
      `Picture ${state.picture.map((l) => SIGNS[l]).join("")}, observed: ${ASKS[names[state.observer]]}. ` +
        `${rows.length} labellings remain. P(o) = ${marginal(rows).toFixed(4)}: the label carries ${Math.abs(bits).toFixed(2)} bits.`);
  }

  frame(root, "idea", "Six hidden labels and what is observed of them", STYLE,
    radios("What is observed", names.map((name) => `${name}: ${ASKS[name]}`), () => state.observer, (i) => (state.observer = i)),
    ...slider("probability that the network gives the true label of each place", { min: 0.34, max: 0.98, step: 0.02 },
      () => state.sure, (v) => (state.sure = v), 2),
    element("div", { class: "halves" },
      element("div", {}, element("strong", {}, "The hidden picture (press to change), and the posterior of each place"),
        element("div", { class: "grid" }, ...cells.map((cell) => cell.node))),
      list),
    status);
  draw();
  announce();
}
