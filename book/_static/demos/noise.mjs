// Counts that are wrong at a known rate, or known to a range. The arithmetic is exported and held equal to
// wsl_tutorial.counts by tests/book/test_demos_ideas.py. `z` is an array of logits.

import { bars, controls, element, frame, minus } from "./controls.mjs";
import { forward, sigmoid } from "./counts.mjs";

const sum = (xs) => xs.reduce((a, b) => a + b, 0);

/** The probability of each count 0 .. n. */
export const distribution = (z) => forward(z, z.length).at(-1);

/** The probability of the observed count given each true count: right, or wrong by one with probability `rate`. */
export function wrongByOne(n, observed, rate) {
  return Array.from({ length: n + 1 }, (_, j) => {
    const beside = [j - 1, j + 1].filter((k) => k >= 0 && k <= n);
    return j === observed ? 1 - rate : beside.includes(observed) ? rate / beside.length : 0;
  });
}

/** 1 for the counts from low to high. */
export const between = (n, low, high) => Array.from({ length: n + 1 }, (_, j) => Number(low <= j && j <= high));

/** Eqs. (6.2) and (6.3): the probability of the observation. */
export const probability = (z, given) => sum(distribution(z).map((f, j) => f * given[j]));

/** The probability of each true count, given the observation. */
export const posterior = (z, given) => distribution(z).map((f, j) => (f * given[j]) / probability(z, given));

const N = 6;
const BAGS = {
  "about half": [0.8, 0.4, 0.1, -0.1, -0.4, -0.8],
  "mostly negative": [-0.5, -1, -1.5, -2, -2, -2.5],
  "nearly sure of two": [4, 4, -4, -4, -4, -4],
};
const KINDS = ["exact", "wrong by one at times", "a range"];

const STYLE = `
.noise .bars { max-width: 34rem }
.noise .bar > i { background: #0072b2 }
.noise .halves { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(16rem, 100%), 1fr)); gap: .5rem 1.5rem; margin: .4rem 0 }
`;

export function mount(root) {
  const state = { z: BAGS["about half"], count: 5, kind: 0, rate: 0.2, reach: 1 };
  const { slider, radios, presets, show } = controls(draw, announce);
  const status = element("output", { "aria-live": "polite" });
  const numbers = Array.from({ length: N + 1 }, (_, j) => String(j));
  const [before, after] = [bars(numbers), bars(numbers)];
  const ends = () => [Math.max(0, state.count - state.reach), Math.min(N, state.count + state.reach)];
  const given = () =>
    [between(N, state.count, state.count), wrongByOne(N, state.count, state.rate), between(N, ...ends())][state.kind];

  function draw() {
    show();
    before.show(distribution(state.z));
    after.show(posterior(state.z, given()));
  }

  function announce() {
    const r = posterior(state.z, given());
    const what = [`exactly ${state.count}`, `${state.count}, wrong by one with probability ${state.rate.toFixed(2)}`, ends().join(" to ")];
    status.textContent = minus(
      `Observed ${what[state.kind]}: log P = ${Math.log(probability(state.z, given())).toFixed(3)}. The expected count is ` +
        `${sum(state.z.map(sigmoid)).toFixed(2)} before and ${sum(r.map((p, j) => p * j)).toFixed(2)} after the observation. ` +
        `Error rate ${state.rate.toFixed(2)}, range ±${state.reach}.`);
  }

  frame(root, "noise", "A count with errors, or only a range", STYLE,
    presets(state, Object.fromEntries(Object.entries(BAGS).map(([name, z]) => [name, { z }]))),
    radios("Observed count of positives", numbers, () => state.count, (y) => (state.count = y)),
    radios("The count is", KINDS, () => state.kind, (k) => (state.kind = k)),
    ...slider("probability that it is wrong by one", { min: 0.02, max: 0.9, step: 0.02 }, () => state.rate, (v) => (state.rate = v), 2),
    ...slider("range: this many more or fewer", { min: 0, max: 3, step: 1 }, () => state.reach, (v) => (state.reach = v), 0),
    element("div", { class: "halves" },
      element("div", {}, element("strong", {}, "Each true count, before"), before.node),
      element("div", {}, element("strong", {}, "and given the observation"), after.node)),
    status);
  draw();
  announce();
}
