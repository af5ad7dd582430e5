import assert from "node:assert/strict";
import { test } from "node:test";
import { type ArgumentOptions, qemuArguments } from "./arguments.ts";
import { parseDefinition } from "./definition.ts";
import { runtimePaths } from "./paths.ts";

const paths = runtimePaths("/run/godwit/web");

function build(text: string, options: Partial<ArgumentOptions> = {}): string[] {
  const definition = parseDefinition(`name: web\nmemory: 1G\n${text}`, { baseDirectory: "/vms" });
  return qemuArguments(definition, paths, {
    accelerator: "tcg",
    mode: "fresh",
    qemuVersion: [10, 0],
    ...options,
  });
}

/** The values that follow each occurrence of an option. */
function values(args: readonly string[], option: string): string[] {
  return args.flatMap((value, index) => (args[index - 1] === option ? [value] : []));
}

test("the whole command line of a q35 with everything", () => {
  const args = build(
    'vcpus: 2\nkernel: vmlinuz\ninitrd: initrd\ncommandLine: "console=ttyS0 a,b"\n' +
      "disks: [{file: a.qcow2, cache: none}]\n" +
      'networks: [{type: tap, interface: tap0, mac: "52:54:00:00:00:01"}]\nuuid: 3f0d2f6e-8d8c-4c0e-9d0b-0f5f3c1f2a11\n' +
      'extraArguments: ["-snapshot"]\n',
  );
  const rows = [
    ["-name", "guest=web,debug-threads=on", "-machine", "q35", "-accel", "tcg"],
    ["-cpu", "max,-erms,-fsrm", "-smp", "cpus=2", "-m", "1024M"],
    ["-uuid", "3f0d2f6e-8d8c-4c0e-9d0b-0f5f3c1f2a11"],
    ["-nodefaults", "-no-user-config", "-display", "none", "-msg", "timestamp=on"],
    ["-kernel", "/vms/vmlinuz", "-initrd", "/vms/initrd", "-append", "console=ttyS0 a,b"],
    ["-chardev", "socket,id=monitor,path=/run/godwit/web/monitor.sock,server=on,wait=off"],
    ["-mon", "chardev=monitor,mode=control"],
    ["-chardev", "socket,id=migrate,path=/run/godwit/web/migrate.sock,server=on,wait=off"],
    ["-mon", "chardev=migrate,mode=control"],
    [
      "-chardev",
      "socket,id=console,path=/run/godwit/web/console.sock,server=on,wait=off,logfile=/run/godwit/web/console.log,logappend=on",
    ],
    ["-serial", "chardev:console"],
    ["-device", "virtio-serial-pci,id=serial0,bus=pcie.0,addr=0x2"],
    ["-chardev", "socket,id=agent,path=/run/godwit/web/agent.sock,server=on,wait=off"],
    [
      "-device",
      "virtserialport,id=agent0,bus=serial0.0,nr=1,chardev=agent,name=org.godwit.agent.0",
    ],
    ["-device", "virtio-balloon-pci,id=balloon0,bus=pcie.0,addr=0x3"],
    ["-object", "rng-random,id=rng0,filename=/dev/urandom"],
    ["-device", "virtio-rng-pci,id=virtio-rng0,rng=rng0,bus=pcie.0,addr=0x4"],
    [
      "-blockdev",
      '{"driver":"qcow2","node-name":"disk0","read-only":false,"cache":{"direct":true,"no-flush":false},"discard":"unmap",' +
        '"file":{"driver":"file","filename":"/vms/a.qcow2","read-only":false,"cache":{"direct":true,"no-flush":false},"discard":"unmap"}}',
    ],
    ["-device", "virtio-blk-pci,id=virtio-disk0,drive=disk0,write-cache=on,bus=pcie.0,addr=0x8"],
    ["-netdev", "tap,id=net0,ifname=tap0,script=no,downscript=no"],
    [
      "-device",
      "virtio-net-pci,id=virtio-net0,netdev=net0,mac=52:54:00:00:00:01,romfile=,bus=pcie.0,addr=0x10",
    ],
    ["-snapshot"],
  ];
  assert.deepEqual(args, rows.flat());
});

