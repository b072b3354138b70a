// Lifting in one dimension: an image with two objects, a heat map with free values, two places. The arithmetic is
// exported and held equal to wsl_tutorial.patches by tests/book/test_demos_patches.py. A place is a number x, the centre of
// a box of side SIDE; pixel centres are integers. The task network multiplies each patch by tau.

import { controls, element, frame, minus, svg } from "./controls.mjs";

export const SIDE = 8;
export const SIZE = 9; // samples from edge to edge
export const LAMBDA = 0.02; // weight of the heat map term in the objective, paper (5)
const OFFSETS = Array.from({ length: SIZE }, (_, j) => SIDE * (j / (SIZE - 1) - 0.5));
const sum = (xs) => xs.reduce((a, b) => a + b, 0);

/** The value and the slope at t of the line through `xs`, 0 outside. */
function read(xs, t) {
  const i = Math.floor(t);
  const [low, high] = [xs[i] ?? 0, xs[i + 1] ?? 0];
  return [low + (t - i) * (high - low), high - low];
}

/** Eq. (8.3): samples of the box around x, from edge to edge. */
export function sample(image, x) {
  return OFFSETS.map((u) => read(image, x + u)[0]);
}

/** Eq. (8.4): a patch put back into an image of n zeros. */
export function place(patch, x, n) {
  return Array.from({ length: n }, (_, q) => read(patch, q - x + SIDE / 2)[0]);
}

/** Eq. (8.5): image minus the sum of the patches, at every pixel. */
function residual(image, places, tau) {
  const back = places.map((x) => place(sample(image, x), x, image.length));
  return image.map((v, q) => v - tau * sum(back.map((b) => b[q])));
}

export function taskLoss(image, places, tau) {
  return sum(residual(image, places, tau).map((r) => r * r)) / image.length;
}

/** The derivative of the task loss in every place: the patch changes, and so does where it is put. */
export function gradient(image, places, tau) {
  const rest = residual(image, places, tau);
  return places.map((x) => {
    const patch = sample(image, x);
    const slopes = OFFSETS.map((u) => read(image, x + u)[1]);
    const change = image.map((_, q) => read(slopes, q - x + SIDE / 2)[0] - read(patch, q - x + SIDE / 2)[1]);
    return (-2 * tau * sum(rest.map((r, q) => r * change[q]))) / image.length;
  });
}

/** Eq. (8.9) with a gradient of length 1: steps in pixels; a place without gradient stays. */
export function move(image, places, tau, step, penalty) {
  return gradient(image, places, tau).map((g, k) => {
    const free = places[k] - step * Math.sign(g);
    return places[k] + (free - places[k]) / (1 + 2 * step * penalty);
  });
}

/** A gradient step of tau on the task loss. */
export function learn(image, places, tau, rate) {
  const back = places.map((x) => place(sample(image, x), x, image.length));
  const rest = residual(image, places, tau);
  return tau + (2 * rate * sum(rest.map((r, q) => r * sum(back.map((b) => b[q]))))) / image.length;
}

/** Eq. (8.2): the K largest of the pixels that are the maximum of their window; of equals the first. */
export function extract(heatmap, k, window) {
  const reach = Math.floor(window / 2);
  const peaks = [];
  heatmap.forEach((v, i) => {
    const before = heatmap.slice(Math.max(0, i - reach), i);
    const after = heatmap.slice(i + 1, i + 1 + reach);
    if (before.every((u) => u < v) && after.every((u) => u <= v)) peaks.push(i);
  });
  peaks.sort((a, b) => heatmap[b] - heatmap[a] || a - b);
  return Array.from({ length: k }, (_, j) => peaks[j] ?? peaks[0]);
}

/** Eq. (8.7): 1 at every rounded place. */
export function ideal(places, n) {
  const dots = Array(n).fill(0);
  for (const x of places) dots[Math.min(n - 1, Math.max(0, Math.floor(x + 0.5)))] = 1;
  return dots;
}

/** A gradient step of the map on half of Eq. (8.8). */
export function follow(heatmap, places, rate) {
  const dots = ideal(places, heatmap.length);
  return heatmap.map((v, i) => v + rate * (dots[i] - v));
}

/** Paper (5). */
export function objective(image, heatmap, places, tau) {
  const dots = ideal(places, heatmap.length);
  return taskLoss(image, places, tau) + LAMBDA * sum(heatmap.map((v, i) => (dots[i] - v) ** 2));
}

export const digits = (value) => value.toFixed(4);

/** How the objective changed as printed: 1 if it rose, -1 if it fell, 0 if the digits are equal. */
export function trend(before, after) {
  return Math.sign(Number(digits(after)) - Number(digits(before)));
}

const N = 52;
const OBJECTS = [{ at: 12, high: 1 }, { at: 40, high: 0.8 }];
export const IMAGE = Array.from({ length: N }, (_, i) =>
  sum(OBJECTS.map(({ at, high }) => (Math.abs(i - at) < 6 ? high * Math.cos((Math.PI * (i - at)) / 12) ** 2 : 0))));
