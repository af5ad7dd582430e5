/** Methods and paths alone, for the client: it starts quicker without the schemas (contract/routes.ts). */
export const paths = {
  getHost: ["GET", "/v1/host"],
  getDoctor: ["GET", "/v1/host/doctor"],
  listVms: ["GET", "/v1/vms"],
  startVm: ["POST", "/v1/vms"],
  getVm: ["GET", "/v1/vms/:name"],
  stopVm: ["POST", "/v1/vms/:name/stop"],
  continueVm: ["POST", "/v1/vms/:name/continue"],
  discardVm: ["POST", "/v1/vms/:name/discard"],
  adviseVm: ["POST", "/v1/vms/:name/advice"],
  traceVm: ["POST", "/v1/vms/:name/trace"],
  endTrace: ["POST", "/v1/vms/:name/trace/end"],
  getConsole: ["GET", "/v1/vms/:name/console"],
  followConsole: ["GET", "/v1/vms/:name/console/events"],
  listMigrations: ["GET", "/v1/migrations"],
  startMigration: ["POST", "/v1/migrations"],
  getMigration: ["GET", "/v1/migrations/:id"],
  cancelMigration: ["POST", "/v1/migrations/:id/cancel"],
  followMigration: ["GET", "/v1/migrations/:id/events"],
  followAll: ["GET", "/v1/events"],
  listExpectations: ["GET", "/v1/expectations"],
  expectVm: ["POST", "/v1/expectations"],
  forgetExpectation: ["DELETE", "/v1/expectations/:name"],
} as const satisfies Record<string, readonly [method: "GET" | "POST" | "DELETE", path: string]>;

export type RouteName = keyof typeof paths;

/** "/v1/vms/:name" and {name: "a"} → "/v1/vms/a". */
export function fillPath(path: string, values: Readonly<Record<string, string>>): string {
  return path.replaceAll(/:(\w+)/g, (_, key: string) => encodeURIComponent(values[key] ?? ""));
}
