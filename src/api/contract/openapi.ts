/** The OpenAPI 3.1 document of the daemon, made from the routes; committed as docs/openapi.json. */
import { z } from "zod";
import { paths, type RouteName } from "../paths.ts";
import { errorReply } from "./replies.ts";
import { contract, type RouteContract } from "./routes.ts";

export function openApiDocument(): object {
  const document: Record<string, Record<string, object>> = {};
  for (const [name, [method, path]] of Object.entries(paths)) {
    const url = path.replaceAll(/:(\w+)/g, "{$1}");
    document[url] ??= {};
    document[url][method.toLowerCase()] = operation(name as RouteName, path);
  }
  return {
    openapi: "3.1.0",
    info: {
      title: "godwit daemon",
      version: "1",
      description: "On a unix socket, or over TCP with `authorization: Bearer TOKEN`.",
      license: { name: "Apache-2.0", identifier: "Apache-2.0" },
    },
    paths: document,
  };
}

function operation(name: RouteName, path: string): object {
  const route: RouteContract = contract[name];
  const inPath = Array.from(path.matchAll(/:(\w+)/g), ([, parameter]) => ({
    name: parameter,
    in: "path",
    required: true,
    schema: { type: "string" },
  }));
  const parameters = [...inPath, ...queryParameters(route)];
  return {
    operationId: name,
    summary: route.summary,
    ...(parameters.length === 0 ? {} : { parameters }),
    ...(route.body === undefined
      ? {}
      : { requestBody: { required: true, content: json(route.body, "input") } }),
    responses: {
      "200": {
        description: route.stream === true ? "Server-sent events; each holds this JSON" : "Success",
        content:
          route.stream === true
            ? { "text/event-stream": { schema: schemaOf(route.reply, "output") } }
            : json(route.reply, "output"),
      },
      default: { description: "Failure", content: json(errorReply, "output") },
    },
  };
}

function queryParameters(route: RouteContract): object[] {
  if (!(route.query instanceof z.ZodObject)) return [];
  return Object.keys(route.query.shape).map((name) => ({
    name,
    in: "query",
    required: false,
    schema: { type: "integer" },
  }));
}

function json(schema: z.ZodType, io: "input" | "output"): object {
  return { "application/json": { schema: schemaOf(schema, io) } };
}

function schemaOf(schema: z.ZodType, io: "input" | "output"): object {
  const { $schema: _, ...rest } = z.toJSONSchema(schema, { io });
  return rest;
}
