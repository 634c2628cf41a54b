// Solid pictures as SVG: balls, lines, faces and names in three dimensions, turned by pointer or arrow keys.
//
// content: { lines: [{from, to, color, width}], balls: [{at, radius (of the space) or pixels, color, open, title, id, label}],
// faces: [{points, color}], texts: [{at, text}], axes: [{vector, text}] }. Widths are pixels; what lacks a field has none.

const svgNode = (tag, attributes, ...children) => {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
};
const product = (m, n) => m.map((row) => n[0].map((_, j) => row.reduce((sum, x, k) => sum + x * n[k][j], 0)));
const turned = (m, v) => m.map((row) => row[0] * v[0] + row[1] * v[1] + row[2] * v[2]);
const about = {
  x: (t) => [[1, 0, 0], [0, Math.cos(t), -Math.sin(t)], [0, Math.sin(t), Math.cos(t)]],
  y: (t) => [[Math.cos(t), 0, Math.sin(t)], [0, 1, 0], [-Math.sin(t), 0, Math.cos(t)]],
};
const unit = (v) => v.map((x) => x / Math.hypot(...v));
const cross = (a, b) => [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
// Off every axis and diagonal, so that no row of atoms hides another; z is up.
const VIEW = product(about.x(-Math.PI / 2 + 0.3), [[Math.cos(0.35), Math.sin(0.35), 0], [-Math.sin(0.35), Math.cos(0.35), 0], [0, 0, 1]]);
const FONT = 12;
let scenes = 0;

class Scene {
  constructor(element, pick = () => {}) {
    this.element = element;
    this.pick = pick;
    this.key = `s${scenes++}`;
    this.view = VIEW;
    element.tabIndex = 0;
    const turn = (x, y) => this.turn(product(product(about.x(y), about.y(x)), this.view));
    element.addEventListener("pointerdown", (down) => {
      if (down.button) return;
      let { clientX, clientY } = down, moved = false;
      const move = (event) => {
        moved ||= Math.hypot(event.clientX - down.clientX, event.clientY - down.clientY) > 3;
        if (moved) turn((event.clientX - clientX) / 120, (event.clientY - clientY) / 120);
        ({ clientX, clientY } = event);
      };
      const stop = (event) => {
        document.removeEventListener("pointermove", move);
        if (!moved && event.target.dataset?.id) this.pick(event.target.dataset.id);
      };
      document.addEventListener("pointermove", move);
      document.addEventListener("pointerup", stop, { once: true });
      document.addEventListener("pointercancel", stop, { once: true });
    });
    element.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: [-0.15, 0], ArrowRight: [0.15, 0], ArrowUp: [0, -0.15], ArrowDown: [0, 0.15] }[event.key];
      if (!step) return;
      event.preventDefault();
      turn(...step);
    });
    new ResizeObserver(() => {
      this.scale = Infinity;
      if (this.content) this.draw();
    }).observe(element);
  }

  show(content) {
    this.content = { lines: [], balls: [], faces: [], texts: [], axes: [], ...content };
    const points = [
      ...this.content.lines.flatMap(({ from, to }) => [from, to]), ...this.content.balls.map(({ at }) => at),
      ...this.content.texts.map(({ at }) => at),
    ];
    const low = [0, 1, 2].map((k) => Math.min(...points.map((p) => p[k])));
    const high = [0, 1, 2].map((k) => Math.max(...points.map((p) => p[k])));
    this.center = low.map((x, k) => (x + high[k]) / 2);
    this.outermost = [...points.map((at) => [at, 0]), ...this.content.balls.map(({ at, radius }) => [at, radius ?? 0])];
    this.scale = Infinity;
    this.draw();
  }

  turn(view) {
    this.view = view;
    this.draw();
  }

  // The direction towards the reader; up is as near to z as it can be.
  look(direction) {
    const towards = unit(direction);
    const up = Math.abs(towards[2]) > 0.99 ? [0, 1, 0] : [0, 0, 1];
    const right = unit(cross(up, towards));
    this.turn([right, cross(towards, right), towards]);
  }

  // Pixels a unit of the space: so many that all is seen; a turn may need fewer, and does not give them back, lest the
  // picture throb.
  fit(width, height) {
    const margin = 22; // for names
    for (const [at, radius] of this.outermost) {
      const [x, y] = turned(this.view, at.map((c, k) => c - this.center[k]));
      this.scale = Math.min(this.scale, (width / 2 - margin) / (Math.abs(x) + radius), (height / 2 - margin) / (Math.abs(y) + radius));
    }
    return this.scale;
  }

  draw() {
    const width = this.element.clientWidth || 480, height = this.element.clientHeight || 360;
    const scale = this.fit(width, height);
    const place = (p) => {
      const [x, y, z] = turned(this.view, p.map((c, k) => c - this.center[k]));
      return [width / 2 + scale * x, height / 2 - scale * y, z];
    };
    const { lines, balls, faces, texts, axes } = this.content;
    const parts = [], fills = new Set();
    for (const { points, color } of faces) {
      const at = points.map(place);
      const node = svgNode("polygon", { points: at.map(([x, y]) => `${x.toFixed(1)},${y.toFixed(1)}`).join(" "), fill: color,
        "fill-opacity": 0.22, stroke: color, "stroke-opacity": 0.6, "stroke-width": 0.8 });
      parts.push([at.reduce((sum, p) => sum + p[2], 0) / at.length, node]);
    }
    for (const { from, to, color, width: pixels } of lines) {
      const [a, b] = [place(from), place(to)];
      const wide = pixels < 0 ? -pixels * scale : pixels; // negative: of the space
      const ends = { x1: a[0].toFixed(1), y1: a[1].toFixed(1), x2: b[0].toFixed(1), y2: b[1].toFixed(1) };
      const cap = pixels < 0 ? "butt" : "round";
      parts.push([(a[2] + b[2]) / 2, svgNode("line", { ...ends, stroke: color, "stroke-width": wide.toFixed(2), "stroke-linecap": cap })]);
    }
    const named = [];
    for (const ball of balls) {
      const [x, y, z] = place(ball.at);
      const r = ball.radius ? ball.radius * scale : ball.pixels;
      const fill = ball.open ? "none" : `url(#${this.key}-${ball.color.slice(1)})`;
      if (!ball.open) fills.add(ball.color);
      const node = svgNode("circle", { cx: x.toFixed(1), cy: y.toFixed(1), r: r.toFixed(1), fill, stroke: ball.open ? ball.color : "#555", "stroke-width": ball.open ? 1.5 : 0.5 });
      if (ball.title) node.append(svgNode("title", {}, ball.title));
      if (ball.id) node.dataset.id = ball.id;
      parts.push([z, node]);
      if (ball.label) named.push({ x, y, r, text: ball.label });
    }
    parts.sort((a, b) => a[0] - b[0]);
    const gradients = [...fills].map((color) =>
      svgNode("radialGradient", { id: `${this.key}-${color.slice(1)}`, cx: "35%", cy: "30%", r: "75%" },
        svgNode("stop", { offset: 0, "stop-color": "#fff", "stop-opacity": 0.9 }), svgNode("stop", { offset: 0.45, "stop-color": color }),
        svgNode("stop", { offset: 1, "stop-color": color })));
    // A coloured disc below each gradient's light part, so that what is behind does not shine through.
    const solid = parts.flatMap(([, node]) => {
      if (node.tagName !== "circle" || node.getAttribute("fill") === "none") return [node];
      const disc = node.cloneNode(false);
      disc.setAttribute("fill", "#" + node.getAttribute("fill").slice(this.key.length + 6, -1));
      return [disc, node];
    });
    const labels = this.names(texts.map(({ at, text }) => ({ ...xy(place(at)), r: 0, text, fixed: true })), named.reverse());
    const arrows = axes.flatMap(({ vector, text }) => {
      const [x, y] = turned(this.view, unit(vector)), from = [34, height - 34];
      const to = [from[0] + 24 * x, from[1] - 24 * y];
      return [
        svgNode("line", { x1: from[0], y1: from[1], x2: to[0], y2: to[1], stroke: "currentColor", "stroke-width": 1.5 }),
        ...label(from[0] + 32 * x, from[1] - 32 * y + 4, text),
      ];
    });
    const picture = svgNode("svg", { viewBox: `0 0 ${width} ${height}`, "font-size": FONT, "font-family": "system-ui, sans-serif", "aria-hidden": "true" },
      svgNode("defs", {}, ...gradients), ...solid, ...arrows, ...labels);
    this.element.replaceChildren(picture);
  }

  // Names beside their points; one that would lie on another is left out.
  names(texts, named) {
    const taken = [], nodes = [];
    for (const { x, y, r, text, fixed } of [...texts, ...named]) {
      const wide = 0.68 * FONT * text.length;
      const sides = fixed ? [[0, 4]] : [[0, -r - 3], [0, r + FONT], [r + 3 + wide / 2, 4], [-r - 3 - wide / 2, 4]];
      for (const [dx, dy] of sides) {
        const box = { left: x + dx - wide / 2, right: x + dx + wide / 2, top: y + dy - FONT - 1, bottom: y + dy + 6 };
        if (!taken.every((other) => apart(box, other))) continue;
        taken.push(box);
        nodes.push(...label(x + dx, y + dy, text));
        break;
      }
    }
    return nodes;
  }
}

const xy = ([x, y]) => ({ x, y });
function label(x, y, text) {
  const node = svgNode("text", { x: x.toFixed(1), y: y.toFixed(1), "text-anchor": "middle", fill: "currentColor", stroke: "var(--card)", "stroke-width": 3, "paint-order": "stroke" });
  for (const part of formulaParts(text)) node.append(part.sub ? svgNode("tspan", { "font-size": "75%", "baseline-shift": "sub" }, part.text) : part.text);
  return [node];
}

// "Li2O" -> parts, of which numbers behind letters and brackets are subscripts.
function formulaParts(text) {
  const parts = text.split(/(?<=[A-Za-z)\]])(\d+(?:\.\d+)?)/);
  return parts.map((part, i) => ({ text: part, sub: i % 2 === 1 })).filter((part) => part.text);
}
