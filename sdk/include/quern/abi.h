/* Quern plugin ABI, version 1.2. C11, no includes beyond stdint and stddef. The whole boundary between host and plugin.
 *
 * Rules of the boundary
 * - A plugin exports ONE symbol, quern_plugin_entry_v1. A new major version is a new symbol.
 * - Every struct begins with quern_header. Members are only ever appended; whoever reads a struct of the other side first
 *   asks QUERN_HAS(ptr, member). Members are `unstable` until the four built-in targets stand on them (see abi.lock).
 * - Functions that can fail return quern_status*: NULL is success; otherwise made by host->make_status, handed on by being
 *   returned, and released by the host (a plugin that swallows one calls host->release_status).
 * - No exception, no longjmp, no exit() crosses. No C++ type crosses. Strings are UTF-8 with a length, valid as said at each
 *   place: "call" = until the function returns, "plugin" = for ever, "object" = until the named object is destroyed.
 * - Tensors are owned by the host. Objects are destroyed by the side that made them, through the same table.
 * - A plugin writes nothing to stdout or stderr, changes neither locale, rounding mode, MXCSR, signals nor environment, and
 *   starts no threads of its own in the entry function; it logs and runs parallel work through the host.
 * - Threads: unless said otherwise a function may be called from any thread, several at once, on different objects;
 *   execute is called by one thread at a time per context. "pure" functions depend on their arguments alone, need no device,
 *   and may be called from several threads on the same arguments.
 * - 64-bit little-endian hosts only (LP64).
 */
#ifndef QUERN_ABI_H
#define QUERN_ABI_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define QUERN_ABI_MAJOR 1
#define QUERN_ABI_MINOR 2

typedef struct quern_header {
  uint32_t struct_size; /* bytes the writer of the struct knows */
  uint16_t major, minor;
} quern_header;

/* Is `member` inside the struct as its writer knew it? (Function pointers may still be NULL.) */
#define QUERN_HAS(ptr, member) \
  ((ptr) != NULL && (size_t)(ptr)->h.struct_size >= \
   (size_t)((const char*)&(ptr)->member - (const char*)(ptr)) + sizeof((ptr)->member))

typedef struct quern_status quern_status;   /* host: NULL = ok */
typedef struct quern_kernel quern_kernel;   /* plugin: compiled unit, shared by threads */
typedef struct quern_context quern_context; /* plugin: state of one thread for one kernel */

typedef struct quern_str { const char* data; uint64_t size; } quern_str;

/* Status codes: the canonical ones, with fixed numbers. */
#define QUERN_CANCELLED 1
#define QUERN_UNKNOWN 2
#define QUERN_INVALID_ARGUMENT 3
#define QUERN_NOT_FOUND 5
#define QUERN_RESOURCE_EXHAUSTED 8
#define QUERN_FAILED_PRECONDITION 9
#define QUERN_OUT_OF_RANGE 11
#define QUERN_UNIMPLEMENTED 12
#define QUERN_INTERNAL 13
#define QUERN_UNAVAILABLE 14

/* Element types: the numbers of ONNX's TensorProto.DataType. */
#define QUERN_DTYPE_F32 1
#define QUERN_DTYPE_U8 2
#define QUERN_DTYPE_S8 3
#define QUERN_DTYPE_U16 4
#define QUERN_DTYPE_S16 5
#define QUERN_DTYPE_S32 6
#define QUERN_DTYPE_S64 7
#define QUERN_DTYPE_BOOL 9
#define QUERN_DTYPE_F16 10
#define QUERN_DTYPE_F64 11
#define QUERN_DTYPE_U32 12
#define QUERN_DTYPE_U64 13

/* Layouts of activations. Dims are always in ONNX's order (N, C, spatial); strides say how elements lie. */
#define QUERN_LAYOUT_ROW_MAJOR 0
#define QUERN_LAYOUT_CHANNELS_LAST 1
#define QUERN_LAYOUT_ANY 2 /* as a wish: go by strides, all operands of one rank alike */

