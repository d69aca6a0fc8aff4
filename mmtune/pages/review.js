"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const items = data.items;
  const slot = `review ${data.review}`;
  const by = (id) => document.getElementById(id);
  const keys = {
    a: "A", arrowleft: "A", b: "B", arrowright: "B",
    s: "same", arrowdown: "same", x: "bad", arrowup: "bad",
  };
  let at = 0;
  let state = { answers: {}, rater: "" };

  function load() {
    try {
      const kept = JSON.parse(localStorage.getItem(slot) || "null");
      if (kept && typeof kept.answers === "object") state = { answers: kept.answers, rater: String(kept.rater || "") };
    } catch {
      by("note").textContent = "This browser can't store your answers. Save them before you close the page.";
    }
  }

  function keep() {
    try {
      localStorage.setItem(slot, JSON.stringify(state));
    } catch {
      by("note").textContent = "This browser can't store your answers. Save them before you close the page.";
    }
  }

  const open = (from) => {
    for (let step = 0; step < items.length; step += 1) {
      const place = (from + step) % items.length;
      if (!(items[place].id in state.answers)) return place;
    }
    return items.length;
  };

  function words(runs) {
    const line = document.createElement("p");
    if (!runs.length) {
      line.className = "soft";
      line.textContent = "(no words)";
    }
    runs.forEach(([text, differs], i) => {
      if (i) line.append(" ");
      if (differs) {
        const mark = document.createElement("mark");
        mark.textContent = text;
        line.append(mark);
      } else {
        line.append(text);
      }
    });
    return line;
  }

  function picture(uri, name) {
    const image = document.createElement("img");
    image.src = uri;
    image.alt = `picture ${name}`;
    return image;
  }

  function show() {
    const answered = items.filter((item) => item.id in state.answers).length;
    by("progress").max = items.length;
    by("progress").value = answered;
    by("count").textContent = `${answered} of ${items.length} answered`;
    const over = at >= items.length;
    by("item").hidden = over;
    by("done").hidden = !over;
    by("back").disabled = at === 0;
    by("next").disabled = over;
    by("sound").pause();
    if (over) return;
    const item = items[at];
    const text = item.shown === "text";
    by("question").textContent = text ? "Which transcript is better?" : "Which picture is better?";
    by("count").textContent += `, now at pair ${at + 1}`;
    by("sides").className = `sides ${item.shown}`;
    for (const side of ["a", "b"]) {
      by(side).replaceChildren(text ? words(item[side]) : picture(item[side], side.toUpperCase()));
    }
    by("prompt").textContent = text ? "" : item.reference;
    by("sound").hidden = !item.sound;
    if (item.sound) by("sound").src = item.sound;
    else by("sound").removeAttribute("src");
    by("written").hidden = !text || !item.reference;
    by("written").open = text && !item.sound;
    by("reference").textContent = text ? item.reference : "";
    for (const button of document.querySelectorAll("[data-choice]")) {
      button.setAttribute("aria-pressed", String(state.answers[item.id] === button.dataset.choice));
    }
  }

  function choose(choice) {
    if (at >= items.length) return;
    state.answers[items[at].id] = choice;
    keep();
    at = open(at + 1);
    show();
  }

  function save() {
    const text = JSON.stringify({ review: data.review, rater: state.rater, answers: state.answers }, null, 2);
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([`${text}\n`], { type: "application/json" }));
    link.download = "answers.json";
    document.body.append(link);
    link.click();
    link.remove();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  }

  for (const button of document.querySelectorAll("[data-choice]")) {
    button.addEventListener("click", () => choose(button.dataset.choice));
  }
  by("back").addEventListener("click", () => { at = Math.max(0, at - 1); show(); });
  by("next").addEventListener("click", () => { at = Math.min(items.length, at + 1); show(); });
  by("save").addEventListener("click", save);
  by("rater").addEventListener("input", (event) => { state.rater = event.target.value; keep(); });
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input, audio")) return;
    const key = event.key.toLowerCase();
    if (key === " " && !event.target.matches("button, summary")) {
      const sound = by("sound");
      if (!sound.hidden) {
        if (sound.paused) sound.play().catch(() => {});
        else sound.pause();
      }
      event.preventDefault();
    } else if (key in keys) {
      event.preventDefault();
      choose(keys[key]);
    } else if (key === "backspace") {
      at = Math.max(0, at - 1);
      show();
    }
  });
  load();
  by("rater").value = state.rater;
  at = open(0);
  show();
})();
