// The readers of the plugins: what they feed against other programs' values or plain computations, and every kind of bad file.
#include <algorithm>
#include <cmath>

#include "core/dataset/dataset.hpp"
#include "tests/plugin/support.hpp"

namespace quern {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string bytes_of_hex(std::string_view hex) {
  std::string out;
  for (size_t i = 0; i + 1 < hex.size(); i += 2) out += static_cast<char>(std::stoi(std::string(hex.substr(i, 2)), nullptr, 16));
  return out;
}

// A PNG of 8 x 6 whose byte of row y, column x, channel c (blue, green, red) is (37 y + 11 x + 71 c) mod 256.
const std::string png = bytes_of_hex(
    "89504e470d0a1a0a0000000d4948445200000008000000060802000000716748ac0000003149444154081d63ec7367e0c6061837e7a87263038c37267a7163038c7fb7e57363038c4ab7a770"
    "63038cee0c3bb9b101004d5a0df00b9fbe6b0000000049454e44ae426082");
int png_byte(int y, int x, int c) { return (37 * y + 11 * x + 71 * c) % 256; }

// A JPEG of 16 x 16: blue 16 x, green 16 y, red 128.
const std::string jpeg = bytes_of_hex(
    "ffd8ffe000104a46494600010100000100010000ffdb0043001b12141714111b1716171e1c1b2028422b28252528513a3d3042605565645f555d5b6a7899816a7190735b5d85b586909ea3ab"
    "adab6780bcc9baa6c799a8aba4ffdb0043011c1e1e2823284e2b2b4ea46e5d6ea4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4"
    "a4a4a4a4a4a4ffc00011080010001003012200021101031101ffc4001f0000010501010101010100000000000000000102030405060708090a0bffc400b51000020103030204030505040400"
    "00017d01020300041105122131410613516107227114328191a1082342b1c11552d1f02433627282090a161718191a25262728292a3435363738393a434445464748494a535455565758595a"
    "636465666768696a737475767778797a838485868788898a92939495969798999aa2a3a4a5a6a7a8a9aab2b3b4b5b6b7b8b9bac2c3c4c5c6c7c8c9cad2d3d4d5d6d7d8d9dae1e2e3e4e5e6e7"
    "e8e9eaf1f2f3f4f5f6f7f8f9faffc4001f0100030101010101010101010000000000000102030405060708090a0bffc400b51100020102040403040705040400010277000102031104052131"
    "061241510761711322328108144291a1b1c109233352f0156272d10a162434e125f11718191a262728292a35363738393a434445464748494a535455565758595a636465666768696a737475"
    "767778797a82838485868788898a92939495969798999aa2a3a4a5a6a7a8a9aab2b3b4b5b6b7b8b9bac2c3c4c5c6c7c8c9cad2d3d4d5d6d7d8d9dae2e3e4e5e6e7e8e9eaf2f3f4f5f6f7f8f9"
    "faffda000c03010002110311003f00a0b6ded522db7b5692db7b54ab6ded4616b0e5883fffd9");

class Readers : public ::testing::Test {
 protected:
  std::unique_ptr<Dataset> open(const std::string& section, const std::vector<InputSpec>& inputs) {
    static PluginRegistry registry(testing::only({testing::own_plugin("images"), testing::own_plugin("audio"), testing::own_plugin("records")}));
    return open_dataset(parse_json(section, "test").as_object(), folder.path(), inputs, &registry);
  }
  std::string refuse(const std::string& section, const std::vector<InputSpec>& inputs) {
    return testing::error_of([&] {
      const auto d = open(section, inputs);
      for (int64_t i = 0; i < d->size(); ++i) d->item(i), d->label(i);
    });
  }
  void put(const std::string& name, std::string_view bytes) {
    fs::create_directories((folder.path() / name).parent_path());
    write_file(folder.path() / name, bytes);
  }
  std::vector<float> pixels(const std::string& options, const Dims& dims) {
    return open(R"({"reader": "images", "path": "p")" + options + "}", {{"in", DType::f32, dims}})->item(0)[0].tensor.to_floats();
  }
  testing::TempFolder folder;
  const std::vector<InputSpec> image{{"in", DType::f32, {-1, 3, 6, 8}}};
};

TEST_F(Readers, PicturesAsOpenCvReadsThem) {
  put("p/a.png", png);
  const auto v = pixels("", {1, 3, 6, 8}), last = pixels("", {1, 6, 8, 3}), rgb = pixels(R"(, "color": "rgb")", {1, 3, 6, 8});
  for (int y = 0; y < 6; ++y)
    for (int x = 0; x < 8; ++x)
      for (int c = 0; c < 3; ++c) {
        const auto at = static_cast<size_t>((c * 6 + y) * 8 + x);
        EXPECT_EQ(v[at], png_byte(y, x, c));
        EXPECT_EQ(last[static_cast<size_t>((y * 8 + x) * 3 + c)], v[at]);
        EXPECT_EQ(rgb[at], png_byte(y, x, 2 - c));
      }
  const auto bytes = open(R"({"reader": "images", "path": "p"})", {{"in", DType::u8, {-1, 3, 6, 8}}});
  EXPECT_EQ(bytes->item(0)[0].tensor.type(), DType::u8);
  // cv2.imdecode(png, IMREAD_GRAYSCALE), first row.
  const auto grey = pixels(R"(, "color": "grey")", {1, 1, 6, 8});
  EXPECT_THAT(std::vector<float>(grey.begin(), grey.begin() + 8), ElementsAre(84, 95, 106, 117, 128, 139, 150, 161));
}

TEST_F(Readers, Jpeg) {
  put("p/a.jpeg", jpeg);
  const auto v = pixels("", {1, 3, 16, 16});
  for (size_t i : {size_t{0}, size_t{85}, size_t{200}}) {  // lossy, and every decoder's own in the last bit
    EXPECT_NEAR(v[i], 16.0 * static_cast<double>(i % 16), 20);
    EXPECT_NEAR(v[256 + i], 16.0 * static_cast<double>(i / 16), 20);
  }
  put("p/a.jpeg", jpeg.substr(0, jpeg.size() - 3));
  EXPECT_THAT(refuse(R"({"reader": "images", "path": "p"})", {{"in", DType::f32, {1, 3, 16, 16}}}), AllOf(HasSubstr("a.jpeg"), HasSubstr("cut off")));
}

TEST_F(Readers, ResizesLikeOpenCv) {
  // cv2.resize(picture, (5, 3)) of OpenCV 4.8, the first row.
  put("p/a.png", png);
  const auto row = [&](const std::string& method) {
    const auto v = pixels(R"(, "resize": {"size": [3, 5], "method": ")" + method + "\"}", {1, 3, 5, 3});
    return std::vector<float>(v.begin(), v.begin() + 15);
  };
  EXPECT_THAT(row("nearest"), ElementsAre(0, 71, 142, 11, 82, 153, 33, 104, 175, 44, 115, 186, 66, 137, 208));
  EXPECT_THAT(row("bilinear"), ElementsAre(22, 93, 164, 39, 110, 181, 57, 128, 199, 75, 146, 217, 92, 163, 144));
  EXPECT_THAT(row("bicubic"), ElementsAre(18, 89, 160, 36, 107, 178, 54, 125, 208, 72, 143, 239, 89, 160, 146));
  EXPECT_THAT(row("area"), ElementsAre(23, 94, 165, 39, 110, 181, 57, 128, 199, 75, 146, 217, 91, 162, 153));
  EXPECT_THAT(row("lanczos"), ElementsAre(18, 89, 159, 36, 107, 167, 54, 126, 207, 71, 146, 247, 90, 153, 147));
}

