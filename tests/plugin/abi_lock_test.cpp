// The layout of the plugin interface, recorded in sdk/abi.lock. A change of any size or offset fails here: a plugin that
// somebody built against the old header would read the wrong bytes. Members are only ever appended, and then the record is
// made anew on purpose:  QUERN_UPDATE_ABI_LOCK=1 ctest -R abi_lock
#include <fmt/format.h>

#include <cstddef>

#include "tests/plugin/support.hpp"

namespace quern {
namespace {
using namespace quern::testing;

struct Member { const char* name; size_t offset, size, align; };
struct Layout { const char* name; size_t size, align; std::vector<Member> members; };

#define M(S, m) Member{#m, offsetof(S, m), sizeof(((S*)nullptr)->m), alignof(decltype(S::m))}
#define M1(S, a) M(S, a)
#define M2(S, a, ...) M(S, a), M1(S, __VA_ARGS__)
#define M3(S, a, ...) M(S, a), M2(S, __VA_ARGS__)
#define M4(S, a, ...) M(S, a), M3(S, __VA_ARGS__)
#define M5(S, a, ...) M(S, a), M4(S, __VA_ARGS__)
#define M6(S, a, ...) M(S, a), M5(S, __VA_ARGS__)
#define M7(S, a, ...) M(S, a), M6(S, __VA_ARGS__)
#define M8(S, a, ...) M(S, a), M7(S, __VA_ARGS__)
#define M9(S, a, ...) M(S, a), M8(S, __VA_ARGS__)
#define M10(S, a, ...) M(S, a), M9(S, __VA_ARGS__)
#define M11(S, a, ...) M(S, a), M10(S, __VA_ARGS__)
#define M12(S, a, ...) M(S, a), M11(S, __VA_ARGS__)
#define M13(S, a, ...) M(S, a), M12(S, __VA_ARGS__)
#define M14(S, a, ...) M(S, a), M13(S, __VA_ARGS__)
#define M15(S, a, ...) M(S, a), M14(S, __VA_ARGS__)
#define M16(S, a, ...) M(S, a), M15(S, __VA_ARGS__)
#define M17(S, a, ...) M(S, a), M16(S, __VA_ARGS__)
#define M18(S, a, ...) M(S, a), M17(S, __VA_ARGS__)
#define M19(S, a, ...) M(S, a), M18(S, __VA_ARGS__)
#define LAYOUT(N, S, ...) Layout{#S, sizeof(S), alignof(S), {M##N(S, __VA_ARGS__)}}

const std::vector<Layout>& layouts() {
  static const std::vector<Layout> all = {
      LAYOUT(3, quern_header, struct_size, major, minor),
      LAYOUT(2, quern_str, data, size),
      LAYOUT(9, quern_tensor, h, data, bytes, dtype, rank, dims, strides, layout, flags),
      LAYOUT(9, quern_quant, h, bits, is_signed, qmin, qmax, axis, count, scale, zero_point),
      LAYOUT(11, quern_attr, h, name, kind, count, i, f, reserved, s, ints, floats, tensor),
      LAYOUT(10, quern_node, h, name, domain, op, since_version, n_attrs, n_inputs, reserved, attrs, inputs),
      LAYOUT(5, quern_operand, h, role, value, tensor, quant),
      LAYOUT(3, quern_table, h, name, tensor),
      LAYOUT(12, quern_op, h, name, contract, config, n_nodes, n_inputs, n_outputs, n_tables, nodes, inputs, outputs, tables),
      LAYOUT(3, quern_text_sink, h, self, write),
      LAYOUT(3, quern_table_sink, h, self, emit),
      LAYOUT(3, quern_blob_sink, h, self, write),
      LAYOUT(13, quern_host, h, self, make_status, log, alloc, release, cancelled, parallel_for, random, extension, status_code,
             status_message, release_status),
      LAYOUT(6, quern_kernel_info, h, workspace_bytes, n_inputs, output_layout, input_layouts, kernel_name),
      LAYOUT(3, quern_cost, h, cycles, bytes),
      LAYOUT(18, quern_target, h, self, describe, available, supports, derive, compile, kernel_info, create_context, execute,
             destroy_context, destroy_kernel, cost, saturations, save_kernel, load_kernel, extension, shutdown),
      LAYOUT(4, quern_stat_request, h, kind, axis, quantile),
      LAYOUT(14, quern_statistic, h, request, channels, samples, count, low, high, mean, rows, negative, positive, zeros, exponent, reserved),
      LAYOUT(3, quern_request_sink, h, self, request),
      LAYOUT(13, quern_quantizer_view, h, value, type, is_weight, symmetric, bits, is_signed, narrow, axis, channels, qmin, qmax, weight),
      LAYOUT(6, quern_range_estimator, h, self, name, parameters, requires_statistics, estimate),
      LAYOUT(10, quern_node_view, h, name, op, n_attrs, n_inputs, n_outputs, reserved, attrs, inputs, outputs),
      LAYOUT(10, quern_value_view, h, name, producer, is_constant, dtype, rank, dims, n_consumers, is_output, consumers),
      LAYOUT(19, quern_graph, h, self, node_count, node, value, slot_of_role, read_constant, quantizer_of, statistic, run_node, measure,
             begin, set_constant, commit, rollback, report, sample_count, sample_value, measure_outputs),
      LAYOUT(3, quern_stat_plan, h, self, request),
      LAYOUT(10, quern_graph_stage, h, self, name, parameters, when, reserved, reads, changes, plan, run),
      LAYOUT(9, quern_data_reader, h, self, name, parameters, open, size, sample, label, close),
      LAYOUT(11, quern_metric, h, self, name, parameters, higher_is_better, needs, create, update, result, destroy, sample_value),
      LAYOUT(12, quern_plugin, h, kind, reserved, target, range_estimators, graph_stages, n_range_estimators, n_graph_stages, data_readers, metrics,
             n_data_readers, n_metrics),
  };
  return all;
}

std::string dump() {
  std::string out = fmt::format("# Layout of the plugin interface {}.{} (x86-64, LP64): struct size, then member offset size.\n", QUERN_ABI_MAJOR, QUERN_ABI_MINOR);
  for (const Layout& l : layouts()) {
    out += fmt::format("{} {}\n", l.name, l.size);
    for (const Member& m : l.members) out += fmt::format("  {} {} {}\n", m.name, m.offset, m.size);
  }
  return out;
}

TEST(AbiLock, LayoutIsTheRecordedOne) {
  const fs::path lock = source_folder() / "sdk/abi.lock";
  if (std::getenv("QUERN_UPDATE_ABI_LOCK")) write_file(lock, dump());
  EXPECT_EQ(read_text(lock), dump());
}

// The list above is complete: no bytes between members but padding, and no struct of the header is missing.
TEST(AbiLock, ListIsComplete) {
  for (const Layout& l : layouts()) {
    size_t end = 0;
    for (const Member& m : l.members) {
      EXPECT_EQ(m.offset, (end + m.align - 1) / m.align * m.align) << l.name << '.' << m.name;
      end = m.offset + m.size;
    }
    EXPECT_EQ(l.size, (end + l.align - 1) / l.align * l.align) << l.name;
  }
  const std::string header = read_text(source_folder() / "sdk/include/quern/abi.h");
  for (size_t at = 0; (at = header.find("\ntypedef struct ", at)) != std::string::npos; ++at) {
    const size_t begin = at + 16, end = header.find_first_of(" ;", begin);
    const std::string name = header.substr(begin, end - begin);
    if (header.compare(end, 2, " {") != 0) continue;  // opaque
    bool listed = false;
    for (const Layout& l : layouts()) listed = listed || l.name == name;
    EXPECT_TRUE(listed) << name;
  }
}

TEST(AbiLock, HasTellsWhatTheOtherSideKnows) {
  quern_target t{};
  t.h.struct_size = offsetof(quern_target, cost);
  EXPECT_TRUE(QUERN_HAS(&t, destroy_kernel));
  EXPECT_FALSE(QUERN_HAS(&t, cost));
  t.h.struct_size += 7;
  EXPECT_FALSE(QUERN_HAS(&t, cost));
  t.h.struct_size += 1;
  EXPECT_TRUE(QUERN_HAS(&t, cost));
  const quern_target* none = nullptr;
  EXPECT_FALSE(QUERN_HAS(none, cost));
}

}  // namespace
}  // namespace quern
