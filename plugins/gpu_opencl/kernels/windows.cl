// Pooling and resizing, channels last: an item has `strip` places of one row of the output and 16 channels.

// average: sum of x - zero; else the largest. counted: elements of every place of rows, then of columns; what it divides by is their product,
// and reciprocals[n] is 1 / n to half a bit.
kernel void pool(global const uchar* in, global uchar* out, int average, int mapped, int channels, int height, int width, int out_height, int out_width,
                 int2 kernel_size, int2 stride, int2 dilation, int2 pad, global const int* counted, global const float* reciprocals, int strip, uint flip,
                 int zero, float ratio, SINK_PARAMETERS) {
  const int row = get_global_id(1), image = row / out_height, oy = row % out_height, c = (int)get_global_id(2) * 16, n = min(16, channels - c);
  const int first = (int)get_global_id(0) * strip, last = min(first + strip, out_width);
  for (int ox = first; ox < last; ++ox) {
    int16 sum = (int16)(average ? 0 : -1);
    int taps = 0;
    for (int ky = 0; ky < kernel_size.s0; ++ky) {
      const int y = oy * stride.s0 - pad.s0 + ky * dilation.s0;
      if (y < 0 || y >= height) continue;
      for (int kx = 0; kx < kernel_size.s1; ++kx) {
        const int x = ox * stride.s1 - pad.s1 + kx * dilation.s1;
        if (x < 0 || x >= width) continue;
        const int16 codes = convert_int16(take16(in + ((image * height + y) * width + x) * channels + c, 1, n) ^ (uchar)flip);
        sum = average ? sum + codes : max(sum, codes);
        ++taps;
      }
    }
    const int at = (row * out_width + ox) * channels + c;
    float16 v;
    if (average) {
      const int window = counted[oy] * counted[out_height + ox];
      v = divided16(convert_float16(sum - taps * zero), (float)window, reciprocals[window]) * ratio;
    } else if (mapped) {
      v = convert_float16(sum - zero) * ratio;
    } else {
      const uchar16 codes = convert_uchar16(sum) ^ (uchar)flip;
      uchar lanes[16];
      vstore16(codes, 0, lanes);
      for (int i = 0; i < n; ++i) out[at + i] = lanes[i];
      continue;
    }
    put16(v, out, at, 1, n, SINK);
  }
}

// Sums of a few places, by the tables of the contract: per place of the output `taps` indices, then as many weights.
kernel void resample(global const uchar* in, global uchar* out, int channels, int height, int width, int out_height, int out_width, int2 taps,
                     global const int* rows, global const int* columns, int strip, uint flip, int zero, float ratio, SINK_PARAMETERS) {
  const int row = get_global_id(1), image = row / out_height, oy = row % out_height, c = (int)get_global_id(2) * 16, n = min(16, channels - c);
  const int first = (int)get_global_id(0) * strip, last = min(first + strip, out_width);
  global const int *row_weights = rows + out_height * taps.s0, *column_weights = columns + out_width * taps.s1;
  for (int ox = first; ox < last; ++ox) {
    int16 sum = 0;
    for (int i = 0; i < taps.s0; ++i) {
      for (int k = 0; k < taps.s1; ++k) {
        const int y = rows[oy * taps.s0 + i], x = columns[ox * taps.s1 + k];
        const int weight = row_weights[oy * taps.s0 + i] * column_weights[ox * taps.s1 + k];
        sum += (convert_int16(take16(in + ((image * height + y) * width + x) * channels + c, 1, n) ^ (uchar)flip) - zero) * weight;
      }
    }
    put16(convert_float16(sum) * ratio, out, (row * out_width + ox) * channels + c, 1, n, SINK);
  }
}
