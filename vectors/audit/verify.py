#!/usr/bin/env python3
"""Verify an evidence bundle of the ledger, independently of the product.

Python's standard library only; written from RFC 6962, RFC 9162, RFC 8032 and the C2SP pages signed-note,
tlog-checkpoint, tlog-tiles and tlog-proof, and sharing no code with the Rust implementation.

    verify.py BUNDLE [--vkey VKEY]     verify a bundle; give VKEY (from elsewhere!) to pin the log's key
    verify.py --vectors DIR            verify DIR/sample, DIR/receipt.tlog-proof and DIR/proofs.json

Ends with status 0 and a summary, or with status 1 and what is wrong.
"""

import argparse
import base64
import hashlib
import json
import pathlib
import re
import sys

WIDTH = 256


class Refused(Exception):
    """Something could not be proven."""


def need(condition, why):
    if not condition:
        raise Refused(why)


# --- RFC 6962: the tree -------------------------------------------------------------------------


def leaf_hash(entry):
    return hashlib.sha256(b"\x00" + entry).digest()


def node_hash(left, right):
    return hashlib.sha256(b"\x01" + left + right).digest()


def tree_root(hashes):
    """MTH, level by level: a lone node at the end of a level moves up unchanged."""
    if not hashes:
        return hashlib.sha256(b"").digest()
    level = list(hashes)
    while len(level) > 1:
        joined = [node_hash(level[i], level[i + 1]) for i in range(0, len(level) - 1, 2)]
        level = joined + (level[-1:] if len(level) % 2 else [])
    return level[0]


def split_of(size):
    """The largest power of two smaller than size."""
    return 1 << ((size - 1).bit_length() - 1)


def inclusion_root(leaf, index, size, proof):
    """The root that the audit path leads to: RFC 6962 section 2.1.1 read backwards."""
    need(0 <= index < size, "the entry lies outside the tree")
    if size == 1:
        need(not proof, "the path is too long")
        return leaf
    need(proof, "the path is too short")
    split = split_of(size)
    if index < split:
        return node_hash(inclusion_root(leaf, index, split, proof[:-1]), proof[-1])
    return node_hash(proof[-1], inclusion_root(leaf, index - split, size - split, proof[:-1]))


def consistency_roots(old, new, old_root, proof, whole=True):
    """Both roots that the proof leads to: RFC 6962 section 2.1.2 read backwards."""
    if old == new:
        need(len(proof) == (0 if whole else 1), "the path has a wrong length")
        return (old_root, old_root) if whole else (proof[0], proof[0])
    need(proof, "the path is too short")
    split = split_of(new)
    if old <= split:
        old_part, new_part = consistency_roots(old, split, old_root, proof[:-1], whole)
        return old_part, node_hash(new_part, proof[-1])
    old_part, new_part = consistency_roots(old - split, new - split, old_root, proof[:-1], False)
    return node_hash(proof[-1], old_part), node_hash(proof[-1], new_part)


def check_inclusion(leaf, index, size, proof, root):
    need(inclusion_root(leaf, index, size, proof) == root, "the path does not lead to the root")


def check_consistency(old, new, old_root, new_root, proof):
    need(old <= new, "the newer tree is smaller")
    if old == 0:
        need(not proof and old_root == tree_root([]), "everything extends the empty tree, without a path")
    else:
        roots = consistency_roots(old, new, old_root, proof)
        need(roots == (old_root, new_root), "the path does not lead to both roots")


