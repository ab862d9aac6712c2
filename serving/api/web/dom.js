// Elements made with text only: nothing that a file or the service says is ever read as HTML.

export const byId = (id) => document.getElementById(id);

/** Returns an element with `properties` (attributes begin with a lower-case letter and a dash, or are properties). */
export function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in made && !name.includes("-")) made[name] = value;
    else made.setAttribute(name, value);
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return made;
}

export const percent = (share) => `${(100 * share).toFixed(share > 0.995 || share < 0.1 ? 1 : 0)} %`;

export const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);

/** Says `text` to a screen reader without moving the focus. */
export function announce(text) {
  byId("status").textContent = text;
}
