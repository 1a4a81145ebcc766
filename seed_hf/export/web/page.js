// What the page shows, and what may be done on it.
import { encode, loading } from "./encoder.js";

const show = (id) => document.getElementById(id);

// what was asked for last is shown, whatever is ready first
let latest = 0;

async function choose(blob, name) {
  const turn = ++latest;
  show("state").textContent = `Encoding ${name} …`;
  try {
    const started = performance.now();
    const codes = await encode(blob);
    if (turn !== latest) return;
    const milliseconds = Math.round(performance.now() - started);
    show("image").src = URL.createObjectURL(blob);
    show("image").alt = name;
    show("codes").replaceChildren(...codes.map(chip));
    show("copy").disabled = false;
    show("state").textContent = `${name}: ${codes.length} codes in ${milliseconds} ms, in this tab.`;
  } catch (error) {
    if (turn === latest) show("state").textContent = `${name} cannot be read as an image (${error.message}).`;
  }
}

function chip(code, place) {
  const item = document.createElement("li");
  item.textContent = code;
  item.title = `Place ${place + 1}`;
  item.style.setProperty("--hue", (code * 137.5) % 360);
  return item;
}

function take(files) {
  if (files.length) choose(files[0], files[0].name);
}

show("file").addEventListener("change", (event) => take(event.target.files));
document.addEventListener("dragover", (event) => event.preventDefault());
document.addEventListener("drop", (event) => {
  event.preventDefault();
  take(event.dataTransfer.files);
});
show("copy").addEventListener("click", () => {
  const codes = Array.from(show("codes").children, (item) => Number(item.textContent));
  navigator.clipboard.writeText(JSON.stringify(codes));
});

try {
  await loading;
  show("file").disabled = false;
  show("state").textContent = "Choose an image, or drop one here.";
} catch (error) {
  show("state").textContent = `The model could not be loaded (${error.message}).`;
}
