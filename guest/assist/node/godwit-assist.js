/**
 * Tells godwit which memory of this program need not travel in a live migration.
 *
 *     import { GodwitAssist } from "./godwit-assist.js";
 *
 *     const arena = Buffer.alloc(1 << 30);
 *     const assist = new GodwitAssist({
 *       name: "my-cache",
 *       async prepare(deadlineMs) { await cache.suspend(); },  // from now on nobody touches the arena
 *       resume() { cache.clear(); },                           // at the destination: it may have become zero
 *       abort() { cache.clear(); },                            // stayed here: same caution
 *     });
 *     assist.area(arena);
 *
 * Plain JavaScript, Node 20 or later, Linux, no dependencies, no native code. docs/ASSIST.md explains what the program promises.
 *
 * Without an agent every call still succeeds and nothing ever happens. The library keeps the list of areas: when the agent
 * restarts it connects again and declares them again. If the connection is lost in mid-migration the program hears `abort`, so
 * that it is never left waiting. Neither the connection nor its timer keeps the process alive.
 */
import { createConnection } from "node:net";
import { addressOf } from "./find-buffer.js";

const areasMax = 1024;
const lineBytesMax = 256;
const outBytesMax = 98_304;
const retryMs = 250;
const retryMsMax = 30_000;
/** Less could not hold one whole page wherever it lies. */
const areaBytesMin = 8192;

/**
 * @typedef {object} Handler
 * @property {string} [name] what operators will read
 * @property {string} [path] default $GODWIT_ASSIST, else /run/godwit/assist.sock; empty switches assistance off
 * @property {() => unknown} [begin] a migration begins: nothing has to be done
 * @property {(deadlineMs: number) => unknown} [prepare] stop reading and writing the areas, drop what must be kept, and return (or
 *   resolve): that is the answer. To throw means that the program cannot stop; then no area is disposable in this migration, and
 *   they are declared again after it. The same if there is no `prepare`. Later than the deadline is no mistake, but the memory travels
 * @property {() => unknown} [resume] the program runs at the destination: areas may have become zero, wholly or in part
 * @property {() => unknown} [abort] the migration did not happen: same caution
 * @property {(text: string) => unknown} [trouble] what the agent refused, lost connections, what callbacks threw. For a log
 */

/** Declared memory. Keeps its buffer from being collected. */
class Area {
  /** @type {GodwitAssist} */ #assist;
  /** @type {ArrayBuffer | undefined} */ buffer;
  /** @type {number} */ #bufferBytes;
  /** Undefined: assistance is off, or the address was not found (said as trouble). @readonly @type {number | undefined} */ address;
  /** @readonly @type {number} */ length;

  /**
   * @param {GodwitAssist} assist
   * @param {Uint8Array} bytes
   * @param {number | undefined} address
   */
  constructor(assist, bytes, address) {
    this.#assist = assist;
    this.buffer = /** @type {ArrayBuffer} */ (bytes.buffer);
    this.#bufferBytes = this.buffer.byteLength;
    this.address = address;
    this.length = bytes.byteLength;
  }

  /** Transferred to another thread, for example: then the memory belongs to somebody else. */
  get lost() {
    return this.buffer?.byteLength !== this.#bufferBytes;
  }

  /** Withdraws this part, or all of it. After `prepare` is answered it is too late for this migration. */
  drop(offset = 0, length = this.length - offset) {
    if (offset < 0 || length < 0 || offset + length > this.length)
      throw new RangeError("outside the area");
    if (this.buffer === undefined || this.address === undefined) return;
    this.#assist.dropRange(this, this.address + offset, length);
  }
}

export class GodwitAssist {
  /** @type {Handler} */ #handler;
  /** @type {string} */ #path;
  /** @type {{ address: number, length: number, declared: boolean }[]} */ #ranges = [];
  /** @type {Set<Area>} */ #areas = new Set();
  /** Buffers dropped in mid-prepare: freed now, their addresses could be another's when they are zeroed. @type {ArrayBuffer[]} */
  #held = [];
  /** @type {"idle" | "begun" | "preparing" | "answered"} */ #phase = "idle";
  /** `ready` is to be sent as soon as all drops are answered. */
  #answer = false;
  /** Drop lines without an answer. */
  #drops = 0;
  /** @type {("any" | "drop" | "withdraw")[]} */ #unanswered = [];
  /** @type {import("node:net").Socket | undefined} */ #socket;
  /** @type {NodeJS.Timeout | undefined} */ #timer;
  #input = "";
  #retryMs = retryMs;
  #closed = false;
  /** Events one after the other: the next one waits until the callback of the last one has finished. */
  #events = Promise.resolve();
  /** Counts connections: an event of an old one is not acted upon. */
  #epoch = 0;