const bumps = (...peaks) => Array.from({ length: N }, (_, i) => sum(peaks.map(([x, h]) => h * Math.exp(-((i - x) ** 2) / 3))));
const fresh = { tau: 0.5, history: [], step: 1, penalty: 0 };
export const PRESETS = {
  "beside the objects": { ...fresh, heatmap: bumps([7, 0.6], [45, 0.5]) },
  "a decoy": { ...fresh, heatmap: bumps([10, 0.7], [26, 0.5], [42, 0.3]) },
  "two on one object": { ...fresh, heatmap: bumps([10, 0.6], [14, 0.55]) },
};

const STYLE = `
.patches svg { display: block; width: 100%; max-width: 44rem; height: auto }
.patches svg text { font: 11px sans-serif; fill: currentColor }
`;

/** Image above, heat map below, the boxes of the places between them. */
function picture(state) {
  const across = (x) => 30 + 12 * x;
  const column = (values, bottom, scale, fill) =>
    values.map((v, i) =>
      svg("rect", { x: across(i) - 5, y: bottom - scale * v, width: 10, height: Math.max(0, scale * v), fill }));
  const marks = state.places.flatMap((x, k) => {
    const colour = ["#d55e00", "#0072b2"][k];
    const side = 12 * SIDE;
    return [
      svg("rect", { x: across(x) - side / 2, y: 12 + 4 * k, width: side, height: 90 - 8 * k, fill: "none",
        stroke: colour, "stroke-width": 2, ...(k ? { "stroke-dasharray": "6 3" } : {}) }),
      svg("text", { x: across(x) - 3, y: 118 }, String(k + 1)),
    ];
  });
  return svg("svg", { viewBox: "0 0 680 215", role: "img", "aria-label": described(state) },
    ...column(IMAGE, 100, 80, "#8a8a8a"), ...column(state.heatmap, 205, 75, "#009e73"), ...marks,
    svg("text", { x: 2, y: 10 }, "image"), svg("text", { x: 2, y: 132 }, "heat map"));
}

const where = (places) => places.map((x, k) => `place ${k + 1} at ${x.toFixed(1)}`).join(", ");

function described(state) {
  return `Objects at ${OBJECTS.map((o) => o.at).join(" and ")} of ${N} pixels; ${where(state.places)}.`;
}

export function mount(root) {
  const state = { window: 1, ...structuredClone(PRESETS["beside the objects"]) };
  const { slider, radios, buttons, presets, show } = controls(draw, announce);
  const status = element("output", { "aria-live": "polite" });
  const results = element("div");
  const widths = [3, 5, 9];
  const pick = () => extract(state.heatmap, 2, widths[state.window]);

  const blocks = {
    places: () => (state.places = move(IMAGE, state.places, state.tau, state.step, state.penalty)),
    task: () => (state.tau = learn(IMAGE, state.places, state.tau, 2)),
    "heat map": () => (state.heatmap = follow(state.heatmap, state.places, 0.5)),
    extract: () => (state.places = pick()),
  };
  const value = () => objective(IMAGE, state.heatmap, state.places, state.tau);

  function run(...names) {
    for (const name of names) {
      const before = value();
      blocks[name]();
      state.history.push({ name, before, after: value() });
    }
  }
  const round = () => run("places", "task", "heat map", "extract");
  const actions = {
    "1 places move": () => run("places"),
    "2 task learns": () => run("task"),
    "3 heat map follows": () => run("heat map"),
    "4 extract again": () => run("extract"),
    "one round": round,
    "ten rounds": () => Array.from({ length: 10 }).forEach(round),
  };

  function draw() {
    if (!state.history.length) state.places = pick();
    show();
    results.replaceChildren(picture(state), table());
  }

  function table() {
    const rows = state.history.slice(-8).map(({ name, before, after }) =>
      element("tr", {}, element("td", {}, name), element("td", {}, digits(before)), element("td", {}, digits(after)),
        element("td", {}, ["▼ fell", "= same", "▲ rose"][1 + trend(before, after)])));
    const heads = ["block", "before", "after", ""].map((text) => element("th", { scope: "col" }, text));
    return element("div", { class: "scroll", tabindex: "0" },
      element("table", {}, element("caption", {}, "Objective, paper (5), in the last eight blocks"),
        element("thead", {}, element("tr", {}, ...heads)), element("tbody", {}, ...rows)));
  }

  function announce() {
    const last = state.history.at(-1);
    const raised = last && trend(last.before, last.after) > 0;
    const effect = last ? ` The block ${last.name} ${raised ? "raised" : "did not raise"} it.` : "";
    status.textContent = minus(
      `Task loss ${taskLoss(IMAGE, state.places, state.tau).toFixed(4)}, objective ${digits(value())}, ` +
        `tau ${state.tau.toFixed(2)}; ${where(state.places)}.${effect}`,
    );
  }

  frame(root, "patches", "Lifting in one dimension", STYLE,
    presets(state, PRESETS),
    buttons("Step through Algorithm 1", actions),
    ...slider("step of a place / px", { min: 0, max: 2, step: 0.05 }, () => state.step, (v) => (state.step = v), 2),
    ...slider("penalty λ", { min: 0, max: 2, step: 0.05 }, () => state.penalty, (v) => (state.penalty = v), 2),
    radios("Window of suppression / px", widths.map(String), () => state.window, (i) => (state.window = i)),
    element("p", {}, "Grey: the image. Green: the heat map. Boxes: the places, 1 solid and 2 dashed."),
    results,
    status);
  draw();
  announce();
}
