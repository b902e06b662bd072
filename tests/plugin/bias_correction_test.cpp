// Fast bias correction on a graph of one dense layer whose arithmetic the test does itself.
#include <cmath>
#include <map>
#include <random>

#include "core/plugin/host.hpp"
#include "core/plugin/plugin.hpp"
#include "tests/plugin/support.hpp"

namespace quern {
namespace {
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using namespace quern::testing;

// y[n][c] = sum_k x[n][k] w[c][k] + b[c]. Values: 0 x, 1 w, 2 b, 3 y.
class Dense {
 public:
  static constexpr size_t K = 16, C = 6, N = 64;
  std::vector<float> x, w, wq, b;
  bool quantized = true, has_bias = true;
  double fake_worse = 0;                 // added to the measured error of a changed bias, all channels
  double fake_worse_channel = -1;        // or of this channel only
  std::vector<std::string> log;          // begin, set, commit, rollback
  struct Line { std::string node, action, reason; double before, after; };
  std::vector<Line> lines;
  std::map<uint32_t, int> requested;     // value -> kinds as bits

  Dense() : x(N * K), w(C * K), b(C) {
    std::mt19937 random(3);
    std::uniform_real_distribution<float> u(-1, 1);
    for (float& v : x) v = 0.5f + 0.5f * u(random);  // a mean far from 0: rounding errors add up to a shift
    for (float& v : w) v = u(random);
    for (size_t c = 0; c < C; ++c) b[c] = c == 0 ? 0.0f : u(random);  // one bias of exactly 0
    wq = w;
    for (float& v : wq) v = std::round(v * 4) / 4;
    original_ = b;
    make_table();
  }
  std::vector<double> means() const {
    std::vector<double> m(K);
    for (size_t i = 0; i < x.size(); ++i) m[i % K] += x[i] / static_cast<double>(N);
    return m;
  }
  // The shift as defined: through the mean input.
  double shift(size_t c) const {
    double s = 0;
    for (size_t k = 0; k < K; ++k) s += static_cast<float>(means()[k]) * (double{w[c * K + k]} - wq[c * K + k]);
    return s;
  }
  double measured(size_t c, const std::vector<float>& bias) const {
    double sum = 0;
    for (size_t n = 0; n < N; ++n) {
      double e = double{bias[c]} - original_[c];
      for (size_t k = 0; k < K; ++k) e += x[n * K + k] * (double{wq[c * K + k]} - w[c * K + k]);
      sum += e * e;
    }
    return sum / N;
  }
  const std::vector<float>& original() const { return original_; }

  void run(const std::string& parameters) {
    const StageHandle stage = handle();
    std::vector<std::pair<uint32_t, quern_stat_request>> requests;
    auto plan = abi_struct<quern_stat_plan>();
    plan.self = this;
    plan.request = [](void* self, uint32_t value, const quern_stat_request* r) -> quern_status* {
      static_cast<Dense*>(self)->requested[value] |= 1 << r->kind;
      return nullptr;
    };
    throw_if_failed(stage.table->plan(stage.table->self, str_of(parameters), &table_, &plan), "p", "planning");
    throw_if_failed(stage.table->run(stage.table->self, str_of(parameters), &table_), "p", "running");
  }
  static StageHandle handle() {
    static PluginRegistry registry(only({own_plugin("bias_correction")}));
    return registry.stage("bias_correction");
  }

 private:
  std::vector<float> original_, undo_, scratch_;
  std::vector<double> d0_, d1_, d2_;
  quern_graph table_{};
  const int64_t dims_[4][2] = {{-1, K}, {C, K}, {C, 0}, {-1, C}};
  const int64_t strides_[4][2] = {{K, 1}, {K, 1}, {1, 0}, {C, 1}};
  const int64_t out_dims_[2] = {1, C};
  const int32_t inputs_[3] = {0, 1, 2}, outputs_[1] = {3};
  bool open_ = false;

