// What a label tells and what it costs. The arithmetic is exported and held equal to wsl_tutorial.worth by
// tests/book/test_demos_worth.py. `k` is [least, greatest] number of digits, greatest at most 3; digits stand on a square of
// `cells` x `cells` places, two of them at least `apart` rows or columns from each other.

import { bars, controls, element, frame } from "./controls.mjs";

export const OBSERVERS = ["class", "presence", "counts", "patches", "places", "full"];

const sum = (xs) => xs.reduce((a, b) => a + b, 0);
const numbers = ([least, greatest]) => Array.from({ length: greatest - least + 1 }, (_, i) => least + i);
const mean = (xs) => sum(xs) / xs.length;
const choose = (n, r) => (r === 0 ? 1 : (choose(n - 1, r - 1) * n) / r);
const factorial = (n) => (n < 2 ? 1 : n * factorial(n - 1));

/** Eq. (14.1): bits of outcomes [probability, how many have it]. */
export function entropy(law) {
  return -sum(law.map(([p, times]) => (p > 0 ? times * p * Math.log2(p) : 0)));
}

/** Eq. (14.2): the greatest digit, "none" first. */
export function classLaw(k, classes) {
  const upTo = Array.from({ length: classes + 1 }, (_, m) => mean(numbers(k).map((n) => (m / classes) ** n)));
  return upTo.map((p, m) => [m ? p - upTo[m - 1] : p, 1]);
}

/** Eq. (14.3): the sets of each size. */
export function presenceLaw(k, classes) {
  const sizes = Array.from({ length: Math.min(k[1], classes) + 1 }, (_, size) => size);
  const share = (size, n) =>
    sum(Array.from({ length: size + 1 }, (_, j) => (-1) ** j * choose(size, j) * ((size - j) / classes) ** n));
  return sizes.map((size) => [mean(numbers(k).map((n) => share(size, n))), choose(classes, size)]);
}

/** All ways to write n as a falling sum. */
function partitions(n, most = n) {
  if (n === 0) return [[]];
  const firsts = Array.from({ length: Math.min(n, most) }, (_, i) => i + 1);
  return firsts.flatMap((first) => partitions(n - first, first).map((rest) => [first, ...rest]));
}

/** Eq. (14.4): the multisets, grouped by how often their classes occur. */
export function countsLaw(k, classes) {
  return numbers(k).flatMap((n) =>
    partitions(n).filter((y) => y.length <= classes).map((y) => {
      const orders = factorial(n) / y.reduce((a, b) => a * factorial(b), 1);
      const equal = Object.values(y.reduce((t, b) => ({ ...t, [b]: (t[b] ?? 0) + 1 }), {}));
      const times = (choose(classes, y.length) * factorial(y.length)) / equal.reduce((a, b) => a * factorial(b), 1);
      return [orders / classes ** n / numbers(k).length, times];
    }));
}

/** How many sets of `number` places keep their distance; up to three. */
export function choices(cells, apart, number) {
  const at = Array.from({ length: cells * cells }, (_, i) => [Math.floor(i / cells), i % cells]);
  const free = (a, b) => Math.max(Math.abs(a[0] - b[0]), Math.abs(a[1] - b[1])) >= apart;
  if (number < 2) return number ? at.length : 1;
  let total = 0;
  at.forEach((a, i) => {
    const left = at.slice(i + 1).filter((b) => free(a, b));
    total += number === 2 ? left.length : sum(left.map((b, j) => left.slice(j + 1).filter((c) => free(b, c)).length));
  });
  return total;
}

/** Eq. (14.5): places, with digits on them where `classes` is more than 1. `counted[n]` is `choices` of n. */
export function placesBits(k, counted, classes) {
  return Math.log2(numbers(k).length) + mean(numbers(k).map((n) => Math.log2(counted[n]) + n * Math.log2(classes)));
}

export function bits(observer, k, counted, classes) {
  if (observer === "class") return entropy(classLaw(k, classes));
  if (observer === "presence") return entropy(presenceLaw(k, classes));
  if (observer === "places" || observer === "full") return placesBits(k, counted, observer === "full" ? classes : 1);
  return entropy(countsLaw(k, classes));
}

