// Conv, ConvTranspose, Gemm, MatMul: kernels/dot.cl. A transposed convolution is stride x stride convolutions, one for each phase of the output.
#include <algorithm>

#include "plugins/common/derive.hpp"
#include "plugins/common/dot_shape.hpp"
#include "plugins/gpu_opencl/kernel.hpp"

namespace quern_gpu {
namespace {

constexpr int64_t lanes = 16, tile = 6;  // channels and pixels of an item; PIXELS in dot.cl
constexpr int64_t repeats = 4;           // tiles of an item on a processor

int64_t blocks_of(int64_t channels) { return (channels + lanes - 1) / lanes; }

// How many products of numbers up to this size have a sum below 2^24, which f32 holds exactly.
int64_t exact_products(int64_t largest_product) { return std::max<int64_t>(1, ((int64_t{1} << 24) - 1) / std::max<int64_t>(1, largest_product)); }
int64_t largest_of(const QuantView& q) { return std::max<int64_t>(q.qmax() - q.zero_point(), q.zero_point() - q.qmin()); }

// The numbers that follow the sum.
struct End {
  Memory bias, multiplier, table;
  cl_float residual_scale = 0, table_offset = 0;
  Source residual;
  cl_int entries = 0;
  Sink sink;

  // groups x channels, each group filled up to whole blocks.
  End(const OpView& op, int64_t groups, int64_t channels) : sink(sink_of(op)) {
    const auto m = op.table<float>("multiplier");
    const quern_tensor* b = op.find_table("bias_f32");
    const auto all = static_cast<size_t>(groups * channels);
    if ((m.size() != all && m.size() != 1) || (b && op.table<float>("bias_f32").size() != all))
      throw Failure(QUERN_INVALID_ARGUMENT, std::string(op.name()) + ": a table has not one number per output channel");
    const int64_t padded = blocks_of(channels) * lanes;
    std::vector<float> mm(static_cast<size_t>(groups * padded), 1.f), bb(mm.size(), 0.f);
    for (int64_t g = 0; g < groups; ++g)
      for (int64_t c = 0; c < channels; ++c) {
        const auto from = static_cast<size_t>(g * channels + c), to = static_cast<size_t>(g * padded + c);
        mm[to] = m[m.size() == 1 ? 0 : from];
        if (b) bb[to] = op.table<float>("bias_f32")[from];
      }
    multiplier = device().memory(mm.size() * sizeof(float), mm.data());
    bias = device().memory(bb.size() * sizeof(float), bb.data());
    std::vector<int32_t> entry = activation_table(op);
    entries = static_cast<cl_int>(entry.size());
    if (entries) table_offset = op.table<float>("act_offset")[0];
    entry.resize(std::max<size_t>(1, entry.size()));
    table = device().memory(entry.size() * sizeof(int32_t), entry.data());
    if (const OperandView r = op.find("residual")) {
      if (r.is_constant()) throw Failure(QUERN_UNIMPLEMENTED, std::string(op.name()) + ": a constant is added as a residual");
      residual = source_of(op, r);
      residual_scale = op.table<float>("residual_scale")[0];
    }
  }
};

struct EndArguments { const End& end; cl_mem residual; };
void set_argument(cl_kernel kernel, cl_uint& at, const EndArguments& a) {
  const End& e = a.end;
  for (cl_mem m : {e.bias.get(), e.multiplier.get(), a.residual}) quern_gpu::set_argument(kernel, at, m);
  quern_gpu::set_argument(kernel, at, e.residual_scale);
  quern_gpu::set_argument(kernel, at, e.residual.flip);
  quern_gpu::set_argument(kernel, at, e.residual.zero);
  quern_gpu::set_argument(kernel, at, e.table.get());
  quern_gpu::set_argument(kernel, at, e.entries);
  quern_gpu::set_argument(kernel, at, e.table_offset);
  quern_gpu::set_argument(kernel, at, e.sink);
}

// The residual as the output lies: itself, or its codes broadcast into a scratch.
cl_mem residual_as(Context& context, cl_command_queue queue, const View* residual, const View& output, cl_mem none) {
  if (!residual) return none;
  const Dims dims = output.dims(), own = output.strides();
  bool same = residual->dims() == dims;
  for (size_t i = 0; same && i < dims.size(); ++i) same = dims[i] == 1 || residual->tensor->strides[i] == own[i];
  if (same) return residual->memory;
  const Dims wide = broadcast_strides(*residual->tensor, dims);
  quern_tensor from = *residual->tensor, to = *output.tensor;
  from.rank = to.rank;
  from.dims = dims.data();
  from.strides = wide.data();
  to.dtype = from.dtype;
  const cl_mem place = context.scratch(2, static_cast<size_t>(count_of(dims)));
  copy_elements(context, queue, {&from, residual->memory}, {&to, place});
  return place;
}

// A convolution of the staged input, one launch: a list of taps, and where the output's pixels lie.
struct Phase {
  int64_t height = 1, width = 1;           // of its part of the output
  int64_t row_step = 1, column_step = 1;   // in the staged input
  int64_t out_row = 0, out_column = 0, out_row_step = 1, out_column_step = 1;
  std::vector<int32_t> offsets;            // of the taps, in the staged input
  std::vector<std::array<int64_t, 2>> kernel;  // place in the kernel, by tap
  Memory taps, weights;
};

class DotKernel : public Kernel {
 public:
  explicit DotKernel(const OpView& op)
      : Kernel("dot", op, spatial(op) ? QUERN_LAYOUT_CHANNELS_LAST : QUERN_LAYOUT_ROW_MAJOR, spatial(op) ? QUERN_LAYOUT_CHANNELS_LAST : QUERN_LAYOUT_ROW_MAJOR),
        s_(dot_shape(op)), source_(source_of(op, op.input("input"))), input_(place_of(op, "input")),
        residual_(place_of(op, "residual")), matrix_(!spatial(op)) {
    if (!op.input("weight").is_constant() || input_ < 0) throw Failure(QUERN_INVALID_ARGUMENT, std::string(op.name()) + ": the weight is not a constant, or the input is one");
    const int64_t exact = exact_products(largest_of(activation_quant(op, op.input("input"))) * 127);
    depth_ = s_.ic / s_.groups;
    if (s_.transposed) transposed_phases();
    else conv_phase();
    small(s_.batch * rows_ * columns_ * s_.ic, "the padded input");
    const Phase& first = phases_.front();
    depthwise_ = phases_.size() == 1 && depth_ == 1 && s_.oc == s_.groups && s_.groups > 1 && static_cast<int64_t>(first.offsets.size()) <= exact;
    // Its channels lie side by side; those of groups are filled up to blocks.
    end_ = depthwise_ ? std::make_unique<End>(op, 1, s_.oc) : std::make_unique<End>(op, s_.groups, s_.oc / s_.groups);
    chunk_ = std::min(depth_, exact);
    flush_ = depth_ <= exact ? exact / depth_ : 1;
    const int8_t* w = op.input("weight").tensor().values<const int8_t>().data();
    for (Phase& p : phases_) {
      const std::vector<float> packed = depthwise_ ? pack_depthwise(p, w) : pack(p, w);
      p.weights = device().memory(packed.size() * sizeof(float), packed.data());
      p.taps = device().memory(p.offsets.size() * sizeof(int32_t), p.offsets.data());
    }
    const std::vector<int32_t> zeros(4, 0);
    one_matrix_ = device().memory(zeros.size() * sizeof(int32_t), zeros.data());
    name_ = depthwise_ ? "gpu_opencl.depthwise" : s_.transposed ? "gpu_opencl.conv_transpose" : "gpu_opencl.dot";
  }