TEST_F(Readers, PicturesAsSkimageReadsThem) {
  put("p/a.png", png);
  const auto v = pixels(R"(, "read_as": "skimage")", {1, 3, 6, 8});
  for (size_t c = 0; c < 3; ++c) EXPECT_FLOAT_EQ(v[c * 48 + 13], static_cast<float>(png_byte(1, 5, 2 - static_cast<int>(c))) / 255);
  const auto small = pixels(R"(, "read_as": "skimage", "resize": {"size": [3, 5]})", {1, 3, 5, 3});
  const std::vector<float> want{0.642353f, 0.363922f, 0.08549f, 0.711373f, 0.432941f, 0.15451f};  // of cv2.resize on float RGB
  for (size_t i = 0; i < want.size(); ++i) EXPECT_NEAR(small[i], want[i], 2e-6);
}

TEST_F(Readers, LetterboxShorterSideCropAndFraction) {
  put("p/a.png", png);
  // 8 x 6 into 8 x 8: as it is, one row of fill above and below.
  const auto box = pixels(R"(, "resize": {"size": 8, "keep": "letterbox", "fill": 7})", {1, 3, 8, 8});
  EXPECT_EQ(box[3], 7);
  EXPECT_EQ(box[63], 7);
  for (size_t x = 0; x < 8; ++x) EXPECT_EQ(box[8 + x], png_byte(0, static_cast<int>(x), 0));
  // The shorter side is 6 already; the middle 6 x 6 of 8 columns, then 4 x 4.
  const auto crop = pixels(R"(, "resize": {"size": 6, "keep": "shorter"}, "crop": {"size": 6})", {1, 3, 6, 6});
  EXPECT_EQ(crop[0], png_byte(0, 1, 0));
  const auto part = pixels(R"(, "central_fraction": 0.5)", {1, 3, 3, 4});
  EXPECT_EQ(part[0], png_byte(1, 2, 0));
  EXPECT_THAT(refuse(R"({"reader": "images", "path": "p", "crop": {"size": 9}})", image), AllOf(HasSubstr("a.png"), HasSubstr("6 x 8")));
}

