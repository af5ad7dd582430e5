/** The contract's types, without its run-time part. */
import type { z } from "zod";
import type * as reply from "./contract/replies.ts";
import type * as request from "./contract/requests.ts";

/** Requests as a caller writes them: what has a default may be left out. */
export type StartVmRequest = z.input<typeof request.startVm>;
export type StopVmRequest = z.input<typeof request.stopVm>;
export type MigrateVmRequest = z.input<typeof request.migrateVm>;
export type SendVmRequest = z.input<typeof request.sendVm>;
export type ExpectVmRequest = z.input<typeof request.expectVm>;
export type AdviseVmRequest = z.input<typeof request.adviseVm>;
export type TraceVmRequest = z.input<typeof request.traceVm>;
export type MigrateRequestOptions = z.output<typeof request.migrateOptions>;

type Known<T> = { [K in keyof T as string extends K ? never : K]: T[K] };

export type Host = Known<z.output<typeof reply.host>>;
export type Check = Known<z.output<typeof reply.check>>;
export interface Doctor {
  readonly ok: boolean;
  readonly checks: readonly Check[];
}
export type Vm = Known<z.output<typeof reply.vm>>;
export type Progress = Known<z.output<typeof reply.progress>>;
export type Report = Known<z.output<typeof reply.report>>;
export type Line = Known<z.output<typeof reply.line>>;
export type Migration = Omit<
  Known<z.output<typeof reply.migration>>,
  "progress" | "report" | "lines" | "error"
> & {
  progress?: Progress | undefined;
  report?: Report | undefined;
  error?: { code: string; message: string } | undefined;
  lines: readonly Line[];
};
export type MigrationState = Migration["state"];
export type Expectation = Known<z.output<typeof reply.expectation>>;
export interface ConsoleTail {
  readonly text: string;
  readonly end: number;
}
export interface Done {
  readonly text: string;
}
export type MigrationEvent =
  | { readonly type: "following" }
  | { readonly type: "migration"; readonly migration: Migration }
  | { readonly type: "progress"; readonly id: string; readonly progress: Progress }
  | { readonly type: "line"; readonly id: string; readonly line: Line }
  | { readonly type: "finished"; readonly migration: Migration }
  | { readonly type: "expectation"; readonly name: string; readonly expected: boolean };
export type MethodAdvice = Known<z.output<typeof reply.methodAdvice>>;
export type Advice = Omit<Known<z.output<typeof reply.advice>>, "methods"> & {
  readonly methods: readonly MethodAdvice[];
};
export type AdviceEvent =
  | { readonly type: "progress"; readonly text: string }
  | { readonly type: "finished"; readonly advice: Advice }
  | { readonly type: "failed"; readonly error: { code: string; message: string } };
export type TraceProgress = Known<z.output<typeof reply.traceProgress>>;
export type TraceSummary = Known<z.output<typeof reply.traceSummary>>;
export type TraceEvent =
  | { readonly type: "progress"; readonly progress: TraceProgress }
  | { readonly type: "finished"; readonly summary: TraceSummary }
  | { readonly type: "failed"; readonly error: { code: string; message: string } };
export interface ConsoleEvent {
  readonly type: "text";
  readonly text: string;
}