  void enqueue(Context& context, cl_command_queue queue, Span<const View> inputs, const View& output) const override {
    const View& in = inputs[static_cast<size_t>(input_)];
    const cl_mem staged = context.scratch(0, static_cast<size_t>(s_.batch * rows_ * columns_ * s_.ic) * sizeof(float) + 256);
    const Dims is = image_strides(in), os = image_strides(output);
    const int64_t strip = strip_of(columns_);
    launch(context, queue, "stage", {(columns_ + strip - 1) / strip, s_.batch * rows_, 1}, in.memory, staged, cl_int(s_.ic), cl_int(rows_), cl_int(columns_), cl_int(s_.h.in),
           cl_int(s_.w.in), cl_int(top_), cl_int(left_), cl_int(is[0]), cl_int(is[1]), cl_int(is[2]), cl_int(is[3]), cl_int(strip), source_.flip, source_.zero);
    const EndArguments end{*end_, residual_as(context, queue, residual_ < 0 ? nullptr : &inputs[static_cast<size_t>(residual_)], output, end_->bias.get())};
    const int64_t s_row = columns_ * s_.ic;
    for (const Phase& p : phases_) {
      const int64_t per_image = p.height * p.width, pixels = s_.batch * per_image;
      const cl_int4 strides{{cl_int(os[0]), cl_int(os[1]), cl_int(os[2] * p.out_row_step), cl_int(os[3] * p.out_column_step)}};
      const int64_t repeat = device().is_cpu() ? (depthwise_ ? 16 : repeats) : 1, each = depthwise_ ? repeat : repeat * tile;
      const cl_int s_image(static_cast<cl_int>(rows_ * s_row)), row(static_cast<cl_int>(p.row_step * s_row)), column(static_cast<cl_int>(p.column_step * s_.ic));
      const int64_t channels = s_.oc / s_.groups;
      if (depthwise_) {
        launch(context, queue, "depthwise16", {(pixels + each - 1) / each, blocks_of(s_.oc), 1}, staged, s_image, row, column, p.weights.get(), p.taps.get(),
               cl_int(p.offsets.size()), cl_int(s_.oc), cl_int(blocks_of(s_.oc) * lanes), cl_int(pixels), cl_int(per_image), cl_int(p.width), cl_int(repeat), output.memory, strides, end);
      } else {
        launch(context, queue, "dot16", {(pixels + each - 1) / each, s_.groups * blocks_of(channels), 1}, staged, s_image, row, column, p.weights.get(), p.taps.get(),
               cl_int(p.offsets.size()), cl_int(depth_), cl_int(chunk_), cl_int(flush_), cl_int(channels), cl_int(blocks_of(channels)), one_matrix_.get(), cl_int(pixels),
               cl_int(per_image), cl_int(p.width), cl_int(repeat), output.memory, cl_int(p.out_row * os[2] + p.out_column * os[3]), strides, end);
      }
    }
  }

