"use strict";
// Parts that follow what happens. The server makes them, escaped, like the page that they stand in.
const keyOf = (element) => element.id || element.getAttribute("href") || `${element.name}=${element.value}`;
const controls = (part) => [...part.querySelectorAll("a[href], input, button, [tabindex]")];
function replace(part, text) {
  // What somebody has marked stays marked, and who is at a place in it stays there.
  const checked = new Set(controls(part).filter((box) => box.checked).map(keyOf));
  const active = document.activeElement;
  const at = part.contains(active) ? keyOf(active) : null;
  const scrolled = [...part.querySelectorAll(".scroll")].map((region) => region.scrollLeft);
  part.innerHTML = text;
  for (const box of controls(part)) if (checked.has(keyOf(box))) box.checked = true;
  [...part.querySelectorAll(".scroll")].forEach((region, n) => { region.scrollLeft = scrolled[n] || 0; });
  if (at !== null) (controls(part).find((one) => keyOf(one) === at) || document.getElementById("main")).focus({ preventScroll: true });
}
// Some of a page stands elsewhere: forms between parts keep what somebody types into them.
function update(part, text) {
  const next = document.createElement("template");
  next.innerHTML = text;
  for (const piece of next.content.querySelectorAll("template[data-piece]")) {
    replace(document.getElementById(piece.dataset.piece), piece.innerHTML);
    piece.remove();
  }
  replace(part, next.innerHTML);
  for (const shown of document.querySelectorAll("[data-while]")) {
    const name = `data-${shown.dataset.while}`;
    const cause = document.querySelector(`[${name}]`);
    shown.hidden = !cause;
    // A form is about what is shown, and about nothing that has begun since.
    if (cause) for (const field of shown.querySelectorAll("[data-shown]")) field.value = cause.getAttribute(name);
  }
}
const spoken = (part) => [...part.querySelectorAll("[data-news]")].map((one) => one.textContent.replace(/\s+/g, " ").trim()).join(" ");
for (const part of document.querySelectorAll("[data-events]")) {
  const ended = document.querySelector("[data-ended]");
  const said = document.querySelector("[data-said]");
  const source = new EventSource(part.dataset.events);
  let shown = null;
  source.addEventListener("changed", (event) => {
    if (event.data === shown) return;
    const before = spoken(part);
    update(part, event.data);
    shown = event.data;
    // Screen readers are told of the summary alone, when it is another.
    if (said && spoken(part) !== before) said.textContent = spoken(part);
  });
  const end = () => { source.close(); ended.hidden = false; };
  source.addEventListener("ended", end);
  source.addEventListener("error", () => { if (source.readyState === EventSource.CLOSED) end(); });
}
// Who clicks twice sends a form once.
for (const form of document.querySelectorAll('form[method="post"]')) {
  form.addEventListener("submit", (event) => {
    if (form.dataset.sent) event.preventDefault();
    form.dataset.sent = "yes";
  });
}
window.addEventListener("pageshow", () => {
  for (const form of document.querySelectorAll("[data-sent]")) delete form.dataset.sent;
});
// Marks every host of the page, or none of them when all are marked.
for (const button of document.querySelectorAll("[data-check]")) {
  button.hidden = false;
  button.addEventListener("click", () => {
    const boxes = [...document.querySelectorAll(`input[name="${button.dataset.check}"]`)];
    const on = !boxes.every((box) => box.checked);
    for (const box of boxes) box.checked = on;
  });
}
// What takes a while is asked without leaving the page; its own page says the same.
for (const link of document.querySelectorAll("[data-asks]")) {
  link.addEventListener("click", async (event) => {
    event.preventDefault();
    const place = document.getElementById(link.dataset.asks);
    place.textContent = "Asking…";
    try {
      const answer = await fetch(link.href, { redirect: "error" });
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      place.textContent = page.querySelector("[data-answer], .problem").textContent.replace(/\s+/g, " ").trim();
    } catch {
      location.assign(link.href);
    }
  });
}
// Files are put into fields where they can be looked at, each into a pair of its own.
for (const input of document.querySelectorAll("[data-files]")) {
  input.closest("[hidden]").hidden = false;
  input.addEventListener("change", async () => {
    const list = document.getElementById(input.dataset.files);
    const model = list.firstElementChild.cloneNode(true);
    const files = [...input.files].sort((a, b) => (a.name < b.name ? -1 : 1));
    const made = await Promise.all(files.map(async (file, n) => {
      const one = model.cloneNode(true);
      for (const field of one.querySelectorAll("[name]")) {
        const kind = field.name.replace(/-[0-9]+$/, "");
        one.querySelector(`label[for="${field.id}"]`).htmlFor = field.id = field.name = n ? `${kind}-${n + 1}` : kind;
        field.value = kind === "name" ? file.name : await file.text();
      }
      return one;
    }));
    if (made.length) list.replaceChildren(...made);
  });
}
