/* A target in plain C11, for tests: one contract, y = clamp(x * multiplier >> 8), and derived tables that repeat what the
 * plugin was told, so that a test can see it. Macros make it faulty in one way or another. */
#include <quern/abi.h>
#include <stdlib.h>
#include <string.h>
#ifdef CHANGES_MXCSR
#include <immintrin.h>
#endif
#ifdef CHANGES_LOCALE
#include <locale.h>
#endif
#ifndef TABLE_MAJOR
#define TABLE_MAJOR QUERN_ABI_MAJOR
#endif
#ifndef TABLE_SIZE
#define TABLE_SIZE sizeof(quern_target)
#endif

static const quern_host* host;

static const char rules[] =
    "{\"quern_rules\": 1, \"id\": \"test.npu\", \"default_profile\": \"v1\","
    " \"types\": {\"u8\": {\"bits\": 8, \"signed\": false, \"zero_point\": \"free\", \"scale\": \"any\", \"granularity\": \"tensor\"}},"
    " \"ops\": [{\"match\": {\"op\": \"Relu\"}, \"configs\": [{\"id\": \"relu8\", \"inputs\": {\"input\": [\"u8\"]}, \"output\": [\"u8\"],"
    "   \"contract\": \"scaled\"}]}],"
    " \"profiles\": {\"v1\": {}, \"v2\": {}},"
    " \"contracts\": {\"scaled\": {\"form\": \"table\", \"post\": [{\"mul\": \"multiplier\"}, {\"shr\": [8, {\"round\": \"floor\"}]},"
    "   {\"clamp\": [\"qmin\", \"qmax\"]}]}}}";

static quern_str text(const char* s) {
  quern_str out = {s, strlen(s)};
  return out;
}
static quern_status* fail(int32_t code, const char* why) { return host->make_status(host->self, code, text(why)); }
static int is(quern_str s, const char* word) { return s.size == strlen(word) && memcmp(s.data, word, s.size) == 0; }

static quern_status* describe(void* self, quern_str* out) {
  (void)self;
  *out = text(rules);
  return NULL;
}
static quern_status* available(void* self, quern_str profile, int32_t* yes, const quern_text_sink* reason) {
  (void)self;
  *yes = is(profile, "v1");
  if (!*yes) {
    reason->write(reason->self, text("no silicon of "));
    reason->write(reason->self, profile);
  }
  return NULL;
}
static quern_status* supports(void* self, quern_str profile, const quern_op* op, int32_t* yes, const quern_text_sink* reason) {
  (void)self;
  (void)profile;
  *yes = op->n_nodes == 1;
  if (!*yes) reason->write(reason->self, text("one member only"));
  return NULL;
}

static quern_status* derive(void* self, quern_str profile, const quern_op* op, const quern_table_sink* tables) {
  (void)self;
  (void)profile;
  if (is(op->name, "twice")) { /* the host must refuse a name given twice */
    const int32_t v = 1;
    quern_status* status = tables->emit(tables->self, text("a"), QUERN_DTYPE_S32, 0, NULL, &v);
    return status ? status : tables->emit(tables->self, text("a"), QUERN_DTYPE_S32, 0, NULL, &v);
  }
  if (is(op->name, "negative")) {
    const int64_t dims[1] = {-4};
    return tables->emit(tables->self, text("a"), QUERN_DTYPE_S32, 1, dims, NULL);
  }
  if (is(op->name, "nonsense")) return tables->emit(tables->self, text("a"), 4711, 0, NULL, NULL);
  if (is(op->name, "unwilling")) return fail(QUERN_UNIMPLEMENTED, "this scale can't be had");

  const quern_node* node = op->nodes[0];
  for (uint32_t i = 0; i < node->n_attrs; ++i) {
    const quern_attr* a = node->attrs[i];
    quern_status* status = NULL;
    if (!QUERN_HAS(a, tensor)) return fail(QUERN_INTERNAL, "the attribute is too small");
    if (a->kind == QUERN_ATTR_INT) {
      status = tables->emit(tables->self, a->name, QUERN_DTYPE_S64, 0, NULL, &a->i);
    } else if (a->kind == QUERN_ATTR_INTS) {
      const int64_t n = a->count;
      status = tables->emit(tables->self, a->name, QUERN_DTYPE_S64, 1, &n, a->ints);
    } else if (a->kind == QUERN_ATTR_FLOAT) {
      status = tables->emit(tables->self, a->name, QUERN_DTYPE_F32, 0, NULL, &a->f);
    } else if (a->kind == QUERN_ATTR_STRING) {
      const int64_t n = (int64_t)a->s.size;
      status = tables->emit(tables->self, a->name, QUERN_DTYPE_U8, 1, &n, a->s.data);
    }
    if (status) return status;
  }
  for (uint32_t i = 0; i < op->n_inputs; ++i) {
    const quern_operand* o = op->inputs[i];
    if (!o->tensor.data) continue; /* a constant: give it back under its role */
    if (((uintptr_t)o->tensor.data & 63) != 0) return fail(QUERN_INTERNAL, "a constant is not aligned");
    quern_status* status = tables->emit(tables->self, o->role, o->tensor.dtype, o->tensor.rank, o->tensor.dims, o->tensor.data);
    if (status) return status;
  }
  const quern_quant *x = op->inputs[0]->quant, *y = op->outputs[0]->quant;
  const int64_t multiplier = x && y ? (int64_t)(256.0f * x->scale[0] / y->scale[0]) : 256;
  return tables->emit(tables->self, text("multiplier"), QUERN_DTYPE_S64, 0, NULL, &multiplier);
}

