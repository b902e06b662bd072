// The metrics of the plugin: each against a plain computation of its definition, or a value that another program gives.
#include <algorithm>
#include <cmath>
#include <random>

#include "core/dataset/dataset.hpp"
#include "tests/plugin/support.hpp"

namespace quern {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

template <class T>
Tensor tensor(Dims dims, const std::vector<T>& values) {
  Tensor t(dtype_of<T>::value, std::move(dims));
  std::copy(values.begin(), values.end(), t.mutable_values<T>().begin());
  return t;
}
Tensor floats(Dims dims, const std::vector<float>& values) { return tensor<float>(std::move(dims), values); }
Tensor ints(Dims dims, const std::vector<int64_t>& values) { return tensor<int64_t>(std::move(dims), values); }

PluginRegistry& registry() {
  static PluginRegistry r(testing::only({testing::own_plugin("metrics")}));
  return r;
}

// A metric of the configuration: {"type": NAME, ...}.
struct Meter {
  explicit Meter(const std::string& description) : metric(make_metric(parse_json(description, "test"), &registry())) {}
  Meter& add(const Tensor& output, std::optional<Tensor> label, const Tensor* reference = nullptr) {
    return add_all({{"out", output}}, std::move(label), reference ? Sample{{"out", *reference}} : Sample{});
  }
  Meter& add_all(const Sample& outputs, std::optional<Tensor> label, const Sample& reference = {}) {
    metric->update(outputs, label, &reference);
    return *this;
  }
  double value() const { return metric->value(); }
  std::unique_ptr<Metric> metric;
};

std::vector<float> noise(size_t n, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<float> out(n);
  for (float& v : out) v = static_cast<float>(random() % 1000) / 1000.0f;
  return out;
}

TEST(PluginMetrics, AucIsTheShareOfPairsInOrder) {
  const auto scores = noise(80, 1);  // thousandths: some are equal
  Meter m(R"({"type": "auc"})"), second(R"({"type": "auc", "positive": 2})");
  std::vector<int64_t> marks;
  for (size_t i = 0; i < scores.size(); ++i) {
    marks.push_back(i % 3 == 0);
    m.add(floats({1, 1}, {scores[i]}), ints({}, {marks[i]}));
    second.add(floats({1, 3}, {0, 1, scores[i]}), ints({}, {marks[i]}));
  }
  double right = 0, pairs = 0;
  for (size_t p = 0; p < scores.size(); ++p)
    for (size_t n = 0; n < scores.size(); ++n)
      if (marks[p] && !marks[n]) pairs += 1, right += scores[p] > scores[n] ? 1 : scores[p] == scores[n] ? 0.5 : 0;
  EXPECT_NEAR(m.value(), right / pairs, 1e-12);
  EXPECT_EQ(second.value(), m.value());
}

TEST(PluginMetrics, AucOfTheErrorOfAnAutoencoder) {
  Meter m(R"({"type": "auc", "score": "error"})");
  m.add(floats({1, 2}, {1, 1}), floats({3}, {0, 1, 1.1f})).add(floats({1, 2}, {1, 1}), floats({3}, {1, 1, 2})).add(floats({1, 2}, {0, 0}), floats({3}, {0, 2, 0}));
  EXPECT_EQ(m.value(), 0.5);  // errors 0.005, 0.5, 2 of which the second is the positive one
  EXPECT_THAT(testing::error_of([&] { m.add(floats({1, 2}, {1, 1}), floats({2}, {1, 1})); }), HasSubstr("labels: [class array, target array]"));
}

TEST(PluginMetrics, F1OfThreeClasses) {
  // Labels 0 0 1 1 2 2 2, decisions 0 1 1 1 2 0 2: classes 0: TP 1 FP 1 FN 1; 1: 2 1 0; 2: 2 0 1.
  const std::vector<int64_t> marks{0, 0, 1, 1, 2, 2, 2}, found{0, 1, 1, 1, 2, 0, 2};
  const auto value = [&](const std::string& average) {
    Meter m(R"({"type": "f1", "average": ")" + average + R"("})");
    for (size_t i = 0; i < marks.size(); ++i) {
      std::vector<float> scores(3, 0);
      scores[static_cast<size_t>(found[i])] = 1;
      m.add(floats({1, 3}, scores), ints({}, {marks[i]}));
    }
    return m.value();
  };
  EXPECT_NEAR(value("macro"), (0.5 + 0.8 + 0.8) / 3, 1e-12);
  EXPECT_NEAR(value("weighted"), (2 * 0.5 + 2 * 0.8 + 3 * 0.8) / 7, 1e-12);
  EXPECT_NEAR(value("micro"), 5.0 / 7, 1e-12);
  EXPECT_NEAR(value("binary"), 0.8, 1e-12);
  Meter one(R"({"type": "f1", "average": "binary", "threshold": 0.3})");
  one.add(floats({1, 1}, {0.4f}), ints({1}, {1})).add(floats({1, 1}, {0.2f}), ints({1}, {1})).add(floats({1, 1}, {0.9f}), ints({1}, {0}));
  EXPECT_NEAR(one.value(), 0.5, 1e-12);
}

TEST(PluginMetrics, MeanIouFromOneConfusionMatrix) {
  // Two pictures of 2 x 2; classes on axis 1. 255 does not count.
  Meter m(R"({"type": "miou"})");
  m.add(floats({1, 3, 2, 2}, {1, 0, 0, 0, /**/ 0, 1, 1, 0, /**/ 0, 0, 0, 1}), ints({2, 2}, {0, 1, 0, 2}));
  m.add(floats({1, 3, 2, 2}, {1, 1, 0, 0, /**/ 0, 0, 1, 1, /**/ 0, 0, 0, 0}), ints({2, 2}, {0, 0, 255, 1}));
  // decisions 0 1 1 2 | 0 0 - 1. class 0: both 3, union 4; class 1: both 2, union 3; class 2: 1 of 1.
  EXPECT_NEAR(m.value(), (3.0 / 4 + 2.0 / 3 + 1) / 3, 1e-12);
}

TEST(PluginMetrics, DicePerSample) {
  Meter m(R"({"type": "dice"})");
  m.add(floats({1, 1, 2, 2}, {0.9f, 0.6f, 0.1f, 0.2f}), tensor<uint8_t>({2, 2}, {1, 0, 1, 0}));  // 1 of 2 and 2
  m.add(floats({1, 1, 2, 2}, {0, 0, 0, 0}), tensor<uint8_t>({2, 2}, {0, 0, 0, 0}));
  EXPECT_NEAR(m.value(), (3.0 / 5 + 1) / 2, 1e-12);
  Meter classes(R"({"type": "dice", "smooth": 0})");
  classes.add(floats({1, 3, 1, 3}, {0, 0, 1, /**/ 1, 0, 0, /**/ 0, 1, 0}), ints({1, 3}, {1, 1, 2}));  // decided 1 2 0
  EXPECT_NEAR(classes.value(), (2.0 / 3 + 0) / 2, 1e-12);
}

TEST(PluginMetrics, ErrorsAndCorrelations) {
  const auto x = noise(40, 2), y = noise(40, 3);
  double squares = 0, absolute = 0, sx = 0, sy = 0, sxx = 0, syy = 0, sxy = 0;
  Meter rmse(R"("rmse")"), mae(R"("mae")"), pearson(R"("pearson")");
  for (size_t i = 0; i < x.size(); i += 4) {
    const std::vector<float> a(x.begin() + static_cast<long>(i), x.begin() + static_cast<long>(i) + 4), b(y.begin() + static_cast<long>(i), y.begin() + static_cast<long>(i) + 4);
    for (Meter* m : {&rmse, &mae, &pearson}) m->add(floats({1, 4}, a), floats({4}, b));
  }
  for (size_t i = 0; i < x.size(); ++i) {
    const double d = static_cast<double>(x[i]) - y[i];
    squares += d * d, absolute += std::abs(d), sx += x[i], sy += y[i], sxx += static_cast<double>(x[i]) * x[i], syy += static_cast<double>(y[i]) * y[i], sxy += static_cast<double>(x[i]) * y[i];
  }
  const double n = 40;
  EXPECT_NEAR(rmse.value(), std::sqrt(squares / n), 1e-12);
  EXPECT_NEAR(mae.value(), absolute / n, 1e-12);
  EXPECT_NEAR(pearson.value(), (n * sxy - sx * sy) / std::sqrt((n * sxx - sx * sx) * (n * syy - sy * sy)), 1e-9);
  // Ranks 0 2.5 1 2.5 4 and 1 0 2 3 4: Pearson of them by hand, 5.5 / sqrt(9.5 * 10).
  Meter spearman(R"("spearman")");
  spearman.add(floats({1, 5}, {-3, 7, 2, 7, 90}), floats({5}, {10, 5, 20, 30, 31}));
  EXPECT_NEAR(spearman.value(), 5.5 / std::sqrt(95.0), 1e-12);
  Meter flat(R"("pearson")");
  flat.add(floats({1, 3}, {1, 1, 1}), floats({3}, {1, 2, 3}));
  EXPECT_THAT(testing::error_of([&] { flat.value(); }), HasSubstr("all outputs are equal"));
  EXPECT_THAT(testing::error_of([&] { flat.add(floats({1, 3}, {1, 1, 1}), floats({2}, {1, 2})); }), AllOf(HasSubstr("[1,3]"), HasSubstr("[2]")));
}

TEST(PluginMetrics, SignalToDistortionDoesNotSeeScale) {
  const std::vector<float> clean{1, -1, 1, -1}, dirty{2.5f, -1.5f, 2, -2};  // 2 clean + (0.5, 0.5, 0, 0)
  Meter m(R"("si_sdr")"), louder(R"("si_sdr")");
  m.add(floats({1, 4}, dirty), floats({4}, clean));
  std::vector<float> twice = dirty;
  for (float& v : twice) v *= 2;
  louder.add(floats({1, 4}, twice), floats({4}, clean));
  EXPECT_NEAR(m.value(), 10 * std::log10(16 / 0.5), 1e-9);
  EXPECT_NEAR(louder.value(), m.value(), 1e-9);
  Meter mean(R"({"type": "si_sdr", "zero_mean": true})");
  mean.add(floats({1, 4}, dirty), floats({4}, clean));  // distortion (0.25, 0.25, -0.25, -0.25)
  EXPECT_NEAR(mean.value(), 10 * std::log10(16 / 0.25), 1e-9);
  EXPECT_THAT(testing::error_of([&] { m.add(floats({1, 2}, {1, 1}), floats({2}, {0, 0})); }), HasSubstr("silent"));
}

TEST(PluginMetrics, PsnrAndSsim) {
  const int h = 14, w = 13;
  const auto a = noise(2 * h * w, 5), b = noise(2 * h * w, 6);
  double squares = 0;
  for (size_t i = 0; i < a.size(); ++i) squares += (static_cast<double>(a[i]) - b[i]) * (static_cast<double>(a[i]) - b[i]);
  Meter psnr(R"({"type": "psnr", "peak": 2})");
  psnr.add(floats({1, 2, h, w}, a), floats({2, h, w}, b));
  EXPECT_NEAR(psnr.value(), 10 * std::log10(4 / (squares / static_cast<double>(a.size()))), 1e-9);

  // The definition with a window in two dimensions.
  double weights[11][11], total = 0, sum = 0;
  for (int y = 0; y < 11; ++y)
    for (int x = 0; x < 11; ++x) total += weights[y][x] = std::exp(-((y - 5) * (y - 5) + (x - 5) * (x - 5)) / (2 * 1.5 * 1.5));
  for (int c = 0; c < 2; ++c)
    for (int y = 0; y + 11 <= h; ++y)
      for (int x = 0; x + 11 <= w; ++x) {
        double ma = 0, mb = 0, va = 0, vb = 0, cov = 0;
        const auto each = [&](auto&& f) {
          for (int v = 0; v < 11; ++v)
            for (int u = 0; u < 11; ++u) f(weights[v][u] / total, a[static_cast<size_t>((c * h + y + v) * w + x + u)], b[static_cast<size_t>((c * h + y + v) * w + x + u)]);
        };
        each([&](double k, double p, double q) { ma += k * p, mb += k * q; });
        each([&](double k, double p, double q) { va += k * (p - ma) * (p - ma), vb += k * (q - mb) * (q - mb), cov += k * (p - ma) * (q - mb); });
        sum += (2 * ma * mb + 1e-4) * (2 * cov + 9e-4) / ((ma * ma + mb * mb + 1e-4) * (va + vb + 9e-4));
      }
  Meter ssim(R"("ssim")"), last(R"({"type": "ssim", "channels_last": true})");
  ssim.add(floats({1, 2, h, w}, a), floats({2, h, w}, b));
  EXPECT_NEAR(ssim.value(), sum / (2 * 4 * 3), 1e-9);
  const auto turned = [&](const std::vector<float>& v) {
    std::vector<float> out;
    for (size_t i = 0; i < v.size() / 2; ++i) out.push_back(v[i]), out.push_back(v[v.size() / 2 + i]);
    return out;
  };
  last.add(floats({1, h, w, 2}, turned(a)), floats({h, w, 2}, turned(b)));
  EXPECT_NEAR(last.value(), ssim.value(), 1e-12);
  EXPECT_THAT(testing::error_of([&] { ssim.add(floats({1, 1, 4, 4}, noise(16, 1)), floats({1, 4, 4}, noise(16, 1))); }), HasSubstr("11 x 11"));
}

TEST(PluginMetrics, ErrorRates) {
  // "kitten" for "sitting": 3 edits of 7. Tokens are letters; 0 is the blank, 32 the space.
  const auto text = [](const std::string& s) { return std::vector<int64_t>(s.begin(), s.end()); };
  const auto tokens = [&](const std::string& s) { return ints({1, static_cast<int64_t>(s.size())}, text(s)); };
  Meter plain(R"({"type": "cer", "decode": "plain"})");
  auto padded = text("sitting");
  padded.insert(padded.end(), {-1, -1});
  plain.add(tokens("kitten"), ints({9}, padded));
  EXPECT_NEAR(plain.value(), 3.0 / 7, 1e-12);
  Meter words(R"({"type": "wer", "separator": 32, "decode": "plain"})");
  words.add(tokens("the cat sat"), ints({10}, text("a cat sat "))).add(tokens("yes"), ints({6}, text("oh yes")));
  EXPECT_NEAR(words.value(), 2.0 / 5, 1e-12);
  // CTC: repeats merge unless a blank stands between, blanks go. Steps 1 1 0 1 2 of scores [5][3] say 1 1 2.
  Meter ctc(R"({"type": "cer"})");
  ctc.add(floats({1, 5, 3}, {0, 1, 0, 0, 1, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1}), ints({3}, {1, 1, 2}));
  EXPECT_EQ(ctc.value(), 0);
  EXPECT_THAT(testing::error_of([] { Meter m(R"({"type": "cer"})"); m.add(floats({1, 1, 2}, {1, 0}), ints({0}, {})); m.value(); }), HasSubstr("all empty"));
}

// Boxes from a small generator, as the comment at the figures says.
struct Scene {
  uint32_t state = 12345;
  int64_t next(int64_t n) {
    state = (state * 1103515245u + 12345u) & 0x7fffffffu;
    return (state >> 16) % n;
  }
  struct Picture { std::vector<float> found, truths; };  // rows x1 y1 x2 y2 score class; class x1 y1 x2 y2 crowd
  Picture picture() {
    Picture p;
    const auto box = [&](int64_t x, int64_t y, int64_t w, int64_t h, int64_t score, int64_t kind) {
      for (double v : {double(x), double(y), double(x + w), double(y + h), static_cast<double>(score + 1) / 1001, double(kind)}) p.found.push_back(static_cast<float>(v));
    };
    const int64_t n = 1 + next(5);
    for (int64_t g = 0; g < n; ++g) {
      const int64_t c = next(3), x = next(60), y = next(60), w = 8 + next(30), h = 8 + next(30), crowd = next(8) == 0, k = next(4);
      for (int64_t v : {c, x, y, x + w, y + h, crowd}) p.truths.push_back(static_cast<float>(v));
      for (int64_t d = 0; d < k; ++d) {
        const int64_t dx = next(9) - 4, dy = next(9) - 4, dw = next(7) - 3, dh = next(7) - 3, score = next(1000), kind = next(6) ? c : next(3);
        box(x + dx, y + dy, w + dw, h + dh, score, kind);
      }
    }
    for (int64_t d = next(3); d > 0; --d) {
      const int64_t x = next(60), y = next(60), w = 8 + next(30), h = 8 + next(30), kind = next(3), score = next(1000);
      box(x, y, w, h, score, kind);
    }
    return p;
  }
};

double map_of_scene(const std::string& options) {
  Meter m(R"({"type": "map", "boxes": {"form": "rows", "nms": 1, "min_score": 0})" + options + "}");
  Scene scene;
  for (int i = 0; i < 20; ++i) {
    const auto p = scene.picture();
    m.add(floats({1, static_cast<int64_t>(p.found.size() / 6), 6}, p.found), floats({static_cast<int64_t>(p.truths.size() / 6), 6}, p.truths));
  }
  return m.value();
}

TEST(PluginMetrics, MapIsThatOfCocosOwnProgram) {
  // pycocotools 2.0.11 on the same 20 pictures, boxes as [x, y, w, h]: AP, AP50, AP75.
  EXPECT_NEAR(map_of_scene(""), 0.12461533561955483, 1e-9);
  EXPECT_NEAR(map_of_scene(R"(, "overlaps": [0.5])"), 0.3681617046131701, 1e-9);
  EXPECT_NEAR(map_of_scene(R"(, "overlaps": [0.75])"), 0.05590193666328866, 1e-9);
}

TEST(PluginMetrics, MapByVocsRule) {
  // One class, three truths in two pictures. By score: right (0.9), wrong (0.8), right (0.7), the same truth again (0.6), a
  // difficult one (0.5, does not count). Precision at recall 1/3: 1, at 2/3: 2/3.
  const auto value = [](const std::string& options) {
    Meter m(R"({"type": "map", "rule": "voc", "boxes": {"nms": 1})" + options + "}");
    m.add(floats({1, 3, 6}, {0, 0, 10, 10, 0.9f, 0, 50, 50, 60, 60, 0.8f, 0, 1, 0, 11, 10, 0.6f, 0}), floats({2, 6}, {0, 0, 0, 10, 10, 0, 0, 20, 20, 30, 30, 0}));
    m.add(floats({1, 2, 6}, {5, 5, 15, 15, 0.7f, 0, 40, 40, 50, 50, 0.5f, 0}), floats({3, 6}, {0, 5, 5, 15, 16, 0, 0, 40, 40, 50, 50, 1, -1, 0, 0, 0, 0, 0}));
    return m.value();
  };
  EXPECT_NEAR(value(""), 1.0 / 3 + 1.0 / 3 * 2 / 3, 1e-9);
  EXPECT_NEAR(value(R"(, "points": 11)"), (4 * 1 + 3 * 2.0 / 3) / 11, 1e-9);  // recalls 0..0.3, 0.4..0.6
}

TEST(PluginMetrics, BoxesOfEveryForm) {
  // One object of class 1 at (2, 4)-(6, 8) of a picture of 8 x 8, in each way of writing it; a second, worse box goes by suppression.
  const auto value = [](const std::string& boxes, const Sample& outputs) {
    Meter m(R"({"type": "map", "overlaps": [0.9], "boxes": )" + boxes + "}");
    m.add_all(outputs, floats({1, 5}, {1, 2, 4, 6, 8}));
    return m.value();
  };
  const auto logit = [](double p) { return static_cast<float>(std::log(p / (1 - p))); };
  EXPECT_NEAR(value(R"({"columns": ["image", "class", "score", "x1", "y1", "x2", "y2"]})",
                  {{"o", floats({2, 7}, {0, 1, 0.9f, 2, 4, 6, 8, 0, 1, 0.5f, 2, 4, 6, 7})}}), 1, 1e-12);
  EXPECT_NEAR(value(R"({"form": "corners", "scale": 8})",
                  {{"b", floats({1, 2, 4}, {0.25f, 0.5f, 0.75f, 1, 0.25f, 0.5f, 0.75f, 0.9f})}, {"s", floats({1, 2, 2}, {0, 0.9f, 0, 0.5f})}}), 1, 1e-12);
  // A background before the classes, the softmax not done yet, candidates on the last axis.
  EXPECT_NEAR(value(R"({"form": "centers", "activation": "softmax", "background": 0, "scale": [8, 8], "boxes": "b", "scores": "s"})",
                  {{"s", floats({1, 3, 2}, {5, 0, 0, 0, 0, 9})}, {"b", floats({1, 4, 2}, {0, 0.5f, 0, 0.75f, 0, 0.5f, 0, 0.5f})}}), 1, 1e-12);
  // All in one output of six numbers a candidate, on axis 1 (YOLOv8).
  std::vector<float> one(6 * 8, 0);
  for (auto [k, v] : {std::pair{0, 4.0f}, {1, 6.0f}, {2, 4.0f}, {3, 4.0f}, {5, 0.8f}}) one[static_cast<size_t>(k * 8 + 3)] = v;
  EXPECT_NEAR(value(R"({"form": "centers"})", {{"o", floats({1, 6, 8}, one)}}), 1, 1e-12);
  // Anchors of 2 x 2 cells, size 0.25: the one at (0.25, 0.75) moves by (0.25, 0) and doubles.
  std::vector<float> offsets(16, 0), scores(12, 0);
  offsets[8] = 0.25f / 0.25f / 0.1f;
  offsets[10] = offsets[11] = static_cast<float>(std::log(2.0) / 0.2);
  scores[2 * 3 + 2] = 4;
  scores[0] = scores[3] = scores[9] = 4;
  EXPECT_NEAR(value(R"({"form": "anchors", "levels": [{"grid": [2, 2], "sizes": [[0.25, 0.25]]}], "activation": "softmax", "background": 0, "scale": 8})",
                  {{"b", floats({1, 4, 4}, offsets)}, {"s", floats({1, 4, 3}, scores)}}), 1, 1e-12);
  // Cells of 2 x 2: the centre (0.5, 0.75) is at the left edge and half way down in cell (1, 1).
  for (const std::string style : {"yolov3", "yolov5"}) {
    std::vector<float> cells(7 * 4, -9);
    const double x = style == "yolov3" ? 1e-4 : 0.25, y = 0.5, size = style == "yolov3" ? std::log(2.0) : logit(std::sqrt(2.0) / 2);
    const std::vector<double> numbers{logit(x), logit(y), size, size, 9, -9, 9};
    for (size_t k = 0; k < 7; ++k) cells[k * 4 + 3] = static_cast<float>(numbers[k]);
    EXPECT_NEAR(value(R"({"form": "grid", "style": ")" + style + R"(", "levels": [{"sizes": [[0.25, 0.25]]}], "scale": 8})", {{"o", floats({1, 7, 2, 2}, cells)}}), 1, 1e-12);
  }
  std::vector<float> fast(7 * 4, 0);
  const std::vector<double> numbers{0.9, 0, std::atanh(0.5), 0, 0, 0, 0.9};
  for (size_t k = 0; k < 7; ++k) fast[k * 4 + 3] = static_cast<float>(numbers[k]);
  EXPECT_NEAR(value(R"({"form": "grid", "style": "fastestdet", "scale": 8})", {{"o", floats({1, 7, 2, 2}, fast)}}), 1, 1e-12);

  EXPECT_THAT(testing::error_of([&] { value(R"({"form": "corners"})", {{"b", floats({1, 2, 4}, std::vector<float>(8))}, {"s", floats({1, 5, 3}, std::vector<float>(15))}}); }),
              HasSubstr("2 candidates"));
  EXPECT_THAT(testing::error_of([&] { value(R"({"columns": ["x1", "y1", "x2", "y2"]})", {{"o", floats({1, 5}, {0, 0, 0, 0, 0})}}); }), HasSubstr("4 columns"));
}

TEST(PluginMetrics, CellF1) {
  // Two classes on channels 5 and 6; cells 0 and 1 of the float network are confident, of classes 0 and 1.
  const auto cells = [](std::vector<float> object, std::vector<float> first, std::vector<float> second) {
    std::vector<float> v(7 * 4, 0);
    for (size_t i = 0; i < 4; ++i) v[i] = object[i], v[20 + i] = first[i], v[24 + i] = second[i];
    return floats({1, 7, 2, 2}, v);
  };
  const Tensor reference = cells({0.9f, 0.9f, 0.1f, 0}, {0.9f, 0.1f, 1, 1}, {0, 0.8f, 0, 0});
  Meter m(R"("cell_f1")");
  m.add(cells({0.9f, 0.9f, 0.8f, 0}, {0.9f, 0.9f, 1, 1}, {0, 0.8f, 0, 0}), {}, &reference);  // right, another class, one too many
  EXPECT_NEAR(m.value(), 2.0 * 1 / (3 + 2), 1e-12);
}

TEST(PluginMetrics, OutputsAreFoundByName) {
  Meter m(R"({"type": "rmse", "output": "b"})");
  m.add_all({{"a", floats({1}, {9})}, {"b", floats({1}, {3})}}, floats({1}, {1}));
  EXPECT_EQ(m.value(), 2);
  EXPECT_THAT(testing::error_of([&] { m.add_all({{"a", floats({1}, {9})}}, floats({1}, {1})); }), AllOf(HasSubstr("no output 'b'"), HasSubstr("it has a")));
}

}  // namespace
}  // namespace quern
