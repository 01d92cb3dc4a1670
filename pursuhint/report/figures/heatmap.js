// A map of similarities that tells names and values of the cell under the pointer, or under the cursor that
// the arrow keys move. It works from the data in the page alone.
"use strict";
(() => {
  const INK = "#222222", GRAY = "#767676", BAND = ["#cfcfcf", "#ededed"];
  const FONT = '12px system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif';
  const STRIP = 14, GAP = 3, MARKS = 30, SHEET = 18;  // SHEET: padding and border of the light sheet

  for (const box of document.querySelectorAll("[data-heatmap]")) {
    start(box, JSON.parse(box.dataset.heatmap));
  }

  function start(box, data) {
    const rows = data.rows, columns = data.columns || data.rows;
    const bars = rows.some((layer) => layer.frequency !== undefined) ? 74 : 0;
    const clustered = columns.some((layer) => layer.cluster !== undefined);
    const staged = columns.some((layer) => layer.stage !== undefined);
    const top = MARKS + (clustered ? STRIP + GAP : 0);
    const left = 58, right = bars + 66;
    const canvas = document.createElement("canvas"), readout = document.createElement("output");
    const sheet = document.createElement("div");
    const base = document.createElement("canvas");
    let map = 0, row = -1, column = -1, pinned = false, width = 0, height = 0;

    canvas.tabIndex = 0;
    canvas.setAttribute("role", "application");
    canvas.setAttribute("aria-roledescription", "interactive heat map");
    canvas.setAttribute("aria-label", data.label + ". Arrow keys move, Enter pins, Escape lets go.");
    readout.setAttribute("aria-live", "polite");
    if (data.maps.length > 1) box.append(choices());
    sheet.className = "sheet";
    sheet.append(canvas);
    box.append(sheet, readout);
    box.closest("figure").classList.add("live");
    layOut();
    new ResizeObserver(layOut).observe(box);

    canvas.addEventListener("pointermove", (event) => { if (!pinned) move(...cellAt(event)); });
    canvas.addEventListener("pointerleave", () => { if (!pinned) move(-1, -1); });
    canvas.addEventListener("click", (event) => {
      const [r, c] = cellAt(event);
      pinned = r >= 0 && !(pinned && r === row && c === column);
      move(r, c);
    });
    canvas.addEventListener("focus", () => {
      if (row < 0) move(Math.max(0, rows.findIndex((layer) => layer.chosen)), 0);
    });
    canvas.addEventListener("keydown", (event) => {
      const r = Math.max(row, 0), c = Math.max(column, 0), page = 10;
      const target = {
        ArrowUp: [r - 1, c], ArrowDown: [r + 1, c], ArrowLeft: [r, c - 1], ArrowRight: [r, c + 1],
        PageUp: [r - page, c], PageDown: [r + page, c], Home: [r, 0], End: [r, columns.length - 1],
        Enter: [r, c], " ": [r, c], Escape: [r, c],
      }[event.key];
      if (!target || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      if (event.key === "Escape") pinned = false;
      if (event.key === "Enter" || event.key === " ") pinned = !pinned;
      move(clamp(target[0], rows.length), clamp(target[1], columns.length));
    });

    function choices() {
      const group = document.createElement("div");
      group.className = "choices";
      group.setAttribute("role", "group");
      group.setAttribute("aria-label", "which map");
      data.maps.forEach((entry, index) => {
        const button = document.createElement("button");
        button.type = "button";
        button.textContent = entry.label;
        button.setAttribute("aria-pressed", String(index === map));
        button.addEventListener("click", () => {
          map = index;
          [...group.children].forEach((other, i) => other.setAttribute("aria-pressed", String(i === index)));
          drawBase();
          show();
        });
        group.append(button);
      });
      return group;
    }

    function clamp(value, count) { return Math.min(Math.max(value, 0), count - 1); }

    function cellAt(event) {
      const bounds = canvas.getBoundingClientRect();
      const c = Math.floor((event.clientX - bounds.left - left) / width);
      const r = Math.floor((event.clientY - bounds.top - top) / height);
      return r >= 0 && r < rows.length && c >= 0 && c < columns.length ? [r, c] : [-1, -1];
    }

    function move(r, c) {
      row = r;
      column = c;
      show();
    }

    function layOut() {
      const room = Math.min(box.clientWidth || 640, 760) - SHEET - left - right;
      width = Math.max(2, Math.min(44, Math.floor(room / columns.length)));
      const tall = Math.max(2, Math.min(44, Math.floor(620 / rows.length)));
      height = data.columns ? tall : width;
      const size = [left + width * columns.length + right, top + height * rows.length + 48 + (staged ? STRIP : 0)];
      const scale = window.devicePixelRatio || 1;
      for (const target of [canvas, base]) {
        target.width = Math.round(size[0] * scale);
        target.height = Math.round(size[1] * scale);
        target.getContext("2d").setTransform(scale, 0, 0, scale, 0, 0);
      }
      canvas.style.width = size[0] + "px";
      canvas.style.height = size[1] + "px";
      drawBase();
      show();
    }

    function color(entry, value) {
      if (value === null) return "#ffffff";
      const place = (value - entry.low) / (entry.high - entry.low) * (entry.colors.length - 1);
      return entry.colors[clamp(Math.round(place), entry.colors.length)];
    }

    function stretches(layers, key) {
      const found = [];
      layers.forEach((layer, index) => {
        const last = found[found.length - 1];
        if (last && last.value === layer[key]) last.end = index + 1;
        else found.push({ value: layer[key], begin: index, end: index + 1, fill: layer.color });
      });
      return found;
    }

    function drawBase() {
      const pen = base.getContext("2d"), entry = data.maps[map];
      pen.clearRect(0, 0, base.width, base.height);
      pen.font = FONT;
      pen.textBaseline = "middle";
      entry.values.forEach((line, r) => line.forEach((value, c) => {
        pen.fillStyle = color(entry, value);
        pen.fillRect(left + c * width, top + r * height, width, height);
      }));
      axes(pen);
      if (clustered) clusters(pen);
      marks(pen);
      if (bars) frequencies(pen);
      legend(pen, entry);
    }

    function axes(pen) {
      const bottom = top + height * rows.length;
      if (staged) {
        stretches(columns, "stage").forEach((part, index) => {
          pen.fillStyle = BAND[index % 2];
          pen.fillRect(left + part.begin * width, bottom + 2, (part.end - part.begin) * width, STRIP - 4);
        });
      }
      pen.fillStyle = INK;
      pen.textAlign = "right";
      ticks(rows, height).forEach((r) => pen.fillText(rows[r].position, left - 5, top + (r + 0.5) * height));
      pen.textAlign = "center";
      const y = bottom + 11 + (staged ? STRIP - 2 : 0);
      ticks(columns, width).forEach((c) => pen.fillText(columns[c].position, left + (c + 0.5) * width, y));
      const names = data.columns ? ["teacher position", "student position"] : ["position", "layer position, in depth order"];
      if (!data.columns && pen.measureText(names[1]).width > width * columns.length) names[1] = "position";
      const middle = left + width * columns.length / 2, half = pen.measureText(names[1]).width / 2;
      pen.fillText(names[1], Math.max(middle, half + 2), y + 19);
      pen.save();
      pen.translate(14, top + height * rows.length / 2);
      pen.rotate(-Math.PI / 2);
      pen.fillText(names[0], 0, 0);
      pen.restore();
    }

    // The first layer, and those whose position is a multiple of the smallest round step that leaves room.
    function ticks(layers, cell) {
      const step = [1, 2, 5, 10, 20, 50].find((candidate) => candidate * cell >= 22) || 100;
      return layers.map((_, index) => index)
        .filter((index) => step === 1 || index === 0 || (layers[index].position % step === 0 && index * cell >= 22));
    }

    function clusters(pen) {
      const groups = stretches(columns, "cluster");
      for (const part of groups) {
        pen.fillStyle = part.fill;
        pen.fillRect(left + part.begin * width, top - STRIP - GAP, (part.end - part.begin) * width - 1, STRIP);
        if ((part.end - part.begin) * width < 12) continue;
        pen.fillStyle = "#ffffff";
        pen.textAlign = "center";
        pen.strokeStyle = INK;
        pen.lineWidth = 2.5;
        const at = [left + (part.begin + part.end) / 2 * width, top - STRIP / 2 - GAP];
        pen.strokeText(part.value, ...at);
        pen.fillText(part.value, ...at);
      }
      if (data.columns) return;
      for (const part of groups) {
        for (const other of groups.filter((candidate) => candidate.value === part.value)) {
          const frame = [left + part.begin * width, top + other.begin * height,
            (part.end - part.begin) * width, (other.end - other.begin) * height];
          pen.lineWidth = 3;
          pen.strokeStyle = INK;
          pen.strokeRect(...frame);
          pen.lineWidth = 1.6;
          pen.strokeStyle = "#ffffff";
          pen.strokeRect(...frame);
        }
      }
    }

    function triangle(pen, x, y, filled) {
      pen.beginPath();
      pen.moveTo(x - 4, y - 7);
      pen.lineTo(x + 4, y - 7);
      pen.lineTo(x, y);
      pen.closePath();
      pen.strokeStyle = INK;
      pen.lineWidth = 1;
      pen.fillStyle = filled ? INK : "#ffffff";
      pen.fill();
      pen.stroke();
    }

    function marks(pen) {
      columns.forEach((layer, c) => {
        const x = left + (c + 0.5) * width;
        if (layer.conventional) triangle(pen, x, MARKS - 4, false);
        if (layer.chosen) triangle(pen, x, MARKS - 14, true);
      });
      for (const [r, c] of data.pairs) {
        pen.beginPath();
        pen.arc(left + (c + 0.5) * width, top + (r + 0.5) * height, Math.min(4, 1.5 + width / 3), 0, 7);
        pen.fillStyle = "#ffffff";
        pen.strokeStyle = INK;
        pen.lineWidth = 1.2;
        pen.fill();
        pen.stroke();
      }
    }

    function frequencies(pen) {
      const x = left + width * columns.length + 10, long = bars - 24;
      rows.forEach((layer, r) => {
        pen.fillStyle = layer.chosen ? "#0072b2" : "#b7b7b7";
        pen.fillRect(x, top + r * height, long * (layer.frequency || 0), Math.max(1, height - 1));
      });
      pen.fillStyle = GRAY;
      const bottom = top + height * rows.length;
      pen.fillRect(x - 1, top, 1, height * rows.length);
      pen.fillRect(x + long, bottom - 5, 1, 5);
      pen.textAlign = "left";
      pen.fillText("0", x - 3, bottom + 9);
      pen.fillText("100 %", x + long - 12, bottom + 9);
      pen.fillText("chosen in", x - 3, bottom + 25);
      pen.fillText("half-samples", x - 3, bottom + 39);
    }

    function legend(pen, entry) {
      const x = left + width * columns.length + bars + 12, tall = height * rows.length;
      const count = entry.colors.length;
      entry.colors.forEach((fill, index) => {
        pen.fillStyle = fill;
        pen.fillRect(x, top + tall * (1 - (index + 1) / count), 12, tall / count + 1);
      });
      pen.fillStyle = INK;
      pen.textAlign = "left";
      for (const part of tall < 60 ? [0, 1] : [0, 0.5, 1]) {
        const value = entry.low + part * (entry.high - entry.low);
        pen.fillText(value.toFixed(2), x + 16, top + tall * (1 - part) + (part ? 6 - 6 * (1 - part) * 2 : -6));
      }
    }

    function show() {
      const pen = canvas.getContext("2d");
      pen.save();
      pen.setTransform(1, 0, 0, 1, 0, 0);
      pen.clearRect(0, 0, canvas.width, canvas.height);
      pen.drawImage(base, 0, 0);
      pen.restore();
      canvas.classList.toggle("pinned", pinned);
      if (row < 0) {
        readout.textContent = "Point at a cell, or use the arrow keys; a click or Enter pins it.";
        return;
      }
      const x = left + column * width, y = top + row * height;
      for (const [thick, stroke] of [[4, INK], [2, "#ffffff"]]) {
        pen.lineWidth = thick;
        pen.strokeStyle = stroke;
        pen.strokeRect(x, y, width, height);
      }
      pen.lineWidth = 1;
      pen.strokeStyle = GRAY;
      pen.beginPath();
      pen.moveTo(left - 4, y + height / 2);
      pen.lineTo(x - 2, y + height / 2);
      pen.moveTo(x + width / 2, top - 2);
      pen.lineTo(x + width / 2, y - 2);
      pen.stroke();
      readout.textContent = told();
    }

    function told() {
      const entry = data.maps[map], first = rows[row], second = columns[column];
      const error = entry.errors ? " ± " + entry.errors[row][column].toFixed(3) : "";
      const value = (entry.measure || data.metric) + " " + number(entry.values[row][column]) + error;
      if (!data.columns && row === column) {
        const share = first.frequency === undefined ? "" :
          "; chosen in " + Math.round(100 * first.frequency) + " % of half-samples";
        return named(first) + " with itself: " + value + share + (pinned ? " (pinned)" : "");
      }
      return named(first) + " and " + named(second) + ": " + value + (pinned ? " (pinned)" : "");
    }

    function number(value) {
      return value === null ? "not defined" : value.toFixed(3).replace("-", "\u2212");
    }

    function named(layer) {
      const more = ["position " + layer.position];
      if (layer.cluster !== undefined) more.push("cluster " + layer.cluster);
      if (layer.chosen) more.push("hint");
      if (layer.conventional) more.push("convention");
      return layer.name + " (" + more.join(", ") + ")";
    }
  }
})();