/* A tensor in memory. `data` is aligned to 64 bytes; after the last element of a tensor given to execute at least 64 more
 * bytes may be read. */
typedef struct quern_tensor {
  quern_header h;
  void* data;
  uint64_t bytes;
  uint32_t dtype, rank;
  const int64_t* dims;    /* call */
  const int64_t* strides; /* call; in elements; all 0 while a dim is unknown (-1) */
  uint32_t layout, flags; /* flags: none yet */
} quern_tensor;

/* Quantization of a tensor: real = (q - zero_point) * scale. Lifetime: that of the struct holding it. */
typedef struct quern_quant {
  quern_header h;
  uint32_t bits, is_signed;
  int64_t qmin, qmax;
  int32_t axis;           /* -1: per tensor */
  uint32_t count;         /* number of scales and zero points */
  const float* scale;
  const int64_t* zero_point;
} quern_quant;

#define QUERN_ATTR_INT 1
#define QUERN_ATTR_FLOAT 2
#define QUERN_ATTR_STRING 3
#define QUERN_ATTR_INTS 4
#define QUERN_ATTR_FLOATS 5
#define QUERN_ATTR_TENSOR 6
typedef struct quern_attr {
  quern_header h;
  quern_str name;
  uint32_t kind, count;   /* count: of ints or floats */
  int64_t i;
  float f;
  uint32_t reserved;
  quern_str s;
  const int64_t* ints;
  const float* floats;
  const quern_tensor* tensor;
} quern_attr;

/* One operator of a unit. Attributes are normalised: those with a default are always present (strides, dilations, group,
 * kernel_shape, pads resolved where the input size is known; auto_pad is then NOTSET). */
#define QUERN_ABSENT_INPUT INT32_MIN
typedef struct quern_node {
  quern_header h;
  quern_str name, domain, op;
  int32_t since_version;
  uint32_t n_attrs, n_inputs, reserved;
  const quern_attr* const* attrs;
  const int32_t* inputs;  /* >= 0: operand of the unit; -1 - m: output of member m; QUERN_ABSENT_INPUT */
} quern_node;

/* What flows into or out of a unit. tensor.data is set for constants (weights, bias: in integers, row major). */
typedef struct quern_operand {
  quern_header h;
  quern_str role;         /* input, weight, bias, residual, a, b, in0.., output; empty: attribute-like */
  quern_str value;        /* name of the tensor */
  quern_tensor tensor;    /* dims -1 where unknown (describe, derive); complete in compile */
  const quern_quant* quant; /* NULL: float or index */
} quern_operand;

/* A derived table: integers and floats that the contract's stages name. */
typedef struct quern_table {
  quern_header h;
  quern_str name;
  quern_tensor tensor;
} quern_table;

/* A unit: an operator with its fused members, under one contract. Lifetime: call, unless said otherwise. */
typedef struct quern_op {
  quern_header h;
  quern_str name, contract, config;
  uint32_t n_nodes, n_inputs, n_outputs, n_tables;
  const quern_node* const* nodes;
  const quern_operand* const* inputs;
  const quern_operand* const* outputs;
  const quern_table* const* tables; /* in compile: what derive gave */
} quern_op;

/* Sinks of the host, for results of unknown size. Called during the call they are passed to. */
typedef struct quern_text_sink {
  quern_header h;
  void* self;
  void (*write)(void* self, quern_str text); /* appends */
} quern_text_sink;
typedef struct quern_table_sink {
  quern_header h;
  void* self;
  quern_status* (*emit)(void* self, quern_str name, uint32_t dtype, uint32_t rank, const int64_t* dims, const void* data); /* copies */
} quern_table_sink;
typedef struct quern_blob_sink {
  quern_header h;
  void* self;
  quern_status* (*write)(void* self, const void* data, uint64_t size);
} quern_blob_sink;