TEST_F(Readers, AnnotationsOfFourKinds) {
  put("p/cat/b.png", png);
  put("p/ant/a.png", png);
  const auto label = [&](const std::string& annotations, int64_t i) {
    return open(R"({"reader": "images", "path": "p", "annotations": )" + annotations + "}", image)->label(i)->to_floats();
  };
  EXPECT_THAT(label(R"({"format": "folders"})", 0), ElementsAre(0));
  EXPECT_THAT(label(R"({"format": "folders"})", 1), ElementsAre(1));
  put("val.txt", "cat/b.png 7\nant/a.png 3\n");
  EXPECT_THAT(label(R"({"format": "imagenet", "path": "val.txt"})", 0), ElementsAre(7));
  put("val.csv", "file,x,y\n\"cat/b.png\",0.5,1e-1\r\nant/a.png,2,3\n");
  EXPECT_THAT(label(R"({"format": "csv", "path": "val.csv"})", 0), ElementsAre(0.5f, 0.1f));
  put("boxes.json", R"({"categories": [{"id": 90}, {"id": 7}], "images": [{"id": 5, "file_name": "ant/a.png"}, {"id": 6, "file_name": "cat/b.png"}],
    "annotations": [{"image_id": 6, "category_id": 90, "bbox": [1, 2, 3, 4], "iscrowd": 1}, {"image_id": 6, "category_id": 7, "bbox": [0, 0, 8, 6]}]})");
  EXPECT_THAT(label(R"({"format": "coco", "path": "boxes.json"})", 1), ElementsAre(1, 1, 2, 4, 6, 1, 0, 0, 0, 8, 6, 0));
  EXPECT_TRUE(label(R"({"format": "coco", "path": "boxes.json"})", 0).empty());
  // Boxes follow the picture: 8 x 6 into 16 x 16 doubles it, two rows are above.
  const auto d = open(R"({"reader": "images", "path": "p", "annotations": {"format": "coco", "path": "boxes.json", "categories": "as_they_are"},
                          "resize": {"size": 16, "keep": "letterbox"}})", {{"in", DType::f32, {1, 3, 16, 16}}});
  EXPECT_EQ(d->label(1)->dims(), (Dims{2, 6}));
  const auto boxes = d->label(1)->to_floats();
  EXPECT_THAT(std::vector<float>(boxes.begin(), boxes.begin() + 6), ElementsAre(90, 2, 6, 8, 14, 1));
}

