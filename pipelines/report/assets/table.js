// The table of discoveries: sorted, searched, filtered, its columns chosen, what is shown of it saved; one crystal opened.

const node = (tag, properties = {}, ...children) => {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
};
const formula = (text) => formulaParts(text).map((part) => (part.sub ? node("sub", {}, part.text) : part.text));

// What the reader has chosen; kept where a live page is renewed.
const chosen = { key: null, ascending: true, search: "", verdict: "", elements: {}, columns: null, crystal: null };
let openCrystal = () => {};

function startTable({ crystals, columns, elements }) {
  const table = document.getElementById("crystals-table");
  if (!table) return;
  const form = document.getElementById("choose"), search = document.getElementById("search");
  const verdict = document.getElementById("verdict"), shownCount = document.getElementById("shown");
  const body = table.tBodies[0], rows = [...body.rows], record = (row) => crystals[row.dataset.row];
  const squares = [...form.querySelectorAll("[data-element]")], boxes = [...form.querySelectorAll("[data-column]")];
  const heads = [...table.querySelectorAll(".sort")];
  const style = node("style");
  table.before(style);

  // "Li-O": all crystals of that system; anything else is looked for in the texts.
  function found(text) {
    const words = text.trim().split(/[-,\s]+/);
    if (words.length > 1 && words.every((word) => /^[A-Z][a-z]?$/.test(word))) {
      const system = words.sort().join();
      return (one) => [...one.elements].sort().join() === system;
    }
    const wanted = text.trim().toLowerCase();
    return (one) => !wanted || Object.values(one.values).some((value) => typeof value === "string" && value.toLowerCase().includes(wanted));
  }
  function judged(wanted) {
    if (!wanted) return () => true;
    if (wanted === "credible") return (one) => one.credible === true;
    if (wanted[0] === "-") return (one) => one.checks[-wanted - 1]?.[1] !== true;
    return (one) => one.checks[wanted]?.[1] === true;
  }
  function filter() {
    const matches = found(chosen.search), passes = judged(chosen.verdict);
    const held = (one) => Object.entries(chosen.elements).every(([symbol, state]) => one.elements.includes(symbol) === (state === "with"));
    let n = 0;
    for (const row of rows) {
      const one = record(row);
      row.hidden = !(matches(one) && passes(one) && held(one));
      n += !row.hidden;
    }
    shownCount.textContent = `${n} of ${rows.length} crystals`;
    const named = Object.entries(chosen.elements).map(([symbol, state]) => (state === "with" ? symbol : "no " + symbol));
    document.getElementById("elements-chosen").textContent = named.length ? ": " + named.join(", ") : "";
  }
  function sort() {
    for (const head of heads) {
      const how = head.dataset.key !== chosen.key ? "none" : chosen.ascending ? "ascending" : "descending";
      head.closest("th").setAttribute("aria-sort", how);
    }
    const value = (row) => record(row).values[chosen.key] ?? null;
    const sign = chosen.ascending ? 1 : -1;
    const order = (a, b) => {
      const [x, y] = [value(a), value(b)];
      if (x === null || y === null) return (x === null) - (y === null); // what is unknown comes last
      return sign * (typeof x === "number" ? x - y : x.localeCompare(y, "en", { numeric: true }));
    };
    const sorted = chosen.key ? [...rows].sort(order) : rows;
    body.append(...sorted);
  }
  function showColumns() {
    const hidden = boxes.filter((box) => !box.checked).map((box) => `#crystals-table tr > :nth-child(${+box.dataset.column + 1})`);
    style.textContent = hidden.length ? `${hidden.join(", ")} { display: none; }` : "";
    chosen.columns = boxes.map((box) => box.checked);
  }
  function showElements() {
    for (const square of squares) {
      const state = chosen.elements[square.dataset.element];
      square.dataset.state = state ?? "";
      square.setAttribute("aria-pressed", state === "with" ? "true" : state ? "mixed" : "false");
    }
  }

  for (const head of heads)
    head.addEventListener("click", () => {
      chosen.ascending = chosen.key === head.dataset.key ? !chosen.ascending : true;
      chosen.key = head.dataset.key;
      sort();
    });
  search.addEventListener("input", () => ((chosen.search = search.value), filter()));
  verdict.addEventListener("change", () => ((chosen.verdict = verdict.value), filter()));
  for (const square of squares)
    square.addEventListener("click", () => {
      const { element } = square.dataset, next = { with: "without", without: undefined };
      const state = element in chosen.elements ? next[chosen.elements[element]] : "with";
      if (state) chosen.elements[element] = state;
      else delete chosen.elements[element];
      showElements();
      filter();
    });
  for (const box of boxes) box.addEventListener("change", showColumns);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () =>
    setTimeout(() => {
      Object.assign(chosen, { key: null, search: "", verdict: "", elements: {} });
      sort();
      showColumns();
      showElements();
      filter();
    }));
  form.addEventListener("click", (event) => {
    const format = event.target.dataset.files;
    if (!format) return;
    const shown = [...body.rows].filter((row) => !row.hidden).map(record);
    if (format !== "csv") return saveCrystals(format, shown);
    const kept = columns.filter((_, i) => i === 0 || boxes[i - 1].checked);
    save("crystals.csv", csv(kept, shown), "text/csv");
  });

  const scene = new Scene(document.getElementById("viewer")), controls = document.getElementById("view-controls");
  const choice = (id) => document.getElementById(id);
  function show(row) {
    for (const other of rows) other.setAttribute("aria-selected", String(other === row));
    const one = record(row);
    chosen.crystal = row.id;
    choice("conventional").disabled = !one.conventional;
    const options = { conventional: choice("conventional").checked, supercell: +choice("supercell").value, polyhedra: choice("polyhedra").checked, labels: choice("labels").checked };
    const content = crystalScene(one, elements, options);
    scene.show(content);
    const { values } = one, cell = options.conventional && one.conventional ? "conventional cell" : "cell as relaxed";
    const across = "atoms bonded to it across its faces are drawn";
    const text = `${values.space_group ?? "no symmetry found"}; ${values.n_sites} atoms and ${values.volume} Å³ in the cell as relaxed; ${cell}, ${across}`;
    choice("viewer-caption").replaceChildren(...formula(values.formula), ", " + text);
    choice("viewer").setAttribute("aria-label", `${values.formula}, ${text}. Arrow keys turn it.`);
    choice("facts").replaceChildren(...facts(one));
    return one;
  }
  const open = () => show(rows.find((row) => row.id === chosen.crystal) ?? rows[0]);
  for (const row of rows) row.addEventListener("click", (event) => event.target.closest("a") || show(row));
  controls.addEventListener("change", open);
  controls.addEventListener("click", (event) => {
    const { turn, one } = event.target.dataset;
    const shown = crystals[rows.find((row) => row.id === chosen.crystal).dataset.row];
    if (one) saveCrystals(one, [shown]);
    if (!turn) return;
    const rows_ = (choice("conventional").checked && shown.conventional) || [[1, 0, 0], [0, 1, 0], [0, 0, 1]];
    scene.look(times(rows_["abc".indexOf(turn)], shown.lattice));
  });
  openCrystal = (id) => {
    const row = rows.find((one) => one.id === "crystal-" + id);
    if (!row) return;
    show(row);
    choice("crystal").scrollIntoView({ block: "nearest" });
  };

  const named = decodeURIComponent(location.hash.slice(1));
  if (!chosen.crystal && named.startsWith("crystal-")) chosen.crystal = named;
  Object.assign(search, { value: chosen.search });
  verdict.value = chosen.verdict;
  if (chosen.columns) boxes.forEach((box, i) => (box.checked = chosen.columns[i]));
  if (chosen.key) sort();
  table.hidden = false; // until now, so that thousands of rows are laid out once and not as they come
  showColumns();
  showElements();
  filter();
  open();
}

