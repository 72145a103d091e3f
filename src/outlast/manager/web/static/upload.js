// Sends a file to the pool piece by piece. Whatever breaks it off, it goes on where it was: of the
// pool it learns how much of this very file is there.
const PIECE = 4 << 20, TRIES_MAX = 30, PAUSE_MS = 1000;
const form = document.getElementById("upload"), bar = document.getElementById("sent");
const said = document.getElementById("said"), send = document.getElementById("send");
const fields = form.elements;
let sending = false;

class Refusal extends Error {}  // nothing that trying again would change

const call = async (method, path, body, type) => {
  const headers = { "X-CSRF-Token": fields.csrf.value, "Content-Type": type };
  const answer = await fetch(path, { method, body, headers });
  const told = await answer.json();
  if (answer.ok) return told;
  const text = [told.error.sentence, told.error.hint].filter(Boolean).join("; ");
  const passes = answer.status >= 500 || answer.status === 429 || (method === "PUT" && answer.status === 409);
  throw passes ? new Error(text) : new Refusal(text);
};
const wish = (path, body) => call("POST", path, JSON.stringify(body), "application/json");
const tell = (tone, text) => { said.className = tone; said.textContent = text; };
const mib = (bytes) => (bytes / (1 << 20)).toFixed(0);

const pieces = async (path, file, begun) => {
  const key = `${file.name} ${file.size} ${file.lastModified}`.slice(-300);
  const about = { size_bytes: file.size, sha256: fields.sha256.value.trim().toLowerCase(), key };
  let at = (await wish(path, about)).got_bytes;
  begun();
  while (at < file.size) {
    bar.value = at / file.size;
    tell("o-quiet", `${mib(at)} of ${mib(file.size)} MiB are on the pool's storage`);
    const piece = file.slice(at, at + PIECE);
    at = (await call("PUT", `${path}?offset=${at}`, piece, "application/octet-stream")).got_bytes;
    begun();
  }
  bar.value = 1;
};

const all = async (path, file) => {
  for (let tries = 0; ; tries += 1) {
    try {
      return await pieces(path, file, () => { tries = 0; });
    } catch (error) {
      if (error instanceof Refusal || tries >= TRIES_MAX) throw error;
      tell("o-warn", `It broke off (${error.message}) and is tried again`);
      await new Promise((done) => setTimeout(done, PAUSE_MS));
    }
  }
};

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  if (sending) return;
  const path = `${form.dataset.images}/${encodeURIComponent(fields.image.value)}/upload`;
  sending = send.disabled = true;
  bar.hidden = false;
  try {
    await all(path, fields.file.files[0]);
    await wish(`${path}/import`, {});
    sending = false;
    location.assign(form.dataset.back);
  } catch (error) {
    sending = send.disabled = false;
    tell("o-bad", `${error.message}. The same file goes on where it was.`);
  }
});
fields.file.addEventListener("change", () => {
  const name = fields.file.files[0]?.name.toLowerCase().replace(/\.[a-z0-9]+$/, "") ?? "";
  fields.image.value ||= name.replace(/[^a-z0-9]+/g, "-").replace(/^-+|-+$/g, "").slice(0, 63);
});
addEventListener("beforeunload", (event) => { if (sending) event.preventDefault(); });
send.disabled = false;
