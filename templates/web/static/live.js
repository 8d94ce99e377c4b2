"use strict";
// Parts that follow what happens. The server makes them, escaped, like the page that they stand in.
for (const part of document.querySelectorAll("[data-events]")) {
  const ended = document.querySelector("[data-ended]");
  const source = new EventSource(part.dataset.events);
  let shown = null;
  source.addEventListener("changed", (event) => {
    // What somebody's focus is in is not taken away: the next news brings it.
    if (event.data !== shown && !part.contains(document.activeElement)) {
      part.innerHTML = event.data;
      shown = event.data;
    }
  });
  const end = () => { source.close(); ended.hidden = false; };
  source.addEventListener("ended", end);
  source.addEventListener("error", () => { if (source.readyState === EventSource.CLOSED) end(); });
}
// A file is put into the field where it can be looked at.
for (const input of document.querySelectorAll("[data-into]")) {
  input.addEventListener("change", async () => {
    if (input.files.length) document.getElementById(input.dataset.into).value = await input.files[0].text();
  });
}
