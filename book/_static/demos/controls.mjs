// What the demos share: elements, labelled controls and the frame around them.

export const element = (tag, attributes = {}, ...children) =>
  filled(document.createElement(tag), attributes, children);

export const svg = (tag, attributes, ...children) =>
  filled(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);

function filled(node, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

export const minus = (text) => text.replaceAll("-", "−");

/** Fill `root` with a demo: its own style (the shared one is in book.css), and what it shows. */
export function frame(root, name, label, style, ...inside) {
  root.replaceChildren(
    element("style", {}, style),
    element("div", { class: name, role: "group", "aria-label": label }, ...inside),
  );
}

/** Bars with a sign before and a number behind each: `node`, and `show(values in [0, 1])`. */
export function bars(signs, attributes = () => ({})) {
  const node = element("div", { class: "bars" });
  const pairs = signs.map((sign, i) => {
    const fill = element("i", attributes(i));
    const text = element("span");
    node.append(element("span", {}, sign), element("span", { class: "bar", "aria-hidden": "true" }, fill), text);
    return { fill, text };
  });
  const show = (values) =>
    pairs.forEach(({ fill, text }, i) => {
      fill.style.width = `${100 * values[i]}%`;
      text.textContent = values[i].toFixed(3);
    });
  return { node, show };
}

/**
 * Labelled controls of one state. `draw` runs at every change, `announce` when one is finished: a screen reader hears
 * the end of a move, not every step of it. `show` sets all of them to the state.
 */
export function controls(draw, announce) {
  const shows = [];
  let made = 0;
  const prefix = `demo-${Math.random().toString(36).slice(2, 8)}`;
  const name = () => `${prefix}-${made++}`;

  function slider(text, limits, get, set, digits = 1) {
    const input = element("input", { type: "range", id: name(), ...limits });
    const value = element("span");
    input.addEventListener("input", () => {
      set(Number(input.value));
      draw();
    });
    input.addEventListener("change", announce);
    shows.push(() => {
      input.value = get();
      value.textContent = minus(get().toFixed(digits));
    });
    return [element("label", { for: input.id }, `${text}: `, value), input];
  }

  const field = (legend, parts) =>
    element("fieldset", {}, element("legend", {}, legend), element("div", { class: "row" }, ...parts));

  /** One choice of several; the state holds its number. */
  function radios(legend, texts, get, set) {
    const group = name();
    const labels = texts.map((text, i) => {
      const input = element("input", { type: "radio", name: group, id: name() });
      input.addEventListener("change", () => {
        set(i);
        draw();
        announce();
      });
      shows.push(() => (input.checked = i === get()));
      return element("label", { for: input.id }, input, text);
    });
    return field(legend, labels);
  }

  function buttons(legend, actions) {
    const parts = Object.entries(actions).map(([text, act]) => {
      const button = element("button", { type: "button" }, text);
      button.addEventListener("click", () => {
        act();
        draw();
        announce();
      });
      return button;
    });
    return field(legend, parts);
  }

  /** Buttons that start from one of several states. */
  function presets(state, all) {
    const starts = Object.entries(all).map(([text, to]) => [text, () => Object.assign(state, structuredClone(to))]);
    return buttons("Start from", Object.fromEntries(starts));
  }

  return { slider, radios, buttons, presets, show: () => shows.forEach((one) => one()) };
}
