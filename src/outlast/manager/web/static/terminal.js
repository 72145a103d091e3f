// The serial console: a terminal on a line.
import { keep } from "./line.js";

const box = document.getElementById("terminal");
// the terminal makes style elements and takes no nonce for them; this gives them ours
const create = document.createElement.bind(document);
document.createElement = (name, ...more) => {
  const made = create(name, ...more);
  if (String(name).toLowerCase() === "style") made.nonce = box.dataset.nonce;
  return made;
};
const terminal = new window.Terminal({ fontSize: 14, cursorBlink: true, screenReaderMode: true,
  theme: { background: "#0b0f14" } });
const fit = new window.FitAddon.FitAddon();
terminal.loadAddon(fit);
terminal.open(box);
fit.fit();
addEventListener("resize", () => fit.fit());

let socket = null;
terminal.onData((text) => {
  if (socket?.readyState === WebSocket.OPEN) socket.send(new TextEncoder().encode(text));
});
keep((made) => {
  socket = made;
  socket.addEventListener("open", () => terminal.focus());
  socket.addEventListener("message", (event) => terminal.write(new Uint8Array(event.data)));
}, (why) => terminal.write(`\r\n\x1b[2m[${why}]\x1b[0m\r\n`));
