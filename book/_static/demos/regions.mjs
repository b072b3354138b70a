// The min-max loss on an image of six cells. The arithmetic is exported and held equal to wsl_tutorial.regions by
// tests/book/test_demos_regions.py. `evidence` holds what each cell adds to the logit of class 1 against class 0, `mask` a
// number between 0 and 1 for each cell.

import { bars, controls, element, frame, minus } from "./controls.mjs";

const sum = (xs) => xs.reduce((a, b) => a + b, 0);

/** log(1 + exp(z)) without overflow. */
export const softplus = (z) => Math.max(z, 0) + Math.log1p(Math.exp(-Math.abs(z)));

/** Eq. (11.1) for two classes whose logits are 0 and z. */
export function entropy(z) {
  return softplus(-Math.abs(z)) + Math.abs(z) * Math.exp(-softplus(Math.abs(z)));
}

/** Eq. (11.2) for two classes whose logits are 0 and z. */
export function uniform(z) {
  return (softplus(z) + softplus(-z)) / 2;
}

/** Eq. (11.4) and its three terms, with the logits of class 1 on both parts; the class of the image is 1. */
export function minMax(evidence, mask) {
  const plus = sum(evidence.map((e, j) => e * mask[j]));
  const rest = sum(evidence.map((e, j) => e * (1 - mask[j])));
  const terms = [softplus(-plus), uniform(rest), softplus(-sum(evidence))];
  return { plus, rest, terms, loss: sum(terms) };
}

/** Eqs. (11.8) and (11.9): the mask that a localiser with this map would give. */
export function softMask(map, omega, threshold) {
  const least = Math.min(...map);
  const span = Math.max(...map) - least;
  return map.map((t) => {
    const scaled = span > 0 ? (t - least) / span : 0.5;
    return 1 / (1 + Math.exp(-omega * (scaled - threshold)));
  });
}

const PRESETS = {
  "one of two equal glands": { evidence: [0, 4, 0, 0, 4, 0], mask: [0, 1, 0, 0, 0, 0] },
  "both glands": { evidence: [0, 4, 0, 0, 4, 0], mask: [0, 1, 0, 0, 1, 0] },
  "all ones": { evidence: [0, 4, 0, 0, 4, 0], mask: [1, 1, 1, 1, 1, 1] },
  "a bird's head": { evidence: [0, 4, 1, 1, 1, 0], mask: [0, 1, 0, 0, 0, 0] },
  "a telling background": { evidence: [1, 2, 1, 1, 2, 1], mask: [0, 1, 0, 0, 1, 0] },
};
const UNIT = { min: 0, max: 1, step: 0.05 };

const STYLE = `
.regions .grid { grid-template-columns: repeat(3, minmax(0, 1fr)) }
.regions .bar > i { background: #0072b2 }
.regions .bar > [data-rest] { background: #d55e00 }
.regions td:first-child { text-align: left; white-space: normal }
`;

export function mount(root) {
  const state = structuredClone(PRESETS["one of two equal glands"]);
  const { slider, presets, buttons, show } = controls(draw, announce);
  const status = element("output", { "aria-live": "polite" });
  const results = element("div");
  const answers = bars(["X⁺", "X⁻"], (k) => (k ? { "data-rest": "" } : {}));

  const names = [];
  const cells = state.mask.map((_, j) => {
    const parts = slider("mask", UNIT, () => state.mask[j], (v) => (state.mask[j] = v), 2);
    names[j] = element("legend");
    return element("fieldset", { class: "cell" }, names[j], ...parts);
  });
  const cuts = buttons("Set the mask to", {
    "what lies above the midrange (11.9)": () => (state.mask = softMask(state.evidence, 8, 0.5)),
    nothing: () => state.mask.fill(0),
    everything: () => state.mask.fill(1),
  });

  function draw() {
    const { plus, rest, terms, loss } = minMax(state.evidence, state.mask);
    show();
    names.forEach((name, j) => (name.textContent = `cell ${j + 1}, evidence ${state.evidence[j]}`));
    answers.show([plus, rest].map((z) => Math.exp(-softplus(-z))));
    const rows = [
      ["H⁺, −log p(y | X⁺)", terms[0]],
      ["H⁻, cross-entropy of uniform and p(· | X⁻)", terms[1]],
      ["H of the localiser, −log p(y | X)", terms[2]],
      ["loss (11.4)", loss],
      ["entropy of p(· | X⁺), (11.1)", entropy(plus)],
      ["entropy of p(· | X⁻), at most log 2 = 0.693", entropy(rest)],
    ].map(([text, x]) => element("tr", {}, element("td", {}, text), element("td", {}, x.toFixed(3))));
    results.replaceChildren(
      element("div", { class: "scroll", tabindex: "0" }, element("table", {}, element("caption", {}, "In nats"), element("tbody", {}, ...rows))));
  }

  function announce() {
    const { plus, rest, loss } = minMax(state.evidence, state.mask);
    const [seen, left] = [plus, rest].map((z) => Math.exp(-softplus(-z)).toFixed(3));
    const area = Math.round((100 * sum(state.mask)) / state.mask.length);
    status.textContent = minus(
      `Mask over ${area} % of the image: class probability ${seen} on the masked part, ${left} on the rest, loss ${loss.toFixed(3)}.`,
    );
  }

  frame(root, "regions", "Min-max loss on an image of six cells", STYLE,
    presets(state, PRESETS),
    cuts,
    element("div", { class: "grid" }, ...cells),
    element("p", {}, "Bars: the probability of the image's class on X⁺, the masked part, and on X⁻, the rest."),
    answers.node,
    status,
    results);
  draw();
  announce();
}