  /** @param {Handler} handler */
  constructor(handler = {}) {
    this.#handler = handler;
    this.#path = handler.path ?? process.env["GODWIT_ASSIST"] ?? "/run/godwit/assist.sock";
    this.#connect();
  }

  get connected() {
    return this.#socket?.readyState === "open";
  }

  /**
   * Declares a buffer disposable; only the whole pages inside count. Finds its address by a scan of this process's memory
   * (find-buffer.js), which blocks for that time and changes the first 16 bytes for a moment: call it once, at the start.
   * Declared between `prepare` and `resume` or `abort`, it counts from the end of that migration on.
   * @param {ArrayBuffer | ArrayBufferView} buffer not shared, not resizable, at least 8 KiB
   * @returns {Area}
   */
  area(buffer) {
    const bytes =
      buffer instanceof ArrayBuffer
        ? new Uint8Array(buffer)
        : new Uint8Array(buffer.buffer, buffer.byteOffset, buffer.byteLength);
    if (!(bytes.buffer instanceof ArrayBuffer))
      throw new TypeError("shared memory cannot be declared: other threads may use it");
    if (/** @type {{ resizable?: boolean }} */ (bytes.buffer).resizable === true)
      throw new TypeError("a resizable buffer cannot be declared: it may move");
    if (bytes.byteLength < areaBytesMin) throw new RangeError("too small to be worth anything");
    if (this.#ranges.length >= areasMax) throw new RangeError(`more than ${areasMax} areas`);
    const address = this.#path === "" ? undefined : this.#find(bytes);
    const area = new Area(this, bytes, address);
    if (address === undefined) return area;
    this.#areas.add(area);
    this.#ranges.push({ address, length: area.length, declared: false });
    this.#declare();
    return area;
  }

  /** @param {Uint8Array} bytes */
  #find(bytes) {
    try {
      const address = addressOf(bytes);
      if (address === undefined) this.#trouble("the address of a buffer was not found");
      return address;
    } catch (error) {
      this.#trouble(`cannot read this process's own memory: ${String(error)}`);
      return undefined;
    }
  }

  /** Withdraws every area. */
  dropAll() {
    this.#ranges = [];
    for (const area of this.#areas) this.#forget(area);
    this.#send("drop", "withdraw");
  }

  /** Withdraws everything and connects no more. */
  close() {
    this.#closed = true;
    clearTimeout(this.#timer);
    this.#socket?.destroy();
  }

  /**
   * For Area.
   * @param {Area} area
   * @param {number} address
   * @param {number} length
   */
  dropRange(area, address, length) {
    const end = address + length;
    this.#ranges = this.#ranges
      .flatMap((range) => {
        const rangeEnd = range.address + range.length;
        const before = Math.min(address, rangeEnd) - range.address;
        const after = rangeEnd - Math.max(end, range.address);
        if (before <= 0 && after <= 0) return [];
        const pieces = [];
        if (before > 0) pieces.push({ ...range, length: before });
        if (after > 0) pieces.push({ ...range, address: rangeEnd - after, length: after });
        return pieces;
      })
      .slice(0, areasMax);
    if (length === area.length) this.#forget(area);
    this.#send(`drop 0x${address.toString(16)} 0x${length.toString(16)}`, "drop");
  }

  /** @param {Area} area */
  #forget(area) {
    if (this.#inPrepare() && area.buffer !== undefined) this.#held.push(area.buffer);
    area.buffer = undefined;
    this.#areas.delete(area);
  }

  #inPrepare() {
    return this.#phase === "preparing" || this.#phase === "answered";
  }

  /** Not in mid-prepare, when a new area could be zeroed while it is in use. */
  #declare() {
    if (this.#socket === undefined || this.#inPrepare()) return;
    for (const range of this.#ranges) {
      if (range.declared) continue;
      range.declared = true;
      this.#send(`area 0x${range.address.toString(16)} 0x${range.length.toString(16)}`);
    }
  }

  #undeclare() {
    for (const range of this.#ranges) range.declared = false;
  }

  /** Gives up nothing in this migration; outside of one, starts again from the list. */
  #withdraw() {
    this.#undeclare();
    this.#send("drop", "withdraw");
    this.#declare();
  }

