// Recursive erasing on an image of eight cells, look by look. The arithmetic is exported and held equal to
// wsl_tutorial.regions by tests/book/test_demos_ideas.py. `image` holds the evidence that remains in each cell for class 1.
// The localiser is the one of chapter 12 that saturates: a later look can be as certain as the first.

import { bars, controls, element, frame, minus } from "./controls.mjs";
import { softMask, softplus } from "./regions.mjs";

const sum = (xs) => xs.reduce((a, b) => a + b, 0);

export const CAP = 1; // where the localiser saturates

/** The localiser's logit of class 1; that of class 0 is 0. */
export const logit = (image) => 2 * Math.min(Math.max(...image), CAP);

/** Eq. (12.1) for two classes whose logits are 0 and z; `first` is the loss of the first look. */
export function trust(z, first, t, sigma) {
  const loss = softplus(-z);
  return z > 0 && loss <= first ? Math.exp(-t / sigma - loss) : 0;
}

/** One look: the localiser's mask, the trust in it (12.1), the regions so far (12.2), the image erased (12.3). */
export function look(image, total, first, t, sigma) {
  const z = logit(image);
  const psi = trust(z, first, t, sigma);
  const mask = softMask(image, 12, 0.5);
  const grown = total.map((r, j) => Math.max(r, psi * mask[j]));
  return { z, psi, mask, loss: softplus(-z), total: grown, image: image.map((e, j) => (psi > 0 ? e * (1 - grown[j]) : e)) };
}

export const IMAGES = {
  "two unequal glands": [0.1, 5, 0.1, 0, 0.1, 2, 0.1, 0],
  "redundant parts": [4, 0, 4, 0, 4, 0, 4, 0],
  "background tells": [1.5, 1.2, 1.4, 4, 1.3, 1.6, 1.2, 1.5],
  "small evidence": [0, 0.4, 0, 0.3, 0, 0, 0.2, 0],
};
const CELLS = 8;

const STYLE = `
.erasing .grid { grid-template-columns: repeat(4, minmax(0, 1fr)) }
.erasing .bars { grid-template-columns: 1.2em minmax(0, 1fr); font-size: .8rem }
.erasing .bars > span:nth-child(3n) { display: none }
.erasing .bar > [data-row="0"] { background: #8a8a8a }
.erasing .bar > [data-row="1"] { background: #d55e00 }
.erasing .bar > [data-row="2"] { background: #0072b2 }
@media (max-width: 600px) { .erasing .grid { grid-template-columns: repeat(2, minmax(0, 1fr)) } }
`;

export function mount(root) {
  const state = { sigma: 5 };
  const { slider, buttons, show } = controls(draw, announce);
  const status = element("output", { "aria-live": "polite" });
  const beliefs = Array.from({ length: CELLS }, () => bars(["e", "m", "R"], (row) => ({ "data-row": row })));
  const cells = beliefs.map((one, j) => element("div", { class: "cell" }, element("strong", {}, `cell ${j + 1}`), one.node));

  function begin(name) {
    const image = IMAGES[name];
    Object.assign(state, { name, original: image, image, total: Array(CELLS).fill(0), t: 0, last: null, first: softplus(-logit(image)) });
  }
  function next() {
    state.last = look(state.image, state.total, state.first, state.t, state.sigma);
    Object.assign(state, { image: state.last.image, total: state.last.total, t: state.t + 1 });
  }

  function draw() {
    const largest = Math.max(...state.original);
    show();
    beliefs.forEach((one, j) => one.show([state.image[j] / largest, state.last ? state.last.mask[j] : 0, state.total[j]]));
  }

  function announce() {
    const covered = state.total.map((r, j) => (r > 0.1 ? j + 1 : 0)).filter(Boolean).join(", ") || "none";
    const { last, t } = state;
    const before = `Image ${state.name}, no look yet, trust falls by a factor e in ${state.sigma} looks.`;
    status.textContent = minus(!last ? before :
      `Look ${t} of ${state.name}: logit ${last.z.toFixed(2)}, trust Ψ ${last.psi.toFixed(3)}` +
        `${last.psi > 0 ? "" : ", so nothing is erased"}. Cells in the region R*: ${covered}. Remaining evidence ${sum(state.image).toFixed(2)}, σ ${state.sigma}.`);
  }

  begin("two unequal glands");
  frame(root, "erasing", "Recursive erasing on an image of eight cells", STYLE,
    buttons("Start from", Object.fromEntries(Object.keys(IMAGES).map((name) => [name, () => begin(name)]))),
    ...slider("σ, the looks in which trust falls by a factor e", { min: 1, max: 20, step: 1 }, () => state.sigma, (v) => (state.sigma = v), 0),
    buttons("Erase", { "next look": next, "four looks": () => Array.from({ length: 4 }).forEach(next), "from the beginning": () => begin(state.name) }),
    element("p", {}, "Bars: e, the evidence that remains (as a share of the largest); m, the mask of this look; R, the region so far, Ψ times m at its largest."),
    element("div", { class: "grid" }, ...cells),
    status);
  draw();
  announce();
}
