/** The run-time part of the contract: schemas, routes, OpenAPI. For servers; clients need only ../index.ts. */
export { openApiDocument } from "./openapi.ts";
export * as replies from "./replies.ts";
export * as requests from "./requests.ts";
export { contract, type RouteContract } from "./routes.ts";
