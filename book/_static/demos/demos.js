// Each <div data-demo="name"> becomes the demo in name.mjs; where that fails, its sentence stays.
for (const element of document.querySelectorAll("[data-demo]")) {
  const fallback = [...element.childNodes];
  try {
    const { mount } = await import(`./${element.dataset.demo}.mjs`);
    element.replaceChildren();
    await mount(element);
  } catch (error) {
    element.replaceChildren(...fallback);
    console.error(`demo ${element.dataset.demo}:`, error);
  }
}
