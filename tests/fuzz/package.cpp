// Integer packages: the text of index.json, a zero byte, the bytes of data.bin. Length and digest of the data are put right, so that
// changes of either get past them. What can be read is planned for the interpreter and, where it is small, run once.
#include "core/base/digest.hpp"
#include "core/engine/engine.hpp"
#include "core/graph/shapes.hpp"
#include "core/integer/integer.hpp"
#include "tests/fuzz/fuzzing.hpp"

namespace quern::fuzz {
namespace {

const std::string& folder() {
  static const std::string path = memory_folder();
  return path;
}

void put(const fs::path& path, std::string_view bytes) {
  std::FILE* f = std::fopen(path.c_str(), "wb");
  expect(f && std::fwrite(bytes.data(), 1, bytes.size(), f) == bytes.size(), "writing a file in memory");
  std::fclose(f);
}

constexpr int64_t most_elements = 1 << 16;

// Small enough to be run within the time of a fuzzing step.
bool small(const Graph& graph) {
  std::map<std::string, Dims> none;
  const ShapeTable table = shapes_for(graph, none);
  for (size_t v = 0; v < graph.value_slots(); ++v) {
    if (!table.dims[v]) return false;
    double n = 1;
    for (int64_t d : *table.dims[v]) n *= static_cast<double>(d < 0 ? 1 : d);
    if (n > static_cast<double>(most_elements)) return false;
  }
  return true;
}

}  // namespace

std::vector<Seed> seeds() {
  const char* result = std::getenv("QUERN_FUZZ_PACKAGE");  // a folder package/ that quantize wrote
  if (!result) return {};
  const std::string index(MappedFile::open(fs::path(result) / "index.json")->text()), data(MappedFile::open(fs::path(result) / "data.bin")->text());
  return {{"digits", index + '\0' + data}};
}

}  // namespace quern::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace quern;
  const std::string_view all = fuzz::text_of(data, size);
  const size_t end = std::min(all.find('\0'), all.size());
  std::string index(all.substr(0, end));
  const std::string_view blob = all.substr(std::min(end + 1, all.size()));
  const fs::path folder = fuzz::folder();
  bool parsed = fuzz::tolerate([&] {
    json::value root = parse_json(index, "index.json");
    if (auto* object = root.if_object())
      if (auto* about = object->if_contains("data"); about && about->is_object()) {
        about->get_object()["bytes"] = blob.size();
        about->get_object()["sha256"] = sha256(blob);
      }
    index = to_text(root);
  });
  (void)parsed;
  fuzz::put(folder / "index.json", index);
  fuzz::put(folder / "data.bin", blob);
  fuzz::tolerate([&] {
    IntegerModel model = read_package(folder);
    const fs::path again = folder / "again";
    if (fuzz::tolerate([&] { write_package(model, again); })) read_package(again);
    if (!fuzz::small(model.graph)) return;
    NamedTensors inputs;
    for (ValueId id : model.graph.inputs()) {
      const Value& v = model.graph.value(id);
      Dims dims = v.shape.value_or(Dims{});
      for (int64_t& d : dims) d = d < 0 ? 1 : d;
      inputs.emplace_back(v.name, Tensor(v.dtype, dims));
    }
    Engine engine(std::move(model.graph), {.providers = {interpreter_provider(), onednn_provider(), own_float_provider()}});
    engine.runner(1).run(inputs);
  });
  return 0;
}
