// K places from a heat map of one dimension, when K is wrong or digits overlap. The arithmetic is exported and held equal
// to wsl_tutorial.patches by tests/book/test_demos_ideas.py. Heat map and centres are in pixels.

import { controls, element, frame, minus, svg } from "./controls.mjs";
import { extract } from "./patches.mjs";

const N = 60;
const WIDE = 2.5; // standard deviation of a bump in pixels
export const HIT = 4; // a place within so many pixels of a digit finds it
const HEIGHTS = [1, 0.85, 0.7];

/** A heat map with a bump at each centre, and one of height `decoy` where no digit is. */
export function heatmap(centres, decoy) {
  const peaks = [...centres.map((x, k) => [x, HEIGHTS[k]]), [54, decoy]];
  return Array.from({ length: N }, (_, i) =>
    Math.max(...peaks.map(([x, high]) => high * Math.exp(-((i - x) ** 2) / (2 * WIDE ** 2)))));
}

/** Which digits are found, each by a place of its own, nearest pairs first; and how many places find none. */
export function matched(places, centres) {
  const pairs = places.flatMap((x, k) => centres.map((c, d) => ({ k, d, far: Math.abs(x - c) })));
  const found = new Map();
  const used = new Set();
  for (const { k, d, far } of pairs.sort((a, b) => a.far - b.far)) {
    if (far > HIT || found.has(d) || used.has(k)) continue;
    found.set(d, k);
    used.add(k);
  }
  return { found: [...found.keys()].sort(), spare: places.length - used.size };
}

const WINDOWS = [3, 9, 15];
const SCENES = { // k counts from 0: the number of places less one
  "three apart": { gap: 18, k: 2, window: 1 },
  "K too large": { gap: 18, k: 3, window: 1 },
  "digits overlap": { gap: 6, k: 2, window: 2 },
};

const STYLE = `
.extraction svg { display: block; width: 100%; max-width: 44rem; height: auto }
.extraction svg text { font: 12px sans-serif; fill: currentColor }
`;

function picture(map, places, centres, text) {
  const across = (x) => 15 + 11 * x;
  const columns = map.map((v, i) => svg("rect", { x: across(i) - 4, y: 100 - 80 * v, width: 8, height: 80 * v, fill: "#009e73" }));
  const digits = centres.map((x, d) => svg("text", { x: across(x) - 4, y: 118 }, String(d + 1)));
  const marks = places.map((x, k) =>
    svg("path", { d: `M${across(x) - 7},${4 + 5 * k} h14 l-7,10 z`, fill: "#d55e00", stroke: "currentColor" }));
  return svg("svg", { viewBox: "0 0 690 125", role: "img", "aria-label": text }, ...columns, ...digits, ...marks);
}

export function mount(root) {
  const state = { decoy: 0.4, ...SCENES["three apart"] };
  const { slider, radios, presets, show } = controls(draw, announce);
  const status = element("output", { "aria-live": "polite" });
  const results = element("div");

  function now() {
    const centres = [8, 8 + state.gap, 8 + 2 * state.gap];
    const map = heatmap(centres, state.decoy);
    const places = extract(map, state.k + 1, WINDOWS[state.window]);
    return { centres, map, places, ...matched(places, centres) };
  }

  function said({ places, found, spare }) {
    const missed = [0, 1, 2].filter((d) => !found.includes(d)).map((d) => d + 1);
    return `Places at ${places.join(", ")}: ${found.length} of 3 digits found${missed.length ? `, missed ${missed.join(" and ")}` : ""}; ` +
      `${spare} of ${places.length} places on no digit of their own.`;
  }

  function draw() {
    const all = now();
    show();
    results.replaceChildren(picture(all.map, all.places, all.centres, said(all)));
  }

  function announce() {
    status.textContent = minus(`Gap ${state.gap}, decoy ${state.decoy.toFixed(2)}, window ${WINDOWS[state.window]}. ${said(now())}`);
  }

  frame(root, "extraction", "K places from a heat map with three digits", STYLE,
    presets(state, SCENES),
    radios("K, the number of digits that the program is given", ["1", "2", "3", "4", "5"], () => state.k, (i) => (state.k = i)),
    radios("Window of suppression / px", WINDOWS.map(String), () => state.window, (i) => (state.window = i)),
    ...slider("gap between digits / px", { min: 2, max: 20, step: 1 }, () => state.gap, (v) => (state.gap = v), 0),
    ...slider("height of a bump where no digit is", { min: 0, max: 1, step: 0.05 }, () => state.decoy, (v) => (state.decoy = v), 2),
    element("p", {}, "Green: the heat map. Numbers: the digits. Triangles: the places that are extracted."),
    results,
    status);
  draw();
  announce();
}
