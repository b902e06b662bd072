// The reader `images`: a folder of pictures, with or without annotations.
#include <opencv2/core/utility.hpp>

#include "annotations.hpp"
#include "picture.hpp"

namespace {

using namespace quern_readers;

struct Images {
  static constexpr std::string_view name = "images";
  static constexpr std::string_view parameters = R"j({
    "type": "object", "additionalProperties": false, "required": ["path"],
    "properties": {
      "path": {"type": "string", "minLength": 1, "format": "path", "description": "the folder of the pictures; those in folders below it count"},
      "input": {"type": "string", "default": "", "description": "the input that is fed; the only one"},
      "annotations": {"type": "object", "additionalProperties": false, "required": ["format"], "properties": {
        "format": {"enum": ["imagenet", "csv", "coco", "folders"], "description": "imagenet: lines `file class`; csv: file, then numbers; coco: JSON with boxes; folders: one a class, in order of their names"},
        "path": {"type": "string", "format": "path", "description": "the file"},
        "categories": {"enum": ["in_order", "as_they_are"], "default": "in_order", "description": "of coco: classes 0, 1, ... in order of the categories' ids, or these ids"}}},
      "read_as": {"enum": ["opencv", "skimage"], "default": "opencv", "description": "opencv: BGR, bytes 0..255; skimage: RGB, float 0..1"},
      "color": {"enum": ["bgr", "rgb", "grey"], "description": "in place of that order"},
      "resize": {"type": "object", "additionalProperties": false, "required": ["size"], "properties": {
        "size": {"description": "[height, width], or a number for both"},
        "method": {"enum": ["nearest", "bilinear", "bicubic", "area", "lanczos"], "default": "bilinear"},
        "keep": {"enum": ["stretch", "letterbox", "shorter"], "default": "stretch", "description": "letterbox: the whole picture, its rest filled; shorter: the smallest of that shape which covers size"},
        "fill": {"type": "number", "minimum": 0, "maximum": 255, "default": 114}}},
      "crop": {"type": "object", "additionalProperties": false, "required": ["size"], "description": "the middle, after the resize", "properties": {"size": {}}},
      "central_fraction": {"type": "number", "exclusiveMinimum": 0, "maximum": 1, "default": 1, "description": "this part of each side is kept, before the resize"},
      "on_error": {"enum": ["stop", "skip"], "default": "stop", "description": "skip: pictures that can't be read are named and left out; every picture is decoded once more for it"}}})j";

  struct Item { std::string path; std::vector<double> label; std::vector<std::array<double, 6>> boxes; };
  struct Data {
    std::string input;
    PictureOptions options;
    bool channels_first = true, boxes = false;
    std::vector<Item> items;
  };

  std::unique_ptr<Data> open(const Json& p, std::string_view folder, const std::vector<InputView>& inputs) {
    cv::setNumThreads(0);  // the host runs samples side by side
    auto data = std::make_unique<Data>();
    const InputView& input = input_of(p, inputs, name);
    data->input = std::string(input.name);
    data->options = PictureOptions(p);
    data->channels_first = channels_first(input, data->options);
    const Json& annotations = p["annotations"];
    const std::string path = joined(folder, p.text("path", ""));
    if (annotations.text("format", "") == "coco") {
      data->boxes = true;
      if (annotations.text("path", "").empty()) refuse("annotations of format coco need a path");
      for (Annotated& a : coco_annotations(joined(folder, annotations.text("path", "")), path, annotations.text("categories", "in_order") == "as_they_are"))
        data->items.push_back({std::move(a.path), {}, std::move(a.boxes)});
    } else {
      for (Entry& e : entries_of(annotations, folder, path, {".jpg", ".jpeg", ".png", ".bmp", ".ppm", ".pgm", ".tif", ".tiff", ".webp"}))
        data->items.push_back({std::move(e.path), std::move(e.label), {}});
    }
    if (p.text("on_error", "stop") == "skip") {
      std::vector<Item> kept;
      for (size_t i : readable(data->items.size(), [&](size_t i) { return data->items[i].path; }, [&](size_t i) { read_picture(data->items[i].path, data->options); }))
        kept.push_back(data->items[i]);
      data->items = std::move(kept);
    }
    return data;
  }
  int64_t size(const Data& d) { return static_cast<int64_t>(d.items.size()); }

  void sample(const Data& d, int64_t index, TableSink& tensors) {
    const cv::Mat pixels = read_picture(d.items[static_cast<size_t>(index)].path, d.options).pixels;
    if (pixels.depth() == CV_8U) emit<uint8_t>(d, pixels, tensors);
    else emit<float>(d, pixels, tensors);
  }
  void label(const Data& d, int64_t index, TableSink& label) {
    const Item& item = d.items[static_cast<size_t>(index)];
    if (d.boxes) {
      // Rows class, x1, y1, x2, y2, crowd in pixels of what is fed.
      const Placement at = read_picture(item.path, d.options).placement;
      std::vector<float> rows;
      for (const auto& b : item.boxes)
        for (double v : {b[0], b[1] * at.scale_x + at.shift_x, b[2] * at.scale_y + at.shift_y, (b[1] + b[3]) * at.scale_x + at.shift_x, (b[2] + b[4]) * at.scale_y + at.shift_y, b[5]})
          rows.push_back(static_cast<float>(v));
      label.emit("boxes", rows, {static_cast<int64_t>(item.boxes.size()), 6});
    } else if (item.label.size() == 1 && item.label[0] == std::floor(item.label[0])) {
      label.emit("class", static_cast<int64_t>(item.label[0]));
    } else if (!item.label.empty()) {
      label.emit("labels", std::vector<float>(item.label.begin(), item.label.end()));
    }
  }

 private:
  static bool channels_first(const InputView& input, const PictureOptions& o) {
    const int64_t channels = o.color == "grey" ? 1 : 3;
    const bool first = input.dims.size() == 4 && input.dims[1] == channels, last = input.dims.size() == 4 && input.dims[3] == channels;
    const int height = o.crop_height > 0 ? o.crop_height : o.height, width = o.crop_width > 0 ? o.crop_width : o.width;
    if (first && last) return input.dims[1] != height || input.dims[2] != width;  // a picture as small as it has channels
    if (first || last) return first;
    std::string dims;
    for (int64_t d : input.dims) dims += (dims.empty() ? "[" : ",") + (d < 0 ? std::string("?") : std::to_string(d));
    refuse("images feeds [n,c,h,w] or [n,h,w,c] with " + std::to_string(channels) + " channel(s); input '" + std::string(input.name) + "' is " + dims + "]");
  }
  template <class T>
  static void emit(const Data& d, const cv::Mat& pixels, TableSink& tensors) {
    const int h = pixels.rows, w = pixels.cols, c = pixels.channels();
    std::vector<T> out(static_cast<size_t>(h) * static_cast<size_t>(w * c));
    for (int y = 0; y < h; ++y) {
      const T* row = pixels.ptr<T>(y);
      for (int x = 0; x < w * c; ++x) out[static_cast<size_t>(d.channels_first ? (x % c * h + y) * w + x / c : y * w * c + x)] = row[x];
    }
    tensors.emit(d.input, out, d.channels_first ? std::vector<int64_t>{c, h, w} : std::vector<int64_t>{h, w, c});
  }
};

}  // namespace

QUERN_SDK_ALGORITHMS(quern_sdk::Readers<Images>)
