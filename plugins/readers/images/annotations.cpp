#include <algorithm>
#include <array>
#include <map>

#include "annotations.hpp"

namespace quern_readers {

std::vector<Annotated> coco_annotations(const std::string& file, const std::string& folder, bool ids_as_they_are) {
  Json all;
  try {
    all = Json::parse(text_of(file));
  } catch (const Failure& e) {
    if (e.code() == QUERN_NOT_FOUND) throw;
    refuse(std::string(e.what()).rfind(file, 0) == 0 ? e.what() : file + ": " + e.what());
  }
  const auto need = [&](const Json& o, const char* key, Json::Kind kind, const std::string& where) -> const Json& {
    if (!o.is_object() || o[key].kind() != kind) refuse(file + ": " + where + " lacks '" + key + "', or it is of another type");
    return o[key];
  };
  std::vector<int64_t> ids;
  for (const Json& c : need(all, "categories", Json::Kind::array, "the file").items())
    ids.push_back(static_cast<int64_t>(need(c, "id", Json::Kind::number, "a category").number()));
  std::sort(ids.begin(), ids.end());
  std::vector<Annotated> out;
  std::map<int64_t, size_t> by_id;
  for (const Json& i : need(all, "images", Json::Kind::array, "the file").items()) {
    const auto id = static_cast<int64_t>(need(i, "id", Json::Kind::number, "an image").number());
    if (!by_id.emplace(id, out.size()).second) refuse(file + ": two images have the id " + std::to_string(id));
    out.push_back({joined(folder, need(i, "file_name", Json::Kind::string, "an image").text()), {}});
  }
  if (out.empty()) refuse(file + ": has no images");
  for (const Json& a : need(all, "annotations", Json::Kind::array, "the file").items()) {
    const auto image = static_cast<int64_t>(need(a, "image_id", Json::Kind::number, "an annotation").number());
    const auto category = static_cast<int64_t>(need(a, "category_id", Json::Kind::number, "an annotation").number());
    const auto& box = need(a, "bbox", Json::Kind::array, "an annotation").items();
    const auto at = by_id.find(image);
    if (at == by_id.end()) refuse(file + ": an annotation is of image " + std::to_string(image) + ", which is not among the images");
    const auto place = std::lower_bound(ids.begin(), ids.end(), category);
    if (place == ids.end() || *place != category) refuse(file + ": an annotation has the category " + std::to_string(category) + ", which is not among the categories");
    if (box.size() != 4) refuse(file + ": a bbox of image " + std::to_string(image) + " has not four numbers");
    out[at->second].boxes.push_back({static_cast<double>(ids_as_they_are ? category : place - ids.begin()), box[0].number(), box[1].number(), box[2].number(),
                                     box[3].number(), static_cast<double>(a.has("iscrowd") && a["iscrowd"].kind() == Json::Kind::number ? a["iscrowd"].number() : 0)});
  }
  return out;
}

}  // namespace quern_readers
