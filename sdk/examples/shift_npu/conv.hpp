// Conv, and Gemm as a 1x1 convolution of an image of one point: 32-bit sums of products from the bias on, a shift, the output's codes.
struct Conv : Kernel {
  std::vector<int8_t> weight;  // [out channels][channels of a group][kernel height][kernel width]
  std::vector<int32_t> bias;
  int64_t batch = 1, channels = 1, height = 1, width = 1, out_channels = 1, out_height = 1, out_width = 1;
  int64_t kernel_height = 1, kernel_width = 1, group = 1;
  std::vector<int64_t> strides{1, 1}, dilations{1, 1}, pads{0, 0, 0, 0};

  explicit Conv(const OpView& op) {
    const TensorView in = op.input("input").tensor(), out = op.output().tensor(), w = op.input("weight").tensor();
    const Span<const int8_t> values = w.values<const int8_t>();
    batch = in.dim(0);
    channels = in.dim(1);
    out_channels = out.dim(1);
    if (op.op() == "Conv") {
      const NodeView node = op.node(0);
      height = in.dim(2), width = in.dim(3), out_height = out.dim(2), out_width = out.dim(3);
      kernel_height = w.dim(2), kernel_width = w.dim(3);
      group = node.integer("group", 1);
      strides = node.integers("strides", strides);
      dilations = node.integers("dilations", dilations);
      pads = node.integers("pads", pads);
      weight.assign(values.begin(), values.end());
    } else {
      const bool transposed = op.node(0).integer("transB", 0) != 0;
      for (int64_t o = 0; o < out_channels; ++o)
        for (int64_t c = 0; c < channels; ++c) weight.push_back(values[static_cast<size_t>(transposed ? o * channels + c : c * out_channels + o)]);
    }
    bias.assign(static_cast<size_t>(out_channels), 0);
    if (op.has("bias")) {
      const Span<const int32_t> b = op.input("bias").tensor().values<const int32_t>();
      for (size_t o = 0; o < bias.size(); ++o) bias[o] = b[b.size() == 1 ? 0 : o];
    }
  }

  void run(Span<const quern_tensor> inputs, const quern_tensor& output) const override {
    const Span<const int8_t> from = TensorView(inputs[0]).values<const int8_t>();
    const Span<int8_t> to = TensorView(output).values<int8_t>();
    const int64_t in_group = channels / group, out_group = out_channels / group;
    size_t at = 0;
    for (int64_t n = 0; n < batch; ++n)
      for (int64_t o = 0; o < out_channels; ++o)
        for (int64_t y = 0; y < out_height; ++y)
          for (int64_t x = 0; x < out_width; ++x) {
            int32_t sum = bias[static_cast<size_t>(o)];
            for (int64_t c = 0; c < in_group; ++c)
              for (int64_t i = 0; i < kernel_height; ++i)
                for (int64_t j = 0; j < kernel_width; ++j) {
                  const int64_t row = y * strides[0] - pads[0] + i * dilations[0], column = x * strides[1] - pads[1] + j * dilations[1];
                  if (row < 0 || row >= height || column < 0 || column >= width) continue;  // padding adds 0
                  const int64_t channel = n * channels + o / out_group * in_group + c;
                  sum += from[static_cast<size_t>((channel * height + row) * width + column)] *
                         weight[static_cast<size_t>(((o * in_group + c) * kernel_height + i) * kernel_width + j)];
                }
            to[at++] = finish(sum, shift, low);
          }
  }
};
