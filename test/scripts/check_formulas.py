#!/usr/bin/env python3
"""
Recipes against the formulas of the papers that they are named after.

  check_formulas.py [BUILD] [SEED]

Solves small random sites with BUILD/libqvit.so and computes the same in plain Python: clipping,
metrics, twin codes and corrected biases are written anew from the equations, and searches are tried
candidate by candidate. Of a search every round is checked for itself: what `rounds=N` found must be
the best of the grid from what `rounds=N-1` had found, so that two candidates of equal score do not
lead the two apart.
The seed is printed; give it to see the same numbers again.
"""
import ctypes as c
import math
import os
import random
import struct
import sys
from array import array
from operator import mul

# ---- qvit.h ----

F32, S32, U8, S8 = 1, 2, 3, 4  # QVIT_DTYPE
SYMMETRIC, ASYMMETRIC, TWIN_SOFTMAX, TWIN_GELU = 1, 2, 3, 4  # QVIT_SCHEME
SCALE, ZERO_POINT, SCALE2 = 1, 2, 3  # QVIT_PARAMETER
LINEAR, MATMUL = 1, 2  # QVIT_SITE
GENERIC, LAYER_NORM, SOFTMAX, GELU = 0, 1, 2, 3  # QVIT_INPUT
INPUT, SECOND, WEIGHT_CODES, BIAS = 1, 2, 3, 4  # QVIT_RESULT
size, pointer = c.c_size_t, c.c_void_p


class Tensor(c.Structure):
    _fields_ = [("data", pointer), ("dtype", c.c_int32), ("rank", c.c_int32), ("dims", size * 6),
                ("strides", c.c_ssize_t * 6)]


class Error(c.Structure):
    _fields_ = [("status", c.c_int32), ("reserved", c.c_int32), ("offset", c.c_uint64),
                ("text", c.c_char * 240)]


class Parameter(c.Structure):
    _fields_ = [("key", c.c_int32), ("dtype", c.c_int32), ("count", size), ("data", pointer)]


class QuantizerOptions(c.Structure):
    _fields_ = [("struct_size", size), ("scheme", c.c_int32), ("bits", c.c_int32),
                ("flags", c.c_uint32), ("granularity", pointer),
                ("parameters", c.POINTER(Parameter)), ("count", size)]


class SiteOptions(c.Structure):
    _fields_ = [("struct_size", size), ("name", c.c_char_p), ("type", c.c_int32),
                ("kind", c.c_int32), ("weight", c.POINTER(Tensor)),
                ("bias", c.POINTER(Tensor)), ("heads", size),
                ("second_transposed", c.c_int32), ("reserved", c.c_int32), ("output_parts", size)]


class Observation(c.Structure):
    _fields_ = [("struct_size", size), ("site", size), ("first_sample", c.c_uint64),
                ("first_row", c.c_uint64)]
    _fields_ += [(name, c.POINTER(Tensor)) for name in (
        "input", "input_quantized", "second", "second_quantized", "gradient", "target")]


class SolveOptions(c.Structure):
    _fields_ = [("struct_size", size), ("sites", pointer), ("site_count", size),
                ("recipe", c.c_char_p), ("weight_bits", c.c_int32), ("input_bits", c.c_int32),
                ("settings", c.POINTER(c.c_char_p)), ("setting_count", size),
                ("use_quantized", c.c_int32), ("reserved", c.c_int32), ("progress", pointer),
                ("user", pointer)]


class Library:
    """The shared library with one engine. Handles live as long as the process: there are few."""

    def __init__(self, path):
        self.library = c.CDLL(path)
        self.engine = self.make("qvit_engine_create", None)

    def call(self, name, *arguments):
        error = Error()
        function = getattr(self.library, name)
        function.restype = c.c_int32
        if function(*arguments, c.byref(error)):
            raise RuntimeError("%s: %s" % (name, error.text.decode()))

    def make(self, name, *arguments):
        handle = pointer()
        self.call(name, *arguments, c.byref(handle))
        return handle

    def options(self, struct_type, init, **fields):
        """A struct as its _init function leaves it, with some fields set."""
        struct = struct_type()
        getattr(self.library, init + "_init")(c.byref(struct), size(c.sizeof(struct)))
        for field, value in fields.items():
            setattr(struct, field, value)
        return struct

    def tensor(self, values, dims, dtype=F32):
        """A view of new memory that holds the values; None gives none."""
        if values is None:
            return None
        kind = {F32: c.c_float, U8: c.c_uint8, S8: c.c_int8}[dtype]
        memory = (kind * len(values))(*values)
        view = Tensor()
        self.library.qvit_tensor_init(c.byref(view), memory, c.c_int32(dtype), size(len(dims)),
                                      (size * len(dims))(*dims))
        view.memory = memory
        return view

    def parameter(self, quantizer, key):
        found = Parameter()
        self.call("qvit_quantizer_parameter", quantizer, c.c_int32(key), c.byref(found))
        kind = c.c_int32 if found.dtype == S32 else c.c_float
        return list((kind * found.count).from_address(found.data))


