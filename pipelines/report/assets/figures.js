// Plots: drawn as they come near the screen, in the page's colours; their labels kept apart.

const config = { responsive: true, displayModeBar: false };
const touch = window.matchMedia("(pointer: coarse)").matches;
const dark = window.matchMedia("(prefers-color-scheme: dark)");
const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

// The figure's own layout with the page's colours and font; a copy, as Plotly keeps what it is given.
function themed(layout) {
  const copy = structuredClone(layout);
  const text = css("--text"), line = css("--line");
  const axis = { gridcolor: line, linecolor: line, zerolinecolor: line, tickcolor: line, automargin: true };
  Object.assign(copy, {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    font: { color: text, size: 12, family: getComputedStyle(document.body).fontFamily },
    hoverlabel: { bgcolor: css("--card"), bordercolor: line, font: { color: text } },
  });
  for (const name of ["xaxis", "yaxis"]) copy[name] = { ...axis, ...copy[name] };
  if (touch) copy.dragmode = false; // a finger on a figure scrolls the page
  return copy;
}

const apart = (a, b) => a.right <= b.left || b.right <= a.left || a.bottom <= b.top || b.bottom <= a.top;

// Text that would lie on other text is moved to another side of its point, and hidden where no side is free: the pointer
// still shows it. The points that are drawn last are named first.
function declutter(element) {
  const texts = [...element.querySelectorAll(".textpoint text")].reverse();
  if (!texts.length || !element.classList.contains("hull")) return;
  // Away from the point: down where names stand above their points, up where they stand below.
  const away = element.data.some((trace) => trace.textposition === "bottom center") ? -1 : 1;
  const frame = element.getBoundingClientRect();
  const taken = [...element.querySelectorAll(".annotation-text, .xtitle, .ytitle, .xtick text, .ytick text")].map((text) =>
    text.getBoundingClientRect());
  for (const text of texts) {
    text.style.display = "";
    text.style.transform = "";
    const { left, right, top, bottom, width, height } = text.getBoundingClientRect();
    if (!width) continue;
    const down = away * (height + 16), side = width / 2 + 10, level = away * (height / 2 + 8);
    const free = [[0, 0], [0, down], [side, level], [-side, level], [side, 0], [-side, 0], [side, down], [-side, down]].find(
      ([x, y]) => {
        const box = { left: left + x, right: right + x, top: top + y, bottom: bottom + y };
        const inside = box.left >= frame.left && box.right <= frame.right && box.top >= frame.top && box.bottom <= frame.bottom;
        if (!inside || !taken.every((other) => apart(box, other))) return false;
        taken.push(box);
        return true;
      });
    if (free) text.style.transform = `translate(${free[0]}px, ${free[1]}px)`;
    else text.style.display = "none";
  }
}

const drawn = new Map();
function draw(element, figure) {
  drawn.set(element, figure);
  const done = Plotly.react(element, structuredClone(figure.data), themed(figure.layout), config);
  done.then(() => {
    declutter(element);
    if (element.dataset.ready) return;
    element.dataset.ready = "true";
    element.on("plotly_afterplot", () => declutter(element));
    element.on("plotly_click", (event) => openCrystal(event.points[0].id));
  });
  return done;
}

// Draw those of the page: each when it is about to be seen.
function drawFigures(figures, scenes) {
  const begin = (element) => {
    watch.unobserve(element);
    if (element.dataset.figure !== undefined) return draw(element, figures[element.dataset.figure]);
    const scene = new Scene(element, openCrystal);
    scene.show(scenes[element.dataset.scene]);
  };
  const watch = new IntersectionObserver(
    (entries) => entries.filter((entry) => entry.isIntersecting).forEach((entry) => begin(entry.target)),
    { rootMargin: "800px" });
  const places = [...document.querySelectorAll("[data-figure], [data-scene]")];
  for (const element of places) watch.observe(element);
  const print = () => places.filter((element) => !element.firstChild).forEach(begin);
  window.addEventListener("beforeprint", print);
  return () => {
    watch.disconnect();
    window.removeEventListener("beforeprint", print);
  };
}

dark.addEventListener("change", () => drawn.forEach((figure, element) => element.isConnected && draw(element, figure)));
document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-save]");
  if (!button) return;
  const figure = button.closest("figure"), plot = figure.querySelector("[data-figure]");
  const name = (plot ?? figure.querySelector(".scene")).dataset.figure ?? "crystal";
  if (!plot) return savePicture(figure.querySelector("svg"), name, button.dataset.save);
  const { width, height } = plot.getBoundingClientRect();
  Plotly.downloadImage(plot, { format: button.dataset.save, filename: name, width, height, scale: 2 });
});
