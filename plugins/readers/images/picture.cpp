#include "picture.hpp"

#include <algorithm>
#include <map>
#include <opencv2/imgcodecs.hpp>
#include <opencv2/imgproc.hpp>

namespace quern_readers {
namespace {

// A number for both, or [height, width].
void size_of(const Json& v, const char* what, int& height, int& width) {
  std::vector<double> n;
  if (v.kind() == Json::Kind::number) n = {v.number(), v.number()};
  for (const Json& e : v.items()) n.push_back(e.number());
  if (n.size() != 2 || n[0] < 1 || n[1] < 1 || n[0] > 65535 || n[1] > 65535) refuse(std::string(what) + " has to be a number of pixels, or [height, width]");
  height = static_cast<int>(n[0]);
  width = static_cast<int>(n[1]);
}

// Half up, as the sizes of pictures are rounded nearly everywhere.
int whole(double v) { return std::max(1, static_cast<int>(std::floor(v + 0.5))); }

void cut(Picture& p, int height, int width) {
  const int h = std::min(height, p.pixels.rows), w = std::min(width, p.pixels.cols);
  const int top = (p.pixels.rows - h) / 2, left = (p.pixels.cols - w) / 2;
  p.pixels = p.pixels(cv::Rect(left, top, w, h)).clone();
  p.placement.shift_x -= left;
  p.placement.shift_y -= top;
}

void resize(Picture& p, int height, int width, int method) {
  const double sx = static_cast<double>(width) / p.pixels.cols, sy = static_cast<double>(height) / p.pixels.rows;
  if (p.pixels.rows != height || p.pixels.cols != width) {
    cv::Mat out;
    cv::resize(p.pixels, out, cv::Size(width, height), 0, 0, method);
    p.pixels = out;
  }
  Placement& at = p.placement;
  at = {at.scale_x * sx, at.scale_y * sy, at.shift_x * sx, at.shift_y * sy};
}

bool starts_with(const std::vector<uint8_t>& b, std::initializer_list<uint8_t> head) { return b.size() >= head.size() && std::equal(head.begin(), head.end(), b.begin()); }

// Decoders fill up what a file lacks with grey and say nothing. A whole JPEG has its end mark behind the first scan (a thumbnail's
// lies before it), a whole PNG its last chunk.
bool cut_off(const std::vector<uint8_t>& b) {
  if (starts_with(b, {0x89, 'P', 'N', 'G'})) {
    static const uint8_t end[] = {'I', 'E', 'N', 'D'};
    return std::find_end(b.begin(), b.end(), std::begin(end), std::end(end)) == b.end();
  }
  if (!starts_with(b, {0xff, 0xd8})) return false;
  size_t at = 2;
  while (at + 4 <= b.size() && b[at] == 0xff && b[at + 1] != 0xda) {
    const bool fill = b[at + 1] == 0xff;  // any number of ff may stand before a marker
    at += fill ? 1 : 2 + static_cast<size_t>(b[at + 2] << 8 | b[at + 3]);
  }
  static const uint8_t end[] = {0xff, 0xd9};
  return at >= b.size() || std::search(b.begin() + static_cast<std::ptrdiff_t>(at), b.end(), std::begin(end), std::end(end)) == b.end();
}

}  // namespace

PictureOptions::PictureOptions(const Json& p) {
  skimage = p.text("read_as", "opencv") == "skimage";
  color = p.text("color", skimage ? "rgb" : "bgr");
  const Json& r = p["resize"];
  if (r.is_object()) {
    size_of(r["size"], "resize.size", height, width);
    static const std::map<std::string, int> methods{{"nearest", cv::INTER_NEAREST}, {"bilinear", cv::INTER_LINEAR}, {"bicubic", cv::INTER_CUBIC}, {"area", cv::INTER_AREA}, {"lanczos", cv::INTER_LANCZOS4}};
    method = methods.at(r.text("method", "bilinear"));
    const std::string how = r.text("keep", "stretch");
    keep = how == "letterbox" ? Keep::letterbox : how == "shorter" ? Keep::shorter : Keep::stretch;
    fill = r.number("fill", 114);
  }
  if (p["crop"].is_object()) size_of(p["crop"]["size"], "crop.size", crop_height, crop_width);
  central_fraction = p.number("central_fraction", 1);
}

Picture read_picture(const std::string& path, const PictureOptions& o) {
  const std::vector<uint8_t> bytes = bytes_of(path);
  if (cut_off(bytes)) refuse(path + ": is cut off; its end is missing");
  Picture p;
  // skimage leaves the camera's orientation alone, OpenCV turns the picture by it.
  const int flags = o.color == "grey" ? cv::IMREAD_GRAYSCALE : cv::IMREAD_COLOR;
  try {
    p.pixels = cv::imdecode(bytes, o.skimage ? flags | cv::IMREAD_IGNORE_ORIENTATION : flags);
  } catch (const cv::Exception& e) {
    refuse(path + ": is no picture that can be decoded (" + e.err + ")");
  }
  if (p.pixels.empty()) refuse(path + ": is no picture that can be decoded");
  if (o.color == "rgb") cv::cvtColor(p.pixels, p.pixels, cv::COLOR_BGR2RGB);
  if (o.skimage) p.pixels.convertTo(p.pixels, p.pixels.channels() == 1 ? CV_32FC1 : CV_32FC3, 1 / 255.0);
  if (o.central_fraction < 1) cut(p, whole(p.pixels.rows * o.central_fraction), whole(p.pixels.cols * o.central_fraction));
  if (o.height > 0) {
    const double fy = static_cast<double>(o.height) / p.pixels.rows, fx = static_cast<double>(o.width) / p.pixels.cols;
    if (o.keep == Keep::stretch) {
      resize(p, o.height, o.width, o.method);
    } else {
      const double f = o.keep == Keep::letterbox ? std::min(fy, fx) : std::max(fy, fx);
      resize(p, whole(p.pixels.rows * f), whole(p.pixels.cols * f), o.method);
    }
    if (o.keep == Keep::letterbox) {
      const int top = (o.height - p.pixels.rows) / 2, left = (o.width - p.pixels.cols) / 2;
      const double value = o.skimage ? o.fill / 255 : o.fill;
      cv::copyMakeBorder(p.pixels, p.pixels, top, o.height - p.pixels.rows - top, left, o.width - p.pixels.cols - left, cv::BORDER_CONSTANT, cv::Scalar::all(value));
      p.placement.shift_x += left;
      p.placement.shift_y += top;
    }
  }
  if (o.crop_height > 0) {
    if (p.pixels.rows < o.crop_height || p.pixels.cols < o.crop_width)
      refuse(path + ": has " + std::to_string(p.pixels.rows) + " x " + std::to_string(p.pixels.cols) + " pixels, less than crop.size");
    cut(p, o.crop_height, o.crop_width);
  }
  return p;
}

}  // namespace quern_readers