TEST_F(Readers, BadPicturesAndAnnotations) {
  EXPECT_THAT(refuse(R"({"reader": "images", "path": "none"})", image), HasSubstr("no such folder"));
  fs::create_directories(folder.path() / "empty");
  EXPECT_THAT(refuse(R"({"reader": "images", "path": "empty"})", image), AllOf(HasSubstr("holds no file"), HasSubstr(".jpg")));
  put("p/a.png", png);
  put("p/b.png", png.substr(0, 40));
  put("p/c.png", "");
  put("p/d.jpg", "these are words");
  put("p/e.png", png);
  const std::string options = R"({"reader": "images", "path": "p")";
  EXPECT_THAT(refuse(options + "}", image), AllOf(HasSubstr("b.png"), HasSubstr("cut off")));
  ::testing::internal::CaptureStderr();
  const auto d = open(options + R"(, "on_error": "skip"})", image);
  const std::string said = ::testing::internal::GetCapturedStderr();
  EXPECT_EQ(d->size(), 2);
  EXPECT_EQ(d->item(1)[0].tensor.to_floats()[0], 0);
  EXPECT_THAT(said, AllOf(HasSubstr("3 of 5 files"), HasSubstr("b.png"), HasSubstr("c.png is empty"), HasSubstr("d.jpg")));
  EXPECT_THAT(refuse(options + R"(, "resize": {"size": 5}, "on_error": "skip"})", image), HasSubstr("[3,5,5]"));
  EXPECT_THAT(refuse(R"({"reader": "images", "path": "p"})", {{"in", DType::f32, {1, 10}}}), HasSubstr("[1,10]"));
  EXPECT_THAT(refuse(R"({"reader": "images", "path": "p"})", {{"a", DType::f32, {1, 10}}, {"b", DType::f32, {1, 10}}}), HasSubstr("one input; this one has a, b"));

  const auto with = [&](const std::string& format, const std::string& text) {
    put("labels", text);
    return refuse(options + R"(, "annotations": {"format": ")" + format + R"(", "path": "labels"}})", image);
  };
  EXPECT_THAT(with("imagenet", "a.png\n"), HasSubstr("labels:1: 'a.png' has no class"));
  EXPECT_THAT(with("imagenet", "a.png 1\nnone.png 2\n"), HasSubstr("none.png can't be opened"));
  EXPECT_THAT(with("csv", "file,class\na.png,one\n"), HasSubstr("labels:2: 'one' is no number"));
  EXPECT_THAT(with("csv", "a.png,1\ne.png,1,2\n"), HasSubstr("labels:2: has 2 numbers"));
  EXPECT_THAT(with("csv", ""), HasSubstr("is empty"));
  EXPECT_THAT(with("coco", "{\"images\": ["), HasSubstr("labels: JSON"));
  EXPECT_THAT(with("coco", R"({"categories": [], "annotations": [], "images": [{"id": 1}]})"), HasSubstr("lacks 'file_name'"));
  EXPECT_THAT(with("coco", R"({"categories": [{"id": 1}], "images": [{"id": 1, "file_name": "a.png"}], "annotations": [{"image_id": 2, "category_id": 1, "bbox": [0,0,1,1]}]})"),
              HasSubstr("image 2, which is not among"));
  EXPECT_THAT(with("coco", R"({"categories": [{"id": 1}], "images": [{"id": 1, "file_name": "a.png"}], "annotations": [{"image_id": 1, "category_id": 9, "bbox": [0,0,1,1]}]})"),
              HasSubstr("category 9"));
}

// ---- sound -------------------------------------------------------------------------------------------------------------
std::string wav(const std::vector<int16_t>& samples, uint32_t rate, uint16_t channels = 1) {
  const auto number = [](uint32_t v, int bytes) {
    std::string s;
    for (int i = 0; i < bytes; ++i) s += static_cast<char>(v >> 8 * i & 255);
    return s;
  };
  const auto size = static_cast<uint32_t>(samples.size() * 2);
  std::string out = "RIFF" + number(36 + size, 4) + "WAVEfmt " + number(16, 4) + number(1, 2) + number(channels, 2) + number(rate, 4) + number(rate * channels * 2u, 4) +
                    number(channels * 2u, 2) + number(16, 2) + "data" + number(size, 4);
  for (int16_t s : samples) out += number(static_cast<uint16_t>(s), 2);
  return out;
}

