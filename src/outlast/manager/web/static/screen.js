// The screen: noVNC on a line.
import RFB from "./vendor/novnc/core/rfb.js";
import { press, type } from "./keys.js";
import { keep, show } from "./line.js";

const at = (id) => document.getElementById(id), box = at("screen");
let screen = null;

const fit = () => {
  if (screen) { screen.scaleViewport = at("fit").checked; screen.clipViewport = !at("fit").checked; }
};
at("fit").addEventListener("change", fit);
at("reset-keys").addEventListener("click", () => { screen?.sendCtrlAltDel(); screen?.focus(); });
at("look").addEventListener("change", () => { if (screen) screen.viewOnly = at("look").checked; });
at("more-keys").addEventListener("change", () => { press(screen, at("more-keys").value.split("+")); at("more-keys").value = ""; screen?.focus(); });
at("paste").addEventListener("click", async () => {
  let text = "";
  try { text = await navigator.clipboard.readText(); } catch { text = prompt("Text to type") ?? ""; }
  screen?.focus();
  await type(screen, text);
});
at("full").addEventListener("click", async () => { await box.requestFullscreen(); screen?.focus(); });

keep((socket) => {
  screen = new RFB(box, socket, { shared: true });
  screen.background = "#0b0f14";
  screen.viewOnly = at("look").checked;
  fit();
  show("off", "Connecting");  // a socket alone is no picture
  screen.addEventListener("connect", () => { show("ok", "Connected"); screen.focus(); });
}, (why) => { at("why").textContent = why; });
