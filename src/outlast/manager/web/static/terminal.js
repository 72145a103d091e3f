// The serial console: a ticket, a web socket, a terminal. Lines that break are found again.
(() => {
  "use strict";
  const box = document.getElementById("terminal"), pill = document.getElementById("line");
  // the terminal makes style elements and takes no nonce for them; this gives them ours
  const create = document.createElement.bind(document);
  document.createElement = (name, ...more) => {
    const made = create(name, ...more);
    if (String(name).toLowerCase() === "style") made.nonce = box.dataset.nonce;
    return made;
  };
  const show = (tone, text) => { pill.className = `o-pill is-${tone}`; pill.textContent = text; };
  const REFUSED = 4403;
  let socket = null, tries = 0;

  const connect = async () => {
    const form = document.getElementById("ticket");
    let answer;
    try {
      answer = await fetch(form.action, { method: "POST", body: new URLSearchParams(new FormData(form)) });
    } catch { return again("the manager does not answer"); }
    if (answer.redirected || answer.status === 401) return location.reload();
    if (!answer.ok) return show("bad", "Refused");
    socket = new WebSocket(`wss://${location.host}/console?ticket=${encodeURIComponent(await answer.text())}`);
    socket.binaryType = "arraybuffer";
    socket.onopen = () => { show("ok", "Connected"); terminal.focus(); };
    socket.onmessage = (event) => {
      if (typeof event.data === "string") terminal.write(`\r\n\x1b[2m[${event.data}]\x1b[0m\r\n`);
      else { tries = 0; terminal.write(new Uint8Array(event.data)); }
    };
    socket.onclose = (event) => event.code === REFUSED ? show("bad", "Refused") : again("the line ended");
  };
  const again = (why) => {
    socket = null;
    tries += 1;
    if (tries > 20) return show("bad", "Ended");
    show("warn", "Reconnecting");
    setTimeout(connect, Math.min(500 * tries, 5000));
    return why;
  };

  let terminal = null;
  document.addEventListener("DOMContentLoaded", () => {
    terminal = new window.Terminal({ fontSize: 14, cursorBlink: true, screenReaderMode: true,
      theme: { background: "#0b0f14" } });
    const fit = new window.FitAddon.FitAddon();
    terminal.loadAddon(fit);
    terminal.open(box);
    fit.fit();
    addEventListener("resize", () => fit.fit());
    terminal.onData((text) => {
      if (socket?.readyState === WebSocket.OPEN) socket.send(new TextEncoder().encode(text));
    });
    connect();
  });
})();