TEST_F(Readers, SoundFiles) {
  put("s/a.wav", wav({16384, -16384, 8192, 0, 32767, 1}, 8000));
  put("s/b.wav", wav({16384, 0, -8192, 8192}, 8000, 2));
  // 16 samples of 1000 i, i from -8 to 7, by libsndfile.
  put("s/c.flac", bytes_of_hex("664c6143000000221000100000001100001101f400f000000010e962ffc227495989b2ab9444efb713af84000028200000007265666572656e6365206c6962464c414320312e342e3320323032333036323300000000fff86408000fce153c18e4a801fff8e597"));
  const auto d = open(R"({"reader": "audio", "path": "s", "rate": 8000, "length": 5})", {{"in", DType::f32, {1, 5}}});
  EXPECT_THAT(d->item(0)[0].tensor.to_floats(), ElementsAre(0.5f, -0.5f, 0.25f, 0, 32767 / 32768.0f));
  EXPECT_THAT(d->item(1)[0].tensor.to_floats(), ElementsAre(0.25f, 0, 0, 0, 0));  // channels averaged, zeros behind
  EXPECT_FLOAT_EQ(d->item(2)[0].tensor.to_floats()[1], -7000 / 32768.0f);
  EXPECT_THAT(refuse(R"({"reader": "audio", "path": "s", "rate": 16000})", {{"in", DType::f32, {1, -1}}}), AllOf(HasSubstr("a.wav"), HasSubstr("8000 samples a second, not 16000")));
}

TEST_F(Readers, BadSoundFiles) {
  const std::vector<InputSpec> in{{"in", DType::f32, {1, 4}}};
  const std::string whole = wav({1, 2, 3, 4}, 8000);
  put("s/a.wav", whole);
  put("s/b.wav", whole.substr(0, 20));
  put("s/c.wav", "");
  put("s/d.wav", "no sound at all");
  EXPECT_THAT(refuse(R"({"reader": "audio", "path": "s", "rate": 8000})", in), AllOf(HasSubstr("b.wav"), HasSubstr("no sound")));
  ::testing::internal::CaptureStderr();
  EXPECT_EQ(open(R"({"reader": "audio", "path": "s", "rate": 8000, "on_error": "skip"})", in)->size(), 1);
  EXPECT_THAT(::testing::internal::GetCapturedStderr(), AllOf(HasSubstr("3 of 4 files"), HasSubstr("d.wav")));
  EXPECT_THAT(refuse(R"({"reader": "audio", "path": "s", "rate": 8000, "on_error": "skip", "features": {"type": "log_mel", "window": 100, "fft": 128}})", in), HasSubstr("less than one frame"));
}

