"""Bad PyTorch files, by their rows in the table of hostile inputs."""

import zipfile

from _torch_files import (
    EIGHT,
    FALSE,
    NONE,
    ORDERED,
    START,
    archive,
    call,
    header_at,
    legacy,
    map_of,
    named,
    number,
    one,
    patched,
    pickled,
    storage,
    tar,
    tensor,
    text,
    tuple_of,
)

GOOD = map_of({"w": tensor()})
TOUCH = text("touch CANARY")
SYSTEM = call("os.system", TOUCH)
STATE = call("collections.OrderedDict")
MANY = 10**6
DEEP = 10**5


def raw(pickle: bytes) -> bytes:
    return archive(b"", raw=pickle)


def by_stack(module: str, name: str) -> bytes:
    """A call by STACK_GLOBAL, protocol 4."""
    short = b"".join(b"\x8c" + bytes([len(s)]) + s.encode() for s in (module, name))
    return short + b"\x93" + tuple_of(TOUCH) + b"R"


def view(offset=0, size=(2,), stride=(1,)) -> bytes:
    return one(tensor(None, offset, size, stride))


def stored(*args, **how) -> bytes:
    return one(tensor(storage(*args, **how)))


def persistent(id: bytes) -> bytes:
    return one(tensor(id + b"Q"))


ZIP = archive(GOOD)
PKL, DATA = "archive/data.pkl", "archive/data/0"
TWINS = patched(
    archive(GOOD, {"0": EIGHT, "1": EIGHT}),
    "archive/data/1",
    42,
    "<L",
    header_at(archive(GOOD), DATA, central=False),
)
NAMED = "what torch._utils._rebuild_{} makes of such arguments"

