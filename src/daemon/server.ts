/** The HTTP side: checks requests against the contract, calls the service, turns failures into replies. */
import { timingSafeEqual } from "node:crypto";
import fastify, { type FastifyInstance, type FastifyReply } from "fastify";
import { z } from "zod";
import { contract, type RouteContract, requests } from "../api/contract/index.ts";
import { paths, type RouteName } from "../api/index.ts";
import { type ErrorRecord, GodwitError, toErrorRecord } from "../base/index.ts";
import type { Service } from "./service.ts";
import { EventStream, followConsole, followMigrations } from "./streams.ts";

interface Call {
  /** `:name` or `:id`; checked. */
  readonly name: string;
  readonly id: string;
  readonly body: unknown;
  readonly query: unknown;
}

type Plain = (call: Call) => unknown;
type Stream = (call: Call, reply: FastifyReply) => Promise<void>;

const bodyBytesMax = 2 * 1024 * 1024;

export interface ServerOptions {
  /** Every request must carry it; undefined on the unix socket, whose mode decides. */
  readonly token: string | undefined;
}

export function createServer(service: Service, { token }: ServerOptions): FastifyInstance {
  const app = fastify({ bodyLimit: bodyBytesMax, logger: false, forceCloseConnections: true });
  if (token !== undefined) {
    app.addHook("onRequest", async (request) => {
      if (!isToken(request.headers.authorization, token)) throw new Unauthorized();
    });
  }
  app.setErrorHandler(async (error, _request, reply) => {
    const record = recordOf(error);
    if (record.code === "INTERNAL") service.context.log.error({ err: error }, "a request failed");
    await reply.status(statusOf(error, record)).send({ error: record });
  });
  app.setNotFoundHandler(async (request, reply) => {
    const message = `there is no ${request.method} ${request.url}; is the client newer than the daemon?`;
    await reply.status(404).send({ error: { code: "NOT_FOUND", message } });
  });
  const [plain, streams] = [plainHandlers(service), streamHandlers(service)];
  for (const [name, [method, url]] of Object.entries(paths)) {
    const route: RouteContract = contract[name as RouteName];
    app.route({
      method,
      url,
      handler: async (request, reply) => {
        const call = readCall(route, request);
        const stream = streams[name as RouteName];
        if (stream === undefined) return await plain[name as RouteName]?.(call);
        await stream(call, reply);
        return reply;
      },
    });
  }
  return app;
}

function plainHandlers(service: Service): Partial<Record<RouteName, Plain>> {
  const { context } = service;
  return {
    getHost: () => service.host(),
    getDoctor: () => service.doctor(),
    listVms: async () => ({ vms: await service.listVms() }),
    startVm: ({ body }) => service.startVm(body as z.output<typeof requests.startVm>),
    getVm: ({ name }) => service.getVm(name),
    stopVm: ({ name, body }) => service.stopVm(name, body as z.output<typeof requests.stopVm>),
    continueVm: ({ name, body }) =>
      service.continueVm(name, body as z.output<typeof requests.continueVm>),
    discardVm: ({ name }) => service.discardVm(name),
    endTrace: ({ name }) => service.tracing.end(name),
    getConsole: ({ name, query }) => service.console(name, bytesOf(query)),
    listMigrations: () => ({ migrations: context.migrations.list() }),
    startMigration: ({ body }) =>
      service.startMigration(body as z.output<typeof requests.startMigration>),
    getMigration: ({ id }) => context.migrations.find(id),
    cancelMigration: ({ id }) => service.cancelMigration(id),
    listExpectations: () => ({ expectations: context.expectations.list() }),
    expectVm: ({ body }) => context.expectations.add(body as z.output<typeof requests.expectVm>),
    forgetExpectation: ({ name }) => {
      if (context.expectations.take(name) !== undefined) return { text: `${name} is forgotten` };
      throw new GodwitError("NOT_FOUND", `no QEMU waits under the name ${name}`);
    },
  };
}

function streamHandlers(service: Service): Partial<Record<RouteName, Stream>> {
  const { context } = service;
  return {
    followConsole: ({ name, query }, reply) => followConsole(service, reply, name, bytesOf(query)),
    followMigration: ({ id }, reply) =>
      followMigrations(service, reply, service.context.migrations.find(id).id),
    adviseVm: ({ name, body }, reply) =>
      service.advising.advise(reply, name, body as z.output<typeof requests.adviseVm>),
    traceVm: ({ name, body }, reply) =>
      service.tracing.record(
        () => new EventStream(reply, context.clock),
        name,
        body as z.output<typeof requests.traceVm>,
      ),
    followAll: (_call, reply) => followMigrations(service, reply, undefined),
  };
}

function bytesOf(query: unknown): number {
  return (query as z.output<typeof requests.consoleQuery>).bytes;
}

function readCall(
  route: RouteContract,
  request: { params: unknown; body: unknown; query: unknown },
): Call {
  const { name = "x", id = "x" } = request.params as { name?: string; id?: string };
  return {
    name: check(requests.vmName, name, "name"),
    id: check(requests.migrationId, id, "migration"),
    body: route.body === undefined ? undefined : check(route.body, request.body ?? {}, "request"),
    query: route.query === undefined ? undefined : check(route.query, request.query, "query"),
  };
}

function check<T>(schema: z.ZodType<T>, value: unknown, what: string): T {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const problems = result.error.issues.map(({ path, message }) =>
    path.length === 0 ? message : `${path.join(".")}: ${message}`,
  );
  throw new GodwitError("CONFIG_INVALID", `invalid ${what}: ${problems.join("; ")}`);
}

class Unauthorized extends Error {}

function isToken(header: string | undefined, token: string): boolean {
  const given = Buffer.from(header?.replace(/^Bearer /i, "") ?? "");
  const wanted = Buffer.from(token);
  return given.length === wanted.length && timingSafeEqual(given, wanted);
}

function recordOf(error: unknown): ErrorRecord {
  if (error instanceof Unauthorized) {
    return { code: "INSECURE", message: "the API token is missing or wrong" };
  }
  // Fastify's own: a body that is no JSON, or too large.
  if (!(error instanceof GodwitError) && httpStatus(error) < 500) {
    return { code: "CONFIG_INVALID", message: error instanceof Error ? error.message : "?" };
  }
  return toErrorRecord(error);
}

function httpStatus(error: unknown): number {
  const has = error instanceof Error && "statusCode" in error;
  return has && typeof error.statusCode === "number" ? error.statusCode : 500;
}

const statuses: Readonly<Record<string, number>> = {
  NOT_FOUND: 404,
  CONFLICT: 409,
  CONFIG_INVALID: 400,
  DEFINITION_INVALID: 400,
  INSECURE: 403,
  TIMEOUT: 504,
};

function statusOf(error: unknown, record: ErrorRecord): number {
  if (error instanceof Unauthorized) return 401;
  if (!(error instanceof GodwitError) && httpStatus(error) < 500) return httpStatus(error);
  return statuses[record.code] ?? 500;
}