struct kernel { int64_t multiplier, count, contexts; };

static quern_status* compile(void* self, quern_str profile, const quern_op* op, uint32_t threads, quern_kernel** out) {
  (void)self;
  (void)threads;
  if (!is(profile, "v1") && !is(profile, "v2")) return fail(QUERN_NOT_FOUND, "there are the profiles v1 and v2");
  for (uint32_t i = 0; i < op->n_nodes; ++i)
    if (!is(op->nodes[i]->op, "Relu")) return fail(QUERN_UNIMPLEMENTED, "Relu is all there is");
  struct kernel* k = host->alloc(host->self, sizeof *k, 64);
  if (!k) return fail(QUERN_RESOURCE_EXHAUSTED, "no memory");
  memset(k, 0, sizeof *k);
  for (uint32_t i = 0; i < op->n_tables; ++i)
    if (is(op->tables[i]->name, "multiplier")) k->multiplier = *(const int64_t*)op->tables[i]->tensor.data;
  k->count = 1;
  for (uint32_t i = 0; i < op->inputs[0]->tensor.rank; ++i) k->count *= op->inputs[0]->tensor.dims[i];
  if (k->count < 0) {
    host->release(host->self, k);
    return fail(QUERN_INVALID_ARGUMENT, "compile needs complete dims");
  }
  *out = (quern_kernel*)k;
  return NULL;
}
static quern_status* kernel_info(void* self, quern_kernel* kernel, quern_kernel_info* info) {
  (void)self;
  (void)kernel;
  info->workspace_bytes = 128;
  info->input_layouts[0] = QUERN_LAYOUT_ANY;
  info->output_layout = QUERN_LAYOUT_ANY;
  info->kernel_name = text("test.scaled");
  return NULL;
}
static quern_status* create_context(void* self, quern_kernel* kernel, quern_context** context) {
  (void)self;
  ((struct kernel*)kernel)->contexts++;
  *context = (quern_context*)kernel;
  return NULL;
}

struct work { const uint8_t* in; uint8_t* out; int64_t multiplier; };
static quern_status* one(void* arg, int64_t i) {
  struct work* w = arg;
  int64_t v = w->in[i] * w->multiplier >> 8;
  w->out[i] = (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v);
  return NULL;
}
static quern_status* execute(void* self, quern_context* context, const quern_tensor* inputs, uint32_t n_inputs,
                             const quern_tensor* outputs, uint32_t n_outputs, void* workspace) {
  (void)self;
  if (n_inputs != 1 || n_outputs != 1) return fail(QUERN_INVALID_ARGUMENT, "one input, one output");
  if (((uintptr_t)workspace & 63) != 0) return fail(QUERN_INVALID_ARGUMENT, "the workspace is not aligned");
  if (inputs->dtype != QUERN_DTYPE_U8) return fail(QUERN_INVALID_ARGUMENT, "u8 only");
  if (inputs->layout != outputs->layout) return fail(QUERN_INVALID_ARGUMENT, "layouts differ");
  struct kernel* k = (struct kernel*)context;
  struct work w = {inputs->data, outputs->data, k->multiplier};
  return host->parallel_for(host->self, k->count, one, &w);
}
static void destroy_context(void* self, quern_context* context) {
  (void)self;
  ((struct kernel*)context)->contexts--;
}
static void destroy_kernel(void* self, quern_kernel* kernel) {
  (void)self;
  if (((struct kernel*)kernel)->contexts != 0) abort(); /* contexts go first */
  host->release(host->self, kernel);
}

static quern_target table;

#ifdef CHANGES_MXCSR
__attribute__((constructor)) static void change_mode(void) { _mm_setcsr(_mm_getcsr() | 0x8040); }
#endif

quern_status* quern_plugin_entry_v1(const quern_host* h, quern_plugin* out) {
  host = h;
#ifdef CHANGES_LOCALE
  setlocale(LC_ALL, "C.UTF-8");
#endif
#ifdef ENTRY_FAILS
  return fail(QUERN_UNAVAILABLE, "the driver is not installed");
#endif
#ifdef ENTRY_OVERFLOWS
  memset((char*)out + sizeof *out, 0, 16);
#endif
  table.h.struct_size = TABLE_SIZE;
  table.h.major = TABLE_MAJOR;
  table.describe = describe;
  table.available = available;
  table.supports = supports;
  table.derive = derive;
  table.compile = compile;
  table.kernel_info = kernel_info;
  table.create_context = create_context;
#ifndef NO_EXECUTE
  table.execute = execute;
#else
  (void)execute;
#endif
  table.destroy_context = destroy_context;
  table.destroy_kernel = destroy_kernel;
  out->h.struct_size = sizeof *out;
  out->h.major = QUERN_ABI_MAJOR;
  out->h.minor = QUERN_ABI_MINOR;
  out->kind = QUERN_KIND_TARGET;
  out->target = &table;
  return NULL;
}
