import assert from "node:assert/strict";
import { test } from "node:test";
import { resolveConfig } from "./config.ts";

test("root's daemon uses the system's folders and listens on loopback", () => {
  const config = resolveConfig({}, {}, 0);
  assert.equal(config.socketPath, "/run/godwit/godwit.sock");
  assert.deepEqual(config.listen, { host: "127.0.0.1", port: 7470 });
  assert.equal(config.stateDirectory, "/var/lib/godwit");
});

test("a user's daemon uses the user's folders", () => {
  const config = resolveConfig({}, { XDG_RUNTIME_DIR: "/run/user/7", HOME: "/home/u" }, 7);
  assert.equal(config.socketPath, "/run/user/7/godwit/godwit.sock");
  assert.equal(config.stateDirectory, "/home/u/.local/state/godwit");
});

test("what would be open to the network is refused with words on what to do", () => {
  const refused = (input: object, message: RegExp) =>
    assert.throws(() => resolveConfig(input, {}, 0), { code: "INSECURE", message });
  refused({ listen: "0.0.0.0:7470" }, /godwit tls init.*--insecure/s);
  refused({ listenApi: "127.0.0.1:7471" }, /--token-file/);
  refused({ listenApi: "0.0.0.0:7471", tokenFile: "/t" }, /ssh -L/);
  assert.ok(resolveConfig({ listen: "0.0.0.0:7470", insecure: true }, {}, 0));
  assert.ok(resolveConfig({ listen: "0.0.0.0:7470", tls: "/etc/godwit/tls" }, {}, 0));
});

test("an unknown key is refused", () => {
  assert.throws(() => resolveConfig({ lisen: "x" }, {}, 0), { code: "CONFIG_INVALID" });
});
