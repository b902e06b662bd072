// Sums of products: convolutions, matrix products. First `stage` writes x - zero point as floats, channels last, with the padding, so that
// no kernel asks where a border is; then every item sums PIXELS pixels x 16 channels in floats. A sum of whole numbers below 2^24 is exact
// in f32 in any order; before it could get there it is moved to 32-bit integers (every `flush` runs of `chunk` products).

kernel void stage(global const uchar* in, global float* out, int channels, int rows, int columns, int height, int width, int top, int left,
                  int s_image, int s_channel, int s_row, int s_column, int strip, uint flip, int zero) {
  const int row = get_global_id(1), image = row / rows, y = row % rows - top;
  const int first = (int)get_global_id(0) * strip, last = min(first + strip, columns);
  for (int column = first; column < last; ++column) {
    const int x = column - left;
    global float* to = out + (row * columns + column) * channels;
    if (y < 0 || y >= height || x < 0 || x >= width) {
      for (int c = 0; c < channels; ++c) to[c] = 0;
      continue;
    }
    global const uchar* from = in + image * s_image + y * s_row + x * s_column;
    int c = 0;
    if (s_channel == 1)
      for (; c + 16 <= channels; c += 16) vstore16(values16(vload16(0, from + c), (uchar)flip, zero), 0, to + c);
    for (; c < channels; ++c) to[c] = value(from[c * s_channel], (uchar)flip, zero);
  }
}

// The second tensor of a product as `dot` wants weights: [matrix][block of 16 columns][row][16].
kernel void pack(global const uchar* in, global const int* offsets, global float* out, int depth, int columns, int s_row, int s_column, uint flip, int zero) {
  const int k = get_global_id(0), block = get_global_id(1), matrix = get_global_id(2);
  const int blocks = get_global_size(1), n = min(16, columns - block * 16);
  global const uchar* from = in + offsets[matrix] + k * s_row + block * 16 * s_column;
  global float* to = out + ((matrix * blocks + block) * depth + k) * 16;
  for (int i = 0; i < 16; ++i) to[i] = i < n ? value(from[i * s_column], (uchar)flip, zero) : 0.f;
}

#define END_PARAMETERS                                                                                                             \
  global const float *bias, global const float *multiplier, global const uchar *residual, float residual_scale, uint residual_flip, \
      int residual_zero, global const int *table, int entries, float table_offset
#define END bias, multiplier, residual, residual_scale, residual_flip, residual_zero, table, entries, table_offset

// From 16 sums to `n` elements of the output, the first at `at` and the others `step` behind it: bias, multiplier, residual (which lies as the
// output does), activation. `lane`: of bias and multiplier.
inline void finish(int16 sum, int lane, int n, global uchar* out, int at, int step, END_PARAMETERS, SINK_PARAMETERS) {
  float16 v = (convert_float16(sum) + vload16(0, bias + lane)) * vload16(0, multiplier + lane);
  if (residual_scale != 0) {
    v = fma(values16(take16(residual + at, step, n), (uchar)residual_flip, residual_zero), (float16)(residual_scale), v);
  }
  if (entries == 0) {
    put16(v, out, at, step, n, SINK);
    return;
  }
  int place[16];
  vstore16(convert_int16(rint(clamp16(clamp16(v, low, high) + table_offset, 0.f, (float)(entries - 1)))), 0, place);
  for (int i = 0; i < n; ++i) {
    const int entry = table[place[i]];
    if (floats) ((global float*)out)[at + i * step] = as_float(entry);
    else out[at + i * step] = (uchar)entry;
  }
}

#define PIXELS 6
#define EACH(DO) DO(0) DO(1) DO(2) DO(3) DO(4) DO(5)

