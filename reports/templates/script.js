"use strict";
// Sorting and filtering of tables and lists; without this script the page is complete, in the order of the run.
for (const table of document.querySelectorAll("table[data-sortable]")) {
  const bodies = () => [...table.tBodies];
  const value = (body, index) => {
    const cell = body.rows[0].cells[index];
    if (!cell) return null;
    if (cell.dataset.sort !== undefined) return cell.dataset.sort === "" ? null : Number(cell.dataset.sort);
    return cell.textContent.trim().toLowerCase();
  };
  const compare = (a, b) => (typeof a === "number" ? a - b : String(a).localeCompare(String(b)));
  table.tHead.querySelectorAll("th").forEach((head, index) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const direction = head.getAttribute("aria-sort") === "ascending" ? "descending" : "ascending";
      for (const other of table.tHead.querySelectorAll("th")) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", direction);
      const keyed = bodies().map((body) => [value(body, index), body]);
      keyed.sort(([a], [b]) => (a === null) - (b === null) || (a === null ? 0 : compare(a, b) * (direction === "ascending" ? 1 : -1)));
      table.append(...keyed.map(([, body]) => body));
    });
  });
}
for (const place of document.querySelectorAll("[data-filter]")) {
  const label = document.createElement("label");
  label.className = "filter";
  label.textContent = place.dataset.filter;
  const input = document.createElement("input");
  input.type = "search";
  label.append(input);
  place.prepend(label);
  input.addEventListener("input", () => {
    const wanted = input.value.trim().toLowerCase();
    for (const item of place.querySelectorAll("[data-item]")) item.hidden = !item.textContent.toLowerCase().includes(wanted);
    if (wanted) for (const folded of place.querySelectorAll("details.more")) folded.open = true;
  });
}
addEventListener("beforeprint", () => {
  for (const folded of document.querySelectorAll("details.more")) folded.open = true;
});
