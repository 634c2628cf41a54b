// A page that `gnome serve` shows: asks how the store stands, and renews itself when something was committed.

const LIVE_EVERY = 2000; // ms

function live(address, renew) {
  const place = document.getElementById("live");
  async function ask() {
    try {
      const state = await (await fetch(address, { cache: "no-store" })).json();
      place.replaceChildren(...state.lines.map((line) => node("p", {}, line)));
      if (state.version !== document.body.dataset.version) await renew();
    } catch {
      place.replaceChildren(node("p", {}, "The server does not answer; the page shows what it said last."));
    }
    setTimeout(ask, LIVE_EVERY);
  }
  ask();
}

// The sections, and what scripts read, of the page as the server has it now.
async function renewed() {
  const text = await (await fetch(location.pathname, { cache: "no-store" })).text();
  const page = new DOMParser().parseFromString(text, "text/html");
  for (const kind of ["main", "nav", "#lead"]) document.querySelector(kind)?.replaceWith(page.querySelector(kind) ?? "");
  document.body.dataset.version = page.body.dataset.version;
  for (const data of page.querySelectorAll('script[type="application/json"]')) document.getElementById(data.id)?.replaceWith(data);
}