TEST_F(Readers, FeaturesAreTheirFormula) {
  const int n = 900, window = 200, hop = 90, fft = 240, bands = 12, coefficients = 5, rate = 8000;
  std::vector<int16_t> sound;
  for (int i = 0; i < n; ++i) sound.push_back(static_cast<int16_t>(8000 * std::sin(i * 0.3) + 3000 * std::sin(i * i * 0.001)));
  put("s/a.wav", wav(sound, rate));
  // Everything by its definition: no fast transform, triangles from their edges in Hz.
  const double pi = std::acos(-1.0);
  std::vector<double> edges;
  for (int i = 0; i < bands + 2; ++i) edges.push_back(700 * (std::pow(10, 2595 * std::log10(1 + 4000 / 700.0) * i / (bands + 1) / 2595) - 1));
  std::vector<float> mel, mfcc, magnitude;
  for (int begin = 0; begin + fft <= n; begin += hop) {
    std::vector<double> power, logs;
    for (int k = 0; k <= fft / 2; ++k) {
      double re = 0, im = 0;
      for (int i = 0; i < window; ++i) {
        const int at = (fft - window) / 2 + i;
        const double v = sound[static_cast<size_t>(begin + at)] / 32768.0 * (0.5 - 0.5 * std::cos(2 * pi * i / window));
        re += v * std::cos(2 * pi * k * at / fft), im -= v * std::sin(2 * pi * k * at / fft);
      }
      power.push_back(re * re + im * im);
      magnitude.push_back(static_cast<float>(std::sqrt(power.back())));
    }
    for (int b = 0; b < bands; ++b) {
      double sum = 0;
      for (int k = 0; k <= fft / 2; ++k) {
        const double f = static_cast<double>(k) * rate / fft, low = edges[static_cast<size_t>(b)], mid = edges[static_cast<size_t>(b) + 1], high = edges[static_cast<size_t>(b) + 2];
        sum += power[static_cast<size_t>(k)] * (f <= low || f >= high ? 0 : f < mid ? (f - low) / (mid - low) : (high - f) / (high - mid));
      }
      logs.push_back(std::log(std::max(sum, 1e-6)));
      mel.push_back(static_cast<float>(logs.back()));
    }
    for (int c = 0; c < coefficients; ++c) {
      double sum = 0;
      for (int b = 0; b < bands; ++b) sum += logs[static_cast<size_t>(b)] * std::cos(pi * (b + 0.5) * c / bands);
      mfcc.push_back(static_cast<float>(sum * std::sqrt((c == 0 ? 1.0 : 2.0) / bands)));
    }
  }
  const auto features = [&](const std::string& type, int64_t width, const std::string& size = "240", const std::string& more = "") {
    return open(R"({"reader": "audio", "path": "s", "rate": 8000, "features": {"type": ")" + type + R"(", "window": 200, "hop": 90, "mels": 12, "coefficients": 5, "fft": )" + size + more + "}}",
                {{"in", DType::f32, {1, 1, -1, width}}})->item(0)[0].tensor;
  };
  const auto same = [](const Tensor& t, const std::vector<float>& want) {
    const auto got = t.to_floats();
    ASSERT_EQ(got.size(), want.size());
    for (size_t i = 0; i < got.size(); ++i) EXPECT_NEAR(got[i], want[i], 2e-6 * std::max(1.0f, std::abs(want[i]))) << i;
  };
  const auto frames = static_cast<int64_t>(mel.size()) / bands;
  EXPECT_EQ(features("log_mel", bands).dims(), (Dims{1, 1, frames, bands}));
  same(features("log_mel", bands), mel);
  same(features("mfcc", coefficients), mfcc);
  same(features("magnitude", fft / 2 + 1), magnitude);
  const Tensor turned = open(R"({"reader": "audio", "path": "s", "rate": 8000, "features": {"type": "mfcc", "window": 200, "hop": 90, "fft": 240, "mels": 12, "coefficients": 5, "bands_first": true}})",
                             {{"in", DType::f32, {1, coefficients, -1}}})->item(0)[0].tensor;
  EXPECT_EQ(turned.to_floats()[1], features("mfcc", coefficients).to_floats()[static_cast<size_t>(coefficients)]);
  // A transform of a power of two is the fast one; frames that are centred: one more for each half window.
  const auto fast = features("power", 129, "256"), plain = features("power", 129, "256", R"(, "center": true)");
  EXPECT_EQ(fast.dims()[2], (n - 256) / hop + 1);
  for (int k = 0; k <= 128; ++k) {  // of the first frame
    double re = 0, im = 0;
    for (int i = 0; i < window; ++i) {
      const double v = sound[static_cast<size_t>(28 + i)] / 32768.0 * (0.5 - 0.5 * std::cos(2 * pi * i / window));
      re += v * std::cos(2 * pi * k * (28 + i) / 256), im -= v * std::sin(2 * pi * k * (28 + i) / 256);
    }
    EXPECT_NEAR(fast.to_floats()[static_cast<size_t>(k)], re * re + im * im, 1e-5 * std::max(1.0, re * re + im * im)) << k;
  }
  EXPECT_EQ(plain.dims()[2], n / hop + 1);
  EXPECT_THAT(refuse(R"({"reader": "audio", "path": "s", "rate": 8000, "features": {"type": "mfcc", "fft": 100, "window": 200}})", image), HasSubstr("fft has to be window"));
}

