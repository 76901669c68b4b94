// Everything that is native, as one library with a C interface; `library.py` loads it.

#include "attention_tasks.h"
#include "elementwise.h"
#include "linear.h"
#include "terms.h"

extern "C" void apply_terms_float32(const SiteTable* site, const RunList* runs, const float* x,
                                    float* y, float* hidden, int num_threads) {
  apply(*site, *runs, x, y, hidden, num_threads);
}

extern "C" void apply_terms_bfloat16(const SiteTable* site, const RunList* runs, const bfloat16* x,
                                     bfloat16* y, float* hidden, int num_threads) {
  apply(*site, *runs, x, y, hidden, num_threads);
}

extern "C" void attention_float32(const AttentionCall* call) { write_and_attend<float>(*call); }

extern "C" void attention_bfloat16(const AttentionCall* call) { write_and_attend<bfloat16>(*call); }

extern "C" void linear_float32(const Weight* weight, const SiteTable* site, const RunList* runs,
                               float* hidden, const float* x, float* y, int64_t num_rows,
                               int num_threads) {
  linear(*weight, site, runs, hidden, x, y, num_rows, num_threads);
}

extern "C" void linear_bfloat16(const Weight* weight, const SiteTable* site, const RunList* runs,
                                float* hidden, const bfloat16* x, bfloat16* y, int64_t num_rows,
                                int num_threads) {
  linear(*weight, site, runs, hidden, x, y, num_rows, num_threads);
}

extern "C" void rms_norm_float32(const Norm* norm, const float* x, float* out, int64_t rows) {
  rms_norm(*norm, x, out, rows);
}

extern "C" void rms_norm_bfloat16(const Norm* norm, const bfloat16* x, bfloat16* out,
                                  int64_t rows) {
  rms_norm(*norm, x, out, rows);
}

extern "C" void gated_float32(const float* gate, const float* up, float* out, int64_t rows,
                              int64_t size, int64_t stride, int num_threads) {
  gated(gate, up, out, rows, size, stride, num_threads);
}

extern "C" void gated_bfloat16(const bfloat16* gate, const bfloat16* up, bfloat16* out,
                               int64_t rows, int64_t size, int64_t stride, int num_threads) {
  gated(gate, up, out, rows, size, stride, num_threads);
}

extern "C" void rotate_float32(const Rotation* call) { rotate_heads<float>(*call); }

extern "C" void rotate_bfloat16(const Rotation* call) { rotate_heads<bfloat16>(*call); }