/** Names given and places clicked, in the mean. */
export function acts(observer, k, classes) {
  const all = mean(numbers(k));
  const distinct = mean(numbers(k).map((n) => classes * (1 - (1 - 1 / classes) ** n)));
  const names = { class: 1, presence: distinct, places: 0 }[observer] ?? all;
  return [names, observer === "places" || observer === "full" ? all : 0];
}

/** Eq. (14.8): seconds for one image. */
export function effort(observer, k, { look, name, click }, classes) {
  const [names, clicks] = acts(observer, k, classes);
  return look + name * names + click * clicks;
}

/** Move one end of the numbers of digits, "least" or "most"; the other moves along where it has to. */
export function move(state, end, value) {
  state[end] = value;
  if (state.least > state.most) state[end === "least" ? "most" : "least"] = value;
}

const CELLS = 14;
const APART = 5;
const SECONDS = { min: 0, max: 10, step: 0.1 };
const PRESETS = {
  "the chapter's model": { look: 1, name: 1, click: 2.4, least: 0, most: 3, classes: 10 },
  "names from a long list": { look: 1, name: 6, click: 2.4, least: 0, most: 3, classes: 26 },
  "images hard to take in": { look: 10, name: 1, click: 2.4, least: 0, most: 3, classes: 10 },
  "always one digit": { look: 1, name: 1, click: 2.4, least: 1, most: 1, classes: 10 },
};

const STYLE = `
.worth .bar > i { background: #0072b2 }
`;

export function mount(root) {
  const state = structuredClone(PRESETS["the chapter's model"]);
  const counted = [0, 1, 2, 3].map((n) => choices(CELLS, APART, n));
  const { slider, presets, show } = controls(draw, announce);
  const status = element("output", { "aria-live": "polite" });
  const table = element("div", { class: "scroll", tabindex: "0" });
  const rates = bars(OBSERVERS);

  const rows = () =>
    OBSERVERS.map((observer) => {
      const k = [state.least, state.most];
      const told = bits(observer, k, counted, state.classes);
      const seconds = effort(observer, k, state, state.classes);
      return { observer, told, seconds, rate: seconds > 0 ? told / seconds : 0 };
    });

  function draw() {
    show();
    const all = rows();
    const best = Math.max(...all.map((row) => row.rate)) || 1;
    rates.show(all.map((row) => row.rate / best));
    const head = ["observer", "bits an image", "seconds an image", "bits a second", "images an hour"];
    const cell = (text) => element("td", {}, text);
    table.replaceChildren(
      element("table", {}, element("caption", {}, "What a label tells, and what it costs"),
        element("thead", {}, element("tr", {}, ...head.map((text) => element("th", { scope: "col" }, text)))),
        element("tbody", {}, ...all.map(({ observer, told, seconds, rate }) =>
          element("tr", {}, element("th", { scope: "row" }, observer), cell(told.toFixed(2)), cell(seconds.toFixed(1)),
            cell(rate.toFixed(2)), cell(seconds > 0 ? Math.round(3600 / seconds).toString() : "any number"))))));
  }

  function announce() {
    const [first, second] = rows().sort((a, b) => b.rate - a.rate);
    status.textContent = `Most bits a second: ${first.observer}, ${first.rate.toFixed(2)}; then ${second.observer}, ` +
      `${second.rate.toFixed(2)}. Bits are what is told, not what is learnt.`;
  }

  const seconds = (text, key) => slider(`seconds to ${text}`, SECONDS, () => state[key], (v) => (state[key] = v));
  const whole = (text, key, min, max) =>
    slider(text, { min, max, step: 1 }, () => state[key], (v) => move(state, key, v), 0);
  frame(root, "worth", "Bits and seconds of six kinds of label", STYLE,
    presets(state, PRESETS),
    ...seconds("take an image in", "look"),
    ...seconds("give a name", "name"),
    ...seconds("click on a place", "click"),
    ...whole("least number of digits", "least", 0, 3),
    ...whole("greatest number of digits", "most", 1, 3),
    ...whole("classes", "classes", 2, 26),
    element("p", {}, "Bars: bits a second, as a share of the best."),
    rates.node,
    table,
    status);
  draw();
  announce();
}
