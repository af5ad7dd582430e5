/** What a probe answers: a fact about this host, found by trying, and what to do when it is not as it should be. */
export interface Check {
  /** Stable, for programs: "qemu", "kvm", "tcg", … */
  readonly name: string;
  readonly ok: boolean;
  /** godwit cannot work at all without a required one; others cost a feature or speed. */
  readonly required: boolean;
  /** What was found, in words. */
  readonly detail: string;
  /** What to do about it; only when not ok. */
  readonly advice?: string;
}

/** A check before its name is put on it. */
export type Finding = Pick<Check, "ok" | "detail" | "advice">;

export function good(detail: string): Finding {
  return { ok: true, detail };
}

export function bad(detail: string, advice: string): Finding {
  return { ok: false, detail, advice };
}

/** The first line of what went wrong. */
export function reasonOf(error: unknown): string {
  const message = error instanceof Error ? error.message : String(error);
  return message.split("\n")[0] ?? "";
}
