import assert from "node:assert/strict";
import { test } from "node:test";
import { defaultSocketPath, formatHostPort, isLoopback, parseHostPort } from "./address.ts";

test("addresses are host, host:port, or IPv6 in brackets", () => {
  const cases: Record<string, string> = {
    host2: "host2:7470",
    "host2.example.org:1": "host2.example.org:1",
    "10.0.0.2:7471": "10.0.0.2:7471",
    "[fe80::1]:7471": "[fe80::1]:7471",
    "[::1]": "[::1]:7470",
    "fe80::1": "[fe80::1]:7470",
  };
  for (const [text, expected] of Object.entries(cases)) {
    assert.equal(formatHostPort(parseHostPort(text, 7470)), expected);
  }
});

test("what is no address is refused", () => {
  for (const text of ["", ":7470", "host:", "host:99999", "a b", "host:1:2", "http://x", "[x"]) {
    assert.throws(() => parseHostPort(text, 7470), { code: "CONFIG_INVALID" }, text);
  }
  assert.throws(() => parseHostPort("host"), { code: "CONFIG_INVALID" });
});

test("only addresses that never leave the machine are loopback", () => {
  for (const host of ["127.0.0.1", "127.1.2.3", "::1", "localhost", "::ffff:127.0.0.1"]) {
    assert.ok(isLoopback(host), host);
  }
  for (const host of [
    "10.0.0.1",
    "0.0.0.0",
    "::",
    "127.0.0.1.example.org",
    "127.0.0.1@x",
    "host",
  ]) {
    assert.ok(!isLoopback(host), host);
  }
});

test("the socket is found without an option", () => {
  assert.equal(defaultSocketPath({}, 0), "/run/godwit/godwit.sock");
  assert.equal(
    defaultSocketPath({ XDG_RUNTIME_DIR: "/run/user/7" }, 7),
    "/run/user/7/godwit/godwit.sock",
  );
  assert.equal(defaultSocketPath({}, 7), "/tmp/godwit-7/godwit.sock");
  assert.equal(defaultSocketPath({ GODWIT_SOCKET: "/x" }, 0), "/x");
});