class Found:
    """What solving found, read into Python: quantizers as dictionaries, the bias as a list."""

    def __init__(self, library, result):
        lib = library.library
        lib.qvit_result_quantizer.restype = pointer
        self.input = self.quantizer(library, pointer(lib.qvit_result_quantizer(result, INPUT)))
        self.second = self.quantizer(library, pointer(lib.qvit_result_quantizer(result, SECOND)))
        view = Tensor()
        library.call("qvit_result_tensor", result, c.c_int32(BIAS), c.byref(view))
        self.bias = list((c.c_float * view.dims[0]).from_address(view.data)) if view.data else None

    @staticmethod
    def quantizer(library, handle):
        keys = {SYMMETRIC: (SCALE,), ASYMMETRIC: (SCALE, ZERO_POINT)}
        scheme = library.library.qvit_quantizer_scheme(handle)
        found = {"scheme": scheme, "bits": library.library.qvit_quantizer_bits(handle)}
        for key in keys.get(scheme, (SCALE, SCALE2)):
            found[key] = library.parameter(handle, key)
        return found

    def scales(self):
        return [self.input.get(SCALE2, []), self.input[SCALE], self.second[SCALE]]


class Site:
    """A site of its own calibrator that has seen its numbers. Linear: input [samples][rows][k],
    second [n][k], the weight. Matmul: input [samples][heads][rows][k], second
    [samples][heads][n][k] (transposed) or [k][n]. All flat lists of float32."""

    def __init__(self, library, dims, input, second, kind=GENERIC, gradient=None, bias=None,
                 heads=0, parts=1, transposed=0):
        self.library = library
        self.samples, self.rows, self.k, self.n = dims
        self.heads, self.kind, self.transposed, self.parts = heads, kind, transposed, parts
        self.input, self.second, self.gradient, self.bias = input, second, gradient, bias
        lead = [self.samples, heads, self.rows] if heads else [self.samples, self.rows]
        matrix = [self.n, self.k] if transposed or not heads else [self.k, self.n]
        self.tensors = {
            "input": library.tensor(input, lead + [self.k]),
            "second": library.tensor(second, ([self.samples, heads] if heads else []) + matrix),
            "gradient": library.tensor(gradient, lead + [self.n]),
            "bias": library.tensor(bias, [self.n])}
        self.handle = library.make("qvit_calibrator_create", library.engine, None)
        options = library.options(SiteOptions, "qvit_site_options", name=b"site", kind=kind,
                                  type=MATMUL if heads else LINEAR, output_parts=parts)
        if heads:
            options.heads, options.second_transposed = heads, transposed
        else:
            self.point(options, weight="second", bias="bias")
        library.call("qvit_calibrator_add_site", self.handle, c.byref(options), None)
        seen = library.options(Observation, "qvit_observation")
        self.point(seen, input="input", gradient="gradient")
        if heads:
            self.point(seen, second="second")
        library.call("qvit_calibrator_observe", self.handle, c.byref(seen))

    def point(self, struct, **names):
        for field, name in names.items():
            if self.tensors[name] is not None:
                setattr(struct, field, c.pointer(self.tensors[name]))

    def solve(self, recipe, weight_bits, input_bits, *settings):
        texts = (c.c_char_p * max(1, len(settings)))(*[s.encode() for s in settings])
        options = self.library.options(SolveOptions, "qvit_solve_options", recipe=recipe.encode(),
                                       weight_bits=weight_bits, input_bits=input_bits,
                                       settings=texts, setting_count=len(settings))
        self.library.call("qvit_calibrator_solve", self.handle, c.byref(options))
        result = self.library.make("qvit_calibrator_result", self.handle, size(0))
        return Found(self.library, result)

    def left(self, sample, head):
        """Rows of one input matrix; of a linear site all rows of the sample."""
        at = (sample * max(1, self.heads) + head) * self.rows * self.k
        return cut(self.input[at:at + self.rows * self.k], self.k)

    def right(self, sample, head):
        """[n][k], whichever way it lies."""
        if not self.heads:
            return cut(self.second, self.k)
        at = (sample * self.heads + head) * self.n * self.k
        matrix = self.second[at:at + self.n * self.k]
        if self.transposed:
            return cut(matrix, self.k)
        return [matrix[j::self.n] for j in range(self.n)]

    def slope(self, sample, head):
        at = (sample * max(1, self.heads) + head) * self.rows * self.n
        return cut(self.gradient[at:at + self.rows * self.n], self.n) if self.gradient else None


# ---- arithmetic ----


def f32(x):
    return struct.unpack("f", struct.pack("f", x))[0]


def cut(values, width):
    return [values[i:i + width] for i in range(0, len(values), width)]


def clamp(x, low, high):
    return min(max(x, low), high)


def product(left, right):
    """left [m][k] times right [n][k], transposed."""
    return [[sum(map(mul, x, w)) for w in right] for x in left]


def top_of(values):
    return max(map(abs, values))


def near(a, b, tolerance=2e-6):
    return abs(a - b) <= tolerance * max(abs(a), abs(b))


# ---- quantizers: qvit.h, section 8 ----


