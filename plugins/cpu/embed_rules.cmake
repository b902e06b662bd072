# cmake -DIN=rules.json -DOUT=x.cpp -P embed_rules.cmake: the text as quern_cpu::rules_text().
file(READ ${IN} text)
file(WRITE ${OUT} "#include <string_view>\nnamespace quern_cpu {\nstd::string_view rules_text() {\n  static constexpr std::string_view text = R\"quern_rules(${text})quern_rules\";\n  return text;\n}\n}  // namespace quern_cpu\n")