// ---- records -----------------------------------------------------------------------------------------------------------
TEST_F(Readers, AFileASample) {
  const auto raw = [](std::vector<float> v) { return std::string(reinterpret_cast<const char*>(v.data()), v.size() * 4); };
  put("x/1.bin", raw({1, 2}));
  put("x/2.bin", raw({3, 4}));
  put("y/1.bin", std::string("\x05\x06\x07", 3));
  put("y/2.bin", std::string("\x08\x09\x0a", 3));
  const std::vector<InputSpec> in{{"x", DType::f32, {-1, 2}}, {"y", DType::f32, {-1, 3}}}, x{{"x", DType::f32, {-1, 2}}};
  const auto d = open(R"({"reader": "files", "inputs": {"x": {"path": "x"}, "y": {"path": "y", "dtype": "uint8"}}})", in);
  ASSERT_EQ(d->size(), 2);
  EXPECT_THAT(d->item(1)[0].tensor.to_floats(), ElementsAre(3, 4));
  EXPECT_THAT(d->item(1)[1].tensor.to_floats(), ElementsAre(8, 9, 10));
  EXPECT_THAT(refuse(R"({"reader": "files", "path": "x"})", in), HasSubstr("several inputs"));
  EXPECT_THAT(refuse(R"({"reader": "files", "path": "x", "dtype": "uint8"})", x), AllOf(HasSubstr("8 bytes"), HasSubstr("2 uint8 has 2"), HasSubstr("as f32 its size would fit")));
  put("x/3.bin", raw({5}));
  EXPECT_THAT(refuse(R"({"reader": "files", "path": "x"})", x), AllOf(HasSubstr("3.bin"), HasSubstr("holds 4 bytes")));
  ::testing::internal::CaptureStderr();
  EXPECT_EQ(open(R"({"reader": "files", "path": "x", "on_error": "skip"})", x)->size(), 2);
  EXPECT_THAT(::testing::internal::GetCapturedStderr(), AllOf(HasSubstr("1 of 3"), HasSubstr("3.bin")));
  EXPECT_THAT(refuse(R"({"reader": "files", "inputs": {"x": {"path": "x"}, "y": {"path": "y", "dtype": "uint8"}}})", in), AllOf(HasSubstr("'y' has 2 files"), HasSubstr("'x' 3")));
  EXPECT_THAT(refuse(R"({"reader": "files", "inputs": {"z": {"path": "x"}}})", x), HasSubstr("no input 'z'"));
  put("z/1.bin", raw({1, 2}));
  put("z/labels.txt", "4\n");
  EXPECT_THAT(open(R"({"reader": "files", "path": "z", "labels": "labels.txt"})", x)->label(0)->to_ints(), ElementsAre(4));
  put("z/labels.txt", "4\n5\n");
  EXPECT_THAT(refuse(R"({"reader": "files", "path": "z", "labels": "labels.txt"})", x), HasSubstr("2 labels for 1 samples"));
  put("z/labels.txt", "four\n");
  EXPECT_THAT(refuse(R"({"reader": "files", "path": "z", "labels": "labels.txt"})", x), HasSubstr("labels.txt:1: 'four'"));
}

TEST_F(Readers, TokenLists) {
  const std::vector<InputSpec> bert{{"input_ids", DType::s64, {-1, 6}}, {"attention_mask", DType::s64, {-1, 6}}, {"token_type_ids", DType::s64, {-1, 6}}};
  put("t.txt", "1 101 7 102 8\n\n0,101,102\r\n");
  const auto d = open(R"({"reader": "tokens", "path": "t.txt", "labelled": true, "separator": 102, "pad": 3})", bert);
  ASSERT_EQ(d->size(), 2);
  EXPECT_THAT(d->item(0)[0].tensor.to_ints(), ElementsAre(101, 7, 102, 8, 3, 3));
  EXPECT_THAT(d->item(0)[1].tensor.to_ints(), ElementsAre(1, 1, 1, 1, 0, 0));
  EXPECT_THAT(d->item(0)[2].tensor.to_ints(), ElementsAre(0, 0, 0, 1, 0, 0));
  EXPECT_THAT(d->label(1)->to_ints(), ElementsAre(0));
  put("t.txt", "1 2 x\n");
  EXPECT_THAT(refuse(R"({"reader": "tokens", "path": "t.txt"})", bert), HasSubstr("t.txt:1: 'x' is no token"));
  put("t.txt", "1 2 3 4 5 6 7\n");
  EXPECT_THAT(refuse(R"({"reader": "tokens", "path": "t.txt"})", bert), AllOf(HasSubstr("t.txt:1: has 7 tokens"), HasSubstr("a sample has 6")));
  put("t.txt", "");
  EXPECT_THAT(refuse(R"({"reader": "tokens", "path": "t.txt"})", bert), HasSubstr("is empty"));
  EXPECT_THAT(refuse(R"({"reader": "tokens", "path": "none.txt"})", bert), HasSubstr("can't be opened"));
  EXPECT_THAT(refuse(R"({"reader": "tokens", "path": "t.txt"})", {{"ids", DType::s64, {-1, 6}}, {"other", DType::s64, {-1, 6}}}), HasSubstr("name the input of the tokens"));
}

}  // namespace
}  // namespace quern
