"use strict";
(() => {
  const read = (id) => JSON.parse(document.getElementById(id).textContent);
  const figures = read("figures");
  const views = read("views");
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
    if (copy.ternary) {
      copy.ternary.bgcolor = "rgba(0,0,0,0)";
      for (const name of ["aaxis", "baxis", "caxis"]) Object.assign(copy.ternary[name], { linecolor: css("--soft") });
    } else if (!copy.scene) {
      for (const name of ["xaxis", "yaxis"]) copy[name] = { ...axis, ...copy[name] };
      if (touch) copy.dragmode = false; // a finger on a figure scrolls the page
    }
    return copy;
  }

  const drawn = new Map();
  function draw(element, figure) {
    drawn.set(element, figure);
    return Plotly.react(element, figure.data, themed(figure.layout), config);
  }

  for (const element of document.querySelectorAll("[data-figure]")) draw(element, figures[element.dataset.figure]);
  dark.addEventListener("change", () => drawn.forEach((figure, element) => draw(element, figure)));

  const viewer = document.getElementById("viewer");
  if (!viewer) return;
  const rows = [...document.querySelectorAll("#crystals-table tbody tr")];
  function show(row) {
    for (const other of rows) other.setAttribute("aria-selected", String(other === row));
    const view = views[row.dataset.view];
    document.getElementById("viewer-caption").innerHTML = view.caption;
    viewer.setAttribute("aria-label", view.alt);
    draw(viewer, view.figure);
  }
  for (const row of rows) row.addEventListener("click", () => show(row));
  show(rows.find((row) => "#" + row.id === decodeURIComponent(location.hash)) ?? rows[0]);
})();