// Pixels are counted through all images. strides: image, channel, row, column. Axis 2 of the items: matrices of a batched product.
kernel void dot16(global const float* in, int s_image, int s_row, int s_column, global const float* weights, global const int* taps, int n_taps,
                  int depth, int chunk, int flush, int group_channels, int group_blocks, global const int* matrices, int pixels, int per_image,
                  int width, int repeat, global uchar* out, int out_base, int4 strides, END_PARAMETERS, SINK_PARAMETERS) {
  const int block = get_global_id(1), group = block / group_blocks, part = block % group_blocks;
  const int matrix = get_global_id(2), lanes = min(16, group_channels - part * 16), channel = group * group_channels + part * 16;
  const int s_weights = n_taps * depth * 16;
  weights += matrices[3 * matrix + 1] + block * s_weights;
  in += matrices[3 * matrix] + group * depth;
  const int base = out_base + matrices[3 * matrix + 2] + channel * strides.s1;
  for (int again = 0; again < repeat; ++again) {
    const int first = ((int)get_global_id(0) * repeat + again) * PIXELS;
    if (first >= pixels) return;
    int at[PIXELS];
    for (int p = 0; p < PIXELS; ++p) {
      const int pixel = min(first + p, pixels - 1), place = pixel % per_image;
      at[p] = pixel / per_image * s_image + place / width * s_row + place % width * s_column;
    }
#define DECLARE(p) float8 a##p = 0, b##p = 0; int8 i##p = 0, j##p = 0; const int at##p = at[p];
    EACH(DECLARE)
    int since = 0;
    global const float* w = weights;
    for (int t = 0; t < n_taps; ++t) {
      for (int d = 0; d < depth; d += chunk) {
        global const float* from = in + taps[t] + d;
        const int n = min(chunk, depth - d);
        for (int k = 0; k < n; ++k) {
          const float8 w0 = vload8(0, w), w1 = vload8(1, w);
          w += 16;
#define STEP(p) { const float8 x = (float8)(from[at##p + k]); a##p = fma(x, w0, a##p); b##p = fma(x, w1, b##p); }
          EACH(STEP)
        }
        if (++since < flush) continue;
        since = 0;
#define FLUSH(p) i##p += convert_int8(a##p); j##p += convert_int8(b##p); a##p = 0; b##p = 0;
        EACH(FLUSH)
      }
    }
    int16 sums[PIXELS];
#define SUM(p) sums[p] = (int16)(i##p + convert_int8(a##p), j##p + convert_int8(b##p));
    EACH(SUM)
    for (int p = 0; p < PIXELS && first + p < pixels; ++p) {
      const int place = (first + p) % per_image;
      const int at_out = base + (first + p) / per_image * strides.s0 + place / width * strides.s2 + place % width * strides.s3;
      finish(sums[p], block * 16, lanes, out, at_out, strides.s1, END, SINK);
    }
  }
}

// One input channel for each output channel: 16 of them at once. Sums stay below 2^24 (the host sees to it).
kernel void depthwise16(global const float* in, int s_image, int s_row, int s_column, global const float* weights, global const int* taps, int n_taps,
                        int channels, int padded, int pixels, int per_image, int width, int repeat, global uchar* out, int4 strides,
                        END_PARAMETERS, SINK_PARAMETERS) {
  const int channel = (int)get_global_id(1) * 16, n = min(16, channels - channel);
  const int first = (int)get_global_id(0) * repeat, last = min(first + repeat, pixels);
  for (int pixel = first; pixel < last; ++pixel) {
    const int image = pixel / per_image, place = pixel % per_image, y = place / width, x = place % width;
    global const float* from = in + image * s_image + y * s_row + x * s_column + channel;
    float16 sum = 0;
    for (int t = 0; t < n_taps; ++t) sum = fma(vload16(0, from + taps[t]), vload16(0, weights + t * padded + channel), sum);
    finish(convert_int16(sum), channel, n, out, image * strides.s0 + channel * strides.s1 + y * strides.s2 + x * strides.s3, strides.s1, END, SINK);
  }
}
