// Runs ONNX's backend node cases through the whole float path: import, plan, run, compare.
//
//   driver [--own] LIST        LIST: a file with one case folder a line; --own: without oneDNN
//
// One line a case: PASS, FAIL or UNSUPPORTED, a tab, the folder, a tab, the reason. Tolerances are ONNX's: 1e-3 of the value
// and 1e-7. Every input is fed at the run, also those that shapes depend on (the shape of Reshape).
#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <map>
#include <string>

#include "core/base/error.hpp"
#include "core/engine/engine.hpp"
#include "core/graph/passes.hpp"
#include "core/graph/shapes.hpp"
#include "core/onnx/onnx.hpp"

namespace {

using namespace quern;
constexpr double relative = 1e-3, absolute = 1e-7;

struct Unsupported { std::string reason; };
struct Wrong { std::string reason; };

std::vector<Tensor> read_all(const fs::path& folder, const std::string& prefix) {
  std::vector<Tensor> tensors;
  for (int i = 0;; ++i) {
    const fs::path file = folder / (prefix + "_" + std::to_string(i) + ".pb");
    if (!fs::exists(file)) return tensors;
    try {
      tensors.push_back(read_onnx_tensor(file));
    } catch (const Error& e) {
      throw Unsupported{file.filename().string() + ": " + e.message()};
    }
  }
}

template <class T>
void compare_floats(const Tensor& got, const Tensor& want) {
  for (int64_t i = 0; i < got.count(); ++i) {
    const double a = got.values<T>()[static_cast<size_t>(i)], b = want.values<T>()[static_cast<size_t>(i)];
    if (a == b || (a != a && b != b)) continue;
    if (!(std::fabs(a - b) <= absolute + relative * std::fabs(b)))
      throw Wrong{"element " + std::to_string(i) + " is " + std::to_string(a) + ", expected " + std::to_string(b)};
  }
}

void compare(const Tensor& got, const Tensor& want) {
  if (got.type() != want.type())
    throw Wrong{"type " + std::string(name_of(got.type())) + ", expected " + std::string(name_of(want.type()))};
  if (got.dims() != want.dims()) throw Wrong{"shape " + to_string(got.dims()) + ", expected " + to_string(want.dims())};
  if (got.type() == DType::f32) return compare_floats<float>(got, want);
  if (got.type() == DType::f64) return compare_floats<double>(got, want);
  const auto* a = static_cast<const unsigned char*>(got.data());
  const auto* b = static_cast<const unsigned char*>(want.data());
  for (size_t i = 0; i < got.bytes(); ++i)
    if (a[i] != b[i]) throw Wrong{"element " + std::to_string(i / size_of(got.type())) + " differs"};
}

void run_set(const fs::path& model, const fs::path& set, const EngineOptions& options) {
  Graph graph = import_onnx(model);
  for (NodeId id : graph.order())  // conditions that follow from shapes are folded when a model is prepared
    if (graph.node(id).op == "If") {
      canonicalize(graph, evaluate_constant_node);
      break;
    }
  const std::vector<Tensor> inputs = read_all(set, "input");
  const std::vector<Tensor> wanted = read_all(set, "output");
  if (graph.inputs().size() != inputs.size()) throw Unsupported{"the case does not feed every input"};
  for (const auto& tensors : {inputs, wanted})
    for (const Tensor& t : tensors)
      if (size_of(t.type()) == 0) throw Unsupported{"strings"};
  NamedTensors named;
  for (size_t i = 0; i < inputs.size(); ++i) named.emplace_back(graph.value(graph.inputs()[i]).name, inputs[i]);
  Engine engine(std::move(graph), options);
  const NamedTensors got = engine.runner().run(named);
  if (got.size() != wanted.size()) throw Wrong{"another number of outputs"};
  for (size_t i = 0; i < got.size(); ++i) compare(got[i].second, wanted[i]);
}

std::string run_case(const fs::path& folder, const EngineOptions& options) {
  try {
    bool any = false;
    for (int set = 0; fs::exists(folder / ("test_data_set_" + std::to_string(set))); ++set) {
      run_set(folder / "model.onnx", folder / ("test_data_set_" + std::to_string(set)), options);
      any = true;
    }
    if (!any) return "UNSUPPORTED\t" + folder.string() + "\tno test data";
    return "PASS\t" + folder.string() + "\t";
  } catch (const Unsupported& u) {
    return "UNSUPPORTED\t" + folder.string() + "\t" + u.reason;
  } catch (const Wrong& w) {
    return "FAIL\t" + folder.string() + "\t" + w.reason;
  } catch (const Error& e) {  // a model that is refused with a sentence is not supported; anything else is a fault
    return (e.code() == ErrorCode::model ? "UNSUPPORTED\t" : "FAIL\t") + folder.string() + "\t" + e.what();
  } catch (const std::exception& e) {
    return "FAIL\t" + folder.string() + "\t" + e.what();
  }
}

}  // namespace

int main(int argc, char** argv) {
  EngineOptions options{.providers = {onednn_provider(), own_float_provider()}};
  int at = 1;
  if (at < argc && std::string(argv[at]) == "--own") {
    options.providers = {own_float_provider()};
    ++at;
  }
  std::ifstream list(at < argc ? argv[at] : "");
  if (!list) {
    std::cerr << "usage: " << argv[0] << " [--own] LIST (a file with one case folder a line)\n";
    return 2;
  }
  for (std::string folder; std::getline(list, folder);) {
    if (folder.empty()) continue;
    std::string line = run_case(folder, options);
    std::replace(line.begin(), line.end(), '\n', ' ');
    std::cout << line << std::endl;  // flushed: a crash shows the case after the last line
  }
  return 0;
}