 private:
  static bool spatial(const OpView& op) { return op.op() == "Conv" || op.op() == "ConvTranspose"; }

  // Strides of image, channel, row, column; a matrix is an image of one row.
  Dims image_strides(const View& v) const {
    const Dims s = v.strides(), d = v.dims();
    if (matrix_) return {0, 1, 0, d.back()};
    return d.size() == 3 ? Dims{s[0], s[1], 0, s[2]} : Dims{s[0], s[1], s[2], s[3]};
  }

  void conv_phase() {
    rows_ = s_.h.in + s_.h.pad_begin + std::max<int64_t>(0, s_.h.pad_end);
    columns_ = s_.w.in + s_.w.pad_begin + std::max<int64_t>(0, s_.w.pad_end);
    top_ = s_.h.pad_begin;
    left_ = s_.w.pad_begin;
    Phase p;
    p.height = s_.h.out;
    p.width = s_.w.out;
    p.row_step = s_.h.stride;
    p.column_step = s_.w.stride;
    for (int64_t y = 0; y < s_.h.kernel; ++y)
      for (int64_t x = 0; x < s_.w.kernel; ++x) {
        p.offsets.push_back(static_cast<int32_t>((y * s_.h.dilation * columns_ + x * s_.w.dilation) * s_.ic));
        p.kernel.push_back({y, x});
      }
    phases_.push_back(std::move(p));
  }