  static Dense& of(void* self) { return *static_cast<Dense*>(self); }
  static quern_status* refuse(const char* why) { return new_status(QUERN_FAILED_PRECONDITION, why); }
  void make_table() {
    table_ = abi_struct<quern_graph>();
    table_.self = this;
    table_.node_count = [](void*) -> uint32_t { return 1; };
    table_.node = [](void* self, uint32_t, quern_node_view* out) -> quern_status* {
      out->name = str_of("fc");
      out->op = str_of("Gemm");
      out->n_inputs = of(self).has_bias ? 3 : 2;
      out->n_outputs = 1;
      out->inputs = of(self).inputs_;
      out->outputs = of(self).outputs_;
      return nullptr;
    };
    table_.value = [](void* self, uint32_t i, quern_value_view* out) -> quern_status* {
      out->is_constant = i == 1 || i == 2;
      out->rank = i == 2 ? 1 : 2;
      out->dims = of(self).dims_[i];
      return nullptr;
    };
    table_.slot_of_role = [](void* self, uint32_t, quern_str role) -> int32_t {
      const std::string r = text_of(role);
      return r == "input" ? 0 : r == "weight" ? 1 : r == "bias" && of(self).has_bias ? 2 : -1;
    };
    table_.read_constant = [](void* self, uint32_t i, quern_tensor* out) -> quern_status* {
      auto& v = i == 1 ? of(self).w : of(self).b;
      out->data = v.data();
      out->bytes = v.size() * 4;
      out->dtype = QUERN_DTYPE_F32;
      out->rank = i == 1 ? 2 : 1;
      out->dims = of(self).dims_[i];
      out->strides = of(self).strides_[i];
      return nullptr;
    };
    table_.quantizer_of = [](void* self, uint32_t, uint32_t slot, quern_quant*, int32_t* found) -> quern_status* {
      *found = slot == 1 && of(self).quantized;
      return nullptr;
    };
    table_.statistic = [](void* self, uint32_t value, const quern_stat_request* r, quern_statistic* out) -> quern_status* {
      Dense& d = of(self);
      if (!(d.requested[value] >> r->kind & 1)) return refuse("was not requested");
      out->request = *r;
      if (r->kind == QUERN_STAT_MEAN) {
        d.d0_ = d.means();
        out->channels = K;
        out->mean = d.d0_.data();
      } else {
        d.d1_.assign(C, -3);
        d.d2_.assign(C, 3);
        out->channels = C;
        out->low = d.d1_.data();
        out->high = d.d2_.data();
      }
      return nullptr;
    };
    table_.run_node = [](void* self, uint32_t, const quern_tensor* inputs, uint32_t n, uint32_t quantized, quern_tensor* out) -> quern_status* {
      Dense& d = of(self);
      if (n != 3 || !inputs[0].data || inputs[1].data || inputs[2].data || inputs[0].dims[0] != 1 || inputs[0].dims[1] != int64_t{K})
        return refuse("odd inputs");
      const float* in = static_cast<const float*>(inputs[0].data);
      d.scratch_.assign(C, 0);
      for (size_t c = 0; c < C; ++c) {
        double s = d.b[c];
        for (size_t k = 0; k < K; ++k) s += in[k] * double{(quantized ? d.wq : d.w)[c * K + k]};
        d.scratch_[c] = static_cast<float>(s);
      }
      out->data = d.scratch_.data();
      out->bytes = C * 4;
      out->dtype = QUERN_DTYPE_F32;
      out->rank = 2;
      out->dims = d.out_dims_;
      out->strides = d.strides_[3];
      return nullptr;
    };
    table_.measure = [](void* self, uint32_t, uint32_t samples, double* square, double* difference, uint64_t channels) -> quern_status* {
      Dense& d = of(self);
      if (channels != C || samples != 8) return refuse("odd measure");
      for (size_t c = 0; c < C; ++c) {
        square[c] = d.measured(c, d.b);
        difference[c] = static_cast<double>(d.b[c]) - d.original_[c] - d.shift(c);
        if (d.b[c] != d.original_[c] && (d.fake_worse_channel < 0 || d.fake_worse_channel == static_cast<double>(c))) square[c] += d.fake_worse;
      }
      return nullptr;
    };
    table_.begin = [](void* self) -> quern_status* {
      Dense& d = of(self);
      if (d.open_) return refuse("open already");
      d.open_ = true;
      d.undo_ = d.b;
      d.log.push_back("begin");
      return nullptr;
    };
    table_.set_constant = [](void* self, uint32_t value, const quern_tensor* t) -> quern_status* {
      Dense& d = of(self);
      if (!d.open_ || value != 2 || t->rank != 1 || t->dims[0] != int64_t{C} || t->dtype != QUERN_DTYPE_F32) return refuse("odd set_constant");
      d.b.assign(static_cast<const float*>(t->data), static_cast<const float*>(t->data) + C);
      d.log.push_back("set");
      return nullptr;
    };
    table_.commit = [](void* self) -> quern_status* {
      if (!of(self).open_) return refuse("not open");
      of(self).open_ = false;
      of(self).log.push_back("commit");
      return nullptr;
    };
    table_.rollback = [](void* self) -> quern_status* {
      if (!of(self).open_) return refuse("not open");
      of(self).open_ = false;
      of(self).b = of(self).undo_;
      of(self).log.push_back("rollback");
      return nullptr;
    };
    table_.report = [](void* self, quern_str node, quern_str action, quern_str reason, double before, double after) -> quern_status* {
      of(self).lines.push_back({text_of(node), text_of(action), text_of(reason), before, after});
      return nullptr;
    };
  }
};

const char* eight = R"({"samples": 8})";

TEST(BiasCorrection, TakesTheShiftOfRoundedWeightsBack) {
  Dense d;
  d.run(eight);
  EXPECT_THAT(d.log, ElementsAre("begin", "set", "commit"));
  for (size_t c = 0; c < Dense::C; ++c) {
    EXPECT_NEAR(d.b[c], d.original()[c] + d.shift(c), 1e-5) << c;  // also where the bias was 0
    EXPECT_NE(d.b[c], d.original()[c]);
    EXPECT_LT(d.measured(c, d.b), d.measured(c, d.original()));
  }
  ASSERT_EQ(d.lines.size(), 1u);
  EXPECT_EQ(d.lines[0].node, "fc");
  EXPECT_EQ(d.lines[0].action, "corrected");
  EXPECT_THAT(d.lines[0].reason, HasSubstr("6 of 6 channels"));
  EXPECT_LT(d.lines[0].after, d.lines[0].before);
  EXPECT_EQ(d.requested[0], 1 << QUERN_STAT_MEAN);
  EXPECT_EQ(d.requested[3], 1 << QUERN_STAT_MIN_MAX);
}

TEST(BiasCorrection, IsUndoneWhenTheErrorGetsWorse) {
  Dense d;
  d.fake_worse = 100;
  d.run(eight);
  EXPECT_THAT(d.log, ElementsAre("begin", "set", "rollback"));
  EXPECT_EQ(d.b, d.original());
  EXPECT_EQ(d.lines[0].action, "left");
  EXPECT_THAT(d.lines[0].reason, HasSubstr("did not get lower"));
  EXPECT_EQ(d.lines[0].before, d.lines[0].after);
}

TEST(BiasCorrection, ChannelsAreJudgedOneByOne) {
  Dense d;
  d.fake_worse = 100;
  d.fake_worse_channel = 2;
  d.run(eight);
  EXPECT_THAT(d.log, ElementsAre("begin", "set", "set", "commit"));
  EXPECT_EQ(d.b[2], d.original()[2]);
  EXPECT_NE(d.b[1], d.original()[1]);
  EXPECT_THAT(d.lines[0].reason, HasSubstr("5 of 6 channels"));
  EXPECT_THAT(d.lines[0].reason, HasSubstr("1 got worse"));
  EXPECT_LT(d.lines[0].after, d.lines[0].before);
}

TEST(BiasCorrection, GateIsRelativeToTheOutput) {
  Dense d;
  double largest = 0;
  for (size_t c = 0; c < Dense::C; ++c) largest = std::max(largest, std::abs(d.shift(c)));
  // The output's range is 6: a threshold just below the largest shift leaves that channel alone.
  d.run("{\"samples\": 8, \"threshold\": " + std::to_string(largest / 6 * 0.99) + "}");
  int same = 0;
  for (size_t c = 0; c < Dense::C; ++c) same += d.b[c] == d.original()[c];
  EXPECT_EQ(same, 1);
  EXPECT_THAT(d.lines[0].reason, HasSubstr("1 above the threshold"));
  Dense none;
  none.run(R"({"samples": 8, "threshold": 1e-9})");
  EXPECT_TRUE(none.log.empty());
  EXPECT_EQ(none.lines[0].action, "left");
}

TEST(BiasCorrection, FullTakesTheMeasuredDifferenceBack) {
  Dense d;
  d.run(R"({"mode": "full", "samples": 8})");
  EXPECT_THAT(d.log, ElementsAre("begin", "set", "commit"));
  for (size_t c = 0; c < Dense::C; ++c) EXPECT_NEAR(d.b[c], d.original()[c] + d.shift(c), 1e-5) << c;
  for (const auto& [value, kinds] : d.requested) EXPECT_EQ(kinds >> QUERN_STAT_MEAN & 1, 0) << "no means are needed, of value " << value;
  EXPECT_EQ(d.lines[0].action, "corrected");
}

TEST(BiasCorrection, LeavesWhatItCannotOrNeedNotCorrect) {
  Dense exact;
  exact.wq = exact.w;
  exact.run(eight);
  EXPECT_TRUE(exact.log.empty());
  EXPECT_THAT(exact.lines[0].reason, HasSubstr("does not shift"));
  Dense plain;
  plain.has_bias = false;
  plain.run(eight);
  EXPECT_TRUE(plain.log.empty() && plain.lines.empty() && plain.requested.empty());
  Dense floating;
  floating.quantized = false;
  floating.run(eight);
  EXPECT_TRUE(floating.log.empty() && floating.lines.empty());
}

TEST(BiasCorrection, ParametersAndCancelling) {
  auto says = [](const std::string& p) { return error_of([&] { Dense().run(p); }); };
  EXPECT_THAT(says(R"({"mode": "quick"})"), HasSubstr("no mode 'quick'"));
  EXPECT_THAT(says(R"({"samples": 0})"), HasSubstr("samples must be from 1"));
  EXPECT_THAT(says(R"({"samples": 1.5})"), HasSubstr("must be an integer"));
  EXPECT_THAT(says(R"({"threshold": -1})"), HasSubstr("threshold must be above 0"));
  EXPECT_THAT(says(R"({"treshold": 1})"), HasSubstr("unknown parameter 'treshold'"));
  EXPECT_THAT(says(R"({"samples": 9})"), HasSubstr("odd measure"));  // a failure of the host comes back as it was
  const StageHandle stage = Dense::handle();
  EXPECT_EQ(stage.table->when, uint32_t{QUERN_STAGE_AFTER_RANGES});
  EXPECT_EQ(text_of(stage.table->changes), "bias");
}

}  // namespace
}  // namespace quern
