// Keys that a browser or its system would keep for itself, and text as keys of a US keyboard.
const SYMS = { Ctrl: 0xffe3, Alt: 0xffe9, Super: 0xffeb, Tab: 0xff09, Escape: 0xff1b, Backspace: 0xff08, Print: 0xff61, Shift: 0xffe1, Enter: 0xff0d };
const symOf = (name) => SYMS[name] ?? 0xffbd + Number(name.slice(1)); // F1 is 0xffbe
const SHIFTED = /[A-Z~!@#$%^&*()_+{}|:"<>?]/;
const PAUSE_MS = 30; // a keyboard of QEMU's keeps 16 keys until the guest takes them

// names: held together in this order, like ["Ctrl", "Alt", "F2"]
export const press = (screen, names) => {
  for (const name of names) screen?.sendKey(symOf(name), null, true);
  for (const name of [...names].reverse()) screen?.sendKey(symOf(name), null, false);
};

export const type = async (screen, text) => {
  for (const char of text.replaceAll("\r\n", "\n")) {
    const sym = { "\n": SYMS.Enter, "\t": SYMS.Tab }[char] ?? char.codePointAt(0);
    if (SHIFTED.test(char)) screen?.sendKey(SYMS.Shift, null, true);
    screen?.sendKey(sym, null);
    if (SHIFTED.test(char)) screen?.sendKey(SYMS.Shift, null, false);
    await new Promise((done) => setTimeout(done, PAUSE_MS));
  }
};