def quotients(values, scale):
    return array("f", [x / scale for x in values])


def symmetric(values, scale, bits, narrow):
    """clamp(round(x / s), -2^(b-1), 2^(b-1) - 1) s; narrow: without the lowest code."""
    high = 2 ** (bits - 1) - 1
    low = -high if narrow else -high - 1
    return [scale * (low if t < low else high if t > high else round(t))
            for t in quotients(values, scale)]


def asymmetric(values, scale, zero, bits):
    """(clamp(round(x / s) + z, 0, 2^b - 1) - z) s."""
    return [(clamp(round(t) + zero, 0, 2 ** bits - 1) - zero) * scale
            for t in quotients(values, scale)]


def twin_softmax_code(x, scale, scale2, bits, zero=0):
    """PTQ4ViT, 3.2: R1 = [0, 2^(k-1) D1) and the rest, k - 1 bits each; the top bit says which."""
    half = 2 ** (bits - 1)
    if f32(x / scale) < half:
        return clamp(round(f32(x / scale)), 0, half - 1)
    return half + clamp(round(f32(x / scale2)), 0, half - 1)


def twin_gelu_code(x, scale, scale2, bits, zero=0):
    """PTQ4ViT, 3.2: R1 = [-2^(k-1) D1, 0] and R2 = [0, 2^(k-1) D2]; the sign says which. A zero point
    moves codes from the one to the other."""
    half = 2 ** (bits - 1)
    if x < 0:
        return zero + clamp(round(f32(x / scale)), -half - zero, 0)
    return zero + clamp(round(f32(x / scale2)), 0, half - 1 - zero)


def twin_value(code, scheme, scale, scale2, bits, zero=0):
    if scheme == TWIN_GELU:
        return (code - zero) * (scale if code < zero else scale2)
    half = 2 ** (bits - 1)
    return code * scale if code < half else (code - half) * scale2


def input_values(quantizer, values, head=0, narrow=0):
    """What the codes of an input mean."""
    scheme, bits = quantizer["scheme"], quantizer["bits"]
    scale = quantizer[SCALE][head if len(quantizer[SCALE]) > 1 else 0]
    if scheme == SYMMETRIC:
        return symmetric(values, scale, bits, narrow)
    if scheme == ASYMMETRIC:
        return asymmetric(values, scale, quantizer[ZERO_POINT][0], bits)
    code = twin_gelu_code if scheme == TWIN_GELU else twin_softmax_code
    scale2 = quantizer[SCALE2][0]
    return [twin_value(code(x, scale, scale2, bits), scheme, scale, scale2, bits) for x in values]


def with_scales(quantizer, key, scale):
    """The same quantizer, all its scales under this key alike."""
    changed = dict(quantizer)
    changed[key] = [scale] * len(quantizer[SCALE])
    return changed


def narrow(bits):
    return int(bits == 8)


def range_scale(top, bits):
    """The largest value lies at the outer edge of the last code: max|x| / (2^(b-1) - 1/2)."""
    return top / (2 ** (bits - 1) - 0.5)


# ---- metrics: `higher is better`, of an output against that of the floats ----


def cosine(out, target):
    """EasyQuant: sum(o o') / (|o| |o'|)."""
    a, b = sum(map(mul, out, out)), sum(map(mul, target, target))
    return sum(map(mul, out, target)) / math.sqrt(a * b) if a > 0 and b > 0 else float(a == b)


def pearson(out, target):
    """Liu et al., 3.1: sum((o - mean)(o' - mean')) / sqrt(sum(o - mean)^2 sum(o' - mean')^2), less
    a millionth of the relative squared error, which tells apart what differs by a gain."""
    mean, mean_target = sum(out) / len(out), sum(target) / len(target)
    a, b = [x - mean for x in out], [x - mean_target for x in target]
    aa, bb = sum(map(mul, a, a)), sum(map(mul, b, b))
    error = sum((x - y) ** 2 for x, y in zip(out, target)) / sum(map(mul, target, target))
    correlation = sum(map(mul, a, b)) / math.sqrt(aa * bb) if aa > 0 and bb > 0 else float(aa == bb)
    return correlation - 1e-6 * min(error, 1)


def ranking_loss(out, target, pairs):
    """Liu et al., 3.2: sum over i < j of max(0, 0.2 - (o_i - o_j) sign(t_i - t_j)), here in units
    of the target row's standard deviation; and the number of pairs, for the mean."""
    mean = sum(target) / len(target)
    unit = math.sqrt(sum((t - mean) ** 2 for t in target) / len(target))
    loss, count = 0, 0
    for (i, j), times in pairs.items():
        if target[i] != target[j]:
            sign = 1 if target[i] > target[j] else -1
            loss += times * max(0, 0.2 - sign * (out[i] - out[j]) / unit)
            count += times
    return loss, count


def mix(z):
    """The finaliser of splitmix64."""
    z = (z + 0x9E3779B97F4A7C15) % 2 ** 64
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 % 2 ** 64
    z = (z ^ z >> 27) * 0x94D049BB133111EB % 2 ** 64
    return z ^ z >> 31