# id (the row in the table of hostile inputs): the file's bytes, and what the error says
BAD = {
    "P1-top": (raw(START + b"cos\nsystem\n" + TOUCH + b"\x85R."), "os.system at the top"),
    "P1-value": (one(SYSTEM), "'w' holds os.system, not a tensor"),
    "P1-legacy": (legacy(map_of({"w": SYSTEM}), {}), "'w' holds os.system"),
    "P1-legacy-magic": (legacy(magic=pickled(SYSTEM)), "not written by torch.save"),
    "P1-legacy-keys": (legacy() + pickled(SYSTEM), "bytes follow"),
    "P2-broken-after-the-call": (raw(START + SYSTEM + b"\xff"), r"opcode b'\\xff'"),
    "P3-resolve-name": (one(by_stack("pkgutil", "resolve_name")), "'w' holds pkgutil.resolve"),
    "P3-py2": (one(call("__builtin__.eval", TOUCH)), "'w' holds __builtin__.eval"),
    "P3-stack-global-of-numbers": (raw(START + b"K\1K\2\x93."), "name is not a text"),
    "P3-called-result": (one(call("builtins.eval", TOUCH) + b")R"), r"'w' holds builtins.eval\(\)"),
    "P3-rebuild-of-rebuild": (one(tensor() + b")R"), r"_rebuild_tensor_v2\(\) makes"),
    "P5-inst": (raw(START + b"(" + TOUCH + b"ios\nsystem\n."), "opcode b'i'"),
    "P5-obj": (raw(START + b"(" + named("os.system") + TOUCH + b"o."), "opcode b'o'"),
    "P5-ext1": (raw(START + b"\x82\1."), r"opcode b'\\x82'"),
    "P5-ext2": (raw(START + b"\x83\1\1."), r"opcode b'\\x83'"),
    "P5-ext4": (raw(START + b"\x84\1\1\1\1."), r"opcode b'\\x84'"),
    "P5-newobj": (one(named("os.Sys") + b")\x81"), "'w' holds os.Sys.__new__"),
    "P5-newobj-ex": (one(named("os.Sys") + b")}\x92"), "'w' holds os.Sys.__new__"),
    "P5-carriage-return": (raw(START + b"cos\r\nsystem\n."), r"global 'os\\r.system'"),
    "P5-space": (raw(START + b"cos \nsystem\n."), "global 'os .system'"),
    "P5-unicode": (raw(START + "cоs\nsystem\n.".encode()), "which cannot be a name"),
    "P5-empty-name": (raw(START + b"c\n\n."), "which cannot be a name"),
    "P5-long-name": (raw(START + named("a." + "b" * 255)), "which cannot be a name"),
    "P5-long-names": (  # a million opcodes would make 3 GB of them
        raw(START + text("a" * 4096) + b"q\0" + text("b" * 4096) + b"q\1" + b"h\0h\1\x93" * 9999),
        "which cannot be a name",
    ),
    "P5-endless-name": (raw(START + b"c" + b"a" * MANY), "no line of 512 bytes"),
    "P6-class": (
        archive(map_of({}, STATE) + map_of({"__class__": named("os.Sys")}) + b"b"),
        "a state other than _metadata",
    ),
    "P6-slots": (archive(STATE + b"N" + map_of({"a": NONE}) + b"\x86b"), "a state other than"),
    "P6-built-tensor": (one(tensor() + map_of({"data": NONE}) + b"b"), NAMED.format("tensor_v2")),
    "P6-tuple": (archive(b"))b"), "a state for a tuple"),
    "P7-bytearray": (one(call("builtins.bytearray", number(2**40))), "holds builtins.bytearray"),
    "P7-counter": (one(call("collections.Counter", b"}")), "holds collections.Counter"),
    "P7-empty-set": (one(b"\x8f(K\1\x90"), "holds builtins.set"),
    "P7-frozen-set": (one(b"(K\1\x91"), "holds builtins.frozenset"),
    "P7-bytearray8": (one(b"\x96" + (3).to_bytes(8, "little") + b"abc"), "holds 3 bytes"),
    "P8-long-binput": (raw(START + b"Nr\xff\xff\xff\x7f."), "memo 2147483647 after 3 opcodes"),
    "P8-text-put": (raw(START + b"Np1000000000000000000\n."), "opcode b'p'"),
    "P9-binbytes8": (raw(START + b"\x8e" + (2**40).to_bytes(8, "little")), "cut short"),
    "P9-bytearray8": (raw(START + b"\x96" + (2**63).to_bytes(8, "little")), "cut short"),
    "P9-unicode8": (raw(START + b"\x8d" + (2**40).to_bytes(8, "little")), "cut short"),
    "P9-unicode": (raw(START + b"X\xff\xff\xff\x7f"), "cut short"),
    "P9-short": (raw(START + b"X\x64\0\0\0abc"), "cut short: 100 bytes"),
    "P9-frame": (raw(b"\x80\4\x95" + (2**40).to_bytes(8, "little")), "a frame of 1099511627776"),
    "P11-int": (raw(START + b"I" + b"9" * MANY + b"\n."), "no line of 512 bytes"),
    "P11-long": (raw(START + b"L" + b"9" * 400 + b"L\n."), "a number that is not at most 40"),
    "P11-underscores": (raw(START + b"I1_0\n."), "a number that is not"),
    "P12-tuples": (raw(START + b")" + b"\x85" * DEEP + b"."), "a tuple at the top"),
    "P12-lists": (raw(START + b"]" * DEEP + b"a" * (DEEP - 1) + b"."), "a list"),
    "P12-calls": (
        raw(START + b"cos\nsystem\nq\0" + b")R" * DEEP + b"."),
        r"os.system\(\) at the top",
    ),
    "P12-marks": (raw(START + b"(" * DEEP + b"."), "more than the stack holds"),
    "P12-too-many": (raw(START + b"]" * (MANY + 9) + b"."), "more than 1000000 opcodes"),
    "P13-laughs": (
        raw(START + b"})" + b"q\0h\0\x86" * 40 + NONE + b"s."),
        "a key that is no text",
    ),
    "P13-pairs": (  # the same list of pairs, again and again
        raw(START + b"](" + b"](K\1K\1e" * 9999 + b"eq\0" + b"ccollections\nOrderedDict\nq\1"
            + b"h\1h\0\x85R" * 9999 + b"."),
        "more than 1000000 opcodes",
    ),
    "P14-list": (raw(START + b"]q\0h\0a."), "a list at the top"),
    "P14-dict": (raw(START + b"}q\0" + text("w") + b"h\0s."), "'w' holds a dict"),
    "P15-stop": (raw(b"."), "more than the stack holds"),
    "P15-no-stop": (raw(START + b"N"), "cut short"),
    "P15-tuple2": (raw(START + b"N\x86."), "more than the stack holds"),
    "P15-append": (raw(START + b"Na."), "more than the stack holds"),
    "P15-setitem": (raw(START + b"NNs."), "more than the stack holds"),
    "P15-append-to-none": (raw(START + b"NNa."), "items for a NoneType"),
    "P15-set-none": (raw(START + b"NNNs."), "keys for a NoneType"),
    "P15-odd-items": (raw(START + b"}(Nu."), "a key without a value"),
    "P15-call-none": (raw(START + b"N)R."), "a call of something that is no global"),
    "P15-call-with-list": (raw(START + named("os.a") + b"]R."), "a call of something"),
    "P15-ordered-dict-of-none": (
        raw(START + call("collections.OrderedDict", NONE) + b"."),
        "no list of pairs",
    ),
    "P15-pop": (raw(START + b"0."), "opcode b'0'"),
    "P15-get": (raw(START + b"h\7."), "memo 7, which nothing was put into"),
    "P15-two-values": (raw(START + b"NN."), "more than one value"),
    "P15-open-mark": (raw(START + b"(N."), "more than one value"),
    "P15-protocol": (raw(b"\x80\x4d."), "protocol 77"),
    "P15-not-utf8": (raw(START + b"X\1\0\0\0\xff."), "not UTF-8"),
    "P15-empty": (b"", "the file is empty"),
    "P15-more": (raw(pickled(GOOD) + b"N"), "1 bytes follow the pickle"),
    "P17-str": (persistent(text("0")), "that is no storage"),
    "P17-module": (persistent(tuple_of(text("module"), named("a.B"), NONE, NONE)), "no storage"),
    "P17-arity": (persistent(tuple_of(text("storage"), named("torch.FloatStorage"))), "no storage"),
    "P17-key-outside": (stored(key="../../x"), "entry 'archive/data/../../x' is missing"),
    "P17-key-int": (
        persistent(tuple_of(text("storage"), named("torch.FloatStorage"), number(0), text("cpu"),
                            number(2))),
        "no storage",
    ),
    "P17-class": (stored("os.system"), "storage '0': 2 elements of os.system; known: torch.Double"),
    "P17-called": (persistent(tuple_of()), "no storage"),
    "P18-missing": (stored(key="7"), "entry 'archive/data/7' is missing"),
    "P18-two-classes": (
        archive(map_of({"a": tensor(), "b": tensor(storage("Int"))})),
        "storage '0' is 2 of torch.FloatStorage and 2 of torch.IntStorage",
    ),
    "P19-more": (stored(size=3), "storage '0' has 8 bytes, expected 12"),
    "P19-fewer": (stored(size=1), "storage '0' has 8 bytes, expected 4"),
    "P19-negative": (stored(size=-2), "storage '0': -2 elements"),
    "P19-huge": (stored(size=2**62), "storage '0' has 8 bytes, expected 18446744073709551616"),
    "P20-negative": (view(-1), "tensor 'w': offset, size and strides must be sizes"),
    "P20-past": (view(1), "tensor 'w': bytes 4 to 12 of a storage of 8"),
    "P20-past-empty": (view(3, (0,)), "tensor 'w': bytes 12 to 12 of a storage of 8"),
    "P20-stride": (view(0, (2,), (2,)), "tensor 'w': bytes 0 to 12 of a storage of 8"),
    "P20-stride-huge": (view(0, (2,), (2**62,)), "tensor 'w': bytes 0 to"),
    "P20-stride-negative": (view(1, (2,), (-1,)), "must be sizes"),
    "P20-ranks": (view(0, (2,), (1, 1)), "does not go with strides"),
    "P20-rank-40": (view(0, (1,) * 40, (1,) * 40), "is too large"),
    "P20-size-huge": (view(0, (2**63, 2), (0, 0)), "is too large"),
    "P20-list": (
        one(call("torch._utils._rebuild_tensor", storage(), number(0), b"]", b"]")),
        "must be sizes",
    ),
    "P21-stride-0": (view(0, (2**40,), (0,)), "tensors of 4398046511104 bytes .* 'w'"),
    "P21-overlapping": (view(0, (2, 2**38), (1, 0)), "tensors of 2199023255552 bytes"),
    "P21-many": (
        archive(map_of({f"w{i}": tensor(None, 0, (i, 99), (0, 0)) for i in range(1, 99)})),
        "tensors of 1920996 bytes in a file",
    ),
    "P23-arity": (
        one(call("torch._utils._rebuild_tensor_v2", storage())),
        NAMED.format("tensor_v2"),
    ),
    "P23-conjugated": (
        one(tensor(None, 0, (2,), (1,), map_of({"conj": b"\x88"}))),
        NAMED.format("tensor_v2"),
    ),
    "P23-more-arguments": (one(tensor(None, 0, (2,), (1,), NONE, NONE)), NAMED.format("tensor_v2")),
    "P23-parameter-of-parameter": (
        one(call("torch._utils._rebuild_parameter",
                 call("torch._utils._rebuild_parameter", tensor(), FALSE, ORDERED),
                 FALSE, ORDERED)),
        NAMED.format("parameter"),
    ),
    "P23-storage": (one(storage()), "'w' holds an object stored apart"),
    "P23-quantised": (stored("QInt8", size=8), "torch.QInt8Storage cannot be held by JAX"),
    "P23-complex128": (
        one(tensor(storage("ComplexDouble", size=1), 0, (1,)), {"0": bytes(16)}),
        "torch.ComplexDoubleStorage cannot be held by JAX; known: torch.float64",
    ),
    "P23-float4": (
        one(tensor(storage("torch.storage.UntypedStorage", size=8), 0, (2,), (1,),
                   named("torch.float4_e2m1fn_x2"), by="v3")),
        "torch.float4_e2m1fn_x2 cannot be held by JAX",
    ),
    "P24-reconstruct": (
        one(call("numpy.core.multiarray._reconstruct", named("numpy.ndarray"))),
        "'w' holds numpy.core.multiarray._reconstruct",
    ),
    "P24-scalar": (one(call("numpy.core.multiarray.scalar", TOUCH)), "multiarray.scalar"),
    "P25-list": (archive(b"]" + tensor() + b"a"), "a list at the top, expected a dict"),
    "P25-tensor": (archive(tensor()), "torch._utils._rebuild_tensor_v2 at the top"),
    "P25-module": (archive(named("net.Net") + b")\x81}b"), "net.Net.__new__ at the top"),
    "P25-nothing": (archive(map_of({"epoch": number(3)})), "'epoch' holds a int|keys are 'epoch'"),
    "P26-1-MB": (archive(map_of({"w" * MANY: tensor()})), "no text of at most 4096 bytes"),
    "P26-twice": (archive(map_of([("w", tensor()), ("w", tensor())])), "key 'w' appears twice"),
    "P26-control": (one(NONE).replace(b"w", b"\x1b"), r"'\\x1b' holds a NoneType|is damaged"),
    "P29-deflate": (archive(GOOD, method=zipfile.ZIP_DEFLATED), "is compressed"),
    "P29-lzma": (archive(GOOD, method=zipfile.ZIP_LZMA), "is compressed"),
    "P29-bomb": (
        archive(
            map_of({"w": tensor(storage(size=1 << 20), 0, (1 << 20,))}),
            {"0": bytes(1 << 22)},
            method=zipfile.ZIP_DEFLATED,
        ),
        "is compressed",
    ),
    "P29-storage-only": (
        patched(patched(ZIP, DATA, 10, "<H", 8), DATA, 8, "<H", 8, central=False),
        "'archive/data/0' is compressed",
    ),
    "P29-local-only": (patched(ZIP, DATA, 8, "<H", 8, central=False), "is compressed"),
    "P30-size": (patched(ZIP, DATA, 24, "<L", 2**31), "'archive/data/0' is compressed"),
    "P30-packed": (patched(ZIP, DATA, 20, "<L", 2**31), "overlaps the one after"),
    "P30-both": (
        patched(patched(ZIP, DATA, 20, "<L", 2**31), DATA, 24, "<L", 2**31),
        "overlaps the one after",
    ),
    "P30-extra": (patched(ZIP, DATA, 28, "<H", 60000, central=False), "reach beyond byte"),
    "P30-offset": (patched(ZIP, DATA, 42, "<L", 2**31), "overlaps the one after"),
    "P31-name": (patched(ZIP, DATA, 30, "4s", b"evil", central=False), "another entry's header"),
    "P31-name-length": (patched(ZIP, DATA, 26, "<H", 15, central=False), "another entry's header"),
    "P31-mark": (patched(ZIP, DATA, 0, "4s", b"PK\5\5", central=False), "another entry's header"),
    "P31-crc": (patched(ZIP, PKL, 16, "<L", 7), r"'archive/data.pkl' is damaged: CRC \w{8}, exp"),
    "P31-encrypted": (patched(ZIP, DATA, 8, "<H", 1), "is encrypted"),
    "P31-encrypted-local": (patched(ZIP, PKL, 6, "<H", 1, central=False), "is encrypted"),
    "P31-central-mark": (patched(ZIP, DATA, 0, "4s", b"PK\5\5"), "no entry at byte"),
    "P32-one-header-for-two": (TWINS, "overlaps the one after it"),
    "P32-same-name": (
        TWINS.replace(b"archive/data/1", b"archive/data/0"),
        "entry 'archive/data/0' twice",
    ),
    "P33-prefix": (b"#!/bin/sh\n" + ZIP, "neither a zip archive nor pickles"),
    "P33-zip-prefix": (b"PK\3\4" + ZIP, "not a whole zip archive"),
    "P33-trailing": (ZIP + b"x", "no end of a directory"),
    "P33-comment": (ZIP[:-2] + b"\1\0x", "no end of a directory"),
    "P33-short": (b"PK\3\4", "not a whole zip archive: 4 bytes"),
    "P33-cut": (ZIP[:-30], "no end of a directory"),
    "P33-count": (ZIP[:-12] + b"\xff\xff" + ZIP[-10:], "65535 entries in a directory of"),
    "P33-fewer": (ZIP[:-12] + b"\1\0" + ZIP[-10:], "bytes more than 1 entries"),
    "P33-directory": (ZIP[:-10] + b"\xff\xff\xff\x7f" + ZIP[-6:], "a directory of 2147483647 b"),
    "P33-not-torch": (archive(b"", extra=[("a/data.pkl", b".")], root="b"), "with 2 data.pkl"),
    "P33-no-pickle": (archive(GOOD, root="a/b"), "with 0 data.pkl, .*'a/b/data.pkl'"),
    "P35-big": (archive(GOOD, byteorder=b"big"), "byteorder is .*big"),
    "P35-junk": (archive(GOOD, byteorder=b"x" * MANY), "byteorder is"),
    "P37-magic": (legacy(magic=pickled(number(7))), "not written by torch.save"),
    "P37-version": (legacy(version=pickled(number(1002))), "not version 1001"),
    "P37-version-nested": (legacy(version=START + b")" + b"\x85" * 9999 + b"."), "not version"),
    "P37-big-endian": (legacy(machine=pickled(map_of({"little_endian": FALSE}))), "little-endian"),
    "P37-no-machine": (legacy(machine=pickled(NONE)), "little-endian"),
    "P37-keys": (legacy(keys=["1"]), "storages '1' are there, the tensors need '0'"),
    "P37-no-keys": (legacy(keys=[]), "the tensors need '0'"),
    "P37-key-twice": (legacy(keys=["0", "0"]), "storages '0', '0' are there"),
    "P37-size": (legacy(storages={"0": (3, EIGHT)}), "storage '0' has 3 elements, expected 2"),
    "P37-size-negative": (legacy(storages={"0": (-1, EIGHT)}), "has -1 elements"),
    "P37-cut": (legacy()[:-1], "cut short"),
    "P37-trailing": (legacy(tail=b"x"), "1 bytes follow the last storage"),
    "P37-no-storages": (legacy(map_of({}), {})[:-3], "cut short"),
    "P37-huge": (
        legacy(map_of({"w": tensor(storage("Float", "0", 2**61, NONE))}), {"0": (2**61, EIGHT)}),
        "cut short",
    ),
    "P37-view-outside": (
        legacy(map_of({"w": tensor(storage("Float", "0", 2, tuple_of(text("1"), number(1),
                                                                     number(2))))})),
        "a view that does not lie in its 2 elements",
    ),
    "P37-view-odd": (legacy(map_of({"w": tensor(storage("Float", "0", 2, number(1)))})), "a view"),
    "P38-tar": (tar("storages", "tensors", "pickle"), "the .tar format .* is not read"),
    "P38-tar-outside": (tar("../../evil", "/etc/evil"), "the .tar format"),
    "P39-script": (archive(GOOD, extra=[("archive/constants.pkl", b"")]), "this is TorchScript"),
    "json": (b'{"a": 1}', "neither a zip archive nor pickles, so not written by torch.save"),
    "lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n", "git lfs pull"),
    "html": (b"<!DOCTYPE html>", "starts with HTML"),
}  # fmt: skip
BAD |= {
    f"P3-{name}": (one(by_stack("builtins", name)), f"'w' holds builtins.{name}, not a tensor")
    for name in ("eval", "exec", "getattr", "__import__")
}
BAD |= {
    f"P23-{name}": (one(call(f"torch._utils._rebuild_{name}", tensor())), NAMED.format(name))
    for name in (
        "qtensor", "sparse_tensor", "nested_tensor", "wrapper_subclass", "parameter_with_state",
        "device_tensor_from_numpy", "device_tensor_from_cpu_tensor", "meta_tensor_no_storage",
    )
}  # fmt: skip