test("a destination waits, paused", () => {
  const args = build("", { mode: "incoming" });
  assert.ok(args.includes("-S"));
  assert.deepEqual(values(args, "-incoming"), ["defer"]);
});

test("a fresh VM runs at once, unless it shall be paused", () => {
  assert.ok(!build("").includes("-S"));
  assert.ok(build("", { paused: true }).includes("-S"));
  assert.ok(!build("", { paused: true }).includes("-incoming"));
});

test("a device's address does not depend on the other devices", () => {
  const all = values(build("networks: [{type: user}]\n"), "-device").at(-1);
  const few = values(
    build("agent: false\nballoon: false\nrng: false\nnetworks: [{type: user}]\n"),
    "-device",
  );
  assert.deepEqual(few, [all]);
});

test("pc has another bus, microvm has none", () => {
  assert.match(values(build("machine: pc\n"), "-device")[0] ?? "", /bus=pci\.0,addr=0x2$/);
  const devices = values(build("machine: microvm\nnetworks: [{type: user}]\n"), "-device");
  assert.equal(devices[0], "virtio-serial-device,id=serial0");
  assert.ok(devices.every((device) => !/addr=|romfile|-pci/.test(device)));
});

test("the CPU model follows the accelerator unless it is given", () => {
  assert.deepEqual(values(build("", { accelerator: "kvm" }), "-cpu"), ["host"]);
  assert.deepEqual(values(build("cpu: Nehalem\n", { accelerator: "kvm" }), "-cpu"), ["Nehalem"]);
});

test("a stream network reconnects in the way that each QEMU version knows", () => {
  const text = "networks: [{type: stream, socket: /s}]\n";
  const netdev = (qemuVersion: [number, number]) =>
    values(build(text, { qemuVersion }), "-netdev")[0];
  const plain = "stream,id=net0,server=off,addr.type=unix,addr.path=/s";
  assert.equal(netdev([10, 0]), `${plain},reconnect-ms=200`);
  assert.equal(netdev([9, 1]), `${plain},reconnect=1`);
  assert.equal(netdev([7, 2]), plain);
});

test("a balloon takes hints of free pages when it shall, by a thread of its own", () => {
  const devices = (text: string) =>
    values(build(text), "-device").filter((value) => value.startsWith("virtio-balloon"));
  for (const text of ["", "balloon: true\n", "balloon: {}\n", "balloon: {freePageHint: false}\n"]) {
    assert.deepEqual(devices(text), ["virtio-balloon-pci,id=balloon0,bus=pcie.0,addr=0x3"], text);
  }
  assert.deepEqual(devices("balloon: false\n"), []);
  const hinting = "balloon: {freePageHint: true}\n";
  const properties = "id=balloon0,free-page-hint=on,iothread=balloon-thread0";
  assert.deepEqual(devices(hinting), [`virtio-balloon-pci,${properties},bus=pcie.0,addr=0x3`]);
  assert.ok(values(build(hinting), "-object").includes("iothread,id=balloon-thread0"));
  assert.deepEqual(devices(`machine: microvm\n${hinting}`), [
    `virtio-balloon-device,${properties}`,
  ]);
});

test("a disk may come from an NBD server", () => {
  const [blockdev] = values(build("disks: [{nbd: {socket: /n.sock, export: e}}]\n"), "-blockdev");
  const { driver, file } = JSON.parse(blockdev ?? "");
  assert.equal(driver, "raw");
  assert.deepEqual(file.server, { type: "unix", path: "/n.sock" });
  assert.equal(file["reconnect-delay"], 30);
});

test("commas in paths do not become options", () => {
  const [network] = values(build("networks: [{type: stream, socket: '/a,b'}]\n"), "-netdev");
  assert.match(network ?? "", /addr\.path=\/a,,b,/);
});

test("a socket path longer than 107 bytes is refused in words", () => {
  assert.throws(() => runtimePaths(`/${"x".repeat(100)}`), {
    code: "CONFIG_INVALID",
    message: /has 114 bytes, but Linux limits .* 107/,
  });
  runtimePaths(`/${"x".repeat(93)}`);
});
