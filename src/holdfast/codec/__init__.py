"""The one crossing between Python values and tagged JSON.

None, bool, finite float, text, int within +-2**53, list, and dict whose keys are all text not
beginning with "$" are plain JSON. A float is written with the shortest digits that give it back,
and always with a point or an exponent. Everything else is {"$": tag, "v": payload}:

    tensor          its name; what stands for it is the caller's (see `Codec.encode`, refer)
    int             hexadecimal, as "-0x1f"
    float           "inf", "-inf" or "nan:" and the 64 bits in hex
    str             base64 of UTF-8 with halves of surrogate pairs, for strings that hold such
    complex         [real, imaginary], each a float
    bytes bytearray base64 (RFC 4648, padded)
    decimal uuid    text
    fraction        [numerator, denominator] in lowest terms
    tuple           [item, ...]
    set frozenset   [member, ...] in ascending order of their compact JSON text
    dict OrderedDict Counter
                    [[key, value], ...] in their own order
    defaultdict     {"factory": null | name of a built-in type, "items": pairs as for dict}
    deque           {"maxlen": null | int, "items": [item, ...]}
    slice range     [start, stop, step]
    date            "YYYY-MM-DD"
    datetime time   {"iso": wall clock with six decimals, "fold": 0 | 1, "tz": null | zone}
    timedelta       [days, seconds, microseconds]
    timezone        {"offset": microseconds east of UTC, "name": null | text}
    zoneinfo        key, as "Europe/Berlin"
    path            {"flavour": "posix" | "windows", "path": text}
    PurePosixPath PureWindowsPath
                    text
    np.bool         true | false
    np.int8 ... np.uint64
                    an int
    np.float16 np.float32 np.float64
                    the equal number, or the bits in hex (big-endian) where it is not finite
    np.complex64 np.complex128
                    [real, imaginary], each as for np.float
    np.datetime64 np.timedelta64
                    [dtype name with its unit, 64-bit count]
    np.str np.bytes text; base64
    ndarray         {"dtype": numpy's notation, "shape": [int, ...], "order": "C" | "F",
                     "data": base64 of the elements in that order | a tensor}
                    The tensor has the array's own dtype and shape (the shape reversed for "F"),
                    or is a vector of the bytes where tensors have no such dtype.

An inner value that is not of a fixed kind crosses by the same rules. Dict keys and set members may
not hold tensors.
"""

from holdfast.codec._classes import dataclass_tag, enum_tag
from holdfast.codec._codec import Codec
from holdfast.codec._encode import Crossed, is_plain_leaf, is_text
from holdfast.codec._numpy_arrays import INLINE_MAX_BYTES
from holdfast.codec._tag import DecodeChild, EncodeChild, Tag

__all__ = [
    "INLINE_MAX_BYTES",
    "Codec",
    "Crossed",
    "DecodeChild",
    "EncodeChild",
    "Tag",
    "dataclass_tag",
    "enum_tag",
    "is_plain_leaf",
    "is_text",
]