PAIRS = {}


def drawn_pairs(n):
    """How often each pair is among the 256 that the library takes for all of them. Of two keys
    there is but one pair, so there this plays no part."""
    pairs = {}
    for number in range(256):
        draw = mix(mix(mix(mix(int.from_bytes(b"ranking", "big")) ^ 0) ^ n) ^ number)
        i, j = sorted((draw % 2 ** 32 % n, (draw >> 32) % n))
        if i < j:
            pairs[i, j] = pairs.get((i, j), 0) + 1
    return pairs


def hessian(out, target, gradient):
    """PTQ4ViT, 3.3: sum of (dL/dO)^2 (O' - O)^2, negated."""
    return -sum((g * (x - y)) ** 2 for x, y, g in zip(out, target, gradient))


# ---- ACIQ ----


def simpson(f, low, high, steps=400):
    h = (high - low) / steps
    return h / 3 * sum((1 if i in (0, steps) else 4 if i % 2 else 2) * f(low + i * h)
                       for i in range(steps + 1))


def laplace_density(x):
    """Of b = 1."""
    return math.exp(-abs(x)) / 2


def normal_density(x):
    """Of deviation 1."""
    return math.exp(-x * x / 2) / math.sqrt(2 * math.pi)


def expected_error(density, reach, a, bits):
    """Banner et al., section 3: both tails clipped at a, and steps of 2 a / 2^M, each with an error
    of step^2 / 12."""
    clipping = 2 * simpson(lambda x: (x - a) ** 2 * density(x), a, a + reach)
    return clipping + (2 * a / 2 ** bits) ** 2 / 12


def best_clip(density, reach, bits):
    """Where that is least, by golden section."""
    ratio, low, high = (math.sqrt(5) - 1) / 2, 0.5, 20
    while high - low > 1e-7:
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        if expected_error(density, reach, left, bits) < expected_error(density, reach, right, bits):
            high = right
        else:
            low = left
    return (low + high) / 2


CLIPS = {}


def aciq_distance(values, bits):
    """mean and a* of the law whose E|x - mean| / deviation is nearer: sqrt(1/2) of Laplace's with
    b = E|x - mean|, sqrt(2 / pi) of the normal one."""
    if bits not in CLIPS:
        CLIPS[bits] = best_clip(laplace_density, 40, bits), best_clip(normal_density, 9, bits)
    mean = sum(values) / len(values)
    b = sum(abs(x - mean) for x in values) / len(values)
    deviation = math.sqrt(sum((x - mean) ** 2 for x in values) / len(values))
    to_laplace = abs(b / deviation - math.sqrt(1 / 2))
    to_normal = abs(b / deviation - math.sqrt(2 / math.pi))
    return mean, b * CLIPS[bits][0] if to_laplace < to_normal else deviation * CLIPS[bits][1]


def binned(x):
    """The middle of the histogram's bin, of which there are 64 to an octave."""
    if abs(x) < 2 ** -24:
        return 0.0
    m, e = math.frexp(abs(x))
    return math.copysign(math.ldexp((64 + int((2 * m - 1) * 64) + 0.5) / 64, e - 1), x)


DRAWS = 8


def drawn_in(whole, law, error):
    """All ranges by eighths of the way from the whole one to the law's, with what each loses."""
    ranges = [tuple(w + (a - w) * i / DRAWS for w, a in zip(whole, law)) for i in range(DRAWS + 1)]
    return [(r, error(r)) for r in ranges]


def expect_least(what, found, tried, scale_of):
    """The scale found is that of a range that was to be tried, and none of these loses less."""
    least = min(error for _, error in tried)
    if not any(near(found, scale_of(r), 2e-5) and error <= least * (1 + 1e-4) + 1e-30
               for r, error in tried):
        raise AssertionError("%s: %.9g; tried %s" % (
            what, found, ["%.9g: %.6g" % (scale_of(r), error) for r, error in tried]))


def squared(values, rounded):
    return sum((r - v) ** 2 for r, v in zip(rounded, values))


def aciq_ranges(values, bits, code):
    """From the smallest to the largest value, drawn in to mean - a and mean + a, with 0 inside. What a
    range loses is what its codes lose of the histogram's values. code(values, low, high): the values
    that codes give back."""
    bins = [binned(x) for x in values]
    mean, a = aciq_distance(bins, bits)
    low, high = min(min(values), 0), max(max(values), 0)
    law = max(low, min(mean - a, 0)), min(high, max(mean + a, 0))
    return drawn_in((low, high), law, lambda r: squared(bins, code(bins, *r)))


def symmetric_code(bits, sides):
    return lambda values, low, high: symmetric(values, range_scale(max(-low, high), bits), bits, sides)


def asymmetric_code(bits):
    def code(values, low, high):
        scale = (high - low) / (2 ** bits - 1)
        return asymmetric(values, scale, round(-low / scale), bits)
    return code


# ---- sites with the scales of a result ----


