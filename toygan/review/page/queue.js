// Decisions that are not saved yet. Each has a key of its own in the browser's storage, so that a closed page,
// a second page or a server that goes away loses none. Sending one twice is harmless: its id says it is the same.

const MOST_AT_ONCE = 500;
const LONGEST_WAIT_MS = 10000;

export class Queue {
  constructor(store, csrf, changed) {
    this.prefix = `toygan-review ${store} `;
    this.csrf = csrf;
    this.changed = changed; // called with ({saved, refused}) or ({problem})
    this.flying = new Set();
    this.waitMs = 500;
    this.number = 0;
    this.items = Object.keys(localStorage)
      .filter((key) => key.startsWith(this.prefix))
      .map((key) => JSON.parse(localStorage.getItem(key)))
      .sort((one, other) => one.order - other.order);
  }

  static newId() {
    return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
  }

  get size() {
    return this.items.length;
  }

  add(decisions) {
    for (const said of decisions) {
      this.number += 1;
      const item = { order: Date.now() + this.number / 1e6, said };
      this.items.push(item);
      localStorage.setItem(this.prefix + said.decision_id, JSON.stringify(item));
    }
    this.send();
  }

  // Takes back a decision that was not sent yet; returns false if it is on its way or saved.
  drop(id) {
    if (this.flying.has(id) || !this.items.some((item) => item.said.decision_id === id)) return false;
    this.forget([id]);
    return true;
  }

  forget(ids) {
    const gone = new Set(ids);
    this.items = this.items.filter((item) => !gone.has(item.said.decision_id));
    for (const id of gone) localStorage.removeItem(this.prefix + id);
  }

  async send() {
    if (this.flying.size || !this.items.length) return;
    const batch = this.items.slice(0, MOST_AT_ONCE).map((item) => item.said);
    this.flying = new Set(batch.map((said) => said.decision_id));
    const answer = await this.post(batch);
    this.flying = new Set();
    if (answer.problem) {
      this.changed(answer);
      setTimeout(() => this.send(), this.waitMs);
      this.waitMs = Math.min(2 * this.waitMs, LONGEST_WAIT_MS);
      return;
    }
    this.waitMs = 500;
    this.forget([...answer.saved, ...Object.keys(answer.refused)]);
    this.changed(answer);
    this.send();
  }

  async post(batch) {
    try {
      const answer = await fetch("/api/decisions", {
        method: "POST",
        headers: { "Content-Type": "application/json", "X-CSRF-Token": this.csrf },
        body: JSON.stringify({ decisions: batch }),
      });
      if (answer.ok) return await answer.json();
      if (answer.status === 403) this.csrf = (await (await fetch("/api/session")).json()).csrf;
      const detail = (await answer.json()).detail;
      return { problem: typeof detail === "string" ? detail : "the server refused the decisions" };
    } catch {
      return { problem: "the server does not answer" };
    }
  }
}
