#!/usr/bin/env python3
"""Writes frames.txt: frames of docs/protocols/agent.md, made with Python's struct and zlib, which share no code with
godwit. Not run by the tests: `python3 test/golden/agent/oracle.py > test/golden/agent/frames.txt` after a change of the
protocol.

    frame NAME TYPE FLAGS ID BODY FRAME     hexadecimal; "-" for nothing
    stream NAME BYTES TYPE:ID,...           what a reader finds in these bytes, whatever the split
"""
import struct
import zlib

MAGIC = b"GWA1"


def frame(kind, ident, body=b"", flags=0, spoil_body=False, spoil_header=False):
    head = MAGIC + struct.pack("<BBHII", kind, flags, 0, ident, len(body))
    head += struct.pack("<I", zlib.crc32(body) ^ (1 if spoil_body else 0))
    return head + struct.pack("<I", zlib.crc32(head) ^ (1 if spoil_header else 0)) + body


def process(pid, ticks):
    return struct.pack("<IIQ", pid, 0, ticks)


PROCESS = process(4711, 0x123456789A)
HEAP = (0x7F0012345000, 0x10000000)
ODD = (0x7F0012345678, 4097)

FRAMES = [
    ("hello", 1, 0, 1, struct.pack("<IIQ", 1, 0, 0x0123456789ABCDEF)),
    ("hello-reply", 0x81, 0, 1, struct.pack("<IIQIIIIQQQ", 1, 3, 0x0123456789ABCDEF, 4096, 2, 30000, 118,
                                           1 << 30, 123 << 20, 45 << 12)),
    ("processes", 2, 0, 2, b"libjvm.so"),
    ("processes-reply", 0x82, 0, 2, b"4711 78187493530 17 1000 23 java\n9 1 9 0 1 a b)c\n"),
    ("maps", 3, 0, 3, PROCESS),
    ("maps-reply-1", 0x83, 1, 3, b"00400000-00401000 r-xp 00000000 08:01 42 "),
    ("maps-reply-2", 0x83, 0, 3, b"/bin/true\n"),
    ("read", 4, 0, 4, PROCESS + struct.pack("<II", 2, 0) + struct.pack("<QII", ODD[0], ODD[1], 0)
     + struct.pack("<QII", HEAP[0], 8, 0)),
    ("frames", 5, 0, 5, PROCESS + struct.pack("<QII", 0xFEDCBA9876543211, 2, 0) + struct.pack("<QQ", *HEAP)
     + struct.pack("<QQ", *ODD)),
    ("frames-reply", 0x85, 0, 5, struct.pack("<QQQ", 0x1111, 65538, 7) + struct.pack("<IHH", 0x12345678, 0x9, 65535)
     + struct.pack("<IHH", 5, 0, 3)),
    ("frames-unchanged", 0x85, 0, 5, struct.pack("<QQQ", 0xFEDCBA9876543211, 12, 7)),
    ("write", 6, 0, 6, PROCESS + struct.pack("<QII", ODD[0], 5, 0) + b"\0\x01\xff\0z"),
    ("write-put-back", 6, 0, 19, PROCESS + struct.pack("<QII", ODD[0], 8, 1) + struct.pack("<Q", 100)),
    ("write-reply", 0x86, 0, 6, b""),
    ("hold", 7, 0, 7, PROCESS + struct.pack("<QQIIII", 0x7F0000000018, 0x7F000000001C, 41, 5000, 3000, 250)),
    ("hold-reply", 0x87, 0, 7, struct.pack("<IIQQII", 42, 23, 1234567, 4500, 2, 38750)),
    ("thaw", 8, 0, 8, PROCESS),
    ("thaw-all", 8, 0, 9, bytes(16)),
    ("thaw-reply", 0x88, 0, 8, struct.pack("<IIQ", 1, 0, 765432)),
    ("extend", 9, 0, 10, struct.pack("<II", 30000, 0)),
    ("extend-reply", 0x89, 0, 10, struct.pack("<II", 3, 0)),
    ("scrub", 10, 0, 11, PROCESS + struct.pack("<II", 2, 1) + struct.pack("<QQ", *ODD)),
    ("scrub-reply", 0x8A, 0, 11, struct.pack("<QQQQ", 51400, 12, 700123, 0)),
    ("drop-caches", 11, 0, 12, struct.pack("<II", 1, 0)),
    ("drop-caches-reply", 0x8B, 0, 12, struct.pack("<QQQ", 100 << 20, 3 << 20, 9000)),
    ("applications", 12, 0, 13, b""),
    ("applications-reply", 0x8C, 0, 13, b"app 77 1234 ready my cache\narea 0x7f0012345000 0x2000\narea 0x7f0012349000 0x1000\n"
     b"app 78 1235 begun \n"),
    ("announce", 13, 0, 14, struct.pack("<II", 2, 1500)),
    ("announce-reply", 0x8D, 0, 14, struct.pack("<II", 2, 0)),
    ("await-ready", 14, 0, 15, struct.pack("<II", 1500, 0)),
    ("await-ready-reply", 0x8E, 0, 15, b"77 ready\n78 late\n79 gone\n"),
    ("cancel", 15, 0, 16, struct.pack("<II", 7, 0)),
    ("status", 16, 0, 17, b""),
    ("free-memory", 17, 0, 20, struct.pack("<II", 48, 0)),
    ("free-memory-reply", 0x91, 0, 20, struct.pack("<QQ", 500 << 20, 321000)),
    ("error", 0x7F, 0, 0xFFFFFFFE, struct.pack("<HH", 2, 0) + "process 4711 is gone".encode()),
    ("longest-request", 4, 0, 18, bytes(i * 7 & 255 for i in range(4072))),
]

A, B, C = frame(1, 1, b"first"), frame(16, 2), frame(3, 3, b"G" * 40)
STREAMS = [
    ("frames one after another", A + B + C, [(1, 1), (16, 2), (3, 3)]),
    ("zeros before, between and after", bytes(4096) + A + bytes(7) + B + bytes(5), [(1, 1), (16, 2)]),
    ("text that begins like a magic", b"GGWGWAGWA0" + A + b"GWA" + B, [(1, 1), (16, 2)]),
    ("a header that is damaged", frame(1, 9, b"lost", spoil_header=True) + B, [(16, 2)]),
    ("a body that is damaged", frame(1, 9, b"lost", spoil_body=True) + B, [(16, 2)]),
    ("a half frame, then the zeros of another host, then its frames", C[:30] + bytes(4096) + A, [(1, 1)]),
    ("a half frame, whose body another frame lies in", frame(1, 9, bytes(200))[:40] + A + B + bytes(200), [(1, 1), (16, 2)]),
    ("a length that is not allowed", MAGIC + struct.pack("<BBHIII", 1, 0, 0, 9, 1 << 20, 0) + bytes(4) + A, [(1, 1)]),
    ("a header without an end", A + B[:23], [(1, 1)]),
    ("nothing", b"", []),
]


def hexadecimal(data):
    return data.hex() or "-"


for name, kind, flags, ident, body in FRAMES:
    print("frame", name, kind, flags, ident, hexadecimal(body), frame(kind, ident, body, flags).hex())
for name, data, found in STREAMS:
    print("stream", name.replace(" ", "-"), hexadecimal(data), ",".join("%d:%d" % pair for pair in found) or "-")