/* ---- the host's table ------------------------------------------------------------------------------------------ */
#define QUERN_LOG_ERROR 0
#define QUERN_LOG_WARNING 1
#define QUERN_LOG_INFO 2
#define QUERN_LOG_DEBUG 3
typedef struct quern_host {
  quern_header h;
  void* self;
  quern_status* (*make_status)(void* self, int32_t code, quern_str message);
  void (*log)(void* self, int32_t level, quern_str message);
  void* (*alloc)(void* self, uint64_t size, uint64_t align); /* NULL when out of memory */
  void (*release)(void* self, void* memory);
  int32_t (*cancelled)(void* self);                          /* not 0: return QUERN_CANCELLED soon */
  /* body(arg, index) for index 0..count-1 on the host's threads; returns the first error. In a context with one thread it
   * runs in the caller. */
  quern_status* (*parallel_for)(void* self, int64_t count, quern_status* (*body)(void* arg, int64_t index), void* arg);
  uint64_t (*random)(void* self, quern_str stream, uint64_t index); /* pure: seed, stream and index give the number */
  const void* (*extension)(void* self, quern_str name);             /* NULL: unknown */
  /* For a plugin that handles a failure itself instead of returning it. A status that is not returned is released. */
  int32_t (*status_code)(void* self, const quern_status* status);
  quern_str (*status_message)(void* self, const quern_status* status); /* object: the status */
  void (*release_status)(void* self, quern_status* status);
} quern_host;

/* ---- a target ---------------------------------------------------------------------------------------------------- */
typedef struct quern_kernel_info {
  quern_header h;
  uint64_t workspace_bytes;        /* handed to execute, aligned to 64 */
  uint32_t n_inputs, output_layout;
  uint32_t input_layouts[16];      /* by non-constant operand, in order; further ones have the layout of the last */
  quern_str kernel_name;           /* object: the kernel */
} quern_kernel_info;

typedef struct quern_cost { quern_header h; double cycles, bytes; } quern_cost;

typedef struct quern_target {
  quern_header h;
  void* self;
  /* Rules as JSON (quern.rules/1), all profiles. Pure, the same text on every call. Lifetime: plugin. */
  quern_status* (*describe)(void* self, quern_str* rules_json);
  /* Can this machine execute `profile`? *yes = 0 with a reason ("no AVX512-VNNI"). Quantizing works all the same. */
  quern_status* (*available)(void* self, quern_str profile, int32_t* yes, const quern_text_sink* reason);
  /* Beyond what rules can say. Pure. NULL pointer: everything that matches the rules is supported. */
  quern_status* (*supports)(void* self, quern_str profile, const quern_op* op, int32_t* yes, const quern_text_sink* reason);
  /* From scales and constants to the integers of the contract. Pure, cheap, needs no device. */
  quern_status* (*derive)(void* self, quern_str profile, const quern_op* op, const quern_table_sink* tables);
  /* Prepares a kernel for complete shapes and `threads` threads. Everything needed is copied out of op. */
  quern_status* (*compile)(void* self, quern_str profile, const quern_op* op, uint32_t threads, quern_kernel** kernel);
  quern_status* (*kernel_info)(void* self, quern_kernel* kernel, quern_kernel_info* info);
  quern_status* (*create_context)(void* self, quern_kernel* kernel, quern_context** context);
  /* Inputs: non-constant operands in order. Strides follow the layouts of kernel_info. */
  quern_status* (*execute)(void* self, quern_context* context, const quern_tensor* inputs, uint32_t n_inputs,
                           const quern_tensor* outputs, uint32_t n_outputs, void* workspace);
  void (*destroy_context)(void* self, quern_context* context);
  void (*destroy_kernel)(void* self, quern_kernel* kernel);
  /* Optional (may be NULL). */
  quern_status* (*cost)(void* self, quern_str profile, const quern_op* op, quern_cost* cost); /* pure */
  quern_status* (*saturations)(void* self, quern_context* context, uint64_t* count);          /* of the last execute */
  quern_status* (*save_kernel)(void* self, quern_kernel* kernel, const quern_blob_sink* blob);
  quern_status* (*load_kernel)(void* self, const void* blob, uint64_t size, quern_kernel** kernel);
  const void* (*extension)(void* self, quern_str name); /* device buffers, async, state tensors: by name */
  void (*shutdown)(void* self);
} quern_target;

