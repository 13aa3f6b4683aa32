"use strict";
const PAGE_ROWS = 50;
const byId = (id) => document.getElementById(id);

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made[key] = value;
  made.append(...children);
  return made;
}

async function unpacked(id) {
  const letters = atob(byId(id).textContent.trim());
  const packed = new Uint8Array(letters.length);
  for (let at = 0; at < letters.length; at += 1) packed[at] = letters.charCodeAt(at);
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).text();
}

function hasWebGl() {
  try {
    const canvas = document.createElement("canvas");
    return Boolean(canvas.getContext("webgl2") || canvas.getContext("webgl"));
  } catch {
    return false;
  }
}

function problem(text) {
  return element("p", { className: "problem", textContent: text });
}

async function drawIn(place, picture) {
  const { data, layout } = picture.figure;
  const isSolid = data.some((trace) => trace.type === "scatter3d");
  if (isSolid && !hasWebGl()) {
    place.replaceChildren(problem("This picture needs WebGL, which this browser does not offer."));
    place.style.minHeight = "0";
  } else {
    place.replaceChildren();
    await Plotly.newPlot(place, data, layout, CONFIG);
  }
  place.dataset.state = "drawn";
}

async function draw(place, picture) {
  place.dataset.state = "drawing";
  try {
    await drawIn(place, picture);
  } catch (error) {
    place.replaceChildren(problem(`This picture cannot be drawn: ${error.message}`));
    place.style.minHeight = "0";
    place.dataset.state = "broken";
  }
}

function show(pictures) {
  const places = new Map();
  const seen = new IntersectionObserver(
    (entries) => {
      for (const entry of entries) {
        if (!entry.isIntersecting) continue;
        seen.unobserve(entry.target);
        draw(entry.target, places.get(entry.target));
      }
    },
    { rootMargin: "300px 0px" },
  );
  for (const picture of pictures) {
    const place = element("div", { className: "plot" }, element("span", { className: "wait", textContent: "…" }));
    place.dataset.state = "waiting";
    place.style.minHeight = `${picture.figure.layout.height || 460}px`;
    const parts = picture.reading ? [element("p", { textContent: picture.reading })] : [];
    byId("pictures").append(element("section", { className: "picture", id: picture.name }, place, ...parts));
    places.set(place, picture);
    seen.observe(place);
  }
  // Paper shows all of them.
  window.addEventListener("beforeprint", () => {
    for (const [place, picture] of places) if (place.dataset.state === "waiting") draw(place, picture);
  });
}

function compare(a, b) {
  const missing = (a === null) - (b === null);
  if (missing || a === null) return [missing, true];
  if (typeof a === "number" && typeof b === "number") return [a - b, false];
  return [String(a).localeCompare(String(b), undefined, { numeric: true }), false];
}

function showTable(table) {
  const section = byId("trials");
  section.hidden = false;
  let rows = table.rows;
  let page = 0;
  let sorted = { column: 0, up: true };
  const body = element("tbody");
  const where = element("span", { className: "where" });
  const back = element("button", { textContent: "‹ back", type: "button" });
  const next = element("button", { textContent: "next ›", type: "button" });
  const search = element("input", { placeholder: "search in all columns", type: "search" });
  search.setAttribute("aria-label", "search in the table of trials");
  const buttons = table.columns.map((name) => element("button", { textContent: name, type: "button" }));
  const heads = buttons.map((button) => element("th", { scope: "col" }, button));

  function render() {
    const first = page * PAGE_ROWS;
    const shown = rows.slice(first, first + PAGE_ROWS);
    body.replaceChildren(
      ...shown.map((row) =>
        element(
          "tr",
          { className: row[0] === table.best ? "best" : "" },
          ...row.map((cell) => element("td", { textContent: cell === null ? "" : cell, title: cell === null ? "" : cell })),
        ),
      ),
    );
    where.textContent = rows.length
      ? `${first + 1} to ${first + shown.length} of ${rows.length.toLocaleString("en")}`
      : "none";
    back.disabled = page === 0;
    next.disabled = first + PAGE_ROWS >= rows.length;
    heads.forEach((head, column) => {
      const isSorted = column === sorted.column;
      head.setAttribute("aria-sort", isSorted ? (sorted.up ? "ascending" : "descending") : "none");
      buttons[column].textContent = table.columns[column] + (isSorted ? (sorted.up ? " ▲" : " ▼") : "");
    });
  }

  function order() {
    const { column, up } = sorted;
    const text = search.value.trim().toLowerCase();
    rows = text ? table.rows.filter((row) => row.some((cell) => cell !== null && String(cell).toLowerCase().includes(text))) : table.rows.slice();
    rows.sort((a, b) => {
      const [by, isMissing] = compare(a[column], b[column]);
      return (isMissing || up ? by : -by) || a[0] - b[0];
    });
    page = 0;
    render();
  }

  buttons.forEach((button, column) =>
    button.addEventListener("click", () => {
      sorted = { column, up: column === sorted.column ? !sorted.up : true };
      order();
    }),
  );
  search.addEventListener("input", order);
  back.addEventListener("click", () => { page -= 1; render(); });
  next.addEventListener("click", () => { page += 1; render(); });
  section.append(
    element("h2", { textContent: "Trials" }),
    element("div", { className: "bar" }, search, back, next, where),
    element("div", { className: "scroll" }, element("table", {}, element("thead", {}, element("tr", {}, ...heads)), body)),
  );
  order();
}

async function main() {
  if (typeof DecompressionStream === "undefined") {
    throw new Error("This browser is too old for the pictures: use one of 2023 or later.");
  }
  const library = unpacked("plotly");
  const { pictures, table } = JSON.parse(await unpacked("data"));
  if (table) showTable(table);
  document.head.append(element("script", { textContent: await library }));
  show(pictures);
  // The address may name a picture that is made here.
  if (location.hash.length > 1 && byId(location.hash.slice(1))) byId(location.hash.slice(1)).scrollIntoView();
  document.body.dataset.state = "ready";
}

main().catch((error) => {
  byId("pictures").append(problem(error.message));
  document.body.dataset.state = "broken";
});
