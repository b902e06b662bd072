// One picture from its file to what a network is fed: decoded, resized, cropped, its channels in order.
#pragma once
#include <opencv2/core.hpp>

#include "../common/listing.hpp"

namespace quern_readers {

enum class Keep { stretch, letterbox, shorter };

struct PictureOptions {
  bool skimage = false;        // RGB, 0..1, float; else as OpenCV reads: BGR, 0..255, bytes
  std::string color;           // rgb, bgr or grey
  int height = 0, width = 0;   // of the resize; 0: none
  int method = 0;              // OpenCV's interpolation
  Keep keep = Keep::stretch;
  double fill = 0;             // of a letterbox, in the picture's own range of 0..255
  int crop_height = 0, crop_width = 0;
  double central_fraction = 1;
  explicit PictureOptions(const Json& p);
  PictureOptions() = default;
};

// A point of the file's picture lies at (x * scale_x + shift_x, y * scale_y + shift_y) of what is fed.
struct Placement { double scale_x = 1, scale_y = 1, shift_x = 0, shift_y = 0; };
struct Picture { cv::Mat pixels; Placement placement; };

// Failure that names the file when it is no picture.
Picture read_picture(const std::string& path, const PictureOptions& options);

}  // namespace quern_readers
