// Units through the boundary and back: what the plugin sees, what the host takes, what runs.
#include "core/base/parallel.hpp"
#include "core/plugin/host.hpp"
#include "tests/plugin/support.hpp"

namespace quern {
namespace {
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using namespace quern::testing;

std::shared_ptr<const Target> npu() { return PluginRegistry(only({test_plugin("test_npu")})).target("npu"); }
std::shared_ptr<const Target> throws() { return PluginRegistry(only({test_plugin("test_throws")})).target("throws"); }

QuantParams u8_params(float scale) {
  QuantParams p;
  p.format = make_format(8, false, false);
  p.scale = {scale};
  p.zero_point = {0};
  return p;
}

IntegerUnit unit_of(const std::string& op, int since, std::map<std::string, Attribute> attributes, Dims input, std::vector<Tensor> constants = {}) {
  IntegerUnit unit;
  unit.name = "unit";
  UnitOperand x{.role = "input", .value = "x", .dtype = DType::u8, .dims = std::move(input), .params = u8_params(0.5f), .constant = nullptr};
  unit.operands.push_back(x);
  UnitMember member{.name = "node", .domain = "", .op = op, .since_version = since, .attributes = std::move(attributes), .inputs = {0}};
  const char* roles[] = {"weight", "bias"};
  for (size_t i = 0; i < constants.size(); ++i) {
    unit.operands.push_back({.role = roles[i], .value = roles[i], .dtype = constants[i].type(), .dims = constants[i].dims(), .params = {},
                             .constant = std::make_shared<const Tensor>(constants[i])});
    member.inputs.push_back(static_cast<int>(i) + 1);
  }
  unit.members.push_back(member);
  unit.output = {.role = "output", .value = "y", .dtype = DType::u8, .dims = {-1, 4, 8, 8}, .params = u8_params(0.25f), .constant = nullptr};
  return unit;
}

std::string text_of(const Tensor& t) { return {reinterpret_cast<const char*>(t.data()), t.bytes()}; }

TEST(Target, RulesAndProfiles) {
  const auto target = npu();
  EXPECT_EQ(target->rules("").profile, "v1");
  EXPECT_EQ(target->rules("v2").profile, "v2");
  EXPECT_THAT(error_of([&] { target->rules("v3"); }), HasSubstr("v3"));
  EXPECT_EQ(target->rules_text(), target->rules_text());
  std::string why;
  EXPECT_TRUE(target->available("", &why));
  EXPECT_FALSE(target->available("v2", &why));
  EXPECT_EQ(why, "no silicon of v2");
  IntegerUnit unit = unit_of("Relu", 14, {}, {-1, 4, 8, 8});
  EXPECT_TRUE(target->supports("", unit, nullptr));
  unit.members.push_back({.name = "second", .domain = "", .op = "Relu", .since_version = 14, .attributes = {}, .inputs = {-1}});
  EXPECT_FALSE(target->supports("", unit, &why));
  EXPECT_EQ(why, "one member only");
  double cycles = 0, bytes = 0;
  EXPECT_FALSE(target->cost("", unit, &cycles, &bytes));
}

TEST(Target, AttributesAreNormalised) {
  const auto target = npu();
  const Tensor weight = Tensor::of<int8_t>({4, 3, 3, 3}, std::vector<int8_t>(108, 5));
  // Nothing given: everything with a default is there.
  auto t = target->derive("", unit_of("Conv", 11, {}, {-1, 3, 8, 8}, {weight}));
  EXPECT_THAT(t.at("kernel_shape").values<int64_t>(), ElementsAre(3, 3));
  EXPECT_THAT(t.at("strides").values<int64_t>(), ElementsAre(1, 1));
  EXPECT_THAT(t.at("dilations").values<int64_t>(), ElementsAre(1, 1));
  EXPECT_THAT(t.at("pads").values<int64_t>(), ElementsAre(0, 0, 0, 0));
  EXPECT_THAT(t.at("group").values<int64_t>(), ElementsAre(1));
  EXPECT_EQ(text_of(t.at("auto_pad")), "NOTSET");
  EXPECT_THAT(t.at("weight").dims(), ElementsAre(4, 3, 3, 3));
  EXPECT_EQ(t.at("weight").type(), DType::s8);
  // SAME with a known size becomes numbers; with an unknown one it stays.
  std::map<std::string, Attribute> same{{"auto_pad", std::string("SAME_UPPER")}, {"strides", std::vector<int64_t>{2, 2}}};
  t = target->derive("", unit_of("Conv", 11, same, {-1, 3, 8, 8}, {weight}));
  EXPECT_THAT(t.at("pads").values<int64_t>(), ElementsAre(0, 0, 1, 1));
  EXPECT_EQ(text_of(t.at("auto_pad")), "NOTSET");
  t = target->derive("", unit_of("Conv", 11, same, {-1, 3, -1, -1}, {weight}));
  EXPECT_EQ(t.count("pads"), 0u);
  EXPECT_EQ(text_of(t.at("auto_pad")), "SAME_UPPER");
  t = target->derive("", unit_of("Conv", 11, {{"auto_pad", std::string("VALID")}}, {-1, 3, -1, -1}, {weight}));
  EXPECT_THAT(t.at("pads").values<int64_t>(), ElementsAre(0, 0, 0, 0));
  // Pooling, Gemm, axes.
  t = target->derive("", unit_of("AveragePool", 11, {{"kernel_shape", std::vector<int64_t>{2, 2}}, {"auto_pad", std::string("SAME_LOWER")}}, {1, 4, 5, 5}));
  EXPECT_THAT(t.at("pads").values<int64_t>(), ElementsAre(1, 1, 0, 0));
  EXPECT_THAT(t.at("count_include_pad").values<int64_t>(), ElementsAre(0));
  t = target->derive("", unit_of("Gemm", 13, {{"transB", int64_t{1}}}, {-1, 4}));
  EXPECT_THAT(t.at("alpha").values<float>(), ElementsAre(1.0f));
  EXPECT_THAT(t.at("transA").values<int64_t>(), ElementsAre(0));
  EXPECT_THAT(t.at("transB").values<int64_t>(), ElementsAre(1));
  t = target->derive("", unit_of("Concat", 13, {{"axis", int64_t{-3}}}, {-1, 4, 8, 8}));
  EXPECT_THAT(t.at("axis").values<int64_t>(), ElementsAre(1));
  t = target->derive("", unit_of("Softmax", 13, {}, {-1, 10}));
  EXPECT_THAT(t.at("axis").values<int64_t>(), ElementsAre(1));
  t = target->derive("", unit_of("Transpose", 13, {}, {-1, 4, 8}));
  EXPECT_THAT(t.at("perm").values<int64_t>(), ElementsAre(2, 1, 0));
  t = target->derive("", unit_of("ReduceMean", 13, {{"axes", std::vector<int64_t>{-1, -2}}}, {-1, 4, 8, 8}));
  EXPECT_THAT(t.at("axes").values<int64_t>(), ElementsAre(3, 2));
  EXPECT_THAT(t.at("keepdims").values<int64_t>(), ElementsAre(1));
}

TEST(Target, ConstantsAreAlignedAndBadTablesRefused) {
  const auto target = npu();
  // A constant at an odd address, as a mapped file may have it.
  auto storage = std::make_shared<std::vector<int8_t>>(200, int8_t{3});
  const Tensor odd(DType::s8, {4, 3, 3, 3}, storage, storage->data() + 1);
  const auto t = target->derive("", unit_of("Conv", 11, {}, {-1, 3, 8, 8}, {odd}));
  EXPECT_EQ(t.at("weight").values<int8_t>()[107], 3);
  IntegerUnit unit = unit_of("Relu", 14, {}, {-1, 4});
  auto failure = [&](const char* name) {
    unit.name = name;
    return error_of([&] { target->derive("", unit); });
  };
  EXPECT_THAT(failure("twice"), HasSubstr("table a is given twice"));
  EXPECT_THAT(failure("negative"), HasSubstr("-4"));
  EXPECT_THAT(failure("nonsense"), HasSubstr("element type 4711"));
  EXPECT_THAT(failure("unwilling"), HasSubstr("plugin test.npu: unwilling: this scale can't be had"));
}

TEST(Target, CompilesAndRuns) {
  const auto target = npu();
  IntegerUnit unit = unit_of("Relu", 14, {}, {-1, 4, 8, 8});
  unit.tables = target->derive("", unit);
  const Dims dims{2, 4, 8, 8};
  EXPECT_THAT(error_of([&] { target->compile("", unit, {}, dims, 1); }), HasSubstr("shapes of 0 inputs"));
  EXPECT_THAT(error_of([&] { target->compile("", unit, {dims, dims}, dims, 1); }), HasSubstr("shapes of 2 inputs"));
  for (int threads : {1, 3}) {
    const auto kernel = target->compile("", unit, {dims}, dims, threads);
    EXPECT_EQ(kernel->name(), "test.scaled");
    EXPECT_EQ(kernel->workspace_bytes(), 128u);
    EXPECT_THAT(kernel->input_layouts(), ElementsAre(QUERN_LAYOUT_ANY));
    auto context = kernel->make_context();
    Tensor in(DType::u8, dims), out(DType::u8, dims), work(DType::u8, {128});
    for (size_t i = 0; i < 512; ++i) in.mutable_values<uint8_t>()[i] = static_cast<uint8_t>(i);
    const Dims strides = row_major_strides(dims), last = channels_last_strides(dims);
    for (const Dims& s : {strides, last}) {
      const TensorView from{in.mutable_bytes(), DType::u8, dims, s}, to{out.mutable_bytes(), DType::u8, dims, s};
      kernel->execute(*context, std::span(&from, 1), std::span(&to, 1), work.mutable_bytes());
      for (size_t i = 0; i < 512; ++i) ASSERT_EQ(out.values<uint8_t>()[i], std::min<int>(255, static_cast<uint8_t>(i) * 2)) << i;
    }
    const TensorView from{in.mutable_bytes(), DType::s8, dims, strides}, to{out.mutable_bytes(), DType::u8, dims, strides};
    EXPECT_THAT(error_of([&] { kernel->execute(*context, std::span(&from, 1), std::span(&to, 1), work.mutable_bytes()); }), HasSubstr("u8 only"));
    EXPECT_EQ(kernel->saturations(*context), 0u);
    context.reset();
  }
}

// Built with the headers of interface 1.0 and 1.1: they know nothing of what came later, and work.
class OlderInterface : public ::testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(Target, OlderInterface, ::testing::Values("first", "second"));
TEST_P(OlderInterface, Works) {
  PluginRegistry registry(only({test_plugin("test_" + std::string(GetParam()) + "_abi")}));
  const auto target = registry.target(GetParam());
  IntegerUnit unit = unit_of("Relu", 14, {}, {-1, 4, 8, 8});
  EXPECT_TRUE(target->supports("v1", unit, nullptr));
  unit.tables = target->derive("v1", unit);
  const Dims dims{1, 4, 8, 8}, strides = row_major_strides(dims);
  const auto kernel = target->compile("v1", unit, {dims}, dims, 1);
  auto context = kernel->make_context();
  Tensor in(DType::u8, dims), out(DType::u8, dims), work(DType::u8, {128});
  for (size_t i = 0; i < 256; ++i) in.mutable_values<uint8_t>()[i] = static_cast<uint8_t>(i);
  const TensorView from{in.mutable_bytes(), DType::u8, dims, strides}, to{out.mutable_bytes(), DType::u8, dims, strides};
  kernel->execute(*context, std::span(&from, 1), std::span(&to, 1), work.mutable_bytes());
  EXPECT_EQ(out.values<uint8_t>()[100], 200);
  EXPECT_TRUE(registry.reader_names().empty());
}

TEST(Target, NothingThrownGetsAcross) {
  const auto target = throws();
  IntegerUnit unit = unit_of("Relu", 14, {}, {-1, 4});
  auto failure = [&](const char* name) {
    unit.name = name;
    return error_of([&] { target->derive("p", unit); });
  };
  EXPECT_THAT(failure("x"), HasSubstr("not this one"));
  EXPECT_THAT(failure("int"), HasSubstr("exception of unknown type"));
  EXPECT_THAT(failure("bad_alloc"), HasSubstr("out of memory"));
  EXPECT_THAT(failure("parallel"), HasSubstr("index 7"));  // the lowest that failed
  set_plugin_threads(4);
  EXPECT_THAT(failure("parallel"), HasSubstr("index 7"));
  set_plugin_threads(1);
  EXPECT_EQ(failure("handled"), "no error");
  EXPECT_THAT(error_of([&] { target->available("p", nullptr); }), HasSubstr("a runtime_error"));
  EXPECT_THAT(error_of([&] { target->compile("p", unit, {{1, 4}}, {1, 4}, 1); }), HasSubstr("no kernel"));
  double cycles = 0, bytes = 0;
  EXPECT_TRUE(target->cost("p", unit, &cycles, &bytes));
  EXPECT_EQ(cycles, 3);
  EXPECT_EQ(bytes, 4);
  EXPECT_TRUE(target->supports("p", unit, nullptr));  // no such function: everything is
}

TEST(Host, RandomNumbersDependOnSeedStreamAndIndex) {
  const quern_host* h = host_table("test.random");
  auto number = [&](const char* stream, uint64_t i) { return h->random(h->self, {stream, std::strlen(stream)}, i); };
  EXPECT_EQ(number("a", 5), host_table("another")->random(nullptr, {"a", 1}, 5));
  EXPECT_NE(number("a", 5), number("a", 6));
  EXPECT_NE(number("a", 5), number("b", 5));
  const uint64_t first = number("a", 5);
  set_plugin_seed(1);
  EXPECT_NE(number("a", 5), first);
  set_plugin_seed(0);
  EXPECT_EQ(number("a", 5), first);
  // Every bit is set about half of the time.
  int ones[64] = {};
  for (uint64_t i = 0; i < 4096; ++i)
    for (int b = 0; b < 64; ++b) ones[b] += number("bits", i) >> b & 1;
  for (int b = 0; b < 64; ++b) EXPECT_NEAR(ones[b], 2048, 200) << b;
}

TEST(Host, MemoryStatusAndCancel) {
  const quern_host* h = host_table("test.host");
  EXPECT_EQ(h, host_table("test.host"));
  void* p = h->alloc(h->self, 10, 4096);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(p) % 4096, 0u);
  h->release(h->self, p);
  EXPECT_EQ(h->alloc(h->self, 10, 48), nullptr);
  EXPECT_EQ(h->alloc(h->self, uint64_t{1} << 60, 64), nullptr);
  quern_status* status = h->make_status(h->self, QUERN_NOT_FOUND, {"gone", 4});
  EXPECT_EQ(h->status_code(h->self, status), QUERN_NOT_FOUND);
  EXPECT_EQ(text_of(Tensor::of<uint8_t>({1}, std::vector<uint8_t>{'x'})), "x");
  EXPECT_EQ(h->status_message(h->self, status).size, 4u);
  EXPECT_THAT(error_of([&] { throw_if_failed(status, "p", "doing it"); }), HasSubstr("plugin p: doing it: gone"));
  EXPECT_THAT(error_of([&] { throw_if_failed(h->make_status(h->self, QUERN_UNAVAILABLE, {nullptr, 0}), "p", "it"); }), HasSubstr("unavailable"));
  EXPECT_EQ(h->extension(h->self, {"no", 2}), nullptr);
  EXPECT_EQ(h->cancelled(h->self), 0);
  request_cancel();
  EXPECT_EQ(h->cancelled(h->self), 1);
  auto body = [](void*, int64_t) -> quern_status* { return nullptr; };
  status = h->parallel_for(h->self, 5, body, nullptr);
  ASSERT_NE(status, nullptr);
  EXPECT_EQ(h->status_code(h->self, status), QUERN_CANCELLED);
  try {
    throw_if_failed(status, "p", "it");
    ADD_FAILURE();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::interrupted);
  }
  clear_cancel();
}

}  // namespace
}  // namespace quern
