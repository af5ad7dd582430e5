/** Every route of a daemon: the one list that server, OpenAPI document and tests go by. */
import { z } from "zod";
import type { RouteName } from "../paths.ts";
import * as reply from "./replies.ts";
import * as request from "./requests.ts";

export interface RouteContract {
  readonly summary: string;
  readonly body?: z.ZodType;
  readonly query?: z.ZodType;
  /** Of one event when `stream`. */
  readonly reply: z.ZodType;
  readonly stream?: true;
}

const listOf = (key: string, item: z.ZodType): z.ZodType => z.looseObject({ [key]: z.array(item) });

export const contract = {
  getHost: { summary: "The daemon and its host", reply: reply.host },
  getDoctor: { summary: "What this host can do, found by trying", reply: reply.doctor },
  listVms: { summary: "All VMs", reply: listOf("vms", reply.vm) },
  startVm: { summary: "Start a VM", body: request.startVm, reply: reply.vm },
  getVm: { summary: "One VM", reply: reply.vm },
  stopVm: { summary: "Power a VM down, or end it", body: request.stopVm, reply: reply.done },
  continueVm: {
    summary: "Run a VM that is stopped, or was kept after an uncertain migration",
    body: request.continueVm,
    reply: reply.done,
  },
  discardVm: { summary: "Throw away a kept or crashed VM", reply: reply.done },
  adviseVm: {
    summary: "Which way of compressing fits a VM's pages: records them and tries all",
    body: request.adviseVm,
    reply: reply.adviceEvent,
    stream: true,
  },
  traceVm: {
    summary: "Record a VM's dirty pages into a file of the daemon's host",
    body: request.traceVm,
    reply: reply.traceEvent,
    stream: true,
  },
  endTrace: { summary: "End a recording before its time", reply: reply.done },
  getConsole: {
    summary: "The end of a VM's console log",
    query: request.consoleQuery,
    reply: reply.consoleTail,
  },
  followConsole: {
    summary: "A VM's console log as it grows",
    query: request.consoleQuery,
    reply: reply.consoleEvent,
    stream: true,
  },
  listMigrations: {
    summary: "Migrations under way and the last that ended",
    reply: listOf("migrations", reply.migration),
  },
  startMigration: {
    summary: "Start a migration from here",
    body: request.startMigration,
    reply: reply.migration,
  },
  getMigration: { summary: "One migration", reply: reply.migration },
  cancelMigration: { summary: "Cancel a migration", reply: reply.migration },
  followMigration: {
    summary: "A migration's events until it ends",
    reply: reply.migrationEvent,
    stream: true,
  },
  followAll: {
    summary: "Events of all migrations",
    reply: reply.migrationEvent,
    stream: true,
  },
  listExpectations: {
    summary: "QEMUs that wait for a migration",
    reply: listOf("expectations", reply.expectation),
  },
  expectVm: {
    summary: "Register a QEMU that waits for a migration",
    body: request.expectVm,
    reply: reply.expectation,
  },
  forgetExpectation: { summary: "Stop waiting under this name", reply: reply.done },
} satisfies Record<RouteName, RouteContract>;