// What is known of one crystal, as nodes: texts go in as texts.
function facts({ values, uncertainty, checks, reaction, relaxation, steps }) {
  const energy = (value, digits = 3) => value.toFixed(digits).replace("-", "−");
  const milli = (value) => energy(1000 * value, 1) + " meV/atom";
  const list = node("dl", { className: "facts" });
  const say = (name, ...value) => list.append(node("dt", {}, name), node("dd", {}, ...value));
  say("Formation energy", `${energy(values.e_form_per_atom)}${uncertainty === null ? "" : ` ± ${energy(uncertainty)}`} eV/atom`);
  if (values.predicted_e_form !== null) say("The ensemble had said", `${energy(values.predicted_e_form)} eV/atom`);
  say("To the hull without it", milli(values.e_above_hull_others));
  if (values.e_above_mp_hull !== null) say("To the Materials Project's hull", milli(values.e_above_mp_hull));
  if (values.p_stable !== null) say("Chance to be at or below it", `${(100 * values.p_stable).toFixed(0)} %`);
  if (values.confirmed !== null) say("Confirmed", values.confirmed);
  if (reaction) say("Competes with", ...formula(reaction));
  say("Novelty", values.novelty);
  if (values.structure_type) say("Structure type", values.structure_type);
  const verdicts = node("ul", { className: "verdicts" });
  for (const [title, passed, why] of checks) {
    const word = passed === true ? "✓ " : passed === false ? "✗ " : "? ";
    const kind = passed === true ? "pass" : passed === false ? "fail" : "unknown";
    verdicts.append(node("li", { className: kind }, node("span", { ariaHidden: "true" }, word), title,
      node("small", {}, ` ${passed === true ? "passed" : passed === false ? "not passed" : "unknown"}${why ? ": " + why : ""}`)));
  }
  const ancestors = node("ol", {}, ...steps.map((step) => node("li", {}, step)));
  return [
    node("h3", {}, ...formula(values.formula), " ", node("code", {}, values.id)), list,
    ...(relaxation ? [node("h4", {}, "Relaxation"), ...relaxed(relaxation)] : []),
    ...(checks.length ? [node("h4", {}, "Checks"), verdicts] : []),
    node("h4", {}, "How it was made"), ancestors,
  ];
}

