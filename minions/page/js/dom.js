/**
 * Makes elements. Strings become text nodes and attribute values: nothing is ever parsed as HTML,
 * so neither a document nor a model can put markup into the page.
 */

const SVG = "http://www.w3.org/2000/svg";

/**
 * An HTML element. Properties: `onclick` and the like take functions, `vars` takes CSS variables,
 * `false`, `null` and `undefined` leave an attribute out, everything else is an attribute.
 */
export function h(tag, properties = {}, ...children) {
  return filled(document.createElement(tag), properties, children);
}

/** An SVG element. */
export function s(tag, properties = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), properties, children);
}

function filled(element, properties, children) {
  for (const [name, value] of Object.entries(properties)) setProperty(element, name, value);
  element.append(...present(children));
  return element;
}

function setProperty(element, name, value) {
  if (value === false || value === null || value === undefined) return;
  if (typeof value === "function") element.addEventListener(name.slice(2), value);
  else if (name === "vars") setVariables(element, value);
  else element.setAttribute(name, value === true ? "" : String(value));
}

export function setVariables(element, variables) {
  for (const [name, value] of Object.entries(variables)) {
    element.style.setProperty(name, String(value));
  }
}

function present(children) {
  return children.flat(Infinity).filter((child) => child !== null && child !== undefined);
}

/** The service's prose: what it puts between backticks is code. */
export function prose(text) {
  return text.split("`").map((part, i) => (i % 2 ? h("code", {}, part) : part));
}

/** Put these children in place of those that are there. */
export function fill(element, ...children) {
  element.replaceChildren(...present(children));
  return element;
}

/** Show or hide, for everybody: sighted or not. */
export function show(element, visible = true) {
  element.hidden = !visible;
}

/** The element with this id, which index.html has. */
export function byId(id) {
  return document.getElementById(id);
}
