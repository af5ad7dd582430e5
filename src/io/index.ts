export { type Clock, sleep, systemClock } from "./clock.ts";
export { withDeadline } from "./deadline.ts";