/* ---- algorithms --------------------------------------------------------------------------------------------------- */
/* Statistics, as core/statistics makes them. */
#define QUERN_STAT_MIN_MAX 0
#define QUERN_STAT_HISTOGRAM 1
#define QUERN_STAT_MEAN 2
#define QUERN_STAT_SAMPLE_MIN 3
#define QUERN_STAT_SAMPLE_MAX 4
#define QUERN_STAT_SAMPLE_ABS_MAX 5
#define QUERN_STAT_SAMPLE_QUANTILE 6
#define QUERN_STAT_SAMPLE_ABS_QUANTILE 7
typedef struct quern_stat_request {
  quern_header h;
  uint32_t kind;
  int32_t axis;       /* channel axis kept, -1: per tensor */
  double quantile;    /* of the quantile kinds */
} quern_stat_request;

/* Result of one request. Arrays live for the call. */
typedef struct quern_statistic {
  quern_header h;
  quern_stat_request request;
  uint64_t channels, samples, count;
  const double* low;        /* min_max: [channels] */
  const double* high;
  const double* mean;       /* mean: [channels] */
  const float* rows;        /* sample_*: [samples][channels], sorted by sample id */
  const int64_t* negative;  /* histogram: 2,048 bins of |x| on [0, 2^exponent), negative side */
  const int64_t* positive;
  int64_t zeros;
  int32_t exponent;
  uint32_t reserved;
} quern_statistic;
typedef struct quern_request_sink {
  quern_header h;
  void* self;
  quern_status* (*request)(void* self, const quern_stat_request* request);
} quern_request_sink;

/* The quantizer a range is wanted for. */
typedef struct quern_quantizer_view {
  quern_header h;
  quern_str value, type;
  uint32_t is_weight, symmetric, bits, is_signed, narrow;
  int32_t axis;             /* channel axis of the tensor, -1: per tensor */
  uint64_t channels;
  int64_t qmin, qmax;
  const quern_tensor* weight; /* f32 row major, for weights; NULL for activations */
} quern_quantizer_view;

/* A range estimator: statistic -> range. Pure; called in any order. */
typedef struct quern_range_estimator {
  quern_header h;
  void* self;
  quern_str name;          /* plugin: as the configuration writes it, "min_max" */
  quern_str parameters;    /* plugin: JSON Schema of the parameters object */
  quern_status* (*requires_statistics)(void* self, quern_str parameters_json, const quern_quantizer_view* quantizer,
                                       const quern_request_sink* sink);
  /* low, high: [channels] (1 per tensor). Statistics in the order requested. The host turns them into scale and zero point. */
  quern_status* (*estimate)(void* self, quern_str parameters_json, const quern_quantizer_view* quantizer,
                            const quern_statistic* const* statistics, uint32_t n_statistics, double* low, double* high);
} quern_range_estimator;

/* The graph as a stage sees it. Nodes are indices 0..node_count-1 in topological order, stable during the stage. All pointers
 * live until the next call that changes something. Changes go through begin / commit / rollback; outside of a transaction a
 * change is refused. */
