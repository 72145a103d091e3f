// The screen: noVNC on a line.
import RFB from "./vendor/novnc/core/rfb.js";
import { keep, show } from "./line.js";

const at = (id) => document.getElementById(id), box = at("screen");
let screen = null;

const fit = () => {
  if (screen) { screen.scaleViewport = at("fit").checked; screen.clipViewport = !at("fit").checked; }
};
at("fit").addEventListener("change", fit);
at("reset-keys").addEventListener("click", () => { screen?.sendCtrlAltDel(); screen?.focus(); });
at("full").addEventListener("click", async () => { await box.requestFullscreen(); screen?.focus(); });

keep((socket) => {
  screen = new RFB(box, socket, { shared: true });
  screen.background = "#0b0f14";
  fit();
  show("off", "Connecting");  // a socket alone is no picture
  screen.addEventListener("connect", () => { show("ok", "Connected"); screen.focus(); });
}, (why) => { at("why").textContent = why; });
