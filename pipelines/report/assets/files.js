// What the page writes to files: tables as CSV, crystals as CIF and POSCAR, several of them in a zip.

function save(name, content, type) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([content], { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}

// Texts that a spreadsheet would run as formulas are marked, as gnome_core/spreadsheets.py marks them.
function csvCell(value) {
  if (value === null || value === undefined) return "";
  if (typeof value === "number") return String(value);
  const text = /^['=+\-@\t\r]/.test(value) ? "'" + value : value;
  return '"' + text.replaceAll('"', '""') + '"';
}

function csv(columns, records) {
  const head = columns.map((column) => csvCell(column.unit ? `${column.key} (${column.unit})` : column.key));
  const rows = records.map((record) => columns.map((column) => csvCell(record.values[column.key])));
  return [head, ...rows].map((row) => row.join(",")).join("\n") + "\n";
}

const fileName = (record) => `${record.values.formula}_${record.values.id}`.replace(/[^A-Za-z0-9_.+-]/g, "_").slice(0, 80);
const oneLine = (text) => String(text).replace(/[^\x20-\x7e]/g, "_");

function angles([a, b, c]) {
  const dot = (u, v) => u[0] * v[0] + u[1] * v[1] + u[2] * v[2];
  const length = (u) => Math.sqrt(dot(u, u));
  const angle = (u, v) => (Math.acos(Math.max(-1, Math.min(1, dot(u, v) / length(u) / length(v)))) * 180) / Math.PI;
  return [length(a), length(b), length(c), angle(b, c), angle(a, c), angle(a, b)];
}

// The cell as it was relaxed, every site written.
function cif(record) {
  const counts = {};
  for (const symbol of record.symbols) counts[symbol] = (counts[symbol] || 0) + 1;
  const sum = Object.keys(counts).sort().map((symbol) => symbol + counts[symbol]).join(" ");
  const names = ["length_a", "length_b", "length_c", "angle_alpha", "angle_beta", "angle_gamma"];
  const sites = record.sites.map(
    (at, i) => `  ${record.symbols[i]}  ${record.symbols[i]}${i}  1  ${at.map((x) => x.toFixed(7)).join("  ")}  1`);
  return [
    `data_${fileName(record).slice(0, 74)}`,
    `# ${oneLine(record.values.id)}: formation energy ${record.values.e_form_per_atom} eV/atom`,
    "_symmetry_space_group_name_H-M   'P 1'",
    ...angles(record.lattice).map((value, i) => `_cell_${names[i]}   ${value.toFixed(7)}`),
    "_symmetry_Int_Tables_number   1",
    `_chemical_formula_sum   '${sum}'`,
    "loop_", " _symmetry_equiv_pos_site_id", " _symmetry_equiv_pos_as_xyz", "  1  'x, y, z'",
    "loop_", " _atom_site_type_symbol", " _atom_site_label", " _atom_site_symmetry_multiplicity", " _atom_site_fract_x",
    " _atom_site_fract_y", " _atom_site_fract_z", " _atom_site_occupancy", ...sites,
  ].join("\n") + "\n";
}

function poscar(record) {
  const symbols = [...new Set(record.symbols)];
  const of = (symbol) => record.sites.filter((_, i) => record.symbols[i] === symbol);
  const row = (numbers) => numbers.map((x) => x.toFixed(7)).join("  ");
  return [
    oneLine(`${record.values.formula} ${record.values.id}`), "1.0", ...record.lattice.map(row), symbols.join(" "),
    symbols.map((symbol) => of(symbol).length).join(" "), "direct", ...symbols.flatMap((symbol) => of(symbol).map(row)),
  ].join("\n") + "\n";
}

const crcTable = Uint32Array.from({ length: 256 }, (_, n) => {
  for (let k = 0; k < 8; k++) n = n & 1 ? 0xedb88320 ^ (n >>> 1) : n >>> 1;
  return n;
});
function crc32(bytes) {
  let crc = -1;
  for (const byte of bytes) crc = crcTable[(crc ^ byte) & 255] ^ (crc >>> 8);
  return ~crc >>> 0;
}

// [[name, text], ...] as a zip whose files are stored as they are (PKWARE's APPNOTE 6.3, sections 4.3.7, 4.3.12, 4.3.16).
function zip(files) {
  const encoder = new TextEncoder(), parts = [], central = [];
  let offset = 0, size = 0;
  for (const [name, text] of files) {
    const title = encoder.encode(name), bytes = encoder.encode(text);
    const common = new DataView(new ArrayBuffer(26)); // the fields that both headers have
    common.setUint16(0, 20, true); // version that reads it
    common.setUint16(2, 0x800, true); // names are UTF-8
    common.setUint16(8, 33, true); // 1 January 1980: equal data, equal bytes
    common.setUint32(10, crc32(bytes), true);
    common.setUint32(14, bytes.length, true);
    common.setUint32(18, bytes.length, true);
    common.setUint16(22, title.length, true);
    const local = Uint8Array.of(0x50, 0x4b, 3, 4);
    parts.push(local, new Uint8Array(common.buffer), title, bytes);
    const tail = new DataView(new ArrayBuffer(14));
    tail.setUint32(10, offset, true);
    const entry = [Uint8Array.of(0x50, 0x4b, 1, 2, 20, 0), new Uint8Array(common.buffer), new Uint8Array(tail.buffer), title];
    central.push(...entry);
    offset += 30 + title.length + bytes.length;
    size += 46 + title.length;
  }
  const end = new DataView(new ArrayBuffer(22));
  end.setUint32(0, 0x06054b50, true);
  end.setUint16(8, files.length, true);
  end.setUint16(10, files.length, true);
  end.setUint32(12, size, true);
  end.setUint32(16, offset, true);
  return new Blob([...parts, ...central, end.buffer]);
}

const formats = { cif: [cif, ".cif"], poscar: [poscar, ".vasp"] };
function saveCrystals(format, records) {
  const [write, suffix] = formats[format];
  if (records.length === 1) return save(fileName(records[0]) + suffix, write(records[0]), "text/plain");
  save(`crystals-${format}.zip`, zip(records.map((record) => [fileName(record) + suffix, write(record)])), "application/zip");
}

// An SVG picture as a file, or as pixels, twice as many as on the screen.
function savePicture(svg, name, format) {
  const copy = svg.cloneNode(true);
  const { width, height } = svg.getBoundingClientRect();
  copy.setAttribute("xmlns", "http://www.w3.org/2000/svg");
  copy.setAttribute("width", width);
  copy.setAttribute("height", height);
  copy.style.color = css("--text");
  copy.style.setProperty("--card", css("--card"));
  const text = new XMLSerializer().serializeToString(copy);
  if (format === "svg") return save(name + ".svg", text, "image/svg+xml");
  const image = new Image();
  image.onload = () => {
    const canvas = document.createElement("canvas");
    Object.assign(canvas, { width: 2 * width, height: 2 * height });
    canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
    canvas.toBlob((blob) => save(name + ".png", blob, "image/png"));
  };
  image.src = "data:image/svg+xml;charset=utf-8," + encodeURIComponent(text);
}