  // Along one axis: output places o of a phase take input (o + pad - k * dilation) / stride for the k that divide.
  struct Line {
    int64_t first = 0, count = 0;                          // of the phase: output places first, first + stride, ...
    std::vector<std::pair<int64_t, int64_t>> taps;         // k, and the input of the first of them
  };
  static std::vector<Line> lines_of(const Axis& a, int64_t& before, int64_t& after) {
    std::vector<Line> lines;
    for (int64_t phase = 0; phase < std::min(a.stride, a.out); ++phase) {
      Line l;
      l.first = phase;
      l.count = (a.out - phase + a.stride - 1) / a.stride;
      for (int64_t k = 0; k < a.kernel; ++k) {
        const int64_t from = phase + a.pad_begin - k * a.dilation;
        if (((from % a.stride) + a.stride) % a.stride != 0) continue;
        const int64_t at = from / a.stride;  // exact
        l.taps.emplace_back(k, at);
        before = std::max(before, -at);
        after = std::max(after, at + l.count - a.in);
      }
      lines.push_back(std::move(l));
    }
    return lines;
  }

  void transposed_phases() {
    int64_t bottom = 0, right = 0;
    const std::vector<Line> rows = lines_of(s_.h, top_, bottom), columns = lines_of(s_.w, left_, right);
    rows_ = s_.h.in + top_ + bottom;
    columns_ = s_.w.in + left_ + right;
    for (const Line& r : rows)
      for (const Line& c : columns) {
        Phase p;
        p.height = r.count;
        p.width = c.count;
        p.out_row = r.first;
        p.out_column = c.first;
        p.out_row_step = s_.h.stride;
        p.out_column_step = s_.w.stride;
        for (const auto& [ky, y] : r.taps)
          for (const auto& [kx, x] : c.taps) {
            p.offsets.push_back(static_cast<int32_t>(((y + top_) * columns_ + x + left_) * s_.ic));
            p.kernel.push_back({ky, kx});
          }
        // A phase without taps is zeros: one tap of weight 0 at the first place.
        if (p.offsets.empty()) {
          p.offsets.push_back(0);
          p.kernel.push_back({-1, -1});
        }
        phases_.push_back(std::move(p));
      }
  }

  float weight(const int8_t* w, int64_t group, int64_t channel, int64_t k, const std::array<int64_t, 2>& place) const {
    if (place[0] < 0) return 0;
    const int64_t ocg = s_.oc / s_.groups, area = s_.h.kernel * s_.w.kernel, at = place[0] * s_.w.kernel + place[1];
    if (s_.columns) return w[k * s_.oc + channel];
    if (s_.transposed) return w[((group * depth_ + k) * ocg + channel) * area + at];
    return w[((group * ocg + channel) * depth_ + k) * area + at];
  }

  // [group][block][tap][depth][16]
  std::vector<float> pack(const Phase& p, const int8_t* w) const {
    const int64_t channels = s_.oc / s_.groups, blocks = blocks_of(channels);
    std::vector<float> out(static_cast<size_t>(s_.groups * blocks * lanes * depth_) * p.kernel.size(), 0.f);
    size_t at = 0;
    for (int64_t g = 0; g < s_.groups; ++g)
      for (int64_t b = 0; b < blocks; ++b)
        for (const auto& place : p.kernel)
          for (int64_t k = 0; k < depth_; ++k)
            for (int64_t i = 0; i < lanes; ++i, ++at)
              if (b * lanes + i < channels) out[at] = weight(w, g, b * lanes + i, k, place);
    return out;
  }