class Layer:
    """The products of a site: matrices of floats, their targets, and outputs of quantized ones.
    Matrices are numbered (sample, head)."""

    def __init__(self, site):
        self.site = site
        self.heads = max(1, site.heads)
        self.keys = [(s, h) for s in range(site.samples) for h in range(self.heads)]
        self.x = {key: site.left(*key) for key in self.keys}
        self.w = {key: site.right(*key) for key in self.keys}
        self.target = {key: product(self.x[key], self.w[key]) for key in self.keys}
        self.slope = {key: site.slope(*key) for key in self.keys}

    def left(self, quantizer, keys=None):
        sides = narrow(quantizer["bits"]) if self.site.heads else 0
        return {(s, h): [input_values(quantizer, row, h, sides) for row in self.x[s, h]]
                for s, h in keys or self.keys}

    def right(self, scales, bits):
        """scales: one for each head, or for each of the equal parts of the weight's rows."""
        found = {}
        for s, h in self.keys:
            if not self.site.heads and s:
                found[s, h] = found[0, 0]
                continue
            part = max(1, self.site.n // len(scales))
            own = [scales[h if self.site.heads else j // part] for j in range(self.site.n)]
            found[s, h] = [symmetric(row, scale, bits, narrow(bits))
                           for row, scale in zip(self.w[s, h], own)]
        return found

    def output(self, left, right):
        return {key: product(left[key], right[key]) for key in left}


def flat(rows):
    return [x for row in rows for x in row]


def columns(rows, first, last):
    return [row[first:last] for row in rows]


# How each metric scores outputs of (sample, head) matrices: columns [first, last) of them.


def cosine_score(layer, out, keys, first, last):
    """Of one output over all rows; of several the sum over rows of each row's."""
    if last - first == 1 < layer.site.n:
        return cosine([row[first] for key in keys for row in out[key]],
                      [row[first] for key in keys for row in layer.target[key]])
    return sum(cosine(x[first:last], t[first:last]) for key in keys
               for x, t in zip(out[key], layer.target[key]))


def pearson_score(layer, out, keys, first, last):
    """Of every image; a row of weights has one output, which is judged over all images at once."""
    if last - first == 1:
        whole = [flat([flat(columns(side[key], first, last)) for key in keys])
                 for side in (out, layer.target)]
        return pearson(*whole)
    return sum(pearson(flat(columns(out[key], first, last)),
                       flat(columns(layer.target[key], first, last))) for key in keys)


def ranking_score(layer, out, keys, first, last):
    """For every image: the correlation less 0.1 times the mean loss of a pair."""
    n = last - first
    if n not in PAIRS:
        PAIRS[n] = drawn_pairs(n)
    total = 0
    for key in keys:
        losses = [ranking_loss(x, t, PAIRS[n]) for x, t in zip(out[key], layer.target[key])]
        total -= 0.1 * sum(loss for loss, _ in losses) / sum(count for _, count in losses)
    return total + pearson_score(layer, out, keys, first, last)


def hessian_score(layer, out, keys, first, last):
    return sum(hessian(x[first:last], t[first:last], g[first:last]) for key in keys
               for x, t, g in zip(out[key], layer.target[key], layer.slope[key]))


# ---- searches ----


class Search:
    """One recipe's search at a site, watched round by round."""

    def __init__(self, site, recipe, score, factors, start, tolerance=1e-7):
        self.site, self.layer = site, Layer(site)
        self.recipe, self.score, self.factors = recipe, score, factors
        self.start, self.tolerance = start, tolerance

    def judge(self, what, candidates, scores, found):
        """`found` must be one of the candidates, and none may be better than it."""
        chosen = [i for i, scale in enumerate(candidates) if near(scale, found)]
        if not chosen:
            raise AssertionError("%s: scale %.8g is not on the grid %.8g .. %.8g" %
                                 (what, found, candidates[0], candidates[-1]))
        best = max(range(len(scores)), key=scores.__getitem__)
        mine = max(scores[i] for i in chosen)
        if scores[best] - mine > self.tolerance * max(abs(scores[best]), 1e-30):
            raise AssertionError("%s: scale %.8g scores %.10g, but %.8g scores %.10g" %
                                 (what, found, mine, candidates[best], scores[best]))

    def part(self, i, count):
        """What right scale i of count decides: matrices, and their outputs from first to last."""
        if self.site.heads:
            return [key for key in self.layer.keys if key[1] == i], 0, self.site.n
        return self.layer.keys, i * self.site.n // count, (i + 1) * self.site.n // count

    def check_right(self, what, before, after):
        """All scales of the right operand at once, each by the outputs that it makes."""
        layer, site, bits = self.layer, self.site, after.second["bits"]
        left = layer.left(before.input)
        count = len(after.second[SCALE])
        parts = [self.part(i, count) for i in range(count)]
        tops = [top_of([w for key in keys for row in layer.w[key][first:last] for w in row])
                for keys, first, last in parts]
        grids = [[f32(factor * range_scale(top, bits)) for factor in self.factors] for top in tops]
        outs = [layer.output(left, layer.right([grid[i] for grid in grids], bits))
                for i in range(len(self.factors))]
        for i, (keys, first, last) in enumerate(parts):
            scores = [self.score(layer, out, keys, first, last) for out in outs]
            self.judge("%s, right %d" % (what, i), grids[i], scores, after.second[SCALE][i])

    def left_candidates(self, quantizer, head):
        """Quantizers to try, and the scale that tells them apart."""
        scheme, bits = quantizer["scheme"], quantizer["bits"]
        if scheme == TWIN_SOFTMAX:
            low = 1 / (2 ** (bits - 1) - 1)
            return SCALE, [with_scales(quantizer, SCALE, f32(low / 2 ** m)) for m in range(16)]
        own = [x for key in self.layer.keys if not self.site.heads or key[1] == head
               for row in self.layer.x[key] for x in row]
        key, top = (SCALE2, max(own)) if scheme == TWIN_GELU else (SCALE, top_of(own))
        grid = [f32(factor * range_scale(top, bits)) for factor in self.factors]
        return key, [with_scales(quantizer, key, x) for x in grid]

    def check_left(self, what, after):
        layer = self.layer
        right = layer.right(after.second[SCALE], after.second["bits"])
        for head in range(len(after.input[SCALE])):
            shared = len(after.input[SCALE]) == 1
            keys = layer.keys if shared else [key for key in layer.keys if key[1] == head]
            kind, candidates = self.left_candidates(after.input, head)
            scores = []
            for quantizer in candidates:
                out = layer.output(layer.left(quantizer, keys), right)
                scores.append(self.score(layer, out, keys, 0, self.site.n))
            self.judge("%s, left %d" % (what, head), [q[kind][head if not shared else 0]
                                                      for q in candidates], scores,
                       after.input[kind][head])

    def run(self, weight_bits, input_bits, rounds):
        """Round after round, from the scales that ranges give; then the recipe as it is must have
        stopped where nothing changed any more, or after `rounds`."""
        before = self.site.solve("minmax", weight_bits, input_bits, *self.start)
        for number in range(1, rounds + 1):
            after = self.site.solve(self.recipe, weight_bits, input_bits, "rounds=%d" % number,
                                    *self.start)
            self.check_right("round %d" % number, before, after)
            self.check_left("round %d" % number, after)
            if after.scales() == before.scales():
                break
            before = after
        whole = self.site.solve(self.recipe, weight_bits, input_bits, *self.start)
        if whole.scales() != after.scales():
            raise AssertionError("stopped elsewhere than after %d rounds" % number)
        return whole


def grid(low, high, count):
    return [low + i * (high - low) / count for i in range(count)]


# ---- random numbers ----


def normal(count, spread=1.0):
    return [f32(random.gauss(0, spread)) for _ in range(count)]


def laplace(count, b=1.0):
    return [f32(random.expovariate(1 / b) * random.choice((-1, 1))) for _ in range(count)]


def gelu(count):
    xs = [random.gauss(0, 1.5) for _ in range(count)]
    return [f32(x * (1 + math.erf(x / math.sqrt(2))) / 2) for x in xs]


def softmax(rows, width, spread=2.0):
    found = []
    for _ in range(rows):
        e = [math.exp(random.gauss(0, spread)) for _ in range(width)]
        found += [f32(x / sum(e)) for x in e]
    return found


# ---- checks ----


def expect(what, found, wanted, tolerance):
    if not near(found, wanted, tolerance):
        raise AssertionError("%s: %.9g, expected %.9g" % (what, found, wanted))


def check_bias(layer, found, bias):
    """Liu et al., 3.4: b' = b - mean over rows of (O' - O); here a row counts by the inverse of the energy
    of O, which the documentation of row-floor says."""
    right = layer.right(found.second[SCALE], found.second["bits"])
    out = layer.output(layer.left(found.input), right)
    rows = [(x, t) for key in layer.keys for x, t in zip(out[key], layer.target[key])]
    energy = [sum(map(mul, t, t)) for _, t in rows]
    weight = [1 / (e + 1e-6 * sum(energy) / len(energy) + 1e-30) for e in energy]
    for j in range(layer.site.n):
        error = sum((x[j] - t[j]) * w for (x, t), w in zip(rows, weight)) / sum(weight)
        wanted = (bias[j] if bias else 0) - error
        reach = top_of([t[j] for key in layer.keys for t in layer.target[key]])
        if abs(found.bias[j] - wanted) > 2e-6 * reach:
            raise AssertionError("bias %d: %.9g, expected %.9g" % (j, found.bias[j], wanted))


def aciq_weights_and_inputs(library):
    k, n = 24, 10
    for bits in range(4, 9):
        for draw in (normal, laplace):
            weight = normal(n // 2 * k, 0.1) + laplace(n // 2 * k, 0.1)
            site = Site(library, (5, 8, k, n), draw(40 * k), weight, bias=normal(n))
            found = site.solve("aciq", bits, bits, "input=symmetric")
            if found.input["scheme"] != SYMMETRIC or len(found.second[SCALE]) != n:
                raise AssertionError("not symmetric, with a scale for each row")
            expect_least("%d bits, %s input" % (bits, draw.__name__), found.input[SCALE][0],
                         aciq_ranges(site.input, bits, symmetric_code(bits, 0)),
                         lambda r: range_scale(max(-r[0], r[1]), bits))
            for j, row in enumerate(cut(weight, k)):
                mean, a = aciq_distance(row, bits)
                top = top_of(row)
                code = symmetric_code(bits, narrow(bits))
                tried = drawn_in((top,), (min(top, abs(mean) + a),),
                                 lambda r: squared(row, code(row, -r[0], r[0])))
                expect_least("%d bits, weight %d" % (bits, j), found.second[SCALE][j], tried,
                             lambda r: range_scale(r[0], bits))
            check_bias(Layer(site), found, site.bias)


def aciq_asymmetric(library):
    """0 stays inside, also where all values lie on one side."""
    for bits in range(4, 9):
        shift = random.choice((random.uniform(-1.5, 1.5), 12, -12))
        site = Site(library, (5, 40, 12, 3), [f32(x + shift) for x in laplace(2400)], normal(36))
        found = site.solve("aciq", bits, bits)
        tried = aciq_ranges(site.input, bits, asymmetric_code(bits))
        expect_least("%d bits" % bits, found.input[SCALE][0], tried,
                     lambda r: (r[1] - r[0]) / (2 ** bits - 1))
        zeros = [-low / (high - low) * (2 ** bits - 1) for (low, high), _ in tried]
        if min(abs(found.input[ZERO_POINT][0] - zero) for zero in zeros) > 0.51:
            raise AssertionError("%d bits: zero point %d, expected one of %s" %
                                 (bits, found.input[ZERO_POINT][0], zeros))


def aciq_heads(library):
    """Products of activations: each head's operands by themselves."""
    samples, heads, rows, k, n = 3, 2, 8, 16, 8
    for bits in range(4, 9):
        site = Site(library, (samples, rows, k, n), normal(samples * heads * rows * k),
                    laplace(samples * heads * n * k), heads=heads, transposed=1)
        found = site.solve("aciq", bits, bits)
        for h in range(heads):
            for what, values, scales, sides in (("left", site.left, found.input[SCALE], 0),
                                                ("right", site.right, found.second[SCALE], narrow(bits))):
                own = flat(flat([values(s, h) for s in range(samples)]))
                expect_least("%d bits, %s of head %d" % (bits, what, h), scales[h],
                             aciq_ranges(own, bits, symmetric_code(bits, sides)),
                             lambda r: range_scale(max(-r[0], r[1]), bits))


def easyquant_search(library):
    k, n = 24, 10
    site = Site(library, (5, 8, k, n), laplace(40 * k), laplace(n * k, 0.1))
    factors = [1 / x for x in grid(0.8, 1.25, 40)]
    search = Search(site, "easyquant", cosine_score, factors, ("input=symmetric",))
    search.run(4, 4, 20)


def easyquant_heads(library):
    samples, heads, rows, k, n = 3, 2, 5, 8, 6
    site = Site(library, (samples, rows, k, n), laplace(samples * heads * rows * k),
                laplace(samples * heads * n * k), heads=heads, transposed=1)
    factors = [1 / x for x in grid(0.8, 1.25, 40)]
    Search(site, "easyquant", cosine_score, factors, ("input=symmetric",)).run(5, 4, 20)


def liu_search_and_bias(library):
    k, n = 24, 9
    for parts, weights in ((1, "layer"), (3, "layer"), (1, "row")):
        site = Site(library, (4, 8, k, n), [f32(x + 0.3) for x in laplace(32 * k)],
                    laplace(n * k, 0.1), bias=normal(n), parts=parts)
        search = Search(site, "liu2021", pearson_score, grid(0.8, 1.2, 40),
                        ("input=symmetric", "weights=" + weights))
        check_bias(search.layer, search.run(4, 4, 20), site.bias)
    site = Site(library, (4, 8, k, n), site.input, site.second)
    check_bias(Layer(site), site.solve("liu2021", 6, 5), None)


def liu_gain(library):
    """Weights of one size: correlation finds all scales alike; that which keeps their size wins."""
    weight = [f32(random.choice((-0.37, 0.37))) for _ in range(5 * 12)]
    site = Site(library, (3, 10, 12, 5), laplace(360), weight)
    search = Search(site, "liu2021", pearson_score, grid(0.8, 1.2, 40),
                    ("input=symmetric", "weights=layer"), 2e-9)
    search.run(4, 8, 20)


def liu_ranking(library):
    """Many heads of few scores: each chooses by itself, and pairs count for much."""
    for n in (2, 5):
        bits, samples, heads, rows, k = 2, 1, 24, 2, 5
        site = Site(library, (samples, rows, k, n), laplace(samples * heads * rows * k),
                    laplace(samples * heads * n * k), heads=heads, transposed=1)
        search = Search(site, "liu2021", ranking_score, grid(0.8, 1.2, 40), ("input=symmetric",))
        search.run(bits, bits, 20)


def twin_round_trip(library):
    """Codes and numbers of the twin quantizers, at random and at the edges of ranges and codes."""
    for scheme, code_of, dtype in ((TWIN_SOFTMAX, twin_softmax_code, U8),
                                   (TWIN_GELU, twin_gelu_code, S8)):
        for bits in range(2, 9):
            half = 2 ** (bits - 1)
            scale2 = f32(random.uniform(0.5, 1.5) / half)
            scale = f32(scale2 / 2 ** random.randrange(8)) if scheme == TWIN_SOFTMAX \
                else f32(random.uniform(0.01, 0.5) / half)
            zero = random.randrange(-half, half) if scheme == TWIN_GELU else 0
            data = [(c.c_float * 1)(x) for x in (scale, scale2)] + [(c.c_int32 * 1)(zero)]
            parameters = (Parameter * 3)(*[Parameter(key, dtype_, 1, c.addressof(x)) for
                                           key, dtype_, x in zip((SCALE, SCALE2, ZERO_POINT),
                                                                 (F32, F32, S32), data)])
            options = library.options(QuantizerOptions, "qvit_quantizer_options", scheme=scheme,
                                      bits=bits, parameters=parameters,
                                      count=3 if scheme == TWIN_GELU else 2)
            quantizer = library.make("qvit_quantizer_create", library.engine, c.byref(options))
            values = [random.uniform(-0.3, 1.7) for _ in range(300)] + [0.0, half * scale,
                                                                        -half * scale]
            values += [(i + 0.5) * s for s in (scale, scale2)
                       for i in range(-half, half, max(1, half // 8))]
            values = [f32(x) for x in values]
            dims = [len(values)]
            source, back = library.tensor(values, dims), library.tensor(values, dims)
            codes = library.tensor([0] * len(values), dims, dtype)
            library.call("qvit_quantizer_encode", quantizer, c.byref(source), c.byref(codes))
            library.call("qvit_quantizer_decode", quantizer, c.byref(codes), c.byref(back))
            for x, code, value in zip(values, codes.memory, back.memory):
                wanted = code_of(x, scale, scale2, bits, zero)
                meaning = f32(twin_value(wanted, scheme, scale, scale2, bits, zero))
                if code != wanted or value != meaning:
                    raise AssertionError("%d bits, %.9g: code %d means %.9g, expected %d and %.9g" %
                                         (bits, x, code, value, wanted, meaning))


def ptq4vit_linear(library):
    """Weights in three parts, as those of q, k and v; then a twin behind a GELU."""
    k, n = 16, 9
    grids = grid(0.3, 1.2, 100)
    site = Site(library, (4, 7, k, n), laplace(28 * k), laplace(n * k, 0.1),
                gradient=laplace(28 * n), parts=3)
    Search(site, "ptq4vit", hessian_score, grids, ("input=symmetric", "weights=layer")).run(4, 4, 3)
    site = Site(library, (4, 7, k, n), gelu(28 * k), laplace(n * k, 0.1), kind=GELU,
                gradient=laplace(28 * n))
    start = ("input=symmetric", "weights=layer", "twin=softmax,gelu")
    found = Search(site, "ptq4vit", hessian_score, grids, start).run(4, 4, 3)
    expect("fixed range", found.input[SCALE][0], -min(site.input) / 2 ** 3, 2e-6)


def ptq4vit_softmax(library):
    samples, heads, rows, k, n = 3, 2, 6, 12, 4
    for bits in (4, 6):
        site = Site(library, (samples, rows, k, n), softmax(samples * heads * rows, k),
                    laplace(samples * heads * n * k), kind=SOFTMAX, heads=heads,
                    gradient=laplace(samples * heads * rows * n))
        start = ("input=symmetric", "weights=layer", "twin=softmax,gelu")
        search = Search(site, "ptq4vit", hessian_score, grid(0.3, 1.2, 100), start)
        found = search.run(bits, bits, 3)
        expect("fixed range", found.input[SCALE2][0], 1 / (2 ** (bits - 1) - 1), 2e-6)


CHECKS = (aciq_weights_and_inputs, aciq_asymmetric, aciq_heads,
          easyquant_search, easyquant_heads, liu_search_and_bias, liu_gain, liu_ranking,
          twin_round_trip, ptq4vit_linear, ptq4vit_softmax)


def main():
    build = sys.argv[1] if len(sys.argv) > 1 else "build"
    path = os.path.abspath(os.path.join(build, "libqvit.so"))
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else random.SystemRandom().randrange(2 ** 32)
    with open(path, "rb") as file:
        code = file.read()
    if any(name in code for name in (b"__asan_init", b"__tsan_init", b"__msan_init")):
        print("0 passed, 0 failed, %d skipped" % len(CHECKS))  # Python has no sanitizer's run time
        return 0
    library = Library(path)
    print("seed %d" % seed)
    failed = 0
    for number, check in enumerate(CHECKS):
        random.seed(seed + number)
        try:
            check(library)
            print("ok %s" % check.__name__)
        except (AssertionError, RuntimeError) as error:
            print("FAIL %s: %s" % (check.__name__, error))
            failed += 1
    print("%d passed, %d failed, 0 skipped" % (len(CHECKS) - failed, failed))
    return failed > 0


sys.exit(main())
