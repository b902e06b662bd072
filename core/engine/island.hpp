// Islands: runs of small float operators between larger kernels (the gates of a recurrent cell), as one kernel.
//
// A step of the engine costs some tens of nanoseconds, an operator that walks any tensor of any layout some hundreds; the gates of a
// cell are a dozen operators on a few hundred numbers. An island looks at types and shapes once: it is a list of rows to compute,
// on memory of its own. Split, Slice and the like move nothing there, later members read where the numbers lie. The bytes are those of the
// operators' own kernels: the same functions of numeric, the same operations in the same order.
//
// The planner (plan.cpp) forms an island of nodes that follow each other in the order of the graph with no other kernel between, and
// ends it at a value that is tapped. Larger tensors and those that two layouts would order differently stay outside.
#pragma once
#include <functional>
#include <memory>
#include <optional>

#include "core/engine/provider.hpp"

namespace quern {

inline constexpr int64_t island_elements = 8192;  // of a tensor, at most: beyond, a call costs nothing beside the numbers

enum class IslandRole { none, view, work };  // of a node: not for an island; moves nothing; computes or copies

// What the plan knows of a value: complete dims, or none.
using SpecOf = std::function<std::optional<TensorSpec>(ValueId)>;

IslandRole island_role(const Node& node, const SpecOf& spec_of);

// Of several members; the request's outputs are all values that are seen outside of the group, not of the last member alone.
std::optional<PreparedKernel> prepare_island(const KernelRequest& request, const SpecOf& spec_of);

// Stands for prepare_island in a plan's steps; knows no node by itself.
std::shared_ptr<const Provider> island_provider();

}  // namespace quern