  // [tap][channels, filled up to whole blocks]
  std::vector<float> pack_depthwise(const Phase& p, const int8_t* w) const {
    const int64_t padded = blocks_of(s_.oc) * lanes;
    std::vector<float> out(static_cast<size_t>(padded) * p.kernel.size(), 0.f);
    for (size_t t = 0; t < p.kernel.size(); ++t)
      for (int64_t c = 0; c < s_.oc; ++c) out[t * static_cast<size_t>(padded) + static_cast<size_t>(c)] = weight(w, c, 0, 0, p.kernel[t]);
    return out;
  }

  DotShape s_;
  std::unique_ptr<End> end_;
  Source source_;
  int input_, residual_;
  bool matrix_, depthwise_ = false;
  int64_t depth_ = 1, chunk_ = 1, flush_ = 1;
  int64_t rows_ = 1, columns_ = 1, top_ = 0, left_ = 0;  // of the staged input, and where the image lies in it
  std::vector<Phase> phases_;
  Memory one_matrix_;
};

class ProductKernel : public Kernel {
 public:
  explicit ProductKernel(const OpView& op)
      : Kernel("product", op, QUERN_LAYOUT_ROW_MAJOR, QUERN_LAYOUT_ROW_MAJOR), end_(op, 1, dims_of(op.output()).back()), a_(source_of(op, op.input("input"))),
        b_(source_of(op, op.input("weight"))), a_at_(place_of(op, "input")), b_at_(place_of(op, "weight")), residual_(place_of(op, "residual")) {
    const Dims a = dims_of(op.input("input")), b = dims_of(op.input("weight")), out = dims_of(op.output());
    const size_t rank = out.size();
    const std::string where(op.name());
    if (a_at_ < 0 || b_at_ < 0) throw Failure(QUERN_UNIMPLEMENTED, where + ": a constant times a tensor");
    if (rank < 2 || a.size() < 2 || b.size() < 2 || a.size() > rank || b.size() > rank || a.back() != b[b.size() - 2] || a[a.size() - 2] != out[rank - 2] || b.back() != out[rank - 1])
      throw Failure(QUERN_INVALID_ARGUMENT, where + ": the two tensors and the output do not fit each other");
    if (op.has("bias")) throw Failure(QUERN_UNIMPLEMENTED, where + ": a bias in a product of two tensors");
    m_ = out[rank - 2];
    n_ = out[rank - 1];
    k_ = a.back();
    a_size_ = count_of(a);
    const int64_t exact = exact_products(largest_of(activation_quant(op, op.input("input"))) * largest_of(activation_quant(op, op.input("weight"))));
    chunk_ = std::min(k_, exact);
    flush_ = k_ > 0 && k_ <= exact ? exact / k_ : 1;
    // Which matrices meet: offsets into a, the packed b, and the output.
    std::vector<int32_t> matrices, b_offsets;
    const int64_t packed = blocks_of(n_) * k_ * lanes, b_count = k_ * n_ > 0 ? count_of(b) / (k_ * n_) : 0;
    for (int64_t i = 0; i < b_count; ++i) b_offsets.push_back(static_cast<int32_t>(i * k_ * n_));
    batch_ = m_ * n_ > 0 ? count_of(out) / (m_ * n_) : 0;
    small(b_count * packed, "the second tensor");
    b_count_ = b_count;
    for (int64_t i = 0; i < batch_; ++i) {
      matrices.push_back(static_cast<int32_t>(matrix_of(where, a, out, i) * m_ * k_));
      matrices.push_back(static_cast<int32_t>(matrix_of(where, b, out, i) * packed));
      matrices.push_back(static_cast<int32_t>(i * m_ * n_));
    }
    const int32_t zero = 0;
    if (matrices.empty()) matrices.push_back(0);
    if (b_offsets.empty()) b_offsets.push_back(0);
    matrices_ = device().memory(matrices.size() * sizeof(int32_t), matrices.data());
    b_offsets_ = device().memory(b_offsets.size() * sizeof(int32_t), b_offsets.data());
    tap_ = device().memory(sizeof(zero), &zero);
  }

