/** Everything about QEMU itself: its monitor, its command line, and what it can do on this host. */
export * from "./qmp/index.ts";
export * from "./launch/index.ts";
export * from "./probe/index.ts";
