#!/usr/bin/env python3
"""Says what a migration stream of QEMU contains, as JSON on stdout: python3 oracle.py FILE

The oracle of the stream reader's tests. Written from QEMU's documentation and source, shares nothing with
src/qemu/stream: it loads the whole file, keeps every page, checks little and may be slow.
"""
import hashlib
import json
import struct
import sys

PAGE = 4096
data = open(sys.argv[1], "rb").read()
pos = 0


def take(count):
    global pos
    piece = data[pos : pos + count]
    if len(piece) != count:
        raise SystemExit(f"oracle: the stream ends inside an item at {pos}")
    pos += count
    return piece


def number(count):
    return int.from_bytes(take(count), "big")


def text():
    return take(number(1)).decode("ascii")


out = {"commands": [], "subsections": [], "sections": [], "blocks": []}
memory = {}  # block name -> bytearray
counts = {}  # block name -> [full, zero]
block = None  # name of the last record's block


def footer(section):
    assert number(1) == 0x7E, f"no footer at {pos - 1}"
    assert number(4) == section, f"footer of another section at {pos - 4}"


def ram_start():
    left = number(8)
    assert left & 0xFFF == 4
    left -= 4
    while left:
        name = text()
        size = number(8)
        memory[name] = bytearray(size)
        counts[name] = [0, 0]
        left -= size
    assert number(8) == 0x10


def ram_records():
    global block
    full = zero = 0
    while True:
        word = number(8)
        flags, address = word & 0xFFF, word & ~0xFFF
        if flags == 0x10:
            return full, zero
        if not flags & 0x20:
            block = text()
        room = memory[block]
        assert address + PAGE <= len(room)
        if flags & 0x08:
            room[address : address + PAGE] = take(PAGE)
            counts[block][0] += 1
            full += 1
        elif flags & 0x02:
            assert number(1) == 0
            room[address : address + PAGE] = bytes(PAGE)
            counts[block][1] += 1
            zero += 1
        else:
            raise SystemExit(f"oracle: record flags {flags:#x} at {pos - 8}")


assert take(4) == b"QEVM"
assert number(4) == 3
ram_section = None
while True:
    start = pos
    kind = number(1)
    if kind == 7:
        out["machineType"] = take(number(4)).decode("ascii")
    elif kind == 5:
        name = text()
        number(4)
        if name == "configuration/uuid":
            take(16)
        elif name == "configuration/target-page-bits":
            number(4)
        else:
            raise SystemExit(f"oracle: subsection {name} at {start}")
        out["subsections"].append(name)
    elif kind == 8:
        command = number(2)
        out["commands"].append({"offset": start, "command": command, "data": take(number(2)).hex()})
    elif kind == 1:
        ram_section = number(4)
        assert text() == "ram"
        assert number(4) == 0 and number(4) == 4
        ram_start()
        footer(ram_section)
        out["ramSectionId"] = ram_section
        out["headBytes"] = pos
    elif kind in (2, 3):
        assert number(4) == ram_section
        full, zero = ram_records()
        footer(ram_section)
        out["sections"].append(
            {"type": "end" if kind == 3 else "part", "from": start, "to": pos, "pages": full, "zeros": zero}
        )
        if kind == 3:
            out["ramEndOffset"] = pos
    else:
        break

assert kind in (4, 0) and "ramEndOffset" in out
tail = data[start:]
out["tailOffset"] = start
out["tailBytes"] = len(tail)
out["tailSha256"] = hashlib.sha256(tail).hexdigest()
out["streamBytes"] = len(data)
out["streamSha256"] = hashlib.sha256(data).hexdigest()
# The description of the device state is the last thing in the stream, if there is one.
for at in range(len(tail) - 6, 0, -1):
    if tail[at : at + 2] == b"\0\6" and struct.unpack(">I", tail[at + 2 : at + 6])[0] == len(tail) - at - 6:
        json.loads(tail[at + 6 :])
        out["eofOffset"] = start + at
        break
for name, room in memory.items():
    out["blocks"].append(
        {
            "name": name,
            "lengthBytes": len(room),
            "pages": counts[name][0],
            "zeros": counts[name][1],
            "sha256": hashlib.sha256(room).hexdigest(),
        }
    )
json.dump(out, sys.stdout, indent=1)
