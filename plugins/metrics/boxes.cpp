#include "boxes.hpp"

#include <algorithm>
#include <map>

namespace quern_metrics {

double area(const Box& b) { return std::max(0.0, b.x2 - b.x1) * std::max(0.0, b.y2 - b.y1); }
double overlap(const Box& a, const Box& b) {
  return std::max(0.0, std::min(a.x2, b.x2) - std::max(a.x1, b.x1)) * std::max(0.0, std::min(a.y2, b.y2) - std::max(a.y1, b.y1));
}
double iou(const Box& a, const Box& b) {
  const double both = overlap(a, b), all = area(a) + area(b) - both;
  return all > 0 ? both / all : 0;
}

namespace {

// A number, or a list of them.
std::vector<double> numbers(const Json& v) {
  std::vector<double> out;
  if (v.kind() == Json::Kind::number) out.push_back(v.number());
  for (const Json& e : v.items()) out.push_back(e.number());
  return out;
}

std::array<double, 2> pair(const Json& v, const std::string& where) {
  const auto list = numbers(v);
  if (list.size() != 2) refuse(where + " has to be two numbers");
  return {list[0], list[1]};
}

std::array<double, 4> corners_of(double cx, double cy, double w, double h) { return {cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2}; }

}  // namespace

BoxDecoder::BoxDecoder(const Json& b) {
  form_ = b.text("form", "rows");
  style_ = b.text("style", "yolov3");
  boxes_ = b.text("boxes", "");
  scores_ = b.text("scores", boxes_);
  for (const Json& c : b["columns"].items()) columns_.push_back(c.text());
  if (columns_.empty()) columns_ = {"x1", "y1", "x2", "y2", "score", "class"};
  const std::string activation = b.text("activation", "none");
  activation_ = activation == "sigmoid" ? Activation::sigmoid : activation == "softmax" ? Activation::softmax : Activation::none;
  objectness_ = b.flag("objectness", false);
  background_ = b.integer("background", -1);
  min_score_ = b.number("min_score", 0.01);
  nms_ = b.number("nms", 0.5);
  per_class_ = b.flag("per_class", true);
  limit_ = b.integer("limit", 100);
  if (b.has("scale")) {
    const auto s = numbers(b["scale"]);
    if (s.empty() || s.size() > 2) refuse("boxes.scale has to be a number, or one for x and one for y");
    scale_x_ = s[0];
    scale_y_ = s.back();
  }
  if (b.has("variances")) {
    const auto v = pair(b["variances"], "boxes.variances");
    variance_xy_ = v[0];
    variance_wh_ = v[1];
  }
  for (const Json& l : b["levels"].items()) {
    Level level{l.text("output", ""), {}, 0, 0};
    for (const Json& s : l["sizes"].items()) level.sizes.push_back(pair(s, "boxes.levels.sizes"));
    if (l.has("grid")) {
      const auto g = pair(l["grid"], "boxes.levels.grid");
      level.height = static_cast<int64_t>(g[0]);
      level.width = static_cast<int64_t>(g[1]);
    }
    levels_.push_back(std::move(level));
  }
  if (form_ == "anchors") {
    for (const Level& l : levels_)
      for (int64_t y = 0; y < l.height; ++y)
        for (int64_t x = 0; x < l.width; ++x)
          for (const auto& s : l.sizes)
            anchors_.push_back({(static_cast<double>(x) + 0.5) / static_cast<double>(l.width), (static_cast<double>(y) + 0.5) / static_cast<double>(l.height), s[0], s[1]});
    if (anchors_.empty()) refuse("boxes of form anchors need levels: [{grid: [height, width], sizes: [[w, h], ...]}, ...]");
  }
  if (form_ == "grid") {
    if (levels_.empty()) levels_.push_back({boxes_, {}, 0, 0});
    if (style_ != "fastestdet")
      for (const Level& l : levels_)
        if (l.sizes.empty()) refuse("boxes of form grid, style " + style_ + ", need levels: [{output: name, sizes: [[w, h], ...]}, ...]");
  }
}

void BoxDecoder::add(std::vector<Box>& found, const Numbers& c, double score, int64_t kind) const {
  if (!(score >= min_score_)) return;
  for (double v : c) if (!std::isfinite(v)) return;
  found.push_back({c[0] * scale_x_, c[1] * scale_y_, c[2] * scale_x_, c[3] * scale_y_, score, kind});
}

void BoxDecoder::rows(const OutputsView& outputs, std::vector<Box>& found) const {
  const quern_tensor& out = output_of(outputs, boxes_);
  const TensorView t(out);
  const auto n = static_cast<int64_t>(columns_.size());
  if (t.rank() == 0 || t.dim(t.rank() - 1) != n)
    refuse("the output of boxes has the shape " + dims_text(t.dims()) + "; boxes.columns names " + std::to_string(n) + " columns");
  const auto v = numbers_of(out);
  for (size_t at = 0; at + columns_.size() <= v.size(); at += columns_.size()) {
    std::map<std::string, double> row;
    for (size_t k = 0; k < columns_.size(); ++k) row[columns_[k]] = v[at + k];
    const Numbers c = row.count("cx") ? corners_of(row["cx"], row["cy"], row["w"], row["h"])
                                      : Numbers{row["x1"], row["y1"], row.count("w") ? row["x1"] + row["w"] : row["x2"], row.count("h") ? row["y1"] + row["h"] : row["y2"]};
    const auto kind = static_cast<int64_t>(row["class"]);
    if (kind >= 0) add(found, c, row["score"], kind);
  }
}

void BoxDecoder::score_classes(std::vector<double>& s) const {
  if (activation_ == Activation::sigmoid) for (double& v : s) v = portable::sigmoid(v);
  if (activation_ == Activation::softmax && !s.empty()) {
    const double top = *std::max_element(s.begin(), s.end());
    double sum = 0;
    for (double& v : s) sum += v = portable::exp(v - top);
    for (double& v : s) v /= sum;
  }
}

// Boxes and scores of a list of candidates, in one output or in two; the shorter axis holds the numbers of a candidate.
void BoxDecoder::lists(const OutputsView& outputs, std::vector<Box>& found) const {
  struct List { std::vector<double> v; int64_t items, each; bool items_first; double at(int64_t i, int64_t k) const { return v[static_cast<size_t>(items_first ? i * each + k : k * items + i)]; } };
  const auto list = [&](const quern_tensor& out, bool boxes_alone) {
    const TensorView t(out);
    if (t.rank() < 2) refuse("boxes need an output [1, candidates, numbers], not " + dims_text(t.dims()));
    const int64_t a = t.dim(t.rank() - 2), b = t.dim(t.rank() - 1);
    if (t.count() != a * b) refuse("boxes are decoded for one picture a sample, not from " + dims_text(t.dims()));
    const bool first = boxes_alone ? b == 4 : b <= a;
    return List{numbers_of(out), first ? a : b, first ? b : a, first};
  };
  const bool together = outputs.size() == 1 || (!boxes_.empty() && boxes_ == scores_);
  const List boxes = list(output_of(outputs, boxes_), !together);
  List scores = boxes;
  if (!together) {
    const std::string name = scores_.empty() || scores_ == boxes_ ? std::string(outputs.name(1)) : scores_;
    scores = list(output_of(outputs, name), false);
    if (scores.items != boxes.items && scores.each == boxes.items) {  // more classes than candidates
      std::swap(scores.items, scores.each);
      scores.items_first = !scores.items_first;
    }
  }
  const int64_t skip = together ? 4 : 0, classes = scores.each - skip - objectness_;
  if (boxes.each < 4 || classes < 1 || boxes.items != scores.items)
    refuse("boxes: " + std::to_string(boxes.items) + " candidates of " + std::to_string(boxes.each) + " numbers do not fit " + std::to_string(scores.items) + " of " +
           std::to_string(scores.each) + " scores");
  if (form_ == "anchors" && static_cast<int64_t>(anchors_.size()) != boxes.items)
    refuse("boxes.levels make " + std::to_string(anchors_.size()) + " anchors; the network has " + std::to_string(boxes.items) + " candidates");
  std::vector<double> s(static_cast<size_t>(classes));
  for (int64_t i = 0; i < boxes.items; ++i) {
    Numbers c{boxes.at(i, 0), boxes.at(i, 1), boxes.at(i, 2), boxes.at(i, 3)};
    if (form_ == "centers") c = corners_of(c[0], c[1], c[2], c[3]);
    if (form_ == "anchors") {
      const Numbers& a = anchors_[static_cast<size_t>(i)];
      c = corners_of(a[0] + c[0] * variance_xy_ * a[2], a[1] + c[1] * variance_xy_ * a[3], a[2] * portable::exp(c[2] * variance_wh_), a[3] * portable::exp(c[3] * variance_wh_));
    }
    for (int64_t k = 0; k < classes; ++k) s[static_cast<size_t>(k)] = scores.at(i, skip + objectness_ + k);
    score_classes(s);
    double object = objectness_ ? scores.at(i, skip) : 1;
    if (objectness_ && activation_ == Activation::sigmoid) object = portable::sigmoid(object);
    for (int64_t k = 0; k < classes; ++k)
      if (k != background_) add(found, c, object * s[static_cast<size_t>(k)], background_ >= 0 && k > background_ ? k - 1 : k);
  }
}

// One output [1, anchors * (4 + 1 + classes), height, width]. yolov3, yolov5: x, y, w, h, objectness, classes; fastestdet:
// objectness, x, y, w, h, classes, with scores that are activated already.
void BoxDecoder::grid(const OutputsView& outputs, const Level& level, std::vector<Box>& found) const {
  const quern_tensor& out = output_of(outputs, level.output);
  const TensorView t(out);
  const bool fast = style_ == "fastestdet";
  const auto anchors = fast ? int64_t{1} : static_cast<int64_t>(level.sizes.size());
  if (t.rank() != 4 || t.dim(0) != 1 || t.dim(1) % anchors != 0 || t.dim(1) / anchors < 6)
    refuse("boxes of form grid need an output [1, " + std::to_string(anchors) + " x (5 + classes), height, width], not " + dims_text(t.dims()));
  const auto v = numbers_of(out);
  const int64_t each = t.dim(1) / anchors, h = t.dim(2), w = t.dim(3);
  using portable::sigmoid;
  for (int64_t a = 0; a < anchors; ++a)
    for (int64_t y = 0; y < h; ++y)
      for (int64_t x = 0; x < w; ++x) {
        const auto at = [&](int64_t k) { return v[static_cast<size_t>(((a * each + k) * h + y) * w + x)]; };
        double cx, cy, bw, bh, object;
        if (fast) {
          object = at(0);
          cx = portable::tanh(at(1)), cy = portable::tanh(at(2)), bw = sigmoid(at(3)), bh = sigmoid(at(4));
        } else {
          const auto& size = level.sizes[static_cast<size_t>(a)];
          object = sigmoid(at(4));
          const double sw = 2 * sigmoid(at(2)), sh = 2 * sigmoid(at(3));
          const bool five = style_ == "yolov5";
          cx = five ? 2 * sigmoid(at(0)) - 0.5 : sigmoid(at(0));
          cy = five ? 2 * sigmoid(at(1)) - 0.5 : sigmoid(at(1));
          bw = size[0] * (five ? sw * sw : portable::exp(at(2)));
          bh = size[1] * (five ? sh * sh : portable::exp(at(3)));
        }
        const Numbers c = corners_of((cx + static_cast<double>(x)) / static_cast<double>(w), (cy + static_cast<double>(y)) / static_cast<double>(h), bw, bh);
        for (int64_t k = 5; k < each; ++k) add(found, c, fast ? power(object, 0.6) * power(at(k), 0.4) : object * sigmoid(at(k)), k - 5);
      }
}

std::vector<Box> BoxDecoder::suppressed(std::vector<Box> found) const {
  std::stable_sort(found.begin(), found.end(), [](const Box& a, const Box& b) { return a.score > b.score; });
  std::vector<Box> kept;
  for (const Box& b : found) {
    if (static_cast<int64_t>(kept.size()) >= limit_) break;
    const bool covered = nms_ < 1 && std::any_of(kept.begin(), kept.end(), [&](const Box& k) { return (!per_class_ || k.kind == b.kind) && iou(k, b) > nms_; });
    if (!covered) kept.push_back(b);
  }
  return kept;
}

std::vector<Box> BoxDecoder::decode(const OutputsView& outputs) const {
  std::vector<Box> found;
  if (form_ == "rows") rows(outputs, found);
  else if (form_ == "grid") for (const Level& l : levels_) grid(outputs, l, found);
  else lists(outputs, found);
  return suppressed(std::move(found));
}

}  // namespace quern_metrics
