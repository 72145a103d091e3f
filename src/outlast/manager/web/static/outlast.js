// What a page needs besides htmx: the badge, dialogs, toasts, copying, the keyboard, the theme.
// It must come before htmx, so that no event is missed. Nothing here reads or keeps data of pools.
(() => {
  "use strict";
  const $ = (id) => document.getElementById(id);
  const html = document.documentElement;
  const STALE_MS = 10000;
  let lost = 0, timer = 0;

  // ---- live, reconnecting, stale
  const show = (state, text) => {
    const badge = $("badge");
    if (!badge) return;
    badge.hidden = false;
    badge.dataset.state = state;
    if (badge.textContent !== text) badge.textContent = text;
    html.classList.toggle("o-stale", state === "stale");
  };
  const live = () => { lost = 0; clearInterval(timer); timer = 0; show("live", "Live"); };
  const away = () => {
    if (document.hidden) return;
    lost ||= Date.now();
    const since = new Date(lost).toTimeString().slice(0, 5);
    const tell = () => Date.now() - lost > STALE_MS
      ? show("stale", `Stale since ${since}`) : show("wait", "Reconnecting");
    tell();
    timer ||= setInterval(tell, 1000);
  };
  const stream = (event) => event.target.classList?.contains("o-stream");
  document.addEventListener("htmx:sse:after:connection", live);
  document.addEventListener("htmx:sse:after:message", live);
  document.addEventListener("htmx:sse:error", (event) => {
    if (event.detail.status === 401) return ended();
    away();
  });
  document.addEventListener("htmx:sse:before:connection", (event) => {
    if (event.detail.connection.attempt > 0) away();
  });
  document.addEventListener("htmx:error", (event) => {
    if (!stream(event)) return;
    away();
    setTimeout(() => anew(event.target), 2000);
  });
  const anew = (line) => { const again = line.cloneNode(false); line.replaceWith(again); htmx.process(again); };

  // ---- the session has ended: what is typed stays until somebody has signed in elsewhere
  const ended = () => { if ($("ended") && !$("ended").open) $("ended").showModal(); };
  document.addEventListener("htmx:response:error", (event) => {
    if (event.detail.ctx.response.status === 401) ended();
  });
  const goOn = async () => {
    const page = await fetch(location.href);
    if (new URL(page.url).pathname.startsWith("/sign-in")) return;
    const fresh = new DOMParser().parseFromString(await page.text(), "text/html");
    const token = fresh.querySelector("input[name=csrf]")?.value;
    for (const field of document.querySelectorAll("input[name=csrf]")) field.value = token;
    $("ended").close();
    for (const line of document.querySelectorAll(".o-stream")) anew(line);
  };

  // what is shown is old: no wish before somebody has seen how things are
  const old = (event) => {
    const asks = event.detail?.ctx ? event.detail.ctx.request.method === "POST" : event.target.method === "post";
    if (!asks || !html.classList.contains("o-stale")) return;
    event.preventDefault();
    if (confirm("What you see is old. Load the page anew?")) location.reload();
  };
  document.addEventListener("htmx:before:request", old);
  document.addEventListener("submit", (event) => { if (!event.target.hasAttribute("hx-post")) old(event); }, true);

  // ---- dialogs and toasts
  document.addEventListener("htmx:after:swap", () => {
    const dialog = $("dialog"), body = $("dialog-body");
    if (body?.childElementCount && !dialog.open) dialog.showModal();
  });
  const close = () => { $("dialog")?.close(); };
  document.addEventListener("close", (event) => {
    if (event.target.id === "dialog") $("dialog-body").replaceChildren();
  }, true);
  document.addEventListener("o-close-dialog", close);
  const onto = (event, selector) => event.target.closest?.(selector);
  document.addEventListener("click", (event) => {
    if (event.target.matches?.("dialog")) event.target.close();
    if (onto(event, "[data-close]") && onto(event, "dialog")) { event.preventDefault(); onto(event, "dialog").close(); }
    if (onto(event, "[data-go-on]")) goOn();
    onto(event, "[data-dismiss]")?.closest(".o-toast").remove();
    const copy = onto(event, "[data-copy]");
    if (copy) navigator.clipboard?.writeText(copy.dataset.copy).then(() => {
      copy.setAttribute("aria-label", "Copied");
      setTimeout(() => copy.setAttribute("aria-label", "Copy the command"), 2000);
    });
    for (const menu of document.querySelectorAll(".o-user[open]")) if (!menu.contains(event.target)) menu.open = false;
  });
  new MutationObserver((changes) => {
    for (const change of changes) for (const added of change.addedNodes) {
      if (added.classList?.contains("o-toast") && !added.classList.contains("is-bad")) setTimeout(() => added.remove(), 8000);
    }
  }).observe(html, { childList: true, subtree: true });

  // ---- keyboard
  const GOES = { p: "/", h: "/hosts", s: "/hosts", v: "/vms", f: "/failovers", t: "/tasks" };
  let went = 0;
  document.addEventListener("keydown", (event) => {
    const typing = onto(event, "input, select, textarea, dialog, .o-terminal");
    if ((event.key === "k" && (event.ctrlKey || event.metaKey)) || (event.key === "/" && !typing)) {
      event.preventDefault();
      (document.querySelector("#main input[type=search]") ?? $("global-search"))?.focus();
    } else if (!typing && !event.ctrlKey && !event.altKey && !event.metaKey) {
      if (event.key === "g") went = Date.now();
      else if (GOES[event.key] && Date.now() - went < 1500) location.assign(GOES[event.key]);
      else if (event.key === "j" || event.key === "k") {
        const rows = [...document.querySelectorAll("tbody th a")];
        const at = rows.indexOf(document.activeElement) + (event.key === "j" ? 1 : -1);
        rows[Math.max(0, Math.min(rows.length - 1, at))]?.focus();
      } else if (event.key === "x") onto(event, "tr")?.querySelector("input[type=checkbox]")?.click();
      else if (event.key === "?") $("keys")?.showModal();
    }
  });

  // ---- what needs scripts appears; the theme is a cookie, so that no page flashes
  const ready = () => {
    for (const shown of document.querySelectorAll("#theme, .o-copy[hidden]")) shown.hidden = false;
  };
  document.addEventListener("DOMContentLoaded", () => {
    ready();
    $("theme")?.addEventListener("click", () => {
      const dark = (html.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
      html.dataset.theme = dark ? "light" : "dark";
      document.cookie = `outlast-theme=${html.dataset.theme}; path=/; max-age=31536000; secure; samesite=strict`;
    });
  });
  document.addEventListener("htmx:after:swap", ready);
})();