  void enqueue(Context& context, cl_command_queue queue, Span<const View> inputs, const View& output) const override {
    const View &a = inputs[static_cast<size_t>(a_at_)], &b = inputs[static_cast<size_t>(b_at_)];
    const int64_t rows = k_ > 0 ? a_size_ / k_ : 0, strip = strip_of(rows);
    const cl_mem staged = context.scratch(0, static_cast<size_t>(a_size_) * sizeof(float) + 256);
    const cl_mem packed = context.scratch(1, static_cast<size_t>(b_count_ * blocks_of(n_) * k_ * lanes) * sizeof(float) + 256);
    launch(context, queue, "stage", {strip > 0 ? (rows + strip - 1) / strip : 0, 1, 1}, a.memory, staged, cl_int(k_), cl_int{1}, cl_int(rows), cl_int{1}, cl_int(rows), cl_int{0}, cl_int{0},
           cl_int{0}, cl_int{1}, cl_int{0}, cl_int(k_), cl_int(strip), a_.flip, a_.zero);
    launch(context, queue, "pack", {k_, blocks_of(n_), b_count_}, b.memory, b_offsets_.get(), packed, cl_int(k_), cl_int(n_), cl_int(n_), cl_int{1}, b_.flip, b_.zero);
    const EndArguments end{end_, residual_as(context, queue, residual_ < 0 ? nullptr : &inputs[static_cast<size_t>(residual_)], output, end_.bias.get())};
    const int64_t repeat = device().is_cpu() ? repeats : 1, each = repeat * tile;
    const cl_int4 strides{{0, 1, 0, cl_int(n_)}};
    launch(context, queue, "dot16", {(m_ + each - 1) / each, blocks_of(n_), batch_}, staged, cl_int{0}, cl_int{0}, cl_int(k_), packed, tap_.get(), cl_int{1}, cl_int(k_), cl_int(chunk_),
           cl_int(flush_), cl_int(n_), cl_int(blocks_of(n_)), matrices_.get(), cl_int(m_), cl_int(m_), cl_int(m_), cl_int(repeat), output.memory, cl_int{0}, strides, end);
  }

 private:
  // The matrix of a tensor of these dims that meets matrix `index` of the output.
  static int64_t matrix_of(const std::string& where, const Dims& dims, const Dims& out, int64_t index) {
    int64_t at = 0, step = 1;
    for (size_t i = 2; i < out.size(); ++i) {
      const int64_t size = out[out.size() - 1 - i], k = index % size;
      index /= size;
      if (i >= dims.size()) continue;
      const int64_t own = dims[dims.size() - 1 - i];
      if (own != 1 && own != size) throw Failure(QUERN_INVALID_ARGUMENT, where + ": the batch axes of the two tensors do not fit each other");
      at += own == 1 ? 0 : k * step;
      step *= own;
    }
    return at;
  }

  End end_;
  Source a_, b_;
  int a_at_, b_at_, residual_;
  int64_t m_ = 1, n_ = 1, k_ = 1, a_size_ = 0, batch_ = 1, b_count_ = 1, chunk_ = 1, flush_ = 1;
  Memory matrices_, b_offsets_, tap_;
};

}  // namespace

std::unique_ptr<Kernel> compile_dot(const OpView& op) {
  std::string reason;
  if (!supports(op, reason)) throw Failure(QUERN_UNIMPLEMENTED, std::string(op.name()) + ": " + reason);
  return std::make_unique<DotKernel>(op);
}

std::unique_ptr<Kernel> compile_product(const OpView& op) {
  std::string reason;
  if (!supports(op, reason)) throw Failure(QUERN_UNIMPLEMENTED, std::string(op.name()) + ": " + reason);
  return std::make_unique<ProductKernel>(op);
}

}  // namespace quern_gpu