// How the evaluator relaxed a crystal: in words, and its energy by step. Logarithmic above 1 meV/atom, as most of the fall
// is in the first steps.
function relaxed({ energies, volume, calculation }) {
  const steps = energies.length, height = 56, width = 240;
  const fall = energies[0], percent = 100 * (volume - 1);
  const words = `${steps === 1 ? "1 evaluation" : `${steps} evaluations`}${calculation ? ` in ${calculation}` : ""}: ` +
    `${Math.abs(fall).toFixed(0)} meV/atom ${fall < 0 ? "higher" : "lower"} than as proposed, volume ` +
    `${percent < 0 ? "−" : "+"}${Math.abs(percent).toFixed(1)} %`;
  if (steps < 2) return [node("p", {}, words)];
  const level = (energy) => Math.log10(1 + Math.max(energy, 0)), top = Math.max(...energies.map(level), 1);
  const points = energies.map((energy, i) => `${(4 + (i * (width - 8)) / (steps - 1)).toFixed(1)},${(height - 4 - (level(energy) / top) * (height - 8)).toFixed(1)}`);
  const draw = (tag, properties, ...children) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(properties)) made.setAttribute(name, value);
    made.append(...children);
    return made;
  };
  const picture = draw("svg", { class: "path", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `Energy by step, ${words}` },
    draw("polyline", { points: points.join(" ") }));
  return [node("p", {}, words), picture, node("p", { className: "note" }, "Energy above the relaxed crystal by step, logarithmic")];
}