# What `weights_only=False` reads: objects beside the tensors, which are never made.
HOOKED = archive(map_of({"w": tensor(hooks=SYSTEM)}))
ODD = {
    "P1-hooks": (HOOKED, "not only tensors: os.system; weights_only=False leaves out"),
    "P1-beside": (archive(map_of({"w": tensor(), "args": SYSTEM})), "'args' holds os.system"),
    "P5-newobj-beside": (archive(map_of({"w": tensor(), "a": named("a.B") + b")\x81}b"})), "a.B"),
    "P7-sets": (archive(map_of({"w": tensor(), "a": b"\x8f(K\1\x90", "b": b"(\x91"})), "set"),
    "P14-beside": (archive(map_of({"w": tensor(), "a": b"]q\0h\0a"})), "'a' holds a list"),
    "P23-with-state": (
        one(call("torch._utils._rebuild_parameter_with_state", tensor(), FALSE, ORDERED, b"}")),
        "'w': what torch._utils._rebuild_parameter_with_state makes",
    ),
    "P26-bytes": (archive(map_of([("w", tensor()), (b"C\1a", NONE)])), "a key that is no text"),
    "P26-int": (archive(map_of([("w", tensor()), (number(3), NONE)])), "a key that is no"),
} | {
    f"P25-{key}": (
        archive(map_of({key: GOOD, "best": tensor(), "epoch": number(3)})),
        f"'{key}' holds a dict.*the file's keys are '{key}', 'best', 'epoch'",
    )
    for key in ("state_dict", "model", "model_state_dict")
}  # fmt: skip
