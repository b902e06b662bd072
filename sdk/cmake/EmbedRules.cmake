# cmake -DRULES=rules.json -DOUTPUT=x.h -P EmbedRules.cmake
#
# Writes a header with the text of the rules, for C and C++: `quern_rules`, ended by a zero byte, and its length.
cmake_minimum_required(VERSION 3.19)
file(READ ${RULES} text)
string(JSON version ERROR_VARIABLE problem GET "${text}" quern_rules)
if(problem)
  message(FATAL_ERROR "${RULES}: not the rules of a target: ${problem}")
endif()
file(READ ${RULES} digits HEX)
string(LENGTH "${digits}" length)
math(EXPR length "${length} / 2")
string(REGEX REPLACE "(..)" "0x\\1," data "${digits}")
string(REGEX REPLACE "(0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,)" "\\1\n" data "${data}")
file(WRITE ${OUTPUT} "/* Made from the target's rules. */
static const unsigned char quern_rules_bytes[] = {
${data}0};
#define quern_rules ((const char*)quern_rules_bytes)
#define quern_rules_length ((size_t)${length})
")
