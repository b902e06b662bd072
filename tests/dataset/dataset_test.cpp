#include "core/dataset/dataset.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <clocale>
#include <cmath>
#include <cstdlib>
#include <functional>

#include "core/base/error.hpp"
#include "core/base/npy.hpp"
#include "core/numeric/rounding.hpp"

namespace quern {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string error_of(const std::function<void()>& f, ErrorCode code = ErrorCode::data) {
  try { f(); } catch (const Error& e) { EXPECT_EQ(e.code(), code) << e.what(); return std::string(e.what()) + " " + e.hint_text(); }
  return "no error";
}

class DatasetTest : public ::testing::Test {
 protected:
  void SetUp() override {
    folder = fs::path(::testing::TempDir()) / ("quern_dataset_" + std::to_string(::getpid()));
    fs::remove_all(folder);
    fs::create_directories(folder);
  }
  void TearDown() override { fs::remove_all(folder); }

  static Tensor ramp(Dims dims) {
    Tensor t(DType::f32, std::move(dims));
    auto v = t.mutable_values<float>();
    for (size_t i = 0; i < v.size(); ++i) v[i] = static_cast<float>(i) * 0.5f;
    return t;
  }
  template <class T>
  static Tensor counting(Dims dims) {
    Tensor t(dtype_of<T>::value, std::move(dims));
    auto v = t.mutable_values<T>();
    for (size_t i = 0; i < v.size(); ++i) v[i] = static_cast<T>(i % 200);
    return t;
  }
  std::unique_ptr<Dataset> open(const std::string& section, const std::vector<InputSpec>& inputs) {
    return open_dataset(parse_json(section, "test").as_object(), folder, inputs);
  }
  std::string refuse(const std::string& section, const std::vector<InputSpec>& inputs, ErrorCode code = ErrorCode::data) {
    return error_of([&] { open(section, inputs); }, code);
  }
  fs::path folder;
};

const std::vector<InputSpec> image{{"image", DType::f32, {-1, 3, 4, 5}}};

TEST_F(DatasetTest, NpzWithLabels) {
  write_npz(folder / "d.npz", {{"x", ramp({6, 3, 4, 5})}, {"y", counting<int64_t>({6})}});
  const auto d = open(R"({"reader": "npz", "path": "d.npz", "inputs": {"image": "x"}, "labels": "y", "samples": 4})", image);
  EXPECT_EQ(d->size(), 4);
  const Sample s = d->item(2);
  ASSERT_EQ(s.size(), 1u);
  EXPECT_EQ(s[0].name, "image");
  EXPECT_EQ(s[0].tensor.dims(), (Dims{1, 3, 4, 5}));
  EXPECT_EQ(s[0].tensor.values<float>()[1], 60.5f);
  EXPECT_EQ(d->label(2)->to_ints(), (std::vector<int64_t>{2}));
  const auto without = open(R"({"reader": "npz", "path": "d.npz", "inputs": {"image": "x"}, "samples": 100})", image);
  EXPECT_EQ(without->size(), 6);
  EXPECT_FALSE(without->label(0).has_value());
}

TEST_F(DatasetTest, SkippedSamplesAndListsOfLabels) {
  write_npz(folder / "d.npz", {{"x", ramp({6, 2})}, {"y", counting<int64_t>({6})}, {"z", ramp({6, 2})}});
  const std::vector<InputSpec> in{{"x", DType::f32, {-1, 2}}};
  const auto d = open(R"({"reader": "npz", "path": "d.npz", "labels": ["y", "x"], "skip": 2, "samples": 3})", in);
  EXPECT_EQ(d->size(), 3);
  EXPECT_EQ(d->item(0)[0].tensor.values<float>()[0], 2.0f);
  EXPECT_EQ(d->label(0)->to_floats(), (std::vector<float>{2, 2, 2.5f}));
  EXPECT_NE(d->digest(), open(R"({"reader": "npz", "path": "d.npz", "labels": ["y", "x"], "samples": 3})", in)->digest());
  EXPECT_EQ(open(R"({"reader": "npz", "path": "d.npz", "skip": 5})", in)->size(), 1);
  EXPECT_THAT(refuse(R"({"reader": "npz", "path": "d.npz", "skip": 6})", in, ErrorCode::config), HasSubstr("leaves nothing"));
  EXPECT_THAT(refuse(R"({"reader": "npz", "path": "d.npz", "skip": -1})", in, ErrorCode::config), HasSubstr("from 0"));
}

TEST_F(DatasetTest, AxisZeroIsTheSample) {
  const auto dims = [&](Dims array, Dims input) {
    write_file(folder / "x.npy", npy_bytes(ramp(std::move(array))));
    return open(R"({"reader": "npy", "path": "x.npy"})", {{"in", DType::f32, std::move(input)}})->item(0)[0].tensor.dims();
  };
  EXPECT_EQ(dims({4, 26, 80}, {1, 26, 80}), (Dims{1, 26, 80}));         // fixed batch of one
  EXPECT_EQ(dims({4, 1, 26, 80}, {1, 26, 80}), (Dims{1, 26, 80}));      // fed as it is
  EXPECT_EQ(dims({4, 3, 6, 6}, {-1, 3, 6, 6}), (Dims{1, 3, 6, 6}));     // free batch
  EXPECT_EQ(dims({4, 2, 3, 6, 6}, {-1, 3, 6, 6}), (Dims{2, 3, 6, 6}));  // rows of the whole rank
  EXPECT_EQ(dims({4, 8, 3, 6, 6}, {8, 3, 6, 6}), (Dims{8, 3, 6, 6}));   // fixed batch of eight
  EXPECT_EQ(dims({4, 7, 9}, {-1, -1, -1}), (Dims{1, 7, 9}));
  EXPECT_EQ(dims({4}, {-1}), (Dims{1}));
  EXPECT_EQ(dims({4, 2}, {-1}), (Dims{2}));
  EXPECT_EQ(dims({4}, {}), (Dims{}));                                   // a scalar input
}

TEST_F(DatasetTest, WrongShapesSayWhatIsWanted) {
  const auto text = [&](Dims array, Dims input) {
    write_file(folder / "x.npy", npy_bytes(ramp(std::move(array))));
    return refuse(R"({"reader": "npy", "path": "x.npy"})", {{"in", DType::f32, std::move(input)}});
  };
  EXPECT_THAT(text({4, 3, 5, 5}, {-1, 3, 6, 6}), AllOf(HasSubstr("x.npy"), HasSubstr("[4,3,5,5]"), HasSubstr("'in'"), HasSubstr("[3,6,6] (or [?,3,6,6])")));
  EXPECT_THAT(text({4, 6, 6, 3}, {-1, 3, 6, 6}), HasSubstr("channels-last"));
  EXPECT_THAT(text({4, 3, 6, 6}, {-1, 6, 6, 3}), HasSubstr("channels-first"));
  EXPECT_THAT(text({8, 3, 6, 6}, {8, 3, 6, 6}), HasSubstr("batch is fixed to 8"));
  EXPECT_THAT(text({26, 80}, {1, 26, 80}), HasSubstr("[26,80] (or [1,26,80])"));
  EXPECT_THAT(text({}, {1, 26, 80}), HasSubstr("single number"));
  EXPECT_THAT(text({2, 1, 1, 3, 6, 6}, {-1, 3, 6, 6}), HasSubstr("needs samples on axis 0"));
}

TEST_F(DatasetTest, TypesAreConvertedOrRefused) {
  const auto with = [&](const Tensor& t, DType want) {
    write_file(folder / "x.npy", npy_bytes(t));
    return open(R"({"reader": "npy", "path": "x.npy"})", {{"in", want, {-1, 3}}})->item(1)[0].tensor;
  };
  for (const Tensor& t : {counting<uint8_t>({2, 3}), counting<int8_t>({2, 3}), counting<int16_t>({2, 3}), counting<int64_t>({2, 3}), counting<double>({2, 3}), counting<uint64_t>({2, 3})}) {
    const Tensor got = with(t, DType::f32);
    EXPECT_EQ(got.type(), DType::f32);
    EXPECT_EQ(got.to_floats(), (std::vector<float>{3, 4, 5}));
  }
  Tensor half(DType::f16, {2, 3});
  for (size_t i = 0; i < 6; ++i) half.mutable_values<uint16_t>()[i] = to_half(static_cast<float>(i));
  EXPECT_EQ(with(half, DType::f32).to_floats(), (std::vector<float>{3, 4, 5}));
  EXPECT_EQ(with(counting<float>({2, 3}), DType::f16).values<uint16_t>()[0], to_half(3));
  EXPECT_EQ(with(half, DType::f16).values<uint16_t>()[0], to_half(3));
  EXPECT_EQ(with(counting<float>({2, 3}), DType::f64).values<double>()[2], 5.0);
  EXPECT_EQ(with(counting<int32_t>({2, 3}), DType::s64).to_ints(), (std::vector<int64_t>{3, 4, 5}));
  EXPECT_EQ(with(counting<uint8_t>({2, 3}), DType::s8).to_ints(), (std::vector<int64_t>{3, 4, 5}));
  EXPECT_THAT(error_of([&] { with(counting<float>({2, 3}), DType::s64); }), AllOf(HasSubstr("x.npy"), HasSubstr("f32"), HasSubstr("s64")));
  EXPECT_THAT(error_of([&] { with(counting<uint8_t>({2, 3}), DType::boolean); }), HasSubstr("bool"));
  EXPECT_THAT(error_of([&] { with(Tensor::of<int32_t>({2, 3}, std::vector<int32_t>{0, 0, 0, 0, 300, 0}), DType::u8); }), AllOf(HasSubstr("300"), HasSubstr("sample 1")));
}

TEST_F(DatasetTest, Preprocessing) {
  write_file(folder / "x.npy", npy_bytes(counting<uint8_t>({2, 3, 2, 2})));
  const auto values = [&](const std::string& preprocess, Dims dims = {-1, 3, 2, 2}) {
    return open(R"({"reader": "npy", "path": "x.npy", "preprocess": )" + preprocess + "}", {{"in", DType::f32, std::move(dims)}})->item(1)[0].tensor.to_floats();
  };
  const auto one = values(R"({"mean": 127.5, "scale": 0.00784313725490196})");
  for (size_t i = 0; i < 12; ++i) EXPECT_EQ(one[i], (static_cast<float>(i + 12) - 127.5f) * 0.00784313725490196f);
  const auto per = values(R"({"in": {"mean": [1, 2, 3], "scale": [1, 10, 100]}})");
  const float factors[] = {1, 10, 100};
  for (size_t i = 0; i < 12; ++i) EXPECT_EQ(per[i], (static_cast<float>(i + 12) - static_cast<float>(i / 4 + 1)) * factors[i / 4]);
  const auto last = values(R"({"mean": [5, 6]})", {-1, 3, 2, 2});
  for (size_t i = 0; i < 12; ++i) EXPECT_EQ(last[i], static_cast<float>(i + 12) - static_cast<float>(5 + i % 2));
  const std::vector<InputSpec> in{{"in", DType::f32, {-1, 3, 2, 2}}};
  const auto wrong = [&](const std::string& p) { return refuse(R"({"reader": "npy", "path": "x.npy", "preprocess": )" + p + "}", in, ErrorCode::config); };
  EXPECT_THAT(wrong(R"({"mean": [1, 2, 3, 4]})"), HasSubstr("do not fit"));
  EXPECT_THAT(wrong(R"({"meen": 1})"), AllOf(HasSubstr("meen"), HasSubstr("mean")));
  EXPECT_THAT(wrong(R"({"im": {"mean": 1}})"), HasSubstr("no input 'im'"));
  EXPECT_THAT(wrong(R"({"mean": "x"})"), HasSubstr("number"));
  EXPECT_THAT(refuse(R"({"reader": "npy", "path": "x.npy", "preprocess": {"in": {"mean": 1}}})", {{"in", DType::u8, {-1, 3, 2, 2}}}, ErrorCode::config), HasSubstr("only float"));
}

TEST_F(DatasetTest, RawFiles) {
  const Tensor t = ramp({5, 2, 3});
  write_file(folder / "x.bin", std::string_view(static_cast<const char*>(t.data()), t.bytes()));
  write_file(folder / "y.bin", std::string_view("\1\2\3\4\0", 5));
  const std::string section = R"({"reader": "raw", "inputs": {"in": {"path": "x.bin", "dtype": "float32", "shape": [2, 3]}}, "labels": {"path": "y.bin", "dtype": "u8", "shape": []}})";
  const auto d = open(section, {{"in", DType::f32, {-1, 2, 3}}});
  EXPECT_EQ(d->size(), 5);
  EXPECT_EQ(d->item(4)[0].tensor.values<float>()[0], 12.0f);
  EXPECT_EQ(d->label(3)->to_ints(), (std::vector<int64_t>{4}));
  const std::vector<InputSpec> in{{"in", DType::f32, {-1, 7}}};
  EXPECT_THAT(refuse(R"({"reader": "raw", "inputs": {"in": {"path": "x.bin", "dtype": "f32", "shape": [7]}}})", in), AllOf(HasSubstr("x.bin"), HasSubstr("120 bytes"), HasSubstr("28")));
  EXPECT_THAT(refuse(R"({"reader": "raw", "inputs": {"in": {"path": "x.bin", "dtype": "f33", "shape": [7]}}})", in, ErrorCode::config), HasSubstr("f33"));
  EXPECT_THAT(refuse(R"({"reader": "raw", "inputs": {"in": {"path": "x.bin", "shape": [7]}}})", in, ErrorCode::config), HasSubstr("dtype"));
  EXPECT_THAT(refuse(R"({"reader": "raw", "inputs": {"in": "x.bin"}})", in, ErrorCode::config), HasSubstr("path, dtype, shape"));
  EXPECT_THAT(refuse(R"({"reader": "raw", "inputs": {"in": {"path": "x.bin", "dtype": "f32", "shape": [-7]}}})", in, ErrorCode::config), HasSubstr("above 0"));
  EXPECT_THAT(refuse(R"({"reader": "raw", "inputs": {"in": {"path": "gone.bin", "dtype": "f32", "shape": [7]}}})", in, ErrorCode::io), HasSubstr("gone.bin"));
}

TEST_F(DatasetTest, WrongNames) {
  write_npz(folder / "d.npz", {{"x", ramp({6, 3, 4, 5})}, {"y", counting<int64_t>({5})}});
  EXPECT_THAT(refuse(R"({"reader": "npz", "path": "d.npz", "inputs": {"image": "z"}})", image), AllOf(HasSubstr("d.npz"), HasSubstr("'z'"), HasSubstr("x, y")));
  EXPECT_THAT(refuse(R"({"reader": "npz", "path": "d.npz", "inputs": {"imag": "x"}})", image, ErrorCode::config), HasSubstr("did you mean 'image'"));
  EXPECT_THAT(refuse(R"({"reader": "npz", "path": "d.npz", "inputs": {}})", image, ErrorCode::config), HasSubstr("'image'"));
  EXPECT_THAT(refuse(R"({"reader": "npz", "path": "d.npz"})", image, ErrorCode::config), HasSubstr("which array"));
  EXPECT_THAT(refuse(R"({"reader": "npz", "path": "e.npz", "inputs": {"image": "x"}})", image, ErrorCode::io), HasSubstr("e.npz"));
  EXPECT_THAT(refuse(R"({"reader": "npz", "path": "d.npz", "inputs": {"image": "x"}, "labels": "y"})", image), AllOf(HasSubstr("5 samples"), HasSubstr("6")));
  EXPECT_THAT(refuse(R"({"reader": "hdf", "path": "d.npz"})", image, ErrorCode::config), HasSubstr("npz, npy and raw"));
  EXPECT_THAT(refuse(R"({"reader": "npz"})", image, ErrorCode::config), HasSubstr("path"));
  EXPECT_THAT(refuse(R"({"path": "d.npz"})", image, ErrorCode::config), HasSubstr("reader"));
  EXPECT_THAT(refuse(R"({"reader": "npz", "path": "d.npz", "inputs": {"image": "x"}, "samples": 0})", image, ErrorCode::config), HasSubstr("samples"));
  EXPECT_THAT(refuse(R"({"reader": "npz", "path": "d.npz", "inputs": {"image": 3}})", image, ErrorCode::config), HasSubstr("text"));
}

TEST_F(DatasetTest, SeveralInputs) {
  write_npz(folder / "d.npz", {{"a", ramp({3, 4})}, {"b", counting<int32_t>({3, 2})}, {"c", ramp({2, 4})}});
  const std::vector<InputSpec> in{{"a", DType::f32, {-1, 4}}, {"b", DType::s32, {-1, 2}}};
  const auto d = open(R"({"reader": "npz", "path": "d.npz"})", in);  // by their own names
  EXPECT_EQ(d->item(1)[0].tensor.dims(), (Dims{1, 4}));
  EXPECT_EQ(d->item(1)[1].tensor.to_ints(), (std::vector<int64_t>{2, 3}));
  EXPECT_THAT(refuse(R"({"reader": "npz", "path": "d.npz", "inputs": {"a": "c", "b": "b"}})", in), HasSubstr("has 3 samples"));
}

TEST_F(DatasetTest, DigestIsOfWhatIsUsed) {
  write_npz(folder / "d.npz", {{"x", ramp({6, 2})}});
  write_file(folder / "x.npy", npy_bytes(ramp({6, 2})));
  const std::vector<InputSpec> in{{"in", DType::f32, {-1, 2}}};
  const auto digest = [&](const std::string& s) { return open(s, in)->digest(); };
  const std::string all = digest(R"({"reader": "npz", "path": "d.npz"})");
  EXPECT_EQ(all, digest(R"({"reader": "npy", "path": "x.npy"})"));
  EXPECT_EQ(all, digest(R"({"reader": "npy", "path": "x.npy", "samples": 6})"));
  EXPECT_NE(all, digest(R"({"reader": "npy", "path": "x.npy", "samples": 5})"));
  EXPECT_NE(all, digest(R"({"reader": "npy", "path": "x.npy", "preprocess": {"mean": 1}})"));
}

TEST_F(DatasetTest, CalibrationChecks) {
  Tensor x = ramp({6, 8});
  auto v = x.mutable_values<float>();
  std::fill(v.begin() + 16, v.begin() + 24, 3.0f);
  std::copy(v.begin(), v.begin() + 8, v.begin() + 32);
  const std::vector<InputSpec> in{{"in", DType::f32, {-1, 8}}};
  const auto check = [&](const Tensor& t, int threads) {
    write_file(folder / "x.npy", npy_bytes(t));
    return check_calibration_data(*open(R"({"reader": "npy", "path": "x.npy"})", in), threads);
  };
  for (int threads : {1, 3}) {
    const DataCheck c = check(x, threads);
    EXPECT_EQ(c.samples, 6);
    ASSERT_EQ(c.warnings.size(), 2u);
    EXPECT_THAT(c.warnings[0], AllOf(HasSubstr("1 of 6"), HasSubstr("constant"), HasSubstr("2")));
    EXPECT_THAT(c.warnings[1], AllOf(HasSubstr("repeat"), HasSubstr("4")));
  }
  v[41] = NAN;
  v[47] = INFINITY;
  for (int threads : {1, 3}) EXPECT_THAT(error_of([&] { check(x, threads); }), AllOf(HasSubstr("sample 5"), HasSubstr("'in'"), HasSubstr("NaN")));
  v[41] = -INFINITY;
  EXPECT_THAT(error_of([&] { check(x, 1); }), HasSubstr("infinity"));
  EXPECT_THAT(error_of([&] { check(Tensor(DType::f32, {0, 8}), 1); }), HasSubstr("empty"));
}

// Pictures 0..255 that differ, then what is wrong with some of them.
TEST_F(DatasetTest, CalibrationChecksOfPictures) {
  const int64_t n = 20, size = 3 * 8 * 8;
  Tensor x(DType::f32, {n, 3, 8, 8});
  auto v = x.mutable_values<float>();
  for (size_t i = 0; i < v.size(); ++i) v[i] = static_cast<float>((i * 7919 + i / static_cast<size_t>(size) * 31) % 256);
  const std::vector<InputSpec> in{{"in", DType::f32, {-1, 3, 8, 8}}};
  std::vector<int64_t> classes;
  for (int64_t i = 0; i < n; ++i) classes.push_back(i % 5);
  const auto check = [&](const std::string& more = "") {
    Tensor y(DType::s64, {n});
    std::copy(classes.begin(), classes.end(), y.mutable_values<int64_t>().begin());
    write_npz(folder / "x.npz", {{"in", x}, {"y", y}});
    return check_calibration_data(*open(R"({"reader": "npz", "path": "x.npz", "inputs": {"in": "in"}, "labels": "y")" + more + "}", in), 2);
  };
  const auto sample = [&](int64_t i) { return v.subspan(static_cast<size_t>(i * size), static_cast<size_t>(size)); };
  EXPECT_TRUE(check().warnings.empty()) << check().warnings.front();
  EXPECT_TRUE(check().advice.empty());
  EXPECT_THAT(check(R"(, "samples": 7)").advice.at(0), HasSubstr("7 calibration samples are few"));
  for (float& p : sample(3)) p = std::fmod(p, 20.0f);
  for (size_t i = 0; i < 150; ++i) sample(5)[i] = 255;
  for (float& p : sample(6)) p = 240 + std::fmod(p, 16.0f);
  for (auto& c : classes) if (c == 2) c = 4;
  const auto c = check();
  ASSERT_EQ(c.warnings.size(), 3u);
  EXPECT_THAT(c.warnings[0], AllOf(HasSubstr("1 of 20"), HasSubstr("nearly black"), HasSubstr(": 3")));
  EXPECT_THAT(c.warnings[1], AllOf(HasSubstr("2 of 20"), HasSubstr("over-exposed"), HasSubstr(": 5, 6")));
  EXPECT_THAT(c.warnings[2], AllOf(HasSubstr("1 of the classes 0..4"), HasSubstr(": 2")));
  for (float& p : sample(9)) p *= 100;
  EXPECT_THAT(check().warnings, ::testing::Contains(AllOf(HasSubstr("more than 8 times"), HasSubstr(": 9"))));
}

TEST_F(DatasetTest, PreprocessingThatIsDoneTwiceOrNotAtAll) {
  DataCheck check;
  check.ranges = {{"in", -1.01, -0.99, false, true}};
  const auto warnings = [&](const std::string& preprocess, std::map<std::string, std::string> inside = {}) {
    return check_preprocessing(parse_json(R"({"preprocess": )" + preprocess + "}", "t").as_object(), check, inside);
  };
  EXPECT_THAT(warnings(R"({"mean": 127.5, "scale": 0.0078})"), ElementsAre(HasSubstr("normalised already")));
  EXPECT_THAT(warnings(R"({"in": {"mean": [127, 128, 129], "scale": [0.01, 0.02, 0.03]}})"), ElementsAre(HasSubstr("normalised already")));
  EXPECT_TRUE(warnings("{}").empty());
  check.ranges = {{"in", -2.1, 2.6, false, true}};
  EXPECT_TRUE(warnings(R"({"mean": 120, "scale": 0.017})").empty());
  EXPECT_THAT(warnings(R"({"mean": 120, "scale": 0.017})", {{"in", "Sub 'norm'"}}), ElementsAre(AllOf(HasSubstr("Sub 'norm'"), HasSubstr("twice"))));
  EXPECT_THAT(warnings(R"({"mean": 120, "scale": 0.017, "range": [0, 1]})"), ElementsAre(HasSubstr("trained on [0, 1]")));
  EXPECT_TRUE(warnings(R"({"mean": 120, "scale": 0.017, "range": [-2, 2.6]})").empty());
  check.ranges = {{"in", 0, 255, true, true}};
  EXPECT_THAT(warnings("{}"), ElementsAre(HasSubstr("preprocess missing")));
  EXPECT_TRUE(warnings("{}", {{"in", "BatchNormalization 'bn'"}}).empty());
  EXPECT_TRUE(warnings(R"({"range": [0, 255]})").empty());
}

TEST_F(DatasetTest, TheLocaleHasNoSay) {
  const std::string before = std::setlocale(LC_ALL, nullptr);
  bool found = false;
  for (const char* name : {"de_DE.UTF-8", "de_DE.utf8", "fr_FR.UTF-8", "fr_FR.utf8"})
    if (std::setlocale(LC_ALL, name)) { found = true; break; }
  write_npz(folder / "d.npz", {{"x", ramp({2, 3})}});
  const auto d = open(R"({"reader": "npz", "path": "d.npz", "preprocess": {"mean": 1.25, "scale": 0.5}})", {{"in", DType::f32, {-1, 3}}});
  const float got = d->item(1)[0].tensor.values<float>()[0];
  std::setlocale(LC_ALL, before.c_str());
  EXPECT_EQ(got, (1.5f - 1.25f) * 0.5f);
  if (!found) GTEST_SKIP() << "no locale with a decimal comma is installed";
}

TEST(DatasetModels, RealFiles) {
  const char* source = std::getenv("QUERN_SOURCE_DIR");
  const fs::path models = source ? fs::path(source) / ".." / "shared" / "models" : fs::path();
  if (!source || !fs::exists(models / "kws_dscnn" / "calib_x.npy")) GTEST_SKIP() << "the shared models are not here";
  const auto open = [&](const char* section, const char* folder, InputSpec in) { return open_dataset(parse_json(section, "t").as_object(), models / folder, {std::move(in)}); };
  const auto kws = open(R"({"reader": "npy", "path": "eval_x.npy", "labels": "eval_y.npy"})", "kws_dscnn", {"input_1", DType::f32, {1, 49, 10, 1}});
  EXPECT_EQ(kws->size(), 880);
  EXPECT_EQ(kws->item(879)[0].tensor.dims(), (Dims{1, 49, 10, 1}));
  EXPECT_GE(kws->label(0)->to_ints().at(0), 0);
  const auto signs = open(R"({"reader": "npy", "path": "calib_x.npy", "preprocess": {"mean": 127.5, "scale": 0.00784313725490196}})", "mnv2_signs", {"input", DType::f32, {-1, 3, 64, 64}});
  EXPECT_EQ(check_calibration_data(*signs, 2).samples, 147);
  const Sample sign = signs->item(7);
  for (float x : sign[0].tensor.values<float>()) ASSERT_LE(std::fabs(x), 1.0f);
  const auto speech = open(R"({"reader": "npy", "path": "calib_x.npy"})", "gru_spoken_digits", {"x", DType::f32, {1, 26, 80}});
  EXPECT_EQ(speech->item(0)[0].tensor.dims(), (Dims{1, 26, 80}));
  const auto state = open(R"({"reader": "npy", "path": "calib_m1_input_3.npy"})", "dtln_denoise", {"input_3", DType::f32, {1, 2, 128, 2}});
  EXPECT_EQ(state->item(0)[0].tensor.dims(), (Dims{1, 2, 128, 2}));
}

}  // namespace
}  // namespace quern
