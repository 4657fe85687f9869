// Keys, the clock of an item, and forms that are sent once. Without it every page works by hand.
"use strict";

const fields = "input:not([type=radio]):not([type=checkbox]), textarea, select";

function keyed(key) {
  return [...document.querySelectorAll("[data-key]")].find((one) => one.dataset.key === key && !one.closest("[hidden]"));
}

function press(element) {
  if (element.matches("input[type=radio]")) {
    element.checked = true;
    element.focus();
  } else {
    element.click();
  }
}

function showKeys() {
  const dialog = document.getElementById("keys");
  const list = dialog.querySelector("dl");
  list.replaceChildren();
  for (const element of document.querySelectorAll("[data-key]")) {
    const term = document.createElement("dt");
    const key = document.createElement("kbd");
    key.textContent = element.dataset.key.length === 1 ? element.dataset.key.toUpperCase() : element.dataset.key;
    term.append(key);
    const text = document.createElement("dd");
    text.textContent = element.dataset.does || element.textContent.trim();
    list.append(term, text);
  }
  if (!list.children.length) list.append(Object.assign(document.createElement("dd"), { textContent: "This page has none." }));
  dialog.showModal();
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
  if (document.getElementById("keys").open) return;
  const target = event.target;
  if (event.key === "Escape" && target.matches(fields)) return target.blur();
  if (target.matches(fields)) return;
  if (event.key === "Enter" && target.matches("a, button, summary")) return;
  if (event.key === "?") return event.preventDefault(), showKeys();
  const element = keyed(event.key.length === 1 ? event.key.toLowerCase() : event.key);
  if (!element) return;
  event.preventDefault();
  if (!event.repeat) press(element);
});

// Seconds during which the page was in front: what a person did elsewhere is no time on the item.
let seen = 0;
let since = document.hidden ? null : performance.now();
document.addEventListener("visibilitychange", () => {
  if (document.hidden && since !== null) {
    seen += performance.now() - since;
    since = null;
  } else if (!document.hidden) {
    since = performance.now();
  }
});

document.addEventListener("submit", (event) => {
  const form = event.target;
  if (form.method === "dialog") return;
  if (form.dataset.sent) return event.preventDefault();
  const question = event.submitter && event.submitter.dataset.ask;
  if (question && !window.confirm(question)) return event.preventDefault();
  const clock = form.querySelector("[data-seconds]");
  if (clock) clock.value = ((seen + (since === null ? 0 : performance.now() - since)) / 1000).toFixed(3);
  form.dataset.sent = "yes";
  form.setAttribute("aria-busy", "true");
});

// A page that comes back from the browser's own cache can be sent again.
window.addEventListener("pageshow", () => document.querySelectorAll("form[data-sent]").forEach((form) => {
  delete form.dataset.sent;
  form.removeAttribute("aria-busy");
}));

// What stands beside the work where the screen is wide enough for it.
const wide = window.matchMedia("(min-width:1000px)").matches;
document.querySelectorAll("details[data-wide]").forEach((element) => (element.open = wide));

document.querySelectorAll("[data-bottom]").forEach((element) => element.scrollIntoView({ block: "end" }));

// In a dialogue, what was shown stays shown from turn to turn (until the tab is closed).
const kept = () => document.querySelector("#reveal[data-keep]");
const place = () => `reveal ${location.pathname}`;
document.addEventListener("change", (event) => {
  if (event.target === kept()) sessionStorage.setItem(place(), event.target.checked ? "yes" : "no");
});
function restore() {
  const said = kept() && sessionStorage.getItem(place());
  if (said) kept().checked = said === "yes";
}
document.addEventListener("htmx:afterSettle", restore);
restore();
