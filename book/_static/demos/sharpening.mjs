// Training on one image of six positions that shows one class. The arithmetic is exported and held equal to
// wsl_tutorial.presence by tests/book/test_demos_ideas.py. `z` holds the logits of the class against the background.

import { bars, controls, element, frame, minus } from "./controls.mjs";

const sum = (xs) => xs.reduce((a, b) => a + b, 0);
const softplus = (z) => Math.max(z, 0) + Math.log1p(Math.exp(-Math.abs(z)));
export const sigmoid = (z) => Math.exp(-softplus(-z));

/** Eq. (1.2) for one class: the log-probability that it occurs somewhere. */
export const likelihood = (z) => Math.log(-Math.expm1(-sum(z.map(softplus))));

/** Eq. (2.3) for one class: the probability that each position shows it, given that one does. */
export const posterior = (z) => z.map((x) => Math.exp(-softplus(-x) - likelihood(z)));

/** Eq. (3.1): minus the log-probability of the best position. */
export const maxPooling = (z) => softplus(-Math.max(...z));

/** The pull on each logit, minus the gradient of the loss: posterior minus prior; or the best position alone. */
export const PULLS = {
  "exact likelihood": (z) => posterior(z).map((r, j) => r - sigmoid(z[j])),
  "max-pooling": (z) => z.map((x, j) => (j === z.indexOf(Math.max(...z)) ? sigmoid(-x) : 0)),
};

/** `steps` steps of gradient descent. */
export function train(z, loss, steps, rate = 1) {
  for (let t = 0; t < steps; t++) z = PULLS[loss](z).map((g, j) => z[j] + rate * g);
  return z;
}

const LIMITS = { min: -6, max: 6, step: 0.1 };
const STARTS = {
  "one is ahead": { z: [-3, -3, -2.4, -3, -3, -3], steps: 0 },
  "two are equal": { z: [-3, -2, -3, -3, -2, -3], steps: 0 },
  "no idea": { z: [0, 0, 0, 0, 0, 0], steps: 0 },
};

const STYLE = `
.sharpening .grid { grid-template-columns: repeat(auto-fit, minmax(min(12rem, 100%), 1fr)) }
.sharpening .bar > i { background: #8a8a8a }
.sharpening .bar > [data-post] { background: #0072b2 }
`;

export function mount(root) {
  const state = { loss: 0, ...structuredClone(STARTS["one is ahead"]) };
  const losses = Object.keys(PULLS);
  const { slider, radios, buttons, presets, show } = controls(draw, announce);
  const status = element("output", { "aria-live": "polite" });
  const beliefs = [];
  const pulls = [];
  const cells = state.z.map((_, j) => {
    const parts = slider("logit", LIMITS, () => state.z[j], (v) => (state.z[j] = v));
    beliefs[j] = bars(["p", "r"], (k) => (k ? { "data-post": "" } : {}));
    pulls[j] = element("span");
    return element("fieldset", { class: "cell" }, element("legend", {}, `position ${j + 1}`), ...parts, beliefs[j].node,
      element("div", {}, "pull ", pulls[j]));
  });
  const step = (steps) => () => {
    state.z = train(state.z, losses[state.loss], steps);
    state.steps += steps;
  };

  function draw() {
    const r = posterior(state.z);
    show();
    beliefs.forEach((one, j) => one.show([sigmoid(state.z[j]), r[j]]));
    PULLS[losses[state.loss]](state.z).forEach((g, j) => (pulls[j].textContent = minus(`${g < -5e-4 ? "" : "+"}${Math.abs(g) < 5e-4 ? "0.000" : g.toFixed(3)}`)));
  }

  function announce() {
    const r = posterior(state.z);
    const best = r.indexOf(Math.max(...r));
    status.textContent = minus(
      `After ${state.steps} steps with ${losses[state.loss]}: the class occurs with probability ${Math.exp(likelihood(state.z)).toFixed(4)}; ` +
        `the posterior of position ${best + 1} is ${r[best].toFixed(3)}, and all posteriors sum to ${sum(r).toFixed(3)} positions.`);
  }

  frame(root, "sharpening", "Training on one image that shows one class", STYLE,
    presets(state, STARTS),
    radios("Loss", losses, () => state.loss, (i) => (state.loss = i)),
    buttons("Gradient steps on the logits", { "one step": step(1), "ten steps": step(10), "hundred steps": step(100) }),
    element("p", {}, "Bars: p, the probability that the network gives the class; r, its posterior given that the class occurs. The pull is minus the gradient of the loss."),
    element("div", { class: "grid" }, ...cells),
    status);
  draw();
  announce();
}
