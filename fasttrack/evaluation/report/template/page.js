"use strict";
(() => {
  const PAGE = 50;

  for (const button of document.querySelectorAll("[data-toggle]")) {
    button.addEventListener("click", () => {
      const shown = button.getAttribute("aria-pressed") !== "true";
      button.setAttribute("aria-pressed", String(shown));
      for (const part of document.querySelectorAll(`svg [data-t="${button.dataset.toggle}"], .series [data-t="${button.dataset.toggle}"]`)) {
        part.classList.toggle("hidden", !shown);
      }
    });
  }

  const cell = (name, text, kind) => {
    const made = document.createElement(name);
    made.textContent = text;
    if (kind) made.className = kind;
    return made;
  };

  // A row is [name, frames, attributes, cells]; a cell holds one value per measure, or the word for why there is none.
  const number = (value) => (typeof value === "number" ? value : -Infinity);

  const sequences = (box) => {
    const data = JSON.parse(box.querySelector("script").textContent);
    const body = box.querySelector("tbody");
    const heads = [...box.querySelectorAll("thead th")].filter((head) => head.querySelector("button"));
    const state = { measure: 0, sort: -1, down: false, page: 0, find: "" };
    const value = (row, column) =>
      column === 0 ? row[0] : column === 1 ? row[1] : Array.isArray(row[3][column - 2]) ? row[3][column - 2][state.measure] : null;

    const chosen = () => {
      const rows = data.rows.filter((row) => `${row[0]} ${row[2]}`.toLowerCase().includes(state.find));
      if (state.sort < 0) return rows;
      const side = state.down ? -1 : 1;
      const text = state.sort === 0;
      return rows.sort((a, b) => {
        const [x, y] = [value(a, state.sort), value(b, state.sort)];
        const order = text ? x.localeCompare(y, undefined, { numeric: true }) : number(x) - number(y);
        return side * (order || 0);
      });
    };

    const line = (row) => {
      const made = document.createElement("tr");
      const head = cell("th", row[0], "name");
      head.scope = "row";
      made.append(head, cell("td", row[1]));
      const { digits, lower } = data.measures[state.measure];
      const written = row[3].map((c) => (Array.isArray(c) && typeof c[state.measure] === "number" ? c[state.measure].toFixed(digits) : null));
      const there = written.filter((text) => text !== null).map(Number);
      const best = there.length > 1 ? (lower ? Math.min(...there) : Math.max(...there)).toFixed(digits) : "";
      row[3].forEach((c, k) => {
        const td = cell("td", written[k] ?? (Array.isArray(c) ? "–" : c), written[k] === null ? "gap" : written[k] === best ? "best" : "");
        if (written[k] !== null && !lower) td.style.setProperty("--v", written[k]);
        made.append(td);
      });
      made.append(cell("td", row[2], "tags"));
      return made;
    };

    const show = () => {
      const rows = chosen();
      const pages = Math.max(Math.ceil(rows.length / PAGE), 1);
      state.page = Math.min(Math.max(state.page, 0), pages - 1);
      const from = state.page * PAGE;
      body.replaceChildren(...rows.slice(from, from + PAGE).map(line));
      const last = Math.min(from + PAGE, rows.length);
      box.querySelector("output").textContent = rows.length ? `${from + 1}–${last} of ${rows.length}` : "none";
      box.querySelector(".back").disabled = state.page === 0;
      box.querySelector(".next").disabled = state.page === pages - 1;
    };

    heads.forEach((head, column) => {
      head.setAttribute("aria-sort", "none");
      head.querySelector("button").addEventListener("click", () => {
        // Names from A on, numbers from the largest on.
        state.down = state.sort === column ? !state.down : column > 0;
        state.sort = column;
        state.page = 0;
        for (const other of heads) other.setAttribute("aria-sort", "none");
        head.setAttribute("aria-sort", state.down ? "descending" : "ascending");
        show();
      });
    });
    box.querySelector(".measure").addEventListener("change", (event) => { state.measure = event.target.selectedIndex; show(); });
    box.querySelector(".find").addEventListener("input", (event) => { state.find = event.target.value.toLowerCase(); state.page = 0; show(); });
    box.querySelector(".back").addEventListener("click", () => { state.page -= 1; show(); });
    box.querySelector(".next").addEventListener("click", () => { state.page += 1; show(); });
    show();
  };

  for (const box of document.querySelectorAll(".sequences")) sequences(box);
})();
