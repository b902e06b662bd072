// Annotations of COCO's JSON: boxes by picture.
#pragma once
#include <array>

#include "../common/listing.hpp"

namespace quern_readers {

struct Annotated {
  std::string path;
  std::vector<std::array<double, 6>> boxes;  // class, x, y, width, height in pixels of the file, crowd
};
// Pictures in the order of the file. Classes are counted from 0 in the order of the categories' ids, or are these ids.
std::vector<Annotated> coco_annotations(const std::string& file, const std::string& folder, bool ids_as_they_are);

}  // namespace quern_readers
