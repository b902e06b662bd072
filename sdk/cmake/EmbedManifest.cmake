# cmake -DMANIFEST=manifest.json -DOUTPUT=x.c -P EmbedManifest.cmake
#
# Writes a C file with the section `.quern`: "QUERNMF1", length (u32, little endian), CRC-32 of the JSON (u32, the
# polynomial of zlib), then the JSON's bytes.
cmake_minimum_required(VERSION 3.19)
file(READ ${MANIFEST} text)
string(JSON version ERROR_VARIABLE problem GET "${text}" quern_manifest)
if(problem)
  message(FATAL_ERROR "${MANIFEST}: not a plugin manifest: ${problem}")
endif()
file(READ ${MANIFEST} digits HEX)
string(REGEX MATCHALL ".." bytes "${digits}")
list(LENGTH bytes length)

# CRC-32, four bits at a step. The table: CRC of 0..15.
set(table 0x00000000 0x1db71064 0x3b6e20c8 0x26d930ac 0x76dc4190 0x6b6b51f4 0x4db26158 0x5005713c
          0xedb88320 0xf00f9344 0xd6d6a3e8 0xcb61b38c 0x9b64c2b0 0x86d3d2d4 0xa00ae278 0xbdbdf21c)
set(crc 0xffffffff)
foreach(byte IN LISTS bytes)
  foreach(shift 0 4)
    math(EXPR index "(${crc} ^ (0x${byte} >> ${shift})) & 15")
    list(GET table ${index} entry)
    math(EXPR crc "(${crc} >> 4) ^ ${entry}")
  endforeach()
endforeach()
math(EXPR crc "${crc} ^ 0xffffffff")

set(array "'Q','U','E','R','N','M','F','1'")
foreach(number ${length} ${crc})
  foreach(shift 0 8 16 24)
    math(EXPR value "(${number} >> ${shift}) & 255")
    string(APPEND array ",${value}")
  endforeach()
endforeach()
string(APPEND array ",\n")
string(REGEX REPLACE "(..)" "0x\\1," data "${digits}")
string(REGEX REPLACE "(0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,)" "\\1\n" data "${data}")
string(APPEND array "${data}")
file(WRITE ${OUTPUT} "/* Made from the plugin's manifest. */
#if defined(__has_attribute)
#if __has_attribute(retain)
#define QUERN_RETAIN , retain
#endif
#endif
#ifndef QUERN_RETAIN
#define QUERN_RETAIN
#endif
__attribute__((section(\".quern\"), used QUERN_RETAIN, aligned(8))) static const unsigned char quern_manifest[] = {
${array}};
")