typedef struct quern_node_view {
  quern_header h;
  quern_str name, op;
  uint32_t n_attrs, n_inputs, n_outputs, reserved;
  const quern_attr* const* attrs;
  const int32_t* inputs;     /* value indices, -1 absent */
  const int32_t* outputs;
} quern_node_view;
typedef struct quern_value_view {
  quern_header h;
  quern_str name;
  int32_t producer;          /* node index, -1: input or constant */
  uint32_t is_constant, dtype, rank;
  const int64_t* dims;
  uint32_t n_consumers;
  uint32_t is_output;        /* the model gives it to its user */
  const int32_t* consumers;  /* node indices */
} quern_value_view;
typedef struct quern_graph {
  quern_header h;
  void* self;
  uint32_t (*node_count)(void* self);
  quern_status* (*node)(void* self, uint32_t index, quern_node_view* out);
  quern_status* (*value)(void* self, uint32_t index, quern_value_view* out);
  /* Role of an operand by the host's naming ("weight", "bias"): slot of a node -> role text, or slot of a role (-1: none). */
  int32_t (*slot_of_role)(void* self, uint32_t node, quern_str role);
  quern_status* (*read_constant)(void* self, uint32_t value, quern_tensor* out);   /* f32 row major */
  /* Is the operand quantized? bits, scale, ...; *found = 0 when it flows in float. */
  quern_status* (*quantizer_of)(void* self, uint32_t node, uint32_t slot, quern_quant* out, int32_t* found);
  /* Statistics that were requested in plan(). */
  quern_status* (*statistic)(void* self, uint32_t value, const quern_stat_request* request, quern_statistic* out);
  /* Runs one node (with its own attributes and constants) in float on given inputs. weights: 0 as they are, 1 fake-quantized.
   * `data` of inputs: f32 row major by slot; NULL data: the node's constant. out: host memory, valid until the next call. */
  quern_status* (*run_node)(void* self, uint32_t node, const quern_tensor* inputs, uint32_t n_inputs, uint32_t quantized_weights,
                            quern_tensor* out);
  /* Mean over calibration samples and positions of (estimated - float)^2 and of the difference itself, per channel of the
   * node's biased output, with everything quantized as it stands now, on `samples` samples. */
  quern_status* (*measure)(void* self, uint32_t node, uint32_t samples, double* mean_square_error, double* mean_difference,
                           uint64_t channels);
  quern_status* (*begin)(void* self);
  quern_status* (*set_constant)(void* self, uint32_t value, const quern_tensor* f32);
  quern_status* (*commit)(void* self);
  quern_status* (*rollback)(void* self);
  /* A line for the report: what was done to which node and why. */
  quern_status* (*report)(void* self, quern_str node, quern_str action, quern_str reason, double before, double after);
  /* Since 1.2. How many calibration samples there are. */
  uint32_t (*sample_count)(void* self);
  /* What flows into input `slot` of a node (slot >= 0) or out of its output -1 - slot, for the `sample`-th of `samples` samples spread
   * evenly over the calibration data (the ones of measure). estimated 0: in the float network as it was before the stage; 1: with
   * everything quantized as it stands now, an input behind its quantizer. f32 row major; out: host memory, until the next call. */
  quern_status* (*sample_value)(void* self, uint32_t node, int32_t slot, uint32_t samples, uint32_t sample, uint32_t estimated,
                                quern_tensor* out);
  /* Of each of the model's outputs (n_outputs of them): mean over the samples and positions of its float value squared, and of
   * (estimated - float)^2. NaN where an output is no f32 tensor of the same shape in both. */
  quern_status* (*measure_outputs)(void* self, uint32_t samples, double* signal, double* noise, uint64_t n_outputs);
} quern_graph;
typedef struct quern_stat_plan {
  quern_header h;
  void* self;
  quern_status* (*request)(void* self, uint32_t value, const quern_stat_request* request);
} quern_stat_plan;

/* A graph stage: equalization, bias correction, rounding, search. */
#define QUERN_STAGE_BEFORE_RANGES 1 /* changes weights before statistics are taken for ranges */
#define QUERN_STAGE_AFTER_RANGES 2
typedef struct quern_graph_stage {
  quern_header h;
  void* self;
  quern_str name;           /* plugin */
  quern_str parameters;     /* plugin: JSON Schema */
  uint32_t when, reserved;
  quern_str reads, changes; /* plugin: comma separated: weights, bias, ranges, statistics */
  quern_status* (*plan)(void* self, quern_str parameters_json, const quern_graph* graph, const quern_stat_plan* statistics);
  quern_status* (*run)(void* self, quern_str parameters_json, const quern_graph* graph);
} quern_graph_stage;

/* ---- data readers and metrics (since 1.1) ------------------------------------------------------------------------- */
typedef struct quern_reader quern_reader; /* plugin: opened data */
typedef struct quern_meter quern_meter;   /* plugin: a metric on its way through the samples */

