// A line to a VM: a ticket, a web socket, and another ticket whenever it breaks.
const REFUSED = 4403, TRIES_MAX = 20;

export const show = (tone, text) => {
  const pill = document.getElementById("line");
  pill.className = `o-pill is-${tone}`;
  pill.textContent = text;
};

// attach(socket): called for each new socket, before it is open. told(text): why a line ended.
export const keep = (attach, told) => {
  const form = document.getElementById("ticket");
  let tries = 0, host = "";

  const again = () => {
    tries += 1;
    if (tries > TRIES_MAX) return show("bad", "Ended");
    show("warn", "Reconnecting");
    setTimeout(connect, Math.min(500 * tries, 5000));
  };
  const connect = async () => {
    let answer;
    try {
      answer = await fetch(form.action, { method: "POST", body: new URLSearchParams(new FormData(form)) });
    } catch { return again(); }
    if (answer.redirected || answer.status === 401) return location.reload();
    if (answer.status >= 500) return again();
    if (!answer.ok) return show("bad", "Refused");
    const ticket = encodeURIComponent(await answer.text()), now = answer.headers.get("X-Host");
    const socket = new WebSocket(`wss://${location.host}/console?ticket=${ticket}`);
    socket.binaryType = "arraybuffer";
    socket.addEventListener("open", () => {
      show("ok", "Connected");
      if (host && now && now !== host) told(`it moved to ${now}, reconnected`);
      host = now || host;
    });
    socket.addEventListener("message", (event) => {
      if (typeof event.data !== "string") { tries = 0; return; }
      event.stopImmediatePropagation();
      told(event.data);
    });
    socket.addEventListener("close", (event) => event.code === REFUSED ? show("bad", "Refused") : again());
    attach(socket);
  };
  connect();
};