  /**
   * @param {string} line
   * @param {"any" | "drop" | "withdraw"} kind
   */
  #send(line, kind = "any") {
    if (this.#socket === undefined) return;
    this.#unanswered.push(kind);
    if (kind !== "any") this.#drops++;
    this.#socket.write(`${line}\n`);
    // It reads nothing: that is the end of this connection.
    if (this.#socket.writableLength > outBytesMax) this.#socket.destroy();
  }

  #connect() {
    if (this.#path === "" || this.#closed) return;
    const socket = createConnection(this.#path);
    socket.unref();
    socket.setEncoding("latin1");
    socket.on("connect", () => {
      this.#socket = socket;
      const name = (this.#handler.name ?? "").slice(0, 127).replace(/[^ -~]/g, "?");
      if (name !== "") this.#send(`name ${name}`);
      this.#declare();
    });
    socket.on("data", (text) => this.#receive(socket, String(text)));
    socket.on("error", () => {}); // "close" follows
    socket.on("close", () => this.#disconnected(socket));
  }

  /** @param {import("node:net").Socket} socket */
  #disconnected(socket) {
    if (this.#socket === socket) {
      this.#socket = undefined;
      this.#epoch++;
      this.#input = "";
      this.#unanswered = [];
      this.#drops = 0;
      this.#answer = false;
      this.#undeclare();
      const interrupted = this.#phase !== "idle";
      this.#phase = "idle";
      this.#held = [];
      if (!this.#closed) this.#trouble("connection to the agent lost");
      if (interrupted && !this.#closed) this.#queue(() => this.#call("abort"));
    }
    if (this.#closed) return;
    this.#timer = setTimeout(() => this.#connect(), this.#retryMs);
    this.#timer.unref();
    this.#retryMs = Math.min(this.#retryMs * 2, retryMsMax);
  }

  /**
   * @param {import("node:net").Socket} socket
   * @param {string} text
   */
  #receive(socket, text) {
    const lines = (this.#input + text).split("\n");
    this.#input = lines.pop() ?? "";
    if ([...lines, this.#input].some((line) => line.length > lineBytesMax)) {
      socket.destroy();
      return;
    }
    for (const line of lines) this.#line(line);
  }

  /** @param {string} line */
  #line(line) {
    const [, word = "", rest = ""] = /^(\S*) ?(.*)$/.exec(line) ?? [];
    // Not one that refuses and closes: such a one is not asked four times a second.
    if (word !== "error") this.#retryMs = retryMs;
    if (word === "ok" || word === "error") {
      this.#replied(word === "ok" ? undefined : rest || "refused");
    } else if (["begin", "resume", "abort"].includes(word) || (word === "prepare" && /^\d+$/.test(rest))) {
      const epoch = this.#epoch;
      this.#queue(async () => {
        if (epoch === this.#epoch) await this.#event(word, Number(rest));
      });
    } // anything else is a later version's event, which may be ignored
  }

  /** @param {() => Promise<unknown>} task */
  #queue(task) {
    this.#events = this.#events.then(async () => {
      await task();
    });
  }

  /**
   * @param {string} word
   * @param {number} deadlineMs
   */
  async #event(word, deadlineMs) {
    if (word === "begin") {
      this.#phase = "begun";
      await this.#call("begin");
    } else if (word === "prepare") {
      await this.#prepare(deadlineMs);
    } else {
      this.#phase = "idle";
      this.#held = [];
      await this.#call(word === "resume" ? "resume" : "abort");
      this.#declare();
    }
  }

  /** @param {number} deadlineMs */
  async #prepare(deadlineMs) {
    const epoch = this.#epoch;
    this.#phase = "preparing";
    const stopped = await this.#call("prepare", deadlineMs);
    if (epoch !== this.#epoch) return;
    for (const area of this.#areas) {
      if (area.lost) area.drop();
    }
    if (!stopped) this.#withdraw();
    this.#answer = true;
    this.#settle();
  }

  /** Only after the agent has confirmed every drop may it hear `ready`: a refused drop would be zeroed memory. */
  #settle() {
    if (!this.#answer || this.#drops > 0 || this.#phase !== "preparing") return;
    this.#answer = false;
    this.#phase = "answered";
    this.#send("ready");
  }

  /** @param {string | undefined} error */
  #replied(error) {
    const kind = this.#unanswered.shift();
    if (kind === undefined) return;
    if (kind !== "any") this.#drops--;
    if (error !== undefined) {
      if (kind === "drop") this.#withdraw();
      // The last means: a closed connection has no areas.
      if (kind === "withdraw") this.#socket?.destroy();
      this.#trouble(error);
    }
    this.#settle();
  }

  /**
   * False if it failed, or if there is no prepare.
   * @param {"begin" | "prepare" | "resume" | "abort"} method
   * @param {number} [deadlineMs]
   */
  async #call(method, deadlineMs = 0) {
    try {
      await this.#handler[method]?.(deadlineMs);
      return this.#handler[method] !== undefined;
    } catch (error) {
      this.#trouble(`${method} failed: ${String(error)}`);
      return false;
    }
  }

  /** @param {string} text */
  #trouble(text) {
    try {
      this.#handler.trouble?.(text);
    } catch {
      // A log that fails has nobody left to tell.
    }
  }
}