/* Supplies samples: `data: {calibration: {reader: NAME, ...parameters}}`. The host limits the number of samples, checks types and
 * shapes against the model, and preprocesses. */
typedef struct quern_data_reader {
  quern_header h;
  void* self;
  quern_str name;          /* plugin: as the configuration writes it; not npz, npy or raw */
  quern_str parameters;    /* plugin: JSON Schema of the section without reader, samples and preprocess */
  /* folder: what relative paths in the parameters are relative to. inputs: the model's, name, type and dims (-1: any), no data. */
  quern_status* (*open)(void* self, quern_str parameters_json, quern_str folder, const quern_table* const* inputs, uint32_t n_inputs,
                        quern_reader** reader);
  quern_status* (*size)(void* self, quern_reader* reader, int64_t* samples);
  /* One tensor for each input of the model, under its name, with or without its batch axis. index: 0..size-1, in any order, from
   * several threads at once; the same index gives the same sample (the host reads each once more for the digest of the data). */
  quern_status* (*sample)(void* self, quern_reader* reader, int64_t index, const quern_table_sink* tensors);
  /* Optional (NULL: no labels). Emits one tensor, or none. As sample otherwise. */
  quern_status* (*label)(void* self, quern_reader* reader, int64_t index, const quern_table_sink* label);
  void (*close)(void* self, quern_reader* reader);
} quern_data_reader;

#define QUERN_METRIC_NEEDS_LABELS 1
#define QUERN_METRIC_NEEDS_FLOAT 2 /* the outputs of the float network too */
/* Judges outputs: `metric: NAME` or `metric: {type: NAME, ...parameters}`. */
typedef struct quern_metric {
  quern_header h;
  void* self;
  quern_str name;          /* plugin */
  quern_str parameters;    /* plugin: JSON Schema of the mapping without type */
  uint32_t higher_is_better, needs; /* QUERN_METRIC_NEEDS_* */
  quern_status* (*create)(void* self, quern_str parameters_json, quern_meter** meter);
  /* In the order of the samples, one at a time. outputs: the model's, by name, row major. label: NULL unless needed. float_outputs:
   * the same outputs of the float network, n_outputs of them in the same order; NULL unless needed. */
  quern_status* (*update)(void* self, quern_meter* meter, int64_t sample, const quern_table* const* outputs, uint32_t n_outputs,
                          const quern_tensor* label, const quern_table* const* float_outputs);
  /* The metric over what it has seen; a failure when that says nothing. */
  quern_status* (*result)(void* self, quern_meter* meter, double* value);
  void (*destroy)(void* self, quern_meter* meter);
  /* Optional (NULL: a sample has no value of its own). The value of the sample of the last update, so that two networks can be
   * compared sample by sample; NaN where it has none. */
  quern_status* (*sample_value)(void* self, quern_meter* meter, double* value);
} quern_metric;

/* ---- the entry -------------------------------------------------------------------------------------------------- */
#define QUERN_KIND_TARGET 1
#define QUERN_KIND_ALGORITHM 2
typedef struct quern_plugin {
  quern_header h;            /* filled by the plugin with what it was built with */
  uint32_t kind, reserved;
  const quern_target* target;                          /* kind target */
  const quern_range_estimator* const* range_estimators; /* kind algorithm */
  const quern_graph_stage* const* graph_stages;
  uint32_t n_range_estimators, n_graph_stages;
  const quern_data_reader* const* data_readers;          /* since 1.1 */
  const quern_metric* const* metrics;
  uint32_t n_data_readers, n_metrics;
} quern_plugin;

/* The host sets out->h to what it knows before the call; the plugin must not write beyond out->h.struct_size. Called once. */
#if defined(__GNUC__)
#define QUERN_EXPORT __attribute__((visibility("default")))
#else
#define QUERN_EXPORT
#endif
QUERN_EXPORT quern_status* quern_plugin_entry_v1(const quern_host* host, quern_plugin* out);

#ifdef __cplusplus
}
#endif
#endif /* QUERN_ABI_H */
