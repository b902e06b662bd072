// Element by element, tensors of any strides: axes joined by the host, outermost first, the last one walked by the item. An item has a
// part of `part` elements of one row.

inline int4 walk(int row, int rank, int8 dims, int8 out, int8 a, int8 b) {
  int d[8], so[8], sa[8], sb[8];
  vstore8(dims, 0, d);
  vstore8(out, 0, so);
  vstore8(a, 0, sa);
  vstore8(b, 0, sb);
  int4 at = (int4)(0);
  for (int i = rank - 2; i >= 0; --i) {
    const int k = row % d[i];
    row /= d[i];
    at += k * (int4)(so[i], sa[i], sb[i], 0);
  }
  return at;
}

#define COPY 0
#define MAP 1
#define LOOK_UP 2

// Copies, maps by float(x - zero) * ratio, or looks up by the byte as it lies. steps: of the last axis.
kernel void rows(global const uchar* in, int in_base, global uchar* out, int out_base, int mode, int rank, int8 dims, int8 so, int8 sa, int length, int part,
                 int2 steps, uint flip, int zero, float ratio, global const int* table, SINK_PARAMETERS) {
  const int4 at = walk(get_global_id(0), rank, dims, so, sa, sa);
  const int first = (int)get_global_id(1) * part, last = min(first + part, length);
  for (int i = first; i < last; i += 16) {
    const int n = min(16, last - i), to = out_base + at.s0 + i * steps.s0;
    global const uchar* from = in + in_base + at.s1 + i * steps.s1;
    if (mode == LOOK_UP) {
      for (int k = 0; k < n; ++k) {
        const int entry = table[from[k * steps.s1]];
        if (floats) ((global float*)out)[to + k * steps.s0] = as_float(entry);
        else out[to + k * steps.s0] = (uchar)entry;
      }
      continue;
    }
    const uchar16 codes = take16(from, steps.s1, n);
    if (mode == MAP) {
      put16(values16(codes, (uchar)flip, zero) * ratio, out, to, steps.s0, n, SINK);
    } else if (n == 16 && steps.s0 == 1) {
      vstore16(codes, 0, out + to);
    } else {
      uchar lanes[16];
      vstore16(codes, 0, lanes);
      for (int k = 0; k < n; ++k) out[to + k * steps.s0] = lanes[k];
    }
  }
}

#define ADD 0
#define MUL 1
#define LARGER 2
#define SMALLER 3

kernel void pair(global const uchar* a, global const uchar* b, global uchar* out, int op, int rank, int8 dims, int8 so, int8 sa, int8 sb, int length,
                 int part, int4 steps, uint2 flip, int2 zero, float2 ratio, SINK_PARAMETERS) {
  const int4 at = walk(get_global_id(0), rank, dims, so, sa, sb);
  const int first = (int)get_global_id(1) * part, last = min(first + part, length);
  for (int i = first; i < last; i += 16) {
    const int n = min(16, last - i);
    const uchar16 ca = take16(a + at.s1 + i * steps.s1, steps.s1, n), cb = take16(b + at.s2 + i * steps.s2, steps.s2, n);
    float16 v;
    if (op == MUL) {
      v = convert_float16((convert_int16(ca ^ (uchar)flip.s0) - zero.s0) * (convert_int16(cb ^ (uchar)flip.s1) - zero.s1)) * ratio.s0;
    } else {
      const float16 x = values16(ca, (uchar)flip.s0, zero.s0) * ratio.s0, y = values16(cb, (uchar)flip.s1, zero.s1) * ratio.s1;
      v = op == ADD ? x + y : op == LARGER ? select(x, y, x < y) : select(x, y, y < x);
    }
    put16(v, out, at.s0 + i * steps.s0, steps.s0, n, SINK);
  }
}

// Every element from a place that is a sum over the output's axes of a table's entry for that axis; FILL: the code `fill`.
#define FILL INT_MIN
kernel void gather(global const uchar* in, int in_base, global uchar* out, global const int* table, int rank, int8 dims, int8 so, int8 begin, int length,
                   int map, uint fill, uint flip, int zero, float ratio, SINK_PARAMETERS) {
  int d[8], s[8], t[8];
  vstore8(dims, 0, d);
  vstore8(so, 0, s);
  vstore8(begin, 0, t);
  int row = get_global_id(0), to = 0, from = in_base;
  bool fills = false;
  for (int i = rank - 2; i >= 0; --i) {
    const int k = row % d[i], place = table[t[i] + k];
    row /= d[i];
    to += k * s[i];
    fills = fills || place == FILL;
    from += place == FILL ? 0 : place;
  }
  for (int i = 0; i < length; ++i) {
    const int place = table[t[rank - 1] + i], o = to + i * s[rank - 1];
    const uchar code = fills || place == FILL ? (uchar)fill : in[from + place];
    if (!map) {
      out[o] = code;
      continue;
    }
    put16((float16)(value(code, (uchar)flip, zero) * ratio), out, o, 1, 1, SINK);
  }
}
