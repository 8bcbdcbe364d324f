"use strict";

// Tables: a click on a column's head sorts by it. Numbers go down first, names up; what is empty stays last.
function keyOf(row, column) {
  const cell = row.cells[column];
  const text = (cell.dataset.value ?? cell.textContent).trim();
  const number = text === "inf" ? Infinity : Number(text.replaceAll(",", ""));
  return text === "" ? null : Number.isNaN(number) ? text : number;
}

function compare(a, b, sign) {
  if (a === null || b === null) return (a === null) - (b === null);
  if (typeof a === "number" && typeof b === "number") return sign * (a < b ? -1 : a > b ? 1 : 0);
  return sign * String(a).localeCompare(String(b), undefined, { numeric: true });
}

function sortBy(table, column) {
  const head = table.tHead.rows[0].cells[column];
  const rows = [...table.tBodies[0].rows].map(row => ({ row, key: keyOf(row, column) }));
  const numeric = rows.every(({ key }) => key === null || typeof key === "number");
  const before = head.getAttribute("aria-sort");
  const up = before ? before === "descending" : !numeric;
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", up ? "ascending" : "descending");
  rows.sort((a, b) => compare(a.key, b.key, up ? 1 : -1));
  table.tBodies[0].append(...rows.map(({ row }) => row));
}

for (const table of document.querySelectorAll("table:not(.matrix, .plain)")) {
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    button.addEventListener("click", () => sortBy(table, column));
    head.append(button);
  });
}

// Sound: the player plays an utterance; a phone is cut out of the decoded samples, so that it begins and ends exactly.
const player = { context: null, decoded: new WeakMap(), stop: null };

function samplesOf(audio) {
  if (!player.decoded.has(audio)) {
    const bytes = Uint8Array.from(atob(audio.src.slice(audio.src.indexOf(",") + 1)), letter => letter.charCodeAt(0));
    player.decoded.set(audio, player.context.decodeAudioData(bytes.buffer));
  }
  return player.decoded.get(audio);
}

function silence() {
  for (const audio of document.querySelectorAll("audio")) audio.pause();
  player.stop?.();
  player.stop = null;
}

function follow(strip, seconds) {
  const head = strip.querySelector(".playhead");
  head.hidden = seconds === null;
  if (seconds !== null) head.style.left = `${100 * seconds / strip.dataset.seconds}%`;
}

async function playPhone(card, mark) {
  const audio = card.querySelector("audio");
  const strip = card.querySelector(".strip");
  if (!audio) return;
  silence();
  player.context ??= new AudioContext();
  const [start, end] = [Number(mark.dataset.start), Number(mark.dataset.end)];
  let over = false;
  const finish = () => {
    over = true;
    mark.classList.remove("playing");
    follow(strip, null);
  };
  player.stop = finish;
  mark.classList.add("playing");
  await player.context.resume();
  const buffer = await samplesOf(audio);
  if (over) return;                     // another click came while the sound was being decoded
  const source = new AudioBufferSourceNode(player.context, { buffer });
  source.connect(player.context.destination);
  source.onended = () => { if (!over) finish(); };
  player.stop = () => { finish(); source.stop(); };
  const began = player.context.currentTime;
  source.start(began, start, end - start);
  const step = () => {
    if (over) return;
    follow(strip, Math.min(end, start + player.context.currentTime - began));
    requestAnimationFrame(step);
  };
  step();
}

function playFrom(card, strip, event) {
  const audio = card.querySelector("audio");
  if (!audio) return;
  silence();
  const box = strip.getBoundingClientRect();
  audio.currentTime = strip.dataset.seconds * (event.clientX - box.left) / box.width;
  audio.play().catch(() => {});         // the next click may interrupt it before it begins
}

for (const card of document.querySelectorAll(".utterance")) {
  const strip = card.querySelector(".strip");
  const audio = card.querySelector("audio");
  strip.addEventListener("click", event => {
    const mark = event.target.closest(".mark");
    if (mark) playPhone(card, mark);
    else if (event.target.closest(".panel")) playFrom(card, strip, event);
  });
  audio?.addEventListener("play", () => {
    for (const other of document.querySelectorAll("audio")) if (other !== audio) other.pause();
    player.stop?.();
    player.stop = null;
    const step = () => {
      if (player.stop === null) follow(strip, audio.paused ? null : audio.currentTime);
      if (!audio.paused) requestAnimationFrame(step);
    };
    step();
  });
}

function openTarget() {
  const target = /^#u\d+$/.test(location.hash) && document.querySelector(location.hash);
  if (target) target.open = true;
}
addEventListener("hashchange", openTarget);
openTarget();