# --- RFC 8032: Ed25519 verification -------------------------------------------------------------

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
SQRT_MINUS_1 = pow(2, (P - 1) // 4, P)


def point_add(a, b):
    x, y, z, t = a
    u, v, w, s = b
    e = ((y + x) * (v + u) - (y - x) * (v - u)) % P
    f, g, h = (2 * z * w - 2 * t * s * D) % P, (2 * z * w + 2 * t * s * D) % P, (y - x) * (v - u) + (y + x) * (v + u)
    return e * f % P, g * h % P, f * g % P, e * h % P


def point_mul(scalar, point):
    total = (0, 1, 1, 0)
    while scalar:
        if scalar & 1:
            total = point_add(total, point)
        point = point_add(point, point)
        scalar >>= 1
    return total


def point_equal(a, b):
    return (a[0] * b[2] - b[0] * a[2]) % P == 0 and (a[1] * b[2] - b[1] * a[2]) % P == 0


def recover_x(y, sign):
    if y >= P:
        return None
    square = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    if square == 0:
        return None if sign else 0
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * SQRT_MINUS_1 % P
    if (x * x - square) % P:
        return None
    return P - x if x & 1 != sign else x


def point_decode(data):
    number = int.from_bytes(data, "little")
    y, sign = number & (2**255 - 1), number >> 255
    x = recover_x(y, sign)
    return None if x is None else (x, y, 1, x * y % P)


BASE_Y = 4 * pow(5, P - 2, P) % P
BASE_X = recover_x(BASE_Y, 0)
BASE = (BASE_X, BASE_Y, 1, BASE_X * BASE_Y % P)


def ed25519_verifies(public, message, signature):
    if len(public) != 32 or len(signature) != 64:
        return False
    a, r = point_decode(public), point_decode(signature[:32])
    s = int.from_bytes(signature[32:], "little")
    if a is None or r is None or s >= L:
        return False
    h = int.from_bytes(hashlib.sha512(signature[:32] + public + message).digest(), "little") % L
    return point_equal(point_mul(s, BASE), point_add(r, point_mul(h, a)))


# --- C2SP: keys, notes, checkpoints -------------------------------------------------------------


def decode_base64(text):
    data = base64.b64decode(text, validate=True)
    need(base64.b64encode(data).decode() == text, "base64 is not canonical")
    return data


def parse_vkey(vkey):
    parts = vkey.split("+", 2)
    need(len(parts) == 3, "a vkey is name+keyid+base64")
    name, key_id, key = parts[0], parts[1], decode_base64(parts[2])
    need(name and len(key) == 33 and key[0] == 1, "only Ed25519 keys are known")
    digest = hashlib.sha256(name.encode() + b"\n" + key).digest()
    need(digest[:4].hex() == key_id, "the key id does not belong to this name and key")
    return name, digest[:4], key[1:]


def decimal(text):
    need(re.fullmatch("0|[1-9][0-9]*", text), f"{text!r} is not a plain decimal number")
    return int(text)


def open_checkpoint(note, vkey):
    """Size and root of a signed checkpoint."""
    need(not re.search("[\x00-\x09\x0b-\x1f]", note), "the checkpoint holds a control character")
    text, blank, lines = note.rpartition("\n\n")
    need(blank and lines.endswith("\n"), "the checkpoint is no signed note")
    text += "\n"
    name, key_id, public = parse_vkey(vkey)
    verified = 0
    for line in lines[:-1].split("\n"):
        need(re.fullmatch("\u2014 [^ +]+ [^ ]+", line), "a signature line is malformed")
        _, signer, blob = line.split(" ")
        blob = decode_base64(blob)
        need(len(blob) > 4, "a signature is too short")
        if (signer, blob[:4]) == (name, key_id):
            need(ed25519_verifies(public, text.encode(), blob[4:]), "the signature does not fit the checkpoint")
            verified += 1
    need(verified, "the log's key did not sign the checkpoint")
    body = text[:-1].split("\n")
    need(len(body) >= 3 and all(body), "a checkpoint has at least three lines, none empty")
    need(body[0] == name, f"the checkpoint belongs to {body[0]}, not to {name}")
    root = decode_base64(body[2])
    need(len(root) == 32, "the root is no hash")
    return decimal(body[1]), root


# --- C2SP tlog-tiles: the bundle ----------------------------------------------------------------


def tile_path(level, index, width):
    groups = re.findall("...", str(index).zfill((len(str(index)) + 2) // 3 * 3))
    path = "/".join([*("x" + group for group in groups[:-1]), groups[-1]])
    return f"tile/{level}/{path}" + (f".p/{width}" if width < WIDTH else "")


def tile_paths(size):
    """(path, level, index, width) of every tile of a tree, level 0 first."""
    level, hashes = 0, size
    while hashes:
        for index in range((hashes + WIDTH - 1) // WIDTH):
            width = min(WIDTH, hashes - index * WIDTH)
            yield tile_path(level, index, width), level, index, width
        level, hashes = level + 1, hashes // WIDTH


def read_entries(data, width):
    """The entries of an entry bundle; stops early where the file makes no sense."""
    at = 0
    for _ in range(width):
        length = int.from_bytes(data[at : at + 2], "big")
        entry = data[at + 2 : at + 2 + length]
        if len(data) < at + 2 or len(entry) != length:
            return
        yield entry
        at += 2 + length
    need(at == len(data), "bytes follow the last entry of a bundle")


def verify_bundle(folder, vkey=None):
    """Size and root of a bundle in which every byte is accounted for."""
    found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if not path.is_dir()}

    def read(path):
        need(path in found, f"{path} is missing")
        file = found.pop(path)
        need(file.is_file() and not file.is_symlink(), f"{path} is not a plain file")
        return file.read_bytes()

    own_key = read("vkey").decode()
    need(own_key.endswith("\n"), "vkey does not end in a newline")
    need(vkey in (None, own_key[:-1]), "the bundle names another key than the one expected")
    size, root = open_checkpoint(read("checkpoint").decode(), own_key[:-1])

    leaves, tiles = [], {}
    for path, level, index, width in tile_paths(size):
        data = read(path)
        need(len(data) == 32 * width, f"the length of {path} does not fit its width")
        tiles.setdefault(level, []).extend(data[i : i + 32] for i in range(0, len(data), 32))
        if level == 0:
            leaves += map(leaf_hash, read_entries(read(tile_path("entries", index, width)), width))
            for number in range(index * WIDTH, index * WIDTH + width):
                stored = leaves[number] if number < len(leaves) else None
                need(stored == tiles[0][number], f"entry {number} is not the one that its tile commits to")
    for level in range(1, len(tiles)):
        below = tiles[level - 1]
        made = [tree_root(below[i : i + WIDTH]) for i in range(0, len(below) - WIDTH + 1, WIDTH)]
        need(made == tiles[level], f"the tiles of level {level} do not fit those below")
    need(tree_root(leaves) == root, "the entries do not hash to the signed root")
    need(not found, f"{sorted(found)} do not belong into this bundle")
    return size, root


def verify_receipt(text, entry, vkey):
    head, blank, note = text.partition("\n\n")
    lines = head.split("\n")
    need(blank and len(lines) > 1 and lines[0] == "c2sp.org/tlog-proof@v1" and lines[1].startswith("index "), "no tlog-proof")
    size, root = open_checkpoint(note, vkey)
    check_inclusion(leaf_hash(entry), decimal(lines[1][6:]), size, list(map(decode_base64, lines[2:])), root)


# --- The committed vectors ----------------------------------------------------------------------


def verify_vectors(folder):
    size, root = verify_bundle(folder / "sample")
    vkey = (folder / "sample/vkey").read_text()[:-1]
    cases = json.loads((folder / "proofs.json").read_text())

    receipt = (folder / "receipt.tlog-proof").read_text()
    verify_receipt(receipt, cases["receipt"]["entry"].encode(), vkey)
    must_fail(lambda: verify_receipt(receipt, cases["receipt"]["not_entry"].encode(), vkey), "receipt")

    leaves = [leaf_hash(bytes.fromhex(entry)) for entry in cases["entries_hex"]]
    for number, expected in enumerate(cases["roots"]):
        need(tree_root(leaves[:number]) == decode_base64(expected), f"root of {number} entries")
    for case in cases["inclusion"]:
        leaf, root_of_case = decode_base64(case["leaf"]), decode_base64(case["root"])
        proof = list(map(decode_base64, case["proof"]))
        check = lambda: check_inclusion(leaf, case["index"], case["size"], proof, root_of_case)
        check() if case["valid"] else must_fail(check, case["name"])
    for case in cases["consistency"]:
        old_root, new_root = decode_base64(case["old_root"]), decode_base64(case["new_root"])
        proof = list(map(decode_base64, case["proof"]))
        check = lambda: check_consistency(case["old"], case["new"], old_root, new_root, proof)
        check() if case["valid"] else must_fail(check, case["name"])
    count = len(cases["inclusion"]) + len(cases["consistency"])
    return f"sample of {size} entries, its receipt and {count} proofs behave as they should"


def must_fail(check, name):
    try:
        check()
    except Refused:
        return
    raise Refused(f"{name}: this forgery was accepted")


def main():
    parser = argparse.ArgumentParser(description="Verify an evidence bundle of the ledger.")
    parser.add_argument("bundle", nargs="?", type=pathlib.Path)
    parser.add_argument("--vkey", help="the log's key, as published somewhere else than in the bundle")
    parser.add_argument("--vectors", type=pathlib.Path, help="the folder of the committed vectors")
    arguments = parser.parse_args()
    if bool(arguments.bundle) == bool(arguments.vectors):
        parser.error("give a bundle, or --vectors with their folder")
    try:
        if arguments.vectors:
            print("ok:", verify_vectors(arguments.vectors))
        else:
            size, root = verify_bundle(arguments.bundle, arguments.vkey)
            print(f"ok: {size} entries, root {base64.b64encode(root).decode()}")
            if not arguments.vkey:
                print("note: no --vkey given, so this shows only that the bundle agrees with itself")
    except (Refused, ValueError, OSError) as error:
        print(f"refused: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
