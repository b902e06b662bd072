#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cmath>
#include <limits>

#include "core/base/error.hpp"
#include "tests/numeric/stage_helpers.hpp"

namespace quern {
namespace {

using namespace test;
using K = StageKind;
using ::testing::HasSubstr;

StageValue run(const std::vector<Stage>& stages, StageValue v, const Tables& t = {}) { return StageProgram("c", stages, t, {}, 1).run(v, 0); }

std::string failure(const std::vector<Stage>& stages, StageValue v, const Tables& t = {}, int64_t channels = 1, const std::vector<std::string>& roles = {}) {
  try {
    StageProgram("my_contract", stages, t, roles, channels).run(v, 0);
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::plugin);
    EXPECT_THAT(e.what(), HasSubstr("my_contract"));
    return e.what();
  }
  return "no error";
}

TEST(StageProgram, EveryKindOnce) {
  EXPECT_EQ(run({stage(K::add, whole(5))}, integer(-7)).i, -2);
  EXPECT_EQ(run({stage(K::mul, whole(-3))}, integer(7)).i, -21);
  EXPECT_EQ(run({stage(K::shl_sat, whole(4), {}, Round::half_even, 8)}, integer(9)).i, 127);
  EXPECT_EQ(run({stage(K::shl_sat, whole(4), {}, Round::half_even, 8)}, integer(-9)).i, -128);
  EXPECT_EQ(run({stage(K::shl_sat, whole(63))}, integer(-3)).i, std::numeric_limits<int64_t>::min());
  EXPECT_EQ(run({shr(whole(1), Round::half_away)}, integer(-5)).i, -3);
  EXPECT_EQ(run({shr(whole(-3), Round::half_even)}, integer(-5)).i, -40);
  EXPECT_EQ(run({shr(whole(100), Round::floor)}, integer(-5)).i, -1);
  EXPECT_EQ(run({stage(K::clamp, whole(-1), whole(1))}, integer(9)).i, 1);
  EXPECT_EQ(run({stage(K::clamp, {}, whole(1))}, integer(-9)).i, -9);
  EXPECT_EQ(run({stage(K::clamp, real(0), real(6))}, value(7.5f)).f, 6.0f);
  EXPECT_EQ(run({stage(K::i2f32)}, integer(16777217)).f, 16777216.0f);
  EXPECT_EQ(run({stage(K::i2f16)}, integer(2049)).f, 2048.0f);
  EXPECT_EQ(run({stage(K::i2f16)}, integer(70000)).f, INFINITY);
  EXPECT_EQ(run({stage(K::f32_f16)}, value(1.0f + 0x1p-11f)).f, 1.0f);
  EXPECT_EQ(run({stage(K::fadd32, real(0.5f))}, value(1)).f, 1.5f);
  EXPECT_EQ(run({stage(K::fmul32, real(0.5f))}, value(3)).f, 1.5f);
  EXPECT_EQ(run({stage(K::fdiv32, real(3))}, value(1)).f, 1.0f / 3);
  const float a = 1 + 0x1p-12f;
  EXPECT_EQ(run({stage(K::ffma32, real(a), real(a))}, value(-1 - 0x1p-11f)).f, 0x1p-24f);  // two roundings would give 0
  EXPECT_EQ(run({stage(K::f2i, whole(0), whole(255), Round::half_even)}, value(2.5f)).i, 2);
  EXPECT_EQ(run({stage(K::f2i, whole(-8), whole(7))}, value(NAN)).i, 0);
  EXPECT_EQ(run({stage(K::f2i, whole(1), whole(7))}, value(NAN)).i, 1);
  EXPECT_EQ(run({stage(K::f2i, whole(-8), whole(7))}, value(INFINITY)).i, 7);
  Tables t;
  t.ints("lut", {10, 20, 30}).floats("flut", {1.5f, 2.5f});
  EXPECT_EQ(run({stage(K::lut, named("lut"), whole(-1))}, integer(1), t).i, 30);
  EXPECT_EQ(run({stage(K::lut, named("flut"))}, integer(1), t).f, 2.5f);
}

TEST(StageProgram, OperandsFromEverywhere) {
  Tables t;
  t.ints("zp", {3}).ints("per", {1, 2, 4}).floats("scale", {0.5f, 2, 8});
  const StageProgram p("c", {stage(K::add, minus("zp")), stage(K::mul, named("per")), stage(K::add, tensor("residual")), stage(K::mul, window()), stage(K::i2f32),
                             stage(K::fmul32, named("scale")), stage(K::fadd32, tensor("side")), stage(K::fdiv32, window())},
                       t, {"side", "residual"}, 3);
  const std::vector<StageValue> tensors{value(100), integer(1000)};
  for (int64_t c = 0; c < 3; ++c) {
    const int64_t per[] = {1, 2, 4};
    const float scale[] = {0.5f, 2, 8};
    EXPECT_EQ(p.run(integer(10), c, tensors, 9).f, (static_cast<float>(((10 - 3) * per[c] + 1000) * 9) * scale[c] + 100) / 9);
  }
  StageOperand minus_side = tensor("residual");
  minus_side.negate = true;
  const StageProgram q("c", {stage(K::add, minus_side)}, t, {"residual"}, 3);
  EXPECT_EQ(q.run(integer(1), 0, std::vector<StageValue>{integer(5)}).i, -4);
}

TEST(StageProgram, WhenSkipsAStage) {
  Tables with, without;
  with.ints("bias", {100});
  Stage s = stage(K::add, named("bias"));
  s.when = "bias";
  EXPECT_EQ(run({s}, integer(1), with).i, 101);
  EXPECT_EQ(run({s}, integer(1), without).i, 1);
  EXPECT_TRUE(StageProgram("c", {s}, without, {}, 1).empty());
}

TEST(StageProgram, OverflowNamesTheStage) {
  const std::vector<Stage> narrow{stage(K::add, whole(1)), stage(K::mul, whole(2), {}, Round::half_even, 32)};
  EXPECT_EQ(run(narrow, integer(0x3ffffffe)).i, 0x7ffffffe);
  EXPECT_THAT(failure(narrow, integer(0x3fffffff)), HasSubstr("stage 1 (mul): the result leaves 32 bits"));
  EXPECT_EQ(run(narrow, integer(-0x40000001)).i, -0x80000000ll);
  EXPECT_THAT(failure(narrow, integer(-0x40000002)), HasSubstr("leaves 32 bits"));
  EXPECT_THAT(failure({stage(K::mul, whole(int64_t{1} << 40))}, integer(int64_t{1} << 40)), HasSubstr("leaves 64 bits"));
  EXPECT_THAT(failure({shr(whole(-10), Round::floor)}, integer(int64_t{1} << 60)), HasSubstr("leaves 64 bits"));
  EXPECT_THAT(failure({stage(K::shr, whole(1), {}, Round::half_up, 4)}, integer(15)), HasSubstr("leaves 4 bits"));
}

TEST(StageProgram, WhatCanNotBeBuilt) {
  Tables t;
  t.ints("two", {1, 2}).floats("f", {0.5f}).ints("low", {5}).ints("high", {4}).ints("big", {1 << 30}).ints("odd", {(1 << 30) + 1});
  t.all["pwl"] = Tensor::of<int32_t>({2, 3}, std::vector<int32_t>{8, 1, 1, 9, 1, 1});
  EXPECT_THAT(failure({stage(K::add, named("nothing"))}, integer(0), t), HasSubstr("no table 'nothing'"));
  EXPECT_THAT(failure({stage(K::add, named("two"))}, integer(0), t, 3), HasSubstr("2 elements; 1 or 3"));
  EXPECT_THAT(failure({stage(K::add, named("f"))}, integer(0), t), HasSubstr("integers are wanted"));
  EXPECT_THAT(failure({stage(K::add, real(0.5f))}, integer(0), t), HasSubstr("an integer is wanted"));
  EXPECT_THAT(failure({stage(K::i2f32), stage(K::fadd32, named("big"))}, integer(0), t), HasSubstr("no error"));
  EXPECT_THAT(failure({stage(K::i2f32), stage(K::fadd32, named("odd"))}, integer(0), t), HasSubstr("not exact in f32"));
  EXPECT_THAT(failure({stage(K::add)}, integer(0), t), HasSubstr("operand a is missing"));
  EXPECT_THAT(failure({stage(K::add, tensor("residual"))}, integer(0), t), HasSubstr("no operand 'residual'"));
  EXPECT_THAT(failure({stage(K::clamp, named("low"), named("high"))}, integer(0), t), HasSubstr("lower limit"));
  EXPECT_THAT(failure({shr(whole(200), Round::floor)}, integer(0), t), HasSubstr("shift by 200"));
  EXPECT_THAT(failure({stage(K::shl_sat, whole(-1))}, integer(0), t), HasSubstr("shift by -1"));
  EXPECT_THAT(failure({stage(K::pwl, named("pwl"))}, integer(0), t), HasSubstr("do not increase"));
  EXPECT_THAT(failure({stage(K::pwl, named("two"))}, integer(0), t), HasSubstr("[segments,3]"));
  EXPECT_THAT(failure({stage(K::add, whole(1), {}, Round::floor, 65)}, integer(0), t), HasSubstr("65 bits"));
  EXPECT_THAT(failure({stage(K::fmul32, real(1)), stage(K::add, whole(1))}, value(0), t), HasSubstr("stage 1 (add): works on integers"));
  EXPECT_THAT(failure({stage(K::add, whole(1)), stage(K::fmul32, real(1))}, integer(0), t), HasSubstr("stage 1 (fmul32): works on f32"));
}

TEST(StageProgram, WhatCanNotBeRun) {
  Tables t;
  t.ints("lut", {1, 2});
  EXPECT_THAT(failure({stage(K::add, whole(1))}, value(1)), HasSubstr("works on integers, but is given f32"));
  EXPECT_THAT(failure({stage(K::fadd32, real(1))}, integer(1)), HasSubstr("works on f32, but is given an integer"));
  EXPECT_THAT(failure({stage(K::lut, named("lut"))}, integer(2), t), HasSubstr("outside the table of 2"));
  EXPECT_THAT(failure({stage(K::lut, named("lut"))}, integer(-1), t), HasSubstr("outside the table of 2"));
}

TEST(StageProgram, ClampKeepsNaN) { EXPECT_TRUE(std::isnan(run({stage(K::clamp, real(0), real(6))}, value(NAN)).f)); }

TEST(StageProgram, NamesReadBack) {
  for (int k = 0; k <= static_cast<int>(K::lut); ++k) {
    StageKind back;
    ASSERT_TRUE(stage_kind_from_name(name_of(static_cast<K>(k)), back));
    EXPECT_EQ(static_cast<int>(back), k);
  }
  StageKind k;
  EXPECT_FALSE(stage_kind_from_name("sub", k));
}

}  // namespace
}  // namespace quern
