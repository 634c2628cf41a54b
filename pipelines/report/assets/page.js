// Starts what the page has; again when a live page was renewed.

let stop = () => {};
function start() {
  const read = (id) => JSON.parse(document.getElementById(id)?.textContent ?? "{}");
  stop();
  startTable({ crystals: read("crystals"), columns: read("columns"), elements: read("elements") });
  stop = drawFigures(read("figures"), read("scenes"));
}

start();
if (document.body.dataset.live) live(document.body.dataset.live, () => renewed().then(start));
